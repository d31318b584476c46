"""``Results``: what a sweep left behind, as pandas frames for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import LedgerError
from xlt_ray.home import Home

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas

    from xlt_ray.ledger import Winner
    from xlt_ray.report.figures import Figure
    from xlt_ray.report.frames import Snapshot
    from xlt_ray.report.tables import Cell, LanguageTable

_WHOLE = ("number", "configuration", "repeat", "seed", "attempts", "retry_of", "examples", "facts")
_REAL = ("objective", "seconds")
_SHOWN = 10
"""Configurations that a notebook shows of a sweep, the best ones."""


class Results:
    """The frames of one sweep, read from ledger and stage store; nothing is ever written.

    What was read first is kept, so that all frames tell of the same moment; of a sweep that runs,
    :meth:`refresh` reads what came since.

    Args:
        home: the home's folder; None for ``XLT_HOME``, or ``./xlt-home`` without it.
        name: the sweep's.

    Raises:
        LedgerError: the home has no sweep of this name; the message says which there are.
    """

    def __init__(self, home: str | Path | Home | None, name: str) -> None:
        if home is None:
            home = Home.from_environment()
        home = home if isinstance(home, Home) else Home(Path(home).absolute())
        self.home = home.holding(name)
        self.name = name
        self._snapshot = self._read()

    def __repr__(self) -> str:
        return f"Results({str(self.home.root)!r}, {self.name!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: how many trials are in which state, and the best scores."""
        from xlt_ray.config.labels import parameter_names

        states = list(self._snapshot.standings.values())
        counts = (f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        told = "; ".join(
            filter(None, (", ".join(counts) or "no trials yet", self._snapshot.origin))
        )
        head = f"<p><b>{escape(self.name)}</b>: {escape(told)}</p>"
        names = parameter_names(self._snapshot.parameters)
        return head + "".join(
            _scores_by_language(table)
            .head(_SHOWN)
            # Values as the report writes them: a block by its name.
            .assign(**{path: partial(_labels, path=path) for path in names})
            .rename(columns=names)
            .to_html(float_format="{:.3f}".format, na_rep="–", max_cols=24)
            for table in self._tables
        )

    def refresh(self) -> Results:
        """Read ledger and store again; returns itself."""
        self._snapshot = self._read()
        for name, member in vars(Results).items():
            if isinstance(member, cached_property):
                self.__dict__.pop(name, None)
        return self

    @property
    def sweep(self) -> Mapping[str, Any]:
        """The resolved sweep: objective, search, space and all the rest."""
        return self._snapshot.sweep

    @property
    def snapshot(self) -> Snapshot:
        """What was read: trials and the records of their stages."""
        return self._snapshot

    @property
    def best(self) -> Winner | None:
        """The selected configuration (``configuration``, mean ``objective``, ``num_seeds``) with
        its best ``trial``; None if no complete one keeps all constraints."""
        return self._snapshot.best

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial: state, seed, objective, cost, MLflow run, and a column for each
        parameter."""
        from xlt_ray.report.frames import trials_frame

        frame = trials_frame(self._snapshot)
        for path in self._snapshot.parameters:
            frame[path] = _numbers(frame[path])
        kinds = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_REAL, "float64")
        return frame.astype(kinds | dict.fromkeys(("started", "ended"), "datetime64[us, UTC]"))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a trial, task, language, metric, split and stage; of trainings, each step."""
        from xlt_ray.report.frames import scores_frame

        return scores_frame(self._snapshot)

    @cached_property
    def further(self) -> pd.DataFrame:
        """One row a trial, task, language and metric of pairs of languages and further tasks."""
        from xlt_ray.report.additional_tasks import additional_frame

        return additional_frame(self._snapshot)

    @cached_property
    def few_shot(self) -> pd.DataFrame:
        """One row a few-shot trial, split, metric and language, with the score before the shots."""
        from xlt_ray.report.additional_tasks import few_shot_frame

        return few_shot_frame(self._snapshot)

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        """One row a trial, stage, step, diagnostic, language and layer."""
        from xlt_ray.report.figures.parameters import profiles_frame

        return profiles_frame(self._snapshot)

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row a trial and stage: key, whether it was reused, who made it, how and when."""
        from xlt_ray.report.frames import stages_frame

        return stages_frame(self._snapshot)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """One row a trial: examples, seconds and hours, its own and those of its path alone."""
        from xlt_ray.report.frames import costs_frame

        return costs_frame(self._snapshot)

    def intervals(self, *configurations: int) -> pd.DataFrame:
        """One row a configuration, mean or language of test scores of the objective's metric, with
        its interval over seeds and test items; of the selected configuration if none is named.

        The items of these configurations alone are read from the store.

        Raises:
            DamagedStage: a file of items is not what its record says.
        """
        from xlt_ray.report.item_uncertainty import configuration_intervals

        return configuration_intervals(self._snapshot, *self._tables_of(configurations))

    def items(self, *configurations: int) -> pd.DataFrame:
        """One row a trial, language and test item of the objective's metric: what each earned, and
        out of what; of the selected configuration if none is named.

        Raises:
            DamagedStage: a file of items is not what its record says.
        """
        from xlt_ray.report.item_uncertainty import items_frame

        return items_frame(self._snapshot, *self._tables_of(configurations))

    def _tables_of(
        self, configurations: Sequence[int]
    ) -> tuple[Sequence[LanguageTable], Sequence[int]]:
        """All tables, and the configurations that were named, or the selected one."""
        best = self._snapshot.best_configuration
        chosen = configurations if configurations or best is None else (best,)
        return self._tables, chosen

    @cached_property
    def _tables(self) -> Sequence[LanguageTable]:
        from xlt_ray.report.tables import tables_of

        return [table for table in tables_of(self._snapshot) if table.rows]

    def table(self, task: str | None = None) -> pd.DataFrame:
        """One row a configuration, the best first: its parameters, seeds and objective, and its
        mean test scores over languages and in each of them.

        Args:
            task: which target task's, of a sweep with several; the first one's by default.

        Raises:
            LookupError: the sweep has no such task, or no configuration with an ended trial.
        """
        return _scores_by_language(self._table(task))

    def plot_languages(self, configuration: int | None = None) -> Canvas:
        """Test scores of a configuration, by default the selected one, in every language.

        Raises:
            LookupError: it has no test scores.
        """
        from xlt_ray.report.figures.parameters import language_figure

        chosen = self._snapshot.best_configuration if configuration is None else configuration
        for table in self._tables:
            for row in table.rows:
                if row.configuration == chosen and row.trials:
                    return language_figure(row, table).canvas
        whose = "a selected configuration" if chosen is None else f"configuration {chosen}"
        raise LookupError(f"{self.name} does not have test scores of {whose}")

    def plot_heat_map(self, task: str | None = None) -> Canvas:
        """Test scores of the best configurations in every language.

        Raises:
            LookupError: as :meth:`table`, or fewer than two configurations have test scores.
        """
        from xlt_ray.report.figures.overview import heat_map

        return self._drawn(heat_map(self._table(task)), "two configurations with test scores")

    def plot_parameter(self, path: str, task: str | None = None) -> Canvas:
        """Test scores against a parameter, in the source language and as the mean of the others.

        Args:
            path: its dotted path, a column of :attr:`trials`.

        Raises:
            LookupError: as :meth:`table`, or the sweep has fewer than two scored values of it.
        """
        from xlt_ray.report.figures.every import is_log
        from xlt_ray.report.figures.parameters import parameter_figure

        table, parameters = self._table(task), self._snapshot.parameters
        if path not in parameters:
            raise LookupError(f"{self.name} does not search over {path}: {', '.join(parameters)}")
        figure = parameter_figure(path, table, log=is_log(self.sweep["space"], path))
        return self._drawn(figure, f"two scored values of {path}")

    def plot_layers(self) -> Canvas:
        """Diagnostics of the selected configuration over the layers of its encoder.

        Raises:
            LookupError: nothing was measured; ``evaluate.diagnostics`` of the sweep names what is.
        """
        from xlt_ray.report.figures.parameters import profile_figure

        figure = profile_figure(self.diagnostics, self._snapshot.best_configuration)
        return self._drawn(figure, "diagnostics of layers; evaluate.diagnostics names them")

    def _table(self, task: str | None) -> LanguageTable:
        for table in self._tables:
            if task in (None, table.task):
                return table
        known = ", ".join(table.task for table in self._tables)
        raise LookupError(f"{self.name} has no scores" + (f" of {task}: {known}" if known else ""))

    def _drawn(self, figure: Figure | None, needed: str) -> Canvas:
        if figure is None:
            raise LookupError(f"{self.name} does not have {needed}")
        return figure.canvas

    def confirmations(self) -> list[Snapshot]:
        """The sweeps of the home that run configurations of this one again (``xlt confirm``)."""
        snapshots = []
        for name in self.home.sweeps():
            if name.startswith(f"{self.name}-confirm"):
                # One that has just been started holds nothing yet.
                with suppress(LedgerError):
                    snapshots.append(Results(self.home, name).snapshot)
        return snapshots

    def xtreme(self, *others: Results) -> pd.DataFrame:
        """XTREME's scores: one row a system and seed, from this sweep and ``others``."""
        from xlt_ray.report.xtreme import xtreme_frame

        return xtreme_frame([results.snapshot for results in (self, *others)])

    def _read(self) -> Snapshot:
        from xlt_ray.ledger import load_ledger
        from xlt_ray.report.frames import read_snapshot
        from xlt_ray.store.store import StageStore

        ledger = load_ledger(self.home, self.name)
        return read_snapshot(ledger, StageStore(self.home.store_of(ledger.sweep)))


def _numbers(values: pd.Series) -> pd.Series:
    """A column of one type if all its values have one type, whatever is missing."""
    kinds = {type(value) for value in values.dropna()}
    if kinds == {bool}:
        return values.astype("boolean")
    if kinds == {int}:
        return values.astype("Int64")
    return values.astype("float64") if kinds and kinds <= {int, float} else values


def _scores_by_language(table: LanguageTable) -> pd.DataFrame:
    import pandas as pd

    def mean(cell: Cell | None) -> float | None:
        return None if cell is None else cell.mean

    rows = [
        {
            "configuration": row.configuration,
            **row.parameters,
            "num_seeds": row.num_seeds,
            "objective": mean(row.objective),
            "mean": mean(row.mean),
            "mean_without_source": mean(row.mean_without_source),
            **{code: mean(row.cells.get(code)) for code in table.languages},
        }
        for row in table.rows
    ]
    return pd.DataFrame(rows, dtype=object).set_index("configuration").apply(_numbers)


def _labels(frame: pd.DataFrame, path: str) -> pd.Series:
    from xlt_ray.config.labels import value_label

    values = frame[path].astype(object)
    return values.where(values.notna(), None).map(value_label)
