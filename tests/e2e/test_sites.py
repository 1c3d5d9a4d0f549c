"""Sites: deploy, look, change, go back; large files; web servers that outlive the database."""

import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from harness import BINARY, SANITIZED, Node, eventually
from test_cli import cotidal

PAGE = "<!doctype html><title>{0}</title><h1>{0}</h1><script src=/app.js></script>" + "<p>words " * 100


def make_site(folder, title="one"):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(PAGE.format(title))
    (folder / "about.html").write_text("<h1>about</h1>")
    (folder / "sub" / "index.html").write_text(f"<h1>sub {title}</h1>")
    (folder / "app.js").write_text(f"console.log('{title}');\n" * 100)
    (folder / "404.html").write_text("<h1>lost</h1>")
    return folder


def deploy(folder, node, *options, site=None):
    words = ["deploy", str(folder), "--json", *options] + (["--site", site] if site else [])
    code, out, err = cotidal(*words, to=node)
    assert code == 0, err
    return json.loads(out)


def shows(node, text, path="/", **headers):
    return text.encode() in node.http("GET", path, headers=headers).body


@pytest.fixture(scope="module")
def pages(solo, tmp_path_factory):
    folder = make_site(tmp_path_factory.mktemp("pages"))
    (folder / "_headers").write_text("/app.js\n  X-Answer: 42\n")
    (folder / "_redirects").write_text("/old /about 301\n/app/* /index.html 200\n")
    (folder / "main.3f2a91bc.js").write_text("hashed")
    (folder / "name with ü.txt").write_text("odd")
    (folder / "empty.txt").write_text("")
    deploy(folder, solo)
    return folder


def test_a_page_is_changed_on_all_nodes_at_once_and_back(trio, tmp_path):
    one, two, three = trio.nodes
    assert one.http("GET", "/").status == 200  # the welcome page
    folder = make_site(tmp_path / "site")
    first = deploy(folder, one)
    assert first["shown"] and first["sent_blocks"] == first["blocks"]
    assert shows(one, "<h1>one</h1>")  # at once where it was deployed
    for node in (two, three):
        eventually(lambda n=node: shows(n, "<h1>one</h1>"), what="the site on every node")
    (folder / "index.html").write_text(PAGE.format("two"))
    second = deploy(folder, two)
    assert 0 < second["sent_blocks"] < first["sent_blocks"]
    assert shows(two, "<h1>two</h1>")
    for node in (one, three):
        eventually(lambda n=node: shows(n, "<h1>two</h1>"), what="the new page on every node")
    assert deploy(folder, three)["sent_blocks"] == 0
    code, out, err = cotidal("rollback", str(first["deploy"]), to=three)
    assert code == 0, err
    for node in trio.nodes:
        eventually(lambda n=node: shows(n, "<h1>one</h1>"), what="the old page on every node")
    assert cotidal("rollback", "999", to=one)[0] == 4
    code, out, _ = cotidal("sites", to=two)
    assert code == 0 and f"* {first['deploy']:6}".encode() in out
    trio.wait_equal_digests()


def test_nobody_steps_back(trio, tmp_path):
    """Who has seen a switch on one node waits on another one until that one has it, too."""
    one, two, _ = trio.nodes
    folder = make_site(tmp_path / "site", "first")
    deploy(folder, one, "--host", "steps.example", site="steps")
    host = {"Host": "steps.example"}
    eventually(lambda: shows(two, "first", **host))
    stop = threading.Event()
    wrong = []

    def visit(number):
        """One visitor who goes from node to node and remembers what he was told."""
        jar, seen = {}, 0
        while not stop.is_set():
            node = random.choice(trio.nodes)
            answer = node.http("GET", "/", headers={**host, **jar})
            if answer.status != 200:
                wrong.append(answer)
                return
            at = int(answer.body.split(b"<h1>page ")[1].split(b"<")[0]) if b"<h1>page" in answer.body else 0
            if at < seen:
                wrong.append((seen, at))
            seen = max(seen, at)
            if answer.headers["Set-Cookie"]:
                jar = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}

    visitors = [threading.Thread(target=visit, args=(i,)) for i in range(4)]
    for v in visitors:
        v.start()
    for i in range(1, 9):
        (folder / "index.html").write_text(f"<h1>page {i}</h1>")
        deploy(folder, random.choice(trio.nodes), site="steps")
    stop.set()
    for v in visitors:
        v.join(30)
    assert not wrong
    # A cookie from nowhere holds nobody up for long, and of another cluster says nothing.
    cookie = one.http("GET", "/", headers=host).headers["Set-Cookie"].split(";")[0]
    cluster = cookie.split("=")[1].split(".")[0]
    for value in (f"{cluster}.99999999", "00000000.99999999", "x.y", f"{cluster}."):
        answer = two.http("GET", "/", headers={**host, "Cookie": f"cotidal_site={value}"})
        assert answer.status == 200 and b"page 8" in answer.body
    assert one.http("GET", "/", headers={**host, "Cookie": cookie}).headers["Set-Cookie"] is None


