"""The runs of configurations: what the seeds of one configuration come to, in one run.

A run of its own has each configuration of a sweep whose trials repeat with several seeds; its
trials are nested below it. With one seed a configuration *is* its trial, whose run is then nested
below the sweep's.

What it shows follows from the runs of its trials alone, and from whether the sweep goes on, so it
can be made again at any time.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from xlt_ray.tracking.content import Metrics
from xlt_ray.tracking.experiment import Beat, Experiment

if TYPE_CHECKING:
    from mlflow.entities import Run

Going = Literal["RUNNING", "KILLED", "FINISHED"]
"""What the sweep does: it is at work, stopped to go on later, or at its end."""

KIND = "configuration"
SUMMED = ("seconds", "examples_trained", "gpu_hours")
"""Metrics of trials that are costs, and added up over all of them."""
SPREAD = ("objective", "/mean", "/mean_without_source")
"""Endings of metrics whose standard deviation over seeds is shown, as ``sd/<metric>``."""


@dataclass(frozen=True)
class Member:
    """One trial of a configuration, as its run shows it."""

    trial: int
    repeat: int
    seed: int
    state: str
    cause: str
    metrics: Mapping[str, float]
    stages: Mapping[str, str]
    """Keys by tag, of the stages of its path."""
    facts: str = ""
    """Number of the set of facts that it was made with; empty where none was kept."""

    @classmethod
    def of(cls, run: Run) -> Member:
        """Raises KeyError where the run was made and never described."""
        tags = run.data.tags
        return cls(
            trial=int(tags["xlt.trial"]),
            repeat=int(tags["xlt.repeat"]),
            seed=int(tags["xlt.seed"]),
            state=tags["xlt.state"],
            cause=tags.get("xlt.cause", ""),
            metrics=dict(run.data.metrics),
            stages={name: key for name, key in tags.items() if name.startswith("xlt.stage.")},
            facts=tags.get("xlt.facts", ""),
        )

    @property
    def is_finished(self) -> bool:
        return self.state in ("complete", "pruned", "failed")


def members_of(runs: Iterable[Run]) -> list[Member]:
    """The trials of these runs by number; those that were never described are left out."""
    described = (run for run in runs if "xlt.repeat" in run.data.tags)
    return sorted(map(Member.of, described), key=lambda one: one.trial)


def configuration_name(number: int) -> str:
    """Name of a configuration's run; names sort as numbers do."""
    return f"configuration {number:03d}"


def status_of(members: Sequence[Member], seeds: int, going: Going) -> str:
    """Status of a configuration's run; FAILED as soon as a seed failed and none is left to run."""
    is_whole = len({member.repeat for member in members}) >= seeds
    if not (is_whole and all(member.is_finished for member in members)) and going != "FINISHED":
        return going
    if not all(member.is_finished for member in members):
        return "KILLED"
    return "FAILED" if any(member.state == "failed" for member in members) else "FINISHED"


def metrics_of(members: Sequence[Member]) -> Metrics:
    """Means over the seeds that are complete, how many these are, and what all trials cost.

    A metric that one of them lacks has no mean. ``sd/...`` is the sample standard deviation, of
    two seeds or more.
    """
    complete = [member.metrics for member in members if member.state == "complete"]
    found: Metrics = {}
    spread: Metrics = {}
    # The first metric of a run is what MLflow's page of compared runs begins with: objective.
    for name in sorted(set.intersection(*map(set, complete)) if complete else ()):
        if name == "objective" or name.startswith("test/"):
            values = [one[name] for one in complete]
            found[name] = statistics.fmean(values)
            if len(values) > 1 and name.endswith(SPREAD):
                spread[f"sd/{name}"] = statistics.stdev(values)
    found |= spread
    for name in SUMMED:
        spent = [member.metrics[name] for member in members if name in member.metrics]
        if spent:
            found[name] = math.fsum(spent)
    for state in ("complete", "pruned", "failed"):
        found[f"seeds/{state}"] = float(sum(member.state == state for member in members))
    return found


