from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.log_backends import LogBackend, MemoryBackend, kafka_backend, kafka_broker
from turnstream.log.settings import KafkaSettings


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaSettings]:
    with kafka_broker() as settings:
        yield settings


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[LogBackend]:
    if request.param == "memory":
        yield MemoryBackend()
        return
    async with kafka_backend(request.getfixturevalue("broker")) as kafka:
        yield kafka
