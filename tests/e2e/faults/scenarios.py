"""What is done to the nodes while clients go on. Each scenario does it a number of times, checks what clients saw,
and returns its rounds for the report."""

import statistics
import time

from harness import PATIENCE, pause, resume
from lab import wait_leader

# A client's request has a time limit of 10 s in the node; this much more is for the machine.
LIMIT_SECONDS = 10 + 5 * PATIENCE


class Round:
    """One fault. Times in seconds of time.monotonic()."""

    def __init__(self, node):
        self.node = node  # that suffered it
        self.begin = time.monotonic()
        self.end = None  # when its traces are gone: the next round may begin

    def over(self):
        self.end = time.monotonic()
        return self


def steady(seconds=1.0):
    time.sleep(seconds)


def back(lab):
    """Waits until all nodes are in sync again."""
    lab.cluster.wait_voters(len(lab.nodes))
    wait_leader(lab)
    steady()


# ---- faults

def kill_leader(lab):
    done = Round(wait_leader(lab))
    done.node.kill()
    wait_leader(lab, done.node)
    steady()
    done.node.start()
    back(lab)
    return done.over()


def freeze_leader(lab, seconds=2.0):
    done = Round(wait_leader(lab))
    pause(done.node)
    try:
        wait_leader(lab, done.node)
        steady(seconds)
    finally:
        resume(done.node)
    back(lab)
    return done.over()


def isolate_leader(lab, seconds=12):
    """Longer than a request's time limit."""
    done = Round(wait_leader(lab))
    lab.isolate(done.node)
    steady(seconds)
    lab.heal()
    done.healed = time.monotonic()
    back(lab)
    return done.over()


def mute_leader(lab, seconds=3.0):
    """It hears the others; they do not hear it."""
    done = Round(wait_leader(lab))
    for other in lab.nodes:
        if other is not done.node:
            lab.cut(done.node, other)
    steady(seconds)
    lab.heal()
    back(lab)
    return done.over()


def deafen_leader(lab, seconds=3.0):
    """They hear it; it does not hear them."""
    done = Round(wait_leader(lab))
    for other in lab.nodes:
        if other is not done.node:
            lab.cut(other, done.node)
    steady(seconds)
    lab.heal()
    back(lab)
    return done.over()


def bad_network(lab, loss, delay_ms, seconds):
    done = Round(wait_leader(lab))
    lab.all_ways(loss=loss, delay_ms=delay_ms, jitter_ms=delay_ms)
    steady(seconds)
    lab.heal()
    back(lab)
    return done.over()


# ---- what clients must not see

def nobody_noticed(history, besides=()):
    """No error, no broken connection, no request without a result; clients of `besides` excepted."""
    assert not history.malformed, f"malformed answers: {history.malformed[:3]}"
    spared = set().union(*(history.clients_of(n) for n in besides), set())
    errors = [e for e in history.errors if e[0] not in spared]
    broken = [b for b in history.broken if b[0] not in spared]
    assert not errors, f"{len(errors)} errors, the first: {errors[:3]}"
    assert not broken, f"{len(broken)} connections broke, the first: {broken[:3]}"


def only_its_own_clients_noticed(history, rounds):
    """Connections break on a node that is killed, while it is, and nowhere else; nobody is answered with an error."""
    assert not history.malformed, f"malformed answers: {history.malformed[:3]}"
    assert not history.errors, f"{len(history.errors)} errors, the first: {history.errors[:3]}"
    for client, at, why in history.broken:
        mine = [r for r in rounds if r.begin <= at < r.end and client in history.clients_of(r.node)]
        assert mine, f"client {client} of {history.addresses[client]} lost its connection: {why}"


def errors_say_what_became(history):
    """Every error answer says `applied` in its protocol's way."""
    for client, _, text in history.errors:
        said = [f'"applied":"{o}"' in text or f"applied: {o}" in text for o in ("no", "unknown")]
        assert any(said), f"client {client} was told: {text}"


def only_the_cut_off_waited(history, rounds):
    """What clients of a leader without the others are told while it is cut off: no result, and an error in time that says
    what became of the request. Nobody else sees an error, and no connection breaks. Returns what they were told."""
    assert not history.malformed, f"malformed answers: {history.malformed[:3]}"
    assert not history.broken, f"{len(history.broken)} connections broke, the first: {history.broken[:3]}"
    errors_say_what_became(history)
    limits_kept(history)
    for client, at, text in history.errors:
        mine = [r for r in rounds if r.begin <= at < r.end and client in history.clients_of(r.node)]
        assert mine, f"client {client} of {history.addresses[client]} was told: {text}"
    told = {"ok": 0, "no": 0, "unknown": 0}
    for r in rounds:
        # What was under way when the cut came may still have had its majority.
        for op in history.ended(r.begin + 1, r.healed, history.clients_of(r.node)):
            told[op.outcome] += 1
    assert told["ok"] == 0, f"{told['ok']} requests had a result on the wrong side of the cut"
    return told


def limits_kept(history):
    """An answer comes within the time limit. (A node that is frozen answers when it goes on: not for its clients.)"""
    late = [o for o in history.ops if o.took > LIMIT_SECONDS]
    assert not late, f"{len(late)} requests took too long, the longest {max(o.took for o in late):.1f} s"


def pauses(lab, history, rounds):
    """The longest wait of each round, in seconds, of clients on the nodes that did not suffer it."""
    found = []
    for r in rounds:
        others = set().union(*(history.clients_of(n) for n in lab.nodes if n is not r.node))
        found.append(history.longest(r.begin, r.end, others))
    return found


def report(lab, history, rounds, title, out=print):
    waits = pauses(lab, history, rounds)
    out(f"{title}: {history.verdict}")
    for number, (r, wait) in enumerate(zip(rounds, waits), 1):
        out(f"  round {number:3}  {r.node.name}  longest pause {wait * 1000:6.0f} ms")
    out(f"  median {statistics.median(waits) * 1000:.0f} ms, worst {max(waits) * 1000:.0f} ms; "
        f"{len(history.errors)} errors")
    return waits


def report_cut_off(history, rounds, told, out=print):
    waits = [history.longest(r.begin, r.end, history.clients_of(r.node)) for r in rounds]
    out(f"  the cut-off side: {told['ok']} results, {told['no']} not applied, {told['unknown']} unknown; longest wait "
        f"median {statistics.median(waits):.2f} s, worst {max(waits):.2f} s")
