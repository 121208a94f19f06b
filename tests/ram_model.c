/* SPDX-License-Identifier: MIT */
#include "ram_model.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const model_cap[MODEL_CAPS] = { "events", "pause-before-switchover", "auto-converge", "postcopy-ram", "postcopy-blocktime",
                                            "xbzrle", "multifd", "postcopy-preempt", "dirty-limit", "release-ram", "zero-blocks",
                                            "return-path" };
const char *const model_par[MODEL_PARS] = { "max-bandwidth", "max-postcopy-bandwidth", "downtime-limit", "cpu-throttle-initial",
                                            "cpu-throttle-increment", "max-cpu-throttle", "throttle-trigger-threshold",
                                            "cpu-throttle-tailslow", "avail-switchover-bandwidth", "xbzrle-cache-size",
                                            "multifd-channels", "multifd-qatzip-level", "announce-rounds", "x-checkpoint-delay" };
static const uint64_t usual[MODEL_PARS] = { 134217728, 0, 300, 20, 10, 99, 50, 0, 0, 67108864, 2, 1, 5, 20000 };
enum { BANDWIDTH, POST_BANDWIDTH, LIMIT, INITIAL, INCREMENT, MOST, TRIGGER, TAILSLOW, AVAIL, CACHE, CHANNELS, QATZIP };
enum { EVENTS, PAUSE, CONVERGE, POSTCOPY, BLOCKTIME, XBZRLE, MULTIFD, PREEMPT, DIRTY_LIMIT };

static int index_in(const char *const *names, int n, const char *name)
{
    for (int k = 0; k < n; k++)
        if (!strcmp(names[k], name))
            return k;
    return -1;
}

int model_cap_index(const char *name)
{
    return index_in(model_cap, MODEL_CAPS, name);
}

int model_par_index(const char *name)
{
    return index_in(model_par, MODEL_PARS, name);
}

/* QEMU */

static int refuse(struct ram_model *m, const char *complaint)
{
    m->complaint = complaint;
    return -1;
}

void model_begin(struct ram_model *m)
{
    for (int s = 0; s < 2; s++) {
        m->side[s] = (struct model_side){ .alive = 1 };
        memcpy(m->side[s].pars, usual, sizeof usual);
    }
    m->side[0].running = 1;
    strcpy(m->side[0].status, "paused");
    strcpy(m->side[1].status, "inmigrate");
    m->link_up = 1;
}

static void set_phase(struct ram_model *m, int side, int32_t phase)
{
    if (m->side[side].phase != phase)
        m->events[side] |= 1;
    m->side[side].phase = phase;
}

static int is_running(int32_t phase)
{
    return (phase >= MIGBUF_RAM_PHASE_SETUP && phase <= MIGBUF_RAM_PHASE_RECOVER) || phase == MIGBUF_RAM_PHASE_CANCELLING;
}

static int is_post(int32_t phase)
{
    return phase >= MIGBUF_RAM_PHASE_POSTCOPY && phase <= MIGBUF_RAM_PHASE_RECOVER;
}

static void stop_vm(struct ram_model *m, const char *status)
{
    struct model_side *s = &m->side[0];

    if (s->running)
        m->events[0] |= 4;
    s->running = 0;
    strcpy(s->status, status);
}

/* What QEMU does itself when pre-copy has not come through: it lets a guest run that it has stopped. */
static void go_home(struct ram_model *m, int32_t phase)
{
    struct model_side *s = &m->side[0], *t = &m->side[1];
    int stood = !strcmp(s->status, "finish-migrate");

    set_phase(m, 0, phase);
    if (!s->running && stood) {
        strcpy(s->status, m->is_new && !m->was_running ? "paused" : "postmigrate"); /* 8.1 and later know what it was */
        /* in the pause before post-copy 7.2 forgets it; after the last byte nobody does it */
        if (m->was_running && ((!m->post_asked && !m->continued) || m->waits_for_target)) {
            s->running = 1;
            m->events[0] |= 8;
        }
    }
    if (t->alive && t->phase == MIGBUF_RAM_PHASE_ACTIVE && !t->running) {
        set_phase(m, 1, MIGBUF_RAM_PHASE_FAILED);
        t->alive = 0; /* it exits */
    }
    if (m->waits_for_target) { /* the target's guest runs, too, if it is there */
        m->let_two_run = t->alive;
        m->waits_for_target = 0;
        if (t->alive && !t->unaware)
            set_phase(m, 1, MIGBUF_RAM_PHASE_PAUSED);
    }
}

