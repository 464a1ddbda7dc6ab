import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import fdt
from lab.fdt import Node

names = st.text("abcdefghijklmnopqrstuvwxyz#-,@0123456789", min_size=1, max_size=20)
values = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.integers(0, (1 << 32) - 1),
    st.text("abc ", max_size=9),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=4),
    st.lists(st.text("xyz", max_size=5), max_size=3),
)
nodes = st.recursive(
    st.builds(Node, names, st.dictionaries(names, values, max_size=4)),
    lambda child: st.builds(
        Node, names, st.dictionaries(names, values, max_size=4), st.lists(child, max_size=3)
    ),
    max_leaves=8,
)


def encoded(node: Node) -> Node:
    properties = {name: fdt.encode_value(value) for name, value in node.properties.items()}
    return Node(node.name, properties, [encoded(child) for child in node.children])


@given(nodes)
def test_what_is_written_is_read_back(root: Node) -> None:
    assert fdt.read(fdt.write(root)) == encoded(root)


def test_values_have_the_encodings_of_the_specification() -> None:
    assert fdt.encode_value(None) == b""
    assert fdt.encode_value(0x1234_5678) == bytes.fromhex("12345678")
    assert fdt.encode_value([1, 2]) == bytes.fromhex("0000000100000002")
    assert fdt.encode_value("ok") == b"ok\0"
    assert fdt.encode_value(["a", "bc"]) == b"a\0bc\0"
    assert fdt.encode_value(b"\xff") == b"\xff"


def test_a_64_bit_number_is_two_cells_high_one_first() -> None:
    assert fdt.cells64(0x1_2345_6789, 2) == [1, 0x2345_6789, 0, 2]


def test_the_strings_block_holds_a_property_name_once() -> None:
    root = Node("", {"reg": 1}, [Node("a", {"reg": 2}), Node("b", {"reg": 3})])
    assert fdt.write(root).count(b"reg\0") == 1


def test_a_node_is_found_by_its_path() -> None:
    leaf = Node("cpu@0", {"reg": 0})
    assert Node("", {}, [Node("cpus", {}, [leaf])]).find("/cpus/cpu@0") is leaf


def test_a_missing_node_is_a_key_error_with_the_path() -> None:
    with pytest.raises(KeyError, match="cpus/cpu@1"):
        Node("", {}, [Node("cpus")]).find("cpus/cpu@1")


@given(st.integers(0, 200), st.data())
def test_a_cut_off_tree_is_a_value_error(length: int, data: st.DataObject) -> None:
    blob = fdt.write(data.draw(nodes))
    with pytest.raises(ValueError, match="device tree"):
        fdt.read(blob[: min(length, len(blob) - 1)])


def test_another_file_is_no_device_tree() -> None:
    with pytest.raises(ValueError, match="starts with 0xd00dfeed, not 0x7f454c46"):
        fdt.read(b"\x7fELF" + bytes(60))


@pytest.mark.apt
@pytest.mark.skipif(shutil.which("dtc") is None, reason="device-tree-compiler is not installed")
def test_dtc_reads_what_is_written(tmp_path: Path) -> None:
    root = Node(
        "",
        {"#address-cells": 1, "#size-cells": 1, "text": ["one", "two"], "empty": None},
        [Node("dev@10", {"reg": [0x10, 0x20]})],
    )
    blob = tmp_path / "tree.dtb"
    blob.write_bytes(fdt.write(root))
    done = subprocess.run(
        ["dtc", "-I", "dtb", "-O", "dtb", str(blob)],  # noqa: S607  # the user's own dtc
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert fdt.read(done.stdout) == encoded(root)
