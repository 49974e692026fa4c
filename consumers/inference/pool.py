"""What a deployment says about one inference pool: which server, how to speak to it, and its limits."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

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
        description="One server, or several with commas between. Triton: host:port of its gRPC endpoint. "
        "OpenAI: base URL that ends in /v1.",
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
        default=60.0,
        gt=0,
        description="Seconds without a token, from a server that is alive: a long prompt takes time.",
    )
    silence_s_min: float = Field(
        default=1.0, gt=0, description="Seconds without any token from a server until it is asked whether it is alive."
    )
    unanswered_probes_max: int = Field(
        default=2, ge=1, description="Such questions in a row, of 2 s each, until its answers go on elsewhere."
    )
    cooldown_s_min: float = Field(
        default=1.0, gt=0, description="How long a server that failed is avoided; doubles with each failure in a row."
    )
    cooldown_s_max: float = Field(default=30.0, gt=0, description="Longest time that a server is avoided.")
    probe_interval_s: float = Field(default=0.5, gt=0, description="Between two looks at the servers of the pool.")
    turns_in_flight_max: int | None = Field(
        default=None, ge=1, description="Turns of the pool generating at once in one process; absent: as loops say."
    )
    connections_max: int = Field(default=1_024, ge=1, description="OpenAI: connections to the upstream.")
    message_bytes_max: int = Field(default=1_048_576, ge=1_024, description="Largest single message of the server.")

    @property
    def servers(self) -> tuple[Self, ...]:
        """The same pool once per server, each with one ``url``."""
        urls = tuple(filter(None, (part.strip() for part in self.url.split(","))))
        return tuple(self.model_copy(update={"url": url}) for url in urls)

    @property
    def address(self) -> str:
        """The ``url`` as a log line may show it: without a credential in it."""
        before, _, rest = self.url.rpartition("@")
        scheme, mark, _ = before.partition("://")
        return f"{scheme if mark else ''}{mark}{rest.partition('?')[0]}"

    @field_validator("url")
    @classmethod
    def _names_a_server(cls, url: str) -> str:
        if not url.replace(",", " ").strip():
            raise ValueError("no server is named")
        return url
