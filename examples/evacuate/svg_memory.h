/* SPDX-License-Identifier: MIT */
/* The panels of a timeline that show how memory was sent: four, one under the other, where any was. */
#ifndef EVACUATE_SVG_MEMORY_H
#define EVACUATE_SVG_MEMORY_H
#include "record.h"
#include "svg_marks.h"

bool any_ram(const struct record *record);
/* What they take, with the gaps above them; 0 where no memory was sent. */
double ram_height(const struct record *record);
/* Below *p, which is the last of them then. */
void ram_panels(FILE *out, struct plot *p, const struct record *record);
#endif
