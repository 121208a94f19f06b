/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_LIMITS_H
#define MIGBUF_LIMITS_H
/**
 * @file limits.h
 * From a budget of file growth to the limits QEMU understands, and back to the worst growth of given limits. Pure.
 *
 * QEMU limits what the guest writes. Ω, the volume of the overlays, fills with what the qcow2 file allocates. The two
 * differ by up to 128: a 512-byte write allocates a whole 64 KiB cluster. Hence two terms:
 *
 * - The *unit* is what one small write allocates (migbuf_geometry_unit), mostly one cluster.
 * - A is the worst growth per unit let through, in units (migbuf_limits_amplification).
 *
 * With iops_wr = n and iops_size = unit, QEMU counts a request as max(1, length / unit) units and lets n of them
 * through per second. So small and large requests are bounded alike.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Every write that reaches the throttle is a multiple of a unit and starts at a unit's boundary, or lies within one
 * unit. Then one unit grows the file by one unit, not three.
 *
 * Merged writes count as one: it takes a device that merges none (virtio-blk: request-merging=off). "Aligned to 4 KiB"
 * is not enough: a write of 66048 bytes counts 1.008 units of 64 KiB and grows the file by two.
 */
#define MIGBUF_GEOMETRY_ALIGNED 1u
/** The host cannot set iops_size (a monitor with six rates only): bytes and requests then share the budget. */
#define MIGBUF_GEOMETRY_NO_IOPS_SIZE 2u
/** The file may outgrow its disk: internal snapshots, or discard=unmap on a block device. It never fits as a whole. */
#define MIGBUF_GEOMETRY_NO_WHOLE 4u

/** No limit. Never sent to QEMU, which reads 0 as "unlimited". */
#define MIGBUF_UNLIMITED UINT64_MAX

/** In a field of struct migbuf_geometry where 0 means "not known": it is known to be none. */
#define MIGBUF_NONE UINT64_MAX

/**
 * One overlay and the device in front of it. A record: passed in arrays, never grows; `reserved` must be 0. All sizes
 * are in bytes. Fill it with migbuf_geometry_init, then say what you know.
 *
 * A field that is 0 because nobody filled it switches nothing off. It counts as the worst that is likely:
 *
 * | field | 0 counts as | because |
 * |---|---|---|
 * | block_bytes | cluster_bytes | a file system that allocates a whole cluster for a part of one (ZFS: 128 KiB records) |
 * | request_bytes | 41'943'040 | 32 requests of 1.25 MiB, Linux' largest, which virtio-blk merges into one |
 * | queue_bytes | 256 requests of 1.25 MiB, each with its own tables | virtio-blk's queue of 256 (virtio-scsi: 128) |
 * | extra_bytes | 16'777'216 | a LUKS header (2 MiB) and some persistent bitmaps |
 */
struct migbuf_geometry {
    uint64_t virtual_bytes;    /**< size of the guest's disk, 1 .. 2^60 */
    uint64_t cluster_bytes;    /**< qcow2 cluster, a power of two, 512 .. 2 MiB (LXD's default: 65536) */
    uint64_t subcluster_bytes; /**< the cluster; with extended_l2, for clusters of 16 KiB or more: cluster / 32 */
    uint64_t block_bytes;      /**< least that Ω's file system allocates, a power of two up to 16 MiB (migbuf_filesystem,
                                    cow.h); 0: not known */
    uint64_t request_bytes;    /**< largest request the throttle can see. virtio-blk merges adjacent queued writes:
                                    min(queue depth, 32) guest requests unless its request-merging is off. 1 .. 2^40;
                                    0: not known; MIGBUF_NONE */
    uint64_t queue_bytes;      /**< most that one drain may pour into the file (migbuf_limits_drain). 1 .. 2^50; 0: not
                                    known; MIGBUF_NONE: the guest stands before every drain */
    uint64_t extra_bytes;      /**< in the file beside the guest's data and qcow2's tables. 1 .. 2^50; 0: not known;
                                    MIGBUF_NONE: made by `qemu-img create -f qcow2` without encryption or bitmaps */
    uint32_t flags;            /**< MIGBUF_GEOMETRY_… */
    uint32_t reserved;         /**< 0 */
};

