#include "cli/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/rand.h"
#include "net/tcp.h"
#include "proto/http1_reply.h"
#include "proto/resp_reply.h"

enum { CONNECT_TIMEOUT_MS = 10000, RECONNECT_MS = 100 };

/* A request on its way. */
struct flight {
    uint64_t since_ns; /* when it was sent; open loop: when it was due */
    uint8_t operation;
    bool failed;
    unsigned answers_left;
};

struct bench_conn {
    struct thread *thread;
    struct stream *stream; /* NULL: closed, `retry` is set */
    struct timer *retry;   /* made when first needed */
    size_t address;        /* into plan.addresses */
    bool up;
    bool ended;          /* the server said that it closes, or broke the protocol */
    struct list room;    /* open loop: in thread.room while a request can be sent */
    struct flight *ring; /* of plan.pipeline */
    uint64_t first, count;
    union {
        struct resp_reply resp;
        struct http1_reply http;
    } reply;
};

/*   CONNECTING --> RUNNING --> DRAINING --> CLOSING
 *        +--------------------------------->--^      */
enum phase { CONNECTING, RUNNING, DRAINING, CLOSING };

struct thread {
    struct bench_worker *w;
    const struct bench_plan *plan;
    struct bench_counts *counts;
    struct loop *loop;
    struct timer *timer; /* CONNECTING, DRAINING: the time limit; RUNNING: the end */
    struct fine_timer *pacer;
    enum phase phase;
    struct bench_conn *conns;
    uint64_t conn_count, up_count, open_count; /* open: with a stream that is not closed yet */
    uint64_t in_flight;
    uint64_t requests_left; /* UINT64_MAX: no limit */
    uint64_t next_key;      /* fill: the keys of this thread, in order */
    uint64_t due_index;     /* open loop: how many requests of this thread were due */
    uint64_t weights;
    uint64_t good_ns; /* when the last good answer came */
    struct list room;
    struct rand rand;
    struct buf out;
};

static const struct stream_handler conn_handler;

/* ---- counting ---- */

static void note_error(struct thread *t, const char *text) {
    if (!t->counts->error[0])
        snprintf(t->counts->error, sizeof t->counts->error, "%s", text);
}

static bool is_counted(const struct thread *t, uint64_t ns) {
    return ns >= t->plan->begin_ns && ns < t->plan->end_ns;
}

static struct bench_interval *interval_at(struct thread *t, uint64_t ns) {
    if (t->counts->interval_count == 0 || ns < t->plan->begin_ns)
        return NULL;
    uint64_t i = (ns - t->plan->begin_ns) / (t->plan->interval_ms * 1000000);
    return i < t->counts->interval_count ? &t->counts->intervals[i] : NULL;
}

static void count_good(struct thread *t, struct bench_tally *tally, const struct flight *f,
                       uint64_t now_ns) {
    if (is_counted(t, f->since_ns))
        histogram_add(&tally->ns, now_ns - f->since_ns);
    if (!is_counted(t, now_ns))
        return;
    if (now_ns - t->good_ns > t->counts->pause_ns)
        t->counts->pause_ns = now_ns - t->good_ns;
    t->good_ns = now_ns;
}

static void count_end(struct thread *t, const struct flight *f, uint64_t now_ns) {
    struct bench_tally *tally = &t->counts->tally[f->operation];
    struct bench_interval *interval = interval_at(t, now_ns);
    if (is_counted(t, now_ns)) {
        tally->answered++;
        tally->errors += f->failed;
        t->counts->last_ns = now_ns;
    }
    if (!f->failed)
        count_good(t, tally, f, now_ns);
    if (!interval)
        return;
    interval->answered++;
    interval->errors += f->failed;
    if (now_ns - f->since_ns > interval->max_ns)
        interval->max_ns = now_ns - f->since_ns;
}

/* No answer came by the end: it took at least as long as it has waited. */
static void count_unanswered(struct thread *t, const struct flight *f, uint64_t now_ns) {
    struct bench_tally *tally = &t->counts->tally[f->operation];
    tally->unanswered++;
    if (is_counted(t, f->since_ns))
        histogram_add(&tally->ns, now_ns - f->since_ns);
}

/* ---- sending ---- */

