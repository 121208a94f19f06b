/* SPDX-License-Identifier: MIT */
/* admission: who starts next, and what will become of one. Reads a buffer, changes nothing in it. */
#include "buffer.h"
#include "memory.h"
#include "number.h"
#include "migbuf/admission.h"
#include <string.h>

/* Of what is still to come: see the header. */
#define FINISH_LEAST 0.85
#define FINISH_MOST 1.1
#define FINISH_MORE_S 5
#define PEAK_LEAST 0.33
#define PEAK_MOST 1.9
#define PEAK_MORE 0.02 /* of Ω */

#define MIRROR_TURN 131072.0 /* bytes of the copy that pass for each write that is mirrored */
#define MIRROR_GAIN 0.1      /* write-through must deliver so much more */
#define MOST_WAITING (UINT32_C(1) << 30) /* as the planner */
#define SETTLED 3            /* plans after which what is sent and what grows fit each other */

#define OUTLOOK_FIRST MIGBUF__FIRST(struct migbuf_outlook, reserved)

int migbuf_admission_waiting(const struct migbuf_buffer *b, const struct migbuf_migration *m,
                             const struct migbuf_geometry *disks, size_t disk_count, struct migbuf_waiting *w)
{
    struct migbuf_migration given;
    struct entry e;
    int rc;

    if (!b || !m || !disks || !disk_count || !w)
        return MIGBUF_E_INVALID;
    rc = migbuf__buffer_check_migration(m, disk_count, &given, NULL);
    if (!rc)
        rc = migbuf__buffer_entry(&b->o, &e, &given, disks, disk_count);
    if (rc)
        return rc;
    *w = (struct migbuf_waiting){ .id = given.id, .link = given.link, .flow_bytes_per_s = e.flow,
                                  .file_bytes = (double)given.file_bytes, .whole_bytes = e.whole,
                                  .unit_bytes = (double)e.unit, .weight = given.weight,
                                  .need_bytes = migbuf__buffer_least_room(b, &e, (double)given.file_bytes),
                                  .reserve_bytes = migbuf__buffer_reserve_of(&e, (double)given.file_bytes),
                                  .rate = (double)given.rate_bytes_per_s };
    for (size_t k = 0; k < disk_count; k++)
        w->disk_bytes += (double)disks[k].virtual_bytes;
    return 0;
}

/* What runs, and room for more, as the planner wants it. */
struct trial {
    struct migbuf_planner_options o;
    struct migbuf_planner_guest *guest;
    struct migbuf_planner_plan *plan;
    struct migbuf_planner_slot *slot;
    struct migbuf_planner_link *link;
    struct migbuf_planner_flow *flow; /* those that run, then those that wait */
    size_t guests, links, slots, bytes;
    void *block;
};

/* Where the next part of the block begins; *at becomes SIZE_MAX when the block would be larger than that. */
static size_t carve(size_t *at, size_t count, size_t item)
{
    size_t here = *at;

    *at = count > (SIZE_MAX - here) / item ? SIZE_MAX : here + count * item;
    return here;
}

/* All of it in one block; every part holds doubles or 64-bit numbers. */
static int trial_new(const struct migbuf_buffer *b, size_t more, struct trial *t)
{
    size_t n = b->count + more, links = b->links_count + more, at = 0, guest, plan, slot, link, flow;
    char *block;

    guest = carve(&at, n, sizeof *t->guest);
    plan = carve(&at, n, sizeof *t->plan);
    slot = carve(&at, 2 * n + links, sizeof *t->slot);
    link = carve(&at, links, sizeof *t->link);
    flow = carve(&at, n, sizeof *t->flow);
    block = at < SIZE_MAX ? migbuf__resize(&b->allocator, NULL, 0, at + 1, 1) : NULL;
    if (!block)
        return MIGBUF_E_NOMEM;
    *t = (struct trial){ .guests = b->count, .links = b->links_count, .slots = 2 * n + links, .bytes = at + 1,
                         .block = block };
    t->guest = (struct migbuf_planner_guest *)(void *)(block + guest);
    t->plan = (struct migbuf_planner_plan *)(void *)(block + plan);
    t->slot = (struct migbuf_planner_slot *)(void *)(block + slot);
    t->link = (struct migbuf_planner_link *)(void *)(block + link);
    t->flow = (struct migbuf_planner_flow *)(void *)(block + flow);
    migbuf__buffer_describe(b, &t->o, t->link, t->guest);
    return 0;
}

