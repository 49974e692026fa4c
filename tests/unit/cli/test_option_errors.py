"""What is wrong with an option or a variable is told in the terms of the command line, not in those of a library."""

import pytest
from typer.testing import CliRunner

from schemas.errors import Fatal
from turnstream.cli import app
from turnstream.commands.exits import Exit
from turnstream.settings import load_settings


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("dlq", "list", "--state", "x"), "Invalid value for '--state': 'x' is not one of 'open', 'redriven',"),
        (("replay", "diff", "R", "--only", "x"), "Invalid value for '--only': 'x' is not one of 'flipped',"),
        (("usage", "cost", "--by", "x"), "Invalid value for '--by': 'x' is not one of 'tenant', 'user',"),
        (("logs", "-n", "0"), "Invalid value for '--lines' / '-n': Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_told_with_its_option(
    arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == Exit.BAD_INPUT
    assert told in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("TURNSTREAM_POOLS__SLOW__URL", "gpu-1:8001", "pools: no such pool: slow"),
        ("TURNSTREAM_POOLS__FAST__URL", " , ", "TURNSTREAM_POOLS__FAST__URL: no server is named"),
    ],
)
def test_a_wrong_variable_is_told_with_its_name(
    variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Fatal) as caught:
        load_settings()
    assert str(caught.value).startswith(told)
