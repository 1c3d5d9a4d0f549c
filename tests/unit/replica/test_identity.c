#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "replica/identity.h"

static const struct identity example = {
    .node_id = 1234567890123, .cluster_id = {1, 2, 0xfe, [15] = 9}, .begun = true, .starts = 42};

static void test_save_and_load(void **state) {
    char dir[] = "/tmp/cotidal-identity-XXXXXX", path[64];
    struct identity id;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(identity_load(dir, &id), -ENOENT);
    assert_int_equal(identity_save(dir, &example), 0);
    assert_int_equal(identity_load(dir, &id), 0);
    assert_int_equal(id.node_id, example.node_id);
    assert_memory_equal(id.cluster_id, example.cluster_id, 16);
    assert_true(id.begun);
    assert_int_equal(id.starts, 42);
    assert_false(id.bootstrap);
    snprintf(path, sizeof path, "%s/node.meta", dir);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(identity_load(dir, &id), -EBADMSG);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(identity_load(dir, &id), -EBADMSG);
    unlink(path);
    rmdir(dir);
}

/* Under another id or cluster a node would do harm. */
static void test_every_changed_bit_is_noticed(void **state) {
    struct buf text = {0};
    struct identity id;
    identity_encode(&example, &text);
    assert_true(identity_decode(buf_slice(&text), &id));
    for (size_t i = 0; i < text.size * 8; i++) {
        text.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        assert_false(identity_decode(buf_slice(&text), &id));
        text.data[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    buf_append_char(&text, '\n');
    assert_false(identity_decode(buf_slice(&text), &id));
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_every_changed_bit_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
