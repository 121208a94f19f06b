/* SPDX-License-Identifier: MIT */
/* buffer_text: the whole buffer as text, and back. Nothing is decided here.
 *
 * What must stay true: whatever may be in force when it is loaded is in the text, and what nobody can know by then counts at
 * its worst: a decision without a word is in doubt, and after a new clock files may have grown by all that is missing. */
#include "buffer.h"
#include "in_force.h"
#include "memory.h"
#include "number.h"
#include "text.h"
#include <math.h>
#include <string.h>

#define NUMBER(x) (unsigned long long)(x)

static void write_disk(struct migbuf__writer *w, const struct migbuf_geometry *g, const struct measured *m)
{
    migbuf__write(w, "disk %llu %llu %llu %llu %llu %llu %llu %u %llu %llu %llu %llu %llu\n", NUMBER(g->virtual_bytes),
                  NUMBER(g->cluster_bytes), NUMBER(g->subcluster_bytes), NUMBER(g->block_bytes), NUMBER(g->request_bytes),
                  NUMBER(g->queue_bytes), NUMBER(g->extra_bytes), g->flags, NUMBER(m->file_bytes), NUMBER(m->writes),
                  NUMBER(m->written_bytes), NUMBER(m->remaining_bytes), NUMBER(m->at_ms));
}

/* A double as its bits: nothing else comes back the same. */
static unsigned long long bits(double x)
{
    uint64_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

static void write_growth(struct migbuf__writer *w, const struct entry *e)
{
    const struct migbuf_growth *g = &e->growth;

    migbuf__write(w, "growth %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu\n", bits(g->ratio), bits(g->units),
                  bits(g->grown), NUMBER(g->file_bytes), NUMBER(g->writes), NUMBER(g->written_bytes), NUMBER(g->known),
                  bits(g->credit), bits(g->units_per_s), NUMBER(e->learnt_at_ms));
}

static void write_demand(struct migbuf__writer *w, const struct entry *e)
{
    const struct observed *d = &e->observed;
    const struct migbuf_forecast *f = &d->forecast;

    migbuf__write(w, "demand %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %u %llu\n", bits(f->rate), bits(f->peak),
                  bits(f->grown_bytes), bits(f->recent_bytes), bits(f->growth_ratio), bits(f->written_bytes),
                  bits(d->units_bytes), bits(d->file_bytes), NUMBER(d->at_ms), NUMBER(d->told), d->known,
                  bits(e->plan.need_bytes));
}

static void write_setting(struct migbuf__writer *w, const char *keyword, const struct setting *s)
{
    migbuf__write(w, "%s %llu %llu %u %u %u\n", keyword, NUMBER(s->units), NUMBER(s->paused_at_ms), s->limited,
                  s->paused + (s->still == STILL_MEASURED), s->none); /* 2: what it poured is measured */
}

/* What may be in force: the proof needs all of it. */
static void write_in_force(struct migbuf__writer *w, const struct entry *e)
{
    write_setting(w, "now", &e->now);
    write_setting(w, "before", &e->before);
    migbuf__write(w, "older %u %u %u %u %u %u %u %u %llu\n", e->olders, e->open, e->unknown, e->joining, e->found_sets,
                  e->pours, e->drained, e->poured, NUMBER(e->poured_ms));
    migbuf__write(w, "counted %llu %llu %llu %llu\n", bits(e->unseen), bits(e->reserve), bits(e->pending), bits(e->claim));
    for (uint32_t k = 0; k < e->olders; k++)
        migbuf__write(w, "from %llu %llu %u\n", NUMBER(e->older[k].units), NUMBER(e->older[k].until_ms), e->older[k].sets);
}

/* Each link where its first migration stands: in this order they are made again. */
static void write_links(struct migbuf__writer *w, const struct migbuf_buffer *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        const struct link *l = &b->links[b->entries[i].link_at];
        uint32_t first = 0;

        while (b->entries[first].link_at != b->entries[i].link_at)
            first++;
        if (first == i)
            migbuf__write(w, "link %llu %llu %llu %llu\n", NUMBER(l->id), NUMBER(l->bytes_per_s), bits(l->mean.mean),
                          NUMBER(l->mean.at_ms));
    }
}

/* 0 stands for "as much as there is", as in struct migbuf_migration. */
static uint64_t finite_or_0(double x)
{
    return x < 0x1p63 ? (uint64_t)x : 0;
}

