/*
 * What every guest can use. Include it from C; the constants also serve .S files.
 *
 * A guest defines `main`, which gets x0 to x3 of reset as arguments and may ignore them. It runs
 * at EL1 with the MMU off, all interrupts masked and a 16 KiB stack, prints through `print`, and
 * ends with `pass` or `fail`; returning 0 from main is a pass too.
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

/* The machine, as a guest sees it: intermediate physical addresses. */
#ifndef UART
#define UART 0x09000000 /* PL011: a character written to offset 0 is printed */
#endif
#ifndef TEST_DEVICE
#define TEST_DEVICE 0x0b000000 /* offset 0: a write sets the exit code of the guest */
#endif
#define SCRATCH (TEST_DEVICE + 0x100) /* 256 bytes of device that read back what was written */
#ifndef HOLE
#define HOLE 0x0b200000 /* no memory and no device for at least 2 MiB */
#endif
#define RAM 0x40000000       /* 64 MiB unless the run says otherwise */
#define UNTOUCHED 0x41000000 /* 16 MiB of RAM used by no image, firmware or device tree */

/* The exception frame's size, for vectors.S. */
#define FRAME_SIZE 304

#ifndef __ASSEMBLER__

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SIZE 4096ul
#define BLOCK_SIZE (2ul << 20)

/* ---- console.c: the PL011. Formats: %s %c %d %u %x (hex with 0x) %%; numbers have 64 bits. */
void putc(char c);                     /* one character */
void puts(const char *text);           /* a text, without adding a line end */
void print_hex(uint64_t value);        /* 0x and the digits, no leading zeros */
void print_dec(int64_t value);         /* decimal, with a sign if negative */
void print(const char *format, ...);   /* formatted; cast smaller arguments to 64 bits */

/* ---- power.c: how a guest ends. */
_Noreturn void pass(void);             /* print PASS, exit code 0, power off */
_Noreturn void fail(const char *why);  /* print FAIL: why, exit code 1, power off */
_Noreturn void quit(unsigned code);    /* power off with this exit code, printing nothing */
void check(bool ok, const char *why);  /* fail(why) unless ok */
void check_equal(const char *what, uint64_t got, uint64_t expected); /* fail with both values */
uint64_t hvc(uint64_t function, uint64_t x1, uint64_t x2, uint64_t x3); /* an SMCCC call */

/* ---- exceptions.c and vectors.S: exceptions taken to EL1. */
struct frame {
    uint64_t x[31];  /* x0 to x30 as they were; changes are restored */
    uint64_t sp_el0; /* the stack of EL0 */
    uint64_t elr;    /* where to continue */
    uint64_t spsr;   /* with which PSTATE */
    uint64_t esr;    /* why */
    uint64_t far;    /* which address, for aborts */
    uint64_t vector; /* 0 to 15: offset from VBAR_EL1 divided by 0x80 */
    uint64_t pad;    /* keeps the stack 16-byte aligned */
};
_Static_assert(sizeof(struct frame) == FRAME_SIZE, "vectors.S saves exactly this frame");

enum kind { SYNC, IRQ, FIQ, SERROR };
typedef bool handler(struct frame *); /* true: handled, continue at frame->elr */
void on_exception(enum kind kind, handler *); /* install a handler; without one the guest fails */

/* The exceptions seen by record_and_skip; the last one in detail. */
extern struct caught {
    uint64_t count, esr, elr, far;
} caught;
handler record_and_skip; /* note it in `caught`, continue behind it; after a fetch, at x30 */

static inline unsigned exception_class(uint64_t esr) { return (esr >> 26) & 0x3f; }
static inline unsigned fault_status(uint64_t esr) { return esr & 0x3f; }

enum {
    EC_UNKNOWN = 0x00, EC_SVC64 = 0x15, EC_IABT_LOW = 0x20, EC_IABT_CUR = 0x21,
    EC_DABT_LOW = 0x24, EC_DABT_CUR = 0x25, EC_BRK64 = 0x3c,
    FSC_TRANSLATION = 0x04, FSC_PERMISSION = 0x0c, /* plus the level */
    FSC_EXTERNAL = 0x10, FSC_EXTERNAL_WALK = 0x14, /* the latter plus the level */
};

/* ---- el0.S: user mode. */
uint64_t enter_el0(uint64_t entry, uint64_t stack, uint64_t x0); /* until leave_el0 is called */
void leave_el0(struct frame *frame, uint64_t result); /* from a handler: enter_el0 returns this */

/* ---- mmu.c: stage 1, 4 KiB granule, 39-bit addresses; a root table is a level 1 table. */
#define ATTR_DEVICE 0x0ul /* MAIR index 0: Device-nGnRnE */
#define ATTR_NORMAL 0x4ul /* MAIR index 1: Normal, write-back */
#define DESC_BLOCK 0x1ul
#define DESC_TABLE 0x3ul
#define DESC_PAGE 0x3ul
#define DESC_AP_EL0 (1ul << 6)
#define DESC_AP_RO (1ul << 7)
#define DESC_SH_INNER (3ul << 8)
#define DESC_AF (1ul << 10)
#define DESC_PXN (1ul << 53)
#define DESC_UXN (1ul << 54)
#define MAP_ALL (ATTR_NORMAL | DESC_SH_INNER | DESC_AF | DESC_UXN) /* EL1 reads, writes, executes */
#define MAP_DATA (MAP_ALL | DESC_PXN)                              /* EL1 reads, writes */
#define MAP_CODE (MAP_ALL | DESC_AP_RO)                            /* EL1 reads, executes */
#define MAP_DEVICE (ATTR_DEVICE | DESC_AF | DESC_PXN | DESC_UXN)   /* EL1 reads, writes */
#define MAP_USER_DATA (MAP_DATA | DESC_AP_EL0)                     /* EL0 reads, writes */
#define MAP_USER_CODE ((MAP_CODE | DESC_AP_EL0 | DESC_PXN) & ~DESC_UXN) /* EL0 reads, executes */

