/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_BINS_H
#define MIGBUF_BINS_H
/**
 * @file bins.h
 * The ledger of Ω: one bin per migration, on paper only. No file is cut or moved. Ω is the volume of the overlays, N
 * the number of migrations, S that of their shards, Π the size of a bin. The LX066 paper is cited in full in
 * throttle.h.
 *
 *   bin       a share of Ω
 *   shard     one migration's bytes in one bin: a claim on somebody's share
 *   home      a migration's own bin
 *   stack     what lies in a bin: its owner at the bottom, even with no byte in
 *             it, later shards on top. Position 1 is the bottom
 *   frozen    said of a bin that is full
 *   borrower  who has bytes in another's bin; the paper says guest
 *   lender    the owner of that bin; the paper says host
 *
 * Rules (LX066 paper, "Π: the partitioning function"; made exact as said):
 *
 * - All bins together are Ω to the byte (migbuf_placement_shares), in order of start.
 * - Growth goes home first, then into open bins that hold a shard already (least used first), then into the other open
 *   bins (least used first). Ties: the bin that started earlier.
 * - Home first at all times. When room appears at home, by whatever operation, the smallest shards come home, the last
 *   one in part. Where one homecoming makes room for another, migrations are served in order of start, round after
 *   round.
 * - Bins that got smaller are cut from the top of the stack, the owner last. What was cut goes home as far as there is
 *   room, and is then placed as growth is, migrations in order of start. The same when Ω changes.
 * - At the end of a migration its bin goes. What borrowers had in it counts, for the homecoming, as one more shard of
 *   each (on equal sizes last), and is then placed.
 *
 * Why home first after a shrink too: in three bins of 100, grow 0 by 130 and 1 by 90, shrink 0 by 20, grow 2 by 100.
 * Without it 1 would be put into bin 2 and 2 into bin 1, each the other's borrower.
 *
 * Hence, and tested as laws:
 *
 * - the files' sum is what lies in the bins;
 * - bytes find a place if and only if that many are free;
 * - a migration with bytes elsewhere has a full home;
 * - lending has no cycles.
 *
 * If files outgrow Ω all the same, the excess lies in the home bin (used > share) and migbuf_bins_excess() tells it.
 * The ledger never fails a migration.
 *
 * Ids are the host's, any 64-bit number. A handle is not locked: one thread at a time, also to look at it. Every operation
 * costs O((N + S) log (N + S)) at most, memory is O(N + S). While all files are at home and stay there, a start or an end
 * costs O(log N), and new shares are reckoned when somebody looks.
 *
 * Test: test_laws, ledger_follows_the_reference
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Largest size of Ω or of one migration's files. */
#define MIGBUF_BYTES_MAX (UINT64_C(1) << 62)

struct migbuf_bins;

/** One entry of one bin's stack. A record. */
struct migbuf_shard {
    uint64_t bin;      /**< id of the bin's owner */
    uint64_t id;       /**< whose bytes */
    uint64_t bytes;    /**< 0 only for an owner */
    uint32_t position; /**< 1 is the bottom */
    uint32_t reserved; /**< 0 */
};

/** One bin. A record. */
struct migbuf_bin {
    uint64_t id;          /**< its owner */
    uint64_t share_bytes; /**< its size */
    uint64_t used_bytes;  /**< everybody's bytes in it */
    uint32_t shards;      /**< height of the stack, owner counted */
    uint32_t frozen;      /**< 1 when full */
};

/**
 * What the paper's formula needs to know about one migration (the view). `size` first: it may grow.
 *
 *   B             its home and every bin with a shard of it
 *   G             those of B that are not frozen
 *   G not empty:  capacity E = sum of shares over G, used f = sum of everybody's bytes over G,
 *                 room = sum over G of (share - used) / height
 *   G empty:      it looks at the least used open bin as if it lay on top there: E, f of that bin,
 *                 room = (share - used) / (height + 1), and that position counts in the priority
 *   none open:    E = f = room = 0
 *   priority      mean position over B (frozen bins count)
 *   lenders       owners of B without itself, frozen bins included; plus the owner of the bin it looks at
 *
 * room is divided by height because everyone in a bin may grow there (a borrower's home is full).
 *
 * Example, the paper's figure: Ω 400, four migrations, b0{0:100} b1{1:45 2:22 0:28} b2{2:100} b3{3:10 0:22 2:17}. Each
 * is a stack from the bottom: in b1 lie 45 of migration 1, 22 of 2 and 28 of 0. Migration 0 has E 200, f 144, room
 * 18.667, priority 2.
 * Test: test_bins, view_of_the_papers_figure; test_golden, g8
 */
