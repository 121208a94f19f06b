/* SPDX-License-Identifier: MIT */
/* A host that calls the buffer in any order with any numbers. What is refused changes nothing; the text says all at any point;
 * decisions are those there are; files alone never make a claim of less than nothing. Which promises hold for guests is in
 * buffer_model.c, where the host keeps its part. */
#include "fuzz.h"
#include "migbuf/admission.h"
#include "migbuf/bins.h"
#include "migbuf/buffer.h"
#include "migbuf/outlook.h"
#include <math.h>

#define TEXT_BYTES 400000
#define MOST 8 /* migrations */

static char before[TEXT_BYTES], after[TEXT_BYTES];

static size_t saved(const struct migbuf_buffer *b, char *text)
{
    size_t length;

    fuzz_check(migbuf_buffer_save(b, text, TEXT_BYTES, &length) == 0, "save");
    return length;
}

/* What was called is refused by an error: all is as it was. */
static void check_unchanged(const struct migbuf_buffer *b, const char *call, int rc)
{
    if (rc >= 0)
        return;
    saved(b, after);
    fuzz_check(!strcmp(before, after), "%s is refused (%d), and changed\n%s\nto\n%s", call, rc, before, after);
}

static uint64_t take_id(struct choices *c)
{
    uint8_t x = take_byte(c);

    return x < 250 ? x % MOST : UINT64_MAX - x;
}

/* Mostly one that is taken. */
static uint64_t take_size(struct choices *c, uint64_t likely)
{
    uint8_t x = take_byte(c);

    return x < 128 ? likely : x < 192 ? likely << (x & 15) : x < 240 ? take_number(c) : x & 1 ? MIGBUF_NONE : 0;
}

static void check_outlook(int rc, const struct migbuf_outlook *o)
{
    fuzz_check(rc >= 0 || rc == MIGBUF_E_RANGE || rc == MIGBUF_E_INVALID || rc == MIGBUF_E_NOTFOUND, "outlook: %d", rc);
    if (rc >= 0)
        fuzz_check(o->start_s >= 0 && o->finish_least_s <= o->finish_s && o->finish_s <= o->finish_most_s &&
                   o->peak_least_bytes <= o->peak_bytes && o->peak_bytes <= o->peak_most_bytes && o->delivered >= 0 && o->delivered <= 1 &&
                   o->mirror_delivered >= 0 && o->mirror_delivered <= 1, "start %g finish %g %g %g peak %g %g %g delivered %g %g",
                   o->start_s, o->finish_least_s, o->finish_s, o->finish_most_s, o->peak_least_bytes, o->peak_bytes, o->peak_most_bytes,
                   o->delivered, o->mirror_delivered);
}

/* What would become of it if it waited: nothing of that is kept. */
static void look_ahead(struct migbuf_buffer *b, const struct migbuf_migration *m, const struct migbuf_geometry *g, uint32_t disks)
{
    struct migbuf_waiting w[2];
    struct migbuf_admission_turn turns[2];
    struct migbuf_outlook o = { .size = sizeof o };
    int rc;

    memset(w, 0, sizeof w);
    rc = migbuf_admission_waiting(b, m, g, disks, &w[0]);
    if (rc >= 0) {
        w[1] = w[0];
        rc = migbuf_admission_turns(b, MIGBUF_ADMISSION_SHORTEST, w, 1 + (m->id & 1), turns);
        for (int k = 0; rc >= 0 && k < 1 + (int)(m->id & 1); k++)
            fuzz_check(turns[k].earliest_s >= 0 && strcmp(migbuf_verdict_text(turns[k].verdict), "unknown"), "turn %g", turns[k].earliest_s);
        check_outlook(migbuf_outlook_waiting(b, &w[0], rc >= 0 ? turns[0].earliest_s : 0, &o), &o);
    }
    check_unchanged(b, "looking ahead", -1);
}

/* The ledger: every byte of every file lies in one bin. */
static void check_ledger(const struct migbuf_buffer *b)
{
    static struct migbuf_bin bins[300];
    static struct migbuf_shard shards[5000];
    const struct migbuf_bins *ledger = migbuf_buffer_bins(b);
    int n = migbuf_bins_list(ledger, bins, 300), pieces = migbuf_bins_shards(ledger, shards, 5000);
    uint64_t sum = 0, used = 0;

    fuzz_check(n == (int)migbuf_bins_count(ledger) && n <= 300 && pieces >= 0 && pieces <= 5000, "%d bins, %d shards", n, pieces);
    for (int k = 0; k < pieces; k++)
        sum += shards[k].bytes;
    for (int k = 0; k < n; k++) {
        struct migbuf_bins_view v = { .size = sizeof v };

        used += bins[k].used_bytes;
        fuzz_check(migbuf_bins_view(ledger, bins[k].id, &v) == 0, "view of a bin");
    }
    fuzz_check(sum == migbuf_bins_used(ledger) && used == sum, "%llu in shards, %llu in bins, of %llu", (unsigned long long)sum,
               (unsigned long long)used, (unsigned long long)migbuf_bins_used(ledger));
}

