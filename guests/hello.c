/*
 * Print a line on the UART and power off: the smallest guest there is.
 *
 * Watch: stage 2 starts empty, so that the first fetch takes an instruction abort: translation, at
 *        level 1. Mapping that page makes the tables; stack and data then fault at level 3.
 *        Every character is a store to a page that stage 2 never maps: a data abort with ISV=1,
 *        whose syndrome alone (SAS, SRT, WnR) tells the hypervisor what to emulate. The exit
 *        code goes to user space as KVM_EXIT_MMIO, and the end is an HVC.
 */
#include "firmware.h"

int main(void) {
    print("Hello from EL%u, device tree at %x\n", read_sysreg(CurrentEL) >> 2, device_tree);
    pass();
}
