/* A folder for the fuzz targets of the store: made once, in memory where there is any, its content
 * deleted for each input and itself at exit. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/store.h"

static char store_folder[64];

static inline void store_folder_remove(void) {
    char path[128];
    CHECK(store_wipe(store_folder) == 0);
    snprintf(path, sizeof path, "%s/file", store_folder);
    unlink(path);
    rmdir(store_folder);
}

/* Opens a store in the emptied folder. */
static inline struct store *store_folder_open_new(void) {
    struct store_options options = {.dir = store_folder, .map_bytes = 256 << 20, .boot_id = "fuzz"};
    struct store *s;
    if (!store_folder[0]) {
        snprintf(store_folder, sizeof store_folder, "%s/fuzz-store-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        CHECK(mkdtemp(store_folder) != NULL);
        atexit(store_folder_remove);
    }
    CHECK(store_wipe(store_folder) == 0);
    CHECK(store_open(&options, &s) == STORE_OPENED);
    return s;
}
