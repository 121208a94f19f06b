/* SPDX-License-Identifier: MIT */
/* The formulas that have no handle, on any numbers. They answer or refuse, an answer is a number and within what the header
 * promises of it, and a refusal changes nothing.
 *
 * An input is a byte that says which room, and the numbers. */
#include "fuzz.h"
#include "migbuf/convergence.h"
#include "migbuf/downtime.h"
#include "migbuf/history.h"
#include "migbuf/migbuf.h"
#include "migbuf/ram.h"
#include <math.h>

#define UNTOUCHED 0x5a
#define MOST 6
#define DUST 1e-290 /* where a double has no digits left */

static void fill(void *out, size_t bytes)
{
    memset(out, UNTOUCHED, bytes);
}

/* rc 0 or more; or a refusal, and nothing of `out` has changed. */
static int is_done(int rc, const void *out, size_t bytes)
{
    const unsigned char *u = out;

    if (rc >= 0)
        return 1;
    fuzz_check(rc == MIGBUF_E_INVALID || rc == MIGBUF_E_RANGE || rc == MIGBUF_E_NOSPACE || rc == MIGBUF_E_STRUCT ||
               rc == MIGBUF_E_UNSUPPORTED, "%d", rc);
    for (size_t k = 0; k < bytes; k++)
        fuzz_check(u[k] == UNTOUCHED, "refused (%d), and byte %zu has changed", rc, k);
    return 0;
}

#define DONE(out, ...) (fill(&out, sizeof out), is_done(__VA_ARGS__, &out, sizeof out))

/* 0 or more, infinite or not; never NaN. */
#define AMOUNT(x) fuzz_check((x) >= 0, "%g", (double)(x))

static void take_doubles(struct choices *c, double *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        x[k] = take_double(c);
}

/* Mostly one that is taken. */
static uint64_t power(struct choices *c, uint32_t most)
{
    uint8_t x = take_byte(c);

    return x < 240 ? UINT64_C(1) << x % most : take_number(c);
}

static struct migbuf_geometry take_geometry(struct choices *c)
{
    struct migbuf_geometry g = { .virtual_bytes = power(c, 61) + take_byte(c), .cluster_bytes = power(c, 22) };
    uint8_t what = take_byte(c);

    g.subcluster_bytes = what & 1 ? g.cluster_bytes / 32 : what & 2 ? power(c, 22) : g.cluster_bytes;
    g.block_bytes = what & 4 ? power(c, 25) : 0;
    g.request_bytes = what & 8 ? take_number(c) : what & 16 ? power(c, 41) : 0;
    g.queue_bytes = what & 32 ? take_number(c) : 0;
    g.extra_bytes = what & 64 ? take_number(c) : 0;
    g.flags = what & 128 ? take_byte(c) : take_byte(c) & 7;
    return g;
}

