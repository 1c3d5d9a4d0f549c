/* http_parse_date(): the three forms of RFC 9110 section 5.6.7. */
#include "base/check.h"
#include "proto/http_conditional.h"

static const char *const weekdays[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                       "Friday", "Saturday", "Sunday"};

struct date {
    unsigned year, month, day, hour, minute, second; /* month and day from 1 */
};

static bool take_text(struct slice *in, const char *text, size_t n) {
    if (in->size < n || memcmp(in->data, text, n) != 0)
        return false;
    in->data += n;
    in->size -= n;
    return true;
}

static bool take_digits(struct slice *in, int count, unsigned *ret_value) {
    unsigned value = 0;
    if (in->size < (size_t)count)
        return false;
    for (int i = 0; i < count; i++) {
        if (in->data[i] < '0' || in->data[i] > '9')
            return false;
        value = value * 10 + (unsigned)(in->data[i] - '0');
    }
    in->data += count;
    in->size -= (size_t)count;
    *ret_value = value;
    return true;
}

static bool take_month(struct slice *in, unsigned *ret_month) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (unsigned i = 0; i < 12; i++)
        if (take_text(in, &months[(size_t)i * 3], 3)) {
            *ret_month = i + 1;
            return true;
        }
    return false;
}

static bool take_time(struct slice *in, struct date *d) {
    return take_digits(in, 2, &d->hour) && take_text(in, ":", 1) &&
           take_digits(in, 2, &d->minute) && take_text(in, ":", 1) &&
           take_digits(in, 2, &d->second);
}

static uint64_t days_of(const struct date *d) {
    /* Howard Hinnant's days_from_civil(), the reverse of what http_format_date() does. */
    uint64_t y = d->year - (d->month <= 2);
    uint64_t era = y / 400, yoe = y % 400;
    uint64_t doy = (153 * (d->month > 2 ? d->month - 3 : d->month + 9) + 2) / 5 + d->day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool is_leap(unsigned year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool seconds_of(const struct date *d, uint64_t *ret_unix_s) {
    static const unsigned days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (d->year < 1970 || d->day == 0 || d->hour > 23 || d->minute > 59 || d->second > 60)
        return false;
    if (d->day > days[d->month - 1] + (d->month == 2 && is_leap(d->year)))
        return false;
    *ret_unix_s = days_of(d) * 86400 + d->hour * 3600u + d->minute * 60u + d->second;
    return true;
}

/* "06 Nov 1994 08:49:37 GMT", behind "Sun, " */
static bool parse_imf(struct slice in, struct date *d) {
    return take_digits(&in, 2, &d->day) && take_text(&in, " ", 1) && take_month(&in, &d->month) &&
           take_text(&in, " ", 1) && take_digits(&in, 4, &d->year) && take_text(&in, " ", 1) &&
           take_time(&in, d) && take_text(&in, " GMT", 4) && in.size == 0;
}

/* "06-Nov-94 08:49:37 GMT", behind "Sunday, "; the year has two digits still */
static bool parse_rfc850(struct slice in, struct date *d) {
    return take_digits(&in, 2, &d->day) && take_text(&in, "-", 1) && take_month(&in, &d->month) &&
           take_text(&in, "-", 1) && take_digits(&in, 2, &d->year) && take_text(&in, " ", 1) &&
           take_time(&in, d) && take_text(&in, " GMT", 4) && in.size == 0;
}

/* "Nov  6 08:49:37 1994", behind "Sun " */
static bool parse_asctime(struct slice in, struct date *d) {
    if (!take_month(&in, &d->month) || !take_text(&in, " ", 1))
        return false;
    bool day = take_text(&in, " ", 1) ? take_digits(&in, 1, &d->day) : take_digits(&in, 2, &d->day);
    return day && take_text(&in, " ", 1) && take_time(&in, d) && take_text(&in, " ", 1) &&
           take_digits(&in, 4, &d->year) && in.size == 0;
}

/* The latest date with these two digits that is not more than 50 years ahead. */
static bool widen_year(struct date *d, uint64_t now_s, uint64_t *ret_unix_s) {
    const uint64_t fifty_years_s = UINT64_C(50) * 365 * 86400 + UINT64_C(13) * 86400;
    unsigned two = d->year;
    bool found = false;
    uint64_t at;
    for (unsigned century = 1900; century < 10000; century += 100) {
        d->year = century + two;
        if (seconds_of(d, &at) && at <= now_s + fifty_years_s) {
            *ret_unix_s = at;
            found = true;
        }
    }
    return found;
}

bool http_parse_date(struct slice in, uint64_t now_s, uint64_t *ret_unix_s) {
    struct date d = {0};
    for (size_t i = 0; i < ARRAY_COUNT(weekdays); i++) {
        struct slice rest = in;
        if (!take_text(&rest, weekdays[i], 3))
            continue;
        if (take_text(&rest, ", ", 2))
            return parse_imf(rest, &d) && seconds_of(&d, ret_unix_s);
        if (take_text(&rest, " ", 1))
            return parse_asctime(rest, &d) && seconds_of(&d, ret_unix_s);
        return take_text(&rest, weekdays[i] + 3, strlen(weekdays[i]) - 3) &&
               take_text(&rest, ", ", 2) && parse_rfc850(rest, &d) &&
               widen_year(&d, now_s, ret_unix_s);
    }
    return false;
}
