/*
 * Print a line on the UART and power off: the smallest guest there is.
 *
 * Watch: the first fetch faults (instruction abort, translation, level 3) and is answered by
 *        mapping the page; so do the first accesses to stack and data. Every character is a
 *        store to a page that stage 2 never maps: a data abort with ISV=1, whose syndrome
 *        alone (SAS, SRT, WnR) tells the hypervisor what to emulate. The end is an HVC.
 */
#include "firmware.h"

int main(void) {
    print("Hello from EL%u, device tree at %x\n", read_sysreg(CurrentEL) >> 2, device_tree);
    pass();
}