static void limits(struct choices *c)
{
    struct migbuf_geometry g[2] = { take_geometry(c), take_geometry(c) };
    struct migbuf_limits l, in_force = { .iops_wr = take_number(c), .iops_size = take_number(c), .bps_wr = take_number(c) };
    struct migbuf_throttle_config hosts[2] = { { .bps = 0 }, { .bps = 0 } }, merged;
    uint64_t bytes, unit = 0, budget = take_number(c), number = take_number(c);
    double x, units = take_double(c), seconds = take_double(c);
    int checked = migbuf_geometry_check(&g[0]), rc;

    if (DONE(unit, migbuf_geometry_unit(&g[0], &unit)))
        fuzz_check(!checked && unit >= g[0].subcluster_bytes && (unit & (unit - 1)) == 0, "unit %llu", (unsigned long long)unit);
    else
        fuzz_check(checked, "a geometry without a unit");
    if (DONE(bytes, migbuf_limits_request_growth(&g[0], number, &bytes)))
        fuzz_check(bytes % unit == 0 && bytes >= number && bytes < number + 2 * unit, "%llu of %llu", (unsigned long long)bytes,
                   (unsigned long long)number);
    if (DONE(x, migbuf_limits_amplification(&g[0], &x)))
        fuzz_check(x == 1 || x == 3, "%g", x);
    if (DONE(bytes, migbuf_limits_metadata(&g[0], &bytes)))
        fuzz_check(bytes >= 4 * g[0].cluster_bytes, "%llu", (unsigned long long)bytes);
    if (DONE(bytes, migbuf_limits_metadata_of(&g[0], number, &bytes)))
        fuzz_check(bytes >= 2 * g[0].cluster_bytes, "%llu", (unsigned long long)bytes);
    if (DONE(x, migbuf_limits_metadata_scattered(&g[0], units, &x)))
        AMOUNT(x);
    if (DONE(bytes, migbuf_limits_whole_disk(&g[0], &bytes)))
        fuzz_check(bytes > g[0].virtual_bytes || bytes == UINT64_C(1) << 60, "%llu of %llu", (unsigned long long)bytes,
                   (unsigned long long)g[0].virtual_bytes);
    if (DONE(bytes, migbuf_limits_drain(&g[0], take_byte(c), number, &bytes)))
        fuzz_check(bytes < UINT64_C(1) << 62, "%llu", (unsigned long long)bytes);
    fill(&l, sizeof l);
    rc = migbuf_limits_from_budget(g, 1 + (number & 1), budget, &l);
    if (is_done(rc, &l, sizeof l)) {
        fuzz_check(rc == (l.iops_wr > 0) && l.iops_wr <= UINT64_C(1000000000000000) && l.bps_wr <= UINT64_C(1000000000000000),
                   "%d: %llu, %llu", rc, (unsigned long long)l.iops_wr, (unsigned long long)l.bps_wr);
        if (rc && DONE(x, migbuf_limits_worst_growth(&g[0], &l, 1, &x)))
            AMOUNT(x);
    }
    if (DONE(x, migbuf_limits_worst_growth(&g[0], &in_force, seconds, &x)))
        AMOUNT(x);
    for (int h = 0; h < 2; h++)
        for (uint64_t *f = &hosts[h].bps; f <= &hosts[h].iops_size; f++)
            *f = take_byte(c) & 192 ? 0 : take_number(c);
    migbuf_limits_host_flags(&hosts[0]);
    if (DONE(merged, migbuf_limits_merge(hosts, 1 + (number & 1), &in_force, &merged)))
        for (const uint64_t *f = &merged.bps; f <= &merged.iops_size; f++)
            fuzz_check(*f <= UINT64_C(1000000000000000), "%llu is more than QEMU takes", (unsigned long long)*f);
}

static void throttle(struct choices *c)
{
    struct migbuf_throttle_constants k;
    double a[5], x, amount[MOST], weight[MOST], y[MOST];
    size_t n = take_below(c, MOST + 1), first[MOST + 1], borrower[2 * MOST], scratch[2 * MOST];
    uint32_t positions[MOST];

    migbuf_throttle_constants_init(&k, sizeof k);
    take_doubles(c, a, 5);
    if (take_byte(c) & 1) {
        k.tau_s = take_double(c);
        k.epsilon_bytes = take_double(c);
        k.epsilon_bytes_per_s = take_double(c);
    }
    if (DONE(x, migbuf_throttle_rate(a[0], a[1], a[2], &k, &x)))
        fuzz_check(x >= k.epsilon_bytes_per_s && x < INFINITY, "%g", x);
    if (DONE(x, migbuf_throttle_literal(a[0], a[1], a[2], a[3], &k, &x)))
        fuzz_check(!isnan(x) && x <= fmax(a[3], 0), "%g", x);
    if (DONE(x, migbuf_throttle_hard_cap(a[0], a[1], a[2], a[3], a[4], &x)))
        AMOUNT(x);
    if (DONE(x, migbuf_throttle_pending(a[0], a[1], a[2], a[3], a[4], a[2], &x)))
        AMOUNT(x);
    take_doubles(c, amount, MOST);
    take_doubles(c, weight, MOST);
    if (DONE(x, migbuf_throttle_shave(amount, a[0] > 0 ? weight : NULL, n, a[1], scratch, &x))) {
        double sum = 0, total = fmax(a[1], 0);

        AMOUNT(x);
        for (size_t i = 0; i < n; i++)
            sum += fmin(amount[i], (a[0] > 0 ? weight[i] : 1) * x);
        fuzz_check(sum <= total * (1 + 1e-9) + DUST || isinf(total), "%g of %g are given at level %g", sum, total, x);
    }
    first[0] = 0;
    for (size_t i = 0; i < MOST; i++)
        first[i + 1] = first[i] + take_below(c, 3);
    for (size_t i = 0; i < 2 * MOST; i++)
        borrower[i] = take_below(c, MOST + 1);
    fill(y, sizeof y);
    if (is_done(migbuf_throttle_lenders(amount, n, first, borrower, scratch, y), y, sizeof y))
        for (size_t i = 0; i < n; i++) {
            fuzz_check(y[i] <= amount[i], "%g of %g", y[i], amount[i]);
            for (size_t at = first[i]; at < first[i + 1]; at++)
                fuzz_check(y[borrower[at]] <= y[i], "a borrower gets %g of its lender's %g", y[borrower[at]], y[i]);
        }
    for (size_t i = 0; i < MOST; i++)
        positions[i] = (uint32_t)take_number(c);
    if (DONE(x, migbuf_priority_mean(positions, n, &x)))
        fuzz_check(x >= 1, "%g", x);
}

