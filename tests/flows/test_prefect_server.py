"""Where ``PREFECT_API_URL`` is set, the flow, its stages and its summary appear on that server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.winnow_process import winnow
from tests.real_data import shared

pytestmark = [pytest.mark.server, pytest.mark.slow]


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """Ask as Prefect's own client does: the server answers 503 while its SQLite database is busy, and means "again"."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    patience = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > patience:
                raise
            time.sleep(0.5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    env.pop("PREFECT_API_URL", None)
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        url = f"http://127.0.0.1:{port}/api"
        try:
            for _ in range(240):
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                try:
                    ask(f"{url}/health")
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.5)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pairs = [{"prompt": f"What is {n} and one?", "chosen": f"{n + 1}.", "rejected": f"It is {n}."} for n in range(20)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def test_the_flow_appears_on_the_server(server: str, source: Path, tmp_path: Path) -> None:
    arguments = ["run", "-w", tmp_path / "w", "--source", source, "--model", shared("models/tiny-en"), "--no-train"]
    env = {"PREFECT_API_URL": server, "PREFECT_HOME": str(tmp_path / "client")}
    done = winnow(*arguments, "--engine", "transformers", env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    (flow,) = ask(f"{server}/flow_runs/filter", {})
    assert flow["state_name"] == "Completed"
    tasks = {task["name"].rpartition("-")[0]: task["state_name"] for task in ask(f"{server}/task_runs/filter", {})}
    assert tasks == dict.fromkeys(["ingest", "score", "diagnose", "curate", "export", "summary"], "Completed")
    (artifact,) = ask(f"{server}/artifacts/filter", {})
    assert artifact["key"] == "winnow-summary"
    assert "favors the rejected answer" in artifact["data"]


def test_a_schedule_runs_the_main_job_from_its_deployment(server: str, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "nightly"
    assert winnow("init", root).returncode == 0
    arguments = ["schedule", "-w", root, "--source", source, "--model", shared("models/tiny-en"), "--no-train"]
    env = {**os.environ, "PREFECT_API_URL": server, "PREFECT_HOME": str(tmp_path / "client")}
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    with (tmp_path / "schedule.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            deployment = wait_for(lambda: ask(f"{server}/deployments/filter", {}), process)[0]
            assert deployment["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
            run = ask(f"{server}/deployments/{deployment['id']}/create_flow_run", {})
            ends = ("COMPLETED", "FAILED", "CRASHED")
            ended = wait_for(
                lambda: [r for r in [ask(f"{server}/flow_runs/{run['id']}")] if r["state_type"] in ends], process
            )
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=60)
    assert ended[0]["state_type"] == "COMPLETED", (tmp_path / "schedule.log").read_text()
    done = winnow("sql", "-w", root, "--format", "csv", "select count(*) as pairs from mart.training_set")
    assert int(done.stdout.split()[1]) > 0


def test_a_schedule_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    done = winnow("schedule", "-w", tmp_path)
    assert done.returncode == 2
    assert "PREFECT_API_URL is not set; run 'prefect server start'" in done.stderr


def wait_for(found: Callable[[], list[Any]], process: subprocess.Popen[bytes]) -> list[Any]:
    for _ in range(240):
        assert process.poll() is None
        result = found()
        if result:
            return result
        time.sleep(0.5)
    raise TimeoutError("nothing was found in two minutes")
