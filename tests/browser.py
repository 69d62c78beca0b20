"""A real browser for tests, driven through its pipe: no package beside Chromium itself.

Chromium with ``--remote-debugging-pipe`` reads JSON from file descriptor 3 and writes it to 4, each
message ended by a zero byte (the Chrome DevTools Protocol).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)

SECONDS = 60.0

RENUMBERED = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Starts a program with two descriptors as 3 and 4, which `subprocess` cannot."""


class Page:
    """One open page: what it logs, asks for and shows."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest, self._count = write, read, b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Within: look into the one sandboxed frame of the page, a target of its own."""
        outer = self._session
        settings = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self.call("Target.setAutoAttach", **settings)
        end = time.monotonic() + SECONDS
        while not (found := self._attached()):
            assert time.monotonic() < end, "there is no frame"
            self.run("0")
            time.sleep(0.05)
        self._session = found[-1]
        try:
            self.call("Runtime.enable")
            self.call("Log.enable")
            yield
        finally:
            self._session = outer

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)
        raise AssertionError(f"the browser did not answer {method}")

    def open(self, file: Path, fragment: str = "") -> None:
        """Open a file and wait until it is loaded."""
        before = self._seen("Page.loadEventFired")
        self.call("Page.navigate", url=file.resolve().as_uri() + fragment)
        end = time.monotonic() + SECONDS
        while self._seen("Page.loadEventFired") == before:
            assert time.monotonic() < end, "the page was never loaded"
            self.run("0")
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        """Press a key, as a hand would."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def size(self, width: int, height: int, scheme: str = "light") -> None:
        """Make the window so large, and the user's scheme light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self, whole: bool = True) -> bytes:
        """A PNG of the page, or of what the window shows."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        )

    def printed(self) -> bytes:
        """The PDF that printing on A4 gives."""
        return base64.b64decode(
            self.call(
                "Page.printToPDF", preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69
            )["data"]
        )

    def complaints(self) -> list[str]:
        """Everything that went wrong: warnings and errors of the console, exceptions."""
        self.run("0")
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            method = event.get("method")
            if method == "Runtime.exceptionThrown":
                found.append(json.dumps(parameters["exceptionDetails"])[:600])
            elif method == "Runtime.consoleAPICalled" and parameters["type"] in (
                "error",
                "warning",
                "assert",
            ):
                found.append(json.dumps(parameters["args"])[:600])
            elif method == "Log.entryAdded":
                entry = parameters["entry"]
                found += [entry["text"]] if entry["level"] in ("error", "warning") else []
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for, without itself and without what is inside it."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("file:", "data:", "about:"))]

    def _attached(self) -> list[str]:
        return [
            event["params"]["sessionId"]
            for event in self.events
            if event.get("method") == "Target.attachedToTarget"
            and event["params"]["targetInfo"]["type"] == "iframe"
        ]

    def _seen(self, method: str) -> int:
        return sum(event.get("method") == method for event in self.events)

    def _messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            while b"\0" in self._rest:
                message, self._rest = self._rest.split(b"\0", 1)
                yield json.loads(message)
            if select.select([self._read], [], [], 0.5)[0]:
                part = os.read(self._read, 1 << 20)
                assert part, "the browser has ended"
                self._rest += part


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with a fresh profile in this folder, and a page; ended in the end."""
    assert BROWSER is not None
    their_read, our_write = os.pipe()
    our_read, their_write = os.pipe()
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", RENUMBERED, str(their_read), str(their_write), *command],
        pass_fds=(their_read, their_write),
        env={**os.environ, "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_read)
    os.close(their_write)
    try:
        yield Page(our_write, our_read)
    finally:
        os.close(our_write)
        process.terminate()
        process.wait(timeout=30)
        os.close(our_read)
