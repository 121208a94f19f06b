/* SPDX-License-Identifier: MIT */
/* Random migrations of memory against a model of two QEMUs: refusals, answers that come late or never, other hands, links that
 * break, deaths of the host's process, of the target and of the source at any point. At the end the guest is in one place, it
 * was never in two, nobody is lost but by a QEMU's death that nothing could have helped, nothing was set that was not agreed,
 * and what the hosts had set is in force again. Prints the seed of a life that went wrong; MIGBUF_TEST_SEED and
 * MIGBUF_TEST_LIVES begin elsewhere and live longer. */
#include "draw.h"
#include "ram_model.h"
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES 9000

static struct life {
    struct ram_model q;
    struct migbuf_ram *ram;
    struct migbuf_agreement agreed;
    struct migbuf_ram_options options;
    struct model_side host[2]; /* what the hosts have set, capabilities and parameters */
    uint64_t other[2][MODEL_PARS]; /* or this, another hand's; UINT64_MAX - 1: nobody's */
    uint64_t seed, now_ms, revision;
    int refuses, loses;            /* of a hundred commands */
    int late_waits, late_side;     /* a command that was sent, and will be carried out before the next one of that side */
    char late_name[40], late_arguments[4096];
    char text[TEXT_BYTES];         /* what the host has on its disk */
    size_t length;
    int events;                    /* the host hears events */
    int restoring, gave_up, started, loaded;
    int source_died, target_died_in_post, stopped_by_admin;
    int runs_left;                 /* breaks of the link still to come */
    char story[12000];
    size_t told;
} life;

static double draw_between(double least, double most)
{
    return least + (most - least) * draw(1000000) / 1e6;
}

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    va_list args;
    int n;

    if (life.told > sizeof life.story * 3 / 4) { /* the end is what counts */
        life.told = sizeof life.story / 2;
        memmove(life.story, life.story + sizeof life.story / 4, life.told);
    }
    va_start(args, format);
    n = vsnprintf(life.story + life.told, sizeof life.story - life.told, format, args);
    va_end(args);
    if (n > 0 && life.told + (size_t)n < sizeof life.story)
        life.told += (size_t)n;
}

#define ck_life(condition, ...)                                                                                        \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "# seed %llu: ", (unsigned long long)life.seed);                                           \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n# %s\n", life.story);                                                                   \
        }                                                                                                              \
        ck_assert_msg(condition, "seed %llu", (unsigned long long)life.seed);                                          \
    } while (0)

static struct migbuf_ram_info info(void)
{
    struct migbuf_ram_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_ram_info(life.ram, &i), 0);
    return i;
}

static int runs_twice(void)
{
    return life.q.side[0].running && life.q.side[1].running;
}

/* What QEMU 11.1 does by itself is for the host to end: check_end looks at that. */
static void watch(void)
{
    ck_life(!runs_twice() || life.q.let_two_run, "the guest runs in two places");
}

static void run_model(double seconds)
{
    model_run(&life.q, seconds);
    life.now_ms += (uint64_t)(seconds * 1000);
    watch();
}

/* What must never be sent, whatever becomes of it. */
static void check(const struct migbuf_ram_command *c)
{
    const struct model_side *s = &life.q.side[0];
    json_t *a = c->arguments ? json_loads(c->arguments, 0, NULL) : NULL;
    json_int_t limit, most;

    ck_life(!c->arguments || a || strstr(c->arguments, "18446744073709551615"), "no JSON: %s", c->arguments);
    switch (c->kind) {
    case MIGBUF_RAM_SET_PARAMETERS:
        limit = json_integer_value(json_object_get(a, "downtime-limit"));
        most = json_integer_value(json_object_get(a, "max-cpu-throttle"));
        if (c->side == 0 && !life.restoring) {
            ck_life(limit <= life.agreed.most_ms || (limit == 2000000 && life.agreed.force), "a limit of %lld", (long long)limit);
            ck_life(most <= life.agreed.throttle_most_percent, "a throttle of %lld", (long long)most);
        }
        break;
    case MIGBUF_RAM_START_POSTCOPY:
        ck_life(life.agreed.postcopy, "post-copy that was not agreed");
        break;
    case MIGBUF_RAM_CANCEL:
        ck_life(s->phase < MIGBUF_RAM_PHASE_POSTCOPY || s->phase > MIGBUF_RAM_PHASE_RECOVER, "cancelled in post-copy");
        ck_life(!life.q.post_asked || s->phase != MIGBUF_RAM_PHASE_ACTIVE, "cancelled after post-copy was asked for");
        ck_life(!life.q.continued && !life.q.waits_for_target, "cancelled after the last step");
        break;
    case MIGBUF_RAM_CONT:
        ck_life(!life.q.side[!c->side].running, "cont while it runs over there");
        break;
    default:
        break;
    }
    json_decref(a);
}

