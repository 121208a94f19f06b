/* SPDX-License-Identifier: MIT */
/* ram: the memory phase of one VM's migration: what a caller asks of it, and where it stands. Decides no command and takes no
 * answer: ram_next.c and ram_answer.c. No I/O.
 *
 * What must stay true in all of them:
 *  - migrate_cancel is never sent once the target may have the guest (migbuf__ram_may_cancel);
 *  - `cont` is never sent to a side while the other may run the guest (migbuf__ram_settle);
 *  - what is host's own is never something we sent;
 *  - nothing is set that was not agreed. */
#include "ram.h"
#include "memory.h"
#include "number.h"
#include "text.h"
#include <string.h>

static const struct migbuf_ram_options usual = { .max_bandwidth_bytes_per_s = UINT64_C(17179869184), .fix_ms = 50, .sides = 3 };

int migbuf_ram_options_init(struct migbuf_ram_options *o, uint64_t size)
{
    return migbuf__struct_init(o, size, &usual, sizeof usual, MIGBUF__FIRST(struct migbuf_ram_options, reserved));
}

static int is_power_of_two(uint64_t x)
{
    return !(x & (x - 1));
}

static int take_options(struct migbuf_ram_options *to, const struct migbuf_ram_options *o)
{
    int rc = 0;

    *to = usual;
    if (o)
        rc = migbuf__struct_take(to, sizeof *to, o, MIGBUF__FIRST(struct migbuf_ram_options, reserved));
    if (rc)
        return rc;
    if (to->sides < 1 || to->sides > 3 || !is_power_of_two(to->xbzrle_cache_bytes))
        return MIGBUF_E_INVALID;
    return to->multifd_channels > 255 ? MIGBUF_E_RANGE : to->reserved ? MIGBUF_E_STRUCT : 0;
}

#define STREAM_BYTES_PER_S 1.2e9 /* one TCP connection's */

int migbuf_ram_options_choose(struct migbuf_ram_options *o, const struct migbuf_agreement *a, const struct migbuf_prior *prior,
                              int32_t verdict, double link_bytes_per_s, uint64_t host_ram_bytes)
{
    struct migbuf_ram_options x;
    struct migbuf_prior p;
    uint64_t cache = 4096;
    int rc = o && a && prior ? take_options(&x, o) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf_agreement_check(a);
    if (!rc)
        rc = migbuf__struct_take(&p, sizeof p, prior, MIGBUF__FIRST(struct migbuf_prior, reserved));
    if (!rc)
        rc = migbuf__finite(link_bytes_per_s);
    if (!rc)
        rc = migbuf__number(p.set_bytes, 0, 1e18);
    if (!rc)
        rc = migbuf__finite(p.encoding);
    if (rc)
        return rc;
    while ((double)cache < 1.1 * p.set_bytes)
        cache *= 2;
    x.xbzrle_cache_bytes = p.attempts && p.encoding <= 0.7 && verdict != MIGBUF_RAM_YES && cache <= host_ram_bytes / 10 ? cache : 0;
    x.multifd_channels = 0;
    if (link_bytes_per_s > STREAM_BYTES_PER_S && !a->postcopy && !x.one_way && !x.xbzrle_cache_bytes)
        x.multifd_channels = (uint32_t)migbuf__least(ceil(link_bytes_per_s / STREAM_BYTES_PER_S), 16);
    return migbuf__struct_give(o, &x, sizeof x, MIGBUF__FIRST(struct migbuf_ram_options, reserved));
}

