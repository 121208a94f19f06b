/* SPDX-License-Identifier: MIT */
/* Bits of pictures of the model: self-contained SVG, light and dark. Classes: t text, h heading, s small, v on a colour, r
 * alarm; lines: a axis, b bold, o the volume. */
#ifndef SIMULATE_DRAW_H
#define SIMULATE_DRAW_H
#include "model.h"
#include <stdio.h>

#define DRAW_WIDTH 830
#define DRAW_LEFT 150.0 /* of what is drawn over time */
#define DRAW_RIGHT 800.0
#define DRAW_FILES 220.0 /* height of the files */
#define DRAW_PALETTE 16

extern const char *const draw_palette[DRAW_PALETTE];

void draw_head(double height, FILE *out);
void draw_text(FILE *out, const char *class, const char *anchor, double x, double y, const char *words);
void draw_bar(FILE *out, const char *fill, double opacity, double x, double y, double width, double height);
void draw_stroke(FILE *out, const char *class, double x1, double y1, double x2, double y2);
/* The files of one run, stacked, under the line of the volume. -1: no memory. */
int draw_files(const struct recording *r, const char *title, double y, FILE *out);
#endif
