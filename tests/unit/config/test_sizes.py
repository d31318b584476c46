"""Sizes as people write them, and the section of a sweep file that takes one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from xlt_ray.config.schema import sweep_schema
from xlt_ray.config.sweep import Bytes, SweepSpec, shown_bytes
from xlt_ray.errors import SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
target: {task: nli, source_language: qaa}
search: {trials: 1}
"""
ReadSweep = Callable[..., SweepSpec]


read = TypeAdapter(Bytes).validate_python


@pytest.mark.parametrize(
    ("written", "num_bytes"),
    [
        (1, 1),
        ("1", 1),
        ("200GB", 200 * 10**9),
        ("500MB", 500 * 10**6),
        ("1.5 TiB", 3 * 2**39),
        (" 2 kib ", 2048),
        ("0.3 kB", 300),
        ("1.0015kB", 1001),
        ("10000PB", 10**19),
    ],
)
def test_a_size_is_read(written: object, num_bytes: int) -> None:
    assert read(written) == num_bytes


@pytest.mark.parametrize(
    "written",
    [0, -1, 1.5, True, None, [], "", "GB", "-1GB", "1e9", "1,5 GB", "5 apples", "0.1B", "0"],
)
def test_anything_else_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 200GB"):
        read(written)


@given(st.integers(1, 10**17))
def test_a_size_that_is_shown_can_be_read_and_is_about_the_same(num_bytes: int) -> None:
    assert abs(read(shown_bytes(num_bytes)) / num_bytes - 1) < 0.01


def test_a_sweep_has_no_quota_unless_it_says_so(sweep_from: ReadSweep) -> None:
    assert sweep_from(TEXT).settings.store.quota is None
    assert sweep_from(TEXT, "store.quota=null").settings.store.quota is None


@pytest.mark.parametrize("written", ["'1.5 TiB'", "1.5TiB", "1649267441664"])
def test_a_quota_is_bytes_in_the_model_and_in_the_ledger(
    sweep_from: ReadSweep, written: str
) -> None:
    sweep = sweep_from(TEXT, f"store.quota={written}")
    assert sweep.settings.store.quota == 3 * 2**39
    assert json.loads(json.dumps(sweep.resolved()))["store"] == {"quota": 3 * 2**39}


def test_a_wrong_quota_is_refused_with_its_line_and_its_key(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecErrors, match=r"^f\.yaml:7: store\.quota: '5 apples': expected a size"):
        sweep_from(TEXT + "store: {quota: 5 apples}\n")
    with pytest.raises(SpecErrors, match=r"store\.quotta: unknown key; did you mean quota\?"):
        sweep_from(TEXT, "store.quotta=1")


def test_the_quota_may_change_when_a_sweep_is_continued(home: Home, sweep_from: ReadSweep) -> None:
    open_ledger(home, sweep_from(TEXT, "store.quota=1GB"))
    ledger = open_ledger(home, sweep_from(TEXT, "store.quota=2GB"))
    assert ledger.sweep["store"] == {"quota": 2 * 10**9}


@pytest.mark.parametrize(("quota", "fits"), [("200GB", True), (5, True), (None, True), ([], False)])
def test_the_schema_takes_text_and_numbers(quota: object, fits: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = sweep_schema()
    store = {**schema["$defs"]["Store"], "$defs": schema["$defs"]}
    assert jsonschema.Draft202012Validator(store).is_valid({"quota": quota}) is fits
