"""Nodes that die, freeze, lose their data and come back, while clients go on."""

import re

from harness import Load, eventually, pause, resume


def test_leader_killed_under_load(cluster):
    """Clients of the surviving nodes see a pause and no error; nothing acknowledged is lost or done twice."""
    made = cluster(3)
    leader = made.leader()
    survivors = [n for n in made.nodes if n is not leader]
    load = Load(survivors)
    load.wait_steps(30)
    leader.kill()
    load.wait_steps(30)
    load.finish()
    for node in survivors:
        load.check(node)
    leader.start()
    made.wait_voters(3)
    made.wait_equal_digests()
    load.check(leader)


def test_mixed_pipeline_across_failover(cluster):
    """Reads and writes pipelined on one connection are answered in their order, whoever leads."""
    made = cluster(3)
    leader = made.leader()
    survivor = made.followers()[0]
    expected = 0
    with survivor.redis().pipeline(transaction=False) as pipe:
        for round_number in range(30):
            if round_number == 10:
                leader.kill()
            for _ in range(50):
                pipe.incr("mixed").get("mixed").exists("mixed").incr("mixed")
            answers = iter(pipe.execute())
            for _ in range(50):
                first, value, exists, second = (next(answers) for _ in range(4))
                assert (first, int(value), exists, second) == (expected + 1, expected + 1, 1, expected + 2)
                expected += 2
    joined = re.search(rb"^\w*reads_joined_total (\d+)$", survivor.http("GET", "/_/metrics").body, re.MULTILINE)
    assert int(joined[1]) > 0
    leader.start()
    made.wait_equal_digests()


def test_leaders_killed_one_after_another(cluster):
    made = cluster(3)
    r_totals = {}
    for round_number in range(3):
        leader = made.leader()
        load = Load([n for n in made.nodes if n is not leader], threads_per_node=1)
        load.wait_steps(10)
        leader.kill()
        load.wait_steps(10)
        load.finish()
        load.check(made.leader())
        leader.start()
        made.wait_equal_digests()
        r_totals[round_number] = len(load.acknowledged)
        made.leader().redis().flushall()
    assert all(r_totals.values())


def test_follower_killed_and_caught_up(cluster):
    made = cluster(3)
    follower = made.followers()[0]
    others = [n for n in made.nodes if n is not follower]
    follower.kill()
    load = Load(others)
    load.wait_steps(40)
    load.finish()
    follower.start()
    made.wait_equal_digests()
    load.check(follower)


def test_follower_behind_a_compacted_log_catches_up(cluster):
    made = cluster(3, arguments=["--snapshot-bytes", "262144"])
    follower = made.followers()[0]
    others = [n for n in made.nodes if n is not follower]
    follower.kill()
    with others[0].redis().pipeline(transaction=False) as p:
        for i in range(3000):
            p.set(f"k{i % 700}", str(i) * 200)
        p.execute()
    for node in others:
        eventually(lambda n=node: n.status()["snapshot_index"] > 0)
    follower.start()
    made.wait_equal_digests()
    assert follower.redis().get("k699") == others[0].redis().get("k699") is not None


def test_leader_frozen_and_thawed(cluster):
    made = cluster(3)
    leader = made.leader()
    others = [n for n in made.nodes if n is not leader]
    load = Load(others, threads_per_node=1)
    load.wait_steps(10)
    pause(leader)
    try:
        load.wait_steps(20)
    finally:
        resume(leader)
    load.wait_steps(10)
    load.finish()
    made.wait_equal_digests()
    load.check(leader)


def test_rolling_restarts(cluster):
    """Every node is stopped and started in turn; clients of the others see no error."""
    made = cluster(3)
    for node in made.nodes:
        others = [n for n in made.nodes if n is not node]
        load = Load(others, threads_per_node=1)
        load.wait_steps(5)
        node.stop()
        load.wait_steps(5)
        node.start()
        made.wait_voters(3)
        eventually(lambda: made.status()["ready"])
        load.wait_steps(5)
        load.finish()
        load.check(node)
        made.wait_equal_digests()


def test_no_majority_no_answer(cluster):
    """Alone out of three, a node must neither write nor answer a linearizable read."""
    made = cluster(3)
    assert made.nodes[0].put("a", b"1").status == 201
    survivor = made.leader()
    others = [n for n in made.nodes if n is not survivor]
    for node in others:
        node.kill()
    answer = survivor.http("PUT", "/v1/kv/a", b"2")
    assert answer.status == 503
    assert answer.json()["applied"] in ("no", "unknown")
    assert survivor.get("a").status == 503
    assert survivor.get("a", Kv_Consistency="stale").body == b"1"
    assert survivor.http("GET", "/_/health").status == 200
    assert survivor.http("GET", "/_/ready").status == 503
    for node in others:
        node.start()
    eventually(lambda: survivor.get("a").status == 200)
    made.wait_equal_digests()


def test_all_killed_and_started_again(cluster):
    made = cluster(3)
    load = Load(made.nodes, threads_per_node=1)
    load.wait_steps(20)
    load.finish()
    for node in made.nodes:
        node.kill()
    for node in made.nodes:
        node.spawn()
    for node in made.nodes:
        node.wait_ready()
    made.wait_voters(3)
    for node in made.nodes:
        load.check(node)
    made.wait_equal_digests()


def test_wiped_node_joins_again(cluster):
    """A node that lost its disk comes back as a new member, with all the data."""
    made = cluster(3)
    load = Load(made.nodes, threads_per_node=1)
    load.wait_steps(20)
    load.finish()
    victim = made.followers()[0]
    old_id = victim.id
    victim.kill()
    victim.wipe()
    survivor = made.leader()
    victim.arguments = ["--join", survivor.addresses["peer"]]
    victim.start()
    assert victim.id != old_id, "an id must never be used again"
    made.wait_equal_digests()
    load.check(victim)
    assert survivor.redis().set("after", "x") is True
    eventually(lambda: any(str(m["id"]) == str(victim.id) and m["role"] == "voter" for m in survivor.status()["members"]),
               what="the wiped node is a voter again")
