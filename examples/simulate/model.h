/* SPDX-License-Identifier: MIT */
/*
 * The model that the library is tried against: guests that write, a link, QEMU's throttle, migrations. One run is a
 * pure function of its description: the same description gives the same result to the last bit, and two policies with
 * the same seed meet the same guests, the same demand and the same link.
 *
 * Time runs in steps of 0.1 s, which is also what QEMU's bucket holds and the lag of a controller. All sizes are bytes.
 */
#ifndef SIMULATE_MODEL_H
#define SIMULATE_MODEL_H
#include "mirror.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEP_S 0.1
#define CLUSTER 65536.0
#define SUBCLUSTER 4096.0
#define KINDS 5
#define OCTAVES 27 /* of slowdown: up to 2^27 */
#define PER_OCTAVE 8
#define BUCKETS (OCTAVES * PER_OCTAVE)

enum kind { KIND_IDLE, KIND_STEADY, KIND_BURSTY, KIND_DATABASE, KIND_SMALL };
enum policy {
    POLICY_NONE,
    POLICY_QUOTA,
    POLICY_LXD,
    POLICY_FIXED,
    POLICY_BRADFORD,
    POLICY_LITERAL,
    POLICY_PAPER,
    POLICY_PLANNER,
    POLICY_MIRROR,
    POLICY_PROXMOX,
    POLICY_HYBRID,
    POLICIES
};
enum admission { ADMISSION_OFF, ADMISSION_SJF, ADMISSION_FIFO, ADMISSIONS };

/* What costs guests writes, beside the policy: each can be switched off, to see its size. */
enum cause {
    CAUSE_RESERVE,    /* what is kept free for drains, which then pour nothing */
    CAUSE_HYSTERESIS, /* limits are kept that differ by little from the wanted ones */
    CAUSE_LATE,       /* ticks that are left out, the margin for them, and the lag of orders */
    CAUSE_NOISE,      /* of the link, and its dips */
    CAUSE_UNKNOWN,    /* how large a working set is */
    CAUSE_CLUSTERS,   /* a small write allocates 64 KiB and not 4 */
    CAUSES
};

extern const char *const cause_names[CAUSES];
extern const char *const policy_names[POLICIES];
extern const char *const admission_names[ADMISSIONS];

struct scenario {
    const char *name, *text;
    uint32_t vms;
    double link; /* U */
    double load; /* of the link by arrivals; 0: all within `within_s` */
    double within_s;
    double mix[KINDS]; /* of the kinds, adds up to 1 */
    double most_disk;  /* bytes; the smallest has 10 GB */
    double flow_part;  /* of the link: most that one flow gets */
};

extern const struct scenario scenarios[];
extern const size_t scenario_count;

/* A recorded demand, replayed round and round. */
struct trace {
    double *at_s, *bytes_per_s;
    size_t count;
    double length_s;
};

/* A guest that is told of, instead of drawn. */
struct guest {
    const char *name; /* the caller's own */
    double disk_bytes, used_bytes; /* used: what there is to be copied */
    double write_bytes_per_s, request_bytes, depth;
    double set_bytes; /* 0: not known, drawn as the kinds' is */
    uint32_t link;
    bool first; /* it goes before those that are not */
};

/*
 * All are asked for at once, from one host. What is told is known to be off: in each run a guest's mean rate and its
 * working set are drawn between told / (1 + TOLD_OFF) and told * (1 + TOLD_OFF). The library hears what was told.
 */
#define TOLD_OFF 0.25
struct guests {
    const struct guest *list;
    uint32_t count, link_count;
    const double *links; /* U of each */
    double flow_bytes_per_s; /* most that one migration gets on its link; INFINITY */
};

struct run {
    const struct scenario *scenario; /* unread where there are guests */
    const struct guests *guests;     /* NULL: the scenario's */
    enum policy policy;
    enum admission admission;
    enum mirror_way mirror; /* of those that are mirrored */
    uint32_t without;       /* 1 << CAUSE_…: what is switched off */
    uint64_t seed;
    uint32_t hosts; /* each with its own Ω, all over the same link */
    double omega;
    double interval_s;
    const struct trace *trace; /* NULL: the kinds */
};

/* How often which slowdown: bucket k holds 2^(k/8) up to 2^((k+1)/8). */
struct slowdowns {
    double writes[BUCKETS];
};

double slowdowns_quantile(const struct slowdowns *s, double q);

/* Forecasts, and how many of them held: the end, and the largest the file became, were within the error bars. */
struct held {
    uint32_t forecasts, finish, peak;
};

struct outcome {
    uint32_t vms, finished, failed, stuck;
    uint64_t overflows; /* times the files were larger than Ω */
    double wanted_bytes, written_bytes;
    double vm_delivered; /* mean over VMs of written / wanted */
    double bound;        /* no policy could have had more, with these releases */
    double p99;          /* slowdown */
    double completion_s; /* mean, from arrival to the file's deletion, of those that finished */
    double peak;         /* of the files, as a part of Ω */
    double stall_s;      /* longest time that a guest waited with nothing let through */
    uint64_t pauses;
    struct held running, starting, waiting; /* outlooks of migrations that ended, by what they were when it was asked for */
    double makespan_s;
    struct slowdowns slowdowns;
};

/* What became of one guest. */
struct fate {
    enum ending { ENDING_AWAY, ENDING_FAILED, ENDING_STUCK, ENDING_NEVER_BEGAN } ending;
    double start_s, end_s;
    double wanted_bytes, written_bytes;
    double file_bytes; /* the most its files were */
    bool mirrored, advised; /* so it went; so the library recommended when it started */
};

/* A run watched, for a picture: one frame each `every_s`; of host 0. */
struct frame {
    double at_s;
    double *file; /* per VM */
};

struct recording {
    double every_s;
    struct frame *frames;
    size_t count, room;
    uint32_t vms;
    double omega;
    double length_s; /* of the picture; 0: as long as the run */
};

/* 0, or -1 when there is no memory or the library refuses what it must not refuse. `fates`: one per guest, or NULL; without
 * them a bound is computed, which costs as much as the run. recording may be NULL. */
int model_run(const struct run *run, struct outcome *out, struct fate *fates, struct recording *recording);
void recording_free(struct recording *r);
#endif