static void trial_free(const struct migbuf_buffer *b, struct trial *t)
{
    migbuf__free(&b->allocator, t->block, t->bytes);
}

static int plan(struct trial *t)
{
    int rc = migbuf_planner_tick(&t->o, t->link, t->links, t->guest, t->guests, t->slot, t->plan);

    return rc < 0 ? rc : 0;
}

static int settle(struct trial *t)
{
    int rc = 0;

    for (int k = 0; k < SETTLED && !rc; k++) {
        rc = plan(t);
        for (size_t i = 0; i < t->guests && !rc; i++)
            t->guest[i].need_bytes = t->plan[i].need_bytes;
    }
    return rc;
}

static double delivered(const struct trial *t, size_t i)
{
    const struct migbuf_planner_plan *p = &t->plan[i];

    return p->cut ? migbuf__least(1, (p->growth + t->o.floor) / (p->wish + t->o.floor)) : 1;
}

/* A plan looks at what guests want; what they are held to is over sooner and takes less. */
static int hold(struct trial *t)
{
    for (size_t i = 0; i < t->guests; i++) {
        struct migbuf_planner_guest *g = &t->guest[i];
        double part = delivered(t, i);

        if (g->need_bytes * part > t->o.capacity_bytes) /* a plan hopes for rewrites: its front factor */
            part = t->o.capacity_bytes / g->need_bytes;
        g->rate *= part;
        g->peak = migbuf__least(g->peak, migbuf__most(g->rate, t->plan[i].rate));
        g->need_bytes *= part;
    }
    return settle(t);
}

/* Links by id: a hash table in the slots, of which there are at least two per link. i: the id, j: 1 + its index. */
static struct migbuf_planner_slot *link_slot(const struct trial *t, uint64_t id)
{
    size_t at = (size_t)((id * UINT64_C(0x9E3779B97F4A7C15) >> 32) % t->slots);

    while (t->slot[at].j && t->slot[at].i != id)
        at = at + 1 < t->slots ? at + 1 : 0;
    return &t->slot[at];
}

static void link_table(const struct migbuf_buffer *b, struct trial *t)
{
    for (size_t k = 0; k < t->slots; k++)
        t->slot[k] = (struct migbuf_planner_slot){ 0 };
    for (uint32_t l = 0; l < b->links_count; l++) {
        struct migbuf_planner_slot *s = link_slot(t, b->links[l].id);

        s->i = b->links[l].id;
        s->j = l + UINT64_C(1);
    }
}

/* The index of a link, new ones behind the buffer's. */
static uint32_t link_index(struct trial *t, uint64_t id)
{
    struct migbuf_planner_slot *s = link_slot(t, id);

    if (!s->j) {
        t->link[t->links++] = (struct migbuf_planner_link){ MIGBUF_LINK_LEAST, INFINITY };
        s->i = id;
        s->j = t->links;
    }
    return (uint32_t)(s->j - 1);
}

static int link_is_known(const struct migbuf_buffer *b, uint32_t at)
{
    return at < b->links_count && (b->links[at].bytes_per_s || b->links[at].mean.mean > 0);
}

static int check_waiting(const struct migbuf_waiting *w)
{
    const double amounts[] = { w->disk_bytes,    w->file_bytes, w->whole_bytes,      w->need_bytes,
                               w->reserve_bytes, w->rate,       w->write_bytes_per_s };
    int rc = migbuf__flow(w->flow_bytes_per_s);

    if (!rc)
        rc = w->reserved ? MIGBUF_E_INVALID : w->weight < 1 || w->weight > 1000000 ? MIGBUF_E_RANGE : 0;
    for (size_t k = 0; k < sizeof amounts / sizeof *amounts && !rc; k++)
        rc = migbuf__finite(amounts[k]);
    return rc ? rc : migbuf__number(w->unit_bytes, MIGBUF__LEAST, (double)MIGBUF_BYTES_MAX);
}

/* Room */

