/* SPDX-License-Identifier: MIT */
/* Replays the guest's generator and holds a disk image against it. The only file that knows what a good disk is. */
#include "writer.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u
#define BLOCK (1u << 20)

void writer_params_init(struct writer_params *params)
{
    *params = (struct writer_params){ .sectors = 8, .window = 1024, .start = 2048, .seed = 1, .depth = 1 };
}

struct writer_params writer_of_disk(const struct writer_params *params, uint32_t disk)
{
    struct writer_params p = *params;

    p.id = GUEST_ID(p.id, disk);
    p.seed = GUEST_SEED(p.seed, disk);
    p.more_disks = 0;
    return p;
}

int writer_params_check(const struct writer_params *p, uint64_t disk_bytes, char error[FAIL_SIZE])
{
    if (disk_bytes % SECTOR || disk_bytes / SECTOR > UINT32_MAX)
        return fail(error, "a disk is a multiple of 512 bytes and at most 2 TiB");
    if (p->sectors < 1 || p->sectors > GUEST_MAX_SECTORS)
        return fail(error, "%u sectors in a write: 1 to %u are possible", p->sectors, GUEST_MAX_SECTORS);
    if (p->depth < 1 || p->depth > GUEST_MAX_DEPTH)
        return fail(error, "queue depth %u: 1 to %d are possible", p->depth, GUEST_MAX_DEPTH);
    if (p->window < 1 || p->window > 1u << 28)
        return fail(error, "a window of %u slots: 1 to 2^28 are possible", p->window);
    if (p->pace > 100000)
        return fail(error, "%u writes a second: 100000 are possible", p->pace);
    if (p->on_ms > 3600000 || p->off_ms > 3600000 || (p->off_ms && !p->on_ms))
        return fail(error, "bursts of %u ms with pauses of %u ms: up to an hour is possible", p->on_ms, p->off_ms);
    if (p->start + (uint64_t)p->window * p->sectors > disk_bytes / SECTOR)
        return fail(error, "%u slots of %u sectors from %u on do not fit the disk", p->window, p->sectors, p->start);
    if (p->more_disks >= GUEST_MAX_DISKS)
        return fail(error, "%u disks: 1 to %d are possible", p->more_disks + 1, GUEST_MAX_DISKS);
    if (p->dirty_pages > 262144 || p->dirty_pages_per_s > 10000000)
        return fail(error, "%u pages of memory, %u a second: 262144 and 10000000 are possible", p->dirty_pages, p->dirty_pages_per_s);
    if (p->base_sectors > disk_bytes / SECTOR)
        return fail(error, "%u sectors of base data do not fit the disk", p->base_sectors);
    return 0;
}

uint32_t writer_ram_mib(const struct writer_params *params)
{
    uint32_t end = GUEST_DIRTY(params->more_disks + 1, params->depth, params->sectors) + params->dirty_pages * 4096;
    uint32_t need = ((end + (1u << 20) - 1) >> 20) + 1; /* the firmware keeps some at the top */

    return need < 16 ? 16 : need;
}

int writer_append(const struct writer_params *p, char *text, size_t size)
{
    int n =
        snprintf(text, size,
                 "sectors=%u window=%u start=%u random=%u seed=%u depth=%u pace=%u on_ms=%u off_ms=%u count=%u id=%u "
                 "disks=%u dirty=%u set=%u",
                 p->sectors, p->window, p->start, p->random ? 1u : 0u, p->seed, p->depth, p->pace, p->on_ms, p->off_ms,
                 p->count, p->id, p->more_disks + 1, p->dirty_pages_per_s, p->dirty_pages);

    return n < 0 || (size_t)n >= size ? -1 : 0;
}

/* Of the guest's time up to t, what it was on. */
static uint64_t on_time(const struct writer_params *p, uint64_t t)
{
    uint64_t period = (uint64_t)p->on_ms + p->off_ms, rest;

    if (!p->off_ms)
        return t;
    rest = t % period;
    return t / period * p->on_ms + (rest < p->on_ms ? rest : p->on_ms);
}

uint64_t writer_demand(const struct writer_params *p, uint32_t from_ms, uint32_t ms)
{
    return (on_time(p, (uint64_t)from_ms + ms) - on_time(p, from_ms)) * p->pace / 1000;
}

/* One sector of base data: a function of its place and the guest, never zero, and it does not compress. */
static void base_sector(uint32_t id, uint32_t lba, uint64_t sector[SECTOR / 8])
{
    uint64_t x = ((uint64_t)id << 32 | lba) * UINT64_C(0x9e3779b97f4a7c15) | 1;

    for (size_t i = 0; i < SECTOR / 8; i++) { /* xorshift64* */
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        sector[i] = x * UINT64_C(0x2545f4914f6cdd1d);
    }
}