def tags_of(members: Sequence[Member]) -> dict[str, str]:
    """Tags of a configuration; empty ones stand for tags that are to be taken away."""
    causes = dict.fromkeys(
        member.cause for member in members if member.state == "failed" and member.cause
    )
    rows = [
        f"| {member.trial} | {member.seed} | {member.state} "
        f"| {shown(member.metrics.get('objective'))} |"
        for member in members
    ]
    note = ["| trial | seed | state | objective |", "|---|---|---|---|", *rows]
    # A stage that the seeds share is the configuration's; one that they do not is the trials'.
    names = dict.fromkeys(name for member in members for name in member.stages)
    keys = {name: {member.stages.get(name, "") for member in members} for name in names}
    shared = [
        name.removeprefix("xlt.stage.")
        for name, found in keys.items()
        if len(found) == 1 and len(members) > 1 and name != "xlt.stage.evaluate"
    ]
    if shared:
        what = f"Its seeds share one training of {', '.join(shared)}"
        note += ["", f"{what}: sd/... is of what was trained after it, and leaves out its luck."]
    return {
        "xlt.seeds": " ".join(str(member.seed) for member in members if member.state == "complete"),
        "xlt.trials": " ".join(str(member.trial) for member in members),
        "xlt.cause": " ".join(causes),
        "xlt.facts": " ".join(sorted({member.facts for member in members if member.facts})),
        **{name: found.pop() if len(found) == 1 else "" for name, found in keys.items()},
        "mlflow.note.content": "\n".join(note),
    }


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


class Configurations:
    """The runs of one sweep's configurations."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._ids: dict[int, str] = {}
        self._is_listed = False

    def find(self, number: int) -> Run | None:
        """The run of a configuration, as it is."""
        if number not in self._ids:
            # All of them once; then that one alone, which this process has not made.
            which = {"xlt.configuration": str(number)} if self._is_listed else None
            found = self._experiment.search(KIND, which)
            self._ids |= {_number(run): run.info.run_id for run in reversed(found)}
            self._is_listed = True
        return self._experiment.run(self._ids.get(number))

    def id_of(self, number: int) -> str | None:
        """The run that this process knows a configuration by."""
        return self._ids.get(number)

    def make(self, number: int, parent: str, tags: Mapping[str, str], start: int) -> Run:
        """A new run for a configuration, below the sweep's run ``parent``."""
        own = {
            "xlt.sweep": self._experiment.name,
            "xlt.kind": KIND,
            "xlt.configuration": str(number),
            "mlflow.parentRunId": parent,
        }
        run = self._experiment.create(configuration_name(number), {**tags, **own}, start)
        self._ids[number] = run.info.run_id
        return run

    def update(
        self, run: Run, members: Sequence[Member], seeds: int, going: Going, ended: int
    ) -> None:
        """Bring a configuration's run to what its trials are.

        Args:
            ended: when the last of them ended, in milliseconds since 1970.
        """
        self._experiment.write(run, tags_of(members), {}, metrics_of(members), ended)
        self._experiment.set_status(run, status_of(members, seeds, going), ended)

    def members(self, number: int) -> list[Member]:
        """The trials of a configuration, by their runs."""
        return members_of(self._experiment.search("trial", {"xlt.configuration": str(number)}))

    def update_all(
        self,
        runs: Iterable[Run],
        seeds: int,
        going: Going,
        ended: Mapping[int, int],
        beat: Beat = lambda: None,
    ) -> dict[int, Run]:
        """:meth:`update` every configuration; their runs by number.

        One that was made twice, because the answer to its making was lost, loses the second run.

        Args:
            runs: those of all trials.
            ended: when the last trial of each configuration ended.
            beat: called after each.
        """
        members: dict[int, list[Run]] = defaultdict(list)
        for run in runs:
            members[int(run.data.tags.get("xlt.configuration", "-1"))].append(run)
        found: dict[int, Run] = {}
        for run in self._experiment.search(KIND, beat=beat):
            number = _number(run)
            if self._ids.setdefault(number, run.info.run_id) != run.info.run_id:
                self._experiment.client.delete_run(run.info.run_id)
                continue
            found[number] = run
            self.update(run, members_of(members[number]), seeds, going, ended.get(number, 0))
            beat()
        return found


def _number(run: Run) -> int:
    return int(run.data.tags["xlt.configuration"])
