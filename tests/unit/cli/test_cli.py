"""``xlt`` as its users meet it: listings, JSON, exit codes, messages."""

from __future__ import annotations

import dataclasses
import errno
import re
import time
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import transformers

import xlt_ray
from tests.command import CommandResult, Xlt
from tests.sample_results import commit
from xlt_ray.config.checks.check_schedules import StageSize
from xlt_ray.config.facts import Coverage
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.data.data_check import Sizes
from xlt_ray.data.piece_check import RowLengths, TextShares
from xlt_ray.home import Home
from xlt_ray.ledger import Occupation, Retry, StageUse, load_ledger, open_ledger, sweep_of_ledger
from xlt_ray.store.lease import Lease, try_acquire
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.runner import SweepSummary
from xlt_ray.sweep.tasks import ProgressReporter

TEXT = """
name: small
data: {source: toy}
model: toy:2x64
target:
  task: toy-nli
  source_language: qaa
  max_length: 32
  learning_rate: {choice: [1e-4, 1e-3, 1e-2]}
search: {trials: 3, sampler: grid}
"""


@pytest.fixture
def small(home: Home, sweep_from: Callable[..., SweepSpec]) -> Home:
    """A home with one sweep: a complete trial with scores, a failed one, a running one."""
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    stage = Stage("evaluate", {"languages": ["qaa", "qab"]}, {}, 0, None, "evaluate toy-nli")
    scores = tuple(
        Score("toy-nli", language, split, "accuracy", value, 10)
        for language, split, value in (
            ("qaa", "dev", 0.75), ("qaa", "test", 0.5), ("qab", "test", 0.25),
        )
    )  # fmt: skip
    commit(StageStore(home.stages), stage, scores)
    for _ in range(3):
        assert ledger.ask(sweep, lambda _: {}) is not None
    ledger.begin_attempt(0)
    ledger.set_stages(
        0,
        [StageUse("align", "a" * 64, "align", True, made_by="other/7"),
         StageUse("intermediate", "i" * 64, "intermediate", True, made_by="small/2"),
         StageUse("target", "f" * 64, "target", False, 96, 1.0),
         StageUse("evaluate", stage.key, stage.label, True)],
    )  # fmt: skip
    ledger.tell_complete(0, 0.75)
    ledger.tell_failed(1, "oom", "no room for [this]", "log")
    return home


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def refusal(result: CommandResult) -> str:
    """The message of a command that was refused: exit code 2, no traceback, nothing on stdout."""
    assert result.code == 2, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert all(line.startswith("xlt: ") for line in result.err.splitlines())
    return result.err.removeprefix("xlt: ").strip()


# -- an empty home -----------------------------------------------------------------------


def test_an_empty_home_has_no_sweeps(xlt: Xlt, home: Home) -> None:
    assert xlt("status", "--json") == CommandResult(0, "[]\n", "")
    result = xlt("status")
    assert (result.code, result.out) == (0, f"no sweeps in {home.root}\n")
    assert not home.root.exists()


@pytest.mark.parametrize("command", ["trials", "status", "report", "resume"])
def test_an_unknown_name_is_refused(xlt: Xlt, home: Home, command: str) -> None:
    assert refusal(xlt(command, "nothing")) == (
        f"{home.root}: there is no sweep 'nothing'; available: none yet"
    )
    assert not home.root.exists()


# -- a small home ------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_status_counts_trials_by_state(xlt: Xlt) -> None:
    (row,) = xlt("status", "--json").json
    assert row == {
        "name": "small",
        "trials": {"complete": 1, "pruned": 0, "failed": 1, "running": 0,
                   "interrupted": 0, "queued": 1, "waiting": 1},
        "failures": ["1 trial failed for oom (1); again: xlt resume small --where oom"],
        "gpu_hours": 0.0,
        "best": {"configuration": 0, "objective": 0.75, "seeds": 1, "trial": 0,
                 "params": {"target.learning_rate": 1e-4}},
        "front": [],
        "is_running": False,
        "seconds_left": None,
        "left_nodes": [],
        "by_hand": [],
        "origin": "",
        "problem": None,
    }  # fmt: skip
    assert xlt("status", "small", "--json").json == [row]
    table = xlt("status").out
    assert "small" in table
    assert "0.75" in table
    assert "small: 1 trial failed for oom (1); again: xlt resume small --where oom" in table