struct migbuf_bins_view {
    uint64_t size; /**< sizeof, set by the caller */
    uint64_t bytes;       /**< all its bytes */
    uint64_t home_bytes;  /**< of them at home */
    uint64_t share_bytes; /**< size of its bin */
    double capacity_bytes; /**< E */
    double used_bytes; /**< f */
    double free_bytes; /**< as said above */
    double priority; /**< a, from 1 on */
    uint32_t shards;      /**< bins it lies in, its own included */
    uint32_t prospective; /**< 1 when G is empty and it looks at another bin; 2 when no bin is open */
};

/**
 * Creates an empty ledger. capacity 0 .. MIGBUF_BYTES_MAX. The caller owns *out. Errors: MIGBUF_E_INVALID, _RANGE,
 * _NOMEM.
 * Test: test_laws, creation_fails_cleanly
 */
MIGBUF_API int migbuf_bins_new(uint64_t capacity_bytes, const struct migbuf_allocator *allocator,
                               struct migbuf_bins **out);

/** Ends a ledger. NULL is fine. */
MIGBUF_API void migbuf_bins_free(struct migbuf_bins *b);

/**
 * A migration starts with `bytes` of file already there. All bins get smaller; what they lose is placed again. weight:
 * 1 .. 1'000'000, its part of Ω is weight / sum of weights. Errors: MIGBUF_E_EXISTS, _RANGE, _NOMEM, _INVALID.
 *
 * Example: Ω 300, 0 has 130 of 150, 1 has 40; 2 starts: b0{0:100} b1{1:40} b2{2:0 0:30}.
 * Test: test_bins, arrival_cuts_from_the_top; test_golden, g9
 */
MIGBUF_API int migbuf_bins_start(struct migbuf_bins *b, uint64_t id, uint32_t weight, uint64_t bytes);

/**
 * Its files now weigh `bytes`, more or less than before. What there is less is taken from home where that is over its
 * share, then from its smallest shards, home last. Errors: MIGBUF_E_NOTFOUND, _RANGE, _NOMEM, _INVALID.
 * Test: test_bins, growth_goes_home_then_own_shards_then_pours; test_bins, shrinking_brings_others_home
 */
MIGBUF_API int migbuf_bins_set(struct migbuf_bins *b, uint64_t id, uint64_t bytes);

/**
 * It ended, its files are deleted. Never needs memory. Errors: MIGBUF_E_NOTFOUND.
 * Test: test_bins, the_end_of_one_moves_guests_home; test_golden, g13
 */
MIGBUF_API int migbuf_bins_end(struct migbuf_bins *b, uint64_t id);

/**
 * Ω is larger or smaller from now on. Errors: MIGBUF_E_IN_USE when it would be smaller than the bytes in it,
 * MIGBUF_E_RANGE, MIGBUF_E_NOMEM.
 * Test: test_bins, files_beyond_omega_are_booked_at_home
 */
MIGBUF_API int migbuf_bins_resize(struct migbuf_bins *b, uint64_t capacity_bytes);

/**
 * Number of migrations.
 * Test: test_laws, ledger_follows_the_reference
 */
MIGBUF_API size_t migbuf_bins_count(const struct migbuf_bins *b);
/**
 * Bytes by which the files exceed Ω: 0 as long as the throttle does its work.
 * Test: test_bins, files_beyond_omega_are_booked_at_home
 */
MIGBUF_API uint64_t migbuf_bins_excess(const struct migbuf_bins *b);
/**
 * Bytes of all files.
 * Test: test_bins, files_beyond_omega_are_booked_at_home
 */
MIGBUF_API uint64_t migbuf_bins_used(const struct migbuf_bins *b);

/**
 * The view of one migration. `view->size` is set by the caller (sizeof *view). Errors: MIGBUF_E_NOTFOUND, _STRUCT.
 * Test: test_bins, view_of_the_papers_figure
 */
MIGBUF_API int migbuf_bins_view(const struct migbuf_bins *b, uint64_t id, struct migbuf_bins_view *view);

/**
 * All bins in order of start. Returns how many there are. Writes them when `capacity` is enough for all, else nothing
 * (ask with capacity 0 first). Errors: MIGBUF_E_INVALID.
 * Test: test_bins, weights_divide_omega
 */
MIGBUF_API int migbuf_bins_list(const struct migbuf_bins *b, struct migbuf_bin *out, size_t capacity);

/**
 * All shards, bin by bin in order of start, each from the bottom to the top. Returns, capacity and errors as
 * migbuf_bins_list.
 * Test: test_golden, g8
 */
MIGBUF_API int migbuf_bins_shards(const struct migbuf_bins *b, struct migbuf_shard *out, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
