"""What the rest of a sweep will take in hours, disk, memory and money, with 80 % intervals.

Puts together what stages cost (:mod:`xlt_ray.sweep.cost`), learnt from the records and ledgers of
the home, the simulated run (:mod:`xlt_ray.sweep.simulation`), and the memory of a worker
(:mod:`xlt_ray.sweep.memory`). Reads, and writes nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import or_
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import psutil

from xlt_ray.config.facts import Facts, ModelFacts
from xlt_ray.config.resources import Resources
from xlt_ray.config.sweep import SAMPLERS, SweepSpec, shown_bytes
from xlt_ray.errors import DamagedStage, LedgerError, SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import TrialView, load_ledger
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage, short
from xlt_ray.store.stage_path import StagePath, stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.capacity import UNBOUNDED, Capacity, Demand, demands_of
from xlt_ray.sweep.cost import (
    ASSUMED_SHARE,
    Arithmetic,
    Maker,
    Observation,
    Throughput,
    Work,
    interval,
)
from xlt_ray.sweep.memory import PeakMemory, peak_memory
from xlt_ray.sweep.plan import Plan
from xlt_ray.sweep.quota import StoreSizes
from xlt_ray.sweep.read_facts import probed_paths, recorded_shape, text_shares, texts_of
from xlt_ray.sweep.simulation import Job, Outcome, best_concurrency, critical_path, simulate
from xlt_ray.sweep.tasks import Planner, task_for

if TYPE_CHECKING:
    from xlt_ray.data.piece_check import TextShares

RECORDS = 200
"""Most records that are read to learn from."""
LEDGERS = 4
"""The same of ledgers, the latest ones."""
THIS_MACHINE = "this machine"
DRAWN_STAGES = 40_000
"""Stages that are simulated over all draws."""
DRAWS = (16, 200)
"""Fewest and most draws."""


class Estimate(NamedTuple):
    """A median, and the 80 % interval around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Sequence[float]) -> Estimate:
        """The median and the interval of some draws."""
        return cls(median(draws), *interval(draws))

    def __mul__(self, factor: object) -> Estimate:
        assert isinstance(factor, int | float)
        return Estimate(*(factor * value for value in self))


@dataclass(frozen=True)
class Cluster:
    """Equal nodes."""

    nodes: int
    node: Mapping[str, float]
    place: str
    price: float | None = None
    """Of a GPU for an hour, or of a node if trials have no GPU."""

    @classmethod
    def of(
        cls,
        resources: Resources,
        models: Iterable[str],
        nodes: int | None = None,
        gpus_per_node: int = 0,
        cpus_per_node: int | None = None,
        price: float | None = None,
    ) -> Cluster:
        """So many nodes, or this machine; one place where this machine can hold no trial."""
        demands = [*demands_of(resources, models).values()]
        uses_gpus = any("GPU" in demand.bundle for demand in demands)
        node = {"CPU": float(len(os.sched_getaffinity(0)))}
        if nodes is not None:
            # Nodes with GPUs have enough CPUs for them.
            cpus = cpus_per_node or (UNBOUNDED if uses_gpus else node["CPU"])
            node = {"CPU": float(cpus), "GPU": float(gpus_per_node)}
            return cls(nodes, node, "the cluster", price)
        if uses_gpus:
            import torch

            node["GPU"] = float(torch.cuda.device_count())
        machine = cls(1, node, THIS_MACHINE, price)
        if all(map(machine.capacity.can_hold, demands)):
            return machine
        largest = max(demands, key=lambda demand: sum(demand.total.values()))
        return cls(1, largest.total, "a machine that holds one trial", price)

    @property
    def capacity(self) -> Capacity:
        return Capacity([self.node] * self.nodes, place=self.place)


