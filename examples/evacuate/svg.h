/* SPDX-License-Identifier: MIT */
/*
 * Pictures for a README: the timeline of a run, and the paper's throttle curves. Self-contained SVG without scripts or
 * fonts, below 200 kB however long the run was, light and dark by prefers-color-scheme, light where a viewer ignores
 * CSS.
 *
 * All return 0, or -1 when `out` could not be written to (ferror) or there is no memory.
 */
#ifndef EVACUATE_SVG_H
#define EVACUATE_SVG_H
#include "record.h"
#include <stdio.h>

/*
 * Overlays stacked over time below the line of Ω, with the peak; one band per VM with its phases, pauses and events;
 * growth limits (logarithmic steps) and what the guests got through; where memory was sent, what was left of it, how fast
 * it went, and throttle and limit of each guest. A record without frames gives a picture that says so.
 */
int svg_timeline(const struct record *record, FILE *out);

/*
 * The same with a second run of the same guests, the one without throttle, drawn small above it: one sees Ω overflow
 * there, with a cross wherever a guest is stopped or fails. The guests are those of the first record.
 */
int svg_contrast(const struct record *record, const struct record *unthrottled, FILE *out);

/*
 * The throttle curves of the paper: a bin of 100 MB, U/N 10 MB/s, priorities 1, 1.5, 2 and 3, and the text taken
 * literally beyond a full bin. Everything drawn, the marked points included, comes out of migbuf_throttle_rate() and
 * _literal().
 */
int svg_curves(FILE *out);
#endif
