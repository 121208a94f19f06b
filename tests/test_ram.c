/* SPDX-License-Identifier: MIT */
/* Which commands the machine for memory sends, and when it sends none. That QEMU takes them is tested on QEMU. */
#include "unit.h"
#include "migbuf/ram.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* What this QEMU knows; NULL at the end. */
static const char *const all_capabilities[] = { "xbzrle", "auto-converge", "events", "postcopy-ram", "pause-before-switchover",
                                                "multifd", "postcopy-blocktime", "postcopy-preempt", "release-ram", NULL };
static const struct {
    const char *name;
    uint64_t value;
} all_parameters[] = {
    { "announce-max", 550 }, { "max-bandwidth", UINT64_MAX }, { "downtime-limit", 300 }, { "max-postcopy-bandwidth", 7 },
    { "cpu-throttle-initial", 20 }, { "cpu-throttle-increment", 10 }, { "max-cpu-throttle", 99 }, { "throttle-trigger-threshold", 50 },
    { "cpu-throttle-tailslow", 1 }, { "xbzrle-cache-size", 67108864 }, { "multifd-channels", 2 },
};

/* Both QEMUs as far as these tests need them. */
static struct peer {
    const char *const *capabilities;
    const char *refuses;  /* a capability that is not to be set */
    char on[16][32];      /* capabilities that are set */
    int on_count;
    uint64_t value[sizeof all_parameters / sizeof *all_parameters];
    int running;
    const char *status;   /* where it does not run */
    struct migbuf_ram_report migration;
} peer[2];

static struct migbuf_ram *ram;
static struct migbuf_ram_command command;
static char sent[20000]; /* all commands that change something: "S migrate {…}\n" */

static void reset(void)
{
    migbuf_ram_free(ram);
    ram = NULL;
    memset(peer, 0, sizeof peer);
    sent[0] = 0;
    for (int k = 0; k < 2; k++) {
        peer[k].capabilities = all_capabilities;
        peer[k].status = k ? "inmigrate" : "paused";
        for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++)
            peer[k].value[i] = all_parameters[i].value;
    }
    peer[0].running = 1;
}

static struct migbuf_agreement agreed(void)
{
    struct migbuf_agreement a;

    ck_assert_int_eq(migbuf_agreement_init(&a, sizeof a), 0);
    return a;
}

static int is_on(const struct peer *p, const char *name)
{
    for (int k = 0; k < p->on_count; k++)
        if (!strcmp(p->on[k], name))
            return 1;
    return 0;
}

static void set_on(struct peer *p, const char *name, int on)
{
    for (int k = 0; k < p->on_count; k++)
        if (!strcmp(p->on[k], name)) {
            if (!on) {
                p->on_count--;
                memmove(p->on[k], p->on[p->on_count], sizeof *p->on);
            }
            return;
        }
    if (on)
        strcpy(p->on[p->on_count++], name);
}

static int will_be_on(const struct peer *p, const char *text, const char *name)
{
    char key[64];
    const char *at;

    snprintf(key, sizeof key, "\"%s\",\"state\":", name);
    at = strstr(text, key);
    return at ? at[strlen(key)] == 't' : is_on(p, name);
}

/* {"capability":"x","state":true}, …: all of them or none. Multifd goes with few others, QEMU 8.2 to 10.0. */
static int set_capabilities(struct peer *p, const char *text)
{
    char name[64];

    if ((p->refuses && strstr(text, p->refuses)) ||
        (will_be_on(p, text, "multifd") && (will_be_on(p, text, "xbzrle") || will_be_on(p, text, "postcopy-ram"))))
        return MIGBUF_OUTCOME_REFUSED;
    for (const char *at = text; (at = strstr(at, "\"capability\":\"")) != NULL;) {
        size_t n = strcspn(at += 14, "\"");

        memcpy(name, at, n);
        name[n] = 0;
        set_on(p, name, strncmp(at + n + 10, "true", 4) == 0);
    }
    return MIGBUF_OUTCOME_DONE;
}

static void set_parameters(struct peer *p, const char *text)
{
    char key[64];

    for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++) {
        const char *at;

        snprintf(key, sizeof key, "\"%s\":", all_parameters[i].name);
        at = strstr(text, key);
        if (at)
            p->value[i] = !strncmp(at + strlen(key), "true", 4) ? 1 : strtoull(at + strlen(key), NULL, 10);
    }
}

static uint64_t parameter(int side, const char *name)
{
    for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++)
        if (!strcmp(all_parameters[i].name, name))
            return peer[side].value[i];
    ck_abort_msg("no such parameter");
    return 0;
}

/* Carries it out as those would, and tells what they say to a query. */
static int32_t carry_out(void)
{
    struct peer *p = &peer[command.side];

    if (command.kind > MIGBUF_RAM_GET_STATUS) {
        size_t n = strlen(sent);

        snprintf(sent + n, sizeof sent - n, "%c %s%s%s\n", "ST"[command.side], command.name, command.arguments ? " " : "",
                 command.arguments ? command.arguments : "");
    }
    switch (command.kind) {
    case MIGBUF_RAM_GET_CAPABILITIES:
        for (int k = 0; p->capabilities[k]; k++)
            ck_assert_int_eq(migbuf_ram_found_capability(ram, p->capabilities[k], is_on(p, p->capabilities[k])), 0);
        break;
    case MIGBUF_RAM_GET_PARAMETERS:
        for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++)
            ck_assert_int_eq(migbuf_ram_found_parameter(ram, all_parameters[i].name, p->value[i]), 0);
        break;
    case MIGBUF_RAM_GET_MIGRATION:
        ck_assert_int_eq(migbuf_ram_found(ram, &p->migration), 0);
        break;
    case MIGBUF_RAM_GET_STATUS:
        ck_assert_int_eq(migbuf_ram_status(ram, p->running ? "running" : p->status, p->running), 0);
        break;
    case MIGBUF_RAM_SET_CAPABILITIES:
        return set_capabilities(p, command.arguments);
    case MIGBUF_RAM_SET_PARAMETERS:
        set_parameters(p, command.arguments);
        break;
    case MIGBUF_RAM_MIGRATE:
        p->migration = (struct migbuf_ram_report){ .phase = MIGBUF_RAM_PHASE_SETUP };
        break;
    case MIGBUF_RAM_CANCEL:
        p->migration.phase = MIGBUF_RAM_PHASE_CANCELLED;
        break;
    case MIGBUF_RAM_CONT:
        p->running = 1;
        break;
    default:
        break;
    }
    return MIGBUF_OUTCOME_DONE;
}

/* Until nothing is left, or something is not done. */
static int pump(void)
{
    int rc = 0, left = 200;

    while (rc == 0 && migbuf_ram_next(ram, &command) == 1) {
        ck_assert_int_gt(left--, 0);
        rc = migbuf_ram_answered(ram, carry_out());
    }
    return rc;
}

static struct migbuf_ram_info info(void)
{
    struct migbuf_ram_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_ram_info(ram, &i), 0);
    return i;
}

static void state_is(int32_t state)
{
    ck_assert_msg(info().state == state, "%s, not %s; sent: %s", migbuf_ram_state_text(info().state), migbuf_ram_state_text(state), sent);
}

