/* Intrusive doubly linked list. The head is a struct list that points to itself when empty; a node
 * that is in no list points to itself too, so list_remove() may be called twice. */
#pragma once
#include <stdbool.h>

#include "base/check.h"

struct list {
    struct list *prev;
    struct list *next;
};

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
/* NOLINTBEGIN(bugprone-macro-parentheses): `it` is declared here, and a name that is declared in
 * parentheses is another warning. */
#define LIST_FOREACH(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* Safe against removal of `it` in the body. */
#define LIST_FOREACH_SAFE(it, head)                                                                \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                      \
         it = it##_next, it##_next = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

static inline void list_init(struct list *l) {
    l->prev = l->next = l;
}
static inline bool list_empty(const struct list *l) {
    return l->next == l;
}
static inline void list_insert_before(struct list *at, struct list *node) {
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}
static inline void list_push_back(struct list *head, struct list *node) {
    list_insert_before(head, node);
}
static inline void list_push_front(struct list *head, struct list *node) {
    list_insert_before(head->next, node);
}
static inline void list_remove(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline struct list *list_first(struct list *head) {
    return list_empty(head) ? NULL : head->next;
}
/* Moves all nodes of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from) {
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
