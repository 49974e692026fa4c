import pytest

from schemas.topics import OPERATIONS_AUDIT
from tests.support.memory_log import MemoryLog
from turnstream.commands import audited
from turnstream.wiring import audit


@pytest.fixture(autouse=True)
def audit_log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """Where commands tell what they do."""
    log = MemoryLog(1, {OPERATIONS_AUDIT.name: 1})
    monkeypatch.setattr(audit, "KafkaProducer", lambda _settings: log.producer())
    monkeypatch.setattr(audited, "KafkaProducer", lambda _settings: log.producer())
    return log
