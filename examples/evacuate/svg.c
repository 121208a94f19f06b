/* SPDX-License-Identifier: MIT */
/*
 * Pictures for a README. Colours stand twice: as attributes, which every viewer understands, and as CSS for the dark
 * mode, which overrides them where it is known. VM i has class c<i>; what belongs to it is drawn in currentColor.
 */
#include "svg.h"
#include "markup.h"
#include "migbuf/throttle.h"
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 830 /* of a README on GitHub: one unit is one pixel there */
#define LEFT 132
#define RIGHT 806
#define PALETTE 16

struct paint {
    const char *light, *dark;
};

/* Okabe and Ito's colours (yellow darkened: it is also used for lines), then Tol's muted ones. */
static const struct paint palette[PALETTE] = {
    { "#0072b2", "#3d9fdc" }, { "#e69f00", "#e69f00" }, { "#009e73", "#10b487" }, { "#cc79a7", "#d98bb6" },
    { "#56b4e9", "#7cc7f2" }, { "#d55e00", "#e87528" }, { "#b3a100", "#d1bf1f" }, { "#7a7a7a", "#9a9a9a" },
    { "#332288", "#7d6fd6" }, { "#cc6677", "#d97a8a" }, { "#117733", "#35a05a" }, { "#ddaa66", "#ddbb77" },
    { "#882255", "#c05a8f" }, { "#44aa99", "#58c0af" }, { "#8a8a2b", "#b5b552" }, { "#aa4499", "#c765b7" },
};

/* ---- Bits of SVG
 * ----------------------------------------------------------------------------------------------------- */

static void put_point(FILE *out, char command, double x, double y)
{
    fputc(command, out);
    markup_number(out, x);
    fputc(' ', out);
    markup_number(out, y);
}

static void put_attribute(FILE *out, const char *name, double value)
{
    fprintf(out, " %s=\"", name);
    markup_number(out, value);
    fputc('"', out);
}

enum ink { INK_TEXT, INK_SOFT, INK_ALARM };

static const char *const ink_class[] = { "t", "s", "r" }, *const ink_fill[] = { "#1f2328", "#59636e", "#b3261e" };

static void label(FILE *out, enum ink ink, const char *anchor, int size, double x, double y, const char *text)
{
    fprintf(out, "<text class=\"%s\" fill=\"%s\" font-size=\"%d\"", ink_class[ink], ink_fill[ink], size);
    put_attribute(out, "x", x);
    put_attribute(out, "y", y);
    if (strcmp(anchor, "start"))
        fprintf(out, " text-anchor=\"%s\"", anchor);
    fputc('>', out);
    markup_text(out, text);
    fputs("</text>\n", out);
}

static void line(FILE *out, const char *class, const char *style, double x1, double y1, double x2, double y2)
{
    fprintf(out, "<path class=\"%s\" %s d=\"", class, style);
    put_point(out, 'M', x1, y1);
    put_point(out, 'L', x2, y2);
    fputs("\"/>\n", out);
}

#define GRID "stroke=\"#d8dee4\" fill=\"none\""
/* White with a thin dark edge: readable on every colour of the palette. */
#define ON_COLOUR                                                                                                      \
    "fill=\"#ffffff\" stroke=\"#000000\" stroke-opacity=\".45\" stroke-width=\"1.6\" stroke-linejoin=\"round\" "       \
    "paint-order=\"stroke\""
#define AXIS "stroke=\"#59636e\" fill=\"none\""
#define ALARM "stroke=\"#b3261e\" fill=\"none\""

static void rectangle(FILE *out, const char *style, double x, double y, double width, double height)
{
    fprintf(out, "<rect %s", style);
    put_attribute(out, "x", x);
    put_attribute(out, "y", y);
    put_attribute(out, "width", width);
    put_attribute(out, "height", height);
    fputs("/>\n", out);
}

static void style_of_vms(FILE *out, uint32_t count)
{
    for (uint32_t i = 0; i < count && i < PALETTE; i++)
        fprintf(out, ".c%" PRIu32 "{color:%s}", i, palette[i].dark);
}

static void head(FILE *out, double height, uint32_t vms, const char *title)
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
    rectangle(out, "class=\"bg\" fill=\"#ffffff\"", 0, 0, WIDTH, height);
}

static int finish(FILE *out)
{
    fputs("</svg>\n", out);
    return ferror(out) ? -1 : 0;
}

/* Opens a group in the colour of a VM. */
static void group(FILE *out, uint32_t vm, const char *style)
{
    fprintf(out, "<g class=\"c%" PRIu32 "\" color=\"%s\" %s>", vm % PALETTE, palette[vm % PALETTE].light, style);
}

/* ---- Scales
 * ---------------------------------------------------------------------------------------------------------- */

/* From values to pixels; y grows downwards. */
struct plot {
    double x, y, width, height;
    double x_min, x_max, y_min, y_max;
    bool logarithmic;
};

static double plot_x(const struct plot *p, double value)
{
    return p->x + p->width * fmax(0, fmin(1, (value - p->x_min) / (p->x_max - p->x_min)));
}

static double plot_y(const struct plot *p, double value)
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

static void time_grid(FILE *out, const struct plot *p, bool labels)
{
    uint64_t step = time_step((uint64_t)p->x_max);
    char text[HUMAN_SIZE];

    for (uint64_t t = 0; (double)t <= p->x_max; t += step) {
        double x = plot_x(p, (double)t);

        line(out, "g", GRID, x, p->y, x, p->y + p->height);
        time_label(t, step, text);
        if (labels)
            label(out, INK_SOFT, "middle", 11, fmin(x, WIDTH - 3.2 * (double)strlen(text)), p->y + p->height + 15, text);
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

/* `keep_out`: a value with a label of its own; below 0: none. */
static void bytes_grid(FILE *out, const struct plot *p, bool rate, int most, double keep_out)
{
    double step = nice_step(p->y_max, most);
    char text[HUMAN_SIZE];

    for (double value = 0; value <= p->y_max * 1.0001; value += step) {
        line(out, "g", GRID, p->x, plot_y(p, value), p->x + p->width, plot_y(p, value));
        tick_text(value, rate, text);
        if (keep_out < 0 || fabs(plot_y(p, value) - plot_y(p, keep_out)) > 14)
            label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, value) + 4, value > 0 ? text : "0");
    }
}

