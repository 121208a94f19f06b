/* SPDX-License-Identifier: MIT */
/*
 * The guest: a freestanding program (multiboot, QEMU's -kernel) that writes to a virtio-blk disk for ever, numbers
 * every sector it writes, and sleeps in HLT while it waits. It tells what it did in the status block (guest.h), which
 * the host reads from the VM's memory file. Needs no libc, and no 32-bit libraries to build:
 *
 *   cc -std=gnu11 -m32 -march=i686 -O2 -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables \
 *      -mgeneral-regs-only -Wno-interrupt-service-routine -nostdlib -static \
 *      -Wl,-N,-Ttext=0x100000,--defsym=st=0x600,--build-id=none,-z,noexecstack,--no-warn-rwx-segments \
 *      -o guest.elf guest.c
 *
 * Arguments, name=value separated by spaces (writer.h explains them; writer.c renders them):
 *   sectors window start random seed depth pace on_ms off_ms count id
 *
 * Time comes from the ACPI timer of QEMU's q35: it is exact to a microsecond, goes on when timer interrupts are late,
 * stands while the VM is stopped and continues on the target after a migration. The interval timer only wakes us up:
 * twice per paced write (50 to 250 times a second), 20 times a second without a pace. More would only cost CPU.
 */
#include "guest.h"

#define PM_TIMER_BITS 0xffffffu

__asm__(".section .text\n.balign 4\n.long 0x1BADB002, 0, -0x1BADB002\n"
        ".globl _start\n_start: mov $0x90000,%esp\npush %ebx\ncall guest_main\n");

static inline void outb(uint32_t port, uint32_t value)
{
    __asm__ volatile("outb %b0,%w1" ::"a"(value), "Nd"(port));
}

static inline void outw(uint32_t port, uint32_t value)
{
    __asm__ volatile("outw %w0,%w1" ::"a"(value), "Nd"(port));
}

static inline void outl(uint32_t port, uint32_t value)
{
    __asm__ volatile("outl %0,%w1" ::"a"(value), "Nd"(port));
}

