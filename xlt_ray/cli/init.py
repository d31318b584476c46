"""``xlt init``: a first sweep file for the user's own data, from five answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlt_ray.errors import DataError, SpecError, nearest

if TYPE_CHECKING:
    from xlt_ray.data.sources.base import Source
    from xlt_ray.data.task import Task

_TOY_MODEL = "toy:2x64"


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file to write.")] = Path(
        "sweep.yaml"
    ),
    data: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="The folder of your data, or toy (docs/tasks.md)."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task to transfer.")] = None,
    model: Annotated[
        str | None, typer.Option(help="An encoder: a folder, or a name of the Hugging Face Hub.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(help="rate, fusion, size, intermediate, hybrid or layers."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of every configuration.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="LANGUAGE", help="Language of the labels, if there are several."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a first sweep file for your data.

    It asks for the data, the task, the encoder, the question and the number of seeds; an option
    answers a question beforehand, and without a terminal all are needed.

    [dim]xlt init names.yaml[/]
    [dim]xlt init toy.yaml --data toy --task toy-nli --model toy:2x64 --question fusion --seeds 2[/]
    """
    from xlt_ray.config.first_sweep import QUESTIONS, Answers, first_sweep
    from xlt_ray.config.model_presets import PRESETS
    from xlt_ray.config.sweep import is_name
    from xlt_ray.config.task_types import KINDS
    from xlt_ray.data.task import task_named
    from xlt_ray.sweep.read_facts import facts_of_model

    if not is_name(file.stem):
        raise SpecError(
            f"{file.stem!r} cannot be the name of a sweep",
            key=str(file),
            remedy="at most 80 letters, digits, '-', '_' and '.'",
        )
    if file.exists() and not force:
        raise SpecError("exists already", key=str(file), remedy="another name, or --force")
    data = data or _asked("--data", "Folder of your data, or toy", default="toy")
    opened = _opened(data)
    languages = _trainable(opened)
    if not languages:
        raise DataError(
            f"{data} has no task with a train and a dev set",
            remedy="name folders and files as docs/tasks.md says: TASK/LANGUAGE.train.FORMAT",
        )
    task = _chosen("--task", "Task to transfer", task, sorted(languages))
    source = source or ("en" if "en" in languages[task] else languages[task][0])
    if source not in languages[task]:
        raise SpecError(
            f"{task} has no train and dev set in {source}",
            key="--source",
            remedy=nearest(source, languages[task]),
        )
    default = _TOY_MODEL if data == "toy" else PRESETS[0].name
    model = model or _asked("--model", "Encoder, a folder or a name of the hub", default=default)
    facts = facts_of_model(model, opened.vocabulary())
    if not question and _has_terminal():
        for name, entry in QUESTIONS.items():
            typer.echo(f"  {name:14}{entry.text}")
    question = _chosen("--question", "Question", question, list(QUESTIONS))
    seeds = seeds or _number("--seeds", _asked("--seeds", "Seeds of each point", default="3"))
    splits = opened.splits(task_named(task))
    described = KINDS[task_named(task).kind]
    answers = Answers(
        name=file.stem,
        data=data,
        task=task,
        metric=task_named(task).metrics[0],
        source_language=source,
        num_train=splits[source, "train"].num_examples,
        test_languages=tuple(sorted(language for language, split in splits if split == "test")),
        other_tasks=_others(opened, task, source, languages),
        has_translations=described.is_crossed and sum(split == "train" for _, split in splits) > 1,
        has_lexicon=bool(opened.lexicon_languages(source)),
        model=model,
        facts=facts,
        question=question,
        seeds=seeds,
    )
    text = first_sweep(answers, str(file))
    file.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {file}; next: xlt check {file}")


def _opened(data: str) -> Source:
    from xlt_ray.config.trial import FilesData, ToyData
    from xlt_ray.data.sources.base import open_source

    if data == "toy":
        return open_source(ToyData(source="toy"))
    if not Path(data).expanduser().is_dir():
        raise SpecError("no such folder", key=f"--data {data}", remedy="a folder, or toy")
    return open_source(FilesData(source="files", root=data))


def _trainable(source: Source) -> dict[str, list[str]]:
    """The languages of every task that can be trained and selected in one, by its name."""
    from xlt_ray.data.task import load_tasks

    found: dict[str, list[str]] = {}
    for task in load_tasks():
        splits = _splits(source, task)
        languages = sorted(
            language
            for language, split in splits
            if split == "train" and (language, "dev") in splits
        )
        if languages:
            found[task.name] = languages
    return found


def _others(
    source: Source, task: str, language: str, languages: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Further tasks that are trained in a language, those with most examples first, and of tasks
    with the same examples one."""
    from xlt_ray.data.task import task_named

    trained = {
        name: source.splits(task_named(name))[language, "train"]
        for name, known in languages.items()
        if language in known
    }
    found: dict[str, int] = {}
    for name, facts in trained.items():
        is_same = any(facts.is_same(trained[other]) for other in (task, *found))
        if not is_same:
            found[name] = facts.num_examples
    return tuple(sorted(found, key=lambda name: -found[name]))


def _splits(source: Source, task: Task) -> set[tuple[str, str]]:
    return set(source.splits(task)) if source.name in task.sources else set()


def _chosen(option: str, text: str, given: str | None, known: Sequence[str]) -> str:
    """What was given or asked for; SpecError if it is none of ``known``."""
    default = known[0]
    if given is None:
        given = _asked(option, f"{text} ({', '.join(known)})", default=default)
    if given not in known:
        raise SpecError(f"there is no {given}", key=option, remedy=nearest(given, known))
    return given


def _asked(option: str, text: str, *, default: str) -> str:
    if not _has_terminal():
        raise SpecError("is not given, and there is no terminal to ask in", key=option,
                        remedy=f"{option} {default}, for example")  # fmt: skip
    answer: str = typer.prompt(text, default=default)
    return answer


def _number(option: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise SpecError(f"{text!r} is not a number of trainings", key=option, remedy="1 or more")
    return int(text)


def _has_terminal() -> bool:
    return sys.stdin.isatty()
