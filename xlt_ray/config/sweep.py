"""A whole sweep: the searchable trial, and everything that decides how it is searched.

:func:`load_sweep` reads a file and checks its form; :mod:`xlt_ray.config.checks.check_sweep` checks
it against facts about models and data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from xlt_ray.config.defaults import space_with_defaults
from xlt_ray.config.first_points import misplaced, read_point
from xlt_ray.config.measures import (
    ConstraintText,
    constraint,
    measure_name,
    measure_named,
)
from xlt_ray.config.methods import ConfigModel
from xlt_ray.config.places import place_faults, with_absolute_paths
from xlt_ray.config.progress_settings import ProgressSettings
from xlt_ray.config.resources import Resources
from xlt_ray.config.retry_policy import Failures
from xlt_ray.config.search_space import (
    Assignment,
    Choice,
    ModelBounds,
    Space,
    Value,
    distributions_in,
    draw,
    not_listable,
    plain,
    probes,
    split_space,
)
from xlt_ray.config.seed_race import (
    Fidelity,
    NumberOrRace,
    Rung,
    fidelity_rungs,
    num_trials,
    seed_levels,
    seed_rungs,
)
from xlt_ray.config.trial import Target, TrialSpec, each_once
from xlt_ray.config.validation import explain_errors
from xlt_ray.config.yaml import Document, Overrides, read_document
from xlt_ray.errors import SpecError, SpecErrors

_PREFIXES = "kMGTP"


def _whole_size(value: Any, read: ValidatorFunctionWrapHandler) -> int:
    # ByteSize alone takes True, and the beginning of "1,5 GB", for one byte.
    if not isinstance(value, bool) and re.fullmatch(r"\s*[0-9.]+\s*[A-Za-z]*\s*", str(value)):
        with suppress(ValidationError):
            return int(read(value))
    raise ValueError("expected a size such as 200GB or 1.5TiB")


Bytes = Annotated[ByteSize, Field(gt=0), WrapValidator(_whole_size)]
"""``200GB``, ``1.5 TiB``, or a number of bytes."""


def shown_bytes(num_bytes: float) -> str:
    """A size in decimal units.

    >>> shown_bytes(0), shown_bytes(1_536), shown_bytes(200e9)
    ('0 B', '1.54 kB', '200 GB')
    """
    for prefix in ("", *_PREFIXES[:-1]):
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {prefix}B"
        num_bytes /= 1000
    return f"{num_bytes:.3g} {_PREFIXES[-1]}B"


DEFAULT_SOURCE = str(Target.model_fields["source_language"].default)
SEARCHABLE = ("model", "align", "intermediate", "target", "few_shot", "evaluate")

_DEEP = {"num_layers": 10**6, "hidden_size": 10**6}
"""Facts of a model that every range fits, for sweeps whose models are not known."""
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


def selection_rule(sweep: Mapping[str, Any], source: str = "the source language") -> str:
    """How a resolved sweep selects its best configuration.

    >>> selection_rule({"objective": {"metric": "accuracy", "languages": "target"}})
    'chosen by accuracy on the dev sets of the target languages'
    """
    objective = sweep["objective"]
    languages = objective["languages"]
    names = languages if isinstance(languages, str) else ", ".join(languages)
    where = {
        "source": f"dev set of {source}",
        "target": "dev sets of the target languages",
        "all": "dev sets of all languages",
    }.get(names, f"dev sets of {names}")
    rule = f"chosen by {objective['metric']} on the {where}"
    if also := objective.get("also"):
        rule += f" among the Pareto front with {', '.join(also)}"
    if constraints := sweep.get("constraints"):
        rule += f", where {' and '.join(constraints)}"
    return rule


def modes_of(objective: Mapping[str, Any]) -> list[str]:
    """``max`` or ``min`` of every objective of a resolved sweep.

    >>> modes_of({"mode": "max", "also": ["worst_language", "gpu_hours"]})
    ['max', 'max', 'min']
    """
    mode = str(objective["mode"])
    also = (measure_named(name) for name in objective["also"])
    return [mode, *(mode if measure.is_score else "min" for measure in also)]


def reads_target_labels(resolved: Mapping[str, Any]) -> bool:
    """Whether objectives or constraints read labels of target languages."""
    objective, target = resolved["objective"], resolved["space"].get("target") or {}
    source = None if "choice" in target else target.get("source_language", DEFAULT_SOURCE)
    names = [*objective.get("also", ())]
    names += [constraint(text).measure for text in resolved.get("constraints", ())]
    return objective["languages"] != "source" or any(
        measure_named(name, source).reads_targets for name in names
    )


def is_judged_by_oracle(resolved: Mapping[str, Any]) -> bool:
    """:attr:`SweepSpec.is_judged_by_oracle` of a sweep as a ledger keeps it."""
    return bool(resolved.get("early_stop")) and resolved["objective"]["languages"] != "source"


def is_name(text: str) -> bool:
    """Whether a sweep may have this name, which becomes part of files, jobs and URLs.

    >>> [is_name(text) for text in ("size-2", "../../x", "a/b", ".hidden", "x\\n", "")]
    [True, False, False, False, False, False]
    """
    return _NAME.fullmatch(text) is not None


class Objective(ConfigModel):
    """The number that the search maximises (or minimises)."""

    metric: str = "accuracy"
    """A metric of the target task."""
    split: Literal["dev"] = "dev"
    languages: Literal["source", "target", "all"] | tuple[str, ...] = "source"
    """Languages of the average; anything but ``source`` is *oracle selection*."""
    mode: Literal["max", "min"] = "max"
    """Whether high or low scores are better."""

    @field_validator("split", mode="before")
    @classmethod
    def _dev_only(cls, split: Any) -> Any:
        if split == "test":
            raise ValueError("an objective that reads test scores selects on the test set; use dev")
        return split

    also: tuple[Annotated[str, BeforeValidator(measure_name)], ...] = ()
    """Further objectives, as ``objective: [{metric: ...}, worst_language, gpu_hours]`` names them:
    scores are to be high, as ``mode`` says, and costs low. The first objective selects."""

    _each_once = field_validator("languages")(each_once)

    @field_validator("also")
    @classmethod
    def _others_once(cls, also: tuple[str, ...]) -> Any:
        return each_once(also) if also else also


def _first_and_others(objective: Any) -> Any:
    """A list of objectives as the first one with the names of the others."""
    if not isinstance(objective, list | tuple):
        return objective
    first, *others = objective or [None]
    first = {} if first == "source" else first
    if not isinstance(first, Mapping):
        raise ValueError(
            "the first of several objectives must be source or a block such as {metric: accuracy}"
        )
    return {**first, "also": others}


SamplerName = Literal["tpe", "gp", "cmaes", "nsgaii", "auto", "random", "qmc", "grid", "brute"]


@dataclass(frozen=True)
class Sampler:
    """How configurations are chosen."""

    name: SamplerName
    implementation: str
    """``module:object``: made with ``seed`` for each configuration, a sampler of Optuna."""
    learns: bool = False
    """Whether it uses scores: few trials are then asked for in advance, and a plan estimates."""


SAMPLERS: Mapping[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("tpe", "xlt_ray.ledger.samplers:Tpe", learns=True),
        Sampler("gp", "xlt_ray.ledger.samplers:gp", learns=True),
        Sampler("cmaes", "xlt_ray.ledger.samplers:CmaEs", learns=True),
        Sampler("nsgaii", "xlt_ray.ledger.samplers:NsgaII", learns=True),
        Sampler("auto", "xlt_ray.ledger.samplers:Auto", learns=True),
        Sampler("random", "optuna.samplers:RandomSampler"),
        Sampler("qmc", "xlt_ray.ledger.samplers:Qmc"),
        # Goes through the space in order, and draws only around points to try first.
        Sampler("grid", "optuna.samplers:RandomSampler"),
        # Without real numbers in the space, random draws that repeat nothing try everything.
        Sampler("brute", "optuna.samplers:RandomSampler"),
    )
}


class Search(ConfigModel):
    model_config = ConfigDict(serialize_by_alias=True)

    sampler: SamplerName = "tpe"
    """How configurations are chosen, see docs/search.md#samplers."""
    trials: int = Field(ge=1)
    """Configurations to try; a grid ends earlier when it is complete."""
    seeds: NumberOrRace = 1
    """Trials of each configuration, which differ only in their seed; or a race, in which better
    configurations get more: ``{race: {first: 1, most: 8, keep: 3}}``."""
    fidelity: Fidelity | None = None
    """Try configurations with a small value of a parameter first, the better ones with the next
    one: ``{over: intermediate.size, keep: 3}``."""
    seed: int = 0
    """Seed of the sampler: which configurations are tried. No training depends on it."""
    training_seed: int = 0
    """Seed of stages that repeats share; repeat r uses training_seed + r for the others."""
    concurrent: int | None = Field(default=None, ge=1)
    """Trials at a time, by default as many as fit on the cluster; an autoscaler starts nodes for
    all of them."""
    cost_aware: bool = False
    """Prefer configurations that go on from stages which earlier trials of this sweep make, where
    that promises more improvement per example; for samplers that learn."""
    first: tuple[dict[str, Any], ...] = ()
    """Points to try before the sampler: dotted keys with their values, blocks as in the file, for
    example ``{target.fusion: {method: dlfa, layer: 2}}``."""
    from_: tuple[str, ...] = Field(default=(), alias="from")
    """Sweeps of this home whose finished trials the sampler knows from the beginning, as far as
    this sweep would make the same stages. They do not count as trials of this sweep."""

    @field_validator("cost_aware")
    @classmethod
    def _uses_scores(cls, cost_aware: bool, info: ValidationInfo) -> bool:
        sampler = info.data.get("sampler", "tpe")
        if cost_aware and not SAMPLERS[sampler].learns:
            raise ValueError(f"needs a sampler that learns from scores, and {sampler} does not")
        return cost_aware

    @property
    def most_seeds(self) -> int:
        """The most trials that a configuration gets."""
        return seed_levels(self.seeds)[-1]


