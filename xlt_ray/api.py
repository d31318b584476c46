"""The Python entry: ``run``, ``resume``, ``check`` and ``plan``. The command line calls them.

A sweep is the path of a sweep file, a dict with the same keys, a :class:`SweepSpec`, or the name
of a sweep in the home. Overrides are a dict of dotted keys (``{"search.trials": 8}``) or texts
``KEY=VALUE``. The home is a folder; None means ``XLT_HOME``, or ``./xlt-home`` without it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import SpecError, SpecErrors, XltError, nearest
from xlt_ray.home import Home
from xlt_ray.report.results import Results

if TYPE_CHECKING:
    from xlt_ray.config.checks.check_schedules import StageSize
    from xlt_ray.config.facts import Coverage
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.config.yaml import Overrides
    from xlt_ray.data.data_check import Sizes
    from xlt_ray.data.piece_check import TextShares
    from xlt_ray.ledger import Retry, TrialView
    from xlt_ray.sweep.plan import Plan
    from xlt_ray.sweep.runner import SweepSummary
    from xlt_ray.sweep.tasks import ProgressReporter, Report

    Sweep = str | Path | Mapping[str, Any] | SweepSpec
    Reporter = Callable[[SweepSpec], AbstractContextManager[ProgressReporter]]


CHECKING = "checking the sweep, its models and its data"
"""The first step of a run; it may end with a refusal."""


class RunResults(Results):
    """The results of a sweep that :func:`run` or :func:`resume` has just worked on."""

    spec: SweepSpec
    """The sweep as it was run, overrides included."""
    summary: SweepSummary
    """What this call did: new stages, failed trials, whether the sweep is finished, and if not,
    what stopped it."""


def run(
    sweep: Sweep,
    overrides: Overrides = (),
    *,
    home: str | Path | Home | None = None,
    accept_changes: bool = False,
    verify: bool = False,
    reporter: Reporter | None = None,
) -> RunResults:
    """Start a sweep, or continue it where it stopped, and return its results.

    A finished sweep returns at once. A failed trial raises nothing: its row in ``results.trials``
    has the state, cause and message. Ctrl-C stops the sweep after its trials have saved their
    progress; the same call continues it.

    Args:
        accept_changes: continue although data, weights or code have changed since earlier trials;
            trials before and after the change are marked.
        verify: first compare evaluations and the best weights with their digests, and make again
            what is damaged.
        reporter: shows the progress of every trial; ``xlt_ray.cli.progress.reporter_for`` prints
            it as ``xlt run`` does. By default nothing is printed, and warnings of the sweep are
            Python warnings.

    Raises:
        SpecErrors: the sweep does not fit its models or data; nothing was started.
        SpecError: the sweep cannot be read, or the home is not writable.
        ClusterError: a trial needs more than the cluster has; nothing was started.
        LedgerError: another process runs the sweep, its name belongs to a different sweep in this
            home, or what its trials are made with has changed.
        TrackingError: MLflow cannot be used at ``places.tracking``.
    """
    place = home_of(home)
    spec = find_sweep(sweep, overrides, place)
    return _run(spec, place, None, accept_changes, verify, reporter)


def resume(
    name: str | Path,
    *,
    failed: bool = False,
    cause: str = "",
    trials: Sequence[int] = (),
    more: int = 0,
    home: str | Path | Home | None = None,
    accept_changes: bool = False,
    verify: bool = False,
    reporter: Reporter | None = None,
) -> RunResults:
    """Continue a sweep of the home by its name, and return its results.

    Args:
        name: the name of the sweep, or its file.
        failed: run all failed trials again, with the same parameters.
        cause: run failed trials of this cause again, for example ``oom``.
        trials: run the failed trials with these numbers again.
        more: try this many further configurations.

    Other arguments and errors are those of :func:`run`.

    Raises:
        LedgerError: the home has no sweep of this name, or one of ``trials`` has not failed.
    """
    from xlt_ray.config.retry_policy import CAUSES
    from xlt_ray.ledger import Retry, load_ledger, sweep_of_ledger

    if cause and cause not in CAUSES:
        raise SpecError("unknown cause", key=cause, remedy=nearest(cause, CAUSES))
    place = home_of(home)
    ledger = load_ledger(place, sweep_name(name))
    overrides = {"search.trials": ledger.sweep["search"]["trials"] + more} if more else {}
    retry = Retry(cause=cause, trials=tuple(trials)) if failed or cause or trials else None
    spec = sweep_of_ledger(ledger, overrides)
    return _run(spec, place, retry, accept_changes, verify, reporter)


def _run(
    spec: SweepSpec,
    home: Home,
    retry: Retry | None,
    accept_changes: bool,
    verify: bool,
    reporter: Reporter | None,
) -> RunResults:
    with (reporter or _python_warnings)(spec) as shown:
        shown.preparing(CHECKING)
        from xlt_ray.sweep.runner import run as run_sweep

        summary = run_sweep(
            spec, home, shown, retry=retry, accept_changes=accept_changes, is_verified=verify
        )
    results = RunResults(home, spec.name)
    results.spec, results.summary = spec, summary
    return results


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The result of :func:`check`, which is true if the sweep has no problem."""

    sweep: SweepSpec | None = None
    """None where the sweep itself cannot be read."""
    error: XltError | None = None
    """What a run would raise."""
    warnings: tuple[SpecError, ...] = ()
    """What does not keep the sweep from running, but may mislead."""
    num_configurations: int = 0
    """How many configurations the sweep tries at most."""
    assumed_models: tuple[str, ...] = ()
    """Models that could not be looked up and are assumed to be as ``xlt list models`` says."""
    supervisions: tuple[str, ...] = ()
    """Target-language labels that trials see, so that their scores are not plain zero-shot."""
    reads: Sequence[Sizes] = ()
    """Sizes of the files that trials read."""
    trains: Sequence[StageSize] = ()
    """Sizes of the training stages."""
    coverage: Sequence[Coverage] = ()
    """Share of the words that lexicons and lists of neighbours have."""
    pieces: Sequence[TextShares] = ()
    """How the tokenizers read the texts."""

    def __bool__(self) -> bool:
        return self.error is None

    @property
    def problems(self) -> tuple[XltError, ...]:
        """Everything that keeps the sweep from running; ``fields`` of each has file, line, key,
        problem and remedy as far as they are known."""
        if isinstance(self.error, SpecErrors):
            return self.error.problems
        return () if self.error is None else (self.error,)


