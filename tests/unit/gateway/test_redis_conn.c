/* The Redis protocol at the gateway: handshake, dispatch, transactions, order. */
#include <stdio.h>

#include "bench.h"
#include "gateway/redis_conn.h"
#include "store/commands.h"

#define NOT_FOUND "$-1\r\n"

static void test_small_talk(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "PING\r\n", "+PONG\r\n");
    bench_talk(b, f, "*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n", "$2\r\nhi\r\n");
    bench_talk(b, f, "ECHO \"a b\"\r\n", "$3\r\na b\r\n");
    bench_talk(b, f, "PING a b\r\n", "-ERR wrong number of arguments for 'ping' command\r\n");
    bench_talk(b, f, "NOSUCH a b\r\n",
               "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \r\n");
    bench_talk(b, f, "KV.GET a\r\n",
               "-ERR unknown command 'KV.GET', with args beginning with: 'a' \r\n");
    bench_talk(b, f, "GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n");
    bench_talk(b, f, "TIME\r\n", "*2\r\n$9\r\n784111777\r\n$1\r\n0\r\n");
    bench_talk(b, f, "SELECT 1\r\nSELECT 16\r\nSELECT x\r\n",
               "+OK\r\n-ERR DB index is out of range\r\n"
               "-ERR value is not an integer or out of range\r\n");
    bench_talk(b, f, "QUIT\r\nPING\r\n", "+OK\r\n");
    assert_true(f->closed);
    bench_free(b);
}

static void test_data(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "SET a 1\r\nGET a\r\nINCR a\r\nGET a\r\nDEL a\r\nGET a\r\n",
               "+OK\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n:1\r\n" NOT_FOUND);
    bench_talk(b, f, "SELECT 3\r\nSET a x\r\nSELECT 0\r\nGET a\r\nSELECT 3\r\nGET a\r\n",
               "+OK\r\n+OK\r\n+OK\r\n" NOT_FOUND "+OK\r\n$1\r\nx\r\n");
    bench_talk(b, f, "HSET h f v\r\nGET h\r\n",
               ":1\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
    bench_free(b);
}

/* Keys around the size up to which a read's arguments stay in the request, alone and pipelined. */
static void test_sizes_of_reads(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    struct buf send = {0}, expect = {0};
    for (int size = 1; size < 140; size++) {
        buf_reset(&send);
        buf_reset(&expect);
        buf_printf(&send, "SET %0*d v\r\n", size, 7);
        buf_append_str(&expect, "+OK\r\n");
        for (int i = 0; i < 3; i++) {
            buf_printf(&send, "GET %0*d\r\nMGET %0*d none %0*d\r\n", size, 7, size, 7, size, 7);
            buf_append_str(&expect, "$1\r\nv\r\n*3\r\n$1\r\nv\r\n$-1\r\n$1\r\nv\r\n");
        }
        buf_append_char(&send, 0);
        buf_append_char(&expect, 0);
        bench_talk(b, f, (const char *)send.data, (const char *)expect.data);
    }
    buf_fini(&send);
    buf_fini(&expect);
    bench_free(b);
}

/* A client goes away while its reads are under way. */
static void test_gone_with_reads_under_way(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    assert_true(fake_stream_feed_str(f, "GET a\r\nGET b\r\n"));
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 2);
    bench_hang_up(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 0);
    bench_free(b);
}

