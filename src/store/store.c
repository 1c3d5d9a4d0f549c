/* Opening, closing, and what the writer's thread can ask without a transaction. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/check_impl.h"
#include "store/files.h"
#include "store/once.h"
#include "store/sites_impl.h"

static int lock_folder(const char *dir, int *ret_fd) {
    if (mkdir(dir, 0700) == 0) {
        int rc = files_sync_parent(dir);
        if (rc)
            return rc;
    } else if (errno != EEXIST) {
        return -errno;
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* Before LMDB sees the file. */
static int check_files(const struct store *s, char *ret_problem) {
    struct store_check c;
    int rc = store_check_folder(s->dir, s->boot_id, NULL, NULL, &c);
    if (rc == -EBADMSG) {
        if (ret_problem)
            memcpy(ret_problem, c.problem, sizeof c.problem);
        return STORE_DAMAGED;
    }
    return rc < 0 ? rc : 0;
}

/* Decides whether what lies in the folder can be trusted, looks at it, and marks it as open. */
static int claim(struct store *s, enum store_look look, char *ret_problem) {
    struct mark mark;
    int rc = mark_read(s->dir, s->boot_id, &mark);
    if (rc)
        return rc;
    if (!files_exists(s->dir, STORE_DATA_NAME)) {
        s->sound = true;
    } else if (!mark.present || (!mark.same_boot && !mark.clean)) {
        return STORE_UNTRUSTED;
    } else if (look == STORE_LOOK_ALWAYS || (look == STORE_LOOK_UNLESS_SOUND && !mark.sound)) {
        if ((rc = check_files(s, ret_problem)))
            return rc;
        s->sound = true;
    }
    return mark_write(s->dir, s->boot_id, s->sound ? MARK_SOUND : MARK_OPEN);
}

static int load_new(struct store *s) {
    s->state = state_new();
    int rc = env_write_begin(&s->env, &s->txn);
    if (rc)
        return rc;
    if ((rc = state_save(&s->txn, &s->state))) {
        env_write_abort(&s->txn);
        return rc;
    }
    return env_write_commit(&s->txn);
}

static int load_sites_revision(struct env_txn *t, uint64_t *ret_revision) {
    static const uint8_t name[] = {STORE_DB_SITES, SITES_VERSION};
    struct slice key = slice_of(name, sizeof name), bytes;
    struct main_record record;
    *ret_revision = 0;
    int rc = table_get(t, TABLE_MAIN, key, &bytes);
    if (rc)
        return rc < 0 ? rc : 0;
    if ((rc = record_decode(key, bytes, &record)))
        return rc;
    if (record.value.size != SITES_VERSION_BYTES)
        return -EBADMSG;
    *ret_revision = get_u64le(record.value.data + 8);
    return 0;
}

/* Fills what the writer keeps in memory. */
static int load(struct store *s) {
    int rc = env_read_open(&s->env, &s->peek);
    if (rc)
        return rc;
    rc = state_load(&s->peek, &s->state);
    if (rc == TABLE_END) {
        env_read_park(&s->peek);
        return load_new(s);
    }
    if (rc)
        return rc;
    struct slice membership;
    rc = state_load_membership(&s->peek, &s->membership_index, &membership);
    if (rc == 0)
        buf_append_slice(&s->membership, membership);
    if (rc >= 0)
        rc = session_table_load(&s->sessions, &s->peek);
    if (rc == 0)
        rc = load_sites_revision(&s->peek, &s->sites_revision);
    env_read_park(&s->peek);
    return rc;
}

static void free_store(struct store *s) {
    CHECK(__atomic_load_n(&s->view_count, __ATOMIC_SEQ_CST) == 0);
    env_write_abort(&s->txn);
    env_read_close(&s->peek);
    env_close(&s->env);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    session_table_fini(&s->sessions);
    keyspace_fini(&s->ks);
    argv_fini(&s->argv);
    buf_fini(&s->reply);
    buf_fini(&s->membership);
    free(s->dir);
    free(s->boot_id);
    free(s);
}