static const char *bad_caps(const struct ram_model *m, int side, const int *caps)
{
    if (caps[PREEMPT] && !caps[POSTCOPY])
        return "Postcopy preempt requires postcopy-ram";
    if (caps[POSTCOPY] && side == 1 && m->no_userfaultfd)
        return "Postcopy is not supported";
    if (m->is_new && caps[MULTIFD] && (caps[XBZRLE] || caps[POSTCOPY]))
        return "Multifd is not compatible";
    if (caps[DIRTY_LIMIT] && caps[CONVERGE])
        return "dirty-limit conflicts with auto-converge";
    return NULL;
}

static int set_caps(struct ram_model *m, int side, json_t *a)
{
    json_t *list = json_object_get(a, "capabilities"), *entry;
    int caps[MODEL_CAPS];
    size_t i;

    if (is_running(m->side[0].phase) && side == 0)
        return refuse(m, "There's a migration process in progress");
    memcpy(caps, m->side[side].caps, sizeof caps);
    json_array_foreach(list, i, entry)
    {
        int k = model_cap_index(json_string_value(json_object_get(entry, "capability")));

        if (k < 0 || !json_is_boolean(json_object_get(entry, "state")) || (k == DIRTY_LIMIT && !m->is_new))
            return refuse(m, "no such capability");
        caps[k] = json_is_true(json_object_get(entry, "state"));
    }
    if (bad_caps(m, side, caps))
        return refuse(m, bad_caps(m, side, caps));
    memcpy(m->side[side].caps, caps, sizeof caps);
    return 0;
}

static int set_pars(struct ram_model *m, int side, json_t *a)
{
    uint64_t x[MODEL_PARS];
    const char *key;
    json_t *v;

    memcpy(x, m->side[side].pars, sizeof x);
    json_object_foreach(a, key, v)
    {
        int k = model_par_index(key);

        if (k < 0 || (!m->is_new && (k == AVAIL || k == QATZIP)) || (k == TAILSLOW) != json_is_boolean(v))
            return refuse(m, "Parameter is unexpected");
        x[k] = k == TAILSLOW ? (uint64_t)json_is_true(v) : (uint64_t)json_integer_value(v);
    }
    if (x[LIMIT] > 2000000 || x[INITIAL] < 1 || x[INITIAL] > 99 || x[INCREMENT] < 1 || x[INCREMENT] > 99 || x[MOST] < x[INITIAL] ||
        x[MOST] > 99 || x[TRIGGER] < 1 || x[TRIGGER] > 100 || x[CACHE] < 4096 || x[CACHE] & (x[CACHE] - 1) || x[CHANNELS] < 1 ||
        x[CHANNELS] > 255)
        return refuse(m, "Parameter is out of its range");
    memcpy(m->side[side].pars, x, sizeof x);
    return 0;
}

static int migrate(struct ram_model *m, json_t *a)
{
    struct model_side *s = &m->side[0], *t = &m->side[1];

    if (json_is_true(json_object_get(a, "resume"))) {
        if (s->phase != MIGBUF_RAM_PHASE_PAUSED)
            return refuse(m, "Cannot resume if there is no paused migration");
        if (t->alive && t->recovering && m->link_up) {
            t->recovering = 0;
            set_phase(m, 0, MIGBUF_RAM_PHASE_POSTCOPY);
            set_phase(m, 1, MIGBUF_RAM_PHASE_POSTCOPY);
        }
        return 0;
    }
    if (is_running(s->phase))
        return refuse(m, "There's a migration process in progress");
    if (!s->running && !strcmp(s->status, "postmigrate"))
        return refuse(m, "Can't migrate the vm that was paused due to previous migration");
    m->was_running = s->running;
    m->post_asked = m->continued = m->high = m->waits_for_target = 0;
    m->throttle_percent = m->downtime_s = 0;
    memory_begin(&m->memory);
    set_phase(m, 0, MIGBUF_RAM_PHASE_SETUP);
    return 0;
}

