"""CUDA source compiled by the machine's C compiler, behind a few macros, and run on arrays of NumPy's.

exp and the like are C's in kernels and outside of them, so that the two are equal to the bit, as they are on a device.
"""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backends.cuda.formulas import FROM_AND_TO_HALF

COMPILER = shutil.which("cc")
NO_COMPILER = "there is no C compiler (cc) here, which stands in for CUDA's"
ROUNDED = "".join(
    f"static inline {t} __{r}{name}_rn({t} a, {t} b) {{ return a {sign} b; }}\n"
    for t, r in (("float", "f"), ("double", "d"))
    for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/"))
)
HEADER = (
    """
#include <math.h>
#include <stdbool.h>
#include <string.h>
#define __global__
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>
#define __shared__ static
#define __device__
static unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
static float __uint_as_float(unsigned u) { float x; memcpy(&x, &u, 4); return x; }
static struct { int x; } blockIdx, threadIdx;
static jmp_buf threads_[256], scheduler_;
static char stacks_[256][1 << 15];
static int begun_, ended_;
static void (*body_)(void);
static void pause_(int t) { if (!_setjmp(threads_[t])) _longjmp(scheduler_, 1); threadIdx.x = t; }
static void __syncthreads(void) { pause_(threadIdx.x); }
static void entry_(void) { for (;;) { body_(); ended_++; pause_(threadIdx.x); } }
static void resume_(int t) {
    threadIdx.x = t;
    if (_setjmp(scheduler_)) return;
    if (t == begun_) {
        ucontext_t made;
        begun_++;
        getcontext(&made);
        made.uc_stack.ss_sp = stacks_[t]; made.uc_stack.ss_size = sizeof stacks_[t]; made.uc_link = 0;
        makecontext(&made, entry_, 0);
        setcontext(&made);
    }
    _longjmp(threads_[t], 1);
}
static void block_(int threads) {  /* each thread up to a barrier, which all have to reach, and so on */
    for (ended_ = 0; ended_ < threads; ) {
        for (int t = 0; t < threads; t++) resume_(t);
        if (ended_ && ended_ < threads) abort();
    }
}
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static float from_half(unsigned short h) {
    unsigned exponent = h >> 10 & 31, u = (h & 0x7fffu) << 13;
    float x = (h & 1023) * 0x1p-24f;
    if (exponent) { u += exponent == 31 ? 0x70000000 : 0x38000000; memcpy(&x, &u, 4); }
    return h & 0x8000 ? -x : x;
}
static unsigned short to_half(float x) {
    unsigned u, sign; float a = fabsf(x);
    memcpy(&u, &x, 4); sign = u >> 16 & 0x8000; memcpy(&u, &a, 4);
    if (u > 0x7f800000) return sign | 0x7e00;
    if (u >= 0x477ff000) return sign | 0x7c00;
    if (u >= 0x38800000) return sign | (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
    a += 0.5f; memcpy(&u, &a, 4); return sign | (u - 0x3f000000);
}
static inline double __longlong_as_double(long long a) { double b; memcpy(&b, &a, 8); return b; }
"""
    + ROUNDED
)
TRANSCENDENTAL = {
    name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "sin", "cos", "sinh")
}
LOOPS = "".join(
    f"void {name}_{t}({t}* x, {t}* y, long n) {{ for (long i = 0; i < n; i++) y[i] = {name}{f}(x[i]); }}\n"
    for name in TRANSCENDENTAL
    for t, f in (("float", "f"), ("double", ""))
)


@functools.cache
def compiled(source: str) -> ctypes.CDLL:
    """Return the library that C makes of CUDA source: for each kernel a function of its arguments and its blocks."""
    kernels = re.findall(r"__global__ void (\w+)\((.*?)\) \{(.*?)^\}", source, re.DOTALL | re.MULTILINE)
    runs = "static void** a_;\n" + "".join(
        f"static void call_{name}(void) {{ {name}({', '.join(f'a_[{k}]' for k in range(parameters.count('*')))}); }}\n"
        f"void run_{name}(void** a, int blocks, int threads) {{\n"
        f"    a_ = a; body_ = call_{name};\n"
        f"    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)\n"
        + (
            "        block_(threads);\n}\n"
            if "__syncthreads" in body
            else f"        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) call_{name}();\n}}\n"
        )
        for name, parameters, body in kernels
    )
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "kernels.c"), Path(folder, "kernels.so")
        code.write_text(HEADER + source.replace(FROM_AND_TO_HALF, "").replace('extern "C"', "") + runs)
        # Some systems check every longjmp by default, and take one to another stack for an attack.
        plain = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0"]
        options = ["-O1", *plain, "-fwrapv", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
        subprocess.run([COMPILER, *options, str(code), "-o", str(library), "-lm"], check=True)
        return ctypes.CDLL(str(library))


def run(library: ctypes.CDLL, name: str, blocks: int, threads: int, arrays: Any) -> None:
    """Run a kernel on arrays of the host."""
    table = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    getattr(library, f"run_{name}")(table, blocks, threads)


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """Return one of C's functions of each number; halves are computed in float32."""
    wide = np.ascontiguousarray(x, x.dtype if x.itemsize > 2 else np.float32)
    y = np.empty_like(wide)
    function = getattr(compiled(LOOPS), f"{name}_{'float' if wide.itemsize == 4 else 'double'}")
    function(ctypes.c_void_p(wide.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_long(wide.size))
    return y.reshape(x.shape).astype(x.dtype)
