"""Simulated sweeps end inside their budget."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.simulated_budget import Sweep, drawn


def test_sweeps_overshoot_their_budget_by_one_report_at_most() -> None:
    num_cut = num_complete = 0
    for seed in range(200):
        scenario = replace(drawn(Random(seed)), interval_s=60.0)
        outcome = Sweep(scenario, Random(seed)).run()
        assert outcome.overshoot_s() <= scenario.interval_s
        num_cut += outcome.num_cut
        num_complete += outcome.num_complete
    assert num_cut > 0, "some needs turn out larger than estimated"
    assert num_cut < 0.2 * num_complete


def test_a_sweep_whose_trials_are_alike_wastes_nothing() -> None:
    for seed in range(50):
        scenario = drawn(Random(seed))
        scenario = replace(scenario, interval_s=60.0, spread=0.0, speeds=scenario.speeds[:1])
        outcome = Sweep(scenario, Random(seed)).run()
        if outcome.num_complete > scenario.slots:
            assert outcome.num_cut == 0
            assert outcome.share > 1 - scenario.slots / outcome.num_complete
