/* SPDX-License-Identifier: MIT */
#include "move.h"
#include "migbuf/downtime.h"
#include "random.h"
#include <string.h>

#define GIB 1073741824.0
#define PAGE 4096.0
#define SMALL 10000 /* bytes: QEMU ends a round with a few pages left */

/* Guests */

static double draw_normal(struct stream *s)
{
    double r = sqrt(-2 * log(draw(s)));

    return r * cos(6.283185307179586 * draw(s));
}

void guest_draw(struct guest *g, uint64_t population, uint32_t n, double link_bytes_per_s)
{
    /* How many of a hundred, bytes written a second, and the part of its memory that is written again and again. */
    static const struct { int share; double rate, part; } kind[] = {
        { 30, 1e6, 0.01 }, { 30, 15e6, 0.03 }, { 20, 70e6, 0.15 }, { 12, 120e6, 0.10 }, { 8, 500e6, 0.30 },
    };
    struct stream s = { .id = scramble(population ^ scramble(n)) };
    double which = 100 * draw(&s), busier = link_bytes_per_s < 5e8 ? 1 : 4, rate, hot, warm;
    int k = 0;

    while (k < 4 && which >= kind[k].share)
        which -= kind[k++].share;
    g->ram_bytes = GIB * pow(2, 1 + floor(5 * draw(&s)));
    g->used_bytes = g->ram_bytes * (1 - draw_between(&s, 0.05, 0.5));
    rate = kind[k].rate * busier * exp(0.6 * draw_normal(&s));
    hot = fmin(g->used_bytes * kind[k].part * exp(0.4 * draw_normal(&s)), 0.8 * g->used_bytes);
    warm = fmin(g->used_bytes - hot, 5 * hot);
    g->set[0] = hot, g->set[1] = fmax(warm, PAGE), g->set[2] = fmax(g->used_bytes - hot - warm, PAGE);
    g->rate[0] = 0.9 * rate, g->rate[1] = 0.08 * rate, g->rate[2] = 0.02 * rate;
    g->period_s = k == 3 ? draw_between(&s, 20, 90) : 0;
    g->shift = draw(&s);
    g->postcopy_slow = draw_between(&s, 0.4, 0.9);
}

struct guest guest_again(const struct guest *g, uint64_t population, uint32_t n, uint32_t day)
{
    struct stream s = { .id = scramble(population ^ scramble(n ^ scramble(day + 1))) };
    double rate = exp(0.25 * draw_normal(&s)), hot = exp(0.25 * draw_normal(&s));
    struct guest again = *g;

    again.set[0] = fmin(g->set[0] * hot, 0.8 * g->used_bytes);
    again.set[1] = fmax(fmin(g->used_bytes - again.set[0], 5 * again.set[0]), PAGE);
    again.set[2] = fmax(g->used_bytes - again.set[0] - again.set[1], PAGE);
    for (int k = 0; k < MODEL_CLASSES; k++)
        again.rate[k] *= rate;
    again.shift = draw(&s);
    return again;
}

double guest_rate(const struct guest *g)
{
    return g->rate[0] + g->rate[1] + g->rate[2];
}

static double activity(const struct guest *g, double t)
{
    double at;

    if (g->period_s <= 0)
        return 1;
    at = t / g->period_s + g->shift;
    return at - floor(at) < 0.6 ? 1.6 : 0.1;
}

double move_deadline_s(const struct guest *g, double link_bytes_per_s)
{
    return fmax(60, 6 * g->used_bytes / link_bytes_per_s);
}

/* QEMU */

enum { ACTIVE, COMPLETED, ABORTED };

struct qemu {
    const struct guest *guest;
    struct model_memory memory;
    struct migbuf_downtime_trigger trigger; /* auto-converge, with what it was told */
    bool converges, again_5s;               /* it is armed; from 9.2 on it also looks every 5 s */
    double link, limit_ms, stopped_s;       /* stopped_s below 0: the guest runs */
    double lost_s, downtime_s;
    int status;
};

static void finish(struct qemu *q)
{
    double last = memory_left(&q->memory) / q->link + MOVE_FIX_S;

    q->downtime_s = last + (q->stopped_s >= 0 ? q->memory.time_s - q->stopped_s : 0);
    q->memory.sent_bytes += memory_left(&q->memory);
    q->memory.time_s += last;
    q->lost_s += q->downtime_s;
    q->status = COMPLETED;
}

