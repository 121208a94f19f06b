/* SPDX-License-Identifier: MIT */
/* turns: a rate below the smallest limit, made of pauses. QEMU knows no limit below one request a second. Where Ω cannot hold
 * even that for everybody until the files are gone, guests stand, and each is let write for one tick, in turn: who has stood
 * longest first, as often as what is free lasts. What the promised longest stall needs is kept from larger limits before.
 *
 * What must stay true: whoever has its turn finds its claim free beside those of all who run. */
#include "turns.h"
#include "memory.h"
#include "policy.h"
#include "slots.h"
#include "space.h"
#include <math.h>

#define AHEAD 100 /* times P: nobody stands for the sake of what lies further ahead, which a slow link puts anywhere */
#define MANY 32   /* of more who leave one after the other, only some are looked at */
#define LOOKS 8
#define SLOWER 1.25
#define SPARE 0.8 /* of the promise: where what is free turns out to be less, turns may come more seldom once */

/* Times in ms beside those when somebody stopped. */
#define NOW 1e18
#define NOT_NOW (-1.0)

/* Of a migration's own slot: bytes/s that it grows by while it runs, and bytes by one turn. Sorting leaves them there. In line,
 * beside its key: RUNS again, or IN_TURN. */
enum { RUNS = SLOT_OTHER, TURN = SLOT_LAST, IN_LINE = SLOT_KEY_ASIDE };
#define IN_TURN (-1.0)

/* Who stands is let write before the longest stall is over: by then a tick has to come, and to land. And the stall began with
 * the turn before: a write from its beginning is poured by the stop at its end, and the guest hears of that in its next turn. */
double migbuf__turns_between_s(const struct migbuf_buffer *b)
{
    double stall_s = migbuf__max_stall_ms(&b->options) / 1000.0;

    return SPARE * migbuf__most(stall_s - b->late_interval_s - b->options.interval_ms / 1000.0, stall_s / 2);
}

static double ahead_s(const struct migbuf_buffer *b)
{
    return AHEAD * migbuf__turns_between_s(b);
}

/* Until its files are gone; INFINITY where nobody said what its link carries. The plan knows who leaves the link before that,
 * and this here that nobody writes much meanwhile: neither is less than it takes. */
static double away_s(const struct migbuf_buffer *b, const struct entry *e)
{
    const struct link *l = &b->links[e->link_at];
    double bytes = migbuf__most_of(e), share = e->flow;

    if (l->bytes_per_s)
        share = migbuf__least(share, (double)l->bytes_per_s * e->weight / (double)(l->weights - l->waiting));
    for (uint32_t k = 0; k < e->disk_count; k++)
        bytes += (double)e->measured[k].remaining_bytes;
    return migbuf__least(isinf(share) ? INFINITY : migbuf__most(bytes / share, b->options.interval_ms / 1000.0), e->plan.finish_s);
}

/* Keys of the slots: when whose files are gone. INFINITY of who is not there yet. */
static void foresee(const struct migbuf_buffer *b, const struct scratch *s)
{
    for (uint32_t i = 0; i < b->count; i++)
        s->slot[i].number[SLOT_KEY] = b->entries[i].joining ? INFINITY : away_s(b, &b->entries[i]);
}

double migbuf__turns_bound(const struct migbuf_buffer *b, const struct scratch *s)
{
    double rate = 0, claim = 0, last_s = 0;
    int stand = 0;

    foresee(b, s);
    for (uint32_t i = 0; i < b->count; i++) {
        double away = s->slot[i].number[SLOT_KEY];

        stand |= b->entries[i].now.paused;
        if (isinf(away))
            continue;
        rate += migbuf__least_growth(&s->growing[i]);
        claim = migbuf__most(claim, s->growing[i].least_bytes);
        last_s = migbuf__most(last_s, away);
    }
    return stand ? INFINITY : claim + rate * migbuf__least(last_s, ahead_s(b));
}

