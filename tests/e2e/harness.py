"""Real cotidal processes for the end-to-end tests.

A Node is one process with its own data folder, on free loopback ports that it reports itself in its start-up
line. A Cluster is several of them. Everything is stopped by process id. When a process is stopped politely
it must end with 0 and must not have printed a sanitizer's report.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("COTIDAL_BIN", str(ROOT / "build" / "cotidal"))
# Sanitizers make everything slower; time limits here end a hanging test, they are never an assertion.
SANITIZED = os.environ.get("COTIDAL_SANITIZE", "none") != "none"
PATIENCE = 4 if SANITIZED else 1

READY = re.compile(r"^cotidal: node (\S+) ready(.*)$")
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|check-failed|CHECK")


def eventually(condition, seconds=30, every=0.05, what=None):
    """Calls condition until it returns something true, and returns that. Exceptions count as not yet."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        error = None
        try:
            result = condition()
            if result:
                return result
        except (OSError, http.client.HTTPException, redis.RedisError, KeyError, ValueError) as caught:
            error = caught
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true in time: {what or condition} ({error!r})")
        time.sleep(every)


class Response:
    """An HTTP answer, read whole."""

    def __init__(self, answer):
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()

    def json(self):
        return json.loads(self.body)

    @property
    def etag(self):
        return self.headers["ETag"]

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Node:
    """One process. `arguments` are those besides --data and the listeners. It listens on `host`, and `launcher` is what
    its command is handed to (a program that ends in exec)."""

    def __init__(self, folder, name, role="serve", arguments=(), host="127.0.0.1", launcher=()):
        self.folder = pathlib.Path(folder)
        self.name = name
        self.role = role
        self.arguments = list(arguments)
        self.host = host
        self.launcher = list(launcher)
        self.data = self.folder / name
        self.log_path = self.folder / f"{name}.log"
        self.process = None
        self.id = None
        self.addresses = {}  # "http", "redis", "peer" -> "host:port", once ready

    # ---- the process

    def command(self):
        command = self.launcher + [BINARY, self.role]
        listeners = {"serve": ["http", "redis", "peer"], "db": ["peer"], "web": ["http", "redis"]}[self.role]
        for listener in listeners:
            command += [f"--{listener}", self.addresses.get(listener, f"{self.host}:0")]
        if self.role != "web":
            command += ["--data", str(self.data)]
        return command + [str(a) for a in self.arguments]

    def spawn(self):
        """Starts it without waiting."""
        assert self.process is None
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd=self.folder)
        return self

    def wait_ready(self, seconds=30):
        deadline = time.monotonic() + seconds * PATIENCE
        line = b""
        stdout = self.process.stdout
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([stdout], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"{self.name} was not ready in time:\n{self.log_tail()}"
            byte = os.read(stdout.fileno(), 1)
            assert byte, f"{self.name} ended with {self.process.wait()}:\n{self.log_tail()}"
            line += byte
        match = READY.match(line.decode().strip())
        assert match, f"{self.name} said {line!r}"
        self.id = match.group(1)
        self.addresses = dict(word.split("=", 1) for word in match.group(2).split())
        return self

    def start(self):
        return self.spawn().wait_ready()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        """As a power cut of the process: kill -9."""
        self.process.kill()
        self.process.wait()
        self._forget()

    def stop(self, seconds=30):
        """A polite stop; the node must end by itself, with 0."""
        self.process.terminate()
        try:
            code = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._forget()
            raise AssertionError(f"{self.name} did not stop:\n{self.log_tail()}") from None
        self._forget()
        assert code == 0, f"{self.name} ended with {code}:\n{self.log_tail()}"

    def restart(self):
        self.stop()
        return self.start()

    def _forget(self):
        self.process.stdout.close()
        self.process = None

    def wipe(self):
        assert self.process is None
        shutil.rmtree(self.data)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])

    def check_log(self):
        report = SANITIZER.search(self.log())
        assert not report, f"{self.name} reported:\n{self.log()[max(0, report.start() - 200):][:4000]}"

    # ---- talking to it

    def address(self, which):
        host, port = self.addresses[which].rsplit(":", 1)
        return host, int(port)

    def url(self, path=""):
        return f"http://{self.addresses['http']}{path}"

    def http(self, method, path, body=None, headers=None, timeout=30):
        connection = http.client.HTTPConnection(*self.address("http"), timeout=timeout * PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            return Response(connection.getresponse())
        finally:
            connection.close()

    def put(self, key, value, query="", **headers):
        return self.http("PUT", f"/v1/kv/{key}{query}", value, {k.replace("_", "-"): v for k, v in headers.items()})

    def get(self, key, **headers):
        return self.http("GET", f"/v1/kv/{key}", None, {k.replace("_", "-"): v for k, v in headers.items()})

    def redis(self, **options):
        host, port = self.address("redis")
        return redis.Redis(host, port, socket_timeout=30 * PATIENCE, **options)

    def socket(self, which):
        return socket.create_connection(self.address(which), timeout=30 * PATIENCE)

    def exchange(self, which, data):
        """Sends bytes as they are, and returns all that comes back until the node closes."""
        with self.socket(which) as s:
            # The node may close before it has read all.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := s.recv(65536):
                    answer += chunk
            return answer

    def status(self):
        answer = self.http("GET", "/_/status", timeout=5)
        assert answer.status in (200, 503), answer
        return answer.json()


class Cluster:
    """Nodes in sync. nodes[0] began the cluster, the others joined it."""

    def __init__(self, folder, size, role="serve", arguments=()):
        self.folder = pathlib.Path(folder)
        self.role = role
        self.arguments = list(arguments)
        self.nodes = []
        self.webs = []
        try:
            for _ in range(size):
                self.add()
            if role == "serve":
                self.wait_voters(size)
        except BaseException:
            self.abort()
            raise

    def add(self):
        """Starts one more node that joins through any running one."""
        arguments = list(self.arguments)
        running = [n for n in self.nodes if n.running()]
        if running:
            arguments += ["--join", running[0].addresses["peer"]]
        node = self.make_node(f"node{len(self.nodes) + 1}", arguments)
        self.nodes.append(node)
        return node.start()

    def make_node(self, name, arguments):
        return Node(self.folder, name, self.role, arguments)

    def add_web(self):
        seeds = ",".join(n.addresses["peer"] for n in self.nodes)
        web = Node(self.folder, f"web{len(self.webs) + 1}", "web", ["--db", seeds])
        self.webs.append(web)
        return web.start()

    def observers(self):
        return [n for n in self.webs + self.nodes if n.running() and "http" in n.addresses]

    def status(self):
        return self.observers()[0].status()

    def wait_voters(self, count):
        """Waits until there is a leader and `count` voters, as every node with HTTP sees it."""

        def settled():
            for node in self.observers():
                status = node.status()
                voters = [m for m in status["members"] if m["role"] == "voter"]
                if not status["leader"] or len(voters) != count:
                    return False
            return True

        eventually(settled, what=f"{count} voters and a leader")

    def by_id(self, node_id):
        return next(n for n in self.nodes if str(n.id) == str(node_id))

    def leader(self):
        """The node that leads: one that runs, and that every running node takes for the leader."""

        def find():
            said = {str(n.status()["leader"]) for n in self.observers()}
            if len(said) == 1:
                found = [n for n in self.nodes if str(n.id) in said and n.running()]
                return found[0] if found else None
            return None

        return eventually(find, what="a leader that all agree on")

    def followers(self):
        leader = self.leader()
        return [n for n in self.nodes if n.running() and n is not leader]

    def wait_equal_digests(self, nodes=None):
        """Waits until all nodes have applied the same index, and demands the same digest there."""
        nodes = nodes or [n for n in self.nodes if n.running()]

        def compared():
            seen = [n.status() for n in nodes]
            if len({s["applied"] for s in seen}) != 1:
                return None
            return seen

        seen = eventually(compared, what="the same applied index on all nodes")
        digests = {s["digest"] for s in seen}
        assert len(digests) == 1, f"at index {seen[0]['applied']} the copies differ: {digests}"
        assert int(digests.pop(), 16) != 0, "a digest of zero says that nothing was counted"
        return seen

    def close(self):
        """Stops what still runs, and checks every log."""
        everybody = self.webs + self.nodes
        problems = []
        for node in everybody:
            if node.process is not None:
                try:
                    node.stop()
                except AssertionError as error:
                    problems.append(str(error))
        for node in everybody:
            try:
                node.check_log()
            except AssertionError as error:
                problems.append(str(error))
        assert not problems, "\n\n".join(problems)

    def abort(self):
        """Ends everything without looking."""
        for node in self.webs + self.nodes:
            if node.process is not None:
                node.kill()


class Load:
    """Writers that note what was acknowledged, for tests that break something meanwhile.

    Each thread has keys of its own, and those that speak Redis a counter of their own. The first error
    ends a thread and is kept.
    """

    _made = 0

    def __init__(self, nodes, threads_per_node=2):
        Load._made += 1
        self.name = f"load{Load._made}"
        self.acknowledged = {}  # key -> value
        self.counts = {}  # counter -> acknowledged increments
        self.errors = []
        self.steps = []
        self.longest = []  # seconds between two steps, of each writer
        self._last = []
        self._stop = threading.Event()
        self._threads = []
        for node in nodes:
            for _ in range(threads_per_node):
                number = len(self.steps)
                self.steps.append(0)
                self.longest.append(0.0)
                self._last.append(None)
                target = self._over_http if number % 2 else self._over_redis
                self._threads.append(threading.Thread(target=self._run, args=(target, node, number), daemon=True))
        for thread in self._threads:
            thread.start()

    def _run(self, target, node, number):
        try:
            target(node, number)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client saw it
            self.errors.append(f"writer {number} on {node.name} after {self.steps[number]} steps: {error!r}")

    def _stepped(self, number):
        now = time.monotonic()
        if self._last[number] is not None:
            self.longest[number] = max(self.longest[number], now - self._last[number])
        self._last[number] = now
        self.steps[number] += 1

    def _over_redis(self, node, number):
        client = node.redis(single_connection_client=True)
        counter = f"{self.name}-count-{number}"
        self.counts[counter] = 0
        while not self._stop.is_set():
            key = f"{self.name}-{number}-{self.steps[number]}"
            assert client.set(key, key) is True
            self.acknowledged[key] = key
            answer = client.incr(counter)
            self.counts[counter] += 1
            assert answer == self.counts[counter], f"{counter} is {answer}, not {self.counts[counter]}"
            self._stepped(number)

    def _over_http(self, node, number):
        connection = http.client.HTTPConnection(*node.address("http"), timeout=30 * PATIENCE)
        while not self._stop.is_set():
            key = f"{self.name}-{number}-{self.steps[number]}"
            connection.request("PUT", f"/v1/kv/{key}", key)
            answer = Response(connection.getresponse())
            assert answer.status == 201, answer
            self.acknowledged[key] = key
            self._stepped(number)
        connection.close()

    def wait_steps(self, more):
        """Waits until every writer has done `more` further steps, or one has failed."""
        goal = [s + more for s in self.steps]
        eventually(lambda: self.errors or all(s >= g for s, g in zip(self.steps, goal)), seconds=60,
                   what=f"{more} more steps of each writer")
        assert not self.errors, self.errors

    def finish(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60 * PATIENCE)
        assert not self.errors, self.errors

    def check(self, node):
        """Everything acknowledged is there, exactly once."""
        client = node.redis()
        keys = list(self.acknowledged)
        for i in range(0, len(keys), 500):
            part = keys[i:i + 500]
            values = client.mget(part)
            lost = [k for k, v in zip(part, values) if v != self.acknowledged[k].encode()]
            assert not lost, f"acknowledged and not there on {node.name}: {lost[:10]} ({len(lost)} of {len(keys)})"
        for counter, count in self.counts.items():
            stored = int(client.get(counter) or 0)
            assert stored == count, f"{counter} was acknowledged {count} times and is {stored}"


def pause(node):
    node.signal(signal.SIGSTOP)


def resume(node):
    node.signal(signal.SIGCONT)
