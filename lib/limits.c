/* SPDX-License-Identifier: MIT */
/* limits: between growth of a file and QEMU's throttle values. Pure. Every bound here is the worst case: what the proof
 * stands on (claims.c). Configurations are merged in throttle_config.c. */
#include "geometry.h"
#include "number.h"
#include "throttle_config.h"

#define LARGEST_REQUEST UINT64_C(1310720) /* Linux' own maximum: max_sectors_kb 1280 */
#define MERGED 32                         /* hw/block/virtio-blk.c, VIRTIO_BLK_MAX_MERGE_REQS */
#define DEEPEST_QUEUE 256                 /* virtio-blk's; virtio-scsi has 128 */
#define UNKNOWN_EXTRA (UINT64_C(16) << 20)

static int is_power_of_two(uint64_t x)
{
    return x && !(x & (x - 1));
}

static int is_out_of(uint64_t x, uint64_t most)
{
    return x > most && x != MIGBUF_NONE;
}

static uint64_t unit_of(const struct migbuf_geometry *g)
{
    uint64_t block = g->block_bytes ? g->block_bytes : g->cluster_bytes;

    return block > g->subcluster_bytes ? block : g->subcluster_bytes;
}

/* A file takes whole blocks. Its units count as such; where a block is larger than a cluster, what tables add to the file's
 * end may begin one more. */
static uint64_t last_block(const struct migbuf_geometry *g)
{
    return g->block_bytes > g->cluster_bytes ? g->block_bytes : 0;
}

int migbuf_geometry_check(const struct migbuf_geometry *g)
{
    const uint32_t known = MIGBUF_GEOMETRY_ALIGNED | MIGBUF_GEOMETRY_NO_IOPS_SIZE | MIGBUF_GEOMETRY_NO_WHOLE;

    if (!g || (g->flags & ~known) || g->reserved)
        return MIGBUF_E_INVALID;
    if (!is_power_of_two(g->cluster_bytes) || (g->block_bytes && !is_power_of_two(g->block_bytes)))
        return MIGBUF_E_INVALID;
    if (g->cluster_bytes < 512 || g->cluster_bytes > 2097152 || g->block_bytes > UINT64_C(1) << 24)
        return MIGBUF_E_RANGE;
    if (g->subcluster_bytes != g->cluster_bytes && (g->subcluster_bytes * 32 != g->cluster_bytes || g->cluster_bytes < 16384))
        return MIGBUF_E_INVALID;
    if (g->virtual_bytes < 1 || g->virtual_bytes > UINT64_C(1) << 60 || is_out_of(g->request_bytes, UINT64_C(1) << 40) ||
        is_out_of(g->queue_bytes, UINT64_C(1) << 50) || is_out_of(g->extra_bytes, UINT64_C(1) << 50))
        return MIGBUF_E_RANGE;
    if (g->flags & MIGBUF_GEOMETRY_ALIGNED && g->request_bytes != MIGBUF_NONE && g->request_bytes > unit_of(g) &&
        g->request_bytes % unit_of(g))
        return MIGBUF_E_INVALID;
    return 0;
}

int migbuf_geometry_init(struct migbuf_geometry *g, uint64_t virtual_bytes)
{
    struct migbuf_geometry unknown = { .virtual_bytes = virtual_bytes, .cluster_bytes = 65536, .subcluster_bytes = 65536 };
    int rc = g ? migbuf_geometry_check(&unknown) : MIGBUF_E_INVALID;

    if (!rc)
        *g = unknown;
    return rc;
}

