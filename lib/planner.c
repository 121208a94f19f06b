/* SPDX-License-Identifier: MIT */
/* planner: finish times, caps, fair growth, rates. Formulas and reasons stand in the header. No memory, no
 * clock. What a slot holds changes from step to step: the names of its numbers say which is whose. */
#include "migbuf/planner.h"
#include "forecast.h"
#include "memory.h"
#include "number.h"
#include "planner.h"
#include "slots.h"
#include <string.h>

#define MOST_DIRTY 0.5  /* d */
#define GOT 0.999       /* of a demand */
#define NOTHING 1e-6    /* less than that, nobody misses */
#define MOST_BURSTY 20.0
#define ALONE 0.7 /* of what a flow can have on its link: nobody shares it */

typedef struct migbuf_planner_slot slot;

/* Of a guest's slot, beside the heap that fair growth keeps in the first two: the level of its own cap. */
enum { CUT_TO = SLOT_OTHER };

/* Of a link's slot: x/w reached so far and when, weights of those that are left, of all; and how many these are. */
enum { REACHED, TIME_S, WEIGHTS_LEFT, WEIGHTS };
enum { GUESTS };

#define OPTIONS_FIRST MIGBUF__FIRST(struct migbuf_planner_options, explore)

static const struct migbuf_planner_options defaults = {
    .interval_s = 1, .floor = 160000, .newcomers = 0.3, .explore = 0.25
};

int migbuf_planner_options_init(struct migbuf_planner_options *o, uint64_t size)
{
    return migbuf__struct_init(o, size, &defaults, sizeof defaults, OPTIONS_FIRST);
}

/* Fair growth */

/* One more from behind: what it wants to grow, and the cap that it and all so far must keep. Returns the level they were cut
 * to, INFINITY when all fit. In the end each has the lowest level of its own and all earlier caps. */
static double chain_add(struct migbuf__heap *h, double demand, double cap, double weight)
{
    demand = migbuf__least(demand, cap); /* what none can have would only blur the sum */
    migbuf__heap_add(h, demand / weight, weight);
    h->sum += demand;
    return h->sum > cap ? migbuf__heap_cut(h, cap) : INFINITY;
}

int migbuf_planner_chain(const double *demand, const double *cap, const double *weight, size_t n, slot *scratch,
                         double *growth)
{
    struct migbuf__heap h = { .slots = scratch };
    double level = INFINITY;

    if (n && (!demand || !cap || !scratch || !growth))
        return MIGBUF_E_INVALID;
    for (size_t k = 0; k < n; k++) {
        int rc = migbuf__finite(demand[k]);

        if (!rc)
            rc = migbuf__amount(cap[k]);
        if (!rc && weight)
            rc = migbuf__positive(weight[k]);
        if (rc)
            return rc;
    }
    for (size_t k = n; k-- > 0;)
        scratch[k].number[CUT_TO] = chain_add(&h, demand[k], cap[k], weight ? weight[k] : 1);
    for (size_t k = 0; k < n; k++) {
        level = migbuf__least(level, scratch[k].number[CUT_TO]);
        growth[k] = migbuf__least(migbuf__least(demand[k], cap[k]), level * (weight ? weight[k] : 1));
    }
    return 0;
}

/* Finish times */

int migbuf__planner_check_link(const struct migbuf_planner_link *l)
{
    int rc = migbuf__positive(l->bytes_per_s);

    return rc ? rc : migbuf__flow(l->flow_bytes_per_s);
}

/* What one unit of weight gets of a link on which `weights` are left. */
static double part(const struct migbuf_planner_link *l, double weight, double weights)
{
    return migbuf__least(l->flow_bytes_per_s / weight, l->bytes_per_s / weights);
}

int migbuf_planner_finish(const double *send, const double *weight, size_t n, const struct migbuf_planner_link *link,
                          double *done)
{
    double before = 0, weights = 0, time = 0;
    int rc = link ? migbuf__planner_check_link(link) : MIGBUF_E_INVALID;

    if (n && (!send || !done))
        return MIGBUF_E_INVALID;
    for (size_t k = 0; k < n && !rc; k++) {
        rc = migbuf__finite(send[k]);
        if (!rc && weight)
            rc = migbuf__positive(weight[k]);
        if (!rc) {
            double x = weight ? send[k] / weight[k] : send[k];

            rc = x < before ? MIGBUF_E_INVALID : 0;
            before = x;
            weights += weight ? weight[k] : 1;
        }
    }
    if (rc)
        return rc;
    before = 0;
    for (size_t k = 0; k < n; k++) {
        double w = weight ? weight[k] : 1, x = send[k] / w;

        /* A sum taken apart again: never below what is left. */
        time += (x - before) / part(link, w, migbuf__most(w, weights));
        before = x;
        weights -= w;
        done[k] = time;
    }
    return 0;
}

