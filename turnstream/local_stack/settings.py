"""What a user may set about the local stack, read once from `TURNSTREAM_STACK__*`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from turnstream.local_stack.layout import Layout, checkout_root

Port = Annotated[int, Field(ge=1, le=65535)]


class StackSettings(BaseSettings):
    """Frozen. A port left out takes its default, or a free one near it; a port set here is taken or `up` fails."""

    model_config = SettingsConfigDict(env_prefix="TURNSTREAM_STACK__", frozen=True, extra="ignore")

    home: Path | None = Field(default=None, description="Folder of one run; default `.turnstream` in the checkout.")
    jars: Path | None = Field(default=None, description="Jar cache, may be shared; default `<home>/jars`.")
    maven_url: str | None = Field(default=None, description="Maven 2 repository; default that of the jgo library.")
    triton_models: Path | None = Field(default=None, description="Model repository; default `docker/triton/models`.")
    fast_start: bool = Field(
        default=True,
        description="JVMs start faster and are ready to serve sooner; off, they run faster after minutes of load.",
    )
    demo_upstream_pools: frozenset[Literal["fast", "capable"]] = Field(
        default=frozenset(), description="Pools that the demonstration upstream serves, beside Triton for the others."
    )
    kafka_port: Port | None = None
    cassandra_port: Port | None = None
    redis_port: Port | None = None
    triton_grpc_port: Port | None = None
    triton_http_port: Port | None = None
    edge_port: Port | None = Field(default=None, validation_alias="TURNSTREAM_EDGE__PORT")

    def layout(self) -> Layout:
        """Return the folders of this run, absolute."""
        home = (self.home or checkout_root() / ".turnstream").resolve()
        return Layout(home=home, jars=(self.jars or home / "jars").resolve())

    def model_repository(self) -> Path:
        """Return the folder that Triton loads its models from."""
        return (self.triton_models or checkout_root() / "docker" / "triton" / "models").resolve()
