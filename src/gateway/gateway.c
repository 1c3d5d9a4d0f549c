#include "gateway/gateway.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>

#include "gateway/access.h"
#include "gateway/client_limits.h"
#include "gateway/conn.h"
#include "gateway/http_conn.h"
#include "gateway/parked.h"
#include "gateway/redis_conn.h"
#include "gateway/site_cache.h"
#include "gateway/site_load.h"
#include "gateway/site_serve.h"
#include "gateway/sites.h"
#include "gateway/watch_hub.h"

/* ---- shared ------------------------------------------------------------------------------------
 */

struct gateway_shared {
    pthread_mutex_t mutex;
    struct list gateways; /* of struct gateway.shared_node */
    struct list clients;  /* of struct client_entry.node */
    uint64_t next_client_id;
    struct sites *sites;
    uint32_t connection_count; /* atomic: clients, and those that may become ones */
    char *settings[GATEWAY_SETTINGS_MAX];
    size_t setting_sizes[GATEWAY_SETTINGS_MAX];
    char run_id[41];
};

struct gateway_shared *gateway_shared_new(void) {
    struct gateway_shared *s = xcalloc(1, sizeof *s);
    CHECK(pthread_mutex_init(&s->mutex, NULL) == 0);
    list_init(&s->gateways);
    list_init(&s->clients);
    s->next_client_id = 1;
    s->sites = sites_new();
    uint8_t random[20] = {0};
    /* Only a name: it need not be secret, so a short read is no reason to stop. */
    ssize_t got = getrandom(random, sizeof random, 0);
    (void)got;
    for (size_t i = 0; i < sizeof random; i++) {
        static const char hex[] = "0123456789abcdef";
        s->run_id[2 * i] = hex[random[i] >> 4];
        s->run_id[2 * i + 1] = hex[random[i] & 15];
    }
    return s;
}

