"""Snapshots in files, and digests of states.

A file begins with a line of text and a hash of the rest, which is compressed: a header, the
contents of objects as JSON, and the pages of memory. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from emu import compiled
from emu.arch.address import PA, PAGE_SIZE
from emu.images import MemoryImage
from lab.cpu import registers_of
from lab.snapshot.decoding import Decoder
from lab.snapshot.encoding import Encoder
from lab.snapshot.kinds import SnapshotError
from lab.snapshot.snapshot import Snapshot, graph_of

if TYPE_CHECKING:
    from pathlib import Path

    from lab.snapshot.graph import Graph

MAGIC: Final = b"stage2 snapshot 1\n"
_HASH_BYTES: Final = 32
_LENGTH_BYTES: Final = 8
_LEVEL: Final = 1
"""Of the compression: the quickest."""
_LONGEST_JSON: Final = 1 << 30
_FREE: Final = frozenset({"max_insns", "initrd", "cpu"})
"""Fields of a configuration that may differ. What is in the initrd is compared, and in the CPU."""
_OPTIONS: Final = {"memory_size": "--mem", "nisv_to_user": "--nisv", "bootargs": "--append"}


def digest(root: object) -> bytes:
    """Return a hash of the state, which is equal for equal states, in every process.

    What :func:`~lab.snapshot.first_difference` leaves out does not count here either.

    Parameters
    ----------
    root
        As for :func:`~lab.snapshot.take`.
    """
    graph = graph_of(root)
    found = hashlib.sha256(_json(Encoder(graph.entries, for_digest=True).nodes()))
    for pa, page in sorted(graph.memories[0].contents().pages.items()):
        found.update(pa.to_bytes(8, "little"))
        found.update(page)
    return found.digest()


def write(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot to a file.

    Parameters
    ----------
    snapshot
        The snapshot.
    path
        The file, which is replaced if it exists.

    Raises
    ------
    SnapshotError
        If the state cannot be written, or the file cannot; or if compiled modules are in use.
    """
    _check_is_python(path)
    encoder = Encoder([*snapshot.entries, *snapshot.others])
    pages = sorted(snapshot.memory.pages.items())
    contents = _json({"nodes": encoder.nodes(), "aside": encoder.aside()})
    header = {
        **_identity(snapshot.root, graph_of(snapshot.root)),
        "instructions": snapshot.instructions,
        "pages": [pa for pa, _page in pages],
    }
    compressor = zlib.compressobj(_LEVEL)
    body = bytearray()
    for part in (_sized(_json(header)), _sized(contents), *(page for _pa, page in pages)):
        body += compressor.compress(part)
    body += compressor.flush()
    try:
        with path.open("wb") as file:
            file.write(MAGIC + hashlib.sha256(body).digest())
            file.write(body)
    except OSError as error:
        raise SnapshotError(f"cannot write the snapshot {path}: {error.strerror}") from error


def _check_is_python(path: Path) -> None:
    """Refuse compiled classes: their objects cannot be made from what a file says."""
    if compiled.in_use() is not None:
        raise SnapshotError(
            f"{path}: files of snapshots are for machines that run as Python; "
            f"set {compiled.PURE}=1 in the environment"
        )


def read(path: Path, root: object) -> Snapshot:
    """Read a snapshot, for :func:`~lab.snapshot.restore`.

    Parameters
    ----------
    path
        The file.
    root
        What is to be restored: it has been built like what the snapshot is of.

    Raises
    ------
    SnapshotError
        If this is no snapshot, or one of another guest, configuration or version; or if compiled
        modules are in use.
    """
    _check_is_python(path)
    body = _checked(path)
    try:
        return _read(body, root)
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from error
    except Exception as error:  # whatever a forged file leads to
        raise SnapshotError(
            f"{path} holds no state of this machine ({type(error).__name__}); take it again"
        ) from error


def _checked(path: Path) -> bytes:
    """Return the compressed part of a file that is what was written."""
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot read the snapshot {path}: {error.strerror}") from error
    line, rest = contents[: len(MAGIC)], contents[len(MAGIC) :]
    if line != MAGIC:
        known = line.startswith(MAGIC.rpartition(b" ")[0])
        what = "a snapshot of another version of stage2" if known else "no snapshot of stage2"
        raise SnapshotError(f"{path} is {what}; write one with --snapshot-at")
    body = rest[_HASH_BYTES:]
    if hashlib.sha256(body).digest() != rest[:_HASH_BYTES]:
        raise SnapshotError(f"{path} is damaged or cut off; write it again with --snapshot-at")
    return body


