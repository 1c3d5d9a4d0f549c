#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_failed(const char *cond, const char *file, int line, const char *func) {
    fprintf(stderr, "level=fatal event=check-failed cond=\"%s\" at=%s:%d func=%s\n", cond, file,
            line, func);
    fflush(stderr);
    abort();
}

void *xmalloc(size_t size) {
    void *p = malloc(size ? size : 1);
    CHECK(p != NULL);
    return p;
}

void *xcalloc(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size ? size : 1);
    CHECK(p != NULL);
    return p;
}

void *xrealloc(void *ptr, size_t size) {
    void *p = realloc(ptr, size ? size : 1);
    CHECK(p != NULL);
    return p;
}

char *xstrdup(const char *str) {
    return xmemdup(str, strlen(str) + 1);
}

void *xmemdup(const void *data, size_t size) {
    void *p = xmalloc(size);
    if (size > 0)
        memcpy(p, data, size);
    return p;
}
