/* SPDX-License-Identifier: MIT */
/*
 * Laws: after every one of many random operations the library and the second implementation (reference.h) have the same
 * bins, views, decisions and numbers; the invariants I1..I5 hold; and a refused call changes nothing.
 *
 * MIGBUF_TEST_SEED and MIGBUF_TEST_OPS (operations per kind) choose the walk. The seed is printed.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "migbuf/buffer.h"
#include "migbuf/placement.h"
#include "migbuf/throttle.h"
#include "reference.h"
#include "unit.h"

#define MAX REFERENCE_MAX
#define ENTRIES (MAX * MAX)
#define DISK_MAX (UINT64_C(1) << 56) /* largest size of one overlay that a sample may tell */

/* Randomness, the same on every machine. */

static uint64_t dice;

static uint64_t roll(void)
{
    uint64_t z = dice += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 .. n - 1 */
static uint64_t below(uint64_t n)
{
    return n == 0 ? 0 : roll() % n;
}

static bool chance(unsigned percent)
{
    return below(100) < percent;
}

/* Every magnitude up to 2^bits as likely as the next. */
static uint64_t any_size(unsigned bits)
{
    uint64_t shift = 63 - below(bits);

    return roll() >> shift;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t operations(void)
{
    return from_environment("MIGBUF_TEST_OPS", 100000);
}

/* What is going on, for the message of a failure. check's own assertions report every success and are too slow here. */
static uint64_t seed, operation;
static const char *doing;

static void differ(const struct migbuf_bins *bins, const struct reference_ledger *l, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

static size_t draw(const struct migbuf_bins *bins, char *text, size_t room)
{
    static struct migbuf_shard s[ENTRIES];
    int n = migbuf_bins_shards(bins, s, ENTRIES);
    size_t used = 0;

    for (int k = 0; k < n && used + 100 < room; k++)
        used += (size_t)snprintf(text + used, room - used, "%s%" PRIx64 ":%" PRIu64, s[k].position == 1 ? "\n  " : " ",
                                 s[k].id, s[k].bytes);
    return used;
}

static void draw_reference(const struct reference_ledger *l, char *text, size_t room)
{
    size_t used = 0;

    for (int b = 0; b < l->count; b++)
        for (int p = 0; p < l->bin[b].height && used + 100 < room; p++)
            used += (size_t)snprintf(text + used, room - used, "%s%" PRIx64 ":%" PRIu64, p == 0 ? "\n  " : " ",
                                     l->bin[l->bin[b].entry[p].who].id, l->bin[b].entry[p].bytes);
}

static void differ(const struct migbuf_bins *bins, const struct reference_ledger *l, const char *format, ...)
{
    static char text[1800], library[1000], reference[1000]; /* check takes 4096 in all */
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (bins)
        draw(bins, library, sizeof library);
    if (l)
        draw_reference(l, reference, sizeof reference);
    ck_abort_msg("seed %" PRIu64 " operation %" PRIu64 " (%s): %s\nlibrary:%s\nreference:%s", seed, operation, doing,
                 text, library, reference);
}

static void begin(unsigned salt)
{
    seed = from_environment("MIGBUF_TEST_SEED", 20240607);
    dice = seed * 1000003 + salt;
    operation = 0;
    printf("# seed %" PRIu64 "\n", seed);
    fflush(stdout);
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool near(double a, double b, double slack)
{
    return a == b || fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b)) + slack;
}

/* An allocator that refuses from the moment it is told to, and keeps count. */

struct purse {
    bool armed;
    uint64_t left; /* allocations until it refuses, when armed */
    uint64_t live; /* bytes out, by what the library says it has */
};

static void *purse_resize(void *context, void *pointer, size_t old_bytes, size_t new_bytes)
{
    struct purse *p = context;
    void *moved;

    if (new_bytes == 0) {
        free(pointer);
        p->live -= old_bytes;
        return NULL;
    }
    if (p->armed && p->left == 0)
        return NULL;
    p->left -= p->armed;
    moved = realloc(pointer, new_bytes);
    p->live += new_bytes - old_bytes;
    return moved;
}

static void arm(struct purse *p, unsigned percent)
{
    p->armed = chance(percent);
    p->left = below(4);
}

/* The ledger: library against reference. */

static void same_list(const struct migbuf_bins *bins, const struct reference_ledger *l)
{
    struct migbuf_bin list[MAX];
    int n = migbuf_bins_list(bins, list, MAX);
    uint64_t shares = 0;

    if (n != l->count || migbuf_bins_count(bins) != (size_t)n)
        differ(bins, l, "%d bins, not %d", n, l->count);
    for (int b = 0; b < n; b++) {
        const struct reference_bin *r = &l->bin[b];
        uint64_t used = reference_ledger_used(l, b);

        shares += list[b].share_bytes;
        if (list[b].id != r->id || list[b].share_bytes != r->share || list[b].used_bytes != used ||
            list[b].shards != (uint32_t)r->height || list[b].frozen != (used >= r->share))
            differ(bins, l, "bin %d: share %" PRIu64 " used %" PRIu64 " frozen %u, not %" PRIu64 " %" PRIu64, b,
                   list[b].share_bytes, list[b].used_bytes, list[b].frozen, r->share, used);
    }
    if (n > 0 && shares != l->capacity)
        differ(bins, l, "the bins are %" PRIu64 " together, not %" PRIu64, shares, l->capacity);
}

static void same_shards(const struct migbuf_bins *bins, const struct reference_ledger *l)
{
    static struct migbuf_shard s[ENTRIES];
    int n = migbuf_bins_shards(bins, s, ENTRIES), k = 0;

    for (int b = 0; b < l->count; b++)
        for (int p = 0; p < l->bin[b].height; p++, k++)
            if (k >= n || s[k].bin != l->bin[b].id || s[k].id != l->bin[l->bin[b].entry[p].who].id ||
                s[k].bytes != l->bin[b].entry[p].bytes || s[k].position != (uint32_t)p + 1 || s[k].reserved != 0)
                differ(bins, l, "entry %d of bin %d", p, b);
    if (k != n)
        differ(bins, l, "%d shards, not %d", n, k);
}

static void same_view(const struct migbuf_bins *bins, const struct reference_ledger *l, int i,
                      const struct migbuf_bins_view *v)
{
    struct reference_view w;

    reference_ledger_view(l, i, &w);
    if (v->bytes != w.bytes || v->home_bytes != w.home_bytes || v->share_bytes != w.share_bytes ||
        v->shards != (uint32_t)w.shards || v->prospective != (uint32_t)w.prospective)
        differ(bins, l, "view of %d: integers", i);
    if (!near(v->capacity_bytes, w.capacity, 0) || !near(v->used_bytes, w.used, 0) || !near(v->free_bytes, w.room, 0) ||
        !near(v->priority, w.priority, 0))
        differ(bins, l, "view of %d: E %g f %g room %g priority %g, not %g %g %g %g", i, v->capacity_bytes,
               v->used_bytes, v->free_bytes, v->priority, w.capacity, w.used, w.room, w.priority);
}

static void same_sums(const struct migbuf_bins *bins, const struct reference_ledger *l)
{
    uint64_t total = reference_ledger_total(l);

    if (migbuf_bins_used(bins) != total)
        differ(bins, l, "used %" PRIu64 ", not %" PRIu64, migbuf_bins_used(bins), total);
    if (migbuf_bins_excess(bins) != (total > l->capacity ? total - l->capacity : 0))
        differ(bins, l, "excess %" PRIu64, migbuf_bins_excess(bins));
}

/* I3: whoever has bytes elsewhere has a full home; so the graph of guests and hosts has no cycle. */
static void hosting_has_order(const struct migbuf_bins *bins, const struct reference_ledger *l)
{
    bool gone[MAX] = { false };
    bool progress = true;
    int left = l->count;

    while (progress) { /* take out whoever is guest of nobody left */
        progress = false;
        for (int i = 0; i < l->count; i++) {
            bool guest = false;

            for (int b = 0; b < l->count && !gone[i]; b++)
                for (int p = 1; p < l->bin[b].height && !gone[b]; p++)
                    guest = guest || l->bin[b].entry[p].who == i;
            if (gone[i] || guest)
                continue;
            gone[i] = progress = true;
            left--;
        }
    }
    if (left > 0)
        differ(bins, l, "hosting has a cycle");
    for (int b = 0; b < l->count; b++)
        for (int p = 1; p < l->bin[b].height; p++) {
            int home = l->bin[b].entry[p].who;

            if (reference_ledger_used(l, home) < l->bin[home].share)
                differ(bins, l, "%d is a guest of %d and has room at home", home, b);
        }
}

/* Bytes that lie in bins beyond their shares. */
static uint64_t overfull(const struct reference_ledger *l)
{
    uint64_t sum = 0;

    for (int b = 0; b < l->count; b++) {
        uint64_t used = reference_ledger_used(l, b);

        sum += used > l->bin[b].share ? used - l->bin[b].share : 0;
    }
    return sum;
}

static void same_ledger(const struct migbuf_bins *bins, const struct reference_ledger *l)
{
    same_list(bins, l);
    same_shards(bins, l);
    same_sums(bins, l);
    hosting_has_order(bins, l);
    for (int i = 0; i < l->count; i++) {
        struct migbuf_bins_view v = { .size = sizeof v };

        if (migbuf_bins_view(bins, l->bin[i].id, &v) != 0)
            differ(bins, l, "no view of %d", i);
        same_view(bins, l, i, &v);
    }
}

static uint64_t new_id(const struct reference_ledger *l)
{
    for (;;) {
        uint64_t id = chance(20) ? below(4) - 2 : roll();

        if (reference_ledger_find(l, id) < 0)
            return id;
    }
}

static uint64_t any_capacity(void)
{
    static const uint64_t some[] = { 0, 1, 7, 100, 300, 1000, UINT64_C(10737418240), MIGBUF_BYTES_MAX };

    return chance(50) ? some[below(sizeof some / sizeof *some)] : any_size(62);
}

static uint32_t any_weight(void)
{
    return chance(60) ? 100 : chance(90) ? (uint32_t)below(300) + 1 : (uint32_t)below(1000000) + 1;
}

/* A new size for a file of `now` bytes: mostly such that all fit, sometimes exactly, sometimes not; never above 2^62 in
 * all. */
static uint64_t any_bytes(uint64_t now, uint64_t total, uint64_t capacity, int count)
{
    uint64_t fair = capacity / (uint64_t)(count + 1), free_bytes = capacity > total ? capacity - total : 0;
    uint64_t bytes;

    switch (below(8)) {
    case 0:
        return below(now + 1);
    case 1:
        return below(8) == 0 ? 0 : now;
    case 2:
        return now + free_bytes;
    case 3:
        bytes = below(2 * fair + 1);
        break;
    case 4:
        bytes = below(10) == 0 ? now + free_bytes + below(fair + 2) : below(fair + 1);
        break;
    case 5:
        bytes = now + below(4);
        break;
    default:
        bytes = now + below(free_bytes / (1 + below(4)) + 1);
    }
    if (total - now + bytes > capacity && chance(90))
        bytes = now + below(free_bytes + 1);
    return bytes < MIGBUF_BYTES_MAX - (total - now) ? bytes : MIGBUF_BYTES_MAX - (total - now);
}

struct walk {
    struct purse purse;
    struct migbuf_bins *bins;
    struct reference_ledger ledger;
    uint64_t excess; /* overfull bytes before the operation */
};

static void expect_code(const struct walk *w, int got, int wanted)
{
    if (got != wanted)
        differ(w->bins, &w->ledger, "%d, not %d", got, wanted);
}

/* True when the library did it, false when it had no memory; anything else is wrong. */
static bool done(struct walk *w, int code)
{
    w->purse.armed = false;
    if (code == MIGBUF_E_NOMEM)
        return false;
    expect_code(w, code, 0);
    return true;
}

static void walk_start(struct walk *w)
{
    struct reference_ledger *l = &w->ledger;
    uint64_t id = new_id(l), total = reference_ledger_total(l);
    uint64_t bytes = chance(60) ? 0 : any_bytes(0, total, l->capacity, l->count);
    uint32_t weight = any_weight();

    doing = "start";
    arm(&w->purse, 10);
    if (done(w, migbuf_bins_start(w->bins, id, weight, bytes)))
        reference_ledger_start(l, id, weight, bytes);
}

static void walk_set(struct walk *w)
{
    struct reference_ledger *l = &w->ledger;
    int i = (int)below((uint64_t)l->count);
    uint64_t bytes = any_bytes(reference_ledger_bytes(l, i), reference_ledger_total(l), l->capacity, l->count);

    doing = "set";
    arm(&w->purse, 5);
    if (done(w, migbuf_bins_set(w->bins, l->bin[i].id, bytes)))
        reference_ledger_set(l, i, bytes);
}

static void walk_end(struct walk *w)
{
    int i = (int)below((uint64_t)w->ledger.count);

    doing = "end";
    w->purse.armed = true;
    w->purse.left = 0;
    expect_code(w, migbuf_bins_end(w->bins, w->ledger.bin[i].id), 0);
    w->purse.armed = false;
    reference_ledger_end(&w->ledger, i);
}

static void walk_resize(struct walk *w)
{
    uint64_t total = reference_ledger_total(&w->ledger), capacity = any_capacity();

    doing = "resize";
    if (chance(70))
        capacity = total + below(w->ledger.capacity + 1);
    if (capacity > MIGBUF_BYTES_MAX || chance(10))
        capacity = total < MIGBUF_BYTES_MAX ? total : MIGBUF_BYTES_MAX;
    arm(&w->purse, 10);
    if (capacity < total) {
        w->purse.armed = false;
        expect_code(w, migbuf_bins_resize(w->bins, capacity), MIGBUF_E_IN_USE);
    } else if (done(w, migbuf_bins_resize(w->bins, capacity))) {
        reference_ledger_resize(&w->ledger, capacity);
    }
}

/* Calls that are refused. same_ledger() afterwards sees whether they changed anything. */
static void walk_errors(struct walk *w)
{
    uint64_t strange = new_id(&w->ledger), known = w->ledger.count > 0 ? w->ledger.bin[0].id : strange;
    struct migbuf_bins_view v = { .size = sizeof v, .bytes = 77 };
    struct migbuf_shard s = { .bytes = 77 };
    struct migbuf_bin b = { .used_bytes = 77 };

    doing = "errors";
    expect_code(w, migbuf_bins_start(w->bins, strange, 0, 0), MIGBUF_E_RANGE);
    expect_code(w, migbuf_bins_start(w->bins, strange, 1000001, 0), MIGBUF_E_RANGE);
    expect_code(w, migbuf_bins_start(w->bins, strange, 1, MIGBUF_BYTES_MAX + 1), MIGBUF_E_RANGE);
    expect_code(w, migbuf_bins_set(w->bins, strange, 0), MIGBUF_E_NOTFOUND);
    expect_code(w, migbuf_bins_end(w->bins, strange), MIGBUF_E_NOTFOUND);
    expect_code(w, migbuf_bins_resize(w->bins, MIGBUF_BYTES_MAX + 1), MIGBUF_E_RANGE);
    expect_code(w, migbuf_bins_view(w->bins, strange, &v), MIGBUF_E_NOTFOUND);
    expect_code(w, migbuf_bins_view(w->bins, known, NULL), MIGBUF_E_INVALID);
    v.size = 8;
    expect_code(w, migbuf_bins_view(w->bins, known, &v), MIGBUF_E_STRUCT);
    if (w->ledger.count > 0) {
        expect_code(w, migbuf_bins_start(w->bins, known, 1, 0), MIGBUF_E_EXISTS);
        expect_code(w, migbuf_bins_set(w->bins, known, MIGBUF_BYTES_MAX + 1), MIGBUF_E_RANGE);
        expect_code(w, migbuf_bins_list(w->bins, &b, w->ledger.count > 1), w->ledger.count);
        expect_code(w, migbuf_bins_shards(w->bins, &s, 0) >= w->ledger.count, 1);
    }
    if (v.bytes != 77 || s.bytes != 77 || (w->ledger.count > 1 && b.used_bytes != 77))
        differ(w->bins, &w->ledger, "an output was written by a refused call");
}

static void walk_step(struct walk *w, int crowd)
{
    uint64_t what = below(100);

    w->excess = overfull(&w->ledger);
    if (w->ledger.count == 0 || (what < 12 && w->ledger.count < crowd))
        walk_start(w);
    else if (what < 76)
        walk_set(w);
    else if (what < 86)
        walk_end(w);
    else if (what < 94)
        walk_resize(w);
    else
        walk_errors(w);
    same_ledger(w->bins, &w->ledger);
    /* I4: bytes that fit find a place, so nothing new lies over a share while all fit */
    if (reference_ledger_total(&w->ledger) <= w->ledger.capacity && overfull(&w->ledger) > w->excess)
        differ(w->bins, &w->ledger, "free room was not used");
}

static void walk_once(uint64_t steps)
{
    static struct walk w;
    struct migbuf_allocator allocator = { .context = &w.purse, .resize = purse_resize };
    uint64_t capacity = any_capacity();
    int crowd = chance(90) ? 2 + (int)below(8) : 30;

    memset(&w, 0, sizeof w);
    reference_ledger_init(&w.ledger, capacity);
    ck_assert_int_eq(migbuf_bins_new(capacity, &allocator, &w.bins), 0);
    for (; steps > 0; steps--, operation++)
        walk_step(&w, crowd);
    migbuf_bins_free(w.bins);
    ck_assert_uint_eq(w.purse.live, 0);
}

START_TEST(ledger_follows_the_reference)
{
    begin(1);
    while (operation < operations())
        walk_once(200 + below(200));
}
END_TEST

/* The buffer: library against reference. */

struct rig {
    struct purse purse;
    struct migbuf_buffer *buffer;
    struct reference ref;
};

static struct rig rig;

static uint64_t decisions, doubts; /* all of them; those on the edge of a unit, where rounding decides */
static uint64_t actions[MIGBUF_ACTION_WAIT + 1], reasons[MIGBUF_REASON_TURN + 1];

static void oops(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Enough of every migration to follow a difference with pen and paper. */
static size_t describe_one(const struct reference_migration *m, char *text, size_t room)
{
    const struct reference_force *f = &m->force;
    size_t used = (size_t)snprintf(text, room,
                                   "\n  files %" PRIu64 " unseen %.17g device %" PRIu64 " drains %u units %" PRIu64
                                   "%s before %" PRIu64 " older %d%s%s wanted %.17g budget %.17g pending %.17g",
                                   reference_file_bytes(m), m->unseen, m->device, m->drains_ahead, f->now.units,
                                   f->now.paused ? " paused" : f->now.absent ? " absent" : "", f->before.units, f->olders,
                                   f->unknown ? " unknown" : "", m->waits ? " waits" : "", m->wanted, m->budget, m->pending);

    for (int d = 0; d < m->disk_count && used + 200 < room; d++)
        used += (size_t)snprintf(text + used, room - used,
                                 "\n    disk %" PRIu64 " cluster %" PRIu64 "/%" PRIu64 " block %" PRIu64
                                 " request %" PRIu64 " queue %" PRIu64 " flags %u",
                                 m->disk[d].virtual_bytes, m->disk[d].cluster_bytes, m->disk[d].subcluster_bytes,
                                 m->disk[d].block_bytes, m->disk[d].request_bytes, m->disk[d].queue_bytes,
                                 m->disk[d].flags);
    return used;
}

static void describe(char *text, size_t room)
{
    size_t used = 0;

    for (int i = 0; i < rig.ref.ledger.count && used + 400 < room; i++)
        used += describe_one(&rig.ref.migration[i], text + used, room - used);
}

static void oops(const char *format, ...)
{
    static char text[1800];
    va_list args;
    size_t used;

    va_start(args, format);
    vsnprintf(text, 900, format, args);
    va_end(args);
    used = strlen(text);
    used += (size_t)snprintf(text + used, 300,
                             "\nlag %u late %u interval %u capacity %" PRIu64 " files %" PRIu64 " reserves %.17g"
                             " pending %.17g grantable %.17g level %.17g",
                             rig.ref.options.lag_ms, rig.ref.options.late_factor_percent, rig.ref.options.interval_ms,
                             rig.ref.ledger.capacity, rig.ref.files, rig.ref.reserves, rig.ref.pending,
                             rig.ref.grantable, rig.ref.level);
    describe(text + used, sizeof text - used);
    differ(migbuf_buffer_bins(rig.buffer), &rig.ref.ledger, "%s", text);
}

static void rig_code(int got, int wanted)
{
    if (got != wanted)
        oops("%d, not %d", got, wanted);
}

static bool rig_done(int code)
{
    rig.purse.armed = false;
    if (code == MIGBUF_E_NOMEM)
        return false;
    rig_code(code, 0);
    return true;
}

static uint64_t one_of(const uint64_t *list, size_t n)
{
    return list[below(n)];
}
#define ONE_OF(...)                                                                                                    \
    one_of((const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

static void any_options(struct migbuf_buffer_options *o)
{
    ck_assert_int_eq(migbuf_buffer_options_init(o, sizeof *o), 0);
    if (chance(30))
        return;
    o->interval_ms = (uint32_t)ONE_OF(10, 100, 200, 500, 1000, 1000, 2000, 5000, 60000);
    o->late_factor_percent = (uint32_t)ONE_OF(100, 150, 200, 333, 1000);
    o->lag_ms = (uint32_t)ONE_OF(0, 0, 20, 100, 100, 400, 3000, 60000);
    o->hysteresis_percent = (uint32_t)ONE_OF(0, 1, 10, 10, 33, 50);
    o->min_pause_ms = (uint32_t)ONE_OF(0, 500, 2000, 10000);
    o->max_stall_ms = (uint32_t)ONE_OF(0, 1000, 30000, 30000);
    o->floor_bytes_per_s = ONE_OF(0, 1000, 160000, 160000, 10000000);
    o->epsilon_bytes = ONE_OF(1, 10000, 10000, 1000000);
    o->epsilon_bytes_per_s = ONE_OF(0, 10000, 10000, 1000000);
    o->tau_ms = ONE_OF(1, 500, 1000, 1000, 60000);
}

static void rig_new(uint64_t capacity, const struct migbuf_buffer_options *o)
{
    struct migbuf_allocator allocator = { .context = &rig.purse, .resize = purse_resize };

    memset(&rig, 0, sizeof rig);
    reference_init(&rig.ref, capacity, o);
    ck_assert_int_eq(migbuf_buffer_new(capacity, o, &allocator, &rig.buffer), 0);
}

static void rig_free(void)
{
    migbuf_buffer_free(rig.buffer);
    ck_assert_uint_eq(rig.purse.live, 0);
}

static int rig_count(void)
{
    return rig.ref.ledger.count;
}

static struct reference_migration *rig_any(int *i)
{
    *i = (int)below((uint64_t)rig_count());
    return &rig.ref.migration[*i];
}

/* The sum of the newest sizes: the ledger learns them only at the tick. */
static uint64_t rig_files(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < rig_count(); i++)
        sum += reference_file_bytes(&rig.ref.migration[i]);
    return sum;
}

static void rig_compare(void)
{
    same_ledger(migbuf_buffer_bins(rig.buffer), &rig.ref.ledger);
}

/* A figure that is given, not known, or known to be none. */
static uint64_t any_figure(uint64_t given)
{
    return chance(80) ? given : chance(70) ? MIGBUF_NONE : 0;
}

static void any_geometry(struct migbuf_geometry *g)
{
    uint64_t most = chance(90) ? 42 : 60, unit;

    memset(g, 0, sizeof *g);
    g->virtual_bytes = 1 + any_size((unsigned)most - 1);
    g->cluster_bytes = chance(60) ? 65536 : UINT64_C(512) << below(13);
    g->subcluster_bytes = g->cluster_bytes >= 16384 && chance(30) ? g->cluster_bytes / 32 : g->cluster_bytes;
    g->block_bytes = chance(60) ? 4096 : ONE_OF(0, 512, 4096, 131072, 16777216);
    g->request_bytes = any_figure(ONE_OF(1, 4096, 4096, 65536, 66048, 262144, 8388608, UINT64_C(1) << 40));
    g->queue_bytes = any_figure(chance(90) ? ONE_OF(4096, 4194304, 16777216) : 1 + any_size(49));
    g->extra_bytes = any_figure(1 + any_size(30));
    g->flags = chance(60) ? MIGBUF_GEOMETRY_ALIGNED : 0;
    g->flags |= chance(10) ? MIGBUF_GEOMETRY_NO_IOPS_SIZE : 0;
    g->flags |= chance(5) ? MIGBUF_GEOMETRY_NO_WHOLE : 0;
    if (migbuf_geometry_check(g) == 0)
        return;
    g->flags &= ~MIGBUF_GEOMETRY_ALIGNED; /* 66048 bytes are no multiple of a unit */
    if (migbuf_geometry_unit(g, &unit) != 0)
        oops("no geometry");
}

static void any_migration(struct migbuf_migration *m)
{
    ck_assert_int_eq(migbuf_migration_init(m, sizeof *m), 0);
    m->id = new_id(&rig.ref.ledger);
    m->link = chance(80) ? below(2) : roll();
    m->flow_bytes_per_s = chance(50) ? 0 : any_size(34);
    m->rate_bytes_per_s = chance(50) ? 0 : any_size(34);
    m->device_write_bytes_per_s = chance(60) ? 0 : any_size(34);
    m->weight = any_weight();
    m->drains_ahead = chance(98) ? (uint32_t)below(6) : 1000;
    m->file_bytes = chance(70) ? 0 : any_bytes(0, rig_files(), rig.ref.ledger.capacity, rig_count());
    m->file_bytes = at_most(m->file_bytes, DISK_MAX);
}

/* Is it let in, by the newest sizes? Both sides in doubles; where they meet to a byte, the library decides. */
static void rig_admission(const struct reference_migration *m, int code, const struct migbuf_error *e)
{
    double need = reference_entry_fee(&rig.ref, m), have = (double)rig.ref.ledger.capacity;
    double slack = 2 + 1e-12 * have;
    char text[800];
    bool fits;

    for (int i = 0; i < rig_count(); i++)
        have -= reference_entry_fee(&rig.ref, &rig.ref.migration[i]);
    have = fmax(have, 0);
    describe_one(m, text, sizeof text);
    fits = need <= have || rig.ref.options.policy == MIGBUF_POLICY_LITERAL;
    if (code != MIGBUF_E_NOMEM && (code == 0) != fits && !near(need, have, slack))
        oops("add gives %d, need %.17g have %.17g", code, need, have);
    if (code == MIGBUF_E_NOSPACE && (!near((double)e->need, need, slack) || !near((double)e->have, have, slack)))
        oops("add says need %" PRIu64 " have %" PRIu64 ", not %.17g %.17g%s", e->need, e->have, need, have, text);
}

static int rig_add(const struct migbuf_migration *m, const struct migbuf_geometry *disks, int disk_count)
{
    struct reference_migration r;
    struct migbuf_error e = { .need = 0 };
    int code = migbuf_buffer_add(rig.buffer, m, disks, (size_t)disk_count, &e);

    doing = "add";
    rig.purse.armed = false;
    if (code != 0 && code != MIGBUF_E_NOSPACE && code != MIGBUF_E_NOMEM)
        oops("add gives %d", code);
    reference_migration_set(&r, m, disks, disk_count);
    rig_admission(&r, code, &e);
    if (code == 0)
        reference_start(&rig.ref, &r, m->weight);
    return code;
}

static int rig_find(uint64_t id)
{
    return reference_ledger_find(&rig.ref.ledger, id);
}

static void rig_sample(uint64_t now_ms, const struct migbuf_sample *s, int count)
{
    doing = "sample";
    arm(&rig.purse, 5);
    if (!rig_done(migbuf_buffer_sample(rig.buffer, now_ms, s, (size_t)count)))
        return;
    for (int k = 0; k < count; k++)
        reference_sample(&rig.ref, rig_find(s[k].id), now_ms, &s[k]);
}

/* Rounding noise of sums as large as Ω. */
static double rig_slack(void)
{
    return 1e-9 + 1e-13 * (double)rig.ref.ledger.capacity;
}

/* Sums of whole numbers are exact; what nobody has seen is no whole number. */
static double rig_fractions(void)
{
    double unseen = 0, sum = reference_needed(&rig.ref);

    for (int i = 0; i < rig_count(); i++)
        unseen += rig.ref.migration[i].unseen;
    return unseen > 0 || sum >= 0x1p53 ? 2 + 1e-9 * sum : 0;
}

/* 1: there is no room yet. Where it is there to a byte, the library decides. */
static int rig_room(int got, int wanted)
{
    double reach = reference_reach(&rig.ref), capacity = (double)rig.ref.ledger.capacity;

    if (got != wanted && !(got >= 0 && near(reach, capacity + 1, rig_slack())))
        oops("%d, not %d; reach %.17g of %.17g", got, wanted, reach, capacity);
    return got;
}

static int rig_phase(int i, int32_t phase, uint32_t drains)
{
    struct reference_migration *m = &rig.ref.migration[i];
    uint32_t fit = m->drains_fit;
    int code;

    doing = "phase";
    code = rig_room(migbuf_buffer_phase(rig.buffer, m->id, phase, drains), reference_phase(&rig.ref, i, phase, drains));
    m->drains_fit = code ? fit : drains;
    return code;
}

static void rig_weight(int i, uint32_t weight)
{
    doing = "weight";
    arm(&rig.purse, 10);
    if (rig_done(migbuf_buffer_weight(rig.buffer, rig.ref.migration[i].id, weight)))
        reference_ledger_weight(&rig.ref.ledger, i, weight);
}

static void rig_link(uint64_t link, uint64_t bytes_per_s)
{
    doing = "link";
    if (rig_done(migbuf_buffer_link(rig.buffer, link, bytes_per_s)))
        reference_link(&rig.ref, link, bytes_per_s);
}

static void rig_remove(int i)
{
    doing = "remove";
    rig.purse.armed = true;
    rig.purse.left = 0;
    rig_code(migbuf_buffer_remove(rig.buffer, rig.ref.migration[i].id), 0);
    rig.purse.armed = false;
    reference_end(&rig.ref, i);
}

static int rig_outcome(int i, int32_t outcome)
{
    int code;

    doing = "outcome";
    code = migbuf_buffer_outcome(rig.buffer, rig.ref.migration[i].id, outcome);
    rig_code(code, reference_outcome(&rig.ref, i, outcome));
    return code;
}

static void rig_found(int i, const struct migbuf_limits *limits, bool running)
{
    doing = "found";
    rig_code(migbuf_buffer_resync(rig.buffer, rig.ref.migration[i].id, limits, running), 0);
    reference_found(&rig.ref, i, limits, running);
}

/* The process dies, and another one goes on with what it saved. */
static void rig_load(uint64_t now_ms)
{
    static char text[200000];
    struct migbuf_allocator allocator = { .context = &rig.purse, .resize = purse_resize };
    size_t length;

    doing = "load";
    rig_code(migbuf_buffer_save(rig.buffer, text, sizeof text, &length), 0);
    migbuf_buffer_free(rig.buffer);
    ck_assert_uint_eq(rig.purse.live, 0);
    rig_code(migbuf_buffer_load(text, length, now_ms, &allocator, &rig.buffer), 0);
    reference_load(&rig.ref, now_ms);
}

static int rig_resize(uint64_t capacity)
{
    struct migbuf_error e = { .code = 0 };
    double needed = reference_needed(&rig.ref);
    int code;

    doing = "resize";
    arm(&rig.purse, 10);
    code = migbuf_buffer_resize(rig.buffer, capacity, &e);
    rig.purse.armed = false;
    if (code == MIGBUF_E_NOMEM)
        return code;
    if ((code == MIGBUF_E_IN_USE) != ((double)capacity < needed) && !near((double)capacity, needed, rig_slack()))
        oops("resize to %" PRIu64 " gives %d, needed %.17g", capacity, code, needed);
    if (code == MIGBUF_E_IN_USE && (e.have != capacity || !near((double)e.need, needed, rig_fractions())))
        oops("resize says need %" PRIu64 " have %" PRIu64 ", not %.17g", e.need, e.have, needed);
    if (code == MIGBUF_E_IN_USE)
        return code;
    return rig_room(code, reference_resize(&rig.ref, capacity));
}

static bool same_decision(const struct migbuf_decision *a, const struct migbuf_decision *b)
{
    return a->id == b->id && a->action == b->action && a->reason == b->reason &&
           a->growth_bytes_per_s == b->growth_bytes_per_s && a->limits.iops_wr == b->limits.iops_wr &&
           a->limits.iops_size == b->limits.iops_size && a->limits.bps_wr == b->limits.bps_wr;
}

/* What a sum of wishes loses to rounding, as a rate: a small ratio makes it large. */
static double rate_slack(int i)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    double wishes = 0;

    for (int j = 0; j < rig_count(); j++)
        wishes += fmin(rig.ref.migration[j].demand, rig.ref.migration[j].cap);
    return rig_slack() + (rig.ref.options.policy == MIGBUF_POLICY_PLANNER && m->rho > 0 ? 1e-11 * wishes / m->rho : 0);
}

/* Of 10^9 units/s and more nobody can tell the last one: the library's count is taken over. */
static bool too_many_to_count(int i, const struct migbuf_decision *d, const struct migbuf_decision *r)
{
    double units = (double)d->limits.iops_wr;

    if (d->id != r->id || d->action != r->action || d->reason != r->reason || units < 1e9 ||
        !near(units, (double)r->limits.iops_wr, 0))
        return false;
    rig.ref.migration[i].force.now.units = d->limits.iops_wr;
    return true;
}

static void compare_decision(int i, const struct migbuf_decision *d, struct migbuf_decision *r)
{
    double shift = rate_slack(i) + 1e-9 * rig.ref.migration[i].budget;
    struct migbuf_decision first = *r;

    decisions++;
    actions[r->action]++;
    reasons[r->reason]++;
    if ((r->reason == MIGBUF_REASON_PLAN || r->reason == MIGBUF_REASON_SPACE) && near(rig.ref.migration[i].wanted, rig.ref.level, shift)) {
        r->reason = d->reason; /* two clamps that meet */
        rig.ref.migration[i].reason = d->reason;
    }
    if (same_decision(d, r) || too_many_to_count(i, d, r))
        return;
    doubts++;
    for (int up = -1; up <= 1; up += 2) {
        reference_again(&rig.ref, i, up * shift, r);
        if (same_decision(d, r))
            return;
    }
    oops("decision of %d: %s %s %" PRIu64 " (%" PRIu64 " %" PRIu64 " %" PRIu64 "), not %s %s %" PRIu64 " (%" PRIu64
         " %" PRIu64 " %" PRIu64 "), budget %.17g",
         i, migbuf_action_text(d->action), migbuf_reason_text(d->reason), d->growth_bytes_per_s, d->limits.iops_wr,
         d->limits.iops_size, d->limits.bps_wr, migbuf_action_text(first.action), migbuf_reason_text(first.reason),
         first.growth_bytes_per_s, first.limits.iops_wr, first.limits.iops_size, first.limits.bps_wr,
         rig.ref.migration[i].budget);
}

static void compare_rates(int i)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_bins_view bins = { .size = sizeof bins };
    int code = migbuf_buffer_view(rig.buffer, m->id, &v);
    const double got[] = { v.curve, v.share, v.hard_cap, v.clamped, v.below_lenders, v.budget };
    const double want[] = { m->curve, m->share, m->hard_cap, m->clamped, m->below_lenders, m->budget };
    static const char *const name[] = { "curve", "share", "hard cap", "clamped", "below_lenders", "budget" };

    rig_code(code, 0);
    rig_code(migbuf_bins_view(migbuf_buffer_bins(rig.buffer), m->id, &bins), 0);
    same_view(migbuf_buffer_bins(rig.buffer), &rig.ref.ledger, i, &bins);
    for (int k = rig.ref.options.policy == MIGBUF_POLICY_LITERAL ? 5 : 0; k < 6; k++)
        if (!near(got[k], want[k], rate_slack(i)))
            oops("%s of %d is %.17g, not %.17g", name[k], i, got[k], want[k]);
    if (rig.ref.options.policy != MIGBUF_POLICY_PLANNER)
        return;
    /* forecast.h: what remains is good to 1e-9, and a plan is made of that for all on the link */
    if (!near(v.finish_s, m->release, 1e-8 * m->release) || !near(v.demand, m->demand, 1e-6 * m->demand) || !near(v.cap, m->cap, rig_slack()) ||
        !near(v.planned, m->planned, rig_slack()) || !near(v.ratio, m->rho, 0))
        oops("plan of %d is %.17g s h %.17g R %.17g g %.17g rho %.17g, not %.17g %.17g %.17g %.17g %.17g", i, v.finish_s,
             v.demand, v.cap, v.planned, v.ratio, m->release, m->demand, m->cap, m->planned, m->rho);
}

static void compare_view(int i)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    const struct reference_state *now = &m->force.now;
    struct migbuf_buffer_view v = { .size = sizeof v };
    uint64_t unit = (uint64_t)reference_step(&rig.ref, m);

    rig_code(migbuf_buffer_view(rig.buffer, m->id, &v), 0);
    if (v.in_force_bytes_per_s != (now->limited ? now->units * unit : MIGBUF_UNLIMITED))
        oops("in force of %d: %" PRIu64 ", not %" PRIu64, i, v.in_force_bytes_per_s, now->units * unit);
    if (v.link != m->link || v.phase != m->phase || v.paused != now->paused || v.reason != m->reason || v.reserved != 0)
        oops("view of %d: link, phase, paused %d or reason %d", i, v.paused, v.reason);
    if (!near((double)v.reserve_bytes, m->reserve, m->unseen > 0 ? 1 + rig_slack() : 0) ||
        (m->unseen <= 0 && m->reserve < 0x1p53 && v.reserve_bytes != (uint64_t)m->reserve))
        oops("reserve of %d: %" PRIu64 ", not %.17g", i, v.reserve_bytes, m->reserve);
}

/* Rates that differ by rounding make claims that differ by that, many times. */
static void compare_claim(int i)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    struct migbuf_buffer_view v = { .size = sizeof v };

    rig_code(migbuf_buffer_view(rig.buffer, m->id, &v), 0);
    if (!near((double)v.claim_bytes, m->claim, 2 + 1e4 * rig_slack() + 1e-6 * m->claim))
        oops("claim of %d: %" PRIu64 ", not %.17g", i, v.claim_bytes, m->claim);
}

