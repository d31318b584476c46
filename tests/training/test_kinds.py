"""Every kind of task learns on toy data, with every head, loss, metric and decoding of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import TINY, Bench
from xlt_ray.config.methods import (
    FUSIONS,
    ROBUST,
    AdversarialRobust,
    AifFusion,
    AugmentRobust,
    ConfigModel,
    DlfaFusion,
    Method,
    MixFusion,
    NoFusion,
    NoRobust,
    RandomRobust,
    Robust,
)
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Hybrid, Model
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.batches.evaluation import eval_split
from xlt_ray.data.batches.mixture_batches import NumberedBatches
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.network import Network, build_network
from xlt_ray.modeling.objectives.perturbed import robust_network
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.evaluate import EvalPass, EvalSet, score

LEARNED = {
    "toy-tagging": (60, 0.3),
    "toy-paraphrase": (250, 0.02),
    "toy-topic": (150, 0.3),
    "toy-similarity": (120, 0.15),
    "toy-choice": (60, 0.15),
    "toy-qa": (80, 0.08),
    "toy-ranking": (60, 0.02),
}
"""Steps, and by how much the headline on the source language's dev set rises at least."""


def test_every_kind_is_learned_here() -> None:
    trained = {name for name, entry in KINDS.items() if entry.is_trained}
    assert {task_named(name).kind for name in LEARNED} == trained


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class How(NamedTuple):
    """A method of training as a target stage puts it together."""

    fusion: ConfigModel = NoFusion()
    robust: Robust = NoRobust()
    hybrid: Hybrid = Hybrid()


METHODS = {
    "dlfa": How(fusion=DlfaFusion(method="dlfa", layer=1)),
    "aif": How(fusion=AifFusion(method="aif", layer=1)),
    "mix": How(fusion=MixFusion(method="mix")),
    "first piece": How(fusion=DlfaFusion(method="dlfa", layer=1, placement="first")),
    "mean": How(fusion=AifFusion(method="aif", layer=1, placement="mean")),
    "adversarial": How(
        robust=AdversarialRobust(method="adversarial", steps=1, step_size=0.05, epsilon=0.05)
    ),
    "random": How(robust=RandomRobust(method="random", draws=2, epsilon=0.05)),
    "augment": How(robust=AugmentRobust(method="augment", copies=2)),
    "per batch": How(hybrid=Hybrid(ratio=0.5)),
    "in batch": How(hybrid=Hybrid(ratio=0.5, mixing="in_batch", text="switched")),
}


def with_ones(entry: Method) -> Any:
    """Settings of a method: 1 wherever there is no default."""
    fields = entry.settings.model_fields.items()
    required = {name for name, field in fields if field.is_required()} - {"method"}
    return entry.settings.model_validate({"method": entry.name, **dict.fromkeys(required, 1)})


KNOWN = {"none", *METHODS}
METHODS |= {
    fusion.name: How(fusion=with_ones(fusion)) for fusion in FUSIONS if fusion.name not in KNOWN
}
METHODS |= {
    method.name: How(robust=with_ones(method)) for method in ROBUST if method.name not in KNOWN
}
PAIRS = [
    (kind, method)
    for kind in LEARNED
    for method, how in METHODS.items()
    if getattr(how.fusion, "placement", "pieces") == "pieces"
    or not KINDS[task_named(kind).kind].is_by_piece
]


@pytest.mark.parametrize("name", LEARNED)
def test_a_kind_learns_its_toy_task_and_carries_it_over(name: str, cache: Path) -> None:
    before, after = _learned(name, How(), cache)
    assert after["qaa"] > before["qaa"] + LEARNED[name][1]
    assert after["qab"] > before["qab"]


@pytest.mark.long
@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_every_kind_learns_under_every_method(name: str, method: str, cache: Path) -> None:
    before, after = _learned(name, METHODS[method], cache)
    assert after["qaa"] > before["qaa"] + LEARNED[name][1] / 2


@pytest.mark.long
def test_crossed_rankings_find_more_in_a_pool_of_all_languages(cache: Path) -> None:
    """The order of arXiv 2408.10536 (table of its multilingual pools): X-Y above X-X-mono."""
    english, mono, crossed = (
        _learned("toy-ranking", How(hybrid=hybrid), cache)[1]
        for hybrid in (Hybrid(), Hybrid(mono="uniform"), Hybrid(ratio=1.0))
    )
    assert english["qab"] < mono["qab"] < crossed["qab"]


