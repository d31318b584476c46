"""Every family of encoders that users bring, tiny and random, through all trainings."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from tests.unit.modeling.conftest import write_tokenizer
from xlt_ray.config import methods
from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.model_presets import PRESETS
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Freeze, Model
from xlt_ray.data.text.pipeline import collate, encode_words, template_of
from xlt_ray.errors import ModelError, SpecError
from xlt_ray.modeling.encoder import TYPES, load_encoder, load_saved, load_tokenizer, save_encoder
from xlt_ray.modeling.freeze import freeze
from xlt_ray.modeling.model_info import model_facts
from xlt_ray.modeling.network import build_masked_lm, build_network, hidden_states
from xlt_ray.modeling.objectives.contrastive import ContrastiveNetwork
from xlt_ray.modeling.objectives.perturbed import robust_network
from xlt_ray.modeling.objectives.weam import WeamNetwork
from xlt_ray.modeling.trimmed_embedding import TrimmedEmbedding, trim_embedding

DEPTH, WIDTH, LONGEST, NUM_LABELS = 3, 32, 40, 3
PLAIN = {"vocab_size": 100, "hidden_size": WIDTH, "num_hidden_layers": DEPTH,
         "num_attention_heads": 2, "intermediate_size": 64}  # fmt: skip
BERT = {**PLAIN, "max_position_embeddings": LONGEST, "pad_token_id": 0}
ROBERTA = {**PLAIN, "max_position_embeddings": LONGEST + 2, "pad_token_id": 1,
           "type_vocab_size": 1}  # fmt: skip
SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
DEBERTA = {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
           "position_buckets": 8, "position_biased_input": False, "share_att_key": True,
           "norm_rel_ebd": "layer_norm", "type_vocab_size": 0}  # fmt: skip
CAUSAL = {**BERT, "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", BERT),
    "roberta": ("Roberta", ROBERTA),
    "xlm-roberta": ("XLMRoberta", ROBERTA),
    "xlm-roberta-xl": ("XLMRobertaXL", ROBERTA),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 100, "dim": WIDTH, "n_layers": DEPTH, "n_heads": 2, "hidden_dim": 64,
         "max_position_embeddings": LONGEST},
    ),
    "electra": ("Electra", {**BERT, "embedding_size": 16}),
    "deberta-v2": ("DebertaV2", DEBERTA),
    "modernbert": ("ModernBert", {**BERT, **SPECIAL, "local_attention": 8}),
    "eurobert": ("EuroBert", {**BERT, **SPECIAL}),
    "gte": ("Gte", {**ROBERTA, "max_position_embeddings": LONGEST}),
    "nomic_bert": ("NomicBert", BERT),
    "rembert": ("RemBert", {**BERT, "input_embedding_size": 16, "output_embedding_size": 24}),
}  # fmt: skip
"""Name -> class of transformers without its suffix, and a tiny configuration.

