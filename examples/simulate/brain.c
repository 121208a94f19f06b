/* SPDX-License-Identifier: MIT */
/* The library as a host embeds it, and the policies that are not the library's. See brain.h. */
#include "brain.h"
#include <math.h>
#include <stdlib.h>

#define DEVICE 1e9  /* unit bytes/s that no guest here exceeds; a host would measure it once */
#define LATE 200    /* percent: ticks may come this much later */
#define LAG_S STEP_S

struct brain {
    struct migbuf_buffer *buffer;
    bool limits; /* a policy of the library's */
    struct migbuf_decision *decisions;
    uint32_t room, decided; /* decisions there is room for, and of the last tick */
    uint64_t *u; /* of each link, bytes/s */
};

static int32_t library_policy(enum policy p)
{
    switch (p) {
    case POLICY_PAPER:
        return MIGBUF_POLICY_PAPER;
    case POLICY_LITERAL:
        return MIGBUF_POLICY_LITERAL;
    case POLICY_PLANNER:
    case POLICY_HYBRID:
        return MIGBUF_POLICY_PLANNER;
    default:
        return MIGBUF_POLICY_LITERAL; /* refuses nobody, and is not asked for limits */
    }
}

struct brain *brain_new(const struct run *run, uint32_t most_members, uint32_t links)
{
    struct brain *b = calloc(1, sizeof *b);
    struct migbuf_buffer_options o;
    int rc;

    if (!b)
        return NULL;
    b->room = most_members;
    b->decisions = calloc(most_members, sizeof *b->decisions);
    b->u = calloc(links, sizeof *b->u);
    migbuf_buffer_options_init(&o, sizeof o);
    o.policy = library_policy(run->policy);
    o.interval_ms = (uint32_t)lround(run->interval_s * 1000);
    if (!(run->without >> CAUSE_LATE & 1)) {
        o.late_factor_percent = LATE;
        o.lag_ms = (uint32_t)lround(LAG_S * 1000);
    } else {
        o.late_factor_percent = 100;
        o.lag_ms = 0;
    }
    if (run->without >> CAUSE_HYSTERESIS & 1)
        o.hysteresis_percent = 0;
    b->limits = o.policy != MIGBUF_POLICY_LITERAL || run->policy == POLICY_LITERAL;
    rc = migbuf_buffer_new((uint64_t)run->omega, &o, NULL, &b->buffer);
    if (rc || !b->decisions || !b->u) {
        brain_free(b);
        return NULL;
    }
    return b;
}

void brain_free(struct brain *b)
{
    if (!b)
        return;
    migbuf_buffer_free(b->buffer);
    free(b->decisions);
    free(b->u);
    free(b);
}

static struct migbuf_migration migration_of(const struct member *m)
{
    struct migbuf_migration migration;

    migbuf_migration_init(&migration, sizeof migration);
    migration.id = m->id;
    migration.link = m->link;
    migration.flow_bytes_per_s = (uint64_t)m->flow;
    migration.device_write_bytes_per_s = (uint64_t)DEVICE;
    migration.rate_bytes_per_s = (uint64_t)m->rate_before;
    if (m->geometry.queue_bytes == MIGBUF_NONE)
        migration.drains_ahead = 0;
    return migration;
}

int brain_add(struct brain *b, const struct member *m)
{
    struct migbuf_migration migration = migration_of(m);
    int rc;

    rc = migbuf_buffer_add(b->buffer, &migration, &m->geometry, 1, NULL);
    if (!rc && b->u[m->link])
        rc = migbuf_buffer_link(b->buffer, m->link, b->u[m->link]);
    return rc == MIGBUF_E_NOSPACE ? 1 : rc;
}

bool brain_limits(const struct brain *b)
{
    return b->limits;
}

int brain_remove(struct brain *b, uint64_t id)
{
    return migbuf_buffer_remove(b->buffer, id);
}