static void placement(struct choices *c)
{
    uint32_t weight[MOST];
    uint64_t share[MOST], capacity = take_number(c), sum = 0;
    size_t n = take_below(c, MOST + 1), scratch[2 * MOST];
    double used[MOST], room[MOST], placed[MOST], rest, amount = take_double(c);
    int rc;

    for (size_t i = 0; i < MOST; i++)
        weight[i] = (uint32_t)take_number(c);
    fill(share, sizeof share);
    if (is_done(migbuf_placement_shares(capacity, weight, n, share), share, sizeof share)) {
        for (size_t i = 0; i < n; i++) {
            fuzz_check(share[i] <= capacity - sum, "more than there is");
            sum += share[i];
        }
        fuzz_check(!n || sum == capacity, "%llu of %llu", (unsigned long long)sum, (unsigned long long)capacity);
    }
    take_doubles(c, used, MOST);
    take_doubles(c, room, MOST);
    fill(placed, sizeof placed);
    rc = migbuf_placement_pour(used, room, n, amount, scratch, placed, &rest);
    if (is_done(rc, placed, sizeof placed)) {
        AMOUNT(rest);
        for (size_t i = 0; i < n; i++)
            fuzz_check(placed[i] >= 0 && placed[i] <= amount * (1 + 1e-9), "%g of %g", placed[i], amount);
    }
    rc = migbuf_placement_literal_halving(used, n, amount, take_byte(c));
    is_done(rc, NULL, 0);
    is_done(migbuf_placement_literal_reclaim(room, n, amount), NULL, 0);
}

