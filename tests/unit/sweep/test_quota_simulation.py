"""Simulated sweeps under a quota: never above it, and nothing is removed that is needed later."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_ray.ledger import StageUse, State, TrialView
from xlt_ray.store.gc import GcRoots, StoreEntry, plan
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import StagePath, stages_to_run
from xlt_ray.sweep.quota import StoreSizes, SweepUse, gc_roots, growth_of, still_needed

WEIGHTS, SCORES = 1000, 3
PROGRESS = 3 * WEIGHTS
MODEL = Stage("model", {}, {}, 0, None, "model")
SIZE = {"align": WEIGHTS, "trunk": PROGRESS, "intermediate": WEIGHTS, "target": WEIGHTS,
        "evaluate": SCORES}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One sweep to be simulated."""

    num_configurations: int
    num_prefixes: int
    seeds: int
    concurrent: int
    has_align: bool
    has_trunk: bool
    is_real: bool
    """Whether a real-valued range decides the intermediate stage: no two configurations share."""
    slack: int
    random_seed: int

    def prefix(self, configuration: int) -> int:
        return configuration if self.is_real else configuration % self.num_prefixes

    def path(self, configuration: int, repeat: int) -> StagePath:
        stages = [MODEL]
        kinds = ["align"] * self.has_align + ["trunk"] * self.has_trunk + ["intermediate"]
        for kind in kinds:
            parameter = {"align": 0, "trunk": self.prefix(configuration) // 2}.get(
                kind, self.prefix(configuration)
            )
            stages.append(_stage(kind, parameter, stages[-1]))
        stages.append(_stage("target", (configuration, repeat), stages[-1]))
        stages.append(_stage("evaluate", 0, stages[-1]))
        return tuple(stages)

    @property
    def minimal_bytes(self) -> int:
        """Bytes at one moment: the shared stages, one target in training, the best one."""
        inner = SIZE["trunk"] * self.has_trunk + SIZE["intermediate"]
        prefixes = min(self.concurrent + 1 if self.is_real else self.num_prefixes,
                       self.num_configurations)  # fmt: skip
        trials = self.num_configurations * self.seeds
        training = 2 * PROGRESS + WEIGHTS
        return SIZE["align"] + inner * (prefixes + 1) + training + WEIGHTS + trials * SCORES


def _stage(kind: Any, value: object, parent: Stage) -> Stage:
    return Stage(kind, {"value": list(value) if isinstance(value, tuple) else value}, {}, 0, parent,
                 kind, 1)  # fmt: skip


@dataclass
class Running:
    """A running trial; ``making`` is the stage whose lease it holds."""

    number: int
    path: StagePath
    making: Stage | None = None


