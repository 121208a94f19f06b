/* SPDX-License-Identifier: MIT */
/* buffer_text: the whole buffer as text, and back. Nothing is decided here. */
#include "buffer.h"
#include "text.h"
#include <math.h>
#include <string.h>

#define NUMBER(x) (unsigned long long)(x)

static void write_disk(struct migbuf__writer *w, const struct migbuf_geometry *g, const struct measured *m)
{
    migbuf__write(w, "disk %llu %llu %llu %llu %llu %u %llu %llu %llu %llu\n", NUMBER(g->virtual_bytes),
                  NUMBER(g->cluster_bytes), NUMBER(g->subcluster_bytes), NUMBER(g->request_bytes), NUMBER(g->queue_bytes),
                  g->flags, NUMBER(m->file_bytes), NUMBER(m->writes), NUMBER(m->written_bytes), NUMBER(m->remaining_bytes));
}

/* A double as its bits: nothing else comes back the same. */
static unsigned long long bits(double x)
{
    uint64_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

static void write_growth(struct migbuf__writer *w, const struct migbuf_growth *g)
{
    migbuf__write(w, "growth %llu %llu %llu %llu %llu %llu %llu %llu %llu\n", bits(g->ratio), bits(g->units), bits(g->grown),
                  NUMBER(g->file_bytes), NUMBER(g->writes), NUMBER(g->written_bytes), NUMBER(g->known), bits(g->credit),
                  bits(g->units_per_s));
}

static void write_demand(struct migbuf__writer *w, const struct entry *e)
{
    const struct demand *d = &e->demand;
    const struct migbuf_forecast *f = &d->forecast;

    migbuf__write(w, "demand %llu %llu %llu %llu %llu %llu %llu %llu %llu %u %llu\n", bits(f->rate), bits(f->peak),
                  bits(f->grown_bytes), bits(f->recent_bytes), bits(f->growth_ratio), bits(f->written_bytes),
                  bits(d->units_bytes), bits(d->file_bytes), NUMBER(d->told), d->known, bits(e->plan.need_bytes));
}

/* 0 stands for "as much as there is", as in struct migbuf_migration. */
static uint64_t finite_or_0(double x)
{
    return x < INFINITY ? (uint64_t)x : 0;
}

int migbuf_buffer_save(const struct migbuf_buffer *b, char *text, size_t capacity, size_t *length)
{
    struct migbuf__writer w = { text, capacity, 0 };
    const struct migbuf_buffer_options *o;

    if (!b || !length || (capacity && !text))
        return MIGBUF_E_INVALID;
    o = &b->o;
    migbuf__write(&w, "migbuf-buffer 1\noptions %d %u %u %u %u %u %u %llu %llu %llu %llu\nticks %llu %llu\n", o->policy,
                  o->interval_ms, o->late_factor_percent, o->lag_ms, o->hysteresis_percent, o->min_pause_ms, o->max_stall_ms,
                  NUMBER(o->floor_bytes_per_s), NUMBER(o->epsilon_bytes), NUMBER(o->epsilon_bytes_per_s), NUMBER(o->tau_ms),
                  NUMBER(b->ticks), NUMBER(b->late_ticks));
    migbuf__bins_write(b->bins, &w);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->e[i];

        migbuf__write(&w, "migration %u %llu %llu %llu %d %u %llu %u %u\n", e->disk_count, NUMBER(e->link),
                      NUMBER(finite_or_0(e->flow)), NUMBER(finite_or_0(e->device)), e->phase, e->drains_ahead,
                      NUMBER(e->now.units), e->now.limited, e->now.paused);
        for (uint32_t k = 0; k < e->disk_count; k++)
            write_disk(&w, &e->geometry[k], &e->measured[k]);
        write_growth(&w, &e->growth);
        write_demand(&w, e);
        migbuf__write(&w, "owed %llu %llu %llu %llu %u %u\n", bits(e->owed.seconds), NUMBER(e->owed.file_bytes),
                      NUMBER(e->owed.written_bytes), NUMBER(e->owed.units), e->owed.known, e->owed.again);
    }
    for (uint32_t k = 0; k < b->links_count; k++)
        migbuf__write(&w, "link %llu %llu %llu\n", NUMBER(b->links[k].id), NUMBER(b->links[k].bytes_per_s),
                      bits(b->links[k].mean.mean));
    migbuf__write_end(&w, "end");
    *length = w.length;
    return w.length < capacity ? 0 : MIGBUF_E_TOO_BIG;
}

