"""Real answers of every task in a store, with outcomes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from service.prediction.records import Origin
from service.runtime.registry import Registry
from service.store.entries import Outcome, Write
from service.store.seals import ClearText
from tests.every_task import Case
from tests.prediction.test_records import recorded_case
from tests.record.sample import SECOND, START, Sample, request_id

TRUTHS: Final[dict[str, str]] = {
    "letters": '"a"',
    "complaints": '{"ache":1,"burn":0,"chill":null}',
    "motion": '["rest"]',
}


def answered(folder: Path, registry: Registry, *, change: Any = None) -> Sample:
    """A store with one answered request of each model; the first row of each has an outcome and a subject."""
    sample, writes = Sample(folder), []
    for number, model in enumerate(TRUTHS):
        _, _, content = recorded_case(Case(model, "decide"), registry)
        own, now = request_id(1, number), START + number * SECOND
        entry = content.prediction(Origin(own, now, "key:ward", None, None, 7))
        tokens = sample.secrets.current.tokens
        subjects = tokens.tokens(["patient-0", *[None] * (entry.rows - 1)])
        entry = replace(entry, subjects=subjects, key_id=tokens.key_id)
        entry = entry if change is None else change(entry)
        texts = [ClearText(0, "subject", tokens.token("subject", "patient-0"), b"patient-0")]
        sealed, keys = sample.seals.texts(own, texts)
        recording = content.recording
        writes.append(Write([entry], [recording.context], recording.documents, sealed, keys))
        outcome = Outcome(own, 0, TRUTHS[model], now, now + SECOND, None, "routine", "key:ward")
        writes.append(Write(outcomes=[outcome]))
    store = sample.open()
    store.write(writes)
    store.close()
    return sample
