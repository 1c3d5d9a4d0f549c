/* Deploys of sites over HTTP (docs/http-api.md): blocks first, then the deploy, then the switch.
 *
 *   POST /v1/deploys/blocks/missing   lines of hashes -> lines of those that are not there
 *   POST /v1/deploys/blocks           u32 size | bytes, repeated: at most 512 KiB together
 *   POST /v1/deploys                  JSON: the site, and which blocks its manifest is -> 201
 * {"id"} POST /v1/deploys/7/pin?from=0     ties blocks to it, some at a time -> how far it is POST
 * /v1/deploys/7/activate       the switch
 */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"
#include "gateway/site_serve.h"
#include "net/sha256.h"
#include "store/sites.h"

enum { SHOWN_WITHIN_MS = 3000 };

/* Takes "[status, ..." off a reply. False when it was answered: it failed, or was refused. */
static bool take_status(struct http_request *r, enum upstream_outcome outcome,
                        struct slice *reply) {
    static const struct {
        int status;
        const char *code;
    } codes[] = {{404, "not_found"}, {409, "conflict"}, {422, "not_a_manifest"}};
    struct reply_item header, status, why;
    if (http_answer_failure(r, outcome, *reply))
        return false;
    if (!reply_next(reply, &header) || header.type != '*' || !reply_next(reply, &status) ||
        status.type != ':') {
        http_malformed_reply(r);
        return false;
    }
    if (status.integer < 300)
        return true;
    const char *code = "refused";
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++)
        if (codes[i].status == status.integer)
            code = codes[i].code;
    if (!reply_next(reply, &why) || why.type != '$')
        http_malformed_reply(r);
    else
        http_problem(r, &(struct http_problem){.status = (int)status.integer, .code = code}, "%.*s",
                     (int)why.bytes.size, (const char *)why.bytes.data);
    return false;
}

static bool take_id(struct http_request *r, const struct http_input *in, uint64_t *ret_id) {
    if (num_parse_u64(in->rest, ret_id))
        return true;
    http_problem(r, &(struct http_problem){.status = 404, .code = "not_found"},
                 "a deploy has a number");
    return false;
}

static void submit(struct http_request *r, enum upstream_kind kind, struct pack *p,
                   http_answer_fn answer) {
    struct buf packed = pack_end(p);
    http_submit(r, kind, &packed, answer);
}

/* ---- blocks ---- */

static struct slice next_line(struct slice *in) {
    const uint8_t *end = memchr(in->data, '\n', in->size);
    size_t size = end ? (size_t)(end - in->data) : in->size;
    struct slice line = slice_of(in->data, size);
    *in = slice_of(in->data + size + (end != NULL), in->size - size - (end != NULL));
    if (line.size > 0 && line.data[line.size - 1] == '\r')
        line.size--;
    return line;
}

/* What was asked for stands in r->key, 32 bytes each. */
static void missing_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                           struct slice reply) {
    struct reply_item found;
    struct buf text = {0};
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!reply_next(&reply, &found) || found.type != '$' ||
        found.bytes.size != r->key.size / SHA256_BYTES) {
        http_malformed_reply(r);
        return;
    }
    for (size_t i = 0; i < found.bytes.size; i++) {
        char hex[2 * SHA256_BYTES + 1];
        if (found.bytes.data[i] == '1')
            continue;
        sha256_to_hex(r->key.data + i * SHA256_BYTES, hex);
        buf_append_str(&text, hex);
        buf_append_char(&text, '\n');
    }
    http_answer(r, 200, "text/plain; charset=utf-8", buf_slice(&text));
    buf_fini(&text);
}

void http_blocks_missing(struct http_request *r, const struct http_input *in) {
    struct slice left = in->body;
    struct pack p = pack_begin("SITE.HAVE");
    if (!http_check_query(r, in, ""))
        goto answered;
    while (left.size > 0) {
        uint8_t hash[SHA256_BYTES];
        struct slice line = next_line(&left);
        if (line.size == 0)
            continue;
        if (!sha256_from_hex(line, hash)) {
            http_bad_request(r, "the body has a SHA-256 in 64 hexadecimal digits on each line");
            goto answered;
        }
        buf_append(&r->key, hash, sizeof hash);
        pack_slice(&p, slice_of(hash, sizeof hash));
    }
    if (r->key.size == 0) {
        http_answer(r, 200, "text/plain; charset=utf-8", slice_of("", 0));
        goto answered;
    }
    submit(r, UPSTREAM_READ, &p, missing_answer);
    return;
answered:
    buf_fini(&p.out);
}

