/* SPDX-License-Identifier: MIT */
/* trial: a plan over a copy of what runs. The copy is one block, which its caller frees; nothing in the buffer is changed. */
#include "memory.h"
#include "number.h"
#include "policy.h"
#include "trial.h"

#define SETTLED 3            /* plans after which what is sent and what grows fit each other */

/* Where the next part of the block begins; *at becomes SIZE_MAX when the block would be larger than that. */
static size_t carve(size_t *at, size_t count, size_t item)
{
    size_t here = *at;

    *at = count > (SIZE_MAX - here) / item ? SIZE_MAX : here + count * item;
    return here;
}

/* All of it in one block; every part holds doubles or 64-bit numbers. */
int migbuf__trial_new(const struct migbuf_buffer *b, size_t more, struct trial *t)
{
    size_t n, links = b->links_count + more, at = 0, guest, plan, slot, link, flow;
    char *block;

    migbuf__buffer_settle(b);
    n = b->count + more;
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
    t->flow = (struct migbuf_admission_flow *)(void *)(block + flow);
    migbuf__planner_describe(b, &t->options, t->link, t->guest);
    return 0;
}

void migbuf__trial_free(const struct migbuf_buffer *b, struct trial *t)
{
    migbuf__free(&b->allocator, t->block, t->bytes);
}

static int plan(struct trial *t)
{
    int rc = migbuf_planner_tick(&t->options, t->link, t->links, t->guest, t->guests, t->slot, t->plan);

    return rc < 0 ? rc : 0;
}

int migbuf__trial_settle(struct trial *t)
{
    int rc = 0;

    for (int k = 0; k < SETTLED && !rc; k++) {
        rc = plan(t);
        for (size_t i = 0; i < t->guests && !rc; i++)
            t->guest[i].need_bytes = t->plan[i].need_bytes;
    }
    return rc;
}

double migbuf__trial_delivered(const struct trial *t, size_t i)
{
    const struct migbuf_planner_plan *p = &t->plan[i];

    return p->cut ? migbuf__least(1, (p->growth + t->options.floor) / (p->demand + t->options.floor)) : 1;
}

/* A plan looks at what guests want; what they are held to is over sooner and takes less. */
int migbuf__trial_hold(struct trial *t)
{
    for (size_t i = 0; i < t->guests; i++) {
        struct migbuf_planner_guest *g = &t->guest[i];
        double part = migbuf__trial_delivered(t, i);

        if (g->need_bytes * part > t->options.capacity_bytes) /* a plan hopes for rewrites: its front factor */
            part = t->options.capacity_bytes / g->need_bytes;
        g->rate *= part;
        g->peak = migbuf__least(g->peak, migbuf__most(g->rate, t->plan[i].rate));
        g->need_bytes *= part;
    }
    return migbuf__trial_settle(t);
}

/* Links by id: a hash table in the slots, of which there are at least two per link. */
enum { LINK_ID, LINK_NUMBER }; /* a slot's indices; the number is 1 + where the link stands, 0: nobody is here */

static struct migbuf_planner_slot *link_slot(const struct trial *t, uint64_t id)
{
    size_t at = (size_t)((id * UINT64_C(0x9E3779B97F4A7C15) >> 32) % t->slots);

    while (t->slot[at].index[LINK_NUMBER] && t->slot[at].index[LINK_ID] != id)
        at = at + 1 < t->slots ? at + 1 : 0;
    return &t->slot[at];
}

void migbuf__trial_link_table(const struct migbuf_buffer *b, struct trial *t)
{
    for (size_t k = 0; k < t->slots; k++)
        t->slot[k] = (struct migbuf_planner_slot){ 0 };
    for (uint32_t l = 0; l < b->links_count; l++) {
        struct migbuf_planner_slot *s = link_slot(t, b->links[l].id);

        s->index[LINK_ID] = b->links[l].id;
        s->index[LINK_NUMBER] = l + UINT64_C(1);
    }
}

/* The index of a link, new ones behind the buffer's. */
uint32_t migbuf__trial_link_index(struct trial *t, uint64_t id)
{
    struct migbuf_planner_slot *s = link_slot(t, id);

    if (!s->index[LINK_NUMBER]) {
        t->link[t->links++] = (struct migbuf_planner_link){ MIGBUF_LINK_LEAST, INFINITY };
        s->index[LINK_ID] = id;
        s->index[LINK_NUMBER] = t->links;
    }
    return (uint32_t)(s->index[LINK_NUMBER] - 1);
}

int migbuf__trial_link_is_known(const struct migbuf_buffer *b, uint32_t at)
{
    return at < b->links_count && (b->links[at].bytes_per_s || b->links[at].mean.mean > 0);
}

int migbuf__check_waiting(const struct migbuf_waiting *w)
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
