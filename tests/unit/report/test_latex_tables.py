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

from tests.unit.report.conftest import ONCE_NOT_SCORED, Finished
from xlt_ray.report.effects import effects_of
from xlt_ray.report.frames import Snapshot, scores_frame
from xlt_ray.report.latex_tables import (
    booktabs,
    effects_tex,
    groups_tex,
    needs_unicode,
    picks_tex,
    table_tex,
    tex,
)
from xlt_ray.report.selection import picks
from xlt_ray.report.tables import LanguageTable, known_groupings
from xlt_ray.report.tables import tables_of as tables_of_snapshot

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
    **{f"\\{character}": character for character in "&%$#_{}"},
}


def read_back(text: str) -> str:
    """What LaTeX shows for an escaped text."""
    parts = sorted(UNDONE, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, parts)), lambda match: UNDONE[match.group()], text)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Z"]), max_size=30))
def test_a_name_is_shown_as_it_is(name: str) -> None:
    assert read_back(tex(name)) == unicodedata.normalize("NFC", name)


@given(st.text(max_size=30))
def test_no_name_holds_a_command_or_ends_a_cell(name: str) -> None:
    left = re.sub("|".join(map(re.escape, sorted(UNDONE, key=len, reverse=True))), "", tex(name))
    assert not set(left) & set("\\{}$&#^_~%\n\r")


def nasty(table: LanguageTable) -> LanguageTable:
    """The table with names that LaTeX would stumble over wherever a name may stand."""
    path = table.parameters[0]
    groups = tuple(
        replace(group, name=f"{NASTY} {place}") for place, group in enumerate(table.groups)
    )
    new = {group.title: renamed.title for group, renamed in zip(table.groups, groups, strict=True)}
    rows = tuple(
        replace(
            row,
            parameters={**row.parameters, path: f"[{row.parameters[path]}] {NASTY}"},
            groups={new[title]: cell for title, cell in row.groups.items()},
        )
        for row in table.rows
    )
    return replace(table, task=NASTY, groups=groups, rows=rows)


def document(*tables: str) -> str:
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs,longtable}",
            r"\begin{document}",
            "\\clearpage\n".join(tables),
            r"\end{document}",
        ]
    )


def tables_of(finished: Finished, table: LanguageTable) -> list[str]:
    snapshot = finished.snapshot()
    sweep, scores = snapshot.sweep, scores_frame(snapshot)
    effects = effects_of(table)
    return [
        table_tex(table, sweep),
        groups_tex(table, sweep),
        picks_tex(picks(table, scores, sweep), table),
        *([effects_tex(effects, table, sweep)] if effects.levels else []),
    ]


@pytest.fixture(scope="module")
def table(snapshot: Snapshot) -> LanguageTable:
    (table,) = tables_of_snapshot(
        snapshot, lambda languages: {"script": known_groupings(languages)["script"]}
    )
    return table


def compiled(source: str, folder: Path) -> str:
    """What the engine printed."""
    engine = next(command for name, command in ENGINES.items() if shutil.which(name))
    (folder / "tables.tex").write_text(source, encoding="utf-8")
    done = subprocess.run([*engine, "tables.tex"], cwd=folder, capture_output=True, timeout=300)
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, output[-2000:]
    assert (folder / "tables.pdf").stat().st_size > 10_000
    return output


engine_needed = pytest.mark.skipif(
    not any(map(shutil.which, ENGINES)), reason="needs tectonic or pdflatex"
)


@engine_needed
def test_every_table_compiles_with_nasty_names_too(
    quick: Finished, table: LanguageTable, tmp_path: Path
) -> None:
    compiled(document(*tables_of(quick, table), *tables_of(quick, nasty(table))), tmp_path)


def many(table: LanguageTable, num_languages: int, num_rows: int) -> LanguageTable:
    """The table with so many languages and configurations."""
    first = table.rows[0]
    languages = (table.source_language, *(f"l{number:02}" for number in range(1, num_languages)))
    cells = dict.fromkeys(languages, first.cells[table.source_language])
    rows = tuple(replace(first, configuration=number, cells=cells) for number in range(num_rows))
    return replace(table, languages=languages, rows=rows)


