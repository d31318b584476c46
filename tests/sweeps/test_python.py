"""The examples of the Python entry, as they stand in the documents and the notebook."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import Any

from tests.docs.test_documents import ROOT, blocks
from tests.sweeps.conftest import Place


def test_the_example_of_the_documents_runs_a_sweep_and_continues_it(place: Place) -> None:
    (example,) = blocks(ROOT / "docs" / "python.md", "python")
    script = place.root / "example.py"
    script.write_text(example + "assert results.summary.is_finished\nprint(len(results.scores))\n")
    for again in (False, True):
        done = subprocess.run(
            [sys.executable, script],
            cwd=place.root,
            env=place.environment(),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("complete") >= 2
        assert ("trial 0 begins" in done.stdout) != again
    assert (place.root / "xlt-home" / "ledger" / "layers.journal").is_file()


NOTEBOOK = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
SHOW = """
def show(value):
    names = ("_repr_html_", "_repr_png_")
    print("shown:", type(value).__name__, *(n for n in names if getattr(value, n, lambda: 0)()))
"""


def cells_as_script(notebook: dict[str, Any]) -> str:
    """The code cells as one script, which shows the last value of each as a notebook does."""
    lines = [SHOW]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            last = tree.body[-1]
            if isinstance(last, ast.Expr):
                call = ast.Call(ast.Name("show", ast.Load()), [last.value], [])
                tree.body[-1] = ast.fix_missing_locations(ast.Expr(call))
            lines.append(ast.unparse(tree))
    return "\n".join(lines)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_the_cells_of_the_notebook_run_a_sweep_and_show_its_results(place: Place) -> None:
    script = place.root / "notebook.py"
    script.write_text(cells_as_script(NOTEBOOK))
    done = subprocess.run(
        [sys.executable, script],
        cwd=place.root,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("complete: objective") == 4
    shown = [line for line in done.stdout.splitlines() if line.startswith("shown:")]
    assert shown == [
        "shown: RunResults _repr_html_",
        "shown: DataFrame _repr_html_",
        *["shown: Canvas _repr_png_"] * 3,
        "shown: DataFrame _repr_html_",
    ]
