/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_PRIORITY_H
#define MIGBUF_PRIORITY_H
/**
 * @file priority.h
 * The paper's priority: where a migration's shards lie in the stacks of the bins. Pure.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Mean of the stack positions of one migration over all bins it lies in, its own included (where it is 1, even with no
 * byte in it). The bottom of a bin is 1 and has the highest priority; full bins count. The nearer to 1, the more the
 * migration may write.
 *
 * Example: positions {1, 2, 3} -> 2, the paper's figure for migrations 0 and 2.
 * Source: paper, Σα_i = Σ_j α_i(b_j) / card(B).
 * Errors: MIGBUF_E_INVALID for NULL or n = 0, MIGBUF_E_RANGE for a position 0. Keeps nothing. Any thread.
 */
MIGBUF_API int migbuf_priority_mean(const uint32_t *positions, size_t n, double *mean);

#ifdef __cplusplus
}
#endif
#endif
