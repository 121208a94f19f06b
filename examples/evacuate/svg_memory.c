/* SPDX-License-Identifier: MIT */
/* Memory on its way: what is left, how fast it goes, throttle and longest stop. See svg_memory.h. */
#include "svg_memory.h"
#include "markup.h"
#include <math.h>

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

bool any_ram(const struct record *record)
{
    for (size_t i = 1; i < record->frame_count; i++)
        for (uint32_t k = 0; k < record->vm_count; k++)
            if (record->frames[i - 1].vm[k].ram && record->frames[i].vm[k].ram)
                return true;
    return false;
}

double ram_height(const struct record *record)
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
        svg_line(out, "g", GRID, p->x, plot_y(p, percent), p->x + p->width, plot_y(p, percent));
        snprintf(text, sizeof text, "%d %%", percent);
        svg_label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, percent) + 4, text);
    }
}

static void stop_grid(FILE *out, const struct plot *p)
{
    double step = log10(p->y_max / p->y_min) * 14 > p->height ? 100 : 10;
    char text[32];

    for (double ms = p->y_min; ms <= p->y_max * 1.0001; ms *= step) {
        svg_line(out, "g", GRID, p->x, plot_y(p, ms), p->x + p->width, plot_y(p, ms));
        snprintf(text, sizeof text, ms < 1000 ? "%.0f ms" : "%.0f s", ms < 1000 ? ms : ms / 1000);
        svg_label(out, INK_SOFT, "end", 11, p->x - 6, plot_y(p, ms) + 4, text);
    }
}

/* From frame to frame while its memory is sent; QEMU's figures are too few for columns. */
static void ram_line(FILE *out, const struct plot *p, const struct record *record, uint32_t vm, int panel)
{
    double last = -1;
    char command = 'M';

    svg_group(out, vm, "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\" stroke-linejoin=\"round\"");
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
        svg_point(out, command, x, y);
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

void ram_panels(FILE *out, struct plot *p, const struct record *record)
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