static void test_hello(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n");
    bench_talk(b, f, "HELLO x\r\n", "-ERR Protocol version is not an integer or out of range\r\n");
    bench_talk(b, f, "HELLO 3 WHAT\r\n", "-ERR Syntax error in HELLO option 'WHAT'\r\n");
    bench_talk(b, f, "HELLO 3 AUTH bob pw\r\n",
               "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    bench_talk(b, f, "GET none\r\n", NOT_FOUND);
    bench_talk(b, f, "HELLO 3 AUTH default pw SETNAME me\r\n",
               "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n"
               "$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
               "$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n");
    bench_talk(b, f, "GET none\r\n", "_\r\n");
    bench_talk(b, f, "CLIENT GETNAME\r\n", "$2\r\nme\r\n");
    bench_talk(b, f, "HSET h f v\r\nHGETALL h\r\n", ":1\r\n%1\r\n$1\r\nf\r\n$1\r\nv\r\n");
    bench_talk(b, f, "RESET\r\nHGETALL h\r\nCLIENT GETNAME\r\n",
               "+RESET\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n" NOT_FOUND);
    bench_talk(b, f, "AUTH pw\r\n",
               "-ERR AUTH <password> called without any password configured for the default "
               "user. Are you sure your configuration is correct?\r\n");
    bench_talk(b, f, "AUTH default pw\r\n", "+OK\r\n");
    bench_free(b);
}

/* The version is that of the moment a command was asked, not of the moment it is answered. */
static void test_version_of_asking(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    fake_stream_feed_str(f, "GET a\r\nHELLO 3\r\nGET a\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 2);
    fake_upstream_answer(b->up, 1);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    const char *text = bench_received(f);
    assert_memory_equal(text, "$-1\r\n%7\r\n", 9);
    assert_string_equal(text + strlen(text) - 3, "_\r\n");
    bench_free(b);
}

static void test_client(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b), *other = bench_redis(b);
    bench_talk(b, f, "CLIENT ID\r\n", ":1\r\n");
    bench_talk(b, other, "CLIENT ID\r\n", ":2\r\n");
    bench_talk(b, f, "CLIENT SETNAME worker-1\r\n", "+OK\r\n");
    bench_talk(b, f, "CLIENT SETNAME \"a b\"\r\n",
               "-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
    bench_talk(b, f, "CLIENT SETINFO LIB-NAME redis-py\r\n", "+OK\r\n");
    bench_talk(b, f, "CLIENT SETINFO lib-ver 5.0\r\n", "+OK\r\n");
    bench_talk(b, f, "CLIENT SETINFO lib-what 5.0\r\n", "-ERR Unrecognized option 'lib-what'\r\n");
    bench_talk(b, f, "CLIENT MAINT_NOTIFICATIONS ON\r\n",
               "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n");
    bench_talk(b, f, "CLIENT SETNAME\r\n",
               "-ERR wrong number of arguments for 'client|setname' command\r\n");
    bench_talk(b, f, "CLIENT NO-EVICT on\r\n", "+OK\r\n");
    bench_feed(b, f, slice_str("CLIENT INFO\r\n"), SIZE_MAX);
    const char *text = bench_received(f);
    assert_non_null(strstr(text, "id=1 addr=192.0.2.1:1234 "));
    assert_non_null(strstr(text, " name=worker-1 "));
    assert_non_null(strstr(text, " lib-name=redis-py lib-ver=5.0\n"));
    assert_null(strstr(text, "id=2 "));
    bench_feed(b, other, slice_str("CLIENT LIST\r\n"), SIZE_MAX);
    text = bench_received(other);
    assert_non_null(strstr(text, "id=1 "));
    assert_non_null(strstr(text, "id=2 "));
    bench_feed(b, other, slice_str("CLIENT LIST ID 1 77\r\n"), SIZE_MAX);
    text = bench_received(other);
    assert_non_null(strstr(text, "id=1 "));
    assert_null(strstr(text, "id=2 "));
    bench_hang_up(b, f);
    bench_feed(b, other, slice_str("CLIENT LIST\r\n"), SIZE_MAX);
    assert_null(strstr(bench_received(other), "id=1 "));
    bench_free(b);
}

static void test_client_reply(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n", "$1\r\n1\r\n");
    bench_talk(b, f, "CLIENT REPLY OFF\r\nPING\r\nGET a\r\nINCR a\r\nNOSUCH\r\n", "");
    bench_talk(b, f, "CLIENT REPLY ON\r\nGET a\r\n", "+OK\r\n$1\r\n2\r\n");
    bench_talk(b, f, "SET a 2\r\nCLIENT REPLY SKIP\r\nWATCH a\r\nPING\r\n", "+OK\r\n+PONG\r\n");
    /* The command that is skipped waits for the order rule and is parsed twice. */
    bench_talk(b, f, "GET a\r\nCLIENT REPLY SKIP\r\nSET a 5\r\nGET a\r\n",
               "$1\r\n2\r\n$1\r\n5\r\n");
    bench_free(b);
}

static void test_config(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "CONFIG GET maxmemory-policy\r\n",
               "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n");
    bench_talk(b, f, "CONFIG GET APPENDONL? database[st]\r\n",
               "*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$9\r\ndatabases\r\n$2\r\n16\r\n");
    bench_talk(b, f, "CONFIG GET nothing\r\n", "*0\r\n");
    bench_talk(b, f, "CONFIG SET save \"60 1\"\r\nCONFIG GET save\r\n",
               "+OK\r\n*2\r\n$4\r\nsave\r\n$4\r\n60 1\r\n");
    bench_talk(b, f, "CONFIG SET what 1\r\n",
               "-ERR Unknown option or number of arguments for CONFIG SET - 'what'\r\n");
    bench_talk(b, f, "CONFIG SET databases 3\r\n",
               "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set "
               "immutable config\r\n");
    bench_feed(b, f, slice_str("CONFIG SET maxmemory-policy allkeys-lru\r\n"), SIZE_MAX);
    assert_memory_equal(bench_received(f), "-ERR CONFIG SET failed", 22);
    bench_talk(b, f, "CONFIG NOPE\r\n", "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP.\r\n");
    bench_free(b);
}

static void test_command(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    size_t count, public = 0;
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++) {
        public += !(all[i].flags & CMD_INTERNAL);
        /* Whatever the table gives to the connection must have a function here. */
        if (all[i].flags & CMD_CONNECTION)
            assert_true(redis_find_local(&all[i]) || redis_find_special(&all[i]));
    }
    char text[32];
    snprintf(text, sizeof text, ":%zu\r\n", public);
    bench_talk(b, f, "COMMAND COUNT\r\n", text);
    bench_talk(b, f, "COMMAND GETKEYS MSET a 1 b 2\r\n", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    bench_talk(b, f, "COMMAND GETKEYS PING x\r\n", "-ERR The command has no key arguments\r\n");
    bench_talk(b, f, "COMMAND LIST FILTERBY PATTERN incrb*\r\n",
               "*2\r\n$6\r\nincrby\r\n$11\r\nincrbyfloat\r\n");
    bench_talk(b, f, "COMMAND INFO nosuch kv.get\r\n", "*2\r\n*-1\r\n*-1\r\n");
    bench_feed(b, f, slice_str("COMMAND\r\n"), SIZE_MAX);
    snprintf(text, sizeof text, "*%zu\r\n", public);
    assert_memory_equal(bench_received(f), text, strlen(text));
    bench_free(b);
}

static void test_info(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "SET a 1\r\nSELECT 2\r\nSET b 1\r\nSETEX c 10 1\r\n",
               "+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    bench_feed(b, f, slice_str("INFO\r\n"), SIZE_MAX);
    const char *text = bench_received(f);
    static const char *const lines[] = {"# Server\r\n",
                                        "redis_version:7.2.4\r\n",
                                        "loading:0\r\n",
                                        "maxmemory_policy:noeviction\r\n",
                                        "role:master\r\n",
                                        "cluster_enabled:0\r\n",
                                        "connected_clients:1\r\n",
                                        "\r\ndb0:keys=1,expires=0,",
                                        "\r\ndb2:keys=2,expires=1,"};
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
        if (!strstr(text, lines[i]))
            fail_msg("INFO lacks %s", lines[i]);
    assert_null(strstr(text, "db1:"));
    bench_talk(b, f, "INFO cluster\r\n", "$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n");
    /* Without a database the rest is still told. */
    fake_stream_feed_str(f, "INFO persistence keyspace\r\n");
    bench_turn(b);
    while (fake_upstream_pending(b->up) > 0)
        fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE no leader\r\n");
    bench_turn(b);
    text = bench_received(f);
    assert_non_null(strstr(text, "loading:0\r\n"));
    assert_null(strstr(text, "db0:"));
    /* The client goes while the sizes are asked for. */
    fake_stream_feed_str(f, "INFO\r\n");
    fake_upstream_answer(b->up, 3);
    bench_hang_up(b, f);
    assert_int_equal(fake_upstream_pending(b->up), 0);
    bench_free(b);
}

static void test_multi(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "MULTI\r\nSET a 1\r\nINCR a\r\nGET a\r\nEXEC\r\n",
               "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n");
    bench_talk(b, f, "MULTI\r\nEXEC\r\n", "+OK\r\n*0\r\n");
    bench_talk(b, f, "MULTI\r\nNOSUCH\r\nSET a 9\r\nEXEC\r\nGET a\r\n",
               "+OK\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n+QUEUED\r\n"
               "-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\n2\r\n");
    bench_talk(b, f, "MULTI\r\nGET\r\nEXEC\r\n",
               "+OK\r\n-ERR wrong number of arguments for 'get' command\r\n"
               "-EXECABORT Transaction discarded because of previous errors.\r\n");
    bench_talk(b, f, "MULTI\r\nSET a 7\r\nDISCARD\r\nGET a\r\n",
               "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n2\r\n");
    bench_talk(b, f, "EXEC\r\nDISCARD\r\n",
               "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n");
    bench_talk(b, f, "MULTI\r\nMULTI\r\nWATCH a\r\nINCR a\r\nEXEC\r\n",
               "+OK\r\n-ERR MULTI calls can not be nested\r\n"
               "-ERR WATCH inside MULTI is not allowed\r\n+QUEUED\r\n*1\r\n:3\r\n");
    bench_talk(b, f, "MULTI\r\nEXEC x\r\nEXEC\r\n",
               "+OK\r\n-EXECABORT Transaction discarded because of: wrong number of arguments for "
               "'exec' command\r\n-ERR EXEC without MULTI\r\n");
    /* A command that fails on the state does not undo the others. */
    bench_talk(b, f, "MULTI\r\nSET s x\r\nINCR s\r\nSET t y\r\nEXEC\r\nGET t\r\n",
               "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n"
               "-ERR value is not an integer or out of range\r\n+OK\r\n$1\r\ny\r\n");
    bench_free(b);
}

