"""How often an interval holds the truth, and how often equal systems are found to differ.

Simulated scores, of which the truth is known, go through the functions that make a report:

    python -m benchmarks.statistics [SECTION ...] [--draws 20000]

prints one Markdown table for each section; all of them where none is named. The same command
prints the same tables. Small versions run in the tests (``tests/unit/report``).

- ``intervals``: share of 95 % intervals that hold the truth.
- ``items``: the same where the test set is drawn, too; and how often drawn items tell equal
  networks apart.
- ``sharing``: share of comparisons of equal systems with a star, by what their seeds share.
- ``selection``: the same of a single system and the best of many that are equal to it.
- ``curves``: share of sweeps over sizes whose power law is drawn, by the true curve.
- ``importance``: share of sweeps in which a parameter is above chance, with and without effect.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from unittest import mock

import numpy as np
import optuna
from scipy import stats

from tests.equal_systems import Scope, best_of, equal_pair, gains, is_won_by_seeds, wins
from tests.sample_items import TRUE_ACCURACY, TRUE_F1, counted, right_or_wrong
from xlt_ray.report import effects
from xlt_ray.report.comparison import compare
from xlt_ray.report.effects import Importance
from xlt_ray.report.item_uncertainty import bootstrapped, two_level
from xlt_ray.report.stats import (
    ALPHA,
    LEVEL,
    Interval,
    PowerLaw,
    difference_interval,
    fit_power_law,
    paired,
    summary,
)

SEEDS = range(3, 11)
DRAWS = 20_000


def holds(interval: Interval | None, truth: float) -> bool:
    assert interval is not None, "the samples have spread"
    return interval.low <= truth <= interval.high


def share(found: Iterable[bool]) -> str:
    """A share with twice its simulation error.

    >>> share([True, False] * 5000)
    '.500 ± .010'
    """
    values = np.fromiter(found, dtype=float)
    error = 2 * math.sqrt(values.mean() * (1 - values.mean()) / len(values))
    return f"{values.mean():.3f} ± {error:.3f}".replace("0.", ".")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# -- items ---------------------------------------------------------------------------------

ITEM_CASES = (
    ("accuracy", 1, 1, 100, 0.0),
    ("accuracy", 3, 1, 100, 0.0),
    ("accuracy", 3, 1, 100, 0.05),
    ("accuracy", 3, 1, 1000, 0.05),
    ("accuracy", 10, 1, 100, 0.0),
    ("accuracy", 10, 1, 1000, 0.02),
    ("accuracy", 6, 4, 300, 0.02),
    ("F1 of entities", 3, 1, 100, 0.02),
    ("F1 of entities", 6, 1, 1000, 0.02),
    ("F1 of entities", 6, 4, 300, 0.02),
)
"""Metric, seeds, languages (translations of the same items), items, and sd of a seed's score."""


