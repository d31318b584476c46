"""How good the configuration is that a search selects, on generated landscapes; nothing is trained.

    python -m benchmarks.search [--repeats 200] [SEARCH ...]

Regret is the quality of the best configuration minus that of the selected one, both without the
luck of seeds; optimism is the mean score of the selected one minus its quality. Both are in points.

- ``SCHEDULES``: seeds alone, in 20 times as many repeats. Qualities of 72 configurations are
  normal, of which a schedule tries the first ones; regret is against the best of the 72.
- ``SEARCHES``: whole searches. They ask the real ledger for trials, with its sampler, its race and
  its paths of stages, and tell it the scores of a :class:`Landscape`, which each repeat has of its
  own. Examples count each stage once.
"""

from __future__ import annotations

import argparse
import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from xlt_ray.config.facts import Facts
from xlt_ray.config.seed_race import Seeds, level_of, seed_levels, seed_rungs
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.ledger import Ledger, rehearsal
from xlt_ray.ledger.racing import next_trials
from xlt_ray.ledger.views import winner
from xlt_ray.report.stats import student_quantile
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import Planner

MODELS, SIZES = ("toy:2x64", "toy:4x64", "toy:6x64"), (250, 500, 1000, 2000, 4000)
SPACE = f"""
name: landscape
data: {{source: toy}}
model: {{choice: [{", ".join(MODELS)}]}}
intermediate:
  task: toy-nli
  size: {{choice: [{", ".join(map(str, SIZES))}]}}
  epochs: 4
  batch_size: 10
target:
  task: toy-paraphrase
  source_language: qaa
  size: 1400
  epochs: 2
  batch_size: 10
  learning_rate: {{float: [1.0e-5, 1.0e-3], log: true}}
  hybrid: {{ratio: {{float: [0.0, 1.0]}}}}
  fusion:
    choice:
      - {{method: none}}
      - {{method: dlfa, layer: {{int: [0, num_layers - 1]}}}}
search: {{trials: 1}}
"""
OWN_RATE = "intermediate.learning_rate={float: [1.0e-5, 1.0e-3], log: true}"
SPACES: Mapping[str, tuple[str, ...]] = {
    "15 intermediate stages": (),
    "an intermediate stage for every configuration": (OWN_RATE,),
}
"""Model and size alone decide the stage before the target, or its learning rate does, too."""
SEARCHES = {
    "tpe, 3 seeds": "{trials: 24, seeds: 3}",
    "tpe, race": "{trials: 31, seeds: {race: {}}}",
    "tpe, 1 seed": "{trials: 72, seeds: 1}",
    "random, 3 seeds": "{trials: 24, seeds: 3, sampler: random}",
    "random, race": "{trials: 31, seeds: {race: {}}, sampler: random}",
    "tpe, cost-aware, race": "{trials: 31, seeds: {race: {}}, cost_aware: true}",
}
"""The others are compared with the first one."""
SLOTS = 4


SCHEDULES: Mapping[str, tuple[int, Seeds]] = {
    "3 seeds": (24, 3),
    "1 seed": (72, 1),
    "8 seeds": (9, 8),
    "race to 4 seeds": (53, {"race": {"most": 4}}),
    "race to 8 seeds": (31, {"race": {}}),
    "race to 16 seeds": (12, {"race": {"most": 16}}),
}
"""Configurations and ``search.seeds``, of about 72 trials."""
DEVIATIONS = (0.5, 1.0, 2.0)
"""Standard deviations between seeds; 1 between configurations."""


class Landscape:
    """A made-up truth, which differs from repeat to repeat.

    Standard deviations: 1 point between models, 1 between the layers of a model, 1 between seeds.
    Twice the intermediate data adds 0.5 points (standard deviation 0.4, by model). The best
    learning rate of the target is anywhere in the inner 70 % of its range, for each model of its
    own, that of the intermediate stage is the same for all; a factor of ten off loses 3.7 points
    and at most 8. The best ratio is anywhere; 0.5 off loses 2.
    """

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self._seed = seed
        self._models = {model: random.gauss(0.6, 0.01) for model in MODELS}
        self._doubling = {model: random.gauss(0.005, 0.004) for model in MODELS}
        self._layers = {
            model: [0.0, *(random.gauss(0, 0.01) for _ in range(int(model[4])))] for model in MODELS
        }
        self._rates = {model: random.uniform(-4.7, -3.3) for model in MODELS}
        self._intermediate_rate = random.uniform(-4.7, -3.3)
        self._ratio = random.random()

    @property
    def best(self) -> float:
        """The highest quality of the space."""
        most_doublings = math.log2(SIZES[-1] / SIZES[0])
        return max(
            self._models[model]
            + max(0.0, self._doubling[model] * most_doublings)
            + max(self._layers[model])
            for model in MODELS
        )

    def quality(self, assignment: Mapping[str, Any]) -> float:
        model = assignment["model"]
        off = math.log10(assignment["target.learning_rate"]) - self._rates[model]
        off_before = 0.0
        if "intermediate.learning_rate" in assignment:
            rate = assignment["intermediate.learning_rate"]
            off_before = math.log10(rate) - self._intermediate_rate
        return (
            self._models[model]
            + self._doubling[model] * math.log2(assignment["intermediate.size"] / SIZES[0])
            + self._layers[model][assignment.get("target.fusion.layer", -1) + 1]
            - 0.08 * math.tanh(off**2 / 2)
            - 0.08 * math.tanh(off_before**2 / 2)
            - 0.08 * (assignment["target.hybrid.ratio"] - self._ratio) ** 2
        )

    def score(self, assignment: Mapping[str, Any], repeat: int) -> float:
        """What a training with this seed would score."""
        luck = Random(f"{self._seed} {sorted(assignment.items())} {repeat}")
        return self.quality(assignment) + luck.gauss(0.0, 0.01)


