/* Cookies (RFC 6265), sans-I/O: the value of one in a Cookie field. */
#pragma once
#include "base/slice.h"

/* Finds the first cookie of that name in a field's value ("a=1; b=2"; section 4.2.1), its value
 * without the quotes that may stand around it. Names differ by case. False: it is not there. What
 * is malformed is passed over, up to the next ";". The value borrows from the field. */
bool cookie_find(struct slice field, const char *name, struct slice *ret_value);
