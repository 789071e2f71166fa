"""Recording a step, so that it can be replayed without allocating or dispatching.

A step that changes its arrays in place and takes no decision by a value does the same operations on the same memory
each time. It is called with arrays that stand in for the caller's and with a namespace that notes every operation.
`xpnet.backends.tape.plan` then gives each intermediate result a place in memory that is kept.

Nothing may be frozen that changes on the host: so the step is recorded twice, and has to be the same both times.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from traceback import walk_tb
from typing import Any

import numpy as np

from xpnet.backends.base import Step
from xpnet.backends.tape.functions import PLACE, Call
from xpnet.backends.tape.namespace import TraceNamespace
from xpnet.backends.tape.operators import CannotRecord, NotRepeated
from xpnet.backends.tape.surroundings import Surroundings
from xpnet.backends.tape.traced import EMPTY, Buffer, Operation, Tape, Traced

__all__ = ["Buffer", "CannotRecord", "NotRepeated", "Operation", "Tape", "Traced", "record"]


def record(step: Step, xp: Any, arrays: Mapping[str, Any], array_type: type = np.ndarray) -> Tape:
    """Return what `step` would do to `arrays`, which stay as they are.

    Parameters
    ----------
    step : callable
    xp : namespace
        The backend's.
    arrays : mapping
    array_type : type
        Of the arrays; those of NumPy are the memory that a replay works on, others have to be put in their places.

    Raises
    ------
    CannotRecord
        The step does something that a recording cannot repeat.
    Exception
        Of any type: what the step itself raises.
    """
    found = Surroundings(step)
    try:
        tape = _record(step, xp, arrays, Tape(array_type))
        once = Surroundings(step)
        if once.keeps:
            raise NotRepeated("an array of the step is kept by what the step calls")
        again = _record(step, xp, arrays, Tape(array_type, before=tape))
        if len(again.operations) < len(tape.operations) or Surroundings(step).facts != once.facts:
            again.not_repeated()
    except BaseException:
        found.restore()
        raise
    _make_changed_anew(tape)
    if tape.on_host:
        _check_selections(tape)
    return tape


def _record(step: Step, xp: Any, arrays: Mapping[str, Any], tape: Tape) -> Tape:
    try:
        tape.given = {name: tape.stand_in(array) for name, array in arrays.items()}
        with np.errstate(all="ignore"):
            step(TraceNamespace(tape, xp), dict(tape.given))
    except Exception:
        if tape.refused is None:
            raise
    if tape.refused is not None:
        raise type(tape.refused)(str(tape.refused), _place(tape.refused)) from None
    return tape


def _place(error: CannotRecord) -> str:
    """Return where outside of xpnet a recording was given up, if it was."""
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("xpnet", "numpy", "array_api_compat"):
            name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
            place = f", in {name} ({PurePath(frame.f_code.co_filename).name}, line {line})"
    return place


def _make_changed_anew(tape: Tape) -> None:
    """Let constants that the step changes be made anew in each step, before they are first used."""
    operations: list[Operation] = []
    for op in tape.operations:
        for a in op.touched():
            buffer = a.buffer
            if buffer.kind == "changed":
                buffer.kind = "result"
                if buffer.fill is not EMPTY:
                    initial = tape.constant(buffer.array.copy()) if buffer.fill is None else buffer.fill
                    whole = Traced(tape, buffer, (), buffer.array)
                    operations.append(Operation("copy", np.copyto, [initial], whole))
        operations.append(op)
    tape.operations = operations


def _check_selections(tape: Tape) -> None:
    """Let NumPy look at selections that may go beyond the end: all but those of rows of the caller by its own numbers.

    These are integers that the caller passes, and sums and selections of them.
    """
    data = {id(a.buffer) for a in tape.given.values()} - {id(op.target.buffer) for op in tape.operations}
    numbers = {id(a.buffer) for a in tape.given.values() if a.dtype == np.int64}
    for op in tape.operations:
        *arrays, target = op.touched()
        if op.kind == "take":
            x, indices = arrays
            within = id(x.buffer) in data and not x.path and id(indices.buffer) in numbers
            if not within and indices.buffer.kind != "constant":
                op.kind, op.function = "other", Call(np.take, (PLACE, PLACE), {"axis": op.options[0]})
            if within and id(x.buffer) in numbers:
                numbers.add(id(target.buffer))
        elif op.function is np.add and all(a.buffer.kind == "constant" or id(a.buffer) in numbers for a in arrays):
            numbers.add(id(target.buffer))
