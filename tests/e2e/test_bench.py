"""The load generator: what it sends arrives, and what it counts is true. Against our nodes, and against servers made
here that stall, close and fail when they are told to."""

import contextlib
import http.server
import json
import socketserver
import threading
import time

import pytest

from test_cli import cotidal


def bench(*words):
    code, out, err = cotidal("bench", "--json", *(str(w) for w in words))
    assert out, err
    return code, json.loads(out)


class Handler(socketserver.StreamRequestHandler):
    """A Redis server as far as it is needed: answers every command with what `script` says."""

    def handle(self):
        with contextlib.suppress(ConnectionError):
            while header := self.rfile.readline():
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(header[1:]))]
                answer = self.server.script(words)
                if answer is None:
                    return
                self.wfile.write(answer)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 100


@contextlib.contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield "%s:%d" % server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def redis_server(script):
    server = Server(("127.0.0.1", 0), Handler)
    server.script = script
    return serving(server)


def test_fill_and_get(solo):
    redis = solo.redis()
    code, r = bench(solo.addresses["redis"], "--fill", "--keys", 300, "--size", "1K", "--clients", 7, "--pipeline", 3, "--threads", 2)
    assert code == 0 and r["requests"] == 300 and r["error"] is None
    values = redis.mget([f"bench:{i:010d}" for i in range(300)])
    assert all(len(v) == 1024 for v in values)
    assert redis.get("bench:0000000300") is None
    for address in (solo.addresses["redis"], solo.url()):
        code, r = bench(address, "--command", "get", "--keys", 300, "--requests", 400, "--clients", 5, "--pipeline", 4)
        assert code == 0 and r["requests"] == 400 and r["operations"][0]["misses"] == 0
        assert r["operations"][0]["us"]["count"] == 400
        code, r = bench(address, "--command", "GET nosuch:{key}" if "http" not in address else "GET /v1/kv/nosuch:{key}", "--requests", 10)
        assert r["operations"][0]["misses"] + r["operations"][0]["errors"] == 10


@pytest.mark.parametrize("protocol", ["redis", "http"])
def test_each_request_is_made_once(trio, protocol):
    """Counters say how many arrived."""
    client = trio.nodes[0].redis()
    before = sum(int(v or 0) for v in client.mget([f"count:bench:{i:010d}" for i in range(20)]))
    addresses = f"{protocol}://" + ",".join(n.addresses[protocol] for n in trio.nodes)
    code, r = bench(addresses, "--command", "incr", "--keys", 20, "--requests", 500, "--clients", 9, "--threads", 3, "--pipeline", 2)
    assert code == 0 and r["requests"] == 500
    after = sum(int(v or 0) for v in client.mget([f"count:bench:{i:010d}" for i in range(20)]))
    assert after - before == 500


def test_a_ratio_and_a_time(solo):
    code, r = bench(solo.url(), "--command", "mixed", "--ratio", "1:1", "--duration", "300ms", "--warm-up", "0", "--interval", "100ms",
                    "--server-pids", solo.process.pid)
    assert code == 0 and r["seconds"] == pytest.approx(0.3)
    sets, gets = r["operations"]
    assert sets["name"] == "set" and sets["requests"] > 0 and gets["requests"] > 0
    assert sum(i["requests"] for i in r["intervals"]) == r["requests"] and len(r["intervals"]) == 3
    assert r["server_cpu_seconds"] > 0


def test_an_open_loop_charges_a_stall_to_all_who_waited():
    """200 requests a second for a second, and a server that stops answering for 0.6 s after the tenth: the 80 that were
    due in the first 0.4 s of that waited for 0.2 s or longer, though one connection has one of them on its way."""
    seen = []

    def script(words):
        seen.append(words)
        if len(seen) == 10:
            time.sleep(0.6)
        return b"+OK\r\n"

    with redis_server(script) as address:
        code, r = bench(address, "--rate", 200, "--clients", 1, "--duration", "1s", "--warm-up", "0")
        operation = r["operations"][0]
        assert operation["us"]["count"] == 200, "every request that was due has its time"
        assert operation["us"]["p90"] >= 200_000
        assert r["longest_pause_ms"] >= 600
        assert code == (0 if operation["unanswered"] + r["unsent"] == 0 else 1)
        seen.clear()
        code, r = bench(address, "--clients", 1, "--requests", 200)
        assert code == 0 and r["operations"][0]["us"]["max"] >= 600_000


