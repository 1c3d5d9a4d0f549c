/* The welcome page and the dashboard: files of web/, embedded by the build (web/embed.py). */
#include "gateway/http_routes.h"
#include "gateway/web_files.h"

/* Nothing from elsewhere, no inline code, not in a frame. */
#define PAGE_POLICY                                                                                \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' " \
    "data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const struct web_file *find_file(struct slice name) {
    for (size_t i = 0; i < web_file_count; i++)
        if (slice_equal_str(name, web_files[i].name))
            return &web_files[i];
    return NULL;
}

static void answer_file(struct http_request *r, const struct http_input *in, struct slice name) {
    const struct web_file *file = find_file(name);
    if (!file) {
        http_problem(r, &(struct http_problem){.status = 404, .code = "not_found"},
                     "there is nothing at this path");
        return;
    }
    const struct slice *known = http_find_header(in->head, "If-None-Match");
    bool same = known && slice_equal_str(*known, file->etag);
    http_begin(r, same ? 304 : 200);
    http_header(r, "ETag", slice_str(file->etag));
    http_header(r, "Cache-Control", slice_str("no-cache"));
    http_header(r, "Content-Security-Policy", slice_str(PAGE_POLICY));
    http_header(r, "Referrer-Policy", slice_str("no-referrer"));
    http_end(r, same ? NULL : file->content_type, slice_of(file->data, file->size));
}

void http_web_get(struct http_request *r, const struct http_input *in) {
    answer_file(r, in, in->rest.size ? in->rest : slice_str("welcome.html"));
}

void http_dashboard_get(struct http_request *r, const struct http_input *in) {
    answer_file(r, in, slice_str("dashboard.html"));
}
