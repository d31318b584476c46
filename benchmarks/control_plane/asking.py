"""The sampler alone."""

from __future__ import annotations

import random

from rich.console import Console
from rich.table import Table

from benchmarks.control_plane.clocks import Clocks, median_and_p95
from benchmarks.control_plane.scenario import the_facts, the_sweep
from xlt_ray.config.facts import Facts
from xlt_ray.ledger import Ledger, rehearsal


def run_ask(trials: int, workers: int) -> None:
    """Time of an ask in memory, when so many trials have ended and ``workers`` run."""
    facts = the_facts()
    table = Table("trials", "random, ms", "p95", "tpe, ms", "p95")
    for size in [size for size in (100, 1000, 2000, 5000, 10_000, 20_000) if size <= trials]:
        row = [f"{size:,}"]
        for sampler in ("random", "tpe"):
            sweep = the_sweep([f"search={{trials: {10 * trials}, sampler: {sampler}}}"])
            clocks, ledger = Clocks(), _filled(size, workers, facts)
            clocks.watch(ledger, "ask")
            for _ in range(10):
                ledger.ask(sweep, facts.model_bounds)
            row += median_and_p95([call.cpu for call in clocks.calls["ask"]])
        table.add_row(*row)
    Console(width=90).print(table)


def _filled(size: int, workers: int, facts: Facts) -> Ledger:
    """A ledger in memory with so many complete trials and as many running ones as workers."""
    sweep = the_sweep([f"search={{trials: {size + workers}, sampler: random}}"])
    ledger, draw = rehearsal(sweep), random.Random(0)
    for number in range(size + min(workers, size)):
        ledger.ask(sweep, facts.model_bounds)
        if number < size:
            ledger.tell_complete(number, draw.random())
    return ledger