/* R of one, with `count` files of together `files` bytes still there. */
static double cap_at(double capacity, double files, double finish_s, double count, double floor, double front)
{
    return migbuf__most(0, ((capacity - files) / finish_s - count * floor) * front);
}

int migbuf_planner_caps(double capacity_bytes, const double *file_bytes, const double *finish_s, size_t n,
                         double floor, double front, double *cap)
{
    double files = 0, factor;
    int rc = migbuf__finite(capacity_bytes);

    if (n && (!file_bytes || !finish_s || !cap))
        return MIGBUF_E_INVALID;
    if (!rc)
        rc = migbuf__finite(floor);
    if (!rc)
        rc = migbuf__finite(front);
    for (size_t k = 0; k < n && !rc; k++) {
        rc = migbuf__finite(file_bytes[k]);
        if (!rc)
            rc = migbuf__positive(finish_s[k]);
        if (!rc && k && finish_s[k] < finish_s[k - 1])
            rc = MIGBUF_E_INVALID;
    }
    if (rc)
        return rc;
    factor = n ? 1 + front / (double)n : 1;
    for (size_t k = n; k-- > 0;) {
        files += file_bytes[k];
        cap[k] = cap_at(capacity_bytes, files, finish_s[k], (double)(n - k), floor, factor);
    }
    return 0;
}

/* A tick. Slot n + l belongs to link l. */

static int check_guest(const struct migbuf_planner_guest *g, size_t link_count)
{
    int rc = g->link < link_count ? 0 : MIGBUF_E_RANGE;

    /* All is well with nearly everybody: one branch then. Comparisons with NaN are false. */
    if (!rc & (g->weight >= MIGBUF__LEAST) & (g->weight <= MIGBUF__MOST) & (g->file_bytes >= 0) &
        (g->file_bytes <= MIGBUF__MOST) & (g->left_bytes >= 0) & (g->left_bytes <= MIGBUF__MOST) &
        (g->need_bytes >= 0) & (g->need_bytes <= MIGBUF__MOST) & (g->remaining >= 0) &
        !((g->remaining > MIGBUF__MOST) & (g->remaining < INFINITY)) & (g->growth_ratio >= 0) & (g->growth_ratio <= 1) &
        (g->rate >= 0) & (g->rate <= MIGBUF__MOST) & (g->peak >= 0) & (g->peak <= MIGBUF__MOST))
        return 0;
    if (!rc)
        rc = migbuf__positive(g->weight);
    if (!rc)
        rc = migbuf__finite(g->file_bytes);
    if (!rc)
        rc = migbuf__finite(g->left_bytes);
    if (!rc)
        rc = migbuf__finite(g->need_bytes);
    if (!rc)
        rc = migbuf__amount(g->remaining);
    if (!rc)
        rc = migbuf__number(g->growth_ratio, 0, 1);
    if (!rc)
        rc = migbuf__finite(g->rate);
    return rc ? rc : migbuf__finite(g->peak);
}

static int check_tick(const struct migbuf_planner_options *o, const struct migbuf_planner_link *links,
                      size_t link_count, const struct migbuf_planner_guest *guests, size_t n)
{
    int rc = migbuf__finite(o->capacity_bytes);

    if (!rc)
        rc = migbuf__positive(o->interval_s);
    if (!rc)
        rc = migbuf__finite(o->floor);
    if (!rc)
        rc = migbuf__number(o->newcomers, 0, 1);
    if (!rc)
        rc = migbuf__number(o->explore, 0, 1);
    for (size_t l = 0; l < link_count && !rc; l++)
        rc = migbuf__planner_check_link(&links[l]);
    for (size_t k = 0; k < n && !rc; k++)
        rc = check_guest(&guests[k], link_count);
    return rc;
}

static double share_of(const struct migbuf_planner_guest *g, const struct migbuf_planner_link *l, double weights)
{
    return migbuf__least(l->flow_bytes_per_s, l->bytes_per_s * g->weight / weights);
}

