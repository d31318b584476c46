"""The recipes of the extending guide work as they are written, in a copy of the repository."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "extending.md"
RECIPE = re.compile(r"^# (xlt_ray/[\w/.-]+)(?:, (in|above) (\w+))?\n")
"""The first line of a block: a new file, or where in a file the block goes."""
FAST_TESTS = (
    "tests/house",
    "tests/contracts/test_fusion_contract.py",
    "tests/contracts/test_source_contract.py",
    "tests/unit/config",
    "tests/unit/data/test_task.py",
    "tests/unit/data/test_held_out.py",
    "tests/unit/modeling/test_network.py",
    "tests/unit/store/test_stage_keys.py",
)
"""What runs over the registries, without real trainings."""


def recipes() -> Iterator[tuple[str, str, str, str]]:
    """Path, place ("", "in" or "above"), name and code of every block that goes into a file."""
    text = GUIDE.read_text()
    for _, block in re.findall(r"^```(yaml|python)\n(.*?)^```", text, re.S | re.M):
        match = RECIPE.match(block)
        if match:
            path, place, name = match.groups(default="")
            yield path, place, name, block[match.end() :]


def assignment(tree: ast.Module, name: str) -> ast.Assign | ast.AnnAssign:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == name:
                return node
    raise AssertionError(f"no {name}")


def with_entry(text: str, name: str, entry: str) -> str:
    """A module with one more element in the largest tuple that is assigned to ``name``."""
    value = assignment(ast.parse(text), name).value
    assert value is not None
    tuples = [node for node in ast.walk(value) if isinstance(node, ast.Tuple)]
    last = max(tuples, key=lambda node: (node.end_lineno or 0) - node.lineno).elts[-1]
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    lines = text.splitlines(keepends=True)
    line = lines[last.end_lineno - 1].encode()
    before, after = line[: last.end_col_offset].decode(), line[last.end_col_offset :].decode()
    if after.startswith(","):
        indent = " " * (len(line) - len(line.lstrip()))
        lines[last.end_lineno - 1] = f"{before},\n{textwrap.indent(entry.strip(), indent)}{after}"
    else:
        lines[last.end_lineno - 1] = f"{before}, {entry.strip()}{after}"
    return "".join(lines)


def with_definition(text: str, name: str, code: str) -> str:
    """A module with ``code`` above the assignment to ``name``."""
    line = assignment(ast.parse(text), name).lineno - 1
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:line], code, "\n\n", *lines[line:]])


def apply(root: Path) -> None:
    """Apply every recipe of the guide to a copy of the repository."""
    for path, place, name, code in recipes():
        file = root / path
        if place == "in":
            file.write_text(with_entry(file.read_text(), name, code))
        elif place == "above":
            file.write_text(with_definition(file.read_text(), name, code))
        else:
            assert not file.exists(), path
            file.write_text(code)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with everything in it that the guide adds."""
    root = tmp_path_factory.mktemp("extended") / "xlt-ray"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "xlt-home*", "*.egg-info")
    names = ("benchmarks", "cluster", "docs", "examples", "sweeps", "tests", "xlt_ray",
             "README.md", "pyproject.toml")  # fmt: skip
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, root / name)
    apply(root)
    # An entry is laid out by the formatter, as its author would.
    run(root, "ruff", "format", "xlt_ray")
    return root


def run(root: Path, *module: str, code: str = "") -> None:
    """Run a module with its arguments, or some code, on the copy."""
    command = ["-c", textwrap.dedent(code)] if code else ["-m", *module]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def test_the_guide_has_a_recipe_of_every_sort() -> None:
    paths = [path for path, *_ in recipes()]
    for folder in ("data/tasks", "data/types", "modeling/grade_head.py", "modeling/fusion",
                   "modeling/objectives", "config/methods.py",
                   "config/model_presets.py", "config/task_types.py",
                   "config/sweep.py"):  # fmt: skip
        assert any(path.startswith(f"xlt_ray/{folder}") for path in paths), folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('N = Literal["a", "b"]\n', 'N = Literal["a", "b", "c"]\n'),
        ('N = (\n    "a",\n    "b",\n)\n', 'N = (\n    "a",\n    "b",\n    "c",\n)\n'),
    ],
)
def test_an_entry_goes_behind_the_last_one(before: str, after: str) -> None:
    assert with_entry(before, "N", '"c"\n') == after


