"""Numbers for sentence pairs: reading, their place in the range, correlation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.conftest import decoded_with
from xlt_ray.config.trial import Hybrid
from xlt_ray.data.batches.evaluation import EvalBatches, eval_split
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.metrics import pearson, spearman
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import TextPipeline
from xlt_ray.data.types.base import Predictions, kind_of
from xlt_ray.errors import DataError

TASK = task_named("stsb-score")
HEADER = "id\tsentence1\tsentence2\tscore\tlabel"
TRAIN = "pairs/stsb/en.train.tsv"


def test_one_file_serves_the_scores_and_the_classes(files):
    source = files(TRAIN, HEADER, "1\ta\tb\t4.75\t2", "2\ta\tNS\t1\t0")
    (scored,) = source.read(TASK, "en", "train")
    (classed,) = source.read(task_named("stsb"), "en", "train")
    assert (scored.score, classed.label) == (4.75, "2")
    splits = [source.splits(task)["en", "train"] for task in (TASK, task_named("stsb"))]
    assert [split.num_examples for split in splits] == [1, 1]
    assert splits[0].digest != splits[1].digest


def test_another_range_is_other_data(files):
    source = files(TRAIN, HEADER, "1\ta\tb\t4.75\t2")
    wider = TASK.model_copy(update={"range": (0.0, 10.0)})
    digests = {
        FilesSource(source.root).splits(task)["en", "train"].digest for task in (TASK, wider)
    }
    assert len(digests) == 2


@pytest.mark.parametrize("text", ["5.01", "-1", "nan", "high", ""])
def test_what_is_no_score_is_named_with_its_line(files, text):
    source = files(TRAIN, HEADER, "1\ta\tb\t5\t2", f"2\ta\tb\t{text}\t2")
    with pytest.raises(DataError, match=r"en\.train\.tsv:3: .* is not a score from 0 to 5"):
        source.read(TASK, "en", "train")


def test_scores_are_trained_as_their_place_in_the_range_and_decoded_back(
    files, make_tokenizer, tmp_path
):
    source = files(
        "pairs/stsb/en.test.tsv", HEADER, "1\ta\tb\t5\t2", "2\tb\ta\t0\t0", "3\ta\ta b\t1.25\t0"
    )
    split = eval_split(
        source, TASK, LabelAccess("evaluate", "stsb-score", "en"), "en", "test", "all",
        TextPipeline(make_tokenizer("ab"), "t", 16, tmp_path / "cache"),
    )  # fmt: skip
    (batch,) = EvalBatches([split], 8)
    labels = batch.arrays["labels"]
    assert labels.dtype == np.float32
    assert sorted(labels.tolist()) == [0.0, 0.25, 1.0]
    decoded = decoded_with(split, lambda batch: batch["labels"])
    assert decoded == [5.0, 0.0, 1.25] == list(split.gold)
    assert split.score(decoded) == {"pearson": pytest.approx(1), "spearman": pytest.approx(1)}


def test_translated_pairs_cross_and_keep_their_score(files, make_tokenizer, tmp_path):
    files("pairs/stsb/de.train.tsv", HEADER, "1\tc\td\t2.5\t1")
    source = files(TRAIN, HEADER, "1\ta\tb\t2.5\t1")
    batches = train_batches(
        source, TASK, LabelAccess("train", "stsb-score", "en"), "all",
        TextPipeline(make_tokenizer("abcd"), "t", 16, tmp_path / "cache"), BatchSettings(8, 0),
        hybrid=Hybrid(ratio=1.0),
    )  # fmt: skip
    batch = batches.batch(0)
    assert set(batch["labels"].tolist()) == {0.5}
    rows = {tuple(ids[[1, 3]].tolist()) for ids in batch["input_ids"]}
    assert rows == {(5, 8), (7, 6)}


VALUES = st.lists(st.integers(-50, 50), min_size=3, max_size=12, unique=True)


@given(VALUES, st.integers(1, 9), st.integers(-9, 9))
def test_correlation_sees_neither_scale_nor_shift(gold, scale, shift):
    predicted = [scale * value + shift for value in gold]
    assert pearson(gold, predicted) == pytest.approx(1)
    assert spearman(gold, [value**3 for value in predicted]) == pytest.approx(1)
    assert pearson(gold, [-value for value in gold]) == pytest.approx(-1)


def test_equal_predictions_correlate_with_nothing_and_equal_gold_has_no_correlation():
    kind = kind_of(TASK)
    assert kind.score(Predictions("en", [1.0, 2.0], [3.0, 3.0])) == {
        "pearson": 0.0,
        "spearman": 0.0,
    }
    assert kind.score(Predictions("en", [1.0], [3.0])) == {}
