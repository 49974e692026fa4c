"""Identifiers that carry their own time and place.

A turn id is 128 bits, written as 26 characters of Crockford base 32 in lower case:
48 bits of Unix milliseconds, 16 bits of home partition, 64 bits of entropy. Ids sort by time, and
whoever holds one knows where on ``chat.tokens.v1`` its answer lives, without any lookup table.
"""

from typing import Final

TURN_ID_CHARS: Final = 26
TURN_ENTROPY_BYTES: Final = 8
CONVERSATION_ENTROPY_BYTES: Final = 10
PUBLIC_TURN_PREFIX: Final = "chatcmpl-"
RESPONSE_PREFIX: Final = "resp_"
CONVERSATION_PREFIX: Final = "conv_"

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
_PAIR_SHIFTS: Final = range(5 * (TURN_ID_CHARS - 2), -1, -10)
# Crockford's digits to those of int(text, 32), which is much faster than a loop; what is no digit becomes "!".
_NO_DIGIT: Final = "!"
_TO_DIGITS: Final = dict.fromkeys(range(128), _NO_DIGIT) | str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_TIME_BITS: Final = 48
_PARTITION_BITS: Final = 16
_TURN_ENTROPY_BITS: Final = 64
_CONVERSATION_ENTROPY_BITS: Final = 80

# message_seq = epoch | offset of the submitted event | index inside the turn, in one signed 64-bit integer.
_OFFSET_BITS: Final = 43
_INDEX_BITS: Final = 8
EPOCH_MAX: Final = (1 << 12) - 1
MESSAGES_PER_TURN_MAX: Final = 1 << _INDEX_BITS


def new_turn_id(now_ms: int, partition: int, entropy: bytes) -> str:
    """A turn id for an answer in ``partition``; ``entropy`` is exactly 8 random bytes."""
    if len(entropy) != TURN_ENTROPY_BYTES:
        raise ValueError(f"a turn id takes {TURN_ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    _check_range("now_ms", now_ms, _TIME_BITS)
    _check_range("partition", partition, _PARTITION_BITS)
    high = (now_ms << _PARTITION_BITS) | partition
    return _encode((high << _TURN_ENTROPY_BITS) | int.from_bytes(entropy))


def turn_time_ms(turn_id: str) -> int:
    """Unix milliseconds at which the turn id was made. Raises ValueError for a malformed id."""
    return _decode(turn_id) >> (_PARTITION_BITS + _TURN_ENTROPY_BITS)


def turn_partition(turn_id: str) -> int:
    """The ``chat.tokens.v1`` partition of the turn's answer. Raises ValueError for a malformed id."""
    return (_decode(turn_id) >> _TURN_ENTROPY_BITS) & ((1 << _PARTITION_BITS) - 1)


def parse_turn_id(text: str) -> str:
    """The bare turn id in ``text``, which may be the public form ``chatcmpl-...``. Raises ValueError."""
    turn_id = text.removeprefix(PUBLIC_TURN_PREFIX)
    _decode(turn_id)
    return turn_id


def is_turn_id(text: str) -> bool:
    """Whether ``text`` has the form of a bare turn id."""
    try:
        _decode(text)
    except ValueError:
        return False
    return True


def public_turn_id(turn_id: str) -> str:
    """The id under which clients of the OpenAI-compatible API know the turn."""
    return PUBLIC_TURN_PREFIX + turn_id


def public_response_id(turn_id: str) -> str:
    """The id under which clients of the Responses API know the turn."""
    return RESPONSE_PREFIX + turn_id


def parse_response_id(text: str) -> str:
    """The bare turn id in ``text``, the public form ``resp_...``. Raises ValueError."""
    if not text.startswith(RESPONSE_PREFIX):
        raise ValueError(f"a response id begins with {RESPONSE_PREFIX}")
    turn_id = text.removeprefix(RESPONSE_PREFIX)
    _decode(turn_id)
    return turn_id


def new_conversation_id(now_ms: int, entropy: bytes) -> str:
    """A conversation id, unguessable and sortable by time; ``entropy`` is exactly 10 random bytes."""
    if len(entropy) != CONVERSATION_ENTROPY_BYTES:
        raise ValueError(f"a conversation id takes {CONVERSATION_ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    _check_range("now_ms", now_ms, _TIME_BITS)
    return CONVERSATION_PREFIX + _encode((now_ms << _CONVERSATION_ENTROPY_BITS) | int.from_bytes(entropy))


def conversation_time_ms(conversation_id: str) -> int:
    """Unix milliseconds at which the conversation id was made. Raises ValueError for a malformed id."""
    return _decode(conversation_id.removeprefix(CONVERSATION_PREFIX)) >> _CONVERSATION_ENTROPY_BITS


def is_conversation_id(text: str) -> bool:
    """Whether ``text`` has the form of a conversation id."""
    try:
        _decode(text.removeprefix(CONVERSATION_PREFIX))
    except ValueError:
        return False
    return text.startswith(CONVERSATION_PREFIX)


def message_seq(epoch: int, offset: int, index: int) -> int:
    """The place of a message in its conversation: strictly growing with the log, 63 bits, never reused.

    ``offset`` is that of the submitted event in its partition; ``epoch`` grows when partitions are
    re-laid or a region fails over; ``index`` counts the messages inside one turn.
    """
    _check_range("epoch", epoch, EPOCH_MAX.bit_length())
    _check_range("offset", offset, _OFFSET_BITS)
    _check_range("index", index, _INDEX_BITS)
    return (((epoch << _OFFSET_BITS) | offset) << _INDEX_BITS) | index


def _check_range(name: str, value: int, bits: int) -> None:
    if not 0 <= value < (1 << bits):
        raise ValueError(f"{name} must fit into {bits} bits, not {value}")


def _encode(value: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _PAIR_SHIFTS])


def _decode(text: str) -> int:
    if len(text) != TURN_ID_CHARS:
        raise ValueError(f"an id has {TURN_ID_CHARS} characters, not {len(text)}")
    digits = text.translate(_TO_DIGITS) if text.isascii() else _NO_DIGIT
    if _NO_DIGIT in digits:
        raise ValueError(f"an id has only the characters {_ALPHABET}")
    value = int(digits, 32)
    if value >> 128:
        raise ValueError("an id is 128 bits")
    return value
