"""The schema for editors takes what the reader takes, and refuses what an editor can see."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from xlt_ray.config.schema import sweep_schema
from xlt_ray.config.trial import TrialSpec
from xlt_ray.config.yaml import read_document

jsonschema = pytest.importorskip("jsonschema")

SWEEPS = sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))
SOUND = {
    "name": "t",
    "data": {"source": "files", "root": "data"},
    "model": {"choice": ["a", {"name": "b"}]},
    "align": {"choice": [None, {"objective": "tlm", "steps": {"int": [1, 9], "log": True}}]},
    "intermediate": {"task": "nli", "size": {"choice": [10, "all"]}},
    "target": {
        "task": "pos",
        "learning_rate": {"float": [1e-5, 1e-3], "log": True},
        "fusion": {"method": "dlfa", "layer": {"int": [0, "num_layers - 1"]}},
        "hybrid": {"ratio": 0.5, "languages": ["en", "no"]},
    },
    "search": {"trials": 3},
}


@pytest.fixture(scope="module")
def validator() -> object:
    schema = json.loads(json.dumps(sweep_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.name)
def test_every_sweep_of_the_project_fits_the_schema(validator: object, file: Path) -> None:
    validator.validate(read_document(file).tree)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("schedule", "linear", True),
        ("schedule", "wsd", True),
        ("schedule", {"method": "wsd", "decay": 0.1}, True),
        ("schedule", {"choice": ["linear", "wsd"]}, True),
        ("schedule", "cosine", False),
        ("sampling", "proportional", True),
        ("sampling", "temperature", False),
    ],
)
def test_a_bare_name_fits_where_the_reader_takes_it(
    validator: object, key: str, value: object, fits: bool
) -> None:
    changed = {**SOUND, "intermediate": {"task": "nli", key: value}}
    assert validator.is_valid(changed) is fits  # type: ignore[attr-defined]
    plain = {"data": {"source": "toy"}, "model": "m", "target": {"task": "nli"}}
    if "choice" not in value:  # type: ignore[operator]
        searched = {**plain, "intermediate": changed["intermediate"]}
        with nullcontext() if fits else pytest.raises(ValidationError):
            TrialSpec.model_validate(searched)


def test_a_sweep_with_distributions_fits(validator: object) -> None:
    validator.validate(SOUND)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        {"modle": "x"},
        {"search": {"trials": {"choice": [1, 2]}}},
        {"search": {"trials": 0}},
        {"target": {"task": "pos", "learning_rte": 1}},
        {"target": {"task": "pos", "epochs": {"choice": []}}},
        {"target": {"task": "pos", "epochs": {"float": [1]}}},
        {"data": {"source": "toy", "root": "x"}},
        {"align": {"objective": "none"}},
        {"precision": "bf16"},
    ],
)
def test_what_an_editor_can_see_is_refused(validator: object, change: dict[str, object]) -> None:
    assert not validator.is_valid({**SOUND, **change})  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["name", "data", "model", "target", "search"])
def test_what_is_needed_is_required_of_a_file_without_a_base(validator: object, key: str) -> None:
    tree = {name: value for name, value in SOUND.items() if name != key}
    assert not validator.is_valid(tree)  # type: ignore[attr-defined]
    assert validator.is_valid({**tree, "base": "other.yaml"})  # type: ignore[attr-defined]


def test_every_key_carries_its_help() -> None:
    properties = sweep_schema()["$defs"]["Search"]["properties"]
    assert properties["seeds"]["description"].startswith("Trials of each configuration")


def test_the_schema_is_plain_json() -> None:
    assert yaml.safe_load(json.dumps(sweep_schema()))["title"] == "xlt-ray sweep"


def test_every_key_is_described_and_names_are_proposed() -> None:
    schema = sweep_schema(["pos"])
    definitions = {"": schema, **schema["$defs"]}
    undescribed = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, described in definition.get("properties", {}).items()
        if name != "distribution" and not {"description", "const"} & set(described)
    ]
    # Tags that tell blocks apart are constants, in a distribution, too.
    assert [key for key in undescribed if not key.endswith((".method", ".objective"))] == []
    for name, key, proposed in (
        ("Target", "task", "pos"),
        ("Intermediate", "task", "pos"),
        ("Objective", "metric", "conll_f1"),
        ("Model", "name", "FacebookAI/xlm-roberta-base"),
        ("Search", "sampler", "tpe"),
    ):
        assert f'"{proposed}"' in json.dumps(definitions[name]["properties"][key]), key
