"""Key names: one per key, one hash slot per user."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from cache import StateKey
from tests.cache.entries import FINGERPRINT

any_text = st.text(st.characters())  # Lone surrogates included.


def test_name() -> None:
    assert StateKey("alice", FINGERPRINT).name == "mf:{alice}:000102030405060708090a0b0c0d0e0f"
    assert StateKey("a b:{é}%", FINGERPRINT).name.startswith("mf:{a%20b%3A%7B%C3%A9%7D%25}:")


@given(user_id=any_text)
@example("}")
@example("{x}:y")
@example("\r\n\x00")
@example("\ud800")
def test_name_is_printable_and_has_one_hash_tag(user_id: str) -> None:
    name = StateKey(user_id, FINGERPRINT).name
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert name.count("{") == name.count("}") == 1
    assert name.count(":") == 2


@given(first=any_text, second=any_text)
@example("a/b", "a%2Fb")
@example("a b", "a+b")
def test_names_differ_as_users_do(first: str, second: str) -> None:
    names = {StateKey(user_id, FINGERPRINT).name for user_id in (first, second)}
    assert len(names) == len({first, second})


def test_names_differ_by_fingerprint_in_the_same_slot() -> None:
    first, second = StateKey("u", bytes(16)).name, StateKey("u", bytes(15) + b"\x01").name
    assert first != second
    assert first.split(":")[1] == second.split(":")[1]


@pytest.mark.parametrize("fingerprint", [b"", bytes(15), bytes(17)])
def test_fingerprint_must_be_16_bytes(fingerprint: bytes) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        StateKey("u", fingerprint)


@given(user_id=any_text)
def test_a_name_tells_its_key(user_id: str) -> None:
    key = StateKey(user_id, FINGERPRINT)
    assert StateKey.parse(key.name.encode()) == key


@given(name=st.binary() | st.builds(b"mf:{%b}:%b".__mod__, st.tuples(st.binary(), st.binary())))
@example(b"mf:{a b}:" + b"0" * 32)  # as no key would write it
@example(b"mf:{%61}:" + b"0" * 32)
@example(b"mf:{a}:" + b"A" * 32)
def test_any_other_name_is_no_key(name: bytes) -> None:
    key = StateKey.parse(name)
    assert key is None or key.name.encode() == name


@given(user_id=any_text)
@example("al[i]*c?e\\")
def test_a_pattern_is_in_the_slot_of_the_names_it_is_for(user_id: str) -> None:
    name, pattern = StateKey(user_id, FINGERPRINT).name, StateKey.pattern_of(user_id)
    assert fnmatchcase(name, pattern)
    assert key_slot(pattern.encode()) == key_slot(name.encode()) or not user_id
    assert not fnmatchcase(StateKey(f"{user_id}x", FINGERPRINT).name, pattern)
