/* GET /v1/watch: what watchers are told, where they go on, what they cost, and when they are slow.
 */
#include "gateway/watch_hub.h"
#include "http_client.h"

static struct bench *b;

static int setup(void **state) {
    fake_upstream_changes_max = 0;
    b = bench_new(NULL);
    return 0;
}

static int teardown(void **state) {
    bench_free(b);
    return 0;
}

#define WATCH(query) "GET /v1/watch" query " HTTP/1.1\r\nHost: localhost\r\n\r\n"

/* What came since the last time, without chunk sizes, ends of lines as "|" and the head left out.
 */
static const char *told(struct fake_stream *f) {
    static struct buf text;
    const char *in = bench_received(f), *head = strstr(in, "\r\n\r\n");
    buf_reset(&text);
    if (strncmp(in, "HTTP/1.", 7) == 0 && head)
        in = head + 4;
    while (*in) {
        char *end;
        size_t n = strtoul(in, &end, 16);
        assert_true(end > in && strncmp(end, "\r\n", 2) == 0);
        for (const char *at = end + 2; at < end + 2 + n; at++)
            buf_append_char(&text, *at == '\n' ? '|' : *at);
        in = end + 2 + n + 2;
    }
    buf_append_u8(&text, 0);
    return (const char *)text.data;
}

static struct fake_stream *watch(const char *request) {
    struct fake_stream *f = bench_http(b);
    bench_feed(b, f, slice_str(request), SIZE_MAX);
    return f;
}

static void write_over_redis(const char *command) {
    struct fake_stream *f = bench_redis(b);
    struct buf line = {0};
    buf_printf(&line, "%s\r\n", command);
    bench_feed(b, f, buf_slice(&line), SIZE_MAX);
    assert_int_not_equal(bench_received(f)[0], '-');
    buf_fini(&line);
    bench_hang_up(b, f);
}

#define RETRY "retry: 1000||"
#define TELLS(f, want) assert_string_equal(told(f), want)

static void tells_changes(void **state) {
    struct fake_stream *key = watch(WATCH("?key=a")), *prefix = watch(WATCH("?prefix=a"));
    struct fake_stream *bare = watch(WATCH("?values=0")), *other = watch(WATCH("?key=z"));
    const char *progress = RETRY "event: progress|data: {\"revision\":\"1048575\"}|id: 1048575||";
    struct fake_stream *all[] = {key, prefix, bare, other};
    for (size_t i = 0; i < ARRAY_COUNT(all); i++)
        TELLS(all[i], progress);
    write_over_redis("SET a 1");
#define PUT_A                                                                                      \
    "event: put|data: {\"key\":\"a\",\"revision\":\"1048576\",\"type\":\"string\",\"size\":1"
    TELLS(key, PUT_A ",\"value\":\"1\"}|id: 1048576||");
    TELLS(prefix, PUT_A ",\"value\":\"1\"}|id: 1048576||");
    TELLS(bare, PUT_A "}|id: 1048576||");
    write_over_redis("HSET ab f v");
    TELLS(key, "");
    TELLS(prefix, "event: put|data: {\"key\":\"ab\",\"revision\":\"2097152\",\"type\":\"hash\","
                  "\"size\":1}|id: 2097152||");
    /* Only the last event of a revision says that all of it was told. */
    write_over_redis("DEL a ab");
    TELLS(prefix, "event: delete|data: {\"key\":\"a\",\"revision\":\"3145728\"}||"
                  "event: delete|data: {\"key\":\"ab\",\"revision\":\"3145728\"}|id: 3145728||");
    TELLS(key, "event: delete|data: {\"key\":\"a\",\"revision\":\"3145728\"}|id: 3145728||");
    write_over_redis("SET q 1");
    write_over_redis("FLUSHALL");
    TELLS(other, "event: reset|data: {\"revision\":\"5242880\",\"reason\":\"flushed\"}||"
                 "event: progress|data: {\"revision\":\"5242880\"}|id: 5242880||");
    for (size_t i = 0; i < ARRAY_COUNT(all); i++)
        bench_hang_up(b, all[i]);
    assert_int_equal(b->gw->metrics.watchers, 0);
}

