#include "gateway/site_answer.h"

#include <stdio.h>
#include <sys/random.h>

#include "base/num.h"
#include "proto/http_conditional.h"

enum { BOUNDARY_BYTES = 24 };

/* ---- fields ---- */

static void put_field(struct site_answer *a, struct slice name, struct slice value) {
    buf_append_lstr(&a->fields, name);
    buf_append_lstr(&a->fields, value);
}

void site_answer_field(struct site_answer *a, const char *name, struct slice value) {
    put_field(a, slice_str(name), value);
}

/* A field of the server's own, unless the site gives or takes it back. */
static void own_field(struct site_answer *a, const struct site_headers_match *m, const char *name,
                      struct slice value) {
    if (!m || !m->any || !site_headers_overrides(m, name))
        site_answer_field(a, name, value);
}

/* Also for some caches only: CDN-Cache-Control (RFC 9213) and its kin. */
static bool is_about_caches(struct slice name) {
    const struct slice end = slice_str("Cache-Control");
    return slice_equal_nocase(name, "Expires") || slice_equal_nocase(name, "Surrogate-Control") ||
           (name.size >= end.size &&
            slice_equal_nocase(slice_of(name.data + name.size - end.size, end.size),
                               "Cache-Control"));
}

void site_answer_keep_nowhere(struct site_answer *a) {
    struct buf all = a->fields;
    struct reader r = reader_of(buf_slice(&all));
    a->fields = (struct buf){0};
    while (reader_left(&r) > 0) {
        struct slice name = reader_lstr(&r), value = reader_lstr(&r);
        if (!is_about_caches(name))
            put_field(a, name, value);
    }
    buf_fini(&all);
    site_answer_field(a, "Cache-Control", slice_str("private, no-store"));
}

static void site_field(void *ctx, struct slice name, struct slice value) {
    struct site_answer *a = ctx;
    if (slice_equal_nocase(name, "Content-Type")) {
        if (value.size == 0)
            return; /* a placeholder stood for nothing; an answer without a type has no content */
        buf_reset(&a->type);
        buf_append_slice(&a->type, value);
    } else {
        put_field(a, name, value);
    }
}

static void match_headers(const struct site_deploy *d, struct slice path,
                          struct site_headers_match *m) {
    *m = (struct site_headers_match){0};
    if (d->headers)
        site_headers_match(d->headers, path, m);
}

static void site_fields(struct site_answer *a, const struct site_headers_match *m,
                        struct slice path) {
    struct buf scratch = {0};
    if (m->any) {
        a->plain = site_headers_overrides(m, "X-Content-Type-Options");
        site_headers_each(m, path, &scratch, site_field, a);
    }
    buf_fini(&scratch);
}

/* ---- content ---- */

static void segment(struct site_answer *a, bool literal, uint64_t from, uint64_t size) {
    CHECK(a->segment_count < ARRAY_COUNT(a->segments));
    if (size == 0)
        return;
    a->segments[a->segment_count++] =
        (struct site_segment){.literal = literal, .from = from, .size = size};
    a->length += size;
}

static void content_text(struct site_answer *a, const char *type, const char *text) {
    buf_append_str(&a->type, type);
    buf_append_str(&a->texts, text);
    segment(a, true, 0, a->texts.size);
}

static void content_ranges(struct site_answer *a, const struct http_ranges *ranges) {
    char text[HTTP_CONTENT_RANGE_BYTES_MAX];
    uint64_t size = a->variant->size;
    a->status = 206;
    if (ranges->count == 1) {
        size_t n = http_range_format(&ranges->items[0], size, text);
        site_answer_field(a, "Content-Range", slice_of(text, n));
        segment(a, false, ranges->items[0].offset, ranges->items[0].size);
        return;
    }
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    uint8_t boundary[BOUNDARY_BYTES];
    CHECK(getrandom(boundary, sizeof boundary, 0) == sizeof boundary);
    for (size_t i = 0; i < sizeof boundary; i++)
        boundary[i] = (uint8_t)letters[boundary[i] % 32];
    struct buf type = a->type;
    a->type = (struct buf){0};
    struct http_multipart m = {.boundary = slice_of(boundary, sizeof boundary),
                               .type = buf_slice(&type),
                               .size = size,
                               .ranges = ranges};
    for (size_t i = 0; i < ranges->count; i++) {
        size_t at = a->texts.size;
        http_multipart_put_head(&m, i, &a->texts);
        segment(a, true, at, a->texts.size - at);
        segment(a, false, ranges->items[i].offset, ranges->items[i].size);
    }
    size_t at = a->texts.size;
    http_multipart_put_end(&m, &a->texts);
    segment(a, true, at, a->texts.size - at);
    buf_printf(&a->type, "multipart/byteranges; boundary=%.*s", (int)sizeof boundary,
               (const char *)boundary);
    buf_fini(&type);
}

