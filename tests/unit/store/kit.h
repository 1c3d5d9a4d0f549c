/* What the tests of the storage share: a store in a folder of its own, entries made of commands,
 * and the keyspace itself between store_begin() and store_commit(). */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>
#include <errno.h>

#include "store/keyspace.h"
#include "store/store.h"

struct kit {
    char dir[64]; /* the store is in dir/store; other files may be put into dir */
    char store_dir[80];
    const char *boot_id;
    uint64_t max_data_bytes;
    struct store *store;
    uint64_t time_ms; /* of the next entry */
    uint64_t seed;
    struct buf replies; /* of the last kit_apply(): one after the other */
    size_t reply_count;
    enum store_status last_status;
};

void kit_open(struct kit *k); /* a new folder, a new store */
void kit_close(struct kit *k);
/* The folder again after store_close() or store_abandon(). */
void kit_reopen(struct kit *k);
/* Deletes everything in a folder, and the folder. */
void kit_remove(const char *dir);

static inline struct slice S(const char *text) {
    return slice_str(text);
}
/* `size` bytes that follow from the seed. */
void kit_fill(struct buf *b, size_t size, uint64_t seed);

/* A group of commands: "SET a 1", split at spaces. NULL ends the list. */
struct kit_group {
    struct session_id session;
    uint64_t acked_below;
    uint64_t sequence; /* of the first command; the others count up */
    const char *commands[16];
};
struct session_id kit_session(unsigned n); /* n 0: all zero */
/* Builds the entry of some groups at the kit's time. */
void kit_entry(struct kit *k, struct buf *ret_entry, const struct kit_group *groups, size_t count);
/* Applies it as the next index, in a transaction of its own unless one is open. */
void kit_apply(struct kit *k, const struct kit_group *groups, size_t count);
/* One command, without a session; its reply. */
struct slice kit_run(struct kit *k, const char *command);
/* The replies of the last kit_apply(), as text. */
#define assert_replies(k, text)                                                                    \
    do {                                                                                           \
        buf_append_u8(&(k)->replies, 0);                                                           \
        assert_string_equal((const char *)(k)->replies.data, text);                                \
        (k)->replies.size--;                                                                       \
    } while (0)
#define assert_bytes(found, expected)                                                              \
    do {                                                                                           \
        struct slice got_ = (found), want_ = (expected);                                           \
        assert_int_equal(got_.size, want_.size);                                                   \
        if (got_.size)                                                                             \
            assert_memory_equal(got_.data, want_.data, got_.size);                                 \
    } while (0)

/* Begins a transaction whose keyspace is returned, as the next entry would see it at time_ms; end
 * it with kit_commit(). Each kit_step() is a further command: a new revision. */
struct keyspace *kit_begin(struct kit *k);
void kit_step(struct kit *k);
void kit_commit(struct kit *k);
/* store_verify() says yes, and the digest is the writer's. */
void kit_verify(struct kit *k);
struct hash128 kit_digest(const struct kit *k);
#define assert_same_digest(a, b) assert_true(hash128_equal((a), (b)))