def check(
    sweep: Sweep, overrides: Overrides = (), *, home: str | Path | Home | None = None
) -> CheckResult:
    """Validate a sweep against its models, its data and this machine; starts nothing.

    Problems and warnings are returned, not raised. Without a network, models of
    ``xlt list models`` are assumed to be as that list says.
    """
    from xlt_ray.config.checks.check_sweep import most_configurations
    from xlt_ray.config.supervision import supervisions
    from xlt_ray.store.storage import Storage
    from xlt_ray.sweep.forecast import memory_warnings
    from xlt_ray.sweep.read_facts import refuse_faulty, text_shares
    from xlt_ray.sweep.runner import checked_facts, refuse_too_large

    result = CheckResult()
    try:
        place = home_of(home)
        spec = find_sweep(sweep, overrides, place)
        result = CheckResult(spec)
        facts = checked_facts(spec, may_assume=True)
        findings = refuse_faulty(spec, facts, place.cache, may_fetch=False)
        result = CheckResult(
            spec,
            warnings=tuple(findings.warnings),
            num_configurations=most_configurations(spec, facts),
            assumed_models=tuple(
                sorted(name for name, model in facts.models.items() if not model.weights)
            ),
            supervisions=tuple(supervisions(spec, facts)),
            reads=findings.sizes,
            trains=findings.trainings,
        )
        refuse_too_large(spec.settings.resources, facts.model_names)
        if spec.settings.places.store is not None:
            # Refuses an unknown kind of URL; the storage itself is not contacted.
            Storage(spec.settings.places.store)
        shares = text_shares(spec, facts, place.cache, with_toys=True)
        return dataclasses.replace(
            result,
            coverage=facts.coverage,
            pieces=[row for row in shares if not row.model.startswith("toy:")],
            warnings=(*result.warnings, *memory_warnings(spec, facts, shares)),
        )
    except XltError as error:
        return dataclasses.replace(result, error=error)


