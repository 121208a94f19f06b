/* SPDX-License-Identifier: MIT */
/* limits: between growth of a file and QEMU's throttle values. */
#include "migbuf/limits.h"
#include "number.h"
#include <string.h>

#define QEMU_VALUE_MAX UINT64_C(1000000000000000) /* THROTTLE_VALUE_MAX, include/qemu/throttle.h */
#define QEMU_BURST_S 0.1                          /* util/throttle.c: a bucket holds avg / 10 where no max is set */

static int is_power_of_two(uint64_t x)
{
    return x && !(x & (x - 1));
}

int migbuf_geometry_check(const struct migbuf_geometry *g)
{
    if (!g || (g->flags & ~(MIGBUF_GEOMETRY_ALIGNED | MIGBUF_GEOMETRY_NO_IOPS_SIZE)) || g->reserved)
        return MIGBUF_E_INVALID;
    if (!is_power_of_two(g->cluster_bytes))
        return MIGBUF_E_INVALID;
    if (g->cluster_bytes < 512 || g->cluster_bytes > 2097152)
        return MIGBUF_E_RANGE;
    if (g->subcluster_bytes != g->cluster_bytes && g->subcluster_bytes * 32 != g->cluster_bytes)
        return MIGBUF_E_INVALID;
    if (g->virtual_bytes < 1 || g->virtual_bytes > UINT64_C(1) << 60 || g->request_bytes > UINT64_C(1) << 40 ||
        g->queue_bytes > UINT64_C(1) << 50)
        return MIGBUF_E_RANGE;
    return 0;
}

int migbuf_limits_request_growth(const struct migbuf_geometry *g, uint64_t length_bytes, uint64_t *bytes)
{
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    if (length_bytes > UINT64_C(1) << 50)
        return MIGBUF_E_RANGE;
    if (length_bytes < 2)
        *bytes = length_bytes * g->subcluster_bytes;
    else if (g->flags & MIGBUF_GEOMETRY_ALIGNED)
        *bytes = (length_bytes + g->subcluster_bytes - 1) / g->subcluster_bytes * g->subcluster_bytes;
    else
        *bytes = ((length_bytes - 2) / g->subcluster_bytes + 2) * g->subcluster_bytes;
    return 0;
}

int migbuf_limits_amplification(const struct migbuf_geometry *g, double *factor)
{
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!factor)
        return MIGBUF_E_INVALID;
    *factor = g->flags & MIGBUF_GEOMETRY_ALIGNED ? 1 : 3;
    return 0;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

int migbuf_limits_metadata(const struct migbuf_geometry *g, uint64_t *bytes)
{
    uint64_t c, data, l2, l1, blocks, table, clusters;
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    c = g->cluster_bytes;
    data = divide_up(g->virtual_bytes, c);
    l2 = divide_up(data, c / (g->subcluster_bytes == c ? 8 : 16));
    l1 = divide_up(l2, c / 8);
    /* Refcount blocks count themselves and their table: iterate until it is enough for all (it converges at once, a
     * block covers c / 2 clusters). */
    blocks = table = 1;
    for (;;) {
        uint64_t need;

        clusters = 1 + data + l2 + l1 + table + blocks;
        need = divide_up(clusters, c / 2);
        if (need <= blocks && divide_up(blocks, c / 8) <= table)
            break;
        if (need > blocks)
            blocks = need;
        table = divide_up(blocks, c / 8);
    }
    *bytes = (clusters - data) * c;
    return 0;
}

int migbuf_limits_metadata_of(const struct migbuf_geometry *g, uint64_t data_bytes, uint64_t *bytes)
{
    uint64_t c;
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    if (data_bytes > UINT64_C(1) << 50)
        return MIGBUF_E_RANGE;
    c = g->cluster_bytes;
    *bytes = (divide_up(data_bytes, c * (c / (g->subcluster_bytes == c ? 8 : 16))) + divide_up(data_bytes, c * c / 2) + 3) * c;
    return 0;
}

int migbuf_limits_whole_disk(const struct migbuf_geometry *g, uint64_t *bytes)
{
    uint64_t metadata;
    int rc = migbuf_limits_metadata(g, &metadata);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    *bytes = divide_up(g->virtual_bytes, g->cluster_bytes) * g->cluster_bytes + metadata;
    return 0;
}

int migbuf_limits_drain(const struct migbuf_geometry *g, uint64_t in_flight, uint64_t request_bytes, uint64_t *bytes)
{
    uint64_t growth;
    int rc = migbuf_limits_request_growth(g, request_bytes, &growth);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    if (in_flight > (UINT64_C(1) << 50) / (growth + g->cluster_bytes))
        return MIGBUF_E_RANGE;
    *bytes = in_flight * (growth + g->cluster_bytes);
    return 0;
}

int migbuf_limits_from_budget(const struct migbuf_geometry *disks, size_t count, uint64_t growth_bytes_per_s,
                              struct migbuf_limits *limits)
{
    uint64_t unit = 0, smallest = UINT64_MAX, units;
    uint32_t flags = 0;

