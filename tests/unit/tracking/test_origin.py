"""Where a run comes from, on machines that say less than others."""

from __future__ import annotations

import os
import pwd

import pytest

from xlt_ray.tracking.content import origin


def test_a_user_without_a_name_is_called_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert origin()["mlflow.user"] == str(os.getuid())
