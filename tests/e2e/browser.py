"""A headless Chromium, driven over the DevTools protocol.

The messages go over two pipes (file descriptors 3 and 4 of the browser; JSON, each ended by a zero byte), so no
port and no library is needed. One thread uses it. Whatever a page complains about (exceptions that nobody
caught, what its content security policy forbids) is kept in Page.complaints.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

from harness import PATIENCE

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-pipe",
]


def find():
    """The program, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    def __init__(self, browser, url, width=1100, height=900):
        self.browser = browser
        self.complaints = []
        self.target = browser.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        # A page in the background would be slowed down, and hidden for its own scripts.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.size(width, height)
        self.go(url)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def size(self, width, height, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=False)

    def prefer(self, **features):
        """prefer(color_scheme="dark", reduced_motion="reduce")"""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-" + name.replace("_", "-"), "value": value} for name, value in features.items()])

    def go(self, url):
        self.call("Page.navigate", url=url)

    def run(self, script):
        """The value of an expression, or of the promise that it is."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ValueError(answer["exceptionDetails"].get("exception", {}).get("description", "exception"))
        return answer["result"].get("value")

    def text(self, selector):
        return self.run(f"(document.querySelector({json.dumps(selector)}) || {{}}).textContent || ''")

    def click(self, selector):
        """With the mouse, in the middle of the element."""
        x, y = self.run(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector, text):
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.run("document.activeElement.select()")
        self.call("Input.insertText", text=text)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


class Browser:
    def __init__(self, folder):
        self.pages = {}
        self.next_id = 1
        self.rest = b""
        ours_in, theirs_out = self._pipe()
        theirs_in, ours_out = self._pipe()
        self.incoming, self.outgoing = ours_in, ours_out

        def at_three_and_four():
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self.process = subprocess.Popen(
            [find(), *FLAGS, f"--user-data-dir={folder}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=at_three_and_four, pass_fds=(3, 4))
        os.close(theirs_in)
        os.close(theirs_out)

    @staticmethod
    def _pipe():
        """Both ends above 9, out of the way of 3 and 4."""
        ends = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
        for end in ends:
            os.close(end)
        return high

    def call(self, method, session=None, **parameters):
        message = {"id": self.next_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.next_id += 1
        os.write(self.outgoing, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 30 * PATIENCE
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise ValueError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _receive(self, deadline):
        while b"\0" not in self.rest:
            readable, _, _ = select.select([self.incoming], [], [], max(0, deadline - time.monotonic()))
            assert readable, "the browser does not answer"
            more = os.read(self.incoming, 1 << 20)
            assert more, f"the browser has ended ({self.process.poll()})"
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event):
        page = self.pages.get(event.get("sessionId"))
        if not page:
            return
        if event["method"] == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            page.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] == "security":
            page.complaints.append(event["params"]["entry"]["text"])

    def open(self, url, **options):
        return Page(self, url, **options)

    def close(self):
        with contextlib.suppress(AssertionError, ValueError, OSError):
            self.call("Browser.close")
        try:
            self.process.wait(10 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.incoming)
        os.close(self.outgoing)