@dataclass
class Simulation:
    """Store, ledgers and driver of one simulated sweep, with the checks at every step."""

    setting: Setting
    quota: int
    entries: dict[str, StoreEntry] = field(default_factory=dict)
    views: list[TrialView] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    waiting: list[Running] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    is_stopped: bool = False
    clock: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.setting.random_seed)
        self.sizes = StoreSizes(weights={MODEL.key: WEIGHTS})
        self.sizes.stages[MODEL.key, "evaluate"] = SCORES
        self.coming = [
            (configuration, repeat)
            for configuration in range(self.setting.num_configurations)
            for repeat in range(self.setting.seeds)
        ]
        self.other = _other_sweep()
        for unrelated in _unrelated():
            self.entries[unrelated.place] = unrelated
        self.protected = {place for place in self.entries if "other" in place}

    # -- the driver -------------------------------------------------------------------

    def run(self) -> None:
        while not self.is_stopped and (self.running or self.waiting or self.coming):
            event = self.random.random()
            if event < 0.4 and len(self.running) < self.setting.concurrent:
                self.start()
            elif event < 0.43:
                self.die()
            elif self.running:
                trial = self.random.choice(self.running)
                self.end(trial, "failed") if event > 0.97 else self.advance(trial)

    def start(self) -> None:
        being_made = {self.missing(trial)[0].key for trial in self.running if self.missing(trial)}
        while True:
            for trial in self.waiting:
                if not {stage.key for stage in self.missing(trial)[:1]} & being_made:
                    if self.free_space([*self.running, trial]):
                        self.waiting.remove(trial)
                        self.running.append(trial)
                    elif not self.running:
                        self.is_stopped = True
                    return
            if not self.coming or len(self.waiting) >= 8:
                return
            self.ask()

    def ask(self) -> None:
        configuration, repeat = self.coming.pop(0)
        number = len(self.views)
        parameters = {"intermediate.learning_rate": 0.1} if self.setting.is_real else {}
        path = self.setting.path(configuration, repeat)
        keys = tuple(stage.key for stage in stages_to_run(path))
        self.views.append(
            view(number, "running", configuration, repeat, parameters=parameters, path=keys)
        )
        self.waiting.append(Running(number, path))

    def free_space(self, working: list[Running]) -> bool:
        """As :class:`QuotaManager`, from the same pure functions."""
        others = [trial for trial in self.waiting if trial not in working]
        paths = [trial.path for trial in working]
        entries = tuple(self.entries.values())
        self.sizes.learn(entries, paths)
        growth = growth_of(paths, entries, self.sizes)
        roots = gc_roots([self.use(), self.other], own="own")
        wanted = plan(entries, roots, quota_bytes=self.quota, needed_bytes=growth)
        chosen = plan(entries, roots, quota_bytes=self.quota) if wanted.missing_bytes else wanted
        for removal in chosen.removals:
            self.check(removal.entry, [*working, *others])
            del self.entries[removal.entry.place]
        return self.used + growth <= self.quota

    def made_twice(self) -> set[str]:
        """Kinds of stages that were made more than once."""
        kinds = {
            stage.key: stage.kind
            for view in self.views
            for stage in self.setting.path(view.configuration, view.repeat)
        }
        return {kinds[key] for key, number in self.made.items() if number > 1}

    def use(self) -> SweepUse:
        complete = [view for view in self.views if view.state == "complete"]
        best = max(complete, key=lambda trial: trial.objective or 0.0, default=None)
        return SweepUse(
            "own",
            tuple(self.views),
            self.setting.num_configurations,
            self.setting.seeds,
            best=None if best is None else best.number,
            continuous_parameters=frozenset({"intermediate.learning_rate"}),
            is_running=True,
        )

    def die(self) -> None:
        """The driver and all its trials are killed; another driver takes them up."""
        for trial in self.running:
            if trial.making is not None:
                self.hold(trial.making, "")
        self.waiting = [replace(trial, making=None) for trial in [*self.running, *self.waiting]]
        self.running = []

    # -- the trials -------------------------------------------------------------------

    def advance(self, trial: Running) -> None:
        missing = self.missing(trial)
        if not missing:
            self.end(trial, "complete")
            return
        stage = missing[0]
        if any(other.making == stage for other in self.running if other is not trial):
            return
        above = trial.path[trial.path.index(stage) - 1]
        assert above.is_pretrained or above.key in self.present, "a stage has its parent"
        trial.making = stage
        self.hold(stage, "trial")
        if stage.is_training and self.random.random() < 0.5:
            self.save(stage)
        elif stage.kind == "target" and self.random.random() < 0.1:
            self.end(trial, "pruned")
        else:
            self.commit(trial, stage)

    def save(self, stage: Stage) -> None:
        """New progress is written whole before the old one is dropped."""
        place = f"progress/{stage.key}"
        before = self.entries.get(place)
        both = (before.state_bytes if before else 0) + PROGRESS
        self.put(StoreEntry("progress", place, stage.key, state_bytes=both, holder="trial"))
        self.put(StoreEntry("progress", place, stage.key, state_bytes=PROGRESS, holder="trial"))

    def commit(self, trial: Running, stage: Stage) -> None:
        state = 2 * WEIGHTS if stage.kind == "trunk" else 0
        parent = stage.parent.key if stage.parent else None
        self.put(
            StoreEntry("stage", f"stages/{stage.key}", stage.key, stage.kind, parent=parent,
                   state_bytes=state, other_bytes=SIZE[stage.kind] - state)
        )  # fmt: skip
        self.entries.pop(f"progress/{stage.key}", None)
        self.made[stage.key] += 1
        trial.making = None
        use = StageUse(stage.kind, stage.key, stage.kind, reused=False)
        reused = [
            StageUse(above.kind, above.key, above.kind, reused=True)
            for above in stages_to_run(trial.path)[: stages_to_run(trial.path).index(stage)]
            if above.key in self.present
        ]
        known = {noted.key: noted for noted in [*self.views[trial.number].stages, *reused, use]}
        self.views[trial.number] = replace(self.views[trial.number], stages=tuple(known.values()))
        self.free_space(self.running)

    def end(self, trial: Running, state: State) -> None:
        if trial.making is not None:
            self.hold(trial.making, "")
        self.running.remove(trial)
        objective = self.random.random() if state == "complete" else None
        view = self.views[trial.number]
        self.views[trial.number] = replace(view, state=state, objective=objective)

    def hold(self, stage: Stage, holder: str) -> None:
        place = f"progress/{stage.key}"
        if place in self.entries:
            self.entries[place] = replace(self.entries[place], holder=holder)

    # -- what must hold ---------------------------------------------------------------

    @property
    def used(self) -> int:
        return sum(entry.num_bytes for entry in self.entries.values())

    @property
    def present(self) -> set[str]:
        return {entry.key for entry in self.entries.values() if entry.sort == "stage"}

    def missing(self, trial: Running) -> list[Stage]:
        wanted = set(still_needed(trial.path, self.present)) - self.present
        return [stage for stage in stages_to_run(trial.path) if stage.key in wanted]

    def put(self, entry: StoreEntry) -> None:
        self.clock += 1
        self.entries[entry.place] = replace(entry, used=float(self.clock))
        self.peak = max(self.peak, self.used)
        assert self.used <= self.quota, "the store stays below its quota"

    def check(self, entry: StoreEntry, unfinished: list[Running]) -> None:
        best = self.use().best
        kept = {stage.key for stage in self.views[best].stages} if best is not None else set()
        assert not entry.holder, "a leased stage stays"
        assert entry.kind != "evaluate", "scores stay"
        assert entry.place not in self.protected, "stages of another sweep stay"
        assert not (entry.kind == "target" and entry.key in kept), "the best target stays"
        for trial in unfinished:
            needed = still_needed(trial.path, self.present)
            assert entry.key not in needed, "stages of unfinished trials stay"