int store_open(const struct store_options *options, struct store **ret_store) {
    return store_open_explained(options, ret_store, NULL);
}

int store_open_explained(const struct store_options *options, struct store **ret_store,
                         char *ret_problem) {
    struct store *s = xcalloc(1, sizeof *s);
    s->dir = xstrdup(options->dir);
    s->boot_id = xstrdup(options->boot_id);
    s->max_data_bytes = options->max_data_bytes;
    s->map_bytes = options->map_bytes;
    s->reserve_bytes = options->reserve_bytes;
    s->hashes = keyspace_hashes_default;
    s->lock_fd = -1;
    session_table_init(&s->sessions, &s->state);
    keyspace_init(&s->ks, &s->txn, &s->state, &s->hashes, true);
    s->ks.log.count_max = options->changes_max;
    int rc = lock_folder(s->dir, &s->lock_fd);
    if (rc == 0)
        rc = claim(s, options->look, ret_problem);
    if (rc == 0)
        rc = env_open(&s->env, s->dir, options->map_bytes);
    if (rc == 0)
        rc = load(s);
    if (rc) {
        free_store(s);
        return rc;
    }
    *ret_store = s;
    return STORE_OPENED;
}

int store_refound(struct store *s, uint64_t index, uint64_t term, struct slice membership) {
    CHECK(!s->txn.handle);
    CHECK(index >= s->state.applied_index);
    CHECK(term >= s->state.applied_term);
    struct state state = s->state;
    state.applied_index = index;
    state.applied_term = term;
    state.session_count = 0;
    state.session_sum = (struct hash128){0};
    int rc = env_write_begin(&s->env, &s->txn);
    if (rc)
        return rc;
    /* Whoever watched the old cluster may have seen changes that are not in this state. */
    if ((rc = changes_clear(&s->txn, &state, ((index + 1) << 20) - 1)) ||
        (rc = table_clear(&s->txn, TABLE_SESSIONS)) ||
        (rc = state_save_membership(&s->txn, index, membership)) ||
        (rc = state_save(&s->txn, &state))) {
        env_write_abort(&s->txn);
        return rc;
    }
    return env_write_commit(&s->txn);
}

bool store_is_sound(const struct store *s) {
    return s->sound;
}

int store_note_sound(struct store *s) {
    if (s->sound)
        return 0;
    s->sound = true;
    return mark_write(s->dir, s->boot_id, MARK_SOUND);
}

int store_close(struct store *s) {
    CHECK(!s->txn.handle);
    int rc = s->failed ? s->failed : env_sync(&s->env);
    if (rc == 0)
        rc = mark_write(s->dir, s->boot_id, MARK_CLEAN);
    free_store(s);
    return rc;
}

void store_abandon(struct store *s) {
    free_store(s);
}

void store_moved(struct store *s, const char *dir) {
    free(s->dir);
    s->dir = xstrdup(dir);
}

int store_wipe(const char *dir) {
    static const char *const names[] = {STORE_DATA_NAME, STORE_LOCK_NAME, STORE_DATA_TMP_NAME,
                                        MARK_TMP_NAME, MARK_NAME};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        int rc = files_remove(dir, names[i]);
        if (rc)
            return rc;
    }
    int rc = files_sync_folder(dir);
    return rc == -ENOENT ? 0 : rc;
}

uint64_t store_applied_index(const struct store *s) {
    return s->state.applied_index;
}

uint64_t store_applied_term(const struct store *s) {
    return s->state.applied_term;
}

uint64_t store_time_ms(const struct store *s) {
    return s->state.time_ms;
}

struct hash128 store_digest(const struct store *s) {
    return state_digest(&s->state);
}

uint64_t store_data_bytes(const struct store *s) {
    return s->state.data_bytes;
}

uint64_t store_key_count(const struct store *s) {
    return state_key_count(&s->state) - s->state.key_count[STORE_DB_SITES];
}

uint64_t store_session_count(const struct store *s) {
    return s->state.session_count;
}

