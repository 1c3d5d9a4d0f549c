/* TX.EXEC and KV.TXN. */
#include "harness.h"

#include <stdio.h>

#include "store/commands.h"

static long long revision_of(struct harness *h, const char *key) {
    char words[64];
    snprintf(words, sizeof words, "KV.REV %s", key);
    return strtoll(run(h, words) + 1, NULL, 10);
}

static const char *runf(struct harness *h, const char *fmt, ...) {
    char words[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    return run(h, words);
}

static void test_exec(void **state) {
    struct harness *h = *state;
    SAYS(h, "TX.EXEC 0 0", "[]");
    SAYS(h, "TX.EXEC 0 3 0 3 SET a 1 1 3 SET a one 0 2 INCR a", "[+OK +OK 2]");
    SAYS(h, "GET a", "'2'");
    h->db = 1;
    SAYS(h, "GET a", "'one'");
    h->db = 0;
    /* A command sees those before it; one that fails does not stop the others. */
    SAYS(h, "TX.EXEC 0 5 0 4 HSET h f v 0 2 INCR h 0 2 GET a 0 1 FOO 0 2 HGETALL h",
         "[1 " WRONG_TYPE " '2' -ERR unknown command {'f' 'v'}]");
    SAYS(h, "TX.EXEC 0 2 0 1 GET 0 2 DEL h",
         "[-ERR wrong number of arguments for 'get' command 1]");
    SAYS(h, "TX.EXEC 0 2 0 1 PING 0 3 TX.EXEC 0 0",
         "[-ERR 'PING' cannot stand inside a transaction "
         "-ERR 'TX.EXEC' cannot stand inside a transaction]");
    SAYS(h, "TX.EXEC 0 1 0 1 NODE.ALLOC", "[-ERR 'NODE.ALLOC' cannot stand inside a transaction]");
}

static void test_watch(void **state) {
    struct harness *h = *state;
    OK(h, "SET a 1");
    long long before = revision_of(h, "a");
    assert_string_equal(runf(h, "TX.EXEC 2 1 0 a %lld 0 none 0 0 2 INCR a", before), "[2]");
    assert_string_equal(runf(h, "TX.EXEC 1 1 0 a %lld 0 2 INCR a", before), "nil[]");
    assert_string_equal(runf(h, "TX.EXEC 1 1 0 a 0 0 2 INCR a"), "nil[]");
    assert_string_equal(runf(h, "TX.EXEC 1 1 1 a 0 0 2 INCR a"), "[3]");
    /* Expiring is a change, both the order and the moment. */
    before = revision_of(h, "a");
    SAYS(h, "PEXPIRE a 100", "1");
    assert_string_equal(runf(h, "TX.EXEC 1 1 0 a %lld 0 2 INCR a", before), "nil[]");
    before = revision_of(h, "a");
    harness_advance(h, 100);
    assert_string_equal(runf(h, "TX.EXEC 1 1 0 a %lld 0 2 INCR a", before), "nil[]");
    /* One key changed twice in one entry has one revision. */
    SAYS(h, "TX.EXEC 0 2 0 2 INCR a 0 2 INCR a", "[1 2]");
    before = revision_of(h, "a");
    SAYS(h, "INCR a", "3");
    assert_true(revision_of(h, "a") > before);
}

static void test_exec_malformed(void **state) {
    struct harness *h = *state;
    static const char *const bad[] = {"TX.EXEC x 0",
                                      "TX.EXEC 0 x",
                                      "TX.EXEC 0 1",
                                      "TX.EXEC 1 0",
                                      "TX.EXEC 1 0 0 a",
                                      "TX.EXEC 1 0 16 a 0",
                                      "TX.EXEC 1 0 0 a x",
                                      "TX.EXEC 0 1 0",
                                      "TX.EXEC 0 1 0 2 GET",
                                      "TX.EXEC 0 1 16 2 GET a",
                                      "TX.EXEC 0 1 0 0",
                                      "TX.EXEC 0 1 0 2 GET a b",
                                      "TX.EXEC 0 0 x",
                                      "TX.EXEC 0 1 x 2 GET a",
                                      "TX.EXEC 0 1 0 18446744073709551615 a",
                                      "TX.EXEC 18446744073709551615 0",
                                      "TX.EXEC 6148914691236517206 0 0 0"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        SAYS(h, bad[i], "-ERR malformed transaction");
    SAYS(h, "TX.EXEC 0 262145", "-ERR a transaction has at most 262144 commands");
}

static void test_guards(void **state) {
    struct harness *h = *state;
    SAYS(h, "KV.TXN 0 0 0", "[200 []]");
    SAYS(h, "KV.TXN 1 1 1 absent a '' 3 SET a 1 2 GET a", "[200 [+OK]]");
    SAYS(h, "KV.TXN 1 1 1 absent a '' 3 SET a 2 2 GET a", "[412 0 ['1']]");
    SAYS(h, "KV.TXN 2 1 0 exists a '' exists b '' 3 SET a 2", "[412 1 []]");
    SAYS(h, "KV.TXN 2 1 0 exists a '' value a 1 3 SET a 2", "[200 [+OK]]");
    SAYS(h, "KV.TXN 1 1 0 value a 1 3 SET a 3", "[412 0 []]");
    SAYS(h, "KV.TXN 1 1 0 value none '' 3 SET a 3", "[412 0 []]");
    long long revision = revision_of(h, "a");
    assert_string_equal(runf(h, "KV.TXN 1 1 0 rev a %lld 3 SET a 4", revision + 1), "[412 0 []]");
    assert_string_equal(runf(h, "KV.TXN 1 1 0 rev a %lld 3 SET a 4", revision), "[200 [+OK]]");
    SAYS(h, "KV.TXN 1 1 0 rev none 0 3 SET a 5", "[200 [+OK]]");
    SAYS(h, "HSET h f v", "1");
    SAYS(h, "KV.TXN 1 1 0 value h v 3 SET a 6", "[412 0 []]");
    SAYS(h, "KV.TXN 0 2 0 2 INCR a 5 KV.DEL a '' '' ''",
         "-ERR then[1]: wrong number of arguments for 'kv.del' command");
    assert_memory_equal(run(h, "KV.TXN 0 2 0 2 INCR a 4 KV.DEL a '' ''"), "[200 [6 [204 ", 13);
    SAYS(h, "GET a", "nil");
}

/* What can be seen without the state is seen before the first change. */
static void test_checked_first(void **state) {
    struct harness *h = *state;
    OK(h, "SET a 0");
#define THEN(command, error) SAYS(h, "KV.TXN 0 2 0 2 INCR a " command, "-ERR then[1]: " error)
    THEN("4 SET b 1 BAD", "syntax error");
    THEN("5 SET b 1 EX 0", "invalid expire time in 'set' command");
    THEN("3 INCRBY b x", "value is not an integer or out of range");
    THEN("3 DECRBY b -9223372036854775808", "decrement would overflow");
    THEN("3 INCRBYFLOAT b x", "value is not a valid float");
    THEN("4 HINCRBYFLOAT b f x", "value is not a valid float");
    THEN("4 GETEX b EX 0", "invalid expire time in 'getex' command");
    THEN("4 MSET b 1 c", "wrong number of arguments for 'mset' command");
    THEN("3 HSET b f", "wrong number of arguments for 'hset' command");
    THEN("5 HSET b f v g", "wrong number of arguments for 'hset' command");
    THEN("4 EXPIRE b 1 BAD", "Unsupported option BAD");
    THEN("5 COPY b c DB 99", "DB index is out of range");
    THEN("3 MOVE a 0", "source and destination objects are the same");
    THEN("4 SETRANGE b -1 x", "offset is out of range");
    THEN("5 HSCAN none 0 COUNT 0", "syntax error");
    THEN("3 HRANDFIELD none x", "value is not an integer or out of range");
    THEN("2 FLUSHALL BAD", "syntax error");
    THEN("3 OBJECT BAD b", "unknown subcommand 'BAD'. Try OBJECT HELP.");
    THEN("2 FOO b", "unknown command 'FOO', with args beginning with: 'b' ");
    THEN("1 PING", "'PING' cannot stand inside a transaction");
    THEN("4 KV.TXN 0 0 0", "'KV.TXN' cannot stand inside a transaction");
    THEN("4 ONCE.EXEC k INCR n", "'ONCE.EXEC' cannot stand inside a transaction");
    THEN("3 EXPIRE.SWEEP 1 1", "'EXPIRE.SWEEP' cannot stand inside a transaction");
    THEN("7 KV.PUT b v '' x '' ''", "value is not an integer or out of range");
    THEN("6 KV.LIST '' '' '' 0 0", "limit is 1 to 10000, values 0 or 1");
    SAYS(h, "KV.TXN 0 1 2 2 INCR a 2 GET a 4 SET b 1 BAD", "-ERR else[1]: syntax error");
    SAYS(h, "KV.TXN 1 1 0 rev a x 2 INCR a", "-ERR guard 0 needs a revision");
    SAYS(h, "KV.TXN 1 1 0 revision a 1 2 INCR a", "-ERR guard 0 is of an unknown kind");
    SAYS(h, "KV.TXN 0 1 0 2 INCR", "-ERR malformed transaction");
    SAYS(h, "KV.TXN 0 1 0 2 INCR a a", "-ERR malformed transaction");
    SAYS(h, "KV.TXN 1 1 0 2 INCR a", "-ERR guard 0 is of an unknown kind");
    SAYS(h, "KV.TXN 2 1 0 2 INCR a", "-ERR malformed transaction");
    SAYS(h, "KV.TXN -1 1 0 2 INCR a", "-ERR malformed transaction");
    SAYS(h, "KV.TXN 0 262145 0", "-ERR a transaction has at most 262144 commands");
    SAYS(h, "KV.TXN 0 200000 200000", "-ERR a transaction has at most 262144 commands");
    SAYS(h, "GET a", "'0'");
    /* What depends on the state has its error in the list. */
    SAYS(h, "KV.TXN 0 3 0 4 HSET h f v 2 INCR h 2 INCR a", "[200 [1 " WRONG_TYPE " 1]]");
}

/* Every command of the store, looked at with good arguments, changes and answers nothing: a branch
 * that is not taken. */
static void test_looking_changes_nothing(void **state) {
    struct harness *h = *state;
    static const char *const commands[] = {
        "1 DBSIZE",
        "1 FLUSHALL",
        "1 FLUSHDB",
        "3 COPY a b",
        "2 DEL a",
        "2 EXISTS a",
        "3 EXPIRE a 1",
        "3 EXPIREAT a 1",
        "2 EXPIRETIME a",
        "2 KEYS *",
        "3 MOVE a 1",
        "3 OBJECT ENCODING a",
        "2 OBJECT HELP",
        "2 PERSIST t",
        "3 PEXPIRE a 1",
        "3 PEXPIREAT a 1",
        "2 PEXPIRETIME a",
        "2 PTTL a",
        "1 RANDOMKEY",
        "3 RENAME a b",
        "3 RENAMENX a b",
        "2 SCAN 0",
        "2 TOUCH a",
        "2 TTL a",
        "2 TYPE a",
        "2 UNLINK a",
        "3 APPEND a x",
        "2 DECR a",
        "3 DECRBY a 1",
        "2 GET a",
        "2 GETDEL a",
        "4 GETEX a PX 1",
        "4 GETRANGE a 0 1",
        "3 GETSET a x",
        "2 INCR a",
        "3 INCRBY a 1",
        "3 INCRBYFLOAT a 1",
        "2 MGET a",
        "3 MSET a x",
        "3 MSETNX z x",
        "4 PSETEX a 1 x",
        "3 SET a x",
        "4 SETEX a 1 x",
        "3 SETNX z x",
        "4 SETRANGE a 1 x",
        "2 STRLEN a",
        "4 SUBSTR a 0 1",
        "3 HDEL h f",
        "3 HEXISTS h f",
        "3 HGET h f",
        "2 HGETALL h",
        "4 HINCRBY h n 1",
        "4 HINCRBYFLOAT h n 1",
        "2 HKEYS h",
        "2 HLEN h",
        "3 HMGET h f",
        "4 HMSET h f x",
        "2 HRANDFIELD h",
        "3 HSCAN h 0",
        "4 HSET h f x",
        "4 HSETNX h z x",
        "3 HSTRLEN h f",
        "2 HVALS h",
        "5 KV.CHANGES 0 prefix a 1",
        "1 KV.COUNT",
        "4 KV.DEL a '' ''",
        "2 KV.GET a",
        "2 KV.HEAD a",
        "6 KV.INCR a '' '' '' ''",
        "6 KV.LIST '' '' '' 1 0",
        "7 KV.PUT a v '' '' '' ''",
        "2 KV.REV a",
    };
    size_t count, store_commands = 0;
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++)
        store_commands += !(all[i].flags & CMD_CONNECTION) && strncmp(all[i].name, "SITE.", 5) != 0;
    /* All but KV.TXN, TX.EXEC, TX.READ, ONCE.EXEC, those of sites and the nodes' five; OBJECT
     * stands there twice.
     */
    assert_int_equal(ARRAY_COUNT(commands), store_commands - 9 + 1);
    OK(h, "SET a 1");
    OK(h, "SET t 1 PX 100000");
    SAYS(h, "HSET h f v n 5", "2");
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        struct hash128 before = backend_digest(h->backend);
        assert_string_equal(runf(h, "KV.TXN 1 1 0 absent a '' %s", commands[i]), "[412 0 []]");
        assert_true(hash128_equal(before, backend_digest(h->backend)));
        assert_memory_equal(runf(h, "KV.TXN 1 0 1 absent nothing '' %s", commands[i]), "[200 []]",
                            8);
        assert_true(hash128_equal(before, backend_digest(h->backend)));
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exec),   TEST(test_watch),         TEST(test_exec_malformed),
        TEST(test_guards), TEST(test_checked_first), TEST(test_looking_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
