"""One driver a ledger, where several homes use one database: the database's own lock says who.

PostgreSQL drops the lock with the connection that holds it, so a killed driver leaves nothing
behind. A home's own lease keeps drivers of one home apart, whatever the ledger lies in.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xlt_ray.errors import LedgerError

LOOK_S = 30.0
"""So often the connection that holds the lock is looked at; what stands in between drops idle ones
much later."""


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
