/* SPDX-License-Identifier: MIT */
/* The timeline of a run. See svg.h. */
#include "svg.h"
#include "markup.h"
#include "svg_marks.h"
#include "svg_memory.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

    svg_group(out, top, "fill=\"currentColor\" stroke-opacity=\".35\" stroke-width=\".6\"");
    fputs("<path class=\"h\" stroke=\"#ffffff\" d=\"", out);
    for (size_t i = 0; i < c->count; i++) {
        const struct frame *frame;

        if (column_empty(c, i))
            continue;
        frame = column_fullest(c, i);
        x = plot_x(p, (double)frame->t_ms);
        if (!open)
            svg_point(out, 'M', x, base);
        svg_point(out, 'L', x, plot_y(p, stacked(frame, top + 1)));
        open = true;
    }
    if (open)
        svg_point(out, 'L', x, base);
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
    svg_attribute(out, "x", x);
    svg_attribute(out, "y", y + 4);
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
            svg_point(out, 'M', x, plot_y(p, omega));
        svg_point(out, 'L', x, plot_y(p, omega - (double)frame->reserve_bytes));
        open = true;
    }
    if (open)
        svg_point(out, 'L', x, plot_y(p, omega));
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
        svg_point(out, command, plot_x(p, (double)frame->t_ms), plot_y(p, (double)frame->used_bytes));
        command = 'L';
    }
    fputs("\"/>\n", out);
}

static void omega_line(FILE *out, const struct plot *p, const struct record *record)
{
    char size[HUMAN_SIZE], text[64];
    double y = plot_y(p, (double)record->omega_bytes);

    svg_line(out, "al", ALARM " stroke-width=\"1.6\"", p->x, y, p->x + p->width, y);
    snprintf(text, sizeof text, "Ω %s", human_bytes(record->omega_bytes, size));
    svg_label(out, INK_ALARM, "end", 12, p->x - 6, y + 4, text);
}

static void peak_mark(FILE *out, const struct plot *p, const struct record *record)
{
    const struct frame *peak = record_peak(record);
    char size[HUMAN_SIZE], when[HUMAN_SIZE], text[96];
    double x = plot_x(p, (double)peak->t_ms), y = plot_y(p, (double)peak->used_bytes);
    double omega = plot_y(p, (double)record->omega_bytes);
    bool left = x > p->x + p->width * 0.7;

    fputs("<circle class=\"p\" fill=\"#1f2328\" r=\"3.5\"", out);
    svg_attribute(out, "cx", x);
    svg_attribute(out, "cy", y);
    fputs("/>\n", out);
    snprintf(text, sizeof text, "peak %s at %s", human_bytes(peak->used_bytes, size),
             human_time((int64_t)peak->t_ms, when));
    /* Above the point, for below it would be on the areas; and not across the line of Ω. */
    y -= 6;
    if (y > omega - 4 && y < omega + 10)
        y = omega - 4;
    svg_label(out, INK_TEXT, left ? "end" : "start", 11, x + (left ? -7 : 7), y, text);
}

/* A program that comes back to a run of another one knows nothing of what that one saw. */
static void unseen(FILE *out, const struct plot *p, const struct record *record)
{
    double from = plot_x(p, (double)record->frames[0].t_ms);

    if (from > p->x + 110)
        svg_label(out, INK_SOFT, "middle", 11, (p->x + from) / 2, p->y + p->height / 4, "before the restart");
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
        svg_rectangle(out, style[phase], x, y + height / 2, width, 0.1);
    else if (outline)
        svg_rectangle(out, style[phase], x + 0.5, y + 0.5, fmax(0, width - 1), height - 1);
    else
        svg_rectangle(out, style[phase], x, y, width, height);
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
    svg_attribute(out, "x", x + 4);
    svg_attribute(out, "y", y + height / 2 + (height < 16 ? 3.2 : 4));
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
                svg_point(out, 'M', start, y);
                svg_point(out, 'L', end, y);
            }
            start = x;
        }
        end = fmax(x + 1, plot_x(p, frame_end(c->record, i)));
    }
    if (start >= 0) {
        svg_point(out, 'M', start, y);
        svg_point(out, 'L', end, y);
    }
}

