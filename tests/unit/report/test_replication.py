"""Repeats that share a training are one sample of it, and whatever shows their spread says so."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.equal_systems import stage
from tests.unit.report.conftest import SWEEP, Finished, csv_rows, finished, made_table, sized
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse
from xlt_ray.report.effects import effects_csv, effects_of
from xlt_ray.report.stats import (
    shared_by,
    shared_on_one_side,
    spread_note,
    trained_stages,
    units,
)
from xlt_ray.report.tables import LanguageTable, TrialScores

NOTE = "Repeats of a configuration share one intermediate training"

PATHS = st.lists(st.sets(st.sampled_from("abcdef"), max_size=3), max_size=8)


def path(keys: str) -> tuple[StageUse, ...]:
    return tuple(map(stage, keys))


@given(PATHS)
def test_units_are_what_hangs_together_and_part_all(members: list[set[str]]) -> None:
    replication_units = list(units(members))
    assert sorted(place for group in replication_units for place in group) == list(
        range(len(members))
    )
    unit_of = {place: turn for turn, group in enumerate(replication_units) for place in group}
    # The closure of sharing a key, by brute force.
    linked = np.array(
        [[bool(member & second) for second in members] for member in members], dtype=bool
    )
    linked = linked.reshape(len(members), len(members)) | np.eye(len(members), dtype=bool)
    for _ in members:
        linked = (linked.astype(int) @ linked.astype(int)) > 0
    for first in range(len(members)):
        for second in range(len(members)):
            assert (unit_of[first] == unit_of[second]) == linked[first, second]


@given(st.lists(st.tuples(PATHS.map(lambda _: ""), st.text("abcd", max_size=3)), max_size=6))
def test_a_stage_is_shared_on_one_side_where_two_pairs_have_it_and_their_other_sides_lack_it(
    sides: list[tuple[str, str]],
) -> None:
    draw = random.Random(len(sides))
    pairs = [("".join(draw.sample("abcd", 2)), second) for _, second in sides]
    shared = {stage.key for stage in shared_on_one_side((path(a), path(b)) for a, b in pairs)}
    for key in "abcd":
        alone = sum((key in first) != (key in second) for first, second in pairs)
        assert (key in shared) == (alone > 1)
    # Neither which side is first nor the order of pairs matters.
    turned = shared_on_one_side((path(b), path(a)) for a, b in reversed(pairs))
    assert {stage.key for stage in turned} == shared


def test_the_note_says_what_is_given_and_where_configurations_differ() -> None:
    assert spread_note([]) == spread_note([[path("a")], [path("b")]]) == ""
    assert spread_note([[path("ab"), path("ac")][:1], [path("d"), path("e")]]) == ""
    same = spread_note([[path("ab"), path("ac")], [path("ad"), path("ae")]])
    assert same.startswith("All repeats share one training of intermediate a: ")
    different = spread_note([[path("ab"), path("ac")], [path("db"), path("dc")]])
    assert different.startswith(NOTE)
    # One configuration that shares a stage beside one that has none is marked as well.
    assert spread_note([[path("ab"), path("ac")], [path("d"), path("e")]]).startswith(NOTE)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A sweep in which every seed trains an intermediate stage of its own."""
    text = SWEEP.replace("8000]}}]}", "8000]}, seed: per_trial}]}")
    return finished(Home(tmp_path_factory.mktemp("apart")), sized(4, 2, text))


