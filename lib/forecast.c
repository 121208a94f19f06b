/* SPDX-License-Identifier: MIT */
/* forecast: what a guest will still add to its file. Formulas and reasons stand in the header. */
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

int migbuf_forecast_update(struct migbuf_forecast *f, double interval_s, double written, double grown, double limit)
{
    double keep, sample, wanted;
    int saturated, rc = f ? check(f) : MIGBUF_E_INVALID;

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
    sample = written / interval_s;
    if (isinf(sample) || isinf(f->grown_bytes + grown) || isinf(f->recent_bytes + written) ||
        isinf(f->written_bytes + written))
        return MIGBUF_E_RANGE;
    f->written_bytes += written;
    if (!(limit > 0))
        return 0;

    keep = exp(-interval_s / MIGBUF_FORECAST_MEMORY_S);
    saturated = limit < INFINITY && sample >= SATURATED * limit;
    f->peak = fmax(sample, saturated ? f->peak : keep * f->peak);
    wanted = saturated ? f->peak : sample;
    f->rate += (1 - keep) * (wanted - f->rate);
    f->grown_bytes = keep * f->grown_bytes + grown;
    f->recent_bytes = keep * f->recent_bytes + written;
    /* After half a day without a write nothing recent is left: the last ratio stands. */
    if (f->recent_bytes > 1e-9)
        f->growth_ratio = fmin(1, f->grown_bytes / f->recent_bytes);
    return 0;
}

/*
 * With a = -ln y the equation is ln((e^z - 1) / z) = a: convex, its slope between 1/2 and 1, so that Newton is safe
 * from anywhere and each step squares the error and divides it by 12 or more. The guess matches the series 2a - a^2/3
 * at 0 and a + ln z far out, and is never off by more than 0.06; three steps leave nothing.
 */
static double bend(double y)
{
    double a = -log(y), z = a + log1p((a + 0.83 * a * a) / (1 + 0.67 * a)), step = 1;

    if (!(a > 0))
        return 0;
    if (z > 700) /* e^z overflows, and y = z e^-z to the last bit */
        for (int i = 0; i < 100; i++)
            z = a + log(z);
    for (int i = 0; i < 8 && z <= 700 && fabs(step) > 1e-6 * z; i++) {
        double e = expm1(z);

        step = (log(e / z) - a) / ((e + 1) / e - 1 / z);
        z = fmax(0.5 * z, z - step);
    }
    return z;
}

int migbuf_forecast_bend(double y, double *z)
{
    int rc = z ? migbuf__number(y, 4.9e-324, 1) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    *z = bend(y);
    return 0;
}

int migbuf_forecast_remaining(const struct migbuf_forecast *f, double file_bytes, double most, double *bytes)
{
    double y = 1, remaining = INFINITY;
    int rc = f && bytes ? check(f) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__finite(file_bytes);
    if (!rc)
        rc = migbuf__amount(most);
    if (rc)
        return rc;
    if (file_bytes > 0 && f->written_bytes > 0)
        y = f->growth_ratio * (f->written_bytes / file_bytes);
    if (y < STRAIGHT)
        remaining = y > 0 ? file_bytes * y / bend(y) : 0;
    *bytes = fmin(remaining, most);
    return 0;
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
