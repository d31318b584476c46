"""What a trial's scores are called: by the labels it learned from, in languages that are scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.supervision import supervision_label, supervision_of
from xlt_ray.config.trial import TrialSpec
from xlt_ray.store.stage_path import path_of

OTHERS = ("qab", "qac", "qad")


@pytest.fixture
def supervision(facts: Facts) -> Callable[..., str]:
    """What a trial on parallel rows of three labels is called."""
    nli = replace(facts.tasks["nli"], is_parallel=True)
    again = replace(nli, name="again", version=2)
    known = replace(facts, tasks={**facts.tasks, "nli": nli, "again": again})

    def tell(hybrid: dict[str, Any] | None = None, **sections: Any) -> str:
        target = {"task": "nli", "source_language": "qaa", "hybrid": hybrid or {}}
        target |= sections.pop("target", {})
        trial = TrialSpec.model_validate(
            {"data": {"source": "toy"}, "model": "toy:2x64", "target": target, **sections}
        )
        stage = path_of(trial, known, seed=0, shared_seed=0)[-1]
        supervision = stage.settings.get("supervision", {})
        assert supervision == supervision_of(trial, known)
        return supervision_label(stage.settings)

    return tell


def test_labels_of_the_source_language_alone_are_zero_shot(supervision: Callable[..., str]) -> None:
    assert supervision() == "zero-shot"
    assert supervision({"ratio": 0.5, "text": "switched"}) == "zero-shot"
    assert supervision({"ratio": 0.5}, target={"task": "tags"}) == "zero-shot", (
        "a lexicon is no label"
    )
    assert supervision(align={"objective": "tlm"}) == "zero-shot", "nor is parallel text"
    assert supervision(intermediate={"task": "pairs"}) == "zero-shot"


@pytest.mark.parametrize(
    ("hybrid", "languages"),
    [
        ({"ratio": 0.25}, OTHERS),
        ({"ratio": 1.0, "languages": ["qac"]}, ("qac",)),
        ({"ratio": 0.0, "mono": "uniform"}, OTHERS),
        ({"ratio": 0.0, "mono": "uniform", "languages": ["qab", "qad"]}, ("qab", "qad")),
    ],
)
def test_translated_text_in_a_scored_language_is_translate_train(
    supervision: Callable[..., str], hybrid: dict[str, Any], languages: tuple[str, ...]
) -> None:
    assert supervision(hybrid) == f"translate-train ({', '.join(languages)})"


def test_a_language_that_is_not_scored_does_not_count(supervision: Callable[..., str]) -> None:
    only = {"evaluate": {"languages": ["qab"]}}
    assert supervision({"ratio": 0.5, "languages": ["qac"]}, **only) == "zero-shot"
    assert supervision({"ratio": 0.5}, **only) == "translate-train (qab)"
    further = {"evaluate": {"languages": ["qab"], "also": ["again"]}}
    assert supervision({"ratio": 0.5, "languages": ["qac"]}, **further) == "zero-shot"


def test_intermediate_tasks_in_scored_languages_are_distinguished(
    supervision: Callable[..., str],
) -> None:
    other = {"task": "tags", "languages": ["qaa", "qab"]}
    assert supervision(intermediate=other) == "intermediate labels (qab)"
    same = {"task": "again", "languages": ["qaa", "qac"]}
    assert supervision(intermediate=same) == "translate-train (qac)"
    both = {"task": ["again", "tags"], "languages": ["qab", "qac"]}
    assert supervision(intermediate=both) == "translate-train (qab, qac); intermediate labels (qab)"
    elsewhere = {"task": "tags", "source_language": "qab"}
    assert supervision(intermediate=elsewhere) == "intermediate labels (qab)"


def test_few_shots_stand_before_the_rest(supervision: Callable[..., str]) -> None:
    shots = {"few_shot": {"language": "qab", "shots": 4}}
    assert supervision(**shots) == "few-shot (qab)"
    assert supervision({"ratio": 0.5}, **shots) == "few-shot (qab); translate-train (qab)"
    assert supervision({"ratio": 0.5, "languages": ["qac"]}, **shots) == "few-shot (qab)"
