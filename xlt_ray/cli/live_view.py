"""The live view of a running sweep, a function of its snapshot and the size of the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xlt_ray.cli.snapshot import RunningTrial, SweepSnapshot

WIDE = 110
"""Columns from which on a row has the examples and the time left of its stage, too."""
FEW = 4
"""Rows of running trials in the lowest of terminals."""


def live_view(snapshot: SweepSnapshot, width: int = 80, height: int = 24) -> RenderableType:
    """The view of a sweep, at most as wide and as high as the terminal.

    Args:
        width: columns.
        height: lines.
    """
    header = [*_header(snapshot, width)]
    failures = [*_failures(snapshot)]
    # The line of a heading, and the one that says how many are not shown.
    most = max(height - len(header) - len(failures) - 3, FEW)
    running = snapshot.running[:most]
    lines: list[RenderableType] = [*header]
    if running:
        lines.append(_trials(snapshot, running, is_wide=width >= WIDE))
    if more := len(snapshot.running) - len(running):
        lines.append(_line(f"and {more} more run", "dim"))
    return Group(*lines, *failures)


def _line(text: str, style: str = "") -> Text:
    # Text, because brackets in a path or a message are not markup.
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _header(snapshot: SweepSnapshot, width: int) -> Iterator[RenderableType]:
    counted = f"{snapshot.num_ended} of {snapshot.num_trials} trials"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(snapshot.name, "bold", no_wrap=True, overflow="ellipsis"),
        ProgressBar(snapshot.num_trials, snapshot.num_ended, width=max(width - 50, 20)),
        Text(counted, no_wrap=True),
    )
    yield bar
    if line := overall(snapshot):
        yield _line(line)
    if snapshot.best is not None:
        best = snapshot.best
        seeds = f", mean of {best.num_seeds} seeds" if best.num_seeds > 1 else ""
        name = snapshot.best_name or f"configuration {best.configuration}"
        yield _line(f"best {snapshot.metric} {best.objective:.4f}{seeds}: {name}", "green")
    if snapshot.step:
        yield _line(snapshot.step, "cyan")


def overall(snapshot: SweepSnapshot) -> str:
    """Time, time left and what sharing has saved, in one line."""
    from xlt_ray.sweep.budget import shown_duration

    total_s = snapshot.made_s + snapshot.saved_s
    share = 100 * snapshot.saved_s / total_s if total_s else 0.0
    saved = f"sharing saved {share:.0f} % ({shown_duration(snapshot.saved_s)})"
    parts = (
        "" if snapshot.elapsed_s is None else f"{shown_duration(snapshot.elapsed_s)} so far",
        snapshot.time_left,
        saved * bool(snapshot.saved_s),
    )
    return " · ".join(filter(None, parts))


def _trials(
    snapshot: SweepSnapshot, running: tuple[RunningTrial, ...], *, is_wide: bool
) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("what differs", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("stage", no_wrap=True, width=12)
    table.add_column("progress", no_wrap=True, overflow="ellipsis", width=30 if is_wide else 17)
    if is_wide:
        table.add_column("examples", justify="right", no_wrap=True)
        table.add_column("left", justify="right", no_wrap=True)
    for name in ("ex/s", "loss", "score"):
        table.add_column(name, justify="right", no_wrap=True, min_width=5)
    for trial in running:
        table.add_row(*_cells(snapshot, trial, is_wide=is_wide))
    return table


def _cells(
    snapshot: SweepSnapshot, trial: RunningTrial, *, is_wide: bool
) -> Iterator[RenderableType]:
    from xlt_ray.sweep.budget import shown_duration

    number = trial.view.number
    yield str(number)
    yield Text(snapshot.names.get(number, ""))
    yield Text(trial.stage or "preparing", "" if trial.stage else "dim")
    yield _progress(trial, 24 if is_wide else 11)
    if is_wide:
        total = f"/{trial.total_examples}" if trial.total_examples else ""
        yield f"{trial.examples}{total}" if trial.examples or total else ""
        yield "" if trial.left_s is None else shown_duration(trial.left_s)
    yield "" if trial.examples_per_s is None else f"{trial.examples_per_s:.3g}"
    yield "" if trial.loss is None else f"{trial.loss:.3f}"
    yield "" if trial.score is None else f"{trial.score:.3f}"


def _progress(trial: RunningTrial, width: int) -> RenderableType:
    """A bar with a percentage, or what the trial waits for."""
    if trial.note or not trial.total_examples:
        return Text(trial.note, "yellow", no_wrap=True, overflow="ellipsis")
    cell = Table.grid(padding=(0, 1, 0, 0))
    share = f"{100 * trial.examples // trial.total_examples:3d} %"
    cell.add_row(ProgressBar(trial.total_examples, trial.examples, width=width), share)
    return cell


def _failures(snapshot: SweepSnapshot) -> Iterator[Text]:
    for group in snapshot.failures:
        num = len(group.trials)
        named = ", ".join(map(str, group.trials[:5])) + ", ..." * (num > 5)
        trials = f"trial{'s' * (num > 1)} {named}"
        message = " ".join(group.message.split())
        yield _line(f"{num} failed, {group.cause} ({trials}): {message}", "red")
