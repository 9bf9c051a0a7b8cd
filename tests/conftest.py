"""What every test relies on: no network, no telemetry, and no silent skips where CI runs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.cli import TELEMETRY_OFF

os.environ.update(TELEMETRY_OFF)
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_prefect_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Flows of the tests leave no trace in the user's Prefect, and a server that the user has set is not used."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    os.environ.pop("PREFECT_API_URL", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip ``gpu`` tests without a GPU; without vLLM skip ``vllm`` tests, but fail where CI runs."""
    has_vllm = find_spec("vllm") is not None
    in_ci = os.environ.get("CI") == "true"
    if in_ci and not has_vllm:
        raise pytest.UsageError("vLLM is not installed; run: make install")
    has_gpu = Path("/dev/nvidiactl").exists()
    for item in items:
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        if item.get_closest_marker("vllm") and not has_vllm:
            item.add_marker(pytest.mark.skip(reason="vLLM is not installed; run: make install"))
