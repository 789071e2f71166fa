"""Products of matrices by one thread, of OpenBLAS and in xpnet's own code: `python benchmarks/products.py`.

It needs the extra fast. A figure is billions of operations a second, float32, the median of rounds that take turns.
Where xpnet leaves a product to OpenBLAS, or has not its bits, both figures are of the same calls.
"""

from __future__ import annotations

import time
from statistics import median
from unittest import mock

import numpy as np

from xpnet.backends.cpu import borrowed
from xpnet.backends.cpu.chain import Chain, Task
from xpnet.backends.tape.layout import example

# Rows, sums, columns; strides of both factors and of the result, in numbers.
PRODUCTS = {
    "128 x 784 times 784 x 128, a tile of a first layer": (128, 784, 128, (784, 1), (512, 1), 512),
    "128 x 512 times 512 x 128, transposed (dx)": (128, 512, 128, (512, 1), (1, 512), 512),
    "192 x 128, transposed, times 128 x 512 (dW)": (192, 128, 512, (1, 784), (512, 1), 512),
    "64 x 784 times 784 x 32": (64, 784, 32, (784, 1), (32, 1), 32),
    "200 x 784 times 784 x 100": (200, 784, 100, (784, 1), (100, 1), 100),
    "1024 x 48 times 48 x 16, patches of 16 channels": (1024, 48, 16, (48, 1), (16, 1), 16),
    "1024 x 2048 times 2048 x 512": (1024, 2048, 512, (2048, 1), (2048, 1), 2048),
}
ROUNDS, SECONDS = 15, 0.02


def main() -> None:
    """Print a table."""
    print("| product | OpenBLAS | here |\n| --- | ---: | ---: |")
    for name, (rows, inner, columns, left, right, onward) in PRODUCTS.items():
        rng = np.random.default_rng(0)
        lie = (rows, inner, left), (inner, columns, right), (rows, columns, (onward, 1))
        a, b, out = (example(rng, "f", (m, n), (4 * down, 4 * across)) for m, n, (down, across) in lie)
        with mock.patch.object(borrowed, "own", return_value=None):
            by_openblas = borrowed.product(a, b, out)
        both = by_openblas, borrowed.product(a, b, out)
        chains = [Chain([Task([[piece for piece in made if piece]])]) for made in both]
        operations = 2e-9 * rows * inner * columns
        found: tuple[list[float], list[float]] = ([], [])
        times = max(1, int(SECONDS * 100 / operations))
        for _ in range(ROUNDS):
            for chain, figures in zip(chains, found, strict=True):
                began = time.perf_counter()
                chain(times)
                figures.append(times * operations / (time.perf_counter() - began))
        print(f"| {name} | {median(found[0]):.0f} | {median(found[1]):.0f} |", flush=True)


if __name__ == "__main__":
    main()