/* Those that run on known links, by the time they end. a: in so many seconds, b: bytes that come free. Their number. */
static size_t releases(const struct migbuf_buffer *b, struct trial *t, struct migbuf_planner_slot *ends)
{
    size_t known = 0;

    for (size_t i = 0; i < t->guests; i++)
        t->slot[t->plan[i].place].i = i;
    for (size_t place = 0; place < t->guests; place++) {
        size_t i = t->slot[place].i;

        if (link_is_known(b, b->e[i].link_at)) {
            ends[known].a = t->plan[i].release_s;
            ends[known++].b = migbuf__buffer_least_room(b, &b->e[i], t->guest[i].file_bytes);
        }
    }
    return known;
}

/* Those that wait, by place, then as they were given: in the slots' j. */
static void by_place(const struct migbuf_planner_turn *turns, size_t count, struct migbuf_planner_slot *s)
{
    size_t before = 0;

    for (size_t k = 0; k < count; k++)
        s[k].i = 0;
    for (size_t k = 0; k < count; k++)
        s[turns[k].place].i++;
    for (size_t place = 0; place < count; place++) {
        size_t here = (size_t)s[place].i;

        s[place].i = before;
        before += here;
    }
    for (size_t k = 0; k < count; k++)
        s[s[turns[k].place].i++].j = k;
}

/* Room that comes free, and what of it is not promised yet. */
struct future {
    const struct migbuf_planner_slot *ends;
    size_t count, next;
    double at, have, rest; /* have: at that time; rest: of those that end later */
};

/* Seconds until so much is free for one more; INFINITY: nobody knows. */
static double promise(struct future *f, double bytes)
{
    if (bytes > f->have + f->rest + 1) /* sums of fractions of bytes */
        return INFINITY;
    while (bytes > f->have && f->next < f->count) {
        f->have += f->ends[f->next].b;
        f->rest -= f->ends[f->next].b;
        f->at = f->ends[f->next++].a;
    }
    f->have -= bytes;
    return f->at;
}

/* Room for those whose turn it is, in the order of their places. Returns how many have it. Who has none is told when it
 * may have some, and nobody on its link overtakes it. A link's slot, c: its head has no room; d: when it will, -1
 * before. */
static int fit(const struct migbuf_buffer *b, struct trial *t, const struct migbuf_waiting *w,
               const struct migbuf_planner_flow *queue, size_t count, struct migbuf_planner_turn *turns)
{
    struct future f = { .ends = t->slot + t->guests, .have = migbuf__buffer_room(b) };
    struct migbuf_planner_slot *s = t->slot;
    int starts = 0;

    f.count = releases(b, t, t->slot + t->guests);
    for (size_t k = 0; k < f.count; k++)
        f.rest += f.ends[k].b;
    by_place(turns, count, s);
    for (size_t l = 0; l < t->links; l++) {
        s[l].c = 0;
        s[l].d = -1;
    }
    for (size_t q = 0; q < count; q++) {
        size_t k = (size_t)s[q].j;

        if (turns[k].verdict != MIGBUF_VERDICT_START || s[queue[k].link].c > 0)
            continue;
        if (w[k].need_bytes <= f.have) {
            f.have -= w[k].need_bytes;
            starts++;
        } else {
            turns[k].verdict = MIGBUF_VERDICT_NO_ROOM;
            s[queue[k].link].c = 1;
        }
    }
    for (size_t q = 0; q < count; q++) {
        size_t k = (size_t)s[q].j;
        double *head = &s[queue[k].link].d;

        if (turns[k].verdict == MIGBUF_VERDICT_NO_ROOM) {
            turns[k].earliest_s = *head = promise(&f, w[k].need_bytes);
        } else if (*head >= 0) {
            turns[k].verdict = MIGBUF_VERDICT_NOT_ITS_TURN;
            turns[k].earliest_s += *head;
        }
    }
    return starts;
}