static void decade_grid(FILE *out, const struct plot *p)
{
    char text[HUMAN_SIZE];

    double decades = log10(p->y_max / p->y_min), step = decades * 20 > p->height ? 100 : 10;

    for (double value = p->y_min; value <= p->y_max * 1.0001; value *= step) {
        line(out, "g", GRID, p->x, plot_y(p, value), p->x + p->width, plot_y(p, value));
        tick_text(value, true, text);
        label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, value) + 4, text);
    }
}

static void panel_title(FILE *out, const struct plot *p, const char *title, enum ink ink, const char *detail)
{
    fputs("<text class=\"t\" fill=\"#1f2328\" font-size=\"12\" font-weight=\"600\"", out);
    put_attribute(out, "x", 16);
    put_attribute(out, "y", p->y - 9);
    fputc('>', out);
    markup_text(out, title);
    fprintf(out, "<tspan class=\"%s\" fill=\"%s\" font-weight=\"400\" dx=\"8\">", ink_class[ink], ink_fill[ink]);
    markup_text(out, detail);
    fputs("</tspan></text>\n", out);
}

/* ---- Decimation
 * ------------------------------------------------------------------------------------------------------ */

/* The frames of one record sorted into columns; a column is what one point of a line stands for. */
struct columns {
    const struct record *record;
    size_t *first; /* count + 1 indices of frames */
    size_t count;
};

/* So many that the file stays small, whatever the number of VMs. */
static int columns_new(struct columns *c, const struct record *record, uint64_t duration_ms)
{
    size_t most = 2000 / record->vm_count, frame = 0;

    most = most > 600 ? 600 : most < 60 ? 60 : most;
    *c = (struct columns){ .record = record, .count = most };
    c->first = calloc(most + 1, sizeof *c->first);
    if (!c->first)
        return -1;
    for (size_t i = 0; i < most; i++) {
        double end = (double)duration_ms * (double)(i + 1) / (double)most;

        c->first[i] = frame;
        while (frame < record->frame_count && ((double)record->frames[frame].t_ms < end || i + 1 == most))
            frame++;
    }
    c->first[most] = record->frame_count;
    return 0;
}

static bool column_empty(const struct columns *c, size_t i)
{
    return c->first[i] == c->first[i + 1];
}

/* The frame to draw for stacked areas: the fullest, so that no peak is lost. */
static const struct frame *column_fullest(const struct columns *c, size_t i)
{
    const struct frame *best = &c->record->frames[c->first[i]];

    for (size_t k = c->first[i]; k < c->first[i + 1]; k++)
        if (c->record->frames[k].used_bytes > best->used_bytes)
            best = &c->record->frames[k];
    return best;
}

/* ---- Areas
 * ----------------------------------------------------------------------------------------------------------- */

static double stacked(const struct frame *frame, uint32_t vms)
{
    double sum = 0;

    for (uint32_t i = 0; i < vms; i++)
        sum += (double)frame->vm[i].overlay_bytes;
    return sum;
}

/* Everything up to VM `top`, down to the base line: drawn from the last VM to the first, each covers what lies below
 * it. */
static void area(FILE *out, const struct plot *p, const struct columns *c, uint32_t top)
{
    double base = plot_y(p, 0), x = p->x;
    bool open = false;

    group(out, top, "fill=\"currentColor\" stroke-opacity=\".35\" stroke-width=\".6\"");
    fputs("<path class=\"h\" stroke=\"#ffffff\" d=\"", out);
    for (size_t i = 0; i < c->count; i++) {
        const struct frame *frame;

        if (column_empty(c, i))
            continue;
        frame = column_fullest(c, i);
        x = plot_x(p, (double)frame->t_ms);
        if (!open)
            put_point(out, 'M', x, base);
        put_point(out, 'L', x, plot_y(p, stacked(frame, top + 1)));
        open = true;
    }
    if (open)
        put_point(out, 'L', x, base);
    fputs("Z\"/></g>\n", out);
}

/* The free height for a letter of VM vm in column i: what its part has in common over the letter's width. */
static double letter_room(const struct plot *p, const struct columns *c, uint32_t vm, size_t i, double *middle)
{
    size_t half = (size_t)(6 * (double)c->count / p->width) + 1, from = i < half ? 0 : i - half, to = i + half;
    double top = p->y, bottom = p->y + p->height;

    /* As far as the next frames on both sides, if they are further away: between them lines are straight. */
    while (from && column_empty(c, from))
        from--;
    while (to + 1 < c->count && column_empty(c, to))
        to++;
    if (column_empty(c, from)) /* the picture begins here */
        return 0;
    for (size_t k = from; k <= to && k < c->count; k++) {
        const struct frame *frame;

        if (column_empty(c, k))
            continue;
        frame = column_fullest(c, k);
        top = fmax(top, plot_y(p, stacked(frame, vm + 1)));
        bottom = fmin(bottom, plot_y(p, stacked(frame, vm)));
    }
    *middle = (top + bottom) / 2;
    return bottom - top;
}

/* The VM's letter where its part of the stack is thickest. */
static void area_letter(FILE *out, const struct plot *p, const struct columns *c, uint32_t vm)
{
    double most = 11, y = 0, x = -1, middle;

    for (size_t i = 0; i < c->count; i++) {
        double at = column_empty(c, i) ? 0 : plot_x(p, (double)column_fullest(c, i)->t_ms);

        if (at < p->x + 8 || at > p->x + p->width - 8 || letter_room(p, c, vm, i, &middle) <= most)
            continue;
        most = letter_room(p, c, vm, i, &middle);
        x = at;
        y = middle;
    }
    if (x < 0)
        return;
    fputs("<text " ON_COLOUR " font-size=\"11\" font-weight=\"700\" text-anchor=\"middle\"", out);
    put_attribute(out, "x", x);
    put_attribute(out, "y", y + 4);
    fprintf(out, ">%c</text>\n", vm_letter(vm));
}

/* What drains may still pour in: the strip below Ω that nobody is given. */
static void reserve_strip(FILE *out, const struct plot *p, const struct columns *c)
{
    double omega = (double)c->record->omega_bytes, x = p->x;
    bool open = false;

    fputs("<path class=\"f\" fill=\"#59636e\" fill-opacity=\".16\" d=\"", out);
    for (size_t i = 0; i < c->count; i++) {
        const struct frame *frame;

        if (column_empty(c, i))
            continue;
        frame = &c->record->frames[c->first[i]];
        x = plot_x(p, (double)frame->t_ms);
        if (!open)
            put_point(out, 'M', x, plot_y(p, omega));
        put_point(out, 'L', x, plot_y(p, omega - (double)frame->reserve_bytes));
        open = true;
    }
    if (open)
        put_point(out, 'L', x, plot_y(p, omega));
    fputs("\"/>\n", out);
}

