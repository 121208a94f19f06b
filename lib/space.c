/* SPDX-License-Identifier: MIT */
/* space: all migrations together in Ω. Keeps the invariant the library is there for:
 *
 *   I1   sum of (files + unseen + reserve + pending + claim) <= Ω    after each tick, in each policy but `literal`
 *
 * The last clamp keeps it: it cuts all budgets to one level, at which the claims fit beside the rest. Where the rest
 * alone is too much (Ω was made smaller, or another hand has written), there is no such level, and all are to stop. The
 * terms are claims.c's, the proof stands in README.md. Where a budget comes from is not asked here. */
#include "space.h"
#include "claims.h"
#include "learn.h"
#include "throttle.h"
#include "turns.h"
#include <math.h>

/* What is there */

/* What could be cut to: the others' files, what may be written until it is cut, reserves and smallest limits. */
double migbuf__space_free(const struct migbuf_buffer *b)
{
    double have = b->counted ? b->free_bytes : (double)migbuf__bins_capacity(b->bins);

    for (uint32_t i = b->counted; i < b->count; i++) {
        const struct entry *e = &b->entries[i];
        double files = migbuf__most_of(e);

        have -= migbuf__least_bytes(b, e, files + migbuf__pending_of(b, e, migbuf__missing(e) - migbuf__reserve_of(e, files)));
    }
    return have;
}

double migbuf__space_reach(const struct migbuf_buffer *b)
{
    double bytes = 0;

    for (uint32_t i = 0; i < b->count; i++)
        bytes += migbuf__reach_of(b, &b->entries[i]);
    return bytes;
}

int migbuf__space_fits(const struct migbuf_buffer *b, double capacity)
{
    return migbuf__space_reach(b) <= capacity + 1; /* sums of fractions of bytes */
}

int migbuf__space_is_short(const struct migbuf_buffer *b)
{
    return (double)migbuf_bins_used(b->bins) + b->unseen + b->reserve > (double)migbuf__bins_capacity(b->bins);
}

/* The last clamp */

void migbuf__space_begin(struct migbuf_buffer *b)
{
    b->reserve = b->pending = b->unseen = 0;
    b->grantable = (double)migbuf__bins_capacity(b->bins);
}

/* Its part of what is not free for growth; and what its claim needs to know, for which a level is sought several times. */
void migbuf__space_count(struct migbuf_buffer *b, const struct scratch *s, uint32_t i)
{
    struct entry *e = &b->entries[i];
    struct migbuf__growing *g = &s->growing[i];
    double files = migbuf__most_of(e), missing_bytes = migbuf__missing(e);
    double reserve = e->joining ? 0 : migbuf__reserve_of(e, files);
    double pending = migbuf__pending_of(b, e, missing_bytes - reserve);

    g->claim = migbuf__claim_of(b, e);
    g->ratio = migbuf__ratio_of(e);
    g->most = migbuf__least(e->budget, e->device * g->ratio);
    g->least = (double)(migbuf__lowest_units(e) * e->step);
    g->left_bytes = e->joining ? 0 : missing_bytes - reserve - pending;
    g->least_bytes = /* with the file first, as claims.c has it: so that both round alike */
        e->joining ? 0 : files + migbuf__least_with(&g->claim, g->least, missing_bytes, reserve) - files - reserve;
    g->joining = e->joining;
    e->reserve = reserve;
    e->pending = pending;
    b->reserve += reserve;
    b->pending += pending;
    b->unseen += e->unseen;
    b->grantable -= files + reserve + pending;
}

/* What is free beside files, reserves and what may still come under older limits. Who joins gets its space before the
 * others' growth; where it is not free yet, it is kept from them until it is. Nobody is let in beside others where then not all
 * could write all the time until their files are gone: they would have to take turns, and outside it writes as it likes. */
