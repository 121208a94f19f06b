/* SPDX-License-Identifier: MIT */
/*
 * The guest: a freestanding program (multiboot, QEMU's -kernel) that writes to its virtio-blk or virtio-scsi disks for
 * ever, numbers every sector it writes, and sleeps in HLT while it waits. It tells what it did in the status blocks
 * (guest.h), one a disk, which the host reads from the VM's memory file. Needs no libc, and no 32-bit libraries to
 * build:
 *
 *   cc -std=gnu11 -m32 -march=i686 -O2 -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables \
 *      -mgeneral-regs-only -Wno-interrupt-service-routine -nostdlib -static \
 *      -Wl,-N,-Ttext=0x100000,--defsym=st=0x600,--build-id=none,-z,noexecstack,--no-warn-rwx-segments \
 *      -o guest.elf guest.c
 *
 * Arguments, name=value separated by spaces (writer.h explains them; writer.c renders them):
 *   sectors window start random seed depth pace on_ms off_ms count id disks dirty set
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

/* The linker places them (--defsym=st=0x600): a constant pointer that low makes compilers think of NULL. */
extern union {
    volatile struct guest_status status;
    uint8_t bytes[GUEST_STATUS_BYTES];
} st[GUEST_MAX_DISKS];

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

/* A virtio device and its queue of requests: of one disk with virtio-blk, of all with virtio-scsi. */
struct port {
    /* Legacy virtqueue of 256 entries: the used ring starts on the page after the available ring. */
    struct {
        struct descriptor descriptor[256];
        uint16_t available_flags, available_index, available[256];
        struct {
            volatile uint16_t flags, index;
            struct {
                volatile uint32_t id, length;
            } entry[256];
        } used __attribute__((aligned(4096)));
    } queue __attribute__((aligned(4096)));
    uint32_t io, queue_index, irq, unheard;
    uint16_t seen;
};
static struct port port[GUEST_MAX_DISKS];
static uint32_t ports;

union request {
    struct {
        uint32_t type, priority;
        uint64_t sector;
    } blk;
    struct __attribute__((packed)) {
        uint8_t lun[8];
        uint64_t tag;
        uint8_t task_attribute, priority, crn, cdb[32];
    } scsi;
};

union result {
    uint8_t blk;
    struct {
        uint32_t sense_bytes, residual;
        uint16_t qualifier;
        uint8_t status, response, sense[96];
    } scsi;
};

struct disk {
    struct port *port;
    uint32_t first; /* of its descriptors in the port's queue */
    volatile struct guest_status *st;
    struct guest_generator generator;
    uint32_t id, buffers, slot, drawn, since_ms;
    uint64_t credit;
    union request request[GUEST_MAX_DEPTH];
    volatile union result result[GUEST_MAX_DEPTH];
    struct { /* one per write in flight; its number is in st->in_flight[] */
        uint32_t slot, born_ms;
    } flight[GUEST_MAX_DEPTH];
};
static struct disk disk[GUEST_MAX_DISKS];

static uint32_t sectors, start, depth, pace, on_ms, off_ms, limit, disks, scsi;
static uint32_t dirty_rate, dirty_pages, dirty_first, dirty_next, dirty_since_ms, dirty_count; /* memory: pages, one after the other */
static uint64_t dirty_credit;
static volatile uint32_t ticks;
static uint32_t timer, timer_last, timer_rest, now_ms;

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
    for (uint32_t k = 0; k < ports; k++)
        inb(port[k].io + 19); /* reading the status lowers the line */
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
    for (uint32_t k = 0; k < disks; k++)
        st[k].status.uptime_ms = now_ms;
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
    disks = argument(line, "disks", 1);
    dirty_rate = argument(line, "dirty", 0);
    dirty_pages = argument(line, "set", 0);
    dirty_first = GUEST_DIRTY(disks, depth, sectors);
    for (uint32_t k = 0; k < disks; k++) {
        disk[k].id = GUEST_ID(argument(line, "id", 0), k);
        disk[k].st = &st[k].status;
        disk[k].buffers = GUEST_BUFFERS + k * depth * sectors * 512;
        disk[k].credit = 1000; /* the first write goes at once */
        disk[k].generator.window = argument(line, "window", 1024);
        disk[k].generator.random = argument(line, "random", 0);
        disk[k].generator.state = GUEST_SEED(argument(line, "seed", 1), k);
    }
}

