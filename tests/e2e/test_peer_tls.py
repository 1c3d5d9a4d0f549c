"""TLS between nodes: `cotidal cert`, three nodes and a web server over it, failover, and who is refused."""

import contextlib
import os
import re
import signal
import ssl
import stat
import struct
import subprocess

import pytest

from harness import BINARY, Cluster, Load, Node, eventually


def cotidal(*words, code=0):
    run = subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == code, (words, run)
    return run


def peer_arguments(folder, name="127.0.0.1", ca="ca"):
    return ["--peer-cert", folder / ca / f"{name}.pem", "--peer-key", folder / ca / f"{name}.key",
            "--peer-ca", folder / ca / "ca.pem"]


def make_authority(folder, ca="ca", name="127.0.0.1"):
    """An authority and a node's certificate, in one folder."""
    cotidal("cert", "init", "--out", folder / ca)
    cotidal("cert", "node", name, "--san", "localhost", "--ca", folder / ca, "--out", folder / ca)
    return peer_arguments(folder, name, ca)


class TlsCluster(Cluster):
    def add_web(self):
        seeds = ",".join(n.addresses["peer"] for n in self.nodes)
        web = Node(self.folder, f"web{len(self.webs) + 1}", "web", ["--db", seeds, *self.arguments])
        self.webs.append(web)
        return web.start()


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer_tls")
    made = TlsCluster(folder, 3, arguments=make_authority(folder))
    made.tls = made.arguments
    yield made
    made.close()


