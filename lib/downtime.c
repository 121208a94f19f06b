/* SPDX-License-Identifier: MIT */
/* downtime: other projects' rules, as they are. Nothing here is ours, and nothing else uses it. */
#include "migbuf/downtime.h"
#include "number.h"
#include <string.h>

#define GIB 1073741824.0
#define MIB_PER_GIB 1024.0

/* Nova */

int migbuf_downtime_nova_gb(uint64_t ram_mib, const uint64_t *disk_bytes, size_t disks, double *gb)
{
    double sum = migbuf__most(2, (double)ram_mib / MIB_PER_GIB);

    if (!gb || (disks && !disk_bytes))
        return MIGBUF_E_INVALID;
    for (size_t k = 0; k < disks; k++)
        sum += migbuf__most(2, (double)disk_bytes[k] / GIB);
    *gb = sum;
    return 0;
}

int migbuf_downtime_nova(uint32_t max_ms, uint32_t steps, uint32_t delay_s, double gb, double elapsed_s, uint32_t *ms)
{
    double delay, base, step;
    int rc = ms ? migbuf__finite(gb) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__finite(elapsed_s);
    if (rc)
        return rc;
    if (!steps)
        return MIGBUF_E_RANGE;
    delay = floor(delay_s * gb);
    step = delay > 0 ? ceil(elapsed_s / delay) - 1 : steps; /* the last one whose time is before elapsed */
    step = migbuf__least(step, steps);
    base = (double)max_ms / steps;
    *ms = elapsed_s > 0 ? (uint32_t)(base + (max_ms - base) / steps * step) : 0;
    return 0;
}

int migbuf_downtime_nova_timeout(uint32_t per_gb_s, double gb, uint64_t *seconds)
{
    int rc = seconds ? migbuf__number(gb, 0, 1e9) : MIGBUF_E_INVALID;

    if (!rc)
        *seconds = (uint64_t)(per_gb_s * gb);
    return rc;
}

int migbuf_downtime_nova_action(uint64_t timeout_s, double elapsed_s, int32_t force, int32_t postcopy_usable, int32_t phase)
{
    int rc = migbuf__finite(elapsed_s);

    if (rc)
        return rc;
    if (!timeout_s || elapsed_s <= (double)timeout_s || phase == MIGBUF_RAM_PHASE_POSTCOPY)
        return 0;
    return !force ? MIGBUF_RAM_ABORT : postcopy_usable ? MIGBUF_RAM_POSTCOPY : MIGBUF_RAM_STOP;
}

/* CloudStack */

int migbuf_downtime_cloudstack(const struct migbuf_downtime_cloudstack *c, uint64_t at_ms, int32_t running,
                               int32_t limit_set)
{
    if (!c)
        return MIGBUF_E_INVALID;
    if (c->downtime_ms && at_ms >= 1000 && !limit_set)
        return MIGBUF_RAM_DOWNTIME;
    if (c->wait_s && at_ms > UINT64_C(1000) * c->wait_s && running)
        return MIGBUF_RAM_ABORT;
    return c->pauseafter_ms && at_ms > c->pauseafter_ms && running ? MIGBUF_RAM_STOP : 0;
}

/* KubeVirt */

#define WINDOW_MS 40000
#define KUBEVIRT_FIRST_MS 150
#define KUBEVIRT_MOST_MS 900
#define KUBEVIRT_STEP_MS ((KUBEVIRT_MOST_MS - KUBEVIRT_FIRST_MS) / 7)

int migbuf_downtime_kubevirt_time(uint32_t per_gb_s, uint64_t bytes, uint64_t *seconds)
{
    uint64_t begun = bytes / 1000000000 + (bytes % 1000000000 != 0);

    if (!seconds)
        return MIGBUF_E_INVALID;
    if (begun && per_gb_s > UINT64_MAX / begun)
        return MIGBUF_E_RANGE;
    *seconds = per_gb_s * begun;
    return 0;
}

uint32_t migbuf_downtime_kubevirt_next(uint32_t ms)
{
    if (ms < KUBEVIRT_FIRST_MS)
        return KUBEVIRT_FIRST_MS;
    return ms < KUBEVIRT_MOST_MS - KUBEVIRT_STEP_MS ? ms + KUBEVIRT_STEP_MS : KUBEVIRT_MOST_MS;
}

/* The oldest candidate leaves the window. */
static void move_outside(struct migbuf_downtime_stall *s)
{
    if (!s->has_outside || s->bytes[0] < s->outside_bytes)
        s->outside_bytes = s->bytes[0];
    s->has_outside = 1;
    s->count--;
    memmove(s->at_ms, s->at_ms + 1, s->count * sizeof *s->at_ms);
    memmove(s->bytes, s->bytes + 1, s->count * sizeof *s->bytes);
}

