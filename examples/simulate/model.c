/* SPDX-License-Identifier: MIT */
/* Guests, link, throttle and migrations, step by step. What is modelled stands in model.h. */
#include "model.h"
#include "bound.h"
#include "brain.h"
#include "random.h"
#include "migbuf/link.h"
#include <stdlib.h>
#include <string.h>

#define MB 1e6
#define BURST_S 0.1     /* QEMU's bucket */
#define LATE_TICKS 0.02 /* of the ticks are left out: the next one comes after two intervals */
#define QUOTA_PARTS 8
#define FIXED_RATE 10.49e6 /* 10 MiB/s */
#define BRADFORD_WRITES 16384.0
#define BRADFORD_DELAY_S 2.048e-3
#define MIRROR_LATENCY_S 0.5e-3
#define SWITCHOVER_S 0.1 /* what is left to send then no longer needs the guest running */

const char *const policy_names[POLICIES] = { "none",    "quota", "lxd",     "fixed",  "bradford",
                                             "literal", "paper", "planner", "mirror", "proxmox", "hybrid" };
const char *const admission_names[ADMISSIONS] = { "off", "sjf", "fifo" };
const char *const cause_names[CAUSES] = { "reserve", "hysteresis", "late", "noise", "unknown", "clusters" };

const struct scenario scenarios[] = {
    { "normal", "40 migrations, links loaded to 0.7", 40, 1250 * MB, 0.7, 0, { 0.30, 0.30, 0.15, 0.10, 0.15 }, 200e9, 0.5 },
    { "evac16", "a host is emptied: 16 within 30 s", 16, 1250 * MB, 0, 30, { 0.30, 0.30, 0.15, 0.10, 0.15 }, 200e9, 0.5 },
    { "dbhost", "as normal, but databases", 40, 1250 * MB, 0.7, 0, { 0.15, 0.15, 0, 0.45, 0.25 }, 200e9, 0.5 },
    { "1gbe", "20 migrations over 1 Gbit/s", 20, 118 * MB, 0.7, 0, { 0.30, 0.30, 0.15, 0.10, 0.15 }, 200e9, 0.5 },
    { "light", "as normal, most guests idle", 40, 1250 * MB, 0.7, 0, { 0.60, 0.20, 0.05, 0.05, 0.10 }, 200e9, 0.5 },
    { "1gbe100", "as 1gbe, small disks, one flow at a time", 20, 118 * MB, 0.7, 0, { 0.30, 0.30, 0.15, 0.10, 0.15 }, 100e9, 0.9 },
};
const size_t scenario_count = sizeof scenarios / sizeof *scenarios;

/* What a kind of guest does: rates in bytes/s while it is on, size of its requests, how many at a time. */
static const struct habit {
    double low, high, request, depth, on_s, off_s;
} habits[KINDS] = {
    [KIND_IDLE] = { 0.05 * MB, 1 * MB, 8192, 4, 0, 0 },       [KIND_STEADY] = { 5 * MB, 50 * MB, 65536, 16, 0, 0 },
    [KIND_BURSTY] = { 50 * MB, 200 * MB, 262144, 8, 20, 60 }, [KIND_DATABASE] = { 100 * MB, 300 * MB, 32768, 32, 0, 0 },
    [KIND_SMALL] = { 2 * MB, 16 * MB, 4096, 32, 0, 0 },
};

enum state { WAITING, ADMITTED, BASE, DRAIN, DONE, FAILED }; /* ADMITTED: its room is being made, it has not begun */

/* A leaky bucket of QEMU's: what passes is added whole, and only a level above the size holds requests back. */
struct bucket {
    double rate, level; /* INFINITY: no limit */
};

/* What was expected of a migration at one time. */
struct said {
    double at_s, finish_least_s, finish_most_s, peak_least_bytes, peak_most_bytes;
};
#define SAID 16
#define FIRST_SAID_S 10 /* after its start; then at twice the age each time */

struct vm {
    /* Given */
    uint64_t id, stream;
    uint32_t host;
    enum kind kind;
    uint32_t link;
    bool first;
    double disk, arrival_s, rate, request, units, depth; /* units: of one request */
    double hot, cold, hot_part;                          /* clusters; part of the writes that goes to the hot ones */
    double cluster;    /* what one small write allocates, bytes */
    double known_rate; /* what is believed of `rate` */
    double tables, offset_s;
    /* Now */
    enum state state;
    double switch_s; /* next change of a bursty guest */
    uint64_t bursts;
    bool on, paused, mirrored, advised;
    bool stands;    /* its volume is full: until it is at its target */
    double waits_s; /* since something of what it wants was let through */
    double want; /* requests it waits for, and the fraction of the next one */
    struct bucket by_units, by_bytes;
    struct order order; /* on its way to QEMU */
    double hot_left, cold_left, file, left, sent;
    uint32_t drains;
    /* Counted */
    double wanted, written, writes, wanted_units, interval_units;
    double window_wanted, window_done; /* requests since the last slowdown was noted */
    double start_s, end_s, grown_now, peak;
    struct mirror mirror; /* where it is mirrored */
    struct said said[SAID];
    uint32_t said_count;
    struct said said_waiting, said_starting; /* at the first turn that told when; and just before its start */
    bool is_said_waiting, is_said_starting;
};