static void compare_reach(void)
{
    struct migbuf_buffer_stats s = { .size = sizeof s };
    double reach = reference_reach(&rig.ref), claims = 0;

    for (int i = 0; i < rig_count(); i++)
        claims += rig.ref.migration[i].claim;
    if (rig.ref.options.policy == MIGBUF_POLICY_LITERAL)
        return;
    rig_code(migbuf_buffer_stats(rig.buffer, &s), 0);
    if (!near((double)s.reach_bytes, reach, 2 + 1e4 * rig_slack() + 1e-6 * claims))
        oops("stats: reach %" PRIu64 ", not %.17g", s.reach_bytes, reach);
}

static void compare_stats(void)
{
    struct migbuf_buffer_stats s = { .size = sizeof s };
    const struct reference *r = &rig.ref;
    uint64_t capacity = r->ledger.capacity;

    rig_code(migbuf_buffer_stats(rig.buffer, &s), 0);
    if (s.capacity_bytes != capacity || s.used_bytes != r->files || s.migrations != (uint64_t)r->ledger.count ||
        s.excess_bytes != (r->files > capacity ? r->files - capacity : 0) || s.ticks != r->ticks ||
        s.late_ticks != r->late_ticks)
        oops("stats: used %" PRIu64 " excess %" PRIu64 " ticks %" PRIu64 " late %" PRIu64 ", not %" PRIu64 ", %" PRIu64
             " and %" PRIu64,
             s.used_bytes, s.excess_bytes, s.ticks, s.late_ticks, r->files, r->ticks, r->late_ticks);
    if (r->options.policy == MIGBUF_POLICY_LITERAL)
        return;
    if (!near((double)s.reserve_bytes, r->reserves, rig_fractions()) ||
        !near((double)s.pending_bytes, r->pending, 2 + rig_slack()) ||
        !near((double)s.unseen_bytes, r->unseen, 2 + rig_slack()) ||
        !near((double)s.grantable_bytes, fmax(0, r->grantable), 2 + rig_slack()) || !near(s.level, r->level, rig_slack()))
        oops("stats: reserve %" PRIu64 " pending %" PRIu64 " unseen %" PRIu64 " grantable %" PRIu64
             " level %.17g, not %.17g %.17g %.17g %.17g %.17g",
             s.reserve_bytes, s.pending_bytes, s.unseen_bytes, s.grantable_bytes, s.level, r->reserves, r->pending,
             r->unseen, r->grantable, r->level);
}

