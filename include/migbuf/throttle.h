/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_THROTTLE_H
#define MIGBUF_THROTTLE_H
/**
 * @file throttle.h
 * The paper's write rate made exact, and the clamps that make it safe. Pure: doubles in, doubles out.
 *
 * The paper is: gabrielmougard, *Improve the VM live migration process*, 11 February 2024, the mathematical part of the
 * LXD specification LX066. Everywhere else it is called the LX066 paper.
 *
 *   Ω        the volume that all overlays share, and its size
 *   N        number of migrations that run
 *   Π        size of one bin: a migration's part of Ω on paper; Ω / N (bins.h)
 *   s        size of a migration's overlay
 *   α, a     position of a migration's bytes in a bin's stack, 1 at the bottom;
 *            Σα and a: its mean (priority.h)
 *   γ        the rate a migration may write at
 *   γ_SLA    the least it is to get
 *   ε, e     a small constant: 0.01 in the paper; here two, e_s and e_r
 *   U        what the link carries; U / N is one migration's part
 *   A        file bytes per byte let through, at the worst (limits.h)
 *   T        longest time to the next decision
 *   b        QEMU's burst, 0.1 s
 *
 * Units are the caller's, as long as they agree: bytes and bytes/s here; the examples use MB and MB/s, as the paper
 * does. NaN anywhere gives MIGBUF_E_INVALID, a negative number or one beyond 10^50 MIGBUF_E_RANGE (migbuf.h), and
 * outputs are untouched then. INFINITY is fine where a line says so. Nothing is kept. Any thread.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The constants of the rate. Fill with migbuf_throttle_constants_init, then change what you like. */
struct migbuf_throttle_constants {
    uint64_t size;              /**< sizeof, set by _init */
    double tau_s;               /**< time in which a bin's bytes become a rate, > 0; default 1 s */
    double epsilon_bytes;       /**< softens the pole at a full bin, > 0; default 10'000 */
    double epsilon_bytes_per_s; /**< the rate of a full bin; default 10'000 */
};

/**
 * Defaults. `size` is the caller's sizeof. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_golden, g7
 */
MIGBUF_API int migbuf_throttle_constants_init(struct migbuf_throttle_constants *c, uint64_t size);

/**
 * The rate h of one migration before any clamp.
 *
 *   h = (E / tau) * exp(-a * f / ((E - f) + e_s)) + e_r        and e_r alone when E <= f
 *     E  capacity_bytes   size of the open (not full) bins the migration lies in; 0 .. 10^50
 *     f  used_bytes       what lies in them, everybody's data
 *     a  priority         mean stack position, >= 1; see migbuf_priority_mean
 *
 * Differences from the literal text, each with the smallest case that shows why:
 *
 * - Two epsilons and a tau. The text adds the same 0.01 to MB and to MB/s, and reads Π MB as Π MB/s. With minutes
 *   instead of seconds the rate at f = 40 would be 0.87 instead of 51.36 MB/s. tau = 1 s keeps the paper's curve.
 * - E <= f gives e_r. Literal: Π = 100, s = 100.02 -> exp(+10002), no throttle at all. See migbuf_throttle_literal.
 * - E and f count every open bin and everybody's data in it. So two migrations never see the same room twice.
 *
 * Example (MB, e = 0.01): E 100, f 40, a 1 -> 51.357416; a 2 -> 26.375571; f 69.7368 -> 10; f 100 -> 0.01.
 * Source: LX066 paper, "γi: the throttle rate (sharded behavior)"; the repairs are ours.
 * Test: test_throttle, rate_examples; test_golden, g2
 */
MIGBUF_API int migbuf_throttle_rate(double capacity_bytes, double used_bytes, double priority,
                                    const struct migbuf_throttle_constants *c, double *rate_bytes_per_s);

/**
 * The formula as printed: min(Π exp(-a s / ((Π - s) + e)) + e, U / N), pole included. Reference for tests and for the
 * policy `literal`; not for use on a guest.
 *
 * Example (MB): Π 100, s 100.02, U/N 10 -> 10 (no throttle on a full bin); s 120, U/N 1e9 -> 40464.16.
 * Test: test_throttle, literal_has_its_pole; test_golden, g5
 */
