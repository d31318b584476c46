"""Parameter-efficient fine-tuning: what is trained, what is kept, and the same bits after stops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.training.conftest import Bench, stop
from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.methods import PEFT, ConfigModel, LoraPeft
from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.peft import add_peft
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.cost import trained_parameters
from xlt_ray.training.deepspeed_engine import WEIGHTS
from xlt_ray.training.load import ADAPTER, load_committed, load_parent
from xlt_ray.training.loop import Evaluated

LORA = "{method: lora, rank: 4, dropout: 0.1}"
BOTH = ("intermediate.peft={method: ia3}", f"target.peft={LORA}")


def tuned(bench: Bench, *overrides: str) -> tuple[Stage, Stage]:
    intermediate, target = (stage for stage in bench.path(*overrides) if stage.is_training)
    return intermediate, target


@pytest.mark.parametrize(
    ("precision", "zero_stage"),
    [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 2), ("bf16", 3)],
)
def test_only_new_weights_are_trained_with_the_same_bits_after_an_interruption(
    bench: Bench, tmp_path: Path, precision: str, zero_stage: int
) -> None:
    overrides = (*BOTH, f"resources={{precision: {precision}, zero_stage: {zero_stage}}}")
    bench.make(tmp_path / "whole", *overrides, zero_stage=zero_stage)
    _, target = tuned(bench, *overrides)

    broken = bench.walk(tmp_path / "broken", *overrides, zero_stage=zero_stage)
    next(event for event in broken if isinstance(event, Evaluated) and event.stage == target)
    stop(broken)
    store = StageStore(tmp_path / "broken")
    progress = store.find_progress(target.key)
    assert progress is not None
    saved = load_file(store.fetch_progress(progress, "test") / WEIGHTS)
    assert {name.split(".")[0] for name in saved} == {"encoder", "fusion", "head"}
    assert all(".lora_" in name for name in saved if name.startswith("encoder."))
    bench.make(tmp_path / "broken", *overrides, zero_stage=zero_stage)
    assert bench.bits(tmp_path / "broken", *overrides) == bench.bits(tmp_path / "whole", *overrides)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_adapter_on_the_parent_is_the_merged_encoder(
    bench: Bench, tmp_path: Path, zero_stage: int
) -> None:
    bench.make(tmp_path, *BOTH, zero_stage=zero_stage)
    context = bench.context(tmp_path, *BOTH)
    ids = torch.arange(5, 25).reshape(2, 10)
    for stage in tuned(bench, *BOTH):
        parent, _ = load_parent(stage, context)
        merged, _ = load_committed(stage, context)
        folder = context.store.folder(stage.key) / ADAPTER
        before, expected = (encoder.eval()(ids)[0] for encoder in (parent, merged))
        adapted = PeftModel.from_pretrained(parent, folder).eval()
        actual = adapted(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        assert not torch.allclose(before, expected, atol=1e-4)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
        tensors = load_file(folder / "adapter_model.safetensors")
        changed = {
            name
            for name, weights in merged.state_dict().items()
            if not torch.equal(weights, parent.state_dict().get(name, weights))
        }
        assert not changed - {name.split(".base_layer")[0] for name in tensors}


def test_frozen_layers_get_no_new_weights(bench: Bench, tmp_path: Path) -> None:
    overrides = (*BOTH, "model={name: toy:2x32, freeze: {embeddings: true, layers: 1}}")
    bench.make(tmp_path, *overrides)
    _, target = tuned(bench, *overrides)
    context = bench.context(tmp_path, *overrides)
    (parent, _), (merged, _) = load_parent(target, context), load_committed(target, context)
    weights = merged.state_dict()
    changed = {name for name, old in parent.state_dict().items() if not old.equal(weights[name])}
    assert changed == {
        f"encoder.layer.1.attention.self.{part}.weight" for part in ("query", "value")
    }


def test_none_is_the_key_of_before(bench: Bench) -> None:
    none = ("intermediate.peft={method: none}", "target.peft={method: none}")
    assert [stage.key for stage in bench.path(*none)] == [stage.key for stage in bench.path()]
    assert [stage.settings.get("peft", {}).get("method") for stage in bench.path(*BOTH)] == [
        None, "ia3", "lora", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        *(entry.settings(method=entry.name) for entry in PEFT if entry.name != "none"),
        LoraPeft(method="lora", rank=3, modules="all"),
    ],
)
def test_plan_knows_how_many_weights_are_trained(bench: Bench, settings: ConfigModel) -> None:
    model = Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, tuple("abc"))
    encoder = load_encoder(model, tokenizer, 0)
    add_peft(encoder, settings, 0)
    trained = sum(weights.numel() for weights in encoder.parameters() if weights.requires_grad)
    facts: ModelFacts = bench.facts.models["toy:2x32"]
    assert trained == trained_parameters(facts, {"peft": settings.hashed()}, 10)


def test_unknown_layers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(name="toy:2x32")
    encoder = load_encoder(model, load_tokenizer(model, tuple("abc")), 0)
    monkeypatch.setattr(type(encoder.config), "model_type", "unheard-of")
    with pytest.raises(ModelError, match="modules: all"):
        add_peft(encoder, LoraPeft(method="lora"), 0)
    add_peft(encoder, LoraPeft(method="lora", modules="all"), 0)
