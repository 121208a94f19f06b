/* SPDX-License-Identifier: MIT */
/* buffer: composes ledger, rate and clamps into decisions. The proof that files never outgrow Ω stands in README.md;
 * it says which term has which name here. Knows no QMP. */
#include "buffer.h"
#include "geometry.h"
#include "memory.h"
#include "migbuf/placement.h"
#include "migbuf/throttle.h"
#include <math.h>
#include <string.h>

#define NONE MIGBUF__NONE
#define SHORTEST_S 0.05 /* a shorter interval shows bursts, not rates */
#define BURST_S 0.1 /* QEMU's bucket holds avg / 10, and a set empties it (util/throttle.c) */
#define UNKNOWN_DEVICE 4e9 /* bytes/s: no device of a guest has been seen to allocate faster */
#define DEFAULT_STALL_MS 30000
#define FIRST_PART 16 /* of what is free: most that a guest of which nothing is known gets until it is known */

#define OPTIONS_FIRST MIGBUF__FIRST(struct migbuf_buffer_options, tau_ms)
#define MIGRATION_FIRST MIGBUF__FIRST(struct migbuf_migration, rate_bytes_per_s)
#define VIEW_FIRST MIGBUF__FIRST(struct migbuf_buffer_view, planned)
#define STATS_FIRST MIGBUF__FIRST(struct migbuf_buffer_stats, level)

struct scratch {
    struct migbuf_bins_view *views;
    double *x, *y, *amount, *weight;
    size_t *first, *order;
    struct migbuf_planner_guest *guest;
    struct migbuf_planner_plan *plan;
    struct migbuf_planner_slot *slot; /* one per migration and one per link, of which there are no more */
    struct migbuf_planner_link *link;
    uint32_t *looks_at;
};

static size_t scratch_bytes(size_t room)
{
    return room * (sizeof(struct migbuf_bins_view) + 4 * sizeof(double) + 3 * sizeof(size_t) + sizeof(uint32_t) +
                   sizeof(struct migbuf_planner_guest) + sizeof(struct migbuf_planner_plan) +
                   2 * sizeof(struct migbuf_planner_slot) + sizeof(struct migbuf_planner_link)) +
           sizeof(size_t);
}

static struct scratch scratch_of(const struct migbuf_buffer *b)
{
    struct scratch s;

    s.views = b->scratch;
    s.x = (double *)(s.views + b->allocated);
    s.y = s.x + b->allocated;
    s.amount = s.y + b->allocated;
    s.weight = s.amount + b->allocated;
    s.first = (size_t *)(s.weight + b->allocated);
    s.order = s.first + b->allocated + 1;
    s.guest = (struct migbuf_planner_guest *)(s.order + 2 * (size_t)b->allocated);
    s.plan = (struct migbuf_planner_plan *)(s.guest + b->allocated);
    s.slot = (struct migbuf_planner_slot *)(s.plan + b->allocated);
    s.link = (struct migbuf_planner_link *)(s.slot + 2 * (size_t)b->allocated);
    s.looks_at = (uint32_t *)(s.link + b->allocated);
    return s;
}

/* Texts */

const char *migbuf_action_text(int32_t action)
{
    static const char *const text[] = { "unknown", "keep", "lower", "raise", "pause", "resume", "cannot fit",
                                        "rearm", "wait" };

    return text[action >= 1 && action <= MIGBUF_ACTION_WAIT ? action : 0];
}

const char *migbuf_reason_text(int32_t reason)
{
    static const char *const text[] = {
        "unknown",
        "the rate its bins allow",
        "its share of the link",
        "what its bins could hold until the next decision",
        "a migration that lends it room may write no more",
        "the agreed minimum",
        "what is free in the buffer, shared by all",
        "the buffer cannot hold the reserves for drains",
        "paused a moment ago",
        "its whole disk fits",
        "its part of the plan",
        "the plan holds without a throttle for it",
        "little is known of it yet",
        "its room is not free yet",
        "files were not measured, and may have grown",
    };

    return text[reason >= 1 && reason <= MIGBUF_REASON_UNSEEN ? reason : 0];
}

/* Options */

static const struct migbuf_buffer_options default_options = {
    .policy = MIGBUF_POLICY_PLANNER,
    .interval_ms = 1000,
    .late_factor_percent = 200,
    .lag_ms = 100,
    .hysteresis_percent = 10,
    .min_pause_ms = 2000,
    .max_stall_ms = DEFAULT_STALL_MS,
    .floor_bytes_per_s = 160000,
    .epsilon_bytes = 10000,
    .epsilon_bytes_per_s = 10000,
    .tau_ms = 1000,
};

int migbuf_buffer_options_init(struct migbuf_buffer_options *options, uint64_t size)
{
    return migbuf__struct_init(options, size, &default_options, sizeof *options, OPTIONS_FIRST);
}

int migbuf__buffer_check_options(const struct migbuf_buffer_options *o)
{
    if (o->policy < MIGBUF_POLICY_PAPER || o->policy > MIGBUF_POLICY_PLANNER || o->reserved)
        return MIGBUF_E_INVALID;
    if (o->interval_ms < 10 || o->interval_ms > 60000 || o->late_factor_percent < 100 ||
        o->late_factor_percent > 1000 || o->lag_ms > 60000 || o->hysteresis_percent > 50 || !o->epsilon_bytes ||
        o->epsilon_bytes > MIGBUF_BYTES_MAX || o->epsilon_bytes_per_s > MIGBUF_BYTES_MAX ||
        o->floor_bytes_per_s > MIGBUF_BYTES_MAX || !o->tau_ms || o->tau_ms > MIGBUF_BYTES_MAX)
        return MIGBUF_E_RANGE;
    return 0;
}

static const struct migbuf_migration default_migration = { .weight = 100, .drains_ahead = 4 };

int migbuf_migration_init(struct migbuf_migration *m, uint64_t size)
{
    return migbuf__struct_init(m, size, &default_migration, sizeof *m, MIGRATION_FIRST);
}

int migbuf_buffer_new(uint64_t capacity_bytes, const struct migbuf_buffer_options *options,
                      const struct migbuf_allocator *allocator, struct migbuf_buffer **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_buffer_options o = default_options;
    struct migbuf_buffer *b;
    int rc;

    if (!out)
        return MIGBUF_E_INVALID;
    rc = options ? migbuf__struct_take(&o, sizeof o, options, OPTIONS_FIRST) : 0;
    if (!rc)
        rc = migbuf__buffer_check_options(&o);
    if (rc)
        return rc;
    b = migbuf__resize(&a, NULL, 0, 1, sizeof *b);
    if (!b)
        return MIGBUF_E_NOMEM;
    *b = (struct migbuf_buffer){ .allocator = a, .options = o, .level = INFINITY };
    rc = migbuf_bins_new(capacity_bytes, allocator, &b->bins);
    if (rc) {
        migbuf__free(&a, b, sizeof *b);
        return rc;
    }
    migbuf_throttle_constants_init(&b->constants, sizeof b->constants);
    b->constants.tau_s = (double)o.tau_ms / 1000;
    b->constants.epsilon_bytes = (double)o.epsilon_bytes;
    b->constants.epsilon_bytes_per_s = (double)o.epsilon_bytes_per_s;
    b->late_interval_s = o.interval_ms / 1000.0 * (o.late_factor_percent / 100.0) + o.lag_ms / 1000.0;
    *out = b;
    return 0;
}

static size_t disks_bytes(size_t count)
{
    return count * (sizeof(struct migbuf_geometry) + sizeof(struct measured));
}

void migbuf_buffer_free(struct migbuf_buffer *b)
{
    struct migbuf_allocator a;

    if (!b)
        return;
    a = b->allocator;
    for (uint32_t i = 0; i < b->count; i++)
        migbuf__free(&a, b->entries[i].geometry, disks_bytes(b->entries[i].disk_count));
    migbuf_bins_free(b->bins);
    migbuf__free(&a, b->entries, b->allocated * sizeof *b->entries);
    migbuf__free(&a, b->links, b->links_allocated * sizeof *b->links);
    migbuf__free(&a, b->scratch, scratch_bytes(b->allocated));
    migbuf__free(&a, b->guest, b->edges * sizeof *b->guest);
    migbuf__free(&a, b, sizeof *b);
}

