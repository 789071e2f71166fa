"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from xpnet.backends.cpu import openblas


def _first(path: str, key: str) -> str:
    try:
        with open(path) as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith(key))
    except (OSError, StopIteration):
        return "unknown"


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs and their driver, if the driver's own tool is there."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def busy_seconds(pid: int | None = None) -> float | None:
    """Processor seconds used so far by the whole machine, stolen ones included, or by process `pid`; Linux only."""
    try:
        tick = os.sysconf("SC_CLK_TCK")
        if pid is not None:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            return sum(map(int, fields[11:15])) / tick  # user and system, its own and its ended children's
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, soft, stolen = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + soft + stolen) / tick
    except (OSError, ValueError, AttributeError):
        return None


class Intruders:
    """How many processors other programs kept busy, on average, from construction to `share()`."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._start = (time.perf_counter(), *self._clocks())

    def _clocks(self) -> tuple[float | None, float]:
        return busy_seconds(), sum(busy_seconds(pid) or 0.0 for pid in self._pids)

    def share(self) -> float | None:
        """Processors' worth of other work; None where the machine does not tell."""
        then, all_then, own_then = self._start
        all_now, own_now = self._clocks()
        if all_now is None or all_then is None:
            return None
        others = (all_now - all_then) - (own_now - own_then)
        return round(max(0.0, others / (time.perf_counter() - then)), 2)


def neighbour() -> subprocess.Popen[bytes]:
    """Start a program that keeps one processor busy, the second that systems are bound to, until it is killed."""
    bound = "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2][-1:])"
    return subprocess.Popen([sys.executable, "-c", f"{bound}\nwhile True: pass"])


def describe() -> dict[str, Any]:
    """The machine, its BLAS, the date, and how busy it was when this was called."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = _first("/proc/cpuinfo", "model name")
    forced, used = os.environ.get("OPENBLAS_CORETYPE"), openblas.of_numpy()
    kernels = used.kernels if used else "unknown"
    family, model = _first("/proc/cpuinfo", "cpu family"), _first("/proc/cpuinfo", "model\t")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{cpu} (family {family}, model {model})" if cpu != "unknown" else platform.processor(),
        "processors": processors,
        "memory": _first("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "blas of numpy": f"{blas['name']} {blas['version']}",
        "kernels of the blas": kernels + (f" (OPENBLAS_CORETYPE={forced})" if forced else ""),
        "gpus": gpu_names(),
        "load average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }
