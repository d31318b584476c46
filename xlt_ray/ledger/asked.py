"""Which trials have been asked and which wait: read from a study once, then kept up.

Only the driver of a sweep adds trials to its study, and only through its
:class:`~xlt_ray.ledger.book.Ledger`, so nothing has to be read again before every ask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from optuna.trial import FrozenTrial, TrialState

from xlt_ray.ledger.proposing import Configuration, configuration_from
from xlt_ray.ledger.views import assignment_of, configuration_of, is_retry, repeat_of
from xlt_ray.spec.space import Value


class PendingTrials:
    """The trials of a study, as far as what is asked next depends on them.

    Args:
        seeds: trials of each configuration.
        is_first_alone: whether the other repeats of a configuration are asked when its first one
            is complete, and not as soon as that one is handed out.
    """

    def __init__(
        self, trials: Iterable[FrozenTrial], seeds: int, *, is_first_alone: bool = False
    ) -> None:
        self.seeds = seeds
        self.is_first_alone = is_first_alone
        self.last_configuration = -1
        self.configurations: set[Configuration] = set()
        """All that were asked."""
        self._there: set[tuple[int, int]] = set()
        self._num_trials = 0
        self._waiting: deque[int] = deque()
        self._unrepeated: dict[int, FrozenTrial] = {}
        """Configuration -> the trial of which repeats are to be added."""
        self._open: set[int] = set()
        """First repeats at work."""
        for trial in trials:
            self.add(configuration_of(trial), repeat_of(trial), assignment_of(trial))
            if trial.state != TrialState.WAITING:
                self._waiting.pop()
                self.note(trial)

    def add(self, configuration: int, repeat: int, assignment: Mapping[str, Value]) -> None:
        """A trial that waits was added, with the next number."""
        self._waiting.append(self._num_trials)
        self._num_trials += 1
        self.last_configuration = max(self.last_configuration, configuration)
        self.configurations.add(configuration_from(assignment))
        self._there.add((configuration, repeat))

    @property
    def first_waiting(self) -> int | None:
        """Number of the trial that is handed out next, or None."""
        return self._waiting[0] if self._waiting else None

    @property
    def awaits_first_repeats(self) -> bool:
        """Whether the end of a trial at work may be followed by repeats of its configuration."""
        return self.is_first_alone and self.seeds > 1 and bool(self._open)

    def mark_asked(self, trial: FrozenTrial) -> None:
        """The first that waits is handed out."""
        self._waiting.popleft()
        self.note(trial)

    def note(self, trial: FrozenTrial) -> None:
        """The state of a trial that was handed out has changed."""
        if self.seeds == 1 or repeat_of(trial):
            return
        if trial.state == TrialState.RUNNING:
            self._open.add(trial.number)
        else:
            self._open.discard(trial.number)
        if self.is_first_alone:
            is_to_be_repeated = trial.state == TrialState.COMPLETE
        else:
            # Where early stopping was given up meanwhile, what it ended is not taken up again.
            is_to_be_repeated = not is_retry(trial) and trial.state != TrialState.PRUNED
        if is_to_be_repeated:
            self._unrepeated[configuration_of(trial)] = trial

    def missing_repeats(self) -> list[tuple[FrozenTrial, int]]:
        """Every repeat that is to be added, with the trial that it repeats; told once."""
        found = [
            (trial, repeat)
            for configuration, trial in sorted(self._unrepeated.items())
            for repeat in range(1, self.seeds)
            if (configuration, repeat) not in self._there
        ]
        self._unrepeated.clear()
        return found
