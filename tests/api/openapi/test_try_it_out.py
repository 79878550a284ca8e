"""The documentation page in a real browser: "Try it out" sends a request that is answered.

Operations that differ by the place of a version or an alias alone are tried once here; `test_python_client` sends the
examples of all of them.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from service.api.openapi.document import operations
from tests.api.openapi.browser import browsing

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


def test_every_operation_can_be_tried_out(server: Any, tmp_path: Path) -> None:
    closed = {"repository_index", "load_model", "unload_model"}  # unless a setting opens them
    expected = {
        f"operations-{operation.tag}-{operation.id}": 403 if operation.id in closed else 200
        for operation in operations()
        if operation.id == operation.base
    }
    with browsing(tmp_path) as page:
        page.open(f"{server.client.base_url}/docs")
        assert page.try_out(expected) == expected