/* Links */

struct link *migbuf__buffer_link(const struct migbuf_buffer *b, uint64_t id)
{
    for (uint32_t k = 0; k < b->links_count; k++)
        if (b->links[k].id == id)
            return &b->links[k];
    return NULL;
}

void migbuf__buffer_join_link(struct migbuf_buffer *b, struct entry *e)
{
    struct link *l = migbuf__buffer_link(b, e->link);

    if (!l) {
        l = &b->links[b->links_count++];
        *l = (struct link){ .id = e->link };
        migbuf_link_init(&l->mean, 0);
    }
    l->weights += e->weight;
    e->link_at = (uint32_t)(l - b->links);
}

/* The last migration on a link takes it along; the last link moves into its place. */
static void leave_link(struct migbuf_buffer *b, const struct entry *e)
{
    uint32_t at = e->link_at, last = b->links_count - 1;

    b->links[at].weights -= e->weight;
    if (b->links[at].weights)
        return;
    b->links[at] = b->links[last];
    b->links_count--;
    for (uint32_t i = 0; i < b->count; i++)
        if (b->entries[i].link_at == last)
            b->entries[i].link_at = at;
}

int migbuf_buffer_link(struct migbuf_buffer *b, uint64_t link, uint64_t bytes_per_s)
{
    struct link *l;

    if (!b)
        return MIGBUF_E_INVALID;
    if (!bytes_per_s || bytes_per_s > UINT64_C(1) << 53)
        return MIGBUF_E_RANGE;
    l = migbuf__buffer_link(b, link);
    if (!l)
        return MIGBUF_E_NOTFOUND;
    l->bytes_per_s = bytes_per_s;
    return 0;
}

/* The terms of the proof, for one migration */

static uint64_t files_of(const struct entry *e)
{
    uint64_t bytes = 0;

    for (uint32_t k = 0; k < e->disk_count; k++)
        bytes += e->measured[k].file_bytes;
    return bytes;
}

/* What its files may weigh now, although nobody has measured that much. */
static double most_of(const struct entry *e)
{
    return (double)files_of(e) + e->unseen;
}

static double missing(const struct entry *e)
{
    return fmax(0, e->whole - most_of(e));
}

/* One more drain than those ahead: pausing is one. And those that are over may have poured since it was measured. */
static double reserve_of(const struct entry *e, double missing_bytes)
{
    double drains = (double)e->drains_ahead + !e->now.paused + e->pours + e->drained + e->poured;

    return fmin(e->queue * drains, missing_bytes);
}

/* Bytes/s of a limit, as growth; without a limit what the device can do. */
static double rate_of(const struct entry *e, uint64_t units)
{
    double device = e->device < INFINITY ? e->device : UNKNOWN_DEVICE;

    return units == MIGBUF__UNLIMITED_UNITS ? device : fmin((double)units * (double)e->step, e->device);
}

static uint64_t units_of(const struct setting *s)
{
    return s->paused || s->none ? 0 : s->limited ? s->units : MIGBUF__UNLIMITED_UNITS;
}

/* The highest limit that may be in force, and how many decisions may still land. */
static double highest_rate(const struct entry *e, uint32_t *sets)
{
    double rate = rate_of(e, units_of(&e->now));

    *sets = e->found_sets;
    for (uint32_t k = 0; k < e->olders; k++) {
        rate = fmax(rate, rate_of(e, e->older[k].units));
        *sets += e->older[k].sets;
    }
    return rate;
}

/* Growth under a limit of `rate` in so many seconds, with `sets` decisions landing meanwhile and `carried` requests that
 * pass a bucket as it is. Tables and refcounts included. */
static double growth_of(const struct entry *e, double rate, double seconds, double sets, double carried)
{
    double window_s = seconds + carried * BURST_S + sets * e->set_s;
    double data = e->amplification * rate * window_s + carried * e->request + sets * e->set_request;
    double tables = e->amplification * rate * window_s / (double)e->unit * e->per_unit;

    return data + fmin(e->metadata, tables + carried * e->of_request + sets * e->set_of_request);
}

/* From the measurement until what is decided now has landed: without a lag no time, but for files that were not measured. */
static double pending_of(const struct migbuf_buffer *b, const struct entry *e, double missing_bytes)
{
    uint32_t sets;
    double rate = highest_rate(e, &sets);

    if ((!b->options.lag_ms && !sets && e->now.limited && e->unseen <= 0) || rate <= 0)
        return 0;
    return fmin(growth_of(e, rate, b->options.lag_ms / 1000.0, sets, 1), missing_bytes);
}

/* Claim when the limit lets through w units/s * unit: fixed part, and the slope of the rest in w. Both ways to bound the
 * metadata are right; the better one at w is taken. Whoever is paused needs its reserve for the next pause back first. */
static double claim_of(const struct migbuf_buffer *b, const struct entry *e, double w, double missing_bytes, double *slope)
{
    double per_unit = e->amplification * e->per_unit / (double)e->unit;
    double fixed = e->set_request + (e->now.paused ? e->queue : 0), window_s = b->late_interval_s + e->set_s;

    *slope = e->amplification * window_s;
    if (e->metadata <= w * window_s * per_unit + e->set_of_request) {
        fixed += e->metadata;
    } else {
        *slope += per_unit * window_s;
        fixed += e->set_of_request;
    }
    return fmin(fixed, missing_bytes);
}

/* What may be in force */

/* Of two limits the one that lets through more: a high one may be above what a device without one is taken to write. */
static uint64_t higher(const struct entry *e, uint64_t a, uint64_t b)
{
    return rate_of(e, a) > rate_of(e, b) ? a : b;
}

/* Room for one more: the two oldest become one that holds as long as either, at the higher rate. */
static void make_older_room(struct entry *e)
{
    struct older *o = e->older;

    if (e->olders < MIGBUF__OLDER)
        return;
    o[1].units = higher(e, o[0].units, o[1].units);
    o[1].until_ms = o[0].until_ms > o[1].until_ms ? o[0].until_ms : o[1].until_ms;
    o[1].sets += o[0].sets;
    memmove(o, o + 1, --e->olders * sizeof *o);
}

static void keep_older(struct entry *e, const struct setting *s, uint64_t until_ms)
{
    make_older_room(e);
    e->older[e->olders++] = (struct older){ .units = units_of(s), .until_ms = until_ms, .sets = 1 };
}

/* The highest of all limits may be in force until somebody knows better, and two sets may still land: the one that nobody
 * answered, and the next, which comes after somebody has looked. */
static void all_may_be_in_force(struct entry *e, const struct setting *s)
{
    struct older all = { .units = units_of(s), .until_ms = MIGBUF__NEVER, .sets = 2 };

    for (uint32_t k = 0; k < e->olders; k++)
        all.units = higher(e, e->older[k].units, all.units);
    e->older[0] = all;
    e->olders = 1;
}

void migbuf__buffer_doubt(struct entry *e)
{
    if (!e->unknown && !e->open)
        e->before = e->now;
    all_may_be_in_force(e, &e->before);
    e->unknown = 1;
    e->open = e->owed.again = 0;
}

/* Somebody knows what became of it: it has landed, and the next tick is after that. */
static void settle_older(struct entry *e)
{
    for (uint32_t k = 0; k < e->olders; k++)
        if (e->older[k].until_ms == MIGBUF__NEVER)
            e->older[k].until_ms = MIGBUF__LANDED;
    e->unknown = e->open = 0;
}

/* When the oldest of its measurements was made. Before the first tick nobody knows what time it is; and nothing has been
 * measured after the first tick that it is told to. */
static uint64_t measured_ms(const struct migbuf_buffer *b, struct entry *e, uint64_t now_ms)
{
    uint64_t oldest = now_ms;
    int known = 1;

    for (uint32_t k = 0; k < e->disk_count; k++) {
        uint64_t *at = &e->measured[k].at_ms;

        known &= *at != MIGBUF__NEVER;
        if (*at != MIGBUF__NEVER && (*at > now_ms || (b->ticks <= 1 && !*at)))
            *at = now_ms;
        oldest = *at < oldest ? *at : oldest;
    }
    return known ? oldest : MIGBUF__NEVER;
}

/* What it has grown by since it was measured: as much as all limits allowed that may have been in force since then. What
 * was no more in force when it was measured is forgotten. */
