/* CONFIG: what clients ask at connect and set for their own purposes.
 *
 * The values describe this server in Redis's terms: durable, never evicting. A setting can be
 * changed only where the change is kept (it then shows in CONFIG GET on this process) and nothing
 * that the client may rely on would be promised in vain.
 */
#include <ctype.h>
#include <stdlib.h>

#include "base/glob.h"
#include "base/num.h"
#include "base/reply.h"
#include "gateway/redis_conn.h"
#include "store/store.h"

enum setting_kind {
    SETTING_FIXED, /* cannot be set at all */
    SETTING_SAME,  /* may be set to what it is */
    SETTING_FREE,  /* kept, without effect here */
};

/* Sorted as Redis's documentation names them; "@": made up at the time of asking. */
#define SETTING_TABLE(X)                                                                           \
    X("appendfsync", "always", SETTING_SAME)                                                       \
    X("appendonly", "yes", SETTING_SAME)                                                           \
    X("bind", "127.0.0.1", SETTING_FIXED)                                                          \
    X("client-output-buffer-limit", "", SETTING_FREE)                                              \
    X("cluster-enabled", "no", SETTING_FIXED)                                                      \
    X("databases", "16", SETTING_FIXED)                                                            \
    X("hash-max-listpack-entries", "128", SETTING_FREE)                                            \
    X("hash-max-listpack-value", "64", SETTING_FREE)                                               \
    X("hz", "10", SETTING_FREE)                                                                    \
    X("latency-monitor-threshold", "0", SETTING_FREE)                                              \
    X("list-max-listpack-size", "128", SETTING_FREE)                                               \
    X("loglevel", "notice", SETTING_FREE)                                                          \
    X("lua-time-limit", "5000", SETTING_FREE)                                                      \
    X("maxclients", "@", SETTING_SAME)                                                             \
    X("maxmemory", "0", SETTING_SAME)                                                              \
    X("maxmemory-policy", "noeviction", SETTING_SAME)                                              \
    X("maxmemory-samples", "5", SETTING_FREE)                                                      \
    X("min-replicas-to-write", "0", SETTING_SAME)                                                  \
    X("notify-keyspace-events", "", SETTING_SAME)                                                  \
    X("port", "@", SETTING_FIXED)                                                                  \
    X("proto-max-bulk-len", "@", SETTING_FIXED)                                                    \
    X("requirepass", "", SETTING_FIXED)                                                            \
    X("save", "", SETTING_FREE)                                                                    \
    X("slave-read-only", "no", SETTING_FIXED)                                                      \
    X("replica-read-only", "no", SETTING_FIXED)                                                    \
    X("slowlog-log-slower-than", "10000", SETTING_FREE)                                            \
    X("slowlog-max-len", "128", SETTING_FREE)                                                      \
    X("set-max-intset-entries", "512", SETTING_FREE)                                               \
    X("tcp-keepalive", "300", SETTING_FREE)                                                        \
    X("timeout", "@", SETTING_SAME)                                                                \
    X("zset-max-listpack-entries", "128", SETTING_FREE)                                            \
    X("zset-max-listpack-value", "64", SETTING_FREE)

static const struct {
    const char *name, *value;
    enum setting_kind kind;
} settings[] = {
#define X(name, value, kind) {name, value, kind},
    SETTING_TABLE(X)
#undef X
};
_Static_assert(ARRAY_COUNT(settings) <= GATEWAY_SETTINGS_MAX, "raise GATEWAY_SETTINGS_MAX");

bool redis_glob_match(struct slice pattern, struct slice text) {
    struct buf lower = {0};
    for (size_t i = 0; i < pattern.size; i++)
        buf_append_u8(&lower, (uint8_t)tolower(pattern.data[i]));
    size_t at = lower.size;
    for (size_t i = 0; i < text.size; i++)
        buf_append_u8(&lower, (uint8_t)tolower(text.data[i]));
    bool match = glob_match(slice_of(lower.data, at), slice_of(lower.data + at, text.size));
    buf_fini(&lower);
    return match;
}

static void append_value(struct gateway *gw, size_t i, struct buf *out) {
    const char *name = settings[i].name;
    if (gateway_config_get(gw->shared, i, out))
        return;
    if (strcmp(settings[i].value, "@") != 0)
        buf_append_str(out, settings[i].value);
    else if (strcmp(name, "maxclients") == 0)
        num_append_u64(out, gw->options.connections_max);
    else if (strcmp(name, "port") == 0)
        num_append_u64(out, gw->options.redis_port);
    else if (strcmp(name, "proto-max-bulk-len") == 0)
        num_append_u64(out, gw->options.value_bytes_max);
    else
        num_append_u64(out, gw->options.redis_idle_timeout_ms / 1000);
}

