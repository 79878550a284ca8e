"""How well labels did: each as the binary problem it is, then all together."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from service.bundle.tasks import ABSENT, PRESENT
from service.core.assessment.joint_labels import Joint, joint
from service.core.multilabel import at_prevalence
from service.core.numerics import Array, Indices, two_column
from service.core.pipeline import Policy, Posterior
from service.evaluation.checks import Diagnostics
from service.evaluation.diagnostics import diagnose
from service.evaluation.flags import Trust, beliefs_json, trust_of
from service.evaluation.report import Report, evaluate
from service.runtime.model import Model


@dataclass(frozen=True, slots=True)
class LabelsReport:
    """What `evaluate` says of labels.

    Attributes
    ----------
    rows : int
    metrics, uncalibrated_metrics : dict of str to float
        Means over the labels for which a metric is defined.
    labels : dict of str to Report
        Each label's own; its classes are its two states.
    exact : Joint
        How often the whole set of likely labels was right, against what the product of probabilities claims.
    trust : Trust
        Flags and OOD scores, which are of whole rows.
    """

    rows: int
    metrics: dict[str, float]
    uncalibrated_metrics: dict[str, float]
    labels: dict[str, Report]
    exact: Joint
    trust: Trust

    def as_json(self) -> dict[str, Any]:
        """Plain values, without anything that is not finite."""
        return {
            "rows": self.rows,
            "metrics": self.metrics,
            "uncalibrated_metrics": self.uncalibrated_metrics,
            "exact_match": {**asdict(self.exact), "product_is_wrong": self.exact.product_is_wrong},
            **asdict(self.trust),
            "labels": {name: beliefs_json(report) for name, report in self.labels.items()},
        }


def evaluate_labels(
    model: Model,
    posterior: Posterior,
    log_probs: Array,
    labels: Indices,
    *,
    policies: dict[str, dict[int, Policy]],
    target: Array | None = None,
    elsewhere: Posterior | None = None,
    weights: Array | None = None,
    groups: Indices | None = None,
) -> LabelsReport:
    """Compare what was said of every label with what was true.

    Parameters
    ----------
    model : Model
    posterior : Posterior
        Stages A to C for the labelled rows.
    log_probs : ndarray of shape (N, M, 2)
        Under the prevalence at which the rows are judged.
    labels : ndarray of shape (N, M)
    policies : dict of str to dict of int to Policy
    target : ndarray of shape (M, 2), optional
        Prevalence of ``log_probs``, where that is not the source's.
    elsewhere : Posterior, optional
        Rows known to come from another population.
    weights, groups : ndarray of shape (N,), optional
        As `report.evaluate` has them.
    """
    raw = np.stack([two_column(column) for column in posterior.logits.T], axis=1)
    raw = at_prevalence(raw, source=model.source, target=target)
    found = {
        name: evaluate(
            replace(model.chain, detectors=()),
            replace(posterior, logits=raw[:, m], log_probs=log_probs[:, m]),
            log_probs[:, m],
            labels[:, m],
            classes=(ABSENT, PRESENT),
            policies={name: costs[m] for name, costs in policies.items() if m in costs},
            weights=weights,
            groups=groups,
        )
        for m, name in enumerate(model.classes)
    }
    return LabelsReport(
        rows=len(labels),
        metrics=_macro([report.metrics for report in found.values()]),
        uncalibrated_metrics=_macro([report.uncalibrated_metrics for report in found.values()]),
        labels=found,
        exact=joint(np.exp(log_probs.max(axis=2)), log_probs.argmax(axis=2) == labels, weights=weights, groups=groups),
        trust=trust_of(model.chain, posterior, elsewhere, weights=weights),
    )


def diagnose_labels(
    posterior: Posterior,
    labels: Indices,
    model: Model,
    *,
    weights: Array | None = None,
    groups: Indices | None = None,
    seed: int = 0,
) -> dict[str, Diagnostics]:
    """Check every label's probabilities and costs against what was true."""
    return {
        name: diagnose(
            of_label(posterior, m),
            labels[:, m],
            classes=(ABSENT, PRESENT),
            policies={name: costs[m] for name, costs in model.label_policies.items() if m in costs},
            weights=weights,
            groups=groups,
            seed=seed,
        )
        for m, name in enumerate(model.classes)
    }


def of_label(posterior: Posterior, m: int) -> Posterior:
    """What is believed of one label, as of two classes."""
    return replace(posterior, logits=two_column(posterior.logits[:, m]), log_probs=posterior.log_probs[:, m])


def _macro(metrics: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in metrics for name in each)
    return {name: float(np.mean([each[name] for each in metrics if name in each])) for name in names}
