"""The cause of a failure is read from what Ray, PyTorch, DeepSpeed, MLflow and stores raise."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sqlite3
from collections.abc import Callable

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
from xlt_ray.config.retry_policy import CAUSES, OF_PROCESSES
from xlt_ray.errors import DataError, TrialFailure
from xlt_ray.sweep.failures import LOG_LINES, RULES, bug_signature, cause_of, classify, is_disk_full


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
        torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't "
                     "allocate memory: you tried to allocate 68719476736 bytes. Error code 12"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("float32")),
        of_disk(errno.ENOMEM),
        rayed.OutOfMemoryError("Task was killed due to the node running low on memory."),
        rayed.RayActorError(error_msg="The actor is dead because its worker process was killed due "
                            "to the node running low on memory."),
        wrapped(torch.OutOfMemoryError("CUDA out of memory.")),
        while_handling(torch.OutOfMemoryError("CUDA out of memory."), KeyError("optimizer")),
        caused(RuntimeError("the engine cannot be made"), MemoryError()),
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
        caused(MlflowException("logging failed"), of_disk(errno.ENOSPC)),
        while_handling(of_disk(errno.ENOSPC), ValueError("I/O operation on closed file")),
    ],
    "preempted": [
        rayed.RayActorError(error_msg="The actor died.", preempted=True),
        rayed.RayActorError(error_msg="The actor died because its node was preempted."),
        rayed.NodeDiedError("The node 10.0.0.7 was terminated: spot instance interruption"),
        rayed.NodeDiedError("Node drained after a preemption notice from the cloud provider"),
        rayed.RayActorError(error_msg="Worker exit detail: The process receives a SIGTERM."),
        rayed.RayActorError(error_msg="Actor died by preemption."),
        RuntimeError("worker 1 exited with exit code 143"),
        named("NodePreemptedError")("10.0.0.9"),
        wrapped(rayed.RayActorError(error_msg="The actor died.", preempted=True)),
    ],
    "lost": [
        rayed.ActorDiedError(),
        rayed.RayActorError(error_msg=KILLED),
        rayed.ActorUnavailableError("RpcError: keepalive watchdog timeout", b"x" * 16),
        rayed.WorkerCrashedError(),
        rayed.NodeDiedError("The node 10.0.0.7 is dead: health check failed"),
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
        wrapped(errors.LeaseLost("its lease passed to another process", key="ab" * 32)),
        RuntimeError("NCCL communicator was aborted on rank 3."),
        RuntimeError("NCCL Error 3: internal error - please report this issue"),
        RuntimeError("ncclInternalError: Internal check failed."),
        RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error"),
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
        OSError(errno.EADDRINUSE, "Address already in use"),
        named("RendezvousTimeoutError")("rendezvous timed out"),
        rayed.RaySystemError("System error: Failed to connect to GCS within 60 seconds."),
        rayed.RaySystemError("GCS server is unavailable"),
        rayed.ObjectLostError("ff" * 28, b"", ""),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        rayed.TaskPlacementGroupRemoved(),
    ],
    "device": [
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        named("AcceleratorError", RuntimeError)("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: uncorrectable NVLink error detected during the execution"),
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
        wrapped(RuntimeError("CUDA error: uncorrectable ECC error encountered")),
        while_handling(RuntimeError("CUDA error: unspecified launch failure"), KeyError("x")),
    ],
    "timeout": [
        TrialFailure("2 workers did not answer for 1860 s", cause="timeout"),
        RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for "
                     "recv operation to complete"),
        named("DistBackendError", RuntimeError)(
            "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)"),
        named("DistStoreError", RuntimeError)("wait timeout after 300000ms, keys: /default_pg/0"),
        rayed.GetTimeoutError("Get timed out: some object(s) not ready."),
    ],
    "tracking": [
        errors.TrackingError("the server is gone", uri="http://localhost:5000"),
        MlflowException("API request to endpoint /api/2.0/mlflow/runs/log-batch failed"),
        RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"}),
    ],
    "data": [
        DataError("has no training data", task="nli", language="sw", split="train"),
        errors.ForbiddenLabels("is no split that selects", task="nli", language="sw"),
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
    ],
    "nan": [
        TrialFailure("target nli 100: the loss is nan at step 3", cause="nan"),
        wrapped(TrialFailure("target nli 100: the loss is inf at step 3", cause="nan")),
        FloatingPointError("overflow encountered in multiply"),
        RuntimeError("Function 'LogSoftmaxBackward0' returned nan values in its 0th output."),
        RuntimeError("The total norm of order 2.0 for gradients from `parameters` is non-finite, "
                     "so it cannot be clipped."),
        Exception("Current loss scale already at minimum - cannot decrease scale anymore. "),
        ValueError("Input contains NaN."),
        RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"),
        ValueError("gradients are nan at step 12"),
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
    ],
    "bug": [
        KeyError("labels"),
        AttributeError("'NoneType' object has no attribute 'shape'"),
        TypeError("forward() got an unexpected keyword argument"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (16x768 and 512x2)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        IndexError("index out of range in self"),
        AssertionError(),
        ZeroDivisionError("division by zero"),
        ModuleNotFoundError("No module named 'deepspeed'"),
        NotImplementedError("no such schedule"),
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
        RecursionError("maximum recursion depth exceeded"),
    ],
}  # fmt: skip
TOLD = [(cause, error) for cause, found in CASES.items() for error in found]


@pytest.mark.parametrize(
    ("cause", "error"), TOLD, ids=[f"{cause}-{type(one).__name__}" for cause, one in TOLD]
)
def test_the_cause_of_an_exception_is_told(cause: str, error: BaseException) -> None:
    assert cause_of(error) == cause
    failure = classify(error)
    assert failure.cause == cause
    assert failure.is_of_process == (cause in OF_PROCESSES)
    assert len(failure.message.splitlines()) == 1


def test_there_are_many_examples_of_every_cause() -> None:
    assert set(CASES) == set(CAUSES)
    assert len({(repr(error), repr(error.__cause__)) for _, error in TOLD}) >= 160
    assert {rule.cause for rule in RULES} == set(CAUSES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cause)
def test_every_rule_is_needed_by_an_example(rule: object) -> None:
    assert any(rule.matches(error) for error in CASES[rule.cause])  # type: ignore[attr-defined]


def test_what_a_worker_raised_is_named_and_not_what_ray_wraps_it_in() -> None:
    failure = classify(wrapped(ValueError("too many values\nand more")))
    assert failure.message == "ValueError: too many values"


def test_a_failure_without_words_says_so() -> None:
    assert classify(AssertionError()).message == "AssertionError: no message"


def test_the_log_is_the_end_of_the_traceback() -> None:
    try:
        raise KeyError("x") from ValueError("y" * 10 + "\n" * 100)
    except KeyError as error:
        lines = classify(error).log.splitlines()
    assert len(lines) == LOG_LINES
    assert lines[-1] == "KeyError: 'x'"


def test_what_was_suppressed_is_no_cause() -> None:
    error = while_handling(MemoryError(), ValueError("x"))
    assert cause_of(error) == "oom"
    error.__suppress_context__ = True
    assert cause_of(error) == "bug"


def test_exceptions_that_name_each_other_are_read_once() -> None:
    one, other = ValueError("x"), KeyError("y")
    one.__cause__, other.__cause__ = other, one
    assert cause_of(one) == "bug"


def test_a_group_of_exceptions_fails_for_what_is_in_it() -> None:
    assert cause_of(ExceptionGroup("several", [ValueError("x"), MemoryError()])) == "oom"


def test_a_cause_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TrialFailure("the loss is nan", cause="nan")))
    assert cause_of(error) == "nan"


def test_a_cause_that_nobody_knows_is_looked_for() -> None:
    assert cause_of(TrialFailure("x", cause="gremlins")) == "bug"


def test_a_full_disk_is_told_from_other_trouble_with_files() -> None:
    assert all(is_disk_full(error) for error in CASES["disk"])
    assert not any(is_disk_full(error) for error in (*CASES["storage"], *CASES["bug"]))


def test_bugs_are_alike_by_place_and_message() -> None:
    log = '  File "a.py", line 3, in load\n    raise\n  File "b.py", line 7, in open\n    raise\n'
    elsewhere = log.replace("line 7", "line 8")
    assert bug_signature("KeyError: 'x'", log) == "b.py:7 in open: KeyError: 'x'"
    assert bug_signature("KeyError: 'x'", log) != bug_signature("KeyError: 'x'", elsewhere)
    assert bug_signature("KeyError: 'x'", log) != bug_signature("KeyError: 'y'", log)
    assert bug_signature("KeyError: 'x'", "no traceback") == "KeyError: 'x'"
