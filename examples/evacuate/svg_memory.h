/* SPDX-License-Identifier: MIT */
/* The panels of a timeline that show how memory was sent: four, one under the other, where that took long enough to be seen. */
#ifndef EVACUATE_SVG_MEMORY_H
#define EVACUATE_SVG_MEMORY_H
#include "record.h"
#include "svg_marks.h"

/* In two frames one after the other: one point makes no line. */
bool any_ram(const struct record *record);
/* What they take, with the gaps above them; 0 where any_ram() is false. */
double ram_height(const struct record *record);
/* Below *p, which is the last of them then. */
void ram_panels(FILE *out, struct plot *p, const struct record *record);
#endif