@pytest.mark.parametrize(
    ("begun_by", "is_driven", "state"),
    [("", False, "queued"), ("", True, "queued"), ("this", True, "running"),
     # A new driver has not taken it up yet.
     ("another", True, "interrupted"), ("another", False, "interrupted")],
)  # fmt: skip
def test_only_what_the_living_driver_has_begun_is_running(
    xlt: Xlt, small: Home, begun_by: str, is_driven: bool, state: str
) -> None:
    with ExitStack() as stack:
        token = ""
        if is_driven:
            lease = try_acquire(Storage(small.root), small.driver_lease("small"))
            assert isinstance(lease, Lease)
            token = stack.enter_context(lease).token
        if begun_by:
            ledger = load_ledger(small, "small")
            ledger.begin_attempt(2)
            driver = token if begun_by == "this" else "dead"
            ledger.set_occupied(2, Occupation(since=1.0, driver=driver))
        (row,) = xlt("status", "small", "--json").json
        assert {name for name, num in row["trials"].items() if num} - {"waiting"} == {
            "complete", "failed", state,
        }  # fmt: skip
        assert xlt("trials", "small", "--json").json[2]["state"] == state


@pytest.mark.parametrize("damage", ["empty", "foreign", "a folder", "an empty URL"])
def test_a_ledger_that_cannot_be_read_is_one_row_of_the_status(
    xlt: Xlt, small: Home, damage: str
) -> None:
    journal = small.ledger_journal("broken")
    if damage == "a folder":
        journal.mkdir()
    elif damage == "an empty URL":
        small.ledger_url("broken").write_text("")
    else:
        journal.write_text("" if damage == "empty" else "once upon a time\n")
    rows = {row["name"]: row for row in xlt("status", "--json").json}
    assert rows["small"]["trials"]["complete"] == 1
    assert "broken" in rows["broken"]["problem"]
    listed = xlt("status")
    assert listed.code == 0
    assert "0.75" in listed.out
    assert "broken" in listed.out
    assert xlt("status", "broken").code == 2


def test_status_tells_whether_a_driver_is_at_work(xlt: Xlt, small: Home) -> None:
    lease = try_acquire(Storage(small.root), small.driver_lease("small"))
    assert isinstance(lease, Lease)
    with lease:
        assert xlt("status", "--json").json[0]["is_running"]
        assert "running" in xlt("status").out
        load_ledger(small, "small").note("left_nodes", ["10.0.0.3 (1a2b3c4d)"])
        assert "running without node 10.0.0.3 (1a2b3c4d)" in xlt("status").out
        load_ledger(small, "small").record_heartbeat(time.time(), 7200.0)
        assert "(1a2b3c4d), about 2 h 0 min left" in xlt("status").out
    assert not xlt("status", "--json").json[0]["is_running"]


@pytest.mark.usefixtures("small")
def test_trials_are_listed_with_documented_keys(xlt: Xlt) -> None:
    rows = xlt("trials", "small", "--json").json
    assert [row["state"] for row in rows] == ["complete", "failed", "queued"]
    assert set(rows[0]) == {
        "number", "state", "configuration", "repeat", "rung", "seed", "params", "objective",
        "scores", "dev_scores", "attempts", "cause", "message", "stages", "mlflow_run_id",
        "retry_of", "further_objectives", "violated",
        "facts", "by_hand", "commit", "versions", "evidence", "supervision",
    }  # fmt: skip
    assert rows[0]["scores"] == {"toy-nli": {"qaa": {"accuracy": 0.5}, "qab": {"accuracy": 0.25}}}
    assert rows[0]["dev_scores"] == {"toy-nli": {"qaa": {"accuracy": 0.75}}}
    assert [use["reused"] for use in rows[0]["stages"]] == [True, True, False, True]
    assert set(rows[0]["stages"][0]) == {"kind", "key", "label", "reused", "examples", "made_by"}
    assert (rows[1]["cause"], rows[1]["message"]) == ("oom", "no room for [this]")
    assert rows[2]["params"] == {"target.learning_rate": 1e-2}


