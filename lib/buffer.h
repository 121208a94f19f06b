/* SPDX-License-Identifier: MIT */
/* buffer, inside: the handle, for the files that work on it.
 *
 *   buffer.c          what a host tells it and what it may look at     buffer_add.c   who comes and who leaves
 *   buffer_text.c     saves and loads                                  tick.c         the steps of a tick
 *   in_force.c        which limits may be in force                     claims.c       the terms of the proof, of one
 *   space.c           all together in Ω: keeps the proof (I1)          learn.c        what measurements teach
 *   policy_paper.c, policy_planner.c   where budgets come from         decide.c       from a budget to an action */
#ifndef MIGBUF_LIB_BUFFER_H
#define MIGBUF_LIB_BUFFER_H
#include "bins.h"
#include "migbuf/buffer.h"
#include "migbuf/forecast.h"
#include "migbuf/growth.h"
#include "migbuf/link.h"
#include "migbuf/planner.h"
#include "migbuf/throttle.h"
#include "throttle_config.h"

#define MIGBUF__MAX_DISKS 64

#define MIGBUF__UNLIMITED_UNITS UINT64_MAX
#define MIGBUF__OLDER 4
#define MIGBUF__NEVER UINT64_MAX
#define MIGBUF__LANDED (UINT64_MAX - 1)

/* What a decision put in force. */
struct setting {
    uint64_t units; /* per second; 0 while paused */
    uint64_t paused_at_ms;
    uint8_t limited, paused;
    uint8_t none;      /* there is no overlay to write to */
    uint8_t still;     /* of one that is paused: STILL_… */
    uint64_t still_ms; /* SINCE: the first tick after it was told */
};

/* What is known of a pause: nothing; somebody said that it has come to pass; and since when; all that was poured before is
 * measured. */
enum { STILL_UNKNOWN, STILL_TOLD, STILL_SINCE, STILL_MEASURED };

/* A setting that was decided away, and may be in force still. */
struct older {
    uint64_t units;    /* MIGBUF__UNLIMITED_UNITS: no limit */
    uint64_t until_ms; /* when what followed it has landed. MIGBUF__NEVER: nobody knows; MIGBUF__LANDED: before the next
                        * tick */
    uint32_t sets;     /* how many decisions may still land: each empties buckets */
};

/* Where not all can write: nothing of that kind, or it stands, or it is its turn. */
enum { TURN_NONE, TURN_STANDS, TURN_WRITES };

struct measured {
    uint64_t file_bytes, writes, written_bytes, remaining_bytes;
    uint64_t at_ms; /* MIGBUF__NEVER: nobody knows when */
};

/* Planner: what a guest is forecast to write, and where the last measurement of it ended. */
struct observed {
    struct migbuf_forecast forecast;
    double units_bytes, file_bytes; /* written in units, and grown, up to at_ms */
    uint64_t at_ms;
    uint64_t told; /* disks of which a sample came with all counters that are known of it, as bits */
    uint8_t known; /* the three before are of a tick that all disks were sampled for */
};

/* How long QEMU's bucket lets a guest wait for what grew no file: zeroing counts at full length. */
struct owed {
    double seconds;
    uint64_t file_bytes, written_bytes, units, at_ms; /* at the last look */
    uint8_t known, again;                             /* again: the last decision emptied the bucket */
};

/* What each tick of each policy looks at stands together, and first: the migrations of a large host are more than a cache
 * holds. */
struct entry {
    uint64_t id;
    struct measured *measured;        /* of each disk; behind the geometry in one allocation */
    uint64_t file_bytes, writes, written_bytes; /* of all disks, as they were measured last */
    uint32_t disk_count, weight, drains_ahead;
    uint32_t drains_fit;              /* of those ahead: so many had their reserve at the last tick, or have found it since */
    uint32_t link_at; /* where its link stands in `links` */
    int32_t phase, reason;
    uint32_t olders;
    uint32_t drained, poured;                 /* drains that were told to be over: since the last tick; before poured_ms */
    uint64_t poured_ms;
    uint8_t open;                             /* the last decision changed something, and its outcome was not told */
    uint8_t unknown;                          /* `now` may be in force or not */
    uint8_t joining;                          /* admitted, and has no file yet; its space is not free yet */
    uint8_t found_sets;                       /* found by a look: our limits may have been set again meanwhile */
    uint8_t turn;                             /* of the last tick: TURN_… */
    uint8_t said;                             /* `now` was decided or found; else nobody has said yet what is in force */
    uint8_t pours;                            /* it was told to stop, and no measurement shows yet what that poured */
    struct setting now;
    double flow, device;                      /* bytes/s, INFINITY when not known */
    uint64_t unit, step;                      /* growth of one unit, of the smallest budget */
    uint64_t smallest_unit;                   /* of its disks */
    double per_byte;                          /* metadata of one unit, alone where it is, for each of its bytes */
    double amplification;                     /* A */
    double request, of_request;               /* one whole request of each disk, and the metadata of those */
    double set_request, set_of_request;       /* the largest request once for each disk: a set passes it on each */
    double set_s;                             /* burst of one set on each disk */
    double metadata, whole, queue;            /* what migbuf_limits_… say, in bytes */
    uint64_t least_units;                     /* below this a request would wait longer than max_stall */
    uint64_t most_units;                      /* no more than QEMU takes or the growth they stand for can be written as */
    double unseen;                            /* most that its files can have grown since they were measured */
    double pending;                           /* of the last tick */
    double curve, share, hard_cap, clamped, below_lenders, budget, reserve, claim; /* of the last tick */
    struct owed owed;
    struct older older[MIGBUF__OLDER];        /* oldest first, what is in force beside `now` */
    uint64_t learnt_at_ms;                    /* paper, with the next */
    struct migbuf_growth growth;
    struct observed observed;                 /* planner, with the next */
    struct migbuf_planner_plan plan; /* of the last tick; finish_s INFINITY before the first, and without planner */
    struct setting before;
    uint64_t link;
    struct migbuf_geometry *geometry; /* of each disk */
    double caution;                           /* of what is kept free: because a figure is not known */
};

