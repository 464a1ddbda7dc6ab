"""Links between the pages lead somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

LINK: Final = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE: Final = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING: Final = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for file, anchor in LINK.findall(text):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {file}, which does not exist"
        if anchor:
            assert anchor in anchors(target), f"{target.name} has no heading for #{anchor}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent == ROOT / "docs" and page.name != "README.md"],
    ids=lambda page: page.name,
)  # fmt: skip
def test_every_page_is_in_the_index(page: Path) -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert f"]({page.name})" in index