static void planner(struct choices *c)
{
    struct migbuf_planner_options o;
    struct migbuf_planner_link links[2];
    struct migbuf_planner_guest guests[MOST];
    struct migbuf_planner_slot scratch[MOST + 2];
    struct migbuf_planner_plan plans[MOST];
    double x[MOST], y[MOST], w[MOST], out[MOST];
    size_t n = take_below(c, MOST + 1), count = 1 + (take_byte(c) & 1);
    int rc;

    migbuf_planner_options_init(&o, sizeof o);
    o.capacity_bytes = take_double(c);
    if (take_byte(c) & 1) {
        o.interval_s = take_double(c);
        o.floor = take_double(c);
        o.newcomers = take_double(c);
        o.explore = take_double(c);
    }
    for (int k = 0; k < 2; k++)
        links[k] = (struct migbuf_planner_link){ take_double(c), take_double(c) };
    for (size_t k = 0; k < MOST; k++) {
        uint8_t what = take_byte(c);
        struct migbuf_planner_guest g = { .id = k, .link = what & 1, .draining = what >> 1 & 1, .place = what >> 2, .weight = 1 };

        if (what & 128)
            g.weight = take_double(c);
        g.file_bytes = take_double(c);
        g.left_bytes = take_double(c);
        g.need_bytes = take_double(c);
        g.remaining = take_double(c);
        g.growth_ratio = what & 64 ? take_double(c) : 0.5;
        g.rate = take_double(c);
        g.peak = take_double(c);
        guests[k] = g;
    }
    fill(plans, sizeof plans);
    rc = migbuf_planner_tick(&o, links, count, guests, n, scratch, plans);
    if (is_done(rc, plans, sizeof plans)) {
        fuzz_check(rc <= (int)n, "%d of %zu are cut", rc, n);
        for (size_t k = 0; k < n; k++) {
            const struct migbuf_planner_plan *p = &plans[k];

            fuzz_check(p->send_bytes >= 0 && p->finish_s >= o.interval_s * (1 - 1e-9) && p->need_bytes >= 0 && p->demand >= 0 &&
                       p->cap >= 0 && p->growth >= 0 && p->growth <= p->demand * (1 + 1e-9) && p->rate >= o.floor && p->place < n &&
                       p->cut <= 1, "send %g finish %g need %g demand %g cap %g growth %g rate %g place %u", p->send_bytes, p->finish_s,
                       p->need_bytes, p->demand, p->cap, p->growth, p->rate, p->place);
        }
    }
    take_doubles(c, x, MOST);
    take_doubles(c, y, MOST);
    take_doubles(c, w, MOST);
    fill(out, sizeof out);
    if (is_done(migbuf_planner_finish(x, count & 1 ? w : NULL, n, &links[0], out), out, sizeof out))
        for (size_t k = 0; k < n; k++)
            fuzz_check(out[k] >= (k ? out[k - 1] : 0), "%g after %g", out[k], k ? out[k - 1] : 0);
    fill(out, sizeof out);
    if (is_done(migbuf_planner_caps(o.capacity_bytes, x, y, n, o.floor, o.newcomers, out), out, sizeof out))
        for (size_t k = 0; k < n; k++)
            AMOUNT(out[k]);
    fill(out, sizeof out);
    if (is_done(migbuf_planner_chain(x, y, count & 1 ? w : NULL, n, scratch, out), out, sizeof out))
        for (size_t k = n; k-- > 0;) {
            double sum = 0, largest = y[k];

            fuzz_check(out[k] >= 0 && out[k] <= x[k], "%g of %g", out[k], x[k]);
            for (size_t i = k; i < n; i++)
                sum += out[i];
            for (size_t i = 0; i < n; i++)
                largest = fmax(largest, x[i]);
            fuzz_check(sum <= y[k] + 1e-9 * largest + DUST, "%g beyond the cap %g", sum, y[k]);
        }
}

static void forecast(struct choices *c)
{
    struct migbuf_forecast f, before;
    struct migbuf_growth g, grown;
    double a[5], x;

    for (int k = 0; k < 6; k++) {
        take_doubles(c, a, 5);
        if (k == 0 && migbuf_forecast_init(&f, a[0]))
            migbuf_forecast_init(&f, 0);
        before = f;
        if (migbuf_forecast_update(&f, a[0], a[1], a[2], a[3]) < 0)
            fuzz_check(!memcmp(&f, &before, sizeof f), "refused, and changed");
        fuzz_check(f.rate >= 0 && f.peak >= 0 && f.growth_ratio >= 0 && f.growth_ratio <= 1 && f.written_bytes >= 0, "rate %g peak %g ratio %g",
                   f.rate, f.peak, f.growth_ratio);
        if (DONE(x, migbuf_forecast_remaining(&f, a[3], a[4], &x)))
            AMOUNT(x);
        if (DONE(x, migbuf_forecast_growth(a[0], a[1], a[2], a[3], &x)))
            fuzz_check(x >= 0 && x <= fmax(a[0], 0) * (1 + 1e-9), "%g of %g", x, a[0]);
        if (DONE(x, migbuf_forecast_rate_for(a[0], a[1], a[2], a[3], &x)))
            AMOUNT(x);
        if (DONE(x, migbuf_forecast_bend(a[4], &x)))
            AMOUNT(x);
    }
    migbuf_growth_init(&g);
    for (int k = 0; k < 6; k++) {
        grown = g;
        if (migbuf_growth_sample(&g, take_number(c), take_double(c), take_number(c), take_number(c), take_number(c), take_double(c),
                                 take_double(c)) < 0)
            fuzz_check(!memcmp(&g, &grown, sizeof g), "refused, and changed");
        fuzz_check(g.ratio >= 0.001 && g.ratio <= 3, "ratio %g", g.ratio);
    }
}

