#include "base/log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static _Atomic int log_level_now = LOG_INFO;
static const char *const log_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level) {
    log_level_now = (int)level;
}

bool log_parse_level(const char *name, enum log_level *ret_level) {
    for (size_t i = 0; i < ARRAY_COUNT(log_names); i++)
        if (strcmp(name, log_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    return false;
}

void log_write(enum log_level level, const char *event, const char *fmt, ...) {
    if ((int)level < log_level_now)
        return;
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    char line[2048], stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(line, sizeof line, "time=%s.%03ldZ level=%s event=%s ", stamp,
                     now.tv_nsec / 1000000, log_names[level], event);
    size_t used = n < 0 ? 0 : (size_t)n;
    va_list ap;
    va_start(ap, fmt);
    n = vsnprintf(line + used, sizeof line - used - 1, fmt, ap);
    va_end(ap);
    if (n > 0)
        used += (size_t)n < sizeof line - used - 1 ? (size_t)n : sizeof line - used - 2;
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* nowhere left to say it */
}

const char *log_quote(struct slice s) {
    static _Thread_local char texts[4][832];
    static _Thread_local unsigned turn;
    char *out = texts[turn++ % 4];
    size_t at = 0;
    out[at++] = '"';
    for (size_t i = 0; i < s.size && i < 200; i++) {
        uint8_t c = s.data[i];
        if (c == '"' || c == '\\')
            at += (size_t)sprintf(out + at, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            at += (size_t)sprintf(out + at, "\\x%02x", c);
        else
            out[at++] = (char)c;
    }
    if (s.size > 200)
        at += (size_t)sprintf(out + at, "...");
    out[at++] = '"';
    out[at] = 0;
    return out;
}
