/* The command table: finding, arity, key positions, and what is told about it. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/reply.h"
#include "store/commands.h"

static const char *protocols_md; /* the path of docs/protocols.md */

static void test_find(void **state) {
    size_t count;
    const struct command *all = command_all(&count);
    assert_true(count > 80);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        assert_ptr_equal(command_find(slice_str(all[i].name)), &all[i]);
        for (size_t n = 0; n <= strlen(all[i].name); n++)
            name[n] = (char)(n % 2 ? tolower((unsigned char)all[i].name[n]) : all[i].name[n]);
        assert_ptr_equal(command_find(slice_str(name)), &all[i]);
        /* Names cut short or drawn out are others, or nobody's. */
        size_t size = strlen(name);
        assert_ptr_not_equal(command_find(slice_of(name, size - 1)), &all[i]);
        name[size] = 'x';
        assert_ptr_not_equal(command_find(slice_of(name, size + 1)), &all[i]);
    }
    assert_null(command_find(slice_str("")));
    assert_null(command_find(slice_str("nosuch")));
    assert_null(command_find(slice_str("kv\016get"))); /* '.' without a bit of its own */
    assert_null(command_find(slice_of("GET\0", 4)));
    assert_null(command_find(slice_str("averylongnamethatnobodyhas")));
}

static void test_table_is_sound(void **state) {
    size_t count;
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++) {
        const struct command *c = &all[i];
        unsigned kinds = c->flags & (CMD_READ | CMD_WRITE | CMD_CONNECTION);
        assert_true(kinds == CMD_READ || kinds == CMD_WRITE || kinds == CMD_CONNECTION);
        assert_true(c->arity != 0);
        if (c->flags & CMD_GROWS)
            assert_true(c->flags & CMD_WRITE);
        assert_int_equal(c->key_step == 0, c->first_key == 0);
        assert_int_equal(c->since[0] == 0, (c->flags & CMD_INTERNAL) != 0);
        assert_int_equal(c->summary[strlen(c->summary) - 1], '.');
    }
}

static void test_arity(void **state) {
    const struct command *get = command_find(slice_str("get"));
    const struct command *mget = command_find(slice_str("mget"));
    assert_false(command_arity_ok(get, 1));
    assert_true(command_arity_ok(get, 2));
    assert_false(command_arity_ok(get, 3));
    assert_false(command_arity_ok(mget, 1));
    assert_true(command_arity_ok(mget, 2));
    assert_true(command_arity_ok(mget, 1000));
}

static void test_key_range(void **state) {
    struct command_keys keys;
    assert_false(command_key_range(command_find(slice_str("ping")), 1, &keys));
    assert_true(command_key_range(command_find(slice_str("mset")), 5, &keys));
    assert_int_equal(keys.first, 1);
    assert_int_equal(keys.last, 4);
    assert_int_equal(keys.step, 2);
    assert_true(command_key_range(command_find(slice_str("rename")), 3, &keys));
    assert_int_equal(keys.last, 2);
}

static bool grows(const char *first, ...) {
    struct slice args[16];
    struct argv argv = {.args = args};
    va_list ap;
    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *))
        args[argv.count++] = slice_str(s);
    va_end(ap);
    return command_grows(&argv);
}

