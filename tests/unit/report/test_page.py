"""The page: one file that works offline, says everything, and is the same for the same inputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.report.conftest import SWEEP, Finished, csv_rows, finished, sized
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger, open_ledger
from xlt_ray.report.page import sharing_of, stage_rows
from xlt_ray.store.store import StageStore


@pytest.fixture(scope="module")
def page(quick: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick.report(tmp_path_factory.mktemp("page"))


@pytest.mark.slow
def test_another_process_in_another_zone_writes_the_same_bytes(
    quick: Finished, page: Path, tmp_path: Path
) -> None:
    code = """
import sys
from pathlib import Path
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger
from xlt_ray.report.page import write_report
from xlt_ray.store.store import StageStore
there = Home(Path(sys.argv[1]))
ledger, store = load_ledger(there, "quick"), StageStore(there.stages)
write_report(Home(Path(sys.argv[2])), ledger, store)
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    command = [sys.executable, "-c", code, str(quick.home.root), str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[3])
    again = Home(tmp_path).reports("quick")
    assert sum(file.is_file() for file in again.rglob("*")) > 10
    for file in (file for file in page.parent.rglob("*") if file.is_file()):
        assert (again / file.relative_to(page.parent)).read_bytes() == file.read_bytes(), file


def test_page_works_without_a_network(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "@import" not in text


def test_page_says_rule_states_and_causes(page: Path) -> None:
    text = page.read_text()
    for part in ("dev set of", "pruned", "failed", "running", "memory", "Aranic", "Fozhi"):
        assert part in text, part


def test_importances_stand_beside_what_chance_reaches(page: Path) -> None:
    text = page.read_text()
    assert "the 95 % of the null" in text
    assert "its parameters are judged given that one training" in text
    shares = list(csv_rows(page.parent / "tables/toy-nli-qaa-languages-importance.csv"))
    below = [share for share in shares if share["is_above_chance"] == "False"]
    assert 0 < len(below) < len(shares), "the parameters of this sweep matter, but not all of them"
    assert text.count("; not above chance, ") == len(below)
    assert text.count("; chance ") == len(shares) - len(below)


def test_what_comes_from_trials_is_escaped(page: Path) -> None:
    text = page.read_text()
    assert "full <8 GiB>" not in text
    assert "full &lt;8 GiB&gt;" in text


def test_every_searched_parameter_has_a_figure_with_its_rows(page: Path) -> None:
    for parameter in ("model", "intermediate.size", "target.fusion.layer", "target.hybrid.ratio"):
        stem = page.parent / "figures" / f"toy-nli-qaa-{parameter}"
        for ending in (".svg", ".png", ".csv"):
            assert Path(f"{stem}{ending}").stat().st_size > 50


def links_of(page: Path) -> dict[str, Any]:
    text = page.read_text()
    (found,) = re.findall(r'<script type="application/json" id="links">(.*?)</script>', text, re.S)
    tree: dict[str, Any] = json.loads(found)
    return tree


def test_every_number_of_the_tables_leads_to_its_trials_and_they_to_stages(
    quick: Finished, page: Path
) -> None:
    text, links = page.read_text(), links_of(page)
    numbers = 0
    for inside in re.findall(r'(<table class="[^"]*\bscores".*?)</table>', text, re.S):
        (of_table,) = re.findall(r'^<table [^>]*data-t="(.*?)"', inside)
        heads = [
            re.findall(r' data-w="(.*?)"', head) for head in re.findall(r"<th\b[^>]*>", inside)
        ]
        for row in re.findall(r"<tr data-c.*?</tr>", inside, re.S):
            (configuration,) = re.findall(r'^<tr data-c="(\d+)"', row)
            stem = (re.findall(r'^<tr [^>]*data-t="(.*?)"', row) or [of_table])[0]
            assert f'id="configuration-{configuration}"' in text
            trials = links["scores"][stem][configuration]
            for cell, head in zip(row.split("<td")[1:], heads, strict=True):
                if "<a>" not in cell:
                    continue
                numbers += 1
                assert trials
                known = {"dev", "gap", *links["groups"][stem], *links["groups"][stem]["all"]}
                assert unescape(*head) in known
    assert numbers > 100
    for number, trial in links["trials"].items():
        assert f'id="trial-{number}"' in text
        for _, key, _, _ in trial["stages"]:
            assert f'id="stage-{key}"' in text
    languages = links["groups"]["toy-nli-qaa-languages"]["all"]
    first, *shown = links["scores"]["toy-nli-qaa-languages"]["0"][0]
    view = quick.ledger.trial(first)
    assert view.evaluation_key is not None
    record = quick.store.record(view.evaluation_key)
    assert record is not None
    for score in record.scores:
        if (score.split, score.metric) == ("test", "accuracy"):
            assert shown[languages.index(score.language)] == score.value


def test_trials_show_their_mlflow_runs(small: Finished, tmp_path: Path) -> None:
    for view in small.ledger.trials():
        small.ledger.set_run_id(view.number, f"run{view.number}of3")
    again = replace(small, ledger=load_ledger(small.home, "quick"))
    page = again.report(tmp_path / "out")
    text = page.read_text()
    assert '<a class="run">run0of3</a>' in text
    assert '<main data-mlflow="http://127.0.0.1:5000">' in text
    assert links_of(page)["trials"]["0"]["run"] == "run0of3"
    assert "run0of3" not in (page.parent / "tables" / "trials.csv").read_text()


def test_nothing_in_a_name_ends_the_script() -> None:
    from xlt_ray.report.page import _script

    assert "</" not in _script({"run": "</script><script>alert(1)"})
    assert json.loads(_script({"a": "</x>"})) == {"a": "</x>"}


def test_every_table_of_the_page_has_its_rule_above_it(
    page: Path, oracle: Finished, tmp_path: Path
) -> None:
    for text, rule in (
        (page.read_text(), "accuracy on the dev set of qaa"),
        (oracle.report(tmp_path).read_text(), "ORACLE SELECTION: not zero-shot"),
    ):
        captions = re.findall(r"<caption>.*?</caption>", text, re.S)
        of_scores = [caption for caption in captions if "Configurations are" in caption]
        assert all(rule in score for score in of_scores)
        of_what = re.findall(r'<table class="[^"]*(?:scores|effects)[^"]*".*?</table>', text, re.S)
        # The rules side by side name a rule in every row.
        others = [subject for subject in of_what if "<th>rule</th>" not in subject]
        assert len(others) == len(of_what) - 1 >= 3, "languages, groups, effects, importance"
        assert all("<caption><span>" in title and "Configurations are" in title for title in others)


def test_tables_are_there_as_latex_and_csv(page: Path) -> None:
    stem = "toy-nli-qaa-languages"
    names = {file.name for file in (page.parent / "tables").iterdir()}
    assert {f"{stem}.tex", f"{stem}.csv", f"{stem}-groups.tex", f"{stem}-selection.tex",
            f"{stem}-selection.csv", f"{stem}-effects.csv", f"{stem}-effects.tex",
            f"{stem}-importance.csv", "trials.csv", "scores.csv", "stages.csv",
            "costs.csv", "intervals.csv"} == names  # fmt: skip
    for file in (page.parent / "tables").glob("*.tex"):
        text = file.read_text()
        panels = re.findall(
            r"\\begin\{longtable\}\{(\w+)\}(.*?)\\end\{longtable\}", text, re.DOTALL
        )
        assert panels
        for layout, panel in panels:
            lines = [line for line in panel.splitlines() if line.endswith("\\\\")]
            rows = [line for line in lines if not line.startswith(("\\caption", "\\multicolumn"))]
            # The head stands twice: on the first page and on those that follow.
            assert len(rows) > 2
            assert {line.count(" & ") + 1 for line in rows} == {len(layout)}, file.name


def test_every_figure_is_there_three_times_and_linked(page: Path) -> None:
    folder, text = page.parent / "figures", page.read_text()
    names = {file.stem for file in folder.glob("*.csv")}
    for about in (
        "size-curve",
        "hybrid-curve",
        "fusion-profile",
        "heat-map",
        "importance",
        "parallel",
        "pareto",
    ):
        assert f"toy-nli-qaa-{about}" in names
    assert "timeline" in names
    for name in names:
        for ending in ("svg", "png", "csv"):
            assert (folder / f"{name}.{ending}").stat().st_size > 20
            assert f'href="figures/{name}.{ending}"' in text
    drawn = re.findall(r'<figure.*?<svg viewBox=[^>]* role="img".*?</svg><figcaption', text)
    assert len(drawn) == len(names)
    ids = set(re.findall(r' id="([^"]+)"', text))
    used = set(re.findall(r'(?:<use href="|url\()#([^")]+)', text))
    assert used <= ids, "a letter or mark that is nowhere drawn"
    letters = re.findall(r'<path id="DejaVuSans[^"]*"', text)
    assert len(letters) == len(set(letters)), "figures share their letters"


def test_contents_name_every_part_and_the_moment_is_the_ledgers(page: Path) -> None:
    text = page.read_text()
    (contents,) = re.findall(r'<nav class="contents".*?</nav>', text, re.DOTALL)
    parts = re.findall(r'<h2 id="([^"]+)"', text)
    assert len(parts) >= 6
    assert re.findall(r'href="#([^"]+)"', contents) == parts
    assert re.search(r"Report by xlt-ray [\d.]+, as of \d{4}-\d\d-\d\d \d\d:\d\d UTC<", text)


def test_a_report_leaves_no_files_of_an_earlier_one(small: Finished, tmp_path: Path) -> None:
    stale = Home(tmp_path).reports("quick") / "figures" / "old.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    small.report(tmp_path)
    assert not stale.exists()


CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_sorts_filters_and_opens_in_a_browser(page: Path, tmp_path: Path) -> None:
    check = """<script>
const rows = () => [...document.querySelector("table.sortable").tBodies[0].rows];
const by = index => rows().map(row => row.cells[index].dataset.v).filter(v => v !== "").map(Number);
const button = document.querySelector("table.sortable th button");
button.click();
const down = by(0);
button.click();
const up = by(0);
const box = document.querySelector(".filter input");
box.value = "4x64 paraphrase";
box.dispatchEvent(new Event("input"));
const left = rows();
box.value = "";
box.dispatchEvent(new Event("input"));
const table = document.querySelector("table.sortable");
const place = [...table.tHead.rows[0].cells].findIndex(cell => cell.dataset.w === "qab");
rows().find(row => row.dataset.c === "0").cells[place].querySelector("a").click();
const open = document.getElementById("behind");
document.title = JSON.stringify({
  down: down.every((v, i) => !i || down[i - 1] >= v), up: up.every((v, i) => !i || up[i - 1] <= v),
  left: left.length, all: rows().length, match: left.every(row => row.textContent.includes("4x64")),
  open: open.open, mean: open.querySelector("p").textContent,
  trials: open.querySelectorAll("a[href^='#trial-']").length,
  stages: open.querySelectorAll("a[href^='#stage-']").length,
  fits: document.documentElement.scrollWidth <= innerWidth,
  effect: (() => {
    const link = document.querySelector("a[data-l]");
    link.click();
    return [Number(link.textContent), open.querySelectorAll("a[href^='#configuration-']").length];
  })(),
});
</script></body>"""
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", check))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               "--window-size=390,844",
               f"--user-data-dir={tmp_path / 'profile'}", f"file://{probe}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # type: ignore[arg-type]
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    seen = json.loads(unescape(title))
    assert seen["down"]
    assert seen["up"]
    assert 0 < seen["left"] < seen["all"] == 16
    assert seen["match"]
    assert (seen["open"], seen["trials"]) == (True, 3)
    assert re.fullmatch(
        r"mean of 3 seeds: [\d.]+, 95 % interval [\d.]+ to [\d.]+ \(Student's"
        r"(, given intermediate [\w -]+, which these seeds share)?\)",
        seen["mean"],
    )
    assert seen["stages"] >= 6
    assert seen["fits"], "a page that is wider than a phone; tables scroll inside it"
    number, listed = seen["effect"]
    assert number == listed > 0


def test_sweep_without_a_complete_trial_has_a_page(tmp_path: Path) -> None:
    sweep = sweep_of(parse_document(SWEEP, "quick.yaml"))
    home = Home(tmp_path)
    empty = Finished(home, sweep, open_ledger(home, sweep), StageStore(home.stages))
    assert "quick" in empty.report().read_text()


def test_sweep_in_which_nothing_was_shared_has_a_page(tmp_path: Path) -> None:
    assert finished(Home(tmp_path), sized(1)).report().exists()


def test_blocks_are_shown_by_what_they_are(tmp_path: Path) -> None:
    text = sized(4).replace(
        "fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}",
        "fusion: {choice: [{method: none}, {method: dlfa, layer: {int: [0, num_layers - 1]}}]}",
    )
    page = finished(Home(tmp_path), text).report(tmp_path / "out").read_text()
    for method in ("none", "dlfa"):
        assert re.search(rf"<td[^>]*>{method}</td>", page)
    assert '>{"method' not in page.partition("The resolved sweep")[0]


def test_no_password_of_a_place_is_in_any_file(tmp_path: Path) -> None:
    text = sized(1)
    text += "places: {tracking: 'http://ada:s3cret@mlflow:5000'}\n"
    page = finished(Home(tmp_path), text).report(tmp_path / "out")
    assert '<main data-mlflow="http://mlflow:5000">' in page.read_text(), "runs open there"
    files = [file for file in page.parent.rglob("*") if file.is_file()]
    assert not [file for file in files if b"s3cret" in file.read_bytes()]


def test_parameters_whose_paths_end_alike_have_their_whole_paths_as_heads(tmp_path: Path) -> None:
    text = sized(2)
    text = text.replace("  size: 8000\n", "  size: {choice: [4000, 8000]}\n").replace("null, ", "")
    page = finished(Home(tmp_path), text).report(tmp_path / "out")
    (table,) = (page.parent / "tables").glob("*-languages.tex")
    cells = re.split(r" & | \\\\\n", table.read_text())
    for head in ("intermediate.size", "target.size", "ratio"):
        assert f">{head}</button>" in page.read_text()
        assert head in cells


def test_stages_are_counted_once_a_use_and_what_others_made_is_saved() -> None:
    stages = pd.DataFrame(
        [
            {"number": 0, "key": "a", "kind": "align", "label": "a", "reused": True,
             "examples": 0, "seconds": 0.0, "coverage": ""},
            {"number": 0, "key": "b", "kind": "target", "label": "b", "reused": False,
             "examples": 30, "seconds": 3.0, "coverage": ""},
            {"number": 1, "key": "a", "kind": "align", "label": "a", "reused": True,
             "examples": 0, "seconds": 0.0, "coverage": ""},
            {"number": 1, "key": "b", "kind": "target", "label": "b", "reused": True,
             "examples": 0, "seconds": 0.0, "coverage": ""},
        ]
    )  # fmt: skip
    assert sharing_of(stages, {"a": 10, "b": 30}) == {
        "unique": 2, "uses": 4, "trained": 30, "saved": 50, "share": 50 / 80,
    }  # fmt: skip
    first, second = stage_rows(stages)
    assert (first["made_by"], first["uses"], first["examples"]) == (None, 2, 0)
    assert (second["made_by"], second["uses"], second["examples"]) == (0, 2, 30)
