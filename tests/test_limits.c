/* SPDX-License-Identifier: MIT */
/* The worked examples of limits.h. That QEMU behaves so is measured elsewhere, on QEMU. */
#include "unit.h"
#include "migbuf/limits.h"
#include <string.h>

static struct migbuf_geometry plain(uint32_t flags)
{
    return (struct migbuf_geometry){
        .virtual_bytes = UINT64_C(1) << 30, .cluster_bytes = 65536, .subcluster_bytes = 65536, .block_bytes = 4096,
        .request_bytes = 4096, .queue_bytes = MIGBUF_NONE, .extra_bytes = MIGBUF_NONE, .flags = flags
    };
}

static uint64_t growth(struct migbuf_geometry g, uint64_t length)
{
    uint64_t bytes;

    ck_assert_int_eq(migbuf_limits_request_growth(&g, length, &bytes), 0);
    return bytes;
}

START_TEST(growth_of_one_request)
{
    struct migbuf_geometry any = plain(0), aligned = plain(MIGBUF_GEOMETRY_ALIGNED), ext = plain(0);

    ck_assert(growth(any, 4096) == 131072 && growth(any, 65536) == 131072 && growth(any, 65538) == 196608);
    ck_assert(growth(any, 0) == 0 && growth(any, 1) == 65536 && growth(any, 512) == 131072);
    ck_assert(growth(aligned, 4096) == 65536 && growth(aligned, 65536) == 65536 && growth(aligned, 65537) == 131072);
    ext.cluster_bytes = 131072;
    ext.subcluster_bytes = 4096;
    ck_assert(growth(ext, 4096) == 8192);
}
END_TEST

START_TEST(metadata_and_whole_disk)
{
    struct migbuf_geometry g = plain(0);
    uint64_t bytes, ext;

    ck_assert_int_eq(migbuf_limits_metadata(&g, &bytes), 0);
    ck_assert(bytes == 6 * 65536);
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &bytes), 0);
    ck_assert(bytes == (UINT64_C(1) << 30) + 6 * 65536);
    g.virtual_bytes = 1;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &bytes), 0);
    ck_assert(bytes == 6 * 65536); /* one data cluster, one L2 table less */
    g.virtual_bytes = UINT64_C(1) << 40;
    ck_assert_int_eq(migbuf_limits_metadata(&g, &bytes), 0);
    ck_assert(bytes == (1 + 2048 + 1 + 1 + 513) * 65536); /* header, L2, L1, refcount table and blocks: 0.015 % */
    g.subcluster_bytes = 2048;
    ck_assert_int_eq(migbuf_limits_metadata(&g, &ext), 0);
    ck_assert(ext > bytes && ext < 2 * bytes);
    /* A refcount table of more than one cluster was moved, again and again, and leaves holes: 1540 blocks fill four clusters
     * of it, and it may have taken 19. */
    g = plain(0);
    g.cluster_bytes = g.subcluster_bytes = 4096;
    g.virtual_bytes = UINT64_C(12) << 30;
    ck_assert_int_eq(migbuf_limits_metadata(&g, &bytes), 0);
    ck_assert_uint_eq(bytes, (1 + 6144 + 12 + 1540 + 19) * UINT64_C(4096));
    g.virtual_bytes = UINT64_C(1) << 60;
    g.cluster_bytes = g.subcluster_bytes = 512;
    ck_assert_int_eq(migbuf_limits_metadata(&g, &bytes), 0);
    /* The file's last block is a whole one. */
    g.virtual_bytes = 783872;
    g.block_bytes = 512;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &bytes), 0);
    ck_assert_uint_eq(bytes, 801280);
    g.block_bytes = 4096;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &bytes), 0);
    ck_assert_uint_eq(bytes, 802816);
    ck_assert_int_eq(migbuf_limits_metadata(&g, &ext), 0);
    ck_assert_uint_eq(ext, 801280 - 783872 + 4096); /* of which a part is a block's end */
    ck_assert_int_eq(migbuf_limits_drain(&g, 1, 512, &ext), 0);
    g.block_bytes = 512;
    ck_assert_int_eq(migbuf_limits_drain(&g, 1, 512, &bytes), 0);
    ck_assert_uint_eq(ext - bytes, 2 * (4096 - 512) + 4096); /* units of a block, on both sides of its boundary */
    g = plain(0);
    g.block_bytes = 16 << 20;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &bytes), 0);
    ck_assert_uint_eq(bytes, (UINT64_C(1) << 30) + (16 << 20));
}
END_TEST

