"""The Redis protocol, on one node, through redis-py and through plain sockets."""

import subprocess

import pytest
import redis

from harness import eventually


def test_strings(solo, key):
    r = solo.redis()
    assert r.ping() is True
    assert r.set(key, b"\x00tide\xff") is True
    assert r.get(key) == b"\x00tide\xff"
    assert r.set(key, "x", nx=True) is None
    assert r.set(key, "y", xx=True, get=True) == b"\x00tide\xff"
    assert r.append(key, "zz") == 3
    assert r.getrange(key, 1, 2) == b"zz"
    assert r.setrange(key, 5, "!") == 6
    assert r.get(key) == b"yzz\x00\x00!"
    assert r.strlen(key) == 6
    assert r.getdel(key) == b"yzz\x00\x00!"
    assert r.get(key) is None


def test_numbers(solo, key):
    r = solo.redis()
    assert r.incr(key) == 1
    assert r.incrby(key, 41) == 42
    assert r.decrby(key, 2) == 40
    assert r.incrbyfloat(key, "0.5") == 40.5
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        r.incr(key)


def test_many_keys(solo):
    r = solo.redis()
    keys = {f"many-{i}": str(i).encode() for i in range(200)}
    r.mset(keys)
    assert r.mget(list(keys)) == list(keys.values())
    assert set(r.scan_iter("many-*", count=17)) == {k.encode() for k in keys}
    assert sorted(r.keys("many-1?")) == [f"many-1{i}".encode() for i in range(10)]
    assert r.exists("many-1", "many-2", "nothing") == 2
    assert r.delete(*keys) == 200
    assert r.msetnx({"many-1": "a", "many-2": "b"}) is True
    assert r.msetnx({"many-2": "a", "many-3": "b"}) is False


def test_expiry(solo, key):
    r = solo.redis()
    r.set(key, "x", px=300)
    assert 0 < r.pttl(key) <= 300
    eventually(lambda: r.get(key) is None, seconds=10)
    assert r.ttl(key) == -2
    r.set(key, "x", ex=100)
    assert r.persist(key) == 1
    assert r.ttl(key) == -1
    assert r.expire(key, 50) is True
    assert 45 <= r.ttl(key) <= 50
    r.set(key, "y", keepttl=True)
    assert r.ttl(key) > 0
    r.set(key, "y")
    assert r.ttl(key) == -1


def test_hashes(solo, key):
    r = solo.redis()
    assert r.hset(key, mapping={"a": "1", "b": "2"}) == 2
    assert r.hset(key, "a", "3") == 0
    assert r.hget(key, "a") == b"3"
    assert r.hgetall(key) == {b"a": b"3", b"b": b"2"}
    assert r.hincrby(key, "a", 4) == 7
    assert sorted(r.hkeys(key)) == [b"a", b"b"]
    assert r.hmget(key, "a", "nothing") == [b"7", None]
    assert dict(r.hscan_iter(key)) == {b"a": b"7", b"b": b"2"}
    assert r.hdel(key, "a", "b") == 2
    assert r.exists(key) == 0


def test_rename_copy_type(solo, key):
    r = solo.redis()
    r.set(key, "v", ex=100)
    assert r.rename(key, key + "2") is True
    assert r.ttl(key + "2") > 0
    assert r.copy(key + "2", key + "3") is True
    assert r.type(key + "3") == b"string"
    assert r.renamenx(key + "2", key + "3") is False
    with pytest.raises(redis.ResponseError, match="no such key"):
        r.rename("never-there", "x")


def test_wrong_type(solo, key):
    r = solo.redis()
    r.hset(key, "field", "value")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.get(key)
    r.set(key, "now a string")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.hget(key, "field")


def test_databases_are_apart(solo, key):
    zero, one = solo.redis(db=0), solo.redis(db=1)
    zero.set(key, "zero")
    assert one.get(key) is None
    one.set(key, "one")
    assert zero.get(key) == b"zero"
    one.flushdb()
    assert (zero.get(key), one.get(key), one.dbsize()) == (b"zero", None, 0)
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        solo.redis().execute_command("SELECT", 9999)


def test_multi_exec(solo, key):
    r = solo.redis()
    with r.pipeline(transaction=True) as p:
        p.set(key, "1").incr(key).get(key).hget(key, "x")
        results = p.execute(raise_on_error=False)
    assert results[:3] == [True, 2, b"2"]
    assert "WRONGTYPE" in str(results[3])


def test_watch(solo, key):
    r, other = solo.redis(), solo.redis()
    r.set(key, "1")
    with r.pipeline() as p:
        p.watch(key)
        assert p.get(key) == b"1"
        other.set(key, "2")
        p.multi()
        p.set(key, "3")
        with pytest.raises(redis.WatchError):
            p.execute()
    assert r.get(key) == b"2"
    with r.pipeline() as p:
        p.watch(key)
        p.multi()
        p.set(key, "4")
        assert p.execute() == [True]
    assert r.get(key) == b"4"


