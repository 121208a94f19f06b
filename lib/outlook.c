/* SPDX-License-Identifier: MIT */
/* outlook: what will become of one migration. Formulas and reasons stand in the header. Reads a buffer, changes
 * nothing in it. */
#include "claims.h"
#include "memory.h"
#include "number.h"
#include "planner.h"
#include "trial.h"
#include "migbuf/outlook.h"
#include <string.h>

/* Of what is still to come: see the header. */
#define FINISH_LEAST 0.85
#define FINISH_MOST 1.1
#define FINISH_MORE_S 5
#define PEAK_LEAST 0.33
#define PEAK_MOST 1.9
#define PEAK_MORE 0.02 /* of Ω */

#define MIRROR_BUFFER 16777216.0 /* QEMU's own: bytes of the copy that a write waits behind */
#define MIRROR_GRANULE 65536.0   /* QEMU's own */
#define MIRROR_HOLD 0.5          /* of the link: what a guest may make dirty while a mirror that is stuck catches up */
#define MIRROR_DIRTY 0.5         /* of what may be: dirty when all was sent once, where nobody knows */
#define MIRROR_GAIN 0.1          /* a mirror must deliver so much more */

#define OUTLOOK_FIRST MIGBUF__FIRST(struct migbuf_outlook, reserved)
#define MIRROR_FIRST MIGBUF__FIRST(struct migbuf_outlook_mirror, reserved)

static int take_size(const struct migbuf_outlook *o)
{
    return !o ? MIGBUF_E_INVALID : o->size < OUTLOOK_FIRST ? MIGBUF_E_STRUCT : 0;
}

/* What guest i of a plan that has settled grows by until it is over, as far as the plan lets it. */
static double growth(const struct trial *t, size_t i)
{
    const struct migbuf_planner_plan *p = &t->plan[i];

    return p->cut ? migbuf__least(p->need_bytes, (p->growth + t->options.floor) * p->finish_s) : p->need_bytes;
}

/* The same guest, in `start_s` from now. */
static struct migbuf_outlook look(const struct migbuf_buffer *b, const struct trial *t, size_t i, double start_s,
                                  int known)
{
    const struct migbuf_planner_guest *g = &t->guest[i];
    double grown = growth(t, i), takes_s = known ? t->plan[i].finish_s : INFINITY;
    double omega = (double)migbuf__bins_capacity(b->bins), most = migbuf__most(omega, g->file_bytes);
    struct migbuf_outlook o = { .start_s = start_s, .finish_s = start_s + takes_s };

    o.finish_least_s = migbuf__most(0, FINISH_LEAST * (known ? o.finish_s : start_s) - t->options.interval_s);
    o.finish_most_s = FINISH_MOST * o.finish_s + FINISH_MORE_S;
    o.peak_bytes = migbuf__least(g->file_bytes + grown, most);
    o.peak_least_bytes = migbuf__least(g->file_bytes + PEAK_LEAST * grown, most);
    o.peak_most_bytes = migbuf__least(g->file_bytes + PEAK_MOST * grown + PEAK_MORE * omega, most);
    return o;
}

static double share_of(const struct trial *t, size_t i)
{
    const struct migbuf_planner_guest *g = &t->guest[i];
    const struct migbuf_planner_link *l = &t->link[g->link];
    double weights = 0;

    for (size_t k = 0; k < t->guests; k++)
        if (t->guest[k].link == g->link)
            weights += t->guest[k].weight;
    return migbuf__least(l->flow_bytes_per_s, l->bytes_per_s * (g->weight / weights));
}

/* What the plan lets through: all that it does until the file is sent, and then what the drain does. */
static double delivered(const struct trial *t, size_t i)
{
    const struct migbuf_planner_guest *g = &t->guest[i];
    double part = migbuf__trial_delivered(t, i), most = share_of(t, i) * (part < 1 ? DRAIN_SHORT : DRAIN);
    double base = g->draining ? 0 : migbuf__least(1, g->left_bytes / migbuf__most(t->plan[i].send_bytes, 1));

    return g->rate * part > most ? base * part + (1 - base) * (most / g->rate) : part;
}

