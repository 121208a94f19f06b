/* SPDX-License-Identifier: MIT */
/* admission_queue: who of those that wait starts next on each link. Pure; formulas and reasons stand in admission.h. Knows
 * links and flows, nothing of the buffer's room: that is admission.c. */
#include "migbuf/admission.h"
#include "forecast.h"
#include "number.h"
#include "planner.h"
#include "slots.h"

#define IDLE_PART 0.5 /* of a flow that must find idle link */
#define LINK_NOISE 1.05

const char *migbuf_verdict_text(int32_t verdict)
{
    static const char *const text[] = { "unknown", "start", "its link is busy", "another one is before it",
                                        "the buffer has no room for it now" };

    return text[verdict >= 1 && verdict <= MIGBUF_VERDICT_NO_ROOM ? verdict : 0];
}

/* The queue of one link, in either order; and what runs, in any. */
static int earlier(const void *items, uint64_t i, uint64_t j)
{
    const struct migbuf_admission_flow *w = items;

    return w[i].arrival < w[j].arrival || (w[i].arrival == w[j].arrival && w[i].id < w[j].id);
}

static int smaller(const void *items, uint64_t i, uint64_t j)
{
    const struct migbuf_admission_flow *w = items;

    return w[i].disk_bytes < w[j].disk_bytes || (w[i].disk_bytes <= w[j].disk_bytes && earlier(items, i, j));
}

/* Link by link. */
static void line_up_flows(struct migbuf_planner_slot *s, const struct migbuf_admission_flow *flows, size_t n, migbuf__tie_break *tie)
{
    for (size_t k = 0; k < n; k++) {
        s[k].a = flows[k].link;
        s[k].i = k;
    }
    migbuf__slots_sort(s, n, tie, flows);
}

static int check_flows(const struct migbuf_admission_flow *f, size_t n, size_t link_count)
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

/* What runs on one link, by the time it ends: a heap upside down, because migbuf__heap_add has the tallest on top. */
struct link_at {
    struct migbuf__heap ends; /* a: minus the time, b: the flow */
    double now;
};

static void let_one_end(struct link_at *at)
{
    struct migbuf__heap *h = &at->ends;

    at->now = migbuf__most(at->now, -h->s[0].a);
    h->sum -= h->s[0].b;
    h->groups--;
    if (h->groups)
        migbuf__heap_replace_top(h, h->s[h->groups].a, h->s[h->groups].b);
    else
        h->sum = 0;
}

/* What serves one link: those that run on it and its queue, both as slots whose i says which. */
struct service {
    const struct migbuf_planner_link *link;
    const struct migbuf_admission_flow *running, *waiting;
    const struct migbuf_planner_slot *runs, *queue;
    size_t n, m;
};

/* Serves a link's queue in order; returns how many start now. */
static int serve(const struct service *s, struct migbuf_planner_slot *heap, struct migbuf_admission_turn *turns)
{
    const double u = s->link->bytes_per_s;
    struct link_at at = { .ends = { .s = heap } };
    int starts = 0, open = 1;

    for (size_t k = 0; k < s->n; k++) {
        const struct migbuf_admission_flow *r = &s->running[s->runs[k].i];
        double flow = migbuf__least(r->flow_bytes_per_s, u);

        migbuf__heap_add(&at.ends, -r->seconds, flow);
        at.ends.sum += flow;
    }
    for (size_t q = 0; q < s->m; q++) {
        const struct migbuf_admission_flow *w = &s->waiting[s->queue[q].i];
        struct migbuf_admission_turn *turn = &turns[s->queue[q].i];
        double flow = migbuf__least(w->flow_bytes_per_s, u);

        *turn = (struct migbuf_admission_turn){ .id = w->id, .place = (uint32_t)q, .link_bytes_per_s = LINK_NOISE * u };
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
        migbuf__heap_add(&at.ends, -(at.now + w->disk_bytes / flow), flow);
        at.ends.sum += flow;
    }
    return starts;
}

int migbuf_admission_queue(int32_t order, const struct migbuf_planner_link *links, size_t link_count,
                         const struct migbuf_admission_flow *running, size_t running_count,
                         const struct migbuf_admission_flow *waiting, size_t waiting_count, struct migbuf_planner_slot *scratch,
                         struct migbuf_admission_turn *turns)
{
    int starts = 0, rc = order == MIGBUF_ADMISSION_SHORTEST || order == MIGBUF_ADMISSION_FIFO ? 0 : MIGBUF_E_INVALID;
    struct migbuf_planner_slot *queue = scratch, *runs = scratch + waiting_count;

    if ((link_count && !links) || (running_count && !running) || (waiting_count && (!waiting || !scratch || !turns)))
        return MIGBUF_E_INVALID;
    for (size_t l = 0; l < link_count && !rc; l++)
        rc = migbuf__planner_check_link(&links[l]);
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