def test_cert(tmp_path):
    out = cotidal("cert", "init", "--out", tmp_path / "ca").stdout
    assert "ca.pem" in out and "ca.key" in out
    cotidal("cert", "node", "node1.example", "--san", "10.0.0.1,node1", "--ca", tmp_path / "ca", "--out", tmp_path / "n")
    assert sorted(os.listdir(tmp_path / "n")) == ["node1.example.key", "node1.example.pem"]
    for key in (tmp_path / "ca" / "ca.key", tmp_path / "n" / "node1.example.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shown = cotidal("cert", "show", tmp_path / "n" / "node1.example.pem").stdout
    assert "node1.example, 10.0.0.1, node1" in shown and re.search("36[45] days left", shown), shown
    assert "authority" in cotidal("cert", "show", tmp_path / "ca" / "ca.pem").stdout
    # OpenSSL agrees.
    subprocess.run(["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "node1", "-CAfile",
                    tmp_path / "ca" / "ca.pem", tmp_path / "n" / "node1.example.pem"], check=True, capture_output=True)
    # An authority is never replaced; a node's certificate is renewed in its place.
    before = (tmp_path / "ca" / "ca.key").read_bytes()
    assert "already" in cotidal("cert", "init", "--out", tmp_path / "ca", code=6).stderr
    assert (tmp_path / "ca" / "ca.key").read_bytes() == before
    cotidal("cert", "node", "node1.example", "--days", 5, "--ca", tmp_path / "ca", "--out", tmp_path / "n")
    assert re.search("[45] days left", cotidal("cert", "show", tmp_path / "n" / "node1.example.pem").stdout)
    for words in (["node"], ["node", "a/b"], ["node", "ca"], ["node", "x", "--san", "a,,b"], ["node", "x", "--days", "0"],
                  ["init", "x"], ["show"], ["other"]):
        cotidal("cert", *words, code=2)
    assert "not a certificate" in cotidal("cert", "show", tmp_path / "ca" / "ca.key", code=6).stderr


def test_three_nodes_and_a_web_server(secured):
    web = secured.add_web()
    assert web.put("over", b"tls").status == 201
    for node in secured.nodes:
        assert node.get("over").body == b"tls"
    secured.wait_equal_digests()
    for node in secured.nodes + [web]:
        assert "refused" not in node.log(), node.log_tail()
    # What is on the wire is TLS: the port answers a handshake, and asks for a certificate.
    run = subprocess.run(["openssl", "s_client", "-connect", secured.nodes[0].addresses["peer"], "-alpn", "cotidal",
                          "-CAfile", secured.folder / "ca" / "ca.pem", "-verify_return_error", "-tls1_3"],
                         input=b"", capture_output=True, timeout=30, check=False)
    assert b"Acceptable client certificate CA names" in run.stdout, run
    old = subprocess.run(["openssl", "s_client", "-connect", secured.nodes[0].addresses["peer"], "-tls1_2"],
                         input=b"", capture_output=True, timeout=30, check=False)
    assert old.returncode != 0


def test_plain_connections_are_refused(secured):
    node = secured.nodes[0]
    for preface in (b"CTL1", b"CTR1", b"GET / HTTP/1.1\r\n\r\n"):
        assert node.exchange("peer", preface + bytes(64)) == b""
    assert "does not speak TLS" in node.log()
    # A web server without certificates says what is wrong and waits; so does a node that wants to join.
    plain = Node(secured.folder, "plain", "web", ["--db", node.addresses["peer"]]).start()
    count = node.log().count("does not speak TLS")
    eventually(lambda: node.log().count("does not speak TLS") > count)
    plain.stop()


def test_strangers_are_refused(secured):
    node = secured.nodes[0]
    other = make_authority(secured.folder, "other")
    stranger = Node(secured.folder, "stranger", "web", ["--db", node.addresses["peer"], *other]).start()
    eventually(lambda: "link-refused" in stranger.log() and "unable to get local issuer certificate" in stranger.log())
    stranger.stop()
    # One that trusts us, and whom we do not trust.
    both = secured.folder / "both.pem"
    both.write_bytes((secured.folder / "ca" / "ca.pem").read_bytes() + (secured.folder / "other" / "ca.pem").read_bytes())
    stranger = Node(secured.folder, "stranger2", "web", ["--db", node.addresses["peer"], *other[:4], "--peer-ca", both]).start()
    eventually(lambda: "connection-refused" in node.log() and "unable to get local issuer certificate" in node.log())
    eventually(lambda: "link-refused" in stranger.log() and "alert unknown ca" in stranger.log())
    stranger.stop()
    # Of the right authority, and its time is over.
    ca = secured.folder / "ca"
    key, request, cert = ca / "old.key", ca / "old.csr", ca / "old.pem"
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                    "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", request],
                   check=True, capture_output=True)
    config, index = ca / "sign.conf", ca / "index"
    index.touch()
    config.write_text(f"[ca]\ndefault_ca=it\n[it]\ndatabase={index}\nnew_certs_dir={ca}\nrand_serial=yes\ndefault_md=sha256\n"
                      "policy=any\ncopy_extensions=copy\n[any]\ncommonName=supplied\n")
    subprocess.run(["openssl", "ca", "-batch", "-config", config, "-cert", ca / "ca.pem", "-keyfile", ca / "ca.key", "-startdate",
                    "20200101000000Z", "-enddate", "20200201000000Z", "-in", request, "-out", cert, "-notext"],
                   check=True, capture_output=True)
    expired = Node(secured.folder, "expired", "web", ["--db", node.addresses["peer"], *peer_arguments(secured.folder, "old")]).start()
    eventually(lambda: "certificate has expired" in node.log())
    eventually(lambda: "alert certificate expired" in expired.log())
    assert "certificate-expired" in expired.log()
    expired.stop()
    # A node whose certificate is for another host cannot join.
    cotidal("cert", "node", "elsewhere.example", "--ca", ca, "--out", ca)
    wrong = Node(secured.folder, "wrong", "db", ["--join", node.addresses["peer"],
                                                 *peer_arguments(secured.folder, "elsewhere.example")]).spawn()
    eventually(lambda: "its certificate is not for the host" in node.log() or "hostname mismatch" in node.log()
               or "IP address mismatch" in node.log())
    wrong.kill()
    status = node.status()
    assert len([m for m in status["members"] if m["role"] == "voter"]) == 3
    for member in status["members"]:
        if member["role"] != "voter":
            cotidal("member", "remove", member["id"], "--to", node.url())


def test_a_key_does_not_speak_for_a_member_elsewhere(secured):
    """Who has some key of the authority (a web server's, say) cannot take a member's place by saying that it has moved."""
    ca = secured.folder / "ca"
    cotidal("cert", "node", "web.example", "--ca", ca, "--out", ca)
    node, member = secured.nodes[0], secured.nodes[1]
    context = ssl.create_default_context(cafile=ca / "ca.pem")
    context.load_cert_chain(ca / "web.example.pem", ca / "web.example.key")
    context.set_alpn_protocols(["cotidal"])
    cluster, address = bytes.fromhex(node.status()["cluster"]), b"web.example:7070"
    hello = struct.pack("<BHQ16sQQI", 1, 6, int(member.id), cluster, 1 << 40, 1, len(address)) + address
    with node.socket("peer") as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as s:
        s.sendall(b"CTR1" + struct.pack("<I", len(hello)) + hello)
        with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
            assert s.recv(1) == b""
    eventually(lambda: "not for the host that this member has been at" in node.log())
    peers = {str(m["id"]): m["peer"] for m in node.status()["members"]}
    assert peers[member.id] == member.addresses["peer"]


