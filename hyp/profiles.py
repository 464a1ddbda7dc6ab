"""How KVM's abort handler was at five times, as data.

The handler itself (:mod:`hyp.aborts`, :mod:`hyp.user_mem_abort`) is that of 2026. Where
it once decided otherwise it asks the profile. Beside it a profile changes what a guest can
tell the age of KVM by: the version of PSCI and other firmware calls, what a load from a device
leaves in its register, ESR_EL1 of an injected abort. And it changes what the host does with a page
that is written, since the guest's next fault shows that. Memory of a guest_memfd came late. It
changes nothing else: the page tables, the other slots and the devices are the same under each.

========  ==============  ================================================================
profile   kernel          what it is
========  ==============  ================================================================
``2012``  v3.9 - v3.10    the first in Linux: translation faults, pages of 4 KiB, always
                          executable, no break-before-make
``2018``  v4.18 - v5.8    access flags, blocks, lazy execute permission, an entry is
                          always set as a whole
``2021``  v5.16 - v5.18   the generic page-table code: rights are added in place
``6.1``   v6.1.192        the long-term kernel of 2022 with what was mended in it since, as
                          Debian 12 has it
``2026``  v7              the newest
========  ==============  ================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Final

from hyp.errors import Errno, KvmError
from hyp.fault_info import ACCESS_FLAG, EXCL_ATOMIC, PERMISSION, TRANSLATION
from hyp.host import SIZE_1G, SIZE_2M
from hyp.icache import RULES, CacheRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.esr.fsc import FaultType
    from hyp.fault_info import FaultInfo
    from hyp.memslots import MemorySlot


PSCI_0_2: Final = 0x2
PSCI_1_0: Final = 0x1_0000
PSCI_1_1: Final = 0x1_0001
PSCI_1_2: Final = 0x1_0002
PSCI_1_3: Final = 0x1_0003


class Service(Flag):
    """What KVM emulates for guests beside memory, as it came over the years."""

    SMCCC = auto()
    """SMCCC 1.1 and the workarounds (v4.16)."""
    PMU = auto()
    """v4.6."""
    PV_TIME = auto()
    """Stolen time (v5.5)."""
    TRNG = auto()
    """v5.12."""
    VENDOR_HYP = auto()
    """KVM's own functions (v5.13)."""
    BITMAPS = auto()
    """User space chooses what is offered (v5.19)."""
    SYSTEM_SUSPEND = auto()
    """KVM_CAP_ARM_SYSTEM_SUSPEND (v5.19)."""


SERVICES_2018: Final = Service.SMCCC | Service.PMU
SERVICES_2021: Final = SERVICES_2018 | Service.PV_TIME | Service.TRNG | Service.VENDOR_HYP
SERVICES_2026: Final = SERVICES_2021 | Service.BITMAPS | Service.SYSTEM_SUSPEND


class IpaCheck(Enum):
    """What becomes of an IPA that the guest's machine does not have."""

    NONE = "it is outside the slots like any other"
    SIZE_FAULT = "an address size fault"
    SEA_BELOW_LIMIT = "an external abort; beyond what hardware can have an address size fault"


class Install(Enum):
    """How an entry that is there already is changed."""

    IN_PLACE = "the new value is stored, then the TLB is invalidated"
    WHOLE = "broken and made anew, unless it is equal"
    RELAX = "rights are added in place"


class Topup(Enum):
    """When the cache of spare tables is filled. See :mod:`hyp.memcache`."""

    ALWAYS = "at every fault"
    SPLITS_BLOCK = "unless for a permission fault; for that too if it writes a logged page"
    LOGGING = "unless for a permission fault; for that too in a logged slot"
    GRANULE = "only when the fault was above the level to be mapped, so that a table is missing"


def write_unless_isv_says_no(fault: FaultInfo) -> bool:
    """Return whether an access may have been a write (v3.9).

    Without a valid syndrome it counts as one, although WnR is always valid.
    """
    return not fault.is_iabt and (not fault.data.ISV or bool(fault.data.WnR))


