"""The files under ``infra``: rules, dashboards, scrapes."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "infra/prometheus"
DASHBOARDS: Final = ROOT / "infra/grafana/dashboards"
RUNBOOKS: Final = ROOT / "docs/runbooks"


@dataclass(frozen=True)
class Alert:
    """An alerting rule as it is written."""

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def runbook(self) -> str:
        """The file name of its runbook: the alert's name in lower case, words joined by hyphens."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower() + ".md"


def _rules() -> list[dict[str, Any]]:
    files = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(PROMETHEUS.glob("rules/*.yml")))
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[Alert]:
    """Every alert of every rule file."""
    return [
        Alert(rule["alert"], rule["expr"], rule.get("labels", {}), rule.get("annotations", {}))
        for rule in _rules()
        if "alert" in rule
    ]


def recorded() -> dict[str, str]:
    """The name of every recording rule with its expression."""
    return {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}


def panels() -> dict[str, list[str]]:
    """The expressions of every panel, by dashboard and title; Grafana's own variables are filled in."""
    found: dict[str, list[str]] = {}
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            expressions = [target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"]]
            found[f"{file.stem}: {panel['title']}"] = expressions
    return found


def expressions() -> dict[str, str]:
    """Every expression of all files, by where it is."""
    listed = {f"alert {alert.name}": alert.expr for alert in alerts()} | recorded()
    for where, texts in panels().items():
        listed |= {f"{where} #{number}": text for number, text in enumerate(texts)}
    return listed