static void convergence(struct choices *c)
{
    struct migbuf_convergence v;
    struct migbuf_agreement a;
    struct migbuf_ram_decision d;
    struct migbuf_ram_forecast f, before;
    struct migbuf_ram_turn turns[MOST];
    struct migbuf_rounds rounds = { .count = 0 };
    double x, y;
    uint32_t percent, order[MOST];
    size_t n = take_below(c, MOST + 1);

    migbuf_convergence_init(&v, sizeof v);
    v.ram_bytes = take_double(c);
    v.left_bytes = take_double(c);
    v.exact_bytes = take_double(c);
    v.set_bytes = take_double(c);
    v.rate_bytes_per_s = take_double(c);
    v.link_bytes_per_s = take_double(c);
    v.encoding = take_byte(c) & 128 ? take_double(c) : 1;
    v.fix_ms = take_double(c);
    v.throttle_percent = take_byte(c) & 128 ? take_double(c) : take_byte(c) % 100;
    v.asked_percent = take_byte(c) & 128 ? take_double(c) : take_byte(c) % 100;
    v.limit_ms = take_byte(c) & 128 ? take_double(c) : 300;
    v.elapsed_s = take_double(c);
    v.known = take_byte(c) & 1;
    v.bad_rounds = take_byte(c) & 7;
    v.new_round = take_byte(c) & 1;
    v.rounds = take_byte(c);
    migbuf_agreement_init(&a, sizeof a);
    a.want_ms = 1 + (uint32_t)take_bytes(c, 2);
    a.most_ms = a.want_ms + (uint32_t)take_bytes(c, 2);
    a.throttle_most_percent = take_byte(c) % 101;
    a.deadline_ms = take_number(c);
    a.postcopy = take_byte(c) & 1;
    a.force = take_byte(c) & 1;
    if (DONE(x, migbuf_convergence_least(&v, &x)))
        fuzz_check(x >= v.fix_ms, "%g", x);
    if (DONE(percent, migbuf_convergence_throttle(&v, take_double(c), &percent)))
        fuzz_check(percent <= 101, "%u", percent);
    y = 77;
    if (migbuf_convergence_finish(&v, take_double(c), &x, &y) == 0)
        fuzz_check(x >= 0 && y >= 0 && isinf(x) == isinf(y), "%g s, %g ms", x, y);
    else
        fuzz_check(y == 77, "refused, and changed");
    if (DONE(d, migbuf_convergence_decide(&v, &a, &d)))
        fuzz_check(strcmp(migbuf_ram_action_text(d.action), "unknown") && strcmp(migbuf_ram_reason_text(d.reason), "unknown") &&
                   d.limit_ms <= MIGBUF_RAM_LIMIT_MOST_MS && d.throttle_percent <= 99, "action %d reason %d limit %u throttle %u", d.action,
                   d.reason, d.limit_ms, d.throttle_percent);
    memset(&f, 0, sizeof f);
    f.size = sizeof f;
    before = f;
    if (migbuf_convergence_forecast(&v, &a, &f) < 0)
        fuzz_check(!memcmp(&f, &before, sizeof f), "refused, and changed");
    else
        fuzz_check(f.verdict >= 1 && f.verdict <= 3 && f.deadline_s >= 0 && f.end_least_s <= f.end_s && f.end_s <= f.end_most_s &&
                   f.downtime_ms >= 0 && f.downtime_most_ms >= 0 && f.sent_bytes >= 0 && f.lost_s >= 0,
                   "verdict %d deadline %g end %g %g %g down %g %g sent %g lost %g", f.verdict, f.deadline_s, f.end_least_s, f.end_s,
                   f.end_most_s, f.downtime_ms, f.downtime_most_ms, f.sent_bytes, f.lost_s);
    {
        struct migbuf_ram_options o, was;
        struct migbuf_prior p;

        migbuf_ram_options_init(&o, sizeof o);
        migbuf_prior_init(&p, sizeof p, take_number(c));
        p.encoding = take_double(c);
        p.set_bytes = take_double(c);
        was = o;
        if (migbuf_ram_options_choose(&o, &a, &p, take_byte(c) & 3, take_double(c), take_number(c)) < 0)
            fuzz_check(!memcmp(&o, &was, sizeof o), "refused, and changed");
        else
            fuzz_check(!(o.xbzrle_cache_bytes & (o.xbzrle_cache_bytes - 1)) && o.multifd_channels <= 255, "cache %llu, %u channels",
                       (unsigned long long)o.xbzrle_cache_bytes, o.multifd_channels);
    }
    if (DONE(x, migbuf_convergence_stationary(take_double(c), &x)))
        fuzz_check(x >= 0 && x <= 1, "%g", x);
    {
        double t[4];
        int rc;

        take_doubles(c, t, 4);
        x = y = 77;
        rc = migbuf_convergence_estimate(t[0], t[1], t[2], t[3], &x, &y);
        fuzz_check(rc < 0 ? x == 77 && y == 77 : rc == 0 || (x >= 0 && y >= 0), "%d: W %g r %g", rc, x, y);
        fuzz_check(!isnan(x) && !isnan(y), "%d: W %g r %g", rc, x, y);
    }
    for (size_t k = 0; k < MOST; k++)
        turns[k] = (struct migbuf_ram_turn){ .id = take_byte(c), .held_bytes = take_double(c), .seconds = take_double(c), .ready = take_byte(c) & 1 };
    fill(order, sizeof order);
    if (is_done(migbuf_convergence_order(turns, n, order), order, sizeof order)) {
        unsigned seen = 0;

        for (size_t k = 0; k < n; k++)
            seen |= 1u << order[k];
        fuzz_check(seen == (1u << n) - 1, "not every one has its place");
    }
    for (uint64_t k = 0; k < 8; k++) {
        struct migbuf_ram_report r = { .has_ram = 1, .phase = 3, .has_xbzrle = 1, .page_bytes = 4096 };
        int rc;

        r.sync_count = k / 2;
        r.ram_transferred_bytes = take_number(c);
        r.ram_remaining_bytes = take_number(c);
        r.ram_total_bytes = take_number(c);
        r.normal_pages = take_number(c);
        r.duplicate_pages = take_number(c);
        r.dirty_pages_per_s = take_number(c);
        r.xbzrle_bytes = take_number(c);
        r.xbzrle_pages = take_number(c);
        r.cpu_throttle_percent = take_byte(c);
        r.total_ms = take_number(c);
        migbuf_rounds_update(&rounds, 1000 * k + take_byte(c), &r);
        fuzz_check(rounds.count <= MIGBUF_ROUNDS, "%u rounds", rounds.count);
        x = y = 77;
        rc = migbuf_convergence_rounds(&rounds, &x, &y);
        fuzz_check(!isnan(x) && !isnan(y) && (rc >= 0 || (x == 77 && y == 77)), "%d: W %g r %g", rc, x, y);
    }
}

