/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_CONVERGENCE_H
#define MIGBUF_CONVERGENCE_H
/**
 * @file convergence.h
 * Will this guest's memory ever be over there, when, and with how long a stop? And what to do when not.
 *
 * QEMU sends memory in rounds. A round ends with a sync: QEMU looks which pages were written meanwhile. The next round
 * sends these.
 *
 * What a guest dirties in a time is not a rate times that time, because most pages are written again and again. Two
 * figures describe it: W and r. Symbols on this page:
 *
 *   W    bytes     writable working set (set_bytes): bytes of the pages that are written again and again
 *   r    bytes/s   page touches per second times the page size (rate_bytes_per_s)
 *   N    bytes     what a round begins with (left_bytes)
 *   B    bytes/s   what this migration gets of its link (link_bytes_per_s)
 *   e              bytes sent per dirty byte (encoding); 1 without xbzrle
 *   p              CPU throttle, 0 to 0.99 in formulas (throttle_percent / 100)
 *   fix  ms        what every stop costs beside memory (fix_ms)
 *   d(t) bytes     dirtied in t seconds
 *   rho            (1 - p) r e / B: dirtied, as a part of what is sent
 *   f              part of W that every round finds dirty again
 *
 *   d(t) = W (1 - exp(-(1 - p) r t / W));   W = INFINITY: (1 - p) r t
 *   f    = 1 - exp(-rho f)
 *
 * A round that starts with N bytes takes e N / B and leaves d(e N / B) for the next.
 *
 * | rho | rounds |
 * |---|---|
 * | at most 1 | shrink to nothing |
 * | above 1 | settle at W f |
 *
 * | N 4000 MB, B 100 MB/s, p 0, e 1 | rounds 1 to 5, MB |
 * |---|---|
 * | W INFINITY, r 60 | 2400 1440 864 518.4 311.0 |
 * | W 500, r 60 | 495.9 224.2 118.0 66.0 38.1 |
 * | W 500, r 200 | 500.0 432.3 411.3 403.5 400.5 |
 *
 * The order of use:
 *
 * | when | call |
 * |---|---|
 * | each answer of query-migrate | migbuf_rounds_update |
 * | a round has ended | migbuf_convergence_rounds for W and r |
 * | then | migbuf_convergence_decide |
 *
 * The room `ram` (ram.h) does all of it. These functions are for hosts that drive QEMU by themselves, for forecasts and
 * for pictures.
 *
 * Shared errors. After each of them nothing has changed:
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_INVALID | a pointer is NULL, a number is NaN |
 * | MIGBUF_E_RANGE | a number is outside its range |
 * | MIGBUF_E_STRUCT | `size` is none that this library knows, or a reserved field is not 0 |
 *
 * Pure: no memory, no clock. Any thread. Source of the model: ours, after the writable working set of Clark and others
 * (NSDI 2005). It was compared with recorded migrations of QEMU 7.2 and 10.0.
 *
 * Link with -lmigbuf-ram. Experimental (MIGBUF_RAM_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a migration stands, by the status of query-migrate. */
#define MIGBUF_RAM_PHASE_NONE 0           /**< there was none */
#define MIGBUF_RAM_PHASE_SETUP 1          /**< setup: connecting */
#define MIGBUF_RAM_PHASE_ACTIVE 2         /**< active: pre-copy, the guest runs */
#define MIGBUF_RAM_PHASE_PRE_SWITCHOVER 3 /**< pre-switchover: the guest stands and QEMU waits for migrate-continue */
#define MIGBUF_RAM_PHASE_DEVICE 4         /**< device; postcopy-device of QEMU 10.2 and later: the last bytes are under way, the target does not run yet */
#define MIGBUF_RAM_PHASE_POSTCOPY 5       /**< postcopy-active: the guest runs at the target */
#define MIGBUF_RAM_PHASE_PAUSED 6         /**< postcopy-paused: the link broke in post-copy */
#define MIGBUF_RAM_PHASE_RECOVER 7        /**< postcopy-recover, postcopy-recover-setup */
#define MIGBUF_RAM_PHASE_COMPLETED 8      /**< completed */
#define MIGBUF_RAM_PHASE_CANCELLING 9     /**< cancelling */
#define MIGBUF_RAM_PHASE_CANCELLED 10     /**< cancelled: the guest is where it was */
#define MIGBUF_RAM_PHASE_FAILED 11        /**< failed */
#define MIGBUF_RAM_PHASE_OTHER 12         /**< failing, wait-unplug, or a status this library does not know: it runs, and another follows */

