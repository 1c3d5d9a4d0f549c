#include "gateway/access_log.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/ring.h"
#include "gateway/gateway.h"
#include "proto/http1.h"
#include "proto/json_out.h"

/* ---- notes -------------------------------------------------------------------------------------
 */

static uint16_t cut(struct slice text) {
    return (uint16_t)(text.size < ACCESS_TEXT_BYTES_MAX ? text.size : ACCESS_TEXT_BYTES_MAX);
}

static struct slice header(const struct http_head *head, const char *name) {
    const struct slice *value = http_find_header(head, name);
    return value ? *value : slice_of(NULL, 0);
}

static void put_text(char **at, struct slice text, uint16_t *ret_bytes) {
    *ret_bytes = cut(text);
    if (*ret_bytes > 0)
        memcpy(*at, text.data, *ret_bytes);
    *at += *ret_bytes;
}

static void set_ip(struct access_note *n, const uint8_t *ip) {
    n->has_ip = ip != NULL;
    if (ip)
        memcpy(n->ip, ip, sizeof n->ip);
}

struct access_note *access_note_new(struct gateway *gw, const uint8_t *ip,
                                    const struct http_head *head, const char *version,
                                    uint64_t began_us) {
    if (!gw->options.access_log)
        return NULL;
    /* Path and query lie side by side, but for a target in absolute form without a path. */
    struct slice target = head->path;
    if (head->query.size > 0 && head->query.data == head->path.data + head->path.size + 1)
        target.size = (size_t)(head->query.data + head->query.size - head->path.data);
    const struct slice texts[] = {head->method_text, target, head->host, header(head, "Referer"),
                                  header(head, "User-Agent")};
    size_t size = 0;
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        size += cut(texts[i]);
    struct access_note *n = xmalloc(sizeof *n + size);
    *n = (struct access_note){.began_us = began_us ? began_us : gateway_now_us(gw)};
    set_ip(n, ip);
    snprintf(n->version, sizeof n->version, "%s", version);
    char *at = n->texts;
    put_text(&at, texts[0], &n->method_bytes);
    put_text(&at, texts[1], &n->target_bytes);
    put_text(&at, texts[2], &n->host_bytes);
    put_text(&at, texts[3], &n->referer_bytes);
    put_text(&at, texts[4], &n->agent_bytes);
    return n;
}

/* ---- lines -------------------------------------------------------------------------------------
 */

struct line {
    const struct access_note *note;
    struct slice method, target, host, referer, agent;
    struct slice raw; /* of a request that was not understood */
    int status;
    uint64_t body_bytes, duration_us, wall_ms;
};

static void put_escaped(struct buf *out, struct slice text) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            const char escaped[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
            buf_append(out, escaped, sizeof escaped);
        } else {
            buf_append_char(out, (char)c);
        }
    }
}

static void put_quoted(struct buf *out, struct slice text) {
    buf_append_str(out, " \"");
    if (text.size == 0)
        buf_append_char(out, '-');
    put_escaped(out, text);
    buf_append_char(out, '"');
}

static void ip_text(const struct access_note *n, char out[INET6_ADDRSTRLEN]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!n->has_ip)
        memcpy(out, "-", 2);
    else if (memcmp(n->ip, mapped, sizeof mapped) == 0)
        inet_ntop(AF_INET, n->ip + 12, out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, n->ip, out, INET6_ADDRSTRLEN);
}

static void put_combined(struct buf *out, const struct line *l) {
    char ip[INET6_ADDRSTRLEN], date[30];
    ip_text(l->note, ip);
    http_format_date(l->wall_ms / 1000, date); /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    buf_printf(out, "%s - - [%.2s/%.3s/%.4s:%.8s +0000] \"", ip, date + 5, date + 8, date + 12,
               date + 17);
    if (l->method.size == 0) {
        put_escaped(out, l->raw.size > 0 ? l->raw : slice_str("-"));
    } else {
        put_escaped(out, l->method);
        buf_append_char(out, ' ');
        put_escaped(out, l->target);
        buf_printf(out, " HTTP/%s", l->note->version);
    }
    buf_printf(out, "\" %d %llu", l->status, (unsigned long long)l->body_bytes);
    put_quoted(out, l->referer);
    put_quoted(out, l->agent);
    buf_printf(out, " %llu.%06llu\n", (unsigned long long)(l->duration_us / 1000000),
               (unsigned long long)(l->duration_us % 1000000));
}

