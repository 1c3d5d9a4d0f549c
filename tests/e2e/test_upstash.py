"""The client that Upstash's users have, unchanged, against /v1/redis."""

import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    """A folder with the package installed and the program beside it."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("npm and node are not installed: packaging/install-deps test installs them")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "upstash.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install @upstash/redis here: {done.stderr.strip()[-300:]}")
    return folder


def test_upstash_sdk(sdk, solo):
    done = subprocess.run(["node", "upstash.mjs", solo.url("/v1/redis")], cwd=sdk, capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stdout + done.stderr
