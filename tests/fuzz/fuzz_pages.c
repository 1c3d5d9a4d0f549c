/* Changed bytes in an LMDB file (src/store/pages.c): the input is a list of patches, each u32
 * offset | u8 to be xored, on a store with large values, free pages and trees of two levels. What
 * passes the check must be readable, and what it holds must be what was written. */
#include <fcntl.h>

#include "base/bytes.h"
#include "store/check.h"
#include "store_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PATCH_BYTES = 5, FILE_BYTES_MAX = 4 << 20, KEYS = 300 };

static uint8_t *template;
static size_t template_bytes;
static struct hash128 template_digest;
static uint64_t template_index;

static void fill(struct store *s, unsigned round) {
    struct buf entry = {0}, commands = {0}, argv = {0}, value = {0};
    struct entry_group group = {.command_count = KEYS};
    for (unsigned i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "key%u", i);
        buf_reset(&argv);
        buf_reset(&value);
        buf_printf(&value, "%0*u", i % 50 ? 40 : 9000, round);
        buf_append_u8(&value, 0);
        argv_append_strs(&argv, "SET", key, (const char *)value.data, NULL);
        entry_append_command(&commands, 0, 0, buf_slice(&argv));
    }
    group.commands = buf_slice(&commands);
    entry_begin(&entry, 1000 + round, 7);
    entry_append_group(&entry, &group);
    CHECK(store_begin(s) == 0);
    CHECK(store_apply(s, store_applied_index(s) + 1, 1, buf_slice(&entry), NULL, NULL) == 0);
    CHECK(store_commit(s) == 0);
    buf_fini(&entry);
    buf_fini(&commands);
    buf_fini(&argv);
    buf_fini(&value);
}

static void file_path(char out[128]) {
    snprintf(out, 128, "%s/data.mdb", store_folder);
}

static void make_template(void) {
    char path[128];
    struct store *s = store_folder_open_new();
    for (unsigned round = 0; round < 4; round++)
        fill(s, round);
    template_digest = store_digest(s);
    template_index = store_applied_index(s);
    CHECK(store_close(s) == 0);
    file_path(path);
    template = xcalloc(1, FILE_BYTES_MAX);
    int fd = open(path, O_RDONLY);
    ssize_t n = pread(fd, template, FILE_BYTES_MAX, 0);
    CHECK(n > 0);
    close(fd);
    /* A map that was made larger than it needed ends in zeros. */
    while (n > 0 && template[n - 1] == 0)
        n--;
    template_bytes = ((size_t)n + 4095) / 4096 * 4096;
}

/* What the check lets pass is opened, read and written. */
static void use(void) {
    struct store_options options = {.dir = store_folder, .map_bytes = 256 << 20, .boot_id = "fuzz"};
    struct store *s;
    struct store_view *view;
    struct hash128 digest;
    CHECK(store_open(&options, &s) == STORE_OPENED);
    CHECK(store_view_new(s, &view) == 0);
    CHECK(store_view_begin(view) == 0);
    CHECK(store_verify(view, &digest) == 0);
    if (store_applied_index(s) == template_index)
        CHECK(hash128_equal(digest, template_digest));
    store_view_end(view);
    store_view_free(view);
    fill(s, 9);
    store_abandon(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[128];
    struct store_check c;
    if (!template)
        make_template();
    else
        store_abandon(store_folder_open_new());
    uint8_t *bytes = xmemdup(template, template_bytes);
    for (; size >= PATCH_BYTES; data += PATCH_BYTES, size -= PATCH_BYTES)
        bytes[get_u32le(data) % template_bytes] ^= data[4];
    file_path(path);
    int fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, template_bytes) == (ssize_t)template_bytes);
    close(fd);
    free(bytes);
    int rc = store_check_folder(store_folder, "fuzz", NULL, NULL, &c);
    CHECK((rc == STORE_CHECK_GOOD) == (c.problem[0] == 0));
    if (rc == STORE_CHECK_GOOD)
        use();
    return 0;
}
