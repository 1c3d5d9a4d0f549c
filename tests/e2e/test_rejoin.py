"""cotidal rejoin: a damaged node comes back as a new one, and nothing of the old one is deleted."""

import subprocess

from harness import BINARY, Load, Node


def rejoin(*words):
    done = subprocess.run([BINARY, "rejoin", *map(str, words)], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def test_a_damaged_node_comes_back(cluster):
    made = cluster(3)
    victim = made.followers()[-1]
    others = [n for n in made.nodes if n is not victim]
    load = Load(others)
    load.wait_steps(20)
    seed = others[0].addresses["peer"]
    code, said = rejoin(victim.data, "--join", seed, "--yes")
    assert code == 4 and "in use" in said, said
    old_id = victim.id
    victim.stop()
    segment = next(p for p in sorted((victim.data / "log").glob("*.segment")))
    content = bytearray(segment.read_bytes())
    content[100] ^= 1
    segment.write_bytes(content)
    victim.spawn()
    assert victim.process.wait(30) != 0
    victim._forget()
    assert segment.name in victim.log() and "cotidal rejoin" in victim.log()

    # It asks first, and refuses what would do harm.
    code, said = rejoin(victim.data, "--join", seed)
    assert code == 2 and "--yes" in said and segment.exists(), said
    assert rejoin(victim.data, "--yes")[0] == 2
    assert rejoin(victim.data, "--join", "127.0.0.1:1", "--yes")[0] == 3
    assert segment.exists()

    code, said = rejoin(victim.data, "--join", seed, "--yes")
    assert code == 0, said
    aside = [p for p in victim.data.iterdir() if p.name.startswith("old-")]
    assert len(aside) == 1 and (aside[0] / "log" / segment.name).read_bytes() == content
    assert [p for p in victim.data.iterdir()] == aside
    assert all(str(m["id"]) != old_id for m in others[0].status()["members"])

    victim.arguments += [] if "--join" in victim.arguments else ["--join", seed]
    victim.start()
    assert int(victim.id) > int(old_id)
    made.wait_voters(3)
    load.wait_steps(20)
    load.finish()
    made.wait_equal_digests()
    load.check(victim)


def test_of_another_cluster(cluster, tmp_path):
    one, two = cluster(1).nodes[0], cluster(1).nodes[0]
    two.stop()
    code, said = rejoin(two.data, "--join", one.addresses["peer"], "--yes")
    assert code == 4 and "belongs to cluster" in said and (two.data / "node.meta").exists()
    # Without its identity nobody knows, and its files may go aside.
    (two.data / "node.meta").write_text("nonsense")
    code, said = rejoin(two.data, "--join", one.addresses["peer"], "--yes")
    assert code == 0 and "which node this was is not known" in said
    again = Node(tmp_path, "again", arguments=["--join", one.addresses["peer"]])
    again.data = two.data
    again.start()
    assert again.id == "2"
    again.stop()