static void carry_out_late(void)
{
    if (!life.late_waits)
        return;
    life.late_waits = 0;
    if (!life.q.side[life.late_side].alive)
        return;
    tell("   late: %s %s\n", life.late_name, life.late_arguments);
    model_execute(&life.q, life.late_side, life.late_name, *life.late_arguments ? life.late_arguments : NULL);
    watch();
}

static int32_t answer_query(const struct migbuf_ram_command *c)
{
    const struct model_side *s = &life.q.side[c->side];
    struct migbuf_ram_report r;

    switch (c->kind) {
    case MIGBUF_RAM_GET_CAPABILITIES:
        for (int k = 0; k < MODEL_CAPS; k++)
            if (k != model_cap_index("dirty-limit") || life.q.is_new)
                migbuf_ram_found_capability(life.ram, model_cap[k], s->caps[k]);
        break;
    case MIGBUF_RAM_GET_PARAMETERS:
        for (int k = 0; k < MODEL_PARS; k++)
            if (life.q.is_new || (k != model_par_index("avail-switchover-bandwidth") && k != model_par_index("multifd-qatzip-level")))
                migbuf_ram_found_parameter(life.ram, model_par[k], s->pars[k]);
        break;
    case MIGBUF_RAM_GET_MIGRATION:
        model_report(&life.q, c->side, &r);
        migbuf_ram_found(life.ram, &r);
        break;
    default:
        migbuf_ram_status(life.ram, s->running ? "running" : s->status, s->running);
        break;
    }
    return MIGBUF_OUTCOME_DONE;
}

static int is_query(const struct migbuf_ram_command *c)
{
    return c->kind <= MIGBUF_RAM_GET_STATUS;
}

/* What the host hears. A target whose guest waits for pages of a broken link answers nothing but what is out of band. */
static int32_t send(const struct migbuf_ram_command *c, int calm)
{
    struct ram_model *q = &life.q;
    int lost = !calm && (int)draw(100) < life.loses, rc;

    if (life.late_waits && life.late_side == c->side)
        carry_out_late();
    if (draw(4) == 0) /* what was just asked is no longer so */
        run_model(0.05);
    if (!q->side[c->side].alive)
        return MIGBUF_OUTCOME_UNKNOWN;
    if (c->side == 1 && q->side[0].phase == MIGBUF_RAM_PHASE_PAUSED && !c->out_of_band)
        return MIGBUF_OUTCOME_UNKNOWN;
    if (is_query(c))
        return lost ? MIGBUF_OUTCOME_UNKNOWN : answer_query(c);
    if (!calm && (int)draw(100) < life.refuses) {
        tell("   refused\n");
        return MIGBUF_OUTCOME_REFUSED;
    }
    if (lost && draw(2)) {
        if (draw(2)) {
            life.late_waits = 1;
            life.late_side = c->side;
            snprintf(life.late_name, sizeof life.late_name, "%s", c->name);
            snprintf(life.late_arguments, sizeof life.late_arguments, "%s", c->arguments ? c->arguments : "");
        }
        tell("   lost\n");
        return MIGBUF_OUTCOME_UNKNOWN;
    }
    rc = model_execute(q, c->side, c->name, c->arguments);
    watch();
    tell("   %s%s\n", rc ? q->complaint : "done", lost ? ", unheard" : "");
    return lost ? MIGBUF_OUTCOME_UNKNOWN : rc ? MIGBUF_OUTCOME_REFUSED : MIGBUF_OUTCOME_DONE;
}

