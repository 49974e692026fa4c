"""What a deployment says about one inference pool: which server, how to speak to it, and its limits."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from consumers.inference.chat_template import Template


class BackendKind(StrEnum):
    """The two protocols that a pool may speak."""

    TRITON = "triton"
    OPENAI = "openai"


class PoolSettings(BaseModel):
    """One pool of models on its own servers."""

    model_config = ConfigDict(frozen=True)

    backend: BackendKind = BackendKind.TRITON
    url: str = Field(
        default="127.0.0.1:8001",
        description="Triton: host:port of its gRPC endpoint. OpenAI: base URL that ends in /v1.",
    )
    model: str | None = Field(
        default=None,
        description="Triton: model name, default `ensemble`. OpenAI: upstream model, default the client's own.",
    )
    api_key: SecretStr | None = Field(default=None, description="OpenAI: bearer token of the upstream.")
    template: Template = Field(default=Template.CHATML, description="Triton: how messages become one prompt.")
    continues_prefix: bool = Field(
        default=False,
        description="OpenAI: the upstream knows vLLM's `continue_final_message`, so a broken answer can be continued.",
    )
    connect_s_max: float = Field(default=5.0, gt=0, description="Seconds until a connection must stand.")
    silence_s_max: float = Field(
        default=60.0, gt=0, description="Seconds without a token until a server counts as dead."
    )
    connections_max: int = Field(default=512, ge=1, description="OpenAI: connections to the upstream.")
    message_bytes_max: int = Field(default=1_048_576, ge=1_024, description="Largest single message of the server.")
