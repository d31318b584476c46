"""From a concrete trial to its path of stages: :func:`path_of`. Pure: no I/O, no torch.

Planner, scheduler, trainable, report and tests all call it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlt_ray.config.checks.check_schedules import target_examples
from xlt_ray.config.diagnostics import VERSION as DIAGNOSTICS_VERSION
from xlt_ray.config.diagnostics import diagnosed_languages
from xlt_ray.config.facts import Facts, Split, TaskFacts
from xlt_ray.config.methods import (
    MERGES,
    Alignment,
    AugmentRobust,
    ConfigModel,
    Merge,
    NoPeft,
    NoRobust,
    Training,
    WsdSchedule,
    method_named,
)
from xlt_ray.config.mixture import Mixture, mixture_of, own_language, text_languages
from xlt_ray.config.supervision import supervision_of
from xlt_ray.config.task_types import KINDS, is_by_encoder
from xlt_ray.config.trial import (
    Evaluate,
    FewShot,
    Freeze,
    Hybrid,
    Intermediate,
    Ranking,
    Target,
    TrialSpec,
    train_size,
    trunk_steps,
    with_lengths,
)
from xlt_ray.store.stage import Stage

StagePath = tuple[Stage, ...]

_TRAINING = tuple(Training.model_fields)


def _ranking(settings: Ranking, *tasks: TaskFacts) -> dict[str, Any]:
    """How ranking tasks are trained, if there is one among ``tasks``."""
    has_ranking = any(task.kind == "ranking" for task in tasks)
    return {"ranking": settings.model_dump()} if has_ranking else {}


def _hybrid(
    settings: Hybrid, task: TaskFacts, facts: Facts, source: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of hybrid batches that shape a training, and the digests of their text."""
    if not settings.is_used:
        return {"ratio": 0.0}, {}
    # Settings of what is never drawn stay out of the key.
    unused = {"mono"} if settings.ratio == 1 else set()
    if settings.ratio == 0:
        unused = {"pairs", "mixing", "batch_scale"}
    languages = settings.drawn_languages(task, facts, source)
    translated = settings.translated_languages(task, source)
    return (
        {
            "ratio": settings.ratio,
            "languages": languages,
            "text": "translated" if translated else "switched",
            **settings.hashed(exclude={"ratio", "languages", "text", *unused}),
        },
        {language: task.splits[language, "train"].digest for language in translated}
        or {source: facts.lexicon[source].digest},
    )


