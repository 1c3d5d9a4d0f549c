/* GET /v1/watch: changes of keys as Server-Sent Events.
 *
 *                    +--------- history is gone ---------+
 *                    v                                   |
 *   first read --> STATE (pages of what is there) --> CATCH_UP (pages of changes) --> LIVE (the
 * hub) ^                               |
 *                                                        +--- the client took too little-+
 *
 * CATCH_UP and STATE ask for the next page when the client has taken the last one, so that a slow
 * client costs one page of memory. Only the first read goes up as a request of the connection (in
 * the order of what the client has asked on it); the others are this watcher's own.
 */
#include <stdlib.h>

#include "base/num.h"
#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "gateway/pack.h"
#include "gateway/watch_hub.h"
#include "net/sha256.h"
#include "proto/sse.h"
#include "store/store.h"

enum {
    STATE_PAGE_KEYS = 200,
    UNSENT_BYTES_MAX = 128 * 1024, /* a live watcher that has more unsent is told no more */
    WRITE_NOW_BYTES = 4096,
    RETRY_MS = 1000, /* what clients are asked to wait before they connect again */
    FAILED_MAX = 3,  /* reads in a row without an answer, then the stream ends */
};

enum watch_phase { PHASE_FIRST, PHASE_STATE, PHASE_CATCH_UP, PHASE_LIVE };

struct http_watch {
    struct watcher watcher;
    struct http_request *r;
    struct watch_filter filter; /* text is in r->key */
    enum watch_phase phase;
    bool resumes;    /* the client said where it is */
    bool told_state; /* a reset is to be followed by progress when all was told */
    uint64_t min_index;
    unsigned failed;
    bool on_leave;           /* that can end: */
    struct http_leave leave; /* host is in r->key, behind the text */
    struct access_hold hold;
    struct buf after; /* where the state goes on */
    uint64_t base;    /* of the state: changes behind this revision come after its pages */
    struct upstream_request read;
    bool reading;
};

static struct http_watch *watch_of(struct http_request *r) {
    return r->data;
}

static struct gateway *gateway_of(const struct http_watch *w) {
    return w->r->base.conn->gw;
}

/* ---- reads -------------------------------------------------------------------------------------
 */

static void on_read(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply);

static void pack_changes(const struct http_watch *w, struct buf *out) {
    struct pack p = pack_begin("KV.CHANGES");
    pack_u64(&p, w->watcher.position);
    pack_str(&p, w->filter.key ? "key" : w->filter.text.size > 0 ? "prefix" : "all");
    pack_slice(&p, w->filter.text);
    pack_u64(&p, w->filter.values);
    *out = pack_end(&p);
}

/* The one key, when it is there, is the first with itself as prefix. */
static void pack_state(const struct http_watch *w, struct buf *out) {
    struct pack p = pack_begin("KV.LIST");
    pack_slice(&p, w->filter.text);
    pack_str(&p, "");
    pack_slice(&p, buf_slice(&w->after));
    pack_u64(&p, w->filter.key ? 1 : STATE_PAGE_KEYS);
    pack_u64(&p, w->filter.values);
    *out = pack_end(&p);
}

static void submit_read(struct http_watch *w) {
    struct gateway *gw = gateway_of(w);
    CHECK(!w->reading);
    w->r->more = NULL;
    w->reading = true;
    w->read = (struct upstream_request){
        /* The node beside us may never get there (it is cut off, or was removed): the second time
         * one that is in touch with the leader is asked. */
        .kind = w->failed > 0 ? UPSTREAM_READ : UPSTREAM_READ_STALE,
        .min_index = w->min_index,
        .timeout_ms = gw->options.upstream_timeout_ms,
        .done = on_read,
    };
    if (w->phase == PHASE_STATE)
        pack_state(w, &w->read.packed_argv);
    else
        pack_changes(w, &w->read.packed_argv);
    upstream_submit(gw->upstream, &w->read);
}