static uint64_t choose_key(struct thread *t) {
    return t->plan->fill ? t->next_key++ : rand_below(&t->rand, t->plan->keys);
}

static uint8_t choose_operation(struct thread *t) {
    if (t->plan->operation_count == 1)
        return 0;
    return rand_below(&t->rand, t->weights) < t->plan->operations[0].weight ? 0 : 1;
}

/* Appends one request to t->out and notes that it is on its way. */
static void add_request(struct bench_conn *c, uint64_t since_ns) {
    struct thread *t = c->thread;
    CHECK(c->count < t->plan->pipeline);
    uint8_t operation = choose_operation(t);
    c->ring[(c->first + c->count++) % t->plan->pipeline] =
        (struct flight){.since_ns = since_ns,
                        .operation = operation,
                        .answers_left = t->plan->operations[operation].answers};
    t->in_flight++;
    bench_request_append(&t->out, &t->plan->operations[operation].request, choose_key(t));
    if (t->requests_left != UINT64_MAX)
        t->requests_left--;
}

static void send_out(struct bench_conn *c) {
    stream_write(c->stream, buf_slice(&c->thread->out));
    buf_reset(&c->thread->out);
}

/* Closed loop: the next `pipeline` requests. */
static void send_batch(struct bench_conn *c) {
    struct thread *t = c->thread;
    uint64_t now_ns = loop_now_ns();
    if (t->phase != RUNNING || !c->up || c->ended || now_ns >= t->plan->end_ns)
        return;
    while (c->count < t->plan->pipeline && t->requests_left > 0)
        add_request(c, now_ns);
    send_out(c);
}

/* When this thread's i-th request is due: the threads take turns in one schedule. */
static uint64_t due_ns(const struct thread *t, uint64_t i) {
    __uint128_t number = (__uint128_t)i * t->plan->threads + t->w->index;
    return t->plan->start_ns + (uint64_t)(number * 1000000000 / t->plan->rate);
}

/* Open loop: sends what is due, as far as connections have room. */
static void send_due(void *ctx) {
    struct thread *t = ctx;
    if (t->phase != RUNNING || t->plan->rate == 0)
        return;
    uint64_t now_ns = loop_now_ns();
    uint64_t due;
    while ((due = due_ns(t, t->due_index)) <= now_ns && due < t->plan->end_ns &&
           t->requests_left > 0) {
        struct list *first = list_first(&t->room);
        if (!first)
            return; /* the next answer brings us here again */
        struct bench_conn *c = LIST_ENTRY(first, struct bench_conn, room);
        add_request(c, due);
        t->due_index++;
        list_remove(&c->room);
        if (c->count < t->plan->pipeline)
            list_push_back(&t->room, &c->room);
        send_out(c);
    }
    fine_timer_set(t->pacer, due < t->plan->end_ns && t->requests_left > 0 ? due : UINT64_MAX);
}

static void note_room(struct bench_conn *c) {
    bool has_room = c->up && !c->ended && c->count < c->thread->plan->pipeline;
    if (!has_room)
        list_remove(&c->room);
    else if (list_empty(&c->room))
        list_push_back(&c->thread->room, &c->room);
}

/* ---- the end ---- */

static void close_all(struct thread *t) {
    t->phase = CLOSING;
    timer_set(t->timer, UINT64_MAX);
    fine_timer_set(t->pacer, UINT64_MAX);
    for (uint64_t i = 0; i < t->conn_count; i++) {
        timer_free(t->conns[i].retry);
        t->conns[i].retry = NULL;
        if (t->conns[i].stream)
            stream_close(t->conns[i].stream);
    }
    loop_stop(t->loop);
}

