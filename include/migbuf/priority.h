/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_PRIORITY_H
#define MIGBUF_PRIORITY_H
/**
 * @file priority.h
 * The LX066 paper's priority: where a migration's shards lie in the stacks of the bins. Pure. A bin is a migration's
 * part of Ω on paper, a shard its bytes in one bin (bins.h). The paper is cited in full in throttle.h.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Mean of the stack positions of one migration over all bins it lies in. Its own bin is included, where it is 1 even
 * with no byte in it. Full bins count.
 *
 * The bottom of a bin is 1 and has the highest priority. The nearer to 1, the more the migration may write.
 *
 * Example: positions {1, 2, 3} -> 2, the paper's figure for migrations 0 and 2.
 * Source: LX066 paper, Σα_i = Σ_j α_i(b_j) / card(B): α_i(b_j) is the position of i in bin b_j, B the bins it lies in.
 * Errors: MIGBUF_E_INVALID for NULL or n = 0, MIGBUF_E_RANGE for a position 0. Keeps nothing. Any thread.
 * Test: test_priority, mean_of_the_figure
 */
MIGBUF_API int migbuf_priority_mean(const uint32_t *positions, size_t n, double *mean);

#ifdef __cplusplus
}
#endif
#endif
