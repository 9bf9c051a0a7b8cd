"""Content hashes of a policy's weights, tokenizer and chat template: what a score is a score of.

They hold what changes a log-probability and nothing else, so a model that is loaded and saved again keeps its identity.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import ModelError

_ENCODING_PARTS = ("normalizer", "pre_tokenizer", "model")  # of tokenizer.json; the rest decodes, pads or truncates
_ADDED_TOKEN_PARTS = ("content", "single_word", "lstrip", "rstrip", "normalized")
_BOOKKEEPING = frozenset(
    {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache", "architectures"}
)
_PROBE = "The quick brown fox, 3.14 naïve caffè 日本語 \U0001f98a\n\n\tjumps  over"
_CHUNK = 1 << 24


PINNED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""What a chat template that asks for today's date (``strftime_now``) is told: else its tokens, and with them the
log-probs, would change at midnight. It is the date that Llama's own templates fall back to."""


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of everything by which a tokenizer turns text into ids, and of its begin and end tokens.

    Padding, truncation, post-processing and decoding are left out: they change when a tokenizer is saved again or is
    made ready for training, and no log-probability depends on them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = _slow_content(tokenizer) if backend is None else _fast_content(json.loads(backend.to_str()))
    return _json_hash([content, tokenizer.bos_token_id, tokenizer.eos_token_id])


def chat_template_hash(tokenizer: Any) -> str | None:
    """SHA-256 of the chat template (of all of them where they are named); None without one.

    Where it asks for today's date, :data:`PINNED_DATE` is part of it.
    """
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    date = [PINNED_DATE.date().isoformat()] if "strftime_now" in text else []
    return hashlib.sha256("\n".join([*text.splitlines(), *date]).encode()).hexdigest()


def weights_hash(folder: Path) -> str:
    """SHA-256 over a model's (or adapter's) tensors, by name, and over its configuration.

    The same tensors in other shards have the same hash; one changed number has another one. A folder of ``.gguf``
    files is hashed by their bytes.

    Raises:
        ModelError: the folder is missing, or holds neither safetensors nor GGUF weights.
    """
    if folder.is_file() and folder.suffix == ".gguf":
        return _file_hash(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}", mend="give a folder that holds config.json and weights")
    files = _weight_files(folder)
    with ThreadPoolExecutor() as pool:
        tensors = sorted(pair for found in pool.map(_tensor_hashes, files) for pair in found)
    configs = [_config(folder / name) for name in ("config.json", "adapter_config.json")]
    return _json_hash([tensors, configs])


def _fast_content(parts: Mapping[str, Any]) -> Any:
    added = sorted((token["id"], *(token[key] for key in _ADDED_TOKEN_PARTS)) for token in parts["added_tokens"])
    return [added, *(parts[name] for name in _ENCODING_PARTS)]


def _slow_content(tokenizer: Any) -> Any:
    return [sorted(tokenizer.get_vocab().items()), tokenizer(_PROBE, add_special_tokens=False)["input_ids"]]


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(_weight_map(index).values())
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing:
            raise ModelError(f"{folder} lacks the weight file {missing[0]}", mend="download the model again")
        return sorted(folder / name for name in names)
    for pattern in ("model.safetensors", "adapter_model.safetensors", "*.safetensors", "*.gguf"):
        if found := sorted(folder.glob(pattern)):
            return found
    raise ModelError(
        f"{folder} holds no safetensors weights", mend="save the model with safe_serialization (pickles are not loaded)"
    )


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{index} does not say which file holds which tensor: {error!r}", mend="download or save the model again"
        ) from error


def _tensor_hashes(file: Path) -> list[tuple[str, str]]:
    if file.suffix == ".gguf":
        return [(file.name, _file_hash(file))]
    return list(_safetensors_hashes(file))


def _safetensors_hashes(file: Path) -> Iterator[tuple[str, str]]:
    """Name and hash of each tensor; the format is 8 bytes of header length, a JSON header, then the data."""
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 0 <= length <= file.stat().st_size - 8:
            raise ModelError(f"{file} is not a safetensors file", mend="download or save the model again")
        header = _json_object(stream.read(length), f"the header of {file}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            for name, tensor in header.items():
                if name == "__metadata__":
                    continue
                start, end = (8 + length + offset for offset in tensor["data_offsets"])
                if end > len(view):
                    raise ModelError(f"{file} is cut short at tensor {name}", mend="download or save the model again")
                content = hashlib.sha256(f"{tensor['dtype']}{tensor['shape']}".encode())
                content.update(view[start:end])
                yield name, content.hexdigest()


def _json_object(content: bytes, name: str) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:  # of JSON or of UTF-8
        raise ModelError(f"{name} is not valid JSON: {error}", mend="download or save the model again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{name} is not a JSON object", mend="download or save the model again")
    return values


def _file_hash(file: Path) -> str:
    content = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            content.update(chunk)
    return content.hexdigest()


def _config(file: Path) -> Any:
    if not file.is_file():
        return None
    values = _json_object(file.read_bytes(), str(file))
    return {key: value for key, value in values.items() if key not in _BOOKKEEPING}


def _json_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
