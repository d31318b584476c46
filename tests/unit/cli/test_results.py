"""``xlt report`` and ``xlt compare`` as their users meet them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.conftest import SWEEP, finished
from xlt_ray.home import Home

GUIDE = Path(__file__).parents[3] / "docs" / "results.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two sweeps: three configurations with two seeds each, and another ratio."""
    home = Home(tmp_path_factory.mktemp("home"))
    text = SWEEP.replace("trials: 16, seeds: 3", "trials: 3, seeds: 2")
    finished(home, text)
    finished(home, text.replace("name: quick", "name: fixed").replace("0.0, 1.0", "0.4, 0.6"))
    return home


def test_compare_prints_differences_rules_and_notes(xlt: Any) -> None:
    code, out, _ = xlt("compare", "quick", "fixed")
    assert code == 0
    for part in ("fixed/", "against quick/", "qaf", "without qaa", "sign-flip", "dev set of qaa",
                 "nothing can be", "The best of 3 configurations.",
                 "to compare on fresh seeds: xlt confirm quick --seeds 6; "
                 "xlt confirm fixed --seeds 6"):  # fmt: skip
        assert part in re.sub(r"\s+", " ", out), part


def test_an_interval_of_what_was_trained_after_a_shared_stage_is_marked(xlt: Any) -> None:
    code, out, _ = xlt("compare", "quick/0", "quick/1", "quick/2")
    assert code == 0
    shown = re.sub(r"\s+", " ", out)
    assert "seeds share one training of intermediate toy-paraphrase" in shown
    assert "there is no test" in shown
    assert "interval: Student's, † given the stages of the note" in shown
    assert re.search(r"to [+-][\d.]+ † – – ", shown)


def test_compare_json_has_the_keys_that_the_guide_names(xlt: Any) -> None:
    code, out, _ = xlt("compare", "quick/0", "quick/1", "quick/2", "--json")
    assert code == 0
    tree = json.loads(out)
    section = GUIDE.read_text().partition("`--json` prints one object")[2]
    named = set(re.findall(r"`(\w+)`", section))
    row = tree["comparisons"][0]["rows"][0]
    for part in (tree, tree["contenders"][0], tree["comparisons"][0], row):
        assert set(part) <= named, set(part) - named
    assert len(tree["comparisons"]) == 2
    assert {row["kind"] for row in tree["comparisons"][0]["rows"]} == {
        "language", "mean", "mean_without_source",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quick"], "name another one"),
        (["quick", "nowhere"], "available: fixed, quick"),
        (["quick", "fixed/x"], "'x' is not the number of a configuration"),
        (["quick", "fixed/²"], "'²' is not the number of a configuration"),
        (["quick", "fixed/77"], "fixed/77: has no test scores"),
        (["quick/0", "quick/0"], "named twice"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(
    xlt: Any, arguments: list[str], message: str
) -> None:
    code, out, err = xlt("compare", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_report_takes_groups_and_seen_languages(xlt: Any, home: Home, tmp_path: Path) -> None:
    groups = tmp_path / "distance.yaml"
    groups.write_text("near: [qab, qac]\nfar: [qacc, yy]\n")
    code, out, _ = xlt("report", "quick", "--groups", str(groups), "--seen", "qab, qad")
    assert code == 0
    (warning,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert "distance: far: no target language that is scored is one of qacc, yy" in warning
    assert warning.endswith("did you mean qac?")
    header = (home.reports("quick") / "tables" / "toy-nli-qaa-languages.csv").read_text()
    for column in ("distance: near,", "seen: seen,", "seen: unseen,", "family: Toy Eastern,"):
        assert column in header.splitlines()[0]
    assert str(home.reports("quick") / "index.html") in out


def test_a_home_that_cannot_be_written_is_reported_in_a_line(xlt: Any, home: Home) -> None:
    folder = home.reports("fixed")
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file")
    code, out, err = xlt("report", "fixed")
    folder.unlink()
    assert (code, out) == (2, "")
    assert f"{folder}: cannot be written" in err
    assert "Traceback" not in err


def test_report_refuses_a_wrong_file_of_groups(xlt: Any, tmp_path: Path) -> None:
    groups = tmp_path / "distance.yaml"
    groups.write_text("near: qab\n")
    code, _, err = xlt("report", "quick", "--groups", str(groups))
    assert code == 2
    assert "distance.yaml:1: near: is not a list of languages" in err
