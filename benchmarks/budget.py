"""What sweeps with a budget spend over it, leave of it, and spend on trials that do not end.

    python -m benchmarks.budget [--sweeps 1000]

Simulated sweeps go through the functions by which the driver starts and ends trials. The same
command prints the same table.
"""

from __future__ import annotations

import argparse
from random import Random
from statistics import fmean, median, quantiles
from typing import get_args

from benchmarks.common import print_table
from tests.simulated_budget import Rule, Sweep, drawn

HEAD = ("rule", "overshoot, intervals, most", "spent, % of the limit, median and most",
        "spent on trials that did not end, %, mean and 9 of 10", "complete trials")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweeps", type=int, default=1000)
    num_sweeps, rows = parser.parse_args().sweeps, []
    for rule in get_args(Rule):
        scenarios = [drawn(Random(seed)) for seed in range(num_sweeps)]
        outcomes = [
            Sweep(scenario, Random(seed), rule).run() for seed, scenario in enumerate(scenarios)
        ]
        intervals = [
            outcome.overshoot_s() / scenario.interval_s
            for outcome, scenario in zip(outcomes, scenarios, strict=True)
        ]
        spent = [100 * outcome.share for outcome in outcomes]
        cut = [100 * outcome.cut_gpu_seconds / outcome.spent.gpu_seconds for outcome in outcomes]
        rows.append(
            (
                rule,
                f"{max(intervals):.2f}",
                f"{median(spent):.1f}, {max(spent):.1f}",
                f"{fmean(cut):.1f}, {quantiles(cut, n=10)[-1]:.1f}",
                f"{sum(outcome.num_complete for outcome in outcomes):,}",
            )
        )
    print_table(HEAD, rows)


if __name__ == "__main__":
    main()
