"""Tokens, users of the Redis protocol, rules for visitors, pages of other origins."""

import json
import os
import subprocess
import time

import pytest
import redis

from harness import BINARY, Cluster, Node, eventually

WRONG = "ct_" + "0" * 64


def cli(*words, token=None, code=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COTIDAL_T")}
    if token:
        environment["COTIDAL_TOKEN"] = token
    done = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == code, done
    return done.stdout.strip(), done.stderr


def bearer(token, **more):
    return {"Authorization": f"Bearer {token}", **more}


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A database node that also serves, and a web server in front of it; both ask everybody for a token."""
    folder = tmp_path_factory.mktemp("closed")
    admin, _ = cli("token", "new")
    (folder / "admin.token").write_text(admin + "\n")
    (folder / "access").write_text("read public/*\nincr likes/* rate=1/s,3\nsession\n")
    arguments = ["--require-auth", "--map-size", "128M", "--admin-token-file", folder / "admin.token", "--anonymous-access", folder / "access",
                 "--cors-origin", "https://shop.example", "--access-log", "access.log"]
    node = Node(folder, "node", arguments=arguments).start()
    web = Node(folder, "web", "web", ["--db", node.addresses["peer"], "--require-auth"]).start()
    node.admin, node.web = admin, web
    node.admin_file = folder / "admin.token"
    yield node
    for each in (web, node):
        each.stop()
        each.check_log()
        assert "ct_" not in each.log()


def create(node, *words):
    made, _ = cli("token", "create", "--to", node.url(), "--json", "--token-file", str(node.admin_file), *words)
    return json.loads(made)


def test_a_token_through_its_life(closed):
    made = create(closed, "--name", "carts", "--read", "public/*,carts/*", "--write", "carts/*")
    token = made["token"]
    for each in (closed, closed.web):  # at once, and everywhere
        assert each.http("GET", "/v1/kv/carts/a", headers=bearer(token)).status == 404
        assert each.http("GET", "/v1/kv/other", headers=bearer(token)).status == 403
        assert each.http("GET", "/v1/kv/carts/a", headers=bearer(WRONG)).status == 401
        assert each.http("GET", "/v1/kv/carts/a").status == 401
        assert each.http("GET", "/_/health").status == 200
        assert each.http("GET", "/_/status").status == 401
        assert each.http("GET", "/_/status", headers=bearer(token)).status == 200
        r = each.redis(username="carts", password=token)
        assert r.set("carts/r", "1") and r.get("carts/r") == b"1"
        with pytest.raises(redis.exceptions.NoPermissionError):
            r.set("public/r", "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            r.flushall()
        with pytest.raises(redis.exceptions.AuthenticationError):
            each.redis().get("carts/r")
        with pytest.raises(redis.RedisError, match="WRONGPASS"):
            each.redis(username="carts", password=WRONG).get("carts/r")
    answer = closed.http("PUT", "/v1/kv/public/a", b"1", bearer(token))
    assert answer.status == 403 and answer.json()["applied"] == "no" and answer.json()["code"] == "forbidden"
    assert answer.headers["WWW-Authenticate"] is None
    assert closed.http("PUT", "/v1/kv/carts/a", b"1").headers["WWW-Authenticate"].startswith("Bearer")
    listed, _ = cli("token", "list", "--to", closed.url(), token=closed.admin)
    assert "carts" in listed and made["id"] in listed and token not in listed
    cli("token", "list", "--to", closed.url(), token=token, code=4)
    cli("token", "list", "--to", closed.url(), code=4)
    kept = closed.web.redis(password=token)
    assert kept.get("carts/r") == b"1"
    cli("token", "revoke", made["id"], "--to", closed.url(), token=closed.admin)
    cli("token", "revoke", made["id"], "--to", closed.url(), token=closed.admin, code=4)
    for each in (closed, closed.web):
        eventually(lambda: each.http("GET", "/v1/kv/carts/a", headers=bearer(token)).status == 401)  # noqa: B023
    eventually(lambda: shut_out(kept), what="each thread to hear of it")


def shut_out(r):
    try:
        r.get("carts/r")
    except redis.exceptions.AuthenticationError:
        return True
    return False


def test_expiry(closed):
    token = create(closed, "--read", "*", "--ttl", "1s")["token"]
    eventually(lambda: closed.http("GET", "/v1/kv/x", headers=bearer(token)).status == 401)


def test_http2(closed):
    token = create(closed, "--read", "*")["token"]

    def status(*more):
        return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--http2-prior-knowledge", *more,
                               closed.url("/v1/kv/none")], capture_output=True, text=True, timeout=30).stdout

    assert status() == "401"
    assert status("-H", f"Authorization: Bearer {WRONG}") == "401"
    assert status("-H", f"Authorization: Bearer {token}") == "404"
    assert status("-X", "PUT", "-d", "x", "-H", f"Authorization: Bearer {token}") == "403"


def test_visitors(closed):
    assert closed.http("GET", "/v1/kv/public/none").status == 404
    assert closed.http("GET", "/v1/kv?prefix=public/").status == 200
    assert closed.http("GET", "/v1/kv?prefix=").status == 401
    assert closed.http("PATCH", "/v1/session", b"{}").status == 201
    statuses = [closed.http("POST", "/v1/incr/likes/a").status for _ in range(8)]
    assert statuses[0] == 200 and 429 in statuses
    assert closed.http("PUT", "/v1/kv/likes/a", b"1").status == 401
    assert closed.web.http("GET", "/v1/kv/public/none").status == 401  # has no such rules


def test_a_site_brings_its_rules(closed, tmp_path):
    """For its own host name; where it has none, those of the process hold."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<h1>shop</h1>")
    (site / "_access").write_text("read shop/*\nwrite box/*\n")
    ci = create(closed, "--name", "ci", "--deploy")["token"]
    words = ["deploy", str(site), "--to", closed.url(), "--site", "shop", "--host", "shop.test"]
    cli(*words, code=4)
    cli(*words, token=ci)
    shop = {"Host": "shop.test"}
    assert closed.http("GET", "/", headers=shop).body == b"<h1>shop</h1>"
    assert closed.http("GET", "/_access", headers=shop).status == 404
    assert closed.http("GET", "/v1/kv/shop/a", headers=shop).status == 404
    assert closed.http("GET", "/v1/kv/shop/a").status == 401
    assert closed.http("PUT", "/v1/kv/box/a", b"1", shop).status == 201
    assert closed.http("GET", "/v1/kv/box/a", headers=shop).status == 401
    assert closed.http("GET", "/v1/kv/public/a", headers=shop).status == 401
    assert closed.http("GET", "/v1/sites", headers=shop).status == 401
    assert eventually(lambda: closed.web.http("GET", "/v1/kv/shop/a", headers=shop).status == 404)
    (site / "_access").write_text("read shop/*\nsteal box/*\n")
    _, err = cli(*words, token=ci, code=1)
    assert "_access: line 2" in err
    # What a deploy takes back ends for those who are here, too, and for nobody else.
    with closed.socket("http") as kept, closed.socket("http") as taken:
        for stream, prefix in ((kept, "shop/old/"), (taken, "shop/")):
            stream.sendall(f"GET /v1/watch?prefix={prefix} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
            assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        (site / "_access").write_text("read shop/old/*\n")
        cli(*words, token=ci)
        assert received(taken, b"0\r\n\r\n")
        assert closed.http("PUT", "/v1/kv/shop/old/a", b"1", bearer(closed.admin)).status == 201
        assert b"0\r\n\r\n" not in received(kept, b"shop/old/a")
        assert closed.http("GET", "/v1/watch?prefix=shop/", headers=shop).status == 401


def received(stream, until):
    """What comes, to these bytes."""
    got = b""
    while until not in got:
        more = stream.recv(4096)
        assert more, got
        got += more
    return got


def test_other_origins(closed):
    page = {"Origin": "https://shop.example"}
    answer = closed.http("OPTIONS", "/v1/kv/a", headers={**page, "Access-Control-Request-Method": "PUT"})
    assert answer.status == 204 and answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    answer = closed.http("PUT", "/v1/kv/a", b"1", bearer(closed.admin, **page))
    assert answer.status == 201 and answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    answer = closed.http("GET", "/v1/kv/a", headers=page)
    assert answer.status == 401 and answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    evil = closed.http("PUT", "/v1/kv/a", b"1", bearer(closed.admin, Origin="https://evil.example"))
    assert evil.status == 403 and evil.headers["Access-Control-Allow-Origin"] is None


def test_secrets_are_nowhere(closed):
    made = create(closed, "--name", "secret", "--read", "*")
    token = made["token"]
    assert closed.http("GET", "/v1/kv/none", headers=bearer(token)).status == 404
    assert closed.redis(password=token).get("none") is None
    backup = closed.folder / "backup"
    cli("backup", str(backup), "--from", closed.url(), token=closed.admin)
    time.sleep(0.3)  # the access log is written every 0.1 s
    places = [backup, closed.folder / "access.log", closed.log_path, closed.web.log_path]
    places += [p for p in closed.data.rglob("*") if p.is_file()]
    for place in places:
        content = place.read_bytes()
        assert token.encode() not in content and closed.admin.encode() not in content, place
    for pid in (closed.process.pid, closed.web.process.pid):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            assert b"ct_" not in f.read()


def test_tokens_survive_a_restart_and_stand_in_every_copy(tmp_path):
    made = Cluster(tmp_path, 3)
    try:
        token = json.loads(cli("token", "create", "--to", made.nodes[0].url(), "--json", "--read", "a")[0])["token"]
        for n in made.nodes:
            assert n.http("GET", "/v1/kv/a", headers=bearer(token)).status == 404
            assert n.http("GET", "/v1/kv/b", headers=bearer(token)).status == 403
            assert n.http("GET", "/v1/kv/b").status == 404  # a client of this machine
            n.redis().flushall()
        made.nodes[1].restart()
        assert made.nodes[1].http("GET", "/v1/kv/b", headers=bearer(token)).status == 403
    finally:
        made.close()


def refused(*arguments):
    done = subprocess.run([BINARY, "serve", "--peer", "127.0.0.1:0", "--redis", "off", "--http", "127.0.0.1:0", *arguments],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done
    return done.stderr


def test_options(tmp_path):
    data = ["--data", str(tmp_path / "data")]
    bad = tmp_path / "bad"
    bad.write_text("read a\nfly away\n")
    assert "line 2" in refused(*data, "--anonymous-access", str(bad))
    assert "no token" in refused(*data, "--admin-token-file", str(bad))
    assert "No such file" in refused(*data, "--admin-token-file", str(tmp_path / "none"))
    assert "an origin is like" in refused(*data, "--cors-origin", "shop.example")
    assert "--auth" in refused(*data, "--http", "0.0.0.0:0")
    assert "--auth" not in refused(*data, "--auth", "--peer", "0.0.0.0:0")
    node = Node(tmp_path, "open", arguments=["--auth"], host="0.0.0.0")
    node.arguments += ["--peer", "127.0.0.1:0"]
    node.start()
    node.stop()
