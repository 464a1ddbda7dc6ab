/*
 * Ask the hypervisor for PSCI and SMCCC functions by HVC.
 *
 * Watch: each call is an exception to EL2 with EC 0x16; the function number is in x0, and HVC
 *        returns behind itself without being skipped. A function that is not known returns
 *        NOT_SUPPORTED, and the guest goes on. Registers beyond the results stay as they were.
 */
#include "firmware.h"

#define NOT_SUPPORTED (uint64_t)-1
#define PSCI_VERSION 0x84000000
#define PSCI_CPU_ON 0xc4000003
#define PSCI_AFFINITY_INFO 0xc4000004
#define PSCI_FEATURES 0x8400000a
#define PSCI_SYSTEM_OFF 0x84000008
#define ALREADY_ON (uint64_t)-4

int main(void) {
    uint64_t version = hvc(PSCI_VERSION, 0, 0, 0);
    check(version >> 16 >= 1, "PSCI is older than 1.0");
    check_equal("features of SYSTEM_OFF", hvc(PSCI_FEATURES, PSCI_SYSTEM_OFF, 0, 0), 0);
    check_equal("an unknown function", (int32_t)hvc(0x8400ffff, 0, 0, 0), NOT_SUPPORTED);

    uint64_t me = read_sysreg(mpidr_el1) & 0xff00fffffful;
    check_equal("affinity info of this CPU", hvc(PSCI_AFFINITY_INFO, me, 0, 0), 0);
    check_equal("turning on this CPU", hvc(PSCI_CPU_ON, me, RAM, 0), ALREADY_ON);

    print("PSCI %u.%u\n", version >> 16, version & 0xffff);
    pass();
}
