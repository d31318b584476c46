"""What runs show: tags, metrics, data and notes of trials, configurations and sweeps."""

from __future__ import annotations

import json
import os
import pwd
import statistics
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.tracking.conftest import trial_view
from xlt_ray.ledger import Occupation, StageUse, TrialView, standings
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.tracking.client import TrackedRun
from xlt_ray.tracking.mlflow_fields import (
    MAX_AXES,
    MAX_FURTHER,
    MAX_LANGUAGES,
    MAX_PARAMETERS,
    LedgerSnapshot,
    Metrics,
    configuration_metrics,
    configuration_status,
    configuration_tags,
    final_metrics,
    inputs_of,
    origin,
    parameters_of,
    source_of,
    sweep_note,
    trial_tags,
    view_of,
)

# -- tags of a trial ------------------------------------------------------------------------


def test_tags_name_the_makers_of_reused_stages() -> None:
    uses = (
        StageUse("align", "a" * 64, "align", True, made_by="other/3"),
        StageUse("intermediate", "i" * 64, "intermediate", True),
        StageUse("target", "t" * 64, "target", False, 96, 1.0, "t/0"),
    )
    tags = trial_tags(trial_view(stages=uses), "running")
    assert tags["xlt.reused"] == "align intermediate"
    assert tags["xlt.made_by.align"] == "other/3"
    # Empty stands for a tag that is to be taken away.
    assert tags["xlt.made_by.intermediate"] == tags["xlt.made_by.target"] == ""


def test_every_trunk_of_a_path_has_a_tag_of_its_own() -> None:
    uses = (
        StageUse("trunk", "a" * 64, "trunk nli 2400", True, made_by="other/3"),
        StageUse("trunk", "b" * 64, "trunk nli 4800", True),
        StageUse("intermediate", "i" * 64, "intermediate nli 6000", False),
    )
    tags = trial_tags(trial_view(stages=uses), "running")
    assert tags["xlt.stage.trunk.2400"] == "a" * 64
    assert tags["xlt.stage.trunk.4800"] == "b" * 64
    assert tags["xlt.made_by.trunk.2400"] == "other/3"
    assert tags["xlt.reused"] == "trunk"


def test_parameters_have_no_secrets_and_keep_to_what_mlflow_takes() -> None:
    options = {f"option{number}": number for number in range(120)}
    space = {"data": {"root": "https://ada:s3cret@host/x"}, "target": {"options": options}}
    parameters = parameters_of({"target.size": 4}, space)
    assert len(parameters) == MAX_PARAMETERS
    assert parameters["target.size"] == "4"
    assert "s3cret" not in str(parameters)


def test_a_user_without_a_name_is_called_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert origin()["mlflow.user"] == str(os.getuid())


# -- metrics of a trial: of the target task alone, whatever else was evaluated ---------------


def scores_of(values: Mapping[str, float], task: str = "nli", role: Any = "target") -> list[Score]:
    return [
        Score(task, language, "test", "accuracy", value, 50, role)
        for language, value in values.items()
    ]


TARGET = scores_of({"qaa": 0.9, "qab": 0.7, "qac": 0.5})


def metrics_of(scores: list[Score]) -> Metrics:
    return final_metrics(trial_view(0, "complete", objective=0.8), scores, "accuracy", "qaa")


def further(*languages: str, task: str = "found") -> list[Score]:
    pairs = scores_of({"qaa:qab": 0.1}, "nli-pairs", "pairs")
    return pairs + scores_of(dict.fromkeys(languages, 0.2), task, "further")


def test_a_number_that_is_not_finite_is_left_out() -> None:
    assert "test/accuracy/qad" not in metrics_of(TARGET + scores_of({"qad": float("nan")}))


def test_the_mean_without_the_source_needs_the_source() -> None:
    metrics = metrics_of(TARGET[1:])
    assert "test/accuracy/mean_without_source" not in metrics
    assert metrics["test/accuracy/mean"] == pytest.approx(0.6)


def test_a_second_task_never_overwrites_the_target() -> None:
    plain = metrics_of(TARGET)
    for scores in (further("qaa", "qab") + TARGET, TARGET + further("qaa", "qab")):
        assert metrics_of(scores) == plain | {
            "test/nli-pairs/accuracy/mean": 0.1,
            "test/found/accuracy/mean": pytest.approx(0.2),
        }
    assert plain["test/accuracy/mean"] == pytest.approx(0.7)
    assert plain["test/accuracy/mean_without_source"] == pytest.approx(0.6)


def test_further_means_take_the_room_of_languages() -> None:
    target = scores_of({f"q{number:02d}": 0.5 for number in range(60)})
    tasks = [score for task in range(20) for score in further("qab", task=f"found-{task}")]
    plain, metrics = metrics_of(target), metrics_of(target + tasks)
    assert len(metrics) == len(plain)
    assert sum(name.startswith("test/found") for name in metrics) == MAX_FURTHER
    languages = sum(name.startswith("test/accuracy/q") for name in metrics)
    assert languages == MAX_LANGUAGES - MAX_FURTHER