static void answer_text(struct site_answer *a, int status, const char *text) {
    a->status = status;
    site_answer_field(a, "Cache-Control", slice_str("no-store"));
    content_text(a, "text/plain; charset=utf-8", text);
}

/* What was said of the file is not true of the text. */
static void instead_of_file(struct site_answer *a, int status, const char *text) {
    a->variant = NULL;
    a->html = false;
    buf_reset(&a->fields);
    buf_reset(&a->type);
    answer_text(a, status, text);
}

static void content_file(struct site_answer *a, const struct http_head *head,
                         const struct http_validators *v, uint64_t now_s) {
    struct http_ranges ranges;
    const struct slice *range = NULL;
    bool twice = false;
    for (size_t i = 0; i < head->header_count && head->method == HTTP_GET; i++)
        if (slice_equal_nocase(head->headers[i].name, "Range")) {
            twice = range != NULL;
            range = &head->headers[i].value;
        }
    enum http_range_result result = HTTP_RANGE_WHOLE;
    if (range && !twice && a->status == 200 && http_if_range_holds(head, v, now_s))
        result = http_range_parse(*range, a->variant->size, &ranges);
    if (result == HTTP_RANGE_PARTIAL) {
        content_ranges(a, &ranges);
    } else if (result == HTTP_RANGE_UNSATISFIABLE) {
        char text[HTTP_CONTENT_RANGE_BYTES_MAX];
        size_t n = http_range_format(NULL, a->variant->size, text);
        instead_of_file(a, 416, "The file has no such range.\n");
        site_answer_field(a, "Content-Range", slice_of(text, n));
    } else {
        a->whole = a->status == 200;
        segment(a, false, 0, a->variant->size);
    }
}

/* ---- kinds of answers ---- */

static void answer_redirect(struct site_answer *a, const struct site_deploy *d, struct slice path,
                            int status, struct slice location) {
    struct site_headers_match m;
    a->status = status;
    match_headers(d, path, &m);
    site_answer_field(a, "Location", location);
    own_field(a, &m, "Cache-Control", slice_str("no-cache"));
    content_text(a, "text/plain; charset=utf-8", "");
    site_fields(a, &m, path);
}

static void answer_moved(struct site_answer *a, const struct site_deploy *d, struct slice path,
                         struct slice to, struct slice query) {
    struct buf location = {0};
    site_path_put_url(to, query, &location);
    answer_redirect(a, d, path, 308, buf_slice(&location));
    buf_fini(&location);
}

/* not_modified: what describes the content stays out (RFC 9110 section 15.4.5). */
static void file_fields(struct site_answer *a, const struct site_file *f,
                        const struct site_headers_match *m, struct slice path, bool not_modified) {
    char date[30];
    if (a->status == 200)
        own_field(a, m, "ETag", slice_str(a->variant->etag));
    if (f->modified_s && a->status == 200) {
        http_format_date(f->modified_s, date);
        own_field(a, m, "Last-Modified", slice_of(date, 29));
    }
    own_field(a, m, "Cache-Control",
              slice_str(f->hashed && a->status == 200 ? "public, max-age=31536000, immutable"
                                                      : "no-cache"));
    if (f->variant_count > 1)
        own_field(a, m, "Vary", slice_str("Accept-Encoding"));
    if (a->by_accept)
        own_field(a, m, "Vary", slice_str("Accept"));
    if (a->variant->encoding != HTTP_ENCODING_IDENTITY && !not_modified)
        site_answer_field(a, "Content-Encoding",
                          slice_str(http_encoding_name(a->variant->encoding)));
    if (a->status == 200 && !not_modified)
        own_field(a, m, "Accept-Ranges", slice_str("bytes"));
    site_fields(a, m, path);
}

static void answer_file(struct site_answer *a, struct site_deploy *d, struct site_entry *e,
                        struct slice path, int status, const struct http_head *head,
                        uint64_t now_s) {
    const struct site_file *f = e->file;
    struct site_headers_match m;
    int encoding = http_encoding_choose(head, f->encodings);
    if (encoding < 0) {
        answer_text(a, 406, "The file is not there in an encoding that is acceptable.\n");
        return;
    }
    a->status = status;
    a->deploy = d;
    a->variant = site_file_variant(f, (enum http_encoding)encoding);
    a->entry = e;
    a->html = f->html;
    buf_append_str(&a->type, f->content_type);
    match_headers(d, path, &m);
    struct http_validators v = {.etag = slice_str(a->variant->etag),
                                .last_modified_s = f->modified_s};
    enum http_precondition p =
        status == 200 ? http_conditional_check(head, &v, now_s) : HTTP_PRECONDITION_HOLDS;
    if (p == HTTP_PRECONDITION_FAILED) {
        instead_of_file(a, 412, "The file is not in the state that was asked for.\n");
        return;
    }
    file_fields(a, f, &m, path, p == HTTP_NOT_MODIFIED);
    if (p == HTTP_NOT_MODIFIED) {
        a->status = 304;
        a->variant = NULL;
        buf_reset(&a->type);
        return;
    }
    content_file(a, head, &v, now_s);
}

