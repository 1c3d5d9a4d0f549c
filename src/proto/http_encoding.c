#include "proto/http_encoding.h"

#include "proto/http_list.h"

enum { UNNAMED = -2 };

/* Weights in thousandths; UNNAMED where the client says nothing. */
struct accepted {
    int weights[HTTP_ENCODING_COUNT];
    int any; /* of "*" */
};

static const struct accepted nothing_said = {{UNNAMED, UNNAMED, UNNAMED}, UNNAMED};

static void raise_to(int *weight, int to) {
    if (to > *weight)
        *weight = to;
}

static void read_list(struct accepted *a, struct slice list) {
    struct slice item;
    int weight;
    while (http_list_next(&list, &item, &weight)) {
        if (weight == HTTP_WEIGHT_BAD)
            continue;
        if (slice_equal_str(item, "*"))
            raise_to(&a->any, weight);
        else if (slice_equal_nocase(item, "gzip") || slice_equal_nocase(item, "x-gzip"))
            raise_to(&a->weights[HTTP_ENCODING_GZIP], weight);
        else if (slice_equal_nocase(item, "br"))
            raise_to(&a->weights[HTTP_ENCODING_BR], weight);
        else if (slice_equal_nocase(item, "identity"))
            raise_to(&a->weights[HTTP_ENCODING_IDENTITY], weight);
    }
}

static int choose(const struct accepted *a, unsigned available) {
    int best = -1;
    int best_weight = 0;
    for (int e = HTTP_ENCODING_IDENTITY; e < HTTP_ENCODING_COUNT; e++) {
        if (!(available & 1u << e))
            continue;
        /* Doubled, so that identity that is not named has a place between none and the least. */
        int weight = a->weights[e] != UNNAMED ? a->weights[e] : a->any;
        if (weight == UNNAMED)
            weight = e == HTTP_ENCODING_IDENTITY ? 1 : 0;
        else
            weight *= 2;
        if (weight > 0 && weight >= best_weight) {
            best = e;
            best_weight = weight;
        }
    }
    return best;
}

int http_encoding_choose(const struct http_head *head, unsigned available) {
    struct accepted a = nothing_said;
    for (size_t i = 0; i < head->header_count; i++)
        if (slice_equal_nocase(head->headers[i].name, "accept-encoding"))
            read_list(&a, head->headers[i].value);
    return choose(&a, available);
}

int http_encoding_choose_value(struct slice value, unsigned available) {
    struct accepted a = nothing_said;
    read_list(&a, value);
    return choose(&a, available);
}

const char *http_encoding_name(enum http_encoding e) {
    static const char *const names[] = {NULL, "gzip", "br"};
    return names[e];
}

const char *http_encoding_suffix(enum http_encoding e) {
    static const char *const suffixes[] = {"", ".gz", ".br"};
    return suffixes[e];
}
