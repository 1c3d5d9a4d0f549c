// Puts the page together: the shared state (state.js), the picture (picture.js) and the visitor (visitor.js).
//
// What it shows of the system: a write at any node is seen in every open page; a node that dies takes nothing with
// it; a click that was under way when the page's own node died is repeated at another one with the same
// Idempotency-Key, and counts once.
import { addWave, ask, beHere, COUNT, Follower, guestKey, GUESTS, HERE, isPassing, leave, newId, sign } from "./state.js";
import { element, Picture, setText, siteOf } from "./picture.js";
import { Visitor } from "./visitor.js";

const STATUS_MS = 1000;
const REFUSED_MS = 60000; // before it is asked again what a visitor may not see
const HERE_S = 10; // how long a page is taken for open without a word of it
const GUESTS_MAX = 30;
const LOG_MAX = 30;
const WAVES_MAX = 50; // clicks that wait for an answer

const byId = (id) => document.getElementById(id);
const picture = new Picture(byId("nodes"), byId("equal"));
const visitor = new Visitor();
const page = newId();
const hue = parseInt(page.slice(0, 4), 16) % 360;
const guests = new Map(); // key -> entry
let status = null; // the last answer of /_/status
let waves = []; // ids of clicks without an answer
let silentSince = 0; // when this page's node stopped answering
let stay = false;

function say(text) {
  setText(byId("said"), text);
}

function note(text) {
  const item = element("li", "new");
  const now = new Date();
  const time = element("time", "", now.toLocaleTimeString([], { hour12: false }));
  time.dateTime = now.toISOString();
  item.append(time, element("span", "", text));
  byId("log").prepend(item);
  while (byId("log").children.length > LOG_MAX) byId("log").lastChild.remove();
}

// ---- what is shared

function parse(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

// The answer to a click and the events of the stream come by different ways: the newer revision counts, whichever
// comes first. (BigInt, since revisions outgrow a number.)
let countRevision = 0n;
function showCount(value, revision) {
  if (BigInt(revision) < countRevision) return;
  countRevision = BigInt(revision);
  setText(byId("count"), value.toLocaleString("en"));
  picture.showCount(value);
}

let guestsShown = false;
function showGuests() {
  const keys = [...guests.keys()].sort();
  for (const key of keys.splice(GUESTS_MAX)) guests.delete(key);
  const list = byId("guests");
  const old = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = keys.map((key) => {
    if (old.has(key)) return old.get(key);
    const { name, text, node, time } = guests.get(key);
    const item = element("li", guestsShown ? "new" : "");
    item.dataset.key = key;
    const at = new Date(Number(time) || 0).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    item.append(element("span", "", String(text).slice(0, 140)),
      element("span", "by", `${String(name).slice(0, 24)} · ${at}${Number(node) ? ` · by node ${Number(node)}` : ""}`));
    return item;
  });
  for (const [key, item] of old) if (!guests.has(key)) item.remove();
  items.forEach((item, i) => {
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] || null);
  });
  byId("guests-none").hidden = keys.length > 0;
}

const follower = new Follower({
  put(key, value, revision) {
    if (key === COUNT) showCount(Number(value) || 0, revision);
    const entry = key === COUNT ? null : parse(value);
    if (entry && key.startsWith(GUESTS)) {
      guests.set(key, entry);
      showGuests();
    } else if (entry && key.startsWith(HERE)) {
      const id = key.slice(HERE.length);
      picture.setBoat(id, { node: entry.node, name: String(entry.name).slice(0, 24), hue: Number(entry.hue) || 0, you: id === page });
    }
  },
  gone(key, revision) {
    if (key === COUNT) showCount(0, revision);
    else if (key.startsWith(HERE)) picture.setBoat(key.slice(HERE.length), null);
    else if (guests.delete(key)) showGuests();
  },
  reset() {
    guests.clear();
    picture.clearBoats();
    countRevision = 0n;
    showCount(0, 0);
    showGuests();
  },
  connected(yes) {
    byId("live").className = "pill " + (yes ? "good" : "warn");
    setText(byId("live"), yes ? "live" : "connecting …");
    if (yes) setTimeout(() => { guestsShown = true; }, 500);
  },
});

