/* cotidal deploy: publishes a folder as a site.
 *
 * Every file is cut into blocks named by their SHA-256; only blocks that the system lacks are sent,
 * so what is unchanged costs nothing, and a deploy that was cut short goes on where it was when the
 * command is given again. Texts are compressed with gzip and brotli here, once; a file that the
 * deploy shown now has already keeps the variants made then.
 */
#include "cli/deploy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/compress.h"
#include "net/sha256.h"
#include "proto/http_encoding.h"
#include "proto/json_out.h"
#include "proto/mime.h"

enum { BATCH_BYTES = 256 * 1024, PIN_ROUNDS_MAX = 3 };

/* Where the bytes of a block are. */
struct source {
    uint8_t hash[SHA256_BYTES];
    const struct deploy_file *file; /* NULL: in the spool */
    uint64_t offset;
    uint32_t bytes;
};

struct deploy {
    const struct cli_args *args;
    const char *site;
    struct deploy_tree tree;
    struct site_manifest_writer *writer;
    struct source *sources; /* by hash, each once, when all is gathered */
    size_t source_count, source_capacity;
    FILE *spool; /* compressed variants and the manifest; a file without a name */
    uint64_t spool_bytes;
    struct buf old_bytes; /* the manifest of what is shown */
    struct site_manifest old;
    struct slice old_left; /* its files that were not passed yet */
    struct site_manifest_file old_file;
    bool has_old_file;
    struct buf manifest, manifest_hashes;
    struct progress progress;
    size_t broken;
    uint64_t sent_blocks, sent_bytes, missing_blocks, missing_bytes;
    uint64_t id, before;
};

/* ---- gathering blocks ---- */

static void add_source(struct deploy *d, const uint8_t *hash, const struct deploy_file *file,
                       uint64_t offset, size_t bytes) {
    if (d->source_count == d->source_capacity) {
        d->source_capacity = d->source_capacity ? 2 * d->source_capacity : 256;
        d->sources = xrealloc(d->sources, d->source_capacity * sizeof d->sources[0]);
    }
    struct source *s = &d->sources[d->source_count++];
    *s = (struct source){.file = file, .offset = offset, .bytes = (uint32_t)bytes};
    memcpy(s->hash, hash, sizeof s->hash);
}

/* Puts bytes into the spool as blocks; their hashes are appended. */
static bool spool(struct deploy *d, struct slice bytes, struct buf *hashes) {
    for (size_t at = 0; at < bytes.size; at += SITE_MANIFEST_BLOCK_BYTES) {
        size_t left = bytes.size - at;
        struct slice block = slice_of(
            bytes.data + at, left < SITE_MANIFEST_BLOCK_BYTES ? left : SITE_MANIFEST_BLOCK_BYTES);
        uint8_t hash[SHA256_BYTES];
        sha256_of(block, hash);
        buf_append(hashes, hash, sizeof hash);
        add_source(d, hash, NULL, d->spool_bytes, block.size);
        if (fwrite(block.data, 1, block.size, d->spool) != block.size) {
            fprintf(stderr, "cotidal: no room for a temporary file: %s\n", strerror(errno));
            return false;
        }
        d->spool_bytes += block.size;
    }
    return true;
}

static int add_variant(struct deploy *d, enum http_encoding e, uint64_t before, struct buf *bytes) {
    struct buf hashes = {0};
    uint8_t digest[SHA256_BYTES];
    int code = CLI_OK;
    if (compress_is_worth_it(before, bytes->size)) {
        if (!spool(d, buf_slice(bytes), &hashes))
            code = CLI_LOCAL;
        sha256_of(buf_slice(bytes), digest);
        site_manifest_writer_variant(d->writer, (uint8_t)e, bytes->size, digest, hashes.data);
    }
    buf_fini(&hashes);
    return code;
}

/* The file of the deploy shown now, when it has the same bytes. Both are walked over in the order
 * of their paths. */
static const struct site_manifest_file *old_file(struct deploy *d, struct slice path,
                                                 const uint8_t *tag, uint64_t size) {
    const struct site_manifest_file *old = &d->old_file;
    while (d->has_old_file && slice_compare(old->path, path) < 0)
        d->has_old_file = site_manifest_next(&d->old_left, &d->old_file);
    return d->has_old_file && slice_equal(old->path, path) && old->variants[0].size == size &&
                   memcmp(old->variants[0].tag, tag, SITE_MANIFEST_TAG_BYTES) == 0
               ? old
               : NULL;
}

