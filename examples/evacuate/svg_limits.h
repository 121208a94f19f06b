/* SPDX-License-Identifier: MIT */
/* The panels of a timeline that show each guest's limit, when it was paused, and what it wrote. Each has a scale of its own. */
#ifndef EVACUATE_SVG_LIMITS_H
#define EVACUATE_SVG_LIMITS_H
#include "svg_columns.h"
#include "svg_marks.h"

/* Decades that hold all limits. */
void limit_panel(FILE *out, const struct plot *place, const struct columns *c);
/* 0 where nobody was paused. */
double pause_height(const struct record *record);
void pause_panel(FILE *out, const struct plot *p, const struct columns *c);
/* `last`: times are written below it. */
void rate_panel(FILE *out, const struct plot *place, const struct columns *c, bool last);
#endif
