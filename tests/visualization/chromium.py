"""Headless Chromium, driven through the pipe of its DevTools protocol: a page as a reader has it, keys and all."""

import json
import os
import select
import shutil
import signal
import time
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root, and in most containers, there is none; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
)
READ_FROM, WRITE_TO = 3, 4
"""Where Chromium expects the ends of the pipes."""


def find_chromium():
    """The executable that $CHROMIUM names, or one of NAMES on the PATH; None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser with one page. `events` holds all that it told: console messages, exceptions, requests."""

    def __init__(self, executable, profile, timeout=60):
        self.timeout, self.events, self._last, self._buffer = timeout, [], 0, b""
        # numbers above those of the pipes' ends in the browser, which would otherwise be overwritten there
        commands, self._write = (fcntl(end, F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        self._read, answers = (fcntl(end, F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        self._pid = os.posix_spawnp(
            executable,
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, commands, READ_FROM),
                (os.POSIX_SPAWN_DUP2, answers, WRITE_TO),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
        os.close(commands)
        os.close(answers)
        self._session = None

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *failure):
        self._session = None
        with suppress(OSError, TimeoutError):  # it may have ended by itself
            self.call("Browser.close")
        os.close(self._write)
        deadline = time.monotonic() + 5
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.02)
        os.close(self._read)

    def open(self, path: Path):
        """Show a file, once it is loaded with all that it asks for; what was told before is forgotten."""
        self.events.clear()
        answer = self.call("Page.navigate", url=path.as_uri())
        assert "errorText" not in answer, answer
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._take()

    def evaluate(self, expression):
        """The JSON value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, expression):
        """Click in the middle of the element that the expression gives, as a mouse does."""
        middle = f"""(() => {{
            const element = {expression};
            element.scrollIntoView({{block: "center", inline: "center"}});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = self.evaluate(middle)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, code, text=""):
        """Press a key on whatever has the focus."""
        for kind in ("keyDown", "keyUp"):
            shown = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **shown)

    def complaints(self):
        """What a console would show in red or yellow, and exceptions nobody caught."""
        level = {
            "Runtime.exceptionThrown": lambda said: "error",
            "Runtime.consoleAPICalled": lambda said: said["type"],
            "Log.entryAdded": lambda said: said["entry"]["level"],
        }
        told = [(event["method"], event["params"]) for event in self.events if event["method"] in level]
        return [said for method, said in told if level[method](said) in ("error", "warning", "assert")]

    def requests(self):
        """Addresses of all that the page asked for."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def call(self, method, **params):
        """The answer to a command of the protocol."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._take()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _take(self):
        """The next message from the browser; events are kept."""
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], self.timeout)[0]:
                raise TimeoutError(f"Chromium said nothing for {self.timeout} s")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise ConnectionError("Chromium ended")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(message)
        if "method" in message:
            self.events.append(message)
        return message
