/* SPDX-License-Identifier: MIT */
/* The throttle curves of the paper. See svg.h. */
#include "migbuf/throttle.h"
#include "markup.h"
#include "numbers.h"
#include "svg.h"
#include "svg_marks.h"
#include <math.h>

#define BIN 100e6
#define SHARE 10e6
#define CURVES 4

static const double priorities[CURVES] = { 1, 1.5, 2, 3 };
/* vermillion as in the paper, black for priority 2 would vanish in the dark: the palette's indices */
static const uint32_t curve_colour[CURVES] = { 5, 1, 2, 3 };

static double rate(double used, double priority)
{
    struct migbuf_throttle_constants constants;
    double value = 0;

    migbuf_throttle_constants_init(&constants, sizeof constants);
    migbuf_throttle_rate(BIN, used, priority, &constants, &value);
    return value;
}

static double literal(double used, double share)
{
    struct migbuf_throttle_constants constants;
    double value = 0;

    migbuf_throttle_constants_init(&constants, sizeof constants);
    migbuf_throttle_literal(BIN, used, 1, share, &constants, &value);
    return value;
}

/* Where something that falls becomes at most 0. */
static double bisect(double (*above)(double used, double priority), double priority, double low, double high)
{
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;

        if (above(middle, priority) > 0)
            low = middle;
        else
            high = middle;
    }
    return high;
}

static double above_share(double used, double priority)
{
    return rate(used, priority) - SHARE;
}

static double above_half(double used, double priority)
{
    return rate(used, priority) / rate(used, 1) - 0.5;
}

static double before_pole(double used, double priority)
{
    (void)priority;
    return SHARE / 2 - literal(used, SHARE);
}

static void curve(FILE *out, const struct plot *p, const char *style, double (*value)(double, double), double parameter)
{
    char command = 'M';

    fprintf(out, "<path %s d=\"", style);
    for (int i = 0; i <= 300; i++) {
        double used = p->x_min + (p->x_max - p->x_min) * i / 300;

        svg_point(out, command, plot_x(p, used), plot_y(p, value(used, parameter)));
        command = 'L';
    }
    fputs("\"/>\n", out);
}

static double in_force(double used, double priority)
{
    return fmin(rate(used, priority), SHARE);
}

static void dot(FILE *out, const struct plot *p, double used, double value)
{
    fputs("<circle class=\"p h\" fill=\"#1f2328\" stroke=\"#ffffff\" stroke-width=\"1.5\" r=\"4.5\"", out);
    svg_attribute(out, "cx", plot_x(p, used));
    svg_attribute(out, "cy", plot_y(p, value));
    fputs("/>\n", out);
}

static void fill_grid(FILE *out, const struct plot *p, double step)
{
    char text[16];

    for (double used = p->x_min; used <= p->x_max * 1.0001; used += step) {
        double x = plot_x(p, used);

        svg_line(out, "g", GRID, x, p->y, x, p->y + p->height);
        snprintf(text, sizeof text, "%.0f %%", used / BIN * 100);
        svg_label(out, INK_SOFT, "middle", 11, x, p->y + p->height + 16, text);
    }
}

static void curve_key(FILE *out, double x, double y)
{
    char text[64];

    for (uint32_t i = 0; i < CURVES; i++, y += 19) {
        svg_group(out, curve_colour[i], "stroke=\"currentColor\" stroke-width=\"2.4\"");
        svg_line(out, "", "", x, y - 4, x + 22, y - 4);
        fputs("</g>", out);
        snprintf(text, sizeof text, "priority %g: meets U/N at %.1f %%", priorities[i],
                 bisect(above_share, priorities[i], 0, BIN) / BIN * 100);
        svg_label(out, INK_TEXT, "start", 12, x + 30, y, text);
    }
    svg_line(out, "u", "stroke=\"#0072b2\" stroke-width=\"2\" stroke-dasharray=\"6 4\"", x, y - 4, x + 22, y - 4);
    svg_label(out, INK_TEXT, "start", 12, x + 30, y, "U/N, its share of the link");
    y += 19;
    svg_line(out, "", "stroke=\"#d55e00\" stroke-opacity=\".22\" stroke-width=\"9\"", x, y - 4, x + 22, y - 4);
    svg_label(out, INK_TEXT, "start", 12, x + 30, y, "priority 1 gets the lower of both");
}

static void share_line(FILE *out, const struct plot *p)
{
    svg_line(out, "u", "stroke=\"#0072b2\" stroke-width=\"2\" stroke-dasharray=\"6 4\"", p->x, plot_y(p, SHARE),
         p->x + p->width, plot_y(p, SHARE));
}

