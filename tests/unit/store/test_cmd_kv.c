/* The internal commands behind HTTP. */
#include "harness.h"

#include <stdio.h>

/* Runs a command made with printf(). */
static const char *runf(struct harness *h, const char *fmt, ...) {
    char words[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return run(h, words);
}

static uint64_t revision_of(struct harness *h, const char *key) {
    return (uint64_t)strtoull(runf(h, "KV.REV %s", key) + 1, NULL, 10);
}

/* The first number of a reply that is a list. */
static int status_of(const char *text) {
    assert_int_equal(text[0], '[');
    return atoi(text + 1);
}

static void test_put_and_get(void **state) {
    struct harness *h = *state;
    char want[128];
    SAYS(h, "KV.GET a", "nil");
    SAYS(h, "KV.HEAD a", "nil");
    assert_int_equal(status_of(run(h, "KV.PUT a hello text/plain '' '' ''")), 201);
    uint64_t revision = revision_of(h, "a");
    assert_true(revision > 0);
    snprintf(want, sizeof want, "[%llu 0 'text/plain' 'hello']", (unsigned long long)revision);
    SAYS(h, "KV.GET a", want);
    snprintf(want, sizeof want, "[%llu 0 'text/plain' 5]", (unsigned long long)revision);
    SAYS(h, "KV.HEAD a", want);
    SAYS(h, "GET a", "'hello'");
    const char *text = run(h, "KV.PUT a bye '' 5000 '' ''");
    assert_int_equal(status_of(text), 204);
    assert_non_null(strstr(text, " 1005000]"));
    assert_true(revision_of(h, "a") > revision);
    assert_non_null(strstr(run(h, "KV.GET a"), " 1005000 '' 'bye']"));
    assert_non_null(strstr(run(h, "KV.PUT a bye2 '' keep '' ''"), " 1005000]"));
    harness_advance(h, 4999);
    SAYS(h, "PTTL a", "1");
    assert_non_null(strstr(run(h, "KV.PUT a bye3 '' '' '' ''"), " 0]"));
    SAYS(h, "TTL a", "-1");
    assert_non_null(strstr(run(h, "KV.PUT new v '' keep '' ''"), " 0]"));
    /* Changes in place keep the content type, a new value drops it. */
    run(h, "KV.PUT n 1 text/x '' '' ''");
    SAYS(h, "INCR n", "2");
    SAYS(h, "APPEND n 0", "2");
    SAYS(h, "PEXPIRE n 10", "1");
    assert_non_null(strstr(run(h, "KV.GET n"), "'text/x' '20'"));
    OK(h, "SET n 5");
    assert_non_null(strstr(run(h, "KV.GET n"), "'' '5'"));
}

static void test_put_errors(void **state) {
    struct harness *h = *state;
    char type[300];
    SAYS(h, "KV.PUT a v '' 0 '' ''", "-ERR invalid expire time in 'kv.put' command");
    SAYS(h, "KV.PUT a v '' -5 '' ''", "-ERR invalid expire time in 'kv.put' command");
    SAYS(h, "KV.PUT a v '' x '' ''", NOT_INTEGER);
    SAYS(h, "KV.PUT a v '' '' x ''", "-ERR a condition is \"*\" or revisions joined by commas");
    SAYS(h, "KV.PUT a v '' '' '' 1,,2", "-ERR a condition is \"*\" or revisions joined by commas");
    SAYS(h, "KV.PUT a v '' '' '' 1,", "-ERR a condition is \"*\" or revisions joined by commas");
    memset(type, 't', sizeof type);
    type[256] = 0;
    assert_string_equal(runf(h, "KV.PUT a v %s '' '' ''", type),
                        "-ERR content type exceeds maximum allowed size (255 bytes)");
    assert_int_equal(status_of(runf(h, "KV.PUT a v %s '' '' ''", type + 1)), 201);
    SAYS(h, "APPEND a x", "2");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "KV.PUT h v '' '' '' ''", WRONG_TYPE);
    SAYS(h, "KV.GET h", WRONG_TYPE);
    SAYS(h, "KV.HEAD h", WRONG_TYPE);
    SAYS(h, "KV.INCR h '' '' '' ''", WRONG_TYPE);
    /* Deleting does not ask what it was. */
    unsigned long long revision = revision_of(h, "h");
    assert_true(revision > 0);
    assert_int_equal(status_of(runf(h, "KV.DEL h %llu ''", revision + 1)), 412);
    assert_int_equal(status_of(runf(h, "KV.DEL h %llu ''", revision)), 204);
    SAYS(h, "HLEN h", "0");
}

