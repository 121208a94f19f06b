/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_GROWTH_H
#define MIGBUF_GROWTH_H
/**
 * @file growth.h
 * How much a file really grows per unit the throttle lets through. A record the caller keeps; pure functions.
 *
 * A unit is what one small write allocates (limits.h). It grows a file by one cluster at the worst aligned write, and
 * often by much less. Sixteen 4 KiB writes in a row fill one cluster between them, and a cluster written before does
 * not grow again. Who aims at 1 MB/s of growth may let 16 units pass then, where the worst case allows one.
 *
 * Targets follow this measured ratio. What keeps Ω, the volume of the overlays, from overflowing stays with the worst
 * case (the claims of buffer.h). So a small ratio needs a large Ω. Example: a budget of 1 MB/s at a ratio of 1/32 lets
 * 32 MB/s of units through, each of which may grow the file by three at the worst. With ticks of 1 s that are at most 2
 * s apart there have to be free, beside files and reserves:
 *
 *   claim    3 * 32 MB/s * (2 + 0.1 + 0.1) s = 211 MB
 *   pending  3 * 32 MB/s * 0.2 s             = 19 MB
 *
 * Else they are what limits the guest (MIGBUF_REASON_SPACE, MIGBUF_REASON_ROOM), and it grows its file more slowly than
 * it was allowed to.
 *
 *   ratio = max(last sample's, mean with a memory of 10 s) of
 *           grown bytes / (units * unit),  1 when nothing is known
 *
 * - It falls slowly and rises at once. A guest that changes from appending to random writes is slowed down after one
 *   sample.
 * - One unit of the last sample's growth does not count. A file grows by whole units, and of two samples of a guest
 *   that appends half a unit each one sees a whole one. Without that such a guest had half its budget.
 *
 * Units are not counted by QEMU. What the guest did bounds them from one side, what the limit allowed from the other:
 *
 *   units   = min(max(writes, written bytes / unit), allowed)
 *   allowed = credit + rate * interval
 *   credit  = min(allowed - units, rate * 0.1 + request), for the next sample;
 *             all of it when the rate was set anew
 *
 * - The second bound matters: virtio-blk merges queued neighbours, so 32 writes may have passed the bucket as one
 *   request.
 * - The credit is what QEMU's bucket gives before it has to be paid for: a tenth of a second and the last request as a
 *   whole. It is there once, and comes back only as far as the guest leaves units unused.
 * - Counting it in every sample would believe a merging guest that a second's growth of 16 units came from 49, and let
 *   it write three times its budget.
 * - Not counting it would hold a single request of more units than a sample allows for growth beyond the worst case.
 *
 * Link with -lmigbuf. Experimental (MIGBUF_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Read and copied freely, changed by the functions only. A record. */
struct migbuf_growth {
    double ratio; /**< growth per unit, as a part of the unit: 0.001 .. 3 */
    double units; /**< let through: sums with a memory of 10 s, in units */
    double grown; /**< by the file: sums with a memory of 10 s, in units */
    uint64_t file_bytes; /**< of the last sample */
    uint64_t writes; /**< of the last sample */
    uint64_t written_bytes; /**< of the last sample */
    uint64_t known; /**< samples seen */
    double credit; /**< left in the bucket, in units */
    double units_per_s; /**< the limit at the last sample */
};

/**
 * Nothing known: ratio 1. Errors: MIGBUF_E_INVALID. Any thread.
 * Test: test_growth, nothing_written_tells_nothing
 */
MIGBUF_API int migbuf_growth_init(struct migbuf_growth *g);

/**
 * One more sample: the file's allocated bytes and the guest's counters (query-blockstats), `interval_s` after the last
 * one.
 *
 *   units_per_s    the limit in force since the last sample; INFINITY for none, 0 while the guest is paused. Another
 *                  value than last time means that it was set, which empties QEMU's bucket
 *   request_units  the largest request (limits.h), in units, 0 upwards
 *
 * - The first sample only sets the marks. Counters that fall (a new QEMU) do the same.
 * - A file that shrank counts as 0.
 * - Less than one unit tells nothing: the ratio stays.
 * - While the guest is paused nothing passes the bucket: what grows then was poured by the `stop`. What was known
 *   fades: ratio, units and grown go back to where they began, with the same memory. A guest that was paused because a
 *   unit seemed to cost three would otherwise never be let run again.
 *
 * Example: 64 KiB units, 1 s, 160 writes of 4 KiB in a row, file + 655360 (10 clusters), no limit -> 10 / 160 = 0.0625
 * for this sample; the mean starts with 16 units of ratio 1: with m = e^-0.1, (16 m + 10) / (16 m + 160) = 0.140.
 *
 * Example of the credit: 16 units/s, requests of up to 32 units, the guest did 40 units in each of three seconds.
 * Counted are 40 of 33.6 + 16, then 9.6 + 16 = 25.6, then 16: together 33.6 + 3 * 16, which is what QEMU lets through.
 *
 * Errors: MIGBUF_E_INVALID (also for a record that migbuf_growth_init has not made), MIGBUF_E_RANGE (unit 0, interval
 * not positive, request INFINITY). Any thread.
 * Test: test_growth, appending_grows_less; test_growth, a_request_on_credit_is_one_request
 */
MIGBUF_API int migbuf_growth_sample(struct migbuf_growth *g, uint64_t unit_bytes, double interval_s,
                                    uint64_t file_bytes, uint64_t writes, uint64_t written_bytes, double units_per_s,
                                    double request_units);

#ifdef __cplusplus
}
#endif
#endif
