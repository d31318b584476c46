"""Whose turn it is: no stage has two makers, and nobody waits who could begin."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_ray.sweep.scheduler import StageQueue

Paths = list[tuple[int, ...]]
"""Of every trial, the stages it needs, by number; those of equal beginnings are the same."""


class Hall:
    """Trials with their paths, what is made of them, and who is at work."""

    def __init__(self, paths: Paths) -> None:
        self.paths = [tuple(str(path[: index + 1]) for index in range(len(path))) for path in paths]
        self.there: set[str] = set()
        self.at_work: list[int] = []
        self.turns = StageQueue(self.next_key)

    def next_key(self, number: int) -> str | None:
        return next((key for key in self.paths[number] if key not in self.there), None)

    def fill(self, workers: int) -> list[int]:
        """Hand out what can be; the numbers, in this order."""
        found = []
        while len(self.at_work) < workers and (number := self.turns.peek()) is not None:
            self.turns.start(number)
            self.at_work.append(number)
            found.append(number)
        return found

    def step(self, number: int) -> None:
        key = self.next_key(number)
        if key is None:
            self.at_work.remove(number)
            self.turns.finish(number)
        else:
            self.there.add(key)
            self.turns.advance(number)


trees = st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=4).map(tuple), max_size=30)


@settings(max_examples=40)
@given(paths=trees, workers=st.integers(1, 6), seed=st.integers(0, 999))
def test_no_stage_has_two_makers_and_nobody_waits_who_could_begin(
    paths: Paths, workers: int, seed: int
) -> None:
    hall, draw = Hall(paths), Random(seed)
    coming = list(range(len(paths)))
    ended = 0
    while coming or hall.at_work or len(hall.turns):
        for _ in range(min(draw.randrange(4), len(coming))):
            hall.turns.add(coming.pop(0))
        hall.fill(workers)
        making = Counter(key for one in hall.at_work if (key := hall.next_key(one)) is not None)
        assert all(count == 1 for count in making.values())
        if len(hall.at_work) < workers:
            assert all(hall.next_key(turn) in making for turn in hall.turns)
        if hall.at_work:
            number = draw.choice(hall.at_work)
            before = len(hall.at_work)
            hall.step(number)
            ended += before - len(hall.at_work)
    assert ended == len(paths)
    assert hall.there == {key for path in hall.paths for key in path}


def test_those_who_may_begin_do_so_in_the_order_in_which_they_came() -> None:
    hall = Hall([(0, 0), (0, 1), (1, 0), (0, 2), (2, 0)])
    for number in range(5):
        hall.turns.add(number)
    assert hall.fill(9) == [0, 2, 4]
    hall.step(0)
    assert hall.fill(9) == [1, 3]


def test_a_maker_that_ends_without_its_stage_lets_the_next_one_try() -> None:
    hall = Hall([(0, 0), (0, 1), (0, 2)])
    for number in range(3):
        hall.turns.add(number)
    assert hall.fill(9) == [0]
    hall.turns.finish(0)
    assert hall.fill(9) == [1]
    assert list(hall.turns) == [2]


def test_one_who_leaves_is_not_handed_out() -> None:
    hall = Hall([(0, 0), (0, 1), (1, 0)])
    for number in range(3):
        hall.turns.add(number)
    hall.turns.remove(0)
    assert hall.fill(9) == [1, 2]
    assert len(hall.turns) == 0


def test_a_trial_is_looked_at_again_only_when_its_stage_is_released() -> None:
    looks: Counter[int] = Counter()
    hall = Hall([(0, index) for index in range(50)] + [(1, index) for index in range(50)])
    inner = hall.next_key

    def counted(number: int) -> str | None:
        looks[number] += 1
        return inner(number)

    hall.turns = StageQueue(counted)
    for number in range(100):
        hall.turns.add(number)
    hall.fill(2)
    for _ in range(100):
        assert hall.turns.peek() is None
    assert max(looks[number] for number in hall.turns) == 1