static void config_get(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    bool take[ARRAY_COUNT(settings)] = {false};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(settings); i++) {
        for (size_t a = 2; a < args->count && !take[i]; a++)
            take[i] = redis_glob_match(args->args[a], slice_str(settings[i].name));
        count += take[i];
    }
    struct buf value = {0};
    reply_map(out, count);
    for (size_t i = 0; i < ARRAY_COUNT(settings); i++) {
        if (!take[i])
            continue;
        buf_reset(&value);
        append_value(rc->conn.gw, i, &value);
        reply_bulk_str(out, settings[i].name);
        reply_bulk(out, buf_slice(&value));
    }
    buf_fini(&value);
}

/* Whether one pair may be set; else an error is in `out`. */
static bool check_pair(struct redis_conn *rc, struct slice name, struct slice value,
                       size_t *ret_setting, struct buf *out) {
    size_t i = 0;
    while (i < ARRAY_COUNT(settings) && !slice_equal_nocase(name, settings[i].name))
        i++;
    if (i == ARRAY_COUNT(settings)) {
        reply_error(out, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                    (int)(name.size < 128 ? name.size : 128), (const char *)name.data);
        return false;
    }
    bool ok = settings[i].kind == SETTING_FREE && value.size <= 1024;
    if (settings[i].kind == SETTING_SAME) {
        struct buf now = {0};
        append_value(rc->conn.gw, i, &now);
        ok = slice_equal(buf_slice(&now), value);
        buf_fini(&now);
    }
    if (!ok)
        reply_error(out, "ERR CONFIG SET failed (possibly related to argument '%s') - %s",
                    settings[i].name,
                    settings[i].kind == SETTING_FIXED ? "can't set immutable config"
                    : settings[i].kind == SETTING_SAME
                        ? "this server always works with the value that CONFIG GET shows"
                        : "the value is too long");
    *ret_setting = i;
    return ok;
}

static void config_set(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    size_t setting;
    if (args->count % 2 != 0) {
        reply_error(out, "ERR syntax error");
        return;
    }
    for (size_t a = 2; a < args->count; a += 2)
        if (!check_pair(rc, args->args[a], args->args[a + 1], &setting, out))
            return;
    struct buf ignored = {0};
    for (size_t a = 2; a < args->count; a += 2)
        if (check_pair(rc, args->args[a], args->args[a + 1], &setting, &ignored))
            gateway_config_set(rc->conn.gw->shared, setting, args->args[a + 1]);
    buf_fini(&ignored);
    reply_simple(out, "OK");
}

void redis_config(struct redis_conn *rc, const struct argv *args, struct buf *out) {
    static const char *const help[] = {
        "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET <pattern> [<pattern> ...]",
        "    Settings whose names match, with their values.",
        "SET <name> <value> [<name> <value> ...]",
        "    Accepts what changes nothing here; other settings are options of the command line.",
        "RESETSTAT",
        "    Accepted without effect: counters only grow, as Prometheus expects.",
        "HELP",
        "    This help.",
    };
    if (args->count < 2) {
        redis_error_arity(out, "config", NULL);
        return;
    }
    struct slice sub = args->args[1];
    if (slice_equal_nocase(sub, "GET")) {
        if (args->count < 3)
            redis_error_arity(out, "config", "get");
        else
            config_get(rc, args, out);
    } else if (slice_equal_nocase(sub, "SET")) {
        if (args->count < 4)
            redis_error_arity(out, "config", "set");
        else
            config_set(rc, args, out);
    } else if (slice_equal_nocase(sub, "RESETSTAT")) {
        reply_simple(out, "OK");
    } else if (slice_equal_nocase(sub, "REWRITE")) {
        reply_error(out, "ERR The server is running without a config file");
    } else if (slice_equal_nocase(sub, "HELP")) {
        reply_array(out, ARRAY_COUNT(help));
        for (size_t i = 0; i < ARRAY_COUNT(help); i++)
            reply_simple(out, help[i]);
    } else {
        redis_error_subcommand(out, "CONFIG", sub);
    }
}