/* What waits at the end is counted with the time that it has waited for. */
static void count_rest(struct thread *t) {
    uint64_t now_ns = loop_now_ns();
    for (uint64_t i = 0; i < t->conn_count; i++) {
        struct bench_conn *c = &t->conns[i];
        for (uint64_t n = 0; n < c->count; n++)
            count_unanswered(t, &c->ring[(c->first + n) % t->plan->pipeline], now_ns);
    }
    uint64_t end_ns = t->plan->end_ns;
    if (end_ns == UINT64_MAX)
        return;
    if (end_ns > t->good_ns && end_ns - t->good_ns > t->counts->pause_ns)
        t->counts->pause_ns = end_ns - t->good_ns;
    if (t->plan->rate == 0)
        return;
    for (; due_ns(t, t->due_index) < end_ns && t->requests_left > 0; t->due_index++) {
        uint64_t due = due_ns(t, t->due_index);
        if (!is_counted(t, due))
            continue;
        t->counts->unsent++;
        /* Which operation it would have been was not decided yet. */
        histogram_add(&t->counts->tally[0].ns, end_ns - due);
    }
}

static void end_if_idle(struct thread *t) {
    bool all_sent = t->phase == DRAINING || (t->phase == RUNNING && t->requests_left == 0);
    if (all_sent && t->in_flight == 0) {
        count_rest(t);
        close_all(t);
    }
}

static void on_time(void *ctx) {
    struct thread *t = ctx;
    switch (t->phase) {
    case CONNECTING:
        snprintf(t->w->problem, sizeof t->w->problem,
                 "only %llu of %llu connections were accepted within %d s",
                 (unsigned long long)t->up_count, (unsigned long long)t->conn_count,
                 CONNECT_TIMEOUT_MS / 1000);
        t->w->outcome = BENCH_NOT_CONNECTED;
        close_all(t);
        break;
    case RUNNING:
        t->phase = DRAINING;
        fine_timer_set(t->pacer, UINT64_MAX);
        timer_set(t->timer, loop_now_ms(t->loop) + BENCH_DRAIN_MS);
        end_if_idle(t);
        break;
    case DRAINING:
        count_rest(t);
        close_all(t);
        break;
    case CLOSING:
        break;
    }
}

/* ---- answers ---- */

static void answered(struct bench_conn *c, bool good, bool missing, uint64_t now_ns) {
    struct thread *t = c->thread;
    struct flight *f = &c->ring[c->first];
    f->failed |= !good;
    if (missing && is_counted(t, now_ns))
        t->counts->tally[f->operation].misses++;
    if (--f->answers_left > 0)
        return;
    count_end(t, f, now_ns);
    c->first = (c->first + 1) % t->plan->pipeline;
    c->count--;
    t->in_flight--;
}

/* The server and we are out of step: nothing that follows on this connection means anything. */
static void break_off(struct bench_conn *c, const char *why) {
    if (c->thread->phase != CLOSING)
        note_error(c->thread, why);
    c->ended = true;
    stream_close(c->stream);
}

static void read_resp(struct bench_conn *c, struct slice in, uint64_t now_ns) {
    struct thread *t = c->thread;
    struct resp_reply *r = &c->reply.resp;
    for (;;) {
        enum resp_reply_result result = resp_reply_take(r, &in);
        if (result == RESP_REPLY_MORE)
            return;
        if (result == RESP_REPLY_BAD || c->count == 0) {
            break_off(c, "the server does not speak the Redis protocol");
            return;
        }
        /* The second answer of an operation with two is WAIT's. */
        bool is_wait = t->plan->wait > 0 && c->ring[c->first].answers_left == 1 &&
                       t->plan->operations[c->ring[c->first].operation].answers == 2;
        bool good = r->type != '-';
        if (!good) {
            note_error(t, r->text);
        } else if (is_wait && (r->type != ':' || r->integer < (int64_t)t->plan->wait)) {
            good = false;
            note_error(t, "WAIT: fewer replicas had the write than were asked for");
        }
        answered(c, good, r->type == 'n', now_ns);
    }
}

static void answered_http(struct bench_conn *c, uint64_t now_ns) {
    struct thread *t = c->thread;
    int status = c->reply.http.status;
    bool missing = status == 404 && t->plan->operations[c->ring[c->first].operation].may_be_missing;
    bool good = missing || (status >= 200 && status < 300) || status == 304;
    if (!good) {
        char text[BENCH_ERROR_BYTES];
        snprintf(text, sizeof text, "status %d %s", status, http_status_text(status));
        note_error(t, text);
    }
    answered(c, good, missing, now_ns);
}

