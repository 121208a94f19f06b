/* SPDX-License-Identifier: MIT */
/* ram_answer: what QEMU was found to have, where the guest is, and what became of a command. Sends nothing. */
#include "ram.h"
#include "memory.h"
#include <string.h>

#define BACKOFF_MOST_S 60

int migbuf__ram_runs(int32_t phase)
{
    return (phase >= MIGBUF_RAM_PHASE_SETUP && phase <= MIGBUF_RAM_PHASE_RECOVER) || phase == MIGBUF_RAM_PHASE_CANCELLING ||
           phase == MIGBUF_RAM_PHASE_OTHER; /* who knows what that is: another status follows */
}

static int is_postcopy(int32_t phase)
{
    return phase >= MIGBUF_RAM_PHASE_POSTCOPY && phase <= MIGBUF_RAM_PHASE_RECOVER;
}

static int is_over(int32_t phase)
{
    return phase == MIGBUF_RAM_PHASE_COMPLETED || phase == MIGBUF_RAM_PHASE_CANCELLED || phase == MIGBUF_RAM_PHASE_FAILED;
}

int32_t migbuf_ram_phase(const char *status)
{
    static const char *const name[] = { "none", "setup", "active", "pre-switchover", "device", "postcopy-active",
                                        "postcopy-paused", "postcopy-recover", "completed", "cancelling", "cancelled", "failed" };

    if (!status || !*status)
        return MIGBUF_RAM_PHASE_NONE;
    for (int32_t k = 0; k < MIGBUF_RAM_PHASE_OTHER; k++)
        if (!strcmp(status, name[k]))
            return k;
    if (!strcmp(status, "postcopy-recover-setup"))
        return MIGBUF_RAM_PHASE_RECOVER;
    if (!strcmp(status, "postcopy-device")) /* the target does not run yet: a failure lets the source go on, as in "device" */
        return MIGBUF_RAM_PHASE_DEVICE;
    return MIGBUF_RAM_PHASE_OTHER; /* "failing" too: QEMU still cleans up, and "failed" follows */
}

/* Where the guest is */

static void end(struct migbuf_ram *r, uint8_t state)
{
    r->stage = STAGE_OVER;
    r->end = state;
    if (state != MIGBUF_RAM_STATE_CANCELLED)
        r->died = r->side[0].gone || r->side[1].gone;
    r->text_revision++;
    for (int k = 0; k < 2 && state == MIGBUF_RAM_STATE_LOST; k++) /* QEMU that waits for ever takes no settings */
        r->side[k].touched_caps = r->side[k].touched_pars = 0;
}

/* Both may run it. A source whose stream breaks before it knows that the target has the guest lets its own run again (QEMU
 * 11.1, postcopy-device), though the target's may run by then. That one must be ended: it will get no more memory. */
int migbuf__ram_twice(const struct migbuf_ram *r)
{
    const struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET];

    return migbuf__ram_there(s) && is_over(s->phase) && s->phase != MIGBUF_RAM_PHASE_COMPLETED && !(s->ask & ASK_STATUS) &&
           !s->left && (r->post_seen || (r->post_sent && r->continued)) && !t->gone && t->phase != MIGBUF_RAM_PHASE_FAILED;
}

/* The source says that it is over without having moved. QEMU lets a guest run again by itself, mostly. */
static void settle_at_home(struct migbuf_ram *r, const struct side *s, int target_dead)
{
    if (!(s->ask & ASK_STATUS) && !migbuf__ram_twice(r) && (!s->left || !r->was_running || !r->continued || target_dead))
        end(r, s->phase == MIGBUF_RAM_PHASE_CANCELLED ? MIGBUF_RAM_STATE_CANCELLED : MIGBUF_RAM_STATE_FAILED);
}

