/* SPDX-License-Identifier: MIT */
/* buffer_add: who comes into a buffer and who leaves it: what a host says of a migration becomes the figures the proof
 * needs, its space is asked for, and its memory is had before anything changes. An admission that fails changes nothing. */
#include "buffer.h"
#include "claims.h"
#include "geometry.h"
#include "memory.h"
#include "scratch.h"
#include "space.h"
#include <math.h>
#include <string.h>

#define MIGRATION_FIRST MIGBUF__FIRST(struct migbuf_migration, rate_bytes_per_s)

static const struct migbuf_migration default_migration = { .weight = 100, .drains_ahead = 4 };

int migbuf_migration_init(struct migbuf_migration *m, uint64_t size)
{
    return migbuf__struct_init(m, size, &default_migration, sizeof *m, MIGRATION_FIRST);
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

/* What a migration is to the proof */

/* Units/s at which the largest request has paid for itself within max_stall. */
static uint64_t least_units(uint64_t request_bytes, uint64_t unit, uint64_t stall_ms)
{
    uint64_t units = (request_bytes + unit - 1) / unit * 1000;

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
    e->per_byte = fmax(e->per_byte, per_unit); /* of a unit, until that is known of all disks */
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
    e->per_byte /= (double)e->unit;
    e->set_request *= (double)disk_count;
    e->set_of_request *= (double)disk_count;
    e->set_s = MIGBUF__THROTTLE_BURST_S * (double)disk_count;
    e->smallest_unit = smallest;
    e->least_units = least_units(longest, smallest, migbuf__max_stall_ms(o));
    migbuf_growth_init(&e->growth);
    migbuf_forecast_init(&e->observed.forecast, (double)m->rate_bytes_per_s);
    e->plan.finish_s = INFINITY;
    e->step = flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE ? 2 * e->unit : e->unit; /* half for bytes, half for requests */
    e->most_units = UINT64_MAX / e->step < MIGBUF__THROTTLE_VALUE_MAX ? UINT64_MAX / e->step : MIGBUF__THROTTLE_VALUE_MAX;
    return 0;
}

/* Its link */

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

/* Its memory */

static size_t disks_bytes(size_t count)
{
    return count * (sizeof(struct migbuf_geometry) + sizeof(struct measured));
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

void migbuf__buffer_drop_disks(const struct migbuf_buffer *b, struct entry *e)
{
    migbuf__free(&b->allocator, e->geometry, disks_bytes(e->disk_count));
}

int migbuf__buffer_allocate(struct migbuf_buffer *b, uint64_t wanted)
{
    uint32_t allocated = b->allocated ? b->allocated : 8;
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
    while (allocated < wanted)
        allocated *= 2;
    scratch = migbuf__resize(&b->allocator, NULL, 0, migbuf__scratch_bytes(allocated), 1);
    if (!scratch)
        return MIGBUF_E_NOMEM;
    e = migbuf__resize(&b->allocator, b->entries, b->allocated, allocated, sizeof *e);
    if (!e) {
        migbuf__free(&b->allocator, scratch, migbuf__scratch_bytes(allocated));
        return MIGBUF_E_NOMEM;
    }
    migbuf__free(&b->allocator, b->scratch, migbuf__scratch_bytes(b->allocated));
    b->scratch = scratch;
    b->entries = e;
    b->allocated = allocated;
    return 0;
}

/* Coming and leaving */

/* What is free for the next one is kept: many come one after the other. */
static int admit(struct migbuf_buffer *b, const struct entry *e, uint64_t file_bytes, struct migbuf_error *error)
{
    double need = migbuf__least_bytes(b, e, (double)file_bytes), have = b->free_bytes = migbuf__space_free(b);
    double caution = fmin(e->caution * (e->drains_ahead + 1.0), need);
    const char *text = "its files, its reserve for drains and its smallest limit do not fit beside the others'";

    b->counted = b->count;
    if (b->options.policy == MIGBUF_POLICY_LITERAL || need <= have)
        return 0;
    if (2 * caution > need)
        text = "it does not fit, mostly because queue_bytes is not known and counts at its worst for each drain: give it "
               "(migbuf_limits_drain)";
    return migbuf__fail_caution(error, MIGBUF_E_NOSPACE, text, (uint64_t)need, have > 0 ? (uint64_t)have : 0,
                                (uint64_t)caution);
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
    if (migbuf__buffer_find(b, m->id) != MIGBUF__NONE)
        return migbuf__fail(error, MIGBUF_E_EXISTS, "a migration with this id is there already");
    rc = migbuf__buffer_entry(&b->options, &e, m, disks, disk_count);
    if (rc)
        return migbuf__fail(error, rc, "the geometry of a disk is not valid, see migbuf_geometry_check");
    rc = admit(b, &e, m->file_bytes, error);
    if (rc)
        return rc;
    rc = migbuf__buffer_allocate(b, (uint64_t)b->count + 1);
    if (!rc)
        rc = migbuf__buffer_keep_disks(b, &e, disks);
    if (rc)
        return migbuf__fail(error, rc, "no memory");
    e.file_bytes = e.measured[0].file_bytes = m->file_bytes;
    e.observed.at_ms = b->now_ms;
    for (size_t k = 0; k < disk_count; k++)
        e.measured[k].at_ms = b->now_ms;
    e.observed.file_bytes = (double)m->file_bytes;
    rc = migbuf_bins_start(b->bins, m->id, m->weight, m->file_bytes);
    if (rc) {
        migbuf__buffer_drop_disks(b, &e);
        return migbuf__fail(error, rc, migbuf_strerror(rc));
    }
    migbuf__buffer_join_link(b, &e);
    b->entries[b->count++] = e;
    return 0;
}

/* One that left takes its place along later, all such places at once, where the ledger does that too. */
int migbuf_buffer_remove(struct migbuf_buffer *b, uint64_t id)
{
    struct entry *e;
    uint32_t i;

    if (!b)
        return MIGBUF_E_INVALID;
    if (migbuf__bins_gone(b->bins) != b->gone) /* somebody has looked at the ledger */
        migbuf__buffer_settle(b);
    i = migbuf__bins_find(b->bins, id);
    if (i == MIGBUF__NONE)
        return MIGBUF_E_NOTFOUND;
    e = &b->entries[i];
    migbuf_bins_end(b->bins, id);
    migbuf__buffer_drop_disks(b, e);
    e->geometry = NULL;
    e->disk_count = 0;
    b->gone++;
    b->counted = 0;
    leave_link(b, e);
    if (migbuf__bins_gone(b->bins) != b->gone)
        migbuf__buffer_settle(b);
    return 0;
}

void migbuf__buffer_settle(const struct migbuf_buffer *looked_at)
{
    struct migbuf_buffer *b = (struct migbuf_buffer *)looked_at;
    uint32_t kept = 0;

    if (!b->gone)
        return;
    migbuf__bins_settle(b->bins);
    for (uint32_t i = 0; i < b->count; i++)
        if (b->entries[i].disk_count) {
            if (kept != i)
                b->entries[kept] = b->entries[i];
            kept++;
        }
    b->count = kept;
    b->gone = 0;
}

uint32_t migbuf__buffer_find(const struct migbuf_buffer *b, uint64_t id)
{
    migbuf__buffer_settle(b);
    return migbuf__bins_find(b->bins, id);
}

uint32_t migbuf__buffer_find_to_change(struct migbuf_buffer *b, uint64_t id)
{
    b->counted = 0;
    return migbuf__buffer_find(b, id);
}