static void read_http(struct bench_conn *c, struct slice in, uint64_t now_ns) {
    while (!c->ended) {
        enum http1_reply_result result = http1_reply_take(&c->reply.http, &in);
        if (result == HTTP1_REPLY_MORE)
            return;
        if (result == HTTP1_REPLY_BAD || c->count == 0) {
            break_off(c, "the server does not speak HTTP/1.1");
            return;
        }
        answered_http(c, now_ns);
        if (c->reply.http.close) {
            c->ended = true;
            stream_close(c->stream);
        }
    }
}

static void on_read(void *ctx, struct slice bytes) {
    struct bench_conn *c = ctx;
    struct thread *t = c->thread;
    if (c->ended || t->phase == CLOSING)
        return;
    if (t->plan->protocol == BENCH_REDIS)
        read_resp(c, bytes, loop_now_ns());
    else
        read_http(c, bytes, loop_now_ns());
    if (t->plan->rate > 0) {
        note_room(c);
        send_due(t);
    } else if (c->count == 0) {
        send_batch(c);
    }
    end_if_idle(t);
}

/* ---- connections ---- */

static void start_when_all_are_up(struct thread *t) {
    if (t->phase == CONNECTING && t->up_count == t->conn_count)
        loop_stop(t->loop);
}

static void on_connect(void *ctx, struct stream *s) {
    struct bench_conn *c = ctx;
    struct thread *t = c->thread;
    c->up = true;
    t->up_count++;
    if (t->phase == RUNNING && t->plan->rate > 0) {
        note_room(c);
        send_due(t);
    } else if (t->phase == RUNNING) {
        send_batch(c);
    }
    start_when_all_are_up(t);
}

static void connect_again(void *ctx) {
    struct bench_conn *c = ctx;
    struct thread *t = c->thread;
    c->up = c->ended = false;
    c->first = c->count = 0;
    if (t->plan->protocol == BENCH_HTTP)
        http1_reply_fini(&c->reply.http);
    memset(&c->reply, 0, sizeof c->reply);
    t->open_count++;
    c->stream = tcp_connect(t->loop, t->plan->addresses[c->address], 0, on_connect, c);
    stream_set_handler(c->stream, &conn_handler, c);
}

/* What was on its way is lost: the requests failed, and whether they were executed is not known. */
static void count_lost(struct bench_conn *c) {
    struct thread *t = c->thread;
    uint64_t now_ns = loop_now_ns();
    for (; c->count > 0; c->count--) {
        struct flight *f = &c->ring[c->first];
        f->failed = true;
        if (t->phase == DRAINING)
            count_unanswered(t, f, now_ns);
        else
            count_end(t, f, now_ns);
        c->first = (c->first + 1) % t->plan->pipeline;
        t->in_flight--;
    }
}

static void on_close(void *ctx, int error) {
    struct bench_conn *c = ctx;
    struct thread *t = c->thread;
    bool was_up = c->up, orderly = c->ended && c->count == 0;
    c->stream = NULL;
    c->up = false;
    t->up_count -= was_up;
    t->open_count--;
    list_remove(&c->room);
    if (t->phase == CLOSING)
        return;
    if (t->phase == CONNECTING) {
        snprintf(t->w->problem, sizeof t->w->problem, "%s: %s", t->plan->addresses[c->address],
                 error ? strerror(-error) : "the server closed the connection at once");
        t->w->outcome = error == -EMFILE || error == -ENFILE || error == -EINVAL
                            ? BENCH_LOCAL_FAILURE
                            : BENCH_NOT_CONNECTED;
        close_all(t);
        return;
    }
    if (t->plan->protocol == BENCH_HTTP && c->count > 0 && http1_reply_closed(&c->reply.http)) {
        answered_http(c, loop_now_ns());
        orderly = c->count == 0;
    }
    if (!orderly) {
        t->counts->lost_connections++;
        note_error(t, error ? strerror(-error) : "the server closed a connection");
        c->address = (c->address + 1) % t->plan->address_count;
    }
    count_lost(c);
    if (!c->retry)
        c->retry = timer_new(t->loop, connect_again, c);
    timer_set(c->retry, loop_now_ms(t->loop) + (orderly ? 0 : RECONNECT_MS));
    end_if_idle(t);
}

static const struct stream_handler conn_handler = {.on_read = on_read, .on_close = on_close};

