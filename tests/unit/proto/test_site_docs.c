/* Runs the examples of docs/sites.md: every row of a table that says what is answered or refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "proto/site_headers.h"
#include "proto/site_path.h"
#include "proto/site_redirects.h"

static const char *page_path;

enum { CELL_MAX = 1024 };

/* What the tables below are about. */
enum subject { NOTHING, FILES, REDIRECTS, HEADERS };
enum table { NO_TABLE, ASKED, REFUSED_PATH, REFUSED_REDIRECT, CIRCLE, REFUSED_HEADER, NAME };

struct docs {
    enum subject subject;
    enum table table;
    struct buf block; /* of the last fence */
    struct site_redirects *redirects;
    struct site_headers *headers;
    int line;
    int rows[NAME + 1]; /* checked, so that a page that is not understood is no success */
    int subjects[HEADERS + 1];
};

static void first_error(void *ctx, uint32_t line, const char *text) {
    struct buf *out = ctx;
    if (out->size == 0)
        buf_append_str(out, text);
}

/* Takes the next `...` of a cell into `out`; false when there is none. */
static bool take_code(const char **cell, char out[CELL_MAX]) {
    const char *start = strchr(*cell, '`');
    const char *end = start ? strchr(start + 1, '`') : NULL;
    if (!end)
        return false;
    snprintf(out, CELL_MAX, "%.*s", (int)(end - start - 1), start + 1);
    *cell = end + 1;
    return true;
}

static bool exists(void *ctx, struct slice path) {
    const struct buf *block = ctx;
    char line[CELL_MAX];
    int n = snprintf(line, sizeof line, "\n%.*s\n", (int)path.size, path.data);
    return memmem(block->data, block->size, line, (size_t)n) != NULL;
}

static void answer_of_files(struct docs *d, const char *asked, struct buf *out) {
    uint8_t scratch[SITE_PATH_BUFFER_BYTES], buffer[SITE_PATH_BUFFER_BYTES];
    struct slice path, to;
    enum site_path_result normal = site_path_normalise(slice_str(asked), scratch, &path);
    if (normal != SITE_PATH_OK) {
        buf_printf(out, "%d", normal);
        return;
    }
    switch (site_path_resolve(path, exists, &d->block, buffer, &to)) {
    case SITE_FILE:
        buf_append_str(out, "200 ");
        break;
    case SITE_MOVED:
        buf_append_str(out, "308 ");
        break;
    case SITE_NOT_FOUND:
        buf_append_str(out, "404 ");
        if (!site_path_find_404(path, exists, &d->block, buffer, &to))
            return;
    }
    buf_append_slice(out, to);
}

static void answer_of_rules(struct docs *d, const char *asked, const char *words, struct buf *out) {
    char path[CELL_MAX];
    const char *query = strchr(asked, '?');
    struct site_captures captures;
    snprintf(path, sizeof path, "%.*s", (int)strcspn(asked, "?"), asked);
    const struct site_redirect *rule =
        site_redirects_match(d->redirects, slice_str(path), strstr(words, "where a file is"),
                             !strstr(words, "by a script"), &captures);
    if (!rule) {
        buf_append_str(out, "no rule");
        return;
    }
    buf_printf(out, "%d ", rule->status);
    if (rule->status >= 300 && rule->status < 400)
        site_redirect_put_location(rule, &captures, slice_str(query ? query + 1 : ""), out);
    else
        assert_true(site_redirect_put_path(rule, &captures, out));
}

static void note_field(void *ctx, struct slice name, struct slice value) {
    struct buf *out = ctx;
    buf_printf(out, "%s`%.*s: %.*s`", out->size > 0 ? " " : "", (int)name.size, name.data,
               (int)value.size, value.data);
}

static void check_asked(struct docs *d, const char *left, const char *right) {
    char asked[CELL_MAX], want[CELL_MAX];
    struct buf got = {0}, scratch = {0};
    assert_true(take_code(&left, asked));
    if (d->subject == HEADERS) {
        struct site_headers_match match;
        site_headers_match(d->headers, slice_str(asked), &match);
        site_headers_each(&match, slice_str(asked), &scratch, note_field, &got);
        snprintf(want, sizeof want, "%s", right);
    } else {
        if (!take_code(&right, want))
            snprintf(want, sizeof want, "%s", right);
        if (d->subject == REDIRECTS)
            answer_of_rules(d, asked, left, &got);
        else
            answer_of_files(d, asked, &got);
    }
    if (!slice_equal_str(buf_slice(&got), want))
        fail_msg("line %d: %s: '%.*s', not '%s'", d->line, asked, (int)got.size, got.data, want);
    buf_fini(&got);
    buf_fini(&scratch);
}

