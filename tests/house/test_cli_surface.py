"""Commands and options as a golden listing: a new flag is a decision, not an accident."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path

from typer.models import ArgumentInfo, OptionInfo

from xlt_ray.cli import app

GOLDEN = Path(__file__).with_name("cli_surface.txt")


def commands() -> Iterator[tuple[str, typing.Any]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield command.name or command.callback.__name__, command.callback


def parameters(callback: typing.Any) -> Iterator[tuple[str, typing.Any, typing.Any]]:
    """Name, type and declaration of what a command takes."""
    for name, hint in typing.get_type_hints(callback, include_extras=True).items():
        if name != "return":
            kind, declared = typing.get_args(hint)
            yield name, kind, declared


def shown(kind: typing.Any) -> str:
    if kind is bool:
        return ""
    if typing.get_origin(kind) is typing.Literal:
        return " " + "|".join(typing.get_args(kind))
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    return f" {(members or [kind])[0].__name__}"


def surface() -> Iterator[str]:
    """One line a command, one an argument or option of it."""
    for name, callback in sorted(commands()):
        yield f"xlt {name}"
        for parameter, kind, declared in parameters(callback):
            if isinstance(declared, ArgumentInfo):
                choices = shown(kind).strip() if "|" in shown(kind) else parameter.upper()
                yield f"    {declared.metavar or choices}"
            else:
                # Beside Annotated, typer takes the first spelling for the default.
                own = [name for name in [declared.default, *(declared.param_decls or ())]
                       if isinstance(name, str)]  # fmt: skip
                spelled = "/".join(own or [f"--{parameter.replace('_', '-')}"])
                yield f"    {spelled}{shown(kind)}"


def test_the_command_line_is_what_was_decided() -> None:
    surface_text = "\n".join(surface()) + "\n"
    assert surface_text == GOLDEN.read_text(encoding="utf-8"), (
        f"the command line changed; if that was decided, let {GOLDEN.name} say:\n\n{surface_text}"
    )


def test_every_command_explains_itself_with_an_example() -> None:
    for name, callback in commands():
        assert f"[dim]xlt {name}" in (callback.__doc__ or ""), name


def test_every_option_explains_itself() -> None:
    unexplained = [
        f"{name} {parameter}"
        for name, callback in commands()
        for parameter, _, declared in parameters(callback)
        if isinstance(declared, OptionInfo) and not declared.help
    ]
    # A port is a port.
    assert unexplained == ["ui port"]