static uint32_t wake_hz(void)
{
    if (dirty_rate)
        return 250;
    if (!pace && !off_ms)
        return 20;
    return pace > 125 ? 250 : pace < 25 ? 50 : pace * 2;
}

static void start_interrupts(uint32_t hz)
{
    static uint64_t gdt[3] = { 0, 0x00cf9a000000ffffull, 0x00cf92000000ffffull };
    static struct {
        uint16_t low, selector, flags, high;
    } idt[48];
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } gdtr = { sizeof gdt - 1, (uint32_t)gdt }, idtr = { sizeof idt - 1, (uint32_t)idt };
    uint32_t mask = ~(1u | 4u), divisor = 1193182 / hz;

    for (uint32_t k = 0; k < ports; k++)
        mask &= ~(1u << port[k].irq);
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

/* virtio-blk: disk k is the k-th device. virtio-scsi: one device, disk k is its unit k + 1, and queue 2 takes requests.
 */
static void find_ports(void)
{
    for (uint32_t function = 0; function < 256 && (scsi ? !ports : ports < disks); function++) {
        uint32_t kind = pci(function, 0);

        if (kind != 0x10011af4 && kind != 0x10041af4)
            continue;
        scsi = kind == 0x10041af4;
        pci(function, 4);
        outw(0xcfc, 7); /* I/O, memory, bus master */
        port[ports].io = pci(function, 0x10) & ~3u;
        port[ports].irq = pci(function, 0x3c) & 15;
        port[ports++].queue_index = scsi ? 2 : 0;
    }
    for (uint32_t k = 0; k < disks; k++) {
        disk[k].port = &port[scsi ? 0 : k];
        disk[k].first = scsi ? k * GUEST_MAX_DEPTH * 3 : 0;
    }
}

static void start_port(const struct port *p)
{
    outb(p->io + 18, 0), outb(p->io + 18, 1), outb(p->io + 18, 3);
    outl(p->io + 4, 0); /* no features */
    outw(p->io + 14, p->queue_index);
    outl(p->io + 8, (uint32_t)&p->queue / 4096);
    outb(p->io + 18, 7);
}

static uint32_t *buffer(const struct disk *d, uint32_t k, uint32_t sector)
{
    return (uint32_t *)(d->buffers + (k * sectors + sector) * 512);
}

/* What never changes in a buffer is written once; only the buffers used are touched, as each page has to be migrated.
 */
static void fill_buffers(const struct disk *d)
{
    for (uint32_t k = 0; k < depth; k++)
        for (uint32_t i = 0; i < sectors; i++) {
            uint32_t *word = buffer(d, k, i);

            for (uint32_t w = 0; w < 128; w++)
                word[w] = GUEST_PAYLOAD * 0x01010101u;
            word[0] = GUEST_SECTOR_MAGIC;
            word[3] = i;
            word[5] = d->id;
        }
}

static uint32_t put_request(struct disk *d, uint32_t k)
{
    union request *r = &d->request[k];
    uint32_t sector = start + d->flight[k].slot * sectors;

    if (!scsi) {
        r->blk.type = 1; /* VIRTIO_BLK_T_OUT */
        r->blk.sector = sector;
        return sizeof r->blk;
    }
    r->scsi.lun[0] = 1;
    r->scsi.lun[2] = 0x40;
    r->scsi.lun[3] = (uint8_t)(d - disk + 1);
    r->scsi.tag = d->first + k;
    r->scsi.cdb[0] = 0x2a; /* WRITE(10) */
    for (uint32_t byte = 0; byte < 4; byte++)
        r->scsi.cdb[2 + byte] = (uint8_t)(sector >> (24 - 8 * byte));
    r->scsi.cdb[7] = (uint8_t)(sectors >> 8);
    r->scsi.cdb[8] = (uint8_t)sectors;
    return sizeof r->scsi;
}

