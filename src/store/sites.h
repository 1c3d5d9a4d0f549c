/* What sites are made of, in the store: blocks, references, deploys and sites, each an ordinary
 * string record of a numbered database that no client can choose (STORE_DB_SITES). So quota,
 * digest, snapshots, scrubs and backups hold for them as for everything else.
 *
 *   key                            value
 *   'b' sha256[32]                 a block: up to SITE_BLOCK_BYTES of a file or of a manifest
 *   'r' sha256[32] u64be deploy    (empty) that deploy needs this block, for a file, or with
 *                                  SITE_OF_MANIFEST for its manifest
 *   'd' u64be deploy               struct site_deploy_record, encoded
 *   's' name                       struct site_record, encoded
 *   'x' u64be deploy               (empty) dropped, its records wait to be removed
 *   'v'                            u64 next deploy id | u64 revision of the last visible change
 *
 * A block that no deploy needs has an expiry, a day after it was last sent: an upload that was cut
 * short can go on, and one that was given up vanishes by itself. With its first reference a block
 * loses the expiry; with its last reference it is deleted.
 *
 *            SITE.STAGE          SITE.PIN ...          SITE.SWITCH
 *   (none) ------------> STAGED ------------> READY ----------------> shown, until another one is
 *                          |                    |
 *                          +-------- drop ------+--> DROPPED --SITE.SWEEP ...--> (none)
 *
 * SITE.PIN and SITE.SWEEP do a bounded amount of work each, so that a site of any size holds up
 * nobody's writes; SITE.SWITCH touches the site's record and those of its deploys.
 *
 * A manifest (proto/site_manifest.h) says which files a deploy has. The store reads only its
 * beginning: the table of all blocks that the files need.
 *
 *   u8[8] "COTSITE1" | u32 block count | u32 file count | u64 bytes of the manifest
 *   | u64 bytes of all files | u8[32] zero | block count x u8[32] sha256 | the rest
 *
 * The commands (numbers are decimal text; statuses are those that HTTP answers with; [status, text]
 * where a request is refused):
 *
 *   SITE.PUT hash block...          :how many were new
 *   SITE.HAVE hash...               a "1" or "0" for each
 *   SITE.GET hash                   the block, or null
 *   SITE.STAGE site hosts keep manifest-bytes hashes note
 *       hosts: names joined by ",", or "*" to leave them; keep: deploys that stay, or "" to leave
 *       it; hashes: those of the manifest's blocks, one behind the other. [201, id, block count]
 *   SITE.PIN id from                [200, pinned, block count, hashes that are missing]; from is
 * how many were pinned before, so that a repeated request changes nothing SITE.SWITCH id [200, id,
 * deploy shown before or 0, revision, site] SITE.DROP id, SITE.DELETE site  [204, revision]
 *   SITE.SWEEP now-ms limit         :references removed
 *   SITE.LIST                       [revision, [[name, hosts, shown id, index of the switch, its
 *       time, keep, [[id, state, created, files, bytes, pinned, block count, note, manifest bytes,
 *       manifest hashes] ...]] ...]]
 */
#pragma once
#include "store/store.h"

enum {
    SITE_BLOCK_BYTES = 256 * 1024,
    SITE_HASH_BYTES = 32,
    SITE_MANIFEST_HEADER_BYTES = 64,
    SITE_MANIFEST_BYTES_MAX = 64 * 1024 * 1024,
    SITE_BLOCKS_MAX = 1 << 20, /* of one deploy */
    SITE_NAME_BYTES_MAX = 63,
    SITE_HOSTS_BYTES_MAX = 4096,
    SITE_NOTE_BYTES_MAX = 200,
    SITES_MAX = 1000,
    SITE_DEPLOYS_MAX = 128, /* of one site, unfinished ones included */
    SITE_KEEP_DEFAULT = 10,
    SITE_KEEP_MAX = 100,
    SITE_PIN_BLOCKS = 128, /* a SITE.PIN */
    SITE_STAGED_MS = 24 * 60 * 60 * 1000,
};
#define SITE_MANIFEST_MAGIC "COTSITE1"
/* In a reference: the manifest itself has this block. A file may have the same one. */
#define SITE_OF_MANIFEST ((uint64_t)1 << 63)

enum site_deploy_state { SITE_STAGED = 0, SITE_READY = 1, SITE_GONE = 2 };

/* Whether a name can be a site's: lower-case letters, digits and "-", SITE_NAME_BYTES_MAX at most.
 */
bool site_name_valid(struct slice name);
