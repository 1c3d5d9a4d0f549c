/* The short way for what is asked most: a plain GET of a file that is in memory as an answer. Looks
 * at each field once; whatever is not plain takes the way through site_get(). */
#include "gateway/access_log.h"
#include "gateway/site_serve.h"

/* What the fields of a request say about it. False: not plain. */
static bool look_at_fields(const struct http_head *head, const struct slice **ret_accept) {
    const struct slice *accept = NULL;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *h = &head->headers[i];
        switch (h->name.data[0] | 0x20) {
        case 'a':
            if (slice_equal_nocase(h->name, "Accept-Encoding")) {
                if (accept)
                    return false; /* a list over several fields */
                accept = &h->value;
            }
            break;
        case 'c':
            if (slice_equal_nocase(h->name, "Cookie"))
                return false;
            break;
        case 'i':
            if (h->name.size > 3 && h->name.data[2] == '-')
                return false; /* If-... */
            break;
        case 'r':
            if (slice_equal_nocase(h->name, "Range"))
                return false;
            break;
        }
    }
    *ret_accept = accept;
    return true;
}

static struct slice ok_line(struct gateway *gw) {
    uint64_t now_s = gateway_wall_ms(gw) / 1000;
    if (now_s != gw->ok_line_s) {
        static const char status[] = "HTTP/1.1 200 OK\r\nDate: ";
        /* NOLINTBEGIN(bugprone-not-null-terminated-result): it has a size. */
        memcpy(gw->ok_line, status, sizeof status - 1);
        http_format_date(now_s, gw->ok_line + sizeof status - 1);
        memcpy(gw->ok_line + sizeof status - 1 + 29, "\r\n", 2);
        /* NOLINTEND(bugprone-not-null-terminated-result) */
        gw->ok_line_size = sizeof status - 1 + 31;
        gw->ok_line_s = now_s;
    }
    return slice_of(gw->ok_line, gw->ok_line_size);
}

bool site_quick(struct conn *c, const struct http_head *head, uint64_t began_us) {
    struct gateway *gw = c->gw;
    struct site_set *set = site_set_now(gw);
    const struct slice *accept;
    if (!set || head->method != HTTP_GET || head->minor_version != 1 || !head->keep_alive ||
        head->chunked || head->length > 0 || gw->draining || gw->options.limits ||
        gw->options.http_requests_max > 0)
        return false;
    struct site *site = site_set_find(set, head->host);
    if (!site || !look_at_fields(head, &accept))
        return false;
    /* Names are found as they are; what is encoded must be decoded first. */
    if (memchr(head->path.data, '%', head->path.size))
        return false;
    const struct site_entry *e = site_deploy_find(site->shown, head->path);
    if (!e || !e->file)
        return false;
    int encoding = accept && e->file->encodings != 1u
                       ? http_encoding_choose_value(*accept, e->file->encodings)
                       : HTTP_ENCODING_IDENTITY;
    struct site_hot *hot = encoding < 0 ? NULL : site_entry_hot(e, (enum http_encoding)encoding);
    if (!hot || (accept && e->file->encodings == 1u &&
                 http_encoding_choose_value(*accept, 1) != HTTP_ENCODING_IDENTITY))
        return false;
    struct buf *out = conn_answer(c);
    buf_append_slice(out, ok_line(gw));
    if (e->file->html)
        buf_append_slice(out, buf_slice(&site->cookie));
    if (hot->size == hot->head_size)
        conn_answer_with(c, slice_of(hot->bytes, hot->size),
                         slice_of(hot->blob->bytes, hot->blob->size));
    else
        buf_append(out, hot->bytes, hot->size);
    if (gw->options.access_log)
        access_note_end(gw, access_note_new(gw, stream_peer_ip(c->stream), head, "1.1", began_us),
                        200, hot->blob->size);
    METRIC_ADD(&gw->metrics, http_requests_total, 1);
    METRIC_ADD(&gw->metrics, site_requests_total, 1);
    METRIC_ADD(&gw->metrics, site_quick_total, 1);
    conn_mark_dirty(c);
    return true;
}
