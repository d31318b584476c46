#!/bin/bash
# One sweep on several nodes of a Slurm cluster:
#   sbatch --nodes=4 cluster/slurm.sh sweeps/quickstart.yaml search.trials=64
# The same command goes on where it stopped; after a preemption Slurm itself queues it again.
#SBATCH --job-name=xlt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# To this shell alone, three minutes before the end: Ray's processes must live while xlt saves.
#SBATCH --signal=B:TERM@180
set -euo pipefail

: "${XLT_HOME:?a folder that all nodes see, for example on scratch}"
: "${XLT_VENV:=$HOME/xlt-ray/.venv}"
# Jobs may share a node: every port is one that is free there, and folders are of this job alone.
free_port() {
  python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}
export XLT_HOME PATH="$XLT_VENV/bin:$PATH"

mkdir --parents "$XLT_HOME"
# A token of this job's own, readable by its owner alone, on the folder that all nodes see.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN_PATH="$XLT_HOME/.ray-token-$SLURM_JOB_ID"
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' \
  > "$RAY_AUTH_TOKEN_PATH")

# Slurm's name of this node, which need not be its host name.
head=${SLURMD_NODENAME:-$(hostname)}
address=$(hostname --ip-address | cut --delimiter=' ' --fields=1)
if [[ $address == 127.* ]]; then
  # A hosts file that gives the machine's own name a loopback address: nobody else reaches that.
  address=$(hostname --all-ip-addresses | cut --delimiter=' ' --fields=1)
fi
others=$((SLURM_JOB_NUM_NODES - 1))
port="${XLT_RAY_PORT:-$(free_port)}"
client_port=$(free_port)
own=(--temp-dir="${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID" --min-worker-port=0 --max-worker-port=0
  --dashboard-agent-listen-port=0 --disable-usage-stats)
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
  # Ray would count the cores of other jobs, too.
  own+=(--num-cpus="$SLURM_CPUS_PER_TASK")
fi

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --block --node-ip-address="$address" --port="$port" \
  --ray-client-server-port="$client_port" --include-dashboard=false "${own[@]}" &
ray_steps=($!)
until ray health-check --address "$address:$port" > /dev/null 2>&1; do
  kill -0 "${ray_steps[0]}"
  sleep 2
done
if ((others > 0)); then
  srun --nodes="$others" --ntasks="$others" --exclude="$head" --overlap \
    ray start --block --address="$address:$port" "${own[@]}" &
  ray_steps+=($!)
fi

is_preempted=0
driver=
preempt() {
  is_preempted=1
  if [[ -n $driver ]]; then
    # xlt saves progress on SIGTERM and ends; a second one would end it at once.
    trap "" TERM
    kill -TERM "$driver" 2> /dev/null || true
  fi
}
# Set before the driver starts: a signal that came in between would end this script alone.
trap preempt TERM

# All nodes, or none: the sweep's places are counted when it starts.
python - "$address:$port" "$SLURM_JOB_NUM_NODES" << 'PYTHON'
import sys, time
import ray

ray.init(address=sys.argv[1], log_to_driver=False)
deadline = time.monotonic() + 300
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    if time.monotonic() > deadline:
        sys.exit("not all nodes joined Ray within 300 s")
    time.sleep(2)
PYTHON

RAY_ADDRESS="$address:$port" xlt run "$@" &
driver=$!
if ((is_preempted)); then
  # The signal came before there was a driver to pass it on to.
  preempt
fi
status=0
wait "$driver" || status=$?
if ((is_preempted)); then
  # The trap broke the first wait off.
  status=0
  wait "$driver" || status=$?
fi

kill -TERM "${ray_steps[@]}" 2> /dev/null || true
wait "${ray_steps[@]}" 2> /dev/null || true
rm --force "$RAY_AUTH_TOKEN_PATH"

if ((is_preempted && status != 0)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
