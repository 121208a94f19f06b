/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_BUFFER_H
#define MIGBUF_BUFFER_H
/**
 * @file buffer.h
 * The handle a host drives: tell it what was measured, ask it once a second what to do.
 *
 *   buffer = new(Ω, options)
 *   each migration:  add(...) -> admitted or not; tick at once;
 *                    apply the first limit BEFORE the overlay exists
 *   every second:    sample(file sizes), link(speed);
 *                    decisions = tick(now); apply each that is not "keep"
 *   at the end:      when the overlay is deleted:
 *                    restore the host's limits, remove(id)
 *
 * Symbols on this page:
 *
 *   Ω      bytes    the volume that holds all overlays, and its capacity
 *   s      bytes    size of one migration's files, as last measured
 *   U      bytes/s  what a link carries (link.h)
 *   N, S            number of migrations, and of their shards (bins.h)
 *   unit   bytes    what one small write allocates (limits.h)
 *   A               worst growth of a file per unit let through (limits.h)
 *   T'     s        interval * late_factor + lag: longest time from a tick
 *                   until the decisions of the next tick have landed
 *   b      s        QEMU's burst at a set: 0.1 s for each disk
 *   d      bytes    one largest request on each disk, as growth
 *   floor  bytes/s  the agreed minimum; γ_SLA in the LX066 paper
 *   γ      bytes/s  the paper's name for the rate of one migration
 *   ε               the paper's small constant in that rate (throttle.h)
 *
 * "The LX066 paper" is cited in full in throttle.h. One that has bytes in another's bin is a borrower; the owner of
 * that bin is its lender. The paper says guest and host.
 *
 * ## What is promised: the files never outgrow Ω (I1)
 *
 * Each tick keeps room for all that can be written until the decisions of the *next* tick have landed. That holds
 * however the time between is divided:
 *
 *   time       measured     tick         landed       next tick    landed
 *              |            |            |            |            |
 *   writes at  | old limits | old limits | new limit  | new limit  |
 *   kept free  | unseen     | pending    | claim                   |
 *   for        | its age    | lag        | T', counted from the tick
 *
 *   unseen     growth(highest limit since then, time since the oldest
 *              measurement of its files)
 *   pending    growth(highest limit, lag, every set that may still land)
 *   claim      growth(new limit, T', one set on each disk)
 *   reserve    queue_bytes * (drains still ahead + 1): each drain pours the
 *              throttle's queue into the file. Of one that is known to stand
 *              those ahead pour nothing: 0
 *
 *   growth(w, t, sets) = A w t' + requests + tables
 *     w         what a limit lets through a second: units/s * unit
 *     t'        t, and 0.1 s for each time a bucket may be found or made empty
 *     requests  one whole request for each of these times
 *     tables    migbuf_limits_metadata_scattered of the units, and
 *               migbuf_limits_metadata_of the requests; or all metadata of
 *               its disks, whichever is less
 *
 * The last clamp makes the sum over all migrations fit:
 *
 *   sum of (s + unseen + reserve + pending + claim) <= Ω
 *
 * So sum s <= Ω until the next decisions have landed, and by induction always. The proof, step by step, is in
 * lib/README.md. What it takes for granted, and what each term includes:
 *
 * - QEMU enforces what was set. Its bucket gives 0.1 s at once (util/throttle.c). A set empties the bucket, and a
 *   change is set once on each disk.
 * - A drain pours no more than queue_bytes. Tell migbuf_buffer_phase when one is over. It counts until a measurement
 *   shows what it poured.
 * - The one more drain is the `stop` of a pause. A paused guest has had it. It must be there again, with room for all
 *   drains ahead, before the guest is resumed: the claim of the tick that lets it run holds them.
 * - A guest is known to stand when somebody said so (migbuf_buffer_outcome with DONE, or migbuf_buffer_resync) and its files
 *   were measured after the tick that followed. A host that never says so loses nothing but that room.
 * - A guest that stands is let run by a decision alone. Whoever must do it otherwise calls migbuf_buffer_resync, as if it ran
 *   already, and ticks before; the promise holds if that tick does not tell it to stop.
 * - Decisions land within `lag` of their tick. Or the host says within `lag` that one did not, and ticks again, so that
 *   one lands within T' of the last tick whose decision did.
 * - Ticks come at most late_factor intervals apart. They may come as early and as often as one likes, samples as
 *   seldom.
 * - The highest limit is the highest of all that may be in force: the last decision; each one before it, until `lag`
 *   after it was decided away; after an unknown outcome every one of them, until somebody knows better
 *   (migbuf_buffer_outcome, migbuf_buffer_resync). Where no limit is in force, it is what the device can write.
 * - All terms together are never more than what is missing to the whole disk. The reserve takes its part first, then
 *   pending, then the claim.
 * - An unchanged limit is not set again, because each set empties the bucket. A limit that is kept is never higher than
 *   the one its claim was made for.
 *
 * Four calls ask for more room than the last tick knew of. Each says whether the room is there already:
 *
 * | call | while the room is not there |
 * |---|---|
 * | migbuf_buffer_add, no files yet | The new one's decision is WAIT until the others have been cut, and until nobody would have to stand for its sake. Create no overlay before. |
 * | migbuf_buffer_phase, more drains ahead | It returns 1. Drain when the same call returns 0 after a tick. |
 * | migbuf_buffer_resize, to less | It returns 1. Make the volume smaller when stats say reach_bytes is at most its new size. |
 * | migbuf_buffer_add, files exist | The guest writes already. Tick at once, so that the others make room. |
 *
 * ## Which policy
 *
 * Use `planner` wherever the host can tell three things: what a guest has written (query-blockstats), how much is still
 * to send, and how fast the link is. It lets guests fill the buffer by the time their files are deleted. `paper` holds
 * them back because a bin looks full now. `paper` is there because its rule was agreed on, needs nothing but file
 * sizes, and can be followed on a sheet of paper. Both are held by the same clamps: the promise above does not depend
 * on a forecast.
 *
 * Sixteen VMs leave at once, in the model (simulate --scenario evac16 --seeds 40):
 *
 * | started | policy | writes let through | p99 slowdown |
 * |---|---|---|---|
 * | all at once | `paper` | 40 % | 5260 |
 * | all at once | `planner` | 53 % | 490 |
 * | one by one | `paper` | 91 % | 1470 |
 * | one by one | `planner` | 94 % | 40 |
 *
 * "One by one" is as admission.h says. Writes let through: a mean over the VMs. p99: one write in a hundred took longer
 * than so many times its time without a throttle. On real QEMUs, one by one, both let through about the same
 * (tests/README.md).
 *
 * ## How a budget comes about: policy `paper`
 *
 * In this order, for each migration:
 *
 *   1  h = migbuf_throttle_rate(view of its bins): the paper's curve, as
 *          growth of the file
 *   2  c = U * weight / sum of weights on its link; in MIRROR half of
 *          min(flow limit, that); INFINITY before the first link sample
 *   3  x = min(h, c, hard cap): the cap is of the view's room
 *   4  y = migbuf_throttle_lenders(x): nobody above its lenders
 *   5  z = max(floor, y), then all are cut to one common level where the
 *          claims above do not fit; nobody below its smallest limit where
 *          the smallest limits of all fit
 *   6  units/s = z / (ratio * unit): the ratio is measured (growth.h)
 *   7  below one unit/s, or below one largest request in max_stall: pause,
 *          and take turns
 *
 * - In 6 targets follow the ratio; claims stay with the worst case.
 * - In 7 a pause is not for a moment, because `stop` costs a drain.
 * - A migration needs no throttle while its base is copied if it lies in its own bin alone and finds room there for all
 *   that is missing of its disks. Then z = INFINITY, cut by the common level only; its claim is all that is missing.
 * - In z, a claim's slope is the slope in w divided by the ratio. The device's limit is device * ratio. The hard cap is
 *   migbuf_throttle_hard_cap(room, A / ratio, T', b, d / (A / ratio)).
 * - The ratio is taken over all disks of a migration, from tick to tick at least 50 ms apart, with the largest unit.
 *   Its rate is the units/s in force (INFINITY without a limit), its request is d / unit.
 * - The ratio stays 1 where bytes and requests are limited side by side (MIGBUF_GEOMETRY_NO_IOPS_SIZE).
 * - The ratio counts as 1 in MIRROR. Rewrites grow nothing there but have to be sent again, and a share of the link
 *   divided by a small ratio would never let the mirror catch up.
 * - Units are at most 10^15 and at most (2^64 - 1) / unit.
 *
 * Differences from the paper, besides those in throttle.h:
 *
 * | what differs | why |
 * |---|---|
 * | Budgets are growth, not guest bytes. | Under a byte limit the file grows 16 times faster with 4 KiB writes. |
 * | The U/N term is halved in MIRROR. | A guest that dirties at exactly the link's share never drains. |
 * | The floor (γ_SLA) gives way when it does not fit. | Ten guests at ε overflow any buffer in the end. |
 * | The common level takes nobody's smallest limit while all of these fit. | With units of 64 KiB and of 1 MiB the second would stand at a level that is 16 times what the first needs. (Ours.) |
 * | The common level is a budget, not a claim. | But for its smallest limit, a borrower stays at or below its lender also when disks differ in geometry. A level on claims puts a borrower with small requests above its lender. (Ours.) |
 *
 * ## How a budget comes about: policy `planner`
 *
 * In this order, at each tick:
 *
 *   1  learn   what each guest wrote and what its files grew by, into the
 *              forecast (forecast.h), with the limit that was in force
 *   2  U       as told, held; planned with its mean of the last minute
 *              (link.h)
 *   3  plan    migbuf_planner_tick over all: Ω without the reserves; weights,
 *              floor and interval as in the options, floors 3
 *   4  z       the plan's rate, then bounded as below
 *   5  level   the common level as above, with ratio 1: rates are of what is
 *              written, so growth is what they bound
 *
 * - Written is max(writes * unit, written_bytes) of each disk, summed, from tick to tick at least 50 ms apart. What
 *   grew was written: written is never taken for less.
 * - Counters are since the VM started, so a migration's first sample only sets the marks. But what its files hold then
 *   was written.
 * - V, what the file can still grow by, is at most what is missing of its disks.
 * - The largest flow limit on a link counts for all on it.
 * - remaining_bytes before the first sample is the disks as a whole. When a migration begins to drain it is its files.
 * - z without iops_size is the rate as bytes and the same as requests, so twice as a claim.
 * - z is what is in force already, where the plan is within hysteresis_percent of it.
 * - z is at most (Ω - files) / (A * W), W = T' + b, which nobody can exceed. It is at most a sixteenth of that before
 *   anything was seen of the migration, and where the plan lets it explore. It is never less than a guest needs to run.
 *
 * Bins are kept for the picture and decide nothing: there is no lender to stay below.
 *
 * ## Turns: a rate below the smallest limit
 *
 * QEMU knows no limit below one request a second. Where Ω does not hold even that for everybody until their files are
 * gone, guests stand, and each writes for one tick, in turn (both policies; ours: because otherwise all would stand until
 * the first file is gone). P is how long a guest is to stand: four fifths of max_stall_ms less T' and one interval, or four
 * fifths of half of max_stall_ms if that is more.
 *
 * - Four fifths: turns may come by a quarter less often before the promise is broken.
 * - One interval: a write from the beginning of a turn is poured by the stop at its end, and its guest hears of that in
 *   the next turn.
 *
 *   1  away    until its files are gone: (left to send + files) / its share of
 *              the link beside all that do not wait for their room, or the
 *              plan's finish where that is sooner; 100 P at most. Where no link
 *              sample came: unknown, and nothing is kept
 *   2  runs    what it grows by until then under its smallest limit; with
 *              `planner` at most what the plan expects of it
 *   3  turn    what one turn takes: queue + smallest limit * interval
 *   4  turns   that it needs in a time t: (stood so far + t) / P, rounded up,
 *              less one, which is for the end; one more while it runs
 *   5  stands  whose runs, and a queue more if it is paused, are more than its
 *              turns (at least one) until away
 *   6  kept    at the worst of all times when somebody is away: what runs and
 *              turns take until then; what the largest claim is more than its
 *              turn; less files and reserves that are gone before
 *   7  level   is sought in what is free less kept, but takes nobody's smallest
 *              limit
 *   8  stand   they do if kept is more than what is free. Once somebody stands,
 *              until it is not even with half of P. Where it is more with P, P
 *              grows by quarters until it fits
 *   9  turn    who has stood for P, longest first, if its claim fits beside all
 *              that run: its smallest limit, until the next tick
 *
 * - Who waits for its room is let in when nobody would have to stand for its sake: there is room for what all with it take by 6,
 *   each by its runs and nobody by turns, with all that wait on their links. Where nobody else is there, its own least room is
 *   enough. Outside it writes to its base as it likes.
 * - In 6, who runs and is to stand gives back its reserve; one at a time needs it, for its turn.
 * - Whose budget is below its smallest limit although nobody has to stand by 8 (it does not fit yet) stands as well, and has
 *   its turn by 9. Who runs goes on then, after all that have their turn, if what is left holds its claim and what is kept;
 *   not where its link is unknown.
 * - The end of a pause for a turn does not wait for the refill of what `stop` poured: its turns were counted with it.
 * - Of more than 32 migrations, every (N / 8 + 1)th time is looked at in 6.
 *
 * Example: four disks of 256 MiB over 4 MB/s are away in 268 s. The smallest limits of all, two units/s of 64 KiB each,
 * would grow the files by 141 MB until then. Ω is 32 MB. A turn takes 393 kB with a queue of 256 KiB. With ticks every
 * second none stands for more than 30 s.
 *
 * Test: test_buffer, no_level_is_below_a_smallest_limit_that_fits
 * Test: test_buffer, where_not_all_can_write_they_take_turns; test_buffer, who_would_make_others_stand_is_not_let_in
 * Test: test_buffer, turns_come_as_promised_where_no_link_is_known
 *
 * ## Threads, time, cost
 *
 * One thread at a time per handle. Same build, same calls: same decisions. Time is an argument, in ms of any monotonic
 * clock. A tick costs O((N + S) log (N + S)). It allocates only when the number of shards reached a new high.
 *
 * Test: test_laws, files_never_outgrow_the_buffer; test_laws, nor_does_a_plan
 * Test: test_buffer_model, files_never_outgrow_omega; test_drain_qemu, files_stay_within_a_small_buffer
 *
 * Link with -lmigbuf.
 */
