"""``python -m xpnet``: versions, backends, devices and what is missing, for bug reports.

``python -m xpnet prove --backend cupy`` proves on this machine that a backend computes what it should.
"""

import os
import platform
import sys
from importlib import metadata

import xpnet
from xpnet.backends import describe
from xpnet.prove import main as prove

PACKAGES = (
    "numpy",
    "array-api-compat",
    "rich",
    "pooch",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "torch",
    "llvmlite",
    "scikit-learn",
    "matplotlib",
)


def main() -> None:
    """Print the report."""
    print(f"xpnet {xpnet.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("\nbackends")
    for name, fact in describe().items():
        print(f"  {name:<8} {fact}")
    print("\npackages")
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "not installed"
        print(f"  {name:<18} {version}")


if __name__ == "__main__":
    status = 0
    try:
        if sys.argv[1:2] == ["prove"]:
            status = prove(sys.argv[2:])
        else:
            main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