ELECTRA's and RemBERT's word embeddings are narrower than the encoder; mDeBERTa has no positions;
ModernBERT, EuroBERT, GTE and Nomic turn states by rotary ones."""

DECODERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("Llama", CAUSAL, {"pooling": "last"}),
    "qwen3": ("Qwen3", CAUSAL, {"pooling": "mean"}),
    "gemma3_text": ("Gemma3Text", {**CAUSAL, "sliding_window": 4}, {"pooling": "last"}),
    "llama, both ways": ("Llama", CAUSAL, {"attention": "bidirectional"}),
    "gemma3_text, both ways": (
        "Gemma3Text", {**CAUSAL, "sliding_window": 4}, {"attention": "bidirectional"},
    ),
}  # fmt: skip
"""The same of decoder-only models, and the settings with which they are taken."""


def test_every_preset_is_of_an_architecture_that_is_tried_here() -> None:
    assert {preset.architecture for preset in PRESETS} <= {*ARCHITECTURES, *DECODERS}


TRAINED = [name for name, entry in KINDS.items() if entry.is_trained]
FUSIONS = {
    "dlfa": methods.DlfaFusion(method="dlfa", layer=1),
    "aif": methods.AifFusion(method="aif", layer=1),
    "mix": methods.MixFusion(method="mix"),
    "dlfa of the embeddings": methods.DlfaFusion(method="dlfa", layer=0),
}
every_kind = pytest.mark.parametrize("kind", TRAINED)


@dataclass(frozen=True)
class Loaded:
    """One architecture as a sweep loads it."""

    model: Model
    folder: Path
    facts: ModelFacts
    tokenizer: Any
    encoder: transformers.PreTrainedModel


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *DECODERS])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Tests may train it: nothing here depends on its weights."""
    torch.set_num_threads(1)
    is_decoder = request.param in DECODERS
    chosen: dict[str, Any] = DECODERS[request.param][2] if is_decoder else {}
    name, settings = (DECODERS if is_decoder else ARCHITECTURES)[request.param][:2]
    folder = tmp_path_factory.mktemp(request.param)
    # A tokenizer without a class of its own makes token types for every model.
    pads_with_one = settings.get("pad_token_id") == 1
    write_tokenizer("xlm-roberta" if pads_with_one else "bert", folder, named=False)
    config = getattr(transformers, f"{name}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        suffix = "CausalLM" if is_decoder else "MaskedLM"
        getattr(transformers, f"{name.removesuffix('Text')}For{suffix}")(config).save_pretrained(
            folder
        )
    model = Model(name=str(folder), **chosen)
    tokenizer = load_tokenizer(model, None)
    encoder = load_encoder(model, tokenizer, 0)
    return Loaded(model, folder, model_facts(model, None), tokenizer, encoder)


@pytest.fixture
def encoder(loaded: Loaded) -> Iterator[transformers.PreTrainedModel]:
    loaded.encoder.train().zero_grad()
    yield loaded.encoder
    loaded.encoder.zero_grad()


def batch_of(loaded: Loaded, kind: str = "pair", *, more_padding: int = 0) -> dict[str, Tensor]:
    """Two rows of two sentences, with token types 0 and 1 whatever the model."""
    pairs = [("the cat sat on the mat", "dogs sat here"), ("a cat", "the mat")]
    tokens = loaded.tokenizer(
        [tensor for tensor, _ in pairs], [other for _, other in pairs], return_tensors="pt",
        padding="longest", return_token_type_ids=True,
    )  # fmt: skip
    batch = {name: tokens[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    fill = {"input_ids": loaded.tokenizer.pad_token_id}
    batch = {
        name: torch.nn.functional.pad(tensor, (0, more_padding), value=fill.get(name, 0))
        for name, tensor in batch.items()
    }
    num_parts = {"choice": 2, "ranking": 3}.get(kind)
    if num_parts is not None:
        batch = {
            name: tensor.unsqueeze(1).repeat(1, num_parts, 1) for name, tensor in batch.items()
        }
    labels: dict[str, Tensor] = {
        "pair": torch.tensor([0, 2]),
        "text": torch.tensor([0, 2]),
        "choice": torch.tensor([0, 1]),
        "ranking": torch.tensor([0, 1]),
        "score": torch.tensor([0.5, 1.5]),
        "span": torch.tensor([[1, 2], [0, 0]]),
        "tag": torch.where(batch["attention_mask"] == 1, 1, -100),
        "mlm": torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100),
    }
    batch["labels"] = labels[kind]
    batch["denominator"] = (labels[kind] != -100).sum().float()
    return batch


def test_depth_width_and_positions_are_known_beforehand(loaded: Loaded) -> None:
    facts, states = loaded.facts, hidden_states(loaded.encoder, batch_of(loaded))
    assert (facts.num_layers, facts.hidden_size) == (DEPTH, WIDTH)
    assert facts.max_positions == LONGEST
    assert len(states) == DEPTH + 1
    # The embeddings are of the layers' width, also where the word table is narrower.
    assert {state.shape[-1] for state in states} == {WIDTH}


def test_the_lowest_layers_can_be_kept_alone(loaded: Loaded, tmp_path: Path) -> None:
    model = loaded.model.model_copy(update={"layers": 2})
    kept, batch = load_encoder(model, loaded.tokenizer, 0), batch_of(loaded)
    whole = load_encoder(loaded.model, loaded.tokenizer, 0)
    weights = kept.state_dict()
    assert len(weights) < len(whole.state_dict())
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in weights.items())
    save_encoder(kept, loaded.tokenizer, tmp_path)
    assert model_facts(Model(name=str(tmp_path)), None).num_layers == 2
    saved, _ = load_saved(tmp_path)
    states = hidden_states(kept.eval(), batch)
    # A norm after the last layer comes after the last one that is kept.
    for other, same in ((saved, 3), (whole, 2)):
        others = hidden_states(other.eval(), batch)[:same]
        assert all(
            torch.equal(state, theirs) for state, theirs in zip(states, others, strict=False)
        )


@pytest.mark.parametrize("kind", ["pair", "score", "choice"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_heads_read_the_mean_or_the_last_piece_if_the_model_says_so(
    loaded: Loaded, tmp_path: Path, pooling: Any, kind: Any
) -> None:
    model = loaded.model.model_copy(update={"pooling": pooling})
    save_encoder(load_encoder(model, loaded.tokenizer, 0), loaded.tokenizer, tmp_path)
    # All later stages read what this one has saved.
    encoder, _ = load_saved(tmp_path)
    network = build_network(encoder, kind, methods.NoFusion(), NUM_LABELS, seed=0).eval()
    encoder.config.xlt_pooling = "first"
    plain = build_network(encoder, kind, methods.NoFusion(), NUM_LABELS, seed=0).eval()
    logits = network.predict(batch_of(loaded, kind))
    padded = network.predict(batch_of(loaded, kind, more_padding=3))
    torch.testing.assert_close(logits, padded)
    assert not torch.allclose(logits, plain.predict(batch_of(loaded, kind)))
    mask = torch.tensor([[1, 1, 1, 0]])
    states = torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    read = states[:, 2:3] if pooling == "last" else states[:, :3].mean(dim=1, keepdim=True)
    torch.testing.assert_close(network.head(states, mask), plain.head(read.expand(-1, 4, -1), mask))


@pytest.mark.parametrize("layers", [(-1,), (0, -1), (2, -1)])
def test_layers_that_are_named_are_the_same_bits_and_others_are_not_kept(
    loaded: Loaded, layers: tuple[int, ...]
) -> None:
    encoder, batch = loaded.encoder.eval(), batch_of(loaded)
    every, named = hidden_states(encoder, batch), hidden_states(encoder, batch, layers)
    assert all(torch.equal(every[layer], named[layer]) for layer in layers)
    kept = [state for state in named if state is not None]
    # These keep all of them themselves.
    keeps_all = encoder.config.model_type in ("deberta-v2", "rembert")
    assert len(kept) == (DEPTH + 1 if keeps_all else len(layers))


def test_a_forward_pass_reads_nothing_back_from_its_device(loaded: Loaded) -> None:
    if loaded.encoder.config.model_type == "rembert":
        pytest.skip("RemBERT has plain attention only, whose mask transformers looks at")
    # Tensors of this device have no values, so that reading one fails.
    encoder = copy.deepcopy(loaded.encoder).to("meta")
    batch = {name: tensor.to("meta") for name, tensor in batch_of(loaded).items()}
    network = build_network(encoder, "pair", methods.NoFusion(), NUM_LABELS, seed=0)
    assert network.to("meta")(batch).shape == ()


@pytest.mark.parametrize("more_padding", [0, 3])
def test_masks_made_without_reading_give_the_same_bits(loaded: Loaded, more_padding: int) -> None:
    encoder = loaded.encoder.eval()
    plain = copy.deepcopy(encoder)
    if plain.config._attn_implementation != "eager":
        plain.set_attn_implementation("sdpa")
    batch = batch_of(loaded, more_padding=more_padding)
    for rows in (batch, {name: tensor[:1] for name, tensor in batch.items() if tensor.dim()}):
        ours, theirs = hidden_states(encoder, rows), hidden_states(plain, rows)
        assert all(torch.equal(first, second) for first, second in zip(ours, theirs, strict=True))


def test_the_longest_row_that_is_allowed_can_be_read(loaded: Loaded) -> None:
    ids = torch.full((1, loaded.facts.max_positions), 5)
    states = hidden_states(loaded.encoder, {"input_ids": ids, "attention_mask": ids * 0 + 1})
    assert states[-1].isfinite().all()


@pytest.mark.parametrize("settings", FUSIONS.values(), ids=list(FUSIONS))
def test_a_fused_layer_is_finite_and_learns(
    loaded: Loaded, encoder: transformers.PreTrainedModel, settings: methods.ConfigModel
) -> None:
    network = build_network(encoder, "pair", settings, NUM_LABELS, seed=0)
    batch = batch_of(loaded)
    states = hidden_states(encoder, batch)
    for state in states:
        state.retain_grad()
    fused = network.fusion(states, batch["attention_mask"])
    assert fused.shape == states[-1].shape
    assert fused.isfinite().all()
    network.head(fused, batch["attention_mask"]).sum().backward()
    layer = getattr(settings, "layer", 1)
    for part in (states[layer], states[-1]):
        assert part.grad is not None
        assert part.grad.isfinite().all()
        assert part.grad.any()


@every_kind
def test_every_head_is_trained_on_it(
    loaded: Loaded, encoder: transformers.PreTrainedModel, kind: Any
) -> None:
    network = build_network(encoder, kind, methods.NoFusion(), NUM_LABELS, seed=0)
    loss = network(batch_of(loaded, kind))
    loss.backward()
    assert loss.isfinite()
    table = encoder.get_input_embeddings().weight
    assert table.grad is not None
    assert table.grad.any()
    silent = [name for name, tensor in network.named_parameters() if tensor.grad is None]
    assert not silent, "what no loss reaches is stepped by some optimizers and skipped by others"


def test_a_trimmed_table_gives_the_same_states_gradients_and_files(
    loaded: Loaded, tmp_path: Path
) -> None:
    encoder, _ = load_saved(loaded.folder)
    trimmed, _ = load_saved(loaded.folder)
    batch = batch_of(loaded)
    ids = np.unique(batch["input_ids"])
    trim_embedding(trimmed, ids)
    table = trimmed.get_input_embeddings()
    assert isinstance(table, TrimmedEmbedding)
    is_highest = batch["input_ids"] == int(ids[-1])
    unseen = {**batch, "input_ids": batch["input_ids"].masked_fill(is_highest, 90)}
    assert 90 not in ids
    for rows in (batch, unseen):
        ours, theirs = (hidden_states(part.eval(), rows) for part in (trimmed, encoder))
        assert all(torch.equal(first, second) for first, second in zip(ours, theirs, strict=True))
    for part in (trimmed, encoder):
        for module in part.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            hidden_states(part.train(), batch)[-1].square().sum().backward()
    whole = encoder.get_input_embeddings().weight.grad
    torch.testing.assert_close(table.trained.weight.grad, whole[ids])
    with torch.no_grad():
        table.trained.weight += 1.0
        encoder.get_input_embeddings().weight[ids] += 1.0
    save_encoder(trimmed, loaded.tokenizer, tmp_path)
    again, _ = load_saved(tmp_path)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name]), name


@pytest.mark.parametrize("has_embeddings", [False, True])
@pytest.mark.parametrize("num_layers", [0, 2])
def test_what_is_frozen_and_nothing_else_has_no_gradient(
    loaded: Loaded, has_embeddings: bool, num_layers: int
) -> None:
    encoder, _ = load_saved(loaded.folder)
    freeze(encoder, Freeze(embeddings=has_embeddings, layers=num_layers))
    network = build_network(encoder, "pair", methods.NoFusion(), NUM_LABELS, seed=0)
    states = hidden_states(encoder, batch_of(loaded))
    is_fixed = has_embeddings and num_layers == 2
    assert [state.requires_grad for state in states[:3]] == [
        not has_embeddings,
        not is_fixed or (num_layers == 0),
        not is_fixed,
    ]
    network(batch_of(loaded)).backward()
    frozen = {name for name, tensor in encoder.named_parameters() if tensor.grad is None}
    assert frozen == {
        name for name, tensor in encoder.named_parameters() if not tensor.requires_grad
    }
    assert len(frozen) < len(list(encoder.parameters()))
    assert (encoder.get_input_embeddings().weight.grad is None) == has_embeddings
    numbers = [re.search(r"layers?\.(\d)\.", name) for name in frozen]
    assert {int(match[1]) for match in numbers if match} == set(range(num_layers))


def test_layers_that_share_their_weights_cannot_be_frozen() -> None:
    settings = {**BERT, "embedding_size": 16}
    encoder = transformers.AlbertModel(transformers.AlbertConfig(**settings))
    with pytest.raises(ModelError, match="share their weights"):
        freeze(encoder, Freeze(layers=1))


def test_a_step_makes_the_loss_smaller(loaded: Loaded) -> None:
    # A copy: whatever else is trained here stays as it was.
    encoder, _ = load_saved(loaded.folder)
    network = build_network(encoder, "pair", methods.NoFusion(), NUM_LABELS, seed=0).eval()
    batch = batch_of(loaded)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    before = network(batch)
    before.backward()
    optimizer.step()
    assert network(batch).item() < before.item()


@pytest.mark.parametrize(
    "settings",
    [
        methods.AdversarialRobust(method="adversarial", steps=1, step_size=0.1, epsilon=0.1),
        methods.RandomRobust(method="random", draws=1, epsilon=0.5),
    ],
    ids=lambda tensor: tensor.method,
)
def test_word_embeddings_are_perturbed(
    loaded: Loaded, encoder: transformers.PreTrainedModel, settings: methods.Robust
) -> None:
    plain = build_network(encoder, "pair", methods.NoFusion(), NUM_LABELS, seed=0)
    network = robust_network(plain, settings, loaded.tokenizer.all_special_ids)
    batch = {**batch_of(loaded), "noise_seed": torch.tensor([1, 2])}
    # Without dropout, so that nothing but the perturbation makes a difference.
    for part in (network.encoder, network.head):
        part.eval()
    loss = network(batch)
    loss.backward()
    assert loss.isfinite()
    assert encoder.get_input_embeddings().weight.grad is not None
    with torch.no_grad():
        true, again = network.eval()(batch), plain.eval()(batch)
    assert torch.equal(true, again)
    assert not torch.allclose(loss.detach(), true, rtol=1e-6, atol=1e-7)


def test_masked_pieces_are_predicted_through_the_table_of_embeddings(
    loaded: Loaded, encoder: transformers.PreTrainedModel, tmp_path: Path
) -> None:
    network = build_masked_lm(encoder, seed=0)
    batch = batch_of(loaded, "mlm")
    network(batch).backward()
    assert network.head.tied is encoder.get_input_embeddings().weight
    assert network.predict(batch).shape == (*batch["input_ids"].shape, encoder.config.vocab_size)
    save_encoder(encoder, loaded.tokenizer, tmp_path)
    again, _ = load_saved(tmp_path)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name]), name


