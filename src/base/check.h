/* Assertions that stay on in release builds.
 *
 * CHECK() is for programmer errors only: never for input, disk or network. One condition each.
 * When it fails the process writes where and stops (abort), so that a supervisor restarts it from
 * its durable state; carrying on with broken invariants could let the copies drift apart.
 *
 * Out of memory is treated the same way: the x*alloc functions below never return NULL. Memory is
 * bounded by configured limits, so running out means the machine is mis-sized, and a restart from
 * durable state is the honest answer.
 */
#pragma once
#include <stddef.h>

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            check_failed(#cond, __FILE__, __LINE__, __func__);                                     \
    } while (0)

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WARN_UNUSED __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))

_Noreturn void check_failed(const char *cond, const char *file, int line, const char *func);

void *xmalloc(size_t size) WARN_UNUSED;
void *xcalloc(size_t count, size_t size) WARN_UNUSED;
void *xrealloc(void *ptr, size_t size) WARN_UNUSED;
char *xstrdup(const char *str) WARN_UNUSED;
void *xmemdup(const void *data, size_t size) WARN_UNUSED;
