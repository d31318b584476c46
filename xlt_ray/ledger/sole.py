"""One driver a ledger: a lease of the home says who, and where several homes use one database,
the database's own lock.

PostgreSQL drops the lock with the connection that holds it, so a killed driver leaves nothing
behind.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xlt_ray.errors import LeaseLost, LedgerError
from xlt_ray.home import Home
from xlt_ray.stages.lease import Holder, try_acquire
from xlt_ray.stages.storage import Storage

LOOK_S = 30.0
"""So often the connection that holds the lock is looked at; what stands in between drops idle ones
much later."""


@contextmanager
def sole_driver(home: Home, name: str, ledger_url: str | None) -> Iterator[Callable[[], None]]:
    """Refuse a second driver of the same sweep while the first is alive.

    Gives a function that raises LedgerError where this driver has lost the sweep: it was stopped,
    or its home was away, for so long that it counted as dead, and another one took over. It costs
    nothing as long as the lease was renewed in time.
    """
    lease = try_acquire(Storage(home.root), home.driver_lease(name), purpose=f"sweep {name}")
    if isinstance(lease, Holder):
        raise LedgerError(f"{name}: is being run already, by {lease}; wait for it or stop it")
    with lease, sole_user(ledger_url, name) as confirm_user:

        def confirm() -> None:
            try:
                lease.confirm()
            except LeaseLost as error:
                raise LedgerError(
                    f"{name}: this driver was stopped, or its home was away, for so long that "
                    "another one has taken the sweep over; it goes on there"
                ) from error
            confirm_user()

        yield confirm


@contextmanager
def sole_user(url: str | None, name: str) -> Iterator[Callable[[], None]]:
    """Hold the ledger of a sweep in a PostgreSQL database; nothing happens for other places.

    Gives a function, to be called again and again, that raises LedgerError where the lock is gone
    with its connection.

    Raises:
        LedgerError: somebody else holds it, or the database cannot be reached.
    """
    if url is None or not url.startswith("postgres"):
        yield lambda: None
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    try:
        connection = create_engine(url, poolclass=NullPool).connect()
        is_ours = connection.scalar(text("SELECT pg_try_advisory_lock(:n)"), {"n": number})
        # The lock is the connection's; a transaction would stay open all the time.
        connection.commit()
    except (SQLAlchemyError, ImportError) as error:
        reason = (str(error.args[0] if error.args else error).splitlines() or [""])[0]
        raise LedgerError(f"{name}: the ledger cannot be opened ({reason})") from error
    with connection:
        if not is_ours:
            raise LedgerError(
                f"{name}: is being run already, from another home with the same places.ledger; "
                "wait for it or stop it"
            )
        looked = time.monotonic()

        def confirm() -> None:
            nonlocal looked
            if time.monotonic() - looked < LOOK_S:
                return
            looked = time.monotonic()
            try:
                connection.execute(text("SELECT 1"))
                connection.commit()
            except SQLAlchemyError as error:
                raise LedgerError(
                    f"{name}: the ledger's database has dropped the connection that keeps other "
                    "drivers out, so this one ends; run the same command again"
                ) from error

        yield confirm
