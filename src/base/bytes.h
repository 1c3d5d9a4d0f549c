/* Unaligned little- and big-endian loads and stores. Big-endian where byte order must sort as
 * numbers do (LMDB keys); little-endian everywhere else. */
#pragma once
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define ENDIAN_DEFINE(bits, order, to, from)                                                       \
    static inline void put_u##bits##order(uint8_t *at, uint##bits##_t v) {                         \
        v = to(v);                                                                                 \
        memcpy(at, &v, sizeof v);                                                                  \
    }                                                                                              \
    static inline uint##bits##_t get_u##bits##order(const uint8_t *at) {                           \
        uint##bits##_t v;                                                                          \
        memcpy(&v, at, sizeof v);                                                                  \
        return from(v);                                                                            \
    }
ENDIAN_DEFINE(16, le, htole16, le16toh)
ENDIAN_DEFINE(32, le, htole32, le32toh)
ENDIAN_DEFINE(64, le, htole64, le64toh)
ENDIAN_DEFINE(16, be, htobe16, be16toh)
ENDIAN_DEFINE(32, be, htobe32, be32toh)
ENDIAN_DEFINE(64, be, htobe64, be64toh)
#undef ENDIAN_DEFINE
