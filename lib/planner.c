/* SPDX-License-Identifier: MIT */
/* planner: release times, lines, fair growth, rates, admission. Formulas and reasons stand in the header. No memory, no
 * clock. What a slot holds changes from step to step: each function says what it reads and writes there. */
#include "migbuf/planner.h"
#include "forecast.h"
#include "memory.h"
#include "number.h"
#include <string.h>

#define MOST_DIRTY 0.5  /* d */
#define DRAIN_SHORT 0.5 /* of the share, while somebody is cut */
#define DRAIN 0.9       /* of the share otherwise */
#define GOT 0.999       /* of a wish */
#define NOTHING 1e-6    /* less than that, nobody misses */
#define MOST_BURSTY 20.0
#define ALONE 0.7 /* of what a flow can have on its link: nobody shares it */
#define IDLE_PART 0.5 /* of a flow that must find idle link */
#define LINK_NOISE 1.05

typedef struct migbuf_planner_slot slot;

#define OPTIONS_FIRST MIGBUF__FIRST(struct migbuf_planner_options, explore)

static const struct migbuf_planner_options defaults = {
    .interval_s = 1, .floor = 160000, .newcomers = 0.3, .explore = 0.25
};

int migbuf_planner_options_init(struct migbuf_planner_options *o, uint64_t size)
{
    return migbuf__struct_init(o, size, &defaults, sizeof defaults, OPTIONS_FIRST);
}

/* Sorting: ascending by a, ties by `tie`, which is asked for the items' indices i. */

typedef int tie_break(const void *items, uint64_t i, uint64_t j);

static int in_order(const slot *x, const slot *y, tie_break *tie, const void *items)
{
    return x->a < y->a || (x->a <= y->a && tie(items, x->i, y->i));
}

static void insertion(slot *s, size_t n, tie_break *tie, const void *items)
{
    for (size_t m = 1; m < n; m++) {
        slot moving = { .a = s[m].a, .i = s[m].i };
        size_t at = m;

        for (; at && !in_order(&s[at - 1], &moving, tie, items); at--) {
            s[at].a = s[at - 1].a;
            s[at].i = s[at - 1].i;
        }
        s[at].a = moving.a;
        s[at].i = moving.i;
    }
}

/* Two sorted runs, s[0 .. half) and s[half .. n), become one by way of b and j. */
static void merge(slot *s, size_t half, size_t n, tie_break *tie, const void *items)
{
    size_t x = 0, y = half;

    if (in_order(&s[half - 1], &s[half], tie, items))
        return;
    for (size_t m = 0; m < n; m++) {
        size_t from = y >= n || (x < half && in_order(&s[x], &s[y], tie, items)) ? x++ : y++;

        s[m].b = s[from].a;
        s[m].j = s[from].i;
    }
    for (size_t m = 0; m < n; m++) {
        s[m].a = s[m].b;
        s[m].i = s[m].j;
    }
}

/* Merge sort, bottom up: the order hardly changes from tick to tick, and sorted runs cost one comparison. */
static void sort_slots(slot *s, size_t n, tie_break *tie, const void *items)
{
    for (size_t at = 0; at < n; at += 8)
        insertion(s + at, n - at < 8 ? n - at : 8, tie, items);
    for (size_t run = 8; run < n; run *= 2)
        for (size_t at = 0; at + run < n; at += 2 * run)
            merge(s + at, run, n - at < 2 * run ? n - at : 2 * run, tie, items);
}

/* Fair growth. A heap of groups that share one level, the tallest on top; a: the level, b: the weights in the group. */

struct heap {
    slot *s;
    size_t groups;
    double sum; /* of what all have now */
};

static void heap_add(struct heap *h, double level, double weight)
{
    size_t at = h->groups++;

    for (; at && h->s[(at - 1) / 2].a < level; at = (at - 1) / 2) {
        h->s[at].a = h->s[(at - 1) / 2].a;
        h->s[at].b = h->s[(at - 1) / 2].b;
    }
    h->s[at].a = level;
    h->s[at].b = weight;
}