MIGBUF__SELDOM int migbuf_buffer_save(const struct migbuf_buffer *b, char *text, size_t capacity, size_t *length)
{
    struct migbuf__writer w = { text, capacity, 0 };
    const struct migbuf_buffer_options *o;

    if (!b || !length || (capacity && !text))
        return MIGBUF_E_INVALID;
    migbuf__buffer_settle(b);
    o = &b->options;
    migbuf__write(&w, "migbuf-buffer 2\noptions %d %u %u %u %u %u %u %llu %llu %llu %llu\nticks %llu %llu %llu\n", o->policy,
                  o->interval_ms, o->late_factor_percent, o->lag_ms, o->hysteresis_percent, o->min_pause_ms, o->max_stall_ms,
                  NUMBER(o->floor_bytes_per_s), NUMBER(o->epsilon_bytes), NUMBER(o->epsilon_bytes_per_s), NUMBER(o->tau_ms),
                  NUMBER(b->ticks), NUMBER(b->late_ticks), NUMBER(b->now_ms));
    migbuf__bins_write(b->bins, &w);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->entries[i];

        migbuf__write(&w, "migration %u %llu %llu %llu %d %u %u\n", e->disk_count, NUMBER(e->link),
                      NUMBER(finite_or_0(e->flow)), NUMBER(finite_or_0(e->device)), e->phase, e->drains_ahead, e->drains_fit);
        for (uint32_t k = 0; k < e->disk_count; k++)
            write_disk(&w, &e->geometry[k], &e->measured[k]);
        write_in_force(&w, e);
        write_growth(&w, e);
        write_demand(&w, e);
        migbuf__write(&w, "owed %llu %llu %llu %llu %llu %u %u\n", bits(e->owed.seconds), NUMBER(e->owed.file_bytes),
                      NUMBER(e->owed.written_bytes), NUMBER(e->owed.units), NUMBER(e->owed.at_ms), e->owed.known,
                      e->owed.again);
    }
    write_links(&w, b);
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
    g->block_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->request_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->queue_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->extra_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->flags = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    m->file_bytes = migbuf__read_number(r, 0, MIGBUF_BYTES_MAX / MIGBUF__MAX_DISKS);
    m->writes = migbuf__read_number(r, 0, UINT64_MAX);
    m->written_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    m->remaining_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    m->at_ms = migbuf__read_number(r, 0, MIGBUF__NEVER);
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

static uint8_t read_flag(struct migbuf__reader *r)
{
    return (uint8_t)migbuf__read_number(r, 0, 1);
}

static void read_growth(struct migbuf__reader *r, struct entry *e)
{
    struct migbuf_growth *g = &e->growth;

    migbuf__read_word(r, "growth");
    g->ratio = read_double(r, 0.001, 3);
    g->units = read_double(r, MIGBUF__LEAST, MIGBUF__MOST);
    g->grown = read_double(r, 0, MIGBUF__MOST);
    g->file_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->writes = migbuf__read_number(r, 0, UINT64_MAX);
    g->written_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    g->known = migbuf__read_number(r, 0, UINT64_MAX);
    g->credit = read_double(r, 0, INFINITY);
    g->units_per_s = read_double(r, 0, INFINITY);
    e->learnt_at_ms = migbuf__read_number(r, 0, UINT64_MAX);
}

static void read_demand(struct migbuf__reader *r, struct entry *e)
{
    struct observed *d = &e->observed;
    struct migbuf_forecast *f = &d->forecast;

    migbuf__read_word(r, "demand");
    f->rate = read_double(r, 0, MIGBUF__MOST);
    f->peak = read_double(r, 0, MIGBUF__MOST);
    f->grown_bytes = read_double(r, 0, MIGBUF__MOST);
    f->recent_bytes = read_double(r, 0, MIGBUF__MOST);
    f->growth_ratio = read_double(r, 0, 1);
    f->written_bytes = read_double(r, 0, MIGBUF__MOST);
    d->units_bytes = read_double(r, 0, 1e300);
    d->file_bytes = read_double(r, 0, 1e300);
    d->at_ms = migbuf__read_number(r, 0, UINT64_MAX);
    d->told = migbuf__read_number(r, 0, UINT64_MAX);
    d->known = read_flag(r);
    e->plan.need_bytes = read_double(r, 0, MIGBUF__MOST);
}

