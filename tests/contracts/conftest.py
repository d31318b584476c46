"""The stores of which all contracts must hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xlt_ray.store.store import StageStore


@pytest.fixture(params=["folder", "memory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StageStore]:
    """A new one, on a local folder, in memory and on an object store."""
    if request.param == "folder":
        yield StageStore(tmp_path / "store")
        return
    root = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    store = StageStore(f"{root}/{tmp_path.name}", scratch=tmp_path / "scratch")
    yield store
    store.storage.remove("")
