"""The roles' own command line: what is refused before anything starts."""

import socket
import subprocess

import pytest

from harness import BINARY, Node


def run(*words):
    done = subprocess.run([BINARY, *words], capture_output=True, timeout=10)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("words", [
    ["serve", "--nosuch"],
    ["serve", "--http", "nowhere"],
    ["serve", "--http", "127.0.0.1:99999"],
    ["serve", "--threads", "-1"],
    ["serve", "--max-data", "much"],
    ["web"],
    ["web", "--db", "127.0.0.1"],
    ["db", "--join", "x"],
])
def test_wrong_options_are_refused(words, tmp_path):
    code, err = run(*words, *(["--data", str(tmp_path / "d")] if words[0] != "web" else []))
    assert code != 0 and err.strip()
    assert not (tmp_path / "d").exists() or not any((tmp_path / "d").iterdir())


def test_open_to_the_world_only_when_told(tmp_path):
    code, err = run("serve", "--data", str(tmp_path / "d"), "--http", "0.0.0.0:0", "--redis", "127.0.0.1:0", "--peer",
                    "127.0.0.1:0")
    assert code != 0
    assert "--insecure" in err


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        code, err = run("serve", "--data", str(tmp_path / "d"), "--http", f"127.0.0.1:{port}", "--redis", "127.0.0.1:0",
                        "--peer", "127.0.0.1:0")
        assert code != 0 and str(port) in err


def test_two_processes_never_share_a_data_folder(tmp_path):
    first = Node(tmp_path, "node1").start()
    try:
        code, err = run("serve", "--data", str(first.data), "--http", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--peer",
                        "127.0.0.1:0")
        assert code != 0 and err.strip()
        assert first.put("a", b"1").status == 201
    finally:
        first.stop()


@pytest.mark.parametrize("role", ["serve", "db", "web"])
def test_help(role):
    done = subprocess.run([BINARY, role, "--help"], capture_output=True, timeout=30)
    assert done.returncode == 0 and b"--" in done.stdout