#include "migbuf/bins.h"
#include "migbuf/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct migbuf_buffer;

/** The LX066 paper, repaired. */
#define MIGBUF_POLICY_PAPER 1
/** The LX066 paper as printed, as byte limits, without any clamp of ours: for comparisons. It overflows. */
#define MIGBUF_POLICY_LITERAL 2
/** Plans growth against the time when each file will be deleted (planner.h). Recommended: see above. */
#define MIGBUF_POLICY_PLANNER 3

/** The base image is being copied; nothing of the overlay is sent yet. */
#define MIGBUF_PHASE_BASE 1
/** The overlay is being mirrored, then RAM: what the guest writes has to be sent. */
#define MIGBUF_PHASE_MIRROR 2

/* What to do with one migration. Test: test_buffer, a_full_buffer_pauses_and_room_resumes */
#define MIGBUF_ACTION_KEEP 1       /**< nothing. Do not send the limit again: each set empties QEMU's bucket */
#define MIGBUF_ACTION_LOWER 2      /**< set the new, lower limits (or the first ones) */
#define MIGBUF_ACTION_RAISE 3      /**< set the new, higher limits so that a waiting write feels them */
#define MIGBUF_ACTION_PAUSE 4      /**< stop the guest: its budget is below one unit/s. A drain: see queue_bytes */
#define MIGBUF_ACTION_RESUME 5     /**< set the limits, then let it run */
#define MIGBUF_ACTION_CANNOT_FIT 6 /**< as PAUSE; and Ω cannot hold even the reserves: extend it or abort somebody */
#define MIGBUF_ACTION_REARM 7      /**< set the same limits once more (migbuf_disk_rearm): see max_stall_ms */
#define MIGBUF_ACTION_WAIT 8       /**< not yet: leave the guest alone and do not create its overlay; see add */

