/* SPDX-License-Identifier: MIT */
/* claims: the terms of the proof that the files never outgrow Ω, for one migration. The proof stands in README.md, and
 * the terms have the same names here; that all of them together fit is kept in space.c. Only reckons: changes no migration.
 *
 * What must stay true: no term is less than QEMU can let grow in its time, and together they are never more than what is
 * missing to the whole disk. */
#include "claims.h"
#include "in_force.h"
#include <math.h>

/* Growth under a limit of `rate` in so many seconds, with `sets` decisions landing meanwhile and `carried` requests that
 * pass a bucket as it is. Tables and refcounts included. */
static double growth_of(const struct entry *e, double rate, double seconds, double sets, double carried)
{
    double window_s = seconds + carried * MIGBUF__THROTTLE_BURST_S + sets * e->set_s;
    double data = e->amplification * rate * window_s + carried * e->request + sets * e->set_request;
    double tables = e->amplification * rate * window_s * e->per_byte;

    return data + migbuf__least(e->metadata, tables + carried * e->of_request + sets * e->set_of_request);
}

/* As much as all limits allow that may have been in force since then. */
double migbuf__unseen_of(const struct entry *e, uint64_t since_ms, uint64_t now_ms)
{
    uint32_t sets;
    double rate, missing_bytes;

    if (since_ms == now_ms)
        return 0;
    rate = migbuf__highest_rate(e, &sets);
    missing_bytes = migbuf__most(e->whole - (double)e->file_bytes, 0);
    if (rate <= 0)
        return 0;
    if (since_ms == MIGBUF__NEVER)
        return missing_bytes;
    return migbuf__least(growth_of(e, rate, (double)(now_ms - since_ms) / 1000, sets, 0), missing_bytes);
}

/* Without a lag no time passes, but for files that were not measured. */
double migbuf__pending_of(const struct migbuf_buffer *b, const struct entry *e, double missing_bytes)
{
    uint32_t sets;
    double rate = migbuf__highest_rate(e, &sets);

    if ((!b->options.lag_ms && !sets && e->now.limited && e->unseen <= 0) || rate <= 0)
        return 0;
    return migbuf__least(growth_of(e, rate, b->options.lag_ms / 1000.0, sets, 1), missing_bytes);
}

/* Growth from when the last decision has landed until the next one has. While nobody has said that it has, it may be
 * refused, and what was in force before stays for as long. */
static double claimed(const struct migbuf_buffer *b, const struct entry *e)
{
    uint32_t sets;

    if (e->open || e->unknown)
        return fmax(e->claim, growth_of(e, migbuf__highest_rate(e, &sets), b->late_interval_s, 1, 0));
    return e->now.paused ? 0 : e->claim;
}

/* The most that its files can weigh before the next decisions have landed, drains included. What the last tick counted as
 * reserve stays counted: beside it, it counted only what was left to write. */
double migbuf__reach_of(const struct migbuf_buffer *b, const struct entry *e)
{
    double files = migbuf__most_of(e), reserve = fmax(e->reserve, migbuf__reserve_of(e, files));

    if (e->joining)
        return 0;
    return fmax(files, fmin(e->whole, files + reserve + e->pending + claimed(b, e)));
}

double migbuf__least_bytes(const struct migbuf_buffer *b, const struct entry *e, double file_bytes)
{
    struct claim c = migbuf__claim_of(b, e);
    double missing_bytes = migbuf__most(e->whole - file_bytes, 0), least = (double)(migbuf__lowest_units(e) * e->step);

    return file_bytes + migbuf__least_with(&c, least, missing_bytes, migbuf__reserve_of(e, file_bytes));
}
