/* SPDX-License-Identifier: MIT */
/* The loop around the library. Where the policy is `none`, `mirror` or `fixed` there is no buffer to ask, and the first
 * limit, if any, is the last. */
#include "control.h"
#include "hybrid.h"
#include "migbuf/report.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

/* 0: no buffer is asked. */
static int32_t library_policy(enum policy policy)
{
    switch (policy) {
    case POLICY_PAPER:
        return MIGBUF_POLICY_PAPER;
    case POLICY_LITERAL:
        return MIGBUF_POLICY_LITERAL;
    case POLICY_PLANNER:
    case POLICY_HYBRID:
        return MIGBUF_POLICY_PLANNER;
    default:
        return 0;
    }
}

int control_new(struct control *c, enum policy policy, uint64_t fixed_bytes_per_s, uint64_t omega_bytes,
                uint32_t tick_ms, size_t room, struct link *const link[], uint32_t links,
                char error[FAIL_SIZE])
{
    struct migbuf_buffer_options options;
    int rc;

    *c = (struct control){ .policy = policy, .fixed_bytes_per_s = fixed_bytes_per_s, .routes = links };
    for (uint32_t k = 0; k < links; k++)
        c->route[k].link = link[k];
    c->room = room;
    c->member = calloc(room, sizeof *c->member);
    c->sample = calloc(room * VM_DISKS_MAX, sizeof *c->sample);
    c->decision = calloc(room, sizeof *c->decision);
    c->waiting = calloc(room, sizeof *c->waiting);
    c->in_line = calloc(room, sizeof *c->in_line);
    c->turn = calloc(room, sizeof *c->turn);
    c->ram_turn = calloc(room, sizeof *c->ram_turn);
    c->ram_order = calloc(room, sizeof *c->ram_order);
    if (!c->member || !c->sample || !c->decision || !c->waiting || !c->in_line || !c->turn || !c->ram_turn || !c->ram_order)
        return fail(error, "out of memory");
    migbuf_buffer_options_init(&options, sizeof options);
    options.policy = library_policy(policy);
    options.interval_ms = tick_ms;
    if (options.policy) {
        rc = migbuf_buffer_new(omega_bytes, &options, NULL, &c->buffer);
        c->queue = c->buffer;
    } else { /* literal refuses nobody; its limits are not asked for */
        options.policy = MIGBUF_POLICY_LITERAL;
        rc = migbuf_buffer_new(omega_bytes, &options, NULL, &c->queue);
    }
    return rc ? fail(error, "migbuf_buffer_new: %s", migbuf_strerror(rc)) : 0;
}

void control_free(struct control *c)
{
    migbuf_buffer_free(c->queue);
    free(c->member);
    free(c->sample);
    free(c->decision);
    free(c->waiting);
    free(c->in_line);
    free(c->turn);
    free(c->ram_turn);
    free(c->ram_order);
    *c = (struct control){ .policy = POLICY_NONE };
}

int throttle_new(struct throttle *t, uint64_t id, uint32_t route, struct monitor *monitor, uint32_t disks, bool typed,
                 char error[FAIL_SIZE])
{
    char group[32];
    int rc;

    *t = (struct throttle){ .id = id, .route = route, .monitor = monitor, .disks = disks, .overlay_fd = { -1, -1 } };
    t->watch.disks = disks;
    snprintf(group, sizeof group, "migbuf-vm%llu", (unsigned long long)id);
    rc = migbuf_disk_new(group, NULL, &t->disk);
    if (!rc && typed)
        rc = migbuf_disk_six_rates(t->disk);
    for (uint32_t k = 0; k < disks && !rc; k++)
        rc = migbuf_disk_watch(t->disk, vm_disk_node(k));
    return rc ? fail(error, "migbuf_disk_new: %s", migbuf_strerror(rc)) : 0;
}

void throttle_free(struct throttle *t)
{
    migbuf_disk_free(t->disk);
    t->disk = NULL;
}