static void heap_replace_top(struct heap *h, double level, double weight)
{
    size_t at = 0;

    for (size_t child; (child = 2 * at + 1) < h->groups; at = child) {
        if (child + 1 < h->groups && h->s[child + 1].a > h->s[child].a)
            child++;
        if (h->s[child].a <= level)
            break;
        h->s[at].a = h->s[child].a;
        h->s[at].b = h->s[child].b;
    }
    h->s[at].a = level;
    h->s[at].b = weight;
}

static double heap_second(const struct heap *h)
{
    if (h->groups < 2)
        return 0;
    return h->groups > 2 && h->s[2].a > h->s[1].a ? h->s[2].a : h->s[1].a;
}

/* Lowers the tallest until the sum is `most`; groups that meet become one, so each is met once. Returns the new level.
 */
static double heap_cut(struct heap *h, double most)
{
    for (;;) {
        double level = h->s[0].a, weight = h->s[0].b, next = heap_second(h);
        double lower = migbuf__most(0, level - (h->sum - most) / weight);

        if (lower >= next || h->groups < 2) {
            heap_replace_top(h, lower, weight);
            h->sum = most;
            return lower;
        }
        h->sum -= weight * (level - next);
        h->groups--;
        heap_replace_top(h, h->s[h->groups].a, h->s[h->groups].b);
        h->s[0].b += weight;
    }
}

/* One more from behind: what it wishes, and the line that it and all so far must keep. Returns the level they were cut
 * to, INFINITY when all fit. In the end each has the lowest level of its own and all earlier lines. */
static double chain_add(struct heap *h, double wish, double line, double weight)
{
    wish = migbuf__least(wish, line); /* what none can have would only blur the sum */
    heap_add(h, wish / weight, weight);
    h->sum += wish;
    return h->sum > line ? heap_cut(h, line) : INFINITY;
}

int migbuf_planner_chain(const double *wish, const double *line, const double *weight, size_t n, slot *scratch,
                         double *growth)
{
    struct heap h = { .s = scratch };
    double level = INFINITY;

    if (n && (!wish || !line || !scratch || !growth))
        return MIGBUF_E_INVALID;
    for (size_t k = 0; k < n; k++) {
        int rc = migbuf__finite(wish[k]);

        if (!rc)
            rc = migbuf__amount(line[k]);
        if (!rc && weight)
            rc = migbuf__positive(weight[k]);
        if (rc)
            return rc;
    }
    for (size_t k = n; k-- > 0;) /* the heap lives in a and b */
        scratch[k].c = chain_add(&h, wish[k], line[k], weight ? weight[k] : 1);
    for (size_t k = 0; k < n; k++) {
        level = migbuf__least(level, scratch[k].c);
        growth[k] = migbuf__least(migbuf__least(wish[k], line[k]), level * (weight ? weight[k] : 1));
    }
    return 0;
}

/* Release times */

static int check_link(const struct migbuf_planner_link *l)
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
    int rc = link ? check_link(link) : MIGBUF_E_INVALID;

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
static double line_at(double capacity, double files, double release_s, double count, double floor, double front)
{
    return migbuf__most(0, ((capacity - files) / release_s - count * floor) * front);
}

int migbuf_planner_lines(double capacity_bytes, const double *file_bytes, const double *release_s, size_t n,
                         double floor, double front, double *line)
{
    double files = 0, factor;
    int rc = migbuf__finite(capacity_bytes);

    if (n && (!file_bytes || !release_s || !line))
        return MIGBUF_E_INVALID;
    if (!rc)
        rc = migbuf__finite(floor);
    if (!rc)
        rc = migbuf__finite(front);
    for (size_t k = 0; k < n && !rc; k++) {
        rc = migbuf__finite(file_bytes[k]);
        if (!rc)
            rc = migbuf__positive(release_s[k]);
        if (!rc && k && release_s[k] < release_s[k - 1])
            rc = MIGBUF_E_INVALID;
    }
    if (rc)
        return rc;
    factor = n ? 1 + front / (double)n : 1;
    for (size_t k = n; k-- > 0;) {
        files += file_bytes[k];
        line[k] = line_at(capacity_bytes, files, release_s[k], (double)(n - k), floor, factor);
    }
    return 0;
}

