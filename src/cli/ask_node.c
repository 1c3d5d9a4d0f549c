#include "cli/ask_node.h"

#include "gateway/upstream_net.h"

struct asking {
    struct upstream_request request; /* first */
    struct loop *loop;
    enum upstream_outcome outcome;
    struct buf *reply;
};

static void on_answer(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                      struct slice reply) {
    struct asking *a = (struct asking *)req;
    (void)index;
    a->outcome = outcome;
    buf_append_slice(a->reply, reply);
    loop_stop(a->loop);
}

enum upstream_outcome ask_node(const char *peer_address, struct tls_peer *tls,
                               struct buf *packed_argv, uint32_t timeout_ms,
                               struct buf *ret_reply) {
    struct asking a = {.reply = ret_reply};
    struct upstream_net_options options = {.upstream = {.seeds = &peer_address, .seed_count = 1},
                                           .tls = tls};
    CHECK(loop_new(&a.loop) == 0);
    struct upstream_net *net = upstream_net_new(a.loop, &options);
    a.request = (struct upstream_request){.kind = UPSTREAM_ADMIN,
                                          .timeout_ms = timeout_ms,
                                          .packed_argv = *packed_argv,
                                          .done = on_answer};
    *packed_argv = (struct buf){0};
    upstream_submit(upstream_net_upstream(net), &a.request);
    loop_run(a.loop);
    upstream_net_free(net);
    loop_drain(a.loop);
    loop_free(a.loop);
    return a.outcome;
}
