"""A metric that a task is scored by later costs an evaluation, and no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import Bench
from xlt_ray.config.sweep import Objective
from xlt_ray.data import task as tasks
from xlt_ray.data.task import task_named
from xlt_ray.sweep.scheduler import objective_value
from xlt_ray.training.events import Committed

CHEAP = ("intermediate=null", "target.size=32", "target.epochs=1")


def scored_by(bench: Bench, monkeypatch: pytest.MonkeyPatch, *metrics: str) -> Bench:
    """The bench in a registry that scores the tiny trial's task by these."""
    task = task_named("toy-paraphrase").model_copy(update={"metrics": metrics})
    read = tasks._read_task
    monkeypatch.setattr(tasks, "_read_task", lambda name: task if name == task.name else read(name))
    changed = replace(bench.facts.tasks[task.name], metrics=metrics)
    facts = replace(bench.facts, tasks={**bench.facts.tasks, task.name: changed})
    return replace(bench, facts=facts)


def test_the_objective_is_scored_where_it_is_new_and_nothing_is_trained(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*metrics: str) -> dict[str, Committed]:
        with monkeypatch.context() as patch:
            events = scored_by(bench, patch, *metrics).make(tmp_path, *CHEAP)
        return {event.stage.kind: event for event in events if isinstance(event, Committed)}

    first = made("accuracy")
    assert not any(event.reused for event in first.values())
    then = made("accuracy", "macro_f1")
    assert {kind: event.reused for kind, event in then.items()} == {
        "target": True,
        "evaluate": False,
    }
    scores = then["evaluate"].record.scores
    assert objective_value(scores, Objective(metric="macro_f1"), "qaa") == pytest.approx(
        next(score.value for score in scores if (score.split, score.metric) == ("dev", "macro_f1"))
    )
    accuracy = [score for score in scores if score.metric == "accuracy"]
    assert accuracy == [
        score for score in first["evaluate"].record.scores if score.metric == "accuracy"
    ]
    assert all(event.reused for event in made("accuracy", "macro_f1").values())
