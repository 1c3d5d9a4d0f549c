"""Nodes in network namespaces of their own, joined by a switch that the test controls, and clients that write
down what they were told.

    lab = Lab(folder)                 three nodes and a place for clients
    lab.cut(lab.nodes[0], lab.nodes[1])              packets from one to the other are lost, not those back
    load = lab.load(mix="all")        50 HTTP and 50 Redis connections from now on
    ...
    history = load.finish()           raises when the judge finds anything wrong
    lab.close()

The switch is tests/lib/virtual_net.c, the clients are tests/lib/load.c, the judge is tests/sim/judge.c. While a Lab is
open, the thread that made it is in the clients' namespace, so that it reaches the nodes; what it starts is there too.
"""

import ctypes
import json
import os
import pathlib
import select
import subprocess
import time

from harness import BINARY, PATIENCE, Cluster, Node, eventually

BUILD = pathlib.Path(BINARY).resolve().parents[2]
SWITCH = BUILD / "tests/lib/virtual_net"
LOAD = BUILD / "tests/lib/load"
JUDGE = BUILD / "tests/sim/judge"
CLONE_NEWNET = 0x40000000


class NotPermitted(Exception):
    """This machine does not let us make networks; the text says what is missing."""


class Switch:
    """The network: ends are counted from 1, end N has the address 10.77.0.N."""

    def __init__(self, ends, seed=1):
        if not SWITCH.exists():
            raise NotPermitted(f"there is no {SWITCH}: the build has no tests (-Dtests=true)")
        self.process = subprocess.Popen([SWITCH, str(ends), str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        if not words:
            why = self.process.stderr.read().strip()
            code = self.process.wait()
            if code == 77:
                raise NotPermitted(why)
            raise RuntimeError(f"the switch ended with {code}: {why}")
        self.namespaces = [f"/proc/{words[1]}/fd/{fd}" for fd in words[2:]]
        self.ends = ends

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer.startswith("ok"), f"{command}: {answer}"
        return answer

    def set(self, sender, receiver, loss=0, delay_ms=0, jitter_ms=0):
        """Loss in packets of 1,000."""
        self.tell(f"set {sender} {receiver} {loss} {int(delay_ms * 1000)} {int(jitter_ms * 1000)}")

    def heal(self):
        self.tell("heal")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        self.process.stderr.close()


def enter(namespace):
    """Moves this thread into a network namespace. Returns where it was, as an open file."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    fd = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    failed = libc.setns(fd, CLONE_NEWNET)
    if not isinstance(namespace, int):
        os.close(fd)
    if failed:
        os.close(before)
        raise NotPermitted(f"setns: {os.strerror(ctypes.get_errno())}")
    return before


class LabCluster(Cluster):
    def __init__(self, switch, folder, size, arguments=()):
        self.switch = switch
        super().__init__(folder, size, arguments=["--insecure", *arguments])

    def make_node(self, name, arguments):
        end = len(self.nodes) + 1
        node = Node(self.folder, name, self.role, arguments, host=f"10.77.0.{end}",
                    launcher=["nsenter", f"--net={self.switch.namespaces[end - 1]}"])
        node.end = end
        return node


class Lab:
    def __init__(self, folder, size=3, arguments=(), seed=1):
        self.folder = pathlib.Path(folder)
        self.switch = Switch(size + 1, seed)
        self.cluster = None
        self.home = None
        self.loads = []
        try:
            self.home = enter(self.switch.namespaces[size])
            self.cluster = LabCluster(self.switch, self.folder, size, arguments)
        except BaseException:
            self._leave()
            raise
        self.nodes = self.cluster.nodes

    # ---- the network

    def cut(self, sender, receiver):
        self.switch.set(sender.end, receiver.end, loss=1000)

    def isolate(self, node):
        """From the other nodes, both ways. Clients still reach it."""
        for other in self.nodes:
            if other is not node:
                self.cut(node, other)
                self.cut(other, node)

    def all_ways(self, **how):
        """The same for every direction between two nodes."""
        for a in self.nodes:
            for b in self.nodes:
                if a is not b:
                    self.switch.set(a.end, b.end, **how)

    def heal(self):
        self.switch.heal()

    # ---- clients

    def load(self, **settings):
        load = Load(self, len(self.loads), settings)
        self.loads.append(load)
        return load.wait_ready()

    # ---- the end

    def _leave(self):
        if self.home is not None:
            enter(self.home)
            os.close(self.home)
            self.home = None
        self.switch.close()

    def close(self):
        try:
            for load in self.loads:
                load.abort()
            self.heal()
            self.cluster.close()
        finally:
            self._leave()


class Op:
    """One operation of a history; times in seconds of time.monotonic()."""

    __slots__ = ("client", "start", "end", "outcome", "kind", "key")

    def __init__(self, words):
        self.client = int(words[0])
        self.start = int(words[1]) / 1e9
        self.end = int(words[2]) / 1e9
        self.outcome, self.kind, self.key = words[3:6]

    @property
    def took(self):
        return self.end - self.start


class History:
    def __init__(self, path, verdict):
        self.verdict = verdict  # the judge's last line
        self.ops = []
        self.addresses = {}  # client -> "host:port"
        self.protocols = {}  # client -> "http" or "redis"
        self.broken = []  # (client, time, why)
        self.errors = []  # (client, time, text)
        self.malformed = []  # likewise
        for line in path.read_text(errors="replace").splitlines():
            words = line.split(" ")
            if words[0] != "#":
                self.ops.append(Op(words))
            elif words[1] == "client":
                self.protocols[int(words[2])], self.addresses[int(words[2])] = words[3:5]
            else:
                entry = (int(words[2]), int(words[3]) / 1e9, " ".join(words[4:]))
                {"broken": self.broken, "error": self.errors, "malformed": self.malformed}[words[1]].append(entry)

    def clients_of(self, node):
        mine = (node.addresses["http"], node.addresses["redis"])
        return {c for c, address in self.addresses.items() if address in mine}

    def ended(self, begin, end, clients=None):
        return [o for o in self.ops if begin <= o.end < end and (clients is None or o.client in clients)]

    def longest(self, begin, end, clients=None):
        """The longest that any of these clients waited for an answer that came in that time."""
        return max((o.took for o in self.ended(begin, end, clients)), default=0.0)


class Load:
    """Steady clients on all nodes, or on `nodes`. Settings are those of tests/lib/load.c."""

    def __init__(self, lab, number, settings):
        self.path = lab.folder / f"history{number}"
        nodes = settings.pop("nodes", lab.nodes)
        settings = {"prefix": f"load{number}-", "interval": 40 * PATIENCE, **settings}
        settings["http"] = ",".join(n.addresses["http"] for n in nodes)
        settings["redis"] = ",".join(n.addresses["redis"] for n in nodes)
        self.process = subprocess.Popen([LOAD, self.path, *(f"{k}={v}" for k, v in settings.items())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _line(self, seconds):
        line = b""
        deadline = time.monotonic() + seconds * PATIENCE
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert readable, "the load did not come to an end in time"
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, f"the load ended with {self.process.wait()}"
            line += byte
        return line.decode().strip()

    def wait_ready(self):
        assert self._line(30) == "ready"
        return self

    def finish(self):
        """Waits for all that is under way, and has it judged."""
        self.process.stdin.close()
        self.counts = json.loads(self._line(60))
        assert self.process.wait() == 0
        self.process.stdout.close()
        judged = subprocess.run([JUDGE, self.path], capture_output=True, text=True)
        lines = judged.stdout.strip().splitlines()
        assert judged.returncode == 0, f"the history in {self.path} is not good:\n" + "\n".join(lines[-20:])
        return History(self.path, lines[-1])

    def abort(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_leader(lab, besides=None):
    """The node that all running nodes but `besides` take for the leader, and that is not `besides`."""

    def find():
        others = [n for n in lab.nodes if n.running() and n is not besides]
        said = {str(n.status()["leader"]) for n in others}
        found = [n for n in others if said == {str(n.id)}]
        return found[0] if found else None

    return eventually(find, what="a leader among the others")
