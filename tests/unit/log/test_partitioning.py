import pytest
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from turnstream.log.partitioning import murmur2, partition_of_key


@given(st.binary(max_size=64))
def test_the_hash_is_that_of_the_reference(key: bytes) -> None:
    assert murmur2(key) == reference(key)


@pytest.mark.parametrize(
    ("key", "signed"),
    # From UtilsTest.testMurmur2 of Apache Kafka.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
    ],
)
def test_the_hash_is_that_of_java(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(1, 300))
def test_a_partition_always_exists(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of_key(key, partitions) < partitions