/**
 * One answer of query-migrate. A record; what QEMU leaves out, which it does by status, is 0. report.h fills it
 * (migbuf_report_ram).
 */
struct migbuf_ram_report {
    char status[32];               /**< as QEMU says it, "" before any migration */
    char error[256];               /**< error-desc, cut; "" without one */
    int32_t phase;                 /**< MIGBUF_RAM_PHASE_… */
    int32_t has_ram;               /**< 1: the fields ram_… are there */
    int32_t has_xbzrle;            /**< 1: the fields xbzrle_… are there */
    int32_t has_downtime;          /**< 1: downtime_ms is there */
    uint64_t ram_transferred_bytes; /**< ram.transferred: all that was sent */
    uint64_t ram_remaining_bytes;  /**< ram.remaining */
    uint64_t ram_total_bytes;      /**< ram.total, the devices' own memory included */
    uint64_t ram_normal_bytes;     /**< ram.normal-bytes: of pages sent whole */
    uint64_t ram_precopy_bytes;    /**< ram.precopy-bytes */
    uint64_t ram_downtime_bytes;   /**< ram.downtime-bytes: sent while nobody ran */
    uint64_t ram_postcopy_bytes;   /**< ram.postcopy-bytes */
    uint64_t ram_multifd_bytes;    /**< ram.multifd-bytes */
    uint64_t duplicate_pages;      /**< ram.duplicate: pages of zeros, 9 bytes each */
    uint64_t normal_pages;         /**< ram.normal */
    uint64_t sync_count;           /**< ram.dirty-sync-count */
    uint64_t postcopy_requests;    /**< ram.postcopy-requests: pages the target's guest waited for */
    uint64_t page_bytes;           /**< ram.page-size */
    uint64_t dirty_pages_per_s;    /**< ram.dirty-pages-rate: distinct pages dirty at the last sync, by the time since the
                                        one before. No rate of writing: it falls when rounds get longer */
    uint64_t pages_per_s;          /**< ram.pages-per-second */
    uint64_t total_ms;             /**< total-time */
    uint64_t setup_ms;             /**< setup-time */
    uint64_t downtime_ms;          /**< downtime. QEMU 7.2 says 0 in the first instant of "completed" */
    uint64_t expected_downtime_ms; /**< expected-downtime; 0 where it means nothing: before the second sync, in post-copy */
    uint64_t cpu_throttle_percent; /**< cpu-throttle-percentage */
    uint64_t xbzrle_bytes;         /**< xbzrle-cache.bytes: sent for the pages below */
    uint64_t xbzrle_pages;         /**< xbzrle-cache.pages: pages sent as differences */
    uint64_t xbzrle_cache_bytes;   /**< xbzrle-cache.cache-size */
    uint64_t xbzrle_cache_misses;  /**< xbzrle-cache.cache-miss */
    uint64_t xbzrle_overflows;     /**< xbzrle-cache.overflow: differences as long as the page */
    uint64_t blocktime_ms;         /**< target, after post-copy: mean time a CPU waited for pages */
    double mbps;                   /**< ram.mbps: 10^6 bits/s over the last 100 ms; at a sync it is far too low */
};

/** What one round told. A record. */
struct migbuf_round {
    double span_s;           /**< from its first sync to its last */
    double dirty_bytes;      /**< dirty at its end */
    double sent_bytes;       /**< bytes sent in it */
    double throttle_percent; /**< CPU throttle while it lasted */
    double encoding;         /**< bytes sent per byte of a page that was sent; 1 without xbzrle */
};

/** How many rounds are kept. */
#define MIGBUF_ROUNDS 6