static void look_back(const struct migbuf_buffer *b, struct entry *e, uint64_t now_ms)
{
    uint64_t since_ms = measured_ms(b, e, now_ms);
    double rate;
    uint32_t sets, kept = 0;

    for (uint32_t k = 0; k < e->olders; k++)
        if (since_ms == MIGBUF__NEVER || e->older[k].until_ms >= since_ms)
            e->older[kept++] = e->older[k];
    e->olders = kept;
    e->open &= kept > 0; /* without a word, what was decided is in force by now */
    e->pours &= kept > 0 || e->unknown;
    if (since_ms != MIGBUF__NEVER && since_ms >= e->poured_ms)
        e->poured = 0;
    if (e->drained) {
        e->poured = e->drained < UINT32_MAX - e->poured ? e->poured + e->drained : UINT32_MAX;
        e->poured_ms = now_ms;
        e->drained = 0;
    }
    rate = highest_rate(e, &sets);
    e->unseen = 0;
    if (rate > 0 && since_ms != now_ms)
        e->unseen = since_ms == MIGBUF__NEVER
                        ? missing(e)
                        : fmin(growth_of(e, rate, (double)(now_ms - since_ms) / 1000, sets, 0), missing(e));
    for (uint32_t k = 0; k < e->olders; k++)
        if (e->older[k].until_ms == MIGBUF__LANDED)
            e->older[k].until_ms = now_ms;
}

double migbuf__buffer_reserve_of(const struct entry *e, double file_bytes)
{
    return reserve_of(e, fmax(0, e->whole - file_bytes));
}

/* A guest that was paused resumes at two units/s, lest it be paused again at once. */
static uint64_t lowest_units(const struct entry *e)
{
    return e->least_units > 2 ? e->least_units : 2;
}

/* Files, reserves and the smallest limit: what must fit for a migration to be admitted. */
double migbuf__buffer_least_room(const struct migbuf_buffer *b, const struct entry *e, double file_bytes)
{
    double slope, missing_bytes = fmax(0, e->whole - file_bytes);
    double least = (double)(lowest_units(e) * e->step), fixed = claim_of(b, e, least, missing_bytes, &slope);

    return file_bytes + fmin(missing_bytes, reserve_of(e, missing_bytes) + fixed + slope * least);
}

/* Adding */

/* Units/s at which the largest request has paid for itself within max_stall. */
static uint64_t least_units(uint64_t request_bytes, uint64_t unit, uint32_t max_stall_ms)
{
    uint64_t units = (request_bytes + unit - 1) / unit * 1000, stall_ms = max_stall_ms ? max_stall_ms : DEFAULT_STALL_MS;

    return units > stall_ms ? (units + stall_ms - 1) / stall_ms : 1;
}

/* A host's "as much as there is", and what is as much. */
static double or_unlimited(uint64_t bytes_per_s)
{
    return bytes_per_s && bytes_per_s <= UINT64_C(1) << 53 ? (double)bytes_per_s : INFINITY;
}

/* One disk's part of the terms. */
static void add_disk(struct entry *e, const struct migbuf_geometry *given)
{
    struct migbuf_geometry g = migbuf__geometry_known(given);
    uint64_t request, of_request, metadata, whole, unit;
    double amplification, per_unit;

    migbuf_limits_request_growth(given, g.request_bytes, &request);
    migbuf_limits_metadata_of(given, request, &of_request);
    migbuf_limits_metadata(given, &metadata);
    migbuf_limits_whole_disk(given, &whole);
    migbuf_limits_amplification(given, &amplification);
    migbuf_limits_metadata_scattered(given, 1, &per_unit);
    migbuf_geometry_unit(given, &unit);
    e->request += (double)request;
    e->of_request += (double)of_request;
    e->set_request = fmax(e->set_request, (double)request);
    e->set_of_request = fmax(e->set_of_request, (double)of_request);
    e->metadata += (double)metadata;
    e->whole += (double)whole;
    e->queue += (double)g.queue_bytes;
    e->caution += given->queue_bytes ? 0 : (double)g.queue_bytes;
    e->amplification = fmax(e->amplification, amplification);
    e->per_unit = fmax(e->per_unit, per_unit);
    if (unit > e->unit)
        e->unit = unit;
}

int migbuf__buffer_entry(const struct migbuf_buffer_options *o, struct entry *e, const struct migbuf_migration *m,
                         const struct migbuf_geometry *disks, size_t disk_count)
{
    uint64_t smallest = UINT64_MAX, longest = 0;
    uint32_t flags = 0;

    *e = (struct entry){
        .id = m->id, .link = m->link, .weight = m->weight, .drains_ahead = m->drains_ahead,
        .phase = MIGBUF_PHASE_BASE, .disk_count = (uint32_t)disk_count, .joining = !m->file_bytes,
        .now.none = !m->file_bytes, .before.none = !m->file_bytes,
        .flow = or_unlimited(m->flow_bytes_per_s), .device = or_unlimited(m->device_write_bytes_per_s),
    };
    for (size_t k = 0; k < disk_count; k++) {
        uint64_t unit, request;
        int rc = migbuf_geometry_unit(&disks[k], &unit);

        if (rc)
            return rc;
        add_disk(e, &disks[k]);
        request = migbuf__geometry_known(&disks[k]).request_bytes;
        smallest = unit < smallest ? unit : smallest;
        longest = request > longest ? request : longest;
        flags |= disks[k].flags;
    }
    e->set_request *= (double)disk_count;
    e->set_of_request *= (double)disk_count;
    e->set_s = BURST_S * (double)disk_count;
    e->least_units = least_units(longest, smallest, o->max_stall_ms);
    migbuf_growth_init(&e->growth);
    migbuf_forecast_init(&e->observed.forecast, (double)m->rate_bytes_per_s);
    e->plan.finish_s = INFINITY;
    e->step = flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE ? 2 * e->unit : e->unit; /* half for bytes, half for requests */
    return 0;
}

int migbuf__buffer_reserve(struct migbuf_buffer *b, uint64_t wanted)
{
    uint32_t room = b->allocated ? b->allocated : 8;
    struct entry *e;
    void *scratch;

    if (b->links_count == b->links_allocated) {
        uint32_t more = b->links_allocated ? 2 * b->links_allocated : 4;
        struct link *l = migbuf__resize(&b->allocator, b->links, b->links_allocated, more, sizeof *l);

        if (!l)
            return MIGBUF_E_NOMEM;
        b->links = l;
        b->links_allocated = more;
    }
    if (wanted <= b->allocated)
        return 0;
    if (wanted > UINT32_C(1) << 30)
        return MIGBUF_E_NOMEM;
    while (room < wanted)
        room *= 2;
    scratch = migbuf__resize(&b->allocator, NULL, 0, scratch_bytes(room), 1);
    if (!scratch)
        return MIGBUF_E_NOMEM;
    e = migbuf__resize(&b->allocator, b->entries, b->allocated, room, sizeof *e);
    if (!e) {
        migbuf__free(&b->allocator, scratch, scratch_bytes(room));
        return MIGBUF_E_NOMEM;
    }
    migbuf__free(&b->allocator, b->scratch, scratch_bytes(b->allocated));
    b->scratch = scratch;
    b->entries = e;
    b->allocated = room;
    return 0;
}

int migbuf__buffer_keep_disks(const struct migbuf_buffer *b, struct entry *e, const struct migbuf_geometry *disks)
{
    e->geometry = migbuf__resize(&b->allocator, NULL, 0, disks_bytes(e->disk_count), 1);
    if (!e->geometry)
        return MIGBUF_E_NOMEM;
    memset(e->geometry, 0, disks_bytes(e->disk_count));
    memcpy(e->geometry, disks, e->disk_count * sizeof *disks);
    e->measured = (struct measured *)(e->geometry + e->disk_count);
    for (uint32_t k = 0; k < e->disk_count; k++)
        e->measured[k].remaining_bytes = disks[k].virtual_bytes;
    return 0;
}

/* What could be cut to: the others' files, what may be written until it is cut, reserves and smallest limits. */
double migbuf__buffer_room(const struct migbuf_buffer *b)
{
    double have = (double)migbuf__bins_capacity(b->bins);

    for (uint32_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->entries[i];

        have -= migbuf__buffer_least_room(b, e, most_of(e) + pending_of(b, e, missing(e) - reserve_of(e, missing(e))));
    }
    return have;
}

