/* SPDX-License-Identifier: MIT */
#include "brain.h"
#include <math.h>
#include <stdlib.h>

#define DEVICE 1e9  /* unit bytes/s that no guest here exceeds; a host would measure it once */
#define LATE 200    /* percent: ticks may come this much later */
#define LAG_S STEP_S

struct brain {
    struct migbuf_buffer *buffer; /* NULL: a policy without one */
    struct migbuf_decision *decisions;
    uint32_t room;
    uint64_t u; /* of the link, bytes/s */
};

static int32_t library_policy(enum policy p)
{
    switch (p) {
    case POLICY_PAPER:
        return MIGBUF_POLICY_PAPER;
    case POLICY_LITERAL:
        return MIGBUF_POLICY_LITERAL;
    case POLICY_PLANNER:
        return MIGBUF_POLICY_PLANNER;
    default:
        return 0;
    }
}

struct brain *brain_new(const struct run *run, uint32_t most_members)
{
    struct brain *b = calloc(1, sizeof *b);
    struct migbuf_options o;
    int rc;

    if (!b)
        return NULL;
    b->room = most_members;
    b->decisions = calloc(most_members, sizeof *b->decisions);
    migbuf_options_init(&o, sizeof o);
    o.policy = library_policy(run->policy);
    o.interval_ms = (uint32_t)lround(run->interval_s * 1000);
    o.late_factor_percent = LATE;
    o.lag_ms = (uint32_t)lround(LAG_S * 1000);
    rc = o.policy ? migbuf_buffer_new((uint64_t)run->omega, &o, NULL, &b->buffer) : 0;
    if (rc || !b->decisions) {
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
    free(b);
}

int brain_add(struct brain *b, const struct member *m)
{
    struct migbuf_migration migration;
    int rc;

    if (!b->buffer)
        return 0;
    migbuf_migration_init(&migration, sizeof migration);
    migration.id = m->id;
    migration.flow_bytes_per_s = (uint64_t)m->flow;
    migration.device_write_bytes_per_s = (uint64_t)DEVICE;
    migration.rate_bytes_per_s = (uint64_t)m->rate_before;
    rc = migbuf_buffer_add(b->buffer, &migration, &m->geometry, 1, NULL);
    if (!rc && b->u)
        rc = migbuf_buffer_link(b->buffer, 0, b->u);
    return rc == MIGBUF_E_NOSPACE ? 1 : rc;
}

int brain_remove(struct brain *b, uint64_t id)
{
    return b->buffer ? migbuf_buffer_remove(b->buffer, id) : 0;
}

int brain_sample(struct brain *b, const struct measured *s)
{
    struct migbuf_sample sample = { .id = s->id,
                                    .file_bytes = (uint64_t)s->file_bytes,
                                    .written_bytes = (uint64_t)s->written_bytes,
                                    .writes = (uint64_t)s->writes,
                                    .remaining_bytes = (uint64_t)s->left_bytes };
    int rc;

    if (!b->buffer)
        return 0;
    rc = migbuf_buffer_phase(b->buffer, s->id, s->draining ? MIGBUF_PHASE_DRAIN : MIGBUF_PHASE_BASE, s->drains_ahead);
    return rc ? rc : migbuf_buffer_sample(b->buffer, &sample, 1);
}

int brain_link(struct brain *b, double bytes_per_s)
{
    int rc;

    b->u = (uint64_t)bytes_per_s;
    rc = b->buffer ? migbuf_buffer_link(b->buffer, 0, b->u) : 0;
    return rc == MIGBUF_E_NOTFOUND ? 0 : rc; /* nobody uses it now */
}

int brain_tick(struct brain *b, double now_s, struct order *orders)
{
    int n = b->buffer ? migbuf_buffer_tick(b->buffer, (uint64_t)lround(now_s * 1000), b->decisions, b->room) : 0;

    for (int k = 0; k < n; k++) {
        const struct migbuf_decision *d = &b->decisions[k];
        const struct migbuf_limits *l = &d->limits;
        bool runs = l->iops_wr || l->bps_wr;

        orders[k] = (struct order){ .id = d->id, .changed = d->action != MIGBUF_ACTION_KEEP, .paused = !runs };
        orders[k].units_per_s = l->iops_wr ? (double)l->iops_wr : INFINITY;
        orders[k].bytes_per_s = l->bps_wr ? (double)l->bps_wr : INFINITY;
    }
    return n;
}

double brain_release(const struct brain *b, uint64_t id)
{
    struct migbuf_buffer_view view = { .size = sizeof view };

    return b->buffer && !migbuf_buffer_view(b->buffer, id, &view) ? view.release_s : INFINITY;
}
