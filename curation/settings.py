"""What ``diagnose`` can be told: the ``[diagnose]`` table of ``winnow.toml``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class AnnotatorSettings(BaseModel):
    """The ``[diagnose.annotators]`` table: the annotator model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strengths: tuple[float, ...] = Field(
        default=(0.3, 1.0, 2.0, 3.5),
        min_length=1,
        description="Latent strengths of a preference, log-odds at discrimination 1, each with both signs",
    )
    evennesses: tuple[float, ...] = Field(
        default=(-1.5, 0.0, 1.5), min_length=1, description="Latent log-odds by which a pair invites a tie"
    )
    strength_scale: float = Field(
        default=1.5, gt=0, description="Width of the half-normal hyperprior over strengths, log-odds"
    )
    class_prior_pairs: float = Field(default=40, gt=0, description="Weight of that hyperprior, in pairs")
    min_degree: float = Field(
        default=4, gt=0, description="Pairs a response, on average, from which responses get rewards of their own"
    )
    max_rounds: int = Field(default=100, ge=1, description="Most rounds of EM")
    rounds_per_update: int = Field(default=5, ge=1, description="Rounds between updates of the priors' variances")
    sample_votes: int = Field(
        default=300_000, ge=1000, description="A set of over twice as many votes starts from the fit of a sample"
    )
    tolerance: float = Field(
        default=1e-4, gt=0, description="Stop when the log-likelihood grows by less than this a vote between updates"
    )


class DiagnoseSettings(BaseModel):
    """The ``[diagnose]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(default=0.1, gt=0, description="beta of the trainer: rlhf_margin is taken at it")
    num_bootstraps: int = Field(default=200, ge=10, description="Bootstrap samples of an interval")
    seed: int = Field(default=0, description="Seed of everything that is sampled")
    annotators: AnnotatorSettings = Field(default_factory=AnnotatorSettings)