static void sync_pages(struct qemu *q)
{
    double dirty, sent;

    if (memory_sync(&q->memory, &dirty, &sent) && q->converges)
        migbuf_downtime_trigger(&q->trigger, (uint64_t)dirty, (uint64_t)sent);
}

static void step(struct qemu *q, double dt)
{
    double throttle = q->converges ? q->trigger.throttle_percent : 0, fits = q->link * q->limit_ms / 1000;
    double speed = activity(q->guest, q->memory.time_s) * (1 - throttle / 100);

    memory_step(&q->memory, dt, 100 * (1 - speed), q->stopped_s < 0, q->link * dt);
    q->lost_s += q->stopped_s < 0 ? throttle / 100 * dt : 0;
    if (memory_left(&q->memory) >= fits && memory_left(&q->memory) >= SMALL) {
        if (q->again_5s && q->converges && q->memory.sync_count > 1 && q->memory.time_s - q->memory.sync_s > 5)
            sync_pages(q);
        return;
    }
    sync_pages(q);
    if (memory_left(&q->memory) < fits || (q->stopped_s >= 0 && memory_left(&q->memory) < SMALL))
        finish(q);
}

static void stop(struct qemu *q)
{
    if (q->stopped_s < 0)
        q->stopped_s = q->memory.time_s;
}

/* What is still missing there comes meanwhile, and slows the guest. */
static void post_copy(struct qemu *q)
{
    double left = memory_exact(&q->memory);

    q->memory.sent_bytes += left;
    q->downtime_s = MOVE_FIX_S;
    q->lost_s += MOVE_FIX_S + left / q->link * q->guest->postcopy_slow;
    q->memory.time_s += left / q->link + MOVE_FIX_S;
    q->status = COMPLETED;
}

/* Rules */

const char *const rule_name[RULES] = { "nova", "nova-postcopy", "cloudstack", "cloudstack-pause", "kubevirt", "kubevirt-force",
                                       "proxmox", "xen", "xen-3", "qemu-7", "qemu-10", "incus", "ours", "ours-98", "ours-force",
                                       "ours-postcopy", "ours-both" };
const char *const rule_text[RULES] = {
    "Nova: 500 ms in 10 steps, abort after 800 s per GiB",
    "Nova, post-copy instead of abort",
    "CloudStack: QEMU's 300 ms, abort after an hour",
    "CloudStack: 500 ms, pause after 120 s",
    "KubeVirt: no disruption allowed",
    "KubeVirt: disruption allowed",
    "Proxmox: 100 ms, doubled again and again",
    "Xen since 4.6: five rounds",
    "Xen 3: 29 rounds or three times the memory",
    "QEMU 7.2: auto-converge 20/10, 300 ms",
    "QEMU 9.2 and later: the same",
    "Incus: auto-converge 50/10, 300 ms",
    "ours: 500 ms, throttle 80 %, else abort",
    "ours: 500 ms, throttle 98 %, else abort",
    "ours: 500 ms, throttle 80 %, then force",
    "ours: 500 ms, no throttle, post-copy",
    "ours: 500 ms, throttle 50 %, post-copy",
};

/* What a rule remembers. */
struct mind {
    enum rule rule;
    struct migbuf_downtime_doubling doubling;
    struct migbuf_downtime_stall stall;
    struct migbuf_rounds rounds;
    struct migbuf_agreement agreement;
    struct migbuf_ram_decision decision;
    double gb, best_bytes, act_s, give_up_s; /* KubeVirt: once stalled, by when it acts and by when it gives up; 0: not yet */
    uint64_t timeout_s, sent_bytes, syncs;
    bool limit_set, new_round, by_means;
};

struct migbuf_agreement rule_agreement(enum rule rule)
{
    struct migbuf_agreement a;

    migbuf_agreement_init(&a, sizeof a);
    a.throttle_most_percent = rule == RULE_OURS_98 ? 98 : rule == RULE_OURS_POSTCOPY ? 0 : rule == RULE_OURS_BOTH ? 50 : 80;
    a.force = rule == RULE_OURS_FORCE;
    a.postcopy = rule == RULE_OURS_POSTCOPY || rule == RULE_OURS_BOTH;
    return a;
}

