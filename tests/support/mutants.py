"""Changed copies of xpnet, and whether tests notice: `python tests/support/mutants.py COUNT SEED MINUTES [ROOM]`.

Draws changes of one place of a module at random, of all rooms or of those whose name begins with ROOM, and runs the
test files named for its room on a copy of the repository, one after another. Prints each change that is not noticed,
and the counts by room.
"""

import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = {  # the first that fits counts
    "backends/cpu/gemm": ["backends/test_gemm.py"],
    "backends/cpu/own": ["backends/test_gemm.py"],
    "backends/cpu": [
        "backends/test_loops.py", "backends/test_chain.py", "backends/test_replay.py", "backends/test_openblas.py",
        "backends/test_blocks.py", "backends/test_compiling.py", "backends/test_recorded_layers.py",
        "backends/test_threads.py",
    ],
    "backends/tape": [
        "backends/test_tape.py", "backends/test_replay.py", "backends/test_blocks.py", "backends/test_loops.py",
        "backends/test_cuda_kernels.py", "backends/test_recorded_layers.py",
    ],
    "backends/cuda": ["backends/test_cublas.py", "backends/test_cuda_kernels.py", "backends/test_cuda_program.py"],
    "layers/sequence": ["layers/test_sequence.py", "gradients/test_nested_networks.py", "inspection"],
    "layers/augmentation": ["layers/test_augmentation.py", "layers/test_contract.py"],
    "layers/normalization": ["layers/test_normalization.py", "training/test_statistics.py", "layers/test_contract.py"],
    "layers/layernorm": ["layers/test_normalization.py", "layers/test_contract.py"],
    "layers": [
        "layers/test_convolution.py", "layers/test_pooling.py", "layers/test_contract.py", "layers/test_sequence.py",
        "gradients/test_hyperparameters.py", "gradients/test_closed_forms.py", "training/test_promises.py",
    ],
    "losses": ["layers/test_losses.py", "layers/test_distributions.py", "gradients/test_closed_forms.py"],
    "optimizers": ["layers/test_optimizers.py", "gradients/test_optimizers.py"],
    "schedules": ["layers/test_schedules.py"],
    "initializers": ["layers/test_initializers.py"],
    "gradcheck": ["gradients/test_gradcheck.py", "gradients/test_gradcheck_users.py"],
    "inspection": ["inspection"],
    "files": ["files"],
    "saving/onnx": ["saving/test_onnx.py", "saving/test_onnx_tracing.py"],
    "saving": ["saving/test_checkpoint.py", "saving/test_nested_files.py"],
    "datasets": ["datasets"],
    "model": ["model"],
    "training": [
        "training/test_steps.py", "training/test_training.py", "training/test_statistics.py",
        "training/test_callbacks.py", "training/test_metrics.py", "training/test_promises.py",
        "training/test_mixedprecision.py",
    ],
}  # fmt: skip
OTHER = {  # an operator, and what stands in its place
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip


def changes(tree):
    """Yield pairs of a node and a node in its place: operators, numbers, flags, signs, branches, keywords."""
    texts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        fields = {name: value for name, value in ast.iter_fields(node) if name != "ctx"}
        make = type(node)
        if id(node) in texts:
            continue
        if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OTHER:
            yield node, make(**{**fields, "op": OTHER[type(node.op)]()})
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
            yield node, make(**{**fields, "ops": [OTHER[type(node.ops[0])](), *node.ops[1:]]})
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield node, ast.Constant(not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, ast.Constant(node.value + 1)
        elif isinstance(node, ast.UnaryOp):
            yield node, node.operand
        elif isinstance(node, ast.IfExp):
            yield node, node.body
            yield node, node.orelse
        elif isinstance(node, ast.Call) and node.keywords:
            yield node, make(**{**fields, "keywords": node.keywords[1:]})
        elif isinstance(node, ast.If) and not node.orelse:
            yield node, ast.Pass()


def changed(source, old, new):
    """Return the source with one node in place of another, everything else as it was."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: old.lineno - 1])) + old.col_offset
    end = sum(map(len, lines[: old.end_lineno - 1])) + old.end_col_offset
    text = ast.unparse(ast.fix_missing_locations(new))
    text = text if isinstance(old, ast.stmt) else f"({text})"
    return (b"".join(lines)[:start] + text.encode() + b"".join(lines)[end:]).decode()


def draw(rng, count, wanted):
    """Return so many changes: the file, its room, the place, and what stands there instead."""
    found = []
    for path in sorted((ROOT / "xpnet").rglob("*.py")):
        name = path.relative_to(ROOT / "xpnet").with_suffix("").as_posix()
        room = next((room for room in TESTS if name == room or name.startswith(f"{room}/")), None)
        if room is None or not room.startswith(wanted):
            continue
        source = path.read_text()
        found += [(path, room, old, new) for old, new in changes(ast.parse(source)) if hasattr(old, "lineno")]
    print(f"{len(found)} changes, of which {count} are drawn", flush=True)
    return rng.sample(found, count)


def noticed(folder, tests):
    """Run tests on a copy."""
    options = ["-n", "0", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def main():
    count, seed, minutes = map(int, sys.argv[1:4])
    wanted = "".join(sys.argv[4:])
    rng, end = random.Random(seed), time.monotonic() + 60 * minutes
    tried, caught = Counter(), Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy"
        shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*cache"))
        for path, room, old, new in draw(rng, count, wanted):
            if time.monotonic() > end:
                break
            copy, source = folder / path.relative_to(ROOT), path.read_text()
            copy.write_text(changed(source, old, new))
            tried[room] += 1
            if noticed(folder, TESTS[room]):
                caught[room] += 1
            else:
                was, now = (ast.unparse(node).splitlines()[0][:90] for node in (old, ast.fix_missing_locations(new)))
                print(f"{path.relative_to(ROOT)}:{old.lineno}: {was}  ->  {now}", flush=True)
            copy.write_text(source)
            print(f"  {sum(caught.values())} of {sum(tried.values())}", flush=True)
    for room, total in sorted(tried.items()):
        print(f"{room:24} {total:4} {caught[room]:4}")


if __name__ == "__main__":
    main()
