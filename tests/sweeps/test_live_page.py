"""The live page in a real browser: beside a sweep that runs, and with a thousand trials.

A picture of the page of any sweep of a home is made by

    python -m tests.sweeps.test_live_page HOME NAME FILE
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps.browser import browser, find_chromium, keep_picture
from tests.sweeps.conftest import Place
from tests.sweeps.test_by_hand import RUN
from tests.sweeps.test_faults import logged, wait_for
from tests.sweeps.test_outage import free_port
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs chromium"),
]
ROWS = "document.querySelectorAll('#trials tr').length"


@contextlib.contextmanager
def served(home: Path, name: str) -> Iterator[str]:
    """The address that ``xlt ui NAME --live`` prints."""
    command = [sys.executable, "-m", "xlt_ray", "ui", name, "--live", "--port", str(free_port())]
    environment = {**os.environ, "XLT_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            (address,) = re.findall(r"http://127\.0\.0\.1:\d+/\S+/", line)
            yield address
        finally:
            server.terminate()


def test_the_page_follows_a_sweep_and_its_buttons_reach_the_driver(place: Place) -> None:
    async def look(address: str) -> None:
        async with browser() as page:
            await page.open(address)
            await page.wait(f"{ROWS} > 0 && document.body.innerText.includes('running')")
            await page.wait("document.querySelector('#curves .at-work')?.getAttribute('d')")
            await page.run("document.querySelector('#trial-0 .ask').click()")
            await page.wait_for_text("trial 0 stopped; the running sweep does it within seconds")
            await page.wait("document.querySelector('#trial-0 .state').innerText === 'pruned'")
            clone = "[...document.querySelectorAll('#trial-0 .ask')].at(-1).click()"
            await page.run(clone)
            await page.run("document.querySelector('#ask input').value = 'target.nothing=1'")
            await page.run("document.querySelector('#ask button').click()")
            await page.wait_for_text("command line: target.nothing")
            await page.run(clone)
            await page.run("document.querySelector('#ask input').value = 'target.fusion.layer=1'")
            await page.run("document.querySelector('#ask button').click()")
            await page.wait_for_text("by hand: trial 0 cloned with target.fusion.layer=1")

    process = place.start(*RUN)
    wait_for(logged(place, "trial 0 target 512/7680"), process, place)
    with served(place.home, "small") as address:
        asyncio.run(look(address))
    process.send_signal(signal.SIGINT)
    process.wait(200)
    kinds = [request.kind for request in load_ledger(Home(place.home), "small").by_hand]
    assert kinds == ["stop", "clone"]


def test_a_thousand_trials_are_shown_and_filtered(tmp_path: Path) -> None:
    from benchmarks.report_page import make

    make(Home(tmp_path), 1000, ["l000", "l001"], 1)

    async def look(address: str) -> None:
        async with browser(390, 844) as page:
            await page.open(address)
            await page.wait_for_text("1000 complete", "100 of 1000")
            assert await page.run("document.documentElement.scrollWidth <= innerWidth")
            assert await page.run("document.getElementsByTagName('*').length") < 10_000
            await page.run("document.querySelector('#more').click()")
            await page.wait(f"{ROWS} === 1000")
            box = "document.querySelector('#filter')"
            await page.run(
                f"{box}.value = 'toy:4x64 ratio'; {box}.dispatchEvent(new Event('input'))"
            )
            text = str(await page.wait("document.querySelector('#trials').innerText"))
            assert "toy:4x64" in text
            assert "toy:2x64" not in text
            await page.run("document.querySelector('#tree details').open = true")
            await page.wait("document.querySelectorAll('#tree li li').length > 0")

    with served(tmp_path, "many") as address:
        asyncio.run(look(address))


if __name__ == "__main__":
    home, name, file = sys.argv[1:]
    with served(Path(home).absolute(), name) as address:
        asyncio.run(keep_picture(address, Path(file), f"{ROWS} > 0"))
