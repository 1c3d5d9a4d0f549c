"""A client of /v1/watch: reads the events of one answer, on a thread of its own."""

import http.client
import json
import threading

from harness import eventually


class Event:
    def __init__(self, name, data, id):
        self.name, self.data, self.id = name, data, id

    @property
    def key(self):
        return self.data.get("key")

    @property
    def revision(self):
        return int(self.data["revision"])

    def __repr__(self):
        return f"<{self.name} {self.data} id={self.id}>"


class Watcher:
    """`last_id` is what an EventSource would send when it connects again: that of the last event that
    had one, of this connection or the one before."""

    def __init__(self, node, query="", last_id=None, cookie=None):
        self.events, self.last_id, self.ended = [], last_id, False
        self.connection = http.client.HTTPConnection(*node.address("http"), timeout=60)
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        self.connection.request("GET", "/v1/watch" + query, headers=headers)
        self.socket = self.connection.sock
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, (self.answer.status, self.answer.read())
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        fields = {}
        try:
            while line := self.answer.readline():
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                    continue
                if "data" in fields:
                    id = fields.get("id")
                    self.events.append(Event(fields["event"], json.loads(fields["data"]), id))
                    if id is not None:
                        self.last_id = int(id)
                fields = {}
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass
        self.ended = True

    def named(self, *names):
        return [e for e in list(self.events) if e.name in names]

    def changes(self):
        return self.named("put", "delete", "expire")

    def wait(self, count, seconds=30):
        eventually(lambda: len(self.changes()) >= count or self.ended, seconds, what=f"{count} changes")
        return self.changes()

    def close(self):
        try:
            self.socket.shutdown(2)
        except OSError:
            pass
        self.thread.join(10)
        self.connection.close()
