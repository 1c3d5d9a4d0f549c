/* The sites of a process: what each host name shows now, shared by all gateway threads.
 *
 *   database --LINK_SITES--> loader (site_load.c, on one thread) --publishes--> struct site_set
 *                                                                      |
 *   request -> gateway thread: one atomic load; takes the new set when there is one
 *
 * A struct site_set is immutable. Each gateway thread holds a reference to the one it uses, and
 * looks at the number of the newest before each request; so a switch is seen by the next request on
 * every thread, and what is being answered goes on with the old one.
 *
 * Which site: the one that has the request's host name, else the one called "default". Where there
 * is neither, the paths that are not ours are as if there were no sites.
 */
#pragma once
#include <pthread.h>

#include "gateway/site_deploy.h"

struct gateway;
struct site_cache;

#define SITE_DEFAULT_NAME "default"

struct site {
    char *name;
    struct slice hosts;          /* joined by ","; owned */
    uint64_t switch_index;       /* log index of the last switch: never goes back */
    struct buf cookie;           /* the field that tells visitors of it, as HTTP/1.1 writes it */
    struct site_deploy *shown;   /* NULL: nothing yet */
    struct site_deploy **others; /* newest first: for old assets, and to be looked at */
    size_t other_count;
};

struct site_set {
    uint32_t refs; /* atomic */
    uint64_t revision;
    uint8_t cluster[16];
    size_t count;
    struct site *sites;
    struct site *fallback; /* the default site; NULL: there is none */
    struct site_host {
        struct slice name;
        struct site *site;
    } * hosts; /* sorted */
    size_t host_count;
};

/* Of the process. */
struct sites {
    pthread_mutex_t mutex;
    struct site_set *set; /* NULL: nothing is known; changes under the mutex */
    uint64_t revision;    /* atomic: that of the set */
    struct site_budget budget;
    struct site_cache *cache; /* NULL: none */
    struct gateway *loader;   /* the gateway that loads; under the mutex */
};

struct sites *sites_new(void);
void sites_free(struct sites *s);
/* Takes the set. A set that is not newer than the one there is dropped. */
void sites_publish(struct sites *s, struct site_set *set);
/* A reference to the newest set, or NULL. */
struct site_set *sites_ref(struct sites *s);
static inline uint64_t sites_revision(const struct sites *s) {
    return __atomic_load_n(&s->revision, __ATOMIC_ACQUIRE);
}

struct site_set *site_set_new(uint64_t revision, size_t count);
struct site_set *site_set_ref(struct site_set *set);
void site_set_unref(struct site_set *set);
/* When all sites are filled in: makes the index of hosts. */
void site_set_finish(struct site_set *set);
/* `host` as in a Host field, with or without a port. NULL: no site answers it. */
struct site *site_set_find(const struct site_set *set, struct slice host);
struct site *site_set_named(const struct site_set *set, struct slice name);
/* A deploy of the set by its id, or NULL; not referenced. */
struct site_deploy *site_set_deploy(const struct site_set *set, uint64_t id);
struct site_deploy *site_find_other(const struct site *site, uint64_t id);
