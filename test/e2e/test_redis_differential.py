"""Our Redis port and a real redis-server get the same commands and must give the same bytes.

The fixture `redis_port` is the port of our server; the reference is started here. What is compared is the raw RESP2
reply. Exceptions are few and named: replies in an order that Redis does not promise are compared sorted (UNORDERED),
times that are left with a tolerance (REMAINING). Debian 12 has Redis 7.0 where we follow 7.2; nothing below depends on
what differs between the two.
"""

import random
import shlex
import shutil
import socket
import subprocess
import time

import pytest

UNORDERED = {"HGETALL": 2, "HKEYS": 1, "HVALS": 1, "KEYS": 1}
REMAINING = {"TTL": 30, "PTTL": 30_000}


class Wire:
    """One RESP2 connection that gives replies as they came."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            arg = arg if isinstance(arg, bytes) else str(arg).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
        self.socket.sendall(b"".join(parts))

    def reply(self):
        line = self.file.readline()
        assert line.endswith(b"\r\n"), f"the connection ended behind {line!r}"
        kind, count = line[:1], line[1:-2]
        if kind == b"$" and count != b"-1":
            line += self.file.read(int(count) + 2)
        elif kind == b"*":
            line += b"".join(self.reply() for _ in range(int(count)))
        return line

    def ask(self, *args):
        self.send(args)
        return self.reply()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The port of a redis-server that lives as long as this module's tests."""
    program = shutil.which("redis-server")
    if not program:
        pytest.skip("redis-server is not installed")
    folder = tmp_path_factory.mktemp("redis")
    for _ in range(20):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            try:
                wire = Wire(port)
                break
            except OSError:
                time.sleep(0.02)
        else:
            continue  # somebody else took the port
        if b"redis_version:7." not in wire.ask("INFO", "server"):
            process.terminate()
            process.wait()
            pytest.skip("redis-server is not of version 7")
        wire.close()
        yield port
        process.terminate()
        process.wait()
        return
    pytest.fail("redis-server did not start")


@pytest.fixture
def pair(redis_port, reference):
    """Connections to both servers, which are empty."""
    wires = (Wire(redis_port), Wire(reference))
    for wire in wires:
        assert wire.ask("FLUSHALL") == b"+OK\r\n"
    yield wires
    for wire in wires:
        wire.close()


def comparable(args, reply):
    """What of a reply has to be the same."""
    name = args[0].upper() if isinstance(args[0], str) else ""
    if name in REMAINING and reply[:1] == b":":
        left = int(reply[1:-2])
        return left if left < 0 else f"{left // (2 * REMAINING[name])} x {2 * REMAINING[name]}"
    if name in UNORDERED and reply[:1] == b"*":
        head, _, body = reply.partition(b"\r\n")
        items = []
        while body:
            size, _, body = body.partition(b"\r\n")
            size = int(size[1:])
            items.append(body[:size])
            body = body[size + 2:]
        step = UNORDERED[name]
        return head, sorted(tuple(items[i:i + step]) for i in range(0, len(items), step))
    return reply


def compare(pair, commands):
    ours, theirs = pair
    for i, args in enumerate(commands):
        got, want = ours.ask(*args), theirs.ask(*args)
        assert comparable(args, got) == comparable(args, want), (
            f"command {i}: {args}\n  ours:  {got!r}\n  redis: {want!r}\n  before: {commands[max(0, i - 6):i]}")


