"""Who belongs to the cluster, who votes, who leads; and restarts that nobody notices."""

import http.client
import itertools
import json
import threading

import redis

from harness import Load, Response, eventually
from test_cli import cotidal


def member(node, member_id):
    return next((m for m in node.status()["members"] if str(m["id"]) == str(member_id)), None)


def role(node, member_id):
    found = member(node, member_id)
    return found and found["role"]


def three_and_a_learner(cluster, **options):
    made = cluster(3, **options)
    learner = made.add()
    eventually(lambda: all(role(n, learner.id) == "learner" for n in made.nodes))
    return made, made.leader(), learner


def test_leadership_goes_where_it_is_asked_to(cluster):
    made = cluster(3)
    load = Load(made.nodes)
    load.wait_steps(10)
    for _ in range(3):
        target = made.followers()[0]
        code, out, err = cotidal("member", "transfer", target.id, to=made.followers()[1])
        assert (code, out.decode()) == (0, f"node {target.id} leads\n"), err
        assert made.leader() is target
        # Asked again it has nothing to do.
        assert cotidal("member", "transfer", target.id, to=target)[0] == 0
        load.wait_steps(10)
    before = made.leader()
    code, out, _ = cotidal("member", "transfer", "--json", to=before)
    assert code == 0 and str(json.loads(out)["leader"]) != str(before.id)
    assert made.leader() is not before
    load.finish()
    load.check(made.leader())
    made.wait_equal_digests()


def test_leadership_is_not_given_to_just_anybody(cluster):
    made, leader, learner = three_and_a_learner(cluster)
    dead = next(n for n in made.nodes if n not in (leader, learner))
    dead.kill()
    for target, reason in ((learner.id, "does not vote"), (dead.id, "does not answer"), ("77", "no such node")):
        if target == dead.id:
            eventually(lambda: not member(leader, dead.id)["alive"])
        code, _, err = cotidal("member", "transfer", target, to=leader)
        assert code == 4 and reason in err and "Nothing was changed" in err
    assert made.leader() is leader
    # The best one is neither of these.
    code, out, err = cotidal("member", "transfer", to=leader)
    assert code == 0, err
    assert made.leader() not in (leader, learner, dead)
    dead.start()
    made.wait_equal_digests()


def test_list_and_add(trio):
    code, out, _ = cotidal("member", "list", to=trio.nodes[1])
    rows = [line for line in out.decode().splitlines() if "voter" in line]
    assert code == 0 and len(rows) == 3 and sum(line.startswith("*") for line in rows) == 1
    for node in trio.nodes:
        assert any(node.addresses["peer"] in row and node.addresses["http"] in row and " up " in row for row in rows)
    code, out, _ = cotidal("member", "list", "--json", to=trio.nodes[1])
    listed = json.loads(out)
    assert code == 0 and len(listed["members"]) == 3 and str(listed["leader"]) == str(trio.leader().id)
    code, out, _ = cotidal("member", "add", to=trio.nodes[0])
    assert code == 0 and "--join " + ",".join(m["peer"] for m in listed["members"]) in out.decode()
    assert "this machine only" in out.decode()
    for words in (["member", "remove"], ["member", "promote"], ["member", "list", "1"], ["member", "remove", "x"]):
        assert cotidal(*words, to=trio.nodes[0])[0] == 2


def test_a_machine_is_replaced(cluster):
    """A fourth node is added, made a voter, and an old one removed: the one that leads."""
    made = cluster(3)
    load = Load(made.nodes[1:])
    made.add()
    new = made.nodes[3]
    eventually(lambda: role(new, new.id) == "learner")
    code, out, err = cotidal("member", "promote", new.id, to=made.nodes[1])
    assert (code, out.decode()) == (0, f"node {new.id} is a voter\n"), err
    assert role(new, new.id) == "voter"
    old = made.nodes[0]
    assert cotidal("member", "transfer", old.id, to=new)[0] == 0
    code, _, err = cotidal("member", "remove", old.id, to=new)
    assert code == 0, err
    assert role(new, old.id) is None
    old.stop()
    load.wait_steps(10)
    load.finish()
    load.check(new)
    made.wait_voters(3)
    made.wait_equal_digests()


def test_promotions_that_are_refused(cluster):
    made, leader, learner = three_and_a_learner(cluster, arguments=["--replace-after", "0s"])
    learner.kill()
    eventually(lambda: not member(leader, learner.id)["alive"])
    code, _, err = cotidal("member", "promote", learner.id, to=leader)
    assert code == 4 and "does not answer" in err
    assert cotidal("member", "promote", "77", to=leader)[0] == 4
    assert cotidal("member", "promote", leader.id, to=leader)[0] == 0  # it is one
    assert role(leader, learner.id) == "learner"
    learner.start()
    made.wait_equal_digests()