/* What the file system says: above the stack by what it needs for itself. */
static void used_line(FILE *out, const struct plot *p, const struct columns *c)
{
    char command = 'M';

    fputs("<path class=\"k\" fill=\"none\" stroke=\"#1f2328\" stroke-width=\"1\" d=\"", out);
    for (size_t i = 0; i < c->count; i++) {
        const struct frame *frame;

        if (column_empty(c, i))
            continue;
        frame = column_fullest(c, i);
        put_point(out, command, plot_x(p, (double)frame->t_ms), plot_y(p, (double)frame->used_bytes));
        command = 'L';
    }
    fputs("\"/>\n", out);
}

static void omega_line(FILE *out, const struct plot *p, const struct record *record)
{
    char size[HUMAN_SIZE], text[64];
    double y = plot_y(p, (double)record->omega_bytes);

    line(out, "al", ALARM " stroke-width=\"1.6\"", p->x, y, p->x + p->width, y);
    snprintf(text, sizeof text, "Ω %s", human_bytes(record->omega_bytes, size));
    label(out, INK_ALARM, "end", 12, p->x - 6, y + 4, text);
}

static void peak_mark(FILE *out, const struct plot *p, const struct record *record)
{
    const struct frame *peak = record_peak(record);
    char size[HUMAN_SIZE], when[HUMAN_SIZE], text[96];
    double x = plot_x(p, (double)peak->t_ms), y = plot_y(p, (double)peak->used_bytes);
    double omega = plot_y(p, (double)record->omega_bytes);
    bool left = x > p->x + p->width * 0.7;

    fputs("<circle class=\"p\" fill=\"#1f2328\" r=\"3.5\"", out);
    put_attribute(out, "cx", x);
    put_attribute(out, "cy", y);
    fputs("/>\n", out);
    snprintf(text, sizeof text, "peak %s at %s", human_bytes(peak->used_bytes, size),
             human_time((int64_t)peak->t_ms, when));
    /* Above the point, for below it would be on the areas; and not across the line of Ω. */
    y -= 6;
    if (y > omega - 4 && y < omega + 10)
        y = omega - 4;
    label(out, INK_TEXT, left ? "end" : "start", 11, x + (left ? -7 : 7), y, text);
}

/* A program that comes back to a run of another one knows nothing of what that one saw. */
static void unseen(FILE *out, const struct plot *p, const struct record *record)
{
    double from = plot_x(p, (double)record->frames[0].t_ms);

    if (from > p->x + 110)
        label(out, INK_SOFT, "middle", 11, (p->x + from) / 2, p->y + p->height / 4, "before the restart");
}

static void stack_panel(FILE *out, const struct plot *p, const struct columns *c)
{
    const struct record *record = c->record;

    bytes_grid(out, p, false, 4, (double)record->omega_bytes);
    time_grid(out, p, false);
    reserve_strip(out, p, c);
    for (uint32_t i = record->vm_count; i-- > 0;)
        area(out, p, c, i);
    used_line(out, p, c);
    for (uint32_t i = 0; i < record->vm_count; i++)
        area_letter(out, p, c, i);
    omega_line(out, p, record);
    unseen(out, p, record);
}

/* ---- Bands: one per VM, phases, pauses, events
 * ------------------------------------------------------------------------ */

#define EVENTS_DRAWN 80

static double band_height(uint32_t vms)
{
    return vms <= 8 ? 16 : vms <= 16 ? 12 : 9;
}

static double band_pitch(uint32_t vms)
{
    return band_height(vms) + (vms <= 8 ? 5 : 3);
}

/* The time from which frame i no longer counts. */
static double frame_end(const struct record *record, size_t i)
{
    return (double)record->frames[i + 1 < record->frame_count ? i + 1 : i].t_ms;
}

static void phase_piece(FILE *out, int32_t phase, double x, double y, double width, double height)
{
    static const char *const style[PHASE_COUNT] = {
        "fill=\"none\" stroke=\"currentColor\" stroke-opacity=\".35\" stroke-dasharray=\"2 3\"",
        "fill=\"currentColor\" fill-opacity=\".3\"",
        "fill=\"currentColor\" fill-opacity=\".65\"",
        "fill=\"currentColor\"",
        "fill=\"currentColor\" fill-opacity=\".15\" stroke=\"currentColor\" stroke-dasharray=\"2 2\"",
        "fill=\"none\" stroke=\"currentColor\"",
        "fill=\"none\" stroke=\"currentColor\" stroke-dasharray=\"6 3\"",
        "fill=\"#b3261e\" fill-opacity=\".85\"",
    };
    bool outline = phase == PHASE_BACK || phase == PHASE_TARGET || phase == PHASE_REVERTED;

    if (phase < 0 || phase >= PHASE_COUNT || width <= 0)
        return;
    if (phase == PHASE_WAITING)
        rectangle(out, style[phase], x, y + height / 2, width, 0.1);
    else if (outline)
        rectangle(out, style[phase], x + 0.5, y + 0.5, fmax(0, width - 1), height - 1);
    else
        rectangle(out, style[phase], x, y, width, height);
}

static void phase_name(FILE *out, int32_t phase, double x, double y, double width, double height)
{
    const char *text = phase_text(phase);
    double need = 6.2 * (double)strlen(text) + 6;
    bool light = phase == PHASE_RAM || phase == PHASE_FAILED;

    if (phase == PHASE_WAITING || width < need || height < 12)
        return;
    if (light)
        fputs("<text " ON_COLOUR, out);
    else
        fputs("<text class=\"t\" fill=\"#1f2328\"", out);
    fprintf(out, " font-size=\"%d\"", height < 16 ? 9 : 11);
    put_attribute(out, "x", x + 4);
    put_attribute(out, "y", y + height / 2 + (height < 16 ? 3.2 : 4));
    fprintf(out, ">%s</text>", text);
}

#define PIECES 20

/* The frame after the piece that begins with frame i: same phase, or too narrow to be seen. */
static size_t piece_end(const struct plot *p, const struct record *record, uint32_t vm, size_t i, double narrow)
{
    double x = plot_x(p, (double)record->frames[i].t_ms);
    size_t end = i + 1;

    while (end < record->frame_count && (record->frames[end].vm[vm].phase == record->frames[i].vm[vm].phase ||
                                         plot_x(p, (double)record->frames[end].t_ms) < x + narrow))
        end++;
    return end;
}