/** The last rounds, the newest last, and where the one that runs began. A record; all 0 at first. */
struct migbuf_rounds {
    struct migbuf_round round[MIGBUF_ROUNDS]; /**< the first `count` are filled */
    uint64_t now_ms;           /**< of the last report */
    uint64_t at_ms;            /**< when the running one began */
    uint64_t sync_count;       /**< as last reported */
    uint64_t sent_bytes;       /**< at at_ms, as the five below */
    uint64_t normal_pages;     /**< pages sent whole */
    uint64_t xbzrle_pages;     /**< pages sent as differences */
    uint64_t xbzrle_bytes;     /**< their bytes */
    uint64_t throttle_percent; /**< in force since the last report */
    uint64_t finished;         /**< rounds that have ended, also those no longer kept */
    uint32_t count;            /**< kept */
    uint32_t whole;            /**< 1: its beginning was seen */
};

/**
 * Takes an answer of query-migrate that was given at now_ms. Returns 1 when a round has ended with it, else 0.
 *
 *   span  = now - when the sync before was seen
 *   dirty = dirty_pages_per_s * page_bytes * span
 *
 * - Ask right after each MIGRATION_PASS event, or often.
 * - QEMU keeps its dirty-pages-rate when a sync comes within 1 s of the last. Such a span is merged into the next.
 * - A count that falls begins anew: it is another migration.
 * - A round whose beginning was not seen tells nothing.
 * - QEMU's own clock, total_ms, is the best now_ms: no answer is late by it.
 *
 * Example: sync count 1 at 0 ms, 2 at 5000 ms, 3 at 8850 ms with 4081 pages/s of 4096 -> 0, 1, 1. The newest round has
 * span 3.85 and dirty 64'355'737.6.
 * Errors: MIGBUF_E_INVALID; MIGBUF_E_CLOCK when now_ms is before the last one's and the count is not.
 * Test: test_convergence, rounds_are_counted_from_syncs; test_convergence, time_does_not_go_back_within_a_migration
 */
MIGBUF_API int migbuf_rounds_update(struct migbuf_rounds *rounds, uint64_t now_ms, const struct migbuf_ram_report *report);

/**
 * The part of the working set that every round finds dirty again: f = 1 - exp(-rho f), by bisection. It is 0 for rho <= 1.
 *
 * Example: 1.1 -> 0.176134144; 2 -> 0.796812130; 10 -> 0.999954579; 1 -> 0.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE below 0.
 * Test: test_convergence, what_is_dirty_again_in_every_round
 */
MIGBUF_API int migbuf_convergence_stationary(double rho, double *part);

/**
 * W and r from two spans of different length, t1 the shorter. Each is time times (1 - p). d1 and d2 are what was dirty
 * after them.
 *
 *   q = (d1/t1) / (d2/t2),  s = t1/t2
 *
 *   s > 0.8 or q <= 1.05   dirtied as fast in both:
 *                          W = INFINITY, r = the larger of d1/t1 and d2/t2
 *   else                   z from (1 - exp(-s z)) / (s (1 - exp(-z))) = min(q, 0.98/s)
 *                          W = d2 / (1 - exp(-z)),  r = z W / t2
 *
 * | d1 in t1 | d2 in t2 | W | r |
 * |---|---|---|---|
 * | 90e6 in 1 s | 400e6 in 10 s | 447'313'695 | 100'487'247 |
 * | 100e6 in 2 s | 100e6 in 20 s | 100'000'000 | 195'601'150 |
 * | 50e6 in 1 s | 500e6 in 10 s | INFINITY | 50'000'000 |
 *
 * A guest that sweeps over its set gets an r that is too high, and so does one that idles. That is the safe side.
 * Errors: MIGBUF_E_INVALID; MIGBUF_E_RANGE for a span of 0 or a negative number.
 * Test: test_convergence, two_spans_tell_the_working_set
 */
MIGBUF_API int migbuf_convergence_estimate(double t1_s, double d1_bytes, double t2_s, double d2_bytes,
                                           double *set_bytes, double *rate_bytes_per_s);