/**
 * A guest nobody knows, on a plain qcow2 overlay as LXD and Incus make it: clusters of 64 KiB without subclusters, and
 * all else not known (0). What is not known costs room: with these figures a guest needs 1.9 GB beside its file. Each
 * figure that is given lowers it. A refusal of migbuf_buffer_add says which one costs most.
 *
 * Example: migbuf_geometry_init(&g, 20 << 30); g.queue_bytes from migbuf_limits_drain(&g, 32, 65536): 128 KiB growth
 * and 64 KiB of tables for each of 32 -> 6'291'456.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE for virtual_bytes. Any thread.
 * Test: test_limits, what_is_not_known_counts_at_its_worst
 */
MIGBUF_API int migbuf_geometry_init(struct migbuf_geometry *g, uint64_t virtual_bytes);

/** What to send to QEMU for one migration; see migbuf_limits_from_budget(). A record. */
struct migbuf_limits {
    uint64_t iops_wr;   /**< units per second, 0: the limit is not used */
    uint64_t iops_size; /**< bytes per unit, 0: not used */
    uint64_t bps_wr;    /**< bytes per second, 0: not used */
};

/**
 * The throttle configuration of one disk exactly as `query-block` shows it and `block_set_io_throttle` takes it. Rates
 * are in bytes/s and requests/s, `_max` are the burst rates, `_length` their duration in s. 0 where absent. A record.
 */
struct migbuf_throttle_config {
    uint64_t bps; /**< reads and writes together, bytes/s */
    uint64_t bps_rd; /**< reads, bytes/s */
    uint64_t bps_wr; /**< writes, bytes/s */
    uint64_t iops; /**< reads and writes together, requests/s */
    uint64_t iops_rd; /**< reads, requests/s */
    uint64_t iops_wr; /**< writes, requests/s */
    uint64_t bps_max; /**< burst: reads and writes together, bytes/s */
    uint64_t bps_rd_max; /**< burst: reads, bytes/s */
    uint64_t bps_wr_max; /**< burst: writes, bytes/s */
    uint64_t iops_max; /**< burst: reads and writes together, requests/s */
    uint64_t iops_rd_max; /**< burst: reads, requests/s */
    uint64_t iops_wr_max; /**< burst: writes, requests/s */
    uint64_t bps_max_length; /**< how long such a burst of both may last, s */
    uint64_t bps_rd_max_length; /**< how long such a burst of reads may last, s */
    uint64_t bps_wr_max_length; /**< how long such a burst of writes may last, s */
    uint64_t iops_max_length; /**< how long such a burst of both may last, s */
    uint64_t iops_rd_max_length; /**< how long such a burst of reads may last, s */
    uint64_t iops_wr_max_length; /**< how long such a burst of writes may last, s */
    uint64_t iops_size; /**< bytes that count as one request; 0: a request is one */
    char group[256]; /**< the throttle group's name, "" when the disk is not throttled */
};

/**
 * Checks a geometry. Returns 0 or an error. Any thread.
 *
 * MIGBUF_E_INVALID:
 *
 * - NULL, an unknown flag, reserved not 0;
 * - cluster, subcluster or block no power of two;
 * - subcluster neither the cluster nor cluster / 32 of a cluster of at least 16 KiB;
 * - MIGBUF_GEOMETRY_ALIGNED with a request that is larger than a unit and no multiple of it.
 *
 * MIGBUF_E_RANGE: a size outside the range of its field.
 * Test: test_limits, geometries_that_are_none
 */
MIGBUF_API int migbuf_geometry_check(const struct migbuf_geometry *g);

/**
 * The unit: what one small write allocates, max(subcluster, block). A file system cannot allocate half a block: with 2
 * KiB subclusters on 4 KiB blocks a 2 KiB write grows the file by 4 KiB (measured: 2.02 times the units allowed).
 *
 * Example: cluster 65536, subcluster 2048, block 4096 -> 4096; block 0 (not known) -> 65536.
 * Errors: those of migbuf_geometry_check. Any thread.
 * Test: test_limits, a_unit_is_no_part_of_a_block
 */
MIGBUF_API int migbuf_geometry_unit(const struct migbuf_geometry *g, uint64_t *bytes);

