"""The example of the Python entry, as it stands in the documents."""

from __future__ import annotations

import subprocess
import sys

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