static int admit(const struct migbuf_buffer *b, const struct entry *e, uint64_t file_bytes, struct migbuf_error *error)
{
    double need = migbuf__buffer_least_room(b, e, (double)file_bytes), have = migbuf__buffer_room(b);
    double caution = fmin(e->caution * (e->drains_ahead + 1.0), need);
    const char *text = "its files, its reserve for drains and its smallest limit do not fit beside the others'";

    if (b->options.policy == MIGBUF_POLICY_LITERAL || need <= have)
        return 0;
    if (2 * caution > need)
        text = "it does not fit, mostly because queue_bytes is not known and counts at its worst for each drain: give it "
               "(migbuf_limits_drain)";
    return migbuf__fail_caution(error, MIGBUF_E_NOSPACE, text, (uint64_t)need, have > 0 ? (uint64_t)have : 0,
                                (uint64_t)caution);
}

int migbuf__buffer_check_migration(const struct migbuf_migration *migration, size_t disk_count,
                                   struct migbuf_migration *given, struct migbuf_error *error)
{
    int rc;

    *given = default_migration;
    rc = migbuf__struct_take(given, sizeof *given, migration, MIGRATION_FIRST);
    if (rc)
        return migbuf__fail(error, rc, "struct migbuf_migration is not filled: begin with migbuf_migration_init");
    if (disk_count > MIGBUF__MAX_DISKS || given->weight < 1 || given->weight > 1000000 ||
        given->file_bytes > MIGBUF_BYTES_MAX / MIGBUF__MAX_DISKS)
        return migbuf__fail(error, MIGBUF_E_RANGE, "1 to 64 disks, weight 1 to 1000000, files up to 2^56 bytes");
    return 0;
}

int migbuf_buffer_add(struct migbuf_buffer *b, const struct migbuf_migration *migration,
                      const struct migbuf_geometry *disks, size_t disk_count, struct migbuf_error *error)
{
    struct migbuf_migration given;
    const struct migbuf_migration *m = &given;
    struct entry e;
    int rc;

    if (!b || !migration || !disks || !disk_count)
        return migbuf__fail(error, MIGBUF_E_INVALID, "buffer, migration and disks are needed");
    rc = migbuf__buffer_check_migration(migration, disk_count, &given, error);
    if (rc)
        return rc;
    if (migbuf__bins_find(b->bins, m->id) != NONE)
        return migbuf__fail(error, MIGBUF_E_EXISTS, "a migration with this id is there already");
    rc = migbuf__buffer_entry(&b->options, &e, m, disks, disk_count);
    if (rc)
        return migbuf__fail(error, rc, "the geometry of a disk is not valid, see migbuf_geometry_check");
    rc = admit(b, &e, m->file_bytes, error);
    if (rc)
        return rc;
    rc = migbuf__buffer_reserve(b, (uint64_t)b->count + 1);
    if (!rc)
        rc = migbuf__buffer_keep_disks(b, &e, disks);
    if (rc)
        return migbuf__fail(error, rc, "no memory");
    e.measured[0].file_bytes = m->file_bytes;
    e.observed.at_ms = b->now_ms;
    for (size_t k = 0; k < disk_count; k++)
        e.measured[k].at_ms = b->now_ms;
    e.observed.file_bytes = (double)m->file_bytes;
    rc = migbuf_bins_start(b->bins, m->id, m->weight, m->file_bytes);
    if (rc) {
        migbuf__free(&b->allocator, e.geometry, disks_bytes(disk_count));
        return migbuf__fail(error, rc, migbuf_strerror(rc));
    }
    migbuf__buffer_join_link(b, &e);
    b->entries[b->count++] = e;
    return 0;
}

int migbuf_buffer_remove(struct migbuf_buffer *b, uint64_t id)
{
    uint32_t i;

    if (!b)
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b->bins, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    migbuf_bins_end(b->bins, id);
    leave_link(b, &b->entries[i]);
    migbuf__free(&b->allocator, b->entries[i].geometry, disks_bytes(b->entries[i].disk_count));
    b->count--;
    memmove(b->entries + i, b->entries + i + 1, (b->count - i) * sizeof *b->entries);
    return 0;
}

/* Telling */

/* Growth from when the last decision has landed until the next one has. While nobody has said that it has, it may be
 * refused, and what was in force before stays for as long. */
static double claimed(const struct migbuf_buffer *b, const struct entry *e)
{
    uint32_t sets;

    if (e->open || e->unknown)
        return fmax(e->claim, growth_of(e, highest_rate(e, &sets), b->late_interval_s, 1, 0));
    return e->now.paused ? 0 : e->claim;
}

/* The most that its files can weigh before the next decisions have landed, drains included. What the last tick counted as
 * reserve stays counted: beside it, it counted only what was left to write. */
static double reach_of(const struct migbuf_buffer *b, const struct entry *e)
{
    double files = most_of(e), reserve = fmax(e->reserve, reserve_of(e, missing(e)));

    if (e->joining)
        return 0;
    return fmax(files, fmin(e->whole, files + reserve + e->pending + claimed(b, e)));
}

static double reach(const struct migbuf_buffer *b)
{
    double bytes = 0;

    for (uint32_t i = 0; i < b->count; i++)
        bytes += reach_of(b, &b->entries[i]);
    return bytes;
}

/* Sums of fractions of bytes. */
static int fits(const struct migbuf_buffer *b, double capacity)
{
    return reach(b) <= capacity + 1;
}

int migbuf_buffer_phase(struct migbuf_buffer *b, uint64_t id, int32_t phase, uint32_t drains_ahead)
{
    struct entry *e;
    uint32_t i, had;

    if (!b || (phase != MIGBUF_PHASE_BASE && phase != MIGBUF_PHASE_MIRROR))
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b->bins, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    if (phase != e->phase) /* until the next sample tells: all of it */
        for (uint32_t k = 0; k < e->disk_count; k++)
            e->measured[k].remaining_bytes =
                phase == MIGBUF_PHASE_MIRROR ? e->measured[k].file_bytes : e->geometry[k].virtual_bytes;
    had = e->drains_ahead < e->drains_fit ? e->drains_ahead : e->drains_fit; /* none of the others may have begun */
    if (drains_ahead < had && !e->now.none)
        e->drained = had - drains_ahead < UINT32_MAX - e->drained ? e->drained + had - drains_ahead : UINT32_MAX;
    e->phase = phase;
    e->drains_ahead = drains_ahead;
    if (drains_ahead > e->drains_fit && b->options.policy != MIGBUF_POLICY_LITERAL &&
        !fits(b, (double)migbuf__bins_capacity(b->bins)))
        return 1;
    e->drains_fit = drains_ahead;
    return 0;
}

int migbuf_buffer_weight(struct migbuf_buffer *b, uint64_t id, uint32_t weight)
{
    struct link *l;
    uint32_t i;
    int rc;

    if (!b)
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b->bins, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    rc = migbuf__bins_weight(b->bins, i, weight);
    if (rc)
        return rc;
    l = &b->links[b->entries[i].link_at];
    l->weights = l->weights - b->entries[i].weight + weight;
    b->entries[i].weight = weight;
    return 0;
}

/* A counter that was known and is 0 is not known this time. The last one stays, and nothing is learnt until the next. */
static void count_writes(struct entry *e, struct measured *m, const struct migbuf_sample *s)
{
    uint64_t disk = UINT64_C(1) << s->disk;

    if ((m->writes && !s->writes) || (m->written_bytes && !s->written_bytes)) {
        e->observed.told &= ~disk;
        return;
    }
    m->writes = s->writes;
    m->written_bytes = s->written_bytes;
    e->observed.told |= disk;
}

