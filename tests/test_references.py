"""The references are complete: all that can be set, called, read or refused is documented, and nothing else."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import click
import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from service import errors
from service.api.http_errors import MethodNotAllowed
from service.api.problems import STATUS, status_of
from service.api.v1.requests import SessionState, field_names
from service.api.v1.verbs import VERBS as HTTP_VERBS
from service.bundle.accepted_providers import PROVIDERS
from service.bundle.manifest import Manifest
from service.cli.main import VERBS
from service.core.assessment.metrics import METRICS
from service.core.calibration import CALIBRATORS
from service.core.decision import REASONS
from service.core.losses import LOSSES
from service.core.ood import RULES, SCORES
from service.evaluation.prevalence import PrevalenceEstimate
from service.evaluation.report import EvaluationReport
from service.prediction.header import HEADER
from service.prediction.query import groups_of
from service.prediction.tasks import TASKS
from service.service_links import service_links
from service.settings import PREFIX, Settings
from service.telemetry import Telemetry
from tests.documents import DOCS, PAGES, ROOT, first_cells, reference, row_of, section, text_of

PLACES = ("/versions/{version}", "/labels/{alias}")
TOPICS = ("identity", "probabilities", "ood", "decision")
"""Of members of a row, as `prediction.query` names them."""


def test_every_setting_is_documented_with_its_default():
    settings = reference("settings")
    for name, field in Settings.model_fields.items():
        assert f"| `{PREFIX}{name.upper()}` | {shown(field.default)} |" in settings


def shown(default: object) -> str:
    """A default as a person would set it in the environment."""
    if default is None or default in ("", ()):
        return "none"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_documented_setting_exists():
    named = {name for page in PAGES for name in re.findall(rf"\b({PREFIX}[A-Z_]+)\b", text_of(page))}
    named -= set(service_links(dict.fromkeys(named, "80"), PREFIX))
    assert named == {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def commands() -> dict[str, click.Command]:
    def load(place: str) -> click.Command:
        module, _, name = place.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    return dict(one for name, place in VERBS.items() for one in with_its_own(name, load(place)))


def with_its_own(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A verb, and those within it."""
    yield name, command
    if isinstance(command, click.Group):
        for own, inner in command.commands.items():
            yield from with_its_own(f"{name} {own}", inner)


def test_every_verb_of_the_command_is_documented():
    found = set(re.findall(r"^## temperance ([\w ]+)$", reference("command"), re.MULTILINE))
    assert found == set(commands())


@pytest.mark.parametrize("verb", commands())
def test_every_option_of_a_verb_is_documented_and_no_other(verb):
    own = section(reference("command"), f"temperance {verb}")
    options = {name for option in commands()[verb].params if isinstance(option, click.Option) for name in option.opts}
    documented = {name.split()[0] for name in first_cells(own) if name.startswith("-")}
    assert documented == options - {"-h", "--help"}


@pytest.mark.parametrize("verb", commands())
def test_every_choice_of_an_option_is_documented(verb):
    own = section(reference("command"), f"temperance {verb}")
    for option in commands()[verb].params:
        if isinstance(option.type, click.Choice) and isinstance(option, click.Option):
            row = row_of_option(option.opts[0], own)
            assert all(f"`{choice}`" in row for choice in option.type.choices), option.name


def row_of_option(name: str, text: str) -> str:
    found = re.search(rf"^\| `{re.escape(name)}[ `].*$", text, re.MULTILINE)
    assert found is not None, name
    return found[0]


def test_every_metric_is_documented_with_the_direction_that_its_name_says():
    quality = section(reference("metrics"), "Quality of probabilities")
    assert first_cells(quality) == set(METRICS)
    for name in METRICS:
        direction = "higher" if name.endswith("_score") else "lower"
        assert f"| {direction} |" in row_of(name, quality), name


def test_every_calibrator_and_every_ood_score_and_rule_is_documented():
    calibrators = first_cells(section(text_of(DOCS / "guide" / "calibration.md"), "Methods"))
    scores = first_cells(section(text_of(DOCS / "guide" / "out-of-distribution.md"), "Scores and rules"))
    assert calibrators >= set(CALIBRATORS)
    assert scores == {*SCORES, *RULES}