def test_reload(secured):
    node = secured.nodes[1]
    load = Load(secured.nodes, 1)
    load.wait_steps(5)
    cert = secured.folder / "ca" / "127.0.0.1.pem"
    before = cert.read_bytes()
    cotidal("cert", "node", "127.0.0.1", "--san", "renewed.example", "--ca", secured.folder / "ca", "--out", secured.folder / "ca")
    assert cert.read_bytes() != before
    for n in secured.nodes:
        n.signal(signal.SIGHUP)
    eventually(lambda: all("peer-certificate-reloaded" in n.log() for n in secured.nodes))
    assert "renewed.example" in node.log()
    # New connections get it.
    run = subprocess.run(["openssl", "s_client", "-connect", node.addresses["peer"], "-showcerts"],
                         input="", capture_output=True, text=True, timeout=30, check=False)
    shown = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=run.stdout, capture_output=True,
                           text=True, check=True)
    assert "renewed.example" in shown.stdout
    # What is not right is not taken.
    good = cert.read_bytes()
    cert.write_text("nonsense")
    node.signal(signal.SIGHUP)
    eventually(lambda: "peer-certificate-kept" in node.log())
    cert.write_bytes(good)
    load.wait_steps(5)
    load.finish()
    load.check(node)


def test_failover(secured):
    leader = secured.leader()
    others = [n for n in secured.nodes if n is not leader]
    load = Load(others)
    load.wait_steps(10)
    leader.kill()
    load.wait_steps(20)
    load.finish()
    leader.start()
    secured.wait_voters(3)
    for node in secured.nodes:
        load.check(node)
    secured.wait_equal_digests()


def test_rejoin(secured):
    """`cotidal rejoin` asks on the peer port."""
    node = next(n for n in secured.nodes if n is not secured.leader())
    rest = [n for n in secured.nodes if n is not node]
    node.stop()
    words = ["rejoin", node.data, "--yes", "--join", rest[0].addresses["peer"]]
    assert "no answer" in cotidal(*words, code=3).stderr
    cotidal(*words, *secured.tls)
    node.arguments = [*secured.tls, "--join", rest[0].addresses["peer"]]
    node.start()
    secured.wait_voters(3)
    secured.wait_equal_digests()


def test_options(tmp_path):
    tls = make_authority(tmp_path)

    def refused(*arguments):
        return cotidal("db", "--data", tmp_path / "data", *arguments, code=1).stderr

    assert "go together" in refused("--peer", "127.0.0.1:0", *tls[:4])
    assert "--peer-cert" in refused("--peer", "0.0.0.0:0")
    other = make_authority(tmp_path, "other")
    assert "would refuse it" in refused("--peer", "127.0.0.1:0", *tls[:4], *other[4:])
    assert "No such file" in refused("--peer", "127.0.0.1:0", *tls[:4], "--peer-ca", tmp_path / "none")
    # With certificates other machines may reach the port.
    node = Node(tmp_path, "open", "db", ["--advertise", "127.0.0.1:7070", *tls], host="0.0.0.0").start()
    node.stop()


def test_tls_node_and_plain_node(tmp_path):
    """One that has certificates does not give in to one that has none, and goes on when it has."""
    tls = make_authority(tmp_path)
    plain = Node(tmp_path, "db", "db").start()
    web = Node(tmp_path, "web", "web", ["--db", plain.addresses["peer"], *tls]).start()
    eventually(lambda: "link-refused" in web.log() and "during the handshake" in web.log())
    eventually(lambda: "it speaks TLS" in plain.log())
    plain.stop()
    plain.arguments = tls
    plain.start()
    assert eventually(lambda: web.put("key", b"value").status == 201)
    web.stop()
    plain.stop()
    plain.check_log()
    web.check_log()
