from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.unit.modeling.conftest import write_model
from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError
from xlt_ray.modeling import model_info as facts
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.model_info import model_facts


def test_facts_of_a_preset() -> None:
    facts = model_facts(Model(name="toy:4x128"), ("a", "b"))
    assert (facts.num_layers, facts.hidden_size, facts.max_positions) == (4, 128, 64)


OWN_SETTINGS = {
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 16},
    "xmod": {"languages": ("en_XX",), "default_language": "en_XX"},
}


@pytest.mark.parametrize("family", sorted(facts._OFFSET_POSITIONS))
def test_a_row_may_be_as_long_as_the_positions_behind_that_of_padding(
    family: str, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    from xlt_ray.modeling.network import hidden_states

    settings = {
        "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 12, "pad_token_id": 1,
    }  # fmt: skip
    config = AutoConfig.for_model(family, **settings, **OWN_SETTINGS.get(family, {}))
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    longest = model_facts(Model(name=str(tmp_path)), None).max_positions
    with torch.random.fork_rng(devices=[]):
        encoder = AutoModel.from_config(config).eval()

    def read(length: int) -> None:
        ids = torch.full((1, length), 5)
        hidden_states(encoder, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    read(longest)
    with pytest.raises((IndexError, RuntimeError)):
        read(longest + 1)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_every_file_that_matters_is_in_the_digest(folder: Path, file: str) -> None:
    before = model_facts(Model(name=str(folder)), None).weights
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content + b" ")
    assert model_facts(Model(name=str(folder)), None).weights != before
    (folder / file).write_bytes(content)
    assert model_facts(Model(name=str(folder)), None).weights == before


def test_every_file_that_a_tokenizer_of_transformers_reads_is_in_the_digest() -> None:
    import transformers

    sources = (Path(transformers.__file__).parent / "models").glob("*/tokenization_*.py")
    named = {
        name
        for source in sources
        for table in re.findall(r"VOCAB_FILES_NAMES = {(.*?)}", source.read_text(), re.DOTALL)
        for name in re.findall(r': "([^"]+)"', table)
    }
    assert {"vocab.txt", "spiece.model", "bpe.codes"} <= named
    patterns = facts._MODEL_FILES
    assert not [name for name in named if not any(fnmatch(name, glob) for glob in patterns)]


COMMITS = {"main": "a" * 40, "v2": "b" * 40}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub, which cannot be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(folder: Path, cache: Path) -> str:
    """A model of the hub with two revisions that differ in their depth, as the cache holds it."""
    for revision, commit in COMMITS.items():
        place = cache / "models--org--encoder" / "snapshots" / commit
        shutil.copytree(folder, place)
        (place.parents[1] / "refs").mkdir(exist_ok=True)
        (place.parents[1] / "refs" / revision).write_text(commit)
    config = json.loads((place / "config.json").read_text())
    write_model("bert", place, vocab_size=config["vocab_size"], depth=2)
    return "org/encoder"


@pytest.mark.parametrize("family", ["bert"], indirect=True)
@pytest.mark.parametrize(
    ("revision", "commit", "depth"),
    [(None, "a" * 40, 3), ("main", "a" * 40, 3), ("v2", "b" * 40, 2), ("b" * 40, "b" * 40, 2)],
)
def test_a_model_of_the_hub_is_that_of_its_revision(
    hub: str, revision: str | None, commit: str, depth: int
) -> None:
    model = Model(name=hub, revision=revision)
    known = model_facts(model, None)
    assert (known.name, known.weights, known.num_layers) == (hub, commit, depth)
    tokenizer = load_tokenizer(model, None, revision=known.weights)
    encoder = load_encoder(model, tokenizer, 0, revision=known.weights)
    assert encoder.config.num_hidden_layers == depth


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_a_missing_revision_is_refused(hub: str) -> None:
    with pytest.raises(ModelError, match=r"org/encoder@v3: neither .* check the name, the rev"):
        model_facts(Model(name=hub, revision="v3"), None)


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_only_models_of_the_hub_have_revisions(folder: Path) -> None:
    for name in (str(folder), "toy:2x32"):
        with pytest.raises(ModelError, match=r"have revisions.*model\.revision: v2"):
            model_facts(Model(name=name, revision="v2"), ("a",))


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_neither_place_nor_notes_are_in_the_digest(folder: Path, tmp_path: Path) -> None:
    before = model_facts(Model(name=str(folder)), None).weights
    shutil.copytree(folder, tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("a note")
    assert model_facts(Model(name=str(tmp_path / "moved")), None).weights == before


@pytest.mark.parametrize("load", [model_facts, load_tokenizer])
def test_a_preset_without_toy_data_is_refused(load: Callable[..., object]) -> None:
    with pytest.raises(ModelError, match="toy data"):
        load(Model(name="toy:2x32"), None)


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_a_missing_folder_names_similar_ones(folder: Path) -> None:
    with pytest.raises(ModelError, match="did you mean bert"):
        model_facts(Model(name=str(folder.parent / "bret")), None)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        model_facts(Model(name=str(tmp_path)), None)


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        model_facts(Model(name=str(folder)), None)


@pytest.mark.parametrize(
    ("config", "problem"),
    [("{", "not JSON"), ("[]", "not an object"), ("{}", "max_position_embeddings")],
)
@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_a_damaged_configuration_is_refused(folder: Path, config: str, problem: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=problem):
        model_facts(Model(name=str(folder)), None)


@pytest.mark.usefixtures("cache")
def test_only_the_shape_of_a_known_model_is_assumed_without_the_hub() -> None:
    model, unknown = Model(name="xlm-roberta-large"), Model(name="nobody/no-such-model")
    for refused, may_assume in ((model, False), (unknown, False), (unknown, True)):
        with pytest.raises(ModelError, match="neither a local folder nor"):
            model_facts(refused, None, may_assume=may_assume)
    facts = model_facts(model, None, may_assume=True)
    assert (facts.num_layers, facts.hidden_size, facts.max_positions) == (24, 1024, 512)
    assert facts.weights == ""


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_facts_are_known_without_torch(folder: Path) -> None:
    code = (
        "import sys; from xlt_ray.modeling.model_info import model_facts;"
        "from xlt_ray.config.trial import Model;"
        f"model_facts(Model(name={str(folder)!r}), None);"
        "model_facts(Model(name='toy:2x32'), ('a',));"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_facts_of_the_small_real_models(real_folder: Path) -> None:
    facts = model_facts(Model(name=str(real_folder)), None)
    expected = {"bible-mini": (6, 128, 256), "bible-nano": (3, 64, 256)}[real_folder.name]
    assert (facts.num_layers, facts.hidden_size, facts.max_positions) == expected
