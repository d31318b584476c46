"""``xlt export``, ``xlt predict``: a trained model as a folder, and its predictions."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlt_ray import api
from xlt_ray.cli.arguments import NameArgument
from xlt_ray.cli.output import warn
from xlt_ray.errors import LedgerError, SpecError, StoreError
from xlt_ray.files import atomic_file, hidden_name
from xlt_ray.home import Home

if TYPE_CHECKING:
    from xlt_ray.config.sweep import SweepSpec
    from xlt_ray.data.task import Task
    from xlt_ray.ledger import TrialView
    from xlt_ray.store.stage import Stage
    from xlt_ray.store.store import StageStore
    from xlt_ray.training.load import TrainingContext
    from xlt_ray.training.predict import Prediction


def export(
    name: NameArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new or empty folder to write to.")
    ],
    trial: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The model of this trial; by default, of the best seed of the best configuration.",
        ),
    ] = None,
    is_logged: Annotated[
        bool, typer.Option("--log", help="Keep it also as an artifact of the sweep's MLflow run.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="MODEL",
            help="Keep it as --log does, and register it as a version of this model in MLflow.",
        ),
    ] = None,
) -> None:
    """Write a trial's model to a folder that transformers loads.

    AutoModel loads the encoder. xlt-ray loads the whole network, and so does a class of
    transformers where its outputs are bit-identical. README.md and xlt.json document its origin.

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

    sweep = api.sweep_name(name)
    home = Home.from_environment().holding(sweep)
    ledger = load_ledger(home, sweep)
    if ledger.origin and (is_logged or model is not None):
        raise LedgerError(f"{sweep}: is {ledger.origin}, and is not sent to MLflow")
    store = StageStore(home.store_of(ledger.sweep))
    snapshot = read_snapshot(ledger, store)
    best = ledger.best()
    selected = best.trial if best is not None else None
    view = exportable(snapshot, selected if trial is None else ledger.trial(trial))
    metadata = export_metadata(
        snapshot,
        view,
        is_named=trial is not None,
        describe_task=lambda task: task_named(task).model_dump(mode="json"),
    )
    target = target_use(view)
    assert target is not None
    registry = None
    if is_logged or model is not None:
        tracking = ledger.sweep["places"]["tracking"]
        mend_database(home, tracking, warn)
        registry = ModelRegistry(home, ledger.name, tracking, ledger.identity)
    # All checks are done; only now is torch loaded.
    from xlt_ray.training.load import ADAPTER, export_folder, write_merged, write_network

    _, trusted = model_of(ledger.sweep, view.assignment)
    with export_folder(folder) as aside:
        try:
            if any(name.startswith(f"{ADAPTER}/") for name in snapshot.records[target.key].files):
                stage, context = _stage_in_context(
                    api.find_sweep(name, (), home), home, view, store
                )
                metadata = write_merged(stage, context, metadata, aside)
            else:
                metadata = write_network(
                    target.key, store, metadata, aside, trust_remote_code=trusted
                )
        except StoreError as error:
            remedy = made_again(snapshot, view, target, lost=error.fields["key"])
            fields = {**error.fields, "problem": f"{error.fields['problem']}; {remedy}"}
            raise type(error)(**fields) from error
        (aside / "README.md").write_text(model_card(metadata), encoding="utf-8")
    loader = metadata.transformers_class or "xlt-ray"
    typer.echo(
        f"trial {view.number} of {ledger.name}: {folder} (AutoModel loads the encoder, {loader} "
        "the whole network)"
    )
    if registry is None:
        return
    # One folder a trial, so that another export does not replace what is registered.
    kept = registry.keep(folder, f"model/trial-{view.number:03d}")
    typer.echo(f"kept: {kept.place} of {registry.uri}")
    if model is not None:
        tags = {
            "xlt.sweep": ledger.name,
            "xlt.trial": str(view.number),
            "xlt.configuration": str(view.configuration),
            "xlt.stage.target": target.key,
        }
        version = registry.register(model, kept, tags, metadata.selection)
        typer.echo(f"registered: models:/{model}/{version}")