class AshaStop(ConfigModel):
    """Asynchronous successive halving (arXiv 1810.05934) in the target stage.

    The first repeats of configurations compete, each at the same share of its training; the other
    repeats of those that come through run to their end.
    """

    method: Literal["asha"]
    grace: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Share of its training before a trial can be stopped: the lowest rung."""
    grace_examples: int | None = Field(default=None, ge=1)
    """The same as examples of the shortest target training of the sweep; longer ones have the same
    share."""
    reduction: int = Field(default=3, ge=2)
    """Of the trials that reach a rung, one in this many continues."""

    @model_validator(mode="after")
    def _one_grace(self) -> AshaStop:
        if (self.grace is None) == (self.grace_examples is None):
            raise ValueError("needs either grace or grace_examples")
        return self


class Budget(ConfigModel):
    """A trial starts if it can finish inside the budget. When the budget is used up, running trials
    save their progress and end; they continue with a larger budget."""

    gpu_hours: float | None = Field(default=None, gt=0)
    """Most GPU-hours for which trials may hold GPUs. The whole life of their processes counts,
    failed attempts included. Trials without GPUs count nothing; limit such a sweep by hours."""
    hours: float | None = Field(default=None, gt=0)
    """Most hours after the first trial started."""
    confirm_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of both that the sweep leaves for xlt confirm."""

    @model_validator(mode="after")
    def _share_of_something(self) -> Budget:
        if self.confirm_share and self.gpu_hours is None and self.hours is None:
            raise ValueError("confirm_share needs gpu_hours or hours")
        return self


