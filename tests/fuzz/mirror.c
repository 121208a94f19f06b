/* SPDX-License-Identifier: MIT */
/* mirror.h. Of each input the first byte says what it is: numbers for the policy; calls of the machine in any order, with any
 * report and any event; or a life beside a model of QEMU's job, which refuses, loses answers and loses events. */
#include "fuzz.h"
#include "migbuf/mirror.h"
#include <math.h>
#include <stdbool.h>

#define U_MAX 1e18
#define JOB "job \"1\"\n"

static struct choices in;

static bool chance(uint32_t one_in)
{
    return in.at < in.end && !take_below(&in, one_in);
}

/* Mostly one that is taken. */
static double any_amount(void)
{
    double x = take_double(&in);

    return chance(8) ? x : isfinite(x) && fabs(x) <= U_MAX ? fabs(x) : 24e6;
}

static struct migbuf_mirror_load any_load(void)
{
    struct migbuf_mirror_load l = { 0, 0, 0, 0, 0 };

    l.link_bytes_per_s = any_amount();
    l.write_bytes_per_s = any_amount();
    l.request_bytes = any_amount();
    l.depth = any_amount();
    l.round_trip_s = any_amount();
    return l;
}

static struct migbuf_mirror_setting any_setting(void)
{
    struct migbuf_mirror_setting s = { .reserved = 0 };

    s.mode = chance(8) ? (int32_t)take_number(&in) : 1 + (int32_t)take_below(&in, 2);
    s.granularity_bytes = chance(8) ? take_number(&in) : UINT64_C(512) << take_below(&in, 18);
    s.buf_bytes = chance(8) ? take_number(&in) : take_bytes(&in, 3);
    s.speed_bytes_per_s = chance(4) ? take_number(&in) : take_bytes(&in, 2);
    s.reserved = chance(32);
    return s;
}

/* ---- the policy ---- */

static bool is_error(int rc)
{
    return rc == MIGBUF_E_INVALID || rc == MIGBUF_E_RANGE || rc == MIGBUF_E_STATE || rc == MIGBUF_E_CLOCK;
}

static void policy(void)
{
    struct migbuf_mirror_load l = any_load();
    struct migbuf_mirror_setting s = any_setting(), chosen = { .reserved = 7 };
    struct migbuf_mirror_rates r = { -7, -7, -7 };
    struct migbuf_mirror_progress p = { .begun = 0 }, before;
    uint64_t speed = take_number(&in), next = 7, remaining = take_number(&in), now_ms = 0;
    double u = l.link_bytes_per_s, seconds = -7, hold = -7, left_s = take_double(&in);
    int rc = migbuf_mirror_choose(&l, (int32_t)take_below(&in, 2), (int32_t)take_below(&in, 2), &chosen);

    if (rc)
        fuzz_check(is_error(rc) && chosen.reserved == 7, "%d", rc);
    else if (u > 0) /* what it chooses is a setting that the others take */
        fuzz_check(!migbuf_mirror_rates(&l, &chosen, &r), "mode %d", chosen.mode);
    r = (struct migbuf_mirror_rates){ -7, -7, -7 };
    rc = migbuf_mirror_rates(&l, &s, &r);
    if (rc) {
        fuzz_check(is_error(rc) && r.guest_bytes_per_s == -7 && r.copy_bytes_per_s == -7 && r.write_s == -7, "%d", rc);
    } else {
        fuzz_check(r.guest_bytes_per_s >= 0 && r.guest_bytes_per_s <= l.write_bytes_per_s, "guest %g", r.guest_bytes_per_s);
        fuzz_check(r.copy_bytes_per_s >= 0 && r.copy_bytes_per_s <= u, "copy %g of %g", r.copy_bytes_per_s, u);
        fuzz_check(s.mode == MIGBUF_MIRROR_BACKGROUND || r.guest_bytes_per_s + r.copy_bytes_per_s <= u * 1.000001, "more than the link");
        fuzz_check(r.write_s >= 0, "write %g", r.write_s); /* a link may be as slow as the smallest double */
    }
    fuzz_check(migbuf_mirror_finish(&l, &s, remaining, &seconds) == rc, "not as the rates");
    fuzz_check(rc ? seconds == -7 : seconds >= 0, "%g s", seconds);
    rc = migbuf_mirror_pace(&l, remaining, left_s, speed, &next);
    if (rc)
        fuzz_check(is_error(rc) && next == 7, "%d", rc);
    else if (!(u > 0))
        fuzz_check(next == 0, "%llu, but nothing is known", (unsigned long long)next);
    else
        fuzz_check(next >= 1 && (double)next >= 0.1 * u * 0.999999 - 1 && (double)next <= fmax(u * 1.000001, 1), "%llu of %g",
                   (unsigned long long)next, u);
    rc = migbuf_mirror_hold(&l, s.granularity_bytes, &hold);
    if (rc)
        fuzz_check(is_error(rc) && hold == -7, "%d", rc);
    else
        fuzz_check(hold >= 0 && hold <= 0.5 * u, "%g of %g", hold, u);
    while (in.at < in.end) {
        uint64_t left = take_number(&in);

        now_ms = chance(16) ? take_number(&in) : now_ms + take_bytes(&in, 2);
        before = p;
        rc = migbuf_mirror_progress(&p, u, left, now_ms);
        fuzz_check(rc >= 0 ? rc == p.stuck && (rc == 0 || rc == 1) && p.begun == 1 : !memcmp(&p, &before, sizeof p), "%d", rc);
        fuzz_check(rc <= 0 || left, "stuck, and nothing remains");
    }
}

