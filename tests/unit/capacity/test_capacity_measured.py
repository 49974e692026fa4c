"""Measured figures come from the newest result; what no result has is assumed, and says so."""

import json
from pathlib import Path

import pytest

from turnstream.capacity.figures import Basis
from turnstream.capacity.measured import RESULTS, Place, Rule, read_measured, read_rules

RULE = Rule(
    unit="us/token",
    assumed=50,
    why="nobody has measured it",
    results=(
        Place(bench="edge-alone", at=("cpu_us",)),
        Place(bench="end-to-end", at=("200 paced", "cpu", "edge"), scale=2),
    ),
)


def keep(folder: Path, name: str, results: object) -> None:
    (folder / name).write_text(json.dumps({"machine": {}, "results": results}))


def test_without_a_result_it_is_assumed(tmp_path: Path) -> None:
    (figure,) = read_measured(tmp_path, {"edge": RULE})
    assert (figure.value, figure.basis, figure.source) == (50, Basis.ASSUMED, "nobody has measured it")


def test_the_newest_result_counts_in_the_figures_own_unit(tmp_path: Path) -> None:
    keep(tmp_path, "2026-11-20-end-to-end.json", {"200 paced": {"cpu": {"edge": 90}}})
    keep(tmp_path, "2026-11-21-end-to-end.json", {"200 paced": {"cpu": {"edge": 30}}})
    keep(tmp_path, "2026-11-22-not-end-to-end.json", {"200 paced": {"cpu": {"edge": 1}}})
    (figure,) = read_measured(tmp_path, {"edge": RULE})
    assert (figure.value, figure.basis) == (60, Basis.MEASURED)
    assert figure.source == "2026-11-21-end-to-end.json: 200 paced / cpu / edge"


def test_the_first_place_that_has_it_counts(tmp_path: Path) -> None:
    keep(tmp_path, "2026-11-21-end-to-end.json", {"200 paced": {"cpu": {"edge": 30}}})
    keep(tmp_path, "2026-11-19-edge-alone.json", {"cpu_us": 7})
    (figure,) = read_measured(tmp_path, {"edge": RULE})
    assert (figure.value, figure.source) == (7, "2026-11-19-edge-alone.json: cpu_us")


@pytest.mark.parametrize("results", [{}, {"200 paced": 3}, {"200 paced": {"cpu": {"edge": 0}}}, [1], None])
def test_a_result_of_another_shape_has_no_figure(tmp_path: Path, results: object) -> None:
    keep(tmp_path, "2026-11-21-end-to-end.json", results)
    (figure,) = read_measured(tmp_path, {"edge": RULE})
    assert figure.basis is Basis.ASSUMED


def test_a_result_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "2026-11-21-end-to-end.json").write_text("{")
    with pytest.raises(ValueError, match="2026-11-21-end-to-end"):
        read_measured(tmp_path, {"edge": RULE})


def test_every_rule_finds_its_figure_in_the_kept_results() -> None:
    """A benchmark that renames what it keeps would turn a measured figure into an assumed one."""
    kept = {file.stem[len("2026-11-21-") :] for file in RESULTS.glob("????-??-??-*.json")}
    with_places = {name for name, rule in read_rules().items() if any(one.bench in kept for one in rule.results)}
    assert {figure.name for figure in read_measured(RESULTS) if figure.basis is Basis.MEASURED} == with_places
    assert {"edge_token", "inference_token", "stages_turn"} <= with_places
