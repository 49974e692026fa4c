"""What a process remembers of clients."""

from producers.http.bounded import Findings


def test_the_findings_that_were_used_last_are_remembered() -> None:
    findings: Findings[int] = Findings(2)
    findings.keep("a", 1)
    findings.keep("b", 2)
    assert findings.get("a") == 1
    findings.keep("c", 3)
    assert [findings.get(text) for text in "abc"] == [1, None, 3]


def test_no_text_is_kept() -> None:
    findings: Findings[int] = Findings(2)
    findings.keep("a secret text", 1)
    assert "secret" not in repr(vars(findings))