class Store(ConfigModel):
    """Limits of the stage store."""

    quota: Bytes | None = None
    """Most bytes in the store, for example 200GB or 1.5TiB; no limit by default."""


class Places(ConfigModel):
    """Where things are kept outside the home."""

    ledger: str | None = None
    """Optuna storage URL, for example postgresql://...; by default a journal file in the home."""
    store: str | None = None
    """Folder or fsspec URL of the stage store."""
    tracking: str | None = None
    """MLflow tracking URI; by default SQLite in the home."""


def is_url(text: str) -> bool:
    """Whether a destination is a URL, and not a command.

    >>> is_url("https://ntfy.sh/my-sweeps"), is_url("mail -s done ada@example.org")
    (True, False)
    """
    return text.lower().startswith(("http://", "https://"))


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _destination(text: str) -> str:
    scheme = text.partition("://")[0]
    if not text.strip():
        raise ValueError("is empty; write a URL or a command")
    if is_url(text) and not urlsplit(text).netloc:
        raise ValueError(f"{text} names no server")
    if scheme.isalnum() and scheme != text and not is_url(text):
        raise ValueError(f"{scheme}:// cannot get a POST; write http:// or https://, or a command")
    return text


Destination = Annotated[str, AfterValidator(_destination)]


class Settings(ConfigModel):
    """The part of a sweep file that is not searched over."""

    name: str
    """Names the sweep in the home, in MLflow and in commands."""
    objective: Annotated[
        Objective,
        BeforeValidator(
            _first_and_others,
            json_schema_input_type=Objective | tuple[Objective | str, *tuple[str, ...]],
        ),
    ] = Objective()
    """The score that the search improves; or a list, whose first one selects."""
    constraints: tuple[ConstraintText, ...] = ()
    """Bounds that the selected configuration keeps, for example ``[en >= 0.8, gpu_hours <= 4]``."""
    search: Search
    """Which configurations are tried, and with how many seeds."""
    early_stop: AshaStop | None = None
    """Which trials end early; none without it."""
    resources: Resources = Resources()
    """What one trial occupies, and the precision of its arithmetic."""
    budget: Budget = Budget()
    """Most hours for the whole sweep."""
    progress: ProgressSettings = ProgressSettings()
    """How often a training saves its progress."""
    failures: Failures = Failures()
    """What is tried again, how often and when."""
    store: Store = Store()
    """Limits of the folder of finished stages."""
    places: Places = Places()
    """Where results, ledgers and MLflow are, if not in the home."""
    notify: Annotated[tuple[Destination, ...], BeforeValidator(_one_or_several)] = ()
    """URLs that get a JSON POST, and commands of the shell, at the first failure of each cause, at
    the end and when the budget is used up. $NAME is a variable of the driver's environment."""

    @field_validator("name", mode="before")
    @classmethod
    def _safe_name(cls, name: Any) -> Any:
        if isinstance(name, str) and not is_name(name):
            raise ValueError("a name consists of at most 80 letters, digits, '-', '_' and '.'")
        return name