def plan(
    sweep: Sweep,
    overrides: Overrides = (),
    *,
    home: str | Path | Home | None = None,
    nodes: int | None = None,
    gpus_per_node: int = 0,
    cpus_per_node: int | None = None,
    price: float | None = None,
    probe: bool = False,
) -> Plan:
    """What a sweep will train, what its trials share, and what the rest of it will take; starts
    nothing, and writes nothing but measured lengths of texts into the cache.

    Trials of the ledger and stages of the store are taken into account. The choices of
    ``tpe`` are an estimate, and early stopping is not foreseen.

    Args:
        nodes: nodes of the cluster to plan for; by default this machine.
        cpus_per_node: by default those of this machine, or enough for the GPUs of a node.
        price: of a GPU for an hour, or of a node if trials have no GPU.
        probe: train a few steps of shapes that the store does not have, in this process.

    Raises:
        SpecErrors: the sweep does not fit its models or data.
        LedgerError: its name belongs to a different sweep in this home.
        ClusterError: such nodes can hold no trial.
    """
    from xlt_ray.ledger import changed_since, continued, find_ledger
    from xlt_ray.ledger.made_with import listed
    from xlt_ray.store.store import StageStore
    from xlt_ray.sweep.forecast import Cluster, forecast_of
    from xlt_ray.sweep.plan import plan_of
    from xlt_ray.sweep.read_facts import used_facts
    from xlt_ray.sweep.removal import begins_anew
    from xlt_ray.sweep.runner import checked_facts

    place = home_of(home)
    spec = find_sweep(sweep, overrides, place)
    facts = checked_facts(spec)
    ledger = None if begins_anew(place, spec) else find_ledger(place, spec)
    changed = ""
    if ledger is not None:
        spec = continued(spec, ledger)
        changed = listed(changed_since(ledger, used_facts(spec, facts))[1])
    store = StageStore(spec.settings.places.store or place.stages)
    planned = plan_of(spec, facts, store, ledger)
    cluster = Cluster.of(
        spec.settings.resources, facts.model_names, nodes, gpus_per_node, cpus_per_node, price
    )
    return dataclasses.replace(
        planned,
        coverage=facts.coverage,
        changed_facts=changed,
        forecast=forecast_of(spec, facts, planned, store, place, cluster, with_probe=probe),
    )


def home_of(home: str | Path | Home | None) -> Home:
    """The home in a folder; None for that of the environment."""
    if home is None:
        return Home.from_environment()
    return home if isinstance(home, Home) else Home(Path(home).absolute())


def find_sweep(sweep: Sweep, overrides: Overrides, home: Home) -> SweepSpec:
    """The sweep of a file, of a dict, or of a ledger in the home where a name is given.

    Raises:
        SpecErrors: there is no such file or sweep, or it has a fault.
    """
    from xlt_ray.config.sweep import SweepSpec, load_sweep
    from xlt_ray.ledger import load_ledger, sweep_of_ledger

    if isinstance(sweep, SweepSpec):
        if not overrides:
            return sweep
        return load_sweep(sweep.tree(), overrides)
    if isinstance(sweep, str) and not Path(sweep).is_file() and sweep in home.sweeps():
        return sweep_of_ledger(load_ledger(home, sweep), overrides)
    return load_sweep(sweep, overrides)


def sweep_name(sweep: str | Path) -> str:
    """The name of a sweep that is given by its name or its file."""
    if Path(sweep).is_file():
        from xlt_ray.config.sweep import load_sweep

        return load_sweep(sweep).name
    return str(sweep)


class _PythonWarnings:
    """Makes the warnings of a sweep Python warnings, and shows nothing else."""

    def preparing(self, step: str) -> None: ...

    def continues(self, trials: Sequence[TrialView]) -> None: ...

    def begun(self, view: TrialView) -> None: ...

    def reported(self, view: TrialView, report: Report) -> None: ...

    def finished(self, view: TrialView) -> None: ...

    def timed(self, line: str) -> None: ...

    def warned(self, message: str) -> None:
        warnings.warn(message, stacklevel=2)


@contextmanager
def _python_warnings(_: SweepSpec) -> Iterator[ProgressReporter]:
    yield _PythonWarnings()