START_TEST(metadata_of_some_data)
{
    struct migbuf_geometry g = plain(0);
    uint64_t bytes;

    ck_assert_int_eq(migbuf_limits_metadata_of(&g, 65536, &bytes), 0);
    ck_assert(bytes == 327680);
    g.cluster_bytes = g.subcluster_bytes = 512; /* small clusters have small tables: 8 MiB touch 256 of them */
    ck_assert_int_eq(migbuf_limits_metadata_of(&g, 8 << 20, &bytes), 0);
    ck_assert(bytes == (256 + 64 + 2 + 591) * 512 + 4096); /* 8357 refcount blocks fill 131 clusters of their table: 4.5 times. And a block for the end */
    ck_assert_int_eq(migbuf_limits_metadata_of(&g, UINT64_MAX, &bytes), MIGBUF_E_RANGE);
}
END_TEST

START_TEST(a_drain_pours_the_queue)
{
    struct migbuf_geometry g = plain(MIGBUF_GEOMETRY_ALIGNED);
    uint64_t bytes = 1;

    ck_assert_int_eq(migbuf_limits_drain(&g, 32, 4096, &bytes), 0);
    ck_assert(bytes == 4390912);
    ck_assert_int_eq(migbuf_limits_drain(&g, UINT64_MAX, 4096, &bytes), MIGBUF_E_RANGE);
    ck_assert(bytes == 4390912);
    ck_assert_int_eq(migbuf_limits_drain(&g, 0, 4096, &bytes), 0);
    ck_assert(bytes == 0);
    bytes = 7; /* 2^50 by itself, and more with its refcount blocks */
    ck_assert_int_eq(migbuf_limits_drain(&g, UINT64_C(1) << 33, 4096, &bytes), MIGBUF_E_RANGE);
    ck_assert(bytes == 7);
    ck_assert_int_eq(migbuf_limits_drain(&g, (UINT64_C(1) << 33) - (UINT64_C(1) << 20), 4096, &bytes), 0);
    ck_assert(bytes <= UINT64_C(1) << 50);
    bytes = 7; /* requests of no known length: of no known drain */
    ck_assert_int_eq(migbuf_limits_drain(&g, 32, 0, &bytes), 0);
    ck_assert(bytes == 0);
    g.flags = 0; /* each on two clusters, and at the end of one table's reach */
    ck_assert_int_eq(migbuf_limits_drain(&g, 32, 4096, &bytes), 0);
    ck_assert(bytes == 32 * (2 * 65536 + 2 * 65536) + 3 * 65536);
}
END_TEST

/* Aligned to 4 KiB is not aligned to a unit: 66048 bytes pay for 1.008 units and grow the file by two. */
START_TEST(aligned_is_to_a_unit)
{
    struct migbuf_geometry g = plain(MIGBUF_GEOMETRY_ALIGNED);
    double factor;

    ck_assert_int_eq(migbuf_geometry_check(&g), 0); /* within one */
    g.request_bytes = 66048;
    ck_assert_int_eq(migbuf_geometry_check(&g), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_limits_amplification(&g, &factor), MIGBUF_E_INVALID);
    g.request_bytes = 3 * 65536;
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
    g.subcluster_bytes = 2048; /* the unit is the block, 4096 */
    g.request_bytes = 6144;
    ck_assert_int_eq(migbuf_geometry_check(&g), MIGBUF_E_INVALID);
    g.request_bytes = 8192;
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
    g.block_bytes = 0; /* not known: a cluster */
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
    g.request_bytes = MIGBUF_NONE;
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
    g.flags = 0;
    g.request_bytes = 66048;
    ck_assert_int_eq(migbuf_limits_amplification(&g, &factor), 0);
    ck_assert(factor > 2.5);
}
END_TEST

