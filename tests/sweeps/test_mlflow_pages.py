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
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.sweeps.browser import Page, browser, find_chromium
from tests.sweeps.test_configurations import lived
from tests.sweeps.test_outage import answers, free_port, wait_until
from tests.sweeps.test_tracking import client_of, sweep_in
from xlt_ray.home import Home
from xlt_ray.store.stage import Stage
from xlt_ray.tracking import ui_command, ui_page

NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
AXES = """[...document.querySelectorAll(".dimension .axis .label, .pcp-plot .axis-title")]
    .map(one => one.textContent)"""
HEADERS = """[...document.querySelectorAll("[role=columnheader]")]
    .filter(one => one.getBoundingClientRect().right <= innerWidth)
    .map(one => one.innerText.trim())"""
NAMES = """[...document.querySelectorAll("a")].map(one => one.innerText)
    .filter(one => one.startsWith("toy:"))"""


@contextlib.contextmanager
def served(home: Home) -> Iterator[str]:
    """The address of the UI on a home, as ``xlt ui`` starts it."""
    port = free_port()
    server = subprocess.Popen(
        ui_command(home, port=port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(uri) or server.poll() is not None, lambda: "it starts")
        assert server.poll() is None, "the server has ended"
        yield uri
        children = psutil.Process(server.pid).children(recursive=True)
        words = " ".join(word for child in children for word in child.cmdline())
        assert "huey" not in words, "2 GB for jobs that are not needed"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


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
    seen: dict[str, Any] = {}
    async with browser(1440, 560) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        await page.open(start)
        await page.wait_for_text(*names, "seeds/complete")
        seen["names"] = await page.wait(NAMES)
        seen["headers"] = await page.wait(HEADERS)
        seen["runs"] = await page.text()
        await _keep(page, folder / "mlflow-runs.png")
    async with browser(1500, 830) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        await page.open(f"{start}&compareRunsMode=CHART")
        await page.wait_for_text("Parallel Coordinates", *names)
        await page.wait(f"({AXES}).length > 2")
        seen["axes"] = await page.run(AXES)
        seen["charts"] = await page.text()
        await _keep(page, folder / "mlflow-parallel.png")
    async with browser(1500, 1350) as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        await page.open(f"{uri}/#/compare-runs?runs={ids}&experiments={experiment}")
        await page.wait_for_text("Parallel Coordinates Plot", "Run details", *names)
        await page.wait(f"({AXES}).length > 1")
        seen["compared_axes"] = await page.run(AXES)
        seen["compared"] = await page.text()
        await _keep(page, folder / "mlflow-compare.png")
    return seen


async def _keep(page: Page, file: Path) -> None:
    """A picture, when what moves has come to rest."""
    await asyncio.sleep(3)
    await page.picture(file)


@pytest.mark.long
@pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")
def test_the_pages_of_mlflow_show_configurations_side_by_side(tmp_path: Path) -> None:
    opened = sweep_in(tmp_path / "home", "search.trials=3", "search.seeds=2")
    task = {"task": {"name": "toy-nli", "version": 1}}
    path = (Stage("target", task, {"train": "a" * 64}, 0, None, "target"),)
    tracker = opened.begun()
    for value in (0.5, 0.6, 0.8, 0.9, 0.7, 0.6):
        lived(opened, tracker, value, path)
    opened.end(tracker)
    with served(opened.home) as uri:
        seen = asyncio.run(look(uri, opened.home, "tracked", tmp_path))

    parameters = ["model", "target.hybrid.ratio"]
    scores = ["objective", "test/accuracy/mean", "test/accuracy/mean_without_source"]
    assert seen["names"] == [
        "toy:4x64 ratio=0.6126", "toy:4x64 ratio=0.1389", "toy:4x64 ratio=0.6787",
    ]  # fmt: skip
    shown = {"Run Name", "objective", "sd/objective", "seeds/complete", *parameters}
    assert shown <= set(seen["headers"]), "without scrolling"
    assert len(seen["axes"]) == len(parameters) + len(scores)
    for name in (*parameters, *scores):
        assert any(_is_short_for(name, axis) for axis in seen["axes"]), name
    # A parameter that all of them share is no axis here.
    assert {"target.hybrid.ratio", "objective"} <= set(seen["compared_axes"])
    for text in (*parameters, *scores, "toy:"):
        assert text in seen["compared"]
    assert all((tmp_path / f"mlflow-{name}.png").stat().st_size > 20_000
               for name in ("runs", "parallel", "compare"))  # fmt: skip


@pytest.mark.long
def test_the_address_is_printed_when_the_server_listens_and_ends_with_its_command(
    tmp_path: Path,
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "xlt_ray", "ui", "--port", str(port)]
    environment = {**os.environ, "XLT_HOME": str(tmp_path / "home")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        uri = f"http://127.0.0.1:{port}"
        assert any(uri in line for line in ui.stdout)
        assert answers(uri)
        again = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (again.returncode, again.stdout) == (2, "")
        assert f"port {port} is in use; name another one" in again.stderr
        ui.terminate()
        assert ui.wait(30) == 0
    assert not answers(uri)


def _is_short_for(name: str, axis: str) -> bool:
    """Whether an axis, which has room for some letters, is called by this name."""
    first, dots, last = axis.partition("...")
    return name.startswith(first) and name.endswith(last) if dots else name == axis


if __name__ == "__main__":
    given_home, given_name, given_folder = sys.argv[1:]
    with served(Home(Path(given_home).absolute())) as address:
        pages = look(address, Home(Path(given_home).absolute()), given_name, Path(given_folder))
        print(json.dumps(asyncio.run(pages), indent=1))
