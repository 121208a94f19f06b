/* SPDX-License-Identifier: MIT */
/* Paper and literal: the library's buffer. Planner: the library's rooms, composed as buffer.h and planner.h say. */
#include "brain.h"
#include "migbuf/forecast.h"
#include "migbuf/planner.h"
#include "migbuf/throttle.h"
#include <math.h>
#include <stdlib.h>

#define DEVICE 1e9 /* unit bytes/s that no guest here exceeds; a host would measure it once */
#define LATE 2.0   /* ticks may come this much later */
#define LAG_S STEP_S
#define BURST_S 0.1
#define BAND 0.1 /* a new rate this near to the one in force is not sent: each set empties QEMU's bucket */
#define PAUSE_S 2.0

/* One member of the composed planner. Sizes and rates in bytes and unit bytes/s. */
struct mind {
    uint64_t id;
    struct migbuf_forecast forecast;
    double disk, flow, file, last_file, written, last_written, left;
    double in_force, paused_at; /* INFINITY: no limit */
    double request, queue, metadata, whole;
    bool draining, paused, first;
    uint32_t drains;
};

struct brain {
    const struct run *run;
    struct migbuf_buffer *buffer;
    struct migbuf_decision *decisions;
    struct mind *minds;
    struct migbuf_planner_guest *guests;
    struct migbuf_planner_plan *plans;
    struct migbuf_planner_slot *slots;
    double *wanted, *slope, *amount;
    size_t *scratch;
    uint32_t count, room;
    double u, mean, last_tick;
};

static int new_buffer(struct brain *b, int32_t policy)
{
    struct migbuf_options o;

    migbuf_options_init(&o, sizeof o);
    o.policy = policy;
    o.interval_ms = (uint32_t)lround(b->run->interval_s * 1000);
    o.late_factor_percent = (uint32_t)(LATE * 100);
    o.lag_ms = (uint32_t)(LAG_S * 1000);
    return migbuf_buffer_new((uint64_t)b->run->omega, &o, NULL, &b->buffer);
}

struct brain *brain_new(const struct run *run, uint32_t most_members)
{
    struct brain *b = calloc(1, sizeof *b);
    size_t n = most_members;
    int rc = 0;

