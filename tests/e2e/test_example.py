"""The example site in a real browser: two pages on two nodes, and nodes that die."""

import hashlib
import re

import pytest

import browser
from harness import ROOT, Node, eventually
from test_cli import cotidal

if not browser.find():
    pytest.skip("Chromium is not installed: packaging/install-deps browser installs it", allow_module_level=True)


@pytest.fixture
def chromium(tmp_path):
    opened = browser.Browser(tmp_path / "profile")
    yield opened
    opened.close()


def count(page):
    return int(re.sub(r"\D", "", page.text("#count")) or -1)


def shows_count(page, number):
    eventually(lambda: count(page) == number, what=f"a count of {number}")


def glass(page, node):
    """What the picture says about a node: its classes and its role."""
    return page.run(f"""(() => {{
        const items = [...document.querySelectorAll("#nodes > li")];
        const item = items.find((i) => i.querySelector("h3").textContent === "Node {node.id}");
        return item ? item.className + " | " + item.querySelector(".role").textContent : "";
    }})()""")


def test_two_pages_and_a_node_that_dies(cluster, chromium):
    made = cluster(3)
    code, _, error = cotidal("deploy", str(ROOT / "examples" / "tides"), to=made.nodes[0])
    assert code == 0, error
    leader = made.leader()
    one, two = made.followers()
    for node in (one, two):
        eventually(lambda n=node: b"<title>Tides" in n.http("GET", "/").body, what="the site on every node")
    # Nodes tell their addresses as 127.0.0.1; a page that was asked for as localhost stays there.
    left, right = chromium.open(one.url("/").replace("127.0.0.1", "localhost")), chromium.open(two.url("/"))
    for page in (left, right):
        eventually(lambda p=page: p.text("#live") == "live", what="the stream of changes")
        eventually(lambda p=page: glass(p, leader) == "glass leads | leads", what="the picture of the leader")
        eventually(lambda p=page: p.text("#equal") == "3 copies, equal digests", what="equal digests")

    assert left.run("document.querySelector('.glass.here h3').textContent") == f"Node {one.id}"
    assert left.run("[...document.querySelectorAll('#nodes a[href]')].map((a) => a.hostname)") == ["localhost"] * 2

    # What one does, both see.
    for _ in range(3):
        left.click("#raise")
        right.click("#raise")
    shows_count(left, 6)
    shows_count(right, 6)
    right.type("#name", "Ann <b>")
    right.type("#text", "High water & all is well")
    right.click("#sign")
    eventually(lambda: "High water & all is well" in left.text("#guests"), what="the entry on the other page")
    assert "Ann <b>" in left.text("#guests") and left.run("document.querySelector('#guests b')") is None
    boats = "document.querySelectorAll('#nodes .boat').length"
    eventually(lambda: left.run(boats) == right.run(boats) == 2, what="both pages in both pictures")

    # The leader dies: the picture changes, and nothing else.
    leader.kill()
    left.click("#raise")
    shows_count(right, 7)
    for page in (left, right):
        eventually(lambda p=page: "silent | does not answer" in glass(p, leader), what="the dead node in the picture")
        eventually(lambda p=page: p.run("document.querySelectorAll('#nodes .leads').length") == 1, what="a new leader")
        assert "Nothing is lost" in page.text("#log")
    right.click("#raise")
    shows_count(left, 8)
    assert left.run("document.querySelector('#moving').hidden")
    leader.start()
    eventually(lambda: "silent" not in glass(left, leader), what="the node is back in the picture")

    # A page's own node dies with a click under way: the page goes on elsewhere, and the click counts once.
    two.kill()
    right.type("#text", "not sent yet")
    right.click("#raise")
    eventually(lambda: right.run("!document.querySelector('#moving').hidden && "
                                 "document.querySelector('#moving-link').href.includes('carry')"),
               what="the way to another node")
    right.click("#moving-link")
    eventually(lambda: right.run("location.origin") != two.url() and right.text("#live") == "live", what="the move")
    shows_count(right, 9)
    shows_count(left, 9)
    assert right.run("document.querySelector('#text').value") == "not sent yet"
    eventually(lambda: f"node {two.id}node " in right.text("#path"), what="the session came along")
    assert left.complaints == [] and right.complaints == []


@pytest.fixture
def closed(tmp_path):
    """A node that wants a token of everybody."""
    (tmp_path / "admin.token").write_bytes(cotidal("token", "new")[1])
    node = Node(tmp_path, "closed", arguments=["--require-auth", "--admin-token-file", tmp_path / "admin.token"]).start()
    node.words = ["--token-file", str(tmp_path / "admin.token")]
    yield node
    node.stop()
    node.check_log()


