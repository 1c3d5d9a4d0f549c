"""TLS: certificates by name, versions, tickets, reloading, the Redis protocol, mistakes in options."""

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import time

import pytest
import redis

from harness import BINARY, Node, eventually


def make_certificate(folder, name, names, days=30):
    """A certificate that signs itself, with its key; what docs/operations.md shows."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", str(days), "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """One node with two certificates."""
    folder = tmp_path_factory.mktemp("tls")
    a = make_certificate(folder, "a", "DNS:localhost,DNS:a.example,IP:127.0.0.1")
    b = make_certificate(folder, "b", "DNS:b.example,DNS:*.b.example", days=5)
    node = Node(folder, "node", arguments=["--https", "127.0.0.1:0", "--rediss", "127.0.0.1:0", "--cert", a[0],
                                           "--key", a[1], "--cert", b[0], "--key", b[1]])
    node.certificate = a[0]
    node.start()
    yield node
    node.stop()
    node.check_log()


def context(*certificates, alpn=("http/1.1",)):
    made = ssl.create_default_context()
    for certificate in certificates:
        made.load_verify_locations(certificate)
    made.set_alpn_protocols(alpn)
    return made


@contextlib.contextmanager
def connect(node, made, name="localhost", which="https", session=None):
    with socket.create_connection(node.address(which), timeout=30) as plain:
        with made.wrap_socket(plain, server_hostname=name, session=session) as s:
            yield s


def request(s, path="/_/health", keep=True):
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + (b"" if keep else b"Connection: close\r\n") + b"\r\n")
    answer = http.client.HTTPResponse(s)
    answer.begin()
    return answer.status, answer.read()


def test_versions_and_protocols(tls):
    made = context(tls.certificate)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        made.minimum_version = made.maximum_version = version
        with connect(tls, made) as s:
            assert request(s) == (200, b"ok\n")
            assert request(s) == (200, b"ok\n")
            assert s.selected_alpn_protocol() == "http/1.1"
    # Without ALPN it is HTTP/1.1 as well; with another protocol nothing.
    made = ssl.create_default_context(cafile=tls.certificate)
    with connect(tls, made) as s:
        assert request(s, keep=False) == (200, b"ok\n")
        assert s.recv(100) == b""
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        with connect(tls, context(tls.certificate, alpn=["spdy/3"])):
            pass


def test_old_versions_are_refused(tls):
    for version, wanted in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        run = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % tls.address("https"), version,
                              "-cipher", "DEFAULT@SECLEVEL=0", "-CAfile", tls.certificate, "-verify_return_error"],
                             input=b"", capture_output=True, timeout=30, check=False)
        assert (run.returncode == 0) == wanted, (version, run.stderr)
    weak = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % tls.address("https"), "-tls1_2", "-cipher",
                           "AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA"], input=b"", capture_output=True, timeout=30,
                          check=False)
    assert weak.returncode != 0


def test_certificate_by_name(tls):
    b = tls.folder / "b.pem"
    for name, certificate in (("a.example", tls.certificate), ("b.example", b), ("www.b.example", b),
                              ("127.0.0.1", tls.certificate)):
        with connect(tls, context(certificate), name) as s:
            assert request(s)[0] == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        with connect(tls, context(tls.certificate, b), "c.example"):
            pass


def test_resumed(tls):
    made = context(tls.certificate)
    made.maximum_version = ssl.TLSVersion.TLSv1_2  # Python's sessions are simple there
    with connect(tls, made) as s:
        request(s)
        session = s.session
    with connect(tls, made, session=session) as s:
        assert s.session_reused
        assert request(s)[0] == 200


def test_large_values(tls):
    value = bytes(range(256)) * 80000
    made = context(tls.certificate)
    connection = http.client.HTTPSConnection("localhost", tls.address("https")[1], context=made, timeout=60)
    connection.request("PUT", "/v1/kv/large", value)
    assert connection.getresponse().read() == b""
    connection.request("GET", "/v1/kv/large")
    answer = connection.getresponse()
    time.sleep(0.3)  # the server has to wait for us
    assert answer.read() == value
    connection.close()


def test_redis(tls):
    client = redis.Redis("localhost", tls.address("rediss")[1], ssl=True, ssl_ca_certs=str(tls.certificate),
                         socket_timeout=30)
    assert client.set("tls", "yes")
    assert client.get("tls") == b"yes"
    pipeline = client.pipeline(transaction=False)
    for i in range(1000):
        pipeline.incr("tls-count")
    assert pipeline.execute()[-1] == 1000
    client.close()


def test_strangers(tls):
    """What is no TLS ends the connection; a handshake that goes nowhere holds nobody up."""
    with tls.socket("https") as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not s.recv(1000).startswith(b"HTTP")
    waiting = [tls.socket("https") for _ in range(50)]
    for s in waiting[:25]:
        s.sendall(b"\x16\x03\x01\x02")
    with connect(tls, context(tls.certificate)) as s:
        assert request(s)[0] == 200
    # Closing during and right behind the handshake.
    for s in waiting:
        s.close()
    for _ in range(10):
        with connect(tls, context(tls.certificate)):
            pass
    metrics = tls.http("GET", "/_/metrics").body.decode()
    assert "\ncotidal_gateway_tls_handshakes_failed_total 0\n" not in metrics


def test_strangers_take_no_room(tmp_path):
    """Who connects and shakes no hands takes descriptors, but not more than clients may, and gives way to them."""
    cert = make_certificate(tmp_path, "a", "DNS:localhost")
    node = Node(tmp_path, "few", arguments=["--https", "127.0.0.1:0", "--cert", cert[0], "--key", cert[1],
                                            "--connections", "40", "--threads", "1"])
    node.start()
    with contextlib.ExitStack() as stack:
        stack.callback(node.stop)

        def descriptors():
            return len(os.listdir(f"/proc/{node.process.pid}/fd"))

        before = descriptors()
        for _ in range(300):
            stack.enter_context(socket.create_connection(node.address("https"), timeout=30))
        for _ in range(5):
            stack.enter_context(connect(node, context(cert[0]))).sendall(b"GET /_/health HTTP/1.1\r\nHost: x\r\n\r\n")
            s = stack.enter_context(socket.create_connection(node.address("http"), timeout=30))
            assert request(s) == (200, b"ok\n")
        with connect(node, context(cert[0])) as s:
            assert request(s) == (200, b"ok\n")
        assert descriptors() <= before + 40 + 20


def test_expiry_is_shown(tls):
    shown = {c["names"]: c["expires_s"] for c in tls.status()["gateway"]["certificates"]}
    assert 29 * 86400 < shown["localhost, a.example, 127.0.0.1"] <= 30 * 86400
    assert 4 * 86400 < shown["b.example, *.b.example"] <= 5 * 86400
    metrics = tls.http("GET", "/_/metrics").body.decode()
    seconds = int(metrics.split("\ncotidal_tls_certificate_expiry_seconds ")[1].split("\n")[0])
    assert 4 * 86400 < seconds <= 5 * 86400
    assert 'event=certificate-expires file="%s"' % (tls.folder / "b.pem") in tls.log()


def test_reload(tmp_path):
    """SIGHUP: new connections get the new certificate, old ones go on; a bad file changes nothing."""
    cert, key = make_certificate(tmp_path, "c", "DNS:old.example")
    node = Node(tmp_path, "node", arguments=["--https", "127.0.0.1:0", "--cert", cert, "--key", key]).start()
    old = context(cert)
    with connect(node, old, "old.example") as s:
        request(s)
        cert.write_text("nothing")
        node.signal(1)
        eventually(lambda: "event=certificates-kept" in node.log(), what="the bad file is refused")
        with connect(node, old, "old.example") as other:
            assert request(other)[0] == 200
        make_certificate(tmp_path, "c", "DNS:new.example")
        node.signal(1)
        eventually(lambda: "event=certificates-reloaded" in node.log(), what="the new file is taken")
        with connect(node, context(cert), "new.example") as other:
            assert request(other)[0] == 200
        assert request(s)[0] == 200
    node.stop()
    node.check_log()


@pytest.mark.parametrize("arguments,words", [
    (["--https", "127.0.0.1:0"], "need --cert FILE and --key FILE"),
    (["--https", "127.0.0.1:0", "--cert", "c.pem"], "each certificate needs its key"),
    (["--https", "127.0.0.1:0", "--cert", "none.pem", "--key", "none.key"], "none.pem: not a certificate"),
    (["--https", "0.0.0.0:0", "--cert", "c.pem", "--key", "c.key"], "--https 0.0.0.0:0 can be reached"),
    (["--https", "nonsense"], "is not an address"),
])
def test_mistakes(tmp_path, arguments, words):
    run = subprocess.run([BINARY, "serve", "--data", tmp_path / "d", "--http", "127.0.0.1:0", "--redis", "off",
                          "--peer", "127.0.0.1:0"] + arguments, capture_output=True, timeout=30, cwd=tmp_path,
                         check=False)
    assert run.returncode == 1
    assert words in run.stderr.decode()


def test_options_in_a_file(tmp_path):
    """Lists of files: lines that are repeated, or commas."""
    a, b = make_certificate(tmp_path, "a", "DNS:a.example"), make_certificate(tmp_path, "b", "DNS:b.example")
    config = tmp_path / "cotidal.conf"
    config.write_text(f"https = 127.0.0.1:0\ncert = {a[0]},{b[0]}\nkey = {a[1]}\nkey = {b[1]}\n")
    node = Node(tmp_path, "node", arguments=["--config", config]).start()
    with connect(node, context(b[0]), "b.example") as s:
        assert request(s)[0] == 200
    node.stop()
    node.check_log()
