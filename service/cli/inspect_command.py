"""`temperance inspect`: what an .onnx file holds, or what a version is."""

from dataclasses import asdict
from pathlib import Path

import click

from service.bundle.declared_inverse import InverseUse, inverse_use
from service.bundle.repository import Bundle, Repository
from service.bundle.scores import state_bytes
from service.bundle.writer import FIRST_ALIAS
from service.cli.arguments import json_flag, models_option
from service.cli.console import print_json, print_table
from service.cli.messages import versions_line
from service.errors import BundleNotFound
from service.reporting.terminal import render_record, render_state
from service.runtime.session import Session

NOT_SHOWN = "the graph does not show it"


@click.command()
@click.argument("path_or_name")
@models_option
@json_flag
def inspect(path_or_name: str, repository: Repository, *, as_json: bool) -> None:
    """Show what an .onnx file holds, or a model's `stable` version; without one, which versions there are."""
    path = Path(path_or_name)
    if path.suffix == ".onnx" or path.is_file():
        _inspect_file(path, as_json=as_json)
        return
    name = path_or_name
    served = repository.aliases(name).get(FIRST_ALIAS)
    if served is None and name not in repository.names():
        raise BundleNotFound(f"{name} is no model (models here: {', '.join(repository.names()) or 'none'})")
    if served is None:
        _print_versions(repository, name, as_json=as_json)
    else:
        _inspect_version(repository, repository.bundle(name, served), as_json=as_json)


def _print_versions(repository: Repository, name: str, *, as_json: bool) -> None:
    """What there is of a model whose `stable` names nothing, and what would make it serve."""
    versions, retired = repository.versions(name), repository.retired(name)
    if as_json:
        print_json({"name": name, "versions": versions, "aliases": repository.aliases(name), "retired": retired})
        return
    click.echo(versions_line(repository, name))
    if versions:
        command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
        click.echo(f"{FIRST_ALIAS} names no version, so there is none to inspect: {command} points it to one.")
    else:
        command = repository.command("fit", name, "--data", "ROWS")
        click.echo(f"No version is published; {command} makes one from a draft.")


def _inspect_version(repository: Repository, bundle: Bundle, *, as_json: bool) -> None:
    retired = repository.retired(bundle.name)
    if as_json:
        print_json(_version_as_json(bundle) | ({"retired": retired} if retired else {}))
        return
    click.echo(f"{bundle.title}: {bundle.manifest.title}")
    click.echo(f"digest: {bundle.digest}\nclasses: {', '.join(bundle.manifest.graph.classes)}")
    click.echo(f"features: {', '.join(bundle.manifest.columns)}")
    click.echo(f"policies: {', '.join(bundle.manifest.policies) or 'none'}")
    click.echo(f"training: {_training(bundle)}")
    if retired:
        click.echo(f"retired versions: {', '.join(map(str, retired))}")
    if bundle.record is None:
        click.echo("uncalibrated")
    else:
        click.echo(render_state(state_bytes(bundle.state, bundle.record.scores)))
        print_table(render_record(bundle.record))


def _training(bundle: Bundle) -> str:
    """The declared loss with its parameters, and what is done about it."""
    if "training" not in bundle.manifest.model_fields_set:
        return "not declared"
    declared = bundle.manifest.training.model_dump(exclude_none=True)
    loss, use = declared.pop("loss"), inverse_use(bundle.manifest, bundle.record)
    parameters = [f"{name} {value:g}" if isinstance(value, float) else name for name, value in declared.items()]
    return ", ".join([loss, *parameters, *([] if use is None else [_inverse(use)])])


def _inverse(use: InverseUse) -> str:
    where = f" for {', '.join(use.labels)}" if use.labels else ""
    return f"its inverse is {'' if use.applied else 'not '}applied{where}"


def _version_as_json(bundle: Bundle) -> dict[str, object]:
    use = inverse_use(bundle.manifest, bundle.record)
    return {
        "name": bundle.name,
        "version": bundle.version,
        "manifest": bundle.manifest.model_dump(mode="json", by_alias=True),
        "calibration": None if bundle.record is None else bundle.record.model_dump(mode="json", by_alias=True),
        "inverse": None if use is None else asdict(use),
        "state_bytes": state_bytes(bundle.state, bundle.manifest.ood.scores),
    }


def _inspect_file(path: Path, *, as_json: bool) -> None:
    from service.graph.inspect import inspect_graph  # noqa: PLC0415  # it imports `onnx`: versions need none

    findings, session = inspect_graph(path), Session(path)
    inputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.inputs]
    outputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.outputs]
    evidence = [{"name": o.name, "output_kind": o.kind, "evidence": o.evidence} for o in findings.outputs]
    if as_json:
        print_json({"inputs": inputs, "outputs": outputs, "scores": evidence, "classes": findings.classes})
        return
    for title, tensors in (("input", session.inputs), ("output", session.outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if d is None else str(d) for d in tensor.shape)
            click.echo(f"{title} {tensor.name}: {tensor.type} [{shape}]")
    for output in findings.outputs:
        click.echo(f"scores in {output.name}: {output.kind or NOT_SHOWN} ({output.evidence})")
    click.echo(f"classes: {', '.join(findings.classes) if findings.classes else NOT_SHOWN}")
