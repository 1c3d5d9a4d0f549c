/* The commands over keys of any type and whole databases. */
#include "harness.h"

#include <stdio.h>

#include "store/store.h"

static void test_existence(void **state) {
    struct harness *h = *state;
    OK(h, "MSET a 1 b 2 c 3");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "EXISTS a a h none", "3");
    SAYS(h, "TOUCH a none", "1");
    SAYS(h, "TYPE a", "+string");
    SAYS(h, "TYPE h", "+hash");
    SAYS(h, "TYPE none", "+none");
    SAYS(h, "DEL a a none h", "2");
    SAYS(h, "UNLINK b none", "1");
    SAYS(h, "DBSIZE", "1");
    SAYS(h, "DEL", "-ERR wrong number of arguments for 'del' command");
}

static void test_databases(void **state) {
    struct harness *h = *state;
    OK(h, "SET a 0");
    h->db = 1;
    OK(h, "MSET a 1 b 1");
    SAYS(h, "DBSIZE", "2");
    OK(h, "FLUSHDB async");
    SAYS(h, "DBSIZE", "0");
    OK(h, "SET a 1");
    h->db = 0;
    SAYS(h, "GET a", "'0'");
    SAYS(h, "FLUSHALL now", SYNTAX);
    SAYS(h, "FLUSHDB sync sync", SYNTAX);
    OK(h, "FLUSHALL");
    SAYS(h, "DBSIZE", "0");
    h->db = 1;
    SAYS(h, "DBSIZE", "0");
}

static void test_expire(void **state) {
    struct harness *h = *state;
    SAYS(h, "EXPIRE a 10", "0");
    OK(h, "SET a 1");
    SAYS(h, "EXPIRE a 10", "1");
    SAYS(h, "PTTL a", "10000");
    SAYS(h, "PEXPIRETIME a", "1010000");
    SAYS(h, "EXPIRETIME a", "1010");
    SAYS(h, "PEXPIREAT a 1020000 NX", "0");
    SAYS(h, "PEXPIREAT a 1020000 LT", "0");
    SAYS(h, "PEXPIREAT a 1010000 GT", "0");
    SAYS(h, "PEXPIREAT a 1020000 GT XX", "1");
    SAYS(h, "EXPIREAT a 1015 LT", "1");
    harness_advance(h, 14999);
    SAYS(h, "PTTL a", "1");
    SAYS(h, "PERSIST a", "1");
    SAYS(h, "PERSIST a", "0");
    SAYS(h, "EXPIRE a 10 XX", "0");
    SAYS(h, "EXPIRE a 10 GT", "0");
    SAYS(h, "EXPIRE a 10 LT", "1");
    harness_advance(h, 10000);
    SAYS(h, "EXISTS a", "0");
    SAYS(h, "EXPIRE a 10", "0");
    SAYS(h, "SETNX a 2", "1");
    SAYS(h, "TTL a", "-1");
    /* The past deletes. */
    SAYS(h, "EXPIRE a -1", "1");
    SAYS(h, "EXISTS a", "0");
    SAYS(h, "HSET a f v", "1");
    SAYS(h, "PEXPIREAT a 1 GT", "0");
    SAYS(h, "PEXPIREAT a 1 LT", "1");
    SAYS(h, "DBSIZE", "0");
    /* Errors. */
    OK(h, "SET a 1");
    SAYS(h, "EXPIRE a x", NOT_INTEGER);
    SAYS(h, "EXPIRE a 1 FOO", "-ERR Unsupported option FOO");
    SAYS(h, "EXPIRE a 1 NX GT",
         "-ERR NX and XX, GT or LT options at the same time are not compatible");
    SAYS(h, "EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible");
    SAYS(h, "EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command");
    SAYS(h, "PEXPIRE a 9223372036854775807", "-ERR invalid expire time in 'pexpire' command");
    SAYS(h, "PEXPIREAT a 9223372036854775807", "1");
    SAYS(h, "PEXPIRETIME a", "9223372036854775807");
}

static void test_sweep(void **state) {
    struct harness *h = *state;
    for (int i = 0; i < 10; i++) {
        char words[64];
        snprintf(words, sizeof words, "SET k%d v PX %d", i, i < 7 ? 100 + i : 100000);
        OK(h, words);
    }
    harness_advance(h, 1000);
    SAYS(h, "KEYS *", "['k7' 'k8' 'k9']");
    SAYS(h, "DBSIZE", "10");
    SAYS(h, "EXPIRE.SWEEP 1001000 5", "5");
    SAYS(h, "EXPIRE.SWEEP 1001000 5", "2");
    SAYS(h, "EXPIRE.SWEEP 1001000 5", "0");
    SAYS(h, "DBSIZE", "3");
    SAYS(h, "EXPIRE.SWEEP x 5", "-ERR now-ms is not a number");
}