/* The width below which pieces are swallowed by the one before, so that a picture has no more than PIECES of them. */
static double narrowest(const struct plot *p, const struct record *record, uint32_t vm)
{
    double narrow = 0.8;
    size_t count;

    do {
        count = 0;
        for (size_t i = 0; i < record->frame_count; i = piece_end(p, record, vm, i, narrow))
            count++;
        narrow *= 2;
    } while (count > PIECES);
    return narrow / 2;
}

static void band_phases(FILE *out, const struct plot *p, const struct record *record, uint32_t vm, double y)
{
    double height = band_height(record->vm_count), narrow = narrowest(p, record, vm);

    for (size_t i = 0, end; i < record->frame_count; i = end) {
        int32_t phase = record->frames[i].vm[vm].phase;
        double x = plot_x(p, (double)record->frames[i].t_ms), width;

        end = piece_end(p, record, vm, i, narrow);
        width = plot_x(p, frame_end(record, end - 1)) - x;
        phase_piece(out, phase, x, y, width, height);
        phase_name(out, phase, x, y, width, height);
    }
}

/* Pauses as one path of horizontal strokes; gaps nobody could see are closed. */
static void pauses(FILE *out, const struct plot *p, const struct columns *c, uint32_t vm, double y)
{
    double gap = p->width / (double)c->count, start = -1, end = -1;

    for (size_t i = 0; i < c->record->frame_count; i++) {
        double x = plot_x(p, (double)c->record->frames[i].t_ms);

        if (!c->record->frames[i].vm[vm].paused)
            continue;
        if (start < 0 || x > end + gap) {
            if (start >= 0) {
                put_point(out, 'M', start, y);
                put_point(out, 'L', end, y);
            }
            start = x;
        }
        end = fmax(x + 1, plot_x(p, frame_end(c->record, i)));
    }
    if (start >= 0) {
        put_point(out, 'M', start, y);
        put_point(out, 'L', end, y);
    }
}

static void band_label(FILE *out, const struct record *record, uint32_t vm, double y)
{
    double height = band_height(record->vm_count);
    char text[RECORD_NAME_SIZE + 4];

    group(out, vm, "fill=\"currentColor\"");
    rectangle(out, "rx=\"2\"", 16, y, 14, height);
    fputs("<text " ON_COLOUR " font-size=\"10\" font-weight=\"700\" text-anchor=\"middle\"", out);
    put_attribute(out, "x", 23);
    put_attribute(out, "y", y + height / 2 + 3.5);
    fprintf(out, ">%c</text></g>\n", vm_letter(vm));
    /* 15 letters fit; cut whole UTF-8 characters. */
    snprintf(text, sizeof text, "%s", record->names[vm]);
    if (strlen(text) > 15) {
        size_t cut = 14;

        while (cut && ((unsigned char)text[cut] & 0xc0) == 0x80)
            cut--;
        memcpy(text + cut, "…", sizeof "…");
    }
    label(out, INK_TEXT, "start", height < 12 ? 10 : 11, 35, y + height / 2 + 4, text);
}

static void band_events(FILE *out, const struct plot *p, const struct record *record, double y)
{
    size_t step = record->event_count / EVENTS_DRAWN + 1;

    for (size_t i = 0; i < record->event_count; i += step) {
        const struct record_event *e = &record->events[i];
        uint32_t row = e->vm < record->vm_count ? e->vm : 0;
        double top = y + band_pitch(record->vm_count) * row - 2, x = plot_x(p, (double)e->t_ms);
        char when[HUMAN_SIZE];

        fputs("<path class=\"k\" stroke=\"#1f2328\" d=\"", out);
        put_point(out, 'M', x, e->vm < record->vm_count ? top : top - 3);
        put_point(out, 'L', x, top + 6);
        fprintf(out, "\"><title>%s ", human_time((int64_t)e->t_ms, when));
        markup_text(out, e->text);
        fputs("</title></path>\n", out);
    }
}

static void band_panel(FILE *out, const struct plot *p, const struct columns *c)
{
    const struct record *record = c->record;

    time_grid(out, p, false);
    for (uint32_t i = 0; i < record->vm_count; i++) {
        double y = p->y + band_pitch(record->vm_count) * i;

        band_label(out, record, i, y);
        group(out, i, "");
        band_phases(out, p, record, i, y);
        fputs("</g>\n<path class=\"k\" stroke=\"#1f2328\" stroke-width=\"3\" d=\"M0 0", out);
        pauses(out, p, c, i, y + band_height(record->vm_count) - 1.5);
        fputs("\"/>\n", out);
    }
    band_events(out, p, record, p->y);
}

/* ---- Limits and guest rates
 * ------------------------------------------------------------------------------------------- */

static bool limited(const struct frame_vm *vm)
{
    return phase_is_active(vm->phase) && !vm->paused && vm->limit_bytes_per_s &&
           vm->limit_bytes_per_s != UINT64_MAX;
}

struct extent {
    double low, high, last;
    bool any;
};

static struct extent column_limits(const struct columns *c, size_t i, uint32_t vm)
{
    struct extent e = { 0 };

    for (size_t k = c->first[i]; k < c->first[i + 1]; k++) {
        const struct frame_vm *f = &c->record->frames[k].vm[vm];

        if (!limited(f))
            continue;
        e.last = (double)f->limit_bytes_per_s;
        e.low = e.any ? fmin(e.low, e.last) : e.last;
        e.high = e.any ? fmax(e.high, e.last) : e.last;
        e.any = true;
    }
    return e;
}

struct pen {
    double x, y;
    bool down;
};

static void pen_to(FILE *out, char command, double value, double *position)
{
    if (fabs(value - *position) < 0.1)
        return;
    fputc(command, out);
    markup_number(out, value);
    *position = value;
}

/* Steps within a column become one stroke from the lowest to the highest. */
static void limit_step(FILE *out, const struct plot *p, const struct extent *e, double x, struct pen *pen)
{
    double y = plot_y(p, e->last);

    if (!pen->down) {
        put_point(out, 'M', x, y);
        *pen = (struct pen){ x, y, true };
        return;
    }
    if (fabs(y - pen->y) < 0.1 && plot_y(p, e->low) - plot_y(p, e->high) < 0.1)
        return; /* a level stretch is one H, drawn when it ends */
    pen_to(out, 'H', x, &pen->x);
    pen_to(out, 'V', plot_y(p, e->high), &pen->y);
    pen_to(out, 'V', plot_y(p, e->low), &pen->y);
    pen_to(out, 'V', y, &pen->y);
}