/* In post-copy the guest is at the target, and the source holds the rest of its memory: neither can do without the other. */
static void settle_postcopy(struct migbuf_ram *r, const struct side *s, const struct side *t)
{
    int whole = t->here ? t->phase == MIGBUF_RAM_PHASE_COMPLETED : s->phase == MIGBUF_RAM_PHASE_COMPLETED;
    int source_dead = s->gone || s->phase == MIGBUF_RAM_PHASE_FAILED;

    if (t->gone || t->phase == MIGBUF_RAM_PHASE_FAILED) { /* a source that does not know of it yet may take its guest back */
        if (!migbuf__ram_there(s) || (s->phase >= MIGBUF_RAM_PHASE_POSTCOPY && s->phase != MIGBUF_RAM_PHASE_OTHER))
            end(r, MIGBUF_RAM_STATE_LOST);
    } else if (whole)
        end(r, MIGBUF_RAM_STATE_MOVED);
    else if (source_dead && (!t->here || t->phase == MIGBUF_RAM_PHASE_PAUSED))
        end(r, MIGBUF_RAM_STATE_LOST);
}

void migbuf__ram_settle(struct migbuf_ram *r)
{
    const struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET];
    int has = t->phase == MIGBUF_RAM_PHASE_COMPLETED || t->running || r->resume_ms;
    int dead = t->gone || t->phase == MIGBUF_RAM_PHASE_FAILED, done = migbuf__ram_there(s) && is_over(s->phase);

    if (r->stage == STAGE_ARMING && s->here && s->gone)
        end(r, MIGBUF_RAM_STATE_LOST); /* with its guest: nothing was over there yet */
    else if (r->stage == STAGE_ARMING && t->gone && !r->migrate_sent)
        end(r, MIGBUF_RAM_STATE_FAILED);
    if (r->stage != STAGE_RUNNING)
        return;
    if (r->post_seen && done && s->phase != MIGBUF_RAM_PHASE_COMPLETED && (s->ask & ASK_STATUS || !s->left))
        settle_at_home(r, s, dead);
    else if (r->post_seen)
        settle_postcopy(r, s, t);
    else if (!s->here && (dead || t->phase == MIGBUF_RAM_PHASE_COMPLETED))
        end(r, dead ? MIGBUF_RAM_STATE_FAILED : MIGBUF_RAM_STATE_MOVED);
    else if (has && (s->gone || done)) /* what died with the guest in it is not brought back from before that */
        end(r, dead ? MIGBUF_RAM_STATE_LOST : MIGBUF_RAM_STATE_MOVED);
    else if (s->gone && (dead || !t->here || !r->continued))
        end(r, MIGBUF_RAM_STATE_LOST);
    else if (done && s->phase == MIGBUF_RAM_PHASE_COMPLETED && (dead || !t->here))
        end(r, dead ? MIGBUF_RAM_STATE_FAILED : MIGBUF_RAM_STATE_MOVED);
    else if (done && s->phase != MIGBUF_RAM_PHASE_COMPLETED)
        settle_at_home(r, s, dead);
    else if (dead) { /* sending goes on until QEMU notices, and in pre-switchover it does not */
        r->died |= !r->cancel; /* after a cancel a target ends because of that */
        r->cancel = 1;
    }
}

int migbuf__ram_cont(const struct migbuf_ram *r, int side)
{
    const struct side *s = &r->side[side];

    if (r->stage != STAGE_OVER || !migbuf__ram_there(s) || s->running || s->ask & ASK_STATUS)
        return 0;
    if (side == MIGBUF_RAM_TARGET)
        return r->end == MIGBUF_RAM_STATE_MOVED && r->stands && s->paused;
    return (r->end == MIGBUF_RAM_STATE_CANCELLED || r->end == MIGBUF_RAM_STATE_FAILED) && !r->post_seen && s->left &&
           r->was_running && !r->stands;
}

void migbuf__ram_ask(struct migbuf_ram *r)
{
    struct side *s = &r->side[MIGBUF_RAM_SOURCE], *t = &r->side[MIGBUF_RAM_TARGET], *first = s->here ? s : t;

    if (r->stage == STAGE_ARMING && (r->migrate_unsure || !first->uri[0]))
        first->ask |= ASK_PHASE | ASK_STATUS;
    if (r->stage == STAGE_RUNNING) {
        first->ask |= ASK_PHASE;
        if (s->gone && t->here)
            t->ask |= ASK_PHASE | ASK_STATUS;
    }
    if (r->stage != STAGE_OVER)
        return;
    if (r->end == MIGBUF_RAM_STATE_MOVED && r->stands && !t->running)
        t->ask |= ASK_STATUS;
    if (r->end == MIGBUF_RAM_STATE_MOVED && !r->last.total_ms) /* QEMU 7.2: none in the first instant of "completed" */
        s->ask |= ASK_PHASE;
    if (r->end != MIGBUF_RAM_STATE_MOVED && s->left)
        s->ask |= ASK_STATUS;
}

