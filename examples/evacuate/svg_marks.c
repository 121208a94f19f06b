/* SPDX-License-Identifier: MIT */
/* Bits of SVG, scales and grids. See svg_marks.h. */
#include "svg_marks.h"
#include "markup.h"
#include "numbers.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Okabe and Ito's colours (yellow darkened: it is also used for lines), then Tol's muted ones. */
const struct paint palette[PALETTE] = {
    { "#0072b2", "#3d9fdc" }, { "#e69f00", "#e69f00" }, { "#009e73", "#10b487" }, { "#cc79a7", "#d98bb6" },
    { "#56b4e9", "#7cc7f2" }, { "#d55e00", "#e87528" }, { "#b3a100", "#d1bf1f" }, { "#7a7a7a", "#9a9a9a" },
    { "#332288", "#7d6fd6" }, { "#cc6677", "#d97a8a" }, { "#117733", "#35a05a" }, { "#ddaa66", "#ddbb77" },
    { "#882255", "#c05a8f" }, { "#44aa99", "#58c0af" }, { "#8a8a2b", "#b5b552" }, { "#aa4499", "#c765b7" },
};

/* ---- Bits of SVG
 * ----------------------------------------------------------------------------------------------------- */

void svg_point(FILE *out, char command, double x, double y)
{
    fputc(command, out);
    markup_number(out, x);
    fputc(' ', out);
    markup_number(out, y);
}

void svg_attribute(FILE *out, const char *name, double value)
{
    fprintf(out, " %s=\"", name);
    markup_number(out, value);
    fputc('"', out);
}

static const char *const ink_class[] = { "t", "s", "r" }, *const ink_fill[] = { "#1f2328", "#59636e", "#b3261e" };

void svg_label(FILE *out, enum ink ink, const char *anchor, int size, double x, double y, const char *text)
{
    fprintf(out, "<text class=\"%s\" fill=\"%s\" font-size=\"%d\"", ink_class[ink], ink_fill[ink], size);
    svg_attribute(out, "x", x);
    svg_attribute(out, "y", y);
    if (strcmp(anchor, "start"))
        fprintf(out, " text-anchor=\"%s\"", anchor);
    fputc('>', out);
    markup_text(out, text);
    fputs("</text>\n", out);
}

void svg_line(FILE *out, const char *class, const char *style, double x1, double y1, double x2, double y2)
{
    fprintf(out, "<path class=\"%s\" %s d=\"", class, style);
    svg_point(out, 'M', x1, y1);
    svg_point(out, 'L', x2, y2);
    fputs("\"/>\n", out);
}

void svg_rectangle(FILE *out, const char *style, double x, double y, double width, double height)
{
    fprintf(out, "<rect %s", style);
    svg_attribute(out, "x", x);
    svg_attribute(out, "y", y);
    svg_attribute(out, "width", width);
    svg_attribute(out, "height", height);
    fputs("/>\n", out);
}

static void style_of_vms(FILE *out, uint32_t count)
{
    for (uint32_t i = 0; i < count && i < PALETTE; i++)
        fprintf(out, ".c%" PRIu32 "{color:%s}", i, palette[i].dark);
}

void svg_head(FILE *out, double height, uint32_t vms, const char *title)
{
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" viewBox=\"0 0 %d ", WIDTH, WIDTH);
    markup_number(out, height);
    fputs("\" height=\"", out);
    markup_number(out, height);
    fputs("\" font-family=\"system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\" role=\"img\">\n<title>",
          out);
    markup_text(out, title);
    fputs("</title>\n<style>@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.t{fill:#e6edf3}.s{fill:#9198a1}"
          ".r{fill:#ff7b72}.g{stroke:#30363d}.a{stroke:#9198a1}.k{stroke:#e6edf3}.al{stroke:#ff7b72}.f{fill:#9198a1}"
          ".p{fill:#e6edf3}.h{stroke:#0d1117}.u{stroke:#3d9fdc}",
          out);
    style_of_vms(out, vms);
    fputs("}</style>\n", out);
    svg_rectangle(out, "class=\"bg\" fill=\"#ffffff\"", 0, 0, WIDTH, height);
}

int svg_finish(FILE *out)
{
    fputs("</svg>\n", out);
    return ferror(out) ? -1 : 0;
}

void svg_group(FILE *out, uint32_t vm, const char *style)
{
    fprintf(out, "<g class=\"c%" PRIu32 "\" color=\"%s\" %s>", vm % PALETTE, palette[vm % PALETTE].light, style);
}

/* ---- Scales
 * ---------------------------------------------------------------------------------------------------------- */

