"""A sweep that was trained, packed, and trained anew from its capsule in an empty home."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Xlt
from tests.docs.test_documents import ROOT, blocks
from tests.training.conftest import TINY
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import MadeWith, StageUse, load_ledger, open_ledger
from xlt_ray.report.capsule import pack
from xlt_ray.store.canonical import sealed
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import used_facts
from xlt_ray.sweep.runner import checked_facts, make_alone
from xlt_ray.training.events import Committed


def trained(home: Home, sweep: SweepSpec) -> None:
    """Run the one trial of a sweep in this process, and note it as a driver does."""
    facts = checked_facts(sweep)
    ledger = open_ledger(home, sweep, MadeWith(used_facts(sweep, facts)))
    asked = ledger.ask(sweep, facts.model_bounds)
    assert asked is not None
    ledger.begin_attempt(asked.number)
    made = [
        event.stage
        for event in make_alone(sweep, home, trial=asked.number)
        if isinstance(event, Committed)
    ]
    ledger.set_path(asked.number, [stage.key for stage in made])
    ledger.set_stages(
        asked.number,
        [StageUse(stage.kind, stage.key, stage.label, reused=False) for stage in made],
    )
    ledger.tell_complete(asked.number, 0.5)
    pack(ledger, StageStore(home.stages), home.root / "tiny.tar")


@pytest.fixture
def capsule(tmp_path: Path, sweep_from: Callable[..., SweepSpec]) -> Path:
    home = Home(tmp_path / "theirs")
    trained(home, sweep_from(TINY))
    return home.root / "tiny.tar"


def test_stages_of_a_capsule_are_trained_anew_with_the_same_bits(
    capsule: Path, home: Home, xlt: Xlt
) -> None:
    code, out, err = xlt("verify", capsule, "--stages", "3")
    assert code == 0, out + err
    assert out.count(": same bits") == 3
    assert out.count("  there: ") == out.count("  here: ") == 3
    assert "device cpu" in out
    assert not (home.root / "stages").exists()


def test_other_data_and_settings_are_named_and_not_trained(capsule: Path, xlt: Xlt) -> None:
    code, out, _ = xlt("verify", capsule, "target.size=32", "--stages", "3")
    assert code == 1
    assert out.count(": same bits") == 1
    assert out.count("not trained: settings.size: 64 -> 32") == 2
    code, out, _ = xlt("verify", capsule, "data.seed=1", "--stages", "1")
    assert code == 1
    assert "toy-paraphrase qab test: " in out.partition("not trained: ")[2]


def test_a_result_that_cannot_be_had_again_is_told_by_how_much(
    capsule: Path, xlt: Xlt, tmp_path: Path, sweep_from: Callable[..., SweepSpec]
) -> None:
    theirs = Home(capsule.parent)
    store = StageStore(theirs.stages)
    key = next(key for key in store if (r := store.record(key)) is not None and r.scores)
    place = theirs.root / "stages" / key / "record.json"
    tree = json.loads(place.read_bytes())
    del tree["sha256"]
    tree["scores"][0]["value"] += 0.25
    place.write_bytes(sealed(tree))
    pack(open_ledger(theirs, sweep_from(TINY)), store, tmp_path / "changed.tar")

    code, out, _ = xlt("verify", tmp_path / "changed.tar", "--stages", "3")
    assert code == 1
    assert "scores differ by at most 0.25" in out
    assert out.count(": same bits") == 2


def test_weights_of_a_capsule_are_exported_as_at_home(
    tmp_path: Path, home: Home, xlt: Xlt, sweep_from: Callable[..., SweepSpec]
) -> None:
    trained(home, sweep_from(TINY))
    for weights in ("none", "best"):
        assert xlt("pack", "tiny", tmp_path / f"{weights}.tar", "--weights", weights).code == 0
        capsule = tmp_path / f"{weights}.tar"
        assert xlt("results", "add", capsule, "--as", f"with-{weights}").code == 0
    assert xlt("export", "tiny", tmp_path / "own").code == 0
    code, _, err = xlt("export", "with-none", tmp_path / "none")
    assert code == 1
    assert "--weights best" in err
    code, _, err = xlt("export", "with-best", tmp_path / "best")
    assert code == 0, err
    own, theirs = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("*.safetensors")}
        for name in ("own", "best")
    )
    assert own == theirs != {}
    assert xlt("export", "with-best", tmp_path / "logged", "--log").code == 2


def test_code_of_models_runs_only_if_it_is_trusted(
    tmp_path: Path, xlt: Xlt, sweep_from: Callable[..., SweepSpec]
) -> None:
    trained(Home(tmp_path / "theirs"), sweep_from(TINY))
    ledger = load_ledger(Home(tmp_path / "theirs"), "tiny")
    space = {**ledger.sweep["space"], "model": {"name": "toy:2x32", "trust_remote_code": True}}
    ledger.note("sweep", {**ledger.sweep, "space": space})
    pack(ledger, StageStore(tmp_path / "theirs"), tmp_path / "trusting.tar")
    code, _, err = xlt("verify", tmp_path / "trusting.tar")
    assert code == 2
    assert "--trust-remote-code" in err


def test_the_commands_of_the_page_work(
    home: Home,
    xlt: Xlt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sweep_from: Callable[..., SweepSpec],
) -> None:
    trained(home, sweep_from(TINY.replace("name: tiny", "name: quickstart")))
    monkeypatch.chdir(tmp_path)
    (commands,) = blocks(ROOT / "docs" / "capsules.md", "")
    for command in commands.splitlines():
        code, out, err = xlt(*command.split()[1:])
        assert code == 0, f"{command}\n{out}\n{err}"
