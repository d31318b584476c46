"""What ``make real`` runs works, in small: its commands on made-up sentences and a tiny encoder."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs.test_documents import ROOT

IN_SMALL = (
    "target.size=32",
    "target.epochs=1",
    "target.max_length=32",
    "evaluate.languages=[de, en]",
    "search.seeds=2",
)


def write_parts_of_speech(folder: Path) -> None:
    """The sentences of the tutorial as CoNLL-U: a verb for every word that is no name."""
    (folder / "pos").mkdir()
    for file in (folder / "ner-panx").iterdir():
        sentences = []
        for number, sentence in enumerate(file.read_text().strip().split("\n\n")):
            lines = [f"# sent_id = {number}"]
            for place, line in enumerate(sentence.splitlines(), start=1):
                word, tag = line.split("\t")
                lines.append(f"{place}\t{word}\t_\t{'VERB' if tag == 'O' else 'PROPN'}" + 6 * "\t_")
            sentences.append("\n".join(lines))
        (folder / "pos" / f"{file.stem}.conllu").write_text("\n\n".join(sentences) + "\n\n")


def test_make_real_asks_its_question_of_data_and_encoder(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "examples/tutorial/make_files.py"))["write_files"](tmp_path)
    write_parts_of_speech(tmp_path / "data")
    given = [f"DATA={tmp_path / 'data'}", f"MODEL={tmp_path / 'encoder'}"]
    # -n prints what would be run, and runs nothing.
    shown = subprocess.run(
        ["make", "-n", "real", *given], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    run, report = (shlex.split(line)[1:] for line in shown.splitlines() if "/xlt " in line)
    home = tmp_path / "home"
    outputs = []
    for command in ([*run, *IN_SMALL], report):
        done = subprocess.run(
            [sys.executable, "-m", "xlt_ray", *command], cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XLT_HOME": str(home)}, timeout=900,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    assert "real: 8 complete" in outputs[0]
    assert "report: " in outputs[1]
    profile = home / "reports/real/figures/pos-en-fusion-profile.csv"
    assert {line.split(",")[1] for line in profile.read_text().splitlines()[1:]} == {
        "none", "mix", "dlfa"
    }  # fmt: skip
