"""Requests to a server: what passes is tried again, what does not is one clear line, and never too many at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from curation.scoring.server_engine import ServerEngine
from curation.scoring.settings import ScoringSettings
from schemas.errors import EngineError
from schemas.tokens import EncodedGroup
from tests.curation.scoring.real_groups import tiny_policy

GROUPS = [EncodedGroup([5, 6], [[number + 7, 8]]) for number in range(12)]
Answer = tuple[int, bytes]


def good(path: str, body: dict[str, Any] | None) -> Answer:
    """What a vLLM server says; every token has log-prob -1."""
    if path == "/version":
        return 200, b'{"version": "0.32.0"}'
    if path == "/v1/models":
        return 200, json.dumps({"data": [{"id": "tiny-en", "max_model_len": 1025}]}).encode()
    assert body is not None
    choices = [
        {"index": index, "prompt_logprobs": [None, *({str(id_): {"logprob": -1.0}} for id_ in ids[1:])]}
        for index, ids in enumerate(body["prompt"])
    ]
    return 200, json.dumps({"choices": choices}).encode()


@contextmanager
def serving(answer: Callable[[str, dict[str, Any] | None, Any], Answer | None]) -> Iterator[str]:
    """A real HTTP server on this machine; ``answer`` gets path, body and headers, and None cuts the answer short."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any] | None) -> None:
            found = answer(self.path, body, self.headers)
            status, content = found or (200, b"{}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + (100 if found is None else 0)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def scored(url: str, groups: list[EncodedGroup] = GROUPS[:1], **settings: Any) -> list[float]:
    engine = ServerEngine(tiny_policy(), ScoringSettings(server=url, **settings))
    try:
        return [score.logps for scores in engine.score(groups) for score in scores]
    finally:
        engine.close()


@pytest.mark.parametrize("trouble", [(503, b"busy"), None, (200, b"<html>")], ids=["busy", "cut short", "no JSON"])
def test_what_may_pass_is_tried_again(trouble: Answer | None) -> None:
    asked: list[str] = []

    def answer(path: str, body: dict[str, Any] | None, headers: Any) -> Answer | None:
        asked.append(path)
        return trouble if asked.count(path) == 1 else good(path, body)

    with serving(answer) as url:
        assert scored(url) == [-2.0]
    assert sorted(asked) == ["/v1/completions"] * 2 + ["/v1/models"] * 2 + ["/version"] * 2


def test_a_server_that_does_not_answer_in_time_is_named() -> None:
    def answer(path: str, body: dict[str, Any] | None, headers: Any) -> Answer:
        time.sleep(0 if body is None else 1)
        return good(path, body)

    with serving(answer) as url, pytest.raises(EngineError, match="cannot be reached: timed out"):
        scored(url, server_timeout_seconds=0.2, server_retries=1)


def test_no_more_requests_are_under_way_than_allowed() -> None:
    lock = threading.Lock()
    now, most = [0], [0]

    def answer(path: str, body: dict[str, Any] | None, headers: Any) -> Answer:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return good(path, body)

    with serving(answer) as url:
        assert scored(url, GROUPS, server_concurrency=3) == [-2.0] * 12
    assert most == [3]


def test_the_key_is_sent_and_its_lack_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str, body: dict[str, Any] | None, headers: Any) -> Answer:
        is_known = headers["Authorization"] == "Bearer secret"
        return good(path, body) if is_known else (401, b"Unauthorized")

    with serving(answer) as url:
        monkeypatch.delenv("VLLM_API_KEY", raising=False)
        with pytest.raises(EngineError, match=r"answers 401: Unauthorized .*into VLLM_API_KEY"):
            scored(url)
        monkeypatch.setenv("VLLM_API_KEY", "secret")
        assert scored(url) == [-2.0]


def test_what_is_no_vllm_server_is_one_line() -> None:
    with (
        serving(lambda path, body, headers: (404, b"not here")) as url,
        pytest.raises(EngineError, match=r"answers 404: not here \(/v1/models\)"),
    ):
        scored(url)
    for given in ("myhost", "myhost:8000", "ftp://myhost", "http://"):
        with pytest.raises(EngineError, match="is no http or https URL"):
            scored(given)


def test_a_server_gives_no_embeddings() -> None:
    with pytest.raises(EngineError, match="no hidden states"):
        scored("http://127.0.0.1:1", embeddings=True)
