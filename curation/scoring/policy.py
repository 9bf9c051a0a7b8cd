"""The reference policy: where its files lie, its tokenizer, and what identifies its scores."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curation.scoring.settings import ScoringSettings
from schemas.errors import ModelError
from schemas.identity import digest
from schemas.long_rope import original_length
from schemas.model_identity import chat_template_hash, tokenizer_hash, weights_hash

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_UNKNOWN_LIMIT = 4096  # longest sequence of a model that says none
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class ReferencePolicy:
    """A reference policy, ready to be loaded by an engine.

    Attributes:
        reference_id: content hash of everything that a score depends on but the engine: weights, tokenizer, chat
            template, template mode, adapter, quantisation, longest sequence and truncation.
        model: folder, absolute, or Hub id.
        folder: where its files lie.
        adapter: folder of a LoRA adapter, or None.
        template: how a prompt becomes tokens, as :func:`schemas.tokens.encode_groups` takes it.
        quantization: method that the weights were quantised with, or are on load.
        quantize_on_load: method by which an engine has to quantise them; None where they are as they should be.
        original_length: see :mod:`schemas.long_rope`.
    """

    reference_id: str
    model: str
    folder: Path
    revision: str | None
    adapter: Path | None
    adapter_hash: str | None
    weights_hash: str
    tokenizer_hash: str
    chat_template_hash: str | None
    template: Literal["chat", "plain"]
    quantization: str | None
    quantize_on_load: str | None
    max_length: int
    original_length: int | None
    truncate: str
    trust_remote_code: bool
    tokenizer: Any


def open_policy(settings: ScoringSettings, model: str) -> ReferencePolicy:
    """Find a model's files, read its tokenizer and hash what identifies it; no weights are loaded.

    Args:
        settings: how to score.
        model: folder or Hub id.

    Raises:
        ModelError: the model is missing, or lacks weights, configuration, tokenizer or the chat template asked for.
    """
    folder, revision = _locate(model, settings.revision)
    config = read_config(folder)
    tokenizer = load_tokenizer(folder, trust_remote_code=settings.trust_remote_code)
    template_hash = chat_template_hash(tokenizer)
    if settings.template == "chat" and template_hash is None:
        raise ModelError(f"{model} has no chat template", mend="set [scoring] template = 'plain', or add one to it")
    template = "plain" if template_hash is None or settings.template == "plain" else "chat"
    adapter = None if settings.adapter is None else Path(settings.adapter).expanduser().resolve()
    own = _quantization(config)
    parts: dict[str, Any] = {
        "weights_hash": weights_hash(folder),
        "tokenizer_hash": tokenizer_hash(tokenizer),
        "chat_template_hash": template_hash if template == "chat" else None,
        "template": template,
        "adapter_hash": None if adapter is None else weights_hash(adapter),
        "quantization": settings.quantization or own,
        "max_length": _max_length(config, settings.max_length, model),
        "truncate": settings.truncate,
    }
    return ReferencePolicy(
        reference_id=digest(json.dumps(parts, sort_keys=True)),
        model=str(folder) if Path(model).expanduser().exists() else model,
        folder=folder,
        revision=revision,
        adapter=adapter,
        quantize_on_load=None if settings.quantization == own else settings.quantization,
        original_length=original_length(config),
        trust_remote_code=settings.trust_remote_code,
        tokenizer=tokenizer,
        **parts,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's ``config.json``.

    Raises:
        ModelError: it is missing or no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} holds no config.json", mend="give the folder of a saved transformers model")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}", mend="download or save the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object", mend="download or save the model again")
    return config


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder.

    Raises:
        ModelError: the folder holds none, or it cannot be read.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(f"{folder} holds no tokenizer", mend="save the tokenizer beside the model (tokenizer.json)")
    from transformers import AutoTokenizer

    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"the tokenizer in {folder} cannot be read: {_first_line(error)}", mend="save the tokenizer again"
        ) from error


def _locate(model: str, revision: str | None) -> tuple[Path, str | None]:
    """Folder of a model, and the commit of a Hub id, which is downloaded where it is not cached."""
    folder = Path(model).expanduser()
    if _is_gguf(folder):
        raise ModelError(
            f"{model} is GGUF, for which vLLM 0.32 has no loader",
            mend="give the folder of the safetensors weights; [scoring] quantization quantises them on load",
        )
    if folder.is_dir():
        return folder.resolve(), None
    looks_like_path = model.startswith((".", "/", "~")) or model.count("/") != 1
    if folder.exists() or looks_like_path:
        raise ModelError(f"there is no model folder {model}", mend="give a folder with config.json, or a Hub id")
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(model, revision=revision, allow_patterns=list(_HUB_FILES)))
    except Exception as error:
        raise ModelError(
            f"{model} is neither a folder nor a Hub model that can be reached: {_first_line(error)}",
            mend="give a folder, or log in with `hf auth login`",
        ) from error
    return found, found.name


def _is_gguf(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.gguf")) and not any(path.glob("*.safetensors"))
    return path.is_file() and path.suffix == ".gguf"


def _max_length(config: dict[str, Any], asked: int | None, model: str) -> int:
    """Longest prompt and response: what is asked for, or the model's limit; with LongRoPE, that of its short factors.

    Raises:
        ModelError: more is asked for than the model has positions.
    """
    limit, original = _position_limit(config), original_length(config)
    if asked is not None and limit is not None and asked > limit:
        raise ModelError(f"{model} takes {limit:,} tokens, not {asked:,}", mend=f"--max-length {limit}")
    return asked or (limit if original is None else original - 1) or _UNKNOWN_LIMIT


def _position_limit(config: dict[str, Any]) -> int | None:
    text = config.get("text_config", config)
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(text.get(key), int):
            return int(text[key])
    return None


def _quantization(config: dict[str, Any]) -> str | None:
    method = (config.get("quantization_config") or {}).get("quant_method")
    return None if method is None else str(method)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
