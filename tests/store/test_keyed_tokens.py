"""Tokens: the same text, the same token; of another use or key, another one."""

from itertools import combinations

from service.store.keyed_tokens import NONE, USES, Tokens

TOKENS = Tokens("k", b"k" * 32)


def test_the_same_text_has_the_same_token_and_others_have_others():
    assert TOKENS.token("subject", "a") == Tokens("k", b"k" * 32).token("subject", "a")
    assert TOKENS.token("subject", "a") != TOKENS.token("subject", "b")
    assert TOKENS.token("subject", "a") != Tokens("l", b"l" * 32).token("subject", "a")


def test_tokens_of_different_uses_have_nothing_in_common():
    found = [TOKENS.token(use, "a") for use in USES]
    assert all(one != other for one, other in combinations(found, 2))


def test_several_tokens_are_joined_with_zeros_where_there_is_none():
    assert TOKENS.tokens(["a", None], "id") == TOKENS.token("id", "a") + NONE


def test_digests_take_whatever_has_bytes():
    assert TOKENS.digests([b"row", memoryview(b"row")]) == TOKENS.digests([b"row"]) * 2


def test_clear_text_belongs_to_the_subject_or_else_to_the_id_or_else_to_the_row():
    assert TOKENS.owner("s", identifier="i", prediction_id="p.0") == TOKENS.token("subject", "s")
    assert TOKENS.owner(None, identifier="i", prediction_id="p.0") == TOKENS.token("subject", "i")
    assert TOKENS.owner(None, identifier=None, prediction_id="p.0") == TOKENS.token("subject", "p.0")


def test_a_text_that_is_no_unicode_has_a_token():
    assert len(TOKENS.token("subject", "\ud800")) == len(NONE)