/* What a small write allocates: no file system allocates half a block. */
START_TEST(a_unit_is_no_part_of_a_block)
{
    struct migbuf_geometry g = plain(0);
    struct migbuf_limits l;
    uint64_t unit;
    double worst, coarse;

    ck_assert_int_eq(migbuf_geometry_unit(&g, &unit), 0);
    ck_assert_uint_eq(unit, 65536);
    g.subcluster_bytes = 2048;
    ck_assert_int_eq(migbuf_geometry_unit(&g, &unit), 0);
    ck_assert_uint_eq(unit, 4096);
    ck_assert(growth(g, 2048) == 8192 && growth(g, 512) == 8192); /* on both sides of a block's boundary */
    ck_assert_int_eq(migbuf_limits_from_budget(&g, 1, 1000000, &l), 1);
    ck_assert(l.iops_wr == 244 && l.iops_size == 4096);
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &worst), 0);
    g.block_bytes = 512;
    ck_assert_int_eq(migbuf_geometry_unit(&g, &unit), 0);
    ck_assert_uint_eq(unit, 2048);
    g.block_bytes = 0;
    ck_assert_int_eq(migbuf_geometry_unit(&g, &unit), 0);
    ck_assert_uint_eq(unit, 65536);
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &coarse), 0);
    ck_assert(coarse > 10 * worst);
    g.block_bytes = 1 << 20; /* the file system's blocks are larger than clusters */
    ck_assert_int_eq(migbuf_geometry_unit(&g, &unit), 0);
    ck_assert_uint_eq(unit, 1 << 20);
    ck_assert_int_eq(migbuf_geometry_unit(&g, NULL), MIGBUF_E_INVALID);
    g.cluster_bytes = 3;
    ck_assert_int_eq(migbuf_geometry_unit(&g, &unit), MIGBUF_E_INVALID);
    ck_assert_uint_eq(unit, 1 << 20);
}
END_TEST

/* Nothing that is not said switches anything off. */
START_TEST(what_is_not_known_counts_at_its_worst)
{
    struct migbuf_geometry g, none;
    struct migbuf_limits l = { .iops_wr = 16, .iops_size = 65536 };
    uint64_t whole, bare;
    double unknown, known;

    memset(&g, 0xff, sizeof g);
    ck_assert_int_eq(migbuf_geometry_init(&g, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_geometry_init(NULL, 1), MIGBUF_E_INVALID);
    ck_assert_uint_eq(g.virtual_bytes, UINT64_MAX);
    ck_assert_int_eq(migbuf_geometry_init(&g, UINT64_C(20) << 30), 0);
    ck_assert(g.virtual_bytes == UINT64_C(20) << 30 && g.cluster_bytes == 65536 && g.subcluster_bytes == 65536);
    ck_assert(g.block_bytes == 0 && g.request_bytes == 0 && g.queue_bytes == 0 && g.extra_bytes == 0);
    ck_assert(g.flags == 0 && g.reserved == 0);
    ck_assert_int_eq(migbuf_limits_drain(&g, 32, 65536, &g.queue_bytes), 0);
    ck_assert_uint_eq(g.queue_bytes, 32 * (131072 + 2 * 65536) + 3 * 65536);

    none = g;
    none.request_bytes = none.extra_bytes = MIGBUF_NONE;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &whole) | migbuf_limits_whole_disk(&none, &bare), 0);
    ck_assert_uint_eq(whole - bare, 16 << 20);
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &unknown), 0);
    ck_assert_int_eq(migbuf_limits_worst_growth(&none, &l, 1, &known), 0);
    ck_assert(unknown - known > 41943040); /* 32 requests of 1.25 MiB, merged into one */
    g.extra_bytes = 1000;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &whole), 0);
    ck_assert_uint_eq(whole - bare, 65536); /* of whole blocks */
    g.flags = MIGBUF_GEOMETRY_NO_WHOLE; /* internal snapshots: no size is its last */
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &whole), 0);
    ck_assert_uint_eq(whole, UINT64_C(1) << 60);
    g.flags = 0;
    g.virtual_bytes = UINT64_C(1) << 60;
    ck_assert_int_eq(migbuf_limits_whole_disk(&g, &whole), 0);
    ck_assert_uint_eq(whole, UINT64_C(1) << 60);
}
END_TEST

/* Where units lie alone, each brings a table and its part of the refcount blocks; a large one as many tables as it reaches
 * over. */
