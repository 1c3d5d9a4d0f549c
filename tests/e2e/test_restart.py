"""What was acknowledged is there after a stop, after a kill, and after the log was compacted."""

import redis
import pytest

from harness import Load, eventually


def test_restart_keeps_everything(cluster):
    node = cluster(1).nodes[0]
    r = node.redis()
    with r.pipeline(transaction=False) as p:
        for i in range(1000):
            p.set(f"k{i}", f"v{i}")
        p.hset("h", mapping={"a": "1", "b": "2"})
        p.set("expires", "x", ex=1000)
        p.execute()
    node.put("typed", b"{}", Content_Type="application/json")
    etag = node.get("typed").etag
    digest = node.status()["digest"]
    node.restart()
    r = node.redis()
    assert node.status()["digest"] == digest
    assert r.mget([f"k{i}" for i in range(1000)]) == [f"v{i}".encode() for i in range(1000)]
    assert r.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert 900 < r.ttl("expires") <= 1000
    assert node.get("typed").headers["Content-Type"] == "application/json"
    assert node.get("typed").etag == etag
    assert r.set("after", "x") is True


def test_kill_under_load_keeps_what_was_acknowledged(cluster):
    """One node: the clients see the connection break; what they got an answer for must be there."""
    node = cluster(1).nodes[0]
    for _ in range(3):
        load = Load([node], threads_per_node=3)
        load.wait_steps(30)
        node.kill()
        for thread in load._threads:
            thread.join(60)
        assert load.errors, "the writers did not notice that their node was killed"
        node.start()
        r = node.redis()
        lost = [k for k in load.acknowledged if r.get(k) != k.encode()]
        assert not lost
        for counter, count in load.counts.items():
            # One more may have been applied without its answer having arrived.
            assert int(r.get(counter) or 0) in (count, count + 1)
        r.flushall()


def fill(node, bytes_total, value_bytes=1000):
    with node.redis().pipeline(transaction=False) as p:
        for i in range(bytes_total // value_bytes):
            p.set(f"fill{i % 500}", str(i).encode().rjust(value_bytes, b"."))
        p.execute()


def test_compaction_then_restart(cluster):
    node = cluster(1, arguments=["--snapshot-bytes", "262144"]).nodes[0]
    fill(node, 3_000_000)
    eventually(lambda: node.status()["snapshot_index"] > 0, what="a snapshot")
    first = node.status()["snapshot_index"]
    fill(node, 3_000_000)
    eventually(lambda: node.status()["snapshot_index"] > first, what="a second snapshot")
    digest = node.status()["digest"]
    node.restart()
    assert node.status()["digest"] == digest
    fill(node, 300_000)
    node.kill()
    node.start()
    assert node.redis().get("fill299").endswith(b"299")


def test_compaction_in_a_cluster_and_restart_of_all(cluster):
    made = cluster(3, arguments=["--snapshot-bytes", "262144"])
    fill(made.nodes[1], 3_000_000)
    for node in made.nodes:
        eventually(lambda n=node: n.status()["snapshot_index"] > 0, what=f"a snapshot of {node.name}")
    before = made.wait_equal_digests()[0]["digest"]
    for node in made.nodes:
        node.kill()
    for node in made.nodes:
        node.spawn()
    for node in made.nodes:
        node.wait_ready()
    made.wait_voters(3)
    assert made.wait_equal_digests()[0]["digest"] == before
    assert made.nodes[2].redis().set("after", "x") is True


def test_quota(cluster):
    node = cluster(1, arguments=["--max-data", "1048576"]).nodes[0]
    value = b"x" * 65536
    statuses = [node.put(f"big{i}", value).status for i in range(40)]
    assert statuses[0] == 201 and statuses[-1] == 507, statuses
    refused = node.put("one-more", value)
    assert refused.status == 507 and refused.json()["applied"] == "no"
    r = node.redis()
    with pytest.raises(redis.ResponseError, match="OOM|command not allowed"):
        r.set("x", value)
    # Reads and deletions go on, and make room again.
    assert node.get("big0").body == value
    for i in range(10):
        assert r.delete(f"big{i}") == 1
    assert r.set("x", value) is True
