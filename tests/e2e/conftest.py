"""Fixtures: `solo` is one node for a whole file, `trio` three nodes for a whole file (tests must leave
them running), `cluster` makes fresh ones for tests that kill and restart."""

import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import BINARY, Cluster  # noqa: E402


def pytest_configure(config):
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"there is no {BINARY}: build first (./up --build), or set COTIDAL_BIN", returncode=3)
    # Debian's redis-tools has the server's program under another name; the package redis-server would add a
    # service that starts by itself.
    program = shutil.which("redis-check-rdb")
    if program and not shutil.which("redis-server"):
        config.redis_folder = tempfile.TemporaryDirectory()
        os.symlink(program, os.path.join(config.redis_folder.name, "redis-server"))
        os.environ["PATH"] += os.pathsep + config.redis_folder.name


def pytest_unconfigure(config):
    if hasattr(config, "redis_folder"):
        config.redis_folder.cleanup()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """When a test fails, the logs of its nodes are part of the report."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for name in ("solo", "trio", "cluster"):
        value = item.funcargs.get(name) if hasattr(item, "funcargs") else None
        clusters = getattr(value, "made", None) or ([value.cluster] if hasattr(value, "cluster") else [])
        clusters += [value] if isinstance(value, Cluster) else []
        for c in clusters:
            for node in c.nodes + c.webs:
                report.sections.append((f"log of {node.name}", node.log_tail(40)))


@pytest.fixture(scope="module")
def solo(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("solo"), 1)
    node = made.nodes[0]
    node.cluster = made
    yield node
    made.close()


@pytest.fixture(scope="module")
def redis_port(solo):
    return solo.address("redis")[1]


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("trio"), 3)
    yield made
    made.close()


@pytest.fixture
def cluster(tmp_path):
    """A function: cluster(3), cluster(3, role="db"), cluster(1, arguments=["--max-data", ...])."""

    def make(size, **options):
        folder = tmp_path / f"cluster{len(make.made)}"
        folder.mkdir()
        make.made.append(Cluster(folder, size, **options))
        return make.made[-1]

    make.made = []
    yield make
    problems = []
    for made in make.made:
        try:
            made.close()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n\n".join(problems)


@pytest.fixture
def key(request):
    """A key of the test's own."""
    return request.node.name.replace("[", "-").replace("]", "")