START_TEST(metadata_of_scattered_units)
{
    struct migbuf_geometry g = plain(MIGBUF_GEOMETRY_ALIGNED);
    double bytes;

    g.cluster_bytes = g.subcluster_bytes = 4096;
    ck_assert_int_eq(migbuf_limits_metadata_scattered(&g, 1000, &bytes), 0);
    ck_near(bytes, 1000 * (1 + 2 / 2047.) * 4096);
    g.cluster_bytes = g.subcluster_bytes = 512; /* blocks of eight clusters */
    ck_assert_int_eq(migbuf_limits_metadata_scattered(&g, 1, &bytes), 0);
    ck_near(bytes, (1 + 9 / 255.) * 512);
    g.block_bytes = 1 << 20; /* a table reaches over 32 KiB */
    ck_assert_int_eq(migbuf_limits_metadata_scattered(&g, 1, &bytes), 0);
    ck_near(bytes, (32 + (2048 + 32) / 255.) * 512);
    bytes = 5;
    ck_assert_int_eq(migbuf_limits_metadata_scattered(&g, -1, &bytes), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_limits_metadata_scattered(&g, NAN, &bytes), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_limits_metadata_scattered(&g, 1, NULL), MIGBUF_E_INVALID);
    ck_assert(bytes == 5);
}
END_TEST

