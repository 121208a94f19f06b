/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_MIRROR_H
#define MIGBUF_MIRROR_H
/**
 * @file mirror.h
 * A disk that is mirrored while its guest writes (QEMU: blockdev-mirror), so that the guest's writes get the link first
 * and the copy gets what is left. Such a disk needs no overlay and takes no room of Ω (buffer.h).
 *
 * First the policy, as pure functions: which mode for which guest, what the guest gets then, when the copy ends, and what
 * to do when it does not. Then a machine that drives one job as ram.h drives `migrate`: it says which QMP command comes
 * next, and the host sends it and tells what came back. It does no I/O, reads no clock and never waits.
 *
 *   migbuf_mirror_options_init(&options, sizeof options);
 *   migbuf_mirror_new("job", "disk", "target", &options, NULL, &mirror);
 *   migbuf_mirror_tell(mirror, &load);            what the link carries, what the guest writes
 *   migbuf_mirror_start(mirror);                  then pump
 *   every 0.5 s, and at each event:
 *       migbuf_mirror_event(mirror, event);       if it is one of the job: nothing else tells how it ended
 *       migbuf_mirror_tell(mirror, &load);
 *       migbuf_mirror_look(mirror, now_ms);       then pump
 *       info.hold_bytes_per_s:                    hold the guest to that while it is not 0
 *   info.state READY:                             migbuf_mirror_settle(mirror), look and pump until info.settled
 *   the guest stands for the switch-over:         migbuf_mirror_complete(mirror), then pump until COMPLETED
 *
 *   pump: while (migbuf_mirror_next(mirror, &command) == 1) {
 *             outcome = send(command.name, command.arguments, &reply);
 *             events that came before the reply: tell them first
 *             if (outcome == MIGBUF_OUTCOME_DONE && command.kind == MIGBUF_MIRROR_GET_JOB) {
 *                 if (migbuf_report_mirror(reply, length, "job", &report, &error))
 *                     outcome = MIGBUF_OUTCOME_UNKNOWN;     nobody can read it
 *                 else
 *                     migbuf_mirror_found(mirror, &report);
 *             }
 *             migbuf_mirror_answered(mirror, outcome);
 *         }
 *
 * ## What QEMU's mirror does (measured on 7.2, 10.0 and 11.1: tests/README.md)
 *
 * | | background | write-blocking |
 * |---|---|---|
 * | a guest's write | goes to the source; its granule is marked dirty and sent later | goes to both before the guest is told |
 * | the guest gets | all it wants, at the speed of no mirror (on 11.1 three quarters of 12 MB/s; why is not known) | its turn on the link: migbuf_mirror_rates |
 * | the copy ends | if whole granules become dirty slower than the link carries them | always |
 *
 * In write-blocking mode the copy keeps buf-size bytes in flight, and a write of the guest waits behind them. With the
 * usual 16 MiB a guest gets next to nothing. `speed` bounds the copy alone.
 *
 * ## Names
 *
 * U is what the link carries for this disk, w what its guest writes, r the mean bytes of one write, d its writes in
 * flight. A granule is the part of the disk that one bit of the dirty bitmap stands for. The pass is the first copy of
 * everything. MB/s = 10^6 bytes/s.
 *
 * A NULL handle gives MIGBUF_E_INVALID. One thread at a time per handle. Strings given are copied; those returned live
 * until the next call on the handle.
 *
 * Link with -lmigbuf-mirror. Experimental (MIGBUF_MIRROR_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- policy ---- */

/** The guest's writes are sent later; write-blocking only at the end. */
#define MIGBUF_MIRROR_BACKGROUND 1
/** Write-blocking from the start, with a small buffer and a copy that is paced. */
#define MIGBUF_MIRROR_PACED 2

/** Link and guest of one disk. A record. All numbers are >= 0 and not INFINITY; 0: not known. */
struct migbuf_mirror_load {
    double link_bytes_per_s;  /**< U: what the link carries for this disk, copy and guest together */
    double write_bytes_per_s; /**< w: what the guest wants to write */
    double request_bytes;     /**< r: mean bytes of a write; 0: 4096 is counted with, the worst that is usual */
    double depth;             /**< d: writes in flight; 0: 1 */
    double round_trip_s;      /**< of the link */
};

