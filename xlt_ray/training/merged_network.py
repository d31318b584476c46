"""Make a merge stage: the networks of its members become one, file by file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from xlt_ray.config.methods import FUSIONS, MERGES, Merge
from xlt_ray.config.trial import Ranking
from xlt_ray.data.task import task_named
from xlt_ray.errors import StoreError
from xlt_ray.modeling.merging import merge_files
from xlt_ray.modeling.network import build_network
from xlt_ray.store.stage import Stage, head_seed_of
from xlt_ray.store.stage_path import dependencies
from xlt_ray.store.store import RECORD
from xlt_ray.training.final_weights import AVERAGE
from xlt_ray.training.load import (
    EXTRA,
    TrainingContext,
    load_network,
    load_parent,
    method_settings,
    save_result,
)


def write_merge(stage: Stage, context: TrainingContext, folder: Path) -> None:
    """Write the network of a merge stage into an empty folder.

    Raises:
        StoreError: a member, or what it needs, is not in the store any more.
        ModelError: the members' weights have different names or shapes.
    """
    for part in dependencies(stage):
        if context.store.find_undamaged(part) is None:
            raise StoreError("is not in the store", key=part.key)
    settings: Merge = method_settings(MERGES, stage.settings["merge"])
    context.store.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.store.scratch) as scratch:
        members = [
            _whole(member, context, Path(scratch) / str(number))
            for number, member in enumerate(stage.members)
        ]
        base = None
        if settings.needs_base:
            base = Path(scratch) / "base"
            _write_base(stage.members[0], context, base)
        for file in sorted(members[0].iterdir()):
            place = folder / file.name
            if file.suffix != ".safetensors":
                if file.name != RECORD:
                    shutil.copyfile(file, place)
            elif file.name != AVERAGE:
                # A language model has a head of its own.
                files = [
                    folder_of / file.name
                    for member, folder_of in zip(stage.members, members, strict=True)
                    if member.kind == "target" or file.name != EXTRA
                ]
                merge_files(files, None if base is None else base / file.name, settings, place)


def _whole(member: Stage, context: TrainingContext, scratch: Path) -> Path:
    """A folder with the whole network of a member; of an adapter it is written to ``scratch``."""
    if not member.is_adapter:
        return context.store.folder(member.key)
    network, tokenizer = load_network(member, context)
    scratch.mkdir()
    save_result(network, tokenizer, scratch)
    return scratch


def _write_base(member: Stage, context: TrainingContext, folder: Path) -> None:
    """Write the network that the training of a member began with."""
    encoder, tokenizer = load_parent(member, context)
    settings = member.settings
    task = task_named(settings["task"]["name"])
    network = build_network(
        encoder,
        task.kind,
        method_settings(FUSIONS, settings.get("fusion")),
        len(task.labels),
        head_seed_of(member),
        Ranking.model_validate(settings.get("ranking", {})),
    )
    folder.mkdir()
    save_result(network, tokenizer, folder)