START_TEST(budget_to_limits)
{
    struct migbuf_geometry g[2] = { plain(0), plain(0) };
    struct migbuf_limits l;

    ck_assert_int_eq(migbuf_limits_from_budget(g, 1, 1000000, &l), 1);
    ck_assert(l.iops_wr == 15 && l.iops_size == 65536 && l.bps_wr == 0);
    ck_assert_int_eq(migbuf_limits_from_budget(g, 1, 65535, &l), 0);
    ck_assert(l.iops_wr == 0 && l.iops_size == 0 && l.bps_wr == 0);
    ck_assert_int_eq(migbuf_limits_from_budget(g, 1, MIGBUF_UNLIMITED, &l), 1);
    ck_assert(l.iops_wr <= UINT64_C(1000000000000000));
    g[1].cluster_bytes = g[1].subcluster_bytes = 16384;
    ck_assert_int_eq(migbuf_limits_from_budget(g, 2, 1000000, &l), 1);
    ck_assert(l.iops_wr == 15 && l.iops_size == 16384);
    g[0].flags = MIGBUF_GEOMETRY_NO_IOPS_SIZE;
    ck_assert_int_eq(migbuf_limits_from_budget(g, 1, 1000000, &l), 1);
    ck_assert(l.iops_wr == 7 && l.iops_size == 0 && l.bps_wr == 500000);
    ck_assert_int_eq(migbuf_limits_from_budget(g, 1, 131071, &l), 0);
    ck_assert_int_eq(migbuf_limits_from_budget(g, 0, 1, &l), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(limits_to_worst_growth)
{
    struct migbuf_geometry g = plain(MIGBUF_GEOMETRY_ALIGNED);
    struct migbuf_limits l = { .iops_wr = 16, .iops_size = 65536 }, bytes_only = { .bps_wr = 1000000 };
    double worst;

    g.virtual_bytes = UINT64_C(1) << 40;
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &worst), 0);
    ck_near(worst, 65536 * 17.6 * (2 + 2 / 32767.) + 65536 + 327680);
    g.virtual_bytes = UINT64_C(1) << 26; /* a small disk cannot need a table per write */
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &worst), 0);
    ck_near(worst, 65536 * 17.6 + 65536 + 5 * 65536);
    g.flags = 0;
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &worst), 0);
    ck_near(worst, 3 * 65536 * 17.6 + 131072 + 5 * 65536);
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &bytes_only, 1, &worst), 0);
    ck_assert(isinf(worst));
    l = (struct migbuf_limits){ .iops_wr = 10, .bps_wr = 655360 };
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &worst), 0);
    ck_near(worst, 655360 * 1.1 + 2 * 65536 * 11 + 131072 + 5 * 65536);
    l.bps_wr = 0;
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, 1, &worst), 0);
    ck_assert(isinf(worst));
    ck_assert_int_eq(migbuf_limits_worst_growth(&g, &l, NAN, &worst), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(merging_keeps_the_hosts_limits)
{
    struct migbuf_throttle_config host = { .bps_rd = 5, .iops_wr = 100, .iops_wr_max = 300, .iops_wr_max_length = 2 }, m;
    struct migbuf_limits ours = { .iops_wr = 15, .iops_size = 65536 };

    strcpy(host.group, "theirs");
    ck_assert_int_eq(migbuf_limits_merge(&host, 1, &ours, &m), 0);
    ck_assert(m.bps_rd == 5 && m.iops_wr == 15 && m.iops_size == 65536 && m.bps_wr == 0 && m.group[0] == 0);
    ck_assert(m.iops_wr_max == 0 && m.iops_wr_max_length == 0);
    host.iops_wr = 3;
    ck_assert_int_eq(migbuf_limits_merge(&host, 1, &ours, &m), 0);
    ck_assert(m.iops_wr == 3);
    host = (struct migbuf_throttle_config){ .iops = 20, .bps = 1000 };
    ck_assert_int_eq(migbuf_limits_merge(&host, 1, &ours, &m), 0);
    ck_assert(m.iops == 0 && m.iops_wr == 10 && m.iops_rd == 10 && m.bps == 1000 && m.bps_wr == 0);
    host.iops = 100;
    ck_assert_int_eq(migbuf_limits_merge(&host, 1, &ours, &m), 0);
    ck_assert(m.iops == 0 && m.iops_wr == 15 && m.iops_rd == 85);
    ours.bps_wr = 300;
    ck_assert_int_eq(migbuf_limits_merge(&host, 1, &ours, &m), 0);
    ck_assert(m.bps == 0 && m.bps_wr == 300 && m.bps_rd == 700);
    host = (struct migbuf_throttle_config){ .iops_rd = 100, .iops_size = 4096 };
    ck_assert_int_eq(migbuf_limits_merge(&host, 1, &ours, &m), 0);
    ck_assert(m.iops_rd == 6 && m.iops_size == 65536); /* 4 KiB units became 16 times larger */
    ck_assert(migbuf_limits_host_flags(&host) == MIGBUF_GEOMETRY_NO_IOPS_SIZE);
    host.iops_rd = 0;
    ck_assert(migbuf_limits_host_flags(&host) == 0 && migbuf_limits_host_flags(NULL) == 0);
    ck_assert_int_eq(migbuf_limits_merge(NULL, 1, &ours, &m), MIGBUF_E_INVALID);
}
END_TEST

/* QEMU refuses totals beside read and write limits, also when they come from two disks. */
START_TEST(several_disks_are_merged_so_that_qemu_takes_it)
{
    struct migbuf_limits ours = { .iops_wr = 15, .iops_size = 65536 };
    struct migbuf_throttle_config m;
    struct migbuf_throttle_config hosts[2] = { { .bps = 1000 }, { .bps_rd = 300, .bps_wr = 900 } };

    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.bps == 0 && m.bps_rd == 300 && m.bps_wr == 500 && m.iops_wr == 15);
    hosts[1].iops_rd_max_length = UINT64_C(1000000000000001); /* QEMU does not take it */
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), MIGBUF_E_RANGE);
    hosts[1].iops_rd_max_length = 0;
    ours.bps_wr = UINT64_MAX;
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), MIGBUF_E_RANGE);
    ck_assert(m.bps_rd == 300 && m.bps_wr == 500); /* unchanged */
    ours.bps_wr = 0;
    hosts[0] = (struct migbuf_throttle_config){ .iops = 100 };
    hosts[1] = (struct migbuf_throttle_config){ .iops_rd = 30 };
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.iops == 0 && m.iops_wr == 15 && m.iops_rd == 30); /* the stricter one stays */
    hosts[1] = (struct migbuf_throttle_config){ .iops_rd = 99 };
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.iops_wr == 15 && m.iops_rd == 85);
    hosts[0] = (struct migbuf_throttle_config){ .bps = 1000, .bps_max = 4000, .bps_max_length = 2 };
    hosts[1] = (struct migbuf_throttle_config){ .bps = 3000, .bps_max = 3500 };
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.bps == 1000 && m.bps_max == 3500 && m.bps_max_length == 1 && !m.bps_rd && !m.bps_wr);
    hosts[1].bps_max = 0; /* no burst: none for both */
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.bps == 1000 && m.bps_max == 0 && m.bps_max_length == 0);
    hosts[1] = (struct migbuf_throttle_config){ .bps_wr = 700 }; /* a total with a burst, split */
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.bps == 0 && m.bps_rd == 500 && m.bps_wr == 500 && !m.bps_max && !m.bps_rd_max && !m.bps_wr_max);
    hosts[0] = (struct migbuf_throttle_config){ .iops_rd = 50, .iops_size = 8192 };
    hosts[1] = (struct migbuf_throttle_config){ .iops_rd = 80, .iops_size = 4096 };
    ours = (struct migbuf_limits){ .bps_wr = 5000, .iops_wr = 7 };
    ck_assert_int_eq(migbuf_limits_merge(hosts, 2, &ours, &m), 0);
    ck_assert(m.iops_rd == 50 && m.iops_size == 4096 && m.bps_wr == 5000 && m.iops_wr == 7);
    hosts[0] = (struct migbuf_throttle_config){ .iops_wr = 50, .iops_rd = 7, .iops_size = 8192 }; /* of 64 KiB 50 / 8, and 1 */
    ours = (struct migbuf_limits){ .iops_wr = 15, .iops_size = 65536 };
    ck_assert_int_eq(migbuf_limits_merge(hosts, 1, &ours, &m), 0);
    ck_assert(m.iops_wr == 6 && m.iops_rd == 1 && m.iops_size == 65536);
    hosts[0] = (struct migbuf_throttle_config){ .bps_wr = 90 };
    ours = (struct migbuf_limits){ .bps_wr = 50, .iops_size = 65536 }; /* a unit without a rate would be refused */
    ck_assert_int_eq(migbuf_limits_merge(hosts, 1, &ours, &m), 0);
    ck_assert(m.bps_wr == 50 && m.iops_size == 0);
    ck_assert_int_eq(migbuf_limits_merge(hosts, 0, &ours, &m), MIGBUF_E_INVALID);
    hosts[0] = (struct migbuf_throttle_config){ .bps = 1 };
    ck_assert_int_eq(migbuf_limits_merge(hosts, 1, &ours, &m), 0);
    ck_assert(m.bps == 0 && m.bps_rd == 1 && m.bps_wr == 1);
}
END_TEST

