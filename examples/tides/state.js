// The state that all visitors share, and how a page talks to it: plain fetch and EventSource, no library.
//
//   tides/count             a number; POST /v1/incr adds to it
//   tides/guest/TIME-ID     an entry of the guest book, as JSON
//   tides/here/ID           a page that is open now: who and on which node; it expires when nobody renews it

export const COUNT = "tides/count";
export const GUESTS = "tides/guest/";
export const HERE = "tides/here/";
const ALL = "tides/";

export class Refused extends Error {
  constructor(problem, status) {
    super(problem.detail || `the answer was ${status}`);
    this.status = status;
  }
}

// Answers with a problem (RFC 9457) become exceptions; no answer at all is a TypeError or TimeoutError.
export async function ask(method, path, body, headers = {}, timeoutMs = 8000) {
  const answer = await fetch(path, {
    method, headers, cache: "no-store", signal: AbortSignal.timeout(timeoutMs),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let parsed = null;
  try {
    parsed = text ? JSON.parse(text) : null;
  } catch {
    // What is no JSON is not for us.
  }
  if (!answer.ok) throw new Refused(parsed || {}, answer.status);
  return parsed;
}

// Whether a request is worth repeating: no answer came, or one that says "not now".
export function isPassing(error) {
  return !(error instanceof Refused) || error.status === 503 || error.status === 429;
}

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)),
  (byte) => byte.toString(16).padStart(2, "0")).join("");

const inQuotes = (id) => `"${id}"`;

// {value, revision}. With an Idempotency-Key a request can be repeated at any node until it has an answer: it
// counts once.
export function addWave(id) {
  return ask("POST", `/v1/incr/${COUNT}`, undefined, { "Idempotency-Key": inQuotes(id) });
}

// The time counts down in the key, so that a listing, which is in the order of the keys, begins with the newest.
export function guestKey(id) {
  return `${GUESTS}${String(9e15 - Date.now()).padStart(16, "0")}-${id}`;
}

export function sign(key, entry) {
  return ask("PUT", `/v1/kv/${key}?ttl=30d`, entry,
    { "Content-Type": "application/json", "If-None-Match": "*", "Idempotency-Key": inQuotes(key) });
}

export function beHere(id, who, seconds) {
  return ask("PUT", `/v1/kv/${HERE}${id}?ttl=${seconds}s`, who, { "Content-Type": "application/json" });
}

// The page is being left: nobody waits for the answer.
export function leave(id) {
  fetch(`/v1/kv/${HERE}${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

function list(prefix, limit) {
  return ask("GET", `/v1/kv?prefix=${encodeURIComponent(prefix)}&values=1&limit=${limit}`);
}

// Calls put(key, value, revision), gone(key, revision) and reset() as the state changes, and connected(bool).
//
// First the present state is listed, then the changes behind its revision are followed: what happens in
// between is in the history, so nothing is missed. A stream that breaks goes on behind the last revision that
// it has told, which any node knows. A page that nobody sees holds no connection.
export class Follower {
  constructor(handlers) {
    this.handlers = handlers;
    this.revision = null;
    this.source = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => this.update());
    this.update();
  }

  update() {
    clearTimeout(this.timer);
    if (document.visibilityState !== "visible") this.close();
    else if (!this.source) this.open();
  }

  close() {
    if (this.source) this.source.close();
    this.source = null;
  }

  again() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.update(), 1000);
  }

  async open() {
    this.source = { close() {} }; // while the state is listed
    const mine = this.source;
    try {
      if (this.revision === null) await this.load();
    } catch {
      if (this.source !== mine) return;
      this.source = null;
      this.handlers.connected(false);
      this.again();
      return;
    }
    if (this.source === mine) this.listen();
  }

  // The oldest of the revisions counts: to be told a change twice does no harm.
  async load() {
    const [count, guests, here] = await Promise.all([list(COUNT, 1), list(GUESTS, 30), list(HERE, 500)]);
    this.handlers.reset();
    for (const { key, value, revision } of [...count.keys, ...guests.keys, ...here.keys])
      this.handlers.put(key, value, revision);
    this.revision = [count, guests, here].map((page) => BigInt(page.revision)).reduce((a, b) => (a < b ? a : b)).toString();
  }

  listen() {
    const source = new EventSource(`/v1/watch?prefix=${encodeURIComponent(ALL)}&since=${this.revision}`);
    this.source = source;
    const on = (name, handle) => source.addEventListener(name, (event) => {
      if (event.lastEventId) this.revision = event.lastEventId;
      if (event.data) handle(JSON.parse(event.data));
    });
    on("put", ({ key, value, revision }) => this.handlers.put(key, value, revision));
    on("delete", ({ key, revision }) => this.handlers.gone(key, revision));
    on("expire", ({ key, revision }) => this.handlers.gone(key, revision));
    on("reset", () => this.handlers.reset());
    on("progress", () => {});
    source.onopen = () => this.handlers.connected(true);
    source.onerror = () => {
      this.handlers.connected(false);
      // The browser connects again by itself, unless the answer was an error.
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        this.source = null;
        this.again();
      }
    };
  }
}
