"""The score that selected a configuration beside its fresh seeds."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.report.conftest import (
    LANGUAGES,
    NOWHERE_SCORED,
    SWEEP,
    Finished,
    bounds,
    end,
    finished,
)
from xlt_ray import cli
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger
from xlt_ray.report.comparison import candidate_of, compare, comparison_json
from xlt_ray.report.confirmation import (
    Confirmation,
    Confirmed,
    confirmation_frame,
    confirmation_of,
    winners,
)
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.stats import summary
from xlt_ray.sweep.confirm_winners import confirming

Both = tuple[Snapshot, Snapshot, list[int]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A sweep, the sweep that confirms its two best configurations, and which these are."""
    sweep = finished(Home(tmp_path_factory.mktemp("home")))
    return confirmed(sweep, top=2, seeds=4)


def confirmed(run: Finished, top: int, seeds: int) -> Both:
    """Run the winners of a sweep again on fresh seeds; one seed of the second fails."""
    snapshot = run.snapshot()
    chosen = winners(snapshot, top)
    used = [trial.seed for trial in snapshot.trials]
    spec = confirming(run.sweep, [view.assignment for view in chosen], used, seeds=seeds)
    again = Finished(run.home, spec, open_ledger(run.home, spec), run.store)
    while (asked := again.ledger.ask(spec, bounds)) is not None:
        view = again.ledger.trial(asked.number)
        if (view.configuration, view.repeat) == (1, 3):
            again.ledger.tell_failed(asked.number, "nan", "the loss is not a number")
        else:
            end(again, view)
    return snapshot, again.snapshot(), [view.configuration for view in chosen]


def row(confirmation: Confirmation, configuration: int, measure: str) -> Confirmed:
    (only,) = [
        row
        for row in confirmation.rows
        if (row.configuration, row.measure) == (configuration, measure)
    ]
    return only


def test_the_bias_is_what_selected_minus_the_mean_of_fresh_seeds(both: Both) -> None:
    snapshot, fresh, configurations = both
    confirmation = confirmation_of(snapshot, fresh, configurations)
    for place, configuration in enumerate(configurations):
        cells = row(confirmation, configuration, "objective")
        before = [
            view.objective
            for view in snapshot.trials
            if view.configuration == configuration and view.objective is not None
        ]
        after = [
            view.objective
            for view in fresh.trials
            if view.configuration == place and view.objective is not None
        ]
        assert cells.rank == place + 1
        assert cells.selected == statistics.fmean(before)
        assert cells.fresh == summary(after)
        assert cells.fresh.num_seeds == (4 if place == 0 else 3)
        assert cells.bias == pytest.approx(cells.selected - statistics.fmean(after), abs=1e-12)
        interval = cells.bias_interval
        assert interval is not None
        assert interval.low < cells.bias < interval.high
        assert {view.seed for view in fresh.trials}.isdisjoint(
            view.seed for view in snapshot.trials
        )


def test_a_seed_that_failed_is_named_and_counts_for_nothing(both: Both) -> None:
    snapshot, fresh, configurations = both
    notes = confirmation_of(snapshot, fresh, configurations).notes
    (note,) = [note for note in notes if "trial" in note]
    failed = next(trial for trial in fresh.trials if trial.state == "failed")
    assert f"trial {failed.number} of quick-confirm (seed {failed.seed}) is failed" in note


def test_a_seed_that_failed_and_was_run_again_is_not_mentioned(both: Both) -> None:
    snapshot, fresh, configurations = both
    failed = next(trial for trial in fresh.trials if trial.state == "failed")
    whole = next(trial for trial in fresh.trials if trial.configuration == failed.configuration
                 and trial.state == "complete")  # fmt: skip
    again = replace(
        whole, number=len(fresh.trials), repeat=failed.repeat, seed=failed.seed,
        retry_of=failed.number,
    )  # fmt: skip
    confirmation = confirmation_of(
        snapshot, replace(fresh, trials=(*fresh.trials, again)), configurations
    )
    assert not [note for note in confirmation.notes if "is failed" in note]
    cells = row(confirmation, configurations[1], "objective")
    assert cells.fresh is not None
    assert cells.fresh.num_seeds == 4


