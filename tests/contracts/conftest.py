"""The stores that the contracts are tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xlt_ray.store.store import StageStore

FILES = {"encoder/model.safetensors": b"weights", "config.json": b"{}", "head.safetensors": b"h"}
Results = Callable[..., Path]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """``results(**changes)``: a new local folder with a result in it."""
    count = iter(range(100))

    def write(**changes: bytes) -> Path:
        folder = tmp_path / "results" / str(next(count))
        for name, content in {**FILES, **changes}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return write


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