void gateway_shared_free(struct gateway_shared *s) {
    CHECK(list_empty(&s->gateways));
    struct site_cache *cache = s->sites->cache;
    sites_free(s->sites);
    site_cache_free(cache);
    for (size_t i = 0; i < GATEWAY_SETTINGS_MAX; i++)
        free(s->settings[i]);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

void gateway_shared_sites(struct gateway_shared *s, struct site_cache *cache, uint64_t memory_max) {
    s->sites->cache = cache;
    s->sites->budget.bytes_max = memory_max;
}

void gateway_wake_others(struct gateway *gw) {
    pthread_mutex_lock(&gw->shared->mutex);
    LIST_FOREACH (it, &gw->shared->gateways) {
        struct gateway *other = LIST_ENTRY(it, struct gateway, shared_node);
        if (other != gw && other->wake)
            other->wake(other->wake_ctx);
    }
    pthread_mutex_unlock(&gw->shared->mutex);
}

void gateway_unwake(struct gateway *gw) {
    pthread_mutex_lock(&gw->shared->mutex);
    gw->wake = NULL;
    pthread_mutex_unlock(&gw->shared->mutex);
}

void client_register(struct gateway_shared *s, struct client_entry *e) {
    pthread_mutex_lock(&s->mutex);
    e->id = s->next_client_id++;
    list_push_back(&s->clients, &e->node);
    pthread_mutex_unlock(&s->mutex);
}

void client_unregister(struct gateway_shared *s, struct client_entry *e) {
    pthread_mutex_lock(&s->mutex);
    list_remove(&e->node);
    pthread_mutex_unlock(&s->mutex);
}

void client_set_text(struct gateway_shared *s, char *text, struct slice value) {
    size_t size = value.size < CLIENT_TEXT_BYTES_MAX ? value.size : CLIENT_TEXT_BYTES_MAX - 1;
    pthread_mutex_lock(&s->mutex);
    if (size > 0)
        memcpy(text, value.data, size);
    text[size] = 0;
    pthread_mutex_unlock(&s->mutex);
}

void client_each(struct gateway_shared *s, void (*fn)(void *ctx, const struct client_entry *e),
                 void *ctx) {
    pthread_mutex_lock(&s->mutex);
    LIST_FOREACH (it, &s->clients) {
        fn(ctx, LIST_ENTRY(it, struct client_entry, node));
    }
    pthread_mutex_unlock(&s->mutex);
}

void gateway_sum_metrics(struct gateway *gw, struct gateway_metrics *ret_sum) {
    struct gateway_metrics sum = {0};
    pthread_mutex_lock(&gw->shared->mutex);
    LIST_FOREACH (it, &gw->shared->gateways) {
        metrics_sum(&sum, &LIST_ENTRY(it, struct gateway, shared_node)->metrics);
    }
    pthread_mutex_unlock(&gw->shared->mutex);
    *ret_sum = sum;
}

const char *gateway_run_id(const struct gateway_shared *s) {
    return s->run_id;
}

bool gateway_config_get(struct gateway_shared *s, size_t setting, struct buf *out) {
    CHECK(setting < GATEWAY_SETTINGS_MAX);
    pthread_mutex_lock(&s->mutex);
    bool set = s->settings[setting] != NULL;
    if (set)
        buf_append(out, s->settings[setting], s->setting_sizes[setting]);
    pthread_mutex_unlock(&s->mutex);
    return set;
}

void gateway_config_set(struct gateway_shared *s, size_t setting, struct slice value) {
    CHECK(setting < GATEWAY_SETTINGS_MAX);
    char *copy = xmalloc(value.size + 1);
    if (value.size > 0)
        memcpy(copy, value.data, value.size);
    copy[value.size] = 0;
    pthread_mutex_lock(&s->mutex);
    char *old = s->settings[setting];
    s->settings[setting] = copy;
    s->setting_sizes[setting] = value.size;
    pthread_mutex_unlock(&s->mutex);
    free(old);
}

/* ---- one gateway -------------------------------------------------------------------------------
 */

static void options_fill(struct gateway_options *o) {
#define DEFAULT(field, value)                                                                      \
    if (o->field == 0)                                                                             \
    o->field = (value)
    DEFAULT(connections_max, 20000);
    DEFAULT(pipeline_requests_max, 1024);
    DEFAULT(pipeline_bytes_max, 8u << 20);
    DEFAULT(output_bytes_max, 1u << 20);
    DEFAULT(input_bytes_total_max, 1u << 30);
    DEFAULT(output_bytes_total_max, 1u << 30);
    DEFAULT(value_bytes_max, 64u << 20);
    DEFAULT(txn_bytes_max, 16u << 20);
    DEFAULT(http_idle_timeout_ms, 75000);
    DEFAULT(http_head_timeout_ms, 10000);
    DEFAULT(http_head_bytes_max, HTTP1_HEAD_BYTES_MAX);
    DEFAULT(http_body_timeout_ms, 30000);
    DEFAULT(write_stall_timeout_ms, 60000);
    DEFAULT(session_ttl_ms, (uint64_t)30 * 24 * 60 * 60 * 1000);
    DEFAULT(redis_port, 6379);
#undef DEFAULT
}

enum { REQUEST_BLOCKS_KEPT = 32 }; /* of 64 KiB: for some 4,000 requests */

struct gateway *gateway_new(const struct gateway_options *options, const struct gateway_env *env,
                            struct gateway_shared *shared, struct upstream *upstream) {
    struct gateway *gw = xcalloc(1, sizeof *gw);
    gw->options = *options;
    options_fill(&gw->options);
    gw->env = *env;
    gw->shared = shared;
    gw->upstream = upstream;
    struct list *lists[] = {&gw->conns,  &gw->idle,    &gw->resting, &gw->fresh,
                            &gw->parked, &gw->leaving, &gw->dirty,   &gw->dead};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++)
        list_init(lists[i]);
    pool_init(&gw->http_conns, http_conn_bytes());
    pool_init(&gw->parkeds, sizeof(struct parked));
    pool_init(&gw->store_requests, redis_store_request_bytes());
    gw->store_requests.kept_max = REQUEST_BLOCKS_KEPT;
    gw->started_ms = gateway_now_ms(gw);
    gw->sites = shared->sites;
    gw->site_waits = site_waits_new(gw);
    gw->watch = watch_hub_new(&(struct watch_hub_env){.upstream = upstream,
                                                      .now_ms = gw->env.now_ms,
                                                      .env = gw->env.env,
                                                      .metrics = &gw->metrics});
    if (gw->options.access)
        gw->access = access_new(gw, gw->options.access);
    pthread_mutex_lock(&shared->mutex);
    list_push_back(&shared->gateways, &gw->shared_node);
    pthread_mutex_unlock(&shared->mutex);
    (void)site_loader_new(gw);
    return gw;
}

