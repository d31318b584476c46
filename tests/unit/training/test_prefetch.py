"""Who makes an item, when, and what becomes of its exceptions."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from xlt_ray.training.prefetch import prefetched

# The kind of device decides; none of that kind is needed.
CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Numbers:
    """0, 1, 2, and who made them."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.makers: list[int] = []
        self.made = [threading.Event() for _ in range(3)]
        self._fails_at = fails_at

    def __iter__(self) -> Iterator[int]:
        for number in range(3):
            if number == self._fails_at:
                raise ValueError(f"{number} cannot be made")
            self.makers.append(threading.get_ident())
            self.made[number].set()
            yield number


@pytest.mark.parametrize("device", [CPU, GPU])
def test_items_stay_the_same_in_the_same_order(device: torch.device) -> None:
    assert list(prefetched(Numbers(), device)) == [0, 1, 2]
    assert list(prefetched([], device)) == []


def test_on_a_gpu_the_next_item_is_made_meanwhile_and_no_other() -> None:
    numbers = Numbers()
    items = prefetched(numbers, GPU)
    assert next(items) == 0
    assert numbers.made[1].wait(10)
    assert not numbers.made[2].is_set()
    assert list(items) == [1, 2]
    assert threading.get_ident() not in numbers.makers


def test_on_a_cpu_an_item_is_made_when_it_is_needed() -> None:
    numbers = Numbers()
    assert next(prefetched(numbers, CPU)) == 0
    assert not numbers.made[1].is_set()
    assert numbers.makers == [threading.get_ident()]


@pytest.mark.parametrize("device", [CPU, GPU])
def test_an_exception_comes_in_its_place(device: torch.device) -> None:
    items = prefetched(Numbers(fails_at=2), device)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="2 cannot be made"):
        next(items)


def test_a_loop_that_is_left_leaves_no_thread() -> None:
    before = threading.active_count()
    items = prefetched(Numbers(), GPU)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
