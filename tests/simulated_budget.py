"""Sweeps with a budget on a simulated clock, driven by the functions of the real budget.

Trials report every ``interval_s``, each at a moment of its own. The driver hears nothing else: at a
report it ends a trial if the budget is used up, and starts others if there is room.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Literal

from xlt_ray.config.sweep import Budget
from xlt_ray.sweep.budget import Durations, Spending, Work, has_room, is_used_up, limits_of

Rule = Literal["budget", "until it is used up"]
"""The rule of the product; or start trials until the budget is used up, and let them end."""
STAGES = (("intermediate", 4000), ("target", 2000), ("evaluate", 0))


@dataclass(frozen=True)
class Scenario:
    """How long trials take, and what they may spend."""

    budget: Budget
    slots: int
    gpus: float
    interval_s: float
    speeds: tuple[float, ...]
    """Seconds of a typical trial, by model."""
    spread: float
    """Standard deviation of the logarithm of the seconds of a stage."""

    @property
    def limits(self) -> Spending:
        return limits_of(self.budget)


def drawn(random: Random) -> Scenario:
    """One of many scenarios: 2 to 60 trials fit, on 1 to 16 slots."""
    speeds = tuple(600 * 4 ** random.random() for _ in range(random.choice((1, 1, 3))))
    slots, gpus = random.choice((1, 2, 4, 8, 16)), random.choice((0.5, 1.0, 2.0))
    hours = random.uniform(2, 60) * sum(speeds) / len(speeds) / 3600
    limits = random.choice(
        ({"gpu_hours": hours * gpus}, {"hours": hours / slots},
         {"gpu_hours": hours * gpus, "hours": 1.2 * hours / slots})
    )  # fmt: skip
    budget = Budget(**limits, confirm_share=random.choice((0.0, 0.2)))
    return Scenario(
        budget, slots, gpus, random.choice((2.0, 30.0)), speeds, random.choice((0.05, 0.2, 0.5))
    )


@dataclass
class Trial:
    """A running trial, with the seconds that its stages will take."""

    model: str
    began_s: float
    stages: list[tuple[str, int, float]]
    ended_s: float = math.inf

    @property
    def ends_s(self) -> float:
        """When all its stages are made."""
        return self.began_s + math.fsum(seconds for _, _, seconds in self.stages)


@dataclass
class Outcome:
    """What a sweep spent, and on what."""

    limits: Spending
    spent: Spending
    num_complete: int = 0
    num_cut: int = 0
    """Trials that were ended with their progress."""
    cut_gpu_seconds: float = 0.0
    """Spent by these."""
    most_gpus: float = 0.0

    def overshoot_s(self) -> float:
        """Seconds over the limit; of GPUs, for each that was in use."""
        over = self.spent.gpu_seconds - self.limits.gpu_seconds
        return max(self.spent.seconds - self.limits.seconds, over / (self.most_gpus or 1))

    @property
    def share(self) -> float:
        """What was spent of the limit that is nearer."""
        return max(
            self.spent.seconds / self.limits.seconds,
            self.spent.gpu_seconds / self.limits.gpu_seconds,
        )


@dataclass
class Sweep:
    """One simulated sweep."""

    scenario: Scenario
    random: Random
    rule: Rule = "budget"
    now_s: float = 0.0
    released: float = 0.0
    running: list[Trial] = field(default_factory=list)
    durations: Durations = field(default_factory=Durations)

    def run(self) -> Outcome:
        """Start and end trials until nothing runs and nothing more fits."""
        scenario = self.scenario
        outcome = Outcome(scenario.limits, Spending(0, 0))
        reports: list[tuple[float, int, Trial]] = []
        models, order = self._models(), count()
        next_trial = self._trial(next(models))
        while True:
            while len(self.running) < scenario.slots and self._fits(next_trial):
                next_trial.began_s = self.now_s
                self.running.append(next_trial)
                outcome.most_gpus = max(outcome.most_gpus, len(self.running) * scenario.gpus)
                heapq.heappush(reports, (self._report_s(next_trial), next(order), next_trial))
                next_trial = self._trial(next(models))
            if not reports:
                outcome.spent = self._spent()
                return outcome
            self.now_s, _, trial = heapq.heappop(reports)
            if self.now_s >= trial.ends_s:
                outcome.num_complete += 1
                for kind, examples, seconds in trial.stages:
                    self.durations.note_stage(trial.model, kind, examples, seconds)
                stages_s = math.fsum(seconds for _, _, seconds in trial.stages)
                self.durations.note_trial(self.now_s - trial.began_s, stages_s)
            elif self.rule == "budget" and is_used_up(scenario.limits, self._spent()):
                outcome.num_cut += 1
                outcome.cut_gpu_seconds += scenario.gpus * (self.now_s - trial.began_s)
            else:
                heapq.heappush(reports, (self._report_s(trial), next(order), trial))
                continue
            self.running.remove(trial)
            self.released += scenario.gpus * (self.now_s - trial.began_s)

    def _models(self) -> Iterator[int]:
        while True:
            yield self.random.randrange(len(self.scenario.speeds))

    def _trial(self, model: int) -> Trial:
        speed, spread = self.scenario.speeds[model], self.scenario.spread
        shares = (0.6, 0.3, 0.1)
        return Trial(
            str(model),
            0.0,
            [
                (kind, examples, speed * share * self.random.lognormvariate(0.0, spread))
                for (kind, examples), share in zip(STAGES, shares, strict=True)
            ],
        )

    def _report_s(self, trial: Trial) -> float:
        """When a trial reports next: at the latest after the interval, at its end if it is near."""
        return min(self.now_s + self.scenario.interval_s, max(trial.ends_s, self.now_s))

    def _spent(self) -> Spending:
        running = math.fsum(self.now_s - trial.began_s for trial in self.running)
        return Spending(self.now_s, self.released + self.scenario.gpus * running)

    def _fits(self, trial: Trial) -> bool:
        limits, spent = self.scenario.limits, self._spent()
        if self.rule != "budget":
            return not is_used_up(limits, spent)
        return has_room(limits, spent, map(self._work, self.running), self._work(trial))

    def _work(self, trial: Trial) -> Work:
        """What the driver knows of a trial."""
        taken_s = self.now_s - trial.began_s if trial in self.running else 0.0
        left: list[tuple[str, int]] = []
        made_s = taken_s
        for kind, examples, seconds in trial.stages:
            share = min(made_s / seconds, 1.0)
            made_s = max(made_s - seconds, 0.0)
            if share < 1:
                left.append((kind, round(examples * (1 - share))))
        return Work(self.scenario.gpus, self.durations.left_s(trial.model, left), taken_s)
