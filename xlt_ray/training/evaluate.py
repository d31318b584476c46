"""Score a network: the source dev set during training, every language at the end."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from xlt_ray.data.batches import EvalBatches, eval_batches
from xlt_ray.data.permit import Permit
from xlt_ray.data.task import Task, task_named
from xlt_ray.modeling.network import Network
from xlt_ray.spec.facts import Split
from xlt_ray.stages.record import Score
from xlt_ray.stages.stage import Stage
from xlt_ray.stages.store import StageStore
from xlt_ray.training.events import Ticked
from xlt_ray.training.load import Materials, load_network, tokenizer_digest
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.team import Team


@dataclass(frozen=True)
class Examination:
    """One split of one language, ready to be predicted."""

    task: Task
    batches: EvalBatches


def score(network: nn.Module, examination: Examination) -> dict[str, float]:
    """Metrics of the task over all examples; the network is in evaluation mode."""
    assert isinstance(network, Network), "what is scored was trained on a task"
    batches = examination.batches
    device = next(network.parameters()).device
    decoded: list[Any] = [None] * batches.num_items
    with torch.inference_mode():
        for numbers, batch in batches:
            tensors = {
                name: torch.from_numpy(array).to(device)
                for name, array in batch.items()
                if name != "labels"
            }
            answers = network.head.answers(network(tensors)).cpu().numpy()
            for number, said in zip(numbers, batches.decode(numbers, answers), strict=True):
                decoded[number] = said
    return batches.score(decoded)


def evaluate_stage(
    stage: Stage, materials: Materials, store: StageStore, runtime: Runtime, team: Team
) -> Generator[Ticked, None, tuple[Score, ...]]:
    """Scores of the parent target stage in every language and split that the stage names.

    Workers take the (language, split) pairs in turn; each turn ends with a sign of life.
    """
    assert stage.parent is not None
    network, tokenizer = load_network(stage.parent, materials, store)
    network.to(torch.device(runtime.device)).eval()
    settings = stage.settings
    task = task_named(settings["task"]["name"])
    permit = Permit("evaluate", task.name, settings["source_language"])
    splits: tuple[Split, ...] = ("dev", "test")
    asked = [(language, split) for split in splits for language in settings["languages"][split]]
    found = []
    for turn in range(0, len(asked), team.size):
        if turn:
            yield Ticked(stage, 0)
        if turn + team.rank >= len(asked):
            continue
        language, split = asked[turn + team.rank]
        batches = eval_batches(
            materials.source,
            task,
            permit,
            language,
            split,
            settings["examples"],
            tokenizer,
            tokenizer_digest(tokenizer),
            settings["max_length"],
            runtime.evaluation_batch,
            runtime.cache,
        )
        values = score(network, Examination(task, batches))
        found += [
            Score(task.name, language, split, metric, value, len(batches.examples))
            for metric, value in values.items()
        ]
    scores = [one for part in team.gather(found) for one in part]
    return tuple(sorted(scores, key=lambda one: (one.split, one.language, one.metric)))
