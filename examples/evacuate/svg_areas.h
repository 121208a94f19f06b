/* SPDX-License-Identifier: MIT */
/* The panel of a timeline that shows overlays stacked up to the line of Ω, and what is kept free for drains. */
#ifndef EVACUATE_SVG_AREAS_H
#define EVACUATE_SVG_AREAS_H
#include "svg_columns.h"
#include "svg_marks.h"

void stack_panel(FILE *out, const struct plot *p, const struct columns *c);
/* Beside it: how full Ω was at most, and when. */
void peak_mark(FILE *out, const struct plot *p, const struct record *record);
#endif