uint64_t throttle_queue_bytes(const struct throttle *t)
{
    uint64_t bytes = 0;

    for (uint32_t k = 0; k < t->disks && !t->mirrored; k++)
        bytes += t->geometry[k].queue_bytes;
    return bytes;
}

/* After a restart */

int control_load(struct control *c, const char *text, size_t length, uint64_t now, char error[FAIL_SIZE])
{
    struct migbuf_buffer *loaded;
    int rc = migbuf_buffer_load(text, length, now / MS, NULL, &loaded);

    if (rc)
        return fail(error, "migbuf_buffer_load: %s", migbuf_strerror(rc));
    migbuf_buffer_free(c->buffer);
    c->buffer = c->queue = loaded;
    return 0;
}

int throttle_load(struct throttle *t, uint64_t id, uint32_t route, struct monitor *monitor, uint32_t disks,
                  const char *text, size_t length, char error[FAIL_SIZE])
{
    int rc;

    *t = (struct throttle){ .id = id, .route = route, .monitor = monitor, .disks = disks, .overlay_fd = { -1, -1 } };
    t->watch.disks = disks;
    t->unwatched = true;
    rc = migbuf_disk_load(text, length, NULL, &t->disk);
    return rc ? fail(error, "migbuf_disk_load: %s", migbuf_strerror(rc)) : 0;
}

/* Deciding */

/* Carries out one decision: the limits go to the disk machine, stopping and continuing is left to
 * throttle_run_or_stop(). */
static void apply(struct control *c, struct throttle *t, const struct migbuf_decision *d, uint64_t now)
{
    int rc;

    t->last = *d;
    if (d->action == MIGBUF_ACTION_KEEP || d->action == MIGBUF_ACTION_WAIT)
        return;
    t->decided_ns = d->action == MIGBUF_ACTION_LOWER ? now : 0; /* what lag_ms is about */
    if (d->action == MIGBUF_ACTION_PAUSE || d->action == MIGBUF_ACTION_CANNOT_FIT) {
        t->pauses += !t->stop_wanted;
        t->stop_wanted = true;
        return;
    }
    rc = d->action == MIGBUF_ACTION_REARM ? migbuf_disk_rearm(t->disk) : migbuf_disk_set(t->disk, &d->limits);
    if (rc == MIGBUF_E_RANGE) { /* less than one a second for each disk, by typed calls: the buffer counts on more */
        t->pauses += !t->stop_wanted;
        t->stop_wanted = true;
        return;
    }
    if (rc) {
        migbuf_buffer_outcome(c->buffer, t->id, MIGBUF_OUTCOME_REFUSED);
        c->refused++;
        return;
    }
    t->stop_wanted = false;
    t->untold = c->buffer != NULL;
}

static struct throttle *find(const struct control *c, uint64_t id)
{
    for (size_t k = 0; k < c->members; k++)
        if (c->member[k]->id == id)
            return c->member[k];
    return NULL;
}

/* U is what the link carried, but only when somebody waited for it all the time: an idle link is not a slow one. */
static void measure_link(struct control *c, uint32_t route, uint64_t now)
{
    struct route *r = &c->route[route];
    uint64_t bytes = link_sent_bytes(r->link), waited = link_waited_ns(r->link), passed = now - r->since_ns;

    if (r->since_ns && passed >= 10 * MS && (waited - r->waited_ns) * 10 >= passed * 9) {
        r->bytes_per_s = (uint64_t)((double)(bytes - r->bytes) * 1e9 / (double)passed);
        if (r->bytes_per_s)
            migbuf_buffer_link(c->queue, CONTROL_LINK(route), r->bytes_per_s);
    }
    r->bytes = bytes;
    r->waited_ns = waited;
    r->since_ns = now;
}

