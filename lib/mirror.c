/* SPDX-License-Identifier: MIT */
/* mirror: one mirror job: which QMP command is next, and what an answer means. How a disk is mirrored: mirror_policy.c. No
 * I/O, no clock.
 *
 * What must stay true:
 *  - a job whose end nobody saw is never COMPLETED;
 *  - it is completed only when it is ready, and cancelled by force only when the host said so;
 *  - after an unknown outcome QEMU is asked before anything is sent again. */
#include "mirror.h"
#include "memory.h"
#include "number.h"
#include "text.h"
#include <stdbool.h>
#include <string.h>

#define NAME_BYTES 256
#define PACE_MS 500
#define PAUSE_S 0.1 /* a guest that stands until what remains is sent may stand so long */
#define SHORT_S 3   /* what remains for so long at most is sent without a bound when the mode is changed */

struct migbuf_mirror {
    struct migbuf_allocator allocator;
    char job[NAME_BYTES], node[NAME_BYTES], target[NAME_BYTES];
    struct migbuf_mirror_options options; /* with the setting as chosen */
    struct migbuf_mirror_load load;
    struct migbuf_mirror_report seen;
    struct migbuf_mirror_progress progress;
    uint64_t now_ms, paced_ms, want_speed;
    int32_t state, before_end; /* before_end: what it was when an end was wanted */
    int32_t under_way;         /* the command's kind, 0: none */
    int32_t end;               /* COMPLETE, CANCEL: wanted; 0: no */
    bool starting, sent, ask, told, settle, write_blocking, given_up, held;
    bool unknown, refused; /* of the last command: nothing more is sent before the next look */
    bool denied;           /* what the host wanted last was refused */
    bool paced;            /* the speed is this machine's, not the host's */
    char text[6 * 3 * NAME_BYTES + 512]; /* of a command: a name as JSON is at most six times as long */
};

static const struct migbuf_mirror_options usual = { .deadline_ms = 0 };

int migbuf_mirror_options_init(struct migbuf_mirror_options *o, uint64_t size)
{
    return migbuf__struct_init(o, size, &usual, sizeof usual, MIGBUF__FIRST(struct migbuf_mirror_options, top));
}

const char *migbuf_mirror_state_text(int32_t state)
{
    static const char *const text[] = { "idle", "copying", "ready", "synced", "stopped",
                                        "ending", "completed", "cancelled", "failed", "lost" };

    return state >= 0 && state <= MIGBUF_MIRROR_STATE_LOST ? text[state] : "unknown";
}

static int check_name(const char *name)
{
    if (!name || !*name)
        return MIGBUF_E_INVALID;
    return strnlen(name, NAME_BYTES) == NAME_BYTES ? MIGBUF_E_TOO_BIG : migbuf__is_utf8(name) ? 0 : MIGBUF_E_INVALID;
}

static int take_options(struct migbuf_mirror_options *to, const struct migbuf_mirror_options *o)
{
    const struct migbuf_mirror_setting none = { .mode = 0 };
    int rc = 0;

    *to = usual;
    if (o)
        rc = migbuf__struct_take(to, sizeof *to, o, MIGBUF__FIRST(struct migbuf_mirror_options, top));
    if (rc || !memcmp(&to->setting, &none, sizeof none))
        return rc;
    return migbuf__mirror_setting_check(&to->setting);
}

int migbuf_mirror_new(const char *job, const char *node, const char *target, const struct migbuf_mirror_options *options,
                      const struct migbuf_allocator *allocator, struct migbuf_mirror **out)
{
    const char *const name[] = { job, node, target };
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_mirror_options o;
    struct migbuf_mirror *m;
    int rc = out ? 0 : MIGBUF_E_INVALID;

    for (int k = 0; k < 3 && !rc; k++)
        rc = check_name(name[k]);
    if (!rc)
        rc = take_options(&o, options);
    if (rc)
        return rc;
    m = migbuf__resize(&a, NULL, 0, 1, sizeof *m);
    if (!m)
        return MIGBUF_E_NOMEM;
    memset(m, 0, sizeof *m);
    m->allocator = a;
    m->options = o;
    memcpy(m->job, job, strlen(job) + 1);
    memcpy(m->node, node, strlen(node) + 1);
    memcpy(m->target, target, strlen(target) + 1);
    m->write_blocking = o.setting.mode == MIGBUF_MIRROR_PACED;
    *out = m;
    return 0;
}

