#include "gateway/site_serve.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "base/reply.h"
#include "gateway/http_routes.h"
#include "gateway/http_sink.h"
#include "gateway/site_answer.h"
#include "gateway/site_cache.h"
#include "gateway/site_fetch.h"

/* A request as long as it is not answered. */
struct site_request {
    struct http_request *r;
    struct gateway *gw;
    struct site_set *set; /* a reference */
    struct site_answer answer;
    bool begun;      /* its head is written */
    size_t segment;  /* what is to be written next, */
    uint64_t offset; /* from here on */
    struct site_fetch fetch;
    struct buf block;
    uint64_t block_at; /* which one `block` is; UINT64_MAX: none */
    uint64_t block_wanted;
    /* waiting for a newer set */
    struct list waiter; /* in site_waits.waiters */
    uint64_t question;  /* the one whose answer says what to wait for, */
    uint64_t wanted;    /* this revision; 0: not known yet */
    uint64_t until_ms;
    struct buf head_bytes;
    struct http_head *head;
};

/* Those of a thread who wait. One question to the database at a time; who comes while it is under
 * way needs the next one, since it may have been executed before he came. */
struct site_waits {
    struct gateway *gw;
    struct list waiters; /* of struct site_request */
    struct list others;  /* of struct site_wait */
    struct upstream_request up;
    bool asking;
    uint64_t question; /* number of the last one asked */
};

/* ---- which requests ---- */

struct site_set *site_set_now(struct gateway *gw) {
    uint64_t newest = sites_revision(gw->sites);
    if (newest != gw->site_revision) {
        struct site_set *old = gw->site_set;
        gw->site_set = sites_ref(gw->sites);
        gw->site_revision = newest;
        if (old)
            site_set_unref(old);
    }
    return gw->site_set;
}

static bool is_ours(struct slice path) {
    return slice_starts_with(path, slice_str("/v1/")) ||
           slice_starts_with(path, slice_str("/_/")) || slice_equal_str(path, "/v1") ||
           slice_equal_str(path, "/_");
}

bool site_takes(struct gateway *gw, const struct http_head *head) {
    struct site_set *set = site_set_now(gw);
    return set && head->path.size > 0 && head->path.data[0] == '/' && !is_ours(head->path) &&
           site_set_find(set, head->host);
}

/* ---- cookies ---- */

static struct slice cookie_value(struct slice field, const char *name) {
    size_t n = strlen(name);
    while (field.size > 0) {
        const uint8_t *end = memchr(field.data, ';', field.size);
        size_t size = end ? (size_t)(end - field.data) : field.size;
        size_t from = 0;
        while (from < size && field.data[from] == ' ')
            from++;
        if (size - from > n && memcmp(field.data + from, name, n) == 0 &&
            field.data[from + n] == '=')
            return slice_of(field.data + from + n + 1, size - from - n - 1);
        field = slice_of(field.data + size + (end != NULL), field.size - size - (end != NULL));
    }
    return slice_of(NULL, 0);
}

static void cluster_name(const uint8_t cluster[16], char out[9]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 4; i++) {
        out[2 * i] = digits[cluster[i] >> 4];
        out[2 * i + 1] = digits[cluster[i] & 15];
    }
    out[8] = 0;
}

void site_cookies_parse(const struct http_head *head, const uint8_t cluster[16],
                        struct site_cookies *ret) {
    char name[9];
    *ret = (struct site_cookies){0};
    cluster_name(cluster, name);
    for (size_t i = 0; i < head->header_count; i++) {
        if (!slice_equal_nocase(head->headers[i].name, "Cookie"))
            continue;
        struct slice field = head->headers[i].value;
        struct slice seen = cookie_value(field, SITE_SEEN_COOKIE);
        struct slice preview = cookie_value(field, SITE_PREVIEW_COOKIE);
        if (seen.size > 9 && memcmp(seen.data, name, 8) == 0 && seen.data[8] == '.')
            (void)num_parse_u64(slice_of(seen.data + 9, seen.size - 9), &ret->seen);
        if (preview.size > 0)
            (void)num_parse_u64(preview, &ret->preview);
    }
}

void site_cookie_put(struct buf *out, const uint8_t cluster[16], uint64_t switch_index) {
    char name[9];
    cluster_name(cluster, name);
    buf_printf(out, SITE_SEEN_COOKIE "=%s.%llu; Path=/; HttpOnly; SameSite=Lax", name,
               (unsigned long long)switch_index);
}

