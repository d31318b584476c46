"""What stages cost: their arithmetic from shapes, and its time from stages that were made before.

The time of a stage is the sum of three terms: what it takes whatever its length (loading, saving),
its steps, and its arithmetic. Each is first taken for what a usual machine would need
(:class:`Machine`). Real times differ by factors that are shared: by all stages of a device, of a
model, of a shape, of a sweep (its hour on a busy machine). The logarithms of the factors have
independent normal priors, wide for a device that nothing is known of, and :class:`Throughput` is
their posterior given the stages that the store has: known shapes are predicted by their own times,
unknown ones are drawn towards what they share with known ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt_ray.config.facts import Facts, ModelFacts
from xlt_ray.config.resources import Resources

Array = Any
"""A numpy array."""

PREDICTED = 0.15
"""Share of the pieces that masked LM predicts, over the whole vocabulary."""
ASSUMED_SHARE = 0.4
"""Pieces of a row, as a share of ``max_length``, where its text was not measured."""


class Machine(NamedTuple):
    """What is assumed of a device before anything is measured on it."""

    flops: float
    """Operations a second: of one thread of a CPU, of a whole GPU."""
    bytes: float
    """Bytes a second that the optimizer moves."""
    step_s: float
    """Overhead of a step."""
    load_s: float = 2.0
    """Of a stage, besides its weights."""
    disk: float = 2e8
    """Bytes a second of loading and saving."""
    trial_s: float = 4.0
    """Of a trial, besides its stages: its process starts, or is kept."""


CPU = Machine(flops=2.5e10, bytes=5e9, step_s=0.02)
GPU: Mapping[str, Machine] = {
    "fp32": Machine(flops=2.5e13, bytes=1.5e12, step_s=0.04),
    "tf32": Machine(flops=7e13, bytes=1.5e12, step_s=0.04),
    "bf16-mixed": Machine(flops=1.5e14, bytes=1.5e12, step_s=0.05),
    "bf16": Machine(flops=1.5e14, bytes=1.5e12, step_s=0.05),
}
"""A GPU of a data centre of 2020 or later; by precision."""


@dataclass(frozen=True)
class Text:
    """How long the examples of one split are."""

    mean: float
    """Pieces of an example."""
    longest: float
    """Pieces of the rows of the longest batch."""
    vocabulary: float
    """Different pieces in the whole split."""
    is_measured: bool = True

    def longest_of(self, num_batches: float) -> float:
        """Mean pieces of the rows of the longest of so many batches; a pool of 64 of them is sorted
        by length, and one batch alone has rows as they come.

        >>> [Text(50.0, 122.0, 1000).longest_of(number) for number in (1, 8, 64, 1000)]
        [50.0, 86.0, 122.0, 122.0]
        """
        share = min(math.log2(max(num_batches, 1)) / 6, 1.0)
        return min(self.mean, self.longest) * (1 - share) + self.longest * share


Texts = Mapping[tuple[str, str, str, str], Text]
"""Model, task, split and language -> its text, as far as it was measured."""


@dataclass(frozen=True)
class Maker:
    """What makes a stage: the numeric fields of a runtime, as far as time depends on them."""

    device: str = "cpu"
    """``cpu``, ``cuda``, or the name of the GPU."""
    workers: int = 1
    threads: int = 1
    precision: str = "fp32"
    other: str = ""
    """ZeRO stage, offload, micro-batch and compilation."""
    sweep: str = ""

    @classmethod
    def of(cls, resources: Resources, device: str, sweep: str) -> Maker:
        """The workers of a trial with these resources."""
        return cls(
            device if resources.gpus_per_worker else "cpu",
            resources.workers,
            resources.cpus_per_worker,
            resources.precision,
            _other(resources.model_dump()),
            sweep,
        )

    @classmethod
    def of_record(cls, runtime: Mapping[str, Any], made_by: Mapping[str, Any]) -> Maker:
        """The workers that a record names."""
        return cls(
            made_by.get("gpu", runtime.get("device", "cpu")),
            runtime.get("workers", 1),
            runtime.get("threads", 1),
            "fp32",
            _other(runtime),
            made_by.get("sweep", ""),
        )

    @property
    def machine(self) -> Machine:
        return CPU if self.device == "cpu" else GPU[self.precision]


def _other(settings: Mapping[str, Any]) -> str:
    usual = {"zero_stage": 0, "offload": "none", "micro_batch": None, "compile": False}
    return ", ".join(
        f"{name} {settings[name]}"
        for name, value in usual.items()
        if settings.get(name, value) != value
    )


@dataclass(frozen=True)
class Work:
    """The time of a stage on a usual machine, and what it has in common with others."""

    terms: tuple[float, float, float]
    """Seconds: whatever its length, of its steps, of its arithmetic."""
    maker: Maker
    kind: str
    model: str
    shape: tuple[Any, ...] = ()
    """Batch size, maximal length and method."""
    flops: float = 0.0
    is_measured: bool = True
    """Whether all of its texts were measured."""
    tasks: str = ""
    """What it reads."""

    @property
    def group(self) -> tuple[Any, ...]:
        """What stages of one shape have in common."""
        return replace(self.maker, sweep=""), self.model, self.kind, self.shape


@dataclass(frozen=True)
class Arithmetic:
    """Computes the work of stages from their settings, as a stage or its record has them.

    Args:
        facts: sizes of splits.
        texts: lengths of examples; a split that no model of the sweep was measured on is assumed.
    """

    facts: Facts
    texts: Texts

    def work(
        self,
        kind: str,
        settings: Mapping[str, Any],
        num_examples: int,
        model: ModelFacts,
        maker: Maker,
    ) -> Work:
        """The work of one stage; of a training on a task that the sweep does not have, texts are
        assumed and evaluations left out.

        Raises:
            KeyError: it predicts a task or split that the sweep does not have.
        """
        maker = replace(maker, precision=settings["precision"])
        parts = list(
            self._evaluated(settings, model)
            if kind == "evaluate"
            else self._trained(kind, settings, num_examples, model)
        )
        flops = sum(part.flops for part in parts)
        steps = sum(part.steps for part in parts)
        machine = maker.machine
        parallel = maker.workers * (maker.threads if maker.device == "cpu" else 1)
        moved = 0.0
        if kind != "evaluate":
            rows = self.trained_text(settings, model.name).vocabulary
            # AdamW reads weights, gradients and two moments, and writes all but the gradients.
            updated = 28 * trained_parameters(model, settings, rows)
            moved = updated * num_examples / settings["batch_size"]
        return Work(
            (
                machine.load_s + 4 * model.num_parameters / machine.disk,
                steps * machine.step_s,
                flops / (machine.flops * parallel) + moved / machine.bytes,
            ),
            maker,
            kind,
            model.name,
            _shape(settings),
            flops,
            all(part.is_measured for part in parts),
            ", ".join(settings.get("tasks") or [settings.get("task", {}).get("name", "")]),
        )

    def text(self, model: str, task: str, split: str, language: str, max_length: int) -> Text:
        """The text of a split: as this model reads it, as another one does, or assumed."""
        known = self.texts.get((Path(model).name, task, split, language))
        if known is None:
            others = (
                text for key, text in self.texts.items() if key[1:] == (task, split, language)
            )
            known = next(others, None)
        if known is not None:
            return known
        return Text(ASSUMED_SHARE * max_length, max_length, math.inf, is_measured=False)

    def trained_text(self, settings: Mapping[str, Any], model: str) -> Text:
        """The text that a training stage reads, averaged over its tasks and languages."""
        length = settings["max_length"]
        if "tasks" in settings:
            names = [
                (task, language)
                for task, entry in settings["tasks"].items()
                for language in entry["languages"]
            ]
        elif "task" in settings:
            names = [(settings["task"]["name"], settings["source_language"])]
        else:
            names = []
        texts = [self.text(model, task, "train", language, length) for task, language in names]
        if not texts or "mlm" in settings:
            texts.append(Text(ASSUMED_SHARE * length, length, math.inf, is_measured=False))
        return Text(
            sum(text.mean for text in texts) / len(texts),
            max(text.longest for text in texts),
            sum(text.vocabulary for text in texts),
            all(text.is_measured for text in texts),
        )

    def _trained(
        self, kind: str, settings: Mapping[str, Any], num_examples: int, model: ModelFacts
    ) -> Iterator[_Part]:
        text = self.trained_text(settings, model.name)
        has_mlm = kind == "align" or "mlm" in settings
        each = training_flops(model, text.mean, settings, predicted=PREDICTED if has_mlm else 0.0)
        steps = num_examples / settings["batch_size"]
        yield _Part(each * text.mean * num_examples, steps, text.is_measured)
        if "task" in settings and kind != "trunk":
            name, language = settings["task"]["name"], settings["source_language"]
            task = self.facts.tasks.get(name)
            if task is not None and (language, "dev") in task.splits:
                dev = self._read(settings, model, name, "dev", language, "all")
                number = settings.get("evaluations", 4)
                yield dev._replace(flops=number * dev.flops, steps=number * dev.steps)

    def _evaluated(self, settings: Mapping[str, Any], model: ModelFacts) -> Iterator[_Part]:
        name, number = settings["task"]["name"], settings["examples"]
        for split, languages in settings["languages"].items():
            for language in languages:
                yield self._read(settings, model, name, split, language, number)
        for first, _ in settings.get("pairs", ()):
            yield self._read(settings, model, name, "test", first, number)
        for task, entry in settings.get("also", {}).items():
            for language in entry["languages"]:
                yield self._read(settings, model, task, "test", language, number)

    def _read(
        self,
        settings: Mapping[str, Any],
        model: ModelFacts,
        task: str,
        split: Any,
        language: str,
        number: int | str,
    ) -> _Part:
        """One split that is predicted."""
        num_examples = self.facts.tasks[task].splits[language, split].num_examples
        if not isinstance(number, str):
            num_examples = min(num_examples, number)
        length = settings["max_length"]
        # Dev sets are not measured apart from test sets.
        known = "test" if split == "dev" else split
        text = self.text(model.name, task, known, language, length)
        if not text.is_measured:
            text = self.text(model.name, task, "train", language, length)
        pieces = text.mean * num_examples
        rows = BATCH_ROWS * length
        flops = forward_flops(model, text.mean) * pieces
        return _Part(flops, math.ceil(pieces / rows), text.is_measured)


class _Part(NamedTuple):
    flops: float
    steps: float
    is_measured: bool


BATCH_ROWS = 64
"""Rows of the greatest length in a batch of an evaluation."""


def forward_flops(model: ModelFacts, length: float) -> float:
    """Floating-point operations of a forward pass for one piece in a row of ``length``.

    A layer multiplies by the weights of its matrices, two operations each, and compares with
    ``length`` pieces twice. Embeddings are looked up, and the heads of tasks are small.

    >>> forward_flops(ModelFacts("xlm-roberta-base", 12, 768, 512, ""), 128) * 3
    523763712
    """
    return model.num_layers * _layer_flops(model, length)


def _layer_flops(model: ModelFacts, length: float) -> float:
    return 2 * model.layer_matrices + 4 * model.hidden_size * length


def training_flops(
    model: ModelFacts, length: float, settings: Mapping[str, Any], *, predicted: float = 0.0
) -> float:
    """Of a forward and a backward pass for one piece.

    The backward pass takes once the operations of the forward pass for gradients of activations,
    and once for those of weights. A frozen layer needs none of the latter, and nothing at all if
    nothing below it is trained.

    Args:
        predicted: share of the pieces for which a masked LM head scores the whole vocabulary.
    """
    freeze = settings.get("freeze") or {"embeddings": False, "layers": 0}
    frozen = freeze["layers"] * (1 if freeze["embeddings"] else 2)
    peft = bool(settings.get("peft"))
    if peft:
        frozen = freeze["layers"]
    passes = frozen + (2 if peft else 3) * (model.num_layers - freeze["layers"])
    head = 3 * predicted * 2 * model.vocabulary_size * model.embedding_width
    return passes * _layer_flops(model, length) + head


LARGEST_SHARE = 0.5
"""Share of the table of pieces up to which only rows that occur are trained."""


def trained_rows(model: ModelFacts, settings: Mapping[str, Any], rows: float) -> float:
    """Rows of the table of pieces that a training stage changes.

    Args:
        rows: different pieces in its text; the other rows have no gradient.
    """
    if settings.get("peft") or (settings.get("freeze") or {}).get("embeddings"):
        return 0.0
    is_trimmed = not settings["weight_decay"] and rows <= LARGEST_SHARE * model.vocabulary_size
    return rows if is_trimmed else float(model.vocabulary_size)


def trained_parameters(model: ModelFacts, settings: Mapping[str, Any], rows: float) -> float:
    """Parameters that a training stage changes; ``rows`` as in :func:`trained_rows`."""
    frozen = (settings.get("freeze") or {}).get("layers", 0)
    num_layers = model.num_layers - frozen
    if settings.get("peft"):
        return float(num_layers * _added_to_layer(model, settings["peft"]))
    layers = model.parameters_of(num_layers) if num_layers > 0 else 0
    table = trained_rows(model, settings, rows)
    untouched = (model.vocabulary_size - table) * model.embedding_width
    return layers + (model.embedding_parameters - untouched if table else 0.0)


def _added_to_layer(model: ModelFacts, peft: Mapping[str, Any]) -> int:
    """Parameters that are trained beside those of a layer, by its method."""
    width, inner = model.hidden_size, model.feed_forward
    if peft["method"] == "ia3":
        return 3 * width + inner
    attention = 2 * width
    every = 4 * attention + 2 * (width + inner)
    return int(peft["rank"]) * (every if peft["modules"] == "all" else 2 * attention)


def _shape(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """What else decides the speed of a stage."""
    chosen = [(settings.get(family) or {}).get("method") for family in ("fusion", "robust", "peft")]
    method = settings.get("objective") or "/".join(filter(None, chosen))
    hybrid = (settings.get("hybrid") or {}).get("ratio", 0.0) > 0
    return settings.get("batch_size"), settings["max_length"], method, hybrid


# -- what was learnt ----------------------------------------------------------------------


class Observation(NamedTuple):
    """A stage that was made, and how long it took."""

    work: Work
    seconds: float


ALL, EACH, MODEL, KIND, SHAPE, SWEEP, TEXT = 0.8, 0.7, 0.35, 0.35, 0.25, 0.2, 0.4
"""Standard deviations of logarithms, before anything is measured: of the speed of a device, of each
of its three terms, and of these for a model; of a kind of stage, of a shape, of a sweep, and of
tasks whose texts were not measured."""
NOISE: tuple[float, ...] = (0.15, 0.6)
"""The same of one stage beside another of its shape, and of what one trial takes besides its stages
(its process may have to start), until they show it."""
NOISE_WEIGHT = 6
"""Observations that these count for."""
ROUNDS = 4
"""Of Gauss and Newton; the terms are not linear in their factors."""


class Throughput:
    """The posterior of the factors, given observations.

    It is that of a hierarchical model: factors of a level with much data follow it, those without
    data stay at what their level's parents say.
    """

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.num_observations = len(observations)
        self._known = frozenset(seen.work.group for seen in observations)
        self._devices = frozenset(seen.work.maker.device for seen in observations)
        self._observations = observations
        self.noise = NOISE

    def knows(self, work: Work) -> bool:
        """Whether a stage of the same shape was seen."""
        return work.group in self._known

    def knows_device(self, work: Work) -> bool:
        return work.maker.device in self._devices

    @property
    def gpu(self) -> str:
        """The only kind of GPU that was seen, or ``cuda``."""
        seen = self._devices - {"cpu"}
        return next(iter(seen)) if len(seen) == 1 else "cuda"

    def draw(self, works: Sequence[Work], number: int, seed: int = 0) -> Array:
        """(number, len(works)): usual seconds of each work, drawn together from the posterior; the
        first row is the median. A single stage scatters around them (:meth:`scatter`)."""
        names: dict[tuple[Any, ...], int] = {}
        seen = [observation.work for observation in self._observations]
        observed, wanted = _Design.of(seen, names), _Design.of(works, names)
        seconds = np.array([observation.seconds for observation in self._observations])
        mean, root, self.noise = _posterior(observed, np.log(seconds), _levels(seen), len(names))
        random = np.random.default_rng(seed)
        factors = mean + random.standard_normal((number, len(names))) @ root
        factors[0] = mean
        return np.exp(wanted.log_seconds(factors))

    def scatter(self, works: Sequence[Work], number: int, seed: int = 1) -> Array:
        """(number, len(works)): factors of single stages and trials; 1 in the first row."""
        random = np.random.default_rng(seed)
        noise = np.array(self.noise)[_levels(works)]
        factors = np.exp(noise * random.standard_normal((number, len(works))))
        factors[0] = 1.0
        return factors


def _levels(works: Sequence[Work]) -> Array:
    """(len(works),): the place of the noise of each work."""
    return np.array([int(work.kind == "trial") for work in works], int)


class _Design(NamedTuple):
    """Works as numbers: the logarithms of their terms, and the weight of each factor on each."""

    log_terms: Array
    """(3, works)"""
    weights: Array
    """(3, works, factors); a factor that is named later has no column."""

    @classmethod
    def of(cls, works: Sequence[Work], names: dict[tuple[Any, ...], int]) -> _Design:
        """Args: names: every factor seen so far by its number; new ones are added."""
        entries = []
        for number, work in enumerate(works):
            for name, deviation, term in _factors(work):
                entries.append((term, number, names.setdefault(name, len(names)), deviation))
        weights = np.zeros((3, len(works), len(names)))
        for term, number, factor, deviation in entries:
            weights[term, number, factor] = deviation
        terms = np.array([work.terms for work in works]).reshape(-1, 3).T
        return cls(np.log(np.maximum(terms, 1e-9)), weights)

    def log_seconds(self, factors: Array) -> Array:
        """(draws, works) for factors (draws, factors)."""
        width = self.weights.shape[-1]
        by_term = self.log_terms + np.einsum("twf,df->dtw", self.weights, factors[:, :width])
        return np.logaddexp.reduce(by_term, axis=1)


def _factors(work: Work) -> Iterator[tuple[tuple[Any, ...], float, int]]:
    """Name, prior deviation and term of every factor of a work."""
    maker = work.maker
    device = (maker.device, maker.threads if maker.device == "cpu" else 1)
    if work.kind == "trial":
        # Processes that start, and what is written between stages, tell nothing of the speed of
        # arithmetic.
        yield ("trial", device), ALL, 0
        yield ("trial", maker.sweep), KIND, 0
        return
    alike: list[tuple[tuple[Any, ...], float]] = [
        (("all", device), ALL),
        (("kind", device, work.kind), KIND),
        (("shape", work.group), SHAPE),
        (("sweep", maker.sweep), SWEEP),
    ]
    if not work.is_measured:
        alike.append((("text", work.tasks), TEXT))
    for term in range(3):
        yield from ((name, deviation, term) for name, deviation in alike)
        yield (term, device), EACH, term
        yield (term, device, work.model), MODEL, term


def _posterior(
    observed: _Design, log_seconds: Array, levels: Array, num_factors: int
) -> tuple[Array, Array, tuple[float, ...]]:
    """Mean (factors,), a matrix that turns rows of standard normal numbers into factors, and the
    noise of each level."""
    weights = np.zeros((3, len(log_seconds), num_factors))
    weights[..., : observed.weights.shape[-1]] = observed.weights
    mean, noise, precision = np.zeros(num_factors), NOISE, np.eye(num_factors)
    if len(log_seconds) == 0:
        return mean, precision, noise
    for _ in range(ROUNDS):
        by_term = observed.log_terms + weights @ mean
        predicted = np.logaddexp.reduce(by_term, axis=0)
        slopes = np.einsum("tw,twf->wf", np.exp(by_term - predicted), weights)
        certain = slopes.T / np.array(noise)[levels] ** 2
        precision = np.eye(num_factors) + certain @ slopes
        mean = np.linalg.solve(precision, certain @ (log_seconds - predicted + slopes @ mean))
        rest = log_seconds - np.logaddexp.reduce(observed.log_terms + weights @ mean, axis=0)
        squares = [rest[levels == level] ** 2 for level in range(len(NOISE))]
        noise = tuple(
            math.sqrt(
                (NOISE_WEIGHT * prior**2 + float(of_level.sum())) / (NOISE_WEIGHT + len(of_level))
            )
            for prior, of_level in zip(NOISE, squares, strict=True)
        )
    # precision = L L', so L^-1 has the posterior's covariance.
    return mean, np.linalg.inv(np.linalg.cholesky(precision)), noise


def interval(values: Iterable[float], share: float = 0.8) -> tuple[float, float]:
    """The central ``share`` of some draws.

    >>> interval(range(101))
    (10.0, 90.0)
    """
    tail = (1 - share) / 2
    low, high = np.quantile(np.fromiter(values, float), [tail, 1 - tail])
    return float(low), float(high)