static void add(struct migbuf_buffer *b, struct choices *c)
{
    struct migbuf_migration m;
    struct migbuf_geometry g[3];
    struct migbuf_error e = { 0 };
    uint32_t disks = take_below(c, 4);
    uint8_t what = take_byte(c);
    int rc;

    migbuf_migration_init(&m, sizeof m);
    m.id = take_id(c);
    m.link = take_id(c) & 1;
    if (what & 1)
        m.flow_bytes_per_s = take_number(c);
    if (what & 2)
        m.device_write_bytes_per_s = take_number(c);
    if (what & 4)
        m.file_bytes = take_number(c);
    if (what & 8)
        m.weight = (uint32_t)take_number(c);
    if (what & 16)
        m.drains_ahead = (uint32_t)take_number(c);
    if (what & 32)
        m.rate_bytes_per_s = take_number(c);
    for (uint32_t k = 0; k < 3; k++) {
        migbuf_geometry_init(&g[k], UINT64_C(1) << 30);
        g[k].virtual_bytes = take_size(c, UINT64_C(1) << 30);
        g[k].cluster_bytes = take_byte(c) & 128 ? UINT64_C(512) << take_below(c, 14) : 65536;
        g[k].subcluster_bytes = g[k].cluster_bytes;
        if (take_byte(c) & 128 && g[k].cluster_bytes >= 16384)
            g[k].subcluster_bytes /= 32;
        g[k].block_bytes = take_size(c, 4096);
        g[k].request_bytes = take_size(c, 65536);
        g[k].queue_bytes = take_size(c, 1 << 20);
        g[k].extra_bytes = take_size(c, 1 << 20);
        g[k].flags = take_byte(c) & 7;
    }
    if (what & 64)
        look_ahead(b, &m, g, disks);
    rc = migbuf_buffer_add(b, &m, g, disks, &e);
    fuzz_check(rc >= 0 || (e.code == rc && e.text && *e.text), "no reason for %d", rc);
    fuzz_check(rc != MIGBUF_E_NOSPACE || e.need > e.have, "no space: %llu in %llu", (unsigned long long)e.need, (unsigned long long)e.have);
    check_unchanged(b, "add", rc);
}

static void tick(struct migbuf_buffer *b, uint64_t now_ms, size_t capacity)
{
    static struct migbuf_decision d[300];
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    int n = migbuf_buffer_tick(b, now_ms, d, capacity);

    check_unchanged(b, "tick", n);
    if (n < 0)
        return;
    fuzz_check(migbuf_buffer_stats(b, &stats) == 0 && stats.migrations == (uint64_t)n, "%d decisions", n);
    fuzz_check((double)stats.grantable_bytes <= (double)stats.capacity_bytes && !isnan(stats.level) && stats.level >= 0,
               "level %g, %llu of %llu may be given", stats.level, (unsigned long long)stats.grantable_bytes,
               (unsigned long long)stats.capacity_bytes);
    check_ledger(b);
    fuzz_check(stats.excess_bytes == (stats.used_bytes > stats.capacity_bytes ? stats.used_bytes - stats.capacity_bytes : 0), "excess");
    for (int k = 0; k < n; k++) {
        struct migbuf_buffer_view v = { .size = sizeof v };
        struct migbuf_outlook o = { .size = sizeof o };
        int stands = d[k].action == MIGBUF_ACTION_PAUSE || d[k].action == MIGBUF_ACTION_CANNOT_FIT;

        fuzz_check(strcmp(migbuf_action_text(d[k].action), "unknown") && strcmp(migbuf_reason_text(d[k].reason), "unknown"), "%d, %d",
                   d[k].action, d[k].reason);
        fuzz_check(!stands || (!d[k].growth_bytes_per_s && !d[k].limits.iops_wr && !d[k].limits.bps_wr), "stands with a limit");
        fuzz_check(d[k].limits.iops_wr <= UINT64_C(1000000000000000) && d[k].limits.bps_wr <= UINT64_C(1000000000000000),
                   "more than QEMU takes");
        if (d[k].action == MIGBUF_ACTION_LOWER || d[k].action == MIGBUF_ACTION_RAISE || d[k].action == MIGBUF_ACTION_RESUME)
            fuzz_check(d[k].limits.iops_wr || d[k].limits.bps_wr, "a limit of none, which is no limit to QEMU");
        fuzz_check(migbuf_buffer_view(b, d[k].id, &v) == 0, "view");
        check_outlook(migbuf_outlook_running(b, d[k].id, &o), &o);
        fuzz_check(v.curve >= 0 && v.share >= 0 && v.hard_cap >= 0 && v.clamped >= 0 && v.below_lenders >= 0 && v.budget >= 0 &&
                   v.ratio >= 0 && v.finish_s >= 0 && v.demand >= 0 && v.cap >= 0 && v.planned >= 0,
                   "curve %g share %g hard %g clamped %g lenders %g budget %g ratio %g finish %g demand %g cap %g planned %g", v.curve,
                   v.share, v.hard_cap, v.clamped, v.below_lenders, v.budget, v.ratio, v.finish_s, v.demand, v.cap, v.planned);
    }
}

