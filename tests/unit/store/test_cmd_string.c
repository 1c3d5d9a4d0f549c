/* The commands over strings: what test_redis_differential.py cannot ask Redis (limits, time that
 * passes), and their main lines. */
#include "harness.h"
#include "store/store.h"

#define NOT_FLOAT "-ERR value is not a valid float"
#define TOO_LONG "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"

#define REPLY_TOO_LONG "-ERR the reply would exceed 73400320 bytes"

static void test_set_and_get(void **state) {
    struct harness *h = *state;
    SAYS(h, "GET a", "nil");
    OK(h, "SET a 1");
    SAYS(h, "GET a", "'1'");
    SAYS(h, "SET a 2 NX", "nil");
    OK(h, "SET a 3 XX");
    SAYS(h, "SET b 3 XX", "nil");
    SAYS(h, "SET a 4 GET", "'3'");
    SAYS(h, "SET a 5 NX GET", "'4'");
    SAYS(h, "SET b 5 XX GET", "nil");
    SAYS(h, "GET a", "'4'");
    SAYS(h, "EXISTS b", "0");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "SET h 1 GET", WRONG_TYPE);
    SAYS(h, "GET h", WRONG_TYPE);
    OK(h, "SET h ''");
    SAYS(h, "GET h", "''");
    OK(h, "SET \\00\\ff \\0d\\0a");
    SAYS(h, "GET \\00\\ff", "'\\0d\\0a'");
    h->db = 15;
    SAYS(h, "GET a", "nil");
}

static void test_set_syntax(void **state) {
    struct harness *h = *state;
    static const char *const bad[] = {
        "SET a 1 NX XX",        "SET a 1 EX",           "SET a 1 EX 1 PX 1", "SET a 1 KEEPTTL EX 1",
        "SET a 1 EX 1 KEEPTTL", "SET a 1 PERSIST",      "SET a 1 FOO",       "SET a 1 ''",
        "GETEX a NX",           "GETEX a EX 1 PERSIST", "GETEX a KEEPTTL",   "GETEX a EX"};
    OK(h, "SET a x");
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        SAYS(h, bad[i], SYNTAX);
    SAYS(h, "SET a 1 EX 0", "-ERR invalid expire time in 'set' command");
    SAYS(h, "SET a 1 PX -1", "-ERR invalid expire time in 'set' command");
    SAYS(h, "SET a 1 EX 9223372036854775807", "-ERR invalid expire time in 'set' command");
    SAYS(h, "SET a 1 PX 9223372036854775807", "-ERR invalid expire time in 'set' command");
    SAYS(h, "SET a 1 EX x", NOT_INTEGER);
    SAYS(h, "SETEX a 0 1", "-ERR invalid expire time in 'setex' command");
    SAYS(h, "PSETEX a -5 1", "-ERR invalid expire time in 'psetex' command");
    SAYS(h, "GETEX a PX 0", "-ERR invalid expire time in 'getex' command");
    SAYS(h, "GET a", "'x'");
}

static void test_expiry_passes(void **state) {
    struct harness *h = *state;
    OK(h, "SET a 1 PX 1500");
    SAYS(h, "PTTL a", "1500");
    SAYS(h, "TTL a", "2");
    harness_advance(h, 1001);
    SAYS(h, "TTL a", "0");
    SAYS(h, "PTTL a", "499");
    OK(h, "SET a 2 KEEPTTL");
    SAYS(h, "GETEX a", "'2'");
    SAYS(h, "PTTL a", "499");
    harness_advance(h, 498);
    SAYS(h, "GET a", "'2'");
    harness_advance(h, 1);
    SAYS(h, "GET a", "nil");
    SAYS(h, "TTL a", "-2");
    SAYS(h, "SET a 3 XX", "nil");
    OK(h, "SET a 3 NX");
    SAYS(h, "TTL a", "-1");
    OK(h, "SET b 1 PX 10");
    harness_advance(h, 10);
    SAYS(h, "INCR b", "1");
    SAYS(h, "TTL b", "-1");
    /* A time that has passed deletes. */
    OK(h, "SET a 4 PXAT 1");
    SAYS(h, "EXISTS a", "0");
    OK(h, "SET a 4 PXAT 1 NX");
    SAYS(h, "DBSIZE", "1");
    SAYS(h, "GETEX b EXAT 1", "'1'");
    SAYS(h, "GET b", "nil");
    OK(h, "SETEX c 2 v");
    SAYS(h, "GETEX c PERSIST", "'v'");
    harness_advance(h, 5000);
    SAYS(h, "GETDEL c", "'v'");
    SAYS(h, "GETDEL c", "nil");
}

