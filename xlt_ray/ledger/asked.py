"""Which trials have been asked and which wait: read from a study once, then kept up.

Only the driver of a sweep adds trials to its study, and only through its
:class:`~xlt_ray.ledger.book.Ledger`, so nothing has to be read again before every ask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

from xlt_ray.ledger.views import configuration_of, is_retry, repeat_of


class Asked:
    """The trials of a study, as far as what is asked next depends on them.

    Args:
        seeds: trials of each configuration.
    """

    def __init__(self, trials: Iterable[FrozenTrial], seeds: int) -> None:
        self.seeds = seeds
        self.last_configuration = -1
        self._there: set[tuple[int, int]] = set()
        self._num_trials = 0
        self._waiting: deque[int] = deque()
        self._unrepeated: list[FrozenTrial] = []
        for one in trials:
            self.add(configuration_of(one), repeat_of(one))
            if one.state != TrialState.WAITING:
                self._waiting.pop()
                self._note_drawn(one)

    def add(self, configuration: int, repeat: int) -> None:
        """A trial that waits was added, with the next number."""
        self._waiting.append(self._num_trials)
        self._num_trials += 1
        self.last_configuration = max(self.last_configuration, configuration)
        self._there.add((configuration, repeat))

    @property
    def first_waiting(self) -> int | None:
        """Number of the trial that is handed out next, or None."""
        return self._waiting[0] if self._waiting else None

    def hand_out(self, trial: FrozenTrial) -> None:
        """The first that waits is handed out: its parameters are known."""
        self._waiting.popleft()
        self._note_drawn(trial)

    def missing_repeats(self) -> list[tuple[FrozenTrial, int]]:
        """Every repeat that is to be added, with the trial that it repeats; told once."""
        found = [
            (one, repeat)
            for one in self._unrepeated
            for repeat in range(1, self.seeds)
            if (configuration_of(one), repeat) not in self._there
        ]
        self._unrepeated.clear()
        return found

    def _note_drawn(self, trial: FrozenTrial) -> None:
        if self.seeds > 1 and not repeat_of(trial) and not is_retry(trial):
            self._unrepeated.append(trial)
