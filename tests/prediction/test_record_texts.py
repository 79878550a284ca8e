"""Names that callers gave: encrypted under their subject, or else their id, or else the row."""

from service.prediction.answer import Part
from service.prediction.record_texts import TextSealer
from service.store.seals import Seals
from service.store.secrets import Secrets


def sealed(tmp_path, *parts: Part):
    secrets = Secrets.read_or_made(tmp_path / "secrets.json")
    texts, keys = TextSealer(secrets).sealed(parts)
    return secrets, texts, keys, Seals(secrets).readable(texts, {key.subject: key for key in keys})


def test_names_of_rows_read_back_with_their_kind(tmp_path):
    part = Part("request", 2, ["a", "b"], subjects=["p", "p"], groups=["g", "h"])
    secrets, texts, keys, readable = sealed(tmp_path, part)
    assert readable == {
        (0, "id"): "a", (0, "subject"): "p", (0, "group"): "g", (1, "id"): "b", (1, "subject"): "p", (1, "group"): "h",
    }  # fmt: skip
    assert [key.subject for key in keys] == [secrets.current.tokens.token("subject", "p")]
    assert len(texts) == 6


def test_without_a_subject_the_id_owns_the_text_and_without_both_the_row(tmp_path):
    secrets, _, keys, _ = sealed(tmp_path, Part("one", 1, ["a"]), Part("other", 1, groups=["g"]))
    owners = [secrets.current.tokens.token("subject", text) for text in ("a", "other.0")]
    assert [key.subject for key in keys] == owners


def test_rows_without_names_cost_nothing(tmp_path):
    assert sealed(tmp_path, Part("request", 3))[1:3] == ([], [])
