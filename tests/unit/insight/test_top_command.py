import json
from collections.abc import AsyncGenerator, Mapping

import pytest
import typer
from typer.testing import CliRunner, Result

from turnstream.commands import running_stack, top
from turnstream.commands.exits import Exit
from turnstream.commands.running_stack import LocalRun
from turnstream.commands.top import metrics_urls
from turnstream.insight.overview import Overview, build_overview
from turnstream.insight.scrape import Sample, Scrape
from turnstream.settings import Settings

LOCAL = {"edge": "http://127.0.0.1:19100/metrics"}


@pytest.fixture(autouse=True)
def _a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "local_run", lambda: LocalRun("http://here/v1", "k", {}, LOCAL))
    monkeypatch.setattr(top, "require_settings", Settings)


def invoke(monkeypatch: pytest.MonkeyPatch, scrape: Scrape, *arguments: str) -> tuple[Result, dict[str, str]]:
    asked: dict[str, str] = {}

    async def screens(_settings: Settings, urls: Mapping[str, str], _s: float) -> AsyncGenerator[Overview, None]:
        asked.update(urls)
        for second in range(2):
            yield build_overview(Sample(second, (scrape,)), Sample(second + 1, (scrape,)), None)

    monkeypatch.setattr(top, "overviews", screens)
    app = typer.Typer()
    top.register(app)
    return CliRunner().invoke(app, list(arguments), terminal_width=200), asked


def test_one_screen_of_the_local_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    result, asked = invoke(monkeypatch, Scrape("edge", {}), "--once")
    assert (result.exit_code, asked) == (0, LOCAL)
    assert "requests/s" in result.stdout


def test_what_is_piped_gets_a_line_of_json_per_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = invoke(monkeypatch, Scrape("edge", {}))
    assert [json.loads(line)["seconds"] for line in result.stdout.splitlines()] == [1.0, 1.0]


def test_one_screen_without_any_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = invoke(monkeypatch, Scrape("edge", None, "ConnectError"), "--once", "--json")
    assert result.exit_code == Exit.NOT_RUNNING
    assert json.loads(result.stdout)["processes"] == [{"process": "edge", "answers": False, "problem": "ConnectError"}]


def test_nothing_to_ask_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "local_run", lambda: None)
    result, _ = invoke(monkeypatch, Scrape("edge", {}), "--once")
    assert (result.exit_code, len(result.stderr.splitlines())) == (Exit.NOT_RUNNING, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], LOCAL),
        (["http://a:9100/metrics"], {"a:9100": "http://a:9100/metrics"}),
        (["edge=http://a:9100/metrics?x=y"], {"edge": "http://a:9100/metrics?x=y"}),
    ],
)
def test_processes_are_named_by_the_stack_or_by_hand(given: list[str], expected: dict[str, str]) -> None:
    assert metrics_urls(given) == expected
    assert running_stack.BASE_URL
