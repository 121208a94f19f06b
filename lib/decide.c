/* SPDX-License-Identifier: MIT */
/* decide: from a budget to an action. Whether to pause or to resume, whether a change is worth a set (each empties QEMU's
 * bucket), and what is written to QEMU. Where the budget comes from is not asked here.
 *
 * What must stay true: what is put in force never lets through more than the budget, which its claim was made for; one that
 * is kept is no higher. What is not known to be in force is asked for again.
 *
 * What was in force is `old`; `now` becomes what is wanted. */
#include "decide.h"
#include "claims.h"
#include "geometry.h"
#include "in_force.h"
#include "learn.h"
#include "turns.h"
#include <math.h>

const char *migbuf_action_text(int32_t action)
{
    static const char *const text[] = { "unknown", "keep", "lower", "raise", "pause", "resume", "cannot fit",
                                        "rearm", "wait" };

    return text[action >= 1 && action <= MIGBUF_ACTION_WAIT ? action : 0];
}

const char *migbuf_reason_text(int32_t reason)
{
    static const char *const text[] = {
        "unknown",
        "the rate its bins allow",
        "its share of the link",
        "what its bins could hold until the next decision",
        "a migration that lends it room may write no more",
        "the agreed minimum",
        "what is free in the buffer, shared by all",
        "the buffer cannot hold the reserves for drains",
        "paused a moment ago",
        "its whole disk fits",
        "its part of the plan",
        "the plan holds without a throttle for it",
        "little is known of it yet",
        "its room is not free yet",
        "files were not measured, and may have grown",
        "not all can write all the time until their files are gone: it waits for its turn, or has it",
    };

    return text[reason >= 1 && reason <= MIGBUF_REASON_TURN ? reason : 0];
}

static void stand(const struct migbuf_buffer *b, struct entry *e)
{
    e->now = e->now.paused ? (struct setting){ .limited = 1, .paused = 1, .paused_at_ms = e->now.paused_at_ms,
                                               .still = e->now.still, .still_ms = e->now.still_ms }
                           : (struct setting){ .limited = 1, .paused = 1, .paused_at_ms = b->now_ms };
}

static int32_t stop(const struct migbuf_buffer *b, struct entry *e, int is_short)
{
    int stands = e->now.paused && !e->unknown;

    stand(b, e);
    if (is_short && b->unseen > 0 && (double)migbuf_bins_used(b->bins) + b->reserve <= (double)migbuf__bins_capacity(b->bins)) {
        e->reason = MIGBUF_REASON_UNSEEN; /* for all that is known it fits */
    } else if (is_short) {
        e->reason = MIGBUF_REASON_RESERVE;
        return MIGBUF_ACTION_CANNOT_FIT;
    }
    return stands ? MIGBUF_ACTION_KEEP : MIGBUF_ACTION_PAUSE;
}

/* Not for a moment: `stop` costs a drain. Nor for longer than was promised, where that costs more. Until then it is to stand, if
 * nobody knows whether it does. */
static int32_t go_on(const struct migbuf_buffer *b, struct entry *e, uint64_t units)
{
    double refill_ms = fmin(e->queue / ((double)units * (double)e->unit), migbuf__turns_between_s(b)) * 1000;

    if (units < 2 || (e->turn != TURN_WRITES && (double)(b->now_ms - e->now.paused_at_ms) < fmax(b->options.min_pause_ms, refill_ms))) {
        if (units >= 2)
            e->reason = MIGBUF_REASON_WAIT; /* else its budget holds it, and the reason says why */
        if (!e->unknown)
            return MIGBUF_ACTION_KEEP;
        stand(b, e);
        return MIGBUF_ACTION_PAUSE;
    }
    e->now = (struct setting){ .units = units, .limited = 1, .paused_at_ms = e->now.paused_at_ms };
    return MIGBUF_ACTION_RESUME;
}

