"""Snapshots between real nodes: a node that was away for long, or lost its disk, comes back by itself; broken off and
gone on with, from whoever has the file, while clients of the others notice nothing."""

import os
import re
import subprocess
import time

from harness import BINARY, Load, eventually

# Large enough that a fetch at the limited rate can be looked at; COTIDAL_SNAPSHOT_MIB makes it larger by hand.
MIB = int(os.environ.get("COTIDAL_SNAPSHOT_MIB", "12"))
RATE = max(6, MIB // 4)
ARGUMENTS = ["--snapshot-bytes", "1M", "--snapshot-rate", f"{RATE}M"]


def fill(node, mib, name):
    value = os.urandom(64 * 1024)
    client = node.redis()
    for start in range(0, mib * 16, 64):
        with client.pipeline(transaction=False) as pipe:
            for i in range(start, min(start + 64, mib * 16)):
                pipe.set(f"{name}-{i}", value)
            pipe.execute()


def work_of(watcher, node):
    """How far this node has fetched a snapshot, as the watcher says."""
    for member in watcher.status()["members"]:
        if str(member["id"]) == str(node.id) and member["work"] and "fetching" in member["work"]["what"]:
            return member["work"]
    return None


def have_of(node):
    """The bytes that each fetch of this node began with."""
    return [int(m) for m in re.findall(r"installing .*\bhave=(\d+)", node.log())]


def quiet(nodes):
    """No snapshot is being taken, and none is about to be."""
    before = [n.status()["snapshot_index"] for n in nodes]
    time.sleep(1)
    return before == [n.status()["snapshot_index"] for n in nodes]


def behind_the_log(made, absent):
    """Fills until the log of the others begins behind what the absent node has."""
    others = [n for n in made.nodes if n is not absent]
    fill(others[0], 1, "before")
    had = max(n.status()["log_last"] for n in others)
    absent.kill()
    fill(others[0], MIB, "large")
    # It was heard of a moment ago: the log is kept for it, up to a limit.
    for i in range(100):
        if all(n.status()["log_first"] > had for n in others):
            eventually(lambda: quiet(others), every=0.2, what="snapshots that stay for a while")
            return
        fill(others[0], 4, f"more{i}")
        time.sleep(0.05)  # a snapshot takes its time, too
    raise AssertionError("the log was never cut")


def test_a_node_that_was_away_for_long(cluster):
    made = cluster(3, arguments=ARGUMENTS)
    absent = made.followers()[0]
    others = [n for n in made.nodes if n is not absent]
    assert absent.put("old", b"copy").status == 201
    made.wait_equal_digests()
    behind_the_log(made, absent)
    load = Load(others, threads_per_node=1)
    absent.start()
    work = eventually(lambda: work_of(others[0], absent), what="the fetch shows in the status")
    assert work["total"] > MIB << 20
    assert work["from"] in [int(n.id) for n in others]
    shown = subprocess.run([BINARY, "status", "--to", others[0].addresses["http"]], capture_output=True, text=True)
    assert re.search(rf"Node {absent.id} is fetching a snapshot from node \d+: [\d.]+ of [\d.]+ MiB", shown.stdout), shown
    # The copy that it had answers meanwhile, to those who do not mind.
    assert absent.get("old", Kv_Consistency="stale").body == b"copy"
    load.wait_steps(5)
    # Killed in the middle, it goes on where it was.
    eventually(lambda: work_of(absent, absent)["done"] > 1 << 20, what="some of the file")
    absent.kill()
    absent.start()
    eventually(lambda: absent.status()["ready"], seconds=60)
    assert max(have_of(absent)) > 0, absent.log_tail()  # behind it may come a fetch of a newer one
    load.finish()
    made.wait_equal_digests()
    load.check(absent)


def test_a_node_that_lost_its_disk(cluster):
    made = cluster(3, arguments=ARGUMENTS)
    absent = made.followers()[0]
    leader = made.leader()
    behind_the_log(made, absent)
    absent.wipe()
    absent.arguments = ARGUMENTS + ["--join", leader.addresses["peer"]]
    absent.start()
    others = [n for n in made.nodes if n is not absent]
    load = Load(others, threads_per_node=1)
    eventually(lambda: work_of(others[0], absent), what="the fetch shows in the status")
    load.wait_steps(5)
    made.wait_voters(3)
    load.finish()
    made.wait_equal_digests()
    load.check(absent)
    assert len(absent.get("large-7").body) == 64 * 1024


def flip(node, value):
    """Changes one byte of a stored value in the file of a running node's store, as a bad disk would. A page that LMDB
    does not use any more may hold the value too, so every place is changed."""
    with open(node.data / "store" / "data.mdb", "r+b") as f:
        end = 0
        while True:  # the file is as long as the map, and mostly holes
            try:
                start = os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(f.fileno(), start, os.SEEK_HOLE)
            content = os.pread(f.fileno(), end - start, start)
            for m in re.finditer(re.escape(value), content):
                os.pwrite(f.fileno(), bytes([value[5] ^ 0x10]), start + m.start() + 5)


def metric(node, name):
    found = re.search(rb"^cotidal_" + name.encode() + rb" (\d+)$", node.http("GET", "/_/metrics").body, re.MULTILINE)
    return int(found[1])


def test_a_changed_byte_is_found_and_mended(cluster):
    """On a follower, then on the leader, while clients write."""
    made = cluster(3, arguments=["--scrub-every", "500ms", "--snapshot-bytes", "256K"])
    # So large that it has pages of its own, which stay where they are while others are written.
    value = b"a value that nobody touches, " + os.urandom(4000).hex().encode()
    for i in range(200):
        assert made.nodes[0].put(f"ballast-{i}", os.urandom(2000)).status == 201
    assert made.nodes[0].put("quiet", value).status == 201
    load = Load(made.nodes, threads_per_node=1)
    load.wait_steps(5)
    for victim in (made.followers()[0], made.leader()):
        before = metric(victim, "node_repairs_total")
        eventually(lambda: flip(victim, value) or metric(victim, "node_repairs_total") > before, every=1,
                   what="the damage was found")
        eventually(lambda: metric(victim, "node_health") == 0, what="the copy is sound again")
        scrubs = metric(victim, "node_scrubs_total")
        eventually(lambda: metric(victim, "node_scrubs_total") > scrubs + 1 and metric(victim, "node_health") == 0,
                   what="and stays so")
        # The scrub finds it, or the next snapshot, whichever comes first.
        assert "add up to the digest" in victim.log()
        assert victim.get("quiet", Kv_Consistency="stale").body == value
        load.wait_steps(5)
    load.finish()
    made.wait_equal_digests()
    for node in made.nodes:
        assert node.get("quiet").body == value
        assert node.http("GET", "/_/ready").status == 200
    load.check(victim)
    assert metric(made.nodes[0], "node_digest_checks_total") > 0