static void band_label(FILE *out, const struct record *record, uint32_t vm, double y)
{
    double height = band_height(record->vm_count);
    char text[RECORD_NAME_SIZE + 4];

    svg_group(out, vm, "fill=\"currentColor\"");
    svg_rectangle(out, "rx=\"2\"", 16, y, 14, height);
    fputs("<text " ON_COLOUR " font-size=\"10\" font-weight=\"700\" text-anchor=\"middle\"", out);
    svg_attribute(out, "x", 23);
    svg_attribute(out, "y", y + height / 2 + 3.5);
    fprintf(out, ">%c</text></g>\n", vm_letter(vm));
    /* 15 letters fit; cut whole UTF-8 characters. */
    snprintf(text, sizeof text, "%s", record->names[vm]);
    if (strlen(text) > 15) {
        size_t cut = 14;

        while (cut && ((unsigned char)text[cut] & 0xc0) == 0x80)
            cut--;
        memcpy(text + cut, "…", sizeof "…");
    }
    svg_label(out, INK_TEXT, "start", height < 12 ? 10 : 11, 35, y + height / 2 + 4, text);
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
        svg_point(out, 'M', x, e->vm < record->vm_count ? top : top - 3);
        svg_point(out, 'L', x, top + 6);
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
        svg_group(out, i, "");
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
        svg_point(out, 'M', x, y);
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

    svg_group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\" stroke-linejoin=\"round\"");
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
        svg_group(out, vm, "fill=\"currentColor\"");
        fputs("<text font-size=\"10\" font-weight=\"700\"", out);
        svg_attribute(out, "x", placed[n].x + 3);
        svg_attribute(out, "y", placed[n++].y + 3.5);
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

    svg_label(out, INK_SOFT, "end", 11, p->x - 6, p->y + p->height / 2 + 4, "paused");
    for (uint32_t i = 0; i < c->record->vm_count; i++) {
        svg_group(out, i, "fill=\"none\" stroke=\"currentColor\"");
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

        svg_group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1\"");
        fputs("<path d=\"", out);
        for (size_t i = 0; i < c->count; i++) {
            if (column_empty(c, i))
                continue;
            svg_point(out, command, plot_x(p, (double)c->record->frames[c->first[i]].t_ms),
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
    svg_attribute(out, "y", y);
    fputc('>', out);
    markup_text(out, text);
    fputs("</text>\n", out);
    snprintf(text, sizeof text, "%s%s%slink %s · tick %" PRIu32 " ms · seed %" PRIu64, *record->policy ? "policy " : "",
             record->policy, *record->policy ? " · " : "",
             record->link_bytes_per_s ? human_rate(record->link_bytes_per_s, link) : "not limited", record->tick_ms,
             record->seed);
    svg_label(out, INK_SOFT, "start", 12, 16, y + 20, text);
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
        svg_label(out, INK_SOFT, "start", 11, x + 20, y, phase_text(phase));
        x += 34 + 5.8 * (double)strlen(phase_text(phase));
    }
    svg_line(out, "k", "stroke=\"#1f2328\" stroke-width=\"3\"", x, y - 3, x + 16, y - 3);
    svg_label(out, INK_SOFT, "start", 11, x + 20, y, "paused");
    x += 68;
    svg_line(out, "k", "stroke=\"#1f2328\"", x, y - 9, x, y);
    svg_label(out, INK_SOFT, "start", 11, x + 6, y, "event");
}

static int nothing(const struct record *record, FILE *out)
{
    svg_head(out, 120, 0, "no frames");
    caption(out, record, 32);
    svg_label(out, INK_SOFT, "middle", 13, WIDTH / 2.0, 90, "nothing was recorded");
    return svg_finish(out);
}

/* A cross where a guest stands for ever or fails. */
static void cross(FILE *out, double x, double y)
{
    fputs("<path class=\"al\" " ALARM " stroke-width=\"2\" d=\"", out);
    svg_point(out, 'M', x - 4, y - 4);
    svg_point(out, 'L', x + 4, y + 4);
    svg_point(out, 'M', x - 4, y + 4);
    svg_point(out, 'L', x + 4, y - 4);
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
    svg_head(out, total, record->vm_count, text);
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
    return svg_finish(out);
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