static void learn(const struct migbuf_agreement *a, const struct migbuf_ram_options *o)
{
    ck_assert_int_eq(migbuf_ram_new(a, o, NULL, &ram), 0);
    ck_assert_int_eq(migbuf_ram_learn(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(info().learnt, 1);
    sent[0] = 0;
}

static void start(const struct migbuf_agreement *a)
{
    learn(a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    state_is(MIGBUF_RAM_STATE_RUNNING);
}

static uint64_t now;

static void look(void)
{
    now += 1000;
    ck_assert_int_eq(migbuf_ram_look(ram, now), 0);
    ck_assert_int_eq(pump(), 0);
}

static void sent_is(const char *expected)
{
    ck_assert_str_eq(sent, expected);
    sent[0] = 0;
}

static void phase(int side, int32_t p)
{
    peer[side].migration.phase = p;
}

/* A report within pre-copy: sync count, what remains, dirty pages/s; 100e6 bytes/s are sent. */
static void at(uint64_t total_ms, uint64_t sync, uint64_t remaining, uint64_t dirty_pages)
{
    peer[0].migration = (struct migbuf_ram_report){
        .phase = MIGBUF_RAM_PHASE_ACTIVE, .has_ram = 1, .total_ms = total_ms, .sync_count = sync, .ram_remaining_bytes = remaining,
        .dirty_pages_per_s = dirty_pages, .page_bytes = 4096, .ram_total_bytes = 4000000000, .ram_transferred_bytes = total_ms * 100000,
        .cpu_throttle_percent = peer[0].migration.cpu_throttle_percent };
    look();
}

/* A guest that dirties 2 GB in each round of 20 s and of 40 s. */
static void saturate(void)
{
    at(100, 1, 3900000000, 0);
    at(40000, 2, 2000000000, 12207);
    at(60000, 3, 2000000000, 24414);
}

START_TEST(everything_that_was_agreed_is_armed_before_migrate)
{
    struct migbuf_agreement a = agreed();

    reset();
    a.postcopy = 1;
    start(&a);
    sent_is("T migrate-set-capabilities {\"capabilities\":[{\"capability\":\"events\",\"state\":true},{\"capability\":\"postcopy-ram\",\"state\":true},"
            "{\"capability\":\"postcopy-blocktime\",\"state\":true}]}\n"
            "S migrate-set-capabilities {\"capabilities\":[{\"capability\":\"events\",\"state\":true},{\"capability\":\"pause-before-switchover\",\"state\":true},"
            "{\"capability\":\"auto-converge\",\"state\":true},{\"capability\":\"postcopy-ram\",\"state\":true}]}\n"
            "S migrate-set-parameters {\"max-bandwidth\":17179869184,\"max-postcopy-bandwidth\":0,\"downtime-limit\":100,\"cpu-throttle-initial\":1,"
            "\"cpu-throttle-increment\":1,\"max-cpu-throttle\":1,\"cpu-throttle-tailslow\":false}\n"
            "T migrate-incoming {\"uri\":\"unix:/t\"}\n"
            "S migrate {\"uri\":\"unix:/s\"}\n");
    ck_assert(info().armed_postcopy && info().armed_throttle && !info().armed_preempt && !info().armed_xbzrle);
}
END_TEST

START_TEST(what_was_not_agreed_is_not_armed)
{
    struct migbuf_agreement a = agreed();

    reset();
    set_on(&peer[0], "auto-converge", 1); /* LXD sets it on each migration: it would throttle a guest that must not be */
    a.throttle_most_percent = 0;
    start(&a);
    ck_assert(!is_on(&peer[0], "auto-converge") && !is_on(&peer[0], "postcopy-ram") && !is_on(&peer[1], "postcopy-ram"));
    ck_assert_uint_eq(parameter(0, "cpu-throttle-initial"), 20);
    ck_assert_ptr_null(strstr(sent, "throttle"));
}
END_TEST

START_TEST(one_by_one_where_qemu_refuses_one)
{
    struct migbuf_agreement a = agreed();

    reset();
    a.postcopy = 1;
    peer[1].refuses = "postcopy-ram"; /* no userfaultfd */
    start(&a);
    ck_assert(!info().armed_postcopy && info().armed_throttle);
    ck_assert(is_on(&peer[1], "events") && !is_on(&peer[1], "postcopy-blocktime") && !is_on(&peer[0], "postcopy-ram"));

    reset();
    set_on(&peer[0], "auto-converge", 1); /* it must go, and QEMU does not let it */
    a.throttle_most_percent = 0;
    peer[0].refuses = "auto-converge";
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), MIGBUF_E_PEER);
    state_is(MIGBUF_RAM_STATE_REFUSED);
    ck_assert_int_eq(migbuf_ram_outcome(ram), MIGBUF_OUTCOME_REFUSED);
    ck_assert_ptr_null(strstr(sent, "unix:"));
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().restored && !is_on(&peer[0], "events") && !is_on(&peer[1], "events") && is_on(&peer[0], "auto-converge"));
}
END_TEST

/* What the host has on, and QEMU does not let go, stays; what does not go with it is not used. And nothing is tried for ever. */
START_TEST(what_cannot_be_switched_off_stays)
{
    static const struct {
        const char *stays, *not_used;
        int postcopy;
    } row[] = { { "xbzrle", "multifd", 0 }, { "multifd", "postcopy-ram", 1 }, { "postcopy-ram", "multifd", 0 } };
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_options o;

    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    o.multifd_channels = 5;
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        reset();
        set_on(&peer[0], row[k].stays, 1);
        set_on(&peer[1], row[k].stays, 1);
        peer[0].refuses = row[k].stays;
        a.postcopy = (uint32_t)row[k].postcopy;
        learn(&a, &o);
        ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
        ck_assert_int_eq(pump(), 0);
        for (int side = 0; side < 2; side++)
            ck_assert_msg(is_on(&peer[side], row[k].stays) && !is_on(&peer[side], row[k].not_used), "%s, side %d", row[k].stays, side);
        ck_assert_ptr_nonnull(strstr(sent, "unix:/s"));
    }
}
END_TEST

START_TEST(nothing_starts_without_a_pause_before_the_switch)
{
    static const char *const old[] = { "events", "auto-converge", NULL };
    struct migbuf_agreement a = agreed();

    reset();
    peer[0].capabilities = old;
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), MIGBUF_E_UNSUPPORTED);
    state_is(MIGBUF_RAM_STATE_IDLE);
    reset();
    peer[0].refuses = "pause-before-switchover";
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), MIGBUF_E_PEER);
    state_is(MIGBUF_RAM_STATE_REFUSED);
}
END_TEST

START_TEST(xbzrle_and_multifd_where_they_were_chosen)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_options o;

    reset();
    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    o.xbzrle_cache_bytes = 1 << 27;
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().armed_xbzrle && is_on(&peer[1], "xbzrle") && parameter(0, "xbzrle-cache-size") == 1 << 27);
    reset();
    o.multifd_channels = 5; /* with both, the link is what counts */
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().armed_multifd && !info().armed_xbzrle && parameter(0, "multifd-channels") == 5 && parameter(1, "multifd-channels") == 5);
    reset();
    a.postcopy = 1; /* QEMU 8.2 to 10.0 refuse both together */
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(!info().armed_multifd && info().armed_postcopy);
    reset();
    o.one_way = 1; /* a pipe */
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, "fd:migration", NULL), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(!info().armed_multifd && !info().armed_postcopy && info().armed_xbzrle);
    ck_assert_ptr_null(strstr(sent, "migrate-incoming"));
}
END_TEST

START_TEST(options_are_chosen_by_what_is_known)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_options o, before;
    struct migbuf_prior p;

    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    ck_assert(o.max_bandwidth_bytes_per_s == UINT64_C(17179869184) && o.fix_ms == 50 && o.sides == 3);
    ck_assert_int_eq(migbuf_prior_init(&p, sizeof p, UINT64_C(8) << 30), 0);
    p.encoding = 0.05;
    p.set_bytes = 100e6;
    p.attempts = 3;
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_UNKNOWN, 117e6, UINT64_C(64) << 30), 0);
    ck_assert(o.xbzrle_cache_bytes == 134217728 && !o.multifd_channels);
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_YES, 117e6, UINT64_C(64) << 30), 0);
    ck_assert_uint_eq(o.xbzrle_cache_bytes, 0); /* it goes without */
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, 117e6, UINT64_C(1) << 30), 0);
    ck_assert_uint_eq(o.xbzrle_cache_bytes, 0); /* a tenth of the host's memory is not enough */
    p.encoding = 0.71;
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, 5e9, UINT64_C(64) << 30), 0);
    ck_assert(!o.xbzrle_cache_bytes && o.multifd_channels == 5);
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, 100e9, UINT64_C(64) << 30), 0);
    ck_assert_uint_eq(o.multifd_channels, 16);
    a.postcopy = 1;
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, 5e9, UINT64_C(64) << 30), 0);
    ck_assert_uint_eq(o.multifd_channels, 0);
    before = o;
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, NAN, 1), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, -1, 1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, NULL, MIGBUF_RAM_NO, 1, 1), MIGBUF_E_INVALID);
    p.set_bytes = INFINITY;
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, 1, 1), MIGBUF_E_RANGE);
    a.want_ms = 0;
    ck_assert_int_eq(migbuf_ram_options_choose(&o, &a, &p, MIGBUF_RAM_NO, 1, 1), MIGBUF_E_RANGE);
    ck_assert_mem_eq(&o, &before, sizeof o);
}
END_TEST