void migbuf__space_free_for_growth(struct migbuf_buffer *b, const struct scratch *s)
{
    double total = b->grantable, least = 0, waits = 0, kept;
    uint32_t joining = 0;

    for (uint32_t k = 0; k < b->links_count; k++)
        b->links[k].waiting = 0; /* whoever is let in is to have enough even if all are */
    for (uint32_t i = 0; i < b->count; i++) {
        least += s->growing[i].least_bytes; /* of one that joins 0 */
        joining += s->growing[i].joining;
    }
    kept = joining ? migbuf__turns_avoided(b, s) : 0;
    for (uint32_t i = 0; i < b->count && joining; i++) {
        struct entry *e = &b->entries[i];
        double need, grows;

        if (!s->growing[i].joining)
            continue;
        need = migbuf__least_bytes(b, e, 0);
        grows = migbuf__turns_avoided_of_new(b, s, i);
        if (need > total - least - waits) {
            waits += need;
            continue;
        }
        if (least > 0 && need + migbuf__most(grows + kept - least, 0) > total - least - waits)
            continue; /* it may wait for long: nothing is kept for it. Alone it comes in anyway */
        e->joining = 0;
        kept += grows;
        e->reserve = migbuf__reserve_of(e, migbuf__most_of(e));
        b->reserve += e->reserve;
        total -= e->reserve;
        least += need - e->reserve;
        s->growing[i].left_bytes = migbuf__missing(e) - e->reserve - e->pending;
        s->growing[i].least_bytes = need - e->reserve;
    }
    for (uint32_t i = 0; i < b->count && joining; i++)
        b->links[b->entries[i].link_at].waiting += b->entries[i].joining ? b->entries[i].weight : 0;
    /* Who waits takes nobody's smallest limit, nor does the rounding of that sum. */
    b->least = least * (1 + 1e-9);
    b->grantable = migbuf__least(total, migbuf__most(total - waits, b->least));
}

/* Each claim bounded by the better way at its budget, or at `cut` if that is less. Returns what is left to grow in. */
static double claim_all(const struct migbuf_buffer *b, const struct scratch *s, double cut)
{
    double total = b->grantable;

    for (uint32_t i = 0; i < b->count; i++) {
        struct migbuf__growing *g = &s->growing[i];
        double at = migbuf__most(migbuf__least(g->most, cut) / g->ratio, g->least);

        g->fixed = migbuf__claim_at(&g->claim, at, g->left_bytes, &s->weight[i]);
        s->weight[i] /= g->ratio;
        s->amount[i] = migbuf__least(s->weight[i] * g->most, g->left_bytes - g->fixed);
        total -= g->fixed;
    }
    return total;
}

double migbuf__space_claim(const struct migbuf_buffer *b, const struct scratch *s)
{
    return claim_all(b, s, INFINITY);
}

/* All smallest limits fit, so nobody is cut below its own. */
static int all_have_least(const struct migbuf_buffer *b)
{
    return b->least <= b->grantable;
}

double migbuf__space_level_of(const struct migbuf_buffer *b, const struct migbuf__growing *g)
{
    return all_have_least(b) ? migbuf__most(b->level, migbuf__least_growth(g)) : b->level;
}

/* The level at which they fit then, and below 0 where none is. What is kept takes nobody's smallest limit. */
static double level_in(const struct migbuf_buffer *b, const struct scratch *s, double left_bytes, double kept_bytes)
{
    double total = left_bytes - migbuf__least(kept_bytes, migbuf__most(b->grantable - b->least, 0)), floors = 0;

    if (!all_have_least(b)) /* -1: sums of fractions of bytes. Where all is claimed and fits, nobody is cut */
        return total < -1 ? 0 : migbuf__shave(s->amount, s->weight, NULL, b->count, total, s->order);
    for (uint32_t i = 0; i < b->count; i++) {
        s->floor[i] = migbuf__least(s->amount[i], s->weight[i] * migbuf__least_growth(&s->growing[i]));
        floors += s->floor[i];
    }
    return floors > total + 1 ? -1 : migbuf__shave(s->amount, s->weight, s->floor, b->count, total, s->order);
}

int migbuf__space_holds(const struct migbuf_buffer *b, const struct scratch *s, double left_bytes, double kept_bytes)
{
    double bytes = 0;

    for (uint32_t i = 0; i < b->count; i++)
        bytes += s->amount[i];
    return left_bytes - kept_bytes >= bytes;
}

/* With the metadata bounded as it is best at the budgets, or at the level that gives; whichever gives more. */
void migbuf__space_level(struct migbuf_buffer *b, const struct scratch *s, double left_bytes, double kept_bytes)
{
    double high = level_in(b, s, left_bytes, kept_bytes), low;

    if (high < INFINITY) {
        low = level_in(b, s, claim_all(b, s, migbuf__most(high, 0)), kept_bytes);
        if (low < high)
            claim_all(b, s, INFINITY);
        high = migbuf__most(high, low);
    }
    b->level = migbuf__most(high, 0);
}

void migbuf__space_clamp(const struct migbuf_buffer *b, const struct scratch *s, uint32_t i)
{
    struct entry *e = &b->entries[i];
    double level = migbuf__space_level_of(b, &s->growing[i]);

    if (e->budget > level && migbuf__missing(e) > 0) { /* a file that is whole cannot grow */
        e->budget = level;
        e->reason = MIGBUF_REASON_SPACE;
    }
    e->claim = s->growing[i].fixed + migbuf__least(s->amount[i], s->weight[i] * e->budget);
}
