/*
 * Turn stage 1 on with tables that the guest itself never touched: table walks fault at stage 2.
 *
 * Watch: the tables lie in .data, filled by whoever loaded the image. The fetch behind the write
 *        to SCTLR_EL1 walks: an instruction abort with S1PTW=1, whose HPFAR is the root table
 *        and whose FAR is the PC. A load then takes three aborts at one PC: S1PTW on the level 2
 *        table, S1PTW on its level 3 table, and the plain one for the page. A store takes two:
 *        S1PTW with WnR=0, because reading a table is a read, then the page. A fetch takes two.
 *        The last load walks into a level 2 table of untouched zeros: S1PTW at stage 2 first;
 *        the repeated walk finds an invalid descriptor, a translation fault that goes to EL1.
 */
#include "firmware.h"

#define DATA UNTOUCHED
#define EMPTY_TABLE (UNTOUCHED + 0x100000)
#define TABLE(name) ((uint64_t)(name) + DESC_TABLE)
#define PAGE(address, attributes) ((address) + (attributes) + DESC_PAGE)
#define VA_LOAD 0x80000000
#define VA_STORE 0x80200000
#define VA_FETCH 0x80400000
#define VA_EMPTY 0xc0000000

__asm__(".section .text.alias, \"ax\"\n" /* runs at VA_FETCH */
        "        .balign 4096\n"
        "alias:   mov     w0, #7\n"
        "         ret\n"
        "        .balign 4096\n"
        "        .previous");
extern uint64_t alias(void);

#define IN_IMAGE __attribute__((aligned(4096), section(".data.tables")))
static uint64_t level3_load[512] IN_IMAGE = {PAGE(DATA, MAP_DATA)};
static uint64_t level3_store[512] IN_IMAGE = {PAGE(DATA + 0x10000, MAP_DATA)};
static uint64_t level3_fetch[512] IN_IMAGE = {PAGE((uint64_t)alias, MAP_CODE)};
static uint64_t level2[512] IN_IMAGE = {
    TABLE(level3_load), TABLE(level3_store), TABLE(level3_fetch)};
static uint64_t root[512] IN_IMAGE = {
    0x00000000 | MAP_DEVICE | DESC_BLOCK, /* identity: devices */
    0x40000000 | MAP_ALL | DESC_BLOCK,    /* identity: RAM */
    TABLE(level2),
    EMPTY_TABLE | DESC_TABLE,
};

int main(void) {
    mmu_on(root);
    check_equal("load", read64(VA_LOAD), 0);
    write64(VA_STORE, 1);
    check_equal("fetch", ((uint64_t(*)(void))VA_FETCH)(), 7);

    on_exception(SYNC, record_and_skip);
    read64(VA_EMPTY);
    check_equal("exceptions", caught.count, 1);
    check_equal("exception class", exception_class(caught.esr), EC_DABT_CUR);
    check_equal("fault status", fault_status(caught.esr), FSC_TRANSLATION + 2);
    check_equal("FAR", caught.far, VA_EMPTY);
    print("walked\n");
    pass();
}
