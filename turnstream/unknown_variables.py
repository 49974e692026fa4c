"""Which ``TURNSTREAM_`` variables of an environment nothing reads: most of them are misspelt settings. Pure.

They are told and passed over, never refused: in a rolling deployment an older process meets the variables of the next
version. Names are told, values never.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from turnstream.local_stack.settings import StackSettings
from turnstream.settings import PREFIX, Settings

_JOINT: Final = "__"
_ANY_KEY: Final = "*"
_ANYTHING_BELOW: Final = "**"
# What is no setting of a process and yet read: by the commands, the local stack, and whoever follows what `up` prints.
_READ_ELSEWHERE: Final = frozenset(
    {"BASE_URL", "API_KEY", "KEY", "STACK_RUN", "UPSTREAM__BASE_URL", "UPSTREAM__API_KEY", "UPSTREAM__MODEL"}
)
# The demonstration model, benchmarks and tests have variables of their own; what they mean is known there.
_READ_BY_OTHERS: Final = ("DEMO_", "BENCH_", "TEST_", "E2E_", "CONFORMANCE_")
_STACK: Final = f"STACK{_JOINT}"
# Kubernetes tells every pod of every service: `turnstream-edge` is `TURNSTREAM_EDGE_SERVICE_HOST`, `..._PORT` and more.
_SERVICE_HOST: Final = "_SERVICE_HOST"
# Of difflib's ratio: with less, any two names of one section resemble each other.
_RESEMBLANCE_MIN: Final = 0.75


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that nothing reads, and the known one that it resembles, if any."""

    name: str
    nearest: str | None

    def __str__(self) -> str:
        hint = f"did you mean {self.nearest}?" if self.nearest else "docs/settings.md lists them all"
        return f"{self.name} is no setting and nothing reads it; {hint}"


def unknown_variables(environ: Mapping[str, str]) -> tuple[UnknownVariable, ...]:
    """The variables of ``environ`` that begin like a setting and are none, in the order of their names."""
    names = sorted(name for name in environ if name.upper().startswith(PREFIX))
    services = tuple(name.removesuffix(_SERVICE_HOST) for name in names if name.endswith(_SERVICE_HOST))
    ours = [name for name in names if not _of_a_service(name, services)]
    return tuple(UnknownVariable(name, _nearest(_path(name))) for name in ours if not _is_known(_path(name)))


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.upper().removeprefix(PREFIX).split(_JOINT))


def _of_a_service(name: str, services: tuple[str, ...]) -> bool:
    told = ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT")
    return any(name.startswith(f"{service}{end}") for service in services for end in told)


def _is_known(path: tuple[str, ...]) -> bool:
    text = _JOINT.join(path)
    if text in _READ_ELSEWHERE or text.startswith(_READ_BY_OTHERS):
        return True
    return any(_fits(path, known) for known in _known_paths())


def _fits(path: tuple[str, ...], known: tuple[str, ...]) -> bool:
    if known[-1] == _ANYTHING_BELOW:
        known = known[:-1]
        path = path[: len(known)]
    return len(path) == len(known) and all(part in (name, _ANY_KEY) for name, part in zip(path, known, strict=True))


def _nearest(path: tuple[str, ...]) -> str | None:
    fixed = (known for known in _known_paths() if known[-1] not in (_ANY_KEY, _ANYTHING_BELOW))
    spelt = {_JOINT.join(_with_keys_of(path, known)) for known in fixed} | _READ_ELSEWHERE
    close = difflib.get_close_matches(_JOINT.join(path), sorted(spelt), n=1, cutoff=_RESEMBLANCE_MIN)
    return f"{PREFIX}{close[0]}" if close else None


def _with_keys_of(path: tuple[str, ...], known: tuple[str, ...]) -> Iterator[str]:
    for place, part in enumerate(known):
        yield path[place] if part == _ANY_KEY and place < len(path) else part


@cache
def _known_paths() -> frozenset[tuple[str, ...]]:
    return frozenset(_below(Settings)) | frozenset(_of_the_stack())


def _of_the_stack() -> Iterator[tuple[str, ...]]:
    for name, field in StackSettings.model_fields.items():
        if field.validation_alias is None:
            yield tuple(f"{_STACK}{name.upper()}".split(_JOINT))


def _below(annotation: Any) -> Iterator[tuple[str, ...]]:
    """The paths that may be set below a setting of this type, each name in capitals; a free key is a star.

    Below the free keys of a plain mapping there may be anything.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            for rest in ((), *_below(field.annotation)):
                yield (name.upper(), *rest)
    elif isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Mapping):
        below = tuple(_below(get_args(annotation)[1]))
        for rest in ((), *below) if below else ((_ANYTHING_BELOW,),):
            yield (_ANY_KEY, *rest)
    else:
        # A union or an annotated type.
        for part in get_args(annotation) if get_origin(annotation) not in (tuple, list, frozenset, set) else ():
            yield from _below(part)
