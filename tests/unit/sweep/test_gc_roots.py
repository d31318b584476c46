"""What the ledgers of a home claim of its store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, State, TrialView, open_ledger
from xlt_ray.store.gc import GcRoots
from xlt_ray.store.stage import Stage
from xlt_ray.sweep.quota import SweepUse, gc_roots, is_running, still_needed, use_of

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
intermediate: {task: pairs, size: {choice: [100, 200]}}
target: {task: nli, source_language: qaa, learning_rate: {float: [1e-4, 1e-3]}}
search: {trials: 4, seeds: 2, sampler: random}
"""
ReadSweep = Callable[..., SweepSpec]


def view(
    number: int,
    state: State,
    *keys: str,
    configuration: int | None = None,
    repeat: int = 0,
    parameters: tuple[str, ...] = (),
    path: tuple[str, ...] = (),
) -> TrialView:
    """A trial that has noted stages: ``i1`` is an intermediate one, ``t1`` a target, ..."""
    kinds = {
        "a": "align",
        "k": "trunk",
        "i": "intermediate",
        "t": "target",
        "f": "few_shot",
        "e": "evaluate",
    }
    return TrialView(
        number=number, state=state, assignment=dict.fromkeys(parameters, 0.1),
        configuration=number if configuration is None else configuration, repeat=repeat,
        seed=repeat, objective=None, curve=(), attempts=1, cause=None, message="", log="",
        stages=tuple(StageUse(kinds[key[0]], key, key, False) for key in keys),
        mlflow_run_id=None, retry_of=None, started=None, ended=None, path=path or keys,
    )  # fmt: skip


def roots_of(*trials: TrialView, num: int = 0, own: str = "", **more: object) -> GcRoots:
    """Of one sweep with these trials; finished when they are all there are."""
    use = SweepUse("s", trials, num or len(trials), **more)  # type: ignore[arg-type]
    return gc_roots([use], own=own)


def test_a_finished_sweep_claims_its_best_target_and_what_it_shares() -> None:
    found = roots_of(
        view(0, "complete", "i1", "t1", "e1"), view(1, "complete", "i1", "t2", "e2"),
        view(2, "pruned", "i2"), best=1,
    )  # fmt: skip
    assert found.best == {"t2"}
    assert found.shared == {"i1"}
    assert found.used == {"i1", "i2", "t1", "t2", "e1", "e2"}
    assert not found.needed
    assert not found.returning
    assert not found.unknown


def test_seeds_of_one_configuration_do_not_share_for_ever() -> None:
    repeats = (
        view(0, "complete", "i1", "t1", configuration=0),
        view(1, "complete", "i1", "t2", configuration=0, repeat=1),
    )
    assert not roots_of(*repeats, num=1, seeds=2).shared


def test_two_sweeps_share() -> None:
    uses = [SweepUse(name, (view(0, "complete", "i1"),), 1) for name in ("a", "b")]
    assert gc_roots(uses).shared == {"i1"}


@pytest.mark.parametrize("own", ["", "s"])
@pytest.mark.parametrize("state", ["waiting", "running"])
def test_an_unfinished_trial_needs_its_whole_path_noted_or_not(state: State, own: str) -> None:
    found = roots_of(
        view(0, state, "i1", path=("i1", "t1", "e1")), view(1, "complete", "i2", "t2"), own=own
    )
    assert found.needed == {"i1", "t1", "e1"}
    assert not found.unknown


def test_what_another_sweep_made_is_needed_by_the_path_that_reuses_it() -> None:
    maker = SweepUse("maker", (view(0, "complete", "i1", "t1"),), 1)
    user = SweepUse("user", (view(0, "waiting", path=("i1", "t2", "e2")),), 1)
    assert gc_roots([maker, user]).needed == {"i1", "t2", "e2"}


def test_the_path_of_a_failed_trial_is_used_and_not_needed() -> None:
    found = roots_of(view(0, "failed", "i1", path=("i1", "t1", "e1")))
    assert found.used == {"i1", "t1", "e1"}
    assert not found.needed


def test_a_sweep_whose_ledger_holds_no_paths_needs_all_that_it_noted() -> None:
    """It was written by an earlier version."""
    found = roots_of(view(0, "failed", "i1", "t1"), replace(view(1, "running"), path=()))
    assert found.needed == {"i1", "t1"}
    assert found.unknown == ("s",)


@pytest.mark.parametrize(
    ("parameters", "returning"),
    [
        ((), {"a1", "i1", "k1"}),
        (("target.learning_rate",), {"a1", "i1", "k1"}),
        (("intermediate.learning_rate",), {"a1"}),
        (("align.mask",), set()),
    ],
)
def test_a_sweep_may_come_back_to_what_no_real_range_decides(
    parameters: tuple[str, ...], returning: set[str]
) -> None:
    trial = view(0, "complete", "a1", "k1", "i1", "t1", "e1", parameters=parameters)
    assert (
        roots_of(trial, num=2, continuous_parameters=frozenset(parameters)).returning == returning
    )
    assert not roots_of(trial, num=1, continuous_parameters=frozenset(parameters)).returning


