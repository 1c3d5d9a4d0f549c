"""Watching: changes as they come, and going on anywhere without a gap."""

import os
import subprocess
import threading

import pytest

from events import Watcher
from harness import eventually


@pytest.fixture
def watching():
    """A function that makes watchers; they are closed at the end."""
    made = []

    def make(*args, **options):
        made.append(Watcher(*args, **options))
        return made[-1]

    yield make
    for watcher in made:
        watcher.close()


def metric(node, name):
    text = node.http("GET", "/_/metrics").body.decode()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"cotidal_gateway_{name} ")))


def copy_of(changes):
    """What a client holds that has seen these changes."""
    held = {}
    for e in changes:
        if e.name == "reset":
            held = {}
        elif e.name == "put":
            held[e.key] = e.data.get("value")
        elif e.name in ("delete", "expire"):
            held.pop(e.key, None)
    return held


def test_every_change_once_and_in_order(solo, key, watching):
    w = watching(solo, f"?prefix={key}/")
    one = watching(solo, f"?key={key}/7&values=0")
    for i in range(50):
        assert solo.put(f"{key}/{i % 10}", str(i)).status in (201, 204)
        solo.put(f"elsewhere/{key}", "x")
    changes = w.wait(50)
    assert [e.key for e in changes] == [f"{key}/{i % 10}" for i in range(50)]
    assert [e.data["value"] for e in changes] == [str(i) for i in range(50)]
    revisions = [e.revision for e in changes]
    assert revisions == sorted(set(revisions)) and [int(e.id) for e in changes] == revisions
    assert [e.revision for e in one.wait(5)] == revisions[7::10]
    assert "value" not in one.changes()[0].data


def test_every_kind_of_change(solo, key, watching):
    w = watching(solo, f"?prefix={key}")
    r = solo.redis()
    r.set(f"{key}1", "v", px=300)
    r.hset(f"{key}2", mapping={"a": 1, "b": 2})
    r.rename(f"{key}2", f"{key}3")
    solo.put(f"{key}4", b"\xff\x00", Content_Type="application/x-tide")
    pipe = r.pipeline(transaction=True)
    pipe.set(f"{key}5", "1").delete(f"{key}3").execute()
    eventually(lambda: w.named("expire"), what="the expiry of the first key")
    seen = [(e.name, e.key[len(key):], e.data.get("type")) for e in w.changes()]
    assert sorted(seen) == sorted([
        ("put", "1", "string"), ("put", "2", "hash"), ("put", "3", "hash"), ("delete", "2", None),
        ("put", "4", "string"), ("put", "5", "string"), ("delete", "3", None), ("expire", "1", None)])
    binary = next(e for e in w.changes() if e.key.endswith("4"))
    assert (binary.data["value"], binary.data["base64"]) == ("/wA=", True)
    assert binary.data["content_type"] == "application/x-tide"
    assert "expires_ms" in w.changes()[0].data
    # What was one change is told as one: of its events the last has the id.
    both = [e for e in w.changes() if e.key.endswith(("5", "3"))][-2:]
    assert both[0].revision == both[1].revision and [e.id is None for e in both] == [True, False]


def test_resume_on_every_node(trio, key, watching):
    """The same ids mean the same on all of them, and nothing is lost or told twice."""
    nodes = trio.nodes
    first = watching(nodes[0], f"?prefix={key}/")
    for i in range(60):
        nodes[i % 3].put(f"{key}/{i}", str(i))
    whole = first.wait(60)
    for cut in (0, 17, 59):
        for node in nodes:
            again = watching(node, f"?prefix={key}/", last_id=whole[cut].id)
            rest = again.wait(59 - cut)
            assert [(e.key, e.revision) for e in rest] == [(e.key, e.revision) for e in whole[cut + 1:]]
            again.close()


def test_history_that_is_gone(solo, key, watching):
    """An id that this cluster has never given: the state, and then on from there."""
    for i in range(450):
        solo.put(f"{key}/{i:03}", str(i))
    w = watching(solo, f"?prefix={key}/", last_id=(1 << 62))
    eventually(lambda: w.named("progress"), what="the end of the state")
    assert [e.name for e in w.events[:2]] == ["reset", "put"]
    assert copy_of(w.events) == {f"{key}/{i:03}": str(i) for i in range(450)}
    solo.http("DELETE", f"/v1/kv/{key}/000")
    assert w.wait(451)[-1].name == "delete"


