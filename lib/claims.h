/* SPDX-License-Identifier: MIT */
/* claims: the terms of the proof, for one migration. All in bytes; none changes anything. */
#ifndef MIGBUF_LIB_CLAIMS_H
#define MIGBUF_LIB_CLAIMS_H
#include "buffer.h"
#include "number.h"

/* What its files may weigh now, although nobody has measured that much; what is missing from
 * there to all that they can ever weigh. */
static inline double migbuf__most_of(const struct entry *e)
{
    return (double)e->file_bytes + e->unseen;
}

static inline double migbuf__missing(const struct entry *e)
{
    return migbuf__most(e->whole - migbuf__most_of(e), 0);
}

/* It stands: somebody said so, and what was poured until then is measured. It has nothing in flight that a drain could pour. That
 * nobody said otherwise is not enough: a `stop` may land as late as it likes. */
static inline int migbuf__stands(const struct entry *e)
{
    return e->now.paused && !e->open && !e->unknown && e->now.still == STILL_MEASURED;
}

/* What its drains can pour while it runs: one more than those ahead, because pausing is one. */
static inline double migbuf__drains_of(const struct entry *e)
{
    return e->queue * ((double)e->drains_ahead + 1);
}

/* The same where no more than so much is missing of its files. */
static inline double migbuf__drains_within(const struct entry *e, double missing_bytes)
{
    return migbuf__least(migbuf__drains_of(e), missing_bytes);
}

/* What is kept free for its drains when its files weigh so much: nothing for those ahead while it stands. And those that are
 * over may have poured since it was measured. */
static inline double migbuf__reserve_of(const struct entry *e, double file_bytes)
{
    uint64_t drains = (uint64_t)(migbuf__stands(e) ? 0 : e->drains_ahead) + !e->now.paused + e->pours + e->drained + e->poured;

    return migbuf__least(e->queue * (double)drains, migbuf__most(e->whole - file_bytes, 0));
}

/* What its files can have grown by from their measurement (MIGBUF__NEVER: nobody knows when) until now. */
double migbuf__unseen_of(const struct entry *e, uint64_t since_ms, uint64_t now_ms);

/* What they can grow by from now until what is decided now has landed; at most `missing_bytes`. */
double migbuf__pending_of(const struct migbuf_buffer *b, const struct entry *e, double missing_bytes);

/* What the claim of a limit is made of, beside the limit itself. */
struct claim {
    double fixed, slope;                   /* without metadata */
    double window_s, per_byte, of_request; /* metadata: by what is let through, */
    double metadata;                       /* or all there is */
};

/* Whoever is paused needs its reserve back first: for the next pause, and for all drains ahead if none is kept for those. */
static inline struct claim migbuf__claim_of(const struct migbuf_buffer *b, const struct entry *e)
{
    double window_s = b->late_interval_s + e->set_s;
    double reserve = migbuf__stands(e) ? migbuf__drains_of(e) : e->now.paused ? e->queue : 0;

    return (struct claim){ .fixed = e->set_request + reserve, .slope = e->amplification * window_s,
                           .window_s = window_s, .per_byte = e->amplification * e->per_byte,
                           .of_request = e->set_of_request, .metadata = e->metadata };
}

/* The claim of a limit, which is in bytes/s of units: its fixed part, and how much the rest grows with each byte/s. Both ways
 * to bound the metadata are right; the better one at this limit is taken. */
static inline double migbuf__claim_at(const struct claim *c, double limit_bytes_per_s, double missing_bytes, double *slope)
{
    int all = c->metadata <= limit_bytes_per_s * c->window_s * c->per_byte + c->of_request;

    *slope = all ? c->slope : c->slope + c->per_byte * c->window_s;
    return migbuf__least(c->fixed + (all ? c->metadata : c->of_request), missing_bytes);
}

/* The most that its files can weigh before the next decisions have landed, drains included. */
double migbuf__reach_of(const struct migbuf_buffer *b, const struct entry *e);

/* The smallest limit it can run under, in units/s; and what must fit for it beside the others: files of so many bytes, its
 * reserve and that limit. */
static inline uint64_t migbuf__lowest_units(const struct entry *e)
{
    return e->least_units > 2 ? e->least_units : 2; /* one that was paused resumes at two, lest it be paused again at once */
}

/* The same beside its files, where all is reckoned already that it hangs on: `least` is that limit in bytes/s. */
static inline double migbuf__least_with(const struct claim *c, double least, double missing_bytes, double reserve)
{
    double slope, fixed = migbuf__claim_at(c, least, missing_bytes, &slope);

    return migbuf__least(missing_bytes, reserve + fixed + slope * least);
}

double migbuf__least_bytes(const struct migbuf_buffer *b, const struct entry *e, double file_bytes);
#endif