uint64_t *mmu_tables(void *pool); /* new tables that grow page by page from pool: identity map of
                                     the first GiB as device, of the second as MAP_ALL */
void mmu_map(uint64_t *root, uint64_t va, uint64_t pa, uint64_t size, uint64_t attributes);
uint64_t *mmu_descriptor(uint64_t *root, uint64_t va); /* the page descriptor of va, to change */
void mmu_on(uint64_t *root);      /* stage 1 and caches on */
void mmu_off(void);               /* stage 1 and data cache off */
void mmu_flush(void);             /* forget all cached stage-1 translations */

/* ---- cache.c */
void sync_instructions(const void *code, size_t size); /* make new code visible to fetches */

/* ---- gic.c: the interrupt controller, whichever there is. */
enum { VIRTUAL_TIMER = 27, PHYSICAL_TIMER = 30, UART_INTERRUPT = 33 };
typedef void interrupt_handler(unsigned intid); /* it has to quiet the device */
void gic_init(void);                       /* the distributor, and this CPU's interface */
void gic_init_cpu(void);                   /* the interface of another CPU, which calls it */
void gic_enable(unsigned intid);           /* let an interrupt come to this CPU */
void gic_disable(unsigned intid);
void gic_send(unsigned cpu, unsigned intid); /* an SGI, 0 to 15 */
void on_interrupt(interrupt_handler *);    /* who gets interrupts, of all CPUs, once they are taken */

static inline void irq_on(void) { __asm__ volatile("msr daifclr, #2" ::: "memory"); }
static inline void irq_off(void) { __asm__ volatile("msr daifset, #2" ::: "memory"); }

/* ---- smp.c and secondary.S: more CPUs, up to 8. */
int64_t cpu_on(unsigned cpu, void (*entry)(unsigned cpu)); /* PSCI's answer. It starts with the MMU
                                     as it is here and interrupts masked; if entry returns, it
                                     turns itself off */
_Noreturn void cpu_off(void);
int64_t cpu_state(unsigned cpu);           /* PSCI AFFINITY_INFO: 0 on, 1 off, negative: no CPU */
unsigned cpu_count(void);                  /* how many there are */
void spin_lock(uint32_t *lock);            /* locks and what follows need the MMU on */
void spin_unlock(uint32_t *lock);
void publish(uint64_t *where, uint64_t value);     /* store with release, wake who waits in WFE */
void await(const uint64_t *where, uint64_t value); /* wait in WFE until it is published */

struct start { /* what a CPU that starts has to know */
    uint64_t stack;
    uint64_t *root;
    void (*entry)(unsigned cpu);
};

/* ---- memory.c */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);

extern uint64_t device_tree; /* start.S: x0 at reset */

/* ---- Accesses that are exactly one load or store without writeback, so that an abort has a
 * valid instruction syndrome (ISV=1). A plain volatile access gives the compiler the choice. */
#define FIRMWARE_ACCESS(bits, type, suffix, reg)                                             \
    static inline type read##bits(uint64_t address) {                                        \
        type value;                                                                          \
        __asm__ volatile("ldr" suffix " %" reg "0, [%1]"                                     \
                         : "=r"(value) : "r"(address) : "memory");                           \
        return value;                                                                        \
    }                                                                                        \
    static inline void write##bits(uint64_t address, type value) {                           \
        __asm__ volatile("str" suffix " %" reg "0, [%1]"                                     \
                         ::"r"(value), "r"(address) : "memory");                             \
    }
FIRMWARE_ACCESS(8, uint8_t, "b", "w")
FIRMWARE_ACCESS(16, uint16_t, "h", "w")
FIRMWARE_ACCESS(32, uint32_t, "", "w")
FIRMWARE_ACCESS(64, uint64_t, "", "x")

/* ---- System registers by name, barriers, time. */
#define read_sysreg(name)                                                 \
    ({                                                                    \
        uint64_t value_;                                                  \
        __asm__ volatile("mrs %0, " #name : "=r"(value_) : : "memory");   \
        value_;                                                           \
    })
#define write_sysreg(name, value) \
    __asm__ volatile("msr " #name ", %0" : : "r"((uint64_t)(value)) : "memory")

static inline void isb(void) { __asm__ volatile("isb" ::: "memory"); }
static inline void dsb(void) { __asm__ volatile("dsb sy" ::: "memory"); }
static inline void wfi(void) { __asm__ volatile("wfi" ::: "memory"); }

static inline unsigned cpu_number(void) { return read_sysreg(mpidr_el1) & 0xf; }

static inline uint64_t counter(void) { /* CNTVCT_EL0; the ISB keeps it from being read early */
    isb();
    return read_sysreg(cntvct_el0);
}
static inline uint64_t counter_frequency(void) { return read_sysreg(cntfrq_el0); }

#endif /* __ASSEMBLER__ */
#endif
