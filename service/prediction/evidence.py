"""Why rows are flagged."""

from typing import Any

import numpy as np

from service.prediction.answer import Answer

Finding = dict[str, Any]


def evidence_of(answer: Answer) -> dict[int, list[Finding]]:
    """Plausible ranges, scores and sessions that flag rows, by the row; rows without any are left out.

    Parameters
    ----------
    answer : Answer

    Returns
    -------
    dict of int to list of dict
        ``{"rule": "range", "features": [...]}``, ``{"score": name}`` or ``{"rule": "session"}``.
    """
    model, posterior = answer.model, answer.posterior
    evidence: dict[int, list[Finding]] = {}
    if model.chain.range_gated and posterior.flagged is not None and not np.count_nonzero(posterior.flagged):
        return _with_alarms(answer, evidence)  # a range or score that is evidence would have flagged a row
    for row in np.logical_or.reduce(posterior.outside, axis=1).nonzero()[0].tolist():
        features = [model.inputs.columns[i] for i in np.flatnonzero(posterior.outside[row])]
        evidence[row] = [{"rule": "range", "features": features}]
    if posterior.flags is not None:
        for i in model.chain.gate:
            for row in posterior.flags[:, i].nonzero()[0].tolist():
                evidence.setdefault(row, []).append({"score": model.chain.detectors[i].name})
    return _with_alarms(answer, evidence)


def _with_alarms(answer: Answer, evidence: dict[int, list[Finding]]) -> dict[int, list[Finding]]:
    if answer.monitored is not None:
        for row in np.flatnonzero(answer.monitored.alarm).tolist():
            evidence.setdefault(row, []).append({"rule": "session"})
    return evidence
