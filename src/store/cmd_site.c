/* The commands that change sites: SITE.PUT, STAGE, PIN, SWITCH, DROP, DELETE, SWEEP (store/sites.h
 * says what they take and answer). */
#include <errno.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/reader.h"
#include "store/sites_impl.h"

/* Answers; its result is CALL_ANSWERED. */
static int refuse(struct call *c, int64_t status, const char *why) {
    reply_array(c->out, 2);
    reply_int(c->out, status);
    reply_bulk_str(c->out, why);
    return CALL_ANSWERED;
}

static bool get_u64(struct call *c, size_t at, uint64_t *ret_value) {
    if (num_parse_u64(c->args[at], ret_value))
        return true;
    reply_error(c->out, "ERR a number was expected");
    return false;
}

static bool get_u32(struct call *c, size_t at, uint32_t *ret_value) {
    uint64_t value;
    if (!get_u64(c, at, &value))
        return false;
    *ret_value = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
    return true;
}

static int put_empty(struct keyspace *ks, const struct site_name *name) {
    struct slice none = slice_of(NULL, 0);
    return keyspace_put_string(ks, STORE_DB_SITES, site_name_slice(name), none, none, 0);
}

/* ---- blocks ---- */

static int put_block(struct call *c, struct slice hash, struct slice bytes, int64_t *added) {
    struct site_name name = site_name_of(SITES_BLOCK, hash);
    struct record record;
    uint64_t expiry_ms = keyspace_now_ms(c->ks) + SITE_STAGED_MS;
    int rc = keyspace_find(c->ks, STORE_DB_SITES, site_name_slice(&name), &record);
    if (rc == 0 && record.expiry_ms == 0)
        return 0;
    if (rc == 0)
        return keyspace_set_expiry(c->ks, STORE_DB_SITES, site_name_slice(&name), expiry_ms);
    if (rc < 0)
        return rc;
    ++*added;
    return keyspace_put_string(c->ks, STORE_DB_SITES, site_name_slice(&name), bytes,
                               slice_of(NULL, 0), expiry_ms);
}

/* That a block has its hash is for gateways to see to: they are many, and this thread is one. */
int call_site_put(struct call *c) {
    int64_t added = 0;
    for (size_t i = 1; i < c->count; i += 2) {
        if (i + 1 >= c->count || c->args[i].size != SITE_HASH_BYTES ||
            c->args[i + 1].size > SITE_BLOCK_BYTES || c->args[i + 1].size == 0) {
            reply_error(c->out, "ERR SITE.PUT takes hashes of %d bytes, each with up to %d bytes",
                        SITE_HASH_BYTES, SITE_BLOCK_BYTES);
            return 0;
        }
    }
    if (c->check_only)
        return 0;
    for (size_t i = 1; i < c->count; i += 2) {
        int rc = put_block(c, c->args[i], c->args[i + 1], &added);
        if (rc < 0)
            return rc;
    }
    reply_int(c->out, added);
    return 0;
}

static int find_block(struct keyspace *ks, const uint8_t *hash) {
    struct site_name block = site_name_of(SITES_BLOCK, slice_of(hash, SITE_HASH_BYTES));
    struct record record;
    return keyspace_find(ks, STORE_DB_SITES, site_name_slice(&block), &record);
}

/* Ties a block to a deploy: 0, KEYSPACE_MISSING or < 0. */
static int reference(struct keyspace *ks, const uint8_t *hash, uint64_t id) {
    struct site_name block = site_name_of(SITES_BLOCK, slice_of(hash, SITE_HASH_BYTES));
    struct site_name name = site_name_reference(hash, id);
    struct record record;
    int rc = keyspace_find(ks, STORE_DB_SITES, site_name_slice(&block), &record);
    if (rc == 0 && record.expiry_ms != 0)
        rc = keyspace_set_expiry(ks, STORE_DB_SITES, site_name_slice(&block), 0);
    return rc ? rc : put_empty(ks, &name);
}