START_TEST(bad_options_make_no_machine)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_options o;

    reset();
    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    o.sides = 0;
    ck_assert_int_eq(migbuf_ram_new(&a, &o, NULL, &ram), MIGBUF_E_INVALID);
    o.sides = 4;
    ck_assert_int_eq(migbuf_ram_new(&a, &o, NULL, &ram), MIGBUF_E_INVALID);
    o.sides = 3;
    o.xbzrle_cache_bytes = 5;
    ck_assert_int_eq(migbuf_ram_new(&a, &o, NULL, &ram), MIGBUF_E_INVALID);
    o.xbzrle_cache_bytes = 0;
    o.multifd_channels = 256;
    ck_assert_int_eq(migbuf_ram_new(&a, &o, NULL, &ram), MIGBUF_E_RANGE);
    o.multifd_channels = 0;
    o.size = 8;
    ck_assert_int_eq(migbuf_ram_new(&a, &o, NULL, &ram), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_ram_new(NULL, NULL, NULL, &ram), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_new(&a, NULL, NULL, NULL), MIGBUF_E_INVALID);
    a.want_ms = 501;
    ck_assert_int_eq(migbuf_ram_new(&a, NULL, NULL, &ram), MIGBUF_E_INVALID);
    ck_assert_ptr_null(ram);
    migbuf_ram_free(NULL);
}
END_TEST

/* The whole way, plain. */
static void arrive(void)
{
    phase(0, MIGBUF_RAM_PHASE_COMPLETED);
    peer[0].running = 0;
    peer[0].status = "postmigrate";
    phase(1, MIGBUF_RAM_PHASE_COMPLETED);
    peer[1].running = 1;
}

START_TEST(it_moves_and_everything_is_as_it_was)
{
    struct migbuf_agreement a = agreed();

    reset();
    set_on(&peer[0], "release-ram", 1);
    set_on(&peer[1], "auto-converge", 1);
    start(&a);
    ck_assert_int_eq(migbuf_ram_restore(ram), MIGBUF_E_STATE);
    sent[0] = 0;
    at(100, 1, 3900000000, 0);
    at(40000, 2, 1000, 10);
    sent_is("");
    ck_assert_int_eq(info().decision.action, MIGBUF_RAM_KEEP);
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    look();
    state_is(MIGBUF_RAM_STATE_SWITCH);
    look();
    sent_is(""); /* the host's mirrors have not ended */
    ck_assert_int_eq(migbuf_ram_switch(ram), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate-continue {\"state\":\"pre-switchover\"}\n");
    state_is(MIGBUF_RAM_STATE_ENDING);
    ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE); /* the target may have all of it */
    look();
    sent_is(""); /* QEMU needs a moment, and is not told again */
    arrive();
    look();
    state_is(MIGBUF_RAM_STATE_MOVED);
    sent_is("");
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(info().restored, 1);
    for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++)
        ck_assert(peer[0].value[i] == all_parameters[i].value && peer[1].value[i] == all_parameters[i].value);
    ck_assert(peer[0].on_count == 1 && is_on(&peer[0], "release-ram") && peer[1].on_count == 1 && is_on(&peer[1], "auto-converge"));
    ck_assert_ptr_nonnull(strstr(sent, "\"max-bandwidth\":18446744073709551615")); /* as QEMU said it */
    sent[0] = 0;
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("");
}
END_TEST

START_TEST(a_mirror_that_has_ended_early_is_not_waited_for)
{
    struct migbuf_agreement a = agreed();

    reset();
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_switch(ram), 0);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    sent[0] = 0;
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    look();
    sent_is("S migrate-continue {\"state\":\"pre-switchover\"}\n");
}
END_TEST

START_TEST(a_throttle_is_one_command)
{
    struct migbuf_agreement a = agreed();

    reset();
    a.deadline_ms = 300000;
    start(&a);
    sent[0] = 0;
    at(100, 1, 3900000000, 0);
    at(40000, 2, 380000000, 2319); /* 380 MB in 40 s, and 300 MB in 3.8 s: a set of 380 MB, 100 to 200 MB/s */
    at(43800, 3, 300000000, 19274);
    sent_is("S migrate-set-parameters {\"downtime-limit\":500,\"cpu-throttle-increment\":79,\"max-cpu-throttle\":80}\n");
    ck_assert_int_eq(info().decision.action, MIGBUF_RAM_THROTTLE);
    at(46800, 4, 300000000, 19274);
    ck_assert_int_eq(info().decision.action, MIGBUF_RAM_WAIT); /* it is not in force yet */
    peer[0].migration.cpu_throttle_percent = 80;
    at(49800, 5, 100000000, 2000);
    sent_is("");
    ck_assert_int_eq(info().decision.action, MIGBUF_RAM_KEEP);
    ck_assert_uint_eq(info().throttle_percent, 80);
}
END_TEST

START_TEST(the_last_means_are_those_that_were_agreed)
{
    struct migbuf_agreement a = agreed();

    for (int way = 0; way < 3; way++) {
        reset();
        a.postcopy = way == 1;
        a.force = way == 2;
        a.throttle_most_percent = 0;
        start(&a);
        sent[0] = 0;
        saturate();
        for (uint64_t k = 0; k < 4 && info().state == MIGBUF_RAM_STATE_RUNNING; k++)
            at(80000 + k * 20000, 4 + k, 2000000000, 24414);
        if (way == 0) {
            ck_assert_ptr_nonnull(strstr(sent, "S migrate_cancel\n"));
            state_is(MIGBUF_RAM_STATE_CANCELLED);
        } else if (way == 1)
            ck_assert_ptr_nonnull(strstr(sent, "S migrate-start-postcopy\n"));
        else
            ck_assert_ptr_nonnull(strstr(sent, "\"downtime-limit\":2000000"));
        ck_assert((strstr(sent, "start-postcopy") != NULL) == (way == 1) && (strstr(sent, "2000000") != NULL) == (way == 2) &&
                  (strstr(sent, "cancel") != NULL) == (way == 0));
    }
}
END_TEST

START_TEST(a_host_may_decide_within_what_was_agreed)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_options o;
    struct migbuf_ram_decision d = { .action = MIGBUF_RAM_DOWNTIME, .limit_ms = 501 };
    struct migbuf_convergence c = { .size = sizeof c };

    reset();
    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    o.host_decides = 1;
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_STATE); /* setup */
    sent[0] = 0;
    saturate();
    at(80000, 4, 2000000000, 24414);
    at(100000, 5, 2000000000, 24414);
    sent_is("");
    ck_assert_int_eq(migbuf_ram_convergence(ram, &c), 0);
    ck_assert(c.rounds == 4 && c.new_round == 1 && c.known == 1);
    ck_near(c.link_bytes_per_s, 100e6);
    ck_near(c.left_bytes, 2e9);
    ck_assert_double_eq_tol(c.set_bytes, 2e9, 2e7);
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_RANGE);
    d.action = MIGBUF_RAM_FORCE;
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_RANGE);
    d.limit_ms = 0;
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_RANGE);
    d.action = MIGBUF_RAM_POSTCOPY;
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_UNSUPPORTED);
    d.action = MIGBUF_RAM_STOP;
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_UNSUPPORTED);
    d.action = 9;
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_INVALID);
    d = (struct migbuf_ram_decision){ .action = MIGBUF_RAM_THROTTLE, .throttle_percent = 81 };
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), MIGBUF_E_RANGE);
    ck_assert_int_eq(pump(), 0);
    sent_is("");
    d.throttle_percent = 20;
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate-set-parameters {\"cpu-throttle-increment\":19,\"max-cpu-throttle\":20}\n");
    ck_assert_int_eq(migbuf_ram_outcome(ram), MIGBUF_OUTCOME_DONE);
    d = (struct migbuf_ram_decision){ .action = MIGBUF_RAM_DOWNTIME, .limit_ms = 500 };
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), 0);
    ck_assert_int_eq(migbuf_ram_outcome(ram), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate-set-parameters {\"downtime-limit\":500}\n");
    d = (struct migbuf_ram_decision){ .action = MIGBUF_RAM_ABORT };
    ck_assert_int_eq(migbuf_ram_apply(ram, &d), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate_cancel\n");
}
END_TEST

/* Answers that do not come */

/* The next command must be of this kind; nobody knows what becomes of it. */
static void lost(int32_t kind)
{
    ck_assert_int_eq(migbuf_ram_next(ram, &command), 1);
    ck_assert_msg(command.kind == kind, "%s is next", command.name);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_UNKNOWN), MIGBUF_E_UNKNOWN);
    ck_assert_int_eq(migbuf_ram_next(ram, &command), 0);
    ck_assert_int_eq(migbuf_ram_outcome(ram), MIGBUF_OUTCOME_UNKNOWN);
}