void migbuf_mirror_free(struct migbuf_mirror *m)
{
    struct migbuf_allocator a;

    if (!m)
        return;
    a = m->allocator;
    migbuf__free(&a, m, sizeof *m);
}

/* What is wanted */

static bool is_over(const struct migbuf_mirror *m)
{
    return m->state >= MIGBUF_MIRROR_STATE_COMPLETED;
}

static bool is_ready(const struct migbuf_mirror *m)
{
    return m->state == MIGBUF_MIRROR_STATE_READY || m->state == MIGBUF_MIRROR_STATE_SYNCED;
}

static bool runs(const struct migbuf_mirror *m)
{
    return m->state == MIGBUF_MIRROR_STATE_COPYING || is_ready(m);
}

static uint64_t remaining(const struct migbuf_mirror *m)
{
    return m->seen.length_bytes > m->seen.offset_bytes ? m->seen.length_bytes - m->seen.offset_bytes : 0;
}

/* With a mode that was changed the buffer is still what it was. */
static struct migbuf_mirror_setting in_force(const struct migbuf_mirror *m)
{
    struct migbuf_mirror_setting s = m->options.setting;

    s.speed_bytes_per_s = m->seen.speed_bytes_per_s;
    if (m->write_blocking)
        s.mode = MIGBUF_MIRROR_PACED;
    return s;
}

/* It is the mode that is in the way: the link carries less than becomes dirty, or the end must come. */
static bool wants_change(const struct migbuf_mirror *m)
{
    return runs(m) && !m->write_blocking && m->options.can_change && (m->progress.stuck || (m->settle && is_ready(m)));
}

/* What remains when the guest stands is sent while it does. Where nobody knows how fast, READY must do. */
static bool is_short(const struct migbuf_mirror *m)
{
    double u = m->load.link_bytes_per_s;

    return !(u > 0) || (double)remaining(m) <= PAUSE_S * u;
}

/* Once it was stuck a guest is held until little remains: with less it would only be stuck again. Near the end it is held
 * until it is over: let go meanwhile it would write what its stop then takes. */
static void hold(struct migbuf_mirror *m)
{
    bool ending = m->state == MIGBUF_MIRROR_STATE_ENDING && !m->given_up;

    if (m->write_blocking || m->options.can_change || (!runs(m) && !ending))
        m->held = false;
    else if (!is_ready(m))
        m->held = m->held || m->progress.stuck;
    else if (m->settle)
        m->held = m->held || m->progress.stuck || !is_short(m);
    else
        m->held = m->progress.stuck || (m->held && !is_short(m));
}

/* The pass is paced in write-blocking mode alone, until both disks are the same: in the background it is in nobody's way. */
static void pace(struct migbuf_mirror *m)
{
    double left_s = INFINITY;
    uint64_t speed = m->want_speed;

    if (!m->paced)
        return;
    if (m->state == MIGBUF_MIRROR_STATE_SYNCED) {
        m->want_speed = 0;
        return;
    }
    if (m->now_ms < m->paced_ms + PACE_MS)
        return;
    if (m->options.deadline_ms)
        left_s = m->options.deadline_ms > m->now_ms ? (double)(m->options.deadline_ms - m->now_ms) / 1000 : 0;
    if (migbuf_mirror_pace(&m->load, remaining(m), left_s, speed, &speed))
        return;
    m->paced_ms = m->now_ms;
    if (fabs((double)speed - (double)m->want_speed) >= 0.05 * (double)m->want_speed)
        m->want_speed = speed;
}

/* Becomes write-blocking with what is left: without a bound where that is short, else from a tenth of the link on. Where
 * nobody knows what the link carries there is no bound. */
static void changed(struct migbuf_mirror *m)
{
    double u = m->load.link_bytes_per_s;

    m->write_blocking = true;
    m->paced = u > 0 && (double)remaining(m) > SHORT_S * u;
    m->paced_ms = m->now_ms;
    m->want_speed = m->paced ? (uint64_t)migbuf__most(0.1 * u, 1) : 0;
}