def test_leader_killed_under_watchers(cluster, watching):
    """Each goes on, where it was or on another node, and none misses a change."""
    made = cluster(3)
    made.wait_voters(3)
    leader = made.leader()
    watchers = {node: watching(node, "?prefix=k") for node in made.nodes}
    stop, acknowledged = threading.Event(), []
    survivor = made.followers()[0]

    def write():
        i = 0
        while not stop.is_set():
            if survivor.put(f"k{i % 50}", str(i)).status in (201, 204):
                acknowledged.append(i)
            i += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(acknowledged) > 100)
        leader.kill()
        before = len(acknowledged)
        lost = watchers.pop(leader)
        lost.thread.join(30)
        moved = watching(survivor, "?prefix=k", last_id=lost.last_id)
        eventually(lambda: len(acknowledged) > before + 100, what="writes behind the new leader")
    finally:
        stop.set()
        writer.join(60)
    leader.start()
    last = survivor.get("k0")  # linearizable: the log's end
    index = int(last.headers["Kv-Index"])
    whole = [e for e in lost.changes() if int(e.id) <= lost.last_id]
    for node, w in watchers.items():
        eventually(lambda: len(w.changes()) >= len(acknowledged), what=f"all changes on {node.name}")
    eventually(lambda: len(whole) + len(moved.changes()) >= len(acknowledged), what="all of them")
    revisions = {tuple((e.key, e.revision, e.data["value"]) for e in w.changes() if e.revision >> 20 <= index)
                 for w in watchers.values()}
    revisions.add(tuple((e.key, e.revision, e.data["value"]) for e in whole + moved.changes()
                        if e.revision >> 20 <= index))
    assert len(revisions) == 1
    told = [int(value) for _, _, value in revisions.pop()]
    assert told == sorted(told) and set(acknowledged) <= set(told)


def test_through_a_web_server(cluster, watching):
    made = cluster(1, role="db")
    web = made.add_web()
    w = watching(web, "?prefix=")
    r = web.redis()
    for i in range(200):
        r.set(f"k{i}", i)
    assert [e.key for e in w.wait(200)] == [f"k{i}" for i in range(200)]
    made.nodes[0].kill()
    made.nodes[0].start()
    eventually(lambda: web.put("after", "x").status == 201)
    assert w.wait(201)[-1].key == "after"
    assert not w.ended


def test_orderly_stop_ends_the_answer(cluster, watching):
    node = cluster(1).nodes[0]
    w = watching(node)
    node.put("a", "1")
    w.wait(1)
    node.restart()
    w.thread.join(30)
    assert w.ended
    node.put("b", "2")
    again = watching(node, last_id=w.last_id)
    assert [e.key for e in again.wait(1)] == ["b"]


def test_many_watchers_cost_one_encoding(solo, key, watching):
    many = [watching(solo, f"?key={key}") for _ in range(100)]
    before = metric(solo, "watch_encodings_total"), metric(solo, "watch_deliveries_total")
    solo.put(key, "x")
    for w in many:
        w.wait(1)
    # One for each thread that has some of them.
    assert metric(solo, "watch_encodings_total") - before[0] <= max(os.cpu_count(), 1)
    assert metric(solo, "watch_deliveries_total") - before[1] == 100


def test_over_http2(solo, key):
    """A watcher is a stream like others."""
    before = metric(solo, "watch_deliveries_total")
    command = ["curl", "-sN", "--http2-prior-knowledge", "--max-time", "30", solo.url(f"/v1/watch?key={key}")]
    curl = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(curl.stdout.readline, "")
        assert any(line == "event: progress\n" for line in lines)
        solo.put(key, "over h2")
        assert any('"value":"over h2"' in line for line in lines)
    finally:
        curl.kill()
        curl.communicate()
    assert metric(solo, "watch_deliveries_total") > before