static void blocks_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    struct reply_item added;
    struct buf json = {0};
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!reply_next(&reply, &added) || added.type != ':') {
        http_malformed_reply(r);
        return;
    }
    buf_printf(&json, "{\"added\":%lld}", (long long)added.integer);
    http_answer_json(r, 200, &json);
}

/* The names are made here: a block can have no other one than its own. */
void http_blocks_post(struct http_request *r, const struct http_input *in) {
    struct reader reader = reader_of(in->body);
    struct pack p = http_pack_write(r, "SITE.PUT");
    size_t count = 0;
    if (!http_check_query(r, in, ""))
        goto answered;
    while (reader_left(&reader) > 0) {
        uint8_t hash[SHA256_BYTES];
        struct slice block = reader_lstr(&reader);
        if (!reader_ok(&reader) || block.size == 0 || block.size > SITE_BLOCK_BYTES) {
            http_bad_request(r,
                             "the body is a sequence of blocks: 4 bytes of size (little-endian), "
                             "then 1 to %d bytes",
                             (int)SITE_BLOCK_BYTES);
            goto answered;
        }
        sha256_of(block, hash);
        pack_slice(&p, slice_of(hash, sizeof hash));
        pack_slice(&p, block);
        count++;
    }
    if (count == 0) {
        http_bad_request(r, "the body has no block");
        goto answered;
    }
    submit(r, UPSTREAM_WRITE, &p, blocks_answer);
    return;
answered:
    buf_fini(&p.out);
}

static void block_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct reply_item block;
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (!reply_next(&reply, &block) || block.type != '$') {
        http_problem(r, &(struct http_problem){.status = 404, .code = "not_found"},
                     "there is no such block");
        return;
    }
    http_answer(r, 200, "application/octet-stream", block.bytes);
}

void http_block_get(struct http_request *r, const struct http_input *in) {
    uint8_t hash[SHA256_BYTES];
    if (!http_check_query(r, in, ""))
        return;
    if (!sha256_from_hex(in->rest, hash)) {
        http_problem(r, &(struct http_problem){.status = 404, .code = "not_found"},
                     "a block is named by its SHA-256 in 64 hexadecimal digits");
        return;
    }
    struct pack p = pack_begin("SITE.GET");
    pack_slice(&p, slice_of(hash, sizeof hash));
    submit(r, UPSTREAM_READ, &p, block_answer);
}

/* ---- beginning a deploy ---- */

struct staging {
    const char *error; /* NULL: none yet */
    struct buf site, hosts, keep, note, hashes;
    uint64_t manifest_bytes;
};

static bool host_valid(const char *host) {
    size_t n = strlen(host);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)host[i]) && !strchr(".-_:[]", host[i]))
            return false;
    return n > 0 && n <= 253;
}

static void take_hosts(struct staging *s, json_t *list) {
    size_t i;
    json_t *host;
    if (!json_is_array(list))
        s->error = "\"hosts\" is a list of host names";
    json_array_foreach(list, i, host) {
        const char *text = json_string_value(host);
        if (!text || !host_valid(text) || s->hosts.size > SITE_HOSTS_BYTES_MAX) {
            s->error = "\"hosts\" is a list of host names, without ports, of 4 KiB at most";
            return;
        }
        if (s->hosts.size > 0)
            buf_append_char(&s->hosts, ',');
        for (; *text; text++)
            buf_append_char(&s->hosts, (char)tolower((unsigned char)*text));
    }
}

static void take_manifest(struct staging *s, json_t *manifest) {
    json_t *bytes = json_object_get(manifest, "bytes"), *block;
    json_t *blocks = json_object_get(manifest, "blocks");
    size_t i;
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0 || !json_is_array(blocks)) {
        s->error = "\"manifest\" has the members \"bytes\" and \"blocks\"";
        return;
    }
    s->manifest_bytes = (uint64_t)json_integer_value(bytes);
    json_array_foreach(blocks, i, block) {
        uint8_t hash[SHA256_BYTES];
        const char *text = json_string_value(block);
        if (!text || !sha256_from_hex(slice_str(text), hash)) {
            s->error = "\"blocks\" is a list of SHA-256s in hexadecimal digits";
            return;
        }
        buf_append(&s->hashes, hash, sizeof hash);
    }
    if (s->hashes.size != site_manifest_block_count(s->manifest_bytes) * SHA256_BYTES ||
        s->manifest_bytes < SITE_MANIFEST_HEADER_BYTES ||
        s->manifest_bytes > SITE_MANIFEST_BYTES_MAX)
        s->error = "\"manifest\" has as many blocks of 256 KiB as \"bytes\" says, 64 MiB at most";
}