static inline uint32_t inb(uint32_t port)
{
    uint8_t value;

    __asm__ volatile("inb %w1,%0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t inl(uint32_t port)
{
    uint32_t value;

    __asm__ volatile("inl %w1,%0" : "=a"(value) : "Nd"(port));
    return value;
}

/* The linker places it (--defsym=st=0x600): a constant pointer that low makes compilers think of NULL. */
extern volatile struct guest_status st;

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

/* Legacy virtqueue of 256 entries: the used ring starts on the page after the available ring. */
static struct {
    struct descriptor descriptor[256];
    uint16_t available_flags, available_index, available[256];
    struct {
        volatile uint16_t flags, index;
        struct {
            volatile uint32_t id, length;
        } entry[256];
    } used __attribute__((aligned(4096)));
} queue __attribute__((aligned(4096)));

static struct {
    uint32_t type, priority;
    uint64_t sector;
} request[GUEST_MAX_DEPTH];
static volatile uint8_t result[GUEST_MAX_DEPTH];

/* One per write in flight; its number is in st.in_flight[]. */
static struct {
    uint32_t slot, born_ms;
} flight[GUEST_MAX_DEPTH];

static uint32_t sectors, start, depth, pace, on_ms, off_ms, limit, id;
static struct guest_generator generator;
static volatile uint32_t ticks;
static uint32_t disk, timer, timer_last, timer_rest, now_ms;

struct frame {
    uint32_t ip, cs, flags;
};

__attribute__((interrupt)) static void on_timer(struct frame *frame)
{
    (void)frame;
    ticks++;
    outb(0x20, 0x20);
}

__attribute__((interrupt)) static void on_disk(struct frame *frame)
{
    (void)frame;
    inb(disk + 19); /* reading the status lowers the line */
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

static uint32_t pci(uint32_t function, uint32_t reg)
{
    outl(0xcf8, 0x80000000u | function << 8 | reg);
    return inl(0xcfc);
}

static uint32_t argument(const char *line, const char *name, uint32_t otherwise)
{
    for (const char *word = line; *word; word++) {
        uint32_t i = 0, value = 0;

        if (word != line && word[-1] != ' ')
            continue;
        while (name[i] && word[i] == name[i])
            i++;
        if (name[i] || word[i] != '=')
            continue;
        for (i++; word[i] >= '0' && word[i] <= '9'; i++)
            value = value * 10 + (uint32_t)(word[i] - '0');
        return value;
    }
    return otherwise;
}

/* 1 ms is 39375 / 11 cycles of the ACPI timer. It wraps after 4.6 s; we look at least 20 times a second. */
static void read_clock(void)
{
    uint32_t value = inl(timer) & PM_TIMER_BITS;

    timer_rest += ((value - timer_last) & PM_TIMER_BITS) * 11;
    timer_last = value;
    now_ms += timer_rest / 39375;
    timer_rest %= 39375;
    st.uptime_ms = now_ms;
}

static void read_arguments(const char *line)
{
    sectors = argument(line, "sectors", 8);
    start = argument(line, "start", 2048);
    depth = argument(line, "depth", 1);
    pace = argument(line, "pace", 0);
    on_ms = argument(line, "on_ms", 0);
    off_ms = argument(line, "off_ms", 0);
    limit = argument(line, "count", 0);
    id = argument(line, "id", 0);
    generator.window = argument(line, "window", 1024);
    generator.random = argument(line, "random", 0);
    generator.state = argument(line, "seed", 1);
}

static uint32_t wake_hz(void)
{
    if (!pace && !off_ms)
        return 20;
    return pace > 125 ? 250 : pace < 25 ? 50 : pace * 2;
}

static void start_interrupts(uint32_t line, uint32_t hz)
{
    static uint64_t gdt[3] = { 0, 0x00cf9a000000ffffull, 0x00cf92000000ffffull };
    static struct {
        uint16_t low, selector, flags, high;
    } idt[48];
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } gdtr = { sizeof gdt - 1, (uint32_t)gdt }, idtr = { sizeof idt - 1, (uint32_t)idt };
    uint32_t mask = ~(1u << line | 1u | 4u), divisor = 1193182 / hz;

    __asm__ volatile(
        "lgdt %0\nljmp $8,$1f\n1: mov $16,%%eax\nmov %%eax,%%ds\nmov %%eax,%%es\nmov %%eax,%%ss" ::"m"(gdtr)
        : "eax", "memory");
    for (uint32_t vector = 0x20; vector < 0x30; vector++) {
        uint32_t handler = vector == 0x20 ? (uint32_t)on_timer : (uint32_t)on_disk;

        idt[vector].low = (uint16_t)handler;
        idt[vector].high = (uint16_t)(handler >> 16);
        idt[vector].selector = 8;
        idt[vector].flags = 0x8e00;
    }
    __asm__ volatile("lidt %0" ::"m"(idtr) : "memory");
    outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, 1);
    outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, 1);
    outb(0x21, mask & 0xff), outb(0xa1, mask >> 8 & 0xff);
    outb(0x43, 0x34), outb(0x40, divisor & 0xff), outb(0x40, divisor >> 8);
}

static void start_disk(void)
{
    outb(disk + 18, 0), outb(disk + 18, 1), outb(disk + 18, 3);
    outl(disk + 4, 0); /* no features */
    outw(disk + 14, 0);
    outl(disk + 8, (uint32_t)&queue / 4096);
    outb(disk + 18, 7);
}

static uint32_t *buffer(uint32_t k, uint32_t sector)
{
    return (uint32_t *)(GUEST_BUFFERS + (k * sectors + sector) * 512);
}

/* What never changes in a buffer is written once; only the buffers used are touched, as each page has to be migrated.
 */
static void fill_buffers(void)
{
    for (uint32_t k = 0; k < depth; k++)
        for (uint32_t i = 0; i < sectors; i++) {
            uint32_t *word = buffer(k, i);

            for (uint32_t w = 0; w < 128; w++)
                word[w] = GUEST_PAYLOAD * 0x01010101u;
            word[0] = GUEST_SECTOR_MAGIC;
            word[3] = i;
            word[5] = id;
        }
}

static void submit(uint32_t k)
{
    struct descriptor *d = &queue.descriptor[k * 3];

    result[k] = 0xff;
    request[k].type = 1; /* VIRTIO_BLK_T_OUT */
    request[k].sector = start + (uint64_t)flight[k].slot * sectors;
    d[0] = (struct descriptor){ (uint32_t)&request[k], 16, 1, (uint16_t)(k * 3 + 1) };
    d[1] = (struct descriptor){ (uint32_t)buffer(k, 0), sectors * 512, 1, (uint16_t)(k * 3 + 2) };
    d[2] = (struct descriptor){ (uint32_t)&result[k], 1, 2, 0 };
    queue.available[queue.available_index % 256] = (uint16_t)(k * 3);
    __asm__ volatile("" ::: "memory");
    queue.available_index++;
    __asm__ volatile("lock; addl $0,(%%esp)" ::: "memory");
    outw(disk + 16, 0);
}

