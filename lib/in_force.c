/* SPDX-License-Identifier: MIT */
/* in_force: which limits may be in force, of all that were decided, and who says so: the host (outcome), or a look at QEMU
 * (resync). What that lets grow is reckoned in claims.c; nothing is decided here.
 *
 * What must stay true: between a decision and the word that it was carried out, no limit that may be in force is left out.
 * It is `now`, or one of `older`, or let through by no less than one of these. */
#include "in_force.h"
#include "number.h"
#include <math.h>
#include <string.h>

#define UNKNOWN_DEVICE 4e9 /* bytes/s: no device of a guest has been seen to allocate faster */

/* Bytes/s of a limit, as growth; without a limit what the device can do. */
static double rate_of(const struct entry *e, uint64_t units)
{
    double device = e->device < INFINITY ? e->device : UNKNOWN_DEVICE;

    return units == MIGBUF__UNLIMITED_UNITS ? device : migbuf__least((double)units * (double)e->step, e->device);
}

static uint64_t units_of(const struct setting *s)
{
    return s->paused || s->none ? 0 : s->limited ? s->units : MIGBUF__UNLIMITED_UNITS;
}

/* The highest limit that may be in force, and how many decisions may still land. */
double migbuf__highest_rate(const struct entry *e, uint32_t *sets)
{
    double rate = rate_of(e, units_of(&e->now));

    *sets = e->found_sets;
    for (uint32_t k = 0; k < e->olders; k++) {
        rate = migbuf__most(rate, rate_of(e, e->older[k].units));
        *sets += e->older[k].sets;
    }
    return rate;
}

/* Of two limits the one that lets through more: a high one may be above what a device without one is taken to write. */
static uint64_t higher(const struct entry *e, uint64_t a, uint64_t b)
{
    return rate_of(e, a) > rate_of(e, b) ? a : b;
}

/* A free place for one more: the two oldest become one that holds as long as either, at the higher rate. */
static void merge_oldest(struct entry *e)
{
    struct older *o = e->older;

    if (e->olders < MIGBUF__OLDER)
        return;
    o[1].units = higher(e, o[0].units, o[1].units);
    o[1].until_ms = o[0].until_ms > o[1].until_ms ? o[0].until_ms : o[1].until_ms;
    o[1].sets += o[0].sets;
    memmove(o, o + 1, --e->olders * sizeof *o);
}

static void keep_older(struct entry *e, const struct setting *s, uint64_t until_ms)
{
    merge_oldest(e);
    e->older[e->olders++] = (struct older){ .units = units_of(s), .until_ms = until_ms, .sets = 1 };
}

/* The highest of all limits may be in force until somebody knows better, and two sets may still land: the one that nobody
 * answered, and the next, which comes after somebody has looked. */
static void all_may_be_in_force(struct entry *e, const struct setting *s)
{
    struct older all = { .units = units_of(s), .until_ms = MIGBUF__NEVER, .sets = 2 };

    for (uint32_t k = 0; k < e->olders; k++)
        all.units = higher(e, e->older[k].units, all.units);
    e->older[0] = all;
    e->olders = 1;
}

void migbuf__in_force_replace(struct entry *e, const struct setting *old, uint64_t until_ms)
{
    e->open = 1;
    if (e->unknown) { /* `before` stays what it was before all that */
        all_may_be_in_force(e, old);
        return;
    }
    e->before = *old;
    keep_older(e, old, until_ms);
}

void migbuf__in_force_doubt(struct entry *e)
{
    if (!e->unknown && !e->open)
        e->before = e->now;
    all_may_be_in_force(e, &e->before);
    e->now.still = e->before.still = STILL_UNKNOWN;
    e->unknown = 1;
    e->open = e->owed.again = 0;
}

