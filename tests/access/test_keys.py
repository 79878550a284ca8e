"""API keys: what is stored of one, and which texts are refused."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from service.access.keys import LENGTH, ApiKey, KeyOptions, KeyTable, id_of, is_complete, new_key
from service.errors import TokenExpired, Unauthenticated

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
PREDICT = KeyOptions(scopes=("predict",))


def made(name: str = "ehr", options: KeyOptions = PREDICT) -> tuple[ApiKey, bytes]:
    stored, text = new_key(name, options, now=NOW)
    return stored, text.encode()


def test_a_key_is_its_prefix_its_id_and_a_secret_and_its_text_is_not_stored() -> None:
    stored, text = made()
    prefix, key_id, secret = text.decode().split("_")
    assert (prefix, key_id) == ("tmp", stored.id)
    assert len(text) == LENGTH
    assert secret not in stored.model_dump_json()
    assert stored.sha256 == hashlib.sha256(text).hexdigest()


def test_no_two_keys_share_an_id_or_a_secret() -> None:
    keys = [made()[1].decode().split("_") for _ in range(500)]
    assert len({key_id for _, key_id, _ in keys}) == len({secret for *_, secret in keys}) == 500


def test_a_secret_has_256_bits_of_the_source_of_randomness() -> None:
    calls: list[int] = []

    def random(count: int) -> bytes:
        calls.append(count)
        return bytes(range(count))

    assert new_key("ehr", PREDICT, now=NOW, random=random) == new_key("ehr", PREDICT, now=NOW, random=random)
    assert 32 in calls


def test_a_key_is_its_caller_with_what_it_may_do() -> None:
    options = KeyOptions(
        scopes=("predict", "audit"), models=("mass",), requests_per_minute=60, rows_per_minute=600, expires=None
    )
    stored, text = made("ehr", options)
    caller = KeyTable([stored]).caller(text, NOW.timestamp())
    assert caller.name == "key:ehr"
    assert caller.scopes == {"predict", "audit"}
    assert caller.models == frozenset({"mass"})
    assert (caller.requests, caller.rows) == (60, 600)
    assert id_of(text) == stored.id


def test_several_keys_of_one_name_are_one_caller() -> None:
    (first, a), (second, b) = made(), made()
    table = KeyTable([first, second])
    assert table.caller(a, NOW.timestamp()).name == table.caller(b, NOW.timestamp()).name == "key:ehr"


def test_a_key_that_differs_in_any_one_place_is_refused() -> None:
    stored, text = made()
    table = KeyTable([stored])
    for place in range(len(text)):
        other = b"a" if text[place : place + 1] != b"a" else b"b"
        with pytest.raises(Unauthenticated):
            table.caller(text[:place] + other + text[place + 1 :], NOW.timestamp())


@pytest.mark.parametrize(
    "text",
    [b"", b"tmp_", b"tmp__", b"tmp_aaaaaaaaaaaa_", b"tmp_" + b"a" * 72, b"\xff" * LENGTH, b"tmp_" + b"x" * 16384],
)
def test_a_text_that_is_no_key_is_refused(text: bytes) -> None:
    stored, _ = made()
    with pytest.raises(Unauthenticated):
        KeyTable([stored]).caller(text, NOW.timestamp())


def test_a_key_that_was_cut_or_mistyped_is_called_incomplete_and_another_is_called_unknown() -> None:
    stored, text = made()
    _, foreign = made()
    with pytest.raises(Unauthenticated, match="mistyped"):
        KeyTable([stored]).caller(text[:-1], NOW.timestamp())
    with pytest.raises(Unauthenticated, match="not known"):
        KeyTable([stored]).caller(foreign, NOW.timestamp())
    assert is_complete(foreign)


def test_no_refusal_repeats_what_was_sent() -> None:
    stored, text = made()
    for sent in (text[:-1], made()[1]):
        with pytest.raises(Unauthenticated) as refused:
            KeyTable([stored]).caller(sent, NOW.timestamp())
        assert not any(part in str(refused.value) for part in sent.decode().split("_")[1:])


def test_a_key_is_refused_from_its_expiry_on_as_expired() -> None:
    stored, text = made("ehr", KeyOptions(scopes=("predict",), expires=NOW + timedelta(hours=1)))
    table = KeyTable([stored])
    assert table.caller(text, NOW.timestamp() + 3599.9)
    assert table.usable(NOW.timestamp()) == 1
    with pytest.raises(TokenExpired):
        table.caller(text, NOW.timestamp() + 3600)
    assert table.usable(NOW.timestamp() + 3600) == 0


def test_whether_a_key_expired_is_shown_to_nothing_but_that_key() -> None:
    stored, text = made("ehr", KeyOptions(scopes=("predict",), expires=NOW))
    wrong = text[:-20] + b"a" * 20
    with pytest.raises(Unauthenticated) as refused:
        KeyTable([stored]).caller(wrong, NOW.timestamp())
    assert type(refused.value) is Unauthenticated


def test_a_revoked_key_is_refused_as_an_unknown_one_is() -> None:
    stored, text = made()
    with pytest.raises(Unauthenticated, match="not known here, or was revoked"):
        KeyTable([stored.model_copy(update={"revoked": NOW})]).caller(text, NOW.timestamp())


def test_the_state_of_a_key_is_active_expired_or_revoked() -> None:
    stored, _ = made("ehr", KeyOptions(scopes=("predict",), expires=NOW + timedelta(days=1)))
    assert stored.state(NOW) == "active"
    assert stored.state(NOW + timedelta(days=1)) == "expired"
    assert stored.model_copy(update={"revoked": NOW}).state(NOW + timedelta(days=1)) == "revoked"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", value) for value in ("", ".x", "a" * 65, "a b", "a\n")),
        *(("scopes", value) for value in ((), ("predikt",))),
        *(("models", value) for value in ((), ("../x",))),
        *(("requests_per_minute", value) for value in (0, -1, 1.5, True)),
        ("created", datetime(2026, 1, 1)),  # noqa: DTZ001  # without a time zone
        ("sha256", "00"),
        ("id", "UPPER"),
        ("more", 1),
    ],
)
def test_a_key_that_breaks_its_schema_is_refused(field: str, value: object) -> None:
    stored, _ = made()
    with pytest.raises(ValidationError):
        ApiKey.model_validate({**stored.model_dump(), field: value})
