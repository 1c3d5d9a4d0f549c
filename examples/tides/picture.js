// The picture of the cluster: a glass for every node. The water's height shows the counter, less what the node is
// behind; boats are open pages. All of it comes from /_/status of the node that serves the page.

const SPACE = "http://www.w3.org/2000/svg";
const WAVE = "M0 10V5Q15 -1 30 5T60 5T90 5T120 5T150 5T180 5T210 5T240 5V10Z";
const SAIL = "M15 3v15H6C6 11 9 6 15 3z";
const HULL = "M4 20h22l-4 6H8z";

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Only what differs is written, so that a screen reader is not told the same thing every second.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function drawing(viewBox, className, paths) {
  const svg = document.createElementNS(SPACE, "svg");
  svg.setAttribute("viewBox", viewBox);
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const [d, kind] of paths) {
    const path = document.createElementNS(SPACE, "path");
    path.setAttribute("d", d);
    if (kind) path.setAttribute("class", kind);
    svg.append(path);
  }
  return svg;
}

// Where a member's site is, seen from here: a node that listens on all addresses, or on that of localhost,
// is asked for under the name that this page was asked for, so that the cookie goes along. Null when it has no HTTP address or has not said it yet, and for a page that came over
// TLS: the addresses that nodes tell are those of plain HTTP.
export function siteOf(member) {
  if (location.protocol !== "http:") return null;
  const match = /^(.*):(\d+)$/.exec(member.http || "");
  if (!match) return null;
  const everywhere = match[1] === "0.0.0.0" || match[1] === "[::]" || match[1] === "";
  const local = match[1] === "127.0.0.1" && location.hostname === "localhost";
  return `http://${everywhere || local ? location.hostname : match[1]}:${match[2]}`;
}

// The member that serves this page; where that is a web server without a database, the one that answered it.
export function selfOf(status) {
  const same = status.members.find((member) => siteOf(member) === location.origin);
  return same || status.members.find((member) => member.id === status.node) || null;
}

// Digests can be compared only where the same index is applied: [count, equal], or null.
function compare(status) {
  const byIndex = new Map();
  for (const member of status.members)
    if (member.alive && member.digest)
      byIndex.set(member.applied, [...(byIndex.get(member.applied) || []), member.digest]);
  let best = null;
  for (const digests of byIndex.values()) {
    const equal = new Set(digests).size === 1;
    if (!equal) return [digests.length, false];
    if (digests.length > 1 && (!best || digests.length > best[0])) best = [digests.length, true];
  }
  return best;
}

function roleText(status, member) {
  if (!member.alive) return "does not answer";
  if (member.work) return member.work.what;
  if (member.health !== "sound") return "out of service: " + member.health;
  if (member.id === status.leader) return "leads";
  return member.role === "voter" ? "follows" : member.role === "learner" ? "learns" : "joins";
}

export class Picture {
  constructor(list, equal) {
    this.list = list;
    this.equal = equal;
    this.glasses = new Map(); // by node id
    this.count = 0;
    this.status = null;
    this.sea = false; // one glass for all nodes
    this.boats = new Map(); // page id -> {node, name, hue, you}
  }

  makeGlass(id) {
    const glass = {
      item: element("li", "glass"), vessel: element("span", "vessel"), water: element("span", "water"),
      boats: element("span", "boats"), name: element("h3"), link: element("a", "", `Node ${id}`), role: element("span", "role"),
      digest: element("span", "digest"), words: element("span", "words"), level: 0,
    };
    glass.water.append(drawing("0 0 240 10", "wave", [[WAVE]]));
    glass.vessel.setAttribute("aria-hidden", "true");
    glass.vessel.append(glass.water, glass.boats);
    glass.name.append(glass.link);
    glass.item.append(glass.vessel, glass.name, glass.role, glass.digest, glass.words);
    this.glasses.set(id, glass);
    return glass;
  }

