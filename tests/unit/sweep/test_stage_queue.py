"""The queue of trials: no stage has two makers, and no trial waits that could start."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_ray.sweep.scheduler import StageQueue

Paths = list[tuple[int, ...]]
"""The stages of every trial, by number; those of equal beginnings are the same."""


class Trials:
    """Trials with their paths, the stages that are made, and the running trials."""

    def __init__(self, paths: Paths) -> None:
        self.paths = [tuple(str(path[: index + 1]) for index in range(len(path))) for path in paths]
        self.made: set[str] = set()
        self.running: list[int] = []
        self.looks: Counter[int] = Counter()
        self.queue = StageQueue(self.next_key)

    def add_all(self) -> None:
        for number in range(len(self.paths)):
            self.queue.add(number)

    def next_key(self, number: int) -> str | None:
        self.looks[number] += 1
        return next((key for key in self.paths[number] if key not in self.made), None)

    def start(self, workers: int) -> list[int]:
        """Start what can start; the numbers, in this order."""
        started = []
        while len(self.running) < workers and (number := self.queue.peek()) is not None:
            self.queue.start(number)
            self.running.append(number)
            started.append(number)
        return started

    def step(self, number: int) -> None:
        key = self.next_key(number)
        if key is None:
            self.running.remove(number)
            self.queue.finish(number)
        else:
            self.made.add(key)
            self.queue.advance(number)


trees = st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=4).map(tuple), max_size=30)


@settings(max_examples=40)
@given(paths=trees, workers=st.integers(1, 6), seed=st.integers(0, 999))
def test_no_stage_has_two_makers_and_no_trial_waits_that_could_start(
    paths: Paths, workers: int, seed: int
) -> None:
    trials, random = Trials(paths), Random(seed)
    coming = list(range(len(paths)))
    num_ended = 0
    while coming or trials.running or len(trials.queue):
        for _ in range(min(random.randrange(4), len(coming))):
            trials.queue.add(coming.pop(0))
        trials.start(workers)
        making = Counter(key for key in map(trials.next_key, trials.running) if key is not None)
        assert all(count == 1 for count in making.values())
        if len(trials.running) < workers:
            assert all(trials.next_key(number) in making for number in trials.queue)
        if trials.running:
            num_running = len(trials.running)
            trials.step(random.choice(trials.running))
            num_ended += num_running - len(trials.running)
    assert num_ended == len(paths)
    assert trials.made == {key for path in trials.paths for key in path}


def test_trials_start_in_the_order_in_which_they_were_added() -> None:
    trials = Trials([(0, 0), (0, 1), (1, 0), (0, 2), (2, 0)])
    trials.add_all()
    assert trials.start(9) == [0, 2, 4]
    trials.step(0)
    assert trials.start(9) == [1, 3]


def test_the_next_trial_tries_a_stage_whose_maker_has_ended_without_it() -> None:
    trials = Trials([(0, 0), (0, 1), (0, 2)])
    trials.add_all()
    assert trials.start(9) == [0]
    trials.queue.finish(0)
    assert trials.start(9) == [1]
    assert list(trials.queue) == [2]


def test_a_removed_trial_does_not_start() -> None:
    trials = Trials([(0, 0), (0, 1), (1, 0)])
    trials.add_all()
    trials.queue.remove(0)
    assert trials.start(9) == [1, 2]
    assert len(trials.queue) == 0


def test_a_trial_is_examined_again_only_when_its_stage_has_no_maker() -> None:
    trials = Trials([(0, index) for index in range(50)] + [(1, index) for index in range(50)])
    trials.add_all()
    trials.start(2)
    for _ in range(100):
        assert trials.queue.peek() is None
    assert max(trials.looks[number] for number in trials.queue) == 1