static void take_member(struct staging *s, const char *name, json_t *value) {
    const char *text = json_string_value(value);
    if (strcmp(name, "site") == 0 && text && site_name_valid(slice_str(text))) {
        buf_append_str(&s->site, text);
    } else if (strcmp(name, "site") == 0) {
        s->error = "\"site\" is a name of up to 63 lower-case letters, digits and \"-\"";
    } else if (strcmp(name, "note") == 0) {
        if (!text || strlen(text) > SITE_NOTE_BYTES_MAX)
            s->error = "\"note\" is a text of 200 bytes at most";
        else
            buf_append_str(&s->note, text);
    } else if (strcmp(name, "keep") == 0) {
        json_int_t keep = json_integer_value(value);
        if (keep < 1 || keep > SITE_KEEP_MAX)
            s->error = "\"keep\" is a number from 1 to 100";
        else
            buf_printf(&s->keep, "%lld", (long long)keep);
    } else if (strcmp(name, "hosts") == 0) {
        buf_reset(&s->hosts);
        take_hosts(s, value);
    } else if (strcmp(name, "manifest") == 0) {
        take_manifest(s, value);
    } else {
        s->error = "there is a member that this endpoint does not know: it has site, hosts, keep, "
                   "note, manifest";
    }
}

static void stage_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                         struct slice reply) {
    struct reply_item id, blocks;
    struct buf json = {0};
    (void)index;
    if (!take_status(r, outcome, &reply))
        return;
    if (!reply_next(&reply, &id) || id.type != ':' || !reply_next(&reply, &blocks) ||
        blocks.type != ':') {
        http_malformed_reply(r);
        return;
    }
    buf_printf(&json, "{\"id\":%lld,\"blocks\":%lld}", (long long)id.integer,
               (long long)blocks.integer);
    http_answer_json(r, 201, &json);
}

void http_deploy_post(struct http_request *r, const struct http_input *in) {
    struct staging s = {0};
    const char *name;
    json_t *value;
    if (!http_check_query(r, in, ""))
        return;
    json_t *body =
        json_loadb((const char *)in->body.data, in->body.size, JSON_REJECT_DUPLICATES, NULL);
    buf_append_char(&s.hosts, '*'); /* as they are */
    if (!json_is_object(body))
        s.error = "the body is a JSON object";
    json_object_foreach(body, name, value) {
        if (!s.error)
            take_member(&s, name, value);
    }
    if (!s.error && (s.site.size == 0 || s.hashes.size == 0))
        s.error = "the members \"site\" and \"manifest\" are needed";
    if (s.error) {
        http_bad_request(r, "%s", s.error);
    } else {
        struct pack p = http_pack_write(r, "SITE.STAGE");
        pack_slice(&p, buf_slice(&s.site));
        pack_slice(&p, buf_slice(&s.hosts));
        pack_slice(&p, buf_slice(&s.keep));
        pack_u64(&p, s.manifest_bytes);
        pack_slice(&p, buf_slice(&s.hashes));
        pack_slice(&p, buf_slice(&s.note));
        submit(r, UPSTREAM_WRITE, &p, stage_answer);
    }
    json_decref(body);
    buf_fini(&s.site);
    buf_fini(&s.hosts);
    buf_fini(&s.keep);
    buf_fini(&s.note);
    buf_fini(&s.hashes);
}

/* ---- going on with it ---- */

