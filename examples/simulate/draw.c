/* SPDX-License-Identifier: MIT */
/* Texts, bars, and the files of one run. See draw.h. */
#include "draw.h"
#include "markup.h"
#include <math.h>
#include <stdlib.h>

const char *const draw_palette[DRAW_PALETTE] = { "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
                                       "#b3a100", "#7a7a7a", "#6a5acd", "#cc6677", "#117733", "#ddaa66",
                                       "#882255", "#44aa99", "#8a8a2b", "#aa4499" };

void draw_head(double height, FILE *out)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" "
            "font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
            "<style>rect.g{fill:#fff}.t,.h{fill:#1f2328}.h{font-weight:600}.s{fill:#59636e;font-size:11px}.v{fill:#fff}"
            ".r{fill:#b3261e}.b,.a{stroke:#1f2328;fill:none}.b{stroke-width:2}.o{stroke:#b3261e;stroke-width:1.5;"
            "stroke-dasharray:6 3;fill:none}@media(prefers-color-scheme:dark){rect.g{fill:#0d1117}.t,.h{fill:#e6edf3}"
            ".s{fill:#9198a1}.r{fill:#ff7b72}.b,.a{stroke:#e6edf3}.o{stroke:#ff7b72}}</style>\n"
            "<rect class=\"g\" width=\"%d\" height=\"%.0f\" fill=\"#fff\"/>\n",
            DRAW_WIDTH, height, DRAW_WIDTH, height, DRAW_WIDTH, height);
}

void draw_text(FILE *out, const char *class, const char *anchor, double x, double y, const char *words)
{
    fprintf(out, "<text class=\"%s\" text-anchor=\"%s\" x=\"", class, anchor);
    markup_number(out, x);
    fputs("\" y=\"", out);
    markup_number(out, y);
    fputs("\">", out);
    markup_text(out, words);
    fputs("</text>\n", out);
}

void draw_bar(FILE *out, const char *fill, double opacity, double x, double y, double width, double height)
{
    fprintf(out, "<rect fill=\"%s\" fill-opacity=\"%.2f\" x=\"", fill, opacity);
    markup_number(out, x);
    fputs("\" y=\"", out);
    markup_number(out, y);
    fputs("\" width=\"", out);
    markup_number(out, fmax(0, width));
    fputs("\" height=\"", out);
    markup_number(out, height);
    fputs("\"/>\n", out);
}

void draw_stroke(FILE *out, const char *class, double x1, double y1, double x2, double y2)
{
    fprintf(out, "<path class=\"%s\" d=\"M", class);
    markup_number(out, x1);
    fputc(' ', out);
    markup_number(out, y1);
    fputc('L', out);
    markup_number(out, x2);
    fputc(' ', out);
    markup_number(out, y2);
    fputs("\"/>\n", out);
}

/* The area between two sums of files over time. A VM that is not there has no height: its part is left out. */
static void put_layer(FILE *out, const struct recording *r, uint32_t vm, double *below, double x_scale, double y,
                      double y_scale)
{
    size_t first = 0, last = r->count;

    while (first < r->count && r->frames[first].file[vm] <= 0)
        first++;
    while (last > first && r->frames[last - 1].file[vm] <= 0)
        last--;
    if (first >= last)
        return;
    fprintf(out, "<path fill=\"%s\" fill-opacity=\"0.85\" d=\"", draw_palette[vm % 16]);
    for (size_t k = first; k < last; k++) {
        fputc(k == first ? 'M' : 'L', out);
        markup_number(out, DRAW_LEFT + r->frames[k].at_s * x_scale);
        fputc(' ', out);
        markup_number(out, y - (below[k] + r->frames[k].file[vm]) * y_scale);
    }
    for (size_t k = last; k-- > first;) {
        fputc('L', out);
        markup_number(out, DRAW_LEFT + r->frames[k].at_s * x_scale);
        fputc(' ', out);
        markup_number(out, y - below[k] * y_scale);
        below[k] += r->frames[k].file[vm];
    }
    fputs("Z\"/>\n", out);
}

static void put_axis(FILE *out, double length_s, double x_scale, double y)
{
    static const double steps[] = { 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400 };
    size_t k = 0;
    char words[32];

    while (k + 1 < sizeof steps / sizeof *steps && length_s / steps[k] > 8)
        k++;
    for (double at = 0; at <= length_s; at += steps[k]) {
        draw_stroke(out, "a", DRAW_LEFT + at * x_scale, y, DRAW_LEFT + at * x_scale, y + 4);
        if (steps[k] < 60)
            snprintf(words, sizeof words, "%.0f s", at);
        else
            snprintf(words, sizeof words, "%.0f min", at / 60);
        draw_text(out, "s", "middle", DRAW_LEFT + at * x_scale, y + 16, words);
    }
}

int draw_files(const struct recording *r, const char *title, double y, FILE *out)
{
    double *below = calloc(r->count + 1, sizeof *below), highest = r->omega, length_s, x_scale, y_scale;
    char words[64];

    if (!below)
        return -1;
    for (size_t k = 0; k < r->count; k++) {
        double sum = 0;

        for (uint32_t v = 0; v < r->vms; v++)
            sum += r->frames[k].file[v];
        highest = fmax(highest, sum);
    }
    length_s = r->length_s > 0 ? r->length_s : r->count ? r->frames[r->count - 1].at_s : 1;
    x_scale = (DRAW_RIGHT - DRAW_LEFT) / fmax(1, length_s);
    y_scale = (DRAW_FILES - 20) / highest;
    draw_text(out, "h", "start", 8, y, "Files over time");
    draw_text(out, "s", "start", DRAW_LEFT, y, title);
    y += DRAW_FILES;
    for (uint32_t v = 0; v < r->vms; v++)
        put_layer(out, r, v, below, x_scale, y, y_scale);
    draw_stroke(out, "a", DRAW_LEFT, y, DRAW_RIGHT, y);
    draw_stroke(out, "o", DRAW_LEFT, y - r->omega * y_scale, DRAW_RIGHT, y - r->omega * y_scale);
    snprintf(words, sizeof words, "volume %.1f GiB", r->omega / 1073741824);
    draw_text(out, "t", "end", DRAW_LEFT - 8, y - r->omega * y_scale + 4, words);
    draw_text(out, "s", "end", DRAW_LEFT - 8, y + 4, "0");
    put_axis(out, length_s, x_scale, y);
    free(below);
    return 0;
}
