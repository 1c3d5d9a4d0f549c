/* Planted bugs: PLANTED(x) is false in every normal build. A build with -Dplant=true
 * (COTIDAL_PLANT) lets the simulator and the tests switch one bug on at a time, to show that they
 * would find it (docs/testing.md). */
#pragma once

/* X(NAME, name on the command line, what goes wrong) */
#define PLANTS(X)                                                                                  \
    X(G1_STALE_APPEND, "g1-stale-append", "an AppendEntries of an old term reaches the core")      \
    X(G2_WRITE_ORDER, "g2-write-order", "an overwritten write still counts as persisted")          \
    X(G3_COMMIT_BACK, "g3-commit-back", "the commit index follows the library when it goes back")  \
    X(G4_PRE_VOTE, "g4-pre-vote", "a pre-vote of an old term reaches the core")                    \
    X(G7_IO_ERROR, "g7-io-error", "a failed log write counts as done")                             \
    X(M1_SOLE_VOTER, "m1-sole-voter", "a sole voter does not raise its term at start")             \
    X(M2_REUSED_ID, "m2-reused-id", "a wiped node comes back with its old id")                     \
    X(M3_NO_BARRIER, "m3-no-barrier", "a membership change without an own-term barrier")           \
    X(M4_NO_SETTLE, "m4-no-settle", "a membership change before the last one settled")             \
    X(M5_NO_HOLD, "m5-no-hold", "the promotion to two voters is not held")                         \
    X(M5_NO_VOTE, "m5-no-vote", "a non-voter does not answer votes itself")                        \
    X(M6_ADD_FIRST, "m6-add-first", "a dead voter is replaced by adding first")                    \
    X(M7_SELF_REMOVE, "m7-self-remove", "a leader removes itself")                                 \
    X(M8_NO_SPLIT, "m8-no-split", "membership entries are not delivered one by one")               \
    X(M8_NO_RESTART, "m8-no-restart", "a truncated membership entry does not restart the core")    \
    X(M9_PREV_ZERO, "m9-prev-zero",                                                                \
      "AppendEntries from the log's beginning reach a compacted log")                              \
    X(ACK_BEFORE_FLUSH, "ack-before-flush", "entries count as persisted when the write is queued") \
    X(FORGET_VOTE, "forget-vote", "the vote is not read back at start")                            \
    X(READ_OWN_TERM, "read-own-term", "a leader reads before its own first commit")                \
    X(READ_UNCONFIRMED, "read-unconfirmed", "a leader reads without asking a majority")            \
    X(DIRECT_UNCONFIRMED, "direct-unconfirmed",                                                    \
      "a gateway that reads by itself gets an index that nobody confirmed")                        \
    X(FORGET_REPLY, "forget-reply", "a session's stored reply is dropped")                         \
    X(FORGET_ONCE, "forget-once", "the record of a request with an id of its own is dropped")      \
    X(CHANGES_FLOOR, "changes-floor", "the change log drops changes and does not say so")          \
    X(WATCH_SKIP, "watch-skip", "a poll for watchers that was given up counts as answered")        \
    X(APPLY_TWICE, "apply-twice", "an entry is applied a second time")                             \
    X(LOCAL_CLOCK, "local-clock", "apply takes the time from the local clock")                     \
    X(DIGEST_DELETE, "digest-delete", "a deletion leaves the digest as it was")                    \
    X(TORN_TAIL, "torn-tail", "a torn record at the log's end is accepted")                        \
    X(DAMAGE_IGNORED, "damage-ignored", "what a scrub finds is passed over")                       \
    X(DIFFERENCE_IGNORED, "difference-ignored", "digests of other nodes are not compared")         \
    X(SNAPSHOT_EARLY, "snapshot-early", "an installed snapshot is announced before it is complete")

#define PLANT_ENUM(name, text, help) PLANT_##name,
enum plant { PLANT_NONE, PLANTS(PLANT_ENUM) PLANT_COUNT };
#undef PLANT_ENUM

#ifdef COTIDAL_PLANT
extern enum plant planted;
#define PLANTED(what) (planted == (what))
#else
#define PLANTED(what) 0
#endif

/* "g1-stale-append", "none"; NULL outside the table. */
const char *plant_name(enum plant p);
/* What goes wrong, in a few words. */
const char *plant_help(enum plant p);
/* PLANT_COUNT for an unknown name. */
enum plant plant_parse(const char *name);
