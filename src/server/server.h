/* A server process in one of its roles: starts the parts, says where they listen, waits for a
 * signal, stops them in order. */
#pragma once
#include "server/options.h"

/* Returns the process's exit code: 0 after a clean stop, 1 when it could not start, 70 when it
 * could not stop cleanly. */
int server_run(const struct server_options *options);
