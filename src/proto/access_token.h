/* An API token: its text, and the record that the database keeps of it.
 *
 *   text     "ct_" and 64 hexadecimal digits: 256 bits of the operating system's randomness. Shown
 *            once, stored nowhere.
 *   key      the SHA-256 of the text, as 64 hexadecimal digits
 *   id       the first 16 of them: what people and logs call it
 *   record   lines, each ended by "\n", in any order, each verb but read and write at most once:
 *
 *                name NAME               1 to 64 of A-Z a-z 0-9 . _ -
 *                created MILLISECONDS    since 1970
 *                admin                   everything, tokens and members too
 *                deploy                  sites
 *                read PATTERN            see access_list.h
 *                write PATTERN
 *
 * A hash without salt and without stretching is enough: nobody can guess 256 random bits, and no
 * table of them can be made. */
#pragma once
#include "proto/access_list.h"

enum {
    ACCESS_TEXT_BYTES = 3 + 64,
    ACCESS_KEY_BYTES = 64,
    ACCESS_ID_BYTES = 16,
    ACCESS_NAME_BYTES_MAX = 64,
    ACCESS_RECORD_BYTES_MAX = 4096,
};

struct access_token {
    char name[ACCESS_NAME_BYTES_MAX + 1];
    uint64_t created_ms;
    bool admin, deploy;
    struct access_list read, write;
};

/* Whether it has the form of a token's text. */
bool access_text_ok(struct slice text);
bool access_name_ok(struct slice name);
void access_record_append(struct buf *out, const struct access_token *t);
/* Fills a zeroed token; false: malformed, and nothing is left to free. */
bool access_record_parse(struct slice record, struct access_token *ret) WARN_UNUSED;
void access_token_fini(struct access_token *t);

static inline bool access_token_reads(const struct access_token *t, struct slice key) {
    return t->admin || access_list_has_key(&t->read, key);
}
static inline bool access_token_writes(const struct access_token *t, struct slice key) {
    return t->admin || access_list_has_key(&t->write, key);
}
static inline bool access_token_reads_prefix(const struct access_token *t, struct slice prefix) {
    return t->admin || access_list_has_prefix(&t->read, prefix);
}
