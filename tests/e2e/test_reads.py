"""Reads that a node's own gateway threads execute, and how old a stale one may be."""

import re

from harness import Load, eventually, pause, resume


def metric(node, name):
    found = re.search(rf"^\w*{name} (\d+)$".encode(), node.http("GET", "/_/metrics").body, re.MULTILINE)
    return int(found[1])


def age(node, key="a"):
    """Of a stale read's answer; None when the node does not know, or lacks the key."""
    answer = node.get(key, Kv_Consistency="stale")
    if answer.status == 404:
        return None
    assert answer.status == 200
    found = answer.headers.get("Kv-Age-Ms")
    return None if found is None else int(found)


def test_reads_are_direct_in_serve_only(cluster):
    made = cluster(1, arguments=["--threads", "1"])
    node, web = made.nodes[0], made.add_web()
    assert node.put("a", b"1").status == 201
    for _ in range(5):
        assert node.get("a").body == b"1"
        assert node.get("a", Kv_Consistency="stale").body == b"1"
    assert metric(node, "direct_reads_total") >= 10
    assert web.get("a").body == b"1"
    assert age(web) is not None
    assert "copy_age_ms" not in web.redis().info("replication")
    assert "Kv-Age-Ms" not in node.get("a").headers


def test_age_of_a_copy_that_is_cut_off(cluster):
    made = cluster(3)
    survivor = made.followers()[0]
    assert survivor.put("a", b"1").status == 201
    eventually(lambda: age(survivor) is not None, what="the follower has heard from the leader")
    missing = survivor.get("nothing", Kv_Consistency="stale")
    assert missing.status == 404 and "Kv-Age-Ms" in missing.headers
    others = [n for n in made.nodes if n is not survivor]
    for node in others:
        node.kill()
    first = age(survivor)
    eventually(lambda: age(survivor) > first + 1500, what="an age that grows")
    assert survivor.redis().info("replication")["copy_age_ms"] > first
    for node in others:
        node.start()
    made.wait_voters(3)
    eventually(lambda: (age(survivor) or 9999) < 1500, what="an age that is small again")


def test_min_rev_waits_for_the_copy(cluster):
    made = cluster(3)
    leader, follower = made.leader(), made.followers()[0]
    for i in range(50):
        revision = leader.put("a", str(i)).etag.strip('"')
        answer = follower.http("GET", f"/v1/kv/a?min_rev={revision}", headers={"Kv-Consistency": "stale"})
        assert answer.body == str(i).encode()


def test_load_on_every_node_while_one_is_frozen(cluster):
    """Reads of all nodes see all writes, also of a node that was frozen in between."""
    made = cluster(3)
    load = Load(made.nodes)
    load.wait_steps(20)
    leader, frozen = made.leader(), made.followers()[0]
    pause(frozen)
    r = leader.redis()
    last = max(r.incr("seen") for _ in range(20))
    resume(frozen)
    assert int(frozen.redis().get("seen")) == last
    load.wait_steps(20)
    load.finish()
    for node in made.nodes:
        load.check(node)
