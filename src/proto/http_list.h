/* Lists of what a client accepts (RFC 9110 sections 5.6.1 and 12.4.2): "a, b;x=1;q=0.5". */
#pragma once
#include "base/slice.h"

enum { HTTP_WEIGHT_MAX = 1000, HTTP_WEIGHT_BAD = -1 };

/* `s` without blanks and tabs at both ends. */
struct slice http_trim(struct slice s);

/* Takes the next member off the front of *list; empty ones are passed over. *ret_item is what
 * stands before the first ";", *ret_weight its weight in thousandths (1000 without one), or
 * HTTP_WEIGHT_BAD when that is malformed. Commas in quoted strings separate nothing. Other
 * parameters are passed over. False at the end. */
bool http_list_next(struct slice *list, struct slice *ret_item, int *ret_weight);
