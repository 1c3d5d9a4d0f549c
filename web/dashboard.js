// The dashboard: /_/status and /_/metrics of this node once a second, and what they say about all the others.
import {
  compareDigests, element, followStatus, lagOf, pageOf, roleOf, setPill, setText, stateOf,
} from "./cluster.js";
import { askWithToken, forgetToken, heldToken, holdToken, looksLikeToken } from "./token.js";

const SAMPLES = 60;
const byId = (id) => document.getElementById(id);
const number = (n) => Math.round(n).toLocaleString("en");

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return (unit && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + units[unit];
}

function duration(s) {
  if (s < 120) return Math.round(s) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " days";
}

// Rows of name and value: [name, value, class].
function showList(list, rows) {
  const shown = rows.map((row) => row.join("\t")).join("\n");
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...rows.flatMap(([name, value, className]) =>
    [element("dt", "", name), element("dd", className || "", value)]));
}

// ---- nodes

const cards = new Map(); // id -> its elements; kept from one answer to the next, so that links keep the focus

function makeCard(id) {
  const card = {
    item: element("li", "node"), name: element("h3"), role: element("span", "role"),
    list: element("dl", "list"), work: element("div", "work"), workText: element("span"),
    progress: element("progress"), link: element("a"),
  };
  const row = element("div", "row");
  row.append(card.name, card.role);
  card.work.append(card.workText, card.progress);
  card.progress.setAttribute("aria-label", `what node ${id} is at`);
  const more = element("p", "quiet");
  more.append(card.link);
  card.item.append(row, card.list, card.work, more);
  return card;
}

function showWork(card, work) {
  card.work.hidden = !work;
  if (!work) return;
  const from = work.from ? ` from node ${work.from}` : "";
  setText(card.workText, work.what + from + (work.total ? `: ${bytes(work.done)} of ${bytes(work.total)}` : " …"));
  if (work.total) {
    card.progress.max = work.total;
    card.progress.value = work.done;
  } else {
    card.progress.removeAttribute("value");
  }
}

function showNode(status, member) {
  if (!cards.has(member.id)) cards.set(member.id, makeCard(member.id));
  const card = cards.get(member.id);
  const self = member.id === status.node;
  const role = roleOf(status, member);
  const [state, className] = stateOf(member);
  card.item.className = "node" + (role === "leader" ? " leader" : "") + (member.alive ? "" : " silent");
  if (!card.name.firstChild) card.name.append(`Node ${member.id} `, element("small"));
  setText(card.name.lastChild, self ? "this one" : "");
  card.name.lastChild.hidden = !self;
  setText(card.role, !member.alive ? "silent" : role === "leader" ? "leads" : role === "follower" ? "follows" : role);
  showList(card.list, [
    [member.alive ? "Copy" : "State", state, className],
    ["Applied", number(member.applied)],
    ["Lag", member.alive ? number(lagOf(status, member)) : "–"],
    ["Digest", (member.digest || "–").slice(0, 12), "mono"],
    ["Heard", self ? "now" : member.age_ms === null ? "never" : duration(member.age_ms / 1000) + " ago"],
    ["Peer", member.peer || "–"],
    ["HTTP", member.http || "–"],
    ["Redis", member.redis || "–"],
  ]);
  showWork(card, member.work);
  const page = pageOf(member, "/_/");
  card.link.parentNode.hidden = self || !page || !member.alive;
  if (page) card.link.href = page;
  setText(card.link, `Dashboard of node ${member.id}`);
  return card.item;
}

function showNodes(status) {
  const items = status.members.map((member) => showNode(status, member));
  const list = byId("nodes");
  if (items.length !== list.children.length || items.some((item, i) => list.children[i] !== item))
    list.replaceChildren(...items);
  const compared = compareDigests(status);
  if (status.members.length < 2) setPill(byId("digests"), "one copy", "");
  else if (compared && !compared.equal) setPill(byId("digests"), "copies differ at the same index", "bad");
  else if (compared)
    setPill(byId("digests"), `${compared.count} copies with equal digests`, "good");
}

function showState(status) {
  const silent = status.members.filter((m) => !m.alive).length;
  const wrong = status.members.filter((m) => m.alive && m.health !== "sound").length;
  if (status.removed) setPill(byId("state"), "this node was removed from the cluster", "bad");
  else if (!status.leader) setPill(byId("state"), "no leader", "bad");
  else if (!status.ready) setPill(byId("state"), "this node is not ready", "warn");
  else if (wrong) setPill(byId("state"), `${wrong} ${wrong === 1 ? "copy" : "copies"} out of service`, "warn");
  else if (silent) setPill(byId("state"), `works, without ${silent} of ${status.members.length} nodes`, "warn");
  else setPill(byId("state"), "all is well", "good");
  const leader = status.leader ? `node ${status.leader} leads in term ${status.term}` : `term ${status.term}`;
  setText(byId("where"), `Node ${status.node} of cluster ${status.cluster.slice(0, 8)}; ${leader}`);
  document.title = `node ${status.node}: ${byId("state").textContent}`;
}

// ---- throughput

