// The visitor's document in /v1/session: {"tides": {"name", "visits", "path"}}. It is behind a cookie
// that no script can read, and every node has it.
import { ask, Refused } from "./state.js";

const PATH_MAX = 8;
const NAMES = ["Avocet", "Curlew", "Dunlin", "Eider", "Gannet", "Heron", "Kittiwake", "Osprey", "Petrel", "Plover",
  "Puffin", "Sandpiper", "Shearwater", "Skua", "Tern", "Turnstone"];

export class Visitor {
  constructor() {
    this.document = null;
    this.last = Promise.resolve();
  }

  get name() {
    return (this.document && this.document.name) || "";
  }

  // One patch after the other; what comes back is the whole document.
  patch(changes) {
    this.last = this.last.catch(() => {}).then(async () => {
      const answer = await ask("PATCH", "/v1/session", { tides: changes }, { "Content-Type": "application/merge-patch+json" });
      this.document = (answer && answer.tides) || {};
    });
    return this.last;
  }

  async load() {
    try {
      this.document = (await ask("GET", "/v1/session")).tides || {};
    } catch (error) {
      if (!(error instanceof Refused) || (error.status !== 404 && error.status !== 401)) throw error;
      // The cookie of a session that has ended is taken back by the server before a new one begins.
      if (error.status === 401) await ask("DELETE", "/v1/session");
      this.document = {};
    }
  }

  // Notes that the visitor came, by which node (null: not known), and gives a newcomer a name.
  async arrive(node) {
    await this.load();
    const path = (this.document.path || []).slice(-PATH_MAX);
    if (node !== null && path[path.length - 1] !== node) path.push(node);
    await this.patch({
      name: this.name || NAMES[crypto.getRandomValues(new Uint8Array(1))[0] % NAMES.length],
      visits: (this.document.visits || 0) + 1,
      path: path.slice(-PATH_MAX),
    });
  }

  // Behind the patches that are under way: one that came later would begin a new session.
  forget() {
    this.last = this.last.catch(() => {}).then(async () => {
      await ask("DELETE", "/v1/session");
      this.document = null;
    });
    return this.last;
  }
}
