"""The Python entry: sweeps from files, dicts and names; problems as values."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import xlt_ray
from xlt_ray.errors import ClusterError, LedgerError, SpecError, SpecErrors
from xlt_ray.home import Home
from xlt_ray.ledger import Retry, open_ledger
from xlt_ray.sweep.runner import SweepSummary
from xlt_ray.sweep.tasks import ProgressReporter

SWEEP: dict[str, Any] = {
    "name": "small",
    "data": {"source": "toy"},
    "model": "toy:2x64",
    "target": {
        "task": "toy-nli",
        "source_language": "qaa",
        "max_length": 32,
        "learning_rate": {"choice": [1e-4, 1e-3, 1e-2]},
    },
    "search": {"trials": 3, "sampler": "grid"},
}


def changed(sweep: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    return {**sweep, **sections}


def test_a_dict_is_a_sweep_and_so_are_its_overrides() -> None:
    sweep = xlt_ray.load_sweep(
        SWEEP, {"search.trials": 2, "target.fusion": {"method": "dlfa", "layer": 1}}
    )
    assert sweep.settings.search.trials == 2
    assert sweep.space.tree["target"]["fusion"] == {"method": "dlfa", "layer": 1}
    assert SWEEP["search"]["trials"] == 3, "the dict stays as it is"


def test_messages_about_a_dict_name_the_key_alone() -> None:
    with pytest.raises(SpecErrors) as caught:
        xlt_ray.load_sweep(changed(SWEEP, search={"trials": 3, "sampler": "gird"}))
    (problem,) = caught.value.problems
    assert str(problem).startswith("search.sampler: ")
    assert problem.fields["file"] == ""
    assert problem.fields["line"] is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"search.trials": 0}, "overrides: search.trials: "),
        ({"search.trials": object()}, "search.trials: holds a value that a sweep file cannot hold"),
        (["search.trials=0"], "command line: search.trials: "),
    ],
)
def test_messages_about_overrides_say_where_they_are_from(overrides: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        xlt_ray.load_sweep(SWEEP, overrides)
    assert str(caught.value).startswith(message)


def test_check_returns_problems_and_warnings(home: Home) -> None:
    right = xlt_ray.check(SWEEP, home=home.root)
    assert right
    assert right.problems == ()
    assert right.num_configurations == 3
    wrong = xlt_ray.check(SWEEP, {"target.epochs": -1, "target.task": "toy-nil"})
    assert not wrong
    assert {problem.fields["key"] for problem in wrong.problems} == {"target.epochs"}
    large = xlt_ray.check(SWEEP, {"resources.cpus_per_worker": 10_000})
    assert isinstance(large.problems[0], ClusterError)
    assert large.sweep is not None
    assert not home.root.exists(), "nothing is written"


def test_plan_counts_stages(home: Home) -> None:
    planned = xlt_ray.plan(SWEEP, home=home)
    assert len(planned.trials) == 3
    assert planned.examples_left == planned.examples_shared > 0
    assert not home.root.exists(), "nothing is written"


def test_resume_queues_failed_trials_and_adds_configurations(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = xlt_ray.load_sweep(SWEEP)
    open_ledger(home, sweep)
    calls: list[tuple[int, Retry | None]] = []

    def run(spec: Any, _: Home, reporter: ProgressReporter, **options: Any) -> SweepSummary:
        calls.append((spec.settings.search.trials, options["retry"]))
        reporter.warned("the disk is nearly full")
        return SweepSummary((), None, 0, 0, is_finished=True, is_out_of_budget=False)

    monkeypatch.setattr("xlt_ray.sweep.runner.run", run)
    with pytest.warns(UserWarning, match="the disk is nearly full"):
        results = xlt_ray.resume("small", cause="oom", more=2)
    assert calls == [(5, Retry(cause="oom"))]
    assert results.summary.is_finished
    assert len(results.trials) == 0
    with warnings.catch_warnings(action="ignore"):
        # A sweep in the home is found by its name, too.
        assert xlt_ray.run("small").spec.settings.search.trials == 3
    with pytest.raises(SpecError, match=r"oomph: unknown cause; did you mean oom\?"):
        xlt_ray.resume("small", cause="oomph")
    with pytest.raises(LedgerError, match="there is no sweep 'big'"):
        xlt_ray.resume("big")


def test_the_package_runs_as_a_module_and_is_typed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xlt_ray", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("xlt-ray ")
    assert (Path(xlt_ray.__file__).parent / "py.typed").is_file()
