/* Joining a running system: asks its leader, through any of its nodes, for an id (ENGINE rule M2: a
 * fresh one for every join) and for membership. */
#pragma once
#include "net/tls_peer.h"
#include "replica/identity.h"

/* Asks until it is taken or a minute is over. nodes: "host:port,..."; peer_address: what the others
 * will reach us at; tls: NULL for plain connections. False: the reason was said on stderr. */
bool join_cluster(const char *nodes, const char *peer_address, struct tls_peer *tls,
                  struct identity *ret_id);

/* Splits "a,b,c" into an array of strings (count 0: none or an empty element); the array is one
 * allocation. */
const char **split_list(const char *list, size_t *ret_count);
