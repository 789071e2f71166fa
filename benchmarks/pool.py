"""The parent's end of a system's process."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from systems import SYSTEMS

HERE = Path(__file__).resolve().parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # XLA's thread pools
)


class Unavailable(Exception):
    """A system that cannot be measured here, and why."""


class Failed(Exception):
    """A system that was asked to do something and broke."""


def cuda_devices() -> int:
    """How many CUDA devices the driver sees, without loading any library that the benchmark measures."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            driver, count = ctypes.CDLL(name), ctypes.c_int(0)
            if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
                return count.value
    return 0


def why_unavailable(name: str, gpus: int) -> str:
    """Why system `name` cannot be started here; empty when it can."""
    entry = SYSTEMS[name]
    if entry.gpu and gpus == 0:
        return "no CUDA device"
    for package in (entry.package, *entry.needs):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return ""


def environment(name: str, threads: int) -> dict[str, str]:
    """The environment of the system's process: thread counts, and no GPU for the systems that compute on the CPU."""
    entry = SYSTEMS[name]
    values = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), **dict(entry.environment)}
    values["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # or JAX takes three quarters of the GPU from the others
    values.pop("NVIDIA_TF32_OVERRIDE", None)  # it overrules what a system is told of TF32
    if not entry.gpu:
        values["CUDA_VISIBLE_DEVICES"] = ""
        values["JAX_PLATFORMS"] = "cpu"
    return values


class Worker:
    """A process that holds one system. Use it as a context manager; it ends with its input."""

    def __init__(self, name: str, threads: int, tf32: bool, timeout: float = 900.0) -> None:
        self.name, self.timeout = name, timeout
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), name, str(threads), "tf32" if tf32 else "float32"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(name, threads),
        )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises `Unavailable` when the system says that it cannot, `Failed` when it breaks or takes longer than the
        timeout; after the latter the process is gone.
        """
        self.tell(command, **arguments)
        return self.answer(command)

    def tell(self, command: str, **arguments: Any) -> None:
        """Send a command; its `answer` is asked for later, while others do theirs."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps([command, arguments]) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            raise Failed(f"the process has ended: {self._last_words()}") from None

    def answer(self, command: str) -> dict[str, Any]:
        """Wait for the answer to a command, as `ask` does."""
        assert self._process.stdout is not None
        if not self._selector.select(self.timeout):
            self.close(grace=0.0)
            raise Failed(f"no answer to {command!r} in {self.timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the process ended during {command!r}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "not_measured" in answer:
            raise Unavailable(answer["not_measured"])
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"exit status {self._process.poll()}; {lines[-1] if lines else 'no message'}"

    def log(self) -> str:
        """What the process wrote on its error stream."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self, grace: float = 10.0) -> None:
        """End the process: its input closes, and if that is not enough, it is killed."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def import_seconds(name: str, threads: int) -> float:
    """Seconds that the system's import takes in a new interpreter."""
    code = f"import time; a = time.perf_counter(); import {SYSTEMS[name].imports}; print(time.perf_counter() - a)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(name, threads),
        cwd=tempfile.gettempdir(),
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise Failed(f"import failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])
