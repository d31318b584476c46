"""Merges of a small sweep's trials, trained, merged and scored in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from xlt_ray.cli import app
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError, XltError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, load_ledger, open_ledger
from xlt_ray.ledger.merges import merges_of
from xlt_ray.store.gc import Inventory, plan
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.merge_trials import seed_groups
from xlt_ray.sweep.quota import Uses
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.runner import make_alone
from xlt_ray.sweep.scheduler import objective_value
from xlt_ray.sweep.tasks import Planner

SMALL = """
name: small
data: {source: toy}
model: toy:3x32
align:
  choice:
    - null
    - {objective: mlm, languages: [qaa, qab], steps: 3, batch_size: 8, max_length: 32}
target:
  task: toy-paraphrase
  source_language: qaa
  size: 64
  epochs: 1
  evaluations: 1
  batch_size: 16
  max_length: 32
  learning_rate: 1e-3
  head_seed: 5
evaluate: {languages: [qab, qac], examples: 20}
objective: {metric: accuracy}
search: {sampler: grid, trials: 2, seeds: 2}
"""


def trained(root: Path, *overrides: str) -> Ledger:
    """A finished sweep whose trials were made one after another, without Ray."""
    home, sweep = Home(root), sweep_of(parse_document(SMALL, "small.yaml", overrides))
    ledger, store = open_ledger(home, sweep), StageStore(home.stages)
    planner = Planner(sweep, facts_of(sweep))
    while (asked := ledger.ask(sweep, planner.facts.model_bounds)) is not None:
        path = planner.task(asked, home).path
        list(make_alone(sweep, home, trial=asked.number))
        uses = [
            StageUse(stage.kind, stage.key, stage.label, False) for stage in stages_to_run(path)
        ]
        ledger.set_path(asked.number, [use.key for use in uses])
        ledger.set_stages(asked.number, uses)
        scores = store[path[-1]].scores
        ledger.tell_complete(asked.number, objective_value(scores, sweep.settings.objective, "qaa"))
    return load_ledger(home, sweep.name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    assert [view.state for view in trained(root).trials()] == ["complete"] * 4
    return root


@pytest.fixture
def home(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    root = shutil.copytree(finished, tmp_path / "home")
    monkeypatch.setenv("XLT_HOME", str(root))
    return Home(root)


def merge(*options: str) -> list[dict[str, Any]]:
    """What the command prints as JSON."""
    result = CliRunner().invoke(app, ["merge", "small", *options, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def weights(home: Home, key: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name in ("model.safetensors", "network.safetensors"):
        yield from sorted(load_file(StageStore(home.stages).folder(key) / name).items())


def target_of(home: Home, number: int) -> str:
    view = load_ledger(home, "small").trial(number)
    return next(stage.key for stage in view.stages if stage.kind == "target")


def record(home: Home, key: str) -> StageRecord:
    found = StageStore(home.stages).record(key)
    assert found is not None
    return found


def test_seeds_become_their_mean_which_is_scored_in_every_language(home: Home) -> None:
    rows = merge("--seeds")
    assert len(rows) == 2
    for row in rows:
        first, second = (dict(weights(home, target_of(home, n))) for n in row["trials"])
        merged = dict(weights(home, row["merge"]))
        assert merged.keys() == first.keys()
        for name, tensor in merged.items():
            assert torch.equal(tensor, (first[name] + second[name]) / 2), name
        assert any(not torch.equal(first[name], second[name]) for name in merged)
        assert set(row["scores"]) == {"qaa", "qab", "qac"}
        assert row["gain"] == pytest.approx(
            sum(row["scores"][code] - row["members"][code] for code in ("qab", "qac")) / 2
        )
        scores = record(home, row["evaluation"]).scores
        assert {(score.language, score.split) for score in scores} >= {("qaa", "dev")}
    shown = CliRunner().invoke(app, ["trials", "small"]).output
    assert "mean, seeds of configuration 0" in shown
    assert CliRunner().invoke(app, ["report", "small"]).exit_code == 0
    page = (home.reports("small") / "index.html").read_text(encoding="utf-8")
    assert "mean, seeds of configuration 0" in page
    assert all(f"{100 * row['gain']:+.1f}" in page for row in rows)


def test_again_or_after_a_kill_nothing_is_made_twice(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xlt_ray.training.walk as walk

    write = walk.write_merge

    def killed(stage: Any, context: Any, folder: Path) -> None:
        write(stage, context, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(walk, "write_merge", killed)
    with pytest.raises((KeyboardInterrupt, AssertionError, SystemExit)):
        merge("--seeds", "--top", "1")
    assert merges_of(home, "small") == []
    monkeypatch.setattr(walk, "write_merge", write)
    (row,) = merge("--seeds", "--top", "1")
    made = {name: tensor.clone() for name, tensor in weights(home, row["merge"])}
    # A merge needs its members no more.
    for number in row["trials"]:
        shutil.rmtree(Path(home.stages) / "stages" / target_of(home, number))
    num_stages = len(StageStore(home.stages))
    assert merge("--seeds", "--top", "1") == [row]
    assert len(StageStore(home.stages)) == num_stages
    # If it is lost, its members are trained again, and it has the same bits.
    for key in (row["merge"], row["evaluation"]):
        shutil.rmtree(Path(home.stages) / "stages" / key)
    assert merge("--seeds", "--top", "1") == [row]
    assert all(torch.equal(made[name], tensor) for name, tensor in weights(home, row["merge"]))


def test_a_greedy_soup_is_never_worse_than_the_best_trial(home: Home) -> None:
    greedy = {row["merge"]: row for row in merge("--seeds", "--greedy")}
    assert all(row["objective"] >= row["best_objective"] for row in greedy.values())
    groups = seed_groups(load_ledger(home, "small"), None)
    means = merge("--seeds")
    assert len(groups) == len(means) == 2
    for row in means:
        # Of two trials the soup is their mean, where that is as good as the better one.
        assert (row["merge"] in greedy) == (row["objective"] >= row["best_objective"])


def test_ties_arithmetic_and_layers_of_a_language_model(home: Home) -> None:
    ledger = load_ledger(home, "small")
    plain = [
        view.number
        for view in ledger.trials()
        if "null" in str(view.assignment["align"]) or view.assignment["align"] is None
    ]
    aligned = [view.number for view in ledger.trials() if view.number not in plain]
    assert len(plain) == len(aligned) == 2
    (swapped,) = merge("--method", "layer-swap", "--trial", str(plain[0]), "--language-trial",
                       str(aligned[0]))  # fmt: skip
    language = next(stage.key for stage in ledger.trial(aligned[0]).stages if stage.kind == "align")
    task, spoken = (
        dict(weights(home, target_of(home, plain[0]))),
        load_file(StageStore(home.stages).folder(language) / "model.safetensors"),
    )
    for name, tensor in weights(home, swapped["merge"]):
        is_swapped = "embeddings" in name or ".layer.0." in name or ".layer.2." in name
        assert torch.equal(tensor, spoken[name] if is_swapped else task[name]), name
    # One member and all of its changes: that member, but for rounding.
    rows = merge("--seeds", "--method", "ties", "--density", "1", "--scale", "0")
    started = [
        dict(weights(home, row["merge"])) for row in rows if row["method"]["method"] == "ties"
    ]
    rows = merge("--seeds", "--method", "arithmetic", "--scale", "0.5")
    for base, row in zip(
        started, [row for row in rows if row["method"]["method"] == "arithmetic"], strict=True
    ):
        first, second = (dict(weights(home, target_of(home, n))) for n in row["trials"])
        for name, tensor in weights(home, row["merge"]):
            # Half of the sum of two changes is the mean.
            torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
            assert base[name].shape == tensor.shape
    # Configurations that began with different encoders have no common base, but a mean.
    with pytest.raises(LedgerError, match="they began with different encoders"):
        merge("--top", "2", "--method", "ties")
    assert len(merge("--top", "2")) == len(rows) + 1


def test_heads_that_began_with_different_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_HOME", str(tmp_path))
    trained(tmp_path, "align=null", "target.head_seed=null", "target.size=16", "search.trials=1")
    with pytest.raises(LedgerError, match=r"heads began with different weights .seeds 0 and 1."):
        merge("--seeds")
    for options in (("--greedy",), ("--seeds", "--scale", "2"), ("--trial", "0"),
                    ("--seeds", "--method", "ties", "--density", "2")):  # fmt: skip
        with pytest.raises(XltError) as caught:
            merge(*options)
        assert caught.value.exit_code == 2


def test_garbage_collection_keeps_merges_but_not_their_members(home: Home) -> None:
    (row,) = merge("--seeds", "--top", "1")
    removed = plan(
        Inventory(StageStore(home.stages)).look(),
        Uses(home).roots(is_store_shared=False),
        all_but_best=True,
    )
    gone = {removal.entry.key for removal in removed.removals}
    best = load_ledger(home, "small").best()
    assert best is not None
    assert {row["merge"], row["evaluation"]}.isdisjoint(gone)
    others = [number for number in row["trials"] if number != best.trial.number]
    assert {target_of(home, number) for number in others} <= gone
