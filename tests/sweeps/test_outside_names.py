"""Names that users and stored files see, as a golden listing: a rename of code changes none."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.sweeps.conftest import Place

GOLDEN = Path(__file__).with_name("outside_names.txt")
VALUES = re.compile(
    r"[0-9a-f]{8,}|\d+|small|paraphrase|nli|toy-.*|qa[a-f].*|.*\.safetensors|start:\d+|facts:\d+"
)
"""Parts of names that are values of this sweep: digests, numbers, tasks, languages, files."""
NOT_OURS = {"user_attr.sweep", "mlflow tags.xlt.commit"}
"""The sweep file itself, and what is there in a checkout alone."""


def names_in(value: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys in a tree of JSON; ``*`` stands for a key that is a value."""
    if isinstance(value, dict):
        for key, child in value.items():
            shown = "*" if VALUES.fullmatch(key) else re.sub(r"/qa[a-f].*", "/*", key)
            path = f"{prefix}.{shown}" if prefix else shown
            if path in NOT_OURS or path.startswith("mlflow tags.mlflow.source."):
                continue
            yield path
            yield from names_in(child, path)
    elif isinstance(value, list):
        for child in value:
            yield from names_in(child, f"{prefix}[]")
    elif isinstance(value, str) and value[:2] in ('{"', "[{"):
        yield from names_in(json.loads(value), prefix)


def journal_attributes(file: Path) -> Iterator[str]:
    """Attributes of study and trials that the journal of a ledger holds."""
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line[line.index("{") : line.rindex("}") + 1])
        for kind in ("user_attr", "system_attr"):
            yield from names_in(entry.get(kind, {}), kind)


def mlflow_names(database: Path) -> Iterator[str]:
    with sqlite3.connect(database) as connection:
        for table in ("tags", "params", "metrics", "experiment_tags"):
            for (key,) in connection.execute(f"SELECT DISTINCT key FROM {table}"):
                yield from names_in({key: None}, f"mlflow {table}")
    for file in (database.parent / "artifacts").rglob("*"):
        if file.is_file():
            relative = file.relative_to(database.parent / "artifacts").parts
            yield "mlflow artifact " + "/".join(relative[relative.index("artifacts") + 1 :])


def outside_names(place: Place) -> Iterator[tuple[str, str]]:
    """Pairs of where a name is seen and the name itself."""
    assert place.xlt("report", "small").returncode == 0
    exported = place.xlt("export", "small", "exported")
    assert exported.returncode == 0, exported.stderr
    for record in (place.home / "stages").glob("*/record.json"):
        content = json.loads(record.read_text())
        kind = content["payload"]["kind"]
        yield from ((f"record of {kind}", name) for name in names_in(content))
        for file in record.parent.iterdir():
            yield f"record of {kind}", f"file {file.name}"
    for journal in place.home.rglob("*.journal"):
        yield from (("journal", name) for name in journal_attributes(journal))
    yield from (("mlflow", name) for name in mlflow_names(place.home / "mlflow" / "mlflow.db"))
    for arguments in (
        ("status",), ("trials", "small"), ("plan", "small.yaml"), ("check", "small.yaml"),
        ("compare", "small", "small/1"), ("list", "tasks"), ("list", "methods"),
    ):  # fmt: skip
        printed = place.xlt(*arguments, "--json")
        yield from ((f"xlt {arguments[0]} --json", name)
                    for name in names_in(json.loads(printed.stdout)))  # fmt: skip
    for table in (place.home / "reports" / "small").rglob("*.csv"):
        columns = next(csv.reader(table.open(encoding="utf-8")))
        yield from ((f"report {table.name}", name) for name in names_in(dict.fromkeys(columns)))
    metadata = json.loads((place.root / "exported" / "xlt.json").read_text())
    yield from (("xlt.json", name) for name in names_in(metadata))


def test_names_outside_the_code_are_what_they_were(finished: Place) -> None:
    found = "".join(f"{where}: {name}\n" for where, name in sorted(set(outside_names(finished))))
    assert found == GOLDEN.read_text(encoding="utf-8"), (
        f"names that users see changed; if that was decided, let {GOLDEN.name} say:\n\n{found}"
    )