@dataclass(frozen=True)
class SweepSpec:
    """A sweep as read: typed settings, and the space of its trials."""

    settings: Settings
    space: Space

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def document(self) -> Document:
        return self.space.document

    def setting(self, key: str) -> Any:
        """The value of a setting, for example ``search.trials``."""
        block, _, name = key.partition(".")
        return getattr(getattr(self.settings, block), name)

    def with_setting(self, key: str, value: Any) -> SweepSpec:
        """The same sweep with another value, which is not checked, of a setting."""
        block, _, name = key.partition(".")
        changed = getattr(self.settings, block).model_copy(update={name: value})
        return replace(self, settings=self.settings.model_copy(update={block: changed}))

    @cached_property
    def is_oracle(self) -> bool:
        """Whether objectives or constraints read target-language labels."""
        return reads_target_labels(self.resolved())

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what further objectives and constraints measure."""
        constrained = (each.measure for each in self.settings.constraints)
        return tuple(dict.fromkeys([*self.settings.objective.also, *constrained]))

    @property
    def is_judged_by_oracle(self) -> bool:
        """Whether early stopping reads them, too."""
        is_oracle = self.settings.objective.languages != "source"
        return self.settings.early_stop is not None and is_oracle

    @property
    def has_few_shot(self) -> bool:
        """Whether trials may be trained on a few labels of a target language."""
        return self.space.tree.get("few_shot") is not None

    @cached_property
    def first_points(self) -> tuple[Assignment, ...]:
        """The parameters that each point of ``search.first`` names, with their values."""
        return tuple(read_point(point, self.space).values for point in self.settings.search.first)

    @property
    def most_trials(self) -> int:
        """All trials if they all complete and the space has enough configurations."""
        return num_trials(self.rungs(self.settings.search.trials))

    @cached_property
    def fidelity_values(self) -> tuple[Value, ...]:
        """Values of the parameter of ``search.fidelity``, one for each rung; empty without it."""
        fidelity = self.settings.search.fidelity
        return () if fidelity is None else _options(plain(self.space.tree), fidelity.over)

    def rungs(self, num_configurations: int) -> tuple[Rung, ...]:
        """Which trials so many configurations get."""
        return rungs_of(self.resolved(), num_configurations)

    def at_rung(self, assignment: Mapping[str, Value], rung: int) -> Assignment:
        """An assignment, complete or not, with the value that configurations have at a rung."""
        changed, fidelity = dict(assignment), self.settings.search.fidelity
        if fidelity is not None:
            changed[fidelity.over] = self.fidelity_values[rung]
        return changed

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """Sizes of intermediate data that trials may train on."""
        sizes = (
            size
            for path, node in distributions_in(self.space.tree)
            if path == "intermediate.size" and isinstance(node, Choice)
            for size in node.options
        )
        return tuple(dict.fromkeys(sizes))

    def trial(self, tree: Mapping[str, Any]) -> TrialSpec:
        """The concrete trial of a drawn tree; SpecErrors if it is not a valid one."""
        filled = {**tree, "precision": self.settings.resources.precision}
        if self.is_oracle and isinstance(filled.get("evaluate", {}), Mapping):
            filled["evaluate"] = {"dev": "all", **filled.get("evaluate", {})}
        try:
            return TrialSpec.model_validate(filled)
        except ValidationError as error:
            raise SpecErrors(explain_errors(error, TrialSpec, self.document)) from None

    def trial_of(
        self, assignment: Assignment, model_bounds: ModelBounds | None = None
    ) -> TrialSpec:
        """The concrete trial of an assignment."""
        tree, _ = draw(self.space, lambda parameter: assignment[parameter.path], model_bounds)
        return self.trial(tree)

    def tree(self) -> dict[str, Any]:
        """The whole sweep as a sweep file has it, with the defaults of what is not searched."""
        return {**self.settings.model_dump(mode="json"), **plain(self.space.tree)}

    def tree_with_defaults(self) -> dict[str, Any]:
        """:meth:`tree` with all defaults in the searchable sections, too."""
        space = space_with_defaults(plain(self.space.tree))
        return {**self.settings.model_dump(mode="json"), **space}

    def resolved(self) -> dict[str, Any]:
        """The whole sweep as plain JSON: what is kept beside the ledger."""
        return {**self.settings.model_dump(mode="json"), "space": plain(self.space.tree)}


def rungs_of(resolved: Mapping[str, Any], num_configurations: int) -> tuple[Rung, ...]:
    """Which trials so many configurations of a resolved sweep get."""
    seeds, fidelity = resolved["search"]["seeds"], resolved["search"]["fidelity"]
    if fidelity is None:
        return seed_rungs(seeds, num_configurations)
    num_values = len(_options(resolved["space"], fidelity["over"]))
    return fidelity_rungs(fidelity["keep"], num_values, seeds, num_configurations)


def _options(node: Any, path: str) -> tuple[Value, ...]:
    """The options of the choice at a dotted path of a plain tree, inside of other options too."""
    if not isinstance(node, Mapping):
        return ()
    if "choice" in node:
        inside = (_options(option, path) for option in node["choice"])
        return next(filter(None, inside), ()) if path else tuple(node["choice"])
    key, _, rest = path.partition(".")
    return _options(node.get(key), rest)


def completed(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved sweep that an earlier xlt-ray wrote, with the keys that were added later."""
    # ``search.seed`` was both before there was a ``search.training_seed``.
    search = {"training_seed": resolved["search"]["seed"], **resolved["search"]}
    defaults = Settings(name=resolved["name"], search=Search(trials=search["trials"]))
    return _filled({**resolved, "search": search}, defaults.model_dump(mode="json"))


