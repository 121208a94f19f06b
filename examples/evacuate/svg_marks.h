/* SPDX-License-Identifier: MIT */
/*
 * What all pictures of `evacuate` are drawn with: bits of SVG, scales and grids. Colours stand twice: as attributes, which every
 * viewer understands, and as CSS for the dark mode, which overrides them where it is known.
 */
#ifndef EVACUATE_SVG_MARKS_H
#define EVACUATE_SVG_MARKS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define WIDTH 830 /* of a README on GitHub: one unit is one pixel there */
#define LEFT 132
#define RIGHT 806
#define PALETTE 16

#define GRID "stroke=\"#d8dee4\" fill=\"none\""
/* White with a thin dark edge: readable on every colour of the palette. */
#define ON_COLOUR                                                                                                      \
    "fill=\"#ffffff\" stroke=\"#000000\" stroke-opacity=\".45\" stroke-width=\"1.6\" stroke-linejoin=\"round\" "       \
    "paint-order=\"stroke\""
#define AXIS "stroke=\"#59636e\" fill=\"none\""
#define ALARM "stroke=\"#b3261e\" fill=\"none\""

struct paint {
    const char *light, *dark;
};

/* VM i has class c<i>; what belongs to it is drawn in currentColor. */
extern const struct paint palette[PALETTE];

enum ink { INK_TEXT, INK_SOFT, INK_ALARM };

/* The file begins, with a title and this many colours; it ends. svg_finish returns 0, or -1 when it could not be written. */
void svg_head(FILE *out, double height, uint32_t vms, const char *title);
int svg_finish(FILE *out);

void svg_point(FILE *out, char command, double x, double y);
void svg_attribute(FILE *out, const char *name, double value);
void svg_label(FILE *out, enum ink ink, const char *anchor, int size, double x, double y, const char *text);
void svg_line(FILE *out, const char *class, const char *style, double x1, double y1, double x2, double y2);
void svg_rectangle(FILE *out, const char *style, double x, double y, double width, double height);
/* Opens a group in the colour of a VM. */
void svg_group(FILE *out, uint32_t vm, const char *style);

/* From values to pixels; y grows downwards. */
struct plot {
    double x, y, width, height;
    double x_min, x_max, y_min, y_max;
    bool logarithmic;
};

double plot_x(const struct plot *p, double value);
double plot_y(const struct plot *p, double value);
void time_grid(FILE *out, const struct plot *p, bool labels);
/* `keep_out`: a value with a label of its own; below 0: none. */
void bytes_grid(FILE *out, const struct plot *p, bool rate, int most, double keep_out);
void decade_grid(FILE *out, const struct plot *p);
void panel_title(FILE *out, const struct plot *p, const char *title, enum ink ink, const char *detail);
#endif
