#include "gateway/sites.h"

#include <ctype.h>
#include <stdlib.h>

#include "gateway/site_serve.h"

enum { BUDGET_DEFAULT_BYTES = 256 << 20, HOST_BYTES_MAX = 255 };

/* ---- of the process ---- */

struct sites *sites_new(void) {
    struct sites *s = xcalloc(1, sizeof *s);
    CHECK(pthread_mutex_init(&s->mutex, NULL) == 0);
    s->budget.bytes_max = BUDGET_DEFAULT_BYTES;
    return s;
}

void sites_free(struct sites *s) {
    if (s->set)
        site_set_unref(s->set);
    CHECK(s->budget.bytes == 0);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

void sites_publish(struct sites *s, struct site_set *set) {
    pthread_mutex_lock(&s->mutex);
    struct site_set *old = set;
    if (!s->set || set->revision > s->set->revision ||
        memcmp(set->cluster, s->set->cluster, sizeof set->cluster) != 0) {
        old = s->set;
        s->set = set;
        __atomic_store_n(&s->revision, set->revision, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&s->mutex);
    if (old)
        site_set_unref(old);
}

struct site_set *sites_ref(struct sites *s) {
    pthread_mutex_lock(&s->mutex);
    struct site_set *set = s->set ? site_set_ref(s->set) : NULL;
    pthread_mutex_unlock(&s->mutex);
    return set;
}

/* ---- sets ---- */

struct site_set *site_set_new(uint64_t revision, size_t count) {
    struct site_set *set = xcalloc(1, sizeof *set);
    set->refs = 1;
    set->revision = revision;
    set->count = count;
    set->sites = xcalloc(count + 1, sizeof set->sites[0]);
    return set;
}

struct site_set *site_set_ref(struct site_set *set) {
    __atomic_add_fetch(&set->refs, 1, __ATOMIC_RELAXED);
    return set;
}

void site_set_unref(struct site_set *set) {
    if (__atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < set->count; i++) {
        struct site *site = &set->sites[i];
        site_deploy_unref(site->shown);
        for (size_t o = 0; o < site->other_count; o++)
            site_deploy_unref(site->others[o]);
        free(site->others);
        buf_fini(&site->cookie);
        free(site->name);
        free((void *)(uintptr_t)site->hosts.data);
    }
    free(set->hosts);
    free(set->sites);
    free(set);
}

static int compare_hosts(const void *a, const void *b) {
    return slice_compare(((const struct site_host *)a)->name, ((const struct site_host *)b)->name);
}

void site_set_finish(struct site_set *set) {
    size_t count = 0;
    for (size_t i = 0; i < set->count; i++)
        for (size_t at = 0; at < set->sites[i].hosts.size; at++)
            count += at == 0 || set->sites[i].hosts.data[at] == ',';
    set->hosts = xcalloc(count + 1, sizeof set->hosts[0]);
    for (size_t i = 0; i < set->count; i++) {
        struct site *site = &set->sites[i];
        if (strcmp(site->name, SITE_DEFAULT_NAME) == 0 && site->shown)
            set->fallback = site;
        buf_append_str(&site->cookie, "Set-Cookie: ");
        site_cookie_put(&site->cookie, set->cluster, site->switch_index);
        buf_append_str(&site->cookie, "\r\n");
        for (struct slice left = site->hosts; left.size > 0;) {
            const uint8_t *comma = memchr(left.data, ',', left.size);
            size_t size = comma ? (size_t)(comma - left.data) : left.size;
            set->hosts[set->host_count++] =
                (struct site_host){.name = slice_of(left.data, size), .site = site};
            left = slice_of(left.data + size + (comma != NULL), left.size - size - (comma != NULL));
        }
    }
    if (set->host_count > 0)
        qsort(set->hosts, set->host_count, sizeof set->hosts[0], compare_hosts);
}

/* Without the port, and the dot that may end a name. */
static struct slice host_name(struct slice host) {
    if (host.size > 0 && host.data[0] == '[') {
        const uint8_t *end = memchr(host.data, ']', host.size);
        return end ? slice_of(host.data, (size_t)(end + 1 - host.data)) : host;
    }
    const uint8_t *colon = host.size ? memchr(host.data, ':', host.size) : NULL;
    if (colon)
        host.size = (size_t)(colon - host.data);
    if (host.size > 0 && host.data[host.size - 1] == '.')
        host.size--;
    return host;
}

struct site *site_set_find(const struct site_set *set, struct slice host) {
    uint8_t lower[HOST_BYTES_MAX];
    if (set->host_count == 0)
        return set->fallback;
    host = host_name(host);
    if (host.size == 0 || host.size > sizeof lower)
        return set->fallback;
    for (size_t i = 0; i < host.size; i++)
        lower[i] = (uint8_t)tolower(host.data[i]);
    struct site_host want = {.name = slice_of(lower, host.size)};
    const struct site_host *found =
        bsearch(&want, set->hosts, set->host_count, sizeof want, compare_hosts);
    return found && found->site->shown ? found->site : set->fallback;
}

struct site *site_set_named(const struct site_set *set, struct slice name) {
    for (size_t i = 0; i < set->count; i++)
        if (slice_equal_str(name, set->sites[i].name))
            return &set->sites[i];
    return NULL;
}

struct site_deploy *site_find_other(const struct site *site, uint64_t id) {
    for (size_t i = 0; i < site->other_count; i++)
        if (site->others[i]->id == id)
            return site->others[i];
    return NULL;
}

struct site_deploy *site_set_deploy(const struct site_set *set, uint64_t id) {
    for (size_t i = 0; i < set->count; i++) {
        struct site *site = &set->sites[i];
        if (site->shown && site->shown->id == id)
            return site->shown;
        struct site_deploy *d = site_find_other(site, id);
        if (d)
            return d;
    }
    return NULL;
}
