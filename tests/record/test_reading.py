"""The lines of the guide that read the columns of a record."""

import subprocess
import sys

from tests.documents import DOCS, blocks
from tests.record.answers import answered
from tests.record.sample import request_id


def test_the_lines_of_the_guide_read_every_record(tmp_path, every_task):
    answered(tmp_path, every_task)
    (lines,) = (block.text for block in blocks(DOCS / "guide" / "record.md") if block.language == "python")
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True)
    printed = done.stdout.splitlines()
    assert [line.split()[0] for line in printed] == [request_id(1, number) for number in range(3)]
    assert "'ood.flagged'" in printed[0]
    assert "'logits':" in printed[0]