static void test_conditions(void **state) {
    struct harness *h = *state;
    SAYS(h, "KV.PUT a v '' '' * ''", "[412 0]");
    SAYS(h, "KV.PUT a v '' '' 5 ''", "[412 0]");
    assert_int_equal(status_of(run(h, "KV.PUT a v '' '' '' *")), 201);
    unsigned long long first = revision_of(h, "a");
    assert_int_equal(status_of(run(h, "KV.PUT a v '' '' '' *")), 412);
    assert_int_equal(status_of(runf(h, "KV.PUT a v '' '' %llu ''", first + 1)), 412);
    assert_int_equal(status_of(runf(h, "KV.PUT a v '' '' '' 7,%llu", first)), 412);
    assert_int_equal(status_of(runf(h, "KV.PUT a v '' '' 7,%llu,9 ''", first)), 204);
    assert_int_equal(status_of(runf(h, "KV.PUT a v '' '' '' %llu", first)), 204);
    assert_int_equal(status_of(run(h, "KV.PUT a v '' '' * ''")), 204);
    assert_int_equal(status_of(run(h, "KV.PUT b v '' '' '' 3")), 201);
    unsigned long long now = revision_of(h, "a");
    assert_int_equal(status_of(runf(h, "KV.DEL a %llu ''", first)), 412);
    const char *text = runf(h, "KV.DEL a %llu ''", now);
    assert_int_equal(status_of(text), 204);
    assert_true(strtoull(text + 5, NULL, 10) > now);
    SAYS(h, "KV.DEL a '' ''", "[404 0]");
    SAYS(h, "KV.DEL a * ''", "[412 0]");
    assert_int_equal(revision_of(h, "a"), 0);
}

static void test_incr(void **state) {
    struct harness *h = *state;
    assert_memory_equal(run(h, "KV.INCR n '' '' '' ''"), "[200 1 ", 7);
    assert_memory_equal(run(h, "KV.INCR n 5 '' 6 ''"), "[200 6 ", 7);
    char want[64];
    snprintf(want, sizeof want, "[409 6 %llu]", (unsigned long long)revision_of(h, "n"));
    SAYS(h, "KV.INCR n 1 '' 6 ''", want);
    assert_memory_equal(run(h, "KV.INCR n -6 0 '' ''"), "[200 0 ", 7);
    assert_memory_equal(run(h, "KV.INCR n -1 0 '' ''"), "[409 0 ", 7);
    SAYS(h, "KV.INCR fresh 5 '' 4 ''", "[409 0 0]");
    SAYS(h, "EXISTS fresh", "0");
    OK(h, "SET n 9223372036854775807");
    SAYS(h, "KV.INCR n 1 '' '' ''", "-ERR increment or decrement would overflow");
    assert_int_equal(status_of(run(h, "KV.INCR n 1 '' 9223372036854775807 ''")), 409);
    assert_memory_equal(run(h, "KV.INCR n -9223372036854775808 '' '' ''"), "[200 -1 ", 8);
    OK(h, "SET n -5");
    SAYS(h, "KV.INCR n -9223372036854775808 '' '' ''",
         "-ERR increment or decrement would overflow");
    assert_int_equal(status_of(run(h, "KV.INCR n -9223372036854775808 0 '' ''")), 409);
    OK(h, "SET n text");
    SAYS(h, "KV.INCR n 1 '' '' ''", NOT_INTEGER);
    SAYS(h, "KV.INCR n x '' '' ''", NOT_INTEGER);
    /* A window begins with its first event, and the next ones do not draw it out. */
    run(h, "KV.INCR w 1 '' 2 1000");
    harness_advance(h, 600);
    assert_memory_equal(run(h, "KV.INCR w 1 '' 2 1000"), "[200 2 ", 7);
    SAYS(h, "PTTL w", "400");
    assert_int_equal(status_of(run(h, "KV.INCR w 1 '' 2 1000")), 409);
    harness_advance(h, 400);
    assert_memory_equal(run(h, "KV.INCR w 1 '' 2 1000"), "[200 1 ", 7);
}