static void test_multi_local(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f,
               "MULTI\r\nSET a 1\r\nPING\r\nSELECT 4\r\nSET a 2\r\nECHO x\r\nGET a\r\nEXEC\r\n"
               "GET a\r\nSELECT 0\r\nGET a\r\n",
               "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
               "*6\r\n+OK\r\n+PONG\r\n+OK\r\n+OK\r\n$1\r\nx\r\n$1\r\n2\r\n"
               "$1\r\n2\r\n+OK\r\n$1\r\n1\r\n");
    /* What is behind EXEC is understood as the commands in it have left things. */
    bench_talk(
        b, f, "MULTI\r\nSELECT 5\r\nSET a 5\r\nEXEC\r\nSET b 6\r\nGET b\r\nSELECT 0\r\nGET b\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n6\r\n+OK\r\n" NOT_FOUND);
    bench_talk(b, f, "MULTI\r\nPING\r\nSELECT 99\r\nEXEC\r\n",
               "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n-ERR DB index is out of range\r\n");
    bench_free(b);
}

static void test_watch(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b), *other = bench_redis(b);
    bench_talk(b, f, "SET a 1\r\nWATCH a none\r\n", "+OK\r\n+OK\r\n");
    bench_talk(b, f, "MULTI\r\nINCR a\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n:2\r\n");
    bench_talk(b, f, "WATCH a none\r\n", "+OK\r\n");
    bench_talk(b, other, "SET none x\r\n", "+OK\r\n");
    bench_talk(b, f, "MULTI\r\nINCR a\r\nEXEC\r\nGET a\r\n",
               "+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n2\r\n");
    /* What was watched is forgotten after EXEC. */
    bench_talk(b, f, "MULTI\r\nINCR a\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*1\r\n:3\r\n");
    bench_talk(b, f, "WATCH a\r\n", "+OK\r\n");
    bench_talk(b, other, "INCR a\r\n", ":4\r\n");
    bench_talk(b, f, "UNWATCH\r\nMULTI\r\nINCR a\r\nEXEC\r\n",
               "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:5\r\n");
    /* A watched key of another database. */
    bench_talk(b, f, "SELECT 5\r\nWATCH k\r\nSELECT 0\r\n", "+OK\r\n+OK\r\n+OK\r\n");
    bench_talk(b, other, "SELECT 5\r\nSET k 1\r\nSELECT 0\r\n", "+OK\r\n+OK\r\n+OK\r\n");
    bench_talk(b, f, "MULTI\r\nINCR a\r\nEXEC\r\n", "+OK\r\n+QUEUED\r\n*-1\r\n");
    /* A barrier: what is read behind WATCH must not be older than what is watched. */
    fake_stream_feed_str(f, "WATCH a\r\nGET a\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    bench_settle(b);
    bench_talk(b, f, "UNWATCH\r\n", "+OK\r\n$1\r\n5\r\n+OK\r\n");
    /* A WATCH that was not answered protects nothing: EXEC must not run. */
    fake_stream_feed_str(f, "WATCH a\r\nMULTI\r\nINCR a\r\nEXEC\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE no leader\r\n");
    bench_settle(b);
    assert_string_equal(bench_received(f), "-UNAVAILABLE no leader\r\n+OK\r\n+QUEUED\r\n*-1\r\n");
    bench_free(b);
}