/* One step line, interrupted where there is no limit. Returns where it ends. */
static struct pen limit_line(FILE *out, const struct plot *p, const struct columns *c, uint32_t vm)
{
    struct pen pen = { 0 };

    group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\" stroke-linejoin=\"round\"");
    fputs("<path d=\"M0 0", out);
    for (size_t i = 0; i < c->count; i++) {
        struct extent e = column_limits(c, i, vm);
        double x = column_empty(c, i) ? 0 : plot_x(p, (double)c->record->frames[c->first[i]].t_ms);

        if (e.any) {
            limit_step(out, p, &e, x, &pen);
        } else if (pen.down && !column_empty(c, i)) {
            pen_to(out, 'H', x, &pen.x);
            pen.down = false;
        }
    }
    if (pen.down)
        pen_to(out, 'H', plot_x(p, (double)record_last(c->record)->t_ms), &pen.x);
    fputs("\"/></g>\n", out);
    return pen;
}

#define LETTERED 8 /* with more VMs than that there is no room for letters */

/* How far from its line's end a letter must go so that it lies on none of those already there. */
static double out_of_the_way(const struct pen *placed, uint32_t count, const struct plot *p, struct pen at)
{
    for (int step = 0; step <= 2 * LETTERED; step++) {
        double y = at.y + (step % 2 ? -1 : 1) * (step + 1) / 2 * 9.5;
        bool free = y >= p->y && y <= p->y + p->height;

        for (uint32_t i = 0; i < count && free; i++)
            free = fabs(placed[i].x - at.x) >= 9 || fabs(placed[i].y - y) >= 9;
        if (free)
            return y;
    }
    return at.y;
}

/* The VM's letter at the end of its line. */
static void limit_letters(FILE *out, const struct plot *p, const struct pen *end, uint32_t count)
{
    struct pen placed[LETTERED];
    uint32_t n = 0;

    for (uint32_t vm = 0; vm < count && count <= LETTERED; vm++) {
        if (end[vm].x <= 0)
            continue;
        placed[n] = end[vm];
        placed[n].y = out_of_the_way(placed, n, p, end[vm]);
        group(out, vm, "fill=\"currentColor\"");
        fputs("<text font-size=\"10\" font-weight=\"700\"", out);
        put_attribute(out, "x", placed[n].x + 3);
        put_attribute(out, "y", placed[n++].y + 3.5);
        fprintf(out, ">%c</text></g>\n", vm_letter(vm));
    }
}

/* The decades that hold all limits. */
static void limit_range(const struct record *record, struct plot *p)
{
    double low = INFINITY, high = 0;

    for (size_t i = 0; i < record->frame_count; i++) {
        for (uint32_t k = 0; k < record->vm_count; k++) {
            if (!limited(&record->frames[i].vm[k]))
                continue;
            low = fmin(low, (double)record->frames[i].vm[k].limit_bytes_per_s);
            high = fmax(high, (double)record->frames[i].vm[k].limit_bytes_per_s);
        }
    }
    if (high <= 0)
        low = high = 1e6;
    p->logarithmic = true;
    p->y_min = pow(10, floor(log10(low)));
    p->y_max = pow(10, ceil(log10(high * 1.001)));
}

static double pause_row(const struct record *record)
{
    return record->vm_count <= 8 ? 4 : 2.2;
}

static bool any_pause(const struct record *record)
{
    for (size_t i = 0; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (record->frames[i].vm[k].paused)
                return true;
    return false;
}

static void limit_panel(FILE *out, const struct plot *p, const struct columns *c)
{
    struct pen end[LETTERED];

    decade_grid(out, p);
    time_grid(out, p, false);
    for (uint32_t i = 0; i < c->record->vm_count; i++) {
        struct pen last = limit_line(out, p, c, i);

        if (i < LETTERED)
            end[i] = last;
    }
    limit_letters(out, p, end, c->record->vm_count);
}

static void pause_panel(FILE *out, const struct plot *p, const struct columns *c)
{
    double row = pause_row(c->record);

    label(out, INK_SOFT, "end", 11, p->x - 6, p->y + p->height / 2 + 4, "paused");
    for (uint32_t i = 0; i < c->record->vm_count; i++) {
        group(out, i, "fill=\"none\" stroke=\"currentColor\"");
        fputs("<path stroke-width=\"", out);
        markup_number(out, row - 0.6);
        fputs("\" d=\"M0 0", out);
        pauses(out, p, c, i, p->y + row * (i + 0.5));
        fputs("\"/></g>\n", out);
    }
}

static double column_rate(const struct columns *c, size_t i, uint32_t vm)
{
    double sum = 0;

    for (size_t k = c->first[i]; k < c->first[i + 1]; k++)
        sum += (double)c->record->frames[k].vm[vm].guest_bytes_per_s;
    return sum / (double)(c->first[i + 1] - c->first[i]);
}

static void rate_panel(FILE *out, const struct plot *p, const struct columns *c, bool last)
{
    bytes_grid(out, p, true, 3, -1);
    time_grid(out, p, last);
    for (uint32_t vm = 0; vm < c->record->vm_count; vm++) {
        char command = 'M';

        group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1\"");
        fputs("<path d=\"", out);
        for (size_t i = 0; i < c->count; i++) {
            if (column_empty(c, i))
                continue;
            put_point(out, command, plot_x(p, (double)c->record->frames[c->first[i]].t_ms),
                      plot_y(p, column_rate(c, i, vm)));
            command = 'L';
        }
        fputs("\"/></g>\n", out);
    }
}

static double highest_rate(const struct columns *c)
{
    double high = 1000;

    for (uint32_t vm = 0; vm < c->record->vm_count; vm++)
        for (size_t i = 0; i < c->count; i++)
            if (!column_empty(c, i))
                high = fmax(high, column_rate(c, i, vm));
    return high;
}

/* ---- Memory on its way
 * ----------------------------------------------------------------------------------------------------- */