/* Lets go of it, and deletes it when nobody else needs it. */
static int unreference(struct keyspace *ks, const uint8_t *hash, uint64_t id) {
    struct site_name name = site_name_reference(hash, id);
    struct slice prefix = slice_of(name.bytes, 1 + SITE_HASH_BYTES), key;
    struct record record;
    int rc = keyspace_delete(ks, STORE_DB_SITES, site_name_slice(&name));
    if (rc < 0)
        return rc;
    rc = keyspace_next_key(ks, STORE_DB_SITES, prefix, true, &key, &record);
    if (rc < 0 || (rc == 0 && slice_starts_with(key, prefix)))
        return rc;
    struct site_name block = site_name_of(SITES_BLOCK, slice_of(hash, SITE_HASH_BYTES));
    rc = keyspace_delete(ks, STORE_DB_SITES, site_name_slice(&block));
    return rc < 0 ? rc : 0;
}

/* ---- deploys ---- */

static int next_id(struct keyspace *ks, bool take, bool note, uint64_t *ret_id) {
    struct site_name name = {.bytes = {SITES_VERSION}, .size = 1};
    uint8_t bytes[SITES_VERSION_BYTES];
    struct slice value = {0};
    struct record record;
    uint64_t id = 1, revision = 0;
    int rc = keyspace_find(ks, STORE_DB_SITES, site_name_slice(&name), &record);
    if (rc == 0)
        rc = keyspace_value(ks, STORE_DB_SITES, site_name_slice(&name), &value);
    if (rc < 0)
        return rc;
    if (rc == 0 && value.size == sizeof bytes) {
        id = get_u64le(value.data);
        revision = get_u64le(value.data + 8);
    }
    if (note) {
        revision = keyspace_revision(ks);
        keyspace_note_sites(ks);
    }
    put_u64le(bytes, take ? id + 1 : id);
    put_u64le(bytes + 8, revision);
    *ret_id = id;
    return keyspace_put_string(ks, STORE_DB_SITES, site_name_slice(&name),
                               slice_of(bytes, sizeof bytes), slice_of(NULL, 0), 0);
}

/* What visitors can see has changed. */
static int note_change(struct keyspace *ks) {
    uint64_t id;
    return next_id(ks, false, true, &id);
}

static void forget_deploy(struct site_record *s, uint64_t id) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->deploy_count; i++)
        if (s->deploys[i] != id)
            s->deploys[n++] = s->deploys[i];
    s->deploy_count = n;
}

/* Marks one as dropped; the caller stores *s, and says note_change() where it could be seen. */
static int drop(struct keyspace *ks, struct site_record *s, uint64_t id) {
    struct buf bytes = {0};
    struct site_deploy_record d;
    struct site_name gone = site_name_deploy(SITES_DROPPED, id);
    int rc = site_deploy_load(ks, id, &bytes, &d);
    if (rc == 0) {
        d.state = SITE_GONE;
        rc = site_deploy_store(ks, id, &d);
    }
    if (rc == 0)
        rc = put_empty(ks, &gone);
    buf_fini(&bytes);
    forget_deploy(s, id);
    return rc < 0 ? rc : 0;
}

/* Drops unfinished deploys that are more than a day old. */
static int drop_abandoned(struct keyspace *ks, struct site_record *s) {
    struct buf bytes = {0};
    int rc = 0;
    for (uint32_t i = s->deploy_count; rc >= 0 && i-- > 0;) {
        struct site_deploy_record d;
        uint64_t id = s->deploys[i];
        rc = site_deploy_load(ks, id, &bytes, &d);
        if (rc == 0 && d.state == SITE_STAGED &&
            d.created_ms + SITE_STAGED_MS < keyspace_now_ms(ks))
            rc = drop(ks, s, id);
    }
    buf_fini(&bytes);
    return rc < 0 ? rc : 0;
}

/* Keeps the newest `keep` finished ones and the one that is shown. */
static int drop_old(struct keyspace *ks, struct site_record *s) {
    struct buf bytes = {0};
    uint32_t kept = 0;
    int rc = 0;
    for (uint32_t i = s->deploy_count; rc >= 0 && i-- > 0;) {
        struct site_deploy_record d;
        uint64_t id = s->deploys[i];
        rc = site_deploy_load(ks, id, &bytes, &d);
        if (rc == 0 && d.state == SITE_READY && ++kept > s->keep && id != s->shown)
            rc = drop(ks, s, id);
    }
    buf_fini(&bytes);
    return rc < 0 ? rc : 0;
}

/* ---- SITE.STAGE ---- */

