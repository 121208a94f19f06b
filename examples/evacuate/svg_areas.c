/* SPDX-License-Identifier: MIT */
/* See svg_areas.h. */
#include "svg_areas.h"
#include <math.h>

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

void peak_mark(FILE *out, const struct plot *p, const struct record *record)
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

void stack_panel(FILE *out, const struct plot *p, const struct columns *c)
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