/**
 * Bytes a file grows by, at most, for one guest write of `length_bytes`. Its new L2 tables and refcounts come on top.
 *
 *   aligned:    ceil(length / unit) * unit
 *   otherwise:  (floor((length - 2) / unit) + 2) * unit     for length >= 2, else one unit
 *
 * Example: 64 KiB clusters, unaligned: 4096 -> 131072; 65536 -> 131072; 65538 -> 196608. Aligned: 4096 -> 65536.
 * Source: ours, checked on QEMU 7.2: a write that straddles a boundary allocates on both sides. length 0 gives 0.
 * Errors: those of migbuf_geometry_check, MIGBUF_E_RANGE for length > 2^50. Any thread.
 * Test: test_limits, growth_of_one_request
 */
MIGBUF_API int migbuf_limits_request_growth(const struct migbuf_geometry *g, uint64_t length_bytes, uint64_t *bytes);

/**
 * A: the worst growth of the file per unit the throttle lets through, as a factor of the unit. 1 when aligned, else 3.
 *
 * Why 3: a request of one unit plus two bytes costs 1.00003 units and may touch three clusters. Source: ours. (The
 * reference text uses 16 or 128 for byte limits; in units 3 is enough for any length and alignment.) Metadata comes on
 * top: migbuf_limits_metadata. Errors: those of migbuf_geometry_check. Any thread.
 * Test: test_limits, aligned_is_to_a_unit
 */
MIGBUF_API int migbuf_limits_amplification(const struct migbuf_geometry *g, double *factor);

/**
 * All the metadata a fully written overlay can hold, rounded up: header, L1, one L2 table per (cluster / entry)
 * clusters, refcount table and blocks.
 *
 * - Entries are 8 bytes, 16 with extended_l2. Refcounts are 2 bytes.
 * - Where a block of Ω's file system is larger than a cluster, one block more: the last table may begin one.
 * - A refcount table that is full is moved to a place half as large again, and the old one's clusters may stay unused
 *   (block/qcow2-refcount.c, qcow2_refcount_area). So a table of more than one cluster counts 4.5 times.
 *
 * Example: 1 GiB in 64 KiB clusters: 2 L2 tables + 1 L1 + header + 1 refcount table + 1 refcount block = 6 clusters =
 * 393216 bytes (the file as created has four of them, sparse ones counted).
 * Source: docs/interop/qcow2.txt of QEMU. Errors: those of migbuf_geometry_check. Any thread.
 * Test: test_limits, metadata_and_whole_disk
 */
MIGBUF_API int migbuf_limits_metadata(const struct migbuf_geometry *g, uint64_t *bytes);

/**
 * Metadata that `data_bytes` of new data can bring along at most, where they lie next to each other. That is the L2
 * tables and refcount blocks they touch, one of each cut at either end, and all that the refcount table can take.
 *
 *   (ceil(data / table's reach) + ceil(data / block's reach) + 2 + refcount table) * cluster + last block
 *     a table reaches over cluster / 8 clusters (/ 16 with extended_l2), a refcount block over cluster / 2 clusters;
 *     the refcount table is one cluster where the whole disk needs no more, else as migbuf_limits_metadata counts it;
 *     the last block is block_bytes where that is more than a cluster, else 0: tables at the file's end may begin one
 *
 * Example: 64 KiB of data in 64 KiB clusters: (1 + 1 + 2 + 1) * 65536 = 327680.
 * The result may be more than the metadata of the whole disk (migbuf_limits_metadata): the smaller one is the caller's
 * to take. Errors as migbuf_limits_request_growth. Any thread.
 * Test: test_limits, metadata_of_some_data
 */
MIGBUF_API int migbuf_limits_metadata_of(const struct migbuf_geometry *g, uint64_t data_bytes, uint64_t *bytes);

/**
 * Metadata that so many units bring along when each lies where none was before. That is a table for each (or as many as
 * the unit reaches over, where it is larger than a table's reach), and the refcount blocks of all these clusters.
 *
 *   units * (tables + (clusters of a unit + tables) / (cluster / 2 - 1)) * cluster        tables = ceil(unit / reach)
 *
 * Example: 1000 units in 4 KiB clusters: 1000 * (1 + 2 / 2047) * 4096 = 4'100'002. Source: ours; without the refcount
 * blocks files were 0.05 % larger than claimed. Errors: those of migbuf_geometry_check, MIGBUF_E_RANGE. Any thread.
 * Test: test_limits, metadata_of_scattered_units
 */
