/* The commands over hashes. Replies in the order of the store are compared with one field only, or
 * by what they hold. */
#include "harness.h"

#include <stdio.h>

#include "store/store.h"

static void test_fields(void **state) {
    struct harness *h = *state;
    SAYS(h, "HGETALL h", "{}");
    SAYS(h, "HKEYS h", "[]");
    SAYS(h, "HMGET h a b", "[nil nil]");
    SAYS(h, "HLEN h", "0");
    SAYS(h, "HSET h a 1 b 2 a 3", "2");
    OK(h, "HMSET h b 4 c 5");
    SAYS(h, "HSETNX h c 6", "0");
    SAYS(h, "HSETNX h d 6", "1");
    SAYS(h, "HMGET h a b c d e", "['3' '4' '5' '6' nil]");
    SAYS(h, "HGET h e", "nil");
    SAYS(h, "HEXISTS h a", "1");
    SAYS(h, "HEXISTS h e", "0");
    SAYS(h, "HSTRLEN h a", "1");
    SAYS(h, "HSTRLEN h e", "0");
    SAYS(h, "HLEN h", "4");
    SAYS(h, "HDEL h a b a e", "2");
    SAYS(h, "HDEL h c d x", "2");
    SAYS(h, "EXISTS h", "0");
    SAYS(h, "HDEL h c", "0");
    SAYS(h, "HSET h '' \\00", "1");
    SAYS(h, "HGETALL h", "{'' '\\00'}");
    SAYS(h, "HSET h a", "-ERR wrong number of arguments for 'hset' command");
    SAYS(h, "HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command");
    SAYS(h, "HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command");
}

static void test_wrong_type(void **state) {
    struct harness *h = *state;
    static const char *const commands[] = {
        "HSET s f v",         "HMSET s f v",     "HSETNX s f v", "HGET s f",
        "HMGET s f",          "HGETALL s",       "HDEL s f",     "HLEN s",
        "HEXISTS s f",        "HKEYS s",         "HVALS s",      "HINCRBY s f 1",
        "HINCRBYFLOAT s f 1", "HSTRLEN s f",     "HSCAN s 0",    "HRANDFIELD s",
        "HRANDFIELD s 0",     "HRANDFIELD s -5", "HSCAN s 0 BAD"};
    OK(h, "SET s v");
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        SAYS(h, commands[i], WRONG_TYPE);
    SAYS(h, "GET s", "'v'");
    OK(h, "SET s v PX 5");
    harness_advance(h, 5);
    SAYS(h, "HSET s f v", "1");
}

static void test_counters(void **state) {
    struct harness *h = *state;
    SAYS(h, "HINCRBY h n 5", "5");
    SAYS(h, "HINCRBY h n -7", "-2");
    SAYS(h, "HINCRBY h n x", NOT_INTEGER);
    SAYS(h, "HSET h n 9223372036854775807 t text", "1");
    SAYS(h, "HINCRBY h n 1", "-ERR increment or decrement would overflow");
    SAYS(h, "HINCRBY h t 1", "-ERR hash value is not an integer");
    SAYS(h, "HINCRBYFLOAT h t 1", "-ERR hash value is not a float");
    SAYS(h, "HINCRBYFLOAT h f 10.5", "'10.5'");
    SAYS(h, "HINCRBYFLOAT h f 0.1", "'10.6'");
    SAYS(h, "HINCRBYFLOAT h f x", "-ERR value is not a valid float");
    SAYS(h, "HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity");
    SAYS(h, "HINCRBY none n x", NOT_INTEGER);
    SAYS(h, "EXISTS none", "0");
    SAYS(h, "PEXPIRE h 100", "1");
    SAYS(h, "HINCRBY h m 1", "1");
    SAYS(h, "PTTL h", "100");
}

static void add_fields(struct harness *h, int count) {
    for (int i = 0; i < count; i++) {
        char words[64];
        snprintf(words, sizeof words, "HSET h f%d v%d", i, i);
        SAYS(h, words, "1");
    }
}

/* Counts the fields named in a reply; each value must be its field's. */
static void count_fields(const char *text, int *seen, bool with_values) {
    for (const char *at = text; (at = strstr(at, "'f")); at++) {
        int i = atoi(at + 2);
        char pair[64];
        seen[i]++;
        snprintf(pair, sizeof pair, "'f%d' 'v%d'", i, i);
        if (with_values)
            assert_memory_equal(at, pair, strlen(pair));
    }
}

static void test_all(void **state) {
    struct harness *h = *state;
    int seen[50] = {0};
    add_fields(h, 50);
    count_fields(run(h, "HGETALL h"), seen, true);
    count_fields(run(h, "HKEYS h"), seen, false);
    for (int i = 0; i < 50; i++)
        assert_int_equal(seen[i], 2);
    char *values = strdup(run(h, "HVALS h"));
    assert_non_null(strstr(values, "'v49'"));
    free(values);
}

