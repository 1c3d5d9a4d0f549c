"""Many connections, slow and hostile clients, limits, the access log, and stops that lose nothing."""

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import BINARY, PATIENCE, Node, eventually

IDLE_LOAD = pathlib.Path(BINARY).resolve().parent
while not (IDLE_LOAD / "tests/lib/idle_load").exists() and IDLE_LOAD != IDLE_LOAD.parent:
    IDLE_LOAD = IDLE_LOAD.parent
IDLE_LOAD = IDLE_LOAD / "tests/lib/idle_load"
HEALTH = b"GET /_/health HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def crowd(node, count, *options):
    """Connections that do nothing, or next to nothing; yields a function that asks and returns what it prints."""
    process = subprocess.Popen([IDLE_LOAD, node.addresses["http"], str(count), *options], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        first = process.stdout.readline()
        assert first.startswith("open "), first

        def order(word):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            words = process.stdout.readline().split()
            return {"answered" if words[0] == "answered" else "alive": int(words[1]), "closed": int(words[5])}

        yield order
    finally:
        process.stdin.close()
        process.wait(60)


def metric(node, name):
    text = node.http("GET", "/_/metrics").body.decode()
    return int(re.search(rf"^cotidal_gateway_{name} (\d+)$", text, re.M).group(1))


def connect(node, source="127.0.0.1", which="http"):
    return socket.create_connection(node.address(which), timeout=30 * PATIENCE, source_address=(source, 0))


def answer(s, request=HEALTH):
    """The status and whether it says that it closes."""
    s.sendall(request)
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = s.recv(65536)
        assert piece, raw
        raw += piece
    return int(raw.split(b" ", 2)[1]), b"\r\nConnection: close\r\n" in raw


@pytest.fixture
def node(cluster):
    """A function: one node with these options."""
    return lambda *options: cluster(1, arguments=options).nodes[0]


# ---- many

def test_ten_thousand_idle_connections(node):
    n = node()
    most = int(n.addresses["connections"])
    count = min(10000, most - 200)
    with crowd(n, count) as order:
        assert order("count") == {"alive": count, "closed": 0}
        assert n.put("a", b"1").status == 201
        eventually(lambda: metric(n, "connections_parked") >= count, what="all of them at rest")
        assert order("ask") == {"answered": count, "closed": 0}
        assert n.get("a").body == b"1"


def test_two_web_servers_on_one_port(cluster):
    c = cluster(1, role="db")
    one = c.add_web()
    two = Node(c.folder, "web2", "web", one.arguments)
    two.addresses = {"http": one.addresses["http"]}
    c.webs.append(two)
    two.start()
    assert two.addresses["http"] == one.addresses["http"]
    with crowd(one, 400) as order:
        shares = [sum(1 for _ in pathlib.Path(f"/proc/{w.process.pid}/fd").iterdir()) for w in (one, two)]
        assert min(shares) > 100, shares  # the kernel spreads them
        assert order("ask") == {"answered": 400, "closed": 0}
    one.kill()
    for i in range(50):
        assert two.put(f"k{i}", b"1").status == 201


# ---- limits

def test_the_limit_on_connections(node):
    n = node("--connections", "20")
    assert n.addresses["connections"] == "20"

    def client(which):
        """One that is in: the harness's own connections may still be going away."""
        s = connect(n, which=which)
        s.sendall(HEALTH if which == "http" else b"PING\r\n")
        raw = s.recv(4096)
        if raw.startswith((b"HTTP/1.1 200 ", b"+PONG")):
            return s
        s.close()
        return None

    clients = [eventually(lambda: client(which)) for which in ["http"] * 10 + ["redis"] * 10]
    assert [answer(s) for s in clients[:10]] == [(200, False)] * 10
    for i in range(40):
        with connect(n) as s:
            raw = b""
            with contextlib.suppress(OSError):
                s.sendall(HEALTH)
            with contextlib.suppress(OSError):
                while piece := s.recv(65536):
                    raw += piece
            # A crowd of refused clients may be closed at once; the first ones are told.
            assert raw.startswith(b"HTTP/1.1 503 ") or i >= 10
            assert not raw or (b"Connection: close" in raw and b'"code":"busy"' in raw)
    with connect(n, which="redis") as s:
        assert s.recv(100) in (b"-ERR max number of clients reached\r\n", b"")
    assert [answer(s) for s in clients[:10]] == [(200, False)] * 10
    for s in clients[:5]:
        s.close()

    def room():
        with connect(n) as s:
            return answer(s)[0] == 200

    eventually(room, what="a place for a new client")
    for s in clients:
        s.close()


def test_few_descriptors(tmp_path):
    """The start-up line says how many clients there is room for, and all of them are answered."""
    n = Node(tmp_path, "few", launcher=["prlimit", "--nofile=500:500", "--"])
    n.start()
    try:
        most = int(n.addresses["connections"])
        assert 100 <= most < 500
        with crowd(n, most) as order:
            assert order("ask")["answered"] == most
            with connect(n) as s:
                assert answer(s) == (503, True)
        eventually(lambda: n.put("a", b"1").status == 201)
    finally:
        n.stop()
    n.check_log()


def test_options_that_make_no_sense(tmp_path):
    for options, part in ((["--rate-limit", "5"], "N/s"), (["--connections", "999999999"], "open files"),
                          (["--access-format", "xml"], "combined or json"), (["--idle-timeout", "0s"], "100ms"),
                          (["--max-header", "64K"], "32K"), (["--access-log", "/nowhere/a.log"], "No such file")):
        run = subprocess.run([BINARY, "web", "--db", "127.0.0.1:1", "--http", "127.0.0.1:0", "--redis", "off", *options],
                             capture_output=True, text=True, timeout=30 * PATIENCE)
        assert run.returncode != 0 and part in run.stderr, (options, run)


def test_limits_by_address(node):
    n = node("--per-address", "5", "--rate-limit", "2/s,10")
    with contextlib.ExitStack() as stack:
        mine = [stack.enter_context(connect(n, "127.0.0.9")) for _ in range(5)]
        statuses = [answer(s)[0] for s in mine for _ in range(4)]
        assert statuses[:10] == [200] * 10
        assert 429 in statuses[10:]
        sixth = stack.enter_context(connect(n, "127.0.0.9"))
        assert answer(sixth) == (429, True)
        other = stack.enter_context(connect(n, "127.0.0.8"))
        assert answer(other) == (200, False)
    raw = b""
    with connect(n, "127.0.0.7") as s:
        s.sendall(HEALTH * 11)
        while raw.count(b"HTTP/1.1 ") < 11:
            raw += s.recv(65536)
    assert re.search(rb"HTTP/1.1 429 .*\r\n(.*\r\n)*Retry-After: 1\r\n", raw)
    assert b'"code":"rate_limited","applied":"no"' in raw


def test_limits_of_a_connection(node):
    n = node("--keepalive-requests", "3", "--max-header", "2K", "--max-body", "1K")
    with connect(n) as s:
        assert [answer(s) for _ in range(3)] == [(200, False), (200, False), (200, True)]
        assert s.recv(10) == b""
    with connect(n) as s:
        assert answer(s, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2048 + b"\r\n\r\n") == (431, True)
    assert n.put("a", b"x" * 1024).status == 201
    assert n.put("a", b"x" * 1025).status == 413
    with pytest.raises(Exception, match="invalid bulk length"):
        n.redis().set("a", b"x" * 1025)


# ---- slow and hostile clients

@pytest.fixture(scope="module")
def besieged(tmp_path_factory):
    n = Node(tmp_path_factory.mktemp("besieged"), "besieged",
             arguments=["--header-timeout", "1s", "--idle-timeout", "1s", "--send-timeout", "1s"])
    n.start()
    yield n
    n.stop()
    n.check_log()


def use(n, requests=200):
    """A client like any other: each of its requests must succeed."""
    connection = http.client.HTTPConnection(*n.address("http"), timeout=30 * PATIENCE)
    for i in range(requests):
        connection.request("PUT" if i % 4 == 0 else "GET", "/v1/kv/used", b"1" if i % 4 == 0 else None)
        response = connection.getresponse()
        response.read()
        assert response.status in (200, 201, 204)
    connection.close()


def test_slow_clients_slow_nobody(besieged):
    """10,000 half heads, heads that drip in, clients that say nothing and clients that read nothing: all at once, while
    others work. Each is ended by a time limit."""
    besieged.put("large", b"x" * 2_000_000)
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(crowd(besieged, count, f"mode={mode}", "path=/v1/kv/large"))
                  for mode, count in (("unread", 50), ("silent", 1000), ("drip", 500), ("half", 10000))]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for f in [pool.submit(use, besieged) for _ in range(4)]:
                f.result()
        for order in crowds[1:]:
            eventually(lambda: order("count")["alive"] == 0, what="all of them are closed", every=0.3)
        use(besieged, 20)
        # To those that read nothing the end comes behind what they do not read.
        eventually(lambda: metric(besieged, "connections_http") <= 2, what="the last ones are closed")
    assert metric(besieged, "input_bytes") < 1 << 20 and metric(besieged, "output_bytes") < 1 << 20


