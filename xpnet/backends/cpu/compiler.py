"""Compiling small functions of machine code by LLVM: each once in a process, and given back when nobody has it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary, finalize

import llvmlite.binding as llvm
from llvmlite import ir

from xpnet.backends.cpu.functions import Code, Table


class Engine:
    """What the code of functions that were compiled together lives in: it is given back when none of them is left.

    LLVM's own objects have to go in order. Where they are part of a cycle the garbage collector takes any order.
    """

    def __init__(self, engine: Any, context: Any) -> None:
        finalize(self, _give_back, engine, context).atexit = False  # threads that help may still be inside


def _give_back(engine: Any, context: Any) -> None:
    engine.close()
    context.close()


@dataclass(frozen=True)
class Function:
    """The address of a compiled function, and what its code lives in."""

    address: int
    engine: Engine


class Compiler:
    """Compiles codes that it has not compiled yet.

    A process that forks waits until what is being compiled is done, which is soon: so the child finds LLVM and the lock
    as they are between two calls.
    """

    def __init__(self) -> None:
        self._functions: WeakValueDictionary[Code, Function] = WeakValueDictionary()
        # Whoever trains the same network again, a moment after the last one is gone, need not wait.
        self._recent: deque[list[Function]] = deque(maxlen=16)
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            release = self._lock.release
            os.register_at_fork(before=self._lock.acquire, after_in_parent=release, after_in_child=release)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._processor = {"cpu": llvm.get_host_cpu_name(), "features": llvm.get_host_cpu_features().flatten()}

    def __call__(self, codes: Sequence[Code]) -> list[Function]:
        """Return the function of each code. New ones are compiled together, which takes half the time."""
        with self._lock:
            found = {code: self._functions.get(code) for code in codes}
            missing = [code for code, function in found.items() if function is None]
            for wide in (True, False):
                new = [code for code in missing if code.wide == wide]
                found |= zip(new, self._compile(new, wide) if new else [], strict=True)
            functions: list[Function] = [found[code] for code in codes]  # type: ignore[misc]
            self._functions.update(zip(codes, functions, strict=True))
            if missing:
                self._recent.append(functions)
        return functions

    def lacks(self, codes: Sequence[Code]) -> bool:
        """Say whether there is a code that it has not compiled yet."""
        return any(code not in self._functions for code in codes)

    def _compile(self, codes: Sequence[Code], wide: bool) -> list[Function]:
        written, names = ir.Module(context=ir.Context()), [f"run{k}" for k in range(len(codes))]
        for name, code in zip(names, codes, strict=True):
            table = Table(written, name)
            code.write(table, table.builder)
            table.builder.ret_void()
        context = llvm.create_context()
        module = llvm.parse_assembly(str(written), context)
        machine = llvm.Target.from_default_triple().create_target_machine(**self._processor, opt=2)
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization, options.loop_unrolling, options.slp_vectorization = wide, False, False
        passes = llvm.create_pass_builder(machine, options)
        manager = passes.getModulePassManager()
        manager.run(module, passes)
        with contextlib.suppress(AttributeError):  # its classes are in the order in which it is never given back
            super(llvm.ffi.ObjectRef, manager)._dispose()  # type: ignore[misc]
            manager.detach()
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        owner = Engine(engine, context)
        return [Function(engine.get_function_address(name), owner) for name in names]


compiled = Compiler()
