/* What is said about the process and the cluster: /_/status /_/health /_/ready /_/metrics. */
#include "gateway/http_json.h"
#include "gateway/http_routes.h"
#include "gateway/pack.h"
#include "net/tls.h"
#include "replica/gauges.h"

enum { STATUS_TIMEOUT_MS = 2000 };

enum { CERTIFICATES_MAX = TLS_PAIRS_MAX };

static int64_t wall_s(const struct gateway *gw) {
    return (int64_t)(gateway_wall_ms(gw) / 1000);
}

static void put_certificates(struct gateway *gw, struct json_out *j) {
    struct tls_certificate certificates[CERTIFICATES_MAX];
    if (!gw->options.tls)
        return;
    size_t count = tls_server_certificates(gw->options.tls, certificates, CERTIFICATES_MAX);
    json_out_key(j, "certificates");
    json_out_array(j);
    for (size_t i = 0; i < count; i++) {
        json_out_object(j);
        json_out_key(j, "file");
        json_out_str(j, certificates[i].file);
        json_out_key(j, "names");
        json_out_str(j, certificates[i].names);
        json_out_key(j, "expires_s");
        json_out_i64(j, certificates[i].not_after_s - wall_s(gw));
        json_out_end(j, '}');
    }
    json_out_end(j, ']');
}

/* Until the first of them expires, and 0 from then on. */
static void append_certificates(struct buf *text, struct gateway *gw) {
    struct tls_certificate certificates[CERTIFICATES_MAX];
    if (!gw->options.tls)
        return;
    size_t count = tls_server_certificates(gw->options.tls, certificates, CERTIFICATES_MAX);
    int64_t first_s = INT64_MAX;
    for (size_t i = 0; i < count; i++)
        if (certificates[i].not_after_s - wall_s(gw) < first_s)
            first_s = certificates[i].not_after_s - wall_s(gw);
    metrics_append_one(text, "tls_certificate_expiry_seconds", "gauge",
                       "Until the first of the TLS certificates expires; 0: it has.",
                       first_s > 0 ? (uint64_t)first_s : 0);
}

static void put_gateway(struct gateway *gw, struct json_out *j) {
    struct gateway_metrics m;
    struct upstream_status up;
    gateway_sum_metrics(gw, &m);
    upstream_get_status(gw->upstream, &up);
    json_out_key(j, "gateway");
    json_out_object(j);
    json_out_key(j, "version");
    json_out_str(j, COTIDAL_VERSION);
    json_out_key(j, "uptime_s");
    json_out_u64(j, (gateway_now_ms(gw) - gw->started_ms) / 1000);
    json_out_key(j, "ready");
    json_out_bool(j, up.ready);
    json_out_key(j, "links_up");
    json_out_u64(j, up.links_up);
    json_out_key(j, "connections_http");
    json_out_u64(j, m.connections_http);
    json_out_key(j, "connections_redis");
    json_out_u64(j, m.connections_redis);
    json_out_key(j, "requests_in_flight");
    json_out_u64(j, m.requests_in_flight);
    json_out_key(j, "reads_total");
    json_out_u64(j, m.reads_total);
    json_out_key(j, "writes_total");
    json_out_u64(j, m.writes_total);
    put_certificates(gw, j);
    json_out_end(j, '}');
}

/* The node's map, with what this process knows of itself beside it. */
static bool status_to_json(struct gateway *gw, struct slice reply, struct buf *json) {
    struct reply_item header, key;
    struct json_out j;
    if (!reply_next(&reply, &header) || header.type != '%')
        return false;
    json_out_begin(&j, json);
    json_out_object(&j);
    for (int64_t i = 0; i < header.integer; i++) {
        if (!reply_next(&reply, &key) || (key.type != '$' && key.type != '+'))
            return false;
        json_out_key_slice(&j, key.bytes);
        if (!http_reply_to_json(&j, &reply))
            return false;
    }
    put_gateway(gw, &j);
    json_out_end(&j, '}');
    return true;
}