/* x: what has to be sent before its file can go. */
static double to_send(const struct migbuf_planner_guest *g, double share)
{
    if (g->draining)
        return g->left_bytes / (1 - migbuf__least(MOST_DIRTY, g->rate / share));
    return g->left_bytes + (g->file_bytes + g->need_bytes) /
                               (1 - migbuf__least(MOST_DIRTY, g->growth_ratio * g->rate / share));
}

static int lower_id(const void *items, uint64_t i, uint64_t j)
{
    const struct migbuf_planner_guest *g = items;

    return g[i].id < g[j].id;
}

static int lower_place(const void *items, uint64_t i, uint64_t j)
{
    const struct migbuf_planner_plan *p = items;

    return p[i].place < p[j].place;
}

/* Everybody becomes a slot's item: where it stood in the last plan as far as that place is free, the others in between. */
static void line_up(const struct migbuf_planner_guest *guests, size_t n, slot *s)
{
    const uint64_t nobody = UINT64_MAX;
    size_t hole = 0;

    for (size_t k = 0; k < n; k++)
        s[k].index[SLOT_ITEM] = nobody;
    for (size_t k = 0; k < n; k++)
        if (guests[k].place < n && s[guests[k].place].index[SLOT_ITEM] == nobody)
            s[guests[k].place].index[SLOT_ITEM] = k;
    for (size_t k = 0; k < n; k++)
        if (guests[k].place >= n || s[guests[k].place].index[SLOT_ITEM] != k) {
            while (s[hole].index[SLOT_ITEM] != nobody)
                hole++;
            s[hole].index[SLOT_ITEM] = k;
        }
}

/* Leaves the order of release in the slots' items. */
static void finish_all(const struct migbuf_planner_options *o, const struct migbuf_planner_link *links,
                        size_t link_count, const struct migbuf_planner_guest *guests, size_t n, slot *s,
                        struct migbuf_planner_plan *plans)
{
    slot *at = s + n;

    for (size_t l = 0; l < link_count; l++)
        at[l] = (slot){ 0 };
    for (size_t k = 0; k < n; k++) {
        at[guests[k].link].number[WEIGHTS] += guests[k].weight;
        at[guests[k].link].index[GUESTS]++;
    }
    for (size_t l = 0; l < link_count; l++)
        at[l].number[WEIGHTS_LEFT] = at[l].number[WEIGHTS];
    line_up(guests, n, s);
    for (size_t k = 0; k < n; k++) {
        const struct migbuf_planner_guest *g = &guests[s[k].index[SLOT_ITEM]];
        double send = to_send(g, share_of(g, &links[g->link], at[g->link].number[WEIGHTS]));

        plans[s[k].index[SLOT_ITEM]].send_bytes = send;
        s[k].number[SLOT_KEY] = send / g->weight;
    }
    migbuf__slots_sort(s, n, lower_id, guests);
    for (size_t k = 0; k < n; k++) {
        const struct migbuf_planner_guest *g = &guests[s[k].index[SLOT_ITEM]];
        struct migbuf_planner_plan *p = &plans[s[k].index[SLOT_ITEM]];
        slot *l = &at[g->link];
        double per_weight = part(&links[g->link], g->weight, migbuf__most(g->weight, l->number[WEIGHTS_LEFT]));

        l->number[TIME_S] += (s[k].number[SLOT_KEY] - l->number[REACHED]) / per_weight;
        l->number[REACHED] = s[k].number[SLOT_KEY];
        l->number[WEIGHTS_LEFT] -= g->weight;
        p->finish_s = migbuf__least(migbuf__most(l->number[TIME_S], o->interval_s), MIGBUF__MOST);
        p->place = (uint32_t)k;
        s[k].number[SLOT_KEY] = p->finish_s;
    }
    if (link_count > 1)
        migbuf__slots_sort(s, n, lower_place, plans);
}

/* M: as many as would run if the links were full, at least those that do. */
static double places(const struct migbuf_planner_link *links, size_t link_count, const slot *at)
{
    double sum = 0;

    for (size_t l = 0; l < link_count; l++)
        if (at[l].index[GUESTS])
            sum += migbuf__most((double)at[l].index[GUESTS], migbuf__most(1, links[l].bytes_per_s / links[l].flow_bytes_per_s));
    return sum;
}

