"""A folder of small data sets in exactly the form of the hub: parquet files and README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Rows = Sequence[Mapping[str, Any]]
NER = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
        "PUNCT", "SCONJ", "SYM", "VERB", "X"]  # fmt: skip
INFERENCE = ["entailment", "neutral", "contradiction"]


def write_data_set(
    folder: Path,
    configs: Mapping[str, Mapping[str, Rows]],
    features: Mapping[str, Any],
    *,
    jsonl: bool = False,
) -> None:
    """``configs``: configuration -> split -> rows. Features of columns that rows lack are
    left out; ``default`` is a configuration without a name of its own."""
    import datasets

    written = []
    for config, splits in configs.items():
        files = []
        for split, rows in splits.items():
            kept = {name: features[name] for name in features if name in rows[0]}
            data = datasets.Dataset.from_list(
                [dict(row) for row in rows], features=datasets.Features(kept)
            )
            stem = folder / config / f"{split}-00000-of-00001"
            stem.parent.mkdir(parents=True, exist_ok=True)
            if jsonl:
                data.to_json(f"{stem}.jsonl")
            else:
                import pyarrow.parquet

                # As the hub's own files: without the metadata of the library that wrote them.
                pyarrow.parquet.write_table(data.data.table, f"{stem}.parquet")
            files.append({"split": split, "path": f"{config}/{split}-*"})
        written.append({"config_name": config, "data_files": files})
    (folder / "README.md").write_text(
        "---\nlicense: other\n"
        + yaml.safe_dump({"configs": written})
        + f"---\n\n# {folder.name}\n",
        encoding="utf-8",
    )


def question(
    name: str, passage: str, *texts: str, asked: str = "Who?", **more: Any
) -> dict[str, Any]:
    """One row of SQuAD's columns, with the places of its answers."""
    return {
        "id": name,
        "context": passage,
        "question": asked,
        "answers": {"text": list(texts), "answer_start": [passage.index(text) for text in texts]},
        **more,
    }


