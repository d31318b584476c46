"""The data of a path: each set once, with a digest that covers all of its languages."""

from __future__ import annotations

import json

from xlt_ray.store.stage import Stage
from xlt_ray.tracking.content import inputs_of, source_of

NLI = {"task": {"name": "nli", "version": 1}}
ONE, TWO, OTHER = ("1" * 64, "2" * 64, "3" * 64)


def evaluation(**test: str) -> Stage:
    data = {
        "dev": {"en": OTHER}, "test": test, "also": {"pos": {"en": ONE, "de": TWO}},
        "also_dev": {"bucc-mining": {"de": OTHER}},
    }  # fmt: skip
    return Stage("evaluate", NLI, data, 0, None, "evaluate")


def test_every_split_is_named_with_what_it_is_read_for() -> None:
    path = [
        Stage("model", {"weights": "w"}, {}, 0, None, "model"),
        Stage("align", {}, {"parallel": {"de": ONE, "fr": TWO}}, 0, None, "align"),
        Stage("intermediate", NLI, {"train": ONE}, 0, None, "intermediate"),
        Stage("target", NLI, {"train": ONE, "hybrid": {"de": TWO}}, 0, None, "target"),
        evaluation(en=ONE, de=TWO),
    ]
    assert {input_.name: input_.context for input_ in inputs_of(path)} == {
        "parallel text": "alignment",
        "nli train": "intermediate, training",
        "nli cross-lingual batches": "training",
        "nli dev": "evaluation",
        "nli test": "evaluation",
        "pos test": "evaluation",
        "bucc-mining dev": "evaluation",
    }


def test_the_digest_covers_every_language() -> None:
    sets = [
        {input_.name: input_ for input_ in inputs_of([evaluation(**test)])}["nli test"]
        for test in ({"en": ONE, "de": TWO}, {"de": TWO, "en": ONE}, {"en": ONE, "de": OTHER})
    ]
    first, same, other = sets
    assert first == same
    assert first.digest != other.digest
    profile = json.loads(first.profile)
    assert profile == {"parts": 2, "fingerprints": {"de": TWO, "en": ONE}}


def test_what_the_target_is_trained_on_comes_first() -> None:
    path = [
        Stage("align", {}, {"parallel": {"de": ONE}}, 0, None, "align"),
        Stage("target", NLI, {"train": TWO}, 0, None, "target"),
    ]
    assert [input_.name for input_ in inputs_of(path)] == ["nli train", "parallel text"]


def test_what_one_language_holds_goes_by_its_own_fingerprint() -> None:
    (found,) = inputs_of([Stage("target", NLI, {"train": ONE}, 0, None, "target")])
    assert found.digest == ONE[:10]


def test_the_source_is_told_in_mlflows_words_and_without_passwords() -> None:
    root = "https://ada:s3cret@host/data"
    told = source_of({"space": {"data": {"source": "files", "root": root}}})
    assert told["type"] == "local"
    assert "s3cret" not in told["root"]
    assert source_of({"space": {"data": {"source": "toy", "seed": 3}}})["type"] == "toy"