static struct migbuf_buffer *another(struct migbuf_buffer *b, uint64_t now_ms)
{
    struct migbuf_buffer *loaded = NULL;
    size_t length = saved(b, before);

    fuzz_check(migbuf_buffer_load(before, length, now_ms, NULL, &loaded) == 0, "what was saved is not loaded\n%s", before);
    migbuf_buffer_free(b);
    return loaded;
}

static void options_of(struct migbuf_buffer_options *o, struct choices *c)
{
    uint8_t what = take_byte(c);

    migbuf_buffer_options_init(o, sizeof *o);
    o->policy = what & 3 ? (int32_t)(what & 3) : MIGBUF_POLICY_PLANNER;
    if (what & 4)
        o->interval_ms = (uint32_t)take_number(c);
    if (what & 8)
        o->lag_ms = (uint32_t)take_number(c);
    if (what & 16)
        o->floor_bytes_per_s = take_number(c);
    if (what & 32)
        o->max_stall_ms = (uint32_t)take_number(c);
    if (what & 64)
        o->epsilon_bytes = take_number(c);
    if (what & 128)
        o->tau_ms = take_number(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = { data, data + size };
    struct migbuf_buffer_options o;
    struct migbuf_buffer *b = NULL;
    uint64_t now_ms = 1000;
    int rc;

    options_of(&o, &c);
    rc = migbuf_buffer_new(take_size(&c, UINT64_C(10) << 30), &o, NULL, &b);
    if (rc) {
        fuzz_check(!b && (rc == MIGBUF_E_RANGE || rc == MIGBUF_E_INVALID), "new: %d", rc);
        return 0;
    }
    for (int calls = 0; c.at < c.end && calls < 400; calls++) {
        uint8_t call = take_byte(&c), what;
        struct migbuf_sample s = { .reserved = 0 };
        struct migbuf_limits limits = { .bps_wr = 0 };
        struct migbuf_error e;
        uint64_t id;

        saved(b, before);
        switch (call % 13) {
        case 0:
        case 1:
            add(b, &c);
            break;
        case 2:
        case 3:
            what = take_byte(&c);
            now_ms = what < 250 ? now_ms + what * 10u : take_number(&c);
            tick(b, now_ms, what == 249 ? 1 : 300);
            break;
        case 4:
        case 5:
            s.id = take_id(&c);
            s.disk = take_below(&c, 4);
            s.file_bytes = take_size(&c, (uint64_t)calls << 20);
            s.writes = take_size(&c, (uint64_t)calls << 8);
            s.written_bytes = take_size(&c, (uint64_t)calls << 20);
            s.remaining_bytes = take_size(&c, UINT64_C(1) << 30);
            check_unchanged(b, "sample", migbuf_buffer_sample(b, call & 64 ? now_ms : take_number(&c), &s, 1));
            break;
        case 6:
            id = take_id(&c);
            check_unchanged(b, "outcome", migbuf_buffer_outcome(b, id, (int32_t)take_below(&c, 6) - 1));
            break;
        case 7:
            id = take_id(&c);
            what = take_byte(&c);
            check_unchanged(b, "phase", migbuf_buffer_phase(b, id, what & 3, what & 128 ? (uint32_t)take_number(&c) : what >> 2));
            break;
        case 8:
            check_unchanged(b, "remove", migbuf_buffer_remove(b, take_id(&c)));
            break;
        case 9:
            check_unchanged(b, "resize", migbuf_buffer_resize(b, take_size(&c, UINT64_C(5) << 30), &e));
            break;
        case 10:
            id = take_id(&c) & 1;
            check_unchanged(b, "link", migbuf_buffer_link(b, id, take_number(&c)));
            break;
        case 11:
            id = take_id(&c);
            what = take_byte(&c);
            limits = (struct migbuf_limits){ .iops_wr = take_number(&c), .iops_size = what & 1 ? 65536 : 0,
                                             .bps_wr = what & 2 ? take_number(&c) : 0 };
            if (what & 4)
                check_unchanged(b, "weight", migbuf_buffer_weight(b, id, (uint32_t)limits.iops_wr));
            else
                check_unchanged(b, "resync", migbuf_buffer_resync(b, id, what & 8 ? NULL : &limits, what >> 4 & 1));
            break;
        default:
            what = take_byte(&c);
            if (what & 1)
                now_ms = what; /* a new clock */
            b = another(b, now_ms);
        }
    }
    b = another(b, now_ms);
    migbuf_buffer_free(b);
    return 0;
}