bool store_knows_node_id(const struct store *s, uint64_t id) {
    return id > 0 && id < s->state.next_node_id;
}

bool store_over_quota(const struct store *s) {
    return s->max_data_bytes > 0 && s->state.data_bytes >= s->max_data_bytes;
}

struct slice store_membership(const struct store *s, uint64_t *ret_index) {
    *ret_index = s->membership_index;
    return buf_slice(&s->membership);
}

uint64_t store_file_bytes(const struct store *s) {
    return env_file_bytes(&s->env);
}

/* When the next key expires, or UINT64_MAX; < 0. */
static int first_expiry(struct env_txn *t, uint64_t *ret_ms) {
    struct slice key;
    uint64_t id;
    uint16_t db;
    *ret_ms = UINT64_MAX;
    int rc = table_first(t, TABLE_EXPIRY, &key, NULL);
    if (rc)
        return rc < 0 ? rc : 0;
    return expiry_key_decode(key, ret_ms, &db, &id) ? 0 : -EBADMSG;
}

/* The open transaction, or one to look into what was committed last; end it with peek_end(). */
static int peek_begin(struct store *s, struct env_txn **ret_txn) {
    *ret_txn = s->txn.handle ? &s->txn : &s->peek;
    return s->txn.handle ? 0 : env_read_renew(&s->peek);
}

static void peek_end(struct store *s) {
    if (!s->txn.handle)
        env_read_park(&s->peek);
}

bool store_once_knows(struct store *s, const struct argv *argv) {
    struct env_txn *txn;
    struct once_record record;
    if (s->failed || argv->count < 3 || !slice_equal_nocase(argv->args[0], "ONCE.EXEC"))
        return false;
    int rc = peek_begin(s, &txn);
    if (rc == 0) {
        rc = once_find(txn, argv->args[1], s->state.time_ms, &record);
        peek_end(s);
    }
    if (rc < 0)
        s->failed = rc; /* the next store_begin() hands it up */
    return rc == 0;
}

/* Whether a deploy that was dropped still has records. */
static int any_site_garbage(struct env_txn *t, bool *ret_any) {
    static const uint8_t first[] = {STORE_DB_SITES, SITES_DROPPED};
    struct slice key, value;
    int rc = table_seek(t, TABLE_MAIN, slice_of(first, sizeof first), &key, &value);
    *ret_any = rc == 0 && slice_starts_with(key, slice_of(first, sizeof first));
    return rc < 0 ? rc : 0;
}

uint64_t store_sites_revision(const struct store *s) {
    return s->sites_revision;
}

bool store_housekeeping(struct store *s, uint64_t now_ms, struct buf *ret_argv) {
    enum { SWEEP_LIMIT = 1000 };
    uint64_t expiry_ms, once_ms = UINT64_MAX;
    bool site_sweep = false;
    struct env_txn *txn;
    if (s->failed)
        return false;
    int rc = peek_begin(s, &txn);
    if (rc == 0) {
        rc = first_expiry(txn, &expiry_ms);
        if (rc == 0)
            rc = once_first_expiry(txn, &once_ms);
        if (rc == 0)
            rc = any_site_garbage(txn, &site_sweep);
        peek_end(s);
    }
    if (rc) {
        s->failed = rc; /* the next store_begin() hands it up */
        return false;
    }
    const char *name = expiry_ms <= now_ms                              ? "EXPIRE.SWEEP"
                       : site_sweep                                     ? "SITE.SWEEP"
                       : once_ms <= now_ms                              ? "ONCE.SWEEP"
                       : session_table_any_silent(&s->sessions, now_ms) ? "SESSION.SWEEP"
                                                                        : NULL;
    if (!name)
        return false;
    char number[24], limit[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)now_ms);
    snprintf(limit, sizeof limit, "%d", SWEEP_LIMIT);
    /* How many sessions go at once is theirs to say. */
    bool limited = strcmp(name, "SESSION.SWEEP") != 0;
    argv_append_strs(ret_argv, name, number, limited ? limit : NULL, NULL);
    return true;
}