static int measure_disks(struct throttle *t, struct migbuf_sample *sample, size_t *samples, char error[FAIL_SIZE])
{
    struct migbuf_error e;
    uint64_t sum = 0;

    for (uint32_t k = 0; k < t->disks; k++) {
        uint64_t bytes = 0;

        if (t->overlay_fd[k] >= 0 && migbuf_cow_file_bytes(t->overlay_fd[k], &bytes, &e))
            return fail(error, "VM %llu: the size of an overlay: %s", (unsigned long long)t->id, e.text);
        sample[(*samples)++] = (struct migbuf_sample){ .id = t->id,
                                                       .disk = k,
                                                       .file_bytes = bytes,
                                                       .written_bytes = t->watch.disk[k].written_bytes,
                                                       .writes = t->watch.disk[k].writes,
                                                       .remaining_bytes = t->left_bytes[k] };
        sum += bytes;
    }
    t->file_bytes = sum;
    return 0;
}

static int measure_files(struct control *c, uint64_t now, char error[FAIL_SIZE])
{
    size_t samples = 0;
    int rc;

    for (size_t i = 0; i < c->members; i++)
        if (measure_disks(c->member[i], c->sample, &samples, error))
            return -1;
    rc = c->buffer ? migbuf_buffer_sample(c->buffer, now / MS, c->sample, samples) : 0;
    return rc ? fail(error, "migbuf_buffer_sample: %s", migbuf_strerror(rc)) : 0;
}

/* Also of those whom we do not limit: what another hand sets is what they get at the target. */
void control_look(struct control *c)
{
    for (size_t i = 0; i < c->members; i++) {
        watch_ask(&c->member[i]->watch);
        migbuf_disk_learn(c->member[i]->disk);
    }
}

bool control_looked(const struct control *c)
{
    for (size_t i = 0; i < c->members; i++)
        if (!watch_answered(&c->member[i]->watch, c->member[i]->monitor))
            return false;
    return true;
}

bool control_is_due(struct control *c)
{
    bool warned = false, unwatched = false;

    for (size_t i = 0; i < c->members; i++) {
        struct throttle *t = c->member[i];

        warned |= watch_warned(&t->watch, t->monitor);
        unwatched |= t->unwatched;
        t->unwatched = false;
    }
    c->warnings += warned;
    return warned || unwatched;
}

/* A warning is due when files grow by more than the buffer has counted on until the next decision. */
static void arm(struct control *c, struct throttle *t)
{
    struct migbuf_buffer_view view = { .size = sizeof view };

    if (migbuf_buffer_view(c->buffer, t->id, &view))
        return;
    watch_arm(&t->watch, view.claim_bytes);
    if (view.reserve_bytes > t->reserve_bytes)
        t->reserve_bytes = view.reserve_bytes;
}

int control_tick(struct control *c, uint64_t now, char error[FAIL_SIZE])
{
    int n;

    c->ticks++;
    if (measure_files(c, now, error))
        return -1;
    for (size_t i = 0; i < c->members && c->buffer; i++) /* a stop that has not come to pass is no stop */
        if (c->member[i]->stop_wanted && c->member[i]->monitor->facts.running && !c->member[i]->hands_off)
            migbuf_buffer_outcome(c->buffer, c->member[i]->id, MIGBUF_OUTCOME_UNKNOWN);
    for (uint32_t k = 0; k < c->routes; k++)
        measure_link(c, k, now);
    if (!c->buffer)
        return 0;
    n = migbuf_buffer_tick(c->buffer, now / MS, c->decision, c->room);
    if (n < 0)
        return fail(error, "migbuf_buffer_tick: %s", migbuf_strerror(n));
    c->unrecorded = c->recorded;
    for (int k = 0; k < n; k++) {
        struct throttle *t = find(c, c->decision[k].id);

        if (!t->mirrored)
            apply(c, t, &c->decision[k], now);
    }
    for (size_t i = 0; i < c->members; i++)
        if (!c->member[i]->mirrored)
            arm(c, c->member[i]);
    return 0;
}

void control_join(struct control *c, struct throttle *t)
{
    c->member[c->members++] = t;
    t->added = true;
    c->unrecorded = c->recorded;
}