/* ---- sending ----
 *
 * The request r owns s through r->data and r->gone, until detach(): then the answer is complete but
 * for the call that frees r, and s is freed behind it. */

static void site_request_free(struct site_request *s) {
    site_fetch_cancel(&s->fetch);
    list_remove(&s->waiter);
    site_answer_fini(&s->answer);
    buf_fini(&s->block);
    buf_fini(&s->head_bytes);
    free(s->head);
    site_set_unref(s->set);
    free(s);
}

static void gone(struct http_request *r) {
    struct site_request *s = r->data;
    r->data = NULL;
    site_request_free(s);
}

static void detach(struct site_request *s) {
    s->r->data = NULL;
    s->r->gone = NULL;
    s->r->more = NULL;
}

static void unavailable(struct site_request *s, const char *why) {
    detach(s);
    http_problem(s->r,
                 &(struct http_problem){.status = 503,
                                        .code = "site_unavailable",
                                        .applied = APPLIED_NO,
                                        .retry_after_ms = 1000},
                 "%s", why);
    site_request_free(s);
}

static void begin(struct site_request *s) {
    const struct site_answer *a = &s->answer;
    struct reader fields = reader_of(buf_slice(&a->fields));
    struct buf name = {0};
    http_begin_plain(s->r, a->status);
    if (!a->plain)
        http_header(s->r, "X-Content-Type-Options", slice_str("nosniff"));
    while (reader_left(&fields) > 0) {
        buf_reset(&name);
        buf_append_slice(&name, reader_lstr(&fields));
        buf_append_char(&name, 0);
        http_header(s->r, (const char *)name.data, reader_lstr(&fields));
    }
    buf_fini(&name);
    s->begun = true;
}

/* NULL: the answer has no content. */
static const char *type_of(struct site_answer *a) {
    if (a->type.size == 0)
        return NULL;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what has a size has bytes. */
    if (a->type.data[a->type.size - 1] != 0)
        buf_append_char(&a->type, 0);
    return (const char *)a->type.data;
}

/* The bytes of a segment that are in memory. */
static struct slice in_memory(const struct site_answer *a, const struct site_segment *g,
                              const struct site_blob *blob) {
    return g->literal ? slice_of(a->texts.data + g->from, (size_t)g->size)
                      : slice_of(blob->bytes + g->from, (size_t)g->size);
}

static void send_whole(struct site_request *s, const struct site_blob *blob) {
    struct site_answer *a = &s->answer;
    struct buf joined = {0};
    struct slice content = slice_of("", 0);
    if (a->segment_count == 1) {
        content = in_memory(a, &a->segments[0], blob);
    } else if (a->segment_count > 1) {
        for (size_t i = 0; i < a->segment_count; i++)
            buf_append_slice(&joined, in_memory(a, &a->segments[i], blob));
        content = buf_slice(&joined);
    }
    begin(s);
    detach(s);
    http_end(s->r, type_of(a), content);
    buf_fini(&joined);
    site_request_free(s);
}

/* In HTTP/1 what comes behind a request that waits is not begun: each would hold a block. */
static void hold_others(struct site_request *s) {
    if (s->r->version != HTTP_VERSION_2)
        conn_hold(s->r->base.conn);
}

static void on_block(struct site_fetch *f, enum site_fetch_result result, struct slice bytes);

/* Whether a block is in s->block; else it is on its way. */
static bool have_block(struct site_request *s, uint64_t index) {
    const struct site_answer *a = &s->answer;
    const uint8_t *hash = site_variant_block(a->deploy, a->variant, index);
    struct site_cache *cache = s->gw->sites->cache;
    if (s->block_at == index)
        return true;
    if (s->fetch.active)
        return false;
    s->block_at = UINT64_MAX;
    if (cache && site_cache_read(cache, hash, &s->block) &&
        s->block.size == site_variant_block_bytes(a->variant, index)) {
        s->block_at = index;
        return true;
    }
    s->block_wanted = index;
    hold_others(s);
    site_fetch_start(&s->fetch, s->gw, hash, on_block);
    return false;
}

/* The next bytes of the segment under way; empty: they are on their way. */
static struct slice next_piece(struct site_request *s, const struct site_segment *g) {
    if (g->literal)
        return slice_of(s->answer.texts.data + g->from, (size_t)g->size);
    uint64_t at = g->from + s->offset, left = g->size - s->offset;
    size_t from = (size_t)(at % SITE_MANIFEST_BLOCK_BYTES);
    if (!have_block(s, at / SITE_MANIFEST_BLOCK_BYTES))
        return slice_of(NULL, 0);
    struct slice piece = slice_of(s->block.data + from, s->block.size - from);
    if (piece.size > left)
        piece.size = (size_t)left;
    return piece;
}