static void resumes(void **state) {
    write_over_redis("SET a 1");
    write_over_redis("SET b 2");
    write_over_redis("SET a 3");
    struct fake_stream *f = watch(WATCH("?since=1048576&values=0"));
    TELLS(f, RETRY "event: put|data: {\"key\":\"b\",\"revision\":\"2097152\",\"type\":\"string\","
                   "\"size\":1}|id: 2097152||"
                   "event: put|data: {\"key\":\"a\",\"revision\":\"3145728\",\"type\":\"string\","
                   "\"size\":1}|id: 3145728||");
    bench_hang_up(b, f);
    /* An EventSource that connects again has the same address, and where it was in a header. */
    f = watch("GET /v1/watch?since=1048576&key=a&values=0 HTTP/1.1\r\nHost: localhost\r\n"
              "Last-Event-ID: 2097152\r\n\r\n");
    TELLS(f, RETRY "event: put|data: {\"key\":\"a\",\"revision\":\"3145728\",\"type\":\"string\","
                   "\"size\":1}|id: 3145728||");
    write_over_redis("SET a 4");
    assert_non_null(strstr(told(f), "id: 4194304||"));
    bench_hang_up(b, f);
}

/* An id of another cluster, or of one that was set back to a backup. */
static void unknown_position(void **state) {
    write_over_redis("SET a 1");
    struct fake_stream *f = watch(WATCH("?since=900000000000&values=0"));
    TELLS(f, RETRY "event: reset|data: {\"reason\":\"unknown\"}||"
                   "event: put|data: {\"key\":\"a\",\"revision\":\"1048576\",\"type\":\"string\","
                   "\"size\":1}||event: progress|data: {\"revision\":\"2097151\"}|id: 2097151||");
    bench_hang_up(b, f);
}

/* The history is gone: the state in pages, with what changed meanwhile, and never a hole. */
static void history_is_gone(void **state) {
    enum { KEYS = 450 };
    char command[64];
    for (int i = 0; i < KEYS; i++) {
        snprintf(command, sizeof command, "SET key-%04d x", i);
        write_over_redis(command);
    }
    struct fake_stream *f = bench_http(b);
    bench_feed(b, f, slice_str(WATCH("?since=1048576&prefix=key-")), SIZE_MAX);
    const char *text = told(f);
    assert_non_null(strstr(text, RETRY "event: reset|data: {\"reason\":\"history\"}||event: put|"));
    size_t puts = 0;
    for (const char *at = text; (at = strstr(at, "event: put|")); at++)
        puts++;
    assert_int_equal(puts, KEYS);
    assert_null(strstr(strstr(text, "key-0449"), "event: put"));
    assert_non_null(strstr(text, "||event: progress|data: {\"revision\":\"472907775\"}"));
    assert_int_equal(b->gw->metrics.watch_resets_total, 1);
    write_over_redis("DEL key-0001");
    assert_non_null(strstr(told(f), "event: delete|data: {\"key\":\"key-0001\""));
    bench_hang_up(b, f);
}

static int setup_short_history(void **state) {
    fake_upstream_changes_max = 10;
    b = bench_new(NULL);
    return 0;
}

/* However many watch a key, a change is encoded once, and asked for once. */
static void one_encoding(void **state) {
    enum { WATCHERS = 300 };
    struct fake_stream *f[WATCHERS];
    for (int i = 0; i < WATCHERS; i++)
        f[i] = watch(WATCH("?key=a"));
    assert_int_equal(b->gw->metrics.watchers, WATCHERS);
    uint64_t before = b->gw->metrics.watch_encodings_total;
    uint64_t polls = b->gw->metrics.watch_polls_total;
    write_over_redis("SET a 1");
    assert_int_equal(b->gw->metrics.watch_encodings_total, before + 1);
    assert_int_equal(b->gw->metrics.watch_deliveries_total, WATCHERS);
    assert_int_equal(b->gw->metrics.watch_polls_total, polls + 1);
    for (int i = 0; i < WATCHERS; i++) {
        assert_non_null(strstr(told(f[i]), "id: 1048576||"));
        bench_hang_up(b, f[i]);
    }
}

