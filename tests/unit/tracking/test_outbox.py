"""The spool: every whole line is read again, and none that is not."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from xlt_ray.tracking.spool import Outbox, OutboxPoint

POINTS = [
    OutboxPoint(number, 64 * number, {"system/memory_gib": 0.5 + number}, 1_700_000_000_000)
    for number in range(4)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "t.jsonl"


@pytest.fixture
def spool(file: Path) -> Outbox:
    spool = Outbox(file)
    for point in POINTS:
        spool.add(point)
    return spool


def test_what_was_added_is_read_in_its_order_until_it_is_cleared(file: Path, spool: Outbox) -> None:
    assert Outbox(file).read() == POINTS
    assert spool.read() == POINTS
    spool.clear()
    spool.clear()
    assert spool.read() == []


def test_a_line_that_its_driver_did_not_end_is_left_out(file: Path, spool: Outbox) -> None:
    file.write_bytes(file.read_bytes()[:-20])
    assert spool.read() == POINTS[:-1]
    spool.add(POINTS[-1])
    assert spool.read() == POINTS
    assert [one.name for one in file.parent.iterdir()] == ["t.jsonl"]


def test_a_point_that_the_disk_cuts_short_takes_no_other_with_it(file: Path, spool: Outbox) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 30, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.add(POINTS[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.add(POINTS[0])
    assert spool.read() == [*POINTS, POINTS[0]]
    assert [one.name for one in file.parent.iterdir()] == ["t.jsonl"]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    ("before", "after"), [(b"1700000000000", b"1700000000001"), (b'"metrics"', b'"netrics"'),
                          (b"{", b"[")],
)  # fmt: skip
def test_an_altered_line_is_left_out_and_the_file_kept(
    file: Path, spool: Outbox, number: int, before: bytes, after: bytes
) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(before, after, 1)
    file.write_bytes(b"".join(lines))
    others = POINTS[:number] + POINTS[number + 1 :]
    assert spool.read() == others
    (aside,) = file.parent.glob("t.jsonl.damaged-*")
    assert aside.read_bytes() == b"".join(lines)
    assert Outbox(file).read() == others
