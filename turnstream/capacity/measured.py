"""The last measured figures: the rules of ``per_core.toml`` over the results that benchmarks keep.

The file has one table per figure. ``assumed`` and ``why`` count while no result has the figure yet; ``results`` names,
best first, where to look: the benchmark, the path to the number, and a factor if its unit is another.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from turnstream.capacity.figures import Basis, Figure

RULES: Final = Path(__file__).with_name("per_core.toml")
# An installed wheel has no results: then only assumptions count, and say so.
RESULTS: Final = Path(__file__).parents[2] / "bench" / "results"


class Place(BaseModel):
    """Where a result has the figure: in the newest file of ``bench``, under the keys ``at``, times ``scale``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bench: str
    at: tuple[str, ...]
    scale: float = 1.0


class Rule(BaseModel):
    """How one figure is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str
    assumed: float = Field(gt=0)
    why: str
    results: tuple[Place, ...] = ()


def read_rules(path: Path = RULES) -> dict[str, Rule]:
    """How each measured figure is found, by its name."""
    return {name: Rule.model_validate(table) for name, table in tomllib.loads(path.read_text()).items()}


def read_measured(folder: Path = RESULTS, rules: Mapping[str, Rule] | None = None) -> tuple[Figure, ...]:
    """Every figure of the rules, measured where a result in ``folder`` has it, else as it is assumed there.

    Raises ValueError with the file's name for a result that is not JSON.
    """
    wanted = read_rules() if rules is None else rules
    return tuple(_figure(folder, name, rule) for name, rule in wanted.items())


def _figure(folder: Path, name: str, rule: Rule) -> Figure:
    for place in rule.results:
        file = _newest(folder, place.bench)
        number = None if file is None else _number(file, place.at)
        if file is not None and number is not None:
            source = f"{file.name}: {' / '.join(place.at)}"
            return Figure(name=name, value=number * place.scale, unit=rule.unit, basis=Basis.MEASURED, source=source)
    return Figure(name=name, value=rule.assumed, unit=rule.unit, basis=Basis.ASSUMED, source=rule.why)


def _newest(folder: Path, bench: str) -> Path | None:
    # Names begin with the date: the last by name is the last by time.
    dated = sorted(folder.glob(f"[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-{bench}.json"))
    return dated[-1] if dated else None


def _number(file: Path, at: tuple[str, ...]) -> float | None:
    """The positive number there, or None."""
    try:
        found: Any = json.loads(file.read_text())["results"]
        for key in at:
            found = found[key]
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: {error}") from None
    except (KeyError, TypeError, IndexError):
        return None
    usable = isinstance(found, int | float) and not isinstance(found, bool) and found > 0
    return float(found) if usable else None