def test_header_floods(besieged):
    for flood in (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 20000, b"GET / HTTP/1.1\r\n" + b"x" * 100_000,
                  b"\r\n" * 50_000, b"GET " + b"/" * 100_000):
        raw = besieged.exchange("http", flood)
        assert not raw or int(raw.split(b" ", 2)[1]) in (400, 414, 431), raw
    use(besieged, 20)


def test_many_tiny_requests_in_a_pipeline(besieged):
    """One client sends 50,000 requests at once and takes its time; another one is answered in between."""
    count = 50_000
    with connect(besieged) as s:
        def flood():
            with contextlib.suppress(OSError):
                s.sendall(HEALTH * count)

        thread = threading.Thread(target=flood)
        thread.start()
        use(besieged, 50)
        got, tail = 0, b""
        while got < count:
            raw = s.recv(1 << 20)
            assert raw
            raw = tail + raw
            got += raw.count(b"HTTP/1.1 200 ")
            tail = raw[-12:]  # too short for one, long enough for one that was cut
        thread.join()


# ---- the access log

def lines_of(path, part="/v1/kv/"):
    """Without those of the harness, which asks for the status."""
    return [entry for entry in path.read_text().splitlines() if part in entry] if path.exists() else []


def test_access_log_is_reopened(node, tmp_path):
    log = tmp_path / "access.log"
    n = node("--access-log", log, "--threads", "1")
    for i in range(9):
        n.get(f"k{i}", User_Agent="test/1")
    n.get("k9", User_Agent='ev"il\\\xff')
    n.exchange("http", b'GET /v1/kv/\x1b[31m" HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\n\r\n')
    eventually(lambda: len(lines_of(log)) == 11)
    line = re.compile(r'^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /v1/kv/k\d HTTP/1.1" 404 \d+ "-" "test/1" '
                      r'\d+\.\d{6}$')
    lines = lines_of(log)
    assert all(line.match(entry) for entry in lines[:9]), lines
    assert r'"-" "ev\x22il\x5C\xFF" ' in lines[9]
    assert r'"GET /v1/kv/\x1B[31m\x22 HTTP/1.1" 400 ' in lines[10]
    for number, moved in ((signal.SIGUSR1, "old1"), (signal.SIGHUP, "old2")):
        log.rename(tmp_path / moved)
        n.signal(number)
        eventually(log.exists)
        n.get("after")
        eventually(lambda: len(lines_of(log)) == 1)
    assert len(lines_of(tmp_path / "old1")) == 11


