"""``Results``: what a sweep left behind, as pandas frames for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import LedgerError
from xlt_ray.home import Home

if TYPE_CHECKING:
    import pandas as pd

    from xlt_ray.report.frames import Snapshot
    from xlt_ray.report.tables import LanguageTable

_WHOLE = ("number", "configuration", "repeat", "seed", "attempts", "retry_of", "examples", "facts")
_REAL = ("objective", "seconds")


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

    def refresh(self) -> Results:
        """Read ledger and store again; returns itself."""
        self._snapshot = self._read()
        for frame in ("trials", "scores", "further", "few_shot", "diagnostics", "stages", "costs"):
            self.__dict__.pop(frame, None)
        return self

    @property
    def sweep(self) -> Mapping[str, Any]:
        """The resolved sweep: objective, search, space and all the rest."""
        return self._snapshot.sweep

    @property
    def snapshot(self) -> Snapshot:
        """What was read: trials and the records of their stages."""
        return self._snapshot

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial: state, seed, objective, cost, MLflow run, and a column for each
        parameter."""
        from xlt_ray.report.frames import trials_frame

        frame = trials_frame(self._snapshot)
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
        from xlt_ray.report.tables import tables_of

        best = self._snapshot.best_configuration
        chosen = configurations if configurations or best is None else (best,)
        return tables_of(self._snapshot), chosen

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