def test_after_few_shots_no_two_languages_are_averaged() -> None:
    metrics = metrics_of(scores_of({"qaa": 0.8, "qab": 0.7}, "nli-few-shot", "few_shot"))
    assert {name: value for name, value in metrics.items() if name.startswith("test/")} == {
        "test/nli-few-shot/accuracy/qaa": 0.8,
        "test/nli-few-shot/accuracy/qab": 0.7,
    }


# -- data: each set once, with a digest that covers all of its languages ----------------------

NLI = {"task": {"name": "nli", "version": 1}}
FIRST, SECOND, THIRD = ("1" * 64, "2" * 64, "3" * 64)


def stage_of(kind: str, settings: Mapping[str, Any] = NLI, **data: Any) -> Stage:
    return Stage(cast(Any, kind), settings, data, 0, None, kind)


def evaluation(**test: str) -> Stage:
    also, also_dev = {"pos": {"en": FIRST, "de": SECOND}}, {"bucc-mining": {"de": THIRD}}
    return stage_of("evaluate", dev={"en": THIRD}, test=test, also=also, also_dev=also_dev)


def test_every_split_is_named_with_what_it_is_read_for() -> None:
    path = [
        stage_of("model", {"weights": "w"}),
        stage_of("align", {}, parallel={"de": FIRST, "fr": SECOND}),
        stage_of("intermediate", train=FIRST),
        stage_of("target", train=FIRST, hybrid={"de": SECOND}),
        evaluation(en=FIRST, de=SECOND),
    ]
    # What the target is trained on comes first.
    assert [(data.name, data.context) for data in inputs_of(path)] == [
        ("nli train", "intermediate, training"),
        ("nli cross-lingual batches", "training"),
        ("nli dev", "evaluation"),
        ("nli test", "evaluation"),
        ("pos test", "evaluation"),
        ("bucc-mining dev", "evaluation"),
        ("parallel text", "alignment"),
    ]


def test_the_digest_covers_every_language() -> None:
    first, same, changed = (
        {data.name: data for data in inputs_of([evaluation(**test)])}["nli test"]
        for test in ({"en": FIRST, "de": SECOND}, {"de": SECOND, "en": FIRST},
                     {"en": FIRST, "de": THIRD})
    )  # fmt: skip
    assert first == same
    assert first.digest != changed.digest
    profile = json.loads(first.profile)
    assert profile == {"parts": 2, "fingerprints": {"de": SECOND, "en": FIRST}}
    (alone,) = inputs_of([stage_of("target", train=FIRST)])
    assert alone.digest == FIRST[:10], "what has one part goes by its own fingerprint"


def test_the_source_is_reported_in_mlflows_words_and_without_passwords() -> None:
    root = "https://ada:s3cret@host/data"
    source = source_of({"space": {"data": {"source": "files", "root": root}}})
    assert source["type"] == "local"
    assert "s3cret" not in source["root"]
    assert source_of({"space": {"data": {"source": "toy", "seed": 3}}})["type"] == "toy"


# -- configurations: what follows from their trials, in the order of the report ---------------


def member(
    repeat: int,
    state: str = "complete",
    metrics: Mapping[str, float] | None = None,
    cause: str = "",
    align: str = "shared",
) -> TrackedRun:
    """The run of one seed."""
    tags = {"xlt.trial": str(10 + repeat), "xlt.repeat": str(repeat), "xlt.seed": str(repeat)}
    tags |= {"xlt.state": state, "xlt.cause": cause}
    tags |= {"xlt.stage.align": align, "xlt.stage.target": f"target of {repeat}"}
    return cast(TrackedRun, SimpleNamespace(tags=tags, metrics=metrics or {}))


def test_scores_are_means_over_complete_seeds_and_costs_are_sums_over_all() -> None:
    members = [
        member(0, metrics={"objective": 0.5, "test/f1/mean": 0.4, "seconds": 2, "dev/f1": 1}),
        member(1, metrics={"objective": 0.7, "test/f1/mean": 0.2, "seconds": 3, "dev/f1": 1}),
        member(2, "failed", {"seconds": 4, "objective": 9}),
    ]
    assert configuration_metrics(members) == {
        "objective": pytest.approx(0.6),
        "sd/objective": pytest.approx(statistics.stdev([0.5, 0.7])),
        "test/f1/mean": pytest.approx(0.3),
        "sd/test/f1/mean": pytest.approx(statistics.stdev([0.4, 0.2])),
        "seconds": 9,
        "seeds/complete": 2,
        "seeds/pruned": 0,
        "seeds/failed": 1,
    }


def test_a_metric_that_a_seed_lacks_has_no_mean() -> None:
    whole = member(0, metrics={"objective": 0.5, "test/f1/de": 0.4})
    metrics = configuration_metrics([whole, member(1, metrics={"objective": 0.7})])
    assert "test/f1/de" not in metrics
    assert "sd/objective" not in configuration_metrics([whole])


