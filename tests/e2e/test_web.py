"""Web servers without state in front of database nodes."""

import pytest

from harness import Load, eventually, pause, resume


@pytest.fixture
def tiers(cluster):
    made = cluster(3, role="db")
    made.add_web()
    made.add_web()
    made.wait_voters(3)
    return made


def test_the_same_state_behind_every_web_server(tiers):
    one, two = tiers.webs
    for i in range(40):
        assert one.put(f"k{i}", str(i)).status == 201
        assert two.redis().get(f"k{i}") == str(i).encode()
        assert two.redis().incr("count") == 2 * i + 1
        assert one.redis().incr("count") == 2 * i + 2


def test_web_server_needs_one_seed_only(tiers):
    one = tiers.webs[0]
    one.stop()
    one.arguments = ["--db", tiers.nodes[1].addresses["peer"]]
    one.addresses = {}
    one.start()
    assert one.put("a", b"1").status == 201
    assert tiers.webs[1].get("a").body == b"1"


def test_database_leader_killed_behind_web_servers(tiers):
    leader = tiers.by_id(tiers.status()["leader"])
    load = Load(tiers.webs)
    load.wait_steps(20)
    leader.kill()
    load.wait_steps(20)
    leader.start()
    tiers.wait_voters(3)
    load.wait_steps(10)
    load.finish()
    for web in tiers.webs:
        load.check(web)

    def caught_up():
        members = tiers.status()["members"]
        return len({(m["applied"], m["digest"]) for m in members}) == 1

    eventually(caught_up, what="equal digests on all three")


def test_a_web_server_that_dies_takes_nothing_with_it(tiers):
    one, two = tiers.webs
    load = Load([one], threads_per_node=2)
    load.wait_steps(20)
    one.kill()
    for thread in load._threads:
        thread.join(60)
    r = two.redis()
    assert [k for k in load.acknowledged if r.get(k) != k.encode()] == []


def test_without_a_database_it_says_so(tiers):
    web = tiers.webs[0]
    for node in tiers.nodes:
        node.kill()
    answer = web.get("a")
    assert answer.status == 503
    assert web.http("GET", "/_/health").status == 200
    assert web.http("GET", "/_/ready").status == 503
    for node in tiers.nodes:
        node.spawn()
    for node in tiers.nodes:
        node.wait_ready()
    eventually(lambda: web.get("a").status == 404)


def test_a_frozen_node_is_asked_no_more(tiers):
    """A process that is stopped keeps its connections; reads that it owes are asked for elsewhere."""
    web = tiers.webs[0]
    assert web.put("a", b"1").status == 201
    frozen = next(n for n in tiers.nodes if n is not tiers.by_id(tiers.status()["leader"]))
    pause(frozen)
    try:
        for _ in range(12):
            assert web.get("a").body == b"1"
        assert web.redis().incr("n") == 1
    finally:
        resume(frozen)
    eventually(lambda: b"links_up 3" in web.http("GET", "/_/metrics").body, what="the link is back")
    assert web.get("a").body == b"1"