/* What the controller of a host measures on one link. */
struct meter {
    struct migbuf_link link;
    struct migbuf_link_flow flow;
    double pushed; /* bytes over the link by all its flows */
    bool at_least; /* since the last tick, the link could have carried more: a flow was held by its own limit, or nobody sent */
    uint32_t active;
};

struct host {
    struct brain *brain;
    struct bound *bound;    /* NULL: not asked for */
    struct meter *meters;   /* one per link */
    double used;
};

struct link {
    double rate, flow_limit, share;
    uint64_t seed;
    double dip_start, dip_end, dip_factor;
    struct stream dips;
};

struct model {
    const struct run *run;
    const struct scenario *scenario;
    struct vm *vms;
    uint32_t count;
    struct host *hosts;
    struct order *orders;
    struct migbuf_waiting *queue;
    struct migbuf_admission_turn *turns;
    double *growth;
    struct link *links;
    uint32_t link_count;
    double now, horizon_s;
    uint64_t step;
    struct outcome *out;
    struct fate *fates;
    struct recording *recording;
};

/* Slowdowns */

static void slowdowns_add(struct slowdowns *s, double slowdown, double writes)
{
    int k = slowdown > 1 ? (int)(log2(slowdown) * PER_OCTAVE) : 0;

    s->writes[k < BUCKETS ? k : BUCKETS - 1] += writes;
}

double slowdowns_quantile(const struct slowdowns *s, double q)
{
    double all = 0, below = 0;

    for (int k = 0; k < BUCKETS; k++)
        all += s->writes[k];
    for (int k = 0; k < BUCKETS; k++) {
        double here = s->writes[k];

        if (here > 0 && below + here >= q * all)
            return k ? exp2((k + (q * all - below) / here) / PER_OCTAVE) : 1;
        below += here;
    }
    return 1;
}

/* Guests */

static bool without(const struct run *run, enum cause cause)
{
    return run->without >> cause & 1;
}

static double cluster_of(const struct run *run)
{
    return without(run, CAUSE_CLUSTERS) ? SUBCLUSTER : CLUSTER;
}

static double clusters_after(const struct vm *v, double units)
{
    double hot = v->hot > 0 ? -v->hot * expm1(-units * v->hot_part / v->hot) : 0;

    return hot + (v->cold > 0 ? -v->cold * expm1(-units * (1 - v->hot_part) / v->cold) : 0);
}

static enum kind draw_kind(struct stream *s, const double *mix)
{
    double x = draw(s);

    for (int k = 0; k < KINDS - 1; k++) {
        if (x < mix[k])
            return (enum kind)k;
        x -= mix[k];
    }
    return KIND_SMALL;
}

static void make_vm(const struct model *m, struct vm *v, uint32_t k)
{
    struct stream s = { .id = scramble(m->run->seed * 4096 + k) };
    const struct habit *h;
    double set;

    *v = (struct vm){ .id = k, .stream = scramble(s.id ^ 77), .host = k % m->run->hosts };
    v->kind = draw_kind(&s, m->scenario->mix);
    h = &habits[v->kind];
    v->disk = draw_log(&s, 10e9, m->scenario->most_disk);
    v->rate = draw_log(&s, h->low, h->high);
    v->request = h->request;
    v->depth = h->depth;
    v->cluster = cluster_of(m->run);
    v->units = fmax(1, h->request / v->cluster);
    set = draw_between(&s, 0.02, 0.5) * v->disk / v->cluster;
    v->hot = 0.2 * set;
    v->cold = 0.8 * set;
    v->hot_part = draw_between(&s, 0.5, 0.8);
    v->known_rate = v->rate;
    v->offset_s = m->run->trace ? draw(&s) * m->run->trace->length_s : 0;
    v->hot_left = v->hot;
    v->cold_left = v->cold;
    v->tables = ceil(v->disk / CLUSTER / 8192);
    v->by_units.rate = v->by_bytes.rate = INFINITY;
    v->left = v->disk;
}

static double told_about(struct stream *s, double told)
{
    return told * draw_log(s, 1 / (1 + TOLD_OFF), 1 + TOLD_OFF);
}

/* One that is told of. What is not told is drawn, in the same place whether it is needed or not. */
static void take_guest(const struct model *m, struct vm *v, uint32_t k)
{
    const struct guest *g = &m->run->guests->list[k];
    struct stream s = { .id = scramble(m->run->seed * 4096 + k) };
    double part, set;

    *v = (struct vm){ .id = k, .stream = scramble(s.id ^ 77), .kind = KIND_STEADY, .link = g->link, .first = g->first };
    v->disk = g->disk_bytes;
    v->known_rate = g->write_bytes_per_s;
    v->rate = told_about(&s, g->write_bytes_per_s);
    v->request = g->request_bytes;
    v->depth = g->depth;
    v->cluster = cluster_of(m->run);
    v->units = fmax(1, v->request / v->cluster);
    part = draw_between(&s, 0.02, 0.5);
    set = fmin(v->disk, told_about(&s, g->set_bytes > 0 ? g->set_bytes : part * g->used_bytes)) / v->cluster;
    v->hot = 0.2 * set;
    v->cold = 0.8 * set;
    v->hot_part = draw_between(&s, 0.5, 0.8);
    v->hot_left = v->hot;
    v->cold_left = v->cold;
    v->tables = ceil(v->disk / CLUSTER / 8192);
    v->by_units.rate = v->by_bytes.rate = INFINITY;
    v->left = g->used_bytes;
}

