"""Chromium driven over the DevTools protocol: pages that are used, not only looked at."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.browser import CHROMIUM, axe_script

SECONDS = 30.0


class Tab:
    """One page of a browser. Scripts that it is given run as the page's own would, whatever the page's policy says."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.loop, self.socket, self.number = loop, socket, 0
        self.requests: list[str] = []  # addresses
        self.complaints: list[str] = []  # of the console, the policy and the page's own errors
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.command(f"{domain}.enable")
        self.command("Emulation.setFocusEmulationEnabled", enabled=True)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.loop.run_until_complete(asyncio.wait_for(self.answer(method, parameters), SECONDS))

    async def answer(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json()
            if message.get("id") == self.number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self.note(message.get("method", ""), message.get("params", {}))

    def note(self, event: str, said: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            self.complaints.append(said["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("warning", "error"):
            self.complaints.append(json.dumps(said["args"]))

    def run(self, script: str) -> Any:
        """What a JavaScript expression gives; a promise's value is waited for."""
        done = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The first value of an expression that is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} is never true; {self.complaints}"
            time.sleep(0.02)
        return value

    def open(
        self, address: str, *, width: int = 1200, dark: bool = False, touch: bool = False, sharp: float = 1
    ) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=sharp, mobile=touch
        )
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command("Page.navigate", url=address)
        self.wait_for(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        document = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def press(self, key: str, code: int = 0) -> None:
        """A key such as Tab (9), Enter (13) or ArrowRight (39), or a letter."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        values = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
        self.command("Input.dispatchKeyEvent", type="keyUp", **values)

    def axe(self) -> list[Any]:
        """axe-core's findings, as [impact, rule, elements]."""
        self.run(f"{axe_script()};0")
        one = "[one.impact, one.id, one.nodes.map(node => node.html.slice(0, 200) + node.failureSummary)]"
        findings: list[Any] = self.run(f"axe.run().then(result => result.violations.map(one => {one}))")
        return findings

    def screenshot(self, path: Path) -> None:
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--disable-component-update", f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    try:
        port = wait_for_port(profile / "DevToolsActivePort")
        session, socket = loop.run_until_complete(connect(port))
        try:
            yield Tab(loop, socket)
        finally:
            loop.run_until_complete(session.close())
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)
        loop.close()


def wait_for_port(path: Path) -> int:
    """The browser writes it into a file once it listens."""
    end = time.monotonic() + SECONDS
    while not path.is_file() or len(path.read_text().split()) < 2:
        assert time.monotonic() < end, "Chromium does not start"
        time.sleep(0.05)
    return int(path.read_text().split()[0])


async def connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [target for target in await answer.json() if target["type"] == "page"]
    return session, await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