def _filled(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with the defaults of what it lacks, at every depth."""
    filled = {**defaults, **tree}
    for key, value in tree.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(key), Mapping):
            filled[key] = _filled(value, defaults[key])
    return filled


def load_sweep(sweep: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> SweepSpec:
    """Read a sweep from a file or a dict, apply overrides, and check its form.

    Relative paths start at the working folder of this process. Overrides are ``KEY=VALUE`` texts,
    or a dict of dotted keys: ``{"search.trials": 8}``. Every value of every distribution, and every
    pair of values, is tried in a concrete trial.

    Raises:
        SpecErrors: with all problems of the form.
    """
    return sweep_of(with_absolute_paths(read_document(sweep, overrides)))


def sweep_of(document: Document) -> SweepSpec:
    """As :func:`load_sweep`, from a parsed document."""
    searched = ("data", *SEARCHABLE)
    fixed = {key: value for key, value in document.tree.items() if key not in searched}
    settings = Settings(name="unnamed", search=Search(trials=1))
    space: Space | None = None
    problems: list[SpecError] = []
    try:
        space = split_space(document, searched, fixed=("data",))
    except SpecErrors as errors:
        problems += errors.problems
    try:
        settings = Settings.model_validate(fixed)
    except ValidationError as error:
        known = {problem.fields["key"] for problem in problems}
        faults = explain_errors(error, Settings, document, also=searched)
        problems += [fault for fault in faults if fault.fields["key"] not in known]
    if space is None:
        raise SpecErrors(problems)
    problems += [
        document.error(problem, key=key, remedy=remedy)
        for key, problem, remedy in (*settings.resources.faults(), *place_faults(settings.places))
    ]
    if settings.name in settings.search.from_:
        problems.append(
            document.error(
                "a sweep cannot start from itself",
                key="search.from",
                remedy="to continue a sweep run it again; to start anew give this one another name",
            )
        )
    if settings.objective.also and len(seed_levels(settings.search.seeds)) > 1:
        problems.append(
            document.error(
                "a race of seeds compares configurations by one objective",
                key="search.seeds",
                remedy="give a number, or one objective and constraints",
            )
        )
    problems += [
        document.error(problem, key=f"search.{key}", remedy=remedy)
        for key, problem, remedy in _fidelity_faults(settings, space)
    ]
    if settings.early_stop is not None and settings.objective.also:
        problems.append(
            document.error(
                "a training that is behind in one objective may be ahead in another at its end",
                key="early_stop",
                remedy="leave it out, or give one objective and constraints",
            )
        )
    if settings.objective.also and settings.search.sampler == "cmaes":
        problems.append(
            document.error(
                "cmaes knows one objective",
                key="search.sampler",
                remedy="use tpe, nsgaii or gp, or give one objective and constraints",
            )
        )
    sweep = SweepSpec(settings, space)
    if settings.search.sampler in ("grid", "brute"):
        problems += not_listable(space)
    problems += form_problems(sweep)
    problems += point_problems(sweep, None if problems else lambda _: _DEEP, is_deep=True)
    if problems:
        raise SpecErrors(problems)
    return sweep


def _fidelity_faults(settings: Settings, space: Space) -> Iterator[tuple[str, str, str]]:
    """What is wrong with ``search.fidelity``: key below ``search``, problem, remedy."""
    search, fidelity = settings.search, settings.search.fidelity
    if fidelity is None:
        return
    over = fidelity.over
    found = [node for path, node in distributions_in(space.tree) if path == over]
    values = found[0].labels() if len(found) == 1 and isinstance(found[0], Choice) else ()
    numbers = [value for value in values if type(value) is int]
    if len(values) < 2 or list(values) != sorted(numbers):
        remedy = f"{over}: {{choice: [1, 2, 4]}} with values of yours"
        yield "fidelity.over", f"{over} is not one choice of increasing whole numbers", remedy
    elif any(over not in assignment for _, assignment in probes(space, lambda _: _DEEP)):
        yield (
            "fidelity.over",
            f"some configurations have no {over}, so they cannot be compared with the others",
            f"leave out the options without {over.partition('.')[0]}",
        )
    if any(over in point for point in search.first):
        yield (
            "first",
            f"a point cannot set {over}, which begins with its first value",
            "leave it out",
        )
    if not isinstance(search.seeds, int):
        yield "seeds", "a race of seeds and a fidelity exclude each other", "give a number"
    if settings.objective.also:
        yield "fidelity", "it compares configurations by one objective", "leave it out"
    if settings.early_stop is not None:
        yield (
            "fidelity",
            "early_stop would compare trainings of different rungs",
            "leave out one of the two",
        )


def form_problems(sweep: SweepSpec) -> list[SpecError]:
    """The problems of every probe of the space, for models that are deep enough for all bounds."""
    unique: dict[str, SpecError] = {}
    try:
        for tree, _ in probes(sweep.space, lambda _: _DEEP):
            try:
                sweep.trial(tree)
            except SpecErrors as errors:
                unique.update({str(problem): problem for problem in errors.problems})
    except SpecError as fault:
        # Bounds may name facts of a model.
        is_missing = "model" not in sweep.space.tree
        missing = sweep.document.error("is missing", key="model", remedy="a name or a folder")
        unique[str(fault)] = missing if is_missing else fault
    return list(unique.values())


def point_problems(
    sweep: SweepSpec, model_bounds: ModelBounds | None, *, is_deep: bool = False
) -> list[SpecError]:
    """What is wrong with the points of ``search.first``.

    Args:
        model_bounds: None if the space has faults, so that points cannot be placed in it.
        is_deep: as in :func:`xlt_ray.config.first_points.misplaced`.
    """
    problems = []
    for number, entry in enumerate(sweep.settings.search.first):
        point = read_point(entry, sweep.space)
        faults = list(point.faults)
        if not faults and model_bounds is not None:
            faults += misplaced(point, sweep.space, model_bounds, is_deep=is_deep)
        problems += [
            sweep.document.error(problem, key=f"search.first.{number}.{key}", remedy=remedy)
            for key, problem, remedy in faults
        ]
    return problems
