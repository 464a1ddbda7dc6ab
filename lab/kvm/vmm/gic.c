/* The VM's interrupt controller: a GICv3 that KVM emulates. */
#include "vmm.h"

#include <unistd.h>

#define NR_IRQS 64

static void set(int gic, uint32_t group, uint64_t attribute, void *value)
{
    struct kvm_device_attr attr = {.group = group, .attr = attribute, .addr = (uint64_t)value};
    IOCTL(gic, KVM_SET_DEVICE_ATTR, &attr);
}

/* All vCPUs are there. */
void create_gic(uint64_t distributor, uint64_t redistributors)
{
    struct kvm_create_device device = {.type = KVM_DEV_TYPE_ARM_VGIC_V3};
    uint32_t interrupts = NR_IRQS;
    IOCTL(vm, KVM_CREATE_DEVICE, &device);
    set(device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &distributor);
    set(device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &redistributors);
    set(device.fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);
    set(device.fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
    close(device.fd);
}
