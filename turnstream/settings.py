"""Every setting of every process, read once from the environment.

A variable is ``TURNSTREAM_`` plus the path in this model, joined by two underscores, in capitals:
``TURNSTREAM_KAFKA__BOOTSTRAP_SERVERS``. Structured values are JSON. ``docs/settings.md`` lists them all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.inference.core import InferenceSettings
from consumers.inference.pool import PoolSettings
from consumers.sse.core import SseSettings
from consumers.usage_sink.core import UsageSinkSettings
from consumers.work import KeyedSettings, LoopSettings
from producers.accounts.core import AccountsSettings
from producers.conversations.core import ConversationsSettings
from producers.ingest.core import IngestSettings
from producers.replay.settings import ReplaySettings
from schemas.bills import LOCAL_REGION
from schemas.errors import Fatal
from schemas.models import DEFAULT_CATALOGUE, Catalogue, ModelCard
from schemas.plans import DEFAULT_PLANS, Plan
from schemas.topics import POOLS
from stream_processors.auth.core import AuthSettings
from stream_processors.moderation.core import ModerationSettings
from stream_processors.prompt.core import PromptSettings
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.windows.core import WindowsSettings
from turnstream.audit.settings import OperationsSettings
from turnstream.http_server import ServerSettings
from turnstream.log.settings import KafkaSettings
from turnstream.log.turn_lookup import TurnLookupSettings
from turnstream.stores.cassandra import CassandraSettings
from turnstream.validation_words import own_words

PREFIX: Final = "TURNSTREAM_"


class Section(BaseModel):
    """A group of settings; frozen."""

    model_config = ConfigDict(frozen=True)


class TopicSettings(Section):
    """How topics are laid out here; None keeps the design's count."""

    partitions: int | None = Field(default=4, ge=1, description="Of every topic but tokens.")
    partitions_tokens: int | None = Field(default=16, ge=1, le=65_536, description="Of `chat.tokens.v1`.")
    replication: int = Field(default=1, ge=1)


class RedisSettings(Section):
    """Where Redis is. It holds quotas and caches, never the only copy of anything."""

    url: SecretStr = SecretStr("redis://127.0.0.1:16379/0")
    connections_max: int = Field(default=32, ge=1)
    connect_seconds_max: float = Field(default=2.0, gt=0)
    answer_seconds_max: float = Field(default=2.0, gt=0)


class EdgeSettings(ServerSettings):
    """The HTTP server of the edge, and which part of the tokens topic it reads."""

    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes a free one.")
    home_partitions: tuple[int, ...] = Field(
        default=(), description="Tokens partitions that this edge reads; empty chooses some by chance."
    )
    home_partitions_max: int = Field(
        default=4, ge=1, description="How many it chooses: each costs at every fetch, all carry their share of answers."
    )
    drain_seconds_max: float = Field(default=20, ge=0, description="For open streams to end when the process stops.")


class SecretSettings(Section):
    """What must stay secret: in files, so that no environment shows it."""

    api_key_pepper: SecretStr | None = Field(
        default=None, description="Keys the hashes of API keys; the same for the edge and `turnstream keys`."
    )
    api_key_pepper_file: Path | None = Field(default=None, description="A file that holds the pepper instead.")
    signing_keys_file: Path | None = Field(
        default=None, description="A JWKS of private P-256 keys that sign access tokens; absent: one, from the pepper."
    )
    development_key_file: Path | None = Field(
        default=None, description="Where `turnstream bootstrap` keeps the development key; absent: none is made."
    )


class MetricsSettings(Section):
    """Where a process serves /metrics, /healthz and /readyz."""

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=1, le=65_535, description="Absent: not served.")


class LogSettings(Section):
    """How a process logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json_lines: bool = Field(default=False, description="JSON also on a terminal.")


class LoopsSettings(Section):
    """Limits of the consume loops."""

    fuse: bool = Field(
        default=True, description="Carry turns through all stages of a process at once; false: one hop each."
    )
    processors: LoopSettings = LoopSettings()
    inference: KeyedSettings = KeyedSettings()
    sink: LoopSettings = LoopSettings()


class Settings(BaseSettings):
    """All settings; each process takes its sections."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore")

    region: str = Field(
        default=LOCAL_REGION, pattern="^[a-z0-9][a-z0-9-]*$", max_length=32, description="Where this runs; on bills."
    )
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    cassandra: CassandraSettings = CassandraSettings()
    redis: RedisSettings = RedisSettings()
    secrets: SecretSettings = SecretSettings()
    models: tuple[ModelCard, ...] = Field(default=DEFAULT_CATALOGUE, min_length=1)
    plans: Mapping[str, Plan] = Field(
        default=DEFAULT_PLANS, min_length=1, description="What accounts may use, by plan."
    )
    edge: EdgeSettings = EdgeSettings()
    ingest: IngestSettings = IngestSettings()
    accounts: AccountsSettings = AccountsSettings()
    conversations: ConversationsSettings = ConversationsSettings()
    sse: SseSettings = SseSettings()
    lookup: TurnLookupSettings = TurnLookupSettings()
    auth: AuthSettings = AuthSettings()
    rate_limit: RateLimitSettings = RateLimitSettings()
    prompt: PromptSettings = PromptSettings()
    moderation: ModerationSettings = ModerationSettings()
    pools: Mapping[str, PoolSettings] = Field(default={pool: PoolSettings() for pool in POOLS})
    inference: InferenceSettings = InferenceSettings()
    sink: CassandraSinkSettings = CassandraSinkSettings()
    usage_sink: UsageSinkSettings = UsageSinkSettings()
    windows: WindowsSettings = WindowsSettings()
    loops: LoopsSettings = LoopsSettings()
    replay: ReplaySettings = ReplaySettings()
    operations: OperationsSettings = OperationsSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _pools_exist(self) -> Self:
        unknown = sorted(set(self.pools) - set(POOLS))
        if unknown:
            raise ValueError(f"pools: no such pool: {', '.join(unknown)}; there are {', '.join(POOLS)}")
        return self

    @model_validator(mode="after")
    def _catalogue_is_unambiguous(self) -> Self:
        Catalogue.of(self.models)
        return self

    @model_validator(mode="after")
    def _owners_look_before_they_are_replaced(self) -> Self:
        if self.inference.unverified_ms_max >= self.kafka.session_ms_max:
            raise ValueError("inference.unverified_ms_max must be less than kafka.session_ms_max")
        return self

    @property
    def pepper_bytes(self) -> bytes:
        """The pepper of API keys. Raises Fatal, naming the variable, when it is not set or cannot be read."""
        secrets = self.secrets
        if secrets.api_key_pepper is not None:
            return secrets.api_key_pepper.get_secret_value().encode()
        if secrets.api_key_pepper_file is None:
            raise Fatal(f"neither {PREFIX}SECRETS__API_KEY_PEPPER nor {PREFIX}SECRETS__API_KEY_PEPPER_FILE is set")
        try:
            return secrets.api_key_pepper_file.read_bytes().strip()
        except OSError as error:
            raise Fatal(f"{PREFIX}SECRETS__API_KEY_PEPPER_FILE: {error.strerror}") from None


def load_settings() -> Settings:
    """The settings of this process. Raises Fatal with one line that names the variable at fault."""
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "__".join(str(part) for part in problem["loc"]).upper()
        said = own_words(problem["msg"])
        # What holds between several settings has no place of its own; its words name them.
        raise Fatal(f"{name}: {said}" if problem["loc"] else said) from None