def test_a_dead_voter_is_replaced(cluster):
    """Nobody asks: after --replace-after a learner takes the place of a voter that does not come back."""
    made, leader, learner = three_and_a_learner(cluster, arguments=["--replace-after", "2s"])
    voters = [n for n in made.nodes if n is not leader and role(leader, n.id) == "voter"]
    load = Load([leader, learner])
    load.wait_steps(10)
    voters[0].kill()
    eventually(lambda: role(leader, learner.id) == "voter" and role(leader, voters[0].id) is None)
    load.wait_steps(10)
    # The new one counts: another voter may die now.
    voters[1].kill()
    load.wait_steps(10)
    load.finish()
    load.check(learner)


class Wanderers:
    """Clients that connect to the next node when theirs closes the connection; only an error answer fails."""

    def __init__(self, nodes):
        self.nodes, self.errors, self.done, self.moves = nodes, [], 0, 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(way, i), daemon=True)
                         for i, way in enumerate([self._http, self._redis] * 2)]
        for thread in self._threads:
            thread.start()

    def _run(self, way, number):
        steps = itertools.count()
        step = next(steps)
        for node in itertools.cycle(self.nodes[number % len(self.nodes):] + self.nodes):
            if self._stop.is_set():
                return
            if not node.running():
                continue
            try:
                for _ in way(node, lambda: f"wander-{number}-{step}"):
                    self.done += 1
                    step = next(steps)
                    if self._stop.is_set():
                        return
            except (OSError, http.client.HTTPException, redis.ConnectionError):
                self.moves += 1
            except Exception as error:  # noqa: BLE001 - an answer that is an error
                self.errors.append(repr(error))
                return

    @staticmethod
    def _http(node, name):
        connection = http.client.HTTPConnection(*node.address("http"), timeout=30)
        while True:
            connection.request("PUT", f"/v1/kv/{name()}", name())
            answer = Response(connection.getresponse())
            assert answer.status in (201, 204), answer
            yield

    @staticmethod
    def _redis(node, name):
        client = node.redis(single_connection_client=True)
        while True:
            assert client.set(name(), name()) is True
            yield

    def finish(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.errors, self.errors


def test_rolling_restart_that_nobody_notices(cluster):
    """Each node in turn is stopped and started, the leader each time, while clients of both protocols write:
    those on the nodes that stay see no error, and those on the node that goes find it closed, never broken."""
    made = cluster(3)
    wanderers = Wanderers(made.nodes)
    for _ in range(3):
        node = made.leader()
        load = Load([n for n in made.nodes if n is not node])
        load.wait_steps(20)
        leads = str(node.status()["leader"]) == str(node.id)
        handed = node.log().count("handover node=")
        node.stop()
        assert not leads or node.log().count("handover node=") > handed
        load.wait_steps(20)
        node.start()
        made.wait_voters(3)
        eventually(lambda: node.status()["ready"])
        load.wait_steps(20)
        load.finish()
        load.check(node)
        print(f"longest pause {max(load.longest) * 1000:.0f} ms")
    wanderers.finish()
    assert wanderers.moves >= 3 and wanderers.done > 0
    made.wait_equal_digests()


def peer_addresses(node):
    return {str(m["id"]): m["peer"] for m in node.status()["members"]}


def move(node):
    """Started again with its data, and another port for the others."""
    old = node.addresses.pop("peer")
    node.start()
    assert node.addresses["peer"] != old
    return old


def wait_addresses(made):
    eventually(lambda: all(peer_addresses(n) == {str(m.id): m.addresses["peer"] for m in made.nodes}
                           for n in made.nodes), what="every node knows where the others are")


def test_nodes_that_move(cluster):
    """Each node in turn comes back under another address; the others and a web server follow."""
    made = cluster(3)
    web = made.add_web()
    load = Load([web], threads_per_node=2)
    load.wait_steps(10)
    for node in made.nodes:
        node.stop()
        move(node)
        wait_addresses(made)
        load.wait_steps(10)
    # All addresses that the web server was started with are gone.
    web.redis().set("moved", "1")
    load.finish()
    made.wait_equal_digests()
    load.check(made.nodes[0])


def test_few_nodes_that_move(cluster):
    made = cluster(1)
    made.nodes[0].redis().set("a", "1")
    made.nodes[0].stop()
    move(made.nodes[0])
    wait_addresses(made)
    # Of two voters both must agree to the move of one.
    made.add()
    made.wait_voters(2)
    for node in made.nodes:
        node.stop()
        move(node)
        wait_addresses(made)
    assert made.nodes[1].redis().get("a") == b"1"
    made.wait_equal_digests()


def test_a_removed_node_knows(cluster):
    """It says so, and its web server goes on through the others."""
    made = cluster(3)
    gone = made.followers()[0]
    others = [n for n in made.nodes if n is not gone]
    assert cotidal("member", "remove", gone.id, to=others[0])[0] == 0
    assert cotidal("member", "remove", gone.id, to=others[1])[0] == 0  # it is none any more
    eventually(lambda: "event=removed" in gone.log())
    assert gone.put("through", b"1").status == 201
    assert others[0].get("through").body == b"1" == gone.get("through").body
    assert gone.http("GET", "/_/ready").status == 200
    gone.stop()
