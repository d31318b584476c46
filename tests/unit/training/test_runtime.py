"""How a batch is split into passes that fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.training.runtime import Runtime


def runtime(**changes: Any) -> Runtime:
    return Runtime(cache=Path("cache"), **changes)


@given(
    share=st.integers(1, 256),
    workers=st.integers(1, 8),
    most=st.integers(1, 300),
)
def test_the_effective_batch_stays_as_it_is(share: int, workers: int, most: int) -> None:
    settings = {"batch_size": share * workers, "max_length": 64}
    made = runtime(workers=workers, batch_limits={64: most})
    micro, accumulation = made.fitted(settings).accumulation(settings["batch_size"])
    assert micro * accumulation * workers == settings["batch_size"]
    assert micro <= most
    assert made.pass_size(settings) == micro
    larger = [size for size in range(micro + 1, min(most, share) + 1) if share % size == 0]
    assert not larger, "no more passes than needed"


@given(share=st.integers(2, 256))
def test_halving_ends_at_one_sequence(share: int) -> None:
    settings = {"batch_size": share, "max_length": 64}
    held = [runtime().pass_size(settings)]
    while held[-1] > 1:
        held.append(runtime(batch_limits={64: held[-1] // 2}).pass_size(settings))
        assert held[-1] < held[-2]
    assert held[0] == share


def test_what_fits_holds_for_its_length_alone() -> None:
    made = runtime(batch_limits={64: 4})
    assert made.fitted({"batch_size": 16, "max_length": 32}) is made
    assert made.fitted({"batch_size": 16, "max_length": 64}).micro_batch == 4


def test_a_micro_batch_that_fits_already_stays() -> None:
    settings = {"batch_size": 16, "max_length": 64}
    assert runtime(batch_limits={64: 99}).fitted(settings).micro_batch is None
    assert runtime(micro_batch=2, batch_limits={64: 4}).fitted(settings).micro_batch == 2


@pytest.mark.parametrize(("most", "batch"), [(8, 8), (100, 64)])
def test_evaluation_reads_no_more_at_a_time_than_fits(most: int, batch: int) -> None:
    made = runtime(batch_limits={64: most})
    assert made.fitted({"max_length": 64}).evaluation_batch == batch
    assert made.pass_size({"max_length": 64}) == batch


def test_the_record_keeps_the_micro_batch_that_was_used() -> None:
    fitted = runtime(batch_limits={64: 4}).fitted({"batch_size": 16, "max_length": 64})
    assert fitted.numeric() == runtime(micro_batch=4).numeric()


def test_the_record_tells_of_offload_and_compilation_only_where_they_are() -> None:
    assert not {"offload", "compile"} & runtime().numeric().keys()
    assert runtime(compile=True).numeric()["compile"] is True
    assert runtime(activation_checkpointing=True).numeric() == runtime().numeric()
    assert runtime(offload="all").numeric()["offload"] == "all"
    assert runtime(gpu_share=0.25).numeric() == runtime().numeric()


def test_whatever_decides_memory_beside_the_model_has_limits_of_its_own() -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"device": "cuda"},
        {"device": "cuda", "activation_checkpointing": True},
        {"device": "cuda", "gpu_share": 0.5},
        {"device": "cuda", "gpu_share": 0.25},
        {"device": "cuda", "zero_stage": 2},
        {"device": "cuda", "zero_stage": 2, "workers": 8},
        {"device": "cuda", "zero_stage": 2, "workers": 8, "offload": "optimizer"},
    ]
    assert len({runtime(**way).memory_profile for way in ways}) == len(ways)
    # Without ZeRO every worker holds everything.
    assert runtime(workers=8).memory_profile == runtime().memory_profile
