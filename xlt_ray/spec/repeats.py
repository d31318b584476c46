"""Whether repeats of a configuration can tell what a sweep asks.

Repeats that share a training (``seed: shared``) are one sample of it, however many they are. Where
what is searched over decides that training, each candidate stands on the luck of one.
"""

from __future__ import annotations

from xlt_ray.errors import SpecError
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.space import distributions_in, probes
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trial import TrialSpec

BEFORE_TARGET = ("model", "align", "intermediate")
"""Sections that decide what the target training starts from, in the order of a path."""


def shared_trainings(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """A warning for every stage that repeats share and that differs between configurations.

    The sweep has to fit its facts (:func:`xlt_ray.spec.check.check`).
    """
    seeds = sweep.settings.search.seeds
    if seeds == 1:
        return []
    trees = probes(sweep.space, lambda name: facts.models[name].bounds())
    trials = [sweep.trial(tree) for tree, _ in trees]
    found = []
    for name, training in (("align", "alignment"), ("intermediate", "intermediate training")):
        deciding = BEFORE_TARGET[: BEFORE_TARGET.index(name) + 1]
        variants = {tuple(repr(getattr(trial, one)) for one in deciding) for trial in trials}
        if len(variants) < 2 or not any(_is_shared(trial, name) for trial in trials):
            continue
        paths = (path for path, _ in distributions_in(sweep.space.tree))
        searched = dict.fromkeys(path for path in paths if path.partition(".")[0] in deciding)
        found.append(
            sweep.document.error(
                f"the {seeds} seeds of a configuration share one {training}, so a search over "
                f"{' and '.join(searched)} compares one such training each, luck included",
                key=f"{name}.seed",
                remedy=f"{name}.seed: per_trial trains one for each seed (xlt confirm: of the "
                "winner)",
            )
        )
    return found


def _is_shared(trial: TrialSpec, name: str) -> bool:
    """Whether repeats of this trial share the stage: it has it, and so has every stage before."""
    stages = [getattr(trial, one) for one in BEFORE_TARGET[1 : BEFORE_TARGET.index(name) + 1]]
    return stages[-1] is not None and all(one is None or one.seed == "shared" for one in stages)
