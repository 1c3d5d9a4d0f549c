// Shows the cluster on the welcome page.
import { compareDigests, element, followStatus, lagOf, roleOf, setPill, setText, stateOf } from "./cluster.js";

const byId = (id) => document.getElementById(id);

function memberRow(status, member) {
  const row = element("tr", member.id === status.leader ? "leader" : "");
  const name = element("th", "", member.id + (member.id === status.node ? " (this)" : ""));
  name.scope = "row";
  const [state, className] = stateOf(member);
  row.append(name, element("td", "", roleOf(status, member)), element("td", className, state),
    element("td", "number", member.alive ? lagOf(status, member).toLocaleString() : "–"),
    element("td", "mono", (member.digest || "").slice(0, 12)), element("td", "", member.http || "–"),
    element("td", "", member.redis || "–"));
  return row;
}

function show(status) {
  setText(byId("leader"), status.leader || "none");
  setText(byId("term"), status.term);
  setText(byId("applied"), status.applied.toLocaleString());
  setText(byId("node"), status.node);
  setPill(byId("state"), status.ready ? "ready" : "no leader", status.ready ? "good" : "bad");
  byId("members").replaceChildren(...status.members.map((m) => memberRow(status, m)));
  const compared = compareDigests(status);
  if (compared) {
    byId("digests").className = compared.equal ? "quiet" : "bad";
    setText(byId("digests"), compared.equal
      ? `${compared.count} copies at the same index, with equal digests.`
      : "Copies differ at the same index!");
  }
  const self = status.members.find((m) => m.id === status.node);
  const port = self && /:(\d+)$/.exec(self.redis || "");
  if (port) setText(byId("redis-port"), port[1]);
}

for (const span of document.querySelectorAll(".origin")) span.textContent = location.origin;
followStatus(show, (text) => setPill(byId("state"), text, "bad"), () => {
  setPill(byId("state"), "asks for a token", "warn");
  setText(byId("digests"), "These numbers are for who has a token; the dashboard takes one.");
});
