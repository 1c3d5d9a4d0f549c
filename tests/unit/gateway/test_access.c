/* Who may do what: every route and every command with no, wrong, expired, read-only and
 * other-prefix credentials. A route or command that the tables here do not know fails the test. */
#include "base/log.h"
#include "gateway/access.h"
#include "gateway/client_limits.h"
#include "gateway/http_routes.h"
#include "http_client.h"
#include "net/sha256.h"

#define NOAUTH "-NOAUTH Authentication required.\r\n"
#define NOPERM_KEY "-NOPERM No permissions to access a key\r\n"
#define WRONGPASS "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
#define WRONG_TEXT "ct_00000000000000000000000000000000000000000000000000000000deadbeef"

static const uint8_t loopback[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};

enum credential { NONE, WRONG, EXPIRED, REVOKED, OTHER, READER, WRITER, ADMIN, CREDENTIALS };

struct fixture {
    struct bench *b;
    struct access_options options;
    char texts[CREDENTIALS][ACCESS_TEXT_BYTES + 1];
    char ids[CREDENTIALS][ACCESS_ID_BYTES + 1];
};

static struct fake_stream *local_http(struct fixture *f) {
    struct fake_stream *s = bench_http(f->b);
    memcpy(s->ip, loopback, sizeof s->ip);
    return s;
}

static void copy_field(const char *body, const char *name, char *out, size_t size) {
    const char *at = strstr(body, name);
    assert_non_null(at);
    snprintf(out, size, "%s", at + strlen(name));
    out[size - 1] = 0;
}

static void make(struct fixture *f, enum credential which, const char *json) {
    struct fake_stream *s = local_http(f);
    char request[512];
    snprintf(request, sizeof request, "POST /_/tokens" HOST "Content-Length: %zu\r\n\r\n%s",
             strlen(json), json);
    struct answer a = ask(f->b, s, request);
    if (a.status != 201)
        fail_msg("%s -> %s%s", json, a.head, a.body);
    copy_field(a.body, "\"token\":\"", f->texts[which], sizeof f->texts[which]);
    copy_field(a.body, "\"id\":\"", f->ids[which], sizeof f->ids[which]);
    free(a.body);
    bench_hang_up(f->b, s);
}

static void poll_tokens(struct fixture *f) {
    bench_wait(f->b, 2000);
    bench_settle(f->b);
}

static void begin(struct fixture *f) {
    *f = (struct fixture){.options = {.on = true}};
    const struct gateway_options options = {.access = &f->options};
    f->b = bench_new(&options);
    make(f, EXPIRED, "{\"name\":\"old\",\"read\":[\"*\"],\"write\":[\"*\"],\"ttl\":\"1s\"}");
    make(f, REVOKED, "{\"name\":\"gone\",\"admin\":true}");
    make(f, OTHER, "{\"name\":\"other\",\"read\":[\"other/*\"],\"write\":[\"other/*\"]}");
    make(f, READER, "{\"name\":\"reader\",\"read\":[\"mine/*\"]}");
    make(f, WRITER, "{\"name\":\"writer\",\"read\":[\"mine/*\"],\"write\":[\"mine/*\"]}");
    make(f, ADMIN, "{\"name\":\"root\",\"admin\":true}");
    strcpy(f->texts[WRONG], WRONG_TEXT);
    struct fake_stream *s = local_http(f);
    char request[128];
    snprintf(request, sizeof request, "DELETE /_/tokens/%s" HOST "\r\n", f->ids[REVOKED]);
    expect(f->b, s, request, 204, NULL);
    bench_hang_up(f->b, s);
    fake_upstream_pass(f->b->up, 5000);
    poll_tokens(f);
}

static void end(struct fixture *f) {
    bench_free(f->b);
}

/* ---- routes ------------------------------------------------------------------------------------
 */

/* What each credential gets for the keys mine/k: . allowed, 1 401, 3 403. In the order of enum
 * credential. */
#define PUBLIC "........"
#define ANY "1111...."
#define READS "11113..."
#define WRITES "111133.."
#define ONLY_ADMIN "1111333."
static const struct {
    const char *method, *pattern, *expected;
} routes[] = {
    {"GET", "/", PUBLIC},
    {"GET", "/_/", PUBLIC},
    {"GET", "/_/health", PUBLIC},
    {"GET", "/_/ready", PUBLIC},
    {"GET", "/_/web/{key}", PUBLIC},
    {"GET", "/_/metrics", ANY},
    {"GET", "/_/status", ANY},
    {"GET", "/v1/kv/{key}", READS},
    {"PUT", "/v1/kv/{key}", WRITES},
    {"DELETE", "/v1/kv/{key}", WRITES},
    {"GET", "/v1/kv", READS},
    {"GET", "/v1/watch", READS},
    {"GET", "/v1/session", ANY},
    {"PATCH", "/v1/session", ANY},
    {"DELETE", "/v1/session", ANY},
    {"POST", "/v1/redis", WRITES},
    {"POST", "/v1/redis/pipeline", ANY}, /* each command has its own answer */
    {"POST", "/v1/redis/multi-exec", ANY},
    {"POST", "/v1/incr/{key}", WRITES},
    {"POST", "/v1/txn", WRITES},
    {"DELETE", "/_/members/{key}", ONLY_ADMIN},
    {"POST", "/_/members/{key}/promote", ONLY_ADMIN},
    {"POST", "/_/members/{key}/transfer", ONLY_ADMIN},
    {"POST", "/_/transfer", ONLY_ADMIN},
    {"POST", "/_/backups", ONLY_ADMIN},
    {"GET", "/_/backups/{key}", ONLY_ADMIN},
    {"DELETE", "/_/backups/{key}", ONLY_ADMIN},
    {"GET", "/v1/sites", ONLY_ADMIN}, /* or `deploy`: test_deployer */
    {"DELETE", "/v1/sites/{key}", ONLY_ADMIN},
    {"POST", "/v1/deploys/blocks/missing", ONLY_ADMIN},
    {"POST", "/v1/deploys/blocks", ONLY_ADMIN},
    {"GET", "/v1/deploys/blocks/{key}", ONLY_ADMIN},
    {"POST", "/v1/deploys", ONLY_ADMIN},
    {"POST", "/v1/deploys/{key}/pin", ONLY_ADMIN},
    {"POST", "/v1/deploys/{key}/activate", ONLY_ADMIN},
    {"DELETE", "/v1/deploys/{key}", ONLY_ADMIN},
    {"GET", "/_/preview/{key}", PUBLIC},
    {"POST", "/_/tokens", ONLY_ADMIN},
    {"GET", "/_/tokens", ONLY_ADMIN},
    {"DELETE", "/_/tokens/{key}", ONLY_ADMIN},
};