int migbuf_admission_turns(const struct migbuf_buffer *b, int32_t order, const struct migbuf_waiting *waiting,
                           size_t count, struct migbuf_planner_turn *turns)
{
    struct migbuf_planner_flow *queue;
    struct trial t;
    int rc = 0;

    if (!b || (order != MIGBUF_ADMISSION_SHORTEST && order != MIGBUF_ADMISSION_FIFO) || (count && (!waiting || !turns)))
        return MIGBUF_E_INVALID;
    if (count > MOST_WAITING)
        return MIGBUF_E_RANGE;
    for (size_t k = 0; k < count && !rc; k++)
        rc = check_waiting(&waiting[k]);
    if (!rc && count)
        rc = trial_new(b, count, &t);
    if (rc || !count)
        return rc;
    rc = settle(&t);
    if (!rc)
        rc = hold(&t);
    for (size_t i = 0; i < t.guests && !rc; i++)
        t.flow[i] = (struct migbuf_planner_flow){ .id = b->e[i].id, .link = b->e[i].link_at,
                                                  .flow_bytes_per_s = b->e[i].flow, .seconds = t.plan[i].release_s };
    queue = t.flow + t.guests;
    link_table(b, &t);
    for (size_t k = 0; k < count && !rc; k++)
        queue[k] = (struct migbuf_planner_flow){ .id = waiting[k].id,
                                                 .link = link_index(&t, waiting[k].link),
                                                 .flow_bytes_per_s = waiting[k].flow_bytes_per_s,
                                                 .disk_bytes = waiting[k].disk_bytes, .arrival = waiting[k].arrival };
    if (!rc)
        rc = migbuf_planner_admit(order, t.link, t.links, t.flow, t.guests, queue, count, t.slot, turns);
    if (rc >= 0) {
        for (size_t k = 0; k < count; k++)
            if (turns[k].verdict != MIGBUF_VERDICT_START && !link_is_known(b, queue[k].link))
                turns[k].earliest_s = INFINITY;
        rc = b->o.policy == MIGBUF_POLICY_LITERAL ? rc : fit(b, &t, waiting, queue, count, turns);
    }
    trial_free(b, &t);
    return rc;
}

/* Outlooks */

static int take_size(const struct migbuf_outlook *o)
{
    return !o ? MIGBUF_E_INVALID : o->size < OUTLOOK_FIRST ? MIGBUF_E_STRUCT : 0;
}

/* What guest i of a plan that has settled grows by until it is over, as far as the plan lets it. */
static double growth(const struct trial *t, size_t i)
{
    const struct migbuf_planner_plan *p = &t->plan[i];

    return p->cut ? migbuf__least(p->need_bytes, (p->growth + t->o.floor) * p->release_s) : p->need_bytes;
}

/* The same guest, in `start_s` from now. */
static struct migbuf_outlook look(const struct migbuf_buffer *b, const struct trial *t, size_t i, double start_s,
                                  int known)
{
    const struct migbuf_planner_guest *g = &t->guest[i];
    double grown = growth(t, i), takes_s = known ? t->plan[i].release_s : INFINITY;
    double omega = (double)migbuf__bins_capacity(b->bins), most = migbuf__most(omega, g->file_bytes);
    struct migbuf_outlook o = { .start_s = start_s, .finish_s = start_s + takes_s };

    o.finish_least_s = migbuf__most(0, FINISH_LEAST * (known ? o.finish_s : start_s) - t->o.interval_s);
    o.finish_most_s = FINISH_MOST * o.finish_s + FINISH_MORE_S;
    o.peak_bytes = migbuf__least(g->file_bytes + grown, most);
    o.peak_least_bytes = migbuf__least(g->file_bytes + PEAK_LEAST * grown, most);
    o.peak_most_bytes = migbuf__least(g->file_bytes + PEAK_MOST * grown + PEAK_MORE * omega, most);
    return o;
}

