"""Causes of failures: exceptions of Ray, PyTorch, DeepSpeed, MLflow and stores; hangs; retries."""

from __future__ import annotations

import contextlib
import errno
import gzip
import http.client
import json
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
import ray.exceptions as rayed
import torch
from fsspec.exceptions import FSTimeoutError
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
)
from mlflow.exceptions import MlflowException, RestException
from safetensors import SafetensorError
from urllib3.exceptions import NewConnectionError

from xlt_ray import errors
from xlt_ray.config.retry_policy import CAUSES, OF_PROCESSES, Failures, Policy
from xlt_ray.errors import DataError, LeaseLost, TrialFailure
from xlt_ray.sweep.failures import (
    LOG_LINES,
    RULES,
    ProcessFailures,
    Watchdog,
    bug_signature,
    cause_of,
    classify,
    hang_file,
    is_disk_full,
    noting_node,
    read_hang_report,
)
from xlt_ray.sweep.tasks import Report


def named(name: str, base: type[Exception] = Exception) -> Callable[[str], Exception]:
    """An exception of a library that is not installed here, as it calls it."""
    return type(name, (base,), {})


def wrapped(cause: BaseException) -> rayed.RayTaskError:
    """What ``ray.get`` raises for what a worker raised."""
    return rayed.RayTaskError(
        "advance", "Traceback (most recent call last):\n  ...", cause, "ray::Worker", 1, "10.0.0.1"
    ).as_instanceof_cause()


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    """``raise outer from inner``, as it is caught."""
    outer.__cause__ = inner
    return outer


def while_handling(inner: BaseException, outer: BaseException) -> BaseException:
    """``outer`` raised while ``inner`` was being handled, as it is caught."""
    outer.__context__ = inner
    return outer


def of_disk(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/home/stages/x")


KILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: ResourceTrainable\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker "
    "exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some "
    "common causes include: (1) the process was killed by the OOM killer due to high memory "
    "usage. (2) ray stop --force is called. (3) the worker is crashed unexpectedly due to SIGSEGV "
    "or other unexpected errors."
)
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547]"


def answer(status: int, reason: str) -> Exception:
    """What huggingface_hub raises for an answer of the hub."""
    request = httpx2.Request("GET", "https://huggingface.co/org/m/resolve/main/config.json")
    response = httpx2.Response(status, request=request)
    return HfHubHTTPError(f"{status} Client Error: {reason}", response=response)


