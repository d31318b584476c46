"""The report of a sweep: one self-contained page, with its tables and figures beside it.

``index.html`` needs no network and nothing beside it. The same ledger and store give the same
bytes: every date in it is the ledger's. Its tables of scores have many cells, so these are small
and made without a template.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from xlt_ray.config.labels import is_absent, language_label, parameter_names, value_label
from xlt_ray.config.languages import language
from xlt_ray.config.seed_race import seeds_text
from xlt_ray.config.sweep import selection_rule
from xlt_ray.errors import DamagedStage, SpecError
from xlt_ray.files import atomic_write
from xlt_ray.home import Home
from xlt_ray.ledger import (
    STANDINGS,
    Ledger,
    changes,
    facts_label,
    failure_lines,
    front_of,
    mixed_facts,
)
from xlt_ray.ledger.merges import merges_of
from xlt_ray.report import additional_tasks, latex_tables, selection
from xlt_ray.report.effects import Effects, effects_csv, effects_of, importances_csv
from xlt_ray.report.figures import Figure, csv_of, write_figure
from xlt_ray.report.figures.every import figures_of
from xlt_ray.report.figures.inline import inlined
from xlt_ray.report.figures.parameters import finished, profiles_frame
from xlt_ray.report.frames import (
    Snapshot,
    as_of,
    costs_frame,
    read_snapshot,
    scores_frame,
    stages_frame,
    trials_frame,
)
from xlt_ray.report.item_uncertainty import configuration_intervals
from xlt_ray.report.merging import merge_rows
from xlt_ray.report.provenance import LOCAL_MLFLOW, lost_weights, mlflow_server
from xlt_ray.report.stats import named, spread_note, student_quantile, summary, trained_stages
from xlt_ray.report.tables import (
    Cell,
    Constant,
    Groupings,
    LanguageTable,
    Row,
    all_groupings,
    cell_of,
    language_tables,
    marks,
    mean_of,
    without_members,
)
from xlt_ray.store.stage import short
from xlt_ray.store.store import StageStore
from xlt_ray.versions import version_of

Uses = Mapping[int, Sequence[Mapping[str, Any]]]
"""Stages of every trial, by its number."""


def write_report(
    home: Home,
    ledger: Ledger,
    store: StageStore,
    groupings: Groupings | None = None,
    seen: Sequence[str] = (),
    warn: Callable[[str], object] = lambda _: None,
) -> Path:
    """Write ``reports/<name>/``: the page, ``tables/*.csv|tex``, ``figures/*.svg|png|csv``.

    Works at any time of a sweep; what is not there yet is said to be missing.

    Args:
        groupings: additional groups of languages that tables give means of.
        seen: languages that count as seen, in place of those that trainings held.
        warn: is called with a line for each group that holds no scored language, and for
            evaluations and best weights that are gone or damaged, with what makes them again.

    Raises:
        SpecError: the home cannot be written to.
    """
    snapshot = read_snapshot(ledger, store)
    sweep, best, parameters = snapshot.sweep, snapshot.best_configuration, snapshot.parameters
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    stages, costs = stages_frame(snapshot), costs_frame(snapshot)

    trained = trained_stages(snapshot.trials)
    tables = language_tables(
        trials, scores, sweep, all_groupings(snapshot, groupings, seen), trained
    )
    chosen = {**(groupings or {}), **({"seen": {"seen": seen}} if seen else {})}
    for line in without_members(chosen, {code for table in tables for code in table.targets}):
        warn(line)
    additional_scores, few_shot = (
        additional_tasks.additional_frame(snapshot),
        additional_tasks.few_shot_frame(snapshot),
    )
    additional = additional_tasks.additional_tables(additional_scores, sweep, trained)
    effects = {table.stem: effects_of(table) for table in tables}
    lost = _lost_results(snapshot)
    try:
        intervals = configuration_intervals(snapshot, tables, [] if best is None else [best])
    except DamagedStage as error:
        intervals = configuration_intervals(snapshot, tables, [])
        lost.append(
            f"{error}: intervals over test items are missing here; "
            f"xlt resume {snapshot.name} --verify makes it again"
        )
    for line in lost:
        warn(line)
    profiles = profiles_frame(snapshot)
    figures, notes = figures_of(snapshot, tables, effects, costs, profiles)
    means = additional_tasks.averaged_scores(additional_scores)
    averaged = {
        table.stem: table for table in language_tables(trials, means, sweep, trained=trained)
    }
    rules = {
        table.stem: selection.picks(table, scores, sweep, averaged.get(table.stem), means)
        for table in tables
    }
    frames = {
        # MLflow runs may be made anew, so their ids are not results.
        "trials": trials.drop(columns="mlflow_run_id"),
        "scores": scores,
        "stages": stages,
        "costs": costs,
        "few-shot": few_shot,
        "diagnostics": finished(profiles),
    }
    if intervals["num_items"].notna().any():
        frames["intervals"] = intervals
    if additional:
        frames["further"] = additional_scores
    always = ("trials", "scores", "stages", "costs")
    texts = {
        f"tables/{name}.csv": csv_of(frame)
        for name, frame in frames.items()
        if name in always or not frame.empty
    }
    texts |= {
        f"tables/{table.stem}.csv": additional_tasks.additional_csv(table) for table in additional
    }
    for table in tables:
        texts |= _table_texts(table, effects[table.stem], rules[table.stem], sweep)
    uses = stages_by_trial(stages)
    linked = {table.stem: table for table in tables}
    linked |= {_averaged(stem): table for stem, table in averaged.items()}
    glyphs, drawings = inlined(figures)
    server = mlflow_server(sweep)
    context = {
        "name": snapshot.name,
        "version": version_of("xlt-ray"),
        "as_of": as_of(snapshot),
        "headings": headings,
        "mlflow": server or LOCAL_MLFLOW,
        "is_own_mlflow": not server,
        "facts": fact_list(trials, tables, sweep, float(costs["gpu_hours"].sum())),
        "oracle": selection.is_oracle(sweep),
        "marks": marks,
        "few_shot": additional_tasks.few_shot_tables(few_shot, snapshot, sweep),
        "merges": merge_rows(snapshot, merges_of(home, snapshot.name)),
        "has_few_shot": selection.has_few_shot(sweep),
        "rules": sorted({selection_rule(sweep, table.source_language) for table in tables}),
        "best": best_view(best, trials, uses, tables, parameters, intervals),
        "glyphs": glyphs,
        "figures": [
            {"figure": figure, "svg": svg} for figure, svg in zip(figures, drawings, strict=True)
        ],
        "notes": [
            *filter(None, [snapshot.origin]),
            *lost,
            *failure_lines(snapshot.trials, snapshot.name),
            *(f"by hand: {request}" for request in snapshot.by_hand),
            *notes,
        ],
        "tables": [
            {
                **language_table(table, effects[table.stem], best),
                "header": " ".join(
                    filter(
                        None,
                        [selection.table_header(table, sweep), table.spread_note, table.facts_note],
                    )
                ),
                "picks": rules[table.stem],
                "averaged": _averaged(table.stem),
                "checkpoints": selection.checkpoints(table, scores),
            }
            for table in tables
        ],
        "counted": functools.partial(selection.counted, sweep),
        "further": [table for table in additional if table.is_headline],
        "parameters": parameter_names(parameters),
        "trials": trial_rows(trials, uses, parameters),
        "counts": {state: int((trials["state"] == state).sum()) for state in STANDINGS},
        "stages": stage_rows(stages),
        "sharing": sharing_of(
            stages, {key: record.num_examples for key, record in snapshot.records.items()}
        ),
        "mixed_facts": mixed_facts(snapshot.trials),
        "starts": snapshot.starts,
        "fact_sets": snapshot.fact_sets,
        "changes": changes,
        "runtimes": sorted(filter(None, stages["runtime"].unique())),
        "versions": sorted(filter(None, stages["versions"].unique())),
        "front": front_of(snapshot.trials, sweep),
        "mode": sweep["objective"]["mode"],
        "metric": sweep["objective"]["metric"],
        "configuration": _resolved(sweep),
        "links": _script(links(linked, trials, uses)),
    }
    folder = home.reports(snapshot.name)
    texts["index.html"] = template("page.html").render(context)
    with _writing_to(folder):
        _clear(folder, texts, figures)
        for file, text in texts.items():
            atomic_write(folder / file, text)
        for figure in figures:
            write_figure(figure, folder / "figures")
    return folder / "index.html"


def _table_texts(
    table: LanguageTable,
    effects: Effects,
    rules: Sequence[selection.Pick],
    sweep: Mapping[str, Any],
) -> dict[str, str]:
    """The files of one table: itself, its groups, effects, importances and selection rules."""
    texts = {
        ".csv": latex_tables.table_csv(table, sweep),
        ".tex": latex_tables.table_tex(table, sweep),
        "-selection.csv": latex_tables.picks_csv(rules, table),
        "-selection.tex": latex_tables.picks_tex(rules, table),
    }
    if table.groups:
        texts["-groups.tex"] = latex_tables.groups_tex(table, sweep)
    if effects.levels:
        texts["-effects.csv"] = effects_csv(effects)
        texts["-effects.tex"] = latex_tables.effects_tex(effects, table, sweep)
    if any(effects.importances.values()):
        texts["-importance.csv"] = importances_csv(effects)
    return {f"tables/{table.stem}{ending}": text for ending, text in texts.items()}


def _lost_results(snapshot: Snapshot) -> list[str]:
    """Which evaluations of complete trials, and which of the best weights, are gone or damaged, and
    how they are made again."""
    if snapshot.origin:
        # A capsule has what its maker gave it, and nothing of it is made again here.
        return []
    problems = [lost] if (lost := lost_weights(snapshot)) else []
    if numbers := snapshot.unscored:
        trials = "trial" if len(numbers) == 1 else "trials"
        problems.append(
            f"the evaluation of {trials} {', '.join(map(str, numbers))} is gone or damaged: its "
            f"scores are missing here; xlt resume {snapshot.name} makes it again"
        )
    return problems


def _averaged(stem: str) -> str:
    """What the page calls a table of averaged weights."""
    return f"{stem}-average"


# -- what the template shows --------------------------------------------------------------

MISSING = '<td data-v><span class="soft" title="missing">–</span></td>'
FIRST_CELLS = 3_000
"""Cells of a table of scores that are in the page from the start; a button shows the others."""


def score_cell(
    cell: Cell | None,
    num_seeds: int,
    *,
    shade: float | None = None,
    warned: bool = False,
    constant: Constant | None = None,
) -> str:
    """HTML of one score: percent, deviation over seeds, and its number of seeds where it differs.

    What it opens follows from its row and column, so that none of it stands in the cell.

    Args:
        num_seeds: of its row.
        shade: strength of its background, 0 to 1.
        warned: whether a gap is smaller by the source language alone.
        constant: what is known of a network that says next to one thing to everything.
    """
    if cell is None:
        return MISSING
    style = f" style=--s:{shade:.2f}" if shade else ""
    small = "" if cell.deviation is None else f"±{100 * cell.deviation:.1f}"
    if cell.num_seeds != num_seeds:
        small += f" n={cell.num_seeds}"
    warning = (
        '<span class="warn" title="smaller only because the source language is worse">⚠ </span>'
        if warned
        else ""
    )
    if constant is not None:
        warning += f'<span class="warn" title="{constant}">≡ </span>'
    under = f"<small>{small}</small>" if small else ""
    return f"<td data-v={cell.mean:.6g}{style}>{warning}<a>{100 * cell.mean:.1f}</a>{under}</td>"


def language_table(table: LanguageTable, effects: Effects, best: int | None) -> dict[str, Any]:
    values = [cell.mean for row in table.rows for cell in row.cells.values()]
    low, span = min(values), max(values) - min(values)

    def shade(cell: Cell | None) -> float | None:
        return 0.42 * (cell.mean - low) / span if cell and span else None

    def plain(row: Row, cells: Iterable[Cell | None]) -> str:
        return "".join(score_cell(cell, row.num_seeds) for cell in cells)

    def cells(row: Row) -> str:
        parts = [plain(row, (row.objective, row.mean, row.mean_without_source))]
        parts.append(score_cell(row.gap, row.num_seeds, warned=table.is_gap_of_source(row)))
        constants = row.near_constant
        for code in table.languages:
            cell, constant = row.cells.get(code), constants.get(code)
            parts.append(score_cell(cell, row.num_seeds, shade=shade(cell), constant=constant))
        return "".join(parts)

    def group_cells(row: Row) -> str:
        of_groups = (row.groups.get(group.title) for group in table.groups)
        return plain(row, (row.mean_without_source, *of_groups))

    def pick_cells(row: Row) -> str:
        return plain(row, (row.cells.get(table.source_language), row.mean_without_source, row.gap))

    def hint(code: str) -> str:
        known = language(code)
        return f"{known.name}: {known.family}, {known.script}, {known.resources} resources"

    reference = table.reference
    return {
        "table": table,
        "best": best,
        "groups": [(group.title, ", ".join(group.languages)) for group in table.groups],
        "reference": None if reference is None else reference.configuration,
        "languages": [(code, language_label(code), hint(code)) for code in table.languages],
        "parameter_values": {
            row.configuration: _values(row.parameters, table.parameters) for row in table.rows
        },
        "cells": cells,
        "group_cells": group_cells,
        "pick_cells": pick_cells,
        "first": max(20, FIRST_CELLS // (len(table.languages) + len(table.parameters))),
        "effects": effects,
        "importances": [
            (path, [effects.importances[name].get(path) for name in effects.series])
            for path in effects.parameters
            if any(path in importance for importance in effects.importances.values())
        ],
    }


def _values(assignment: Mapping[Any, Any], parameters: Sequence[str]) -> list[tuple[str, str]]:
    """Every parameter's value to sort by, and as it is shown."""
    values = [assignment[path] for path in parameters]
    return [("" if is_absent(value) else str(value), value_label(value)) for value in values]


def fact_list(
    trials: pd.DataFrame,
    tables: Sequence[LanguageTable],
    sweep: Mapping[str, Any],
    gpu_hours: float = 0.0,
) -> list[tuple[str, str]]:
    facts = [
        ("trials", str(len(trials))),
        ("configurations", str(trials["configuration"].nunique())),
        ("seeds", seeds_text(sweep["search"]["seeds"])),
    ]
    if tables:
        facts += [
            ("task", ", ".join(dict.fromkeys(table.task for table in tables))),
            ("source", ", ".join(dict.fromkeys(table.source_language for table in tables))),
            ("languages", str(len({code for table in tables for code in table.languages}))),
        ]
    facts.append(("metric", str(sweep["objective"]["metric"])))
    return [*facts, *([("GPU-hours", f"{gpu_hours:.3g}")] if gpu_hours else [])]


def best_view(
    best: int | None,
    trials: pd.DataFrame,
    uses: Uses,
    tables: Sequence[LanguageTable],
    parameters: Sequence[str],
    intervals: pd.DataFrame,
) -> dict[str, Any] | None:
    """What the page says of the best configuration; ``intervals`` are those over seeds and items
    (:func:`xlt_ray.report.item_uncertainty.configuration_intervals`)."""
    if best is None:
        return None
    of_best = trials[(trials["configuration"] == best) & (trials["state"] == "complete")]
    complete = of_best.to_dict("records")
    table, row = next(
        ((table, row) for table in tables for row in table.rows if row.configuration == best),
        (None, None),
    )
    first = complete[0]
    labels = {stage["kind"]: stage["label"] for stage in uses.get(first["number"], ())}
    return {
        "configuration": best,
        "seeds": len(complete),
        "facts": facts_label(of_best["facts"]),
        "objective": cell_of(of_best["objective"]),
        "shots": labels.get("few_shot", ""),
        "table": table,
        "row": row,
        "intervals": _intervals(row, table) if row and table else {},
        "over_items": _over_items(table, intervals) if table else {},
        "spread_note": spread_note([[trial.trained for trial in row.trials]]) if row else "",
        "num_candidates": selection.num_candidates(trials),
        "parameters": [(path, value_label(first[path])) for path in parameters],
        "trials": [
            {**trial, "run": trial["mlflow_run_id"] or "", "stages": uses.get(trial["number"], ())}
            for trial in complete
        ],
    }


def _intervals(row: Row, table: LanguageTable) -> dict[str, str]:
    """Student's 95 % intervals over seeds, in percent, of the headline numbers."""
    by_name = {}
    for name, languages in (("source", (table.source_language,)), ("others", table.targets)):
        if mean_of(row.trials, languages) is None:
            continue
        values = [fmean(trial.scores[code] for code in languages) for trial in row.trials]
        interval = summary(values).interval
        if interval is not None:
            by_name[name] = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return by_name


def _over_items(table: LanguageTable, intervals: pd.DataFrame) -> dict[str, str]:
    """The same over seeds and test items, or over the items of one seed."""
    of_table = intervals[(intervals["task"] == table.task) & (intervals["interval"] != "")]
    of_table = of_table[of_table["source_language"] == table.source_language]
    names = {table.source_language: "source", "mean_without_source": "others"}
    return {
        names[str(line["languages"])]: (
            f"{100 * line['low']:.1f} to {100 * line['high']:.1f} over "
            f"{'seeds and ' if line['interval'] == 'two_level' else ''}{line['num_items']:,} items"
        )
        for line in of_table.to_dict("records")
        if line["languages"] in names
    }


def trial_rows(trials: pd.DataFrame, uses: Uses, parameters: Sequence[str]) -> list[dict[str, Any]]:
    records = trials.to_dict("records")
    retried = {trial["retry_of"]: trial["number"] for trial in records}
    firsts = set(trials.drop_duplicates("configuration")["number"])
    return [
        {
            **{str(name): value for name, value in trial.items()},
            "is_first": trial["number"] in firsts,
            "retried_as": retried.get(trial["number"]),
            "run": trial["mlflow_run_id"] or "",
            "seconds": float(trial["seconds"]),
            "parameters": _values(trial, parameters),
            "stages": uses.get(trial["number"], ()),
        }
        for trial in records
    ]


def stages_by_trial(stages: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """The stages of every trial in the order of its path, with their short keys."""
    by_trial: dict[int, list[dict[str, Any]]] = {}
    for row in stages.to_dict("records"):
        stage = {str(name): value for name, value in row.items()} | {"short": short(row["key"])}
        by_trial.setdefault(int(row["number"]), []).append(stage)
    return by_trial


def stage_rows(stages: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a stage: the trial that made it and how many used it."""
    made = stages[~stages["reused"].astype(bool)].drop_duplicates("key")
    makers = {stage["key"]: stage for stage in made.to_dict("records")}
    unmade = {"number": None, "examples": 0, "seconds": 0.0}
    uses = stages["key"].value_counts()
    return [
        {
            **{name: stage[name] for name in ("key", "kind", "label", "coverage")},
            "short": short(stage["key"]),
            "made_by": makers.get(stage["key"], unmade)["number"],
            "examples": makers.get(stage["key"], unmade)["examples"],
            "seconds": makers.get(stage["key"], unmade)["seconds"],
            "uses": int(uses[stage["key"]]),
        }
        for stage in stages.drop_duplicates("key").to_dict("records")
    ]


def sharing_of(stages: pd.DataFrame, costs: Mapping[str, int]) -> dict[str, Any]:
    """How much training the sharing of stages has saved, those of other sweeps included.

    Args:
        costs: key of a stage -> examples that making it takes; one that is not there counts for
            nothing.
    """
    trained = int(stages["examples"].sum())
    reused = stages["key"][stages["reused"].astype(bool)]
    saved = sum(costs.get(str(key), 0) for key in reused)
    return {
        "unique": int(stages["key"].nunique()),
        "uses": len(stages),
        "trained": trained,
        "saved": saved,
        "share": saved / (saved + trained) if saved + trained else 0.0,
    }


def links(tables: Mapping[str, LanguageTable], trials: pd.DataFrame, uses: Uses) -> dict[str, Any]:
    """Which trials every number of the tables is made of, and what made those trials.

    ``scores``: table -> configuration -> trials, each its number and its scores in the order of
    the table's languages (null where one is missing); ``groups``: table -> languages of every
    mean; ``given``: table -> configuration -> the trained stages that its seeds share, where they
    share any; ``trials``: number -> seed, objective, MLflow run and stages; ``quantiles``: number
    of seeds -> Student's quantile, for intervals of means.

    Args:
        tables: by what the page calls them.
    """
    rows = [row for table in tables.values() for row in table.rows]
    scored = {trial.number for row in rows for trial in row.trials}
    most = max((row.num_seeds for row in rows), default=0)
    return {
        "quantiles": {str(number): student_quantile(number) for number in range(2, most + 1)},
        "scores": {
            stem: {
                str(row.configuration): [
                    [trial.number, *(trial.scores.get(code) for code in table.languages)]
                    for trial in row.trials
                ]
                for row in table.rows
            }
            for stem, table in tables.items()
        },
        "given": {
            stem: {str(row.configuration): named(row.shared) for row in table.rows if row.shared}
            for stem, table in tables.items()
        },
        "groups": {
            stem: {
                "all": table.languages,
                "without": table.targets,
                **{group.title: group.languages for group in table.groups},
            }
            for stem, table in tables.items()
        },
        "trials": {
            str(trial["number"]): {
                "seed": trial["seed"],
                "dev": trial["objective"],
                "run": trial["mlflow_run_id"] or "",
                "stages": [
                    [use["kind"], use["key"], use["short"], bool(use["reused"])]
                    for use in uses.get(trial["number"], ())
                ],
            }
            for trial in trials.to_dict("records")
            if trial["number"] in scored
        },
    }


def headings(page: str) -> list[tuple[str, str]]:
    """Anchor and HTML of every main heading."""
    return re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', page)


# -- writing ------------------------------------------------------------------------------


def template(name: str) -> Any:
    """A template of this folder."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xlt_ray.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _script(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _resolved(sweep: Mapping[str, Any]) -> str:
    """The sweep as people read it, without its places: a URL may hold a password."""
    tree = {name: value for name, value in sweep.items() if name != "places"}
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Report a folder without write permission, or a full disk, as a :class:`SpecError`."""
    try:
        yield
    except OSError as error:
        raise SpecError(f"cannot be written ({error.strerror})", file=str(folder)) from None


def _clear(folder: Path, texts: Iterable[str], figures: Sequence[Figure]) -> None:
    """Remove tables and figures of an earlier report that this one does not have."""
    keep = {folder / file for file in texts}
    kinds = ("svg", "png", "csv")
    keep |= {folder / f"figures/{figure.name}.{kind}" for figure in figures for kind in kinds}
    for old in (*folder.glob("tables/*.*"), *folder.glob("figures/*.*")):
        if old not in keep:
            old.unlink()