static void pump_to(int32_t kind)
{
    while (migbuf_ram_next(ram, &command) == 1 && command.kind != kind)
        ck_assert_int_eq(migbuf_ram_answered(ram, carry_out()), 0);
}

START_TEST(a_migrate_that_may_have_been_carried_out_is_asked_for)
{
    struct migbuf_agreement a = agreed();

    for (int carried_out = 0; carried_out < 5; carried_out++) {
        reset();
        if (carried_out == 3)
            phase(0, MIGBUF_RAM_PHASE_FAILED); /* an earlier one has left this */
        learn(&a, NULL);
        ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
        pump_to(MIGBUF_RAM_MIGRATE);
        lost(MIGBUF_RAM_MIGRATE);
        ck_assert_int_eq(info().unknown, 1);
        ck_assert_int_eq(migbuf_ram_restore(ram), MIGBUF_E_STATE);
        sent[0] = 0;
        if (carried_out == 1)
            phase(0, MIGBUF_RAM_PHASE_ACTIVE);
        if (carried_out == 2)
            phase(0, MIGBUF_RAM_PHASE_FAILED); /* and it has failed meanwhile */
        if (carried_out == 4)
            phase(0, MIGBUF_RAM_PHASE_OTHER); /* wait-unplug, or what a later QEMU says: it runs */
        look();
        ck_assert_int_eq(info().unknown, 0);
        if (carried_out == 0 || carried_out == 3)
            sent_is("S migrate {\"uri\":\"unix:/s\"}\n");
        else
            sent_is("");
        state_is(carried_out == 2 ? MIGBUF_RAM_STATE_FAILED : MIGBUF_RAM_STATE_RUNNING);
    }
}
END_TEST

/* It came through, completed, and was never heard of: QEMU refuses another, and the guest is not said to be here. */
START_TEST(a_migrate_that_came_through_unheard_has_moved_the_guest)
{
    struct migbuf_agreement a = agreed();

    for (int before = 0; before < 2; before++) {
        reset();
        phase(0, before ? MIGBUF_RAM_PHASE_COMPLETED : MIGBUF_RAM_PHASE_NONE); /* a stateful copy was made of it once */
        learn(&a, NULL);
        ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
        pump_to(MIGBUF_RAM_MIGRATE);
        lost(MIGBUF_RAM_MIGRATE);
        sent[0] = 0;
        arrive();
        look();
        sent_is("");
        state_is(MIGBUF_RAM_STATE_MOVED);
    }
}
END_TEST

START_TEST(a_late_incoming_is_no_failure)
{
    struct migbuf_agreement a = agreed();

    reset();
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    pump_to(MIGBUF_RAM_INCOMING);
    lost(MIGBUF_RAM_INCOMING);
    ck_assert_int_eq(migbuf_ram_look(ram, ++now), 0);
    pump_to(MIGBUF_RAM_INCOMING);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_REFUSED), 0); /* "already been started" */
    ck_assert_int_eq(pump(), 0);
    state_is(MIGBUF_RAM_STATE_RUNNING);
    reset();
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    pump_to(MIGBUF_RAM_INCOMING);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_REFUSED), MIGBUF_E_PEER); /* no such directory */
    state_is(MIGBUF_RAM_STATE_REFUSED);
}
END_TEST

START_TEST(after_postcopy_was_asked_for_nothing_is_cancelled)
{
    struct migbuf_agreement a = agreed();

    for (int known = 0; known < 2; known++) {
        reset();
        a.postcopy = 1;
        a.throttle_most_percent = 0;
        start(&a);
        at(100, 1, 3900000000, 0);
        at(40000, 2, 2000000000, 12207);
        at(60000, 3, 2000000000, 24414);
        ck_assert_int_eq(info().decision.action, MIGBUF_RAM_WAIT);
        peer[0].migration.sync_count = 4;
        peer[0].migration.total_ms = 80000;
        ck_assert_int_eq(migbuf_ram_look(ram, now += 1000), 0);
        pump_to(MIGBUF_RAM_START_POSTCOPY);
        if (known)
            ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_DONE), 0);
        else
            lost(MIGBUF_RAM_START_POSTCOPY);
        ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
        sent[0] = 0;
        at(81000, 4, 1000000000, 24414); /* still active: it may begin at any moment */
        ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
        phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
        look();
        ck_assert_int_eq(migbuf_ram_cancel(ram), 0); /* here it waits for migrate-continue */
        ck_assert_int_eq(migbuf_ram_switch(ram), 0);
        ck_assert_int_eq(pump(), 0);
        ck_assert_ptr_nonnull(strstr(sent, "S migrate_cancel"));
        ck_assert_ptr_null(strstr(sent, "migrate-continue"));
    }

    /* Another hand has begun it, and only the target has said so yet. */
    reset();
    a.postcopy = 1;
    start(&a);
    at(100, 1, 3900000000, 0);
    ck_assert_int_eq(migbuf_ram_event(ram, MIGBUF_RAM_TARGET, MIGBUF_RAM_EVENT_MIGRATION, MIGBUF_RAM_PHASE_POSTCOPY, now), 0);
    ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
}
END_TEST

/* QEMU 7.2, cancelled in the pause before post-copy, leaves the guest standing. */
START_TEST(a_guest_that_qemu_left_standing_is_let_run)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    peer[0].running = 0;
    peer[0].status = "postmigrate";
    look();
    sent[0] = 0;
    ck_assert_int_eq(migbuf_ram_cancel(ram), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate_cancel\nS cont\n");
    state_is(MIGBUF_RAM_STATE_CANCELLED);

    reset(); /* one that stood before does not run because of us */
    peer[0].running = 0;
    start(&a);
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    peer[0].status = "postmigrate";
    look();
    ck_assert_int_eq(migbuf_ram_cancel(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_ptr_null(strstr(sent, "cont\n"));

    reset(); /* nor one that an administrator has stopped meanwhile */
    start(&a);
    peer[0].running = 0;
    peer[0].status = "paused";
    ck_assert_int_eq(migbuf_ram_cancel(ram), 0);
    ck_assert_int_eq(pump(), 0);
    state_is(MIGBUF_RAM_STATE_CANCELLED);
    ck_assert_ptr_null(strstr(sent, "cont\n"));
}
END_TEST

START_TEST(after_the_last_step_the_guest_runs_in_one_place)
{
    struct migbuf_agreement a = agreed();

    for (int way = 0; way < 4; way++) {
        reset();
        start(&a);
        phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
        look();
        ck_assert_int_eq(migbuf_ram_switch(ram), 0);
        ck_assert_int_eq(pump(), 0);
        phase(0, MIGBUF_RAM_PHASE_FAILED);
        peer[0].running = 0;
        peer[0].status = "postmigrate";
        phase(1, MIGBUF_RAM_PHASE_ACTIVE);
        sent[0] = 0;
        look();
        state_is(MIGBUF_RAM_STATE_UNCLEAR); /* the target may be about to run it */
        look();
        sent_is("");
        switch (way) {
        case 0: /* the host has ended it */
            ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0);
            ck_assert_int_eq(pump(), 0);
            break;
        case 1:
            phase(1, MIGBUF_RAM_PHASE_FAILED);
            look();
            break;
        case 2: /* it had everything */
            peer[1].running = 1;
            look();
            break;
        default:
            phase(1, MIGBUF_RAM_PHASE_COMPLETED);
            look();
            break;
        }
        sent_is(way < 2 ? "S cont\n" : "");
        state_is(way < 2 ? MIGBUF_RAM_STATE_FAILED : MIGBUF_RAM_STATE_MOVED);
    }
}
END_TEST

START_TEST(completed_is_believed_when_the_target_has_it)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    phase(0, MIGBUF_RAM_PHASE_COMPLETED);
    peer[0].running = 0;
    peer[0].status = "postmigrate";
    phase(1, MIGBUF_RAM_PHASE_ACTIVE);
    look();
    state_is(MIGBUF_RAM_STATE_ENDING);
    sent[0] = 0;
    phase(1, MIGBUF_RAM_PHASE_FAILED); /* it could not load what it got: the guest's memory is still here */
    look();
    state_is(MIGBUF_RAM_STATE_FAILED);
    sent_is("S cont\n");
}
END_TEST