static int cancel(struct ram_model *m)
{
    struct model_side *s = &m->side[0];

    if (is_post(s->phase) || m->waits_for_target) {
        if (m->is_new)
            return refuse(m, "Postcopy migration in progress, cannot cancel.");
        m->stuck = 1; /* for ever */
        set_phase(m, 0, MIGBUF_RAM_PHASE_CANCELLING);
        return 0;
    }
    if (is_running(s->phase)) {
        m->stuck = m->hangs && s->phase == MIGBUF_RAM_PHASE_ACTIVE && s->caps[PAUSE];
        set_phase(m, 0, MIGBUF_RAM_PHASE_CANCELLING); /* its thread needs a moment */
    }
    return 0;
}

static int go_on(struct ram_model *m, json_t *a)
{
    const char *state = json_string_value(json_object_get(a, "state"));
    struct model_side *s = &m->side[0];

    if (!strcmp(state, "cancelling") && s->phase == MIGBUF_RAM_PHASE_CANCELLING) {
        go_home(m, MIGBUF_RAM_PHASE_CANCELLED);
        return 0;
    }
    if (strcmp(state, "pre-switchover") || s->phase != MIGBUF_RAM_PHASE_PRE_SWITCHOVER)
        return refuse(m, "Migration not in expected state");
    m->continued = 1; /* its thread needs a moment */
    return 0;
}

static int pause_post(struct ram_model *m, int side)
{
    struct model_side *s = &m->side[0], *t = &m->side[1];

    if (m->side[side].phase != MIGBUF_RAM_PHASE_POSTCOPY)
        return refuse(m, "migrate-pause is currently only supported during postcopy-active state");
    if (s->phase == MIGBUF_RAM_PHASE_POSTCOPY)
        set_phase(m, 0, MIGBUF_RAM_PHASE_PAUSED);
    if (t->phase == MIGBUF_RAM_PHASE_POSTCOPY)
        set_phase(m, 1, MIGBUF_RAM_PHASE_PAUSED);
    t->unaware = 0;
    return 0;
}

static int cont(struct ram_model *m, int side)
{
    struct model_side *s = &m->side[side];

    if (!strcmp(s->status, "inmigrate") || !strcmp(s->status, "finish-migrate"))
        return refuse(m, "Migration is not finalized yet");
    if (!s->running)
        m->events[side] |= 8;
    s->running = 1;
    return 0;
}

int model_execute(struct ram_model *m, int side, const char *name, const char *arguments)
{
    char text[4096] = "{}", *beyond;
    json_t *a;
    int rc;

    if (arguments)
        snprintf(text, sizeof text, "%s", arguments);
    beyond = strstr(text, "18446744073709551615"); /* jansson knows int64 only; QEMU takes -1 for it, too */
    if (beyond)
        memcpy(beyond, "                  -1", 20);
    a = json_loads(text, 0, NULL);
    if (!a)
        abort();
    if (!strcmp(name, "migrate-set-capabilities"))
        rc = set_caps(m, side, a);
    else if (!strcmp(name, "migrate-set-parameters"))
        rc = set_pars(m, side, a);
    else if (!strcmp(name, "migrate-incoming") && side == 1) {
        rc = m->side[1].listening ? refuse(m, "The incoming migration has already been started") : 0;
        m->side[1].listening = 1;
    } else if (!strcmp(name, "migrate") && side == 0)
        rc = migrate(m, a);
    else if (!strcmp(name, "migrate-start-postcopy") && side == 0) {
        rc = m->side[0].caps[POSTCOPY] ? 0 : refuse(m, "Enable postcopy with migrate_set_capability before the start of migration");
        m->post_asked |= !rc;
    } else if (!strcmp(name, "migrate-continue") && side == 0)
        rc = go_on(m, a);
    else if (!strcmp(name, "migrate_cancel") && side == 0)
        rc = cancel(m);
    else if (!strcmp(name, "cont"))
        rc = cont(m, side);
    else if (!strcmp(name, "migrate-pause"))
        rc = pause_post(m, side);
    else if (!strcmp(name, "migrate-recover") && side == 1) {
        rc = m->side[1].phase == MIGBUF_RAM_PHASE_PAUSED ? 0 : refuse(m, "Migrate recover can only be run when postcopy is paused.");
        m->side[1].recovering |= !rc;
    } else
        abort(); /* nothing else is ever to be sent */
    json_decref(a);
    return rc;
}

