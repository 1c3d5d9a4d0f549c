/* The access log: one line for each HTTP request, made on the gateway's thread and handed through a
 * ring to whoever writes it (server/access_writer.h). Nothing here waits: when the ring is full the
 * line is dropped and counted (access_lines_dropped_total).
 *
 * combined: as Apache and nginx write it, with the time that the request took, in seconds, behind:
 *
 *   192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] "GET /a HTTP/1.1" 200 5 "-" "curl/8.5.0" 0.000412
 *
 * json: one object a line; "duration_ms" is a number with fractions.
 *
 * What a client sends cannot end a line, close a quote or reach a terminal: in `combined` the
 * quote, the backslash, control bytes and everything above ASCII become \xHH, in `json` the same is
 * JSON's escaping. Each text is cut at ACCESS_TEXT_BYTES_MAX. A request that was not understood has
 * what was read of its first line; one whose client went away before its answer has the status 499.
 */
#pragma once
#include "base/buf.h"

struct gateway;
struct http_head;
struct http_request;
struct ring;

enum { ACCESS_TEXT_BYTES_MAX = 1024 };
enum access_format { ACCESS_COMBINED, ACCESS_JSON };

/* Where the lines of a gateway go; in struct gateway_options, borrowed. */
struct access_log {
    struct ring *ring;
    enum access_format format;
};

/* What is kept of a request until its answer is complete. All texts in one allocation. */
struct access_note {
    uint64_t began_us; /* gateway_now_us() at its first byte */
    uint8_t ip[16];
    bool has_ip;
    char version[4]; /* "1.1" */
    uint16_t method_bytes, target_bytes, host_bytes, referer_bytes, agent_bytes;
    char texts[];
};

/* Notes a request; began_us 0: now. NULL when there is no log. */
struct access_note *access_note_new(struct gateway *gw, const uint8_t *ip,
                                    const struct http_head *head, const char *version,
                                    uint64_t began_us);
/* Writes its line; frees the note (NULL: does nothing). */
void access_note_end(struct gateway *gw, struct access_note *note, int status, uint64_t body_bytes);
/* The line of a request that was not understood: its first line, as far as it was read. */
void access_malformed(struct gateway *gw, const uint8_t *ip, struct slice first_line, int status,
                      uint64_t began_us);
