"""A concrete trial: closed, frozen, every default filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import (
    ALIGNMENTS,
    FUSIONS,
    PEFT,
    ROBUST,
    SAMPLINGS,
    SCHEDULES,
    Method,
    method_named,
)
from xlt_ray.config.mixture import Dataset, mixture_of
from xlt_ray.config.search_space import grid
from xlt_ray.config.sweep import Settings, SweepSpec
from xlt_ray.config.trial import Intermediate, TrialSpec

SMALLEST = {"data": {"source": "toy"}, "model": "toy:2x64", "target": {"task": "nli"}}


def models_below(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and every model that its fields can hold."""
    models: set[type[BaseModel]] = set()

    def visit(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in models:
                models.add(annotation)
                for field in annotation.model_fields.values():
                    visit(field.annotation)
            return
        for argument in getattr(annotation, "__args__", ()):
            visit(argument)

    visit(model)
    return models


def test_every_default_is_filled_in() -> None:
    trial = TrialSpec.model_validate(SMALLEST)
    assert trial.target.fusion.model_dump() == {"method": "none"}
    assert trial.target.hybrid.ratio == 0.0
    assert trial.evaluate.languages == "all"
    assert (trial.align, trial.intermediate, trial.precision) == (None, None, "fp32")


def test_a_bare_model_name_is_short_for_a_block() -> None:
    named = {**SMALLEST, "model": {"name": "toy:2x64"}}
    assert TrialSpec.model_validate(SMALLEST) == TrialSpec.model_validate(named)


@pytest.mark.parametrize("model", sorted(models_below(TrialSpec) | models_below(Settings),
                                         key=lambda model: model.__name__))  # fmt: skip
def test_every_section_is_closed_and_frozen_and_finite(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"]
    assert not model.model_config["allow_inf_nan"]


def test_a_trial_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrialSpec.model_validate(SMALLEST).target.epochs = 7  # type: ignore[misc]


def test_a_trial_survives_json() -> None:
    trial = TrialSpec.model_validate(
        {
            **SMALLEST,
            "align": {"objective": "tlm", "languages": ["en", "no"]},
            "intermediate": {"task": "nli", "size": 10},
        }
    )
    assert TrialSpec.model_validate_json(trial.model_dump_json()) == trial


def test_lists_are_options_of_a_choice(sweep_from: Callable[..., SweepSpec]) -> None:
    sweep = sweep_from(
        "{name: t, data: {source: toy}, model: m, target: {task: nli}, search: {trials: 1}, "
        "intermediate: {task: {choice: [nli, [pairs, tags], [tags, nli]]}}}"
    )
    assignments = list(grid(sweep.space))
    tasks = [sweep.trial_of(assignment).intermediate for assignment in assignments]
    assert [task and task.tasks for task in tasks] == [("nli",), ("pairs", "tags"), ("nli", "tags")]
    labels = [assignment["intermediate.task"] for assignment in assignments]
    assert labels == ["nli", '["pairs", "tags"]', '["tags", "nli"]']


def test_a_mixture_has_a_dataset_for_every_task_and_language(facts: Facts) -> None:
    nli, other_nli = Dataset("nli", "qaa", 1000), Dataset("nli", "qab", 1000)
    tags, other_tags = Dataset("tags", "qaa", 400), Dataset("tags", "qab", 300)
    expected = [
        ({"task": "nli"}, (nli,), True),
        ({"task": ["nli"], "languages": ["qab"]}, (other_nli,), True),
        (
            {"task": ["tags", "nli"], "languages": ["qab", "qaa"]},
            (nli, other_nli, tags, other_tags),
            False,
        ),
        (
            {"task": ["tags", "pairs"], "mlm": {"share": 0.5}},
            (Dataset("pairs", "qaa", 500), tags),
            False,
        ),
    ]
    for tree, datasets, is_plain in expected:
        mixture = mixture_of(Intermediate.model_validate(tree), "qaa", facts.tasks)
        assert (mixture.datasets, mixture.is_plain) == (datasets, is_plain)


REGISTRIES = (FUSIONS, PEFT, ROBUST, SCHEDULES, SAMPLINGS, ALIGNMENTS)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry[0].settings.__name__)
def test_a_method_is_chosen_by_its_own_name(registry: tuple[Method, ...]) -> None:
    tag = "objective" if registry is ALIGNMENTS else "method"
    for entry in registry:
        assert get_args(entry.settings.model_fields[tag].annotation) == (entry.name,)
        assert method_named(registry, entry.name) is entry


def test_a_fusion_fills_in_its_own_defaults() -> None:
    trial = TrialSpec.model_validate(
        {**SMALLEST, "target": {"task": "nli", "fusion": {"method": "dlfa", "layer": 1}}}
    )
    assert trial.target.fusion.model_dump() == {
        "method": "dlfa", "layer": 1, "reduction": 4, "placement": "pieces",
    }  # fmt: skip
