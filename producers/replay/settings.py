"""Settings of replay."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ReplaySettings(BaseModel):
    """Where runs remember how far they are."""

    model_config = ConfigDict(frozen=True)

    folder: Path = Field(
        default=Path(".turnstream/replays"), description="Of the files by which `--resume` goes on after a crash."
    )