// ---- what the visitor does

let sending = false;
async function sendWaves() {
  if (sending) return;
  sending = true;
  while (waves.length) {
    const id = waves[0];
    try {
      const { value, revision } = await addWave(id);
      showCount(value, revision);
      waves.shift();
      say("");
    } catch (error) {
      if (!isPassing(error)) {
        waves.shift();
        say("Refused: " + error.message);
        continue;
      }
      say(waves.length === 1 ? "One wave is waiting for an answer." : `${waves.length} waves are waiting for an answer.`);
      await new Promise((done) => setTimeout(done, 400));
    }
  }
  sending = false;
}

byId("raise").addEventListener("click", () => {
  if (waves.length >= WAVES_MAX) {
    say("That is enough until the others have an answer.");
    return;
  }
  waves.push(newId());
  sendWaves();
});

byId("book").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  const text = byId("text").value.trim();
  if (!name || !text) return;
  const key = guestKey(newId());
  const entry = { name, text, time: Date.now(), node: picture.self ? picture.self.id : 0 };
  byId("sign").disabled = true;
  try {
    for (let tries = 1; ; tries++) {
      try {
        await sign(key, entry);
        break;
      } catch (error) {
        if (!isPassing(error) || tries === 5) throw error;
        await new Promise((done) => setTimeout(done, 500));
      }
    }
    byId("text").value = "";
    say("");
    if (visitor.document && name !== visitor.name) { // who was forgotten meanwhile stays so
      await visitor.patch({ name });
      showVisitor();
      hello();
    }
  } catch (error) {
    say("The line was not written: " + error.message);
  }
  byId("sign").disabled = false;
});

byId("forget").addEventListener("click", async () => {
  try {
    await visitor.forget();
    byId("name").value = "";
    setText(byId("you"), "You are nobody. Load the page again to become somebody else.");
    byId("path").replaceChildren();
  } catch (error) {
    say("Not forgotten yet: " + error.message);
  }
});

function ordinal(n) {
  const teens = n % 100 > 10 && n % 100 < 14;
  return teens ? "th" : ["th", "st", "nd", "rd"][n % 10] || "th";
}

function showVisitor() {
  const own = visitor.document;
  if (!own) return;
  const times = own.visits === 1 ? "for the first time" : `for the ${own.visits}${ordinal(own.visits)} time`;
  setText(byId("you"), `You are ${own.name}, here ${times}.`);
  byId("path").replaceChildren(...(own.path || []).map((id) => element("li", "", `node ${id}`)));
  if (!byId("name").value) byId("name").value = own.name;
}

// ---- being here

let helloTimer = 0;
async function hello() {
  clearTimeout(helloTimer);
  helloTimer = setTimeout(hello, (HERE_S * 1000) / 2.5);
  if (document.visibilityState !== "visible" || !(picture.self || picture.sea)) return;
  try {
    await beHere(page, { node: picture.self ? picture.self.id : 0, name: visitor.name || "somebody", hue }, HERE_S);
  } catch {
    // The next one is not far.
  }
}
window.addEventListener("pagehide", () => leave(page));

// ---- the cluster

function noteChanges(before, after) {
  if (!before) return;
  const known = new Map(before.members.map((member) => [member.id, member]));
  for (const member of after.members) {
    const old = known.get(member.id);
    if (!old) note(`Node ${member.id} has joined.`);
    else if (old.alive && !member.alive) note(`Node ${member.id} does not answer. Nothing is lost.`);
    else if (!old.alive && member.alive) note(`Node ${member.id} is back, and catches up.`);
    known.delete(member.id);
  }
  for (const id of known.keys()) note(`Node ${id} was taken out.`);
  if (after.leader && before.leader !== after.leader) note(`Node ${after.leader} leads now.`);
  else if (!after.leader && before.leader) note("The nodes choose a leader.");
}

