"""The same guest under real KVM, in a machine that QEMU emulates, and the comparison."""
