"""Files that change after a sweep was started are refused, before anything is trained if it can be,
and no training is lost by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sweeps.test_relative_paths import TAGGED, write_tags
from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.trial import Model
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.sources.base import open_source
from xlt_ray.errors import CHANGED, DataError
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.events import Committed, Event
from xlt_ray.training.load import TrainingContext
from xlt_ray.training.process_group import join_process_group
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.walk import walk

SWEEP = """
name: changed
data: {{source: files, root: "{root}/data"}}
model: "{root}/model"
target: {{task: pos, source_language: en, epochs: 1, batch_size: 4, max_length: 16,
  learning_rate: 1.0e-3, evaluations: 1}}
search: {{trials: 1}}
"""
Walk = Callable[[], Iterator[Event]]


@pytest.fixture
def start(tmp_path: Path) -> Walk:
    """A sweep is started with the files as they are; each call is a process of its trial."""
    model = Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, tuple(TAGGED))
    save_encoder(load_encoder(model, tokenizer, 0), tokenizer, tmp_path / "model")
    write_tags(tmp_path / "data" / "pos")
    sweep = sweep_of(parse_document(SWEEP.format(root=tmp_path), "f.yaml", []))
    facts = facts_of(sweep)
    tree, _ = draw(sweep.space, lambda parameter: extremes(parameter.distribution)[0], lambda _: {})
    trial = sweep.trial(tree)
    path = path_of(trial, facts, seed=0, shared_seed=0)

    def process() -> Iterator[Event]:
        cache, store = tmp_path / "cache", StageStore(tmp_path / "home")
        source, runtime = open_source(trial.data, cache), Runtime(cache=cache, evaluations=1)
        group = join_process_group(0, 1, "cpu")
        return walk(path, TrainingContext(trial.model, source, store, runtime, group))

    return process


def committed(events: Iterator[Event]) -> dict[str, bool]:
    """Kind of every stage that was committed -> whether it was found."""
    return {event.stage.kind: event.reused for event in events if isinstance(event, Committed)}


CHANGES: dict[str, Callable[[Path], object]] = {
    "another word": lambda file: file.write_text(file.read_text().replace("cat", "dog", 1)),
    "an unknown label": lambda file: file.write_text(file.read_text().replace("NOUN", "NOMEN", 1)),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["de.test", "en.dev", "en.train"])
def test_nothing_is_trained_once_a_file_has_changed(
    start: Walk, tmp_path: Path, name: str, change: Callable[[Path], object]
) -> None:
    file = tmp_path / "data" / "pos" / f"{name}.conllu"
    kept = file.read_bytes()
    change(file)
    with pytest.raises(DataError, match=CHANGED):
        list(start())
    assert len(StageStore(tmp_path / "home")) == 0
    file.write_bytes(kept)
    assert committed(start()) == {"target": False, "evaluate": False}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_test_file_that_changes_while_a_trial_trains_costs_no_training(
    start: Walk, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    file = tmp_path / "data" / "pos" / "de.test.conllu"
    kept = file.read_bytes()
    events = start()
    while not isinstance(next(events), Committed):
        pass
    change(file)
    with pytest.raises(DataError):
        list(events)
    file.write_bytes(kept)
    assert committed(start()) == {"target": True, "evaluate": False}
