"""``xlt doctor``: what is found is true, what is wrong ends with 1, and no password is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xlt_ray.cli import app
from xlt_ray.home import Home
from xlt_ray.sweep import doctor as environment
from xlt_ray.sweep.doctor import TESTED, Finding, findings

ROOT = Path(__file__).parents[3]
SWEEP = """
name: small
data: {source: toy}
model: toy:2x64
target: {task: toy-nli, source_language: qaa}
search: {trials: 1}
"""

Doctor = Callable[..., tuple[int, dict[str, Finding], str]]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """``doctor("places.ledger=...")``: exit code, findings by name, all that was printed."""
    file = tmp_path / "small.yaml"
    file.write_text(SWEEP)

    def look(*overrides: str) -> tuple[int, dict[str, Finding], str]:
        arguments = [str(file), *overrides] if overrides else []
        output = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
        rows = json.loads(output.stdout)
        assert rows["ok"] == (output.exit_code == 0)
        return (
            output.exit_code,
            {row["name"]: Finding(**row) for row in rows["findings"]},
            output.stdout,
        )

    return look


def test_versions_are_those_that_the_constraints_say() -> None:
    exact = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    assert {name: exact[name] for name in TESTED} == TESTED
    assert f"(Python {environment.TESTED_PYTHON})" in (ROOT / "constraints.txt").read_text()


def test_a_fresh_home_is_sound_and_stays_empty(doctor: Doctor, home: Home) -> None:
    code, findings, _ = doctor()
    assert code == 0
    assert {finding.state for finding in findings.values()} <= {"ok", "note"}
    assert {*TESTED, "python", "accelerator", "cluster", "home", "disk", "ledger", "tracking",
            "hub"} == findings.keys()  # fmt: skip
    assert not [file for file in home.root.rglob("*") if file.is_file()]


def test_a_home_that_cannot_be_written_is_wrong(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XLT_HOME", str(tmp_path / "small.yaml" / "home"))
    code, findings, _ = doctor()
    assert code == 1
    assert findings["home"].state == "wrong"
    assert "cannot be written" in findings["home"].found


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("places.ledger=postgresql+psycopg://ada:s3cret@127.0.0.1:1/xlt", "ledger"),
        ("places.ledger=nonsense://ada:s3cret@127.0.0.1:1/xlt", "ledger"),
        ("places.tracking=http://ada:s3cret@127.0.0.1:1", "tracking"),
        ("places.store=unheard://ada:s3cret@bucket", "store"),
    ],
)
def test_what_does_not_answer_is_wrong_and_its_password_is_not_shown(
    doctor: Doctor, override: str, name: str
) -> None:
    code, findings, printed = doctor(override)
    assert code == 1
    assert [check for check in findings if findings[check].state == "wrong"] == [name]
    assert "s3cret" not in printed


def test_what_answers_is_found(doctor: Doctor, tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    code, findings, _ = doctor(f"places.ledger={ledger}", f"places.store={tmp_path / 'store'}")
    assert code == 0
    assert findings["ledger"].found == f"{ledger} (sqlite)"
    assert findings["store"].found == str(tmp_path / "store")


def test_databases_of_the_home_are_looked_at_without_a_sweep(doctor: Doctor, home: Home) -> None:
    home.ledgers.mkdir(parents=True)
    home.ledger_url("gone").write_text("postgresql+psycopg://ada:s3cret@127.0.0.1:1/xlt")
    code, findings, printed = doctor()
    assert (code, findings["ledger"].state) == (1, "wrong")
    assert "s3cret" not in printed


def test_a_cluster_that_is_not_there_is_wrong(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, findings, _ = doctor()
    assert (code, findings["cluster"].state) == (1, "wrong")
    assert "there is no answer" in findings["cluster"].found


def test_other_versions_are_noted_and_missing_ones_are_wrong(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "TESTED", {"ray": "1.0", "no-such-package": "1.0"})
    found = {finding.name: finding for finding in findings(home)}
    assert (found["ray"].state, found["ray"].remedy) == ("note", "tested with 1.0")
    assert found["no-such-package"].state == "wrong"


def test_without_json_each_finding_is_a_line() -> None:
    output = CliRunner().invoke(app, ["doctor"])
    assert output.exit_code == 0
    assert re.search(r"^ok +home ", output.stdout, re.M)
    assert re.search(r"^(ok|note) +hub +", output.stdout, re.M)