static int first_fixed_limit(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE])
{
    struct migbuf_decision d = { .id = t->id,
                                 .action = MIGBUF_ACTION_LOWER,
                                 .growth_bytes_per_s = c->fixed_bytes_per_s };

    if (!policy_throttles(c->policy))
        return 1;
    if (migbuf_limits_from_budget(t->geometry, t->disks, c->fixed_bytes_per_s, &d.limits) != 1)
        return fail(error, "a fixed rate of %llu bytes/s is below one unit (%llu bytes) a second",
                    (unsigned long long)c->fixed_bytes_per_s, (unsigned long long)t->geometry[0].subcluster_bytes);
    apply(c, t, &d, now);
    return 1;
}

/* What it writes in units that its overlay would grow by; 0: not seen. */
static double unit_rate(const struct throttle *t)
{
    return t->seen_bytes_per_s > t->seen_writes_per_s * 65536 ? t->seen_bytes_per_s : t->seen_writes_per_s * 65536;
}

static void describe(const struct throttle *t, struct migbuf_migration *m)
{
    migbuf_migration_init(m, sizeof *m);
    m->id = t->id;
    m->link = CONTROL_LINK(t->route);
    m->rate_bytes_per_s = unit_rate(t) > 0 ? (uint64_t)unit_rate(t) : t->rate_bytes_per_s; /* seen now, or in earlier moves */
}

int control_describe(const struct control *c, const struct throttle *t, struct migbuf_waiting *w)
{
    struct migbuf_migration m;
    int rc;

    describe(t, &m);
    rc = migbuf_admission_waiting(c->queue, &m, t->geometry, t->disks, w);
    if (!rc)
        w->write_bytes_per_s = t->seen_bytes_per_s;
    return rc;
}

/* What takes no room of the buffer's counts on its link all the same: disks of one cluster, without a queue. */
static void mirrored_geometry(const struct throttle *t, struct migbuf_geometry *geometry)
{
    for (uint32_t k = 0; k < t->disks; k++) {
        geometry[k] = t->geometry[k];
        geometry[k].virtual_bytes = geometry[k].cluster_bytes;
        geometry[k].request_bytes = geometry[k].queue_bytes = MIGBUF_NONE;
    }
}

/* As much room as it needs, or none. */
static int add_to(struct migbuf_buffer *b, const struct throttle *t, bool mirrored, struct migbuf_error *e)
{
    struct migbuf_geometry geometry[VM_DISKS_MAX];
    struct migbuf_migration m;

    describe(t, &m);
    memcpy(geometry, t->geometry, sizeof geometry);
    if (mirrored) {
        mirrored_geometry(t, geometry);
        m.rate_bytes_per_s = m.drains_ahead = 0;
    }
    return migbuf_buffer_add(b, &m, geometry, t->disks, e);
}

int control_join_trial(struct migbuf_buffer *b, const struct throttle *t)
{
    int rc = add_to(b, t, t->mirrored, NULL);

    return rc == MIGBUF_E_NOSPACE ? 0 : rc;
}

/* It runs; and the speed of its link, if it is known, is news to a buffer that had nobody on it. 1: yes, 0: no room. */
static int start(struct control *c, struct throttle *t, char error[FAIL_SIZE])
{
    uint64_t u = c->route[t->route].bytes_per_s;
    struct migbuf_error e;
    int rc = add_to(c->queue, t, t->mirrored && c->buffer, &e);

    if (rc == MIGBUF_E_NOSPACE)
        return 0;
    if (rc)
        return fail(error, "migbuf_buffer_add: %s", e.text);
    if (u)
        migbuf_buffer_link(c->queue, CONTROL_LINK(t->route), u);
    return 1;
}

/* Who ran before a restart is in the buffer that was loaded; a queue of its own begins empty. */
static int start_again(struct control *c, struct throttle *t, char error[FAIL_SIZE])
{
    struct migbuf_buffer_view view = { .size = sizeof view };

    return c->buffer || migbuf_buffer_view(c->queue, t->id, &view) == 0 ? 1 : start(c, t, error);
}