START_TEST(a_guest_that_the_host_has_stopped_runs_at_the_target)
{
    struct migbuf_agreement a = agreed();

    for (int ours = 0; ours < 2; ours++) {
        reset();
        start(&a);
        ck_assert_int_eq(migbuf_ram_stands(ram, ours), 0);
        sent[0] = 0;
        arrive();
        peer[1].running = 0;
        peer[1].status = "paused";
        look();
        state_is(MIGBUF_RAM_STATE_MOVED);
        sent_is(ours ? "T cont\n" : "");
    }
}
END_TEST

START_TEST(a_dead_target_ends_it)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER); /* QEMU notices nothing here: it sends nothing */
    look();
    sent[0] = 0;
    ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate_cancel\n");
    state_is(MIGBUF_RAM_STATE_CANCELLED);
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(info().restored, 1);
    ck_assert_ptr_null(strstr(sent, "T "));
}
END_TEST

START_TEST(a_cancel_that_hangs_is_helped)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    ck_assert_int_eq(migbuf_ram_next(ram, &command), 0);
    phase(0, MIGBUF_RAM_PHASE_ACTIVE);
    look();
    sent[0] = 0;
    ck_assert_int_eq(migbuf_ram_cancel(ram), 0);
    pump_to(MIGBUF_RAM_CANCEL);
    phase(0, MIGBUF_RAM_PHASE_CANCELLING); /* it was about to pause */
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_DONE), 0);
    ck_assert_int_eq(pump(), 0);
    state_is(MIGBUF_RAM_STATE_ENDING);
    sent_is("");
    now += 1000;
    ck_assert_int_eq(migbuf_ram_look(ram, now), 0);
    pump_to(MIGBUF_RAM_CONTINUE);
    ck_assert_str_eq(command.arguments, "{\"state\":\"cancelling\"}");
    phase(0, MIGBUF_RAM_PHASE_CANCELLED); /* it had gone on by itself: then QEMU refuses this, and nothing has failed */
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_REFUSED), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(info().failed, 0);
    state_is(MIGBUF_RAM_STATE_CANCELLED);
}
END_TEST

/* Post-copy */

static void enter_postcopy(void)
{
    struct migbuf_agreement a = agreed();

    reset();
    a.postcopy = 1;
    start(&a);
    phase(0, MIGBUF_RAM_PHASE_POSTCOPY);
    peer[0].migration.has_ram = 1;
    peer[0].running = 0;
    peer[0].status = "finish-migrate";
    phase(1, MIGBUF_RAM_PHASE_POSTCOPY);
    peer[1].running = 1;
    look();
    state_is(MIGBUF_RAM_STATE_POSTCOPY);
    sent[0] = 0;
}

START_TEST(a_broken_postcopy_is_mended)
{
    enter_postcopy();
    ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
    phase(0, MIGBUF_RAM_PHASE_PAUSED);
    look();
    state_is(MIGBUF_RAM_STATE_BROKEN);
    sent_is("T migrate-recover {\"uri\":\"unix:/t\"}\nS migrate {\"uri\":\"unix:/s\",\"resume\":true}\n");
    ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_uri(ram, "unix:/s2", "unix:/t2"), 0);
    look(); /* 1 s later */
    sent_is("T migrate-recover {\"uri\":\"unix:/t2\"}\nS migrate {\"uri\":\"unix:/s2\",\"resume\":true}\n");
    look();
    sent_is(""); /* 2 s */
    look();
    ck_assert_ptr_nonnull(strstr(sent, "resume"));
    sent[0] = 0;
    phase(0, MIGBUF_RAM_PHASE_POSTCOPY);
    peer[0].migration.ram_transferred_bytes = 5000;
    look();
    state_is(MIGBUF_RAM_STATE_POSTCOPY);
    phase(0, MIGBUF_RAM_PHASE_PAUSED); /* again: from the beginning */
    look();
    ck_assert_ptr_nonnull(strstr(sent, "resume"));
    sent[0] = 0;
    phase(0, MIGBUF_RAM_PHASE_POSTCOPY);
    look();
    arrive();
    look();
    state_is(MIGBUF_RAM_STATE_MOVED);
    sent_is("");
}
END_TEST

START_TEST(it_is_tried_for_ever_less_and_less_often)
{
    int tries = 0;

    enter_postcopy();
    phase(0, MIGBUF_RAM_PHASE_PAUSED);
    for (int k = 0; k < 600; k++) {
        look();
        tries += strstr(sent, "resume") != NULL;
        sent[0] = 0;
    }
    ck_assert_int_eq(tries, 6 + 9); /* at 0 1 3 7 15 31 63 s, then every 60 s */
}
END_TEST

START_TEST(a_target_that_has_not_noticed_is_told)
{
    enter_postcopy();
    phase(0, MIGBUF_RAM_PHASE_PAUSED);
    ck_assert_int_eq(migbuf_ram_look(ram, now += 1000), 0);
    pump_to(MIGBUF_RAM_RECOVER);
    ck_assert(command.out_of_band == 1 && command.side == MIGBUF_RAM_TARGET);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_REFUSED), 0); /* "can only be run when postcopy is paused" */
    pump_to(MIGBUF_RAM_PAUSE);
    ck_assert(command.out_of_band == 1 && command.side == MIGBUF_RAM_TARGET);
    ck_assert_int_eq(pump(), 0);
    sent_is("T migrate-pause\nT migrate-recover {\"uri\":\"unix:/t\"}\nS migrate {\"uri\":\"unix:/s\",\"resume\":true}\n");
}
END_TEST

START_TEST(a_source_that_has_not_noticed_is_told)
{
    enter_postcopy();
    ck_assert_int_eq(migbuf_ram_event(ram, MIGBUF_RAM_TARGET, MIGBUF_RAM_EVENT_MIGRATION, MIGBUF_RAM_PHASE_PAUSED, now), 0);
    ck_assert_int_eq(migbuf_ram_next(ram, &command), 1);
    ck_assert_int_eq(pump(), 0);
    sent_is("S migrate-pause\n");
}
END_TEST

START_TEST(a_death_in_postcopy_is_a_loss)
{
    for (int side = 0; side < 2; side++) {
        enter_postcopy();
        ck_assert_int_eq(migbuf_ram_gone(ram, side), 0);
        if (side == MIGBUF_RAM_SOURCE) {
            phase(1, MIGBUF_RAM_PHASE_PAUSED);
            look();
        }
        state_is(MIGBUF_RAM_STATE_LOST);
        ck_assert_int_eq(pump(), 0);
        sent_is("");
    }
    enter_postcopy(); /* the last page had come */
    ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_SOURCE), 0);
    phase(1, MIGBUF_RAM_PHASE_COMPLETED);
    look();
    state_is(MIGBUF_RAM_STATE_MOVED);
}
END_TEST