/* What determined the budget. */
#define MIGBUF_REASON_RATE 1    /**< the policy's curve */
#define MIGBUF_REASON_SHARE 2   /**< its share of the link */
#define MIGBUF_REASON_ROOM 3    /**< the hard cap of the bins it lies in */
#define MIGBUF_REASON_LENDER 4    /**< a migration that lends it room has no more */
#define MIGBUF_REASON_FLOOR 5   /**< the agreed minimum */
#define MIGBUF_REASON_SPACE 6   /**< what is free in Ω: everybody was cut to one level, or to its smallest limit */
#define MIGBUF_REASON_RESERVE 7 /**< Ω minus files is less than the reserves for drains */
#define MIGBUF_REASON_WAIT 8    /**< paused a moment ago: it stays so, because `stop` itself costs a drain */
#define MIGBUF_REASON_WHOLE 9   /**< what is missing of its disks fits its bin: as good as unlimited */
#define MIGBUF_REASON_PLAN 10   /**< planner: what it may grow by until its files are deleted, shared fairly with all */
#define MIGBUF_REASON_FREE 11   /**< planner: all is well without a throttle for this one */
#define MIGBUF_REASON_FIRST 12  /**< planner: little is known of it yet, so it begins with a part of what is free */
#define MIGBUF_REASON_ADMISSION 13 /**< its room is not free yet: the others have not been cut so far, or somebody
                                     would have to stand for its sake until one of them is away */
