/* SPDX-License-Identifier: MIT */
#ifndef REFERENCE_H
#define REFERENCE_H
/*
 * The rules of bins.h and buffer.h a second time: slow, obvious, written from the text alone.
 *
 * It shares no code with the library, only the records and constants of its headers. Everything is a plain array
 * [bin][position]; nothing is allocated; arguments are taken to be valid (errors are the library's business). Whatever
 * can be a loop until nothing changes is one.
 */
#include <stdbool.h>
#include <stdint.h>

#include "migbuf/buffer.h"

#define REFERENCE_MAX 64  /* migrations */
#define REFERENCE_DISKS 4 /* disks of one migration */
#define REFERENCE_OLDER 4 /* limits that were decided away and are remembered one by one */
#define REFERENCE_LANDED 1e300

struct reference_entry {
    int who; /* index of the migration, in order of start */
    uint64_t bytes;
};

struct reference_bin {
    uint64_t id;
    uint32_t weight;
    uint64_t share;
    uint64_t limbo; /* of its owner: cut off somewhere, not yet placed again */
    int height;
    struct reference_entry entry[REFERENCE_MAX]; /* entry[0] is the owner's */
};

struct reference_ledger {
    uint64_t capacity;
    int count;
    struct reference_bin bin[REFERENCE_MAX];
};

struct reference_view {
    uint64_t bytes, home_bytes, share_bytes;
    double capacity, used, room, priority; /* E, f, room, mean position */
    int shards, prospective;
    int host_count;
    int host[REFERENCE_MAX + 1];
};

/* What a decision lets a guest do. */
struct reference_state {
    bool absent;  /* it has no overlay to write to */
    bool limited; /* has it ever had a limit of ours? */
    bool paused;
    uint64_t units; /* in force, 0 while paused */
    uint64_t paused_at_ms;
    int still;       /* 1: it was told that it stands; 2: at or before the tick at still_ms; 3: and measured later */
    double still_ms;
    struct migbuf_limits limits;
};

/* A state that was decided away. It may hold until a time, REFERENCE_LANDED: until before the next tick, INFINITY: nobody
 * knows; so many sets may land by then. */
struct reference_older {
    struct reference_state state;
    double until_ms, sets;
};

/* All that may hold for one guest. */
struct reference_force {
    struct reference_state now, before; /* the last decision, and what a refusal goes back to */
    struct reference_older older[REFERENCE_OLDER + 1];
    int olders;
    bool unanswered; /* the last decision changed something, and nobody has said yet what became of it */
    bool unknown;    /* nobody knows whether `now` holds */
    bool pours;      /* what its last stop poured may not have been measured */
    bool said;       /* somebody has decided or seen what is in force */
    bool found;      /* somebody looked and it was not what had been decided */
    bool again;      /* the last decision set the same limit once more */
};

struct reference_migration {
    uint64_t id, link, flow, device;
    int32_t phase;
    uint32_t drains_ahead;
    int disk_count;
    struct migbuf_geometry disk[REFERENCE_DISKS];
    uint64_t disk_bytes[REFERENCE_DISKS], disk_writes[REFERENCE_DISKS], disk_written[REFERENCE_DISKS];
    uint64_t disk_left[REFERENCE_DISKS]; /* still to send */
    bool disk_told[REFERENCE_DISKS];     /* a sample came, ever */
    double disk_ms[REFERENCE_DISKS];     /* when it was measured, -INFINITY: nobody knows */
    bool waits;                          /* for its room: it may not begin yet */
    double unseen;                       /* that its files may have grown by since they were measured */
    uint32_t drains_fit;                 /* so many drains have their room */
    double drained, poured, poured_ms;   /* drains that are over: since the last tick, and before the tick at poured_ms */
    uint64_t learnt_ms, learnt_bytes, learnt_writes, learnt_written; /* where the last measurement of growth ended */
    bool measured;
    double units_sum, grown_sum, ratio; /* with a memory of 10 s; growth per unit */
    double owed;                        /* seconds to wait for what grew nothing */
    uint64_t owed_ms, owed_file, owed_written, owed_rate;
    bool owed_known;
    double credit, learnt_rate;         /* units a bucket gives at once; units/s of the last measurement */
    bool fed;                           /* all its counters were known at fed_ms, when these were the numbers */
    uint64_t fed_ms;
    double fed_written, fed_bytes;
    double v, vpk, num, den, rho, u; /* forecast.h */
    double need;                     /* of the last plan */
    double send, release, demand, cap, planned, rate; /* x T h R g, and what it may write */
    bool cut;
    uint64_t link_rate; /* U of its link, 0 before the first sample */
    double link_mean;   /* the same over the last minute, 0 before */
    uint64_t link_ms;   /* until when */
    struct reference_force force, undecided; /* as the last tick left it, and as it was when it decided */
    int32_t action; /* the last one, 0 before the first tick */
    int32_t cause;  /* which clamp determined the last budget */
    int32_t reason; /* what the last decision said, mostly the cause */
    /* numbers of the last tick */
    struct reference_view view;
    double reserve, pending, claim;
    double away, runs, turn; /* when its files are gone, what it grows by till then while it runs, what one turn takes */
    bool stands, writes;     /* not all can run: it waits for its turn; it has it */
    double curve, share, hard_cap, clamped, below_lenders, wanted, budget; /* h c hard x y max(floor, y) z */
};