/** How a disk is mirrored: arguments of blockdev-mirror. A record. */
struct migbuf_mirror_setting {
    uint64_t granularity_bytes; /**< a power of two, 512 .. 64 MiB */
    uint64_t buf_bytes;         /**< buf-size; 0: QEMU's own, 16 MiB */
    uint64_t speed_bytes_per_s; /**< of the copy, at the start; 0: not bounded */
    int32_t mode;               /**< MIGBUF_MIRROR_BACKGROUND, MIGBUF_MIRROR_PACED */
    int32_t reserved;           /**< 0 */
};

/** What link and setting give. A record. */
struct migbuf_mirror_rates {
    double guest_bytes_per_s; /**< what the guest gets of w */
    double copy_bytes_per_s;  /**< by what remains gets less; 0: the copy never ends */
    double write_s;           /**< mean time of a write while its queue is full; 0: as without a mirror */
};

/**
 * How to mirror a disk.
 *
 * | when | mode | granularity | buf-size | speed |
 * |---|---|---|---|---|
 * | usual | BACKGROUND | 64 KiB if r >= 64 KiB, else 4 KiB | QEMU's | not bounded |
 * | `promised`: the end must be promised from the start | PACED | = buf-size | B | 0.1 U |
 * | QEMU cannot change the mode, and dirty granules >= U | PACED | = buf-size | B | 0.1 U |
 *
 *   B = a power of two, at least max(64 KiB, 2 U round trip), at most 16 MiB
 *
 * - can_change: QEMU knows block-job-change (8.2 and later). Where the host does not know, 0.
 * - Buffer and granule are the same in PACED: with a granule of 64 KiB and a buffer of 1 MiB the guest's writes stood
 *   still on 7.2.
 * - U not known: the speed is not bounded (0). Nothing is known of the dirty granules: BACKGROUND, unless `promised`.
 * - A bitmap of 4 KiB granules takes 32 MiB of memory for each TiB.
 *
 * Example: U 24 MB/s, w 2.4 MB/s in writes of 4 KiB -> BACKGROUND, 4096. w 30 MB/s in writes of 64 KiB, can_change 0 ->
 * PACED, 65536, 65536, 2'400'000.
 * Source: ours, measured. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE; *out is unchanged then.
 * Test: test_mirror, the_mode_follows_guest_and_qemu
 */
MIGBUF_API int migbuf_mirror_choose(const struct migbuf_mirror_load *load, int32_t can_change, int32_t promised,
                                    struct migbuf_mirror_setting *out);

/**
 * What guest and copy get, on ground that is copied already.
 *
 *   BACKGROUND   guest = w
 *                copy  = max(0, min(U, speed) - w max(r, granule) / r)
 *   PACED        guest = min(w, max(U - speed, U d r / (d r + B)))
 *                copy  = min(speed, U - guest)
 *                write = (d r + B) / U
 *                B     = max(buf-size, granule)
 *
 * - speed 0 counts as U.
 * - In PACED it is one queue, first come first served. The copy keeps B of it full, the guest d r.
 * - On QEMU 7.2, 10.0 and 11.1 at 24 MB/s the best of three runs came within 10 % of it for d r >= 16 KiB. On a busy
 *   machine others got as little as two fifths.
 * - On ground that is not copied yet a write smaller than a granule is not sent at all: the guest gets more there.
 * - w max(r, granule) / r is for writes at random. Writes in a row fill their granules: it is w then.
 *
 * Example: U 24 MB/s, 4 writes of 64 KiB in flight, w 36 MB/s, PACED, B 64 KiB, no speed: guest 19.2 MB/s, copy 4.8.
 * With B 16 MiB (QEMU's own): guest 0.37 MB/s.
 * Errors: MIGBUF_E_STATE when U is not known; MIGBUF_E_INVALID, MIGBUF_E_RANGE; *out is unchanged then.
 * Test: test_mirror, the_law_of_one_queue
 */
MIGBUF_API int migbuf_mirror_rates(const struct migbuf_mirror_load *load, const struct migbuf_mirror_setting *s,
                                   struct migbuf_mirror_rates *out);

