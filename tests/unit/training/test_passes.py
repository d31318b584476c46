"""Rows of a batch are shared out over workers and passes, and their sums stay the batch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.batches.length_pools import WEIGHT
from xlt_ray.training.passes import cheapest_split, passes_of

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=24)


def batch_of(lengths: list[int]) -> dict[str, np.ndarray]:
    """Rows of ones, each with its number as label and a weight of its own for every place."""
    width = max(lengths)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": mask * (1 + np.arange(len(lengths))[:, None]),
        "attention_mask": mask,
        "labels": np.arange(len(lengths)),
        "swap": np.tile(np.eye(width, dtype=np.float32), (len(lengths), 1, 1)),
    }


@given(LENGTHS, st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_every_row_is_in_one_pass_of_one_worker_and_loses_padding_alone(
    lengths: list[int], workers: int, accumulation: int, is_divisible: bool
) -> None:
    batch = batch_of(lengths)
    seen = []
    for rank in range(workers):
        micro_batches = passes_of(
            batch, rank, workers, accumulation, CPU, is_divisible=is_divisible
        )
        assert len(micro_batches) == accumulation
        for one_pass in (one_pass for passes in micro_batches for one_pass in passes):
            if one_pass["denominator"].isinf():
                assert len(one_pass["labels"]) == 1
                continue
            assert one_pass["denominator"] == pytest.approx(len(lengths) / workers / accumulation)
            width = one_pass["input_ids"].shape[1]
            assert one_pass["swap"].shape[1:] == (width, width)
            for ids, label in zip(one_pass["input_ids"], one_pass["labels"].tolist(), strict=True):
                seen.append(label)
                assert (ids == label + 1).sum() == lengths[label]
    assert sorted(seen) == list(range(len(lengths)))
    if not is_divisible:
        assert seen == sorted(seen)


def test_rows_of_unlike_length_are_computed_apart_where_that_costs_less() -> None:
    (passes,) = passes_of(batch_of([9] * 16 + [90] * 4), 0, 1, 1, CPU)
    assert [one_pass["input_ids"].shape for one_pass in passes] == [(5, 9)] * 3 + [(5, 90)]
    (passes,) = passes_of(batch_of([9] * 20), 0, 1, 1, CPU)
    assert [one_pass["input_ids"].shape for one_pass in passes] == [(20, 9)]


@given(LENGTHS)
def test_a_split_never_costs_more_cells_than_one_pass(lengths: list[int]) -> None:
    ascending = np.sort(np.array(lengths))
    passes = np.array_split(ascending, cheapest_split(ascending))
    assert sum(len(rows) * rows[-1] for rows in passes) <= len(lengths) * ascending[-1]


@given(LENGTHS, st.integers(1, 3), st.integers(1, 3))
def test_rows_of_batches_of_unequal_size_weigh_the_same(
    lengths: list[int], workers: int, accumulation: int
) -> None:
    batch = {**batch_of(lengths), WEIGHT: np.array(len(lengths) / 8)}
    for rank in range(workers):
        for passes in passes_of(batch, rank, workers, accumulation, CPU):
            for one_pass in passes:
                assert WEIGHT not in one_pass
                denominator = one_pass["denominator"]
                assert denominator.isinf() or denominator == pytest.approx(
                    8 / workers / accumulation
                )


def test_every_array_of_an_option_is_cut_alike() -> None:
    mask = np.zeros((2, 3, 8), np.int64)
    mask[0, :, :3], mask[1, 2, :5] = 1, 1
    batch = {"input_ids": mask, "attention_mask": mask, "labels": np.array([0, 2])}
    (passes,) = passes_of(batch, 0, 1, 1, CPU)
    assert [one_pass["input_ids"].shape for one_pass in passes] == [(2, 3, 5)]


def test_on_a_gpu_rows_are_computed_at_once_at_a_multiple_of_8() -> None:
    # This device stands for a GPU; its tensors have shapes and no values.
    (passes,) = passes_of(batch_of([9] * 16 + [19] * 3 + [90]), 0, 1, 1, torch.device("meta"))
    assert [one_pass["input_ids"].shape for one_pass in passes] == [(20, 90)]
    batch = batch_of([9, 3, 90])
    micro_batches = passes_of(batch, 0, 1, 3, torch.device("meta"))
    assert [passes[0]["input_ids"].shape[1] for passes in micro_batches] == [8, 16, 90]
