"""What pydantic says of a value that cannot be, as it is told to people."""


def own_words(message: str) -> str:
    """The message of a validator of ours without what pydantic puts before it."""
    return message.removeprefix("Value error, ")