/* ---- what holds of every machine ---- */

/* The host's side of it: what it has wanted, and what it was told. */
struct host {
    struct migbuf_mirror *m;
    struct migbuf_mirror_load load;
    double u_most, speed_most; /* told, reported */
    uint64_t now_ms;
    bool started, completed, cancelled, settled;           /* asked for */
    bool told_completed;                                   /* an event */
    bool silent;                                           /* after an unknown outcome, until the next look */
};

static struct migbuf_mirror_info info_of(const struct host *h)
{
    struct migbuf_mirror_info i = { .size = sizeof i };

    fuzz_check(!migbuf_mirror_info(h->m, &i), "no info");
    return i;
}

static void check_machine(struct host *h)
{
    struct migbuf_mirror_info i = info_of(h);
    int outcome = migbuf_mirror_outcome(h->m);
    bool over = i.state >= MIGBUF_MIRROR_STATE_COMPLETED;

    fuzz_check(i.state >= MIGBUF_MIRROR_STATE_IDLE && i.state <= MIGBUF_MIRROR_STATE_LOST, "%d", i.state);
    fuzz_check(strcmp(migbuf_mirror_state_text(i.state), "unknown"), "%d", i.state);
    fuzz_check(i.finish_s >= 0, "%g s", i.finish_s);
    fuzz_check(i.hold_bytes_per_s >= 0 && i.hold_bytes_per_s <= 0.5 * h->load.link_bytes_per_s, "held to %g", i.hold_bytes_per_s);
    fuzz_check(i.hold_bytes_per_s <= 0 || (!over && !i.write_blocking && !i.can_change && i.state != MIGBUF_MIRROR_STATE_IDLE &&
                                           i.state != MIGBUF_MIRROR_STATE_STOPPED && !h->cancelled),
               "held without need: state %d", i.state);
    fuzz_check(!i.settled || (h->settled && (i.state == MIGBUF_MIRROR_STATE_SYNCED || i.state == MIGBUF_MIRROR_STATE_READY)), "settled");
    fuzz_check(i.state != MIGBUF_MIRROR_STATE_SYNCED || i.write_blocking, "synced in the background");
    fuzz_check(i.state != MIGBUF_MIRROR_STATE_COMPLETED || (h->told_completed && !h->cancelled), "nobody said that it is complete");
    fuzz_check(i.state != MIGBUF_MIRROR_STATE_ENDING || h->completed || h->cancelled, "an end that nobody wanted");
    fuzz_check(!h->cancelled || i.state == MIGBUF_MIRROR_STATE_ENDING || i.state == MIGBUF_MIRROR_STATE_CANCELLED, "given up: %d", i.state);
    fuzz_check(outcome >= 0 && outcome <= MIGBUF_OUTCOME_UNKNOWN, "%d", outcome);
    fuzz_check(!over || (outcome && !i.unknown), "over, and commands are left");
    fuzz_check(!i.unknown || outcome == MIGBUF_OUTCOME_UNKNOWN || outcome == MIGBUF_OUTCOME_REFUSED, "%d", outcome);
    fuzz_check(i.state != MIGBUF_MIRROR_STATE_LOST || outcome == MIGBUF_OUTCOME_UNKNOWN, "lost is %d", outcome);
}

