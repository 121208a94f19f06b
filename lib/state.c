/* SPDX-License-Identifier: MIT */
/* state: the most that a memory dump can weigh, from the figures of its guest. Pure: asks nobody. */
#include "migbuf/state.h"
#include "memory.h"

#define FIRST MIGBUF__FIRST(struct migbuf_state, page_bytes)
#define PAGE_HEADER 8
#define PER_CPU (UINT64_C(64) << 10)
#define ALL_DEVICES (UINT64_C(2) << 20)

static const struct migbuf_state defaults = { .device_ram_bytes = MIGBUF_STATE_DEVICE_RAM, .cpus = 1, .page_bytes = 4096 };

int migbuf_state_init(struct migbuf_state *s, uint64_t size)
{
    return migbuf__struct_init(s, size, &defaults, sizeof defaults, FIRST);
}

static int check(const struct migbuf_state *s)
{
    if (!s->page_bytes || s->page_bytes & (s->page_bytes - 1))
        return MIGBUF_E_INVALID;
    if (!s->memory_bytes || s->memory_bytes > UINT64_C(1) << 50 || s->device_ram_bytes > UINT64_C(1) << 40 ||
        s->resent_bytes > UINT64_C(1) << 50 || !s->cpus || s->cpus > 4096 || s->page_bytes < 512 || s->page_bytes > 65536)
        return MIGBUF_E_RANGE;
    return 0;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

int migbuf_state_bound(const struct migbuf_state *given, uint64_t *raw_bytes, uint64_t *gzip_bytes)
{
    struct migbuf_state s = defaults;
    uint64_t ram, raw;
    int rc;

    if (!given)
        return MIGBUF_E_INVALID;
    rc = migbuf__struct_take(&s, sizeof s, given, FIRST);
    if (!rc)
        rc = check(&s);
    if (rc)
        return rc;
    ram = s.memory_bytes + s.device_ram_bytes + s.resent_bytes;
    raw = divide_up(ram, s.page_bytes) * (s.page_bytes + PAGE_HEADER) + s.cpus * PER_CPU + ALL_DEVICES +
          divide_up(ram, 4096);
    if (raw_bytes)
        *raw_bytes = raw;
    if (gzip_bytes)
        *gzip_bytes = raw + divide_up(raw, 4096) + divide_up(raw, 16384) + divide_up(raw, UINT64_C(1) << 25) + 64;
    return 0;
}
