/* SPDX-License-Identifier: MIT */
/* turns: a rate below the smallest limit, made of pauses. */
#ifndef MIGBUF_LIB_TURNS_H
#define MIGBUF_LIB_TURNS_H
#include "scratch.h"

/* P, in s: from one turn to the next, so that none stands for longer than was promised. */
double migbuf__turns_between_s(const struct migbuf_buffer *b);

/* No less than what the plan would keep; INFINITY where somebody stands. Where all that and a level of INFINITY fit, there is
 * no need to plan: nobody is to stand. */
double migbuf__turns_bound(const struct migbuf_buffer *b, const struct scratch *s);

/* What must be kept so that nobody has to stand: what all that are there, and one more, grow by under their smallest limits
 * until their files are gone. */
double migbuf__turns_avoided(struct migbuf_buffer *b, const struct scratch *s);
double migbuf__turns_avoided_of_new(const struct migbuf_buffer *b, const struct scratch *s, uint32_t i);

/* Who is to stand for a longer time than this tick, and how often it may write. Returns what is to be kept for that. */
double migbuf__turns_plan(struct migbuf_buffer *b, const struct scratch *s);

/* `turn` of each, with the level that was sought for what is left beside so much. */
void migbuf__turns_give(struct migbuf_buffer *b, const struct scratch *s, double kept_bytes);

/* The budget and the claim of one that has a turn, or waits for it. */
void migbuf__turn(const struct migbuf_buffer *b, const struct scratch *s, struct entry *e, uint32_t i);
#endif