static void test_rename(void **state) {
    struct harness *h = *state;
    SAYS(h, "RENAME a b", "-ERR no such key");
    SAYS(h, "RENAMENX a a", "-ERR no such key");
    OK(h, "SET a 1 PX 1000");
    OK(h, "RENAME a a");
    SAYS(h, "RENAMENX a a", "0");
    OK(h, "RENAME a b");
    SAYS(h, "MGET a b", "[nil '1']");
    SAYS(h, "PTTL b", "1000");
    SAYS(h, "HSET h f v g w", "2");
    SAYS(h, "RENAMENX h b", "0");
    OK(h, "RENAME h b");
    SAYS(h, "HGET b g", "'w'");
    SAYS(h, "TTL b", "-1");
    SAYS(h, "DBSIZE", "1");
    /* Over an expired key, which is not there. */
    OK(h, "SET c 1 PX 10");
    harness_advance(h, 10);
    SAYS(h, "RENAMENX b c", "1");
    SAYS(h, "HLEN c", "2");
}

static void test_copy_and_move(void **state) {
    struct harness *h = *state;
    SAYS(h, "COPY a b", "0");
    OK(h, "SET a 1 PX 1000");
    SAYS(h, "COPY a b", "1");
    SAYS(h, "COPY a b", "0");
    SAYS(h, "PTTL b", "1000");
    OK(h, "SET a 2");
    SAYS(h, "COPY a b REPLACE", "1");
    SAYS(h, "TTL b", "-1");
    SAYS(h, "COPY a a", "-ERR source and destination objects are the same");
    SAYS(h, "COPY a a DB 16", "-ERR DB index is out of range");
    SAYS(h, "COPY a a DB", SYNTAX);
    SAYS(h, "COPY a a DB 2 REPLACE", "1");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "COPY h a DB 2", "0");
    SAYS(h, "COPY h a DB 2 REPLACE", "1");
    SAYS(h, "MOVE h 0", "-ERR source and destination objects are the same");
    SAYS(h, "MOVE none 2", "0");
    SAYS(h, "MOVE a 2", "0");
    SAYS(h, "MOVE b 2", "1");
    SAYS(h, "MOVE a x", NOT_INTEGER);
    SAYS(h, "EXISTS b", "0");
    h->db = 2;
    SAYS(h, "HGETALL a", "{'f' 'v'}");
    SAYS(h, "GET b", "'2'");
}

static void test_keys(void **state) {
    struct harness *h = *state;
    SAYS(h, "KEYS *", "[]");
    OK(h, "MSET b 1 a 1 abc 1 ab 1 \\ff 1 '' 1");
    SAYS(h, "HSET abd f v", "1");
    SAYS(h, "KEYS *", "['' 'a' 'ab' 'abc' 'abd' 'b' '\\ff']");
    SAYS(h, "KEYS ab*", "['ab' 'abc' 'abd']");
    SAYS(h, "KEYS ab?", "['abc' 'abd']");
    SAYS(h, "KEYS a", "['a']");
    SAYS(h, "KEYS ''", "['']");
    SAYS(h, "KEYS [^a]", "['b' '\\ff']");
    SAYS(h, "KEYS x*", "[]");
    char words[4200] = "KEYS ";
    memset(words + 5, '*', 4090);
    strcpy(words + 4080, " y");
    SAYS(h, words, "-ERR wrong number of arguments for 'keys' command");
    struct slice args[] = {slice_str("KEYS"), slice_of(words, sizeof words)};
    assert_string_equal(run_args(h, args, 2),
                        "-ERR pattern exceeds maximum allowed size (4096 bytes)");
}