static void check_refused(struct docs *d, const char *left, const char *right) {
    char text[CELL_MAX];
    struct buf got = {0};
    assert_true(take_code(&left, text));
    struct slice file = slice_str(text);
    if (d->table == REFUSED_HEADER) {
        assert_null(site_headers_parse(file, first_error, &got));
    } else {
        struct site_redirects *r = site_redirects_parse(file, first_error, &got);
        assert_int_equal(r != NULL, d->table == CIRCLE);
        if (r)
            site_redirects_find_loops(r, NULL, NULL, first_error, &got);
        site_redirects_free(r);
    }
    if (!slice_equal_str(buf_slice(&got), right))
        fail_msg("line %d: %s: '%.*s', not '%s'", d->line, text, (int)got.size, got.data, right);
    buf_fini(&got);
}

static void check_row(struct docs *d, const char *left, const char *right) {
    char name[CELL_MAX], want[CELL_MAX];
    struct buf got = {0};
    d->rows[d->table]++;
    switch (d->table) {
    case ASKED:
        check_asked(d, left, right);
        break;
    case REFUSED_PATH:
        assert_true(take_code(&left, name));
        assert_true(take_code(&right, want));
        answer_of_files(d, name, &got);
        if (!slice_starts_with(buf_slice(&got), slice_str(want)))
            fail_msg("line %d: %s: %.*s", d->line, name, (int)got.size, got.data);
        break;
    case NAME:
        assert_true(take_code(&left, name));
        assert_true(take_code(&right, want));
        assert_string_equal(site_path_cache_control(slice_str(name)), want);
        break;
    case NO_TABLE:
        break;
    default:
        check_refused(d, left, right);
    }
    buf_fini(&got);
}

static void begin_table(struct docs *d, const char *left) {
    static const struct {
        const char *head;
        enum table table;
    } heads[] = {
        {"asked for", ASKED},
        {"refused", REFUSED_PATH},
        {"refused in `_redirects`", REFUSED_REDIRECT},
        {"circle in `_redirects`", CIRCLE},
        {"refused in `_headers`", REFUSED_HEADER},
        {"name", NAME},
    };
    d->table = NO_TABLE;
    for (size_t i = 0; i < ARRAY_COUNT(heads); i++)
        if (strcmp(left, heads[i].head) == 0)
            d->table = heads[i].table;
}

static void end_block(struct docs *d, enum subject subject) {
    struct buf error = {0};
    struct slice text = slice_of(d->block.data + 1, d->block.size - 1);
    d->subjects[subject]++;
    d->subject = subject;
    if (subject == REDIRECTS) {
        site_redirects_free(d->redirects);
        d->redirects = site_redirects_parse(text, first_error, &error);
    } else if (subject == HEADERS) {
        site_headers_free(d->headers);
        d->headers = site_headers_parse(text, first_error, &error);
    }
    if (error.size > 0)
        fail_msg("the block before line %d: %.*s", d->line, (int)error.size, error.data);
    buf_fini(&error);
}

static enum subject subject_of(const char *fence) {
    return strcmp(fence, "```files") == 0        ? FILES
           : strcmp(fence, "```_redirects") == 0 ? REDIRECTS
           : strcmp(fence, "```_headers") == 0   ? HEADERS
                                                 : NOTHING;
}

static void test_page(void **state) {
    static struct docs d;
    char line[4 * CELL_MAX];
    bool in_block = false, in_table = false;
    enum subject block = NOTHING;
    FILE *f = fopen(page_path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        d.line++;
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "```", 3) == 0) {
            if (in_block)
                end_block(&d, block);
            block = subject_of(line);
            in_block = !in_block;
            if (in_block) {
                buf_reset(&d.block);
                buf_append_char(&d.block, '\n');
            }
            continue;
        }
        if (in_block) {
            buf_printf(&d.block, "%s\n", line);
            continue;
        }
        char *middle = strncmp(line, "| ", 2) == 0 ? strstr(line + 2, " | ") : NULL;
        size_t size = strlen(line);
        if (!middle || strcmp(line + size - 2, " |") != 0) {
            in_table = strncmp(line, "|---", 4) == 0;
            continue;
        }
        *middle = 0;
        line[size - 2] = 0;
        if (in_table)
            check_row(&d, line + 2, middle + 3);
        else
            begin_table(&d, line + 2);
    }
    fclose(f);
    for (int i = ASKED; i <= NAME; i++)
        assert_true(d.rows[i] > 0);
    for (int i = FILES; i <= HEADERS; i++)
        assert_true(d.subjects[i] > 0);
    site_redirects_free(d.redirects);
    site_headers_free(d.headers);
    buf_fini(&d.block);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_page)};
    CHECK(argc == 2);
    page_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