int migbuf_outlook_running(const struct migbuf_buffer *b, uint64_t id, struct migbuf_outlook *outlook)
{
    struct migbuf_outlook o;
    struct trial t;
    double part = 1;
    uint32_t i;
    int rc = b ? take_size(outlook) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    i = migbuf__bins_find(b->bins, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    rc = trial_new(b, 0, &t);
    if (rc)
        return rc;
    rc = settle(&t);
    if (!rc) {
        part = delivered(&t, i);
        rc = hold(&t);
    }
    if (!rc) {
        o = look(b, &t, i, 0, link_is_known(b, b->e[i].link_at));
        o.peak_most_bytes = migbuf__least(o.peak_most_bytes, migbuf__most(b->e[i].whole, t.guest[i].file_bytes));
        o.delivered = part;
        rc = migbuf__struct_give(outlook, &o, sizeof o, OUTLOOK_FIRST);
    }
    trial_free(b, &t);
    return rc;
}

/* Those that run, as they will be in start_s: some are over, others have come that far. */
static void go_on(const struct migbuf_buffer *b, struct trial *t, double start_s)
{
    double capacity = (double)migbuf__bins_capacity(b->bins);
    size_t n = 0;

    for (size_t i = 0; i < t->guests; i++) {
        struct migbuf_planner_guest g = t->guest[i];
        double part = start_s / t->plan[i].release_s, grown = migbuf__least(growth(t, i) * part, g.remaining);

        if (part >= 1)
            continue;
        g.left_bytes *= 1 - part;
        g.file_bytes += grown;
        if (grown > 0 && isfinite(g.remaining)) { /* as its working set fills, more and more are rewrites */
            g.growth_ratio *= 1 - grown / g.remaining;
            g.remaining -= grown;
        }
        g.need_bytes *= 1 - part;
        capacity -= migbuf__buffer_reserve_of(&b->e[i], g.file_bytes);
        t->guest[n++] = g;
    }
    t->guests = n;
    t->o.capacity_bytes = migbuf__most(0, capacity);
}

/* How much of what it wants to write crosses the link while everything else of its disks does. */
static double mirrored(const struct trial *t, const struct migbuf_waiting *w)
{
    const struct migbuf_planner_guest *g = &t->guest[t->guests - 1];
    const struct migbuf_planner_link *l = &t->link[g->link];
    double wanted = w->write_bytes_per_s > 0 ? migbuf__least(w->write_bytes_per_s, w->rate) : w->rate;
    double weights = 0, share, r;

    if (!(wanted > 0))
        return 1;
    for (size_t i = 0; i < t->guests; i++)
        if (t->guest[i].link == g->link)
            weights += t->guest[i].weight;
    share = migbuf__least(w->flow_bytes_per_s, l->bytes_per_s * (g->weight / weights));
    r = w->unit_bytes * (wanted / w->rate);
    return migbuf__least(1, share * (r / (r + MIRROR_TURN)) / wanted);
}

int migbuf_outlook_waiting(const struct migbuf_buffer *b, const struct migbuf_waiting *w, double start_s,
                           struct migbuf_outlook *outlook)
{
    struct migbuf_outlook o;
    struct trial t;
    double part = 1;
    uint32_t link;
    int rc = b && w ? take_size(outlook) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__amount(start_s);
    if (!rc)
        rc = check_waiting(w);
    if (!rc)
        rc = trial_new(b, 1, &t);
    if (rc)
        return rc;
    rc = settle(&t);
    if (!rc)
        rc = hold(&t);
    if (!rc) {
        go_on(b, &t, start_s);
        link_table(b, &t);
        link = link_index(&t, w->link);
        t.link[link].flow_bytes_per_s = migbuf__most(t.link[link].flow_bytes_per_s, w->flow_bytes_per_s);
        t.o.capacity_bytes = migbuf__most(0, t.o.capacity_bytes - w->reserve_bytes);
        t.guest[t.guests++] = (struct migbuf_planner_guest){
            .id = w->id, .link = link, .weight = w->weight, .file_bytes = w->file_bytes, .left_bytes = w->disk_bytes,
            .remaining = migbuf__most(0, w->whole_bytes - w->file_bytes), .growth_ratio = 1, .rate = w->rate,
            .peak = w->rate
        };
        rc = settle(&t);
    }
    if (!rc) {
        part = delivered(&t, t.guests - 1);
        rc = hold(&t);
    }
    if (!rc) {
        o = look(b, &t, t.guests - 1, start_s, link_is_known(b, link));
        o.peak_most_bytes = migbuf__least(o.peak_most_bytes, migbuf__most(w->whole_bytes, w->file_bytes));
        o.delivered = part;
        o.mirror_delivered = mirrored(&t, w);
        o.mirror = o.mirror_delivered >= o.delivered + MIRROR_GAIN;
        rc = migbuf__struct_give(outlook, &o, sizeof o, OUTLOOK_FIRST);
    }
    trial_free(b, &t);
    return rc;
}