static void test_count(void **state) {
    struct harness *h = *state;
    SAYS(h, "KV.COUNT", "[0 0]");
    OK(h, "MSET a 1 b 1 c 1");
    SAYS(h, "EXPIRE a 10", "1");
    SAYS(h, "PEXPIRE a 20000", "1");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "EXPIRE h 100", "1");
    SAYS(h, "KV.COUNT", "[4 2]");
    SAYS(h, "PERSIST h", "1");
    SAYS(h, "COPY a d", "1");
    SAYS(h, "MOVE d 5", "1");
    OK(h, "RENAME a b");
    SAYS(h, "KV.COUNT", "[3 1]");
    harness_advance(h, 20000);
    SAYS(h, "KV.COUNT", "[3 1]"); /* not yet swept */
    OK(h, "SET b 1");
    SAYS(h, "KV.COUNT", "[3 0]");
    h->db = 5;
    SAYS(h, "KV.COUNT", "[1 1]");
    OK(h, "FLUSHDB");
    SAYS(h, "KV.COUNT", "[0 0]");
    h->db = 0;
    SAYS(h, "EXPIRE b 1", "1");
    SAYS(h, "KV.COUNT", "[3 1]");
    OK(h, "FLUSHALL");
    SAYS(h, "KV.COUNT", "[0 0]");
}

/* What a page says: the names of its keys, its common prefixes, and where it goes on. */
static const char *list(struct harness *h, const char *words) {
    static char text[2048];
    struct buf copy = {0}, out = {0};
    run(h, words);
    buf_append_slice(&copy, buf_slice(&h->reply));
    struct slice in = buf_slice(&copy);
    struct reply_item item;
    assert_true(reply_next(&in, &item) && item.type == '*' && item.integer == 4);
    assert_true(reply_next(&in, &item) && item.type == ':');
    assert_true(reply_next(&in, &item));
    struct reply_item next = item;
    assert_true(reply_next(&in, &item) && item.type == '*');
    for (int64_t i = item.integer; i > 0; i--) {
        struct reply_item key;
        assert_true(reply_next(&in, &key) && key.type == '*' && key.integer == 7);
        assert_true(reply_next(&in, &key) && key.type == '$');
        buf_printf(&out, "%.*s ", (int)key.bytes.size, (const char *)key.bytes.data);
        for (int part = 1; part < 7; part++)
            assert_true(reply_skip(&in));
    }
    buf_append_str(&out, "|");
    assert_true(reply_next(&in, &item) && item.type == '*');
    for (int64_t i = item.integer; i > 0; i--) {
        assert_true(reply_next(&in, &item) && item.type == '$');
        buf_printf(&out, " %.*s", (int)item.bytes.size, (const char *)item.bytes.data);
    }
    assert_int_equal(in.size, 0);
    if (next.type == '$')
        buf_printf(&out, " > %.*s", (int)next.bytes.size, (const char *)next.bytes.data);
    assert_true(out.size < sizeof text);
    memcpy(text, out.data, out.size);
    text[out.size] = 0;
    buf_fini(&copy);
    buf_fini(&out);
    return text;
}
#define LISTS(words, want) assert_string_equal(list(h, words), want)

static void test_list(void **state) {
    struct harness *h = *state;
    LISTS("KV.LIST '' '' '' 10 0", "|");
    OK(h, "MSET a 1 a/b 1 a/b/c 1 a/d 1 a0 1 b 1 b/ 1 b/x 1 \\ff/x 1 \\ff/y 1");
    LISTS("KV.LIST '' '' '' 100 0", "a a/b a/b/c a/d a0 b b/ b/x \xff/x \xff/y |");
    LISTS("KV.LIST '' '' '' 3 0", "a a/b a/b/c | > a/b/c");
    LISTS("KV.LIST '' '' a/b/c 3 0", "a/d a0 b | > b");
    LISTS("KV.LIST '' '' b 4 0", "b/ b/x \xff/x \xff/y |");
    LISTS("KV.LIST a '' '' 10 0", "a a/b a/b/c a/d a0 |");
    LISTS("KV.LIST a/ '' '' 10 0", "a/b a/b/c a/d |");
    LISTS("KV.LIST a/ '' a/b 10 0", "a/b/c a/d |");
    LISTS("KV.LIST a/ '' 0 10 0", "a/b a/b/c a/d |");
    LISTS("KV.LIST a/ '' z 10 0", "|");
    /* With a delimiter. */
    LISTS("KV.LIST '' / '' 10 0", "a a0 b | a/ b/ \xff/");
    LISTS("KV.LIST '' / '' 1 0", "a | > a");
    LISTS("KV.LIST '' / a 1 0", "| a/ > a/");
    LISTS("KV.LIST '' / a/ 2 0", "a0 b | > b");
    LISTS("KV.LIST '' / b 1 0", "| b/ > b/");
    LISTS("KV.LIST '' / b/ 1 0", "| \xff/");
    LISTS("KV.LIST '' / \\ff/ 1 0", "|");
    LISTS("KV.LIST a/ / '' 10 0", "a/b a/d | a/b/");
    LISTS("KV.LIST a/ / a/b/ 10 0", "a/d |");
    LISTS("KV.LIST '' /x '' 10 0", "a a/b a/b/c a/d a0 b b/ \xff/y | b/x \xff/x");
    LISTS("KV.LIST '' / a/b 10 0", "a0 b | a/ b/ \xff/");
    /* The last byte of a common prefix may be the last there is. */
    OK(h, "FLUSHALL");
    OK(h, "MSET x\\ff\\ffa 1 x\\ff\\ffb 1 y 1");
    LISTS("KV.LIST '' \\ff\\ff '' 10 0", "y | x\xff\xff");
    LISTS("KV.LIST '' \\ff\\ff x\\ff\\ff 10 0", "y |");
    LISTS("KV.LIST x \\ff\\ff '' 1 0", "| x\xff\xff");
    OK(h, "FLUSHALL");
    OK(h, "MSET \\ff\\ff\\ffa 1 \\ff\\ffb 1");
    LISTS("KV.LIST '' \\ff\\ff '' 10 0", "| \xff\xff");
}