static double trace_rate(const struct trace *t, double at_s)
{
    size_t low = 0, high = t->count;

    at_s = fmod(at_s, t->length_s);
    while (high - low > 1) {
        size_t middle = (low + high) / 2;

        if (t->at_s[middle] <= at_s)
            low = middle;
        else
            high = middle;
    }
    return t->bytes_per_s[low];
}

/* What it would write now if nothing held it, bytes/s. A function of the time alone. */
static double demand(const struct model *m, struct vm *v)
{
    const struct habit *h = &habits[v->kind];

    if (m->run->trace)
        return trace_rate(m->run->trace, m->now + v->offset_s);
    while (h->on_s > 0 && m->now >= v->switch_s) {
        double mean = v->on ? h->off_s : h->on_s;

        v->on = !v->on;
        v->switch_s += fmax(1, -mean * log(random_at(v->stream, v->bursts++)));
    }
    if (h->on_s > 0 && !v->on)
        return 0;
    return v->rate * (0.75 + 0.5 * random_at(v->stream ^ 1, (uint64_t)m->now));
}

static double mean_units_per_s(const struct model *m, const struct vm *v)
{
    const struct habit *h = &habits[v->kind];
    double mean = h->on_s > 0 ? v->known_rate * h->on_s / (h->on_s + h->off_s) : v->known_rate;

    if (m->run->trace) {
        mean = 0;
        for (size_t k = 0; k < m->run->trace->count; k++)
            mean += m->run->trace->bytes_per_s[k] / (double)m->run->trace->count;
    }
    return mean / v->request * v->units * v->cluster;
}

/* Requests of `cost` each that pass in this step, at most `most`. */
static double pass(struct bucket *b, double cost, double most)
{
    double size = b->rate * BURST_S, n;

    if (isinf(b->rate))
        return most;
    b->level = fmax(0, b->level - b->rate * STEP_S);
    n = b->level <= size ? fmin(most, floor((size - b->level) / cost) + 1) : 0;
    b->level += n * cost;
    return n;
}

/* n requests reach the file. */
static void write_requests(struct vm *v, double n)
{
    double units = n * v->units, hot = units * v->hot_part, cold = units - hot, clusters;
    double from_hot = v->hot_left, from_cold = v->cold_left;

    v->hot_left *= v->hot > 0 ? exp(-hot / v->hot) : 1;
    v->cold_left *= v->cold > 0 ? exp(-cold / v->cold) : 1;
    clusters = from_hot - v->hot_left + from_cold - v->cold_left;
    if (v->state == DRAIN) /* new clusters have to be sent, and old ones that were sent already */
        v->left =
            fmin(v->file + clusters * v->cluster,
                 v->left + v->cluster * (clusters + (units - clusters) * (1 - fmin(1, v->left / fmax(v->cluster, v->file)))));
    v->written += n * v->request;
    v->writes += n;
    v->window_done += n;
}

/* What its volume takes, where it has one of its own. */
static double own_volume(const struct run *run, uint32_t vms)
{
    return run->policy == POLICY_LXD ? run->omega * run->hosts / vms : INFINITY;
}

static double file_bytes(const struct model *m, const struct vm *v)
{
    double clusters = v->hot + v->cold - v->hot_left - v->cold_left;

    return fmin(v->cluster * ceil(clusters) + CLUSTER * (4 + fmin(v->tables, ceil(clusters))), own_volume(m->run, m->count));
}

/* A drain pours everything that waits into the file, whatever the limit. */
static void pour(const struct model *m, struct vm *v)
{
    double n = v->stands || without(m->run, CAUSE_RESERVE) ? 0 : floor(v->want);

    v->want -= n;
    write_requests(v, n);
}

/* One of those that come with the migration. */
static void drain(const struct model *m, struct vm *v)
{
    pour(m, v);
    if (v->drains)
        v->drains--;
}

static void note_slowdown(struct vm *v, struct slowdowns *s, bool last)
{
    if (v->window_wanted <= 0 || (!last && v->window_done < 1))
        return;
    slowdowns_add(s, v->window_wanted / fmax(0.5, v->window_done), v->window_wanted);
    v->window_wanted = v->window_done = 0;
}

/* How many of its waiting requests the policy lets through in this step. */
static double let_through(const struct model *m, struct vm *v, double share)
{
    double most = floor(v->want);

    if (v->paused || v->stands)
        return 0;
    if (m->run->policy == POLICY_BRADFORD && v->writes >= BRADFORD_WRITES) {
        v->by_units.rate = v->units / (BRADFORD_DELAY_S * exp2(floor(v->writes / BRADFORD_WRITES) - 1));
        return pass(&v->by_units, v->units, most);
    }
    if (v->mirrored)
        return fmin(most, floor(mirror_lets(&v->mirror, share, MIRROR_LATENCY_S) * STEP_S / v->request +
                                random_at(v->stream ^ 2, m->step)));
    return fmin(pass(&v->by_units, v->units, most), pass(&v->by_bytes, v->request, most));
}

