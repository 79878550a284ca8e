"""Verbs that look at what is there: inspect, verify, list."""

from pathlib import Path

import click

from service.bundle.repository import Bundle, Repository, verify_retired
from service.bundle.scores import state_bytes
from service.bundle.writer import FIRST_ALIAS
from service.cli.arguments import json_flag, models_option, print_json, print_table
from service.errors import BundleNotFound
from service.graph.inspect import inspect_graph
from service.reporting.terminal import render_record, render_state
from service.runtime.model import load_model
from service.runtime.session import Session


@click.command()
@click.argument("path_or_name")
@models_option
@json_flag
def inspect(path_or_name: str, repository: Repository, *, as_json: bool) -> None:
    """Say what an .onnx file holds, or what a model's `stable` version is; without one, which versions it has."""
    path = Path(path_or_name)
    if path.suffix == ".onnx" or path.is_file():
        _inspect_file(path, as_json=as_json)
        return
    name = path_or_name
    served = repository.aliases(name).get(FIRST_ALIAS)
    if served is None and name not in repository.names():
        raise BundleNotFound(f"{name} is no model (models here: {', '.join(repository.names()) or 'none'})")
    if served is None:
        _say_standing(repository, name, as_json=as_json)
    else:
        _inspect_version(repository, repository.bundle(name, served), as_json=as_json)


@click.command()
@click.argument("name")
@models_option
@json_flag
def verify(name: str, repository: Repository, *, as_json: bool) -> None:
    """Check every version's files against their sums, and that each still loads and answers."""
    versions, retired = repository.versions(name), repository.retired(name)
    if not versions and not retired:
        raise BundleNotFound(f"{name} has no published version")
    digests = {version: load_model(repository.bundle(name, version)).bundle.digest for version in versions}
    folders = {version: repository.folder(name) / str(version) for version in retired}
    purged = {version: verify_retired(path) if path.is_dir() else None for version, path in folders.items()}
    if as_json:
        print_json({"name": name, "versions": digests} | ({"retired": retired} if retired else {}))
        return
    for version, digest in digests.items():
        click.echo(f"{name} version {version}: ok, {digest}")
    for version, is_purged in purged.items():
        kept = {True: "manifest and record match their sums, weights are deleted", False: "all files match their sums"}
        click.echo(f"{name} version {version}: retired, {'nothing is left' if is_purged is None else kept[is_purged]}")


@click.command("list")
@models_option
@json_flag
def list_(repository: Repository, *, as_json: bool) -> None:
    """List models with their versions and aliases."""
    found = {name: (repository.versions(name), repository.aliases(name)) for name in repository.names()}
    if as_json:
        models: list[dict[str, object]] = [
            {"name": name, "versions": v, "aliases": a} for name, (v, a) in found.items()
        ]
        for model in models:
            if retired := repository.retired(str(model["name"])):
                model["retired"] = retired
        print_json({"models": models})
        return
    for name in found:
        click.echo(_standing(repository, name))


def _standing(repository: Repository, name: str) -> str:
    """Versions, aliases and retired versions of a model in a line."""
    versions, aliases = repository.versions(name), repository.aliases(name)
    labels = ", ".join(f"{label} = {version}" for label, version in aliases.items())
    withdrawn = ", ".join(map(str, repository.retired(name)))
    none = "none" if withdrawn else "draft only"
    more = f"; retired {withdrawn}" if withdrawn else ""
    return f"{name}: versions {', '.join(map(str, versions)) or none}; {labels or 'no alias'}{more}"


def _say_standing(repository: Repository, name: str, *, as_json: bool) -> None:
    """What there is of a model whose `stable` names nothing, and what would make it serve."""
    versions, retired = repository.versions(name), repository.retired(name)
    if as_json:
        print_json({"name": name, "versions": versions, "aliases": repository.aliases(name), "retired": retired})
        return
    click.echo(_standing(repository, name))
    if versions:
        command = repository.command("alias", name, FIRST_ALIAS, "VERSION")
        click.echo(f"{FIRST_ALIAS} names no version, so there is none to inspect: {command} says which one it is.")
    else:
        command = repository.command("fit", name, "--data", "ROWS")
        click.echo(f"No version is published; {command} makes one from a draft.")


def _inspect_version(repository: Repository, bundle: Bundle, *, as_json: bool) -> None:
    retired = repository.retired(bundle.name)
    if as_json:
        record = None if bundle.record is None else bundle.record.model_dump(mode="json", by_alias=True)
        manifest = bundle.manifest.model_dump(mode="json", by_alias=True)
        told = {"name": bundle.name, "version": bundle.version, "manifest": manifest, "calibration": record}
        told |= {"state_bytes": state_bytes(bundle.state, bundle.manifest.ood.scores)}
        print_json(told | ({"retired": retired} if retired else {}))
        return
    click.echo(f"{bundle.title}: {bundle.manifest.title}")
    click.echo(f"digest: {bundle.digest}\nclasses: {', '.join(bundle.manifest.graph.classes)}")
    click.echo(f"features: {', '.join(bundle.manifest.columns)}")
    click.echo(f"policies: {', '.join(bundle.manifest.policies) or 'none'}")
    if retired:
        click.echo(f"retired versions: {', '.join(map(str, retired))}")
    if bundle.record is None:
        click.echo("uncalibrated")
    else:
        click.echo(render_state(state_bytes(bundle.state, bundle.record.scores)))
        print_table(render_record(bundle.record))


def _inspect_file(path: Path, *, as_json: bool) -> None:
    findings, session = inspect_graph(path), Session(path)
    inputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.inputs]
    outputs = [{"name": t.name, "type": t.type, "shape": t.shape} for t in session.outputs]
    evidence = [{"name": o.name, "output_kind": o.kind, "evidence": o.evidence} for o in findings.outputs]
    if as_json:
        print_json({"inputs": inputs, "outputs": outputs, "scores": evidence, "classes": findings.classes})
        return
    for title, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            shape = ", ".join("?" if d is None else str(d) for d in tensor["shape"])
            click.echo(f"{title} {tensor['name']}: {tensor['type']} [{shape}]")
    for entry in evidence:
        kind = entry["output_kind"] or "not told by the graph"
        click.echo(f"scores in {entry['name']}: {kind} ({entry['evidence']})")
    click.echo(f"classes: {', '.join(findings.classes) if findings.classes else 'not told by the graph'}")