static void put_member(struct json_out *j, const char *key, struct slice text) {
    if (text.size == 0)
        return;
    json_out_key(j, key);
    json_out_string(j, text);
}

static void put_json(struct buf *out, const struct line *l) {
    char ip[INET6_ADDRSTRLEN], date[40];
    struct tm tm;
    time_t seconds = (time_t)(l->wall_ms / 1000);
    ip_text(l->note, ip);
    gmtime_r(&seconds, &tm);
    size_t size = strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(date + size, sizeof date - size, ".%03uZ", (unsigned)(l->wall_ms % 1000));
    struct json_out j;
    json_out_begin(&j, out);
    json_out_object(&j);
    json_out_key(&j, "time");
    json_out_str(&j, date);
    json_out_key(&j, "client");
    json_out_str(&j, ip);
    put_member(&j, "method", l->method);
    put_member(&j, "target", l->target);
    put_member(&j, "request", l->raw);
    if (l->method.size > 0) {
        json_out_key(&j, "version");
        json_out_str(&j, l->note->version);
    }
    put_member(&j, "host", l->host);
    json_out_key(&j, "status");
    json_out_i64(&j, l->status);
    json_out_key(&j, "bytes");
    json_out_u64(&j, l->body_bytes);
    json_out_key(&j, "duration_ms");
    json_out_double(&j, (double)l->duration_us / 1000);
    put_member(&j, "referer", l->referer);
    put_member(&j, "user_agent", l->agent);
    json_out_end(&j, '}');
    buf_append_char(out, '\n');
}

static void put_line(struct gateway *gw, struct line *l) {
    struct buf *out = &gw->access_line;
    uint64_t now_us = gateway_now_us(gw);
    l->duration_us = now_us > l->note->began_us ? now_us - l->note->began_us : 0;
    l->wall_ms = gateway_wall_ms(gw);
    buf_reset(out);
    if (gw->options.access_log->format == ACCESS_JSON)
        put_json(out, l);
    else
        put_combined(out, l);
    if (ring_put(gw->options.access_log->ring, buf_slice(out)))
        METRIC_ADD(&gw->metrics, access_lines_total, 1);
    else
        METRIC_ADD(&gw->metrics, access_lines_dropped_total, 1);
}

static struct slice take_text(const char **at, uint16_t bytes) {
    struct slice text = slice_of(*at, bytes);
    *at += bytes;
    return text;
}

void access_note_end(struct gateway *gw, struct access_note *n, int status, uint64_t body_bytes) {
    if (!n)
        return;
    struct line l = {.note = n, .status = status, .body_bytes = body_bytes};
    const char *at = n->texts;
    l.method = take_text(&at, n->method_bytes);
    l.target = take_text(&at, n->target_bytes);
    l.host = take_text(&at, n->host_bytes);
    l.referer = take_text(&at, n->referer_bytes);
    l.agent = take_text(&at, n->agent_bytes);
    put_line(gw, &l);
    free(n);
}

void access_malformed(struct gateway *gw, const uint8_t *ip, struct slice first_line, int status,
                      uint64_t began_us) {
    if (!gw->options.access_log)
        return;
    struct access_note n = {.began_us = began_us ? began_us : gateway_now_us(gw)};
    struct line l = {.note = &n, .status = status, .raw = first_line};
    const uint8_t *end = first_line.size ? memchr(first_line.data, '\n', first_line.size) : NULL;
    set_ip(&n, ip);
    if (end)
        l.raw.size = (size_t)(end - first_line.data);
    if (l.raw.size > 0 && l.raw.data[l.raw.size - 1] == '\r')
        l.raw.size--;
    l.raw.size = cut(l.raw);
    put_line(gw, &l);
}