struct staging {
    struct slice site, hosts, hashes, note;
    uint64_t keep; /* UINT64_MAX: leave it */
    uint64_t files, bytes, manifest_bytes;
    uint32_t block_count;
};

static bool take_staging(struct call *c, struct staging *s) {
    *s = (struct staging){.site = c->args[1], .hosts = c->args[2], .keep = UINT64_MAX};
    s->hashes = c->args[5];
    s->note = c->args[6];
    if ((c->args[3].size > 0 && !get_u64(c, 3, &s->keep)) || !get_u64(c, 4, &s->manifest_bytes))
        return false;
    uint64_t blocks = (s->manifest_bytes + SITE_BLOCK_BYTES - 1) / SITE_BLOCK_BYTES;
    if (!site_name_valid(s->site) || s->hosts.size > SITE_HOSTS_BYTES_MAX ||
        s->note.size > SITE_NOTE_BYTES_MAX || s->manifest_bytes < SITE_MANIFEST_HEADER_BYTES ||
        s->manifest_bytes > SITE_MANIFEST_BYTES_MAX || s->hashes.size != blocks * SITE_HASH_BYTES ||
        (s->keep != UINT64_MAX && (s->keep == 0 || s->keep > SITE_KEEP_MAX))) {
        reply_error(c->out, "ERR not a deploy: a name, a number or the manifest's size is wrong");
        return false;
    }
    return true;
}

/* Whether the manifest's blocks are there, and their sizes and the header what they should be: 0,
 * CALL_ANSWERED or < 0. */
static int check_manifest(struct call *c, struct staging *s) {
    for (size_t at = 0; at < s->hashes.size; at += SITE_HASH_BYTES) {
        struct site_name name =
            site_name_of(SITES_BLOCK, slice_of(s->hashes.data + at, SITE_HASH_BYTES));
        struct record record;
        uint64_t offset = at / SITE_HASH_BYTES * SITE_BLOCK_BYTES;
        uint64_t left = s->manifest_bytes - offset;
        int rc = keyspace_find(c->ks, STORE_DB_SITES, site_name_slice(&name), &record);
        if (rc < 0)
            return rc;
        if (rc || record.size != (left < SITE_BLOCK_BYTES ? left : SITE_BLOCK_BYTES))
            return refuse(c, 409, "a block of the manifest is missing");
        if (at > 0)
            continue;
        struct slice head;
        if ((rc = keyspace_value(c->ks, STORE_DB_SITES, site_name_slice(&name), &head)))
            return rc;
        struct reader r = reader_of(head);
        struct slice magic = reader_bytes(&r, 8);
        s->block_count = reader_u32(&r);
        s->files = reader_u32(&r);
        uint64_t bytes = reader_u64(&r);
        s->bytes = reader_u64(&r);
        if (!slice_equal_str(magic, SITE_MANIFEST_MAGIC) || bytes != s->manifest_bytes ||
            s->block_count > SITE_BLOCKS_MAX ||
            SITE_MANIFEST_HEADER_BYTES + (uint64_t)s->block_count * SITE_HASH_BYTES > bytes)
            return refuse(c, 422, "these blocks are not a manifest");
    }
    return 0;
}

/* Whether each name is nobody else's: 0, CALL_ANSWERED or < 0. */
static int check_hosts(struct call *c, struct slice site, struct slice hosts) {
    struct slice key = {(const uint8_t *)"s", 1};
    uint8_t at[1 + SITE_NAME_BYTES_MAX + 1] = "s";
    struct buf bytes = {0}, list = {0};
    struct record record;
    uint64_t count = 0;
    int rc;
    while ((rc = keyspace_next_key(c->ks, STORE_DB_SITES, key, false, &key, &record)) == 0 &&
           key.data[0] == SITES_SITE && key.size <= sizeof at) {
        struct site_record s;
        memcpy(at, key.data, key.size);
        key = slice_of(at, key.size);
        struct slice name = slice_of(at + 1, key.size - 1);
        if (slice_equal(name, site))
            continue;
        count++;
        if ((rc = site_record_load(c->ks, name, &bytes, &s)))
            break;
        buf_reset(&list);
        buf_printf(&list, ",%.*s,", (int)s.hosts.size, (const char *)s.hosts.data);
        for (struct slice left = hosts; left.size > 0;) {
            const uint8_t *comma = memchr(left.data, ',', left.size);
            size_t size = comma ? (size_t)(comma - left.data) : left.size;
            struct buf one = {0};
            buf_printf(&one, ",%.*s,", (int)size, (const char *)left.data);
            bool taken = memmem(list.data, list.size, one.data, one.size) != NULL;
            buf_fini(&one);
            if (taken) {
                rc = refuse(c, 409, "another site has one of these host names");
                goto out;
            }
            left = slice_of(left.data + size + (comma != NULL), left.size - size - (comma != NULL));
        }
    }
    rc = rc < 0 ? rc : 0;
    if (rc == 0 && count >= SITES_MAX)
        rc = refuse(c, 409, "there are too many sites");
out:
    buf_fini(&bytes);
    buf_fini(&list);
    return rc;
}

