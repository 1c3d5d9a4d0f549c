#include "base/glob.h"

/* Whether the class that begins at pattern[at] (behind '[') contains c; *ret_next is the position
 * behind the class. */
static bool class_contains(struct slice pattern, size_t at, uint8_t c, size_t *ret_next) {
    const uint8_t *p = pattern.data;
    bool negated = at < pattern.size && p[at] == '^';
    bool found = false;
    if (negated)
        at++;
    while (at < pattern.size && p[at] != ']') {
        size_t left = pattern.size - at;
        if (p[at] == '\\' && left >= 2) {
            found |= p[at + 1] == c;
            at += 2;
        } else if (left >= 3 && p[at + 1] == '-') {
            uint8_t low = p[at] < p[at + 2] ? p[at] : p[at + 2];
            uint8_t high = p[at] < p[at + 2] ? p[at + 2] : p[at];
            found |= c >= low && c <= high;
            at += 3;
        } else {
            found |= p[at] == c;
            at++;
        }
    }
    *ret_next = at < pattern.size ? at + 1 : at;
    return found != negated;
}

/* Whether the one-byte element at pattern[at] (anything but `*`) matches c. */
static bool element_matches(struct slice pattern, size_t at, uint8_t c, size_t *ret_next) {
    const uint8_t *p = pattern.data;
    if (p[at] == '[')
        return class_contains(pattern, at + 1, c, ret_next);
    if (p[at] == '\\' && pattern.size - at >= 2)
        at++;
    else if (p[at] == '?')
        c = '?';
    *ret_next = at + 1;
    return p[at] == c;
}

bool glob_match(struct slice pattern, struct slice text) {
    size_t p = 0, t = 0;
    size_t star = SIZE_MAX; /* behind the last `*`; SIZE_MAX: none yet */
    size_t star_text = 0;   /* where the text that follows its run begins */
    while (t < text.size) {
        size_t next;
        if (p < pattern.size && pattern.data[p] == '*') {
            star = ++p;
            star_text = t;
            if (star == pattern.size)
                return true;
        } else if (p < pattern.size && element_matches(pattern, p, text.data[t], &next)) {
            p = next;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '*')
        p++;
    return p == pattern.size;
}

struct slice glob_literal_prefix(struct slice pattern) {
    static const char special[] = {'*', '?', '[', '\\'};
    size_t n = 0;
    while (n < pattern.size && !memchr(special, pattern.data[n], sizeof special))
        n++;
    return slice_of(pattern.data, n);
}
