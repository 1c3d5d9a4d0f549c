"""The key-value part of HTTP, on one node."""

import json
import random
import re
import subprocess
import threading
import time

import pytest

from harness import eventually


def revision(answer):
    assert answer.etag.startswith('"') and answer.etag.endswith('"'), answer.etag
    return int(answer.etag.strip('"'))


def test_put_get_delete(solo, key):
    created = solo.put(key, b"high \x00\xff water", Content_Type="application/x-tide")
    assert created.status == 201
    read = solo.get(key)
    assert (read.status, read.body) == (200, b"high \x00\xff water")
    assert read.headers["Content-Type"] == "application/x-tide"
    assert read.etag == created.etag

    replaced = solo.put(key, b"low")
    assert replaced.status == 204
    assert revision(replaced) > revision(created)
    assert solo.get(key).body == b"low"

    assert solo.http("DELETE", f"/v1/kv/{key}").status == 204
    assert solo.get(key).status == 404
    assert solo.http("DELETE", f"/v1/kv/{key}").status == 404


def test_head_has_the_headers_and_no_body(solo, key):
    solo.put(key, b"12345", Content_Type="text/plain")
    head = solo.http("HEAD", f"/v1/kv/{key}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == "5"
    assert head.headers["Content-Type"] == "text/plain"
    assert head.etag == solo.get(key).etag
    assert solo.http("HEAD", "/v1/kv/never-there").status == 404


def test_conditions(solo, key):
    first = solo.put(key, b"1", If_None_Match="*")
    assert first.status == 201
    assert solo.put(key, b"2", If_None_Match="*").status == 412
    second = solo.put(key, b"2", If_Match=first.etag)
    assert second.status == 204
    refused = solo.put(key, b"3", If_Match=first.etag)
    assert refused.status == 412
    assert refused.json()["applied"] == "no"
    assert solo.get(key).body == b"2"
    assert solo.get(key, If_None_Match=second.etag).status == 304
    assert solo.get(key, If_None_Match=first.etag).status == 200
    assert solo.http("DELETE", f"/v1/kv/{key}", headers={"If-Match": first.etag}).status == 412
    assert solo.http("DELETE", f"/v1/kv/{key}", headers={"If-Match": second.etag}).status == 204
    assert solo.put(key, b"4", If_Match="*").status == 412
    assert solo.get(key).status == 404


def test_one_of_many_conditional_writers_wins(solo, key):
    base = solo.put(key, b"0").etag
    statuses = []

    def write(n):
        statuses.append(solo.put(key, str(n), If_Match=base).status)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(statuses) == [204] + [412] * 7


def test_expiry(solo, key):
    answer = solo.put(key, b"soon gone", "?ttl=500ms")
    assert answer.status == 201
    assert solo.get(key).headers["Kv-Expires"]
    eventually(lambda: solo.get(key).status == 404, seconds=10)
    # A plain PUT takes the expiry away, ?keepttl keeps it.
    solo.put(key, b"a", "?ttl=1h")
    solo.put(key, b"b", "?keepttl")
    assert solo.get(key).headers["Kv-Expires"]
    solo.put(key, b"c")
    assert solo.get(key).headers["Kv-Expires"] is None


def test_keys_of_any_bytes(solo):
    for encoded in ("a%20b", "a%2Fb", "%00%FF", "%E6%BD%AE", "x" * 2000):
        assert solo.put(encoded, encoded).status == 201
        assert solo.get(encoded).body == encoded.encode()
    assert solo.redis().get(b"\x00\xff") == b"%00%FF"
    assert solo.redis().get("a/b") == b"a%2Fb"


def test_listing(solo):
    for name in ("list/a", "list/b/1", "list/b/2", "list/c"):
        solo.put(name.replace("/", "%2F"), name)
    page = solo.http("GET", "/v1/kv?prefix=list/&limit=3")
    assert page.status == 200
    assert [k["key"] for k in page.json()["keys"]] == ["list/a", "list/b/1", "list/b/2"]
    assert 'rel="next"' in page.headers["Link"]
    # The state is at least as new as the newest key on the page, whose entry's index is the upper part.
    newest = max(int(k["revision"]) for k in page.json()["keys"])
    assert int(page.json()["revision"]) >> 20 >= newest >> 20
    rest = solo.http("GET", f"/v1/kv?prefix=list/&after=list/b/2&min_rev={page.json()['revision']}")
    assert [k["key"] for k in rest.json()["keys"]] == ["list/c"]
    assert rest.headers["Link"] is None


def test_increments(solo, key):
    assert solo.http("POST", f"/v1/incr/{key}").status == 200
    assert solo.http("POST", f"/v1/incr/{key}?by=41").status == 200
    assert solo.get(key).body == b"42"
    assert solo.http("POST", f"/v1/incr/{key}?by=10&max=50").status == 409
    assert solo.http("POST", f"/v1/incr/{key}?by=-2").status == 200
    assert solo.get(key).body == b"40"


def test_concurrent_increments_all_count(solo, key):
    def add():
        for _ in range(25):
            assert solo.http("POST", f"/v1/incr/{key}").status == 200

    threads = [threading.Thread(target=add) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert solo.get(key).body == b"200"


def test_large_value_streams_through(solo, key):
    value = bytes(range(256)) * 4096 * 5
    assert solo.put(key, value).status == 201
    assert solo.get(key).body == value


def test_chunked_request(solo, key):
    answer = solo.http("PUT", f"/v1/kv/{key}", iter([b"in ", b"three ", b"parts"]))
    assert answer.status == 201
    assert solo.get(key).body == b"in three parts"


def test_pipelined_requests_are_answered_in_order(solo, key):
    data = b"".join(b"PUT /v1/kv/%s-%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d"
                    b"GET /v1/kv/%s-%d HTTP/1.1\r\nHost: x\r\n\r\n" % (key.encode(), i, i, key.encode(), i)
                    for i in range(30))
    data += b"GET /v1/kv/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = solo.exchange("http", data)
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert statuses == [b"201", b"200"] * 30 + [b"404"]
    positions = [answer.index(b"\r\n\r\n%02d" % i) for i in range(30)]
    assert positions == sorted(positions)


def test_bytes_one_at_a_time(solo, key):
    with solo.socket("http") as s:
        for byte in b"PUT /v1/kv/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" % key.encode():
            s.sendall(bytes([byte]))
            time.sleep(0.0005)
        assert s.recv(4096).startswith(b"HTTP/1.1 201 ")


def test_expect_continue(solo, key):
    with solo.socket("http") as s:
        s.sendall(b"PUT /v1/kv/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                  b"Expect: 100-continue\r\n\r\n" % key.encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 100 ")
        s.sendall(b"body")
        assert s.recv(4096).startswith(b"HTTP/1.1 201 ")


def test_curl(solo, key, tmp_path):
    """What the README tells people to type; a megabyte makes curl ask for 100-continue."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"tide" * 262144)
    url = solo.url(f"/v1/kv/{key}")
    subprocess.run(["curl", "-sSf", "-T", source, url], check=True, timeout=60)
    subprocess.run(["curl", "-sSf", "-o", target, url], check=True, timeout=60)
    assert target.read_bytes() == source.read_bytes()


def test_own_pages(solo):
    assert solo.http("GET", "/_/health").status == 200
    eventually(lambda: solo.http("GET", "/_/ready").status == 200)
    welcome = solo.http("GET", "/")
    assert welcome.status == 200
    assert welcome.headers["Content-Type"].startswith("text/html")
    assert b"cotidal" in welcome.body
    dashboard = solo.http("GET", "/_/")
    assert dashboard.status == 200 and b"dashboard.js" in dashboard.body
    assert "default-src 'none'" in dashboard.headers["Content-Security-Policy"]
    metrics = solo.http("GET", "/_/metrics")
    assert metrics.status == 200
    assert b"cotidal_" in metrics.body
    for line in metrics.body.decode().splitlines():
        assert line.startswith("#") or len(line.split()) == 2, line


def test_status(solo):
    status = solo.status()
    assert str(status["leader"]) == str(solo.id) == str(status["node"])
    assert status["ready"] is True
    (member,) = status["members"]
    assert member["role"] == "voter" and member["alive"] is True
    assert member["http"] == solo.addresses["http"]
    assert status["commit"] >= status["applied"] > 0


@pytest.mark.parametrize("guard, status, stored", [
    ({"key": "txn-a", "value": "1"}, 200, [b"2", b"0"]),
    ({"key": "txn-a", "value": "9"}, 412, [b"0", b"else"]),
    ({"key": "txn-a", "exists": True}, 200, [b"2", b"0"]),
    ({"key": "txn-nothing", "exists": True}, 412, [b"0", b"else"]),
    ({"key": "txn-nothing", "rev": 0}, 200, [b"2", b"0"]),
], ids=str)
def test_transaction(solo, guard, status, stored):
    client = solo.redis()
    client.mset({"txn-a": "1", "txn-b": "0", "txn-c": "0"})
    body = {"if": [guard], "then": [{"put": "txn-b", "value": "1"}, {"incr": "txn-b"}, {"get": "txn-a"}],
            "else": [{"redis": ["SET", "txn-c", "else"]}]}
    answer = solo.http("POST", "/v1/txn", json.dumps(body), {"Content-Type": "application/json"})
    assert answer.status == status, answer
    assert client.mget("txn-b", "txn-c") == stored


def test_transfers_keep_the_sum(solo):
    """Each transfer is one transaction over two keys; many at once must not create or destroy anything."""
    accounts = [f"account-{i}" for i in range(4)]
    client = solo.redis()
    client.mset({a: 100 for a in accounts})

    def transfer(seed):
        rand = random.Random(seed)
        for _ in range(25):
            source, target = rand.sample(accounts, 2)
            body = {"then": [{"incr": source, "by": -1}, {"incr": target, "by": 1}]}
            assert solo.http("POST", "/v1/txn", json.dumps(body)).status == 200

    threads = [threading.Thread(target=transfer, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(map(int, client.mget(accounts))) == 400