# One command a line, split as a shell would; empty lines and lines with # are passed over.
SEQUENCES = {
    "set-and-get": r"""
        GET a
        SET a 1
        GET a
        SET a ""
        GET a
        GET
        GET a b
        SET a
        SET
        set A x
        sEt a "with blanks" nx
        SET b 1 NX
        SET b 2 NX
        GET b
        SET b 3 XX
        GET b
        SET c 1 XX
        GET c
        EXISTS c
        SET b 4 GET
        SET d 4 GET
        GET d
        SET d 5 NX GET
        GET d
        SET e 5 NX GET
        GET e
        SET f 5 XX GET
        GET f
        SET e 6 XX GET
        GET e
        HSET h f v
        SET h 1 GET
        SET h 1 NX
        SET h 1 NX GET
        HGET h f
        SET h 1
        GET h
        """,
    "set-syntax": r"""
        SET a 1 NX XX
        SET a 1 XX NX
        SET a 1 NX NX
        SET b 1 BAD
        SET b 1 EX
        SET b 1 EX x
        SET b 1 EX 1.5
        SET b 1 EX 0
        SET b 1 EX -1
        SET b 1 PX 0
        SET b 1 PX -5
        SET b 1 EXAT 0
        SET b 1 PXAT 0
        SET b 1 EXAT -1
        SET b 1 EX 9223372036854775807
        SET b 1 PX 9223372036854775807
        SET b 1 EX 9223372036854775
        SET b 1 EX 9223372036854776
        SET b 1 PX 9223372036854775808
        SET b 1 EX 10 PX 10
        SET b 1 EX 10 EXAT 10
        SET b 1 PX 10 PXAT 10
        SET b 1 EX 10 KEEPTTL
        SET b 1 KEEPTTL EX 10
        SET b 1 KEEPTTL PXAT 1
        SET b 1 PERSIST
        SET b 1 EX 10 EX
        SET b 1 EX NX
        SET b 1 GET EX 0
        SET b 1 NX GET BAD
        SET b 1 " NX"
        SET b 1 EX "10 "
        SET b 1 EX +10
        SET b 1 EX 010
        EXISTS b
        SET b 1 EX 10 EX 1000
        TTL b
        SET b 1 KEEPTTL KEEPTTL
        TTL b
        SET b 1 GET GET
        """,
    "set-expiry": r"""
        SET a 1 EX 1000
        TTL a
        PTTL a
        SET a 2 KEEPTTL
        TTL a
        GET a
        SET a 3
        TTL a
        SET a 4 PX 1000000
        TTL a
        SET a 5 EXAT 33177117420
        EXPIRETIME a
        PEXPIRETIME a
        SET a 6 PXAT 33177117420123
        EXPIRETIME a
        PEXPIRETIME a
        SET a 7 PXAT 33177117420500
        EXPIRETIME a
        SET a 7 PXAT 1
        GET a
        EXISTS a
        TTL a
        SET a 8
        SET a 9 EXAT 1 GET
        GET a
        SET new 9 PXAT 1 NX
        EXISTS new
        SET k v KEEPTTL
        TTL k
        SETEX b 1000 v
        TTL b
        GET b
        PSETEX b 1000000 w
        TTL b
        SETEX b 0 v
        SETEX b -1 v
        SETEX b x v
        SETEX b 9223372036854775807 v
        PSETEX b 0 v
        PSETEX b x v
        PSETEX b 9223372036854775807 v
        SETEX b 10
        PSETEX b 10 v w
        GET b
        HSET h f v
        SETEX h 1000 v
        TYPE h
        """,
    "getex-getdel-getset": r"""
        GETEX a
        GETEX a EX 0
        GETEX a BAD
        GETEX a EX
        SET a 1
        GETEX a
        TTL a
        GETEX a EX 1000
        TTL a
        GETEX a PX 1000000
        TTL a
        GETEX a PERSIST
        TTL a
        GETEX a PERSIST
        GETEX a EXAT 33177117420
        EXPIRETIME a
        GETEX a PXAT 33177117420123
        PEXPIRETIME a
        GETEX a EX 10 PX 10
        GETEX a EX 10 PERSIST
        GETEX a PERSIST EX 10
        GETEX a NX
        GETEX a KEEPTTL
        GETEX a GET
        GETEX a EX 0
        GETEX a EX x
        GETEX a PX 9223372036854775807
        PEXPIRETIME a
        GETEX a EXAT 1
        EXISTS a
        GETDEL a
        SET a 2
        GETDEL a
        GETDEL a
        EXISTS a
        GETSET a 3
        GETSET a 4
        EXPIRE a 1000
        GETSET a 5
        TTL a
        HSET h f v
        GETEX h
        GETEX h EX 0
        GETDEL h
        GETSET h 1
        GETSET h
        GETDEL
        HGETALL h
        """,
    "many-strings": r"""
        MSET a 1 b 2
        MGET a b c
        MSET a 1 b
        MSET a
        MSET
        MGET
        HSET h f v
        MGET a h b
        MSET h 1 h 2
        GET h
        MSETNX a 9 z 9
        EXISTS z
        MSETNX y 1 z 2
        MGET y z
        MSETNX y 1 z
        MSETNX p 1 p 2
        GET p
        EXPIRE a 1000
        MSET a 2
        TTL a
        SETNX a 3
        SETNX n 3
        SETNX n 4
        GET n
        SETNX n
        """,
    "parts": r"""
        APPEND a ""
        EXISTS a
        APPEND a abc
        APPEND a def
        GET a
        STRLEN a
        STRLEN none
        EXPIRE a 1000
        APPEND a x
        TTL a
        APPEND a
        STRLEN
        GETRANGE a 0 2
        GETRANGE a 0 -1
        GETRANGE a -3 -1
        GETRANGE a -3 -5
        GETRANGE a 5 2
        GETRANGE a 0 100
        GETRANGE a -100 2
        GETRANGE a -100 -50
        GETRANGE a 100 200
        GETRANGE a x 1
        GETRANGE a 0 y
        GETRANGE a 0
        GETRANGE a -9223372036854775808 9223372036854775807
        GETRANGE a 9223372036854775807 -9223372036854775808
        GETRANGE none 0 -1
        GETRANGE none x -1
        SUBSTR a 1 2
        SUBSTR a 1
        SETRANGE a 1 XY
        GET a
        SETRANGE a 10 Z
        GET a
        STRLEN a
        SETRANGE a -1 x
        SETRANGE a x x
        SETRANGE a 0 ""
        SETRANGE none 5 ""
        EXISTS none
        SETRANGE none 3 abc
        GET none
        SETRANGE none 536870912 x
        SETRANGE none 9223372036854775807 x
        SETRANGE fresh 9223372036854775807 x
        EXISTS fresh
        SETRANGE a 0
        HSET h f v
        APPEND h x
        STRLEN h
        GETRANGE h 0 1
        SETRANGE h 0 x
        SETRANGE h -1 x
        HGETALL h
        """,
    "integers": r"""
        INCR a
        INCR a
        DECR a
        INCRBY a 10
        DECRBY a 3
        GET a
        INCRBY a x
        INCRBY a 1.5
        INCRBY a ""
        INCRBY a " 1"
        INCRBY a +1
        INCRBY a 01
        INCRBY a -0
        INCRBY a 9223372036854775808
        DECRBY a -9223372036854775808
        INCRBY a -9223372036854775808
        INCR
        INCR a b
        DECRBY a
        SET a 9223372036854775807
        INCR a
        INCRBY a 1
        DECRBY a -1
        DECR a
        SET a -9223372036854775808
        DECR a
        DECRBY a 1
        INCR a
        SET a "12 "
        INCR a
        SET a 012
        INCR a
        SET a ""
        INCR a
        SET a -0
        INCR a
        SET a 1.0
        INCR a
        GET a
        SET a 5 EX 1000
        INCR a
        TTL a
        HSET h f v
        INCR h
        DECRBY h 5
        INCRBY h x
        """,
    "floats": r"""
        INCRBYFLOAT a 1.5
        INCRBYFLOAT a 1.5
        INCRBYFLOAT a 0.1
        GET a
        INCRBYFLOAT a -3.1
        INCRBYFLOAT a 1e3
        INCRBYFLOAT a 0x10
        INCRBYFLOAT a x
        INCRBYFLOAT a ""
        INCRBYFLOAT a " 1"
        INCRBYFLOAT a "1 "
        INCRBYFLOAT a nan
        INCRBYFLOAT a inf
        INCRBYFLOAT a -inf
        INCRBYFLOAT a 1e400
        INCRBYFLOAT a 1e5000
        GET a
        SET b 5
        INCRBYFLOAT b 0.5
        INCRBYFLOAT b 0.5
        INCR b
        SET b 3.0e3
        INCRBYFLOAT b 200
        SET b abc
        INCRBYFLOAT b 1
        INCRBYFLOAT b x
        SET b 0.1
        INCRBYFLOAT b 0.2
        SET b 10000000000
        INCRBYFLOAT b 0.0000001
        SET b 0
        INCRBYFLOAT b -0.0
        SET b 1
        INCRBYFLOAT b -1.0000000000000000000001
        SET b 3
        EXPIRE b 1000
        INCRBYFLOAT b 1.1
        TTL b
        HSET h f v
        INCRBYFLOAT h 1
        INCRBYFLOAT h x
        INCRBYFLOAT b
        """,
    "existence": r"""
        MSET a 1 b 2 c 3
        HSET h f v
        DEL a
        DEL a b none
        DEL
        EXISTS c c c none
        EXISTS
        TOUCH c h none c
        TOUCH
        UNLINK c none h
        UNLINK
        EXISTS c h
        TYPE none
        SET s v
        HSET h f v
        TYPE s
        TYPE h
        TYPE
        DBSIZE
        DBSIZE x
        FLUSHDB
        DBSIZE
        SET s v
        FLUSHALL ASYNC
        DBSIZE
        FLUSHALL SYNC
        FLUSHDB async
        FLUSHALL BAD
        FLUSHALL ASYNC SYNC
        FLUSHDB BAD
        RANDOMKEY
        SET only v
        RANDOMKEY
        RANDOMKEY x
        """,
    "expire": r"""
        EXPIRE none 10
        SET a 1
        TTL a
        PTTL a
        TTL none
        PTTL none
        EXPIRETIME a
        PEXPIRETIME none
        EXPIRE a 1000
        TTL a
        PEXPIRE a 2000000
        TTL a
        PERSIST a
        PERSIST a
        PERSIST none
        TTL a
        EXPIREAT a 33177117420
        EXPIRETIME a
        PEXPIREAT a 33177117420999
        EXPIRETIME a
        PEXPIRETIME a
        EXPIRE a x
        EXPIRE a
        EXPIRE a 1.5
        EXPIRE a 9223372036854775807
        EXPIRE a -9223372036854775808
        EXPIRE a 9223372036854775
        PEXPIRE a 9223372036854775807
        PEXPIREAT a 9223372036854775807
        PEXPIRETIME a
        EXPIREAT a 9223372036854775807
        EXPIRE a 10 BAD
        EXPIRE none 10 BAD
        EXPIRE a x BAD
        EXPIRE a 10 NX XX
        EXPIRE a 10 NX GT
        EXPIRE a 10 NX LT
        EXPIRE a 10 GT LT
        EXPIRE a 10 XX GT LT
        EXPIRE a 10 "NX "
        EXPIRE a 0
        EXISTS a
        SET a 1
        EXPIRE a -1
        EXISTS a
        SET a 1
        PEXPIREAT a 1
        GET a
        SET a 1
        EXPIREAT a -1
        GET a
        HSET h f v
        EXPIRE h 1000
        HSET h g w
        TTL h
        PEXPIRE h -5
        TYPE h
        """,
    "expire-conditions": r"""
        SET a 1
        PEXPIREAT a 33177117420000 XX
        PEXPIREAT a 33177117420000 GT
        TTL a
        PEXPIREAT a 33177117420000 LT
        PEXPIRETIME a
        PEXPIREAT a 33177117420000 NX
        PEXPIREAT a 33177117420000 GT
        PEXPIREAT a 33177117420000 LT
        PEXPIREAT a 33177117420001 LT
        PEXPIREAT a 33177117420001 GT
        PEXPIRETIME a
        PEXPIREAT a 33177117419999 GT
        PEXPIREAT a 33177117419999 LT
        PEXPIRETIME a
        PEXPIREAT a 33177117430000 XX GT
        PEXPIREAT a 33177117420000 xx lt
        PEXPIRETIME a
        PERSIST a
        PEXPIREAT a 33177117420000 XX LT
        TTL a
        PEXPIREAT a 33177117420000 NX NX
        PEXPIREAT a 1 GT
        EXISTS a
        PEXPIREAT a 1 LT
        EXISTS a
        EXPIRE none 10 NX
        EXPIRE none 10 LT
        """,
    "rename": r"""
        RENAME a b
        SET a 1 PXAT 33177117420000
        RENAME a b
        GET a
        GET b
        PEXPIRETIME b
        RENAME b b
        GET b
        SET c 2
        RENAMENX b c
        RENAMENX b d
        RENAMENX none d
        RENAMENX d d
        GET d
        HSET h f v
        RENAME h d
        TYPE d
        HGETALL d
        TTL d
        RENAME d
        RENAMENX d
        RENAME none none
        RENAMENX none none
        """,
    "copy-move": r"""
        COPY a b
        SET a 1 PXAT 33177117420000
        COPY a b
        COPY a b
        GET b
        PEXPIRETIME b
        SET a 2
        COPY a b
        COPY a b REPLACE
        GET b
        TTL b
        COPY a a
        COPY a a REPLACE
        COPY none none
        COPY a a DB 1
        COPY a a DB 1
        COPY a a DB 1 REPLACE
        COPY a b DB 1
        COPY a b DB
        COPY a b DB x
        COPY a b DB 16
        COPY a b DB -1
        COPY a b DB 99999999999
        COPY a b DB 99999999999999999999
        COPY a b BAD
        COPY a b REPLACE REPLACE
        COPY a b DB 2 DB 3
        COPY a
        HSET h f v
        COPY h i
        HGETALL i
        COPY h a REPLACE
        TYPE a
        MOVE b 1
        MOVE i 1
        EXISTS i
        MOVE none 1
        MOVE h 0
        MOVE h 16
        MOVE h -1
        MOVE h x
        MOVE h 99999999999
        MOVE h
        SELECT 1
        HGETALL i
        GET a
        DBSIZE
        FLUSHDB
        SELECT 3
        GET b
        SELECT 16
        SELECT x
        SELECT 0
        DBSIZE
        """,
    "keys-and-scan": r"""
        KEYS *
        SCAN 0
        MSET one 1 two 2 three 3 four 4 "" empty "a*b" star "a?b" q "a[b" br "a\\b" bs
        KEYS *
        KEYS t*
        KEYS *o*
        KEYS ?o??
        KEYS [ot]*
        KEYS [^ot]*
        KEYS [a-f]*
        KEYS [f-a]*
        KEYS "a\\*b"
        KEYS "a\\?b"
        KEYS "a\\[b"
        KEYS "a\\\\b"
        KEYS "a[*]b"
        KEYS "a[\\[]b"
        KEYS one
        KEYS ""
        KEYS "[o"
        KEYS "[on]ne["
        KEYS "\\"
        KEYS "**e**"
        KEYS "*[!]*"
        KEYS
        KEYS a b
        SCAN 0 COUNT 0
        SCAN 0 COUNT x
        SCAN 0 COUNT -1
        SCAN 0 COUNT
        SCAN 0 MATCH
        SCAN 0 BAD x
        SCAN x
        SCAN 1x
        SCAN
        SCAN 0 COUNT 1000 MATCH one
        SCAN 0 COUNT 1000 MATCH "[ao]ne" TYPE string
        SCAN 0 COUNT 1000 MATCH one TYPE hash
        SCAN 0 COUNT 1000 MATCH one TYPE BAD
        SCAN 0 count 1000 match one type STRING
        """,
    "hashes": r"""
        HGET h f
        HGETALL h
        HKEYS h
        HVALS h
        HLEN h
        HEXISTS h f
        HSTRLEN h f
        HMGET h f g
        HDEL h f
        HSET h f v
        HSET h f w g x
        HSET h f
        HSET h f v g
        HSET h
        HSET
        HMSET h a 1 b 2
        HMSET h a
        HMSET h a 1 b
        HGET h f
        HGET h none
        HGET h
        HGETALL h
        HKEYS h
        HVALS h
        HLEN h
        HEXISTS h f
        HEXISTS h none
        HSTRLEN h f
        HSTRLEN h none
        HMGET h f none g
        HMGET h
        HSETNX h f new
        HSETNX h fresh new
        HGET h fresh
        HSETNX h f
        HDEL h f none f
        HDEL h g a b fresh x
        EXISTS h
        HDEL h g
        HSET h "" ""
        HGETALL h
        HGET h ""
        HSET h f 1 f 2 f 3
        HGET h f
        SET s v
        HGET s f
        HSET s f v
        HMSET s f v
        HSETNX s f v
        HGETALL s
        HKEYS s
        HVALS s
        HLEN s
        HEXISTS s f
        HSTRLEN s f
        HMGET s f
        HDEL s f
        HINCRBY s f 1
        HINCRBYFLOAT s f 1
        HSCAN s 0
        HRANDFIELD s
        HRANDFIELD s 2
        GET h
        GET s
        """,
    "hash-counters": r"""
        HINCRBY h n 5
        HINCRBY h n -7
        HINCRBY h n x
        HINCRBY h n 1.5
        HINCRBY h n
        HINCRBY h n 9223372036854775808
        HSET h n 9223372036854775807
        HINCRBY h n 1
        HGET h n
        HSET h n -9223372036854775808
        HINCRBY h n -1
        HSET h n abc
        HINCRBY h n 1
        HSET h n " 1"
        HINCRBY h n 1
        HSET h n ""
        HINCRBY h n 1
        HINCRBYFLOAT h f 1.5
        HINCRBYFLOAT h f 0.1
        HINCRBYFLOAT h f -1.6
        HINCRBYFLOAT h f 5.0e3
        HINCRBYFLOAT h f x
        HINCRBYFLOAT h f ""
        HINCRBYFLOAT h f " 1"
        HINCRBYFLOAT h f nan
        HINCRBYFLOAT h f
        HSET h f abc
        HINCRBYFLOAT h f 1
        HSET h f 10.50
        HINCRBYFLOAT h f 0.1
        HGET h f
        SET s v
        HINCRBY s n x
        HINCRBYFLOAT s n x
        """,
    "hash-scan-and-random": r"""
        HSCAN h 0
        HSCAN h 0 BAD
        HSCAN h 0 COUNT x
        HSCAN h x
        HSCAN h
        HSET h f v
        HSCAN h 0
        HSCAN h 0 MATCH f
        HSCAN h 0 MATCH x*
        HSCAN h 0 COUNT 5 MATCH *
        HSCAN h 0 COUNT 0
        HSCAN h 0 COUNT x
        HSCAN h 0 COUNT
        HSCAN h 0 BAD x
        HSCAN h 0 TYPE hash
        HSCAN h x
        HRANDFIELD none
        HRANDFIELD none 5
        HRANDFIELD none -5 WITHVALUES
        HRANDFIELD h
        HRANDFIELD h 5
        HRANDFIELD h 0
        HRANDFIELD h -3
        HRANDFIELD h 5 WITHVALUES
        HRANDFIELD h -2 withvalues
        HRANDFIELD h 5 BAD
        HRANDFIELD h 5 WITHVALUES x
        HRANDFIELD h x
        HRANDFIELD h -9223372036854775808
        HRANDFIELD h -9223372036854775807 WITHVALUES
        HRANDFIELD h 9223372036854775807 WITHVALUES
        HRANDFIELD h 9223372036854775807
        HRANDFIELD none -9223372036854775808
        HRANDFIELD
        """,
    "object": r"""
        OBJECT
        OBJECT ENCODING
        OBJECT ENCODING none
        OBJECT REFCOUNT none
        OBJECT FREQ none
        OBJECT IDLETIME none
        OBJECT BAD none
        OBJECT ENCODING a b
        SET a 12345
        OBJECT ENCODING a
        SET a 12345678901234567890
        OBJECT ENCODING a
        SET a abc
        object encoding a
        OBJECT REFCOUNT a
        OBJECT FREQ a
        SET a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        OBJECT ENCODING a
        SET a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        OBJECT ENCODING a
        HSET h f v
        OBJECT ENCODING h
        HSET h f aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        OBJECT ENCODING h
        HSET h f aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        OBJECT ENCODING h
        """,
    "unknown": r"""
        FOO
        FOO bar baz
        foo "with blanks" "" x
        "" x
        GETT a
        KV.GET a
        "TX.EXEC" 0 0
        SESSION.OPEN
        GET
        FOO aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
        FOO aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb c
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
        """,
    "transactions": r"""
        EXEC
        DISCARD
        MULTI
        SET a 1
        INCR a
        HSET a f v
        GET a
        HGETALL none
        EXEC
        GET a
        MULTI
        MULTI
        WATCH a
        SET a 9
        DISCARD
        GET a
        MULTI
        SET a 10
        FOO
        EXEC
        GET a
        MULTI
        SET a
        SET b 1
        EXEC
        EXISTS b
        MULTI
        EXEC
        WATCH a
        SET a 11
        MULTI
        SET a 12
        EXEC
        GET a
        WATCH a b
        UNWATCH
        SET a 13
        MULTI
        GET a
        EXEC
        WATCH a
        MULTI
        INCR a
        SELECT 1
        SET a other
        SELECT 0
        GET a
        EXEC
        GET a
        WATCH
        MULTI x
        EXEC x
        """,
}