int migbuf_mirror_tell(struct migbuf_mirror *m, const struct migbuf_mirror_load *load)
{
    int rc = m && load ? migbuf__mirror_load_check(load) : MIGBUF_E_INVALID;

    if (!rc)
        m->load = *load;
    return rc;
}

int migbuf_mirror_start(struct migbuf_mirror *m)
{
    int rc = 0;

    if (!m)
        return MIGBUF_E_INVALID;
    if (m->state != MIGBUF_MIRROR_STATE_IDLE || m->starting)
        return MIGBUF_E_STATE;
    m->paced = !m->options.setting.mode || m->options.setting.speed_bytes_per_s; /* else the host wants no bound */
    if (!m->options.setting.mode)
        rc = migbuf_mirror_choose(&m->load, m->options.can_change, m->options.deadline_ms != 0, &m->options.setting);
    if (rc)
        return rc;
    m->write_blocking = m->options.setting.mode == MIGBUF_MIRROR_PACED;
    m->paced = m->paced && m->write_blocking;
    m->want_speed = m->options.setting.speed_bytes_per_s;
    m->starting = true;
    m->refused = m->denied = false;
    return 0;
}

int migbuf_mirror_look(struct migbuf_mirror *m, uint64_t now_ms)
{
    if (!m)
        return MIGBUF_E_INVALID;
    if (now_ms < m->now_ms)
        return MIGBUF_E_CLOCK;
    m->now_ms = now_ms;
    m->ask = !is_over(m);
    m->unknown = m->refused = false;
    return 0;
}

/* Given up it is worth nothing, whatever it came to. */
static void end_as(struct migbuf_mirror *m, int32_t state)
{
    m->state = m->given_up ? MIGBUF_MIRROR_STATE_CANCELLED : state;
    m->starting = m->ask = m->unknown = m->refused = m->denied = false;
    m->end = 0;
    m->under_way = 0; /* its answer changes nothing any more */
    m->held = false;
    memset(&m->seen, 0, sizeof m->seen);
}

/* One that was to be completed cannot be. It does not catch up any more, so nobody is held for it. */
static void stop(struct migbuf_mirror *m)
{
    if (m->given_up)
        return;
    m->state = MIGBUF_MIRROR_STATE_STOPPED;
    m->end = 0;
    m->held = false;
}

int migbuf_mirror_event(struct migbuf_mirror *m, int32_t event)
{
    static const int32_t end[] = { MIGBUF_MIRROR_STATE_COMPLETED, MIGBUF_MIRROR_STATE_CANCELLED, MIGBUF_MIRROR_STATE_FAILED };

    if (!m || event < MIGBUF_MIRROR_EVENT_READY || event > MIGBUF_MIRROR_EVENT_FAILED)
        return MIGBUF_E_INVALID;
    if (m->state == MIGBUF_MIRROR_STATE_LOST && event >= MIGBUF_MIRROR_EVENT_COMPLETED) /* so it is known after all */
        end_as(m, end[event - MIGBUF_MIRROR_EVENT_COMPLETED]);
    if (is_over(m) || (m->state == MIGBUF_MIRROR_STATE_IDLE && !m->sent))
        return 0;
    if (event == MIGBUF_MIRROR_EVENT_READY)
        m->state = m->state <= MIGBUF_MIRROR_STATE_COPYING ? MIGBUF_MIRROR_STATE_READY : m->state;
    else if (event == MIGBUF_MIRROR_EVENT_STOPPED)
        stop(m);
    else
        end_as(m, end[event - MIGBUF_MIRROR_EVENT_COMPLETED]);
    return 0;
}

int migbuf_mirror_settle(struct migbuf_mirror *m)
{
    if (!m)
        return MIGBUF_E_INVALID;
    m->settle = true;
    m->refused = m->denied = false;
    return 0;
}

static void want_end(struct migbuf_mirror *m, int32_t kind)
{
    if (m->state != MIGBUF_MIRROR_STATE_ENDING)
        m->before_end = m->state;
    m->state = MIGBUF_MIRROR_STATE_ENDING;
    m->end = kind;
    m->refused = m->denied = false;
}

