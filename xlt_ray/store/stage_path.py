"""From a concrete trial to its path of stages. Pure: no I/O, no torch, microseconds.

The plan, the searcher, the trainable, the report and the tests all call :func:`path_of`.

What of a stage's settings decides how its batches are put together.

What an intermediate stage says of its mixture of tasks, languages and masked LM.

The few-shot stage between a target stage and its evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xlt_ray.config.checks.check_evaluation import (
    diagnosed_languages,
    further_content,
    language_pairs,
    languages_tested,
    retrieval_layer,
)
from xlt_ray.config.checks.check_schedules import target_examples
from xlt_ray.config.checks.check_target import hybrid_languages, translated_languages
from xlt_ray.config.diagnostics import VERSION as DIAGNOSTICS_VERSION
from xlt_ray.config.facts import Facts, Split, TaskFacts
from xlt_ray.config.methods import (
    Alignment,
    AugmentRobust,
    NoRobust,
    SeedScope,
    Training,
    WsdSchedule,
)
from xlt_ray.config.mixture import Mixture, mixture_of, own_language, text_languages
from xlt_ray.config.supervision import supervision_of
from xlt_ray.config.task_types import is_by_encoder
from xlt_ray.config.trial import (
    FewShot,
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


def ranking_settings(settings: Ranking, *tasks: TaskFacts) -> dict[str, Any]:
    """How tasks of the kind ranking are trained, where one is."""
    is_there = any(task.kind == "ranking" for task in tasks)
    return {"ranking": settings.model_dump()} if is_there else {}


def hybrid_settings(
    settings: Hybrid, task: TaskFacts, facts: Facts, source: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """What of hybrid batches decides a training, and the fingerprints of their text."""
    if not settings.is_used:
        return {"ratio": 0.0}, {}
    # What is never drawn decides nothing.
    unused = {"mono"} if settings.ratio == 1 else set()
    if settings.ratio == 0:
        unused = {"pairs", "mixing", "batch_scale"}
    languages = hybrid_languages(settings, task, facts, source)
    translated = translated_languages(settings, task, source)
    return (
        {
            "ratio": settings.ratio,
            "languages": languages,
            "text": "translated" if translated else "switched",
            **settings.hashed(exclude={"ratio", "languages", "text", *unused}),
        },
        {one: task.splits[one, "train"].digest for one in translated}
        or {source: facts.lexicon[source].digest},
    )


def content_of(
    trial: TrialSpec, settings: Intermediate, mixture: Mixture, facts: Facts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an intermediate stage trains on: settings and fingerprints, of one task or several."""
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
            name: {one: facts.tasks[name].splits[one, "train"].digest for one in mixture.of(name)}
            for name in mixture.tasks
        }
    }
    if len(mixture.datasets) > 1:
        content["sampling"] = settings.sampling.hashed()
    if settings.mlm is not None:
        languages = text_languages(settings, trial.target.source_language, facts.parallel)
        content["mlm"] = {**settings.mlm.hashed(exclude={"languages"}), "languages": languages}
        data["parallel"] = {language: facts.parallel[language] for language in languages}
    return content, data


def dev_content_of(
    settings: Intermediate, mixture: Mixture, target_language: str, facts: Facts
) -> dict[str, Any]:
    """Fingerprints of the dev sets that an intermediate stage is scored on while it trains."""
    source = own_language(settings, target_language)
    if mixture.is_plain:
        (only,) = mixture.datasets
        return facts.tasks[only.task].dev_content(only.language)
    by_task = {name: facts.tasks[name].dev_content(source) for name in mixture.tasks}
    found = {name: content["dev"] for name, content in by_task.items() if content}
    return {"dev": found} if found else {}


def label_of(mixture: Mixture) -> str:
    """A mixture as labels say it.

    >>> from xlt_ray.config.mixture import Dataset
    >>> label_of(Mixture((Dataset("nli", "de", 9), Dataset("nli", "en", 9)), mlm_share=0.25))
    'nli in 2 languages and 25 % MLM'
    """
    languages = f" in {len(mixture.languages)} languages" if len(mixture.languages) > 1 else ""
    mlm = f" and {100 * mixture.mlm_share:.3g} % MLM" if mixture.mlm_share else ""
    return f"{'+'.join(mixture.tasks)}{languages}{mlm}"