static void free_list(struct list *conns) {
    struct list *first;
    while ((first = list_first(conns)) != NULL)
        conn_free(LIST_ENTRY(first, struct conn, node));
}

void gateway_free(struct gateway *gw) {
    free_list(&gw->conns);
    free_list(&gw->idle);
    free_list(&gw->resting);
    free_list(&gw->dead);
    parked_free_all(gw);
    CHECK(gw->conn_count == 0 && gw->busy_count == 0 && gw->warm_count == 0);
    site_loader_free(gw->site_loader);
    site_waits_free(gw->site_waits);
    if (gw->site_set)
        site_set_unref(gw->site_set);
    watch_hub_free(gw->watch);
    access_free(gw->access);
    pthread_mutex_lock(&gw->shared->mutex);
    list_remove(&gw->shared_node);
    pthread_mutex_unlock(&gw->shared->mutex);
    pool_fini(&gw->http_conns);
    pool_fini(&gw->parkeds);
    pool_fini(&gw->store_requests);
    buf_fini(&gw->scratch);
    buf_fini(&gw->access_line);
    free(gw);
}

void gateway_count_clients(struct gateway *gw, int more) {
    gw->conn_count += (uint32_t)more;
    gateway_count_handshakes(gw, more);
}

void gateway_count_handshakes(struct gateway *gw, int more) {
    __atomic_fetch_add(&gw->shared->connection_count, (uint32_t)more, __ATOMIC_RELAXED);
}

bool gateway_has_room(const struct gateway *gw) {
    return __atomic_load_n(&gw->shared->connection_count, __ATOMIC_RELAXED) <
           gw->options.connections_max;
}

enum admission { ADMITTED, NO_ROOM, TOO_MANY_OF_IT };

static enum admission admit(struct gateway *gw, const struct stream *s) {
    enum admission a =
        gw->draining || !gateway_has_room(gw) ? NO_ROOM
        : gw->options.limits && !client_limits_enter(gw->options.limits, stream_peer_ip(s))
            ? TOO_MANY_OF_IT
            : ADMITTED;
    if (a == ADMITTED)
        METRIC_ADD(&gw->metrics, connections_accepted_total, 1);
    else if (a == NO_ROOM)
        METRIC_ADD(&gw->metrics, connections_refused_total, 1);
    else
        METRIC_ADD(&gw->metrics, connections_limited_total, 1);
    return a;
}

void gateway_add_http(struct gateway *gw, struct stream *s) {
    struct buf answer = {0};
    switch (admit(gw, s)) {
    case ADMITTED:
        http_conn_new(gw, s);
        return;
    case NO_ROOM:
        http_put_bare_problem(&answer, 503, "the server has no room for one more connection",
                              gateway_wall_ms(gw), false);
        break;
    case TOO_MANY_OF_IT:
        http_put_bare_problem(&answer, 429, "there are too many connections from this address",
                              gateway_wall_ms(gw), false);
        break;
    }
    parked_refuse(gw, s, buf_slice(&answer));
    buf_fini(&answer);
}