#define MIGBUF_REASON_UNSEEN 14 /**< files were not sampled, and may have grown by all that is free */
#define MIGBUF_REASON_TURN 15   /**< not even the smallest limits of all fit until their files are gone: it waits for
                                     its turn, or has it */

/**
 * The name of an action: "keep", "lower", …; "unknown" for another number. Static storage, never NULL. Any thread.
 * Test: test_error, every_action_and_reason_has_a_text
 */
MIGBUF_API const char *migbuf_action_text(int32_t action);
/**
 * A sentence for an administrator's log; "unknown" for another number. Static storage, never NULL. Any thread.
 * Test: test_error, every_action_and_reason_has_a_text
 */
MIGBUF_API const char *migbuf_reason_text(int32_t reason);

/**
 * Options of a buffer. Fill with migbuf_buffer_options_init, then change what you like. `size` first: it may grow.
 * Test: test_buffer, no_lower_limit_makes_a_request_wait_too_long
 */
struct migbuf_buffer_options {
    uint64_t size; /**< sizeof: set by _init, or by the caller of a function that fills it */
    int32_t policy;                /**< MIGBUF_POLICY_…; PLANNER */
    uint32_t interval_ms;          /**< how often the host will tick; 1000; 10 .. 60'000 */
    uint32_t late_factor_percent;  /**< ticks may come this much later and Ω still holds; 200; 100 .. 1000 */
    uint32_t lag_ms;               /**< upper bound from a tick to its lower limits landing in QEMU, or to the tick that
                                        follows when one did not; 100; 0 .. 60'000. A raise may take longer: the old
                                        limit stands until then. A pause may, too: `stop` halts the CPUs first, and what
                                        its drain pours is in the reserve */
    uint32_t hysteresis_percent;   /**< a raise below this is not sent. A lower goes half as much further, so that what
                                        is in force is kept for budgets a little to either side; 10; 0 .. 50 */
    uint32_t min_pause_ms;         /**< shortest pause; 2000. Longer where refilling what `stop` poured takes longer,
                                        but that no longer than P, from one turn to the next */
    uint32_t max_stall_ms;         /**< longest wait of a guest's largest request. A limit that would make it longer
                                        is not set: the guest is paused instead. Who is paused writes again before
                                        that is over, as long as Ω holds turns of all (see above); where it does not,
                                        start fewer at once (admission.h). A wait for what grew no file is let off, and the decision is REARM:
                                        zeroing counts at full length, so that a zeroed GiB is 18 minutes at 15 units/s.
                                        30'000, a quarter of Linux's hung-task warning; 0 is taken for it; UINT32_MAX: as
                                        long as it takes */
    uint32_t reserved;             /**< 0 */
    uint64_t floor_bytes_per_s;    /**< γ_SLA as growth: 160'000, the paper's 10 kB/s by 4 KiB in 64 KiB clusters. Used
                                        is at least what the guest needs to run: two units/s, and its largest request
                                        within max_stall_ms */
    uint64_t epsilon_bytes;        /**< throttle.h: softens the pole at a full bin; 10'000; 1 .. 2^62 */
    uint64_t epsilon_bytes_per_s;  /**< throttle.h: the rate of a full bin; 10'000; 0 .. 2^62 */
    uint64_t tau_ms;               /**< throttle.h: in which a bin's bytes become a rate; 1000; 1 .. 2^62 */
};

