#include "server/replica_thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "replica/disk_uv.h"
#include "replica/gauges.h"
#include "store/gate.h"

enum {
    EXIT_LOCAL_FAILURE = 70, /* EX_SOFTWARE: a supervisor may start us again */
    STORE_RESERVE_BYTES = 16 << 20,
};

struct replica_thread {
    struct server_options options;
    struct loop *loop;
    struct disk *disk;
    struct transport *transport;
    struct node *node;
    struct store_gate *gate;
    struct timer *timer;
    struct waker *stop_waker, *jobs_waker;
    pthread_t thread;
    struct identity identity;
    struct node_gauges gauges;
    bool running, stopped;
    int stop_status;
    pthread_mutex_t lock; /* guards jobs_done */
    struct list jobs_done;
    uint32_t jobs_running;
};

/* ---- the environment of the node ---- */

static uint64_t env_now_ms(void *env) {
    return loop_now_ms(((struct replica_thread *)env)->loop);
}

static uint64_t env_wall_ms(void *env) {
    (void)env;
    return loop_wall_ms();
}

/* The store is written through a map. A page that cannot get its place on the disk, or be read,
 * ends the process in the middle of a transaction: what is acknowledged is in the log. */
static void on_bus_error(int signum) {
    static const char text[] = "cotidal: stopped: the store's file could not be written or read: "
                               "the disk is full, or has failed\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    (void)signum;
    _exit(EXIT_LOCAL_FAILURE);
}

static void env_random(void *env, void *out, size_t size) {
    CHECK(getrandom(out, size, 0) == (ssize_t)size);
}

static void env_peer_send(void *env, uint64_t id, const char *address, struct slice frame) {
    transport_peer_send(((struct replica_thread *)env)->transport, id, address, frame);
}

static void env_peer_send_later(void *env, uint64_t id, const char *address, struct slice frame) {
    transport_peer_send_later(((struct replica_thread *)env)->transport, id, address, frame);
}

static void env_peer_flush(void *env) {
    transport_peer_flush(((struct replica_thread *)env)->transport);
}

static void env_link_send(void *env, void *handle, struct slice frames) {
    transport_link_send(handle, frames);
}

static size_t env_link_pending_bytes(void *env, void *handle) {
    return transport_link_pending_bytes(handle);
}

static void env_link_close(void *env, void *handle) {
    transport_link_close(handle);
}

static uint64_t env_free_bytes(void *env) {
    struct statvfs fs;
    if (statvfs(((struct replica_thread *)env)->options.data, &fs))
        return UINT64_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static void env_fatal(void *env, const char *reason) {
    fprintf(stderr, "cotidal: stopped: %s\n", reason);
    fflush(NULL);
    _exit(EXIT_LOCAL_FAILURE);
}

static void gate_fatal(void *ctx, int error) {
    char reason[128];
    snprintf(reason, sizeof reason, "the store cannot be read: %s", strerror(-error));
    env_fatal(ctx, reason);
}

/* Background jobs are rare and long (copies of the store): a thread each. */
struct job_thread {
    struct replica_thread *owner;
    struct background_job *job;
};

static void *job_main(void *arg) {
    struct job_thread *j = arg;
    struct replica_thread *t = j->owner;
    j->job->status = j->job->fn(j->job->arg);
    pthread_mutex_lock(&t->lock);
    list_push_back(&t->jobs_done, &j->job->node);
    waker_wake(t->jobs_waker); /* under the lock: once it is taken, the waker may go */
    pthread_mutex_unlock(&t->lock);
    free(j);
    return NULL;
}

static void env_background(void *env, struct background_job *job) {
    struct replica_thread *t = env;
    struct job_thread *j = xmalloc(sizeof *j);
    *j = (struct job_thread){.owner = t, .job = job};
    list_init(&job->node);
    t->jobs_running++;
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, job_main, j);
    if (rc != 0)
        env_fatal(t, strerror(rc));
    pthread_detach(thread);
}

