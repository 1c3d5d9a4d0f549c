"""HTTP/1.1 over the wire, after RFC 9110 and 9112: what an answer must look like, where a message ends, and that no
request hides in another one (request smuggling).

Behind each message stands a second request: how many answers come back says where the server thinks that the first one
ended.
"""

import re

import pytest

NEXT = b"GET /_/health HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def answers(raw):
    """Splits what came back by Content-Length; (status, headers, body) of each."""
    found = []
    while raw:
        head, end, rest = raw.partition(b"\r\n\r\n")
        assert end, raw
        lines = head.split(b"\r\n")
        status = int(STATUS.match(lines[0]).group(1))
        headers = {name.lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines[1:])}
        length = 0 if status in (100, 204, 304) else int(headers.get(b"content-length", 0))
        found.append((status, headers, rest[:length]))
        raw = rest[length:]
    return found


def exchange(node, request):
    """All answers to the request and to the one behind it."""
    return answers(node.exchange("http", request + NEXT))


def put(fields=b"", body=b"", version=b"1.1"):
    return b"PUT /v1/kv/conf HTTP/" + version + b"\r\nHost: x\r\n" + fields + b"\r\n" + body


# ---- where a message ends

TAKEN = {
    "length": put(b"Content-Length: 3\r\n", b"abc"),
    "length zero": put(b"Content-Length: 0\r\n"),
    "length with blanks": put(b"Content-Length: \t3 \t\r\n", b"abc"),
    "length with zeros": put(b"Content-Length: 003\r\n", b"abc"),
    "chunked": put(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    "chunked in capitals": put(b"TRANSFER-ENCODING: CHUNKED\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    "chunked by bytes": put(b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n" * 3 + b"0\r\n\r\n"),
    "chunk size in hex": put(b"Transfer-Encoding: chunked\r\n", b"0A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
    "chunk extension": put(b"Transfer-Encoding: chunked\r\n", b'3;a=b;c="d\\"e"\r\nabc\r\n0;x\r\n\r\n'),
    "trailers": put(b"Transfer-Encoding: chunked\r\nTrailer: X\r\n", b"3\r\nabc\r\n0\r\nX: y\r\nContent-Length: 99\r\n\r\n"),
    "a body that looks like a request": put(b"Content-Length: %d\r\n" % len(NEXT), NEXT),
    "empty lines before": b"\r\n\r\n" + put(b"Content-Length: 1\r\n", b"a"),
    "HTTP/1.2 is read as 1.1": put(b"Content-Length: 1\r\n", b"a", b"1.2"),
    "absolute form": b"GET http://other/_/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "no value": put(b"X:\r\nContent-Length: 1\r\n", b"a"),
    "obs-text": put(b"X: \x80\xff\r\nContent-Length: 1\r\n", b"a"),
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "empty Host": b"GET /_/health HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with port": b"GET /_/health HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
}


@pytest.mark.parametrize("name", TAKEN)
def test_the_next_request_begins_behind_it(solo, name):
    found = exchange(solo, TAKEN[name])
    assert [f[0] for f in found][-1] == 200 and len(found) == 2, found
    assert found[0][0] in (200, 201, 204), found
    assert b"connection" not in found[0][1]
    assert found[1][1][b"connection"] == b"close"


# What two readers could understand differently: one answer, 400 (501 for a coding we lack), and the end.
REFUSED = {
    "both lengths": put(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "both lengths, other order": put(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"),
    "two lengths": put(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"),
    "two equal lengths": put(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"),
    "a list of lengths": put(b"Content-Length: 3, 3\r\n", b"abc"),
    "length with a sign": put(b"Content-Length: +3\r\n", b"abc"),
    "negative length": put(b"Content-Length: -3\r\n", b"abc"),
    "length in hex": put(b"Content-Length: 0x3\r\n", b"abc"),
    "length too large": put(b"Content-Length: 18446744073709551619\r\n", b"abc"),
    "empty length": put(b"Content-Length:\r\n"),
    "length with a blank within": put(b"Content-Length: 3 3\r\n", b"abc"),
    "blank before the colon": put(b"Content-Length : 3\r\n", b"abc"),
    "tab before the colon": put(b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n"),
    "obs-fold": put(b"X: y\r\n Content-Length: 3\r\n", b"abc"),
    "obs-fold of the coding": put(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "fold behind the request line": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "bare LF": put(b"X: y\nContent-Length: 3\r\n", b"abc"),
    "bare LF ends the head": b"GET /_/health HTTP/1.1\r\nHost: x\r\n\n",
    "bare LF in the request line": b"GET /_/health HTTP/1.1\nHost: x\r\n\r\n",
    "bare CR": put(b"X: y\rContent-Length: 3\r\n", b"abc"),
    "CR CR LF": put(b"X: y\r\r\nContent-Length: 3\r\n", b"abc"),
    "NUL in a value": put(b"X: y\x00z\r\n"),
    "NUL in a name": put(b"X\x00: y\r\n"),
    "empty name": put(b": y\r\n"),
    "no colon": put(b"Content-Length\r\n"),
    "quotes in a name": put(b'"X": y\r\n'),
    "identity": put(b"Transfer-Encoding: identity\r\n"),
    "chunked and identity": put(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "chunked twice": put(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "chunked twice in a list": put(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"),
    "xchunked": put(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked with a parameter": put(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"),
    "quoted chunked": put(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"),
    "vertical tab before chunked": put(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"),
    "empty coding": put(b"Transfer-Encoding:\r\n"),
    "chunked in HTTP/1.0": put(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"1.0"),
    "gzip": put(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "no Host": b"GET /_/health HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /_/health HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "Host with a blank": b"GET /_/health HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET /_/health HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a user": b"GET /_/health HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "two blanks": b"GET  /_/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab for a blank": b"GET\t/_/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "blank behind the version": b"GET /_/health HTTP/1.1 \r\nHost: x\r\n\r\n",
    "blank before the method": b" GET /_/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /_/health#a HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes above ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /_/health\r\n",
    "lower case http": b"GET /_/health http/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
    "* for GET": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "too many empty lines": b"\r\n" * 10 + put(),
    "chunk size with 0x": put(b"Transfer-Encoding: chunked\r\n", b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a sign": put(b"Transfer-Encoding: chunked\r\n", b"+3\r\nabc\r\n0\r\n\r\n"),
    "blank before a chunk size": put(b"Transfer-Encoding: chunked\r\n", b" 3\r\nabc\r\n0\r\n\r\n"),
    "blank behind a chunk size": put(b"Transfer-Encoding: chunked\r\n", b"3 \r\nabc\r\n0\r\n\r\n"),
    "empty chunk size": put(b"Transfer-Encoding: chunked\r\n", b"\r\nabc\r\n0\r\n\r\n"),
    "chunk size too large": put(b"Transfer-Encoding: chunked\r\n", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "bare LF behind a chunk size": put(b"Transfer-Encoding: chunked\r\n", b"3\nabc\r\n0\r\n\r\n"),
    "bare LF behind a chunk": put(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\n0\r\n\r\n"),
    "no line end behind a chunk": put(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc0\r\n\r\n"),
    "chunk longer than said": put(b"Transfer-Encoding: chunked\r\n", b"3\r\nabcd\r\n0\r\n\r\n"),
    "bare LF in an extension": put(b"Transfer-Encoding: chunked\r\n", b"3;a\nabc\r\n0\r\n\r\n"),
    "bare CR in an extension": put(b"Transfer-Encoding: chunked\r\n", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "a flood of extensions": put(b"Transfer-Encoding: chunked\r\n", (b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 8 + b"0\r\n\r\n"),
    "blank before a trailer's colon": put(b"Transfer-Encoding: chunked\r\n", b"0\r\nX : y\r\n\r\n"),
    "folded trailer": put(b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\r\n z\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused_and_ends_the_connection(solo, name):
    found = exchange(solo, REFUSED[name])
    assert len(found) == 1, found
    status, headers, _ = found[0]
    assert status == (501 if name == "gzip" else 400), found
    assert headers[b"connection"] == b"close"
    assert headers[b"content-type"] == b"application/problem+json"


def test_wherever_the_bytes_are_cut(solo):
    """One connection's bytes in two pieces, cut at every place: the same answers."""
    request = put(b"Transfer-Encoding: chunked\r\n", b"3;x\r\nabc\r\n0\r\nX: y\r\n\r\n") + NEXT
    expected = [f[0] for f in answers(solo.exchange("http", request))]
    for cut in range(1, len(request)):
        with solo.socket("http") as s:
            s.sendall(request[:cut])
            s.sendall(request[cut:])
            raw = b""
            while chunk := s.recv(65536):
                raw += chunk
        assert [f[0] for f in answers(raw)][-1] == expected[-1] == 200, cut


# ---- what an answer must look like

def test_head_has_the_fields_of_get_and_no_body(solo):
    solo.put("conf", b"abc")
    get, = answers(solo.exchange("http", b"GET /v1/kv/conf HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    raw = solo.exchange("http", b"HEAD /v1/kv/conf HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n")
    head = {line.split(b":")[0].lower(): line for line in raw.split(b"\r\n")[1:] if line}
    assert set(head) == set(get[1])
    assert head[b"content-length"] == b"Content-Length: 3"


@pytest.mark.parametrize("request_bytes", [
    b"GET /v1/kv/conf", b"PUT /v1/kv/conf", b"DELETE /v1/kv/none", b"GET /v1/none", b"GET /_/health", b"GET /"])
def test_every_answer_has_a_date_and_a_length(solo, request_bytes):
    for status, headers, _ in answers(solo.exchange(
            "http", request_bytes + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")):
        assert re.fullmatch(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", headers[b"date"])
        assert status == 204 or b"content-length" in headers or headers.get(b"transfer-encoding") == b"chunked"
        assert not (status == 204 and b"content-length" in headers)


def test_not_allowed_says_what_is(solo):
    (status, headers, _), = answers(solo.exchange("http", b"POST /v1/kv/conf HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    assert status == 405 and b"GET" in headers[b"allow"] and b"PUT" in headers[b"allow"]


@pytest.mark.parametrize("method, status", [(b"FOO", 501), (b"TRACE", 501), (b"get", 501), (b"M-SEARCH", 501)])
def test_unknown_methods(solo, method, status):
    found = exchange(solo, method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [f[0] for f in found] == [status, 200]


def test_http_1_0(solo):
    one, = answers(solo.exchange("http", b"GET /_/health HTTP/1.0\r\n\r\n"))
    assert one[0] == 200 and one[1][b"connection"] == b"close"
    found = exchange(solo, b"GET /_/health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
    assert len(found) == 2 and found[0][1][b"connection"] == b"keep-alive"


def test_expect(solo):
    found = exchange(solo, put(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc"))
    assert [f[0] for f in found] in ([100, 201, 200], [100, 204, 200])
    found = exchange(solo, put(b"Expect: 200-maybe\r\nContent-Length: 3\r\n", b"abc"))
    assert [f[0] for f in found] == [417]
    found = exchange(solo, b"GET /v1/none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert [f[0] for f in found] == [404]  # the final answer at once, instead of asking for the body


@pytest.mark.parametrize("target, status", [
    (b"/" + b"a" * 17000, 414), (b"/v1/kv/..", 400), (b"/v1/kv/%2e%2e", 404), (b"/v1/kv/%00", 404), (b"/v1/kv/%zz", 400),
    (b"/v1/./kv", 400), (b"//v1/kv/a", 404)])
def test_targets(solo, target, status):
    found = answers(solo.exchange("http", b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    assert [f[0] for f in found] == [status]


def test_pipelined_answers_come_in_order(solo):
    solo.put("conf", b"0")
    raw = b"".join(b"PUT /v1/kv/conf HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%d" % (len(str(i)), i) +
                   b"GET /v1/kv/conf HTTP/1.1\r\nHost: x\r\n\r\nGET /_/health HTTP/1.1\r\nHost: x\r\n\r\n" for i in range(50))
    found = answers(solo.exchange("http", raw + NEXT))
    assert len(found) == 151
    assert [f[2] for f in found[1:150:3]] == [str(i).encode() for i in range(50)]
