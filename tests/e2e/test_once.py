"""Idempotency-Key: a client whose own gateway dies repeats its request at another one, and it is executed once."""

import http.client
import random
import threading
import uuid

from harness import PATIENCE, Response, eventually


def incr(node, counter, key):
    return node.http("POST", f"/v1/incr/{counter}", headers={"Idempotency-Key": f'"{key}"'})


def replayed(answer):
    return answer.headers.get("Idempotency-Replayed") == "true"


def test_the_answer_was_lost(cluster):
    """The gateway dies after the execution and before the answer is read: the others give that answer."""
    made = cluster(3)
    dying = made.leader()
    others = made.followers()
    host, port = dying.address("http")
    request = (f"POST /v1/incr/lost HTTP/1.1\r\nHost: {host}:{port}\r\nIdempotency-Key: one\r\n\r\n"
               f"PUT /v1/kv/lost-lock HTTP/1.1\r\nHost: {host}:{port}\r\nIdempotency-Key: two\r\nIf-None-Match: *\r\n"
               "Content-Length: 2\r\n\r\nme")
    with dying.socket("http") as client:
        client.sendall(request.encode())
        eventually(lambda: others[0].get("lost-lock").status == 200)
        dying.kill()
    for node in others * 2:
        answer = node.http("POST", "/v1/incr/lost", headers={"Idempotency-Key": '"one"'})
        assert answer.status == 200 and answer.json()["value"] == 1 and replayed(answer), answer
        # Not 412: this client has the lock, it only did not hear it.
        answer = node.put("lost-lock", "me", If_None_Match="*", Idempotency_Key="two")
        assert answer.status == 201 and replayed(answer), answer
        assert answer.etag == node.get("lost-lock").etag
        assert node.put("lost-lock", "me", If_None_Match="*", Idempotency_Key="three").status == 412
        assert node.put("lost-lock", "you", If_None_Match="*", Idempotency_Key="two").status == 422
    assert others[0].get("lost").body == b"1"
    dying.start()
    made.wait_equal_digests()
    assert replayed(incr(dying, "lost", "one"))


class Client(threading.Thread):
    """Counts at one node until that dies, then repeats its last request at another until it is answered."""

    def __init__(self, first, other):
        super().__init__(daemon=True)
        self.first, self.other = first, other
        self.answers = {}  # key -> value
        self.replayed = 0
        self.errors = []
        self.working = threading.Event()

    def run(self):
        try:
            self.count()
        except Exception as error:  # noqa: BLE001 - told by the test
            self.errors.append(repr(error))

    def count(self):
        connection = http.client.HTTPConnection(*self.first.address("http"), timeout=30 * PATIENCE)
        while True:
            key = str(uuid.uuid4())
            try:
                connection.request("POST", "/v1/incr/exact", headers={"Idempotency-Key": key})
                answer = Response(connection.getresponse())
            except (OSError, http.client.HTTPException):
                break
            assert answer.status == 200 and not replayed(answer), answer
            self.answers[key] = answer.json()["value"]
            self.working.set()

        def again():
            answer = incr(self.other, "exact", key)
            assert answer.status in (200, 503), answer
            return answer if answer.status == 200 else None

        answer = eventually(again, what="an answer from another node")
        self.answers[key] = answer.json()["value"]
        self.replayed += replayed(answer)
        connection.close()


def test_counts_exactly_while_gateways_die(cluster):
    made = cluster(3)
    answers = {}
    replays = 0
    for round_number in range(6):
        leader = made.leader()
        dying = leader if round_number % 2 == 0 else made.followers()[0]
        others = [n for n in made.nodes if n is not dying]
        clients = [Client(dying, others[i % 2]) for i in range(12)]
        for client in clients:
            client.start()
        for client in clients:
            assert client.working.wait(30 * PATIENCE)
        threading.Event().wait(random.uniform(0, 0.1))
        dying.kill()
        for client in clients:
            client.join(60 * PATIENCE)
            assert not client.is_alive() and not client.errors, client.errors
            assert not answers.keys() & client.answers.keys()
            answers.update(client.answers)
            replays += client.replayed
        dying.start()
        made.wait_voters(3)
        # Each was executed once, and no value was given twice.
        assert sorted(answers.values()) == list(range(1, len(answers) + 1)), f"{replays} replays"
        assert int(others[0].get("exact").body) == len(answers)
    made.wait_equal_digests()
    for key in random.sample(sorted(answers), 50):
        answer = incr(random.choice(made.nodes), "exact", key)
        assert answer.status == 200 and replayed(answer) and answer.json()["value"] == answers[key], answer
    assert int(made.nodes[0].get("exact").body) == len(answers)
    print(f"{len(answers)} requests, {replays} had been executed when they were repeated")
