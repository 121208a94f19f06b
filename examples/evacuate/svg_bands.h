/* SPDX-License-Identifier: MIT */
/* The panel of a timeline that has a band for each VM: its phases, pauses and events. */
#ifndef EVACUATE_SVG_BANDS_H
#define EVACUATE_SVG_BANDS_H
#include "svg_columns.h"
#include "svg_marks.h"

double bands_height(const struct record *record);
void band_panel(FILE *out, const struct plot *p, const struct columns *c);
/* What every run has, and what went otherwise where it did. */
void phase_key(FILE *out, const struct record *record, double x, double y);
/* One VM's pauses: strokes at height y, to go on with in a path. Gaps that nobody could see are closed. */
void pause_strokes(FILE *out, const struct plot *p, const struct columns *c, uint32_t vm, double y);
#endif
