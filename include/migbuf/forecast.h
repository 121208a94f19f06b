/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_FORECAST_H
#define MIGBUF_FORECAST_H
/**
 * @file forecast.h
 * What a guest will still add to its file: how fast it writes, how much of that is new, how much new there is left.
 *
 * A qcow2 overlay grows only where the guest writes for the first time. A guest that keeps rewriting the same clusters
 * soon stops growing its file, however fast it writes. Three figures say it all, and all three come out of two counters
 * and a file size:
 *
 *   rho  growth_ratio  bytes of file per byte written, over the last minute;
 *                      0 .. 1
 *   v    rate          bytes written per s, over the last minute
 *   vpk  peak          the peaks of v
 *   V    working set   bytes the file would still grow by, if the guest went on
 *                      for ever
 *
 * "Bytes written" are *unit bytes* here. A request of any length counts as max(1, length / unit) units of the unit's
 * size, as QEMU's iops_size counts it (limits.h). In plain bytes rho would be 16 for 4 KiB writes.
 *
 * The figures forget with a time constant of 60 s: half of what was more than 42 s ago is gone. That is long enough to
 * see several periods of a flushing file system (5 s to 30 s), and short against a migration (minutes).
 *
 * All amounts are bytes and bytes/s, but any other unit works as long as it is one: the examples use MB. NaN gives
 * MIGBUF_E_INVALID, a negative number MIGBUF_E_RANGE; after an error nothing has changed. Nothing is kept. Any thread.
 *
 * Link with -lmigbuf. Experimental (MIGBUF_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Time constant of everything that is smoothed, s. */
#define MIGBUF_FORECAST_MEMORY_S 60.0
/** Written and grown bytes a new forecast pretends to have seen: 1000 clusters before rho is believed. */
#define MIGBUF_FORECAST_PRIOR_BYTES 64e6

/** What is known of one guest. A record: copy it, store it, pass it in arrays. Fill with migbuf_forecast_init. */
struct migbuf_forecast {
    double rate;          /**< v */
    double peak;          /**< vpk: falls to the current rate with the time constant, jumps up at once */
    double grown_bytes;   /**< num: recent growth */
    double recent_bytes;  /**< den: recent unit bytes */
    double growth_ratio;  /**< rho = num / den */
    double written_bytes; /**< u: all unit bytes since the overlay exists */
};

/**
 * A guest whose overlay is empty. `rate` is what it wrote before, in unit bytes/s. 0: not known; the first minute's
 * plan then believes that the guest writes nothing. Every write is taken to be new (rho = 1) until measured otherwise.
 * Test: test_forecast, a_working_set_is_found
 */
MIGBUF_API int migbuf_forecast_init(struct migbuf_forecast *f, double rate);

/**
 * Takes what was measured over the last interval.
 *
 *   interval_s  since the last update, > 0
 *   written     unit bytes in the interval
 *   grown       newly allocated bytes; what was released does not count, pass 0 then
 *   limit       the throttle in force in unit bytes/s: INFINITY for none, 0 for a paused guest (nothing is learned then)
 *
 *   smp = written / interval;  l = exp(-interval / 60)
 *   saturated = limit < INFINITY and smp >= 0.9 limit
 *   vpk = saturated ? max(vpk, smp) : max(smp, l vpk)
 *   v  += (1 - l) ((saturated ? max(smp, vpk) : smp) - v)
 *   num = l num + grown;  den = l den + written
 *   rho = num / den, at most 1
 *
 * - Why `saturated`: a guest at its limit shows the limit, not what it wants. Its rate then moves towards its peak, so
 *   that a throttled guest is not planned for ever with what it was throttled to. 0.9 leaves room for the sampling of a
 *   bucket.
 * - Why num and den apart: a mean of ratios would give a tick with one write as much say as a tick with a thousand.
 *
 * Example (v 10, vpk 20, num 40, den 64, one second, written 11, grown 7):
 *
 *   limit 12  v 10.165286, vpk 20
 *   limit 13  v 10.016529, vpk 19.669429
 *   both      num 46.338858, den 73.942173, rho 0.6266905
 *
 * Source: ours.
 * Test: test_forecast, update_examples
 */
MIGBUF_API int migbuf_forecast_update(struct migbuf_forecast *f, double interval_s, double written, double grown,
                                      double limit);

/**
 * V: how much the file would still grow.
 *
 * If every write hits one of the guest's clusters at random, the file grows as W (1 - exp(-u / W)) with the unit bytes
 * u written, W being the working set. s is the file's size. rho now, against its mean s / u since the start, tells how
 * far that curve has bent:
 *
 *   y = rho u / s = z / (e^z - 1)   gives z = u / W, and what is left is V = s y / z
 *
 * - y >= 0.999, or nothing written, or no file: the curve is still straight, V = INFINITY.
 * - In any case V is at most `most`: the disk's size minus the file (INFINITY is fine).
 * - rho = 0 gives 0.
 *
 * Example (s 800, u 1000): rho 0.4 -> z 1.256431, V 318.362; rho 0.799999 -> INFINITY; the latter with most 500 -> 500.
 * Source: ours; coupon collecting in the limit of many clusters.
 * Test: test_forecast, remaining_examples
 */
MIGBUF_API int migbuf_forecast_remaining(const struct migbuf_forecast *f, double file_bytes, double most,
                                         double *bytes);

/**
 * The z of z / (e^z - 1) = y, for 0 < y <= 1; 0 for y = 1. Good to a relative 1e-9.
 *
 * Example: 0.5 -> 1.25643121; 0.9 -> 0.20714650. Errors: MIGBUF_E_RANGE also for y = 0 (z is infinite there).
 * Test: test_forecast, bend_examples
 */
MIGBUF_API int migbuf_forecast_bend(double y, double *z);

/**
 * Growth in t seconds of a guest that writes `rate` unit bytes/s.
 *
 *   V (1 - exp(-rho rate t / V)),  rho rate t where V = INFINITY,  0 where V or rho is 0
 *
 * Never more than V, never more than rho rate t; rises with each argument. rate may be INFINITY (then V), t not.
 * Example: V 1000, rho 0.5, rate 40, t 100 -> 864.664717; V INFINITY -> 2000.
 * Test: test_forecast, growth_and_back
 */
MIGBUF_API int migbuf_forecast_growth(double remaining, double growth_ratio, double rate, double t_s, double *bytes);

/**
 * The way back: the rate whose growth in t seconds is `budget`, INFINITY where no rate reaches it. t > 0.
 *
 *   -V / (rho t) ln(1 - budget / V),  budget / (rho t) where V = INFINITY,  INFINITY where budget >= V or rho = 0
 *
 * Example: V 1000, rho 0.5, budget 500, t 100 -> 13.8629436; V INFINITY -> 10; budget 1000 -> INFINITY.
 * Test: test_forecast, growth_and_back
 */
MIGBUF_API int migbuf_forecast_rate_for(double remaining, double growth_ratio, double budget_bytes, double t_s,
                                        double *rate);

#ifdef __cplusplus
}
#endif
#endif