int migbuf_ram_new(const struct migbuf_agreement *agreement, const struct migbuf_ram_options *options,
                   const struct migbuf_allocator *allocator, struct migbuf_ram **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_agreement agreed = { .size = 0 };
    struct migbuf_ram_options o;
    struct migbuf_ram *r;
    int rc = out ? migbuf_agreement_check(agreement) : MIGBUF_E_INVALID;

    if (!rc)
        rc = migbuf__struct_take(&agreed, sizeof agreed, agreement, MIGBUF__FIRST(struct migbuf_agreement, reserved));
    if (!rc)
        rc = take_options(&o, options);
    if (rc)
        return rc;
    r = migbuf__resize(&a, NULL, 0, 1, sizeof *r);
    if (!r)
        return MIGBUF_E_NOMEM;
    memset(r, 0, sizeof *r);
    r->allocator = a;
    r->agreement = agreed;
    r->options = o;
    r->backoff_s = 1;
    for (int k = 0; k < 2; k++)
        r->side[k].here = o.sides >> k & 1;
    *out = r;
    return 0;
}

void migbuf_ram_free(struct migbuf_ram *r)
{
    struct migbuf_allocator a;

    if (!r)
        return;
    a = r->allocator;
    migbuf__free(&a, r, sizeof *r);
}

/* Asking for something */

/* What the last try came to is no reason to leave out the next one. */
static void begin(struct migbuf_ram *r)
{
    r->halted = r->failed = r->idle = 0;
}

int migbuf__ram_learnt(const struct migbuf_ram *r)
{
    for (int k = 0; k < 2; k++)
        if (migbuf__ram_there(&r->side[k]) && (r->side[k].answered & (ASK_CAPS | ASK_PARS)) != (ASK_CAPS | ASK_PARS))
            return 0;
    return 1;
}

int migbuf_ram_learn(struct migbuf_ram *r)
{
    if (!r)
        return MIGBUF_E_INVALID;
    if (r->stage != STAGE_IDLE)
        return MIGBUF_E_STATE;
    begin(r);
    for (int k = 0; k < 2; k++)
        r->side[k].ask = ASK_CAPS | ASK_PARS | ASK_PHASE | ASK_STATUS;
    return 0;
}

int migbuf_ram_uri(struct migbuf_ram *r, const char *source_uri, const char *target_uri)
{
    const char *const uri[2] = { source_uri, target_uri };

    if (!r)
        return MIGBUF_E_INVALID;
    for (int k = 0; k < 2; k++)
        if (uri[k] && strlen(uri[k]) >= MIGBUF__URI_BYTES)
            return MIGBUF_E_TOO_BIG;
    for (int k = 0; k < 2; k++)
        if (uri[k] && !migbuf__is_utf8(uri[k])) /* no JSON */
            return MIGBUF_E_INVALID;
    for (int k = 0; k < 2; k++)
        if (uri[k])
            memcpy(r->side[k].uri, uri[k], strlen(uri[k]) + 1);
    r->text_revision++;
    return 0;
}

int migbuf_ram_start(struct migbuf_ram *r, const char *source_uri, const char *target_uri)
{
    const struct side *s;
    int rc;

    if (!r)
        return MIGBUF_E_INVALID;
    s = &r->side[MIGBUF_RAM_SOURCE];
    if (r->stage != STAGE_IDLE || !migbuf__ram_learnt(r) || r->under_way || s->gone || r->side[MIGBUF_RAM_TARGET].gone)
        return MIGBUF_E_STATE;
    if (s->here && (migbuf__ram_runs(s->phase) || s->left))
        return MIGBUF_E_STATE;
    if (s->here && !(s->known & CAP(PAUSE)))
        return MIGBUF_E_UNSUPPORTED;
    rc = migbuf_ram_uri(r, source_uri, target_uri);
    if (rc)
        return rc;
    begin(r);
    r->stage = STAGE_ARMING;
    r->restoring = 0;
    r->was_running = s->running;
    r->phase_before = s->phase;
    migbuf__ram_arm(r);
    return 0;
}

static int pass_time(struct migbuf_ram *r, uint64_t now_ms)
{
    if (now_ms < r->now_ms)
        return MIGBUF_E_CLOCK;
    r->now_ms = now_ms;
    return 0;
}

int migbuf_ram_look(struct migbuf_ram *r, uint64_t now_ms)
{
    int rc = r ? pass_time(r, now_ms) : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    begin(r);
    migbuf__ram_ask(r);
    return 0;
}