/* query-migrate */

static void measure(struct migbuf_ram *r, const struct migbuf_ram_report *report)
{
    uint64_t before = r->last.total_ms, total = report->total_ms ? report->total_ms : before;

    if (total > before)
        r->lost_ms += (double)(total - before) * (double)r->throttle_seen / 100;
    if (report->phase < MIGBUF_RAM_PHASE_POSTCOPY && migbuf_rounds_update(&r->rounds, total, report) == 1) {
        r->new_round = 1;
        if (r->used_bytes <= 0 && report->ram_total_bytes > report->duplicate_pages * report->page_bytes)
            r->used_bytes = (double)(report->ram_total_bytes - report->duplicate_pages * report->page_bytes);
    }
    r->last = *report;
    r->last.total_ms = total;
    r->throttle_seen = report->cpu_throttle_percent < 99 ? report->cpu_throttle_percent : 99;
}

static void decide(struct migbuf_ram *r)
{
    const struct migbuf_agreement a = migbuf__ram_effective(r);
    struct migbuf_convergence c = { .size = sizeof c };
    struct migbuf_ram_decision d;

    if (r->options.host_decides || r->cancel || r->post_wanted || migbuf_ram_convergence(r, &c) ||
        migbuf_convergence_decide(&c, &a, &d))
        return;
    if (migbuf__ram_want(r, &d) == 0) {
        r->decision = d;
        r->new_round = 0;
    }
}

/* Whether a `migrate` that nobody knows of, or that the host sends itself, runs. */
static void resolve(struct migbuf_ram *r)
{
    struct side *first = &r->side[r->side[MIGBUF_RAM_SOURCE].here ? MIGBUF_RAM_SOURCE : MIGBUF_RAM_TARGET];
    int ours = migbuf__ram_runs(first->phase);

    if (r->stage != STAGE_ARMING || first->ask & (ASK_PHASE | ASK_STATUS) || !(r->migrate_unsure || !first->uri[0]))
        return;
    if (r->migrate_unsure && is_over(first->phase)) /* it was: or this is what is left of an earlier one */
        ours = first->phase == MIGBUF_RAM_PHASE_COMPLETED ? first->left : r->loaded || first->phase != r->phase_before;
    if (ours) {
        r->stage = STAGE_RUNNING;
        r->migrate_sent = 1;
        r->migrate_unsure = 0;
        r->text_revision++;
        first->ask |= ASK_PHASE; /* with all that follows from it */
    } else if (r->migrate_unsure) {
        r->migrate_sent = r->migrate_unsure = 0;
        if (r->cancel || r->refused)
            end(r, r->cancel ? MIGBUF_RAM_STATE_CANCELLED : MIGBUF_RAM_STATE_REFUSED);
        else if (r->loaded)
            r->stage = STAGE_IDLE;
        migbuf__ram_settle(r);
    }
}

static void follow(struct migbuf_ram *r, struct side *s)
{
    struct side *t = &r->side[MIGBUF_RAM_TARGET];

    r->cancelling = s->phase != MIGBUF_RAM_PHASE_CANCELLING ? 0 : r->cancelling < 9 ? (uint8_t)(r->cancelling + 1) : 9;
    if (s->phase == MIGBUF_RAM_PHASE_POSTCOPY && r->last.ram_transferred_bytes > r->broken_bytes) {
        r->broken_bytes = UINT64_MAX;
        r->backoff_s = 1;
        r->retry_ms = 0;
    }
    if (s->phase == MIGBUF_RAM_PHASE_PAUSED)
        r->broken_bytes = r->last.ram_transferred_bytes;
    if (is_over(s->phase)) {
        s->ask |= ASK_STATUS;
        if (t->here && (s->phase == MIGBUF_RAM_PHASE_COMPLETED || r->continued || r->post_seen))
            t->ask |= ASK_PHASE | ASK_STATUS;
    }
    if (s->phase == MIGBUF_RAM_PHASE_ACTIVE)
        decide(r);
}