static void drop_block(struct site_request *s) {
    buf_fini(&s->block);
    s->block_at = UINT64_MAX;
}

/* Writes as far as there are bytes and room. */
static void more(struct http_request *r) {
    struct site_request *s = r->data;
    while (s->segment < s->answer.segment_count) {
        const struct site_segment *g = &s->answer.segments[s->segment];
        if (http_stream_unsent(r) >= HTTP_ROOM_BYTES)
            return;
        struct slice piece = next_piece(s, g);
        if (piece.size == 0)
            return;
        http_stream_write(r, piece);
        s->offset += piece.size;
        if (!g->literal && (g->from + s->offset) % SITE_MANIFEST_BLOCK_BYTES == 0)
            drop_block(s); /* the next one is fetched when there is room for it */
        if (s->offset == g->size) {
            s->segment++;
            s->offset = 0;
        }
    }
    detach(s);
    http_stream_end(r);
    site_request_free(s);
}

static void send_head(struct site_request *s) {
    begin(s);
    detach(s);
    bool body = http_stream_begin(s->r, type_of(&s->answer), s->answer.length);
    CHECK(!body);
    site_request_free(s);
}

static void send_pieces(struct site_request *s) {
    begin(s);
    s->r->more = more;
    bool body = http_stream_begin(s->r, type_of(&s->answer), s->answer.length);
    CHECK(body);
    more(s->r);
}

/* What was answered in full from memory is answered by site_quick() from now on. */
static void keep_hot(const struct site_answer *a, struct site_blob *blob) {
    struct buf head = {0};
    if (!a->whole || site_entry_hot(a->entry, a->variant->encoding))
        return;
    site_answer_put_head(a, &head);
    site_entry_keep(a->entry, a->variant->encoding, a->deploy->budget, blob, buf_slice(&head));
    buf_fini(&head);
}

/* The file in memory; one that is a single block, and has just come, is kept there. */
static struct site_blob *blob_of(struct site_request *s) {
    struct site_answer *a = &s->answer;
    struct site_variant *v = (struct site_variant *)(uintptr_t)a->variant;
    if (!v || v->size > SITE_BLOB_BYTES_MAX)
        return NULL;
    if (!site_variant_blob(v) && (v->size == 0 || s->block_at == 0))
        (void)site_variant_keep(v, a->deploy->budget,
                                v->size ? buf_slice(&s->block) : slice_of(NULL, 0));
    return site_variant_blob(v);
}

/* Sends what can be sent, or waits for the first block: so that an answer begins only when its
 * content is known to be there. */
static void send(struct site_request *s) {
    struct site_answer *a = &s->answer;
    struct site_blob *blob = blob_of(s);
    const struct site_segment *file = NULL;
    for (size_t i = 0; i < a->segment_count && !file; i++)
        if (!a->segments[i].literal)
            file = &a->segments[i];
    if (type_of(a) && s->r->method == HTTP_HEAD) {
        send_head(s);
        return;
    }
    if (file && !blob) {
        if (!have_block(s, file->from / SITE_MANIFEST_BLOCK_BYTES))
            return;
        blob = blob_of(s);
    }
    if (file && !blob) {
        send_pieces(s);
        return;
    }
    send_whole(s, blob);
}

static void on_block(struct site_fetch *f, enum site_fetch_result result, struct slice bytes) {
    struct site_request *s = CONTAINER_OF(f, struct site_request, fetch);
    bool good = result == SITE_FETCH_OK &&
                bytes.size == site_variant_block_bytes(s->answer.variant, s->block_wanted);
    if (good) {
        buf_reset(&s->block);
        buf_append_slice(&s->block, bytes);
        s->block_at = s->block_wanted;
        if (s->begun)
            more(s->r);
        else
            send(s);
    } else if (s->begun) {
        struct http_request *r = s->r;
        detach(s);
        http_stream_abort(r);
        site_request_free(s);
    } else {
        unavailable(s, "the database that has this file cannot be reached");
    }
}

/* ---- answering ---- */

