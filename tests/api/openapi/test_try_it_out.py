"""The documentation page in a real browser: "Try it out" sends a request that is answered.

Operations that differ by the place of a version or an alias alone are tried once here; `test_python_client` sends the
examples of all of them.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.access.key_file import KeyFile
from service.access.keys import KeyOptions, new_key
from service.api.openapi.document import operations
from tests.api.openapi.browser import browsing
from tests.shipped_model import SHIPPED

AUTHORIZE = """
(async () => {
  (await until(() => document.querySelector(".btn.authorize"))).click();
  const input = await until(() => document.querySelector(".auth-container input"));
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, KEY);
  input.dispatchEvent(new Event("input", {bubbles: true}));
  document.querySelector(".auth-container button.authorize").click();
  (await until(() => document.querySelector(".auth-container .btn-done"))).click();
})()
"""
WATCH = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (one) => window.refused.push(one.violatedDirective));
"""

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


def test_every_operation_can_be_tried_out(server: Any, tmp_path: Path) -> None:
    refused = dict.fromkeys(("repository_index", "load_model", "unload_model"), 403)  # unless a setting opens them
    refused["show_prediction"] = 404  # of its example there is no record here
    expected = {
        f"operations-{operation.tag}-{operation.id}": refused.get(operation.id, 200)
        for operation in operations()
        if operation.id == operation.base
    }
    with browsing(tmp_path) as page:
        page.open(f"{server.client.base_url}/docs")
        assert page.try_out(expected) == expected


def test_a_key_that_is_entered_on_the_page_is_sent_and_the_page_does_nothing_that_is_forbidden_to_it(
    tmp_path: Path, serving: Callable[..., AbstractContextManager[Any]]
) -> None:
    stored, key = new_key("page", KeyOptions(("predict",)), now=datetime.now(UTC))
    file = KeyFile(tmp_path / "keys.json")
    file.add(stored)
    expected = {"operations-v1-list_models": 200, "operations-v1-decide": 200, "operations-operations-metrics": 403}
    closed = {"TEMPERANCE_KEYS": str(file.path), "TEMPERANCE_DOCS_OPEN": "true"}
    with serving(SHIPPED, **closed) as running, browsing(tmp_path / "browser") as page:
        assert running.client.get("/v1/models").status_code == 401
        page.command("Page.enable")
        page.command("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        page.open(f"{running.client.base_url}/docs")
        page.run(AUTHORIZE.replace("KEY", json.dumps(key)))
        assert page.try_out(expected) == expected
        assert page.run("window.refused") == []
