from __future__ import annotations

import pytest

from bench import qemu
from bench.programs import COUNT, LOAD_STORE, vectors


def test_the_image_holds_code_data_and_tables() -> None:
    image = qemu.image(LOAD_STORE, {1: qemu.DATA, COUNT: 3}, qemu.LOAD_ADDRESS)
    assert len(image) % 4096 == 0
    assert LOAD_STORE.words[4:] in image[:4096]
    assert image[2048:4096] == vectors()
    assert image[4096:8192] == bytes(4096)
    assert int.from_bytes(image[8192:8200], "little") == qemu.LOAD_ADDRESS + 0x3000 | 3


@pytest.mark.apt
@pytest.mark.skipif(not qemu.is_installed(), reason="needs qemu-system-aarch64")
def test_a_loop_runs_under_qemu_to_its_end() -> None:
    assert qemu.version()
    assert qemu.seconds_each(LOAD_STORE, {}, 200_000, 1) != 0