static int write_all(int fd, const uint8_t *bytes, size_t size, uint64_t at)
{
    while (size) {
        ssize_t n = pwrite(fd, bytes, size, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes += n, size -= (size_t)n, at += (uint64_t)n;
    }
    return 0;
}

int writer_disk_make(int fd, const struct writer_params *p, uint64_t disk_bytes, char error[FAIL_SIZE])
{
    uint64_t *block;
    int result = 0;

    if (writer_params_check(p, disk_bytes, error))
        return -1;
    if (ftruncate(fd, (off_t)disk_bytes))
        return fail(error, "making a disk of %llu bytes: %s", (unsigned long long)disk_bytes, strerror(errno));
    block = malloc(BLOCK);
    if (!block)
        return fail(error, "out of memory");
    for (uint32_t lba = 0; lba < p->base_sectors && !result;) {
        uint32_t n = p->base_sectors - lba < BLOCK / SECTOR ? p->base_sectors - lba : BLOCK / SECTOR;

        for (uint32_t i = 0; i < n; i++)
            base_sector(p->id, lba + i, block + i * (SECTOR / 8));
        if (write_all(fd, (const uint8_t *)block, n * SECTOR, (uint64_t)lba * SECTOR))
            result = fail(error, "writing base data: %s", strerror(errno));
        lba += n;
    }
    free(block);
    return result;
}

int writer_disk_status(int memory_fd, uint32_t disk, struct guest_status *status, char error[FAIL_SIZE])
{
    struct guest_status read;
    ssize_t n = pread(memory_fd, &read, sizeof read, GUEST_STATUS_ADDRESS + disk * GUEST_STATUS_BYTES);

    if (n != (ssize_t)sizeof read)
        return fail(error, "reading guest memory: %s", n < 0 ? strerror(errno) : "the file is too short");
    if (read.magic != GUEST_MAGIC)
        return 0;
    *status = read;
    return 1;
}

int writer_status(int memory_fd, struct guest_status *status, char error[FAIL_SIZE])
{
    return writer_disk_status(memory_fd, 0, status, error);
}

struct check {
    const struct writer_params *p;
    struct writer_result *r;
    uint32_t *newest;  /* per slot: newest acknowledged write, 0: none */
    uint32_t *pending; /* per slot: the write in flight, 0: none */
    uint32_t issued;
    uint64_t slot; /* the slot being looked at, and which versions of it were seen */
    bool old_seen, new_seen;
};

static bool in_flight(const struct guest_status *status, uint32_t write)
{
    for (size_t k = 0; k < GUEST_MAX_DEPTH; k++)
        if (status->in_flight[k] == write)
            return true;
    return false;
}

static void replay(struct check *c, const struct guest_status *status)
{
    struct guest_generator g = { .window = c->p->window, .random = c->p->random, .state = c->p->seed };

    c->issued = status->issued;
    for (size_t k = 0; k < GUEST_MAX_DEPTH; k++)
        if (status->in_flight[k] > c->issued) /* stopped between the two stores, see guest.h */
            c->issued = status->in_flight[k];
    for (uint64_t n = 1; n <= c->issued; n++) {
        uint32_t slot = guest_next_slot(&g);

        if (n > status->acked && in_flight(status, (uint32_t)n))
            c->pending[slot] = (uint32_t)n;
        else
            c->newest[slot] = (uint32_t)n;
    }
    for (uint32_t s = 0; s < c->p->window; s++)
        c->r->slots += c->newest[s] != 0;
}

static void bad(struct check *c, uint64_t *counter, uint64_t lba, const char *what, uint64_t slot)
{
    ++*counter;
    if (*c->r->first_bad)
        return;
    c->r->first_bad_lba = lba;
    if (slot == UINT64_MAX)
        snprintf(c->r->first_bad, sizeof c->r->first_bad, "sector %llu, never written: %s", (unsigned long long)lba,
                 what);
    else
        snprintf(c->r->first_bad, sizeof c->r->first_bad, "sector %llu, slot %llu, acknowledged write %u: %s",
                 (unsigned long long)lba, (unsigned long long)slot, c->newest[slot], what);
}

static bool is_zero(const uint8_t *sector)
{
    return !sector[0] && !memcmp(sector, sector + 1, SECTOR - 1);
}

static bool is_base(const struct check *c, const uint8_t *sector, uint64_t lba)
{
    uint64_t base[SECTOR / 8];

    if (lba >= c->p->base_sectors)
        return is_zero(sector);
    base_sector(c->p->id, (uint32_t)lba, base);
    return !memcmp(sector, base, SECTOR);
}

static bool is_payload(const uint8_t *sector)
{
    const uint8_t *payload = sector + sizeof(struct guest_sector);

    return *payload == GUEST_PAYLOAD && !memcmp(payload, payload + 1, SECTOR - sizeof(struct guest_sector) - 1);
}

/* Which write made this sector what it is? 0: none of ours to this place. */
static uint32_t version(const struct check *c, const uint8_t *sector, uint64_t lba, uint64_t index)
{
    struct guest_sector head;

    memcpy(&head, sector, sizeof head);
    if (head.magic != GUEST_SECTOR_MAGIC || head.lba != lba || head.index != index || head.id != c->p->id ||
        head.inverse != ~head.write || !is_payload(sector))
        return 0;
    return head.write;
}

static void leave_slot(struct check *c, uint64_t next)
{
    c->r->torn += c->old_seen && c->new_seen;
    c->old_seen = c->new_seen = false;
    c->slot = next;
}

static void check_written(struct check *c, const uint8_t *sector, uint64_t lba, uint64_t slot)
{
    uint32_t acked = c->newest[slot], pending = c->pending[slot];
    uint32_t found = version(c, sector, lba, (lba - c->p->start) % c->p->sectors);

    if (slot != c->slot)
        leave_slot(c, slot);
    if (found && found == pending)
        c->new_seen = true;
    else if (acked ? found == acked : is_base(c, sector, lba))
        c->old_seen = true;
    else if (found && found < acked)
        bad(c, &c->r->lost, lba, "an older write is there", slot);
    else if (found)
        bad(c, &c->r->foreign, lba, "a write that was not made there", slot);
    else if (is_zero(sector))
        bad(c, acked ? &c->r->lost : &c->r->base, lba, "zeros", slot);
    else if (acked && is_base(c, sector, lba))
        bad(c, &c->r->lost, lba, "still the data of before", slot);
    else
        bad(c, &c->r->foreign, lba, "data that does not belong there", slot);
}

static void check_sector(struct check *c, const uint8_t *sector, uint64_t lba)
{
    const struct writer_params *p = c->p;
    uint64_t slot = lba < p->start ? UINT64_MAX : (lba - p->start) / p->sectors;

    c->r->sectors++;
    if (slot < p->window && (c->newest[slot] || c->pending[slot]))
        check_written(c, sector, lba, slot);
    else if (is_base(c, sector, lba))
        return;
    else if (is_zero(sector))
        bad(c, &c->r->base, lba, "zeros instead of base data", UINT64_MAX);
    else
        bad(c, &c->r->foreign, lba, "data that does not belong there", UINT64_MAX);
}

static ssize_t read_all(int fd, uint8_t *bytes, size_t size, uint64_t at)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(fd, bytes + done, size - done, (off_t)(at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (!n)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* Where the next data is; `size` when there is none, `at` when the file system cannot tell. */
static uint64_t next_data(int fd, uint64_t at, uint64_t size)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? size : at;
    return (uint64_t)data;
}

static int check_image(struct check *c, int fd, uint64_t size, uint8_t *block, char error[FAIL_SIZE])
{
    const struct writer_params *p = c->p;
    uint64_t wanted = p->start + (uint64_t)p->window * p->sectors, data = 0;

    if (wanted < p->base_sectors)
        wanted = p->base_sectors;
    for (uint64_t at = 0; at < size; at += BLOCK) {
        size_t n = size - at < BLOCK ? (size_t)(size - at) : BLOCK;

        if (data < at + n)
            data = next_data(fd, at, size);
        if (data >= at + n && at / SECTOR >= wanted)
            continue; /* a hole, and it has to be one */
        if (data >= at + n)
            memset(block, 0, n);
        else if (read_all(fd, block, n, at) != (ssize_t)n)
            return fail(error, "reading the image at %llu: %s", (unsigned long long)at, strerror(errno));
        for (size_t i = 0; i < n / SECTOR; i++)
            check_sector(c, block + i * SECTOR, at / SECTOR + i);
    }
    leave_slot(c, UINT64_MAX);
    return 0;
}

int writer_check(int fd, const struct writer_params *params, const struct guest_status *status,
                 struct writer_result *result, char error[FAIL_SIZE])
{
    struct check c = { .p = params, .r = result, .slot = UINT64_MAX };
    uint8_t *block;
    struct stat s;
    int failed;

    *result = (struct writer_result){ 0 };
    if (fstat(fd, &s))
        return fail(error, "fstat of the image: %s", strerror(errno));
    if (writer_params_check(params, (uint64_t)s.st_size, error))
        return -1;
    if (status->acked > status->issued)
        return fail(error, "a guest with %u writes acknowledged of %u issued", status->acked, status->issued);
    c.newest = calloc(params->window, sizeof *c.newest);
    c.pending = calloc(params->window, sizeof *c.pending);
    block = malloc(BLOCK);
    if (c.newest && c.pending && block) {
        replay(&c, status);
        failed = check_image(&c, fd, (uint64_t)s.st_size, block, error);
    } else {
        failed = fail(error, "out of memory for a window of %u slots", params->window);
    }
    free(c.newest);
    free(c.pending);
    free(block);
    return failed;
}
