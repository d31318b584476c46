"""Sweeps over data sets of the hub are checked without a network, and in small on the toy world."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.command import Xlt
from tests.hubmirror import question, write_data_set
from xlt_ray.data.sources.hub_library import NOT_CACHED
from xlt_ray.errors import DataError, SpecError

if TYPE_CHECKING:
    from datasets import Dataset

    from xlt_ray.data.task import HubPart

SWEEPS = Path(__file__).parents[3] / "sweeps"
IN_SMALL = [
    (file.name, command)
    for file in sorted(SWEEPS.glob("*.yaml"))
    for command in re.findall(r"^# +xlt (check .*data=\{source: toy\}.*)$", file.read_text(), re.M)
]


def test_sweeps_that_need_data_show_how_to_check_them_in_small() -> None:
    shown = {name for name, _ in IN_SMALL}
    assert shown >= {"xtreme.yaml", "xtreme-f1.yaml", "intermediate-size.yaml", "alignment.yaml"}


@pytest.mark.parametrize(("name", "command"), IN_SMALL, ids=lambda value: value.split()[0])
def test_what_a_sweep_shows_in_small_passes(xlt: Xlt, name: str, command: str) -> None:
    verb, _, *overrides = shlex.split(command)
    result = xlt(verb, str(SWEEPS / name), *overrides)
    assert (result.code, result.err) == (0, "")
    assert f"{name.removesuffix('.yaml')}: ok" in result.out
    # A sweep whose question is a stage trains it for every seed.
    assert "warning: " not in result.out


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "models"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def sweep_file(folder: Path, data: str) -> str:
    file = folder / "spans.yaml"
    file.write_text(
        f"""
name: spans
data: {data}
model: {{choice: [xlm-roberta-base, xlm-roberta-large]}}
target: {{task: xquad, fusion: {{method: dlfa, layer: {{int: [0, num_layers - 1]}}}}}}
objective: {{metric: f1}}
search: {{trials: 4}}
"""
    )
    return str(file)


@pytest.mark.usefixtures("offline")
def test_a_mirror_and_well_known_models_need_no_network(xlt: Xlt, tmp_path: Path) -> None:
    from datasets import List, Value

    text = Value("string")
    features = dict.fromkeys(("id", "title", "context", "question"), text) | {
        "answers": {"text": List(text), "answer_start": List(Value("int32"))}
    }
    rows = [question("q", "Ada wrote it.", "Ada")]
    mirror = tmp_path / "mirror"
    squad = {"train": rows, "validation": [question("q", "Bob read it.", "Bob")]}
    write_data_set(mirror / "rajpurkar/squad", {"plain_text": squad}, features)
    configs = {
        f"XQuAD.{language}": {"validation": [question("q", f"{language} it.", language)]}
        for language in ("en", "th")
    }
    write_data_set(mirror / "google/xtreme", configs, features)
    data = f"{{source: hub, root: {mirror}, cache: {tmp_path / 'arrow'}}}"
    file = sweep_file(tmp_path, data)
    result = xlt("check", file)
    assert (result.code, result.err) == (0, "")
    assert "not looked up" in result.out
    assert "xlm-roberta-large" in result.out
    # Stages have the commit of the weights in their names, so that nothing else may assume one.
    result = xlt("plan", file)
    assert result.code == 2
    assert "xlm-roberta-base: neither a local folder nor a model that can be reached" in result.err


@pytest.mark.usefixtures("offline")
def test_a_hub_that_does_not_answer_is_bad_input_and_no_traceback(xlt: Xlt, tmp_path: Path) -> None:
    result = xlt("check", sweep_file(tmp_path, f"{{source: hub, cache: {tmp_path / 'arrow'}}}"))
    assert result.code == 2
    assert "rajpurkar/squad plain_text: the Hugging Face Hub cannot be reached" in result.err
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1


def paraphrases(mirror: Path, copied: str = "", **labels: list[int]) -> None:
    """PAWS-X with these labels of the test sets, by language; an id is there twice in German.

    English has the rows of ``copied`` as its test set, under other ids.
    """
    from datasets import Value

    columns = dict.fromkeys(("sentence1", "sentence2"), Value("string"))
    configs = {
        code: {
            split: [
                {"id": min(number, 2 if code == "de" else 9), "label": label,
                 "sentence1": f"{code} {split} {number}", "sentence2": "b"}
                for number, label in enumerate(of_test if split == "test" else [0, 1, 0, 1])
            ]
            for split in ("train", "validation", "test")
        }
        for code, of_test in labels.items()
    }  # fmt: skip
    if copied:
        rows = configs["en"][copied]
        configs["en"]["test"] = [{**row, "id": 9 + at} for at, row in enumerate(rows)]
    features = {"id": Value("int64"), "label": Value("int64"), **columns}
    write_data_set(mirror / "google-research-datasets/paws-x", configs, features)


SOUND = {"en": [0, 1, 0, 1], "de": [0, 1, 0, 1]}


@pytest.fixture
def paws_file(tmp_path: Path) -> str:
    file = tmp_path / "paws.yaml"
    file.write_text(
        f"""
