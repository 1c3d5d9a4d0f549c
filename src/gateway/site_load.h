/* The loader: keeps the process's sites (gateway/sites.h) as the database has them.
 *
 *   IDLE --a node tells a newer revision--> LIST --> MANIFESTS (block by block, those that are not
 *     ^                                                |       known yet) --> published
 *     |                                                v
 *     `------------------------------------------ WARM: with a cache on disk, all blocks of what
 *                                                 is shown are fetched into it
 *
 * One gateway of the process loads, on its thread, the first one made; the others take what it
 * publishes. It asks with reads from any copy that has the revision that was told, one at a time
 * (WARM: a few at a time). A newer revision that is told meanwhile is loaded next. When a block is
 * missing (the deploy was dropped meanwhile) or the database gives no answer, it begins again
 * later.
 *
 * With a cache, what was published is kept in it, and is there again after a start without a
 * database.
 */
#pragma once
#include "gateway/gateway.h"

struct site_loader;

/* Claims the process's sites, or returns NULL when another gateway loads them. Takes over what the
 * cache has. */
struct site_loader *site_loader_new(struct gateway *gw);
void site_loader_free(struct site_loader *l); /* NULL is nothing */
/* At each turn's end: begins when there is something to load. */
void site_loader_turn(struct site_loader *l);
/* Whether all that is shown is in the cache (or there is none, and nothing is being loaded). */
bool site_loader_settled(const struct site_loader *l);