def test_words_are_swapped_with_their_translations(
    loaded: Loaded, encoder: transformers.PreTrainedModel
) -> None:
    settings = methods.Weam(objective="weam", steps=1, batch_size=2, learning_rate=1e-3)
    batch = batch_of(loaded, "mlm")
    length = batch["input_ids"].shape[1]
    identity = torch.eye(length).expand(2, length, length)
    mirrored = identity.flip(-1)
    losses = []
    for swap in (identity, mirrored):
        network = WeamNetwork(encoder, settings, seed=0)
        for part in (network.encoder, network.head):
            part.eval()
        losses.append(network({**batch, "swap": swap}))
    losses[1].backward()
    assert losses[1].isfinite()
    assert not torch.allclose(*losses, rtol=1e-6, atol=0)
    silent = [name for name, tensor in network.named_parameters() if tensor.grad is None]
    assert not silent


def test_sentences_are_contrasted(loaded: Loaded, encoder: transformers.PreTrainedModel) -> None:
    settings = methods.Contrastive(
        objective="contrastive", steps=1, layer=2, batch_size=2, learning_rate=1e-3
    )
    batch = {
        name: tensor
        for name, tensor in batch_of(loaded).items()
        if name not in ("labels", "denominator")
    }
    others = {f"other_{name}": tensor.flip(0) for name, tensor in batch.items()}
    loss = ContrastiveNetwork(encoder, settings)(
        {
            **batch,
            **others,
            "labels": torch.tensor([0, 1]),
            "sentence": torch.tensor([0, 1]),
            "denominator": torch.tensor(2.0),
        }
    )
    loss.backward()
    assert loss.isfinite()
    assert not [name for name, tensor in encoder.named_parameters() if tensor.grad is None]