static void see(struct migbuf_ram *r)
{
    const struct migbuf_ram_report *report = &r->fresh;
    struct side *s = &r->side[r->at];

    s->phase = report->phase;
    if (is_postcopy(s->phase) && r->stage == STAGE_RUNNING) {
        r->text_revision += !r->post_seen;
        r->post_seen = 1;
    }
    if (r->at == MIGBUF_RAM_TARGET && report->blocktime_ms)
        r->blocktime_ms = report->blocktime_ms;
    resolve(r);
    if (r->stage < STAGE_RUNNING)
        return;
    if (r->at == MIGBUF_RAM_SOURCE && report->has_ram)
        measure(r, report);
    if (r->at == MIGBUF_RAM_SOURCE && r->stage == STAGE_RUNNING)
        follow(r, s);
    migbuf__ram_settle(r);
}

/* Answers to queries, piece by piece */

static int expects(const struct migbuf_ram *r, int32_t kind)
{
    return r->under_way == kind ? 0 : MIGBUF_E_STATE;
}

int migbuf_ram_found_capability(struct migbuf_ram *r, const char *name, int32_t state)
{
    int rc = r && name ? expects(r, MIGBUF_RAM_GET_CAPABILITIES) : MIGBUF_E_INVALID;

    for (int k = 0; k < CAPS && !rc; k++)
        if (!strcmp(name, migbuf__cap_name[k])) {
            r->seen_caps[0] |= 1u << k;
            r->seen_caps[1] |= state ? 1u << k : 0;
        }
    return rc;
}

int migbuf_ram_found_parameter(struct migbuf_ram *r, const char *name, uint64_t value)
{
    int rc = r && name ? expects(r, MIGBUF_RAM_GET_PARAMETERS) : MIGBUF_E_INVALID;

    for (int k = 0; k < PARS && !rc; k++)
        if (!strcmp(name, migbuf__par_name[k])) {
            r->seen_par.known |= 1u << k;
            r->seen_par.x[k] = value;
        }
    return rc;
}

int migbuf_ram_found(struct migbuf_ram *r, const struct migbuf_ram_report *report)
{
    int rc = r && report && report->phase >= 0 && report->phase <= MIGBUF_RAM_PHASE_OTHER
                 ? expects(r, MIGBUF_RAM_GET_MIGRATION)
                 : MIGBUF_E_INVALID;

    if (rc)
        return rc;
    r->fresh = *report;
    r->told = 1;
    return 0;
}

int migbuf_ram_status(struct migbuf_ram *r, const char *status, int32_t running)
{
    int rc = r && status ? expects(r, MIGBUF_RAM_GET_STATUS) : MIGBUF_E_INVALID;
    struct side *s;

    if (rc)
        return rc;
    s = &r->side[r->at];
    s->running = running != 0;
    s->paused = !running && !strcmp(status, "paused");
    s->left = !running && (!strcmp(status, "postmigrate") || !strcmp(status, "finish-migrate"));
    r->told = 1;
    return 0;
}

/* What nobody of ours has touched is the host's own. */
static void take_capabilities(struct migbuf_ram *r, struct side *s)
{
    uint32_t host;

    s->known = r->seen_caps[0];
    s->have = r->seen_caps[1];
    host = (s->host & s->touched_caps) | (s->have & ~s->touched_caps);
    r->text_revision += host != s->host || !(s->answered & ASK_CAPS);
    s->host = host;
}

/* QEMU has taken it, may have taken it, or has it: it is ours, and no other hand's. */
static void remember(struct side *s, int par, uint64_t x)
{
    uint64_t *sent = s->sent[par];
    int k = 0;

    while (k < SENT - 1 && s->ours >> par & 1 && sent[k] != x)
        k++;
    for (; k > 0; k--)
        sent[k] = sent[k - 1];
    sent[0] = x;
    for (k = 1; k < SENT && !(s->ours >> par & 1); k++)
        sent[k] = x;
    s->ours |= 1u << par;
}

