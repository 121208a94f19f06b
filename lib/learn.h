/* SPDX-License-Identifier: MIT */
/* learn: what a guest's measurements teach. Each is called once a tick, by whoever asks for what it teaches. */
#ifndef MIGBUF_LIB_LEARN_H
#define MIGBUF_LIB_LEARN_H
#include "buffer.h"

/* Growth per unit, and what of it counts now. */
void migbuf__learn_ratio(struct migbuf_buffer *b, struct entry *e);

/* While the overlay is sent, a rewrite has to be sent again: what counts then is what is written, not what grows. The
 * planner's rates are of what is written anyway: its ratio stays 1. */
static inline double migbuf__ratio_of(const struct entry *e)
{
    return e->phase == MIGBUF_PHASE_MIRROR ? 1 : e->growth.ratio;
}

/* What was written and what grew since the last tick, for the planner. */
void migbuf__learn_forecast(struct migbuf_buffer *b, struct entry *e);

/* How long the bucket lets it wait for rewrites, and whether that is longer than was agreed on. */
void migbuf__learn_owed(const struct migbuf_buffer *b, struct entry *e);
int migbuf__waits_too_long(const struct migbuf_buffer *b, const struct entry *e);
#endif