/* In line, who is gone first in front. Nothing is kept for whom nobody can say when that is. */
static void line_up(const struct migbuf_buffer *b, const struct scratch *s)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->entries[i];
        double away = s->slot[i].number[SLOT_KEY], rate = migbuf__least_growth(&s->growing[i]);
        double need = b->options.policy == MIGBUF_POLICY_PLANNER ? e->plan.need_bytes : migbuf__missing(e);

        s->slot[i].index[SLOT_ITEM] = i;
        s->slot[i].number[RUNS] = isinf(away) ? 0 : migbuf__least(rate, need / migbuf__least(away, ahead_s(b)));
        s->slot[i].number[TURN] = e->queue + rate * b->options.interval_ms / 1000.0;
    }
    migbuf__slots_sort(s->slot, b->count, NULL, NULL);
}

/* How many turns it needs within that time if it is to stand no longer than `every_s` at once. Who runs has one now. */
static double turns_in(const struct migbuf_buffer *b, const struct entry *e, double time_s, double every_s)
{
    double stood_s = e->now.paused ? (double)(b->now_ms - e->now.paused_at_ms) / 1000 : 0;

    return migbuf__most(ceil((stood_s + time_s) / every_s) - 1, 0) + !e->now.paused;
}

/* Where not all can run: for whom turns take less than running does, the stop of who stands included. */
static int is_to_stand(const struct migbuf_buffer *b, const struct entry *e, const struct migbuf_planner_slot *own, double away,
                       double every_s)
{
    double turn = own->number[TURN] * (1 + 1e-9); /* rounded alike, but not the same */
    double runs = own->number[RUNS] * away + (e->now.paused ? e->queue : 0);

    return runs > turn && runs > turn * turns_in(b, e, away, every_s);
}

/* Marks who is to stand if turns come so often; 0: nobody is. */
static void mark(const struct migbuf_buffer *b, const struct scratch *s, double every_s)
{
    for (uint32_t k = 0; k < b->count; k++) {
        uint64_t i = s->slot[k].index[SLOT_ITEM];
        double away = migbuf__least(s->slot[k].number[SLOT_KEY], ahead_s(b));
        int stands = every_s > 0 && is_to_stand(b, &b->entries[i], &s->slot[i], away, every_s);

        b->entries[i].turn = stands ? TURN_STANDS : TURN_NONE;
        s->slot[k].number[IN_LINE] = stands ? IN_TURN : s->slot[i].number[RUNS];
    }
}

/* What those who are not gone yet grow by until slot k's files are. Who runs and is to stand gives back what is kept for its
 * drains; one at a time needs that, for its turn. */
static double needed_until(const struct migbuf_buffer *b, const struct scratch *s, uint32_t k, double every_s)
{
    double away = migbuf__least(s->slot[k].number[SLOT_KEY], ahead_s(b)), bytes = 0, claim = 0;

    for (; k < b->count; k++) {
        if (s->slot[k].number[IN_LINE] >= 0) {
            bytes += s->slot[k].number[IN_LINE] * away;
        } else {
            uint64_t i = s->slot[k].index[SLOT_ITEM];
            const struct entry *e = &b->entries[i];
            double turn = s->slot[i].number[TURN], drains = e->now.paused ? 0 : migbuf__drains_of(e);

            bytes += turn * turns_in(b, e, away, every_s) - drains;
            claim = migbuf__most(claim, s->growing[i].least_bytes - turn + drains);
        }
    }
    return bytes + claim;
}

/* What must be kept if those that are to stand have turns so often. Of many who leave, not each is looked at. */
static double kept_for(const struct migbuf_buffer *b, const struct scratch *s, double every_s)
{
    uint32_t step = b->count <= MANY ? 1 : b->count / LOOKS + 1;
    double kept = 0, gone_bytes = 0;

    mark(b, s, every_s);
    for (uint32_t k = 0; k < b->count; k++) {
        const struct entry *e = &b->entries[s->slot[k].index[SLOT_ITEM]];

        if (k % step == 0)
            kept = migbuf__most(kept, needed_until(b, s, k, every_s) - gone_bytes);
        gone_bytes += migbuf__most_of(e) + e->reserve;
    }
    return kept;
}

MIGBUF__SELDOM double migbuf__turns_avoided(struct migbuf_buffer *b, const struct scratch *s)
{
    foresee(b, s);
    line_up(b, s);
    return kept_for(b, s, 0);
}