/* ---- the thread ---- */

/* This thread's part of n things. */
static uint64_t share(const struct thread *t, uint64_t n) {
    return n / t->plan->threads + (t->w->index < n % t->plan->threads);
}

static uint64_t share_start(const struct thread *t, uint64_t n) {
    uint64_t rest = n % t->plan->threads;
    return n / t->plan->threads * t->w->index + (t->w->index < rest ? t->w->index : rest);
}

static int thread_init(struct thread *t, struct bench_worker *w) {
    const struct bench_plan *plan = w->plan;
    *t = (struct thread){.w = w, .plan = plan, .counts = &w->counts};
    list_init(&t->room);
    int r = loop_new(&t->loop);
    if (r < 0)
        return r;
    r = fine_timer_new(t->loop, send_due, t, &t->pacer);
    if (r < 0) {
        loop_free(t->loop);
        return r;
    }
    t->timer = timer_new(t->loop, on_time, t);
    t->rand.state = w->index; /* the same keys in every run */
    for (size_t i = 0; i < plan->operation_count; i++)
        t->weights += plan->operations[i].weight;
    t->requests_left = plan->requests ? share(t, plan->requests) : UINT64_MAX;
    t->next_key = share_start(t, plan->keys);
    if (plan->interval_ms) {
        w->counts.interval_count = (plan->duration_ms + plan->interval_ms - 1) / plan->interval_ms;
        w->counts.intervals = xcalloc(w->counts.interval_count, sizeof w->counts.intervals[0]);
    }
    t->conn_count = share(t, plan->clients);
    t->conns = xcalloc(t->conn_count, sizeof t->conns[0]);
    for (uint64_t i = 0; i < t->conn_count; i++) {
        struct bench_conn *c = &t->conns[i];
        c->thread = t;
        c->address = (share_start(t, plan->clients) + i) % plan->address_count;
        c->ring = xcalloc(plan->pipeline, sizeof c->ring[0]);
        list_init(&c->room);
    }
    return 0;
}

static void thread_fini(struct thread *t) {
    for (uint64_t i = 0; i < t->conn_count; i++) {
        if (t->plan->protocol == BENCH_HTTP)
            http1_reply_fini(&t->conns[i].reply.http);
        free(t->conns[i].ring);
    }
    free(t->conns);
    timer_free(t->timer);
    fine_timer_free(t->pacer);
    loop_drain(t->loop);
    loop_free(t->loop);
    buf_fini(&t->out);
}

static void connect_all(struct thread *t) {
    for (uint64_t i = 0; i < t->conn_count; i++)
        connect_again(&t->conns[i]);
    timer_set(t->timer, loop_now_ms(t->loop) + CONNECT_TIMEOUT_MS);
    loop_run(t->loop);
    timer_set(t->timer, UINT64_MAX);
}

static void run(struct thread *t) {
    t->phase = RUNNING;
    t->good_ns = t->plan->begin_ns;
    if (t->plan->end_ns != UINT64_MAX)
        timer_set(t->timer, t->plan->end_ns / 1000000 + 1);
    for (uint64_t i = 0; i < t->conn_count && t->phase == RUNNING; i++) {
        if (t->plan->rate > 0)
            note_room(&t->conns[i]);
        else
            send_batch(&t->conns[i]);
    }
    send_due(t);
    end_if_idle(t);
    loop_run(t->loop);
}

void *bench_worker_run(void *worker) {
    struct bench_worker *w = worker;
    struct thread t;
    int r = thread_init(&t, w);
    if (r < 0) {
        snprintf(w->problem, sizeof w->problem, "%s", strerror(-r));
        w->outcome = BENCH_LOCAL_FAILURE;
    } else {
        connect_all(&t);
    }
    pthread_barrier_wait(w->barrier);
    pthread_barrier_wait(w->barrier);
    if (r < 0)
        return NULL;
    if (*w->give_up) {
        if (t.phase != CLOSING)
            close_all(&t);
    } else {
        run(&t);
    }
    /* The streams close in the loop's last turns; nothing may be freed before. */
    loop_drain(t.loop);
    CHECK(t.open_count == 0);
    thread_fini(&t);
    return NULL;
}
