"""Layouts of trainers that take prompt, chosen and rejected and little else, and of a Hugging Face dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from curation.export.formats.layout import CHOSEN, MESSAGES, REJECTED, Layout
from curation.export.formats.winnow import COLUMNS
from schemas.enums import Split

_BARE = ("weight", "soft_label", "objective", "reference_logps", "criterion", "source")


def _llama_factory_registry(splits: Sequence[Split]) -> Mapping[str, str]:
    """``dataset_info.json``: a data set a split; LLaMA-Factory reads every file of the folder."""
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    info = {
        f"winnow_{split}": {
            "file_name": split.value,
            "ranking": True,
            "formatting": "sharegpt",
            "columns": columns,
            "tags": tags,
        }
        for split in splits
    }
    return {"dataset_info.json": json.dumps(info, indent=2) + "\n"}


def _axolotl_config(splits: Sequence[Split]) -> Mapping[str, str]:
    """The part of an axolotl config that names the data."""
    lines = ["# put this into your axolotl config, and set rl: dpo"]
    for key, split in (("datasets", Split.TRAIN), ("test_datasets", Split.TEST)):
        if split in splits:
            lines += [
                f"{key}:",
                "  - path: .  # the folder of this export",
                "    ds_type: json",
                f"    data_files: [{split}-*.jsonl]",
                "    split: train",
                "    type: chat_template.default",
            ]
    return {"axolotl.yaml": "\n".join(lines) + "\n"}


LLAMA_FACTORY = Layout(
    "llama-factory",
    "jsonl",
    f"{MESSAGES} as conversations, {CHOSEN} as chosen, {REJECTED} as rejected",
    loses=_BARE,
    folder="{split}",
    extra=_llama_factory_registry,
)

OPENRLHF = Layout(
    "openrlhf",
    "jsonl",
    f"{MESSAGES} as prompt, [{CHOSEN}] as chosen, [{REJECTED}] as rejected",
    loses=_BARE,
)

AXOLOTL = Layout(
    "axolotl",
    "jsonl",
    f"{MESSAGES} as messages, {CHOSEN} as chosen, {REJECTED} as rejected",
    loses=_BARE,
    extra=_axolotl_config,
)

NEMO_RL = Layout(
    "nemo-rl",
    "jsonl",
    f"{MESSAGES} as context, [{{'rank': 0, 'completion': [{CHOSEN}]}}, {{'rank': 1, 'completion': [{REJECTED}]}}]"
    " as completions",
    loses=_BARE,
)

_NESTED = {
    "prompt": f"{MESSAGES} as prompt",
    "chosen": f"[{CHOSEN}] as chosen",
    "rejected": f"[{REJECTED}] as rejected",
}

HF_DATASET = Layout(
    "hf-dataset", "parquet", ", ".join(_NESTED.get(column, column) for column in COLUMNS), folder="data"
)