static int stage(struct call *c, const struct staging *s, struct site_record *site) {
    struct site_deploy_record d = {.state = s->block_count ? SITE_STAGED : SITE_READY,
                                   .created_ms = keyspace_now_ms(c->ks),
                                   .files = s->files,
                                   .bytes = s->bytes,
                                   .block_count = s->block_count,
                                   .manifest_bytes = s->manifest_bytes,
                                   .site = s->site,
                                   .note = s->note,
                                   .hashes = s->hashes};
    uint64_t id;
    int rc = next_id(c->ks, true, false, &id);
    for (size_t at = 0; rc == 0 && at < s->hashes.size; at += SITE_HASH_BYTES)
        rc = reference(c->ks, s->hashes.data + at, id | SITE_OF_MANIFEST);
    if (rc == 0)
        rc = site_deploy_store(c->ks, id, &d);
    site->deploys[site->deploy_count++] = id;
    if (rc == 0)
        rc = site_record_store(c->ks, s->site, site);
    reply_array(c->out, 3);
    reply_int(c->out, 201);
    reply_int(c->out, (int64_t)id);
    reply_int(c->out, s->block_count);
    return rc;
}

int call_site_stage(struct call *c) {
    struct staging s;
    struct site_record site = {.keep = SITE_KEEP_DEFAULT};
    struct buf bytes = {0}, hosts = {0};
    if (!take_staging(c, &s) || c->check_only)
        return 0;
    int rc = check_manifest(c, &s);
    bool leave = slice_equal_str(s.hosts, "*");
    if (rc == 0)
        rc = check_hosts(c, s.site, leave ? slice_of(NULL, 0) : s.hosts);
    if (rc == 0)
        rc = site_record_load(c->ks, s.site, &bytes, &site);
    if (rc == KEYSPACE_MISSING)
        rc = 0;
    if (rc == 0)
        rc = drop_abandoned(c->ks, &site);
    if (rc == 0 && site.deploy_count == SITE_DEPLOYS_MAX)
        rc = refuse(c, 409, "this site has too many deploys that were not finished: delete some");
    if (rc == 0) {
        if (!leave)
            site.hosts = s.hosts;
        buf_append_slice(&hosts, site.hosts);
        site.hosts = buf_slice(&hosts);
        if (s.keep != UINT64_MAX)
            site.keep = (uint32_t)s.keep;
        rc = stage(c, &s, &site);
    }
    buf_fini(&bytes);
    buf_fini(&hosts);
    return rc < 0 ? rc : 0;
}

/* ---- SITE.PIN ---- */

static int no_such_deploy(struct call *c) {
    return refuse(c, 404, "there is no such deploy");
}

/* Loads a deploy that was not dropped: 0, CALL_ANSWERED or < 0. */
static int load_deploy(struct call *c, uint64_t id, struct buf *bytes,
                       struct site_deploy_record *ret_d) {
    int rc = site_deploy_load(c->ks, id, bytes, ret_d);
    bool gone = rc == KEYSPACE_MISSING || (rc == 0 && ret_d->state == SITE_GONE);
    return gone ? no_such_deploy(c) : rc;
}

