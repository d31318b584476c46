"""Whether the database of a ledger answers, without opening a study in it."""

from __future__ import annotations

import os

from xlt_ray.errors import LedgerError

PATIENCE_S = 5


def ask_database(url: str) -> str:
    """The kind of database at a ledger's URL, if it lets us in.

    Raises:
        LedgerError: it does not answer within seconds, refuses us, or its driver is not installed.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    # PostgreSQL's own limit is none; other drivers have theirs.
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(PATIENCE_S))
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        engine.dispose()
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LedgerError(f"the ledger's database cannot be reached ({reason})") from error
    return str(engine.dialect.name)