def test_every_tested_export_is_documented_and_no_other():
    sources = "".join(text_of(path) for path in (ROOT / "tests" / "conformance").glob("from_*.py"))
    tested = set(re.findall(r'^    "([a-z]+(?:-[a-z0-9]+)+)":', sources, re.MULTILINE))
    table = section(text_of(DOCS / "guide" / "own-models.md"), "Supported exports")
    assert set(re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", table)) == tested


def test_every_training_loss_is_documented():
    assert first_cells(section(reference("metrics"), "Training losses")) == set(LOSSES)


def test_every_endpoint_of_the_document_is_in_the_http_reference(server):
    http = reference("http")
    for path, operations in server.client.get("/openapi.json").json()["paths"].items():
        short = re.sub("|".join(re.escape(place) for place in PLACES), "", path)
        for method in operations:
            assert f"| `{method.upper()} {short}` |" in http, path


def test_every_member_of_a_models_metadata_is_documented_and_no_other(server):
    documented = first_cells(section(reference("http"), "Model metadata"))
    assert documented == server.client.get("/v1/models/breast-cancer").json().keys()


def test_every_verb_of_the_wire_is_documented():
    assert first_cells(section(reference("http"), "Verbs")) == set(HTTP_VERBS)


@pytest.mark.parametrize("verb", HTTP_VERBS)
def test_every_parameter_of_a_verb_is_documented_and_no_other(verb):
    parameters = section(reference("http"), "Parameters")
    kind = HTTP_VERBS[verb].request
    own = field_names(kind)[len(kind.model_fields) :]
    documented = {name for name in first_cells(parameters) if verb in row_of(name, parameters).split("|")[2]}
    assert documented == set(own)


def test_every_member_of_a_session_is_documented():
    page = text_of(DOCS / "guide" / "sessions.md")
    assert first_cells(section(page, "Members of a session")) == set(SessionState.model_fields)


def test_every_prometheus_metric_is_documented_with_its_labels():
    operate = text_of(DOCS / "operate.md")
    telemetry = Telemetry(CollectorRegistry())
    for metric in (value for value in vars(telemetry).values() if hasattr(value, "_labelnames")):
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{name}` | {', '.join(metric._labelnames)} |" in operate


def problem_types() -> Iterator[tuple[str, int]]:
    """Every code that can be on the wire, with its status."""
    pending: list[type[errors.ServiceError]] = [errors.ServiceError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind is not MethodNotAllowed:
            yield kind.code, status_of(kind("example"))


def test_every_problem_type_is_documented_with_its_status():
    assert STATUS
    offline = {"internal"}  # what the command alone raises shares this code and never reaches the wire
    for code, status in set(problem_types()) | {(MethodNotAllowed.code, 405)}:
        assert f"| `{code}` | {500 if code in offline else status} |" in reference("errors")


def test_every_documented_problem_type_exists():
    documented = set(re.findall(r"^\| `([a-z-]+)` \| \d{3} \|", reference("errors"), re.MULTILINE))
    assert documented == {code for code, _ in problem_types()} | {MethodNotAllowed.code}


def test_every_reason_of_a_decision_is_documented():
    page = text_of(DOCS / "guide" / "decisions-and-costs.md")
    assert first_cells(section(page, "Reasons")) == set(REASONS)


def manifest_tables(kind: type[BaseModel] = Manifest, place: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every table of a manifest under the heading that documents it, with its keys."""
    yield place, {field.alias or name for name, field in kind.model_fields.items()}
    for name, field in kind.model_fields.items():
        for part in nested(field.annotation):
            yield from manifest_tables(part, f"{place}.{name}".lstrip("."))


def nested(annotation: Any) -> Iterator[type[BaseModel]]:
    """Sections within a type: a dict, a tuple or a union of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from nested(argument)


def test_every_key_of_the_manifest_is_documented_and_no_other():
    page = reference("manifest")
    for place, keys in manifest_tables():
        heading = TABLES[place]
        assert first_cells(section(page, heading)) == keys, heading


TABLES = {
    "": "Top level",
    "graph": "[graph]",
    "graph.providers": "[graph.providers]",
    **{f"graph.providers.{name}": "[graph.providers.NAME]" for name in PROVIDERS},
    "inputs": "[[inputs]]",
    "features": "[features.NAME]",
    "features.missing": "[features.NAME.missing]",
    "training": "[training]",
    "ood": "[ood]",
    "runtime": "[runtime]",
    "sites": "[sites.NAME]",
    "change_protocol": "[change_protocol]",
    "policies": "[policies.NAME]",
    "record": "[record]",
    "policies.labels": "[policies.NAME.labels.LABEL]",
}
"""Tables of a manifest, and the headings that document them."""


def described(kind: type[Any], found: dict[str, set[str]] | None = None) -> dict[str, set[str]]:
    """Fields of a dataclass and of those within it, by the heading that documents each."""
    found = {} if found is None else found
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).capitalize()
    heading = re.sub(r"^(Ood|Roc)\b", lambda found: found[1].upper(), words)
    if heading not in found:
        found[heading] = {field.name for field in fields(kind)}
        for hint in get_type_hints(kind).values():
            for part in dataclasses_in(hint):
                described(part, found)
    return found


def dataclasses_in(hint: Any) -> Iterator[type[Any]]:
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
    for argument in get_args(hint):
        yield from dataclasses_in(argument)


def test_every_key_of_an_evaluation_is_documented_and_no_other():
    page = reference("evaluation")
    documented = {
        heading: first_cells(section(page, heading)) for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)
    }
    assert documented == described(EvaluationReport)


def test_every_key_of_an_estimate_is_documented_and_no_other():
    page = text_of(DOCS / "guide" / "prevalence.md")
    documented = first_cells(section(page, "Estimating the prevalence of unlabelled rows"))
    assert documented == set().union(*described(PrevalenceEstimate).values())


def test_every_member_of_the_head_of_an_answer_is_documented():
    answers = section(reference("http"), "Answers of /v1").partition("### ")[0]
    assert first_cells(answers) == {member.path for member in HEADER}


def test_every_output_of_the_open_inference_protocol_is_documented_and_no_other():
    groups = [group for task in TASKS for group in groups_of(task, (*TOPICS, "tensors", "ood_tensors"))]
    names = {member.tensor for group in groups for member in group.members if member.tensor}
    assert first_cells(section(reference("http"), "Outputs")) == names


def test_every_member_of_a_row_is_documented_and_no_other():
    documented = first_cells(section(reference("http"), "Members of a row"))
    groups = [group for task in TASKS for topic in TOPICS for group in groups_of(task, (topic,))]
    paths = {".".join(filter(None, (group.path, member.path))) for group in groups for member in group.members}
    rewritten = {re.sub(r"^(decisions\.\{label\}|decision\[\])\.", "decision.", path) for path in paths}
    assert documented == {re.sub(r"^(label|probabilities)\[\]", r"\1", path) for path in rewritten}