/* The last step: the target has all of it, or the rest comes after it. */
static void hand_over(struct ram_model *m)
{
    struct model_side *s = &m->side[0], *t = &m->side[1];
    int post = m->post_asked && s->caps[POSTCOPY] && t->caps[POSTCOPY];
    double dirty, sent;

    stop_vm(m, "finish-migrate");
    if (m->late_failure) { /* the link broke when the last byte was over there; the source does not know */
        go_home(m, MIGBUF_RAM_PHASE_FAILED);
        t->alive = 1;
        set_phase(m, 1, MIGBUF_RAM_PHASE_COMPLETED);
        t->running = m->was_running;
        return;
    }
    if (m->load_fails && !post) {
        set_phase(m, 0, MIGBUF_RAM_PHASE_COMPLETED);
        strcpy(s->status, "postmigrate");
        set_phase(m, 1, MIGBUF_RAM_PHASE_FAILED);
        t->alive = 0;
        return;
    }
    memory_sync(&m->memory, &dirty, &sent);
    t->running = m->was_running;
    strcpy(t->status, "paused");
    m->events[1] |= t->running ? 8 : 0;
    m->waits_for_target = post && m->is_new == 2;
    set_phase(m, 0, m->waits_for_target ? MIGBUF_RAM_PHASE_DEVICE : post ? MIGBUF_RAM_PHASE_POSTCOPY : MIGBUF_RAM_PHASE_COMPLETED);
    set_phase(m, 1, post ? MIGBUF_RAM_PHASE_POSTCOPY : MIGBUF_RAM_PHASE_COMPLETED);
    if (!post)
        strcpy(s->status, "postmigrate");
    m->downtime_s = m->memory.time_s - m->stopped_s + memory_left(&m->memory) / m->link_bytes_per_s;
}

/* ram.c, migration_trigger_throttle */
static void sync_now(struct ram_model *m)
{
    const struct model_side *s = &m->side[0];
    double dirty, sent;

    m->events[0] |= 2;
    if (!memory_sync(&m->memory, &dirty, &sent) || !s->caps[CONVERGE])
        return;
    if (dirty > sent * (double)s->pars[TRIGGER] / 100 && ++m->high >= 2) {
        m->high = 0;
        m->throttle_percent = m->throttle_percent > 0 ? m->throttle_percent + (double)s->pars[INCREMENT] : (double)s->pars[INITIAL];
        m->throttle_percent = fmin(m->throttle_percent, (double)s->pars[MOST]);
    }
}

