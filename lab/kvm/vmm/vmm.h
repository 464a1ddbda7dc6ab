/*
 * A virtual machine monitor for real KVM, the first and only process of its machine.
 *
 * It reads /experiments, one command a line, does what each says, and reports on the console
 * in lines that begin with '@'. Each experiment begins with "begin" and has a VM of its own.
 * What it cannot do ends the process with one line "@error ...".
 */
#pragma once

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_SLOTS 32
#define MAX_AREAS 8
#define MAX_VCPUS 4
#define PAGE 4096ul
#define TRACING "/sys/kernel/tracing"

struct slot {
    struct kvm_userspace_memory_region region;
    int is_ram;
};

/* main.c */
extern int kvm, vm;
_Noreturn void finish(void);
_Noreturn void fail(const char *format, ...);
void write_file(const char *path, const char *text);
int checked_ioctl(const char *name, int fd, unsigned long request, void *argument);
#define IOCTL(fd, request, argument) checked_ioctl(#request, fd, request, (void *)(argument))

/* memory.c */
extern struct slot slots[MAX_SLOTS];
extern int slot_count;
void add_area(unsigned number, size_t size, size_t page_size, const char *kind);
void add_slot(int id, uint64_t gpa, uint64_t size, unsigned flags, unsigned area, size_t offset);
void load(uint64_t gpa, const char *path);
void remove_memory(void);

/* dirty.c */
void on_line(char what, unsigned long clear);
void at_end_of_line(void);
void report_dirty(void);

/* vcpu.c */
extern uint64_t uart_base, device_base;
extern int pauses;
void create_vcpu(void);
void set_core_register(unsigned index, uint64_t value);
void run_guest(void);
void remove_vcpus(void);

/* gic.c */
void create_gic(uint64_t distributor, uint64_t redistributors);