void gateway_add_redis(struct gateway *gw, struct stream *s) {
    switch (admit(gw, s)) {
    case ADMITTED:
        redis_conn_new(gw, s);
        break;
    case NO_ROOM:
        parked_refuse(gw, s, slice_str("-ERR max number of clients reached\r\n"));
        break;
    case TOO_MANY_OF_IT:
        parked_refuse(gw, s, slice_str("-ERR too many connections from this address\r\n"));
        break;
    }
}

void gateway_turn_end(struct gateway *gw) {
    if (gw->site_loader)
        site_loader_turn(gw->site_loader);
    site_waits_turn(gw->site_waits);
    struct list now;
    list_init(&now);
    list_splice(&now, &gw->dirty);
    struct list *first;
    while ((first = list_first(&now)) != NULL) {
        list_remove(first);
        conn_turn_end(LIST_ENTRY(first, struct conn, dirty_node));
    }
    free_list(&gw->dead);
    upstream_flush(gw->upstream);
}

void gateway_client_left(struct gateway *gw, const struct stream *s) {
    if (gw->options.limits)
        client_limits_leave(gw->options.limits, stream_peer_ip(s));
}

/* ---- time --------------------------------------------------------------------------------------
 */

enum { SWEEP_IDLE_MIN = 256 }; /* idle connections looked at in one part of a sweep, at the least */

bool gateway_has_grace(const struct gateway *gw, const struct conn *c) {
    /* It may have been active since. */
    return c->ops->revive && !gw->grace_over && c->active_ms + GATEWAY_GRACE_MS > gw->draining_ms;
}

static void mark_all(struct list *conns) {
    LIST_FOREACH_SAFE (it, conns) {
        conn_mark_dirty(LIST_ENTRY(it, struct conn, node));
    }
}

static void drain_idle(struct gateway *gw) {
    mark_all(&gw->conns);
    mark_all(&gw->idle);
    mark_all(&gw->resting);
    parked_drain(gw, gw->draining_ms, gw->grace_over ? 0 : GATEWAY_GRACE_MS);
}

/* What is busy is swept in turns: each call takes its share off the front and puts it behind. */
static void sweep_busy(struct gateway *gw, uint64_t now_ms, uint32_t count) {
    for (; count > 0 && !list_empty(&gw->conns); count--) {
        struct list *first = list_first(&gw->conns);
        list_remove(first);
        list_push_back(&gw->conns, first);
        conn_sweep(LIST_ENTRY(first, struct conn, node), now_ms);
    }
}

/* Those at rest are in the order in which their time is over. */
static void sweep_resting(struct gateway *gw, uint64_t now_ms, uint32_t most) {
    struct list *first;
    while (most-- > 0 && (first = list_first(&gw->resting)) != NULL) {
        struct conn *c = LIST_ENTRY(first, struct conn, node);
        c->ops->check_time(c, now_ms);
        if (c->place == CONN_RESTING)
            break;
    }
}

void gateway_sweep_part(struct gateway *gw, uint32_t parts) {
    uint64_t now_ms = gateway_now_ms(gw);
    uint32_t idle = gw->conn_count / parts + SWEEP_IDLE_MIN;
    sweep_busy(gw, now_ms, (gw->busy_count + parts - 1) / parts);
    conn_cool(gw, now_ms, idle);
    sweep_resting(gw, now_ms, idle);
    parked_sweep(gw, now_ms, idle);
    watch_hub_sweep(gw->watch);
    if (gw->access)
        access_sweep(gw->access);
    if (gw->draining && !gw->grace_over && now_ms - gw->draining_ms >= GATEWAY_GRACE_MS) {
        gw->grace_over = true;
        drain_idle(gw);
    }
}

void gateway_sweep(struct gateway *gw) {
    gateway_sweep_part(gw, 1);
}

void gateway_drain(struct gateway *gw) {
    gw->draining = true;
    gw->draining_ms = gateway_now_ms(gw);
    watch_hub_drain(gw->watch);
    drain_idle(gw);
}