/* What an event says of a phase is believed where it is no less than what was known: post-copy. */
static void hear_phase(struct migbuf_ram *r, int32_t side, int32_t phase)
{
    struct side *s = &r->side[side];

    if (phase == MIGBUF_RAM_PHASE_POSTCOPY || phase == MIGBUF_RAM_PHASE_PAUSED || phase == MIGBUF_RAM_PHASE_RECOVER) {
        r->text_revision += !r->post_seen;
        r->post_seen = 1;
        s->phase = phase;
    }
    if (phase == MIGBUF_RAM_PHASE_COMPLETED && side == MIGBUF_RAM_TARGET && s->here)
        s->ask |= ASK_PHASE | ASK_STATUS;
}

int migbuf_ram_event(struct migbuf_ram *r, int32_t side, int32_t event, int32_t phase, uint64_t now_ms)
{
    int rc = r && (side == MIGBUF_RAM_SOURCE || side == MIGBUF_RAM_TARGET) && event >= MIGBUF_RAM_EVENT_MIGRATION &&
                     event <= MIGBUF_RAM_EVENT_RESUME && phase >= 0 && phase <= MIGBUF_RAM_PHASE_OTHER
                 ? pass_time(r, now_ms)
                 : MIGBUF_E_INVALID;

    if (rc || r->stage != STAGE_RUNNING)
        return rc;
    if (event == MIGBUF_RAM_EVENT_STOP && side == MIGBUF_RAM_SOURCE)
        r->stop_ms = now_ms;
    if (event == MIGBUF_RAM_EVENT_RESUME && side == MIGBUF_RAM_TARGET)
        r->resume_ms = now_ms;
    if (event == MIGBUF_RAM_EVENT_MIGRATION)
        hear_phase(r, side, phase);
    if (event <= MIGBUF_RAM_EVENT_PASS)
        r->side[r->side[MIGBUF_RAM_SOURCE].here ? MIGBUF_RAM_SOURCE : MIGBUF_RAM_TARGET].ask |= ASK_PHASE;
    return 0;
}

int migbuf_ram_link(struct migbuf_ram *r, double bytes_per_s)
{
    int rc = r ? migbuf__finite(bytes_per_s) : MIGBUF_E_INVALID;

    if (!rc)
        r->link_bytes_per_s = bytes_per_s;
    return rc;
}

int migbuf_ram_stands(struct migbuf_ram *r, int32_t stands)
{
    if (!r)
        return MIGBUF_E_INVALID;
    r->text_revision += r->stands != (stands != 0);
    r->stands = stands != 0;
    return 0;
}

int migbuf_ram_switch(struct migbuf_ram *r)
{
    if (!r)
        return MIGBUF_E_INVALID;
    begin(r);
    r->switched = 1;
    return 0;
}

int migbuf__ram_may_cancel(const struct migbuf_ram *r)
{
    int32_t phase = r->side[MIGBUF_RAM_SOURCE].phase;

    if (r->post_seen || r->continued || !migbuf__ram_there(&r->side[MIGBUF_RAM_SOURCE]))
        return 0;
    if (phase == MIGBUF_RAM_PHASE_PRE_SWITCHOVER) /* it goes on by migrate-continue alone */
        return 1;
    return (phase == MIGBUF_RAM_PHASE_SETUP || phase == MIGBUF_RAM_PHASE_ACTIVE) && !r->post_sent;
}

int migbuf_ram_cancel(struct migbuf_ram *r)
{
    if (!r)
        return MIGBUF_E_INVALID;
    if (r->stage == STAGE_OVER || r->stage == STAGE_IDLE)
        return MIGBUF_E_STATE;
    if (r->stage == STAGE_RUNNING && !migbuf__ram_may_cancel(r))
        return MIGBUF_E_STATE;
    begin(r);
    r->by_host = 1;
    r->cancel = 1;
    r->post_wanted = 0;
    if (r->stage == STAGE_ARMING && !r->migrate_sent) {
        r->stage = STAGE_OVER;
        r->end = MIGBUF_RAM_STATE_CANCELLED;
        r->text_revision++;
    }
    return 0;
}

