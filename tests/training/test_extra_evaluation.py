"""What is evaluated beside the target task: scored, kept apart, and without any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import TINY, Bench
from xlt_ray.config.checks.check_sweep import check
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.trial import Model
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.sources.base import open_source
from xlt_ray.data.task import task_named
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder
from xlt_ray.store.evaluation_items import ITEMS, read_items
from xlt_ray.store.record import Score, StageRecord, values_by_language
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.load import TrainingContext
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.walk import walk

PLAIN = (
    "target={task: toy-similarity, source_language: qaa, size: 32, batch_size: 16,"
    " max_length: 32, learning_rate: 1e-3}",
    "intermediate=null",
    "align={objective: contrastive, steps: 40, batch_size: 32, max_length: 32,"
    " learning_rate: 3e-3}",
    "evaluate={languages: [qab, qac], examples: 60}",
)
ASKED = (
    *PLAIN[:-1],
    "evaluate={languages: [qab, qac], examples: 60, pairs: all,"
    " also: [toy-retrieval, toy-ranking, toy-mining],"
    " retrieval_layer: 2}",
)


@pytest.fixture(scope="module")
def kept(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StageStore, dict[str, StageRecord]]:
    """One small trial, evaluated plainly and with all that there is."""
    root = tmp_path_factory.mktemp("examined")
    store = StageStore(root)
    facts = facts_of(sweep_of(parse_document(TINY, "tiny.yaml", ASKED)))
    own = replace(bench, facts=facts)
    found = {}
    for name, overrides in {"plain": PLAIN, "asked": ASKED}.items():
        own.make(root, *overrides)
        record = store.verify(own.path(*overrides)[-1].key)
        assert record is not None
        found[name] = record
    return store, found


@pytest.fixture(scope="module")
def scored(
    kept: tuple[StageStore, dict[str, StageRecord]],
) -> dict[str, tuple[Score, ...]]:
    return {name: record.scores for name, record in kept[1].items()}


def test_what_is_added_leaves_the_scores_of_the_target_task_alone(
    scored: dict[str, tuple[Score, ...]],
) -> None:
    assert {score.role for score in scored["plain"]} == {"target"}
    assert tuple(score for score in scored["asked"] if score.role == "target") == scored["plain"]
    for metric in ("pearson", "spearman"):
        plain, asked = (values_by_language(scored[name], "test", metric) for name in scored)
        assert plain == asked
        assert set(plain) == {"qaa", "qab", "qac"}


def test_a_pair_of_one_language_with_itself_is_that_language(
    scored: dict[str, tuple[Score, ...]],
) -> None:
    alone = values_by_language(scored["asked"], "test", "pearson")
    pairs = {
        score.language: score
        for score in scored["asked"]
        if score.role == "pairs" and score.metric == "pearson"
    }
    assert len(pairs) == 9
    for language, value in alone.items():
        assert pairs[f"{language}:{language}"].value == pytest.approx(value, abs=1e-6)
    assert {pair.task for pair in pairs.values()} == {"toy-similarity-pairs"}
    assert {(pair.num_examples, pair.num_dropped) for pair in pairs.values()} == {(60, 0)}
    assert pairs["qaa:qab"].value != pairs["qab:qaa"].value


def test_an_aligned_encoder_finds_translations_far_above_chance(
    scored: dict[str, tuple[Score, ...]],
) -> None:
    found = {
        (score.language, score.metric): score.value
        for score in scored["asked"]
        if score.task == "toy-retrieval"
    }
    assert {language for language, _ in found} == {"qab", "qac"}
    assert {score.role for score in scored["asked"] if score.task == "toy-retrieval"} == {"further"}
    for language in ("qab", "qac"):
        assert found[language, "accuracy"] > 5 / 60
        assert found[language, "accuracy"] == pytest.approx(
            (found[language, "accuracy_into_pivot"] + found[language, "accuracy_from_pivot"]) / 2
        )


def test_the_encoder_before_the_target_training_is_scored_where_that_is_asked(
    bench: Bench, tmp_path: Path
) -> None:
    own = replace(bench, facts=facts_of(sweep_of(parse_document(TINY, "tiny.yaml", ASKED))))
    found = {}
    for name, change in {
        "trained": "target.learning_rate=1e-2",
        "before": "target.learning_rate=1e-2",
        "untrained": "target.learning_rate=1e-30",
    }.items():
        asked = "target" if name == "trained" else "before"
        overrides = (*ASKED, change, f"evaluate.retrieval_encoder={asked}")
        *_, evaluation = own.path(*overrides)
        assert ("retrieval_encoder" in evaluation.settings) == (asked == "before")
        own.make(tmp_path, *overrides)
        record = StageStore(tmp_path).record(evaluation.key)
        assert record is not None
        found[name] = {
            (score.language, score.metric): score.value
            for score in record.scores
            if score.task == "toy-retrieval"
        }
    assert found["before"] == found["untrained"] != found["trained"]


def test_candidates_are_ranked_by_the_encoder_beside_another_kind(
    scored: dict[str, tuple[Score, ...]],
) -> None:
    scores = [score for score in scored["asked"] if score.task == "toy-ranking"]
    assert {score.role for score in scores} == {"further"}
    assert {score.language for score in scores} == {"qaa", "qab", "qac"}
    # Of 60 candidates in six languages the six that mean the same.
    assert all(score.value > 0.15 for score in scores if score.metric == "map_at_20")


def test_an_aligned_encoder_mines_translations_far_above_chance_and_better_than_before(
    bench: Bench, scored: dict[str, tuple[Score, ...]], tmp_path: Path
) -> None:
    scores = [score for score in scored["asked"] if score.task == "toy-mining"]
    assert {(score.role, score.language, score.split, score.num_examples) for score in scores} == {
        ("further", language, "test", 60) for language in ("qab", "qac")
    }
    assert {score.metric for score in scores} == set(task_named("toy-mining").metrics)
    # Of 30 sentences a side 15 have a translation; who pairs them by chance finds one at most.
    values = {score.language: score.value for score in scores if score.metric == "f1"}
    assert min(values.values()) > 0.4
    own = replace(bench, facts=facts_of(sweep_of(parse_document(TINY, "tiny.yaml", ASKED))))
    bare = (
        *ASKED,
        "align=null",
        "evaluate={languages: [qab, qac], examples: 60, also: [toy-mining], retrieval_layer: 2}",
    )
    own.make(tmp_path, *bare)
    record = StageStore(tmp_path).record(own.path(*bare)[-1].key)
    assert record is not None
    mined = [
        score for score in record.scores if score.task == "toy-mining" and score.metric == "f1"
    ]
    assert len(mined) == len(values) == 2
    assert all(score.value < values[score.language] for score in mined)


def test_the_items_that_are_kept_sum_up_to_every_score(
    kept: tuple[StageStore, dict[str, StageRecord]],
) -> None:
    store, records = kept
    record = records["asked"]
    found = {
        (item.role, item.task, item.language, item.split, metric): (item, *parts)
        for item in read_items(store, record)
        for metric, parts in item.parts.items()
    }
    assert len(found) == len(record.scores)
    for score in record.scores:
        place = (score.role, score.task, score.language, score.split, score.metric)
        items, points, out_of = found[place]
        assert points.sum() / out_of.sum() == pytest.approx(score.value, abs=1e-5)
        assert score.num_items == len(points) == len(set(items.ids.tolist()))
        assert score.chance is not None
        assert score.chance < 1
        assert 0 < (score.top_share or 0) < 1
    # Rows of one number are translations of each other.
    first, second = (
        found["target", "toy-similarity", code, "test", "pearson"][0] for code in ("qab", "qac")
    )
    assert (first.ids == second.ids).all()
    # A few bytes each: 60 items in 4 + 9 + 7 evaluations.
    assert record.files[ITEMS].num_bytes < 60_000


def test_no_two_scores_have_the_same_names(scored: dict[str, tuple[Score, ...]]) -> None:
    names = {(score.task, score.language, score.split, score.metric) for score in scored["asked"]}
    assert len(names) == len(scored["asked"])


WORDS = ("balope", "sire", "navoke", "lafis")
FILES = """
name: files
data: {{source: files, root: "{root}"}}
model: "{model}"
target: {{task: ner-uner, epochs: 1, batch_size: 8, max_length: 16, learning_rate: 1e-3}}
evaluate: {{also: [ner-masakha]}}
objective: {{metric: f1}}
search: {{trials: 1}}
"""


def test_a_further_task_is_scored_under_the_head_of_the_target(
    bench: Bench, tmp_path: Path
) -> None:
    places = {"ner-uner": ["en.train", "en.dev", "en.test", "de.test"], "ner-masakha": ["sw.test"]}
    for folder, files in places.items():
        (tmp_path / folder).mkdir()
        for file in files:
            text = "\n\n".join(f"{word}\tO\nsire\tB-PER" for word in WORDS * 4)
            (tmp_path / folder / f"{file}.conll").write_text(text + "\n", encoding="utf-8")
    toy = Model(name="toy:2x32")
    tokenizer = load_tokenizer(toy, WORDS)
    save_encoder(load_encoder(toy, tokenizer, 0), tokenizer, tmp_path / "model")
    sweep = sweep_of(
        parse_document(FILES.format(root=tmp_path, model=tmp_path / "model"), "files.yaml")
    )
    facts = facts_of(sweep)
    assert check(sweep, facts) == []
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    store = StageStore(tmp_path / "store")
    runtime = Runtime(cache=tmp_path / "cache")
    context = TrainingContext(trial.model, open_source(trial.data), store, runtime, bench.group)
    list(walk(path, context))
    record = store.record(path[-1].key)
    assert record is not None
    scores = {(score.role, score.task, score.language, score.split) for score in record.scores}
    assert scores == {
        ("target", "ner-uner", "en", "dev"),
        ("target", "ner-uner", "en", "test"),
        ("target", "ner-uner", "de", "test"),
        ("further", "ner-masakha", "sw", "test"),
    }
    values = {score.role: score.value for score in record.scores if score.metric == "accuracy"}
    # The same text is scored the same, whichever task it is of.
    assert values["further"] == values["target"]
