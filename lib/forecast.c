/* SPDX-License-Identifier: MIT */
/* forecast: what a guest will still add to its file. Formulas and reasons stand in the header. Pure: what is learnt lives in
 * the caller's record, and nothing is decided. */
#include "migbuf/forecast.h"
#include "forecast.h"
#include "number.h"

#define SATURATED 0.9  /* of the limit: a bucket sampled between two of its refills shows a little less than its rate  \
                        */
#define STRAIGHT 0.999 /* y beyond this is noise: V would be more than 500 times the file */

int migbuf_forecast_init(struct migbuf_forecast *f, double rate)
{
    int rc = f ? migbuf__finite(rate) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    *f = (struct migbuf_forecast){ .rate = rate,
                                   .grown_bytes = MIGBUF_FORECAST_PRIOR_BYTES,
                                   .recent_bytes = MIGBUF_FORECAST_PRIOR_BYTES,
                                   .growth_ratio = 1 };
    return 0;
}

static int check(const struct migbuf_forecast *f)
{
    int rc = migbuf__finite(f->rate);

    /* All is well nearly always: one branch then. Comparisons with NaN are false. */
    if (!rc & (f->peak >= 0) & (f->peak <= MIGBUF__MOST) & (f->grown_bytes >= 0) & (f->grown_bytes <= MIGBUF__MOST) &
        (f->recent_bytes >= 0) & (f->recent_bytes <= MIGBUF__MOST) & (f->growth_ratio >= 0) & (f->growth_ratio <= 1) &
        (f->written_bytes >= 0) & (f->written_bytes <= MIGBUF__MOST))
        return 0;
    if (!rc)
        rc = migbuf__finite(f->peak);
    if (!rc)
        rc = migbuf__finite(f->grown_bytes);
    if (!rc)
        rc = migbuf__finite(f->recent_bytes);
    if (!rc)
        rc = migbuf__number(f->growth_ratio, 0, 1);
    return rc ? rc : migbuf__finite(f->written_bytes);
}

double migbuf__forecast_keep(double interval_s)
{
    return exp(-interval_s / MIGBUF_FORECAST_MEMORY_S);
}

void migbuf__forecast_update(struct migbuf_forecast *f, double interval_s, double keep, double written, double grown,
                             double limit)
{
    double sample = written / interval_s, wanted;
    int saturated = limit < INFINITY && sample >= SATURATED * limit;

    f->written_bytes += written;
    if (!(limit > 0))
        return;
    f->peak = migbuf__most(sample, saturated ? f->peak : keep * f->peak);
    wanted = saturated ? f->peak : sample;
    f->rate += (1 - keep) * (wanted - f->rate);
    f->grown_bytes = keep * f->grown_bytes + grown;
    f->recent_bytes = keep * f->recent_bytes + written;
    /* After half a day without a write nothing recent is left: the last ratio stands. */
    if (f->recent_bytes > 1e-9)
        f->growth_ratio = migbuf__least(1, f->grown_bytes / f->recent_bytes);
}

int migbuf_forecast_update(struct migbuf_forecast *f, double interval_s, double written, double grown, double limit)
{
    int rc = f ? check(f) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__positive(interval_s);
    if (!rc)
        rc = migbuf__finite(written);
    if (!rc)
        rc = migbuf__finite(grown);
    if (!rc)
        rc = migbuf__amount(limit);
    if (rc)
        return rc;
    if (written / interval_s > MIGBUF__MOST || f->grown_bytes + grown > MIGBUF__MOST || f->recent_bytes + written > MIGBUF__MOST ||
        f->written_bytes + written > MIGBUF__MOST)
        return MIGBUF_E_RANGE;
    migbuf__forecast_update(f, interval_s, migbuf__forecast_keep(interval_s), written, grown, limit);
    return 0;
}

/*
 * With a = -ln y the equation is f(z) = ln((e^z - 1) / z) - a = 0: convex, its slope between 1/2 and 1. The guess is off by
 * 1e-6 of z (a quotient of polynomials fitted up to a = 8; beyond, y is nearly z e^-z, and each round makes the error a
 * tenth). Newton's step squares that and divides it by 12.
 */
static double bend(double y)
{
    double a = -log(y), z = a * (2 + a * (0.712867079 + a * (0.0753314274 + a * 0.000315328506))) /
                            (1 + a * (0.523118268 + a * (0.0692007635 + a * 0.000400663642)));
    double e;

    if (!(a > 0))
        return 0;
    if (a > 8)
        for (int i = 0; i < 20; i++)
            z = a + log(z) - log1p(-exp(-z));
    if (z < 1e-5 || z > 700) /* the terms below would cancel; e^z would overflow */
        return z;
    e = expm1(z);
    return z - (log(e / z) - a) / ((e + 1) / e - 1 / z);
}

int migbuf_forecast_bend(double y, double *z)
{
    int rc = z ? migbuf__number(y, 4.9e-324, 1) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    *z = bend(y);
    return 0;
}

double migbuf__remaining(const struct migbuf_forecast *f, double file_bytes, double most)
{
    double y = 1, remaining = INFINITY;

    if (file_bytes > 0 && f->written_bytes > 0)
        y = f->growth_ratio * f->written_bytes / file_bytes;
    if (y < STRAIGHT)
        remaining = y > 0 ? file_bytes * y / bend(y) : 0;
    return migbuf__least(remaining, most);
}

int migbuf_forecast_remaining(const struct migbuf_forecast *f, double file_bytes, double most, double *bytes)
{
    int rc = f && bytes ? check(f) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__finite(file_bytes);
    if (!rc)
        rc = migbuf__amount(most);
    if (!rc)
        *bytes = migbuf__remaining(f, file_bytes, most);
    return rc;
}

static int check_flow(double remaining, double growth_ratio, const void *out)
{
    int rc = out ? migbuf__amount(remaining) : MIGBUF_E_INVALID;

    return rc ? rc : migbuf__number(growth_ratio, 0, 1);
}

int migbuf_forecast_growth(double remaining, double growth_ratio, double rate, double t_s, double *bytes)
{
    int rc = check_flow(remaining, growth_ratio, bytes);

    if (!rc)
        rc = migbuf__amount(rate);
    if (!rc)
        rc = migbuf__finite(t_s);
    if (!rc)
        *bytes = migbuf__growth(remaining, growth_ratio, rate, t_s);
    return rc;
}

int migbuf_forecast_rate_for(double remaining, double growth_ratio, double budget_bytes, double t_s, double *rate)
{
    int rc = check_flow(remaining, growth_ratio, rate);

    if (!rc)
        rc = migbuf__amount(budget_bytes);
    if (!rc)
        rc = migbuf__positive(t_s);
    if (!rc)
        *rate = migbuf__rate_for(remaining, growth_ratio, budget_bytes, t_s);
    return rc;
}
