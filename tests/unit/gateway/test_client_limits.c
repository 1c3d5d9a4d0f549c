/* Limits by address: exact counts of connections against a model, and rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rand.h"
#include "gateway/client_limits.h"

static void v4(uint8_t ip[16], uint32_t n) {
    memset(ip, 0, 16);
    ip[10] = ip[11] = 0xff;
    memcpy(ip + 12, &n, 4);
}

static void v6(uint8_t ip[16], uint32_t prefix, uint32_t host) {
    memset(ip, 0, 16);
    ip[0] = 0x20;
    memcpy(ip + 4, &prefix, 4);
    memcpy(ip + 12, &host, 4);
}

static void test_connections(void **state) {
    const struct client_limits_options o = {.connections_max = 100, .per_address_max = 2};
    struct client_limits *l = client_limits_new(&o, 1);
    uint8_t a[16], b[16], c[16];
    v4(a, 1);
    v6(b, 1, 1);
    v6(c, 1, 2); /* of the same network */
    assert_true(client_limits_enter(l, a));
    assert_true(client_limits_enter(l, a));
    assert_false(client_limits_enter(l, a));
    assert_true(client_limits_enter(l, b));
    assert_true(client_limits_enter(l, c));
    assert_false(client_limits_enter(l, b));
    assert_true(client_limits_enter(l, NULL));
    client_limits_leave(l, a);
    assert_true(client_limits_enter(l, a));
    client_limits_leave(l, c);
    assert_true(client_limits_enter(l, b));
    client_limits_leave(l, NULL);
    client_limits_free(l);
}

/* Many addresses come and go in a small table: chains grow, and are closed up again. */
static void test_connections_model(void **state) {
    enum { ADDRESSES = 40, MAX = 3, ROUNDS = 200000 };
    const struct client_limits_options o = {.connections_max = ADDRESSES * MAX,
                                            .per_address_max = MAX};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct client_limits *l = client_limits_new(&o, seed);
        struct rand r = {.state = seed};
        int count[ADDRESSES] = {0};
        for (int i = 0; i < ROUNDS; i++) {
            uint32_t n = (uint32_t)rand_below(&r, ADDRESSES);
            uint8_t ip[16];
            v4(ip, n * 0x01000193u);
            if (rand_below(&r, 2)) {
                bool entered = client_limits_enter(l, ip);
                assert_int_equal(entered, count[n] < MAX);
                count[n] += entered;
            } else if (count[n] > 0) {
                client_limits_leave(l, ip);
                count[n]--;
            }
        }
        client_limits_free(l);
    }
}

static void test_rate(void **state) {
    const struct client_limits_options o = {.rate_per_s = 10, .rate_burst = 3};
    struct client_limits *l = client_limits_new(&o, 1);
    uint8_t a[16], b[16];
    uint32_t wait = 0;
    v4(a, 1);
    v4(b, 2);
    for (int i = 0; i < 3; i++)
        assert_true(client_limits_request(l, a, 5000, &wait));
    assert_false(client_limits_request(l, a, 5000, &wait));
    assert_int_equal(wait, 100);
    assert_true(client_limits_request(l, b, 5000, &wait)); /* another client is not held up */
    assert_false(client_limits_request(l, a, 5099, &wait));
    assert_int_equal(wait, 1);
    assert_true(client_limits_request(l, a, 5100, &wait)); /* refusals have cost nothing */
    assert_false(client_limits_request(l, a, 5100, &wait));
    for (int i = 0; i < 3; i++) /* silent for long: the whole burst again, and no more */
        assert_true(client_limits_request(l, a, 60000, &wait));
    assert_false(client_limits_request(l, a, 60000, &wait));
    assert_true(client_limits_request(l, NULL, 60000, &wait));
    client_limits_free(l);
}

static void test_rate_over_time(void **state) {
    const struct client_limits_options o = {.rate_per_s = 50};
    struct client_limits *l = client_limits_new(&o, 1);
    uint8_t a[16];
    uint32_t wait = 0;
    int taken = 0;
    v4(a, 1);
    for (uint64_t ms = 1000; ms < 11000; ms++)
        taken += client_limits_request(l, a, ms, &wait);
    assert_int_equal(taken, 50 + 499); /* the burst, and ten seconds of the rate */
    client_limits_free(l);
}

/* More addresses than the table has places: bounded memory, and nobody is limited too early. */
static void test_rate_many(void **state) {
    const struct client_limits_options o = {.rate_per_s = 1, .rate_burst = 1};
    struct client_limits *l = client_limits_new(&o, 7);
    uint32_t wait = 0;
    for (uint32_t i = 0; i < 300000; i++) {
        uint8_t ip[16];
        v6(ip, i, 0);
        assert_true(client_limits_request(l, ip, 1000, &wait));
    }
    client_limits_free(l);
}

static void test_parse_rate(void **state) {
    uint32_t rate = 0, burst = 0;
    assert_true(client_limits_parse_rate(slice_str("10/s"), &rate, &burst));
    assert_int_equal(rate, 10);
    assert_int_equal(burst, 0);
    assert_true(client_limits_parse_rate(slice_str("1000000/s,1"), &rate, &burst));
    assert_int_equal(rate, 1000000);
    assert_int_equal(burst, 1);
    static const char *const bad[] = {"",       "10",    "/s",     "0/s",       "10/m",
                                      "10/s,",  "10/s5", "10/s,0", "1000001/s", "10/s,1000001",
                                      "10/s,x", "-1/s",  " 1/s",   "1/s ",      "1/ss"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(client_limits_parse_rate(slice_str(bad[i]), &rate, &burst));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections), cmocka_unit_test(test_connections_model),
        cmocka_unit_test(test_rate),        cmocka_unit_test(test_rate_over_time),
        cmocka_unit_test(test_rate_many),   cmocka_unit_test(test_parse_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
