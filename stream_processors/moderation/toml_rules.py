"""Rules from TOML files."""

import tomllib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from stream_processors.moderation.core import ModerationSettings
from stream_processors.moderation.policy import Policy
from stream_processors.moderation.ruleset import RuleSet

DEFAULT_RULES: Final = Path(__file__).parent / "rules" / "default.toml"


def load_policy(settings: ModerationSettings) -> Policy:
    """The policy of the settings. Reads files; call it at start-up. Raises ValueError, naming file and field."""
    files = ((DEFAULT_RULES,) if settings.default_rules else ()) + settings.rules_files
    rules = RuleSet(deny=settings.deny)
    for file in files:
        rules = rules.extended(load_rules(file))
    return Policy(rules.with_actions(settings.actions))


def load_rules(file: Path) -> RuleSet:
    """The rules in ``file``. Raises ValueError when it cannot be read or is not a set of rules."""
    try:
        return RuleSet.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file.name} is not TOML: {error}") from None
    except ValidationError as error:
        places = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
        raise ValueError(f"{file.name} has wrong values in: {', '.join(places)}") from None
