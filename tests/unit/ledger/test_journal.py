"""The ledger's file: any altered byte is detected, the file is kept, and trials are asked again."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.two_models import bounds
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView, load_ledger, open_ledger
from xlt_ray.ledger.journal import Journal, mend

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
target:
  task: nli
  source_language: qaa
  learning_rate: {float: [1e-5, 1e-3], log: true}
search: {trials: 4, sampler: random, seed: 7}
"""


def run_to_its_end(ledger: Ledger, sweep: SweepSpec) -> list[TrialView]:
    """What a driver does: take up what is RUNNING, ask the rest, tell every objective."""
    asked_trials = [ledger.resume_trial(number, sweep, bounds) for number in ledger.running()]
    while asked_trials or (asked_trial := ledger.ask(sweep, bounds)) is not None:
        asked_trial = asked_trials.pop() if asked_trials else asked_trial
        ledger.tell_complete(
            asked_trial.number, float(asked_trial.assignment["target.learning_rate"])
        )
    return ledger.trials()


def outcomes(trials: list[TrialView]) -> list[tuple[object, ...]]:
    return [(trial.number, dict(trial.assignment), trial.seed, trial.objective) for trial in trials]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal whose sweep ran to its end."""
    home = Home(tmp_path_factory.mktemp("written"))
    sweep = sweep_of(parse_document(TEXT, "f.yaml", ()))
    run_to_its_end(open_ledger(home, sweep), sweep)
    return home.ledger_journal("t").read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_byte_that_changed_changes_no_trial(
    written: bytes, home: Home, sweep_from: Callable[..., SweepSpec], data: st.DataObject
) -> None:
    sweep = sweep_from(TEXT)
    place = data.draw(st.integers(0, len(written) - 2), label="place")
    byte = data.draw(
        st.integers(0, 255).filter(lambda value: value != written[place]), label="byte"
    )
    changed = written[:place] + bytes([byte]) + written[place + 1 :]
    home.ledgers.mkdir(parents=True, exist_ok=True)
    home.ledger_journal("t").write_bytes(written)
    before = outcomes(load_ledger(home, "t").trials())
    home.ledger_journal("t").write_bytes(changed)
    ledger = open_ledger(home, sweep)
    if ledger.set_aside is not None:
        assert ledger.set_aside.read_bytes() == changed
        assert ".damaged-" in ledger.set_aside.name
        ledger.set_aside.unlink()
    assert home.sweeps() == ["t"]
    assert outcomes(run_to_its_end(ledger, sweep)) == before
    assert outcomes(load_ledger(home, "t").trials()) == before


def test_trials_after_damage_are_asked_as_before(
    written: bytes, home: Home, sweep_from: Callable[..., SweepSpec]
) -> None:
    sweep = sweep_from(TEXT)
    home.ledgers.mkdir(parents=True)
    home.ledger_journal("t").write_bytes(written)
    before = outcomes(load_ledger(home, "t").trials())
    lines = written.splitlines(keepends=True)
    for number in range(len(lines)):
        torn = [*lines[:number], lines[number].replace(b'"op_code"', b'"op_cude"'), *lines[number:]]
        home.ledger_journal("t").write_bytes(b"".join(torn))
        assert outcomes(run_to_its_end(open_ledger(home, sweep), sweep)) == before


def test_a_reader_of_a_damaged_journal_gets_line_and_remedy(written: bytes, home: Home) -> None:
    home.ledgers.mkdir(parents=True)
    lines = written.splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"op_code"', b'"op_cude"')
    home.ledger_journal("t").write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=r"line 4 .*altered.*run again") as refused:
        load_ledger(home, "t")
    assert refused.value.__cause__ is not None


def test_a_whole_journal_stays_as_it_is(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "t.journal"
    file.write_bytes(written)
    assert mend(file) is None
    assert file.read_bytes() == written
    assert [file.name for file in tmp_path.glob("t.journal*")] == ["t.journal"]


def test_other_tools_read_it_and_write_to_it(
    written: bytes, home: Home, sweep_from: Callable[..., SweepSpec]
) -> None:
    home.ledgers.mkdir(parents=True)
    file = home.ledger_journal("t")
    file.write_bytes(written)
    storage = JournalStorage(JournalFileBackend(str(file)))
    study = optuna.load_study(study_name="t", storage=storage)
    assert len(study.trials) == 4
    study.set_user_attr("note", "by somebody else")
    ledger = open_ledger(home, sweep_from(TEXT))
    assert ledger.set_aside is None
    assert ledger.study.user_attrs["note"] == "by somebody else"


def test_only_its_owner_can_read_a_journal(
    tmp_path: Path, sweep_from: Callable[..., SweepSpec]
) -> None:
    home = Home(tmp_path / "private")
    open_ledger(home, sweep_from(TEXT))
    assert home.ledger_journal("t").stat().st_mode & 0o777 == 0o600


@given(st.integers(0, 200))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_append_that_the_disk_cuts_short_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    file = tmp_path / f"{room}.journal"
    file.unlink(missing_ok=True)
    journal = Journal(file)
    journal.append_logs([{"op": 0}, {"op": 1}])
    before = file.read_bytes()

    def fill(stream: io.FileIO, content: bytes) -> None:
        if len(content) > room:
            stream.write(content[:room])
            raise OSError(errno.ENOSPC, "No space left on device")
        stream.write(content)

    with monkeypatch.context() as patched, contextlib.suppress(OSError):
        patched.setattr("xlt_ray.ledger.journal._write_all", fill)
        journal.append_logs([{"op": 2}, {"op": 3}])
        before = file.read_bytes()
    assert file.read_bytes() == before
    journal.append_logs([{"op": 4}])
    assert [log["op"] for log in Journal(file).read_logs(0)][-1] == 4
    assert mend(file) is None, "nothing is torn"


def test_an_append_that_ctrl_c_cuts_short_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver goes on after the first one: it notes how its trials were left."""
    journal = Journal(tmp_path / "t.journal")
    journal.append_logs([{"op": 0}])

    def interrupt(stream: io.FileIO, content: bytes) -> None:
        stream.write(content[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("xlt_ray.ledger.journal._write_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.append_logs([{"op": 1}])
    journal.append_logs([{"op": 2}])
    assert [log["op"] for log in Journal(tmp_path / "t.journal").read_logs(0)] == [0, 2]


def test_the_folder_entries_of_a_new_journal_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    home = Home(tmp_path.resolve() / "some" / "home")
    home.refuse_unwritable()
    home.ledgers.mkdir()
    Journal(home.ledger_journal("t"))
    entries = {tmp_path.resolve(), home.root.parent, home.root, home.ledgers}
    assert entries <= set(map(Path, synced)), "a folder lasts by syncing the one that it lies in"