/* What waited behind a request that was not answered in time has waited as long. */
static void test_late(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    fake_stream_feed_str(f, "WATCH a\r\nGET a\r\nSET a 1\r\nGET a\r\nSET ");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    assert_false(fake_upstream_late(b->up, 0));
    fake_upstream_time_out(b->up, 0);
    bench_turn(b);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fake_upstream_pending(b->up), 1);
        assert_true(fake_upstream_late(b->up, 0));
        fake_upstream_time_out(b->up, 0);
        bench_turn(b);
    }
    assert_int_equal(fake_upstream_pending(b->up), 0);
    assert_string_equal(bench_received(f), "-UNAVAILABLE x\r\n-UNAVAILABLE x\r\n"
                                           "-UNAVAILABLE x\r\n-UNAVAILABLE x\r\n");
    /* What began before and comes now is late, too; what follows is not. */
    fake_stream_feed_str(f, "a 2\r\n");
    bench_turn(b);
    assert_true(fake_upstream_late(b->up, 0));
    fake_upstream_time_out(b->up, 0);
    bench_talk(b, f, "GET a\r\n", "-UNAVAILABLE x\r\n$-1\r\n");
    /* Refused for another reason: nothing has waited in vain. */
    fake_stream_feed_str(f, "WATCH a\r\nGET a\r\n");
    bench_turn(b);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-BUSY x\r\n");
    bench_turn(b);
    assert_false(fake_upstream_late(b->up, 0));
    bench_settle(b);
    assert_string_equal(bench_received(f), "-BUSY x\r\n$-1\r\n");
    bench_free(b);
}

