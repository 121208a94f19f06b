/* SPDX-License-Identifier: MIT */
/* Runs of the model, and what they say together. See search.h. */
#include "search.h"
#include "workers.h"
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct sample_run {
    bool is_done, has_failed;
};

/* The work of one trial, as the workers see it. */
struct batch {
    const struct question *question;
    struct trial *trial;
    size_t ended, all;
};

#define WORTH_PART 0.1 /* more of its writes, before a mirror is worth its trouble: as in migbuf/outlook.h */
#define QUIET_NS UINT64_C(1000000000) /* what is over by then needs no progress */

uint64_t size_at(int k)
{
    return (UINT64_C(8) << 20) * (uint64_t)(8 + k % 8) << (k / 8);
}

uint64_t size_up(double bytes)
{
    int k = 0;

    while (k < SIZES - 1 && (double)size_at(k) < bytes)
        k++;
    return size_at(k);
}

static int trial_new(const struct question *q, uint64_t bytes, struct trial *t, char error[FAIL_SIZE])
{
    size_t fates = (size_t)q->seeds * q->guests->count;

    *t = (struct trial){ .bytes = bytes, .memory_bytes = fates * sizeof *t->fates + q->seeds * sizeof *t->runs };
    t->fates = workers_memory(t->memory_bytes);
    t->runs = (struct sample_run *)(t->fates + fates);
    return t->fates ? 0 : fail(error, "no memory for %u runs", q->seeds);
}

static void trial_free(struct trial *t)
{
    if (t->fates)
        munmap(t->fates, t->memory_bytes);
    t->fates = NULL;
}

static struct run run_of(const struct question *q, uint64_t bytes, size_t k)
{
    return (struct run){ .guests = q->guests,
                         .policy = q->policy,
                         .admission = q->admission,
                         .seed = q->seed + k,
                         .hosts = 1,
                         .omega = (double)bytes,
                         .interval_s = 1 };
}

static bool is_done(const void *of, size_t k)
{
    return ((const struct batch *)of)->trial->runs[k].is_done;
}

static void run_one(void *of, size_t k)
{
    const struct batch *b = of;
    struct run run = run_of(b->question, b->trial->bytes, k);
    struct outcome out;

    b->trial->runs[k].has_failed =
        model_run(&run, &out, b->trial->fates + k * b->question->guests->count, NULL) != 0;
    b->trial->runs[k].is_done = true;
}

static void ran_one(void *of, size_t k)
{
    struct batch *b = of;

    (void)k;
    b->ended++;
    if (!b->question->quiet && now_ns() - b->question->begun_ns > QUIET_NS && isatty(2))
        workers_progress(b->ended, b->all);
}

/* Those of the first `seeds` runs that were not done yet. */
static int trial_run(const struct question *q, struct trial *t, uint32_t seeds, char error[FAIL_SIZE])
{
    struct batch b = { .question = q, .trial = t };
    const struct workers w = { .of = &b, .count = seeds, .is_done = is_done, .run = run_one, .ran = ran_one };
    uint32_t failed = 0;
    int rc;

    for (uint32_t k = 0; k < seeds; k++)
        b.all += !t->runs[k].is_done;
    rc = workers_run(&w, q->jobs < b.all ? q->jobs : (uint32_t)b.all, error);
    for (uint32_t k = 0; k < seeds; k++)
        failed += t->runs[k].has_failed;
    return rc ? rc : failed ? fail(error, "%u runs of the model failed: this is a defect", failed) : 0;
}

static double part_of(const struct fate *f)
{
    return f->wanted_bytes > 0 ? fmin(1, f->written_bytes / f->wanted_bytes) : 1;
}

static bool is_short(const struct fate *f, const struct fate *roomy)
{
    return part_of(f) < part_of(roomy) - SEEN_PART || (f->ending != ENDING_AWAY && roomy->ending == ENDING_AWAY);
}

