"""Word embeddings that no batch shows are not trained, and the weights are those of all trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench, stop
from xlt_ray.modeling import trimmed_embedding
from xlt_ray.modeling.trimmed_embedding import TrimmedEmbedding
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.training.deepspeed_engine import WEIGHTS
from xlt_ray.training.events import Evaluated
from xlt_ray.training.final_weights import AVERAGE
from xlt_ray.training.setup import training_setup

TABLE = "embeddings.word_embeddings.weight"
PLAIN = ("intermediate=null", "target.hybrid.ratio=0")
KINDS = {
    "one language": PLAIN,
    "translated": ("intermediate=null", "target.hybrid.ratio=0.5"),
    "switched": ("intermediate=null", "target.hybrid={ratio: 0.5, text: switched}"),
    "copies": (*PLAIN, "target.robust={method: augment}"),
    "perturbed": (*PLAIN, "target.robust={method: random, draws: 1, epsilon: 0.1}"),
    "mixture": ("intermediate.task=[toy-nli, toy-tagging]", "target.hybrid.ratio=0"),
    "contrast": (*PLAIN, "align={objective: contrastive, languages: [qaa, qab], steps: 4, "
                 "learning_rate: 1e-3, batch_size: 16, max_length: 32, group: 4}"),
}  # fmt: skip


def training_stage(bench: Bench, overrides: tuple[str, ...]) -> Stage:
    """The first training of a path."""
    return bench.path(*overrides)[1]


def make(bench: Bench, root: Path, overrides: tuple[str, ...], **runtime: Any) -> dict[str, Tensor]:
    """The encoder that the first training of a path ends with."""
    stage = training_stage(bench, overrides)
    bench.make(root, *overrides, until=stage.kind, **runtime)
    return load_file(StageStore(root).folder(stage.key) / "model.safetensors")


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the share of a table's rows up to which they are trained alone."""
    return partial(monkeypatch.setattr, trimmed_embedding, "LARGEST_SHARE")


@pytest.mark.parametrize("overrides", KINDS.values(), ids=list(KINDS))
def test_every_batch_is_of_the_vocabulary(
    bench: Bench, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    stage = training_stage(bench, overrides)
    setup, _ = training_setup(stage, bench.context(tmp_path, *overrides))
    vocabulary = setup.batches.vocabulary()
    assert vocabulary is not None
    shown = [
        array
        for step in range(3 * setup.num_steps)
        for name, array in setup.batches.batch(step).items()
        if name.endswith("input_ids")
    ]
    assert np.isin(np.concatenate([array.ravel() for array in shown]), vocabulary).all()


@pytest.mark.parametrize("overrides", KINDS.values(), ids=list(KINDS))
def test_a_trimmed_training_ends_in_the_weights_of_a_whole_one(
    bench: Bench, tmp_path: Path, overrides: tuple[str, ...], share: Callable[[float], None]
) -> None:
    share(1.0)
    trimmed = make(bench, tmp_path / "trimmed", overrides)
    share(0.0)
    whole = make(bench, tmp_path / "whole", overrides)
    assert_trained_alike(trimmed, whole, atol=1e-4)
    stage = training_stage(bench, overrides)
    setup, _ = training_setup(stage, bench.context(tmp_path, *overrides))
    before = setup.network.get_submodule("encoder").state_dict()[TABLE]
    unseen = np.setdiff1d(np.arange(len(before)), setup.batches.vocabulary())
    assert len(unseen)
    for trained in (trimmed, whole):
        assert torch.equal(trained[TABLE][unseen], before[unseen])
        assert not torch.equal(trained[TABLE], before)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_trimmed_training_goes_on_to_the_same_bits(
    bench: Bench, tmp_path: Path, zero_stage: int, precision: str
) -> None:
    if (precision, zero_stage) == ("bf16", 0):
        pytest.skip("bf16 needs ZeRO")
    overrides = (*PLAIN, f"resources={{precision: {precision}, zero_stage: {zero_stage}}}")
    whole = make(bench, tmp_path / "whole", overrides, zero_stage=zero_stage)
    broken = bench.walk(tmp_path / "broken", *overrides, zero_stage=zero_stage)
    next(event for event in broken if isinstance(event, Evaluated))
    stop(broken)
    store, stage = StageStore(tmp_path / "broken"), training_stage(bench, overrides)
    progress = store.find_progress(stage.key)
    assert progress is not None
    saved = load_file(store.fetch_progress(progress, "test") / WEIGHTS)
    setup, _ = training_setup(stage, bench.context(tmp_path, *overrides))
    table = setup.network.get_submodule("encoder").get_input_embeddings()
    assert isinstance(table, TrimmedEmbedding)
    rows = {name: len(weights) for name, weights in saved.items() if "word_embeddings" in name}
    assert rows == {
        "encoder.embeddings.word_embeddings.trained.weight": len(setup.batches.vocabulary())
    }
    again = make(bench, tmp_path / "broken", overrides, zero_stage=zero_stage)
    for name, weights in whole.items():
        assert torch.equal(weights, again[name]), name
    # No row of the rest was rounded or divided.
    is_rest = table.places < 0
    assert torch.equal(whole[TABLE][is_rest], table.rest.weight)


def test_a_training_with_weight_decay_is_not_trimmed(bench: Bench, tmp_path: Path) -> None:
    overrides = (*PLAIN, "target.weight_decay=0.1")
    setup, _ = training_setup(training_stage(bench, overrides), bench.context(tmp_path, *overrides))
    table = setup.network.get_submodule("encoder").get_input_embeddings()
    assert type(table) is torch.nn.Embedding


def test_masked_lm_predicts_every_piece(bench: Bench, tmp_path: Path) -> None:
    overrides = ("intermediate.mlm={share: 0.25}", "intermediate.languages=all")
    setup, _ = training_setup(training_stage(bench, overrides), bench.context(tmp_path, *overrides))
    assert setup.batches.vocabulary() is None
    table = setup.network.get_submodule("encoder").get_input_embeddings()
    assert type(table) is torch.nn.Embedding


def test_an_average_of_trimmed_trainings_is_scored_whole(
    bench: Bench, tmp_path: Path, share: Callable[[float], None]
) -> None:
    overrides = (*PLAIN, "target.average=2", "target.select=last")
    key = bench.path(*overrides)[1].key
    means = []
    for number, largest in enumerate((0.5, 0.0)):
        share(largest)
        root = tmp_path / f"{number}"
        bench.make(root, *overrides)
        means.append(load_file(StageStore(root).folder(key) / AVERAGE))
    assert_trained_alike(*means, atol=1e-4)