def _learned(name: str, how: How, cache: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Headlines on dev sets in two languages, untrained and trained."""
    torch.set_num_threads(1)
    source, task, model = ToySource(0), task_named(name), Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, source.vocabulary())
    pipeline = TextPipeline(tokenizer, "toy", 32, cache)
    encoder = load_encoder(model, tokenizer, 0)
    plain = build_network(encoder, task.kind, how.fusion, len(task.labels), 0)
    network = robust_network(plain, how.robust, pipeline.template.special_ids)
    steps, _ = LEARNED[name]
    augment = how.robust if isinstance(how.robust, AugmentRobust) else None
    batches = NumberedBatches(
        train_batches(
            source,
            task,
            LabelAccess("train", name, "qaa"),
            "all",
            pipeline,
            BatchSettings(32, 0),
            hybrid=how.hybrid,
            augment=augment,
        ),
        seed=0,
    )
    access = LabelAccess("evaluate", name, "qaa")
    eval_sets = [
        EvalSet(eval_split(source, task, access, language, "dev", "all", pipeline))
        for language in ("qaa", "qab")
    ]
    eval_pass = EvalPass(eval_sets, 64)
    before = _headlines(network, eval_pass)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        batch = {key: torch.from_numpy(array) for key, array in batches.batch(step).items()}
        batch["denominator"] = (batch["labels"] != -100).sum().float()
        optimizer.zero_grad()
        network(batch).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return before, _headlines(network, eval_pass)


def _headlines(network: Network, eval_pass: EvalPass) -> dict[str, float]:
    network.eval()
    found = {
        split.language: scores[split.task.metrics[0]]
        for (split, _), scores in zip(eval_pass.eval_sets, score(network, eval_pass), strict=True)
    }
    network.train()
    return found


PATH = [
    "intermediate.task=toy-choice",
    "target.size=32",
    "evaluate={languages: [qab], dev: all, examples: 12}",
]


@pytest.mark.parametrize("name", ["toy-similarity", "toy-choice", "toy-qa", "toy-ranking"])
def test_a_kind_goes_the_whole_path_and_micro_batches_change_nothing(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    overrides = [*PATH, f"target.task={name}"]
    tasks = f"target.task={{choice: [toy-paraphrase, {name}]}}"
    document = parse_document(TINY, "tiny.yaml", [*PATH, tasks])
    own = replace(bench, facts=facts_of(sweep_of(document)))
    own.make(tmp_path / "whole", *overrides)
    own.make(tmp_path / "parts", *overrides, micro_batch=4, zero_stage=2)
    *_, target, evaluation = own.path(*overrides)
    first, second = (
        load_file(tmp_path / root / "stages" / target.key / "model.safetensors")
        for root in ("whole", "parts")
    )
    assert_trained_alike(first, second, task_named(name).kind, atol=1e-4)
    store = StageStore(tmp_path / "whole")
    record, trained = store.record(evaluation.key), store.record(target.key)
    assert record is not None
    assert trained is not None
    task = task_named(name)
    assert {score.metric for score in record.scores} == set(task.metrics)
    assert {(score.language, score.split, score.num_examples) for score in record.scores} == {
        ("qaa", "dev", 12), ("qab", "dev", 12), ("qaa", "test", 12), ("qab", "test", 12),
    }  # fmt: skip
    assert set(task.metrics) <= set(trained.history[-1]["metrics"])


def test_ranking_is_trained_beside_another_task_and_scored_by_its_own_head(
    bench: Bench, tmp_path: Path
) -> None:
    overrides = [
        "intermediate={task: [toy-ranking, toy-tagging], size: 32, batch_size: 8, max_length: 32}",
        "target={task: toy-ranking, source_language: qaa, size: 16, batch_size: 8,"
        " max_length: 32, epochs: 1}",
        "evaluate={languages: [qab], examples: 12}",
    ]
    facts = facts_of(sweep_of(parse_document(TINY, "tiny.yaml", overrides)))
    own = replace(bench, facts=facts)
    own.make(tmp_path, *overrides)
    *_, target, evaluation = own.path(*overrides)
    store = StageStore(tmp_path)
    assert target.parent is not None
    assert target.parent.settings["tasks"].keys() == {"toy-ranking", "toy-tagging"}
    record = store.record(evaluation.key)
    assert record is not None
    assert {score.metric for score in record.scores} == set(task_named("toy-ranking").metrics)
    assert "retrieval_layer" not in evaluation.settings