/* From the last finish to the first, then back: demands, caps, growth. Returns how many were cut. */
static int share_out(const struct migbuf_planner_options *o, const struct migbuf_planner_guest *guests, size_t n,
                     double most, slot *s, struct migbuf_planner_plan *plans)
{
    struct migbuf__heap h = { .slots = s };
    double files = 0, level = INFINITY, front = 1 + 1 / (double)n;
    int cut = 0;

    for (size_t k = n; k-- > 0;) {
        const struct migbuf_planner_guest *g = &guests[s[k].index[SLOT_ITEM]];
        struct migbuf_planner_plan *p = &plans[s[k].index[SLOT_ITEM]];

        files += g->file_bytes;
        p->need_bytes = migbuf__growth(g->remaining, g->growth_ratio, g->rate, p->finish_s);
        p->demand = migbuf__most(0, p->need_bytes / p->finish_s - o->floor);
        p->cap = cap_at(o->capacity_bytes * (1 - o->newcomers * (most - (double)(n - k)) / most), files, p->finish_s,
                          (double)(n - k), o->floor, front);
        s[k].number[CUT_TO] = chain_add(&h, p->demand, p->cap, g->weight);
    }
    for (size_t k = 0; k < n; k++) {
        struct migbuf_planner_plan *p = &plans[s[k].index[SLOT_ITEM]];

        level = migbuf__least(level, s[k].number[CUT_TO]);
        p->place = (uint32_t)k;
        p->growth = migbuf__least(migbuf__least(p->demand, p->cap), level * guests[s[k].index[SLOT_ITEM]].weight);
        p->cut = p->growth + NOTHING < GOT * p->demand;
        cut += (int)p->cut;
    }
    return cut;
}

/* A guest that has just begun, with a flow of its own: nothing is known yet of how much it will grow. */
static int explores(const struct migbuf_planner_options *o, const struct migbuf_planner_guest *g,
                    const struct migbuf_planner_link *l, double share, double most)
{
    return !g->draining && g->file_bytes < o->explore * o->capacity_bytes / most &&
           share >= ALONE * migbuf__least(l->flow_bytes_per_s, l->bytes_per_s);
}

static double rate_of(const struct migbuf_planner_options *o, const struct migbuf_planner_guest *g,
                      const struct migbuf_planner_plan *p, double share, int cut, int explores)
{
    double rate = INFINITY;

    if (p->cut && !explores) {
        rate = migbuf__rate_for(g->remaining, g->growth_ratio, (p->growth + o->floor) * p->finish_s, p->finish_s);
        if (g->rate > 0)
            rate *= migbuf__least(migbuf__most(g->peak / g->rate, 1), MOST_BURSTY);
    }
    if (g->draining)
        rate = migbuf__least(rate, (cut ? DRAIN_SHORT : DRAIN) * share);
    return migbuf__most(rate, o->floor);
}

int migbuf_planner_tick(const struct migbuf_planner_options *options, const struct migbuf_planner_link *links,
                        size_t link_count, const struct migbuf_planner_guest *guests, size_t guest_count, slot *scratch,
                        struct migbuf_planner_plan *plans)
{
    struct migbuf_planner_options o = defaults;
    double most;
    int rc, cut;

    if (!options || (link_count && !links) || (guest_count && (!guests || !scratch || !plans)))
        return MIGBUF_E_INVALID;
    if (guest_count > UINT64_C(1) << 30)
        return MIGBUF_E_RANGE;
    rc = migbuf__struct_take(&o, sizeof o, options, OPTIONS_FIRST);
    if (!rc)
        rc = check_tick(&o, links, link_count, guests, guest_count);
    if (rc || !guest_count)
        return rc;
    finish_all(&o, links, link_count, guests, guest_count, scratch, plans);
    most = places(links, link_count, scratch + guest_count);
    cut = share_out(&o, guests, guest_count, most, scratch, plans);
    for (size_t k = 0; k < guest_count; k++) {
        const struct migbuf_planner_guest *g = &guests[k];
        const struct migbuf_planner_link *l = &links[g->link];
        double share = share_of(g, l, scratch[guest_count + g->link].number[WEIGHTS]);

        plans[k].rate = rate_of(&o, g, &plans[k], share, cut, explores(&o, g, l, share, most));
    }
    return cut;
}
