#!/bin/bash
# One sweep by independent jobs of one task each, which need no Ray and may share nodes:
#   sbatch --array=1-8 cluster/slurm-array.sh sweeps/fusion-method.yaml data.root=/data
# Each job makes the next missing stage that no other one is making. Afterwards, on any machine that
# sees the home, `xlt run` with the same arguments writes the results; it trains nothing.
#SBATCH --job-name=xlt-worker
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@180
set -euo pipefail

: "${XLT_HOME:?a folder that all nodes see, for example on scratch}"
: "${XLT_VENV:=$HOME/xlt-ray/.venv}"
export XLT_HOME PATH="$XLT_VENV/bin:$PATH"

# SIGTERM reaches the worker itself, which saves its progress.
xlt worker "$@" &
worker=$!
is_preempted=0
trap 'is_preempted=1; trap "" TERM; kill -TERM "$worker" 2> /dev/null || true' TERM
status=0
wait "$worker" || status=$?
if ((is_preempted)); then
  # The trap broke the first wait off.
  status=0
  wait "$worker" || status=$?
  if ((status != 0)); then
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
  fi
fi
exit "$status"