static void read_owed(struct migbuf__reader *r, struct owed *o)
{
    migbuf__read_word(r, "owed");
    o->seconds = read_double(r, 0, 1e300);
    o->file_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    o->written_bytes = migbuf__read_number(r, 0, UINT64_MAX);
    o->units = migbuf__read_number(r, 0, MIGBUF__THROTTLE_VALUE_MAX);
    o->at_ms = migbuf__read_number(r, 0, UINT64_MAX);
    o->known = read_flag(r);
    o->again = read_flag(r);
}

static void read_setting(struct migbuf__reader *r, const char *keyword, struct setting *s)
{
    migbuf__read_word(r, keyword);
    s->units = migbuf__read_number(r, 0, MIGBUF__THROTTLE_VALUE_MAX);
    s->paused_at_ms = migbuf__read_number(r, 0, UINT64_MAX);
    s->limited = read_flag(r);
    s->paused = (uint8_t)migbuf__read_number(r, 0, 2);
    s->still = s->paused == 2 ? STILL_MEASURED : STILL_UNKNOWN;
    s->paused = s->paused > 0;
    s->none = read_flag(r);
}

static void read_in_force(struct migbuf__reader *r, struct entry *e)
{
    read_setting(r, "now", &e->now);
    read_setting(r, "before", &e->before);
    migbuf__read_word(r, "older");
    e->olders = (uint32_t)migbuf__read_number(r, 0, MIGBUF__OLDER);
    e->open = read_flag(r);
    e->unknown = read_flag(r);
    e->joining = read_flag(r);
    e->found_sets = read_flag(r);
    e->pours = read_flag(r);
    e->said = 1;
    e->drained = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    e->poured = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    e->poured_ms = migbuf__read_number(r, 0, UINT64_MAX);
    migbuf__read_word(r, "counted"); /* 64 disks that are never whole */
    e->unseen = read_double(r, 0, 0x1p66);
    e->reserve = read_double(r, 0, 0x1p66);
    e->pending = read_double(r, 0, 0x1p66);
    e->claim = read_double(r, 0, 0x1p66);
    for (uint32_t k = 0; k < e->olders; k++) {
        migbuf__read_word(r, "from");
        e->older[k].units = migbuf__read_number(r, 0, MIGBUF__UNLIMITED_UNITS);
        e->older[k].until_ms = migbuf__read_number(r, 0, MIGBUF__NEVER);
        e->older[k].sets = (uint32_t)migbuf__read_number(r, 0, 1000000);
    }
}

/* The clock began anew: how long the process was away nobody knows. What was in force may be so for another lag, files may
 * have grown by all that is missing, and nothing is learnt from the time that was lost. */
static void begin_anew(const struct migbuf_buffer *b, struct entry *e, uint64_t now_ms)
{
    int writes = !e->now.none && !e->now.paused;
    double files = (double)e->file_bytes;

    e->now.paused_at_ms = e->before.paused_at_ms = now_ms;
    e->now.still = e->before.still = STILL_UNKNOWN;
    for (uint32_t k = 0; k < e->olders; k++) {
        writes |= e->older[k].units > 0;
        if (e->older[k].until_ms < MIGBUF__LANDED)
            e->older[k].until_ms = now_ms + b->options.lag_ms;
    }
    for (uint32_t k = 0; k < e->disk_count; k++)
        e->measured[k].at_ms = MIGBUF__NEVER;
    e->poured_ms = now_ms;
    e->unseen = writes ? fmax(0, e->whole - files) : e->unseen;
    e->growth.known = 0;
    e->learnt_at_ms = e->observed.at_ms = e->owed.at_ms = now_ms;
    e->observed.known = e->owed.known = 0;
    e->observed.file_bytes = files;
}