/**
 * W and r from two rounds: the newest, and the one whose t (1 - p) differs most from it.
 *
 * | returns | when | W, r |
 * |---|---|---|
 * | 1 | two of them differ by a quarter | as migbuf_convergence_estimate says |
 * | 0 | no two do | INFINITY, and the newest round's own rate |
 *
 * Round 1 is long and round 2 nearly always shorter. Later a throttle makes the difference.
 *
 * Example: rounds of 10 s with 400e6 and of 1 s with 90e6 -> 1, W 447'313'695, r 100'487'247.
 * Errors: MIGBUF_E_STATE without a round, MIGBUF_E_INVALID.
 * Test: test_convergence, rounds_tell_the_guest
 */
MIGBUF_API int migbuf_convergence_rounds(const struct migbuf_rounds *rounds, double *set_bytes,
                                         double *rate_bytes_per_s);

/** The guest and its link as the formulas see them. Fill with migbuf_convergence_init. */
struct migbuf_convergence {
    uint64_t size;            /**< sizeof, set by init */
    double ram_bytes;         /**< memory in use, 0: not known (then left_bytes) */
    double left_bytes;        /**< N: still to be sent in this round */
    double exact_bytes;       /**< what a stop now would have to send: `remaining` at a sync, later with what was dirtied
                                   since; 0: left_bytes */
    double set_bytes;         /**< W, INFINITY where it is not known */
    double rate_bytes_per_s;  /**< r */
    double link_bytes_per_s;  /**< B, > 0: what this migration gets */
    double encoding;          /**< e: bytes sent per dirty byte, > 0; 1 without xbzrle */
    double fix_ms;            /**< of every stop: the devices' state (10 to 60 ms measured), what a mirror has under way */
    double throttle_percent;  /**< p in force, 0 .. 99 */
    double asked_percent;     /**< throttle that was asked for, 0: none */
    double limit_ms;          /**< QEMU's downtime-limit in force, 0 .. 2'000'000 */
    double elapsed_s;         /**< since `migrate` */
    uint32_t known;           /**< 1: W and r come from two spans that differ */
    uint32_t bad_rounds;      /**< as the last decision returned it */
    uint32_t new_round;       /**< 1: a round has ended since the last decision */
    uint32_t rounds;          /**< rounds that have ended */
};

/**
 * A guest of which nothing is known: W INFINITY, e 1, fix 50 ms, everything else 0. link_bytes_per_s must be set then.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT.
 * Test: test_convergence, what_makes_no_sense_changes_nothing; test_convergence, the_shortest_stop
 */
MIGBUF_API int migbuf_convergence_init(struct migbuf_convergence *c, uint64_t size);

/** The largest downtime-limit QEMU takes, ms: what FORCE sets. */
#define MIGBUF_RAM_LIMIT_MOST_MS 2000000u

/**
 * What was agreed beforehand, with whoever owns the guest. Nothing beyond it is ever decided, and nothing in it is guessed.
 */
struct migbuf_agreement {
    uint64_t size;                  /**< sizeof, set by init */
    uint64_t deadline_ms;           /**< for the RAM phase, since `migrate`; 0: max(60 s, 6 times memory in use / link) */
    uint32_t want_ms;               /**< downtime-limit to begin with, 1 .. most_ms */
    uint32_t most_ms;               /**< highest downtime-limit, .. 2'000'000; the guest may stand fix_ms longer */
    uint32_t throttle_most_percent; /**< highest CPU throttle, 0: none, .. 99 */
    uint32_t postcopy;              /**< 1: post-copy is agreed. It risks the guest: a link that does not come back loses it */
    uint32_t force;                 /**< 1: the guest may stand as long as it takes, rather than that the migration fails */
    uint32_t reserved;              /**< 0 */
};

/**
 * The usual agreement: want 100 ms, most 500 ms, throttle 80 %, no post-copy, no force, deadline 0.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT.
 * Test: test_convergence, an_agreement_is_checked
 */
MIGBUF_API int migbuf_agreement_init(struct migbuf_agreement *a, uint64_t size);

