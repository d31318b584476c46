"""A sealed line is whole as JSON hands it back, and not when anything in it was changed."""

from __future__ import annotations

import json
import zlib
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xlt_ray.store.canonical import CHECKSUM, is_whole, with_checksum

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.dictionaries(st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
lines = st.dictionaries(st.text(), plain, max_size=5).filter(lambda line: CHECKSUM not in line)


@settings(max_examples=50)
@given(line=lines)
def test_a_line_is_whole_after_it_was_written_and_read(line: dict[str, Any]) -> None:
    read = json.loads(json.dumps(with_checksum(line)))
    assert is_whole(read)
    # What the seal is taken of does not depend on who takes it.
    own = json.dumps(json.loads(json.dumps(line)), sort_keys=True)
    assert read[CHECKSUM] == f"{zlib.crc32(own.encode()):08x}"


@given(line=lines, name=st.text(), value=plain)
def test_a_line_that_was_changed_is_not_whole(line: dict[str, Any], name: str, value: Any) -> None:
    assume(name != CHECKSUM)
    read = json.loads(json.dumps(with_checksum(line)))
    changed = json.loads(json.dumps({**read, name: value}))
    assume(json.dumps(changed) != json.dumps(read))
    assert not is_whole(changed)


def test_a_line_without_a_seal_is_taken_as_it_is() -> None:
    assert is_whole({"op_code": 1})