def test_positions_begin_anew_or_are_refused(loaded: Loaded) -> None:
    loaded.encoder.eval()
    batch = batch_of(loaded)
    counted = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"]).clone()
    reset = counted.clone()
    reset[:, 6:] -= 6
    if not loaded.facts.reads_positions:
        with pytest.raises(SpecError, match="reads distances of pieces"):
            hidden_states(loaded.encoder, {**batch, "position_ids": reset})
        return
    with torch.no_grad():
        plain, same, other = (
            hidden_states(loaded.encoder, inputs)[-1][batch["attention_mask"] == 1]
            for inputs in (
                batch, {**batch, "position_ids": counted}, {**batch, "position_ids": reset}
            )
        )  # fmt: skip
    torch.testing.assert_close(same, plain)
    assert not torch.allclose(other, plain, atol=1e-5)


@every_kind
def test_padding_and_the_rest_of_the_batch_change_nothing(loaded: Loaded, kind: Any) -> None:
    network = build_network(
        loaded.encoder, kind, FUSIONS["dlfa"], NUM_LABELS, seed=0
    ).eval()  # fmt: skip
    with torch.no_grad():
        plain = network.predict(batch_of(loaded, kind))
        wide = network.predict(batch_of(loaded, kind, more_padding=5))
        batch = batch_of(loaded, kind)
        length = int(batch["attention_mask"][1:].sum(dim=-1).max())
        alone = network.predict(
            {
                name: tensor[1:, ..., :length]
                for name, tensor in batch.items()
                if name not in ("labels", "denominator")
            }
        )
    mask = batch["attention_mask"] == 1
    if kind == "tag":
        wide, plain, alone = wide[:, : mask.shape[1]][mask], plain[mask], alone[mask[1:, :length]]
        torch.testing.assert_close(alone, plain[-len(alone) :], rtol=1e-4, atol=1e-5)
    elif kind == "span":
        keep = mask.unsqueeze(1).expand_as(plain)
        torch.testing.assert_close(alone, plain[1:, :, :length], rtol=1e-4, atol=1e-5)
        wide, plain = wide[..., : mask.shape[1]][keep], plain[keep]
    else:
        torch.testing.assert_close(alone, plain[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wide, plain, rtol=1e-4, atol=1e-5)


def test_a_saved_encoder_gives_the_same_states(loaded: Loaded, tmp_path: Path) -> None:
    save_encoder(loaded.encoder, loaded.tokenizer, tmp_path)
    again, _ = load_saved(tmp_path)
    again.eval()
    loaded.encoder.eval()
    batch = batch_of(loaded)
    with torch.no_grad():
        for first, second in zip(
            hidden_states(again, batch), hidden_states(loaded.encoder, batch), strict=True
        ):
            assert torch.equal(first, second)
    saved = model_facts(Model(name=str(tmp_path)), None)
    for name in ("num_layers", "hidden_size", "max_positions", "reads_positions"):
        assert getattr(saved, name) == getattr(loaded.facts, name)


def test_token_types_of_a_pair_are_those_of_the_original(loaded: Loaded, tmp_path: Path) -> None:
    """Tokenizers here list no token types, as those without a class of their own never do."""
    if loaded.model.attention == "bidirectional":
        pytest.skip("the original is causal")
    texts = ("the cat sat on the mat", "dogs sat here")
    original = transformers.AutoModel.from_pretrained(loaded.folder).eval()
    makes_types = loaded.tokenizer(*texts, return_token_type_ids=True)["token_type_ids"]
    has_types = getattr(original.config, "type_vocab_size", 0) > 1
    asked = loaded.tokenizer(
        *texts, return_tensors="pt", return_token_type_ids=has_types and any(makes_types)
    )
    save_encoder(loaded.encoder, loaded.tokenizer, tmp_path)
    unasked = transformers.AutoTokenizer.from_pretrained(tmp_path)(*texts, return_tensors="pt")
    sentences = encode_words([text.split() for text in texts], loaded.tokenizer)
    batch, _ = collate([tuple(sentences)], template_of(loaded.tokenizer), LONGEST)
    loaded.encoder.eval()
    with torch.no_grad():
        ours = hidden_states(
            loaded.encoder, {name: torch.from_numpy(tensor) for name, tensor in batch.items()}
        )[-1]
        for inputs in (asked, unasked):
            theirs = original(**inputs)[0]
            torch.testing.assert_close(ours[:, : theirs.shape[1]], theirs, rtol=1e-4, atol=1e-5)
    assert (TYPES in unasked) == (has_types and any(makes_types))


def test_an_encoder_with_a_decoder_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="an encoder with a decoder"):
        model_facts(Model(name=str(tmp_path)), None)