/* A guest that stands although nobody decided it should (held for its memory, without room, or its cont never left) is
 * no paused one for the buffer: it goes on as soon as it may. */
int control_found(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE])
{
    struct migbuf_disk_info info = { .size = sizeof info };
    struct migbuf_buffer_view view = { .size = sizeof view };

    if (!t->added)
        return 0;
    if (!c->buffer)
        return start_again(c, t, error) < 0 || first_fixed_limit(c, t, now, error) < 0 ? -1 : 0;
    if (migbuf_disk_info(t->disk, &info) || migbuf_buffer_view(c->buffer, t->id, &view))
        return fail(error, "the buffer knows no VM %llu", (unsigned long long)t->id);
    t->stop_wanted = view.paused && !t->monitor->facts.running && !t->mirrored;
    if (t->mirrored && info.throttled) /* it was held: as long as it takes, and no longer */
        t->hold_bytes_per_s = 1;
    migbuf_buffer_resync(c->buffer, t->id, &info.limits, !t->stop_wanted);
    return 0;
}

/* It is let run, whatever was decided. True: a tick has to come before, so that the buffer counts on it. */
bool control_runs(struct control *c, struct throttle *t)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    if (!c->buffer || !t->added || !t->stop_wanted || migbuf_disk_info(t->disk, &info))
        return false;
    t->stop_wanted = false;
    migbuf_buffer_resync(c->buffer, t->id, &info.limits, 1);
    return true;
}

void control_admit(struct control *c, int32_t admission)
{
    c->admission = admission;
}

static void leave_queue(struct control *c, const struct throttle *t)
{
    for (size_t k = 0; k < c->waits; k++)
        if (c->waiting[k] == t) {
            memmove(c->waiting + k, c->waiting + k + 1, (--c->waits - k) * sizeof *c->waiting);
            return;
        }
}

/* True: it was there already. */
static bool join_queue(struct control *c, struct throttle *t)
{
    for (size_t k = 0; k < c->waits; k++)
        if (c->waiting[k] == t)
            return true;
    c->waiting[c->waits++] = t;
    return false;
}

/* Is it its turn? MIGBUF_VERDICT_…, or -1. Who begins at once with all others under hybrid asks twice: by then it is known who
 * the others are. */
static int may_start(struct control *c, struct throttle *t, char error[FAIL_SIZE])
{
    int rc;

    if (!c->admission)
        return c->policy == POLICY_HYBRID && !join_queue(c, t) ? MIGBUF_VERDICT_NOT_ITS_TURN : MIGBUF_VERDICT_START;
    join_queue(c, t);
    for (size_t i = 0; i < c->members; i++) /* before their QEMUs have answered: who waits may be quicker */
        if (start_again(c, c->member[i], error) < 0)
            return -1;
    for (size_t k = 0; k < c->waits; k++) {
        const struct throttle *w = c->waiting[k];

        rc = control_describe(c, w, &c->in_line[k]);
        if (rc)
            return fail(error, "migbuf_admission_waiting: VM %llu: %s", (unsigned long long)w->id, migbuf_strerror(rc));
        c->in_line[k].arrival = k;
    }
    rc = migbuf_admission_turns(c->queue, c->admission, c->in_line, c->waits, c->turn);
    if (rc < 0)
        return fail(error, "migbuf_admission_turns: %s", migbuf_strerror(rc));
    for (size_t k = 0; k < c->waits; k++)
        if (c->turn[k].id == t->id)
            return c->turn[k].verdict;
    return MIGBUF_VERDICT_NOT_ITS_TURN;
}

/* 1: it is mirrored, 0: it gets an overlay, -1: failed. */
static int choose_way(const struct control *c, const struct throttle *t, char error[FAIL_SIZE])
{
    if (c->policy != POLICY_HYBRID)
        return c->policy == POLICY_MIRROR;
    return t->way == WAY_ADVISED ? hybrid_mirrors(c, t, error) : t->way == WAY_MIRROR;
}