static void test_many(void **state) {
    struct harness *h = *state;
    OK(h, "MSET a 1 b 2 a 3");
    SAYS(h, "MGET a b c", "['3' '2' nil]");
    SAYS(h, "MSETNX c 1 b 9", "0");
    SAYS(h, "MSETNX c 1 d 9", "1");
    SAYS(h, "SETNX c 2", "0");
    SAYS(h, "SETNX e 2", "1");
    SAYS(h, "MSET a 1 b", "-ERR wrong number of arguments for 'mset' command");
    SAYS(h, "MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command");
    SAYS(h, "GETSET a 4", "'3'");
    SAYS(h, "GETSET new 4", "nil");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "MGET a h e", "['4' nil '2']");
    OK(h, "MSET h 1");
    SAYS(h, "TYPE h", "+string");
}

static void test_parts(void **state) {
    struct harness *h = *state;
    SAYS(h, "APPEND a abc", "3");
    SAYS(h, "APPEND a def", "6");
    SAYS(h, "STRLEN a", "6");
    SAYS(h, "GETRANGE a 1 -2", "'bcde'");
    SAYS(h, "GETRANGE a -2 -3", "''");
    SAYS(h, "SUBSTR a 4 100", "'ef'");
    SAYS(h, "GETRANGE a -9223372036854775808 9223372036854775807", "'abcdef'");
    SAYS(h, "SETRANGE a 8 x", "9");
    SAYS(h, "GET a", "'abcdef\\00\\00x'");
    SAYS(h, "SETRANGE a 0 ''", "9");
    SAYS(h, "SETRANGE none 5 ''", "0");
    SAYS(h, "EXISTS none", "0");
    SAYS(h, "SETRANGE a -1 x", "-ERR offset is out of range");
    SAYS(h, "SETRANGE a x x", NOT_INTEGER);
    SAYS(h, "PEXPIRE a 1000", "1");
    SAYS(h, "SETRANGE a 0 z", "9");
    SAYS(h, "APPEND a z", "10");
    SAYS(h, "PTTL a", "1000");
}

static void test_value_limit(void **state) {
    struct harness *h = *state;
    struct buf big = {0};
    memset(buf_reserve(&big, STORE_VALUE_BYTES_MAX + 1), 'x', STORE_VALUE_BYTES_MAX + 1);
    buf_commit(&big, STORE_VALUE_BYTES_MAX + 1);
    struct slice most = slice_of(big.data, STORE_VALUE_BYTES_MAX), more = buf_slice(&big);
    struct slice key = slice_str("a");
#define BIG(...)                                                                                   \
    run_args(h, (struct slice[]){__VA_ARGS__},                                                     \
             sizeof((struct slice[]){__VA_ARGS__}) / sizeof(struct slice))
    assert_string_equal(BIG(slice_str("SET"), key, more), TOO_LONG);
    assert_string_equal(BIG(slice_str("SETNX"), key, more), TOO_LONG);
    assert_string_equal(BIG(slice_str("GETSET"), key, more), TOO_LONG);
    assert_string_equal(BIG(slice_str("APPEND"), key, more), TOO_LONG);
    assert_string_equal(BIG(slice_str("MSET"), slice_str("b"), key, key, more), TOO_LONG);
    SAYS(h, "EXISTS a b", "0");
    assert_string_equal(BIG(slice_str("SET"), key, most), "+OK");
    SAYS(h, "APPEND a ''", "67108864");
    SAYS(h, "APPEND a x", TOO_LONG);
    SAYS(h, "SETRANGE a 67108863 y", "67108864");
    SAYS(h, "SETRANGE a 67108864 y", TOO_LONG);
    SAYS(h, "SETRANGE b 67108864 y", TOO_LONG);
    SAYS(h, "SETRANGE b 9223372036854775807 y", TOO_LONG);
    SAYS(h, "EXISTS b", "0");
    SAYS(h, "GETRANGE a -1 -1", "'y'");
    /* A reply has its limit, too. */
    SAYS(h, "MGET a a", REPLY_TOO_LONG);
    OK(h, "SET b 1");
    SAYS(h, "TX.EXEC 0 3 0 3 MGET a a 0 2 INCR b 0 2 STRLEN a", "[" REPLY_TOO_LONG " 2 67108864]");
    /* The first value leaves no room for the second, which therefore stays. */
    OK(h, "SET c y");
    SAYS(h, "COPY a c REPLACE", "1");
    run(h, "TX.EXEC 0 3 0 2 GETDEL a 0 2 GETDEL c 0 2 INCR b");
    SAYS(h, "EXISTS a", "0");
    SAYS(h, "STRLEN c", "67108864");
    SAYS(h, "GET b", "'3'");
    buf_fini(&big);
}

