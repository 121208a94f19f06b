/* SPDX-License-Identifier: MIT */
/* admission: who starts next, on its link (admission_queue) and in the space of a buffer. Reads a buffer, changes nothing in
 * it. */
#include "claims.h"
#include "memory.h"
#include "number.h"
#include "space.h"
#include "trial.h"
#include <string.h>

#define MOST_WAITING (UINT32_C(1) << 30) /* as the planner */

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
        rc = migbuf__buffer_entry(&b->options, &e, &given, disks, disk_count);
    if (rc)
        return rc;
    *w = (struct migbuf_waiting){ .id = given.id, .link = given.link, .flow_bytes_per_s = e.flow,
                                  .file_bytes = (double)given.file_bytes, .whole_bytes = e.whole,
                                  .unit_bytes = (double)e.unit, .weight = given.weight,
                                  .need_bytes = migbuf__least_bytes(b, &e, (double)given.file_bytes),
                                  .reserve_bytes = migbuf__reserve_of(&e, (double)given.file_bytes),
                                  .rate = (double)given.rate_bytes_per_s };
    for (size_t k = 0; k < disk_count; k++)
        w->disk_bytes += (double)disks[k].virtual_bytes;
    return 0;
}

/* Space in the buffer */

/* A slot's numbers: an end's seconds from now, and the bytes that come free then; of a link, whether its head waits for space,
 * and when it will have (-1 before). Its indices: who runs at this place, or how many wait at earlier ones; who waits. One
 * slot may be all of these at a time. */
enum { END_S, END_BYTES, HEAD_WAITS_FOR_SPACE, HEAD_STARTS_S };
enum { BEFORE, WAITING, RUNNING = BEFORE };

/* Those that run on known links, by the time they end. Returns how many. */
static size_t releases(const struct migbuf_buffer *b, struct trial *t, struct migbuf_planner_slot *ends)
{
    size_t known = 0;

    for (size_t i = 0; i < t->guests; i++)
        t->slot[t->plan[i].place].index[RUNNING] = i;
    for (size_t place = 0; place < t->guests; place++) {
        size_t i = (size_t)t->slot[place].index[RUNNING];

        if (migbuf__trial_link_is_known(b, b->entries[i].link_at)) {
            ends[known].number[END_S] = t->plan[i].finish_s;
            ends[known++].number[END_BYTES] = migbuf__least_bytes(b, &b->entries[i], t->guest[i].file_bytes);
        }
    }
    return known;
}

/* Those that wait, by place, then as they were given: in the slots' WAITING. */
static void by_place(const struct migbuf_admission_turn *turns, size_t count, struct migbuf_planner_slot *s)
{
    size_t before = 0;

    for (size_t k = 0; k < count; k++)
        s[k].index[BEFORE] = 0;
    for (size_t k = 0; k < count; k++)
        s[turns[k].place].index[BEFORE]++;
    for (size_t place = 0; place < count; place++) {
        size_t here = (size_t)s[place].index[BEFORE];

        s[place].index[BEFORE] = before;
        before += here;
    }
    for (size_t k = 0; k < count; k++)
        s[s[turns[k].place].index[BEFORE]++].index[WAITING] = k;
}

/* Bytes that come free, and what of it is not promised yet. */
struct future {
    const struct migbuf_planner_slot *ends;
    size_t count, next;
    double at_s, have, rest; /* have: at that time; rest: of those that end later */
};

/* Seconds until so much is free for one more; INFINITY: nobody knows. */
static double promise(struct future *f, double bytes)
{
    if (bytes > f->have + f->rest + 1) /* sums of fractions of bytes */
        return INFINITY;
    while (bytes > f->have && f->next < f->count) {
        f->have += f->ends[f->next].number[END_BYTES];
        f->rest -= f->ends[f->next].number[END_BYTES];
        f->at_s = f->ends[f->next++].number[END_S];
    }
    f->have -= bytes;
    return f->at_s;
}

/* Space for those whose turn it is, in the order of their places. Returns how many have it. Who has none is told when it
 * may have some, and nobody on its link overtakes it. */
