/* SPDX-License-Identifier: MIT */
/* space: all migrations together in Ω. */
#ifndef MIGBUF_LIB_SPACE_H
#define MIGBUF_LIB_SPACE_H
#include "scratch.h"

/* Cuts the budgets of this tick to one level, so that all claims fit (I1), and says what each claim is. */
void migbuf__space_clamp(struct migbuf_buffer *b, const struct scratch *s);

/* Not even files and reserves fit, so no level can make them fit. Of the last tick. */
int migbuf__space_is_short(const struct migbuf_buffer *b);

/* Bytes for one more, if all others were cut to their smallest limits. May be below 0. */
double migbuf__space_free(const struct migbuf_buffer *b);

/* The most that all files can weigh before the next decisions have landed; and whether that fits. */
double migbuf__space_reach(const struct migbuf_buffer *b);
int migbuf__space_fits(const struct migbuf_buffer *b, double capacity);
#endif