static void save_text(void)
{
    uint64_t revision = info().text_revision;

    if (revision == life.revision)
        return;
    life.revision = revision;
    ck_assert_int_eq(migbuf_ram_save(life.ram, life.text, sizeof life.text, &life.length), 0);
}

/* At the worst time, too: it may be too late. */
static void give_up(void)
{
    if (life.started && !life.gave_up && migbuf_ram_cancel(life.ram) == 0) {
        tell(" the host gives up\n");
        life.gave_up = 1;
    }
}

/* Returns 1 when the process died on the way. */
static int pump(int calm, int mortal)
{
    struct migbuf_ram_command c;
    int left = 300, rc = 0;

    while (rc == 0 && migbuf_ram_next(life.ram, &c) == 1) {
        ck_life(left-- > 0, "it never comes to rest");
        save_text();
        if (!is_query(&c))
            tell("  %c %s %s (%d)\n", "ST"[c.side], c.name, c.arguments ? c.arguments : "", life.q.side[0].phase);
        check(&c);
        if (mortal && draw(60) == 0) {
            if (draw(2))
                send(&c, calm);
            return 1;
        }
        rc = migbuf_ram_answered(life.ram, send(&c, calm));
        if ((c.kind == MIGBUF_RAM_START_POSTCOPY || c.kind == MIGBUF_RAM_CONTINUE) && !calm && draw(4) == 0)
            give_up();
        ck_life(rc == 0 || rc == MIGBUF_E_PEER || rc == MIGBUF_E_UNKNOWN, "answered: %d", rc);
    }
    save_text();
    return 0;
}

static void revive(void)
{
    tell(" the process died, another one loads\n");
    migbuf_ram_free(life.ram);
    ck_assert_int_eq(migbuf_ram_load(life.text, life.length, NULL, &life.ram), 0);
    life.revision = 0;
    life.loaded = 1;
    for (int k = 0; k < 2; k++) /* a host sees whose process has ended */
        if (!life.q.side[k].alive)
            migbuf_ram_gone(life.ram, k);
    migbuf_ram_look(life.ram, life.now_ms);
}

static void hear_events(void)
{
    for (int side = 0; side < 2; side++) {
        int bits = life.q.events[side];

        life.q.events[side] = 0;
        if (!life.events || !life.q.side[side].alive)
            continue;
        for (int e = 0; e < 4; e++)
            if (bits >> e & 1)
                migbuf_ram_event(life.ram, side, e + 1, e ? 0 : life.q.side[side].phase, life.now_ms);
    }
}

/* A host that is told to end the target, or sees it end, says so. */
static void mind_processes(void)
{
    for (int side = 0; side < 2; side++)
        if (!life.q.side[side].alive)
            migbuf_ram_gone(life.ram, side);
    if (info().state == MIGBUF_RAM_STATE_UNCLEAR && draw(3) == 0 && life.q.side[1].alive) {
        tell(" the host ends the target\n");
        model_kill(&life.q, 1);
        migbuf_ram_gone(life.ram, 1);
    }
}

static int is_post(void)
{
    return life.q.side[0].phase >= MIGBUF_RAM_PHASE_POSTCOPY && life.q.side[0].phase <= MIGBUF_RAM_PHASE_RECOVER;
}

