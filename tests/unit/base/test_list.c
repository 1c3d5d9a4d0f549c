/* The intrusive list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct list node;
};

/* The list's values as a decimal number; checks the links in both directions. */
static int values(struct list *head) {
    int forward = 0;
    LIST_FOREACH (it, head) {
        assert_ptr_equal(it->next->prev, it);
        assert_ptr_equal(it->prev->next, it);
        forward = forward * 10 + LIST_ENTRY(it, struct item, node)->value;
    }
    return forward;
}

static void items_init(struct item items[], int count) {
    for (int i = 0; i < count; i++) {
        items[i].value = i + 1;
        list_init(&items[i].node);
    }
}

static void test_insert_and_remove(void **state) {
    struct list head;
    struct item items[4];
    items_init(items, 4);
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_first(&head));
    list_push_back(&head, &items[1].node);
    list_push_back(&head, &items[2].node);
    list_push_front(&head, &items[0].node);
    list_insert_before(&items[1].node, &items[3].node);
    assert_int_equal(values(&head), 1423);
    assert_ptr_equal(list_first(&head), &items[0].node);
    list_remove(&items[3].node);
    list_remove(&items[3].node); /* twice does no harm */
    assert_true(list_empty(&items[3].node));
    assert_int_equal(values(&head), 123);
    list_remove(&items[0].node);
    list_remove(&items[2].node);
    assert_int_equal(values(&head), 2);
    list_remove(&items[1].node);
    assert_true(list_empty(&head));
}

static void test_removal_while_walking(void **state) {
    struct list head;
    struct item items[5];
    items_init(items, 5);
    list_init(&head);
    for (int i = 0; i < 5; i++)
        list_push_back(&head, &items[i].node);
    LIST_FOREACH_SAFE (it, &head)
        if (LIST_ENTRY(it, struct item, node)->value % 2)
            list_remove(it);
    assert_int_equal(values(&head), 24);
}

static void test_splice(void **state) {
    struct list to, from;
    struct item items[4];
    items_init(items, 4);
    list_init(&to);
    list_init(&from);
    list_splice(&to, &from);
    assert_true(list_empty(&to));
    list_push_back(&from, &items[0].node);
    list_push_back(&from, &items[1].node);
    list_splice(&to, &from);
    assert_true(list_empty(&from));
    assert_int_equal(values(&to), 12);
    list_push_back(&from, &items[2].node);
    list_push_back(&from, &items[3].node);
    list_splice(&to, &from);
    assert_true(list_empty(&from));
    assert_int_equal(values(&to), 1234);
    list_splice(&to, &from);
    assert_int_equal(values(&to), 1234);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_insert_and_remove),
        cmocka_unit_test(test_removal_while_walking),
        cmocka_unit_test(test_splice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
