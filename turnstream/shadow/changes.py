"""What a shadow run does otherwise than the live stages do. Pure, but for the files that it reads."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from consumers.inference.chat_template import Template
from schemas.events import InferenceRequested, TurnAdmitted, TurnAuthorized, TurnPrompted
from schemas.models import Catalogue
from stream_processors.moderation.toml_rules import load_policy
from turnstream.settings import Settings

_HASH_CHARS: Final = 16

Routed = TurnAuthorized | TurnAdmitted | TurnPrompted | InferenceRequested


class Changes(BaseModel):
    """What is asked for. All absent: the present settings, which may be others than those of the day.

    ``policy``: the rules of this file instead of the deployment's own (the rules that ship with the package stay, as
    the settings say). ``system``: this text instead of the operator's system messages. ``template``: of every Triton
    pool. ``model``, ``pool``: who answers, whatever was asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Path | None = None
    system: Path | None = None
    template: Template | None = None
    model: str | None = None
    pool: str | None = None

    def applied(self, settings: Settings) -> Settings:
        """The settings of the run. Reads the files. Raises ValueError, saying what is wrong."""
        changed: dict[str, Any] = {}
        if self.policy is not None:
            rules = {"rules_files": (self.policy,), "deny": ()}
            changed["moderation"] = settings.moderation.model_copy(update=rules)
            load_policy(changed["moderation"])
        if self.system is not None:
            text = _read(self.system)
            changed["prompt"] = settings.prompt.model_copy(update={"system_messages": (text,) if text else ()})
        if self.template is not None:
            shaped = {"template": self.template}
            changed["pools"] = {name: pool.model_copy(update=shaped) for name, pool in settings.pools.items()}
        return settings.model_copy(update=changed)

    def route(self, settings: Settings) -> "Reroute":
        """Who answers. Raises ValueError for an unknown model or pool."""
        pool = self.pool
        if pool is not None and pool not in settings.pools:
            raise ValueError(f"no such pool: {pool}; there are {', '.join(settings.pools)}")
        if self.model is None:
            return Reroute(None, pool)
        catalogue = Catalogue.of(settings.models)
        card = catalogue.names.get(self.model)
        if card is None:
            raise ValueError(f"no such model: {self.model}; there are {', '.join(catalogue.cards)}")
        return Reroute(card.id, pool or card.pool)

    def words(self, settings: Settings) -> dict[str, str]:
        """What the run's record says of it: names, and of texts a hash. ``settings`` as ``applied``."""
        said = {
            "policy": None if self.policy is None else load_policy(settings.moderation).version,
            "system": None if self.system is None else _hash(_read(self.system)),
            "template": None if self.template is None else self.template.value,
            "model": self.model,
            "pool": self.pool,
        }
        return {name: value for name, value in said.items() if value is not None}


class Reroute:
    """Sends turns to another model or pool, whatever their account may ask for."""

    def __init__(self, model: str | None, pool: str | None) -> None:
        self._update: Mapping[str, Any] = {
            **({} if model is None else {"served_model": model}),
            **({} if pool is None else {"pool": pool}),
        }

    def __call__(self, event: Routed) -> Routed:
        """``event`` for the wanted model. Nobody else answers instead: the run is about this one."""
        return event.model_copy(update={**self._update, "fallbacks": ()})


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} is not UTF-8") from None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