def few_shot_stage(
    trial: TrialSpec,
    settings: FewShot,
    facts: Facts,
    training: Mapping[str, Any],
    seed: int,
    parent: Stage,
) -> Stage:
    """The stage that goes on from ``parent``, a target stage, with its fusion and head.

    Args:
        training: settings that all training stages have.
        seed: of this repeat.
    """
    task = facts.tasks[trial.target.task]
    language, split = settings.language, settings.split
    sample = settings.sample_of(seed)
    return Stage(
        kind="few_shot",
        settings={
            **training,
            "task": {"name": task.name, "version": task.version},
            "source_language": trial.target.source_language,
            "language": language,
            "split": split,
            "shots": settings.shots,
            "sample": sample,
            "steps": settings.steps,
            "fusion": trial.target.fusion.hashed(),
        },
        data={split: {language: task.splits[language, split].digest}},
        seed=seed,
        parent=parent,
        label=f"few-shot {task.name} {settings.shots} {language} sample {sample}",
        num_examples=settings.steps * settings.batch_size,
    )


def told_of(settings: FewShot, seed: int) -> dict[str, Any]:
    """What the evaluation says of the shots, so that its record is known as not zero-shot."""
    return {
        "language": settings.language,
        "split": settings.split,
        "shots": settings.shots,
        "sample": settings.sample_of(seed),
    }


StagePath = tuple[Stage, ...]

_TRAINING = tuple(Training.model_fields)


def path_of(
    trial: TrialSpec,
    facts: Facts,
    *,
    seed: int,
    shared_seed: int,
    rungs: Sequence[int | str] = (),
) -> StagePath:
    """The stages of a trial, the given model first, evaluation last.

    Args:
        seed: of this repeat; the target stage always trains with it.
        shared_seed: of stages that repeats share (``seed: shared``).
        rungs: intermediate sizes that other trials ask for. Under ``schedule: wsd`` the
            trunks of the smaller ones are made on the way; no key depends on them.

    The facts must cover the trial, which :mod:`xlt_ray.config.checks.check_sweep` has made sure of.
    """
    trial = with_lengths(trial, facts)
    model = facts.models[trial.model.label]
    stage = Stage(
        kind="model",
        settings={"weights": model.weights},
        data={},
        # A toy preset is random weights: its seed makes it another model.
        seed=shared_seed if trial.model.name.startswith("toy:") else 0,
        parent=None,
        label=trial.model.label,
    )
    stages = [stage]
    scoped = {"shared": shared_seed, "per_trial": seed}
    if trial.align is not None:
        stages.append(_align(trial, trial.align, facts, scoped[_scope(trial.align)], stages[-1]))
    if trial.intermediate is not None:
        settings = trial.intermediate
        stages += _intermediate(trial, settings, facts, scoped[settings.seed], stages[-1], rungs)
    stages.append(_target(trial, trial.target, facts, seed, stages[-1]))
    if trial.few_shot is not None:
        shared = _training(trial.few_shot, trial.precision)
        shared |= ranking_settings(trial.target.ranking, facts.tasks[trial.target.task])
        stages.append(few_shot_stage(trial, trial.few_shot, facts, shared, seed, stages[-1]))
    stages.append(_evaluate(trial, facts, stages[-1], seed))
    return tuple(stages)


def stages_to_run(path: StagePath) -> StagePath:
    """The stages of a path that have to be made: all but the given model."""
    return tuple(stage for stage in path if not stage.is_pretrained)


def encoder_of(stage: Stage) -> Stage:
    """The stage whose encoder ``stage`` is built on: a trunk lends its state, no encoder."""
    lender = stage.parent
    while lender is not None and lender.kind == "trunk":
        lender = lender.parent
    assert lender is not None, "a stage that is made has a parent"
    return lender


def dependencies(stage: Stage) -> tuple[Stage, ...]:
    """The stages, the given model left out, whose encoders the making of ``stage`` reads."""
    found = [encoder_of(stage)]
    if stage.settings.get("retrieval_encoder") == "before":
        found.append(encoder_of(found[0]))
    return tuple(one for one in found if not one.is_pretrained)


def evaluated(trial: TrialSpec, facts: Facts) -> dict[str, tuple[str, ...]]:
    """Languages of the evaluation by split: all asked in test, the source (or all) in dev.

    After few shots the test sets of their language and of the source, and its dev set.
    """
    task = facts.tasks[trial.target.task]
    source = trial.target.source_language
    if trial.few_shot is not None:
        both = sorted({source, trial.few_shot.language})
        return {
            "dev": (source,),
            "test": tuple(one for one in both if (one, "test") in task.splits),
        }
    test = languages_tested(task, trial.evaluate, source)
    dev = task.languages("dev") if trial.evaluate.dev == "all" else (source,)
    with_dev, asked = set(task.languages("dev")), trial.evaluate.languages
    chosen = {source, *(test if asked == "all" else asked)}
    return {
        "dev": tuple(one for one in dev if one in with_dev and one in chosen),
        "test": test,
    }