MIGBUF_API int migbuf_limits_metadata_scattered(const struct migbuf_geometry *g, double units, double *bytes);

/**
 * The most an overlay can ever weigh: the virtual size in whole clusters, migbuf_limits_metadata and extra_bytes, in whole
 * blocks of Ω's file system (block_bytes 0: in whole clusters). 2^60 with MIGBUF_GEOMETRY_NO_WHOLE.
 *
 * Example: 783'872 bytes in clusters of 512 need 801'280; in blocks of 4096 the file takes 802'816.
 * Errors: those of migbuf_geometry_check. Any thread.
 * Test: test_limits, metadata_and_whole_disk
 */
MIGBUF_API int migbuf_limits_whole_disk(const struct migbuf_geometry *g, uint64_t *bytes);

/**
 * What one drain may pour into the file: every queued request at once, each with its own growth and L2 tables, and the
 * refcount blocks of all. QEMU suspends a disk's limits while it drains, and everything queued goes through
 * (block/block-backend.c, blk_root_drained_begin).
 *
 *   all  = in_flight * (growth + (ceil(growth / table's reach) + cut) * cluster)      growth = request_growth(request_bytes)
 *   all + (ceil(all / block's reach) + 1 + refcount table) * cluster + last block     cut = 1, 0 when aligned
 *
 * `in_flight`: the device's queue depth, or what the host knows to be the most in flight. 0 of either gives 0, which
 * is "not known" as a queue_bytes. A request in the
 * middle of two tables' reach makes both, hence `cut`.
 * Example: 32 aligned writes of 4 KiB, 64 KiB clusters: 32 * (65536 + 65536) + (1 + 1 + 1) * 65536 = 4390912. Source:
 * ours.
 *
 * **It holds for one drain.** Completing a commit (block-job-complete) of a *running* guest drains again and again
 * until nothing is dirty, and each time the queue has filled anew. Measured on QEMU 7.2, with 64 KiB x 32 in flight
 * under a limit of 30 units/s: an overlay grew from 31.9 to 67.1 MB within a second. So stop the guest before the job
 * is completed, and let it run when the job has ended: one drain, 36 MB then.
 *
 * Errors: those of migbuf_geometry_check, MIGBUF_E_RANGE beyond 2^50. Any thread.
 * Test: test_limits, a_drain_pours_the_queue; test_drain_qemu, a_drain_pours_the_queue_and_no_more
 */
MIGBUF_API int migbuf_limits_drain(const struct migbuf_geometry *g, uint64_t in_flight, uint64_t request_bytes,
                                   uint64_t *bytes);

/**
 * The limits that hold one migration's files to a growth of `growth_bytes_per_s`. They hold in the long run, on all its
 * disks together, when every unit grows the file by one unit.
 *
 * Worst cases are the business of the caller's reserve, not of this conversion: amplification, burst, one whole
 * request, metadata. A limit three times too low would be right for one hostile guest and wrong for all others.
 *
 *   iops_wr = floor(growth / unit), iops_size = smallest unit, bps_wr = 0;    unit: the largest of the disks
 *   MIGBUF_GEOMETRY_NO_IOPS_SIZE on any disk: bps_wr = floor(growth / 2), iops_wr = floor(growth / 2 / unit)
 *
 * | returns | *limits | when |
 * |---|---|---|
 * | 1 | the limits | |
 * | 0 | all zero | The budget is below one unit per second. Pause the guest: 0 would mean "unlimited" to QEMU. |
 *
 * growth MIGBUF_UNLIMITED or above 10^15 units is cut to 10^15, the largest value QEMU takes (THROTTLE_VALUE_MAX,
 * include/qemu/throttle.h).
 * Example: 1'000'000 bytes/s on 64 KiB clusters -> iops_wr 15, iops_size 65536; 65'535 bytes/s -> 0, pause.
 * Errors: those of migbuf_geometry_check; MIGBUF_E_INVALID for no disks. Any thread.
 * Test: test_limits, budget_to_limits
 */