/* There is room for more. */
static void on_room(struct http_request *r) {
    if (http_stream_unsent(r) < UNSENT_BYTES_MAX / 2)
        submit_read(watch_of(r));
}

/* The next page, as soon as the client has taken this one. */
static void go_on(struct http_watch *w) {
    if (http_stream_unsent(w->r) < UNSENT_BYTES_MAX)
        submit_read(w);
    else
        w->r->more = on_room;
}

static void on_gone(struct http_request *r) {
    struct http_watch *w = watch_of(r);
    struct gateway *gw = gateway_of(w);
    list_remove(&w->hold.node);
    watch_hub_leave(gw->watch, &w->watcher);
    if (w->reading)
        upstream_forget(gw->upstream, &w->read);
    buf_fini(&w->after);
}

/* The client connects again, to this node or another, and goes on where it was. */
static void finish(struct http_watch *w) {
    struct http_request *r = w->r;
    on_gone(r);
    r->gone = NULL;
    http_stream_end(r);
}

/* ---- telling -----------------------------------------------------------------------------------
 */

static void write_events(struct http_watch *w, struct watch_events *e) {
    watch_events_end(e);
    if (e->out.size > 0)
        http_stream_write(w->r, buf_slice(&e->out));
    buf_fini(&e->out);
}

static void begin_state(struct http_watch *w, const char *reason) {
    struct watch_events e = {0};
    METRIC_ADD(&gateway_of(w)->metrics, watch_resets_total, 1);
    watch_events_reset(&e, reason);
    write_events(w, &e);
    w->phase = PHASE_STATE;
    w->told_state = true;
    w->base = 0;
    buf_fini(&w->after);
    go_on(w);
}

static void deliver(struct watcher *watcher, struct slice events) {
    struct http_watch *w = CONTAINER_OF(watcher, struct http_watch, watcher);
    struct gateway *gw = gateway_of(w);
    http_stream_write(w->r, events);
    if (events.size >= WRITE_NOW_BYTES) /* or thousands of copies would wait for the turn's end */
        conn_write_now(w->r->base.conn);
    if (http_stream_unsent(w->r) < UNSENT_BYTES_MAX)
        return;
    METRIC_ADD(&gw->metrics, watch_lagged_total, 1);
    watch_hub_leave(gw->watch, watcher);
    w->phase = PHASE_CATCH_UP;
    w->min_index = watch_index(watcher->position);
    w->r->more = on_room;
}

static void lost(struct watcher *watcher) {
    begin_state(CONTAINER_OF(watcher, struct http_watch, watcher), "history");
}

static void ended(struct watcher *watcher) {
    finish(CONTAINER_OF(watcher, struct http_watch, watcher));
}

static bool may_go_on(struct access_hold *hold) {
    struct http_watch *w = CONTAINER_OF(hold, struct http_watch, hold);
    return http_leave_reads(&w->leave, w->r->base.conn, w->filter.text, !w->filter.key);
}

static void on_revoked(struct access_hold *hold) {
    finish(CONTAINER_OF(hold, struct http_watch, hold));
}

static void go_live(struct http_watch *w) {
    struct gateway *gw = gateway_of(w);
    uint64_t at;
    if (gw->draining) {
        finish(w);
    } else if (watch_hub_join(gw->watch, &w->watcher, &w->filter, &at)) {
        w->phase = PHASE_LIVE;
    } else {
        w->min_index = watch_index(at);
        go_on(w);
    }
}

/* ---- pages -------------------------------------------------------------------------------------
 */

