"""The facts of a sweep: exactly what its results follow from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.unit.sweep.conftest import RecordingReporter
from xlt_ray.cli.prepare import plan
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import (
    Halving,
    Ledger,
    MadeWith,
    fact_sets_of,
    load_ledger,
    mixed_facts,
    open_ledger,
    starts_of,
)
from xlt_ray.store.stage import VERSIONS
from xlt_ray.sweep import runner
from xlt_ray.sweep.read_facts import facts_of, used_facts
from xlt_ray.sweep.runner import checked_facts
from xlt_ray.versions import commit_of, library_versions

CONFIG = {
    "model_type": "bert", "num_hidden_layers": 2, "hidden_size": 16, "max_position_embeddings": 256,
}  # fmt: skip
WEIGHTS = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file without a tensor."""
LABELS = ("entailment", "neutral", "contradiction")


def rows(number: int, words: str = "one two") -> str:
    lines = [f"{row}\t{words} {row}\t{words}\t{LABELS[row % 3]}" for row in range(number)]
    return "id\tsentence1\tsentence2\tlabel\n" + "\n".join(lines) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with everything that the files source reads, and a model beside it."""
    data = tmp_path / "data"
    files = {
        "pairs/xnli/en.train.tsv": rows(64), "pairs/xnli/en.dev.tsv": rows(9),
        "pairs/xnli/en.test.tsv": rows(9), "pairs/xnli/de.test.tsv": rows(9, "eins zwei"),
        "pairs/xnli/de.dev.tsv": rows(9, "eins zwei"),
        "pairs/pawsx/en.train.tsv": rows(9), "parallel/p/en.tsv": "1\tone two\n",
        "parallel/p/de.tsv": "1\teins zwei\n", "alignments/p/de-en.tsv": "1\t0-0 1-1\n",
        "lexicon/en-de.tsv": "one\teins\n", "neighbours/en.tsv": "one\ttwo\n",
    }  # fmt: skip
    for name, text in files.items():
        file = data / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "model.safetensors").write_bytes(WEIGHTS)
    (model / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    return data


PLAIN = "hybrid: {ratio: 0}"
ALL = "hybrid: {ratio: 0.5, text: switched}, robust: {method: augment, neighbours: lists}"
ALIGN = "align: {objective: weam, aligner: auto, steps: 2, batch_size: 2}"


def sweep_on(root: Path, *overrides: str, target: str = PLAIN, align: str = "") -> SweepSpec:
    text = f"""
