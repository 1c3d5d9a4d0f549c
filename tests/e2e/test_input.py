"""Wrong input: each gets a precise error, nothing that was stored is harmed, and the process lives."""

import random
import re

import pytest
import redis

from harness import eventually


@pytest.fixture(autouse=True)
def unharmed(solo):
    """What was there before each test is there after it, and the same process answers."""
    solo.redis().set("before", "still here")
    pid = solo.process.pid
    yield
    assert solo.running() and solo.process.pid == pid
    assert solo.redis().get("before") == b"still here"
    assert solo.get("before").status == 200


@pytest.mark.parametrize("request_bytes", [
    b"GARBAGE\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nBad\x00Name: y\r\n\r\n",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
], ids=lambda b: repr(b[:40]))
def test_malformed_http_gets_an_error_and_closes(solo, request_bytes):
    answer = solo.exchange("http", request_bytes)
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 501, 505), answer
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1
    assert b"onnection: close" in answer


def test_header_limit(solo):
    answer = solo.exchange("http", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/v1/nosuch", 404),
    ("GET", "/v1/kv/%zz", 400),
    ("GET", "/v1/kv/" + "k" * 70_000, (400, 413, 414, 431)),
    ("PATCH", "/v1/kv/a", 405),
    ("DELETE", "/_/status", 405),
    ("PUT", "/v1/kv/a?ttl=never", 400),
    ("PUT", "/v1/kv/a?ttl=-5s", 400),
    ("PUT", "/v1/kv/a?nosuch=1", 400),
    ("GET", "/v1/kv?limit=abc", 400),
    ("POST", "/v1/incr/a?by=x", 400),
    ("GET", "/v1/incr/a", 405),
], ids=lambda v: str(v)[:40])
def test_precise_errors(solo, method, path, status):
    answer = solo.http(method, path, b"value" if method == "PUT" else None)
    assert answer.status in (status if isinstance(status, tuple) else (status,)), answer
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["code"] and problem["applied"] == "no"
    if answer.status == 405:
        assert "GET" in answer.headers["Allow"] or "POST" in answer.headers["Allow"]


def test_wrong_conditions(solo):
    assert solo.put("wrong-condition", b"x", If_Match="no quotes").status == 400
    assert solo.get("wrong-condition").status == 404


@pytest.mark.parametrize("body", [
    "", "{", "[]", '{"if":1}', '{"then":[{"redis":["NOSUCH"]}]}', '{"then":[{"redis":["GET"]}]}', '{"then":[{"put":"a"}]}',
    '{"if":[{"key":1,"rev":0}],"then":[]}', "[" * 5000, '{"then":[{"redis":["KV.PUT","a","b","","","",""]}]}',
    '{"then":[{"get":"a","nosuch":1}]}', '{"then":[{"incr":"a","by":1.5}]}',
], ids=lambda b: b[:40])
def test_wrong_transactions(solo, body):
    answer = solo.http("POST", "/v1/txn", body, {"Content-Type": "application/json"})
    assert answer.status in (400, 422), answer


def test_incr_of_what_is_no_number(solo, key):
    solo.put(key, b"abc")
    assert solo.http("POST", f"/v1/incr/{key}").status in (400, 409, 422)
    assert solo.get(key).body == b"abc"


def test_value_over_the_limit(solo, key):
    answer = solo.exchange("http", b"PUT /v1/kv/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                           % (key.encode(), 1 << 40))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert solo.get(key).status == 404


@pytest.mark.parametrize("data, words", [
    (b"*x\r\n", b"invalid multibulk length"),
    (b"*1\r\n!3\r\nfoo\r\n", b"expected '$', got '!'"),
    (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    (b"*1\r\n$999999999999\r\n", b"invalid bulk length"),
    (b"*99999999999\r\n", b"invalid multibulk length"),
    (b"GET " + b"a" * 70_000, b"too big inline request"),
    (b"SET 'a\r\n", b"unbalanced quotes in request"),
], ids=lambda b: repr(b[:30]))
def test_malformed_resp_in_redis_words(solo, data, words):
    assert solo.exchange("redis", data) == b"-ERR Protocol error: " + words + b"\r\n"


def test_key_over_the_limit(solo):
    with pytest.raises(redis.ResponseError):
        solo.redis().set("k" * 70_000, "x")


def test_random_bytes(solo):
    """A short look only: the fuzz targets do this in depth."""
    rand = random.Random(20)
    for _ in range(60):
        data = bytes(rand.choice(b"GET /v1kv\r\n*$:0123+-%{}\x00\xff\"") for _ in range(rand.randint(1, 400)))
        for listener in ("http", "redis"):
            with solo.socket(listener) as s:
                s.sendall(data)


def test_strangers_on_the_peer_port(solo):
    rand = random.Random(21)
    for prefix in (b"", b"GET / HTTP/1.1\r\n\r\n", b"CTL1", b"CTL1\xff\xff\xff\xff\xff", b"CTL1\x05\x00\x00\x00\x02",
                   b"RAFT", b"SNAP"):
        with solo.socket("peer") as s:
            s.sendall(prefix + rand.randbytes(300))


def test_connections_that_go_away_in_the_middle(solo, key):
    for _ in range(30):
        with solo.socket("redis") as s:
            s.sendall(b"SET %s x\r\nGET %s\r\n*3\r\n$3\r\nSET\r\n$100\r\nabc" % (key.encode(), key.encode()))
        with solo.socket("http") as s:
            s.sendall(b"PUT /v1/kv/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc" % key.encode())
    eventually(lambda: solo.redis().get(key) == b"x")
