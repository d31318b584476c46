"""``xlt init`` writes sweep files that pass ``xlt check``, or says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.contracts.test_source_contract import write_folder
from tests.mistakes.workplace import write_model
from xlt_ray import api
from xlt_ray.cli import app
from xlt_ray.config.first_sweep import QUESTIONS
from xlt_ray.errors import XltError

ANSWERS = {"data": "toy", "task": "toy-nli", "model": "toy:2x64", "question": "rate", "seeds": "2"}
Init = Callable[..., Result]


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Init:
    """``xlt init first.yaml`` with these answers as options; None leaves one out."""
    monkeypatch.chdir(tmp_path)

    def run(*more: str, typed: str | None = None, **changed: str | None) -> Result:
        options = [
            part
            for name, answer in {**ANSWERS, **changed}.items()
            if answer is not None
            for part in (f"--{name}", answer)
        ]
        monkeypatch.setattr("xlt_ray.cli.init._has_terminal", lambda: typed is not None)
        return CliRunner().invoke(app, ["init", "first.yaml", *options, *more], input=typed)

    return run


def refused(result: Result) -> str:
    assert isinstance(result.exception, XltError)
    return str(result.exception)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_it_writes_passes_the_check_and_asks_the_question(init: Init, question: str) -> None:
    result = init(question=question)
    assert "next: xlt check first.yaml" in result.output
    checked = api.check("first.yaml")
    assert checked.error is None
    assert checked.num_configurations > 1
    assert Path("first.yaml").read_text().startswith(f"# {QUESTIONS[question].text}\n")
    # Switched words, so that no question leaves zero-shot transfer.
    assert set(checked.supervisions) <= {"zero-shot"}


def test_the_users_own_files_are_found(init: Init, tmp_path: Path) -> None:
    write_folder(tmp_path / "data")
    for language in ("en", "de"):
        lines = "id\tsentence1\tsentence2\tlabel\n" + "".join(
            f"{number}\ta {number}\tb {language}\t{number % 2}\n" for number in range(20)
        )
        for split in ("train", "dev", "test"):
            place = tmp_path / "data" / "pairs" / "pawsx" / f"{language}.{split}.tsv"
            place.write_text(lines.replace("a ", f"{split} "))
    write_model(tmp_path / "encoder", layers=2, width=16)
    init(data="data", task="pawsx", model="./encoder", question="hybrid")
    text = Path("first.yaml").read_text()
    assert "data: {source: files, root: data}" in text
    assert "# with 2 test sets: de, en\n" in text
    assert "source_language: en" in text


def test_questions_are_asked_in_a_terminal(init: Init) -> None:
    result = init(typed="toy\ntoy-nli\n\nfusion\n2\n", **dict.fromkeys(ANSWERS))
    assert "Which layer should be fused" in result.output
    assert "model: toy:2x64" in Path("first.yaml").read_text()


def test_an_answer_that_is_no_number_is_refused(init: Init) -> None:
    assert "is not a number of trainings" in refused(init(typed="abc\n", seeds=None))
    assert not Path("first.yaml").exists()


def test_a_file_is_called_as_a_sweep_may_be() -> None:
    result = CliRunner().invoke(app, ["init", "my sweep.yaml"])
    assert "'my sweep' cannot be the name of a sweep" in refused(result)


def test_without_a_terminal_missing_answers_are_named(init: Init) -> None:
    assert "--task: is not given" in refused(init(task=None))


def test_an_existing_file_is_kept(init: Init) -> None:
    Path("first.yaml").write_text("mine")
    assert "exists already" in refused(init())
    assert Path("first.yaml").read_text() == "mine"
    init("--force")
    assert Path("first.yaml").read_text() != "mine"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"task": "toy-nly"}, "did you mean toy-nli"),
        ({"question": "why"}, "--question"),
        ({"data": "nowhere"}, "no such folder"),
        ({"data": "."}, "no task with a train and a dev set"),
        ({"model": "./nowhere"}, "no such folder"),
    ],
)
def test_a_wrong_answer_is_refused_and_nothing_is_written(
    init: Init, changed: dict[str, str], says: str
) -> None:
    assert says in refused(init(**changed))
    assert not Path("first.yaml").exists()


def test_a_question_that_the_data_cannot_answer_is_refused(init: Init, tmp_path: Path) -> None:
    data = tmp_path / "data" / "pos"
    data.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (data / f"en.{split}.conllu").write_text(
            f"# sent_id = {split}\n1\tA\t_\tDET" + "\t_" * 6 + "\n\n"
        )
    write_model(tmp_path / "encoder", layers=2, width=16)
    for question, says in (("intermediate", "no other task"), ("hybrid", "no lexicon")):
        assert says in refused(init(data="data", task="pos", model="./encoder", question=question))
