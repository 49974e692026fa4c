"""The committed documents are those of the models, and the command that says so tells the truth."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from turnstream.commands import contract
from turnstream.contract_docs.documents import (
    ASYNCAPI,
    EVENTS_PAGE,
    JSON_SCHEMAS,
    METRICS_PAGE,
    SETTINGS_PAGE,
    contract_state,
)
from turnstream.contract_docs.example_files import EXAMPLES

ROOT = Path(__file__).parents[3]
TOPIC_FILE = JSON_SCHEMAS / "usage.events.v1.json"

app = typer.Typer()
contract.register(app)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the generators read and write."""
    for folder in (EXAMPLES, JSON_SCHEMAS):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in (ASYNCAPI, EVENTS_PAGE, SETTINGS_PAGE, METRICS_PAGE):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / file)
    return tmp_path


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["contract", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_committed_documents_are_in_step_with_the_models() -> None:
    state = contract_state(ROOT)
    assert state.breaking == ()
    assert state.stale == ()


def test_check_is_silent_about_nothing(checkout: Path) -> None:
    assert invoke("check", "--root", checkout) == (0, "The generated documents are in step with the models.\n")


@pytest.mark.parametrize(
    "stale", [TOPIC_FILE, ASYNCAPI, EVENTS_PAGE, SETTINGS_PAGE, METRICS_PAGE], ids=lambda path: path.name
)
def test_check_names_what_is_stale_and_generate_mends_it(checkout: Path, stale: Path) -> None:
    (checkout / stale).unlink()
    code, output = invoke("check", "--root", checkout)
    assert code == 1
    assert f"stale: {stale}" in output
    assert invoke("generate", "--root", checkout) == (0, f"wrote {stale}\n")
    assert invoke("check", "--root", checkout)[0] == 0


def promise_more(checkout: Path) -> None:
    """Make the committed schema promise a field that the models do not have."""
    schema = json.loads((checkout / TOPIC_FILE).read_text(encoding="utf-8"))
    schema["properties"]["cost"] = {"type": "integer"}
    (checkout / TOPIC_FILE).write_text(json.dumps(schema), encoding="utf-8")


def test_a_breaking_change_is_refused_until_it_is_accepted(checkout: Path) -> None:
    promise_more(checkout)
    before = (checkout / TOPIC_FILE).read_text(encoding="utf-8")
    for command in ("check", "generate"):
        code, output = invoke(command, "--root", checkout)
        assert code == 1
        assert "breaking: usage.events.v1: cost: field removed" in output
    assert (checkout / TOPIC_FILE).read_text(encoding="utf-8") == before
    assert invoke("generate", "--root", checkout, "--accept-breaking")[0] == 0
    assert contract_state(checkout).breaking == ()


def test_a_topic_that_vanishes_is_a_breaking_change(checkout: Path) -> None:
    gone = checkout / JSON_SCHEMAS / "chat.gone.v1.json"
    shutil.copyfile(checkout / TOPIC_FILE, gone)
    code, output = invoke("check", "--root", checkout)
    assert code == 1
    assert "breaking: chat.gone.v1: topic removed" in output
    assert invoke("generate", "--root", checkout, "--accept-breaking")[0] == 0
    assert not gone.exists()


def test_another_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    code, output = invoke("check", "--root", tmp_path)
    assert code == 2
    assert "is not a checkout" in output
