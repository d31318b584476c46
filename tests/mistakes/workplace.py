"""The folder of a researcher in which every command works: data of many tasks, two models, sweep
files, and a home with one sweep that was begun. Mistakes are changes of it.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger

SWEEP = """\
name: mine
data: {source: files, root: data}
model: {choice: [models/small, models/large]}
intermediate:
  task: nli
  size: {choice: [10, 20]}
  epochs: 2
  batch_size: 4
  max_length: 32
  seed: per_trial
target:
  task: xnli
  source_language: en
  learning_rate: {float: [5e-6, 5e-5], log: true}
  batch_size: 4
  max_length: 32
  epochs: 3
  fusion: {method: dlfa, layer: {int: [1, num_layers - 1]}, reduction: 4}
  hybrid: {ratio: 0.5, languages: [de], text: switched}
objective: {metric: accuracy, languages: source}
search: {sampler: tpe, trials: 8, seeds: 3}
early_stop: {method: asha, grace: 0.3}
resources: {workers: 1, gpus_per_worker: 0}
"""
"""A sweep in the manner of the README's."""

PLAIN = """\
name: plain
data: {{source: files, root: data}}
model: models/small
target:
  task: {task}
  source_language: en
  batch_size: 4
  max_length: 32
objective: {{metric: {metric}}}
search: {{trials: 1}}
"""
"""A sweep of one configuration on one task."""
METRICS = {"stsb-score": "pearson", "xquad": "f1", "ner-panx": "f1", "lareqa": "map_at_20"}

FINISHED = """\
name: sizes
data: {source: toy}
model: toy:2x64
target: {task: toy-nli, source_language: qaa, learning_rate: {choice: [1e-4, 1e-3]}}
search: {trials: 2, sampler: grid}
"""
"""The sweep that the home knows."""

_NAMES = ("Ada", "Ben", "Cleo", "Dora", "Emil")
_NOUNS = {
    "en": ("dog", "cat", "house", "tree", "river", "boat", "lamp", "door"),
    "de": ("Hund", "Katze", "Haus", "Baum", "Fluß", "Boot", "Lampe", "Tür"),
    "sw": ("mbwa", "paka", "nyumba", "mti", "mto", "mashua", "taa", "mlango"),
}
_ARTICLES = {"en": "the", "de": "das", "sw": "yule"}
_VERBS = {"en": "sees", "de": "sieht", "sw": "anaona"}
_LABELS = ("entailment", "neutral", "contradiction")
_SPLITS = (("train", 24), ("dev", 12), ("test", 12))


def build(root: Path) -> None:
    """Write everything below an empty folder."""
    for language in ("en", "de", "sw"):
        for split, number in _SPLITS:
            _write_splits(root / "data", language, split, number)
    _write_texts(root / "data")
    write_model(root / "models/small", layers=2, width=16)
    write_model(root / "models/large", layers=4, width=32)
    place = root / "Größen und Maße"
    shutil.copytree(root / "data", place / "Daten")
    shutil.copytree(root / "models/small", place / "Modell")
    (root / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    document = parse_document(FINISHED, "sizes.yaml")
    (root / "sizes.yaml").write_text(FINISHED, encoding="utf-8")
    sweep = sweep_of(document)
    ledger = open_ledger(Home(root / "home"), sweep)
    assert ledger.ask(sweep, lambda _: {}) is not None
    ledger.begin_attempt(0)
    ledger.tell_complete(0, 0.5)


def write_model(
    folder: Path, *, layers: int, width: int, vocabulary: int = 40, **config: Any
) -> None:
    """An encoder in Hugging Face layout whose weights are a table of pieces of zeros."""
    settings = {
        "model_type": "bert", "num_hidden_layers": layers, "hidden_size": width,
        "max_position_embeddings": 512, "vocab_size": vocabulary,
    }  # fmt: skip
    size = vocabulary * width * 4
    table = {"dtype": "F32", "shape": [vocabulary, width], "data_offsets": [0, size]}
    header = json.dumps({"embeddings.word_embeddings.weight": table}).encode()
    pieces = {f"w{number}": number for number in range(vocabulary)}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**settings, **config}, indent=1))
    (folder / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + bytes(size)
    )
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"type": "WordPiece", "vocab": pieces}})
    )


def _sentences(language: str, split: str, number: int) -> Iterator[tuple[str, ...]]:
    """Alike in all languages but for their words, so that rows are translations."""
    draw = random.Random(split)
    nouns = _NOUNS[language]
    for _ in range(number):
        name, noun = draw.choice(_NAMES), draw.randrange(len(nouns))
        yield name, _VERBS[language], _ARTICLES[language], nouns[noun], "."


