"""A headless Chromium, spoken to through pipes in its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from limits import HANG_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
_OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu-sandbox"),
    *("--no-sandbox", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Browser:
    """One window; `complaints` are errors and refused loads that its console shows."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 1000) -> None:
        to_it, self._write = os.pipe()
        self._read, from_it = os.pipe()

        def place() -> None:  # Chromium reads from 3 and writes to 4
            moved = os.dup(to_it), os.dup(from_it)
            os.dup2(moved[0], 3)
            os.dup2(moved[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=place,  # noqa: PLW1509 - between fork and exec, without locks
            close_fds=False,
        )
        os.close(to_it)
        os.close(from_it)
        self._number, self._bytes = 0, b""
        self._session = ""
        self.complaints: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        found = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, address: str) -> None:
        self._ask("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        """What an expression is in the page."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + HANG_S
        while not (found := self.value(script)):
            assert time.monotonic() < end, (script, self.value("document.body.innerText"))
            time.sleep(0.1)
        return found

    def picture(self, file: Path) -> None:
        whole = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(whole["data"]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(HANG_S)
        os.close(self._write)
        os.close(self._read)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            self._listen(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._bytes:
            assert select.select([self._read], [], [], HANG_S)[0], "Chromium does not answer"
            new = os.read(self._read, 1 << 16)
            assert new, "Chromium has ended"
            self._bytes += new
        one, _, self._bytes = self._bytes.partition(b"\0")
        found: dict[str, Any] = json.loads(one)
        return found

    def _listen(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"])[:1000])
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
