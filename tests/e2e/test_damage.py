"""A stopped node whose files were damaged starts and is right, or refuses and says why: never wrong data.
`cotidal check` sees the damage too."""

import json
import pathlib
import random
import shutil
import subprocess

import pytest

from harness import BINARY, Cluster, Node, eventually

ARGUMENTS = ["--snapshot-bytes", "131072", "--map-size", "64M"]


def check(path):
    """The exit code and the report of `cotidal check --json`."""
    done = subprocess.run([BINARY, "check", "--json", str(path)], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A node that was stopped cleanly, with a snapshot, entries behind it, and what it must answer."""
    folder = tmp_path_factory.mktemp("damage")
    made = Cluster(folder, 1, arguments=ARGUMENTS)
    node = made.nodes[0]
    wanted = {f"key{i}": (f"value {i} " * (1 + i % 40)).encode() for i in range(600)}
    wanted["large"] = random.Random(1).randbytes(300_000)
    r = node.redis()
    r.mset(wanted)
    r.hset("hash", mapping={f"f{i}": "x" * 100 for i in range(60)})
    eventually(lambda: node.status()["snapshot_index"] > 0, what="a snapshot")
    wanted.update({f"later{i}": b"later" for i in range(20)})
    for i in range(20):
        r.set(f"later{i}", "later")
    digest = node.status()["digest"]
    made.close()
    return node.data, wanted, digest


@pytest.fixture
def damaged(stopped, tmp_path):
    """A function: copies the folder, hands the copy to `damage`, and judges what the node makes of it."""
    data, wanted, digest = stopped

    def judge(damage, may_refuse=True, may_start=True):
        node = Node(tmp_path, "node1", arguments=ARGUMENTS)
        shutil.rmtree(node.data, ignore_errors=True)
        node.log_path.unlink(missing_ok=True)
        shutil.copytree(data, node.data)
        damage(node.data)
        code, report = check(node.data)
        assert code in (0, 1), report
        node.spawn()
        try:
            try:
                node.wait_ready()
            except AssertionError:
                assert node.process.poll() not in (None, 0) and may_refuse, node.log_tail()
                node._forget()
                assert "rejoin" in node.log(), node.log_tail()
                assert code == 1, f"check found nothing, and the node refuses: {report} {node.log_tail()}"
                return "refused"
            assert may_start, f"it started: {report}"
            r = node.redis()
            assert r.mget(list(wanted)) == list(wanted.values())
            assert len(r.hgetall("hash")) == 60
            assert node.status()["digest"] == digest
            assert r.set("after", "x") is True
        finally:
            if node.process is not None:
                node.kill()
        node.check_log()
        return "started"

    return judge


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ (1 << (offset % 8))]))


def files(data):
    """Every file of the folder; of a file that is mostly a hole or zeros, where it is in use."""
    found = {}
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        content = path.read_bytes().rstrip(b"\0")
        found[str(path.relative_to(data))] = len(content)
    return found


def test_nothing_damaged(damaged, stopped):
    code, report = check(stopped[0])
    assert code == 0 and report["good"] and report["digest"] == stopped[2], report
    assert damaged(lambda data: None, may_refuse=False) == "started"


def test_changed_bits(damaged, stopped):
    """Three places in every file that has any content, and more where there is most."""
    outcomes = {}
    for name, size in files(stopped[0]).items():
        for n in range(0 if size == 0 or "spare" in name else 3 if name.endswith(("mdb", "segment")) else 2):
            offset = random.Random(f"{name} {n}").randrange(size)
            outcomes[name, offset] = damaged(lambda data: flip(data / name, offset))
    assert "refused" in outcomes.values() and "started" in outcomes.values(), outcomes
    # The identity has no second copy.
    assert all(o == "refused" for (name, _), o in outcomes.items() if name == "node.meta"), outcomes
    # The store can be made anew.
    assert all(o == "started" for (name, _), o in outcomes.items() if name == "store/data.mdb"), outcomes


def test_shortened_files(damaged, stopped):
    for name, size in files(stopped[0]).items():
        if size and not name.startswith("log/spare"):
            damaged(lambda data: (data / name).write_bytes((data / name).read_bytes()[:size // 2]))


def test_missing_files(damaged, stopped):
    names = set(files(stopped[0]))
    segments = sorted(n for n in names if n.endswith(".segment") and files(stopped[0])[n])
    for name in ["log/vote", "log/base", segments[0], "snapshot.meta"]:
        outcome = damaged(lambda data: (data / name).unlink())
        assert outcome == "refused" or name == "snapshot.meta", name
    damaged(lambda data: shutil.rmtree(data / "store"), may_refuse=False)
    damaged(lambda data: shutil.rmtree(data / "log"), may_start=False)


def test_store_and_snapshot_damaged(damaged):
    """Then there is nothing to make the store from."""

    def both(data):
        shutil.rmtree(data / "store")
        snapshot = next((data / "snapshots").glob("*.mdb"))
        flip(snapshot, snapshot.stat().st_size // 2)

    damaged(both, may_start=False)


def test_crash_of_the_operating_system(damaged):
    """The mark says that the store was open in another boot: what is in it may be anything."""

    def crash(data):
        mark = data / "store" / "store.mark"
        boot = mark.read_text().splitlines()[1]
        mark.write_text(mark.read_text().replace(boot, "boot another").replace("clean", "open"))
        store = data / "store" / "data.mdb"
        store.write_bytes(bytes(store.stat().st_size))

    assert damaged(crash, may_refuse=False) == "started"


def test_check_refuses_while_the_node_runs(cluster, tmp_path):
    node = cluster(1).nodes[0]
    done = subprocess.run([BINARY, "check", str(node.data)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and "in use" in done.stderr
    done = subprocess.run([BINARY, "check", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4 and "not the data folder" in done.stderr
    done = subprocess.run([BINARY, "check", str(tmp_path / "nothing")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 6
    second = Node(tmp_path, "second")
    second.data = pathlib.Path(node.data)
    second.spawn()
    assert second.process.wait(30) != 0
    assert "in use by another process" in second.log()
    second._forget()