/* Which deploy this visitor sees. */
static struct site_deploy *choose_deploy(const struct site *site, const struct site_cookies *c,
                                         bool *ret_preview) {
    struct site_deploy *d = c->preview ? site_find_other(site, c->preview) : NULL;
    *ret_preview = d != NULL;
    return d ? d : site->shown;
}

/* From the thread's newest set. */
static void answer(struct site_request *s, const struct http_head *head) {
    struct site_set *set = site_set_now(s->gw);
    struct site *site = set ? site_set_find(set, head->host) : NULL;
    struct site_cookies cookies;
    bool preview;
    if (!site) {
        unavailable(s, "the site is not there any more");
        return;
    }
    if (set != s->set) {
        site_set_unref(s->set);
        s->set = site_set_ref(set);
    }
    METRIC_ADD(&s->gw->metrics, site_requests_total, 1);
    site_cookies_parse(head, set->cluster, &cookies);
    struct site_deploy *shown = choose_deploy(site, &cookies, &preview);
    struct site_answer *a = &s->answer;
    site_answer_make(a, site, shown, head, gateway_wall_ms(s->gw) / 1000);
    /* The head that is kept is made before the visitor's own fields are added. */
    struct site_blob *blob = blob_of(s);
    if (blob && a->deploy == site->shown && a->whole && a->direct && head->method == HTTP_GET)
        keep_hot(a, blob);
    if (preview) {
        char id[24];
        int n = snprintf(id, sizeof id, "%llu", (unsigned long long)shown->id);
        site_answer_keep_nowhere(a);
        site_answer_field(a, "Site-Preview", slice_of(id, (size_t)n));
    } else if (a->html && cookies.seen != site->switch_index) {
        struct buf cookie = {0};
        site_cookie_put(&cookie, set->cluster, site->switch_index);
        site_answer_field(a, "Set-Cookie", buf_slice(&cookie));
        buf_fini(&cookie);
    }
    send(s);
}

/* ---- waiting for a newer set ---- */

static void ask(struct site_waits *w);

/* The database's answer: the revision that the sites have now. Whatever a cookie said, that is as
 * new as it gets. */
static void on_list(struct upstream_request *up, enum upstream_outcome outcome, uint64_t index,
                    struct slice reply) {
    struct site_waits *w = CONTAINER_OF(up, struct site_waits, up);
    struct reply_item header, revision;
    (void)index;
    w->asking = false;
    bool good = outcome == UPSTREAM_DONE && reply_next(&reply, &header) && header.type == '*' &&
                reply_next(&reply, &revision) && revision.type == ':' && revision.integer > 0;
    bool others = false;
    LIST_FOREACH_SAFE (it, &w->waiters) {
        struct site_request *s = LIST_ENTRY(it, struct site_request, waiter);
        if (s->question > w->question)
            others = true;
        else if (!good)
            unavailable(s, "this server has an older state of the site than you have seen, and "
                           "cannot reach the database");
        else if (s->wanted == 0)
            s->wanted = (uint64_t)revision.integer;
    }
    if (others)
        ask(w);
    site_waits_turn(w);
}

static void ask(struct site_waits *w) {
    struct pack p = pack_begin("SITE.LIST");
    w->up = (struct upstream_request){.kind = UPSTREAM_READ,
                                      .timeout_ms = SITE_WAIT_MS,
                                      .packed_argv = pack_end(&p),
                                      .done = on_list};
    w->asking = true;
    w->question++;
    upstream_submit(w->gw->upstream, &w->up);
}

/* The head is borrowed until the handler returns only. */
static void keep_head(struct site_request *s, const struct http_head *head) {
    struct buf *b = &s->head_bytes;
    buf_append_slice(b, head->method_text);
    buf_append_char(b, ' ');
    buf_append_slice(b, head->path);
    if (head->query.size > 0) {
        buf_append_char(b, '?');
        buf_append_slice(b, head->query);
    }
    buf_append_str(b, " HTTP/1.1\r\nHost: ");
    buf_append_slice(b, head->host);
    buf_append_str(b, "\r\n");
    for (size_t i = 0; i < head->header_count; i++) {
        if (slice_equal_nocase(head->headers[i].name, "Host"))
            continue;
        buf_append_slice(b, head->headers[i].name);
        buf_append_str(b, ": ");
        buf_append_slice(b, head->headers[i].value);
        buf_append_str(b, "\r\n");
    }
    buf_append_str(b, "\r\n");
    s->head = xmalloc(sizeof *s->head);
}