def _stage_in_context(
    sweep: SweepSpec, home: Home, view: TrialView, store: StageStore
) -> tuple[Stage, TrainingContext]:
    """The stage that left a trial's network, and what it is loaded with.

    Raises:
        LedgerError: the model or the data are not those that it was made with.
    """
    from xlt_ray.data.sources.base import open_source
    from xlt_ray.report.provenance import target_use
    from xlt_ray.sweep.runner import task_alone
    from xlt_ray.training.load import TrainingContext
    from xlt_ray.training.runtime import Runtime

    use, task = target_use(view), task_alone(sweep, home, view.number)
    stage = next((stage for stage in task.path if use is not None and stage.key == use.key), None)
    if stage is None:
        raise LedgerError(
            f"{sweep.name}: model or data have changed since trial {view.number} was made, and its "
            "weights are only what was trained beside those of the model"
        )
    source = open_source(task.trial.data, home.cache)
    return stage, TrainingContext(task.trial.model, source, store, Runtime(home.cache))


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that xlt export wrote.")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Text, in the format of the task's files or plain."),
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file instead of printing.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, one line an example.")
    ] = False,
) -> None:
    """Predict labels and probabilities for a file with an exported model.

    Plain text has one sentence a line for tags, and two tab-separated columns for pairs and
    scores. Questions and choices must be in the format of their task's files. Labels in the file
    are ignored.

    [dim]xlt predict models/best sentences.txt[/]
    [dim]xlt predict models/best pairs.tsv --output labels.jsonl --json[/]
    """
    from xlt_ray.training.predict import predict_file

    if output is not None:
        _refuse_unwritable(output)
    task, predictions = predict_file(folder, file)
    lines = map(_as_json, predictions) if as_json else _as_text(task, predictions)
    if output is not None:
        _write(output, lines)
        return
    for line in lines:
        typer.echo(line)


def _as_json(prediction: Prediction) -> str:
    row = {
        "id": prediction.example.id,
        "prediction": prediction.answer,
        "probability": prediction.probability,
    }
    if prediction.by_label is not None:
        row["probabilities"] = prediction.by_label
    return json.dumps(row, ensure_ascii=False)


def _as_text(task: Task, predictions: list[Prediction]) -> Iterator[str]:
    """For tags, a line for each word and a blank one after a sentence; else a table."""
    if task.kind == "tag":
        for prediction in predictions:
            (words,) = prediction.example.sentences()
            for cells in zip(words, prediction.answer, prediction.probability, strict=True):
                yield _line(*cells)
            yield ""
        return
    has_probability = task.kind != "score"
    yield _line("id", "prediction", *["probability"] * has_probability)
    for prediction in predictions:
        probability = [prediction.probability] * has_probability
        yield _line(prediction.example.id, prediction.answer, *probability)


def _line(*cells: Any) -> str:
    def shown(cell: Any) -> str:
        if cell is None:
            return "-"
        return f"{cell:.4f}" if isinstance(cell, float) else " ".join(str(cell).split())

    return "\t".join(map(shown, cells))


def _refuse_unwritable(file: Path) -> None:
    """Raise SpecError before the work where :func:`_write` could not write after it."""
    with _errors_name(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_special(file):
            probe = hidden_name(file)
            probe.touch()
            probe.unlink()


def _write(file: Path, lines: Iterator[str]) -> None:
    """Write all lines, or leave the old file as it is."""
    with _errors_name(file):
        # A pipe or a device cannot be replaced.
        target = nullcontext(file) if _is_special(file) else atomic_file(file)
        with target as path, path.open("w", encoding="utf-8") as stream:
            stream.writelines(f"{line}\n" for line in lines)


def _is_special(file: Path) -> bool:
    return file.exists() and not file.is_file()


@contextmanager
def _errors_name(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"cannot be written ({error.strerror})", file=str(file)) from None