/* Counts how often each of k0 ... k99 comes while keys come and go; those that stay come once. */
static void test_scan(void **state) {
    struct harness *h = *state;
    char words[64];
    int seen[100] = {0}, pages = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(words, sizeof words, "SET k%d v", i);
        OK(h, words);
    }
    uint64_t cursor = 0;
    do {
        char *rest;
        snprintf(words, sizeof words, "SCAN %llu COUNT 7", (unsigned long long)cursor);
        const char *text = run(h, words);
        assert_memory_equal(text, "['", 2);
        cursor = strtoull(text + 2, &rest, 10);
        for (const char *at = rest; (at = strstr(at, "'k")); at++)
            seen[atoi(at + 2)]++;
        snprintf(words, sizeof words, "DEL k%d", 99 - pages);
        run(h, words);
        snprintf(words, sizeof words, "SET k%d w", pages); /* written again, it keeps its place */
        OK(h, words);
        pages++;
    } while (cursor != 0 && pages < 1000);
    assert_int_equal(cursor, 0);
    for (int i = 0; i < 80; i++)
        assert_int_equal(seen[i], 1);
    SAYS(h, "SCAN 0 MATCH k7 COUNT 1000", "['0' ['k7']]");
    SAYS(h, "SCAN 0 MATCH k7 COUNT 1000 TYPE hash", "['0' []]");
    SAYS(h, "SCAN 18446744073709551615", "['0' []]");
    SAYS(h, "SCAN x", "-ERR invalid cursor");
    SAYS(h, "SCAN -1", "-ERR invalid cursor");
    SAYS(h, "SCAN 0 COUNT 0", SYNTAX);
    SAYS(h, "SCAN 0 COUNT", SYNTAX);
    SAYS(h, "SCAN 0 COUNT x", NOT_INTEGER);
}

static void test_randomkey(void **state) {
    struct harness *h = *state;
    SAYS(h, "RANDOMKEY", "nil");
    OK(h, "MSET a 1 b 1 c 1 d 1");
    SAYS(h, "DEL d", "1");
    OK(h, "SET gone 1 PX 5");
    harness_advance(h, 5);
    unsigned seen = 0;
    for (int i = 0; i < 200; i++) {
        const char *text = run(h, "RANDOMKEY");
        assert_int_equal(strlen(text), 3);
        assert_in_range(text[1], 'a', 'c');
        seen |= 1u << (text[1] - 'a');
    }
    assert_int_equal(seen, 7);
}

static void test_object(void **state) {
    struct harness *h = *state;
    SAYS(h, "OBJECT ENCODING none", "nil");
    OK(h, "SET a 123");
    SAYS(h, "OBJECT ENCODING a", "'int'");
    OK(h, "SET a 0123");
    SAYS(h, "object encoding a", "'embstr'");
    OK(h, "SET a 0123456789012345678901234567890123456789012345");
    SAYS(h, "OBJECT ENCODING a", "'raw'");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "OBJECT ENCODING h", "'listpack'");
    for (int i = 0; i < 128; i++) {
        char words[64];
        snprintf(words, sizeof words, "HSET h f%d v", i);
        SAYS(h, words, "1");
    }
    SAYS(h, "OBJECT ENCODING h", "'hashtable'");
    SAYS(h, "OBJECT REFCOUNT h", "1");
    SAYS(h, "OBJECT IDLETIME h", "-ERR the idle time of keys is not tracked");
    SAYS(h, "OBJECT FOO h", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.");
    SAYS(h, "OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command");
    assert_memory_equal(run(h, "OBJECT HELP"), "[+OBJECT", 8);
}

static void test_unknown_and_misplaced(void **state) {
    struct harness *h = *state;
    SAYS(h, "FOO a", "-ERR unknown command 'FOO', with args beginning with: 'a' ");
    SAYS(h, "GET", "-ERR wrong number of arguments for 'get' command");
    SAYS(h, "PING", "-ERR 'PING' is answered by the connection and cannot be stored");
    /* A write on a view is an error, not a change. */
    struct slice args[] = {slice_str("SET"), slice_str("a"), slice_str("1")};
    struct buf out = {0};
    OK(h, "SET a 0");
    buf_reset(&h->packed);
    argv_append(&h->packed, args, 3);
    assert_true(argv_unpack(&h->argv, buf_slice(&h->packed)));
    backend_run(h->backend, h, true, &out);
    assert_true(reply_is_error(buf_slice(&out)));
    buf_fini(&out);
    SAYS(h, "GET a", "'0'");
    SAYS(h, "NODE.ALLOC", "2");
    SAYS(h, "NODE.ALLOC", "3");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_existence),
        TEST(test_databases),
        TEST(test_expire),
        TEST(test_sweep),
        TEST(test_rename),
        TEST(test_copy_and_move),
        TEST(test_keys),
        TEST(test_scan),
        TEST(test_randomkey),
        TEST(test_object),
        TEST(test_unknown_and_misplaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
