/* Who may do what: the tokens as this gateway thread knows them, who a client is, and what that
 * one may.
 *
 *   HTTP    Authorization: Bearer TOKEN  --+                   +-- route's rule (http_access.c)
 *   Redis   AUTH, HELLO ... AUTH         --+--> struct who ----+-- command's rule
 * (access_command.c) neither: the connection's address    --+                   +-- _access of the
 * site
 *
 * Tokens are records of the database STORE_DB_ACCESS (proto/access_token.h), which no client can
 * choose. Each thread has all of them in memory and reads them anew every ACCESS_POLL_MS, by a
 * linearizable read: a token that was revoked is refused everywhere ACCESS_POLL_MS and the time of
 * a read later. A token that is not known is looked for once before it is refused, so that a new
 * one is taken at once; ACCESS_LOOKUPS_PER_S bounds what strangers can cause by that. A thread that
 * could not read for ACCESS_STALE_MS refuses tokens as unavailable: that is how long a node that is
 * cut off from the others still takes one that they have revoked.
 *
 * SHA-256 is computed when a token is met for the first time; texts that were verified are kept in
 * a small table, and forgotten with every change of the tokens.
 *
 * Looking for a token, or for the first reading of all of them, is a request in the connection's
 * line that answers nothing, behind a barrier; the bytes of the request stay where they are and are
 * parsed again afterwards (access_wait()).
 *
 * A connection without credentials is trusted when it comes from this machine, unless
 * options->require. From elsewhere it is trusted only while no token exists, not even the
 * operator's own, neither `require` nor `on` is set, and no site rules are: that is what --insecure
 * has been told to do. An HTTP request
 * that comes from this machine's address, and on behalf of somebody else (http_access.c), is not
 * trusted for its address.
 *
 * Threads: everything belongs to the gateway's thread; the options are constant.
 */
#pragma once
#include "base/sha256.h"
#include "gateway/conn.h"
#include "proto/access_token.h"
#include "proto/http1.h"
#include "proto/site_access.h"
#include "store/commands.h"

enum {
    ACCESS_POLL_MS = 1000,
    ACCESS_STALE_MS = 30000,
    ACCESS_LOOKUPS_PER_S = 20,
    ACCESS_TOKENS_MAX = 1024,
};

struct access_options {
    bool require;   /* also of clients on this machine */
    bool on;        /* of all others, whether there are tokens or not */
    bool insecure;  /* the network is trusted: as long as nothing else closes it */
    bool has_admin; /* a token of the operator's own, from a file: may everything */
    uint8_t admin[SHA256_BYTES];
    const struct site_access *site;     /* for visitors, where no site brings its own; NULL: none */
    struct client_limits **site_limits; /* of its rules */
    const char *const *cors; /* origins whose pages may ask, "*": all with a token; borrowed */
    size_t cors_count;
};

enum who_kind {
    WHO_NOBODY,      /* credentials that are wrong, revoked or expired */
    WHO_ANONYMOUS,   /* none, and they are needed */
    WHO_TRUSTED,     /* everything */
    WHO_TOKEN,       /* what it says */
    WHO_UNKNOWN,     /* access_wait() first */
    WHO_UNAVAILABLE, /* the tokens cannot be read */
};
/* The token is borrowed until the gateway's loop turns again. */
struct who {
    enum who_kind kind;
    const struct access_token *token;
};

struct access;
/* Borrows the options and the gateway until access_free(). */
struct access *access_new(struct gateway *gw, const struct access_options *options);
void access_free(struct access *a);
/* Several times a second. */
void access_sweep(struct access *a);

/* Whether the client's address is one of this machine. */
bool access_is_here(const struct conn *c);
/* Whether a client without credentials may do nothing, as far as is known. For protocols that know
 * no visitors. */
bool access_needs_login(const struct conn *c);
/* Who a client without credentials is; for_itself: not on behalf of somebody else. */
struct who access_anonymous(struct conn *c, bool for_itself);
/* Who has this text for a token. The id of a known one is in ret_hash (may be NULL). */
struct who access_secret(struct conn *c, struct slice text, uint8_t ret_hash[SHA256_BYTES]);
/* Whether the token with this hash is still one. */
struct who access_hash(struct conn *c, const uint8_t hash[SHA256_BYTES]);
/* The same, as far as is known now. */
bool access_knows(const struct gateway *gw, const uint8_t hash[SHA256_BYTES]);
/* Something that goes on for long, by leave of what was so when it began. `may` says whether it
 * still is, and is asked when it is handed over (the result), and again when the tokens or the
 * sites have changed; when it is not, `ended` is called, once, from inside the upstream's callbacks
 * or the sweep. Zeroed at first; list_remove() of `node` takes it back. */
struct access_hold {
    struct list node;
    bool (*may)(struct access_hold *hold);
    void (*ended)(struct access_hold *hold);
};
bool access_hold(struct gateway *gw, struct access_hold *hold);
/* For WHO_UNKNOWN: reads the tokens; the connection's requests wait. False: they must wait for what
 * is under way first, as behind conn_wait(), which was called. */
void access_wait(struct conn *c);
/* What WHO_UNKNOWN comes to where nothing can be waited for; others as they are. */
struct who access_settle(struct conn *c, struct who who);
/* A request was decided: the next one that needs it is looked for anew. */
void access_decided(struct conn *c);
/* How many there are, as far as is known. */
size_t access_token_count(const struct gateway *gw);
/* Nobody has a token and this client needs none: what it sends and has not even the form of one is
 * passed over, since programs that always send something are to work against such a system. */
bool access_is_open(struct conn *c, bool for_itself);
const struct access_options *access_options_of(const struct gateway *gw);

/* ---- commands (access_command.c) ---- */

enum access_command { COMMAND_MAY, COMMAND_MAY_NOT, COMMAND_KEY_MAY_NOT };
/* argv has passed command_arity_ok(). */
enum access_command access_command(const struct who *who, const struct command *command,
                                   const struct argv *argv);
/* Redis's words for what may not be. */
void access_command_error(struct buf *out, enum access_command verdict, const struct who *who,
                          const struct command *command, const struct argv *argv);
/* Whether the command has keys, or a rule of its own: what has neither is the admin's. For the test
 * that wants every command to have been thought of. */
bool access_command_has_rule(const struct command *command);
