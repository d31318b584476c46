"""A sweep selects the configuration with the best mean, and its best seed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.ledger import TrialView
from xlt_ray.ledger.views import ranked, winner

OUTCOMES = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from(["complete", "failed", "pruned"]), st.integers(0, 3)
    ),
    max_size=12,
)


def view_of(number: int, configuration: int, state: Any, objective: float | None) -> TrialView:
    return TrialView(
        number=number, state=state, assignment={"model": configuration}, repeat=number,
        configuration=configuration, seed=0, objective=objective, curve=(), attempts=1, cause=None,
        message="", log="", stages=(), mlflow_run_id=None, retry_of=None, started=None, ended=None,
    )  # fmt: skip


@given(outcomes=OUTCOMES, mode=st.sampled_from(["min", "max"]), seeds=st.integers(1, 3))
def test_whole_configurations_come_first_then_the_best_mean_then_the_oldest(
    outcomes: list[tuple[int, str, int]], mode: str, seeds: int
) -> None:
    views = [
        view_of(number, configuration, state, value / 4 if state == "complete" else None)
        for number, (configuration, state, value) in enumerate(outcomes)
    ]
    frame = pd.DataFrame([vars(view) for view in views], columns=list(vars(LUCKY[0])))
    groups = frame[frame["state"] == "complete"].astype({"objective": float})
    table = groups.groupby("configuration")["objective"].agg(["mean", "count"]).reset_index()
    table["is_partial"] = table["count"] < seeds
    table = table.sort_values(
        ["is_partial", "mean", "configuration"], ascending=[True, mode == "min", True]
    )
    order = ranked(views, seeds, mode)
    assert order == table["configuration"].tolist()
    best = winner(views, seeds, mode)
    assert (best is None) == (not order)
    assert best is None or best.configuration == order[0]


LUCKY = (
    view_of(0, 0, "complete", 0.9), view_of(1, 0, "complete", 0.1),
    view_of(2, 1, "complete", 0.5), view_of(3, 1, "complete", 0.7),
    view_of(4, 1, "failed", None), view_of(5, 2, "complete", 0.95),
)  # fmt: skip


def test_one_lucky_seed_selects_nothing() -> None:
    best = winner(LUCKY, 2, "max")
    assert best is not None
    assert (best.configuration, best.trial.number, best.num_seeds, best.runner_up) == (1, 3, 2, 0)
    assert best.objective == pytest.approx(0.6)


def test_with_mode_min_the_smallest_mean_is_selected() -> None:
    best = winner(LUCKY, 2, "min")
    assert best is not None
    assert (best.configuration, best.trial.number, best.runner_up) == (0, 1, 1)


def test_before_any_trial_is_complete_nothing_is_selected() -> None:
    assert winner([view_of(0, 0, "running", None)], 2, "max") is None