def test_access_log_as_json(node, tmp_path):
    log = tmp_path / "access.json"
    n = node("--access-log", log, "--access-format", "json", "--threads", "1")
    n.put("a", b"12345")
    n.http("GET", "/v1/kv/a?min_rev=0", headers={"Referer": 'http://x/"\\'})
    n.exchange("http", b"GET /v1/kv/\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: len(lines_of(log)) == 3)
    entries = [json.loads(entry) for entry in lines_of(log)]
    assert [e["status"] for e in entries] == [201, 200, 400]
    assert entries[0]["method"] == "PUT" and entries[0]["duration_ms"] > 0
    assert entries[1]["target"] == "/v1/kv/a?min_rev=0" and entries[1]["bytes"] == 5 and entries[1]["referer"] == 'http://x/"\\'
    assert entries[2]["request"] == "GET /v1/kv/\x1b[31m HTTP/1.1"
    assert all(e["client"] == "127.0.0.1" and e["time"].endswith("Z") for e in entries)


def test_access_log_that_cannot_be_written(node):
    n = node("--access-log", "/dev/full")
    use(n, 200)
    eventually(lambda: "event=access-log-lost" in n.log())


# ---- stopping

def test_a_stop_finishes_what_was_begun(node):
    n = node("--drain-timeout", "20s")
    with connect(n) as upload, connect(n) as idle:
        assert answer(idle) == (200, False)
        upload.sendall(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        eventually(lambda: metric(n, "input_bytes") > 0)
        n.process.terminate()
        eventually(lambda: idle.recv(10) == b"")
        with pytest.raises(OSError):
            connect(n).close()
        assert answer(upload, b"67890") == (201, True)
    assert n.process.wait(30 * PATIENCE) == 0
    n._forget()
    n.start()
    assert n.get("a").body == b"1234567890"


def test_a_stop_ends_in_time(node):
    n = node("--drain-timeout", "300ms")
    with connect(n) as stuck:
        stuck.sendall(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        eventually(lambda: metric(n, "connections_http") >= 2)
        n.stop()


def test_a_second_signal_ends_at_once(node):
    n = node("--drain-timeout", "10m")
    with connect(n) as stuck:
        stuck.sendall(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        n.process.terminate()
        eventually(lambda: "event=stopping" in n.log())
        time.sleep(0.1)
        n.process.terminate()
        assert n.process.wait(30 * PATIENCE) == 128 + signal.SIGTERM
    n._forget()


class Visitors:
    """Clients on kept connections that try nothing twice: they open another one when an answer says so."""

    def __init__(self, address, count):
        self.address, self.errors, self.done, self.stop = address, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.visit, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def visit(self, number):
        connection = None
        while not self.stop.is_set():
            try:
                connection = connection or http.client.HTTPConnection(*self.address, timeout=30 * PATIENCE)
                connection.request("PUT", f"/v1/kv/visitor{number}", b"1")
                response = connection.getresponse()
                response.read()
                if response.status not in (201, 204):
                    self.errors.append(response.status)
                if response.getheader("Connection") == "close":
                    connection.close()
                    connection = None
                self.done += 1
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                connection = None
        if connection:
            connection.close()

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def test_a_rolling_restart_loses_no_request(cluster):
    c = cluster(1, role="db")
    one = c.add_web()
    two = Node(c.folder, "web2", "web", one.arguments)
    two.addresses = {"http": one.addresses["http"]}
    c.webs.append(two)
    two.start()
    visitors = Visitors(one.address("http"), 8)
    try:
        for web in (one, two, one, two):
            before = visitors.done
            eventually(lambda: visitors.done > before + 200 or visitors.errors)
            web.restart()
        before = visitors.done
        eventually(lambda: visitors.done > before + 200 or visitors.errors)
    finally:
        visitors.finish()
    assert not visitors.errors, visitors.errors