// A chart of how much a counter grows in a second. The line is drawn over a fixed number of samples.
class Rate {
  constructor(name) {
    this.samples = [];
    this.figure = element("figure", "chart");
    const caption = element("figcaption");
    this.now = element("span", "now", "–");
    caption.append(element("span", "name", name), this.now);
    const space = "http://www.w3.org/2000/svg";
    this.svg = document.createElementNS(space, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 100`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("aria-hidden", "true");
    this.area = document.createElementNS(space, "path");
    this.line = document.createElementNS(space, "path");
    this.area.setAttribute("class", "area");
    this.line.setAttribute("class", "line");
    this.svg.append(this.area, this.line);
    this.figure.append(caption, this.svg);
    byId("charts").append(this.figure);
  }

  add(total) {
    const now = performance.now();
    if (this.last && total >= this.last.total && now > this.last.at)
      this.samples.push((1000 * (total - this.last.total)) / (now - this.last.at));
    this.last = { total, at: now };
    if (this.samples.length > SAMPLES) this.samples.shift();
    if (this.samples.length) this.draw();
  }

  draw() {
    const latest = this.samples[this.samples.length - 1];
    setText(this.now, latest > 0 && latest < 10 ? latest.toFixed(1) : number(latest));
    const top = Math.max(1, ...this.samples) * 1.08;
    const first = SAMPLES - this.samples.length;
    const points = this.samples.map((value, i) => `${first + i},${(97 - (94 * value) / top).toFixed(1)}`);
    this.line.setAttribute("d", "M" + points.join("L"));
    this.area.setAttribute("d", `M${first},100L${points.join("L")}L${SAMPLES - 1},100Z`);
  }
}

const rates = {
  writes: new Rate("Writes"), reads: new Rate("Reads"), http: new Rate("HTTP requests"),
  redis: new Rate("Redis commands"), entries: new Rate("Log entries"), sent: new Rate("KiB sent"),
};

// Prometheus text: name, blanks, value; the names here have no labels.
function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const at = line.lastIndexOf(" ");
    if (at > 0 && line[0] !== "#") values.set(line.slice(0, at).replace(/^cotidal_(gateway_)?/, ""), Number(line.slice(at)));
  }
  return values;
}

function showClients(status, metrics) {
  const get = (name) => metrics.get(name) || 0;
  rates.http.add(get("http_requests_total"));
  rates.redis.add(get("redis_commands_total"));
  rates.sent.add(get("sent_bytes_total") / 1024);
  const errors = get("http_answers_5xx_total");
  const unknown = get("requests_unknown_total");
  showList(byId("clients"), [
    ["HTTP connections", number(get("connections_http"))],
    ["of them idle", number(get("connections_parked"))],
    ["Redis connections", number(get("connections_redis"))],
    ["Watchers", number(get("watchers"))],
    ["Requests under way", number(get("requests_in_flight"))],
    ["Connections refused", number(get("connections_refused_total") + get("connections_limited_total"))],
    ["Answers with 5xx", number(errors), errors ? "warn" : ""],
    ["Outcome unknown", number(unknown), unknown ? "warn" : ""],
    ["Up for", duration(status.gateway.uptime_s)],
    ["Version", status.gateway.version],
  ]);
}

function showStore(status) {
  const rows = [
    ["Keys", number(status.keys)],
    ["Data", bytes(status.data_bytes)],
    ["Committed", number(status.commit)],
    ["Log", `${bytes(status.log_bytes)}, ${number(status.log_first)} to ${number(status.log_last)}`],
    ["Snapshot at", status.snapshot_index ? number(status.snapshot_index) : "none yet"],
    ["Client sessions", number(status.sessions)],
    ["Links to nodes", number(status.gateway.links_up)],
    ["Disk", status.disk_low ? "nearly full: what adds data is refused" : "has room", status.disk_low ? "bad" : ""],
  ];
  for (const certificate of status.gateway.certificates || []) {
    const left = certificate.expires_s;
    rows.push([`Certificate of ${certificate.names}`, left > 0 ? `for ${duration(left)}` : "expired",
      left > 14 * 86400 ? "" : left > 0 ? "warn" : "bad"]);
  }
  showList(byId("store"), rows);
}

// ---- the token, where the node wants one

function showLogin(wanted, said) {
  byId("login").hidden = !wanted;
  byId("numbers").hidden = wanted;
  byId("forget").hidden = !heldToken();
  // A link cannot send it.
  for (const link of document.querySelectorAll(".free")) link.hidden = wanted || Boolean(heldToken());
  if (said !== undefined) byId("login-said").textContent = said;
}

function refused(token) {
  forgetToken();
  const shown = !byId("login").hidden;
  setPill(byId("state"), "asks for a token", "warn");
  setText(byId("where"), "Numbers of the cluster, for who has a token.");
  document.title = "cotidal: asks for a token";
  showLogin(true, token ? "The node does not take this one: it is wrong, was revoked, or has expired." : undefined);
  if (!shown) byId("token").focus();
  if (token) askNow(); // where none is needed a wrong one is refused, too
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("token").value.trim();
  if (!looksLikeToken(text)) {
    byId("login-said").textContent = "That is no token: one has ct_ and 64 digits from 0 to 9 and a to f.";
  } else if (!holdToken(text)) {
    byId("login-said").textContent = "This browser does not let the page keep it, not even for this tab.";
  } else {
    byId("token").value = "";
    byId("login-said").textContent = "";
    askNow();
  }
});

byId("forget").addEventListener("click", () => {
  forgetToken();
  location.reload(); // with what it has let us see
});

async function show(status) {
  showLogin(false, "");
  showState(status);
  showNodes(status);
  showStore(status);
  rates.writes.add(status.gateway.writes_total);
  rates.reads.add(status.gateway.reads_total);
  rates.entries.add(status.commit);
  try {
    const answer = await askWithToken("/_/metrics");
    if (answer.ok) showClients(status, parseMetrics(await answer.text()));
  } catch {
    // The next answer of /_/status, or its absence, is what counts.
  }
}

const askNow = followStatus(show, (text) => {
  setPill(byId("state"), text, "bad");
  document.title = "cotidal: " + text;
}, refused);