struct link {
    uint64_t id, bytes_per_s, weights;
    uint64_t waiting;        /* of these, of those that wait for their room and send nothing; of the last tick */
    struct migbuf_link mean; /* planner: bytes_per_s from tick to tick */
};

struct migbuf_buffer {
    struct migbuf_allocator allocator;
    struct migbuf_buffer_options options;
    struct migbuf_throttle_constants constants;
    struct migbuf_bins *bins;
    struct entry *entries;
    struct link *links;
    uint32_t count, allocated, links_count, links_allocated;
    uint32_t gone;        /* of `count`: removed, and their places not closed yet; they have no disks */
    uint32_t counted;     /* of how many the next is right: 0 as soon as anything about them changes */
    double free_bytes;    /* migbuf__space_free of these */
    uint64_t now_ms, ticks, late_ticks;
    double late_interval_s; /* T' */
    double kept, kept_of_s; /* what is left of a mean after that interval: the last that was asked for */
    double (*kept_by)(double interval_s); /* and which mean's memory that was */
    double reserve, pending, unseen, level; /* of the last tick */
    double grantable; /* below 0: what may be written under older limits does not fit */
    double least;     /* of that, what all need under their smallest limits */
    double period_s;  /* from one turn of a guest to its next; 0: who stands waits for room alone */

    /* Scratch of a tick: one block for what is per migration, one for the edges. */
    void *scratch;
    size_t *guest;
    size_t edges;
};

int migbuf__buffer_check_options(const struct migbuf_buffer_options *o);

/* How long a guest may wait at most; where nobody said so, what is the default. */
#define MIGBUF__DEFAULT_STALL_MS 30000

static inline uint32_t migbuf__max_stall_ms(const struct migbuf_buffer_options *o)
{
    return o->max_stall_ms ? o->max_stall_ms : MIGBUF__DEFAULT_STALL_MS;
}

/* The host's struct with today's fields, and in their ranges. */
int migbuf__buffer_check_migration(const struct migbuf_migration *migration, size_t disk_count,
                                   struct migbuf_migration *given, struct migbuf_error *error);

/* What a migration is to the proof, from what the host says of it. Owns nothing yet. */
int migbuf__buffer_entry(const struct migbuf_buffer_options *o, struct entry *e, const struct migbuf_migration *m,
                         const struct migbuf_geometry *disks, size_t disk_count);

/* Closes the places of those that were removed. Whoever looks at more than one migration, or asks the ledger for a number,
 * calls this before; nothing that can be looked at becomes another by it. */
void migbuf__buffer_settle(const struct migbuf_buffer *b);

/* Number of a migration, or MIGBUF__NONE. */
uint32_t migbuf__buffer_find(const struct migbuf_buffer *b, uint64_t id);

/* The same, to change something that the space it takes hangs on. */
uint32_t migbuf__buffer_find_to_change(struct migbuf_buffer *b, uint64_t id);

/* Memory for `wanted` migrations and one more link. */
int migbuf__buffer_allocate(struct migbuf_buffer *b, uint64_t wanted);

/* Its own copy of the geometry, with files that are empty; and away with it. */
int migbuf__buffer_keep_disks(const struct migbuf_buffer *b, struct entry *e, const struct migbuf_geometry *disks);
void migbuf__buffer_drop_disks(const struct migbuf_buffer *b, struct entry *e);

/* NULL when nobody uses it. */
struct link *migbuf__buffer_link(const struct migbuf_buffer *b, uint64_t id);

/* There is memory for it: migbuf__buffer_allocate. */
void migbuf__buffer_join_link(struct migbuf_buffer *b, struct entry *e);

/* Sizes as they were sampled last go into the ledger. There is memory for it: migbuf__bins_grow_all. */
void migbuf__buffer_update_ledger(struct migbuf_buffer *b);
#endif