@pytest.mark.usefixtures("small")
def test_stages_of_a_trial_name_the_trial_that_made_them(xlt: Xlt) -> None:
    stages = xlt("trials", "small", "--json").json[0]["stages"]
    assert [stage["made_by"] for stage in stages] == [
        {"sweep": "other", "trial": 7}, {"sweep": "small", "trial": 2},
        {"sweep": "small", "trial": 0}, None,
    ]  # fmt: skip


@pytest.mark.usefixtures("small")
def test_the_table_of_trials_has_the_same_rows(xlt: Xlt) -> None:
    result = xlt("trials", "small")
    assert result.code == 0
    for shown in ("learning_rate", "0.0001", "0.75", "oom", "queued"):
        assert shown in result.out
    assert "align ↺other/7 · intermediate ↺2 · target ✓ · evaluate ↺\n" in result.out
    assert "✓ made by this trial, ↺3 reused from trial 3" in result.out


@pytest.mark.parametrize(
    ("made_by", "shown", "row"),
    [
        # An attempt that died between its commit and its report.
        ("small/2", "target ✓\n", {"sweep": "small", "trial": 2}),
        ("small", "target ↺small\n", {"sweep": "small", "trial": None}),
        ("other", "target ↺other\n", {"sweep": "other", "trial": None}),
    ],
)
def test_stages_are_shown_whoever_made_them(
    xlt: Xlt, small: Home, made_by: str, shown: str, row: dict[str, Any]
) -> None:
    use = StageUse("target", "f" * 64, "target", True, made_by=made_by)
    load_ledger(small, "small").set_stages(2, [use])
    assert xlt("trials", "small", "--json").json[2]["stages"][0]["made_by"] == row
    assert shown in xlt("trials", "small").out


@pytest.mark.usefixtures("small")
def test_a_sweep_file_stands_for_its_name(xlt: Xlt, file: Path) -> None:
    assert xlt("trials", str(file), "--json").json == xlt("trials", "small", "--json").json
    assert xlt("status", str(file), "--json").json == xlt("status", "small", "--json").json


def test_looking_changes_nothing(xlt: Xlt, small: Home) -> None:
    before = small.ledger_journal("small").read_bytes()
    xlt("status")
    xlt("trials", "small")
    xlt("plan", "small")
    assert small.ledger_journal("small").read_bytes() == before


@pytest.mark.usefixtures("small")
def test_a_folder_called_like_a_sweep_is_not_taken_for_its_file(
    xlt: Xlt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert xlt("check", "small").out.startswith("small: ok")


@pytest.mark.usefixtures("small")
def test_resume_asks_for_retries_and_for_more_configurations(
    xlt: Xlt, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, Retry | None]] = []
    accepted: list[bool] = []
    verified: list[bool] = []

    def run(
        sweep: SweepSpec,
        _: Home,
        __: ProgressReporter,
        *,
        retry: Retry | None,
        accept_changes: bool,
        is_verified: bool,
    ) -> SweepSummary:
        accepted.append(accept_changes)
        verified.append(is_verified)
        asked.append((sweep.name, sweep.settings.search.trials, retry))
        return SweepSummary((), None, 0, 0, is_finished=True, is_out_of_budget=False)

    monkeypatch.setattr("xlt_ray.sweep.runner.run", run)
    assert xlt("resume", "small", "--failed", "--more", "2").code == 0
    assert xlt("resume", "small").code == 0
    assert xlt("resume", "small", "--where", "oom").code == 0
    assert xlt("resume", "small", "--failed", "--where", "cause=nan").code == 0
    assert xlt("resume", "small", "--trial", "1", "--trial", "7").code == 0
    # A sweep file stands for its name here, too.
    assert xlt("resume", file, "--more", "1").code == 0
    assert asked == [
        ("small", 5, Retry()),
        ("small", 3, None),
        ("small", 3, Retry(cause="oom")),
        ("small", 3, Retry(cause="nan")),
        ("small", 3, Retry(trials=(1, 7))),
        ("small", 4, None),
    ]
    assert xlt("resume", "small", "--accept-changes").code == 0
    assert xlt("run", file, "--accept-changes").code == 0
    assert xlt("run", file).code == 0
    assert accepted[-4:] == [False, True, True, False]
    assert xlt("resume", "small", "--verify").code == 0
    assert xlt("run", file, "--verify").code == 0
    assert verified[-3:] == [False, True, True]


