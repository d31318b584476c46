"""A record is plain JSON and is read as it was written."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from xlt_ray.store.canonical import digest
from xlt_ray.store.record import FileEntry, Score, StageRecord

RECORD = StageRecord(
    key="k",
    payload={"kind": "evaluate", "version": 1, "settings": {"languages": ["en", "no"]}},
    label="evaluate nli in 2 languages",
    files={"model.safetensors": FileEntry(3, "abc")},
    scores=(Score("nli", "no", "test", "accuracy", 1 / 3, 17),),
    history=({"step": 1, "examples": 8, "metrics": {"accuracy": 0.1}},),
    num_examples=8,
    seconds=0.25,
    runtime={"workers": 2, "device": "cpu"},
    made_by={"sweep": "s", "trial": 3},
)


def test_a_record_survives_json_with_every_bit_of_its_numbers() -> None:
    back = StageRecord.from_json(json.loads(json.dumps(RECORD.to_json())))
    assert back == RECORD
    assert back.kind == "evaluate"
    assert digest(back.to_json()) == digest(RECORD.to_json())


def test_every_field_of_a_record_is_kept() -> None:
    assert set(RECORD.to_json()) == {field.name for field in fields(StageRecord)}


@pytest.mark.parametrize("missing", ["key", "payload", "files", "scores", "history"])
def test_a_record_without_a_required_field_is_refused(missing: str) -> None:
    tree = {name: value for name, value in RECORD.to_json().items() if name != missing}
    with pytest.raises((KeyError, TypeError)):
        StageRecord.from_json(tree)


def test_a_record_of_a_newer_version_is_read() -> None:
    tree = json.loads(json.dumps(RECORD.to_json()))
    tree["state"] = "new"
    tree["scores"][0]["interval"] = [0.1, 0.2]
    tree["files"]["model.safetensors"]["codec"] = "zstd"
    assert StageRecord.from_json(tree) == RECORD
