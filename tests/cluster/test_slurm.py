"""The batch script; a few lines of shell play Slurm's commands and the programs it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.test_recipes import CLUSTER, tool

SCRIPT = CLUSTER / "slurm.sh"
ARRAY = CLUSTER / "slurm-array.sh"
STAND_INS = {
    # As srun does: drop its own options, start the rest.
    "srun": 'echo "srun $*" >> "$LOG"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "scontrol": 'echo "scontrol $*" >> "$LOG"',
    "hostname": """
case ${1-} in
  --ip-address) echo "${OWN_ADDRESS:-10.0.0.1 fe80::1}" ;;
  --all-ip-addresses) echo "10.0.0.7 172.17.0.1" ;;
  *) echo n1.cluster ;;
esac
""",
    "ray": """
case $1 in
  health-check) exit 0 ;;
  start)
    trap 'echo "ray ended" >> "$LOG"; exit 0' TERM
    while true; do sleep 0.1; done ;;
esac
""",
    "python": f"""
case $1 in
  -c) exec {sys.executable} "$@" ;;
  *) cat > /dev/null; echo "waited for $3 nodes" >> "$LOG" ;;
esac
""",
}


def prepare(tmp_path: Path, xlt: str) -> tuple[dict[str, str], Path]:
    """Environment of a job on three nodes whose ``xlt`` does this, and what is written down."""
    bin_folder = tmp_path / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, text in {**STAND_INS, "xlt": xlt}.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin_folder / name).chmod(0o755)
    log = tmp_path / "log"
    environment = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LOG": str(log),
        "XLT_HOME": str(tmp_path / "shared" / "home"),
        "XLT_VENV": str(tmp_path / "venv"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "4",
        "XLT_RAY_PORT": "6379",
        "SLURMD_NODENAME": "n1",
    }
    return environment, log


SEE_ALL = """
echo "xlt $* address=$RAY_ADDRESS mode=$RAY_AUTH_MODE" >> "$LOG"
cd "$(dirname "$RAY_AUTH_TOKEN_PATH")"
echo "token $(stat --format='%a %s' .ray-token-7)" >> "$LOG"
"""


@pytest.mark.parametrize("script", [SCRIPT, ARRAY])
def test_a_script_has_no_complaints(script: Path) -> None:
    done = subprocess.run(
        [tool("shellcheck"), str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_job_ends_as_its_sweep_does(tmp_path: Path, code: int) -> None:
    environment, log = prepare(tmp_path, f"{SEE_ALL}exit {code}")
    done = subprocess.run(
        [str(SCRIPT), "s.yaml", "search.trials=3"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    lines = log.read_text().splitlines()
    assert done.returncode == code, done.stderr
    assert "waited for 3 nodes" in lines
    assert "xlt run s.yaml search.trials=3 address=10.0.0.1:6379 mode=token" in lines
    # A secret of this job, for its owner's eyes, gone afterwards.
    assert "token 600 64" in lines
    assert not list((tmp_path / "shared" / "home").glob(".ray-token*"))
    assert lines.count("ray ended") == 2
    assert not [line for line in lines if line.startswith("scontrol")]


def test_the_head_is_the_node_that_the_script_is_on(tmp_path: Path) -> None:
    environment, log = prepare(tmp_path, "exit 0")
    subprocess.run([str(SCRIPT), "s.yaml"], env=environment, timeout=60, check=True)
    # Both steps run in the background, so either may write its line first.
    lines = [line for line in log.read_text().splitlines() if line.startswith("srun ")]
    head, others = sorted(lines, key=lambda line: "--head" not in line)
    assert "--nodelist=n1 " in head
    assert "ray start --head --block --node-ip-address=10.0.0.1 --port=6379" in head
    assert "--nodes=2 --ntasks=2 --exclude=n1 " in others
    assert "ray start --block --address=10.0.0.1:6379" in others
    # Another job may share the node: it has other cores, folders and ports.
    for line in (head, others):
        assert "--num-cpus=4 " in f"{line} "
        assert "/ray-7 --min-worker-port=0 --max-worker-port=0" in line
    assert "--ray-client-server-port=" in head


def test_jobs_on_one_node_use_different_ports(tmp_path: Path) -> None:
    ports = set()
    for number in range(3):
        environment, log = prepare(tmp_path / str(number), "exit 0")
        del environment["XLT_RAY_PORT"]
        subprocess.run([str(SCRIPT), "s.yaml"], env=environment, timeout=60, check=True)
        ports |= set(re.findall(r"--head .*--port=(\d+)", log.read_text()))
    assert len(ports) == 3


def test_a_name_that_leads_to_loopback_is_not_what_other_nodes_are_reported(tmp_path: Path) -> None:
    environment, log = prepare(tmp_path, 'echo "at $RAY_ADDRESS" >> "$LOG"')
    environment["OWN_ADDRESS"] = "127.0.1.1"
    subprocess.run([str(SCRIPT), "s.yaml"], env=environment, timeout=60, check=True)
    assert "at 10.0.0.7:6379" in log.read_text().splitlines()


SAVE = """
trap 'echo "xlt saves" >> "$LOG"; sleep 0.5; echo "xlt saved" >> "$LOG"; exit 1' TERM
echo "at work" >> "$LOG"
while true; do sleep 0.1; done
"""


def test_a_preempted_job_saves_before_ray_ends_and_is_queued_again(tmp_path: Path) -> None:
    environment, log = prepare(tmp_path, SAVE)
    job = subprocess.Popen([str(SCRIPT), "s.yaml"], env=environment)
    try:
        while not log.exists() or "at work" not in log.read_text():
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        # Slurm may repeat itself; a second signal would end xlt at once.
        while "xlt saves" not in log.read_text():
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 1
    finally:
        job.kill()
    lines = [line for line in log.read_text().splitlines() if not line.startswith("srun")]
    assert lines == [
        "waited for 3 nodes", "at work", "xlt saves", "xlt saved", "ray ended", "ray ended",
        "scontrol requeue 7",
    ]  # fmt: skip


def test_a_job_preempted_while_its_nodes_join_is_queued_again(tmp_path: Path) -> None:
    environment, log = prepare(tmp_path, SAVE)
    waits = tmp_path / "venv" / "bin" / "python"
    waits.write_text(waits.read_text().replace("cat > /dev/null;", "cat > /dev/null; sleep 1;"))
    job = subprocess.Popen([str(SCRIPT), "s.yaml"], env=environment)
    try:
        while not log.exists() or "--nodes=2" not in log.read_text():
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) != 0
    finally:
        job.kill()
    assert log.read_text().splitlines()[-1] == "scontrol requeue 7"


def test_a_job_without_home_says_what_is_missing(tmp_path: Path) -> None:
    environment, _ = prepare(tmp_path, "exit 0")
    del environment["XLT_HOME"]
    done = subprocess.run(
        [str(SCRIPT), "s.yaml"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "XLT_HOME: a folder that all nodes see" in done.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_of_an_array_ends_as_its_worker_does(tmp_path: Path, code: int) -> None:
    environment, log = prepare(tmp_path, f'echo "xlt $*" >> "$LOG"; exit {code}')
    done = subprocess.run([str(ARRAY), "s.yaml", "a=1"], env=environment, timeout=60, check=False)
    assert done.returncode == code
    assert log.read_text().splitlines() == ["xlt worker s.yaml a=1"]


def test_a_preempted_job_of_an_array_saves_and_is_queued_again(tmp_path: Path) -> None:
    environment, log = prepare(tmp_path, SAVE)
    environment |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    job = subprocess.Popen([str(ARRAY), "s.yaml"], env=environment)
    try:
        while not log.exists() or "at work" not in log.read_text():
            assert job.poll() is None
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 1
    finally:
        job.kill()
    lines = log.read_text().splitlines()
    assert lines == ["at work", "xlt saves", "xlt saved", "scontrol requeue 7_2"]