@dataclass(frozen=True)
class Moment:
    """A search when a trial has ended; regret and optimism are in points."""

    examples: int
    regret: float
    optimism: float


def simulate(
    sweep: SweepSpec, facts: Facts, landscape: Landscape, ledger: Ledger | None = None
) -> list[Moment]:
    """A search in which ``SLOTS`` trials run at a time, each as long as the examples it trains.

    Args:
        ledger: with what the search knows before it begins; in memory.
    """
    ledger, planner = ledger or rehearsal(sweep), Planner(sweep, facts)
    ledger.examples_of = planner.examples
    made: set[str] = set()
    running: list[tuple[int, int]] = []
    moments: list[Moment] = []
    now, examples = 0, 0
    while True:
        while len(running) < SLOTS:
            asked_trial = ledger.ask(sweep, facts.model_bounds)
            if asked_trial is None:
                break
            stages = planner.examples(asked_trial.assignment, asked_trial.seed)
            length = sum(number for key, number in stages.items() if key not in made)
            made |= stages.keys()
            examples += length
            heapq.heappush(running, (now + length, asked_trial.number))
        if not running:
            return moments
        now, number = heapq.heappop(running)
        view = ledger.trial(number)
        ledger.tell_complete(number, landscape.score(view.assignment, view.repeat))
        best = winner(ledger.trials(), sweep.settings.search.seeds, "max")
        assert best is not None
        quality = landscape.quality(best.trial.assignment)
        regret, optimism = landscape.best - quality, best.objective - quality
        moments.append(Moment(examples, 100 * regret, 100 * optimism))


def race(
    qualities: Sequence[float], seeds: Seeds, deviation: float, random: Random
) -> tuple[int, float, int]:
    """The configuration that is selected, its mean score and the number of trials."""
    rungs, levels = seed_rungs(seeds, len(qualities)), seed_levels(seeds)
    results: dict[int, dict[int, float | None]] = {
        number: {repeat: random.gauss(quality, deviation) for repeat in range(levels[0])}
        for number, quality in enumerate(qualities)
    }
    while missing := next_trials(results, rungs, maximize=True):
        for number, repeat in missing:
            results[number][repeat] = random.gauss(qualities[number], deviation)
    means = {
        number: statistics.fmean(filter(None, repeats.values()))
        for number, repeats in results.items()
    }
    best = max(means, key=lambda number: (level_of(len(results[number]), levels), means[number]))
    return best, means[best], sum(map(len, results.values()))


def compare_schedules(repeats: int) -> None:
    print("| sd of seeds | schedule | trials | regret | optimism |\n|---|---|---|---|---|")
    for deviation in DEVIATIONS:
        for name, (num_configurations, seeds) in SCHEDULES.items():
            regrets, optimisms = [], []
            for seed in range(repeats):
                random = Random(seed)
                qualities = [random.gauss(0, 1) for _ in range(72)]
                tried = qualities[:num_configurations]
                best, mean, num_trials = race(tried, seeds, deviation, random)
                regrets.append(max(qualities) - qualities[best])
                optimisms.append(mean - qualities[best])
            print(
                f"| {deviation} | {name} | {num_trials} | {mean_and_interval(regrets)} | "
                f"{mean_and_interval(optimisms)} |",
                flush=True,
            )


def regret_after(moments: Sequence[Moment], examples: float) -> float:
    """The regret of a search after it has trained a number of examples."""
    before = [moment for moment in moments if moment.examples <= examples]
    return (before or moments)[-1 if before else 0].regret


def mean_and_interval(values: Sequence[float]) -> str:
    """With Student's 95 % interval."""
    half = student_quantile(len(values)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("searches", nargs="*", help=f"of {', '.join(SEARCHES)}; all by default")
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    names = [name for name in SEARCHES if name in (arguments.searches or SEARCHES)]
    compare_schedules(20 * arguments.repeats)
    for title, overrides in SPACES.items():
        print(f"\n{title}\n")
        print("| search | trials | examples, thousands | regret at half of them | regret | "
              f"minus {names[0]} | optimism |\n|---|---|---|---|---|---|---|")  # fmt: skip
        first: list[float] = []
        half = 0.0
        for name in names:
            sweep = sweep_of(
                parse_document(SPACE, "space", [*overrides, f"search={SEARCHES[name]}"])
            )
            facts = facts_of(sweep)
            runs = []
            for seed in range(arguments.repeats):
                search = sweep.settings.search.model_copy(update={"seed": seed})
                settings = sweep.settings.model_copy(update={"search": search})
                runs.append(simulate(SweepSpec(settings, sweep.space), facts, Landscape(seed)))
            ends = [run[-1] for run in runs]
            regrets = [end.regret for end in ends]
            examples = statistics.fmean(end.examples for end in ends)
            half = half or examples / 2
            first = first or regrets
            columns = (
                name,
                str(len(runs[0])),
                f"{examples / 1000:.0f}",
                mean_and_interval([regret_after(run, half) for run in runs]),
                mean_and_interval(regrets),
                mean_and_interval([a - b for a, b in zip(regrets, first, strict=True)])
                if regrets is not first
                else "",
                mean_and_interval([end.optimism for end in ends]),
            )
            print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