def items(draws: int) -> str:
    """Intervals of a score over seeds and over both, and the bootstrap of two equal systems."""
    rows = []
    for number, (metric, num_seeds, num_languages, size, spread) in enumerate(ITEM_CASES):
        random = np.random.default_rng(number)
        make, truth = {
            "accuracy": (right_or_wrong, TRUE_ACCURACY),
            "F1 of entities": (counted, TRUE_F1),
        }[metric]
        languages = [str(number) for number in range(num_languages)]
        found: dict[str, list[bool]] = {"seeds": [], "both": [], "false": []}
        for turn in range(draws // 10):
            difficulty = random.uniform(-0.28, 0.28, size)
            systems = [
                {code: make(random, difficulty, skill) for code in languages}
                for skill in random.normal(0, spread, (2, num_seeds))
            ]
            means = np.mean([system.scores for system in systems[0].values()], axis=0)
            by_seeds = summary(means.tolist()).interval
            found["seeds"].append(by_seeds is not None and holds(by_seeds, truth))
            found["both"].append(holds(two_level(languages, systems[0]), truth))
            if turn < draws // 50 and spread == 0:
                (drawn,) = bootstrapped([languages], *systems, num_draws=500)
                found["false"].append(drawn is not None and drawn.p <= ALPHA)
        row = [metric, str(num_seeds), str(num_languages), f"{size:,}", f"{100 * spread:g}"]
        row.append(share(found["seeds"]) if num_seeds > 1 else "–")
        row.append(share(found["both"]))
        rows.append([*row, share(found["false"]) if found["false"] else "–"])
    head = ["metric", "seeds", "languages", "items", "sd of a seed (points)"]
    held = ["Student's over seeds holds", "over seeds and items holds"]
    return table([*head, *held, "bootstrap of equal networks: p at most .05"], rows)


# -- intervals ----------------------------------------------------------------------------

SHAPES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float]] = {
    "normal": (lambda random, size: random.normal(0, 1, size), 0.0),
    "heavy tails (t, 3 degrees)": (lambda random, size: random.standard_t(3, size), 0.0),
    "skewed (lognormal)": (lambda random, size: random.lognormal(0, 1, size), math.exp(0.5)),
}
"""Differences of a seed, and their true mean."""


