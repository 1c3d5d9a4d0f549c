/* The commands that read sites: SITE.HAVE, GET, LIST (store/sites.h). */
#include <errno.h>

#include "base/bytes.h"
#include "store/sites_impl.h"

int call_site_have(struct call *c) {
    struct buf found = {0};
    int rc = 0;
    for (size_t i = 1; i < c->count; i++)
        if (c->args[i].size != SITE_HASH_BYTES) {
            reply_error(c->out, "ERR SITE.HAVE takes hashes of %d bytes", SITE_HASH_BYTES);
            return 0;
        }
    if (c->check_only)
        return 0;
    for (size_t i = 1; i < c->count && rc >= 0; i++) {
        struct site_name name = site_name_of(SITES_BLOCK, c->args[i]);
        struct record record;
        rc = keyspace_find(c->ks, STORE_DB_SITES, site_name_slice(&name), &record);
        buf_append_char(&found, rc == 0 ? '1' : '0');
    }
    reply_bulk(c->out, buf_slice(&found));
    buf_fini(&found);
    return rc < 0 ? rc : 0;
}

int call_site_get(struct call *c) {
    struct record record;
    struct slice value;
    if (c->args[1].size != SITE_HASH_BYTES) {
        reply_error(c->out, "ERR SITE.GET takes a hash of %d bytes", SITE_HASH_BYTES);
        return 0;
    }
    if (c->check_only)
        return 0;
    struct site_name name = site_name_of(SITES_BLOCK, c->args[1]);
    int rc = keyspace_find(c->ks, STORE_DB_SITES, site_name_slice(&name), &record);
    if (rc == 0)
        rc = keyspace_value(c->ks, STORE_DB_SITES, site_name_slice(&name), &value);
    if (rc == 0)
        reply_bulk(c->out, value);
    else if (rc == KEYSPACE_MISSING)
        reply_null(c->out);
    return rc < 0 ? rc : 0;
}

static int list_deploy(struct call *c, uint64_t id, struct buf *bytes) {
    struct site_deploy_record d;
    int rc = site_deploy_load(c->ks, id, bytes, &d);
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    reply_array(c->out, 10);
    reply_int(c->out, (int64_t)id);
    reply_int(c->out, d.state);
    reply_int(c->out, (int64_t)d.created_ms);
    reply_int(c->out, (int64_t)d.files);
    reply_int(c->out, (int64_t)d.bytes);
    reply_int(c->out, d.pinned);
    reply_int(c->out, d.block_count);
    reply_bulk(c->out, d.note);
    reply_int(c->out, (int64_t)d.manifest_bytes);
    reply_bulk(c->out, d.hashes);
    return 0;
}

static int list_site(struct call *c, struct slice name, struct buf bytes[2]) {
    struct site_record s;
    int rc = site_record_load(c->ks, name, &bytes[0], &s);
    if (rc)
        return rc < 0 ? rc : -EBADMSG;
    reply_array(c->out, 7);
    reply_bulk(c->out, name);
    reply_bulk(c->out, s.hosts);
    reply_int(c->out, (int64_t)s.shown);
    reply_int(c->out, (int64_t)s.switch_index);
    reply_int(c->out, (int64_t)s.switch_ms);
    reply_int(c->out, s.keep);
    reply_array(c->out, s.deploy_count);
    for (uint32_t i = 0; rc == 0 && i < s.deploy_count; i++)
        rc = list_deploy(c, s.deploys[i], &bytes[1]);
    return rc;
}

static int list_all(struct call *c, size_t *ret_count, bool names_only) {
    uint8_t at[1 + SITE_NAME_BYTES_MAX] = {SITES_SITE};
    struct slice key = slice_of(at, 1);
    struct buf bytes[2] = {0};
    struct record record;
    size_t count = 0;
    int rc;
    while ((rc = keyspace_next_key(c->ks, STORE_DB_SITES, key, false, &key, &record)) == 0) {
        if (key.data[0] != SITES_SITE || key.size > sizeof at)
            break;
        memcpy(at, key.data, key.size);
        key = slice_of(at, key.size);
        count++;
        if (!names_only && (rc = list_site(c, slice_of(at + 1, key.size - 1), bytes)))
            break;
    }
    buf_fini(&bytes[0]);
    buf_fini(&bytes[1]);
    *ret_count = count;
    return rc < 0 ? rc : 0;
}

int call_site_list(struct call *c) {
    struct site_name name = {.bytes = {SITES_VERSION}, .size = 1};
    struct record record;
    struct slice value;
    uint64_t revision = 0;
    size_t count;
    if (c->check_only)
        return 0;
    int rc = keyspace_find(c->ks, STORE_DB_SITES, site_name_slice(&name), &record);
    if (rc == 0)
        rc = keyspace_value(c->ks, STORE_DB_SITES, site_name_slice(&name), &value);
    if (rc == 0 && value.size == SITES_VERSION_BYTES)
        revision = get_u64le(value.data + 8);
    if (rc >= 0)
        rc = list_all(c, &count, true);
    if (rc < 0)
        return rc;
    reply_array(c->out, 2);
    reply_int(c->out, (int64_t)revision);
    reply_array(c->out, count);
    return list_all(c, &count, false);
}