static const char *method_name(enum http_method m) {
    switch (m) {
    case HTTP_GET:
        return "GET";
    case HTTP_PUT:
        return "PUT";
    case HTTP_POST:
        return "POST";
    case HTTP_PATCH:
        return "PATCH";
    case HTTP_DELETE:
        return "DELETE";
    default:
        fail_msg("a method that the test does not know");
        return "";
    }
}

static const char *expected_of(const struct http_route *route) {
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++)
        if (strcmp(routes[i].pattern, route->pattern) == 0 &&
            strcmp(routes[i].method, method_name(route->method)) == 0)
            return routes[i].expected;
    fail_msg("who may use %s %s? Add it to this test.", method_name(route->method), route->pattern);
    return NULL;
}

static void build(const struct http_route *route, const char *text, char out[1024]) {
    char path[128];
    const char *key = strstr(route->pattern, "{key}"), *body = "";
    if (key)
        snprintf(path, sizeof path, "%.*smine%%2Fk%s", (int)(key - route->pattern), route->pattern,
                 key + 5);
    else
        snprintf(path, sizeof path, "%s%s", route->pattern,
                 route->access == ACCESS_READ_PREFIX ? "?prefix=mine/" : "");
    if (strcmp(route->pattern, "/v1/redis") == 0)
        body = "[\"SET\",\"mine/k\",\"1\"]";
    else if (strstr(route->pattern, "/v1/redis/"))
        body = "[[\"GET\",\"mine/k\"]]";
    else if (strcmp(route->pattern, "/v1/txn") == 0)
        body = "{\"then\":[{\"put\":\"mine/k\",\"value\":\"1\"}]}";
    else if (route->body != BODY_NONE)
        body = "{}";
    snprintf(out, 1024, "%s %s" HOST "%s%s%sContent-Length: %zu\r\n\r\n%s",
             method_name(route->method), path, *text ? "Authorization: Bearer " : "", text,
             *text ? "\r\n" : "", strlen(body), body);
}

/* The status of the one answer; 0 when the request was let through to a part that answers nothing
 * here (streams, what only a node answers). */