/**
 * Fills *options with the defaults said above. `size` is the caller's sizeof. Errors: MIGBUF_E_STRUCT,
 * MIGBUF_E_INVALID.
 * Test: test_laws, creation_fails_cleanly
 */
MIGBUF_API int migbuf_buffer_options_init(struct migbuf_buffer_options *options, uint64_t size);

/** A new migration. Fill with migbuf_migration_init. `size` first: it may grow. */
struct migbuf_migration {
    uint64_t size; /**< sizeof: set by _init, or by the caller of a function that fills it */
    uint64_t id;                        /**< the host's, any number */
    uint64_t link;                      /**< which link it uses: migrations with the same number share one U */
    uint64_t flow_bytes_per_s;          /**< most one flow gets on that link, 0: as much as there is */
    uint64_t device_write_bytes_per_s;  /**< most the guest's device can allocate; 0: unknown. A guest without a limit
                                             counts with 4'000'000'000 then */
    uint64_t file_bytes;                /**< what its overlays weigh already, up to 2^56; counts for disk 0 until that
                                             is sampled. 0: they do not exist yet */
    uint32_t weight;                    /**< an administrator's weight, 1 .. 1'000'000; 100. Twice the weight: twice the
                                             bin and twice the share of the link */
    uint32_t drains_ahead;              /**< drains until its files are deleted; 4 (snapshot, mirror, cancel, stop) */
    uint64_t rate_bytes_per_s;          /**< planner: what the guest wrote before, in unit bytes/s (forecast.h). 0:
                                             unknown. It begins with a part of what is free then (see above), and what
                                             it writes in the first interval that is seen counts as its rate */
};

/**
 * Fills *m with the defaults said above, else 0. `size` is the caller's sizeof. Errors: MIGBUF_E_STRUCT,
 * MIGBUF_E_INVALID.
 * Test: test_buffer, what_is_refused_changes_nothing
 */
MIGBUF_API int migbuf_migration_init(struct migbuf_migration *m, uint64_t size);

/**
 * Measured for one overlay. A record. Counters are since the VM started, and 0 when not known.
 *
 * Leave the counters 0 until the overlay is on top: what a guest writes to its base grows no overlay, and would be
 * learnt as growing nothing. Once they were told, 0 means that nobody could read them this time. Nothing is learnt then
 * from that sample's file either, until they are told again.
 */
struct migbuf_sample {
    uint64_t id; /**< the migration's */
    uint32_t disk;            /**< index into the disks given to add */
    uint32_t reserved;        /**< 0 */
    uint64_t file_bytes;      /**< allocated bytes of the overlay now, up to 2^56; may be less than before */
    uint64_t written_bytes;   /**< guest bytes written (query-blockstats wr_bytes) */
    uint64_t writes;          /**< guest writes (wr_operations) */
    uint64_t remaining_bytes; /**< BASE: base image still to copy; MIRROR: overlay still to send. 0: not known, what was
                                   told last stays (at first: all); MIGBUF_NONE: none */
};