@dataclass(frozen=True)
class Forecast:
    """What is left of a sweep; early stopping, failures and garbage collection are not foreseen."""

    cluster: Cluster
    concurrency: int
    """Trials at a time."""
    finish_h: Estimate
    """Hours from the first trial to the last."""
    device_h: Estimate
    """GPU-hours of the trials, or CPU-hours where they have no GPU."""
    device: str
    """``GPU`` or ``CPU``."""
    unshared_finish_h: Estimate
    """The same if every trial made all of its stages."""
    unshared_device_h: Estimate
    critical_h: Estimate
    """Of the longest trial, with nothing to wait for."""
    critical_path: tuple[str, ...]
    """Labels of its stages."""
    best_concurrency: int
    finish_by_concurrency: Mapping[int, float]
    """Median hours."""
    disk_bytes: float
    peak_memory: Mapping[str, PeakMemory]
    """By key of a stage: what each of its workers holds."""
    stage_s: Mapping[str, Estimate]
    """By key of a missing stage."""
    flops: float
    """Operations of the missing stages, each once."""
    num_observations: int
    warnings: tuple[str, ...] = ()
    """What this machine has too little memory for, if trials run on it."""
    unknown: tuple[str, ...] = ()
    """What the estimate rests on besides measured stages."""

    @property
    def peak(self) -> PeakMemory:
        """The largest of any stage."""
        return reduce(or_, self.peak_memory.values(), PeakMemory(0.0))

    @property
    def money(self) -> Estimate | None:
        """Of all nodes until the end."""
        if self.cluster.price is None:
            return None
        units = self.cluster.nodes
        if self.device == "GPU":
            units *= int(self.cluster.node["GPU"])
        return self.finish_h * (self.cluster.price * units)


# -- what the home has measured -----------------------------------------------------------


@dataclass
class Measured:
    """Reads what stages and trials took.

    Args:
        models: key of a pretrained model -> its facts, for those of the plan.
        roots: key of a stage of the plan -> key of its pretrained model.
    """

    store: StageStore
    arithmetic: Arithmetic
    models: dict[str, ModelFacts | None]
    roots: Mapping[str, str]
    records: dict[str, StageRecord | None] = field(default_factory=dict)

    def record(self, key: str) -> StageRecord | None:
        """A record that is there and undamaged."""
        if key not in self.records:
            self.records[key] = None
            with contextlib.suppress(DamagedStage):
                self.records[key] = self.store.record(key)
        return self.records[key]

    def root(self, record: StageRecord) -> str:
        """Key of the pretrained model that a stage began with."""
        if record.key in self.roots:
            return self.roots[record.key]
        parent = str(record.payload["parent"])
        before = None if parent in self.models else self.record(parent)
        if before is not None:
            return self.root(before)
        if parent not in self.models:
            self.models[parent] = recorded_shape(self.store, record.key, short(parent))
        return parent

    def stage(self, key: str) -> Observation | None:
        """What a stage took; None where its work is not known."""
        record = self.record(key)
        if record is None:
            return None
        model, settings = self.models[self.root(record)], record.payload["settings"]
        assert isinstance(settings, Mapping)
        seconds = record.usage.get("wall_s", record.seconds)
        # A training that was continued took longer than its last process.
        seconds = max(seconds, record.seconds)
        if model is None or seconds <= 0:
            return None
        maker = Maker.of_record(record.runtime, record.made_by)
        with contextlib.suppress(KeyError):
            work = self.arithmetic.work(record.kind, settings, record.num_examples, model, maker)
            return Observation(work, seconds)
        return None

    def model(self, root: Stage) -> ModelFacts:
        """Facts of a pretrained model of the plan."""
        model = self.models[root.key]
        assert model is not None
        return model

    def work(self, stage: Stage, root: Stage, maker: Maker) -> Work:
        """The work of a stage of the plan."""
        return self.arithmetic.work(
            stage.kind, stage.settings, stage.num_examples, self.model(root), maker
        )

    def sizes(self) -> StoreSizes:
        """Bytes of results: of those that were read, and of the others from shapes."""
        known = ((key, model) for key, model in self.models.items() if model is not None)
        sizes = StoreSizes({key: 4 * model.num_parameters for key, model in known})
        for record in filter(None, self.records.values()):
            kind = (self.root(record), record.kind)
            num_bytes = sum(entry.num_bytes for entry in record.files.values())
            sizes.stages[kind] = max(sizes.stages.get(kind, 0), num_bytes)
        return sizes

    def trial(self, view: TrialView, sweep: str) -> Observation | None:
        """What a trial took besides its stages."""
        made = [self.record(use.key) for use in view.stages if not use.reused]
        if view.attempts != 1 or not made or not view.occupied.seconds:
            return None
        if any(record is None or "wall_s" not in record.usage for record in made):
            return None
        first = made[0]
        assert first is not None
        inside = sum(record.usage["wall_s"] for record in made if record is not None)
        maker = replace(Maker.of_record(first.runtime, first.made_by), sweep=sweep)
        return Observation(trial_work(maker), max(view.occupied.seconds - inside, 0.1))