def test_no_answer_by_the_end():
    gone = threading.Event()
    with redis_server(lambda words: gone.wait(20) and None) as address:
        code, r = bench(address, "--clients", 3, "--duration", "200ms", "--warm-up", "0")
        gone.set()
    assert code == 1 and r["requests"] == 0
    assert r["operations"][0]["unanswered"] == 3
    assert r["operations"][0]["us"]["min"] >= 200_000


def test_failures_are_counted():
    answers = {b"SET": b"-ERR no room\r\n", b"GET": b"$-1\r\n", b"INCR": b":1\r\n", b"WAIT": b":1\r\n"}
    with redis_server(lambda words: answers[words[0]]) as address:
        code, r = bench(address, "--requests", 30)
        assert (code, r["operations"][0]["errors"], r["error"]) == (1, 30, "ERR no room")
        code, r = bench(address, "--requests", 30, "--command", "get")
        assert (code, r["operations"][0]["misses"], r["error"]) == (0, 30, None)
        code, r = bench(address, "--requests", 30, "--command", "incr", "--wait", 1)
        assert (code, r["requests"], r["error"]) == (0, 30, None)
        code, r = bench(address, "--requests", 30, "--command", "incr", "--wait", 2)
        assert code == 1 and r["operations"][0]["errors"] == 30 and "WAIT" in r["error"]


def test_connections_that_break_are_made_again():
    lock = threading.Lock()
    seen = []

    def script(words):
        with lock:
            seen.append(words)
            return None if len(seen) % 10 == 0 else b"+OK\r\n"

    with redis_server(script) as address:
        code, r = bench(address, "--requests", 100, "--clients", 2)
    assert code == 1 and r["requests"] == 100 and len(seen) == 100
    assert r["lost_connections"] == 10 and r["operations"][0]["errors"] == 10


def test_a_server_that_closes_behind_each_response():
    class Page(http.server.BaseHTTPRequestHandler):  # HTTP/1.0
        def do_GET(self):
            self.send_response(200 if self.path == "/page" else 500)
            self.end_headers()
            self.wfile.write(b"until the end")

        def log_message(self, *_):
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)) as address:
        code, r = bench("http://" + address, "--command", "GET /page", "--requests", 40, "--clients", 4)
        assert (code, r["requests"], r["lost_connections"], r["error"]) == (0, 40, 0, None)
        code, r = bench("http://" + address, "--command", "GET /other", "--requests", 4, "--clients", 4)
        assert code == 1 and r["operations"][0]["errors"] == 4 and "500" in r["error"]


def test_the_wrong_protocol(solo):
    with redis_server(lambda words: b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        code, r = bench(address, "--requests", 5)
        assert code == 1 and r["operations"][0]["errors"] == 5 and "Redis protocol" in r["error"]
    code, r = bench(solo.url().replace(solo.addresses["http"], solo.addresses["redis"]), "--requests", 5)
    assert code == 1 and r["operations"][0]["errors"] == 5


def test_text(solo):
    code, out, _ = cotidal("bench", solo.addresses["redis"], "--requests", "1200", "--pipeline", "8")
    text = out.decode()
    assert code == 0 and "1,200 requests" in text and "p99.9" in text and "\nset " in text


@pytest.mark.parametrize("words", [
    ["--clients", "0"], ["--clients", "x"], ["--rate", "-1"], ["--size", "65M"], ["--duration", "soon"], ["--duration", "0"],
    ["nowhere"], ["127.0.0.1:0"], ["127.0.0.1:1,"], ["--command", "mixed", "--ratio", "1"], ["--command", 'GET "a'],
    ["--command", "GET x", "http://127.0.0.1:1"], ["--wait", "1", "http://127.0.0.1:1"], ["--header", "A: b"],
    ["--fill", "--requests", "1"], ["--requests", "1", "--warm-up", "1s"], ["--interval", "1s", "--requests", "5"],
    ["--server-pids", "0"], ["--pipeline", "100000"],
])
def test_usage_errors(words):
    code, out, err = cotidal("bench", *words)
    assert (code, out) == (2, b"") and err.startswith("cotidal: ")


def test_nobody_there():
    with redis_server(lambda words: b"+OK\r\n") as address:
        pass
    code, out, err = cotidal("bench", address, "--requests", "1")
    assert (code, out) == (3, b"") and "Nothing was sent" in err and address in err