@engine_needed
@pytest.mark.parametrize(("num_languages", "num_rows"), [(40, 8), (12, 60)])
def test_no_table_runs_off_the_page(
    quick: Finished, table: LanguageTable, tmp_path: Path, num_languages: int, num_rows: int
) -> None:
    whole = many(table, num_languages, num_rows)
    output = compiled(document(*tables_of(quick, whole)), tmp_path)
    assert "Overfull" not in output
    assert "Float too large" not in output


def test_every_cell_of_a_long_and_wide_table_is_in_a_panel_with_its_row() -> None:
    head = ["row", *(f"c{number}" for number in range(30))]
    rows = [[f"r{row}", *(f"{row}x{column}" for column in range(30))] for row in range(100)]
    source = booktabs("all", "l" * len(head), head, rows, label="tab:all")
    lines = [line.removesuffix(r" \\").split(" & ") for line in source.splitlines()
             if line.startswith("r")]  # fmt: skip
    cells = [(line[0], cell) for line in lines if line[0] != "row" for cell in line[1:]]
    assert sorted(cells) == sorted((row[0], cell) for row in rows for cell in row[1:])
    assert source.count(r"\caption{all}") == 1
    panels = source.count(r"\begin{longtable}")
    assert panels > 1
    assert source.count(r"\addtocounter{table}{-1}") == panels - 1
    # A panel that goes on over a page has its caption once, and its head on every page.
    assert source.count(r"\caption[]{(continued)}") == panels
    assert source.count("row & ") == 2 * panels
    assert max(len(line) for line in lines) * 4 < 76


def test_a_table_says_where_pdflatex_lacks_the_letters(
    quick: Finished, table: LanguageTable
) -> None:
    sweep = quick.ledger.sweep
    assert not needs_unicode(NASTY)
    assert "lualatex" not in table_tex(table, sweep)
    for name in ("中文", "Ελληνικά", "हिन्दी", "ħ"):
        assert "lualatex" in table_tex(replace(table, task=name), sweep), name
        assert tex(name) == name


BLOCK = '{"languages": [' + ", ".join(f'"q{number:02}"' for number in range(30)) + \
        '], "objective": "weam", "steps": 2000}'  # fmt: skip


@engine_needed
def test_long_values_and_long_captions_stay_on_the_page(
    quick: Finished, table: LanguageTable, tmp_path: Path
) -> None:
    path = table.parameters[0]
    groups = tuple(replace(table.groups[0], name=f"family {number}", languages=("qab",) * 6)
                   for number in range(40))  # fmt: skip
    whole = many(table, 6, 60)
    rows = tuple(replace(row, parameters={**row.parameters, path: BLOCK}) for row in whole.rows)
    output = compiled(
        document(*tables_of(quick, replace(whole, groups=groups, rows=rows))), tmp_path
    )
    assert "Overfull" not in output
    assert "Float too large" not in output


def test_a_long_text_is_broken() -> None:
    text = "toy-paraphrase (hybrid languages " + "+".join(["qab"] * 40) + ")"
    source = booktabs(
        "c", "rl", ["row", "value"], [[str(row), text] for row in range(20)], label="t"
    )
    assert source.count(r"\parbox") == 20
    assert r"qab+\allowbreak{}qab" in source
    assert r"\parbox" not in booktabs("c", "rl", ["row", "value"], [["1", "short"]], label="t")


def test_latex_says_of_how_many_seeds_a_score_is_and_what_a_dash_is(
    quick: Finished, table: LanguageTable
) -> None:
    (row,) = [row for row in table.rows if row.configuration == ONCE_NOT_SCORED]
    text = table_tex(replace(table, rows=(row,)), quick.ledger.sweep)
    assert text.count(" n=2}") == 1
    assert "n beside a score: its seeds" in text
    # Every language has a score in some seed, and still there is no mean.
    assert "--" in text
    assert "A dash is a score that is missing" in text
    (whole,) = [row for row in table.rows if row.configuration == 0]
    text = table_tex(replace(table, rows=(whole,)), quick.ledger.sweep)
    assert "n=" not in text
    assert "A dash" not in text
