"""``xlt status --watch``: the sweeps of a home, read again and again until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from xlt_ray.cli.listings import Row
from xlt_ray.cli.live_view import live_view
from xlt_ray.cli.snapshot import snapshot_of
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, load_ledger
from xlt_ray.ledger.access import driver_of

EVERY_S = 2.0
"""How often ledgers are read."""

Found = Mapping[str, Ledger | LedgerError]
"""The ledger of each sweep, or why it cannot be read."""


def ledgers_of(home: Home, names: Sequence[str], known: Found) -> Found:
    """Ledgers as they are now; of known ones only what came since is read."""
    found: dict[str, Ledger | LedgerError] = {}
    for name in names:
        try:
            place, before = home.holding(name), known.get(name)
            if isinstance(before, Ledger):
                before.driver = driver_of(place, name)
                found[name] = before
            else:
                found[name] = load_ledger(place, name)
        except LedgerError as error:
            found[name] = error
    return found


def watch(
    find: Callable[[Found], Found],
    rows_of: Callable[[Found], list[Row]],
    show: Callable[[list[Row]], None],
) -> None:
    """Show sweeps until Ctrl-C: as a live view in a terminal, elsewhere their rows at each change.

    Args:
        find: the ledgers as they are now, after those known before.
        rows_of: what is compared and shown outside a terminal.
        show: prints rows.
    """
    console = Console()
    with suppress(KeyboardInterrupt):
        if console.is_terminal:
            _watch_live(find, console)
        else:
            _watch_changes(find, rows_of, show)


def _watch_live(find: Callable[[Found], Found], console: Console) -> None:
    found = find({})
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(sweeps_view(found, *console.size), refresh=True)
            time.sleep(EVERY_S)
            found = find(found)


def _watch_changes(
    find: Callable[[Found], Found],
    rows_of: Callable[[Found], list[Row]],
    show: Callable[[list[Row]], None],
) -> None:
    found: Found = find({})
    shown: list[Row] | None = None
    while True:
        rows = rows_of(found)
        # The time left is another one at every look.
        lasting = [{**row, "seconds_left": None} for row in rows]
        if lasting != shown:
            show(rows)
            shown = lasting
        time.sleep(EVERY_S)
        found = find(found)


def sweeps_view(found: Found, width: int = 80, height: int = 24) -> RenderableType:
    """Those that run at the top, each as ``xlt run`` shows it; the others by a line each."""
    running = [ledger for ledger in found.values() if isinstance(ledger, Ledger) and ledger.driver]
    lines: list[RenderableType] = []
    for ledger in running:
        # Calm: what one sweep has to say moves no other sweep off the screen.
        lines += [live_view(snapshot_of(ledger), width, height // len(running)), Text()]
    for name, sweep in found.items():
        if isinstance(sweep, LedgerError):
            lines.append(_line(f"{name}: {sweep}", "red"))
        elif not sweep.driver:
            lines.append(_line(_at_rest(sweep), "dim"))
    return Group(*(lines or [_line("no sweeps yet", "dim")]))


def _at_rest(ledger: Ledger) -> str:
    snapshot = snapshot_of(ledger)
    counts = ", ".join(f"{number} {state}" for state, number in snapshot.ended.items())
    best = snapshot.best
    parts = (
        f"{snapshot.num_ended} of {snapshot.num_trials} trials",
        counts,
        f"best {snapshot.metric} {best.objective:.4f}" if best else "",
    )
    return f"{snapshot.name}: " + " · ".join(filter(None, parts))


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
