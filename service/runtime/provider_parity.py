"""A version on the execution provider that a deployment chose: refused where it is not the version that was fitted.

It is loaded on the CPU as well, for as long as the comparison takes.
"""

from dataclasses import replace
from functools import reduce
from typing import Final

from service.bundle.accepted_providers import AcceptedProvider, ProviderName
from service.bundle.repository import Bundle
from service.bundle.self_test import restore_self_test
from service.core.numerics import Array, Indices
from service.errors import LoadFailed, ModelOutputInvalid
from service.runtime.model import Model, load_model
from service.runtime.parity import SAFETY, Difference, Parity
from service.runtime.providers import Execution
from service.runtime.rows import Fields
from service.runtime.session import Feeds

ROWS: Final = 32
SINGLE_TOLERANCE: Final = 1e-5
"""Of float32: kernels of other libraries differ by some 1e-6; TF32 by 5e-4 and bfloat16 by 5e-3."""
GRAINS: Final = 4.0
EPS: Final = {"tensor(float16)": 2.0**-10, "tensor(float)": 2.0**-23, "tensor(double)": 2.0**-52}

Probe = tuple[Array, Feeds, Indices | None]
"""Rows as a graph takes them: columns, feeds and lengths."""


def load_on(bundle: Bundle, *, threads: int = 1, provider: ProviderName = "cpu") -> Model:
    """Bring a bundle to life on a provider.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        As of `load_model`.
    provider : str

    Raises
    ------
    LoadFailed
        If the version does not accept the provider, or its answers there are too far from those on the CPU, or depend
        on the rows beside them.
    SettingsInvalid
        If the provider cannot be loaded here.
    ServiceError
        As of `load_model`.
    """
    accepted = _accepted(bundle, provider)
    if provider == "cpu":
        return load_model(bundle, threads=threads)
    model = load_model(bundle, threads=threads, execution=Execution(provider, accepted.tf32))
    parity = measure_parity(model, load_model(bundle, threads=threads), _tolerance(model, accepted))
    if not parity.is_within:
        raise LoadFailed(_refusal(bundle, provider, parity))
    return _covered(model, parity)


def measure_parity(model: Model, on_cpu: Model, tolerance: float) -> Parity:
    """Run rows of the self-test and synthetic ones on a provider and on the CPU; there, also one by one.

    Parameters
    ----------
    model, on_cpu : Model
        The same version.
    tolerance : float
    """
    parts = [_part(model, on_cpu, probe) for probe in _probes(on_cpu)]
    from_cpu = reduce(Difference.joined, (apart for _, apart, _ in parts))
    return Parity(sum(rows for rows, _, _ in parts), tolerance, from_cpu, max(alone for _, _, alone in parts))


def _part(model: Model, on_cpu: Model, probe: Probe) -> tuple[int, Difference, float]:
    """How many rows, their difference from the CPU in any batch, and that of their logits alone and among others."""
    raw, raw_among = on_cpu.run(*probe), model.run(*probe)
    expected, among = on_cpu.posterior_of(raw), model.posterior_of(raw_among)
    apart, alone = Difference.between(expected, among, _tensors(model, raw.features, raw_among.features)), 0.0
    for row in range(len(expected.logits)):
        raw_own, place = model.run(*_row(probe, row)), slice(row, row + 1)
        own, tensors = model.posterior_of(raw_own), _tensors(model, raw.features[place], raw_own.features)
        apart = apart.joined(Difference.between(expected[place], own, tensors))
        alone = max(alone, Difference.between(among[place], own).logits)
    return len(expected.logits), apart, alone


def _tensors(model: Model, expected: Array, found: Array) -> tuple[Array, Array] | None:
    """What scores look at, where the graph computes it: columns of the input are the same on every provider."""
    return (expected, found) if model.manifest.ood.looks_at_tensor else None


def _probes(model: Model) -> list[Probe]:
    """Rows that the CPU can compute: of the stored self-test, and synthetic ones."""
    rows = model.inputs.synthetic(ROWS)
    columns, feeds = model.inputs.admit(rows)
    found: list[Probe] = [(columns, feeds, rows.lengths if isinstance(rows, Fields) else None)]
    test = restore_self_test(model.bundle.state)
    if test is not None:
        found.insert(0, (test.columns, test.feeds, test.lengths))
    return [probe for probe in found if _is_computable(model, probe)] or [_first(found[-1])]


def _is_computable(model: Model, probe: Probe) -> bool:
    try:
        model.run(*probe)
    except ModelOutputInvalid:  # not every synthetic row need be one that the graph knows
        return False
    return True


def _first(probe: Probe) -> Probe:
    return _row(probe, 0)


def _row(probe: Probe, row: int) -> Probe:
    columns, feeds, lengths = probe
    own, place = {name: feed[row : row + 1] for name, feed in feeds.items()}, slice(row, row + 1)
    return columns[place], own, None if lengths is None else lengths[place]


def _accepted(bundle: Bundle, provider: ProviderName) -> AcceptedProvider:
    """How the version accepts a provider."""
    listed = bundle.manifest.graph.providers
    accepted = AcceptedProvider() if listed is None else listed.of(provider)
    if accepted is None and listed is not None:
        raise LoadFailed(
            f"{bundle.path}: its calibration accepts {', '.join(listed.names)}, and this machine is to run it on "
            f"{provider}: choose another provider in the deployment file, or list this one under [graph] providers and "
            "fit again"
        )
    return accepted or AcceptedProvider()


def _tolerance(model: Model, accepted: AcceptedProvider) -> float:
    """What the version states; else what float32 explains, its own noise between batches, or its output's digits."""
    if accepted.tolerance is not None:
        return accepted.tolerance
    record = model.bundle.record
    bands = [] if record is None else [score.band for score in record.scores.values() if score.band is not None]
    read = {model.manifest.graph.output, model.manifest.ood.space}
    grain = max(EPS.get(tensor.type, 0.0) for tensor in model.session.outputs if tensor.name in read)
    return max(SINGLE_TOLERANCE, GRAINS * grain, *(SAFETY * band.measured for band in bands), 0.0)


def _covered(model: Model, parity: Parity) -> Model:
    """The model with bands that cover its provider."""
    wider = replace(model, chain=parity.widened(model.chain), parity=parity)
    policies = {name: wider.tied(policy) for name, policy in model.policies.items()}
    of_labels = {
        name: {label: wider.tied(policy) for label, policy in own.items()} for name, own in model.label_policies.items()
    }
    return replace(wider, policies=policies, label_policies=of_labels)


def _refusal(bundle: Bundle, provider: ProviderName, parity: Parity) -> str:
    apart = parity.from_cpu
    tensor = f", the tensor {bundle.manifest.ood.space!r} by {apart.features:.2g}," if apart.features > 0.0 else ""
    return (
        f"{bundle.path}: on {provider} a logit of {parity.rows} rows differs by up to {apart.logits:.2g} of its row's "
        f"size from the CPU's{tensor or ','} and by {parity.alone:.2g} with the rows beside it; {parity.tolerance:.2g} "
        "is allowed: run it on cpu, or state a tolerance under [graph] providers and fit again"
    )
