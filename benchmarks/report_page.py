"""How long the report of a large sweep takes to write, and its page to be seen.

    python -m benchmarks.report_page [--trials 1000] [--languages 90] [--folder DIR]

makes a ledger and a store of made-up results (1,000 trials, each with 90 languages x 2 metrics x 2
splits = 360 scores), writes the report, and opens its page in headless Chromium: time to first
paint, to first contentful paint, and until everything is loaded, the median of several starts with
an empty profile. Beside it, in the same run, the same scores as ``pandas.DataFrame.to_html``.
Another run with the same folder reuses its results. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

from tests.sample_results import METRICS, commit, facts_of
from tests.two_models import bounds
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, load_ledger, open_ledger
from xlt_ray.report.page import write_report
from xlt_ray.report.results import Results
from xlt_ray.store.record import Score
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore

SWEEP = """
name: many
data: {source: toy}
model: {choice: ["toy:2x64", "toy:4x64"]}
intermediate: {choice: [null, {task: toy-paraphrase, size: {choice: [500, 2000, 8000]}}]}
target:
  task: toy-nli
  source_language: l000
  size: 8000
  fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}
  hybrid: {ratio: {float: [0.0, 1.0]}}
  learning_rate: {float: [1.0e-5, 1.0e-4], log: true}
objective: {metric: accuracy}
evaluate: {dev: all}
search: {sampler: random, trials: CONFIGURATIONS, seeds: SEEDS, seed: 5, training_seed: 5}
"""
PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const paints = Object.fromEntries(
    performance.getEntriesByType("paint").map(paint => [paint.name, paint.startTime]));
  const [page] = performance.getEntriesByType("navigation");
  fetch("http://127.0.0.1:PORT/", {method: "POST", mode: "no-cors", body: JSON.stringify({...paints,
    loaded: page.loadEventStart, elements: document.getElementsByTagName("*").length})});
}, 500));
</script></head>"""


def scores_of(languages: list[str], good: float, draw: random.Random) -> tuple[Score, ...]:
    def value(place: int) -> float:
        return round(good - 0.3 * place / len(languages) + draw.gauss(0, 0.012), 4)

    return tuple(
        Score("toy-nli", language, split, metric, value(place), 400)
        for split in ("dev", "test")
        for place, language in enumerate(languages)
        for metric in METRICS
    )


def make(home: Home, num_trials: int, languages: list[str], seeds: int) -> None:
    """A finished sweep with this many trials."""
    text = SWEEP.replace("CONFIGURATIONS", str(num_trials // seeds)).replace("SEEDS", str(seeds))
    sweep, facts = sweep_of(parse_document(text, "many.yaml")), facts_of(languages)
    ledger, store = open_ledger(home, sweep), StageStore(home.stages)
    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        view = ledger.trial(asked_trial.number)
        trial = sweep.trial_of(dict(view.assignment), bounds)
        draw = random.Random(view.number)
        layer = getattr(trial.target.fusion, "layer", 0)
        good = 0.6 + 0.02 * layer + 0.05 * trial.target.hybrid.ratio
        uses = []
        for stage in path_of(trial, facts, seed=view.seed, shared_seed=5)[1:]:
            reused = stage in store
            if not reused:
                is_last = stage.kind == "evaluate"
                commit(store, stage, scores_of(languages, good, draw) if is_last else ())
            examples = 0 if reused else stage.num_examples
            uses.append(StageUse(stage.kind, stage.key, stage.label, reused, examples, 1.0))
        ledger.set_stages(view.number, uses)
        ledger.tell_complete(view.number, good + draw.gauss(0, 0.012))


class _Receiver(BaseHTTPRequestHandler):
    """Receives what the page measures."""

    posts: ClassVar[list[dict[str, float]]] = []

    def do_POST(self) -> None:
        self.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def painted(page: Path, num_starts: int) -> dict[str, Any]:
    """Milliseconds from the start of navigation, the median of several starts."""
    text, starts = page.read_text(encoding="utf-8"), []
    with tempfile.TemporaryDirectory() as name, HTTPServer(("127.0.0.1", 0), _Receiver) as server:
        server.timeout = 240
        probe = Path(name) / "page.html"
        script = PROBE.replace("PORT", str(server.server_port))
        probe.write_text(text.replace("</head>", script, 1), encoding="utf-8")
        for number in range(num_starts):
            command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                       "--window-size=1280,900", "--remote-debugging-port=0",
                       f"--user-data-dir={name}/{number}", f"file://{probe}"]  # fmt: skip
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen(command, **quiet) as browser:
                server.handle_request()
                browser.terminate()
            starts.append(_Receiver.posts.pop())
    medians = {
        mark: round(statistics.median(start[mark] for start in starts)) for mark in starts[0]
    }
    return medians | {"megabytes": round(page.stat().st_size / 1e6, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--languages", type=int, default=90, help="scores: four in each")
    parser.add_argument("--seeds", type=int, default=1, help="of a configuration")
    parser.add_argument("--starts", type=int, default=5, help="of the browser")
    parser.add_argument("--folder", type=Path, help="kept, and reused if it exists")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        home = Home((arguments.folder or Path(aside)).absolute())
        languages = [f"l{number:03d}" for number in range(arguments.languages)]
        began = time.monotonic()
        if not home.ledger_journal("many").exists():
            make(home, arguments.trials, languages, arguments.seeds)
        made, busy = time.monotonic(), time.process_time()
        ledger = load_ledger(home, "many")
        groupings = {
            sort: {
                f"{sort} {place}": languages[place::number]
                for place in range(min(number, len(languages)))
            }
            for sort, number in (("family", 9), ("script", 4), ("resources", 3))
        }
        page = write_report(home, ledger, StageStore(home.stages), groupings)
        written, busy = time.monotonic(), time.process_time() - busy
        scores = Results(home, "many").scores
        test = scores[scores["split"].isin(["dev", "test"]) & (scores["stage"] == "evaluate")]
        plain = page.with_name("plain.html")
        table = test.pivot_table(
            index="number", columns=["split", "metric", "language"], values="value"
        )
        head = "<!doctype html><html><head><title>plain</title></head><body>"
        plain.write_text(f"{head}{table.to_html()}</body></html>", encoding="utf-8")
        print(
            json.dumps(
                {
                    "trials": len(table),
                    "scores_each": table.shape[1],
                    "made_s": round(made - began, 1),
                    "written_s": round(written - made, 1),
                    "written_cpu_s": round(busy, 1),
                    "report": painted(page, arguments.starts),
                    "pandas": painted(plain, arguments.starts),
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
