"""The order in which entries are removed, and which never are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlt_ray.store.gc import GcRoots, RemovalPlan, StoreEntry, plan


def stage(key: str, kind: str = "target", *, state: int = 0, used: float = 0.0, sweep: str = "",
          holder: str = "") -> StoreEntry:  # fmt: skip
    return StoreEntry("stage", f"stages/{key}", key, kind, sweep=sweep, state_bytes=state,
                  other_bytes=10, used=used, holder=holder)  # fmt: skip


def progress(key: str, *, used: float = 0.0, holder: str = "") -> StoreEntry:
    return StoreEntry("progress", f"progress/{key}", key, state_bytes=30, used=used, holder=holder)


ENTRIES = (
    StoreEntry("damaged", "damaged/a", "a", other_bytes=10, used=97),
    StoreEntry("leftover", "scratch/results/a", "a", other_bytes=10, used=98),
    stage("young", used=50),
    stage("old", "trunk", state=20, used=40),
    progress("nobody", used=45),
    stage("ended trunk", "trunk", state=20, used=20),
    stage("ended target", used=30),
    stage("ended other", "intermediate", used=1),
    stage("shared", "intermediate", used=0),
    stage("shared trunk", "trunk", state=20, used=21),
    stage("returning", "trunk", state=20, used=0),
    stage("best", used=0),
    stage("needed", "trunk", state=20, used=0),
    stage("scores", "evaluate", used=0),
    stage("made", used=0, holder="process 1"),
    progress("making", holder="process 1"),
)
ROOTS = GcRoots(
    needed=frozenset({"needed"}),
    best=frozenset({"best"}),
    returning=frozenset({"returning"}),
    shared=frozenset({"shared", "shared trunk"}),
    used=frozenset({"ended trunk", "ended target", "ended other", "shared", "shared trunk",
                    "returning", "best", "needed", "scores"}),
)  # fmt: skip
UNUSED = ["damaged/a", "scratch/results/a", "stages/old", "progress/nobody", "stages/young"]
ENDED = ["stages/ended trunk", "stages/shared trunk", "stages/ended target", "stages/ended other"]
SHARED = ["stages/returning", "stages/shared"]


def freed(planned: RemovalPlan) -> list[str]:
    return [removal.entry.place for removal in planned.removals]


def order(*, all_but_best: bool = False) -> list[str]:
    """What comes to be freed, thing by thing, as more and more is needed."""
    total = sum(entry.num_bytes for entry in ENTRIES)
    places: list[str] = []
    for needed in range(1, total + 1):
        now = freed(
            plan(ENTRIES, ROOTS, quota_bytes=total, needed_bytes=needed, all_but_best=all_but_best)
        )
        assert now[: len(places)] == places, "needing more frees more of the same"
        places = now
    return places


def test_things_are_freed_in_order() -> None:
    assert order() == UNUSED + ENDED


def test_shared_stages_are_removed_last_and_only_with_all_but_best() -> None:
    assert order(all_but_best=True) == UNUSED + ENDED + SHARED


def test_without_a_quota_only_unnamed_entries_are_removed() -> None:
    planned = plan(ENTRIES, ROOTS)
    assert freed(planned) == UNUSED
    assert planned.missing_bytes == 0


def test_all_but_best_without_a_quota_leaves_what_is_never_freed() -> None:
    kept = {decision.entry.place for decision in plan(ENTRIES, ROOTS, all_but_best=True).kept}
    assert kept == {"stages/best", "stages/needed", "stages/scores", "stages/made",
                    "progress/making"}  # fmt: skip


def test_no_more_is_freed_than_has_to_be() -> None:
    total = sum(entry.num_bytes for entry in ENTRIES)
    assert plan(ENTRIES, ROOTS, quota_bytes=total).removals == ()
    planned = plan(ENTRIES, ROOTS, quota_bytes=total, needed_bytes=10)
    assert freed(planned) == ["damaged/a"]


def test_removed_and_kept_bytes_add_up() -> None:
    total = sum(entry.num_bytes for entry in ENTRIES)
    for quota in range(0, total, 7):
        planned = plan(ENTRIES, ROOTS, quota_bytes=quota)
        assert planned.used_bytes == total
        stays = sum(decision.entry.num_bytes for decision in planned.kept)
        assert stays == total - planned.freed_bytes == sum(planned.kept_by_reason.values())
        assert planned.missing_bytes == max(stays - quota, 0)


def test_progress_stays_while_an_unfinished_trial_may_need_it() -> None:
    needed, ended, unknown = (progress(key) for key in ("mine", "ended", "unknown"))
    roots = GcRoots(needed=frozenset({"mine"}), used=frozenset({"mine", "ended"}))
    assert freed(plan([needed, ended, unknown], roots)) == ["progress/ended", "progress/unknown"]
    older = replace(roots, unknown=("other",))
    planned = plan([needed, ended, unknown, stage("unknown")], older, all_but_best=True)
    assert freed(planned) == ["progress/ended"]
    assert "may be needed by an unfinished trial of other" in planned.kept_by_reason


@pytest.mark.parametrize(("sweep", "goes"), [("mine", True), ("theirs", False), ("", False)])
def test_in_a_shared_store_only_entries_of_this_home_are_removed(sweep: str, goes: bool) -> None:
    roots = GcRoots(home_sweeps=frozenset({"mine"}))
    planned = plan([stage("x", sweep=sweep), progress("y")], roots)
    assert freed(planned) == (["stages/x"] if goes else [])
    named = GcRoots(home_sweeps=frozenset({"mine"}), used=frozenset({"x"}))
    assert freed(plan([stage("x", sweep=sweep)], named, quota_bytes=1)) == ["stages/x"]


def test_reasons_are_listed_largest_first() -> None:
    reasons = plan(ENTRIES, ROOTS, quota_bytes=1).kept_by_reason
    assert list(reasons.values()) == sorted(reasons.values(), reverse=True)
    assert "scores" in reasons
    assert "target stage of a best trial" in reasons
    assert "being made by process 1" in reasons