/* Groups come and go, of keys and of prefixes of many lengths. */
static void many_groups(void **state) {
    enum { WATCHERS = 400 };
    struct fake_stream *f[WATCHERS];
    char request[128];
    for (int i = 0; i < WATCHERS; i++) {
        snprintf(request, sizeof request, WATCH("?%s=%.*s%d"), i % 2 ? "key" : "prefix", i % 20,
                 "aaaaaaaaaaaaaaaaaaaa", i);
        f[i] = watch(request);
    }
    write_over_redis("SET aa2 1");
    write_over_redis("SET aaa3 1");
    for (int i = 0; i < WATCHERS; i++) {
        const char *text = told(f[i]);
        assert_int_equal(strstr(text, "event: put") != NULL, i == 2 || i == 3);
        bench_hang_up(b, f[i]);
    }
    struct fake_stream *again = watch(WATCH("?prefix="));
    write_over_redis("SET n 1");
    assert_non_null(strstr(told(again), "event: put"));
    bench_hang_up(b, again);
}

/* A client that takes nothing is told no more, and goes on where it was when it does. */
static void slow_watcher(void **state) {
    struct fake_stream *slow = watch(WATCH("?key=big")), *quick = watch(WATCH("?key=big"));
    struct buf command = {0};
    fake_stream_block(slow);
    buf_append_str(&command, "SET big ");
    for (int i = 0; i < 60000; i++)
        buf_append_char(&command, 'x');
    for (int i = 0; i < 8; i++) {
        write_over_redis((buf_append_u8(&command, 0), (const char *)command.data));
        command.size--;
        assert_non_null(strstr(bench_received(quick), "event: put"));
    }
    assert_int_equal(b->gw->metrics.watch_lagged_total, 1);
    assert_int_equal(b->gw->metrics.watchers, 1);
    assert_true(slow->held.size < 300000);
    fake_stream_unblock(slow);
    bench_settle(b);
    const char *text = told(slow);
    for (int i = 1; i <= 8; i++) {
        char id[32];
        snprintf(id, sizeof id, "id: %d|", i << 20);
        assert_non_null(text = strstr(text, id));
    }
    assert_int_equal(b->gw->metrics.watchers, 2);
    buf_fini(&command);
    bench_hang_up(b, slow);
    bench_hang_up(b, quick);
}

/* Nothing happens: watchers hear how far the log is, so that they can go on from there. */
static void progress(void **state) {
    struct fake_stream *f = watch(WATCH("?key=a"));
    told(f);
    write_over_redis("SET other 1");
    TELLS(f, "");
    bench_wait(b, WATCH_PROGRESS_MS + 1000);
    TELLS(f, "event: progress|data: {\"revision\":\"2097151\"}|id: 2097151||");
    bench_hang_up(b, f);
}

/* The poll has no answer: the present state is asked for, and then on from there. */
static void polls_go_on(void **state) {
    struct fake_stream *f = watch(WATCH("?key=a"));
    told(f);
    assert_int_equal(fake_upstream_pending(b->up), 1);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ_STALE);
    assert_int_equal(fake_upstream_min_index(b->up, 0), 1);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE no answer\r\n");
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ);
    fake_upstream_answer_with(b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE no answer\r\n");
    assert_int_equal(fake_upstream_pending(b->up), 0);
    bench_wait(b, 1000);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ);
    bench_settle(b);
    assert_int_equal(fake_upstream_kind(b->up, 0), UPSTREAM_READ_STALE);
    write_over_redis("SET a 1");
    assert_non_null(strstr(told(f), "id: 1048576||"));
    bench_hang_up(b, f);
}

