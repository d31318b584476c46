"""Ray carries exceptions between processes: each must arrive as it left."""

from __future__ import annotations

import copy
import pickle

import pytest

from xlt_ray import errors

PROBLEM = errors.SpecError("is wrong", file="a.yaml", line=3, key="target.size", remedy="mend it")
EXAMPLES = [
    errors.XltError("something", place="here"),
    PROBLEM,
    errors.SpecErrors([PROBLEM, errors.SpecError("another")]),
    errors.DataError("no file", task="pos", language="en", split="dev", remedy="add it"),
    errors.DataErrors([errors.DataError("x.tsv:3: is short", file="x.tsv", line=3)]),
    errors.ForbiddenLabels("not yours", task="pos", language="fi", split="test"),
    errors.ModelError("no folder", model="models/x", remedy="see xlt list models"),
    errors.LedgerError("another sweep"),
    errors.SweepHasDriver("is already being run"),
    errors.ClusterError("too much", asked={"GPU": 8}, available={"GPU": 1.0}),
    errors.ClusterOutage("Ray did not start", asked={}, available={}),
    errors.TrackingError("is not a URL", uri="http//localhost:5000"),
    errors.TrackingOutage("no answer", uri="http://localhost:5000"),
    errors.StoreError("gone", key="ab" * 32, place="stages/ab"),
    errors.DamagedStage("cut short", key="ab" * 32, place="stages/ab/model.safetensors"),
    errors.StageConflict("other bits", key="ab" * 32),
    errors.LeaseLost("passed on", key="ab" * 32),
    errors.TrialFailure("died", cause="lost", attempt=2, advice="again"),
]
KINDS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.XltError)
]


def test_every_kind_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "carried",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.deepcopy],
    ids=["pickled", "copied"],
)
def test_an_error_arrives_as_it_left(error: errors.XltError, carried: object) -> None:
    back = carried(error)  # type: ignore[operator]
    assert type(back) is type(error)
    assert str(back) == str(error) == error.message
    assert back.exit_code == error.exit_code
    assert back.fields.keys() == error.fields.keys()
    for name, value in error.fields.items():
        assert repr(back.fields[name]) == repr(value)
        assert repr(getattr(back, name)) == repr(value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_is_drawn_in_the_docstring(kind: type[errors.XltError]) -> None:
    if kind is not errors.SpecErrors:
        assert f" {kind.__name__} " in (errors.__doc__ or "").replace("\n", " ")


def test_bad_input_ends_with_two_and_failures_with_one() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert {name for name, code in codes.items() if code == 2} == {
        "SpecError", "SpecErrors", "DataError", "DataErrors", "ForbiddenLabels", "ModelError",
        "LedgerError", "SweepHasDriver", "ClusterError", "TrackingError",
    }  # fmt: skip
    assert set(codes.values()) == {1, 2}


def test_a_message_says_where_what_and_what_would_be_right() -> None:
    assert str(PROBLEM) == "a.yaml:3: target.size: is wrong; mend it"
    assert str(errors.DataError("is empty", task="pos", language="en")) == "pos/en: is empty"


def test_an_unknown_name_gets_its_nearest_neighbour_or_the_list() -> None:
    assert errors.nearest("acuracy", ["accuracy", "f1"]) == "did you mean accuracy?"
    assert (
        errors.nearest("x", [f"n{i:02d}" for i in range(30)], limit=2) == "available: n00, n01, ..."
    )
    assert errors.nearest("x", []) == "none is available"
