"""What a trial's process tells of the stages that it finds."""

from __future__ import annotations

import pytest

from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep.tasks import maker_of, task_for
from xlt_ray.sweep.workers import CONTEXT_BYTES, memory_share, runtime_of


@pytest.mark.parametrize(
    ("made_by", "named"),
    [
        ({"sweep": "small", "trial": 3, "host": "here"}, "small/3"),
        ({"sweep": "small", "trial": 0}, "small/0"),
        ({"sweep": "small", "trial": -1}, "small"),
        ({"host": "here"}, ""),
        ({}, ""),
    ],
)
def test_a_maker_is_named_by_sweep_and_trial(made_by: dict[str, object], named: str) -> None:
    assert maker_of(StageRecord("k" * 64, {}, "target", {}, made_by=made_by)) == named


@pytest.mark.parametrize(
    ("model", "workers", "device", "share"),
    [("toy:2x64", 4, "cuda", 1.0), ("toy:4x64", 1, "cuda", 0.25), ("real", 2, "cpu", 1.0)],
)
def test_a_trial_is_made_with_the_resources_of_its_model(
    home: Home, facts: Facts, model: str, workers: int, device: str, share: float
) -> None:
    sweep = sweep_of(
        parse_document(
            f"""
            name: t
            data: {{source: toy}}
            model: {model}
            target: {{task: nli, source_language: qaa}}
            search: {{trials: 1}}
            resources:
              workers: 4
              gpus_per_worker: 1
              by_model:
                toy:4x64: {{workers: 1, gpus_per_worker: 0.25}}
                real: {{workers: 2, gpus_per_worker: 0}}
            """,
            "t.yaml",
        )
    )
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    runtime = runtime_of(task_for(0, trial, path, sweep, home))
    assert (runtime.workers, runtime.device, runtime.gpu_share) == (workers, device, share)


def test_an_order_says_of_which_commit_it_is(
    facts: Facts, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "target: {task: nli, source_language: qaa}"
    text = f"name: t\ndata: {{source: toy}}\nmodel: toy:2x64\n{target}\nsearch: {{trials: 1}}"
    sweep = sweep_of(parse_document(text, "t.yaml"))
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    for commit, told in (("c" * 40 + "+", {"commit": "c" * 40 + "+"}), ("", {})):
        monkeypatch.setattr("xlt_ray.sweep.tasks.commit_of", lambda commit=commit: commit)
        made_by = runtime_of(task_for(3, trial, path, sweep, home)).made_by
        assert made_by == {"sweep": "t", "trial": 3, **told}


@pytest.mark.parametrize("total_gib", [4, 16, 80])
def test_trials_that_use_a_gpu_together_leave_room_for_cuda_itself(total_gib: int) -> None:
    total = total_gib * 2**30
    for number in (2, 4, 8):
        part = memory_share(1 / number, total)
        assert 0 < part < 1 / number
        fits_beside = number * (part * total + CONTEXT_BYTES) <= total * 1.001
        assert fits_beside or part == 1 / number / 2, "on tiny shares half of it is left to try"


@pytest.mark.parametrize(
    ("overrides", "watched"),
    [
        (("early_stop={method: asha, grace: 0.2}", "objective.languages=target"), ("qab", "qac")),
        (("early_stop={method: asha, grace: 0.2}", "objective.languages=all"),
         ("qaa", "qab", "qac")),
        (("early_stop={method: asha, grace: 0.2}", "objective.languages=[qac]"), ("qac",)),
        (("early_stop={method: asha, grace: 0.2}",), ()),
        (("objective.languages=all",), ()),
    ],
)  # fmt: skip
def test_early_stopping_by_an_oracle_objective_watches_its_languages(
    home: Home, facts: Facts, overrides: tuple[str, ...], watched: tuple[str, ...]
) -> None:
    text = "{name: t, data: {source: toy}, model: real, search: {trials: 1}, target: {task: nli, "
    text += "source_language: qaa}, evaluate: {languages: [qab, qac], examples: 20}}"
    sweep = sweep_of(parse_document(text, "t.yaml", overrides))
    trial = sweep.trial_of({})
    path = path_of(trial, facts, seed=0, shared_seed=0)
    task = task_for(0, trial, path, sweep, home)
    assert task.watched == watched
    runtime = runtime_of(task)
    assert (runtime.watched, runtime.watched_examples) == (watched, 20)
