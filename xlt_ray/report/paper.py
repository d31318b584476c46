"""The paper pack of a sweep: what a paper has to say of its experiments, as LaTeX.

The checklist is that of Dodge et al. 2019 (arXiv 1909.03004, appendix B), filled from ledger and
store. What they do not know is said to be missing, for the authors to add.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlt_ray.config.labels import language_label, value_label
from xlt_ray.config.model_presets import find_preset
from xlt_ray.errors import SpecError
from xlt_ray.files import atomic_write
from xlt_ray.report.effects import effects_of
from xlt_ray.report.figures import Figure
from xlt_ray.report.figures.every import figures_of
from xlt_ray.report.figures.parameters import profiles_frame
from xlt_ray.report.frames import Snapshot, as_of, costs_frame, trials_frame
from xlt_ray.report.latex_tables import booktabs, effects_tex, groups_tex, table_tex, tex
from xlt_ray.report.provenance import model_of
from xlt_ray.report.references import Reference, bibtex, references_of
from xlt_ray.report.selection import num_candidates, table_header
from xlt_ray.report.tables import Groupings, LanguageTable, tables_of
from xlt_ray.versions import commit_of, library_versions

MISSING = "MISSING: "
"""Begins what the authors have to add."""
DRAWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Numbers of configurations for which the expected best score is given."""


def write_paper(
    snapshot: Snapshot,
    folder: Path,
    groupings: Callable[[Sequence[str]], Groupings],
    citation: Callable[[str], str],
) -> Path:
    """Write the pack to a new folder; returns the document that compiles.

    Args:
        citation: of a task, as its registry has it; empty if it has none.

    Raises:
        SpecError: the folder holds files, or no trial is complete.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError("holds files already", file=str(folder), remedy="name a new folder")
    tables = tables_of(snapshot, groupings)
    if not tables:
        raise SpecError(
            "has no complete trial to report", file=snapshot.name, remedy="xlt run it first"
        )
    effects = {table.stem: effects_of(table) for table in tables}
    figures, _ = figures_of(
        snapshot, tables, effects, costs_frame(snapshot), profiles_frame(snapshot)
    )
    references = references_of(snapshot, citation)
    texts = {
        "setup.tex": _setup(snapshot, tables, references),
        "checklist.tex": _checklist(snapshot, tables),
        "references.bib": bibtex(references),
    }
    for table in tables:
        texts[f"tables/{table.stem}.tex"] = table_tex(table, snapshot.sweep)
        if table.groups:
            texts[f"tables/{table.stem}-groups.tex"] = groups_tex(table, snapshot.sweep)
        if effects[table.stem].levels:
            texts[f"tables/{table.stem}-effects.tex"] = effects_tex(
                effects[table.stem], table, snapshot.sweep
            )
    texts["paper.tex"] = _document(snapshot, sorted(texts), figures)
    for file, text in texts.items():
        atomic_write(folder / file, text)
    (folder / "figures").mkdir()
    for figure in figures:
        (folder / "figures" / f"{_plain(figure.name)}.pdf").write_bytes(figure.pdf)
    return folder / "paper.tex"


def expected_best(values: Sequence[float], num_draws: int) -> float:
    """Expected highest of ``num_draws`` values drawn from these with replacement: the expected
    validation performance of Dodge et al. 2019, section 3.1.

    >>> expected_best([0.2, 0.4], 1), expected_best([0.2, 0.4], 2)
    (0.3, 0.35)
    """
    ordered, number = sorted(values), len(values)
    shares = [((i + 1) / number) ** num_draws - (i / number) ** num_draws for i in range(number)]
    return round(sum(value * share for value, share in zip(ordered, shares, strict=True)), 12)


# -- setup ------------------------------------------------------------------------------------


def _setup(
    snapshot: Snapshot, tables: Sequence[LanguageTable], references: Sequence[Reference]
) -> str:
    lines = ["\\section{Experimental setup}"]
    for table in tables:
        others = ", ".join(map(language_label, table.targets))
        lines.append(
            _paragraph(
                f"Encoders are trained on {table.task} in {language_label(table.source_language)} "
                f"and evaluated on its test sets in {len(table.languages)} languages"
                + (f": the source language, {others}. " if others else ". ")
                + table_header(table, snapshot.sweep)
            )
        )
    cited: dict[str, list[str]] = {}
    for reference in references:
        if reference.key:
            cited.setdefault(reference.used_for, []).append(reference.key)
    uses = ", ".join(f"{tex(use)} \\cite{{{','.join(keys)}}}" for use, keys in cited.items())
    lines.append(f"We use {uses}.")
    unknown = [reference.used_for for reference in references if not reference.key]
    if unknown:
        lines.append(_paragraph(f"{MISSING}references for {', '.join(unknown)}."))
    lines += [_search_space(snapshot), ""]
    return "\n\n".join(lines)


def _search_space(snapshot: Snapshot) -> str:
    best = _best_values(snapshot)
    rows = [
        [tex(path), tex(bounds), tex(best[path]) if path in best else "--"]
        for path, bounds in search_bounds(snapshot.sweep["space"])
    ]
    search = snapshot.sweep["search"]
    caption = (
        f"Search space of {search['sampler']} search, and the values of configuration "
        f"{snapshot.best_configuration}, which was selected. Everything else is fixed."
    )
    return booktabs(
        caption, "lll", ["hyperparameter", "values", "selected"], rows, label="tab:search-space"
    )


def search_bounds(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every searched parameter of a resolved space with the values that it may have.

    >>> list(search_bounds({"a": {"b": {"int": [1, 9], "log": True}}, "c": {"choice": [1, None]}}))
    [('a.b', '1 to 9, log scale'), ('c', '1, none')]
    """
    if not isinstance(node, Mapping):
        return
    if "choice" in node:
        options = (json.dumps(one) if isinstance(one, dict | list) else one
                   for one in node["choice"])  # fmt: skip
        yield path, ", ".join(map(value_label, options))
        for option in node["choice"]:
            yield from search_bounds(option, path)
    elif "int" in node or "float" in node:
        low, high = node.get("int") or node["float"]
        step = f" in steps of {node['step']}" if node.get("step", 1) != 1 else ""
        scale = ", log scale" if node.get("log") else ""
        yield path, f"{value_label(low)} to {value_label(high)}{step}{scale}"
    else:
        for key, value in node.items():
            yield from search_bounds(value, f"{path}.{key}" if path else key)