static const struct replica_env_ops env_ops = {
    .now_ms = env_now_ms,
    .wall_ms = env_wall_ms,
    .random = env_random,
    .peer_send = env_peer_send,
    .peer_send_later = env_peer_send_later,
    .peer_flush = env_peer_flush,
    .link_send = env_link_send,
    .link_pending_bytes = env_link_pending_bytes,
    .link_close = env_link_close,
    .free_bytes = env_free_bytes,
    .background = env_background,
    .fatal = env_fatal,
};

/* ---- the loop ---- */

/* The cluster exists now, and this node is part of it: should its log ever be lost, it must neither
 * begin another cluster under the same name nor go on under this id. */
static void note_begun(struct replica_thread *t) {
    t->identity.bootstrap = false;
    t->identity.begun = true;
    int rc = identity_save(t->options.data, &t->identity);
    if (rc < 0)
        env_fatal(t, strerror(-rc));
}

static void on_turn_end(void *ctx) {
    struct replica_thread *t = ctx;
    if (!t->node)
        return;
    /* Clients of the same loop may have kept its timers waiting. */
    if (loop_now_ms(t->loop) >= node_deadline_ms(t->node))
        node_tick(t->node);
    node_turn_end(t->node);
    /* A job that is still running (a copy of the store) must not outlive the store. */
    if (t->stopped && t->jobs_running == 0) {
        loop_stop(t->loop);
        return;
    }
    if (!t->identity.begun && node_commit_index(t->node) > 0)
        note_begun(t);
    timer_set(t->timer, node_deadline_ms(t->node));
}

static void on_timer(void *ctx) {
    struct replica_thread *t = ctx;
    if (t->node)
        node_tick(t->node);
}

static void on_jobs(void *ctx) {
    struct replica_thread *t = ctx;
    for (;;) {
        pthread_mutex_lock(&t->lock);
        struct list *first = list_first(&t->jobs_done);
        if (first)
            list_remove(first);
        pthread_mutex_unlock(&t->lock);
        if (!first)
            return;
        t->jobs_running--;
        struct background_job *job = LIST_ENTRY(first, struct background_job, node);
        job->done(job->arg, job->status);
    }
}

static void on_stopped(void *ctx) {
    struct replica_thread *t = ctx;
    t->stopped = true;
}

static void on_stop(void *ctx) {
    struct replica_thread *t = ctx;
    node_stop(t->node, on_stopped, t);
}

static void *replica_main(void *arg) {
    struct replica_thread *t = arg;
    pthread_setname_np(pthread_self(), "replica");
    loop_run(t->loop);
    struct node *n = t->node;
    t->node = NULL;
    t->stop_status = node_free(n);
    transport_close(t->transport);
    timer_free(t->timer);
    waker_free(t->stop_waker);
    waker_free(t->jobs_waker);
    disk_uv_free(t->disk);
    loop_drain(t->loop);
    return NULL;
}

/* ---- life ---- */

struct replica_thread *replica_thread_prepare(const struct server_options *o,
                                              struct tls_peer *tls) {
    struct replica_thread *t = xcalloc(1, sizeof *t);
    t->options = *o;
    struct transport_options transport = {.advertise = *o->advertise ? o->advertise : NULL,
                                          .tls = tls};
    if (!address_parse(o->peer, &transport.listen)) {
        fprintf(stderr, "cotidal: --peer %s is not an address: expected HOST:PORT\n", o->peer);
        goto fail;
    }
    int rc = loop_new(&t->loop);
    CHECK(rc == 0);
    rc = disk_uv_new(t->loop, o->data, true, &t->disk);
    if (rc == -EWOULDBLOCK) {
        fprintf(stderr,
                "cotidal: %s is in use by another process; stop it, or give another --data\n",
                o->data);
        goto fail;
    }
    if (rc < 0) {
        fprintf(stderr, "cotidal: --data %s: %s\n", o->data, strerror(-rc));
        goto fail;
    }
    transport.loop = t->loop;
    rc = transport_new(&transport, &t->transport);
    if (rc < 0) {
        fprintf(stderr, "cotidal: --peer %s: %s\n", o->peer, strerror(-rc));
        goto fail;
    }
    pthread_mutex_init(&t->lock, NULL);
    list_init(&t->jobs_done);
    t->gate = store_gate_new(gate_fatal, t);
    t->timer = timer_new(t->loop, on_timer, t);
    t->stop_waker = waker_new(t->loop, on_stop, t);
    t->jobs_waker = waker_new(t->loop, on_jobs, t);
    return t;
fail:
    free(t); /* the process ends */
    return NULL;
}

