// Shows the cluster on the welcome page: asks /_/status once a second, while the page is visible.
"use strict";

const INTERVAL_MS = 1000;
const byId = (id) => document.getElementById(id);

function setText(id, value) {
  byId(id).textContent = value === undefined || value === null || value === "" ? "–" : value;
}

function cell(row, text, className) {
  const td = document.createElement("td");
  td.textContent = text;
  if (className) td.className = className;
  row.appendChild(td);
}

function setState(text, className) {
  const pill = byId("state");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = "pill " + className;
}

function showMembers(status) {
  const body = document.createDocumentFragment();
  for (const member of status.members || []) {
    const row = document.createElement("tr");
    const leads = member.id === status.leader;
    const lag = Math.max(0, status.commit - member.applied);
    if (leads) row.className = "leader";
    cell(row, member.id + (member.id === status.node ? " (this)" : ""));
    cell(row, leads ? "leader" : member.role === "voter" ? "follower" : member.role);
    cell(row, member.alive ? "alive" : "not heard of", member.alive ? "good" : "bad");
    cell(row, member.applied.toLocaleString(), "number");
    cell(row, member.alive ? lag.toLocaleString() : "–", "number");
    cell(row, (member.digest || "").slice(0, 12), "digest");
    cell(row, member.http || "–");
    cell(row, member.redis || "–");
    body.appendChild(row);
  }
  byId("members").replaceChildren(body);
}

// Digests can be compared only where the same index is applied.
function showDigests(status) {
  const alive = (status.members || []).filter((m) => m.alive && m.digest);
  const top = alive.filter((m) => m.applied === Math.max(...alive.map((a) => a.applied)));
  const same = new Set(top.map((m) => m.digest)).size <= 1;
  const line = byId("digests");
  if (top.length < 2) line.textContent = "";
  else if (same) line.textContent = top.length + " copies at the same index, with equal digests.";
  else line.textContent = "Copies differ at the same index!";
  line.className = same ? "quiet" : "bad";
}

function show(status) {
  setText("leader", status.leader || "none");
  setText("term", status.term);
  setText("applied", Number(status.applied).toLocaleString());
  setText("commit", Number(status.commit).toLocaleString());
  setText("node", status.node);
  setState(status.ready ? "ready" : "no leader", status.ready ? "good" : "bad");
  showMembers(status);
  showDigests(status);
  const self = (status.members || []).find((m) => m.id === status.node);
  const port = self && /:(\d+)$/.exec(self.redis || "");
  if (port) byId("redis-port").textContent = port[1];
}

async function ask() {
  if (document.visibilityState === "visible") {
    try {
      const answer = await fetch("/_/status", { cache: "no-store" });
      const body = await answer.json();
      if (answer.ok) show(body);
      else setState(body.detail || "status " + answer.status, "bad");
    } catch {
      setState("this node does not answer", "bad");
    }
  }
  setTimeout(ask, INTERVAL_MS);
}

for (const span of document.querySelectorAll(".origin")) span.textContent = location.origin;
ask();