/* I2: nobody's budget is above that of a migration that lends it room, but for what it needs to run at all. A file that
 * is whole cannot grow, whatever its budget; and a host that stands until it is its turn binds nobody. */
static void guests_below_hosts(void)
{
    for (int i = 0; i < rig_count(); i++) {
        const struct reference_migration *m = &rig.ref.migration[i];
        struct migbuf_buffer_view guest = { .size = sizeof guest }, host = { .size = sizeof host };

        rig_code(migbuf_buffer_view(rig.buffer, m->id, &guest), 0);
        for (int h = 0; h < m->view.host_count; h++) {
            rig_code(migbuf_buffer_view(rig.buffer, rig.ref.migration[m->view.host[h]].id, &host), 0);
            if (guest.budget > host.budget && guest.budget > reference_needs(&rig.ref, i) * (1 + 1e-9) &&
                reference_whole(m) > reference_most_bytes(m) && !rig.ref.migration[m->view.host[h]].stands)
                oops("%d may write more than its host %d: %g > %g", i, m->view.host[h], guest.budget, host.budget);
        }
    }
}

static bool rig_tick(uint64_t now_ms)
{
    static struct migbuf_decision got[MAX], want[MAX];
    int code;

    doing = "tick";
    arm(&rig.purse, 5);
    code = migbuf_buffer_tick(rig.buffer, now_ms, got, MAX);
    rig.purse.armed = false;
    if (code == MIGBUF_E_NOMEM)
        return false;
    rig_code(code, rig_count());
    reference_tick(&rig.ref, now_ms, want);
    for (int i = 0; i < rig_count(); i++)
        compare_rates(i);
    for (int i = 0; i < rig_count(); i++)
        compare_decision(i, &got[i], &want[i]);
    for (int i = 0; i < rig_count(); i++) {
        compare_view(i);
        compare_claim(i);
    }
    compare_stats();
    compare_reach();
    if (rig.ref.options.policy == MIGBUF_POLICY_PAPER)
        guests_below_hosts();
    return true;
}