/**
 * When the copy has sent what remains: remaining / copy of migbuf_mirror_rates, in s. INFINITY: never, as things are; 0
 * for 0. So a mirror that will never catch up is seen before it starts.
 *
 * Example: 2.4 GB remain, U 24 MB/s, w 12 MB/s in writes of 64 KiB, BACKGROUND: 200 s. The same in writes of 4 KiB with
 * granules of 64 KiB: INFINITY; with granules of 4 KiB: 200 s.
 * Errors: those of migbuf_mirror_rates; *seconds is unchanged then.
 * Test: test_mirror, the_end_is_forecast
 */
MIGBUF_API int migbuf_mirror_finish(const struct migbuf_mirror_load *load, const struct migbuf_mirror_setting *s,
                                    uint64_t remaining_bytes, double *seconds);

/**
 * The next speed of a copy in write-blocking mode: a tenth of the link stays free, so that the guest's demand can show.
 * Ask every 0.5 s; the first time with speed 0.1 U.
 *
 *   floor = remaining / left_s      at least 0.1 U, at most U
 *   speed = max(floor, min(speed + 0.05 U, 0.9 U - w))
 *
 * - w is what the guest wrote since last time.
 * - left_s: until the end that was promised; INFINITY: none was. 0: it is over, all of U.
 * - The result is a whole number >= 1. U not known: 0, not bounded.
 * - It must begin low and rise: what is measured of w while the copy is fast is what the copy leaves, not what the guest
 *   wants.
 *
 * Example: U 24 MB/s, speed 2.4 MB/s, w 12 MB/s, 1 GB remains, left_s INFINITY -> 3'600'000; from 9.0 MB/s -> 9'600'000,
 * and there it stays.
 * Source: ours, measured. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE.
 * Test: test_mirror, the_copy_is_paced
 */
MIGBUF_API int migbuf_mirror_pace(const struct migbuf_mirror_load *load, uint64_t remaining_bytes, double left_s,
                                  uint64_t speed_bytes_per_s, uint64_t *next_bytes_per_s);

/**
 * To what a guest is held, in bytes/s it writes, while a background mirror that was stuck catches up, and QEMU cannot
 * change the mode:
 *
 *   hold = 0.5 U min(1, r / granule)
 *
 * Half of the link carries what it dirties, half takes what remains.
 *
 * Example: U 24 MB/s, writes of 4 KiB, granules of 64 KiB -> 750'000. Writes of 64 KiB -> 12e6.
 * Errors: MIGBUF_E_STATE when U is not known; MIGBUF_E_INVALID, MIGBUF_E_RANGE.
 * Test: test_mirror, a_guest_is_held_while_it_catches_up
 */
MIGBUF_API int migbuf_mirror_hold(const struct migbuf_mirror_load *load, uint64_t granularity_bytes, double *bytes_per_s);

/** How a copy gets on. All zero: nothing was seen yet. A record. */
struct migbuf_mirror_progress {
    uint64_t from_bytes; /**< what remained at the beginning of this span */
    uint64_t from_ms;    /**< when that was */
    int32_t begun;       /**< 1: the two are set */
    int32_t stuck;       /**< 1: within the last span nearly nothing was gained */
};

/**
 * Another look at what remains. A copy is stuck when within 5 s (or the time between two looks, if that is longer) what
 * remains has not fallen by
 *
 *   min(5 % of what remained, 5 % of what the link carries in that time)     at least one byte
 *
 * - The second is for large disks. U not known (0): one byte.
 * - It is not stuck any more as soon as that much was gained, or at 0 bytes.
 *
 * now_ms is any clock that does not go back. Returns 1: stuck, 0: not.
 *
 * Example: U 24 MB/s, 22 MB remain at 0 ms and at 5000 ms -> 1. 20 MB at 9000 ms -> 0.
 * Source: ours. Errors: MIGBUF_E_CLOCK, MIGBUF_E_INVALID, MIGBUF_E_RANGE; *p is unchanged then.
 * Test: test_mirror, a_copy_that_gains_nothing_is_stuck
 */
MIGBUF_API int migbuf_mirror_progress(struct migbuf_mirror_progress *p, double link_bytes_per_s, uint64_t remaining_bytes,
                                      uint64_t now_ms);

