#include "replica/transport.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rand.h"
#include "net/tls_peer.h"
#include "proto/link.h"
#include "replica/wire.h"

enum {
    PREFACE_BYTES = 4,
    HELLO_BYTES_MAX = 1024,
    GREETING_BYTES_MAX = 4096,
    PEER_QUEUE_BYTES_MAX =
        256 << 20, /* what waits for a slow follower; more is dropped, as if lost */
    PEER_CONNECTING_BYTES_MAX = 1 << 20,
    LINK_QUEUE_BYTES_MAX = 512 << 20,
    RETRY_MIN_MS = 20,
    RETRY_MAX_MS = 1000,
    STOOD_MS = 1000, /* a connection that stood for so long was taken by the other side */
    USER_TIMEOUT_MS = 5000,
    CONNECTIONS_MAX = 4096,
    GREETING_MS = 5000,
    UNGREETED_MAX = 256,
    ENDING_MS = 5000, /* for a gateway to take what a link that ended still owes it */
    LOOK_EVERY_MS = 500,
    SENDERS_MAX = 2 * MEMBERS_MAX,
};

enum inbound_kind { INBOUND_NEW, INBOUND_LINK, INBOUND_PEER };

/* A connection that somebody opened to us. */
struct inbound {
    struct list node;
    struct transport *owner;
    struct stream *stream;
    enum inbound_kind kind;
    struct buf in;
    struct node_link *link;
    uint64_t peer_id; /* 0 until HELLO */
    char address[MEMBER_ADDRESS_BYTES_MAX];
    uint64_t since_ms; /* it came, or began to end, then */
    bool greeted;      /* who it is, is known; or it comes from this process */
    bool closed;       /* nothing of it is read any more */
};

/* M9: the newest connection of a node that we heard a greeting on. One that is not newer was on its
 * way for longer, and what it brings is out of order. */
struct sender {
    struct list node; /* in order of their last greeting */
    uint64_t node_id, starts, connection;
};

/* Our connection to another node. */
struct outbound {
    struct list node;
    struct transport *owner;
    uint64_t id;
    char address[MEMBER_ADDRESS_BYTES_MAX];
    struct stream *stream; /* NULL: not connected */
    struct buf later;      /* frames that go out at the turn's end, or with the next ones */
    bool connected;
    uint64_t connected_ms; /* since when */
    uint64_t retry_at_ms;
    uint32_t retry_ms;
    bool abandoned; /* being closed for another address */
    char told[96];  /* why it was refused, as the log has it */
};

struct transport {
    struct loop *loop;
    uint64_t node_id;
    uint8_t cluster_id[16];
    char advertise[MEMBER_ADDRESS_BYTES_MAX];
    struct node *node;
    struct listener *listener;
    struct tls_peer *tls; /* NULL: plain */
    struct list inbound, outbound;
    uint32_t inbound_count, ungreeted_count;
    uint32_t greeting_ms, ungreeted_max;
    struct list senders;
    uint32_t sender_count;
    uint64_t starts, connections; /* which start of this node it is; connections made since */
    struct timer *timer;          /* runs while somebody has not greeted, or ends */
    uint64_t look_at_ms;          /* 0: it does not run */
    struct rand rand;
    uint64_t protocol_errors;
    pthread_mutex_t lock; /* guards adopted */
    struct buf adopted;   /* descriptors handed over by other threads */
    struct waker *waker;
    bool closing;
};

/* ---- connections to us ---- */

static void look_soon(struct transport *t) {
    if (t->look_at_ms != 0 || t->closing)
        return;
    uint32_t wait = t->greeting_ms < LOOK_EVERY_MS ? t->greeting_ms : LOOK_EVERY_MS;
    t->look_at_ms = loop_now_ms(t->loop) + wait;
    timer_set(t->timer, t->look_at_ms);
}

static void inbound_greeted(struct inbound *c) {
    if (c->greeted)
        return;
    c->greeted = true;
    c->owner->ungreeted_count--;
}

