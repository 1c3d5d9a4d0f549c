/* Writing JSON (RFC 8259). Keeps track of commas; the caller keeps the nesting right (CHECKed):
 *
 *   struct json_out j;
 *   json_out_begin(&j, out);
 *   json_out_object(&j);
 *   json_out_key(&j, "keys");
 *   json_out_array(&j);
 *   json_out_u64(&j, 1);
 *   json_out_end(&j, ']');
 *   json_out_end(&j, '}');
 *
 * Numbers are written in full, also where JavaScript would round them (above 2^53). */
#pragma once
#include "base/buf.h"

enum { JSON_OUT_DEPTH_MAX = 32 };
struct json_out {
    struct buf *out;
    int depth;
    bool comma[JSON_OUT_DEPTH_MAX + 1];
    char closer[JSON_OUT_DEPTH_MAX + 1]; /* what ends the level: '}', ']', 0 for the outermost */
    bool after_key;
};
void json_out_begin(struct json_out *j, struct buf *out);
void json_out_object(struct json_out *j);
void json_out_array(struct json_out *j);
void json_out_end(struct json_out *j, char close); /* '}' or ']' */
void json_out_key(struct json_out *j, const char *key);
void json_out_key_slice(struct json_out *j, struct slice key);
/* Bytes that are not UTF-8 become U+FFFD, one for each broken sequence (Unicode 15 section 3.9,
 * table 3-8); ask json_out_is_utf8() first where that matters. */
void json_out_string(struct json_out *j, struct slice s);
void json_out_str(struct json_out *j, const char *s);
void json_out_u64(struct json_out *j, uint64_t v);
void json_out_i64(struct json_out *j, int64_t v);
/* 15 to 17 significant digits, as many as it takes to read back the same; null for infinities and
 * NaN, which JSON lacks. */
void json_out_double(struct json_out *j, double v);
void json_out_bool(struct json_out *j, bool v);
void json_out_null(struct json_out *j);
bool json_out_is_utf8(struct slice s);
void base64_append(struct buf *out, struct slice in); /* RFC 4648 section 4, padded */
