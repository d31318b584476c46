"""Ids: unique, whatever a file holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.data.text.lines import Names

NAMES = st.lists(st.sampled_from(["a", "a#2", "a#2#2", "a#3", "b"]), max_size=12)


@given(NAMES)
def test_ids_are_all_different_and_the_first_of_a_name_keeps_it(given_names: list[str]) -> None:
    names = Names()
    unique = [names.unique(name) for name in given_names]
    assert len(set(unique)) == len(unique)
    if given_names:
        assert unique[0] == given_names[0]


def test_a_number_that_a_file_has_itself_is_passed_over() -> None:
    names = Names()
    assert [names.unique(name) for name in ("a", "a", "a#2")] == ["a", "a#2", "a#2#2"]