/* ---- machine ---- */

struct migbuf_mirror;

/* Kinds of commands. */
#define MIGBUF_MIRROR_GET_JOB 1   /**< query-block-jobs: give its job to migbuf_mirror_found */
#define MIGBUF_MIRROR_START 2     /**< blockdev-mirror */
#define MIGBUF_MIRROR_SET_SPEED 3 /**< block-job-set-speed */
#define MIGBUF_MIRROR_CHANGE 4    /**< block-job-change to write-blocking: QEMU 8.2 and later */
#define MIGBUF_MIRROR_COMPLETE 5  /**< block-job-cancel of a mirror that is ready: what is left is sent, and it ends */
#define MIGBUF_MIRROR_CANCEL 6    /**< block-job-cancel by force */

/** One command to send. A record; the strings live until the next call on the handle. */
struct migbuf_mirror_command {
    int32_t kind;          /**< MIGBUF_MIRROR_GET_JOB … MIGBUF_MIRROR_CANCEL */
    int32_t reserved;      /**< 0 */
    const char *name;      /**< as in {"execute": name} */
    const char *arguments; /**< a JSON object, or NULL for none */
};

/** The job as query-block-jobs has it. A record; migbuf_report_mirror (report.h) fills it. */
struct migbuf_mirror_report {
    uint64_t length_bytes;      /**< len */
    uint64_t offset_bytes;      /**< offset: len - offset remains */
    uint64_t speed_bytes_per_s; /**< speed */
    int32_t there;              /**< 1: there is such a job; else all others are 0 */
    int32_t ready;              /**< 1: nothing remained once */
    int32_t stopped;            /**< 1: a read or write has failed; it does not end by itself */
    int32_t synced;             /**< 1: actively-synced: in write-blocking mode, and nothing remains. QEMU 8.2 and later */
};

/** How it is to go. Fill with migbuf_mirror_options_init. */
struct migbuf_mirror_options {
    uint64_t size;                        /**< sizeof, set by init */
    struct migbuf_mirror_setting setting; /**< all 0: migbuf_mirror_choose when it starts. PACED with speed 0: not paced */
    uint64_t deadline_ms;                 /**< by the host's clock: when the copy is to have ended; 0: no promise */
    int32_t can_change;                   /**< 1: QEMU knows block-job-change (8.2 and later) */
    int32_t top;                          /**< 1: sync "top", the overlay alone; 0: "full" */
};

/**
 * The usual: chosen when it starts, no promise, can_change 0, the whole disk. Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT.
 * Test: test_mirror, bad_options_make_no_machine
 */
MIGBUF_API int migbuf_mirror_options_init(struct migbuf_mirror_options *o, uint64_t size);

/* Where it stands. */
#define MIGBUF_MIRROR_STATE_IDLE 0      /**< not started */
#define MIGBUF_MIRROR_STATE_COPYING 1   /**< the job runs */
#define MIGBUF_MIRROR_STATE_READY 2     /**< nothing remained once; what the guest writes follows */
#define MIGBUF_MIRROR_STATE_SYNCED 3    /**< write-blocking, and both disks are the same */
#define MIGBUF_MIRROR_STATE_STOPPED 4   /**< a write to the target has failed: cancel it, while the guest stands */
#define MIGBUF_MIRROR_STATE_ENDING 5    /**< complete or cancel is under way */
#define MIGBUF_MIRROR_STATE_COMPLETED 6 /**< over: the target has everything */
#define MIGBUF_MIRROR_STATE_CANCELLED 7 /**< over: cancelled, the target is worth nothing */
#define MIGBUF_MIRROR_STATE_FAILED 8    /**< over: refused or failed, the same */
#define MIGBUF_MIRROR_STATE_LOST 9      /**< over: the job is gone, and nobody told how it ended. Take it for failed */

/**
 * "idle", "copying", … of MIGBUF_MIRROR_STATE_…, else "unknown". Static, never NULL.
 * Test: test_mirror, states_have_names
 */
MIGBUF_API const char *migbuf_mirror_state_text(int32_t state);