def _best_values(snapshot: Snapshot) -> dict[str, str]:
    best = snapshot.best_configuration
    for trial in snapshot.trials:
        if trial.configuration == best:
            return {path: value_label(value) for path, value in trial.assignment.items()}
    return {}


# -- checklist --------------------------------------------------------------------------------


def _checklist(snapshot: Snapshot, tables: Sequence[LanguageTable]) -> str:
    head = (
        "The checklist of Dodge et al. (2019), filled from the ledger of "
        f"{snapshot.name} as of {as_of(snapshot)}."
    )
    items = [*_of_results(snapshot, tables), *_of_search(snapshot, tables)]
    return "\n".join(
        [
            "\\section{Reproducibility}",
            _paragraph(head),
            "\\begin{description}",
            *(f"\\item[{{{tex(item)}}}]\n{_paragraph(answer)}" for item, answer in items),
            "\\end{description}",
            "",
        ]
    )


def _of_results(snapshot: Snapshot, tables: Sequence[LanguageTable]) -> Iterator[tuple[str, str]]:
    """All reported results."""
    runtimes = [record.runtime for record in snapshot.records.values() if record.runtime]
    devices = sorted({str(runtime.get("device", "unknown")) for runtime in runtimes})
    workers = sorted({str(runtime.get("workers", 1)) for runtime in runtimes})
    peaks = [record.usage.get("peak_gpu_gib", 0.0) for record in snapshot.records.values()]
    memory = f"; at most {max(peaks):.1f} GiB of a GPU" if any(peaks) else ""
    yield (
        "computing infrastructure",
        f"{' and '.join(devices)}, {' or '.join(workers)} worker per trial{memory}. "
        f"{MISSING}model of the processor or GPU",
    )
    costs = costs_frame(snapshot)
    alone = costs["seconds_alone"].dropna()
    mean = f"{alone.mean():,.0f} s" if len(alone) else f"{MISSING}stages are gone"
    yield (
        "average runtime of a run",
        f"{mean} of training and evaluation if it shares nothing; all runs together took "
        f"{costs['worker_hours'].sum():,.2f} worker-hours and {costs['gpu_hours'].sum():,.2f} "
        "GPU-hours",
    )
    names = sorted({model_of(snapshot.sweep, t.assignment)[0] for t in snapshot.trials})
    yield "parameters of each model", "; ".join(map(_num_parameters, names))
    for table in tables:
        sizes = ", ".join(f"{code} {table.evidence.sizes[code]}" for code in table.languages
                          if code in table.evidence.sizes)  # fmt: skip
        fixed = snapshot.sweep["space"].get("target", {})
        size = fixed.get("size", "all") if isinstance(fixed, Mapping) else "all"
        trained = f"{size} examples" if isinstance(size, int) else "the size that is searched"
        trained = "all examples" if size == "all" else trained
        yield (
            f"splits of {table.task}",
            f"trained on {trained} in {table.source_language}; test items: {sizes}",
        )
        best = next((row for row in table.rows if row.objective), None)
        if best is not None and best.objective is not None:
            mean_test = best.mean_without_source
            yield (
                f"dev score of each test score, {table.task}",
                f"column dev of the table; selected: dev {100 * best.objective.mean:.1f}, test "
                f"without {table.source_language} "
                + (f"{100 * mean_test.mean:.1f}" if mean_test else "missing"),
            )
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    commit = commit_of()
    yield "code", f"{versions}{f'; commit {commit}' if commit else ''}. {MISSING}link to your code"