def test_files(solo, pages):
    page = solo.http("GET", "/")
    assert page.status == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache" and page.headers["Vary"] == "Accept-Encoding"
    assert solo.http("HEAD", "/").headers["Content-Length"] == str(len(page.body))
    zipped = solo.http("GET", "/", headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["Content-Encoding"] == "gzip" and gzip.decompress(zipped.body) == page.body
    assert zipped.etag != page.etag
    assert solo.http("GET", "/", headers={"Accept-Encoding": "gzip, br"}).headers["Content-Encoding"] == "br"
    for etag, status in ((page.etag, 304), (zipped.etag, 200), ("*", 304), ('"x", ' + page.etag, 304)):
        assert solo.http("GET", "/", headers={"If-None-Match": etag}).status == status
    assert solo.http("GET", "/", headers={"If-Modified-Since": page.headers["Last-Modified"]}).status == 304
    assert solo.http("GET", "/", headers={"If-Match": '"x"'}).status == 412
    for _ in range(4):  # the third one comes the short way
        again = solo.http("GET", "/")
        assert (again.body, again.etag, again.headers["Set-Cookie"]) == \
            (page.body, page.etag, page.headers["Set-Cookie"])
        hashed = solo.http("GET", "/main.3f2a91bc.js")
        assert hashed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert hashed.headers["Set-Cookie"] is None and hashed.body == b"hashed"
        assert solo.http("GET", "/app.js").headers["X-Answer"] == "42"
        assert solo.http("GET", "/name%20with%20%C3%BC.txt").body == b"odd"
        assert solo.http("GET", "/empty.txt").body == b""


def test_paths(solo, pages):
    def location(path):
        answer = solo.http("GET", path)
        return answer.status, answer.headers["Location"]

    assert location("/sub") == (308, "/sub/")
    assert location("/sub?a=b") == (308, "/sub/?a=b")
    assert location("/old") == (301, "/about")
    assert solo.http("GET", "/about").body == b"<h1>about</h1>"
    assert solo.http("GET", "/sub/").body == b"<h1>sub one</h1>"
    assert solo.http("GET", "/sub/nothing").body == b"<h1>lost</h1>"
    assert solo.http("GET", "/sub/nothing").status == 404
    assert solo.http("GET", "/../etc/passwd").status == 400
    assert solo.http("GET", "/.git/config").status == 404
    to_page = {"Accept": "text/html"}
    assert solo.http("GET", "/app/some/view", headers=to_page).status == 200
    assert solo.http("GET", "/app/gone.js", headers={"Accept": "*/*"}).status == 404  # a script is never a page
    assert solo.http("POST", "/", b"x").status == 405
    assert solo.http("GET", "/v1/nothing").status == 404
    assert solo.http("GET", "/_/health").status == 200
    assert solo.http("PUT", "/v1/kv/still-ours", b"1").status in (201, 204)


def test_old_pages_find_their_files(solo, pages):
    os.rename(pages / "main.3f2a91bc.js", pages / "main.77aa00bb.js")
    deploy(pages, solo)
    assert solo.http("GET", "/main.77aa00bb.js").status == 200
    old = solo.http("GET", "/main.3f2a91bc.js")
    assert old.status == 200 and old.body == b"hashed"
    assert solo.http("GET", "/main.00000000.js").status == 404


def test_a_large_file_in_ranges(solo, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    content = random.Random(7).randbytes(30 * 1024 * 1024 + 17)
    (folder / "video.mp4").write_bytes(content)
    deploy(folder, solo, "--host", "large.example", site="large")
    host = {"Host": "large.example"}
    whole = solo.http("GET", "/video.mp4", headers=host)
    assert whole.body == content and whole.headers["Content-Type"] == "video/mp4"
    size = len(content)
    for text, first, last in (("0-0", 0, 0), ("262143-262144", 262143, 262144), ("-17", size - 17, size - 1),
                              ("1000000-9000000", 1000000, 9000000), (f"{size - 1}-", size - 1, size - 1)):
        part = solo.http("GET", "/video.mp4", headers={**host, "Range": f"bytes={text}"})
        assert part.status == 206 and part.body == content[first:last + 1]
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    several = solo.http("GET", "/video.mp4", headers={**host, "Range": "bytes=0-9,5000000-5000009"})
    assert several.status == 206 and several.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
    assert content[:10] in several.body and content[5000000:5000010] in several.body
    assert len(several.body) == int(several.headers["Content-Length"])
    assert solo.http("GET", "/video.mp4", headers={**host, "Range": f"bytes={size}-"}).status == 416
    other = solo.http("GET", "/video.mp4", headers={**host, "Range": "bytes=0-9", "If-Range": '"x"'})
    assert other.status == 200 and len(other.body) == size
    # Many who read slowly: the server holds a piece for each, not the file.
    before = resident(solo)
    readers = [solo.socket("http") for _ in range(20)]
    for s in readers:
        s.sendall(b"GET /video.mp4 HTTP/1.1\r\nHost: large.example\r\n\r\n")
    time.sleep(0.3)
    assert solo.http("GET", "/video.mp4", headers={**host, "Range": "bytes=5-6"}).body == content[5:7]
    if not SANITIZED:  # what was freed stays in AddressSanitizer's quarantine
        assert resident(solo) - before < 60 * 1024 * 1024
    for s in readers[1:]:
        s.close()
    got = b""
    while len(got) < size:
        got += readers[0].recv(1 << 20)
    assert got.endswith(content)
    readers[0].close()


def resident(node):
    with open(f"/proc/{node.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def test_an_upload_goes_on_where_it_was(solo, tmp_path):
    folder = tmp_path / "resumed"
    folder.mkdir()
    hashes = []
    for i in range(100):
        content = random.Random(i).randbytes(250_000)
        (folder / f"{i}.bin").write_bytes(content)
        hashes.append(hashlib.sha256(content).hexdigest())
    hashes.sort()  # the order in which they are sent
    words = [BINARY, "deploy", str(folder), "--site", "resumed", "--to", solo.url()]
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asked = "\n".join(hashes[:20])
        eventually(lambda: solo.http("POST", "/v1/deploys/blocks/missing", asked).body == b"", every=0.001,
                   what="the first blocks are there")
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    done = deploy(folder, solo, site="resumed")
    assert done["blocks"] == 101 and done["sent_blocks"] <= 81
    assert solo.http("POST", "/v1/deploys/blocks/missing", "\n".join(hashes)).body == b""


def test_a_dry_run_tells_what_is_wrong(solo, tmp_path):
    folder = make_site(tmp_path / "site")
    (folder / "index.html").write_text("<a href=/about>a</a><a href=sub/>s</a><img src=missing.png>")
    code, out, _ = cotidal("deploy", str(folder), "--site", "dry", "--dry-run", to=solo)
    assert code == 1 and b"index.html:1: leads nowhere: missing.png" in out and b"1 links lead nowhere" in out
    assert b'"dry"' not in solo.http("GET", "/v1/sites").body
    (folder / "_redirects").write_text("/a http://\n/b /nothing 200\n")
    code, _, err = cotidal("deploy", str(folder), "--site", "dry", to=solo)
    assert code == 1 and "_redirects:1:" in err and "nothing was sent" in err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cotidal("deploy", str(empty), to=solo)[0] == 1
    assert cotidal("deploy", str(tmp_path / "nowhere"), to=solo)[0] == 6


def test_links_stay_within_the_folder(solo, tmp_path):
    folder = make_site(tmp_path / "site")
    (tmp_path / "secret").write_text("not for everybody")
    (tmp_path / "site2").mkdir()
    (tmp_path / "site2" / "near").write_text("not for everybody")
    (folder / "real.txt").write_text("real")
    (folder / "inside.txt").symlink_to("real.txt")
    (tmp_path / "current").symlink_to(folder)
    deploy(tmp_path / "current", solo, "--host", "links.example", site="links")
    assert solo.http("GET", "/inside.txt", headers={"Host": "links.example"}).body == b"real"
    for target in ("../secret", tmp_path / "secret", "../site2/near"):
        (folder / "out.txt").symlink_to(target)
        code, _, err = cotidal("deploy", str(folder), "--site", "links", to=solo)
        assert code == 1 and "out.txt leads out of the folder" in err
        (folder / "out.txt").unlink()


def test_several_sites_and_a_preview(solo, pages, tmp_path):
    folder = make_site(tmp_path / "site", "other")
    deploy(folder, solo, "--host", "Shop.example,www.shop.example", site="shop")
    for host in ("shop.example", "SHOP.example:8080", "www.shop.example"):
        assert shows(solo, "other", Host=host)
    assert not shows(solo, "other", Host="else.example")
    code, _, err = cotidal("deploy", str(folder), "--site", "thief", "--host", "shop.example", to=solo)
    assert code == 4 and "another site has" in err
    (folder / "index.html").write_text("<h1>next</h1>")
    ready = deploy(folder, solo, "--preview", "--note", "for the spring", site="shop")
    assert not ready["shown"] and shows(solo, "other", Host="shop.example")
    jump = solo.http("GET", f"/_/preview/{ready['deploy']}", headers={"Host": "shop.example"})
    assert jump.status == 303
    cookie = jump.headers["Set-Cookie"].split(";")[0]
    looked = solo.http("GET", "/", headers={"Host": "shop.example", "Cookie": cookie})
    assert looked.body == b"<h1>next</h1>" and looked.headers["Site-Preview"] == str(ready["deploy"])
    assert solo.http("GET", "/_/preview/999999").status == 404
    assert b"for the spring" in cotidal("sites", to=solo)[1]
    assert cotidal("sites", "delete", "shop", to=solo)[0] == 0
    assert cotidal("sites", "delete", "shop", to=solo)[0] == 1
    eventually(lambda: not shows(solo, "other", Host="shop.example"), what="the site is gone")
    # What only it had is removed in the background.
    left = {s["name"] for s in solo.http("GET", "/v1/sites").json()["sites"]}
    assert "shop" not in left


def test_old_deploys_go(cluster, tmp_path):
    made = cluster(1)
    node = made.nodes[0]
    folder = make_site(tmp_path / "site")

    for i in range(6):
        (folder / "data.bin").write_bytes(random.Random(i).randbytes(300_000))
        deploy(folder, node, "--keep", "2")
    site = node.http("GET", "/v1/sites").json()["sites"][0]
    assert [d["id"] for d in site["deploys"]] == [5, 6]
    first = next(d for d in site["deploys"] if d["id"] == 5)["manifest"]["blocks"][0]
    assert node.http("GET", f"/v1/deploys/blocks/{first}").status == 200
    assert node.redis().dbsize() == 0 and node.redis().keys("*") == []
    assert node.redis().flushall() and shows(node, "<h1>one</h1>")
    node.restart()
    eventually(lambda: shows(node, "<h1>one</h1>"), what="the site after a restart")


def test_a_web_server_outlives_the_database(cluster, tmp_path):
    made = cluster(3, role="db")
    seeds = ",".join(n.addresses["peer"] for n in made.nodes)
    cache = tmp_path / "cache"
    web = Node(made.folder, "web1", "web", ["--db", seeds, "--cache", str(cache)])
    made.webs.append(web)
    web.start()
    folder = make_site(tmp_path / "site")
    content = random.Random(1).randbytes(1_000_000)
    (folder / "photo.jpg").write_bytes(content)
    (folder / "never-asked.txt").write_text("never asked for before")
    deploy(folder, web)
    assert shows(web, "<h1>one</h1>")
    eventually(lambda: sum(f.stat().st_size for f in cache.glob("blocks/*/*")) > 1_000_000, what="the cache is filled")
    eventually(lambda: len(list(cache.glob("blocks/*/*"))) >= 14, what="all of it")
    for node in made.nodes:
        node.kill()

    def everything():
        assert shows(web, "<h1>one</h1>")
        assert web.http("GET", "/never-asked.txt").body == b"never asked for before"
        assert web.http("GET", "/photo.jpg").body == content
        assert web.http("GET", "/photo.jpg", headers={"Range": "bytes=300000-300009"}).body == content[300000:300010]
        assert web.http("GET", "/nothing").status == 404

    everything()
    web.restart()
    everything()
    # A visitor who has seen more than this server has is not shown less.
    name = web.http("GET", "/").headers["Set-Cookie"].split(";")[0].split(".")[0]
    assert web.http("GET", "/", headers={"Cookie": f"{name}.999999"}).status == 503
    for node in made.nodes:
        node.spawn()
    for node in made.nodes:
        node.wait_ready()
    (folder / "index.html").write_text(PAGE.format("two"))
    eventually(lambda: web.http("GET", "/_/ready").status == 200, what="the database is back")
    deploy(folder, web)
    assert shows(web, "<h1>two</h1>")