/* Rounding may excuse a decision now and then, not more often. */
static void tally(void)
{
    printf("# %" PRIu64 " decisions, %" PRIu64 " on the edge of a unit:", decisions, doubts);
    for (int32_t k = 1; k <= MIGBUF_ACTION_WAIT; k++)
        printf(" %s %" PRIu64 "%s", migbuf_action_text(k), actions[k], k < MIGBUF_ACTION_WAIT ? "," : "\n");
    for (int32_t k = 1; k <= MIGBUF_REASON_TURN; k++)
        printf("#   %s %" PRIu64 "\n", migbuf_reason_text(k), reasons[k]);
    fflush(stdout);
    ck_assert_uint_le(doubts, decisions / 1000 + 2);
}

/* Any walk at all: sizes, links, weights, refusals as they come. */

static void any_add(void)
{
    struct migbuf_migration m;
    struct migbuf_geometry disks[REFERENCE_DISKS];
    int disk_count = chance(70) ? 1 : 1 + (int)below(REFERENCE_DISKS);

    any_migration(&m);
    for (int d = 0; d < disk_count; d++)
        any_geometry(&disks[d]);
    arm(&rig.purse, 10);
    rig_add(&m, disks, disk_count);
}

/* Shortly after the last tick, mostly; or at any time at all. */
static uint64_t any_time(void)
{
    return chance(90) ? rig.ref.now_ms + below(rig.ref.options.interval_ms) : chance(50) ? below(rig.ref.now_ms + 1) : roll() / 2;
}