def view(
    number: int, state: State, configuration: int = 0, repeat: int = 0, *,
    stages: tuple[StageUse, ...] = (), parameters: dict[str, float] | None = None,
    objective: float | None = None, path: tuple[str, ...] = (),
) -> TrialView:  # fmt: skip
    return TrialView(
        number=number, state=state, assignment=parameters or {}, configuration=configuration,
        repeat=repeat, seed=repeat, objective=objective, curve=(), attempts=1, cause=None,
        message="", log="", stages=stages, mlflow_run_id=None, retry_of=None, started=None,
        ended=None, path=path,
    )  # fmt: skip


def _other_sweep() -> SweepUse:
    """A sweep that was stopped: a best trial, and one that has noted a stage and runs."""
    uses = {
        name: StageUse(name.partition(" ")[0], f"other {name}", name, reused=False)
        for name in ("intermediate", "target best", "target running")
    }
    return SweepUse(
        "other",
        (
            view(0, "complete", 0, objective=1.0,
                 stages=(uses["intermediate"], uses["target best"])),
            view(1, "running", 1, stages=(uses["intermediate"],),
                 path=tuple(f"other {name}" for name in ("intermediate", "target running",
                                                         "progress"))),
        ),
        num_configurations=4,
        best=0,
    )  # fmt: skip


def _unrelated() -> list[StoreEntry]:
    """The store at the start: stages of the other sweep, and of no sweep."""
    return [
        *(
            StoreEntry("stage", f"stages/other {name}", f"other {name}", name.partition(" ")[0],
                   other_bytes=WEIGHTS)
            for name in ("intermediate", "target best", "target running")
        ),
        StoreEntry("progress", "progress/other progress", "other progress", state_bytes=PROGRESS),
        StoreEntry("damaged", "damaged/x", "x", other_bytes=WEIGHTS),
        StoreEntry("leftover", "scratch/results/x", "x", other_bytes=WEIGHTS),
        StoreEntry("leftover", "stages/other leased", "other leased", other_bytes=WEIGHTS,
               holder="process 1 on elsewhere"),
        StoreEntry("stage", "stages/nobody", "nobody", "target", other_bytes=WEIGHTS),
    ]  # fmt: skip


UNRELATED = sum(unrelated.num_bytes for unrelated in _unrelated())
NEEDED_UNRELATED = 4 * WEIGHTS + PROGRESS

SETTINGS = st.builds(
    Setting,
    num_configurations=st.integers(1, 7),
    num_prefixes=st.integers(1, 4),
    seeds=st.integers(1, 2),
    concurrent=st.integers(1, 3),
    has_align=st.booleans(),
    has_trunk=st.booleans(),
    is_real=st.booleans(),
    slack=st.integers(0, 8000),
    random_seed=st.integers(0, 10**6),
)


@settings(max_examples=500)
@given(SETTINGS)
def test_a_sweep_ends_below_a_quota_that_holds_its_working_set(setting: Setting) -> None:
    quota = setting.minimal_bytes + NEEDED_UNRELATED + setting.slack
    simulation = Simulation(setting, max(quota, UNRELATED))
    simulation.run()
    assert not simulation.is_stopped
    assert all(view.is_finished for view in simulation.views)
    assert len(simulation.views) == setting.num_configurations * setting.seeds
    assert simulation.peak <= simulation.quota
    assert not simulation.made_twice()
    for view in simulation.views:
        if view.state == "complete":
            scores = next(use.key for use in view.stages if use.kind == "evaluate")
            assert scores in simulation.present, "every score is there at the end"


@settings(max_examples=300)
@given(SETTINGS, st.floats(0.0, 1.0))
def test_a_sweep_stops_if_the_quota_is_too_small_and_never_exceeds_it(
    setting: Setting, share: float
) -> None:
    whole = setting.minimal_bytes + NEEDED_UNRELATED
    simulation = Simulation(setting, max(int(whole * share), UNRELATED))
    simulation.run()
    assert simulation.peak <= simulation.quota
    assert not simulation.made_twice()
    assert simulation.is_stopped or all(view.is_finished for view in simulation.views)


def test_without_a_quota_only_stages_without_a_ledger_are_freed() -> None:
    roots = gc_roots([_other_sweep()])
    freed = {removal.entry.place for removal in plan(_unrelated(), roots).removals}
    assert freed == {"damaged/x", "scratch/results/x", "stages/nobody"}


def test_nothing_is_freed_below_the_quota() -> None:
    assert not plan(_unrelated(), GcRoots(), quota_bytes=UNRELATED).removals
