"""How the generated world is made: what is planted, and how much of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WorldSettings(BaseModel):
    """Shares of everything that is planted. A share is a probability; the counts follow from the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    responses_weights: tuple[float, float, float, float] = Field(
        default=(0.4, 0.3, 0.2, 0.1), description="Weights of prompts with 2, 3, 4 and 5 responses"
    )
    votes_weights: tuple[float, float, float, float, float] = Field(
        default=(0.2, 0.2, 0.3, 0.1, 0.2), description="Weights of pairs with 1 to 5 votes"
    )
    kind_weights: tuple[float, float, float, float] = Field(
        default=(0.62, 0.2, 0.1, 0.08),
        description="Weights of careful, careless, position-biased and adversarial annotators",
    )
    flipped_share: float = Field(default=0.08, ge=0, le=1, description="Pairs of which every vote is recorded inverted")
    repeated_share: float = Field(default=0.04, ge=0, le=1, description="Pairs judged again with the opposite label")
    near_duplicate_share: float = Field(
        default=0.06, ge=0, le=1, description="Pairs of which a near-duplicate has the opposite label"
    )
    cycle_share: float = Field(
        default=0.15, ge=0, le=1, description="Prompts with three or more responses whose majority votes go round"
    )
    identical_share: float = Field(
        default=0.12, ge=0, le=1, description="Prompts with two responses of which one copies the other"
    )
    near_identical_share: float = Field(
        default=0.15, ge=0, le=1, description="Prompts with two responses that differ in their last words only"
    )
    favored_bad_share: float = Field(
        default=0.35, ge=0, le=1, description="Topics in which the reference policy has learned to write bad responses"
    )
    policy_consistency: float = Field(
        default=0.85,
        ge=0.5,
        le=1,
        description="Probability that a slot of the policy's corpus follows its topic's habit",
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> WorldSettings:
        if self.flipped_share + self.repeated_share + self.near_duplicate_share > 1:
            raise ValueError("flipped_share, repeated_share and near_duplicate_share together exceed 1")
        if self.identical_share + self.near_identical_share > 1:
            raise ValueError("identical_share and near_identical_share together exceed 1")
        return self
