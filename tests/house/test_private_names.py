"""Names of other libraries that are not public: each is listed here, and is still there."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

import xlt_ray

PACKAGE = Path(xlt_ray.__file__).parent

PRIVATE = {
    "optuna.study.study": ("_storage", "_study_id", "_thread_local", "cached_all_trials"),
    "optuna.trial._frozen": ("_trial_id",),
    "optuna._transform": ("_SearchSpaceTransform",),
    "optuna.samplers._tpe.sampler": (
        "_sample", "_n_startup_trials", "_compute_acquisition_func", "mpe_below", "mpe_above",
    ),
    "optuna.storages.journal._file": (
        "BaseJournalFileLock", "get_lock_file", "_file_path", "_lock",
    ),
    "ray._private.state": ("state", "get_draining_nodes"),
    "ray._private.node": ("_temp_dir",),
    "ray.tune.execution.tune_controller": (
        "get_live_trials", "stop_trial", "_tune_controller", "_actor_force_cleanup_timeout",
    ),
    "ray.air.execution._internal.actor_manager": ("isinstance(exception, RayActorError)",),
    "ray.tune.experiment.trial": ("pickled_error_file", "temporary_state", "ray_actor"),
    "deepspeed.runtime.zero.stage_1_and_2": (
        "single_partition_of_fp32_groups", "_lazy_init_hp_params_optimizer_state",
    ),
    "deepspeed.runtime.bf16_optimizer": ("fp32_groups_flat_partition",),
    "deepspeed.runtime.zero.stage3": ("fp32_partitioned_groups_flat",),
    "deepspeed.runtime.zero.partition_parameters": ("ds_tensor",),
    "deepspeed.runtime.engine": ("basic_optimizer",),
    "transformers.configuration_utils": ("_attn_implementation",),
    "deepspeed.ops": ("__compatible_ops__",),
    "mlflow.store.tracking.sqlalchemy_store": ("_hard_delete_run", "_hard_delete_experiment"),
}  # fmt: skip
"""Module -> names in it that this package rests on, beyond what its library promises."""


DOCUMENTED = {"_exit", "_replace", "_asdict"}
"""Of Python's own library: public in spite of their names."""


def source_of(module: str) -> str:
    """Source of a module, which is not imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent.joinpath(*rest)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("module", PRIVATE)
def test_a_private_name_that_is_used_is_still_there(module: str) -> None:
    source = source_of(module)
    assert [name for name in PRIVATE[module] if name not in source] == []


def test_no_other_private_name_is_used() -> None:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    own: set[str] = set()
    used: dict[str, str] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in (name for part in targets for name in ast.walk(part)):
                    if isinstance(target, ast.Name):
                        own.add(target.id)
                    elif isinstance(target, ast.Attribute) and is_self(target):
                        own.add(target.attr)
            elif isinstance(node, ast.ImportFrom) and node.module and "._" in node.module:
                used.update({name.name: f"{path.name}: {node.module}" for name in node.names})
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                used.setdefault(node.attr, f"{path.name}:{node.lineno}")
    known = DOCUMENTED | {name for names in PRIVATE.values() for name in names}
    assert {name: place for name, place in used.items() if name not in own | known} == {}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
