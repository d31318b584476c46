"""What several files of tests of the command line call."""

from __future__ import annotations

from tests.unit.cli.test_cli import small, xlt

__all__ = ["small", "xlt"]