def _write_splits(data: Path, language: str, split: str, number: int) -> None:
    sentences = list(_sentences(language, split, number))
    tags = ("PROPN", "VERB", "DET", "NOUN", "PUNCT")

    def write(name: str, ending: str, lines: list[str], *, is_translated: bool = False) -> None:
        if split == "train" and language != "en" and not is_translated:
            return
        file = data / name / f"{language}.{split}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")

    write(
        "pos", "conllu",
        [
            line
            for at, words in enumerate(sentences)
            for line in (
                f"# sent_id = {split}{at}",
                *(f"{place}\t{word}\t_\t{tag}" + "\t_" * 6
                  for place, (word, tag) in enumerate(zip(words, tags, strict=True), 1)),
                "",
            )
        ],
    )  # fmt: skip
    write(
        "ner-panx", "conll",
        [
            line
            for words in sentences
            for line in (
                f"{words[0]}\tB-PER", *(f"{word}\tO" for word in words[1:3]),
                f"{words[3]}\tB-LOC", f"{words[4]}\tO", "",
            )
        ],
    )  # fmt: skip
    pairs = [
        (" ".join(words), " ".join(words[:2]) + f" {at}", at) for at, words in enumerate(sentences)
    ]
    header = "id\tsentence1\tsentence2\tlabel"
    write(
        "pairs/xnli",
        "tsv",
        [header, *(f"{split}{c}\t{a}\t{b}\t{_LABELS[c % 3]}" for a, b, c in pairs)],
    )
    write("pairs/pawsx", "tsv", [header, *(f"{c}\t{b}\t{a}\t{c % 2}" for a, b, c in pairs)])
    if language == "sw":
        # Further languages, by codes that are not always taken for some.
        for code in ("no", "zh-Hant", "sr@latin"):
            rows = [header, *(f"{c}\t{b} {code}\t{a}\t{c % 2}" for a, b, c in pairs)]
            (data / f"pairs/pawsx/{code}.{split}.tsv").write_text("\n".join([*rows, ""]))
    write(
        "pairs/stsb", "tsv",
        [f"{header}\tscore", *(f"{c}\t{a}\t{b}\t{c % 3}\t{c % 6}" for a, b, c in pairs)],
        is_translated=True,
    )  # fmt: skip
    sick = [header, *(f"s{c}\t{b}\t{a}\t{_LABELS[c % 3]}" for a, b, c in pairs)]
    write("pairs/sick", "tsv", sick, is_translated=True)
    if language == "en":
        write(
            "pairs/nli",
            "tsv",
            [header, *(f"n{c}\t{b}\t{a}\t{_LABELS[c % 3]}" for a, b, c in pairs)],
        )
    write(
        "choice/xcopa", "jsonl",
        [
            json.dumps(
                {"idx": at, "premise": " ".join(words), "question": ("cause", "effect")[at % 2],
                 "choice1": words[3], "choice2": words[0], "label": at % 2},
                ensure_ascii=False,
            )
            for at, words in enumerate(sentences)
        ],
    )  # fmt: skip
    paragraphs = [
        {"context": (context := " ".join(words)),
         "qas": [{"id": f"q{at}", "question": f"{words[1]} {words[2]} ?",
                  "answers": [{"text": words[3], "answer_start": context.index(words[3])}]}]}
        for at, words in enumerate(sentences)
    ]  # fmt: skip
    squad = {"data": [{"title": "made up", "paragraphs": paragraphs}]}
    write("qa/xquad", "json", [json.dumps(squad, ensure_ascii=False, indent=1)])
    write(
        "retrieval/lareqa", "jsonl",
        [
            json.dumps({"id": f"q{at}", "query": f"{words[1]} {at} ?", "candidate": " ".join(words),
                        "language": language}, ensure_ascii=False)
            for at, words in enumerate(sentences)
        ],
    )  # fmt: skip
    if split == "test" and language != "en":
        english = _sentences("en", split, number)
        write(
            "retrieval/tatoeba", "tsv",
            ["source\ttarget",
             *(f"{' '.join(a)}\t{' '.join(b)}" for a, b in zip(sentences, english, strict=True))],
        )  # fmt: skip


def _write_texts(data: Path) -> None:
    (data / "parallel/news").mkdir(parents=True)
    (data / "alignments/news").mkdir(parents=True)
    (data / "lexicon").mkdir()
    (data / "neighbours").mkdir()
    for language, nouns in _NOUNS.items():
        sentences = _sentences(language, "parallel", 30)
        rows = (f"p{at}\t{' '.join(words)}\n" for at, words in enumerate(sentences))
        (data / f"parallel/news/{language}.tsv").write_text("".join(rows), encoding="utf-8")
        if language != "en":
            lexicon = (f"{a}\t{b}\n" for a, b in zip(_NOUNS["en"], nouns, strict=True))
            (data / f"lexicon/en-{language}.tsv").write_text("".join(lexicon), encoding="utf-8")
    links = "".join(f"p{at}\t0-0 1-1 2-2 3-3 4-4\n" for at in range(30))
    (data / "alignments/news/de-en.tsv").write_text(links)
    (data / "neighbours/en.tsv").write_text("dog\thound\nhouse\thome\nboat\tship\n")


class Workplace:
    """A copy of the folder, and what the user types in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.command = ["check", "sweep.yaml"]
        self.environment = monkeypatch

    def file(self, name: str) -> Path:
        return self.root / name

    def replace(self, name: str, right: str, wrong: str, times: int = 1) -> None:
        """Put a mistake into a file, in place of what stands there."""
        content = self.file(name).read_bytes()
        assert right.encode() in content, f"{name} has no {right!r}"
        self.file(name).write_bytes(content.replace(right.encode(), wrong.encode(), times))

    def write(self, name: str, content: str | bytes) -> None:
        file = self.file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)


Change = Callable[[Workplace], object]
