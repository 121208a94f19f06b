/* SPDX-License-Identifier: MIT */
/* The buffer against an adversary in time. Guests write as much as QEMU's leaky bucket lets them, at the worst places of
 * their qcow2 files; ticks come at any distance that was agreed, samples are missing, decisions land late, partly, never,
 * or nobody knows; drains pour queues; processes die and are loaded; Ω is made smaller. Written from what QEMU does and
 * not from the library: util/throttle.c (the bucket), block/throttle-groups.c (a set wakes one request of a disk),
 * block/qcow2-*.c (clusters, tables, refcount blocks). After every step the files fit into Ω; and at the end of every life
 * a guest that has room runs.
 *
 * Prints the seed of a life that went wrong. MIGBUF_TEST_SEED and MIGBUF_TEST_LIVES begin elsewhere and live longer. */
#include "draw.h"
#include "migbuf/buffer.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GUESTS 5
#define DISKS 3
#define TEXT_BYTES 40000

/* A qcow2 file, as an adversary sees it: what is left that would make it grow. */
struct file {
    uint64_t cluster, unit, block, data_clusters, units_left, clusters_left, windows_left, window;
    uint64_t clusters;      /* of the file, tables included */
    uint64_t refcounted;    /* clusters that the refcount blocks there are can count */
    uint64_t table_room;    /* refcount blocks that the refcount table can hold */
    uint64_t bytes;         /* allocated */
};

/* What QEMU has in force for a guest, and its bucket(s). */
struct throttle {
    int limited;
    struct migbuf_limits limits;
    double level, byte_level; /* units (or requests), bytes */
};

/* Something on its way to QEMU. */
struct command {
    int waits, pauses, resumes;
    struct migbuf_limits limits;
    double at_s[DISKS];      /* when it lands on each disk; the first one sets the group */
    uint32_t sets, done;
    int outcome, told;       /* what the host will say of it, and whether it has */
    int lost;                /* it never lands */
};

struct guest {
    int in, has_file, stands;
    uint64_t id;
    uint32_t disks, drains;
    struct migbuf_geometry geometry[DISKS];
    struct file file[DISKS];
    uint64_t in_flight, request; /* what a drain pours: so many of these on each disk */
    struct throttle throttle;
    struct command command;
    double device;
    double safe_until_s;     /* what is in force was counted with until then */
    int unknown;             /* the host has said that it does not know what is in force */
    int wants_drain;         /* a drain that the buffer has not made room for yet */
    int asks;                /* those that were said have no room now: it asks again before each */
};

static struct life {
    uint64_t seed;
    struct migbuf_buffer_options options;
    struct migbuf_buffer *buffer;
    struct guest guest[GUESTS];
    uint64_t omega, next_id;
    uint64_t smaller;        /* Ω is to become so small; 0: no */
    double now_s, offset_s;  /* the buffer's clock is now - offset */
    double tick_s;           /* of the last tick */
    char story[20000];
    size_t told;
} life;

static double part(void)
{
    return draw(1000001) / 1e6;
}

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    va_list args;
    int n;

    if (!getenv("MIGBUF_TEST_SEED"))
        return;
    va_start(args, format);
    n = vsnprintf(life.story + life.told, sizeof life.story - life.told, format, args);
    va_end(args);
    if (n > 0 && life.told + (size_t)n < sizeof life.story)
        life.told += (size_t)n;
}

#define ck_life(condition, ...)                                                                                        \
    do {                                                                                                               \
        int holds = (condition); /* asked once: it may do something */                                                 \
        if (!holds) {                                                                                                  \
            fprintf(stderr, "# seed %llu, %.3f s: ", (unsigned long long)life.seed, life.now_s);                       \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n# %s\n", life.story);                                                                   \
        }                                                                                                              \
        ck_assert_msg(holds, "seed %llu", (unsigned long long)life.seed);                                          \
    } while (0)

/* ---- files ---- */

static uint64_t up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* So many clusters more at the end of the file. Each refcount block counts cluster / 2 of them, itself included; a table
 * that is full is moved to a place half as large again, and what it leaves is not used any more. */
static void append(struct file *f, uint64_t clusters)
{
    f->clusters += clusters;
    while (f->clusters > f->refcounted) {
        if (f->refcounted / (f->cluster / 2) == f->table_room) {
            uint64_t table = up((f->table_room + f->table_room / 2 + 1) * 8, f->cluster);

            f->clusters += table;
            f->bytes += table * f->cluster;
            f->table_room = table * f->cluster / 8;
        }
        f->refcounted += f->cluster / 2;
        f->clusters++;
        f->bytes += f->cluster;
    }
}

static void create(struct file *f, const struct migbuf_geometry *g)
{
    uint64_t c = g->cluster_bytes, entry = g->subcluster_bytes == c ? 8 : 16;

    *f = (struct file){ .cluster = c, .block = g->block_bytes ? g->block_bytes : c, .table_room = c / 8 };
    f->unit = f->block > g->subcluster_bytes ? f->block : g->subcluster_bytes;
    f->data_clusters = f->clusters_left = up(g->virtual_bytes, c);
    f->units_left = f->unit > c ? f->clusters_left : f->clusters_left * (c / f->unit);
    f->window = c / entry;
    f->windows_left = up(f->clusters_left, f->window);
    f->bytes = (2 + up(f->windows_left * 8, c)) * c; /* header, refcount table, L1 */
    append(f, f->bytes / c);
}

/* As the file system shows it. */
static uint64_t weight(const struct file *f)
{
    return f->block > f->cluster ? up(f->bytes, f->block) * f->block : f->bytes;
}

/* Data in so many units and clusters that were not written before, in so many windows that have no table yet. */
static void allocate(struct file *f, double units, double clusters, double windows)
{
    uint64_t u = units < (double)f->units_left ? (uint64_t)units : f->units_left;
    uint64_t k = clusters < (double)f->clusters_left ? (uint64_t)clusters : f->clusters_left;
    uint64_t w = windows < (double)f->windows_left ? (uint64_t)windows : f->windows_left;

    f->units_left -= u;
    f->clusters_left -= k;
    f->windows_left -= w;
    f->bytes += w * f->cluster + (f->unit > f->cluster ? k * f->cluster : u * f->unit);
    append(f, k + w);
}

/* One request at the worst place: the most units and clusters that its length can touch. */
static void write_one(struct file *f, const struct migbuf_geometry *g, uint64_t length, double times)
{
    int aligned = (g->flags & MIGBUF_GEOMETRY_ALIGNED) != 0;
    double units = aligned ? (double)up(length, f->unit) : length < 2 ? 1 : (double)((length - 2) / f->unit + 2);
    double clusters = aligned ? (double)up(length, f->cluster) : length < 2 ? 1 : (double)((length - 2) / f->cluster + 2);
    double windows = (double)(uint64_t)(clusters / (double)f->window) + (aligned ? 1 : 2);

    if (windows > clusters)
        windows = clusters;
    if (f->unit > f->cluster)
        units = clusters;
    allocate(f, units * times, clusters * times, windows * times);
}

static uint64_t files_of(const struct guest *g)
{
    uint64_t bytes = 0;

    for (uint32_t k = 0; k < g->disks && g->has_file; k++)
        bytes += weight(&g->file[k]);
    return bytes;
}

static void check_omega(const char *after)
{
    uint64_t sum = 0;

    for (int i = 0; i < GUESTS; i++)
        if (life.guest[i].in)
            sum += files_of(&life.guest[i]);
    ck_life(sum <= life.omega, "after %s: %llu bytes in %llu, %.0f too many", after, (unsigned long long)sum,
            (unsigned long long)life.omega, (double)sum - (double)life.omega);
}

/* ---- guests ---- */

/* The cheapest request for what it grows: the smallest, or one that is a little longer than a unit. */
static uint64_t best_length(const struct guest *g, uint32_t k, double *cost, uint64_t iops_size)
{
    uint64_t unit = g->file[k].unit, length = 512;

    if (!(g->geometry[k].flags & MIGBUF_GEOMETRY_ALIGNED) && draw(2))
        length = unit + 2;
    if (length > g->request)
        length = g->request;
    *cost = iops_size && length > iops_size ? (double)length / (double)iops_size : 1;
    return length;
}

/* The last request passes whole, whatever it costs. */
static void overshoot(struct guest *g, uint32_t k)
{
    struct throttle *t = &g->throttle;
    const struct migbuf_geometry *d = &g->geometry[k];
    uint64_t length = g->request;

    if (d->flags & MIGBUF_GEOMETRY_ALIGNED && length > g->file[k].unit)
        length = length / g->file[k].unit * g->file[k].unit;
    write_one(&g->file[k], d, length, 1);
    t->level += t->limits.iops_size && length > t->limits.iops_size ? (double)length / (double)t->limits.iops_size : 1;
    t->byte_level += (double)length;
}

/* All that the bucket lets through in `seconds`: it leaks all the time, and is never left empty. */
static void write_under_limit(struct guest *g, double seconds)
{
    struct throttle *t = &g->throttle;
    double rate = (double)t->limits.iops_wr, allowed = rate / 10 - t->level + rate * seconds, cost, growth;
    uint32_t k = draw(g->disks);
    uint64_t length = best_length(g, k, &cost, t->limits.iops_size);
    double times = allowed > 0 ? allowed / cost : 0;

    if (t->limits.bps_wr) { /* requests without a size, and bytes beside them */
        double bytes = (double)t->limits.bps_wr, most = bytes / 10 - t->byte_level + bytes * seconds;

        if (draw(2) && rate > 0 && bytes / rate > 2)
            length = (uint64_t)(bytes / rate);
        if (length > g->request)
            length = g->request;
        if (g->geometry[k].flags & MIGBUF_GEOMETRY_ALIGNED && length > g->file[k].unit)
            length = length / g->file[k].unit * g->file[k].unit;
        times = allowed;
        if (most / (double)length < times)
            times = most / (double)length;
        cost = 1;
        t->byte_level -= bytes * seconds;
        if (t->byte_level < 0 && times * (double)length + t->byte_level < 0)
            t->byte_level = -times * (double)length;
        t->byte_level += (times > 0 ? times : 0) * (double)length;
    }
    growth = (double)(up(length, g->file[k].unit) + 2) * (double)g->file[k].unit; /* nor faster than the device */
    if (times * growth > g->device * seconds)
        times = g->device * seconds / growth;
    times = times > 0 ? (double)(uint64_t)times : 0;
    write_one(&g->file[k], &g->geometry[k], length, times);
    t->level += times * cost - rate * seconds;
    t->level = t->level < 0 ? 0 : t->level;
    t->byte_level = t->byte_level < 0 ? 0 : t->byte_level;
    if (t->level <= rate / 10 && (!t->limits.bps_wr || t->byte_level <= (double)t->limits.bps_wr / 10) && draw(4))
        overshoot(g, draw(g->disks));
}

/* Without a limit: what its device can allocate. */
static void write_without_limit(struct guest *g, double seconds)
{
    uint32_t k = draw(g->disks);
    struct file *f = &g->file[k];
    double left = g->device * seconds, per_unit = (double)(f->unit > f->cluster ? f->cluster : f->unit);
    double before = (double)f->bytes;

    while (left > 2 * per_unit + 4 * (double)f->cluster && f->units_left) {
        double units = (double)(uint64_t)(left / (per_unit + 2 * (double)f->cluster));

        allocate(f, units > 1 ? units : 1, units > 1 ? units : 1, 1);
        left = g->device * seconds - ((double)f->bytes - before);
    }
}

static void write_all(double seconds)
{
    for (int i = 0; i < GUESTS; i++) {
        struct guest *g = &life.guest[i];

        if (!g->in || !g->has_file || g->stands || draw(5) == 0)
            continue;
        if (g->throttle.limited)
            write_under_limit(g, seconds);
        else
            write_without_limit(g, seconds);
    }
}

/* A bucket that was not used leaks all the same. */
static void pour(struct guest *g)
{
    for (uint32_t k = 0; k < g->disks && g->has_file; k++)
        if (g->geometry[k].queue_bytes != MIGBUF_NONE)
            write_one(&g->file[k], &g->geometry[k], g->request, (double)g->in_flight);
}

/* ---- commands on their way ---- */

static void create_files(struct guest *g)
{
    for (uint32_t k = 0; k < g->disks; k++)
        create(&g->file[k], &g->geometry[k]);
    g->has_file = 1;
}

static uint64_t clock_ms(void)
{
    return (uint64_t)((life.now_s - life.offset_s) * 1000);
}

static int say(struct guest *g, int outcome)
{
    int rc = migbuf_buffer_outcome(life.buffer, g->id, outcome);

    ck_life(rc >= 0 && (rc == 0 || outcome != MIGBUF_OUTCOME_DONE), "outcome: %d", rc);
    g->unknown = outcome == MIGBUF_OUTCOME_UNKNOWN || (g->unknown && outcome == MIGBUF_OUTCOME_REFUSED);
    g->command.told = 1;
    return rc;
}

/* The next disk is told. The bucket is emptied, and one request of that disk passes. */
static void land(struct guest *g)
{
    struct command *c = &g->command;

    if (c->pauses) {
        if (!g->stands)
            pour(g);
        g->stands = 1;
        c->done = c->sets;
        return;
    }
    if (c->done == 0 || g->throttle.limited) {
        g->throttle.limited = 1;
        g->throttle.limits = c->limits;
        g->throttle.level = g->throttle.byte_level = 0;
        if (g->has_file && !g->stands)
            overshoot(g, c->done);
    }
    c->done++;
    if (c->done < c->sets)
        return;
    if (c->resumes)
        g->stands = 0;
    if (!g->has_file)
        create_files(g);
}

static void carry_out(void)
{
    for (int i = 0; i < GUESTS; i++) {
        struct guest *g = &life.guest[i];
        struct command *c = &g->command;

        while (g->in && c->waits && !c->lost && c->done < c->sets && c->at_s[c->done] <= life.now_s)
            land(g);
        if (g->in && c->waits && c->done == c->sets) {
            c->waits = 0;
            if (c->outcome == MIGBUF_OUTCOME_DONE)
                say(g, MIGBUF_OUTCOME_DONE);
        }
    }
}

static double next_landing(double until_s)
{
    for (int i = 0; i < GUESTS; i++) {
        const struct command *c = &life.guest[i].command;

        if (life.guest[i].in && c->waits && !c->lost && c->done < c->sets && c->at_s[c->done] < until_s)
            until_s = c->at_s[c->done];
    }
    return until_s;
}

/* Time passes; guests write all the while. */
static void go_on(double until_s)
{
    while (life.now_s < until_s) {
        double step = next_landing(until_s);

        if (draw(3) == 0)
            step = life.now_s + (step - life.now_s) * part();
        if (step > life.now_s)
            write_all(step - life.now_s);
        check_omega("writing");
        life.now_s = step > life.now_s ? step : life.now_s;
        carry_out();
        check_omega("a command");
    }
}

/* ---- the host ---- */

static struct migbuf_geometry draw_geometry(struct guest *g)
{
    static const uint64_t clusters[] = { 65536, 65536, 4096, 512, 2097152, 131072 };
    uint64_t c = clusters[draw(6)];
    struct migbuf_geometry d = { .cluster_bytes = c, .subcluster_bytes = c, .block_bytes = 4096 };

    if (c >= 65536 && draw(3) == 0)
        d.subcluster_bytes = c / 32;
    if (draw(6) == 0)
        d.block_bytes = 512;
    d.virtual_bytes = c * (16 + draw(c < 65536 ? 20000 : 4000));
    if (draw(3) == 0)
        d.virtual_bytes *= 64; /* more windows */
    d.request_bytes = g->request;
    d.extra_bytes = MIGBUF_NONE;
    if (draw(3) == 0)
        d.flags |= MIGBUF_GEOMETRY_NO_IOPS_SIZE;
    return d;
}

static void draw_guest(struct guest *g)
{
    static const uint64_t requests[] = { 4096, 65536, 66048, 1048576, 512, 8388608 };
    int aligned = draw(3) == 0;

    *g = (struct guest){ .id = ++life.next_id, .disks = 1 + (draw(3) == 0 ? draw(DISKS) : 0), .drains = draw(5) };
    g->request = requests[draw(6)];
    g->in_flight = 1 + draw(8);
    g->device = draw(2) ? 4e9 : 1e6 * (1 + draw(400)); /* 4e9: not told */
    for (uint32_t k = 0; k < g->disks; k++) {
        struct migbuf_geometry *d = &g->geometry[k];
        uint64_t unit;

        *d = draw_geometry(g);
        if (k)
            d->flags = g->geometry[0].flags;
        if (aligned)
            d->flags |= MIGBUF_GEOMETRY_ALIGNED;
        if (migbuf_geometry_check(d)) /* no multiple of a unit */
            d->flags &= ~MIGBUF_GEOMETRY_ALIGNED;
        ck_assert_int_eq(migbuf_geometry_unit(d, &unit), 0);
        ck_assert_int_eq(migbuf_limits_drain(d, g->in_flight, g->request, &d->queue_bytes), 0);
    }
}

static void tick(double latest_s, int failures);
static void measure(int all);

static void start_one(void)
{
    struct migbuf_migration m;
    struct guest *g = NULL;
    int files;

    for (int i = 0; i < GUESTS && !g; i++)
        if (!life.guest[i].in)
            g = &life.guest[i];
    if (!g)
        return;
    draw_guest(g);
    files = draw(12) == 0; /* it is found in the middle of its migration, under a limit */
    migbuf_migration_init(&m, sizeof m);
    m.id = g->id;
    m.link = draw(2);
    m.drains_ahead = g->drains;
    m.device_write_bytes_per_s = g->device < 4e9 ? (uint64_t)g->device : 0;
    m.weight = 1 + draw(200);
    m.rate_bytes_per_s = draw(3) ? 0 : 1000000 * draw(100);
    if (files) {
        create_files(g);
        m.file_bytes = files_of(g);
    }
    measure(1); /* what the others have is what it has to fit beside */
    if (migbuf_buffer_add(life.buffer, &m, g->geometry, g->disks, NULL)) {
        g->has_file = 0;
        return;
    }
    g->in = 1;
    if (files) {
        g->throttle = (struct throttle){ .limited = 1, .limits = { .iops_wr = 1 + draw(20), .iops_size = g->file[0].unit } };
        if (g->geometry[0].flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE)
            g->throttle.limits = (struct migbuf_limits){ .iops_wr = 1, .bps_wr = 65536 };
        ck_assert_int_eq(migbuf_buffer_resync(life.buffer, g->id, &g->throttle.limits, 1), 0);
    }
    if (draw(2))
        migbuf_buffer_link(life.buffer, m.link, 1000000 + draw(100000000));
    tell("%.3f guest %llu: %u disks, cluster %llu unit %llu request %llu queue %llu flags %u, %s\n", life.now_s,
         (unsigned long long)g->id, g->disks, (unsigned long long)g->geometry[0].cluster_bytes,
         (unsigned long long)g->geometry[0].subcluster_bytes, (unsigned long long)g->request,
         (unsigned long long)g->geometry[0].queue_bytes, g->geometry[0].flags, files ? "running" : "new");
    check_omega("a guest that came with its files");
    if (files)
        tick(life.now_s, 3);
}

static void end_one(struct guest *g)
{
    tell("%.3f guest %llu ends\n", life.now_s, (unsigned long long)g->id);
    ck_assert_int_eq(migbuf_buffer_remove(life.buffer, g->id), 0);
    *g = (struct guest){ .in = 0 };
}

/* Phases, and the drain between them: not before there is room for it. */
static void drain(struct guest *g)
{
    int32_t phase = draw(2) ? MIGBUF_PHASE_BASE : MIGBUF_PHASE_MIRROR;
    int rc;

    if (g->asks && migbuf_buffer_phase(life.buffer, g->id, phase, g->drains))
        return;
    if (g->wants_drain || draw(4) == 0) { /* one more than was said */
        rc = migbuf_buffer_phase(life.buffer, g->id, phase, g->drains + 1);

        ck_life(rc == 0 || rc == 1, "phase: %d", rc);
        g->wants_drain = rc == 1;
        if (rc == 1)
            return;
        g->drains++;
    }
    if (!g->drains || !g->has_file)
        return;
    tell("%.3f guest %llu drains\n", life.now_s, (unsigned long long)g->id);
    if (!g->stands)
        pour(g);
    g->drains--;
    check_omega("a drain");
    rc = migbuf_buffer_phase(life.buffer, g->id, phase, g->drains);
    /* Where a tick was short of room the others have none either; but then it was told to stand. */
    ck_life(rc == 0 || (rc == 1 && (g->stands || g->command.pauses)), "a drain is over, and the buffer says %d", rc);
    g->asks = rc == 1;
}

static void measure(int all)
{
    for (int i = 0; i < GUESTS; i++) {
        struct guest *g = &life.guest[i];

        for (uint32_t k = 0; g->in && k < g->disks; k++) {
            struct migbuf_sample s = { .id = g->id, .disk = k, .file_bytes = g->has_file ? weight(&g->file[k]) : 0 };

            if (!all && draw(3) == 0)
                continue;
            if (draw(2)) {
                s.writes = s.file_bytes / 8192;
                s.written_bytes = s.file_bytes;
            }
            ck_assert_int_eq(migbuf_buffer_sample(life.buffer, clock_ms(), &s, 1), 0);
        }
    }
}

/* The decision goes out, and lands within the lag of the measurement, or as it was agreed with the buffer. */
static void send_decision(struct guest *g, const struct migbuf_decision *d, int may_fail)
{
    struct command *c = &g->command;
    double lag_s = life.options.lag_ms / 1000.0, latest_s = life.now_s + lag_s, at_s = life.now_s, until_s = g->safe_until_s;

    g->safe_until_s = life.now_s + life.options.interval_ms / 1000.0 * life.options.late_factor_percent / 100.0 + lag_s;
    if (d->action == MIGBUF_ACTION_KEEP || d->action == MIGBUF_ACTION_WAIT)
        return;
    /* What is still on its way lands first, in the order it was sent. Of what nobody knows somebody has looked now. */
    while (c->waits && !c->lost && c->done < c->sets)
        land(g);
    *c = (struct command){ .waits = 1, .limits = d->limits, .sets = g->disks };
    c->pauses = d->action == MIGBUF_ACTION_PAUSE || d->action == MIGBUF_ACTION_CANNOT_FIT;
    c->resumes = !c->pauses; /* a guest that may stand */
    if (!c->pauses)
        ck_life(d->limits.iops_wr, "a limit of none");
    for (uint32_t k = 0; k < c->sets; k++) {
        at_s += latest_s > at_s ? (latest_s - at_s) * part() : 0;
        c->at_s[k] = at_s;
    }
    /* A failure leaves time for another try: then at last it lands. */
    if (g->has_file && latest_s + lag_s > until_s)
        may_fail = 0;
    switch (may_fail ? draw(8) : 2) {
    case 0:
        c->outcome = MIGBUF_OUTCOME_REFUSED;
        c->lost = 1;
        g->safe_until_s = until_s;
        break;
    case 1: /* a time-out: it lands whenever it likes, or never */
        c->outcome = MIGBUF_OUTCOME_UNKNOWN;
        c->lost = draw(3) == 0;
        g->safe_until_s = until_s;
        for (uint32_t k = 0; k < c->sets; k++)
            c->at_s[k] += 5 * part();
        for (uint32_t k = 1; k < c->sets; k++)
            c->at_s[k] = c->at_s[k] < c->at_s[k - 1] ? c->at_s[k - 1] : c->at_s[k];
        break;
    case 2:
    case 3:
        c->outcome = MIGBUF_OUTCOME_DONE;
        break;
    default: /* nothing is said: it lands within the lag */
        if (g->unknown)
            c->outcome = MIGBUF_OUTCOME_DONE;
        break;
    }
    tell("%.3f guest %llu: %s %llu/%llu (%s)%s\n", life.now_s, (unsigned long long)g->id, migbuf_action_text(d->action),
         (unsigned long long)d->limits.iops_wr, (unsigned long long)d->limits.bps_wr, migbuf_reason_text(d->reason),
         c->outcome == MIGBUF_OUTCOME_REFUSED ? " refused" : c->outcome == MIGBUF_OUTCOME_UNKNOWN ? " unknown" : "");
}

/* The host hears, within the lag, of what was not carried out or may not have been. 1: the buffer wants a tick. */
static int hear(void)
{
    double latest_s = life.now_s + life.options.lag_ms / 1000.0;
    int again = 0, any = 0;

    for (int i = 0; i < GUESTS; i++)
        any |= life.guest[i].in && life.guest[i].command.waits && life.guest[i].command.outcome >= MIGBUF_OUTCOME_REFUSED;
    if (!any)
        return 0;
    if (latest_s > life.now_s)
        go_on(life.now_s + (latest_s - life.now_s) * part());
    for (int i = 0; i < GUESTS; i++) {
        struct guest *g = &life.guest[i];

        if (!g->in || !g->command.waits || g->command.outcome < MIGBUF_OUTCOME_REFUSED || g->command.told)
            continue;
        again |= say(g, g->command.outcome);
        if (g->command.outcome == MIGBUF_OUTCOME_REFUSED)
            g->command.waits = 0;
    }
    return again;
}

static void make_smaller(void)
{
    struct migbuf_buffer_stats stats = { .size = sizeof stats };

    ck_assert_int_eq(migbuf_buffer_stats(life.buffer, &stats), 0);
    if (life.smaller && stats.reach_bytes <= life.smaller) {
        tell("%.3f omega is %llu now\n", life.now_s, (unsigned long long)life.smaller);
        life.omega = life.smaller;
        life.smaller = 0;
        check_omega("making it smaller");
    }
}

static void tick(double latest_s, int failures)
{
    struct migbuf_decision d[GUESTS];
    int n;

    measure(draw(4) != 0);
    if (life.options.lag_ms) { /* the tick comes a little after the measurement, and not later than agreed */
        double until_s = life.now_s + life.options.lag_ms / 1000.0 * part() * 0.5;

        go_on(until_s < latest_s ? until_s : latest_s);
    }
    life.tick_s = life.now_s;
    n = migbuf_buffer_tick(life.buffer, clock_ms(), d, GUESTS);
    ck_life(n >= 0, "tick: %d", n);
    make_smaller();
    for (int k = 0; k < n; k++)
        for (int i = 0; i < GUESTS; i++)
            if (life.guest[i].in && life.guest[i].id == d[k].id)
                send_decision(&life.guest[i], &d[k], failures > 0);
    carry_out();
    check_omega("a tick");
    if (hear())
        tick(life.now_s, failures - 1);
}

static void resize(void)
{
    uint64_t other = life.omega / 2 + draw(1000) * (life.omega / 1000);
    int rc;

    if (life.smaller)
        return;
    rc = migbuf_buffer_resize(life.buffer, other, NULL);
    if (rc < 0)
        return;
    tell("%.3f omega is to be %llu: %d\n", life.now_s, (unsigned long long)other, rc);
    if (rc == 1)
        life.smaller = other;
    else
        life.omega = other;
    check_omega("resizing");
}

/* The process dies; the next one asks what is in force, or does not. */
static void die_and_load(void)
{
    static char text[TEXT_BYTES];
    size_t length;
    int anew = draw(3) == 0;

    ck_life(migbuf_buffer_save(life.buffer, text, sizeof text, &length) == 0, "save");
    migbuf_buffer_free(life.buffer);
    if (anew)
        life.offset_s = life.now_s;
    ck_life(migbuf_buffer_load(text, length, clock_ms(), NULL, &life.buffer) == 0, "load");
    tell("%.3f loaded, clock %s\n", life.now_s, anew ? "anew" : "goes on");
    for (int i = 0; i < GUESTS; i++) {
        struct guest *g = &life.guest[i];
        int known = draw(2);

        if (!g->in)
            continue;
        if (g->command.waits && g->command.outcome != MIGBUF_OUTCOME_UNKNOWN) {
            g->command.outcome = 0; /* who was to hear it is no more */
            g->command.lost |= draw(2); /* or was to send it */
        }
        if (!known || (g->command.waits && g->command.done < g->command.sets)) {
            g->unknown = 1;
            continue;
        }
        ck_assert_int_eq(migbuf_buffer_resync(life.buffer, g->id, g->throttle.limited ? &g->throttle.limits : NULL, !g->stands), 0);
        g->unknown = 0;
    }
}

static void begin_life(uint64_t seed)
{
    life = (struct life){ .seed = seed };
    draw_state = seed * 2654435761u + 12345;
    for (int k = 0; k < 5; k++)
        draw(2);
    life.now_s = draw(1000);
    migbuf_buffer_options_init(&life.options, sizeof life.options);
    life.options.policy = draw(2) ? MIGBUF_POLICY_PLANNER : MIGBUF_POLICY_PAPER;
    life.options.interval_ms = 100 + draw(2000);
    life.options.late_factor_percent = 100 + draw(300);
    life.options.lag_ms = draw(3) ? draw(1500) : 0;
    life.options.hysteresis_percent = draw(3) ? 10 : draw(51);
    life.omega = (UINT64_C(16) << 20) << draw(8);
    ck_assert_int_eq(migbuf_buffer_new(life.omega, &life.options, NULL, &life.buffer), 0);
}

/* Everybody else goes; who is left and has room runs in the end: at the latest when its turn comes, which is a hundred longest
 * stalls away at most. */
static void nobody_is_forgotten(void)
{
    struct migbuf_decision d[GUESTS];
    struct guest *g = NULL;
    int runs = 0, refused;
    struct migbuf_migration m;
    struct migbuf_buffer *fresh;

    for (int i = 0; i < GUESTS; i++) {
        if (!life.guest[i].in)
            continue;
        if (g)
            end_one(&life.guest[i]);
        else
            g = &life.guest[i];
    }
    if (!g)
        return;
    carry_out();
    g->command.waits = 0;
    ck_assert_int_ge(migbuf_buffer_phase(life.buffer, g->id, MIGBUF_PHASE_BASE, g->drains), 0);
    if (life.smaller && migbuf_buffer_resize(life.buffer, life.omega, NULL) < 0)
        return;
    migbuf_migration_init(&m, sizeof m);
    m.drains_ahead = g->drains;
    m.file_bytes = files_of(g);
    ck_assert_int_eq(migbuf_buffer_new(life.omega, &life.options, NULL, &fresh), 0);
    refused = migbuf_buffer_add(fresh, &m, g->geometry, g->disks, NULL);
    migbuf_buffer_free(fresh);
    if (refused)
        return;
    for (int k = 0; k < 400 && !runs; k++) {
        life.now_s += k < 20 ? life.options.interval_ms / 1000.0 : 10 + life.options.interval_ms / 100.0;
        measure(1);
        ck_assert_int_eq(migbuf_buffer_tick(life.buffer, clock_ms(), d, GUESTS), 1);
        migbuf_buffer_outcome(life.buffer, g->id, MIGBUF_OUTCOME_DONE);
        runs = k > 2 && (d[0].action == MIGBUF_ACTION_KEEP || d[0].action == MIGBUF_ACTION_RAISE || d[0].action == MIGBUF_ACTION_RESUME ||
                         d[0].action == MIGBUF_ACTION_LOWER || d[0].action == MIGBUF_ACTION_REARM) && d[0].growth_bytes_per_s;
    }
    ck_life(runs, "guest %llu has room and stands: %s, %s", (unsigned long long)g->id, migbuf_action_text(d[0].action),
            migbuf_reason_text(d[0].reason));
}

static void live(uint64_t seed)
{
    double agreed_s;
    int ticks;

    begin_life(seed);
    agreed_s = life.options.interval_ms / 1000.0 * life.options.late_factor_percent / 100.0 - 0.002; /* ms are whole */
    ticks = 3 + (int)draw(25);
    for (int k = 0; k < ticks; k++) {
        double latest_s = (k ? life.tick_s : life.now_s) + agreed_s;
        double next_s = life.now_s + (draw(3) ? agreed_s * part() : draw(2) ? agreed_s : 0.002 * part());
        int events = (int)draw(4);

        while (events--) {
            struct guest *g = &life.guest[draw(GUESTS)];

            go_on(life.now_s + (next_s - life.now_s) * part());
            switch (draw(7)) {
            case 0:
            case 1:
            case 2:
                start_one();
                break;
            case 3:
                if (g->in && draw(3) == 0)
                    end_one(g);
                break;
            case 4:
            case 5:
                if (g->in)
                    drain(g);
                break;
            default:
                resize();
                break;
            }
        }
        go_on(next_s < latest_s ? next_s : latest_s);
        if (draw(20) == 0)
            die_and_load();
        tick(latest_s, 3);
    }
    nobody_is_forgotten();
    migbuf_buffer_free(life.buffer);
}

#ifndef MIGBUF_FUZZ /* tests/fuzz drives live() itself */
static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(files_never_outgrow_omega)
{
    uint64_t first = number_from("MIGBUF_TEST_SEED", 1), lives = number_from("MIGBUF_TEST_LIVES", (uint64_t)unit_rounds(20000));

    for (uint64_t seed = first; seed < first + lives; seed++)
        live(seed);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { files_never_outgrow_omega, NULL };

    return unit_run("buffer_model", tests, 0);
}
#endif