static void any_sample(void)
{
    struct migbuf_sample s[8];
    int count = (int)below(8);

    memset(s, 0, sizeof s);
    for (int k = 0; k < count; k++) {
        int i;
        struct reference_migration *m = rig_any(&i);

        s[k].id = m->id;
        s[k].disk = (uint32_t)below((uint64_t)m->disk_count);
        s[k].file_bytes = any_bytes(m->disk_bytes[s[k].disk], rig_files(), rig.ref.ledger.capacity, rig_count());
        s[k].file_bytes = at_most(s[k].file_bytes, DISK_MAX);
        s[k].written_bytes = roll() >> below(64);
        s[k].writes = roll() >> below(64);
        s[k].remaining_bytes = chance(80) ? roll() : chance(50) ? 0 : MIGBUF_NONE;
    }
    rig_sample(any_time(), s, count);
}

/* Every disk of all, or of all but a few: nothing is unseen then, or little. */
static void any_round(uint64_t now_ms)
{
    for (int i = 0; i < rig_count(); i++)
        for (int d = 0; d < rig.ref.migration[i].disk_count && chance(95); d++) {
            const struct reference_migration *m = &rig.ref.migration[i];
            struct migbuf_sample s = { .id = m->id, .disk = (uint32_t)d, .file_bytes = m->disk_bytes[d] };

            if (chance(50))
                s.file_bytes = at_most(any_bytes(s.file_bytes, rig_files(), rig.ref.ledger.capacity, rig_count()), DISK_MAX);
            s.writes = m->disk_writes[d] + below(1000);
            s.written_bytes = m->disk_written[d] + any_size(24);
            if (chance(3)) /* nobody could ask for them */
                s.writes = s.written_bytes = 0;
            rig_sample(now_ms, &s, 1);
        }
}

static void any_resize(void)
{
    uint64_t capacity = rig_files() + below(rig.ref.ledger.capacity + 1);

    if (capacity > MIGBUF_BYTES_MAX || chance(20))
        capacity = any_capacity();
    rig_resize(capacity);
}

/* Refused calls; what follows sees whether one of them left a trace. */
static void any_errors(void)
{
    struct migbuf_buffer *b = rig.buffer;
    uint64_t strange = new_id(&rig.ref.ledger), known = rig.ref.migration[0].id;
    struct migbuf_sample s[2] = { { .id = known, .file_bytes = 1 }, { .id = strange } };
    struct migbuf_geometry g = { .virtual_bytes = 1, .cluster_bytes = 65536, .subcluster_bytes = 65536 };
    struct migbuf_migration m;
    struct migbuf_decision d[MAX];
    struct migbuf_buffer_view v = { .size = sizeof v };
    struct migbuf_limits l = { .iops_size = 65536 };

    doing = "errors";
    any_migration(&m);
    rig_code(migbuf_buffer_add(b, &m, &g, 0, NULL) < 0, 1);
    rig_code(migbuf_buffer_add(b, &m, &g, 65, NULL) < 0, 1);
    rig_code(migbuf_buffer_add(b, &m, NULL, 1, NULL), MIGBUF_E_INVALID);
    rig_code(migbuf_buffer_add(b, NULL, &g, 1, NULL), MIGBUF_E_INVALID);
    m.id = known;
    m.file_bytes = 0;
    rig_code(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_EXISTS);
    m.id = strange;
    m.weight = 0;
    rig_code(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_RANGE);
    m.weight = 100;
    m.file_bytes = DISK_MAX + 1;
    rig_code(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_RANGE);
    m.file_bytes = 0;
    m.size = 8;
    rig_code(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_STRUCT);
    m.size = sizeof m;
    g.reserved = 1;
    rig_code(migbuf_buffer_add(b, &m, &g, 1, NULL), MIGBUF_E_INVALID);
    rig_code(migbuf_buffer_sample(b, 5, s, 2), MIGBUF_E_NOTFOUND);
    s[1] = (struct migbuf_sample){ .id = known, .disk = 64 };
    rig_code(migbuf_buffer_sample(b, 5, s, 2), MIGBUF_E_NOTFOUND);
    s[1] = (struct migbuf_sample){ .id = known, .reserved = 1 };
    rig_code(migbuf_buffer_sample(b, 5, s, 2), MIGBUF_E_INVALID);
    s[1] = (struct migbuf_sample){ .id = known, .file_bytes = MIGBUF_BYTES_MAX + 1 };
    rig_code(migbuf_buffer_sample(b, 5, s, 2), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_sample(b, UINT64_MAX, s, 1), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_phase(b, strange, MIGBUF_PHASE_MIRROR, 0), MIGBUF_E_NOTFOUND);
    rig_code(migbuf_buffer_phase(b, known, 3, 0), MIGBUF_E_INVALID);
    rig_code(migbuf_buffer_weight(b, strange, 1), MIGBUF_E_NOTFOUND);
    rig_code(migbuf_buffer_weight(b, known, 0), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_weight(b, known, 1000001), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_link(b, strange ^ roll(), 1), MIGBUF_E_NOTFOUND);
    rig_code(migbuf_buffer_link(b, rig.ref.migration[0].link, 0), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_link(b, rig.ref.migration[0].link, (UINT64_C(1) << 53) + 1), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_tick(b, UINT64_MAX, d, (size_t)rig_count() - 1), MIGBUF_E_RANGE);
    if (rig.ref.ticked && rig.ref.now_ms > 0)
        rig_code(migbuf_buffer_tick(b, rig.ref.now_ms - 1, d, MAX), MIGBUF_E_CLOCK);
    rig_code(migbuf_buffer_outcome(b, strange, MIGBUF_OUTCOME_DONE), MIGBUF_E_NOTFOUND);
    rig_code(migbuf_buffer_outcome(b, known, MIGBUF_OUTCOME_UNKNOWN + 1), MIGBUF_E_INVALID);
    rig_code(migbuf_buffer_outcome(b, known, -1), MIGBUF_E_INVALID);
    rig_code(migbuf_buffer_outcome(b, known, 0), 0);
    rig_code(migbuf_buffer_resync(b, strange, NULL, 1), MIGBUF_E_NOTFOUND);
    l.iops_wr = l.bps_wr = UINT64_C(1000000000000001);
    rig_code(migbuf_buffer_resync(b, known, &l, 1), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_remove(b, strange), MIGBUF_E_NOTFOUND);
    if (reference_needed(&rig.ref) < 0x1p61) /* else the files do not fit either, and that may be said first */
        rig_code(migbuf_buffer_resize(b, MIGBUF_BYTES_MAX + 1, NULL), MIGBUF_E_RANGE);
    rig_code(migbuf_buffer_view(b, strange, &v), MIGBUF_E_NOTFOUND);
    v.size = 8;
    rig_code(migbuf_buffer_view(b, known, &v), MIGBUF_E_STRUCT);
}

