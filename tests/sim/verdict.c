#include "verdict.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/num.h"
#include "linear.h"

enum family { FAMILY_COUNTER, FAMILY_TEXT, FAMILY_REGISTER };
enum outcome { OK, NO, UNKNOWN };

/* X(kind, name, family, words before the answer, words of the answer) */
#define KINDS(X)                                                                                   \
    X(INCR, "incr", FAMILY_COUNTER, 0, 1)                                                          \
    X(COUNT, "count", FAMILY_COUNTER, 0, 1)                                                        \
    X(APPEND, "append", FAMILY_TEXT, 1, 1)                                                         \
    X(TEXT, "text", FAMILY_TEXT, 0, 2)                                                             \
    X(READ, "read", FAMILY_REGISTER, 0, 1)                                                         \
    X(WRITE, "write", FAMILY_REGISTER, 1, 0)                                                       \
    X(CAS, "cas", FAMILY_REGISTER, 2, 1)
enum kind {
#define X(kind, name, family, before, answer) KIND_##kind,
    KINDS(X)
#undef X
};
static const struct {
    const char *name;
    enum family family;
    int before, answer;
} kinds[] = {
#define X(kind, name, family, before, answer) {name, family, before, answer},
    KINDS(X)
#undef X
};

struct op {
    uint64_t client, start, end; /* end: UINT64_MAX unless ok */
    size_t line;                 /* from 1 */
    struct slice key;
    struct slice text; /* APPEND: the id; TEXT: what was read */
    uint64_t value;    /* the new value, or the answer that is a number (CAS: whether it took) */
    uint64_t old, new; /* WRITE, CAS */
    uint64_t position; /* APPEND: where it ends in the text; 0: nowhere */
    uint8_t kind, outcome;
};
/* An operation's place in the order that the answers claim. */
struct point {
    uint64_t position;
    const struct op *op;
};
struct judge {
    FILE *out;
    struct verdict *verdict;
    struct op *ops; /* by key, then line */
    size_t count, capacity;
};

static void raise_result(struct judge *j, enum verdict_result result) {
    static const uint8_t rank[] = {
        [VERDICT_GOOD] = 0, [VERDICT_UNDECIDED] = 1, [VERDICT_BAD] = 2, [VERDICT_MALFORMED] = 3};
    if (rank[result] > rank[j->verdict->result])
        j->verdict->result = result;
}

/* Always false, for callers that end with it. */
static bool say(struct judge *j, enum verdict_result result, struct slice key, const char *format,
                ...) PRINTF_LIKE(4, 5);
static bool say(struct judge *j, enum verdict_result result, struct slice key, const char *format,
                ...) {
    va_list args;
    raise_result(j, result);
    if (key.size)
        fprintf(j->out, "%.*s: ", (int)key.size, (const char *)key.data);
    va_start(args, format);
    vfprintf(j->out, format, args);
    va_end(args);
    fputc('\n', j->out);
    return false;
}

/* ---- the text ---- */

/* The next field, up to a space or the end; false: there is none. */
static bool next_word(struct slice *line, struct slice *ret_word) {
    if (line->size == 0)
        return false;
    const uint8_t *space = memchr(line->data, ' ', line->size);
    size_t size = space ? (size_t)(space - line->data) : line->size;
    *ret_word = slice_of(line->data, size);
    size_t skip = size + (space != NULL);
    *line = slice_of(line->data + skip, line->size - skip);
    return true;
}

static bool next_number(struct slice *line, uint64_t *ret_number) {
    struct slice word;
    return next_word(line, &word) && num_parse_u64(word, ret_number);
}

static bool parse_kind(struct slice word, uint8_t *ret_kind) {
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
        if (slice_equal_str(word, kinds[i].name)) {
            *ret_kind = (uint8_t)i;
            return true;
        }
    return false;
}

