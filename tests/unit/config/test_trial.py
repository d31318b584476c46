"""A concrete trial: closed, frozen, every default filled in."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from xlt_ray.config.methods import (
    ALIGNMENTS,
    FUSIONS,
    ROBUST,
    SAMPLINGS,
    SCHEDULES,
    Method,
    method_named,
)
from xlt_ray.config.sweep import Settings
from xlt_ray.config.trial import TrialSpec

SMALLEST = {"data": {"source": "toy"}, "model": "toy:2x64", "target": {"task": "nli"}}


def models_below(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and every model that its fields can hold."""
    found: set[type[BaseModel]] = set()

    def visit(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in found:
                found.add(annotation)
                for field in annotation.model_fields.values():
                    visit(field.annotation)
            return
        for one in getattr(annotation, "__args__", ()):
            visit(one)

    visit(model)
    return found


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
                                         key=lambda one: one.__name__))  # fmt: skip
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


REGISTRIES = (FUSIONS, ROBUST, SCHEDULES, SAMPLINGS, ALIGNMENTS)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one[0].settings.__name__)
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