static int pin(struct call *c, uint64_t id, struct site_deploy_record *d) {
    uint8_t hashes[SITE_PIN_BLOCKS * SITE_HASH_BYTES];
    uint32_t count = d->block_count - d->pinned;
    struct buf missing = {0};
    if (count > SITE_PIN_BLOCKS)
        count = SITE_PIN_BLOCKS;
    int rc = site_hashes_load(c->ks, d, d->pinned, count, hashes);
    for (uint32_t i = 0; rc >= 0 && i < count; i++) {
        const uint8_t *hash = hashes + (size_t)i * SITE_HASH_BYTES;
        bool gap = missing.size > 0; /* what is behind it waits until it is filled */
        rc = gap ? find_block(c->ks, hash) : reference(c->ks, hash, id);
        if (rc == KEYSPACE_MISSING)
            buf_append(&missing, hash, SITE_HASH_BYTES);
        else if (rc == 0 && !gap)
            d->pinned++;
    }
    if (rc >= 0) {
        bool ready = d->pinned == d->block_count;
        if (ready)
            d->state = SITE_READY;
        rc = site_deploy_store(c->ks, id, d);
        if (rc == 0 && ready)
            rc = note_change(c->ks); /* it can be looked at */
    }
    reply_array(c->out, 4);
    reply_int(c->out, 200);
    reply_int(c->out, d->pinned);
    reply_int(c->out, d->block_count);
    reply_bulk(c->out, buf_slice(&missing));
    buf_fini(&missing);
    return rc;
}

int call_site_pin(struct call *c) {
    uint64_t id;
    uint32_t from;
    struct buf bytes = {0};
    struct site_deploy_record d;
    if (!get_u64(c, 1, &id) || !get_u32(c, 2, &from) || c->check_only)
        return 0;
    int rc = load_deploy(c, id, &bytes, &d);
    if (rc == 0 && (from != d.pinned || d.state == SITE_READY)) {
        reply_array(c->out, 4); /* asked again */
        reply_int(c->out, 200);
        reply_int(c->out, d.pinned);
        reply_int(c->out, d.block_count);
        reply_bulk_str(c->out, "");
    } else if (rc == 0) {
        rc = pin(c, id, &d);
    }
    buf_fini(&bytes);
    return rc < 0 ? rc : 0;
}

/* ---- SITE.SWITCH, SITE.DROP, SITE.DELETE ---- */

/* Loads a deploy and its site: 0, CALL_ANSWERED or < 0. */
static int load_both(struct call *c, uint64_t id, struct buf bytes[2],
                     struct site_deploy_record *ret_d, struct site_record *ret_site) {
    int rc = load_deploy(c, id, &bytes[0], ret_d);
    if (rc == 0)
        rc = site_record_load(c->ks, ret_d->site, &bytes[1], ret_site);
    return rc == KEYSPACE_MISSING ? no_such_deploy(c) : rc;
}

int call_site_switch(struct call *c) {
    uint64_t id;
    struct buf bytes[2] = {0};
    struct site_deploy_record d;
    struct site_record site;
    if (!get_u64(c, 1, &id) || c->check_only)
        return 0;
    int rc = load_both(c, id, bytes, &d, &site);
    if (rc == 0 && d.state != SITE_READY)
        rc = refuse(c, 409, "the deploy is not complete yet");
    if (rc == 0) {
        uint64_t before = site.shown;
        site.shown = id;
        if (before != id) {
            site.switch_index = keyspace_revision(c->ks) >> 20;
            site.switch_ms = keyspace_now_ms(c->ks);
        }
        rc = drop_old(c->ks, &site);
        if (rc == 0)
            rc = site_record_store(c->ks, d.site, &site);
        if (rc == 0)
            rc = note_change(c->ks);
        reply_array(c->out, 5);
        reply_int(c->out, 200);
        reply_int(c->out, (int64_t)id);
        reply_int(c->out, (int64_t)before);
        reply_int(c->out, (int64_t)keyspace_revision(c->ks));
        reply_bulk(c->out, d.site);
    }
    buf_fini(&bytes[0]);
    buf_fini(&bytes[1]);
    return rc < 0 ? rc : 0;
}

static int answer_gone(struct call *c) {
    reply_array(c->out, 2);
    reply_int(c->out, 204);
    reply_int(c->out, (int64_t)keyspace_revision(c->ks));
    return note_change(c->ks);
}