int migbuf_ram_gone(struct migbuf_ram *r, int32_t side)
{
    if (!r || (side != MIGBUF_RAM_SOURCE && side != MIGBUF_RAM_TARGET))
        return MIGBUF_E_INVALID;
    begin(r);
    r->text_revision += !r->side[side].gone;
    r->side[side].gone = 1;
    r->side[side].ask = 0;
    r->side[side].touched_caps = r->side[side].touched_pars = 0;
    if (r->under_way && r->at == side)
        r->under_way = 0; /* it will not be answered */
    migbuf__ram_settle(r);
    return 0;
}

int migbuf_ram_restore(struct migbuf_ram *r)
{
    if (!r)
        return MIGBUF_E_INVALID;
    if (r->stage == STAGE_RUNNING || (r->stage == STAGE_ARMING && r->migrate_sent) || !(r->loaded || migbuf__ram_learnt(r)))
        return MIGBUF_E_STATE;
    begin(r);
    if (r->stage == STAGE_ARMING) {
        r->stage = STAGE_OVER;
        r->end = MIGBUF_RAM_STATE_CANCELLED;
    }
    r->restoring = 1;
    r->text_revision++;
    for (int k = 0; k < 2; k++)
        if (migbuf__ram_there(&r->side[k]) && (r->side[k].touched_caps | r->side[k].touched_pars))
            r->side[k].ask |= ASK_CAPS | ASK_PARS;
    return 0;
}

/* Deciding */

struct migbuf_agreement migbuf__ram_effective(const struct migbuf_ram *r)
{
    const struct side *s = &r->side[MIGBUF_RAM_SOURCE];
    struct migbuf_agreement a = r->agreement;

    if (!(s->have & CAP(CONVERGE)) || r->no_throttle)
        a.throttle_most_percent = 0;
    if (!(s->have & CAP(POSTCOPY)) || r->no_postcopy)
        a.postcopy = 0;
    if (r->no_raise) {
        uint64_t limit = s->have_par.x[PAR_DOWNTIME];

        a.most_ms = limit > a.most_ms ? a.most_ms : limit < 1 ? 1 : (uint32_t)limit;
        a.want_ms = a.want_ms < a.most_ms ? a.want_ms : a.most_ms;
        a.force = 0;
    }
    return a;
}

/* Bytes/s: the host's word, else what the newest round got. Rounds of differences do not fill a link: then the best. */
static double link_now(const struct migbuf_ram *r)
{
    double best = 0;

    if (r->link_bytes_per_s > 0)
        return r->link_bytes_per_s;
    for (uint32_t k = r->rounds.count; k-- > 0;) {
        const struct migbuf_round *x = &r->rounds.round[k];

        best = migbuf__most(best, x->sent_bytes / x->span_s);
        if (best > 0 && x->encoding > 0.9)
            break;
    }
    return best > 0 ? best : r->last.mbps * 125000;
}

