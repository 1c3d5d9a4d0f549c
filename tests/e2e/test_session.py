"""/v1/session: a visitor's document, on every node."""

import json
import threading

from harness import eventually


def visit(node, method, patch=None, cookie=None):
    headers = {"Content-Type": "application/merge-patch+json"} if patch is not None else {}
    if cookie:
        headers["Cookie"] = cookie
    body = None if patch is None else json.dumps(patch).encode()
    answer = node.http(method, "/v1/session", body, headers)
    set_cookie = answer.headers.get("Set-Cookie")
    return answer, set_cookie.split(";")[0] if set_cookie else cookie


def test_a_session_follows_its_visitor(trio):
    one, two, three = trio.nodes
    answer, cookie = visit(one, "PATCH", {"cart": {"tea": 1}})
    assert answer.status == 201
    assert "HttpOnly; SameSite=Lax" in answer.headers["Set-Cookie"]
    assert visit(two, "PATCH", {"cart": {"milk": 2}}, cookie)[0].json() == {"cart": {"tea": 1, "milk": 2}}
    assert visit(three, "PATCH", {"cart": {"tea": None}}, cookie)[0].status == 200
    assert visit(one, "GET", cookie=cookie)[0].json() == {"cart": {"milk": 2}}
    assert visit(two, "DELETE", cookie=cookie)[0].status == 204
    for node in trio.nodes:
        assert visit(node, "GET", cookie=cookie)[0].status == 401
        assert visit(node, "PATCH", {"late": 1}, cookie)[0].status == 401


def test_the_cookie_is_not_in_the_files(trio):
    node = trio.nodes[0]
    _, cookie = visit(node, "PATCH", {"note": "in the files, as documents are"})
    token = cookie.split("=", 1)[1].encode()
    contents = [file.read_bytes() for file in node.data.rglob("*") if file.is_file() and file.name != "data.mdb"]
    assert any(b"in the files, as documents are" in c for c in contents)
    assert not any(token in c for c in contents)
    assert token not in node.log().encode()


def test_patches_at_once_are_all_in_it(trio):
    answer, cookie = visit(trio.nodes[0], "PATCH", {})
    statuses = []

    def patch(node, i):
        statuses.append(visit(node, "PATCH", {f"k{i}": i}, cookie)[0].status)

    threads = [threading.Thread(target=patch, args=(trio.nodes[i % 3], i)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert statuses == [200] * 12
    assert visit(trio.nodes[0], "GET", cookie=cookie)[0].json() == {f"k{i}": i for i in range(12)}


def test_sessions_are_not_among_the_keys(trio):
    node = trio.nodes[0]
    _, cookie = visit(node, "PATCH", {"secret": 1})
    token = cookie.split("=")[1]
    assert node.http("GET", f"/v1/kv/{token}").status == 404
    assert token not in node.http("GET", "/v1/kv?limit=10000").body.decode()
    assert node.redis().keys(f"{token}*") == []
    node.redis().flushall()
    assert visit(node, "GET", cookie=cookie)[0].json() == {"secret": 1}


def test_expiry(cluster):
    node = cluster(1, arguments=["--session-ttl", "1s"]).nodes[0]
    answer, cookie = visit(node, "PATCH", {"a": 1})
    assert "Max-Age=1;" in answer.headers["Set-Cookie"]
    eventually(lambda: visit(node, "GET", cookie=cookie)[0].status == 404 or None, every=1.2)
    answer, other = visit(node, "PATCH", {"a": 2}, cookie)
    assert answer.status == 201 and other != cookie