int brain_sample(struct brain *b, uint64_t now_ms, const struct measured *s)
{
    struct migbuf_sample sample = { .id = s->id,
                                    .file_bytes = (uint64_t)s->file_bytes,
                                    .written_bytes = (uint64_t)s->written_bytes,
                                    .writes = (uint64_t)s->writes,
                                    .remaining_bytes = s->left_bytes >= 1 ? (uint64_t)s->left_bytes : MIGBUF_NONE };
    int rc;

    /* 1, no room for its drains yet, is said before the first tick only: it begins after that */
    rc = migbuf_buffer_phase(b->buffer, s->id, s->draining ? MIGBUF_PHASE_MIRROR : MIGBUF_PHASE_BASE, s->drains_ahead);
    return rc < 0 ? rc : migbuf_buffer_sample(b->buffer, now_ms, &sample, 1);
}

int brain_link(struct brain *b, uint32_t link, double bytes_per_s)
{
    int rc;

    b->u[link] = (uint64_t)bytes_per_s;
    rc = migbuf_buffer_link(b->buffer, link, b->u[link]);
    return rc == MIGBUF_E_NOTFOUND ? 0 : rc; /* nobody uses it now */
}

int brain_tick(struct brain *b, double now_s, struct order *orders)
{
    int n;

    for (uint32_t k = 0; k < b->decided; k++) /* all orders have landed by now; whoever has left meanwhile is not found */
        if (b->decisions[k].action == MIGBUF_ACTION_PAUSE || b->decisions[k].action == MIGBUF_ACTION_CANNOT_FIT)
            migbuf_buffer_outcome(b->buffer, b->decisions[k].id, MIGBUF_OUTCOME_DONE);
    n = migbuf_buffer_tick(b->buffer, (uint64_t)lround(now_s * 1000), b->decisions, b->room);
    b->decided = n > 0 ? (uint32_t)n : 0;
    if (!b->limits)
        return n < 0 ? n : 0;
    for (int k = 0; k < n; k++) {
        const struct migbuf_decision *d = &b->decisions[k];
        const struct migbuf_limits *l = &d->limits;
        bool runs = l->iops_wr || l->bps_wr;

        orders[k] = (struct order){ .id = d->id, .changed = d->action != MIGBUF_ACTION_KEEP, .paused = !runs };
        orders[k].waits = d->action == MIGBUF_ACTION_WAIT;
        orders[k].units_per_s = l->iops_wr ? (double)l->iops_wr : INFINITY;
        orders[k].bytes_per_s = l->bps_wr ? (double)l->bps_wr : INFINITY;
    }
    return n;
}

int brain_waiting(const struct brain *b, const struct member *m, struct migbuf_waiting *w)
{
    struct migbuf_migration migration = migration_of(m);
    int rc = migbuf_admission_waiting(b->buffer, &migration, &m->geometry, 1, w);

    if (!rc)
        w->disk_bytes = m->left_bytes;
    return rc;
}

int brain_turns(const struct brain *b, enum admission admission, const struct migbuf_waiting *w, size_t count,
                struct migbuf_admission_turn *turns)
{
    int32_t order = admission == ADMISSION_FIFO ? MIGBUF_ADMISSION_FIFO : MIGBUF_ADMISSION_SHORTEST;

    return migbuf_admission_turns(b->buffer, order, w, count, turns);
}

int brain_mirrors(struct brain *b, const struct member *m)
{
    struct migbuf_outlook o = { .size = sizeof o };
    struct migbuf_outlook_mirror mirror = { .size = sizeof mirror, .buffer_bytes = mirror_buffer(m->mirror),
                                            .granularity_bytes = mirror_granule(m->mirror, m->request),
                                            .request_bytes = m->request, .depth = m->depth,
                                            .link_bytes_per_s = (double)b->u[m->link],
                                            .background = m->mirror == MIRROR_BACKGROUND };
    struct migbuf_waiting w;
    int rc = brain_waiting(b, m, &w);

    w.write_bytes_per_s = m->bytes_before;
    if (!rc)
        rc = migbuf_outlook_mirrored(b->buffer, &w, 0, &mirror, &o);
    return rc ? rc : o.mirror;
}

int brain_outlook(const struct brain *b, uint64_t id, struct migbuf_outlook *o)
{
    o->size = sizeof *o;
    return migbuf_outlook_running(b->buffer, id, o);
}

int brain_outlook_waiting(const struct brain *b, const struct migbuf_waiting *w, double start_s,
                          struct migbuf_outlook *o)
{
    o->size = sizeof *o;
    return migbuf_outlook_waiting(b->buffer, w, start_s, o);
}