def _content(
    trial: TrialSpec, settings: Intermediate, mixture: Mixture, facts: Facts
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Tasks, languages and text of an intermediate stage: its settings, the digests of its
    training data, and those of the dev sets that score it during training."""
    source = own_language(settings, trial.target.source_language)
    if mixture.is_plain:
        (only,) = mixture.datasets
        task = facts.tasks[only.task]
        return (
            {
                "task": {"name": task.name, "version": task.version},
                "source_language": only.language,
            },
            {"train": task.splits[only.language, "train"].digest},
            task.dev_content(only.language),
        )
    content: dict[str, Any] = {
        "tasks": {
            name: {"version": facts.tasks[name].version, "languages": mixture.of(name)}
            for name in mixture.tasks
        },
        "source_language": source,
    }
    data: dict[str, Any] = {
        "train": {
            name: {
                language: facts.tasks[name].splits[language, "train"].digest
                for language in mixture.of(name)
            }
            for name in mixture.tasks
        }
    }
    if len(mixture.datasets) > 1:
        content["sampling"] = settings.sampling.hashed()
    if settings.mlm is not None:
        languages = text_languages(settings, trial.target.source_language, facts.parallel)
        content["mlm"] = {**settings.mlm.hashed(exclude={"languages"}), "languages": languages}
        data["parallel"] = {language: facts.parallel[language] for language in languages}
    by_task = {name: facts.tasks[name].dev_content(source) for name in mixture.tasks}
    dev_sets = {name: dev["dev"] for name, dev in by_task.items() if dev}
    return content, data, {"dev": dev_sets} if dev_sets else {}


def _further_content(
    tasks: Sequence[TaskFacts], settings: Evaluate, source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Further tasks as a stage names them, and its fingerprints: of test sets, and of those dev
    sets that a threshold is chosen on."""
    scored = {task.name: settings.languages_tested(task, source) for task in tasks}

    def digests(task: TaskFacts, split: Split) -> dict[str, str]:
        return {language: task.splits[language, split].digest for language in scored[task.name]}

    data = {"also": {task.name: digests(task, "test") for task in tasks}}
    tuned = [task for task in tasks if KINDS[task.kind].is_tuned]
    if tuned:
        data["also_dev"] = {task.name: digests(task, "dev") for task in tuned}
    return {task.name: {**task.scoring, "languages": scored[task.name]} for task in tasks}, data


def _label(mixture: Mixture) -> str:
    """A mixture in the words of a label.

    >>> from xlt_ray.config.mixture import Dataset
    >>> _label(Mixture((Dataset("nli", "de", 9), Dataset("nli", "en", 9)), mlm_share=0.25))
    'nli in 2 languages and 25 % MLM'
    """
    languages = f" in {len(mixture.languages)} languages" if len(mixture.languages) > 1 else ""
    mlm = f" and {100 * mixture.mlm_share:.3g} % MLM" if mixture.mlm_share else ""
    return f"{'+'.join(mixture.tasks)}{languages}{mlm}"


def _few_shot(trial: TrialSpec, settings: FewShot, facts: Facts, seed: int, parent: Stage) -> Stage:
    """The stage that continues the target stage ``parent`` on a few examples of one language."""
    task = facts.tasks[trial.target.task]
    shots = _shots(settings, seed)
    language, split = settings.language, settings.split
    return Stage(
        kind="few_shot",
        settings={
            **_training(settings, trial),
            **_ranking(trial.target.ranking, task),
            "task": {"name": task.name, "version": task.version},
            "source_language": trial.target.source_language,
            **shots,
            "steps": settings.steps,
            "fusion": trial.target.fusion.hashed(),
        },
        data={split: {language: task.splits[language, split].digest}},
        seed=seed,
        parent=parent,
        label=f"few-shot {task.name} {settings.shots} {language} sample {shots['sample']}",
        num_examples=settings.steps * settings.batch_size,
    )


def _shots(settings: FewShot, seed: int) -> dict[str, Any]:
    """The choice of shots, which marks the record of an evaluation as not zero-shot."""
    return {
        "language": settings.language,
        "split": settings.split,
        "shots": settings.shots,
        "sample": settings.sample_of(seed),
    }


def path_of(
    trial: TrialSpec,
    facts: Facts,
    *,
    seed: int,
    shared_seed: int,
    sizes: Sequence[int | str] = (),
) -> StagePath:
    """The stages of a trial, from the pretrained model to the evaluation.

    Args:
        seed: of this repeat; the target stage always uses it.
        shared_seed: of stages that repeats share (``seed: shared``).
        sizes: intermediate sizes of all trials. Under ``schedule: wsd`` the trunks of smaller
            sizes are made on the way; no key depends on them.

    The facts must cover the trial, which :mod:`xlt_ray.config.checks.check_sweep` ensures.
    """
    trial = with_lengths(trial, facts)
    attention = trial.model.attention
    model = Stage(
        kind="model",
        settings={
            "weights": facts.models[trial.model.label].weights,
            **({} if trial.model.layers is None else {"layers": trial.model.layers}),
            **({} if trial.model.pooling == "first" else {"pooling": trial.model.pooling}),
            **({} if attention == "as_trained" else {"attention": attention}),
        },
        data={},
        # A toy preset has random weights, so another seed makes another model.
        seed=shared_seed if trial.model.name.startswith("toy:") else 0,
        parent=None,
        label=trial.model.title,
    )
    stages = [model]
    scoped = {"shared": shared_seed, "per_trial": seed}
    if trial.align is not None:
        stages.append(_align(trial, trial.align, facts, scoped[trial.align.seed], stages[-1]))
    if trial.intermediate is not None:
        settings = trial.intermediate
        stages += _intermediate(trial, settings, facts, scoped[settings.seed], stages[-1], sizes)
    stages.append(_target(trial, trial.target, facts, seed, stages[-1]))
    if trial.few_shot is not None:
        stages.append(_few_shot(trial, trial.few_shot, facts, seed, stages[-1]))
    stages.append(_evaluate(trial, facts, stages[-1], seed))
    return tuple(stages)


def stages_to_run(path: StagePath) -> StagePath:
    """The stages of a path that have to be made: all but the pretrained model."""
    return tuple(stage for stage in path if not stage.is_pretrained)


def encoder_of(stage: Stage) -> Stage:
    """The stage whose encoder ``stage`` starts from; trunks, which have no encoder, are skipped."""
    parent = stage.parent
    while parent is not None and parent.kind == "trunk":
        parent = parent.parent
    assert parent is not None, "a stage that is made has a parent"
    return parent


def dependencies(stage: Stage) -> tuple[Stage, ...]:
    """The stages whose encoders ``stage`` reads, without the pretrained model."""
    encoders = [*stage.members] or [encoder_of(stage)]
    if stage.kind == "merge" and _needs_base(stage.settings["merge"]["method"]):
        encoders.append(encoder_of(stage))
    if stage.settings.get("retrieval_encoder") == "before":
        encoders.append(encoder_of(encoders[0]))
    parts = {part.key: part for encoder in encoders for part in composed_of(encoder)}
    return tuple(parts.values())


def _needs_base(method: str) -> bool:
    settings = method_named(MERGES, method).settings
    return issubclass(settings, Merge) and settings.needs_base


def composed_of(stage: Stage) -> tuple[Stage, ...]:
    """The stages that the encoder of ``stage`` is read from, without the pretrained model: itself,
    and below an adapter those that it is merged with."""
    if stage.is_pretrained:
        return ()
    return (stage, *(composed_of(encoder_of(stage)) if stage.is_adapter else ()))


def evaluated(trial: TrialSpec, facts: Facts) -> dict[str, tuple[str, ...]]:
    """Languages of the evaluation by split: all chosen ones in test, the source (or all) in dev.

    After few shots: test in the language of the shots and the source, dev in the source.
    """
    task = facts.tasks[trial.target.task]
    source = trial.target.source_language
    if trial.few_shot is not None:
        both = sorted({source, trial.few_shot.language})
        return {
            "dev": (source,),
            "test": tuple(language for language in both if (language, "test") in task.splits),
        }
    test = trial.evaluate.languages_tested(task, source)
    dev = task.languages("dev") if trial.evaluate.dev == "all" else (source,)
    with_dev, languages = set(task.languages("dev")), trial.evaluate.languages
    chosen = {source, *(test if languages == "all" else languages)}
    return {
        "dev": tuple(language for language in dev if language in with_dev & chosen),
        "test": test,
    }


def _training(settings: Training, trial: TrialSpec) -> dict[str, Any]:
    freeze = trial.model.freeze
    return {
        **{
            name: getattr(settings, name)
            for name in _TRAINING
            if name != "batching" or settings.batching != "examples"
        },
        "precision": trial.precision,
        **({} if freeze == Freeze() else {"freeze": freeze.model_dump()}),
    }


def _peft(settings: ConfigModel) -> dict[str, Any]:
    return {} if settings == NoPeft() else {"peft": settings.hashed()}


def _align(trial: TrialSpec, settings: Alignment, facts: Facts, seed: int, parent: Stage) -> Stage:
    languages = tuple(sorted(facts.parallel if settings.languages == "all" else settings.languages))
    method_settings = settings.hashed(exclude={*_TRAINING, "seed", "languages"})
    method = str(method_settings["objective"])
    data: dict[str, Any] = {
        "parallel": {language: facts.parallel[language] for language in languages}
    }
    if getattr(settings, "aligner", "") == "auto":
        data |= facts.links_among(languages)
    if method == "code_switch_mlm":
        data["lexicon"] = {
            language: facts.lexicon[language].digest
            for language in languages
            if language in facts.lexicon
        }
    return Stage(
        kind="align",
        settings={
            **_training(settings, trial),
            **method_settings,
            "languages": languages,
        },
        data=data,
        seed=seed,
        parent=parent,
        label=f"align {method} {settings.steps} steps",
        num_examples=settings.steps * settings.batch_size,
    )


def _intermediate(
    trial: TrialSpec,
    settings: Intermediate,
    facts: Facts,
    seed: int,
    parent: Stage,
    sizes: Sequence[int | str],
) -> list[Stage]:
    """The intermediate stage, after the trunks that it continues (``schedule: wsd``)."""
    mixture = mixture_of(settings, trial.target.source_language, facts.tasks)
    size = mixture.size(settings.size)
    batch_size, schedule = settings.batch_size, settings.schedule
    name = _label(mixture)
    content, data, dev_data = _content(trial, settings, mixture, facts)
    ranking = _ranking(settings.ranking, *(facts.tasks[task] for task in mixture.tasks))
    shared = {**_training(settings, trial), **content, **ranking, **_peft(settings.peft)}
    trunks: list[Stage] = []
    if isinstance(schedule, WsdSchedule):
        del shared["warmup"]
        schedule_settings = schedule.model_dump(include={"method", "warmup_examples"})
        if settings.epochs == 1:
            all_sizes = {size, *(mixture.size(other) for other in sizes)}
            for trunk_size in sorted(number for number in all_sizes if number <= size):
                steps = trunk_steps(mixture.num_steps(trunk_size, 1, batch_size), schedule.decay)
                done = trunks[-1].settings["steps"] if trunks else 0
                if steps > done:
                    trunks.append(
                        Stage(
                            kind="trunk",
                            settings={**shared, "schedule": schedule_settings, "steps": steps},
                            data=data,
                            seed=seed,
                            parent=parent,
                            label=f"trunk {name} {steps * batch_size}",
                            num_examples=(steps - done) * batch_size,
                            starts_at=done * batch_size,
                        )
                    )
        shared["schedule"] = {**schedule_settings, "decay": schedule.decay}
    starts_at = trunks[-1].settings["steps"] * batch_size if trunks else 0
    last = Stage(
        kind="intermediate",
        settings={**shared, "size": size, "epochs": settings.epochs},
        data={**data, **dev_data},
        seed=seed,
        parent=trunks[-1] if trunks else parent,
        label=f"intermediate {name} {size}",
        num_examples=mixture.num_steps(size, settings.epochs, batch_size) * batch_size - starts_at,
        starts_at=starts_at,
    )
    return [*trunks, last]


def _target(trial: TrialSpec, settings: Target, facts: Facts, seed: int, parent: Stage) -> Stage:
    task = facts.tasks[settings.task]
    source = settings.source_language
    size = train_size(settings.size, task, source)
    data: dict[str, Any] = {
        "train": task.splits[source, "train"].digest,
        # Scored on the way: curves, rungs and the choice of a checkpoint follow from it.
        **task.dev_content(source),
    }
    hybrid, texts = _hybrid(settings.hybrid, task, facts, source)
    data |= {"hybrid": texts} if texts else {}
    robust = settings.robust
    chosen_methods: dict[str, Any] = {} if robust == NoRobust() else {"robust": robust.model_dump()}
    if settings.average > 1:
        chosen_methods["average"] = settings.average
    if settings.select == "best":
        chosen_methods["select"] = {"checkpoint": "best", "metric": task.metrics[0]}
    if isinstance(robust, AugmentRobust):
        data["neighbours"] = (
            facts.lexicon[source].digest
            if robust.neighbours == "lexicon"
            else facts.neighbours[source]
        )
    return Stage(
        kind="target",
        settings={
            **_training(settings, trial),
            "task": {"name": task.name, "version": task.version},
            "source_language": source,
            "size": size,
            "epochs": settings.epochs,
            "evaluations": settings.evaluations,
            "fusion": settings.fusion.hashed(),
            **({} if settings.head_seed is None else {"head_seed": settings.head_seed}),
            **_peft(settings.peft),
            "hybrid": hybrid,
            **_ranking(settings.ranking, task),
            **chosen_methods,
        },
        data=data,
        seed=seed,
        parent=parent,
        label=f"target {task.name} {size}",
        num_examples=target_examples(trial, facts),
    )


def _evaluate(trial: TrialSpec, facts: Facts, parent: Stage, seed: int) -> Stage:
    task = facts.tasks[trial.target.task]
    languages = evaluated(trial, facts)
    additional, texts = _additional(trial, facts, languages["test"])
    splits: tuple[Split, ...] = ("dev", "test")
    if trial.few_shot is not None:
        additional["few_shot"] = _shots(trial.few_shot, seed)
    supervision = supervision_of(trial, facts)
    if supervision:
        additional["supervision"] = supervision
    if trial.precision in ("bf16", "bf16-mixed"):
        additional["autocast"] = "bf16"
    return Stage(
        kind="evaluate",
        settings={
            "task": {"name": task.name, **task.scoring},
            "source_language": trial.target.source_language,
            "languages": languages,
            "examples": trial.evaluate.examples,
            "max_length": trial.target.max_length,
            "precision": trial.precision,
            **additional,
        },
        data={
            **{
                split: {
                    language: task.splits[language, split].digest for language in languages[split]
                }
                for split in splits
            },
            **texts,
        },
        seed=0,
        parent=parent,
        label=f"evaluate {task.name} in {len(languages['test'])} languages",
    )


def _additional(
    trial: TrialSpec, facts: Facts, languages: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and data digests of everything that is evaluated beside the target task."""
    evaluate, source = trial.evaluate, trial.target.source_language
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    pairs = evaluate.language_pairs(languages)
    if pairs:
        settings["pairs"] = pairs
    tasks = [facts.tasks[name] for name in sorted(evaluate.also)]
    if tasks:
        settings["also"], data = _further_content(tasks, evaluate, source)
    target = facts.tasks[trial.target.task]
    if any(is_by_encoder(task.kind, target.kind) for task in tasks):
        depth = trial.model.num_layers(facts)
        settings["retrieval_layer"] = evaluate.layer_of_retrieval(depth)
        if evaluate.retrieval_encoder != "target":
            settings["retrieval_encoder"] = evaluate.retrieval_encoder
    if evaluate.diagnostics:
        diagnosed = diagnosed_languages(languages, source, facts.parallel)
        settings["diagnostics"] = {
            "version": DIAGNOSTICS_VERSION,
            "names": sorted(set(evaluate.diagnostics)),
            "languages": diagnosed,
            "sentences": evaluate.diagnostic_sentences,
        }
        data["parallel"] = {language: facts.parallel[language] for language in (source, *diagnosed)}
        if "alignment" in evaluate.diagnostics:
            data |= facts.links_among((source, *diagnosed))
    return settings, data
