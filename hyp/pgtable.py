"""A VM's stage-2 page tables (arch/arm64/kvm/hyp/pgtable.c).

The tables are descriptors in physical memory; this is the code that writes
them. Every change of a valid entry to another output, size or memory type goes
through break-before-make: first a locked, invalid entry, then TLB invalidation,
then the new value. Changes of permissions alone are made in place.

Results are :class:`Errno` values, as in the kernel: EAGAIN says that there was
nothing to do, or that somebody else was faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SIZE
from hyp.attributes import AgeWalk, AttributeWalk
from hyp.descriptors import Descriptors
from hyp.errors import Errno
from hyp.mapping import AnnotateWalk, MapWalk, install_leaf
from hyp.pte import (
    ANNOTATION,
    GRANULE,
    GRANULE_SHIFT,
    LAST_LEVEL,
    PTE_ADDR,
    PTE_AF,
    PTE_LOCKED,
    PTE_MEMATTR,
    PTE_R,
    PTE_TABLE,
    PTE_VALID,
    PTE_W,
    PTE_XN,
    InvalidPteType,
    Prot,
    annotation_pte,
    pte_table,
    pte_to_phys,
    pte_valid,
    stage2_attr,
)
from hyp.rcu import Rcu
from hyp.splitting import SplitWalk
from hyp.steps import Step, Steps
from hyp.unmapping import FreeWalk, UnmapWalk
from hyp.walker import FAULT_WALK, HANDLE_FAULT, SHARED, SKIP_BBM_TLBI, SKIP_CMO, Walker

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory
    from hyp.cpufeature import HostFeatures
    from hyp.icache import CacheMaintenance, CacheRules
    from hyp.memcache import MemoryCache
    from hyp.tablepages import TablePages
    from hyp.tlb import Stage2Tlb
    from hyp.vtcr import Stage2Geometry


class Leaf(NamedTuple):
    """The last entry of a walk, valid or not, and its level."""

    pte: int
    level: int


class Stage2PageTable:
    """``struct kvm_pgtable`` for stage 2.

    Parameters
    ----------
    memory
        Where the tables lie.
    geometry
        Levels and size of the top.
    pages
        Where table pages come from.
    tlb, cmo
        TLB invalidation and cache maintenance for this VM.
    features
        Whether the VM runs with HCR_EL2.FWB, and what TLBI there is.
    steps
        How entries are made.

    Raises
    ------
    KvmError
        ENOMEM when there is no memory for the top-level tables.
    """

    __slots__ = (
        "_attrs",
        "_normal",
        "_steps",
        "_walk_flags",
        "cmo",
        "deferred_tlbi",
        "descriptors",
        "fwb",
        "geometry",
        "ia_end",
        "pages",
        "pgd",
        "rcu",
        "tlb",
    )

    def __init__(
        self,
        memory: PhysicalMemory,
        geometry: Stage2Geometry,
        pages: TablePages,
        *,
        tlb: Stage2Tlb,
        cmo: CacheMaintenance,
        features: HostFeatures,
        steps: Steps | None = None,
    ) -> None:
        self._steps = Steps() if steps is None else steps
        self.descriptors = Descriptors(memory)
        self.geometry = geometry
        self.pages = pages
        self.tlb = tlb
        self.cmo = cmo
        self.fwb = fwb = features.fwb
        self.deferred_tlbi = fwb and features.tlb_range
        self.ia_end = 1 << geometry.ia_bits
        self.rcu = Rcu()
        self.use_cache_rules(cmo.rules)
        self._attrs = [stage2_attr(Prot(prot), fwb=fwb) for prot in range(32)]
        self._normal = (self._attrs[Prot.R] or 0) & PTE_MEMATTR
        self.pgd: PA | None = pages.zalloc_pages_exact(geometry.pgd_size)

    def use_cache_rules(self, rules: CacheRules) -> None:
        """Have caches maintained by the rules of another kernel."""
        self.cmo.rules = rules
        self.tlb.after_ipa = self.cmo.after_tlbi_by_ipa if rules.vpipt else None
        self._walk_flags = 0 if rules.in_walk else SKIP_CMO

    # --- walks ---------------------------------------------------------------------------

    def walk(self, walker: Walker, addr: IPA, size: int) -> Errno:
        """Show the entries that cover a range to ``walker`` (``kvm_pgtable_walk``).

        Returns
        -------
        Errno
            ERANGE beyond the IPA size, EINVAL once destroyed, else the walker's result.
        """
        end = IPA((addr + size + PAGE_MASK) & ~PAGE_MASK)
        if end > self.ia_end:
            return Errno.ERANGE
        if self.pgd is None:
            return Errno.EINVAL
        start = IPA(addr & ~PAGE_MASK)
        if not walker.shared:
            return walker.walk(self.pgd, self.geometry.start_level, start, end)
        self.rcu.read_lock()
        try:
            return walker.walk(self.pgd, self.geometry.start_level, start, end)
        finally:
            self.rcu.read_unlock()

    def get_leaf(self, addr: IPA) -> Leaf:
        """Return the last entry of the walk for ``addr`` (``kvm_pgtable_get_leaf``)."""
        _, pte, level = self._descend(addr)
        return Leaf(pte, level)

    def _descend(self, addr: IPA) -> tuple[int, int, int]:
        """Return the last entry of the walk for ``addr``: where it lies, its value, its level."""
        level = self.geometry.start_level
        if self.pgd is None or addr >= self.ia_end:
            return 0, 0, level
        read = self.descriptors.read
        ptep = self.pgd + (addr >> GRANULE_SHIFT[level] << 3)
        pte = read(ptep)
        while level < LAST_LEVEL and pte & PTE_TABLE == PTE_TABLE:
            level += 1
            ptep = (pte & PTE_ADDR) + ((addr >> GRANULE_SHIFT[level] & 511) << 3)
            pte = read(ptep)
        return ptep, pte, level

    # --- break-before-make ---------------------------------------------------------------

    def try_set_pte(self, ptep: int, old: int, new: int, flags: int) -> bool:
        """Change an entry unless somebody was faster (``stage2_try_set_pte``)."""
        if flags & SHARED:
            return self.descriptors.cmpxchg(ptep, old, new)
        self.descriptors.store(ptep, new)
        return True

    def try_break_pte(self, ptep: int, old: int, level: int, addr: int, flags: int) -> bool:
        """Lock an entry and make sure nobody uses its old value (``stage2_try_break_pte``).

        Returns
        -------
        bool
            False if somebody else holds the lock or changed the entry.
        """
        if old == PTE_LOCKED or not self.try_set_pte(ptep, old, PTE_LOCKED, flags):
            return False
        if old & PTE_VALID and not flags & SKIP_BBM_TLBI:
            if pte_table(old, level):
                granule = GRANULE[level]
                self.tlb.flush_vmid_range(IPA(addr & -granule), granule)
            else:
                self.tlb.flush_vmid_ipa(IPA(addr), level)
        if old:
            self.pages.put_page(ptep)
        return True

    def make_pte(self, ptep: int, new: int) -> None:
        """Give a locked entry its new value (``stage2_make_pte``)."""
        if self._steps.deviating:
            self._steps.do(Step.MAKE_PTE, self._make_pte, ptep, new)
        else:
            self._make_pte(ptep, new)

    def _make_pte(self, ptep: int, new: int) -> None:
        self.pages.get_page(ptep)
        self.descriptors.store_release(ptep, new)

    # --- map and unmap -------------------------------------------------------------------

    def attr(self, prot: Prot) -> int | None:
        """Return the attribute bits of a leaf; ``None`` for impossible ones."""
        return self._attrs[prot]

    def map(
        self,
        addr: IPA,
        size: int,
        phys: PA,
        prot: Prot,
        memcache: MemoryCache | None,
        flags: int = FAULT_WALK,
    ) -> Errno:
        """Map a range (``kvm_pgtable_stage2_map``).

        Parameters
        ----------
        addr, size, phys
            The range and what it maps to; all multiples of the page size. Blocks
            are used wherever addresses and size allow.
        prot
            What the mapping allows.
        memcache
            Where new tables come from; ``None`` if none can be needed.
        flags
            Of :class:`hyp.walker.WalkFlags`. A fault handler shares the tables with
            others and gives up on EAGAIN.

        Returns
        -------
        Errno
            EAGAIN if the mapping, permissions aside, is there already; ENOMEM if the
            cache ran empty; EINVAL for impossible attributes; ERANGE beyond the IPA size.
        """
        attr = self._attrs[prot]
        if attr is None:
            return Errno.EINVAL
        flags |= self._walk_flags
        if flags & HANDLE_FAULT and size == PAGE_SIZE and not (addr | phys) & PAGE_MASK:
            # What a walk would come to, if there is a table for the page.
            self.rcu.read_lock()
            ptep, old, level = self._descend(addr)
            if level == LAST_LEVEL:
                error = install_leaf(self, ptep, old, level, addr, phys, attr, flags)
                self.rcu.read_unlock()
                return error
            self.rcu.read_unlock()
        collapse = size >= GRANULE[LAST_LEVEL - 1]
        walker = MapWalk(self, addr, phys, attr, memcache, flags=flags, collapse=collapse)
        return self.walk(walker, addr, size)

    def annotate(
        self,
        addr: IPA,
        size: int,
        memcache: MemoryCache | None,
        kind: InvalidPteType,
        annotation: int,
    ) -> Errno:
        """Replace what a range maps by invalid entries that mean something.

        Parameters
        ----------
        addr, size, memcache
            As for :meth:`map`.
        kind
            What the entries mean.
        annotation
            More about it, in bits 1 to 59.

        Returns
        -------
        Errno
            EINVAL for a kind that cannot be chosen, or an annotation that does not fit;
            ENOMEM and ERANGE as for :meth:`map`.
        """
        if kind in (InvalidPteType.NONE, InvalidPteType.LOCKED) or annotation & ~ANNOTATION:
            return Errno.EINVAL
        return self.walk(AnnotateWalk(self, annotation_pte(kind, annotation), memcache), addr, size)

    def unmap(self, addr: IPA, size: int) -> Errno:
        """Remove every mapping in a range (``kvm_pgtable_stage2_unmap``).

        A block that only partly lies in the range goes as a whole; the rest of it
        faults again.
        """
        error = self.walk(UnmapWalk(self), addr, size)
        if self.deferred_tlbi:
            self.tlb.flush_vmid_range(addr, size)
        return error

    def split(self, addr: IPA, size: int, memcache: MemoryCache, flags: int = 0) -> Errno:
        """Turn the blocks of a range into pages (``kvm_pgtable_stage2_split``).

        Returns
        -------
        Errno
            ENOMEM when the cache ran empty: top it up and call again, the blocks that are
            split already cost nothing. EAGAIN from a rival does not end the walk.
        """
        return self.walk(SplitWalk(self, memcache, flags), addr, size)

    def clean(self, pte: int, level: int) -> None:
        """Write back what the caches hold of a leaf, if it is cacheable memory."""
        if self.cacheable(pte):
            self.cmo.dcache_clean_inval_poc(pte_to_phys(pte), GRANULE[level])

    def cacheable(self, pte: int) -> bool:
        """Return whether a leaf maps normal, cacheable memory."""
        return pte & PTE_MEMATTR == self._normal

    # --- attributes ----------------------------------------------------------------------

    def wrprotect(self, addr: IPA, size: int) -> Errno:
        """Take the right to write from a range; the caller flushes the TLB."""
        walker = AttributeWalk(self, clear_bits=PTE_W)
        return self._steps.do(Step.WRPROTECT, self.walk, walker, addr, size) or Errno.OK

    def mkyoung(self, addr: IPA, flags: int = FAULT_WALK) -> Errno:
        """Set the access flag of the leaf at ``addr``; no TLB holds a leaf without it."""
        return self.walk(AttributeWalk(self, set_bits=PTE_AF, flags=flags), addr, 1)

    def test_clear_young(self, addr: IPA, size: int, mkold: bool) -> bool:
        """Return whether a range was accessed; with ``mkold`` forget it.

        The TLB is left alone: an entry in it may hide accesses for a while.
        """
        walker = AgeWalk(self, mkold=mkold)
        self.walk(walker, addr, size)
        return walker.young

    def relax_perms(self, addr: IPA, prot: Prot, flags: int = FAULT_WALK) -> Errno:
        """Add permissions to the leaf at ``addr``; none is ever taken away."""
        set_bits = (PTE_R if prot & Prot.R else 0) | (PTE_W if prot & Prot.W else 0)
        clear_bits = PTE_XN if prot & Prot.X else 0
        flags |= self._walk_flags
        walker = AttributeWalk(self, set_bits=set_bits, clear_bits=clear_bits, flags=flags)
        error = self.walk(walker, addr, 1)
        if error in (Errno.OK, Errno.EAGAIN):
            # Also when another PE was faster: it did not invalidate *this* PE's entry.
            self.tlb.flush_vmid_ipa_nsh(addr, walker.level)
        return error

    def flush(self, addr: IPA, size: int) -> Errno:
        """Clean every cacheable mapping in a range to the point of coherency."""

        def leaf(ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
            del ptep, addr, end
            if pte_valid(old):
                self.clean(old, level)
            return Errno.OK

        if self.fwb:
            return Errno.OK
        return self.walk(Walker(self.descriptors, leaf), addr, size)

    # --- end of life ---------------------------------------------------------------------

    def free_unlinked(self, table: PA, level: int) -> None:
        """Free a table that hangs nowhere any more, with all below it.

        No TLB invalidation: the caller has done it, or the VM is dead.
        """
        FreeWalk(self).walk_detached(table, level)
        self.pages.put_page(table)

    def destroy(self) -> None:
        """Free all tables (``kvm_pgtable_stage2_destroy``)."""
        if self.pgd is None:
            return
        self.walk(FreeWalk(self), IPA(0), self.ia_end)
        self.pages.free_pages_exact(self.pgd, self.geometry.pgd_size)
        self.pgd = None
