"""Loops of machine code for runs of elementwise operations, written and compiled by LLVM."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from xpnet.backends.cpu.chain import Piece, table
from xpnet.backends.tape.fusion import ARITHMETIC, BITWISE, COMPARISONS, loop_dtype, two_dimensional
from xpnet.backends.tape.plan import Memory, Unit, inputs
from xpnet.backends.tape.record import Operation, Traced
from xpnet.typing import HostArray


def uniform(a: Traced) -> bool:
    """Say whether an array is a constant, and the same number everywhere, as the weights of an unweighted mean are."""
    return a.buffer.kind == "constant" and a.size > 0 and a.array.tobytes() == a.array.flat[0].tobytes() * a.size


class Kernel:
    """Writes the loop of one unit.

    Attributes
    ----------
    source : str
        The loop in LLVM's language: a function `run` of a table of addresses. Kernels of the same operations on
        arrays of the same shapes have the same source.
    arrays : list of arrays
        The table's arrays, in order.
    """

    def __init__(self, unit: Unit, memory: Memory, inner: set[int]) -> None:
        from llvmlite import ir

        self.ir = ir
        self.module = ir.Module(name="xpnet")
        self.arrays: list[HostArray] = []
        self._write(unit, memory, inner)
        self.source = str(self.module)

    def type(self, dtype: np.dtype[Any]) -> Any:
        """Return the LLVM type in which a value is computed."""
        if dtype.kind == "f":
            return self.ir.FloatType() if dtype.itemsize == 4 else self.ir.DoubleType()
        return self.ir.IntType(1 if dtype.kind == "b" else 8 * dtype.itemsize)

    def stored(self, dtype: np.dtype[Any]) -> Any:
        """Return the LLVM type in which a value lies in memory."""
        return self.ir.IntType(8) if dtype.kind == "b" else self.type(dtype)

    def cast(self, b: Any, value: Any, source: np.dtype[Any], target: np.dtype[Any]) -> Any:
        """Convert as NumPy does."""
        if source == target:
            return value
        to = self.type(target)
        if target.kind == "f":
            if source.kind == "f":
                return b.fpext(value, to) if target.itemsize > source.itemsize else b.fptrunc(value, to)
            return b.sitofp(value, to) if source.kind == "i" else b.uitofp(value, to)
        if source.kind == "b" or target.itemsize > source.itemsize:
            return b.sext(value, to) if source.kind == "i" else b.zext(value, to)
        return b.trunc(value, to) if target.itemsize < source.itemsize else value

    def constant(self, value: Any, dtype: np.dtype[Any]) -> Any:
        number = np.asarray(value).astype(dtype)[()]
        return self.ir.Constant(self.type(dtype), float(number) if dtype.kind == "f" else int(number))

    def apply(self, b: Any, op: Operation, values: list[Any], dtype: np.dtype[Any]) -> Any:
        """Emit one operation on values of the loop's data type."""
        name = op.function.__name__
        real, signed = dtype.kind == "f", dtype.kind == "i"
        if op.kind == "copy":
            return values[0]
        if op.kind == "where":
            return b.select(values[0], values[1], values[2])
        if name in ARITHMETIC:
            return getattr(b, ("f" if real else "") + ARITHMETIC[name])(*values)
        if name == "square":
            return (b.fmul if real else b.mul)(values[0], values[0])
        if name in COMPARISONS:
            sign = COMPARISONS[name]
            if real:
                return (b.fcmp_unordered if sign == "!=" else b.fcmp_ordered)(sign, *values)
            return (b.icmp_signed if signed else b.icmp_unsigned)(sign, *values)
        if name in ("maximum", "minimum"):
            sign = ">=" if name == "maximum" else "<="
            if not real:
                return b.select((b.icmp_signed if signed else b.icmp_unsigned)(sign, *values), *values)
            # NumPy's rule: a NaN on either side comes through
            first = b.or_(b.fcmp_ordered(sign, *values), b.fcmp_unordered("uno", values[0], values[0]))
            return b.select(first, *values)
        if name in BITWISE:
            return getattr(b, BITWISE[name])(*values)
        if name == "right_shift":
            return b.lshr(*values)
        if name == "negative":
            return b.fneg(values[0])
        intrinsic = {"sqrt": "llvm.sqrt", "absolute": "llvm.fabs"}[name]
        return b.call(self.module.declare_intrinsic(intrinsic, [self.type(dtype)]), [values[0]])

    def _write(self, unit: Unit, memory: Memory, inner: set[int]) -> None:
        ir, i64 = self.ir, self.ir.IntType(64)
        rows, columns = two_dimensional(unit[0].target.shape)
        found: dict[int, HostArray] = {}
        places = [a for op in unit for a in (*inputs(op), op.target) if id(a.buffer) not in inner and not uniform(a)]
        full = [memory.resolve(a) for a in places]
        for array in full:
            found.setdefault(array.ctypes.data, array)
        addresses, self.arrays = list(found), list(found.values())
        if all(a.flags.c_contiguous and (a.size == 1 or two_dimensional(a.shape) == (rows, columns)) for a in full):
            rows, columns = 1, rows * columns  # one long loop vectorises better
        pointer = ir.IntType(8).as_pointer()
        body = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [pointer] * len(addresses)), "body")
        body.linkage = "internal"
        body.attributes.add("alwaysinline")
        for argument in body.args:
            argument.add_attribute("noalias")
        pointers = dict(zip(addresses, body.args, strict=True))
        b = ir.IRBuilder(body.append_basic_block("entry"))
        loops = []
        for count in (rows, columns):
            before, block, after = b.block, b.append_basic_block("loop"), b.append_basic_block("end")
            b.branch(block)
            b.position_at_end(block)
            index = b.phi(i64)
            index.add_incoming(ir.Constant(i64, 0), before)
            loops.append((index, block, after, count))
        self._body(b, unit, memory, inner, pointers, loops[0][0], loops[1][0], rows, columns)
        for index, block, after, count in reversed(loops):
            following = b.add(index, ir.Constant(i64, 1), flags=["nuw", "nsw"])
            index.add_incoming(following, b.block)
            b.cbranch(b.icmp_unsigned("<", following, ir.Constant(i64, count)), block, after)
            b.position_at_end(after)
        b.ret_void()
        # The addresses are taken out of the table first, and given to a function that may trust them not to overlap.
        run = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [pointer.as_pointer()]), "run")
        b = ir.IRBuilder(run.append_basic_block("entry"))
        b.call(body, [b.load(b.gep(run.args[0], [ir.Constant(i64, k)])) for k in range(len(addresses))])
        b.ret_void()

    def _body(
        self, b: Any, unit: Unit, memory: Memory, inner: set[int], pointers: dict[int, Any], row: Any, column: Any,
        rows: int, columns: int,
    ) -> None:  # fmt: skip
        ir, i64 = self.ir, self.ir.IntType(64)
        values: dict[Any, tuple[Any, np.dtype[Any]]] = {}
        stores: dict[Any, tuple[Any, HostArray]] = {}

        def key(a: Traced) -> Any:
            # Results are told apart by their buffer, since the memory of one may be given to the next.
            own = id(a.buffer) in inner or id(a.buffer) in memory.own
            array = a.array if own else memory.resolve(a)
            return (id(a.buffer) if own else None, array.ctypes.data, array.shape, array.strides, array.dtype.str)

        def address(array: HostArray) -> Any:
            r, c = two_dimensional(array.shape)
            offset: Any = ir.Constant(i64, 0)
            if r * c == rows * columns and (r, c) != (rows, columns):
                r, c, steps = rows, columns, (0, array.itemsize)
            else:
                steps = (array.strides[0] if array.ndim == 2 else 0, array.strides[-1] if array.ndim else 0)
            if r > 1:
                offset = b.add(offset, b.mul(row, ir.Constant(i64, steps[0])))
            if c > 1:
                offset = b.add(offset, b.mul(column, ir.Constant(i64, steps[1])))
            place = b.gep(pointers[array.ctypes.data], [offset], inbounds=True)
            return b.bitcast(place, self.stored(array.dtype).as_pointer())

        def load(a: Traced) -> tuple[Any, np.dtype[Any]]:
            k = key(a)
            if uniform(a):
                return self.constant(a.array.flat[0], a.dtype), a.dtype
            if k not in values:
                array = memory.resolve(a)
                value = b.load(address(array))
                if array.dtype.kind == "b":
                    value = b.icmp_unsigned("!=", value, ir.Constant(ir.IntType(8), 0))
                values[k] = (value, array.dtype)
            return values[k]

        for op in unit:
            dtype = loop_dtype(op)
            arguments = []
            for position, operand in enumerate(op.operands):
                if isinstance(operand, Traced):
                    value, source = load(operand)
                    condition = op.kind == "where" and position == 0
                    arguments.append(value if condition else self.cast(b, value, source, dtype))
                else:
                    arguments.append(self.constant(operand, dtype))
            result = self.apply(b, op, arguments, dtype)
            comparison = op.kind == "elementwise" and op.function.__name__ in COMPARISONS
            made = np.dtype(bool) if comparison else dtype
            target = op.target
            values[key(target)] = (self.cast(b, result, made, target.dtype), target.dtype)
            if id(target.buffer) not in inner:
                stores[key(target)] = (values[key(target)], memory.resolve(target))
        for (value, dtype), array in stores.values():
            if dtype.kind == "b":
                value = b.zext(value, ir.IntType(8))
            b.store(value, address(array))


class Compiler:
    """Compiles kernels, each source once in a process."""

    limit = 1024
    """How many compiled kernels are kept for the next who wants the same."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, source: str) -> tuple[Any, Any]:
        """Return the function of a table of addresses, and what keeps its code alive."""
        with self._lock:
            if source not in self._compiled:
                while len(self._compiled) >= self.limit:
                    del self._compiled[next(iter(self._compiled))]
                self._compiled[source] = self._compile(source)
            return self._compiled[source]

    def _compile(self, source: str) -> tuple[Any, Any]:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple()
        features = llvm.get_host_cpu_features().flatten()
        machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=2)
        module = llvm.parse_assembly(source)
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization, options.loop_unrolling, options.slp_vectorization = True, False, False
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("run")), engine


compiled = Compiler()


def kernel(unit: Unit, memory: Memory, inner: set[int]) -> Piece:
    """Return a unit's kernel on its arrays."""
    written = Kernel(unit, memory, inner)
    addresses = [a.ctypes.data for a in written.arrays]
    return Piece(written.source, table("p" * len(addresses), *addresses), tuple(written.arrays))