def test_a_winner_that_was_confirmed_is_compared_on_its_fresh_seeds(both: Both) -> None:
    snapshot, fresh, (winner, second) = both
    sides = [candidate_of(snapshot, configuration, [fresh]) for configuration in (None, second)]
    assert [side.row.configuration for side in sides] == [winner, second]
    assert [side.num_candidates for side in sides] == [16, 16]
    assert [side.rank for side in sides] == [1, 2]
    for place, side in enumerate(sides):
        assert side.fresh is not None
        assert side.trials.keys() == {5, 6, 7}
        assert {view.seed: view.number for view in fresh.trials
                if view.configuration == place and view.state == "complete"
                } == {seed: trial.number for seed, trial in side.fresh.trials.items()}  # fmt: skip
    (comparison,) = compare(sides)
    # Of the second, one fresh seed failed.
    assert comparison.seeds == (8, 9, 10)
    assert not comparison.is_chosen_here
    assert any(
        "best of 16 configurations, is compared on the fresh seeds of quick-confirm" in note
        for note in comparison.notes
    )
    (winner, _) = comparison_json([comparison])["contenders"]
    assert (winner["is_fresh"], winner["trials_of"], winner["candidates"]) == (
        True,
        "quick-confirm",
        16,
    )
    # Every fresh seed has stages of its own, those of the sweep have one.
    assert comparison.given == ()
    (before,) = compare([replace(side, fresh=None) for side in sides])
    assert before.seeds == (5, 6, 7)
    assert before.given


def test_seeds_of_a_configuration_that_nobody_confirmed_are_not_fresh(both: Both) -> None:
    snapshot, fresh, (winner, second) = both
    other = next(
        trial.configuration for trial in snapshot.trials
        if trial.state == "complete" and trial.configuration not in (winner, second)
    )  # fmt: skip
    assert candidate_of(snapshot, other, [fresh]).fresh is None
    # A sweep that ran it on the very seeds that chose it confirms nothing.
    assert candidate_of(snapshot, winner, [replace(snapshot, name="quick-confirm")]).fresh is None
    # Without a fresh seed of the other, both stay on the seeds that chose the winner.
    sides = [candidate_of(snapshot, configuration, [fresh]) for configuration in (winner, other)]
    (comparison,) = compare(sides)
    assert comparison.is_chosen_here
    rank = sides[1].rank
    assert any(f"xlt confirm quick --seeds 6 --top {rank}" in note for note in comparison.notes)


def test_where_all_candidates_of_a_sweep_are_compared_none_was_chosen_unseen(both: Both) -> None:
    snapshot, _, chosen = both
    two = replace(
        snapshot, trials=tuple(trial for trial in snapshot.trials if trial.configuration in chosen)
    )
    (comparison,) = compare([candidate_of(two, number) for number in chosen])
    assert not comparison.is_chosen_here
    assert not any("configurations" in note for note in comparison.notes)


def test_means_are_over_the_languages_that_all_seeds_of_both_sweeps_have(both: Both) -> None:
    snapshot, fresh, configurations = both
    assert configurations[0] == NOWHERE_SCORED, "the winner lacks a language, its fresh seeds none"
    confirmation = confirmation_of(snapshot, fresh, configurations)
    for configuration, languages in zip(configurations, (LANGUAGES[:-1], LANGUAGES), strict=True):
        whole = row(confirmation, configuration, "mean")
        others = row(confirmation, configuration, "mean_without_source")
        source = row(confirmation, configuration, "source")
        assert (whole.languages, source.languages) == (languages, ("qaa",))
        assert others.languages == languages[1:]
        number = len(languages)
        for number_of in (lambda line: line.selected, lambda line: line.fresh.mean):
            assert number_of(whole) == pytest.approx(
                (number_of(source) + (number - 1) * number_of(others)) / number
            )
    notes = [note for note in confirmation.notes if "without qaf" in note]
    assert len(notes) == 1
    frame = confirmation_frame(confirmation)
    assert list(frame["measure"][:4]) == ["objective", "source", "mean_without_source", "mean"]
    assert list(frame["bias"]) == [row.bias for row in confirmation.rows]


def test_without_a_complete_fresh_seed_nothing_is_claimed(both: Both) -> None:
    snapshot, fresh, configurations = both
    empty = Snapshot(fresh.name, fresh.sweep, (), {})
    for row in confirmation_of(snapshot, empty, configurations).rows:
        assert (row.fresh, row.bias, row.bias_interval) == (None, None, None)


SHORT = (
    SWEEP.replace("size: 8000\n", "size: 4000\n  max_length: 64\n")
    .replace("{task: toy-paraphrase,", "{task: toy-paraphrase, max_length: 64,")
    .replace("2000, 8000", "2000, 4000")
    .replace("trials: 16", "trials: 3")
)
"""What the toy models and data have room for."""


def test_the_table_of_a_finished_confirmation_is_shown_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = finished(Home(tmp_path / "home"), SHORT)
    confirmed(sweep, top=1, seeds=3)
    monkeypatch.setenv("XLT_HOME", str(sweep.home.root))
    monkeypatch.setattr("sys.argv", ["xlt", "confirm", "quick", "--seeds", "3"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    out = capsys.readouterr().out
    for part in (
        "Configurations are chosen by accuracy on the dev set of qaa",
        "quick-confirm: 3 complete", "trained on 0 examples", "chosen among 3 configurations",
        "test, mean of 5 without the source", "test, qaa", "95 % interval", "bias",
    ):  # fmt: skip
        assert part in out, (part, out)