const struct node_gauges *replica_thread_gauges(const struct replica_thread *t) {
    return &t->gauges;
}

const char *replica_thread_address(const struct replica_thread *t) {
    return transport_address(t->transport);
}

struct store_gate *replica_thread_gate(struct replica_thread *t) {
    return t->gate;
}

struct transport *replica_thread_transport(struct replica_thread *t) {
    return t->transport;
}

struct loop *replica_thread_loop(struct replica_thread *t) {
    return t->loop;
}

bool replica_thread_start(struct replica_thread *t, const struct identity *id,
                          const char *http_address, const char *redis_address) {
    char error[256] = "", boot_id[64];
    signal(SIGBUS, on_bus_error);
    boot_id_read(boot_id);
    const struct server_options *o = &t->options;
    t->identity = *id;
    struct node_options options = {
        .id = id->node_id,
        .bootstrap = id->bootstrap,
        .begun = id->begun,
        .dir = o->data,
        .peer_address = transport_address(t->transport),
        .http_address = http_address,
        .redis_address = redis_address,
        .boot_id = boot_id,
        .election_timeout_ms = (uint32_t)o->election_timeout,
        .heartbeat_ms = (uint32_t)o->heartbeat,
        .replace_after_ms = (uint32_t)o->replace_after,
        .snapshot_log_bytes = o->snapshot_bytes,
        .snapshot_rate_bytes = o->snapshot_rate,
        .snapshot_agree_ms = 3000,
        .scrub_every_ms = o->scrub_every,
        .gauges = &t->gauges,
        .map_bytes = o->map_size,
        .max_data_bytes = o->max_data,
        .gate = t->gate,
        .min_free_bytes = o->min_free,
        .reserve_bytes = STORE_RESERVE_BYTES,
    };
    memcpy(options.cluster_id, id->cluster_id, sizeof options.cluster_id);
    int rc = node_new(&options, &env_ops, t, t->disk, &t->node, error);
    if (rc < 0) {
        fprintf(stderr, "cotidal: %s\n", *error ? error : strerror(-rc));
        if (rc == -EBADMSG)
            fprintf(stderr,
                    "cotidal: to see all that is wrong: cotidal check %s\n"
                    "cotidal: to let the node join the others anew: cotidal rejoin %s --join "
                    "HOST:PORT\n",
                    o->data, o->data);
        return false;
    }
    transport_set_node(t->transport, t->node, id->node_id, id->cluster_id, id->starts);
    loop_on_turn_end(t->loop, on_turn_end, t);
    timer_set(t->timer, loop_now_ms(t->loop));
    rc = pthread_create(&t->thread, NULL, replica_main, t);
    CHECK(rc == 0);
    t->running = true;
    return true;
}

int replica_thread_stop(struct replica_thread *t) {
    if (t->running) {
        waker_wake(t->stop_waker);
        pthread_join(t->thread, NULL);
        t->running = false;
    }
    return t->stop_status;
}

void replica_thread_free(struct replica_thread *t) {
    transport_free(t->transport);
    store_gate_free(t->gate);
    loop_free(t->loop);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
