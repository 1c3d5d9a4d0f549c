#include "gateway/metrics.h"

void metrics_sum(struct gateway_metrics *sum, const struct gateway_metrics *other) {
#define METRIC_SUM(name, type, help) sum->name += __atomic_load_n(&other->name, __ATOMIC_RELAXED);
    METRICS(METRIC_SUM)
#undef METRIC_SUM
}

void metrics_append_one(struct buf *out, const char *name, const char *type, const char *help,
                        uint64_t value) {
    buf_printf(out, "# HELP cotidal_%s %s\n# TYPE cotidal_%s %s\ncotidal_%s %llu\n", name, help,
               name, type, name, (unsigned long long)value);
}

void metrics_append(struct buf *out, const struct gateway_metrics *m) {
#define METRIC_APPEND(name, type, help)                                                            \
    metrics_append_one(out, "gateway_" #name, #type, help, m->name);
    METRICS(METRIC_APPEND)
#undef METRIC_APPEND
}
