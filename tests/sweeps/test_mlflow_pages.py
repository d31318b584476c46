"""The pages of the real MLflow UI on a sweep, in a real browser: what there is to compare.

The pictures of docs/images are remade from any home that has a finished sweep:

    python -m tests.sweeps.test_mlflow_pages HOME NAME docs/images
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sweeps.browser import PATIENCE_S, Page, browser, find_chromium
from tests.sweeps.test_configurations import lived
from tests.sweeps.test_tracking import client_of, world_in
from xlt_ray.home import Home
from xlt_ray.store.stage import Stage
from xlt_ray.tracking import ui_command, ui_page

NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
AXES = """[...document.querySelectorAll(".dimension .axis .label, .pcp-plot .axis-title")]
    .map(one => one.textContent)"""
HEADERS = (
    """[...document.querySelectorAll("[role=columnheader]")].map(one => one.innerText.trim())"""
)
NAMES = """[...document.querySelectorAll("a")].map(one => one.innerText)
    .filter(one => one.startsWith("configuration "))"""


@contextlib.contextmanager
def served(home: Home) -> Iterator[str]:
    """The address of the UI on a home, as ``xlt ui`` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ui_command(home, port=port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 3 * PATIENCE_S
        while not _answers(uri):
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield uri
        beside = [child.cmdline() for child in psutil.Process(server.pid).children(recursive=True)]
        assert not [one for one in beside if "huey" in " ".join(one)], "2 GB for nobody's jobs"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def configurations(home: Home, name: str) -> list[Any]:
    """The runs of a sweep's configurations, the best first."""
    client = client_of(home.tracking_uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(
        client.search_runs(
            [experiment.experiment_id],
            "tags.`xlt.kind` = 'configuration'",
            order_by=["metrics.objective DESC"],
        )
    )


async def look(uri: str, home: Home, name: str, folder: Path) -> dict[str, Any]:
    """Open the three pages, keep a picture of each, and tell what stands on them."""
    runs = configurations(home, name)
    names = [run.info.run_name for run in runs]
    ids = json.dumps([run.info.run_id for run in runs])
    experiment = json.dumps([runs[0].info.experiment_id])
    start = uri + ui_page(home, name=name)
    found: dict[str, Any] = {}
    async with browser(1900, 640) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        await page.open(start)
        await page.wait_for_text(*names, "seeds/complete")
        found["names"] = await page.wait(NAMES)
        found["headers"] = await page.wait(HEADERS)
        found["runs"] = await page.text()
        await _keep(page, folder / "mlflow-runs.png")
    async with browser(1500, 830) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        await page.open(f"{start}&compareRunsMode=CHART")
        await page.wait_for_text("Parallel Coordinates", *names)
        await page.wait(f"({AXES}).length > 2")
        found["axes"] = await page.run(AXES)
        found["charts"] = await page.text()
        await _keep(page, folder / "mlflow-parallel.png")
    async with browser(1500, 1350) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        await page.open(f"{uri}/#/compare-runs?runs={ids}&experiments={experiment}")
        await page.wait_for_text("Parallel Coordinates Plot", "Run details", *names)
        await page.wait(f"({AXES}).length > 1")
        found["compared_axes"] = await page.run(AXES)
        found["compared"] = await page.text()
        await _keep(page, folder / "mlflow-compare.png")
    return found


async def _keep(page: Page, file: Path) -> None:
    """A picture, when what moves has come to rest."""
    await asyncio.sleep(3)
    await page.picture(file)


@pytest.mark.long
@pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")
def test_the_pages_of_mlflow_show_configurations_side_by_side(tmp_path: Path) -> None:
    world = world_in(tmp_path / "home", "search.trials=3", "search.seeds=2")
    task = {"task": {"name": "toy-nli", "version": 1}}
    path = (Stage("target", task, {"train": "a" * 64}, 0, None, "target"),)
    tracker = world.begun()
    for value in (0.5, 0.6, 0.8, 0.9, 0.7, 0.6):
        lived(world, tracker, value, path)
    world.end(tracker)
    with served(world.home) as uri:
        found = asyncio.run(look(uri, world.home, "tracked", tmp_path))

    parameters = ["model", "target.hybrid.ratio"]
    scores = ["objective", "test/accuracy/mean", "test/accuracy/mean_without_source"]
    assert found["names"] == ["configuration 001", "configuration 002", "configuration 000"]
    assert {*parameters, *scores, "sd/objective", "seeds/complete", "Dataset"} <= set(
        found["headers"]
    )
    assert "toy-nli train (aaaaaaaaaa)" in found["runs"]
    assert len(found["axes"]) == len(parameters) + len(scores)
    for name in (*parameters, *scores):
        assert any(_is_short_for(name, axis) for axis in found["axes"]), name
    # A parameter that all of them share is no axis here.
    assert {"target.hybrid.ratio", "objective"} <= set(found["compared_axes"])
    for text in (*parameters, *scores, "toy:"):
        assert text in found["compared"]
    assert all((tmp_path / f"mlflow-{name}.png").stat().st_size > 20_000
               for name in ("runs", "parallel", "compare"))  # fmt: skip


def _is_short_for(name: str, axis: str) -> bool:
    """Whether an axis, which has room for some letters, is called by this name."""
    first, dots, last = axis.partition("...")
    return name.startswith(first) and name.endswith(last) if dots else name == axis


if __name__ == "__main__":
    given_home, given_name, given_folder = sys.argv[1:]
    with served(Home(Path(given_home).absolute())) as address:
        told = look(address, Home(Path(given_home).absolute()), given_name, Path(given_folder))
        print(json.dumps(asyncio.run(told), indent=1))
