/* SPDX-License-Identifier: MIT */
/* Self-contained SVG for a README, 830 units wide, light and dark. Left bars: writes got through per VM, with the bound
 * as a tick; right bars: p99 slowdown on a logarithmic scale. Below, the files of one run, stacked, under the line of
 * Ω. */
#include "report.h"
#include "draw.h"
#include <math.h>
#include <stdlib.h>

#define END 760.0
#define MIDDLE 440.0
#define RIGHT 500.0
#define ROW 19.0
#define DECADES 5.0

static const char *colour_of(enum policy p)
{
    return p == POLICY_PLANNER ? "#009e73" : p == POLICY_PAPER ? "#0072b2" : "#8a8f98";
}

static void put_row(FILE *out, const struct row *r, double y)
{
    double log_slow = fmin(DECADES, log10(fmax(1, r->p99)));
    char words[96];

    snprintf(words, sizeof words, "%s%s%s", policy_names[r->policy], r->admission == ADMISSION_OFF ? "" : " + ",
             r->admission == ADMISSION_OFF ? "" : admission_names[r->admission]);
    draw_text(out, "t", "end", DRAW_LEFT - 8, y + 12, words);
    draw_bar(out, colour_of(r->policy), 0.85, DRAW_LEFT, y + 2, (MIDDLE - DRAW_LEFT) * r->vm_delivered_pct / 100, ROW - 6);
    if (r->policy != POLICY_MIRROR && r->policy != POLICY_PROXMOX && r->policy != POLICY_HYBRID) {
        double x = DRAW_LEFT + (MIDDLE - DRAW_LEFT) * r->bound_pct / 100;

        draw_stroke(out, "b", x, y, x, y + ROW - 2);
    }
    snprintf(words, sizeof words, "%.0f%%", r->vm_delivered_pct);
    draw_text(out, "v", "start", DRAW_LEFT + 5, y + 12, words);
    draw_bar(out, colour_of(r->policy), 0.85, RIGHT, y + 2, (END - RIGHT) * log_slow / DECADES, ROW - 6);
    snprintf(words, sizeof words, r->p99 >= 1e5 ? "over 100000" : r->p99 < 10 ? "%.1f" : "%.0f", r->p99);
    if (log_slow > 0.6 * DECADES)
        draw_text(out, "v", "start", RIGHT + 5, y + 12, words);
    else
        draw_text(out, "t", "start", RIGHT + 5 + (END - RIGHT) * log_slow / DECADES, y + 12, words);
    if (r->failed_pct >= 0.05) {
        snprintf(words, sizeof words, "%.0f%% failed", r->failed_pct);
        draw_text(out, "r", "end", DRAW_WIDTH - 4, y + 12, words);
    }
}

static double put_rows(FILE *out, const struct row *rows, size_t count, double y)
{
    draw_text(out, "h", "start", DRAW_LEFT, y, "Writes got through, mean over VMs");
    draw_text(out, "h", "start", RIGHT, y, "Slowdown of the slowest 1% of writes");
    y += 14;
    draw_text(out, "s", "start", DRAW_LEFT, y, "of what the guests would have written; tick: upper bound");
    draw_text(out, "s", "start", RIGHT, y, "times; logarithmic, 1 to 100000");
    for (size_t k = 0; k < count; k++) {
        if (!k || rows[k].scenario != rows[k - 1].scenario) {
            y += k ? 18 : 12;
            draw_text(out, "h", "start", 8, y + 10, rows[k].scenario->name);
            draw_text(out, "s", "start", DRAW_LEFT, y + 10, rows[k].scenario->text);
            y += 16;
        }
        put_row(out, &rows[k], y);
        y += ROW;
    }
    return y;
}

int picture_write(const struct row *rows, size_t count, const struct recording *timeline, const char *title, FILE *out)
{
    double height = 70 + (double)count * ROW + DRAW_FILES + 60, y;

    for (size_t k = 0; k < count; k++)
        height += !k || rows[k].scenario != rows[k - 1].scenario ? 34 : 0;
    draw_head(height, out);
    y = put_rows(out, rows, count, 24);
    if (draw_files(timeline, title, y + 36, out))
        return -1;
    fputs("</svg>\n", out);
    return ferror(out) ? -1 : 0;
}
