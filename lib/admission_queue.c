/* SPDX-License-Identifier: MIT */
/* admission_queue: who of those that wait starts next on each link. Pure; formulas and reasons stand in admission.h. Knows
 * links and flows, nothing of the buffer's space: that is admission.c. */
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
static void line_up_flows(struct migbuf_planner_slot *slots, const struct migbuf_admission_flow *flows, size_t count,
                          migbuf__tie_break *tie)
{
    for (size_t k = 0; k < count; k++) {
        slots[k].number[SLOT_KEY] = flows[k].link;
        slots[k].index[SLOT_ITEM] = k;
    }
    migbuf__slots_sort(slots, count, tie, flows);
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

/* What runs on one link, by the time it ends: a heap upside down, because the tallest is on top of it. */
struct link_at {
    struct migbuf__heap ends; /* level: minus the seconds; weight: the flow */
    double now_s;
};

static void let_one_end(struct link_at *at)
{
    const struct migbuf_planner_slot *first = &at->ends.slots[0];

    at->now_s = migbuf__most(at->now_s, -first->number[SLOT_LEVEL]);
    at->ends.sum -= first->number[SLOT_WEIGHT];
    migbuf__heap_drop_top(&at->ends);
    if (!at->ends.groups)
        at->ends.sum = 0;
}

/* What serves one link: those that run on it and its queue, both as slots whose item says which. */
struct service {
    const struct migbuf_planner_link *link;
    const struct migbuf_admission_flow *running, *waiting;
    const struct migbuf_planner_slot *runs, *queue;
    size_t runs_count, queue_count;
};

/* Serves a link's queue in order; returns how many start now. */
static int serve(const struct service *s, struct migbuf_planner_slot *heap, struct migbuf_admission_turn *turns)
{
    const double link_bytes_per_s = s->link->bytes_per_s;
    struct link_at at = { .ends = { .slots = heap } };
    int starts = 0, open = 1;

    for (size_t k = 0; k < s->runs_count; k++) {
        const struct migbuf_admission_flow *r = &s->running[s->runs[k].index[SLOT_ITEM]];
        double flow = migbuf__least(r->flow_bytes_per_s, link_bytes_per_s);

        migbuf__heap_add(&at.ends, -r->seconds, flow);
        at.ends.sum += flow;
    }
    for (size_t q = 0; q < s->queue_count; q++) {
        const struct migbuf_admission_flow *w = &s->waiting[s->queue[q].index[SLOT_ITEM]];
        struct migbuf_admission_turn *turn = &turns[s->queue[q].index[SLOT_ITEM]];
        double flow = migbuf__least(w->flow_bytes_per_s, link_bytes_per_s);

        *turn = (struct migbuf_admission_turn){ .id = w->id, .place = (uint32_t)q,
                                                .link_bytes_per_s = LINK_NOISE * link_bytes_per_s };
        turn->wanted_bytes_per_s = at.ends.sum + IDLE_PART * flow;
        turn->verdict = open ? MIGBUF_VERDICT_START : MIGBUF_VERDICT_NOT_ITS_TURN;
        while (at.ends.groups && at.ends.sum + IDLE_PART * flow > turn->link_bytes_per_s) {
            if (open)
                turn->verdict = MIGBUF_VERDICT_LINK_BUSY;
            open = 0;
            let_one_end(&at);
        }
        starts += turn->verdict == MIGBUF_VERDICT_START;
        turn->earliest_s = at.now_s;
        migbuf__heap_add(&at.ends, -(at.now_s + w->disk_bytes / flow), flow);
        at.ends.sum += flow;
    }
    return starts;
}

int migbuf_admission_queue(int32_t order, const struct migbuf_planner_link *links, size_t link_count,
                         const struct migbuf_admission_flow *running, size_t running_count,
                         const struct migbuf_admission_flow *waiting, size_t waiting_count,
                         struct migbuf_planner_slot *scratch, struct migbuf_admission_turn *turns)
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
        uint32_t l = waiting[queue[q].index[SLOT_ITEM]].link;
        struct service s = { .link = &links[l], .running = running, .waiting = waiting, .queue = queue + q };

        while (q < waiting_count && waiting[queue[q].index[SLOT_ITEM]].link == l)
            q++;
        s.queue_count = q - from;
        while (r < running_count && running[runs[r].index[SLOT_ITEM]].link < l)
            r++;
        s.runs = runs + r;
        while (r < running_count && running[runs[r].index[SLOT_ITEM]].link == l)
            r++;
        s.runs_count = (size_t)(runs + r - s.runs);
        starts += serve(&s, runs, turns); /* a heap moves numbers, and leaves the items where they are */
    }
    return starts;
}
