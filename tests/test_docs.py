"""The documents are true: their blocks run and print what they show, their links and names lead somewhere."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.manifest import parse_manifest
from tests.documents import DOCS, OTHERS, PAGES, ROOT, Block, anchors, blocks, links, name_of, text_of

PASSING = frozenset({"id", "created", "prediction_id", "instance"})
OURS = (
    "asked",
    "asking",
    r"belie\w+",
    "company",
    "elsewhere",
    r"judg\w+",
    "lanes?",
    "nobody",
    "paid",
    r"promise\w*",
    "said",
    "somebody",
    "strangers?",
    "told",
    "wanted",
    "whoever",
)
"""Words for which the field has better ones."""
ADDRESS = "http://127.0.0.1:8000"
ADDRESS_WITH_KEYS = "http://127.0.0.1:8001"
"""Of a server that needs the keys which a page made before."""
README_LINES = 180


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh clone after `make install`, where blocks may write."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "docs").symlink_to(DOCS)
    shutil.copytree(ROOT / "models", folder / "models")
    return folder


@pytest.fixture(scope="module")
def client(workplace: Path, serving: Callable[..., AbstractContextManager[Any]]) -> Iterator[httpx.Client]:
    """Of a server over that folder's models; pages may publish more and load them."""
    with serving(workplace / "models", TEMPERANCE_REPOSITORY_API="true") as running:
        yield running.client


@pytest.fixture(scope="module")
def with_keys(workplace: Path, serving: Callable[..., AbstractContextManager[Any]]) -> Iterator[Callable[[], str]]:
    """Starts another server over that folder's models and keys, when it is called first; its address."""
    with ExitStack() as stack:

        @cache
        def address() -> str:
            keys = workplace / ".temperance" / "keys.json"
            running = stack.enter_context(serving(workplace / "models", TEMPERANCE_KEYS=str(keys)))
            return str(running.client.base_url).rstrip("/")

        yield address


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_runs_and_prints_what_it_shows(page, workplace, client, with_keys):
    if page.stem == "training":
        pytest.importorskip("torch")
    for block in blocks(page):
        if block.language == "bash":
            script = block.text.replace(ADDRESS, str(client.base_url).rstrip("/"))
            if ADDRESS_WITH_KEYS in script:
                script = script.replace(ADDRESS_WITH_KEYS, with_keys())
            printed = run(script, workplace)
            if block.output is not None:
                assert_shown(printed, block.output)


def test_the_readme_has_blocks_that_run():
    assert sum(block.language == "bash" for block in blocks(ROOT / "README.md")) >= 6


def run(script: str, folder: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    assert not done.stderr, f"{script}\n{done.stderr}"
    return done.stdout


def assert_shown(printed: str, shown: Block) -> None:
    if shown.language == "json":
        assert_close(json.loads(printed), json.loads(shown.text, parse_float=Decimal), "answer")
    else:
        assert printed.strip() == shown.text.strip()


def assert_close(found: Any, shown: Any, place: str) -> None:
    """Equal but for ids and times; numbers to their last digit shown, texts that end in … to where they end."""
    if isinstance(shown, dict):
        assert found.keys() == shown.keys(), place
        for key in shown.keys() - PASSING:
            assert_close(found[key], shown[key], f"{place}.{key}")
    elif isinstance(shown, list):
        for i, (a, b) in enumerate(zip(found, shown, strict=True)):
            assert_close(a, b, f"{place}[{i}]")
    elif isinstance(shown, Decimal):
        assert isinstance(found, float), place
        assert abs(Decimal(found) - shown) <= Decimal(1).scaleb(int(shown.as_tuple().exponent)), place
    elif isinstance(shown, str) and shown.endswith("…"):
        assert found.startswith(shown[:-1]), place
    else:
        assert found == shown, place


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= README_LINES


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make (\w+)", text_of(page), re.MULTILINE)}
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    for target, place in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text_of(page)):
        found = page.parent / target if target else page
        assert found.exists(), target
        if place:
            assert place in anchors(found), f"{target}#{place}"


def test_every_benchmark_that_a_page_names_exists():
    named = {name for page in PAGES for name in re.findall(r"python -m tests\.bench\.(\w+)", text_of(page))}
    assert named
    assert [name for name in named if not (ROOT / "tests" / "bench" / f"{name}.py").exists()] == []


def test_every_decision_has_its_date():
    entries = re.findall(r"^\*\*.*?(?=\n\n|\Z)", text_of(DOCS / "decisions.md"), re.MULTILINE | re.DOTALL)
    assert len(entries) > 70
    assert [entry[:60] for entry in entries if not re.search(r"\((20\d\d-\d\d-\d\d)\b", entry)] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_a_page_uses_the_words_of_the_field(page):
    ours = re.compile(rf"\b({'|'.join(OURS)})\b", re.IGNORECASE)
    assert ours.findall(text_of(page)) == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_file_that_a_page_names_exists(page):
    named = re.findall(r"\b(?:service|tests|docs|deploy)/[\w./-]*\w(?![\w<]|/<)", text_of(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_is_reached_from_the_readme_or_the_index():
    index = DOCS / "README.md"
    assert index.resolve() in links(ROOT / "README.md")
    assert {page.resolve() for page in PAGES[1:]} - {index.resolve()} <= links(index)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_manifest_that_a_page_shows_can_be_read(page):
    for block in blocks(page):
        if block.language == "toml" and block.text.startswith("schema"):
            parse_manifest(block.text)


def test_the_manifest_reference_shows_every_task():
    shown = [
        parse_manifest(block.text) for block in blocks(DOCS / "reference" / "manifest.md") if "schema" in block.text
    ]
    assert {manifest.graph.task for manifest in shown} == {"multiclass", "multilabel", "sequence"}


def test_the_map_names_every_module_of_the_package():
    text = text_of(ROOT / "ARCHITECTURE.md")
    for path in sorted((ROOT / "service").rglob("*.py")):
        name = path.relative_to(ROOT / "service").as_posix()
        if path.name != "__init__.py":
            assert path.name in text, name
