"""Backups of a running system, and new systems made from them."""

import json
import os
import random
import subprocess

from harness import BINARY, Load, Node, eventually


def cotidal(*words):
    done = subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def restored(tmp_path, name, file):
    """A node on a folder restored from the file, started."""
    node = Node(tmp_path, name)
    code, out, err = cotidal("restore", file, "--data", node.data)
    assert code == 0, err
    assert "cotidal serve --data" in out
    assert cotidal("check", node.data)[0] == 0
    return node.start()


def test_backup_under_load_and_restore(cluster, tmp_path):
    made = cluster(3)
    for number, node in enumerate([made.leader(), made.followers()[0]]):
        load = Load(made.nodes)
        load.wait_steps(20)
        before = dict(load.acknowledged)
        file = tmp_path / f"backup{number}"
        code, out, err = cotidal("backup", file, "--from", node.url(), "--json")
        assert code == 0, err
        said = json.loads(out)
        load.finish()
        load.check(made.nodes[0])
        assert not os.path.exists(f"{file}.part")
        code, out, err = cotidal("check", "--json", file)
        assert code == 0 and json.loads(out)["digest"] == said["digest"], (out, err)
        copy = restored(tmp_path, f"copy{number}", file)
        try:
            # Everything that was acknowledged before the backup began is in it, and no counter is ahead.
            r = copy.redis()
            assert r.mget(list(before)) == [v.encode() for v in before.values()]
            for counter, count in load.counts.items():
                assert int(r.get(counter) or 0) <= count
        finally:
            copy.stop()
            copy.check_log()


def test_a_restored_system_is_a_new_one(cluster, tmp_path):
    made = cluster(1)
    old = made.nodes[0]
    r = old.redis()
    values = {f"k{i}": os.urandom(i) for i in range(0, 5000, 50)}
    values["large"] = random.Random(3).randbytes(3_000_000)
    r.mset(values)
    r.hset("h", mapping={"a": "1", "b": "2"})
    r.set("expires", "x", ex=1000)
    file = tmp_path / "backup"
    assert cotidal("backup", file, "--from", old.url())[0] == 0
    # Written after the backup: its revision must not come again for something else.
    assert old.put("late", b"1").status == 201
    revision = int(old.get("late").etag.strip('"'))

    one = restored(tmp_path, "one", file)
    two = Node(tmp_path, "two", arguments=["--join", one.addresses["peer"]])
    try:
        assert one.status()["cluster"] != old.status()["cluster"]
        assert one.status()["sessions"] <= len(os.sched_getaffinity(0)) + 1
        r = one.redis()
        assert r.mget(list(values)) == list(values.values())
        assert r.hgetall("h") == {b"a": b"1", b"b": b"2"}
        assert 900 < r.ttl("expires") <= 1000
        assert r.exists("late") == 0
        assert one.put("late", b"2").status == 201
        assert int(one.get("late").etag.strip('"')) > revision
        # It is a system like any other: it restarts, and others join it.
        one.restart()
        two.arguments[-1] = one.addresses["peer"]
        two.start()
        eventually(lambda: two.status()["applied"] == one.status()["applied"], what="two to catch up")
        assert two.status()["digest"] == one.status()["digest"]
        assert two.redis().get("large") == values["large"]
        one.kill()
        one.start()
        assert one.redis().get("late") == b"2"
        code, out, err = cotidal("backup", tmp_path / "again", "--from", one.url())
        assert code == 0, err
    finally:
        for node in (two, one):
            if node.process is not None:
                node.kill()
            node.check_log()


def test_backup_through_a_web_server(cluster, tmp_path):
    """The pieces come from the node that has the file, though the gateway has links to all of them."""
    made = cluster(3, role="db")
    web = made.add_web()
    value = random.Random(4).randbytes(5_000_000)
    assert web.put("big", value).status == 201
    file = tmp_path / "backup"
    code, out, err = cotidal("backup", file, "--from", web.url())
    assert code == 0, err
    node = restored(tmp_path, "copy", file)
    assert node.get("big").body == value
    node.stop()


def test_when_a_majority_is_lost(cluster, tmp_path):
    """What a node that is left had applied becomes a new system."""
    made = cluster(3)
    made.leader().redis().mset({f"k{i}": f"v{i}" for i in range(500)})
    digest = made.wait_equal_digests()[0]["digest"]
    for node in made.nodes:
        node.kill()
    left = made.nodes[2]
    file = tmp_path / "backup"
    code, out, err = cotidal("backup", file, "--from", left.data, "--json")
    assert code == 0 and json.loads(out)["digest"] == digest, err
    assert cotidal("check", left.data)[0] == 0
    node = restored(tmp_path, "new", file)
    assert node.redis().mget([f"k{i}" for i in range(500)]) == [f"v{i}".encode() for i in range(500)]
    assert node.redis().incr("n") == 1
    node.stop()
    assert cotidal("backup", tmp_path / "second", "--from", tmp_path / "empty")[0] in (2, 3)
    (tmp_path / "empty").mkdir()
    assert cotidal("backup", tmp_path / "second", "--from", tmp_path / "empty")[0] == 1


def test_what_is_refused(cluster, tmp_path):
    node = cluster(1).nodes[0]
    node.put("k", b"v")
    file = tmp_path / "backup"
    assert cotidal("backup", file, "--from", node.url())[0] == 0
    assert cotidal("backup", file, "--from", node.url())[0] == 4
    assert cotidal("backup", tmp_path / "none" / "backup", "--from", node.url())[0] == 6
    assert cotidal("backup", tmp_path / "other", "--from", "http://127.0.0.1:1")[0] == 3
    assert not (tmp_path / "other.part").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").write_text("precious")
    code, _, err = cotidal("restore", file, "--data", full)
    assert code == 4 and "not empty" in err and (full / "something").exists()
    assert cotidal("restore", file)[0] == 2
    content = file.read_bytes()
    for offset in (0, 5000, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[offset] ^= 4
        file.write_bytes(damaged)
        assert cotidal("check", file)[0] == 1
        code, _, err = cotidal("restore", file, "--data", tmp_path / "new")
        assert code == 1 and "cannot be used" in err
    file.write_bytes(content[:-1])
    assert cotidal("restore", file, "--data", tmp_path / "new")[0] == 1
    assert not (tmp_path / "new").exists() and not (tmp_path / "new.part").exists()
    # Over HTTP: ids that nobody gave out, and pieces that are not there.
    assert node.http("GET", "/_/backups/1-5").status == 404
    assert node.http("GET", "/_/backups/x").status == 404
    assert node.http("DELETE", "/_/backups/1-").status == 404
    begun = node.http("POST", "/_/backups")
    assert begun.status == 201
    path = begun.headers["Location"]
    assert node.http("POST", "/_/backups").status == 503
    eventually(lambda: node.http("GET", path).json()["state"] == "ready", what="the copy")
    assert node.http("GET", path + "?offset=99999999").status == 404
    assert node.http("GET", path + "?offset=x").status == 400
    assert node.http("GET", path + "?offset=0").body[:100] == content[:100]
    assert node.http("DELETE", path).status == 204
    assert node.http("GET", path).status == 404
