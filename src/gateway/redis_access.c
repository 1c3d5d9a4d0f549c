/* Users of the Redis protocol: the tokens, by AUTH and HELLO.
 *
 *   AUTH TOKEN    AUTH default TOKEN    AUTH name TOKEN
 *
 * A connection that has not logged in is what its address makes it (access.h); one that has is
 * asked for with every command, so that a token that was revoked ends what it let in.
 */
#include "base/reply.h"
#include "gateway/redis_conn.h"

struct who redis_who(struct redis_conn *rc) {
    if (!rc->authenticated)
        return access_anonymous(&rc->conn, true);
    struct who who = access_hash(&rc->conn, rc->token);
    if (who.kind ==
        WHO_NOBODY) /* revoked or expired; what the address alone may is not given back */
        who.kind = WHO_ANONYMOUS;
    return who;
}

bool redis_is_stranger(const struct redis_conn *rc) {
    return rc->conn.gw->access && !rc->authenticated && access_needs_login(&rc->conn);
}

/* The names that the token's user goes by. */
static bool is_user(const struct who *who, const struct slice *user) {
    if (!user || slice_equal_str(*user, "default"))
        return true;
    return who->token ? slice_equal_str(*user, who->token->name) : slice_equal_str(*user, "admin");
}

enum who_kind redis_log_in(struct redis_conn *rc, const struct slice *user, struct slice password) {
    uint8_t hash[SHA256_BYTES];
    struct gateway *gw = rc->conn.gw;
    struct who who = {.kind = WHO_NOBODY};
    if (gw->access)
        who = access_secret(&rc->conn, password, hash);
    if (who.kind == WHO_TOKEN || who.kind == WHO_TRUSTED) {
        if (!is_user(&who, user))
            return WHO_NOBODY;
        rc->authenticated = true;
        memcpy(rc->token, hash, sizeof hash);
        return who.kind;
    }
    /* Where nobody has a token and none is needed: as a Redis without a password. */
    bool open = !rc->authenticated && !access_text_ok(password) && access_is_open(&rc->conn, true);
    if (who.kind == WHO_NOBODY && open)
        return !user ? WHO_ANONYMOUS : slice_equal_str(*user, "default") ? WHO_TRUSTED : WHO_NOBODY;
    return who.kind;
}

void redis_log_in_error(struct buf *out, enum who_kind kind) {
    if (kind == WHO_UNAVAILABLE || kind == WHO_UNKNOWN)
        reply_error(out, "UNAVAILABLE the tokens cannot be read; applied: no");
    else
        reply_error(out, "WRONGPASS invalid username-password pair or user is disabled.");
}

bool redis_may(struct redis_conn *rc, const struct command *cmd, const struct argv *args,
               struct buf *out, bool *ret_wait) {
    *ret_wait = false;
    if (cmd->flags & CMD_NO_AUTH)
        return true;
    struct who who = redis_who(rc);
    if (who.kind == WHO_TRUSTED)
        return true;
    if (who.kind == WHO_UNKNOWN) {
        *ret_wait = true;
        return false;
    }
    access_decided(&rc->conn);
    if (who.kind != WHO_TOKEN) {
        if (who.kind == WHO_UNAVAILABLE)
            reply_error(out, "UNAVAILABLE the tokens cannot be read; applied: no");
        else
            reply_error(out, "NOAUTH Authentication required.");
        return false;
    }
    enum access_command verdict = access_command(&who, cmd, args);
    if (verdict != COMMAND_MAY)
        access_command_error(out, verdict, &who, cmd, args);
    return verdict == COMMAND_MAY;
}
