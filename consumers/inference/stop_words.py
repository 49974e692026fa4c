"""Ends a stream of text before the stop word that is complete first, the longest of those that end there. Pure.

TensorRT-LLM ends after a stop word and includes it, and misses one whose tokens fall otherwise
than it split the word; clients of the OpenAI API expect an answer without it.
"""

from collections.abc import Iterable


class StopFilter:
    """Feed text in pieces; get back what can no longer be part of a stop word.

    ``before`` is the accepted text that this stream continues: a stop word may begin in it.
    """

    def __init__(self, words: Iterable[str], before: str = "") -> None:
        self._words = tuple(filter(None, words))
        self._reach = max((len(word) for word in self._words), default=1) - 1
        # Text that is already out but may be the beginning of a stop word, then text that is held back.
        self._sent_tail = before[-self._reach :] if self._reach else ""
        self._held = ""
        self.matched = False

    def feed(self, text: str) -> str:
        """The text to pass on; "" while it is held back, and for ever after a stop word (``matched``)."""
        if self.matched:
            return ""
        window, start = self._sent_tail + self._held + text, len(self._sent_tail)
        # By the end: a word that began earlier but is complete later must not depend on how the text was cut.
        found = [(at + len(word), at) for word in self._words if (at := window.find(word)) >= 0]
        if found:
            self.matched = True
            return window[start : max(start, min(found)[1])]
        return self._release(window, start, len(window) - self._suspicious(window))

    def flush(self) -> str:
        """The text that was held back, when the stream ends without a stop word."""
        held, self._held = self._held, ""
        return "" if self.matched else held

    def _release(self, window: str, start: int, end: int) -> str:
        end = max(start, end)
        self._held = window[end:]
        self._sent_tail = window[max(0, end - self._reach) : end] if self._reach else ""
        return window[start:end]

    def _suspicious(self, window: str) -> int:
        """How many of the last characters are the beginning of a stop word."""
        for length in range(min(self._reach, len(window)), 0, -1):
            if any(word.startswith(window[-length:]) for word in self._words if len(word) > length):
                return length
        return 0
