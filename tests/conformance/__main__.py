"""``python -m tests.conformance``: try every route of a real stack with requests made out of its OpenAPI document."""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2
from openai import OpenAI
from rich.console import Console

from tests.conformance.schemathesis_run import Target, Wish, run
from tests.support.full_stack import MODEL, full_stack
from turnstream.local_stack.errors import StackError

TRUE: Final = 0
UNTRUE: Final = 1
COULD_NOT_RUN: Final = 2
CASES: Final = 10_000
MINUTES_MAX: Final = 45.0


def main() -> int:
    """Start, try, report. 0: every answer was as documented; 1: some were not; 2: it could not run."""
    options = _options()
    out = Console(stderr=True)
    try:
        with _base_url(options, out) as (base_url, key):
            target = Target(base_url.removesuffix("/v1"), key, known_values(base_url, key))
            wish = Wish(options.cases, options.minutes * 60, seed=options.seed)
            outcome = asyncio.run(run(target, wish, shown=True))
    except TimeoutError:
        out.print(f"not done within {options.minutes} minutes")
        return COULD_NOT_RUN
    except (StackError, OSError, RuntimeError, httpx2.HTTPError) as error:
        out.print(f"could not run: {error}", markup=False)
        return COULD_NOT_RUN
    out.print(f"{outcome.cases} cases; {len(outcome.failures)} kinds of untrue answers")
    if outcome.cases < options.cases:
        out.print(f"fewer cases than the {options.cases} that were asked for")
    return TRUE if not outcome.failures and outcome.complete and outcome.cases >= options.cases else UNTRUE


def known_values(base_url: str, key: str) -> dict[str, str]:
    """Things that exist, for requests that go further than to a 404."""
    with OpenAI(base_url=base_url, api_key=key) as client:
        made = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], store=True, max_completion_tokens=5
        )
        response = client.responses.create(model=MODEL, input="Hello", max_output_tokens=16)
        conversation = client.conversations.create(items=[{"role": "user", "content": "Hello"}])
        item = next(iter(client.conversations.items.list(conversation.id)))
        return {
            "model": MODEL,
            "model_id": MODEL,
            "completion_id": made.id,
            "response_id": response.id,
            "conversation_id": conversation.id,
            "item_id": item.id or "",
        }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--minutes", type=float, default=MINUTES_MAX, help="how long it may take at most")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--base-url", help="a Turnstream that runs already, up to and including /v1")
    parser.add_argument("--key", default=os.environ.get("OPENAI_API_KEY"), help="its key (else $OPENAI_API_KEY)")
    options = parser.parse_args()
    if options.base_url and not options.key:
        parser.error("--base-url needs a key")
    return options


@contextmanager
def _base_url(options: argparse.Namespace, out: Console) -> Iterator[tuple[str, str]]:
    if options.base_url:
        yield options.base_url, options.key
        return
    out.print("Starting Turnstream on free ports ...")
    folder = tempfile.TemporaryDirectory(prefix="turnstream-conformance-")
    with folder as home, full_stack(Path(home) / "home") as running:
        yield running.base_url, running.key


if __name__ == "__main__":
    sys.exit(main())