static bool parse_outcome(struct slice word, uint8_t *ret_outcome) {
    static const char *const names[] = {"ok", "no", "unknown"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (slice_equal_str(word, names[i])) {
            *ret_outcome = (uint8_t)i;
            return true;
        }
    return false;
}

static bool parse_arguments(struct slice *line, struct op *op) {
    bool ok = op->outcome == OK;
    switch ((enum kind)op->kind) {
    case KIND_INCR:
        return !ok || (next_number(line, &op->value) && op->value > 0);
    case KIND_COUNT:
    case KIND_READ:
        return !ok || next_number(line, &op->value);
    case KIND_APPEND:
        return next_word(line, &op->text) && op->text.size > 1 &&
               memchr(op->text.data, ';', op->text.size) == op->text.data + op->text.size - 1 &&
               (!ok || next_number(line, &op->value));
    case KIND_TEXT:
        if (!ok)
            return true;
        if (!next_number(line, &op->value))
            return false;
        (void)next_word(line, &op->text);
        return op->text.size == op->value;
    case KIND_WRITE:
        return next_number(line, &op->new) && op->new > 0;
    case KIND_CAS:
        return next_number(line, &op->old) && next_number(line, &op->new) && op->new > 0 &&
               (!ok || (next_number(line, &op->value) && op->value <= 1));
    }
    return false;
}

static bool parse_line(struct slice line, struct op *op) {
    struct slice outcome, kind;
    if (!next_number(&line, &op->client) || !next_number(&line, &op->start) ||
        !next_number(&line, &op->end) || !next_word(&line, &outcome) || !next_word(&line, &kind) ||
        !next_word(&line, &op->key) || !parse_outcome(outcome, &op->outcome) ||
        !parse_kind(kind, &op->kind) || op->key.size == 0 || op->start > op->end)
        return false;
    if (op->outcome != OK)
        op->end = UINT64_MAX;
    return parse_arguments(&line, op) && line.size == 0;
}

static void count_op(struct judge *j, const struct op *op) {
    struct verdict *v = j->verdict;
    v->operations++;
    size_t *counts[] = {&v->ok, &v->no, &v->unknown};
    ++*counts[op->outcome];
}

static bool parse(struct judge *j, struct slice text) {
    for (size_t number = 1; text.size > 0; number++) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        if (!end)
            return say(j, VERDICT_MALFORMED, slice_of(NULL, 0), "line %zu does not end", number);
        struct slice line = slice_of(text.data, (size_t)(end - text.data));
        text = slice_of(end + 1, text.size - line.size - 1);
        if (line.size > 0 && line.data[0] == '#')
            continue;
        if (j->count == j->capacity) {
            j->capacity = j->capacity ? j->capacity * 2 : 1024;
            j->ops = xrealloc(j->ops, j->capacity * sizeof *j->ops);
        }
        struct op *op = &j->ops[j->count++];
        *op = (struct op){.line = number};
        if (!parse_line(line, op))
            return say(j, VERDICT_MALFORMED, slice_of(NULL, 0), "line %zu is not an operation",
                       number);
        count_op(j, op);
    }
    return true;
}

/* ---- what all orders have to keep ---- */

static int compare_numbers(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int compare_points(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    if (x->position != y->position)
        return x->position > y->position ? 1 : -1;
    return (x->op->line > y->op->line) - (x->op->line < y->op->line);
}

/* Nothing may come before what had ended when it began. Points at one position are readings of
 * one state, in any order. `points` is sorted. */
static bool order_keeps_time(struct judge *j, struct slice key, const struct point *points,
                             size_t count) {
    const struct op *first_end = NULL; /* of all behind the present position */
    for (size_t i = count; i > 0;) {
        size_t begin = i;
        while (begin > 0 && points[begin - 1].position == points[i - 1].position)
            begin--;
        for (size_t k = begin; k < i; k++)
            if (first_end && first_end->end < points[k].op->start)
                return say(j, VERDICT_BAD, key,
                           "line %zu comes before line %zu, which had ended when it began",
                           points[k].op->line, first_end->line);
        for (size_t k = begin; k < i; k++)
            if (!first_end || points[k].op->end < first_end->end)
                first_end = points[k].op;
        i = begin;
    }
    return true;
}

/* ---- counters ---- */

/* Each value that was not answered must belong to an unknown increment that began before any later
 * value was seen: the k-th to the k-th, which fits when any assignment does. */
static bool gaps_explained(struct judge *j, struct slice key, const struct point *points,
                           size_t count, uint64_t *starts, size_t unknown) {
    uint64_t *deadlines = xcalloc(count + 1, sizeof *deadlines);
    uint64_t soonest = UINT64_MAX;
    for (size_t i = count; i > 0; i--) {
        if (points[i - 1].op->end < soonest)
            soonest = points[i - 1].op->end;
        deadlines[i - 1] = soonest;
    }
    qsort(starts, unknown, sizeof *starts, compare_numbers);
    uint64_t value = 0; /* up to this one all are accounted for */
    size_t used = 0;
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        uint64_t up_to = points[i].position / 2 - (points[i].position % 2 == 0);
        if (up_to > value && up_to - value > unknown - used)
            good = say(j, VERDICT_BAD, key, "line %zu has value %llu: more than was added",
                       points[i].op->line, (unsigned long long)points[i].op->value);
        for (; good && value < up_to; value++)
            if (starts[used++] > deadlines[i])
                good = say(j, VERDICT_BAD, key, "value %llu was added by nobody",
                           (unsigned long long)value + 1);
        if (points[i].position % 2 == 0)
            value = points[i].position / 2;
    }
    free(deadlines);
    return good;
}

