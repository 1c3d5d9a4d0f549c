/* Who a database node is: the file node.meta in its data folder. Written at every start,
 * which it counts, and once more when it has begun to work; a node without it has no past, and gets
 * an id that was never used before (ENGINE rule M2).
 *
 * The file is text for people to read, with a checksum in its last line: under a damaged id or
 * cluster a node would vote for somebody else. docs/log-format.md has the lines.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define IDENTITY_NAME "node.meta"

struct identity {
    uint64_t node_id;
    uint8_t cluster_id[16];
    bool bootstrap;  /* this node is to begin the cluster */
    uint64_t starts; /* of this node, this one included: orders its connections (M9) */
    bool begun;      /* it has a log that must not get lost: it knew of something committed */
};

void identity_encode(const struct identity *id, struct buf *out);
bool identity_decode(struct slice text, struct identity *ret);

/* -ENOENT: a new folder; -EBADMSG: damaged. */
int identity_load(const char *dir, struct identity *ret) WARN_UNUSED;
/* Makes the folder when missing. Durable on return. */
int identity_save(const char *dir, const struct identity *id) WARN_UNUSED;
/* The id of this boot of the operating system, as text; where the kernel does not say, another one
 * at each call. */
void boot_id_read(char out[64]);