/* Reads and writes of one connection are never under way together; answers keep their order. */
static void test_order(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    fake_stream_feed_str(f, "SET a 1\r\nSET b 2\r\nPING\r\nGET a\r\nGET b\r\nSET a 3\r\nGET a\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 2);
    fake_upstream_answer(b->up, 1); /* the second one first */
    bench_turn(b);
    assert_string_equal(bench_received(f), "");
    assert_int_equal(fake_upstream_pending(b->up), 1);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    assert_string_equal(bench_received(f), "+OK\r\n+OK\r\n+PONG\r\n");
    assert_int_equal(fake_upstream_pending(b->up), 2);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ);
    fake_upstream_answer(b->up, 1);
    fake_upstream_answer(b->up, 0);
    bench_turn(b);
    assert_string_equal(bench_received(f), "$1\r\n1\r\n$1\r\n2\r\n");
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_WRITE);
    bench_settle(b);
    assert_string_equal(bench_received(f), "+OK\r\n$1\r\n3\r\n");
    assert_int_equal(b->gw->metrics.order_waits_total, 3);
    bench_free(b);
}

/* Small reads join the writes that are under way, once the ones before them were small. */
static void test_mixed_pipeline(void **state) {
    static const char pairs[] = "INCR n\r\nGET n\r\nINCR n\r\nGET n\r\nEXISTS n\r\nINCR n\r\n";
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    char set_big[300];
    snprintf(set_big, sizeof set_big, "SET big %0200d\r\nHSET h f v\r\n", 1);
    bench_talk(b, f, set_big, "+OK\r\n:1\r\n");
    bench_talk(b, f, "GET none\r\nGET none\r\nGET none\r\nTTL none\r\n",
               NOT_FOUND NOT_FOUND NOT_FOUND ":-2\r\n");
    fake_stream_feed_str(f, pairs);
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(fake_upstream_kind(b->up, i), UPSTREAM_WRITE);
    assert_int_equal(b->gw->metrics.reads_joined_total, 3);
    while (fake_upstream_pending(b->up) > 0) /* whatever the order of the answers */
        fake_upstream_answer(b->up, fake_upstream_pending(b->up) - 1);
    bench_turn(b);
    assert_string_equal(bench_received(f), ":1\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n:1\r\n:3\r\n");
    /* What may be large waits. */
    static const char *const waiting[] = {"HGETALL h\r\n", "MGET a b c\r\n", "KEYS *\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(waiting); i++) {
        fake_stream_feed_str(f, "INCR n\r\n");
        fake_stream_feed_str(f, waiting[i]);
        bench_turn(b);
        assert_int_equal(fake_upstream_pending(b->up), 1);
        bench_settle(b);
        bench_received(f);
    }
    bench_talk(b, f, "TTL n\r\nTTL n\r\nTTL n\r\nTTL n\r\n", ":-1\r\n:-1\r\n:-1\r\n:-1\r\n");
    /* So does a long run of reads behind one write. */
    fake_stream_feed_str(f, "INCR n\r\n");
    for (int i = 0; i < 9; i++)
        fake_stream_feed_str(f, "GET n\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1 + 8);
    bench_settle(b);
    bench_received(f);
    /* After a large reply the next ones wait again. */
    fake_stream_feed_str(f, "INCR n\r\nGET big\r\n");
    bench_settle(b);
    fake_stream_feed_str(f, "INCR n\r\nGET n\r\n");
    bench_turn(b);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    bench_settle(b);
    bench_free(b);
}

static void test_outcomes(void **state) {
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    fake_stream_feed_str(f, "SET a 1\r\n");
    fake_upstream_answer_with(b->up, 0, UPSTREAM_UNKNOWN,
                              "-UNAVAILABLE gone; applied: unknown\r\n");
    bench_turn(b);
    assert_string_equal(bench_received(f), "-UNAVAILABLE gone; applied: unknown\r\n");
    assert_int_equal(b->gw->metrics.requests_unknown_total, 1);
    fake_stream_feed_str(f, "GET a\r\n");
    fake_upstream_answer_with(b->up, 0, UPSTREAM_DONE, "*1\r\n"); /* a broken node */
    bench_turn(b);
    assert_memory_equal(bench_received(f), "-ERR ", 5);
    bench_free(b);
}

static void test_malformed(void **state) {
    static const struct {
        const char *send, *expect;
    } cases[] = {
        {"*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'\r\n"},
        {"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
        {"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
        {"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"},
        {"*2\r\n$3\r\nGET\r\n$999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct bench *b = bench_new(NULL);
        struct fake_stream *f = bench_redis(b);
        bench_talk(b, f, cases[i].send, cases[i].expect);
        assert_true(f->closed);
        bench_free(b);
    }
    struct bench *b = bench_new(NULL);
    struct fake_stream *f = bench_redis(b);
    bench_talk(b, f, "GET a\r\n*1\r\n$x\r\n",
               NOT_FOUND "-ERR Protocol error: invalid bulk length\r\n");
    struct fake_stream *browser = bench_redis(b);
    bench_talk(b, browser, "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n", "");
    assert_true(browser->closed);
    /* A GET is a command; the line that every request has ends it, whatever its case. */
    browser = bench_redis(b);
    bench_talk(b, browser, "GET / HTTP/1.1\r\nhOST: x\r\n\r\nSET a 1\r\n", "");
    assert_true(browser->closed);
    bench_talk(b, bench_redis(b), "EXISTS a\r\n", ":0\r\n");
    bench_free(b);
}

static void erase_number(char *text, const char *behind) {
    char *from = strstr(text, behind);
    assert_non_null(from);
    from += strlen(behind);
    memmove(from, from + strspn(from, "0123456789"), strlen(from + strspn(from, "0123456789")) + 1);
}

/* Whatever the bytes' split, the answers are the same. */
static void test_every_split(void **state) {
    static const char script[] =
        "FLUSHALL\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\n0123\r\n6789\r\nGET a\r\n\r\n*0\r\n"
        "WATCH a\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nPING\r\nEXEC\r\nHELLO 3\r\n"
        "HSET h f v g w\r\nHGETALL h\r\nNOSUCH x\r\nMGET a n none\r\nDBSIZE\r\nRESET\r\n";
    struct slice bytes = slice_of(script, sizeof script - 1);
    struct bench *b = bench_new(NULL);
    char *expect = NULL;
    /* Whole, byte by byte, threes; then in two parts with a pause at every place. */
    for (size_t run = 0; run < bytes.size + 3; run++) {
        struct fake_stream *f = bench_redis(b);
        if (run < 3) {
            bench_feed(b, f, bytes, run == 0 ? SIZE_MAX : run == 1 ? 1 : 3);
        } else {
            size_t at = run - 3;
            fake_stream_feed(f, slice_of(bytes.data, at));
            bench_turn(b);
            fake_stream_feed(f, slice_of(bytes.data + at, bytes.size - at));
            bench_settle(b);
        }
        char *got = xstrdup(bench_received(f));
        erase_number(got, "$2\r\nid\r\n:"); /* differs from one connection to the next */
        if (!expect)
            expect = xstrdup(got);
        assert_string_equal(got, expect);
        free(got);
        bench_hang_up(b, f);
    }
    assert_non_null(strstr(expect, "*2\r\n:1\r\n+PONG\r\n"));
    free(expect);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_talk),     cmocka_unit_test(test_data),
        cmocka_unit_test(test_sizes_of_reads), cmocka_unit_test(test_gone_with_reads_under_way),
        cmocka_unit_test(test_hello),          cmocka_unit_test(test_version_of_asking),
        cmocka_unit_test(test_client),         cmocka_unit_test(test_client_reply),
        cmocka_unit_test(test_config),         cmocka_unit_test(test_command),
        cmocka_unit_test(test_info),           cmocka_unit_test(test_multi),
        cmocka_unit_test(test_multi_local),    cmocka_unit_test(test_watch),
        cmocka_unit_test(test_late),           cmocka_unit_test(test_order),
        cmocka_unit_test(test_mixed_pipeline), cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_malformed),      cmocka_unit_test(test_every_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