def _read(body: bytes, root: object) -> Snapshot:
    stream = _Stream(body)
    header = json.loads(stream.sized())
    graph = graph_of(root)
    _check_identity(header, _identity(root, graph))
    contents = json.loads(stream.sized())
    memory = graph.memories[0]
    for pa in header["pages"]:
        if pa % PAGE_SIZE or not memory.contains(PA(pa), PAGE_SIZE):
            raise SnapshotError(f"the snapshot has a page at {pa:#x}, where this machine has none")
    data = stream.read(PAGE_SIZE * len(header["pages"]))
    pages = {
        PA(pa): data[PAGE_SIZE * number : PAGE_SIZE * (number + 1)]
        for number, pa in enumerate(header["pages"])
    }
    entries, others = Decoder(contents["nodes"], contents["aside"], graph).entries()
    image = MemoryImage(pages)
    return Snapshot(root, graph, image, entries, others, int(header["instructions"]))


class _Stream:
    """Compressed bytes, from front to back."""

    def __init__(self, body: bytes) -> None:
        self._decompressor = zlib.decompressobj()
        self._left = body

    def read(self, size: int) -> bytes:
        """Return the next bytes.

        Raises
        ------
        SnapshotError
            If there are fewer.
        """
        found = bytearray()
        while len(found) < size:
            piece = self._decompressor.decompress(self._left, size - len(found))
            self._left = self._decompressor.unconsumed_tail
            if not piece:
                raise SnapshotError("the snapshot ends too early; write it again")
            found += piece
        return bytes(found)

    def sized(self) -> bytes:
        """Return bytes that their number precedes."""
        size = int.from_bytes(self.read(_LENGTH_BYTES), "little")
        if size > _LONGEST_JSON:
            raise SnapshotError(f"the snapshot claims to hold {size} bytes of text")
        return self.read(size)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def _json(value: Any) -> bytes:  # noqa: ANN401  # JSON
    return json.dumps(value, separators=(",", ":")).encode()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # start-up time

    try:
        return version("stage2")
    except PackageNotFoundError:
        return "unknown"


def _identity(root: object, graph: Graph) -> dict[str, Any]:
    """Return what must be equal where a snapshot is taken and where it is restored."""
    memory = graph.memories[0]
    found: dict[str, Any] = {
        "stage2": _version(),
        "root": type(root).__qualname__,
        "machine": [len(graph.pes), memory.base, memory.size],
        "config": {},
        "cpu": registers_of(graph.pes[0].features),
        "image": "",
    }
    config, image, boot = (getattr(root, name, None) for name in ("config", "image", "boot"))
    if config is not None and image is not None:
        found["config"] = {
            field.name: repr(getattr(config, field.name))
            for field in fields(config)
            if field.name not in _FREE
        }
        found["image"] = hashlib.sha256(repr((image, boot)).encode()).hexdigest()
    return found


def _check_identity(was: dict[str, Any], now: dict[str, Any]) -> None:
    if was["stage2"] != now["stage2"]:
        raise SnapshotError(
            f"the snapshot is of stage2 {was['stage2']}, this is {now['stage2']}; take it again"
        )
    for name, value in now["config"].items():
        before = was["config"].get(name, "nothing")
        if before != value:
            option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
            raise SnapshotError(
                f"the snapshot was taken with another {option}: {before}, not {value}; "
                "give the options it was taken with"
            )
    for name in sorted(was["cpu"].keys() | now["cpu"].keys()):
        before, value = (cpu.get(name, "0x0") for cpu in (was["cpu"], now["cpu"]))
        if before != value:
            raise SnapshotError(
                f"the snapshot was taken on another CPU: {name} was {before}, not {value}; "
                "give the --cpu it was taken with"
            )
    if was["image"] != now["image"]:
        raise SnapshotError(
            "the snapshot is of another guest, or of another build of it; "
            "restore it with the files it was taken with"
        )
    if was["machine"] != now["machine"] or was["root"] != now["root"]:
        raise SnapshotError(
            f"the snapshot is of a {was['root']} with PEs, base and size of memory "
            f"{was['machine']}, not of a {now['root']} with {now['machine']}"
        )
