/* SPDX-License-Identifier: MIT */
/* growth: how much a file grows for each unit that is written, from counters. Formulas and reasons stand in the header. Pure:
 * what is learnt lives in the caller's record. */
#include "growth.h"
#include "number.h"
#include "throttle_config.h"

#define MEMORY_S 10.0
#define PRIOR_UNITS 16.0    /* what ratio 1 is worth before anything is known: 1 MiB in 64 KiB clusters */
#define LEAST_RATIO 0.001   /* a guest that rewrites one cluster for ever: its limit must stay a limit */
#define MOST_RATIO 3.0      /* limits.h: no unit grows a file by more than three */

int migbuf_growth_init(struct migbuf_growth *g)
{
    if (!g)
        return MIGBUF_E_INVALID;
    *g = (struct migbuf_growth){ .ratio = 1, .units = PRIOR_UNITS, .grown = PRIOR_UNITS };
    return 0;
}

static double clamp(double ratio)
{
    return migbuf__least(migbuf__most(ratio, LEAST_RATIO), MOST_RATIO);
}

/* A record that was not made by migbuf_growth_init has ratio 0: taken as it is, its guest would have no limit. */
static int check(const struct migbuf_growth *g)
{
    int rc = g->ratio >= LEAST_RATIO && g->ratio <= MOST_RATIO ? 0 : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__positive(g->units);
    if (!rc)
        rc = migbuf__finite(g->grown);
    if (!rc)
        rc = migbuf__amount(g->credit);
    return rc ? rc : migbuf__amount(g->units_per_s);
}

double migbuf__growth_keep(double interval_s)
{
    return exp(-interval_s / MEMORY_S);
}

void migbuf__growth_sample(struct migbuf_growth *g, uint64_t unit_bytes, double interval_s, double keep, uint64_t file_bytes,
                           uint64_t writes, uint64_t written_bytes, double units_per_s, double request_units)
{
    uint64_t more_writes = writes - g->writes, more_bytes = written_bytes - g->written_bytes;
    uint64_t more_file = file_bytes > g->file_bytes ? file_bytes - g->file_bytes : 0;
    int first = !g->known || writes < g->writes || written_bytes < g->written_bytes;
    double units, grown, credit = units_per_s * MIGBUF__THROTTLE_BURST_S + request_units;
    double allowed = units_per_s * interval_s + (g->known && units_per_s == g->units_per_s ? g->credit : credit);

    g->units_per_s = units_per_s;
    g->credit = migbuf__least(allowed, credit);
    g->file_bytes = file_bytes;
    g->writes = writes;
    g->written_bytes = written_bytes;
    g->known++;
    if (first)
        return;
    if (!(units_per_s > 0)) {
        g->units = keep * g->units + (1 - keep) * PRIOR_UNITS;
        g->grown = keep * g->grown + (1 - keep) * PRIOR_UNITS;
        g->ratio = clamp(g->grown / g->units);
        return;
    }
    units = migbuf__most((double)more_writes, (double)more_bytes / (double)unit_bytes);
    units = migbuf__least(units, allowed);
    if (allowed < INFINITY)
        g->credit = migbuf__least(allowed - units, credit);
    if (units < 1)
        return;
    grown = (double)more_file / (double)unit_bytes;
    g->units = keep * g->units + units;
    g->grown = keep * g->grown + grown;
    g->ratio = clamp(migbuf__most((grown - 1) / units, g->grown / g->units)); /* one may have been begun before */
}

int migbuf_growth_sample(struct migbuf_growth *g, uint64_t unit_bytes, double interval_s, uint64_t file_bytes,
                         uint64_t writes, uint64_t written_bytes, double units_per_s, double request_units)
{
    int rc = g ? check(g) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__positive(interval_s);
    if (!rc)
        rc = migbuf__amount(units_per_s);
    if (!rc)
        rc = migbuf__finite(request_units);
    if (!rc && !unit_bytes)
        rc = MIGBUF_E_RANGE;
    if (!rc)
        migbuf__growth_sample(g, unit_bytes, interval_s, migbuf__growth_keep(interval_s), file_bytes, writes, written_bytes,
                              units_per_s, request_units);
    return rc;
}