static void keep_variants(struct deploy *d, const struct site_manifest_file *old) {
    for (uint8_t i = 1; i < old->variant_count; i++) {
        const struct site_manifest_variant *v = &old->variants[i];
        struct buf hashes = {0};
        for (uint64_t b = 0; b < site_manifest_block_count(v->size); b++)
            buf_append(&hashes, site_manifest_block(&d->old, v, b), SHA256_BYTES);
        site_manifest_writer_variant(d->writer, v->encoding, v->size, v->tag, hashes.data);
        buf_fini(&hashes);
    }
}

static int compress(struct deploy *d, struct slice bytes) {
    struct buf out = {0};
    compress_gzip(bytes, &out);
    int code = add_variant(d, HTTP_ENCODING_GZIP, bytes.size, &out);
    compress_brotli(bytes, &out);
    if (code == CLI_OK)
        code = add_variant(d, HTTP_ENCODING_BR, bytes.size, &out);
    buf_fini(&out);
    return code;
}

/* Hashes one file, block by block; `whole` gets its bytes when it may be compressed. */
static int hash_file(struct deploy *d, const struct deploy_file *f, struct buf *hashes,
                     struct buf *whole, uint8_t *ret_digest) {
    struct sha256 *all = sha256_new();
    struct buf block = {0};
    int code = CLI_OK;
    for (uint64_t at = 0; at < f->size && code == CLI_OK; at += SITE_MANIFEST_BLOCK_BYTES) {
        uint64_t left = f->size - at;
        size_t n = left < SITE_MANIFEST_BLOCK_BYTES ? (size_t)left : SITE_MANIFEST_BLOCK_BYTES;
        uint8_t hash[SHA256_BYTES];
        if (!deploy_read_file(f->local, at, n, &block)) {
            code = CLI_LOCAL;
            break;
        }
        sha256_of(buf_slice(&block), hash);
        sha256_update(all, buf_slice(&block));
        buf_append(hashes, hash, sizeof hash);
        add_source(d, hash, f, at, n);
        if (whole)
            buf_append_slice(whole, buf_slice(&block));
        progress_add(&d->progress, n);
    }
    sha256_end(all, ret_digest);
    buf_fini(&block);
    return code;
}

static int add_file(struct deploy *d, const struct deploy_file *f) {
    struct buf hashes = {0}, whole = {0};
    uint8_t digest[SHA256_BYTES];
    bool may_compress = f->size >= COMPRESS_BYTES_MIN && f->size <= COMPRESS_BYTES_MAX &&
                        mime_is_compressible(mime_type(slice_str(f->path)));
    int code = hash_file(d, f, &hashes, may_compress ? &whole : NULL, digest);
    if (code == CLI_OK) {
        const struct site_manifest_file *old = old_file(d, slice_str(f->path), digest, f->size);
        site_manifest_writer_file(d->writer, slice_str(f->path),
                                  old ? old->modified_s : f->modified_s);
        site_manifest_writer_variant(d->writer, HTTP_ENCODING_IDENTITY, f->size, digest,
                                     hashes.data);
        if (old)
            keep_variants(d, old);
        else if (may_compress)
            code = compress(d, buf_slice(&whole));
    }
    buf_fini(&hashes);
    buf_fini(&whole);
    return code;
}

static int compare_sources(const void *a, const void *b) {
    return memcmp(((const struct source *)a)->hash, ((const struct source *)b)->hash, SHA256_BYTES);
}

static void sort_sources(struct deploy *d) {
    size_t kept = 0;
    if (d->source_count > 0)
        qsort(d->sources, d->source_count, sizeof d->sources[0], compare_sources);
    for (size_t i = 0; i < d->source_count; i++)
        if (kept == 0 || compare_sources(&d->sources[i], &d->sources[kept - 1]) != 0)
            d->sources[kept++] = d->sources[i];
    d->source_count = kept;
}

static int gather(struct deploy *d) {
    int code = CLI_OK;
    d->writer = site_manifest_writer_new();
    d->spool = tmpfile();
    if (!d->spool) {
        fprintf(stderr, "cotidal: no temporary file: %s\n", strerror(errno));
        return CLI_LOCAL;
    }
    progress_begin(&d->progress, "reading", d->tree.bytes, d->args->json != NULL);
    for (size_t i = 0; i < d->tree.count && code == CLI_OK; i++)
        code = add_file(d, &d->tree.files[i]);
    progress_end(&d->progress);
    site_manifest_writer_texts(d->writer, buf_slice(&d->tree.headers),
                               buf_slice(&d->tree.redirects), buf_slice(&d->tree.access));
    if (code == CLI_OK && !site_manifest_writer_end(d->writer, &d->manifest)) {
        fputs("cotidal: the site is too large: its list of files and blocks may have 64 MiB and "
              "1,048,576 blocks of 256 KiB\n",
              stderr);
        code = CLI_REFUSED;
    }
    if (code == CLI_OK && !spool(d, buf_slice(&d->manifest), &d->manifest_hashes))
        code = CLI_LOCAL;
    sort_sources(d);
    return code;
}

