/* Dirty logging: the pages that a guest has written, at the end and after each line it prints. */
#include "vmm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int toggles, collects;
static int clears;

void on_line(char what, unsigned long clear)
{
    toggles = what == 't' || what == 'b';
    collects = what == 'c' || what == 'b';
    clears = clear;
}

typedef void range_function(unsigned slot, uint64_t first, uint64_t last);

static int is_set(const uint64_t *bitmap, uint64_t page)
{
    return bitmap[page / 64] >> page % 64 & 1;
}

static void collect(struct slot *slot, range_function *tell)
{
    struct kvm_userspace_memory_region *region = &slot->region;
    uint64_t pages = region->memory_size / PAGE, page = 0;
    uint64_t *bitmap = calloc((pages + 63) / 64, 8);
    struct kvm_dirty_log log = {.slot = region->slot, .dirty_bitmap = bitmap};
    IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
    if (clears) {
        struct kvm_clear_dirty_log clear = {
            .slot = region->slot, .num_pages = pages, .dirty_bitmap = bitmap};
        IOCTL(vm, KVM_CLEAR_DIRTY_LOG, &clear);
    }
    while (page < pages) {
        uint64_t first = page;
        while (page < pages && is_set(bitmap, page))
            page++;
        if (page > first)
            tell(region->slot, first, page - 1);
        else
            page++;
    }
    free(bitmap);
}

static void collect_all(range_function *tell)
{
    for (int i = 0; i < slot_count; i++)
        if (slots[i].region.flags & KVM_MEM_LOG_DIRTY_PAGES)
            collect(&slots[i], tell);
}

static void toggle(struct slot *slot)
{
    slot->region.flags ^= KVM_MEM_LOG_DIRTY_PAGES;
    IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &slot->region);
}

static void mark(unsigned slot, uint64_t first, uint64_t last)
{
    char line[80];
    snprintf(line, sizeof line, "dirty_log: slot %u, pages %lu-%lu\n", slot, first, last);
    write_file(TRACING "/trace_marker", line);
}

static void print(unsigned slot, uint64_t first, uint64_t last)
{
    printf("@dirty %u %lu %lu\n", slot, first, last);
}

/* The guest has printed a line: what it has dirtied until then goes into the trace. */
void at_end_of_line(void)
{
    if (collects)
        collect_all(mark);
    for (int i = 0; toggles && i < slot_count; i++)
        if (slots[i].is_ram && !(slots[i].region.flags & KVM_MEM_READONLY))
            toggle(&slots[i]);
}

void report_dirty(void)
{
    collect_all(print);
}
