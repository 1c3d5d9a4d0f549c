/* What the options say about who may do what (gateway/access.h). Made once at the start, the same
 * for all gateway threads, ended behind them. */
#pragma once
#include "gateway/access.h"
#include "server/options.h"

struct access_setup {
    struct access_options options;
    struct site_access site;
};

/* False: an option makes no sense, or a file cannot be read; stderr says which. */
bool access_setup_init(struct access_setup *a, const struct server_options *o);
void access_setup_fini(struct access_setup *a);