/* ---- sending ---- */

/* Appends a block as the server takes them. */
static int put_frame(struct deploy *d, const struct source *s, struct buf *frames) {
    struct buf block = {0};
    uint8_t hash[SHA256_BYTES];
    bool ok;
    if (s->file) {
        ok = deploy_read_file(s->file->local, s->offset, s->bytes, &block);
    } else {
        ok = fseeko(d->spool, (off_t)s->offset, SEEK_SET) == 0 &&
             fread(buf_reserve(&block, s->bytes), 1, s->bytes, d->spool) == s->bytes;
        if (ok)
            buf_commit(&block, s->bytes);
        else
            fprintf(stderr, "cotidal: the temporary file cannot be read: %s\n", strerror(errno));
    }
    if (ok) {
        sha256_of(buf_slice(&block), hash);
        if (memcmp(hash, s->hash, sizeof hash) != 0) {
            fprintf(stderr,
                    "cotidal: %s changed while the site was being sent; run the command again\n",
                    s->file ? s->file->local : "the temporary file");
            ok = false;
        }
    }
    if (ok)
        buf_append_lstr(frames, buf_slice(&block));
    buf_fini(&block);
    return ok ? CLI_OK : CLI_LOCAL;
}

static int flush_frames(struct deploy *d, struct buf *frames) {
    int code = frames->size > 0 ? deploy_send_blocks(d->args, buf_slice(frames)) : CLI_OK;
    buf_reset(frames);
    return code;
}

static int send_missing(struct deploy *d, const bool *missing) {
    struct buf frames = {0};
    int code = CLI_OK;
    progress_begin(&d->progress, "sending", d->missing_bytes, d->args->json != NULL);
    for (size_t i = 0; i < d->source_count && code == CLI_OK; i++) {
        const struct source *s = &d->sources[i];
        if (!missing[i])
            continue;
        if (frames.size + s->bytes > BATCH_BYTES)
            code = flush_frames(d, &frames);
        if (code == CLI_OK)
            code = put_frame(d, s, &frames);
        if (code == CLI_OK) {
            d->sent_blocks++;
            d->sent_bytes += s->bytes;
            progress_add(&d->progress, s->bytes);
        }
    }
    if (code == CLI_OK)
        code = flush_frames(d, &frames);
    progress_end(&d->progress);
    buf_fini(&frames);
    return code;
}

static int ask_missing(struct deploy *d, bool *missing) {
    struct buf hashes = {0};
    for (size_t i = 0; i < d->source_count; i++)
        buf_append(&hashes, d->sources[i].hash, SHA256_BYTES);
    int code = deploy_ask_missing(d->args, hashes.data, d->source_count, missing);
    for (size_t i = 0; code == CLI_OK && i < d->source_count; i++)
        if (missing[i]) {
            d->missing_blocks++;
            d->missing_bytes += d->sources[i].bytes;
        }
    buf_fini(&hashes);
    return code;
}

/* Blocks that vanished since they were asked for (an earlier deploy that had them was dropped). */
static int send_again(struct deploy *d, const struct buf *hashes) {
    bool *missing = xcalloc(d->source_count + 1, sizeof *missing);
    int code = CLI_OK;
    for (size_t at = 0; at < hashes->size && code == CLI_OK; at += SHA256_BYTES) {
        struct source want;
        memcpy(want.hash, hashes->data + at, SHA256_BYTES);
        struct source *found =
            bsearch(&want, d->sources, d->source_count, sizeof d->sources[0], compare_sources);
        if (found) {
            missing[found - d->sources] = true;
        } else {
            fputs(
                "cotidal: a compressed file of the deploy before is gone: run the command again\n",
                stderr);
            code = CLI_REFUSED;
        }
    }
    if (code == CLI_OK)
        code = send_missing(d, missing);
    free(missing);
    return code;
}

