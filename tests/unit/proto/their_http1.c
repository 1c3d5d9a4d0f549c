#include <http_parser.h>

#include "reading.h"

static bool in_value;
static size_t head_fields;

static int their_url(http_parser *p, const char *at, size_t n) {
    buf_append(&((struct reading *)p->data)->target, at, n);
    return 0;
}
static int their_field(http_parser *p, const char *at, size_t n) {
    struct reading *r = p->data;
    if (in_value || r->field_count == 0)
        r->field_count++;
    in_value = false;
    if (r->field_count <= FIELDS)
        buf_append(&r->fields[r->field_count - 1].name, at, n);
    return 0;
}
static int their_value(http_parser *p, const char *at, size_t n) {
    struct reading *r = p->data;
    in_value = true;
    if (r->field_count > 0 && r->field_count <= FIELDS)
        buf_append(&r->fields[r->field_count - 1].value, at, n);
    return 0;
}
static int their_head(http_parser *p) {
    struct reading *r = p->data;
    buf_append_str(&r->method, http_method_str((enum http_method)p->method));
    r->minor = p->http_minor;
    head_fields = r->field_count; /* its callbacks for trailers look like those for fields */
    return 0;
}
static int their_complete(http_parser *p) {
    struct reading *r = p->data;
    r->accepted = true;
    r->keep_alive = http_should_keep_alive(p);
    http_parser_pause(p, 1);
    return 0;
}
static int their_body(http_parser *p, const char *at, size_t n) {
    buf_append(&((struct reading *)p->data)->body, at, n);
    return 0;
}

void read_theirs(struct slice in, struct reading *r) {
    static const http_parser_settings settings = {.on_url = their_url,
                                                  .on_header_field = their_field,
                                                  .on_header_value = their_value,
                                                  .on_headers_complete = their_head,
                                                  .on_body = their_body,
                                                  .on_message_complete = their_complete};
    http_parser p;
    in_value = false;
    head_fields = 0;
    http_parser_init(&p, HTTP_REQUEST);
    p.data = r;
    r->used = http_parser_execute(&p, &settings, (const char *)in.data, in.size);
    r->complete = true;
    if (r->accepted) {
        r->field_count = head_fields;
    } else if (HTTP_PARSER_ERRNO(&p) != HPE_OK) {
        r->reason = http_errno_name(HTTP_PARSER_ERRNO(&p));
    } else {
        r->complete = false; /* it waits for more */
    }
}
