"""`temperance performance` over a real store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.main import command
from service.store.engine import Store, open_store
from tests.every_task import ROWS
from tests.monitoring.test_observed import DECIDED, known, recorded, truth_of
from tests.store.kept import FixedSigner

SIMPLE = ["letters-decide", "complaints-decide", "motion-decide"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/audit.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url, signer=FixedSigner())
    yield opened
    opened.close()


@pytest.mark.parametrize("name", SIMPLE)
def test_tables_show_every_part_of_every_task(store, url, every_task, name):
    request_id, query, answer = recorded(store, DECIDED[name], every_task)
    recorded(store, DECIDED[name], every_task, shadow_of=request_id)
    for row in range(ROWS):
        why = "action" if row % 3 == 0 else "routine"
        known(store, request_id, row, truth_of(query, answer, row), why=why)
    found = CliRunner().invoke(command, ["performance", query.model.name, "--store", url, "--group-by", "site"])
    assert found.exit_code == 0, found.output
    titles = ("with outcome", "log loss", "O/E", "reliability", "only because of the action", "shadows", "withheld")
    assert all(title in found.output for title in titles)


def test_json_is_the_report(store, url, every_task):
    _, query, _ = recorded(store, DECIDED["letters-decide"], every_task)
    found = CliRunner().invoke(command, ["performance", query.model.name, "--store", url, "--json"])
    assert json.loads(found.output)["answered"]["rows"] == ROWS


def test_a_time_that_is_none_is_bad_usage(url):
    found = CliRunner().invoke(command, ["performance", "letters", "--store", url, "--from", "yesterday"])
    assert found.exit_code == 2
    assert "RFC 3339" in found.output
