/* SPDX-License-Identifier: MIT */
/* --window: what the guests wrote from the start of an evacuation on in a time that is the same for all policies, what
 * they would have written at the pace of their loads, and how long the writes took that they wanted to make. */
#include "rig.h"
#include <math.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define SLOT_MS 100
#define WAITS 20 /* less than 1 ms, 2, 4, ... 2^18; longer */
_Static_assert(WAITS >= GUEST_BUCKETS, "what the guest tells apart stays apart");

/*
 * How long the writes of one disk take, each tenth of a second. What was wanted in a tenth in which some were acknowledged
 * took as long as those. What was wanted in a stall took from then to its end, by the host's clock: the guest's own stands
 * while it is stopped. So a guest that stands does not hide the writes that it could not make.
 */
struct disk_waits {
    uint64_t slot_ns, stall_ns;         /* when the tenth began; and the stall, 0: none */
    uint32_t told[GUEST_BUCKETS];       /* the guest's own count, at the beginning of the tenth */
    double wanted_ahead, wanted_stalled; /* since the last that was acknowledged: without and with a write that waits */
};

struct vm_window {
    bool open, closed;
    uint32_t from[VM_DISKS_MAX], from_ms[VM_DISKS_MAX]; /* of each disk: writes acknowledged and the guest's clock then */
    uint64_t delivered_bytes, demanded_bytes, longest_stall_ms;
    struct disk_waits disk[VM_DISKS_MAX];
    double waits[WAITS]; /* writes that were wanted, by how long they took */
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

static void open_window(struct vm_window *w, const struct migration *m, uint64_t now)
{
    w->open = true;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        w->from[k] = m->disk[k].status.acknowledged;
        w->from_ms[k] = m->disk[k].status.uptime_ms;
        w->disk[k] = (struct disk_waits){ .slot_ns = now };
        memcpy(w->disk[k].told, m->disk[k].status.latency, sizeof w->disk[k].told);
    }
}

/* Waits, evenly long up to the longest. */
static void add_stalled(struct vm_window *w, double wanted, double longest_ms)
{
    for (int b = 0; b < WAITS && longest_ms > 0; b++) {
        double low = b ? exp2(b - 1) : 0, high = b < WAITS - 1 ? exp2(b) : INFINITY;

        w->waits[b] += wanted * fmax(0, fmin(high, longest_ms) - low) / longest_ms;
    }
}

static void end_stall(struct vm_window *w, struct disk_waits *d, uint64_t now)
{
    if (d->stall_ns)
        add_stalled(w, d->wanted_stalled, (double)(now - d->stall_ns) / (double)MS);
    d->stall_ns = 0;
    d->wanted_stalled = 0;
}

/* Wanted at the guest's pace, where its clock is now: it may be a thousandth of a write. */
static double wanted_writes(const struct migration *m, uint32_t k, uint64_t ns)
{
    struct writer_params thousandths = m->load->writer;

    thousandths.pace *= 1000;
    return (double)writer_demand(&thousandths, m->disk[k].status.uptime_ms, (uint32_t)(ns / MS)) / 1000;
}

static void end_slot(struct vm_window *w, const struct migration *m, uint32_t k, uint64_t now)
{
    struct disk_waits *d = &w->disk[k];
    const uint32_t *told = m->disk[k].status.latency;
    double wanted = wanted_writes(m, k, now - d->slot_ns);
    uint32_t acknowledged = 0;

    for (int b = 0; b < GUEST_BUCKETS; b++)
        acknowledged += told[b] - d->told[b];
    if (acknowledged) {
        end_stall(w, d, now);
        wanted += d->wanted_ahead;
        for (int b = 0; b < GUEST_BUCKETS; b++)
            w->waits[b] += wanted * (told[b] - d->told[b]) / acknowledged;
        d->wanted_ahead = 0;
    } else if (m->disk[k].acked_ns <= d->slot_ns) { /* it stands, or waits for one all the time */
        d->stall_ns = d->stall_ns ? d->stall_ns : d->slot_ns;
        d->wanted_stalled += wanted;
    } else {
        d->wanted_ahead += wanted;
    }
    memcpy(d->told, told, sizeof d->told);
    d->slot_ns = now;
}

static void close_window(struct vm_window *w, const struct run *r, const struct migration *m)
{
    uint64_t bytes = m->load->writer.sectors * UINT64_C(512);

    w->closed = true;
    w->longest_stall_ms = m->longest_stall_ms;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        end_stall(w, &w->disk[k], w->disk[k].slot_ns); /* at least so long */
        w->delivered_bytes += (m->disk[k].status.acknowledged - w->from[k]) * bytes;
        w->demanded_bytes += writer_demand(&m->load->writer, w->from_ms[k], r->options->at_least_ms) * bytes;
    }
}

void window_turn(const struct run *r, const struct migration *m, uint64_t now)
{
    struct vm_window *w = window_of(r, m->index);

    if (r->site.go && !w->open)
        open_window(w, m, now);
    for (uint32_t k = 0; k < m->load->disks && w->open && !w->closed; k++)
        if (now >= w->disk[k].slot_ns + SLOT_MS * MS)
            end_slot(w, m, k, now);
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

static json_t *waits_of(const struct run *r, uint32_t vm)
{
    json_t *list = json_array();

    for (int b = 0; b < WAITS; b++)
        json_array_append_new(list, json_real(window_of(r, vm)->waits[b]));
    return list;
}

void window_summary(const struct run *r, const struct migration *m, json_t *o)
{
    uint64_t delivered_bytes = 0, demanded_bytes = 0;

    if (!r->options->at_least_ms)
        return;
    if (m) {
        add_up(r, m->index, &delivered_bytes, &demanded_bytes);
        json_object_set_new(o, "window_waits", waits_of(r, m->index));
        json_object_set_new(o, "window_longest_stall_ms", json_integer((json_int_t)window_of(r, m->index)->longest_stall_ms));
    } else {
        add_up_all(r, &delivered_bytes, &demanded_bytes);
    }
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
