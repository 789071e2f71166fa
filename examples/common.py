"""What the examples share: a command line, the choice of the backend, and a check that ends a wrong result loudly."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xpnet

MNIST = Path(__file__).resolve().with_name("data") / "mnist"
"""The folder with the four files of MNIST, wherever the example is started from."""


def arguments(
    description: str, choices: Mapping[str, Sequence[str]] | None = None, shared: bool = False, **sizes: float
) -> argparse.Namespace:  # fmt: skip
    """Read the command line: ``--backend``, ``--plots``, and a number for each of `sizes`, such as ``--epochs``.

    `choices` are words to choose from by a flag of that name, such as ``--network``; the first one is the default.
    Returns a namespace with the sizes, with `backend` as an `xpnet.backends.Backend`, with the folder `plots` or None,
    and with `full`: whether no size was made smaller than its default. At a smaller size a result is only expected to
    be on its way. A `shared` example has ``--parallel``, too, and `parallel` is an `xpnet.parallel.MPI` or None;
    `first` is true in the one of the processes that prints.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    known = "numpy (default), cupy, cupy:1 for the second GPU, torch, torch:cuda, torch:mps, torch:xpu, or auto"
    parser.add_argument("--backend", default="numpy", help=known)
    for name, words in (choices or {}).items():
        parser.add_argument(f"--{name}", choices=words, default=words[0], help=f"{words[0]} by default")
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=type(size), default=size, metavar="N", help=f"{size} by default")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw pictures into this folder; needs matplotlib")
    if shared:
        parser.add_argument("--parallel", choices=["mpi"], help="share the training with the processes of mpiexec")
    args = parser.parse_args()
    if shared and args.parallel:
        args.parallel = xpnet.parallel.MPI()
    args.first = not shared or args.parallel is None or args.parallel.rank == 0
    for name, size in sizes.items():
        least = 1 if isinstance(size, int) else 0.001
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(args, name)}")
    args.full = all(getattr(args, name) >= size for name, size in sizes.items())
    args.backend = choose(args.backend)
    if args.plots is not None:
        prepare_plots(args.plots)
    return args


def prepare_plots(folder: Path) -> None:
    """Make the folder, or end the program with one sentence if that or matplotlib is not possible."""
    try:
        import matplotlib

        matplotlib.use("agg")  # files, no windows
        folder.mkdir(parents=True, exist_ok=True)
    except ImportError:
        sys.exit('--plots needs matplotlib, which is not installed. Install it: pip install "xpnet[plot]"')
    except OSError as error:
        sys.exit(f"--plots {folder}: {error.strerror}")


def draw(args: argparse.Namespace, pictures: Callable[[Any], Mapping[str, Any]]) -> None:
    """With ``--plots``, save pictures: `pictures` is called with the module `xpnet.plots` and returns axes by name."""
    if args.plots is None:
        return
    from xpnet import plots

    for name, ax in pictures(plots).items():
        path = args.plots / f"{Path(sys.argv[0]).stem}_{name}.png"
        ax.figure.savefig(path, dpi=150)
        print(f"picture: {path}")


def bars(values: Mapping[str, float] | Iterable[tuple[str, float]], form: str = "6.2f", width: int = 40) -> None:
    """Print a bar for each value, for those who have no pictures."""
    rows = dict(values)
    largest = max(map(abs, rows.values())) or 1.0
    for label, value in rows.items():
        print(f"{label}: {value:{form}} {'#' * round(width * abs(value) / largest)}".rstrip())


def choose(name: str) -> xpnet.backends.Backend:
    """Return the backend called `name`, or end the program with the one sentence that says what is missing."""
    try:
        backend = xpnet.backends.get(name)
    except (xpnet.errors.BackendUnavailableError, xpnet.errors.ConfigError) as error:
        sys.exit(str(error))
    if name == "auto":
        missing = xpnet.backends.missing("cupy")
        print(f"backend auto: {backend.name} is used" + (f" ({missing})" if missing else ""))
    return backend


def require(claim: str, true: bool) -> None:
    """Print the claim, or end the program with an error if it is not true."""
    if not true:
        sys.exit(f"NOT TRUE: {claim}")
    print(f"checked: {claim}")