@pytest.mark.long
def test_linters_accept_what_the_guide_adds(extended: Path) -> None:
    run(extended, "ruff", "check", "xlt_ray")
    run(extended, "mypy")


@pytest.mark.long
def test_what_the_guide_adds_can_be_named_and_listed(extended: Path) -> None:
    code = """
        from xlt_ray.config.model_presets import find_preset
        from xlt_ray.config.sweep import sweep_of
        from xlt_ray.config.yaml import parse_document
        from xlt_ray.data.task import task_named
        from xlt_ray.data.types.base import kind_of

        assert kind_of(task_named("topic"))
        assert find_preset("our-lab/xlm-legal")
        sweep_of(parse_document('''
        name: extended
        data: {source: files, root: data}
        model: our-lab/xlm-legal
        align: {objective: focal_tlm, focus: {float: [0.0, 2.0]}}
        target:
          task: topic
          source_language: en
          fusion: {method: gate, layer: {int: [0, num_layers - 1]}}
        search: {trials: 4}
        ''', "extended.yaml"))
    """
    run(extended, code=code)


@pytest.mark.long
def test_a_metric_of_the_guide_scores_items(extended: Path) -> None:
    code = """
        from xlt_ray.data.task import task_named
        from xlt_ray.data.types.base import Predictions, kind_of

        task = task_named("topic")
        task = task.model_validate(task.model_dump() | {"metrics": ["accuracy", "mcc"]})
        same, different = task.labels
        gold = [same, same, different, different] * 5
        right = kind_of(task).item_scores(Predictions("en", gold, gold))
        assert right.values["mcc"] == 1.0
        half = kind_of(task).item_scores(Predictions("en", gold, [same, different] * 10))
        points, out_of = half.parts["mcc"]
        assert abs(points.sum() / out_of.sum() - half.values["mcc"]) < 1e-9
        assert points.std() > 0
        assert "mcc" not in kind_of(task).item_scores(Predictions("en", [same], [same])).parts
    """
    run(extended, code=code)


@pytest.mark.long
def test_a_sampler_of_the_guide_proposes_new_configurations(extended: Path) -> None:
    code = """
        from xlt_ray.config.sweep import sweep_of
        from xlt_ray.config.yaml import parse_document
        from xlt_ray.ledger import rehearsal

        sweep = sweep_of(parse_document('''
        name: extended
        data: {source: toy}
        model: toy:2x32
        target:
          task: toy-nli
          source_language: qaa
          learning_rate: {float: [1.0e-5, 1.0e-3], log: true}
          fusion: {choice: [{method: none}, {method: mix}]}
        search: {sampler: nsgaiii, trials: 60, seed: 1}
        ''', "extended.yaml"))
        ledger = rehearsal(sweep)
        rates, configurations = [], set()
        while (trial := ledger.ask(sweep, lambda _: {})) is not None:
            rates.append(trial.assignment["target.learning_rate"])
            configurations.add(frozenset(trial.assignment.items()))
            ledger.tell_complete(trial.number, rates[-1])
        assert len(configurations) == 60
        # Children have rates of their parents, which random draws do not repeat.
        assert len(set(rates[:16])) == 16
        assert len(set(rates)) < 50, rates
    """
    run(extended, code=code)


@pytest.mark.long
def test_contracts_hold_for_what_the_guide_adds(extended: Path) -> None:
    run(extended, "pytest", "-q", "-x", "-p", "no:cacheprovider", *FAST_TESTS)
