"""Parameter-efficient fine-tuning: what is trained, what is kept, and the same bits after stops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers.models.bert.modeling_bert import BertPooler

from tests.command import Xlt
from tests.training.conftest import TINY, Bench, stop
from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.methods import PEFT, ConfigModel, LoraPeft
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.trial import Model
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import ModelError
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, open_ledger
from xlt_ray.modeling.encoder import POOLER, load_encoder, load_tokenizer
from xlt_ray.modeling.exported_network import load_exported
from xlt_ray.modeling.peft import add_peft, merge_adapter, save_adapter
from xlt_ray.store.gc import GcRoots, Inventory, plan, remove
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import dependencies
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.cost import trained_parameters
from xlt_ray.training.deepspeed_engine import WEIGHTS
from xlt_ray.training.load import ADAPTER, load_committed, load_network, load_parent
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
        assert not list(context.store.folder(stage.key).glob("model*.safetensors"))


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


def test_below_an_adapter_nothing_is_freed_that_the_best_trial_needs(
    bench: Bench, tmp_path: Path
) -> None:
    bench.make(tmp_path, *BOTH)
    intermediate, target = tuned(bench, *BOTH)
    evaluation = bench.path(*BOTH)[-1]
    assert [stage.key for stage in dependencies(evaluation)] == [target.key, intermediate.key]
    keys = {intermediate.key, target.key, evaluation.key}
    entries = Inventory(StageStore(tmp_path)).look()
    for best, kept in ({target.key}, keys), (set(), {evaluation.key}):
        roots = GcRoots(best=frozenset(best), used=frozenset(keys))
        freed = {it.entry.key for it in plan(entries, roots, all_but_best=True).removals}
        assert keys - freed == kept


@pytest.fixture
def home(bench: Bench, tmp_path: Path) -> Home:
    """A home with one trial, whose stages are adapters."""
    home = Home(tmp_path / "home")
    bench.make(home.root, *BOTH)
    sweep = sweep_of(parse_document(TINY, "tiny.yaml", BOTH))
    ledger = open_ledger(home, sweep)
    assert ledger.ask(sweep, bench.facts.model_bounds) is not None
    uses = [StageUse(stage.kind, stage.key, stage.label, False) for stage in bench.path(*BOTH)[1:]]
    ledger.set_stages(0, uses)
    ledger.tell_complete(0, 0.7)
    return home


def test_export_is_merged_and_has_the_adapter(
    bench: Bench, home: Home, xlt: Xlt, tmp_path: Path
) -> None:
    code, out, error = xlt("export", "tiny", tmp_path / "best")
    assert code == 0, (out, error)
    assert (tmp_path / "best" / ADAPTER / "adapter_config.json").exists()
    _, target = tuned(bench, *BOTH)
    network, _ = load_network(target, bench.context(home.root, *BOTH))
    exported = load_exported(tmp_path / "best").network.state_dict()
    assert all(old.equal(exported[name]) for name, old in network.state_dict().items())

    store = StageStore(home.root)
    (below,) = (entry for entry in Inventory(store).look() if entry.kind == "intermediate")
    remove(store, below)
    code, _, error = xlt("export", "tiny", tmp_path / "again")
    assert (code, "is not in the store; make it again: xlt stage tiny" in error) == (1, True), error
    list(bench.walk(home.root, *BOTH, until="target"))
    assert xlt("export", "tiny", tmp_path / "again").code == 0


def test_stages_after_adapters_go_on_from_them(bench: Bench, tmp_path: Path) -> None:
    overrides = (
        *BOTH,
        "intermediate.schedule=wsd",
        "few_shot={language: qab, shots: 4, steps: 2, learning_rate: 1e-3, batch_size: 4}",
    )
    bench.make(tmp_path, *overrides)
    path = bench.path(*overrides)
    assert [stage.kind for stage in path if stage.is_adapter] == ["intermediate", "target"]
    few_shot = path[-2]
    assert [stage.kind for stage in dependencies(few_shot)] == ["target", "intermediate"]
    context = bench.context(tmp_path, *overrides)
    (before, _), (after, _) = load_parent(few_shot, context), load_committed(few_shot, context)
    for name, weights in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weights, atol=0.02, rtol=0, msg=name)


def test_the_pooler_goes_with_the_adapter(tmp_path: Path) -> None:
    model = Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, tuple("abc"))
    trained, fresh = (load_encoder(model, tokenizer, 0) for _ in range(2))
    poolers = [BertPooler(trained.config) for _ in range(2)]
    for encoder, pooler in zip((trained, fresh), poolers, strict=True):
        object.__setattr__(encoder, POOLER, pooler)
    add_peft(trained, LoraPeft(method="lora"), 0)
    save_adapter(trained, tmp_path / ADAPTER)
    merge_adapter(fresh, tmp_path / ADAPTER)
    assert torch.equal(poolers[0].dense.weight, poolers[1].dense.weight)
