"""`temperance audit show`: an answer, all it rested on, and the same action again."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from service.cli.audit_command import audit
from service.record_errors import PredictionNotFound, StoreDamaged
from tests.record.answers import TRUTHS, answered
from tests.record.sample import request_id

ANSWERED = dict(zip(TRUTHS, range(3), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, every_task):
    folder = tmp_path_factory.mktemp("shown")
    answered(folder, every_task)
    return folder


def shown(folder, place: str, *options: str):
    arguments = ["show", place, "--data", str(folder), *options]
    return CliRunner().invoke(audit, arguments, catch_exceptions=False)


@pytest.mark.parametrize("model", ANSWERED)
def test_an_answer_is_shown_with_all_it_rested_on_and_agrees(folder, model):
    found = json.loads(shown(folder, f"{request_id(1, ANSWERED[model])}.0", "--json").output)
    assert (found["model"], found["caller"], found["verb"]) == (model, "key:ward", "decide")
    assert found["basis"]["policies"][0]["costs"]
    assert found["answer"]["logits"]
    assert found["answer"]["probabilities"]
    assert found["outcome"] == json.loads(TRUTHS[model])
    assert found["clear_text"] == {"subject": "patient-0"}
    assert found["recomputed"]["agrees"] is True


def test_the_lines_name_the_action_and_whether_it_agrees(folder):
    lines = shown(folder, f"{request_id(1, 0)}.1").output
    assert "\n  decision.action: " in lines
    assert max(map(len, lines.splitlines())) < 400
    assert lines.rstrip().endswith("recomputed: agrees")


def test_a_whole_request_is_shown_by_its_id(folder):
    found = json.loads(shown(folder, request_id(1, 0), "--json").output)
    assert len(found["answer"]) == found["rows"]


def test_without_the_secrets_all_but_clear_text_is_shown(folder, tmp_path):
    place = f"{request_id(1, 0)}.0"
    found = json.loads(shown(folder, place, "--json", "--secrets", str(tmp_path / "none")).output)
    assert found["clear_text"] == {}
    assert found["recomputed"]["agrees"] is True


def test_an_action_that_does_not_follow_is_named(tmp_path, every_task):
    def reversed_actions(entry):
        zeros = bytes(len(entry.columns) // 3)
        return replace(entry, columns=entry.columns[: -len(zeros)] + zeros)

    answered(tmp_path, every_task, change=reversed_actions)
    with pytest.raises(StoreDamaged, match="is not the one"):
        shown(tmp_path, f"{request_id(1, 0)}.0")


@pytest.mark.parametrize("place", ["x", f"{request_id(9, 9)}.0", f"{request_id(1, 0)}.99"])
def test_an_unknown_id_is_an_error(folder, place):
    with pytest.raises(PredictionNotFound):
        shown(folder, place)