int migbuf_geometry_unit(const struct migbuf_geometry *g, uint64_t *bytes)
{
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    *bytes = unit_of(g);
    return 0;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Of one write, at most. */
static uint64_t growth_of(const struct migbuf_geometry *g, uint64_t length_bytes)
{
    uint64_t unit = unit_of(g);

    if (length_bytes < 2)
        return length_bytes * unit;
    return (g->flags & MIGBUF_GEOMETRY_ALIGNED ? divide_up(length_bytes, unit) : (length_bytes - 2) / unit + 2) * unit;
}

/* Bytes that one L2 table tells of. */
static uint64_t reach_of(const struct migbuf_geometry *g)
{
    return g->cluster_bytes / (g->subcluster_bytes == g->cluster_bytes ? 8 : 16) * g->cluster_bytes;
}

/* Tables that one write's data touch: where it is cut, one more. */
static uint64_t tables_of_one(const struct migbuf_geometry *g, uint64_t data_bytes)
{
    return divide_up(data_bytes, reach_of(g)) + !(g->flags & MIGBUF_GEOMETRY_ALIGNED);
}

static uint64_t drain_of(const struct migbuf_geometry *g, uint64_t in_flight, uint64_t request_bytes);

struct migbuf_geometry migbuf__geometry_known(const struct migbuf_geometry *g)
{
    struct migbuf_geometry k = *g;

    if (!g->request_bytes)
        k.request_bytes = MERGED * LARGEST_REQUEST;
    if (!g->queue_bytes)
        k.queue_bytes = drain_of(g, DEEPEST_QUEUE, LARGEST_REQUEST);
    if (!g->extra_bytes)
        k.extra_bytes = UNKNOWN_EXTRA;
    k.request_bytes = k.request_bytes == MIGBUF_NONE ? 0 : k.request_bytes;
    k.queue_bytes = k.queue_bytes == MIGBUF_NONE ? 0 : k.queue_bytes;
    k.extra_bytes = k.extra_bytes == MIGBUF_NONE ? 0 : k.extra_bytes;
    return k;
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
    *bytes = growth_of(g, length_bytes);
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

/* All clusters of a fully written overlay, by what they are for. */
struct tables {
    uint64_t fixed, blocks, refcount_table; /* header, L1 and L2; refcount blocks; all that their table ever took */
};

static struct tables tables_of(const struct migbuf_geometry *g)
{
    uint64_t c = g->cluster_bytes, data = divide_up(g->virtual_bytes, c);
    uint64_t l2 = divide_up(data, c / (g->subcluster_bytes == c ? 8 : 16)), l1 = divide_up(l2, c / 8);
    struct tables t = { .fixed = 1 + l2 + l1, .blocks = 1, .refcount_table = 1 };

    /* Refcount blocks count themselves and their table: iterate until it is enough for all (it converges at once, a
     * block covers c / 2 clusters). */
    for (;;) {
        uint64_t table = divide_up(t.blocks, c / 8), blocks = divide_up(data + t.fixed + t.blocks + t.refcount_table, c / 2);

        table = table > 1 ? divide_up(table * 9, 2) + 1 : 1;
        if (blocks <= t.blocks && table <= t.refcount_table)
            return t;
        t.blocks = blocks > t.blocks ? blocks : t.blocks;
        t.refcount_table = table > t.refcount_table ? table : t.refcount_table;
    }
}

/* Each request with its own tables, the refcount blocks of all together, and what their table can take. */
static uint64_t drain_of(const struct migbuf_geometry *g, uint64_t in_flight, uint64_t request_bytes)
{
    uint64_t c = g->cluster_bytes, growth = growth_of(g, request_bytes);
    uint64_t all = in_flight * (growth + tables_of_one(g, growth) * c);

    return in_flight ? all + (divide_up(all, c * c / 2) + 1 + tables_of(g).refcount_table) * c + last_block(g) : 0;
}

static uint64_t all_tables(const struct migbuf_geometry *g)
{
    struct tables t = tables_of(g);

    return (t.fixed + t.blocks + t.refcount_table) * g->cluster_bytes;
}

int migbuf_limits_metadata(const struct migbuf_geometry *g, uint64_t *bytes)
{
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    *bytes = all_tables(g) + last_block(g);
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
    *bytes = (divide_up(data_bytes, reach_of(g)) + divide_up(data_bytes, c * c / 2) + 2 + tables_of(g).refcount_table) * c +
             last_block(g);
    return 0;
}

int migbuf_limits_metadata_scattered(const struct migbuf_geometry *g, double units, double *bytes)
{
    double c, clusters, tables;
    int rc = migbuf_geometry_check(g);

    if (!rc)
        rc = migbuf__finite(units);
    if (!rc && !bytes)
        rc = MIGBUF_E_INVALID;
    if (rc)
        return rc;
    c = (double)g->cluster_bytes;
    clusters = fmax(1, (double)unit_of(g) / c);
    tables = (double)divide_up(unit_of(g), reach_of(g));
    *bytes = units * (tables + (clusters + tables) / (c / 2 - 1)) * c;
    return isfinite(*bytes) ? 0 : MIGBUF_E_RANGE;
}

int migbuf_limits_whole_disk(const struct migbuf_geometry *g, uint64_t *bytes)
{
    uint64_t block;
    int rc = migbuf_geometry_check(g);

    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    block = g->block_bytes ? g->block_bytes : g->cluster_bytes;
    *bytes = divide_up(g->virtual_bytes, g->cluster_bytes) * g->cluster_bytes + all_tables(g) +
             migbuf__geometry_known(g).extra_bytes;
    *bytes = divide_up(*bytes, block) * block;
    if (g->flags & MIGBUF_GEOMETRY_NO_WHOLE || *bytes > UINT64_C(1) << 60)
        *bytes = UINT64_C(1) << 60;
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
    if (!growth) { /* of no known length: so is the drain */
        *bytes = 0;
        return 0;
    }
    if (in_flight > (UINT64_C(1) << 50) / (growth + tables_of_one(g, growth) * g->cluster_bytes))
        return MIGBUF_E_RANGE;
    growth = drain_of(g, in_flight, request_bytes); /* with the refcount blocks of all it may be beyond after all */
    if (growth > UINT64_C(1) << 50)
        return MIGBUF_E_RANGE;
    *bytes = growth;
    return 0;
}

int migbuf__limits_of(uint64_t units, uint64_t bytes, uint64_t smallest, int no_iops_size, struct migbuf_limits *limits)
{
    *limits = (struct migbuf_limits){ 0 };
    if (!units)
        return 0;
    limits->iops_wr = units < MIGBUF__THROTTLE_VALUE_MAX ? units : MIGBUF__THROTTLE_VALUE_MAX;
    if (no_iops_size) /* two buckets side by side: bytes bound the large requests, requests bound the small ones */
        limits->bps_wr = bytes < MIGBUF__THROTTLE_VALUE_MAX ? bytes : MIGBUF__THROTTLE_VALUE_MAX;
    else
        limits->iops_size = smallest;
    return 1;
}

int migbuf_limits_from_budget(const struct migbuf_geometry *disks, size_t count, uint64_t growth_bytes_per_s,
                              struct migbuf_limits *limits)
{
    uint64_t unit = 0, smallest = UINT64_MAX;
    uint32_t flags = 0;

    if (!disks || !count || !limits)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < count; i++) {
        int rc = migbuf_geometry_check(&disks[i]);

        if (rc)
            return rc;
        if (unit_of(&disks[i]) > unit)
            unit = unit_of(&disks[i]);
        if (unit_of(&disks[i]) < smallest)
            smallest = unit_of(&disks[i]);
        flags |= disks[i].flags;
    }
    if (flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE) /* half of it for bytes, half for requests */
        growth_bytes_per_s /= 2;
    return migbuf__limits_of(growth_bytes_per_s / unit, growth_bytes_per_s, smallest, !!(flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE),
                             limits);
}

int migbuf_limits_worst_growth(const struct migbuf_geometry *g, const struct migbuf_limits *limits, double interval_s,
                               double *bytes)
{
    double factor, units, unit, data, tables;
    uint64_t request, of_request, metadata;
    int rc = migbuf_limits_amplification(g, &factor);

    if (!rc && (!limits || !bytes))
        rc = MIGBUF_E_INVALID;
    if (!rc)
        rc = migbuf__finite(interval_s);
    if (!rc)
        rc = migbuf_limits_request_growth(g, migbuf__geometry_known(g).request_bytes, &request);
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
    unit = (double)unit_of(g);
    units = (double)limits->iops_wr * (interval_s + MIGBUF__THROTTLE_BURST_S);
    data = factor * units * unit;
    if (!limits->iops_size) { /* a long request counts once: bytes bound it, and each may begin and end in the middle */
        double cut = g->flags & MIGBUF_GEOMETRY_ALIGNED ? 1 : 2;

        data = limits->bps_wr ? (double)limits->bps_wr * (interval_s + MIGBUF__THROTTLE_BURST_S) + cut * units * unit : INFINITY;
    }
    rc = migbuf_limits_metadata_scattered(g, factor * units, &tables);
    if (rc)
        return rc;
    *bytes = data + (double)request + fmin((double)metadata, tables + (double)of_request);
    return 0;
}
