"""Sends sweeps as jobs to a Ray cluster elsewhere, and shows or follows them.

A job is ``xlt run`` on the head of the cluster, with the sweep file and this package, so driver and
trials run exactly this code. Results are in the home of the cluster; a command that shows them is a
short job, too. A cluster forgets its jobs when it ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import xlt_ray
from xlt_ray.errors import ClusterError, SpecError

STOP_S = 120
"""Seconds for a driver to save progress when its job is stopped; Ray's default is 3."""
LOOK_S = 300
"""Seconds after which a command that shows a sweep is given up."""
WORKING = ("PENDING", "RUNNING")
_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk",
           "ray._private.runtime_env.packaging")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One driver of a sweep that was sent to a cluster."""

    id: str
    sweep: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    home: str
    """XLT_HOME as it was given; empty for that of the cluster."""
    started_ms: int

    @property
    def is_working(self) -> bool:
        return self.status in WORKING


@dataclass(frozen=True)
class Answer:
    """What a command on the cluster printed."""

    text: str
    exit_code: int


class Cluster:
    """The job server at an address such as ``http://127.0.0.1:8265``.

    Raises:
        SpecError: it is not an address.
        ClusterError: there is no answer, it requires a token, or Ray's job client is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = checked_address(address)
        with self._explained(), _without("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            from ray.job_submission import JobSubmissionClient

            for name in _CHATTY:
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client: Any = JobSubmissionClient(self.address)

    def jobs(self, sweep: str | None = None) -> list[Job]:
        """Drivers of one sweep or of all, the latest first."""
        with self._explained():
            jobs = [_job(job) for job in self._client.list_jobs()]
        wanted = (job for job in jobs if job.sweep and sweep in (None, job.sweep))
        return sorted(wanted, key=lambda job: job.started_ms, reverse=True)

    def submit(self, text: str, sweep: str, arguments: Sequence[str], home: str | None) -> Job:
        """Send the text of a sweep file and this package; returns at once with the job.

        Args:
            arguments: options of ``xlt run``.

        Raises:
            ClusterError: a driver of this sweep is already running there.
        """
        for running in self.jobs(sweep):
            if running.is_working:
                raise self._error(
                    f"{sweep} is already being run there as {running.id}; "
                    "follow it with `xlt logs`, or stop that job first"
                )
        job = f"xlt-{sweep}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        file = f"{sweep}.yaml"
        self._send(job, ["run", file, *arguments], home, {"xlt_sweep": sweep}, files={file: text})
        return next(listed for listed in self.jobs(sweep) if listed.id == job)

    def ask(self, arguments: Sequence[str], home: str | None) -> Answer:
        """Run ``xlt`` with these arguments on the cluster and wait for what it prints.

        Raises:
            ClusterError: it does not end within :data:`LOOK_S` seconds.
        """
        # The job server itself prints lines that end with the name of the job.
        job, mark = f"xlt-look-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
        self._send(job, arguments, home, {}, mark=mark)
        deadline = time.monotonic() + LOOK_S
        with self._explained():
            while (status := str(self._client.get_job_status(job).value)) in WORKING:
                if time.monotonic() > deadline:
                    self._client.stop_job(job)
                    raise self._error(
                        f"no answer within {LOOK_S} s; does the head have room for a process?"
                    )
                time.sleep(0.3)
            text = _after(mark, job, str(self._client.get_job_logs(job)))
            details = self._client.get_job_info(job)
            self._client.delete_job(job)
        code = 0 if status == "SUCCEEDED" else details.driver_exit_code or 1
        return Answer(text or f"{details.message}\n", code)

    def output(self, job: Job) -> str:
        """The output of a driver so far."""
        with self._explained():
            return str(self._client.get_job_logs(job.id))

    def follow(self, job: Job) -> Iterator[str]:
        """The output of a driver, piece by piece, until it ends."""
        import asyncio

        with asyncio.Runner() as runner, self._explained():
            pieces = self._client.tail_job_logs(job.id)
            while True:
                try:
                    yield str(runner.run(anext(pieces)))
                except StopAsyncIteration:
                    return

    def _send(
        self,
        job: str,
        arguments: Sequence[str],
        home: str | None,
        metadata: Mapping[str, str],
        *,
        files: Mapping[str, str] | None = None,
        mark: str = "",
    ) -> None:
        with tempfile.TemporaryDirectory() as folder, self._explained():
            package = Path(xlt_ray.__file__).parent
            shutil.copytree(
                package, Path(folder, package.name), ignore=shutil.ignore_patterns("__pycache__")
            )
            for name, text in (files or {}).items():
                Path(folder, name).write_text(text, encoding="utf-8")
            variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}
            if home:
                variables["XLT_HOME"] = home
            self._client.submit_job(
                entrypoint=_entrypoint(arguments, mark),
                submission_id=job,
                runtime_env={"working_dir": folder, "env_vars": variables},
                metadata={**metadata, "xlt_home": home or ""},
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of Ray's client into one line with a remedy."""
        try:
            from ray.exceptions import AuthenticationError

            yield
        except ImportError as error:
            raise self._error(
                f"Ray's job client is not installed ({error}); pip install 'xlt-ray[cluster]'"
            ) from None
        except AuthenticationError:
            raise self._error(
                "the cluster requires a token and rejected this one; set RAY_AUTH_MODE=token, "
                "and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token of its head"
            ) from None
        except OSError as error:
            reason = " ".join(str(error).split())[:200]
            raise self._error(
                f"no Ray dashboard answers ({reason}); give the address of the head's dashboard, "
                "for example through `ssh -L 8265:127.0.0.1:8265 HEAD`"
            ) from error
        except RuntimeError as error:
            raise self._error(" ".join(str(error).split())) from error

    def _error(self, problem: str) -> ClusterError:
        return ClusterError(f"{self.address}: {problem}", asked={}, available={})


def checked_address(address: str) -> str:
    """The address of a job server without a slash at its end.

    Raises:
        SpecError: it is not an http or https URL, or contains a password.

    >>> checked_address("http://127.0.0.1:8265/")
    'http://127.0.0.1:8265'
    """
    try:
        parts = urlsplit(address)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_url = False
    if not is_url:
        raise SpecError(
            "is not the address of a Ray dashboard",
            key=f"--address {address}",
            remedy="write http://HOST:PORT, for example http://127.0.0.1:8265",
        )
    if parts.username is not None or parts.password is not None:
        raise SpecError(
            "contains a login, which would be shown and stored",
            key="--address",
            remedy="write http://HOST:PORT, and give the token by RAY_AUTH_TOKEN",
        )
    return address.rstrip("/")


def is_open(address: str) -> bool:
    """Whether others could read a token that is sent there.

    >>> [is_open(address) for address in ("http://127.0.0.1:8265", "http://head:8265", "https://head")]
    [False, True, False]
    """
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def _entrypoint(arguments: Sequence[str], mark: str) -> str:
    """A line of shell, which prints the mark before the output of the command."""
    # Without a home, everything would go into the folder of the job, and be removed with it.
    guard = ': "${XLT_HOME:?set it where ray start runs, or give --home}"'
    parts = [guard, f"echo {mark}"] if mark else [guard]
    return " && ".join([*parts, f"exec xlt {shlex.join(arguments)}"])


def _after(mark: str, job: str, log: str) -> str:
    """The output of a command, from the log of its job.

    >>> _after("m", "j", "Setting up j\\nm\\nRunning entrypoint for job j: x\\nanswer\\n")
    'answer\\n'
    """
    # The job server may write its own first line after the first of the command.
    start = f"Running entrypoint for job {job}:"
    lines = log.partition(f"{mark}\n")[2].splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(start))


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=str(details.submission_id),
        sweep=metadata.get("xlt_sweep", ""),
        status=str(getattr(details.status, "value", details.status)),
        message=re.sub(r"\s+", " ", str(details.message or "")),
        home=metadata.get("xlt_home", ""),
        started_ms=int(details.start_time or 0),
    )


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    """Hide variables that Ray's client would use instead of the given address."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
