"""Who answers: our Triton, a model that the user already has, or the demonstration upstream. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from turnstream.local_stack.ports import LOOPBACK

POOLS: Final = ("FAST", "CAPABLE")
UPSTREAM_URL: Final = "TURNSTREAM_UPSTREAM__BASE_URL"
# The settings of a pool that one `TURNSTREAM_UPSTREAM__*` variable gives to both pools.
_UPSTREAM_SETTINGS: Final = {"BASE_URL": "URL", "API_KEY": "API_KEY", "MODEL": "MODEL"}
_SECRET_SUFFIX: Final = "__API_KEY"  # noqa: S105 - the name of a variable


class Engine(StrEnum):
    """What stands behind the two model pools."""

    TRITON = "triton"
    DEMO_UPSTREAM = "demo-upstream"
    OWN_MODEL = "own-model"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine, and one line for the user about why it is not Triton (empty when it is)."""

    engine: Engine
    note: str = ""


def choose_engine(environ: Mapping[str, str], no_triton: str | None) -> EngineChoice:
    """Decide from the user's environment; `no_triton` says in one line why this machine has none, None if it has."""
    given = _given(environ)
    if environ.get(UPSTREAM_URL) or "URL" in given or given.get("BACKEND", Engine.TRITON) != Engine.TRITON:
        return EngineChoice(
            Engine.OWN_MODEL, "the model pools are yours (set in the environment): Triton is not started"
        )
    if no_triton is not None:
        return EngineChoice(Engine.DEMO_UPSTREAM, f"{no_triton}: a demonstration upstream answers instead")
    return EngineChoice(Engine.TRITON)


def pool_environment(engine: Engine, port: int | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the `TURNSTREAM_POOLS__*` variables for our processes; `port` is that of the engine we started, if any.

    What the user set for one pool alone holds for both. May contain a secret: see `without_secrets`.
    """
    if engine is Engine.TRITON:
        return _for_both({"BACKEND": "triton", "URL": f"{LOOPBACK}:{port}"})
    if engine is Engine.DEMO_UPSTREAM:
        return _for_both(_demo(port))
    if environ.get(UPSTREAM_URL):
        named = {name: environ.get(f"TURNSTREAM_UPSTREAM__{theirs}") for theirs, name in _UPSTREAM_SETTINGS.items()}
        return _for_both({"BACKEND": "openai"} | {name: value for name, value in named.items() if value})
    shared = _for_both({"BACKEND": "openai"} | _given(environ))
    return {name: environ.get(name) or value for name, value in shared.items()}


def demo_pools_environment(pools: Iterable[str], port: int) -> dict[str, str]:
    """Return the variables of the pools that the demonstration upstream serves while Triton serves the others."""
    return _for_pools(sorted(pool.upper() for pool in pools), _demo(port))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what may be shown and written to a file."""
    return {name: value for name, value in environment.items() if not name.endswith(_SECRET_SUFFIX)}


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the pool settings that the user gave to any pool; the first pool's value wins."""
    prefixes = tuple(f"TURNSTREAM_POOLS__{pool}__" for pool in reversed(POOLS))
    return {
        name.removeprefix(prefix): value
        for prefix in prefixes
        for name, value in environ.items()
        if name.startswith(prefix) and value
    }


def _demo(port: int | None) -> dict[str, str]:
    # It continues a broken answer like the Triton model does.
    return {"BACKEND": "openai", "URL": f"http://{LOOPBACK}:{port}/v1", "CONTINUES_PREFIX": "true"}


def _for_both(settings: Mapping[str, str]) -> dict[str, str]:
    return _for_pools(POOLS, settings)


def _for_pools(pools: Iterable[str], settings: Mapping[str, str]) -> dict[str, str]:
    return {f"TURNSTREAM_POOLS__{pool}__{name}": value for pool in pools for name, value in settings.items()}