    if (!disks || !count || !limits)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < count; i++) {
        int rc = migbuf_geometry_check(&disks[i]);

        if (rc)
            return rc;
        if (disks[i].subcluster_bytes > unit)
            unit = disks[i].subcluster_bytes;
        if (disks[i].subcluster_bytes < smallest)
            smallest = disks[i].subcluster_bytes;
        flags |= disks[i].flags;
    }
    *limits = (struct migbuf_limits){ 0 };
    if (flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE) {
        /* Two buckets side by side: bytes bound the large requests, requests bound the small ones. */
        growth_bytes_per_s /= 2;
        units = growth_bytes_per_s / unit;
        if (!units)
            return 0;
        limits->bps_wr = growth_bytes_per_s < QEMU_VALUE_MAX ? growth_bytes_per_s : QEMU_VALUE_MAX;
        limits->iops_wr = units < QEMU_VALUE_MAX ? units : QEMU_VALUE_MAX;
        return 1;
    }
    units = growth_bytes_per_s / unit;
    if (!units)
        return 0;
    limits->iops_wr = units < QEMU_VALUE_MAX ? units : QEMU_VALUE_MAX;
    limits->iops_size = smallest;
    return 1;
}

int migbuf_limits_worst_growth(const struct migbuf_geometry *g, const struct migbuf_limits *limits, double interval_s,
                               double *bytes)
{
    double factor, units, data, tables;
    uint64_t request, of_request, metadata;
    int rc = migbuf_limits_amplification(g, &factor);

    if (!rc && (!limits || !bytes))
        rc = MIGBUF_E_INVALID;
    if (!rc)
        rc = migbuf__finite(interval_s);
    if (!rc)
        rc = migbuf_limits_request_growth(g, g->request_bytes, &request);
    if (!rc)
        rc = migbuf_limits_metadata_of(g, request, &of_request);
    if (!rc)
        rc = migbuf_limits_metadata(g, &metadata);
    if (rc)
        return rc;

    if (!limits->iops_wr) {
        *bytes = INFINITY;
        return 0;
    }
    units = (double)limits->iops_wr * (interval_s + QEMU_BURST_S);
    data = factor * units * (double)g->subcluster_bytes;
    if (!limits->iops_size) { /* a long request counts once: bytes bound it, and each may begin and end in the middle */
        double cut = g->flags & MIGBUF_GEOMETRY_ALIGNED ? 1 : 2;

        data = limits->bps_wr ? (double)limits->bps_wr * (interval_s + QEMU_BURST_S) +
                                    cut * units * (double)g->subcluster_bytes
                              : INFINITY;
    }
    /* Every unit may be the first in its window. */
    tables = fmin((double)metadata, factor * units * (double)g->cluster_bytes + (double)of_request);
    *bytes = data + (double)request + tables;
    return 0;
}

static uint64_t lower_limit(uint64_t host, uint64_t ours)
{
    if (!host || !ours)
        return host ? host : ours;
    return host < ours ? host : ours;
}

/* A total and a write limit of the same kind exclude each other: split the total so that both stay below it. */
static void split_total(uint64_t *total, uint64_t *read, uint64_t *write)
{
    uint64_t half = *total / 2 ? *total / 2 : 1;

    *write = *write < half ? *write : half;
    *read = *total > *write ? *total - *write : 1;
    *total = 0;
}

/* A rate in units that became `coarser` times larger; 0 stays "unlimited", anything else stays a limit. */
static uint64_t less_often(uint64_t rate, uint64_t coarser)
{
    return rate && rate < coarser ? 1 : rate / coarser;
}

uint32_t migbuf_limits_host_flags(const struct migbuf_throttle_config *host)
{
    return host && (host->iops || host->iops_rd) ? MIGBUF_GEOMETRY_NO_IOPS_SIZE : 0;
}

int migbuf_limits_merge(const struct migbuf_throttle_config *host, const struct migbuf_limits *ours,
                        struct migbuf_throttle_config *merged)
{
    struct migbuf_throttle_config m;

    if (!host || !ours || !merged)
        return MIGBUF_E_INVALID;
    m = *host;
    memset(m.group, 0, sizeof m.group);

    m.bps_wr = lower_limit(host->bps_wr, ours->bps_wr);
    m.iops_wr = lower_limit(host->iops_wr, ours->iops_wr);
    if (ours->iops_size) {
        m.iops_size = ours->iops_size;
        if (host->iops_size && host->iops_size < ours->iops_size) {
            uint64_t coarser = divide_up(ours->iops_size, host->iops_size);

            m.iops = less_often(m.iops, coarser);
            m.iops_rd = less_often(m.iops_rd, coarser);
            m.iops_max = less_often(m.iops_max, coarser);
            m.iops_rd_max = less_often(m.iops_rd_max, coarser);
            m.iops_wr = lower_limit(less_often(host->iops_wr, coarser), ours->iops_wr);
        }
    }
    if (ours->bps_wr) {
        m.bps_wr_max = m.bps_wr_max_length = 0;
        if (m.bps) {
            split_total(&m.bps, &m.bps_rd, &m.bps_wr);
            m.bps_max = m.bps_max_length = 0;
        }
    }
    if (ours->iops_wr) {
        m.iops_wr_max = m.iops_wr_max_length = 0;
        if (m.iops) {
            split_total(&m.iops, &m.iops_rd, &m.iops_wr);
            m.iops_max = m.iops_max_length = 0;
        }
    }
    *merged = m;
    return 0;
}