/* The next command, looked at. 0: none. */
static int32_t next(struct host *h, struct migbuf_mirror_command *c)
{
    struct migbuf_mirror_command again;
    struct migbuf_mirror_info i = info_of(h);
    int outcome = migbuf_mirror_outcome(h->m), rc = migbuf_mirror_next(h->m, c);
    const char *speed;
    char first[4096];

    fuzz_check(rc == 0 || rc == 1, "%d", rc);
    fuzz_check(outcome != 0 || rc == 1, "commands are left, and there is none");
    fuzz_check(outcome != MIGBUF_OUTCOME_DONE || rc == 0, "done, and there is a command");
    if (!rc)
        return 0;
    fuzz_check(i.state < MIGBUF_MIRROR_STATE_COMPLETED, "%s after the end", c->name);
    fuzz_check(!h->silent, "%s after an unknown outcome", c->name);
    fuzz_check(c->kind >= MIGBUF_MIRROR_GET_JOB && c->kind <= MIGBUF_MIRROR_CANCEL && !c->reserved, "%d", c->kind);
    fuzz_check((c->kind == MIGBUF_MIRROR_GET_JOB) == !c->arguments, "%s", c->name);
    fuzz_check(c->kind != MIGBUF_MIRROR_START || h->started, "a start that nobody wanted");
    fuzz_check(c->kind != MIGBUF_MIRROR_COMPLETE || h->completed, "an end that nobody wanted");
    fuzz_check(c->kind != MIGBUF_MIRROR_CANCEL || h->cancelled, "given up by itself");
    fuzz_check(c->kind != MIGBUF_MIRROR_CHANGE || i.can_change, "a change that this QEMU does not know");
    if (c->arguments) {
        size_t n = strlen(c->arguments);

        fuzz_check(n > 2 && n < sizeof first && c->arguments[0] == '{' && c->arguments[n - 1] == '}', "%s", c->arguments);
        fuzz_check(!strpbrk(c->arguments, "\n\r\t"), "%s", c->arguments);
        memcpy(first, c->arguments, n + 1);
        fuzz_check(migbuf_mirror_next(h->m, &again) == 1 && again.kind == c->kind && !strcmp(again.arguments, first), "another the second time");
    }
    speed = c->kind == MIGBUF_MIRROR_SET_SPEED ? strstr(c->arguments, "\"speed\":") : NULL;
    if (speed) {
        double s = (double)strtoull(speed + 8, NULL, 10);

        fuzz_check(s <= fmax(fmax(h->u_most * 1.000001, (double)i.setting.speed_bytes_per_s), fmax(h->speed_most, 1)), "a speed of %g", s);
    }
    return c->kind;
}

static void tell(struct host *h, struct migbuf_mirror_load l)
{
    if (migbuf_mirror_tell(h->m, &l))
        return;
    h->load = l;
    h->u_most = fmax(h->u_most, l.link_bytes_per_s);
}

static void look(struct host *h, uint64_t now_ms)
{
    int rc = migbuf_mirror_look(h->m, now_ms);

    fuzz_check(rc == (now_ms < h->now_ms ? MIGBUF_E_CLOCK : 0), "%d", rc);
    if (rc)
        return;
    h->now_ms = now_ms;
    h->silent = false;
}

static void event(struct host *h, int32_t e)
{
    if (migbuf_mirror_event(h->m, e))
        return;
    h->told_completed |= e == MIGBUF_MIRROR_EVENT_COMPLETED;
}

static int answer(struct host *h, int32_t outcome)
{
    int rc = migbuf_mirror_answered(h->m, outcome);

    if (rc == MIGBUF_E_UNKNOWN)
        h->silent = true;
    return rc;
}

static void wish(struct host *h, uint32_t what)
{
    switch (what) {
    case 0:
        h->started |= !migbuf_mirror_start(h->m);
        break;
    case 1:
        h->settled |= !migbuf_mirror_settle(h->m);
        break;
    case 2:
        h->completed |= !migbuf_mirror_complete(h->m);
        break;
    default:
        h->cancelled |= !migbuf_mirror_cancel(h->m);
    }
}