#define RAM_PANELS 4
#define RAM_GAP 34
static const struct {
    const char *title, *detail;
    double height;
} ram_panel[RAM_PANELS] = {
    { "Memory still to be sent", "it rises where a round has ended: what was written meanwhile", 70 },
    { "Memory sent", "bytes per second", 50 },
    { "CPU throttle of each guest", "", 40 },
    { "Longest stop that is allowed", "QEMU's downtime-limit, logarithmic", 40 },
};

static double ram_value(const struct frame_vm *vm, int panel)
{
    const double value[RAM_PANELS] = { (double)vm->ram_left_bytes, (double)vm->ram_bytes_per_s, vm->ram_throttle_percent,
                                       vm->ram_limit_ms };

    return value[panel];
}

static double highest_ram_value(const struct record *record, int panel)
{
    double high = 0;

    for (size_t i = 0; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (record->frames[i].vm[k].ram)
                high = fmax(high, ram_value(&record->frames[i].vm[k], panel));
    return high;
}

static bool any_ram(const struct record *record)
{
    for (size_t i = 0; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (record->frames[i].vm[k].ram)
                return true;
    return false;
}

static double ram_height(const struct record *record)
{
    double sum = 0;

    for (int k = 0; k < RAM_PANELS && any_ram(record); k++)
        sum += RAM_GAP + ram_panel[k].height;
    return sum;
}

static void percent_grid(FILE *out, const struct plot *p)
{
    char text[16];

    for (int percent = 0; percent <= 100; percent += 50) {
        line(out, "g", GRID, p->x, plot_y(p, percent), p->x + p->width, plot_y(p, percent));
        snprintf(text, sizeof text, "%d %%", percent);
        label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, percent) + 4, text);
    }
}

static void stop_grid(FILE *out, const struct plot *p)
{
    double step = log10(p->y_max / p->y_min) * 14 > p->height ? 100 : 10;
    char text[32];

    for (double ms = p->y_min; ms <= p->y_max * 1.0001; ms *= step) {
        line(out, "g", GRID, p->x, plot_y(p, ms), p->x + p->width, plot_y(p, ms));
        snprintf(text, sizeof text, ms < 1000 ? "%.0f ms" : "%.0f s", ms < 1000 ? ms : ms / 1000);
        label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, ms) + 4, text);
    }
}

/* From frame to frame while its memory is sent; QEMU's figures are too few for columns. */
static void ram_line(FILE *out, const struct plot *p, const struct record *record, uint32_t vm, int panel)
{
    double last = -1;
    char command = 'M';

    group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\" stroke-linejoin=\"round\"");
    fputs("<path d=\"M0 0", out);
    for (size_t i = 0; i < record->frame_count; i++) {
        const struct frame_vm *f = &record->frames[i].vm[vm];
        double x = plot_x(p, (double)record->frames[i].t_ms), y = plot_y(p, ram_value(f, panel));

        if (!f->ram) {
            command = 'M';
            continue;
        }
        if (command == 'L' && x < last + 0.8)
            continue;
        if (command == 'L' && panel >= 2) { /* what was set stays until it is set anew */
            fputc('H', out);
            markup_number(out, x);
        }
        put_point(out, command, x, y);
        command = 'L';
        last = x;
    }
    fputs("\"/></g>\n", out);
}

static void ram_scale(const struct record *record, int panel, struct plot *p)
{
    double high = highest_ram_value(record, panel);

    p->logarithmic = panel == 3;
    p->y_min = panel == 3 ? 10 : 0;
    p->y_max = panel == 2 ? 100 : panel == 3 ? pow(10, ceil(log10(fmax(high, 100)))) : fmax(high, 1000) * 1.05;
}

static void ram_panels(FILE *out, struct plot *p, const struct record *record)
{
    for (int panel = 0; panel < RAM_PANELS; panel++) {
        p->y += p->height + RAM_GAP;
        p->height = ram_panel[panel].height;
        ram_scale(record, panel, p);
        panel_title(out, p, ram_panel[panel].title, INK_SOFT, ram_panel[panel].detail);
        if (panel == 2)
            percent_grid(out, p);
        else if (panel == 3)
            stop_grid(out, p);
        else
            bytes_grid(out, p, panel == 1, 2, -1);
        time_grid(out, p, panel == RAM_PANELS - 1);
        for (uint32_t vm = 0; vm < record->vm_count; vm++)
            ram_line(out, p, record, vm, panel);
    }
}

/* ---- The timeline
 * ---------------------------------------------------------------------------------------------------- */

static void caption(FILE *out, const struct record *record, double y)
{
    char omega[HUMAN_SIZE], link[HUMAN_SIZE], text[256];

    human_bytes(record->omega_bytes, omega);
    if (record->vm_count == 1)
        snprintf(text, sizeof text, "1 guest leaves, its writes go to Ω = %s", omega);
    else
        snprintf(text, sizeof text, "%" PRIu32 " guests leave, their writes share Ω = %s", record->vm_count, omega);
    fputs("<text class=\"t\" fill=\"#1f2328\" font-size=\"17\" font-weight=\"600\" x=\"16\"", out);
    put_attribute(out, "y", y);
    fputc('>', out);
    markup_text(out, text);
    fputs("</text>\n", out);
    snprintf(text, sizeof text, "%s%s%slink %s · tick %" PRIu32 " ms · seed %" PRIu64, *record->policy ? "policy " : "",
             record->policy, *record->policy ? " · " : "",
             record->link_bytes_per_s ? human_rate(record->link_bytes_per_s, link) : "not limited", record->tick_ms,
             record->seed);
    label(out, INK_SOFT, "start", 12, 16, y + 20, text);
}

static void outcome(const struct record *record, char *text, size_t size)
{
    uint32_t count[PHASE_COUNT] = { 0 };
    const struct frame *last = record_last(record);
    char when[HUMAN_SIZE];
    size_t at;

    for (uint32_t i = 0; i < record->vm_count; i++)
        if (last->vm[i].phase >= 0 && last->vm[i].phase < PHASE_COUNT)
            count[last->vm[i].phase]++;
    at = (size_t)snprintf(text, size, "%" PRIu32 " of %" PRIu32 " at the target after %s", count[PHASE_TARGET],
                          record->vm_count, human_time((int64_t)last->t_ms, when));
    if (count[PHASE_FAILED] && at < size)
        at += (size_t)snprintf(text + at, size - at, ", %" PRIu32 " failed", count[PHASE_FAILED]);
    if (count[PHASE_REVERTED] && at < size)
        snprintf(text + at, size - at, ", %" PRIu32 " reverted", count[PHASE_REVERTED]);
}

