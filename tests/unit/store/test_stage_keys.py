"""Keys of known stages, pinned so that finished work is not lost by accident."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from xlt_ray.store.stage_path import StagePath

GOLDEN = Path(__file__).with_name("keys.json")
TAGS = {"intermediate": None, "align": None, "target.task": "tags", "model": "real"}
ADVICE = """
The keys of stages changed, so that no stage trained before is found again.

If a stage means what it meant, undo the change (a setting added later is left out of the payload
while it has its neutral value). If the *meaning* of a kind changed on purpose, raise its number
in VERSIONS (xlt_ray/store/stage.py) and let {file} say:

{keys}
"""


def known(path_with: Callable[..., StagePath]) -> dict[str, str]:
    """About ten stages, by what they are."""
    paths = {
        "all": path_with(),
        "tlm": path_with({"align": {"objective": "tlm", "languages": ["qab", "qaa"]}}),
        "per trial": path_with({"intermediate.seed": "per_trial"}, seed=3),
        "tags": path_with(TAGS),
        "bf16": path_with({**TAGS, "precision": "bf16", "target.hybrid.ratio": 0.0}),
    }
    return {
        f"{name}: {stage.label}": stage.key
        for name, path in paths.items()
        for stage in path
        if name in ("all", "tags") or stage.kind in ("align", "intermediate", "target")
    }


def test_keys_of_known_stages_stay_what_they_are(path_with: Callable[..., StagePath]) -> None:
    keys = known(path_with)
    pinned = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert keys == pinned, ADVICE.format(file=GOLDEN.name, keys=json.dumps(keys, indent=1))


def test_an_evaluation_under_autocast_says_so(path_with: Callable[..., StagePath]) -> None:
    found = {
        precision: path_with({"precision": precision})[-1].settings.get("autocast")
        for precision in ("fp32", "tf32", "bf16-mixed", "bf16")
    }
    assert found == {"fp32": None, "tf32": None, "bf16-mixed": "bf16", "bf16": "bf16"}
