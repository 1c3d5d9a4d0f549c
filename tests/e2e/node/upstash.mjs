// What the SDK does, against the base URL in argv[2]; test_upstash.py runs it. Prints "ok" at the end.
import assert from "node:assert/strict";
import { Redis } from "@upstash/redis";

const url = process.argv[2];

async function run(options) {
  const redis = new Redis({ url, token: "none", enableTelemetry: false, ...options });
  await redis.flushall();
  assert.equal(await redis.ping(), "PONG");
  assert.equal(await redis.set("text", "high water"), "OK");
  assert.equal(await redis.get("text"), "high water");
  assert.equal(await redis.get("missing"), null);
  assert.equal(await redis.set("ok", "OK"), "OK");
  assert.equal(await redis.get("ok"), "OK");
  await redis.set("unicode", "Flut, ebb — 潮");
  assert.equal(await redis.get("unicode"), "Flut, ebb — 潮");
  await redis.set("json", { level: 3, names: ["a", "b"], deep: { x: null } });
  assert.deepEqual(await redis.get("json"), { level: 3, names: ["a", "b"], deep: { x: null } });
  assert.equal(await redis.set("once", 1, { nx: true, ex: 100 }), "OK");
  assert.equal(await redis.set("once", 2, { nx: true }), null);
  const ttl = await redis.ttl("once");
  assert.ok(ttl > 90 && ttl <= 100);
  assert.equal(await redis.incr("n"), 1);
  assert.equal(await redis.incrby("n", 41), 42);
  assert.equal(await redis.incrbyfloat("f", 1.5), 1.5);
  assert.equal(await redis.hset("h", { a: 1, b: "two", c: { d: true } }), 3);
  assert.deepEqual(await redis.hgetall("h"), { a: 1, b: "two", c: { d: true } });
  assert.deepEqual(await redis.hmget("h", "a", "none"), { a: 1, none: null });
  assert.deepEqual((await redis.hkeys("h")).sort(), ["a", "b", "c"]);
  assert.deepEqual(await redis.mget("text", "missing"), ["high water", null]);
  assert.equal(await redis.exists("text", "missing"), 1);
  assert.equal(await redis.type("h"), "hash");
  const [cursor, keys] = await redis.scan(0, { match: "*", count: 100 });
  assert.equal(String(cursor), "0");
  assert.ok(keys.includes("text"));
  assert.equal(await redis.del("text", "missing"), 1);

  const p = redis.pipeline();
  p.set("p", 1).incr("p").get("p").hlen("h");
  assert.deepEqual(await p.exec(), ["OK", 2, 2, 3]);
  const reads = redis.pipeline();
  reads.get("p").get("missing");
  assert.deepEqual(await reads.exec(), [2, null]);
  const tx = redis.multi();
  tx.set("t", "x").append("t", "y").get("t");
  assert.deepEqual(await tx.exec(), ["OK", 2, "xy"]);

  await assert.rejects(() => redis.incr("json"), /ERR value is not an integer/);
  const broken = redis.pipeline();
  broken.set("p", 1);
  broken.incr("h");
  await assert.rejects(() => broken.exec(), /WRONGTYPE/);
  const kept = redis.pipeline();
  kept.set("p", 1);
  kept.incr("h");
  const results = await kept.exec({ keepErrors: true });
  assert.equal(results[0].result, "OK");
  assert.match(results[1].error, /WRONGTYPE/);
  assert.equal(await redis.get("p"), 1);

  // Commands of one turn are sent together.
  const many = await Promise.all(Array.from({ length: 20 }, (_, i) => redis.set(`many-${i}`, i)));
  assert.ok(many.every((answer) => answer === "OK"));
  const values = await Promise.all(Array.from({ length: 20 }, (_, i) => redis.get(`many-${i}`)));
  assert.deepEqual(values, Array.from({ length: 20 }, (_, i) => i));
}

await run({});
await run({ responseEncoding: false });
await run({ enableAutoPipelining: false });
console.log("ok");