/* Credit is counted in thousandths of a write; at most 100 ms of it is saved up. */
static uint32_t may_write(void)
{
    static uint32_t since_ms;
    static uint64_t credit = 1000; /* the first write goes at once */
    uint64_t most = pace * 100ull > 1000 ? pace * 100ull : 1000;

    if (off_ms && now_ms % (on_ms + off_ms) >= on_ms) {
        since_ms = now_ms, credit = 0;
        return 0;
    }
    if (!pace)
        return 1;
    credit += (uint64_t)(now_ms - since_ms) * pace;
    since_ms = now_ms;
    if (credit > most)
        credit = most;
    if (credit < 1000)
        return 0;
    credit -= 1000;
    return 1;
}

/* Two writes to one slot are never in flight together: the versions of a slot have one order. */
static uint32_t slot_is_busy(uint32_t slot)
{
    for (uint32_t k = 0; k < depth; k++)
        if (st.in_flight[k] && flight[k].slot == slot)
            return 1;
    return 0;
}

/* Starts one more write; 0 when none can be started now. */
static uint32_t issue(void)
{
    static uint32_t slot, drawn;
    uint32_t k = 0, n = st.issued + 1;

    while (k < depth && st.in_flight[k])
        k++;
    if (k == depth || (limit && n > limit))
        return 0;
    if (!drawn)
        slot = guest_next_slot(&generator), drawn = 1;
    if (slot_is_busy(slot) || !may_write())
        return 0;
    drawn = 0;
    for (uint32_t i = 0; i < sectors; i++) {
        uint32_t *word = buffer(k, i);

        word[1] = n;
        word[2] = start + slot * sectors + i;
        word[4] = ~n;
    }
    flight[k].slot = slot;
    flight[k].born_ms = now_ms;
    st.in_flight[k] = n;
    st.issued = n;
    submit(k);
    return 1;
}

static void acknowledge(uint32_t k)
{
    uint32_t took = now_ms - flight[k].born_ms, bucket = 0, low = st.issued + 1;

    while (took >> bucket && bucket < GUEST_BUCKETS - 1)
        bucket++;
    st.latency[bucket]++;
    if (took > st.longest_ms)
        st.longest_ms = took;
    st.in_flight[k] = 0;
    for (uint32_t j = 0; j < depth; j++)
        if (st.in_flight[j] && st.in_flight[j] < low)
            low = st.in_flight[j];
    st.acked = low - 1;
    st.acknowledged++;
}

static void complete(uint32_t k)
{
    if (!result[k]) {
        acknowledge(k);
        return;
    }
    st.failed++;
    st.last_status = result[k];
    for (uint32_t t = ticks; t == ticks;) /* not at once: the disk may refuse for a long time */
        __asm__ volatile("hlt" ::: "memory");
    read_clock();
    submit(k);
}

void guest_main(const uint32_t *multiboot);
void guest_main(const uint32_t *multiboot)
{
    uint32_t function = 0, seen = 0;
    volatile uint32_t *word = (volatile uint32_t *)&st;

    for (uint32_t i = 0; i < sizeof st / 4; i++)
        word[i] = 0;
    read_arguments(multiboot[0] & 4 ? (const char *)multiboot[4] : "");
    while (function < 256 && pci(function, 0) != 0x10011af4)
        function++;
    pci(function, 4);
    outw(0xcfc, 7); /* I/O, memory, bus master */
    disk = pci(function, 0x10) & ~3u;
    timer = (pci(0xf8, 0x40) & 0xff80) + 8; /* ICH9: power management I/O base */
    timer_last = inl(timer) & PM_TIMER_BITS;
    start_interrupts(pci(function, 0x3c) & 15, wake_hz());
    start_disk();
    fill_buffers();
    st.magic = GUEST_MAGIC;
    for (;;) {
        read_clock();
        while (issue())
            ;
        /* Sleep until something happened: sti takes effect after hlt has begun, so no wake-up is missed. */
        __asm__ volatile("cli");
        if (queue.used.index == (uint16_t)seen)
            __asm__ volatile("sti; hlt" ::: "memory");
        else
            __asm__ volatile("sti" ::: "memory");
        read_clock();
        while (queue.used.index != (uint16_t)seen)
            complete(queue.used.entry[seen++ % 256].id / 3);
    }
}

/* Compilers may call these for the loops and records above. */
void *memset(void *to, int value, uint32_t n);
void *memset(void *to, int value, uint32_t n)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, uint32_t n);
void *memcpy(void *to, const void *from, uint32_t n)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n)::"memory");
    return to;
}
