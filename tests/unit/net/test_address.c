#include "net_test.h"

#include "net/tcp.h"

static void test_parse(void **state) {
    struct address a;
    assert_true(address_parse("db1.example:7070", &a));
    assert_string_equal(a.host, "db1.example");
    assert_int_equal(a.port, 7070);
    assert_true(address_parse("[fd00::1]:80", &a));
    assert_string_equal(a.host, "fd00::1");
    assert_true(address_parse(":0", &a));
    assert_string_equal(a.host, "");
    assert_int_equal(a.port, 0);
    assert_true(address_parse("10.0.0.1:65535", &a));
    assert_int_equal(a.port, 65535);
}

static void test_refused(void **state) {
    static const char *const bad[] = {
        "",        "host",   "host:",  "host:65536", "host:-1", "host:+1",
        "host: 1", "::1:80", "[::1]",  "[nope]:1",   "[]:1",    "ho st:1",
        "host:1x", "a:b:1",  "[::1:1", "user@h:1",   "h/x:1",   "[127.0.0.1]:1"};
    struct address a = {.port = 42};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        if (address_parse(bad[i], &a))
            fail_msg("accepted %s", bad[i]);
    assert_int_equal(a.port, 42);
    char text[400];
    memset(text, 'a', sizeof text);
    strcpy(text + 300, ":1");
    assert_false(address_parse(text, &a));
}

static void test_loopback(void **state) {
    static const struct {
        const char *host;
        bool loopback;
    } cases[] = {{"127.0.0.1", true}, {"127.9.9.9", true},   {"::1", true},
                 {"localhost", true}, {"LOCALHOST", true},   {"", false},
                 {"0.0.0.0", false},  {"::", false},         {"128.0.0.1", false},
                 {"10.0.0.1", false}, {"localhost.x", false}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct address a = {.port = 1};
        strcpy(a.host, cases[i].host);
        if (address_is_loopback(&a) != cases[i].loopback)
            fail_msg("wrong for '%s'", cases[i].host);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
