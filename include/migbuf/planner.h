/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_PLANNER_H
#define MIGBUF_PLANNER_H
/**
 * @file planner.h
 * Who may fill how much of Ω until when, and when the next migration should start. Pure; the caller gives all arrays. A
 * host need not call it: policy `planner` of buffer.h does, with forecast and link around and the clamps behind it.
 *
 * Symbols on this page:
 *
 *   Ω      bytes    the volume of the overlays, without what is kept for drains
 *   N               number of migrations that run
 *   U      bytes/s  what a link carries; flow: most that one migration gets
 *   x      bytes    still to send, with what the guest adds meanwhile
 *   T      s        finish time: from now until the files are deleted
 *   need   bytes    growth forecast until T
 *   h      bytes/s  demand: need / T, above the floor
 *   R      bytes/s  cap: most that a file and all that leave later may grow
 *   g      bytes/s  growth it gets, above the floor
 *   d               part of what is sent that the guest makes anew meanwhile
 *   V, v, vpk, rho  working set left, rate, peak, growth ratio (forecast.h)
 *   floor  bytes/s  what each may write whatever is planned
 *   M               how many run when the links are full
 *
 * ## What it decides, and why
 *
 * A file in Ω matters only until it is deleted. The rule of the LX066 paper (throttle.h) looks at how full a bin is
 * *now*. So a fifth of the buffer is never used. A guest that came too close to its bin's end crawls at 10 kB/s for the
 * rest of its migration, although its neighbour's 3 GB will be gone in a minute. The planner looks ahead instead.
 *
 * 1. *When will each migration be over?* What it still has to send, divided by its share of the link. The share grows
 *    each time somebody else is done (migbuf_planner_finish). That is the finish time T of its file.
 * 2. *How much would each guest's file grow until then, if nobody throttled it?* The forecast knows (forecast.h). Per
 *    second that is its demand h.
 * 3. *What can be given?* Just before the k-th finish the files of k, k+1, … N all lie in Ω. So their growth together
 *    must stay below what is free beside them, per second R(k) = (Ω - their files) / T(k). N such caps, each within the
 *    next. Whoever leaves is soon replaced by one who begins with nothing. So those who stay longer leave some room for
 *    each that has left by then, or could be running already.
 * 4. *Who gets how much?* From the last to finish back to the first, each adds its demand. Where a sum exceeds its cap,
 *    the tallest are cut to one level (migbuf_planner_chain). That is max-min fair: nobody could get more unless
 *    somebody with less got even less. Light writers are never touched, hogs share what is left, and who leaves soon
 *    may take room that who stays must not. It is fair in *growth*, because that is what a guest costs the others,
 *    whatever it buys with it.
 * 5. *At what rate?* Who got all its demand runs without throttle. So does who has just begun on a flow of its own: how
 *    much it will grow in the end can only be learned from its writing, and many a guest that writes fast keeps to a
 *    few GB. The others get the rate at which their forecast uses up exactly what they got by the time they finish.
 *    Bursty guests get proportionally more, because they idle in between.
 *
 * It plans again at every tick, so errors of the forecast are corrected in seconds. And it is only a plan. That the
 * files never outgrow Ω is the business of the hard clamps behind it (migbuf_throttle_shave, buffer.h), which trust no
 * forecast.
 *
 * Not to start what would only share a full link helps more than any throttle. Two migrations at half speed take each
 * as long as one after the other takes both, and both files lie in Ω all the time. migbuf_admission_queue says who
 * waits.
 *
 * ## Worked example: Ω 1000 MB, one link of 100 MB/s, floor 0, no demand of the past (need 0)
 *
 *   a  4000 MB of base image to send, its file weighs 100 MB already, the guest writes 1 MB/s, all of it new
 *   b  9000 MB, 100 MB, 20 MB/s
 *
 * Each has a share of 50 MB/s of the link. The files are sent after the images, and what guests add then is sent once
 * more.
 *
 * | step | a | b |
 * |---|---|---|
 * | d | 1 of 50 = 0.02 | 20 of 50 = 0.4 |
 * | x, MB | 4000 + 100 / 0.98 = 4102.041 | 9000 + 100 / 0.6 = 9166.667 |
 * | T, s | 4102.041 / 50 = 82.041 | 82.041 + (9166.667 - 4102.041) / 100 = 132.687 |
 * | h, MB/s | 1 | 20 |
 * | R, MB/s | 800 / 82.041 * 1.5 = 14.627 | (850 - 100) / 132.687 * 1.5 = 8.479 |
 * | g, MB/s | 1 | 8.479 |
 *
 * - T: b has sent as much as a when a is done, and has the link alone from then on.
 * - R has the front factor 1 + 1/2. That of a is for both files until 82.041 s. That of b is for its file alone until
 *   132.687 s, and 0.3 of one place in two is left to who comes when a has gone.
 * - g, back to front: b is cut to 8.479; a adds 1, and 9.479 is below 14.627.
 *
 * Result: a is not throttled, b gets 8.479 MB/s. Equal bins would have stopped b at 500 MB, after 20 s.
 *
 * ## Constants, each with its reason
 *
 *   60 s         forecast.h: several flushes of a file system, much shorter
 *                than a migration; U is averaged over it
 *   front 1+1/N  a growth ratio can only fall, so one migration alone may plan
 *                that half of its later writes will be rewrites; with many,
 *                errors average out and the caps are taken as they are.
 *                1 + 2/N: 1.5 points more bytes written, but twice the p99
 *                slowdown; 1: 4 points less, the same slowdown
 *                (examples/simulate)
 *   newcomers    0.3 of Ω, per place that is or will be free, is left to who
 *                comes. A guest that stays for long gains little from the last
 *                GB, the next small one needs it. 0 delivers 1.5 points less
 *                per VM where migrations keep coming and heavy writers are
 *                many, 0.6 as much less where nobody comes
 *   explore      0.25 of an equal part of Ω, unthrottled, where the flow is not
 *                shared (a share above 0.7 of the best). 0 delivers a point
 *                less per VM, 0.4 leaves others' slowest writes waiting twice
 *                as long
 *   floors       1; policy planner of buffer.h takes 3. A link that stays behind
 *                its plan lets files lie longer than was planned, and each guest
 *                must go on writing its floor meanwhile. Over 1 Gbit/s guests
 *                stood for up to 91 s with 1, for 0.9 s with 3, and delivered
 *                the same (examples/simulate)
 *   d <= 1/2     a guest cannot be planned to dirty more than half of what is
 *                sent: else no finish time is finite
 *   half, 0.9    of the share while draining. At half, draining takes at most
 *                twice as long as with the guest stopped (2-competitive). 0.9
 *                where space is not short, because dirtying at exactly the
 *                share never drains
 *   0.999        a demand is "got" up to rounding; and where less than 0.000001
 *                is missing
 *   20           peak over mean is believed up to here: a guest that writes one
 *                second in 20
 *   admission    half a flow must find idle link, with 5 % for the noise of the
 *                measured mean
 *
 * Amounts are bytes, bytes/s and s; any other unit works as long as it is one. Written amounts are unit bytes
 * (forecast.h). NaN gives MIGBUF_E_INVALID, a number out of its range MIGBUF_E_RANGE; outputs are untouched then. The
 * order of the guests in the arrays does not matter: ties are broken by id. Nothing is kept. Any thread.
 *
 * Costs O(N log N) for N guests. Source: ours; measured against the paper's rule in examples/simulate.
 *
 * Link with -lmigbuf. Experimental (MIGBUF_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** One link. A record. */
