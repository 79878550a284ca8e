"""Names that callers gave lie under their subject's token, or else their id's, or else the row's."""

from service.prediction.answer import Part
from service.prediction.record_texts import clear_texts
from service.store.seals import ClearText
from service.store.tokens import Tokens

TOKENS = Tokens("k", b"k" * 32)


def test_every_name_of_a_row_is_a_text_with_its_kind():
    part = Part("request", 2, ["a", "b"], subjects=["p", "q"], groups=["g", "h"])
    owners = [TOKENS.token("subject", text) for text in "pq"]
    assert clear_texts(part, TOKENS) == [
        ClearText(0, "id", owners[0], b"a"),
        ClearText(0, "subject", owners[0], b"p"),
        ClearText(0, "group", owners[0], b"g"),
        ClearText(1, "id", owners[1], b"b"),
        ClearText(1, "subject", owners[1], b"q"),
        ClearText(1, "group", owners[1], b"h"),
    ]


def test_without_a_subject_the_id_owns_the_text_and_without_both_the_row():
    parts = [Part("one", 1, ["a"]), Part("other", 1, groups=["g"])]
    found = [text.subject for part in parts for text in clear_texts(part, TOKENS)]
    assert found == [TOKENS.token("subject", "a"), TOKENS.token("subject", "other.0")]


def test_inputs_that_are_kept_are_texts_of_their_row():
    assert [text.kind for text in clear_texts(Part("request", 1), TOKENS, inputs=[b"{}"])] == ["input"]


def test_rows_without_names_have_no_texts():
    assert clear_texts(Part("request", 3), TOKENS) == []
