"""``xlt gc`` lists what no sweep needs, and frees it with ``--yes``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.sample_results import commit
from tests.unit.cli.test_cli import TEXT
from xlt_ray.cli import app
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, load_ledger, open_ledger
from xlt_ray.store.lease import Lease
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep import quota

WEIGHTS = 100_000
STAGES = {
    name: Stage(kind, {"name": name}, {}, 0, None, f"{kind} {name}")  # type: ignore[arg-type]
    for name, kind in {
        "shared": "intermediate", "best": "target", "second": "target", "scores": "evaluate",
        "nobody": "target",
    }.items()
}  # fmt: skip


def xlt(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["gc", *arguments])
    if code == 0 and result.exception is not None:
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def row(*arguments: str, code: int = 0) -> Any:
    (freed,) = json.loads(xlt(*arguments, "--json", code=code).output)
    return freed


@pytest.fixture
def store(home: Home, sweep_from: Callable[..., SweepSpec]) -> StageStore:
    """Two complete trials and one that failed at once; one stage that no trial names."""
    store = StageStore(home.stages)
    for stage in STAGES.values():
        commit(store, stage, weights=WEIGHTS * (stage.kind != "evaluate"))
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    for number, names in enumerate((("shared", "best", "scores"), ("shared", "second"), ())):
        assert ledger.ask(sweep, lambda _: {}) is not None
        uses = [
            StageUse(STAGES[name].kind, STAGES[name].key, STAGES[name].label, False)
            for name in names
        ]
        ledger.set_stages(number, uses)
        if names:
            ledger.tell_complete(number, 0.5 - number / 10)
        else:
            ledger.tell_failed(number, "bug", "at once")
    return store


def there(store: StageStore) -> set[str]:
    return {name for name, stage in STAGES.items() if stage in store}


def test_a_home_without_anything_has_nothing_to_free(home: Home) -> None:
    freed = row()
    assert (freed["used_bytes"], freed["frees"], freed["stays"]) == (0, [], [])
    assert "would free 0 B of 0 B" in xlt().output
    assert not home.root.exists()


def test_it_shows_what_it_would_free_and_frees_nothing(store: StageStore) -> None:
    before = store.storage.files("")
    output = xlt().output
    for shown in ("target nobody", "101 kB", "no trial of this home uses it", "would free",
                  "--yes", "scores", "shared by several configurations"):  # fmt: skip
        assert shown in output
    assert "target best" not in output
    assert store.storage.files("") == before


def test_with_yes_it_frees_what_no_ledger_names(store: StageStore) -> None:
    output = xlt("--yes").output
    assert "freed" in output
    assert there(store) == {"shared", "best", "second", "scores"}
    assert "freed 0 B" in xlt("--yes").output


def test_the_json_has_documented_keys(store: StageStore) -> None:
    found = row()
    assert set(found) == {"store", "quota_bytes", "used_bytes", "is_done", "freed_bytes",
                          "missing_bytes", "frees", "stays"}  # fmt: skip
    (freed,) = found["frees"]
    assert set(freed) == {"what", "place", "key", "kind", "label", "bytes", "age_s",
                          "why", "is_freed"}  # fmt: skip
    assert freed["key"] == STAGES["nobody"].key
    assert freed["bytes"] == found["freed_bytes"] > WEIGHTS
    assert (
        found["freed_bytes"] + sum(kept["bytes"] for kept in found["stays"]) == found["used_bytes"]
    )
    assert (freed["is_freed"], found["is_done"]) == (False, False)
    assert row("--yes")["frees"][0]["is_freed"]
    assert there(store) == {"shared", "best", "second", "scores"}


def test_a_quota_is_met_with_targets_of_ended_trials(store: StageStore) -> None:
    freed = row("--quota", "300 kB", "--yes")
    assert freed["quota_bytes"] == 300_000
    assert there(store) == {"shared", "best", "scores"}


def test_a_quota_that_cannot_be_met_fails_and_frees_what_it_may(store: StageStore) -> None:
    assert "more than 1 kB" in xlt("--quota", "1kB", code=1).output
    assert len(there(store)) == len(STAGES)
    freed = row("--quota", "1kB", "--yes", code=1)
    assert freed["missing_bytes"] > 2 * WEIGHTS
    assert there(store) == {"shared", "best", "scores"}


def test_all_but_best_leaves_scores_and_the_best_target(store: StageStore) -> None:
    xlt("--all-but-best", "--yes")
    assert there(store) == {"best", "scores"}


def test_what_is_being_made_stays(store: StageStore) -> None:
    lease = store.lease(STAGES["nobody"].key)
    assert isinstance(lease, Lease)
    with lease:
        assert "being made by process" in xlt("--yes").output
    assert "nobody" in there(store)


def test_a_wrong_size_is_bad_input() -> None:
    error = xlt("--quota", "much", code=1).exception
    assert isinstance(error, SpecError)
    assert error.exit_code == 2
    assert str(error).startswith("--quota: 'much': expected a size such as 200GB")


def test_a_ledger_that_cannot_be_read_is_named_and_no_stage_is_freed(
    store: StageStore, home: Home
) -> None:
    home.ledger_journal("broken").write_text("")
    freed = row("--yes")
    assert any("broken" in kept["why"] for kept in freed["stays"])
    assert len(there(store)) == len(STAGES)


@pytest.mark.parametrize("is_asked", [True, False])
def test_every_stage_on_the_path_of_an_unfinished_trial_stays(
    store: StageStore, home: Home, sweep_from: Callable[..., SweepSpec], is_asked: bool
) -> None:
    """Another sweep made it, or the driver died between its commit and the note in the ledger."""
    sweep = sweep_from(TEXT.replace("name: small", "name: other"), "search.seeds=3")
    ledger = open_ledger(home, sweep)
    ledger.examples_of = lambda *_: {STAGES["nobody"].key: 1}
    for _ in range(2):
        assert ledger.ask(sweep, lambda _: {}) is not None
    if not is_asked:
        # The third repeat waits in the ledger.
        for number in ledger.running():
            ledger.tell_failed(number, "bug", "at once")
    freed = row("--all-but-best", "--yes")
    assert STAGES["nobody"] in store
    assert any("an unfinished trial needs it" in kept["why"] for kept in freed["stays"])
    ledger.examples_of = lambda *_: {"other": 1}
    while ledger.ask(sweep, lambda _: {}) is not None:
        pass
    for number in ledger.running():
        ledger.tell_failed(number, "bug", "at once")
    row("--all-but-best", "--yes")
    assert STAGES["nobody"] not in store


def test_a_retry_keeps_the_path_of_the_trial_that_failed(
    store: StageStore, home: Home, sweep_from: Callable[..., SweepSpec]
) -> None:
    sweep = sweep_from(TEXT.replace("name: small", "name: other"))
    ledger = open_ledger(home, sweep)
    ledger.examples_of = lambda *_: {STAGES["nobody"].key: 1}
    assert ledger.ask(sweep, lambda _: {}) is not None
    ledger.tell_failed(0, "bug", "at once")
    ledger.enqueue_failed()
    row("--all-but-best", "--yes")
    assert STAGES["nobody"] in store


@pytest.mark.usefixtures("store")
def test_every_ledger_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def load(home: Home, name: str) -> Ledger:
        opened.append(name)
        return load_ledger(home, name)

    monkeypatch.setattr(quota, "load_ledger", load)
    row()
    assert opened == ["small"]
