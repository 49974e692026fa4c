import re

import pytest

from tests.support.observability_files import ROOT, RUNBOOKS, Alert, alerts

SECTIONS = ["What it means", "Who suffers", "Look here", "Do this", "How it ends"]


def test_alerts_and_runbooks_match_one_to_one() -> None:
    assert {alert.runbook for alert in alerts()} == {file.name for file in RUNBOOKS.glob("*.md")} - {"README.md"}
    assert len({alert.name for alert in alerts()}) == len(alerts())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_a_runbook_is_where_its_alert_says_and_answers_the_same_questions(alert: Alert) -> None:
    file = ROOT / alert.annotations["runbook_url"]
    assert file == RUNBOOKS / alert.runbook
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


def test_the_list_of_runbooks_is_complete() -> None:
    listed = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]\(([\w-]+\.md)\)", listed, re.MULTILINE) == [
        (alert.name, alert.runbook) for alert in alerts()
    ]


@pytest.mark.parametrize("file", sorted(RUNBOOKS.glob("*.md")), ids=lambda file: file.name)
def test_links_lead_somewhere(file: object) -> None:
    path = RUNBOOKS / str(getattr(file, "name", ""))
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).resolve().is_file(), target
