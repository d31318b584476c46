"""A trial out of a home: exported, loaded, asked again, and refused where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from tests.command import Xlt
from tests.training.conftest import TINY, Bench
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.task import task_named
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, open_ledger
from xlt_ray.modeling.exported_network import load_exported
from xlt_ray.store.store import StageStore
from xlt_ray.training.load import load_network
from xlt_ray.training.predict import predict


@pytest.fixture(scope="module")
def made(bench: Bench, alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which trial 0 of ``tiny`` is complete, trial 1 failed, trial 2 was freed."""
    home = Home(tmp_path_factory.mktemp("made") / "home")
    shutil.copytree(alone, home.root)
    sweep = sweep_of(parse_document(TINY, "tiny.yaml", ["search.seeds=3"]))
    ledger = open_ledger(home, sweep)
    for number, seed in enumerate((0, 1, 2)):
        assert ledger.ask(sweep, bench.facts.model_bounds) is not None
        uses = [
            StageUse(stage.kind, stage.key, stage.label, False)
            for stage in bench.path(seed=seed)[1:]
        ]
        if number == 1:
            ledger.tell_failed(number, "nan", "the loss is not a number")
            continue
        ledger.set_stages(number, uses)
        ledger.tell_complete(number, 0.7 - number / 10)
    return home


@pytest.fixture
def home(made: Home) -> Home:
    """The home that ``xlt`` looks into."""
    return made


def test_the_best_trial_comes_back_bit_for_bit_and_scores_what_it_scored(
    bench: Bench, made: Home, xlt: Xlt, tmp_path: Path
) -> None:
    place = tmp_path / "models" / "best"
    code, out, _ = xlt("export", "tiny", place)
    assert (code, "trial 0 of tiny" in out) == (0, True)
    assert [file.name for file in place.parent.iterdir()] == ["best"]
    loaded = load_exported(place)
    trial, path = bench.trial(), bench.path()
    source = bench.open_data(trial)
    store = StageStore(made.stages)
    network, _ = load_network(path[-2], bench.context(made.stages))
    rows = {
        "input_ids": torch.arange(6, 26).reshape(2, 10),
        "attention_mask": torch.ones(2, 10, dtype=torch.long),
    }
    with torch.inference_mode():
        assert torch.equal(loaded.network.predict(rows), network.eval().predict(rows))
    encoder = transformers.AutoModel.from_pretrained(place).eval()
    with torch.inference_mode():
        theirs = encoder(**rows).last_hidden_state
        assert torch.equal(theirs, network.encoder(**rows).last_hidden_state)

    task = task_named("toy-paraphrase")
    record = store.record(path[-1].key)
    assert record is not None
    for language in ("qaa", "qab"):
        examples = source.read(task, language, "test")[:20]
        answers = [prediction.answer for prediction in predict(loaded, examples)]
        values = kind_of(task).score(
            Predictions(language, [example.gold for example in examples], answers)
        )
        scored = {
            score.metric: score.value
            for score in record.scores
            if (score.language, score.split) == (language, "test")
        }
        assert values == scored

    metadata = loaded.metadata
    assert [stage.key for stage in metadata.stages] == [stage.key for stage in path[1:]]
    assert metadata.stages[1].data == path[-2].data
    assert (metadata.trial, metadata.seed, metadata.languages) == (0, 0, ("qaa", "qab"))
    assert metadata.fusion["method"] == "dlfa"
    assert metadata.transformers_class == ""


def test_the_card_says_what_it_is_where_it_comes_from_and_how_it_is_loaded(
    xlt: Xlt, tmp_path: Path
) -> None:
    place = tmp_path / "best"
    assert xlt("export", "tiny", place)[0] == 0
    card = (place / "README.md").read_text()
    for part in (
        "trial 0 is the best of its 2 complete seeds", "accuracy on the dev set of qaa",
        "xlt confirm tiny",
        "intermediate toy-nli 48", "target toy-paraphrase 64", "fusion dlfa (layer 1",
        "`toy-nli`: no licence is noted", "AutoModel.from_pretrained", "load_exported",
    ):  # fmt: skip
        assert part in card, part
    rows = [line for line in card.splitlines() if line.startswith("| qa")]
    assert [line.split("|")[1].strip() for line in rows] == ["qaa", "qab"]


