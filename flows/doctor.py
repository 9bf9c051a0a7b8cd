"""What is installed, what will be used, and what is missing, each with the step that mends it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from curation.scoring.engines import available_engines, explain_choice
from schemas.errors import WinnowError
from warehouse.connection import extension_path

_PACKAGES = ("torch", "transformers", "datasets", "polars", "duckdb", "prefect", "trl", "peft", "accelerate")
_EXTENSIONS = ("ducklake", "sqlite_scanner", "postgres_scanner", "httpfs")
_BREAKS_VLLM = ("torchvision", "torchaudio", "torchcodec")


@dataclass(frozen=True)
class Finding:
    """One line of ``winnow doctor``.

    Attributes:
        what: the thing.
        state: what was found.
        is_fine: nothing needs to be done.
        is_required: the main job does not run without it.
        mend: the next step, where one is needed.
    """

    what: str
    state: str
    is_fine: bool = True
    is_required: bool = True
    mend: str | None = None


def examine() -> list[Finding]:
    """Look at the machine, the packages, the lake's extensions and the engines."""
    return [*_machine(), *_packages(), *_extensions(), *_engines(), *_services()]


def _machine() -> list[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        Finding("python", f"{platform.python_version()} on {platform.machine()}, {cores} cores"),
        Finding("gpu", ", ".join(gpus) if gpus else "none; scoring and training run on the CPU"),
    ]


def _packages() -> list[Finding]:
    findings = []
    for name in _PACKAGES:
        try:
            findings.append(Finding(name, version(name)))
        except PackageNotFoundError:
            is_required = name != "trl"
            mend = "pip install --editable '.[test]'" if name == "trl" else "pip install --editable ."
            findings.append(Finding(name, "not installed", is_fine=False, is_required=is_required, mend=mend))
    return findings


def _extensions() -> list[Finding]:
    findings = []
    for name in _EXTENSIONS:
        try:
            extension_path(name)
            findings.append(Finding(f"duckdb {name}", "installed"))
        except WinnowError as error:
            findings.append(Finding(f"duckdb {name}", error.message, is_fine=False, mend=error.mend))
    return findings


def _engines() -> list[Finding]:
    import torch

    findings = [
        Finding(
            f"engine {engine.name}",
            engine.state,
            is_fine=engine.is_ready,
            is_required=False,
            mend=engine.mend,
        )
        for engine in available_engines()
    ]
    broken = [name for name in _BREAKS_VLLM if find_spec(name) is not None]
    if broken and find_spec("vllm") is not None and torch.version.cuda is None:
        state = f"{', '.join(broken)}: CUDA builds beside a CPU torch stop vLLM from starting"
        findings.append(
            Finding("vllm neighbours", state, is_fine=False, mend=f"pip uninstall --yes {' '.join(broken)}")
        )
    name, reason = explain_choice()
    findings.append(Finding("will score with", f"{name} ({reason})"))
    return findings


def _services() -> list[Finding]:
    url = os.environ.get("PREFECT_API_URL")
    return [
        Finding("prefect server", url or "none set; flows run on Prefect's ephemeral server"),
        Finding("telemetry", "off" if os.environ.get("DO_NOT_TRACK") == "1" else "not switched off", is_required=False),
    ]