def test_discard_and_an_error_while_queueing(solo, key):
    answer = solo.exchange("redis", b"MULTI\r\nSET %s a\r\nDISCARD\r\nMULTI\r\nSET %s\r\nEXEC\r\nGET %s\r\nQUIT\r\n"
                           % (key.encode(), key.encode(), key.encode()))
    lines = answer.split(b"\r\n")
    assert lines[:4] == [b"+OK", b"+QUEUED", b"+OK", b"+OK"]
    assert lines[4].startswith(b"-ERR wrong number of arguments")
    assert lines[5].startswith(b"-EXECABORT")
    assert lines[6:8] == [b"$-1", b"+OK"]


def test_pipeline_of_thousands(solo, key):
    r = solo.redis()
    with r.pipeline(transaction=False) as p:
        for i in range(5000):
            p.incr(key)
            p.get(key)
        results = p.execute()
    assert results[0::2] == list(range(1, 5001))
    assert results[1::2] == [str(i).encode() for i in range(1, 5001)]


def test_a_read_after_a_write_on_the_same_connection_sees_it(solo, key):
    data = b"".join(b"SET %s %d\r\nGET %s\r\n" % (key.encode(), i, key.encode()) for i in range(300))
    answer = solo.exchange("redis", data + b"QUIT\r\n")
    expected = b"".join(b"+OK\r\n$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(300))
    assert answer == expected + b"+OK\r\n"


def test_hello_and_resp3(solo, key):
    answer = solo.exchange("redis", b"HELLO 3\r\nHSET %s f v\r\nHGETALL %s\r\nGET nothing\r\nQUIT\r\n"
                           % (key.encode(), key.encode()))
    assert answer.startswith(b"%7\r\n")
    assert b"$5\r\nproto\r\n:3\r\n" in answer
    assert answer.endswith(b":1\r\n%1\r\n$1\r\nf\r\n$1\r\nv\r\n_\r\n+OK\r\n")
    assert solo.exchange("redis", b"HELLO 9\r\nQUIT\r\n").startswith(b"-NOPROTO ")


def test_what_clients_ask_at_connect(solo):
    r = solo.redis(client_name="tide-gauge")
    assert r.client_getname() in (b"tide-gauge", "tide-gauge")
    assert r.client_id() > 0
    info = r.info()
    assert tuple(map(int, info["redis_version"].split("."))) >= (7, 0, 0)
    assert info["loading"] == 0
    r.set("info:lasting", 1)
    r.set("info:passing", 1, ex=1000)
    keyspace = r.info("keyspace")["db0"]
    assert 1 <= keyspace["expires"] < keyspace["keys"]
    assert r.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert r.execute_command("COMMAND COUNT") >= 75
    assert r.echo("x") == b"x"
    assert len(r.time()) == 2
    with pytest.raises(redis.ResponseError, match="unknown|Unknown"):
        r.execute_command("CLIENT", "MAINT_NOTIFICATIONS", "ON")


def test_unknown_commands_in_redis_words(solo):
    r = solo.redis()
    with pytest.raises(redis.ResponseError) as caught:
        r.execute_command("NOSUCH", "a", "b")
    assert str(caught.value) == "unknown command 'NOSUCH', with args beginning with: 'a' 'b' "
    with pytest.raises(redis.ResponseError) as caught:
        r.execute_command("GET")
    assert str(caught.value) == "wrong number of arguments for 'get' command"


@pytest.mark.parametrize("command", ["KV.PUT", "TX.EXEC", "SESSION.OPEN", "NODE.ALLOC"])
def test_internal_commands_are_not_for_clients(solo, command):
    with pytest.raises(redis.ResponseError, match="unknown command"):
        solo.redis().execute_command(command, "a", "b", "c", "d", "e", "f", "g")


def test_redis_cli(solo, key):
    host, port = solo.address("redis")
    run = subprocess.run(["redis-cli", "-h", host, "-p", str(port)], input=f"set {key} 'a b'\nget {key}\nincr {key}\n",
                         capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.splitlines()[:2] == ["OK", "a b"]
    assert "ERR value is not an integer" in run.stdout


def test_redis_benchmark(solo):
    host, port = solo.address("redis")
    run = subprocess.run(["redis-benchmark", "-h", host, "-p", str(port), "-t", "set,get,incr,hset,mset", "-c", "20", "-n",
                          "2000", "-q"], capture_output=True, text=True, timeout=120, check=True)
    assert "rror" not in run.stdout + run.stderr


def test_both_protocols_see_the_same_bytes(solo, key):
    r = solo.redis()
    value = bytes(range(256)) * 3
    solo.put(key, value, Content_Type="image/x-tide")
    assert r.get(key) == value
    first = solo.get(key).etag
    r.set(key, value[::-1])
    answer = solo.get(key)
    assert answer.body == value[::-1]
    assert answer.etag != first
    solo.put(key, b"7")
    assert r.incr(key) == 8
    assert solo.get(key).body == b"8"
    r.expire(key, 100)
    assert solo.get(key).headers["Kv-Expires"]
    solo.put(key, b"x", "?ttl=50s")
    assert 0 < r.ttl(key) <= 50
    r.delete(key)
    assert solo.get(key).status == 404
    r.hset(key, "a", "b")
    assert 400 <= solo.get(key).status < 500


def test_flushall(cluster):
    made = cluster(1)
    r = made.nodes[0].redis()
    r.set("a", 1)
    made.nodes[0].redis(db=3).set("b", 2)
    assert r.flushall() is True
    assert r.dbsize() == 0 and made.nodes[0].redis(db=3).dbsize() == 0
