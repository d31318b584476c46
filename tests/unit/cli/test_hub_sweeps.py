"""Sweeps over data sets of the hub are checked without a network, and in small on the toy world."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Xlt
from tests.hubmirror import question, write_data_set

SWEEPS = Path(__file__).parents[3] / "sweeps"
IN_SMALL = [
    (file.name, command)
    for file in sorted(SWEEPS.glob("*.yaml"))
    for command in re.findall(r"^# +xlt (check .*data=\{source: toy\}.*)$", file.read_text(), re.M)
]


def test_sweeps_that_need_data_show_how_to_check_them_in_small() -> None:
    shown = {name for name, _ in IN_SMALL}
    assert shown >= {"xtreme.yaml", "xtreme-f1.yaml", "intermediate-size.yaml", "alignment.yaml"}


@pytest.mark.parametrize(("name", "command"), IN_SMALL, ids=lambda one: one.split()[0])
def test_what_a_sweep_shows_in_small_passes(xlt: Xlt, name: str, command: str) -> None:
    verb, _, *overrides = shlex.split(command)
    said = xlt(verb, str(SWEEPS / name), *overrides)
    assert (said.code, said.err) == (0, "")
    assert f"{name.removesuffix('.yaml')}: ok" in said.out
    # A sweep whose question is a stage trains it for every seed.
    assert "warning: " not in said.out


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
    squad = {"plain_text": {"train": rows, "validation": rows}}
    write_data_set(mirror / "rajpurkar/squad", squad, features)
    configs = {f"XQuAD.{language}": {"validation": rows} for language in ("en", "th")}
    write_data_set(mirror / "google/xtreme", configs, features)
    data = f"{{source: hub, root: {mirror}, cache: {tmp_path / 'arrow'}}}"
    file = sweep_file(tmp_path, data)
    said = xlt("check", file)
    assert (said.code, said.err) == (0, "")
    assert "not looked up" in said.out
    assert "xlm-roberta-large" in said.out
    # Stages have the commit of the weights in their names, so that nothing else may assume one.
    said = xlt("plan", file)
    assert said.code == 2
    assert "xlm-roberta-base: neither a local folder nor a model that can be reached" in said.err


@pytest.mark.usefixtures("offline")
def test_a_hub_that_does_not_answer_is_bad_input_and_no_traceback(xlt: Xlt, tmp_path: Path) -> None:
    said = xlt("check", sweep_file(tmp_path, f"{{source: hub, cache: {tmp_path / 'arrow'}}}"))
    assert said.code == 2
    assert "rajpurkar/squad plain_text: the Hugging Face Hub cannot be reached" in said.err
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == 1


@pytest.fixture
def paws(tmp_path: Path) -> Callable[..., str]:
    """A sweep on a mirror of PAWS-X, one test label of which may be another, and on texts."""

    def sweep(label: str = "1", **texts: str) -> str:
        from datasets import Value

        features = {
            "id": Value("int32"),
            **dict.fromkeys(("sentence1", "sentence2", "label"), Value("string")),
        }
        rows = [
            {"id": one, "sentence1": f"a{one} b", "sentence2": f"b a{one}", "label": str(one % 2)}
            for one in range(4)
        ]
        splits = dict.fromkeys(("train", "validation", "test"), rows)
        tested = {"test": [*rows[:3], {**rows[3], "label": label}]}
        place = tmp_path / "mirror/google-research-datasets/paws-x"
        write_data_set(place, {"en": splits, "de": tested}, features)
        for language, text in texts.items():
            file = tmp_path / f"texts/parallel/c/{language}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        root, arrow = f"root: {tmp_path / 'mirror'}", f"cache: {tmp_path / 'arrow'}"
        besides = f", texts: {tmp_path / 'texts'}" if texts else ""
        file = tmp_path / "paws.yaml"
        file.write_text(
            f"""
name: paws
data: {{source: hub, {root}, {arrow}{besides}}}
model: xlm-roberta-base
target: {{task: pawsx, size: 4, batch_size: 2, evaluations: 1}}
evaluate: {{diagnostics: [{"cka" if texts else ""}]}}
search: {{trials: 1}}
"""
        )
        return str(file)

    return sweep


@pytest.mark.usefixtures("offline")
def test_rows_of_the_hub_that_trials_are_scored_on_are_read_before_a_sweep_starts(
    xlt: Xlt, paws: Callable[..., str]
) -> None:
    assert xlt("check", paws()).code == 0
    said = xlt("check", paws("maybe"))
    assert said.code == 2
    assert "pawsx/de/test: " in said.err
    assert "unknown label 'maybe'" in said.err


@pytest.mark.usefixtures("offline")
def test_files_beside_the_hub_are_read_before_a_sweep_starts(
    xlt: Xlt, paws: Callable[..., str]
) -> None:
    assert xlt("check", paws(en="1\tthe dog\n", de="1\tder Hund\n")).code == 0
    said = xlt("check", paws(en="1\tthe dog\n", de="1\tder Hund\n2 die Katze\n"))
    assert said.code == 2
    assert "de.tsv:2: is not `id TAB sentence`" in said.err