def parse(text):
    return [shlex.split(line) for line in map(str.strip, text.splitlines()) if line and not line.startswith("# ")]


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence(pair, name):
    compare(pair, parse(SEQUENCES[name]))


def test_bytes_of_all_kinds(pair):
    """Nothing is text: keys, values, fields and patterns may hold any byte."""
    every = bytes(range(256))
    compare(pair, [
        ("SET", every, every[::-1]),
        ("GET", every),
        ("GETRANGE", every, 10, 13),
        ("HSET", b"\0\r\n", every, b"\r\n", b"\r\n", b""),
        ("HGETALL", b"\0\r\n"),
        ("KEYS", b"\0*"),
        ("KEYS", b"[\0]\r?"),
        ("KEYS", b"*\xff"),
        ("KEYS", b"[\xf0-\xff]*"),
        ("FOO\r\nBAR", b"a\r\nb", b"c\0d"),
        ("EXPIRE", every, 10, b"a\r\nb"),
        ("INCR", every),
        ("INCRBY", b"n", b"1\0"),
        ("INCRBYFLOAT", b"n", b"1\0"),
        ("SET", b"n", b"1\0"),
        ("INCR", b"n"),
        ("INCRBYFLOAT", b"n", b"1"),
    ])


def test_large_values(pair):
    compare(pair, [
        ("SET", "a", b"x" * 1_000_000),
        ("APPEND", "a", b"y" * 1_000_000),
        ("GET", "a"),
        ("SETRANGE", "a", 3_000_000, "z"),
        ("STRLEN", "a"),
        ("GETRANGE", "a", 999_990, 1_000_010),
        ("HSET", "h", "f", b"x" * 1_000_000),
        ("HGETALL", "h"),
        ("COPY", "a", "b"),
        ("GET", "b"),
    ])


