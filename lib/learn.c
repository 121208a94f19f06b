/* SPDX-License-Identifier: MIT */
/* learn: what a guest's measurements teach: growth per unit (paper), its forecast (planner), and how long QEMU's bucket lets
 * it wait for what grew no file. Learns nothing from counters that did not come, and says nothing of what a guest may do. */
#include "learn.h"
#include "forecast.h"
#include "growth.h"
#include "number.h"
#include <math.h>

#define SHORTEST_S 0.05 /* a shorter interval shows bursts, not rates */

/* Every disk's counters are of its last sample. */
static int is_told(const struct entry *e)
{
    return !(~e->observed.told << (64 - e->disk_count));
}

/* What is left of a mean after such an interval. Nearly all guests of many ticks have the same. */
static double kept(struct migbuf_buffer *b, double interval_s, double keep(double interval_s))
{
    if (b->kept_of_s != interval_s || b->kept_by != keep) {
        b->kept_of_s = interval_s;
        b->kept_by = keep;
        b->kept = keep(interval_s);
    }
    return b->kept;
}

/* Growth per unit since the last time, of all its disks together. Where bytes and requests are limited side by side a unit
 * is not one thing, and the worst case stays. */
void migbuf__learn_ratio(struct migbuf_buffer *b, struct entry *e)
{
    double interval_s = (double)(b->now_ms - e->learnt_at_ms) / 1000;
    double units_per_s = e->now.limited ? (double)e->now.units : INFINITY;

    if (!is_told(e) || e->step != e->unit || interval_s < SHORTEST_S)
        return;
    e->learnt_at_ms = b->now_ms;
    if (!e->writes && !e->written_bytes) /* not told yet */
        return;
    migbuf__growth_sample(&e->growth, e->unit, interval_s, kept(b, interval_s, migbuf__growth_keep), e->file_bytes, e->writes,
                          e->written_bytes, units_per_s, e->request / (double)e->unit);
}

/* A request counts at least its bytes; what it let the file grow was worth waiting for. A limit that rises wakes whoever
 * waits; one that is lowered empties the bucket too, but who waits already goes on waiting. */
void migbuf__learn_owed(const struct migbuf_buffer *b, struct entry *e)
{
    struct owed *o = &e->owed;
    uint64_t units = e->now.units, written_bytes = e->written_bytes;
    double seconds = 0;

    if (!is_told(e))
        return;
    if (o->known && o->written_bytes && written_bytes >= o->written_bytes && units) {
        double before = o->again || o->units < units ? 0 : o->seconds, written = (double)(written_bytes - o->written_bytes);
        double grown = e->file_bytes > o->file_bytes ? (double)(e->file_bytes - o->file_bytes) : 0;

        seconds = migbuf__most(before + (written - grown) / ((double)units * (double)e->unit) -
                                   (double)(b->now_ms - o->at_ms) / 1000, 0);
    }
    *o = (struct owed){ .seconds = seconds, .file_bytes = e->file_bytes, .written_bytes = written_bytes, .units = units,
                        .at_ms = b->now_ms, .known = 1 };
}

int migbuf__waits_too_long(const struct migbuf_buffer *b, const struct entry *e)
{
    return e->owed.seconds * 1000 > (migbuf__max_stall_ms(&b->options));
}

static double limit_in_force(const struct entry *e)
{
    double limit = (double)e->now.units * (double)e->unit;

    return e->now.limited && limit < e->device ? limit : INFINITY;
}

/* Nothing of an overlay has been seen yet: a guest that writes to its base teaches nothing. */
static int has_begun(const struct entry *e)
{
    return e->file_bytes || e->writes || e->written_bytes;
}

/* What was written and what grew since the last tick goes into the forecast. A file that grew was written to: also what it
 * held before its counters were first told. */
void migbuf__learn_forecast(struct migbuf_buffer *b, struct entry *e)
{
    struct observed *d = &e->observed;
    double interval_s = (double)(b->now_ms - d->at_ms) / 1000, written, grown, had_rate;
    double had_bytes = d->file_bytes, had_units = d->units_bytes;
    int known = d->known;

    if (!has_begun(e))
        d->at_ms = b->now_ms;
    if (!is_told(e) || interval_s < SHORTEST_S || d->at_ms == b->now_ms)
        return;
    d->units_bytes = 0;
    for (uint32_t k = 0; k < e->disk_count; k++)
        d->units_bytes += migbuf__most((double)e->measured[k].writes * (double)e->unit, (double)e->measured[k].written_bytes);
    d->file_bytes = (double)e->file_bytes;
    d->at_ms = b->now_ms;
    d->known = 1;
    grown = migbuf__most(d->file_bytes - had_bytes, 0);
    written = known ? migbuf__most(d->units_bytes - had_units, grown) : grown;
    had_rate = d->forecast.rate;
    migbuf__forecast_update(&d->forecast, interval_s, kept(b, interval_s, migbuf__forecast_keep), written, grown,
                            limit_in_force(e));
    if (!known && !(had_rate > 0)) /* the first that is known of it, and no part of a mean */
        d->forecast.rate = d->forecast.peak;
}
