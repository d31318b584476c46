"""The home: every path and URL under ``XLT_HOME`` is a property here."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlt_ray.errors import SpecError
from xlt_ray.files import atomic_create, damaged_copies, make_folder

DEFAULT = "xlt-home"
IMPORTED = "imported"
FOLDERS = ("ledger", "stages", "progress", "leases", "cache", "mlflow", "tune")
"""Folders that a run writes to."""


@dataclass(frozen=True)
class Home:
    """A folder that keeps everything a sweep stores; on a cluster all nodes share it."""

    root: Path

    @classmethod
    def from_environment(cls, *, may_be_bad: bool = False) -> Home:
        """The home that ``XLT_HOME`` names; the folder may not exist yet.

        Raises:
            SpecError: it is a URL, or (unless it ``may_be_bad``) a path that is not and cannot
                become a folder: a file, a path below a file, a broken link.
        """
        given = os.environ.get("XLT_HOME") or DEFAULT
        if "://" in given:
            raise SpecError(
                "the home is a folder, not a URL",
                key=f"XLT_HOME={given}",
                remedy="set XLT_HOME to a folder; places.store can put the stages into a bucket",
            )
        home = cls(Path(given).absolute())
        if not may_be_bad:
            home._refuse_no_folder()
        return home

    def _refuse_no_folder(self) -> None:
        try:
            is_folder = stat.S_ISDIR(self.root.stat().st_mode)
            problem = "" if is_folder else "is not a folder"
        except FileNotFoundError:
            problem = "is a broken link" if self.root.is_symlink() else ""
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if problem:
            raise SpecError(problem, key=f"XLT_HOME={self.root}", remedy="set XLT_HOME to a folder")

    def refuse_unwritable(self) -> None:
        """Make the folder if it is missing; raise SpecError if it is not writable."""
        try:
            make_folder(self.root)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"x" * 2**16)
            for part in (self.root / name for name in FOLDERS):
                if part.exists() and not part.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(part))
        except OSError as error:
            raise SpecError(
                f"is not writable ({error.strerror}: {error.filename or 'a file'})",
                key=f"XLT_HOME={self.root}",
                remedy="set XLT_HOME to a folder with room; on a cluster, one that all nodes share",
            ) from error

    @property
    def ledgers(self) -> Path:
        return self.root / "ledger"

    def ledger_journal(self, name: str) -> Path:
        return self.ledgers / f"{name}.journal"

    def ledger_url(self, name: str) -> Path:
        """A file that names the storage URL of a ledger which lies outside the home."""
        return self.ledgers / f"{name}.url"

    @property
    def stages(self) -> str:
        return str(self.root)

    def store_of(self, sweep: Mapping[str, Any]) -> str:
        """Where the stages of a resolved sweep are: its ``places.store``, or this home."""
        return sweep["places"]["store"] or self.stages

    @property
    def cache(self) -> Path:
        """Tokenised data; may be deleted at any time."""
        return self.root / "cache"

    @property
    def batch_limits(self) -> Path:
        """How many sequences fit into one pass, where more did not; may be deleted."""
        return self.root / "fits.json"

    def hangs(self, name: str) -> Path:
        """Where a sweep's processes leave a traceback when they hang."""
        return self.root / "hangs" / name

    def requests(self, name: str) -> Path:
        """What people ask of a sweep, until its driver has read it."""
        return self.root / "requests" / name

    def merges(self, name: str) -> Path:
        """A file for each merge of a sweep's trials."""
        return self.root / "merges" / name

    @property
    def tune(self) -> Path:
        """Ray Tune's own files; nothing is ever read from them."""
        return self.root / "tune"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.tracking_file}"

    @property
    def tracking_file(self) -> Path:
        """MLflow's database."""
        return self.root / "mlflow" / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.root / "mlflow" / "artifacts"

    @property
    def identity(self) -> str:
        """32 hex digits that mark what this home writes elsewhere; made at first use."""
        file = self.root / "identity"
        with contextlib.suppress(FileNotFoundError):
            return file.read_text(encoding="ascii").strip()
        # If another process was faster, its identity counts.
        atomic_create(file, f"{uuid.uuid4().hex}\n")
        return file.read_text(encoding="ascii").strip()

    def driver_lease(self, name: str) -> str:
        """Path below the root of the lease of the driver that runs a sweep."""
        return f"leases/sweep-{name}.json"

    def reports(self, name: str) -> Path:
        return self.root / "reports" / name

    def files_of(self, name: str) -> list[Path]:
        """Files of a sweep besides its ledger, its stages and its MLflow runs."""
        paths = [
            *damaged_copies(self.ledger_journal(name)),
            self.ledgers / f"{name}.lock",
            self.hangs(name),
            self.requests(name),
            self.merges(name),
            self.reports(name),
            self.tune / name,
        ]
        return [path for path in paths if path.exists()]

    def imported(self, name: str) -> Home:
        """The home of a sweep that ``xlt results add`` has read; nothing is ever trained there."""
        return Home(self.root / IMPORTED / name)

    def imported_sweeps(self) -> list[str]:
        """Names of the sweeps that ``xlt results add`` has read, sorted."""
        folders = (self.root / IMPORTED).glob("[!.]*")
        return sorted(folder.name for folder in folders if folder.name in Home(folder).sweeps())

    def holding(self, name: str) -> Home:
        """Where a sweep is read from: the home of an imported one, else this home."""
        is_imported = name not in self.sweeps() and name in self.imported_sweeps()
        return self.imported(name) if is_imported else self

    def sweeps(self) -> list[str]:
        """Names of the sweeps that have a ledger here, sorted."""
        if not self.ledgers.is_dir():
            return []
        return sorted(
            {path.stem for pattern in ("*.journal", "*.url") for path in self.ledgers.glob(pattern)}
        )
