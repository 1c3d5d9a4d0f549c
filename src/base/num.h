/* Numbers as Redis reads and writes them. All functions are locale-independent. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Strict decimal: optional '-', no leading zeros or spaces or '+', no overflow (the rule of Redis's
 * string2ll). Returns false and writes nothing otherwise. */
bool num_parse_i64(struct slice s, int64_t *ret_value);
bool num_parse_u64(struct slice s, uint64_t *ret_value);
/* A size as people write it: a number, and K, M, G or T in either case for powers of 1024. */
bool num_parse_bytes(struct slice s, uint64_t *ret_value);
/* A long double as Redis accepts it ("inf", "1e3", hex); rejects empty, spaces before it, NaN,
 * trailing bytes, what is too large or too small, and texts of 5 KiB or more. */
bool num_parse_float(struct slice s, long double *ret_value);
void num_append_i64(struct buf *b, int64_t value);
void num_append_u64(struct buf *b, uint64_t value);
/* 17 digits behind the point, trailing zeros cut: the form INCRBYFLOAT and HINCRBYFLOAT answer. */
void num_append_float(struct buf *b, long double value);