static int status_of(struct fixture *f, const char *request) {
    struct fake_stream *s = bench_http(f->b);
    fake_stream_feed_str(s, request);
    bench_turn(f->b);
    for (size_t i = 0; fake_upstream_pending(f->b->up) > 0 && i < 8; i++) {
        if (fake_upstream_kind(f->b->up, 0) == UPSTREAM_ADMIN) {
            fake_upstream_answer_with(f->b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE x\r\n");
        } else {
            size_t next = fake_upstream_next(f->b->up);
            if (next == SIZE_MAX)
                break;
            fake_upstream_answer(f->b->up, next);
        }
        bench_turn(f->b);
    }
    int status = 0;
    const char *text = bench_received(s);
    (void)sscanf(text, "HTTP/1.1 %d ", &status);
    if (status == 401 && !strstr(text, "WWW-Authenticate: Bearer"))
        fail_msg("401 without WWW-Authenticate: %s", text);
    if ((status == 401 || status == 403) && !strstr(text, "/v1/redis") &&
        !strstr(text, "\"applied\":\"no\"") && !strstr(text, "NOPERM"))
        fail_msg("refused without applied: %s", text);
    bench_hang_up(f->b, s);
    return status;
}

static void test_routes(void **state) {
    struct fixture f;
    size_t count;
    (void)state;
    begin(&f);
    const struct http_route *all = http_routes_all(&count);
    assert_int_equal(count, ARRAY_COUNT(routes));
    for (size_t i = 0; i < count; i++) {
        const char *expected = expected_of(&all[i]);
        for (int c = 0; c < CREDENTIALS; c++) {
            char request[1024];
            build(&all[i], f.texts[c], request);
            int status = status_of(&f, request);
            bool right = expected[c] == '1'   ? status == 401
                         : expected[c] == '3' ? status == 403
                                              : status != 401 && status != 403;
            if (!right)
                fail_msg("%s %s with credential %d: %d", method_name(all[i].method), all[i].pattern,
                         c, status);
            f.b->now_ms += 1000; /* a new second of look-ups */
        }
    }
    end(&f);
}

/* ---- what HTTP says of credentials -------------------------------------------------------------
 */

static int with(struct fixture *f, const char *method_path, const char *authorization) {
    char request[512];
    snprintf(request, sizeof request, "%s" HOST "%s\r\n", method_path, authorization);
    f->b->now_ms += 1000;
    return status_of(f, request);
}

static void test_http_credentials(void **state) {
    struct fixture f;
    char field[256];
    (void)state;
    begin(&f);
    assert_int_equal(with(&f, "GET /v1/kv/mine/a", "Authorization: Basic abc\r\n"), 401);
    assert_int_equal(with(&f, "GET /v1/kv/mine/a", "Authorization: Bearer\r\n"), 401);
    assert_int_equal(with(&f, "GET /v1/kv/mine/a", "Authorization: Bearer x\r\n"), 401);
    snprintf(field, sizeof field, "authorization: bEARER  %s\r\n", f.texts[READER]);
    assert_int_equal(with(&f, "GET /v1/kv/mine/a", field), 404);
    assert_int_equal(with(&f, "HEAD /v1/kv/mine/a", field), 404);
    assert_int_equal(with(&f, "GET /v1/kv/mine", field), 403);
    assert_int_equal(with(&f, "GET /v1/kv/%6dine%2fa", field), 404);
    assert_int_equal(with(&f, "GET /v1/kv/mine/%zz", field), 400);
    assert_int_equal(with(&f, "GET /v1/kv?prefix=mine/", field), 200);
    assert_int_equal(with(&f, "GET /v1/kv?prefix=mine/&after=zzz", field), 200);
    assert_int_equal(with(&f, "GET /v1/kv?prefix=min", field), 403);
    assert_int_equal(with(&f, "GET /v1/kv", field), 403);
    assert_int_equal(with(&f, "GET /v1/kv?key=mine/a", field), 403);
    assert_int_equal(with(&f, "GET /v1/watch?key=mine/a", field), 200);
    assert_int_equal(with(&f, "GET /v1/watch?key=other/a", field), 403);
    assert_int_equal(with(&f, "GET /v1/watch", field), 403);
    /* Two of them are none. */
    snprintf(field, sizeof field, "Authorization: Bearer %s\r\nAuthorization: Bearer %s\r\n",
             f.texts[ADMIN], f.texts[ADMIN]);
    assert_int_equal(with(&f, "GET /v1/kv/mine/a", field), 401);
    /* A client of this machine needs none, but a wrong one is wrong. */
    struct fake_stream *s = local_http(&f);
    expect(f.b, s, GET("/v1/kv/any"), 404, NULL);
    expect(f.b, s, "GET /v1/kv/any" HOST "Authorization: Bearer " WRONG_TEXT "\r\n\r\n", 401, NULL);
    f.options.require = true;
    expect(f.b, s, GET("/v1/kv/any"), 401, "\"code\":\"unauthorized\"");
    end(&f);
}

static void test_new_and_revoked(void **state) {
    struct fixture f;
    char request[256];
    (void)state;
    begin(&f);
    /* A new one is looked for, and works at once. */
    make(&f, OTHER, "{\"name\":\"late\",\"read\":[\"late\"]}");
    struct fake_stream *s = bench_http(f.b);
    snprintf(request, sizeof request, "GET /v1/kv/late" HOST "Authorization: Bearer %s\r\n\r\n",
             f.texts[OTHER]);
    expect(f.b, s, request, 404, NULL);
    /* Revoked: with the next reading of the tokens it is over, for streams as well. */
    struct fake_stream *w = bench_http(f.b);
    char watch[256];
    snprintf(watch, sizeof watch, "GET /v1/watch?key=late" HOST "Authorization: Bearer %s\r\n\r\n",
             f.texts[OTHER]);
    bench_feed(f.b, w, slice_str(watch), SIZE_MAX);
    assert_memory_equal(bench_received(w), "HTTP/1.1 200", 12);
    struct fake_stream *l = local_http(&f);
    char revoke[128];
    snprintf(revoke, sizeof revoke, "DELETE /_/tokens/%s" HOST "\r\n", f.ids[OTHER]);
    expect(f.b, l, revoke, 204, NULL);
    expect(f.b, l, revoke, 404, "no_such_token");
    poll_tokens(&f);
    bench_wait(f.b, 2000);
    bench_settle(f.b);
    expect(f.b, s, request, 401, NULL);
    assert_non_null(strstr(bench_received(w), "0\r\n\r\n")); /* its last chunk */
    /* Strangers cause no more than so many look-ups a second. */
    size_t pending = 0;
    for (int i = 0; i < 100; i++) {
        struct fake_stream *t = bench_http(f.b);
        fake_stream_feed_str(t, "GET /v1/kv/x" HOST "Authorization: Bearer " WRONG_TEXT "\r\n\r\n");
    }
    bench_turn(f.b);
    pending = fake_upstream_pending(f.b->up);
    assert_true(pending <= ACCESS_LOOKUPS_PER_S);
    bench_settle(f.b);
    end(&f);
}

static void revoke(struct fixture *f, enum credential which) {
    struct fake_stream *s = local_http(f);
    char request[128];
    snprintf(request, sizeof request, "DELETE /_/tokens/%s" HOST "\r\n", f->ids[which]);
    expect(f->b, s, request, 204, NULL);
    bench_hang_up(f->b, s);
    poll_tokens(f);
}

/* Its head came while the token was one: that does not keep the door open for the body. */
static void test_revoked_while_the_body_comes(void **state) {
    static const char *const heads[] = {"PUT /v1/kv/mine/late" HOST, "POST /v1/redis" HOST,
                                        "DELETE /v1/kv/mine/kept" HOST};
    struct fixture f;
    char request[256];
    (void)state;
    begin(&f);
    struct fake_stream *l = local_http(&f), *s[ARRAY_COUNT(heads)];
    expect(f.b, l, BODY("PUT", "/v1/kv/mine/kept", "1", "1"), 201, NULL);
    for (size_t i = 0; i < ARRAY_COUNT(heads); i++) {
        s[i] = bench_http(f.b);
        snprintf(request, sizeof request,
                 "%sAuthorization: Bearer %s\r\nContent-Length: 27\r\n\r\n[\"SET\",\"mine",
                 heads[i], f.texts[WRITER]);
        bench_feed(f.b, s[i], slice_str(request), SIZE_MAX);
        assert_int_equal(s[i]->written.size, 0);
    }
    revoke(&f, WRITER);
    for (size_t i = 0; i < ARRAY_COUNT(heads); i++)
        expect(f.b, s[i], "/late\",\"12345\"]", 401, "revoked");
    expect(f.b, l, GET("/v1/kv/mine/late"), 404, NULL);
    expect(f.b, l, GET("/v1/kv/mine/kept"), 200, NULL);
    /* Others are let through as they were, and visitors are counted once. */
    static struct site_access site;
    char error[SITE_ACCESS_ERROR_BYTES];
    assert_true(site_access_parse(slice_str("write box/* rate=1/s\n"), &site, error));
    f.options.site = &site;
    struct client_limits **limits = client_limits_of_rules(&site);
    f.options.site_limits = limits;
    struct fake_stream *v = bench_http(f.b);
    bench_feed(f.b, v, slice_str("PUT /v1/kv/box/a" HOST "Content-Length: 2\r\n\r\n1"), SIZE_MAX);
    expect(f.b, v, "2", 201, NULL);
    snprintf(request, sizeof request,
             "PUT /v1/kv/any" HOST "Authorization: Bearer %s\r\nContent-Length: 2\r\n\r\n1",
             f.texts[ADMIN]);
    bench_feed(f.b, v, slice_str(request), SIZE_MAX);
    expect(f.b, v, "2", 201, NULL);
    /* A rule that is taken back is, too. */
    f.b->now_ms += 1000;
    bench_feed(f.b, v, slice_str("PUT /v1/kv/box/a" HOST "Content-Length: 2\r\n\r\n1"), SIZE_MAX);
    f.options.site = NULL;
    expect(f.b, v, "2", 401, NULL);
    end(&f);
    for (size_t i = 0; i < site.rule_count; i++)
        client_limits_free(limits[i]);
    free(limits);
    site_access_fini(&site);
}

/* The secret is nowhere but in the answer. */
static void test_listing(void **state) {
    struct fixture f;
    (void)state;
    begin(&f);
    struct fake_stream *s = local_http(&f);
    struct answer a = ask(f.b, s, GET("/_/tokens"));
    assert_int_equal(a.status, 200);
    for (int c = OTHER; c < CREDENTIALS; c++) {
        assert_null(strstr(a.body, f.texts[c]));
        assert_non_null(strstr(a.body, f.ids[c]));
    }
    assert_non_null(strstr(a.body, "\"name\":\"writer\""));
    assert_null(strstr(a.body, "\"name\":\"old\""));
    free(a.body);
    expect(f.b, s, BODY("POST", "/_/tokens", "2", "[]"), 400, NULL);
    expect(f.b, s, BODY("POST", "/_/tokens", "16", "{\"read\":[\"a*b\"]}"), 400, "patterns");
    expect(f.b, s, BODY("POST", "/_/tokens", "17", "{\"name\":\"def lt\"}"), 400, "name has");
    expect(f.b, s, BODY("POST", "/_/tokens", "11", "{\"ttl\":\"x\"}"), 400, "ttl");
    expect(f.b, s, BODY("POST", "/_/tokens", "9", "{\"who\":1}"), 400, "only");
    expect(f.b, s, "POST /_/tokens" HOST "Idempotency-Key: a\r\nContent-Length: 2\r\n\r\n{}", 400,
           NULL);
    /* No client reaches them as keys. */
    struct fake_stream *r = bench_redis(f.b);
    memcpy(r->ip, loopback, sizeof r->ip);
    bench_talk(f.b, r, "SELECT 18\r\nKEYS *\r\nFLUSHALL\r\n",
               "-ERR DB index is out of range\r\n*0\r\n+OK\r\n");
    expect(f.b, s, GET("/_/tokens"), 200, "\"name\":\"writer\"");
    expect(f.b, s, GET("/v1/kv"), 200, "\"keys\":[]");
    end(&f);
}

static void test_unavailable(void **state) {
    struct fixture f = {.options = {0}};
    const struct gateway_options options = {.access = &f.options};
    (void)state;
    f.b = bench_new(&options);
    struct fake_stream *s = local_http(&f);
    /* Where nobody has a token and none is needed, whatever is sent will do. */
    expect(f.b, s, "GET /v1/kv/a" HOST "Authorization: Bearer any\r\n\r\n", 404, NULL);
    bench_hang_up(f.b, s);
    s = bench_http(f.b);
    /* Nothing is known yet: who comes from elsewhere waits for it. */
    fake_stream_feed_str(s, GET("/v1/kv/a"));
    bench_turn(f.b);
    assert_int_equal(fake_upstream_pending(f.b->up), 1);
    fake_upstream_answer_with(f.b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE x\r\n");
    bench_turn(f.b);
    struct answer a = take_answer(s, false);
    assert_int_equal(a.status, 503);
    free(a.body);
    expect(f.b, s, GET("/v1/kv/a"), 404, NULL); /* no token exists: open, as --insecure wants it */
    make(&f, ADMIN, "{\"admin\":true}");
    poll_tokens(&f);
    expect(f.b, s, GET("/v1/kv/a"), 401, NULL);
    char request[256];
    snprintf(request, sizeof request, "GET /v1/kv/a" HOST "Authorization: Bearer %s\r\n\r\n",
             f.texts[ADMIN]);
    expect(f.b, s, request, 404, NULL);
    /* Too long without a word from the database. */
    f.b->now_ms += ACCESS_STALE_MS + 1;
    fake_stream_feed_str(s, request);
    bench_turn(f.b);
    assert_int_equal(fake_upstream_pending(f.b->up), 1);
    fake_upstream_answer_with(f.b->up, 0, UPSTREAM_NOT_APPLIED, "-UNAVAILABLE x\r\n");
    bench_turn(f.b);
    a = take_answer(s, false);
    assert_int_equal(a.status, 503);
    free(a.body);
    expect(f.b, s, request, 404, NULL);
    end(&f);
}

/* The operator's own token, from a file, is one that exists. */
static void test_admin_of_the_operator(void **state) {
    struct fixture f = {.options = {.insecure = true, .has_admin = true}};
    const struct gateway_options options = {.access = &f.options};
    char field[256];
    (void)state;
    sha256_of(slice_str(WRONG_TEXT), f.options.admin);
    f.b = bench_new(&options);
    assert_int_equal(with(&f, "GET /v1/kv/a", ""), 401);
    snprintf(field, sizeof field, "Authorization: Bearer %s\r\n", WRONG_TEXT);
    assert_int_equal(with(&f, "GET /v1/kv/a", field), 404);
    struct fake_stream *s = bench_redis(f.b);
    bench_talk(f.b, s, "GET a\r\n", NOAUTH);
    bench_talk(f.b, s, "AUTH admin " WRONG_TEXT "\r\nSET a 1\r\n", "+OK\r\n+OK\r\n");
    end(&f);
}

static void test_visitors(void **state) {
    static struct site_access site;
    char error[SITE_ACCESS_ERROR_BYTES];
    struct fixture f;
    (void)state;
    assert_true(site_access_parse(slice_str("read public/*\nwrite box/*\nincr likes/*\nsession\n"),
                                  &site, error));
    begin(&f);
    f.options.site = &site;
    assert_int_equal(with(&f, "GET /v1/kv/public/a", ""), 404);
    assert_int_equal(with(&f, "GET /v1/kv?prefix=public/", ""), 200);
    assert_int_equal(with(&f, "GET /v1/watch?prefix=public/", ""), 200);
    assert_int_equal(with(&f, "GET /v1/kv?prefix=pub", ""), 401);
    assert_int_equal(with(&f, "PUT /v1/kv/public/a", ""), 401);
    assert_int_equal(with(&f, "PUT /v1/kv/box/a", ""), 201);
    assert_int_equal(with(&f, "GET /v1/kv/box/a", ""), 401);
    assert_int_equal(with(&f, "POST /v1/incr/likes/a", ""), 200);
    assert_int_equal(with(&f, "PUT /v1/kv/likes/a", ""), 401);
    assert_int_equal(with(&f, "GET /v1/session", ""), 404);
    assert_int_equal(with(&f, "GET /_/status", ""), 401);
    assert_int_equal(with(&f, "POST /v1/redis", ""), 401);
    end(&f);
    site_access_fini(&site);
}

static struct fake_stream *watch(struct fixture *f, const char *query, const char *fields) {
    struct fake_stream *w = bench_http(f->b);
    char request[512];
    snprintf(request, sizeof request, "GET /v1/watch%s" HOST "%s\r\n", query, fields);
    bench_feed(f->b, w, slice_str(request), SIZE_MAX);
    assert_memory_equal(bench_received(w), "HTTP/1.1 200", 12);
    return w;
}

static bool has_ended(struct fake_stream *w) {
    return strstr(bench_received(w), "0\r\n\r\n") != NULL; /* its last chunk */
}

/* Streams end when what has let them in is over, whatever that was. */
static void test_watchers_without_a_token(void **state) {
    static struct site_access site;
    char error[SITE_ACCESS_ERROR_BYTES];
    struct fixture f = {.options = {.insecure = true}};
    const struct gateway_options options = {.access = &f.options};
    (void)state;
    f.b = bench_new(&options);
    poll_tokens(&f);
    struct fake_stream *open = watch(&f, "?prefix=public/", "");
    /* Where nobody has a token, one that sends something else is not cut off for it. */
    struct fake_stream *basic =
        watch(&f, "",
              "Authorization: Basic aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
    poll_tokens(&f);
    assert_false(has_ended(open));
    assert_false(has_ended(basic));
    /* The first token closes the system, but for what visitors may do. */
    assert_true(site_access_parse(slice_str("read public/*\n"), &site, error));
    f.options.site = &site;
    make(&f, ADMIN, "{\"admin\":true}");
    poll_tokens(&f);
    assert_false(has_ended(open));
    assert_true(has_ended(basic));
    f.options.site = NULL;
    make(&f, OTHER, "{\"read\":[\"a\"]}"); /* they are looked at with any change of the tokens */
    poll_tokens(&f);
    assert_true(has_ended(open));
    end(&f);
    site_access_fini(&site);
}

static void once(struct fixture *f, const char *path, const char *fields, int status,
                 bool replayed) {
    struct fake_stream *s = bench_http(f->b);
    char request[512];
    snprintf(request, sizeof request, "POST %s" HOST "Idempotency-Key: order-1\r\n%s\r\n", path,
             fields);
    struct answer a = ask(f->b, s, request);
    if (a.status != status || (field(&a, "Idempotency-Replayed") != NULL) != replayed)
        fail_msg("%s -> %s%s", request, a.head, a.body);
    free(a.body);
    bench_hang_up(f->b, s);
}

/* A visitor cannot use up the keys that others will send. */
static void test_idempotency_keys_of_visitors(void **state) {
    static struct site_access site;
    char error[SITE_ACCESS_ERROR_BYTES], writer[128], admin[128];
    struct fixture f;
    (void)state;
    begin(&f);
    assert_true(site_access_parse(slice_str("incr likes/*\n"), &site, error));
    f.options.site = &site;
    snprintf(writer, sizeof writer, "Authorization: Bearer %s\r\n", f.texts[WRITER]);
    snprintf(admin, sizeof admin, "Authorization: Bearer %s\r\n", f.texts[ADMIN]);
    once(&f, "/v1/incr/likes/a", "", 200, false);
    once(&f, "/v1/incr/likes/a", "", 200, true);
    once(&f, "/v1/incr/likes/b", "", 422, false);
    once(&f, "/v1/incr/mine/a", writer, 200, false);
    once(&f, "/v1/incr/mine/a", admin, 200, true); /* with another token */
    once(&f, "/v1/incr/likes/a", admin, 422, false);
    end(&f);
    site_access_fini(&site);
}

/* ---- clients of this machine that ask for others -----------------------------------------------
 */

static void expect_named(struct fixture *f, struct fake_stream *s, const char *host,
                         const char *more, int status) {
    char request[1024];
    snprintf(request, sizeof request, "GET /v1/kv/public/a HTTP/1.1\r\nHost: %s\r\n%s\r\n", host,
             more);
    expect(f->b, s, request, status, NULL);
}

/* The name of a page from anywhere can be made to resolve to this machine, and a proxy on it makes
 * every client one of this machine: neither is trusted for that. */
static void test_asked_by_another_name(void **state) {
    static const char *const here[] = {
        "localhost",    "localhost:8080", "LocalHost", "shop.localhost:1",
        "127.0.0.1",    "127.9.9.9:8080", "[::1]",     "[::1]:8080",
        "0.0.0.0:8080", "[::]:80",        "db1",       "db1:8080",
    };
    static const char *const elsewhere[] = {
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.localhost.com",
        "192.0.2.1",
        "192.0.2.1:8080",
        "[2001:db8::1]:80",
        "evil.example.",
        "xlocalhost.",
        "1.0.0.127",
        ".localhost.",
    };
    static const char *const proxies[] = {"X-Forwarded-For: 192.0.2.1\r\n", "x-real-ip: ::1\r\n",
                                          "Forwarded: for=127.0.0.1\r\n"};
    static struct site_access site;
    char error[SITE_ACCESS_ERROR_BYTES], request[512];
    struct fixture f = {.options = {0}};
    const struct gateway_options options = {.access = &f.options};
    (void)state;
    f.b = bench_new(&options);
    struct fake_stream *s = local_http(&f);
    for (size_t i = 0; i < ARRAY_COUNT(here); i++)
        expect_named(&f, s, here[i], "", 404);
    for (size_t i = 0; i < ARRAY_COUNT(elsewhere); i++)
        expect_named(&f, s, elsewhere[i], "", 401);
    for (size_t i = 0; i < ARRAY_COUNT(proxies); i++)
        expect_named(&f, s, "localhost", proxies[i], 401);
    /* Nor is a page of another site, for what it embeds. */
    expect_named(&f, s, "localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image\r\n",
                 401);
    expect_named(&f, s, "localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe\r\n",
                 401);
    expect_named(&f, s, "localhost", "Sec-Fetch-Site: cross-site\r\n", 401);
    expect_named(&f, s, "localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document\r\n",
                 404);
    expect_named(&f, s, "localhost", "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Dest: empty\r\n",
                 404);
    expect_named(&f, s, "localhost", "Sec-Fetch-Site: none\r\nSec-Fetch-Dest: document\r\n", 404);
    expect(f.b, s, "GET /v1/kv/a HTTP/1.0\r\n\r\n", 404, NULL);
    s = local_http(&f);
    expect_named(&f, s, "evil.example", "Authorization: Basic x\r\n", 401);
    expect(f.b, s, "POST /_/tokens HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}",
           401, "by another name");
    expect(f.b, s,
           "POST /v1/redis HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 8\r\n\r\n[\"PING\"]",
           401, NULL);
    /* What everybody may see, they may; and with a token whatever it says. */
    expect(f.b, s, "GET /_/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, NULL);
    make(&f, ADMIN, "{\"admin\":true}");
    snprintf(request, sizeof request, "Authorization: Bearer %s\r\n", f.texts[ADMIN]);
    expect_named(&f, s, "evil.example", request, 404);
    /* Rules for visitors hold for them. */
    assert_true(site_access_parse(slice_str("read public/*\n"), &site, error));
    f.options.site = &site;
    expect_named(&f, s, "shop.example", "", 404);
    expect_named(&f, s, "localhost", proxies[0], 404);
    expect(f.b, s, "GET /v1/kv/a HTTP/1.1\r\nHost: shop.example\r\n\r\n", 401, NULL);
    end(&f);
    site_access_fini(&site);
    /* Who trusts the network trusts them too, as long as nothing closes it. */
    f = (struct fixture){.options = {.insecure = true}};
    f.b = bench_new(&options);
    s = local_http(&f);
    expect_named(&f, s, "db1.example", "", 404);
    make(&f, ADMIN, "{\"admin\":true}");
    poll_tokens(&f);
    expect_named(&f, s, "db1.example", "", 401);
    end(&f);
}

static void test_deployer(void **state) {
    struct fixture f;
    char field[256];
    (void)state;
    begin(&f);
    make(&f, OTHER, "{\"name\":\"ci\",\"deploy\":true}");
    snprintf(field, sizeof field, "Authorization: Bearer %s\r\n", f.texts[OTHER]);
    assert_int_equal(with(&f, "GET /v1/sites", field), 200);
    assert_int_equal(with(&f, "GET /v1/kv/a", field), 403);
    assert_int_equal(with(&f, "GET /_/tokens", field), 403);
    end(&f);
}

/* ---- commands ----------------------------------------------------------------------------------
 */

/* Those whose verdict does not follow from their keys: with any token, with `read *` only, with
 * `admin` only. */
static const struct {
    const char *name, *who;
} keyless[] = {
    {"AUTH", "any"},      {"HELLO", "any"},    {"QUIT", "any"},     {"RESET", "any"},
    {"PING", "any"},      {"ECHO", "any"},     {"SELECT", "any"},   {"COMMAND", "any"},
    {"INFO", "any"},      {"TIME", "any"},     {"MULTI", "any"},    {"EXEC", "any"},
    {"DISCARD", "any"},   {"UNWATCH", "any"},  {"CONFIG", "admin"}, {"FLUSHALL", "admin"},
    {"FLUSHDB", "admin"}, {"CLIENT", "admin"}, {"DBSIZE", "all"},   {"RANDOMKEY", "all"},
    {"KEYS", "all"},      {"SCAN", "all"},
};

/* A line with as few arguments as the command takes, its keys being `key`. */
static void command_line(const struct command *c, const char *key, char out[512]) {
    size_t argc = (size_t)(c->arity < 0 ? -c->arity : c->arity), n;
    struct command_keys keys = {.first = 1, .last = 0, .step = 1};
    if (strcmp(c->name, "OBJECT") == 0) {
        snprintf(out, 512, "OBJECT ENCODING %s\r\n", key);
        return;
    }
    (void)command_key_range(c, argc, &keys);
    n = (size_t)snprintf(out, 512, "%s", c->name);
    for (size_t i = 1; i < argc; i++) {
        bool is_key = i >= keys.first && i <= keys.last && (i - keys.first) % keys.step == 0;
        const char *other = strcmp(c->name, "CLIENT") == 0   ? "LIST"
                            : strcmp(c->name, "CONFIG") == 0 ? "GET"
                                                             : "1";
        n += (size_t)snprintf(out + n, 512 - n, " %s", is_key ? key : other);
    }
    snprintf(out + n, 512 - n, "\r\n");
}

static const char *run(struct fixture *f, enum credential c, const char *line) {
    static char reply[4096];
    struct fake_stream *s = bench_redis(f->b);
    f->b->now_ms += 1000;
    if (c != NONE) {
        char login[128];
        snprintf(login, sizeof login, "AUTH %s\r\n", f->texts[c]);
        bench_feed(f->b, s, slice_str(login), SIZE_MAX);
        const char *said = bench_received(s);
        bool known = c >= OTHER;
        if (strcmp(said, known ? "+OK\r\n" : WRONGPASS) != 0)
            fail_msg("AUTH with credential %d: %s", c, said);
    }
    bench_feed(f->b, s, slice_str(line), SIZE_MAX);
    snprintf(reply, sizeof reply, "%s", bench_received(s));
    if (!s->closed)
        bench_hang_up(f->b, s);
    else
        bench_drop_stream(s);
    return reply;
}

static bool refused(const char *reply) {
    return strncmp(reply, "-NOPERM", 7) == 0 || strncmp(reply, "-NOAUTH", 7) == 0;
}

static const char *who_of(const struct command *c) {
    for (size_t i = 0; i < ARRAY_COUNT(keyless); i++)
        if (strcmp(keyless[i].name, c->name) == 0)
            return keyless[i].who;
    return NULL;
}

static void check(struct fixture *f, const struct command *c, enum credential who, const char *key,
                  bool expect_refusal) {
    char line[512];
    command_line(c, key, line);
    const char *reply = run(f, who, line);
    if (refused(reply) != expect_refusal)
        fail_msg("credential %d: %s -> %s", who, line, reply);
}

static void test_commands(void **state) {
    struct fixture f;
    size_t count;
    (void)state;
    begin(&f);
    const struct command *all = command_all(&count);
    for (size_t i = 0; i < count; i++) {
        const struct command *c = &all[i];
        const char *who = who_of(c);
        if (c->flags & CMD_INTERNAL)
            continue;
        if (!access_command_has_rule(c) ||
            (!who && c->key_step == 0 && strcmp(c->name, "OBJECT") != 0))
            fail_msg("who may use %s? Add it to access_command.c and to this test.", c->name);
        bool free = (c->flags & CMD_NO_AUTH) && strcmp(c->name, "HELLO") != 0;
        for (int n = NONE; n <= REVOKED; n++)
            check(&f, c, (enum credential)n, "mine/k", !free);
        bool any = who && strcmp(who, "any") == 0;
        bool writes = (c->flags & CMD_WRITE) != 0;
        check(&f, c, OTHER, "mine/k", !any);
        check(&f, c, READER, "mine/k", !any && (who || writes));
        check(&f, c, WRITER, "mine/k", !any && who);
        check(&f, c, WRITER, "yours/k", !any);
        check(&f, c, ADMIN, "yours/k", false);
    }
    end(&f);
}

static void test_redis_users(void **state) {
    struct fixture f;
    char line[256];
    (void)state;
    begin(&f);
    struct fake_stream *s = bench_redis(f.b);
    bench_talk(f.b, s, "PING\r\n", NOAUTH);
    bench_talk(f.b, s, "NOSUCH\r\n",
               "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    bench_talk(f.b, s, "HELLO 3\r\n",
               "-NOAUTH HELLO must be called with the client already authenticated, otherwise the "
               "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
               "select the RESP protocol version at the same time\r\n");
    struct fake_stream *large = bench_redis(f.b);
    bench_talk(f.b, large, "*3\r\n$3\r\nSET\r\n$6\r\nmine/a\r\n$16385\r\n",
               "-ERR Protocol error: unauthenticated bulk length\r\n");
    large = bench_redis(f.b);
    snprintf(line, sizeof line, "AUTH %s\r\n*3\r\n$3\r\nSET\r\n$6\r\nmine/a\r\n$16385\r\n",
             f.texts[WRITER]);
    bench_talk(f.b, large, line, "+OK\r\n");
    bench_hang_up(f.b, large);
    snprintf(line, sizeof line, "AUTH bob %s\r\n", f.texts[WRITER]);
    bench_talk(f.b, s, line, WRONGPASS);
    snprintf(line, sizeof line, "AUTH writer %s\r\n", f.texts[WRITER]);
    bench_talk(f.b, s, line, "+OK\r\n");
    bench_talk(f.b, s, "SET mine/a 1\r\nGET mine/a\r\nSET a 1\r\n",
               "+OK\r\n$1\r\n1\r\n" NOPERM_KEY);
    bench_talk(f.b, s, "AUTH nonsense\r\nGET mine/a\r\n", WRONGPASS "$1\r\n1\r\n");
    bench_talk(f.b, s, "MGET mine/a b\r\nMSET mine/a 2 b 2\r\n", NOPERM_KEY NOPERM_KEY);
    bench_talk(f.b, s, "KEYS mine/*\r\n", "*1\r\n$6\r\nmine/a\r\n");
    bench_talk(f.b, s, "KEYS *\r\nSCAN 0\r\n", NOPERM_KEY NOPERM_KEY);
    bench_talk(f.b, s, "CONFIG GET x\r\n",
               "-NOPERM User writer has no permissions to run the 'config|get' command\r\n");
    bench_talk(f.b, s, "FLUSHALL\r\n",
               "-NOPERM User writer has no permissions to run the 'flushall' command\r\n");
    bench_talk(f.b, s, "MULTI\r\nGET mine/a\r\nGET b\r\nEXEC\r\n",
               "+OK\r\n+QUEUED\r\n" NOPERM_KEY
               "-EXECABORT Transaction discarded because of previous errors.\r\n");
    snprintf(line, sizeof line, "AUTH default %s\r\n", f.texts[READER]);
    bench_talk(f.b, s, line, "+OK\r\n");
    bench_talk(f.b, s, "SET mine/a 1\r\nWATCH b\r\nRESET\r\nPING\r\n",
               NOPERM_KEY NOPERM_KEY "+RESET\r\n" NOAUTH);
    snprintf(line, sizeof line, "HELLO 2 AUTH default %s SETNAME me\r\n", f.texts[WRITER]);
    bench_feed(f.b, s, slice_str(line), SIZE_MAX);
    assert_memory_equal(bench_received(s), "*14\r\n", 5);
    bench_talk(f.b, s, "SET mine/a 1 GET\r\nCOPY b mine/a\r\n", "$1\r\n1\r\n" NOPERM_KEY);
    /* Revoked: the connection is nobody's any more. */
    struct fake_stream *l = local_http(&f);
    snprintf(line, sizeof line, "DELETE /_/tokens/%s" HOST "\r\n", f.ids[WRITER]);
    expect(f.b, l, line, 204, NULL);
    poll_tokens(&f);
    bench_talk(f.b, s, "GET mine/a\r\n", NOAUTH);
    /* What may not be read may not be taken by a write either. */
    make(&f, OTHER, "{\"name\":\"w\",\"write\":[\"mine/*\"]}");
    struct fake_stream *w = bench_redis(f.b);
    snprintf(line, sizeof line, "AUTH w %s\r\n", f.texts[OTHER]);
    bench_talk(f.b, w, line, "+OK\r\n");
    bench_talk(f.b, w,
               "SET mine/a 2\r\nSET mine/a 1 GET\r\nGETDEL mine/a\r\nRENAME mine/a mine/b\r\n",
               "+OK\r\n" NOPERM_KEY NOPERM_KEY NOPERM_KEY);
    end(&f);
}

static void test_commands_over_http(void **state) {
    struct fixture f;
    char request[512];
    (void)state;
    begin(&f);
    struct fake_stream *s = bench_http(f.b);
    expect(f.b, s, BODY("POST", "/v1/redis", "8", "[\"PING\"]"), 401,
           "\"error\":\"this needs a token");
    const char *body = "[[\"SET\",\"mine/a\",\"1\"],[\"GET\",\"b\"],[\"FLUSHALL\"]]";
    snprintf(request, sizeof request,
             "POST /v1/redis/pipeline" HOST
             "Authorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n%s",
             f.texts[WRITER], strlen(body), body);
    expect(f.b, s, request, 200,
           "[{\"result\":\"OK\"},{\"error\":\"NOPERM No permissions to access a key\"},"
           "{\"error\":\"NOPERM User writer has no permissions to run the 'flushall' command\"}]");
    static const char *const bodies[] = {
        "{\"if\":[{\"key\":\"b\",\"exists\":true}],\"then\":[{\"get\":\"mine/a\"}]}",
        "{\"then\":[{\"get\":\"b\"}]}",
        "{\"then\":[{\"delete\":\"b\"}]}",
        "{\"else\":[{\"incr\":\"b\"}]}",
        "{\"then\":[{\"redis\":[\"GET\",\"b\"]}]}",
        "{\"then\":[{\"redis\":[\"FLUSHALL\"]}]}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        snprintf(request, sizeof request,
                 "POST /v1/txn" HOST "Authorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n%s",
                 f.texts[WRITER], strlen(bodies[i]), bodies[i]);
        expect(f.b, s, request, 403, "\"applied\":\"no\"");
    }
    body = "{\"if\":[{\"key\":\"mine/a\",\"exists\":true}],\"then\":[{\"redis\":[\"GET\",\"mine/"
           "a\"]}]}";
    snprintf(request, sizeof request,
             "POST /v1/txn" HOST "Authorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n%s",
             f.texts[WRITER], strlen(body), body);
    expect(f.b, s, request, 200, NULL);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_routes),
                                       cmocka_unit_test(test_http_credentials),
                                       cmocka_unit_test(test_new_and_revoked),
                                       cmocka_unit_test(test_revoked_while_the_body_comes),
                                       cmocka_unit_test(test_listing),
                                       cmocka_unit_test(test_unavailable),
                                       cmocka_unit_test(test_visitors),
                                       cmocka_unit_test(test_watchers_without_a_token),
                                       cmocka_unit_test(test_idempotency_keys_of_visitors),
                                       cmocka_unit_test(test_asked_by_another_name),
                                       cmocka_unit_test(test_admin_of_the_operator),
                                       cmocka_unit_test(test_deployer),
                                       cmocka_unit_test(test_commands),
                                       cmocka_unit_test(test_redis_users),
                                       cmocka_unit_test(test_commands_over_http)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
