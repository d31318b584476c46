"""One trial trained by two workers, and by one: the same rows, the same curve, the same weights.

Sums are taken in another order, so that weights of about 0.1 differ in their fifth digit after
tens of steps of Adam at 1e-3; a row too many or too few moves them a hundred times as far.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench
from tests.training.pair import Job, Pair, Trace, follow, pair_beside

WEIGHTS_ATOL = 2e-4
LOSS_ATOL = 1e-4

# The last weights: which evaluation is the best may hang on one example, and that on rounding.
PLAIN = ("intermediate=null", "target.select=last")
KINDS = {
    "plain": ("target.hybrid.ratio=0", "target.fusion={method: none}"),
    "dlfa": ("target.fusion={method: dlfa, layer: 1}",),
    "aif": ("target.fusion={method: aif, layer: 1}",),
    "mix": ("target.fusion={method: mix}",),
    "pooled": ("target.fusion={method: aif, layer: 1, placement: first}",),
    "hybrid": ("target.hybrid={ratio: 0.5, batch_scale: 1.5}",),
    "mono": ("target.hybrid={ratio: 0.5, mono: uniform}",),
    "in_batch": ("target.hybrid={ratio: 0.5, mixing: in_batch}",),
    "adversarial": (
        "target.robust={method: adversarial, steps: 2, step_size: 0.05, epsilon: 0.08}",
    ),
    "random": ("target.robust={method: random, epsilon: 0.05, draws: 2}",),
    "augment": ("target.robust={method: augment, copies: 2}",),
}


@pytest.fixture(scope="module")
def pair(bench: Bench) -> Iterator[Pair]:
    with pair_beside(bench) as two:
        yield two


@pytest.fixture(scope="module")
def single(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Trace]]:
    """Each kind of training by one worker without ZeRO, made when it is asked for."""
    made: dict[str, tuple[Path, Trace]] = {}

    class Made(dict[str, tuple[Path, Trace]]):
        def __missing__(self, kind: str) -> tuple[Path, Trace]:
            root = tmp_path_factory.mktemp(kind)
            return self.setdefault(kind, (root, alone(bench, root, kind)))

    return Made(made)


def alone(
    bench: Bench, root: Path, kind: str, num_evaluations: int | None = None, **runtime: int
) -> Trace:
    return follow(bench, Job(root, (*PLAIN, *KINDS[kind]), runtime, num_evaluations))


def assert_same(
    bench: Bench, kind: str, single: tuple[Path, Trace], other: tuple[Path, Trace]
) -> None:
    (root, trace), (other_root, other_trace) = single, other
    assert other_trace.seen == trace.seen
    assert other_trace.losses == pytest.approx(trace.losses, abs=LOSS_ATOL)
    assert_weights(bench, kind, root, other_root)


def assert_weights(bench: Bench, kind: str, root: Path, other_root: Path) -> None:
    key = bench.path(*PLAIN, *KINDS[kind])[-2].key
    weights, others = (
        {
            name: tensor
            for file in sorted((folder / "stages" / key).glob("*.safetensors"))
            for name, tensor in load_file(file).items()
        }
        for folder in (root, other_root)
    )
    assert_trained_alike(weights, others, atol=WEIGHTS_ATOL)


def two_workers(
    bench: Bench,
    pair: Pair,
    single: dict[str, tuple[Path, Trace]],
    root: Path,
    kind: str,
    zero: int,
) -> None:
    trace = pair.follow(root, *PLAIN, *KINDS[kind], zero_stage=zero)
    assert_same(bench, kind, single[kind], (root, trace))


def test_two_workers_train_what_one_worker_trains(
    bench: Bench, pair: Pair, single: dict[str, tuple[Path, Trace]], tmp_path: Path
) -> None:
    two_workers(bench, pair, single, tmp_path, "hybrid", 3)


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_two_workers_compute_activations_again(
    bench: Bench, pair: Pair, single: dict[str, tuple[Path, Trace]], tmp_path: Path, zero_stage: int
) -> None:
    again = {"zero_stage": zero_stage, "activation_checkpointing": True}
    trace = pair.follow(tmp_path, *PLAIN, *KINDS["hybrid"], **again)
    assert_same(bench, "hybrid", single["hybrid"], (tmp_path, trace))


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_two_workers_train_in_mixed_precision(
    bench: Bench, pair: Pair, tmp_path: Path, zero_stage: int
) -> None:
    overrides = (*PLAIN, *KINDS["hybrid"], "resources.precision=bf16-mixed")
    single = follow(bench, Job(tmp_path / "one", overrides, {}, None))
    two = pair.follow(tmp_path / "two", *overrides, zero_stage=zero_stage)
    assert two.seen == single.seen
    assert two.losses == pytest.approx(single.losses, rel=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_is_the_same_under_two_workers(
    bench: Bench,
    pair: Pair,
    single: dict[str, tuple[Path, Trace]],
    tmp_path: Path,
    kind: str,
    zero_stage: int,
) -> None:
    two_workers(bench, pair, single, tmp_path, kind, zero_stage)


@pytest.mark.long
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_is_the_same_under_every_zero_stage(
    bench: Bench,
    single: dict[str, tuple[Path, Trace]],
    tmp_path: Path,
    kind: str,
    zero_stage: int,
) -> None:
    trace = alone(bench, tmp_path, kind, zero_stage=zero_stage)
    assert_same(bench, kind, single[kind], (tmp_path, trace))


@pytest.mark.parametrize("direction", ["2 to 1", "1 to 2"])
def test_another_number_of_workers_goes_on_under_another_zero_stage(
    bench: Bench,
    pair: Pair,
    single: dict[str, tuple[Path, Trace]],
    tmp_path: Path,
    direction: str,
) -> None:
    overrides = (*PLAIN, *KINDS["hybrid"])
    if direction == "2 to 1":
        begun = pair.follow(tmp_path, *overrides, zero_stage=3, num_evaluations=1)
        ended = alone(bench, tmp_path, "hybrid", zero_stage=2)
    else:
        begun = alone(bench, tmp_path, "hybrid", num_evaluations=1, zero_stage=2)
        ended = pair.follow(tmp_path, *overrides, zero_stage=3)
    root, trace = single["hybrid"]
    assert 0 < len(begun.seen) < len(trace.seen)
    assert begun.seen + ended.seen == trace.seen, "nothing twice, nothing left out"
    # What was scored before the interruption is reported again.
    assert ended.losses == pytest.approx(trace.losses, abs=LOSS_ATOL)
    assert ended.losses[: len(begun.losses)] == begun.losses
    assert_weights(bench, "hybrid", root, tmp_path)


@pytest.mark.parametrize(
    ("offload", "zero_stage"),
    [("optimizer", 2), ("all", 3), pytest.param("optimizer", 3, marks=pytest.mark.long)],
)
def test_what_is_kept_in_the_memory_of_the_node_moves_no_weights(
    bench: Bench,
    single: dict[str, tuple[Path, Trace]],
    tmp_path: Path,
    offload: str,
    zero_stage: int,
) -> None:
    kept = {"offload": offload, "zero_stage": zero_stage}
    begun = alone(bench, tmp_path, "hybrid", num_evaluations=1, **kept)
    ended = alone(bench, tmp_path, "hybrid", **kept)
    root, trace = single["hybrid"]
    assert begun.seen + ended.seen == trace.seen
    assert ended.losses == pytest.approx(trace.losses, abs=LOSS_ATOL)
    assert_weights(bench, "hybrid", root, tmp_path)