/* A tick. Slot n + l belongs to link l: a x/w reached so far, b time, c weights left, d all weights, i how many. */

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
        rc = check_link(&links[l]);
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

/* Everybody in a slot's i: where it stood in the last plan as far as that place is free, the others in between. */
static void line_up(const struct migbuf_planner_guest *guests, size_t n, slot *s)
{
    const uint64_t nobody = UINT64_MAX;
    size_t hole = 0;

    for (size_t k = 0; k < n; k++)
        s[k].i = nobody;
    for (size_t k = 0; k < n; k++)
        if (guests[k].place < n && s[guests[k].place].i == nobody)
            s[guests[k].place].i = k;
    for (size_t k = 0; k < n; k++)
        if (guests[k].place >= n || s[guests[k].place].i != k) {
            while (s[hole].i != nobody)
                hole++;
            s[hole].i = k;
        }
}

/* Leaves the order of release in the slots' i. */
static void release_all(const struct migbuf_planner_options *o, const struct migbuf_planner_link *links,
                        size_t link_count, const struct migbuf_planner_guest *guests, size_t n, slot *s,
                        struct migbuf_planner_plan *plans)
{
    slot *at = s + n;

    for (size_t l = 0; l < link_count; l++)
        at[l] = (slot){ 0 };
    for (size_t k = 0; k < n; k++) {
        at[guests[k].link].d += guests[k].weight;
        at[guests[k].link].i++;
    }
    for (size_t l = 0; l < link_count; l++)
        at[l].c = at[l].d;
    line_up(guests, n, s);
    for (size_t k = 0; k < n; k++) {
        const struct migbuf_planner_guest *g = &guests[s[k].i];
        double send = to_send(g, share_of(g, &links[g->link], at[g->link].d));

        plans[s[k].i].send_bytes = send;
        s[k].a = send / g->weight;
    }
    sort_slots(s, n, lower_id, guests);
    for (size_t k = 0; k < n; k++) {
        const struct migbuf_planner_guest *g = &guests[s[k].i];
        struct migbuf_planner_plan *p = &plans[s[k].i];
        slot *l = &at[g->link];

        l->b += (s[k].a - l->a) / part(&links[g->link], g->weight, migbuf__most(g->weight, l->c));
        l->a = s[k].a;
        l->c -= g->weight;
        p->release_s = migbuf__least(migbuf__most(l->b, o->interval_s), MIGBUF__MOST);
        p->place = (uint32_t)k;
        s[k].a = p->release_s;
    }
    if (link_count > 1)
        sort_slots(s, n, lower_place, plans);
}

/* M: as many as would run if the links were full, at least those that do. */
static double places(const struct migbuf_planner_link *links, size_t link_count, const slot *at)
{
    double sum = 0;

    for (size_t l = 0; l < link_count; l++)
        if (at[l].i)
            sum += migbuf__most((double)at[l].i, migbuf__most(1, links[l].bytes_per_s / links[l].flow_bytes_per_s));
    return sum;
}

