/* Structured log lines (logfmt) on standard error: time, level, event, then key=value pairs.
 *
 *   log_info("leader-elected", "term=%llu node=%llu", term, id);
 *
 * The format string is ours and holds the keys; values that came from a user go through %s with
 * log_quote(). Thread-safe: one write(2) a line. base, proto, store and net log at debug at most.
 */
#pragma once
#include "base/buf.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
bool log_parse_level(const char *name, enum log_level *ret_level);
void log_write(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Quotes and escapes `s` into a static per-thread buffer (cut at 200 bytes); valid until the fourth
 * next call on this thread. */
const char *log_quote(struct slice s);

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