/* ---- finding ---- */

static bool is_file(void *ctx, struct slice path) {
    const struct site_entry *e = site_deploy_find(ctx, path);
    return e && e->file && e->rank == SITE_ALIAS_EXACT;
}

/* An entry that answers for this path with a file of that name, without clean URLs. */
static struct site_entry *exact(const struct site_deploy *d, struct slice path) {
    struct site_entry *e = site_deploy_find(d, path);
    return e && e->file ? e : NULL;
}

static void answer_missing(struct site_answer *a, const struct site *site, struct site_deploy *d,
                           struct slice path, const struct http_head *head, uint64_t now_s) {
    uint8_t buffer[SITE_PATH_BUFFER_BYTES];
    struct slice page;
    for (size_t i = 0; i < site->other_count && site_path_is_hashed(path); i++) {
        struct site_entry *e = site_deploy_find(site->others[i], path);
        if (e && e->file && e->rank == SITE_ALIAS_EXACT) {
            answer_file(a, site->others[i], e, path, 200, head, now_s);
            return;
        }
    }
    if (site_path_find_404(path, is_file, d, buffer, &page))
        answer_file(a, d, exact(d, page), path, 404, head, now_s);
    else
        answer_text(a, 404, "There is nothing at this address.\n");
}

/* Follows a rule; false: what it leads to is not there. */
static bool follow_rule(struct site_answer *a, struct site_deploy *d, struct slice path,
                        const struct site_redirect *rule, const struct site_captures *captures,
                        const struct http_head *head, uint64_t now_s) {
    struct buf to = {0};
    bool done = true;
    if (rule->status >= 300 && rule->status < 400) {
        site_redirect_put_location(rule, captures, head->query, &to);
        answer_redirect(a, d, path, rule->status, buf_slice(&to));
    } else {
        struct site_entry *e = NULL;
        if (site_redirect_put_path(rule, captures, &to))
            e = exact(d, buf_slice(&to));
        done = e != NULL;
        if (e)
            answer_file(a, d, e, path, rule->status, head, now_s);
    }
    buf_fini(&to);
    return done;
}

void site_answer_make(struct site_answer *a, const struct site *site, struct site_deploy *shown,
                      const struct http_head *head, uint64_t now_s) {
    uint8_t scratch[SITE_PATH_BUFFER_BYTES];
    struct slice path;
    *a = (struct site_answer){0};
    switch (site_path_normalise(head->path, scratch, &path)) {
    case SITE_PATH_OK:
        break;
    case SITE_PATH_BAD:
        answer_text(a, 400, "This is not the address of anything.\n");
        return;
    default:
        answer_text(a, 404, "There is nothing at this address.\n");
        return;
    }
    struct site_entry *e = site_deploy_find(shown, path);
    struct site_captures captures, others;
    const struct site_redirect *rule = NULL;
    const struct slice html = slice_str("text/html");
    if (shown->redirects && (!e || site_redirects_any_forced(shown->redirects))) {
        bool page = site_path_is_navigation(path, http_find_header(head, "Accept"));
        rule = site_redirects_match(shown->redirects, path, e != NULL, page, &captures);
        a->by_accept = !e && site_path_is_navigation(path, &html) &&
                       rule != site_redirects_match(shown->redirects, path, false, !page, &others);
    }
    if (rule && follow_rule(a, shown, path, rule, &captures, head, now_s))
        return;
    if (e && e->file) {
        answer_file(a, shown, e, path, 200, head, now_s);
        a->direct = true;
    } else if (e) {
        answer_moved(a, shown, path, e->to, head->query);
    } else {
        answer_missing(a, site, shown, path, head, now_s);
    }
}

void site_answer_fini(struct site_answer *a) {
    buf_fini(&a->fields);
    buf_fini(&a->type);
    buf_fini(&a->texts);
}

void site_answer_put_head(const struct site_answer *a, struct buf *out) {
    struct reader r = reader_of(buf_slice(&a->fields));
    while (reader_left(&r) > 0) {
        buf_append_slice(out, reader_lstr(&r));
        buf_append_str(out, ": ");
        buf_append_slice(out, reader_lstr(&r));
        buf_append_str(out, "\r\n");
    }
    if (!a->plain)
        buf_append_str(out, "X-Content-Type-Options: nosniff\r\n");
    buf_append_str(out, "Content-Type: ");
    buf_append_slice(out, buf_slice(&a->type));
    buf_append_str(out, "\r\nContent-Length: ");
    num_append_u64(out, a->length);
    buf_append_str(out, "\r\n\r\n");
}
