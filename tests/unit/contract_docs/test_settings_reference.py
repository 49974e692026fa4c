import re

from turnstream.contract_docs.settings_reference import settings_markdown
from turnstream.settings import Settings

PAGE = settings_markdown()


def test_every_section_is_there() -> None:
    assert re.findall(r"^## (\w+)$", PAGE, re.MULTILINE) == list(Settings.model_fields)


def test_nested_settings_have_the_variable_that_sets_them() -> None:
    assert "| `TURNSTREAM_LOOPS__INFERENCE__DRAIN_SECONDS_MAX` | `20` |" in PAGE
    assert "| `TURNSTREAM_EDGE__PORT` | `8080` |" in PAGE


def test_no_secret_is_shown() -> None:
    assert "redis://" not in PAGE
