"""``xlt export``, ``xlt predict``: a trained model out of the home, and what it says of text."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlt_ray.cli.arguments import NameArgument, named_sweep, warn
from xlt_ray.errors import DamagedStage
from xlt_ray.files import atomic_file, hidden_name
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.data.task import Task
    from xlt_ray.training.predict import Prediction


def export(
    name: NameArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one, to write to.")
    ],
    trial: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="This trial's model; if left out, the best seed's of the best configuration.",
        ),
    ] = None,
    is_logged: Annotated[
        bool, typer.Option("--log", help="Keep it as an artifact of the sweep's MLflow run, too.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="MODEL",
            help="--log, and a version of this model in MLflow's registry.",
        ),
    ] = None,
) -> None:
    """Write a trial's model into a folder that transformers loads.

    AutoModel gives the encoder; xlt-ray, and where it is the same to the bit a class of
    transformers, the whole network. README.md and xlt.json say where it comes from.

    [dim]xlt export quickstart models/best[/]
    [dim]xlt export quickstart models/third --trial 3[/]
    [dim]xlt export quickstart models/best --register paraphrase[/]
    """
    from xlt_ray.data.task import task_named
    from xlt_ray.ledger import load_ledger
    from xlt_ray.report.card import model_card
    from xlt_ray.report.frames import read_snapshot
    from xlt_ray.report.provenance import (
        export_metadata,
        exportable,
        made_again,
        model_of,
        target_use,
    )
    from xlt_ray.store.store import StageStore
    from xlt_ray.tracking import ModelRegistry, mend_database

    home = Home.from_environment()
    ledger = load_ledger(home, named_sweep(name))
    store = StageStore(ledger.sweep["places"]["store"] or home.stages)
    snapshot = read_snapshot(ledger, store)
    best = ledger.best()
    selected = best.trial if best is not None else None
    view = exportable(snapshot, selected if trial is None else ledger.trial(trial))
    told = export_metadata(
        snapshot,
        view,
        is_named=trial is not None,
        describe_task=lambda one: task_named(one).model_dump(mode="json"),
    )
    target = target_use(view)
    assert target is not None
    depot = None
    if is_logged or model is not None:
        tracking = ledger.sweep["places"]["tracking"]
        mend_database(home, tracking, warn)
        depot = ModelRegistry(home, ledger.name, tracking, ledger.identity)
    # Whatever can be refused has been: torch is loaded from here on.
    from xlt_ray.training.export_trial import export_folder, write_network

    _, trusted = model_of(ledger.sweep, view.assignment)
    with export_folder(folder) as aside:
        try:
            told = write_network(target.key, store, told, aside, trust_remote_code=trusted)
        except DamagedStage as error:
            remedy = made_again(snapshot, view, target)
            told_so = {**error.fields, "problem": f"{error.fields['problem']}; {remedy}"}
            raise DamagedStage(**told_so) from error
        (aside / "README.md").write_text(model_card(told), encoding="utf-8")
    whole = f"AutoModel: the encoder; {told.transformers_class or 'xlt-ray'}: the whole network"
    typer.echo(f"trial {view.number} of {ledger.name}: {folder} ({whole})")
    if depot is None:
        return
    # One folder a trial: another export neither mixes with it nor replaces what is registered.
    deposit = depot.keep(folder, f"model/trial-{view.number:03d}")
    typer.echo(f"kept: {deposit.place} of {depot.uri}")
    if model is not None:
        tags = {
            "xlt.sweep": ledger.name,
            "xlt.trial": str(view.number),
            "xlt.configuration": str(view.configuration),
            "xlt.stage.target": target.key,
        }
        version = depot.register(model, deposit, tags, told.selection)
        typer.echo(f"registered: models:/{model}/{version}")


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that xlt export wrote.")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Text: in the format of the task's files, or plain."),
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there instead of printing.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object an example, one a line.")
    ] = False,
) -> None:
    """Labels and probabilities that an exported model gives to a file.

    Plain text is one sentence a line for tags, two columns with a tab between them for pairs and
    scores; questions and choices are read from the format of their task's files. Labels in the
    file are not looked at.

    [dim]xlt predict models/best sentences.txt[/]
    [dim]xlt predict models/best pairs.tsv --output labels.jsonl --json[/]
    """
    from xlt_ray.training.predict import predict_file

    if output is not None:
        _refuse_unwritable(output)
    task, found = predict_file(folder, file)
    lines = map(_as_json, found) if as_json else _as_text(task, found)
    if output is not None:
        _write(output, lines)
        return
    for line in lines:
        typer.echo(line)


def _as_json(one: Prediction) -> str:
    tree = {"id": one.example.id, "prediction": one.answer, "probability": one.probability}
    if one.by_label is not None:
        tree["probabilities"] = one.by_label
    return json.dumps(tree, ensure_ascii=False)


def _as_text(task: Task, found: list[Prediction]) -> Iterator[str]:
    """Words with their tags, a line each, sentences apart; else a table with a header."""
    if task.kind == "tag":
        for one in found:
            (words,) = one.example.sentences()
            for cells in zip(words, one.answer, one.probability, strict=True):
                yield _line(*cells)
            yield ""
        return
    has_probability = task.kind != "score"
    yield _line("id", "prediction", *["probability"] * has_probability)
    for one in found:
        yield _line(one.example.id, one.answer, *[one.probability] * has_probability)


def _line(*cells: Any) -> str:
    def shown(cell: Any) -> str:
        if cell is None:
            return "-"
        return f"{cell:.4f}" if isinstance(cell, float) else " ".join(str(cell).split())

    return "\t".join(map(shown, cells))


def _refuse_unwritable(file: Path) -> None:
    """SpecError where :func:`_write` could not write: told before the work, not after it."""
    with _told_where(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_special(file):
            probe = hidden_name(file)
            probe.touch()
            probe.unlink()


def _write(file: Path, lines: Iterator[str]) -> None:
    """Write all lines, or leave what is there as it is."""
    with _told_where(file):
        # A pipe or a device is written into; a file takes the place of the one before.
        target = nullcontext(file) if _is_special(file) else atomic_file(file)
        with target as path, path.open("w", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)


def _is_special(file: Path) -> bool:
    return file.exists() and not file.is_file()


@contextmanager
def _told_where(file: Path) -> Iterator[None]:
    from xlt_ray.errors import SpecError

    try:
        yield
    except OSError as error:
        raise SpecError(f"cannot be written ({error.strerror})", file=str(file)) from None