/* Nobody is short of room in the first `seeds` runs. */
static bool is_enough(const struct search *s, const struct trial *t, uint32_t seeds)
{
    for (size_t k = 0; k < (size_t)seeds * s->question->guests->count; k++)
        if (is_short(&t->fates[k], &s->roomy.fates[k]))
            return false;
    return true;
}

/* What they say */

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static struct spread spread_of(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare_numbers);
    return (struct spread){ values[0], values[(count - 1) / 2], values[count - 1] };
}

static double start_of(const struct fate *f)
{
    return f->ending == ENDING_NEVER_BEGAN ? INFINITY : f->start_s;
}

static double away_of(const struct fate *f)
{
    return f->ending == ENDING_AWAY ? f->end_s : INFINITY;
}

static double file_of(const struct fate *f)
{
    return f->file_bytes;
}

/* scratch: one number per seed */
static struct spread spread_over(const struct question *q, const struct trial *t, size_t guest, double (*of)(const struct fate *),
                                 double *scratch)
{
    for (uint32_t k = 0; k < q->seeds; k++)
        scratch[k] = of(&t->fates[k * q->guests->count + guest]);
    return spread_of(scratch, q->seeds);
}

static int compare_starts(const void *a, const void *b)
{
    const struct prospect *x = a, *y = b;

    if (x->start_s.middle != y->start_s.middle)
        return x->start_s.middle < y->start_s.middle ? -1 : 1;
    return (x->guest > y->guest) - (x->guest < y->guest);
}

static struct prospect prospect_of(const struct search *s, const struct trial *t, uint32_t guest, double *scratch)
{
    const struct question *q = s->question;
    uint32_t advised = 0, mirrored = 0;
    struct prospect p = { .guest = &q->guests->list[guest],
                          .start_s = spread_over(q, t, guest, start_of, scratch),
                          .away_s = spread_over(q, t, guest, away_of, scratch),
                          .part = spread_over(q, t, guest, part_of, scratch),
                          .file_bytes = spread_over(q, t, guest, file_of, scratch) };

    for (uint32_t k = 0; k < q->seeds; k++) {
        size_t at = k * q->guests->count + guest;
        const struct fate *f = &t->fates[at];

        p.runs_short += is_short(f, &s->roomy.fates[at]);
        p.runs_away += f->ending == ENDING_AWAY;
        advised += f->advised;
        mirrored += f->mirrored;
    }
    p.is_advised = 2 * advised > q->seeds;
    p.is_mirrored = 2 * mirrored > q->seeds;
    return p;
}

/* Would those for whom a mirror is recommended get more by it? The same runs once more, with policy hybrid, say. */
static int try_mirror(const struct search *s, struct answer *a, char error[FAIL_SIZE])
{
    struct question q = *s->question;
    struct trial t = { 0 };
    double *scratch = calloc(q.seeds, sizeof *scratch);
    bool any = false;
    int rc = 0;

    for (uint32_t g = 0; g < a->count; g++) {
        a->guests[g].is_advised &= a->guests[g].part.least < FREE_PART && q.policy != POLICY_HYBRID;
        any |= a->guests[g].is_advised;
    }
    q.policy = POLICY_HYBRID;
    if (any)
        rc = !scratch ? fail(error, "out of memory") : trial_new(&q, a->bytes, &t, error) || trial_run(&q, &t, q.seeds, error);
    for (uint32_t g = 0; any && !rc && g < a->count; g++) {
        struct prospect *p = &a->guests[g];

        p->mirror_part = spread_over(&q, &t, (size_t)(p->guest - q.guests->list), part_of, scratch);
        p->is_advised &= p->mirror_part.middle >= p->part.middle + WORTH_PART;
    }
    free(scratch);
    trial_free(&t);
    return rc ? -1 : 0;
}

