"""``Results``: frames for notebooks, light to import, read-only, and as fresh as one asks for."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import xlt_ray
from tests.unit.report.conftest import LANGUAGES, SWEEP, Finished, end, finished, sized
from xlt_ray import Results, load_sweep
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.report import frames

GUIDE = Path(__file__).parents[3] / "docs" / "results.md"


@pytest.fixture(scope="module")
def results(quick: Finished) -> Results:
    return Results(quick.home.root, "quick")


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys, xlt_ray\n"
        "assert {'Results', 'load_sweep'} <= set(dir(xlt_ray))\n"
        "heavy = {'pandas', 'pydantic', 'optuna', 'torch', 'ray', 'yaml', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "xlt_ray.Results\n"
        "assert 'optuna' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_said_so() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = xlt_ray.nothing  # type: ignore[attr-defined]


def test_load_sweep_reads_a_sweep_file(tmp_path: Path) -> None:
    file = tmp_path / "quick.yaml"
    file.write_text(SWEEP)
    assert load_sweep(file).name == "quick"


def test_trials_have_a_row_each_with_parameters_and_numbers_that_count(results: Results) -> None:
    trials = results.trials
    assert list(trials["number"]) == list(range(48))
    assert trials["objective"].dtype == "float64"
    assert trials.loc[trials["state"] == "complete", "objective"].notna().all()
    assert {"model", "intermediate.size", "target.hybrid.ratio"} <= set(trials.columns)


def test_parameters_that_are_numbers_have_columns_of_numbers(results: Results) -> None:
    trials = results.trials
    assert trials["intermediate.size"].dtype == "Int64"
    assert trials["intermediate.size"].isna().any()
    assert trials["target.hybrid.ratio"].dtype == "float64"
    assert trials["model"].dtype == "object"


def test_the_table_has_the_best_configuration_first_with_its_scores(results: Results) -> None:
    table, best = results.table(), results.best
    assert best is not None
    assert table.index[0] == best.configuration
    assert table["objective"].iloc[0] == pytest.approx(best.objective)
    final = results.scores.query("stage == 'evaluate' and split == 'test' and metric == 'accuracy'")
    of_best = final[final["configuration"] == best.configuration]
    for code in LANGUAGES:
        expected = of_best.loc[of_best["language"] == code, "value"].mean()
        assert table.loc[best.configuration, code] == pytest.approx(expected, nan_ok=True)
    with pytest.raises(LookupError, match="no scores of other: toy-nli"):
        results.table("other")


def test_a_notebook_shows_states_and_the_best_scores(results: Results) -> None:
    html = results._repr_html_()
    assert "<b>quick</b>: " in html
    assert "complete" in html
    assert html.count("<tr") == 1 + 1 + 10
    best = results.table()
    assert html.index(f"<th>{best.index[0]}</th>") < html.index(f"<th>{best.index[1]}</th>")


def test_figures_are_those_of_the_report_and_show_themselves(results: Results) -> None:
    from matplotlib.figure import Figure

    figures = [
        results.plot_languages(),
        results.plot_languages(2),
        results.plot_heat_map(),
        results.plot_parameter("intermediate.size"),
    ]
    for figure in figures:
        assert isinstance(figure, Figure)
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert figures[3].axes[0].get_xscale() == "log"
    shown = [text.get_text() for text in figures[2].axes[0].get_yticklabels()]
    assert shown[:2] == [str(number) for number in results.table().index[:2]]
    with pytest.raises(LookupError, match=r"does not search over target\.size: model"):
        results.plot_parameter("target.size")
    with pytest.raises(LookupError, match=r"evaluate\.diagnostics"):
        results.plot_layers()
    with pytest.raises(LookupError, match="test scores of configuration 5"):
        results.plot_languages(5)


def test_scores_have_one_row_for_each_of_their_keys(results: Results) -> None:
    keys = ["number", "task", "language", "metric", "split", "stage", "examples"]
    assert not results.scores.duplicated(keys).any()
    final = results.scores[results.scores["stage"] == "evaluate"]
    assert set(final["language"]) == set(LANGUAGES)
    assert set(final["split"]) == {"dev", "test"}


def test_scores_tell_the_steps_of_trainings(results: Results) -> None:
    scores = results.scores
    number = int(results.trials.loc[results.trials["state"] == "complete", "number"].iloc[0])
    mine = scores[(scores["number"] == number) & (scores["metric"] == "accuracy")]
    curve = mine[mine["stage"] == "target"]
    assert list(curve["step"]) == [100, 200, 300, 400]
    assert set(curve["split"]) == {"dev"}
    assert set(mine.loc[mine["stage"] == "evaluate", "step"]) == {400}


def test_unfinished_trainings_show_what_the_ledger_heard_of_them(results: Results) -> None:
    pruned = results.trials.loc[results.trials["state"] == "pruned", "number"]
    scores = results.scores[results.scores["number"].isin(pruned)]
    heard = scores[scores["stage"] == "target"]
    assert set(heard["number"]) == set(pruned)
    assert heard["step"].isna().all()
    assert set(heard["language"]) == {"qaa"}
    assert "evaluate" not in set(scores["stage"])


def test_costs_of_sharing_add_up(results: Results) -> None:
    costs = results.costs[results.costs["state"] == "complete"]
    assert (costs["examples_alone"] >= costs["examples"]).all()
    assert (costs["examples_alone"] > costs["examples"]).any(), "some stages were reused"
    assert costs["seconds_alone"].notna().all()
    assert (costs["worker_hours"] * 3600).to_list() == pytest.approx(costs["seconds"].to_list())


def test_stages_say_who_made_them(results: Results) -> None:
    made = results.stages[~results.stages["reused"].astype(bool)]
    assert (made["made_by"] == "quick/" + made["number"].astype(str)).all()


def test_frames_have_the_columns_that_the_guide_names(results: Results) -> None:
    for name in ("trials", "scores", "stages", "costs"):
        columns = getattr(frames, f"{name[:-1].upper()}_COLUMNS")
        assert list(getattr(results, name).columns)[: len(columns)] == list(columns)
        (line,) = [
            line for line in GUIDE.read_text().splitlines() if line.startswith(f"| `{name}`")
        ]
        assert set(re.findall(r"`(\w+)`", line)) >= set(columns) - {"number"}, name


def test_nothing_is_written(quick: Finished) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        files = [file for file in quick.home.root.rglob("*") if file.is_file()]
        return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}

    before = state()
    seen = Results(quick.home.root, "quick")
    assert len(seen.scores) + len(seen.stages) + len(seen.trials) + len(seen.costs) > 100
    assert state() == before


def test_frames_tell_of_one_moment_until_they_are_refreshed(small: Finished) -> None:
    results = Results(small.home, "quick")
    before = len(results.trials)
    scored = results.scores["number"].nunique()
    more = sized(4)
    finished(small.home, more)
    assert len(results.trials) == before
    assert len(results.costs) == before
    assert len(results.refresh().trials) == before + 1
    assert results.scores["number"].nunique() == scored + 1


def test_a_running_sweep_can_be_read(tmp_path: Path) -> None:
    from tests.two_models import bounds
    from xlt_ray.config.sweep import sweep_of
    from xlt_ray.config.yaml import parse_document
    from xlt_ray.ledger import open_ledger
    from xlt_ray.store.store import StageStore

    home, sweep = Home(tmp_path), sweep_of(parse_document(SWEEP, "quick.yaml"))
    found = Finished(home, sweep, open_ledger(home, sweep), StageStore(home.stages))
    results = Results(home, "quick")
    for frame in (results.trials, results.scores, results.stages, results.costs):
        assert frame.empty
    first, second = found.ledger.ask(sweep, bounds), found.ledger.ask(sweep, bounds)
    assert first is not None
    assert second is not None
    end(found, found.ledger.trial(first.number))
    # A driver that writes its next line just now.
    with home.ledger_journal("quick").open("a") as journal:
        journal.write('{"op_code": 5, "worker')
    results.refresh()
    assert list(results.trials["state"]) == ["complete", "queued", "queued"]
    assert set(results.scores["number"]) == {0}


def test_a_sweep_that_is_not_there_is_an_error_that_says_which_are(quick: Finished) -> None:
    with pytest.raises(LedgerError, match="did you mean quick"):
        Results(quick.home.root, "quickly")


def test_without_a_home_it_is_the_environments(
    quick: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_HOME", str(quick.home.root))
    assert len(Results(None, "quick").trials) == 48


def test_example_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SWEEP.replace("name: quick", "name: quickstart")
    finished(Home(tmp_path / "xlt-home"), text)
    (tmp_path / "quickstart.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.S | re.M))
    names: dict[str, object] = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    table = names["table"]
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == sorted(LANGUAGES)
    assert names["difference"] is not None
    assert names["budget"] == 4 * 3


def test_a_clock_that_is_put_forward_makes_no_trial_longer(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = next(trial for trial in results.snapshot.trials if trial.state == "complete")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        night = datetime.datetime(2026, 3, 29, 1, 30)
        moved = replace(view, started=night, ended=night + datetime.timedelta(hours=2))
        costs = frames.costs_frame(replace(results.snapshot, trials=(moved,)))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert costs["wall_s"].iloc[0] == 3600