static void guest_step(struct model *m, struct vm *v, double share)
{
    double rate = demand(m, v), wants = rate * STEP_S / v->request, n;

    v->wanted += rate * STEP_S;
    v->wanted_units += wants * v->units;
    v->interval_units += wants * v->units;
    v->window_wanted += wants;
    v->want += wants;
    n = let_through(m, v, share);
    v->waits_s = n < 1 && v->want >= 1 ? v->waits_s + STEP_S : 0;
    m->out->stall_s = fmax(m->out->stall_s, v->waits_s);
    v->want -= n;
    v->want = fmin(v->want, v->depth); /* a guest waits for its requests before it makes others */
    if (v->mirrored) {
        v->sent = mirror_write(&v->mirror, n);
        v->written += n * v->request;
        v->writes += n;
        v->window_done += n;
    } else if (n > 0) {
        write_requests(v, n);
    }
}

/* The link */

static double link_rate(const struct model *m, struct link *l)
{
    uint64_t second = (uint64_t)m->now, stream = scramble(l->seed ^ 0x11ee);
    double noise = random_at(stream, second) + random_at(stream, second + 1) + random_at(stream ^ 5, second / 7) - 1.5;

    if (without(m->run, CAUSE_NOISE))
        return l->rate;
    while (m->now >= l->dip_end) {
        l->dip_start = l->dip_end + draw_exponential(&l->dips, 300);
        l->dip_end = l->dip_start + draw_between(&l->dips, 5, 40);
        l->dip_factor = draw_between(&l->dips, 0.3, 0.7);
    }
    return l->rate * (1 + 0.1 * noise) * (m->now >= l->dip_start ? l->dip_factor : 1);
}

/* What each flow gets in this step. */
static void share_links(struct model *m)
{
    for (uint32_t k = 0; k < m->link_count; k++) {
        struct link *l = &m->links[k];
        uint32_t active = 0;

        for (uint32_t h = 0; h < m->run->hosts; h++)
            active += m->hosts[h].meters[k].active;
        l->share = fmin(l->flow_limit, link_rate(m, l) / fmax(1, active));
        for (uint32_t h = 0; h < m->run->hosts; h++) {
            struct meter *meter = &m->hosts[h].meters[k];

            meter->at_least |= !meter->active || l->share >= 0.98 * l->flow_limit;
        }
    }
}

static struct meter *meter_of(const struct model *m, const struct vm *v)
{
    return &m->hosts[v->host].meters[v->link];
}

static bool runs(const struct vm *v)
{
    return v->state == BASE || v->state == DRAIN;
}

/* Events */

static double limit_most(const struct model *m, const struct vm *v)
{
    return m->run->policy == POLICY_QUOTA ? m->run->omega / QUOTA_PARTS : v->file;
}

/* The interval between two events of a host ends: what the bound has to know. */
static int close_interval(struct model *m, uint32_t host)
{
    if (!m->hosts[host].bound)
        return 0;
    for (uint32_t k = 0; k < m->count; k++) {
        struct vm *v = &m->vms[k];

        m->growth[k] = v->host == host ? v->cluster * clusters_after(v, v->interval_units) : 0;
        if (v->host == host)
            v->interval_units = 0;
    }
    return bound_interval(m->hosts[host].bound, m->growth);
}

/* Did it end, and grow, as it was said to? */
static void compare(const struct vm *v, const struct said *s, double now, struct held *held)
{
    double took = now - s->at_s;

    held->forecasts++;
    held->finish += took >= s->finish_least_s && took <= s->finish_most_s;
    held->peak += v->peak >= s->peak_least_bytes && v->peak <= s->peak_most_bytes;
}

static void hold_to_account(const struct vm *v, double now, struct outcome *out)
{
    for (uint32_t k = 0; k < v->said_count; k++)
        compare(v, &v->said[k], now, &out->running);
    if (v->is_said_waiting && !v->mirrored)
        compare(v, &v->said_waiting, now, &out->waiting);
    if (v->is_said_starting && !v->mirrored)
        compare(v, &v->said_starting, now, &out->starting);
}

static int leave(struct model *m, struct vm *v, enum state state)
{
    struct host *h = &m->hosts[v->host];

    note_slowdown(v, &m->out->slowdowns, true);
    if (state == DONE)
        hold_to_account(v, m->now, m->out);
    v->end_s = m->now;
    v->state = state;
    meter_of(m, v)->active--;
    return close_interval(m, v->host) || brain_remove(h->brain, v->id) ? -1 : 0;
}

static void obey(struct model *m, struct vm *v, const struct order *o)
{
    if (o->paused && !v->paused) {
        pour(m, v);
        m->out->pauses++;
    }
    v->paused = o->paused;
    if (o->paused)
        return;
    /* Each set empties the buckets. */
    v->by_units = (struct bucket){ .rate = o->units_per_s };
    v->by_bytes = (struct bucket){ .rate = o->bytes_per_s };
}

/* Of everybody. */
static bool is_mirror(enum policy policy)
{
    return policy == POLICY_MIRROR || policy == POLICY_PROXMOX;
}

static enum mirror_way way_of(const struct run *run)
{
    return run->policy == POLICY_PROXMOX ? MIRROR_SWITCHED : run->mirror;
}

