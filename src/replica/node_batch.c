/* Batches: what gateways ask for, gathered into entries, and when those are proposed. */
#include <stdlib.h>

#include "replica/node_internal.h"

static void batch_seal(struct node *n) {
    if (n->batch_groups == 0)
        return;
    struct sealed_batch *b = xcalloc(1, sizeof *b);
    b->entry = n->batch;
    b->commands = n->batch_commands;
    n->sealed_bytes += b->entry.size;
    n->batch = (struct buf){0};
    n->batch_groups = n->batch_commands = 0;
    list_push_back(&n->sealed, &b->node);
}

void node_batch_add(struct node *n, struct slice group, uint32_t commands) {
    if (n->batch_groups > 0 && (n->batch.size + group.size > NODE_ENTRY_BYTES ||
                                n->batch_commands + commands > NODE_ENTRY_COMMANDS))
        batch_seal(n);
    if (n->batch_groups == 0) {
        buf_reset(&n->batch);
        entry_begin(&n->batch, 0, 0); /* stamped when it is proposed */
    }
    struct entry_group parsed;
    struct slice in = group;
    CHECK(entry_next_group(&in, &parsed));
    entry_append_group(&n->batch, &parsed);
    n->batch_groups++;
    n->batch_commands += commands;
}

static void refuse_entry(struct node *n, struct slice entry) {
    struct entry_header header;
    struct entry_group group;
    CHECK(entry_next_header(&entry, &header));
    while (entry.size > 0 && entry_next_group(&entry, &group)) {
        struct node_link *l = node_link_of_session(n, &group.session);
        if (l)
            link_refuse_commands(l, group.commands);
    }
}

/* What was gathered but not proposed is refused: its senders ask the next leader. What was proposed
 * may yet be committed, by whoever leads next, or be overwritten: its links end, so that nothing
 * that is still on its way here can overtake it when we lead again. */
void node_leadership_lost(struct node *n) {
    node_joins_fail(n, NULL);
    n->gather = (struct gather){0};
    batch_seal(n);
    LIST_FOREACH_SAFE (it, &n->sealed) {
        struct sealed_batch *b = LIST_ENTRY(it, struct sealed_batch, node);
        list_remove(&b->node);
        n->sealed_bytes -= b->entry.size;
        refuse_entry(n, buf_slice(&b->entry));
        buf_fini(&b->entry);
        free(b);
    }
    node_flush_links(n);
    LIST_FOREACH_SAFE (it, &n->links) {
        struct node_link *l = LIST_ENTRY(it, struct node_link, node);
        if (l->wrote)
            link_end(l);
    }
}

static uint32_t writes_pending(const struct node *n) {
    uint32_t count = 0;
    for (const struct list *it = n->writes.next; it != &n->writes; it = it->next)
        count++;
    return count;
}

static uint64_t uncommitted_bytes(const struct node *n) {
    uint64_t bytes = 0;
    for (uint64_t i = n->memlog.last_index; i > n->commit_index && i >= n->memlog.first_index; i--)
        bytes += memlog_get(&n->memlog, i)->body.size;
    return bytes;
}

/* Worth an entry of its own while others are under way. */
static bool batch_is_large(const struct node *n) {
    return !list_empty(&n->sealed) || n->batch.size >= NODE_BATCH_BYTES ||
           n->batch_commands >= NODE_BATCH_COMMANDS;
}

/* An idle server proposes at once; a busy one gathers what comes until the entry before is
 * committed, and until those it answered have come again (base/gather.h): each entry costs every
 * node a flush, messages and a transaction, which many commands then share. What is large does not
 * wait, so that disks, networks and processors work at the same time. Who hands leadership over, or
 * stops, still proposes what it has taken. */
static bool may_propose(struct node *n) {
    return node_is_leader(n) && !n->restart_wanted && !n->handover_sent &&
           (n->memlog.last_index <= n->commit_index || batch_is_large(n)) &&
           writes_pending(n) < NODE_WRITES_PENDING &&
           n->memlog.last_index - n->commit_index < n->o.entries_inflight &&
           uncommitted_bytes(n) < NODE_UNCOMMITTED_BYTES &&
           (batch_is_large(n) || gather_ready(&n->gather, node_now(n), n->batch_commands));
}

static void stamp_entry(struct node *n, struct buf *entry) {
    put_u64le(entry->data + 8, node_leader_time(n));
    put_u64le(entry->data + 16, rand_u64(&n->rand));
}

void node_propose_batches(struct node *n) {
    if (n->gather.sent > 0 && n->memlog.last_index <= n->commit_index)
        gather_answered(&n->gather, node_now(n), n->batch_commands);
    while (may_propose(n)) {
        if (list_empty(&n->sealed))
            batch_seal(n);
        struct list *first = list_first(&n->sealed);
        if (!first)
            return;
        struct sealed_batch *b = LIST_ENTRY(first, struct sealed_batch, node);
        list_remove(&b->node);
        n->sealed_bytes -= b->entry.size;
        stamp_entry(n, &b->entry);
        n->entries_proposed++;
        gather_sent(&n->gather, b->commands);
        if (!node_propose(n, CORE_COMMAND, buf_slice(&b->entry)) && n->state != NODE_FAILED)
            refuse_entry(n, buf_slice(&b->entry));
        buf_fini(&b->entry);
        free(b);
    }
}

void node_propose_own(struct node *n, uint64_t tag, struct slice packed_argv) {
    struct buf commands = {0};
    entry_append_command(&commands, tag, 0, packed_argv);
    struct entry_group group = {.command_count = 1, .commands = buf_slice(&commands)};
    if (n->batch_commands >= NODE_ENTRY_COMMANDS)
        batch_seal(n);
    if (n->batch_groups == 0) {
        buf_reset(&n->batch);
        entry_begin(&n->batch, 0, 0);
    }
    entry_append_group(&n->batch, &group);
    n->batch_groups++;
    n->batch_commands++;
    buf_fini(&commands);
}
