"""A figure of the plan: a number with its unit and where it comes from."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Basis(StrEnum):
    """Where a figure comes from."""

    GIVEN = "given"
    """Said on the command line or in the assumptions file."""
    MEASURED = "measured"
    """Read from a kept result of a benchmark."""
    CONTRACT = "contract"
    """Read from the contract, such as a topic's retention."""
    ASSUMED = "assumed"
    """Stated, not measured here."""
    DERIVED = "derived"
    """Computed by a formula from other figures."""


class Figure(BaseModel):
    """A number with its unit. ``source`` says which result, why it was assumed, or who gave it."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    unit: str
    basis: Basis
    source: str


class Line(Figure):
    """A figure that the plan computed. ``says`` is for people; ``inputs`` are the names that ``formula`` reads."""

    section: str
    says: str
    formula: str
    inputs: tuple[str, ...]
