"""Real processes, real kill -9 and SIGSTOP, and a real network that loses packets, while 50 HTTP and 50 Redis
connections (on the nodes that stay) go on. Every history is judged (tests/sim/verdict.h); what is asserted beyond that is
what clients of the protocols see. `tests/e2e/faults/run` does more rounds of the same and prints the pauses."""

import scenarios as s

# Two thirds of the connections are on the nodes that a fault of the third one leaves.
CONNECTIONS = 75


def test_leader_killed(lab):
    """0 errors, 0 dropped connections on the nodes that live, and counters that are exact."""
    load = lab.load(connections=CONNECTIONS)
    s.steady()
    rounds = [s.kill_leader(lab) for _ in range(2)]
    history = load.finish()
    s.only_its_own_clients_noticed(history, rounds)
    s.limits_kept(history)
    s.report(lab, history, rounds, "leader killed")


def test_leader_frozen(lab):
    """Clients of the others see a pause, those of the frozen node wait until it goes on."""
    load = lab.load(connections=CONNECTIONS, mix="all")
    s.steady()
    rounds = [s.freeze_leader(lab) for _ in range(2)]
    history = load.finish()
    s.nobody_noticed(history)
    s.report(lab, history, rounds, "leader frozen")


def test_leader_cut_off_with_its_clients(lab):
    """Its clients get no stale read and no false answer, but an error in time that says what became of the request."""
    load = lab.load(connections=CONNECTIONS, mix="all")
    s.steady()
    rounds = [s.isolate_leader(lab)]
    history = load.finish()
    answers = s.only_the_cut_off_waited(history, rounds)
    told = {(history.protocols[client], "unknown" in text) for client, _, text in history.errors}
    assert told == {("http", True), ("http", False), ("redis", True), ("redis", False)}, told
    s.report(lab, history, rounds, "leader cut off")
    s.report_cut_off(history, rounds, answers)


def test_one_way_cuts(lab):
    load = lab.load(connections=CONNECTIONS, mix="all")
    s.steady()
    rounds = [s.mute_leader(lab), s.deafen_leader(lab)]
    history = load.finish()
    s.nobody_noticed(history)
    s.report(lab, history, rounds, "one-way cuts")


def test_loss_and_delay(lab):
    load = lab.load(connections=CONNECTIONS, mix="all", burst=4, interval=150)
    s.steady()
    rounds = [s.bad_network(lab, loss=20, delay_ms=2, seconds=4), s.bad_network(lab, loss=50, delay_ms=0, seconds=3)]
    history = load.finish()
    s.nobody_noticed(history)
    s.report(lab, history, rounds, "loss and delay")
