/* SPDX-License-Identifier: MIT */
/* ram_guest: a freestanding multiboot program (QEMU's -kernel) that writes one word into each page of a window, round and
 * round, for ever. Argument: window=PAGES. It counts its writes at 0x600 and touches no device: what it dirties is bounded by
 * the window, and that it runs is seen by the count. */
#include <stdint.h>

#define WINDOW 0x800000u /* pages start here */
#define PAGE 4096u

__asm__(".section .text\n.balign 4\n.long 0x1BADB002, 0, -0x1BADB002\n"
        ".globl _start\n_start: mov $0x90000,%esp\npush %ebx\ncall guest_main\n");

extern volatile uint32_t st; /* 0x600, by the linker */

static uint32_t number_after(const char *text, const char *name, uint32_t otherwise)
{
    for (; *text; text++) {
        uint32_t n = 0, i = 0;

        while (name[i] && text[i] == name[i])
            i++;
        if (name[i])
            continue;
        for (text += i; *text >= '0' && *text <= '9'; text++)
            n = n * 10 + (uint32_t)(*text - '0');
        return n;
    }
    return otherwise;
}

void guest_main(const uint32_t *multiboot)
{
    uint32_t window = number_after((multiboot[0] & 4) ? (const char *)multiboot[4] : "", "window=", 1);

    for (st = 0;; )
        for (uint32_t page = 0; page < window; page++) {
            *(volatile uint32_t *)(WINDOW + page * PAGE) = ++st;
        }
}
