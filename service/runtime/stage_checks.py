"""The self-test of a version's stages: they must answer now as they did when it was fitted and published.

Tested in `tests/fitting/test_self_test.py`.
"""

import logging

import numpy as np

from service.bundle.conformity import KINDS, restore_sets
from service.bundle.manifest import MANIFEST_FILE, Manifest
from service.bundle.record import RECORD_FILE
from service.bundle.repository import Bundle
from service.bundle.stage_test import StageTest, restore_stage_test
from service.bundle.state import STATE_FILE
from service.core.label_sets import LabelSets
from service.core.numerics import Array
from service.core.pipeline import Chain, Policy
from service.core.smoothing import Transitions
from service.errors import BundleDamaged
from service.runtime.stage_answers import Stages, declared_answers, learned_answers

log = logging.getLogger("temperance")


def stages_of(
    bundle: Bundle, chain: Chain, source: Array | None, transitions: Transitions | None, policies: tuple[Policy, ...]
) -> Stages:
    """Stages A to E of a version from its parts."""
    graph = bundle.manifest.graph
    uniform = 0.5 if graph.rules.by_label else 1.0 / len(graph.classes)
    shares = [[site.prevalence[name] for name in graph.classes] for site in bundle.manifest.sites.values()]
    return Stages(
        chain,
        len(graph.classes),
        source,
        transitions,
        _label_sets(bundle),
        np.array([[uniform] * len(graph.classes), *shares]),
        policies,
        _texts(bundle.manifest),
        sequential=graph.task == "sequence",
        by_label=graph.rules.by_label,
    )


def check_stages(bundle: Bundle, stages: Stages) -> None:
    """Refuse a published version whose stages answer otherwise; one that is older than their test is logged.

    Raises
    ------
    BundleDamaged
    """
    learned, declared = restore_stage_test("learned", bundle.state), restore_stage_test("declared", bundle.state)
    if bundle.version is None or bundle.record is None:
        return
    if learned is None:
        log.info("%s has no self-test of its stages: a changed number may pass; fit it again", bundle.path)
        return
    check_learned(bundle, stages, learned)
    if declared is not None:
        with np.errstate(all="ignore"):
            found = declared_answers(stages, declared.inputs, learned=learned.inputs)
        _refuse(bundle, declared.departure(found, classes=stages.classes), MANIFEST_FILE)


def check_learned(bundle: Bundle, stages: Stages, test: StageTest) -> None:
    """Refuse stages A to C, label sets or smoothing that are not those that were fitted.

    Raises
    ------
    BundleDamaged
    """
    with np.errstate(all="ignore"):  # a changed number may overflow, and is then refused
        found = learned_answers(stages, test.inputs)
    _refuse(bundle, test.departure(found, classes=stages.classes), f"{RECORD_FILE} or {STATE_FILE}")


def _refuse(bundle: Bundle, departure: str | None, file: str) -> None:
    if departure is not None:
        raise BundleDamaged(
            f"{bundle.path} fails the self-test of its stages, {departure}: {file} is not as it was published; restore "
            "the version, or fit again"
        )


def _texts(manifest: Manifest) -> tuple[str, ...]:
    values = {"plausible", "allowed", "missing", "categories"}
    features = sorted(manifest.features.items())
    found = [name + feature.model_dump_json(include=values, exclude_defaults=True) for name, feature in features]
    found += manifest.sites
    for name, policy in manifest.policies.items():
        found += [name, "default" if policy.default else "", *policy.tables]
        found += [action for table in policy.tables.values() for action in table]
    return tuple(found)


def _label_sets(bundle: Bundle) -> tuple[LabelSets, ...]:
    record = None if bundle.record is None else bundle.record.label_sets
    if record is None or record.scored is None:
        return ()
    found = [restore_sets(kind, bundle.state, method=record.method) for kind in KINDS]
    return tuple(sets for sets in found if sets is not None)