/* Malformed answers of a node. */
static void malformed_replies(void **state) {
    static const char *const bad[] = {
        "+OK\r\n",
        "*2\r\n:0\r\n:1\r\n",
        "*3\r\n:0\r\n:1\r\n*1\r\n*3\r\n:1\r\n$3\r\nput\r\n$1\r\na\r\n",
        "*3\r\n:0\r\n:1\r\n*1\r\n*3\r\n:1\r\n$4\r\nwhat\r\n$1\r\na\r\n",
    };
    struct fake_stream *f = watch(WATCH("?key=a"));
    told(f);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        fake_upstream_answer_with(b->up, 0, UPSTREAM_DONE, bad[i]);
        TELLS(f, "");
        bench_settle(b);
    }
    bench_hang_up(b, f);
    f = bench_http(b);
    assert_true(fake_stream_feed_str(f, WATCH("")));
    fake_upstream_answer_with(b->up, fake_upstream_pending(b->up) - 1, UPSTREAM_DONE, bad[1]);
    bench_settle(b);
    assert_non_null(strstr(bench_received(f), "HTTP/1.1 500 "));
    bench_hang_up(b, f);
}

static void bad_requests(void **state) {
    struct fake_stream *f = bench_http(b);
    expect(b, f, WATCH("?since="), 400, "since must be");
    expect(b, f, WATCH("?since=-1"), 400, "since must be");
    expect(b, f, WATCH("?since=18446744073709551615"), 400, "since must be");
    expect(b, f, WATCH("?key=a&prefix=b"), 400, "exclude");
    expect(b, f, WATCH("?key="), 400, "a key has");
    expect(b, f, WATCH("?values=2"), 400, "values is");
    expect(b, f, WATCH("?keys=2"), 400, "unknown parameter");
    expect(b, f, "GET /v1/watch HTTP/1.1\r\nHost: x\r\nLast-Event-ID: x\r\n\r\n", 400,
           "Last-Event-ID must be");
    struct buf request = {0};
    buf_append_str(&request, "GET /v1/watch?prefix=");
    for (int i = 0; i < WATCH_PREFIX_BYTES_MAX + 1; i++)
        buf_append_char(&request, 'p');
    buf_append_str(&request, " HTTP/1.1\r\nHost: x\r\n\r\n");
    buf_append_u8(&request, 0);
    expect(b, f, (const char *)request.data, 400, "a prefix to watch");
    buf_fini(&request);
    struct answer a = ask(b, f, "HEAD /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(a.status, 200);
    free(a.body);
    bench_hang_up(b, f);
    assert_int_equal(b->gw->metrics.watchers, 0);
}

/* An orderly stop ends the answers, so that clients go on elsewhere. */
static void drain(void **state) {
    struct fake_stream *f = watch(WATCH("?key=a"));
    told(f);
    gateway_drain(b->gw);
    bench_settle(b);
    assert_string_equal(bench_received(f), "0\r\n\r\n");
    bench_wait(b, 10000);
    assert_true(gateway_is_drained(b->gw));
    bench_drop_stream(f);
}

/* A client that sends no more is taken for gone. */
static void half_closed(void **state) {
    struct fake_stream *f = watch(WATCH("?key=a"));
    fake_stream_eof(f);
    bench_settle(b);
    assert_true(f->closed);
    assert_int_equal(b->gw->metrics.watchers, 0);
    bench_hang_up(b, f);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(tells_changes),
        TEST(resumes),
        TEST(unknown_position),
        cmocka_unit_test_setup_teardown(history_is_gone, setup_short_history, teardown),
        TEST(one_encoding),
        TEST(many_groups),
        TEST(slow_watcher),
        TEST(progress),
        TEST(polls_go_on),
        TEST(malformed_replies),
        TEST(bad_requests),
        TEST(drain),
        TEST(half_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
