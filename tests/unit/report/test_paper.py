"""The paper pack: LaTeX that holds together, and a checklist that ledger and store fill."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.report.conftest import Finished
from xlt_ray.data.task import task_named
from xlt_ray.errors import SpecError
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.paper import write_paper
from xlt_ray.report.references import bibtex, references_of
from xlt_ray.report.tables import all_groupings


@pytest.fixture(scope="module")
def snapshot(quick: Finished) -> Snapshot:
    return quick.snapshot()


@pytest.fixture(scope="module")
def pack(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "paper"
    document = write_paper(snapshot, folder, all_groupings(snapshot), lambda _: "")
    assert document == folder / "paper.tex"
    return folder


def test_every_file_is_balanced_and_escaped(pack: Path) -> None:
    files = list(pack.rglob("*.tex"))
    assert len(files) >= 6
    for file in files:
        lines = [line for line in file.read_text().splitlines() if not line.startswith("% needs")]
        text = re.sub(r"\\\\", "", "\n".join(lines))
        stack: list[str] = []
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
            if kind == "begin":
                stack.append(name)
            else:
                assert stack.pop() == name, file
        assert not stack, file
        bare = re.sub(r"\\[&%$#_{}]", "", text)
        assert bare.count("{") == bare.count("}"), file
        bare = re.sub(r"\$[^$]*\$", "", bare)
        bare = re.sub(r"\\(?:input|includegraphics|cite|label)(?:\[.*?\])?\{.*?\}", "", bare)
        if "longtable" not in bare:
            assert "&" not in bare, file
        assert not re.findall(r"[#%_^~$<>|\"]", bare), file


def test_what_the_document_names_is_there(pack: Path) -> None:
    text = "".join(file.read_text() for file in pack.rglob("*.tex"))
    named = re.findall(r"\\(?:input|includegraphics)(?:\[.*?\])?\{(.*?)\}", text)
    assert len(named) > 15
    assert all((pack / name).stat().st_size for name in named)
    assert all(
        (pack / name).read_bytes().startswith(b"%PDF") for name in named if name.endswith(".pdf")
    )
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels)), "no label twice"
    assert {"tab:search-space", "tab:toy-nli-qaa-languages"} <= set(labels)
    cited = {key for keys in re.findall(r"\\cite\{(.*?)\}", text) for key in keys.split(",")}
    entries = re.findall(r"@misc\{(.*?),", (pack / "references.bib").read_text())
    assert cited == set(entries)
    assert "arxiv:2205.08497" in cited, "the fusion that the trials use"


def test_the_checklist_is_filled_and_says_what_is_missing(pack: Path) -> None:
    text = " ".join((pack / "checklist.tex").read_text().split())
    assert "48 trials (38 complete) of 16 configurations" in text
    assert "target.fusion.layer 2" in text, "the best values"
    assert "chosen by accuracy on the dev set of qaa" in text
    assert "worker-hours" in text
    assert "dev 78.1" in text
    assert "toy:2x64: MISSING: not in the table of models" in text
    expected = re.search(r"\[\{expected best.*?\}\] 1: ([\d.]+), 2: ([\d.]+), 4: ([\d.]+)", text)
    assert expected is not None
    assert float(expected[1]) < float(expected[2]) < float(expected[3]) < 78.1
    setup = (pack / "setup.tex").read_text()
    for bounds in ("500, 2000, 8000", "0 to num\\_layers - 1", "none, toy-paraphrase"):
        assert bounds in setup


def test_known_works_are_cited_and_others_are_named(snapshot: Snapshot) -> None:
    real = {**snapshot.sweep["space"], "model": "xlm-roberta-base"}
    trials = tuple(replace(trial, assignment={}) for trial in snapshot.trials)
    sweep = {**snapshot.sweep, "space": real}
    cited = {"toy-nli": task_named("xnli").citation}
    references = references_of(
        replace(snapshot, sweep=sweep, trials=trials), lambda task: cited.get(task, "")
    )
    keys = {reference.key: reference.used_for for reference in references}
    assert keys["arxiv:1809.05053"] == "the task toy-nli"
    assert keys["arxiv:1911.02116"] == "the model xlm-roberta-base"
    text = bibtex(references)
    assert "% missing: a reference for the task toy-paraphrase" in text
    assert text.count("{") == text.count("}")


def test_a_folder_with_files_is_left_alone(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "paper.tex").write_text("mine")
    with pytest.raises(SpecError, match="holds files already"):
        write_paper(snapshot, tmp_path, all_groupings(snapshot), lambda _: "")
    assert (tmp_path / "paper.tex").read_text() == "mine"
