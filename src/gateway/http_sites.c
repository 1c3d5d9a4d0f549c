/* GET /v1/sites: the reply of SITE.LIST as JSON. */
#include <stdio.h>

#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"
#include "gateway/sites.h"
#include "store/sites.h"

static void put_u64(struct json_out *j, const char *name, const struct reply_item *item) {
    json_out_key(j, name);
    json_out_i64(j, item->integer);
}

static bool put_deploy(struct json_out *j, struct slice *reply) {
    static const char *const states[] = {"staged", "ready"};
    struct reply_item i[10];
    if (!http_take_row(reply, i, 10) || i[1].integer < 0 || i[1].integer > SITE_READY)
        return false;
    json_out_object(j);
    put_u64(j, "id", &i[0]);
    json_out_key(j, "state");
    json_out_str(j, states[i[1].integer]);
    put_u64(j, "created_ms", &i[2]);
    put_u64(j, "files", &i[3]);
    put_u64(j, "bytes", &i[4]);
    put_u64(j, "pinned", &i[5]);
    put_u64(j, "blocks", &i[6]);
    json_out_key(j, "note");
    json_out_string(j, i[7].bytes);
    json_out_key(j, "manifest");
    json_out_object(j);
    put_u64(j, "bytes", &i[8]);
    json_out_key(j, "blocks");
    json_out_array(j);
    for (size_t at = 0; at + SHA256_BYTES <= i[9].bytes.size; at += SHA256_BYTES) {
        char hex[2 * SHA256_BYTES + 1];
        sha256_to_hex(i[9].bytes.data + at, hex);
        json_out_str(j, hex);
    }
    json_out_end(j, ']');
    json_out_end(j, '}');
    json_out_end(j, '}');
    return true;
}

static void put_hosts(struct json_out *j, struct slice hosts) {
    json_out_key(j, "hosts");
    json_out_array(j);
    while (hosts.size > 0) {
        const uint8_t *comma = memchr(hosts.data, ',', hosts.size);
        size_t size = comma ? (size_t)(comma - hosts.data) : hosts.size;
        json_out_string(j, slice_of(hosts.data, size));
        hosts = slice_of(hosts.data + size + (comma != NULL), hosts.size - size - (comma != NULL));
    }
    json_out_end(j, ']');
}

static bool put_site(struct json_out *j, struct slice *reply) {
    struct reply_item header, i[6], deploys;
    if (!reply_next(reply, &header) || header.type != '*' || header.integer != 7)
        return false;
    for (size_t n = 0; n < 6; n++)
        if (!reply_next(reply, &i[n]))
            return false;
    if (!reply_next(reply, &deploys) || deploys.type != '*')
        return false;
    json_out_object(j);
    json_out_key(j, "name");
    json_out_string(j, i[0].bytes);
    put_hosts(j, i[1].bytes);
    put_u64(j, "deploy", &i[2]);
    put_u64(j, "switch", &i[3]);
    put_u64(j, "switched_ms", &i[4]);
    put_u64(j, "keep", &i[5]);
    json_out_key(j, "deploys");
    json_out_array(j);
    for (int64_t n = 0; n < deploys.integer; n++)
        if (!put_deploy(j, reply))
            return false;
    json_out_end(j, ']');
    json_out_end(j, '}');
    return true;
}

static void sites_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct reply_item header, revision, sites;
    struct buf json = {0};
    struct json_out j;
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    bool good = reply_next(&reply, &header) && header.type == '*' &&
                reply_next(&reply, &revision) && revision.type == ':' &&
                reply_next(&reply, &sites) && sites.type == '*';
    json_out_begin(&j, &json);
    json_out_object(&j);
    http_json_revision(&j, good ? (uint64_t)revision.integer : 0);
    /* What this process shows: behind `revision` for the moment that it takes to load. */
    char loaded[24];
    snprintf(loaded, sizeof loaded, "%llu",
             (unsigned long long)sites_revision(r->base.conn->gw->sites));
    json_out_key(&j, "loaded");
    json_out_str(&j, loaded);
    json_out_key(&j, "sites");
    json_out_array(&j);
    for (int64_t n = 0; good && n < sites.integer; n++)
        good = put_site(&j, &reply);
    if (!good) {
        http_malformed_reply(r);
        buf_fini(&json);
        return;
    }
    json_out_end(&j, ']');
    json_out_end(&j, '}');
    http_answer_json(r, 200, &json);
}

void http_sites_get(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    struct pack p = pack_begin("SITE.LIST");
    struct buf packed = pack_end(&p);
    http_submit(r, UPSTREAM_READ, &packed, sites_answer);
}