int migbuf_buffer_sample(struct migbuf_buffer *b, uint64_t now_ms, const struct migbuf_sample *samples, size_t count)
{
    if (!b || (count && !samples))
        return MIGBUF_E_INVALID;
    if (now_ms == MIGBUF__NEVER)
        return MIGBUF_E_RANGE;
    for (size_t k = 0; k < count; k++) {
        uint32_t i = migbuf__bins_find(b->bins, samples[k].id);

        if (i == NONE || samples[k].disk >= b->entries[i].disk_count)
            return MIGBUF_E_NOTFOUND;
        if (samples[k].reserved)
            return MIGBUF_E_INVALID;
        if (samples[k].file_bytes > MIGBUF_BYTES_MAX / MIGBUF__MAX_DISKS)
            return MIGBUF_E_RANGE;
    }
    for (size_t k = 0; k < count; k++) {
        const struct migbuf_sample *s = &samples[k];
        struct entry *e = &b->entries[migbuf__bins_find(b->bins, s->id)];

        struct measured *m = &e->measured[s->disk];

        m->at_ms = now_ms;
        m->file_bytes = s->file_bytes;
        if (s->remaining_bytes)
            m->remaining_bytes = s->remaining_bytes == MIGBUF_NONE ? 0 : s->remaining_bytes;
        count_writes(e, m, s);
        if (s->file_bytes) /* it is there, whatever the host was told to wait for */
            e->joining = e->now.none = e->before.none = 0;
    }
    return 0;
}

/* Shrinks first: what they free is there for those that grew. */
static void update_ledger(struct migbuf_buffer *b)
{
    for (int growing = 0; growing < 2; growing++)
        for (uint32_t i = 0; i < b->count; i++) {
            uint64_t bytes = files_of(&b->entries[i]);

            if ((bytes > migbuf__bins_bytes(b->bins, i)) == growing)
                migbuf__bins_set(b->bins, i, bytes);
        }
}

int migbuf_buffer_resize(struct migbuf_buffer *b, uint64_t capacity_bytes, struct migbuf_error *error)
{
    double need = 0;
    int rc, smaller;

    if (!b)
        return migbuf__fail(error, MIGBUF_E_INVALID, "no buffer");
    for (uint32_t i = 0; i < b->count; i++)
        need += most_of(&b->entries[i]) + reserve_of(&b->entries[i], missing(&b->entries[i]));
    if (need > (double)capacity_bytes)
        return migbuf__fail_numbers(error, MIGBUF_E_IN_USE, "files and reserves for drains need more than that",
                                    (uint64_t)need, capacity_bytes);
    rc = capacity_bytes > MIGBUF_BYTES_MAX ? MIGBUF_E_RANGE : migbuf__bins_grow_all(b->bins, 2);
    if (rc)
        return migbuf__fail(error, rc, migbuf_strerror(rc));
    update_ledger(b); /* sizes sampled since the last tick count: the ledger may still hold larger ones */
    smaller = capacity_bytes < migbuf__bins_capacity(b->bins);
    migbuf__bins_resize(b->bins, capacity_bytes);
    return smaller && b->options.policy != MIGBUF_POLICY_LITERAL && !fits(b, (double)capacity_bytes);
}

/* A tick */

/* Every disk's counters are of its last sample. */
static int is_told(const struct entry *e)
{
    return !(~e->observed.told << (64 - e->disk_count));
}

/* Growth per unit since the last time, of all its disks together. Where bytes and requests are limited side by side a unit
 * is not one thing, and the worst case stays. */
static void learn(struct migbuf_buffer *b, struct entry *e)
{
    double interval_s = (double)(b->now_ms - e->learnt_at_ms) / 1000;
    double units_per_s = e->now.limited ? (double)e->now.units : INFINITY;
    struct measured sum = { 0 };

    if (!is_told(e) || e->step != e->unit || interval_s < SHORTEST_S)
        return;
    for (uint32_t k = 0; k < e->disk_count; k++) {
        sum.file_bytes += e->measured[k].file_bytes;
        sum.writes += e->measured[k].writes;
        sum.written_bytes += e->measured[k].written_bytes;
    }
    e->learnt_at_ms = b->now_ms;
    if (!sum.writes && !sum.written_bytes) /* not told yet */
        return;
    migbuf_growth_sample(&e->growth, e->unit, interval_s, sum.file_bytes, sum.writes, sum.written_bytes, units_per_s,
                         e->request / (double)e->unit);
}

/* A request counts at least its bytes; what it let the file grow was worth waiting for. A limit that rises wakes whoever
 * waits; one that is lowered empties the bucket too, but who waits already goes on waiting. */
static void owe(const struct migbuf_buffer *b, struct entry *e)
{
    struct owed last = e->owed, *o = &e->owed;
    double before = last.again || last.units < e->now.units ? 0 : last.seconds, written, grown;

    if (!is_told(e))
        return;
    *o = (struct owed){ .file_bytes = files_of(e), .units = e->now.units, .at_ms = b->now_ms, .known = 1 };
    for (uint32_t k = 0; k < e->disk_count; k++)
        o->written_bytes += e->measured[k].written_bytes;
    if (!last.known || !last.written_bytes || o->written_bytes < last.written_bytes || !o->units)
        return;
    written = (double)(o->written_bytes - last.written_bytes);
    grown = o->file_bytes > last.file_bytes ? (double)(o->file_bytes - last.file_bytes) : 0;
    o->seconds = fmax(0, before + (written - grown) / ((double)o->units * (double)e->unit) -
                             (double)(o->at_ms - last.at_ms) / 1000);
}

static int waits_too_long(const struct migbuf_buffer *b, const struct entry *e)
{
    return e->owed.seconds * 1000 > (b->options.max_stall_ms ? b->options.max_stall_ms : DEFAULT_STALL_MS);
}

/* While the overlay is sent, a rewrite has to be sent again: what counts then is what is written, not what grows. The
 * planner's rates are of what is written anyway: its ratio stays 1. */
static double ratio_of(const struct entry *e)
{
    return e->phase == MIGBUF_PHASE_MIRROR ? 1 : e->growth.ratio;
}

/* The agreed minimum, and never less than what the guest needs to run at all. */
static double floor_of(const struct migbuf_buffer *b, const struct entry *e, double ratio)
{
    return fmax((double)b->options.floor_bytes_per_s, (double)(lowest_units(e) * e->step) * ratio);
}

static double link_share(const struct migbuf_buffer *b, const struct entry *e)
{
    const struct link *l = &b->links[e->link_at];

    return l->bytes_per_s ? (double)l->bytes_per_s * e->weight / (double)l->weights : INFINITY;
}

/* h, c, the hard cap and x. */
static void clamp_by_itself(const struct migbuf_buffer *b, struct entry *e, const struct migbuf_bins_view *v)
{
    double worst;

    e->share = link_share(b, e);
    if (e->phase == MIGBUF_PHASE_MIRROR && e->share < INFINITY)
        e->share = 0.5 * fmin(e->flow, e->share);
    migbuf_throttle_rate(v->capacity_bytes, v->used_bytes, v->priority, &b->constants, &e->curve);
    /* What is let through may grow the file by A / ratio of what is expected. */
    worst = e->amplification / ratio_of(e);
    migbuf_throttle_hard_cap(v->free_bytes, worst, b->late_interval_s, e->set_s, e->request / worst, &e->hard_cap);
    e->clamped = e->curve;
    e->reason = MIGBUF_REASON_RATE;
    if (e->share < e->clamped) {
        e->clamped = e->share;
        e->reason = MIGBUF_REASON_SHARE;
    }
    if (e->hard_cap < e->clamped) {
        e->clamped = e->hard_cap;
        e->reason = MIGBUF_REASON_ROOM;
    }
}

static void clamp_by_lenders(const struct migbuf_buffer *b, struct entry *e, double below_lenders,
                           const struct migbuf_bins_view *v)
{
    e->below_lenders = e->budget = below_lenders;
    if (below_lenders < e->clamped)
        e->reason = MIGBUF_REASON_LENDER;
    if (e->budget < floor_of(b, e, ratio_of(e))) {
        e->budget = floor_of(b, e, ratio_of(e));
        e->reason = MIGBUF_REASON_FLOOR;
    }
    if (e->phase == MIGBUF_PHASE_BASE && v->shards == 1 && !v->prospective && missing(e) <= v->free_bytes) {
        e->budget = INFINITY;
        e->reason = MIGBUF_REASON_WHOLE;
    }
}

/* What is free beside files, reserves and what may still come under older limits. Who joins gets its room before the
 * others' growth; where it is not free yet, it is kept from them until it is. */