int migbuf_mirror_complete(struct migbuf_mirror *m)
{
    if (!m)
        return MIGBUF_E_INVALID;
    if (!is_ready(m))
        return MIGBUF_E_STATE;
    want_end(m, MIGBUF_MIRROR_COMPLETE);
    return 0;
}

int migbuf_mirror_cancel(struct migbuf_mirror *m)
{
    if (!m)
        return MIGBUF_E_INVALID;
    if (is_over(m))
        return MIGBUF_E_STATE;
    if (m->state == MIGBUF_MIRROR_STATE_IDLE && !m->sent) {
        end_as(m, MIGBUF_MIRROR_STATE_CANCELLED);
        return 0;
    }
    m->starting = m->held = false;
    m->given_up = true;
    want_end(m, MIGBUF_MIRROR_CANCEL);
    return 0;
}

/* Which command is next */

static struct migbuf__writer writer(struct migbuf_mirror *m)
{
    return (struct migbuf__writer){ m->text, sizeof m->text, 0 };
}

static void write_pair(struct migbuf__writer *w, const char *before, const char *value)
{
    migbuf__write(w, "%s", before);
    migbuf__write_json_string(w, value);
}

static void write_start(struct migbuf_mirror *m)
{
    const struct migbuf_mirror_setting *s = &m->options.setting;
    struct migbuf__writer w = writer(m);

    write_pair(&w, "{\"job-id\":", m->job);
    write_pair(&w, ",\"device\":", m->node);
    write_pair(&w, ",\"target\":", m->target);
    migbuf__write(&w, ",\"sync\":\"%s\",\"copy-mode\":\"%s\",\"granularity\":%llu", m->options.top ? "top" : "full",
                  m->write_blocking ? "write-blocking" : "background", (unsigned long long)s->granularity_bytes);
    if (s->buf_bytes)
        migbuf__write(&w, ",\"buf-size\":%llu", (unsigned long long)s->buf_bytes);
    if (s->speed_bytes_per_s)
        migbuf__write(&w, ",\"speed\":%llu", (unsigned long long)s->speed_bytes_per_s);
    /* one that ends by itself can take QEMU with it */
    migbuf__write(&w, ",\"on-source-error\":\"stop\",\"on-target-error\":\"stop\"}");
}

static const char *write_command(struct migbuf_mirror *m, int32_t kind)
{
    struct migbuf__writer w = writer(m);

    switch (kind) {
    case MIGBUF_MIRROR_START:
        write_start(m);
        return "blockdev-mirror";
    case MIGBUF_MIRROR_SET_SPEED:
        write_pair(&w, "{\"device\":", m->job);
        migbuf__write(&w, ",\"speed\":%llu}", (unsigned long long)m->want_speed);
        return "block-job-set-speed";
    case MIGBUF_MIRROR_CHANGE:
        write_pair(&w, "{\"id\":", m->job);
        migbuf__write(&w, ",\"type\":\"mirror\",\"copy-mode\":\"write-blocking\"}");
        return "block-job-change";
    case MIGBUF_MIRROR_COMPLETE:
    case MIGBUF_MIRROR_CANCEL:
        write_pair(&w, "{\"device\":", m->job);
        migbuf__write(&w, kind == MIGBUF_MIRROR_CANCEL ? ",\"force\":true}" : "}");
        return "block-job-cancel";
    default:
        return "query-block-jobs";
    }
}

static int32_t choose(const struct migbuf_mirror *m)
{
    if (is_over(m) || m->unknown || m->refused)
        return 0;
    if (m->ask)
        return MIGBUF_MIRROR_GET_JOB;
    if (m->starting)
        return MIGBUF_MIRROR_START;
    if (m->end)
        return m->end;
    if (wants_change(m))
        return MIGBUF_MIRROR_CHANGE;
    return runs(m) && m->want_speed != m->seen.speed_bytes_per_s ? MIGBUF_MIRROR_SET_SPEED : 0;
}