static struct member member_of(const struct model *m, const struct vm *v)
{
    uint32_t flags = MIGBUF_GEOMETRY_ALIGNED;
    double most = without(m->run, CAUSE_UNKNOWN) ? ceil(v->hot + v->cold) * v->cluster : v->disk;
    struct member member = {
        .id = v->id, .link = v->link, .rate_before = mean_units_per_s(m, v), .flow = m->links[v->link].flow_limit,
        .left_bytes = v->left
    };

    member.mirror = way_of(m->run);
    member.request = v->request;
    member.depth = v->depth;
    member.bytes_before = member.rate_before * v->request / (v->units * v->cluster);
    member.geometry = (struct migbuf_geometry){ .virtual_bytes = (uint64_t)most,
                                                .cluster_bytes = v->cluster < CLUSTER ? 131072 : 65536,
                                                .subcluster_bytes = (uint64_t)v->cluster,
                                                .block_bytes = 4096,
                                                .request_bytes = 1 << 20,
                                                .extra_bytes = MIGBUF_NONE,
                                                .flags = flags };
    member.geometry.queue_bytes = MIGBUF_NONE;
    if (!without(m->run, CAUSE_RESERVE))
        migbuf_limits_drain(&member.geometry, (uint64_t)v->depth, (uint64_t)v->request, &member.geometry.queue_bytes);
    return member;
}

/* The first limit is there, if there is to be one: it writes to its overlay from now on, and is sent. */
static int begin(struct model *m, struct vm *v)
{
    if (close_interval(m, v->host))
        return -1;
    v->state = BASE;
    v->start_s = m->now;
    if (m->run->policy == POLICY_FIXED)
        v->by_bytes.rate = FIXED_RATE;
    v->mirror = (struct mirror){ .way = way_of(m->run), .all = v->left, .set = { v->hot * v->cluster, v->cold * v->cluster },
                                 .part = { v->hot_part, 1 - v->hot_part }, .request = v->request, .depth = v->depth };
    mirror_begin(&v->mirror, m->now, m->links[v->link].flow_limit);
    meter_of(m, v)->active++;
    return 0;
}

static int start(struct model *m, struct vm *v)
{
    struct host *h = &m->hosts[v->host];
    struct member member = member_of(m, v);
    int rc = m->run->policy == POLICY_HYBRID || m->fates ? brain_mirrors(h->brain, &member) : 0;

    if (rc < 0)
        return rc;
    v->advised = rc;
    v->mirrored = is_mirror(m->run->policy) || (m->run->policy == POLICY_HYBRID && v->advised);
    if (v->mirrored) { /* it has no files, and counts on its link all the same */
        member.geometry.virtual_bytes = (uint64_t)CLUSTER;
        member.geometry.request_bytes = member.geometry.queue_bytes = MIGBUF_NONE;
    }
    rc = brain_add(h->brain, &member);
    if (rc)
        return rc;
    v->state = ADMITTED;
    v->drains = v->mirrored || without(m->run, CAUSE_RESERVE) ? 0 : 4;
    return v->mirrored || !brain_limits(h->brain) ? begin(m, v) : 0;
}

static bool is_forecast(const struct run *run)
{
    return run->policy == POLICY_PAPER || run->policy == POLICY_PLANNER || run->policy == POLICY_HYBRID;
}

static struct said said_of(const struct migbuf_outlook *o, double now)
{
    return (struct said){ now, o->finish_least_s, o->finish_most_s, o->peak_least_bytes, o->peak_most_bytes };
}

/* What the library says of one that waits, each once: when it is first told its turn, and when that has come. */
static int ask_before(struct model *m, struct vm *v, const struct migbuf_waiting *w, double start_s)
{
    bool *is_said = start_s > 0 ? &v->is_said_waiting : &v->is_said_starting;
    struct migbuf_outlook o;

    if (*is_said || isinf(start_s) || !is_forecast(m->run))
        return 0;
    if (brain_outlook_waiting(m->hosts[v->host].brain, w, start_s, &o))
        return -1;
    *(start_s > 0 ? &v->said_waiting : &v->said_starting) = said_of(&o, m->now);
    *is_said = isfinite(o.finish_s);
    return 0;
}

/* Does one that goes first wait for the same link? Then the others are not asked for yet. */
static bool is_behind(const struct model *m, const struct vm *v)
{
    for (uint32_t k = 0; k < m->count && !v->first; k++)
        if (m->vms[k].first && m->vms[k].state == WAITING && m->vms[k].link == v->link)
            return true;
    return false;
}

