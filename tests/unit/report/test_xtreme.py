"""Published averages come out of published scores, and nothing is averaged over a part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.report.conftest import Finished
from xlt_ray import Results
from xlt_ray.data.task import task_named
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.report import xtreme
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.xtreme import TASKS, BenchmarkTask, averages, xtreme_frame
from xlt_ray.store.record import Score

# Per language: the benchmark's mBERT and XLM-R Large (PAWS-X), mBERT and XLM-R Base (XNLI).
PAWS_X = ("en", "de", "es", "fr", "ja", "ko", "zh")
XNLI = ("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
PUBLISHED = [
    ("pawsx", PAWS_X, (94.0, 85.7, 87.4, 87.0, 73.0, 69.6, 77.0), 81.9),
    ("pawsx", PAWS_X, (94.7, 89.7, 90.1, 90.4, 78.7, 79.0, 82.3), 86.4),
    (
        "xnli", XNLI,
        (80.8, 64.3, 68.0, 70.0, 65.3, 73.5, 73.4, 58.9, 67.8, 49.7, 54.1, 60.9, 57.2, 69.3, 67.8),
        65.4,
    ),
    (
        "xnli", XNLI,
        (85.8, 73.8, 79.6, 78.7, 77.5, 80.7, 79.7, 72.4, 78.1, 66.5, 74.6, 74.2, 68.3, 76.5, 76.7),
        76.2,
    ),
]  # fmt: skip
# Test sets, XLM-R Large and the same with intermediate training (RemBERT's table 16).
LARGE = {"xnli": 79.2, "pos": 73.8, "ner-panx": 65.4, "pawsx": 86.4, "xquad": (60.8, 76.6),
         "mlqa": (53.2, 71.6), "tydiqa": (45.0, 65.1)}  # fmt: skip
STILTS = {"xnli": 80.0, "pos": 74.9, "ner-panx": 64.0, "pawsx": 87.9, "xquad": (63.3, 78.7),
          "mlqa": (53.7, 72.4), "tydiqa": (59.5, 76.0)}  # fmt: skip


@pytest.mark.parametrize(("task", "languages", "scores", "published"), PUBLISHED)
def test_published_means_over_languages_come_out(task, languages, scores, published):
    found = TASKS[task].score({"accuracy": dict(zip(languages, scores, strict=True))})
    assert found == pytest.approx(published, abs=0.1)


def as_one(task, score):
    if not isinstance(score, tuple):
        return score
    em, f1 = (dict.fromkeys(TASKS[task].languages, part) for part in score)
    return TASKS[task].score({"em": em, "f1": f1})


@pytest.mark.parametrize(("scores", "tasks", "groups"), [(LARGE, 70.1, 71.4), (STILTS, 72.7, 73.5)])
def test_published_averages_over_tasks_come_out(scores, tasks, groups):
    computed = averages({task: as_one(task, score) for task, score in scores.items()})
    assert computed["average_trained"] == pytest.approx(tasks, abs=0.1)
    assert computed["average_of_groups"] == pytest.approx(groups, abs=0.1)
    assert computed["retrieval"] is None
    assert computed["average"] is None


def test_the_whole_is_the_mean_of_nine_tasks():
    scores = {name: number / 10 for number, name in enumerate(TASKS)}
    assert averages(scores)["average"] == pytest.approx(0.4)
    assert all(averages({**scores, name: None})["average"] is None for name in TASKS)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_missing_language_or_metric_gives_no_score(task):
    whole = {metric: dict.fromkeys(task.languages, 0.5) for metric in task.metrics}
    assert task.score(whole) == 0.5
    for metric in task.metrics:
        assert task.score({**whole, metric: {}}) is None
        assert task.score({**whole, metric: dict.fromkeys(task.languages[1:], 0.5)}) is None


def test_languages_are_as_many_as_the_benchmark_has():
    number = {name: len(task.languages) for name, task in TASKS.items()}
    assert number == {"xnli": 15, "pawsx": 7, "pos": 33, "ner-panx": 40, "xquad": 11, "mlqa": 7,
                      "tydiqa": 9, "bucc": 4, "tatoeba": 36}  # fmt: skip


@pytest.fixture
def as_benchmark(monkeypatch, quick: Finished):
    """The made-up sweep as if its task were one of the benchmark, in its languages."""
    task = BenchmarkTask("toy-nli", "structured", ("accuracy",), ("qaa", "qab"))
    others = {name: task for name, task in TASKS.items() if task.group != "structured"}
    monkeypatch.setattr(xtreme, "TASKS", {**others, "toy-nli": task})
    return Results(quick.home.root, "quick")


def test_a_system_has_a_row_for_every_seed(as_benchmark):
    snapshot: Snapshot = as_benchmark.snapshot
    frame = xtreme_frame([snapshot])
    assert list(frame.columns)[:2] == ["model", "intermediate"]
    assert not [name for name in frame.columns if name.startswith("target")]
    assert not frame.duplicated([*frame.columns[: list(frame.columns).index("seed") + 1]]).any()
    assert frame["structured"].equals(frame["toy-nli"])
    assert frame.equals(as_benchmark.xtreme())
    row = frame.iloc[0]
    views = [
        view for view in snapshot.trials
        if view.state == "complete" and view.seed == row["seed"]
        and view.assignment["model"] == row["model"]
        and view.assignment.get("intermediate.size") == row.get("intermediate.size")
        and view.assignment["intermediate"] == row["intermediate"]
    ]  # fmt: skip
    means = [
        sum(xtreme._test_scores(snapshot, view)["accuracy"][code] for code in ("qaa", "qab")) / 2
        for view in views
    ]
    assert any(row["toy-nli"] == pytest.approx(mean) for mean in means)
    # Seeds share the intermediate stage of a system that has one.
    with_stage = frame["intermediate"] != "null"
    assert frame["shared_by_seeds"].notna().equals(frame["intermediate"].notna())
    assert with_stage.any()


METRICS = {"tatoeba": "accuracy_from_pivot", "bucc": "accuracy", "bucc-mining": "f1"}


def with_retrieval(snapshot: Snapshot, values, encoder="before") -> Snapshot:
    """The sweep with these scores of retrieval tasks, by the encoder before the target training."""

    def evaluated(record):
        if record.kind != "evaluate":
            return record
        more = tuple(
            Score(name, language, "test", metric, value, 100, role="further")
            for name, of_task in values.items()
            for metric, value in ((METRICS[name], of_task), ("precision", 1.0))
            for language in TASKS["bucc" if name == "bucc-mining" else name].languages
        )
        settings = {**record.payload["settings"], "retrieval_encoder": encoder}
        payload = {**record.payload, "settings": settings}
        return replace(record, payload=payload, scores=(*record.scores, *more))

    records = {key: evaluated(record) for key, record in snapshot.records.items()}
    return replace(snapshot, records=records)


@pytest.mark.parametrize("encoder", ["before", "after"])
def test_retrieval_counts_where_it_was_scored_before_the_target_training(as_benchmark, encoder):
    values = {"bucc": 0.25, "tatoeba": 0.75}
    frame = xtreme_frame([with_retrieval(as_benchmark.snapshot, values, encoder)])
    for name, value in values.items():
        assert (frame[name] == value).all() if encoder == "before" else frame[name].isna().all()
    assert frame["retrieval"].isna().all(), "retrieval among gold pairs is not BUCC"


@pytest.mark.parametrize("names", [(), ("bucc",), ("bucc-mining",), ("bucc", "bucc-mining")])
def test_bucc_is_scored_by_mining_where_that_is_there_and_every_row_says_so(as_benchmark, names):
    values = {name: {"bucc": 0.25, "bucc-mining": 0.5}[name] for name in names}
    frame = xtreme_frame([with_retrieval(as_benchmark.snapshot, {**values, "tatoeba": 0.5})])
    assert "bucc-mining" not in frame.columns
    if names:
        assert set(frame["bucc_by"]) == {names[-1]}
        assert set(frame["bucc"]) == {values[names[-1]]}
    else:
        assert frame["bucc"].isna().all()
        assert frame["bucc_by"].isna().all()
    # A mean over all tasks needs BUCC by mining.
    is_missing = frame["retrieval"].isna()
    assert not is_missing.any() if "bucc-mining" in names else is_missing.all()


def search_of_english(other, english):
    """XTREME's search, written anew: for each English vector its nearest one of the other
    language, by squared distance of vectors of length one (an L2 index of the other language)."""
    pool, query = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (other, english))
    return [min(range(len(pool)), key=lambda place: ((pool[place] - row) ** 2).sum())
            for row in query]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_tatoeba_is_scored_in_the_direction_of_the_benchmark(seed):
    random = np.random.default_rng(seed)
    num = int(random.integers(20, 60))
    other = random.normal(size=(num, 6)) + random.normal(size=6)
    english = other + random.uniform(0.2, 1.0) * random.normal(size=(num, 6)) + 0.5
    search = search_of_english(other, english)
    published = float(np.mean([place == row for row, place in enumerate(search)]))
    task = task_named("tatoeba")
    scores = kind_of(task).score(
        Predictions("de", [None] * num, list(zip(other, english, strict=True)))
    )
    (metric,) = TASKS["tatoeba"].metrics
    assert scores[metric] == pytest.approx(published)
    assert next(iter(scores)) == metric, "the headline of the task is what is published"


def test_the_objective_selects_and_test_scores_do_not(as_benchmark):
    snapshot: Snapshot = as_benchmark.snapshot
    upside_down = replace(
        snapshot,
        sweep={**snapshot.sweep, "objective": {**snapshot.sweep["objective"], "mode": "min"}},
    )
    first, second = xtreme_frame([snapshot]), xtreme_frame([upside_down])
    assert first["toy-nli"].mean() != second["toy-nli"].mean()


def test_a_configuration_that_lacks_a_seed_comes_after_those_that_are_whole(as_benchmark):
    snapshot: Snapshot = as_benchmark.snapshot
    whole = [view for view in snapshot.trials if view.configuration == 0]
    assert [view.state for view in whole] == ["complete"] * 3
    lucky = replace(whole[0], configuration=99, number=99, objective=0.999)
    both = replace(snapshot, trials=(*whole, lucky))
    selected = [view for _, view in xtreme._selected(both, ("model",))]
    assert [view.configuration for view in selected] == [0, 0, 0]
    one_seed = {**snapshot.sweep, "search": {**snapshot.sweep["search"], "seeds": 1}}
    selected = [view for _, view in xtreme._selected(replace(both, sweep=one_seed), ("model",))]
    assert [view.configuration for view in selected] == [99]
