/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_PLACEMENT_H
#define MIGBUF_PLACEMENT_H
/**
 * @file placement.h
 * How Ω is cut into bins, and where bytes that do not fit their own bin go. Pure. Ω is the volume of the overlays, Π
 * the size of a bin, N the number of migrations, Δ an amount to place. The LX066 paper is cited in full in throttle.h.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Cuts Ω into n bins by weight, to the byte: floor(Ω w_i / Σw), and one byte more for the first ones until all is given
 * out. `weight` NULL means equal bins. Weights are 1 .. 1'000'000, capacity 0 .. 2^62, n 1 .. 2^32.
 *
 * Not rounded to clusters: rounding down at each arrival would leave a full buffer with more bytes than bins.
 * Example: 100 over 3 -> 34, 33, 33; 100 over weights {2, 1, 1} -> 50, 25, 25.
 * Source: LX066 paper, Π(ω) = Ω / N: its rule for an arrival and its rule for a completion give the same; weights are
 * ours. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE. Any thread.
 * Test: test_placement, shares_are_omega_to_the_byte
 */
MIGBUF_API int migbuf_placement_shares(uint64_t capacity_bytes, const uint32_t *weight, size_t n,
                                       uint64_t *share_bytes);

/**
 * Pours `amount` over bins: the least used takes all it has room for, then the next (ties: lower index).
 *
 *   used[i], share[i]  bytes in bin i and its size; a bin with used >= share takes nothing
 *   placed[i]          gets what bin i takes (0 where nothing)
 *   *rest              what found no room; 0 whenever the total room is at least `amount`
 *   scratch            n indices, overwritten
 *
 * The whole amount goes into one bin whenever the least used one can hold it, as in the paper.
 * Example: amount 90, rooms {60, 30} -> {60, 30}. The paper's halving never ends on it: see the next function.
 * Source: ours, in place of "divide Δ in 2 … until we can move Δ". O(n log n). Errors: MIGBUF_E_INVALID,
 * MIGBUF_E_RANGE. Any thread.
 * Test: test_placement, pour_fills_the_least_used_first
 */
MIGBUF_API int migbuf_placement_pour(const double *used_bytes, const double *share_bytes, size_t n, double amount_bytes,
                                     size_t *scratch, double *placed_bytes, double *rest_bytes);

/**
 * The paper's own rule, for comparison: can Δ be placed in 2^k equal parts for some k <= max_halvings? Returns the k,
 * or MIGBUF_E_NOSPACE. Several parts may share a bin. max_halvings 0 .. 40 (beyond, doubles round). Any thread.
 *
 * Example: 90 over rooms {60, 30}: level k has 2^k parts and 2^k - 1 slots for every k -> MIGBUF_E_NOSPACE, although
 * exactly 90 is free. 30 over {60} -> 0.
 * Test: test_placement, the_papers_rules_fail_with_room_enough; test_golden, g10
 */
MIGBUF_API int migbuf_placement_literal_halving(const double *free_bytes, size_t n, double amount_bytes,
                                                uint32_t max_halvings);

/**
 * The paper's own rule at a completion: how many of a migration's shards, smallest first, go home whole? Returns that
 * number. Returns MIGBUF_E_NOSPACE where the paper marks the migration failed: not even the smallest one fits. `shards`
 * ascending, n >= 1. Any thread.
 *
 * Example: {80}, room 50 -> MIGBUF_E_NOSPACE, with 190 of 300 used.
 * Test: test_placement, the_papers_rules_fail_with_room_enough; test_golden, g12
 */
MIGBUF_API int migbuf_placement_literal_reclaim(const double *shard_bytes, size_t n, double home_room_bytes);

#ifdef __cplusplus
}
#endif
#endif
