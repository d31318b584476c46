"""Scores of a sweep beside those of a plain Hugging Face loop, seed by seed.

    python -m benchmarks.parity DATA MODEL [--seeds N] [--dropout P] [--languages en de ...]

DATA is a folder as the `files` source reads it, with `pos/`; MODEL is a BERT folder. The sweep
runs with `xlt run`. The plain loop shares no code of the package that trains, encodes or scores:
`BertForTokenClassification`, `torch.optim.AdamW`, a linear schedule with warm-up, first pieces
labelled, words counted right or wrong. Both have the first weights of the classifier, the order of
the training sentences, and the settings in common, so only the implementations differ. Each side
draws its own dropout; `--dropout 0` leaves rounding as the only difference.

Sentences of more than 60 words are left out, so that neither side has to cut any.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from transformers import AutoModel, AutoTokenizer, BertForTokenClassification
from transformers.utils import logging

from benchmarks.common import print_table, xlt_run
from xlt_ray import Results
from xlt_ray.config.methods import NoFusion
from xlt_ray.data.sampling import first_of, generator
from xlt_ray.modeling.network import build_network

TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
    "PUNCT", "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip
LONGEST_WORDS = 60
MAX_LENGTH = 256
BATCH_SIZE = 32
SIZE = 1500
EPOCHS = 2
PEAK_RATE = 1.0e-3
WARMUP = 0.1

SWEEP = f"""
name: parity
data: {{source: files, root: data}}
model: model
target:
  task: pos
  source_language: en
  size: {SIZE}
  epochs: {EPOCHS}
  batch_size: {BATCH_SIZE}
  max_length: {MAX_LENGTH}
  learning_rate: {PEAK_RATE}
  warmup: {WARMUP}
  evaluations: 1
objective: {{metric: accuracy, split: dev, languages: source, mode: max}}
search: {{sampler: grid, trials: 1, seeds: 6}}
"""


@dataclass(frozen=True)
class Sentence:
    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_conllu(path: Path) -> Iterator[tuple[str, Sentence]]:
    """Every sentence of a CoNLL-U file as its own text and as words with tags."""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if line[:1].isdigit()]
        rows = [row for row in rows if row[0].isdigit()]
        if rows:
            yield block, Sentence(tuple(row[1] for row in rows), tuple(row[3] for row in rows))


def write_short_sentences(source: Path, folder: Path, languages: Sequence[str]) -> None:
    """Copies of the files that are read, without sentences of more than 60 words."""
    folder.mkdir(parents=True)
    for name in ("en.train", "en.dev", *(f"{language}.test" for language in languages)):
        blocks = [
            block.strip("\n")
            for block, sentence in read_conllu(source / f"{name}.conllu")
            if len(sentence.words) <= LONGEST_WORDS
        ]
        (folder / f"{name}.conllu").write_text("\n\n".join(blocks) + "\n\n", encoding="utf-8")


def copy_model(model: Path, folder: Path, dropout: float) -> None:
    """The encoder with another dropout."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    (folder / "config.json").write_text(json.dumps(config))


def scores_of_sweep(
    data: Path, model: Path, home: Path, languages: Sequence[str], num_seeds: int
) -> dict[int, dict[str, float]]:
    """Test accuracy of `xlt run` by seed and language."""
    file = home.parent / "parity.yaml"
    file.write_text(SWEEP)
    if code := xlt_run(file, home, f"data.root={data}", f"model={model}",
                       f"search.seeds={num_seeds}",
                       f"evaluate.languages=[{', '.join(languages)}]"):  # fmt: skip
        raise SystemExit(code)
    scores = Results(home, "parity").scores
    rows = scores.query("stage == 'evaluate' and split == 'test' and metric == 'accuracy'")
    return {
        int(seed): dict(zip(group["language"], group["value"], strict=True))
        for seed, group in rows.groupby("seed")
    }


