from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from tests.support.full_stack import FullStack, full_stack


@pytest.fixture(scope="session")
def turnstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullStack]:
    with full_stack(tmp_path_factory.mktemp("e2e") / "home", replicas=2) as running:
        yield running


@pytest.fixture
async def client(turnstream: FullStack) -> AsyncIterator[AsyncOpenAI]:
    async with turnstream.client() as opened:
        yield opened
