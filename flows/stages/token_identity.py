"""The tokenizer of the latest reference policy, by which diagnose tells pairs that the cut at the length makes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import polars as pl

from flows.workspace import Workspace
from warehouse.lake import Lake

_LATEST = """
    select reference_id, model, template, max_length
    from raw.reference_policies
    order by created_at desc, reference_id
    limit 1
"""


@dataclass(frozen=True)
class TokenReader:
    """How the policy that is trained reads a conversation.

    Attributes:
        reference_id: the policy.
        folder: where its tokenizer lies.
        template: how prompts are rendered.
        max_length: tokens of prompt and response that training keeps.
        trust_remote_code: whether the folder's own code may run.
    """

    reference_id: str
    folder: Path
    template: Literal["chat", "plain"]
    max_length: int
    trust_remote_code: bool

    @classmethod
    def of(cls, lake: Lake, workspace: Workspace) -> TokenReader | None:
        """The reader of the latest policy; None where none has scored yet, or its folder is not on this machine."""
        row = lake.con.execute(_LATEST).fetchone()
        if row is None or not Path(row[1]).expanduser().is_dir():
            return None
        settings = workspace.settings
        return cls(
            reference_id=row[0],
            folder=Path(row[1]).expanduser(),
            template=cast(Literal["chat", "plain"], row[2]),
            max_length=settings.train.max_length or row[3],
            trust_remote_code=settings.scoring.trust_remote_code,
        )

    @property
    def key(self) -> list[str | int]:
        """What the result depends on."""
        return [self.reference_id, self.max_length]

    def with_identity(self, lake: Lake, pair_features: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
        """Add ``is_token_identical`` to the rows of ``raw.pair_features``.

        Args:
            lake: holds the texts.
            pair_features: one row a pair.
            pairs: ``pair_id``, ``chosen_id``, ``rejected_id``.
        """
        from curation.scoring.policy import load_tokenizer
        from curation.token_identity import token_identity

        found = token_identity(
            pairs.select("pair_id", response_x_id="chosen_id", response_y_id="rejected_id"),
            lake.frame("select response_id, prompt_id, text from raw.responses"),
            lake.frame("select prompt_id, messages from raw.prompts"),
            load_tokenizer(self.folder, trust_remote_code=self.trust_remote_code),
            max_length=self.max_length,
            template=self.template,
        )
        return pair_features.join(found, on="pair_id", how="left")