@pytest.mark.usefixtures("small")
def test_a_cause_that_is_none_is_refused_with_the_nearest(xlt: Xlt) -> None:
    assert "did you mean nan?" in refusal(xlt("resume", "small", "--where", "nano"))


def test_failed_trials_are_queued_again_after_a_torn_line_too(small: Home) -> None:
    with small.ledger_journal("small").open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker_id": "dead", "tri')
    sweep = sweep_of_ledger(load_ledger(small, "small"))
    assert open_ledger(small, sweep).enqueue_failed() == [1]
    ledger = load_ledger(small, "small")
    assert [trial.state for trial in ledger.trials()] == [
        "complete",
        "failed",
        "running",
        "waiting",
    ]
    assert ledger.trial(3).retry_of == 1


# -- check -------------------------------------------------------------------------------


def test_a_sound_sweep_is_ok(xlt: Xlt, home: Home, file: Path) -> None:
    result = xlt("check", str(file))
    assert result.code == 0
    assert result.out.splitlines() == [
        "small: ok, at most 3 configurations x 1 seed",
        "target toy-nli: 1,500 steps of 32 rows, each of at most 32 pieces",
    ]
    assert xlt("check", str(file), "--json").json == {
        "ok": True, "problems": [], "warnings": [], "coverage": [], "reads": [],
        "pieces": [], "trains": [{
            "kind": "target", "content": "toy-nli", "steps": [1500, 1500],
            "batch_size": [32, 32], "max_length": [32, 32],
        }],
    }  # fmt: skip
    assert not home.root.exists()


def test_check_says_when_selection_is_oracle_selection(xlt: Xlt, file: Path) -> None:
    assert "[oracle selection]" in xlt("check", str(file), "objective.languages=all").out


def test_problems_of_facts_are_reported_as_json(xlt: Xlt, file: Path) -> None:
    result = xlt("check", str(file), "target.size=10000000", "target.max_length=4096", "--json")
    assert result.code == 2
    assert not result.json["ok"]
    problems = result.json["problems"]
    assert {problem["key"] for problem in problems} == {"target.size", "target.max_length"}
    for problem in problems:
        assert set(problem) == {"file", "line", "key", "problem", "remedy"}
        assert problem["file"] == "command line"


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_a_decoder_only_model_needs_a_piece_that_saw_the_sentence_before_anything_starts(
    xlt: Xlt, home: Home, file: Path, tmp_path: Path, command: str
) -> None:
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    result = xlt(command, str(file), f"model={tmp_path / 'llama'}")
    assert "model.pooling: " in refusal(result)
    assert "causal" in result.err
    assert not home.root.exists()


