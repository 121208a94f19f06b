/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_OUTLOOK_H
#define MIGBUF_OUTLOOK_H
/**
 * @file outlook.h
 * What will become of one migration: when it will be over, how much of Ω it will take at most, and whether
 * a mirror would serve its guest better.
 *
 * Ω is the volume of the overlays (buffer.h), U what a link carries (link.h), T the finish time and g, h growth and
 * demand of planner.h. A mirror sends a whole disk without an overlay; see migbuf_outlook_mirrored.
 *
 * Functions of a handle: one thread at a time. Nothing in here changes a buffer. Amounts are bytes and s.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/admission.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What is expected of one migration. `size` first: it may grow; the caller sets it. Seconds are from now on. */
struct migbuf_outlook {
    uint64_t size; /**< sizeof, set by the caller */
    double start_s;        /**< when it starts; 0: it runs, or starts now */
    double finish_s;       /**< when its files are deleted; INFINITY: not known (no U) */
    double finish_least_s; /**< nine of ten end later than this (a waiting one's may lie before start_s, which is a
                                forecast as well) … */
    double finish_most_s;  /**< … and nine of ten before this, if nobody else starts meanwhile; over 1 Gbit/s both held
                                in three of four only */
    double peak_bytes;       /**< the most its files will take of Ω */
    double peak_least_bytes; /**< nine of ten take at least this … */
    double peak_most_bytes;  /**< … and nine of ten at most this; over 1 Gbit/s both held in three of four only */
    double delivered;        /**< of what its guest wants to write, what the plan lets through: 0 .. 1 */
    double mirror_delivered; /**< what a mirror would let through: 0 .. 1 */
    int32_t mirror;          /**< 1: a mirror is recommended */
    int32_t reserved;        /**< 0 */
};

/**
 * A migration that is in the buffer. It is planned afresh with what was last sampled and told, whatever the buffer's
 * policy. Only policy `planner` learns what guests write; with the others it is what migbuf_migration.rate_bytes_per_s
 * said.
 *
 *   plan     as in planner.h, until what grows and what has to be sent fit each
 *            other. delivered = (g + floor) / (h + floor) where it was cut. While
 *            it drains, it is at most what planner.h lets it write then. Then
 *            again with everybody's rate times that: who is held back is over
 *            sooner
 *   finish   T of the second plan
 *   peak     file + what it grows by until then, as far as the plan lets it
 *   mirror   0: it runs already, with an overlay
 *
 * Example: 10 GB to send over 100 MB/s, a guest that writes nothing, Ω 10 GiB: finish 100 s (84 to 115), peak 0 (0 to
 * 0.2 GiB).
 *
 * ## The error bars
 *
 *   finish  max(0, 0.85 (start + T) - interval) .. 1.1 (start + T) + 5 s
 *           where start of one that runs is 0
 *   peak    file + 0.33 (peak - file) .. file + 1.9 (peak - file) + 0.02 Ω
 *           at most its whole disks, and Ω
 *
 * The factors are what became true divided by what was forecast, at the 10th and the 90th percentile. They come from
 * 12'000 forecasts in examples/simulate (planner, shortest first, five scenarios, seeds 1 to 20). How often both ends
 * held with other seeds (simulate --policy planner --admission sjf --seeds 20 --seed 21):
 *
 *                          end         file's size  over 1 Gbit/s
 *   runs                   87 to 94 %  85 to 92 %   74 and 77 %
 *   waits, asked at start  77 to 91    87 to 94     68 and 88
 *   waits, asked before    30 to 71    87 to 94     55 and 82
 *
 * - "Asked before" is when it is first told its earliest_s. It is better first come, first served (--admission fifo):
 *   80 to 89 % for the end, 67 over 1 Gbit/s.
 * - Over 1 Gbit/s a migration takes half an hour there.
 * - The bars grow with what is still to come: a migration that is nearly over is known well.
 * - When it ends is known five times better than how large its file gets. Guests change their mind and links do not.
 *
 * Not in the bars:
 *
 * - migrations that start later on the same link (all at once: 1.65 T instead of 1.1 T);
 * - migrations that, shortest first, ask later and start earlier;
 * - links that fail.
 *
 * Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_STRUCT, MIGBUF_E_INVALID, MIGBUF_E_NOMEM. O(n log n) for n that run.
 * Test: test_admission, outlook_of_one_that_runs
 */
MIGBUF_API int migbuf_outlook_running(const struct migbuf_buffer *b, uint64_t id, struct migbuf_outlook *o);

/**
 * How a disk would be mirrored: arguments of QEMU's blockdev-mirror (sync full), and what is known of the guest's writes.
 * All 0 is the worst that may be: what QEMU does when nothing is set, and one write at a time. Amounts are >= 0 and
 * finite.
 */
