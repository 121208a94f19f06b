/* SPDX-License-Identifier: MIT */
/* mirror_policy: how a disk is mirrored, what its guest gets, when the copy ends. Pure functions; no job. */
#include "mirror.h"
#include "number.h"
#include <stdbool.h>

#define KIB 1024.0
#define GRANULE_BYTES 65536.0
#define OWN_BUFFER_BYTES 16777216.0 /* QEMU's where nothing is said */
#define SPAN_S 5

int migbuf__mirror_load_check(const struct migbuf_mirror_load *load)
{
    const double value[] = { load->link_bytes_per_s, load->write_bytes_per_s, load->request_bytes, load->depth, load->round_trip_s };
    int rc = 0;

    for (size_t k = 0; k < sizeof value / sizeof *value && !rc; k++)
        rc = migbuf__number(value[k], 0, 1e18);
    return rc;
}

int migbuf__mirror_setting_check(const struct migbuf_mirror_setting *s)
{
    uint64_t g = s->granularity_bytes;

    if (s->reserved || s->mode < MIGBUF_MIRROR_BACKGROUND || s->mode > MIGBUF_MIRROR_PACED)
        return MIGBUF_E_INVALID;
    if (g < 512 || g > UINT64_C(64) << 20 || g & (g - 1) || s->buf_bytes > UINT64_C(1) << 30 || s->speed_bytes_per_s > INT64_MAX)
        return MIGBUF_E_RANGE;
    return 0;
}

static double request(const struct migbuf_mirror_load *load)
{
    return load->request_bytes >= 1 ? load->request_bytes : 4 * KIB;
}

/* What has to be sent for what the guest writes: whole granules. */
static double dirty_bytes_per_s(const struct migbuf_mirror_load *load, double granule)
{
    return load->write_bytes_per_s * migbuf__most(1, granule / request(load));
}

static uint64_t whole(double bytes_per_s)
{
    return bytes_per_s < 1 ? 1 : bytes_per_s < 9e18 ? (uint64_t)bytes_per_s : (uint64_t)INT64_MAX;
}

static void choose_paced(const struct migbuf_mirror_load *load, struct migbuf_mirror_setting *s)
{
    double u = load->link_bytes_per_s, b = GRANULE_BYTES;

    while (b < 2 * u * load->round_trip_s && b < OWN_BUFFER_BYTES)
        b *= 2;
    s->mode = MIGBUF_MIRROR_PACED;
    s->granularity_bytes = s->buf_bytes = (uint64_t)b;
    s->speed_bytes_per_s = u > 0 ? whole(0.1 * u) : 0;
}

int migbuf_mirror_choose(const struct migbuf_mirror_load *load, int32_t can_change, int32_t promised,
                         struct migbuf_mirror_setting *out)
{
    struct migbuf_mirror_setting s = { .mode = MIGBUF_MIRROR_BACKGROUND };
    double u;
    int rc = load && out ? migbuf__mirror_load_check(load) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    u = load->link_bytes_per_s;
    s.granularity_bytes = request(load) >= GRANULE_BYTES ? 65536 : 4096;
    if (promised || (!can_change && u > 0 && dirty_bytes_per_s(load, (double)s.granularity_bytes) >= u))
        choose_paced(load, &s);
    *out = s;
    return 0;
}

int migbuf_mirror_rates(const struct migbuf_mirror_load *load, const struct migbuf_mirror_setting *s,
                        struct migbuf_mirror_rates *out)
{
    double u, w, speed, queue, buffer;
    int rc = load && s && out ? migbuf__mirror_load_check(load) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__mirror_setting_check(s);
    if (rc)
        return rc;
    u = load->link_bytes_per_s;
    w = load->write_bytes_per_s;
    if (!(u > 0))
        return MIGBUF_E_STATE;
    speed = s->speed_bytes_per_s ? migbuf__least((double)s->speed_bytes_per_s, u) : u;
    if (s->mode == MIGBUF_MIRROR_BACKGROUND) {
        *out = (struct migbuf_mirror_rates){ w, migbuf__most(0, speed - dirty_bytes_per_s(load, (double)s->granularity_bytes)), 0 };
        return 0;
    }
    queue = migbuf__most(load->depth, 1) * request(load);
    buffer = s->buf_bytes ? (double)s->buf_bytes : OWN_BUFFER_BYTES;
    buffer = migbuf__most(buffer, (double)s->granularity_bytes);
    out->guest_bytes_per_s = migbuf__least(w, migbuf__most(u - speed, u * (queue / (queue + buffer)))); /* never beyond u: rounded, too */
    out->copy_bytes_per_s = migbuf__least(speed, u - out->guest_bytes_per_s);
    out->write_s = (queue + buffer) / u;
    return 0;
}

int migbuf_mirror_finish(const struct migbuf_mirror_load *load, const struct migbuf_mirror_setting *s, uint64_t remaining_bytes,
                         double *seconds)
{
    struct migbuf_mirror_rates rates;
    int rc = seconds ? migbuf_mirror_rates(load, s, &rates) : MIGBUF_E_INVALID;

    if (!rc)
        *seconds = !remaining_bytes ? 0 : rates.copy_bytes_per_s > 0 ? (double)remaining_bytes / rates.copy_bytes_per_s : INFINITY;
    return rc;
}

int migbuf_mirror_pace(const struct migbuf_mirror_load *load, uint64_t remaining_bytes, double left_s, uint64_t speed_bytes_per_s,
                       uint64_t *next_bytes_per_s)
{
    double u, least;
    int rc = load && next_bytes_per_s ? migbuf__mirror_load_check(load) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__amount(left_s);
    if (rc)
        return rc;
    u = load->link_bytes_per_s;
    least = left_s > 0 ? (double)remaining_bytes / left_s : u;
    least = migbuf__least(migbuf__most(least, 0.1 * u), u);
    *next_bytes_per_s = !(u > 0) ? 0
                                 : whole(migbuf__most(least, migbuf__least((double)speed_bytes_per_s + 0.05 * u,
                                                                           0.9 * u - load->write_bytes_per_s)));
    return 0;
}

int migbuf_mirror_hold(const struct migbuf_mirror_load *load, uint64_t granularity_bytes, double *bytes_per_s)
{
    int rc = load && bytes_per_s ? migbuf__mirror_load_check(load) : MIGBUF_E_INVALID;

    if (!rc)
        rc = granularity_bytes ? load->link_bytes_per_s > 0 ? 0 : MIGBUF_E_STATE : MIGBUF_E_INVALID;
    if (!rc)
        *bytes_per_s = 0.5 * load->link_bytes_per_s * migbuf__least(1, request(load) / (double)granularity_bytes);
    return rc;
}

int migbuf_mirror_progress(struct migbuf_mirror_progress *p, double link_bytes_per_s, uint64_t remaining_bytes, uint64_t now_ms)
{
    double span_s, need;
    bool gained;
    int rc = p ? migbuf__number(link_bytes_per_s, 0, 1e18) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    if (p->begun && now_ms < p->from_ms)
        return MIGBUF_E_CLOCK;
    span_s = (double)(now_ms - p->from_ms) / 1000;
    need = migbuf__least(0.05 * (double)p->from_bytes, 0.05 * link_bytes_per_s * migbuf__most(span_s, SPAN_S));
    gained = !p->begun || !p->from_bytes || !remaining_bytes || (double)p->from_bytes - (double)remaining_bytes >= migbuf__most(need, 1);
    if (!gained && span_s < SPAN_S)
        return p->stuck;
    *p = (struct migbuf_mirror_progress){ remaining_bytes, now_ms, 1, !gained };
    return p->stuck;
}
