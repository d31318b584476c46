"""Places outside the home that cannot be used are bad input: one line, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import CommandResult, Xlt
from tests.contracts.test_bucket import register_careless


def one_line(result: CommandResult) -> str:
    assert result.code == 2, result.err
    assert len(result.err.splitlines()) == 1
    return result.err


def test_a_bucket_that_is_not_there_is_reported(xlt: Xlt, file: Path, bucket: str) -> None:
    result = one_line(xlt("run", file, f"places.store={bucket}-not/there"))
    assert "places.store: s3://tests-not/there cannot be used as stage store" in result
    assert "check the name of the bucket" in result


def test_a_kind_of_store_that_is_not_known_is_reported(xlt: Xlt, file: Path) -> None:
    result = one_line(xlt("run", file, "places.store=s4://bucket/x"))
    assert "places.store: s4://bucket/x cannot be used as stage store" in result


def test_a_store_that_ignores_conditions_is_refused(xlt: Xlt, file: Path) -> None:
    register_careless()
    result = one_line(xlt("run", file, "places.store=careless://x"))
    assert "places.store: careless://x ignores If-None-Match" in result


@pytest.mark.parametrize("verb", ["run", "check", "plan", "status", "trials", "gc"])
def test_a_home_that_is_a_url_is_refused(
    xlt: Xlt, file: Path, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XLT_HOME", "s3://ada:s3cret@bucket/home")
    monkeypatch.chdir(tmp_path)
    result = xlt(verb, *([] if verb == "gc" else [file]))
    assert "the home is a folder, not a URL; set XLT_HOME to a folder; places.store" in result.err
    assert "s3cret" not in result.err
    assert one_line(result)
    assert not list(tmp_path.glob("s3*"))


def test_a_ledger_that_cannot_be_reached_is_reported_without_its_password(
    xlt: Xlt, file: Path
) -> None:
    result = one_line(
        xlt("run", file, "places.ledger=postgresql+psycopg://ada:s3cret@127.0.0.1:9/xlt")
    )
    assert "small: the ledger cannot be opened" in result
    assert "s3cret" not in result


def test_where_a_ledger_lies_is_for_its_owner_alone(xlt: Xlt, file: Path, tmp_path: Path) -> None:
    from xlt_ray.config.sweep import load_sweep
    from xlt_ray.home import Home
    from xlt_ray.ledger import open_ledger

    home = Home(tmp_path / "home")
    open_ledger(home, load_sweep(str(file), [f"places.ledger=sqlite:///{tmp_path}/l.db"]))
    pointer = home.ledger_url("small")
    assert pointer.stat().st_mode & 0o777 == 0o600
    assert xlt("status", "small").code == 0