/* The i-th migration of a ledger that is there already. */
static int read_entry(struct migbuf_buffer *b, struct migbuf__reader *r, uint32_t i, uint64_t now_ms)
{
    struct migbuf_migration m;
    struct migbuf_geometry disks[MIGBUF__MAX_DISKS];
    struct measured measured[MIGBUF__MAX_DISKS];
    struct entry e;
    uint64_t count;
    uint32_t drains_fit;
    int32_t phase;

    migbuf_migration_init(&m, sizeof m);
    migbuf__read_word(r, "migration");
    count = migbuf__read_number(r, 1, MIGBUF__MAX_DISKS);
    m.id = migbuf__bins_id(b->bins, i);
    m.weight = migbuf__bins_weight_of(b->bins, i);
    m.link = migbuf__read_number(r, 0, UINT64_MAX);
    m.flow_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    m.device_write_bytes_per_s = migbuf__read_number(r, 0, UINT64_MAX);
    phase = (int32_t)migbuf__read_number(r, MIGBUF_PHASE_BASE, MIGBUF_PHASE_MIRROR);
    m.drains_ahead = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    drains_fit = (uint32_t)migbuf__read_number(r, 0, UINT32_MAX);
    for (uint64_t k = 0; k < count && !r->bad; k++)
        read_disk(r, &disks[k], &measured[k]);
    if (r->bad || migbuf__buffer_entry(&b->options, &e, &m, disks, (size_t)count))
        return MIGBUF_E_PROTOCOL;
    e.phase = phase;
    e.drains_fit = drains_fit;
    read_in_force(r, &e);
    read_growth(r, &e);
    read_demand(r, &e);
    read_owed(r, &e.owed);
    if (r->bad)
        return MIGBUF_E_PROTOCOL;
    if (migbuf__buffer_keep_disks(b, &e, disks))
        return MIGBUF_E_NOMEM;
    memcpy(e.measured, measured, (size_t)count * sizeof *measured);
    for (uint64_t k = 0; k < count; k++) {
        e.file_bytes += measured[k].file_bytes;
        e.writes += measured[k].writes;
        e.written_bytes += measured[k].written_bytes;
    }
    if (e.open) /* saved before it was carried out, if it was */
        migbuf__in_force_doubt(&e);
    if (now_ms < b->now_ms)
        begin_anew(b, &e, now_ms);
    migbuf__buffer_join_link(b, &e);
    b->entries[b->count++] = e;
    return 0;
}

static int read_link(struct migbuf_buffer *b, struct migbuf__reader *r, uint64_t now_ms)
{
    struct link *l;

    migbuf__read_word(r, "link");
    l = migbuf__buffer_link(b, migbuf__read_number(r, 0, UINT64_MAX));
    if (r->bad || !l)
        return MIGBUF_E_PROTOCOL;
    l->bytes_per_s = migbuf__read_number(r, 0, UINT64_C(1) << 53);
    l->mean = (struct migbuf_link){ .latest = (double)l->bytes_per_s };
    l->mean.mean = l->mean.best = read_double(r, 0, 0x1p53);
    l->mean.at_ms = migbuf__read_number(r, 0, UINT64_MAX);
    if (now_ms < b->now_ms || l->mean.at_ms > now_ms)
        l->mean.at_ms = now_ms;
    return 0;
}

static int read_buffer(struct migbuf_buffer *b, struct migbuf__reader *r, uint64_t now_ms)
{
    size_t count;
    int rc;

    migbuf__read_word(r, "ticks");
    b->ticks = migbuf__read_number(r, 0, UINT64_MAX);
    b->late_ticks = migbuf__read_number(r, 0, UINT64_MAX);
    b->now_ms = migbuf__read_number(r, 0, UINT64_MAX);
    rc = migbuf__bins_read(b->bins, r);
    count = rc ? 0 : migbuf_bins_count(b->bins);
    for (size_t i = 0; i < count && !rc; i++) {
        rc = migbuf__buffer_allocate(b, count);
        if (!rc)
            rc = read_entry(b, r, (uint32_t)i, now_ms);
    }
    while (!rc && migbuf__next_is(r, "link"))
        rc = read_link(b, r, now_ms);
    if (!rc && (r->bad || r->at != r->end))
        rc = MIGBUF_E_PROTOCOL;
    if (now_ms < b->now_ms)
        b->now_ms = now_ms;
    return rc;
}

MIGBUF__SELDOM int migbuf_buffer_load(const char *text, size_t length, uint64_t now_ms, const struct migbuf_allocator *allocator,
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
    migbuf__read_word(&r, "2");
    read_options(&r, &o);
    if (r.bad || migbuf__buffer_check_options(&o))
        return MIGBUF_E_PROTOCOL;
    rc = migbuf_buffer_new(0, &o, allocator, &b);
    if (rc)
        return rc;
    rc = read_buffer(b, &r, now_ms);
    if (rc) {
        migbuf_buffer_free(b);
        return rc;
    }
    *out = b;
    return 0;
}
