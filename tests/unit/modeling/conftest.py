"""Tiny random models in Hugging Face layout, and the small real ones if they are available."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from xlt_ray.config.trial import Model
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer

REAL_MODELS = Path(__file__).parents[4] / "shared" / "models"
SENTENCES = ("the cat sat on the mat", "a cat is here", "the mat is red", "dogs sat here")
VOCABULARY = tuple(sorted({word for sentence in SENTENCES for word in sentence.split()}))
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def bert_backend() -> Tokenizer:
    ids = {
        token: index
        for index, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VOCABULARY))
    }
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def byte_backend() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return backend


def unigram_backend() -> Tokenizer:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *("▁" + word for word in VOCABULARY)]
    letters = sorted({letter for word in VOCABULARY for letter in word} | {"▁"})
    scored = [(piece, -2.0) for piece in pieces] + [(letter, -8.0) for letter in letters]
    backend = Tokenizer(models.Unigram([*scored, ("<mask>", 0.0)], unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return backend


def write_tokenizer(family: str, folder: Path, *, named: bool = True) -> None:
    """``named``: the files name the family's tokenizer class, as those on the Hub do."""
    if family in ("bert", "distilbert"):
        backend, names = bert_backend(), ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    else:
        backend = byte_backend() if family == "roberta" else unigram_backend()
        names = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
    keys = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=40, **dict(zip(keys, names, strict=True))
    ).save_pretrained(folder)
    if named:
        file = folder / "tokenizer_config.json"
        settings = json.loads(file.read_text())
        settings["tokenizer_class"] = {
            "bert": "BertTokenizer",
            "distilbert": "BertTokenizer",
            "roberta": "RobertaTokenizer",
            "xlm-roberta": "XLMRobertaTokenizer",
        }[family]
        file.write_text(json.dumps(settings))


def write_model(family: str, folder: Path, *, vocab_size: int = 400, depth: int = 3) -> None:
    """A masked-LM checkpoint, as pre-trained encoders come: with a head and no pooler."""
    shape = {"vocab_size": vocab_size, "intermediate_size": 64, "max_position_embeddings": 42}
    if family == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=vocab_size,
            dim=32,
            n_layers=3,
            n_heads=2,
            hidden_dim=64,
            max_position_embeddings=40,
        )
        kind = transformers.DistilBertForMaskedLM
    elif family == "bert":
        config = transformers.BertConfig(
            **{**SHAPE, **shape, "max_position_embeddings": 40, "num_hidden_layers": depth}
        )
        kind = transformers.BertForMaskedLM
    elif family == "roberta":
        config = transformers.RobertaConfig(**SHAPE, **shape, pad_token_id=1, type_vocab_size=1)
        kind = transformers.RobertaForMaskedLM
    else:
        config = transformers.XLMRobertaConfig(**SHAPE, **shape, pad_token_id=1, type_vocab_size=1)
        kind = transformers.XLMRobertaForMaskedLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    """A complete folder of one family."""
    place = tmp_path / family
    write_tokenizer(family, place)
    write_model(family, place)
    return place


@pytest.fixture(params=("bible-mini", "bible-nano"))
def real_folder(request: pytest.FixtureRequest) -> Path:
    place = REAL_MODELS / str(request.param)
    if not place.is_dir():
        pytest.skip(f"{place} is absent")
    return place


@pytest.fixture
def toy_encoder() -> Callable[..., transformers.PreTrainedModel]:
    """``toy_encoder(seed, name)``."""

    def load(seed: int = 0, name: str = "toy:2x32") -> transformers.PreTrainedModel:
        model = Model(name=name)
        return load_encoder(model, load_tokenizer(model, VOCABULARY), seed)

    return load