/* QEMU 11.1: the link breaks after the target runs, and before the source knows. It lets its own guest run, too. */
START_TEST(a_source_that_has_taken_its_guest_back_keeps_it)
{
    for (int target_first = 0; target_first < 2; target_first++) {
        enter_postcopy();
        phase(1, MIGBUF_RAM_PHASE_PAUSED);
        if (target_first)
            ck_assert_int_ge(migbuf_ram_event(ram, 1, MIGBUF_RAM_EVENT_MIGRATION, MIGBUF_RAM_PHASE_PAUSED, now), 0);
        phase(0, MIGBUF_RAM_PHASE_FAILED);
        peer[0].running = 1;
        for (int k = 0; k < 3; k++) {
            look();
            state_is(MIGBUF_RAM_STATE_UNCLEAR);
            sent_is(""); /* nothing is mended, cancelled or given back */
        }
        ck_assert_int_eq(migbuf_ram_restore(ram), MIGBUF_E_STATE);
        ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0);
        look();
        state_is(MIGBUF_RAM_STATE_FAILED);
        ck_assert(!strstr(sent, "cont"));
        sent[0] = 0;
        ck_assert_int_eq(migbuf_ram_restore(ram), 0);
        pump();
        ck_assert_int_eq(info().restored, 1);
    }
    enter_postcopy(); /* the target's end is known first */
    ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0);
    state_is(MIGBUF_RAM_STATE_LOST);
    for (int back = 0; back < 2; back++) { /* or not: the source is not past the devices' state */
        enter_postcopy();
        phase(0, MIGBUF_RAM_PHASE_DEVICE);
        look();
        ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0);
        look();
        state_is(MIGBUF_RAM_STATE_POSTCOPY);
        phase(0, MIGBUF_RAM_PHASE_OTHER); /* "failing" */
        look();
        state_is(MIGBUF_RAM_STATE_POSTCOPY);
        phase(0, back ? MIGBUF_RAM_PHASE_FAILED : MIGBUF_RAM_PHASE_PAUSED);
        peer[0].running = back;
        look();
        state_is(back ? MIGBUF_RAM_STATE_FAILED : MIGBUF_RAM_STATE_LOST);
        sent_is("");
    }
    enter_postcopy(); /* it stands as after a migration: it is nobody's */
    phase(1, MIGBUF_RAM_PHASE_PAUSED);
    phase(0, MIGBUF_RAM_PHASE_FAILED);
    look();
    look();
    state_is(MIGBUF_RAM_STATE_LOST);
}
END_TEST

START_TEST(the_target_is_not_asked_while_it_may_not_answer)
{
    enter_postcopy();
    for (int k = 0; k < 3; k++) {
        phase(0, k ? MIGBUF_RAM_PHASE_PAUSED : MIGBUF_RAM_PHASE_POSTCOPY);
        ck_assert_int_eq(migbuf_ram_look(ram, now += 1000), 0);
        while (migbuf_ram_next(ram, &command) == 1) {
            ck_assert(command.side == MIGBUF_RAM_SOURCE || command.out_of_band);
            ck_assert_int_eq(migbuf_ram_answered(ram, carry_out()), 0);
        }
    }
}
END_TEST

/* Other hands, other processes */

START_TEST(what_another_hand_has_set_stays)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    arrive();
    look();
    peer[0].value[2] = 1234; /* downtime-limit */
    sent[0] = 0;
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().restored && info().taken_over == 1);
    ck_assert_uint_eq(parameter(0, "downtime-limit"), 1234);
    ck_assert_uint_eq(parameter(0, "cpu-throttle-initial"), 20);

    /* What is in force is ours, however often something else was sent in vain. */
    reset();
    a.force = 1;
    a.throttle_most_percent = 0;
    start(&a);
    saturate();
    ck_assert_uint_eq(parameter(0, "downtime-limit"), 500);
    for (uint64_t k = 0; k < 5; k++) {
        peer[0].migration.total_ms += 20000;
        peer[0].migration.sync_count++;
        ck_assert_int_eq(migbuf_ram_look(ram, now += 1000), 0);
        while (migbuf_ram_next(ram, &command) == 1)
            if (migbuf_ram_answered(ram, command.kind == MIGBUF_RAM_SET_PARAMETERS ? MIGBUF_OUTCOME_UNKNOWN : carry_out()))
                break;
    }
    ck_assert_int_eq(info().unknown, 1);
    arrive();
    look();
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_uint_eq(parameter(0, "downtime-limit"), 300);
    a.force = 0;

    /* While it runs, seen because nobody knows what became of a command. */
    reset();
    a.throttle_most_percent = 0;
    start(&a);
    at(100, 1, 3900000000, 0);
    at(40000, 2, 20000000, 12207);
    peer[0].value[1] = 72; /* max-bandwidth */
    peer[0].migration.total_ms = 50000;
    peer[0].migration.sync_count = 3;
    peer[0].migration.ram_remaining_bytes = 30000000;
    peer[0].migration.dirty_pages_per_s = 50000;
    ck_assert_int_eq(migbuf_ram_look(ram, now += 1000), 0);
    pump_to(MIGBUF_RAM_SET_PARAMETERS);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_UNKNOWN), MIGBUF_E_UNKNOWN);
    look();
    ck_assert_uint_eq(parameter(0, "max-bandwidth"), 72);
    arrive();
    look();
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_uint_eq(parameter(0, "max-bandwidth"), 72);
    ck_assert_uint_eq(parameter(0, "downtime-limit"), 300);
}
END_TEST

static void die_and_load(void)
{
    char text[9000];
    size_t length;

    ck_assert_int_eq(migbuf_ram_save(ram, text, sizeof text, &length), 0);
    migbuf_ram_free(ram);
    ck_assert_int_eq(migbuf_ram_load(text, length, NULL, &ram), 0);
    ck_assert_int_eq(pump(), 0);
}

START_TEST(another_process_goes_on)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_attempt attempt;

    reset();
    a.deadline_ms = 300000;
    a.most_ms = 700;
    start(&a);
    at(100, 1, 3900000000, 0);
    die_and_load();
    state_is(MIGBUF_RAM_STATE_RUNNING);
    sent[0] = 0;
    at(40000, 2, 2000000000, 2319);
    at(80000, 3, 300000000, 2319);
    at(83800, 4, 300000000, 19274);
    ck_assert_ptr_nonnull(strstr(sent, "\"max-cpu-throttle\":80")); /* as was agreed with the one before */
    die_and_load();
    sent[0] = 0;
    at(100000, 5, 300000000, 19274);
    at(120000, 6, 300000000, 19274);
    ck_assert_ptr_null(strstr(sent, "throttle")); /* it sees what is in force */
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    die_and_load();
    state_is(MIGBUF_RAM_STATE_SWITCH);
    ck_assert_int_eq(migbuf_ram_switch(ram), 0);
    ck_assert_int_eq(pump(), 0);
    die_and_load();
    ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
    arrive();
    die_and_load();
    state_is(MIGBUF_RAM_STATE_MOVED);
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    pump_to(MIGBUF_RAM_SET_PARAMETERS);
    die_and_load();
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(info().restored, 1);
    ck_assert_int_eq(peer[0].on_count + peer[1].on_count, 0);
    for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++)
        ck_assert_uint_eq(peer[0].value[i], all_parameters[i].value);

    /* Post-copy was over before the other one came: it is known all the same. */
    enter_postcopy();
    arrive();
    die_and_load();
    look();
    state_is(MIGBUF_RAM_STATE_MOVED);
    ck_assert_int_eq(migbuf_attempt_init(&attempt), 0);
    ck_assert_int_eq(migbuf_ram_attempt(ram, &attempt), 0);
    ck_assert_int_eq(attempt.post_copy, 1);
}
END_TEST

START_TEST(a_process_that_died_while_arming_leaves_nothing)
{
    struct migbuf_agreement a = agreed();

    reset();
    a.postcopy = 1;
    for (int steps = 0; steps < 6; steps++) {
        reset();
        learn(&a, NULL);
        ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
        for (int k = 0; k < steps && migbuf_ram_next(ram, &command) == 1; k++)
            ck_assert_int_eq(migbuf_ram_answered(ram, carry_out()), 0);
        migbuf_ram_next(ram, &command); /* and one whose outcome nobody hears */
        carry_out();
        die_and_load();
        if (info().state == MIGBUF_RAM_STATE_RUNNING) {
            ck_assert_int_eq(migbuf_ram_cancel(ram), 0);
            ck_assert_int_eq(pump(), 0);
        }
        ck_assert_int_eq(migbuf_ram_restore(ram), 0);
        ck_assert_int_eq(pump(), 0);
        ck_assert_int_eq(info().restored, 1);
        ck_assert_msg(peer[0].on_count + peer[1].on_count == 0, "after %d steps: %s", steps, sent);
        for (size_t i = 0; i < sizeof all_parameters / sizeof *all_parameters; i++)
            ck_assert_uint_eq(peer[0].value[i], all_parameters[i].value);
    }
}
END_TEST

