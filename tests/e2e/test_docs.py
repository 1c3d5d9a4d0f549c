"""The tables in the documentation are those in the program."""

import subprocess

from harness import BINARY, ROOT


def printed(*words):
    return subprocess.run([BINARY, *words], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_options_table():
    assert printed("options") in (ROOT / "docs" / "operations.md").read_text()


def test_commands_table():
    assert printed("commands") in (ROOT / "docs" / "protocols.md").read_text()