static int pin_all(struct deploy *d) {
    uint64_t pinned = 0, total = 1;
    int gaps = 0;
    while (pinned < total) {
        struct buf missing = {0};
        uint64_t before = pinned;
        int code = deploy_pin(d->args, d->id, pinned, &pinned, &total, &missing);
        if (code == CLI_OK && missing.size > 0)
            code = send_again(d, &missing);
        buf_fini(&missing);
        gaps = pinned > before ? 0 : gaps + 1;
        if (code == CLI_OK && pinned < total && gaps > PIN_ROUNDS_MAX) {
            fputs("cotidal: blocks vanish as fast as they are sent; is another deploy under way? "
                  "Run the command again\n",
                  stderr);
            code = CLI_REFUSED;
        }
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

static int publish(struct deploy *d, const bool *missing) {
    int code = send_missing(d, missing);
    if (code == CLI_OK)
        code = deploy_stage(d->args, d->site, d->manifest.size, &d->manifest_hashes, &d->id);
    if (code == CLI_OK)
        code = pin_all(d);
    if (code == CLI_OK && !d->args->preview)
        code = deploy_activate(d->args, d->id, &d->before);
    return code;
}

/* ---- telling ---- */

static void tell_json(const struct deploy *d) {
    struct buf out = {0};
    struct json_out j;
    json_out_begin(&j, &out);
    json_out_object(&j);
    json_out_key(&j, "site");
    json_out_str(&j, d->site);
    json_out_key(&j, "deploy");
    json_out_u64(&j, d->id);
    json_out_key(&j, "before");
    json_out_u64(&j, d->before);
    json_out_key(&j, "shown");
    json_out_bool(&j, d->id != 0 && !d->args->preview);
    json_out_key(&j, "files");
    json_out_u64(&j, d->tree.count);
    json_out_key(&j, "bytes");
    json_out_u64(&j, d->tree.bytes);
    json_out_key(&j, "blocks");
    json_out_u64(&j, d->source_count);
    json_out_key(&j, "sent_blocks");
    json_out_u64(&j, d->args->dry_run ? d->missing_blocks : d->sent_blocks);
    json_out_key(&j, "sent_bytes");
    json_out_u64(&j, d->args->dry_run ? d->missing_bytes : d->sent_bytes);
    json_out_key(&j, "broken_links");
    json_out_u64(&j, d->broken);
    json_out_end(&j, '}');
    buf_append_char(&out, '\n');
    fwrite(out.data, 1, out.size, stdout);
    buf_fini(&out);
}

static void tell(const struct deploy *d) {
    struct buf text = {0};
    if (d->args->json) {
        tell_json(d);
        return;
    }
    buf_printf(&text, "%zu files, ", d->tree.count);
    bytes_append(&text, d->tree.bytes);
    if (d->args->dry_run) {
        buf_printf(&text, "; would send %" PRIu64 " blocks, ", d->missing_blocks);
        bytes_append(&text, d->missing_bytes);
        buf_printf(&text, "\n%zu links lead nowhere\n", d->broken);
    } else {
        buf_printf(&text, "; sent %" PRIu64 " blocks, ", d->sent_blocks);
        bytes_append(&text, d->sent_bytes);
        if (d->args->preview)
            buf_printf(&text,
                       "\ndeploy %" PRIu64 " of site %s is complete and not shown; to look at it: "
                       "cotidal preview %" PRIu64 "\n",
                       d->id, d->site, d->id);
        else
            buf_printf(&text, "\nsite %s shows deploy %" PRIu64 "\n", d->site, d->id);
    }
    fwrite(text.data, 1, text.size, stdout);
    buf_fini(&text);
}

static int run(struct deploy *d) {
    int code = deploy_tree_read(&d->tree, d->args->words[0]);
    if (code == CLI_OK)
        code = deploy_check(&d->tree, d->args->dry_run != NULL, &d->broken);
    if (code == CLI_OK)
        code = deploy_get_shown(d->args, d->site, &d->old_bytes);
    if (code == CLI_OK && site_manifest_decode(buf_slice(&d->old_bytes), &d->old)) {
        d->old_left = d->old.files;
        d->has_old_file = site_manifest_next(&d->old_left, &d->old_file);
    }
    if (code == CLI_OK)
        code = gather(d);
    bool *missing = xcalloc(d->source_count + 1, sizeof *missing);
    if (code == CLI_OK)
        code = ask_missing(d, missing);
    if (code == CLI_OK && !d->args->dry_run)
        code = publish(d, missing);
    free(missing);
    if (code == CLI_OK)
        tell(d);
    return code == CLI_OK && d->args->dry_run && d->broken > 0 ? CLI_NO : code;
}

int cli_deploy(const struct cli_args *args) {
    struct deploy d = {.args = args, .site = args->site ? args->site : "default"};
    int code = run(&d);
    deploy_tree_fini(&d.tree);
    if (d.writer)
        site_manifest_writer_free(d.writer);
    if (d.spool)
        fclose(d.spool);
    free(d.sources);
    buf_fini(&d.old_bytes);
    buf_fini(&d.manifest);
    buf_fini(&d.manifest_hashes);
    return code;
}