static void inbound_close(struct inbound *c) {
    if (!c->closed && c->link)
        node_link_closed(c->link);
    c->link = NULL;
    c->closed = true;
    inbound_greeted(c);
    stream_close(c->stream);
}

static void inbound_bad(struct inbound *c, const char *why) {
    c->owner->protocol_errors++;
    log_warn("connection-dropped", "peer=%s reason=%s", stream_peer(c->stream),
             log_quote(slice_str(why)));
    inbound_close(c);
}

/* Notes the connection when it is newer than all of this node before. */
static bool sender_is_newer(struct transport *t, const struct wire_hello *hello) {
    struct sender *s = NULL;
    LIST_FOREACH (it, &t->senders) {
        if (LIST_ENTRY(it, struct sender, node)->node_id == hello->node_id)
            s = LIST_ENTRY(it, struct sender, node);
    }
    if (s && (hello->starts < s->starts ||
              (hello->starts == s->starts && hello->connection <= s->connection)))
        return false;
    if (!s && t->sender_count == SENDERS_MAX) {
        s = LIST_ENTRY(list_first(&t->senders), struct sender, node);
    } else if (!s) {
        s = xcalloc(1, sizeof *s);
        list_init(&s->node);
        t->sender_count++;
    }
    *s = (struct sender){.node = s->node,
                         .node_id = hello->node_id,
                         .starts = hello->starts,
                         .connection = hello->connection};
    list_remove(&s->node);
    list_push_back(&t->senders, &s->node);
    return true;
}

/* Over TLS: why this end may not greet as that node, or NULL. A member can have moved, but only its
 * own machine may say so: else whoever holds any key of the authority could take its place. */
static const char *greeting_wrong(const struct inbound *c, uint64_t node_id, const char *address) {
    struct membership m;
    if (!tls_is(c->stream))
        return NULL;
    if (!tls_peer_is_at(c->stream, address))
        return "its certificate is not for the host of the address that it gives";
    node_membership(c->owner->node, &m);
    const struct member *member = membership_find(&m, node_id);
    if (member && !tls_peer_is_at(c->stream, member->address))
        return "its certificate is not for the host that this member has been at";
    return NULL;
}

static void inbound_greet(struct inbound *c, struct slice payload) {
    struct transport *t = c->owner;
    struct wire_hello hello;
    if (!wire_decode_hello(payload, &hello) || hello.version != WIRE_VERSION ||
        hello.node_id == 0 || hello.node_id == t->node_id) {
        inbound_bad(c, "not a node of this version");
        return;
    }
    if (memcmp(hello.cluster_id, t->cluster_id, sizeof t->cluster_id) != 0) {
        inbound_bad(c, "a node of another cluster");
        return;
    }
    char address[MEMBER_ADDRESS_BYTES_MAX] = "";
    memcpy(address, hello.address.data, hello.address.size);
    const char *wrong = greeting_wrong(c, hello.node_id, address);
    if (wrong) {
        inbound_bad(c, wrong);
        return;
    }
    if (!sender_is_newer(t, &hello)) {
        inbound_bad(c, "an older connection than one that was here already");
        return;
    }
    inbound_greeted(c);
    LIST_FOREACH_SAFE (it, &t->inbound) {
        struct inbound *old = LIST_ENTRY(it, struct inbound, node);
        if (old != c && old->kind == INBOUND_PEER && old->peer_id == hello.node_id)
            inbound_close(old);
    }
    c->peer_id = hello.node_id;
    memcpy(c->address, address, sizeof c->address);
}

