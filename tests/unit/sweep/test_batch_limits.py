"""What fits into memory is learnt once for a model, a device and a length."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xlt_ray.sweep.trainable import read_batch_limits, save_batch_limit


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    assert read_batch_limits(tmp_path / "fits.json", "m", "cpu") == {}


def test_what_was_learnt_holds_for_its_model_device_and_length(tmp_path: Path) -> None:
    file = tmp_path / "home" / "fits.json"
    save_batch_limit(file, "large", "cuda", 128, 8)
    save_batch_limit(file, "large", "cuda", 512, 2)
    assert read_batch_limits(file, "large", "cuda") == {128: 8, 512: 2}
    assert read_batch_limits(file, "large", "cpu") == {}
    assert read_batch_limits(file, "base", "cuda") == {}
    assert [one.name for one in file.parent.glob("*.json")] == ["fits.json"]


def test_the_smaller_number_stays(tmp_path: Path) -> None:
    file = tmp_path / "fits.json"
    for number in (8, 16, 4, 32):
        save_batch_limit(file, "m", "cuda", 128, number)
    assert read_batch_limits(file, "m", "cuda") == {128: 4}


def test_trials_that_learn_at_the_same_time_forget_nothing(tmp_path: Path) -> None:
    file = tmp_path / "fits.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: save_batch_limit(file, f"m{one % 3}", "cuda", one, 4), range(12)))
    found = {
        length for model in range(3) for length in read_batch_limits(file, f"m{model}", "cuda")
    }
    assert found == set(range(12))


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "fits.json"
    file.write_text(content)
    assert read_batch_limits(file, "m", "cuda") == {}
    save_batch_limit(file, "m", "cuda", 128, 4)
    assert json.loads(file.read_text()) == {"m": {"cuda": {"128": 4}}}