MIGBUF__SELDOM double migbuf__turns_avoided_of_new(const struct migbuf_buffer *b, const struct scratch *s, uint32_t i)
{
    const struct entry *e = &b->entries[i];
    double away = away_s(b, e);

    return isinf(away) ? 0 : migbuf__least(migbuf__least_growth(&s->growing[i]) * migbuf__least(away, ahead_s(b)), migbuf__missing(e));
}

/* The keys are those of the bound. As long as what is free holds turns as often as was promised, nobody stands; and
 * who stands does so until it holds twice as many, for each stop costs a drain. Where it does not hold that many, they come
 * more seldom. */
MIGBUF__SELDOM double migbuf__turns_plan(struct migbuf_buffer *b, const struct scratch *s)
{
    double every_s = migbuf__turns_between_s(b), free_bytes = migbuf__most(b->grantable, 0), kept_bytes;
    int stand = 0;

    for (uint32_t i = 0; i < b->count; i++)
        stand |= b->entries[i].now.paused;
    line_up(b, s);
    kept_bytes = kept_for(b, s, every_s);
    b->period_s = 0;
    if ((stand ? kept_for(b, s, every_s / 2) : kept_bytes) > free_bytes)
        for (b->period_s = every_s; kept_for(b, s, b->period_s) > free_bytes && b->period_s < AHEAD * every_s;)
            b->period_s *= SLOWER;
    return kept_bytes;
}

/* When it had its last turn, of one that may have one now. NOW: it runs, and something is kept for those that stand. */
static double asks_since(const struct migbuf_buffer *b, const struct entry *e)
{
    double wait_ms = (b->period_s > 0 ? b->period_s : migbuf__turns_between_s(b)) * 1000;

    if (e->now.none)
        return 0;
    if (!e->now.paused)
        return b->period_s > 0 || isinf(away_s(b, e)) ? NOT_NOW : NOW;
    return (double)(b->now_ms - e->now.paused_at_ms) >= migbuf__most(wait_ms, b->options.min_pause_ms)
               ? (double)e->now.paused_at_ms
               : NOT_NOW;
}

/* Who stands has its turn first. Who runs goes on if that leaves what is kept. */
void migbuf__turns_give(struct migbuf_buffer *b, const struct scratch *s, double kept_bytes)
{
    double left = b->grantable;
    uint32_t asking = 0;

    for (uint32_t i = 0; i < b->count; i++) {
        struct entry *e = &b->entries[i];
        const struct migbuf__growing *g = &s->growing[i];
        double budget = migbuf__missing(e) > 0 ? migbuf__least(e->budget, migbuf__space_level_of(b, g)) : e->budget;

        if (e->joining)
            continue;
        if ((e->turn == TURN_NONE || b->period_s <= 0) && budget >= migbuf__least_growth(g) * (1 - 1e-9)) {
            e->turn = TURN_NONE;
            left -= g->fixed + migbuf__least(s->amount[i], s->weight[i] * budget);
            continue;
        }
        e->turn = TURN_STANDS;
        s->slot[asking].number[SLOT_KEY] = asks_since(b, e);
        s->slot[asking].index[SLOT_ITEM] = i;
        asking += s->slot[asking].number[SLOT_KEY] >= 0;
    }
    migbuf__slots_sort(s->slot, asking, NULL, NULL);
    for (uint32_t k = 0; k < asking; k++) {
        uint64_t i = s->slot[k].index[SLOT_ITEM];
        double need = s->growing[i].least_bytes;

        if (need + (s->slot[k].number[SLOT_KEY] >= NOW ? kept_bytes - 1 : 0) > left) /* less one: sums of fractions of bytes */
            continue;
        left -= need;
        b->entries[i].turn = TURN_WRITES;
    }
}

void migbuf__turn(const struct migbuf_buffer *b, const struct scratch *s, struct entry *e, uint32_t i)
{
    e->reason = e->turn == TURN_WRITES || b->period_s > 0 ? MIGBUF_REASON_TURN : MIGBUF_REASON_SPACE;
    e->budget = e->turn == TURN_WRITES ? migbuf__least_growth(&s->growing[i]) : 0;
    e->claim = e->turn == TURN_WRITES ? s->growing[i].least_bytes : 0;
}
