"""vLLM inside this process: quiet, local, started quickly and shut down without a trace."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from curation.scoring.policy import ReferencePolicy, read_config
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError

CPU_BLOCK_SIZE = 32
"""Tokens in a cache block on a CPU: the smallest that its kernels are made for, so that most of a prompt is shared."""

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, so that one exit ends everything
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # for the one token that it insists on generating; no row is computed for it
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding would stay after the engine is gone
    "DO_NOT_TRACK": "1",
    "GLOO_SOCKET_IFNAME": "lo",
}
_START_ERRORS = (
    AssertionError,
    AttributeError,
    ImportError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)  # what vLLM raises for configurations that it cannot serve
_CPU_CACHE_BYTES = 1 << 29
_CPU_BATCH_TOKENS = 4096
_MAX_SEQUENCES = 256


def vllm_version() -> str | None:
    """Version of the installed vLLM, or None."""
    for package in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return None


def prepare_environment() -> None:
    """Set what vLLM reads when it is imported; a value that is already set is left."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _dtype(policy: ReferencePolicy, settings: ScoringSettings) -> str:
    """The dtype to compute in; vLLM's own ``auto`` would run float32 weights in float16."""
    if settings.dtype != "auto":
        return settings.dtype
    config = read_config(policy.folder)
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def start(policy: ReferencePolicy, settings: ScoringSettings, **options: Any) -> Any:
    """A ``vllm.LLM`` of the policy.

    Args:
        policy: what to load.
        settings: how.
        options: further arguments of ``LLM``, which win.

    Raises:
        EngineError: vLLM cannot load the model, there is too little memory, or another engine runs in this process.
    """
    if torch.distributed.is_initialized():
        raise EngineError("a vLLM engine runs in this process already", mend="close it first")
    prepare_environment()
    let_llvmlite_be_looked_at()
    with quiet():
        from vllm import LLM

        arguments: dict[str, Any] = {
            "model": str(policy.folder),
            "dtype": _dtype(policy, settings),
            "max_model_len": policy.max_length + 1,  # it insists on room for one generated token
            "skip_tokenizer_init": True,
            "trust_remote_code": policy.trust_remote_code,
            "load_format": "safetensors",
            "quantization": policy.quantize_on_load,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            "seed": 0,
            "max_num_seqs": min(_MAX_SEQUENCES, settings.batch_tokens or _MAX_SEQUENCES),
            "tensor_parallel_size": settings.tensor_parallel_size,
            **(_gpu_options(settings) if torch.cuda.is_available() else _cpu_options(policy, settings)),
            **options,
        }
        try:
            return LLM(**arguments)
        except _START_ERRORS as error:
            shut_down(None)
            raise _cannot_load(policy, error) from error


def _cannot_load(policy: ReferencePolicy, error: Exception) -> EngineError:
    text = first_line(error)
    if policy.quantization is None:
        return EngineError(f"vLLM cannot load {policy.model}: {text}", mend="try --engine transformers")
    device = "CUDA" if torch.cuda.is_available() else "a CPU"
    return EngineError(
        f"vLLM {vllm_version()} on {device} cannot load {policy.model} quantised with {policy.quantization}: {text}",
        mend=f"score on a device for which vLLM has {policy.quantization}, or without quantisation",
    )


def let_llvmlite_be_looked_at() -> None:
    """Give llvmlite's library object an empty ``__dict__`` where numba has loaded it.

    On a CPU vLLM looks for its kernels through ``vars`` of everything in every loaded module, and this object answers
    any name with a function of its library, ``__dict__`` too (vLLM 0.32, llvmlite 0.47).
    """
    ffi = sys.modules.get("llvmlite.binding.ffi")
    if ffi is not None:
        ffi.lib._fntab.setdefault("__dict__", {})


def _gpu_options(settings: ScoringSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"gpu_memory_utilization": settings.gpu_memory_utilization}
    if settings.batch_tokens is not None:
        options["max_num_batched_tokens"] = settings.batch_tokens
    return options


def _cpu_options(policy: ReferencePolicy, settings: ScoringSettings) -> dict[str, Any]:
    return {
        "enforce_eager": True,
        "block_size": CPU_BLOCK_SIZE,
        "kv_cache_memory_bytes": max(_CPU_CACHE_BYTES, 4 * policy.max_length * _cache_bytes_per_token(policy)),
        "max_num_batched_tokens": settings.batch_tokens or _CPU_BATCH_TOKENS,
        "enable_chunked_prefill": True,
    }


def _cache_bytes_per_token(policy: ReferencePolicy) -> int:
    config = read_config(policy.folder)
    config = config.get("text_config", config)
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or 1
    size = config.get("head_dim") or config.get("hidden_size", 0) // (config.get("num_attention_heads") or 1)
    return int(2 * 4 * config.get("num_hidden_layers", 1) * heads * size)


def shut_down(llm: Any) -> None:
    """End the engine, give its memory back, and undo what vLLM changed in this process."""
    with quiet():
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        del llm
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for module, name in (
        (torch, "set_num_threads"),
        (torch.accelerator, "synchronize"),
        (torch.accelerator, "empty_cache"),
    ):
        setattr(module, name, _ORIGINALS[name])
    for name, value in _FOR_CHILDREN.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_ORIGINALS = {
    "set_num_threads": torch.set_num_threads,
    "synchronize": torch.accelerator.synchronize,
    "empty_cache": torch.accelerator.empty_cache,
}
_FOR_CHILDREN = {name: os.environ.get(name) for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "LOCAL_WORLD_SIZE")}
"""What vLLM sets for its own workers, and any other process that is started later would get too."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep vLLM's start-up and shutdown lines from the user's terminal; errors are raised, not printed.

    What stands in for ``sys.stdout`` is a real file: on a GPU, vLLM asks for its descriptor.
    """
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            _no_native_stderr(),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _no_native_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: C++ libraries and progress bars write to it directly."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def first_line(error: BaseException) -> str:
    """First line of an error's text, or its kind where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
