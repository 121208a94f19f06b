/* SPDX-License-Identifier: MIT */
/* See svg_bands.h. */
#include "svg_bands.h"
#include "markup.h"
#include <math.h>
#include <string.h>

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

void pause_strokes(FILE *out, const struct plot *p, const struct columns *c, uint32_t vm, double y)
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

void band_panel(FILE *out, const struct plot *p, const struct columns *c)
{
    const struct record *record = c->record;

    time_grid(out, p, false);
    for (uint32_t i = 0; i < record->vm_count; i++) {
        double y = p->y + band_pitch(record->vm_count) * i;

        band_label(out, record, i, y);
        svg_group(out, i, "");
        band_phases(out, p, record, i, y);
        fputs("</g>\n<path class=\"k\" stroke=\"#1f2328\" stroke-width=\"3\" d=\"M0 0", out);
        pause_strokes(out, p, c, i, y + band_height(record->vm_count) - 1.5);
        fputs("\"/>\n", out);
    }
    band_events(out, p, record, p->y);
}

double bands_height(const struct record *record)
{
    return band_pitch(record->vm_count) * record->vm_count;
}

static bool any_phase(const struct record *record, int32_t phase)
{
    for (size_t i = 0; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (record->frames[i].vm[k].phase == phase)
                return true;
    return false;
}

void phase_key(FILE *out, const struct record *record, double x, double y)
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