def write_if_wnr_or_data_walk(fault: FaultInfo) -> bool:
    """Return whether an access was a write, or a walk for a data access (v4.18)."""
    return not fault.is_iabt and (fault.is_s1ptw or bool(fault.data.WnR))


def write_if_wnr_or_walk(fault: FaultInfo) -> bool:
    """Return whether an access was a write, or any walk (v5.9): it may set the access flag."""
    return fault.is_s1ptw or (not fault.is_iabt and bool(fault.data.WnR))


def refuse_permission_read(fault: FaultInfo) -> bool:
    """Return whether a permission fault makes no sense: all pages can be read and executed."""
    return fault.fault is PERMISSION and not fault.is_write


def refuse_permission_data_read(fault: FaultInfo) -> bool:
    """Return whether a permission fault makes no sense: all pages can be read."""
    return fault.fault is PERMISSION and not fault.is_write and not fault.is_exec


def accept_permission_fault(_fault: FaultInfo) -> bool:
    """Refuse none: there is only a warning."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmProfile:
    """The decisions that were different once.

    Parameters
    ----------
    name
        What it is chosen by.
    accepted
        The faults that are handled at all; another one is EFAULT.
    handles_sea
        External aborts are looked at first, and become an SError of the guest.
    sea_to_user, nisv_to_user, readonly_slots, guest_memfd
        Whether there is KVM_CAP_ARM_SEA_TO_USER, KVM_CAP_ARM_NISV_TO_USER,
        KVM_CAP_READONLY_MEM, KVM_CAP_GUEST_MEMFD and what came with it.
    ipa_check
        What becomes of a translation fault beyond the VM's IPA size.
    write_rule
        ``kvm_is_write_fault``; ``None`` for the newest, which FaultInfo knows.
    aborts_walks, skips_cmo
        Outside the slots: the guest gets an abort for a walk; cache maintenance is skipped.
    names_walk_level
        The abort for a walk says so, and at which level.
    refuses
        Which permission faults are EFAULT.
    topup, topup_min
        When spare tables are made sure of, and how many; ``None`` for levels - 1.
    block_sizes, falls_through
        What can be mapped beside pages, largest first; whether a smaller one is tried.
    thp, keeps_granule
        Whether transparent huge pages become blocks; whether a permission fault of a
        block is taken as a sign that one is there.
    device_blocks, pfn_memory
        Whether raw frames are mapped by blocks; whether they can be anything but
        device memory.
    caches, keeps_exec
        What is done about caches; whether a permission fault of an executable page has to
        see to it that it stays so.
    install
        How an entry is changed.
    hwpoison_signal
        Failed memory is a signal to the VMM; EFAULT otherwise.
    change_pte
        A page that the host copies because it is written is mapped at once, read-only.
    copies_huge_zero
        Transparent huge pages: the huge page of zeros gives way to a huge page where it is
        written; otherwise it is split, and one small page is copied.
    dirty_ring, eager_split
        Whether there is KVM_CAP_DIRTY_LOG_RING_ACQ_REL with KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP,
        KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE.
    extends_mmio
        Whether a signed load from a device extends the sign; cut to its width otherwise.
    signed_esr
        Whether the class in ESR_EL1 of an injected abort was made as a signed number of 32
        bits: its highest bit fills those above.
    psci_version
        The newest version of PSCI, major number in bits [31:16].
    services
        What else the guest's firmware and CPU offer.
    """

    name: str
    accepted: frozenset[FaultType] = frozenset({TRANSLATION, PERMISSION, ACCESS_FLAG, EXCL_ATOMIC})
    handles_sea: bool = True
    sea_to_user: bool = True
    nisv_to_user: bool = True
    readonly_slots: bool = True
    guest_memfd: bool = True
    ipa_check: IpaCheck = IpaCheck.SEA_BELOW_LIMIT
    write_rule: Callable[[FaultInfo], bool] | None = None
    aborts_walks: bool = True
    skips_cmo: bool = True
    names_walk_level: bool = True
    refuses: Callable[[FaultInfo], bool] = accept_permission_fault
    topup: Topup = Topup.LOGGING
    topup_min: int | None = None
    block_sizes: tuple[int, ...] = (SIZE_1G, SIZE_2M)
    falls_through: bool = True
    thp: bool = True
    keeps_granule: bool = True
    device_blocks: bool = True
    pfn_memory: bool = True
    caches: CacheRules = RULES[2026]
    keeps_exec: bool = False
    install: Install = Install.RELAX
    hwpoison_signal: bool = True
    change_pte: bool = False
    copies_huge_zero: bool = True
    dirty_ring: bool = True
    eager_split: bool = True
    extends_mmio: bool = True
    signed_esr: bool = False
    psci_version: int = PSCI_1_3
    services: Service = SERVICES_2026

    def needs_topup(self, fault: FaultInfo, slot: MemorySlot) -> bool:
        """Return whether to top up before the page is looked up."""
        topup = self.topup
        if topup is Topup.ALWAYS or topup is Topup.GRANULE:
            return topup is Topup.ALWAYS
        if fault.fault is not PERMISSION:
            return True
        return slot.logging and (topup is Topup.LOGGING or fault.is_write)


KVM_2026: Final = KvmProfile(name="2026")

KVM_6_1: Final = replace(
    KVM_2026,
    name="6.1",
    accepted=frozenset({TRANSLATION, PERMISSION, ACCESS_FLAG}),
    sea_to_user=False,
    guest_memfd=False,
    names_walk_level=False,
    refuses=refuse_permission_data_read,
    topup=Topup.SPLITS_BLOCK,
    device_blocks=False,
    pfn_memory=False,
    caches=RULES[2021],
    change_pte=True,
    copies_huge_zero=False,
    dirty_ring=False,
    eager_split=False,
    extends_mmio=False,
    signed_esr=True,
    psci_version=PSCI_1_1,
)

KVM_2021: Final = replace(
    KVM_6_1,
    name="2021",
    ipa_check=IpaCheck.SIZE_FAULT,
    write_rule=write_if_wnr_or_walk,
    device_blocks=True,
    signed_esr=False,
    psci_version=PSCI_1_0,
    services=SERVICES_2021,
)

KVM_2021_GRANULE: Final = replace(KVM_2021, name="2021-granule", topup=Topup.GRANULE)
"""As 2021, with the change proposed then: spare tables only for a fault above the level to map."""

KVM_2018: Final = replace(
    KVM_2021,
    name="2018",
    nisv_to_user=False,
    ipa_check=IpaCheck.NONE,
    write_rule=write_if_wnr_or_data_walk,
    topup=Topup.ALWAYS,
    falls_through=False,
    keeps_granule=False,
    device_blocks=False,
    caches=RULES[2018],
    keeps_exec=True,
    install=Install.WHOLE,
    services=SERVICES_2018,
)

KVM_2012: Final = replace(
    KVM_2018,
    name="2012",
    accepted=frozenset({TRANSLATION, PERMISSION}),
    handles_sea=False,
    readonly_slots=False,
    write_rule=write_unless_isv_says_no,
    aborts_walks=False,
    skips_cmo=False,
    refuses=refuse_permission_read,
    topup_min=2,
    block_sizes=(),
    thp=False,
    caches=RULES[2012],
    keeps_exec=False,
    install=Install.IN_PLACE,
    hwpoison_signal=False,
    psci_version=PSCI_0_2,
    services=Service(0),
)

PROFILES: Final = {
    profile.name: profile
    for profile in (KVM_2012, KVM_2018, KVM_2021, KVM_2021_GRANULE, KVM_6_1, KVM_2026)
}


def profile_named(name: str) -> KvmProfile:
    """Return a profile.

    Raises
    ------
    KvmError
        EINVAL if there is none of that name.
    """
    profile = PROFILES.get(name)
    if profile is None:
        raise KvmError(Errno.EINVAL, f"there is no KVM profile {name!r}; use {', '.join(PROFILES)}")
    return profile
