#include "proto/site_access.h"

#include <stdio.h>

#include "base/num.h"

enum { RATE_MAX = 1000000 };

bool rate_parse(struct slice text, uint32_t *ret_rate, uint32_t *ret_burst) {
    const uint8_t *slash = text.size ? memchr(text.data, '/', text.size) : NULL;
    if (!slash)
        return false;
    struct slice number = slice_of(text.data, (size_t)(slash - text.data));
    struct slice rest = slice_of(slash, text.size - number.size);
    uint64_t rate, burst = 0;
    if (!num_parse_u64(number, &rate) || rate == 0 || rate > RATE_MAX)
        return false;
    if (rest.size > 3 && slice_starts_with(rest, slice_str("/s,"))) {
        if (!num_parse_u64(slice_of(rest.data + 3, rest.size - 3), &burst) || burst == 0 ||
            burst > RATE_MAX)
            return false;
    } else if (!slice_equal_str(rest, "/s")) {
        return false;
    }
    *ret_rate = (uint32_t)rate;
    *ret_burst = (uint32_t)burst;
    return true;
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* Takes the next word off the line; empty at its end. */
static struct slice next_word(struct slice *line) {
    size_t i = 0;
    while (i < line->size && is_blank(line->data[i]))
        i++;
    size_t begin = i;
    while (i < line->size && !is_blank(line->data[i]))
        i++;
    struct slice word = slice_of(line->data + begin, i - begin);
    *line = slice_of(line->data + i, line->size - i);
    return word;
}

static bool take_verb(struct slice word, enum site_verb *ret) {
    static const char *const verbs[] = {"read", "write", "incr", "session"};
    for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
        if (slice_equal_str(word, verbs[i])) {
            *ret = (enum site_verb)i;
            return true;
        }
    }
    return false;
}

/* What is wrong with the line, or NULL. */
static const char *take_rule(struct slice line, struct site_rule *rule) {
    struct slice word = next_word(&line);
    if (!take_verb(word, &rule->verb))
        return "a rule begins with read, write, incr or session";
    while ((word = next_word(&line)).size > 0) {
        if (rule->rate_per_s > 0)
            return "rate= ends a rule";
        if (slice_starts_with(word, slice_str("rate="))) {
            if (!rate_parse(slice_of(word.data + 5, word.size - 5), &rule->rate_per_s,
                            &rule->rate_burst))
                return "rate= takes N/s or N/s,BURST, with numbers from 1 to 1000000";
        } else if (rule->verb == SITE_SESSION) {
            return "session names no keys";
        } else if (!access_list_add(&rule->keys, word)) {
            return "a pattern is a key, or the beginning of keys and a * (no other wildcards), and "
                   "a rule has at most 64";
        }
    }
    if (rule->verb != SITE_SESSION && rule->keys.count == 0)
        return "which keys? name them, or * for all";
    return NULL;
}

static const char *take_line(struct slice line, struct site_access *a, size_t *rates) {
    struct slice rest = line, word = next_word(&rest);
    if (word.size == 0 || word.data[0] == '#')
        return NULL;
    if (a->rule_count == SITE_RULES_MAX)
        return "there are more than 64 rules";
    struct site_rule *rule = &a->rules[a->rule_count++];
    const char *wrong = take_rule(line, rule);
    *rates += rule->rate_per_s > 0;
    if (!wrong && *rates > SITE_RATES_MAX)
        return "more than 16 rules have a rate";
    return wrong;
}

bool site_access_parse(struct slice text, struct site_access *ret,
                       char error[SITE_ACCESS_ERROR_BYTES]) {
    const char *wrong = text.size > SITE_ACCESS_BYTES_MAX ? "the file has more than 64 KiB" : NULL;
    size_t number = 1, rates = 0;
    for (; !wrong && text.size > 0; number++) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        size_t size = end ? (size_t)(end - text.data) : text.size;
        wrong = take_line(slice_of(text.data, size), ret, &rates);
        if (wrong)
            break;
        size += end != NULL;
        text = slice_of(text.data + size, text.size - size);
    }
    if (!wrong)
        return true;
    snprintf(error, SITE_ACCESS_ERROR_BYTES, "line %zu: %s", number, wrong);
    site_access_fini(ret);
    return false;
}

void site_access_fini(struct site_access *a) {
    for (size_t i = 0; i < a->rule_count; i++)
        access_list_fini(&a->rules[i].keys);
    a->rule_count = 0;
}

static const struct site_rule *find(const struct site_access *a, enum site_verb verb,
                                    struct slice text, bool prefix) {
    for (size_t i = 0; i < a->rule_count; i++) {
        const struct site_rule *r = &a->rules[i];
        if (r->verb == verb &&
            (verb == SITE_SESSION || (prefix ? access_list_has_prefix(&r->keys, text)
                                             : access_list_has_key(&r->keys, text))))
            return r;
    }
    return NULL;
}

const struct site_rule *site_access_key(const struct site_access *a, enum site_verb verb,
                                        struct slice key) {
    const struct site_rule *r = find(a, verb, key, false);
    return !r && verb == SITE_INCR ? find(a, SITE_WRITE, key, false) : r;
}

const struct site_rule *site_access_prefix(const struct site_access *a, struct slice prefix) {
    return find(a, SITE_READ, prefix, true);
}

const struct site_rule *site_access_session(const struct site_access *a) {
    return find(a, SITE_SESSION, slice_of(NULL, 0), false);
}