/**
 * Whether an agreement is one. Returns 0, or the error:
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_RANGE | a number is outside its range |
 * | MIGBUF_E_INVALID | want is above most; postcopy or force is neither 0 nor 1; NULL |
 * | MIGBUF_E_STRUCT | an unknown `size`, or `reserved` is not 0 |
 *
 * Test: test_convergence, an_agreement_is_checked
 */
MIGBUF_API int migbuf_agreement_check(const struct migbuf_agreement *a);

/**
 * The shortest stop that pre-copy reaches with the throttle in force.
 *
 *   rho <= 1: fix
 *   else      W e f(rho) / B * 1000 + fix;  INFINITY where W is
 *
 * Example (B 117e6, fix 50): W 1e9, r 200e6, p 0 -> 5993.384 ms; W 64e6, p 50 % -> 50 ms; W 1e9, r 80e6 -> 50 ms.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT.
 * Test: test_convergence, the_shortest_stop
 */
MIGBUF_API int migbuf_convergence_least(const struct migbuf_convergence *c, double *ms);

/**
 * The smallest CPU throttle, in percent, with which a stop of most_ms is reached, fix included. 101: none does.
 *
 *   F   = (most - fix)/1000 B / (W e);   F >= 1: no throttle, 0
 *   rho = -ln(1 - F)/F;                  1 for F = 0 or W = INFINITY
 *   percent = max(0, ceil(100 (1 - rho B / (r e))))
 *
 * F is the part of W that may be dirty at the stop.
 *
 * Example (B 117e6, fix 50, most 500): W 1e9, r 200e6 -> 40; r 800e6 -> 85; W INFINITY, r 200e6 -> 42; W 64e6 -> 0.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT.
 * Test: test_convergence, the_throttle_that_is_needed
 */
MIGBUF_API int migbuf_convergence_throttle(const struct migbuf_convergence *c, double most_ms, uint32_t *percent);

/**
 * Seconds until it is over, and how long the guest then stands, with this downtime-limit and all else as it is. Both
 * INFINITY: never.
 *
 * QEMU switches over inside a round, as soon as what is left and what was dirtied meanwhile fit into the limit. So the
 * stop is most of the limit wherever pre-copy converges. A high limit from the start only costs.
 *
 *   th = limit/1000 B     what the limit lets through
 *   L  = e N              what is to be sent
 *
 *   L <= th:              over after L/B + fix, and that is the stop, too
 *   else                  dt = (L - th)/B, left = th/e, M = left + d(dt) - left d(dt)/W
 *     M e <= 1.02 th:     over after dt + th/B + fix, stop limit + fix
 *     M >= 0.999 N with (1 - p) r e >= B: never
 *     else                the same with N = M, at most 200 times
 *
 * Example (B 117e6, fix 50):
 *
 * | guest | limit | over after | stop |
 * |---|---|---|---|
 * | N 4e9, r 58.5e6 | 300 ms | 68.118 s | 350 ms |
 * | N 4e9, W 1e9, r 80e6 | 300 ms | 51.501 s | 350 ms |
 * | N 4e9, W 1e9, r 200e6 | 500 ms | never | never |
 * | the same with p 60 % | 500 ms | 50.598 s | 550 ms |
 * | N 20e6, r 0 | 300 ms | 0.221 s | 220.940 ms |
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT.
 * Test: test_convergence, when_it_will_be_over
 */
MIGBUF_API int migbuf_convergence_finish(const struct migbuf_convergence *c, double limit_ms, double *seconds,
                                         double *downtime_ms);

/* What to do. */
#define MIGBUF_RAM_KEEP 1     /**< it will be over in time as it is */
#define MIGBUF_RAM_DOWNTIME 2 /**< raise the downtime-limit to limit_ms */
#define MIGBUF_RAM_THROTTLE 3 /**< throttle_percent at once, and limit_ms */
#define MIGBUF_RAM_WAIT 4     /**< nothing is known yet, or what was asked for is not in force yet */
#define MIGBUF_RAM_POSTCOPY 5 /**< migrate-start-postcopy */
#define MIGBUF_RAM_FORCE 6    /**< a downtime-limit of 2'000'000: the guest stands until all is sent */
#define MIGBUF_RAM_ABORT 7    /**< migrate_cancel: the guest stays where it is */
#define MIGBUF_RAM_STOP 8     /**< stop the guest: only other projects do so (downtime.h); FORCE stops it for less long */

