"""Write what the tutorial starts with: labelled names in three languages and a tiny encoder.

    python examples/tutorial/make_files.py FOLDER

Replace ``FOLDER/data`` by your own files, and the encoder by one of the Hugging Face Hub.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from xlt_ray.config.trial import Model
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder

NAMES = {
    "PER": ["Anna", "Maria Lind", "Omar Haddad", "Jean Petit", "Wei Chen", "Ada Novak"],
    "LOC": ["Berlin", "Lagos", "New Delhi", "Oslo", "Buenos Aires", "Kyoto"],
    "ORG": ["Siemens", "Red Cross", "Toyota", "Green Valley Bank", "Nokia", "Unicef"],
}
SENTENCES = {
    "en": ["PER lives in LOC .", "PER works for ORG .", "ORG has an office in LOC .",
           "Yesterday PER went to LOC .", "The director of ORG is PER ."],
    "de": ["PER wohnt in LOC .", "PER arbeitet bei ORG .", "ORG hat ein Büro in LOC .",
           "Gestern fuhr PER nach LOC .", "PER leitet ORG ."],
    "sv": ["PER bor i LOC .", "PER arbetar på ORG .", "ORG har ett kontor i LOC .",
           "I går reste PER till LOC .", "PER leder ORG ."],
}  # fmt: skip
"""Templates; a label stands for one of its names."""
NUM_SENTENCES = {"train": 200, "dev": 60, "test": 60}
NUM_TRAINED_NAMES = 4
"""Names of each kind that training sees; dev and test sets have the others, too."""
ENCODER = "toy:2x64"
"""Two layers, 64 wide."""


def tagged_sentence(template: str, num_names: int, rng: random.Random) -> list[tuple[str, str]]:
    """Words of one sentence with their IOB2 tags, with the first ``num_names`` of each kind."""
    words: list[tuple[str, str]] = []
    for part in template.split():
        if part in NAMES:
            first, *rest = rng.choice(NAMES[part][:num_names]).split()
            words += [(first, f"B-{part}"), *((word, f"I-{part}") for word in rest)]
        else:
            words.append((part, "O"))
    return words


def write_files(folder: Path) -> None:
    """``data/ner-panx/LANGUAGE.SPLIT.conll``, ``encoder/`` and ``sentences.txt``."""
    rng = random.Random(0)
    data = folder / "data" / "ner-panx"
    data.mkdir(parents=True)
    vocabulary: set[str] = set()
    for language, split in [
        ("en", "train"),
        ("en", "dev"),
        *((code, "test") for code in SENTENCES),
    ]:
        num_names = NUM_TRAINED_NAMES if split == "train" else len(NAMES["PER"])
        sentences = [
            tagged_sentence(rng.choice(SENTENCES[language]), num_names, rng)
            for _ in range(NUM_SENTENCES[split])
        ]
        lines = ("".join(f"{word}\t{tag}\n" for word, tag in words) for words in sentences)
        (data / f"{language}.{split}.conll").write_text("\n".join(lines), encoding="utf-8")
        vocabulary |= {word for words in sentences for word, _ in words}
    (folder / "sentences.txt").write_text(
        "Maria Lind arbeitet bei Nokia .\nI går reste Anna till Kyoto .\n", encoding="utf-8"
    )
    model = Model(name=ENCODER)
    tokenizer = load_tokenizer(model, tuple(sorted(vocabulary)))
    save_encoder(load_encoder(model, tokenizer, 0), tokenizer, folder / "encoder")


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
