"""Tokens with their log probabilities, held back as long as the text that they spell. Pure."""

from collections import deque

from schemas.content import Content
from schemas.generation import TokenLogprob, TopLogprob


class SpelledTokens:
    """Add tokens as the model draws them; get them back as soon as their text has been passed on.

    The engine tells the probability of the drawn token alone: with ``top`` it stands for the likeliest.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._tokens: deque[TokenLogprob] = deque()
        self._passed = ""

    def add(self, text: str, logprob: float) -> None:
        """The model drew a token that spells ``text``."""
        token = Content(text)
        top = (TopLogprob(token=token, logprob=logprob),) if self._top else ()
        self._tokens.append(TokenLogprob(token=token, logprob=logprob, top=top))

    def release(self, text: str, *, call: bool) -> tuple[TokenLogprob, ...]:
        """The tokens of ``text``, which is passed on. What spells markup or a ``call`` is no content: it is dropped."""
        self._passed += text
        released = []
        while self._tokens and self._passed.startswith(self._tokens[0].token.text):
            token = self._tokens.popleft()
            self._passed = self._passed[len(token.token.text) :]
            released.append(token)
        if call:
            self._tokens.clear()
            self._passed = ""
        return tuple(released)