static void inbound_peer_bytes(struct inbound *c, struct slice *in) {
    uint8_t type;
    struct slice payload;
    size_t need = 0;
    enum wire_take take = WIRE_TAKE_MORE;
    while (!c->closed && (take = wire_take_frame(in, &type, &payload, &need)) == WIRE_TAKE_FRAME) {
        if (c->peer_id == 0) {
            if (type != WIRE_HELLO)
                inbound_bad(c, "no greeting");
            else
                inbound_greet(c, payload);
        } else if (c->owner->node &&
                   !node_on_peer_frame(c->owner->node, c->peer_id, c->address, type, payload)) {
            inbound_bad(c, "malformed frame");
        }
    }
    /* Only a greeting may come first: nothing much is kept for somebody unknown. */
    if (take == WIRE_TAKE_MORE && c->peer_id == 0 && need > HELLO_BYTES_MAX)
        take = WIRE_TAKE_BAD;
    if (!c->closed && take == WIRE_TAKE_BAD)
        inbound_bad(c, "malformed frame");
}

/* A ClientHello, where plain bytes were expected (RFC 8446 section 5.1). */
static bool preface_is_tls(struct slice preface) {
    return preface.data[0] == 22 && preface.data[1] == 3;
}

static void inbound_preface(struct inbound *c, struct slice *in) {
    struct slice preface = slice_of(in->data, PREFACE_BYTES);
    in->data += PREFACE_BYTES;
    in->size -= PREFACE_BYTES;
    if (slice_equal_str(preface, LINK_PREFACE) && c->owner->node) {
        c->kind = INBOUND_LINK;
        c->link = node_link_open(c->owner->node, c);
        if (!c->link)
            inbound_bad(c, "too many links");
    } else if (slice_equal_str(preface, WIRE_PREFACE) && c->owner->node) {
        c->kind = INBOUND_PEER;
    } else {
        inbound_bad(c, !c->owner->node           ? "still starting"
                       : preface_is_tls(preface) ? "it speaks TLS, and --peer-cert is not set here"
                                                 : "unknown preface");
    }
}

static void inbound_on_read(void *ctx, struct slice bytes) {
    struct inbound *c = ctx;
    bool kept = c->in.size > 0;
    if (c->closed)
        return;
    if (kept) {
        buf_append_slice(&c->in, bytes);
        bytes = buf_slice(&c->in);
    }
    size_t before = bytes.size;
    if (c->kind == INBOUND_NEW && bytes.size >= PREFACE_BYTES)
        inbound_preface(c, &bytes);
    if (c->closed)
        return;
    if (c->kind == INBOUND_LINK && bytes.size > 0) {
        struct slice all = bytes;
        bytes.size = 0;
        struct node_link *link = c->link;
        if (!node_link_bytes(link, all)) {
            c->link = NULL; /* it is gone already */
            inbound_bad(c, "malformed frame");
            return;
        }
        if (!c->closed && node_link_greeted(link))
            inbound_greeted(c);
    } else if (c->kind == INBOUND_PEER) {
        inbound_peer_bytes(c, &bytes);
    }
    if (c->closed)
        return;
    if (kept)
        buf_consume(&c->in, before - bytes.size);
    else if (bytes.size > 0)
        buf_append_slice(&c->in, bytes);
    if (c->kind == INBOUND_PEER && c->peer_id == 0 && c->in.size > GREETING_BYTES_MAX)
        inbound_bad(c, "no greeting");
    if (c->in.size == 0 && c->in.capacity > (1u << 20))
        buf_fini(&c->in);
}

static void inbound_on_close(void *ctx, int error) {
    struct inbound *c = ctx;
    const char *refusal = c->greeted ? "" : tls_peer_refusal(c->stream);
    if (*refusal) {
        c->owner->protocol_errors++;
        log_warn("connection-refused", "peer=%s reason=%s", stream_peer(c->stream),
                 log_quote(slice_str(refusal)));
    }
    if (c->link)
        node_link_closed(c->link);
    inbound_greeted(c);
    list_remove(&c->node);
    c->owner->inbound_count--;
    buf_fini(&c->in);
    free(c);
}

static const struct stream_handler inbound_handler = {.on_read = inbound_on_read,
                                                      .on_close = inbound_on_close};

