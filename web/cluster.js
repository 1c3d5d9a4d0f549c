// What both pages know about /_/status: asking for it, and saying in words what it means.
import { askWithToken, heldToken } from "./token.js";

const INTERVAL_MS = 1000;
const REFUSED_MS = 10000; // before it is asked again what was refused
const PATIENCE_MS = 4000;

// Calls show(status) about once a second while the page is visible, or fail(text) when there is no answer, or
// refused(token) when the node wants another token than this one ("": none was sent). Returns a function that asks now.
export function followStatus(show, fail, refused) {
  let timer = 0;
  let round = 0;
  async function ask() {
    const mine = ++round; // a later one makes the answer to this one out of date
    const token = heldToken();
    let wait = INTERVAL_MS;
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      try {
        const answer = await askWithToken("/_/status", { signal: AbortSignal.timeout(PATIENCE_MS) });
        const body = await answer.json();
        if (mine !== round) return;
        if (answer.status === 401) wait = REFUSED_MS;
        if (answer.ok) show(body);
        else if (answer.status === 401) refused(token);
        else fail(body.detail || "status " + answer.status);
      } catch {
        if (mine !== round) return;
        fail("this node does not answer");
      }
    }
    clearTimeout(timer);
    timer = setTimeout(ask, wait);
  }
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") ask();
  });
  ask();
  return ask;
}

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Only what differs is written, so that a screen reader is not told the same thing every second.
export function setText(node, text) {
  const shown = text === undefined || text === null || text === "" ? "–" : String(text);
  if (node.textContent !== shown) node.textContent = shown;
}

export function setPill(pill, text, className) {
  setText(pill, text);
  pill.className = "pill " + className;
}

export function roleOf(status, member) {
  if (member.id === status.leader) return "leader";
  return member.role === "voter" ? "follower" : member.role;
}

// What is to be said about a member's state: [words, class].
export function stateOf(member) {
  if (!member.alive) return ["not heard of", "bad"];
  if (member.health === "doubtful") return ["in doubt", "warn"];
  if (member.health === "repair") return ["being repaired", "warn"];
  if (member.health === "lost") return ["out of service", "bad"];
  return ["sound", "good"];
}

export function lagOf(status, member) {
  return Math.max(0, status.commit - member.applied);
}

// Digests can be compared only where the same index is applied: {index, count, equal}, or null when no
// two copies were seen at the same index.
export function compareDigests(status) {
  const byIndex = new Map();
  for (const member of status.members || []) {
    if (!member.alive || !member.digest) continue;
    if (!byIndex.has(member.applied)) byIndex.set(member.applied, []);
    byIndex.get(member.applied).push(member.digest);
  }
  let best = null;
  for (const [index, digests] of byIndex) {
    if (digests.length < 2) continue;
    const equal = new Set(digests).size === 1;
    if (!equal) return { index, count: digests.length, equal };
    if (!best || digests.length > best.count) best = { index, count: digests.length, equal };
  }
  return best;
}

// "host:port" of a member as a link from here: a node that listens on all addresses is asked for under the
// name that this page was asked for. Null for a page that came over TLS: the addresses that nodes tell are those of
// plain HTTP.
export function pageOf(member, path) {
  if (location.protocol !== "http:") return null;
  const match = /^(.*):(\d+)$/.exec(member.http || "");
  if (!match) return null;
  const everywhere = match[1] === "0.0.0.0" || match[1] === "[::]" || match[1] === "";
  const local = match[1] === "127.0.0.1" && location.hostname === "localhost";
  return `http://${everywhere || local ? location.hostname : match[1]}:${match[2]}${path}`;
}
