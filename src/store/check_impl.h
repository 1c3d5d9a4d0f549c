/* What the store's own files use of store/check.h and verify.c. Private. */
#pragma once
#include "store/check.h"
#include "store/store_impl.h"

/* The pages and the records of an LMDB file, or of one with something behind it. */
int store_check_environment(const char *path, pages_read_fn on_read, void *ctx,
                            struct store_check *ret) WARN_UNUSED;
/* store_verify() that says where in the file the damage is; 0: not at one place. */
int store_verify_at(struct store_view *view, struct hash128 *ret_digest,
                    uint64_t *ret_offset) WARN_UNUSED;