/** What is known of it. The caller sets `size` (sizeof). */
struct migbuf_mirror_info {
    uint64_t size;              /**< sizeof, set by the caller */
    uint64_t remaining_bytes;   /**< len - offset as last seen: dirty, or not copied yet */
    uint64_t speed_bytes_per_s; /**< of the copy, as last seen or set; 0: not bounded */
    double finish_s;            /**< until nothing remains, as forecast; INFINITY: never as things are, or U is not known */
    double hold_bytes_per_s;    /**< hold the guest to this, so that it catches up, until nothing remains; 0: do not */
    struct migbuf_mirror_setting setting; /**< with which it was started */
    int32_t state;         /**< MIGBUF_MIRROR_STATE_… */
    int32_t write_blocking; /**< 1: each write of the guest waits for the target */
    int32_t stuck;          /**< 1: in the last 5 s it gained nearly nothing */
    int32_t settled;        /**< 1: after settle: SYNCED; or, where QEMU cannot change the mode, READY and at most 0.1 s of U remains */
    int32_t can_change;     /**< 1: as options.can_change, and QEMU has not refused it */
    int32_t unknown;        /**< 1: something was sent, and nobody knows whether it was carried out: look */
};

/**
 * A machine for one job: its id, the node that is mirrored and the node it goes to. Each name has 1 to 255 bytes and is
 * UTF-8. options NULL: the usual.
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_INVALID | NULL; a name is empty or no UTF-8; no such mode; reserved is not 0 |
 * | MIGBUF_E_TOO_BIG | a name is too long |
 * | MIGBUF_E_RANGE | a granularity that QEMU does not take; a buf-size beyond 1 GiB; a speed beyond INT64_MAX |
 * | MIGBUF_E_STRUCT | an unknown `size` of the options |
 * | MIGBUF_E_NOMEM | no memory |
 *
 * Test: test_mirror, bad_options_make_no_machine
 */
MIGBUF_API int migbuf_mirror_new(const char *job, const char *node, const char *target,
                                 const struct migbuf_mirror_options *options, const struct migbuf_allocator *allocator,
                                 struct migbuf_mirror **out);

/**
 * Frees the machine. NULL is fine. Sends nothing: a job that runs goes on.
 */
MIGBUF_API void migbuf_mirror_free(struct migbuf_mirror *m);

/**
 * Link and guest as they are now: for the choice, the pace and the forecast. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE.
 * Test: test_mirror, a_guest_that_fits_is_copied_in_the_background; test_mirror, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_mirror_tell(struct migbuf_mirror *m, const struct migbuf_mirror_load *load);

/**
 * Wants the job started. Where options.setting.mode is 0 it is chosen now, by what was told.
 *
 * After a restart the host makes the machine again, and looks instead of starting: a job that is there is taken up (with
 * its mode not known, it counts as BACKGROUND unless the options say PACED). There is no text to save.
 *
 * Errors: MIGBUF_E_STATE when it was started before.
 * Test: test_mirror, a_guest_that_fits_is_copied_in_the_background; test_mirror, a_restarted_host_takes_it_up
 */
MIGBUF_API int migbuf_mirror_start(struct migbuf_mirror *m);

/**
 * Time has passed: asks how the job is, and decides. After an unknown outcome it is what goes on. now_ms is any clock that
 * does not go back. Errors: MIGBUF_E_CLOCK.
 * Test: test_mirror, the_pace_rises_until_the_guest_shows; test_mirror, a_host_may_want_no_pace
 */
MIGBUF_API int migbuf_mirror_look(struct migbuf_mirror *m, uint64_t now_ms);

/* Events of the job. */
#define MIGBUF_MIRROR_EVENT_READY 1     /**< BLOCK_JOB_READY */
#define MIGBUF_MIRROR_EVENT_STOPPED 2   /**< BLOCK_JOB_ERROR with action "stop" */
#define MIGBUF_MIRROR_EVENT_COMPLETED 3 /**< BLOCK_JOB_COMPLETED without an error */
#define MIGBUF_MIRROR_EVENT_CANCELLED 4 /**< BLOCK_JOB_CANCELLED */
#define MIGBUF_MIRROR_EVENT_FAILED 5    /**< BLOCK_JOB_COMPLETED with an error */