@pytest.mark.parametrize(
    ("argument", "key", "problem"),
    [
        ("target.task=toy-nlii", "target.task", "toy-nli"),
        ("model=nowhere/to/be/found", "model", "nowhere"),
        ("resources.cpus_per_worker=100000", "resources", "a trial asks for 100000 CPUs"),
        ("a", "", "is not an override"),
        ("data={source: files, root: /nowhere}", "data.root", "/nowhere"),
    ],
)
def test_check_tells_every_kind_of_problem_as_json(
    xlt: Xlt, file: Path, monkeypatch: pytest.MonkeyPatch, argument: str, key: str, problem: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = xlt("check", str(file), argument, "--json")
    assert result.code == 2
    (row,) = result.json["problems"]
    assert row["key"] == key
    assert problem in row["problem"]
    assert refusal(xlt("check", str(file), argument))


@pytest.mark.parametrize("content", ["a: [1", "", "a: 1\na: 2", "a: \x01"])
def test_a_file_that_cannot_be_read_is_reported_as_json_too(
    xlt: Xlt, file: Path, content: str
) -> None:
    file.write_text(content)
    result = xlt("check", str(file), "--json")
    assert result.code == 2
    assert result.json["problems"][0]["file"] == str(file)
    assert refusal(xlt("check", str(file))).startswith(str(file))


# -- plan --------------------------------------------------------------------------------

PLANNED = (
    "intermediate={task: toy-paraphrase, size: 96, epochs: 1, batch_size: 8, max_length: 32}",
    "target.size=80", "target.batch_size=8", "target.epochs=1",
)  # fmt: skip


def test_a_plan_has_documented_keys(xlt: Xlt, home: Home, file: Path) -> None:
    row = xlt("plan", str(file), "--json", *PLANNED).json
    stages, forecast = row.pop("stages"), row.pop("forecast")
    assert row == {
        "name": "small", "trials": 3, "unique_stages": 7, "stages_naive": 9,
        "examples_naive": 3 * (96 + 80), "examples_shared": 96 + 3 * 80,
        "examples_left": 96 + 3 * 80, "ratio": 3 * (96 + 80) / (96 + 3 * 80),
        "is_estimate": False, "coverage": [],
    }  # fmt: skip
    first, second = stages[:2]
    assert {key: first[key] for key in first if key not in ("key", "seconds", "memory_gib")} == {
        "kind": "intermediate", "label": "intermediate toy-paraphrase 96", "parent": None,
        "model": "toy:2x64", "trials": 3, "examples": 96, "in_store": False,
        "gpu_memory_gib": 0.0,
    }  # fmt: skip
    assert 0 < first["seconds"]["low"] < first["seconds"]["median"] < first["seconds"]["high"]
    assert 0 < first["memory_gib"] <= forecast["memory_gib"] < 2
    assert forecast["device"] == "CPU"
    assert forecast["num_observations"] == 0
    assert (second["kind"], second["parent"]) == ("target", first["key"])
    assert not home.root.exists()


def test_a_plan_is_a_tree_with_its_totals(xlt: Xlt, home: Home, file: Path) -> None:
    result = xlt("plan", str(file), *PLANNED)
    assert result.code == 0
    assert "toy:2x64" in result.out
    assert re.search(
        r"intermediate toy-paraphrase 96  [0-9a-f]{10}  3 trials  96 examples\n", result.out
    )
    assert re.search(
        r"target toy-nli 80  [0-9a-f]{10}  trial 2  80 examples  \+ evaluate", result.out
    )
    lines = result.out.splitlines()
    total = (
        "3 trials, 7 unique stages of 9; 336 examples instead of 528 (1.6 times fewer); "
        "336 left to train"
    )
    forecast = lines[lines.index(total) + 1 :]
    assert any(line.startswith("  finish: ") for line in forecast)
    assert any("longest trial" in line for line in forecast)
    assert max(map(len, forecast)) <= 80
    assert not home.root.exists()


def test_a_plan_marks_what_is_in_the_store(xlt: Xlt, home: Home, file: Path) -> None:
    stages = xlt("plan", str(file), "--json", *PLANNED).json["stages"]
    store = StageStore(home.stages)
    for stage in stages:
        store.storage.write(f"stages/{stage['key']}/record.json", b"{}")
        if stage["kind"] == "intermediate":
            result = xlt("plan", str(file), *PLANNED)
            assert "3 trials  96 examples  in store\n" in result.out
            assert "; 240 left to train" in result.out
    assert "; nothing left to train" in xlt("plan", str(file), *PLANNED).out
    stages = xlt("plan", str(file), "--json", *PLANNED).json["stages"]
    assert all(stage["in_store"] for stage in stages)


def test_a_plan_that_shares_nothing_says_so(xlt: Xlt, file: Path) -> None:
    result = xlt("plan", str(file), "search.trials=1", *PLANNED[1:])
    assert (
        "1 trial, 2 unique stages of 2; 80 examples, no training is shared; 80 left" in result.out
    )


def test_a_plan_says_where_a_ladder_would_share(xlt: Xlt, file: Path) -> None:
    sizes = "{task: toy-nli, size: {choice: [64, 128, 256]}, batch_size: 8, max_length: 32%s}"
    result = xlt("plan", str(file), f"intermediate={sizes % ''}", "search.trials=9")
    assert "sizes 64, 128, 256 share no training" in result.out
    assert "schedule: wsd" in result.out
    wsd = ", schedule: {method: wsd, warmup_examples: 8}"
    result = xlt("plan", str(file), f"intermediate={sizes % wsd}", "search.trials=9")
    assert "trunk toy-nli" in result.out
    assert "share no training" not in result.out


def test_a_plan_that_needs_scores_is_called_an_estimate(xlt: Xlt, file: Path) -> None:
    result = xlt("plan", str(file), "search={trials: 3, sampler: tpe}")
    assert "estimate: later trials depend on the scores" in result.out
    assert "estimate: " not in xlt("plan", str(file)).out


def test_many_siblings_are_summed_up(xlt: Xlt, file: Path) -> None:
    assert "more target stages" not in xlt("plan", str(file), "search.seeds=4").out
    result = xlt("plan", str(file), "search.seeds=5")
    assert result.out.count("── target toy-nli") == 11
    assert "and 4 more target stages" in result.out


@pytest.mark.usefixtures("small")
def test_a_plan_knows_the_trials_of_the_ledger(xlt: Xlt) -> None:
    row = xlt("plan", "small", "--json").json
    assert row["trials"] == 3
    # Two trials have their fate, the third is still to be made.
    assert row["examples_left"] == row["examples_shared"] / 3
    assert xlt("plan", "small", "search.trials=2", "--json").json["trials"] == 3
    assert refusal(xlt("plan", "small", "search.seed=1")).startswith(
        "small: a sweep of this name exists"
    )


def test_plan_says_why_two_trials_do_not_share(xlt: Xlt, file: Path) -> None:
    result = xlt("plan", str(file), "--explain", "0", "2")
    assert (result.code, result.out) == (
        0,
        "trials 0 and 2 diverge at their target stages:\n  target.learning_rate: 0.0001 -> 0.01\n",
    )
    assert xlt("plan", str(file), "--explain", "0", "2", "--json").json == {
        "trials": [0, 2], "kind": "target",
        "differences": [{"field": "target.learning_rate", "values": [0.0001, 0.01]}],
    }  # fmt: skip
    result = xlt("plan", str(file), "--explain", "1", "1")
    assert result.out == "trials 1 and 1 share every stage\n"
    assert xlt("plan", str(file), "--explain", "1", "1", "--json").json["kind"] is None
    result = xlt("plan", str(file), "--explain", "0", "1", "search={trials: 3, sampler: grid}",
               "intermediate={choice: [null, {task: toy-paraphrase, size: 96, max_length: 32}]}",
               "target.learning_rate=1e-4")  # fmt: skip
    assert "  intermediate: none -> intermediate toy-paraphrase 96\n" in result.out


def test_an_unknown_trial_is_not_explained(xlt: Xlt, home: Home, file: Path) -> None:
    assert refusal(xlt("plan", str(file), "--explain", "0", "3")) == (
        "small: there is no trial 3 in this plan; the last one is 2"
    )
    assert not home.root.exists()


@pytest.mark.parametrize(
    "argument", ["target.task=toy-nlii", "target.size=10000000", "search.trails=3", "a"]
)
def test_a_plan_refuses_what_check_refuses(xlt: Xlt, home: Home, file: Path, argument: str) -> None:
    assert refusal(xlt("plan", str(file), argument)) == refusal(xlt("check", str(file), argument))
    assert not home.root.exists()


# -- list, schema, usage -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["tasks", "models", "methods"])
def test_listings_are_tables_and_json_of_the_same_rows(xlt: Xlt, what: str) -> None:
    rows = xlt("list", what, "--json").json
    assert rows
    assert len({tuple(row) for row in rows}) == 1
    table = xlt("list", what).out
    names = {"tasks": "task", "models": "model", "methods": "method"}
    for row in rows:
        assert row[names[what]] in table


def test_every_task_and_method_is_listed(xlt: Xlt) -> None:
    tasks = {row["task"] for row in xlt("list", "tasks", "--json").json}
    assert {"pos", "ner-uner", "stsb", "nli", "toy-nli", "toy-tagging"} <= tasks
    methods = {(row["key"], row["method"]) for row in xlt("list", "methods", "--json").json}
    assert {("target.fusion", "dlfa"), ("align", "tlm")} <= methods


def test_the_schema_is_printed_as_json(xlt: Xlt) -> None:
    assert xlt("schema").json["title"] == "xlt-ray sweep"


@pytest.mark.parametrize("arguments", [("frobnicate",), ("list", "dogs"), ("run",),
                                       ("trials", "x", "--frob")])  # fmt: skip
def test_a_wrong_command_is_refused_with_usage(xlt: Xlt, arguments: tuple[str, ...]) -> None:
    result = xlt(*arguments)
    assert result.code == 2
    assert "Usage" in result.err
    assert "Traceback" not in result.err


@pytest.mark.usefixtures("small")
def test_every_key_of_a_listing_is_in_the_guide(xlt: Xlt, file: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
    table = guide.partition("## Listings as JSON")[2].partition("\n## ")[0]

    def documented(verb: str) -> set[str]:
        (line,) = [line for line in table.splitlines() if line.startswith(f"| `xlt {verb}")]
        return set(re.findall(r"`(\w+)`", line.split("|", 3)[3]))

    for verb, parts in {
        "status": (lambda row: [row, row["trials"], row["best"]]),
        "trials": (
            lambda row: [
                row,
                row["stages"][0],
                row["stages"][0]["made_by"],
                row["evidence"]["toy-nli"]["qaa"],
            ]
        ),
    }.items():
        first = xlt(verb, "small", "--json").json[0]
        # One objective has no front, whose points have `objectives`.
        assert set().union(*parts(first)) == documented(verb) - {"objectives"}
    plan = xlt("plan", file, "--json").json
    parted = xlt("plan", file, "--explain", "0", "1", "--json").json
    rows = (plan, plan["stages"][0], plan["forecast"], plan["forecast"]["finish_h"])
    assert set().union(*rows, parted, parted["differences"][0]) == documented("plan")
    check = xlt("check", file, "search.trials=0", "--json").json
    covered = {field.name for field in dataclasses.fields(Coverage)}
    read = {
        field.name
        for row in (Sizes, StageSize, TextShares, RowLengths)
        for field in dataclasses.fields(row)
    }
    assert set().union(check, check["problems"][0], covered, read) == documented("check")
    listed = [xlt("list", what, "--json").json[0] for what in ("tasks", "models", "methods")]
    assert set().union(*listed) == documented("list")
    (store,) = xlt("gc", "--json").json
    frees = store["frees"] or [{}]
    assert set().union(store, *frees, *store["stays"]) <= documented("gc")


@pytest.mark.parametrize("arguments", [("--version",), ("--version", "run"), ("--version", "x")])
def test_the_version_is_that_of_the_installed_package(xlt: Xlt, arguments: tuple[str, ...]) -> None:
    result = xlt(*arguments)
    assert (result.code, result.out, result.err) == (0, f"xlt-ray {version('xlt-ray')}\n", "")


def test_the_package_and_its_metadata_name_one_version() -> None:
    root = Path(__file__).parents[3]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert declared == xlt_ray.__version__


def test_an_error_that_is_not_of_a_path_keeps_its_traceback(
    xlt: Xlt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Home) -> list[str]:
        raise OSError(errno.EIO, "Input/output error", "/dev/x")

    monkeypatch.setattr(Home, "sweeps", fail)
    with pytest.raises(OSError, match="Input/output"):
        xlt("status")


def test_a_full_disk_is_reported_in_one_line(xlt: Xlt, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Home) -> list[str]:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/x")

    monkeypatch.setattr(Home, "sweeps", fail)
    result = xlt("status")
    line = "xlt: /home/x: No space left on device; free some space and run the same command"
    assert (result.code, result.err.splitlines()) == (1, [line])