MIGBUF_API int migbuf_throttle_literal(double bin_bytes, double file_bytes, double priority,
                                       double link_share_bytes_per_s, const struct migbuf_throttle_constants *c,
                                       double *rate_bytes_per_s);

/**
 * Highest rate that cannot outgrow `free_bytes` before the next decision lands, whatever the guest does.
 *
 *   cap = max(0, (room / A - r) / (T + b))
 *     room               free_bytes; may be INFINITY, then so is the cap
 *     A  amplification   file bytes per byte let through, > 0
 *     r  request_bytes   one whole request passes a bucket that is not full
 *     T  interval_s      longest time to the next decision
 *     b  burst_s         QEMU's bucket: 0.1 s
 *
 * Why: without it, and with T = 5 s, a guest without limit puts 612 MB into a 100 MB bin in 12 ticks. (Each tick starts
 * below the curve's knee or beyond its pole.) Example (MB): cap(512, 16, 1, 0.1, 0) = 29.0909. Source: ours.
 * Test: test_throttle, hard_cap_and_pending_examples; test_golden, g15
 */
MIGBUF_API int migbuf_throttle_hard_cap(double free_bytes, double amplification, double interval_s, double burst_s,
                                        double request_bytes, double *rate_bytes_per_s);

/**
 * What may still be written under the old rate between measuring and the new limit landing.
 *
 *   pending = lag > 0 ? A * (min(rate, device) * (lag + b) + r) : 0
 *
 * `rate` and `device` (most the device can write) may be INFINITY; if both are, so is the result. Example (MB): rate
 * 20, A 16, lag 0.2, b 0.1, r 0 -> 96. Source: ours.
 * Test: test_throttle, hard_cap_and_pending_examples; test_golden, g16
 */
MIGBUF_API int migbuf_throttle_pending(double rate_bytes_per_s, double device_bytes_per_s, double amplification,
                                       double lag_s, double burst_s, double request_bytes, double *bytes);

/**
 * The common level l at which claims fit: sum over i of min(amount[i], weight[i] * l) = total.
 *
 * INFINITY when everything fits as it is. `weight` NULL means 1 each; weights are > 0. `total` below 0 counts as 0.
 * `scratch` holds n indices and is overwritten. O(n) a pass, and few passes: each satisfies somebody.
 *
 * Example: {1, 2, 3, 10}, total 9 -> 3; total 8 -> 2.5; {5, 5}, 20 -> INFINITY; {1, 1}, 0 -> 0.
 * Source: water-filling. The paper has no such clamp and grows for ever at ε: ten guests at 10 kB/s with 16-fold growth
 * add 1.6 GB in 1000 s to a full buffer.
 * Test: test_throttle, shave_examples; test_golden, g17
 */
MIGBUF_API int migbuf_throttle_shave(const double *amount, const double *weight, size_t n, double total,
                                     size_t *scratch, double *level);

/**
 * The greatest rates with y[i] <= x[i] and y[borrower] <= y[lender] for every borrower of every lender.
 *
 * - A borrower has bytes in the bin of its lender. The paper says guest and host.
 * - Borrowers of lender i are borrower[first[i]] .. borrower[first[i + 1] - 1]. `first` has n + 1 entries, starts at 0
 *   and never falls. Cycles are fine.
 * - `scratch` holds 2 n indices. y may not overlap x. O(n log n + edges).
 *
 * Example: lenders of 0, 1, 2 are 1, 0, 0; x = 5, 3, 9 -> y = 3, 3, 3.
 * Errors: MIGBUF_E_INVALID also for a `first` that falls, MIGBUF_E_RANGE for a borrower >= n.
 * Source: LX066 paper, "γSLA <= γi <= γj"; as a fixed point, because the text's γ0 <= γ1 <= γ0 has no order to compute
 * it in.
 * Test: test_throttle, hosts_examples; test_golden, g14
 */
MIGBUF_API int migbuf_throttle_lenders(const double *x, size_t n, const size_t *first, const size_t *borrower,
                                     size_t *scratch, double *y);

#ifdef __cplusplus
}
#endif
#endif