static struct inbound *longest_ungreeted(struct transport *t) {
    LIST_FOREACH (it, &t->inbound) {
        struct inbound *c = LIST_ENTRY(it, struct inbound, node);
        if (!c->greeted && !c->closed)
            return c;
    }
    return NULL;
}

static void transport_take(struct transport *t, struct stream *s, bool greeted) {
    struct inbound *c = xcalloc(1, sizeof *c);
    c->owner = t;
    c->stream = s;
    c->since_ms = loop_now_ms(t->loop);
    c->greeted = greeted;
    t->ungreeted_count += !greeted;
    list_push_back(&t->inbound, &c->node);
    t->inbound_count++;
    stream_set_handler(s, &inbound_handler, c);
    if (t->closing || t->inbound_count > CONNECTIONS_MAX)
        inbound_close(c);
    else if (!greeted)
        look_soon(t);
    if (t->ungreeted_count > t->ungreeted_max)
        inbound_bad(longest_ungreeted(t), "too many connections without a greeting");
}

/* A handshake counts as a greeting that has not come: bounded in time and number like it. */
static void transport_on_accept(void *ctx, struct stream *s) {
    struct transport *t = ctx;
    transport_take(t, t->tls ? tls_peer_accept(t->tls, s) : s, false);
}

/* Closes those that say nothing, and those that end and do not take what they are owed. */
static void transport_look(void *ctx) {
    struct transport *t = ctx;
    uint64_t now = loop_now_ms(t->loop);
    bool again = false;
    t->look_at_ms = 0;
    LIST_FOREACH_SAFE (it, &t->inbound) {
        struct inbound *c = LIST_ENTRY(it, struct inbound, node);
        if (!c->closed && !c->greeted && now - c->since_ms >= t->greeting_ms)
            inbound_bad(c, "no greeting in time");
        else if (c->closed && now - c->since_ms >= ENDING_MS)
            stream_close(c->stream);
        else
            again |= c->closed || !c->greeted;
    }
    if (again)
        look_soon(t);
}

/* ---- connections to other nodes ---- */

static void outbound_on_read(void *ctx, struct slice bytes) {
    /* Nodes answer over their own connection to us; this one only sends. */
}

/* Once for each reason, until a connection has stood. */
static void outbound_say_refused(struct outbound *o, const char *why) {
    if (strncmp(o->told, why, sizeof o->told - 1) == 0)
        return;
    snprintf(o->told, sizeof o->told, "%s", why);
    log_warn("peer-refused", "peer=%llu address=%s reason=%s", (unsigned long long)o->id,
             log_quote(slice_str(o->address)), log_quote(slice_str(why)));
}

static void outbound_on_close(void *ctx, int error) {
    struct outbound *o = ctx;
    if (o->abandoned) {
        free(o);
        return;
    }
    if (o->connected && loop_now_ms(o->owner->loop) - o->connected_ms >= STOOD_MS) {
        o->retry_ms = RETRY_MIN_MS;
        o->told[0] = 0;
    } else if (*tls_peer_refusal(o->stream)) {
        outbound_say_refused(o, tls_peer_refusal(o->stream));
    }
    if (o->connected)
        log_debug("peer-disconnected", "peer=%llu error=%d", (unsigned long long)o->id, error);
    uint32_t wait = o->retry_ms;
    o->stream = NULL;
    o->connected = false;
    o->retry_at_ms =
        loop_now_ms(o->owner->loop) + wait / 2 + rand_below(&o->owner->rand, wait / 2 + 1);
    o->retry_ms = wait * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : wait * 2;
}

static const struct stream_handler outbound_handler = {.on_read = outbound_on_read,
                                                       .on_close = outbound_on_close};

static void outbound_on_connect(void *ctx, struct stream *s) {
    struct outbound *o = ctx;
    o->connected = true;
    o->connected_ms = loop_now_ms(o->owner->loop);
}

