"""TRL: conversational preference rows with reference log-probs, and a recipe that really uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curation.export.formats.layout import CHOSEN, MESSAGES, REJECTED, Layout
from schemas.enums import Split

RECIPE = "train_trl.py"

_SELECT = f"""
    {MESSAGES} as prompt, [{CHOSEN}] as chosen, [{REJECTED}] as rejected,
    reference_chosen_logps as ref_chosen_logps, reference_rejected_logps as ref_rejected_logps,
    weight, criterion, source, pair_id
"""

_RECIPE = '''"""Train with TRL on this export: python train_trl.py MODEL [OUTPUT]

DPOTrainer ignores the ref_*_logps columns, or computes them again; these overrides make it use the exported ones, which
belong to the reference policy in manifest.json, and give each pair its weight. One forward pass a pair.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference


class Collator(DataCollatorForPreference):
    def torch_call(self, examples):
        return super().torch_call(examples) | {"weight": torch.tensor([example["weight"] for example in examples])}


class WinnowDPOTrainer(DPOTrainer):
    def _precompute_ref_logps(self, dataset, name, batch_size):
        return dataset  # the log-probs are in the export

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, "weight"]))

    def _compute_loss(self, model, inputs, return_outputs):
        weights, pairs = inputs["weight"], len(inputs["weight"])
        parts = [
            {key: value[pair::pairs] for key, value in inputs.items() if key != "weight"} for pair in range(pairs)
        ]
        losses = [super(WinnowDPOTrainer, self)._compute_loss(model, part, False) for part in parts]
        loss = (torch.stack(losses) * weights).mean()
        return (loss, {}) if return_outputs else loss


def trainer(model, **options):
    from transformers import AutoTokenizer

    here = Path(__file__).parent
    manifest = json.loads((here / "manifest.json").read_text())
    data = load_dataset(str(here))
    tokenizer = AutoTokenizer.from_pretrained(model)
    hardware = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    config = DPOConfig(beta=manifest["rules"]["beta"], precompute_ref_log_probs=True, **(hardware | options))
    return WinnowDPOTrainer(
        model,
        args=config,
        train_dataset=data["train"],
        processing_class=tokenizer,
        data_collator=Collator(pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id),
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python train_trl.py MODEL [OUTPUT_FOLDER]")
    trainer(sys.argv[1], output_dir=sys.argv[2] if len(sys.argv) > 2 else "dpo").train()
'''


def _extra(_: Sequence[Split]) -> Mapping[str, str]:
    return {RECIPE: _RECIPE}


LAYOUT = Layout("trl", "parquet", _SELECT, loses=("soft_label", "objective"), extra=_extra)
