/* SPDX-License-Identifier: MIT */
/*
 * limits: every geometry with clusters of CLUSTER bytes and subclusters of SUBCLUSTER bytes, which the script gives; all other
 * numbers are any. Overflow, wrapping and division are CBMC's own checks.
 */
#include "../../lib/limits.c"
#include "any.h"

static struct migbuf_geometry any_geometry(void)
{
    struct migbuf_geometry g = { .cluster_bytes = CLUSTER, .subcluster_bytes = SUBCLUSTER };

    g.virtual_bytes = nondet_u64();
    g.request_bytes = nondet_u64();
    g.queue_bytes = nondet_u64();
    g.extra_bytes = nondet_u64();
    g.block_bytes = BLOCK;
    g.flags = nondet_u32();
    return g;
}

void whole_disk(void)
{
    struct migbuf_geometry g = any_geometry();
    uint64_t bytes;

    if (migbuf_limits_whole_disk(&g, &bytes))
        return;
    prove(bytes >= g.virtual_bytes, "the whole disk holds the disk");
    prove(bytes <= UINT64_C(1) << 60, "and is a number of bytes that everybody takes");
}

void request_growth(void)
{
    struct migbuf_geometry g = any_geometry();
    uint64_t length = nondet_u64(), bytes;

    if (migbuf_limits_request_growth(&g, length, &bytes))
        return;
    prove(bytes >= length, "a request grows the file by what it writes, at least");
}

void metadata(void)
{
    struct migbuf_geometry g = any_geometry();
    uint64_t some, all, data = nondet_u64();

    if (migbuf_limits_metadata(&g, &all) || migbuf_limits_metadata_of(&g, data, &some))
        return;
    prove(some <= UINT64_C(1) << 60, "tables of some data are a number of bytes");
}

void drain(void)
{
    struct migbuf_geometry g = any_geometry();
    uint64_t bytes;

    if (migbuf_limits_drain(&g, nondet_u64(), nondet_u64(), &bytes))
        return;
    prove(bytes <= UINT64_C(1) << 50, "a drain is within its range");
}

/* Two disks: CLUSTER for one, any of the other, of the same kind. */
void from_budget(void)
{
    struct migbuf_geometry g[2] = { any_geometry(), any_geometry() };
    struct migbuf_limits l;
    uint64_t budget = nondet_u64();
    int rc;

    g[1].cluster_bytes = g[1].subcluster_bytes = OTHER;
    rc = migbuf_limits_from_budget(g, 2, budget, &l);
    if (rc == 0)
        prove(!l.iops_wr && !l.bps_wr && !l.iops_size, "a pause has no rate");
    if (rc != 1)
        return;
    prove(l.iops_wr >= 1 && l.iops_wr <= MIGBUF__THROTTLE_VALUE_MAX, "QEMU takes the request rate");
    prove(l.bps_wr <= MIGBUF__THROTTLE_VALUE_MAX, "QEMU takes the byte rate");
    prove(l.bps_wr || l.iops_size, "large requests are bounded too");
    prove(l.iops_wr <= budget / CLUSTER || BLOCK || SUBCLUSTER != CLUSTER, "not above the budget by the first disk's clusters");
    prove(l.iops_wr <= budget / OTHER || BLOCK, "nor by the second one's");
    prove(l.bps_wr <= budget, "nor in bytes");
    if (l.bps_wr)
        prove(l.bps_wr <= budget / 2 && l.iops_wr <= budget / 2 / OTHER, "two buckets side by side have half of it each");
}