def intervals(draws: int) -> str:
    """Of the mean of paired differences, and Welch's of the difference of two groups' means."""
    rows = []
    for num_seeds in SEEDS:
        random = np.random.default_rng(num_seeds)
        row = [str(num_seeds)]
        for draw, truth in SHAPES.values():
            samples = draw(random, (draws, num_seeds))
            row.append(share(holds(paired(sample).interval, truth) for sample in samples))
        normal = random.normal(0, 1, (draws // 10, num_seeds))
        row.append(share(_bca_holds(sample) for sample in normal))
        pairs = random.normal(0, 1, (draws // 4, num_seeds)), random.normal(0, 2, (draws // 4, 12))
        row.append(
            share(
                holds(difference_interval(first, second), 0.0)
                for first, second in zip(*pairs, strict=True)
            )
        )
        rows.append(row)
    head = [
        "seeds",
        *SHAPES,
        "normal, BCa bootstrap (not used)",
        "Welch, against 12 of twice the sd",
    ]
    return table(head, rows)


def _bca_holds(sample: np.ndarray) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (sample,),
            np.mean,
            n_resamples=2_000,
            confidence_level=LEVEL,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return bool(found.low <= 0.0 <= found.high)


# -- false wins ---------------------------------------------------------------------------

SCOPES: tuple[tuple[Scope, tuple[float, ...]], ...] = (
    ("per_trial", (1.0, 2.0)),
    ("common", (1.0,)),
    ("shared", (0.5, 1.0, 2.0)),
    ("mixed", (1.0, 2.0)),
)


def sharing(draws: int) -> str:
    """Two systems that differ in nothing, each with stages of its own before the target."""
    rows = []
    for scope, ratios in SCOPES:
        for ratio in ratios:
            for num_seeds in (3, 6, 10):
                random = np.random.default_rng(num_seeds)
                found = [
                    compare(equal_pair(random, num_seeds, scope, ratio))[0]
                    for _ in range(draws // 10)
                ]
                of_languages, of_mean = zip(*map(wins, found), strict=True)
                won = share(map(is_won_by_seeds, found)), share(of_mean), share(of_languages)
                rows.append([scope, f"{ratio:g}", str(num_seeds), *won])
    head = ["stage", "its sd / a seed's", "seeds", "every seed counted, mean"]
    return table([*head, "xlt compare, mean", "xlt compare, any of 4 languages"], rows)


def selection(draws: int) -> str:
    """A single system against the best of many that are equal to it."""
    rows = []
    for candidates in (20, 50):
        for correlation in (0.6, 0.9):
            for num_seeds in (6, 10):
                random = np.random.default_rng([candidates, int(10 * correlation), num_seeds])
                sides = [
                    best_of(random, candidates, num_seeds, correlation) for _ in range(draws // 4)
                ]
                fresh = [compare(side)[0] for side in sides]
                same = [
                    compare([replace(system, fresh=None) for system in each])[0] for each in sides
                ]
                cells = [share(map(is_won_by_seeds, same))]
                cells += [
                    share(wins(comparison)[1] for comparison in part) for part in (same, fresh)
                ]
                # A seed's standard deviation is a hundredth.
                cells += [
                    f"{100 * fmean(fmean(gains(comparison)) for comparison in part):+.2f}"
                    for part in (same, fresh)
                ]
                rows.append([str(candidates), f"{correlation:g}", str(num_seeds), *cells])
    head = ["candidates", "correlation of dev and test", "seeds", "same seeds, tested all the same"]
    head += ["xlt compare, same seeds", "xlt compare, fresh seeds"]
    return table([*head, "gain on the same seeds, sd of a seed", "on fresh seeds"], rows)


# -- curves -------------------------------------------------------------------------------

FIVE = [1000 * 4**turn for turn in range(5)]
SEVEN = [1000 * 2**turn for turn in range(7)]


def law(sizes: Sequence[int]) -> list[float]:
    return [0.8 - 0.3 * (size / 1000) ** -0.4 for size in sizes]


CURVES: dict[str, tuple[list[int], list[float]]] = {
    "0.8 - 0.3 n^-0.4, 4 sizes": (FIVE[:4], law(FIVE[:4])),
    "0.8 - 0.3 n^-0.4, 5 sizes": (FIVE, law(FIVE)),
    "0.8 - 0.3 n^-0.4, 7 sizes": (SEVEN, law(SEVEN)),
    ".50 .55 .60 .65 .50": (FIVE, [0.50, 0.55, 0.60, 0.65, 0.50]),
    "an arch: .50 .58 .66 .70 .66 .58 .52": (SEVEN, [0.50, 0.58, 0.66, 0.70, 0.66, 0.58, 0.52]),
    "falling: .65 .60 .55 .52 .50": (FIVE, [0.65, 0.60, 0.55, 0.52, 0.50]),
    "flat, 4 sizes": (FIVE[:4], [0.5] * 4),
    "flat, 5 sizes": (FIVE, [0.5] * 5),
    "flat, 7 sizes": (SEVEN, [0.5] * 7),
    "a step: .50 .50 .70 .70 .70": (FIVE, [0.50, 0.50, 0.70, 0.70, 0.70]),
}
"""Sizes, and mean scores; n of a law is in thousands, and its ceiling 0.8."""
REPEATS = (1, 2, 3, 6)


def curves(draws: int) -> str:
    """Laws that are drawn, and of a true law the ceilings that lie in their interval; of each cell
    a twentieth of the draws."""
    rows = []
    for deviation in (0.005, 0.02):
        for name, shape in CURVES.items():
            row = [f"{deviation:g}".replace("0.", "."), name]
            for repeats in REPEATS:
                fits = _fits(shape, repeats, deviation, draws // 20)
                drawn = [fit for fit in fits if isinstance(fit, PowerLaw)]
                cell = share(isinstance(fit, PowerLaw) for fit in fits)
                if "n^" in name and drawn:
                    held = share(abs(fit.ceiling - 0.8) <= fit.ceiling_error for fit in drawn)
                    cell += f"; ceiling {held}"
                row.append(cell)
            rows.append(row)
    return table(["sd", "true curve", *(f"repeats: {repeats}" for repeats in REPEATS)], rows)


def _fits(
    shape: tuple[list[int], list[float]], repeats: int, deviation: float, draws: int
) -> list[PowerLaw | str]:
    sizes, means = (np.repeat(part, repeats) for part in shape)
    random = np.random.default_rng(repeats)
    return [
        fit_power_law(sizes.tolist(), (means + random.normal(0, deviation, len(sizes))).tolist())
        for _ in range(draws)
    ]


# -- importance ---------------------------------------------------------------------------

Assignment = dict[str, str | float]
NUM_DESIGNS = 10
CONFIGURATIONS = (8, 16, 24, 48, 100)
EFFECTS = (0.15, 0.4, 0.75)


def importance(draws: int) -> str:
    """Of random searches over four parameters, and of TPE, which asks where noise was good: a
    twentieth of the draws, over ten searches, and of TPE a two-hundredth, each its own search."""
    rows = []
    for number in CONFIGURATIONS:
        random = np.random.default_rng(number)
        designs = [[_assignment(random) for _ in range(number)] for _ in range(NUM_DESIGNS)]
        turns = range(draws // 20 // NUM_DESIGNS)
        noise = [_found(design, random.normal(size=number)) for design in designs for _ in turns]
        effects = []
        for part in EFFECTS:
            # Beside noise of variance 1; that of 12 layers is 143 / 12.
            slope = math.sqrt(part / (1 - part) * 12 / 143)
            found = [
                _found(design, [slope * float(point["layer"]) for point in design]
                       + random.normal(size=number))
                for design in designs
                for _ in turns
            ]  # fmt: skip
            effects.append(share(effect["layer"].is_above_chance for effect in found))
        rows.append([str(number), *_of_noise(noise), *effects])
    by_tpe = [_asked_by_tpe(48, seed) for seed in range(max(draws // 200, 2))]
    rows.append(["48, asked by TPE", *_of_noise(by_tpe), "", "", ""])
    head = ["configurations", "noise: top share (5 %, 50 %, 95 %)", "noise: any above chance",
            *(f"a parameter of {part:.0%} of the variance" for part in EFFECTS)]  # fmt: skip
    return table(head, rows)


def _assignment(random: np.random.Generator) -> Assignment:
    return {
        "layer": int(random.integers(12)),
        "model": str(random.choice(["base", "large"])),
        "rate": float(10 ** random.uniform(-5, -3)),
        "ratio": float(random.random()),
    }


def _found(design: Sequence[Assignment], scores: Sequence[float]) -> dict[str, Importance]:
    with mock.patch.object(effects, "NUM_BOOTSTRAPS", 1):
        points = list(zip(design, map(float, scores), strict=True))
        return effects.importances(points, maximize=True)


def _asked_by_tpe(number: int, seed: int) -> dict[str, Importance]:
    random, design, scores = np.random.default_rng(seed), [], []
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True)
    )
    for _ in range(number):
        trial = study.ask()
        design.append(
            {
                "layer": trial.suggest_int("layer", 0, 11),
                "model": trial.suggest_categorical("model", ["base", "large"]),
                "rate": trial.suggest_float("rate", 1e-5, 1e-3, log=True),
                "ratio": trial.suggest_float("ratio", 0, 1),
            }
        )
        scores.append(random.normal())
        study.tell(trial, scores[-1])
    return _found(design, scores)


def _of_noise(found: Sequence[dict[str, Importance]]) -> list[str]:
    tops = [max(parameter.share for parameter in parameters.values()) for parameters in found]
    quantiles = ", ".join(f"{quantile:.2f}" for quantile in np.quantile(tops, [0.05, 0.5, 0.95]))
    return [
        quantiles,
        share(
            any(parameter.is_above_chance for parameter in parameters.values())
            for parameters in found
        ),
    ]


SECTIONS: dict[str, Callable[[int], str]] = {
    "intervals": intervals,
    "items": items,
    "sharing": sharing,
    "selection": selection,
    "curves": curves,
    "importance": importance,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--draws", type=int, default=DRAWS, help="simulated samples of each cell")
    asked = parser.parse_args()
    unknown = [name for name in asked.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; there is: {', '.join(SECTIONS)}")
    for name in asked.sections or SECTIONS:
        print(f"## {name}\n\n{SECTIONS[name](asked.draws)}\n", flush=True)


if __name__ == "__main__":
    main()
