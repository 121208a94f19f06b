/* SPDX-License-Identifier: MIT */
/* forecast: without checks, for callers that have checked already. Private. */
#ifndef MIGBUF_LIB_FORECAST_H
#define MIGBUF_LIB_FORECAST_H
#include "migbuf/forecast.h"
#include "number.h"
#include <math.h>

/* What is left of its means after such an interval. An exp(), and nearly all guests of a tick have the same interval. */
double migbuf__forecast_keep(double interval_s);

/* migbuf_forecast_update; `keep` is that of the interval. */
void migbuf__forecast_update(struct migbuf_forecast *f, double interval_s, double keep, double written, double grown,
                             double limit);

/* migbuf_forecast_remaining */
double migbuf__remaining(const struct migbuf_forecast *f, double file_bytes, double most);

static inline double migbuf__growth(double remaining, double growth_ratio, double rate, double t_s)
{
    double straight = growth_ratio > 0 && t_s > 0 ? growth_ratio * rate * t_s : 0;

    if (!(remaining > 0) || !(straight > 0))
        return 0;
    return isinf(remaining) ? straight : migbuf__least(straight, -remaining * expm1(-straight / remaining));
}

static inline double migbuf__rate_for(double remaining, double growth_ratio, double budget, double t_s)
{
    double slope = growth_ratio * t_s, part = budget / remaining;

    if (budget >= remaining || !(slope > 0))
        return INFINITY;
    return isinf(remaining) || !(part > 0) ? budget / slope : -remaining / slope * log1p(-part);
}
#endif
