/* The seam store/keyspace.h over plain memory: a small model of the storage for the tests of the
 * commands. What it hands out is freed as soon as the seam allows, so that AddressSanitizer sees
 * whoever holds on to it. */
#pragma once
#include "store/keyspace.h"

struct keyspace *fake_keyspace_new(void);
void fake_keyspace_free(struct keyspace *ks);
/* The next command runs at this time and as this revision (0: on a view). */
void fake_keyspace_begin(struct keyspace *ks, uint64_t now_ms, uint64_t revision, uint64_t seed);
/* A hash of everything that is there, expired or not: to show that a command changed nothing. */
uint64_t fake_keyspace_digest(const struct keyspace *ks);