/* Who of a host's waiting ones may start now. */
static int admit(struct model *m, uint32_t host)
{
    struct host *h = &m->hosts[host];
    size_t waiting = 0;
    int rc = 0;

    for (uint32_t k = 0; k < m->count; k++) {
        const struct vm *v = &m->vms[k];
        struct member member;

        if (v->host != host || v->state != WAITING || v->arrival_s > m->now || is_behind(m, v))
            continue;
        member = member_of(m, v);
        if (brain_waiting(h->brain, &member, &m->queue[waiting]))
            return -1;
        m->queue[waiting++].arrival = (uint64_t)(v->arrival_s * 1000);
    }
    if (!waiting)
        return 0;
    if (m->run->admission != ADMISSION_OFF)
        rc = brain_turns(h->brain, m->run->admission, m->queue, waiting, m->turns);
    for (size_t k = 0; k < waiting && rc >= 0; k++) {
        bool off = m->run->admission == ADMISSION_OFF;

        rc = ask_before(m, &m->vms[m->queue[k].id], &m->queue[k], off ? 0 : m->turns[k].earliest_s);
        if (rc >= 0 && (off || m->turns[k].verdict == MIGBUF_VERDICT_START))
            rc = start(m, &m->vms[m->queue[k].id]);
    }
    return rc < 0 ? -1 : 0;
}

/* What the library says of those that run, now and then, to be compared with what becomes of them. */
static int ask_outlooks(struct model *m, uint32_t host)
{
    if (!is_forecast(m->run))
        return 0;
    for (uint32_t k = 0; k < m->count; k++) {
        struct vm *v = &m->vms[k];
        struct migbuf_outlook o;

        if (v->host != host || !runs(v) || v->mirrored || v->said_count == SAID ||
            m->now - v->start_s < FIRST_SAID_S * exp2(v->said_count))
            continue;
        if (brain_outlook(m->hosts[host].brain, v->id, &o))
            return -1;
        v->said[v->said_count++] = said_of(&o, m->now);
    }
    return 0;
}

/* A tick of one host's controller. */
static int control(struct model *m, uint32_t host)
{
    struct host *h = &m->hosts[host];
    double rate;
    int n;

    for (uint32_t k = 0; k < m->link_count; k++) {
        struct meter *l = &h->meters[k];

        migbuf_link_flow_update(&l->flow, (uint64_t)lround(m->now * 1000), (uint64_t)l->pushed, &rate);
        migbuf_link_update(&l->link, (uint64_t)lround(m->now * 1000), rate,
                           l->at_least || !l->active ? MIGBUF_LINK_AT_LEAST : 0);
        l->at_least = false;
    }
    if (admit(m, host))
        return -1;
    for (uint32_t k = 0; k < m->link_count; k++)
        if (brain_link(h->brain, k, migbuf_link_now(&h->meters[k].link)))
            return -1;
    for (uint32_t k = 0; k < m->count; k++) {
        struct vm *v = &m->vms[k];
        struct measured s = { .id = v->id,
                              .file_bytes = v->file,
                              .written_bytes = v->written,
                              .writes = v->writes,
                              .left_bytes = v->left,
                              .draining = v->state == DRAIN,
                              .drains_ahead = v->drains };

        if (v->host != host || (!runs(v) && v->state != ADMITTED))
            continue;
        note_slowdown(v, &m->out->slowdowns, false);
        if (brain_sample(h->brain, (uint64_t)lround(m->now * 1000), &s))
            return -1;
    }
    n = ask_outlooks(m, host) ? -1 : brain_tick(h->brain, m->now, m->orders);
    for (int k = 0; k < n; k++) {
        struct vm *v = &m->vms[m->orders[k].id];

        if (v->mirrored || m->orders[k].waits)
            continue;
        if (v->state == ADMITTED) { /* the first limit is there before the overlay is */
            if (begin(m, v))
                return -1;
            obey(m, v, &m->orders[k]);
            drain(m, v);
        } else if (m->orders[k].changed) {
            v->order = m->orders[k];
        }
    }
    return n < 0 ? -1 : 0;
}

/* What is over Ω fails the guest that wrote last and most. */
static int enforce_space(struct model *m, uint32_t host)
{
    struct host *h = &m->hosts[host];
    struct vm *worst = NULL;

    h->used = 0;
    for (uint32_t k = 0; k < m->count; k++) {
        struct vm *v = &m->vms[k];

        if (v->host != host || !runs(v))
            continue;
        h->used += v->file;
        v->peak = fmax(v->peak, v->file);
        if (v->file > limit_most(m, v)) {
            h->used -= v->file;
            if (leave(m, v, FAILED))
                return -1;
            continue;
        }
        if (!worst || v->grown_now > worst->grown_now)
            worst = v;
    }
    m->out->peak = fmax(m->out->peak, h->used / m->run->omega);
    if (h->used <= m->run->omega || !worst)
        return 0;
    m->out->overflows++;
    h->used -= worst->file;
    return leave(m, worst, FAILED);
}

static int vm_step(struct model *m, struct vm *v, double share)
{
    double budget = share * STEP_S;

    v->sent = 0;
    if (v->order.changed) {
        obey(m, v, &v->order);
        v->order.changed = false;
    }
    guest_step(m, v, share);
    budget = fmax(0, budget - v->sent);
    if (v->mirrored) {
        meter_of(m, v)->pushed += v->sent + mirror_copy(&v->mirror, m->now, STEP_S, share, budget);
        v->left = mirror_left(&v->mirror);
        return v->left > (v->mirror.way == MIRROR_BACKGROUND ? share * SWITCHOVER_S : 0) ? 0 : leave(m, v, DONE);
    }
    meter_of(m, v)->pushed += v->sent + fmin(budget, v->left);
    v->left -= fmin(budget, v->left);
    v->grown_now = -v->file;
    v->file = file_bytes(m, v);
    if (!v->stands && v->file >= own_volume(m->run, m->count)) {
        v->stands = true;
        m->out->overflows++;
    }
    if (v->state == BASE && v->left <= 0) {
        v->state = DRAIN;
        drain(m, v);
        v->file = v->left = file_bytes(m, v);
    } else if (v->state == DRAIN && v->left <= share * SWITCHOVER_S) {
        drain(m, v); /* the mirror is ended, then the guest stopped */
        v->file = file_bytes(m, v);
        v->grown_now += v->file;
        v->left = 0;
        return 0;
    }
    v->grown_now += v->file;
    return 0;
}