static void step_active(struct ram_model *m, double dt)
{
    struct model_side *s = &m->side[0];
    double rate = fmin(m->link_bytes_per_s, s->pars[BANDWIDTH] ? (double)s->pars[BANDWIDTH] : 1e18);
    double fits = rate * (double)s->pars[LIMIT] / 1000;

    memory_step(&m->memory, dt, m->throttle_percent, s->running, rate * dt);
    if (memory_left(&m->memory) > fits && memory_left(&m->memory) > 10000 && !m->post_asked) {
        if (m->is_new && s->caps[CONVERGE] && m->memory.sync_count > 1 && m->memory.time_s - m->memory.sync_s > 5)
            sync_now(m); /* cpu-throttle.c, from 9.2 on */
        return;
    }
    if (!m->post_asked) {
        sync_now(m);
        if (memory_left(&m->memory) > fits)
            return;
    }
    m->stopped_s = m->memory.time_s;
    m->was_running = s->running;
    stop_vm(m, "finish-migrate");
    if (s->caps[PAUSE])
        set_phase(m, 0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    else
        hand_over(m);
}

static void step(struct ram_model *m, double dt)
{
    struct model_side *s = &m->side[0], *t = &m->side[1];
    int connected = t->alive && m->link_up;

    if (!s->alive) {
        if (t->phase == MIGBUF_RAM_PHASE_ACTIVE)
            model_kill(m, 1);
        if (t->phase == MIGBUF_RAM_PHASE_POSTCOPY)
            set_phase(m, 1, MIGBUF_RAM_PHASE_PAUSED);
        return;
    }
    switch (s->phase) {
    case MIGBUF_RAM_PHASE_SETUP:
        if (connected && t->listening && t->phase == MIGBUF_RAM_PHASE_NONE) {
            set_phase(m, 0, MIGBUF_RAM_PHASE_ACTIVE);
            set_phase(m, 1, MIGBUF_RAM_PHASE_ACTIVE);
        } else
            go_home(m, MIGBUF_RAM_PHASE_FAILED);
        break;
    case MIGBUF_RAM_PHASE_ACTIVE:
        if (!connected)
            go_home(m, MIGBUF_RAM_PHASE_FAILED);
        else
            step_active(m, dt);
        break;
    case MIGBUF_RAM_PHASE_PRE_SWITCHOVER: /* it sends nothing, and notices nothing */
        m->memory.time_s += dt;
        if (m->continued)
            set_phase(m, 0, MIGBUF_RAM_PHASE_DEVICE);
        break;
    case MIGBUF_RAM_PHASE_DEVICE:
        if (!connected)
            go_home(m, MIGBUF_RAM_PHASE_FAILED);
        else if (!m->waits_for_target)
            hand_over(m);
        else if ((m->device_s -= dt) < 0) {
            m->waits_for_target = 0;
            set_phase(m, 0, MIGBUF_RAM_PHASE_POSTCOPY);
        }
        break;
    case MIGBUF_RAM_PHASE_CANCELLING:
        if (!m->stuck)
            go_home(m, MIGBUF_RAM_PHASE_CANCELLED);
        break;
    case MIGBUF_RAM_PHASE_POSTCOPY:
        if (!t->alive || !m->link_up) {
            set_phase(m, 0, MIGBUF_RAM_PHASE_PAUSED);
            if (t->alive && !t->unaware)
                set_phase(m, 1, MIGBUF_RAM_PHASE_PAUSED);
            break;
        }
        memory_step(&m->memory, dt, 0, 0, m->link_bytes_per_s * dt);
        if (memory_left(&m->memory) < 1) {
            set_phase(m, 0, MIGBUF_RAM_PHASE_COMPLETED);
            set_phase(m, 1, MIGBUF_RAM_PHASE_COMPLETED);
            strcpy(s->status, "postmigrate");
        }
        break;
    default:
        break;
    }
}

void model_run(struct ram_model *m, double seconds)
{
    for (double dt = 0.05; seconds > 0; seconds -= dt)
        step(m, fmin(dt, seconds));
}

void model_report(const struct ram_model *m, int side, struct migbuf_ram_report *r)
{
    const struct model_side *s = &m->side[side];

    *r = (struct migbuf_ram_report){ .phase = s->phase };
    if (side == 1 || s->phase == MIGBUF_RAM_PHASE_NONE || s->phase == MIGBUF_RAM_PHASE_SETUP || s->phase == MIGBUF_RAM_PHASE_FAILED ||
        s->phase == MIGBUF_RAM_PHASE_CANCELLED)
        return;
    memory_report(&m->memory, r);
    r->cpu_throttle_percent = (uint64_t)m->throttle_percent;
    if (s->phase == MIGBUF_RAM_PHASE_COMPLETED) {
        r->has_downtime = 1;
        r->downtime_ms = (uint64_t)(m->downtime_s * 1000);
        r->cpu_throttle_percent = 0;
    }
}

void model_kill(struct ram_model *m, int side)
{
    m->side[side].alive = m->side[side].running = 0;
    m->side[side].phase = MIGBUF_RAM_PHASE_NONE;
}

void model_link(struct ram_model *m, int up)
{
    m->link_up = up;
}