static void begin_rule(struct mind *x, struct qemu *q)
{
    static const struct migbuf_downtime_trigger usual = { .threshold = 50, .initial = 20, .increment = 10, .most = 99 };

    migbuf_downtime_nova_gb((uint64_t)(q->guest->ram_bytes / 1048576), NULL, 0, &x->gb);
    migbuf_downtime_nova_timeout(800, x->gb, &x->timeout_s);
    if (x->rule == RULE_KUBEVIRT || x->rule == RULE_KUBEVIRT_HARD)
        migbuf_downtime_kubevirt_time(150, (uint64_t)q->guest->ram_bytes, &x->timeout_s);
    if (x->rule == RULE_XEN || x->rule == RULE_XEN_3)
        q->limit_ms = 50 * PAGE / q->link * 1000;
    q->trigger = usual;
    q->converges = x->rule == RULE_QEMU_7 || x->rule == RULE_QEMU_10 || x->rule == RULE_INCUS;
    q->again_5s = x->rule == RULE_QEMU_10;
    if (x->rule == RULE_INCUS)
        q->trigger.initial = 50, q->trigger.threshold = 20;
    if (!rule_is_ours(x->rule))
        return;
    x->agreement = rule_agreement(x->rule);
    q->limit_ms = x->agreement.want_ms;
    q->converges = q->again_5s = x->agreement.throttle_most_percent > 0; /* armed so that it bites by a hundredth (ram.h) */
    q->trigger.initial = q->trigger.increment = q->trigger.most = 1;
}

static void nova(struct mind *x, struct qemu *q)
{
    double t = q->memory.time_s;
    uint32_t ms;

    migbuf_downtime_nova(500, 10, 75, x->gb, t, &ms);
    q->limit_ms = ms ? ms : q->limit_ms;
    switch (migbuf_downtime_nova_action(x->timeout_s, t, x->rule == RULE_NOVA_POSTCOPY, 1, MIGBUF_RAM_PHASE_ACTIVE)) {
    case MIGBUF_RAM_POSTCOPY:
        post_copy(q);
        break;
    case MIGBUF_RAM_ABORT:
        q->status = ABORTED;
        break;
    default:
        break;
    }
}

static void cloudstack(struct mind *x, struct qemu *q)
{
    const struct migbuf_downtime_cloudstack c = { .downtime_ms = x->rule == RULE_CLOUDSTACK ? 0 : 500,
                                                  .pauseafter_ms = x->rule == RULE_CLOUDSTACK ? 0 : 120000,
                                                  .wait_s = 3600 };

    switch (migbuf_downtime_cloudstack(&c, (uint64_t)(q->memory.time_s * 1000), q->stopped_s < 0, x->limit_set)) {
    case MIGBUF_RAM_DOWNTIME:
        q->limit_ms = c.downtime_ms;
        x->limit_set = true;
        break;
    case MIGBUF_RAM_STOP:
        stop(q);
        break;
    case MIGBUF_RAM_ABORT:
        q->status = ABORTED;
        break;
    default:
        break;
    }
}

static void kubevirt_acts(struct mind *x, struct qemu *q, double left)
{
    x->give_up_s = q->memory.time_s + 60;
    switch (migbuf_downtime_kubevirt_action((uint64_t)left, q->link, x->rule == RULE_KUBEVIRT_HARD, 0)) {
    case MIGBUF_RAM_FORCE:
        q->limit_ms = MIGBUF_RAM_LIMIT_MOST_MS;
        break;
    case MIGBUF_RAM_DOWNTIME:
        q->limit_ms = 900;
        break;
    default:
        q->status = ABORTED;
        break;
    }
}

/* Once stalled it waits for a round that begins as low as the best did, 4 % more at most, and no longer than 40 s. */
static void kubevirt(struct mind *x, struct qemu *q)
{
    double t = q->memory.time_s, left = memory_left(&q->memory);

    if (x->give_up_s > 0) {
        if (t > x->give_up_s)
            q->status = ABORTED;
        return;
    }
    if (q->memory.sync_count != x->syncs) {
        x->syncs = q->memory.sync_count;
        if (!x->act_s && migbuf_downtime_kubevirt(&x->stall, (uint64_t)(t * 1000), (uint64_t)left) == 1)
            x->act_s = t + 40;
        if (x->act_s > 0 && (left <= 1.04 * x->best_bytes || t >= x->act_s))
            kubevirt_acts(x, q, left);
        x->best_bytes = x->best_bytes > 0 ? fmin(x->best_bytes, left) : left;
    }
    if (x->give_up_s <= 0 && t > (double)x->timeout_s) { /* too long altogether */
        if (x->rule == RULE_KUBEVIRT)
            q->status = ABORTED;
        q->limit_ms = MIGBUF_RAM_LIMIT_MOST_MS;
        x->give_up_s = t + 60;
    }
}

