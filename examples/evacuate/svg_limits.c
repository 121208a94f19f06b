/* SPDX-License-Identifier: MIT */
/* See svg_limits.h. */
#include "svg_limits.h"
#include "markup.h"
#include "svg_bands.h"
#include <math.h>

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

double pause_height(const struct record *record)
{
    return any_pause(record) ? pause_row(record) * record->vm_count + 6 : 0;
}

void limit_panel(FILE *out, const struct plot *place, const struct columns *c)
{
    struct pen end[LETTERED];
    struct plot p = *place;

    limit_range(c->record, &p);
    decade_grid(out, &p);
    time_grid(out, &p, false);
    for (uint32_t i = 0; i < c->record->vm_count; i++) {
        struct pen last = limit_line(out, &p, c, i);

        if (i < LETTERED)
            end[i] = last;
    }
    limit_letters(out, &p, end, c->record->vm_count);
}

void pause_panel(FILE *out, const struct plot *p, const struct columns *c)
{
    double row = pause_row(c->record);

    svg_label(out, INK_SOFT, "end", 11, p->x - 6, p->y + p->height / 2 + 4, "paused");
    for (uint32_t i = 0; i < c->record->vm_count; i++) {
        svg_group(out, i, "fill=\"none\" stroke=\"currentColor\"");
        fputs("<path stroke-width=\"", out);
        markup_number(out, row - 0.6);
        fputs("\" d=\"M0 0", out);
        pause_strokes(out, p, c, i, p->y + row * (i + 0.5));
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

static double highest_rate(const struct columns *c)
{
    double high = 1000;

    for (uint32_t vm = 0; vm < c->record->vm_count; vm++)
        for (size_t i = 0; i < c->count; i++)
            if (!column_empty(c, i))
                high = fmax(high, column_rate(c, i, vm));
    return high;
}

void rate_panel(FILE *out, const struct plot *place, const struct columns *c, bool last)
{
    struct plot p = *place;

    p.y_max = highest_rate(c) * 1.05;
    bytes_grid(out, &p, true, 3, -1);
    time_grid(out, &p, last);
    for (uint32_t vm = 0; vm < c->record->vm_count; vm++) {
        char command = 'M';

        svg_group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1\"");
        fputs("<path d=\"", out);
        for (size_t i = 0; i < c->count; i++) {
            if (column_empty(c, i))
                continue;
            svg_point(out, command, plot_x(&p, (double)c->record->frames[c->first[i]].t_ms),
                      plot_y(&p, column_rate(c, i, vm)));
            command = 'L';
        }
        fputs("\"/></g>\n", out);
    }
}