static void curves_linear(FILE *out, const struct plot *p)
{
    double knee = bisect(above_share, 1, 0, BIN), half = bisect(above_half, 2, 1, BIN * 0.9);
    char text[80];

    bytes_grid(out, p, true, 6, -1);
    fill_grid(out, p, BIN / 5);
    share_line(out, p);
    curve(out, p, "fill=\"none\" stroke=\"#d55e00\" stroke-opacity=\".22\" stroke-width=\"9\"", in_force, 1);
    for (uint32_t i = CURVES; i-- > 0;) {
        svg_group(out, curve_colour[i], "fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.4\"");
        curve(out, p, "", rate, priorities[i]);
        fputs("</g>", out);
    }
    svg_line(out, "a", AXIS " stroke-dasharray=\"2 3\"", plot_x(p, half), plot_y(p, rate(half, 1)), plot_x(p, half),
         p->y + p->height);
    dot(out, p, half, rate(half, 1));
    dot(out, p, half, rate(half, 2));
    snprintf(text, sizeof text, "%.1f %%: priority 2 has half", half / BIN * 100);
    svg_label(out, INK_TEXT, "start", 12, plot_x(p, half) + 9, plot_y(p, rate(half, 1)) - 2, text);
    dot(out, p, knee, SHARE);
    snprintf(text, sizeof text, "knee at %.1f %%", knee / BIN * 100);
    svg_label(out, INK_TEXT, "start", 12, plot_x(p, knee) + 4, plot_y(p, SHARE) - 10, text);
}

static void curves_pole(FILE *out, const struct plot *p)
{
    double pole = bisect(before_pole, 0, BIN, BIN * 1.1);
    char text[80];

    decade_grid(out, p);
    fill_grid(out, p, BIN / 10);
    share_line(out, p);
    svg_line(out, "al", ALARM " stroke-dasharray=\"2 3\"", plot_x(p, pole), p->y, plot_x(p, pole), p->y + p->height);
    curve(out, p, "class=\"al\" fill=\"none\" stroke=\"#b3261e\" stroke-width=\"1.6\" stroke-dasharray=\"3 3\"",
          literal, INFINITY);
    curve(out, p, "class=\"al\" fill=\"none\" stroke=\"#b3261e\" stroke-width=\"2.6\"", literal, SHARE);
    curve(out, p, "fill=\"none\" stroke=\"#009e73\" stroke-width=\"2.6\"", in_force, 1);
    snprintf(text, sizeof text, "as printed: pole at %.2f %%,", pole / BIN * 100);
    svg_label(out, INK_ALARM, "start", 11, plot_x(p, pole) + 8, plot_y(p, SHARE) - 24, text);
    svg_label(out, INK_ALARM, "start", 11, plot_x(p, pole) + 8, plot_y(p, SHARE) - 10, "then no throttle at all");
    svg_label(out, INK_ALARM, "start", 11, plot_x(p, pole) + 8, plot_y(p, literal(p->x_max, INFINITY)),
          "dotted: without U/N");
    svg_label(out, INK_TEXT, "start", 11, plot_x(p, pole) + 8, plot_y(p, rate(BIN * 1.1, 1)) - 8, "migbuf: ε and no more");
}

int svg_curves(FILE *out)
{
    struct plot left = { .x = 76, .width = 424, .y = 84, .height = 300, .x_max = BIN, .y_max = 105e6 };
    struct plot right = { .x = 586,
                          .width = 220,
                          .y = 84,
                          .height = 300,
                          .x_min = 0.9 * BIN,
                          .x_max = 1.3 * BIN,
                          .y_min = 1e3,
                          .y_max = 1e12,
                          .logarithmic = true };

    svg_head(out, 436, PALETTE, "Throttle rate over the fill of a bin, as migbuf computes it");
    fputs("<text class=\"t\" fill=\"#1f2328\" font-size=\"17\" font-weight=\"600\" x=\"16\" y=\"30\">Write rate "
          "granted while a "
          "bin fills up</text>\n",
          out);
    svg_label(out, INK_SOFT, "start", 12, 16, 50, "bin 100 MB, U/N 10 MB/s; every point computed by the library");
    svg_label(out, INK_TEXT, "start", 12, right.x, 50, "Around a full bin (logarithmic)");
    curves_linear(out, &left);
    curve_key(out, 250, 106);
    curves_pole(out, &right);
    svg_label(out, INK_SOFT, "middle", 11, left.x + left.width / 2, 426, "fill of the bins it lies in");
    svg_label(out, INK_SOFT, "middle", 11, right.x + right.width / 2, 426, "fill of its bin");
    return svg_finish(out);
}
