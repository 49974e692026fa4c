from collections.abc import Iterator

import pytest

from tests.support.log_backends import kafka_broker
from turnstream.log.settings import KafkaSettings


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaSettings]:
    with kafka_broker() as settings:
        yield settings