struct migbuf_outlook_mirror {
    uint64_t size;            /**< sizeof, set by the caller: it may grow */
    double buffer_bytes;      /**< buf-size: what the copy keeps in flight; 0: QEMU's own, 16 MiB */
    double granularity_bytes; /**< what one dirty bit stands for; 0: 65536 */
    double speed_bytes_per_s; /**< of the copy, as long as it writes; 0: not bounded */
    double request_bytes;     /**< r: mean bytes of a write; 0: unit * w / rate of migbuf_waiting */
    double depth;             /**< d: its writes in flight; 0: 1 */
    double link_bytes_per_s;  /**< what its link carries, where the buffer does not know: nobody uses it; 0: not known */
    int32_t background;       /**< 1: copy-mode background, held or changed at the end; 0: write-blocking from the start */
    int32_t reserved;         /**< 0 */
};

/**
 * A migration that waits and starts in start_s seconds (turn.earliest_s; INFINITY: everything is not known). It is
 * planned as if those that run had got as far as they will by then, and it began with them. Their files are grown, the
 * rest of their disks is smaller by that.
 *
 * The mirror is one of which nothing is known: migbuf_outlook_mirrored with NULL. Who can say more asks that one.
 *
 * Errors: MIGBUF_E_RANGE (a number below 0, or not in the range of its field), MIGBUF_E_INVALID (NaN, reserved),
 * MIGBUF_E_STRUCT, MIGBUF_E_NOMEM. O(n log n) for n that run.
 * Test: test_admission, outlook_of_one_with_weight_and_files
 */
MIGBUF_API int migbuf_outlook_waiting(const struct migbuf_buffer *b, const struct migbuf_waiting *w, double start_s,
                                      struct migbuf_outlook *o);

/**
 * The same, and what a mirror of the whole disk would do for its guest.
 *
 * Some guests cannot fit. Example: a flow of 100 MB/s, 100 GB to send, 20 MB/s to write on new ground. The file would
 * need 20 GB, so the plan would hold such a guest to a small part of what it wants to write. Mirroring its disk from the
 * start needs no overlay. How much it lets through depends on how it is set:
 *
 *   w      what the guest writes, in plain bytes/s
 *   r, d   bytes of a write, and how many are in flight
 *   U      min(flow, link * weight / weights of all on the link when it starts, its
 *          own too)
 *   B      max(buf-size, granularity)
 *
 *   write-blocking, each write crosses the link before the guest is told of it:
 *     mirror_delivered = min(1, max(U - speed, U d r / (d r + B)) / w)
 *
 *   background, a write makes whole granules dirty, which are sent later:
 *     n                = w max(r, granularity) / r          dirty bytes/s at most
 *     mirror_delivered = 1                                  where n < U
 *                      = (disk + D U / n) / (disk + 2 D)    else
 *     D                = min(disk_bytes, whole_bytes) / 2   dirty when all was sent once: nobody knows
 *
 * - Write-blocking is one queue, first come first served: the copy keeps B of it full, the guest d r. With QEMU's own
 *   buffer of 16 MiB next to nothing is left to the guest. How near real QEMUs came to it: mirror.h, migbuf_mirror_rates.
 *   speed bounds the copy: what is left of the link is the guest's.
 * - Background: the guest writes as without a mirror. Where it makes more dirty than the link carries, the copy never
 *   catches up. Then it is to be held in the end: to half of the link, in dirty bytes, until all is sent.
 *   Whoever knows the guest's working set may set whole_bytes to twice that.
 * - A granularity of 4 KiB keeps n small where r is below 64 KiB. It takes 32 MiB of memory for each TiB of disk.
 *
 * Plan and mirror hang on the link. A buffer knows nothing of one that nobody uses: tell link_bytes_per_s then.
 *
 * `mirror` is NULL: as all 0. A mirror is recommended (mirror 1) where it delivers at least a tenth of the demand more
 * than the plan does.
 *
 * Example: U 100 MB/s, w 20 MB/s, one write of 64 KiB at a time. Nothing set: 100 * 65536 / (65536 + 16 MiB) of 20 =
 * 0.0195. buf-size 64 KiB: 1. Background: 1.
 *
 * - LXD would have to mirror whole disks instead of copying volumes.
 * - A migration that is mirrored has no files, but takes part in its link. Add it with virtual_bytes of one cluster,
 *   queue_bytes 0 and drains_ahead 0, sample what remains, leave its decisions alone, remove it when it is over.
 *
 * Errors: those of migbuf_outlook_waiting, for the mirror's fields too.
 * Test: test_admission, a_mirror_for_who_cannot_fit; test_admission, a_mirror_as_it_is_set
 */
MIGBUF_API int migbuf_outlook_mirrored(const struct migbuf_buffer *b, const struct migbuf_waiting *w, double start_s,
                                       const struct migbuf_outlook_mirror *mirror, struct migbuf_outlook *o);

#ifdef __cplusplus
}
#endif
#endif
