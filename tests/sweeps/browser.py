"""A headless Chromium, driven by its own DevTools protocol: pages, waiting, pictures.

No driver is downloaded and none is needed; without Chromium :func:`find_chromium` returns None.
A picture of any page is made by

    python -m tests.sweeps.browser ADDRESS FILE
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 120.0
"""So long a page may take to show what is waited for, on a busy machine."""
TEXT = "document.body?.innerText ?? ''"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The browser's command, if this machine has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Page:
    """One tab."""

    socket: aiohttp.ClientWebSocketResponse
    _number: int = field(default=0)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        self._number += 1
        number = self._number
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=PATIENCE_S)
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def wait(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := await self.run(script)):
            assert time.monotonic() < deadline, f"{script}\n{await self.text()}"
            await asyncio.sleep(0.2)
        return value

    async def text(self) -> str:
        """What the page shows."""
        return str(await self.run(TEXT))

    async def wait_for_text(self, *texts: str) -> None:
        """Until the page shows all of these."""
        await self.wait(f"{json.dumps(texts)}.every(text => ({TEXT}).includes(text))")

    async def picture(self, file: Path) -> None:
        """Write what is seen as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def browser(width: int = 1500, height: int = 900) -> AsyncIterator[Page]:
    """A tab of a browser that ends with the block."""
    chromium = find_chromium()
    assert chromium is not None
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]
        # The parallel coordinates are drawn by WebGL, here without a device.
        command += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        command += ["--no-first-run", "--disable-background-networking", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        command += [f"--window-size={width},{height}", "about:blank"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            port = await _port_of(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tabs = await answer.json()
                url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
                async with session.ws_connect(url, max_msg_size=2**28) as socket:
                    page = Page(socket)
                    await page.call("Page.enable")
                    await page.call(
                        "Emulation.setDeviceMetricsOverride",
                        width=width,
                        height=height,
                        deviceScaleFactor=1,
                        mobile=False,
                    )
                    yield page
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # Its children may still be writing to their profile.
            await asyncio.sleep(0.5)


async def _port_of(file: Path) -> str:
    """The port that a browser writes down as soon as it listens."""
    deadline = time.monotonic() + PATIENCE_S
    while not file.exists() or not file.read_text().strip():
        assert time.monotonic() < deadline, "the browser does not listen"
        await asyncio.sleep(0.1)
    return file.read_text().split()[0]


async def keep_picture(address: str, file: Path, ready: str = "document.readyState") -> None:
    """Write the upper part of a page as PNG when ``ready`` is true and what moves is at rest."""
    async with browser(1440, 900) as page:
        await page.open(address)
        await page.wait(ready)
        await asyncio.sleep(3)
        await page.picture(file)


if __name__ == "__main__":
    asyncio.run(keep_picture(sys.argv[1], Path(sys.argv[2])))