name: paws
data: {{source: hub, root: {tmp_path / "mirror"}, cache: {tmp_path / "arrow"}}}
model: xlm-roberta-base
target: {{task: pawsx}}
search: {{trials: 1}}
"""
    )
    return str(file)


@pytest.mark.usefixtures("offline")
def test_all_faulty_rows_of_all_splits_are_reported_at_once(
    xlt: Xlt, tmp_path: Path, paws_file: str
) -> None:
    paraphrases(tmp_path / "mirror", en=[0, 1, 7, 8], de=[0, 1, 7, 7, 7, 7, 7, 7])
    result = xlt("check", paws_file)
    assert result.code == 2
    assert [f"unknown label '{label}'" in result.err for label in (7, 8)] == [True, True]
    assert "pawsx/en/test" in result.err
    assert "has 6 faults, of which the first 5 are shown" in result.err


@pytest.mark.usefixtures("offline")
def test_equal_rows_in_two_splits_of_the_hub_are_found_before_a_sweep_starts(
    xlt: Xlt, tmp_path: Path, paws_file: str
) -> None:
    paraphrases(tmp_path / "mirror", **SOUND)
    assert "the same examples" not in xlt("check", paws_file).out
    paraphrases(tmp_path / "mirror", "train", **SOUND)
    trained = xlt("check", paws_file)
    assert trained.code == 2
    assert "pawsx/en: test and train hold the same examples" in trained.err
    paraphrases(tmp_path / "mirror", "validation", **SOUND)
    selected = xlt("check", paws_file)
    assert selected.code == 0
    assert "pawsx: en/dev, en/test hold the same examples" in selected.out


@pytest.mark.usefixtures("offline")
def test_rows_of_the_hub_are_counted_and_repeated_ids_warned_of(
    xlt: Xlt, tmp_path: Path, paws_file: str
) -> None:
    paraphrases(tmp_path / "mirror", **SOUND)
    result = xlt("check", paws_file)
    assert (result.code, result.err) == (0, "")
    assert "reads pawsx test: de 4, en 4" in result.out
    assert "warning: pawsx/de/test: 1 ids are repeated, the first is '2'" in result.out


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "faulty", "lines", "override"),
    [
        (
            "lexicon/en-de",
            "en\tde\nen de\nb\n",
            (2, 3),
            "target.hybrid={ratio: 0.5, text: switched}",
        ),
        ("parallel/c/de", "1\tder Hund\n2 die Katze\n", (2,), "evaluate.diagnostics=[cka]"),
    ],
)
def test_texts_beside_the_hub_are_read_as_files_are(
    xlt: Xlt,
    tmp_path: Path,
    paws_file: str,
    name: str,
    faulty: str,
    lines: tuple[int, ...],
    override: str,
) -> None:
    paraphrases(tmp_path / "mirror", **SOUND)
    texts = tmp_path / "texts"
    file, english = texts / f"{name}.tsv", texts / "parallel/c/en.tsv"
    for folder in (file.parent, english.parent):
        folder.mkdir(parents=True, exist_ok=True)
    english.write_text("1\tthe dog\n")
    file.write_text(faulty)
    asked = (override, f"data.texts={texts}")
    result = xlt("check", paws_file, *asked)
    assert result.code == 2
    assert all(f"{file}:{line}: " in result.err for line in lines)
    file.write_text("\n".join(line for line in faulty.splitlines() if "\t" in line) + "\n")
    assert xlt("check", paws_file, *asked).code == 0


def test_what_is_asked_over_the_network_is_said(
    xlt: Xlt, tmp_path: Path, paws_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(*_: object, **__: object) -> None:
        raise SpecError("no network in this test")

    monkeypatch.setattr("xlt_ray.sweep.runner.checked_facts", facts)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "mirror").mkdir()
    assert "on the Hugging Face Hub" in xlt("check", paws_file).err
    assert "Hugging Face" not in xlt("check", paws_file, "data={source: toy}", "model=toy:2x32").err


@pytest.mark.usefixtures("offline")
def test_data_sets_that_the_cache_lacks_are_not_asked_for_by_a_check(
    xlt: Xlt, tmp_path: Path, paws_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xlt_ray.data.sources.hub_library import Library

    paraphrases(tmp_path / "mirror", **SOUND)
    rows = Library.rows

    def cached(self: Library, part: HubPart, language: str, expression: str) -> Dataset:
        if expression == "test":
            raise DataError(f"{part.id} {language}: {NOT_CACHED}", remedy="check the network")
        return rows(self, part, language, expression)

    monkeypatch.setattr(Library, "rows", cached)
    result = xlt("check", paws_file)
    assert (result.code, result.err) == (0, "")
    assert "warning: not looked at: pawsx/de/test" in result.out
