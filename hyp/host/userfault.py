"""userfaultfd(2): a program that supplies the pages of an area when they are missed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.host.vma import HVA


class UserfaultMode(IntFlag):
    """The UFFDIO_REGISTER_MODE_* numbers."""

    MISSING = 1
    """There is no page yet: it is to be copied in (UFFDIO_COPY, UFFDIO_ZEROPAGE)."""
    MINOR = 4
    """The file has the page, the process not yet: it is to be let in (UFFDIO_CONTINUE)."""


@dataclass(frozen=True, slots=True)
class UserfaultMessage:
    """``struct uffd_msg``: what is missed.

    Parameters
    ----------
    address
        The page.
    write
        Whether it was to be written (UFFD_PAGEFAULT_FLAG_WRITE).
    minor
        Whether only the mapping is missing (UFFD_PAGEFAULT_FLAG_MINOR).
    """

    address: HVA
    write: bool
    minor: bool


@dataclass(frozen=True, slots=True, eq=False)
class Userfault:
    """A registration.

    Parameters
    ----------
    handler
        Called for each page that is missed. It supplies the page, or it does not:
        then whoever missed it waits.
    mode
        What it is called for.
    """

    handler: Callable[[UserfaultMessage], None]
    mode: UserfaultMode = UserfaultMode.MISSING