static void submit(struct disk *d, uint32_t k)
{
    struct port *p = d->port;
    uint32_t first = d->first + k * 3, length = put_request(d, k);
    struct descriptor *e = &p->queue.descriptor[first];

    d->result[k].scsi.response = 0xff;
    d->result[k].blk = 0xff;
    e[0] = (struct descriptor){ (uint32_t)&d->request[k], length, 1, (uint16_t)(first + 1) };
    e[1] = (struct descriptor){ (uint32_t)buffer(d, k, 0), sectors * 512, 1, (uint16_t)(first + 2) };
    e[2] = (struct descriptor){ (uint32_t)&d->result[k], scsi ? sizeof d->result[k].scsi : 1, 2, 0 };
    p->queue.available[p->queue.available_index % 256] = (uint16_t)first;
    __asm__ volatile("" ::: "memory");
    p->queue.available_index++;
    p->unheard = 1;
}

/* Once for all that was submitted, as a real driver does it: the device then sees neighbours together and merges them. */
static void kick(struct port *p)
{
    if (!p->unheard)
        return;
    p->unheard = 0;
    __asm__ volatile("lock; addl $0,(%%esp)" ::: "memory");
    outw(p->io + 16, p->queue_index);
}

/* Credit is counted in thousandths of a write; at most 100 ms of it is saved up. */
static uint32_t may_write(struct disk *d)
{
    uint64_t most = pace * 100ull > 1000 ? pace * 100ull : 1000;

    if (off_ms && now_ms % (on_ms + off_ms) >= on_ms) {
        d->since_ms = now_ms, d->credit = 0;
        return 0;
    }
    if (!pace)
        return 1;
    d->credit += (uint64_t)(now_ms - d->since_ms) * pace;
    d->since_ms = now_ms;
    if (d->credit > most)
        d->credit = most;
    if (d->credit < 1000)
        return 0;
    d->credit -= 1000;
    return 1;
}

/* Writes a word into the next pages of its working set, as many as its rate has by now. At most 20 ms are caught up: a guest
 * whose CPU is throttled dirties less. */
static void dirty_memory(void)
{
    uint64_t most = dirty_rate * 20ull;

    dirty_credit += (uint64_t)(now_ms - dirty_since_ms) * dirty_rate;
    dirty_since_ms = now_ms;
    if (dirty_credit > most)
        dirty_credit = most;
    for (; dirty_credit >= 1000; dirty_credit -= 1000) {
        *(volatile uint32_t *)(dirty_first + dirty_next * 4096) = ++dirty_count;
        if (++dirty_next == dirty_pages)
            dirty_next = 0;
    }
}

/* TCG may lose track of a page that is written while QEMU looks which pages were: it takes the page for known to be dirty
 * from then on, until it translates its address anew. A bit of CR4 that means nothing without paging makes it do so, for the
 * pages that this program itself lives on are written all the time. What is written after QEMU's last look is still lost. */
static void forget_translations(void)
{
    uint32_t cr4;

    __asm__ volatile("mov %%cr4,%0; xor $0x80,%0; mov %0,%%cr4" : "=&r"(cr4)::"memory"); /* PGE */
}

/* Two writes to one slot are never in flight together: the versions of a slot have one order. */
static uint32_t slot_is_busy(const struct disk *d, uint32_t slot)
{
    for (uint32_t k = 0; k < depth; k++)
        if (d->st->in_flight[k] && d->flight[k].slot == slot)
            return 1;
    return 0;
}

/* Starts one more write; 0 when none can be started now. */
static uint32_t issue(struct disk *d)
{
    uint32_t k = 0, n = d->st->issued + 1;

    while (k < depth && d->st->in_flight[k])
        k++;
    if (k == depth || (limit && n > limit))
        return 0;
    if (!d->drawn)
        d->slot = guest_next_slot(&d->generator), d->drawn = 1;
    if (slot_is_busy(d, d->slot) || !may_write(d))
        return 0;
    d->drawn = 0;
    for (uint32_t i = 0; i < sectors; i++) {
        uint32_t *word = buffer(d, k, i);

        word[1] = n;
        word[2] = start + d->slot * sectors + i;
        word[4] = ~n;
    }
    d->flight[k].slot = d->slot;
    d->flight[k].born_ms = now_ms;
    d->st->in_flight[k] = n;
    d->st->issued = n;
    submit(d, k);
    return 1;
}

