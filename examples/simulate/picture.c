/* SPDX-License-Identifier: MIT */
/* Self-contained SVG for a README, 830 units wide, light and dark. Left bars: writes got through per VM, with the bound
 * as a tick; right bars: p99 slowdown on a logarithmic scale. Below, the files of one run, stacked, under the line of
 * Ω. */
#include "report.h"
#include <math.h>
#include <stdlib.h>

#define WIDTH 830
#define LEFT 150.0
#define MIDDLE 440.0
#define RIGHT 500.0
#define END 760.0
#define ROW 19.0
#define DECADES 5.0
#define TIMELINE 220.0

static const char *const palette[] = { "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
                                       "#b3a100", "#7a7a7a", "#6a5acd", "#cc6677", "#117733", "#ddaa66",
                                       "#882255", "#44aa99", "#8a8a2b", "#aa4499" };

static const char *colour_of(enum policy p)
{
    return p == POLICY_PLANNER ? "#009e73" : p == POLICY_PAPER ? "#0072b2" : "#8a8f98";
}

/* Whatever the locale says about commas. */
static void number(FILE *out, double x)
{
    long tenths = lround(10 * x);

    fprintf(out, "%s%ld", tenths < 0 ? "-" : "", labs(tenths) / 10);
    if (tenths % 10)
        fprintf(out, ".%ld", labs(tenths) % 10);
}

static void text(FILE *out, const char *class, const char *anchor, double x, double y, const char *words)
{
    fprintf(out, "<text class=\"%s\" text-anchor=\"%s\" x=\"", class, anchor);
    number(out, x);
    fputs("\" y=\"", out);
    number(out, y);
    fprintf(out, "\">%s</text>\n", words);
}

static void bar(FILE *out, const char *fill, double opacity, double x, double y, double width, double height)
{
    fprintf(out, "<rect fill=\"%s\" fill-opacity=\"%.2f\" x=\"", fill, opacity);
    number(out, x);
    fputs("\" y=\"", out);
    number(out, y);
    fputs("\" width=\"", out);
    number(out, fmax(0, width));
    fputs("\" height=\"", out);
    number(out, height);
    fputs("\"/>\n", out);
}

static void stroke(FILE *out, const char *class, double x1, double y1, double x2, double y2)
{
    fprintf(out, "<path class=\"%s\" d=\"M", class);
    number(out, x1);
    fputc(' ', out);
    number(out, y1);
    fputc('L', out);
    number(out, x2);
    fputc(' ', out);
    number(out, y2);
    fputs("\"/>\n", out);
}

static void put_row(FILE *out, const struct row *r, double y)
{
    double log_slow = fmin(DECADES, log10(fmax(1, r->p99)));
    char words[96];

    snprintf(words, sizeof words, "%s%s%s", policy_names[r->policy], r->admission == ADMISSION_OFF ? "" : " + ",
             r->admission == ADMISSION_OFF ? "" : admission_names[r->admission]);
    text(out, "t", "end", LEFT - 8, y + 12, words);
    bar(out, colour_of(r->policy), 0.85, LEFT, y + 2, (MIDDLE - LEFT) * r->vm_delivered_pct / 100, ROW - 6);
    if (r->policy != POLICY_MIRROR && r->policy != POLICY_HYBRID) {
        double x = LEFT + (MIDDLE - LEFT) * r->bound_pct / 100;

        stroke(out, "b", x, y, x, y + ROW - 2);
    }
    snprintf(words, sizeof words, "%.0f%%", r->vm_delivered_pct);
    text(out, "v", "start", LEFT + 5, y + 12, words);
    bar(out, colour_of(r->policy), 0.85, RIGHT, y + 2, (END - RIGHT) * log_slow / DECADES, ROW - 6);
    snprintf(words, sizeof words, r->p99 >= 1e5 ? "over 100000" : r->p99 < 10 ? "%.1f" : "%.0f", r->p99);
    if (log_slow > 0.6 * DECADES)
        text(out, "v", "start", RIGHT + 5, y + 12, words);
    else
        text(out, "t", "start", RIGHT + 5 + (END - RIGHT) * log_slow / DECADES, y + 12, words);
    if (r->failed_pct >= 0.05) {
        snprintf(words, sizeof words, "%.0f%% failed", r->failed_pct);
        text(out, "r", "end", WIDTH - 4, y + 12, words);
    }
}

