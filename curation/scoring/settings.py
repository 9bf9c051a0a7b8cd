"""How the reference policy scores: the ``[scoring]`` table of ``winnow.toml``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EngineName = Literal["auto", "vllm", "transformers", "vllm-server"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
VllmPath = Literal["auto", "pooling", "token-ids", "flat"]


class ScoringSettings(BaseModel):
    """The ``[scoring]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, description="Reference policy: a model folder or a Hub id")
    revision: str | None = Field(default=None, description="Revision of a Hub id: branch, tag or commit")
    adapter: str | None = Field(default=None, description="Folder of a LoRA adapter on the model")
    trust_remote_code: bool = Field(default=False, description="Run Python code that the model folder brings")
    template: Literal["auto", "chat", "plain"] = Field(
        default="auto", description="How a prompt is written: the tokenizer's chat template, or plain text"
    )
    max_length: int | None = Field(
        default=None,
        ge=2,
        description="Longest prompt and response in tokens; when absent the model's own limit, with LongRoPE its first",
    )
    truncate: Literal["never", "left"] = Field(
        default="never", description="What is done to a response that does not fit: marked unscored, or its prompt cut"
    )
    engine: EngineName = Field(default="auto", description="Engine; auto takes the fastest that is installed")
    vllm_path: VllmPath = Field(default="auto", description="Path through vLLM; auto takes the best that it has")
    server: str | None = Field(
        default=None, description="URL of a running vLLM server; it scores unless another engine is named"
    )
    server_concurrency: int = Field(default=16, ge=1, description="Requests that are under way at the server at once")
    server_timeout_seconds: float = Field(default=120, gt=0, description="How long one request may take")
    server_retries: int = Field(default=4, ge=0, description="How often a request that failed is tried again")
    dtype: DtypeName = Field(
        default="auto", description="dtype of the computation; auto is the one in which the weights are stored"
    )
    quantization: str | None = Field(
        default=None, description="Quantisation to apply on load (vLLM); one that the weights bring is found by itself"
    )
    embeddings: bool = Field(
        default=False, description="Keep a random projection (256 numbers) of each response's last hidden state"
    )
    shard_tokens: int | None = Field(
        default=None, ge=1, description="Tokens scored and committed together; by device when absent"
    )
    batch_tokens: int | None = Field(
        default=None, ge=64, description="Tokens in one forward pass; by engine and device when absent"
    )
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1, description="Share of the GPU that vLLM may take")
    compile: bool | None = Field(
        default=None,
        description="torch.compile the decoder layers (transformers); when absent, where winnow doctor --bench found it"
        " to pay on this device. Layers that this CPU's own loops replace are not compiled",
    )
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share one model (vLLM)")
