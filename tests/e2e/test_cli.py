"""The command line: what a person types, and the exit codes that scripts rely on."""

import json
import os
import socket
import subprocess

import pytest

from harness import BINARY, eventually


def cotidal(*words, to=None, stdin=b"", **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("COTIDAL_")}
    env.update(environment)
    if to:
        env["COTIDAL_TO"] = to.url()
    run = subprocess.run([BINARY, *words], input=stdin, capture_output=True, env=env, timeout=60)
    return run.returncode, run.stdout, run.stderr.decode()


def test_set_get_del(solo, key):
    code, out, _ = cotidal("set", key, "spring tide", to=solo)
    assert code == 0 and out.startswith(b"created, revision ")
    assert cotidal("get", key, to=solo)[:2] == (0, b"spring tide")
    code, out, _ = cotidal("set", key, "neap", to=solo)
    assert code == 0 and out.startswith(b"stored, revision ")
    assert cotidal("del", key, to=solo)[0] == 0
    code, out, err = cotidal("get", key, to=solo)
    assert (code, out) == (1, b"") and "no key" in err
    assert cotidal("del", key, to=solo)[0] == 1


def test_any_bytes_in_key_and_value(solo):
    value = bytes(range(256)) * 1000
    for key in ("a b/ü?&%", "..", "-", "--x"):
        assert cotidal("set", "--", key, "-", to=solo, stdin=value)[0] == 0
        assert cotidal("get", "--", key, to=solo)[:2] == (0, value)
        assert solo.redis().get(key) == value


def test_options_of_set(solo, key):
    assert cotidal("set", key, "{}", "--ttl", "50s", "--content-type=application/json", to=solo)[0] == 0
    assert 0 < solo.redis().ttl(key) <= 50
    assert solo.get(key).headers["Content-Type"] == "application/json"
    code, _, err = cotidal("set", key, "x", "--if-absent", to=solo)
    assert code == 4 and "Nothing was changed" in err
    code, out, _ = cotidal("get", key, "--json", to=solo)
    read = json.loads(out)
    assert (read["key"], read["value"]) == (key, "{}")
    assert cotidal("set", key, "y", "--if-revision", read["revision"], to=solo)[0] == 0
    assert cotidal("set", key, "z", "--if-revision", read["revision"], to=solo)[0] == 4
    assert solo.get(key).body == b"y"


def test_status(trio):
    trio.wait_equal_digests()

    def settled():
        """What a node knows of the others is a moment old."""
        code, out, _ = cotidal("status", to=trio.nodes[1])
        assert code == 0, out
        return out.decode() if "All 3 copies are equal." in out.decode() else None

    text = eventually(settled)
    assert "3 of 3 nodes up" in text
    rows = [line for line in text.splitlines() if "voter" in line]
    assert len(rows) == 3 and sum(line.startswith("*") for line in rows) == 1
    for node in trio.nodes:
        assert node.addresses["http"] in text
    code, out, _ = cotidal("status", "--json", "--to", trio.nodes[2].addresses["http"])
    assert code == 0 and len(json.loads(out)["members"]) == 3


def test_unreachable():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        for command in (["status"], ["get", "a"], ["set", "a", "b"]):
            code, out, err = cotidal(*command, "--to", url)
            assert (code, out) == (3, b"")
            assert "Nothing was changed" in err and "--to" in err


def test_a_write_without_an_answer_is_unknown():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        code, _, err = cotidal("set", "a", "b", "--to", url, "--timeout", "300ms")
        assert code == 5 and "may or may not" in err
        assert cotidal("get", "a", "--to", url, "--timeout", "300ms")[0] == 3


@pytest.mark.parametrize("words", [
    ["nosuch"], ["get"], ["set", "a"], ["get", "a", "b"], ["get", "a", "--nosuch"], ["get", "a", "--to"], ["status", "--ttl", "1s"],
    ["set", "a", "b", "--ttl", "soon"], ["get", "a", "--timeout", "x"], ["del", "a", "--if-revision", "x"], [],
])
def test_usage_errors(words):
    code, out, err = cotidal(*words)
    assert (code, out) == (2, b"") and err


def test_help():
    code, out, _ = cotidal("--help")
    text = out.decode()
    assert code == 0
    for name in ("serve", "db", "web", "status", "get", "set", "del", "bench"):
        assert f"\n  {name} " in text
    for name in ("status", "get", "set", "del"):
        code, out, _ = cotidal(name, "--help")
        assert code == 0 and b"COTIDAL_TO" in out
    assert cotidal("--version")[1].startswith(b"cotidal ")
