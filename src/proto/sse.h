/* Server-Sent Events (the HTML standard, section 9.2 "Server-sent events"), the server's side,
 * sans-I/O: fields of events appended to a buffer, and the id that a client comes back with.
 *
 *   event: put
 *   data: {"key":"a"}
 *   id: 4194304
 *   <empty line>
 *
 * The order of fields within an event means nothing. A client keeps the last id it has seen, also
 * when later events have none, and sends it as Last-Event-ID when it connects again. So an event
 * without id is one that it will be told again.
 */
#pragma once
#include "base/buf.h"

/* "event: name". The name has no CR, LF or NUL (CHECKed). */
void sse_event(struct buf *out, const char *name);
/* "data: ...": one line for each line of `data` (which may end in CR, LF or both). */
void sse_data(struct buf *out, struct slice data);
/* "id: N" */
void sse_id(struct buf *out, uint64_t id);
/* The empty line that ends an event. */
void sse_end(struct buf *out);
/* ": text", which clients ignore; one line, CHECKed as the name. */
void sse_comment(struct buf *out, const char *text);
/* "retry: N", milliseconds before a client connects again. */
void sse_retry(struct buf *out, uint32_t ms);

/* Reads back an id that sse_id() has written: decimal digits without sign or leading zeros. False:
 * something else, also an empty one. */
bool sse_parse_id(struct slice in, uint64_t *ret_id);