static void outbound_open(struct outbound *o) {
    struct transport *t = o->owner;
    o->stream =
        tcp_connect(t->loop, o->address, USER_TIMEOUT_MS, t->tls ? NULL : outbound_on_connect, o);
    if (t->tls)
        o->stream = tls_peer_connect(t->tls, o->stream, o->address, outbound_on_connect, o);
    stream_set_handler(o->stream, &outbound_handler, o);
    struct buf b = {0};
    buf_append_str(&b, WIRE_PREFACE);
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .node_id = t->node_id,
                               .starts = t->starts,
                               .connection = ++t->connections,
                               .address = slice_str(t->advertise)};
    memcpy(hello.cluster_id, t->cluster_id, sizeof hello.cluster_id);
    wire_put_hello(&b, &hello);
    stream_write(o->stream, buf_slice(&b));
    buf_fini(&b);
}

static void outbound_drop(struct outbound *o) {
    list_remove(&o->node);
    buf_fini(&o->later);
    o->abandoned = true;
    if (o->stream)
        stream_close(o->stream);
    else
        free(o);
}

static struct outbound *outbound_get(struct transport *t, uint64_t id, const char *address) {
    LIST_FOREACH_SAFE (it, &t->outbound) {
        struct outbound *o = LIST_ENTRY(it, struct outbound, node);
        if (o->id != id)
            continue;
        if (strcmp(o->address, address) == 0)
            return o;
        outbound_drop(o); /* it has moved */
    }
    struct outbound *o = xcalloc(1, sizeof *o);
    o->owner = t;
    o->id = id;
    o->retry_ms = RETRY_MIN_MS;
    snprintf(o->address, sizeof o->address, "%s", address);
    list_push_back(&t->outbound, &o->node);
    return o;
}

/* The connection to the node, when there is one or one can be begun. */
static struct outbound *outbound_ready(struct transport *t, uint64_t id, const char *address) {
    if (t->closing || id == t->node_id)
        return NULL;
    struct outbound *o = outbound_get(t, id, address);
    if (!o->stream) {
        if (loop_now_ms(t->loop) < o->retry_at_ms)
            return NULL;
        outbound_open(o);
    }
    return o;
}

/* What was to go out later goes before it, with it. */
static void outbound_write(struct outbound *o, struct slice frame) {
    size_t limit = o->connected ? PEER_QUEUE_BYTES_MAX : PEER_CONNECTING_BYTES_MAX;
    struct slice later = buf_slice(&o->later);
    if (o->stream && stream_pending_bytes(o->stream) + later.size + frame.size <= limit) {
        if (later.size > 0 && frame.size > 0)
            stream_write2(o->stream, later, frame);
        else
            stream_write(o->stream, later.size > 0 ? later : frame);
    }
    buf_reset(&o->later);
}

void transport_peer_send(struct transport *t, uint64_t id, const char *address,
                         struct slice frame) {
    struct outbound *o = outbound_ready(t, id, address);
    if (o)
        outbound_write(o, frame);
}

void transport_peer_send_later(struct transport *t, uint64_t id, const char *address,
                               struct slice frame) {
    struct outbound *o = outbound_ready(t, id, address);
    if (o)
        buf_append_slice(&o->later, frame);
}

void transport_peer_flush(struct transport *t) {
    LIST_FOREACH (it, &t->outbound) {
        struct outbound *o = LIST_ENTRY(it, struct outbound, node);
        if (o->later.size > 0)
            outbound_write(o, slice_of(NULL, 0));
    }
}

/* ---- links ---- */

void transport_link_send(void *handle, struct slice frames) {
    struct inbound *c = handle;
    if (c->closed)
        return;
    stream_write(c->stream, frames);
    /* The window bounds requests, not their replies: a gateway that does not read is cut off. */
    if (stream_pending_bytes(c->stream) > LINK_QUEUE_BYTES_MAX)
        stream_close(c->stream); /* on_close tells the node, which is iterating its links now */
}

size_t transport_link_pending_bytes(void *handle) {
    struct inbound *c = handle;
    return c->closed ? 0 : stream_pending_bytes(c->stream);
}