static int finish_drained(struct model *m)
{
    for (uint32_t k = 0; k < m->count; k++)
        if (m->vms[k].state == DRAIN && m->vms[k].left <= 0 && leave(m, &m->vms[k], DONE))
            return -1;
    return 0;
}

static int record(struct model *m)
{
    struct recording *r = m->recording;
    struct frame f = { .at_s = m->now };

    if (!r || m->now < (double)r->count * r->every_s)
        return 0;
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 256;
        struct frame *more = realloc(r->frames, room * sizeof *more);

        if (!more)
            return -1;
        r->frames = more;
        r->room = room;
    }
    f.file = calloc(m->count, sizeof *f.file);
    if (!f.file)
        return -1;
    for (uint32_t k = 0; k < m->count; k++)
        f.file[k] = m->vms[k].host == 0 && runs(&m->vms[k]) ? m->vms[k].file : 0;
    r->frames[r->count++] = f;
    return 0;
}

void recording_free(struct recording *r)
{
    for (size_t k = 0; k < r->count; k++)
        free(r->frames[k].file);
    free(r->frames);
    r->frames = NULL;
    r->count = r->room = 0;
}

/* 1 while there is something left to do, 0 at the end, -1 when something is wrong. */
static int step(struct model *m, uint64_t per_tick)
{
    uint32_t active = 0, to_come = 0;
    double next = INFINITY;

    for (uint32_t k = 0; k < m->count; k++) {
        active += runs(&m->vms[k]) || m->vms[k].state == ADMITTED;
        if (m->vms[k].state == WAITING) {
            to_come++;
            next = fmin(next, m->vms[k].arrival_s);
        }
    }
    if ((!active && !to_come) || m->now > m->horizon_s)
        return 0;
    if (!active && next > m->now + 2 * m->run->interval_s) { /* nothing happens until somebody comes */
        m->step = (uint64_t)(next / m->run->interval_s) * per_tick;
        m->now = (double)m->step * STEP_S;
    }
    if (m->step % per_tick == 0 && (without(m->run, CAUSE_LATE) ||
                                    random_at(scramble(m->run->seed ^ 0x1a7e), m->step) > LATE_TICKS))
        for (uint32_t h = 0; h < m->run->hosts; h++)
            if (control(m, h))
                return -1;
    share_links(m);
    for (uint32_t k = 0; k < m->count; k++)
        if (runs(&m->vms[k]) && vm_step(m, &m->vms[k], m->links[m->vms[k].link].share))
            return -1;
    m->step++;
    m->now = (double)m->step * STEP_S;
    for (uint32_t h = 0; h < m->run->hosts; h++)
        if (enforce_space(m, h))
            return -1;
    return finish_drained(m) || record(m) ? -1 : 1;
}

/* What carries them, and how long that takes at best. */
static int prepare_links(struct model *m, double *longest_s)
{
    const struct guests *g = m->run->guests;

    m->link_count = g ? g->link_count : 1;
    m->links = calloc(m->link_count, sizeof *m->links);
    if (!m->links)
        return -1;
    *longest_s = 0;
    for (uint32_t k = 0; k < m->link_count; k++) {
        struct link *l = &m->links[k];
        double bytes = 0;

        l->rate = g ? g->links[k] : m->scenario->link;
        l->flow_limit = g ? fmin(l->rate, g->flow_bytes_per_s) : l->rate * m->scenario->flow_part;
        l->seed = m->run->seed ^ (uint64_t)k << 32;
        l->dips.id = scramble(l->seed ^ 0xd195);
        for (uint32_t v = 0; v < m->count; v++)
            bytes += m->vms[v].link == k ? m->vms[v].left : 0;
        *longest_s = fmax(*longest_s, bytes / l->rate);
    }
    return 0;
}

static int prepare_host(struct model *m, struct host *h)
{
    h->brain = brain_new(m->run, m->count, m->link_count);
    h->bound = m->fates ? NULL : bound_new(m->count, m->run->omega);
    h->meters = calloc(m->link_count, sizeof *h->meters);
    if (!h->brain || !h->meters || (!m->fates && !h->bound))
        return -1;
    for (uint32_t k = 0; k < m->link_count; k++)
        if (migbuf_link_init(&h->meters[k].link, m->links[k].rate) ||
            brain_link(h->brain, k, m->links[k].rate)) /* who is asked for advice knows it then */
            return -1;
    return 0;
}

