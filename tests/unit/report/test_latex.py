"""LaTeX tables: names come out as they are, and every table compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.report.conftest import Finished, describe
from xlt_ray.report.effects import knowledge_of
from xlt_ray.report.frames import scores_frame, trials_frame
from xlt_ray.report.grouping import known_groupings
from xlt_ray.report.selection import picks
from xlt_ray.report.snapshot import read_snapshot
from xlt_ray.report.tables import LanguageTable, language_tables
from xlt_ray.report.typeset import (
    effects_tex,
    groups_tex,
    needs_unicode,
    picks_tex,
    table_tex,
    tex,
)

ENGINES = {
    "tectonic": ("tectonic", "--only-cached", "--outdir", "."),
    "pdflatex": ("pdflatex", "-interaction=nonstopmode", "-halt-on-error"),
}
NASTY = r"a_b 100% R&D #1 {x} $5 \end~^ <i> |p| *s* [k] -- ,, `q'' " + '"Türkçe" Łódź ñ'
UNDONE = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textasciigrave{}": "`",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textquotedbl{}": '"',
    r"$\pm$": "±",
    "$-$": "\u2212",
    "{[}": "[",
    "{]}": "]",
    "{*}": "*",
    "-{}": "-",
    "'{}": "'",
    ",{}": ",",
    **{f"\\{one}": one for one in "&%$#_{}"},
}


def read_back(text: str) -> str:
    """What LaTeX shows for an escaped text."""
    parts = sorted(UNDONE, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, parts)), lambda one: UNDONE[one.group()], text)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Z"]), max_size=30))
def test_a_name_is_shown_as_it_is(name: str) -> None:
    assert read_back(tex(name)) == unicodedata.normalize("NFC", name)


@given(st.text(max_size=30))
def test_no_name_holds_a_command_or_ends_a_cell(name: str) -> None:
    left = re.sub("|".join(map(re.escape, sorted(UNDONE, key=len, reverse=True))), "", tex(name))
    assert not set(left) & set("\\{}$&#^_~%\n\r")


def nasty(table: LanguageTable) -> LanguageTable:
    """The table with names that LaTeX would stumble over wherever a name may stand."""
    path = table.knobs[0]
    groups = tuple(replace(one, name=f"{NASTY} {place}") for place, one in enumerate(table.groups))
    new = {one.title: other.title for one, other in zip(table.groups, groups, strict=True)}
    rows = tuple(
        replace(
            row,
            knobs={**row.knobs, path: f"[{row.knobs[path]}] {NASTY}"},
            groups={new[title]: cell for title, cell in row.groups.items()},
        )
        for row in table.rows
    )
    return replace(table, task=NASTY, groups=groups, rows=rows)


def document(found: Finished, table: LanguageTable) -> str:
    snapshot = read_snapshot(found.ledger, found.store)
    sweep, scores = snapshot.sweep, scores_frame(snapshot)
    tables = [
        table_tex(table, sweep),
        groups_tex(table, sweep),
        picks_tex(picks(table, scores, sweep), table),
        effects_tex(knowledge_of(table), table),
    ]
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage[landscape,margin=1cm,paperwidth=60cm,paperheight=40cm]{geometry}",
            r"\usepackage{booktabs}",
            r"\begin{document}",
            *tables,
            r"\end{document}",
        ]
    )


@pytest.fixture(scope="module")
def table(quick: Finished) -> LanguageTable:
    snapshot = read_snapshot(quick.ledger, quick.store)
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    (found,) = language_tables(
        trials, scores, snapshot.knobs, snapshot.sweep,
        lambda languages: {"script": known_groupings(languages, describe)["script"]},
    )  # fmt: skip
    return found


@pytest.mark.skipif(not any(map(shutil.which, ENGINES)), reason="needs tectonic or pdflatex")
def test_every_table_compiles_with_nasty_names_too(
    quick: Finished, table: LanguageTable, tmp_path: Path
) -> None:
    engine = next(command for name, command in ENGINES.items() if shutil.which(name))
    whole = document(quick, table).replace(r"\end{document}", "")
    other = document(quick, nasty(table)).partition(r"\begin{document}")[2]
    (tmp_path / "tables.tex").write_text(whole + other, encoding="utf-8")
    done = subprocess.run([*engine, "tables.tex"], cwd=tmp_path, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000


def test_a_table_says_where_pdflatex_lacks_the_letters(
    quick: Finished, table: LanguageTable
) -> None:
    sweep = quick.ledger.sweep
    assert not needs_unicode(NASTY)
    assert "lualatex" not in table_tex(table, sweep)
    for name in ("中文", "Ελληνικά", "हिन्दी", "ħ"):
        assert "lualatex" in table_tex(replace(table, task=name), sweep), name
        assert tex(name) == name
