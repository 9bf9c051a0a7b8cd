"""Triton kernels without a GPU: compiled for one, and run by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def compile_for_hopper(kernel: Any, signature: dict[str, str], constants: dict[str, Any]) -> int:
    """Size of the machine code that Triton makes of a kernel for compute capability 9.0, with the ``ptxas`` it brings.

    Args:
        kernel: a ``triton.jit`` function.
        signature: Triton's type of each argument that is no constant, in their order.
        constants: the values of its ``tl.constexpr`` arguments.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {**signature, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(kernel, {name: types[name] for name in kernel.arg_names}, constexprs=constants)
    return len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"])


def run_interpreted(program: str) -> str:
    """What a program prints whose kernels are interpreted."""
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
