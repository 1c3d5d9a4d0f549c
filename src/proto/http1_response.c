#include "base/num.h"
#include "proto/http1.h"

/* The calendar of days since 1970-01-01, after Howard Hinnant's civil_from_days()
 * (https://howardhinnant.github.io/date_algorithms.html): no time zone files, no locks. */
struct civil {
    unsigned year, month, day;
};

static struct civil civil_of_days(uint64_t days) {
    uint64_t z = days + 719468; /* days since 0000-03-01 */
    uint64_t era = z / 146097;
    unsigned doe = (unsigned)(z % 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    struct civil c = {.year = yoe + (unsigned)era * 400,
                      .month = mp < 10 ? mp + 3 : mp - 9,
                      .day = doy - (153 * mp + 2) / 5 + 1};
    c.year += c.month <= 2;
    return c;
}

static void put_digits(char *at, unsigned value, int digits) {
    while (digits-- > 0) {
        at[digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

void http_format_date(uint64_t unix_s, char out[30]) {
    static const char weekdays[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const uint64_t last = 253402300799u; /* the end of the year 9999 */
    if (unix_s > last)
        unix_s = last;
    unsigned second = (unsigned)(unix_s % 86400);
    uint64_t days = unix_s / 86400;
    struct civil c = civil_of_days(days);
    memcpy(out, "Thu, 00 Jan 0000 00:00:00 GMT", 30);
    memcpy(out, &weekdays[days % 7 * 3], 3);
    memcpy(out + 8, &months[(c.month - 1) * 3], 3);
    put_digits(out + 5, c.day, 2);
    put_digits(out + 12, c.year, 4);
    put_digits(out + 17, second / 3600, 2);
    put_digits(out + 20, second / 60 % 60, 2);
    put_digits(out + 23, second % 60, 2);
}

const char *http_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}

void http1_put_status(struct buf *out, int status, uint64_t unix_s) {
    CHECK(status >= 100 && status <= 599);
    char date[30];
    http_format_date(unix_s, date);
    buf_append_str(out, "HTTP/1.1 ");
    num_append_u64(out, (uint64_t)status);
    buf_append_char(out, ' ');
    buf_append_str(out, http_status_text(status));
    buf_append_str(out, "\r\nDate: ");
    buf_append(out, date, 29);
    buf_append_str(out, "\r\n");
}

void http1_put_header(struct buf *out, const char *name, struct slice value) {
    for (size_t i = 0; i < value.size; i++) {
        CHECK(value.data[i] != '\r');
        CHECK(value.data[i] != '\n');
        CHECK(value.data[i] != 0);
    }
    buf_append_str(out, name);
    buf_append_str(out, ": ");
    buf_append_slice(out, value);
    buf_append_str(out, "\r\n");
}

void http1_put_header_u64(struct buf *out, const char *name, uint64_t value) {
    buf_append_str(out, name);
    buf_append_str(out, ": ");
    num_append_u64(out, value);
    buf_append_str(out, "\r\n");
}