  // For who may not see the nodes: one glass, in which all boats are.
  showSea() {
    const glass = this.glasses.get(0) || this.makeGlass(0);
    this.sea = glass.alive = true;
    glass.behind = 0;
    glass.item.className = "glass here";
    setText(glass.link, "The tide");
    setText(glass.role, "the same at every node");
    setText(this.equal, "the nodes are not shown to visitors");
    this.list.replaceChildren(glass.item);
    this.showBoats();
    this.showLevels();
  }

  showStatus(status) {
    this.sea = false;
    this.status = status;
    this.self = selfOf(status);
    const items = [];
    for (const member of [...status.members].sort((a, b) => a.id - b.id)) {
      const glass = this.glasses.get(member.id) || this.makeGlass(member.id);
      this.showGlass(glass, member);
      items.push(glass.item);
    }
    if (items.length !== this.list.children.length || items.some((item, i) => this.list.children[i] !== item))
      this.list.replaceChildren(...items);
    this.showEqual(compare(status), status.members.filter((m) => m.alive).length);
    this.showBoats();
    this.showLevels();
  }

  showGlass(glass, member) {
    const leads = member.alive && member.id === this.status.leader;
    const here = this.self && member.id === this.self.id;
    glass.alive = member.alive;
    glass.behind = Math.max(0, this.status.commit - member.applied);
    glass.item.className = ["glass", leads && "leads", here && "here", !member.alive && "silent"].filter(Boolean).join(" ");
    const role = roleText(this.status, member);
    setText(glass.role, role);
    setText(glass.digest, member.digest ? member.digest.slice(0, 8) : "–");
    glass.digest.title = "the digest of all data on this node";
    const site = siteOf(member);
    if (site && member.alive && !here) glass.link.href = site + "/";
    else glass.link.removeAttribute("href");
    glass.link.title = glass.link.hasAttribute("href") ? "Open this page there" : "";
  }

  // What was seen last stays while the copies are on the move: they are asked one after the other.
  showEqual(compared, alive) {
    if (this.status.members.length < 2) setText(this.equal, "one copy");
    else if (compared) {
      const [count, equal] = compared;
      if (!equal || count === alive || !this.equal.classList.contains("good")) {
        setText(this.equal, equal ? `${count} copies, equal digests` : "copies differ!");
        this.equal.className = "pill " + (equal ? "good" : "bad");
      }
    }
  }

  showCount(count) {
    this.count = count;
    this.showLevels();
  }

  // High water every 24 waves; a node that is behind stands lower. A silent one keeps the height it had.
  showLevels() {
    const tide = 40 + 18 * Math.sin((this.count / 24) * 2 * Math.PI);
    for (const glass of this.glasses.values()) {
      if (!glass.alive && glass.level) continue;
      // A few entries are what arrives between two looks at a node.
      glass.level = tide - Math.min(25, glass.behind > 20 ? glass.behind / 20 : 0);
      glass.item.style.setProperty("--level", glass.level.toFixed(1) + "%");
    }
  }

  setBoat(id, boat) {
    if (boat) this.boats.set(id, boat);
    else this.boats.delete(id);
    this.showBoats();
  }

  clearBoats() {
    this.boats.clear();
    this.showBoats();
  }

  showBoats() {
    const LIMIT = 8;
    for (const [id, glass] of this.glasses) {
      const boats = [...this.boats].filter(([, boat]) => this.sea || boat.node === id).sort(([a], [b]) => (a < b ? -1 : 1));
      const shown = JSON.stringify(boats);
      if (glass.shown === shown) continue;
      glass.shown = shown;
      setText(glass.words, boats.length === 1 ? "1 page is open here" : `${boats.length} pages are open here`);
      glass.boats.replaceChildren(...boats.slice(0, LIMIT).map(([, boat]) => {
        const made = element("span", "boat" + (boat.you ? " you" : ""));
        made.style.setProperty("--hue", boat.hue);
        made.append(element("span", "who", boat.you ? "you" : boat.name),
          drawing("0 0 30 28", "", [[SAIL, "sail"], [HULL, "hull"]]));
        return made;
      }));
      if (boats.length > LIMIT) glass.boats.append(element("span", "boat", `+${boats.length - LIMIT}`));
    }
  }
}