static int fit(const struct migbuf_buffer *b, struct trial *t, const struct migbuf_waiting *w,
               const struct migbuf_admission_flow *queue, size_t count, struct migbuf_admission_turn *turns)
{
    struct future f = { .ends = t->slot + t->guests, .have = migbuf__space_free(b) };
    struct migbuf_planner_slot *s = t->slot;
    int starts = 0;

    f.count = releases(b, t, t->slot + t->guests);
    for (size_t k = 0; k < f.count; k++)
        f.rest += f.ends[k].number[END_BYTES];
    by_place(turns, count, s);
    for (size_t l = 0; l < t->links; l++) {
        s[l].number[HEAD_WAITS_FOR_SPACE] = 0;
        s[l].number[HEAD_STARTS_S] = -1;
    }
    for (size_t q = 0; q < count; q++) {
        size_t k = (size_t)s[q].index[WAITING];

        if (turns[k].verdict != MIGBUF_VERDICT_START || s[queue[k].link].number[HEAD_WAITS_FOR_SPACE] > 0)
            continue;
        if (w[k].need_bytes <= f.have) {
            f.have -= w[k].need_bytes;
            starts++;
        } else {
            turns[k].verdict = MIGBUF_VERDICT_NO_ROOM;
            s[queue[k].link].number[HEAD_WAITS_FOR_SPACE] = 1;
        }
    }
    for (size_t q = 0; q < count; q++) {
        size_t k = (size_t)s[q].index[WAITING];
        double *head = &s[queue[k].link].number[HEAD_STARTS_S];

        if (turns[k].verdict == MIGBUF_VERDICT_NO_ROOM) {
            turns[k].earliest_s = *head = promise(&f, w[k].need_bytes);
        } else if (*head >= 0) {
            turns[k].verdict = MIGBUF_VERDICT_NOT_ITS_TURN;
            turns[k].earliest_s += *head;
        }
    }
    return starts;
}

MIGBUF__SELDOM int migbuf_admission_turns(const struct migbuf_buffer *b, int32_t order, const struct migbuf_waiting *waiting,
                                          size_t count, struct migbuf_admission_turn *turns)
{
    struct migbuf_admission_flow *queue;
    struct trial t;
    int rc = 0;

    if (!b || (order != MIGBUF_ADMISSION_SHORTEST && order != MIGBUF_ADMISSION_FIFO) || (count && (!waiting || !turns)))
        return MIGBUF_E_INVALID;
    if (count > MOST_WAITING)
        return MIGBUF_E_RANGE;
    for (size_t k = 0; k < count && !rc; k++)
        rc = migbuf__check_waiting(&waiting[k]);
    if (!rc && count)
        rc = migbuf__trial_new(b, count, &t);
    if (rc || !count)
        return rc;
    rc = migbuf__trial_settle(&t);
    if (!rc)
        rc = migbuf__trial_hold(&t);
    for (size_t i = 0; i < t.guests && !rc; i++)
        t.flow[i] = (struct migbuf_admission_flow){ .id = b->entries[i].id, .link = b->entries[i].link_at,
                                                  .flow_bytes_per_s = b->entries[i].flow, .seconds = t.plan[i].finish_s };
    queue = t.flow + t.guests;
    migbuf__trial_link_table(b, &t);
    for (size_t k = 0; k < count && !rc; k++)
        queue[k] = (struct migbuf_admission_flow){ .id = waiting[k].id,
                                                 .link = migbuf__trial_link_index(&t, waiting[k].link),
                                                 .flow_bytes_per_s = waiting[k].flow_bytes_per_s,
                                                 .disk_bytes = waiting[k].disk_bytes, .arrival = waiting[k].arrival };
    if (!rc)
        rc = migbuf_admission_queue(order, t.link, t.links, t.flow, t.guests, queue, count, t.slot, turns);
    if (rc >= 0) {
        for (size_t k = 0; k < count; k++)
            if (turns[k].verdict != MIGBUF_VERDICT_START && !migbuf__trial_link_is_known(b, queue[k].link))
                turns[k].earliest_s = INFINITY;
        rc = b->options.policy == MIGBUF_POLICY_LITERAL ? rc : fit(b, &t, waiting, queue, count, turns);
    }
    migbuf__trial_free(b, &t);
    return rc;
}
