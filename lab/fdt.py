"""Flattened device trees: nodes as values, a writer, and a reader.

Source: Devicetree Specification 0.4, chapter 5 (the "DTB" format, version 17).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAGIC = 0xD00D_FEED
VERSION = 17
LAST_COMPATIBLE_VERSION = 16

_HEADER = struct.Struct(">10I")
_RESERVATION_END = bytes(16)
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9

Value = int | str | bytes | list[int] | list[str] | None
"""A property: one cell or several, one string or several, raw bytes, or None (empty)."""


@dataclass(slots=True)
class Node:
    """A node: its name with unit address, its properties, its children."""

    name: str
    properties: Mapping[str, Value] = field(default_factory=dict)
    children: Sequence[Node] = ()

    def find(self, path: str) -> Node:
        """Return the node at ``path`` below this one: ``cpus/cpu@0``.

        Raises
        ------
        KeyError
            If there is none.
        """
        node = self
        for name in filter(None, path.split("/")):
            found = next((child for child in node.children if child.name == name), None)
            if found is None:
                raise KeyError(path)
            node = found
        return node


def cells64(*values: int) -> list[int]:
    """Return 64-bit numbers as pairs of cells, as ``#address-cells = <2>`` asks."""
    return [cell for value in values for cell in (value >> 32, value & 0xFFFF_FFFF)]


def encode_value(value: Value) -> bytes:
    """Return the bytes of a property."""
    match value:
        case None:
            return b""
        case bytes():
            return value
        case int():
            return struct.pack(">I", value)
        case str():
            return value.encode() + b"\0"
    return b"".join(encode_value(item) for item in value)


def write(root: Node) -> bytes:
    """Return the blob of the tree under ``root``, whose own name is empty."""
    strings = bytearray()
    offsets: dict[str, int] = {}

    def emit(node: Node) -> Iterator[bytes]:
        yield struct.pack(">I", _BEGIN_NODE) + _padded(node.name.encode() + b"\0")
        for name, value in node.properties.items():
            if name not in offsets:
                offsets[name] = len(strings)
                strings.extend(name.encode() + b"\0")
            content = encode_value(value)
            yield struct.pack(">3I", _PROP, len(content), offsets[name]) + _padded(content)
        for child in node.children:
            yield from emit(child)
        yield struct.pack(">I", _END_NODE)

    structure = b"".join(emit(root)) + struct.pack(">I", _END)
    structure_at = _HEADER.size + len(_RESERVATION_END)
    strings_at = structure_at + len(structure)
    header = _HEADER.pack(
        MAGIC,
        strings_at + len(strings),
        structure_at,
        strings_at,
        _HEADER.size,
        VERSION,
        LAST_COMPATIBLE_VERSION,
        0,  # boot_cpuid_phys
        len(strings),
        len(structure),
    )
    return header + _RESERVATION_END + structure + bytes(strings)


def read(blob: bytes) -> Node:
    """Return the tree in ``blob``; properties come back as bytes.

    Raises
    ------
    ValueError
        If it is not a complete flattened device tree.
    """
    try:
        magic, size, structure_at, strings_at = struct.unpack_from(">4I", blob)
        if magic != MAGIC:
            raise ValueError(f"a device tree starts with {MAGIC:#x}, not {magic:#x}")
        if size > len(blob):
            raise ValueError(f"the device tree has {size} bytes, only {len(blob)} are there")
        return _Reader(blob[:size], structure_at, strings_at).read()
    except (struct.error, IndexError) as error:
        raise ValueError(f"the device tree is damaged: {error}") from error


class _Reader:
    """One pass over the structure block."""

    def __init__(self, blob: bytes, structure_at: int, strings_at: int) -> None:
        self._blob, self._at, self._strings_at = blob, structure_at, strings_at

    def read(self) -> Node:
        if self._token() != _BEGIN_NODE:
            raise ValueError("the device tree's structure does not begin with a node")
        return self._node()

    def _node(self) -> Node:
        name = self._string(self._at)
        self._at = _aligned(self._at + len(name) + 1)
        properties: dict[str, Value] = {}
        children: list[Node] = []
        while (token := self._token()) != _END_NODE:
            if token == _BEGIN_NODE:
                children.append(self._node())
            elif token == _PROP:
                length, name_at = struct.unpack_from(">2I", self._blob, self._at)
                start = self._at + 8
                properties[self._string(self._strings_at + name_at)] = self._blob[
                    start : start + length
                ]
                self._at = _aligned(start + length)
            elif token != _NOP:
                raise ValueError(f"the device tree has the unknown token {token:#x}")
        return Node(name, properties, children)

    def _token(self) -> int:
        (token,) = struct.unpack_from(">I", self._blob, self._at)
        self._at += 4
        return int(token)

    def _string(self, at: int) -> str:
        return self._blob[at : self._blob.index(b"\0", at)].decode()


def _aligned(offset: int) -> int:
    return -(-offset // 4) * 4


def _padded(content: bytes) -> bytes:
    return content.ljust(_aligned(len(content)), b"\0")
