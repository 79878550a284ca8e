import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from service.cli.main import command
from service.errors import DataError
from service.store.engine import Store, open_store
from service.store.secrets import Secrets
from tests.store.kept import kept


@pytest.fixture
def store(tmp_path: Path) -> Store:
    signer = Secrets.read_or_made(tmp_path / "secrets.json").current.signer
    return open_store(f"sqlite://{tmp_path}/audit.db", signer=signer)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    def invoke(*arguments: Any) -> Result:
        words = ["outcomes", "import", *map(str, arguments), "--data", str(tmp_path)]
        return CliRunner().invoke(command, words, catch_exceptions=True)

    return invoke


@pytest.fixture
def answered(store: Store) -> str:
    request_id, write = kept(["benign", "malignant"], rows=4)
    store.write([write])
    return request_id


def test_outcomes_of_a_csv_file_are_kept_and_a_second_time_adds_nothing(run, store, answered, tmp_path):
    path = tmp_path / "outcomes.csv"
    path.write_text(
        "prediction_id,outcome,observed_at,source,ascertainment\n"
        f"{answered}.0,malignant,2026-01-01,registry,audit\n"
        f"{answered}.1,benign,2026-01-01T10:00:00+01:00,,\n"
        f"{answered}.2,,,,\n"
        f"{answered}.3,normal,,,\n"
        f"{answered}.9,benign,,,\n"
    )
    first = run(path, "--json")
    assert first.exit_code == 0, first.output
    counts = {"repeated": 0, "contradicting": 0, "unknown": 1, "not_a_class": 1, "empty": 1}
    assert json.loads(first.output) == {"accepted": 2, **counts}
    found = store.outcomes_of([answered])
    assert [(one.truth, one.source, one.ascertainment) for one in found] == [
        ('"malignant"', "registry", "audit"),
        ('"benign"', None, "routine"),
    ]
    assert json.loads(run(path, "--json").output) == {"accepted": 0, **counts, "repeated": 2}
    assert "repeated: already kept" in run(path).output
    assert len(store.streams()) == 2  # of the fixture and of the one import that wrote


def test_columns_of_other_names_are_mapped(run, store, answered, tmp_path):
    path = tmp_path / "outcomes.csv"
    path.write_text(f"id,histology\n{answered}.0,malignant\n")
    result = run(path, "--map", "prediction_id=id", "--map", "outcome=histology")
    assert result.exit_code == 0, result.output
    assert len(store.outcomes_of([answered])) == 1


def test_outcomes_of_a_parquet_file_have_types(run, store, tmp_path):
    request_id, write = kept(["edema", "effusion"], task="multilabel", rows=2)
    store.write([write])
    path = tmp_path / "outcomes.parquet"
    times = pl.Series(["2026-01-01T10:00:00", None]).str.to_datetime()
    ids = [f"{request_id}.0", f"{request_id}.1"]
    pl.DataFrame({"prediction_id": ids, "outcome": [["effusion"], []], "observed_at": times}).write_parquet(path)
    result = run(path, "--json")
    assert json.loads(result.output)["accepted"] == 2
    assert [one.truth for one in store.outcomes_of([request_id])] == [
        '{"edema":0,"effusion":1}',
        '{"edema":0,"effusion":0}',
    ]


def test_lists_in_a_csv_file_are_json(run, store, tmp_path):
    request_id, write = kept(["edema", "effusion"], task="multilabel")
    store.write([write])
    path = tmp_path / "outcomes.csv"
    path.write_text(f'prediction_id,outcome\n{request_id}.0,"{{""edema"": 1}}"\n')
    assert json.loads(run(path, "--json").output)["accepted"] == 1


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("no-id,benign,,,", "line 2, prediction_id"),
        ("{id}.0,benign,yesterday,,", "line 2, observed_at"),
        ("{id}.0,benign,,,sometimes", "line 2, ascertainment"),
        (",benign,,,", "line 2, prediction_id"),
        ("{id}.0,benign", "line 2 has 2 cells"),
    ],
)
def test_a_malformed_row_is_named_without_its_values_and_none_of_its_chunk_is_kept(
    run, answered, tmp_path, line, place
):
    path = tmp_path / "outcomes.csv"
    text = line.format(id=answered)
    path.write_text(f"prediction_id,outcome,observed_at,source,ascertainment\n{text}\n{answered}.1,benign,,,\n")
    result = run(path)
    assert isinstance(result.exception, DataError)
    assert f"{path}, {place}" in str(result.exception)
    assert "yesterday" not in str(result.exception)
    with closing(open_store(f"sqlite://{tmp_path}/audit.db")) as store:
        assert store.outcomes_of([answered]) == []


def test_a_file_without_the_columns_is_refused(run, answered, tmp_path):
    path = tmp_path / "outcomes.csv"
    path.write_text("id;outcome\n1;benign\n")
    assert answered
    assert "has no column prediction_id" in str(run(path).exception)
    assert run(path, "--map", "patient=id").exit_code == 2
