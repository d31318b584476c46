"""The command line ``xlt``: a file for each group of commands, a few lines around one call each.

Commands import heavy libraries when they run, so that help and errors appear at once. Exit codes:
0 success, 1 failure, 2 bad input.
"""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from xlt_ray.cli import (
    capsules,
    change,
    cluster,
    disk,
    export,
    init,
    merge,
    prepare,
    reports,
    run,
    show,
)
from xlt_ray.errors import XltError


def without_types(params: list[Any]) -> list[Any]:
    """Parameters whose flags are shown without a type, as they take no value."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


class Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return without_types(super().get_params(ctx))


class Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return without_types(super().get_params(ctx))


def help_text(documented: Callable[..., object]) -> str:
    """The docstring of a command with a line for each paragraph, which the terminal breaks; the
    examples keep their lines."""
    paragraphs = inspect.cleandoc(documented.__doc__ or "").split("\n\n")
    joined = (
        text if text.startswith("[dim]") else " ".join(text.split("\n")) for text in paragraphs
    )
    return "\n\n".join(joined)


app = typer.Typer(
    cls=Group,
    name="xlt",
    help="Hyperparameter sweeps for zero-shot cross-lingual transfer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


COMMANDS = {
    "Run": (
        *(run.run, run.resume, run.worker, run.stage),
        *(reports.confirm, merge.merge, cluster.submit),
    ),
    "Change": (change.stop, change.pause, change.clone, change.set_),
    "Look": (
        *(
            show.status,
            show.trials,
            show.scores,
            cluster.logs,
            reports.report,
            reports.compare,
            show.ui,
        ),
        *(export.export, export.predict, disk.gc, disk.rm),
        *(capsules.pack, capsules.verify, capsules.results),
    ),
    "Prepare": (
        *(init.init, prepare.check, prepare.show, prepare.plan, prepare.list_, prepare.schema),
        cluster.doctor,
    ),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(
            command.__name__.rstrip("_"),
            cls=Command,
            help=help_text(command),
            rich_help_panel=panel,
        )(command)


def _print_version(is_given: bool) -> None:
    if is_given:
        from importlib.metadata import version

        typer.echo(f"xlt-ray {version('xlt-ray')}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Options of ``xlt`` before the name of a command."""


_PATHS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR,
          errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY, errno.ENXIO)  # fmt: skip
"""Errors of a path that the user gave, and not of the program."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Run a command. Its own errors, and paths that cannot be read or written, end it with one
    line and an exit code instead of a traceback."""
    try:
        app()
    except XltError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        if error.errno in _DISK_FULL:
            _end(f"{place}{error.strerror}; free some space and run the same command", 1)
        if not place or error.errno not in _PATHS:
            raise
        _end(f"{place}{error.strerror}", 2)


def _end(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"xlt: {line}", file=sys.stderr)
    raise SystemExit(code) from None
