/* SPDX-License-Identifier: MIT */
/* --window: what the guests wrote from the start of an evacuation on in a time that is the same for all policies, and what
 * they would have written at the pace of their loads. */
#include "rig.h"

#define MS UINT64_C(1000000)

struct vm_window {
    bool open, closed;
    uint32_t from[VM_DISKS_MAX], from_ms[VM_DISKS_MAX]; /* of each disk: writes acknowledged and the guest's clock then */
    uint64_t delivered_bytes, demanded_bytes;
};

static struct vm_window windows[2][OPTIONS_VMS_MAX]; /* of the run, and of its contrast */

static struct vm_window *window_of(const struct run *r, uint32_t vm)
{
    return &windows[r->contrast][vm];
}

void window_begin(const struct run *r)
{
    for (uint32_t i = 0; i < OPTIONS_VMS_MAX; i++)
        *window_of(r, i) = (struct vm_window){ .open = false };
}

static void open_window(struct vm_window *w, const struct migration *m)
{
    w->open = true;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        w->from[k] = m->disk[k].status.acknowledged;
        w->from_ms[k] = m->disk[k].status.uptime_ms;
    }
}

static void close_window(struct vm_window *w, const struct run *r, const struct migration *m)
{
    uint64_t bytes = m->load->writer.sectors * UINT64_C(512);

    w->closed = true;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        w->delivered_bytes += (m->disk[k].status.acknowledged - w->from[k]) * bytes;
        w->demanded_bytes += writer_demand(&m->load->writer, w->from_ms[k], r->options->at_least_ms) * bytes;
    }
}

void window_turn(const struct run *r, const struct migration *m, uint64_t now)
{
    struct vm_window *w = window_of(r, m->index);

    if (r->site.go && !w->open)
        open_window(w, m);
    if (w->open && !w->closed && now >= r->site.start_ns + r->options->at_least_ms * MS)
        close_window(w, r, m);
}

/* A run that is over before delivers nothing more. */
static void add_up(const struct run *r, uint32_t vm, uint64_t *delivered_bytes, uint64_t *demanded_bytes)
{
    struct vm_window *w = window_of(r, vm);

    if (w->open && !w->closed)
        close_window(w, r, &r->vm[vm]);
    *delivered_bytes += w->delivered_bytes;
    *demanded_bytes += w->demanded_bytes;
}

static void add_up_all(const struct run *r, uint64_t *delivered_bytes, uint64_t *demanded_bytes)
{
    for (uint32_t i = 0; i < r->vms; i++)
        add_up(r, i, delivered_bytes, demanded_bytes);
}

void window_summary(const struct run *r, const struct migration *m, json_t *o)
{
    uint64_t delivered_bytes = 0, demanded_bytes = 0;

    if (!r->options->at_least_ms)
        return;
    if (m)
        add_up(r, m->index, &delivered_bytes, &demanded_bytes);
    else
        add_up_all(r, &delivered_bytes, &demanded_bytes);
    json_object_set_new(o, "window_seconds", json_integer(r->options->at_least_ms / 1000));
    json_object_set_new(o, "window_delivered_bytes", json_integer((json_int_t)delivered_bytes));
    json_object_set_new(o, "window_demanded_bytes", json_integer((json_int_t)demanded_bytes));
}

void window_tell(const struct run *r, FILE *out)
{
    uint64_t delivered_bytes = 0, demanded_bytes = 0;
    char got[HUMAN_SIZE], wanted[HUMAN_SIZE];

    add_up_all(r, &delivered_bytes, &demanded_bytes);
    if (r->options->at_least_ms && demanded_bytes)
        fprintf(out, "In the first %u s: %s written of %s wanted, %.1f %%\n", r->options->at_least_ms / 1000,
                human_bytes(delivered_bytes, got), human_bytes(demanded_bytes, wanted),
                100 * (double)delivered_bytes / (double)demanded_bytes);
}
