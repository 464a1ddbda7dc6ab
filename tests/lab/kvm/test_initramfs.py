"""The cpio archive, read back by the rules of the format."""

from __future__ import annotations

from lab.kvm.initramfs import archive, character_device, file, folder


def members(data: bytes) -> list[tuple[str, list[int], bytes]]:
    """Return name, header numbers and contents of each member."""
    found = []
    at = 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = numbers[6], numbers[11]
        name = data[at + 110 : at + 109 + name_size].decode()
        assert data[at + 109 + name_size] == 0
        start = -(-(at + 110 + name_size) // 4) * 4
        found.append((name, numbers, data[start : start + size]))
        at = -(-(start + size) // 4) * 4
    return found


def test_members_are_found_in_order_with_their_contents() -> None:
    data = archive([folder("dev"), file("init", b"12345"), file("x", b"")])
    names = [(name, contents) for name, _, contents in members(data)]
    assert names == [("dev", b""), ("init", b"12345"), ("x", b""), ("TRAILER!!!", b"")]


def test_modes_say_what_a_member_is() -> None:
    data = archive([folder("dev"), file("init", b""), character_device("dev/console", 5, 1)])
    modes = [numbers[1] >> 12 for _, numbers, _ in members(data)[:3]]
    assert modes == [0o04, 0o10, 0o02]
    assert members(data)[2][1][9:11] == [5, 1]


def test_every_member_has_an_inode_of_its_own() -> None:
    data = archive([folder("a"), folder("b")])
    assert len({numbers[0] for _, numbers, _ in members(data)}) == 3