MIGBUF__SELDOM int migbuf_outlook_running(const struct migbuf_buffer *b, uint64_t id, struct migbuf_outlook *outlook)
{
    struct migbuf_outlook o;
    struct trial t;
    double part = 1;
    uint32_t i;
    int rc = b ? take_size(outlook) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    i = migbuf__buffer_find(b, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    rc = migbuf__trial_new(b, 0, &t);
    if (rc)
        return rc;
    rc = migbuf__trial_settle(&t);
    if (!rc) {
        part = delivered(&t, i);
        rc = migbuf__trial_hold(&t);
    }
    if (!rc) {
        o = look(b, &t, i, 0, migbuf__trial_link_is_known(b, b->entries[i].link_at));
        o.peak_most_bytes = migbuf__least(o.peak_most_bytes, migbuf__most(b->entries[i].whole, t.guest[i].file_bytes));
        o.delivered = part;
        rc = migbuf__struct_give(outlook, &o, sizeof o, OUTLOOK_FIRST);
    }
    migbuf__trial_free(b, &t);
    return rc;
}

/* Those that run, as they will be in start_s: some are over, others have come that far. */
static void go_on(const struct migbuf_buffer *b, struct trial *t, double start_s)
{
    double capacity = (double)migbuf__bins_capacity(b->bins);
    size_t n = 0;

    for (size_t i = 0; i < t->guests; i++) {
        struct migbuf_planner_guest g = t->guest[i];
        double part = start_s / t->plan[i].finish_s, grown = migbuf__least(growth(t, i) * part, g.remaining);

        if (part >= 1)
            continue;
        g.left_bytes *= 1 - part;
        g.file_bytes += grown;
        if (grown > 0 && isfinite(g.remaining)) { /* as its working set fills, more and more are rewrites */
            g.growth_ratio *= 1 - grown / g.remaining;
            g.remaining -= grown;
        }
        g.need_bytes *= 1 - part;
        capacity -= migbuf__drains_within(&b->entries[i], migbuf__most(b->entries[i].whole - g.file_bytes, 0));
        t->guest[n++] = g;
    }
    t->guests = n;
    t->options.capacity_bytes = migbuf__most(0, capacity);
}

static int check_mirror(const struct migbuf_outlook_mirror *m)
{
    const double amounts[] = { m->buffer_bytes, m->granularity_bytes, m->speed_bytes_per_s, m->request_bytes, m->depth,
                               m->link_bytes_per_s };
    int rc = m->background < 0 || m->background > 1 || m->reserved ? MIGBUF_E_INVALID : 0;

    for (size_t k = 0; k < sizeof amounts / sizeof *amounts && !rc; k++)
        rc = migbuf__finite(amounts[k]);
    return rc;
}

static double or_usual(double given, double usual)
{
    return given > 0 ? given : usual;
}

/* How much of what it wants to write a mirror lets through. */
static double mirrored(const struct trial *t, const struct migbuf_waiting *w, const struct migbuf_outlook_mirror *m)
{
    double wanted = w->write_bytes_per_s > 0 ? migbuf__least(w->write_bytes_per_s, w->rate) : w->rate;
    double granule = or_usual(m->granularity_bytes, MIRROR_GRANULE), share, r, queue, dirty, again;

    if (!(wanted > 0))
        return 1;
    share = migbuf__least(w->flow_bytes_per_s, share_of(t, t->guests - 1));
    r = or_usual(m->request_bytes, w->unit_bytes * (wanted / w->rate));
    if (!m->background) {
        double copy = migbuf__least(share, or_usual(m->speed_bytes_per_s, share));

        queue = r * or_usual(m->depth, 1);
        queue /= queue + migbuf__most(or_usual(m->buffer_bytes, MIRROR_BUFFER), granule);
        return migbuf__least(1, migbuf__most(share - copy, share * queue) / wanted);
    }
    dirty = wanted * (migbuf__most(r, granule) / r);
    if (dirty < share)
        return 1;
    again = MIRROR_DIRTY * migbuf__least(w->disk_bytes, w->whole_bytes) / MIRROR_HOLD; /* what U carries while it is held */
    return again > 0 ? (w->disk_bytes + again * (MIRROR_HOLD * share / dirty)) / (w->disk_bytes + again) : 1;
}

MIGBUF__SELDOM int migbuf_outlook_mirrored(const struct migbuf_buffer *b, const struct migbuf_waiting *w, double start_s,
                                           const struct migbuf_outlook_mirror *mirror, struct migbuf_outlook *outlook)
{
    struct migbuf_outlook_mirror m = { 0 };
    struct migbuf_outlook o;
    struct trial t;
    double part = 1;
    uint32_t link;
    int known = 0, rc = b && w ? take_size(outlook) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__amount(start_s);
    if (!rc)
        rc = migbuf__check_waiting(w);
    if (!rc && mirror)
        rc = migbuf__struct_take(&m, sizeof m, mirror, MIRROR_FIRST);
    if (!rc)
        rc = check_mirror(&m);
    if (!rc)
        rc = migbuf__trial_new(b, 1, &t);
    if (rc)
        return rc;
    rc = migbuf__trial_settle(&t);
    if (!rc)
        rc = migbuf__trial_hold(&t);
    if (!rc) {
        go_on(b, &t, start_s);
        migbuf__trial_link_table(b, &t);
        link = migbuf__trial_link_index(&t, w->link);
        known = migbuf__trial_link_is_known(b, link);
        if (!known && m.link_bytes_per_s > 0) {
            t.link[link].bytes_per_s = migbuf__most(m.link_bytes_per_s, MIGBUF_LINK_LEAST);
            known = 1;
        }
        t.link[link].flow_bytes_per_s = link < b->links_count
                                            ? migbuf__most(t.link[link].flow_bytes_per_s, w->flow_bytes_per_s)
                                            : w->flow_bytes_per_s; /* it is the only one there */
        t.options.capacity_bytes = migbuf__most(0, t.options.capacity_bytes - w->reserve_bytes);
        t.guest[t.guests++] = (struct migbuf_planner_guest){
            .id = w->id, .link = link, .weight = w->weight, .file_bytes = w->file_bytes, .left_bytes = w->disk_bytes,
            .remaining = migbuf__most(0, w->whole_bytes - w->file_bytes), .growth_ratio = 1, .rate = w->rate,
            .peak = w->rate
        };
        rc = migbuf__trial_settle(&t);
    }
    if (!rc) {
        part = delivered(&t, t.guests - 1);
        rc = migbuf__trial_hold(&t);
    }
    if (!rc) {
        o = look(b, &t, t.guests - 1, start_s, known);
        o.peak_most_bytes = migbuf__least(o.peak_most_bytes, migbuf__most(w->whole_bytes, w->file_bytes));
        o.delivered = part;
        o.mirror_delivered = mirrored(&t, w, &m);
        o.mirror = o.mirror_delivered >= o.delivered + MIRROR_GAIN;
        rc = migbuf__struct_give(outlook, &o, sizeof o, OUTLOOK_FIRST);
    }
    migbuf__trial_free(b, &t);
    return rc;
}

int migbuf_outlook_waiting(const struct migbuf_buffer *b, const struct migbuf_waiting *w, double start_s,
                           struct migbuf_outlook *o)
{
    return migbuf_outlook_mirrored(b, w, start_s, NULL, o);
}