def test_trials_that_differ_in_their_shots_come_back_to_their_target_stage() -> None:
    trials = [
        view(
            number, "complete", "t1", f"f{number}", f"e{number}", parameters=("few_shot.language",)
        )
        for number in range(2)
    ]
    assert roots_of(*trials, num=3).returning == {"t1"}
    found = roots_of(*trials, num=2, best=1)
    assert not found.returning
    assert found.best == {"t1", "f1"}


def test_a_repeat_that_was_not_asked_yet_comes_back_whatever_decides() -> None:
    real = frozenset({"intermediate.learning_rate"})
    trial = view(0, "complete", "i1", "t1", parameters=tuple(real))
    assert roots_of(trial, num=1, seeds=2, continuous_parameters=real).returning == {"i1"}


def test_what_another_driver_may_come_back_to_is_needed_now() -> None:
    trial = view(0, "complete", "i1", "t1")
    assert roots_of(trial, num=2, is_running=True).needed == {"i1"}
    mine = roots_of(trial, num=2, is_running=True, own="s")
    assert (mine.needed, mine.returning) == (set(), {"i1"})


def test_a_path_needs_its_deepest_stage_and_what_follows() -> None:
    model = Stage("model", {}, {}, 0, None, "model")
    align = Stage("align", {}, {}, 0, model, "align")
    target = Stage("target", {}, {}, 0, align, "target")
    scores = Stage("evaluate", {}, {}, 0, target, "evaluate")
    path = (model, align, target, scores)
    keys = [align.key, target.key, scores.key]
    assert still_needed(path, ()) == tuple(keys)
    assert still_needed(path, {align.key}) == tuple(keys)
    assert still_needed(path, {align.key, target.key}) == tuple(keys[1:])
    assert still_needed(path, set(keys)) == (scores.key,)
    trunk = Stage("trunk", {}, {}, 0, align, "trunk")
    decay = Stage("intermediate", {}, {}, 0, trunk, "decay")
    ladder = (model, align, trunk, decay)
    assert still_needed(ladder, {trunk.key}) == (align.key, trunk.key, decay.key)
    assert still_needed(ladder, {trunk.key, decay.key}) == (decay.key,)
    bare = Stage("trunk", {}, {}, 0, model, "trunk")
    last = Stage("intermediate", {}, {}, 0, bare, "decay")
    assert still_needed((model, bare, last), {bare.key}) == (bare.key, last.key)
    asks = {"retrieval_encoder": "before"}
    before = Stage("evaluate", asks, {}, 0, target, "evaluate")
    asking = (model, align, target, before)
    assert still_needed(asking, {align.key, target.key}) == (align.key, target.key, before.key)
    assert still_needed(asking, {one.key for one in asking[1:]}) == (before.key,)


@pytest.mark.parametrize(("shared", "names"), [(True, {"s"}), (False, None)])
def test_a_store_of_several_homes_is_told(shared: bool, names: set[str] | None) -> None:
    assert gc_roots([SweepUse("s", (), 1)], is_store_shared=shared).home_sweeps == names


def test_the_use_of_a_sweep_is_read_from_its_ledger(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    assert use_of(ledger, is_running=False).is_unfinished
    for number in range(8):
        assert ledger.ask(sweep, lambda _: {}) is not None
        ledger.set_stages(number, [StageUse("target", f"t{number}", "target", False)])
        assert use_of(ledger, is_running=False).is_unfinished
        ledger.tell_complete(number, number / 10)
    use = use_of(ledger, is_running=is_running(home, "t"))
    assert not use.is_unfinished
    assert not use.is_running
    assert (use.num_configurations, use.seeds, use.best) == (4, 2, 7)
    assert use.continuous_parameters == {"target.learning_rate"}
    assert gc_roots([use]).best == {"t7"}


@pytest.mark.parametrize(
    ("layer", "num"), [("{choice: [0, 1]}", 4), ("{int: [0, num_layers - 1]}", 9)]
)
def test_a_grid_ends_where_its_points_end(
    home: Home, sweep_from: ReadSweep, layer: str, num: int
) -> None:
    sweep = sweep_from(
        TEXT, "search={trials: 9, sampler: grid}", "target.learning_rate=1e-4",
        f"target.fusion={{method: dlfa, layer: {layer}}}",
    )  # fmt: skip
    assert use_of(open_ledger(home, sweep), is_running=False).num_configurations == num