MIGBUF_API int migbuf_limits_from_budget(const struct migbuf_geometry *disks, size_t count, uint64_t growth_bytes_per_s,
                                         struct migbuf_limits *limits);

/**
 * The most that a file can grow in `interval_s` seconds under given limits: the way back from what is in force.
 *
 *   A * unit * iops_wr * (interval + 0.1 s) + request_growth(request_bytes) + the metadata of that:
 *   migbuf_limits_metadata for the whole disk, or migbuf_limits_metadata_scattered of A units for each unit and
 *   migbuf_limits_metadata_of(request), whichever is less
 *
 * - 0.1 s is the burst QEMU's bucket allows when no `_max` is set (util/throttle.c: size avg / 10).
 * - Each further time the limit is *set* within the interval the bucket is emptied. Add A * unit * iops_wr * 0.1 +
 *   request_growth for it.
 * - Without iops_size the first term is bps_wr * (interval + 0.1 s) plus one cut cluster per request, two when
 *   unaligned.
 * - INFINITY in *bytes, and 0 returned, when the limits do not bound growth: bytes alone, or requests of any length, do
 *   not.
 *
 * Example: aligned, 64 KiB, 1 TiB disk, iops_wr 16, 1 s, request 4 KiB: 65536 * 17.6 * (2 + 2 / 32767) + 65536 +
 * 327680.
 * Errors: those of migbuf_geometry_check, MIGBUF_E_INVALID, MIGBUF_E_RANGE for a negative interval. Any thread.
 * Test: test_limits, limits_to_worst_growth; test_growth_qemu, growth_follows_the_budget
 * Test: test_growth_qemu, a_hostile_guest_stays_within_the_worst_case
 */
MIGBUF_API int migbuf_limits_worst_growth(const struct migbuf_geometry *g, const struct migbuf_limits *limits,
                                          double interval_s, double *bytes);

/**
 * MIGBUF_GEOMETRY_NO_IOPS_SIZE when the host limits read requests on this disk, else 0: add it to the disk's geometry.
 *
 * iops_size weighs reads as well, and a host's readers must not pay for our limit. Measured: with iops_rd 20, 30 reads
 * of 1 MiB take 1.4 s; with iops_size 65536 they take 23 s. NULL gives 0. Any thread.
 * Test: test_limits, merging_keeps_the_hosts_limits
 */
MIGBUF_API uint32_t migbuf_limits_host_flags(const struct migbuf_throttle_config *host);

/**
 * Our limits laid over the host's own: what block_set_io_throttle has to be told so that both hold. `hosts` are the
 * host's own limits of `count` disks (one or more) that are to share one throttle group.
 *
 * First the strictest of all disks:
 *
 * | of | is taken |
 * |---|---|
 * | each rate | the lowest |
 * | each burst | the lowest; none where one of the disks has that rate without a burst |
 * | iops_size | the smallest |
 *
 * QEMU refuses a total beside a read or write limit of the same kind (bytes or requests), also when they come from two
 * disks. So a total T becomes write w = min(ours, T / 2), at least 1, and read T - w, at least 1: the two never add up
 * to more than T. (T = 1 cannot be split: reads then keep 1.) Bursts of a total that was split are dropped.
 *
 * Then ours:
 *
 * - Writes get the lower of the two rates, and no burst, which would go around the budget.
 * - Reads stay as they are.
 * - Units larger than the host's own iops_size would count the host's reads too seldom. Its request rates are divided
 *   by the ratio, rounded down, at least 1.
 *
 * Example: disk A has bps 1000, disk B bps_rd 300 and bps_wr 900, ours is iops_wr 15 -> bps_rd 300, bps_wr 500 and
 * iops_wr 15. The result's group is "".
 * Errors: MIGBUF_E_INVALID, also for no disks; MIGBUF_E_RANGE for a number above 10^15, which QEMU does not take; *merged is
 * unchanged then. Any thread.
 * Test: test_limits, several_disks_are_merged_so_that_qemu_takes_it
 */
MIGBUF_API int migbuf_limits_merge(const struct migbuf_throttle_config *hosts, size_t count,
                                   const struct migbuf_limits *ours, struct migbuf_throttle_config *merged);

#ifdef __cplusplus
}
#endif
#endif