struct migbuf_planner_link {
    double bytes_per_s;      /**< U, its mean over the last minute (migbuf_link_mean), > 0, finite */
    double flow_bytes_per_s; /**< most that one migration gets of it, > 0; INFINITY: as much as there is */
};

/** One running migration. A record. */
struct migbuf_planner_guest {
    uint64_t id;         /**< breaks ties, each once */
    uint32_t link;       /**< index of its link */
    uint32_t draining;   /**< 0: its base image is being copied; 1: the overlay is being sent */
    uint32_t place;      /**< of the last plan, so that sorting is quick: the order hardly changes. Any number does */
    uint32_t reserved;   /**< 0 */
    double weight;       /**< an administrator's, > 0: its part of the link and of what is given; 1 */
    double file_bytes;   /**< s: its files in Ω */
    double left_bytes;   /**< base image still to copy, or (draining) overlay still to send */
    double need_bytes;   /**< what the last plan forecast as its growth; 0 at first */
    double remaining;    /**< V, INFINITY where not known (migbuf_forecast_remaining) */
    double growth_ratio; /**< rho */
    double rate;         /**< v, unit bytes/s */
    double peak;         /**< vpk */
};

/** What is planned for one migration. A record; the steps of migbuf_planner_tick() in the order they are made. */
struct migbuf_planner_plan {
    double send_bytes; /**< x: still to send, with what the guest adds meanwhile */
    double finish_s;  /**< T: seconds from now until its file is deleted, at least one interval */
    double need_bytes; /**< forecast growth until then: keep it for the next tick's guest */
    double demand;       /**< h: the growth it wants, above the floor */
    double cap;       /**< R: most that it and all that leave later may grow, together */
    double growth;     /**< g: the growth it gets, above the floor */
    double rate;       /**< unit bytes/s its guest may write; INFINITY: no throttle. At least the floor */
    uint32_t place;    /**< 0: leaves first */
    uint32_t cut;      /**< 1: it got less than its demand (it may explore nevertheless) */
};

/** Scratch. A record; its content means nothing to a caller. */
struct migbuf_planner_slot {
    double number[4];  /**< scratch */
    uint64_t index[2]; /**< scratch */
};

/** What all share. Fill with migbuf_planner_options_init; `size` first: it may grow. */
struct migbuf_planner_options {
    uint64_t size; /**< sizeof, set by _init */
    double capacity_bytes; /**< Ω, without what is kept free for drains */
    double interval_s;     /**< time between two ticks, > 0; 1 */
    double floor;          /**< what each may write whatever is planned, unit bytes/s; 160'000: γ_SLA, 10 kB/s of
                                4 KiB writes in 64 KiB clusters */
    double newcomers;      /**< what who stays leaves to who comes, 0 .. 1; 0.3 */
    double explore;        /**< part of an equal part of Ω that may be filled to learn, 0 .. 1; 0.25 */
    double floors;         /**< so many floors are kept free for each until it is over, as far as that is a
                                sixteenth of Ω, 1 .. 1000; 1 */
};