def test_a_visitor_of_tides(closed, chromium):
    """Who has no token may do what the site's _access says, and the page gets along with that."""
    code, _, error = cotidal("deploy", str(ROOT / "examples" / "tides"), *closed.words, to=closed)
    assert code == 0, error
    left, right = chromium.open(closed.url("/")), chromium.open(closed.url("/"))
    for page in (left, right):
        eventually(lambda p=page: p.text("#live") == "live", what="the stream of changes")
        eventually(lambda p=page: "for the " in p.text("#you"), what="a session")
        assert page.text("#equal") == "the nodes are not shown to visitors"
        assert page.text(".glass.here .role") == "the same at every node"
        assert page.run("document.querySelector('#json').hidden")
    left.click("#raise")
    right.click("#raise")
    shows_count(left, 2)
    shows_count(right, 2)
    left.type("#name", "Ann")
    left.type("#text", "from outside")
    left.click("#sign")
    eventually(lambda: "from outside" in right.text("#guests"), what="the entry on the other page")
    assert "node" not in left.text("#guests")
    eventually(lambda: right.run("document.querySelectorAll('.boat').length") == 2, what="both boats")
    eventually(lambda: not left.run("document.querySelector('#sign').disabled"), what="the end of signing")
    left.click("#forget")
    eventually(lambda: "You are nobody" in left.text("#you"), what="being forgotten")
    left.go(closed.url("/"))
    eventually(lambda: "for the first time" in left.text("#you"), what="somebody else")
    # More clicks than its rate has room for: they wait, and none is lost.
    right.run("(() => { for (let i = 0; i < 40; i++) document.querySelector('#raise').click(); })()")
    shows_count(left, 42)
    assert right.text("#said") == ""
    # And nothing else.
    for method, path in (("GET", "/v1/kv/other"), ("GET", "/v1/kv?prefix="), ("DELETE", "/v1/kv/tides/count"),
                         ("GET", "/_/status"), ("GET", "/_/tokens"), ("POST", "/v1/redis")):
        assert left.run(f"fetch('{path}', {{method: '{method}'}}).then((answer) => answer.status)") == 401, path
    assert left.complaints == [] and right.complaints == []


def test_dashboard_with_a_token(closed, chromium):
    code, token, error = cotidal("token", "create", "--name", "dashboard", *closed.words, to=closed)
    assert code == 0, error
    token = token.decode().strip()
    page = chromium.open(closed.url("/_/"))
    asks = "!document.querySelector('#login').hidden && document.querySelector('#numbers').hidden"
    eventually(lambda: page.text("#state") == "asks for a token")
    assert page.run(asks) and page.run("document.activeElement.id") == "token"
    for text, said in (("ct_short", "That is no token"), ("ct_" + "0" * 64, "does not take this one")):
        page.type("#token", text)
        page.click("#login-form button")
        eventually(lambda s=said: s in page.text("#login-said"), what=said)
        assert page.run(asks) and page.run("sessionStorage.length") == 0
    page.size(360, 740)
    assert page.run("document.documentElement.scrollWidth") <= 360
    page.type("#token", f" {token} ")
    page.click("#login-form button")
    eventually(lambda: page.text("#state") == "all is well" and page.run("document.querySelector('#login').hidden"))
    eventually(lambda: "Watchers" in page.text("#clients"), what="the metrics, with the token as well")
    # It is in this tab, and nowhere else.
    assert page.run("document.querySelector('#token').value + document.cookie + location.search + location.hash") == ""
    assert page.run("localStorage.length") == 0 and page.run("sessionStorage.length") == 1
    assert chromium.open(closed.url("/_/web/icon.svg")).run("sessionStorage.length") == 0
    page.go(closed.url("/_/"))
    eventually(lambda: page.text("#state") == "all is well", what="the token is kept for this tab")
    assert page.run("[...document.querySelectorAll('.free')].every((link) => link.hidden)")
    page.click("#forget")
    eventually(lambda: page.text("#state") == "asks for a token")
    assert page.run("sessionStorage.length") == 0
    # Revoked while it is shown.
    page.type("#token", token)
    page.click("#login-form button")
    eventually(lambda: page.text("#state") == "all is well")
    cotidal("token", "revoke", hashlib.sha256(token.encode()).hexdigest()[:16], *closed.words, to=closed)
    eventually(lambda: "was revoked" in page.text("#login-said"), what="the page says so")
    assert page.run("sessionStorage.length") == 0
    welcome = chromium.open(closed.url("/"))
    eventually(lambda: welcome.text("#state") == "asks for a token")
    assert page.complaints == [] and welcome.complaints == [] and token not in closed.log()


def test_dashboard(trio, chromium):
    node = trio.nodes[1]
    page = chromium.open(node.url("/_/"))
    eventually(lambda: page.text("#state") == "all is well")
    eventually(lambda: page.text("#digests") == "3 copies with equal digests")
    assert page.run("document.querySelectorAll('.node').length") == 3
    assert page.run("document.querySelectorAll('.node.leader').length") == 1
    eventually(lambda: "Watchers" in page.text("#clients") and "Log" in page.text("#store"))
    eventually(lambda: page.run("document.querySelectorAll('.chart path.line[d]').length") == 6, what="six charts")
    welcome = chromium.open(node.url("/_/web/welcome.html"))
    eventually(lambda: welcome.text("#state") == "ready")
    for name, shown in (("dashboard", page), ("welcome", welcome)):
        shown.size(360, 740)
        assert shown.run("document.documentElement.scrollWidth") <= 360, f"the {name} page is wider than a phone"
        assert shown.complaints == []
