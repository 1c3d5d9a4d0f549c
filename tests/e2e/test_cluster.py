"""Three nodes that stay up."""

import subprocess
import threading

import pytest


def test_write_on_one_read_on_another_at_once(trio):
    for i in range(60):
        writer, reader = trio.nodes[i % 3], trio.nodes[(i + 1) % 3]
        key, value = f"across-{i}", f"value {i}".encode()
        assert writer.put(key, value).status == 201
        assert reader.get(key).body == value
        assert trio.nodes[(i + 2) % 3].redis().get(key) == value


def test_a_reader_never_goes_back(trio):
    """One writer counts up on one node; readers on all nodes see what was acknowledged before they asked."""
    acknowledged = [0]
    stop = threading.Event()
    problems = []

    def write():
        r = trio.nodes[0].redis()
        for _ in range(200):
            acknowledged[0] = r.incr("upward")
        stop.set()

    def read(node):
        r = node.redis()
        while not stop.is_set():
            before = acknowledged[0]
            seen = int(r.get("upward") or 0)
            if seen < before:
                problems.append((node.name, before, seen))

    threads = [threading.Thread(target=write)] + [threading.Thread(target=read, args=(n,)) for n in trio.nodes]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems
    assert acknowledged[0] == 200


def test_everything_works_through_a_follower(trio):
    follower = trio.followers()[0]
    r = follower.redis()
    assert r.set("follower", "1") is True
    with r.pipeline() as p:
        p.watch("follower")
        p.multi()
        p.incr("follower").get("follower")
        assert p.execute() == [2, b"2"]
    with r.pipeline(transaction=False) as p:
        for _ in range(1000):
            p.incr("follower-count")
        assert p.execute() == list(range(1, 1001))
    assert follower.http("POST", "/v1/incr/follower?by=3").status == 200
    assert trio.leader().redis().get("follower") == b"5"


def test_redis_benchmark_against_a_follower(trio):
    host, port = trio.followers()[-1].address("redis")
    run = subprocess.run(["redis-benchmark", "-h", host, "-p", str(port), "-t", "set,get,incr", "-c", "50", "-n", "5000", "-q"],
                         capture_output=True, text=True, timeout=240, check=True)
    assert "rror" not in run.stdout + run.stderr


def test_increments_on_all_nodes_all_count(trio):
    def add(node):
        r = node.redis()
        for _ in range(100):
            r.incr("everywhere")

    threads = [threading.Thread(target=add, args=(n,)) for n in trio.nodes for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [n.redis().get("everywhere") for n in trio.nodes] == [b"600"] * 3


def test_status_agrees_on_all_nodes(trio):
    seen = trio.wait_equal_digests()
    assert len({s["cluster"] for s in seen}) == 1
    assert len({s["leader"] for s in seen}) == 1
    assert len({s["term"] for s in seen}) == 1
    for status in seen:
        assert status["ready"] is True
        assert sorted(m["peer"] for m in status["members"]) == sorted(n.addresses["peer"] for n in trio.nodes)
        assert all(m["alive"] and m["role"] == "voter" for m in status["members"])


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_expired_keys_are_gone_everywhere(trio, which):
    from harness import eventually

    node = trio.leader() if which == "leader" else trio.followers()[0]
    node.redis().set(f"gone-{which}", "x", px=400)
    for other in trio.nodes:
        eventually(lambda n=other: n.redis().get(f"gone-{which}") is None, seconds=10)
    trio.wait_equal_digests()


def test_two_nodes(cluster):
    made = cluster(2)
    made.nodes[1].redis().set("a", "b")
    assert made.nodes[0].redis().get("a") == b"b"
    made.wait_equal_digests()


def test_five_nodes(cluster):
    made = cluster(5)
    for i, node in enumerate(made.nodes):
        node.redis().set(f"k{i}", i)
    for node in made.nodes:
        assert node.redis().mget([f"k{i}" for i in range(5)]) == [str(i).encode() for i in range(5)]
    made.wait_equal_digests()


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_a_node_leaves_and_another_takes_its_place(cluster, which):
    made = cluster(3)
    made.nodes[0].redis().set("before", "1")
    leaving = made.leader() if which == "leader" else made.followers()[0]
    staying = [n for n in made.nodes if n is not leaving]
    assert staying[0].http("DELETE", f"/_/members/{leaving.id}").status == 204
    leaving.kill()
    made.wait_voters(2)
    refused = staying[0].http("DELETE", f"/_/members/{staying[1].id}")
    assert refused.status == 409 and "two voters" in refused.json()["detail"]
    assert refused.json()["applied"] == "no"
    assert staying[1].http("DELETE", "/_/members/77").status == 409
    made.add()
    made.wait_voters(3)
    assert made.nodes[3].redis().get("before") == b"1"
    made.wait_equal_digests(staying + [made.nodes[3]])