START_TEST(texts_are_checked)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram *other = (struct migbuf_ram *)&a;
    char text[9000], cut[9000];
    size_t length, asked;

    reset();
    start(&a);
    ck_assert_int_eq(migbuf_ram_save(ram, NULL, 0, &length), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_ram_save(ram, text, length, &asked), MIGBUF_E_TOO_BIG);
    ck_assert_uint_eq(asked, length);
    ck_assert_int_eq(migbuf_ram_save(ram, text, length + 1, &asked), 0);
    ck_assert_int_eq(migbuf_ram_save(ram, NULL, 1, &asked), MIGBUF_E_INVALID);
    for (size_t k = 0; k < length; k++) {
        ck_assert(text[k] == '\n' || (text[k] >= ' ' && text[k] <= '~'));
        ck_assert_int_eq(migbuf_ram_load(text, k, NULL, &other), MIGBUF_E_PROTOCOL);
        memcpy(cut, text, length);
        cut[k] ^= 2;
        ck_assert_int_eq(migbuf_ram_load(cut, length, NULL, &other), MIGBUF_E_PROTOCOL);
    }
    memset(cut, ' ', sizeof cut);
    ck_assert_int_eq(migbuf_ram_load(cut, 8193, NULL, &other), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_ram_load(NULL, 1, NULL, &other), MIGBUF_E_INVALID);
    ck_assert_ptr_eq(other, &a);
}
END_TEST

START_TEST(one_side_alone)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_options o;

    reset(); /* the daemon at the target: it arms, listens, and gives back */
    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    o.sides = 2;
    a.postcopy = 1;
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, NULL, "tcp:0:4444"), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().armed_postcopy && info().state == MIGBUF_RAM_STATE_RUNNING);
    ck_assert_ptr_null(strstr(sent, "S "));
    phase(1, MIGBUF_RAM_PHASE_PAUSED);
    sent[0] = 0;
    look();
    state_is(MIGBUF_RAM_STATE_BROKEN);
    sent_is("T migrate-recover {\"uri\":\"tcp:0:4444\"}\n");
    phase(1, MIGBUF_RAM_PHASE_COMPLETED);
    peer[1].running = 1;
    look();
    state_is(MIGBUF_RAM_STATE_MOVED);
    ck_assert_int_eq(migbuf_ram_restore(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().restored && peer[1].on_count == 0);

    reset(); /* the daemon at the source, which sends `migrate` itself */
    o.sides = 1;
    learn(&a, &o);
    ck_assert_int_eq(migbuf_ram_start(ram, NULL, NULL), 0);
    ck_assert_int_eq(pump(), 0);
    state_is(MIGBUF_RAM_STATE_ARMED);
    look();
    state_is(MIGBUF_RAM_STATE_ARMED);
    phase(0, MIGBUF_RAM_PHASE_ACTIVE);
    look();
    state_is(MIGBUF_RAM_STATE_RUNNING);
    phase(0, MIGBUF_RAM_PHASE_PRE_SWITCHOVER);
    look();
    ck_assert_int_eq(migbuf_ram_switch(ram), 0);
    ck_assert_int_eq(pump(), 0);
    phase(0, MIGBUF_RAM_PHASE_FAILED);
    peer[0].running = 0;
    peer[0].status = "postmigrate";
    look();
    state_is(MIGBUF_RAM_STATE_UNCLEAR);
    sent[0] = 0;
    ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0); /* the other daemon said so */
    ck_assert_int_eq(pump(), 0);
    sent_is("S cont\n");
    state_is(MIGBUF_RAM_STATE_FAILED);
    ck_assert_ptr_null(strstr(sent, "T "));
}
END_TEST

START_TEST(preempt_where_requests_go_past_the_queue)
{
    struct migbuf_agreement a = agreed();

    reset();
    a.postcopy = 1;
    ck_assert_int_eq(migbuf_ram_new(&a, NULL, NULL, &ram), 0);
    ck_assert_int_eq(migbuf_ram_learn(ram), 0);
    while (migbuf_ram_next(ram, &command) == 1) {
        int32_t outcome = carry_out();

        if (command.kind == MIGBUF_RAM_GET_PARAMETERS)
            ck_assert_int_eq(migbuf_ram_found_parameter(ram, "multifd-qatzip-level", 1), 0); /* 9.2 and later */
        ck_assert_int_eq(migbuf_ram_answered(ram, outcome), 0);
    }
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert(info().armed_preempt && is_on(&peer[0], "postcopy-preempt") && is_on(&peer[1], "postcopy-preempt"));
    ck_assert_ptr_null(strstr(sent, "qatzip"));
}
END_TEST

START_TEST(the_attempt_is_told_to_the_history)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_attempt x;

    reset();
    a.throttle_most_percent = 0;
    start(&a);
    ck_assert_int_eq(migbuf_attempt_init(&x), 0);
    ck_assert_int_eq(migbuf_ram_attempt(ram, &x), MIGBUF_E_STATE);
    saturate();
    for (uint64_t k = 0; k < 2; k++)
        at(80000 + k * 20000, 4 + k, 2000000000, 24414);
    peer[0].migration.total_ms = 120000;
    peer[0].migration.sync_count = 6;
    ck_assert_int_eq(migbuf_ram_look(ram, now += 1000), 0);
    pump_to(MIGBUF_RAM_CANCEL);
    ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0); /* as it does when it hears of it: not the reason for it */
    ck_assert_int_eq(migbuf_ram_answered(ram, carry_out()), 0);
    ck_assert_int_eq(pump(), 0);
    state_is(MIGBUF_RAM_STATE_CANCELLED);
    ck_assert_int_eq(migbuf_ram_attempt(ram, &x), 0);
    ck_assert(x.outcome == MIGBUF_ATTEMPT_BACK && x.phase == MIGBUF_ATTEMPT_RAM && x.why == MIGBUF_ATTEMPT_NO_CONVERGENCE);
    ck_assert(x.ram_ms == 120000 && x.rounds == 5 && x.link_bytes_per_s == 100000000 && x.limit_ms == 500);
    ck_assert_double_eq_tol((double)x.set_bytes, 2e9, 2e7);
    ck_assert_uint_eq(x.downtime_ms, MIGBUF_ATTEMPT_UNKNOWN);

    reset();
    start(&a);
    at(100, 1, 1000, 0);
    ck_assert_int_eq(migbuf_ram_event(ram, MIGBUF_RAM_SOURCE, MIGBUF_RAM_EVENT_STOP, 0, now + 10), 0);
    ck_assert_int_eq(migbuf_ram_event(ram, MIGBUF_RAM_TARGET, MIGBUF_RAM_EVENT_RESUME, 0, now + 133), 0);
    arrive();
    look();
    ck_assert_int_eq(migbuf_attempt_init(&x), 0);
    ck_assert_int_eq(migbuf_ram_attempt(ram, &x), 0);
    ck_assert(x.outcome == MIGBUF_ATTEMPT_MOVED && x.why == MIGBUF_ATTEMPT_DONE && x.downtime_ms == 123 && !x.post_copy);
    ck_assert_uint_eq(x.set_bytes, MIGBUF_ATTEMPT_UNKNOWN);

    reset();
    start(&a);
    ck_assert_int_eq(migbuf_ram_cancel(ram), 0);
    ck_assert_int_eq(pump(), 0);
    ck_assert_int_eq(migbuf_ram_attempt(ram, &x), 0);
    ck_assert(x.outcome == MIGBUF_ATTEMPT_BACK && x.why == MIGBUF_ATTEMPT_CANCELLED);

    reset();
    start(&a);
    at(100, 1, 1000, 0);
    ck_assert_int_eq(migbuf_ram_gone(ram, MIGBUF_RAM_TARGET), 0);
    look();
    look();
    state_is(MIGBUF_RAM_STATE_CANCELLED);
    die_and_load(); /* another process tells the same */
    ck_assert_int_eq(migbuf_ram_attempt(ram, &x), 0);
    ck_assert(x.outcome == MIGBUF_ATTEMPT_BACK && x.why == MIGBUF_ATTEMPT_PEER_GONE);
}
END_TEST

