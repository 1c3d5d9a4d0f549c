/* Log lines as they reach standard error, the quoting in them, and what a failed CHECK() leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static void test_quote(void **state) {
    static const struct {
        const char *in;
        const char *want;
    } cases[] = {
        {"", "\"\""},
        {"plain text=1", "\"plain text=1\""},
        {"\"\\", "\"\\\"\\\\\""},
        {"a\nb\r\t\x1b[0m", "\"a\\x0ab\\x0d\\x09\\x1b[0m\""},
        {"\x7f\x80\xff\xc3\xbc", "\"\\x7f\\x80\\xff\\xc3\\xbc\""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        assert_string_equal(log_quote(slice_str(cases[i].in)), cases[i].want);
    assert_string_equal(log_quote(slice_of("a\0b", 3)), "\"a\\x00b\"");
    assert_string_equal(log_quote(slice_of(NULL, 0)), "\"\"");
}

static void test_quote_is_cut(void **state) {
    char text[300], want[1000];
    memset(text, 'a', sizeof text);
    snprintf(want, sizeof want, "\"%.200s\"", text);
    assert_string_equal(log_quote(slice_of(text, 200)), want);
    snprintf(want, sizeof want, "\"%.200s...\"", text);
    assert_string_equal(log_quote(slice_of(text, 201)), want);
    memset(text, 0, sizeof text); /* each becomes four characters */
    assert_int_equal(strlen(log_quote(slice_of(text, 300))), 2 + 200 * 4 + 3);
}

static void test_quotes_live_for_four_calls(void **state) {
    const char *q[4];
    for (int i = 0; i < 4; i++)
        q[i] = log_quote(slice_of(&"0123"[i], 1));
    assert_string_equal(q[0], "\"0\"");
    assert_string_equal(q[3], "\"3\"");
}

static void test_levels(void **state) {
    enum log_level level = LOG_ERROR;
    assert_true(log_parse_level("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_true(log_parse_level("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_false(log_parse_level("Debug", &level));
    assert_false(log_parse_level("", &level));
    assert_int_equal(level, LOG_ERROR);
}

/* Runs fn in a child process; returns its wait status and what it wrote to standard error. */
static int run_child(void (*fn)(void), struct buf *ret_stderr) {
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(ends[1]);
    ssize_t n;
    while ((n = read(ends[0], buf_reserve(ret_stderr, 4096), 4096)) > 0)
        buf_commit(ret_stderr, (size_t)n);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    buf_append_char(ret_stderr, 0);
    return status;
}

static void write_lines(void) {
    log_debug("hidden", "a=%d", 1);
    log_warn("low-space", "free=%d path=%s", 7, log_quote(slice_str("/x y")));
    log_set_level(LOG_ERROR);
    log_warn("hidden", "a=%d", 2);
    log_error("last", "a=%d", 3);
}

static void test_lines(void **state) {
    struct buf err = {0};
    int n = 0;
    assert_int_equal(run_child(write_lines, &err), 0);
    const char *text = (const char *)err.data;
    assert_null(strstr(text, "hidden"));
    sscanf(text,
           "time=%*4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ level=warn event=low-space free=7 "
           "path=\"/x y\"%n",
           &n);
    assert_true(n > 0);
    assert_int_equal(text[n], '\n');
    assert_memory_equal(text + n + 1, "time=", 5);
    assert_non_null(strstr(text, " level=error event=last a=3\n"));
    buf_fini(&err);
}

static void write_long_line(void) {
    log_error("long", "a=%5000d", 1);
}

static void test_long_line_is_cut(void **state) {
    struct buf err = {0};
    assert_int_equal(run_child(write_long_line, &err), 0);
    assert_in_range(err.size, 1000, 2049);
    assert_int_equal(err.data[err.size - 2], '\n');
    assert_non_null(strstr((const char *)err.data, "event=long a=   "));
    assert_int_equal(strlen((const char *)err.data), err.size - 1);
    buf_fini(&err);
}

static void fail_check(void) {
    struct buf b = {0};
    buf_append_str(&b, "abc");
    buf_consume(&b, 4);
}

static void test_failed_check_stops_the_process(void **state) {
    struct buf err = {0};
    int status = run_child(fail_check, &err);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    const char *text = (const char *)err.data;
    assert_non_null(strstr(text, "event=check-failed cond=\"n <= b->size\""));
    assert_non_null(strstr(text, "func=buf_consume"));
    buf_fini(&err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_quote_is_cut),
        cmocka_unit_test(test_quotes_live_for_four_calls),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_line_is_cut),
        cmocka_unit_test(test_failed_check_stops_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