static void free_for_growth(struct migbuf_buffer *b, uint32_t n)
{
    double total = (double)migbuf__bins_capacity(b->bins), least = 0, waits = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct entry *e = &b->entries[i];

        e->reserve = e->joining ? 0 : reserve_of(e, missing(e));
        e->pending = pending_of(b, e, missing(e) - e->reserve);
        b->reserve += e->reserve;
        b->pending += e->pending;
        b->unseen += e->unseen;
        total -= most_of(e) + e->reserve + e->pending;
        if (!e->joining)
            least += migbuf__buffer_least_room(b, e, most_of(e)) - most_of(e) - e->reserve;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct entry *e = &b->entries[i];
        double need = e->joining ? migbuf__buffer_least_room(b, e, 0) : 0;

        if (!e->joining)
            continue;
        if (need > total - least - waits) {
            waits += need;
            continue;
        }
        e->joining = 0;
        e->reserve = reserve_of(e, missing(e));
        b->reserve += e->reserve;
        total -= e->reserve;
        least += need - e->reserve;
    }
    /* Who waits takes nobody's smallest limit, nor does the rounding of that sum. */
    b->grantable = fmin(total, fmax(total - waits, least * (1 + 1e-9)));
}

/* The level at which all claims fit, where each is bounded by the better way at its budget, or at `w` if that is less. */
static double level_at(struct migbuf_buffer *b, uint32_t n, const struct scratch *s, double w)
{
    double total = b->grantable, level;

    for (uint32_t i = 0; i < n; i++) {
        struct entry *e = &b->entries[i];
        double ratio = ratio_of(e), most = fmin(e->budget, e->device * ratio);
        double room = e->joining ? 0 : missing(e) - e->reserve - e->pending;
        double at = fmax(fmin(most, w) / ratio, (double)(lowest_units(e) * e->step));
        double fixed = claim_of(b, e, at, room, &s->weight[i]);

        s->weight[i] /= ratio;
        s->amount[i] = fmin(s->weight[i] * most, room - fixed);
        e->claim = fixed;
        total -= fixed;
    }
    if (total < -1) /* sums of fractions of bytes: where all is claimed and fits, nobody is cut */
        return 0;
    migbuf_throttle_shave(s->amount, s->weight, n, total, s->order, &level);
    return level;
}

/* The last clamp: one level for all, so that what can be written fits into what is free. Which bound of the metadata is
 * the better one hangs on the level: at a low one another than at a high one. */
static void clamp_by_space(struct migbuf_buffer *b, uint32_t n, const struct scratch *s)
{
    double high, low;

    free_for_growth(b, n);
    b->level = high = level_at(b, n, s, INFINITY);
    if (high < INFINITY) {
        b->level = low = level_at(b, n, s, high);
        if (low < high)
            b->level = level_at(b, n, s, INFINITY);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct entry *e = &b->entries[i];

        if (e->budget > b->level && missing(e) > 0) { /* a file that is whole cannot grow */
            e->budget = b->level;
            e->reason = MIGBUF_REASON_SPACE;
        }
        e->claim += fmin(s->amount[i], s->weight[i] * e->budget);
    }
}

static void paper_budgets(struct migbuf_buffer *b, uint32_t n, const struct scratch *s)
{
    for (uint32_t i = 0; i < n; i++) {
        learn(b, &b->entries[i]);
        clamp_by_itself(b, &b->entries[i], &s->views[i]);
        s->x[i] = b->entries[i].clamped;
    }
    migbuf_throttle_lenders(s->x, n, s->first, b->guest, s->order, s->y);
    for (uint32_t i = 0; i < n; i++)
        clamp_by_lenders(b, &b->entries[i], s->y[i], &s->views[i]);
    clamp_by_space(b, n, s);
}

/* The planner. Its rates are of unit bytes written; a budget of one unit lets `step` through. */

static double limit_in_force(const struct entry *e)
{
    double limit = (double)e->now.units * (double)e->unit;

    return e->now.limited && limit < e->device ? limit : INFINITY;
}

/* Nothing of an overlay has been seen yet: a guest that writes to its base teaches nothing. */
static int has_begun(const struct entry *e)
{
    uint64_t any = 0;

    for (uint32_t k = 0; k < e->disk_count; k++)
        any |= e->measured[k].file_bytes | e->measured[k].writes | e->measured[k].written_bytes;
    return any != 0;
}

/* What was written and what grew since the last tick goes into the forecast. A file that grew was written to: also what it
 * held before its counters were first told. */
static void learn_forecast(const struct migbuf_buffer *b, struct entry *e)
{
    struct observed *d = &e->observed, last = *d;
    double interval_s = (double)(b->now_ms - d->at_ms) / 1000, written, grown;

    if (!has_begun(e))
        d->at_ms = b->now_ms;
    if (!is_told(e) || interval_s < SHORTEST_S || d->at_ms == b->now_ms)
        return;
    d->units_bytes = 0;
    for (uint32_t k = 0; k < e->disk_count; k++)
        d->units_bytes += fmax((double)e->measured[k].writes * (double)e->unit, (double)e->measured[k].written_bytes);
    d->file_bytes = (double)files_of(e);
    d->at_ms = b->now_ms;
    d->known = 1;
    grown = fmax(0, d->file_bytes - last.file_bytes);
    written = last.known ? fmax(d->units_bytes - last.units_bytes, grown) : grown;
    migbuf_forecast_update(&d->forecast, interval_s, written, grown, limit_in_force(e));
    if (!last.known && !(last.forecast.rate > 0)) /* the first that is known of it, and no part of a mean */
        d->forecast.rate = d->forecast.peak;
}

static void describe_guest(const struct entry *e, struct migbuf_planner_guest *g)
{
    const struct migbuf_forecast *f = &e->observed.forecast;

    *g = (struct migbuf_planner_guest){ .id = e->id, .link = e->link_at, .draining = e->phase == MIGBUF_PHASE_MIRROR,
                                        .place = e->plan.place, .weight = e->weight, .file_bytes = most_of(e),
                                        .need_bytes = e->plan.need_bytes, .growth_ratio = f->growth_ratio,
                                        .rate = f->rate, .peak = f->peak };
    for (uint32_t k = 0; k < e->disk_count; k++)
        g->left_bytes += (double)e->measured[k].remaining_bytes;
    /* How much of what was written was a rewrite shows what was measured, not what may have been written since. */
    migbuf_forecast_remaining(f, (double)files_of(e), missing(e), &g->remaining);
}

/* A rate near to the limit in force leaves it in force: each set empties QEMU's bucket, and a plan corrects itself. No
 * throttle: what would fill all that is free is as good, and its claim has no need of metadata that cannot come. Of whom
 * nothing has been seen yet, or who has less than its demand and is let explore, a sixteenth must do: what it takes cannot be
 * taken back. */
static void clamp_by_plan(const struct migbuf_buffer *b, struct entry *e)
{
    double in_force = (double)(e->now.units * e->step), band = b->options.hysteresis_percent / 100.0;
    double free_bytes = fmax(0, (double)migbuf__bins_capacity(b->bins) - (double)migbuf_bins_used(b->bins));
    double window_s = e->amplification * (b->late_interval_s + e->set_s), first = free_bytes / FIRST_PART / window_s;

    e->share = link_share(b, e);
    e->curve = e->hard_cap = INFINITY;
    e->clamped = e->below_lenders = e->budget = e->plan.rate * (double)(e->step / e->unit);
    e->reason = isinf(e->plan.rate) ? MIGBUF_REASON_FREE : e->plan.cut ? MIGBUF_REASON_PLAN : MIGBUF_REASON_SHARE;
    if (e->budget < floor_of(b, e, 1))
        e->budget = floor_of(b, e, 1);
    if (fabs(e->budget - in_force) <= band * in_force)
        e->budget = in_force;
    if ((!e->observed.known || (e->plan.cut && isinf(e->plan.rate))) && e->budget > first) {
        e->budget = fmax(first, floor_of(b, e, 1));
        e->reason = MIGBUF_REASON_FIRST;
    }
    e->budget = fmin(e->budget, fmax(free_bytes / window_s, (double)(lowest_units(e) * e->step)));
}

/* U to plan with: its mean, before the first tick what was told, before that what most links are. */
static double planned_speed(const struct link *l)
{
    if (l->mean.mean > 0)
        return migbuf_link_mean(&l->mean);
    return l->bytes_per_s ? fmax((double)l->bytes_per_s, MIGBUF_LINK_LEAST) : MIGBUF__UNKNOWN_LINK;
}