static void proxmox(struct mind *x, struct qemu *q)
{
    uint32_t ms;

    if ((uint64_t)q->memory.sent_bytes == x->sent_bytes)
        return;
    x->sent_bytes = (uint64_t)q->memory.sent_bytes;
    if (!migbuf_downtime_proxmox(&x->doubling, (uint64_t)memory_left(&q->memory), &ms))
        q->limit_ms = ms;
}

/* At the beginning of a round: it has sent so many before. */
static void xen(struct mind *x, struct qemu *q)
{
    uint32_t rounds = (uint32_t)q->memory.sync_count - 1;
    uint64_t pages = (uint64_t)(memory_left(&q->memory) / PAGE);
    uint64_t sent = (uint64_t)(q->memory.sent_bytes / PAGE), all = (uint64_t)(q->guest->used_bytes / PAGE);
    bool enough = x->rule == RULE_XEN ? migbuf_downtime_xen(rounds, pages) == 1
                                      : migbuf_downtime_xen_3(rounds, pages, pages, sent, all, 0) == 1;

    if (rounds && enough)
        q->limit_ms = MIGBUF_RAM_LIMIT_MOST_MS;
}

/* What migbuf_ram_convergence makes of a report. */
static int see(const struct mind *x, const struct qemu *q, struct migbuf_convergence *c)
{
    double since_s = q->memory.time_s - (double)x->rounds.at_ms / 1000;
    const struct migbuf_round *newest;
    int known;

    migbuf_convergence_init(c, sizeof *c);
    known = migbuf_convergence_rounds(&x->rounds, &c->set_bytes, &c->rate_bytes_per_s);
    if (known < 0)
        return known;
    newest = &x->rounds.round[x->rounds.count - 1];
    c->known = (uint32_t)known;
    c->ram_bytes = q->guest->used_bytes;
    c->left_bytes = memory_left(&q->memory);
    c->link_bytes_per_s = newest->sent_bytes > 0 ? newest->sent_bytes / newest->span_s : q->link;
    c->fix_ms = MOVE_FIX_S * 1000;
    c->throttle_percent = q->converges ? q->trigger.throttle_percent : 0;
    c->asked_percent = x->decision.throttle_percent;
    c->limit_ms = q->limit_ms;
    c->elapsed_s = q->memory.time_s;
    c->bad_rounds = x->decision.bad_rounds;
    c->new_round = x->new_round;
    c->rounds = (uint32_t)x->rounds.finished;
    c->exact_bytes = c->left_bytes + c->rate_bytes_per_s * (1 - c->throttle_percent / 100) * fmax(since_s, 0);
    c->exact_bytes = fmin(c->exact_bytes, fmax(c->set_bytes, c->left_bytes));
    return 0;
}

static void ours(struct mind *x, struct qemu *q)
{
    struct migbuf_convergence c;
    struct migbuf_ram_decision d;

    if (see(x, q, &c) || migbuf_convergence_decide(&c, &x->agreement, &d))
        return;
    x->new_round = false;
    x->decision = d;
    q->limit_ms = d.limit_ms;
    x->by_means |= d.action >= MIGBUF_RAM_THROTTLE && d.action != MIGBUF_RAM_WAIT;
    if (d.action == MIGBUF_RAM_THROTTLE) { /* as migbuf__ram_want has it */
        uint32_t now = q->trigger.throttle_percent ? q->trigger.throttle_percent : 1;

        q->trigger.most = d.throttle_percent;
        q->trigger.increment = d.throttle_percent > now ? d.throttle_percent - now : 1;
    } else if (d.action == MIGBUF_RAM_POSTCOPY) {
        post_copy(q);
    } else if (d.action == MIGBUF_RAM_ABORT) {
        q->status = ABORTED;
    }
}

/* A report after each step in which a round ended, as MIGRATION_PASS tells of it. */
static void hear(struct mind *x, const struct qemu *q)
{
    struct migbuf_ram_report r = { .phase = MIGBUF_RAM_PHASE_ACTIVE };

    memory_report(&q->memory, &r);
    r.cpu_throttle_percent = q->converges ? q->trigger.throttle_percent : 0;
    x->new_round |= migbuf_rounds_update(&x->rounds, r.total_ms, &r) == 1;
}

