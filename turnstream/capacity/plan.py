"""Computes the plan: rows over the measured and the assumed figures, with what was given in their place."""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from turnstream.capacity.assumptions import STATED
from turnstream.capacity.figures import Basis, Figure, Line
from turnstream.capacity.formula import evaluate, names_in
from turnstream.capacity.rows import SECTIONS

# A division by one of these or a count of them: nothing is planned for none.
_MAY_BE_ZERO: Final = frozenset({"regions_lost", "answer_tokens_cv", "prompt_tokens_cv", "question_tokens"})
_SHARES: Final = frozenset({"cpu_utilisation", "gpu_utilisation", "server_utilisation", "store_disk_fill"})
_WHOLE: Final = frozenset({"regions", "regions_lost", "gpu_slots"})


class Plan(BaseModel):
    """Every figure that went in, and every line that came out, in the order of the formulas."""

    model_config = ConfigDict(frozen=True)

    figures: tuple[Figure, ...]
    lines: tuple[Line, ...]

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    @property
    def values(self) -> dict[str, float]:
        """Every number by its name."""
        return {figure.name: figure.value for figure in (*self.figures, *self.lines)}


def make_plan(measured: Iterable[Figure], given: Mapping[str, float] | None = None) -> Plan:
    """The plan from ``measured`` and the assumptions, with ``given`` in the place of either.

    Raises ValueError for a name that is no figure that can be given, and for a value that no plan can be made with.
    """
    replaced = dict(given or {})
    known = {figure.name: figure for figure in (*STATED, *measured)}
    if unknown := sorted(replaced.keys() - known.keys()):
        raise ValueError(f"{unknown[0]} is not a figure that can be given; `turnstream plan --json` lists them")
    figures = tuple(_given(figure, replaced[name]) if name in replaced else figure for name, figure in known.items())
    for figure in figures:
        _check(figure)
    values = {figure.name: figure.value for figure in figures}
    if values["regions_lost"] >= values["regions"] > 1:
        raise ValueError("regions_lost must be less than regions: nobody would be left")
    return Plan(figures=figures, lines=tuple(_lines(values)))


def _lines(values: dict[str, float]) -> Iterable[Line]:
    for section, rows in SECTIONS.items():
        for row in rows:
            values[row.name] = evaluate(row.formula, values)
            yield Line(
                name=row.name,
                value=values[row.name],
                unit=row.unit,
                basis=Basis.DERIVED,
                source="formula",
                section=section,
                says=row.says,
                formula=row.formula,
                inputs=names_in(row.formula),
            )


def _given(figure: Figure, value: float) -> Figure:
    return figure.model_copy(update={"value": value, "basis": Basis.GIVEN, "source": "given"})


def _check(figure: Figure) -> None:
    name, value = figure.name, figure.value
    if not math.isfinite(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise ValueError(f"{name} must be a number above 0, not {value:g}")
    if name in _SHARES and value > 1:
        raise ValueError(f"{name} is a share, at most 1, not {value:g}")
    if name in _WHOLE and value != int(value):
        raise ValueError(f"{name} must be a whole number, not {value:g}")