static void something_happens(void)
{
    struct ram_model *q = &life.q;
    int k;

    switch (q->waits_for_target && draw(3) == 0 ? 0 : draw(60)) { /* that moment is rare */
    case 0:
        if (q->waits_for_target || life.runs_left-- > 0) {
            tell(" the link breaks (%d)\n", q->side[0].phase);
            q->side[1].unaware = (int)draw(2);
            model_link(q, 0);
        }
        break;
    case 1:
        k = (int)draw(MODEL_PARS - 3);
        if (draw(3) == 0 && k != model_par_index("cpu-throttle-tailslow") && q->side[0].phase >= MIGBUF_RAM_PHASE_ACTIVE) {
            uint64_t x = k == model_par_index("xbzrle-cache-size") ? 1 << 20 : 3 + draw(90);

            if (k >= model_par_index("cpu-throttle-initial") && k <= model_par_index("max-cpu-throttle"))
                break; /* they bound each other */
            tell(" another hand sets %s to %llu\n", model_par[k], (unsigned long long)x);
            q->side[0].pars[k] = life.other[0][k] = x;
        }
        break;
    case 2:
        if (draw(8) == 0 && q->side[1].alive) {
            life.target_died_in_post |= is_post() || q->side[1].running ||
                                        q->side[0].phase == MIGBUF_RAM_PHASE_COMPLETED; /* the guest was in it, and may have stood */
            tell(" the target dies (%d)\n", q->side[0].phase);
            model_kill(q, 1);
        }
        break;
    case 3:
        if (draw(20) == 0 && q->side[0].alive && life.started) {
            tell(" the source dies (%d)\n", q->side[0].phase);
            life.source_died = 1;
            model_kill(q, 0);
        }
        break;
    case 4:
        if (draw(4) == 0)
            give_up();
        break;
    case 5:
        if (draw(10) == 0 && q->side[0].alive && q->side[0].phase == MIGBUF_RAM_PHASE_ACTIVE && q->side[0].running) {
            tell(" an administrator stops it\n");
            q->side[0].running = 0;
            strcpy(q->side[0].status, "paused");
            life.stopped_by_admin = 1;
            q->was_running = 0;
        }
        break;
    default:
        break;
    }
}

static void begin_life(uint64_t seed)
{
    static const char *const version[] = { "7.2", "10", "11.1" };
    struct model_memory *m;
    double used;

    memset(&life, 0, sizeof life);
    life.seed = seed;
    draw_state = seed * 7919;
    model_begin(&life.q);
    life.now_ms = 1000;
    life.q.is_new = (int)draw(3);
    life.q.device_s = draw_between(0, 5);
    life.q.no_userfaultfd = draw(5) == 0;
    life.q.hangs = draw(3) == 0;
    life.q.link_bytes_per_s = 50e6 * exp(draw_between(0, 3));
    life.q.late_failure = draw(12) == 0;
    life.q.load_fails = draw(12) == 0;
    life.events = (int)draw(3);
    life.refuses = draw(2) ? 0 : (int)draw(15);
    life.loses = draw(2) ? 0 : (int)draw(20);
    life.runs_left = draw(3) ? 0 : 1 + (int)draw(3);
    m = &life.q.memory;
    used = 1e9 * exp(draw_between(0, 2));
    m->zero_bytes = used * draw_between(0.05, 0.5);
    m->set[0] = used * draw_between(0.005, 0.4);
    m->set[1] = used * 0.3;
    m->set[2] = used * 0.3;
    m->rate[0] = 1e6 * exp(draw_between(0, 7));
    m->rate[1] = m->rate[0] / 20;
    m->rate[2] = m->rate[0] / 100;
    for (int s = 0; s < 2; s++) {
        struct model_side *x = &life.q.side[s];

        for (int k = 0; k < MODEL_CAPS; k++) /* as LXD or Incus leave them, or anybody */
            x->caps[k] = draw(6) == 0 && (k == model_cap_index("auto-converge") || k == model_cap_index("release-ram") ||
                                          k == model_cap_index("zero-blocks") || k == model_cap_index("events") || k == model_cap_index("xbzrle"));
        x->pars[model_par_index("downtime-limit")] = 300 + draw(3) * 111;
        x->pars[model_par_index("max-bandwidth")] = draw(3) ? 134217728 : draw(2) ? UINT64_MAX : 0;
        x->pars[model_par_index("cpu-throttle-tailslow")] = draw(2);
        x->pars[model_par_index("cpu-throttle-initial")] = 20 + 30 * draw(2);
        life.host[s] = *x;
        for (int k = 0; k < MODEL_PARS; k++)
            life.other[s][k] = UINT64_MAX - 1;
    }
    ck_assert_int_eq(migbuf_agreement_init(&life.agreed, sizeof life.agreed), 0);
    life.agreed.want_ms = 50 + draw(100);
    life.agreed.most_ms = life.agreed.want_ms + draw(1000);
    life.agreed.throttle_most_percent = draw(3) ? draw(100) : 0;
    life.agreed.postcopy = draw(2);
    life.agreed.force = draw(3) == 0;
    life.agreed.deadline_ms = draw(2) ? 0 : 20000 + draw(100000);
    ck_assert_int_eq(migbuf_ram_options_init(&life.options, sizeof life.options), 0);
    life.options.xbzrle_cache_bytes = draw(3) ? 0 : 1 << 27;
    life.options.multifd_channels = draw(4) ? 0 : 1 + draw(8);
    tell("%s: link %.0f MB/s, W %.0f MB, r %.0f MB/s, used %.0f MB; most %u ms, throttle %u, postcopy %u, force %u, deadline %llu ms; refuses %d, "
         "loses %d%s\n", version[life.q.is_new], life.q.link_bytes_per_s / 1e6, m->set[0] / 1e6, m->rate[0] / 1e6, used / 1e6,
         life.agreed.most_ms, life.agreed.throttle_most_percent, life.agreed.postcopy, life.agreed.force,
         (unsigned long long)life.agreed.deadline_ms, life.refuses, life.loses, life.events ? "" : ", hears nothing");
}