static void acknowledge(struct disk *d, uint32_t k)
{
    volatile struct guest_status *s = d->st;
    uint32_t took = now_ms - d->flight[k].born_ms, bucket = 0, low = s->issued + 1;

    while (took >> bucket && bucket < GUEST_BUCKETS - 1)
        bucket++;
    s->latency[bucket]++;
    if (took > s->longest_ms)
        s->longest_ms = took;
    s->in_flight[k] = 0;
    for (uint32_t j = 0; j < depth; j++)
        if (s->in_flight[j] && s->in_flight[j] < low)
            low = s->in_flight[j];
    s->acked = low - 1;
    s->acknowledged++;
}

/* 0: done. */
static uint32_t status_of(const volatile union result *r)
{
    return !scsi ? r->blk : r->scsi.response ? 0x100u + r->scsi.response : r->scsi.status;
}

/* The first answer of a SCSI disk is that it was switched on, not that something failed. */
static uint32_t was_switched_on(const volatile union result *r)
{
    return scsi && !r->scsi.response && r->scsi.status == 2 && (r->scsi.sense[2] & 15) == 6;
}

static void complete(struct disk *d, uint32_t k)
{
    uint32_t status = status_of(&d->result[k]);

    if (!status) {
        acknowledge(d, k);
        return;
    }
    if (!was_switched_on(&d->result[k])) {
        d->st->failed++;
        d->st->last_status = status;
        for (uint32_t t = ticks; t == ticks;) /* not at once: the disk may refuse for a long time */
            __asm__ volatile("hlt" ::: "memory");
        read_clock();
    }
    submit(d, k);
    kick(d->port);
}

static void take_used(struct port *p)
{
    while (p->queue.used.index != p->seen) {
        uint32_t entry = p->queue.used.entry[p->seen++ % 256].id / 3;
        struct disk *d = scsi ? &disk[entry / GUEST_MAX_DEPTH] : &disk[p - port];

        complete(d, entry % GUEST_MAX_DEPTH);
    }
}

static uint32_t anything_used(void)
{
    for (uint32_t k = 0; k < ports; k++)
        if (port[k].queue.used.index != port[k].seen)
            return 1;
    return 0;
}

static void begin(const char *line)
{
    volatile uint32_t *word = (volatile uint32_t *)st;

    for (uint32_t i = 0; i < sizeof st / 4; i++)
        word[i] = 0;
    read_arguments(line);
    find_ports();
    while (ports < (scsi ? 1 : disks)) /* no disk we know */
        __asm__ volatile("cli; hlt");
    timer = (pci(0xf8, 0x40) & 0xff80) + 8; /* ICH9: power management I/O base */
    timer_last = inl(timer) & PM_TIMER_BITS;
    start_interrupts(wake_hz());
    for (uint32_t k = 0; k < ports; k++)
        start_port(&port[k]);
    for (uint32_t k = 0; k < disks; k++)
        fill_buffers(&disk[k]);
    for (uint32_t k = 0; k < disks; k++)
        st[k].status.magic = GUEST_MAGIC;
}

void guest_main(const uint32_t *multiboot);
void guest_main(const uint32_t *multiboot)
{
    begin(multiboot[0] & 4 ? (const char *)multiboot[4] : "");
    for (;;) {
        read_clock();
        for (uint32_t k = 0; k < disks; k++)
            while (issue(&disk[k]))
                ;
        for (uint32_t k = 0; k < ports; k++)
            kick(&port[k]);
        if (dirty_pages) {
            dirty_memory();
            forget_translations();
        }
        /* Sleep until something happened: sti takes effect after hlt has begun, so no wake-up is missed. */
        __asm__ volatile("cli");
        if (!anything_used())
            __asm__ volatile("sti; hlt" ::: "memory");
        else
            __asm__ volatile("sti" ::: "memory");
        read_clock();
        for (uint32_t k = 0; k < ports; k++)
            take_used(&port[k]);
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
