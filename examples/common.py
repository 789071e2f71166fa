"""What the examples share: a command line, the choice of the backend, and a check that ends a wrong result loudly."""

import argparse
import os
import sys
from pathlib import Path

# The threads of a matrix product wait for the slowest among them. Where other programs use the processor too, a second
# thread made the small products of these networks up to ten times slower, so one is the default here. OpenBLAS, the
# library in NumPy that multiplies, reads this when NumPy is imported; set the variable yourself to have more threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import xpnet

MNIST = Path(__file__).resolve().with_name("data") / "mnist"
"""The folder with the four files of MNIST, wherever the example is started from."""


def arguments(description: str, **sizes: int) -> argparse.Namespace:
    """Read the command line: ``--backend``, and a whole number for each of `sizes`, such as ``--epochs``.

    Returns a namespace with the sizes, with `backend` as an `xpnet.backends.Backend`, and with `full`: whether no
    size was made smaller than its default. At a smaller size a result is only expected to be on its way.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--backend", default="numpy", help="numpy (default), cupy, cupy:1 for the second GPU, or auto")
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size, metavar="N", help=f"{size} by default")
    args = parser.parse_args()
    for name in sizes:
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    args.full = all(getattr(args, name) >= size for name, size in sizes.items())
    args.backend = choose(args.backend)
    return args


def choose(name: str) -> xpnet.backends.Backend:
    """Return the backend called `name`, or end the program with the one sentence that says what is missing."""
    try:
        backend = xpnet.backends.get(name)
    except (xpnet.errors.BackendUnavailableError, xpnet.errors.ConfigError) as error:
        sys.exit(str(error))
    if name == "auto":
        missing = xpnet.backends.available()["cupy"]
        print(f"backend auto: {backend.name} is used" + (f" ({missing})" if missing else ""))
    return backend


def require(claim: str, true: bool) -> None:
    """Print the claim, or end the program with an error if it is not true."""
    if not true:
        sys.exit(f"NOT TRUE: {claim}")
    print(f"checked: {claim}")
