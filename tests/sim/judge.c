/* Judges a history: verdict.h says what that is, and what is demanded.
 *
 *   judge FILE
 *
 * Prints what is wrong, then a line of numbers. Exit code: 0 good, 1 bad, 2 not a history, 3 not
 * decided within bounds.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "verdict.h"

enum { FILE_BYTES_MAX = 1 << 30 };

static bool read_file(const char *path, struct buf *out) {
    static uint8_t chunk[65536];
    FILE *f = fopen(path, "re");
    size_t n = 0;
    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0 && out->size <= FILE_BYTES_MAX)
        buf_append_slice(out, slice_of(chunk, n));
    bool ok = f && !ferror(f) && out->size <= FILE_BYTES_MAX;
    if (!ok)
        fprintf(stderr, "judge: %s: %s\n", path, errno ? strerror(errno) : "over 1 GiB");
    if (f)
        fclose(f);
    return ok;
}

int main(int argc, char **argv) {
    static const char *const names[] = {[VERDICT_GOOD] = "good",
                                        [VERDICT_BAD] = "bad",
                                        [VERDICT_MALFORMED] = "malformed",
                                        [VERDICT_UNDECIDED] = "undecided"};
    struct buf text = {0};
    struct verdict v;
    if (argc != 2) {
        fprintf(stderr, "usage: judge FILE\n");
        return 2;
    }
    if (!read_file(argv[1], &text))
        return 2;
    verdict_judge(buf_slice(&text), stdout, &v);
    printf("%s: %zu operations (%zu ok, %zu no, %zu unknown) on %zu counters, %zu texts, %zu "
           "registers\n",
           names[v.result], v.operations, v.ok, v.no, v.unknown, v.counters, v.texts, v.registers);
    buf_fini(&text);
    return (int)v.result;
}