    if (!b)
        return NULL;
    b->run = run;
    b->room = most_members;
    b->last_tick = -1;
    b->decisions = calloc(n, sizeof *b->decisions);
    b->minds = calloc(n, sizeof *b->minds);
    b->guests = calloc(n, sizeof *b->guests);
    b->plans = calloc(n, sizeof *b->plans);
    b->slots = calloc(n + 1, sizeof *b->slots);
    b->wanted = calloc(3 * n, sizeof *b->wanted);
    b->scratch = calloc(n, sizeof *b->scratch);
    b->slope = b->wanted ? b->wanted + n : NULL;
    b->amount = b->wanted ? b->wanted + 2 * n : NULL;
    if (run->policy == POLICY_PAPER || run->policy == POLICY_LITERAL)
        rc = new_buffer(b, run->policy == POLICY_PAPER ? MIGBUF_POLICY_PAPER : MIGBUF_POLICY_LITERAL);
#ifdef MIGBUF_POLICY_PLANNER
    if (run->policy == POLICY_PLANNER)
        rc = new_buffer(b, MIGBUF_POLICY_PLANNER);
#endif
    if (rc || !b->decisions || !b->minds || !b->guests || !b->plans || !b->slots || !b->wanted || !b->scratch) {
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
    free(b->minds);
    free(b->guests);
    free(b->plans);
    free(b->slots);
    free(b->wanted);
    free(b->scratch);
    free(b);
}

static struct mind *find(const struct brain *b, uint64_t id)
{
    for (uint32_t k = 0; k < b->count; k++)
        if (b->minds[k].id == id)
            return &b->minds[k];
    return NULL;
}

static int buffer_add(struct brain *b, const struct member *m)
{
    struct migbuf_migration migration;
    int rc;

    migbuf_migration_init(&migration, sizeof migration);
    migration.id = m->id;
    migration.flow_bytes_per_s = (uint64_t)m->flow;
    migration.device_write_bytes_per_s = (uint64_t)DEVICE;
#ifdef MIGBUF_POLICY_PLANNER
    migration.rate_bytes_per_s = (uint64_t)m->rate_before;
#endif
    rc = migbuf_buffer_add(b->buffer, &migration, &m->geometry, 1, NULL);
    if (!rc && b->u > 0)
        rc = migbuf_buffer_link(b->buffer, 0, (uint64_t)b->u);
    return rc == MIGBUF_E_NOSPACE ? 1 : rc;
}

/* `stop` is a drain, too: who runs may have to be paused, who is paused has paid for it. */
static double reserve(const struct mind *m)
{
    return fmin(m->queue * (m->drains + !m->paused), fmax(0, m->whole - m->file));
}

static double window(const struct brain *b)
{
    return b->run->interval_s * LATE + LAG_S + BURST_S;
}

/* What a rate costs until the next decision lands: a part that comes anyway, and the slope of the rest. */
static double claim(const struct brain *b, const struct mind *m, double rate, double *slope)
{
    double missing = fmax(0, m->whole - m->file), tables = fmin(rate, DEVICE) * window(b) + 2 * CLUSTER;

    if (m->metadata <= tables) {
        *slope = window(b);
        return fmin(m->request + m->metadata, missing);
    }
    *slope = 2 * window(b); /* a table per cluster */
    return fmin(m->request + 2 * CLUSTER, missing);
}

static int mind_add(struct brain *b, const struct member *m)
{
    struct mind *n = &b->minds[b->count];
    uint64_t request, metadata, whole;
    double need = 0, slope;
    int rc;

    *n = (struct mind){ .id = m->id,
                        .disk = m->disk_bytes,
                        .flow = m->flow,
                        .left = m->disk_bytes,
                        .in_force = INFINITY,
                        .queue = (double)m->geometry.queue_bytes,
                        .drains = 4,
                        .first = true };
    rc = migbuf_limits_request_growth(&m->geometry, m->geometry.request_bytes, &request);
    if (!rc)
        rc = migbuf_limits_metadata(&m->geometry, &metadata);
    if (!rc)
        rc = migbuf_limits_whole_disk(&m->geometry, &whole);
    if (!rc)
        rc = migbuf_forecast_init(&n->forecast, m->rate_before);
    if (rc)
        return -1;
    n->request = (double)request;
    n->metadata = (double)metadata;
    n->whole = (double)whole;
    for (uint32_t k = 0; k <= b->count; k++) {
        const struct mind *each = &b->minds[k];
        double fixed = claim(b, each, CLUSTER, &slope);

        need += each->file + reserve(each) + fixed + slope * CLUSTER;
    }
    if (need > b->run->omega)
        return 1;
    b->count++;
    return 0;
}

int brain_add(struct brain *b, const struct member *m)
{
    if (b->buffer)
        return buffer_add(b, m);
    return b->run->policy == POLICY_PLANNER ? mind_add(b, m) : 0;
}

int brain_remove(struct brain *b, uint64_t id)
{
    struct mind *m = find(b, id);

    if (b->buffer)
        return migbuf_buffer_remove(b->buffer, id);
    if (!m)
        return 0;
    b->count--;
    for (; m < b->minds + b->count; m++) { /* plans move along: admission asks for releases between two ticks */
        m[0] = m[1];
        b->plans[m - b->minds] = b->plans[m - b->minds + 1];
    }
    return 0;
}

int brain_sample(struct brain *b, const struct measured *s)
{
    struct mind *m;
    int rc;

    if (b->buffer) {
        struct migbuf_sample sample = { .id = s->id,
                                        .file_bytes = (uint64_t)s->file_bytes,
                                        .written_bytes = (uint64_t)s->written_bytes,
                                        .writes = (uint64_t)s->writes,
                                        .remaining_bytes = (uint64_t)s->left_bytes };

        rc = migbuf_buffer_phase(b->buffer, s->id, s->draining ? MIGBUF_PHASE_DRAIN : MIGBUF_PHASE_BASE,
                                 s->drains_ahead);
        return rc ? rc : migbuf_buffer_sample(b->buffer, &sample, 1);
    }
    m = find(b, s->id);
    if (m) {
        m->file = s->file_bytes;
        m->written = fmax(s->writes * CLUSTER, s->written_bytes); /* in units: exact when all requests are alike */
        m->left = s->left_bytes;
        m->draining = s->draining;
        m->drains = s->drains_ahead;
    }
    return 0;
}

int brain_link(struct brain *b, double now, double mean)
{
    int rc;

    b->u = now;
    b->mean = mean;
    if (!b->buffer)
        return 0;
    rc = migbuf_buffer_link(b->buffer, 0, (uint64_t)now);
    return rc == MIGBUF_E_NOTFOUND ? 0 : rc;
}

static int buffer_tick(struct brain *b, double now_s, struct order *orders)
{
    int n = migbuf_buffer_tick(b->buffer, (uint64_t)lround(now_s * 1000), b->decisions, b->room);

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

/* Steps 2 to 4 of a tick: what each guest will still write. */
static int learn(struct brain *b, double dt)
{
    for (uint32_t k = 0; k < b->count; k++) {
        struct mind *m = &b->minds[k];
        struct migbuf_planner_guest *g = &b->guests[k];
        int rc = 0;

        if (!m->first && dt > 0)
            rc = migbuf_forecast_update(&m->forecast, dt, fmax(0, m->written - m->last_written),
                                        fmax(0, m->file - m->last_file), m->paused ? 0 : m->in_force);
        if (dt > 0) {
            m->last_written = m->written;
            m->last_file = m->file;
        }
        *g = (struct migbuf_planner_guest){
            .id = m->id,
            .draining = m->draining,
            .weight = 1,
            .file_bytes = m->file,
            .left_bytes = m->left,
            .need_bytes = m->first ? 0 : b->plans[k].need_bytes,
            .growth_ratio = m->forecast.growth_ratio,
            .rate = m->forecast.rate,
            .peak = m->forecast.peak,
        };
        if (!rc)
            rc = migbuf_forecast_remaining(&m->forecast, m->file, fmax(0, m->disk - m->file), &g->remaining);
        if (rc)
            return rc;
        m->first = false;
    }
    return 0;
}

/* What is free for the new limits: Ω without files, reserves and what the old limits still let through. */
static double free_bytes(const struct brain *b)
{
    double bytes = b->run->omega;

    for (uint32_t k = 0; k < b->count; k++) {
        const struct mind *m = &b->minds[k];
        double pending = 0;

        if (!m->paused && m->file > 0)
            migbuf_throttle_pending(m->in_force, DEVICE, 1, LAG_S, BURST_S, m->request, &pending);
        bytes -= m->file + reserve(m) + fmin(pending, fmax(0, m->whole - m->file));
    }
    return bytes;
}

static bool near(const struct mind *m, double rate)
{
    if (m->paused || isinf(rate) || isinf(m->in_force))
        return !m->paused && isinf(rate) && isinf(m->in_force);
    return fabs(rate - m->in_force) <= BAND * m->in_force;
}

/* The hard clamp: one level for all, so that whatever guests do, it fits until the next decision. */
static double level_of(struct brain *b, double bytes)
{
    double level = INFINITY;

    for (uint32_t k = 0; k < b->count; k++) {
        const struct mind *m = &b->minds[k];
        double rate = near(m, b->plans[k].rate) ? fmax(m->in_force, b->plans[k].rate) : b->plans[k].rate;
        double fixed = claim(b, m, rate, &b->slope[k]), missing = fmax(0, m->whole - m->file);

        b->wanted[k] = rate;
        b->amount[k] = fmin(b->slope[k] * fmin(rate, DEVICE), missing - fixed);
        bytes -= fixed;
    }
    migbuf_throttle_shave(b->amount, b->slope, b->count, bytes, b->scratch, &level);
    return level;
}

static void decide(struct mind *m, double rate, double level, double now_s, struct order *o)
{
    double value = fmin(rate, level), units;

    *o = (struct order){ .id = m->id, .units_per_s = INFINITY, .bytes_per_s = INFINITY };
    if (m->paused && (value < 2 * CLUSTER || now_s - m->paused_at < PAUSE_S))
        value = 0;
    else if (near(m, value) && m->in_force <= level)
        value = m->in_force;
    units = floor(value / CLUSTER);
    o->paused = units < 1;
    o->units_per_s = units;
    value = units * CLUSTER;
    o->changed = o->paused != m->paused || (!o->paused && !(value <= m->in_force && value >= m->in_force));
    if (o->paused && !m->paused)
        m->paused_at = now_s;
    m->paused = o->paused;
    m->in_force = value;
}

static int planner_tick(struct brain *b, double now_s, struct order *orders)
{
    struct migbuf_planner_link link = { fmax(b->mean, 1), b->count ? b->minds[0].flow : INFINITY };
    struct migbuf_planner_options o;
    double dt = b->last_tick < 0 ? 0 : now_s - b->last_tick, level;

    migbuf_planner_options_init(&o, sizeof o);
    o.capacity_bytes = b->run->omega;
    o.interval_s = b->run->interval_s;
    if (learn(b, dt))
        return -1;
    for (uint32_t k = 0; k < b->count; k++)
        o.capacity_bytes -= reserve(&b->minds[k]);
    o.capacity_bytes = fmax(0, o.capacity_bytes);
    if (migbuf_planner_tick(&o, &link, 1, b->guests, b->count, b->slots, b->plans) < 0)
        return -1;
    level = level_of(b, free_bytes(b));
    for (uint32_t k = 0; k < b->count; k++)
        decide(&b->minds[k], b->plans[k].rate, level, now_s, &orders[k]);
    return (int)b->count;
}

int brain_tick(struct brain *b, double now_s, struct order *orders)
{
    int n = 0;

    if (b->buffer)
        n = buffer_tick(b, now_s, orders);
    else if (b->run->policy == POLICY_PLANNER)
        n = planner_tick(b, now_s, orders);
    b->last_tick = now_s;
    return n;
}

double brain_release(const struct brain *b, uint64_t id)
{
    const struct mind *m = find(b, id);

#ifdef MIGBUF_POLICY_PLANNER
    struct migbuf_buffer_view view = { .size = sizeof view };

    if (b->buffer && !migbuf_buffer_view(b->buffer, id, &view))
        return view.release_s;
#endif
    return m && !m->first ? b->plans[m - b->minds].release_s : INFINITY;
}