def _of_search(snapshot: Snapshot, tables: Sequence[LanguageTable]) -> Iterator[tuple[str, str]]:
    """Hyperparameter search."""
    states = list(snapshot.standings.values())
    search, objective = snapshot.sweep["search"], snapshot.sweep["objective"]
    bounds = list(search_bounds(snapshot.sweep["space"]))
    yield "bounds of the search", f"{len(bounds)} hyperparameters; see the table of the setup"
    best = _best_values(snapshot)
    yield (
        "best values",
        ", ".join(f"{path} {value}" for path, value in best.items()) or f"{MISSING}none selected",
    )
    complete = states.count("complete")
    yield (
        "number of runs",
        f"{len(states)} trials ({complete} complete) of "
        f"{len({trial.configuration for trial in snapshot.trials})} configurations",
    )
    yield (
        "choice of values",
        f"{search['sampler']} sampler"
        + (f", early stopping by {stop['method']}" if (stop := _early_stop(snapshot)) else ""),
    )
    for table in tables:
        yield (
            f"selection, {table.task}",
            f"{table_header(table, snapshot.sweep)} {num_candidates(trials_frame(snapshot))} "
            "configurations took part",
        )
        values = [row.objective.mean for row in table.rows if row.objective]
        signed = [table.sign * value for value in values]
        draws = [number for number in DRAWS if number <= len(values)]
        expected = ", ".join(
            f"{number}: {100 * table.sign * expected_best(signed, number):.1f}" for number in draws
        )
        yield (
            f"expected best dev {objective['metric']} by number of configurations",
            expected or f"{MISSING}no scores",
        )


def _early_stop(snapshot: Snapshot) -> Mapping[str, Any] | None:
    block = snapshot.sweep["early_stop"]
    return {"method": "successive halving", **block} if isinstance(block, Mapping) else None


def _num_parameters(name: str) -> str:
    preset = find_preset(name)
    if preset is None:
        return f"{name}: {MISSING}not in the table of models"
    return f"{name}: {preset.num_parameters / 1e6:,.1f} million"


# -- document ---------------------------------------------------------------------------------


def _document(snapshot: Snapshot, files: Sequence[str], figures: Sequence[Figure]) -> str:
    tables = [file for file in files if file.startswith("tables/")]
    lines = [
        "\\documentclass{article}",
        "\\usepackage[T1]{fontenc}",
        "\\usepackage[utf8]{inputenc}",
        "\\usepackage{textcomp,booktabs,longtable,graphicx,url}",
        "\\usepackage[margin=2.5cm]{geometry}",
        f"\\title{{Experiments of {tex(snapshot.name)}}}",
        "\\begin{document}",
        "\\maketitle",
        "\\input{setup.tex}",
        "\\section{Results}",
        *(f"\\input{{{file}}}" for file in tables),
        *(line for figure in figures for line in _figure(figure)),
        "\\input{checklist.tex}",
        "\\bibliographystyle{plain}",
        "\\bibliography{references}",
        "\\end{document}",
        "",
    ]
    return "\n".join(lines)


def _figure(figure: Figure) -> Iterator[str]:
    name = _plain(figure.name)
    yield "\\begin{figure}[htbp]\\centering"
    yield f"\\includegraphics[width=0.8\\linewidth]{{figures/{name}.pdf}}"
    yield f"\\caption{{{tex(figure.title)}: {tex(figure.caption)}}}\\label{{fig:{name}}}"
    yield "\\end{figure}"


def _plain(name: str) -> str:
    """A name that LaTeX reads: it takes a dot within a file name for the start of the ending."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name)


def _paragraph(text: str) -> str:
    return "\n".join(textwrap.wrap(tex(text), 98, break_long_words=False, break_on_hyphens=False))