void migbuf__buffer_describe(const struct migbuf_buffer *b, struct migbuf_planner_options *o,
                             struct migbuf_planner_link *links, struct migbuf_planner_guest *guests)
{
    migbuf_planner_options_init(o, sizeof *o);
    o->capacity_bytes = (double)migbuf__bins_capacity(b->bins);
    o->interval_s = b->options.interval_ms / 1000.0;
    o->floor = (double)b->options.floor_bytes_per_s;
    for (uint32_t k = 0; k < b->links_count; k++)
        links[k] = (struct migbuf_planner_link){ .bytes_per_s = planned_speed(&b->links[k]) };
    for (uint32_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->entries[i];

        describe_guest(e, &guests[i]);
        links[e->link_at].flow_bytes_per_s = fmax(links[e->link_at].flow_bytes_per_s, e->flow);
        o->capacity_bytes = fmax(0, o->capacity_bytes - reserve_of(e, missing(e)));
    }
}

static int planner_budgets(struct migbuf_buffer *b, uint32_t n, const struct scratch *s)
{
    struct migbuf_planner_options o;
    int rc;

    for (uint32_t i = 0; i < n; i++)
        learn_forecast(b, &b->entries[i]);
    migbuf__buffer_describe(b, &o, s->link, s->guest);
    rc = migbuf_planner_tick(&o, s->link, b->links_count, s->guest, n, s->slot, s->plan);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        b->entries[i].plan = s->plan[i];
        clamp_by_plan(b, &b->entries[i]);
    }
    clamp_by_space(b, n, s);
    return 0;
}

static void literal_budgets(struct migbuf_buffer *b, uint32_t n, const struct scratch *s)
{
    for (uint32_t i = 0; i < n; i++) {
        struct entry *e = &b->entries[i];

        e->reserve = reserve_of(e, missing(e));
        e->share = link_share(b, e);
        migbuf_throttle_literal((double)migbuf__bins_share(b->bins, i), (double)s->views[i].bytes, s->views[i].priority,
                                INFINITY, &b->constants, &e->curve);
        e->hard_cap = INFINITY;
        e->clamped = e->below_lenders = e->budget = fmin(e->curve, e->share);
        e->reason = e->curve <= e->share ? MIGBUF_REASON_RATE : MIGBUF_REASON_SHARE;
    }
}

/* From a budget to an action. What is in force is `old`; `now` becomes what is wanted. */

static void stand(const struct migbuf_buffer *b, struct entry *e)
{
    e->now = (struct setting){ .limited = 1, .paused = 1, .paused_at_ms = e->now.paused ? e->now.paused_at_ms : b->now_ms };
}

static int32_t stop(const struct migbuf_buffer *b, struct entry *e, int no_room)
{
    int stands = e->now.paused && !e->unknown;

    stand(b, e);
    if (no_room && b->unseen > 0 && (double)migbuf_bins_used(b->bins) + b->reserve <= (double)migbuf__bins_capacity(b->bins)) {
        e->reason = MIGBUF_REASON_UNSEEN; /* for all that is known it fits */
    } else if (no_room) {
        e->reason = MIGBUF_REASON_RESERVE;
        return MIGBUF_ACTION_CANNOT_FIT;
    }
    return stands ? MIGBUF_ACTION_KEEP : MIGBUF_ACTION_PAUSE;
}

/* Not for a moment: `stop` costs a drain. Until then it is to stand, if nobody knows whether it does. */
static int32_t go_on(const struct migbuf_buffer *b, struct entry *e, uint64_t units)
{
    double refill_ms = e->queue / ((double)units * (double)e->unit) * 1000;

    if (units < 2 || (double)(b->now_ms - e->now.paused_at_ms) < fmax(b->options.min_pause_ms, refill_ms)) {
        if (units >= 2)
            e->reason = MIGBUF_REASON_WAIT; /* else its budget holds it, and the reason says why */
        if (!e->unknown)
            return MIGBUF_ACTION_KEEP;
        stand(b, e);
        return MIGBUF_ACTION_PAUSE;
    }
    e->now = (struct setting){ .units = units, .limited = 1, .paused_at_ms = e->now.paused_at_ms };
    return MIGBUF_ACTION_RESUME;
}

/* An unchanged or slightly higher budget sends nothing; a lower one goes half that far further down: the same budget
 * again, or one that differs by little to either side, is kept then. What is not known to be in force is asked for. */
static int32_t change(const struct migbuf_buffer *b, struct entry *e, uint64_t units)
{
    uint64_t old = e->now.units, least = b->options.policy == MIGBUF_POLICY_LITERAL ? 1 : e->least_units, further;

    if (!e->now.limited || units < old) {
        further = units * (200 - b->options.hysteresis_percent) / 200;
        if (!e->now.limited)
            further = units;
        e->now.units = further > least ? further : least;
        e->now.limited = 1;
        e->now.none = 0;
        return MIGBUF_ACTION_LOWER;
    }
    if (units > old && units * 100 >= old * (100 + b->options.hysteresis_percent)) {
        e->now.units = units;
        return MIGBUF_ACTION_RAISE;
    }
    if (e->unknown)
        return MIGBUF_ACTION_LOWER;
    e->owed.again = waits_too_long(b, e) ? 1 : 0;
    return e->owed.again ? MIGBUF_ACTION_REARM : MIGBUF_ACTION_KEEP;
}

/* Also where a stop was asked for, whatever was asked for since, and nobody knows what was carried out. */
static int may_stand(const struct entry *e)
{
    return e->now.paused || (e->unknown && (e->before.paused || e->pours));
}

static int32_t act(const struct migbuf_buffer *b, struct entry *e, uint64_t units, int no_room)
{
    struct setting old = e->now;
    int32_t action;

    if (!units || no_room)
        action = stop(b, e, no_room);
    else
        action = may_stand(e) ? go_on(b, e, units) : change(b, e, units);
    if (action == MIGBUF_ACTION_KEEP)
        return action;
    e->pours |= action == MIGBUF_ACTION_PAUSE || (action == MIGBUF_ACTION_CANNOT_FIT && !(old.paused && !e->unknown));
    e->open = 1;
    if (e->unknown) { /* `before` stays what it was before all that */
        all_may_be_in_force(e, &old);
        return action;
    }
    e->before = old;
    keep_older(e, &old, b->now_ms + b->options.lag_ms);
    return action;
}

/* Rounded down, and no more than QEMU takes or the growth they stand for can be written as. */
static uint64_t whole_units(double units, uint64_t step)
{
    uint64_t most = UINT64_MAX / step;

    if (most > (uint64_t)MIGBUF__QEMU_VALUE_MAX)
        most = (uint64_t)MIGBUF__QEMU_VALUE_MAX;
    return units < (double)most ? (uint64_t)units : most;
}

static void decide(struct migbuf_buffer *b, struct entry *e, int no_room, struct migbuf_decision *out)
{
    int literal = b->options.policy == MIGBUF_POLICY_LITERAL;
    uint64_t step = literal ? 1 : e->step;
    double ratio = literal ? 1 : ratio_of(e);
    uint64_t units = whole_units(e->budget / ((double)step * ratio), step);

    if (e->joining) {
        e->reason = MIGBUF_REASON_ADMISSION;
        *out = (struct migbuf_decision){ .id = e->id, .action = MIGBUF_ACTION_WAIT, .reason = e->reason };
        return;
    }
    if (!literal && units < lowest_units(e) && e->budget >= (double)(lowest_units(e) * step) * ratio * (1 - 1e-9))
        units = lowest_units(e); /* sums and quotients of fractions are not always what they were made of */
    if (!literal && units < e->least_units)
        units = 0;
    if (!literal)
        owe(b, e);
    if (e->now.none && !e->unknown && (!units || no_room)) { /* who has nothing to write to need not be stopped */
        *out = (struct migbuf_decision){ .id = e->id, .action = MIGBUF_ACTION_WAIT, .reason = e->reason };
        return;
    }
    *out = (struct migbuf_decision){ .id = e->id, .action = act(b, e, units, no_room) };
    out->reason = e->reason;
    out->growth_bytes_per_s = e->now.units * step;
    if (literal)
        out->limits.bps_wr = e->now.units;
    else
        migbuf_limits_from_budget(e->geometry, e->disk_count, out->growth_bytes_per_s, &out->limits);
}

