"""What an oracle objective is judged by on the way is what its value is at the end."""

from __future__ import annotations

from pathlib import Path

from tests.training.conftest import TINY, Bench
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.sweep.scheduler import intermediate_value, objective_value
from xlt_ray.training.events import Committed, Evaluated

WATCHED = ("qaa", "qab")
ORACLE = ("evaluate.dev=all", "evaluate.languages=[qaa, qab]", "target.select=last")


def test_the_last_evaluation_is_what_the_trial_is_selected_by(bench: Bench, tmp_path: Path) -> None:
    def walked(root: Path, **runtime: object) -> tuple[list[Evaluated], list[Committed]]:
        events = list(bench.walk(root, *ORACLE, **runtime))
        return (
            [
                event
                for event in events
                if isinstance(event, Evaluated) and event.stage.kind == "target"
            ],
            [event for event in events if isinstance(event, Committed)],
        )

    watching = {"watched": WATCHED, "watched_examples": 20}
    seen, made = walked(tmp_path / "a", **watching)
    scores = made[-1].record.scores
    for languages in (["qab"], ["qaa", "qab"]):
        overrides = [f"objective={{metric: accuracy, languages: [{', '.join(languages)}]}}"]
        objective = sweep_of(parse_document(TINY, "tiny.yaml", overrides)).settings.objective
        on_the_way = [
            intermediate_value(event.metrics, event.by_language, languages, "accuracy")
            for event in seen
        ]
        assert len(on_the_way) == 2
        assert on_the_way[-1] == objective_value(scores, objective, "qaa")
    # What is watched shapes nothing, and is there when the stage is found again.
    plain, unwatched = walked(tmp_path / "b")
    assert [event.by_language for event in plain] == [{}, {}]
    assert [event.record.files for event in unwatched] == [event.record.files for event in made]
    again, _ = walked(tmp_path / "a", **watching)
    assert [event.is_replay for event in again] == [True, True]
    assert [event.by_language for event in again] == [event.by_language for event in seen]


def test_nothing_is_judged_by_what_was_not_measured() -> None:
    by_language = {"qaa": {"accuracy": 0.5}, "qab": {"accuracy": 0.3, "f1": 0.1}}
    assert intermediate_value({"accuracy": 0.9}, by_language, (), "accuracy") == 0.9
    assert intermediate_value({"accuracy": 0.9}, by_language, ("qaa", "qab"), "accuracy") == 0.4
    assert intermediate_value({"f1": 0.9}, by_language, ("qaa", "qab"), "f1") is None
    assert intermediate_value({"accuracy": 0.9}, {}, ("qab",), "accuracy") is None
    assert intermediate_value({"accuracy": 0.9}, {}, (), "f1") is None