CASES: dict[str, list[BaseException]] = {
    "oom": [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a "
                                    "total capacity of 15.77 GiB of which 12.19 MiB is free."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't "
                     "allocate memory: you tried to allocate 68719476736 bytes. Error code 12"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("float32")),
        of_disk(errno.ENOMEM),
        rayed.OutOfMemoryError("Task was killed due to the node running low on memory."),
        rayed.RayActorError(error_msg="The actor is dead because its worker process was killed due "
                            "to the node running low on memory."),
        while_handling(torch.OutOfMemoryError("CUDA out of memory."), KeyError("optimizer")),
        caused(RuntimeError("the engine cannot be made"), MemoryError()),
        RuntimeError("unable to open shared memory object </torch_1>: Cannot allocate memory (12)"),
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. Please try to "
                     "raise your shared memory limit."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 100 bytes."),
        RuntimeError("cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    ],
    "disk": [
        of_disk(errno.ENOSPC),
        of_disk(errno.EDQUOT),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
        sqlite3.OperationalError("database or disk is full"),
        rayed.OutOfDiskError("Local disk is full"),
        wrapped(of_disk(errno.ENOSPC)),
        caused(errors.StoreError("cannot be written", key="ab" * 32), of_disk(errno.ENOSPC)),
        while_handling(of_disk(errno.ENOSPC), ValueError("I/O operation on closed file")),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        named("ClientError")("An error occurred (QuotaExceeded) when calling PutObject"),
    ],
    "preempted": [
        rayed.RayActorError(error_msg="The actor died.", preempted=True),
        rayed.RayActorError(error_msg="The actor died because its node was preempted."),
        rayed.NodeDiedError("The node 10.0.0.7 was terminated: spot instance interruption"),
        rayed.NodeDiedError("Node drained after a preemption notice from the cloud provider"),
        rayed.RayActorError(error_msg="Worker exit detail: The process receives a SIGTERM."),
        RuntimeError("worker 1 exited with exit code 143"),
        named("NodePreemptedError")("10.0.0.9"),
        wrapped(rayed.RayActorError(error_msg="The actor died.", preempted=True)),
        RuntimeError("Process 1 terminated with signal SIGTERM"),
        RuntimeError("slurmstepd: error: *** JOB 1 CANCELLED AT 2026-12-01 DUE TO PREEMPTION ***"),
    ],
    "lost": [
        rayed.ActorDiedError(),
        rayed.RayActorError(error_msg=KILLED),
        rayed.ActorUnavailableError("RpcError: keepalive watchdog timeout", b"x" * 16),
        rayed.WorkerCrashedError(),
        rayed.NodeDiedError("Task failed because the node it was running on is dead or "
                            "unavailable. This can happen if the node was preempted, had a "
                            "hardware failure, or its raylet crashed unexpectedly."),
        rayed.OwnerDiedError("ff" * 28, b"", ""),
        rayed.LocalRayletDiedError(),
        rayed.ActorPlacementGroupRemoved(),
        wrapped(rayed.ActorDiedError()),
        RuntimeError(f"{GLOO} Read error [10.0.0.2]:32145: Connection reset by peer"),
        RuntimeError(f"{GLOO} Connection closed by peer [127.0.0.1]:4321"),
        RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2251, unhandled system error, NCCL 2.21"),
        named("DistBackendError", RuntimeError)(
            "ncclRemoteError: A call failed possibly due to a network error or a remote process "
            "exiting prematurely."),
        RuntimeError("DataLoader worker (pid 4242) is killed by signal: Killed."),
        errors.LeaseLost("its lease passed to another process", key="ab" * 32),
        RuntimeError("ncclInternalError: Internal check failed."),
        named("DistNetworkError", RuntimeError)(
            "The client socket has timed out after 600s while trying to connect to (10.0.0.2, "
            "29500)."),
        named("DistNetworkError", RuntimeError)(
            "The server socket has failed to listen on any local network address. The server "
            "socket has failed to bind to [::]:29500 (errno: 98 - Address already in use)."),
        named("DistStoreError", RuntimeError)(
            "Timed out after 301 seconds waiting for clients. 1/2 clients joined."),
        RuntimeError("client socket has failed to connect to [10.0.0.2]:29500"),
        of_disk(errno.EADDRINUSE),
        named("RendezvousTimeoutError")("rendezvous timed out"),
        rayed.RaySystemError("System error: Failed to connect to GCS within 60 seconds."),
        rayed.RaySystemError("GCS server is unavailable"),
        rayed.ObjectLostError("ff" * 28, b"", ""),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        rayed.TaskPlacementGroupRemoved(),
        RuntimeError("failed to recv, got 0 bytes"),
        rayed.RaySystemError("System error: Broken pipe"),
        rayed.RaySystemError("Unable to connect to GCS (ray head) at 10.0.0.1:6379."),
        named("_InactiveRpcError")("StatusCode.UNAVAILABLE failed to connect to all addresses"),
        RuntimeError("connect() timed out. Original timeout was 1800000 ms."),
        RuntimeError("Rank 1 has failed to pass monitoredBarrier in 1800000 ms"),
        RuntimeError("worker exited with exit code 137"),
        named("ChildFailedError")("train.py FAILED exitcode : -11 (pid: 1)"),
        RuntimeError("Segmentation fault (core dumped)"),
        RuntimeError("A worker died or was killed while executing a task"),
    ],
    "device": [
        named("AcceleratorError", RuntimeError)("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: the launch timed out and was terminated"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        RuntimeError("CUDA error: hardware stack error"),
        RuntimeError("CUDA error: unknown error"),
        RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
        RuntimeError("No CUDA GPUs are available"),
        RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet "
                     "initialized"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm("),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate(handle)"),
        RuntimeError("GPU 3: GPU has fallen off the bus"),
        RuntimeError("NVML: GPU is lost"),
        named("DistBackendError", RuntimeError)(
            "NCCL error: Failed to CUDA calloc, CUDA error: uncorrectable ECC error encountered"),
        while_handling(RuntimeError("CUDA error: unspecified launch failure"), KeyError("x")),
        RuntimeError("CUDA error: an illegal instruction was encountered"),
        RuntimeError("CUDA error: misaligned address"),
        RuntimeError("CUDA error: invalid device ordinal"),
        RuntimeError("CUDA error: no CUDA-capable device is detected"),
        RuntimeError("CUDA error: the GPU requires reset"),
        RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."),
        RuntimeError("Unable to determine the device handle for GPU 0000:3B:00.0: Unknown Error"),
        RuntimeError("CUDA_ERROR_ECC_UNCORRECTABLE"),
        RuntimeError("No HIP GPUs are available"),
        RuntimeError("Found no NVIDIA driver on your system."),
    ],
    "timeout": [
        TrialFailure("2 workers did not answer for 1860 s", cause="timeout"),
        RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for "
                     "recv operation to complete"),
        named("DistBackendError", RuntimeError)(
            "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)"),
        named("DistStoreError", RuntimeError)("wait timeout after 300000ms, keys: /default_pg/0"),
        rayed.GetTimeoutError("Get timed out: some object(s) not ready."),
        RuntimeError("Timed out initializing process group in store based barrier on rank: 0"),
    ],
    "tracking": [
        errors.TrackingError("the server is gone", uri="http://localhost:5000"),
        MlflowException("API request to endpoint /api/2.0/mlflow/runs/log-batch failed"),
        RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"}),
    ],
    "data": [
        DataError("has no training data", task="nli", language="sw", split="train"),
        errors.ModelError("has no tokenizer", model="./m"),
        caused(DataError("cannot be read", task="pos"), FileNotFoundError(2, "No such file")),
        SafetensorError("Error while deserializing header: invalid header length"),
        EntryNotFoundError("404: config.json"),
        OSError("xlm-roberta-bse is not a local folder and is not a valid model identifier listed "
                "on 'https://huggingface.co/models'"),
        OSError("Can't load tokenizer for 'bert'. If you were trying to load it from a local"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        wrapped(DataError("line 7 has 2 columns, not 3", task="nli")),
        DataError("/scratch/preempt/pos/en.train.conllu:7: unknown label 'X'", task="pos"),
        DataError("unknown label 'out of memory'", task="nli"),
        DataError("token 'SIGTERM' has no tag", task="pos"),
        wrapped(DataError("/mnt/preemptible/x:3: no space left on device", task="pos")),
        errors.ModelError("its weights lack 3 tensors; connection refused", model="./m"),
        caused(errors.ModelError("cannot be loaded", model="org/m"), answer(404, "Not Found")),
        caused(errors.ModelError("cannot be loaded", model="org/m"), answer(401, "Unauthorized")),
        caused(errors.ModelError("cannot be loaded", model="./m"),
               FileNotFoundError(2, "No such file or directory", "/models/m/config.json")),
        caused(DataError("cannot be read", task="pos"), PermissionError(13, "Permission denied")),
        json.JSONDecodeError("Expecting value", "", 0),
        OSError("org/m does not appear to have a file named pytorch_model.bin"),
        OSError("You are trying to access a gated repo. Make sure to have access to it"),
        named("DatasetGenerationError")("An error occurred while generating the dataset"),
        named("ArrowInvalid", ValueError)("Parquet magic bytes not found in footer."),
        named("DataFilesNotFoundError", FileNotFoundError)("No (supported) data files found in x"),
        ValueError("BuilderConfig 'xx' not found. Available: ['en']"),
        RuntimeError("Error(s) in loading state_dict for BertModel: size mismatch for embeddings"),
        EOFError("Compressed file ended before the end-of-stream marker was reached"),
        gzip.BadGzipFile("Not a gzipped file (b'ab')"),
        OSError("Error no file named model.safetensors found in directory /m."),
        ValueError("model type `foo` but Transformers does not recognize this architecture."),
        pickle.UnpicklingError("invalid load key, 'v'."),
        RuntimeError("PytorchStreamReader failed reading zip archive"),
    ],
    "nan": [
        TrialFailure("target nli 100: the loss is nan at step 3", cause="nan"),
        FloatingPointError("overflow encountered in multiply"),
        RuntimeError("Function 'LogSoftmaxBackward0' returned nan values in its 0th output."),
        RuntimeError("The total norm of order 2.0 for gradients from `parameters` is non-finite, "
                     "so it cannot be clipped."),
        Exception("Current loss scale already at minimum - cannot decrease scale anymore. "),
        ValueError("Input contains NaN."),
        RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"),
        ValueError("gradients are nan at step 12"),
        ValueError("array must not contain infs or NaNs"),
        ValueError("satisfy the constraint, but found invalid values:\ntensor([[nan, nan]])"),
        AssertionError("found NaN in local grad norm in backward pass"),
    ],
    "storage": [
        of_disk(errno.EIO),
        of_disk(errno.ESTALE),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("The read operation timed out"),
        PermissionError(errno.EACCES, "Permission denied", "/shared/stages"),
        FSTimeoutError(),
        errors.StoreError("cannot be reached", key="ab" * 32),
        errors.DamagedStage("weights differ from the record", key="ab" * 32),
        named("ClientError")("An error occurred (SlowDown) when calling the PutObject operation"),
        named("EndpointConnectionError", named("BotoCoreError"))(  # type: ignore[arg-type]
            'Could not connect to the endpoint URL: "https://s3.amazonaws.com/b"'),
        named("ServiceRequestError", named("AzureError"))("no response"),  # type: ignore[arg-type]
        named("HttpError")("Required 'storage.objects.get', 503"),
        NewConnectionError(None, "Failed: [Errno -3] Temporary failure in name resolution"),  # type: ignore[arg-type]
        OSError("We couldn't connect to 'https://huggingface.co' to load the files"),
        RuntimeError("503 Service Unavailable"),
        wrapped(ConnectionAbortedError("aborted")),
        while_handling(of_disk(errno.ESTALE), AttributeError("'NoneType' has no attribute 'x'")),
        LocalEntryNotFoundError("cannot find the requested files in the local cache"),
        answer(429, "Too Many Requests"),
        answer(500, "Internal Server Error"),
        answer(503, "Service Unavailable"),
        named("HTTPError")("429 Client Error: Too Many Requests for url: https://huggingface.co"),
        caused(errors.ModelError("cannot be loaded", model="org/m"), answer(503, "")),
        caused(errors.ModelError("cannot be loaded", model="org/m"), answer(429, "")),
        caused(errors.ModelError("cannot be loaded", model="org/m"),
               ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
        caused(errors.ModelError("cannot be loaded", model="/nfs/m"), of_disk(errno.ESTALE)),
        caused(errors.ModelError("its tokenizer cannot be loaded", model="org/m"),
               caused(OSError("We couldn't connect to 'https://huggingface.co' to load the files, "
                              "and couldn't find them in the cached files."),
                      LocalEntryNotFoundError("not in the cache"))),
        caused(DataError("cannot be read", task="xnli"),
               named("ConnectError")("[Errno -3] Temporary failure in name resolution")),
        caused(DataError("cannot be read", task="xnli"), named("ReadTimeout")("timed out")),
        named("ProtocolError")("IncompleteRead(1024 bytes read, 4096 more expected)"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        RuntimeError("HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded"),
        FileNotFoundError(2, "No such file or directory", "/mnt/preemptible/stages/x"),
        PermissionError(errno.EACCES, "Permission denied", "/scratch/out of memory/x"),
        http.client.BadStatusLine(""),
        named("ServerDisconnectedError")("Server disconnected"),
        named("ReadTimeoutError")("HTTPSConnectionPool(host='x', port=443): Read timed out."),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("database is locked"),
        named("OperationalError")("server closed the connection unexpectedly"),
    ],
    "bug": [
        KeyError("labels"),
        AttributeError("'NoneType' object has no attribute 'shape'"),
        TypeError("forward() got an unexpected keyword argument"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (16x768 and 512x2)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        AssertionError(),
        ModuleNotFoundError("No module named 'deepspeed'"),
        errors.StageConflict("made twice with different bits", key="ab" * 32),
        rayed.RuntimeEnvSetupError("pip install failed"),
        rayed.RayActorError(error_msg="The actor died because of an error raised in its creation "
                            "task, ImportError: libtorch.so"),
        TrialFailure("no dev score in sw", cause="bug"),
        wrapped(ValueError("too many values to unpack")),
        caused(RuntimeError("the stage cannot be made"), KeyError("labels")),
        KeyError("preemption_policy"),
        KeyError("SIGTERM"),
        KeyError("out of memory"),
        AttributeError("'Trial' object has no attribute 'preempted'"),
        ModuleNotFoundError("No module named 'preempt'"),
        RuntimeError("expected scalar type Float but found BFloat16"),
        RuntimeError("cannot open /mnt/preemptible/checkpoints: format is unknown"),
        rayed.RayActorError(error_msg="The actor died because of an error raised in its creation "
                            "task, File /mnt/preemptible/x.py, ImportError: libtorch.so"),
        errors.XltError("unknown schedule 'no space left on device'"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling cublasSgemm("),
        RuntimeError("CUDA error: invalid configuration argument"),
    ],
}  # fmt: skip
EXAMPLES = [(cause, error) for cause, errors in CASES.items() for error in errors]


@pytest.mark.parametrize(
    ("cause", "error"),
    EXAMPLES,
    ids=[f"{cause}-{type(error).__name__}" for cause, error in EXAMPLES],
)
def test_an_exception_has_a_cause(cause: str, error: BaseException) -> None:
    assert cause_of(error) == cause
    failure = classify(error)
    assert failure.cause == cause
    assert failure.is_of_process == (cause in OF_PROCESSES)
    assert len(failure.message.splitlines()) == 1


def test_every_cause_and_every_rule_has_an_example() -> None:
    assert set(CASES) == set(CAUSES)
    for rule in RULES:
        assert any(rule.matches(error) for error in CASES[rule.cause]), rule


def test_the_message_is_that_of_the_worker_not_of_ray() -> None:
    failure = classify(wrapped(ValueError("too many values\nand more")))
    assert failure.message == "ValueError: too many values"


def test_a_failure_without_a_message_says_so() -> None:
    assert classify(AssertionError()).message == "AssertionError: no message"


def test_the_log_is_the_end_of_the_traceback() -> None:
    try:
        raise KeyError("x") from ValueError("y" * 10 + "\n" * 100)
    except KeyError as error:
        lines = classify(error).log.splitlines()
    assert len(lines) == LOG_LINES
    assert lines[-1] == "KeyError: 'x'"


def test_a_suppressed_exception_is_not_a_cause() -> None:
    error = while_handling(MemoryError(), ValueError("x"))
    assert cause_of(error) == "oom"
    error.__suppress_context__ = True
    assert cause_of(error) == "bug"


def test_a_cycle_of_exceptions_ends() -> None:
    first, second = ValueError("x"), KeyError("y")
    first.__cause__, second.__cause__ = second, first
    assert cause_of(first) == "bug"


def test_a_group_of_exceptions_fails_for_what_is_in_it() -> None:
    assert cause_of(ExceptionGroup("several", [ValueError("x"), MemoryError()])) == "oom"


def test_a_cause_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TrialFailure("the loss is nan", cause="nan")))
    assert cause_of(error) == "nan"


def test_an_unknown_named_cause_is_ignored() -> None:
    assert cause_of(TrialFailure("x", cause="gremlins")) == "bug"


def test_a_full_disk_is_distinguished_from_other_file_errors() -> None:
    assert all(is_disk_full(error) for error in CASES["disk"])
    assert not any(is_disk_full(error) for error in (*CASES["storage"], *CASES["bug"]))


def test_a_bug_is_identified_by_place_and_message() -> None:
    log = '  File "a.py", line 3, in load\n    raise\n  File "b.py", line 7, in open\n    raise\n'
    elsewhere = log.replace("line 7", "line 8")
    assert bug_signature("KeyError: 'x'", log) == "b.py:7 in open: KeyError: 'x'"
    assert bug_signature("KeyError: 'x'", log) != bug_signature("KeyError: 'x'", elsewhere)
    assert bug_signature("KeyError: 'x'", log) != bug_signature("KeyError: 'y'", log)
    assert bug_signature("KeyError: 'x'", "no traceback") == "KeyError: 'x'"


# -- retries ---

DIED = rayed.ActorDiedError()
TAKEN = rayed.RayActorError(error_msg="its node is gone", preempted=True)
STAGE = Report("stage", nodes=("a",))
HANG = """watched thread: 0x1
Timeout (0:30:00)!
Thread 0x1 (most recent call first):
  File "a.py", line 3 in wait
"""


def hang(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    hang_file(folder, number, 0).write_text(HANG)


def test_a_lost_process_is_replaced_within_its_policy(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(), tmp_path)
    first = failures.on_process_end(3, DIED)
    assert first is not None
    assert (first.kind, first.cause) == ("lost", "lost")
    assert failures.on_process_end(3, LeaseLost("gone", key="k")) is not None
    assert failures.on_process_end(3, DIED) is None
    final_report = failures.final_report(3)
    assert final_report is not None
    assert (final_report.kind, final_report.cause) == ("failed", "lost")
    assert final_report.message.endswith("(attempts in this run: 3)")


def test_no_cause_or_trial_uses_up_the_attempts_of_another(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(lost=Policy(action="retry", times=1)), tmp_path)
    for _ in range(5):
        assert failures.on_process_end(3, TAKEN) is not None
    assert failures.on_process_end(3, DIED) is not None
    assert failures.on_process_end(4, DIED) is not None, "another trial"
    hang(tmp_path, 3)
    assert failures.on_process_end(3, DIED) is not None
    assert failures.on_process_end(3, DIED) is None


def test_attempts_in_one_process_count_for_the_next(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(oom=Policy(action="shrink", times=3)), tmp_path)
    oom = Report("failed", cause="oom", remedy="with 8 sequences")
    for _ in range(2):
        assert failures.on_failed_attempt(3, oom) is not None
    failures.on_failed_attempt(3, Report("failed", cause="storage"))
    failures.on_failed_attempt(4, oom)
    # Ray ends a process for the memory of its machine.
    assert failures.on_process_end(3, rayed.OutOfMemoryError("x")) is not None
    assert failures.on_process_end(3, rayed.OutOfMemoryError("x")) is None


def test_a_hang_is_distinguished_from_a_killed_process(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(), tmp_path)
    hang(tmp_path, 3)
    report = failures.on_process_end(3, DIED)
    assert report is not None
    assert report.cause == "timeout"
    assert "a.py" in report.log
    assert report.message == "nothing happened for 0:30:00: in wait (a.py:3)"
    hang(tmp_path, 3)
    assert failures.on_process_end(3, DIED) is None
    final_report = failures.final_report(3)
    assert final_report is not None
    assert (final_report.cause, final_report.log) == ("timeout", report.log)
    assert "2" in final_report.message


def test_a_process_without_an_error_was_lost(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(lost=Policy(action="fail")), tmp_path)
    assert failures.final_report(1) is None
    assert failures.on_process_end(1, None) is None
    final_report = failures.final_report(1)
    assert final_report is not None
    assert final_report.cause == "lost"


def device_error(node: str) -> RuntimeError:
    error = RuntimeError("CUDA error: unspecified launch failure")
    with contextlib.suppress(RuntimeError), noting_node(lambda: node):
        raise error
    return error


def test_a_node_with_repeated_device_failures_is_excluded(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(), tmp_path)
    for number in range(2):
        failures.on_process_end(number, device_error("a"))
        failures.on_process_end(number, device_error("b"))
    assert failures.left_nodes == ()
    failures.on_process_end(2, device_error("a"))
    assert failures.left_nodes == ("a",)
    failures.on_process_end(2, device_error("a"))
    failures.on_process_end(3, device_error("b"))
    assert failures.left_nodes == ("a", "b")


def test_a_stage_made_on_a_node_clears_its_failures(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(leave_node_after=2), tmp_path)
    for number in range(4):
        failures.on_process_end(number, device_error("a"))
        failures.note_made(STAGE)
    failures.on_process_end(5, device_error("a"))
    failures.note_made(replace(STAGE, nodes=("b",)))
    failures.on_process_end(6, device_error("a"))
    assert failures.left_nodes == ("a",)


def test_only_failures_of_a_device_count_against_their_node(tmp_path: Path) -> None:
    failures = ProcessFailures(Failures(leave_node_after=1), tmp_path)
    lost = LeaseLost("gone", key="k")
    with contextlib.suppress(LeaseLost), noting_node(lambda: "a"):
        raise lost
    failures.on_process_end(0, lost)
    failures.on_process_end(1, RuntimeError("CUDA error: unspecified launch failure"))
    failures.on_process_end(2, DIED)
    assert failures.left_nodes == ()


# -- hangs ---

HANGING = """
import ctypes, sys, threading
from pathlib import Path
from xlt_ray.sweep.failures import Watchdog, hang_file

def serve():
    threading.Event().wait()

def wait_with_the_lock():
    ctypes.PyDLL(None).pause()

def work():
    threading.Thread(target=serve, daemon=True).start()
    with Watchdog(hang_file(Path(sys.argv[1]), 7, 0), 0.2):
        wait_with_the_lock()

threading.Thread(target=work, daemon=True).start()
serve()
"""


def test_a_hanging_process_ends_and_its_traceback_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "hangs" / "small"
    ended = subprocess.run([sys.executable, "-c", HANGING, str(folder)], timeout=60, check=False)
    assert ended.returncode == 1
    assert read_hang_report(folder, 70) is None
    failure = read_hang_report(folder, 7)
    assert failure is not None
    assert failure.cause == "timeout"
    assert failure.is_of_process
    assert failure.message == "nothing happened for 0:00:00: in wait_with_the_lock (<string>:10)"
    assert failure.log.splitlines()[-1].endswith("in wait_with_the_lock")
    assert "in serve" not in failure.log
    assert read_hang_report(folder, 7) is None
    assert list(folder.iterdir()) == []


def test_a_block_that_ends_in_time_leaves_no_file(tmp_path: Path) -> None:
    file = hang_file(tmp_path, 3, 0)
    watchdog = Watchdog(file, 3600)
    for _ in range(3):
        with watchdog:
            pass
    watchdog.close()
    watchdog.close()
    assert not file.exists()


def test_a_killed_process_leaves_no_hang_report(tmp_path: Path) -> None:
    hang_file(tmp_path, 3, 0).touch()
    assert read_hang_report(tmp_path, 3) is None
    assert list(tmp_path.iterdir()) == []
    assert read_hang_report(tmp_path / "missing", 1) is None


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_the_log_shows_every_worker_that_hung(tmp_path: Path, num_workers: int) -> None:
    for rank in range(num_workers):
        lines = range(rank, rank + 50)
        frames = "".join(f'  File "/x/loop.py", line {line} in train\n' for line in lines)
        hang_file(tmp_path, 5, rank).write_text(
            "watched thread: 0x2\nTimeout (0:30:00)!\nThread 0x01 (most recent call first):\n"
            '  File "/x/beat.py", line 1 in beat\n\n'
            f"Thread 0x02 (most recent call first):\n{frames}"
        )  # fmt: skip
    failure = read_hang_report(tmp_path, 5)
    assert failure is not None
    ranks = ", ".join(f"train (loop.py:{rank})" for rank in range(num_workers))
    assert failure.message == f"nothing happened for 0:30:00: in {ranks}"
    for rank in range(num_workers):
        assert f"worker-{rank} (most recent call last):" in failure.log
        assert f"line {rank} in train\n" in failure.log + "\n"
    assert len(failure.log.splitlines()) <= LOG_LINES + num_workers
