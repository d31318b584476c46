"""What a sweep without a cluster opens to the network: nothing."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys

LISTENING = """
import json, os, psutil
import xlt_ray.cli, xlt_ray.cli.board, xlt_ray.cli.launch
from xlt_ray.sweep.runner import connect

connect()
import ray
address = ray.get(ray.remote(ray.util.get_node_ip_address).remote())
here = psutil.Process()
print(json.dumps({
    "address of a worker": address,
    "listening": [
        one.laddr.ip
        for process in (here, *here.children(recursive=True))
        for one in process.net_connections()
        if one.status == psutil.CONN_LISTEN
    ],
    "left behind": sorted(one for one in os.environ if "CLUSTER" in one),
}))
"""


def test_ray_that_a_sweep_starts_listens_on_loopback_alone() -> None:
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING],
        capture_output=True,
        text=True,
        env=variables,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(seen["listening"]) >= 5, "gcs, raylet, agent, worker and driver"
    for text in (seen["address of a worker"], *seen["listening"]):
        address = ipaddress.ip_address(text.removeprefix("::ffff:"))
        assert address.is_loopback, seen
    assert seen["left behind"] == [], "`ray start` of this environment would refuse to work"