static bool put_rows(struct http_watch *w, struct slice rows, uint64_t count, bool state,
                     struct watch_events *e) {
    struct watch_row row;
    struct buf one = {0};
    bool ok = true;
    for (uint64_t i = 0; i < count && ok; i++) {
        ok = state ? watch_listing_next(&rows, &row) : watch_row_next(&rows, &row);
        if (!ok || !watch_filter_wants(&w->filter, &row))
            continue;
        buf_reset(&one);
        watch_encode(&one, &row, w->filter.values);
        METRIC_ADD(&gateway_of(w)->metrics, watch_encodings_total, 1);
        if (state)
            watch_events_append_state(e, buf_slice(&one));
        else
            watch_events_append(e, row.revision, buf_slice(&one));
    }
    buf_fini(&one);
    return ok;
}

/* A page of changes behind the position. False: malformed. */
static bool take_changes(struct http_watch *w, const struct watch_page *page) {
    struct watch_events e = {0};
    /* What comes behind the end of the log cannot have been told by this cluster. */
    if (w->resumes && (w->watcher.position < page->floor || w->watcher.position > page->upto)) {
        begin_state(w, w->watcher.position < page->floor ? "history" : "unknown");
        return true;
    }
    bool ok = put_rows(w, page->rows, page->count, false, &e);
    w->watcher.position = page->upto;
    if (w->told_state || !w->resumes)
        watch_events_progress(&e, page->upto);
    w->told_state = false;
    w->resumes = true;
    write_events(w, &e);
    if (ok)
        go_live(w);
    return ok;
}

/* A page of the state. Changes come behind its first page, since what the others show is of later
 * moments. */
static bool take_state(struct http_watch *w, const struct watch_listing *page) {
    struct watch_events e = {0};
    bool ok = put_rows(w, page->rows, page->count, true, &e);
    write_events(w, &e);
    if (w->base == 0)
        w->base = page->revision;
    w->min_index = watch_index(page->revision);
    buf_reset(&w->after);
    buf_append_slice(&w->after, page->after);
    if (!page->after.data || w->filter.key) {
        w->phase = PHASE_CATCH_UP;
        w->watcher.position = w->base;
    }
    if (ok)
        go_on(w);
    return ok;
}

static bool take_reply(struct http_watch *w, struct slice reply) {
    struct watch_page page;
    struct watch_listing listing;
    if (w->phase == PHASE_STATE)
        return watch_listing_parse(reply, &listing) && take_state(w, &listing);
    return watch_page_parse(reply, &page) && take_changes(w, &page);
}

static void on_read(struct upstream_request *req, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct http_watch *w = CONTAINER_OF(req, struct http_watch, read);
    (void)index;
    w->reading = false;
    if (outcome == UPSTREAM_DONE && !reply_is_error(reply)) {
        w->failed = 0;
        if (!take_reply(w, reply))
            finish(w);
    } else if (++w->failed < FAILED_MAX && !gateway_of(w)->draining) {
        submit_read(w);
    } else {
        finish(w);
    }
}

/* ---- the request -------------------------------------------------------------------------------
 */

static void first_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct http_watch *w = watch_of(r);
    struct watch_page page;
    struct buf retry = {0};
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!watch_page_parse(reply, &page)) {
        http_malformed_reply(r);
        return;
    }
    http_begin(r, 200);
    http_header_u64(r, "Kv-Index", index);
    http_header(r, "Cache-Control", slice_str("no-store"));
    http_header(r, "X-Accel-Buffering", slice_str("no")); /* a proxy is not to gather events */
    if (!http_stream_begin(r, "text/event-stream", HTTP_LENGTH_UNKNOWN))
        return;
    r->gone = on_gone;
    r->base.endless = true;
    sse_retry(&retry, RETRY_MS);
    sse_end(&retry);
    http_stream_write(r, buf_slice(&retry));
    buf_fini(&retry);
    w->phase = PHASE_CATCH_UP;
    w->min_index = watch_index(page.upto);
    w->hold.may = may_go_on;
    w->hold.ended = on_revoked;
    if ((w->on_leave && !access_hold(gateway_of(w), &w->hold)) || !take_changes(w, &page))
        finish(w);
}

