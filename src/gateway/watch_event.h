/* Changes as watchers see them: rows of KV.CHANGES and KV.LIST (store/commands.h) taken apart, and
 * written as Server-Sent Events. docs/http-api.md says what is in them.
 *
 * The id of an event is the revision up to which a client that has seen it knows everything. So of
 * the events of one revision only the last has an id, and whoever appends events ends the last one
 * (watch_events_end()) when it knows that no more come.
 */
#pragma once
#include "base/buf.h"
#include "base/reply.h"

enum { WATCH_POSITION_MASK = 0xFFFFF }; /* of a revision: index << 20 | position */

static inline uint64_t watch_index(uint64_t revision) {
    return revision >> 20;
}

enum watch_op { WATCH_PUT, WATCH_DELETE, WATCH_EXPIRE, WATCH_FLUSH };

/* One row; slices borrow from the reply. */
struct watch_row {
    uint64_t revision;
    enum watch_op op;
    struct slice key;
    /* of a PUT */
    uint64_t expires_ms; /* 0: never */
    struct slice type, content_type;
    uint64_t size;
    bool has_value;
    struct slice value;
};

/* A reply of KV.CHANGES. */
struct watch_page {
    uint64_t floor, upto;
    uint64_t count;
    struct slice rows; /* for watch_row_next(), count times */
};
bool watch_page_parse(struct slice reply, struct watch_page *ret_page);
/* Takes the next row off; false: malformed. */
bool watch_row_next(struct slice *rows, struct watch_row *ret_row);

/* A reply of KV.LIST without delimiter. */
struct watch_listing {
    uint64_t revision;  /* all of the state up to it is in what the page shows */
    struct slice after; /* data NULL: it is the last page */
    uint64_t count;
    struct slice rows;
};
bool watch_listing_parse(struct slice reply, struct watch_listing *ret_listing);
/* A row of it is a PUT. */
bool watch_listing_next(struct slice *rows, struct watch_row *ret_row);

/* Events being gathered for whoever sees the same. */
struct watch_events {
    struct buf out;
    uint64_t open; /* revision of the last event, which is not ended; 0: none is */
};
/* One change as an event without its end, to be appended once or many times. With values 0 the
 * value is left out. */
void watch_encode(struct buf *out, const struct watch_row *row, bool values);
/* Appends what watch_encode() made. */
void watch_events_append(struct watch_events *e, uint64_t revision, struct slice encoded);
/* An event without id: put when the state is told (after a reset). */
void watch_events_append_state(struct watch_events *e, struct slice encoded);
void watch_events_reset(struct watch_events *e, const char *reason);
/* progress: everything up to `revision` has been told. */
void watch_events_progress(struct watch_events *e, uint64_t revision);
/* Ends the last event. */
void watch_events_end(struct watch_events *e);
