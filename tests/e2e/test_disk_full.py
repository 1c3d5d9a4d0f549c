"""A disk that fills up: first the leader refuses what adds data; at the very end the process stops, and has lost nothing."""

import contextlib
import os
import shutil
import signal
import subprocess

import pytest

from harness import Node, eventually


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, and a function that gives it another size in megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*words):
        return subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True, check=False)

    made = mount("-t", "tmpfs", "-o", "size=176m", "tmpfs")
    if os.geteuid() != 0 or made.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {made.stderr.strip()}")
    yield folder, lambda size: mount("-o", f"remount,size={size}m")
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(node, acknowledged, rounds=2000):
    """Writes until it is refused (the status) or the node is gone (None)."""
    for _ in range(rounds):
        key = f"k{len(acknowledged)}"
        try:
            answer = node.put(key, key.encode() * 30000)
        except (OSError, ValueError):
            return None
        except Exception:  # noqa: BLE001 - http.client has many ways to say that it broke
            return None
        if answer.status != 201:
            return answer
        acknowledged.append(key)
    return None


def check_all(node, acknowledged):
    r = node.redis()
    for key in acknowledged:
        assert r.get(key) == key.encode() * 30000, key


def test_writes_are_refused_before_the_disk_is_full(small_disk, tmp_path):
    disk, grow = small_disk
    node = Node(tmp_path, "node", arguments=["--min-free", "40M", "--snapshot-bytes", "8M"])
    node.data = disk / "data"
    node.start()
    acknowledged = []
    refused = fill(node, acknowledged)
    assert refused is not None and refused.status == 507, node.log_tail()
    assert refused.json()["applied"] == "no" and "disk" in refused.json()["detail"]
    assert node.status()["disk_low"] is True
    # Reads and deletions go on, and the node ends and starts.
    check_all(node, acknowledged)
    assert node.redis().delete(acknowledged.pop()) == 1
    node.restart()
    check_all(node, acknowledged)
    # With room again it takes writes again, by itself.
    grow(400)
    eventually(lambda: node.put("again", b"x").status == 201, what="writes to be taken again")
    assert node.status()["disk_low"] is False
    node.stop()
    node.check_log()


def test_a_full_disk_stops_the_process_and_loses_nothing(small_disk, tmp_path):
    disk, grow = small_disk
    node = Node(tmp_path, "node", arguments=["--min-free", "0"])
    node.data = disk / "data"
    node.start()
    acknowledged = []
    assert fill(node, acknowledged) is None
    assert node.process.wait(30) == 70, node.log_tail()
    node._forget()
    assert "cotidal: stopped:" in node.log(), node.log_tail()
    assert "No space left" in node.log() or "disk is full" in node.log(), node.log_tail()
    assert shutil.disk_usage(disk).free < 40 << 20
    assert len(acknowledged) > 10
    grow(600)
    node.start()
    check_all(node, acknowledged)
    with contextlib.suppress(IndexError):
        assert node.redis().delete(acknowledged.pop()) == 1
    node.stop()
    node.check_log()


def test_a_page_that_cannot_be_written(cluster):
    """What the kernel sends when a page of the store's map has no place on the disk."""
    node = cluster(1).nodes[0]
    assert node.put("k", b"v").status == 201
    node.signal(signal.SIGBUS)
    assert node.process.wait(30) == 70
    node._forget()
    assert "the disk is full, or has failed" in node.log()
    node.start()
    assert node.get("k").body == b"v"