static double used_percent(const struct record *record)
{
    return record->omega_bytes ? 100 * (double)record_peak(record)->used_bytes / (double)record->omega_bytes : 0;
}

static bool any_phase(const struct record *record, int32_t phase)
{
    for (size_t i = 0; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (record->frames[i].vm[k].phase == phase)
                return true;
    return false;
}

/* What every run has, and what went otherwise where it did. */
static void phase_key(FILE *out, const struct record *record, double x, double y)
{
    for (int32_t phase = 0; phase < PHASE_COUNT; phase++) {
        bool otherwise = phase == PHASE_BACK || phase == PHASE_REVERTED || phase == PHASE_FAILED;

        if (otherwise && !any_phase(record, phase))
            continue;
        fputs("<g color=\"#7a7a7a\">", out);
        phase_piece(out, phase, x, y - 9, 16, 10);
        fputs("</g>", out);
        label(out, INK_SOFT, "start", 11, x + 20, y, phase_text(phase));
        x += 34 + 5.8 * (double)strlen(phase_text(phase));
    }
    line(out, "k", "stroke=\"#1f2328\" stroke-width=\"3\"", x, y - 3, x + 16, y - 3);
    label(out, INK_SOFT, "start", 11, x + 20, y, "paused");
    x += 68;
    line(out, "k", "stroke=\"#1f2328\"", x, y - 9, x, y);
    label(out, INK_SOFT, "start", 11, x + 6, y, "event");
}

static int nothing(const struct record *record, FILE *out)
{
    head(out, 120, 0, "no frames");
    caption(out, record, 32);
    label(out, INK_SOFT, "middle", 13, WIDTH / 2.0, 90, "nothing was recorded");
    return finish(out);
}

/* A cross where a guest stands for ever or fails. */
static void cross(FILE *out, double x, double y)
{
    fputs("<path class=\"al\" " ALARM " stroke-width=\"2\" d=\"", out);
    put_point(out, 'M', x - 4, y - 4);
    put_point(out, 'L', x + 4, y + 4);
    put_point(out, 'M', x - 4, y + 4);
    put_point(out, 'L', x + 4, y - 4);
    fputs("\"/>\n", out);
}

/* Without throttle nobody is paused by us: it stands because its write found no space. */
static bool stands(const struct frame_vm *vm)
{
    return vm->phase == PHASE_FAILED || vm->paused;
}

/* The first frame in which somebody new stands, from frame `from` on; NULL when nobody does. */
static const struct frame *next_failure(const struct record *record, size_t from)
{
    for (size_t i = from; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (stands(&record->frames[i].vm[k]) && (!i || !stands(&record->frames[i - 1].vm[k])))
                return &record->frames[i];
    return NULL;
}

/* The guest that failed may have given its bytes back in the same frame. */
static bool nearly_full(const struct record *record, const struct frame *frame)
{
    uint64_t used = frame->used_bytes;

    if (frame > record->frames && frame[-1].used_bytes > used)
        used = frame[-1].used_bytes;
    return (double)used >= 0.95 * (double)record->omega_bytes;
}

static void contrast_panel(FILE *out, const struct plot *p, const struct record *record, uint64_t duration_ms)
{
    const struct frame *failure = next_failure(record, 0);
    char text[200], result[128], when[HUMAN_SIZE];
    struct columns c;

    if (columns_new(&c, record, duration_ms))
        return;
    outcome(record, result, sizeof result);
    if (failure)
        snprintf(text, sizeof text, "%s at %s: %s", nearly_full(record, failure) ? "Ω is full" : "a guest stands",
                 human_time((int64_t)failure->t_ms, when), result);
    else
        snprintf(text, sizeof text, "%s", result);
    panel_title(out, p, "The same guests at once, without throttle", failure ? INK_ALARM : INK_SOFT, text);
    stack_panel(out, p, &c);
    for (double last = -16; failure;) {
        double x = plot_x(p, (double)failure->t_ms);

        if (x >= last + 16) /* those at the same time would be one blot */
            cross(out, last = x, plot_y(p, (double)record->omega_bytes));
        failure = next_failure(record, (size_t)(failure - record->frames) + 1);
    }
    free(c.first);
}

static int timeline(const struct record *record, const struct record *other, FILE *out)
{
    const struct frame *last = record_last(record);
    uint64_t duration = last->t_ms ? last->t_ms : 1;
    struct plot p = { .x = LEFT, .width = RIGHT - LEFT, .y_max = (double)record->omega_bytes * 1.04 + 1 };
    double pause_height = any_pause(record) ? pause_row(record) * record->vm_count + 6 : 0, bands, total;
    char text[160];
    struct columns c;

    if (other && record_last(other)->t_ms > duration)
        duration = record_last(other)->t_ms;
    p.x_max = (double)duration;
    if (columns_new(&c, record, duration))
        return -1;
    bands = band_pitch(record->vm_count) * record->vm_count;
    total = 88 + (other ? 150 : 0) + 220 + 34 + bands + 36 + 130 + 4 + pause_height + 34 + 80 + 28 + ram_height(record);
    snprintf(text, sizeof text, "Timeline of %" PRIu32 " migrations sharing one volume", record->vm_count);
    head(out, total, record->vm_count, text);
    caption(out, record, 30);
    p.y = 60 + 28;
    if (other) {
        p.height = 110;
        contrast_panel(out, &p, other, duration);
        p.y += 150;
    }
    p.height = 220;
    outcome(record, text, sizeof text);
    snprintf(text + strlen(text), sizeof text - strlen(text), "; peak %.0f %% of Ω; grey: kept free for drains",
             used_percent(record));
    panel_title(out, &p, "Overlays in Ω", INK_SOFT, text);
    stack_panel(out, &p, &c);
    peak_mark(out, &p, record);
    p.y += p.height + 34;
    p.height = bands;
    panel_title(out, &p, "Phases", INK_SOFT, "");
    phase_key(out, record, LEFT, p.y - 9);
    band_panel(out, &p, &c);
    p.y += p.height + 36;
    p.height = 130;
    limit_range(record, &p);
    panel_title(out, &p, "Growth limit of each guest", INK_SOFT,
                "file bytes per second, logarithmic; none while a guest is paused");
    limit_panel(out, &p, &c);
    p.y += p.height + 4;
    p.height = pause_height;
    if (pause_height > 0)
        pause_panel(out, &p, &c);
    p.y += p.height + 34;
    p.height = 80;
    p.logarithmic = false;
    p.y_min = 0;
    p.y_max = highest_rate(&c) * 1.05;
    panel_title(out, &p, "What the guests wrote", INK_SOFT, "");
    rate_panel(out, &p, &c, !any_ram(record));
    if (any_ram(record))
        ram_panels(out, &p, record);
    free(c.first);
    return finish(out);
}

int svg_timeline(const struct record *record, FILE *out)
{
    return record->frame_count ? timeline(record, NULL, out) : nothing(record, out);
}

int svg_contrast(const struct record *record, const struct record *unthrottled, FILE *out)
{
    if (!record->frame_count)
        return nothing(record, out);
    return timeline(record, unthrottled->frame_count ? unthrottled : NULL, out);
}

/* ---- The curves of the paper
 * ------------------------------------------------------------------------------------------ */

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

        put_point(out, command, plot_x(p, used), plot_y(p, value(used, parameter)));
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
    put_attribute(out, "cx", plot_x(p, used));
    put_attribute(out, "cy", plot_y(p, value));
    fputs("/>\n", out);
}

static void fill_grid(FILE *out, const struct plot *p, double step)
{
    char text[16];

    for (double used = p->x_min; used <= p->x_max * 1.0001; used += step) {
        double x = plot_x(p, used);

        line(out, "g", GRID, x, p->y, x, p->y + p->height);
        snprintf(text, sizeof text, "%.0f %%", used / BIN * 100);
        label(out, INK_SOFT, "middle", 11, x, p->y + p->height + 16, text);
    }
}

static void curve_key(FILE *out, double x, double y)
{
    char text[64];

    for (uint32_t i = 0; i < CURVES; i++, y += 19) {
        group(out, curve_colour[i], "stroke=\"currentColor\" stroke-width=\"2.4\"");
        line(out, "", "", x, y - 4, x + 22, y - 4);
        fputs("</g>", out);
        snprintf(text, sizeof text, "priority %g: meets U/N at %.1f %%", priorities[i],
                 bisect(above_share, priorities[i], 0, BIN) / BIN * 100);
        label(out, INK_TEXT, "start", 12, x + 30, y, text);
    }
    line(out, "u", "stroke=\"#0072b2\" stroke-width=\"2\" stroke-dasharray=\"6 4\"", x, y - 4, x + 22, y - 4);
    label(out, INK_TEXT, "start", 12, x + 30, y, "U/N, its share of the link");
    y += 19;
    line(out, "", "stroke=\"#d55e00\" stroke-opacity=\".22\" stroke-width=\"9\"", x, y - 4, x + 22, y - 4);
    label(out, INK_TEXT, "start", 12, x + 30, y, "priority 1 gets the lower of both");
}

static void share_line(FILE *out, const struct plot *p)
{
    line(out, "u", "stroke=\"#0072b2\" stroke-width=\"2\" stroke-dasharray=\"6 4\"", p->x, plot_y(p, SHARE),
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
        group(out, curve_colour[i], "fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.4\"");
        curve(out, p, "", rate, priorities[i]);
        fputs("</g>", out);
    }
    line(out, "a", AXIS " stroke-dasharray=\"2 3\"", plot_x(p, half), plot_y(p, rate(half, 1)), plot_x(p, half),
         p->y + p->height);
    dot(out, p, half, rate(half, 1));
    dot(out, p, half, rate(half, 2));
    snprintf(text, sizeof text, "%.1f %%: priority 2 has half", half / BIN * 100);
    label(out, INK_TEXT, "start", 12, plot_x(p, half) + 9, plot_y(p, rate(half, 1)) - 2, text);
    dot(out, p, knee, SHARE);
    snprintf(text, sizeof text, "knee at %.1f %%", knee / BIN * 100);
    label(out, INK_TEXT, "start", 12, plot_x(p, knee) + 4, plot_y(p, SHARE) - 10, text);
}

static void curves_pole(FILE *out, const struct plot *p)
{
    double pole = bisect(before_pole, 0, BIN, BIN * 1.1);
    char text[80];

    decade_grid(out, p);
    fill_grid(out, p, BIN / 10);
    share_line(out, p);
    line(out, "al", ALARM " stroke-dasharray=\"2 3\"", plot_x(p, pole), p->y, plot_x(p, pole), p->y + p->height);
    curve(out, p, "class=\"al\" fill=\"none\" stroke=\"#b3261e\" stroke-width=\"1.6\" stroke-dasharray=\"3 3\"",
          literal, INFINITY);
    curve(out, p, "class=\"al\" fill=\"none\" stroke=\"#b3261e\" stroke-width=\"2.6\"", literal, SHARE);
    curve(out, p, "fill=\"none\" stroke=\"#009e73\" stroke-width=\"2.6\"", in_force, 1);
    snprintf(text, sizeof text, "as printed: pole at %.2f %%,", pole / BIN * 100);
    label(out, INK_ALARM, "start", 11, plot_x(p, pole) + 8, plot_y(p, SHARE) - 24, text);
    label(out, INK_ALARM, "start", 11, plot_x(p, pole) + 8, plot_y(p, SHARE) - 10, "then no throttle at all");
    label(out, INK_ALARM, "start", 11, plot_x(p, pole) + 8, plot_y(p, literal(p->x_max, INFINITY)),
          "dotted: without U/N");
    label(out, INK_TEXT, "start", 11, plot_x(p, pole) + 8, plot_y(p, rate(BIN * 1.1, 1)) - 8, "migbuf: ε and no more");
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

    head(out, 436, PALETTE, "Throttle rate over the fill of a bin, as migbuf computes it");
    fputs("<text class=\"t\" fill=\"#1f2328\" font-size=\"17\" font-weight=\"600\" x=\"16\" y=\"30\">Write rate "
          "granted while a "
          "bin fills up</text>\n",
          out);
    label(out, INK_SOFT, "start", 12, 16, 50, "bin 100 MB, U/N 10 MB/s; every point computed by the library");
    label(out, INK_TEXT, "start", 12, right.x, 50, "Around a full bin (logarithmic)");
    curves_linear(out, &left);
    curve_key(out, 250, 106);
    curves_pole(out, &right);
    label(out, INK_SOFT, "middle", 11, left.x + left.width / 2, 426, "fill of the bins it lies in");
    label(out, INK_SOFT, "middle", 11, right.x + right.width / 2, 426, "fill of its bin");
    return finish(out);
}