def collect_scan(wire, *args):
    """All that a scan with these arguments (the cursor is None) gives."""
    cursor, found = b"0", []
    for _ in range(100_000):
        wire.send([cursor if arg is None else arg for arg in args])
        assert wire.file.readline() == b"*2\r\n"
        cursor = wire.reply().split(b"\r\n")[1]
        count = int(wire.file.readline()[1:])
        found += [wire.reply() for _ in range(count)]
        if cursor == b"0":
            return found
    raise AssertionError("the scan does not end")


def test_scans_find_everything(pair):
    """What stays is found exactly by both, whatever the cursors look like."""
    for wire in pair:
        for i in range(500):
            wire.ask("SET", f"key:{i}", i)
            wire.ask("HSET", "hash", f"field:{i}", i)
    for args in [("SCAN", None), ("SCAN", None, "COUNT", 7), ("SCAN", None, "MATCH", "*[37]"),
                 ("SCAN", None, "TYPE", "hash", "COUNT", 100), ("SCAN", None, "COUNT", 100_000)]:
        ours, theirs = (collect_scan(wire, *args) for wire in pair)
        assert sorted(ours) == sorted(theirs), args
    for args in [("HSCAN", "hash", None), ("HSCAN", "hash", None, "COUNT", 7),
                 ("HSCAN", "hash", None, "MATCH", "*[37]", "COUNT", 50)]:
        ours, theirs = (collect_scan(wire, *args) for wire in pair)
        assert sorted(zip(ours[::2], ours[1::2])) == sorted(zip(theirs[::2], theirs[1::2])), args


