"""Exact token counts from a model's own ``tokenizer.json``, with the optional library ``tokenizers``."""

import importlib
from pathlib import Path

from stream_processors.token_counts import TokenCounter, estimate_tokens


def load_counter(tokenizer_file: Path | None) -> TokenCounter:
    """The counter of ``tokenizer_file``, or the estimate when there is none. Reads the file; call it at start-up.

    Raises ValueError when the library is not installed or the file is not a tokenizer. It never uses a network.
    """
    if tokenizer_file is None:
        return estimate_tokens
    try:
        library = importlib.import_module("tokenizers")
    except ImportError:
        raise ValueError("tokenizer_file is set, but the package 'tokenizers' is not installed") from None
    try:
        tokenizer = library.Tokenizer.from_str(tokenizer_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"tokenizer_file cannot be read: {error.strerror}") from None

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count