/**
 * Defaults; capacity 0. `size` is the caller's sizeof. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_planner, nonsense_is_refused_and_nothing_written
 */
MIGBUF_API int migbuf_planner_options_init(struct migbuf_planner_options *o, uint64_t size);

/**
 * One tick: steps 1 to 5 above for all guests. `plans` gets one plan per guest, in the guests' order. `scratch` holds
 * guest_count + link_count slots. Guests with the same link share it by weight.
 *
 *   share = min(flow, U w / sum of w)
 *   d     = min(1/2, rho v / share), draining min(1/2, v / share): rewrites are sent, too
 *   x     = left + (file + need) / (1 - d), draining left / (1 - d)
 *   T     : per link, migbuf_planner_finish over x in ascending order, each at least one interval
 *   need  = migbuf_forecast_growth(V, rho, v, T);  h = max(0, need / T - floor)
 *   M     = sum over links in use of max(migrations on it, U / flow, 1): as many as run when the links are full
 *   Ω(k)  = Ω (1 - newcomers (M - number of it and of all that leave later) / M), in order of T
 *   spare = min((floors - 1) their number * floor * T, Ω / 16)
 *   R     = max(0, ((Ω(k) - files of it and of all that leave later - spare) / T - their number * floor) (1 + 1 / N))
 *   g     = migbuf_planner_chain(h, R)
 *   rate  = INFINITY where g >= 0.999 h - 10^-6, or while file < explore Ω / M before draining with share >= 0.7
 *           min(flow, U), else migbuf_forecast_rate_for(V, rho, (g + floor) T, T) * clamp(vpk / v, 1, 20)
 *           draining: at most share * (somebody was cut ? 0.5 : 0.9);  never below the floor
 *
 * Returns the number of guests that were cut. `plans` may not overlap `guests`.
 * Test: test_planner, the_header_s_example; test_planner, a_golden_tick; test_planner, floors_are_kept_free
 */
MIGBUF_API int migbuf_planner_tick(const struct migbuf_planner_options *o, const struct migbuf_planner_link *links,
                                   size_t link_count, const struct migbuf_planner_guest *guests, size_t guest_count,
                                   struct migbuf_planner_slot *scratch, struct migbuf_planner_plan *plans);

/**
 * When n flows that share a link fairly are done. `send` ascends; done[k] gets the time of the k-th.
 *
 *   T(k) = T(k-1) + (x(k) - x(k-1)) / min(flow, U / (n - k + 1))        T(0) = x(0) = 0
 *
 * With weights x is x / w, and the part of k is min(flow / w(k), U / sum of the w of all that are left); then x / w
 * must ascend. weight NULL: 1 each.
 * Example: {100, 400, 900}, U 10: flow 5 -> {30, 90, 190}; flow 100 -> {30, 90, 140}.
 * Errors: MIGBUF_E_INVALID also for values that fall. O(n).
 * Test: test_planner, finish_examples
 */
MIGBUF_API int migbuf_planner_finish(const double *send, const double *weight, size_t n,
                                     const struct migbuf_planner_link *link, double *done);

/**
 * The caps R of step 3, for files in order of finish (`finish_s` never falls, > 0). Nobody is expected to come
 * (newcomers 0). `front` 1 applies the factor 1 + 1/n; other values scale it. O(n).
 *
 * Example: Ω 1000, files {200, 100, 300}, finish times {10, 50, 200}, floor 0, front 0 -> {40, 12, 3.5}; front 1 ->
 * {53.33, 16, 4.667}.
 * Test: test_planner, lines_examples
 */
MIGBUF_API int migbuf_planner_caps(double capacity_bytes, const double *file_bytes, const double *finish_s, size_t n,
                                    double floor, double front, double *cap);

/**
 * Max-min fair growth g <= h with g(k) + … + g(n) <= R(k) for every k.
 *
 * By weight: the level is g / w. weight NULL: 1 each. `scratch` holds n slots. R may be INFINITY, h not. g may be h.
 * O(n log n).
 *
 *   h {30, 4, 20}   R {40, 12, 3.5}                     -> {30, 4, 3.5}
 *   h {50, 4, 20}   R {40, 12, 3.5}                     -> {32.5, 4, 3.5}
 *   h {50, 10, 20}  R {6, 12, 3.5}                      -> {2, 2, 2}
 *   h {4, 16, 1}    R {10, 1e9, 1e9}, weights {2, 4, 1} -> {3, 6, 1}
 * Test: test_planner, chain_examples; test_planner, chain_is_max_min_fair
 */
MIGBUF_API int migbuf_planner_chain(const double *demand, const double *cap, const double *weight, size_t n,
                                    struct migbuf_planner_slot *scratch, double *growth);

#ifdef __cplusplus
}
#endif
#endif
