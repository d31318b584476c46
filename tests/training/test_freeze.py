"""Frozen parts of an encoder stay as they are through every training of a trial, and only the
layers that are kept are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import TINY, Bench, stop
from xlt_ray.config.search_space import probes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.training.deepspeed_engine import WEIGHTS
from xlt_ray.training.load import load_parent
from xlt_ray.training.loop import Evaluated

FROZEN = "model={name: toy:2x32, freeze: {embeddings: true, layers: 1}}"


def is_frozen(name: str) -> bool:
    return name.startswith(("embeddings.", "encoder.layer.0."))


def trained_stages(path: tuple[Stage, ...]) -> list[Stage]:
    return [stage for stage in path if stage.is_training]


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_frozen_keeps_its_bits_also_after_an_interruption(
    bench: Bench, tmp_path: Path, zero_stage: int, precision: str
) -> None:
    if (precision, zero_stage) == ("bf16", 0):
        pytest.skip("bf16 needs ZeRO")
    overrides = (FROZEN, f"resources={{precision: {precision}, zero_stage: {zero_stage}}}")
    bench.make(tmp_path / "whole", *overrides, zero_stage=zero_stage)
    intermediate, target = trained_stages(bench.path(*overrides))
    encoder, _ = load_parent(intermediate, bench.context(tmp_path, *overrides))
    for stage in (intermediate, target):
        folder = StageStore(tmp_path / "whole").folder(stage.key)
        for name, weights in load_file(folder / "model.safetensors").items():
            assert torch.equal(weights, encoder.state_dict()[name]) == is_frozen(name), name

    broken = bench.walk(tmp_path / "broken", *overrides, zero_stage=zero_stage)
    next(event for event in broken if isinstance(event, Evaluated) and event.stage == target)
    stop(broken)
    store = StageStore(tmp_path / "broken")
    progress = store.find_progress(target.key)
    assert progress is not None
    saved = load_file(store.fetch_progress(progress, "test") / WEIGHTS)
    assert saved
    assert not [name for name in saved if is_frozen(name.removeprefix("encoder."))]
    bench.make(tmp_path / "broken", *overrides, zero_stage=zero_stage)
    assert bench.bits(tmp_path / "broken", *overrides) == bench.bits(tmp_path / "whole", *overrides)


def test_frozen_parts_enter_the_keys_of_all_trainings(bench: Bench) -> None:
    few_shot = (
        "few_shot={language: qab, shots: 4, steps: 2, learning_rate: 1e-3, batch_size: 4}",
        "align={objective: mlm, languages: [qaa], steps: 2, learning_rate: 1e-3, max_length: 32}",
    )
    plain, nothing, frozen = (
        trained_stages(bench.path(*few_shot, *model))
        for model in ((), ("model={name: toy:2x32, freeze: {layers: 0}}",), (FROZEN,))
    )
    assert [stage.kind for stage in plain] == ["align", "intermediate", "target", "few_shot"]
    assert [stage.key for stage in nothing] == [stage.key for stage in plain]
    assert {str(stage.settings["freeze"]) for stage in frozen} == {
        "{'embeddings': True, 'layers': 1}"
    }


def test_the_number_of_frozen_layers_can_be_searched(bench: Bench) -> None:
    sweep = sweep_of(
        parse_document(
            TINY, "tiny.yaml", ["model={name: toy:2x32, freeze: {layers: {int: [0, 1]}}}"]
        )
    )
    facts = bench.facts
    paths = {
        picked["model.freeze.layers"]: path_of(sweep.trial(tree), facts, seed=0, shared_seed=0)
        for tree, picked in probes(sweep.space, facts.model_bounds)
    }
    assert set(paths) == {0, 1}
    assert paths[0][-1].key == bench.path()[-1].key
    frozen = [stage.settings.get("freeze", {}).get("layers") for stage in paths[1]]
    assert frozen == [None, 1, 1, None]


def test_all_stages_of_a_trial_have_only_the_layers_that_are_kept(
    bench: Bench, tmp_path: Path
) -> None:
    overrides = ("model={name: toy:2x32, layers: 1}", "target.fusion={method: dlfa, layer: 0}")
    bench.make(tmp_path, *overrides)
    for stage in trained_stages(bench.path(*overrides)):
        folder = StageStore(tmp_path).folder(stage.key)
        assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 1
        layers = {name for name in load_file(folder / "model.safetensors") if "layer." in name}
        assert layers == {name for name in layers if "layer.0." in name} != set()