static void judge_counter(struct judge *j, const struct op *ops, size_t count) {
    struct slice key = ops[0].key;
    struct point *points = xcalloc(count, sizeof *points);
    uint64_t *starts = xcalloc(count, sizeof *starts);
    size_t known = 0, unknown = 0;
    for (size_t i = 0; i < count; i++) {
        bool incr = ops[i].kind == KIND_INCR;
        if (ops[i].outcome == OK)
            points[known++] = (struct point){2 * ops[i].value + !incr, &ops[i]};
        else if (incr && ops[i].outcome == UNKNOWN)
            starts[unknown++] = ops[i].start;
    }
    qsort(points, known, sizeof *points, compare_points);
    bool good = true;
    for (size_t i = 1; good && i < known; i++)
        if (points[i].position == points[i - 1].position && points[i].position % 2 == 0)
            good = say(j, VERDICT_BAD, key, "line %zu and line %zu were both answered %llu",
                       points[i - 1].op->line, points[i].op->line,
                       (unsigned long long)points[i].op->value);
    if (good && order_keeps_time(j, key, points, known))
        (void)gaps_explained(j, key, points, known, starts, unknown);
    free(points);
    free(starts);
}

/* ---- texts ---- */

static int compare_ids(const void *a, const void *b) {
    const struct op *x = *(struct op *const *)a, *y = *(struct op *const *)b;
    int c = slice_compare(x->text, y->text);
    return c ? c : (x->line > y->line) - (x->line < y->line);
}

static int compare_clients(const void *a, const void *b) {
    const struct op *x = *(struct op *const *)a, *y = *(struct op *const *)b;
    if (x->client != y->client)
        return x->client > y->client ? 1 : -1;
    return (x->line > y->line) - (x->line < y->line);
}

static struct op *find_id(struct op **appends, size_t count, struct slice id) {
    struct op wanted = {.text = id};
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (slice_compare(appends[middle]->text, wanted.text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && slice_equal(appends[low]->text, id) ? appends[low] : NULL;
}

/* Gives each append its position in the longest reading. `appends` is sorted by id. */
static bool place_ids(struct judge *j, struct slice key, struct slice text, struct op **appends,
                      size_t count) {
    for (size_t i = 1; i < count; i++)
        if (slice_equal(appends[i - 1]->text, appends[i]->text))
            return say(j, VERDICT_MALFORMED, key, "line %zu and line %zu append the same",
                       appends[i - 1]->line, appends[i]->line);
    for (size_t at = 0; at < text.size;) {
        const uint8_t *end = memchr(text.data + at, ';', text.size - at);
        size_t size = end ? (size_t)(end - text.data) + 1 - at : text.size - at;
        struct slice id = slice_of(text.data + at, size);
        struct op *op = find_id(appends, count, id);
        at += size;
        const char *problem = !op                                    ? "which nobody appended"
                              : op->position                         ? "twice"
                              : op->outcome == NO                    ? "which was refused"
                              : op->outcome == OK && op->value != at ? "at another length"
                                                                     : NULL;
        if (problem)
            return say(j, VERDICT_BAD, key, "it holds \"%.*s\" up to length %zu, %s",
                       (int)(size < 64 ? size : 64), (const char *)id.data, at, problem);
        op->position = at;
    }
    return true;
}

static bool clients_in_order(struct judge *j, struct slice key, struct op **appends, size_t count) {
    const struct op *last = NULL;
    qsort(appends, count, sizeof(struct op *), compare_clients);
    for (size_t i = 0; i < count; i++) {
        const struct op *op = appends[i];
        if (!op->position)
            continue;
        if (last && last->client == op->client && last->position > op->position)
            return say(j, VERDICT_BAD, key, "line %zu overtook line %zu of the same client",
                       op->line, last->line);
        last = op;
    }
    return true;
}

static bool text_order(struct judge *j, struct slice text, struct op *ops, size_t count) {
    struct slice key = ops[0].key;
    struct point *points = xcalloc(count, sizeof *points);
    size_t known = 0;
    uint64_t last_read = 0;
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        const struct op *op = &ops[i];
        if (op->kind == KIND_APPEND && op->position) {
            points[known++] = (struct point){2 * op->position, op};
        } else if (op->kind == KIND_TEXT && op->outcome == OK) {
            bool whole = op->text.size == 0 || op->text.data[op->text.size - 1] == ';';
            if (!whole || !slice_starts_with(text, op->text))
                good =
                    say(j, VERDICT_BAD, key, "line %zu read what is not its beginning", op->line);
            points[known++] = (struct point){2 * op->value + 1, op};
            last_read = op->start > last_read ? op->start : last_read;
        }
    }
    for (size_t i = 0; good && i < count; i++)
        if (ops[i].kind == KIND_APPEND && ops[i].outcome == OK && !ops[i].position &&
            ops[i].end < last_read)
            good = say(j, VERDICT_BAD, key, "line %zu was answered and is not there", ops[i].line);
    qsort(points, known, sizeof *points, compare_points);
    good = good && order_keeps_time(j, key, points, known);
    free(points);
    return good;
}

static void judge_text(struct judge *j, struct op *ops, size_t count) {
    struct op **appends = xcalloc(count, sizeof(struct op *));
    size_t append_count = 0;
    struct slice text = {0};
    bool read = false;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].kind == KIND_APPEND)
            appends[append_count++] = &ops[i];
        else if (ops[i].outcome == OK && (!read || ops[i].text.size > text.size)) {
            text = ops[i].text;
            read = true;
        }
    }
    qsort(appends, append_count, sizeof(struct op *), compare_ids);
    if (!read)
        (void)say(j, VERDICT_MALFORMED, ops[0].key, "it was never read");
    else if (place_ids(j, ops[0].key, text, appends, append_count) &&
             text_order(j, text, ops, count))
        (void)clients_in_order(j, ops[0].key, appends, append_count);
    free(appends);
}