static int sum_up(const struct search *s, const struct trial *t, double deadline_s, struct answer *a, char error[FAIL_SIZE])
{
    const struct question *q = s->question;
    double *scratch = calloc(q->seeds, sizeof *scratch);

    *a = (struct answer){ .bytes = t->bytes, .runs = q->seeds, .count = q->guests->count };
    a->guests = calloc(a->count, sizeof *a->guests);
    if (!a->guests || !scratch) {
        free(scratch);
        return fail(error, "out of memory");
    }
    a->is_enough = is_enough(s, t, q->seeds);
    for (uint32_t g = 0; g < a->count; g++)
        a->guests[g] = prospect_of(s, t, g, scratch);
    for (uint32_t k = 0; k < q->seeds; k++) {
        scratch[k] = 0;
        for (uint32_t g = 0; g < a->count; g++)
            scratch[k] = fmax(scratch[k], away_of(&t->fates[k * a->count + g]));
        a->runs_away += isfinite(scratch[k]) ? 1 : 0;
        a->runs_in_time += scratch[k] <= deadline_s && isfinite(scratch[k]);
    }
    a->away_s = spread_of(scratch, q->seeds);
    qsort(a->guests, a->count, sizeof *a->guests, compare_starts);
    free(scratch);
    return 0;
}

void answer_free(struct answer *a)
{
    free(a->guests);
    a->guests = NULL;
}

int search_begin(struct search *s, const struct question *q, char error[FAIL_SIZE])
{
    double disks = 0;

    *s = (struct search){ .question = q };
    for (uint32_t g = 0; g < q->guests->count; g++)
        disks += q->guests->list[g].disk_bytes;
    while (s->roomy_at < SIZES - 1 && (double)size_at(s->roomy_at) < 2 * disks)
        s->roomy_at++;
    return trial_new(q, size_at(s->roomy_at), &s->roomy, error) || trial_run(q, &s->roomy, q->seeds, error) ? -1 : 0;
}

void search_end(struct search *s)
{
    trial_free(&s->roomy);
}

int search_answer(const struct search *s, uint64_t bytes, double deadline_s, struct answer *a, char error[FAIL_SIZE])
{
    const struct question *q = s->question;
    struct trial t;
    int rc = trial_new(q, bytes, &t, error);

    if (!rc)
        rc = trial_run(q, &t, q->seeds, error);
    if (!rc)
        rc = sum_up(s, &t, deadline_s, a, error);
    if (!rc)
        rc = try_mirror(s, a, error);
    trial_free(&t);
    return rc;
}

/* Is it enough for everybody? The first run alone says often that it is not. 1, 0, or -1. */
static int try_size(const struct search *s, uint64_t bytes, char error[FAIL_SIZE])
{
    const struct question *q = s->question;
    struct trial t;
    int rc = trial_new(q, bytes, &t, error);

    for (uint32_t seeds = 1; !rc; seeds = q->seeds) {
        rc = trial_run(q, &t, seeds, error);
        if (!rc && (seeds == q->seeds || !is_enough(s, &t, seeds))) {
            rc = is_enough(s, &t, seeds);
            break;
        }
    }
    trial_free(&t);
    return rc;
}

/* Halves what lies between a size that is not enough (or none, -1) and one that is. */
int search_smallest(const struct search *s, double deadline_s, struct answer *a, char error[FAIL_SIZE])
{
    int low = -1, high = s->roomy_at, rc;

    while (high - low > 1) {
        int middle = low + (high - low) / 2;

        rc = try_size(s, size_at(middle), error);
        if (rc < 0)
            return rc;
        *(rc ? &high : &low) = middle;
    }
    rc = search_answer(s, size_at(high), deadline_s, a, error);
    a->is_smallest = !rc;
    return rc;
}

int search_record(const struct question *q, uint64_t bytes, struct recording *r, char error[FAIL_SIZE])
{
    struct run run = run_of(q, bytes, 0);
    struct fate *fates = calloc(q->guests->count, sizeof *fates);
    struct outcome out;
    int rc = fates ? model_run(&run, &out, fates, r) : -1;

    free(fates);
    return rc ? fail(error, "out of memory") : 0;
}