static void test_key_limit(void **state) {
    struct harness *h = *state;
    static uint8_t bytes[STORE_KEY_BYTES_MAX + 1];
    memset(bytes, 'k', sizeof bytes);
    struct slice most = slice_of(bytes, sizeof bytes - 1), more = slice_of(bytes, sizeof bytes);
    struct slice v = slice_str("v");
    const char *too_long = "-ERR key exceeds maximum allowed size (65536 bytes)";
    assert_string_equal(BIG(slice_str("SET"), most, v), "+OK");
    assert_string_equal(BIG(slice_str("GET"), most), "'v'");
    assert_string_equal(BIG(slice_str("SET"), more, v), too_long);
    assert_string_equal(BIG(slice_str("GET"), more), too_long);
    assert_string_equal(BIG(slice_str("MSET"), v, v, more, v), too_long);
    assert_string_equal(BIG(slice_str("DEL"), most, more), too_long);
    assert_string_equal(BIG(slice_str("RENAME"), most, more), too_long);
    assert_string_equal(BIG(slice_str("OBJECT"), slice_str("ENCODING"), more), "nil");
    SAYS(h, "DBSIZE", "1");
}

static void test_counting(void **state) {
    struct harness *h = *state;
    SAYS(h, "INCR n", "1");
    SAYS(h, "INCRBY n 41", "42");
    SAYS(h, "DECRBY n 2", "40");
    SAYS(h, "DECR n", "39");
    SAYS(h, "INCRBY n x", NOT_INTEGER);
    SAYS(h, "DECRBY n -9223372036854775808", "-ERR decrement would overflow");
    OK(h, "SET n 9223372036854775807");
    SAYS(h, "INCR n", "-ERR increment or decrement would overflow");
    OK(h, "SET n 01");
    SAYS(h, "INCR n", NOT_INTEGER);
    OK(h, "SET n 10 PX 500");
    SAYS(h, "INCRBYFLOAT n 0.1", "'10.1'");
    SAYS(h, "PTTL n", "500");
    SAYS(h, "INCRBYFLOAT n 5.0e3", "'5010.10000000000000009'");
    SAYS(h, "INCRBYFLOAT n x", NOT_FLOAT);
    SAYS(h, "INCRBYFLOAT n nan", NOT_FLOAT);
    SAYS(h, "INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity");
    SAYS(h, "INCR n", NOT_INTEGER);
    /* What it wrote it can read again, however long. */
    SAYS(h, "TYPE big", "+none");
    run(h, "INCRBYFLOAT big 1e4000");
    SAYS(h, "STRLEN big", "4000");
    run(h, "INCRBYFLOAT big 1e4000");
    SAYS(h, "STRLEN big", "4001");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "INCR h", WRONG_TYPE);
    SAYS(h, "INCRBYFLOAT h x", WRONG_TYPE);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_set_and_get), TEST(test_set_syntax), TEST(test_expiry_passes),
        TEST(test_many),        TEST(test_parts),      TEST(test_value_limit),
        TEST(test_key_limit),   TEST(test_counting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
