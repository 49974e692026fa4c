"""OpenAI's lists, as ``/openapi.json`` tells them."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class Listed(BaseModel, Generic[T]):
    """All of something."""

    object: Literal["list"]
    data: list[T]


class Page(Listed[T], Generic[T]):
    """A part of a list; the rest comes `after` its `last_id`."""

    first_id: str | None
    last_id: str | None
    has_more: bool
