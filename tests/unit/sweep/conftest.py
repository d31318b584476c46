"""The desk with everything around it, for all that happens at it."""

from __future__ import annotations

from tests.unit.sweep.test_scheduler import world

__all__ = ["world"]