int migbuf_ram_convergence(const struct migbuf_ram *r, struct migbuf_convergence *c)
{
    struct migbuf_convergence x;
    const struct migbuf_ram_report *last;
    const struct migbuf_round *newest;
    double since_s;
    int rc;

    if (!r || !c)
        return MIGBUF_E_INVALID;
    last = &r->last;
    migbuf_convergence_init(&x, sizeof x);
    rc = migbuf_convergence_rounds(&r->rounds, &x.set_bytes, &x.rate_bytes_per_s);
    if (rc < 0)
        return rc;
    newest = &r->rounds.round[r->rounds.count - 1];
    x.link_bytes_per_s = link_now(r);
    if (!(x.link_bytes_per_s > 0))
        return MIGBUF_E_STATE;
    x.known = (uint32_t)rc;
    x.ram_bytes = r->used_bytes;
    x.left_bytes = (double)last->ram_remaining_bytes;
    x.encoding = newest->encoding;
    x.fix_ms = r->options.fix_ms;
    x.throttle_percent = (double)r->throttle_seen;
    x.asked_percent = r->asked_percent;
    x.limit_ms = (double)r->side[MIGBUF_RAM_SOURCE].have_par.x[PAR_DOWNTIME];
    x.elapsed_s = (double)last->total_ms / 1000;
    x.bad_rounds = r->decision.bad_rounds;
    x.new_round = r->new_round;
    x.rounds = r->rounds.finished < UINT32_MAX ? (uint32_t)r->rounds.finished : UINT32_MAX;
    since_s = last->total_ms > r->rounds.at_ms ? (double)(last->total_ms - r->rounds.at_ms) / 1000 : 0;
    x.exact_bytes = x.left_bytes + x.rate_bytes_per_s * (1 - x.throttle_percent / 100) * since_s;
    x.exact_bytes = migbuf__least(x.exact_bytes, migbuf__most(x.set_bytes, x.left_bytes));
    return migbuf__struct_give(c, &x, sizeof x, MIGBUF__FIRST(struct migbuf_convergence, rounds));
}

static void want_par(struct side *s, int par, uint64_t value)
{
    s->want_par.x[par] = value;
    s->want_pars |= 1u << par & s->have_par.known;
}

int migbuf__ram_want(struct migbuf_ram *r, const struct migbuf_ram_decision *d)
{
    const struct migbuf_agreement a = migbuf__ram_effective(r);
    struct side *s = &r->side[MIGBUF_RAM_SOURCE];
    uint32_t p = d->throttle_percent;

    if (d->action < MIGBUF_RAM_KEEP || d->action > MIGBUF_RAM_STOP)
        return MIGBUF_E_INVALID;
    if ((d->action == MIGBUF_RAM_POSTCOPY && !a.postcopy) || d->action == MIGBUF_RAM_STOP ||
        (d->action == MIGBUF_RAM_THROTTLE && !a.throttle_most_percent))
        return MIGBUF_E_UNSUPPORTED;
    if (d->limit_ms > s->have_par.x[PAR_DOWNTIME] && d->limit_ms > a.most_ms && !(d->action == MIGBUF_RAM_FORCE && a.force))
        return MIGBUF_E_RANGE;
    if ((d->action == MIGBUF_RAM_FORCE && !a.force) || (d->action == MIGBUF_RAM_THROTTLE && p > a.throttle_most_percent))
        return MIGBUF_E_RANGE;
    if (d->action == MIGBUF_RAM_ABORT) {
        r->cancel = 1;
        return 0;
    }
    if (d->limit_ms)
        s->want_par.x[PAR_DOWNTIME] = d->limit_ms > MIGBUF_RAM_LIMIT_MOST_MS ? MIGBUF_RAM_LIMIT_MOST_MS : d->limit_ms;
    if (d->action == MIGBUF_RAM_FORCE)
        s->want_par.x[PAR_DOWNTIME] = MIGBUF_RAM_LIMIT_MOST_MS;
    if (d->action == MIGBUF_RAM_THROTTLE && p) { /* both in one command: at the next trigger it is p, from wherever it is */
        uint64_t now = r->throttle_seen ? r->throttle_seen : 1;

        s->want_par.x[PAR_MOST] = p;
        s->want_par.x[PAR_INCREMENT] = p > now ? p - now : 1;
        r->asked_percent = p;
    }
    r->post_wanted |= d->action == MIGBUF_RAM_POSTCOPY;
    return 0;
}

int migbuf_ram_apply(struct migbuf_ram *r, const struct migbuf_ram_decision *decision)
{
    int rc;

    if (!r || !decision)
        return MIGBUF_E_INVALID;
    if (r->stage != STAGE_RUNNING || r->post_seen || r->side[MIGBUF_RAM_SOURCE].phase != MIGBUF_RAM_PHASE_ACTIVE ||
        (decision->action == MIGBUF_RAM_ABORT && !migbuf__ram_may_cancel(r)))
        return MIGBUF_E_STATE;
    rc = migbuf__ram_want(r, decision);
    if (rc)
        return rc;
    begin(r);
    r->decision = *decision;
    r->new_round = 0;
    return 0;
}