/* Its turn; and what has no room is mirrored, where that is better than to wait for some. 1: it has begun. */
static int start_as_advised(struct control *c, struct throttle *t, int verdict, char error[FAIL_SIZE])
{
    int rc;

    if (verdict != MIGBUF_VERDICT_START && verdict != MIGBUF_VERDICT_NO_ROOM)
        return verdict < 0 ? -1 : 0;
    rc = choose_way(c, t, error);
    if (rc < 0)
        return -1;
    t->mirrored = rc;
    rc = t->mirrored || verdict == MIGBUF_VERDICT_START ? start(c, t, error) : 0;
    if (rc <= 0)
        t->mirrored = false;
    else if (t->mirrored && c->buffer)
        migbuf_buffer_phase(c->buffer, t->id, MIGBUF_PHASE_MIRROR, 0);
    return rc;
}

int control_add(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE])
{
    int rc = start_as_advised(c, t, may_start(c, t, error), error);

    if (rc <= 0)
        return rc;
    leave_queue(c, t);
    control_join(c, t);
    if (!c->buffer)
        return first_fixed_limit(c, t, now, error);
    return control_tick(c, now, error) ? -1 : 1;
}

void control_drained(struct control *c, struct throttle *t, int32_t phase, uint32_t drains_ahead)
{
    if (c->buffer && t->added && !t->mirrored)
        migbuf_buffer_phase(c->buffer, t->id, phase, drains_ahead);
    c->unrecorded = c->recorded;
}

/* Who is next of n that wait: the first of the order, or the one whose time runs out first if the first were. */
static const struct throttle *ram_first(const struct control *c, size_t n, uint64_t now)
{
    const struct throttle *first = find(c, c->ram_turn[c->ram_order[0]].id), *next = first;

    for (size_t k = 1; k < n; k++) {
        const struct throttle *t = find(c, c->ram_turn[c->ram_order[k]].id);

        if ((double)now + (first->ram_s + t->ram_s) * 1e9 > (double)t->ram_until_ns && t->ram_until_ns < next->ram_until_ns)
            next = t;
    }
    return next;
}

bool control_ram_turn(struct control *c, struct throttle *t, uint64_t now)
{
    size_t n = 0;

    t->ram_waits = !t->ram_goes;
    for (size_t k = 0; k < c->members; k++) {
        const struct throttle *other = c->member[k];

        if (other->route == t->route && other != t && other->ram_goes)
            return false;
        if (other->route == t->route && other->ram_waits)
            c->ram_turn[n++] = (struct migbuf_ram_turn){
                .id = other->id,
                .held_bytes = (double)throttle_file_bytes(other),
                .seconds = other->ram_s,
                .ready = 1,
            };
    }
    if (!t->ram_goes && (migbuf_convergence_order(c->ram_turn, n, c->ram_order) < 1 || ram_first(c, n, now) != t))
        return false;
    t->ram_waits = false;
    t->ram_goes = true;
    return true;
}

void control_ram_over(struct throttle *t)
{
    t->ram_waits = t->ram_goes = false;
}

void control_remove(struct control *c, struct throttle *t)
{
    size_t k = 0;

    control_ram_over(t);
    leave_queue(c, t);
    if (!t->added)
        return;
    migbuf_buffer_remove(c->queue, t->id);
    while (c->member[k] != t)
        k++;
    memmove(c->member + k, c->member + k + 1, (--c->members - k) * sizeof *c->member);
    t->added = t->stop_wanted = false;
    t->hold_bytes_per_s = 0;
    t->file_bytes = 0;
    c->unrecorded = c->recorded;
}

/* Carrying out */

bool throttle_holds(const struct control *c, const struct throttle *t)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    if (!policy_throttles(c->policy) || t->mirrored)
        return true;
    if (t->stop_wanted)
        return !t->monitor->facts.running;
    return !migbuf_disk_info(t->disk, &info) && info.throttled;
}