def test_every_table_with_a_spread_says_what_its_seeds_share(
    quick: Finished, tmp_path: Path
) -> None:
    page = quick.report(tmp_path)
    text, tables = page.read_text(), page.parent / "tables"
    captions = [
        caption for caption in re.findall(r"<caption>.*?</caption>", text, re.S) if NOTE in caption
    ]
    assert len(captions) == 2, "languages and groups"
    # What is best, its figure and the words for who cannot see it.
    assert text.count("All repeats share one training of intermediate toy-paraphrase") == 3
    for name in ("", "-groups", "-selection"):
        source = (tables / f"toy-nli-qaa-languages{name}.tex").read_text()
        caption = re.sub(r"\s+", " ", source[source.index(r"\caption") :])
        assert NOTE in caption, name
    lines = csv_rows(tables / "toy-nli-qaa-languages.csv")
    trained = trained_stages(quick.snapshot().trials)
    by_configuration: dict[str, list[tuple[StageUse, ...]]] = {}
    for view in quick.ledger.trials():
        if view.state == "complete":
            by_configuration.setdefault(str(view.configuration), []).append(trained[view.number])
    for line in lines:
        shared = shared_by(by_configuration.get(line["configuration"], []))
        assert line["shared_by_seeds"] == ", ".join(stage.label for stage in shared)
        assert len(shared) <= 1
    assert {bool(line["shared_by_seeds"]) for line in lines} == {True, False}
    (links,) = re.findall(r'<script type="application/json" id="links">(.*?)</script>', text, re.S)
    given = json.loads(links)["given"]["toy-nli-qaa-languages"]
    assert given == {line["configuration"]: line["shared_by_seeds"]
                     for line in lines if line["shared_by_seeds"]}  # fmt: skip


def test_where_every_seed_trains_its_own_nothing_is_said(apart: Finished, tmp_path: Path) -> None:
    page = apart.report(tmp_path)
    files = [page, *(page.parent / "tables").glob("*.tex"), *(page.parent / "tables").glob("*.csv")]
    assert not [file.name for file in files if "share one" in file.read_text()]
    lines = csv_rows(page.parent / "tables" / "toy-nli-qaa-languages.csv")
    assert {line["shared_by_seeds"] for line in lines} == {""}


# -- effects ------------------------------------------------------------------------------


def table_of(stages: list[str], values: list[str], scores: list[float]) -> LanguageTable:
    """One parameter; every configuration has one seed and this intermediate stage."""
    pairs = enumerate(zip(stages, scores, strict=True))
    trials = [[TrialScores(number, 0, {"qaa": score}, path(key))] for number, (key, score) in pairs]
    return made_table([{"width": value} for value in values], trials)


def test_configurations_that_share_a_stage_of_their_level_count_as_one() -> None:
    # Level x: stage a three times, b once; level y: stages c and d. e is on both sides.
    table = table_of(list("aaabcdee"), list("xxxxyyxy"), [1, 2, 3, 6, 7, 9, 4, 8])
    first, second = effects_of(table).levels
    effect = first.effects["qaa"]
    assert (effect.num_configurations, effect.num_units) == (5, 3)
    assert effect.difference == pytest.approx((2 + 6 + 4) / 3 - (7 + 9 + 8) / 3)
    assert second.effects["qaa"].num_units == 3
    (line, *_) = csv_rows(effects_csv(effects_of(table)))
    assert (line["configurations"], line["trained_apart"]) == ("5", "3")


def test_one_training_a_level_gives_no_interval() -> None:
    table = table_of(list("aaabbb"), list("xxxyyy"), [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    for level in effects_of(table).levels:
        assert level.effects["qaa"].low is None
        assert not level.effects["qaa"].is_clear


def test_levels_that_differ_in_nothing_are_clear_in_at_most_five_of_a_hundred() -> None:
    draw = np.random.default_rng(3)
    clear = apart = 0
    for _ in range(300):
        luck = draw.normal(0, 2, 4)
        stages = [0, 0, 1, 1, 2, 2, 3]
        scores = [float(luck[stage] + draw.normal(0, 1)) for stage in stages]
        for keys, is_together in (("aabbccd", True), ("abcdefg", False)):
            level, _ = effects_of(table_of(list(keys), list("xxxxyyy"), scores)).levels
            clear += is_together and level.effects["qaa"].is_clear
            apart += not is_together and level.effects["qaa"].is_clear
    assert clear <= 27, "5 % of 300, and chance"
    assert apart > 45, "the simulation shows what is guarded against"