/* E: 100 s, a throttle of 80 % for 30 s, a stop of 500 ms -> 24.5 s lost. */
START_TEST(what_the_guest_has_lost)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    at(1000, 1, 3000000000, 0);
    at(50000, 2, 3000, 0);
    peer[0].migration.cpu_throttle_percent = 80;
    at(60000, 3, 3000, 0);
    at(90000, 4, 3000, 0);
    peer[0].migration.cpu_throttle_percent = 0;
    at(90000, 4, 3000, 0);
    at(100000, 5, 3000, 0);
    arrive();
    peer[0].migration.downtime_ms = 500;
    peer[0].migration.total_ms = 100000;
    look();
    ck_assert_uint_eq(info().lost_ms, 24500);
    ck_assert_uint_eq(info().total_ms, 100000);

    enter_postcopy(); /* 10'449 ms of waiting for pages, a stop of 2 ms, 17.523 s in all: 0.596 */
    arrive();
    peer[0].migration.total_ms = 17523;
    peer[0].migration.downtime_ms = 2;
    peer[1].migration.blocktime_ms = 10449;
    look();
    ck_assert_double_eq_tol((double)info().lost_ms / (double)info().total_ms, 0.596, 0.0005);
}
END_TEST

START_TEST(seven_two_says_zero_at_first)
{
    struct migbuf_agreement a = agreed();

    reset();
    start(&a);
    arrive();
    peer[0].migration.has_ram = 1;
    look();
    state_is(MIGBUF_RAM_STATE_MOVED);
    peer[0].migration.total_ms = 2000;
    peer[0].migration.downtime_ms = 12;
    look();
    ck_assert(info().total_ms == 2000 && info().downtime_ms == 12);
}
END_TEST

START_TEST(calls_out_of_place_change_nothing)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_ram_report r = { .phase = MIGBUF_RAM_PHASE_ACTIVE };
    struct migbuf_ram_info i = { .size = 8 };
    struct migbuf_convergence c = { .size = sizeof c };
    char long_uri[600];

    reset();
    ck_assert_int_eq(migbuf_ram_new(&a, NULL, NULL, &ram), 0);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_restore(ram), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_cancel(ram), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_DONE), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_answered(ram, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_found(ram, &r), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_found_capability(ram, "events", 1), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_found_parameter(ram, "downtime-limit", 1), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_status(ram, "running", 1), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_convergence(ram, &c), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_info(ram, &i), MIGBUF_E_STRUCT);
    ck_assert_int_eq(migbuf_ram_look(ram, 1000), 0);
    ck_assert_int_eq(migbuf_ram_look(ram, 999), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_ram_event(ram, 0, MIGBUF_RAM_EVENT_PASS, 0, 999), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_ram_event(ram, 2, MIGBUF_RAM_EVENT_PASS, 0, 1000), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_event(ram, 0, 5, 0, 1000), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_event(ram, 0, 1, 13, 1000), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_gone(ram, 2), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_link(ram, NAN), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_link(ram, -1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_ram_next(NULL, &command), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_outcome(NULL), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_ram_next(ram, &command), 0);
    ck_assert_int_eq(migbuf_ram_learn(ram), 0);
    pump_to(MIGBUF_RAM_GET_MIGRATION);
    ck_assert_int_eq(migbuf_ram_answered(ram, MIGBUF_OUTCOME_DONE), MIGBUF_E_STATE); /* its answer was not told */
    r.phase = 99;
    ck_assert_int_eq(migbuf_ram_found(ram, &r), MIGBUF_E_INVALID);
    ck_assert_int_eq(pump(), 0);
    memset(long_uri, 'u', sizeof long_uri - 1);
    long_uri[sizeof long_uri - 1] = 0;
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", long_uri), MIGBUF_E_TOO_BIG);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/\xff"), MIGBUF_E_INVALID); /* no JSON could say it */
    ck_assert_int_eq(migbuf_ram_uri(ram, "unix:/\xc3", NULL), MIGBUF_E_INVALID);
    state_is(MIGBUF_RAM_STATE_IDLE);
    long_uri[511] = 0;
    memset(long_uri, 1, 511); /* the longest command there is */
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", long_uri), 0);
    pump_to(MIGBUF_RAM_INCOMING);
    ck_assert_uint_eq(strlen(command.arguments), 8 + 511 * 6 + 2);
    ck_assert_int_eq(migbuf_ram_learn(ram), MIGBUF_E_STATE);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), MIGBUF_E_STATE);
}
END_TEST

START_TEST(a_guest_that_migrates_or_has_left_is_not_started)
{
    struct migbuf_agreement a = agreed();

    for (int other = 0; other < 2; other++) {
        reset();
        phase(0, other ? MIGBUF_RAM_PHASE_OTHER : MIGBUF_RAM_PHASE_ACTIVE);
        learn(&a, NULL);
        ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), MIGBUF_E_STATE);
    }
    reset();
    peer[0].running = 0;
    peer[0].status = "postmigrate";
    learn(&a, NULL);
    ck_assert_int_eq(migbuf_ram_start(ram, "unix:/s", "unix:/t"), MIGBUF_E_STATE);
}
END_TEST

START_TEST(phases_and_states_have_names)
{
    static const struct {
        const char *status;
        int32_t phase;
    } table[] = {
        { "none", 0 }, { "setup", 1 }, { "active", 2 }, { "pre-switchover", 3 }, { "device", 4 }, { "postcopy-active", 5 },
        { "postcopy-paused", 6 }, { "postcopy-recover", 7 }, { "postcopy-recover-setup", 7 }, { "completed", 8 }, { "cancelling", 9 },
        { "cancelled", 10 }, { "failed", 11 }, { "failing", 12 }, { "postcopy-device", 4 }, { "wait-unplug", 12 }, { "colo", 12 }, { "", 0 }, { NULL, 0 },
    };

    for (size_t k = 0; k < sizeof table / sizeof *table; k++)
        ck_assert_int_eq(migbuf_ram_phase(table[k].status), table[k].phase);
    ck_assert_str_eq(migbuf_ram_state_text(MIGBUF_RAM_STATE_IDLE), "idle");
    ck_assert_str_eq(migbuf_ram_state_text(MIGBUF_RAM_STATE_REFUSED), "refused");
    ck_assert_str_eq(migbuf_ram_state_text(14), "unknown");
    ck_assert_str_eq(migbuf_ram_state_text(-1), "unknown");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        everything_that_was_agreed_is_armed_before_migrate, what_was_not_agreed_is_not_armed, one_by_one_where_qemu_refuses_one,
        what_cannot_be_switched_off_stays, nothing_starts_without_a_pause_before_the_switch, xbzrle_and_multifd_where_they_were_chosen,
        options_are_chosen_by_what_is_known, bad_options_make_no_machine, it_moves_and_everything_is_as_it_was,
        a_mirror_that_has_ended_early_is_not_waited_for, a_throttle_is_one_command, the_last_means_are_those_that_were_agreed,
        a_host_may_decide_within_what_was_agreed, a_migrate_that_may_have_been_carried_out_is_asked_for,
        a_migrate_that_came_through_unheard_has_moved_the_guest, a_late_incoming_is_no_failure,
        after_postcopy_was_asked_for_nothing_is_cancelled, a_guest_that_qemu_left_standing_is_let_run,
        after_the_last_step_the_guest_runs_in_one_place, completed_is_believed_when_the_target_has_it,
        a_guest_that_the_host_has_stopped_runs_at_the_target, a_dead_target_ends_it, a_cancel_that_hangs_is_helped,
        a_broken_postcopy_is_mended, it_is_tried_for_ever_less_and_less_often, a_target_that_has_not_noticed_is_told,
        a_source_that_has_not_noticed_is_told, a_death_in_postcopy_is_a_loss,
        a_source_that_has_taken_its_guest_back_keeps_it, the_target_is_not_asked_while_it_may_not_answer,
        what_another_hand_has_set_stays, another_process_goes_on, a_process_that_died_while_arming_leaves_nothing,
        texts_are_checked, one_side_alone, preempt_where_requests_go_past_the_queue, the_attempt_is_told_to_the_history,
        what_the_guest_has_lost, seven_two_says_zero_at_first, calls_out_of_place_change_nothing,
        a_guest_that_migrates_or_has_left_is_not_started, phases_and_states_have_names, NULL };

    return unit_run("ram", tests, 0);
}
