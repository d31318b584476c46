"""Diagnostics of a small trial: recorded on the way and at the end, and no part of the training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import TINY, Bench, what_was_scored
from xlt_ray.config.diagnostics import Diagnosis
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.trial import Model
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.text.parallel_sample import parallel_sample
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.store.record import Profile, StageRecord
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.diagnose import profiles
from xlt_ray.training.events import Committed

PLAIN = (
    "target={task: toy-paraphrase, source_language: qaa, size: 32, epochs: 2, batch_size: 16,"
    " max_length: 32, learning_rate: 1e-3}",
    "intermediate=null",
    "evaluate={languages: [qab, qaf], examples: 20}",
)
ASKED = (
    *PLAIN[:-1],
    "evaluate={languages: [qab, qaf], examples: 20, diagnostics: [cka, retrieval, alignment],"
    " diagnostic_sentences: 12}",
)
NAMES = ("alignment", "cka", "retrieval")
NUM_LAYERS = 2


@pytest.fixture(scope="module")
def own(bench: Bench) -> Bench:
    return replace(bench, facts=facts_of(sweep_of(parse_document(TINY, "tiny.yaml", ASKED))))


@pytest.fixture(scope="module")
def diagnosed(own: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("diagnosed")
    own.make(root, *ASKED)
    return root


def records(own: Bench, root: Path, overrides: tuple[str, ...] = ASKED) -> list[StageRecord]:
    """Of target and evaluation."""
    records = [StageStore(root).record(stage.key) for stage in own.path(*overrides)[-2:]]
    assert all(records)
    return records  # type: ignore[return-value]


def test_diagnostics_are_no_part_of_the_training(
    own: Bench, diagnosed: Path, tmp_path: Path
) -> None:
    plain, asked = own.path(*PLAIN), own.path(*ASKED)
    assert plain[-2].key == asked[-2].key
    assert plain[-1].key != asked[-1].key
    assert "diagnostics" not in plain[-1].settings
    own.make(tmp_path, *PLAIN)
    assert own.bits(tmp_path, *PLAIN) == own.bits(diagnosed, *ASKED)
    target, evaluation = records(own, tmp_path, PLAIN)
    assert target.profiles == evaluation.profiles == ()
    trained, scored = records(own, diagnosed)
    assert what_was_scored(trained) == what_was_scored(target)
    assert scored.scores == evaluation.scores


def test_every_layer_of_every_language_is_measured_when_it_is_evaluated(
    own: Bench, diagnosed: Path
) -> None:
    target, evaluation = records(own, diagnosed)
    steps = [0, *(entry["step"] for entry in target.history)]
    profiles = [(profile.step, profile.diagnostic, profile.language) for profile in target.profiles]
    assert profiles == [
        (step, name, language) for step in steps for name in NAMES for language in ("qab", "qaf")
    ]
    for profile in (*target.profiles, *evaluation.profiles):
        assert len(profile.values) == NUM_LAYERS + 1
        assert all(value is not None and -1 <= value <= 1 for value in profile.values)
        assert (profile.source_language, profile.num_sentences) == ("qaa", 12)
    assert target.profiles[0].values != target.profiles[-6].values


def test_the_finished_encoder_is_that_of_the_selected_evaluation(
    own: Bench, diagnosed: Path
) -> None:
    target, evaluation = records(own, diagnosed)
    assert {profile.step for profile in evaluation.profiles} == {None}
    selected = [profile for profile in target.profiles if profile.step == target.selected_step]
    assert selected
    assert [replace(profile, step=None, examples=None) for profile in selected] == list(
        evaluation.profiles
    )


def test_a_target_that_was_trained_without_is_diagnosed_at_the_end(
    own: Bench, diagnosed: Path, tmp_path: Path
) -> None:
    own.make(tmp_path, *PLAIN)
    own.make(tmp_path, *ASKED)
    target, evaluation = records(own, tmp_path)
    assert target.profiles == ()
    assert evaluation.profiles == records(own, diagnosed)[1].profiles


def test_a_target_that_is_made_again_beside_its_evaluation_is_diagnosed_as_before(
    own: Bench, diagnosed: Path, tmp_path: Path
) -> None:
    shutil.copytree(diagnosed, tmp_path / "copy")
    target, evaluation = own.path(*ASKED)[-2:]
    before = StageStore(diagnosed).verify(target.key)
    store = StageStore(tmp_path / "copy")
    shutil.rmtree(store.folder(target.key))
    made = [
        event.stage.kind
        for event in own.make(tmp_path / "copy", *ASKED, until="target")
        if isinstance(event, Committed) and not event.reused
    ]
    again = store.verify(target.key)
    assert made == ["target"]
    assert before is not None
    assert again is not None
    assert (again.files, again.profiles) == (before.files, before.profiles)
    assert evaluation in store


def test_an_interrupted_training_ends_with_the_same_profiles(
    own: Bench, diagnosed: Path, tmp_path: Path
) -> None:
    for event in own.walk(tmp_path, *ASKED):
        if getattr(event, "step", 0) == 2:
            break
    own.make(tmp_path, *ASKED)
    assert records(own, tmp_path)[0].profiles == records(own, diagnosed)[0].profiles


def test_records_come_back_from_json(own: Bench, diagnosed: Path) -> None:
    target, _ = records(own, diagnosed)
    assert StageRecord.from_json(target.to_json()) == target
    old = {name: value for name, value in target.to_json().items() if name != "profiles"}
    assert StageRecord.from_json(old).profiles == ()


@pytest.fixture(scope="module")
def measure() -> Any:
    """``measure(languages, batch_size, max_length)``: profiles of a random encoder."""
    source, model = ToySource(), Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, source.vocabulary())
    encoder = load_encoder(model, tokenizer, 0).eval()

    def run(
        languages: tuple[str, ...], batch_size: int = 64, max_length: int = 32
    ) -> dict[tuple[str, str], Profile]:
        asked = Diagnosis(NAMES, "qaa", languages, 30, max_length)
        sample = parallel_sample(source, asked, tokenizer)
        measured = profiles(encoder, sample, batch_size)
        return {(profile.diagnostic, profile.language): profile for profile in measured}

    return run


def test_neither_padding_nor_batches_change_a_number(measure: Any) -> None:
    plain, small = measure(("qab", "qaf")), measure(("qab", "qaf"), batch_size=7)
    assert plain.keys() == small.keys()
    for name, profile in plain.items():
        assert small[name].values == pytest.approx(profile.values, abs=1e-5), name
    alone = measure(("qaf",))
    for name, profile in alone.items():
        assert profile.values == pytest.approx(plain[name].values, abs=1e-5), name


def test_a_language_is_found_in_itself(measure: Any) -> None:
    profiles = measure(("qaa",))
    assert profiles["retrieval", "qaa"].values == (1.0,) * (NUM_LAYERS + 1)
    assert profiles["cka", "qaa"].values == pytest.approx((1.0,) * (NUM_LAYERS + 1))
    # A word that stands twice in a sentence is nearest to either at the embeddings.
    assert profiles["alignment", "qaa"].values[-1] == pytest.approx(0.0, abs=1e-6)


def test_measuring_draws_no_random_numbers(measure: Any) -> None:
    before = torch.get_rng_state()
    measure(("qab",))
    assert torch.equal(before, torch.get_rng_state())
