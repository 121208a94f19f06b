/* SPDX-License-Identifier: MIT */
/* The timeline of a run. See svg.h. */
#include "svg.h"
#include "markup.h"
#include "svg_areas.h"
#include "svg_bands.h"
#include "svg_columns.h"
#include "svg_limits.h"
#include "svg_marks.h"
#include "svg_memory.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

struct timeline {
    const struct record *record, *other; /* other: NULL, or the run without throttle */
    struct columns columns;              /* of `record` */
    uint64_t duration_ms;
};

struct panel {
    double height, below; /* and the gap to the next */
    void (*draw)(FILE *out, const struct plot *p, const struct timeline *a);
};

static void draw_contrast(FILE *out, const struct plot *p, const struct timeline *a)
{
    contrast_panel(out, p, a->other, a->duration_ms);
}

static void draw_overlays(FILE *out, const struct plot *p, const struct timeline *a)
{
    char text[160];

    outcome(a->record, text, sizeof text);
    snprintf(text + strlen(text), sizeof text - strlen(text), "; peak %.0f %% of Ω; grey: kept free for drains",
             used_percent(a->record));
    panel_title(out, p, "Overlays in Ω", INK_SOFT, text);
    stack_panel(out, p, &a->columns);
    peak_mark(out, p, a->record);
}

static void draw_phases(FILE *out, const struct plot *p, const struct timeline *a)
{
    panel_title(out, p, "Phases", INK_SOFT, "");
    phase_key(out, a->record, LEFT, p->y - 9);
    band_panel(out, p, &a->columns);
}

static void draw_limits(FILE *out, const struct plot *p, const struct timeline *a)
{
    panel_title(out, p, "Growth limit of each guest", INK_SOFT,
                "file bytes per second, logarithmic; none while a guest is paused");
    limit_panel(out, p, &a->columns);
}

static void draw_pauses(FILE *out, const struct plot *p, const struct timeline *a)
{
    if (p->height > 0)
        pause_panel(out, p, &a->columns);
}

static void draw_rates(FILE *out, const struct plot *p, const struct timeline *a)
{
    panel_title(out, p, "What the guests wrote", INK_SOFT, "");
    rate_panel(out, p, &a->columns, !any_ram(a->record));
}

static int timeline(const struct record *record, const struct record *other, FILE *out)
{
    const struct panel panels[] = {
        { 110, 40, draw_contrast },
        { 220, 34, draw_overlays },
        { bands_height(record), 36, draw_phases },
        { 130, 4, draw_limits },
        { pause_height(record), 34, draw_pauses },
        { 80, 28, draw_rates },
    };
    struct timeline a = { .record = record, .other = other, .duration_ms = record_last(record)->t_ms };
    struct plot p = { .x = LEFT, .y = 88, .width = RIGHT - LEFT, .y_max = (double)record->omega_bytes * 1.04 + 1 };
    const size_t first = other ? 0 : 1, count = sizeof panels / sizeof *panels;
    double total = p.y;
    char text[64];

    if (other && record_last(other)->t_ms > a.duration_ms)
        a.duration_ms = record_last(other)->t_ms;
    if (!a.duration_ms)
        a.duration_ms = 1;
    p.x_max = (double)a.duration_ms;
    if (columns_new(&a.columns, record, a.duration_ms))
        return -1;
    for (size_t i = first; i < count; i++)
        total += panels[i].height + panels[i].below;
    snprintf(text, sizeof text, "Timeline of %" PRIu32 " migrations sharing one volume", record->vm_count);
    svg_head(out, total + ram_height(record), record->vm_count, text);
    caption(out, record, 30);
    for (size_t i = first; i < count; i++) {
        p.height = panels[i].height;
        panels[i].draw(out, &p, &a);
        p.y += panels[i].height + panels[i].below;
    }
    if (any_ram(record)) {
        p.y -= panels[count - 1].below; /* they bring their own gap */
        p.height = 0;
        ram_panels(out, &p, record);
    }
    free(a.columns.first);
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