static void read_options(struct migbuf__reader *r, struct migbuf_buffer_options *o)
{
    migbuf_buffer_options_init(o, sizeof *o);
    migbuf__read_word(r, "options");
    o->policy = (int32_t)migbuf__read_number(r, 0, INT32_MAX);
    o->interval_ms = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o->late_factor_percent = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o->lag_ms = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o->hysteresis_percent = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o->min_pause_ms = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o->max_stall_ms = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    o->floor_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    o->epsilon_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    o->epsilon_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    o->tau_ms = migbuf__read_number(r, 0, UINT64_MAX);
}

static void read_disk(struct migbuf__reader *r, struct migbuf_geometry *g, struct measured *m)
{
    migbuf__read_word(r, "disk");
    *g = (struct migbuf_geometry){ 0 };
    g->virtual_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->cluster_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->subcluster_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->request_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->queue_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->flags = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    m->file_bytes = migbuf__read_number(r, 0, MIGBUF_BYTES_MAX / MIGBUF__MAX_DISKS);
    m->writes = migbuf__read_number(r, 0, UINT64_MAX);
    m->written_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    m->remaining_bytes = migbuf__read_number(r, 0, UINT64_MAX);
}

static double read_double(struct migbuf__reader *r, double least, double most)
{
    uint64_t u = migbuf__read_number(r, 0, UINT64_MAX);
    double x;

    memcpy(&x, &u, sizeof x);
    if (!(x >= least && x <= most))
        r->bad = 1;
    return x;
}

static void read_growth(struct migbuf__reader *r, struct migbuf_growth *g)
{
    migbuf__read_word(r, "growth");
    g->ratio = read_double(r, 0.001, 3);
    g->units = read_double(r, 0, 1e300);
    g->grown = read_double(r, 0, 1e300);
    g->file_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->writes = migbuf__read_number(r, 0, UINT64_MAX);
    g->written_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->known = migbuf__read_number(r, 0, UINT64_MAX);
    g->credit = read_double(r, 0, INFINITY);
    g->units_per_s = read_double(r, 0, INFINITY);
}

static void read_demand(struct migbuf__reader *r, struct demand *d, double *need_bytes)
{
    struct migbuf_forecast *f = &d->forecast;

    migbuf__read_word(r, "demand");
    f->rate = read_double(r, 0, 1e300);
    f->peak = read_double(r, 0, 1e300);
    f->grown_bytes = read_double(r, 0, 1e300);
    f->recent_bytes = read_double(r, 0, 1e300);
    f->growth_ratio = read_double(r, 0, 1);
    f->written_bytes = read_double(r, 0, 1e300);
    d->units_bytes = read_double(r, 0, 1e300);
    d->file_bytes = read_double(r, 0, 1e300);
    d->told = migbuf__read_number(r, 0, UINT64_MAX);
    d->known = (uint8_t)migbuf__read_number(r, 0, 1);
    *need_bytes = read_double(r, 0, 1e300);
}

static void read_owed(struct migbuf__reader *r, struct owed *o)
{
    migbuf__read_word(r, "owed");
    o->seconds = read_double(r, 0, 1e300);
    o->file_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    o->written_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    o->units = migbuf__read_number(r, 0, (uint64_t)MIGBUF__QEMU_VALUE_MAX);
    o->known = (uint8_t)migbuf__read_number(r, 0, 1);
    o->again = (uint8_t)migbuf__read_number(r, 0, 1);
}

