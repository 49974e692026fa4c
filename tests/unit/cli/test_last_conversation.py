from pathlib import Path

import pytest

from turnstream.chat.last_conversation import SERVERS_MAX, LastConversation

FIRST = "conv_" + "0" * 26
SECOND = "conv_" + "0" * 25 + "1"


def test_it_remembers_per_server(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "last.json"
    LastConversation(file).remember("http://a/v1", FIRST)
    LastConversation(file).remember("http://b/v1", SECOND)
    assert LastConversation(file).recall("http://a/v1") == FIRST
    assert LastConversation(file).recall("http://b/v1") == SECOND
    assert LastConversation(file).recall("http://c/v1") is None


def test_it_forgets_the_oldest_server(tmp_path: Path) -> None:
    memory = LastConversation(tmp_path / "last.json")
    for number in range(SERVERS_MAX + 1):
        memory.remember(f"http://{number}/v1", FIRST)
    assert memory.recall("http://0/v1") is None
    assert memory.recall("http://1/v1") == FIRST


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"http://a/v1": 1}', '{"http://a/v1": "conv_nope"}'])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, text: str) -> None:
    file = tmp_path / "last.json"
    file.write_text(text, encoding="utf-8")
    assert LastConversation(file).recall("http://a/v1") is None
    LastConversation(file).remember("http://a/v1", FIRST)
    assert LastConversation(file).recall("http://a/v1") == FIRST