void throttle_count(struct throttle *t)
{
    uint64_t bytes = 0, writes = 0, passed = t->watch.taken_ns - t->counted_ns;

    if (t->watch.taken_ns < t->counted_ns + 1000 * MS)
        return;
    for (uint32_t k = 0; k < t->disks; k++) {
        bytes += t->watch.disk[k].written_bytes;
        writes += t->watch.disk[k].writes;
    }
    if (t->counted_ns && bytes >= t->counted_bytes && writes >= t->counted_writes) {
        t->seen_bytes_per_s = (double)(bytes - t->counted_bytes) * 1e9 / (double)passed;
        t->seen_writes_per_s = (double)(writes - t->counted_writes) * 1e9 / (double)passed;
    }
    t->counted_ns = t->watch.taken_ns;
    t->counted_bytes = bytes;
    t->counted_writes = writes;
}

void control_hold(struct throttle *t, double bytes_per_s)
{
    struct migbuf_limits limits = { .bps_wr = bytes_per_s > 1 ? (uint64_t)bytes_per_s : 1 };
    int rc = 0;

    if (bytes_per_s > 0 && (t->hold_bytes_per_s < 0.9 * bytes_per_s || t->hold_bytes_per_s > 1.1 * bytes_per_s))
        rc = migbuf_disk_set(t->disk, &limits);
    else if (bytes_per_s > 0 || !(t->hold_bytes_per_s > 0))
        return;
    else
        rc = migbuf_disk_restore(t->disk);
    if (!rc) /* else the next look tries again */
        t->hold_bytes_per_s = bytes_per_s;
}

static void note_delay(const struct control *c, struct throttle *t, uint64_t now)
{
    if (!t->decided_ns || !throttle_holds(c, t))
        return;
    if (now - t->decided_ns > t->slowest_ns)
        t->slowest_ns = now - t->decided_ns;
    t->decided_ns = 0;
}

/* Another hand's limits are the host's new ones; ours come back at once. */
static void note_other_hand(const struct control *c, struct throttle *t)
{
    struct migbuf_disk_info info = { .size = sizeof info };
    uint64_t ticks = c->ticks - t->taken_over_ticks;

    if (migbuf_disk_info(t->disk, &info))
        return;
    if (info.taken_over != t->taken_over)
        t->taken_over_ticks = c->ticks;
    else if (t->taken_over_ticks && info.throttled) {
        t->slowest_back_ticks = ticks > t->slowest_back_ticks ? ticks : t->slowest_back_ticks;
        t->taken_over_ticks = 0;
    }
    t->taken_over = info.taken_over;
}

/* What became of a decision must be told: what is refused or unknown would be taken for in force. */
static void tell_outcome(struct control *c, struct throttle *t)
{
    int outcome = migbuf_disk_outcome(t->disk);

    if (!t->untold || outcome <= 0)
        return;
    t->untold = false;
    c->refused += outcome != MIGBUF_OUTCOME_DONE;
    if (t->added)
        migbuf_buffer_outcome(c->buffer, t->id, outcome);
}

/* Feeds what came back, or that nothing did, to the disk machine. */
static int take_reply(struct control *c, struct throttle *t, char error[FAIL_SIZE])
{
    struct call *call = &t->monitor->call[CALL_DISK];
    int result = call->state == CALL_ANSWERED ? 0 : call->state == CALL_REFUSED ? MIGBUF_E_PEER : MIGBUF_E_TIMEOUT;
    struct migbuf_error e = { .text = "QEMU refused it" };
    int rc = migbuf_report_to_disk(t->disk, t->command, result, call->text, call->text_bytes, &e);

    if (rc < 0)
        fail(error, "%s: %s", call->command, result == MIGBUF_E_PEER ? call->text : e.text);
    monitor_taken(t->monitor, CALL_DISK);
    note_other_hand(c, t);
    return rc < 0 && rc != MIGBUF_E_UNKNOWN ? -1 : 0; /* unknown: the next look asks, and goes on */
}

static bool is_unknown(const struct throttle *t)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    return !migbuf_disk_info(t->disk, &info) && info.unknown;
}

int throttle_pump(struct control *c, struct throttle *t, uint64_t now, char error[FAIL_SIZE])
{
    struct migbuf_disk_command command;

    if (t->monitor->call[CALL_DISK].state == CALL_WAITING)
        return 1;
    if (t->monitor->call[CALL_DISK].state != CALL_IDLE && take_reply(c, t, error)) {
        tell_outcome(c, t);
        return -1;
    }
    if (c->unrecorded)
        return 1;
    if (migbuf_disk_next(t->disk, &command) != 1) {
        tell_outcome(c, t);
        note_delay(c, t, now);
        return is_unknown(t);
    }
    t->command = command.kind;
    monitor_send(t->monitor, CALL_DISK, command.name, command.arguments, now);
    return 1;
}

/* A guest that found no room goes on when there is some: its write is repeated then. Not more than twice a second, for
 * each attempt that fails stops it again. */
static bool may_go_on(struct control *c, struct throttle *t, uint64_t free_bytes, uint64_t now)
{
    if (!throttle_holds(c, t))
        return false;
    if (!t->monitor->facts.no_space)
        return true;
    if (!policy_goes_on(c->policy) || free_bytes < throttle_queue_bytes(t) + (1u << 20) || now - t->cont_ns < 500 * MS)
        return false;
    t->cont_ns = now;
    return true;
}

uint64_t throttle_file_bytes(const struct throttle *t)
{
    uint64_t sum = 0, bytes;

    for (uint32_t k = 0; k < t->disks; k++)
        if (t->overlay_fd[k] >= 0 && !migbuf_cow_file_bytes(t->overlay_fd[k], &bytes, NULL))
            sum += bytes;
    return sum;
}

void throttle_drained(struct throttle *t, uint64_t before_bytes)
{
    uint64_t after = throttle_file_bytes(t);

    if (after > before_bytes && after - before_bytes > t->leak_bytes)
        t->leak_bytes = after - before_bytes;
}

/* Where no error tells in time: what all of them may still pour must fit. */
static bool is_nearly_full(const struct control *c, uint64_t free_bytes)
{
    uint64_t least = 1u << 20;

    for (size_t i = 0; i < c->members; i++)
        least += throttle_queue_bytes(c->member[i]);
    return free_bytes < least;
}

void throttle_run_or_stop(struct control *c, struct throttle *t, uint64_t free_bytes, uint64_t now)
{
    struct call *call = &t->monitor->call[CALL_GUEST];
    bool running = t->monitor->facts.running, full = c->fails_when_full && !t->mirrored && is_nearly_full(c, free_bytes);

    if (running && !t->monitor->facts.no_space && t->cont_ns && now - t->cont_ns > 100 * MS)
        t->went_on = true;
    if (call->state == CALL_ANSWERED || call->state == CALL_REFUSED) {
        if (!strcmp(call->command, "stop")) {
            throttle_drained(t, t->before_stop_bytes);
            if (call->state == CALL_ANSWERED && c->buffer && t->added && t->stop_wanted && !running)
                migbuf_buffer_outcome(c->buffer, t->id, MIGBUF_OUTCOME_DONE); /* QEMU answers when it has drained */
        }
        monitor_taken(t->monitor, CALL_GUEST);
    }
    if (!t->added || t->hands_off || c->unrecorded || call->state == CALL_WAITING)
        return;
    if ((t->stop_wanted || full) && running) {
        t->before_stop_bytes = throttle_file_bytes(t);
        monitor_send(t->monitor, CALL_GUEST, "stop", NULL, now);
    } else if (!t->stop_wanted && !full && !running && may_go_on(c, t, free_bytes, now)) {
        monitor_send(t->monitor, CALL_GUEST, "cont", NULL, now);
    } else {
        note_delay(c, t, now);
    }
}
