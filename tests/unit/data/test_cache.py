"""Folders of the cache: whole, or made again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from xlt_ray.data import cache as room
from xlt_ray.data.cache import cached


class Maker:
    """Writes the same two files every time, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, aside: Path) -> None:
        self.times += 1
        (aside / "one.bin").write_bytes(b"one" * 1000)
        (aside / "deeper").mkdir()
        (aside / "deeper" / "two.bin").write_bytes(b"two" * 1000)


@pytest.fixture
def maker() -> Maker:
    room._is_whole.cache_clear()
    return Maker()


def other_process() -> None:
    """What is remembered for this process is not for the next one."""
    room._is_whole.cache_clear()


def test_it_is_made_once_and_read_once_a_process(tmp_path: Path, maker: Maker) -> None:
    folder = tmp_path / "a" / "key"
    for _ in range(3):
        assert cached(folder, maker) == folder
        assert (folder / "deeper" / "two.bin").read_bytes() == b"two" * 1000
    assert maker.times == 1
    assert room._is_whole.cache_info().misses == 1
    assert [file.name for file in folder.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("name", ["one.bin", "deeper/two.bin", "digests.json"])
@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
def test_what_is_damaged_is_set_aside_and_made_again(
    tmp_path: Path, maker: Maker, name: str, how: str
) -> None:
    folder = tmp_path / "key"
    cached(folder, maker)
    file = folder / name
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content if how == "altered" else content[:-5])
    other_process()
    cached(folder, maker)
    assert maker.times == 2
    assert (folder / "one.bin").read_bytes() == b"one" * 1000
    assert (folder / "deeper" / "two.bin").read_bytes() == b"two" * 1000
    (aside,) = tmp_path.glob("key.damaged-*")
    if how == "altered":
        assert (aside / name).read_bytes() == content


def test_whoever_makes_the_same_meanwhile_is_no_trouble(tmp_path: Path, maker: Maker) -> None:
    folder = tmp_path / "key"
    barrier = threading.Barrier(4)

    def make(aside: Path) -> None:
        barrier.wait(30)
        maker(aside)

    threads = [threading.Thread(target=cached, args=(folder, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.times == 4
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
    cached(folder, maker)
    assert maker.times == 4


def test_what_could_not_be_made_leaves_nothing_behind(tmp_path: Path, maker: Maker) -> None:
    def fail(aside: Path) -> None:
        maker(aside)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "key", fail)
    assert list(tmp_path.iterdir()) == []
    assert cached(tmp_path / "key", maker).is_dir()