/* From the last release to the first, then back: wishes, lines, growth. Returns how many were cut. */
static int share_out(const struct migbuf_planner_options *o, const struct migbuf_planner_guest *guests, size_t n,
                     double most, slot *s, struct migbuf_planner_plan *plans)
{
    struct heap h = { .s = s };
    double files = 0, level = INFINITY, front = 1 + 1 / (double)n;
    int cut = 0;

    for (size_t k = n; k-- > 0;) {
        const struct migbuf_planner_guest *g = &guests[s[k].i];
        struct migbuf_planner_plan *p = &plans[s[k].i];

        files += g->file_bytes;
        p->need_bytes = migbuf__growth(g->remaining, g->growth_ratio, g->rate, p->release_s);
        p->wish = migbuf__most(0, p->need_bytes / p->release_s - o->floor);
        p->line = line_at(o->capacity_bytes * (1 - o->newcomers * (most - (double)(n - k)) / most), files, p->release_s,
                          (double)(n - k), o->floor, front);
        s[k].c = chain_add(&h, p->wish, p->line, g->weight);
    }
    for (size_t k = 0; k < n; k++) {
        struct migbuf_planner_plan *p = &plans[s[k].i];

        level = migbuf__least(level, s[k].c);
        p->place = (uint32_t)k;
        p->growth = migbuf__least(migbuf__least(p->wish, p->line), level * guests[s[k].i].weight);
        p->cut = p->growth + NOTHING < GOT * p->wish;
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
        rate = migbuf__rate_for(g->remaining, g->growth_ratio, (p->growth + o->floor) * p->release_s, p->release_s);
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
    release_all(&o, links, link_count, guests, guest_count, scratch, plans);
    most = places(links, link_count, scratch + guest_count);
    cut = share_out(&o, guests, guest_count, most, scratch, plans);
    for (size_t k = 0; k < guest_count; k++) {
        const struct migbuf_planner_guest *g = &guests[k];
        const struct migbuf_planner_link *l = &links[g->link];
        double share = share_of(g, l, scratch[guest_count + g->link].d);

        plans[k].rate = rate_of(&o, g, &plans[k], share, cut, explores(&o, g, l, share, most));
    }
    return cut;
}

int migbuf_planner_set_value(double rate, double interval_s, double burst_s, double *value)
{
    int rc = value ? migbuf__amount(rate) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__positive(interval_s);
    if (!rc)
        rc = migbuf__finite(burst_s);
    if (!rc)
        *value = rate * (interval_s / (interval_s + burst_s));
    return rc;
}

/* Admission */

const char *migbuf_verdict_text(int32_t verdict)
{
    static const char *const text[] = { "unknown", "start", "its link is busy", "another one is before it",
                                        "the buffer has no room for it now" };

    return text[verdict >= 1 && verdict <= MIGBUF_VERDICT_NO_ROOM ? verdict : 0];
}

/* The queue of one link, in either order; and what runs, in any. */
static int earlier(const void *items, uint64_t i, uint64_t j)
{
    const struct migbuf_planner_flow *w = items;

    return w[i].arrival < w[j].arrival || (w[i].arrival == w[j].arrival && w[i].id < w[j].id);
}

static int smaller(const void *items, uint64_t i, uint64_t j)
{
    const struct migbuf_planner_flow *w = items;

    return w[i].disk_bytes < w[j].disk_bytes || (w[i].disk_bytes <= w[j].disk_bytes && earlier(items, i, j));
}

/* Link by link. */
static void line_up_flows(slot *s, const struct migbuf_planner_flow *flows, size_t n, tie_break *tie)
{
    for (size_t k = 0; k < n; k++) {
        s[k].a = flows[k].link;
        s[k].i = k;
    }
    sort_slots(s, n, tie, flows);
}

static int check_flows(const struct migbuf_planner_flow *f, size_t n, size_t link_count)
{
    for (size_t k = 0; k < n; k++) {
        int rc = f[k].link < link_count ? migbuf__flow(f[k].flow_bytes_per_s) : MIGBUF_E_RANGE;

        if (!rc)
            rc = f[k].reserved ? MIGBUF_E_INVALID : migbuf__amount(f[k].seconds);
        if (!rc)
            rc = migbuf__finite(f[k].disk_bytes);
        if (rc)
            return rc;
    }
    return 0;
}

/* What runs on one link, by the time it ends: a heap upside down, because heap_add has the tallest on top. */
struct link_at {
    struct heap ends; /* a: minus the time, b: the flow */
    double now;
};

static void let_one_end(struct link_at *at)
{
    struct heap *h = &at->ends;

    at->now = migbuf__most(at->now, -h->s[0].a);
    h->sum -= h->s[0].b;
    h->groups--;
    if (h->groups)
        heap_replace_top(h, h->s[h->groups].a, h->s[h->groups].b);
    else
        h->sum = 0;
}

/* What serves one link: those that run on it and its queue, both as slots whose i says which. */
struct service {
    const struct migbuf_planner_link *link;
    const struct migbuf_planner_flow *running, *waiting;
    const slot *runs, *queue;
    size_t n, m;
};

/* Serves a link's queue in order; returns how many start now. */
static int serve(const struct service *s, slot *heap, struct migbuf_planner_turn *turns)
{
    const double u = s->link->bytes_per_s;
    struct link_at at = { .ends = { .s = heap } };
    int starts = 0, open = 1;

    for (size_t k = 0; k < s->n; k++) {
        const struct migbuf_planner_flow *r = &s->running[s->runs[k].i];
        double flow = migbuf__least(r->flow_bytes_per_s, u);

        heap_add(&at.ends, -r->seconds, flow);
        at.ends.sum += flow;
    }
    for (size_t q = 0; q < s->m; q++) {
        const struct migbuf_planner_flow *w = &s->waiting[s->queue[q].i];
        struct migbuf_planner_turn *turn = &turns[s->queue[q].i];
        double flow = migbuf__least(w->flow_bytes_per_s, u);

        *turn = (struct migbuf_planner_turn){ .id = w->id, .place = (uint32_t)q, .link_bytes_per_s = LINK_NOISE * u };
        turn->wanted_bytes_per_s = at.ends.sum + IDLE_PART * flow;
        turn->verdict = open ? MIGBUF_VERDICT_START : MIGBUF_VERDICT_NOT_ITS_TURN;
        while (at.ends.groups && at.ends.sum + IDLE_PART * flow > turn->link_bytes_per_s) {
            if (open)
                turn->verdict = MIGBUF_VERDICT_LINK_BUSY;
            open = 0;
            let_one_end(&at);
        }
        starts += turn->verdict == MIGBUF_VERDICT_START;
        turn->earliest_s = at.now;
        heap_add(&at.ends, -(at.now + w->disk_bytes / flow), flow);
        at.ends.sum += flow;
    }
    return starts;
}

int migbuf_planner_admit(int32_t order, const struct migbuf_planner_link *links, size_t link_count,
                         const struct migbuf_planner_flow *running, size_t running_count,
                         const struct migbuf_planner_flow *waiting, size_t waiting_count, slot *scratch,
                         struct migbuf_planner_turn *turns)
{
    int starts = 0, rc = order == MIGBUF_ADMISSION_SHORTEST || order == MIGBUF_ADMISSION_FIFO ? 0 : MIGBUF_E_INVALID;
    slot *queue = scratch, *runs = scratch + waiting_count;

    if ((link_count && !links) || (running_count && !running) || (waiting_count && (!waiting || !scratch || !turns)))
        return MIGBUF_E_INVALID;
    for (size_t l = 0; l < link_count && !rc; l++)
        rc = check_link(&links[l]);
    if (!rc)
        rc = check_flows(running, running_count, link_count);
    if (!rc)
        rc = check_flows(waiting, waiting_count, link_count);
    if (rc || !waiting_count)
        return rc;
    line_up_flows(queue, waiting, waiting_count, order == MIGBUF_ADMISSION_SHORTEST ? smaller : earlier);
    line_up_flows(runs, running, running_count, earlier);
    for (size_t from = 0, q = 0, r = 0; q < waiting_count; from = q) {
        uint32_t l = waiting[queue[q].i].link;
        struct service s = { .link = &links[l], .running = running, .waiting = waiting, .queue = queue + q };

        while (q < waiting_count && waiting[queue[q].i].link == l)
            q++;
        s.m = q - from;
        while (r < running_count && running[runs[r].i].link < l)
            r++;
        s.runs = runs + r;
        while (r < running_count && running[runs[r].i].link == l)
            r++;
        s.n = (size_t)(runs + r - s.runs);
        starts += serve(&s, runs, turns); /* a heap moves a and b, and leaves i where it is */
    }
    return starts;
}
