"""The documents of the repository, as text, for the tests that check them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
OTHERS = [ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def reference(name: str) -> str:
    return text_of(DOCS / "reference" / f"{name}.md")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    assert found is not None, f"no heading {heading!r}"
    return re.split(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> set[str]:
    """Names in backquotes in the first cells of the tables of a text."""
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def row_of(name: str, text: str) -> str:
    """The row of a table whose first cell names something."""
    found = re.search(rf"^\| [^|]*`{re.escape(name)}`[^|]* \|.*$", text, re.MULTILINE)
    assert found is not None, f"no row for {name!r}"
    return found[0]


@dataclass(frozen=True)
class Block:
    """A fenced block, and the block right after it when that shows its output."""

    language: str
    text: str
    output: "Block | None" = None


def blocks(page: Path) -> Iterator[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$(?=(\n*```(?:json|text)\n)?)", text_of(page), re.MULTILINE | re.DOTALL)
    for i, (language, text, is_shown) in enumerate(found):
        output = Block(*found[i + 1][:2]) if language == "bash" and is_shown else None
        yield Block(language, text, output)


def anchors(page: Path) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> set[Path]:
    found = re.findall(r"\]\((?!https?:)([^)#]+)", text_of(page))
    return {(page.parent / target).resolve() for target in found}
