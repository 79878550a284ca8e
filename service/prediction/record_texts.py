"""Clear text of requests, encrypted: what callers named rows, subjects and groups."""

from collections.abc import Iterator, Sequence

from service.prediction.answer import Part
from service.store.entries import Sealed, SealedKind, SubjectKey
from service.store.seals import ClearText, Seals
from service.store.secrets import Secrets


class TextSealer:
    """Encrypts what requests named their rows.

    Parameters
    ----------
    secrets : Secrets
    """

    def __init__(self, secrets: Secrets) -> None:
        self._seals = Seals(secrets)
        self._tokens = secrets.current.tokens

    def sealed(self, parts: Sequence[Part]) -> tuple[list[Sealed], list[SubjectKey]]:
        """Encrypted texts of requests, and their keys; both are empty where no row has a name."""
        sealed: list[Sealed] = []
        keys: list[SubjectKey] = []
        for part in parts:
            texts = list(self._texts(part))
            if texts:
                own, own_keys = self._seals.texts(part.request_id, texts)
                sealed += own
                keys += own_keys
        return sealed, keys

    def _texts(self, part: Part) -> Iterator[ClearText]:
        named: list[tuple[SealedKind, Sequence[str] | None]] = [
            ("id", part.ids),
            ("subject", part.subjects),
            ("group", part.groups),
        ]
        given = [(kind, texts) for kind, texts in named if texts is not None]
        for row in range(part.rows if given else 0):
            owner = self._owner(part, row)
            for kind, texts in given:
                yield ClearText(row, kind, owner, texts[row].encode("utf-8", "surrogatepass"))

    def _owner(self, part: Part, row: int) -> bytes:
        subject = None if part.subjects is None else part.subjects[row]
        identifier = None if part.ids is None else part.ids[row]
        return self._tokens.owner(subject, identifier=identifier, prediction_id=f"{part.request_id}.{row}")
