/* SPDX-License-Identifier: MIT */
/* space: all migrations together in Ω. */
#ifndef MIGBUF_LIB_SPACE_H
#define MIGBUF_LIB_SPACE_H
#include "scratch.h"

/* The last clamp, in steps: a tick goes through the migrations as seldom as it can. Begin; count each, when its budget of
 * this tick is there; see what is free for growth; claim, which returns what is left for amounts; ask whether all amounts fit
 * into that, with so much kept free beside them; seek the level at which they do (I1), where the smallest limits come before
 * what is kept; cut each budget to its level, which says what its claim is. */
void migbuf__space_begin(struct migbuf_buffer *b);
void migbuf__space_count(struct migbuf_buffer *b, const struct scratch *s, uint32_t i);
void migbuf__space_free_for_growth(struct migbuf_buffer *b, const struct scratch *s);
double migbuf__space_claim(const struct migbuf_buffer *b, const struct scratch *s);
int migbuf__space_holds(const struct migbuf_buffer *b, const struct scratch *s, double left_bytes, double kept_bytes);
void migbuf__space_level(struct migbuf_buffer *b, const struct scratch *s, double left_bytes, double kept_bytes);
double migbuf__space_level_of(const struct migbuf_buffer *b, const struct migbuf__growing *g);
void migbuf__space_clamp(const struct migbuf_buffer *b, const struct scratch *s, uint32_t i);

/* Not even files and reserves fit, so no level can make them fit. Of the last tick. */
int migbuf__space_is_short(const struct migbuf_buffer *b);

/* Bytes for one more, if all others were cut to their smallest limits. May be below 0. */
double migbuf__space_free(const struct migbuf_buffer *b);

/* The most that all files can weigh before the next decisions have landed; and whether that fits. */
double migbuf__space_reach(const struct migbuf_buffer *b);
int migbuf__space_fits(const struct migbuf_buffer *b, double capacity);
#endif
