"""`temperance audit export`: what is written, and what is not."""

import json

import polars as pl
import pytest
from click.testing import CliRunner

from service.cli.audit_command import audit
from service.errors import DataError
from tests.record.answers import answered
from tests.record.sample import request_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory, every_task):
    folder = tmp_path_factory.mktemp("exported")
    answered(folder, every_task)
    return folder


def exported(folder, out, *options: str):
    arguments = ["export", "--data", str(folder), "--out", str(out), *options]
    return CliRunner().invoke(audit, arguments, catch_exceptions=False)


def test_a_table_has_a_row_for_every_answered_row(folder, tmp_path):
    assert "Wrote 12 answered rows" in exported(folder, tmp_path / "a.parquet", "--model", "letters").output
    letters = pl.read_parquet(tmp_path / "a.parquet")
    assert letters["prediction_id"].n_unique() == 12
    assert letters["probabilities.b.c"].null_count() == 0
    assert letters["outcome"].drop_nulls().to_list() == ["a"]


def test_clear_text_is_written_only_on_demand(folder, tmp_path):
    exported(folder, tmp_path / "a.jsonl", "--format", "jsonl")
    assert b"patient-0" not in (tmp_path / "a.jsonl").read_bytes()
    exported(folder, tmp_path / "b.jsonl", "--format", "jsonl", "--clear")
    first = json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])
    assert first["subject"] == "patient-0"
    assert first["prediction_id"] == f"{request_id(1, 0)}.0"


def test_a_model_and_a_time_are_chosen(folder, tmp_path):
    assert "Wrote 12 " in exported(folder, tmp_path / "a", "--model", "motion").output
    assert "Wrote 0 " in exported(folder, tmp_path / "b", "--from", "2024-01-01").output
    assert (
        "Wrote 36 "
        in exported(folder, tmp_path / "c", "--from", "2023-01-01", "--to", "2024-01-01", "--format", "jsonl").output
    )


@pytest.mark.parametrize(("model", "events"), [("letters", 3), ("complaints", 2)])
def test_seismometer_has_predictions_events_and_what_describes_them(folder, tmp_path, model, events):
    exported(folder, tmp_path / "out", "--format", "seismometer", "--model", model)
    usage = json.loads((tmp_path / "out" / "usage_config.yml").read_text())["data_usage"]
    config = json.loads((tmp_path / "out" / "config.yml").read_text())["other_info"]
    predictions = pl.read_parquet(tmp_path / "out" / config["data_dir"] / config["prediction_path"])
    found = pl.read_parquet(tmp_path / "out" / config["data_dir"] / config["event_path"])
    assert {usage["entity_id"], usage["context_id"], usage["predict_time"], *usage["outputs"]} <= set(
        predictions.columns
    )
    assert usage["primary_output"] in usage["outputs"]
    assert set(found.columns) == {"entity_id", "prediction_id", *usage["event_table"].values()}
    assert len(found) == events
    assert set(found["Type"]) <= {event["source"] for event in usage["events"]}
    assert found["entity_id"][0] in set(predictions["entity_id"])


def test_what_seismometer_cannot_hold_is_refused(folder, tmp_path):
    for options in ((), ("--model", "motion"), ("--model", "none")):
        with pytest.raises(DataError, match="seismometer"):
            exported(folder, tmp_path / "out", "--format", "seismometer", *options)


def test_a_table_of_sequences_beside_other_models_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match="--model"):
        exported(folder, tmp_path / "a.parquet")


def test_a_file_is_not_overwritten(folder, tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(DataError, match="already"):
        exported(folder, tmp_path / "a")