static void any_tick(void)
{
    uint64_t interval = rig.ref.options.interval_ms, late = rig.ref.options.late_factor_percent;
    uint64_t gap = chance(60) ? interval : below(interval * late / 100 + interval / 4 + 2);

    if (chance(20)) /* while what was decided last is still on its way */
        gap = below((uint64_t)rig.ref.options.lag_ms / 2 + 2);
    gap = rig.ref.ticked || chance(50) ? gap : roll() >> 20;
    if (chance(60))
        any_round(rig.ref.now_ms + gap - below(chance(50) ? 1 : gap + 1));
    rig_tick(rig.ref.now_ms + gap);
}

/* What somebody may find in force: what was decided, nothing, a limit of any size, a guest that stands. */
static void any_found(int i)
{
    const struct reference_state *now = &rig.ref.migration[i].force.now;
    uint64_t units = chance(50) ? now->units : chance(80) ? any_size(20) : below(UINT64_C(1000000000000001));
    struct migbuf_limits l = { .iops_wr = units, .iops_size = 65536, .bps_wr = units };
    bool running = chance(70) ? !now->paused : chance(50);

    rig_found(i, units == 0 && chance(50) ? NULL : &l, running);
}

/* Later on the same clock, or on one that began anew. */
static void any_load(void)
{
    uint64_t gap = chance(50) ? below(1000) : any_size(20);

    rig_load(chance(60) ? rig.ref.now_ms + gap : below(rig.ref.now_ms + 1));
    for (int i = 0; i < rig_count(); i++)
        if (chance(70))
            any_found(i);
}

/* One of the calls about one migration. Every roll is a statement of its own: the walk must not depend on the compiler.
 */
static void any_call(uint64_t what)
{
    int i = (int)below((uint64_t)rig_count());
    int32_t phase = chance(50) ? MIGBUF_PHASE_BASE : MIGBUF_PHASE_MIRROR, outcome = (int32_t)below(4);
    uint64_t number = chance(80) ? any_size(31) : any_size(52);

    if (what < 6)
        rig_link(rig.ref.migration[i].link, 1 + number);
    else if (what < 10)
        rig_phase(i, phase, (uint32_t)below(6));
    else if (what < 12)
        rig_weight(i, any_weight());
    else if (what < 20)
        rig_outcome(i, outcome);
    else if (what < 22)
        any_found(i);
    else if (what < 23)
        any_load();
    else
        rig_remove(i);
}

static void any_step(int crowd)
{
    uint64_t what = below(100);

    if (rig_count() == 0 || (what < 8 && rig_count() < crowd))
        any_add();
    else if (what < 30)
        any_sample();
    else if (what < 70)
        any_tick();
    else if (what < 95)
        any_call(what - 70);
    else if (what < 97)
        any_resize();
    else
        any_errors();
    rig_compare();
    compare_reach();
}

START_TEST(buffer_follows_the_reference)
{
    begin(2);
    while (operation < operations() / 2) {
        struct migbuf_buffer_options o;
        uint64_t capacity;
        int crowd = chance(90) ? 2 + (int)below(8) : 30;

        any_options(&o);
        o.policy = (int32_t)ONE_OF(MIGBUF_POLICY_PAPER, MIGBUF_POLICY_PAPER, MIGBUF_POLICY_PAPER, MIGBUF_POLICY_PLANNER,
                                   MIGBUF_POLICY_PLANNER, MIGBUF_POLICY_PLANNER, MIGBUF_POLICY_LITERAL);
        capacity = chance(30) ? any_capacity() : UINT64_C(1) << (30 + below(16));
        rig_new(capacity, &o);
        for (uint64_t steps = 200 + below(200); steps > 0; steps--, operation++)
            any_step(crowd);
        rig_free();
    }
    tally();
    if (operations() < 100000)
        return;
    for (int32_t k = 1; k <= MIGBUF_ACTION_WAIT; k++) /* a walk that never got somewhere says nothing about it */
        ck_assert_msg(actions[k] > 0, "never: %s", migbuf_action_text(k));
    for (int32_t k = 1; k <= MIGBUF_REASON_TURN; k++)
        ck_assert_msg(reasons[k] > 0, "never: %s", migbuf_reason_text(k));
}
END_TEST

/*
 * I1: guests that write whatever their limits let through, at the worst moment.
 *
 * A limit is a leaky bucket: it holds 0.1 s of its rate, a request passes whole while it is not full, and setting a
 * limit empties it: once for each disk. What was in force before is so until the new one lands, at most lag later. A
 * command may be refused; it may also never be answered, and then it lands whenever it likes, or never. Every unit may
 * need a new L2 table, and its share of a refcount block, until all metadata is there. Drains pour their queues, `stop`
 * is one of them. Hosts do not see every file at every tick.
 */
#define COMING 4

struct landing {
    uint64_t at_ms;
    struct reference_state state;
    bool tells;      /* the host tells that it landed */
    uint64_t number; /* of the command: what became of an older one is no news of the last */
};

struct guest {
    bool runs;                    /* it has an overlay, and does not stand */
    struct reference_state truth; /* what QEMU has in force */
    struct landing coming[COMING];
    int comings;
    uint64_t sent; /* commands so far */
    double data;       /* in its bucket, as file growth */
    double tables;     /* in its bucket, as units that need tables */
    uint64_t metadata; /* of its files, so far */
    uint64_t writes;   /* it tells of, truly or not */
    uint64_t file[REFERENCE_DISKS];
};

static struct guest guests[MAX];
static uint64_t omega; /* the volume's size: it is made smaller when the buffer says that it may be */

static double request_growth(const struct reference_migration *m)
{
    double most = 0;

    for (int d = 0; d < m->disk_count; d++)
        most = fmax(most, (double)reference_request_growth(&m->disk[d], reference_request(&m->disk[d])));
    return most;
}

/* Metadata that one whole request can bring along, of the disk where it is most. */
static double request_metadata(const struct reference_migration *m)
{
    double most = 0;

    for (int d = 0; d < m->disk_count; d++) {
        uint64_t data = reference_request_growth(&m->disk[d], reference_request(&m->disk[d]));

        most = fmax(most, (double)reference_metadata_of(&m->disk[d], data));
    }
    return most;
}

/* Of one unit, alone where it lies. */
static double unit_metadata(const struct reference_migration *m)
{
    double most = 0;

    for (int d = 0; d < m->disk_count; d++)
        most = fmax(most, reference_scattered(&m->disk[d], 1));
    return most;
}

/* New tables and what counts them, until there are no more to allocate. */
static double metadata_growth(int i, double bytes)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    double all = 0, growth;

    for (int d = 0; d < m->disk_count; d++)
        all += (double)reference_metadata(&m->disk[d]);
    growth = floor(fmin(bytes, all - (double)guests[i].metadata));
    guests[i].metadata += (uint64_t)growth;
    return growth;
}

/* A leaky bucket of rate * 0.1 s, and `once` beyond it: how much comes through when the guest wants it `eagerly`. */
static double leak(double *level, double rate, double once, double seconds, double eagerness)
{
    double through = eagerness * fmax(0, rate * (seconds + 0.1) + once - *level);

    *level = fmax(0, *level + through - rate * seconds);
    return through;
}

/* What comes through in so many seconds: data, tables for every unit, and one whole request with its own. In no time at
 * all, what an empty bucket holds. */
static double passes(int i, double seconds, double eagerness)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    const struct reference_state *s = &guests[i].truth;
    double rate = (double)s->units * reference_step(&rig.ref, m), a = reference_amplification(m), through;

    if (!guests[i].runs || s->units == 0)
        return 0;
    rate = m->device ? fmin(rate, (double)m->device) : rate;
    through = leak(&guests[i].tables, a * rate / reference_unit(m), request_metadata(m) / unit_metadata(m), seconds,
                   eagerness);
    return leak(&guests[i].data, a * rate, request_growth(m), seconds, eagerness) +
           metadata_growth(i, through * unit_metadata(m));
}

static double queue_of(const struct reference_migration *m)
{
    double queue = 0;

    for (int d = 0; d < m->disk_count; d++)
        queue += (double)reference_queue(&m->disk[d]);
    return queue;
}

static void check_omega(const char *after)
{
    uint64_t sum = 0;

    for (int i = 0; i < rig_count(); i++)
        for (int d = 0; d < rig.ref.migration[i].disk_count; d++)
            sum += guests[i].file[d];
    if (sum > omega)
        oops("the files outgrew the buffer after %s: %" PRIu64 " of %" PRIu64, after, sum, omega);
}

/* Spreads growth over the disks of i, none beyond what the whole disk can weigh. */
static void grow_files(int i, double growth)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    uint64_t left = (uint64_t)fmin(growth, 0x1p62);

    for (int d = 0; d < m->disk_count; d++) {
        uint64_t whole = reference_whole_disk(&m->disk[d]), part;

        part = whole > guests[i].file[d] ? whole - guests[i].file[d] : 0;
        part = part < left ? part : left;
        left -= part;
        guests[i].file[d] += part;
    }
}

/* One of the drains that were announced happens; then the host says that it is over. Or it wants one more than it had
 * said: it drains when there is room for it. */
static void guest_drains(int i)
{
    const struct reference_migration *m = &rig.ref.migration[i];

    if (chance(5))
        rig_phase(i, m->phase, m->drains_ahead + 1);
    if (m->drains_ahead == 0 || chance(70) || rig_phase(i, m->phase, m->drains_ahead))
        return;
    if (guests[i].runs)
        grow_files(i, queue_of(m));
    rig_phase(i, m->phase, m->drains_ahead - 1);
}

