"""Sending sweeps elsewhere: what is refused before anything is sent, and what logs show."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from tests.command import Xlt
from tests.unit.cli.test_cli import TEXT
from xlt_ray.cli import app
from xlt_ray.cli.cluster import next_commands, refuse_local_places
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecError
from xlt_ray.sweep.jobs import checked_address


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8265", "ray://head:10001", "http://", "", "auto", "file:///etc", "http://a:b"],
)
def test_what_is_no_dashboard_is_refused_at_once(xlt: Xlt, file: Path, address: str) -> None:
    result = xlt("submit", file, "--address", address)
    assert result.code == 2
    assert "is not the address of a Ray dashboard; write http://HOST:PORT" in result.err


def test_a_password_in_the_address_is_refused_and_not_shown(xlt: Xlt, file: Path) -> None:
    result = xlt("submit", file, "--address", "http://ada:s3cret@head:8265")
    assert result.code == 2
    assert "s3cret" not in result.out + result.err
    with pytest.raises(SpecError):
        checked_address("https://ada@head")


@pytest.mark.parametrize("verb", ["submit", "status", "trials", "logs"])
def test_a_cluster_that_is_not_there_is_reported_in_one_line(
    xlt: Xlt, file: Path, verb: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        result = xlt(verb, file, "--address", f"http://127.0.0.1:{port}")
    assert result.code == 2
    assert f"http://127.0.0.1:{port}: no Ray dashboard answers" in result.err
    assert len(result.err.splitlines()) == 1


def test_the_address_that_is_given_counts_and_no_variable(
    xlt: Xlt,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.255.255.1:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.255.255.1:8265")
    result = xlt("submit", file, "--address", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: no Ray dashboard answers" in result.err


def test_a_faulty_sweep_is_not_sent(xlt: Xlt, tmp_path: Path) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_text(TEXT.replace("learning_rate", "learning_rte"))
    result = xlt("submit", str(path), "--address", "http://127.0.0.1:9")
    assert result.code == 2
    assert "did you mean learning_rate?" in result.err


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data={source: files, root: data}", "data.root"),
        ("data={source: hub, texts: texts}", "data.texts"),
        ("model=here", "model"),
        ("model={name: here}", "model"),
        ("model={choice: [toy:2x64, here]}", "model"),
        ("places.store=stages", "places.store"),
    ],
)
def test_folders_of_this_machine_are_refused(
    sweep_from: Callable[..., SweepSpec],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    override: str,
    key: str,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match="is a folder of this machine") as caught:
        refuse_local_places(sweep_from(TEXT, override), None)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["model=xlm-roberta-base", "model=/shared/model", "places.store=s3://bucket/xlt",
     "data={source: files, root: /shared/data}", "places.store=/shared/stages"],
)  # fmt: skip
def test_places_that_a_cluster_sees_are_let_through(
    sweep_from: Callable[..., SweepSpec], override: str
) -> None:
    refuse_local_places(sweep_from(TEXT, override), "/shared/home")


def test_a_home_that_depends_on_the_folder_is_refused(sweep_from: Callable[..., SweepSpec]) -> None:
    with pytest.raises(SpecError, match="--home xlt-home: is not an absolute path"):
        refuse_local_places(sweep_from(TEXT), "xlt-home")


@pytest.mark.parametrize("home", [None, "/shared/my home"])
def test_what_is_reported_after_sending_can_be_typed(home: str | None) -> None:
    from ray.dashboard.modules.job.cli import job_cli_group

    commands = dict(next_commands("small", "xlt-small-1", "http://127.0.0.1:8265", home))
    assert list(commands) == ["follow", "look", "scores", "report", "stop", "go on"]
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    for line in commands.values():
        words = shlex.split(line)
        if words[0] == "xlt":
            verbs[words[1]].make_context(words[1], words[2:])
        elif words[0] == "ray":
            assert words[1] == "job"
            parsed = job_cli_group.commands[words[2]].make_context(words[2], words[3:]).params
            assert parsed["address"] == "http://127.0.0.1:8265"
            if words[2] == "submit":
                assert list(parsed["entrypoint"]) == ["xlt", "report", "small", "--log"]
                own = json.loads(parsed["runtime_env_json"] or "null")
                assert own == ({"env_vars": {"XLT_HOME": home}} if home else None)


@pytest.mark.usefixtures("small")
def test_logs_of_failed_trials_are_shown(xlt: Xlt) -> None:
    result = xlt("logs", "small")
    assert result.code == 0
    failed = [line for line in result.out.splitlines() if line.startswith("trial ")]
    assert failed
    assert all(": failed, " in line for line in failed)
    number = failed[0].removeprefix("trial ").partition(":")[0]
    assert xlt("logs", "small", number).out == result.out


@pytest.mark.usefixtures("small")
def test_a_trial_without_log_says_why(xlt: Xlt) -> None:
    result = xlt("logs", "small", "0")
    assert result.code == 0
    assert "trial 0: complete; the ledger keeps logs of failed trials only" in result.out


@pytest.mark.usefixtures("small")
def test_a_trial_that_is_not_there_is_bad_input(xlt: Xlt) -> None:
    result = xlt("logs", "small", "99")
    assert result.code == 2
    assert "no trial 99" in result.err


@pytest.mark.parametrize("arguments", [("--follow",), ("3", "--follow", "--address", "http://a:1")])
def test_only_a_driver_elsewhere_can_be_followed(
    xlt: Xlt,
    arguments: tuple[str, ...],
) -> None:
    result = xlt("logs", "small", *arguments)
    assert result.code == 2
    assert "give --address, and no trial" in result.err