double plot_x(const struct plot *p, double value)
{
    return p->x + p->width * fmax(0, fmin(1, (value - p->x_min) / (p->x_max - p->x_min)));
}

double plot_y(const struct plot *p, double value)
{
    double part;

    if (p->logarithmic)
        part = log(fmax(value, p->y_min) / p->y_min) / log(p->y_max / p->y_min);
    else
        part = (value - p->y_min) / (p->y_max - p->y_min);
    return p->y + p->height * (1 - fmax(0, fmin(1, part)));
}

/* 1, 2 or 5 times a power of ten, at most `most` of them up to `max`. */
static double nice_step(double max, int most)
{
    double step = pow(10, floor(log10(fmax(max, 1e-9) / most)));

    for (int i = 0; max / step > most; i++)
        step *= i % 3 == 1 ? 2.5 : 2;
    return step;
}

static uint64_t time_step(uint64_t duration_ms)
{
    static const uint64_t steps[] = { 100,     200,     500,     1000,     2000,     5000,    10000,
                                      15000,   30000,   60000,   120000,   300000,   600000,  900000,
                                      1800000, 3600000, 7200000, 14400000, 43200000, 86400000 };
    size_t i = 0;

    while (i + 1 < sizeof steps / sizeof *steps && duration_ms / steps[i] > 10)
        i++;
    return duration_ms / steps[i] > 10 ? duration_ms / 7 : steps[i]; /* many days: longer words */
}

static void time_label(uint64_t t_ms, uint64_t step, char text[HUMAN_SIZE])
{
    if (step < 1000)
        snprintf(text, HUMAN_SIZE, "%" PRIu64 ".%" PRIu64 " s", t_ms / 1000, t_ms / 100 % 10);
    else
        human_time((int64_t)t_ms, text);
}

void time_grid(FILE *out, const struct plot *p, bool labels)
{
    uint64_t step = time_step((uint64_t)p->x_max);
    char text[HUMAN_SIZE];

    for (uint64_t t = 0; (double)t <= p->x_max; t += step) {
        double x = plot_x(p, (double)t);

        svg_line(out, "g", GRID, x, p->y, x, p->y + p->height);
        time_label(t, step, text);
        if (labels)
            svg_label(out, INK_SOFT, "middle", 11, fmin(x, WIDTH - 3.2 * (double)strlen(text)), p->y + p->height + 15, text);
    }
}

/* On an axis "20 MB/s" says more than "20.0 MB/s". */
static void tick_text(double value, bool rate, char text[HUMAN_SIZE])
{
    char number[HUMAN_SIZE], unit[HUMAN_SIZE];
    double amount;

    if (rate)
        human_rate((uint64_t)(value + 0.5), text);
    else
        human_bytes((uint64_t)(value + 0.5), text);
    if (sscanf(text, "%23s %23s", number, unit) == 2) {
        amount = strtod(number, NULL);
        snprintf(text, HUMAN_SIZE, "%.3g %.8s", amount, unit);
    }
}

void bytes_grid(FILE *out, const struct plot *p, bool rate, int most, double keep_out)
{
    double step = nice_step(p->y_max, most);
    char text[HUMAN_SIZE];

    for (double value = 0; value <= p->y_max * 1.0001; value += step) {
        svg_line(out, "g", GRID, p->x, plot_y(p, value), p->x + p->width, plot_y(p, value));
        tick_text(value, rate, text);
        if (keep_out < 0 || fabs(plot_y(p, value) - plot_y(p, keep_out)) > 14)
            svg_label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, value) + 4, value > 0 ? text : "0");
    }
}

void decade_grid(FILE *out, const struct plot *p)
{
    char text[HUMAN_SIZE];

    double decades = log10(p->y_max / p->y_min), step = decades * 20 > p->height ? 100 : 10;

    for (double value = p->y_min; value <= p->y_max * 1.0001; value *= step) {
        svg_line(out, "g", GRID, p->x, plot_y(p, value), p->x + p->width, plot_y(p, value));
        tick_text(value, true, text);
        svg_label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, value) + 4, text);
    }
}

void panel_title(FILE *out, const struct plot *p, const char *title, enum ink ink, const char *detail)
{
    fputs("<text class=\"t\" fill=\"#1f2328\" font-size=\"12\" font-weight=\"600\"", out);
    svg_attribute(out, "x", 16);
    svg_attribute(out, "y", p->y - 9);
    fputc('>', out);
    markup_text(out, title);
    fprintf(out, "<tspan class=\"%s\" fill=\"%s\" font-weight=\"400\" dx=\"8\">", ink_class[ink], ink_fill[ink]);
    markup_text(out, detail);
    fputs("</tspan></text>\n", out);
}