/* Arming */

/* Both sides must know it, as far as this machine speaks to them. */
static int both_know(const struct migbuf_ram *r, uint32_t cap)
{
    for (int k = 0; k < 2; k++)
        if (migbuf__ram_there(&r->side[k]) && !(r->side[k].known & cap))
            return 0;
    return !(r->cannot & cap);
}

/* The host has it on, and QEMU does not let us switch it off: what does not go with it is not to be had. */
static int stays(const struct migbuf_ram *r, uint32_t cap)
{
    return (r->side[0].host | r->side[1].host) & r->cannot & cap ? 1 : 0;
}

void migbuf__ram_arm(struct migbuf_ram *r)
{
    struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET];
    const struct migbuf_ram_options *o = &r->options;
    int postcopy = r->agreement.postcopy && !o->one_way && both_know(r, CAP(POSTCOPY)) && !stays(r, CAP(MULTIFD));
    int multifd = o->multifd_channels && !o->one_way && !postcopy && both_know(r, CAP(MULTIFD)) && !stays(r, CAP(XBZRLE) | CAP(POSTCOPY));
    int xbzrle = o->xbzrle_cache_bytes && !multifd && both_know(r, CAP(XBZRLE));
    uint32_t both = CAP(EVENTS) | (postcopy ? CAP(POSTCOPY) : 0) | (multifd ? CAP(MULTIFD) : 0) | (xbzrle ? CAP(XBZRLE) : 0);
    /* Before 9.2 a request waits behind what is queued, on its own channel too: no gain (ram.c, postcopy_preempt_…). */
    int by_itself = postcopy && both_know(r, CAP(PREEMPT)) && (s->have_par.known & PAR(QATZIP) || !s->here);
    uint32_t ours = CAP(EVENTS) | CAP(PAUSE) | CAP(CONVERGE) | CAP(POSTCOPY) | CAP(BLOCKTIME) | CAP(XBZRLE) | CAP(MULTIFD) |
                    CAP(PREEMPT) | CAP(DIRTY_LIMIT);

    both |= by_itself ? CAP(PREEMPT) : 0;
    s->want = both | CAP(PAUSE) | (r->agreement.throttle_most_percent ? CAP(CONVERGE) : 0);
    t->want = both | (postcopy ? CAP(BLOCKTIME) : 0) | (t->host & (CAP(PAUSE) | CAP(CONVERGE) | CAP(DIRTY_LIMIT)));
    for (int k = 0; k < 2; k++) {
        struct side *x = &r->side[k];
        uint32_t can = ours & x->known & ~r->cannot;

        x->want = (x->host & ~can) | (x->want & can);
        x->want_pars = 0;
        if (multifd)
            want_par(x, PAR_CHANNELS, o->multifd_channels);
    }
    want_par(s, PAR_BANDWIDTH, o->max_bandwidth_bytes_per_s);
    want_par(s, PAR_DOWNTIME, r->agreement.want_ms);
    want_par(s, PAR_AVAIL, 0); /* or the host's figure, not the link, would say when it fits */
    if (postcopy)
        want_par(s, PAR_POSTCOPY_BANDWIDTH, 0);
    if (xbzrle)
        want_par(s, PAR_CACHE, o->xbzrle_cache_bytes);
    if (s->want & CAP(CONVERGE) && r->agreement.throttle_most_percent) {
        want_par(s, PAR_INITIAL, 1);
        want_par(s, PAR_INCREMENT, 1);
        want_par(s, PAR_MOST, 1);
        want_par(s, PAR_TRIGGER, 50);
        want_par(s, PAR_TAILSLOW, 0); /* it would make the one large step small */
    }
}
