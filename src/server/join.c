#include "server/join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reply.h"
#include "gateway/upstream_net.h"

enum { JOIN_LIMIT_MS = 60000, JOIN_PAUSE_MS = 500 };

struct join_attempt {
    struct upstream_request request; /* first */
    struct loop *loop;
    struct upstream_net *net;
    struct timer *timer;
    const char *peer_address;
    struct identity *id;
    uint64_t give_up_ms;
    bool joined, told;
    char reason[256];
};

const char **split_list(const char *list, size_t *ret_count) {
    size_t size = strlen(list), count = 0;
    const char **parts = xmalloc((size + 2) * sizeof *parts + size + 1);
    char *text = (char *)(parts + size + 2);
    memcpy(text, list, size + 1);
    *ret_count = 0;
    for (char *at = text; at;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma++ = 0;
        if (*at == 0)
            return parts;
        parts[count++] = at;
        at = comma;
    }
    *ret_count = count;
    return parts;
}

static bool take_answer(struct join_attempt *j, struct slice reply) {
    struct reply_item item, key, value;
    bool id = false, cluster = false;
    if (!reply_next(&reply, &item))
        return false;
    if (item.type == '-')
        snprintf(j->reason, sizeof j->reason, "%.*s", (int)item.bytes.size,
                 (const char *)item.bytes.data);
    if (item.type != '%')
        return false;
    for (int64_t i = 0; i < item.integer; i++) {
        if (!reply_next(&reply, &key) || !reply_next(&reply, &value))
            return false;
        if (slice_equal_str(key.bytes, "id") && value.type == ':' && value.integer > 0) {
            j->id->node_id = (uint64_t)value.integer;
            id = true;
        } else if (slice_equal_str(key.bytes, "cluster") && value.bytes.size == 16) {
            memcpy(j->id->cluster_id, value.bytes.data, 16);
            cluster = true;
        }
    }
    return id && cluster;
}

static void join_done(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                      struct slice reply) {
    struct join_attempt *j = (struct join_attempt *)req;
    j->joined = take_answer(j, reply) && outcome == UPSTREAM_DONE;
    if (j->joined || loop_now_ms(j->loop) >= j->give_up_ms) {
        loop_stop(j->loop);
        return;
    }
    if (!j->told)
        fprintf(stderr, "cotidal: not joined yet (%s); asking again\n", j->reason);
    j->told = true;
    timer_set(j->timer, loop_now_ms(j->loop) + JOIN_PAUSE_MS);
}

static void join_ask(void *ctx) {
    struct join_attempt *j = ctx;
    j->request =
        (struct upstream_request){.kind = UPSTREAM_ADMIN, .done = join_done, .timeout_ms = 12000};
    argv_append_strs(&j->request.packed_argv, "NODE.JOIN", j->peer_address, NULL);
    upstream_submit(upstream_net_upstream(j->net), &j->request);
}

bool join_cluster(const char *nodes, const char *peer_address, struct tls_peer *tls,
                  struct identity *ret_id) {
    struct join_attempt j = {.peer_address = peer_address, .id = ret_id, .reason = "no answer"};
    struct upstream_net_options options = {.tls = tls};
    const char **seeds = split_list(nodes, &options.upstream.seed_count);
    options.upstream.seeds = seeds;
    CHECK(loop_new(&j.loop) == 0);
    j.net = upstream_net_new(j.loop, &options);
    j.timer = timer_new(j.loop, join_ask, &j);
    j.give_up_ms = loop_now_ms(j.loop) + JOIN_LIMIT_MS;
    *ret_id = (struct identity){0};
    join_ask(&j);
    loop_run(j.loop);
    upstream_net_free(j.net);
    timer_free(j.timer);
    loop_drain(j.loop);
    loop_free(j.loop);
    free(seeds);
    if (!j.joined)
        fprintf(stderr,
                "cotidal: could not join %s: %s\n"
                "cotidal: check that a node listens there (--peer), that a majority of its voters "
                "is up, and that --peer-cert is set for both or for neither\n",
                nodes, j.reason);
    return j.joined;
}