struct reference {
    struct migbuf_buffer_options options;
    struct reference_ledger ledger;
    struct reference_migration migration[REFERENCE_MAX];
    bool ticked;
    bool cannot_fit;
    uint64_t now_ms, ticks, late_ticks;
    uint64_t files;
    double reserves, pending, unseen, grantable, level;
    double least_growth; /* all that all need to run */
    double period;       /* from turn to turn; 0: nobody has to stand for long */
};

/* Pure pieces, each the most direct reading of its header. */
void reference_shares(uint64_t capacity, const uint32_t *weight, int n, uint64_t *share);
double reference_pour(const double *used, const double *share, int n, double amount, double *placed);
double reference_shave(const double *amount, const double *weight, int n, double total);
double reference_rate(double capacity, double used, double priority, double tau, double eps, double eps_rate);
uint64_t reference_request_growth(const struct migbuf_geometry *g, uint64_t length);
uint64_t reference_metadata(const struct migbuf_geometry *g);
uint64_t reference_metadata_of(const struct migbuf_geometry *g, uint64_t data);
double reference_scattered(const struct migbuf_geometry *g, double units);
uint64_t reference_whole_disk(const struct migbuf_geometry *g);
uint64_t reference_drain(const struct migbuf_geometry *g, uint64_t in_flight, uint64_t request);
/* The three sizes of a geometry as they count: 0 at its worst, MIGBUF_NONE as 0. */
uint64_t reference_request(const struct migbuf_geometry *g);
uint64_t reference_queue(const struct migbuf_geometry *g);
uint64_t reference_extra(const struct migbuf_geometry *g);

/* The ledger. Migrations are named by index. */
void reference_ledger_init(struct reference_ledger *l, uint64_t capacity);
int reference_ledger_find(const struct reference_ledger *l, uint64_t id);
uint64_t reference_ledger_bytes(const struct reference_ledger *l, int i);
uint64_t reference_ledger_total(const struct reference_ledger *l);
uint64_t reference_ledger_used(const struct reference_ledger *l, int bin);
void reference_ledger_start(struct reference_ledger *l, uint64_t id, uint32_t weight, uint64_t bytes);
void reference_ledger_set(struct reference_ledger *l, int i, uint64_t bytes);
void reference_ledger_end(struct reference_ledger *l, int i);
void reference_ledger_resize(struct reference_ledger *l, uint64_t capacity);
void reference_ledger_weight(struct reference_ledger *l, int i, uint32_t weight);
void reference_ledger_view(const struct reference_ledger *l, int i, struct reference_view *v);

/* The buffer. */
void reference_init(struct reference *r, uint64_t capacity, const struct migbuf_buffer_options *options);
uint64_t reference_file_bytes(const struct reference_migration *m);
/* The same with what nobody has seen. */
double reference_most_bytes(const struct reference_migration *m);
double reference_reserve(const struct reference_migration *m);
/* All its disks, fully written. */
double reference_whole(const struct reference_migration *m);
/* What must be free for a migration to be let in: files, reserve, and the growth of the smallest limit. Of one that runs:
 * also what it may write before it is cut down to that. */
double reference_entry_fee(const struct reference *r, const struct reference_migration *m);
/* The budget without which i cannot run at all. */
double reference_needs(const struct reference *r, int i);
void reference_migration_set(struct reference_migration *m, const struct migbuf_migration *from,
                             const struct migbuf_geometry *disks, int disk_count);
void reference_start(struct reference *r, const struct reference_migration *m, uint32_t weight);
void reference_end(struct reference *r, int i);
void reference_sample(struct reference *r, int i, uint64_t now_ms, const struct migbuf_sample *s);
int reference_phase(struct reference *r, int i, int32_t phase, uint32_t drains);
void reference_link(struct reference *r, uint64_t link, uint64_t bytes_per_s);
/* What must fit for it to be resized; and resizing, which says whether all that may be written fits already. */
double reference_needed(const struct reference *r);
int reference_resize(struct reference *r, uint64_t capacity);
void reference_tick(struct reference *r, uint64_t now_ms, struct migbuf_decision *out);
/* The last decision for i again, with its budget off by `shift`: for budgets on the edge of a unit. */
void reference_again(struct reference *r, int i, double shift, struct migbuf_decision *out);
int reference_outcome(struct reference *r, int i, int32_t outcome);
void reference_found(struct reference *r, int i, const struct migbuf_limits *limits, bool running);
/* The process is another one, and its clock says now_ms. */
void reference_load(struct reference *r, uint64_t now_ms);
/* Most that all files can weigh before the next decisions have landed. */
double reference_reach(const struct reference *r);
double reference_unit(const struct reference_migration *m);
double reference_step(const struct reference *r, const struct reference_migration *m);
double reference_amplification(const struct reference_migration *m);
#endif