/** What to do with one migration. A record. */
struct migbuf_decision {
    uint64_t id; /**< the migration's */
    int32_t action;               /**< MIGBUF_ACTION_… */
    int32_t reason;               /**< MIGBUF_REASON_… */
    uint64_t growth_bytes_per_s;  /**< what the limits let through, in units; 0 when paused */
    struct migbuf_limits limits;  /**< the same as QEMU's limits, for all disks of the VM together; 0 when paused */
};

/**
 * How a budget came about. `size` first: it may grow. Rates are growth, bytes/s. The letters are those of the steps
 * above. What the curve looked at is migbuf_bins_view() of migbuf_buffer_bins().
 */
struct migbuf_buffer_view {
    uint64_t size; /**< sizeof: set by _init, or by the caller of a function that fills it */
    double curve;                  /**< h */
    double share;                  /**< c, INFINITY without a link sample */
    double hard_cap;               /**< from the room of its bins */
    double clamped;                /**< x = min of the three */
    double below_lenders;                 /**< y, after its lenders */
    double budget;                 /**< z after floor and common level, before rounding to units */
    uint64_t in_force_bytes_per_s; /**< what the last decision set; MIGBUF_UNLIMITED before the first */
    uint64_t reserve_bytes;        /**< kept free for its drains */
    uint64_t claim_bytes;          /**< what its files may grow by until the next decision: a write threshold */
    double ratio;                  /**< measured growth per unit: growth.h, planner: forecast.h */
    uint64_t link; /**< as given to add */
    int32_t phase; /**< MIGBUF_PHASE_… */
    int32_t paused;                /**< 1 while the last decision was a pause */
    int32_t reason; /**< MIGBUF_REASON_… */
    int32_t reserved; /**< 0 */
    double finish_s;              /**< planner: T, until its files are deleted, s from the last tick; else INFINITY */
    double demand; /**< planner: h of planner.h; else 0 */
    double cap; /**< planner: R; else 0 */
    double planned; /**< planner: g; else 0 */
};

/** The whole buffer at its last tick. `size` first: it may grow. */
struct migbuf_buffer_stats {
    uint64_t size; /**< sizeof: set by _init, or by the caller of a function that fills it */
    uint64_t capacity_bytes; /**< Ω */
    uint64_t used_bytes;     /**< sum of all files */
    uint64_t reserve_bytes;  /**< kept free for drains */
    uint64_t pending_bytes;  /**< may still come under the limits before this tick's */
    uint64_t grantable_bytes; /**< Ω minus all three, at least 0: what the last tick could give away */
    uint64_t excess_bytes;   /**< files beyond Ω; 0 unless something outside broke the promise */
    uint64_t migrations; /**< how many there are */
    uint64_t ticks; /**< since it was made or loaded */
    uint64_t late_ticks;     /**< ticks that came after late_factor intervals: I1 was on its own meanwhile */
    double level;            /**< common level of the last tick, INFINITY when nothing was cut. Whose smallest limit is above
                                  it has that, where these of all fit */
    uint64_t unseen_bytes;   /**< most that files can have grown between their measurement and the last tick */
    uint64_t reach_bytes;    /**< most that all files can weigh before the next decisions have landed: with drains, and
                                  with refusals of the last ones that nobody has answered yet */
};

/**
 * Creates a buffer over Ω. capacity 0 .. MIGBUF_BYTES_MAX. `options` NULL: defaults. The caller owns *out and gives it
 * to migbuf_buffer_free. Errors: MIGBUF_E_INVALID, _RANGE, _STRUCT, _NOMEM.
 * Test: test_laws, creation_fails_cleanly
 */
MIGBUF_API int migbuf_buffer_new(uint64_t capacity_bytes, const struct migbuf_buffer_options *options,
                                 const struct migbuf_allocator *allocator, struct migbuf_buffer **out);

/** Ends a buffer. NULL is fine. */
MIGBUF_API void migbuf_buffer_free(struct migbuf_buffer *b);

/**
 * Admits a migration with 1 .. 64 disks, all of whose overlays live in Ω. The disks are copied.
 *
 * - It is refused with MIGBUF_E_NOSPACE when its files, its reserve and its smallest limit do not fit beside those of
 *   the others. error->need and error->have tell the bytes. error->caution is the part of `need` that is there only
 *   because queue_bytes is not known.
 * - Nothing is lost by asking again later. Policy `literal` admits all.
 * - Where its overlays do not exist yet (file_bytes 0), create them when a decision has set its first limits, not
 *   before. Until the others have been cut so far that its room is free, and nobody would have to stand for its sake, the
 *   decision is WAIT. That may last until one of them is away.
 *
 * Other errors: MIGBUF_E_EXISTS, _RANGE, _INVALID, _STRUCT, _NOMEM.
 * Test: test_buffer, nobody_comes_in_without_a_reserve; test_buffer, who_is_new_waits_for_its_room
 */