/* A command is carried out. `stop` pours the queue; limits are set on each disk, and each set empties the bucket. */
static void land(int i)
{
    struct guest *g = &guests[i];
    struct landing l = g->coming[0];

    memmove(g->coming, g->coming + 1, (size_t)--g->comings * sizeof *g->coming);
    if (l.state.paused) {
        if (g->runs)
            grow_files(i, queue_of(&rig.ref.migration[i]));
        g->runs = false;
    } else {
        g->truth = l.state;
        for (int d = 0; d < rig.ref.migration[i].disk_count; d++) {
            g->data = g->tables = 0;
            grow_files(i, passes(i, 0, chance(80)));
        }
        g->runs = true;
    }
    if (l.tells && l.number == g->sent)
        rig_outcome(i, MIGBUF_OUTCOME_DONE);
}

/* What guest i does until then, and what lands meanwhile. */
static void guest_writes(int i, uint64_t from_ms, uint64_t until_ms)
{
    struct guest *g = &guests[i];
    double eagerness = chance(80) ? 1 : chance(50) ? 0 : (double)below(1000) / 1000;

    while (g->comings > 0 && g->coming[0].at_ms <= until_ms) {
        uint64_t at_ms = g->coming[0].at_ms > from_ms ? g->coming[0].at_ms : from_ms;

        if (at_ms > from_ms)
            grow_files(i, passes(i, (double)(at_ms - from_ms) / 1000, eagerness));
        from_ms = at_ms;
        land(i);
    }
    if (until_ms > from_ms)
        grow_files(i, passes(i, (double)(until_ms - from_ms) / 1000, eagerness));
    /* Many writes that grow nothing lower the measured ratio and raise the limit, until the next attack. */
    if (eagerness <= 0 || chance(30))
        g->writes += (uint64_t)((double)g->truth.units * (double)(until_ms - from_ms) / 1000);
}

/* All that the host knows. Some files it does not get to see. */
static void measure(uint64_t now_ms, bool all)
{
    for (int i = 0; i < rig_count(); i++)
        for (int d = 0; d < rig.ref.migration[i].disk_count; d++) {
            const struct reference_migration *m = &rig.ref.migration[i];
            struct migbuf_sample s = { .id = m->id, .disk = (uint32_t)d, .writes = guests[i].writes };

            if (!all && chance(40))
                continue;
            if (chance(2))
                guests[i].file[d] -= below(guests[i].file[d] + 1); /* the guest discards */
            s.file_bytes = guests[i].file[d];
            s.remaining_bytes = m->disk_left[d] - below(m->disk_left[d] / 16 + 1);
            rig_sample(now_ms, &s, 1);
        }
}

/* What becomes of a decision. 1: the buffer wants another tick, now. */
static int guest_is_told(int i, uint64_t now_ms, bool well)
{
    const struct reference_migration *m = &rig.ref.migration[i];
    struct guest *g = &guests[i];
    uint64_t lag = rig.ref.options.lag_ms, late = chance(50) ? lag : below(lag + 1), fate = well ? 50 : below(100);
    struct landing l = { now_ms + late, m->force.now, m->force.unknown || chance(30), g->sent + 1 };
    bool unknown = fate < 10 && g->comings < COMING - 1;

    if (m->action == MIGBUF_ACTION_KEEP || m->action == MIGBUF_ACTION_WAIT)
        return 0;
    g->sent++;
    if (fate >= 90) /* what came before it lands, or is answered, or does not matter any more */
        return rig_outcome(i, MIGBUF_OUTCOME_REFUSED);
    if (unknown) {
        l.at_ms += any_size(12);
        l.tells = false;
    }
    for (int k = 0; k < g->comings; k++) /* in the order they were sent */
        g->coming[k].at_ms = at_most(g->coming[k].at_ms, l.at_ms);
    while (g->comings >= COMING - 1)
        land(i);
    if (!unknown || chance(70)) /* else it was lost */
        g->coming[g->comings++] = l;
    return unknown ? rig_outcome(i, MIGBUF_OUTCOME_UNKNOWN) : 0;
}

static void guest_gone(int i)
{
    rig_remove(i);
    for (; i < rig_count(); i++)
        guests[i] = guests[i + 1];
}

static void guest_new(void)
{
    struct migbuf_migration m;
    struct migbuf_geometry disks[REFERENCE_DISKS];
    int disk_count = chance(70) ? 1 : 1 + (int)below(REFERENCE_DISKS);

    any_migration(&m);
    m.file_bytes = 0;
    for (int d = 0; d < disk_count; d++) {
        any_geometry(&disks[d]);
        disks[d].virtual_bytes = UINT64_C(1) << (20 + below(21));
        disks[d].request_bytes = ONE_OF(4096, 65536, 262144, 8388608);
        disks[d].queue_bytes = ONE_OF(MIGBUF_NONE, 4096, 4194304);
    }
    if (rig_add(&m, disks, disk_count) == 0)
        guests[rig_count() - 1] = (struct guest){ .truth = { .absent = true } };
}

static void host_acts(int crowd)
{
    int32_t phase;
    int i;

    if (rig_count() == 0 || (rig_count() < crowd && chance(15)))
        guest_new();
    if (rig_count() == 0)
        return;
    rig_any(&i);
    if (chance(3))
        guest_gone(i);
    if (rig_count() == 0)
        return;
    rig_any(&i);
    phase = chance(30) ? MIGBUF_PHASE_MIRROR : rig.ref.migration[i].phase;
    if (chance(10))
        rig_phase(i, phase, (uint32_t)below(rig.ref.migration[i].drains_ahead + 1));
    if (chance(3))
        rig_weight(i, any_weight());
    if (chance(10))
        rig_link(rig.ref.migration[i].link, 1 + any_size(31));
    if (chance(3))
        rig_resize(rig.ref.ledger.capacity + below(1 << 30));
    if (chance(3))
        rig_resize(rig.ref.ledger.capacity - below(rig.ref.ledger.capacity / 4 + 1));
    if (omega < rig.ref.ledger.capacity)
        omega = rig.ref.ledger.capacity;
}

/* Ω itself becomes smaller as soon as all that may be written fits. */
static void make_smaller(void)
{
    struct migbuf_buffer_stats s = { .size = sizeof s };

    rig_code(migbuf_buffer_stats(rig.buffer, &s), 0);
    if (s.reach_bytes <= rig.ref.ledger.capacity)
        omega = rig.ref.ledger.capacity;
}

/* The host asks, does what it is told, and asks again where something could not be done. False: no memory. */
static bool host_ticks(uint64_t now_ms)
{
    int again = 1;

    for (int tries = 0; again; tries++) {
        again = 0;
        if (!rig_tick(now_ms))
            return false;
        rig_compare();
        for (int i = 0; i < rig_count(); i++)
            again |= guest_is_told(i, now_ms, tries > 2);
    }
    make_smaller();
    return true;
}

/* The next process sees what is in force, but where something is still on its way. */
static uint64_t host_dies(uint64_t now_ms)
{
    /* a clock that began anew and is ahead of the old one nobody could tell from it */
    uint64_t then_ms = chance(70) || rig.ref.now_ms == 0 ? now_ms : below(rig.ref.now_ms);

    rig_load(then_ms);
    for (int i = 0; i < rig_count(); i++) {
        struct guest *g = &guests[i];

        for (int k = 0; k < g->comings; k++) {
            g->coming[k].at_ms -= at_most(g->coming[k].at_ms, now_ms - then_ms);
            g->coming[k].tells = false;
        }
        if (g->comings == 0 && chance(80))
            rig_found(i, g->truth.limited ? &g->truth.limits : NULL, g->runs || g->truth.absent);
    }
    return then_ms;
}

static void all_write(uint64_t from_ms, uint64_t until_ms)
{
    for (int i = 0; i < rig_count(); i++)
        guest_writes(i, from_ms, until_ms);
    check_omega("writing");
}

static uint64_t any_gap(void)
{
    const struct migbuf_buffer_options *o = &rig.ref.options;
    uint64_t late = (uint64_t)o->interval_ms * o->late_factor_percent / 100;

    if (chance(15)) /* while decisions are on their way */
        return at_most(late, below(o->lag_ms + UINT64_C(1)));
    return chance(60) ? late : chance(50) ? o->interval_ms : below(late + 1);
}

static void simulate(uint64_t steps, int32_t policy)
{
    uint64_t now = below(1000000), capacity = UINT64_C(1) << (26 + below(10));
    struct migbuf_buffer_options o;
    int crowd = chance(85) ? 1 + (int)below(8) : 25;

    any_options(&o);
    o.lag_ms = o.lag_ms > 400 ? 400 : o.lag_ms;
    o.policy = policy;
    rig_new(capacity, &o);
    memset(guests, 0, sizeof guests);
    omega = capacity;
    for (; steps > 0; steps--, operation++) {
        uint64_t gap = any_gap(), then = below(gap + 1), seen = then + below(gap - then + 1);

        host_acts(crowd);
        if (chance(2))
            now = host_dies(now);
        if (!host_ticks(now))
            continue; /* the host asks again at once */
        doing = "guests";
        all_write(now, now + then);
        for (int i = 0; i < rig_count(); i++)
            guest_drains(i);
        check_omega("draining");
        all_write(now + then, now + seen);
        measure(now + seen, chance(80));
        all_write(now + seen, now + gap);
        now += gap;
    }
    rig_free();
}

START_TEST(files_never_outgrow_the_buffer)
{
    begin(3);
    while (operation < operations() / 2)
        simulate(200 + below(200), MIGBUF_POLICY_PAPER);
    tally();
}
END_TEST

START_TEST(nor_does_a_plan)
{
    begin(7);
    while (operation < operations() / 2)
        simulate(200 + below(200), MIGBUF_POLICY_PLANNER);
    tally();
}
END_TEST

/* Pure functions against the reference's, over random arguments. */

static void shares_agree(void)
{
    uint32_t weight[MAX];
    uint64_t got[MAX], want[MAX], capacity = any_capacity();
    int n = 1 + (int)below(MAX);

    for (int i = 0; i < n; i++)
        weight[i] = any_weight();
    if (migbuf_placement_shares(capacity, weight, (size_t)n, got) != 0)
        differ(NULL, NULL, "shares of %" PRIu64 " refused", capacity);
    reference_shares(capacity, weight, n, want);
    for (int i = 0; i < n; i++)
        if (got[i] != want[i])
            differ(NULL, NULL, "share %d of %" PRIu64 " is %" PRIu64 ", not %" PRIu64, i, capacity, got[i], want[i]);
}

