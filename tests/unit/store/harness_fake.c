#include "fake_keyspace.h"
#include "harness.h"

struct backend {
    struct keyspace *ks;
};

struct backend *backend_new(void) {
    struct backend *b = xcalloc(1, sizeof *b);
    b->ks = fake_keyspace_new();
    return b;
}

void backend_free(struct backend *b) {
    fake_keyspace_free(b->ks);
    free(b);
}

void backend_run(struct backend *b, struct harness *h, bool view, struct buf *out) {
    fake_keyspace_begin(b->ks, h->now_ms, view ? 0 : h->count << 20, h->count);
    assert_int_equal(command_execute(b->ks, h->db, &h->argv, out), 0);
}

struct hash128 backend_digest(struct backend *b) {
    return (struct hash128){.low = fake_keyspace_digest(b->ks)};
}
