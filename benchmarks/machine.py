"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

import numpy as np


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
    done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def describe() -> dict[str, Any]:
    """The machine, its BLAS, the date, and how busy it was when this was called."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = _first("/proc/cpuinfo", "model name")
    family, model = _first("/proc/cpuinfo", "cpu family"), _first("/proc/cpuinfo", "model\t")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{cpu} (family {family}, model {model})" if cpu != "unknown" else platform.processor(),
        "processors": processors,
        "memory": _first("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "blas of numpy": f"{blas['name']} {blas['version']}",
        "gpus": gpu_names(),
        "load average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }
