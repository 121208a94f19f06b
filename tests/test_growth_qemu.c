/* SPDX-License-Identifier: MIT */
/*
 * What overlays of real VMs do under the limits we set: growth follows the budget, whatever is written and however the
 * overlay is made. Upper bounds are the promise of limits.h and hold at every look, never "mostly".
 *
 * MIGBUF_QEMU_MATRIX=B runs all combinations for a budget of B MB/s instead of a dozen; tests/matrix.sh makes a table of
 * them all. MIGBUF_QEMU runs another QEMU.
 */
#include "qemu_lab.h"
#include <stdio.h>
#include <string.h>

#define LOOK_S 0.05
#define LATE_PERCENT 300

/* Growth follows the budget */

struct cell {
    double budget; /* MB/s */
    uint32_t write;
    uint32_t cluster;
    bool extended, unaligned, sequential;
};

/* One VM that the library holds to a budget. */
struct run {
    struct cell cell;
    struct lab_vm v;
    struct lab_loop loop;
    double budget, seconds; /* bytes/s; since the overlay */
    double worst, strict;   /* most of what was allowed that was ever used; the same with one burst for all changes */
    double tick_s, ratio; /* of the loop, when it is over */
    uint32_t pauses, cut; /* cut: ticks that found Ω too small for the budget */
    double half_s, end_s, unthrottled, lost_s; /* lost: in the second half this program itself was not let run */
    uint64_t half, grown;
};

static const struct cell telling[] = {
    { 0.1, 512, 65536, false, false, false },  { 0.1, 65536, 65536, false, true, false },
    { 0.1, 4096, 131072, true, true, false },  { 1, 512, 65536, false, false, false },
    { 5, 4096, 65536, false, false, true },    { 1, 65536, 65536, false, true, false },
    { 1, 4096, 16384, false, false, false },   { 5, 65536, 16384, false, true, true },
    { 5, 1048576, 65536, false, false, true }, { 5, 4096, 131072, true, true, false },
    { 5, 1048576, 131072, true, true, false }, { 20, 1048576, 16384, false, true, false },
    { 1, 4096, 65536, false, false, true },    { 20, 65536, 65536, false, false, false },
};

/* Small neighbours in a deep queue are merged, which a count of writes does not tell. */
static uint32_t depth_of(const struct cell *c)
{
    if (c->write >= MIB)
        return c->sequential ? 2 : 1;
    return c->sequential && c->write == 4096 && c->budget <= 1 ? 32 : 4;
}

/* What the claim of such a guest takes of Ω, and the limit in force until the next one lands (buffer.h): the worst case of
 * every unit, and many pass where each grows the file by little. Random writes begin to meet what was written. */
static double claim_of(const struct cell *c, double tick_s)
{
    double unit = c->extended ? c->cluster / 32.0 : c->cluster;
    double ratio = c->sequential ? fmin(1, c->write / unit) : 0.5;

    return 3 * c->budget * 1e6 / ratio * (0.01 * LATE_PERCENT * tick_s + 4 * 0.1);
}

static struct lab_wish wish_of(const struct cell *c, double seconds, double tick_s, uint32_t number)
{
    struct lab_wish wish = lab_wish();
    uint64_t window = (uint64_t)fmax(64 * MIB, 4e6 * c->budget * seconds);

    wish.disk_bytes = (window + (uint64_t)claim_of(c, tick_s)) / MIB * MIB + 2 * MIB;
    wish.cluster_bytes = c->cluster;
    wish.extended = c->extended;
    wish.by_fd = number % 2;
    wish.guest = (struct writer_params){
        .sectors = c->write / 512,
        .window = (uint32_t)(window / c->write),
        .start = 2048 + c->unaligned,
        .random = !c->sequential,
        .seed = number + 1,
        .depth = depth_of(c),
        .id = number + 1,
    };
    return wish;
}

/* Everything the promise consists of, after `t` seconds. Each time a limit is set the bucket is emptied: a tenth of a
 * second and a request more (limits.h). Until the ratio is known the worst case goes on for a tick, as long as that really
 * was. Where the budget cannot buy one unit a second the library stops the VM, and a stop pours the queue: the library waits
 * until that is made up for, but one of them is always still owed. */
static double allowed(const struct run *r, double t, uint32_t sets)
{
    const struct migbuf_geometry *g = &r->v.geometry;
    uint64_t request, metadata;
    double factor;

    ck_assert_int_eq(migbuf_limits_request_growth(g, g->request_bytes, &request), 0);
    ck_assert_int_eq(migbuf_limits_metadata(g, &metadata), 0);
    ck_assert_int_eq(migbuf_limits_amplification(g, &factor), 0);
    return r->budget * (t + (factor - 1) * (fmax(r->loop.longest_s, r->loop.tick_s) + 0.1)) +
           sets * (r->budget * 0.1 + (double)request) + (double)metadata + (double)(r->loop.pauses ? g->queue_bytes : 0);
}

/* All that takes time, so that VMs prepared one after the other can begin together. The disk is too large for Ω, else the
 * library would see that it needs no throttle; Ω is so large that only the budget counts. */
static void prepare(struct run *r, const struct cell *c, double seconds, uint32_t number, double stall_s)
{
    double tick_s = 0.25 * (1 << number % 3);
    struct lab_wish wish = wish_of(c, seconds, tick_s, number);
    char name[32];

    *r = (struct run){ .cell = *c, .budget = c->budget * 1e6, .seconds = seconds, .tick_s = tick_s };
    snprintf(name, sizeof name, "cell%u", number);
    lab_start(&r->v, name, &wish);
    lab_wait_acknowledged(&r->v, 1);
    lab_learn(&r->v);
    lab_loop_begin(&r->loop, &r->v, wish.disk_bytes, (uint64_t)r->budget, r->tick_s, LATE_PERCENT, (uint32_t)(1e3 * stall_s));
}

static void look(struct run *r)
{
    uint64_t grown = lab_grown(&r->v);
    double t = lab_now() - r->v.overlay_s; /* after the look: what grew later is not seen, what was seen had that long */

    if (t - r->end_s > 5 * LOOK_S && r->half_s)
        r->lost_s += t - r->end_s;
    r->worst = fmax(r->worst, (double)grown / allowed(r, t, r->v.sets));
    r->strict = fmax(r->strict, (double)grown / allowed(r, t, 1));
    if (t < r->seconds / 2) {
        r->half = grown;
        r->half_s = t;
    }
    r->grown = grown;
    r->end_s = t;
    if (lab_loop_step(&r->loop)) {
        int32_t reason = lab_loop_view(&r->loop).reason;

        r->cut += reason == MIGBUF_REASON_ROOM || reason == MIGBUF_REASON_SPACE;
    }
}

/* Whether the guest could have done more: what it does without our limit. */
static void let_go(struct run *r)
{
    double since = lab_now();
    uint64_t before;

    r->pauses = r->loop.pauses;
    r->ratio = lab_loop_view(&r->loop).ratio;
    lab_loop_end(&r->loop);
    before = lab_grown(&r->v);
    lab_restore(&r->v);
    lab_sleep(0.25);
    r->unthrottled = (double)(lab_grown(&r->v) - before) / (lab_now() - since);
}

/* What could be used in the time it had. */
static double steady(const struct run *r)
{
    return (double)(r->grown - r->half) / fmax(r->end_s - r->half_s - r->lost_s, LOOK_S) / r->budget;
}

static bool must_use_it(const struct run *r)
{
    return r->budget >= 4.0 * (double)r->v.geometry.subcluster_bytes && r->unthrottled >= 2 * r->budget;
}

static void print_run(const struct run *r, const char *remark)
{
    const struct cell *c = &r->cell;
    char cluster[32];

    snprintf(cluster, sizeof cluster, "%u KiB%s", c->cluster / 1024, c->extended ? " ext" : "");
    printf("# | %4.1f | %7u | %11s | %-9s | %-10s | %4.2f | %-4s | %6.3f | %5.3f | %5.3f | %5.3f | %5.1f | %5.3f | %2u "
           "| %2u | %s |\n",
           c->budget, c->write, cluster, c->unaligned ? "no" : "yes", c->sequential ? "sequential" : "random", r->tick_s,
           r->v.wish.by_fd ? "fd" : "name", (double)r->grown / r->end_s / 1e6, r->worst, r->strict, steady(r),
           r->unthrottled / 1e6, r->ratio, r->v.sets, r->pauses, remark);
    fflush(stdout);
}

/* A batch of VMs side by side, each with its own budget. */
static void run_batch(struct run *runs, size_t n)
{
    for (bool over = false; !over;) {
        double look_at = lab_now() + LOOK_S;

        over = true;
        for (size_t k = 0; k < n; k++) {
            if (lab_now() - runs[k].v.overlay_s >= runs[k].seconds)
                continue;
            look(&runs[k]);
            over = false;
        }
        lab_sleep_until(look_at);
    }
}

static bool is_good(const char *verdict)
{
    return !strncmp(verdict, "ok", 2);
}

static const char *judge(struct run *r)
{
    if (r->worst > 1)
        return "TOO MUCH";
    if (r->cut) /* then it was not the budget that was measured */
        return "OMEGA TOO SMALL";
    if (r->lost_s > 0.5 * (r->end_s - r->half_s))
        return "ok (host was busy)";
    if (!must_use_it(r))
        return r->unthrottled >= 2 * r->budget ? "ok (few units)" : "ok (guest is slow)";
    return steady(r) >= 0.8 ? "ok" : "too little";
}

static double duration_of(const struct cell *c, double least)
{
    double requests = 20.0 * c->write / (c->budget * 1e6); /* enough of them, so that one more or less is no matter */

    return fmax(least, requests);
}

static void run_cells(struct run *runs, const struct cell *cells, size_t n, uint32_t number, double least)
{
    for (size_t k = 0; k < n; k++)
        prepare(&runs[k], &cells[k], duration_of(&cells[k], least), number + (uint32_t)k, 0);
    for (size_t k = 0; k < n; k++)
        lab_overlay(&runs[k].v);
    run_batch(runs, n);
}

/* Returns how many cells are out of bounds. Too much is too much; what a noisy neighbour can do to a guest is measured once
 * more, twice as long. */
static unsigned measure(const struct cell *cells, size_t n, uint32_t number, double least, bool again)
{
    struct run *runs = calloc(n, sizeof *runs);
    struct cell *doubtful = calloc(n, sizeof *doubtful);
    size_t doubts = 0;
    unsigned bad = 0;

    ck_assert(runs && doubtful);
    run_cells(runs, cells, n, number, least);
    for (size_t k = 0; k < n; k++) {
        const char *verdict;

        let_go(&runs[k]);
        verdict = judge(&runs[k]);
        print_run(&runs[k], verdict);
        if (!strcmp(verdict, "too little") && !again)
            doubtful[doubts++] = cells[k];
        else
            bad += !is_good(verdict);
        lab_end(&runs[k].v);
    }
    if (doubts) {
        printf("# %zu of them again, alone and for longer\n", doubts);
        bad += measure(doubtful, doubts, number, 2 * runs[0].seconds, true);
    }
    free(runs);
    free(doubtful);
    return bad;
}

static void print_head(void)
{
    printf("# | budget MB/s | write | cluster | aligned | order | tick s | by | growth MB/s | most of allowed "
           "| same, one burst | 2nd half of budget | free MB/s | ratio | sets | stops | verdict |\n"
           "# |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
}

/* All cells of one budget in MB/s. */
static unsigned matrix(double budget)
{
    static const uint32_t writes[] = { 512, 4096, 65536, 1048576 }, clusters[] = { 65536, 16384, 131072 };
    size_t at_once = budget > 10 ? 3 : budget > 2 ? 6 : 12;
    unsigned bad = 0;

    for (uint32_t i = 0; i < 4; i++) { /* twelve VMs: clusters, alignment, order */
        struct cell cells[12];

        for (uint32_t k = 0; k < 12; k++)
            cells[k] = (struct cell){ budget, writes[i], clusters[k % 3], k % 3 == 2, k / 3 % 2, k / 6 };
        for (size_t k = 0; k < 12; k += at_once)
            bad += measure(cells + k, at_once, i * 12 + (uint32_t)k, budget < 1 ? 20 : 10, false);
    }
    return bad;
}

START_TEST(growth_follows_the_budget)
{
    const char *budget = getenv("MIGBUF_QEMU_MATRIX");
    unsigned bad = 0;

    print_head();
    if (budget && atof(budget) > 0)
        bad = matrix(atof(budget));
    else
        bad = measure(telling, sizeof telling / sizeof *telling, 0, 8, false);
    ck_assert_uint_eq(bad, 0);
}
END_TEST

/* Deciding again is not sending again */

static struct lab_wish appending(uint32_t write, uint32_t depth)
{
    struct lab_wish wish = lab_wish();

    wish.guest.sectors = write / 512;
    wish.guest.window = (uint32_t)((wish.disk_bytes - MIB) / write);
    wish.guest.random = 0;
    wish.guest.depth = depth;
    wish.no_merging = true;
    return wish;
}

static void send_again(struct lab_vm *v)
{
    lab_call(
        v, "block_set_io_throttle",
        "{\"id\": \"%s\", \"bps\": 0, \"bps_rd\": 0, \"bps_wr\": 0, \"iops\": 0, \"iops_rd\": 0, \"iops_wr\": %llu, "
        "\"iops_size\": %llu}",
        migbuf_disk_qdev(v->disk, VM_DISK_NODE), (unsigned long long)v->limits.iops_wr,
        (unsigned long long)v->limits.iops_size);
}

/* Growth of three VMs in 8 s at 10 units a second, in units: set once, decided again each second, sent again each second. */
static void grow_at_1_hz(double grown[3])
{
    struct lab_wish wish = appending(131072, 4);
    uint64_t before[3];
    struct lab_vm v[3];
    double start;

    for (int k = 0; k < 3; k++) {
        wish.by_fd = k % 2;
        lab_start(&v[k], (const char *[]){ "once", "decided", "sent" }[k], &wish);
        lab_wait_acknowledged(&v[k], 1);
        lab_learn(&v[k]);
        lab_units(&v[k], 10);
        lab_overlay(&v[k]);
    }
    lab_sleep(1.5); /* bursts are over */
    for (int k = 0; k < 3; k++)
        before[k] = lab_grown(&v[k]);
    start = lab_now();
    for (int s = 1; s <= 8; s++) {
        lab_learn(&v[1]);
        lab_units(&v[1], 10);
        send_again(&v[2]);
        lab_sleep_until(start + s);
    }
    for (int k = 0; k < 3; k++) {
        grown[k] = (double)(lab_grown(&v[k]) - before[k]) / 65536;
        lab_end(&v[k]);
    }
    printf("# 10 units/s for 8 s: set once %.0f, decided again each second %.0f, sent again each second %.0f units\n",
           grown[0], grown[1], grown[2]);
}

START_TEST(a_rate_decided_again_each_second_is_the_same_rate)
{
    double grown[3];

    for (int k = 0; k < 5; k++) { /* 80 units are due; a host that does not let a guest run says nothing about QEMU */
        grow_at_1_hz(grown);
        if (grown[0] >= 78 && fabs(grown[1] - grown[0]) <= 0.05 * grown[0] && grown[2] > 1.15 * grown[0])
            break;
    }
    ck_assert_double_le(fabs(grown[1] - grown[0]), 0.05 * grown[0]);
    ck_assert_double_gt(grown[2], 1.15 * grown[0]); /* else this test could not tell */
}
END_TEST

/* 10 kB/s, which takes subclusters of 4 KiB: a write of 1 MiB is 256 units, two minutes at 2 units a second. Who waited for
 * that would see nothing of a raise to 5 MB/s in its first ten seconds, however slow or fast the host is. Returns whether
 * the first write was done and two more followed within a second. */
static bool raise_and_feel(void)
{
    struct lab_wish wish = appending(MIB, 8);
    struct migbuf_limits limits;
    struct lab_vm v;
    uint32_t before, writes = 0, in_first = 0;
    double since, first = 0;

    wish.cluster_bytes = 131072;
    wish.extended = wish.by_fd = true;
    lab_start(&v, "raise", &wish);
    lab_wait_acknowledged(&v, 1);
    lab_learn(&v);
    ck_assert_int_eq(migbuf_limits_from_budget(&v.geometry, 1, 10000, &limits), 1);
    ck_assert_uint_eq(limits.iops_wr, 2);
    lab_limit(&v, &limits);
    lab_overlay(&v);
    lab_sleep(0.5);
    lab_wait_in_flight(&v, 8);
    before = lab_status(&v).acknowledged;
    lab_sleep(1);
    ck_assert_uint_le(lab_status(&v).acknowledged - before, 1);
    before = lab_status(&v).acknowledged;
    ck_assert_int_eq(migbuf_limits_from_budget(&v.geometry, 1, 5000000, &limits), 1);
    since = lab_now();
    lab_limit(&v, &limits);
    while (lab_now() < since + 1 || (writes < 5 && lab_now() < since + 10)) {
        writes = lab_status(&v).acknowledged - before;
        if (lab_now() < since + 1)
            in_first = writes;
        if (!first && writes)
            first = lab_now() - since;
        lab_sleep(0.001);
    }
    since = lab_now() - since;
    printf("# raised from 10 kB/s to 5 MB/s: first write after %.1f ms, %u MiB in a second, %u in %.2f s\n", first * 1e3,
           in_first, writes, since);
    ck_assert_double_le((double)writes, 5000000 * (since + 0.1) / 1048576 + 2); /* one woken, one on credit */
    lab_end(&v);
    return first > 0 && first < 1 && in_first >= 3 && writes >= 5;
}

/* A host that lets nobody run for a second says nothing about QEMU: then once more, five times at most. */
START_TEST(a_raise_is_felt_at_once)
{
    bool felt = false;

    for (int k = 0; k < 5 && !felt; k++)
        felt = raise_and_feel();
    ck_assert(felt);
}
END_TEST

/* Merging */

static unsigned long long merged_requests(struct lab_vm *v)
{
    unsigned long long sum = 0;

    lab_call(v, "query-blockstats", NULL);
    for (const char *at = v->answer.text; (at = strstr(at, "\"wr_merged\": ")); at++)
        sum += strtoull(at + 13, NULL, 10);
    return sum;
}

/*
 * What comes through after a raise. Until then the bucket owes for the 32 writes of 64 KiB that the guest sent side by side
 * before it was limited; the next 32 wait. A raise empties the bucket and lets the first request in on credit: all that waits,
 * when it was merged into one. Looked at for half a second, or until it is more than the bound of requests that stay apart.
 */
struct raised {
    double grown, bound, bound_apart; /* both bounds for the time it was looked at */
    unsigned long long merged;
};

static struct raised after_a_raise(bool no_merging)
{
    struct lab_wish wish = appending(65536, 32);
    struct migbuf_geometry apart;
    struct raised r = { 0 };
    struct lab_vm v;
    uint64_t before;
    double since;

    wish.no_merging = no_merging;
    lab_start(&v, no_merging ? "apart" : "merged", &wish);
    lab_wait_acknowledged(&v, 64);
    lab_learn(&v);
    lab_units(&v, 1);
    lab_overlay(&v);
    lab_wait_in_flight(&v, 32);
    apart = v.geometry;
    apart.request_bytes = 65536;
    since = lab_now();
    before = lab_grown(&v);
    lab_units(&v, 2);
    do { /* at two units a second the bound of apart grows slower than anything that is let through at all */
        lab_sleep(0.5);
        r.grown = (double)(lab_grown(&v) - before);
        ck_assert_int_eq(migbuf_limits_worst_growth(&v.geometry, &v.limits, lab_now() - since, &r.bound), 0);
        ck_assert_int_eq(migbuf_limits_worst_growth(&apart, &v.limits, lab_now() - since, &r.bound_apart), 0);
    } while (!no_merging && r.grown <= r.bound_apart && lab_now() < since + 5);
    r.merged = merged_requests(&v);
    printf("# 32 writes of 64 KiB wait, %.1f s after a raise to 2 units/s, %s: grown %.0f, bound %.0f; %llu requests were merged "
           "into others\n", lab_now() - since, no_merging ? "without merging" : "merging", r.grown, r.bound, r.merged);
    lab_end(&v);
    return r;
}

START_TEST(adjacent_writes_pass_as_one)
{
    struct raised apart = after_a_raise(true), merged = { 0 };

    ck_assert_double_le(apart.grown, apart.bound);
    ck_assert_uint_eq(apart.merged, 0);
    for (int k = 0; k < 5 && merged.grown <= merged.bound_apart; k++) { /* a guest that is not let run has nothing to merge */
        merged = after_a_raise(false);
        ck_assert_double_le(merged.grown, merged.bound);
    }
    ck_assert_uint_ge(merged.merged, 62);
    ck_assert_double_gt(merged.grown, merged.bound_apart);
}
END_TEST

/* A guest that wants the file to grow */

struct hostile {
    const char *name;
    uint32_t sectors, start;
    uint64_t window_bytes;
    uint64_t units; /* set; and those of the worst case */
};

static void start_hostile(struct lab_vm *v, const struct hostile *h)
{
    struct lab_wish wish = lab_wish();

    wish.disk_bytes = h->window_bytes + 4 * MIB;
    wish.guest.sectors = h->sectors;
    wish.guest.start = h->start;
    wish.guest.window = (uint32_t)(h->window_bytes / 512 / h->sectors);
    wish.guest.depth = 8;
    wish.by_fd = h->sectors > 8;
    lab_start(v, h->name, &wish);
    lab_wait_acknowledged(v, 1);
    lab_learn(v);
    lab_units(v, h->units);
    lab_overlay(v);
}

static double judge_hostile(struct lab_vm *v)
{
    double interval, bound, tables, grown = (double)lab_grown(v);
    uint64_t metadata;

    interval = lab_now() - v->overlay_s;
    ck_assert_int_eq(migbuf_limits_worst_growth(&v->geometry, &v->limits, interval, &bound), 0);
    ck_assert_int_eq(migbuf_limits_metadata(&v->geometry, &metadata), 0);
    tables = fmin((double)metadata, ((double)v->limits.iops_wr * (interval + 0.1) + 2) * 65536);
    printf("# %s, %llu units/s for %.1f s: grown %.0f, bound %.0f (%.3f of it), bound without tables %.0f\n", v->name,
           (unsigned long long)v->limits.iops_wr, interval, grown, bound, grown / bound, bound - tables);
    ck_assert_msg(grown <= bound, "%s: %.0f of %.0f", v->name, grown, bound);
    return grown - (bound - tables);
}

/* Returns by how much the first needed more than its data. */
static double run_hostile(const struct hostile *all, int n)
{
    struct lab_vm v[4];
    double beyond = 0;

    for (int k = 0; k < n; k++)
        start_hostile(&v[k], &all[k]);
    lab_sleep(3);
    for (int k = n; k-- > 0;)
        beyond = judge_hostile(&v[k]);
    for (int k = 0; k < n; k++)
        lab_end(&v[k]);
    return beyond;
}

START_TEST(a_hostile_guest_stays_within_the_worst_case)
{
    static const struct hostile all[] = {
        { "far-512", 1, 2048, 128 * GIB, 16 }, /* a cluster and mostly a new table each */
        { "far-4096-unaligned", 8, 2049, 512 * GIB, 16 },
        { "far-straddle", 128, 2049, 128 * GIB, 16 },  /* two clusters for one unit and a table */
        { "near-3-clusters", 129, 2175, 8 * GIB, 16 }, /* three clusters for 1.008 units, now and then */
    };
    double beyond = 0;

    for (int k = 0; k < 5 && !(beyond > 0); k++) /* a host that does not let the guest run says nothing about QEMU */
        beyond = run_hostile(all, 4);
    ck_assert_double_gt(beyond, 0); /* the first needs the room for tables; else this test could not tell */
}
END_TEST

/* Zeroing counts at full length and hardly grows the file: at 15 units a second 128 MiB of zeroes are a debt of two
 * minutes. The library lets it off after max_stall. */

#define ZERO_STALL_S 3.0

static double longest_wait(struct run *r, size_t n, double seconds, double *longest)
{
    double start = lab_now(), last[2] = { start, start };
    uint32_t seen[2] = { 0 };

    for (size_t k = 0; k < n; k++)
        longest[k] = 0;
    for (double now = start; now < start + seconds; now = lab_now()) {
        for (size_t k = 0; k < n; k++) {
            uint32_t done = lab_status(&r[k].v).acknowledged;

            longest[k] = fmax(longest[k], now - last[k]);
            if (done != seen[k])
                last[k] = now;
            seen[k] = done;
            look(&r[k]);
        }
        lab_sleep(0.005);
    }
    return lab_now() - start;
}

START_TEST(zeroing_does_not_stall_a_guest_for_long)
{
    static const struct cell cell = { 1, 4096, 65536, false, false, false };
    struct run r[2]; /* while its base is copied, and while its overlay is sent */
    double longest[2], later[2];

    for (unsigned k = 0; k < 2; k++) {
        prepare(&r[k], &cell, 600, k, ZERO_STALL_S);
        r[k].v.wish.zeroes = true;
        if (k) {
            ck_assert_int_eq(migbuf_buffer_phase(r[k].loop.buffer, 1, MIGBUF_PHASE_DRAIN, 3), 0);
            ck_assert_int_eq(migbuf_buffer_link(r[k].loop.buffer, 1, (uint64_t)(2 * r[k].budget)), 0); /* half is for it */
        }
        lab_overlay(&r[k].v);
    }
    longest_wait(r, 2, 2, longest);
    for (unsigned k = 0; k < 2; k++)
        lab_io(&r[k].v, migbuf_disk_qdev(r[k].v.disk, VM_DISK_NODE), "aio_write -P 0 0 128M");
    longest_wait(r, 2, 3 * ZERO_STALL_S, longest);
    for (double until = lab_now() + PATIENCE_S; !r[1].v.again && lab_now() < until;) /* a busy host's guest is slow */
        longest_wait(r, 2, 1, later);
    for (unsigned k = 0; k < 2; k++) {
        printf("# 128 MiB zeroed %s, %llu units/s: longest wait of the guest %.2f s (%.0f s are owed), let off %u times, used "
               "%.2f of what is allowed\n", k ? "while its overlay is sent" : "while its base is copied",
               (unsigned long long)r[k].v.limits.iops_wr, longest[k], 2048.0 / (double)r[k].v.limits.iops_wr, r[k].v.again,
               r[k].worst);
        ck_assert_double_le(r[k].worst, 1);
        ck_assert_double_lt(longest[k], ZERO_STALL_S + 2 * fmax(r[k].tick_s, r[k].loop.longest_s));
        if (k) /* while the base is copied, a ratio that fell has raised the limit before */
            ck_assert_uint_gt(r[k].v.again, 0);
        lab_loop_end(&r[k].loop);
        lab_end(&r[k].v);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        growth_follows_the_budget,
        a_rate_decided_again_each_second_is_the_same_rate,
        a_raise_is_felt_at_once,
        adjacent_writes_pass_as_one,
        a_hostile_guest_stays_within_the_worst_case,
        zeroing_does_not_stall_a_guest_for_long,
        NULL,
    };

    return lab_run("growth_qemu", tests, 3600);
}
