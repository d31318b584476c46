"""How much of a text lexicons and lists of neighbours cover, reported before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xlt_ray.config.facts import TaskFacts
from xlt_ray.config.trial import TrialSpec
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.coverage import coverage_of

TEXT = "The dog, sleeps."
FOUR_WORDS = "the\tder\ndog\tHund\nsleeps\tschläft\n"


def written(root: Path, **lists: str) -> FilesSource:
    files = {
        "pairs/pawsx/en.train.tsv": f"id\tsentence1\tsentence2\tlabel\n1\t{TEXT}\tA cat sits\t0\n",
        "parallel/c/en.tsv": f"1\t{TEXT}\n",
        "parallel/c/de.tsv": "1\tDer Hund schläft.\n",
        **{
            name.replace("__", "/").replace("_", "-") + ".tsv": text for name, text in lists.items()
        },
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return FilesSource(root)


def found(source: FilesSource, **settings: Any) -> list[tuple[str, float]]:
    task = TaskFacts(
        "pawsx",
        "pair",
        1,
        ("0", "1"),
        ("accuracy",),
        source.splits(task_named("pawsx")),
        is_parallel=True,
    )
    target = {"task": "pawsx", "source_language": "en", **settings.pop("target", {})}
    tree = {"data": {"source": "files", "root": "."}, "model": "m", "target": target, **settings}
    trial = TrialSpec.model_validate(tree)
    return [(coverage.key, coverage.share) for coverage in coverage_of(trial, task, source)]


def test_a_lexicon_is_measured_on_the_training_text(tmp_path: Path) -> None:
    source = written(tmp_path, lexicon__en_de=FOUR_WORDS, lexicon__en_fr="cat\tchat\n")
    hybrid = {"hybrid": {"ratio": 0.5, "languages": ["de"]}}
    assert found(source, target=hybrid) == [("target.hybrid.ratio", 3 / 6)]
    assert found(source, target={"hybrid": {"ratio": 0.5}}) == [("target.hybrid.ratio", 4 / 6)]
    assert found(source) == []


def test_translated_batches_need_no_lexicon(tmp_path: Path) -> None:
    written(tmp_path, lexicon__en_de=FOUR_WORDS)
    german = tmp_path / "pairs" / "pawsx" / "de.train.tsv"
    german.write_text("id\tsentence1\tsentence2\tlabel\n1\tDer Hund\tEine Katze\t0\n")
    source = FilesSource(tmp_path)
    assert found(source, target={"hybrid": {"ratio": 0.5}}) == []
    switched = {"hybrid": {"ratio": 0.5, "text": "switched"}}
    assert found(source, target=switched) == [("target.hybrid.ratio", 3 / 6)]


@pytest.mark.parametrize(("neighbours", "share"), [("lists", 1 / 6), ("lexicon", 2 / 6)])
def test_neighbours_are_measured_as_they_are_looked_up(
    tmp_path: Path, neighbours: str, share: float
) -> None:
    source = written(tmp_path, neighbours__en="dog\thound\nthe\ta\n", lexicon__en_de=FOUR_WORDS)
    robust = {"robust": {"method": "augment", "neighbours": neighbours}}
    assert found(source, target=robust) == [("target.robust.neighbours", share)]


def test_an_alignment_is_measured_on_each_parallel_text(tmp_path: Path) -> None:
    source = written(tmp_path, lexicon__en_de=FOUR_WORDS, lexicon__de_en="Katze\tcat\n")
    align = {"objective": "code_switch_mlm"}
    assert found(source, align=align) == [("align.languages", 0.0), ("align.languages", 1.0)]
