"""On which seeds configurations are compared that were chosen among many.

The best of 50 equal configurations beats a single one on the seeds that chose it, far more often
than a test of one configuration allows for. On fresh seeds (``xlt confirm``) it does not. So a
comparison takes fresh seeds where every side has some, and otherwise says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from xlt_ray.report.contender import Candidate
from xlt_ray.report.statistics import MIN_SEEDS_FOR_STAR


def was_chosen_here(contender: Candidate, among: Sequence[Candidate]) -> bool:
    """Whether a contender is the best of more candidates than are compared, on these very seeds.

    Where all candidates of a sweep take part, none of them won unseen.
    """
    present = sum(one.sweep == contender.sweep for one in among)
    return contender.is_best and not contender.is_fresh and contender.num_candidates > present


def on_fresh_seeds(contenders: Sequence[Candidate]) -> list[Candidate]:
    """The same contenders on seeds that chose none of them, where the first has such seeds in
    common with every other; as they are where that is not so, or where none was chosen."""
    if not any(was_chosen_here(one, contenders) for one in contenders):
        return [*contenders]
    found = [one.fresh or one for one in contenders]
    first, *others = found
    is_whole = not any(was_chosen_here(one, found) for one in found)
    is_paired = all(first.trials.keys() & one.trials.keys() for one in others)
    return found if is_whole and is_paired else [*contenders]


def selection_notes(
    first: Candidate, other: Candidate, contenders: Sequence[Candidate]
) -> list[str]:
    """What is to be said of how two of the contenders were chosen."""
    notes = []
    for one in (first, other):
        among = f"{one.num_candidates} configurations"
        if was_chosen_here(one, contenders):
            notes.append(
                f"{one.label} is the best of {among} on the very seeds that are compared: its "
                "score is too good on average, and nothing can be significant"
            )
        elif one.is_fresh:
            how = "the best of" if one.is_best else "named by hand among"
            notes.append(
                f"{one.label}, {how} {among}, is compared on the fresh seeds of {one.run_by}"
                if one.num_candidates > 1
                else f"{one.label} is compared on the fresh seeds of {one.run_by}"
            )
        elif one.num_candidates > sum(each.sweep == one.sweep for each in contenders):
            notes.append(
                f"{one.label} was named by hand among {among}: p holds where it was not named for "
                "its scores"
            )
    if any(was_chosen_here(one, contenders) for one in (first, other)):
        notes.append(f"to compare on fresh seeds: {'; '.join(_commands(contenders))}")
    return notes


def _commands(contenders: Sequence[Candidate]) -> list[str]:
    """What gives all contenders enough fresh seeds in common."""
    chosen = [one for one in contenders if was_chosen_here(one, contenders)]
    start = max(one.next_seed for one in chosen)
    # Those that were chosen have used no seed from there on.
    lacking = [one for one in contenders if not _has(one, start)]
    start = max(one.next_seed for one in lacking)
    found = []
    for sweep in dict.fromkeys(one.sweep for one in lacking):
        mine = [one for one in lacking if one.sweep == sweep]
        if all(one.fresh and _has(one.fresh, start) for one in mine):
            continue
        seeds = start - mine[0].next_seed + MIN_SEEDS_FOR_STAR
        top = max(one.rank for one in mine)
        is_again = any(one.fresh for one in mine)
        found.append(
            f"xlt confirm {sweep} --seeds {seeds}"
            + (f" --top {top}" if top > 1 else "")
            + (f" name={sweep}-confirm-{seeds}" if is_again else "")
        )
    return found


def _has(contender: Candidate, start: int) -> bool:
    """Whether it was run with enough seeds from ``start`` on."""
    return contender.trials.keys() >= set(range(start, start + MIN_SEEDS_FOR_STAR))
