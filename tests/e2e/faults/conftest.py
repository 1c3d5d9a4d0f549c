"""`lab`: three nodes in network namespaces of their own, for a whole file. Tests leave all of them running."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from lab import Lab, NotPermitted  # noqa: E402


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    try:
        made = Lab(tmp_path_factory.mktemp("lab"))
    except NotPermitted as error:
        pytest.skip(f"network namespaces are needed: {error}")
    yield made
    made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """When a test fails, the logs of its nodes are part of the report."""
    outcome = yield
    result = outcome.get_result()
    made = getattr(item, "funcargs", {}).get("lab")
    if result.failed and made:
        for node in made.nodes:
            result.sections.append((f"log of {node.name}", node.log_tail(60)))
