/* The few files the store writes itself: the mark beside the environment, and snapshots. All return
 * 0 or a negative errno. */
#pragma once
#include "base/buf.h"

/* Writes beside, fsyncs, renames, fsyncs the folder: afterwards the file has the old or the new
 * content, whatever happens. */
int files_replace(const char *dir, const char *name, struct slice bytes) WARN_UNUSED;
/* Appends the content of a small file; -ENOENT, -EFBIG over bytes_max. */
int files_read(const char *dir, const char *name, size_t bytes_max,
               struct buf *ret_bytes) WARN_UNUSED;
/* Deletes; a missing file is no error. */
int files_remove(const char *dir, const char *name) WARN_UNUSED;
bool files_exists(const char *dir, const char *name);
int files_sync_folder(const char *dir) WARN_UNUSED;
/* fsyncs the folder that `path` is in. */
int files_sync_parent(const char *path) WARN_UNUSED;
int files_write_all(int fd, struct slice bytes) WARN_UNUSED;
/* Reads exactly that many bytes; -EBADMSG when the file ends before. */
int files_read_at(int fd, uint64_t offset, uint8_t *out, size_t size) WARN_UNUSED;
char *files_path(const char *dir, const char *name) WARN_UNUSED;

/* ---- the mark: store.mark ----
 *
 * Says in which boot of the operating system the environment was last open, whether it was closed
 * (and so flushed) since, and whether its records are known to be right: then a start need not look
 * at all of them before it serves. docs/store-format.md has its form. */
#define MARK_NAME "store.mark"
#define MARK_TMP_NAME "store.mark.tmp"

enum mark_state {
    MARK_OPEN,  /* open, its records not looked at since */
    MARK_SOUND, /* open, and they were */
    MARK_CLEAN, /* flushed and closed */
};
struct mark {
    bool present;   /* and well formed */
    bool same_boot; /* boot_id is the one it was written with */
    bool clean;
    bool sound; /* MARK_SOUND; or MARK_CLEAN, and the file has not been touched since */
};
int mark_read(const char *dir, const char *boot_id, struct mark *ret_mark) WARN_UNUSED;
int mark_write(const char *dir, const char *boot_id, enum mark_state state) WARN_UNUSED;