static void test_list_details(void **state) {
    struct harness *h = *state;
    run(h, "KV.PUT a hello text/plain 500 '' ''");
    SAYS(h, "HSET h f v g w", "2");
    char want[256];
    unsigned long long a = revision_of(h, "a"), hash = revision_of(h, "h");
    const char *text = run(h, "KV.LIST '' '' '' 10 1");
    snprintf(want, sizeof want,
             " nil [['a' %llu 1000500 'string' 5 'text/plain' 'hello'] "
             "['h' %llu 0 'hash' 2 '' nil]] []]",
             a, hash);
    assert_non_null(strstr(text, want));
    assert_non_null(strstr(run(h, "KV.LIST '' '' '' 1 0"), "'text/plain' nil]"));
    harness_advance(h, 500);
    LISTS("KV.LIST '' '' '' 10 0", "h |");
    SAYS(h, "KV.LIST '' '' '' 0 0", "-ERR limit is 1 to 10000, values 0 or 1");
    SAYS(h, "KV.LIST '' '' '' 10001 0", "-ERR limit is 1 to 10000, values 0 or 1");
    SAYS(h, "KV.LIST '' '' '' 1 2", "-ERR limit is 1 to 10000, values 0 or 1");
    SAYS(h, "KV.LIST '' '' '' x 0", "-ERR limit is not a number");
    /* Values beyond 64 KiB are left out. */
    SAYS(h, "SETRANGE big 65535 x", "65536");
    SAYS(h, "SETRANGE bigger 65536 x", "65537");
    char *page = strdup(run(h, "KV.LIST big '' '' 10 1"));
    assert_non_null(strstr(page, "'big' "));
    assert_non_null(strstr(page, "65537 '' nil]"));
    assert_null(strstr(page, "65536 '' nil]"));
    free(page);
}

/* Walks a tree page by page, with every size of a page, and finds each name once. */
static void test_list_pages(void **state) {
    struct harness *h = *state;
    OK(h, "MSET x y d w");
    for (int i = 0; i < 60; i++)
        assert_string_equal(runf(h, "SET d%d/%d v", i % 7, i), "+OK");
    for (int limit = 1; limit < 12; limit++) {
        char after[64] = "''";
        int keys = 0, prefixes = 0;
        for (int page = 0; page < 100; page++) {
            char words[128];
            snprintf(words, sizeof words, "KV.LIST '' / %s %d 0", after, limit);
            const char *text = list(h, words);
            const char *bar = strchr(text, '|'), *next = strstr(text, " > ");
            for (const char *at = text; at < bar; at++)
                keys += *at == ' ';
            for (const char *at = bar; *at && at != next; at++)
                prefixes += *at == '/';
            if (!next)
                break;
            snprintf(after, sizeof after, "%s", next + 3);
        }
        assert_int_equal(keys, 2);
        assert_int_equal(prefixes, 7);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_put_and_get),  TEST(test_put_errors), TEST(test_conditions),
        TEST(test_incr),         TEST(test_count),      TEST(test_list),
        TEST(test_list_details), TEST(test_list_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