def test_predictions_are_written_as_text_or_json(xlt: Xlt, tmp_path: Path, bench: Bench) -> None:
    place, file = tmp_path / "best", tmp_path / "pairs.txt"
    assert xlt("export", "tiny", place)[0] == 0
    examples = bench.open_data(bench.trial()).read(task_named("toy-paraphrase"), "qab", "test")[:3]
    file.write_text("".join(f"{example.first}\t{example.second}\n" for example in examples))
    predictions = predict(load_exported(place), examples)
    code, out, _ = xlt("predict", place, file)
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["id", "prediction", "probability"]
    assert [line[:2] for line in lines[1:]] == [
        [f"line{number}", prediction.answer]
        for number, prediction in enumerate(predictions, start=1)
    ]
    output = tmp_path / "said.jsonl"
    assert xlt("predict", place, file, "--output", output, "--json")[:2] == (0, "")
    trees = [json.loads(line) for line in output.read_text().splitlines()]
    assert [tree["probabilities"] for tree in trees] == [
        prediction.by_label for prediction in predictions
    ]
    assert not list(tmp_path.glob(".said*"))


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    xlt: Xlt, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("all of it")
    for arguments, message in (
        (["tiny", full], "exists and is not empty; name a new folder"),
        (["tiny", full / "thesis.txt"], "exists; name a new folder"),
        (["tiny", full / "thesis.txt" / "x"], "cannot be written"),
        (["tiny", tmp_path / "x", "--trial", 1], "is failed and has no target stage"),
        (["tiny", tmp_path / "x", "--trial", 2], "xlt stage tiny --trial 2 --until target"),
        (["tiny", tmp_path / "x", "--trial", 9], "there is no trial 9"),
        (["nothing", tmp_path / "x"], "there is no sweep 'nothing'"),
    ):
        code, out, err = xlt("export", *arguments)
        assert (code, out) == (2, ""), err
        assert message in err
    assert [file.name for file in tmp_path.iterdir()] == ["full"]
    assert [file.name for file in full.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_written_to_and_a_named_trial_says_so(xlt: Xlt, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    assert xlt("export", "tiny", place, "--trial", 0)[0] == 0
    assert "Trial 0 was named by hand" in (place / "README.md").read_text()


def test_a_damaged_stage_is_not_exported(
    made: Home, bench: Bench, xlt: Xlt, tmp_path: Path
) -> None:
    target = bench.path()[-2]
    file = StageStore(made.stages).folder(target.key) / "network.safetensors"
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + b"\x00\x01")
        code, _, err = xlt("export", "tiny", tmp_path / "x")
    finally:
        file.write_bytes(content)
    assert code == 1
    assert "a file was altered or cut short" in err
    assert "make it again: xlt resume tiny --verify" in err
    assert not (tmp_path / "x").exists()


def test_faults_of_files_and_folders_are_reported_in_a_line(xlt: Xlt, tmp_path: Path) -> None:
    place, file = tmp_path / "best", tmp_path / "pairs.txt"
    assert xlt("export", "tiny", place)[0] == 0
    file.write_text("a\tb\nalone\n")
    code, _, err = xlt("predict", place, file)
    assert (code, f"{file}:2: has 1 columns" in err) == (2, True)
    code, _, err = xlt("predict", tmp_path, file)
    assert (code, "xlt.json cannot be read" in err) == (2, True)
    file.write_text("a\tb\n")
    code, _, err = xlt("predict", place, file, "--output", tmp_path / "no" / "where.txt")
    assert (code, "cannot be written" in err) == (2, True)