int migbuf_mirror_next(struct migbuf_mirror *m, struct migbuf_mirror_command *command)
{
    int32_t kind;

    if (!m || !command)
        return MIGBUF_E_INVALID;
    kind = m->under_way ? m->under_way : choose(m);
    if (!kind)
        return 0;
    if (!m->under_way)
        m->told = false;
    m->under_way = kind;
    m->sent = m->sent || kind == MIGBUF_MIRROR_START; /* until QEMU says that it has no such job */
    *command = (struct migbuf_mirror_command){ .kind = kind, .name = write_command(m, kind) };
    command->arguments = kind == MIGBUF_MIRROR_GET_JOB ? NULL : m->text;
    return 1;
}

/* What came back */

/* One of a program before this one: what is not known is what QEMU does without being told. A speed that is not the
 * setting's was a pace, so the pace goes on from there. */
static void take_up(struct migbuf_mirror *m, const struct migbuf_mirror_report *r)
{
    if (!m->options.setting.mode)
        m->options.setting = (struct migbuf_mirror_setting){ .mode = MIGBUF_MIRROR_BACKGROUND, .granularity_bytes = 65536 };
    m->paced = (m->write_blocking && m->options.setting.speed_bytes_per_s) ||
               r->speed_bytes_per_s != m->options.setting.speed_bytes_per_s;
    m->paced_ms = m->now_ms;
    m->want_speed = r->speed_bytes_per_s;
    m->state = MIGBUF_MIRROR_STATE_COPYING;
}

static int32_t state_of(const struct migbuf_mirror *m, const struct migbuf_mirror_report *r)
{
    if (!r->ready)
        return MIGBUF_MIRROR_STATE_COPYING;
    /* A QEMU that cannot change the mode does not tell of it either: there write-blocking and ready is as far as it gets. */
    return m->write_blocking && (r->synced || !m->options.can_change) ? MIGBUF_MIRROR_STATE_SYNCED : MIGBUF_MIRROR_STATE_READY;
}

static void take_job(struct migbuf_mirror *m, const struct migbuf_mirror_report *r)
{
    if (m->state == MIGBUF_MIRROR_STATE_IDLE && !m->starting)
        take_up(m, r);
    m->starting = false;
    m->write_blocking = m->write_blocking || r->synced;
    if (r->stopped)
        stop(m);
    else if (m->state != MIGBUF_MIRROR_STATE_ENDING)
        m->state = state_of(m, r);
    /* What a ready one's guest writes meanwhile remains for a moment. */
    migbuf_mirror_progress(&m->progress, m->load.link_bytes_per_s,
                           r->ready && !((double)remaining(m) > SHORT_S * m->load.link_bytes_per_s) ? 0 : remaining(m), m->now_ms);
    pace(m);
    hold(m);
}

int migbuf_mirror_found(struct migbuf_mirror *m, const struct migbuf_mirror_report *report)
{
    if (!m || !report)
        return MIGBUF_E_INVALID;
    if (m->under_way != MIGBUF_MIRROR_GET_JOB)
        return is_over(m) ? 0 : MIGBUF_E_STATE;
    m->told = true;
    m->seen = *report;
    m->sent = m->sent && report->there;
    if (report->there)
        take_job(m, report);
    else if (m->state != MIGBUF_MIRROR_STATE_IDLE)
        end_as(m, MIGBUF_MIRROR_STATE_LOST);
    return 0;
}

static int done(struct migbuf_mirror *m, int32_t kind)
{
    switch (kind) {
    case MIGBUF_MIRROR_GET_JOB:
        m->ask = false;
        return 0;
    case MIGBUF_MIRROR_START:
        m->starting = false;
        m->seen.speed_bytes_per_s = m->options.setting.speed_bytes_per_s;
        if (m->state == MIGBUF_MIRROR_STATE_IDLE) /* READY may have come before the answer */
            m->state = MIGBUF_MIRROR_STATE_COPYING;
        m->paced_ms = m->now_ms;
        return 0;
    case MIGBUF_MIRROR_SET_SPEED:
        m->seen.speed_bytes_per_s = m->want_speed;
        return 0;
    case MIGBUF_MIRROR_CHANGE:
        changed(m);
        return 0;
    default: /* the job ends by an event */
        m->end = m->end == kind ? 0 : m->end;
        return 0;
    }
}

