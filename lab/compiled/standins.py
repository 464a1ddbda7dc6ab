"""Annotations as mypyc's code needs them.

With ``from __future__ import annotations`` Python never looks at the annotation of a field, which
may name what is imported for the type checker alone. mypyc's code does look, when it makes a named
tuple or a dataclass. So in the copies of the sources that it gets the fields of named tuples are
quoted, which it leaves alone; for those of dataclasses something stands behind each such name, on a
line that was empty. All lines keep their numbers.
"""

from __future__ import annotations

import ast


def with_stand_ins(source: str) -> str:
    """Return a module whose fields can be annotated with what is imported for type checking."""
    lines = source.encode().split(b"\n")  # columns are counted in bytes
    tree = ast.parse(source)
    for each in ast.walk(tree):
        if isinstance(each, ast.ClassDef) and [ast.unparse(b) for b in each.bases] == [
            "NamedTuple"
        ]:
            for field in each.body:
                if isinstance(field, ast.AnnAssign):
                    _quote(lines, field.annotation)
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            before = statement.lineno - 2
            assert not lines[before], "the formatter leaves a blank line behind imports"
            lines[before] = _stand_ins(statement).encode()
    return b"\n".join(lines).decode()


def _quote(lines: list[bytes], annotation: ast.expr) -> None:
    """Put an annotation that lies on one line in quotes."""
    row, start, end = annotation.lineno - 1, annotation.col_offset, annotation.end_col_offset
    if annotation.end_lineno == annotation.lineno and not isinstance(annotation, ast.Constant):
        text = repr(ast.unparse(annotation)).encode()
        lines[row] = lines[row][:start] + text + lines[row][end:]


def _stand_ins(block: ast.If) -> str:
    names = [
        alias.asname or alias.name
        for each in block.body
        if isinstance(each, (ast.Import, ast.ImportFrom))
        for alias in each.names
    ]
    return f"globals().update(dict.fromkeys({names!r}, object))"