static int reserve_edges(struct migbuf_buffer *b)
{
    size_t edges = migbuf__bins_edges(b->bins);
    size_t *guest;

    if (edges <= b->edges)
        return 0;
    guest = migbuf__resize(&b->allocator, b->guest, b->edges, edges, sizeof *guest);
    if (!guest)
        return MIGBUF_E_NOMEM;
    b->guest = guest;
    b->edges = edges;
    return 0;
}

int migbuf_buffer_tick(struct migbuf_buffer *b, uint64_t now_ms, struct migbuf_decision *out, size_t capacity)
{
    struct scratch s;
    uint32_t n;
    int rc, no_room;

    if (!b)
        return MIGBUF_E_INVALID;
    n = b->count;
    if (n && !out)
        return MIGBUF_E_INVALID;
    if (capacity < n)
        return MIGBUF_E_RANGE;
    if (now_ms < b->now_ms)
        return MIGBUF_E_CLOCK;
    rc = migbuf__bins_grow_all(b->bins, 1);
    if (!rc)
        rc = reserve_edges(b);
    if (rc)
        return rc;

    if (b->ticks++ && (now_ms - b->now_ms) * 100 > (uint64_t)b->options.interval_ms * b->options.late_factor_percent)
        b->late_ticks++;
    for (uint32_t i = 0; i < n; i++) {
        if (b->options.policy == MIGBUF_POLICY_LITERAL) { /* lets everybody in, and keeps nothing free */
            b->entries[i].joining = b->entries[i].open = 0;
            b->entries[i].pours &= b->entries[i].unknown;
            b->entries[i].olders = b->entries[i].drained = 0;
        } else {
            look_back(b, &b->entries[i], now_ms);
        }
    }
    b->now_ms = now_ms;
    b->reserve = b->pending = b->unseen = 0;
    b->grantable = (double)migbuf__bins_capacity(b->bins);
    b->level = INFINITY;
    if (!n)
        return 0;
    s = scratch_of(b);
    update_ledger(b);
    for (uint32_t k = 0; k < b->links_count; k++)
        migbuf_link_update(&b->links[k].mean, b->now_ms, (double)b->links[k].bytes_per_s, 0);
    if (b->options.policy == MIGBUF_POLICY_PLANNER) {
        rc = planner_budgets(b, n, &s);
        if (rc)
            return rc;
    } else {
        migbuf__bins_views(b->bins, s.views, s.looks_at, s.first, b->guest);
        if (b->options.policy == MIGBUF_POLICY_LITERAL)
            literal_budgets(b, n, &s);
        else
            paper_budgets(b, n, &s);
    }
    no_room = (double)migbuf_bins_used(b->bins) + b->unseen + b->reserve > (double)migbuf__bins_capacity(b->bins) &&
              b->options.policy != MIGBUF_POLICY_LITERAL;
    for (uint32_t i = 0; i < n; i++) {
        decide(b, &b->entries[i], no_room, &out[i]);
        b->entries[i].found_sets = 0;
        if (!no_room && !b->entries[i].joining)
            b->entries[i].drains_fit = b->entries[i].drains_ahead;
    }
    return (int)n;
}

/* Refused: what was in force before still is. Unknown: all that may be in force stays so until somebody knows better. Where
 * that is more than was decided, the others' claims were made for less. */
int migbuf_buffer_outcome(struct migbuf_buffer *b, uint64_t id, int32_t outcome)
{
    struct entry *e;
    double decided;
    uint32_t i, sets;

    if (!b || outcome < 0 || outcome > MIGBUF_OUTCOME_UNKNOWN)
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b->bins, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    if (outcome == MIGBUF_OUTCOME_REFUSED && !e->open)
        return MIGBUF_E_STATE;
    decided = rate_of(e, units_of(&e->now));
    switch (outcome) {
    case MIGBUF_OUTCOME_DONE:
        settle_older(e);
        return 0;
    case MIGBUF_OUTCOME_REFUSED:
        e->open = e->owed.again = 0;
        e->now = e->before;
        break;
    case MIGBUF_OUTCOME_UNKNOWN:
        migbuf__buffer_doubt(e);
        break;
    default:
        return 0;
    }
    /* Without a lag what was decided had its room from that moment on, and none was kept for what it follows. */
    return highest_rate(e, &sets) > decided || (e->unknown && !b->options.lag_ms);
}

int migbuf_buffer_resync(struct migbuf_buffer *b, uint64_t id, const struct migbuf_limits *limits, int32_t running)
{
    struct entry *e;
    struct setting found;
    uint64_t units = 0;
    uint32_t i;

    if (!b)
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b->bins, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    if (limits)
        units = b->options.policy == MIGBUF_POLICY_LITERAL ? limits->bps_wr : limits->iops_wr;
    if (units > (uint64_t)MIGBUF__QEMU_VALUE_MAX)
        return MIGBUF_E_RANGE;
    e = &b->entries[i];
    if (e->now.none && !units && running) /* there is nothing to limit yet */
        return 0;
    found = (struct setting){ .units = running ? units : 0, .paused_at_ms = e->now.paused ? e->now.paused_at_ms : b->now_ms,
                              .limited = units || !running, .paused = !running };
    if (e->open && e->olders && !e->unknown)
        keep_older(e, &e->now, e->older[e->olders - 1].until_ms); /* decided a moment ago, it may land after this look */
    settle_older(e);
    /* Another hand was there, so ours may have been set again meanwhile. */
    e->found_sets = found.units != e->now.units || found.limited != e->now.limited || found.paused != e->now.paused;
    e->now = e->before = found;
    e->joining = 0;
    return 0;
}

/* Looking */

int migbuf_buffer_view(const struct migbuf_buffer *b, uint64_t id, struct migbuf_buffer_view *view)
{
    struct migbuf_buffer_view v = { 0 };
    const struct entry *e;
    uint32_t i;

    if (!b || !view)
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b->bins, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    v.curve = e->curve;
    v.share = e->share;
    v.hard_cap = e->hard_cap;
    v.clamped = e->clamped;
    v.below_lenders = e->below_lenders;
    v.budget = e->budget;
    v.in_force_bytes_per_s =
        e->now.limited ? e->now.units * (b->options.policy == MIGBUF_POLICY_LITERAL ? 1 : e->step) : MIGBUF_UNLIMITED;
    v.reserve_bytes = (uint64_t)e->reserve;
    v.claim_bytes = (uint64_t)e->claim;
    v.ratio = b->options.policy == MIGBUF_POLICY_PLANNER ? e->observed.forecast.growth_ratio : ratio_of(e);
    v.finish_s = e->plan.finish_s;
    v.demand = e->plan.demand;
    v.cap = e->plan.cap;
    v.planned = e->plan.growth;
    v.link = e->link;
    v.phase = e->phase;
    v.paused = e->now.paused;
    v.reason = e->reason;
    return migbuf__struct_give(view, &v, sizeof v, VIEW_FIRST);
}

int migbuf_buffer_stats(const struct migbuf_buffer *b, struct migbuf_buffer_stats *stats)
{
    struct migbuf_buffer_stats s;

    if (!b || !stats)
        return MIGBUF_E_INVALID;
    s = (struct migbuf_buffer_stats){
        .capacity_bytes = migbuf__bins_capacity(b->bins),
        .used_bytes = migbuf_bins_used(b->bins),
        .reserve_bytes = (uint64_t)b->reserve,
        .pending_bytes = (uint64_t)b->pending,
        .grantable_bytes = (uint64_t)fmax(0, b->grantable),
        .reach_bytes = (uint64_t)fmin(reach(b), 0x1p63),
        .unseen_bytes = (uint64_t)b->unseen,
        .excess_bytes = migbuf_bins_excess(b->bins),
        .migrations = b->count,
        .ticks = b->ticks,
        .late_ticks = b->late_ticks,
        .level = b->level,
    };
    return migbuf__struct_give(stats, &s, sizeof s, STATS_FIRST);
}

const struct migbuf_bins *migbuf_buffer_bins(const struct migbuf_buffer *b)
{
    return b ? b->bins : NULL;
}