START_TEST(geometries_that_are_none)
{
    struct migbuf_geometry g = plain(0), bad;
    uint64_t bytes = 9;

    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
    ck_assert_int_eq(migbuf_geometry_check(NULL), MIGBUF_E_INVALID);
#define REFUSED(change, code)                                                                                           \
    bad = g, bad.change;                                                                                                \
    ck_assert_int_eq(migbuf_geometry_check(&bad), code);                                                                \
    ck_assert_int_eq(migbuf_limits_whole_disk(&bad, &bytes), code)
    REFUSED(flags = 8, MIGBUF_E_INVALID);
    REFUSED(reserved = 1, MIGBUF_E_INVALID);
    REFUSED(cluster_bytes = 65535, MIGBUF_E_INVALID);
    REFUSED(cluster_bytes = 256, MIGBUF_E_RANGE);
    REFUSED(subcluster_bytes = 4096, MIGBUF_E_INVALID);
    REFUSED(virtual_bytes = 0, MIGBUF_E_RANGE);
    REFUSED(virtual_bytes = UINT64_MAX, MIGBUF_E_RANGE);
    REFUSED(request_bytes = (UINT64_C(1) << 40) + 1, MIGBUF_E_RANGE);
    REFUSED(request_bytes = UINT64_MAX - 1, MIGBUF_E_RANGE);
    REFUSED(queue_bytes = (UINT64_C(1) << 50) + 1, MIGBUF_E_RANGE);
    REFUSED(extra_bytes = (UINT64_C(1) << 50) + 1, MIGBUF_E_RANGE);
    REFUSED(block_bytes = 4095, MIGBUF_E_INVALID);
    REFUSED(block_bytes = 1 << 25, MIGBUF_E_RANGE);
    g.cluster_bytes = 8192; /* QEMU makes subclusters of at least 512 bytes, 32 in a cluster */
    REFUSED(subcluster_bytes = 256, MIGBUF_E_INVALID);
    g.cluster_bytes = g.subcluster_bytes = 512;
    REFUSED(subcluster_bytes = 16, MIGBUF_E_INVALID);
    ck_assert(bytes == 9);
    g = plain(0);
    g.request_bytes = g.queue_bytes = g.extra_bytes = MIGBUF_NONE;
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
    g.request_bytes = g.queue_bytes = g.extra_bytes = g.block_bytes = 0;
    ck_assert_int_eq(migbuf_geometry_check(&g), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { growth_of_one_request, metadata_and_whole_disk, metadata_of_some_data, a_drain_pours_the_queue,
                                   aligned_is_to_a_unit, a_unit_is_no_part_of_a_block,
                                   what_is_not_known_counts_at_its_worst, metadata_of_scattered_units,
                                   budget_to_limits,      limits_to_worst_growth, merging_keeps_the_hosts_limits,
                                   several_disks_are_merged_so_that_qemu_takes_it,
                                   geometries_that_are_none, NULL };

    return unit_run("limits", tests, 10);
}