def trial_work(maker: Maker) -> Work:
    """What a trial takes besides its stages, whatever these are."""
    alike = Maker(maker.device, threads=maker.threads, sweep=maker.sweep)
    return Work((maker.machine.trial_s, 0.0, 0.0), alike, "trial", "")


def measured(
    reader: Measured, keys: Iterable[str], views: Iterable[tuple[str, TrialView]]
) -> list[Observation]:
    """Observations of stages and trials; the keys that come first count if there are too many."""
    chosen = itertools.islice(dict.fromkeys(keys), RECORDS)
    stages = [reader.stage(key) for key in chosen]
    trials = [reader.trial(view, sweep) for sweep, view in views]
    return [seen for seen in (*stages, *trials) if seen is not None]


def recent_trials(home: Home) -> Iterator[tuple[str, TrialView]]:
    """Complete trials of the latest sweeps of a home, by the names of these."""
    journals = [(home.ledger_journal(name), name) for name in home.sweeps()]
    dated = [(file.stat().st_mtime, name) for file, name in journals if file.exists()]
    for _, name in sorted(dated, reverse=True)[:LEDGERS]:
        with contextlib.suppress(LedgerError):
            complete = [
                view for view in load_ledger(home, name).trials() if view.state == "complete"
            ]
            yield from ((name, view) for view in complete[-RECORDS // LEDGERS :])


# -- the forecast -------------------------------------------------------------------------


PROBED = ("align", "trunk", "intermediate", "target")
"""Kinds of stages that can be begun from a pretrained model."""
MOST_PROBES = 12


def forecast_of(
    sweep: SweepSpec,
    facts: Facts,
    plan: Plan,
    store: StageStore,
    home: Home,
    cluster: Cluster,
    *,
    with_probe: bool = False,
) -> Forecast:
    """What is left of a plan, on a cluster.

    Args:
        with_probe: measure some steps of trainings whose shape the store does not have.

    Raises:
        ClusterError: the cluster could never hold a trial.
    """
    cluster.capacity.refuse_impossible(sweep.settings.resources, facts.model_names)
    rest = _Rest(sweep, facts, plan, store, home)
    observations = rest.measured()
    throughput = Throughput(observations)
    if with_probe:
        throughput = Throughput([*observations, *rest.probed(throughput)])
    return rest.forecast(throughput, cluster)


class _Rest:
    """What is left of a plan: unfinished trials, and the stages that they need."""

    def __init__(
        self, sweep: SweepSpec, facts: Facts, plan: Plan, store: StageStore, home: Home
    ) -> None:
        self._sweep, self._facts, self._plan, self._home = sweep, facts, plan, home
        shares = text_shares(sweep, facts, home.cache, with_toys=True)
        self._arithmetic = Arithmetic(facts, texts_of(shares, facts))
        paths = [trial.path for trial in plan.trials]
        roots = {stage.key: root.key for root, *path in paths for stage in path}
        self._reader = Measured(store, self._arithmetic, {**models_of(paths, facts)}, roots)
        self._in_store = [planned.stage.key for planned in plan.stages if planned.is_in_store]
        self._trials = [trial for trial in plan.trials if not trial.is_finished]
        self._user = {
            stage.key: trial for trial in self._trials for stage in stages_to_run(trial.path)
        }
        self._stages = {stage.key: stage for trial in self._trials for stage in trial.path[1:]}
        self._missing = [_missing(trial.path, set(self._in_store)) for trial in self._trials]
        self._needed = list(dict.fromkeys(itertools.chain(*self._missing)))

    def measured(self) -> list[Observation]:
        """What stages of the store, those of the plan first, and trials of the home took."""
        stored = itertools.islice(self._reader.store, RECORDS)
        return measured(
            self._reader, itertools.chain(self._in_store, stored), recent_trials(self._home)
        )

    def probed(self, throughput: Throughput) -> Iterator[Observation]:
        """Measures trainings of one worker whose shape is not known, the longest first."""
        from xlt_ray.sweep.workers import probe

        planner, works = Planner(self._sweep, self._facts), self._works(throughput)
        unseen = {
            works[key].group: key
            for key in self._needed
            if self._stages[key].kind in PROBED
            and not throughput.knows(works[key])
            and works[key].maker.workers == 1
        }
        largest = sorted(unseen.values(), key=lambda key: -sum(works[key].terms))
        for key in largest[:MOST_PROBES]:
            trial, stage = self._user[key], self._stages[key]
            spec = planner.trial(trial.assignment)
            task = task_for(trial.number, spec, trial.path, self._sweep, self._home)
            num_steps = stage.num_examples / stage.settings["batch_size"]
            yield Observation(self._steps(key, works), num_steps * probe(task, stage))

    def forecast(self, throughput: Throughput, cluster: Cluster) -> Forecast:
        """The forecast by what is known of times."""
        works, settings = self._works(throughput), self._sweep.settings
        start = {
            trial.number: trial_work(self._maker(trial.path[0], throughput))
            for trial in self._trials
        }
        num_stages = len(self._stages) + len(self._needed)
        draws = _draws(throughput, works, start, num_stages)
        usual, usual_start = draws[0]
        demands = demands_of(settings.resources, self._facts.model_names)
        places = {name: cluster.capacity.num_trials(demand) for name, demand in demands.items()}
        most = max(min(max(places.values()), len(self._trials)), 1)
        concurrency = min(most, settings.search.concurrent or most)
        names = [_name_of(trial.path[0]) for trial in self._trials]
        slots = [max(places.values()) / places[name] for name in names]
        shared = [Job(keys, size) for keys, size in zip(self._missing, slots, strict=True)]
        unshared = [
            Job(tuple(f"{trial.number} {stage.key}" for stage in trial.path[1:]), size)
            for trial, size in zip(self._trials, slots, strict=True)
        ]
        devices = [_devices(settings.resources.of(name)) for name in names]
        sizes = self._reader.sizes()
        run = partial(
            simulate,
            learns=SAMPLERS[settings.search.sampler].learns,
            result_bytes=self._result_bytes(sizes),
            progress_bytes=self._progress_bytes(sizes),
        )
        outcomes = [run(shared, seconds, concurrency, trial_s=own) for seconds, own in draws]
        apart = [
            run(unshared, _by_trial(unshared, seconds), concurrency, trial_s=own)
            for seconds, own in draws
        ]
        best, times = best_concurrency(
            lambda places: run(shared, usual, places, trial_s=usual_start).finish_s / 3600, most
        )
        longest = critical_path(shared, usual)
        memory = self._memory(works, usual)
        return Forecast(
            cluster=cluster,
            concurrency=concurrency,
            finish_h=Estimate.of([outcome.finish_s / 3600 for outcome in outcomes]),
            device_h=Estimate.of([_device_h(outcome, devices) for outcome in outcomes]),
            device="GPU" if settings.resources.gpus_per_worker else "CPU",
            unshared_finish_h=Estimate.of([outcome.finish_s / 3600 for outcome in apart]),
            unshared_device_h=Estimate.of([_device_h(outcome, devices) for outcome in apart]),
            critical_h=Estimate.of(
                [sum(seconds[key] for key in longest) / 3600 for seconds, _ in draws]
            ),
            critical_path=tuple(self._stages[key].label for key in longest),
            best_concurrency=best,
            finish_by_concurrency=times,
            disk_bytes=max(outcome.peak_bytes for outcome in outcomes),
            peak_memory=memory,
            stage_s={
                key: Estimate.of([seconds[key] for seconds, _ in draws]) for key in self._needed
            },
            flops=sum(works[key].flops for key in self._needed),
            num_observations=throughput.num_observations,
            warnings=tuple(map(str, _too_large(self._sweep, self._peaks(memory), cluster))),
            unknown=tuple(_unknown(throughput, [works[key] for key in self._needed], self._plan)),
        )

    def _root(self, key: str) -> Stage:
        return self._user[key].path[0]

    def _maker(self, root: Stage, throughput: Throughput) -> Maker:
        resources = self._sweep.settings.resources.of(_name_of(root))
        return Maker.of(resources, throughput.gpu, self._sweep.name)

    def _works(self, throughput: Throughput) -> dict[str, Work]:
        return {
            key: self._reader.work(stage, self._root(key), self._maker(self._root(key), throughput))
            for key, stage in self._stages.items()
        }

    def _steps(self, key: str, works: Mapping[str, Work]) -> Work:
        """The work of a stage without loading and evaluations."""
        stage = self._stages[key]
        silent = replace(stage, settings={**stage.settings, "evaluations": 0})
        work = self._reader.work(silent, self._root(key), works[key].maker)
        return replace(work, terms=(0.0, *work.terms[1:]))

    def _result_bytes(self, sizes: StoreSizes) -> dict[str, float]:
        return {
            key: sizes.of_stage(self._root(key).key, stage.kind)
            for key, stage in self._stages.items()
        }

    def _progress_bytes(self, sizes: StoreSizes) -> dict[str, float]:
        """Of trainings: new progress is written before the old one is deleted."""
        return {
            key: 2 * sizes.of_progress(self._root(key).key, [stage])
            for key, stage in self._stages.items()
            if stage.is_training
        }

    def _memory(
        self, works: Mapping[str, Work], usual: Mapping[str, float]
    ) -> dict[str, PeakMemory]:
        shares = {key: sum(self._steps(key, works).terms) / sum(works[key].terms) for key in works}
        return {
            key: _memory(
                stage,
                self._reader.model(self._root(key)),
                self._arithmetic,
                self._sweep,
                _name_of(self._root(key)),
                usual[key] * shares[key],
            )
            for key, stage in self._stages.items()
        }

    def _peaks(self, memory: Mapping[str, PeakMemory]) -> dict[str, PeakMemory]:
        """The largest stage of each model."""
        peaks: dict[str, PeakMemory] = {}
        for key, peak in memory.items():
            name = _name_of(self._root(key))
            peaks[name] = peaks.get(name, PeakMemory(0.0)) | peak
        return peaks


def models_of(paths: Iterable[StagePath], facts: Facts) -> dict[str, ModelFacts]:
    """Facts of the pretrained models of some paths by key, with the layers that are kept."""
    models = {}
    for root, *_ in paths:
        # Behind it stands how many layers are kept (:attr:`xlt_ray.config.trial.Model.title`).
        model = facts.models[root.label.partition(" (")[0]]
        models[root.key] = replace(model, num_layers=root.settings.get("layers", model.num_layers))
    return models


def memory_warnings(
    sweep: SweepSpec, facts: Facts, shares: Iterable[TextShares]
) -> list[SpecError]:
    """What this machine has too little memory for, if trials run on it."""
    paths, arithmetic = probed_paths(sweep, facts), Arithmetic(facts, texts_of(shares, facts))
    models = models_of(paths, facts)
    peaks: dict[str, PeakMemory] = {}
    for root, *stages in paths:
        name = _name_of(root)
        for stage in stages:
            peak = _memory(stage, models[root.key], arithmetic, sweep, name)
            peaks[name] = peaks.get(name, PeakMemory(0.0)) | peak
    return list(_too_large(sweep, peaks, Cluster.of(sweep.settings.resources, facts.model_names)))


def _too_large(
    sweep: SweepSpec, peaks: Mapping[str, PeakMemory], cluster: Cluster
) -> Iterator[SpecError]:
    if cluster.place != THIS_MACHINE or os.environ.get("RAY_ADDRESS"):
        return
    total = psutil.virtual_memory().total
    for name, peak in peaks.items():
        resources = sweep.settings.resources.of(name)
        demand = Demand.of(resources)
        at_a_time = cluster.capacity.num_trials(demand, sweep.settings.search.concurrent)
        needed = at_a_time * resources.workers * peak.process
        if needed > total:
            yield sweep.document.error(
                f"{at_a_time} trials of {name} at a time need about {shown_bytes(needed)} of "
                f"memory, and this machine has {shown_bytes(total)}",
                key="resources",
                remedy="a smaller search.concurrent, micro_batch or max_length, or "
                "activation_checkpointing",
            )
        if peak.gpu:
            import torch

            room = torch.cuda.get_device_properties(0).total_memory * resources.gpus_per_worker
            if peak.gpu > room:
                yield sweep.document.error(
                    f"a trial of {name} needs about {shown_bytes(peak.gpu)} of GPU memory, and "
                    f"its share of a GPU has {shown_bytes(room)}",
                    key="resources",
                    remedy="a smaller micro_batch, activation_checkpointing, bf16-mixed, or more "
                    "workers with zero_stage 2 or 3",
                )


def _memory(
    stage: Stage,
    model: ModelFacts,
    arithmetic: Arithmetic,
    sweep: SweepSpec,
    name: str,
    seconds: float = math.inf,
) -> PeakMemory:
    return peak_memory(
        stage.kind,
        stage.settings,
        stage.num_examples,
        model,
        arithmetic.trained_text(stage.settings, model.name),
        sweep.settings.resources.of(name),
        seconds=seconds,
        progress=sweep.settings.progress,
    )


def _missing(path: StagePath, in_store: set[str]) -> tuple[str, ...]:
    """Keys of the stages after the last one of a path that is in the store."""
    keys = [stage.key for stage in stages_to_run(path)]
    deepest = max((index for index, key in enumerate(keys) if key in in_store), default=-1)
    return tuple(keys[deepest + 1 :])


def _name_of(root: Stage) -> str:
    """The model as ``resources.by_model`` names it."""
    return root.label.partition(" (")[0].partition("@")[0]


def _devices(resources: Resources) -> float:
    """GPUs of a trial, or CPUs if it has none."""
    return resources.workers * (resources.gpus_per_worker or resources.cpus_per_worker)


def _device_h(outcome: Outcome, devices: Sequence[float]) -> float:
    return (
        sum(busy_s * number for busy_s, number in zip(outcome.busy_s, devices, strict=True)) / 3600
    )


def _by_trial(jobs: Sequence[Job], seconds: Mapping[str, float]) -> dict[str, float]:
    return {key: seconds[key.partition(" ")[2]] for job in jobs for key in job.stages}


Draw = tuple[Mapping[str, float], Sequence[float]]
"""Seconds of each stage by key, and of each trial besides its stages."""


def _draws(
    throughput: Throughput, works: Mapping[str, Work], start: Mapping[int, Work], num_stages: int
) -> list[Draw]:
    """Possible times, drawn together; the first are the medians."""
    fewest, most = DRAWS
    number = min(max(DRAWN_STAGES // max(num_stages, 1), fewest), most)
    unique = list(dict.fromkeys([*works.values(), *start.values()]))
    place = {work: index for index, work in enumerate(unique)}
    all_works = [*works.values(), *start.values()]
    times = throughput.draw(unique, number)[:, [place[work] for work in all_works]]
    times = (times * throughput.scatter(all_works, number)).tolist()
    return [(dict(zip(works, row, strict=False)), row[len(works) :]) for row in times]


def _unknown(throughput: Throughput, works: Sequence[Work], plan: Plan) -> Iterator[str]:
    """What an estimate rests on besides measured stages, in plain words."""
    if not works:
        return
    devices = sorted({work.maker.device for work in works if not throughput.knows_device(work)})
    if devices:
        yield (
            f"no stage in the store was made on {' or '.join(devices)}: its speed is a guess, "
            "for which the interval is wide (--probe measures it)"
        )
    else:
        new = sum(not throughput.knows(work) for work in works)
        if new:
            yield f"{new} of {len(works)} stages have a shape that was not measured yet"
    assumed = sum(not work.is_measured for work in works)
    if assumed:
        yield (
            f"texts of {assumed} stages were not measured: rows are assumed to fill "
            f"{100 * ASSUMED_SHARE:.0f} % of max_length"
        )
    if plan.is_stopped_early:
        yield "early_stop is not foreseen: an upper bound"
