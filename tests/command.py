"""``xlt`` as its users meet it, called in the process of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from xlt_ray import cli
from xlt_ray.home import Home


class CommandResult(NamedTuple):
    """What a command ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Xlt = Callable[..., CommandResult]


@pytest.fixture
def xlt(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Xlt:
    """``xlt("status", "--json")``: what the entry point does in the test's home."""
    monkeypatch.setenv("XLT_HOME", str(home.root))

    def call(*arguments: object) -> CommandResult:
        monkeypatch.setattr("sys.argv", ["xlt", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        result = capsys.readouterr()
        return CommandResult(code, result.out, result.err)

    return call