static void turn(struct mind *x, struct qemu *q)
{
    switch (x->rule) {
    case RULE_NOVA:
    case RULE_NOVA_POSTCOPY:
        nova(x, q);
        break;
    case RULE_CLOUDSTACK:
    case RULE_CLOUDSTACK_PAUSE:
        cloudstack(x, q);
        break;
    case RULE_KUBEVIRT:
    case RULE_KUBEVIRT_HARD:
        kubevirt(x, q);
        break;
    case RULE_PROXMOX:
        proxmox(x, q);
        break;
    case RULE_XEN:
    case RULE_XEN_3:
        xen(x, q);
        break;
    case RULE_QEMU_7:
    case RULE_QEMU_10:
    case RULE_INCUS:
        break;
    default:
        ours(x, q);
        break;
    }
}

/* How often a rule looks, s. */
static double period(enum rule rule)
{
    switch (rule) {
    case RULE_NOVA:
    case RULE_NOVA_POSTCOPY:
        return 0.5;
    case RULE_CLOUDSTACK:
    case RULE_CLOUDSTACK_PAUSE:
    case RULE_XEN:
    case RULE_XEN_3:
        return 0.1;
    case RULE_KUBEVIRT:
    case RULE_KUBEVIRT_HARD:
        return 0.4;
    default:
        return 1;
    }
}

static void tell(const struct mind *x, const struct qemu *q, struct migbuf_attempt *a)
{
    struct migbuf_convergence c;

    migbuf_attempt_init(a);
    a->outcome = q->status == COMPLETED ? MIGBUF_ATTEMPT_MOVED : MIGBUF_ATTEMPT_BACK;
    a->phase = q->status == COMPLETED ? MIGBUF_ATTEMPT_TARGET : MIGBUF_ATTEMPT_RAM;
    a->why = q->status == COMPLETED ? MIGBUF_ATTEMPT_DONE : MIGBUF_ATTEMPT_NO_CONVERGENCE;
    a->ram_ms = (uint64_t)(q->memory.time_s * 1000);
    a->ram_bytes = (uint64_t)q->guest->used_bytes;
    a->sent_bytes = (uint64_t)q->memory.sent_bytes;
    if (see(x, q, &c))
        return;
    a->link_bytes_per_s = (uint64_t)c.link_bytes_per_s;
    a->dirty_bytes_per_s = (uint64_t)c.rate_bytes_per_s;
    if (c.known && c.set_bytes < 1e18)
        a->set_bytes = (uint64_t)c.set_bytes;
}

void move(const struct guest *g, enum rule rule, double link_bytes_per_s, struct moved *m)
{
    double dt = link_bytes_per_s < 5e8 ? 0.1 : 0.05, look_s = period(rule);
    struct qemu q = { .guest = g, .link = link_bytes_per_s, .limit_ms = 300, .stopped_s = -1 };
    struct mind x = { .rule = rule };

    *m = (struct moved){ .deadline_s = move_deadline_s(g, link_bytes_per_s) };
    memory_begin(&q.memory);
    memcpy(q.memory.set, g->set, sizeof g->set);
    memcpy(q.memory.rate, g->rate, sizeof g->rate);
    q.memory.zero_bytes = g->ram_bytes - g->used_bytes;
    begin_rule(&x, &q);
    hear(&x, &q);
    for (double next = look_s; q.status == ACTIVE && q.memory.time_s < 12 * m->deadline_s;) {
        uint64_t syncs = q.memory.sync_count;
        bool passed;

        step(&q, dt);
        passed = q.memory.sync_count != syncs;
        if (passed)
            hear(&x, &q);
        if (q.status == ACTIVE && (q.memory.time_s >= next - 1e-9 || (passed && rule_is_ours(rule)))) {
            turn(&x, &q);
            next = q.memory.time_s + look_s;
        }
    }
    m->arrived = q.status == COMPLETED;
    m->aborted = q.status == ABORTED;
    m->by_means = x.by_means;
    m->end_s = q.memory.time_s;
    m->downtime_s = q.downtime_s;
    m->sent_bytes = q.memory.sent_bytes;
    m->lost_s = q.lost_s;
    if (rule_is_ours(rule))
        tell(&x, &q, &m->attempt);
}