void transport_link_close(void *handle) {
    struct inbound *c = handle;
    c->link = NULL;
    c->closed = true;
    inbound_greeted(c);
    c->since_ms = loop_now_ms(c->owner->loop);
    look_soon(c->owner);
    /* Closed at once, what it still sends would make the kernel drop the answers that are on their
     * way to it. */
    stream_shutdown(c->stream);
}

void transport_adopt(struct transport *t, int fd) {
    pthread_mutex_lock(&t->lock);
    buf_append(&t->adopted, &fd, sizeof fd);
    pthread_mutex_unlock(&t->lock);
    waker_wake(t->waker);
}

void transport_adopt_stream(struct transport *t, struct stream *s) {
    transport_take(t, s, true);
}

static void transport_on_wake(void *ctx) {
    struct transport *t = ctx;
    pthread_mutex_lock(&t->lock);
    struct buf taken = t->adopted;
    t->adopted = (struct buf){0};
    pthread_mutex_unlock(&t->lock);
    for (size_t at = 0; at < taken.size; at += sizeof(int)) {
        int fd;
        struct stream *s;
        memcpy(&fd, taken.data + at, sizeof fd);
        if (t->closing)
            close(fd);
        else if (stream_from_fd(t->loop, fd, &s) == 0)
            transport_adopt_stream(t, s);
    }
    buf_fini(&taken);
}

/* ---- life ---- */

int transport_new(const struct transport_options *options, struct transport **ret_transport) {
    struct transport *t = xcalloc(1, sizeof *t);
    t->loop = options->loop;
    t->tls = options->tls;
    t->greeting_ms = options->greeting_ms ? options->greeting_ms : GREETING_MS;
    t->ungreeted_max = options->ungreeted_max ? options->ungreeted_max : UNGREETED_MAX;
    list_init(&t->inbound);
    list_init(&t->outbound);
    t->rand.state = (uint64_t)(uintptr_t)t ^ loop_now_ms(t->loop);
    pthread_mutex_init(&t->lock, NULL);
    list_init(&t->senders);
    t->waker = waker_new(t->loop, transport_on_wake, t);
    t->timer = timer_new(t->loop, transport_look, t);
    int rc =
        listener_new(t->loop, &options->listen, false, 512, transport_on_accept, t, &t->listener);
    if (rc < 0) {
        waker_free(t->waker);
        timer_free(t->timer);
        pthread_mutex_destroy(&t->lock);
        free(t);
        return rc;
    }
    if (options->advertise)
        snprintf(t->advertise, sizeof t->advertise, "%s", options->advertise);
    else
        snprintf(t->advertise, sizeof t->advertise, "%s:%u", options->listen.host,
                 listener_port(t->listener));
    *ret_transport = t;
    return 0;
}

void transport_set_node(struct transport *t, struct node *n, uint64_t node_id,
                        const uint8_t cluster_id[16], uint64_t starts) {
    t->node = n;
    t->node_id = node_id;
    t->starts = starts;
    memcpy(t->cluster_id, cluster_id, sizeof t->cluster_id);
}

const char *transport_address(const struct transport *t) {
    return t->advertise;
}

uint16_t transport_port(const struct transport *t) {
    return listener_port(t->listener);
}

void transport_close(struct transport *t) {
    t->closing = true;
    listener_free(t->listener);
    waker_free(t->waker);
    timer_free(t->timer);
    LIST_FOREACH_SAFE (it, &t->inbound) {
        inbound_close(LIST_ENTRY(it, struct inbound, node));
    }
    LIST_FOREACH_SAFE (it, &t->outbound) {
        outbound_drop(LIST_ENTRY(it, struct outbound, node));
    }
}

void transport_free(struct transport *t) {
    CHECK(list_empty(&t->inbound));
    LIST_FOREACH_SAFE (it, &t->senders) {
        free(LIST_ENTRY(it, struct sender, node));
    }
    buf_fini(&t->adopted);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