/* An unchanged or slightly higher budget sends nothing; a lower one goes half that far further down: the same budget
 * again, or one that differs by little to either side, is kept then. What is not known to be in force is asked for. */
static int32_t change(const struct migbuf_buffer *b, struct entry *e, uint64_t units)
{
    uint64_t old = e->now.units, least = b->options.policy == MIGBUF_POLICY_LITERAL ? 1 : e->least_units, further;

    if (!e->now.limited || units < old) {
        further = units * (200 - b->options.hysteresis_percent) / 200;
        if (!e->now.limited)
            further = units;
        e->now.units = further > least ? further : least;
        e->now.limited = 1;
        e->now.none = 0;
        return MIGBUF_ACTION_LOWER;
    }
    if (units > old && units * 100 >= old * (100 + b->options.hysteresis_percent)) {
        e->now.units = units;
        return MIGBUF_ACTION_RAISE;
    }
    if (e->unknown)
        return MIGBUF_ACTION_LOWER;
    e->owed.again = migbuf__waits_too_long(b, e) ? 1 : 0;
    return e->owed.again ? MIGBUF_ACTION_REARM : MIGBUF_ACTION_KEEP;
}

/* Also where a stop was asked for, whatever was asked for since, and nobody knows what was carried out. */
static int may_stand(const struct entry *e)
{
    return e->now.paused || (e->unknown && (e->before.paused || e->pours));
}

static int32_t act(const struct migbuf_buffer *b, struct entry *e, uint64_t units, int is_short)
{
    struct setting old = e->now;
    int32_t action;

    if (!units || is_short)
        action = stop(b, e, is_short);
    else
        action = may_stand(e) ? go_on(b, e, units) : change(b, e, units);
    if (action == MIGBUF_ACTION_KEEP)
        return action;
    e->pours |= action == MIGBUF_ACTION_PAUSE || (action == MIGBUF_ACTION_CANNOT_FIT && !(old.paused && !e->unknown));
    migbuf__in_force_replace(e, &old, b->now_ms + b->options.lag_ms);
    return action;
}

void migbuf__decide(struct migbuf_buffer *b, struct entry *e, int is_short, struct migbuf_decision *out)
{
    int literal = b->options.policy == MIGBUF_POLICY_LITERAL;
    uint64_t step = literal ? 1 : e->step;
    double ratio = literal ? 1 : migbuf__ratio_of(e);
    uint64_t most = literal ? MIGBUF__THROTTLE_VALUE_MAX : e->most_units;
    double exactly = e->budget / ((double)step * ratio);
    uint64_t units = exactly < (double)most ? (uint64_t)exactly : most;

    if (e->joining) {
        e->reason = MIGBUF_REASON_ADMISSION;
        *out = (struct migbuf_decision){ .id = e->id, .action = MIGBUF_ACTION_WAIT, .reason = e->reason };
        return;
    }
    if (!literal && units < migbuf__lowest_units(e) &&
        e->budget >= (double)(migbuf__lowest_units(e) * step) * ratio * (1 - 1e-9))
        units = migbuf__lowest_units(e); /* sums and quotients of fractions are not always what they were made of */
    if (!literal && units < e->least_units)
        units = 0;
    if (!literal)
        migbuf__learn_owed(b, e);
    if (e->now.none && !e->unknown && (!units || is_short)) { /* who has nothing to write to need not be stopped */
        *out = (struct migbuf_decision){ .id = e->id, .action = MIGBUF_ACTION_WAIT, .reason = e->reason };
        return;
    }
    *out = (struct migbuf_decision){ .id = e->id, .action = act(b, e, units, is_short) };
    out->reason = e->reason;
    out->growth_bytes_per_s = e->now.units * step;
    if (literal)
        out->limits.bps_wr = e->now.units;
    else
        migbuf__limits_of(e->now.units, e->now.units * e->unit, e->smallest_unit, e->step != e->unit, &out->limits);
}