def test_random_choices_are_members(pair):
    for wire in pair:
        for i in range(50):
            wire.ask("HSET", "h", i, i * i)
            wire.ask("SET", f"k{i}", i)
    sizes = [("HRANDFIELD", "h", 10), ("HRANDFIELD", "h", 100), ("HRANDFIELD", "h", -100),
             ("HRANDFIELD", "h", 10, "WITHVALUES"), ("HRANDFIELD", "h", -200, "WITHVALUES")]
    for args in sizes:
        ours, theirs = (wire.ask(*args) for wire in pair)
        assert ours.split(b"\r\n")[0] == theirs.split(b"\r\n")[0], args
        items = ours.split(b"\r\n")[2::2]
        if "WITHVALUES" in args:
            assert all(int(field) ** 2 == int(value) for field, value in zip(items[::2], items[1::2]))
            items = items[::2]
        assert all(0 <= int(item) < 50 for item in items)
        if args[2] > 0:
            assert len(set(items)) == len(items)
    seen = {pair[0].ask("RANDOMKEY").split(b"\r\n")[1] for _ in range(300)}
    assert len(seen) > 10
    assert seen <= {b"h"} | {b"k%d" % i for i in range(50)}


# Arguments by kind; RANDOM_COMMANDS draws from them.
POOLS = {
    "k": ["a", "b", "c", "h", "i", "none"],
    "v": ["1", "-5", "10", "abc", "", "3.25", "9223372036854775807", "-9223372036854775808", "x" * 70, " 1", "007"],
    "f": ["f", "g", "n", "m", ""],
    "n": ["0", "1", "-1", "5", "100", "9223372036854775807", "-9223372036854775808", "x", "1.5", ""],
    "d": ["1.5", "-0.25", "1e2", "x", "3", "nan", "inf", ""],
    "t": ["33177117420000", "33177117425000", "1", "0", "-1", "x", "33177117419000"],
    "c": ["NX", "XX", "GT", "LT", "nx", "BAD"],
    "s": ["NX", "XX", "GET", "KEEPTTL", "PXAT 33177117420000", "EXAT 33177117425", "PXAT 1", "EX", "PX 0", "BAD"],
    "r": ["0", "1", "2", "-1", "-2", "50", "x"],
}
RANDOM_COMMANDS = [
    "GET k", "SET k v", "SET k v s", "SET k v s s", "SET k v s s s", "GETEX k", "GETEX k PXAT t", "GETEX k PERSIST",
    "GETDEL k", "GETSET k v", "MGET k k k", "MSET k v k v", "MSETNX k v k v", "SETNX k v", "APPEND k v", "STRLEN k",
    "GETRANGE k r r", "SETRANGE k r v", "INCR k", "DECR k", "INCRBY k n", "DECRBY k n", "INCRBYFLOAT k d", "DEL k k",
    "EXISTS k k", "TYPE k", "PEXPIREAT k t", "PEXPIREAT k t c", "PEXPIREAT k t c c", "PEXPIRETIME k", "EXPIRETIME k",
    "PERSIST k", "RENAME k k", "RENAMENX k k", "COPY k k", "COPY k k REPLACE", "HSET k f v", "HSET k f v f v",
    "HSETNX k f v", "HGET k f", "HMGET k f f", "HGETALL k", "HDEL k f f", "HLEN k", "HEXISTS k f", "HKEYS k", "HVALS k",
    "HINCRBY k f n", "HINCRBYFLOAT k f d", "HSTRLEN k f", "KEYS *", "TOUCH k k", "TTL k",
]