static void take_parameters(struct migbuf_ram *r, struct side *s)
{
    const struct values before = s->have_par;

    s->have_par = r->seen_par;
    s->host_par.known = s->have_par.known;
    for (int k = 0; k < PARS; k++) {
        uint64_t x = s->have_par.x[k];

        if (!(s->have_par.known >> k & 1))
            continue;
        if (migbuf__ram_was_sent(s, k, x))
            remember(s, k, x);
        else if (s->ours >> k & 1 && x != before.x[k]) /* another hand's, and stays */
            s->want_par.x[k] = x;
        if (!(s->touched_pars >> k & 1)) {
            r->text_revision += s->host_par.x[k] != x;
            s->host_par.x[k] = x;
        }
    }
    if (r->loaded && r->stage >= STAGE_ARMING) { /* what an earlier process set is what is wanted, until something is decided */
        s->want_par = s->have_par;
        r->asked_percent = s->have_par.x[PAR_MOST] > 1 && s->touched_pars & PAR(MOST) ? (uint32_t)s->have_par.x[PAR_MOST] : r->asked_percent;
    }
}

/* What became of a command */

static void try_later(struct migbuf_ram *r)
{
    r->retry_ms = r->now_ms + r->backoff_s * UINT64_C(1000);
    r->backoff_s = r->backoff_s < BACKOFF_MOST_S / 2 ? 2 * r->backoff_s : BACKOFF_MOST_S;
    r->recover = RECOVER_TARGET;
}

static void asked(struct migbuf_ram *r, struct side *s, uint8_t what)
{
    s->ask &= (uint8_t)~what;
    s->answered |= what;
    if (!((migbuf__ram_there(&r->side[0]) ? r->side[0].ask : 0) | (migbuf__ram_there(&r->side[1]) ? r->side[1].ask : 0)))
        r->unknown = 0;
}

/* What is the host's own again, or another hand's, is given back. */
static void look_what_is_left(struct migbuf_ram *r, struct side *s)
{
    uint32_t left = 0, ours = migbuf__ram_ours(r, s);

    if (!(s->ask & ASK_CAPS))
        s->touched_caps &= s->have ^ s->host;
    if (s->ask & ASK_PARS)
        return;
    for (int k = 0; k < PARS; k++)
        if (s->have_par.x[k] != s->host_par.x[k] && s->touched_pars >> k & 1) {
            left |= ours & 1u << k;
            r->taken_over += !(ours >> k & 1);
        }
    s->touched_pars = left;
}

static void remember_all(const struct migbuf_ram *r, struct side *s)
{
    for (int k = 0; k < PARS && !r->restoring; k++)
        if (r->sending >> k & 1)
            remember(s, k, r->sending_par[k]);
}

