"""A table of a report is opened by a spreadsheet, and names in it may come from anybody."""

from __future__ import annotations

import csv
import io

import pytest

from xlt_ray.report.figures import csv_text


@pytest.mark.parametrize("name", ["=1+1", "+1-1", "-1+1", "@SUM(A1)", "\t=1", "\n=1"])
def test_no_name_or_cell_is_a_formula(name: str) -> None:
    header, row = csv.reader(io.StringIO(csv_text([name, "value"], [[name, 0.5]])))
    assert header[0] == row[0] == f"'{name}"


def test_no_part_of_a_name_begins_a_row() -> None:
    text = csv_text(["de"], [["fr\r=1+1"], ["\r=1"]])
    assert text == "de\nfr =1+1\n =1\n"


def test_numbers_and_plain_names_stay_as_they_are() -> None:
    text = csv_text(["de", "-0.5"], [[-0.5, "-1e-05"], [None, "zh-Hans"]])
    assert text == "de,-0.5\n-0.5,-1e-05\n,zh-Hans\n"