static void downtime(struct choices *c)
{
    uint64_t disks[2] = { take_number(c), take_number(c) }, seconds, threshold;
    struct migbuf_downtime_cloudstack cloudstack = { (uint32_t)take_number(c), (uint32_t)take_number(c), (uint32_t)take_number(c), 0 };
    struct migbuf_downtime_stall stall = { .count = 0 };
    struct migbuf_downtime_doubling doubling = { .risen = 0 };
    struct migbuf_downtime_trigger trigger = { .threshold = take_byte(c), .initial = take_byte(c), .increment = take_byte(c), .most = take_byte(c) };
    double x, a[3];
    uint32_t ms = 0, most;

    take_doubles(c, a, 3);
    if (DONE(x, migbuf_downtime_nova_gb(take_number(c), disks, 2, &x)))
        AMOUNT(x);
    most = (uint32_t)take_number(c);
    if (DONE(ms, migbuf_downtime_nova(most, take_byte(c), (uint32_t)take_number(c), a[0], a[1], &ms)))
        fuzz_check(ms <= most, "%u of %u ms", ms, most);
    DONE(seconds, migbuf_downtime_nova_timeout((uint32_t)take_number(c), a[0], &seconds));
    migbuf_downtime_nova_action(take_number(c), a[1], take_byte(c) & 3, take_byte(c) & 1, take_byte(c));
    migbuf_downtime_cloudstack(&cloudstack, take_number(c), take_byte(c) & 1, take_byte(c) & 1);
    DONE(seconds, migbuf_downtime_kubevirt_time((uint32_t)take_number(c), take_number(c), &seconds));
    ms = migbuf_downtime_kubevirt_next((uint32_t)take_number(c));
    for (uint64_t k = 0, at_ms = 0; k < 80; k++) {
        at_ms += take_byte(c) * 100u;
        migbuf_downtime_kubevirt(&stall, at_ms, take_bytes(c, 2));
        fuzz_check(stall.count <= MIGBUF_DOWNTIME_CANDIDATES, "%u", stall.count);
    }
    migbuf_downtime_kubevirt_action(take_number(c), a[2], take_byte(c) & 1, take_byte(c) & 1);
    for (int k = 0; k < 12; k++)
        migbuf_downtime_proxmox(&doubling, take_number(c), &ms);
    migbuf_downtime_xen(take_byte(c), take_number(c));
    migbuf_downtime_xen_3(take_byte(c), take_number(c), take_number(c), take_number(c), take_number(c), take_byte(c) & 1);
    if (DONE(x, migbuf_downtime_clark(a[0], a[1], a[2], &x)))
        fuzz_check(x >= a[1] && x <= a[2], "%g", x);
    DONE(threshold, migbuf_downtime_qemu(a[0], (uint32_t)take_number(c), take_number(c), &threshold));
    for (int k = 0; k < 8; k++)
        if (migbuf_downtime_trigger(&trigger, take_number(c), take_number(c)) >= 0)
            fuzz_check(trigger.throttle_percent <= trigger.most, "%u percent", trigger.throttle_percent);
    migbuf_downtime_tailslow(take_byte(c), take_number(c), take_number(c), take_byte(c));
}

