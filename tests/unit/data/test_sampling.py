from __future__ import annotations

import subprocess
import sys

from xlt_ray.data.sampling import Rng, digest_of, generator


def test_the_same_names_give_the_same_numbers_in_another_process():
    code = (
        "from xlt_ray.data.sampling import Rng, generator;"
        "print([Rng('a', 1).below(1000) for _ in range(1)], generator('a', 1).integers(1000))"
    )
    here = f"{[Rng('a', 1).below(1000)]} {generator('a', 1).integers(1000)}"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_names_are_told_apart_by_type_and_border():
    digests = [
        digest_of(*parts) for parts in [("ab", "c"), ("a", "bc"), (1,), ("1",), (1.0,), (b"1",)]
    ]
    assert len(set(digests)) == len(digests)


def test_rng_draws_all_values_and_only_those():
    rng = Rng("values")
    assert {rng.below(5) for _ in range(500)} == set(range(5))
    assert sorted(rng.shuffled(range(20))) == list(range(20))
    assert {rng.pick("abc") for _ in range(100)} == set("abc")