/**
 * An event of the job. Only an event tells how it ended: a host that misses it gets LOST, until it is told.
 * Errors: MIGBUF_E_INVALID. One that comes before it was started, or after its end, changes nothing.
 * Test: test_mirror, it_completes_when_it_is_asked_to; test_mirror, a_job_that_vanished_is_not_taken_for_complete
 */
MIGBUF_API int migbuf_mirror_event(struct migbuf_mirror *m, int32_t event);

/**
 * The end is near (the memory comes next): where QEMU can change the mode, write-blocking is wanted as soon as it is
 * READY. Where it cannot, what remains is sent while the guest stands: the guest is held while that would take more than
 * 0.1 s. Before that call a READY mirror stays in the background, where the guest feels nothing. May be said at any time.
 * Errors: MIGBUF_E_INVALID.
 * Test: test_mirror, near_the_end_it_becomes_write_blocking; test_mirror, where_qemu_cannot_change_it_the_guest_is_held
 */
MIGBUF_API int migbuf_mirror_settle(struct migbuf_mirror *m);

/**
 * The guest stands, or its disk may be left: what is left is sent, and the job ends with the target complete.
 * Errors: MIGBUF_E_STATE unless it is READY or SYNCED.
 * Test: test_mirror, it_completes_when_it_is_asked_to; test_mirror, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_mirror_complete(struct migbuf_mirror *m);

/**
 * Gives up: by force. Nothing is lost at the source. Stop the guest first: QEMU 7.2 can end when a mirror ends while a
 * write of its guest is on its way.
 *
 * Errors: MIGBUF_E_STATE when it is over. One that was not started is CANCELLED at once.
 * Test: test_mirror, a_cancel_ends_it_from_anywhere
 */
MIGBUF_API int migbuf_mirror_cancel(struct migbuf_mirror *m);

/**
 * The next command: 1 and *command, or 0 when there is none. It is the same one until its outcome is said.
 * Errors: MIGBUF_E_INVALID.
 * Test: test_mirror, a_guest_that_fits_is_copied_in_the_background; test_mirror, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_mirror_next(struct migbuf_mirror *m, struct migbuf_mirror_command *command);

/**
 * The answer to GET_JOB. Errors: MIGBUF_E_STATE when that is not under way, MIGBUF_E_INVALID.
 * Test: test_mirror, the_pace_rises_until_the_guest_shows; test_mirror, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_mirror_found(struct migbuf_mirror *m, const struct migbuf_mirror_report *report);

/**
 * What became of the command under way: MIGBUF_OUTCOME_DONE, MIGBUF_OUTCOME_REFUSED when QEMU answered with an error,
 * MIGBUF_OUTCOME_UNKNOWN in every other case. After an unknown outcome nothing is sent before migbuf_mirror_look: then
 * QEMU is asked first.
 *
 * | returns | when |
 * |---|---|
 * | 0 | the pump goes on |
 * | MIGBUF_E_PEER | QEMU refused it, and there is no other way (a refused CHANGE has one: the guest is held) |
 * | MIGBUF_E_UNKNOWN | the outcome is unknown |
 * | MIGBUF_E_STATE | no command was under way, or GET_JOB was DONE and its answer not told first |
 * | MIGBUF_E_INVALID | that is no outcome, NULL |
 *
 * Test: test_mirror, a_start_that_may_have_been_carried_out_is_asked_for; test_mirror, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_mirror_answered(struct migbuf_mirror *m, int32_t outcome);

/**
 * What became of the last start, settle, complete or cancel: MIGBUF_OUTCOME_DONE, MIGBUF_OUTCOME_REFUSED or
 * MIGBUF_OUTCOME_UNKNOWN; 0 while commands are left to send. NULL gives MIGBUF_E_INVALID.
 * Test: test_mirror, a_start_that_may_have_been_carried_out_is_asked_for; test_mirror, what_qemu_refuses
 */
MIGBUF_API int migbuf_mirror_outcome(const struct migbuf_mirror *m);

/**
 * Where it stands. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_mirror, the_pace_rises_until_the_guest_shows; test_mirror, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_mirror_info(const struct migbuf_mirror *m, struct migbuf_mirror_info *info);

#ifdef __cplusplus
}
#endif
#endif
