/* Who a database node is: the file node.meta in its data folder. Written once, when the node first
 * starts or joins; a node without it has no past, and gets an id that was never used before (ENGINE
 * rule M2). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct identity {
    uint64_t node_id;
    uint8_t cluster_id[16];
    bool bootstrap; /* this node began the cluster */
};

/* -ENOENT: a new folder; -EBADMSG: damaged. */
int identity_load(const char *dir, struct identity *ret) WARN_UNUSED;
/* Makes the folder when missing. Durable on return. */
int identity_save(const char *dir, const struct identity *id) WARN_UNUSED;
/* The id of this boot of the operating system, as text; where the kernel does not say, another one
 * at each call. */
void boot_id_read(char out[64]);
