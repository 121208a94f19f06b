/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_OUTLOOK_H
#define MIGBUF_OUTLOOK_H
/**
 * @file outlook.h
 * What will become of one migration: when it will be over, how much of Ω it will take at most, and whether
 * write-through would serve its guest better.
 *
 * Ω is the volume of the overlays (buffer.h), U what a link carries (link.h), T the finish time and g, h growth and
 * demand of planner.h. Write-through is mirroring without an overlay; see migbuf_outlook_waiting.
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
    double mirror_delivered; /**< what write-through would let through: 0 .. 1 */
    int32_t mirror;          /**< 1: write-through is recommended */
    int32_t reserved;        /**< 0 */
};

/**
 * A migration that is in the buffer. It is planned afresh with what was last sampled and told, whatever the buffer's
 * policy. Only policy `planner` learns what guests write; with the others it is what migbuf_migration.rate_bytes_per_s
 * said.
 *
 *   plan     as in planner.h, until what grows and what has to be sent fit each
 *            other. delivered = (g + floor) / (h + floor) where it was cut. Then
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
 *   runs                   88 to 94 %  83 to 92 %   73 and 76 %
 *   waits, asked at start  77 to 91    87 to 95     68 and 88
 *   waits, asked before    30 to 71    87 to 94     53 and 82
 *
 * - "Asked before" is when it is first told its earliest_s. It is better first come, first served (--admission fifo):
 *   82 to 89 % for the end, 68 over 1 Gbit/s.
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
 * A migration that waits and starts in start_s seconds (turn.earliest_s; INFINITY: everything is not known). It is
 * planned as if those that run had got as far as they will by then, and it began with them. Their files are grown, the
 * rest of their disks is smaller by that.
 *
 * ## Write-through
 *
 * Some guests cannot fit. Example: a flow of 100 MB/s, 100 GB to send, 20 MB/s to write on new ground. The file would
 * need 20 GB, so the plan would hold such a guest to a small part of what it wants to write.
 *
 * Mirroring its disk from the start needs no overlay (QEMU: blockdev-mirror with sync full and copy-mode
 * write-blocking). But each write crosses the link before the guest is told of it, and takes turns with the copy:
 *
 *   mirror_delivered = min(1, share r / (r + 131072) / w)
 *     w       what it writes, in plain bytes/s
 *     r       unit * w / rate: bytes of a write, as far as is known
 *     share   min(flow, U * weight / weights of all on the link when it starts,
 *             its own too)
 *     131072  bytes of the copy that pass for each write of the guest
 *
 * 131072 is measured on QEMU 7.2: 100'000 to 200'000, with writes of 4 KiB and 64 KiB, 4 and 32 in flight, and links of
 * 8, 24 and 80 MB/s. Write-through is recommended (mirror 1) where that is at least a tenth of its demand more than
 * what the plan delivers.
 *
 * - Not in it: each write takes the round trip longer, all the time. LXD would have to mirror whole disks instead of
 *   copying volumes.
 * - In the model of examples/simulate (policy hybrid) it delivers more, and waits less, than the planner alone. That is
 *   no independent evidence for the formula: the model's mirror uses the same constant.
 * - A migration that is mirrored has no files, but takes part in its link. Add it with virtual_bytes of one cluster,
 *   queue_bytes 0 and drains_ahead 0, sample what remains, leave its decisions alone, remove it when it is over.
 *
 * Errors: MIGBUF_E_RANGE (a number below 0, or not in the range of its field), MIGBUF_E_INVALID (NaN, reserved),
 * MIGBUF_E_STRUCT, MIGBUF_E_NOMEM. O(n log n) for n that run.
 * Test: test_admission, write_through_for_who_cannot_fit
 */
MIGBUF_API int migbuf_outlook_waiting(const struct migbuf_buffer *b, const struct migbuf_waiting *w, double start_s,
                                      struct migbuf_outlook *o);

#ifdef __cplusplus
}
#endif
#endif