/* ---- registers ---- */

struct event {
    uint64_t time;
    int op;
    bool end;
};

static int compare_events(const void *a, const void *b) {
    const struct event *x = a, *y = b;
    if (x->time != y->time)
        return x->time > y->time ? 1 : -1;
    /* What begins when another ends may have been first. */
    if (x->end != y->end)
        return x->end ? 1 : -1;
    return x->op - y->op;
}

static void judge_register(struct judge *j, const struct op *ops, size_t count) {
    static const enum history_kind as[] = {
        [KIND_READ] = HISTORY_READ, [KIND_WRITE] = HISTORY_WRITE, [KIND_CAS] = HISTORY_CAS};
    struct history h = {0};
    struct event events[2 * HISTORY_MAX];
    int event_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct op *op = &ops[i];
        if (op->outcome == NO || (op->outcome == UNKNOWN && op->kind == KIND_READ))
            continue;
        if (history_full(&h)) {
            (void)say(j, VERDICT_MALFORMED, op->key, "more than %d operations", (int)HISTORY_MAX);
            return;
        }
        h.ops[h.count] = (struct history_op){.kind = as[op->kind],
                                             .value = op->new,
                                             .old = op->old,
                                             .answer = op->value,
                                             .back = UINT64_MAX};
        events[event_count++] = (struct event){op->start, h.count, false};
        if (op->outcome == OK)
            events[event_count++] = (struct event){op->end, h.count, true};
        h.count++;
    }
    qsort(events, (size_t)event_count, sizeof *events, compare_events);
    for (int i = 0; i < event_count; i++) {
        struct history_op *op = &h.ops[events[i].op];
        *(events[i].end ? &op->back : &op->call) = ++h.clock;
    }
    enum history_verdict v = history_search(&h, VERDICT_CONFIGURATIONS);
    if (v == HISTORY_WRONG)
        (void)say(j, VERDICT_BAD, ops[0].key, "no order explains its %d operations", h.count);
    else if (v == HISTORY_UNDECIDED)
        (void)say(j, VERDICT_UNDECIDED, ops[0].key, "its %d operations have too many orders",
                  h.count);
}

/* ---- all of it ---- */

static int compare_keys(const void *a, const void *b) {
    const struct op *x = a, *y = b;
    int c = slice_compare(x->key, y->key);
    return c ? c : (x->line > y->line) - (x->line < y->line);
}

static void judge_key(struct judge *j, struct op *ops, size_t count) {
    enum family family = kinds[ops[0].kind].family;
    for (size_t i = 1; i < count; i++)
        if (kinds[ops[i].kind].family != family) {
            (void)say(j, VERDICT_MALFORMED, ops[0].key, "line %zu takes it for something else",
                      ops[i].line);
            return;
        }
    switch (family) {
    case FAMILY_COUNTER:
        j->verdict->counters++;
        judge_counter(j, ops, count);
        break;
    case FAMILY_TEXT:
        j->verdict->texts++;
        judge_text(j, ops, count);
        break;
    case FAMILY_REGISTER:
        j->verdict->registers++;
        judge_register(j, ops, count);
        break;
    }
}

void verdict_judge(struct slice history, FILE *out, struct verdict *ret) {
    struct judge j = {.out = out, .verdict = ret};
    *ret = (struct verdict){.result = VERDICT_GOOD};
    if (parse(&j, history) && j.count > 0) {
        qsort(j.ops, j.count, sizeof *j.ops, compare_keys);
        for (size_t begin = 0, end; begin < j.count; begin = end) {
            for (end = begin + 1; end < j.count && slice_equal(j.ops[end].key, j.ops[begin].key);)
                end++;
            judge_key(&j, j.ops + begin, end - begin);
        }
    }
    free(j.ops);
}
