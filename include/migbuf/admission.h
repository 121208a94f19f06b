/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_ADMISSION_H
#define MIGBUF_ADMISSION_H
/**
 * @file admission.h
 * Which waiting migration to start next, and when.
 *
 *   each that waits:   once migbuf_admission_waiting(buffer, &migration, disks, n, &waiting[k])
 *   every second:      migbuf_admission_turns(buffer, MIGBUF_ADMISSION_SHORTEST, waiting, n, turns)
 *   each START:        migbuf_buffer_add() with the same arguments, migbuf_buffer_link(), and out of `waiting`
 *
 * What will become of one migration (when it will be over, how much room it will take, whether a mirror is better)
 * is outlook.h.
 *
 * - U is what a link carries (link.h), Ω the volume of the overlays (buffer.h). A flow is the traffic of one migration.
 * - The queue is the host's. The buffer keeps nothing of those that wait, so there is nothing of them to be saved. What
 *   runs is what the buffer holds.
 * - Nothing in here changes a buffer, whatever its policy.
 * - A host whose migrations need no buffer (write-through, quota) may keep one for its queue alone: of any size, with
 *   policy `literal`, which refuses nobody.
 *
 * Functions of a handle: one thread at a time. Amounts are bytes and s.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/buffer.h"
#include "migbuf/planner.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Smallest disk first: lowest mean completion (as shortest job first everywhere). Large ones wait longest. */
#define MIGBUF_ADMISSION_SHORTEST 1
/** First come, first served: for an evacuation with a deadline, where the last completion counts. */
#define MIGBUF_ADMISSION_FIFO 2

/** Start it now. */
#define MIGBUF_VERDICT_START 1
/** It is the next on its link, but the link is busy: less than half of its flow would run on idle link. */
#define MIGBUF_VERDICT_LINK_BUSY 2
/** Another one on the same link is before it. */
#define MIGBUF_VERDICT_NOT_ITS_TURN 3
/** Its turn, and the link is idle enough, but the buffer has no room for it: of admission.h only. */
#define MIGBUF_VERDICT_NO_ROOM 4

/**
 * "start", …; "unknown" for another number. Static storage, never NULL.
 * Test: test_planner, admission_examples
 */
MIGBUF_API const char *migbuf_verdict_text(int32_t verdict);

/** A migration that runs or waits. A record. */
struct migbuf_admission_flow {
    uint64_t id; /**< the migration's */
    uint32_t link;           /**< index of its link */
    uint32_t reserved;       /**< 0 */
    double flow_bytes_per_s; /**< most it gets on the link, INFINITY: the whole link */
    double seconds;    /**< running: until its file is deleted (plan.finish_s), INFINITY if not known; waiting: 0 */
    double disk_bytes; /**< waiting: what it has to send; running: 0 */
    uint64_t arrival;  /**< waiting: order of asking (any number that rises); running: 0 */
};

/** The answer for one waiting migration. A record. */
struct migbuf_admission_turn {
    uint64_t id; /**< the migration's */
    int32_t verdict;           /**< MIGBUF_VERDICT_… */
    uint32_t place;            /**< 0: next on its link */
    double earliest_s;         /**< when it can start if all goes as planned, s from now; 0 for START */
    double wanted_bytes_per_s; /**< flows that run, and half of its own: this must not exceed … */
    double link_bytes_per_s;   /**< … this: 1.05 U */
};

/**
 * Who starts now, who waits, for what, how long: on the links alone.
 *
 * Per link the waiting ones queue up, by disk size (ties: arrival, then id) or by arrival (ties: id). Only the head is
 * tested, so that nobody is overtaken for ever:
 *
 *   start when nothing runs on the link, or when
 *   sum of running min(flow, U) + min(flow, U) / 2 <= 1.05 U
 *
 * If it starts, the next is tested with it running. The other way round: a migration waits while more than half of its
 * bytes would only be taken from others. Waiting costs a guest nothing: it is not throttled and its disk is where it
 * was.
 *
 * | flows that run | new | U | verdict |
 * |---|---|---|---|
 * | 500 | 500 | 1000 | start |
 * | 500, 500 | 500 | 1000 | wait |
 * | 900 | 900 | 1000 | wait |
 * | none | 5000 | 1000 | start |
 * | 400, 400 | 400 | 1000 | start |
 *
 * - earliest_s lets the running ones end as planned, and each started one after disk / min(flow, U).
 * - `turns` gets one answer per waiting migration, in their order. `scratch` holds running_count + 2 * waiting_count
 *   slots.
 * - A START is advice. If the buffer then refuses (no room, migbuf_buffer_add), ask again later.
 *
 * Returns how many start. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE (link index too). O(links + (n + m) log (n + m)) for
 * n that run and m that wait. Source: ours. In examples/simulate (--policy planner --seeds 40) lost writes per migration
 * fall by 41 to 88 % of what they are all at once, and mean completion by 9 to 32 %: more than any throttle achieves.
 * Test: test_planner, admission_examples; test_planner, admission_tells_when
 */