void migbuf__in_force_forget(struct entry *e, uint64_t since_ms, uint64_t now_ms)
{
    uint32_t kept = 0;

    for (uint32_t k = 0; k < e->olders; k++)
        if (since_ms == MIGBUF__NEVER || e->older[k].until_ms >= since_ms)
            e->older[kept++] = e->older[k];
    e->olders = kept;
    e->open &= kept > 0; /* without a word, what was decided is in force by now */
    e->pours &= kept > 0 || e->unknown;
    if (e->now.still == STILL_TOLD) {
        e->now.still = STILL_SINCE;
        e->now.still_ms = now_ms;
    } else if (e->now.still == STILL_SINCE && since_ms != MIGBUF__NEVER && since_ms > e->now.still_ms) {
        e->now.still = STILL_MEASURED;
    }
    if (since_ms != MIGBUF__NEVER && since_ms >= e->poured_ms)
        e->poured = 0;
    if (e->drained) {
        e->poured = e->drained < UINT32_MAX - e->poured ? e->poured + e->drained : UINT32_MAX;
        e->poured_ms = now_ms;
        e->drained = 0;
    }
    for (uint32_t k = 0; k < e->olders; k++)
        if (e->older[k].until_ms == MIGBUF__LANDED)
            e->older[k].until_ms = now_ms;
}

/* Somebody knows what became of it: it has landed, and the next tick is after that. */
static void settle(struct entry *e)
{
    for (uint32_t k = 0; k < e->olders; k++)
        if (e->older[k].until_ms == MIGBUF__NEVER)
            e->older[k].until_ms = MIGBUF__LANDED;
    e->unknown = e->open = 0;
}

/* Refused: what was in force before still is. Unknown: all that may be in force stays so until somebody knows better. Where
 * that is more than was decided, the others' claims were made for less. */
int migbuf_buffer_outcome(struct migbuf_buffer *b, uint64_t id, int32_t outcome)
{
    struct entry *e;
    double decided;
    uint32_t i, sets;

    if (!b || outcome < 0 || outcome > MIGBUF_OUTCOME_UNKNOWN)
        return MIGBUF_E_INVALID;
    i = migbuf__buffer_find_to_change(b, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    if (outcome == MIGBUF_OUTCOME_REFUSED && !e->open)
        return MIGBUF_E_STATE;
    decided = rate_of(e, units_of(&e->now));
    switch (outcome) {
    case MIGBUF_OUTCOME_DONE:
        settle(e);
        if (e->now.paused && e->now.still == STILL_UNKNOWN)
            e->now.still = STILL_TOLD;
        return 0;
    case MIGBUF_OUTCOME_REFUSED:
        e->open = e->owed.again = 0;
        e->now = e->before;
        break;
    case MIGBUF_OUTCOME_UNKNOWN:
        migbuf__in_force_doubt(e);
        break;
    default:
        return 0;
    }
    /* Without a lag what was decided had its space from that moment on, and none was kept for what it follows. */
    return migbuf__highest_rate(e, &sets) > decided || (e->unknown && !b->options.lag_ms);
}

int migbuf_buffer_resync(struct migbuf_buffer *b, uint64_t id, const struct migbuf_limits *limits, int32_t running)
{
    struct entry *e;
    struct setting found;
    uint64_t units = 0;
    uint32_t i;

    if (!b)
        return MIGBUF_E_INVALID;
    i = migbuf__buffer_find_to_change(b, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    if (limits)
        units = b->options.policy == MIGBUF_POLICY_LITERAL ? limits->bps_wr : limits->iops_wr;
    if (units > MIGBUF__THROTTLE_VALUE_MAX)
        return MIGBUF_E_RANGE;
    e = &b->entries[i];
    if (e->now.none && !units && running) /* there is nothing to limit yet */
        return 0;
    found = (struct setting){ .units = running ? units : 0, .paused_at_ms = e->now.paused ? e->now.paused_at_ms : b->now_ms,
                              .limited = units || !running, .paused = !running,
                              .still = running ? STILL_UNKNOWN : STILL_TOLD };
    /* Another hand was there, so ours may have been set again meanwhile. */
    e->found_sets = found.units != e->now.units || found.limited != e->now.limited || found.paused != e->now.paused;
    e->pours |= found.paused && !e->now.paused;
    if (e->open && e->olders && !e->unknown)
        keep_older(e, &e->now, e->older[e->olders - 1].until_ms); /* decided a moment ago, it may land after this look */
    if (e->found_sets && e->said) { /* it may have been in force until now: what it let grow need not be measured yet */
        keep_older(e, &e->now, MIGBUF__LANDED);
        e->older[e->olders - 1].sets = 0; /* it has landed: that set is another's */
    }
    settle(e);
    e->said = 1;
    e->now = e->before = found;
    e->joining = 0;
    return 0;
}
