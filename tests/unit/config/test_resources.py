"""What a trial occupies, and the table of models that have something else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.checks.check_sweep import check
from xlt_ray.config.facts import Facts
from xlt_ray.config.resources import ModelResources, Resources, WorkerResources
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import SpecErrors

TEXT = """\
name: t
data: {source: toy}
model: {choice: ['toy:2x64', 'toy:4x64']}
target: {task: nli, source_language: qaa, batch_size: 16}
search: {trials: 2}
resources:
"""


def read(resources: str) -> SweepSpec:
    return sweep_of(parse_document(TEXT + resources, "t.yaml"))


def problems(resources: str) -> list[str]:
    with pytest.raises(SpecErrors) as errors:
        read(resources)
    return [str(problem) for problem in errors.value.problems]


GROUPS = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.integers(1, 9),
        "cpus_per_worker": st.integers(1, 9),
        "gpus_per_worker": st.sampled_from([0, 0.25, 1]),
        "zero_stage": st.integers(0, 3),
        "micro_batch": st.none() | st.integers(1, 9),
        "strategy": st.sampled_from(["pack", "spread", "strict_pack", "strict_spread"]),
        "offload": st.sampled_from(["none", "optimizer", "all"]),
        "activation_checkpointing": st.booleans(),
        "compile": st.booleans(),
    },
)


@given(GROUPS, GROUPS)
def test_a_row_changes_what_it_names_and_nothing_else(
    above: dict[str, object], row: dict[str, object]
) -> None:
    table = Resources.model_validate({**above, "by_model": {"m": row}})
    plain = WorkerResources.model_validate(above).model_dump()
    left_out = {"precision", "by_model"}
    assert table.of("other").model_dump(exclude=left_out) == plain
    assert table.of("m").model_dump(exclude=left_out) == {**plain, **row}


@given(GROUPS, GROUPS)
def test_a_table_that_was_kept_beside_a_ledger_reads_the_same(
    above: dict[str, object], row: dict[str, object]
) -> None:
    table = Resources.model_validate({**above, "by_model": {"m": row}})
    again = Resources.model_validate(json.loads(table.model_dump_json()))
    assert again.of("m").model_dump() == table.of("m").model_dump()
    assert again.by_model["m"].model_fields_set == ModelResources(**row).model_fields_set


@pytest.mark.parametrize(
    ("resources", "place", "message"),
    [
        ("  gpus_per_worker: 0.25\n  workers: 2\n", "t.yaml:7: resources.gpus_per_worker",
         "NCCL refuses two processes of a group on one GPU"),
        ("  gpus_per_worker: 0.001\n", "t.yaml:7: resources.gpus_per_worker", "too little"),
        ("  offload: optimizer\n  zero_stage: 2\n", "t.yaml:7: resources.offload",
         "a trial without GPUs has no GPU memory to relieve"),
        ("  offload: optimizer\n  gpus_per_worker: 1\n", "t.yaml:7: resources.offload",
         "zero_stage 0 leaves optimizer states on the GPUs"),
        ("  offload: all\n  gpus_per_worker: 1\n  zero_stage: 2\n", "t.yaml:7: resources.offload",
         "zero_stage 2 keeps whole weights on every GPU"),
        ("  workers: 2\n  gpus_per_worker: 1\n  by_model:\n    toy:2x64:\n"
         "      gpus_per_worker: 0.5\n",
         "t.yaml:11: resources.by_model.toy:2x64.gpus_per_worker", "(trials of toy:2x64)"),
        ("  precision: bf16\n  zero_stage: 1\n  by_model: {toy:4x64: {zero_stage: 0}}\n",
         "t.yaml:9: resources.by_model.toy:4x64.zero_stage", "bf16 needs zero_stage 1, 2 or 3"),
        ("  precision: bf16\n", "t.yaml:7: resources.precision", "precision: bf16-mixed"),
        ("  precision: tf32\n", "t.yaml:7: resources.precision", "a trial has none"),
        ("  compile: true\n  zero_stage: 3\n", "t.yaml:7: resources.compile", "zero_stage: 0, 1"),
        ("  by_model: {toy:4x64: {wrkers: 2}}\n",
         "t.yaml:7: resources.by_model.toy:4x64.wrkers", "did you mean workers?"),
        ("  by_model: {toy:4x64: {precision: bf16}}\n",
         "t.yaml:7: resources.by_model.toy:4x64.precision", "unknown key"),
        ("  strategy: both\n", "t.yaml:7: resources.strategy", "'pack', 'spread'"),
    ],
)  # fmt: skip
def test_what_cannot_be_together_is_refused_where_it_stands(
    resources: str, place: str, message: str
) -> None:
    (only,) = problems(resources)
    assert only.startswith(place), only
    assert message in only


@pytest.mark.parametrize(
    "resources",
    [
        "  {gpus_per_worker: 0.25}\n",
        "  {precision: bf16-mixed, activation_checkpointing: true, compile: true}\n",
        "  {precision: tf32, gpus_per_worker: 1}\n",
        "  {gpus_per_worker: 1, zero_stage: 2, offload: optimizer}\n",
        "  {gpus_per_worker: 1, zero_stage: 3, offload: all, workers: 4, strategy: spread}\n",
        "  {gpus_per_worker: 1, zero_stage: 2, offload: optimizer,\n"
        "   by_model: {toy:2x64: {gpus_per_worker: 0.5, offload: none, zero_stage: 0}}}\n",
    ],
)
def test_what_can_be_together_is_taken(resources: str) -> None:
    assert list(read(resources).settings.resources.faults()) == []


def test_check_names_models_of_the_table_that_no_trial_has(facts: Facts) -> None:
    here = Facts({name: facts.models[name] for name in ("toy:2x64", "toy:4x64")}, facts.tasks)
    sweep = read("  by_model:\n    toy:2x64: {workers: 2}\n    toy:4x46: {workers: 2}\n")
    (only,) = (str(problem) for problem in check(sweep, here))
    assert only.startswith("t.yaml:9: resources.by_model.toy:4x46: no trial of this sweep")
    assert "did you mean toy:4x64?" in only


def test_check_splits_the_batches_of_each_model_over_its_own_workers(facts: Facts) -> None:
    here = Facts({name: facts.models[name] for name in ("toy:2x64", "toy:4x64")}, facts.tasks)
    assert not check(read("  by_model: {toy:2x64: {workers: 4}}\n"), here)
    (only,) = map(str, check(read("  by_model: {toy:2x64: {workers: 3}}\n"), here))
    assert "16 cannot be split evenly over 3 workers" in only
