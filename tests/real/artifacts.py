"""Other people's software that the tests of real guests run: Debian's packages for arm64.

They are unpacked, not installed: apt works in a folder of its own, so that the host keeps its
packages, its architectures and its lists. ``python -m tests.real.artifacts`` fetches what the
user's cache lacks; the tests only look there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from emu.compiled import cache
from lab.kvm.qemu import KERNEL as KERNELS
from tests.real.guest import initramfs


class Artifact(NamedTuple):
    """A file of a package.

    Attributes
    ----------
    package : str
        As Debian names it.
    member : str
        Which file, as a pattern.
    pattern : str
        What it is called in the cache; a name that the pattern matches is kept.
    """

    package: str
    member: str
    pattern: str

    def find(self) -> Path | None:
        """Return the newest one in the cache, None without one."""
        return max(cache().glob(self.pattern), default=None)

    def fetch(self) -> Path:
        """Bring the file into the cache and return where it is.

        Raises
        ------
        subprocess.CalledProcessError
            If apt or dpkg-deb fail.
        """
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            member = _unpacked(_downloaded(self.package, Path(folder)), self.member)
            name = member.name if Path(member.name).match(self.pattern) else self.pattern
            return member.replace(cache() / name)


KERNEL: Final = Artifact("linux-image-arm64", "./boot/vmlinuz-*", KERNELS)
"""A metapackage, which depends on the kernel of the day."""

BUSYBOX: Final = Artifact("busybox-static", "./bin/busybox", "busybox-arm64")
UBOOT: Final = Artifact("u-boot-qemu", "./usr/lib/u-boot/qemu_arm64/u-boot.bin", "u-boot-arm64.bin")
ALL: Final = (KERNEL, BUSYBOX, UBOOT)


def fetch_all() -> None:
    """Fetch what the cache lacks, and make a file system of it."""
    for artifact in ALL:
        print(artifact.find() or artifact.fetch())  # noqa: T201  # it is a command
    busybox = BUSYBOX.find()
    assert busybox is not None, "it was fetched"
    path = cache() / "initramfs-arm64.cpio"
    path.write_bytes(initramfs(busybox.read_bytes()))
    print(path)  # noqa: T201  # it is a command


def _downloaded(package: str, folder: Path) -> Path:
    """Return the package as a file in the folder."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "state/status").touch()
    options = [
        "APT::Architecture=arm64",
        "APT::Architectures=arm64",
        f"Dir::State={folder / 'state'}",
        f"Dir::State::status={folder / 'state/status'}",
        f"Dir::Cache={folder / 'cache'}",
    ]
    if os.geteuid() == 0:
        options.append("APT::Sandbox::User=root")  # nobody else may enter the folder
    apt = [f"-o{option}" for option in options]
    _output("apt-get", *apt, "-qq", "update")
    depends = _output("apt-cache", *apt, "depends", "--important", package).split()
    kernels = [name for name in depends if name.startswith("linux-image-")]
    _output("apt-get", *apt, "-qq", "download", kernels[-1] if kernels else package, cwd=folder)
    (found,) = folder.glob("*.deb")
    return found


def _unpacked(package: Path, member: str) -> Path:
    """Unpack one file of the package beside it, and return it."""
    files = package.with_suffix(".tar")
    _output("dpkg-deb", "--fsys-tarfile", package.name, cwd=package.parent, to=files)
    _output("tar", "-xf", files.name, "--wildcards", member, cwd=package.parent)
    (found,) = package.parent.glob(member)
    return found


def _output(program: str, *arguments: str, cwd: Path | None = None, to: Path | None = None) -> str:
    """Run a program; return what it prints, or write it to a file."""
    path = shutil.which(program)
    if path is None:
        sys.exit(f"{program} is not installed: the packages are Debian's")
    done = subprocess.run([path, *arguments], check=True, cwd=cwd, stdout=subprocess.PIPE)
    if to is not None:
        to.write_bytes(done.stdout)
        return ""
    return done.stdout.decode()


if __name__ == "__main__":
    fetch_all()