MIGBUF_API int migbuf_admission_queue(int32_t order, const struct migbuf_planner_link *links, size_t link_count,
                                    const struct migbuf_admission_flow *running, size_t running_count,
                                    const struct migbuf_admission_flow *waiting, size_t waiting_count,
                                    struct migbuf_planner_slot *scratch, struct migbuf_admission_turn *turns);

/**
 * A migration that waits: what a queue has to know of it. A record; filled by migbuf_admission_waiting. The caller sets
 * arrival and write_bytes_per_s. A caller who knows better may lower disk_bytes and whole_bytes (sparse disks).
 */
struct migbuf_waiting {
    uint64_t id;       /**< the migration's */
    uint64_t link;     /**< its link */
    uint64_t arrival;  /**< order of asking, any number that rises: the caller sets it, 0 before */
    double flow_bytes_per_s; /**< most it gets on the link, INFINITY: as much as there is */
    double disk_bytes;    /**< to be sent: all its disks */
    double file_bytes;    /**< of its files in Ω, those that it has already */
    double whole_bytes;   /**< most that its files can ever grow to */
    double need_bytes;    /**< what must be free in Ω for it to start: file, reserve for drains, one unit/s */
    double reserve_bytes; /**< of that the reserve */
    double unit_bytes;    /**< its largest subcluster, > 0, at most 2^62 */
    double rate;          /**< what its guest writes, in unit bytes/s (forecast.h); 0: not known */
    double write_bytes_per_s; /**< the same in plain bytes/s, at most `rate`: the caller may set it; 0: as `rate` */
    uint32_t weight;      /**< an administrator's, 1 .. 1000000: its part of the link and of what is given */
    uint32_t reserved;    /**< 0 */
};

/**
 * Describes a migration that waits, from the arguments of migbuf_buffer_add. All fields are set; arrival and
 * write_bytes_per_s are 0. O(disks). Errors: those of migbuf_buffer_add but EXISTS and NOSPACE.
 * Test: test_admission, outlook_of_one_with_weight_and_files
 */
MIGBUF_API int migbuf_admission_waiting(const struct migbuf_buffer *b, const struct migbuf_migration *m,
                                        const struct migbuf_geometry *disks, size_t disk_count,
                                        struct migbuf_waiting *w);

/**
 * Who starts now, who waits, for what, how long: migbuf_admission_queue for the links of a buffer, and then for its
 * room.
 *
 * - U is the mean the buffer plans with, else what was told last. A link of which nothing is known carries one
 *   migration at a time; when the next can start is INFINITY then.
 * - Those that run end as they are forecast to (outlook.h).
 * - Who has its turn but no room gets NO_ROOM. Nobody on its link overtakes it: those behind it are NOT_ITS_TURN, and
 *   their earliest_s counts from its start. Small ones on other links may, as long as they find room.
 * - earliest_s of NO_ROOM is when enough of those that run are over. What one is promised, in the order of the places,
 *   the next cannot have.
 *
 * earliest_s is INFINITY where nobody knows:
 *
 * - it takes room of a migration whose link is not known;
 * - it takes room of one that starts now, or was promised room itself (it ends, but when is not planned here);
 * - Ω is too small for it.
 *
 * `order`: MIGBUF_ADMISSION_…; `turns` gets one answer per waiting one, in their order. Returns how many start.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE (more than 2^30 too), MIGBUF_E_NOMEM; turns are untouched then. O((n + m)
 * log (n + m)) for n that run and m that wait.
 *
 * Example: Ω 10 GiB, a link of 100 MB/s. One migration runs with 10 GB to send, its guest writes nothing. One of 5 GB
 * and one of 2 GB wait. 0 start; the second is LINK_BUSY, earliest 100 s; the first NOT_ITS_TURN, earliest 120 s.
 * Test: test_admission, the_header_s_example; test_admission, who_has_no_room_is_not_overtaken
 */
MIGBUF_API int migbuf_admission_turns(const struct migbuf_buffer *b, int32_t order,
                                      const struct migbuf_waiting *waiting, size_t count,
                                      struct migbuf_admission_turn *turns);

#ifdef __cplusplus
}
#endif
#endif