static void new_host(struct host *h, bool any)
{
    struct migbuf_mirror_options o;
    char name[300] = JOB;

    *h = (struct host){ .m = NULL };
    fuzz_check(!migbuf_mirror_options_init(&o, sizeof o), "no options");
    if (chance(2))
        o.setting = any_setting();
    o.can_change = (int32_t)take_below(&in, 2);
    o.top = (int32_t)take_below(&in, 2);
    o.deadline_ms = chance(4) ? take_number(&in) : 0;
    for (uint32_t k = 0; any && k < 2; k++) /* mostly names that are none */
        name[take_below(&in, 8)] = (char)take_byte(&in);
    if (migbuf_mirror_new(name, "disk", "target", &o, NULL, &h->m))
        fuzz_check(!h->m, "a machine and an error");
}

/* ---- calls in any order ---- */

static void call(struct host *h)
{
    struct migbuf_mirror_info before = info_of(h), after;
    int outcome = migbuf_mirror_outcome(h->m), rc = 0;
    struct migbuf_mirror_report r = { .there = 0 };
    struct migbuf_mirror_command c;

    switch (take_below(&in, 10)) {
    case 0:
        tell(h, any_load());
        return;
    case 1:
        look(h, chance(16) ? take_number(&in) : h->now_ms + take_bytes(&in, 2));
        return;
    case 2:
    case 3:
        next(h, &c);
        return;
    case 4:
    case 5:
        wish(h, take_below(&in, 4));
        return;
    case 6:
        event(h, chance(8) ? (int32_t)take_number(&in) : 1 + (int32_t)take_below(&in, 5));
        return;
    case 7:
        r.length_bytes = take_number(&in);
        r.offset_bytes = take_number(&in);
        r.speed_bytes_per_s = take_number(&in) & INT64_MAX; /* a number of JSON */
        h->speed_most = fmax(h->speed_most, (double)r.speed_bytes_per_s);
        r.there = !chance(4);
        r.ready = (int32_t)take_below(&in, 2);
        r.stopped = chance(8);
        r.synced = chance(4);
        rc = migbuf_mirror_found(h->m, &r);
        break;
    default:
        rc = answer(h, chance(16) ? (int32_t)take_number(&in) : 1 + (int32_t)take_below(&in, 3));
        if (rc == MIGBUF_E_PEER || rc == MIGBUF_E_UNKNOWN)
            return;
    }
    after = info_of(h);
    if (rc)
        fuzz_check(!memcmp(&before, &after, sizeof after) && outcome == migbuf_mirror_outcome(h->m), "%d changed something", rc);
}

static void any_order(void)
{
    struct host h;

    new_host(&h, true);
    while (h.m && in.at < in.end) {
        call(&h);
        check_machine(&h);
    }
    migbuf_mirror_free(h.m);
}

/* ---- beside a model of QEMU's job ---- */

struct job {
    uint64_t length, offset, speed;
    bool there, ready, stopped, write_blocking;
    int32_t says; /* the event that is on its way, 0: none */
};

static void ends(struct job *j, int32_t event)
{
    *j = (struct job){ .says = event };
}

/* What QEMU does with a command: false, it refuses. */
static bool executes(struct job *j, const struct host *h, const struct migbuf_mirror_command *c)
{
    const char *speed = c->arguments ? strstr(c->arguments, "\"speed\":") : NULL;

    if (c->kind == MIGBUF_MIRROR_GET_JOB)
        return true;
    if (c->kind == MIGBUF_MIRROR_START)
        fuzz_check(!j->there, "started twice");
    if (chance(8) || j->there == (c->kind == MIGBUF_MIRROR_START))
        return false;
    switch (c->kind) {
    case MIGBUF_MIRROR_START:
        *j = (struct job){ .length = take_bytes(&in, 4), .there = true, .write_blocking = strstr(c->arguments, "write-blocking") };
        j->speed = speed ? strtoull(speed + 8, NULL, 10) : 0;
        break;
    case MIGBUF_MIRROR_SET_SPEED:
        j->speed = strtoull(speed + 8, NULL, 10);
        break;
    case MIGBUF_MIRROR_CHANGE:
        j->write_blocking = true;
        break;
    case MIGBUF_MIRROR_COMPLETE:
        fuzz_check(j->ready && !strstr(c->arguments, "force"), "completed before it was ready");
        if (j->stopped) /* it waits until somebody cancels it */
            break;
        ends(j, chance(8) ? MIGBUF_MIRROR_EVENT_FAILED : MIGBUF_MIRROR_EVENT_COMPLETED);
        break;
    default:
        fuzz_check(h->cancelled && strstr(c->arguments, "\"force\":true"), "cancelled by itself");
        ends(j, MIGBUF_MIRROR_EVENT_CANCELLED);
    }
    return true;
}