int migbuf_downtime_kubevirt(struct migbuf_downtime_stall *s, uint64_t at_ms, uint64_t remaining_bytes)
{
    if (!s || s->count > MIGBUF_DOWNTIME_CANDIDATES)
        return MIGBUF_E_INVALID;
    if (s->count && at_ms < s->at_ms[s->count - 1])
        return MIGBUF_E_CLOCK;
    while (s->count && at_ms - s->at_ms[0] >= WINDOW_MS)
        move_outside(s);
    if (!(s->has_outside && remaining_bytes > s->outside_bytes) &&
        !(s->count && remaining_bytes >= s->bytes[s->count - 1])) {
        if (s->count == MIGBUF_DOWNTIME_CANDIDATES)
            move_outside(s);
        s->at_ms[s->count] = at_ms;
        s->bytes[s->count++] = remaining_bytes;
    }
    return s->has_outside && (double)remaining_bytes >= floor(0.96 * (double)s->outside_bytes);
}

int migbuf_downtime_kubevirt_action(uint64_t remaining_bytes, double bytes_per_s, int32_t disruption,
                                    int32_t postcopy_usable)
{
    int rc = migbuf__positive(bytes_per_s);

    if (rc)
        return rc;
    if (disruption)
        return postcopy_usable ? MIGBUF_RAM_POSTCOPY : MIGBUF_RAM_FORCE;
    return (double)remaining_bytes / bytes_per_s * 1000 <= 1.5 * KUBEVIRT_MOST_MS ? MIGBUF_RAM_DOWNTIME : MIGBUF_RAM_ABORT;
}

/* Proxmox */

int migbuf_downtime_proxmox(struct migbuf_downtime_doubling *s, uint64_t remaining_bytes, uint32_t *ms)
{
    if (!s || !ms)
        return MIGBUF_E_INVALID;
    if (!s->limit_ms)
        s->limit_ms = 100;
    s->risen += (s->last_bytes && remaining_bytes > s->last_bytes) || !remaining_bytes;
    s->last_bytes = remaining_bytes;
    if (s->risen > 5) {
        s->risen = 0;
        s->limit_ms = s->limit_ms < MIGBUF_RAM_LIMIT_MOST_MS / 2 ? 2 * s->limit_ms : MIGBUF_RAM_LIMIT_MOST_MS;
    }
    *ms = s->limit_ms;
    return 0;
}

/* Xen */

int migbuf_downtime_xen(uint32_t rounds, uint64_t dirty_pages)
{
    return rounds >= 5 || dirty_pages < 50;
}

int migbuf_downtime_xen_3(uint32_t rounds, uint64_t round_pages, uint64_t last_round_pages, uint64_t sent_pages,
                          uint64_t total_pages, int32_t at_highest_rate)
{
    return (round_pages > last_round_pages && at_highest_rate) || rounds >= 29 || round_pages < 50 ||
           sent_pages / 3 > total_pages || (sent_pages / 3 == total_pages && sent_pages % 3);
}

int migbuf_downtime_clark(double dirty_mbit_per_s, double least, double most, double *mbit_per_s)
{
    int rc = mbit_per_s ? migbuf__finite(dirty_mbit_per_s) : MIGBUF_E_INVALID;
    double rate = dirty_mbit_per_s + 50;

    if (!rc)
        rc = migbuf__finite(least);
    if (!rc)
        rc = migbuf__finite(most);
    if (rc || least > most)
        return rc ? rc : MIGBUF_E_INVALID;
    *mbit_per_s = migbuf__least(migbuf__most(rate, least), most);
    return rate > most;
}

/* QEMU */

int migbuf_downtime_qemu(double bytes_per_s, uint32_t limit_ms, uint64_t avail_bytes_per_s, uint64_t *threshold_bytes)
{
    double per_ms = avail_bytes_per_s ? (double)(avail_bytes_per_s / 1000) : bytes_per_s / 1000;
    int rc = threshold_bytes ? migbuf__finite(bytes_per_s) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__number(per_ms * limit_ms, 0, 1.8e19);
    if (!rc)
        *threshold_bytes = (uint64_t)(per_ms * limit_ms);
    return rc;
}

int migbuf_downtime_trigger(struct migbuf_downtime_trigger *s, uint64_t dirty_bytes, uint64_t sent_bytes)
{
    if (!s)
        return MIGBUF_E_INVALID;
    if (!s->threshold || s->threshold > 100 || !s->initial || !s->increment || s->increment > 99 || s->most > 99 ||
        s->initial > s->most || s->throttle_percent > 99)
        return MIGBUF_E_RANGE;
    if (dirty_bytes > sent_bytes / 100 * s->threshold + sent_bytes % 100 * s->threshold / 100 && ++s->counted >= 2) {
        s->counted = 0;
        s->throttle_percent = s->throttle_percent ? s->throttle_percent + s->increment : s->initial;
        if (s->throttle_percent > s->most)
            s->throttle_percent = s->most;
    }
    return (int)s->throttle_percent;
}

int migbuf_downtime_tailslow(uint32_t throttle_percent, uint64_t dirty_bytes, uint64_t allowed_bytes, uint32_t increment)
{
    uint32_t cpu = 100 - throttle_percent;
    double ideal;

    if (throttle_percent > 99 || !dirty_bytes || increment > 99)
        return MIGBUF_E_RANGE;
    ideal = floor(cpu * ((double)allowed_bytes / (double)dirty_bytes));
    return (int)migbuf__least(migbuf__most(cpu - ideal, 0), increment);
}
