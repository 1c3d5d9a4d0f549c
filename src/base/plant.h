/* Planted bugs: PLANTED(x) is false in every normal build. A build with -DCOTIDAL_PLANT lets the simulator
 * switch one bug on at a time, to show that it would find it (docs/testing.md). */
#pragma once

enum plant {
    PLANT_NONE,
    PLANT_G1_STALE_APPEND,     /* an AppendEntries of an old term reaches the core */
    PLANT_G2_WRITE_ORDER,      /* an overwritten write still counts as persisted */
    PLANT_G3_COMMIT_BACK,      /* the commit index follows the library when it goes back */
    PLANT_G4_PRE_VOTE,         /* a pre-vote of an old term reaches the core */
    PLANT_G7_IO_ERROR,         /* a failed log write counts as done */
    PLANT_M1_SOLE_VOTER,       /* a sole voter does not raise its term at start */
    PLANT_M2_REUSED_ID,        /* a wiped node comes back with its old id */
    PLANT_M3_NO_BARRIER,       /* a membership change without an own-term barrier */
    PLANT_M4_NO_SETTLE,        /* a membership change before the last one settled */
    PLANT_M5_NO_HOLD,          /* the promotion to two voters is not held */
    PLANT_M5_NO_VOTE,          /* a non-voter does not answer votes itself */
    PLANT_M6_ADD_FIRST,        /* a dead voter is replaced by adding first */
    PLANT_M7_SELF_REMOVE,      /* a leader removes itself */
    PLANT_M8_NO_SPLIT,         /* membership entries are not delivered one by one */
    PLANT_M8_NO_RESTART,       /* a truncated membership entry does not restart the core */
    PLANT_M9_PREV_ZERO,        /* AppendEntries from the log's beginning reach a compacted log */
    PLANT_ACK_BEFORE_FLUSH,    /* entries count as persisted when the write is queued */
    PLANT_FORGET_VOTE,         /* the vote is not read back at start */
    PLANT_READ_OWN_TERM,       /* a leader reads before its own first commit */
    PLANT_READ_UNCONFIRMED,    /* a leader reads without asking a majority */
    PLANT_FORGET_REPLY,        /* a session's stored reply is dropped */
    PLANT_APPLY_TWICE,         /* an entry is applied a second time */
    PLANT_LOCAL_CLOCK,         /* apply takes the time from the local clock */
    PLANT_DIGEST_DELETE,       /* a deletion leaves the digest as it was */
    PLANT_TORN_TAIL,           /* a torn record at the log's end is accepted */
    PLANT_SNAPSHOT_EARLY,      /* an installed snapshot is announced before it is complete */
    PLANT_COUNT,
};

#ifdef COTIDAL_PLANT
extern enum plant planted;
#define PLANTED(what) (planted == (what))
#else
#define PLANTED(what) 0
#endif