/* Why. */
#define MIGBUF_RAM_REASON_IN_TIME 1   /**< the forecast keeps the deadline */
#define MIGBUF_RAM_REASON_LIMIT 2     /**< a longer stop, within what was agreed, keeps it */
#define MIGBUF_RAM_REASON_THROTTLE 3  /**< a slower guest would keep it */
#define MIGBUF_RAM_REASON_UNKNOWN 4   /**< too few rounds have ended */
#define MIGBUF_RAM_REASON_SATURATED 5 /**< the guest dirties its working set in every round: it does not converge */
#define MIGBUF_RAM_REASON_LATE 6      /**< the deadline has passed */

/**
 * "keep", "raise the downtime", … of MIGBUF_RAM_KEEP … MIGBUF_RAM_STOP, else "unknown". Static, never NULL.
 * Test: test_convergence, actions_and_reasons_have_names
 */
MIGBUF_API const char *migbuf_ram_action_text(int32_t action);

/**
 * "in time", "too few rounds yet", … of MIGBUF_RAM_REASON_…, else "unknown". Static, never NULL.
 * Test: test_convergence, actions_and_reasons_have_names
 */
MIGBUF_API const char *migbuf_ram_reason_text(int32_t reason);

/** A decision. A record. */
struct migbuf_ram_decision {
    int32_t action;            /**< MIGBUF_RAM_KEEP … MIGBUF_RAM_ABORT */
    int32_t reason;            /**< MIGBUF_RAM_REASON_… */
    uint32_t limit_ms;         /**< downtime-limit from now on */
    uint32_t throttle_percent; /**< CPU throttle to have asked for from now on, 0: none */
    uint32_t bad_rounds;       /**< for migbuf_convergence.bad_rounds the next time */
    uint32_t reserved;         /**< 0 */
};

/**
 * What to do. Ask once per round that has ended, and when it is late. Words of the rules:
 *
 *   t           elapsed_s
 *   late        t is past the deadline
 *   limit       downtime-limit in force
 *   want, most, throttle_most   of the agreement
 *   finish(x)   seconds until it is over with limit x (migbuf_convergence_finish)
 *   least       shortest stop (migbuf_convergence_least)
 *   exact       exact_bytes
 *   bad         bad_rounds
 *
 * The first rule that applies:
 *
 *  1. No round has ended; or none since the last decision, and not late: WAIT.
 *  2. t + finish(limit) <= deadline: KEEP, bad = 0.
 *  3. Not late. For x = ceil(1.15 (least - fix)), at least want, then for x = most: 1.05 limit < x <= most and
 *     t + finish(x) <= deadline: DOWNTIME x, bad = 0.
 *  4. Not late, a throttle is agreed and not yet asked for. q = throttle for a stop of 0.85 most, fix 0. W and r are not
 *     known, or q + 3 <= throttle_most: THROTTLE throttle_most at once, limit = most, bad = 0.
 *  5. A throttle was asked for, is not yet in force, not late: WAIT.
 *  6. bad += 1 for a new round, and limit = at least most. Post-copy is agreed, and bad >= 2 or late: POSTCOPY.
 *  7. Force is agreed, and bad >= 3 or t + 1.2 (e exact / B + fix) > deadline: FORCE.
 *  8. Late, or bad >= 4 without force: ABORT, but never before the second round has ended.
 *  9. WAIT.
 *
 * Why the highest throttle at once: a throttle is a slow pause. The guest loses p times how long p lasts, and that falls
 * as p rises. Guest time lost with N 3000 MB, B 100 MB/s, r 150 MB/s:
 *
 * | throttle | 40 % | 60 % | 80 % |
 * |---|---|---|---|
 * | lost | 120 s | 45 s | 34 s |
 *
 * Why no throttle where q is above what was agreed: where W is dirtied whole in each round it changes nothing.
 *
 * Example (B 117e6, e 1, fix 50, want 100, most 500, throttle 80, deadline 216; limit in force 100; t 36):
 *
 * | W | r | N | decision |
 * |---|---|---|---|
 * | 30e6 | 200e6 | 30e6 | DOWNTIME 206 |
 * | 400e6 | 300e6 | 380e6 | THROTTLE 80, limit 500 |
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT; *d is unchanged then.
 * Test: test_convergence, decisions_of_the_golden_table
 */