static void wait_for_newer(struct site_request *s, const struct http_head *head) {
    struct gateway *gw = s->gw;
    keep_head(s, head);
    if (http1_parse_head(buf_slice(&s->head_bytes), 0, s->head, NULL) <= 0) {
        unavailable(s, "the request is too long to be kept"); /* by the Host that was added */
        return;
    }
    struct site_waits *w = gw->site_waits;
    hold_others(s);
    METRIC_ADD(&gw->metrics, site_waits_total, 1);
    list_push_back(&w->waiters, &s->waiter);
    s->until_ms = gateway_now_ms(gw) + SITE_WAIT_MS;
    s->question = w->question + 1;
    if (!w->asking)
        ask(w);
}

struct site_waits *site_waits_new(struct gateway *gw) {
    struct site_waits *w = xcalloc(1, sizeof *w);
    w->gw = gw;
    list_init(&w->waiters);
    list_init(&w->others);
    return w;
}

void site_waits_free(struct site_waits *w) {
    CHECK(list_empty(&w->waiters));
    CHECK(list_empty(&w->others));
    if (w->asking)
        upstream_forget(w->gw->upstream, &w->up);
    free(w);
}

void site_wait_begin(struct gateway *gw, struct site_wait *wait) {
    list_push_back(&gw->site_waits->others, &wait->node);
}

void site_waits_turn(struct site_waits *w) {
    LIST_FOREACH_SAFE (it, &w->others) {
        struct site_wait *wait = LIST_ENTRY(it, struct site_wait, node);
        if (sites_revision(w->gw->sites) < wait->revision && gateway_now_ms(w->gw) < wait->until_ms)
            continue;
        list_remove(&wait->node);
        wait->done(wait);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): who is freed has left the list before. */
    LIST_FOREACH_SAFE (it, &w->waiters) {
        struct site_request *s = LIST_ENTRY(it, struct site_request, waiter);
        struct site_set *set = site_set_now(w->gw);
        if (s->wanted && set && set->revision >= s->wanted) {
            list_remove(&s->waiter);
            answer(s, s->head);
        } else if (gateway_now_ms(w->gw) >= s->until_ms) {
            unavailable(s, "this server has an older state of the site than you have seen");
        }
    }
}

static void site_get(struct http_request *r, const struct http_input *in) {
    struct gateway *gw = r->base.conn->gw;
    struct site_set *set = site_set_now(gw);
    struct site *site = set ? site_set_find(set, in->head->host) : NULL;
    struct site_cookies cookies = {0};
    if (!site) {
        http_problem(r, &(struct http_problem){.status = 404, .code = "not_found"},
                     "there is nothing at this path");
        return;
    }
    struct site_request *s = xcalloc(1, sizeof *s);
    s->r = r;
    s->gw = gw;
    s->block_at = UINT64_MAX;
    s->set = site_set_ref(set);
    list_init(&s->waiter);
    r->data = s;
    r->gone = gone;
    site_cookies_parse(in->head, set->cluster, &cookies);
    if (cookies.seen > site->switch_index)
        wait_for_newer(s, in->head);
    else
        answer(s, in->head);
}

const struct http_route site_route = {HTTP_GET, "", NEEDS_NOTHING, BODY_NONE, ACCESS_PUBLIC,
                                      site_get, ""};

/* GET /_/preview/{id}: this browser sees that deploy, until /_/preview/off. */
void http_preview_get(struct http_request *r, const struct http_input *in) {
    struct site_set *set = site_set_now(r->base.conn->gw);
    uint64_t id = 0;
    bool off = slice_equal_str(in->rest, "off");
    if (!off && (!num_parse_u64(in->rest, &id) || !set || !site_set_deploy(set, id))) {
        http_problem(r, &(struct http_problem){.status = 404, .code = "no_such_deploy"},
                     "there is no complete deploy of this number");
        return;
    }
    struct buf cookie = {0};
    if (off)
        buf_append_str(&cookie, SITE_PREVIEW_COOKIE "=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    else
        buf_printf(&cookie, SITE_PREVIEW_COOKIE "=%llu; Path=/; HttpOnly; SameSite=Lax",
                   (unsigned long long)id);
    http_begin(r, 303);
    http_header(r, "Location", slice_str("/"));
    http_header(r, "Set-Cookie", buf_slice(&cookie));
    http_header(r, "Cache-Control", slice_str("no-store"));
    buf_fini(&cookie);
    http_end(r, "text/plain; charset=utf-8", slice_of("", 0));
}