static void status_answer(struct http_request *r, enum upstream_outcome outcome, uint64_t index,
                          struct slice reply) {
    struct buf json = {0};
    (void)index;
    if (http_answer_failure(r, outcome, reply))
        return;
    if (status_to_json(r->base.conn->gw, reply, &json)) {
        http_answer_json(r, 200, &json);
    } else {
        http_malformed_reply(r);
        buf_fini(&json);
    }
}

void http_status_get(struct http_request *r, const struct http_input *in) {
    if (!http_check_query(r, in, ""))
        return;
    struct pack p = pack_begin("NODE.STATUS");
    struct buf packed = pack_end(&p);
    r->base.up.timeout_ms = STATUS_TIMEOUT_MS;
    http_submit(r, UPSTREAM_ADMIN, &packed, status_answer);
}

void http_health_get(struct http_request *r, const struct http_input *in) {
    (void)in;
    http_answer(r, 200, "text/plain; charset=utf-8", slice_str("ok\n"));
}

void http_ready_get(struct http_request *r, const struct http_input *in) {
    struct gateway *gw = r->base.conn->gw;
    struct upstream_status up;
    (void)in;
    upstream_get_status(gw->upstream, &up);
    const struct node_gauges *node = gw->options.node;
    bool sound = !node || NODE_GAUGE_GET(node, health) == 0;
    bool ready = up.ready && sound && !gw->draining;
    http_begin(r, ready ? 200 : 503);
    http_header(r, "Cache-Control", slice_str("no-store"));
    if (!ready)
        http_header(r, "Retry-After", slice_str("1"));
    http_end(r, "text/plain; charset=utf-8",
             slice_str(ready          ? "ready\n"
                       : gw->draining ? "not ready: stopping\n"
                       : !sound       ? "not ready: this node's copy is wrong, or in doubt\n"
                                      : "not ready: no leader is known\n"));
}

/* Of the database node in this process. */
static void append_node(struct buf *text, const struct node_gauges *node) {
#define NODE_GAUGE_APPEND(name, type, help)                                                        \
    metrics_append_one(text, "node_" #name, #type, help, NODE_GAUGE_GET(node, name));
    NODE_GAUGES(NODE_GAUGE_APPEND)
#undef NODE_GAUGE_APPEND
}

void http_metrics_get(struct http_request *r, const struct http_input *in) {
    struct gateway *gw = r->base.conn->gw;
    struct gateway_metrics m;
    struct upstream_status up;
    struct buf text = {0};
    (void)in;
    gateway_sum_metrics(gw, &m);
    upstream_get_status(gw->upstream, &up);
    metrics_append(&text, &m);
    if (gw->options.node)
        append_node(&text, gw->options.node);
    append_certificates(&text, gw);
    metrics_append_one(&text, "upstream_ready", "gauge",
                       "Whether the answering thread knows a leader and reaches it.", up.ready);
    metrics_append_one(&text, "upstream_links_up", "gauge",
                       "Links of the answering thread that stand.", up.links_up);
    metrics_append_one(&text, "upstream_term", "gauge", "The newest term heard of.", up.term);
    metrics_append_one(&text, "upstream_leader", "gauge", "The leader's id, 0 when unknown.",
                       up.leader_id);
    metrics_append_one(&text, "upstream_pending_requests", "gauge",
                       "Requests of the answering thread that wait for an answer.",
                       up.pending_requests);
    metrics_append_one(&text, "upstream_retried_total", "counter",
                       "Requests of the answering thread sent more than once.", up.retried_total);
    metrics_append_one(&text, "upstream_protocol_errors_total", "counter",
                       "Links of the answering thread closed for breaking the format.",
                       up.protocol_errors_total);
    metrics_append_one(&text, "upstream_direct_reads_total", "counter",
                       "Reads that the answering thread executed on the node's store itself.",
                       up.direct_total);
    http_answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_slice(&text));
    buf_fini(&text);
}