/* When each is asked for. Returns the last of them. */
static double prepare_arrivals(struct model *m)
{
    struct stream s = { .id = scramble(m->run->seed ^ 0xa11) };
    const struct scenario *c = m->scenario;
    double at = 0, bytes = 0;

    if (m->run->guests)
        return 0;
    for (uint32_t k = 0; k < m->count; k++)
        bytes += m->vms[k].disk;
    for (uint32_t k = 0; k < m->count; k++) {
        at = c->load > 0 ? at + draw_exponential(&s, bytes / m->count / (c->link * c->load))
                         : draw_between(&s, 0, c->within_s);
        m->vms[k].arrival_s = at;
    }
    return at;
}

static int prepare(struct model *m)
{
    double last_s, longest_s;

    m->vms = calloc(m->count, sizeof *m->vms);
    m->hosts = calloc(m->run->hosts, sizeof *m->hosts);
    m->orders = calloc(m->count, sizeof *m->orders);
    m->queue = calloc(m->count, sizeof *m->queue);
    m->turns = calloc(m->count, sizeof *m->turns);
    m->growth = calloc(m->count, sizeof *m->growth);
    if (!m->vms || !m->hosts || !m->orders || !m->queue || !m->turns || !m->growth)
        return -1;
    for (uint32_t k = 0; k < m->count; k++)
        (m->run->guests ? take_guest : make_vm)(m, &m->vms[k], k);
    last_s = prepare_arrivals(m);
    if (prepare_links(m, &longest_s))
        return -1;
    m->horizon_s = 7200 + 6 * fmax(last_s, longest_s);
    for (uint32_t h = 0; h < m->run->hosts; h++)
        if (prepare_host(m, &m->hosts[h]))
            return -1;
    return 0;
}

static struct fate fate_of(const struct model *m, const struct vm *v)
{
    struct fate f = { .ending = v->state == DONE     ? ENDING_AWAY
                                : v->state == FAILED ? ENDING_FAILED
                                : runs(v)            ? ENDING_STUCK
                                                     : ENDING_NEVER_BEGAN,
                      .start_s = v->start_s,
                      .end_s = v->state == DONE || v->state == FAILED ? v->end_s : m->now,
                      .wanted_bytes = v->wanted,
                      .written_bytes = v->written,
                      .file_bytes = v->peak,
                      .mirrored = v->mirrored,
                      .advised = v->advised };

    return f;
}

static int sum_up(struct model *m)
{
    struct outcome *o = m->out;
    double delivered = 0, completion = 0, bound = 0;
    uint32_t wrote = 0;

    o->vms = m->count;
    for (uint32_t k = 0; k < m->count; k++) {
        struct vm *v = &m->vms[k];

        if (m->fates)
            m->fates[k] = fate_of(m, v);
        if (runs(v)) {
            note_slowdown(v, &o->slowdowns, true);
            o->stuck++;
        }
        if (v->state == WAITING || v->state == ADMITTED)
            o->stuck++;
        o->failed += v->state == FAILED;
        if (v->state == DONE) {
            o->finished++;
            completion += v->end_s - v->arrival_s;
        }
        o->makespan_s = fmax(o->makespan_s, v->end_s);
        o->wanted_bytes += v->wanted;
        o->written_bytes += v->written;
        if (v->wanted > 0) {
            delivered += fmin(1, v->written / v->wanted);
            wrote++;
        }
    }
    for (uint32_t h = 0; h < m->run->hosts && !m->fates; h++) {
        uint32_t here = 0;

        if (close_interval(m, h)) /* of those that are stuck */
            return -1;
        for (uint32_t k = 0; k < m->count; k++) {
            m->growth[k] = m->vms[k].host == h ? m->vms[k].cluster * clusters_after(&m->vms[k], m->vms[k].wanted_units) : 0;
            here += m->vms[k].host == h && m->vms[k].wanted > 0;
        }
        bound += here * bound_value(m->hosts[h].bound, m->growth, here);
    }
    o->vm_delivered = wrote ? delivered / wrote : 1;
    o->bound = wrote && !is_mirror(m->run->policy) && m->run->policy != POLICY_HYBRID ? bound / wrote : 1;
    o->completion_s = o->finished ? completion / o->finished : 0;
    o->p99 = slowdowns_quantile(&o->slowdowns, 0.99);
    return 0;
}

int model_run(const struct run *run, struct outcome *out, struct fate *fates, struct recording *recording)
{
    struct model m = { .run = run,
                       .scenario = run->scenario,
                       .count = run->guests ? run->guests->count : run->scenario->vms,
                       .out = out,
                       .fates = fates,
                       .recording = recording };
    uint64_t per_tick = (uint64_t)lround(run->interval_s / STEP_S);
    int rc;

    *out = (struct outcome){ 0 };
    if (recording) {
        recording->vms = m.count;
        recording->omega = run->omega;
    }
    rc = prepare(&m);
    if (!rc)
        do
            rc = step(&m, per_tick ? per_tick : 1);
        while (rc > 0);
    if (!rc)
        rc = sum_up(&m);
    for (uint32_t h = 0; m.hosts && h < run->hosts; h++) {
        brain_free(m.hosts[h].brain);
        bound_free(m.hosts[h].bound);
        free(m.hosts[h].meters);
    }
    free(m.links);
    free(m.vms);
    free(m.hosts);
    free(m.orders);
    free(m.queue);
    free(m.turns);
    free(m.growth);
    return rc;
}