static void pin_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                       struct slice reply) {
    struct reply_item pinned, blocks, missing;
    struct buf json = {0};
    struct json_out j;
    (void)index;
    if (!take_status(r, outcome, &reply))
        return;
    if (!reply_next(&reply, &pinned) || pinned.type != ':' || !reply_next(&reply, &blocks) ||
        blocks.type != ':' || !reply_next(&reply, &missing) || missing.type != '$') {
        http_malformed_reply(r);
        return;
    }
    json_out_begin(&j, &json);
    json_out_object(&j);
    json_out_key(&j, "pinned");
    json_out_i64(&j, pinned.integer);
    json_out_key(&j, "blocks");
    json_out_i64(&j, blocks.integer);
    json_out_key(&j, "missing");
    json_out_array(&j);
    for (size_t at = 0; at + SHA256_BYTES <= missing.bytes.size; at += SHA256_BYTES) {
        char hex[2 * SHA256_BYTES + 1];
        sha256_to_hex(missing.bytes.data + at, hex);
        json_out_str(&j, hex);
    }
    json_out_end(&j, ']');
    json_out_end(&j, '}');
    http_answer_json(r, 200, &json);
}

void http_deploy_pin(struct http_request *r, const struct http_input *in) {
    uint64_t id, from = 0;
    struct buf text = {0};
    if (!http_check_query(r, in, "from") || !take_id(r, in, &id))
        return;
    int found = http_query(r, in, "from", &text);
    if (found > 0 && !num_parse_u64(buf_slice(&text), &from)) {
        http_bad_request(r, "the parameter \"from\" is a number of blocks");
        found = -1;
    }
    if (found >= 0) {
        struct pack p = http_pack_write(r, "SITE.PIN");
        pack_u64(&p, id);
        pack_u64(&p, from);
        submit(r, UPSTREAM_WRITE, &p, pin_answer);
    }
    buf_fini(&text);
}

/* The answer to a switch waits until this process shows it: who deploys and then looks, at the same
 * address, sees what he deployed. */
struct switched {
    struct site_wait wait;
    struct http_request *r;
    struct buf json;
};

static void switched_gone(struct http_request *r) {
    struct switched *s = r->data;
    list_remove(&s->wait.node);
    buf_fini(&s->json);
}

static void switched_done(struct site_wait *wait) {
    struct switched *s = CONTAINER_OF(wait, struct switched, wait);
    struct buf json = s->json;
    struct http_request *r = s->r;
    r->gone = NULL;
    http_answer_json(r, 200, &json);
}

static void switch_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    struct reply_item id, before, revision, site;
    struct gateway *gw = r->base.conn->gw;
    (void)index;
    if (!take_status(r, outcome, &reply))
        return;
    if (!reply_next(&reply, &id) || !reply_next(&reply, &before) ||
        !reply_next(&reply, &revision) || revision.type != ':' || !reply_next(&reply, &site) ||
        site.type != '$') {
        http_malformed_reply(r);
        return;
    }
    struct switched *s = xcalloc(1, sizeof *s);
    buf_printf(&s->json,
               "{\"site\":\"%.*s\",\"deploy\":%lld,\"before\":%lld,\"revision\":\"%lld\"}",
               (int)site.bytes.size, (const char *)site.bytes.data, (long long)id.integer,
               (long long)before.integer, (long long)revision.integer);
    s->r = r;
    r->data = s;
    r->gone = switched_gone;
    s->wait.revision = (uint64_t)revision.integer;
    s->wait.until_ms = gateway_now_ms(gw) + SHOWN_WITHIN_MS;
    s->wait.done = switched_done;
    site_wait_begin(gw, &s->wait);
}

static void change(struct http_request *r, const struct http_input *in, const char *command,
                   http_answer_fn answer) {
    uint64_t id;
    if (!http_check_query(r, in, "") || !take_id(r, in, &id))
        return;
    struct pack p = http_pack_write(r, command);
    pack_u64(&p, id);
    submit(r, UPSTREAM_WRITE, &p, answer);
}

void http_deploy_activate(struct http_request *r, const struct http_input *in) {
    change(r, in, "SITE.SWITCH", switch_answer);
}

static void gone_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                        struct slice reply) {
    (void)index;
    if (!take_status(r, outcome, &reply))
        return;
    http_begin(r, 204);
    http_end(r, NULL, slice_of(NULL, 0));
}

void http_deploy_delete(struct http_request *r, const struct http_input *in) {
    change(r, in, "SITE.DROP", gone_answer);
}

void http_site_delete(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    if (!site_name_valid(in->rest)) {
        http_problem(r, &(struct http_problem){.status = 404, .code = "not_found"},
                     "there is no such site");
        return;
    }
    struct pack p = http_pack_write(r, "SITE.DELETE");
    pack_slice(&p, in->rest);
    submit(r, UPSTREAM_WRITE, &p, gone_answer);
}
