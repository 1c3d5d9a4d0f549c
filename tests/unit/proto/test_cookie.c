#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after those */
#include <cmocka.h>
#include <stdlib.h>

#include "base/check.h"
#include "proto/cookie.h"

/* `want` NULL: it is not there. */
static void finds(const char *field, const char *want) {
    struct slice value = slice_str("untouched");
    /* A copy shows a sanitizer what reads behind it. */
    size_t n = strlen(field);
    uint8_t *copy = n > 0 ? xmemdup(field, n) : NULL;
    bool found = cookie_find(slice_of(copy, n), "name", &value);
    assert_int_equal(found, want != NULL);
    if (!slice_equal_str(value, want ? want : "untouched"))
        fail_msg("\"%s\" has \"%.*s\"", field, (int)value.size, (const char *)value.data);
    free(copy);
}

static void found(void **state) {
    finds("name=v", "v");
    finds("a=b; name=v", "v");
    finds("a=b; name=v; c=d", "v");
    finds("a=b;name=v;c=d", "v");
    finds("name=first; name=second", "first");
    finds("name=", "");
    finds("name", NULL);
    finds("name=\"v\"", "v");
    finds("name=\"\"", "");
    finds("name=\"", "\"");
    finds("name=a=b", "a=b");
    finds(" \tname = v ", "v");
    finds("broken; ; =; name=v", "v");
}

static void missing(void **state) {
    finds("", NULL);
    finds(";", NULL);
    finds("Name=v", NULL);
    finds("xname=v", NULL);
    finds("namex=v", NULL);
    finds("a=name=v", NULL);
    finds("=v", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(found), cmocka_unit_test(missing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
