/* A scripted environment for the upstream: the test is the clock, the network and the nodes. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rand.h"
#include "gateway/upstream.h"

/* One request that a node has received. */
struct item {
    uint8_t type; /* LINK_WRITES, LINK_READS, LINK_ADMIN, LINK_READ_INDEX */
    uint64_t id;  /* or sequence */
    uint64_t acked_below;
    uint64_t min_index;
    uint8_t session[16];
    uint8_t flags;
    uint16_t db;
    char name[64]; /* the first argument */
};

struct fake_conn {
    struct upstream_link *link;
    char address[64];
    bool connected; /* upstream_on_connected() was called */
    bool closed;    /* by the upstream, or broken */
    struct buf in;  /* what the upstream has sent and no node has taken */
    struct item *items;
    size_t item_count;
    size_t sends; /* without PINGs */
    size_t pings;
    bool frozen; /* answers no PING */
    uint8_t hello_session[16];
};

/* What the clocks of the node in the process are ahead of the upstream's. */
enum { FAKE_NODE_MS = 5000, FAKE_WALL_MS = 1000000000 };

struct fake {
    uint64_t now_ms;
    struct rand rand;
    bool refuse_connect; /* connect() returns NULL */
    bool pings_stay;     /* the test takes and answers PINGs itself */
    bool inside;         /* a call of the upstream that must not call back is under way */
    struct upstream *up;
    struct fake_conn **conns; /* all that ever were, oldest first */
    size_t conn_count;
};

void fake_init(struct fake *f, const struct upstream_options *options);
void fake_fini(struct fake *f);
/* Lets time pass and does what a loop does: tick when due, then flush. */
void fake_advance(struct fake *f, uint64_t ms);
void fake_turn(struct fake *f);
/* The newest connection to the address that is not closed; NULL: none. */
struct fake_conn *fake_find(struct fake *f, const char *address);
size_t fake_count(const struct fake *f, const char *address); /* ever made */
void fake_break(struct fake *f, struct fake_conn *c);
void fake_bytes(struct fake *f, struct fake_conn *c, struct slice bytes);

/* ---- the node's side ---- */

/* Connected, HELLO taken (its session noted). */
void node_accept(struct fake *f, struct fake_conn *c);
void node_hello(struct fake *f, struct fake_conn *c, uint64_t id, uint32_t window_requests,
                uint32_t window_bytes);
/* Members 1, 2, 3 at n1:1, n2:1, n3:1. */
void node_topology(struct fake *f, struct fake_conn *c, uint64_t term, uint64_t leader);
/* All of the above for the connection to n<id>:1 (or another address), with wide windows. */
struct fake_conn *node_up(struct fake *f, uint64_t id, uint64_t term, uint64_t leader);
struct fake_conn *node_up_at(struct fake *f, const char *address, uint64_t id, uint64_t term,
                             uint64_t leader);
/* Takes whole frames apart into c->items, forgetting earlier ones; returns how many. */
size_t node_take(struct fake_conn *c);
void node_answer(struct fake *f, struct fake_conn *c, const struct item *item,
                 enum link_status status, uint64_t index, const char *reply);
void node_answer_index(struct fake *f, struct fake_conn *c, const struct item *item,
                       enum link_status status, uint64_t index, uint64_t time_ms);
/* Answers all of c->items with LINK_OK "+name". */
void node_answer_all(struct fake *f, struct fake_conn *c);
/* Node 1 leads and has opened the session: SESSION.OPEN is answered. */
void node_open_session(struct fake *f, struct fake_conn *leader);

/* ---- the client's side ---- */

struct request {
    struct upstream_request up;
    struct fake *fake;
    char name[32];
    int done;
    enum upstream_outcome outcome;
    uint64_t index;
    char reply[160];
};
void request_submit(struct fake *f, struct request *r, enum upstream_kind kind, const char *name);
/* With an argument of that many bytes. */
void request_submit_sized(struct fake *f, struct request *r, enum upstream_kind kind,
                          const char *name, size_t bytes);
void assert_done(const struct request *r, enum upstream_outcome outcome, const char *reply);
