/* The memory of a VM: areas of this process, and slots that show parts of them. */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_PAGE (2ul << 20)

static struct area {
    void *mapped, *memory;
    size_t size;
} areas[MAX_AREAS];

struct slot slots[MAX_SLOTS];
int slot_count;

/* The area begins at a boundary of 2 MiB, whatever its pages are. */
void add_area(unsigned number, size_t size, size_t page_size, const char *kind)
{
    int shared = !strcmp(kind, "shared"), thp = !strcmp(kind, "thp");
    int flags = MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE);
    if (number >= MAX_AREAS) {
        errno = ENOSPC;
        fail("area %u of %d", number, MAX_AREAS);
    }
    struct area *area = &areas[number];
    if (page_size > PAGE)
        flags |= MAP_HUGETLB;
    else
        flags |= MAP_NORESERVE;
    area->size = page_size > PAGE ? size : size + HUGE_PAGE;
    area->mapped = mmap(NULL, area->size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (area->mapped == MAP_FAILED)
        fail("mmap of %zu bytes by pages of %zu", area->size, page_size);
    area->memory = (void *)(((uintptr_t)area->mapped + HUGE_PAGE - 1) & -HUGE_PAGE);
    if (page_size == PAGE)
        madvise(area->memory, size, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void add_slot(int id, uint64_t gpa, uint64_t size, unsigned flags, unsigned area, size_t offset)
{
    if (slot_count == MAX_SLOTS || area >= MAX_AREAS) {
        errno = ENOSPC;
        fail("more than %d slots or %d areas", MAX_SLOTS, MAX_AREAS);
    }
    struct slot *slot = &slots[slot_count++];
    slot->region = (struct kvm_userspace_memory_region){
        .slot = id,
        .flags = flags,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (uint64_t)areas[area].memory + offset,
    };
    slot->is_ram = area == 0;
    IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &slot->region);
}

static char *memory_at(uint64_t gpa)
{
    for (int i = 0; i < slot_count; i++) {
        struct kvm_userspace_memory_region *region = &slots[i].region;
        if (gpa - region->guest_phys_addr < region->memory_size)
            return (char *)region->userspace_addr + (gpa - region->guest_phys_addr);
    }
    errno = EFAULT;
    fail("no slot at 0x%lx", gpa);
}

/* Slots that follow one another in one area are one memory to this. */
void load(uint64_t gpa, const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status))
        fail("cannot open %s", path);
    char *to = memory_at(gpa);
    for (off_t done = 0; done < status.st_size;) {
        ssize_t got = read(fd, to + done, status.st_size - done);
        if (got <= 0)
            fail("cannot read %s", path);
        done += got;
    }
    close(fd);
}

void remove_memory(void)
{
    for (int i = 0; i < MAX_AREAS; i++)
        if (areas[i].mapped)
            munmap(areas[i].mapped, areas[i].size);
    memset(areas, 0, sizeof areas);
    slot_count = 0;
}
