"""The report of a sweep: one self-contained page, with its tables and figures beside it.

``index.html`` needs no network and nothing beside it. The same ledger and store give the same
bytes: every date in it is the ledger's.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xlt_ray.config.sweep import selection_rule
from xlt_ray.errors import DamagedStage, SpecError
from xlt_ray.files import atomic_write
from xlt_ray.home import Home
from xlt_ray.ledger import STANDINGS, Ledger, failure_lines, mixed_facts
from xlt_ray.report import view_model
from xlt_ray.report.additional_tasks import (
    additional_csv,
    additional_frame,
    additional_tables,
    averaged_scores,
)
from xlt_ray.report.effects import Effects, effects_csv, effects_of, importances_csv
from xlt_ray.report.few_shot_tables import few_shot_frame, few_shot_tables
from xlt_ray.report.figures.base import Figure, as_text, write_figure
from xlt_ray.report.figures.overview import timeline
from xlt_ray.report.figures.parameters import language_figure, parameter_figure
from xlt_ray.report.figures.profiles import finished, profile_figure, profiles_frame
from xlt_ray.report.figures.questions import question_figures
from xlt_ray.report.frames import (
    Snapshot,
    costs_frame,
    read_snapshot,
    scores_frame,
    stages_frame,
    trials_frame,
)
from xlt_ray.report.item_uncertainty import configuration_intervals
from xlt_ray.report.labels import is_absent, parameter_names, value_label
from xlt_ray.report.provenance import lost_weights
from xlt_ray.report.replication import trained_stages
from xlt_ray.report.selection import (
    Pick,
    checkpoints,
    counted,
    has_few_shot,
    is_oracle,
    picks,
    table_header,
)
from xlt_ray.report.table_export import (
    effects_tex,
    groups_tex,
    picks_csv,
    picks_tex,
    table_csv,
    table_tex,
)
from xlt_ray.report.tables import (
    Groupings,
    LanguageTable,
    known_groupings,
    language_tables,
    marks,
    seen_grouping,
    without_members,
)
from xlt_ray.store.store import StageStore


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
    lost = _lost_results(snapshot)
    sweep, parameters = snapshot.sweep, snapshot.parameters
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    stages, costs = stages_frame(snapshot), costs_frame(snapshot)

    def all_groupings(languages: Sequence[str]) -> Groupings:
        return {
            **known_groupings(languages),
            **seen_grouping(snapshot, languages, seen),
            **(groupings or {}),
        }

    trained = trained_stages(snapshot.trials)
    tables = language_tables(trials, scores, parameters, sweep, all_groupings, trained)
    chosen = {**(groupings or {}), **({"seen": {"seen": seen}} if seen else {})}
    scored = {code for table in tables for code in table.targets}
    for line in without_members(chosen, scored):
        warn(line)
    additional_scores = additional_frame(snapshot)
    additional = additional_tables(additional_scores, sweep, trained)
    few_shot = few_shot_frame(snapshot)
    best = snapshot.best_configuration
    effects = {table.stem: effects_of(table) for table in tables}
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
    figures, notes = _figures(snapshot, tables, effects, costs, best)
    notes = [*lost, *failure_lines(snapshot.trials, snapshot.name), *notes]
    profiles = profiles_frame(snapshot)
    layers = profile_figure(profiles, best)
    figures += [] if layers is None else [layers]
    means = averaged_scores(additional_scores)
    averaged = {
        table.stem: table
        for table in language_tables(trials, means, parameters, sweep, trained=trained)
    }
    rules = {
        table.stem: picks(table, scores, sweep, averaged.get(table.stem), means) for table in tables
    }

    folder = home.reports(snapshot.name)
    texts = {
        # MLflow runs may be made anew, so their ids are not results.
        "tables/trials.csv": _csv(trials.drop(columns="mlflow_run_id")),
        "tables/scores.csv": _csv(scores),
        "tables/stages.csv": _csv(stages),
        "tables/costs.csv": _csv(costs),
    }
    for table in tables:
        texts |= _table_texts(table, effects[table.stem], rules[table.stem], sweep)
    if intervals["num_items"].notna().any():
        texts["tables/intervals.csv"] = _csv(intervals)
    if additional:
        texts["tables/further.csv"] = _csv(additional_scores)
    texts |= {f"tables/{table.stem}.csv": additional_csv(table) for table in additional}
    if not few_shot.empty:
        texts["tables/few-shot.csv"] = _csv(few_shot)
    if not finished(profiles).empty:
        texts["tables/diagnostics.csv"] = _csv(finished(profiles))
    with _writing_to(folder):
        _clear(folder, texts, figures)
        for file, text in texts.items():
            atomic_write(folder / file, text)
        for figure in figures:
            write_figure(figure, folder / "figures")
    uses = view_model.stages_by_trial(stages)
    linked = {table.stem: table for table in tables}
    linked |= {_averaged(stem): table for stem, table in averaged.items()}
    context = {
        "name": snapshot.name,
        "facts": view_model.fact_list(trials, tables, sweep, float(costs["gpu_hours"].sum())),
        "oracle": is_oracle(sweep),
        "marks": marks,
        "few_shot": few_shot_tables(few_shot, snapshot, sweep),
        "has_few_shot": has_few_shot(sweep),
        "rules": sorted(
            {selection_rule(sweep["objective"], table.source_language) for table in tables}
        ),
        "best": view_model.best_view(best, trials, uses, tables, parameters, intervals),
        "figures": [{"figure": figure, "uri": _data_uri(figure)} for figure in figures],
        "notes": notes,
        "tables": [
            {
                **view_model.language_table(table, effects[table.stem], best),
                "header": " ".join(
                    filter(None, [table_header(table, sweep), table.spread_note, table.facts_note])
                ),
                "picks": rules[table.stem],
                "averaged": _averaged(table.stem),
                "checkpoints": checkpoints(table, scores),
            }
            for table in tables
        ],
        "counted": functools.partial(counted, sweep),
        "further": [table for table in additional if table.is_headline],
        "parameters": parameter_names(parameters),
        "trials": view_model.trial_rows(trials, uses, parameters),
        "counts": {state: int((trials["state"] == state).sum()) for state in STANDINGS},
        "stages": view_model.stage_rows(stages),
        "sharing": view_model.sharing_of(
            stages, {key: record.num_examples for key, record in snapshot.records.items()}
        ),
        "mixed_facts": mixed_facts(snapshot.trials),
        "made_with": view_model.made_with(snapshot.fact_sets, snapshot.starts),
        "runtimes": view_model.distinct(stages["runtime"]),
        "versions": view_model.distinct(stages["versions"]),
        "mode": sweep["objective"]["mode"],
        "metric": sweep["objective"]["metric"],
        "configuration": _resolved(sweep),
        "links": _script(view_model.links(linked, trials, uses)),
    }
    page = folder / "index.html"
    text = _template().render(context)
    with _writing_to(folder):
        atomic_write(page, text)
    return page


def _table_texts(
    table: LanguageTable, effects: Effects, rules: Sequence[Pick], sweep: Mapping[str, Any]
) -> dict[str, str]:
    """The files of one table: itself, its groups, effects, importances and selection rules."""
    texts = {
        ".csv": table_csv(table, sweep),
        ".tex": table_tex(table, sweep),
        "-selection.csv": picks_csv(rules, table),
        "-selection.tex": picks_tex(rules, table),
    }
    if table.groups:
        texts["-groups.tex"] = groups_tex(table, sweep)
    if effects.levels:
        texts["-effects.csv"] = effects_csv(effects)
        texts["-effects.tex"] = effects_tex(effects, table, sweep)
    if any(effects.importances.values()):
        texts["-importance.csv"] = importances_csv(effects)
    return {f"tables/{table.stem}{ending}": text for ending, text in texts.items()}


def _lost_results(snapshot: Snapshot) -> list[str]:
    """Which evaluations of complete trials, and which of the best weights, are gone or damaged, and
    how they are made again."""
    problems = [lost] if (lost := lost_weights(snapshot)) else []
    if numbers := snapshot.unscored:
        trials = "trial" if len(numbers) == 1 else "trials"
        problems.append(
            f"the evaluation of {trials} {', '.join(map(str, numbers))} is gone or damaged: its "
            f"scores are missing here; xlt resume {snapshot.name} makes it again"
        )
    return problems


def _figures(
    snapshot: Snapshot,
    tables: Sequence[LanguageTable],
    effects: Mapping[str, Effects],
    costs: pd.DataFrame,
    best: int | None,
) -> tuple[list[Figure], list[str]]:
    """All figures, and the reasons why some are missing."""
    all_figures: list[Figure] = []
    notes: list[str] = []
    parameters = snapshot.parameters
    for table in tables:
        rows = [row for row in table.rows if row.configuration == best and row.trials]
        figures, refused = question_figures(table, effects[table.stem], costs)
        figures = [*(language_figure(row, table) for row in rows), *figures]
        notes += refused
        for path in parameters:
            # The size of a block that may be absent shows whether there is one, too.
            inner = [parameter for parameter in parameters if parameter.startswith(f"{path}.")]
            if inner and _says_the_same(path, inner[0], table):
                continue
            figure = parameter_figure(path, table, log=_is_log(snapshot.sweep["space"], path))
            if figure is not None:
                figures.append(figure)
        note = table.supervision_note
        all_figures += [
            replace(figure, caption=f"{figure.caption} {note}".strip()) for figure in figures
        ]
    when = timeline(snapshot) if tables else None
    return [*all_figures, *([when] if when else [])], notes


def _says_the_same(block: str, inner: str, table: LanguageTable) -> bool:
    """Whether a block has only two values, and one of them is that it is absent."""
    present = {
        value_label(row.parameters[block])
        for row in table.rows
        if row.parameters[block] is not None
    }
    return len(present) == 1 and all(
        is_absent(row.parameters[inner]) == is_absent(row.parameters[block]) for row in table.rows
    )


def _is_log(space: Mapping[str, Any], path: str) -> bool:
    """Whether the sweep file searches a parameter on a logarithmic scale; inside blocks, too."""
    nodes: list[Any] = [space]
    for part in path.split("."):
        nodes = [
            option[part]
            for node in nodes
            for option in (node.get("choice", [node]) if isinstance(node, Mapping) else [])
            if isinstance(option, Mapping) and part in option
        ]
    return any(isinstance(node, Mapping) and node.get("log") is True for node in nodes)


def _averaged(stem: str) -> str:
    """What the page calls a table of averaged weights."""
    return f"{stem}-average"


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


def _script(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _resolved(sweep: Mapping[str, Any]) -> str:
    """The sweep as people read it, without its places: a URL may hold a password."""
    tree = {name: value for name, value in sweep.items() if name != "places"}
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)


def _data_uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg).decode()


def _csv(frame: pd.DataFrame) -> str:
    safe = frame.rename(columns=as_text).map(as_text)
    return str(safe.to_csv(index=False, lineterminator="\n"))


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
    keep |= {
        folder / "figures" / f"{figure.name}.{kind}"
        for figure in figures
        for kind in ("svg", "png", "csv")
    }
    for old in (*folder.glob("tables/*.*"), *folder.glob("figures/*.*")):
        if old not in keep:
            old.unlink()