function showHint() {
  const silent = status.members.filter((member) => !member.alive).length;
  setText(byId("hint"), status.members.length === 1
    ? "This is one node. Stop it (Ctrl-C) and start three with ./up 3: the state stays, and this picture grows."
    : silent * 2 >= status.members.length ? "Too few nodes are left to agree: writes wait until one comes back." : "");
}

function showStatus(answer) {
  noteChanges(status, answer);
  status = answer;
  picture.showStatus(answer);
  showHint();
  byId("moving").hidden = true;
  silentSince = 0;
  stay = false;
  arrive();
}

// Once, when it is known which node this is, or that nobody says it.
let arrived = false;
function arrive() {
  if (arrived) return;
  arrived = true;
  if (picture.self) note(`This page comes from node ${picture.self.id}.`);
  visitor.arrive(picture.self ? picture.self.id : null).then(() => {
    showVisitor();
    hello();
  }, (error) => setText(byId("you"), "No session: " + error.message));
}

// A living node answers this, whatever it answers: the page may not read it, since it is of another origin.
async function answers(site) {
  try {
    await fetch(site + "/_/health", { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(1500) });
    return true;
  } catch {
    return false;
  }
}

// The page's own node is gone. The page cannot speak for another origin, but it can go there, and take along
// what it has not got an answer to: clicks with their ids, and what stands in the form.
async function lookElsewhere() {
  if (!silentSince) {
    silentSince = Date.now();
    note("This page’s own node does not answer.");
    const isOwn = (member) => siteOf(member) === location.origin;
    picture.showStatus({ ...status, members: status.members.map((m) => (isOwn(m) ? { ...m, alive: false } : m)) });
  }
  const others = status.members.filter((member) => siteOf(member) && siteOf(member) !== location.origin);
  const found = await Promise.all(others.map(async (m) => ((await answers(siteOf(m))) ? m : null)));
  const next = found.find(Boolean);
  if (!silentSince) return;
  byId("moving-link").hidden = !next;
  byId("moving").hidden = false;
  if (!next) {
    setText(byId("moving-text"), "Nor does any other that it knows of.");
    return;
  }
  const carried = encodeURIComponent(JSON.stringify({ waves, name: byId("name").value, text: byId("text").value }));
  byId("moving-link").href = `${siteOf(next)}/#carry=${carried}`;
  setText(byId("moving-link"), `Go on at node ${next.id}`);
  byId("moving-stay").hidden = stay;
  setText(byId("moving-text"), stay ? `Node ${next.id} does.` : `Node ${next.id} does, with the same state; this page moves there in a moment.`);
  if (!stay && Date.now() - silentSince > 5000) location.replace(byId("moving-link").href);
}

byId("moving-stay").addEventListener("click", () => {
  stay = true;
  byId("moving-stay").hidden = true;
});

async function look() {
  let wait = STATUS_MS;
  if (document.visibilityState === "visible") {
    try {
      showStatus(await ask("GET", "/_/status", undefined, {}, 3000));
    } catch (error) {
      if (!isPassing(error)) {
        picture.showSea();
        byId("json").hidden = true;
        arrive();
        wait = REFUSED_MS;
      } else if (status && error.status === undefined) await lookElsewhere();
    }
  }
  setTimeout(look, wait);
}

// What a page at a dead node handed on. The ids make it harmless to open such an address twice.
function takeOver() {
  const match = /^#carry=(.*)$/.exec(location.hash);
  if (!match) return;
  history.replaceState(null, "", "/");
  let carried = null;
  try {
    carried = JSON.parse(decodeURIComponent(match[1]));
  } catch {
    return;
  }
  if (!carried || typeof carried !== "object") return;
  byId("name").value = String(carried.name || "").slice(0, 24);
  byId("text").value = String(carried.text || "").slice(0, 140);
  waves = (Array.isArray(carried.waves) ? carried.waves : []).filter((id) => /^[0-9a-f]{24}$/.test(id)).slice(0, WAVES_MAX);
  if (waves.length) sendWaves();
}

takeOver();
look();