def random_commands(seed, count):
    draw = random.Random(seed)
    for _ in range(count):
        args = []
        for word in draw.choice(RANDOM_COMMANDS).split():
            choice = draw.choice(POOLS[word]) if word in POOLS else word
            args += choice.split() if word == "s" else [choice]
        if draw.random() < 0.02:
            args = args[:-1] or args
        yield args


@pytest.mark.parametrize("seed", range(5))
def test_random_commands(pair, seed):
    compare(pair, list(random_commands(seed, 500)))


COMMANDS = """
    PING ECHO QUIT HELLO AUTH SELECT CLIENT INFO CONFIG COMMAND TIME RESET MULTI EXEC DISCARD WATCH UNWATCH
    DBSIZE FLUSHDB FLUSHALL GET SET GETEX GETDEL GETSET MGET MSET MSETNX SETEX PSETEX SETNX APPEND STRLEN GETRANGE
    SUBSTR SETRANGE INCR INCRBY INCRBYFLOAT DECR DECRBY DEL UNLINK EXISTS TOUCH TYPE EXPIRE PEXPIRE EXPIREAT PEXPIREAT
    EXPIRETIME PEXPIRETIME TTL PTTL PERSIST RENAME RENAMENX COPY MOVE RANDOMKEY KEYS SCAN HSET HMSET HSETNX HGET HMGET
    HGETALL HDEL HLEN HEXISTS HKEYS HVALS HINCRBY HINCRBYFLOAT HSTRLEN HSCAN HRANDFIELD OBJECT
    """.split()


def test_command_info(pair):
    """Name, arity, flags and key positions; the flags as a set."""
    for name in COMMANDS:
        infos = []
        for wire in pair:
            lines = wire.ask("COMMAND", "INFO", name).split(b"\r\n")
            # *1, *10, $n, name, :arity, *flags, the flags, :first, :last, :step
            count = int(lines[5][1:])
            flags, rest = lines[6:6 + count], lines[6 + count:]
            infos.append((lines[2:5], sorted(flags), rest[:3]))
        assert infos[0] == infos[1], name
