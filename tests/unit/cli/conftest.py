"""What several files of tests of the command line call."""

from __future__ import annotations

from tests.unit.cli.test_cli import file, small

__all__ = ["file", "small"]
