from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI


@pytest.fixture
def client() -> Iterator[OpenAI]:
    # As its users make it: where to go comes from OPENAI_BASE_URL and OPENAI_API_KEY.
    with OpenAI() as opened:
        yield opened


@pytest.fixture
async def async_client() -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI() as opened:
        yield opened
