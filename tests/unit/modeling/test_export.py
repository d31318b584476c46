"""An exported folder: the same bits for xlt-ray and for transformers, or an error in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.unit.modeling.conftest import VOCABULARY
from tests.unit.modeling.test_encoder import assert_equal_bits, perturbed, states
from xlt_ray.config.export_metadata import FILE, Exported, read_exported
from xlt_ray.config.methods import FUSIONS, method_named
from xlt_ray.config.task_types import KINDS, TaskKind
from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder
from xlt_ray.modeling.exported_network import HEAD, load_exported, write_exported
from xlt_ray.modeling.network import Network, build_network, save_extra

LABELS = ("no", "maybe", "yes")
DLFA = {"method": "dlfa", "layer": 1, "reduction": 4}
TRAINED: list[TaskKind] = [name for name, entry in KINDS.items() if entry.is_trained]


def metadata_of(kind: TaskKind, fusion: dict[str, Any]) -> Exported:
    return Exported(
        sweep="s", trial=0, configuration=0, seed=0, params={}, objective=0.5, selection="",
        model="m", task="t", kind=kind, labels=LABELS if KINDS[kind].has_labels else (),
        source_language="en", fusion=fusion, max_length=32, tasks={"t": {}}, stages=(),
        languages=("en",), scores=(), versions={},
    )  # fmt: skip


def exported(
    model: Model, kind: TaskKind, fusion: dict[str, Any], place: Path
) -> tuple[Network, Path, Exported]:
    """A network that nobody has initialised so, and the folder that it was exported to."""
    tokenizer = load_tokenizer(model, VOCABULARY)
    encoder = perturbed(load_encoder(model, tokenizer, 0))
    metadata = metadata_of(kind, fusion)
    settings = method_named(FUSIONS, fusion["method"]).settings.model_validate(fusion)
    network = build_network(encoder, kind, settings, len(metadata.labels), seed=7)
    made, folder = place / "made", place / "exported"
    made.mkdir()
    folder.mkdir()
    save_encoder(encoder, tokenizer, made)
    save_extra(network, made / HEAD)
    names = sorted(file.name for file in made.iterdir())
    metadata = write_exported(made, names, metadata, folder, trust_remote_code=False)
    return network.eval(), folder, metadata


def batch(network: Network, kind: TaskKind) -> dict[str, torch.Tensor]:
    shape = (2, 3, 12) if kind == "choice" else (2, 12)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, network.encoder.config.vocab_size, shape, generator=generator)
    mask = torch.ones(shape, dtype=torch.long)
    mask[0, ..., 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def logits(network: Network, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return network.predict(rows)


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("fusion", [{"method": "none"}, DLFA], ids=["plain", "dlfa"])
def test_a_loaded_network_gives_the_exported_bits(
    kind: TaskKind, fusion: dict[str, Any], tmp_path: Path
) -> None:
    network, folder, metadata = exported(Model(name="toy:2x32"), kind, fusion, tmp_path)
    loaded = load_exported(folder)
    rows = batch(network, kind)
    assert torch.equal(logits(loaded.network, rows), logits(network, rows))
    assert not loaded.network.training
    assert loaded.metadata == metadata


def test_auto_model_gives_the_encoder_of_every_family(folder: Path, tmp_path: Path) -> None:
    for kind, fusion in (("tag", {"method": "none"}), ("tag", DLFA), ("pair", {"method": "none"})):
        place = tmp_path / f"{kind}-{fusion['method']}"
        place.mkdir()
        network, out, _ = exported(Model(name=str(folder)), kind, fusion, place)  # type: ignore[arg-type]
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        encoder = transformers.AutoModel.from_pretrained(out)
        assert_equal_bits(states(encoder, tokenizer), states(network.encoder, tokenizer))
        rows = batch(network, kind)  # type: ignore[arg-type]
        assert torch.equal(logits(load_exported(out).network, rows), logits(network, rows))


CLASSES = {
    "tag": transformers.AutoModelForTokenClassification,
    "pair": transformers.AutoModelForSequenceClassification,
    "span": transformers.AutoModelForQuestionAnswering,
}
UNLIKE = {("distilbert", "pair")}
"""Whose classifier of transformers has another activation than ours."""


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_of_transformers_gives_the_same_logits_or_is_not_named(
    family: str, folder: Path, kind: TaskKind, tmp_path: Path
) -> None:
    network, out, metadata = exported(Model(name=str(folder)), kind, {"method": "none"}, tmp_path)
    if (family, kind) in UNLIKE:
        assert metadata.transformers_class == ""
        return
    whole = CLASSES[kind].from_pretrained(out).eval()
    assert type(whole).__name__ == metadata.transformers_class
    rows = batch(network, kind)
    with torch.inference_mode():
        answer = whole(**rows)
    ours = logits(network, rows)
    if kind == "span":
        theirs = torch.stack([answer.start_logits, answer.end_logits], dim=1)
        is_piece = rows["attention_mask"].bool()
        for place in (0, 1):
            assert torch.equal(ours[:, place][is_piece], theirs[:, place][is_piece])
    else:
        assert torch.equal(ours, answer.logits)
        assert whole.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize(
    ("kind", "fusion"),
    [("tag", DLFA), ("score", {"method": "none"}), ("choice", {"method": "none"})],
)
def test_no_class_is_named_where_none_is_equal(
    kind: TaskKind, fusion: dict[str, Any], tmp_path: Path
) -> None:
    assert exported(Model(name="toy:2x32"), kind, fusion, tmp_path)[2].transformers_class == ""


def test_fields_of_a_newer_version_of_the_same_format_are_passed_over(tmp_path: Path) -> None:
    _, folder, metadata = exported(Model(name="toy:2x32"), "tag", {"method": "none"}, tmp_path)
    tree = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**tree, "licence": "MIT"}))
    assert read_exported(folder) == metadata


def test_a_folder_that_is_not_an_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"xlt.json cannot be read .*xlt export NAME DIR"):
        load_exported(tmp_path)
    _, folder, _ = exported(Model(name="toy:2x32"), "tag", {"method": "none"}, tmp_path)
    tree = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**tree, "format": 2}))
    with pytest.raises(ModelError, match=r"xlt.json: format: .*export the model again"):
        load_exported(folder)
    (folder / FILE).write_text(json.dumps({**tree, "labels": ["no", "yes"]}))
    with pytest.raises(ModelError, match="fusion, labels and width"):
        load_exported(folder)
