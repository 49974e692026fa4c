"""Which partition a key belongs to: the rule of the Java client, so every tool agrees with us."""

from functools import lru_cache
from struct import unpack_from
from typing import Final

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
KEYS_CACHED_MAX: Final = 65_536


# Stages in one process see the same conversation one after another: a hit costs a twentieth of the hash.
@lru_cache(maxsize=KEYS_CACHED_MAX)
def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition of ``key`` among ``partitions``: positive murmur2 of the key, modulo.

    Source: ``BuiltInPartitioner.partitionForKey`` and ``Utils.murmur2`` of Apache Kafka.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """The 32-bit MurmurHash2 of ``data`` with Kafka's seed, as an unsigned integer."""
    size = len(data)
    words = size >> 2
    result = _SEED ^ size
    for word in unpack_from(f"<{words}I", data):
        mixed = (word * _MULTIPLIER) & _MASK
        mixed ^= mixed >> 24
        result = ((result * _MULTIPLIER) ^ (mixed * _MULTIPLIER)) & _MASK
    if size & 3:
        result = ((result ^ int.from_bytes(data[words << 2 :], "little")) * _MULTIPLIER) & _MASK
    result ^= result >> 13
    result = (result * _MULTIPLIER) & _MASK
    return result ^ (result >> 15)