def _scope(align: Alignment) -> SeedScope:
    return align.seed


def _training(settings: Training, precision: str) -> dict[str, Any]:
    return {**{name: getattr(settings, name) for name in _TRAINING}, "precision": precision}


def _align(trial: TrialSpec, settings: Alignment, facts: Facts, seed: int, parent: Stage) -> Stage:
    asked = settings.languages
    languages = tuple(sorted(facts.parallel)) if asked == "all" else tuple(sorted(asked))
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
            **_training(settings, trial.precision),
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
    rungs: Sequence[int | str],
) -> list[Stage]:
    """The intermediate stage, after the trunks that it goes on from (``schedule: wsd``)."""
    mixture = mixture_of(settings, trial.target.source_language, facts.tasks)
    size = mixture.size(settings.size)
    batch_size, schedule = settings.batch_size, settings.schedule
    name = label_of(mixture)
    content, data = content_of(trial, settings, mixture, facts)
    ranking = ranking_settings(settings.ranking, *(facts.tasks[task] for task in mixture.tasks))
    shared = {**_training(settings, trial.precision), **content, **ranking}
    trunks: list[Stage] = []
    if isinstance(schedule, WsdSchedule):
        del shared["warmup"]
        schedule_settings = schedule.model_dump(include={"method", "warmup_examples"})
        if settings.epochs == 1:
            smaller = {mixture.size(rung) for rung in rungs}
            for rung in sorted({size, *(one for one in smaller if one < size)}):
                steps = trunk_steps(mixture.num_steps(rung, 1, batch_size), schedule.decay)
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
        data={**data, **dev_content_of(settings, mixture, trial.target.source_language, facts)},
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
    hybrid, texts = hybrid_settings(settings.hybrid, task, facts, source)
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
            **_training(settings, trial.precision),
            "task": {"name": task.name, "version": task.version},
            "source_language": source,
            "size": size,
            "epochs": settings.epochs,
            "evaluations": settings.evaluations,
            "fusion": settings.fusion.hashed(),
            "hybrid": hybrid,
            **ranking_settings(settings.ranking, task),
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
    besides, texts = _besides(trial, facts, languages["test"])
    splits: tuple[Split, ...] = ("dev", "test")
    if trial.few_shot is not None:
        besides["few_shot"] = told_of(trial.few_shot, seed)
    supervision = supervision_of(trial, facts)
    if supervision:
        besides["supervision"] = supervision
    return Stage(
        kind="evaluate",
        settings={
            "task": {"name": task.name, **task.scoring},
            "source_language": trial.target.source_language,
            "languages": languages,
            "examples": trial.evaluate.examples,
            "max_length": trial.target.max_length,
            "precision": trial.precision,
            **besides,
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


def _besides(
    trial: TrialSpec, facts: Facts, languages: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and data of what is evaluated beside the target task; nothing where it is not."""
    asked, source = trial.evaluate, trial.target.source_language
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    pairs = language_pairs(asked, languages)
    if pairs:
        settings["pairs"] = pairs
    tasks = [facts.tasks[name] for name in sorted(asked.also)]
    if tasks:
        settings["also"], data = further_content(tasks, asked, source)
    target = facts.tasks[trial.target.task]
    if any(is_by_encoder(task.kind, target.kind) for task in tasks):
        depth = facts.models[trial.model.label].num_layers
        settings["retrieval_layer"] = retrieval_layer(asked, depth)
        if asked.retrieval_encoder != "target":
            settings["retrieval_encoder"] = asked.retrieval_encoder
    if asked.diagnostics:
        others = diagnosed_languages(languages, source, facts.parallel)
        settings["diagnostics"] = {
            "version": DIAGNOSTICS_VERSION,
            "names": sorted(set(asked.diagnostics)),
            "languages": others,
            "sentences": asked.diagnostic_sentences,
        }
        data["parallel"] = {one: facts.parallel[one] for one in (source, *others)}
        if "alignment" in asked.diagnostics:
            data |= facts.links_among((source, *others))
    return settings, data