static void test_grows(void **state) {
    assert_true(grows("SET", "a", "1", NULL));
    assert_true(grows("hset", "a", "f", "1", NULL));
    assert_false(grows("GET", "a", NULL));
    assert_false(grows("DEL", "a", NULL));
    assert_false(grows("SET", "a", NULL));
    assert_false(grows("NOSUCH", NULL));
    assert_true(grows("KV.PUT", "a", "v", "", "", "", "", NULL));
    assert_false(grows("KV.DEL", "a", "", "", NULL));
    /* Transactions by what they carry. */
    assert_true(grows("TX.EXEC", "1", "2", "0", "k", "5", "0", "2", "DEL", "a", "0", "2", "INCR",
                      "a", NULL));
    assert_false(grows("TX.EXEC", "0", "2", "0", "2", "DEL", "a", "0", "2", "GET", "SET", NULL));
    assert_false(grows("TX.EXEC", "0", "0", NULL));
    assert_false(grows("TX.EXEC", "99", "2", "0", NULL));
    assert_false(grows("TX.EXEC", "18446744073709551615", "2", "0", NULL));
    assert_false(grows("TX.EXEC", "x", "2", "0", NULL));
    assert_true(grows("KV.TXN", "1", "0", "1", "rev", "k", "1", "2", "INCR", "a", NULL));
    assert_false(grows("KV.TXN", "1", "1", "0", "rev", "k", "1", "2", "DEL", "a", NULL));
}

static void assert_reply(struct buf *out, const char *want) {
    assert_int_equal(out->size, strlen(want));
    assert_memory_equal(out->data, want, out->size);
    buf_reset(out);
}

static void test_error_texts(void **state) {
    struct buf out = {0};
    char long_name[201];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[200] = 0;
    struct slice args[] = {slice_str("foo"), slice_str("a b"), slice_of("c\0d", 3)};
    struct argv argv = {.args = args, .count = 3};
    command_reply_unknown(&out, &argv);
    assert_reply(&out, "-ERR unknown command 'foo', with args beginning with: 'a b' 'c' \r\n");
    argv.count = 1;
    command_reply_unknown(&out, &argv);
    assert_reply(&out, "-ERR unknown command 'foo', with args beginning with: \r\n");
    args[0] = args[1] = slice_str(long_name);
    argv.count = 3;
    command_reply_unknown(&out, &argv);
    char want[512];
    snprintf(want, sizeof want,
             "-ERR unknown command '%.128s', with args beginning with: '%.128s' \r\n", long_name,
             long_name);
    assert_reply(&out, want);
    command_reply_arity(&out, command_find(slice_str("HGETALL")));
    assert_reply(&out, "-ERR wrong number of arguments for 'hgetall' command\r\n");
    buf_fini(&out);
}

static void test_info(void **state) {
    struct buf out = {0};
    command_info_append(&out, command_find(slice_str("GET")));
    assert_reply(&out, "*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
                       "~3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*0\r\n*0\r\n");
    size_t count;
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++) {
        command_info_append(&out, &all[i]);
        command_docs_reply(&out, &all[i]);
        struct slice reply = buf_slice(&out);
        for (int n = 0; n < 3; n++)
            assert_true(reply_skip(&reply));
        assert_int_equal(reply.size, 0);
        buf_reset(&out);
    }
    buf_fini(&out);
}

/* docs/protocols.md holds the table between two marks. */
static void test_docs_are_current(void **state) {
    static const char begin[] = "<!-- commands: begin -->\n", end[] = "<!-- commands: end -->";
    struct buf want = {0}, have = {0};
    if (!protocols_md)
        skip();
    FILE *f = fopen(protocols_md, "r");
    assert_non_null(f);
    for (size_t n = 1; n > 0;) {
        n = fread(buf_reserve(&have, 4096), 1, 4096, f);
        buf_commit(&have, n);
    }
    fclose(f);
    buf_append_char(&have, 0);
    command_docs_append(&want);
    const char *from = strstr((const char *)have.data, begin);
    assert_non_null(from);
    from += strlen(begin);
    const char *to = strstr(from, end);
    assert_non_null(to);
    if ((size_t)(to - from) != want.size || memcmp(from, want.data, want.size) != 0)
        fail_msg("the table in %s should read:\n%.*s", protocols_md, (int)want.size, want.data);
    buf_fini(&want);
    buf_fini(&have);
}

int main(int argc, char **argv) {
    protocols_md = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),  cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_arity), cmocka_unit_test(test_key_range),
        cmocka_unit_test(test_grows), cmocka_unit_test(test_error_texts),
        cmocka_unit_test(test_info),  cmocka_unit_test(test_docs_are_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
