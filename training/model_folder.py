"""Where a policy lies. No torch here, so that a missing model is refused at once."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import ModelError


def model_folder(model: str, *, revision: str | None = None) -> Path:
    """Folder of a model that is given by path or Hub id; a Hub id is downloaded when it is not in the cache.

    Raises:
        ModelError: there is no such folder and no such model, or the folder is that of an adapter.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"{path} is an adapter, which cannot be trained on",
                mend="merge it into its base (peft: merge_and_unload, save_pretrained) and give that folder",
            )
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} holds no config.json", mend="give the folder of a transformers model")
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise ModelError(
            f"there is no model folder {model}", mend="give a folder with config.json, or a Hub id"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"there is no model {model!r}, neither a folder nor on the Hub: {str(error).splitlines()[0]}",
            mend="give the path of a model folder",
        ) from error