static void pours_agree(void)
{
    double used[MAX], share[MAX], got[MAX], want[MAX], rest, room = 0, amount;
    size_t scratch[MAX];
    int n = 1 + (int)below(MAX);

    for (int i = 0; i < n; i++) {
        share[i] = (double)below(1000);
        used[i] = (double)below(chance(10) ? 2000 : 1001);
        room += fmax(0, share[i] - used[i]);
    }
    amount = chance(20) ? room : (double)below((uint64_t)room * 2 + 1);
    if (migbuf_placement_pour(used, share, (size_t)n, amount, scratch, got, &rest) != 0)
        differ(NULL, NULL, "pour refused");
    if (rest != reference_pour(used, share, n, amount, want))
        differ(NULL, NULL, "pouring %g leaves %g of room %g", amount, rest, room);
    for (int i = 0; i < n; i++)
        if (got[i] != want[i])
            differ(NULL, NULL, "bin %d gets %g, not %g", i, got[i], want[i]);
}

static void shaves_agree(void)
{
    double amount[MAX], weight[MAX], sum = 0, total, level, filled = 0;
    size_t scratch[MAX];
    int n = 1 + (int)below(MAX);

    for (int i = 0; i < n; i++) {
        amount[i] = chance(10) ? 0 : (double)any_size(40);
        weight[i] = (double)(1 + below(9)) / 2;
        sum += amount[i];
    }
    total = chance(10) ? 0 : sum * (double)below(1300) / 1000;
    if (migbuf_throttle_shave(amount, weight, (size_t)n, total, scratch, &level) != 0)
        differ(NULL, NULL, "shave refused");
    if (!near(level, reference_shave(amount, weight, n, total), 1e-6))
        differ(NULL, NULL, "level %.17g, not %.17g", level, reference_shave(amount, weight, n, total));
    for (int i = 0; i < n; i++)
        filled += fmin(amount[i], weight[i] * level);
    if (!near(filled, fmin(sum, total), 1e-6))
        differ(NULL, NULL, "level %.17g gives out %.17g of %.17g", level, filled, total);
}

START_TEST(pure_functions_follow_the_reference)
{
    begin(4);
    doing = "pure functions";
    for (; operation < operations() / 20; operation++) {
        shares_agree();
        pours_agree();
        shaves_agree();
    }
}
END_TEST

/* Twice the weight: twice the bin (to the bytes that cannot be halved) and twice the share of the link. */
START_TEST(twice_the_weight_is_twice_the_share)
{
    struct migbuf_geometry g = { .virtual_bytes = 1 << 30, .cluster_bytes = 65536, .subcluster_bytes = 65536,
                                 .request_bytes = MIGBUF_NONE, .queue_bytes = MIGBUF_NONE, .extra_bytes = MIGBUF_NONE };
    struct migbuf_buffer_options o;

    begin(5);
    for (; operation < 500; operation++) {
        uint32_t weight = 1 + (uint32_t)below(500000);
        struct migbuf_buffer_view a = { .size = sizeof a }, b = { .size = sizeof b };
        struct migbuf_bins_view bin[2] = { { .size = sizeof bin[0] }, { .size = sizeof bin[1] } };
        struct migbuf_migration m;

        ck_assert_int_eq(migbuf_buffer_options_init(&o, sizeof o), 0);
        rig_new((UINT64_C(1) << 34) + any_size(40), &o);
        ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
        for (m.id = 0; m.id < 5; m.id++) {
            m.weight = m.id == 1 ? weight : m.id == 3 ? 2 * weight : any_weight();
            ck_assert_int_eq(rig_add(&m, &g, 1), 0);
        }
        rig_link(0, 1 + any_size(40));
        rig_tick(0);
        rig_compare();
        rig_code(migbuf_buffer_view(rig.buffer, 1, &a), 0);
        rig_code(migbuf_buffer_view(rig.buffer, 3, &b), 0);
        rig_code(migbuf_bins_view(migbuf_buffer_bins(rig.buffer), 1, &bin[0]), 0);
        rig_code(migbuf_bins_view(migbuf_buffer_bins(rig.buffer), 3, &bin[1]), 0);
        if (bin[1].share_bytes + 2 < 2 * bin[0].share_bytes || bin[1].share_bytes > 2 * bin[0].share_bytes + 2)
            oops("bins %" PRIu64 " and %" PRIu64, bin[0].share_bytes, bin[1].share_bytes);
        if (!near(b.share, 2 * a.share, 0))
            oops("link shares %g and %g", a.share, b.share);
        rig_free();
    }
}
END_TEST

/* Two buffers, told the same in another order and under other names, decide the same. */

struct twin {
    struct migbuf_buffer *buffer;
    uint64_t id[MAX];
};

static void twin_new(struct twin *t, int n, const struct migbuf_geometry *g, bool other)
{
    struct migbuf_migration m;

    ck_assert_int_eq(migbuf_buffer_new(UINT64_C(1) << 36, NULL, NULL, &t->buffer), 0);
    ck_assert_int_eq(migbuf_migration_init(&m, sizeof m), 0);
    for (int i = 0; i < n; i++) {
        t->id[i] = m.id = other ? UINT64_MAX - (uint64_t)i * 77 : (uint64_t)i;
        m.link = (uint64_t)(i % 2) + (other ? 1000 : 0);
        ck_assert_int_eq(migbuf_buffer_add(t->buffer, &m, &g[i], 1, NULL), 0);
    }
}

static void twin_tell(struct twin *t, uint64_t now_ms, int n, const uint64_t *bytes, const uint64_t *rate, bool other)
{
    for (int k = 0; k < n; k++) {
        int i = other ? n - 1 - k : k;
        struct migbuf_sample s = { .id = t->id[i], .file_bytes = bytes[i] };

        ck_assert_int_eq(migbuf_buffer_sample(t->buffer, now_ms, &s, 1), 0);
    }
    for (uint64_t k = 0; k < 2; k++)
        ck_assert_int_eq(migbuf_buffer_link(t->buffer, other ? 1001 - k : k, rate[other ? 1 - k : k]), 0);
}

START_TEST(order_and_names_do_not_matter)
{
    begin(6);
    for (; operation < 200; operation++) {
        struct migbuf_geometry g[8];
        struct migbuf_decision d[2][8];
        struct twin t[2];
        uint64_t bytes[8] = { 0 }, rate[2];
        int n = 2 + (int)below(7);

        for (int i = 0; i < n; i++) {
            any_geometry(&g[i]);
            g[i].virtual_bytes = 1 + any_size(40); /* the tables of more are larger than this buffer */
            g[i].queue_bytes = MIGBUF_NONE;
            g[i].request_bytes = 65536;
        }
        for (int k = 0; k < 2; k++)
            twin_new(&t[k], n, g, k == 1);
        for (uint64_t now = 0; now < 20000; now += 1000) {
            for (int i = 0; i < n; i++)
                bytes[i] = any_bytes(bytes[i], 0, (UINT64_C(1) << 36) / (uint64_t)n, 1);
            rate[0] = 1 + any_size(32);
            rate[1] = 1 + any_size(32);
            for (int k = 0; k < 2; k++) {
                twin_tell(&t[k], now, n, bytes, rate, k == 1);
                ck_assert_int_eq(migbuf_buffer_tick(t[k].buffer, now, d[k], 8), n);
            }
            for (int i = 0; i < n; i++) {
                ck_assert(d[0][i].id == t[0].id[i] && d[1][i].id == t[1].id[i]);
                d[1][i].id = d[0][i].id;
                ck_assert_msg(same_decision(&d[0][i], &d[1][i]), "seed %" PRIu64 " round %" PRIu64, seed, operation);
            }
        }
        for (int k = 0; k < 2; k++)
            migbuf_buffer_free(t[k].buffer);
    }
}
END_TEST

/* What cannot be created, and that nothing is left behind where memory runs out at any point. */
START_TEST(creation_fails_cleanly)
{
    struct purse purse = { .armed = true };
    struct migbuf_allocator allocator = { .context = &purse, .resize = purse_resize };
    struct migbuf_bins *bins = (struct migbuf_bins *)&purse, *no_bins = bins;
    struct migbuf_buffer *buffer = (struct migbuf_buffer *)&purse, *no_buffer = buffer;
    struct migbuf_buffer_options o;

    ck_assert_int_eq(migbuf_bins_new(MIGBUF_BYTES_MAX + 1, NULL, &bins), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_bins_new(0, NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_buffer_new(MIGBUF_BYTES_MAX + 1, NULL, NULL, &buffer), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_buffer_new(0, NULL, NULL, NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_buffer_options_init(&o, sizeof o), 0);
    o.interval_ms = 9;
    ck_assert_int_eq(migbuf_buffer_new(1, &o, NULL, &buffer), MIGBUF_E_RANGE);
    o.interval_ms = 1000;
    o.size = 8;
    ck_assert_int_eq(migbuf_buffer_new(1, &o, NULL, &buffer), MIGBUF_E_STRUCT);
    for (uint64_t k = 0;; k++) {
        int code[2];

        purse.left = k;
        code[0] = migbuf_bins_new(100, &allocator, &bins);
        purse.left = k;
        code[1] = migbuf_buffer_new(100, NULL, &allocator, &buffer);
        ck_assert(code[0] == 0 || (code[0] == MIGBUF_E_NOMEM && bins == no_bins));
        ck_assert(code[1] == 0 || (code[1] == MIGBUF_E_NOMEM && buffer == no_buffer));
        if (code[0] == 0)
            migbuf_bins_free(bins);
        if (code[1] == 0)
            migbuf_buffer_free(buffer);
        bins = no_bins;
        buffer = no_buffer;
        ck_assert_uint_eq(purse.live, 0);
        if (code[0] == 0 && code[1] == 0)
            break;
    }
    migbuf_bins_free(NULL);
    migbuf_buffer_free(NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { ledger_follows_the_reference,
                                   buffer_follows_the_reference,
                                   files_never_outgrow_the_buffer,
                                   nor_does_a_plan,
                                   pure_functions_follow_the_reference,
                                   twice_the_weight_is_twice_the_share,
                                   order_and_names_do_not_matter,
                                   creation_fails_cleanly,
                                   NULL };

    return unit_run("laws", tests, 600);
}