MIGBUF_API int migbuf_convergence_decide(const struct migbuf_convergence *c, const struct migbuf_agreement *a,
                                         struct migbuf_ram_decision *d);

/* Will it be over in time by pre-copy, with what was agreed? */
#define MIGBUF_RAM_YES 1     /**< it will, as it is */
#define MIGBUF_RAM_NO 2      /**< not even the highest throttle makes the stop as short as agreed */
#define MIGBUF_RAM_UNKNOWN 3 /**< neither is known */

/** What will become of it. The caller sets `size` (sizeof). */
struct migbuf_ram_forecast {
    uint64_t size;           /**< sizeof, set by the caller */
    int32_t verdict;         /**< MIGBUF_RAM_YES, _NO, _UNKNOWN */
    int32_t reserved;        /**< 0 */
    double deadline_s;       /**< since `migrate` */
    double end_s;            /**< since `migrate`; INFINITY: never as it is */
    double end_least_s;      /**< nine in ten end later: what is still to come times 0.9 */
    double end_most_s;       /**< nine in ten end sooner: times 1.3 */
    double downtime_ms;      /**< with the limit in force */
    double downtime_most_ms; /**< with every raise that was agreed; tell people this one */
    double sent_bytes;       /**< bytes still to be sent */
    double lost_s;           /**< guest time still to be lost: throttle times its time, and the stop */
};

/**
 * When it will be over, with bars. Repeat it each round.
 *
 * | verdict | when |
 * |---|---|
 * | YES | migbuf_convergence_finish keeps the deadline |
 * | NO | W and r are known, and the least stop at the highest throttle is more than 5 % above most |
 * | UNKNOWN | neither |
 *
 * Example: N 4e9, r 58.5e6, B 117e6, fix 50, limit 300, t 0, most 500, memory in use 4e9 -> deadline 205.128 s, end
 * 68.118 s (61.306 .. 88.553), stop 350 ms, at most 550, YES.
 * The bars are the 10th and 90th percentile of what came true in a model with two seeds and two links (0.93 and 1.31).
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT; *f is unchanged then.
 * Test: test_convergence, a_forecast_has_bars_and_a_verdict; test_convergence, the_usual_deadline_follows_memory_and_link
 */
MIGBUF_API int migbuf_convergence_forecast(const struct migbuf_convergence *c, const struct migbuf_agreement *a,
                                           struct migbuf_ram_forecast *f);

/** A VM whose disk is over there and whose memory waits for the link. A record. */
struct migbuf_ram_turn {
    uint64_t id;        /**< the migration's */
    double held_bytes;  /**< of the shared buffer, until its RAM phase is over */
    double seconds;     /**< its RAM phase takes, > 0 */
    uint32_t ready;     /**< 1: it may start: its mirror is ready */
    uint32_t reserved;  /**< 0 */
};

/**
 * In which order memory goes over one link, one VM at a time. `order` gets the n indices. Returns how many are ready.
 *
 * - Those that are ready come first.
 * - Among them the largest held_bytes / seconds is first (Smith's rule). So the sum of held bytes times how long they are
 *   held is least.
 * - Ties go by id.
 *
 * Why one at a time: rho counts the link. A guest with r 60 and B 100 converges alone, and never in two halves.
 * Example (s, GB held): a (40, 2), b (10, 1), c (20, 4), d (5, 0.2) -> c b a d: 265 GB s. Shortest first would be 306.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE; *order is unchanged then.
 * Test: test_convergence, what_frees_most_is_first; test_convergence, the_order_is_sorted
 */
MIGBUF_API int migbuf_convergence_order(const struct migbuf_ram_turn *turns, size_t n, uint32_t *order);

#ifdef __cplusplus
}
#endif
#endif