/* Where the client is: Last-Event-ID before since (an EventSource that connects again has both).
 * False when it was answered. */
static bool take_position(struct http_request *r, const struct http_input *in,
                          struct http_watch *w) {
    const struct slice *last = http_find_header(in->head, "Last-Event-ID");
    struct buf text = {0};
    int found = http_query(r, in, "since", &text);
    if (found < 0) {
        buf_fini(&text);
        return false;
    }
    bool ok = true;
    if (last && last->size > 0) {
        ok = w->resumes = sse_parse_id(*last, &w->watcher.position);
    } else if (found > 0) {
        ok = w->resumes = sse_parse_id(buf_slice(&text), &w->watcher.position);
    }
    buf_fini(&text);
    if (!ok || w->watcher.position > INT64_MAX) {
        http_bad_request(r, "%s must be a revision: a decimal number",
                         last && last->size > 0 ? "Last-Event-ID" : "since");
        return false;
    }
    /* From now on: a position that is behind everything has no changes behind it. */
    if (!w->resumes)
        w->watcher.position = INT64_MAX;
    return true;
}

static bool take_filter(struct http_request *r, const struct http_input *in, struct http_watch *w) {
    struct buf text = {0};
    int key = http_query(r, in, "key", &r->key);
    int prefix = key >= 0 ? http_query(r, in, "prefix", &text) : -1;
    bool ok = key >= 0 && prefix >= 0;
    if (ok && key && prefix) {
        http_bad_request(r, "key and prefix exclude each other");
        ok = false;
    } else if (ok && key && (r->key.size == 0 || r->key.size > STORE_KEY_BYTES_MAX)) {
        http_bad_request(r, "a key has 1 to %d bytes", (int)STORE_KEY_BYTES_MAX);
        ok = false;
    } else if (ok && text.size > WATCH_PREFIX_BYTES_MAX) {
        http_bad_request(r, "a prefix to watch has at most %d bytes", (int)WATCH_PREFIX_BYTES_MAX);
        ok = false;
    } else if (ok && !key) {
        buf_append_slice(&r->key, buf_slice(&text));
    }
    buf_fini(&text);
    if (!ok)
        return false;
    w->filter.key = key > 0;
    w->filter.text = buf_slice(&r->key);
    int values = http_query(r, in, "values", &text);
    bool none = values > 0 && slice_equal_str(buf_slice(&text), "0");
    bool all = values == 0 || (values > 0 && slice_equal_str(buf_slice(&text), "1"));
    buf_fini(&text);
    if (values >= 0 && !none && !all)
        http_bad_request(r, "values is 0 or 1");
    if (!none && !all)
        return false;
    w->filter.values = all;
    return true;
}

/* What has to be known of the head as long as the stream goes on. */
static void take_leave(struct http_watch *w, const struct http_head *head) {
    struct buf *kept = &w->r->key;
    size_t text_bytes = kept->size;
    w->on_leave = http_leave_take(&w->leave, w->r->base.conn, head);
    if (!w->on_leave || w->leave.by_token)
        return;
    buf_append_slice(kept, head->host);
    w->filter.text = slice_of(kept->data, text_bytes);
    w->leave.host = slice_of(kept->data + text_bytes, kept->size - text_bytes);
}

void http_watch_get(struct http_request *r, const struct http_input *in) {
    struct http_watch *w = xcalloc(1, sizeof *w);
    r->data = w;
    w->r = r;
    list_init(&w->hold.node);
    w->watcher.deliver = deliver;
    w->watcher.lost = lost;
    w->watcher.ended = ended;
    if (!http_check_query(r, in, "prefix,key,since,values") || !take_filter(r, in, w) ||
        !take_position(r, in, w))
        return;
    struct buf packed;
    take_leave(w, in->head);
    pack_changes(w, &packed);
    http_submit(r, UPSTREAM_READ, &packed, first_answer);
}
