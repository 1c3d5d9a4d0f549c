#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SHOW_EVERY_MS = 100, BAR_CELLS = 30 };

static uint64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void bytes_append(struct buf *out, uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    buf_printf(out, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void show(struct progress *p) {
    struct buf line = {0};
    buf_printf(&line, "\r%s  ", p->label);
    if (p->total) {
        uint64_t done = p->done < p->total ? p->done : p->total;
        int cells = (int)((double)done / (double)p->total * BAR_CELLS);
        buf_append_char(&line, '[');
        for (int i = 0; i < BAR_CELLS; i++)
            buf_append_char(&line, i < cells ? '=' : i == cells ? '>' : ' ');
        buf_printf(&line, "] %3d%%  ", (int)((double)done / (double)p->total * 100));
        bytes_append(&line, done);
        buf_append_str(&line, " of ");
        bytes_append(&line, p->total);
    } else {
        bytes_append(&line, p->done);
    }
    buf_append_str(&line, "\x1b[K"); /* ECMA-48: erase to the end of the line */
    fwrite(line.data, 1, line.size, stderr);
    fflush(stderr);
    buf_fini(&line);
}

void progress_begin(struct progress *p, const char *label, uint64_t total, bool quiet) {
    *p = (struct progress){.label = label, .total = total};
    p->shown = !quiet && isatty(STDERR_FILENO);
    if (p->shown)
        show(p);
    p->shown_ms = now_ms();
}

void progress_add(struct progress *p, uint64_t bytes) {
    p->done += bytes;
    if (!p->shown)
        return;
    uint64_t now = now_ms();
    if (now - p->shown_ms < SHOW_EVERY_MS)
        return;
    p->shown_ms = now;
    show(p);
}

void progress_end(struct progress *p) {
    if (p->shown)
        fputs("\r\x1b[K", stderr);
    p->shown = false;
}