static double put_rows(FILE *out, const struct row *rows, size_t count, double y)
{
    text(out, "h", "start", LEFT, y, "Writes got through, mean over VMs");
    text(out, "h", "start", RIGHT, y, "Slowdown of the slowest 1% of writes");
    y += 14;
    text(out, "s", "start", LEFT, y, "of what the guests would have written; tick: upper bound");
    text(out, "s", "start", RIGHT, y, "times; logarithmic, 1 to 100000");
    for (size_t k = 0; k < count; k++) {
        if (!k || rows[k].scenario != rows[k - 1].scenario) {
            y += k ? 18 : 12;
            text(out, "h", "start", 8, y + 10, rows[k].scenario->name);
            text(out, "s", "start", LEFT, y + 10, rows[k].scenario->text);
            y += 16;
        }
        put_row(out, &rows[k], y);
        y += ROW;
    }
    return y;
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
    fprintf(out, "<path fill=\"%s\" fill-opacity=\"0.85\" d=\"", palette[vm % 16]);
    for (size_t k = first; k < last; k++) {
        fputc(k == first ? 'M' : 'L', out);
        number(out, LEFT + r->frames[k].at_s * x_scale);
        fputc(' ', out);
        number(out, y - (below[k] + r->frames[k].file[vm]) * y_scale);
    }
    for (size_t k = last; k-- > first;) {
        fputc('L', out);
        number(out, LEFT + r->frames[k].at_s * x_scale);
        fputc(' ', out);
        number(out, y - below[k] * y_scale);
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
        stroke(out, "a", LEFT + at * x_scale, y, LEFT + at * x_scale, y + 4);
        if (steps[k] < 60)
            snprintf(words, sizeof words, "%.0f s", at);
        else
            snprintf(words, sizeof words, "%.0f min", at / 60);
        text(out, "s", "middle", LEFT + at * x_scale, y + 16, words);
    }
}

static int put_timeline(FILE *out, const struct recording *r, const char *title, double y)
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
    length_s = r->count ? r->frames[r->count - 1].at_s : 1;
    x_scale = (END + 40 - LEFT) / fmax(1, length_s);
    y_scale = (TIMELINE - 20) / highest;
    text(out, "h", "start", 8, y, "Files over time");
    text(out, "s", "start", LEFT, y, title);
    y += TIMELINE;
    for (uint32_t v = 0; v < r->vms; v++)
        put_layer(out, r, v, below, x_scale, y, y_scale);
    stroke(out, "a", LEFT, y, END + 40, y);
    stroke(out, "o", LEFT, y - r->omega * y_scale, END + 40, y - r->omega * y_scale);
    snprintf(words, sizeof words, "volume %.1f GiB", r->omega / 1073741824);
    text(out, "t", "end", LEFT - 8, y - r->omega * y_scale + 4, words);
    text(out, "s", "end", LEFT - 8, y + 4, "0");
    put_axis(out, length_s, x_scale, y);
    free(below);
    return 0;
}

int picture_write(const struct row *rows, size_t count, const struct recording *timeline, const char *title, FILE *out)
{
    double height = 70 + (double)count * ROW + TIMELINE + 60, y;

    for (size_t k = 0; k < count; k++)
        height += !k || rows[k].scenario != rows[k - 1].scenario ? 34 : 0;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" "
            "font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
            "<style>rect.g{fill:#fff}.t,.h{fill:#1f2328}.h{font-weight:600}.s{fill:#59636e;font-size:11px}.v{fill:#fff}"
            ".r{fill:#b3261e}.b,.a{stroke:#1f2328;fill:none}.b{stroke-width:2}.o{stroke:#b3261e;stroke-width:1.5;"
            "stroke-dasharray:6 3;fill:none}@media(prefers-color-scheme:dark){rect.g{fill:#0d1117}.t,.h{fill:#e6edf3}"
            ".s{fill:#9198a1}.r{fill:#ff7b72}.b,.a{stroke:#e6edf3}.o{stroke:#ff7b72}}</style>\n"
            "<rect class=\"g\" width=\"%d\" height=\"%.0f\" fill=\"#fff\"/>\n",
            WIDTH, height, WIDTH, height, WIDTH, height);
    y = put_rows(out, rows, count, 24);
    if (put_timeline(out, timeline, title, y + 36))
        return -1;
    fputs("</svg>\n", out);
    return ferror(out) ? -1 : 0;
}