def encoded(tokenizer: Any, sentences: Sequence[Sentence]) -> dict[str, torch.Tensor]:
    """A padded batch; the first piece of every word carries its tag, -100 all others."""
    batch = tokenizer(
        [list(sentence.words) for sentence in sentences],
        is_split_into_words=True,
        padding=True,
        return_tensors="pt",
    )
    assert batch["input_ids"].shape[1] <= MAX_LENGTH
    labels = torch.full(batch["input_ids"].shape, -100)
    for row, sentence in enumerate(sentences):
        seen: set[int] = set()
        for place, word in enumerate(batch.word_ids(row)):
            if word is not None and word not in seen:
                seen.add(word)
                labels[row, place] = TAGS.index(sentence.tags[word])
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "labels": labels,
    }


def initial_model(model: Path, seed: int) -> BertForTokenClassification:
    """The encoder with a classifier that starts where the product's head starts."""
    plain = BertForTokenClassification.from_pretrained(model, num_labels=len(TAGS))
    head = build_network(AutoModel.from_pretrained(model), "tag", NoFusion(), len(TAGS), seed).head
    plain.classifier.load_state_dict(head.output.state_dict())
    return plain


def scores_of_plain_loop(
    data: Path, model: Path, languages: Sequence[str], seed: int
) -> dict[str, float]:
    """Test accuracy by language of one training in plain PyTorch and transformers."""
    sentences = [sentence for _, sentence in read_conllu(data / "pos/en.train.conllu")]
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = initial_model(model, seed).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, eps=1e-8, weight_decay=0.0)
    subset = first_of(len(sentences), SIZE)
    order = np.concatenate(
        [generator("train-order", seed, epoch).permutation(subset) for epoch in range(EPOCHS + 1)]
    )
    num_steps = -(-SIZE * EPOCHS // BATCH_SIZE)
    rising = int(num_steps * WARMUP)
    torch.manual_seed(10_000 + seed)
    for step in range(num_steps):
        rate = (step + 1) / rising if step < rising else (num_steps - step) / (num_steps - rising)
        optimizer.param_groups[0]["lr"] = PEAK_RATE * rate
        places = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
        network(**encoded(tokenizer, [sentences[place] for place in places])).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    network.eval()
    return {
        language: accuracy(
            network,
            tokenizer,
            [sentence for _, sentence in read_conllu(data / f"pos/{language}.test.conllu")],
        )
        for language in languages
    }


@torch.no_grad()
def accuracy(network: torch.nn.Module, tokenizer: Any, sentences: Sequence[Sentence]) -> float:
    """Share of words whose tag is right."""
    num_right = num_words = 0
    for begin in range(0, len(sentences), BATCH_SIZE):
        batch = encoded(tokenizer, sentences[begin : begin + BATCH_SIZE])
        labels = batch.pop("labels")
        predicted = network(**batch).logits.argmax(-1)
        is_word = labels != -100
        num_right += int((predicted == labels)[is_word].sum())
        num_words += int(is_word.sum())
    return num_right / num_words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--languages", nargs="+", default=["en", "de", "sv", "cs", "zh"])
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    languages = arguments.languages
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data, model = root / "data", root / "model"
        write_short_sentences(arguments.data / "pos", data / "pos", languages)
        copy_model(arguments.model, model, arguments.dropout)
        ours = scores_of_sweep(data, model, root / "home", languages, arguments.seeds)
        plain = {seed: scores_of_plain_loop(data, model, languages, seed) for seed in ours}
    rows = []
    for language in languages:
        first = 100 * np.array([ours[seed][language] for seed in sorted(ours)])
        second = 100 * np.array([plain[seed][language] for seed in sorted(ours)])
        tested = stats.ttest_rel(first, second)
        low, high = tested.confidence_interval(0.95)
        rows.append((
            language,
            f"{first.mean():.2f} ± {first.std(ddof=1):.2f}",
            f"{second.mean():.2f} ± {second.std(ddof=1):.2f}",
            f"{(first - second).mean():+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            "" if np.isnan(tested.pvalue) else f"{tested.pvalue:.2f}",
        ))  # fmt: skip
    print_table(("", "xlt-ray, %", "plain loop, %", "difference", "95 % interval", "p"), rows)


if __name__ == "__main__":
    main()
