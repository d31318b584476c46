"""The report of a sweep: one self-contained page, with its tables and figures beside it.

``index.html`` needs no network and nothing beside it. The same ledger and store give the same
bytes: every date in it is the ledger's.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xlt_ray.home import Home
from xlt_ray.ledger import Ledger
from xlt_ray.report.canvas import Figure, write_figure
from xlt_ray.report.figures import knob_figure, language_figure
from xlt_ray.report.frames import knobs_of, scores_frame, stages_frame, trials_frame
from xlt_ray.report.labels import DescribeLanguage, is_absent, language_label, shown_value
from xlt_ray.report.tables import (
    LanguageTable,
    best_configuration,
    is_oracle,
    language_tables,
    selection_rule,
    table_csv,
    table_tex,
)
from xlt_ray.stages.stage import short
from xlt_ray.stages.store import StageStore

STATES = ("complete", "pruned", "failed", "running", "waiting")


def write_report(
    home: Home,
    ledger: Ledger,
    store: StageStore,
    describe_language: DescribeLanguage | None = None,
) -> Path:
    """Write ``reports/<name>/``: the page, ``tables/*.csv|tex``, ``figures/*.svg|png|csv``.

    Works at any time of a sweep; what is not there yet is said to be missing.

    Args:
        describe_language: name, family, script and resources of a language by its code;
            languages are shown by code alone where it is left out.

    Raises:
        DamagedStage: a record of the store cannot be read.
    """
    sweep = ledger.sweep
    knobs = knobs_of(ledger.trials())
    trials = trials_frame(ledger)
    scores = scores_frame(ledger, store)
    stages = stages_frame(ledger, store)
    tables = language_tables(trials, scores, knobs, sweep)
    best = best_configuration(trials, sweep)
    figures = _figures(tables, knobs, sweep, best, describe_language)

    folder = home.reports(ledger.name)
    texts = {
        "tables/trials.csv": _csv(trials.drop(columns="mlflow_run_id")),
        "tables/scores.csv": _csv(scores),
        "tables/stages.csv": _csv(stages),
    }
    for table in tables:
        stem = f"tables/{table.task}-{table.source_language}-languages"
        texts[f"{stem}.csv"] = table_csv(table)
        texts[f"{stem}.tex"] = table_tex(table, sweep)
    _clear(folder, texts, figures)
    for file, text in texts.items():
        _write(folder / file, text)
    for figure in figures:
        write_figure(figure, folder / "figures")
    context = {
        "name": ledger.name,
        "facts": _facts(trials, tables, sweep),
        "oracle": is_oracle(sweep),
        "rules": sorted({selection_rule(sweep, one.source_language) for one in tables}),
        "best": _best(best, trials, stages, tables, knobs),
        "figures": [{"figure": one, "uri": _data_uri(one)} for one in figures],
        "tables": [_shown_table(one, best, describe_language) for one in tables],
        "knobs": knobs,
        "trials": _shown_trials(trials, stages, knobs),
        "counts": {state: int((trials["state"] == state).sum()) for state in STATES},
        "stages": _shown_stages(stages),
        "sharing": _sharing(stages),
        "runtimes": _distinct(stages["runtime"]),
        "versions": _distinct(stages["versions"]),
        "mode": sweep["objective"]["mode"],
        "metric": sweep["objective"]["metric"],
        "configuration": json.dumps(sweep, indent=1, sort_keys=True, ensure_ascii=False),
    }
    page = folder / "index.html"
    _write(page, _template().render(context))
    return page


def _figures(
    tables: Sequence[LanguageTable],
    knobs: Sequence[str],
    sweep: Mapping[str, Any],
    best: int | None,
    describe: DescribeLanguage | None,
) -> list[Figure]:
    found: list[Figure] = []
    for table in tables:
        rows = [row for row in table.rows if row.configuration == best]
        found += [language_figure(row, table, describe) for row in rows]
        for path in knobs:
            # The size of a block that may be absent shows whether there is one, too.
            inner = [one for one in knobs if one.startswith(f"{path}.")]
            if inner and _says_the_same(path, inner[0], table):
                continue
            figure = knob_figure(path, table, log=_is_log(sweep["space"], path))
            if figure is not None:
                found.append(figure)
    return found


def _says_the_same(block: str, inner: str, table: LanguageTable) -> bool:
    """Whether a block has only two values, and one of them is that it is absent."""
    present = {shown_value(row.knobs[block]) for row in table.rows if row.knobs[block] is not None}
    return len(present) == 1 and all(
        is_absent(row.knobs[inner]) == is_absent(row.knobs[block]) for row in table.rows
    )


def _is_log(space: Mapping[str, Any], path: str) -> bool:
    """Whether the sweep file searches a knob on a logarithmic scale; inside blocks, too."""
    nodes: list[Any] = [space]
    for part in path.split("."):
        nodes = [
            option[part]
            for node in nodes
            for option in (node.get("choice", [node]) if isinstance(node, Mapping) else [])
            if isinstance(option, Mapping) and part in option
        ]
    return any(isinstance(node, Mapping) and node.get("log") is True for node in nodes)


# -- what the page shows ------------------------------------------------------------------


def _facts(
    trials: pd.DataFrame, tables: Sequence[LanguageTable], sweep: Mapping[str, Any]
) -> list[tuple[str, str]]:
    facts = [
        ("trials", str(len(trials))),
        ("configurations", str(trials["configuration"].nunique())),
        ("seeds", str(sweep["search"]["seeds"])),
    ]
    if tables:
        facts += [
            ("task", ", ".join(dict.fromkeys(one.task for one in tables))),
            ("source", ", ".join(dict.fromkeys(one.source_language for one in tables))),
            ("languages", str(len({code for one in tables for code in one.languages}))),
        ]
    return [*facts, ("metric", str(sweep["objective"]["metric"]))]


def _best(
    best: int | None,
    trials: pd.DataFrame,
    stages: pd.DataFrame,
    tables: Sequence[LanguageTable],
    knobs: Sequence[str],
) -> dict[str, Any] | None:
    if best is None:
        return None
    mine = trials[(trials["configuration"] == best) & (trials["state"] == "complete")]
    table, row = next(
        ((one, row) for one in tables for row in one.rows if row.configuration == best),
        (None, None),
    )
    first = mine.iloc[0]
    return {
        "configuration": best,
        "seeds": len(mine),
        "table": table,
        "row": row,
        "knobs": [(path, shown_value(first[path])) for path in knobs],
        "trials": [
            {
                "number": int(number),
                "seed": int(seed),
                "objective": float(objective),
                "stages": _stages_of(int(number), stages),
            }
            for number, seed, objective in mine[["number", "seed", "objective"]].to_numpy()
        ],
    }


def _shown_table(
    table: LanguageTable, best: int | None, describe: DescribeLanguage | None
) -> dict[str, Any]:
    values = [cell.mean for row in table.rows for cell in row.cells.values()]
    low, high = min(values), max(values)

    def shade(value: float) -> float:
        return 0.0 if high == low else 0.42 * (value - low) / (high - low)

    def hint(code: str) -> str:
        if describe is None:
            return code
        told = describe(code)
        return f"{told.name}: {told.family}, {told.script}, {told.resources} resources"

    return {
        "table": table,
        "best": best,
        "file": f"{table.task}-{table.source_language}-languages",
        "languages": [
            (code, language_label(code, describe), hint(code)) for code in table.languages
        ],
        "knob_values": {
            row.configuration: [
                (path, _sortable(row.knobs[path]), shown_value(row.knobs[path]))
                for path in table.knobs
            ]
            for row in table.rows
        },
        "shade": shade,
    }


_TRIAL_COLUMNS = ("number", "state", "configuration", "seed", "attempts")


def _shown_trials(
    trials: pd.DataFrame, stages: pd.DataFrame, knobs: Sequence[str]
) -> list[dict[str, Any]]:
    retried = {
        int(old): int(number)
        for number, old in trials[["number", "retry_of"]].to_numpy()
        if not is_absent(old)
    }
    return [
        {
            **{str(name): one[name] for name in _TRIAL_COLUMNS},
            "objective": None if is_absent(one["objective"]) else one["objective"],
            "cause": "" if is_absent(one["cause"]) else one["cause"],
            "message": one["message"],
            "retried_as": retried.get(one["number"]),
            "seconds": float(one["seconds"]),
            "knobs": [(_sortable(one[path]), shown_value(one[path])) for path in knobs],
            "stages": _stages_of(int(one["number"]), stages),
        }
        for one in trials.to_dict("records")
    ]


def _stages_of(number: int, stages: pd.DataFrame) -> list[dict[str, Any]]:
    rows = stages[stages["number"] == number].to_dict("records")
    return [
        {**{str(name): value for name, value in row.items()}, "short": short(row["key"])}
        for row in rows
    ]


def _shown_stages(stages: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a stage: the trial that made it and how many used it."""
    shown = []
    for key, part in stages.groupby("key", sort=False):
        made = part[~part["reused"].astype(bool)]
        first = (part if made.empty else made).iloc[0]
        shown.append(
            {
                "key": key,
                "short": short(str(key)),
                "kind": first["kind"],
                "label": first["label"],
                "made_by": None if made.empty else int(first["number"]),
                "examples": int(first["examples"]),
                "seconds": float(first["seconds"]),
                "uses": len(part),
            }
        )
    return shown


def _sharing(stages: pd.DataFrame) -> dict[str, Any]:
    """How much training the sharing of stages has saved."""
    reused = stages["reused"].astype(bool)
    cost = stages[~reused].groupby("key")["examples"].max()
    trained = int(stages["examples"].sum())
    saved = sum(int(cost.get(key, 0)) for key in stages[reused]["key"])
    return {
        "unique": int(stages["key"].nunique()),
        "reused": int(reused.sum()),
        "trained": trained,
        "saved": saved,
        "share": saved / (saved + trained) if saved + trained else 0.0,
    }


def _distinct(column: pd.Series) -> list[str]:
    return sorted(str(value) for value in column.unique() if value)


def _sortable(value: Any) -> str:
    return "" if is_absent(value) else str(value)


# -- writing ------------------------------------------------------------------------------


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xlt_ray.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _data_uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg).decode()


def _csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _clear(folder: Path, texts: Iterable[str], figures: Sequence[Figure]) -> None:
    """Remove tables and figures of an earlier report that this one does not have."""
    keep = {folder / file for file in texts}
    keep |= {
        folder / "figures" / f"{one.name}.{kind}"
        for one in figures
        for kind in ("svg", "png", "csv")
    }
    for old in (*folder.glob("tables/*.*"), *folder.glob("figures/*.*")):
        if old not in keep:
            old.unlink()


def _write(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