static void done(struct migbuf_ram *r, int32_t kind, struct side *s)
{
    switch (kind) {
    case MIGBUF_RAM_GET_CAPABILITIES:
        take_capabilities(r, s);
        asked(r, s, ASK_CAPS);
        break;
    case MIGBUF_RAM_GET_PARAMETERS:
        take_parameters(r, s);
        asked(r, s, ASK_PARS);
        break;
    case MIGBUF_RAM_GET_MIGRATION:
        asked(r, s, ASK_PHASE);
        see(r);
        break;
    case MIGBUF_RAM_GET_STATUS:
        asked(r, s, ASK_STATUS);
        resolve(r);
        migbuf__ram_settle(r);
        break;
    case MIGBUF_RAM_SET_CAPABILITIES:
        s->have ^= r->sending;
        break;
    case MIGBUF_RAM_SET_PARAMETERS:
        remember_all(r, s);
        for (int k = 0; k < PARS; k++)
            if (r->sending >> k & 1)
                s->have_par.x[k] = r->sending_par[k];
        break;
    case MIGBUF_RAM_INCOMING:
        r->incoming_sent = 1;
        if (!r->side[MIGBUF_RAM_SOURCE].here)
            r->stage = STAGE_RUNNING;
        r->text_revision++;
        break;
    case MIGBUF_RAM_MIGRATE:
        r->migrate_unsure = 0;
        r->stage = STAGE_RUNNING;
        r->text_revision++;
        s->ask |= ASK_PHASE;
        break;
    case MIGBUF_RAM_CONT:
        s->running = 1;
        s->left = s->paused = 0;
        break;
    case MIGBUF_RAM_PAUSE:
        if (r->at == MIGBUF_RAM_TARGET)
            r->recover = RECOVER_AGAIN;
        else /* told once; QEMU needs a moment for it */
            r->side[MIGBUF_RAM_TARGET].phase = MIGBUF_RAM_PHASE_RECOVER;
        break;
    case MIGBUF_RAM_RECOVER:
        r->recover = RECOVER_RESUME;
        if (!migbuf__ram_there(&r->side[MIGBUF_RAM_SOURCE]))
            try_later(r);
        break;
    case MIGBUF_RAM_RESUME:
        try_later(r);
        s->ask |= ASK_PHASE;
        if (r->side[MIGBUF_RAM_TARGET].phase == MIGBUF_RAM_PHASE_PAUSED) /* no longer known: it may recover without a word */
            r->side[MIGBUF_RAM_TARGET].phase = MIGBUF_RAM_PHASE_RECOVER;
        break;
    default: /* CANCEL, CONTINUE, START_POSTCOPY */
        r->cancel_sent |= kind == MIGBUF_RAM_CANCEL;
        r->cancelling = 0;
        s->ask |= ASK_PHASE;
        break;
    }
}

static int halt(struct migbuf_ram *r, int rc)
{
    r->halted = 1;
    r->failed = rc == MIGBUF_E_PEER;
    return rc;
}

static int give_up(struct migbuf_ram *r)
{
    end(r, MIGBUF_RAM_STATE_REFUSED);
    return halt(r, MIGBUF_E_PEER);
}

static int capabilities_refused(struct migbuf_ram *r, struct side *s)
{
    uint32_t off = s->have & r->sending;

    if (r->sending & (r->sending - 1)) {
        s->singly = 1;
        return 0;
    }
    if (r->stage != STAGE_ARMING)
        return halt(r, MIGBUF_E_PEER);
    /* The one nothing goes without; and what would slow the guest although nobody has agreed to it. */
    if (r->sending & CAP(PAUSE) || off & CAP(CONVERGE) || off & CAP(DIRTY_LIMIT))
        return give_up(r);
    if (r->cannot & r->sending) /* it was to stay as the host has it, and does not: nothing is left to be tried */
        return give_up(r);
    r->cannot |= r->sending;
    migbuf__ram_arm(r);
    return 0;
}

static int parameters_refused(struct migbuf_ram *r, struct side *s)
{
    if (r->stage == STAGE_ARMING && r->sending & PAR(CACHE) && !(r->cannot & CAP(XBZRLE))) { /* no memory for it */
        r->cannot |= CAP(XBZRLE);
        migbuf__ram_arm(r);
        return 0;
    }
    if (r->stage == STAGE_ARMING)
        return give_up(r);
    if (r->stage != STAGE_RUNNING)
        return halt(r, MIGBUF_E_PEER);
    if (r->sending & (PAR(MOST) | PAR(INCREMENT))) {
        r->no_throttle = 1;
        r->asked_percent = 0;
    }
    if (r->sending & PAR(DOWNTIME))
        r->no_raise = 1;
    for (int k = 0; k < PARS; k++)
        if (r->sending >> k & 1)
            s->want_par.x[k] = s->have_par.x[k];
    return 0;
}