name: t
data: {{source: files, root: {root}}}
model: {root.parent / "model"}
{align}
target: {{task: xnli, learning_rate: {{float: [1e-5, 1e-3]}}, max_length: 16, {target}}}
search: {{trials: 4, sampler: random}}
"""
    return sweep_of(parse_document(text, "f.yaml", overrides))


def used(sweep: SweepSpec) -> dict[str, str]:
    return used_facts(sweep, checked_facts(sweep))


def names(root: Path) -> set[str]:
    kinds = {f"{kind} stages" for kind in ("model", "target", "evaluate")}
    splits = {"xnli en train", "xnli en dev", "xnli en test", "xnli de test"}
    return {f"model {root.parent / 'model'}", "task xnli", *kinds, *splits}


def test_facts_are_what_the_trials_read(root: Path) -> None:
    assert set(used(sweep_on(root))) == names(root)
    alone = used(sweep_on(root, "evaluate.languages=[en]"))
    assert set(alone) == names(root) - {"xnli de test"}
    both = used(sweep_on(root, "evaluate.dev=all"))
    assert set(both) == names(root) | {"xnli de dev"}


def test_texts_are_facts_if_they_are_used(root: Path) -> None:
    facts = used(sweep_on(root, target=ALL, align=ALIGN))
    texts = {"parallel text en", "parallel text de", "lexicon en", "neighbours en",
             "word links de-en"}  # fmt: skip
    assert set(facts) == names(root) | texts | {"align stages"}


CHANGES = {
    "pairs/xnli/en.train.tsv": "xnli en train",
    "pairs/xnli/en.dev.tsv": "xnli en dev",
    "pairs/xnli/de.test.tsv": "xnli de test",
    "parallel/p/de.tsv": "parallel text de",
    "alignments/p/de-en.tsv": "word links de-en",
    "lexicon/en-de.tsv": "lexicon en",
    "neighbours/en.tsv": "neighbours en",
    "../model/model.safetensors": "model {model}",
    "../model/tokenizer.json": "model {model}",
    "../model/config.json": "model {model}",
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_change_is_refused_with_what_has_changed(root: Path, home: Home, file: str) -> None:
    sweep = sweep_on(root, target=ALL, align=ALIGN)
    begun(home, sweep)
    content = (root / file).read_bytes()
    last = content.splitlines(keepends=True)[-1]
    more = b" " if file.startswith("..") else last.replace(b"1\t", b"2\t").replace(b"one", b"three")
    (root / file).write_bytes(content + more)
    with pytest.raises(LedgerError) as caught:
        started(home, sweep)
    assert caught.value.exit_code == 2
    name = CHANGES[file].format(model=root.parent / "model")
    message = str(caught.value).partition(": trials before")[0].partition("; trials before")[0]
    assert f": {name}: " in message
    assert message.count(" -> ") == 1, "nothing else has changed"
    (root / file).write_bytes(content)
    assert not started(home, sweep).news


def test_a_new_or_missing_file_is_a_change(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    begun(home, sweep)
    shutil.copy(root / "pairs/xnli/de.test.tsv", root / "pairs/xnli/fr.test.tsv")
    with pytest.raises(LedgerError, match=r": xnli fr test is new; trials before and after"):
        started(home, sweep)
    (root / "pairs/xnli/de.test.tsv").unlink()
    with pytest.raises(LedgerError, match=r"xnli de test is gone; xnli fr test is new"):
        started(home, sweep)


def test_files_that_no_trial_reads_may_change(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    begun(home, sweep)
    (root / "pairs/xnli/de.dev.tsv").write_text(rows(5))
    (root / "pairs/pawsx/en.train.tsv").unlink()
    (root / "lexicon/en-de.tsv").write_text("one\tein\n")
    assert not started(home, sweep).news


def test_moved_data_are_not_a_change(root: Path, home: Home, tmp_path: Path) -> None:
    begun(home, sweep_on(root))
    root.rename(tmp_path / "moved")
    moved = sweep_on(root, f"data.root={tmp_path / 'moved'}")
    assert not started(home, moved).news
    assert load_ledger(home, "t").sweep["space"]["data"]["root"] == str(tmp_path / "moved")


def test_another_version_of_a_stage_is_a_change(
    root: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_on(root)
    begun(home, sweep)
    newer = {**VERSIONS, "target": VERSIONS["target"] + 1}
    monkeypatch.setattr("xlt_ray.store.stage.VERSIONS", newer)
    with pytest.raises(LedgerError, match=r"target stages: version \d -> version \d; trials"):
        started(home, sweep)


def test_an_updated_model_of_the_hub_may_be_pinned(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    facts = facts_of(sweep)
    (model,) = facts.models.values()

    def at(commit: str, sweep: SweepSpec, label: str) -> MadeWith:
        models = {label: replace(model, weights=commit)}
        return MadeWith(used_facts(sweep, replace(facts, models=models)))

    complete(open_ledger(home, sweep, at("a" * 40, sweep, model.name)), sweep)
    with pytest.raises(LedgerError, match=rf"model\.revision: {'a' * 40} goes on with the old"):
        open_ledger(home, sweep, at("b" * 40, sweep, model.name))
    pinned = sweep_on(root, f"model={{name: {model.name}, revision: old}}")
    again = open_ledger(home, pinned, at("a" * 40, pinned, f"{model.name}@old"))
    assert not again.news
    with pytest.raises(LedgerError, match=r"space\.model\.name"):
        open_ledger(home, sweep_on(root, "model={name: other, revision: old}"))


# -- facts in the ledger ------------------------------------------------------------


def started(home: Home, sweep: SweepSpec, *, accept_changes: bool = False) -> Ledger:
    return open_ledger(home, sweep, MadeWith(used(sweep)), accept_changes=accept_changes)


def begun(home: Home, sweep: SweepSpec) -> Ledger:
    """A ledger with one complete trial."""
    ledger = started(home, sweep)
    complete(ledger, sweep)
    return ledger


def complete(ledger: Ledger, sweep: SweepSpec) -> int:
    asked_trial = ledger.ask(sweep, lambda _: {"num_layers": 2})
    assert asked_trial is not None
    ledger.begin_attempt(asked_trial.number)
    ledger.tell_complete(asked_trial.number, 0.5)
    return asked_trial.number


def shorten(root: Path) -> None:
    """Forty sentences less to train on."""
    (root / "pairs/xnli/en.train.tsv").write_text(rows(24))


def test_a_refused_start_leaves_the_ledger_as_it_was(root: Path, home: Home) -> None:
    begun(home, sweep_on(root))
    before = home.ledger_journal("t").read_bytes()
    shorten(root)
    root.rename(root.parent / "moved")
    with pytest.raises(LedgerError, match=r"xnli en train: \w{10} -> \w{10}; .* --accept-changes"):
        started(home, sweep_on(root.parent / "moved", f"model={root.parent / 'model'}"))
    after = home.ledger_journal("t").read_bytes()
    assert not [line for line in after[len(before) :].splitlines() if b"facts" in line]
    assert load_ledger(home, "t").sweep["space"]["data"]["root"] == str(root)
    assert len(starts_of(load_ledger(home, "t"))) == 1


class Started(Exception):
    """The run has passed all checks."""


def test_a_run_with_changed_facts_is_refused_before_it_starts(
    root: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(runner, "MlflowSync", start)
    sweep, reporter = sweep_on(root), RecordingReporter()
    with pytest.raises(Started):
        runner.run(sweep, home, reporter)
    (start,) = starts_of(load_ledger(home, "t"))
    assert start.versions == library_versions()
    assert start.commit == commit_of()
    begun(home, sweep)
    shorten(root)
    with pytest.raises(LedgerError, match="xnli en train"):
        runner.run(sweep, home, reporter)
    assert not [line for line in reporter.warnings if "xnli en train" in line]
    with pytest.raises(Started):
        runner.run(sweep, home, reporter, accept_changes=True)
    assert [line for line in reporter.warnings if "accepted" in line and "xnli en train" in line]


def test_a_plan_warns_about_what_a_run_refuses(
    root: Path, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(home, sweep_on(root))
    for is_changed in (False, True):
        plan("t", as_json=True)
        output = capsys.readouterr()
        assert ("warning: what its trials" in output.err) == is_changed
        assert ("xnli en train: " in output.err) == is_changed
        assert json.loads(output.out)["name"] == "t"
        shorten(root)


def test_accepted_changes_mark_the_trials_before_and_after(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    assert not mixed_facts(begun(home, sweep).trials())
    whole = (root / "pairs/xnli/en.train.tsv").read_text()
    shorten(root)
    ledger = started(home, sweep, accept_changes=True)
    assert [line for line in ledger.news if "accepted" in line and "xnli en train: " in line]
    complete(ledger, sweep)
    assert [trial.facts for trial in load_ledger(home, "t").trials()] == [1, 2]
    assert "1 trial with facts 1, 1 trial with facts 2" in mixed_facts(ledger.trials())
    assert not started(home, sweep).news, "what was accepted is not asked again"
    (root / "pairs/xnli/en.train.tsv").write_text(whole)
    with pytest.raises(LedgerError, match="xnli en train"):
        started(home, sweep)
    complete(started(home, sweep, accept_changes=True), sweep)
    ledger = load_ledger(home, "t")
    assert [trial.facts for trial in ledger.trials()] == [1, 2, 1], "the first facts again"
    assert [start.facts for start in starts_of(ledger)] == [1, 2, 2, 1]
    assert set(fact_sets_of(ledger)) == {1, 2}


def test_a_trial_has_the_facts_of_the_start_that_made_it(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    ledger = begun(home, sweep)
    asked_trial = ledger.ask(sweep, lambda _: {"num_layers": 2})
    assert asked_trial is not None
    ledger.begin_attempt(asked_trial.number)
    shorten(root)
    ledger = started(home, sweep, accept_changes=True)
    assert ledger.trial(asked_trial.number).facts == 1
    ledger.resume_trial(asked_trial.number, sweep, lambda _: {"num_layers": 2})
    ledger.begin_attempt(asked_trial.number)
    ledger.tell_failed(asked_trial.number, "lost", "gone")
    assert load_ledger(home, "t").trial(asked_trial.number).facts == 2
    ledger.enqueue_failed()
    assert load_ledger(home, "t").trials()[-1].facts == 2


def test_a_curve_of_other_data_starts_again(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    ledger = started(home, sweep)
    asked_trial = ledger.ask(sweep, lambda _: {"num_layers": 2})
    assert asked_trial is not None
    number = asked_trial.number
    ledger.begin_attempt(number)
    for step in (10, 20, 30):
        assert ledger.report(number, step, 0.9)
    shorten(root)
    with pytest.raises(LedgerError, match="xnli en train"):
        started(home, sweep)
    ledger = started(home, sweep, accept_changes=True)
    ledger.begin_attempt(number)
    assert ledger.trial(number).curve == ()
    halving = Halving(Fraction(1, 10), 2)
    for step, value in ((10, 0.1), (15, 0.2)):
        assert ledger.report(number, step, value)
        assert not ledger.report(number, step, 0.7), "known by now"
        assert not ledger.should_stop_early(number, step, 20, halving)
    again = load_ledger(home, "t").trial(number)
    assert again.curve == ((10, 0.1), (15, 0.2))


def test_data_with_which_every_trial_failed_may_be_corrected(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    ledger = started(home, sweep)
    asked_trial = ledger.ask(sweep, lambda _: {"num_layers": 2})
    assert asked_trial is not None
    ledger.begin_attempt(asked_trial.number)
    ledger.tell_failed(asked_trial.number, "data", "unknown label")
    shorten(root)
    ledger = started(home, sweep)
    complete(ledger, sweep)
    assert not mixed_facts(ledger.trials())


def test_other_versions_are_shown_and_kept(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    facts = used(sweep)
    before = MadeWith(facts, {"torch": "2.12", "ray": "2.60"}, "a" * 40)
    assert not open_ledger(home, sweep, before).news
    after = MadeWith(facts, {"torch": "2.13", "ray": "2.60"}, "b" * 40 + "+")
    (line,) = open_ledger(home, sweep, after).news
    assert line.endswith(f": torch 2.12 -> 2.13, commit {'a' * 10} -> {'b' * 10}+")
    complete(open_ledger(home, sweep, after), sweep)
    read_otherwise = replace(before, facts={**facts, "xnli en train": "0" * 20})
    with pytest.raises(LedgerError, match=r"\(versions differ, too: torch 2.13 -> 2.12, commit"):
        open_ledger(home, sweep, read_otherwise)
    starts = starts_of(load_ledger(home, "t"))
    assert [start.versions["torch"] for start in starts] == ["2.12", "2.13", "2.13"]
    assert [start.commit for start in starts] == ["a" * 40, "b" * 40 + "+", "b" * 40 + "+"]


def test_a_start_of_a_newer_version_can_be_read(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    made_with = MadeWith(used(sweep), {"torch": "2.12"}, "a" * 40)
    ledger = open_ledger(home, sweep, made_with)
    ledger.note("start:0", {**ledger.study.user_attrs["start:0"], "node": "n1"})
    open_ledger(home, sweep, made_with)
    assert [start.commit for start in starts_of(load_ledger(home, "t"))] == ["a" * 40] * 2


def test_an_old_ledger_without_facts_continues_and_gets_them(root: Path, home: Home) -> None:
    sweep = sweep_on(root)
    complete(open_ledger(home, sweep), sweep)
    ledger = started(home, sweep)
    assert ["this ledger does not know what" in line for line in ledger.news] == [True]
    complete(ledger, sweep)
    assert [trial.facts for trial in ledger.trials()] == [0, 1]
    assert "1 trial with facts that were not kept, 1 trial with facts 1" in mixed_facts(
        ledger.trials()
    )
    assert not started(home, sweep).news
    shorten(root)
    with pytest.raises(LedgerError, match="xnli en train"):
        started(home, sweep)


def test_resources_and_places_are_not_a_change(root: Path, home: Home) -> None:
    begun(home, sweep_on(root))
    other = sweep_on(root, "resources.workers=2", f"places.store={root.parent / 'store'}")
    assert not started(home, other).news