int call_site_drop(struct call *c) {
    uint64_t id;
    struct buf bytes[2] = {0};
    struct site_deploy_record d;
    struct site_record site;
    if (!get_u64(c, 1, &id) || c->check_only)
        return 0;
    int rc = load_both(c, id, bytes, &d, &site);
    if (rc == 0 && site.shown == id)
        rc = refuse(c, 409, "the site shows this deploy: switch to another one first");
    if (rc == 0)
        rc = drop(c->ks, &site, id);
    if (rc == 0)
        rc = site_record_store(c->ks, d.site, &site);
    if (rc == 0)
        rc = answer_gone(c);
    buf_fini(&bytes[0]);
    buf_fini(&bytes[1]);
    return rc < 0 ? rc : 0;
}

int call_site_delete(struct call *c) {
    struct buf bytes = {0};
    struct site_record site;
    if (!site_name_valid(c->args[1])) {
        reply_error(c->out, "ERR not the name of a site");
        return 0;
    }
    if (c->check_only)
        return 0;
    struct site_name name = site_name_of(SITES_SITE, c->args[1]);
    int rc = site_record_load(c->ks, c->args[1], &bytes, &site);
    if (rc == KEYSPACE_MISSING)
        rc = refuse(c, 404, "there is no such site");
    while (rc == 0 && site.deploy_count > 0)
        rc = drop(c->ks, &site, site.deploys[site.deploy_count - 1]);
    if (rc == 0)
        rc = keyspace_delete(c->ks, STORE_DB_SITES, site_name_slice(&name));
    if (rc == 0)
        rc = answer_gone(c);
    buf_fini(&bytes);
    return rc < 0 ? rc : 0;
}

/* ---- SITE.SWEEP ---- */

/* The references to the manifest's own blocks go last, since the others are found through them. */
static int sweep_end(struct keyspace *ks, uint64_t id, const struct site_deploy_record *d) {
    struct site_name deploy = site_name_deploy(SITES_DEPLOY, id);
    struct site_name gone = site_name_deploy(SITES_DROPPED, id);
    for (size_t at = 0; at < d->hashes.size; at += SITE_HASH_BYTES) {
        int rc = unreference(ks, d->hashes.data + at, id | SITE_OF_MANIFEST);
        if (rc < 0)
            return rc;
    }
    int rc = keyspace_delete(ks, STORE_DB_SITES, site_name_slice(&deploy));
    if (rc == 0)
        rc = keyspace_delete(ks, STORE_DB_SITES, site_name_slice(&gone));
    return rc < 0 ? rc : 0;
}

static int sweep(struct keyspace *ks, uint64_t id, uint64_t limit, int64_t *ret_removed) {
    uint8_t hashes[SITE_PIN_BLOCKS * SITE_HASH_BYTES];
    struct buf bytes = {0};
    struct site_deploy_record d;
    int rc = site_deploy_load(ks, id, &bytes, &d);
    uint32_t count = limit < SITE_PIN_BLOCKS ? (uint32_t)limit : SITE_PIN_BLOCKS;
    if (rc == 0 && count > d.pinned)
        count = d.pinned;
    if (rc == 0)
        rc = site_hashes_load(ks, &d, d.pinned - count, count, hashes);
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = unreference(ks, hashes + (size_t)i * SITE_HASH_BYTES, id);
    if (rc == 0) {
        *ret_removed = count;
        d.pinned -= count;
        rc = d.pinned > 0 ? site_deploy_store(ks, id, &d) : sweep_end(ks, id, &d);
    }
    buf_fini(&bytes);
    return rc > 0 ? -EBADMSG : rc;
}

/* Bounded work: a part of one deploy. The leader proposes it again while there is something left.
 */
int call_site_sweep(struct call *c) {
    static const uint8_t first[] = {SITES_DROPPED};
    uint64_t now_ms, limit;
    int64_t removed = 0;
    struct slice key;
    struct record record;
    if (!get_u64(c, 1, &now_ms) || !get_u64(c, 2, &limit) || c->check_only)
        return 0;
    int rc = keyspace_next_key(c->ks, STORE_DB_SITES, slice_of(first, 1), true, &key, &record);
    if (rc == 0 && key.size == 9 && key.data[0] == SITES_DROPPED)
        rc = sweep(c->ks, get_u64be(key.data + 1), limit ? limit : 1, &removed);
    reply_int(c->out, removed);
    return rc < 0 ? rc : 0;
}
