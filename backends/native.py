"""Several elementwise operations as one loop of machine code, by LLVM (the ``fast`` extra).

The arithmetic is that of IEEE 754 without any relaxation (no fused multiply-add, no reordering), so a kernel
gives the bits that NumPy gives. Exponentials and the like stay with NumPy, which has better ones. A kernel's
arrays stay where they are, so their addresses are part of its code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backends.plan import Memory, Unit, inputs
from xpnet.backends.tape import HostArray, Operation, Traced

ARITHMETIC = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div"}
COMPARISONS = {"greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!="}
BITWISE = {"bitwise_and": "and_", "bitwise_or": "or_", "bitwise_xor": "xor"}
FLOAT_ONLY = ("true_divide", "divide", "sqrt", "absolute", "negative")
SUPPORTED = {*ARITHMETIC, *COMPARISONS, *BITWISE, *FLOAT_ONLY, "maximum", "minimum", "square", "right_shift"}
DTYPES = ("bool", "int32", "int64", "uint32", "uint64", "float32", "float64")


def two_dimensional(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of a shape of at most two axes."""
    return (1, 1)[: 2 - len(shape)] + shape  # type: ignore[return-value]


def loop_dtype(op: Operation) -> np.dtype[Any]:
    """Return the data type in which NumPy computes an operation."""
    if op.kind in ("copy", "where"):
        target: np.dtype[Any] = op.target.array.dtype
        return target
    dtype: np.dtype[Any] = np.result_type(*(o.dtype if isinstance(o, Traced) else o for o in op.operands))
    return dtype


def fits(op: Operation, places: dict[int, Traced]) -> bool:
    """Say whether an operation can be part of a kernel."""
    if op.kind not in ("elementwise", "copy", "where"):
        return False
    if op.kind == "elementwise" and (op.function.__name__ not in SUPPORTED or not inputs(op)):
        return False
    arrays = [*inputs(op), op.target]
    if any(a.ndim > 2 or a.dtype.name not in DTYPES or a.size == 0 for a in arrays):
        return False
    kind = loop_dtype(op)
    if op.kind == "elementwise":
        name = op.function.__name__
        if name in FLOAT_ONLY and kind.kind != "f":
            return False
        if name == "right_shift" and not (
            kind.kind == "u" and type(op.operands[1]) is int and 0 <= op.operands[1] < 32
        ):
            return False
        if kind.kind == "b" and name not in BITWISE:
            return False
    elif any(a.dtype.kind == "f" and kind.kind != "f" for a in inputs(op)[op.kind == "where" :]):
        return False  # from floating point to integers: NumPy's own rules
    rows, columns = two_dimensional(op.target.shape)
    return all(_strides_fit(home(a, places), rows, columns) for a in arrays)


def _strides_fit(a: HostArray, rows: int, columns: int) -> bool:
    r, c = two_dimensional(a.shape)
    inner = a.strides[-1] if a.ndim else a.itemsize
    return r in (1, rows) and c in (1, columns) and (c == 1 or inner == a.itemsize)


def home(a: Traced, places: dict[int, Traced]) -> HostArray:
    """Return the array that `a` is a view of, as it lay when the step was recorded, or where it will be written."""
    if id(a.buffer) not in places:
        return a.array
    array = places[id(a.buffer)].array.reshape(a.buffer.array.shape)
    for view in a.path:
        array = view(array)
    return array


def same_view(a: HostArray, b: HostArray) -> bool:
    """Say whether two arrays are the same numbers in memory, in the same order."""
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


def group(operations: list[Operation], places: dict[int, Traced]) -> list[Unit]:
    """Put runs of operations of one shape together, unless one would see half of another's result."""
    units: list[Unit] = []
    open_unit: Unit | None = None
    for op in operations:
        if not fits(op, places):
            open_unit = None
            units.append([op])
        elif open_unit is not None and _joins(op, open_unit, places):
            open_unit.append(op)
        else:
            open_unit = [op]
            units.append(open_unit)
    return units


def _joins(op: Operation, unit: Unit, places: dict[int, Traced]) -> bool:
    if two_dimensional(op.target.shape) != two_dimensional(unit[0].target.shape):
        return False
    target = home(op.target, places)
    for earlier in unit:
        written = home(earlier.target, places)
        if any(
            np.may_share_memory(home(a, places), written) and not same_view(home(a, places), written)
            for a in inputs(op)
        ):
            return False
        touched = [written, *(home(a, places) for a in inputs(earlier))]
        if any(np.may_share_memory(a, target) and not same_view(a, target) for a in touched):
            return False
    own = [home(a, places) for a in inputs(op)]
    return not any(np.may_share_memory(a, target) and not same_view(a, target) for a in own)


class Kernels:
    """Builds one LLVM module of kernels and compiles it."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm
        from llvmlite import ir

        self.llvm, self.ir = llvm, ir
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.module = ir.Module(name="xpnet")
        self.names: list[str] = []
        self.kept: list[Any] = []

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

    def add(self, unit: Unit, memory: Memory, inner: set[int]) -> None:
        """Emit the kernel of one unit."""
        ir, i64 = self.ir, self.ir.IntType(64)
        rows, columns = two_dimensional(unit[0].target.shape)
        arrays: dict[int, HostArray] = {}
        for op in unit:
            for a in (*inputs(op), op.target):
                if id(a.buffer) not in inner:
                    array = memory.resolve(a)
                    arrays[array.ctypes.data] = array
        full = [memory.resolve(a) for op in unit for a in (*inputs(op), op.target) if id(a.buffer) not in inner]
        if all(a.flags.c_contiguous and (a.size == 1 or two_dimensional(a.shape) == (rows, columns)) for a in full):
            rows, columns = 1, rows * columns  # one long loop vectorises better
        name = f"kernel{len(self.names)}"
        addresses = list(arrays)
        pointer = ir.IntType(8).as_pointer()
        body = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [pointer] * len(addresses)), name + "_body")
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
        run = ir.Function(self.module, ir.FunctionType(ir.VoidType(), []), name)
        b = ir.IRBuilder(run.append_basic_block("entry"))
        b.call(body, [b.inttoptr(ir.Constant(i64, address), pointer) for address in addresses])
        b.ret_void()
        self.names.append(name)
        self.kept.append((unit, memory))

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

    def compile(self) -> list[Callable[[], Any]]:
        """Return the kernels as calls without arguments."""
        llvm = self.llvm
        target = llvm.Target.from_default_triple()
        features = llvm.get_host_cpu_features().flatten()
        machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3)
        module = llvm.parse_assembly(str(self.module))
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.loop_unrolling = options.slp_vectorization = True
        passes = llvm.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        signature = ctypes.CFUNCTYPE(None)
        kernels: list[Callable[[], Any]] = [signature(engine.get_function_address(name)) for name in self.names]
        for kernel in kernels:
            kernel.keep = (engine, self.kept)  # type: ignore[attr-defined]  # code and arrays live as long as the call
        return kernels


def emit(units: list[Unit], memory: Memory, inner: set[int]) -> list[Callable[[], Any]]:
    """Return one call for each unit."""
    kernels = Kernels()
    for unit in units:
        kernels.add(unit, memory, inner)
    return kernels.compile() if units else []
