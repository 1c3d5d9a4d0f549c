"""HTTP/2: what RFC 9113 demands, in raw frames; floods; real clients, plain and over TLS; the orderly stop."""

import contextlib
import json
import shutil
import socket
import struct
import subprocess
import ssl

import pytest

from harness import Node, eventually
from test_tls import context, make_certificate

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK, END_STREAM, END_HEADERS, PADDED = 1, 1, 4, 8
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name, value):
    def text(t):
        t = t.encode("latin-1")
        assert len(t) < 127 + 128
        return (bytes([len(t)]) if len(t) < 127 else bytes([127, len(t) - 127])) + t
    return b"\0" + text(name) + text(value)


def head(method="GET", path="/_/health", *more, authority="localhost", scheme="http"):
    block = b"".join(field(*f) for f in ((":method", method), (":scheme", scheme), (":path", path)) if f[1] is not None)
    if authority is not None:
        block += field(":authority", authority)
    return block + b"".join(field(*f) for f in more)


def request(stream, *arguments, flags=END_STREAM, **more):
    return frame(HEADERS, END_HEADERS | flags, stream, head(*arguments, **more))


def number(n):
    return struct.pack(">I", n)


class Client:
    """Raw frames to a node, and what it sends back. Of heads only the static status codes are understood."""

    STATUS = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}

    def __init__(self, s, settings=b""):
        self.s = s
        self.buffer = b""
        self.closed = False
        self.frames = []
        s.settimeout(30)
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        # The server may end it before it has read all.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.s.sendall(data)
        return self

    def read_frame(self):
        """(kind, flags, stream, payload), or None at the end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                chunk = self.s.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                chunk = b""
            if not chunk:
                self.closed = True
                return None
            self.buffer += chunk
        size = int.from_bytes(self.buffer[:3], "big")
        got = (self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big"), self.buffer[9:9 + size])
        self.buffer = self.buffer[9 + size:]
        self.frames.append(got)
        return got

    def wait(self, condition):
        """Reads until a frame is like that, and returns it; None when the connection ends first."""
        for got in self.frames:
            if condition(*got):
                return got
        while (got := self.read_frame()) is not None:
            if condition(*got):
                return got
        return None

    def goaway(self):
        """The error of the GOAWAY that ends the connection."""
        got = self.wait(lambda kind, *_: kind == GOAWAY)
        return got and int.from_bytes(got[3][4:8], "big")

    def reset(self, stream):
        got = self.wait(lambda kind, _, at, __: kind in (RST_STREAM, GOAWAY) and at in (stream, 0))
        return got and int.from_bytes(got[3][-4:] if got[0] == RST_STREAM else got[3][4:8], "big")

    def status(self, stream):
        got = self.wait(lambda kind, _, at, __: kind == HEADERS and at == stream)
        return got and self.STATUS.get(got[3][0], got[3][0])

    def body(self, stream):
        self.wait(lambda kind, flags, at, _: kind in (HEADERS, DATA) and at == stream and flags & END_STREAM)
        return b"".join(p for kind, _, at, p in self.frames if kind == DATA and at == stream)

    def lives(self, stream):
        """A further request is answered."""
        self.send(request(stream))
        return self.status(stream) == 200 and self.body(stream) == b"ok\n"


@pytest.fixture
def client(solo):
    with solo.socket("http") as s:
        yield Client(s)


def test_talk(client):
    assert client.lives(1)
    client.send(request(3, "GET", "/nowhere"))
    assert client.status(3) == 404
    # Frames and flags that nobody knows are passed over; settings too.
    client.send(frame(99, 0xFF, 77, b"what") + frame(SETTINGS, 0, 0, b"\x12\x34\0\0\0\1") + frame(HEADERS, 0xC5, 5, head()))
    assert client.status(5) == 200
    client.send(frame(PING, 0xFE, 0, b"12345678"))
    assert client.wait(lambda kind, flags, _, payload: kind == PING and flags & ACK and payload == b"12345678")
    # Two streams at once, bodies in turns.
    client.send(request(7, "PUT", "/v1/kv/h2-a", flags=0) + request(9, "PUT", "/v1/kv/h2-b", flags=0))
    for i in range(10):
        client.send(frame(DATA, 0, 7, b"a%d " % i) + frame(DATA, PADDED, 9, b"\2b%d \0\0" % i))
    client.send(frame(DATA, END_STREAM, 9) + frame(DATA, END_STREAM, 7))
    client.body(7), client.body(9)
    client.send(request(11, "GET", "/v1/kv/h2-a") + request(13, "GET", "/v1/kv/h2-b"))
    assert client.body(11) == b"a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 "
    assert client.body(13) == b"b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 "
    assert client.lives(15)


@pytest.mark.parametrize("data,errors", [
    # Section 4.2, 6: sizes.
    (frame(DATA, 0, 1, b"x" * 16385), [FRAME_SIZE_ERROR]),
    (frame(SETTINGS, 0, 0, b"12345"), [FRAME_SIZE_ERROR]),
    (frame(SETTINGS, ACK, 0, b"123456"), [FRAME_SIZE_ERROR]),
    (frame(PING, 0, 0, b"1234567"), [FRAME_SIZE_ERROR]),
    (frame(WINDOW_UPDATE, 0, 0, b"123"), [FRAME_SIZE_ERROR]),
    (request(1, flags=0) + frame(RST_STREAM, 0, 1, b"123"), [FRAME_SIZE_ERROR]),
    (frame(GOAWAY, 0, 0, b"1234567"), [FRAME_SIZE_ERROR]),
    # Streams that frames do not belong to.
    (frame(SETTINGS, 0, 1), [PROTOCOL_ERROR]),
    (frame(PING, 0, 1, b"12345678"), [PROTOCOL_ERROR]),
    (frame(GOAWAY, 0, 1, bytes(8)), [PROTOCOL_ERROR]),
    (frame(DATA, 0, 0, b"x"), [PROTOCOL_ERROR]),
    (frame(HEADERS, 5, 0, head()), [PROTOCOL_ERROR]),
    (frame(RST_STREAM, 0, 0, number(8)), [PROTOCOL_ERROR]),
    (frame(CONTINUATION, 4, 0, b""), [PROTOCOL_ERROR]),
    # Section 5.1: states of streams.
    (frame(DATA, 0, 1, b"x"), [PROTOCOL_ERROR, STREAM_CLOSED]),
    (frame(RST_STREAM, 0, 1, number(8)), [PROTOCOL_ERROR]),
    (frame(WINDOW_UPDATE, 0, 1, number(8)), [PROTOCOL_ERROR]),
    (request(2), [PROTOCOL_ERROR]),
    (frame(PUSH_PROMISE, 4, 1, number(2) + head()), [PROTOCOL_ERROR]),
    # Section 6.5.2: values of settings.
    (frame(SETTINGS, 0, 0, b"\0\2" + number(2)), [PROTOCOL_ERROR]),
    (frame(SETTINGS, 0, 0, b"\0\4" + number(1 << 31)), [FLOW_CONTROL_ERROR]),
    (frame(SETTINGS, 0, 0, b"\0\5" + number(16383)), [PROTOCOL_ERROR]),
    (frame(SETTINGS, 0, 0, b"\0\5" + number(1 << 24)), [PROTOCOL_ERROR]),
    # Windows.
    (frame(WINDOW_UPDATE, 0, 0, number(0)), [PROTOCOL_ERROR]),
    (request(1, flags=0) + frame(WINDOW_UPDATE, 0, 1, number(0)), [PROTOCOL_ERROR]),
    (frame(WINDOW_UPDATE, 0, 0, number((1 << 31) - 1)), [FLOW_CONTROL_ERROR]),
    # Padding that is longer than the frame.
    (request(1, flags=0) + frame(DATA, PADDED, 1, b"\5abc"), [PROTOCOL_ERROR]),
    (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + head()), [PROTOCOL_ERROR]),
    # Heads in several frames: nothing may come between.
    (frame(HEADERS, 0, 1, head()) + frame(PING, 0, 0, b"12345678"), [PROTOCOL_ERROR]),
    (frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 4, 3, b""), [PROTOCOL_ERROR]),
    (frame(CONTINUATION, 4, 1, b""), [PROTOCOL_ERROR]),
    # HPACK: an index that is not there, a number without end, a table larger than agreed.
    (frame(HEADERS, 5, 1, b"\xff\x80\x7f"), [COMPRESSION_ERROR]),
    (frame(HEADERS, 5, 1, b"\x7f" + b"\xff" * 20), [COMPRESSION_ERROR]),
    (frame(HEADERS, 5, 1, b"\x3f\xe1\xff\x03" + head()), [COMPRESSION_ERROR]),
    (frame(HEADERS, 5, 1, head()[:-3]), [COMPRESSION_ERROR]),
    # Floods.
    (frame(PING, 0, 0, b"12345678") * 2000, [ENHANCE_YOUR_CALM]),
    (frame(SETTINGS) * 500, [ENHANCE_YOUR_CALM]),
    (frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 2000, [ENHANCE_YOUR_CALM]),
    (request(1, "PUT", "/v1/kv/x", flags=0) + frame(DATA, 0, 1) * 1000, [ENHANCE_YOUR_CALM]),
    (frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1) * 100, [ENHANCE_YOUR_CALM]),
    (b"".join(request(i, "GET", "/v1/kv/x") + frame(RST_STREAM, 0, i, number(8)) for i in range(1, 2000, 2)),
     [ENHANCE_YOUR_CALM]),
    (b"".join(request(i, "GET", "/", ("connection", "close")) for i in range(1, 2000, 2)), [ENHANCE_YOUR_CALM]),
])
def test_connection_errors(client, solo, data, errors):
    assert client.send(data).goaway() in errors
    while client.read_frame():
        pass
    with solo.socket("http") as s:
        assert Client(s).lives(1)


@pytest.mark.parametrize("more,how", [
    ((("Upper", "x"),), {}), ((("connection", "close"),), {}), ((("transfer-encoding", "chunked"),), {}),
    ((("upgrade", "h2c"),), {}), ((("te", "gzip"),), {}), (((":status", "200"),), {}), (((":path", "/"),), {}),
    ((("a b", "x"),), {}), ((("x", "a\nb"),), {}), ((("x", "a\rb"),), {}), ((("x", "a\0b"),), {}),
    ((("content-length", "1"),), {}), ((("content-length", "1, 1"),), {}), ((), {"scheme": None}),
])
def test_malformed_messages(client, more, how):
    """Section 8.1.1: a stream error, which the connection survives."""
    client.send(request(1, "GET", "/_/health", *more, **how))
    assert client.reset(1) == PROTOCOL_ERROR
    assert client.lives(3)


def test_content_length(client):
    """Neither more nor less content than was announced; nothing of it is stored."""
    for stream, content in ((1, b"123"), (3, b"12345")):
        client.send(request(stream, "PUT", "/v1/kv/h2-length", ("content-length", "4"), flags=0))
        client.send(frame(DATA, END_STREAM, stream, content))
        assert client.reset(stream) == PROTOCOL_ERROR
    client.send(request(5, "GET", "/v1/kv/h2-length"))
    assert client.status(5) == 404


def test_stream_errors(client):
    client.send(request(3, "PUT", "/v1/kv/x", flags=0) + frame(WINDOW_UPDATE, 0, 3, number((1 << 31) - 1)))
    assert client.reset(3) == FLOW_CONTROL_ERROR
    client.send(request(5, "GET", "/", ("host", "elsewhere")))
    assert client.status(5) == 400
    client.send(request(7, "CONNECT", None, scheme=None, authority="a:1"))
    assert client.status(7) in (400, 404, 501)
    assert client.lives(9)


def test_streams_at_once(client):
    """More than the server allows are refused, and may be sent again."""
    client.wait(lambda kind, flags, *_: kind == SETTINGS and not flags & ACK)
    client.send(frame(SETTINGS, ACK))
    client.send(b"".join(request(i, "PUT", "/v1/kv/x", flags=0) for i in range(1, 203, 2)))
    assert client.reset(201) in (REFUSED_STREAM, PROTOCOL_ERROR)


def test_large_head(client):
    value = "x" * 250
    block = head() + b"".join(field(f"n{i}", value) for i in range(150))
    client.send(frame(HEADERS, END_STREAM, 1, block[:16384]) + frame(CONTINUATION, 0, 1, block[16384:32768]) +
                frame(CONTINUATION, END_HEADERS, 1, block[32768:]))
    assert b'"code":"too_large"' in client.body(1)
    assert client.lives(3)


def test_windows(solo):
    """Content is held back until there is room for it, of the stream and of the connection."""
    value = bytes(range(256)) * 1024
    assert solo.put("h2-large", value).status in (201, 204)
    with solo.socket("http") as s:
        client = Client(s, settings=b"\0\4" + number(1000))
        client.send(request(1, "GET", "/v1/kv/h2-large"))
        assert client.status(1) == 200
        assert client.lives(3)  # others are not held up
        got = sum(len(p) for kind, _, at, p in client.frames if kind == DATA and at == 1)
        assert got == 1000
        client.send(frame(WINDOW_UPDATE, 0, 1, number(len(value))) + frame(WINDOW_UPDATE, 0, 0, number(len(value))))
        assert client.body(1) == value


def test_client_goes_away(solo):
    with solo.socket("http") as s:
        client = Client(s)
        client.send(request(1) + frame(GOAWAY, 0, 0, bytes(8)))
        assert client.body(1) == b"ok\n"
        while client.read_frame():
            pass
        assert client.closed


def test_not_the_preface(solo):
    assert b"HTTP/1.1 505" in solo.exchange("http", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    answer = solo.exchange("http", PREFACE + b"GET / HTTP/1.1\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 0 and bytes([GOAWAY]) in answer


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("h2tls")
    cert, key = make_certificate(folder, "a", "DNS:localhost,IP:127.0.0.1")
    node = Node(folder, "node", arguments=["--https", "127.0.0.1:0", "--cert", cert, "--key", key])
    node.certificate = cert
    node.start()
    yield node
    node.stop()
    node.check_log()


@contextlib.contextmanager
def connect_tls(node):
    with socket.create_connection(node.address("https"), timeout=30) as plain:
        with context(node.certificate, alpn=("h2", "http/1.1")).wrap_socket(plain, server_hostname="localhost") as s:
            assert s.selected_alpn_protocol() == "h2"
            yield s


def test_over_tls(tls):
    with connect_tls(tls) as s:
        assert Client(s).lives(1)
    # Who has agreed on h2 must speak it.
    with connect_tls(tls) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        with contextlib.suppress(ssl.SSLError, ConnectionResetError):
            while chunk := s.recv(65536):
                answer += chunk
        assert b"HTTP/1.1" not in answer


def curl(node, *arguments, over_tls=False):
    options = ["--cacert", node.certificate] if over_tls else ["--http2-prior-knowledge"]
    base = "https://localhost:%d" % node.address("https")[1] if over_tls else node.url()
    arguments = [a.replace("@", base, 1) if isinstance(a, str) and a.startswith("@/") else a for a in arguments]
    run = subprocess.run(["curl", "-sS", "--http2", *options, "-w", "\n%{http_version} %{http_code}", *arguments],
                         capture_output=True, timeout=60, check=True)
    body, _, last = run.stdout.rpartition(b"\n")
    version, status = last.decode().split()
    return version, int(status), body


@pytest.mark.parametrize("over_tls", [False, True])
def test_curl(tls, tmp_path, over_tls):
    value = bytes(range(256)) * 50000
    (tmp_path / "value").write_bytes(value)
    assert curl(tls, "-T", str(tmp_path / "value"), "@/v1/kv/curl", over_tls=over_tls)[:2] in (("2", 201), ("2", 204))
    assert curl(tls, "@/v1/kv/curl", over_tls=over_tls) == ("2", 200, value)
    version, status, body = curl(tls, "-d", json.dumps({"then": [{"get": "curl"}]}), "-H",
                                 "Content-Type: application/json", "@/v1/txn", over_tls=over_tls)
    assert (version, status) == ("2", 200), body
    assert curl(tls, "-I", "@/_/health", over_tls=over_tls)[:2] == ("2", 200)
    # An Upgrade is not taken up: HTTP/1.1 goes on.
    if not over_tls:
        run = subprocess.run(["curl", "-sS", "--http2", "-w", "%{http_version}", tls.url("/_/health")],
                             capture_output=True, timeout=60, check=True)
        assert run.stdout == b"ok\n1.1"


@pytest.mark.skipif(not shutil.which("h2load"), reason="h2load (nghttp2-client) is not there")
@pytest.mark.parametrize("over_tls", [False, True])
def test_h2load(tls, over_tls):
    tls.put("h2load", "x" * 3000)
    base = "https://localhost:%d" % tls.address("https")[1] if over_tls else tls.url()
    run = subprocess.run(["h2load", "-n", "4000", "-c", "20", "-m", "50", f"{base}/v1/kv/h2load"], capture_output=True,
                         timeout=60, check=True)
    assert b"4000 succeeded, 0 failed, 0 errored" in run.stdout, run.stdout.decode()


def test_access_log_and_stop(tmp_path):
    """A stop lets what is under way end, and says which stream was the last; the access log knows the version."""
    log = tmp_path / "access.log"
    node = Node(tmp_path, "node", arguments=["--access-log", log]).start()
    with node.socket("http") as s, node.socket("http") as idle:
        client, other = Client(s), Client(idle)
        assert other.lives(1)
        client.send(request(1, "PUT", "/v1/kv/last", flags=0) + frame(DATA, 0, 1, b"half "))
        assert client.lives(3)
        node.process.terminate()
        assert client.goaway() == NO_ERROR
        ping = client.wait(lambda kind, flags, *_: kind == PING and not flags & ACK)
        client.send(frame(DATA, END_STREAM, 1, b"and half") + frame(PING, ACK, 0, ping[3]))
        client.body(1)
        assert client.wait(lambda kind, flags, stream, _: kind == HEADERS and stream == 1)
        while client.read_frame():
            pass
        assert any(f[0] == GOAWAY and f[3][:4] == number(3) for f in client.frames)
    assert node.process.wait(30) == 0
    node.stop()
    assert '"PUT /v1/kv/last HTTP/2.0" 201' in eventually(log.read_text)
    node.start()
    assert node.get("last").body == b"half and half"
    node.stop()
    node.check_log()
