/* The inside of struct store, shared by store.c, apply.c, view.c and verify.c. Private. */
#pragma once
#include "store/keyspace_impl.h"
#include "store/session.h"
#include "store/state.h"

#define STORE_DATA_NAME "data.mdb"
#define STORE_DATA_TMP_NAME "data.mdb.tmp"
#define STORE_LOCK_NAME "lock.mdb"

struct store {
    char *dir;
    char *boot_id;
    int lock_fd; /* of the folder; holds a lock that keeps a second process out */
    uint64_t max_data_bytes;
    uint64_t map_bytes, reserve_bytes;
    bool sound; /* as the mark says */
    struct env env;
    struct keyspace_hashes hashes;

    /* of the writer's thread */
    struct env_txn txn; /* open between store_begin() and store_commit() */
    struct env_txn peek;
    struct state state;
    struct session_table sessions;
    struct keyspace ks;
    struct argv argv;
    struct buf reply;
    struct buf membership;
    uint64_t membership_index;
    uint64_t sites_revision;
    int failed; /* the first local failure; nothing goes on after it */
    bool changed;

    int view_count; /* atomic */
};

struct store_view {
    struct store *store;
    struct env_txn txn;
    struct state state;
    struct keyspace ks;
    bool active;
};