static int is_over(void)
{
    return info().state >= MIGBUF_RAM_STATE_MOVED;
}

/* From the first question until it is over; the host's process may die at any command. */
static void migrate(void)
{
    int rc;

    ck_assert_int_eq(migbuf_ram_new(&life.agreed, &life.options, NULL, &life.ram), 0);
    ck_assert_int_eq(migbuf_ram_learn(life.ram), 0);
    pump(1, 0);
    save_text();
    for (int looks = 0; !is_over(); looks++) {
        ck_life(looks < 20000, "it is never over: %s", migbuf_ram_state_text(info().state));
        if (looks > 15000)
            life.refuses = life.loses = 0;
        if (info().state == MIGBUF_RAM_STATE_IDLE) {
            rc = migbuf_ram_start(life.ram, "unix:s", "unix:t");
            if (rc == MIGBUF_E_STATE && (!life.q.side[0].alive || !life.q.side[1].alive || life.gave_up))
                break; /* nothing there to be moved, or nobody wants it any more */
            ck_life(rc == 0 || rc == MIGBUF_E_STATE, "start: %d", rc);
            life.started = 1;
        }
        run_model(draw(3) ? 0.2 + draw_between(0, 1) : 3);
        something_happens();
        if (!life.q.link_up && draw(10) == 0)
            model_link(&life.q, 1);
        hear_events();
        mind_processes();
        if (migbuf_ram_look(life.ram, life.now_ms) || pump(0, 1))
            revive();
        if (pump(0, 0))
            revive();
        if (info().state == MIGBUF_RAM_STATE_SWITCH) {
            run_model(draw_between(0, 2)); /* the mirrors end */
            migbuf_ram_switch(life.ram);
            if (pump(0, 1))
                revive();
        }
    }
}

static void give_back(void)
{
    int rc;

    life.restoring = 1;
    carry_out_late();
    for (int tries = 0; tries < 6; tries++) {
        mind_processes();
        rc = migbuf_ram_restore(life.ram);
        ck_life(rc == 0, "restore: %d in %s", rc, migbuf_ram_state_text(info().state));
        if (pump(tries >= 3, tries < 3))
            revive();
        run_model(0.5);
        if (info().restored && info().state != MIGBUF_RAM_STATE_IDLE)
            break;
    }
    /* and the guest that was to be let run */
    for (int tries = 0; tries < 5; tries++) {
        migbuf_ram_look(life.ram, life.now_ms);
        pump(1, 0);
    }
}