MIGBUF_API int migbuf_buffer_add(struct migbuf_buffer *b, const struct migbuf_migration *m,
                                 const struct migbuf_geometry *disks, size_t disk_count, struct migbuf_error *error);

/**
 * Where a migration is now, and how many drains are still ahead; from the next tick on.
 *
 * | done so far | phase | drains ahead |
 * |---|---|---|
 * | nothing | BASE | 4: snapshot, start of the mirror, its end, stop |
 * | the snapshot | BASE | 3 |
 * | the mirror has begun | MIRROR | 2 |
 * | the guest is stopped for the switch-over | MIRROR | 1 |
 * | the mirror has ended | MIRROR | 0 |
 * | way back, before the merge begins | MIRROR | 1: its start. The guest stands when it is completed |
 * | an overlay that is made and merged, without a mirror | BASE | 3: snapshot, start of the merge, stop |
 *
 * Returns 0 when they have their room: the last tick kept it, or it is free now, or the guest is known to stand, so that
 * they pour nothing. Returns 1 otherwise: do not drain, tick,
 * and ask again by the same call. Fewer drains than before can get 1, too, where those before had no room. What was said
 * counts in both cases. Errors: MIGBUF_E_NOTFOUND, _INVALID.
 * Test: test_buffer, a_drain_waits_for_its_room
 */
MIGBUF_API int migbuf_buffer_phase(struct migbuf_buffer *b, uint64_t id, int32_t phase, uint32_t drains_ahead);

/**
 * An administrator's weight, from the next tick on. Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_RANGE, MIGBUF_E_NOMEM.
 * Test: test_buffer, links_are_shared_by_weight
 */
MIGBUF_API int migbuf_buffer_weight(struct migbuf_buffer *b, uint64_t id, uint32_t weight);

/**
 * Takes samples, all or none, as they were measured at `now_ms`, on the clock of migbuf_buffer_tick.
 *
 * Measure shortly before the tick. From the measurement on, a file counts as grown by all that its limits allowed; so
 * does a disk without a new sample. Errors: MIGBUF_E_NOTFOUND (id or disk), _RANGE, _INVALID.
 * Test: test_buffer, nothing_is_measured_in_the_future; test_buffer, unseen_files_have_grown_by_the_last_set_too
 */
MIGBUF_API int migbuf_buffer_sample(struct migbuf_buffer *b, uint64_t now_ms, const struct migbuf_sample *samples,
                                    size_t count);

/**
 * U of one link, bytes/s, 1 .. 2^53. It is held until the next one. A link that carried nothing is not a slow link:
 * pass no sample then. Errors: MIGBUF_E_NOTFOUND when no migration uses it, MIGBUF_E_RANGE for 0 or more than 2^53.
 * Test: test_buffer, links_are_shared_by_weight
 */
MIGBUF_API int migbuf_buffer_link(struct migbuf_buffer *b, uint64_t link, uint64_t bytes_per_s);

/**
 * Decides for all migrations, in order of start. `out` holds `capacity` decisions. Returns how many were written.
 *
 * - now_ms may equal the last one, never be less.
 * - The buffer takes it that every decision has landed lag_ms later, unless migbuf_buffer_outcome says what became of
 *   it.
 *
 * Errors: MIGBUF_E_RANGE when there are more migrations than `capacity`, MIGBUF_E_CLOCK when now_ms is less than
 * before, MIGBUF_E_INVALID. MIGBUF_E_NOMEM: nothing was decided. Tick again: for a late tick's time the limits in force
 * suffice.
 * Test: test_buffer, first_a_limit_then_keep; test_buffer, the_first_seconds_are_cautious
 */
MIGBUF_API int migbuf_buffer_tick(struct migbuf_buffer *b, uint64_t now_ms, struct migbuf_decision *out,
                                  size_t capacity);

/**
 * What became of the last decision for `id` that was not KEEP or WAIT.
 *
 * | outcome | means |
 * |---|---|
 * | MIGBUF_OUTCOME_DONE | It is in force. |
 * | MIGBUF_OUTCOME_REFUSED | Nothing of it is in force. What was in force before still is. |
 * | MIGBUF_OUTCOME_UNKNOWN | Every other case. |
 * | 0 | There is more to send (migbuf_disk_outcome). Changes nothing. |
 * | not called | Taken for done lag_ms after the tick. |
 *
 * After unknown, everything that may be in force counts. Each tick asks for what is wanted once more: LOWER with limits
 * that may be in force already, PAUSE of a guest that may stand. That ends when the outcome is done or something is
 * found.
 *
 * Returns 0 or 1. 1: more may be in force than was decided, or it may be so later than now where lag_ms is 0. Tick at
 * once then, within lag_ms of the tick that decided it. A host whose calls can time out takes a lag_ms that is longer
 * than that. Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_INVALID, MIGBUF_E_STATE for REFUSED when no decision waits for its
 * outcome.
 * Test: test_buffer, a_refused_command_is_decided_again; test_buffer, without_a_word_it_is_done
 */
