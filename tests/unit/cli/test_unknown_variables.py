"""A variable that begins like a setting and is none is told, by its name alone, and whatever is read is not."""

import json
import re
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from turnstream.cli import app
from turnstream.contract_docs.settings_reference import settings_markdown
from turnstream.settings import Settings
from turnstream.unknown_variables import unknown_variables
from turnstream.wiring import process

ROOT = Path(__file__).parents[3]
VALUE = "must-not-be-told"
KUBERNETES = {
    "TURNSTREAM_EDGE_SERVICE_HOST": "10.0.0.1",
    "TURNSTREAM_EDGE_SERVICE_PORT_HTTP": "80",
    "TURNSTREAM_EDGE_PORT": "tcp://10.0.0.1:80",
    "TURNSTREAM_EDGE_PORT_80_TCP_ADDR": "10.0.0.1",
}


pytestmark = pytest.mark.usefixtures("logging_of_before")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TURNSTREAM_KAFKA__NONSENSE", None),
        ("TURNSTREAM_EDG__PORT", "TURNSTREAM_EDGE__PORT"),
        ("TURNSTREAM_EDGE_PORT", "TURNSTREAM_EDGE__PORT"),
        ("TURNSTREAM_POOLS__FAST__ULR", "TURNSTREAM_POOLS__FAST__URL"),
        ("TURNSTREAM_PLANS__GOLD__REQUESTS_PER_MINUT", "TURNSTREAM_PLANS__GOLD__REQUESTS_PER_MINUTE"),
        ("TURNSTREAM_WINDOWS__ABUSE__BURST__WRN", "TURNSTREAM_WINDOWS__ABUSE__BURST__WARN"),
        ("TURNSTREAM_STACK__HOEM", "TURNSTREAM_STACK__HOME"),
        ("TURNSTREAM_BASEURL", "TURNSTREAM_BASE_URL"),
        ("turnstream_kafka__bootstrap_server", "TURNSTREAM_KAFKA__BOOTSTRAP_SERVERS"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_one_that_it_resembles(name: str, nearest: str | None) -> None:
    (unknown,) = unknown_variables({name: VALUE, "HOME": "/", "TURNSTREAM_EDGE__PORT": "1"})
    assert (unknown.name, unknown.nearest) == (name, nearest)


@pytest.mark.parametrize(
    "environ",
    [
        {"TURNSTREAM_EDGE": "{}", "turnstream_edge__port": "1", "TURNSTREAM_REGION": "eu"},
        {"TURNSTREAM_POOLS": "{}", "TURNSTREAM_POOLS__NEW": "{}", "TURNSTREAM_POOLS__NEW__URL": "http://model"},
        {"TURNSTREAM_USAGE_SINK__OPTIONS__CLIENT_KWARGS__ENDPOINT_URL": "http://store"},
        {"TURNSTREAM_LOOPS__INFERENCE__HOLD__TENANT_WEIGHTS__ACME": "2"},
        KUBERNETES,
    ],
)
def test_what_may_be_set_is_not_told(environ: dict[str, str]) -> None:
    assert unknown_variables(environ) == ()


def test_every_documented_setting_is_known() -> None:
    names = re.findall(r"^\| `(TURNSTREAM_\w+)` \|", settings_markdown(), re.MULTILINE)
    assert len(names) > 300
    assert unknown_variables(dict.fromkeys(names, "")) == ()


def test_every_variable_that_our_sources_name_is_known() -> None:
    folders = ("turnstream", "consumers", "producers", "stream_processors", "schemas", "bench", "docker", "infra")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in _TEXT]
    names = {name for file in files for name in re.findall(r"\bTURNSTREAM_\w*[A-Z0-9]\b", file.read_text("utf-8"))}
    assert len(names) > 30
    assert unknown_variables(dict.fromkeys(names, "")) == ()


_TEXT = (".py", ".yaml", ".yml", ".pbtxt", ".tf", ".sh")


def test_a_command_warns_by_the_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTREAM_SECRETS__API_KEY_PEPER", VALUE)
    result = CliRunner().invoke(app, ["contract", "check", "--root", str(ROOT)])
    assert result.exit_code == 0
    warning = (
        "warning: TURNSTREAM_SECRETS__API_KEY_PEPER is no setting and nothing reads it; "
        "did you mean TURNSTREAM_SECRETS__API_KEY_PEPPER?"
    )
    assert result.stderr.splitlines() == [warning]


def test_a_process_tells_it_in_its_log_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TURNSTREAM_EDG__PORT", VALUE)
    # A logger of another test keeps that one's configuration.
    monkeypatch.setattr(process, "_log", structlog.get_logger())
    process.start_log("edge", Settings.model_validate({"log": {"json_lines": True}}))
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["process"]) == ("variable_unknown", "warning", "edge")
    assert (told["variable"], told["nearest"]) == ("TURNSTREAM_EDG__PORT", "TURNSTREAM_EDGE__PORT")
    assert VALUE not in line