static void check_end(void)
{
    const struct ram_model *q = &life.q;
    int32_t state = info().state;
    int home = state == MIGBUF_RAM_STATE_CANCELLED || state == MIGBUF_RAM_STATE_FAILED || state == MIGBUF_RAM_STATE_REFUSED ||
               state == MIGBUF_RAM_STATE_IDLE;

    tell(" end: %s; source %s %d, target %s %d\n", migbuf_ram_state_text(state), q->side[0].alive ? "there" : "gone", q->side[0].running,
         q->side[1].alive ? "there" : "gone", q->side[1].running);
    ck_life(!runs_twice(), "two guests are left");
    if (state == MIGBUF_RAM_STATE_MOVED)
        ck_life((q->side[1].running || life.stopped_by_admin || !q->side[1].alive) && !q->side[0].running, "said to be there");
    if (home && q->side[0].alive)
        ck_life(q->side[0].running || life.stopped_by_admin, "said to be at home");
    if (state == MIGBUF_RAM_STATE_LOST)
        ck_life(life.source_died || life.target_died_in_post, "lost, and nobody died");
    if (!life.source_died && !life.target_died_in_post)
        ck_life(state != MIGBUF_RAM_STATE_LOST, "lost");
    ck_life(info().restored || state == MIGBUF_RAM_STATE_IDLE, "not restored");
    for (int s = 0; s < 2; s++) {
        if (!q->side[s].alive || state == MIGBUF_RAM_STATE_LOST)
            continue;
        for (int k = 0; k < MODEL_CAPS; k++)
            ck_life(q->side[s].caps[k] == life.host[s].caps[k], "%c has %s %d", "ST"[s], model_cap[k], q->side[s].caps[k]);
        for (int k = 0; k < MODEL_PARS; k++) {
            uint64_t x = q->side[s].pars[k];

            ck_life(x == life.host[s].pars[k] || x == life.other[s][k], "%c has %s %llu, not %llu", "ST"[s], model_par[k],
                    (unsigned long long)x, (unsigned long long)life.host[s].pars[k]);
            if (!life.loaded && life.other[s][k] != UINT64_MAX - 1 && k != model_par_index("downtime-limit") &&
                k != model_par_index("multifd-channels")) /* what we set again meanwhile; what is the same as ours */
                ck_life(x == life.other[s][k], "%s %llu of another hand's is gone", model_par[k], (unsigned long long)life.other[s][k]);
        }
    }
}

static int ends[14], two_ran;

static void live(uint64_t seed)
{
    begin_life(seed);
    migrate();
    give_back();
    check_end();
    ends[info().state]++;
    two_ran += life.q.let_two_run;
    migbuf_ram_free(life.ram);
}

#ifndef MIGBUF_FUZZ /* tests/fuzz drives live() itself */
static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

START_TEST(the_guest_is_in_one_place_and_the_settings_come_back)
{
    uint64_t first = number_from("MIGBUF_TEST_SEED", 1), lives = number_from("MIGBUF_TEST_LIVES", (uint64_t)unit_rounds(20000));

    for (uint64_t seed = first; seed < first + lives; seed++)
        live(seed);
    if (lives >= 5000)
        ck_assert_int_gt(two_ran, 0);
    if (lives >= 1000) { /* every end was come to */
        for (int k = MIGBUF_RAM_STATE_MOVED; k <= MIGBUF_RAM_STATE_REFUSED; k++)
            ck_assert_msg(ends[k] > 0, "no life ended as %s", migbuf_ram_state_text(k));
    }
    printf("# two ran in %d lives, until one was ended\n", two_ran);
    for (int k = 0; k < 14; k++)
        if (ends[k])
            printf("# %s %d\n", migbuf_ram_state_text(k), ends[k]);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { the_guest_is_in_one_place_and_the_settings_come_back, NULL };

    return unit_run("ram_model", tests, 0);
}
#endif
