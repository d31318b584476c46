"""How long the report of a large sweep takes to write, and its page to be seen.

    python -m benchmarks.report_page [--trials 1000] [--languages 90] [--folder DIR]

makes a ledger and a store of made-up results with the classes that a sweep uses (1,000 trials, each
with 90 languages x 2 metrics x 2 splits = 360 scores), writes its report, and opens the page in
headless Chromium: time to first paint, to first contentful paint, and until everything is loaded,
the median of several starts with an empty profile. Beside it, in the same run, the plain way: the
same test scores as ``pandas.DataFrame.to_html``. A second run with the same folder uses what is
there. Prints one JSON object.
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

from tests.made_up import METRICS, Told, commit, facts_of
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
    performance.getEntriesByType("paint").map(one => [one.name, one.startTime]));
  const [page] = performance.getEntriesByType("navigation");
  fetch("http://127.0.0.1:PORT/", {method: "POST", mode: "no-cors", body: JSON.stringify({...paints,
    loaded: page.loadEventStart, elements: document.getElementsByTagName("*").length})});
}, 500));
</script></head>"""


def describe(code: str) -> Told:
    number = int(code[1:])
    return Told(
        f"Language {number}",
        f"Family {number % 9}",
        ("Latn", "Cyrl", "Arab", "Deva")[number % 4],
        ("high", "medium", "low")[number % 3],
    )


def scores_of(languages: list[str], good: float, draw: random.Random) -> tuple[Score, ...]:
    return tuple(
        Score(
            "toy-nli",
            language,
            split,
            metric,
            round(good - 0.3 * place / len(languages) + draw.gauss(0, 0.012), 4),
            400,
        )
        for split in ("dev", "test")
        for place, language in enumerate(languages)
        for metric in METRICS
    )


def make(home: Home, num_trials: int, languages: list[str], seeds: int) -> None:
    """A finished sweep of so many trials."""
    text = SWEEP.replace("CONFIGURATIONS", str(num_trials // seeds)).replace("SEEDS", str(seeds))
    sweep, facts = sweep_of(parse_document(text, "many.yaml")), facts_of(languages)
    ledger, store = open_ledger(home, sweep), StageStore(home.stages)
    while (ticket := ledger.ask(sweep, bounds)) is not None:
        view = ledger.trial(ticket.number)
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


def painted(page: Path, starts: int) -> dict[str, Any]:
    """Milliseconds from the start of navigation, the median of several starts."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, HTTPServer(("127.0.0.1", 0), _Ear) as ear:
        probe = Path(folder) / "page.html"
        script = PROBE.replace("PORT", str(ear.server_port))
        probe.write_text(text.replace("</head>", script, 1), encoding="utf-8")
        found = [_start(f"file://{probe}", Path(folder) / f"{turn}", ear) for turn in range(starts)]
    return {name: round(statistics.median(one[name] for one in found)) for name in found[0]} | {
        "megabytes": round(page.stat().st_size / 1e6, 2)
    }


class _Ear(BaseHTTPRequestHandler):
    """Hears what the page tells of itself."""

    heard: ClassVar[list[dict[str, float]]] = []

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _start(address: str, profile: Path, ear: HTTPServer) -> dict[str, float]:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--window-size=1280,900", "--remote-debugging-port=0",
               f"--user-data-dir={profile}", address]  # fmt: skip
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ear.timeout = 240
        ear.handle_request()
        return _Ear.heard.pop()
    finally:
        browser.terminate()
        browser.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--languages", type=int, default=90, help="scores: four in each")
    parser.add_argument("--seeds", type=int, default=1, help="of a configuration")
    parser.add_argument("--starts", type=int, default=5, help="of the browser")
    parser.add_argument("--folder", type=Path, help="kept, and used again where it is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        home = Home((asked.folder or Path(aside)).absolute())
        languages = [f"l{number:03d}" for number in range(asked.languages)]
        began = time.monotonic()
        if not home.ledger_journal("many").exists():
            make(home, asked.trials, languages, asked.seeds)
        made, busy = time.monotonic(), time.process_time()
        ledger = load_ledger(home, "many")
        page = write_report(home, ledger, StageStore(home.stages), describe_language=describe)
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
                    "report": painted(page, asked.starts),
                    "pandas": painted(plain, asked.starts),
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