MIGBUF_API int migbuf_buffer_outcome(struct migbuf_buffer *b, uint64_t id, int32_t outcome);

/**
 * What the host found in force for `id`, at a verification or after a restart: the limits of its disks
 * (migbuf_disk_info) and whether the guest runs. The next tick starts from there. Where that is not what was decided,
 * another hand was there: what our limit let grow until now counts until the files are measured after that tick, and what
 * a stop poured as well.
 *
 * `limits` NULL or all 0: none of ours, so the guest may write what its device can. Errors: MIGBUF_E_NOTFOUND,
 * MIGBUF_E_INVALID, MIGBUF_E_RANGE for more than QEMU takes (10^15).
 * Test: test_buffer, what_is_found_is_where_it_starts; test_buffer, what_another_hand_ended_still_counts
 */
MIGBUF_API int migbuf_buffer_resync(struct migbuf_buffer *b, uint64_t id, const struct migbuf_limits *limits,
                                   int32_t running);

/**
 * A migration's overlays are deleted. Never needs memory. Errors: MIGBUF_E_NOTFOUND, MIGBUF_E_INVALID.
 * Test: test_buffer, links_are_shared_by_weight
 */
MIGBUF_API int migbuf_buffer_remove(struct migbuf_buffer *b, uint64_t id);

/**
 * Ω has another size from the next tick on.
 *
 * Returns 0. Returns 1 when limits in force may still fill more than the new size. Tick then, let the decisions land,
 * and make the volume itself smaller when migbuf_buffer_stats tells reach_bytes up to its new size.
 *
 * Errors: MIGBUF_E_IN_USE below files plus reserves, with the numbers in *error; nothing changed. MIGBUF_E_RANGE,
 * MIGBUF_E_NOMEM.
 * Test: test_buffer, a_smaller_volume_is_waited_for
 */
MIGBUF_API int migbuf_buffer_resize(struct migbuf_buffer *b, uint64_t capacity_bytes, struct migbuf_error *error);

/**
 * Everything the buffer knows, as text, for the process that comes after this one. Save after each tick, before its
 * decisions are carried out.
 *
 * The text is printable ASCII with version and checksum, about 700 bytes a migration. *length is its length without its
 * NUL, also when `capacity` was too small for both. Then the error is MIGBUF_E_TOO_BIG, so that capacity 0 asks.
 * Test: test_buffer, a_new_process_decides_the_same
 */
MIGBUF_API int migbuf_buffer_save(const struct migbuf_buffer *b, char *text, size_t capacity, size_t *length);

/**
 * A buffer from a saved text. `now_ms` is the new process's clock. Afterwards sample the files, tell what is in force
 * (migbuf_buffer_resync), then tick: the decisions are those the old process would have taken.
 *
 * | the new clock | is taken for | time without a process |
 * |---|---|---|
 * | is at or after the time in the text | the same clock: CLOCK_MONOTONIC and CLOCK_BOOTTIME go on between processes | counts |
 * | is before it | one that began anew | is lost: pauses start again, and nothing is learnt from the first samples |
 *
 * Errors: MIGBUF_E_PROTOCOL (cut, edited, another version), MIGBUF_E_NOMEM, MIGBUF_E_INVALID.
 * Test: test_buffer, a_new_process_decides_the_same; test_buffer, time_passes_without_a_process
 * Test: test_buffer, a_damaged_text_is_refused
 */
MIGBUF_API int migbuf_buffer_load(const char *text, size_t length, uint64_t now_ms,
                                  const struct migbuf_allocator *allocator, struct migbuf_buffer **out);

/**
 * How the last tick came to its budget for one migration. The caller sets view->size. Errors: MIGBUF_E_NOTFOUND,
 * _STRUCT.
 * Test: test_buffer, the_paper_curve_shows_in_the_view
 */
MIGBUF_API int migbuf_buffer_view(const struct migbuf_buffer *b, uint64_t id, struct migbuf_buffer_view *view);

/**
 * The whole buffer at its last tick. The caller sets stats->size. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_buffer, reserves_are_kept_free; test_buffer, late_ticks_are_counted
 */
MIGBUF_API int migbuf_buffer_stats(const struct migbuf_buffer *b, struct migbuf_buffer_stats *stats);

/**
 * The ledger, read-only, for drawing (migbuf_bins_list, migbuf_bins_shards). Valid until the buffer is freed. The planner
 * does not ask whose bytes lie where: under it they are placed when somebody looks, or one comes or leaves. What changed
 * since the last time is placed at once then, those first that shrank.
 * Test: test_laws, twice_the_weight_is_twice_the_share
 */
MIGBUF_API const struct migbuf_bins *migbuf_buffer_bins(const struct migbuf_buffer *b);

#ifdef __cplusplus
}
#endif
#endif
