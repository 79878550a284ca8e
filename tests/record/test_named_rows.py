"""Names of rows in a real server's record: shown to who has the secrets, erased on demand, and never in clear."""

import json

from tests.record.commands import audited
from tests.shipped_model import SHIPPED

ROWS = {"instances": [[0.1 * i for i in range(30)]] * 2}


def test_names_are_encrypted_shown_and_erased(serving, tmp_path):
    with serving(SHIPPED, TEMPERANCE_DATA=str(tmp_path)) as running:
        parameters = {"ids": ["row-7141", "row-7142"], "subjects": ["patient-7141", "patient-7142"]}
        answer = running.client.post("/v1/models/breast-cancer:decide", json={**ROWS, "parameters": parameters}).json()
        place = answer["predictions"][0]["prediction_id"]
        shown = json.loads(audited(tmp_path, "show", place, "--json"))
        assert shown["clear_text"] == {"id": "row-7141", "subject": "patient-7141"}
        assert shown["recomputed"]["agrees"] is True
        audited(tmp_path, "erase", "--subject", "patient-7141")
        assert json.loads(audited(tmp_path, "show", place, "--json"))["clear_text"] == {}
        assert "Sound" in audited(tmp_path, "verify")
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"7141" not in files
    assert b"7142" not in files