static void admission(struct choices *c)
{
    struct migbuf_planner_link links[2];
    struct migbuf_admission_flow running[MOST], waiting[MOST];
    struct migbuf_planner_slot scratch[3 * MOST];
    struct migbuf_admission_turn turns[MOST];
    struct migbuf_state s;
    size_t runs = take_below(c, MOST + 1), waits = take_below(c, MOST + 1);
    uint64_t raw = 0, zipped = 0;

    for (int k = 0; k < 2; k++)
        links[k] = (struct migbuf_planner_link){ take_double(c), take_double(c) };
    for (size_t k = 0; k < MOST; k++) {
        running[k] = (struct migbuf_admission_flow){ .id = k, .link = take_byte(c) & 1, .flow_bytes_per_s = take_double(c), .seconds = take_double(c) };
        waiting[k] = (struct migbuf_admission_flow){ .id = 10 + k, .link = take_byte(c) & 1, .flow_bytes_per_s = take_double(c),
                                                     .disk_bytes = take_double(c), .arrival = take_byte(c) };
    }
    fill(turns, sizeof turns);
    if (is_done(migbuf_admission_queue((int32_t)(take_byte(c) & 3), links, 2, running, runs, waiting, waits, scratch, turns), turns, sizeof turns))
        for (size_t k = 0; k < waits; k++) {
            AMOUNT(turns[k].earliest_s);
            AMOUNT(turns[k].wanted_bytes_per_s);
            AMOUNT(turns[k].link_bytes_per_s);
            fuzz_check(strcmp(migbuf_verdict_text(turns[k].verdict), "unknown") && turns[k].place < waits, "verdict %d", turns[k].verdict);
        }
    migbuf_state_init(&s, sizeof s);
    s.memory_bytes = take_number(c);
    s.device_ram_bytes = take_number(c);
    s.resent_bytes = take_number(c);
    s.cpus = (uint32_t)take_number(c);
    if (migbuf_state_bound(&s, &raw, &zipped) == 0)
        fuzz_check(raw >= s.memory_bytes && zipped >= raw, "%llu, %llu", (unsigned long long)raw, (unsigned long long)zipped);
}