static int refused(struct migbuf_mirror *m, int32_t kind)
{
    if (kind == MIGBUF_MIRROR_CHANGE) { /* there is another way */
        m->options.can_change = 0;
        hold(m);
        return 0;
    }
    if (kind == MIGBUF_MIRROR_START &&
        (m->state == MIGBUF_MIRROR_STATE_IDLE || (m->given_up && m->before_end == MIGBUF_MIRROR_STATE_IDLE))) {
        end_as(m, MIGBUF_MIRROR_STATE_FAILED);
        return m->given_up ? 0 : MIGBUF_E_PEER;
    }
    if (kind == MIGBUF_MIRROR_COMPLETE && m->end == kind) {
        m->state = m->before_end;
        m->end = 0;
    }
    m->refused = true;
    m->denied = kind == MIGBUF_MIRROR_START || kind == MIGBUF_MIRROR_COMPLETE || kind == MIGBUF_MIRROR_CANCEL;
    return MIGBUF_E_PEER;
}

int migbuf_mirror_answered(struct migbuf_mirror *m, int32_t outcome)
{
    int32_t kind;

    if (!m || outcome < MIGBUF_OUTCOME_DONE || outcome > MIGBUF_OUTCOME_UNKNOWN)
        return MIGBUF_E_INVALID;
    kind = m->under_way;
    if (!kind && is_over(m)) /* it ended meanwhile */
        return 0;
    if (!kind || (kind == MIGBUF_MIRROR_GET_JOB && outcome == MIGBUF_OUTCOME_DONE && !m->told))
        return MIGBUF_E_STATE;
    m->under_way = 0;
    if (outcome == MIGBUF_OUTCOME_DONE)
        return done(m, kind);
    if (outcome == MIGBUF_OUTCOME_REFUSED)
        return refused(m, kind);
    m->unknown = true;
    return MIGBUF_E_UNKNOWN;
}

int migbuf_mirror_outcome(const struct migbuf_mirror *m)
{
    if (!m)
        return MIGBUF_E_INVALID;
    if (m->denied || m->state == MIGBUF_MIRROR_STATE_FAILED)
        return MIGBUF_OUTCOME_REFUSED;
    if (m->unknown || m->state == MIGBUF_MIRROR_STATE_LOST)
        return MIGBUF_OUTCOME_UNKNOWN;
    return m->under_way || choose(m) ? 0 : MIGBUF_OUTCOME_DONE;
}

static double finish_s(const struct migbuf_mirror *m)
{
    const struct migbuf_mirror_setting s = in_force(m);
    double seconds = INFINITY;

    if (m->state == MIGBUF_MIRROR_STATE_SYNCED || m->state == MIGBUF_MIRROR_STATE_COMPLETED)
        return 0;
    if (runs(m))
        migbuf_mirror_finish(&m->load, &s, remaining(m), &seconds);
    return seconds;
}

int migbuf_mirror_info(const struct migbuf_mirror *m, struct migbuf_mirror_info *info)
{
    struct migbuf_mirror_info x;

    if (!m || !info)
        return MIGBUF_E_INVALID;
    x = (struct migbuf_mirror_info){
        .remaining_bytes = remaining(m),
        .speed_bytes_per_s = m->seen.speed_bytes_per_s,
        .finish_s = finish_s(m),
        .setting = m->options.setting,
        .state = m->state,
        .write_blocking = m->write_blocking,
        .stuck = m->progress.stuck,
        .settled = m->settle && (m->state == MIGBUF_MIRROR_STATE_SYNCED ||
                                 (m->state == MIGBUF_MIRROR_STATE_READY && !m->options.can_change && is_short(m))),
        .can_change = m->options.can_change,
        .unknown = m->unknown,
    };
    if (m->held)
        migbuf_mirror_hold(&m->load, m->options.setting.granularity_bytes, &x.hold_bytes_per_s);
    return migbuf__struct_give(info, &x, sizeof x, MIGBUF__FIRST(struct migbuf_mirror_info, unknown));
}
