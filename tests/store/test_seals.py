"""Clear text: readable with its key and the secret, and never otherwise."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.record_errors import StoreDamaged
from service.store.seals import ClearText, Seals
from service.store.secrets import Secrets, rotate

REQUEST = "0192f0c1-0000-7000-8000-000000000000"
SUBJECT, OTHER = b"s" * 16, b"o" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.json"


def sealed(seals: Seals, *texts: ClearText):
    return seals.texts(REQUEST, texts or [ClearText(0, "id", SUBJECT, "Zoë".encode())])


def test_a_text_reads_back_also_after_a_rotation(path):
    (text,), (key,) = sealed(Seals(Secrets.read_or_made(path)))
    assert b"Zo" not in text.content
    rotate(path)
    assert Seals(Secrets.read(path)).readable([text], {key.subject: key}) == {(0, "id"): "Zoë"}


def test_the_texts_of_a_subject_share_a_key_and_others_have_another(path):
    texts = [ClearText(0, "id", SUBJECT, b"a"), ClearText(0, "subject", SUBJECT, b"b"), ClearText(1, "id", OTHER, b"c")]
    found, keys = sealed(Seals(Secrets.read_or_made(path)), *texts)
    assert [key.subject for key in keys] == [SUBJECT, OTHER]
    assert len({text.content for text in found}) == 3


def test_a_text_without_its_key_is_gone_and_others_stay(path):
    seals = Seals(Secrets.read_or_made(path))
    found, keys = sealed(seals, ClearText(0, "id", SUBJECT, b"a"), ClearText(1, "id", OTHER, b"c"))
    assert seals.readable(found, {OTHER: keys[1]}) == {(1, "id"): "c"}


@pytest.mark.parametrize(
    "change", [{"row": 1}, {"kind": "group"}, {"request_id": "x"}, {"subject": OTHER}, {"content": b"short"}]
)
def test_a_text_that_was_moved_or_changed_is_refused(path, change):
    seals = Seals(Secrets.read_or_made(path))
    (text,), (key,) = sealed(seals)
    with pytest.raises(StoreDamaged):
        seals.text(replace(text, **change), key)


def test_a_key_of_another_secret_is_refused(path, tmp_path):
    (text,), (key,) = sealed(Seals(Secrets.read_or_made(path)))
    with pytest.raises(StoreDamaged, match="secrets file"):
        Seals(Secrets.read_or_made(tmp_path / "other.json")).text(text, key)


def test_a_reply_reads_back_for_its_own_caller_alone(path):
    seals = Seals(Secrets.read_or_made(path))
    content = seals.reply(b"body", about=b"caller")
    rotate(path)
    assert Seals(Secrets.read(path)).read_reply(content, about=b"caller") == b"body"
    for wrong, about in ((content, b"other"), (content[:-1], b"caller"), (b"", b"caller")):
        with pytest.raises(StoreDamaged):
            seals.read_reply(wrong, about=about)
