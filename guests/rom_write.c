/*
 * Write to a read-only memory slot: the write becomes an MMIO exit, the memory stays as it was.
 *
 * Watch: the read maps a page without W. The write to it takes a permission fault, the write to
 *        a page never touched a translation fault; neither maps anything. Both leave the
 *        hypervisor as KVM_EXIT_MMIO with the data, as if the slot were a device. Reads after
 *        that see the old contents, and take no exit.
 * Run:   --slot id=1,gpa=0x50000000,size=64K,ro
 */
#include "firmware.h"

#define ROM 0x50000000
#define ROM_UNTOUCHED (ROM + 0x8000)

int main(void) {
    uint64_t before = read64(ROM);

    write64(ROM, ~before);                 /* the page is mapped, read-only */
    check_equal("ROM after a write", read64(ROM), before);

    write32(ROM_UNTOUCHED + 0x10, 0x1234); /* no page is mapped */
    check_equal("ROM page written first", read32(ROM_UNTOUCHED + 0x10), 0);
    write8(ROM_UNTOUCHED + 0xfff, 0xab);   /* now it is, by the read */
    check_equal("last byte of the page", read8(ROM_UNTOUCHED + 0xfff), 0);

    print("three writes to ROM, and it still reads %x\n", before);
    pass();
}