static int refused(struct migbuf_ram *r, int32_t kind, struct side *s)
{
    switch (kind) {
    case MIGBUF_RAM_SET_CAPABILITIES:
        return capabilities_refused(r, s);
    case MIGBUF_RAM_SET_PARAMETERS:
        return parameters_refused(r, s);
    case MIGBUF_RAM_INCOMING:
        if (!(r->doubt & DOUBT_INCOMING))
            return give_up(r);
        done(r, kind, s); /* it was started before */
        return 0;
    case MIGBUF_RAM_MIGRATE:
        if (!(r->doubt & DOUBT_MIGRATE)) {
            r->migrate_sent = r->migrate_unsure = 0;
            return give_up(r);
        }
        r->refused = 1;
        s->ask |= ASK_PHASE | ASK_STATUS;
        return 0;
    case MIGBUF_RAM_START_POSTCOPY:
        r->post_sent = (r->doubt & DOUBT_POSTCOPY) != 0;
        r->post_wanted = 0;
        r->no_postcopy = 1;
        return 0;
    case MIGBUF_RAM_CONTINUE:
        if (r->cancel_sent) { /* it has gone on by itself meanwhile: that is what was wanted */
            r->cancelling = 0;
            s->ask |= ASK_PHASE;
            return 0;
        }
        r->continued = r->continued && r->doubt & DOUBT_CONTINUE;
        break;
    case MIGBUF_RAM_PAUSE:
        if (r->at == MIGBUF_RAM_SOURCE)
            break;
        r->recover = RECOVER_AGAIN;
        return 0;
    case MIGBUF_RAM_RECOVER:
        r->recover = r->recover == RECOVER_TARGET ? RECOVER_NOTICE : RECOVER_RESUME;
        if (r->recover == RECOVER_RESUME && !migbuf__ram_there(&r->side[MIGBUF_RAM_SOURCE]))
            try_later(r);
        return 0;
    case MIGBUF_RAM_RESUME:
        try_later(r);
        s->ask |= ASK_PHASE;
        return 0;
    default: /* a query stays to be made */
        break;
    }
    return halt(r, MIGBUF_E_PEER);
}

static int unknown(struct migbuf_ram *r, int32_t kind, struct side *s)
{
    r->unknown |= kind > MIGBUF_RAM_GET_STATUS;
    switch (kind) {
    case MIGBUF_RAM_SET_CAPABILITIES:
        s->ask |= ASK_CAPS;
        break;
    case MIGBUF_RAM_SET_PARAMETERS:
        remember_all(r, s);
        s->ask |= ASK_PARS;
        break;
    case MIGBUF_RAM_INCOMING:
        r->doubt |= DOUBT_INCOMING;
        s->ask |= ASK_PHASE;
        break;
    case MIGBUF_RAM_MIGRATE:
        r->doubt |= DOUBT_MIGRATE;
        s->ask |= ASK_PHASE | ASK_STATUS;
        break;
    case MIGBUF_RAM_RECOVER:
    case MIGBUF_RAM_RESUME:
        try_later(r);
        break;
    case MIGBUF_RAM_CONT:
        s->ask |= ASK_STATUS;
        break;
    default:
        r->doubt |= kind == MIGBUF_RAM_START_POSTCOPY ? DOUBT_POSTCOPY : kind == MIGBUF_RAM_CONTINUE ? DOUBT_CONTINUE : 0;
        if (kind > MIGBUF_RAM_GET_STATUS)
            r->side[MIGBUF_RAM_SOURCE].ask |= ASK_PHASE;
        break;
    }
    return halt(r, MIGBUF_E_UNKNOWN);
}

int migbuf_ram_answered(struct migbuf_ram *r, int32_t outcome)
{
    struct side *s;
    int32_t kind;

    if (!r || outcome < MIGBUF_OUTCOME_DONE || outcome > MIGBUF_OUTCOME_UNKNOWN)
        return MIGBUF_E_INVALID;
    kind = r->under_way;
    s = &r->side[r->at];
    if (!kind || (outcome == MIGBUF_OUTCOME_DONE && !r->told &&
                  (kind == MIGBUF_RAM_GET_MIGRATION || kind == MIGBUF_RAM_GET_STATUS)))
        return MIGBUF_E_STATE;
    if (outcome == MIGBUF_OUTCOME_DONE) {
        done(r, kind, s);
        if (r->restoring)
            look_what_is_left(r, s);
    }
    r->under_way = 0;
    if (outcome == MIGBUF_OUTCOME_DONE)
        return 0;
    return outcome == MIGBUF_OUTCOME_REFUSED ? refused(r, kind, s) : unknown(r, kind, s);
}
