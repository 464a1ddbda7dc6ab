"""How blocks are found in pages, and how outputs are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs import pages
from tests.docs.test_examples import arguments, commands, difference

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """\
# A page

<!-- not run -->

```python
>>> 1 + 1
```

- In a list:

  ```console
  $ stage2 guests \\
      hello
  some text
  $ echo $?
  0
  ```

```python
print(1)
```

```text
1
```

More text.

```text
2
```
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[pages.Block]:
    """Return the blocks of the page above."""
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    return pages.blocks(page)


def test_blocks_are_found_with_language_and_line(found: list[pages.Block]) -> None:
    assert [(block.language, block.line) for block in found] == [
        ("python", 6),
        ("console", 12),
        ("python", 20),
        ("text", 24),
        ("text", 30),
    ]
    assert found[0].where == "page.md:6"


def test_a_comment_before_a_block_exempts_it(found: list[pages.Block]) -> None:
    assert [block.exempt for block in found] == [True, False, False, False, False]


def test_only_a_text_block_directly_below_is_the_output_of_a_program(
    found: list[pages.Block],
) -> None:
    assert [block.output for block in found] == [None, None, "1\n", None, None]
    assert [block.is_program for block in found] == [False, False, True, False, False]
    assert [block.is_session for block in found] == [True, False, False, False, False]


def test_commands_are_separated_from_their_output(found: list[pages.Block]) -> None:
    assert commands(found[1]) == [("stage2 guests  hello", "some text\n"), ("echo $?", "0\n")]


def test_a_command_that_is_not_known_is_refused_by_name(found: list[pages.Block]) -> None:
    with pytest.raises(AssertionError, match="'rm' is not run"):
        arguments("rm -rf .", found[1])


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\nb\n", "a  \nb\n\n"),
        ("a\n...\nz\n", "a\nb\nc\nz\n"),
        ("took 5 in 0.001 s (0.1 MIPS)\n", "took 5 in 12.5 s (1,234.5 MIPS)\n"),
        ("source guests/hello.c\n", f"source {pages.ROOT}/guests/hello.c\n"),
    ],
)
def test_equal_runs_compare_equal(shown: str, printed: str) -> None:
    assert not difference(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "b\n"),
        ("a\n", "a\nb\n"),
        ("a\n...\nz\n", "a\nb\n"),
        ("5 in 0.1 s\n", "5 in 0.2 s\n"),
    ],
)
def test_another_output_is_a_difference(shown: str, printed: str) -> None:
    assert difference(shown, printed)