def write_mirror(root: Path) -> Path:
    """Every data set of the registry with a few rows in English and another language or two."""
    from datasets import ClassLabel, Value

    try:
        from datasets import List
    except ImportError:  # the name before datasets 4
        from datasets import Sequence as List

    text, whole = Value("string"), Value("int32")
    answers = {"text": List(text), "answer_start": List(whole)}
    squad = {"id": text, "title": text, "context": text, "question": text, "answers": answers}
    nli = {
        "uid": text, "premise": text, "hypothesis": text, "label": ClassLabel(names=INFERENCE),
        "reason": text, "idx": whole,
    }  # fmt: skip

    def tagged(tags: str, *sentences: tuple[list[str], list[int]]) -> Rows:
        return [{"tokens": list(words), tags: numbers} for words, numbers in sentences]

    def pan(word: str) -> Rows:
        rows = tagged("ner_tags", ([word, "spoke"], [1, 0]), (["Rome"], [5]))
        return [{**row, "langs": ["xx"] * len(row["tokens"])} for row in rows]

    def pos(word: str) -> Rows:
        return tagged("pos_tags", ([word, "runs"], [7, 15]))

    def sides(first: str, second: str) -> Rows:
        return [
            {"source_sentence": f"{first}\n", "target_sentence": f"{second}\n",
             "source_lang": "xxx", "target_lang": "eng"},
        ]  # fmt: skip

    three = ("train", "validation", "test")
    xtreme: dict[str, dict[str, Rows]] = {}
    for code in ("en", "de"):
        xtreme[f"PAN-X.{code}"] = {split: pan(f"{code}-{split}") for split in three}
        xtreme[f"XQuAD.{code}"] = {"validation": [question("x1", f"Ada {code}", f"Ada {code}")]}
        for asked in ("en", "de"):
            xtreme[f"MLQA.{code}.{asked}"] = {
                split: [question(f"{split}1", f"Ada, {code}.", "Ada", asked=f"Wer {asked}?")]
                for split in ("validation", "test")
            }
    for name in ("English", "German"):
        xtreme[f"udpos.{name}"] = {split: pos(f"{name}-{split}") for split in three}
    xtreme["udpos.Kazakh"] = {"train": pos("kk-train"), "test": pos("kk-test")}
    xtreme["udpos.Thai"] = {"test": pos("th-test")}
    xtreme["XNLI"] = {
        split: [
            {"language": code, "sentence1": f"{code} {split} {number}", "sentence2": "h",
             "gold_label": INFERENCE[number]}
            for number in range(3)
            for code in ("de", "en")
        ]
        for split in ("validation", "test")
    }  # fmt: skip
    xtreme["tydiqa"] = {
        split: [
            question(f"{name}-{number}", f"It was {name} {number}.", f"{name} {number}")
            for number in range(10)
            for name in ("english", "swahili")
        ]
        for split in ("train", "validation")
    }
    xtreme["bucc18.de"] = {
        "validation": sides("Guten Tag", "Good day"),
        "test": sides("Gute Nacht", "Good night"),
    }
    xtreme["tatoeba.deu"] = {"validation": sides("Danke.", "Thanks.")}
    write_data_set(
        root / "google/xtreme",
        xtreme,
        {
            "tokens": List(text), "ner_tags": List(ClassLabel(names=NER)), "langs": List(text),
            "pos_tags": List(ClassLabel(names=UPOS)), **squad, "language": text,
            "sentence1": text, "sentence2": text, "gold_label": text, "source_sentence": text,
            "target_sentence": text, "source_lang": text, "target_lang": text,
        },
    )  # fmt: skip

    def inferred(*labels: int, premise: str = "p") -> Rows:
        return [
            {"premise": f"{premise} {number}", "hypothesis": "h", "label": label}
            for number, label in enumerate(labels)
        ]

    mnli = {
        "train": inferred(0, 1, 2, premise="mnli"),
        "validation_matched": inferred(1, premise="matched"),
        "validation_mismatched": inferred(2, premise="mismatched"),
        "test_matched": inferred(-1),
    }
    asked_twice = [
        {"question1": "Who?", "question2": "Who is it?", "label": 1, "idx": 0},
        {"question1": "Who?", "question2": "Where?", "label": 0, "idx": 1},
    ]
    write_data_set(root / "nyu-mll/glue", {"mnli": mnli}, nli)
    write_data_set(
        root / "nyu-mll/qqp-part", {"qqp": {"train": asked_twice, "validation": asked_twice}},
        {"question1": text, "question2": text, "idx": whole,
         "label": ClassLabel(names=["not_duplicate", "duplicate"])},
    )  # fmt: skip
    _join(root / "nyu-mll/glue", root / "nyu-mll/qqp-part")
    write_data_set(
        root / "stanfordnlp/snli",
        {"plain_text": {"train": inferred(2, -1, 0, premise="snli")}},
        nli,
    )
    write_data_set(
        root / "facebook/anli",
        {
            "plain_text": {
                f"{split}_r{turn}": [
                    {"uid": f"{split}{turn}", "premise": f"{split} {turn}", "hypothesis": "h",
                     "label": turn - 1, "reason": ""}
                ]
                for split in ("train", "dev", "test")
                for turn in (1, 2, 3)
            }
        },
        nli,
    )  # fmt: skip
    write_data_set(
        root / "facebook/xnli",
        {code: {split: inferred(0, 2, premise=code) for split in three} for code in ("en", "de")},
        nli,
    )
    write_data_set(
        root / "google-research-datasets/paws-x",
        {
            code: {
                split: [
                    {"id": 1, "sentence1": f"a {code}", "sentence2": "b", "label": 1},
                    {"id": 2, "sentence1": "NS", "sentence2": "b", "label": 0},
                    {"id": 3, "sentence1": f"c {code}", "sentence2": "d", "label": 0},
                ]
                for split in three
            }
            for code in ("en", "de")
        },
        {"id": whole, "sentence1": text, "sentence2": text, "label": ClassLabel(names=["0", "1"])},
    )
    write_data_set(
        root / "masakhane/afrixnli",
        {"eng": {split: inferred(1, premise="eng") for split in ("validation", "test")}},
        {"premise": text, "hypothesis": text, "label": whole},
    )
    read = {
        "link": "x", "question_number": 1, "flores_passage": "It rained.", "question": "So?",
        "mc_answer1": "wet", "mc_answer2": "dry", "mc_answer3": "hot", "mc_answer4": "none",
        "correct_answer_num": "2",
    }  # fmt: skip
    write_data_set(
        root / "facebook/belebele",
        {code: {"test": [read]} for code in ("eng_Latn", "deu_Latn")},
        {name: whole if name == "question_number" else text for name in read},
    )
    for folder, codes, row, types in (
        ("Davlan/sib200", ("eng_Latn", "deu_Latn"),
         {"index_id": 7, "category": "travel", "text": "Go there."}, {"index_id": whole}),
        ("mteb/amazon_massive_intent", ("en", "de"),
         {"id": "3", "label": "alarm_set", "label_text": "alarm_set", "text": "Wake me."}, {}),
        ("mteb/AfriSentiClassification", ("hau",), {"text": "Good.", "label": 0}, {"label": whole}),
        ("masakhane/masakhanews", ("eng",),
         {"category": "health", "headline": "All well.", "text": "They are.", "url": "x"}, {}),
        ("mteb/NusaX-senti", ("eng",), {"id": "1", "text": "Bad.", "lang": "eng", "label": 0},
         {"label": whole}),
    ):  # fmt: skip
        write_data_set(
            root / folder,
            {code: {split: [row] for split in three} for code in codes},
            {name: types.get(name, text) for name in row},
        )
    write_data_set(
        root / "rajpurkar/squad",
        {
            "plain_text": {
                split: [question(f"{split}1", "Ada wrote it.", "Ada", title="Ada")]
                for split in ("train", "validation")
            }
        },
        squad,
    )
    write_data_set(
        root / "rajpurkar/squad_v2",
        {
            "squad_v2": {
                split: [
                    question("q1", "Ada wrote it.", "Ada", "it", title="Ada"),
                    question("q2", "Ada wrote it.", title="Ada", asked="When?"),
                ]
                for split in ("train", "validation")
            }
        },
        squad,
    )
    copa = {
        "premise": text, "choice1": text, "choice2": text, "question": text, "idx": whole,
        "label": ClassLabel(names=["choice1", "choice2"]), "changed": Value("bool"),
    }  # fmt: skip

    def chosen(label: int, premise: str) -> Rows:
        return [
            {"premise": premise, "choice1": "It fell.", "choice2": "It flew.", "idx": 4,
             "question": "effect", "label": label}
        ]  # fmt: skip

    write_data_set(
        root / "aps/super_glue",
        {"copa": {"train": chosen(0, "train"), "validation": chosen(1, "dev")}},
        copa,
    )
    write_data_set(
        root / "cambridgeltl/xcopa",
        {
            code: {"validation": chosen(1, f"{code} dev"), "test": chosen(0, f"{code} test")}
            for code in ("et", "sw")
        },
        copa,
    )
    for folder, row, types in (
        (
            "allenai/social_i_qa",
            {"context": "Kim ran.", "question": "Why?", "answerA": "late", "answerB": "fun",
             "answerC": "no", "label": "3"},
            {},
        ),
        (
            "allenai/cosmos_qa",
            {"id": "c1", "context": "It rained.", "question": "So?", "answer0": "wet",
             "answer1": "dry", "answer2": "hot", "answer3": "none", "label": 2},
            {"label": whole},
        ),
        (
            "Rowan/hellaswag",
            {"ind": 4, "activity_label": "Sailing", "ctx": "A man sails. He",
             "endings": ["sinks.", "lands.", "flies.", "sings."], "label": "1"},
            {"ind": whole, "endings": List(text)},
        ),
        (
            "tau/commonsense_qa",
            {"id": "7", "question": "Where is a fish?", "question_concept": "fish",
             "choices": {"label": list("ABCDE"), "text": ["sea", "sky", "tree", "car", "sun"]},
             "answerKey": "A"},
            {"choices": {"label": List(text), "text": List(text)}},
        ),
        (
            "openlifescienceai/medmcqa",
            {"id": "m1", "question": "Which bone?", "opa": "Ulna", "opb": "Tibia", "opc": "Ilium",
             "opd": "Rib", "cop": 2, "choice_type": "single", "exp": "", "subject_name": "Anatomy"},
            {"cop": ClassLabel(names=list("abcd"))},
        ),
    ):  # fmt: skip
        splits = {
            split: [
                {**row, **({"context": f"{split} {row['context']}"} if "context" in row else {})}
            ]
            for split in ("train", "validation")
        }
        write_data_set(root / folder, {"default": splits}, {**dict.fromkeys(row, text), **types})
    inferring = {"premise": "Water boils.", "hypothesis": "It is hot.", "label": "entails"}
    write_data_set(
        root / "allenai/scitail",
        {"tsv_format": {split: [inferring] for split in three}},
        dict.fromkeys(inferring, text),
    )
    held = {"context": "See Roe (<HOLDING>).", "endings": [*"vwxyz"], "label": 3}
    write_data_set(
        root / "coastalcph/lex_glue",
        {"case_hold": {split: [held] for split in three}},
        {"context": text, "endings": List(text), "label": ClassLabel(names=list("01234"))},
    )
    return root


def _join(folder: Path, part: Path) -> None:
    """Move the configurations of one data set into another, as the benchmark collections have."""
    cards = [
        yaml.safe_load((directory / "README.md").read_text().split("---")[1])
        for directory in (folder, part)
    ]
    for config in cards[1]["configs"]:
        (part / config["config_name"]).rename(folder / config["config_name"])
    cards[0]["configs"] += cards[1]["configs"]
    (folder / "README.md").write_text("---\n" + yaml.safe_dump(cards[0]) + "---\n")
    (part / "README.md").unlink()
    part.rmdir()