static void test_scan(void **state) {
    struct harness *h = *state;
    enum { COUNT = 300 };
    int seen[COUNT] = {0}, pages = 0;
    SAYS(h, "HSCAN h 0", "['0' []]");
    SAYS(h, "HSCAN h 0 BAD", "['0' []]"); /* Redis looks at the key first */
    SAYS(h, "HSCAN h x", "-ERR invalid cursor");
    add_fields(h, 100);
    SAYS(h, "HSCAN h 0 BAD", SYNTAX);
    SAYS(h, "HSCAN h 0 TYPE hash", SYNTAX);
    count_fields(run(h, "HSCAN h 0 COUNT 3"), seen, true); /* small hashes come whole */
    for (int i = 0; i < 100; i++)
        assert_int_equal(seen[i]--, 1);
    SAYS(h, "DEL h", "1");
    add_fields(h, COUNT);
    uint64_t cursor = 0;
    do {
        char words[64];
        snprintf(words, sizeof words, "HSCAN h %llu COUNT 7", (unsigned long long)cursor);
        const char *text = run(h, words);
        cursor = strtoull(text + 2, NULL, 10);
        count_fields(text, seen, true);
        snprintf(words, sizeof words, "HDEL h f%d", COUNT - 1 - pages);
        run(h, words);
        pages++;
    } while (cursor != 0 && pages < 1000);
    assert_int_equal(cursor, 0);
    assert_true(pages > 10);
    for (int i = 0; i < COUNT - pages; i++)
        assert_int_equal(seen[i], 1);
    SAYS(h, "HSCAN h 0 MATCH f7 COUNT 1000", "['0' ['f7' 'v7']]");
    SAYS(h, "HSCAN h 18446744073709551615", "['0' []]");
    SAYS(h, "HSCAN h 9223372036854775808", "['0' []]");
}

static void test_random(void **state) {
    struct harness *h = *state;
    int seen[10] = {0};
    SAYS(h, "HRANDFIELD h", "nil");
    SAYS(h, "HRANDFIELD h 3", "[]");
    add_fields(h, 10);
    for (int i = 0; i < 200; i++)
        count_fields(run(h, "HRANDFIELD h"), seen, false);
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 1, 190);
    for (int i = 0; i < 20; i++) {
        int distinct[10] = {0}, sum = 0;
        count_fields(run(h, "HRANDFIELD h 7 WITHVALUES"), distinct, true);
        for (int f = 0; f < 10; f++) {
            assert_true(distinct[f] <= 1);
            sum += distinct[f];
        }
        assert_int_equal(sum, 7);
    }
    int repeated[10] = {0}, sum = 0;
    count_fields(run(h, "HRANDFIELD h -100 WITHVALUES"), repeated, true);
    for (int f = 0; f < 10; f++)
        sum += repeated[f];
    assert_int_equal(sum, 100);
    SAYS(h, "HRANDFIELD h 0", "[]");
    SAYS(h, "HRANDFIELD h -2 BAD", SYNTAX);
    SAYS(h, "HRANDFIELD h x", NOT_INTEGER);
    SAYS(h, "HRANDFIELD h -9223372036854775807 WITHVALUES", "-ERR value is out of range");
    SAYS(h, "HRANDFIELD h -1048577",
         "-ERR value is out of range, at most 1048576 fields can be asked for");
}

static void test_limits(void **state) {
    struct harness *h = *state;
    static uint8_t bytes[STORE_KEY_BYTES_MAX + 1];
    memset(bytes, 'f', sizeof bytes);
    struct slice key = slice_str("h"), v = slice_str("v");
    struct slice most = slice_of(bytes, sizeof bytes - 1), more = slice_of(bytes, sizeof bytes);
    const char *too_long = "-ERR field exceeds maximum allowed size (65536 bytes)";
#define BIG(...)                                                                                   \
    run_args(h, (struct slice[]){__VA_ARGS__},                                                     \
             sizeof((struct slice[]){__VA_ARGS__}) / sizeof(struct slice))
    assert_string_equal(BIG(slice_str("HSET"), key, v, v, more, v), too_long);
    SAYS(h, "EXISTS h", "0");
    assert_string_equal(BIG(slice_str("HSET"), key, most, v), "1");
    assert_string_equal(BIG(slice_str("HGET"), key, most), "'v'");
    assert_string_equal(BIG(slice_str("HGET"), key, more), too_long);
    assert_string_equal(BIG(slice_str("HDEL"), key, most, more), too_long);
    struct buf big = {0};
    memset(buf_reserve(&big, STORE_VALUE_BYTES_MAX + 1), 'x', STORE_VALUE_BYTES_MAX + 1);
    buf_commit(&big, STORE_VALUE_BYTES_MAX + 1);
    assert_string_equal(BIG(slice_str("HSET"), key, v, v, key, buf_slice(&big)),
                        "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    SAYS(h, "HLEN h", "1");
    big.size--;
    assert_string_equal(BIG(slice_str("HSET"), key, v, buf_slice(&big), key, buf_slice(&big)), "2");
    buf_fini(&big);
    SAYS(h, "HSTRLEN h v", "67108864");
    SAYS(h, "HGETALL h", "-ERR the reply would exceed 73400320 bytes");
    SAYS(h, "HMGET h v h", "-ERR the reply would exceed 73400320 bytes");
    SAYS(h, "HRANDFIELD h -1000 WITHVALUES", "-ERR the reply would exceed 73400320 bytes");
    SAYS(h, "HRANDFIELD h 3 WITHVALUES", "-ERR the reply would exceed 73400320 bytes");
    assert_memory_equal(run(h, "HSCAN h 0"), "['", 2); /* a page of less */
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_fields), TEST(test_wrong_type), TEST(test_counters), TEST(test_all),
        TEST(test_scan),   TEST(test_random),     TEST(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