/* Names of numbers, a link's mean, what may be printed. */
static void link_and_words(struct choices *c)
{
    struct migbuf_link l;
    struct migbuf_link_flow f;
    struct migbuf_link_tcp_flow t;
    uint32_t flags;
    struct migbuf_prior p;
    char text[64], printed[48];
    uint64_t now_ms = 0;
    double x;
    int32_t number = (int32_t)take_number(c);

    fuzz_check(*migbuf_strerror(number) && *migbuf_action_text(number) && *migbuf_reason_text(number) && *migbuf_verdict_text(number) &&
               *migbuf_ram_action_text(number) && *migbuf_ram_reason_text(number) && *migbuf_attempt_outcome_text(number) &&
               *migbuf_attempt_phase_text(number) && *migbuf_attempt_why_text(number) && *migbuf_version_text(), "no name for %d", number);
    if (migbuf_link_init(&l, take_double(c)))
        migbuf_link_init(&l, 0);
    migbuf_link_flow_init(&f);
    migbuf_link_tcp_flow_init(&t);
    for (int k = 0; k < 12; k++) {
        now_ms += take_byte(c) * 40u;
        migbuf_link_update(&l, take_byte(c) < 250 ? now_ms : take_number(c), take_double(c), take_byte(c) & 3);
        fuzz_check(migbuf_link_now(&l) >= 0 && migbuf_link_mean(&l) > 0 && migbuf_link_mean(&l) < INFINITY, "now %g, mean %g",
                   migbuf_link_now(&l), migbuf_link_mean(&l));
        if (migbuf_link_flow_update(&f, take_byte(c) < 250 ? now_ms : take_number(c), take_number(c), &x) >= 0)
            fuzz_check(x >= 0 && x < INFINITY, "%g", x);
    }
    for (int k = 0; k < 6; k++) {
        struct migbuf_link_tcp tcp = { .acked_bytes = take_number(c), .delivery_bytes_per_s = take_number(c), .unsent_bytes = take_byte(c),
                                       .busy_us = take_number(c), .flags = take_byte(c) & 1 };

        now_ms += take_byte(c) * 40u;
        if (migbuf_link_tcp_update(&t, now_ms, &tcp, &x, &flags) >= 0)
            fuzz_check(x >= 0 && x < INFINITY, "%g", x);
    }
    if (migbuf_prior_init(&p, sizeof p, take_number(c)) == 0)
        fuzz_check(p.set_bytes > 0 && p.set_most >= p.set_bytes && p.dirty_bytes_per_s > 0, "W %g", p.set_bytes);
    for (size_t k = 0; k < sizeof text - 1; k++)
        text[k] = (char)take_byte(c);
    text[sizeof text - 1] = 0;
    migbuf_printable(text, printed, sizeof printed);
    for (const char *at = printed; *at; at++)
        fuzz_check((unsigned char)*at >= 0x20 && *at != 0x7f, "byte %02x", (unsigned char)*at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const rooms[])(struct choices *) = { limits, throttle, placement, planner, forecast, convergence, downtime, admission,
                                                      link_and_words };
    struct choices c = { data, data + size };

    rooms[take_below(&c, sizeof rooms / sizeof *rooms)](&c);
    return 0;
}