static struct migbuf_mirror_report report_of(const struct job *j, int32_t can_change)
{
    struct migbuf_mirror_report r = { .there = j->there };

    if (!j->there)
        return r;
    r.length_bytes = j->length;
    r.offset_bytes = j->offset;
    r.speed_bytes_per_s = j->speed;
    r.ready = j->ready;
    r.stopped = j->stopped;
    r.synced = can_change && j->write_blocking && j->ready && j->offset == j->length;
    return r;
}

static void hears(struct host *h, struct job *j, bool lossy)
{
    if (j->says && !(lossy && chance(8)))
        event(h, j->says);
    j->says = 0;
}

/* Sends what is next; `lossy`: an answer may get lost, after the command was carried out or before. */
static void pump(struct host *h, struct job *j, bool lossy)
{
    struct migbuf_mirror_command c;

    for (int32_t kind; (kind = next(h, &c));) {
        bool carried_out = !(lossy && chance(16)), unknown = !carried_out || (lossy && chance(16)), done = carried_out && executes(j, h, &c);

        if (chance(2))
            hears(h, j, lossy);
        if (done && !unknown && kind == MIGBUF_MIRROR_GET_JOB) {
            const struct migbuf_mirror_report r = report_of(j, info_of(h).can_change);

            h->speed_most = fmax(h->speed_most, (double)r.speed_bytes_per_s);
            fuzz_check(!migbuf_mirror_found(h->m, &r) || info_of(h).state >= MIGBUF_MIRROR_STATE_COMPLETED, "its report is not taken");
        }
        answer(h, unknown ? MIGBUF_OUTCOME_UNKNOWN : done ? MIGBUF_OUTCOME_DONE : MIGBUF_OUTCOME_REFUSED);
        check_machine(h);
    }
}

/* Half a second of a copy and its guest. */
static void goes_on(struct job *j)
{
    uint64_t step = take_bytes(&in, 3);

    if (!j->there)
        return;
    if (chance(3))
        j->length += step;
    else if (!j->stopped)
        j->offset = j->length - j->offset < step ? j->length : j->offset + step;
    if (!j->ready && j->offset == j->length) {
        j->ready = true;
        j->says = MIGBUF_MIRROR_EVENT_READY;
    }
    if (chance(64)) {
        j->stopped = true;
        j->says = MIGBUF_MIRROR_EVENT_STOPPED;
    } else if (chance(128)) {
        ends(j, MIGBUF_MIRROR_EVENT_FAILED);
    }
}

static void tells_and_looks(struct host *h, struct job *j, bool lossy)
{
    goes_on(j);
    hears(h, j, lossy);
    if (chance(4))
        tell(h, any_load());
    look(h, h->now_ms + 500);
    pump(h, j, lossy);
}

static void life(void)
{
    struct job j = { .there = false };
    struct migbuf_mirror_load l = { 24e6, 12e6, 65536, 4, 0 };
    struct host h;

    new_host(&h, false);
    if (!h.m)
        return;
    tell(&h, l);
    while (in.at < in.end) {
        if (chance(32)) { /* the program is another; it looks before it wants anything */
            const uint64_t now_ms = h.now_ms;

            migbuf_mirror_free(h.m);
            new_host(&h, false);
            if (!h.m)
                return;
            tell(&h, l);
            j.says = 0;
            look(&h, now_ms + 1);
            pump(&h, &j, false);
        }
        if (chance(3))
            wish(&h, chance(16) ? 3 : take_below(&in, 3));
        tells_and_looks(&h, &j, true);
    }
    /* From here on nothing gets lost, and the host gives up what runs: then no job is left behind. */
    if (info_of(&h).state < MIGBUF_MIRROR_STATE_COMPLETED) {
        wish(&h, 3);
        for (int k = 0; k < 8 && info_of(&h).state < MIGBUF_MIRROR_STATE_COMPLETED; k++)
            tells_and_looks(&h, &j, false);
        fuzz_check(info_of(&h).state == MIGBUF_MIRROR_STATE_CANCELLED, "state %d", info_of(&h).state);
    }
    fuzz_check(!j.there, "a job is left, and it is %s", migbuf_mirror_state_text(info_of(&h).state));
    migbuf_mirror_free(h.m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    in = (struct choices){ data, data + size };
    switch (take_byte(&in) % 4) {
    case 0:
        policy();
        break;
    case 1:
        any_order();
        break;
    default:
        life();
    }
    return 0;
}