/* The i-th migration of a ledger that is there already. */
static int read_entry(struct migbuf_buffer *b, struct migbuf__reader *r, uint32_t i)
{
    struct migbuf_migration m;
    struct migbuf_geometry disks[MIGBUF__MAX_DISKS];
    struct measured measured[MIGBUF__MAX_DISKS];
    struct migbuf_growth growth;
    struct demand demand = { .at_ms = b->now_ms };
    struct owed owed = { .at_ms = b->now_ms };
    double need_bytes;
    uint64_t count;
    struct setting now = { 0 };
    struct entry e;
    int32_t phase;

    migbuf_migration_init(&m, sizeof m);
    migbuf__read_word(r, "migration");
    count = migbuf__read_number(r, 1, MIGBUF__MAX_DISKS);
    m.id = migbuf__bins_id(b->bins, i);
    m.weight = migbuf__bins_weight_of(b->bins, i);
    m.link = migbuf__read_number(r, 0, UINT64_MAX);
    m.flow_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    m.device_write_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    phase = (int32_t)migbuf__read_number(r, MIGBUF_PHASE_BASE, MIGBUF_PHASE_DRAIN);
    m.drains_ahead = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    now.units = migbuf__read_number(r, 0, (uint64_t)MIGBUF__QEMU_VALUE_MAX);
    now.limited = (uint8_t)migbuf__read_number(r, 0, 1);
    now.paused = (uint8_t)migbuf__read_number(r, 0, 1);
    now.paused_at_ms = b->now_ms;
    for (uint64_t k = 0; k < count && !r->bad; k++)
        read_disk(r, &disks[k], &measured[k]);
    read_growth(r, &growth);
    read_demand(r, &demand, &need_bytes);
    read_owed(r, &owed);
    if (r->bad || migbuf__buffer_entry(&b->o, &e, &m, disks, count))
        return MIGBUF_E_PROTOCOL;
    e.phase = phase;
    e.now = e.before = now;
    if (migbuf__buffer_keep_disks(b, &e, disks))
        return MIGBUF_E_NOMEM;
    memcpy(e.measured, measured, count * sizeof *measured);
    e.growth = growth;
    e.learnt_at_ms = b->now_ms;
    e.demand = demand;
    e.owed = owed;
    e.plan.need_bytes = need_bytes;
    migbuf__buffer_join_link(b, &e);
    b->e[b->count++] = e;
    return 0;
}

static int read_buffer(struct migbuf_buffer *b, struct migbuf__reader *r)
{
    size_t count;
    int rc;

    migbuf__read_word(r, "ticks");
    b->ticks = migbuf__read_number(r, 0, UINT64_MAX);
    b->late_ticks = migbuf__read_number(r, 0, UINT64_MAX);
    rc = migbuf__bins_read(b->bins, r);
    count = rc ? 0 : migbuf_bins_count(b->bins);
    for (size_t i = 0; i < count && !rc; i++) {
        rc = migbuf__buffer_reserve(b, count);
        if (!rc)
            rc = read_entry(b, r, (uint32_t)i);
    }
    while (!rc && migbuf__next_is(r, "link")) {
        struct link *l;

        migbuf__read_word(r, "link");
        l = migbuf__buffer_link(b, migbuf__read_number(r, 0, UINT64_MAX));
        if (r->bad || !l)
            return MIGBUF_E_PROTOCOL;
        l->bytes_per_s = migbuf__read_number(r, 0, UINT64_C(1) << 53);
        l->mean = (struct migbuf_link){ .latest = (double)l->bytes_per_s, .at_ms = b->now_ms };
        l->mean.mean = l->mean.best = read_double(r, 0, 0x1p53);
    }
    if (!rc && (r->bad || r->at != r->end))
        rc = MIGBUF_E_PROTOCOL;
    return rc;
}

int migbuf_buffer_load(const char *text, size_t length, uint64_t now_ms, const struct migbuf_allocator *allocator,
                       struct migbuf_buffer **out)
{
    struct migbuf__reader r;
    struct migbuf_buffer_options o;
    struct migbuf_buffer *b;
    int rc;

    if (!text || !out)
        return MIGBUF_E_INVALID;
    r = migbuf__reader(text, length, "end");
    migbuf__read_word(&r, "migbuf-buffer");
    migbuf__read_word(&r, "1");
    read_options(&r, &o);
    if (r.bad || migbuf__buffer_check_options(&o))
        return MIGBUF_E_PROTOCOL;
    rc = migbuf_buffer_new(0, &o, allocator, &b);
    if (rc)
        return rc;
    b->now_ms = now_ms;
    rc = read_buffer(b, &r);
    if (rc) {
        migbuf_buffer_free(b);
        return rc;
    }
    *out = b;
    return 0;
}