@pytest.mark.parametrize(
    ("states", "going", "status"),
    [
        (["complete"], "RUNNING", "RUNNING"),
        (["complete"], "KILLED", "KILLED"),
        # A budget has ended the sweep, and the second seed will not run.
        (["complete"], "FINISHED", "FINISHED"),
        (["complete", "running"], "RUNNING", "RUNNING"),
        (["complete", "running"], "KILLED", "KILLED"),
        (["complete", "running"], "FINISHED", "KILLED"),
        (["complete", "pruned"], "RUNNING", "FINISHED"),
        (["complete", "failed"], "KILLED", "FAILED"),
        ([], "FINISHED", "FINISHED"),
    ],
)
def test_status_is_that_of_its_seeds(states: list[str], going: Any, status: str) -> None:
    members = [member(repeat, state) for repeat, state in enumerate(states)]
    assert configuration_status(members, 2, going) == status


def test_tags_name_causes_seeds_and_the_stages_that_seeds_share() -> None:
    members = [member(0), member(1, "failed", cause="nan"), member(2, "failed", cause="nan")]
    tags = configuration_tags(members)
    assert tags["xlt.seeds"] == "0"
    assert tags["xlt.trials"] == "10 11 12"
    assert tags["xlt.cause"] == "nan"
    assert tags["xlt.stage.align"] == "shared"
    # Empty stands for a tag that is to be taken away.
    assert tags["xlt.stage.target"] == ""
    assert "| 11 | 1 | failed | – |" in tags["mlflow.note.content"]
    assert "Its seeds share one training of align: sd/" in tags["mlflow.note.content"]
    apart = [member(repeat, align=str(repeat)) for repeat in range(3)]
    for members_alone in (apart, members[:1]):
        assert "share" not in configuration_tags(members_alone)["mlflow.note.content"]


# -- a sweep: how its trials stand once their driver has left ---------------------------------


def begun_by(number: int, driver: str, **fields: Any) -> TrialView:
    occupied = Occupation(since=1.0, driver=driver)
    return trial_view(number, "running", occupied=occupied, **fields)


TRIALS = (
    trial_view(0, "complete"),
    trial_view(1, "failed", attempts=2),
    begun_by(2, "this"),
    trial_view(3, attempts=0),
    # A retry counts on from the failed trial.
    trial_view(4, attempts=2, retry_of=1),
    trial_view(5, "waiting", attempts=2, retry_of=1),
    begun_by(6, "this", attempts=3, retry_of=1),
    begun_by(7, "dead"),
    # Its process was lost, and it waits for another one.
    trial_view(8),
)


def test_only_what_has_begun_beyond_the_trial_that_it_repeats_is_at_work() -> None:
    assert [*standings(TRIALS, driver="this").values()] == [
        "complete", "failed", "running", "queued", "queued", "queued", "running", "interrupted",
        "interrupted",
    ]  # fmt: skip
    assert [*standings(TRIALS).values()] == [
        "complete", "failed", "interrupted", "queued", "queued", "queued", "interrupted",
        "interrupted", "interrupted",
    ]  # fmt: skip


def test_a_sweep_that_its_driver_has_left_has_no_running_trial() -> None:
    objective = {
        "metric": "accuracy",
        "split": "dev",
        "languages": "source",
        "mode": "max",
        "also": [],
    }
    sweep = {
        "name": "t",
        "objective": objective,
        "constraints": [],
        "space": {},
        "search": {"seeds": 1},
    }
    note = sweep_note(LedgerSnapshot(sweep, TRIALS, None), None)
    assert "(1 complete, 1 failed, 4 interrupted, 3 queued)" in note
    assert "running" not in note


@pytest.mark.parametrize("has_seeds", [False, True])
def test_rows_of_the_view_are_what_has_means(has_seeds: bool) -> None:
    view = json.loads(view_of("f1", "max", ["model"], has_seeds=has_seeds))
    kind = "configuration" if has_seeds else "trial"
    assert view["searchFilter"] == f"tags.`xlt.kind` = '{kind}'"
    assert ("metrics.`seeds/complete`" in view["selectedColumns"]) == has_seeds
    assert view["orderByAsc"] is False


def test_axes_are_the_parameters_and_the_headline_scores_and_fit_into_a_tag() -> None:
    (chart,) = json.loads(view_of("f1", "min", ["a", "b.c"], has_seeds=True))["compareRunCharts"]
    assert chart["selectedParams"] == ["a", "b.c"]
    assert chart["selectedMetrics"] == ["objective", "test/f1/mean", "test/f1/mean_without_source"]
    parameters = [f"target.robust.{'knob' * 15}.{number:02d}" for number in range(100)]
    view = view_of("exact_match", "max", parameters, has_seeds=True)
    assert len(view) <= 5000
    assert len(json.loads(view)["compareRunCharts"][0]["selectedParams"]) == MAX_AXES
