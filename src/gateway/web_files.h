/* The files of web/ as they were at build time; web_files.c is written by web/embed.py. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct web_file {
    const char *name;
    const char *content_type;
    const char *etag; /* quoted */
    const uint8_t *data;
    size_t size;
};
extern const struct web_file web_files[];
extern const size_t web_file_count;
