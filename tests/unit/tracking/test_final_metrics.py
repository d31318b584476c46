"""The headline metrics of a trial: of the target task alone, whatever else was evaluated."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView, open_ledger
from xlt_ray.store.record import Score
from xlt_ray.tracking.content import MAX_FURTHER, MAX_LANGUAGES, Metrics, final_metrics

from .test_trial_tags import TEXT

TARGET = tuple(
    Score("nli", language, "test", "accuracy", value, 50)
    for language, value in {"qaa": 0.9, "qab": 0.7, "qac": 0.5}.items()
)


@pytest.fixture
def view(home: Home, sweep_from: Callable[..., SweepSpec]) -> TrialView:
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    ledger.ask(sweep, lambda _: {})
    ledger.tell_complete(0, 0.8)
    return ledger.trial(0)


def metrics_of(view: TrialView, scores: tuple[Score, ...]) -> Metrics:
    return final_metrics(view, scores, "accuracy", "qaa")


def test_a_number_that_is_not_finite_is_left_out(view: TrialView) -> None:
    broken = Score("nli", "qad", "test", "accuracy", float("nan"), 50)
    assert "test/accuracy/qad" not in metrics_of(view, (*TARGET, broken))


def besides(*languages: str, task: str = "found") -> tuple[Score, ...]:
    pairs = (Score("nli-pairs", "qaa:qab", "test", "accuracy", 0.1, 50, "pairs"),)
    return pairs + tuple(
        Score(task, language, "test", "accuracy", 0.2, 50, "further") for language in languages
    )


def test_a_second_task_never_overwrites_the_target(view: TrialView) -> None:
    plain = metrics_of(view, TARGET)
    for scores in (besides("qaa", "qab") + TARGET, TARGET + besides("qaa", "qab")):
        found = metrics_of(view, scores)
        assert {name: found[name] for name in plain} == plain
        assert {name: found[name] for name in found.keys() - plain.keys()} == {
            "test/nli-pairs/accuracy/mean": 0.1,
            "test/found/accuracy/mean": pytest.approx(0.2),
        }
    assert plain["test/accuracy/mean"] == pytest.approx(0.7)
    assert plain["test/accuracy/mean_without_source"] == pytest.approx(0.6)


def test_further_means_take_the_room_of_languages(view: TrialView) -> None:
    target = tuple(
        Score("nli", f"q{number:02d}", "test", "accuracy", 0.5, 50) for number in range(60)
    )
    tasks = [beside for task in range(20) for beside in besides("qab", task=f"found-{task}")]
    plain, found = metrics_of(view, target), metrics_of(view, (*target, *tasks))
    assert len(found) == len(plain)
    assert sum(name.startswith("test/found") for name in found) == MAX_FURTHER
    assert sum(name.startswith("test/accuracy/q") for name in found) == MAX_LANGUAGES - MAX_FURTHER


def test_after_few_shots_no_two_languages_are_averaged(view: TrialView) -> None:
    scores = tuple(
        Score("nli-few-shot", language, "test", "accuracy", value, 50, "few_shot")
        for language, value in (("qaa", 0.8), ("qab", 0.7))
    )
    found = metrics_of(view, scores)
    assert {name: one for name, one in found.items() if name.startswith("test/")} == {
        "test/nli-few-shot/accuracy/qaa": 0.8,
        "test/nli-few-shot/accuracy/qab": 0.7,
    }
