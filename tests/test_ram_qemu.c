/* SPDX-License-Identifier: MIT */
/* The machine for memory between two real QEMUs: a guest that moves with the defaults, one that never converges by itself,
 * post-copy, also with a link that breaks. Each time both QEMUs have what they had before. The guest (ram_guest.c) writes to
 * its memory for ever. MIGBUF_QEMU names another QEMU than the one in PATH; RAM_GUEST is the guest. */
#include "migbuf/qmp_socket.h"
#include "migbuf/ram.h"
#include "migbuf/report.h"
#include "qmp_qemu.h"
#include "unit.h"
#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define MIB (UINT64_C(1) << 20)
#define WIDE "window=16384" /* 64 MiB: dirty again long before they are sent */
#define LINK (32 * MIB)     /* bytes/s */

static struct lab {
    struct qemu qemu[2];
    struct migbuf_qmp_socket *qmp[2];
    struct migbuf_qmp_message answer;
    struct migbuf_ram *ram;
    char uri[64];
    char capabilities[2][4096], parameters[2][4096]; /* as they were before */
    uint64_t now_ms;
    int32_t decided[16]; /* how often each action was decided */
    int postcopy_events[2], resumed, mended; /* events of each side; the target's RESUME; tries to mend */
} lab;

static int try_call(int side, const char *name, const char *arguments)
{
    return migbuf_qmp_socket_call(lab.qmp[side], name, arguments, 60000, &lab.answer, NULL);
}

static const char *call(int side, const char *name, const char *arguments)
{
    int rc = try_call(side, name, arguments);

    ck_assert_msg(rc == 0, "%s %s: %s %s", name, arguments ? arguments : "", migbuf_strerror(rc),
                  rc == MIGBUF_E_PEER ? lab.answer.text : "");
    return lab.answer.text;
}

static void start_qemu(int side, const char *append)
{
    const char *machine[] = { "-M", "q35,usb=off", "-m", "128M", "-kernel", getenv("RAM_GUEST"), "-append", append,
                              side ? "-incoming" : NULL, "defer", NULL };
    struct qemu q;

    ck_assert(qemu_make_directory(&q));
    ck_assert_int_eq(qemu_start_with(&q, "pretty=off", machine), 1);
    lab.qemu[side] = q;
    ck_assert_int_eq(migbuf_qmp_socket_open(lab.qemu[side].qmp, NULL, NULL, 60000, &lab.qmp[side], NULL), 0);
}

static void stop_qemu(int side)
{
    migbuf_qmp_socket_free(lab.qmp[side]);
    lab.qmp[side] = NULL;
    if (side == 1)
        unlink(lab.uri + sizeof "unix:" - 1); /* the target listens in its directory */
    if (lab.qemu[side].directory[0])
        qemu_stop(&lab.qemu[side]);
}

static void end(void)
{
    migbuf_ram_free(lab.ram);
    for (int k = 0; k < 2; k++)
        stop_qemu(k);
    memset(&lab, 0, sizeof lab);
}

/* What the guest has counted to. Not before all of its memory is there: who reads a page that is missing waits for it. */
static uint64_t count(int side)
{
    const char *text = call(side, "human-monitor-command", "{\"command-line\":\"xp /1wd 0x600\"}"), *colon = strchr(text, ':');

    ck_assert_msg(colon != NULL, "%s", text);
    return (uint32_t)strtol(colon + 1, NULL, 10);
}

/* Waits for it: a guest that stands ends this by the watchdog. */
static void runs(int side)
{
    uint64_t first = count(side);

    while (count(side) == first)
        sleep_ms(5);
}

/* Two QEMUs, with settings that are the host's and not the usual ones. */
static void begin(const char *append)
{
    static const char *const of_the_host[2] = {
        "{\"downtime-limit\":333,\"max-bandwidth\":12345678,\"cpu-throttle-initial\":31,\"max-cpu-throttle\":77,"
        "\"cpu-throttle-tailslow\":true,\"max-postcopy-bandwidth\":7654321}",
        "{\"downtime-limit\":222,\"announce-rounds\":6}",
    };

    memset(&lab, 0, sizeof lab);
    start_qemu(0, append);
    start_qemu(1, append);
    snprintf(lab.uri, sizeof lab.uri, "unix:%s/stream", lab.qemu[1].directory);
    call(0, "migrate-set-capabilities", "{\"capabilities\":[{\"capability\":\"auto-converge\",\"state\":true}]}");
    for (int k = 0; k < 2; k++) {
        call(k, "migrate-set-parameters", of_the_host[k]);
        snprintf(lab.capabilities[k], sizeof *lab.capabilities, "%s", call(k, "query-migrate-capabilities", NULL));
        snprintf(lab.parameters[k], sizeof *lab.parameters, "%s", call(k, "query-migrate-parameters", NULL));
    }
    while (count(0) < 20000) /* all of its window was written */
        sleep_ms(5);
}

static struct migbuf_ram_info info(void)
{
    struct migbuf_ram_info i = { .size = sizeof i };

    ck_assert_int_eq(migbuf_ram_info(lab.ram, &i), 0);
    return i;
}

static void hear(int side)
{
    struct migbuf_qmp_message event;

    while (lab.qmp[side] && migbuf_qmp_socket_event(lab.qmp[side], 1, &event, NULL) == 1) {
        lab.postcopy_events[side] += !strcmp(event.name, "MIGRATION") && strstr(event.text, "postcopy-active") != NULL;
        lab.resumed |= side && !strcmp(event.name, "RESUME");
        ck_assert_int_ge(migbuf_report_event_to_ram(lab.ram, side, event.name, event.text, event.text_bytes, lab.now_ms, NULL), 0);
    }
}

static void pump(void)
{
    struct migbuf_ram_command c;
    int rc = 0;

    while (rc >= 0 && migbuf_ram_next(lab.ram, &c) == 1) {
        lab.mended += c.kind == MIGBUF_RAM_RESUME;
        rc = try_call(c.side, c.name, c.arguments);
        if (rc == MIGBUF_E_PEER)
            printf("# %c refuses %s: %s\n", "ST"[c.side], c.name, lab.answer.text);
        rc = migbuf_report_to_ram(lab.ram, c.kind, rc, lab.answer.text, lab.answer.text_bytes, NULL);
    }
}

/* What a host does again and again. Its clock is the count of looks: nothing here depends on how fast the machine is. */
static void look(void)
{
    int32_t before = info().decision.action;

    sleep_ms(20);
    lab.now_ms += 200;
    for (int k = 0; k < 2; k++) {
        hear(k);
        if (lab.qemu[k].pid > 0 && waitpid(lab.qemu[k].pid, NULL, WNOHANG) == lab.qemu[k].pid) {
            lab.qemu[k].pid = 0;
            ck_assert_int_eq(migbuf_ram_gone(lab.ram, k), 0);
        }
    }
    ck_assert_int_eq(migbuf_ram_look(lab.ram, lab.now_ms), 0);
    pump();
    if (info().decision.action != before)
        lab.decided[info().decision.action]++;
    if (info().state == MIGBUF_RAM_STATE_SWITCH) {
        ck_assert_int_eq(migbuf_ram_switch(lab.ram), 0);
        pump();
    }
}

static struct migbuf_agreement agreed(void)
{
    struct migbuf_agreement a;

    ck_assert_int_eq(migbuf_agreement_init(&a, sizeof a), 0);
    a.deadline_ms = 3600000; /* rounds are counted here, not seconds */
    return a;
}

static void start(const struct migbuf_agreement *a)
{
    struct migbuf_ram_options o;

    ck_assert_int_eq(migbuf_ram_options_init(&o, sizeof o), 0);
    o.max_bandwidth_bytes_per_s = LINK;
    ck_assert_int_eq(migbuf_ram_new(a, &o, NULL, &lab.ram), 0);
    ck_assert_int_eq(migbuf_ram_learn(lab.ram), 0);
    pump();
    ck_assert_int_eq(info().learnt, 1);
    ck_assert_int_eq(migbuf_ram_start(lab.ram, lab.uri, lab.uri), 0);
    pump();
    ck_assert_int_eq(migbuf_ram_outcome(lab.ram), MIGBUF_OUTCOME_DONE);
}

static void until(int32_t state)
{
    while (info().state != state) {
        ck_assert_msg(info().state < MIGBUF_RAM_STATE_MOVED, "it ended as %s", migbuf_ram_state_text(info().state));
        look();
    }
}

/* Both have what they had, but what another hand has set since. */
static void is_given_back(void)
{
    ck_assert_int_eq(migbuf_ram_restore(lab.ram), 0);
    pump();
    ck_assert_int_eq(info().restored, 1);
    for (int k = 0; k < 2; k++) {
        if (!lab.qemu[k].pid)
            continue;
        ck_assert_str_eq(call(k, "query-migrate-capabilities", NULL), lab.capabilities[k]);
        ck_assert_str_eq(call(k, "query-migrate-parameters", NULL), lab.parameters[k]);
    }
}

static void has_moved(void)
{
    look(); /* QEMU 7.2 has no figures in the first instant */
    ck_assert(info().sent_bytes > 0 && info().total_ms > 0);
    ck_assert_msg(strstr(call(0, "query-status", NULL), "postmigrate") != NULL, "%s", lab.answer.text);
    runs(1);
    is_given_back();
}

START_TEST(a_guest_moves_with_the_defaults)
{
    struct migbuf_agreement a;

    ck_assert_int_eq(migbuf_agreement_init(&a, sizeof a), 0);
    begin("window=64");
    start(&a);
    until(MIGBUF_RAM_STATE_MOVED);
    has_moved();
    end();
}
END_TEST

START_TEST(a_guest_that_never_converges_moves_by_a_longer_stop)
{
    struct migbuf_agreement a = agreed();

    a.most_ms = 60000;
    a.throttle_most_percent = 0;
    begin(WIDE);
    start(&a);
    until(MIGBUF_RAM_STATE_MOVED);
    ck_assert_int_gt(lab.decided[MIGBUF_RAM_DOWNTIME], 0);
    ck_assert(info().limit_ms > a.want_ms && info().limit_ms <= a.most_ms);
    ck_assert_int_eq(info().armed_throttle, 0);
    has_moved();
    end();
}
END_TEST

START_TEST(a_guest_that_never_converges_is_given_back_unharmed)
{
    struct migbuf_agreement a = agreed();
    struct migbuf_attempt attempt;

    a.most_ms = a.want_ms;
    a.throttle_most_percent = 0;
    begin(WIDE);
    start(&a);
    until(MIGBUF_RAM_STATE_CANCELLED);
    ck_assert_int_eq(lab.decided[MIGBUF_RAM_ABORT], 1);
    ck_assert_msg(strstr(call(0, "query-status", NULL), "\"running\": true") != NULL, "%s", lab.answer.text);
    runs(0);
    while (lab.qemu[1].pid > 0) /* a target whose stream ends before its end goes by itself, at a moment of its own */
        look();
    is_given_back();
    memset(&attempt, 0, sizeof attempt);
    ck_assert_int_eq(migbuf_ram_attempt(lab.ram, &attempt), 0);
    ck_assert_int_eq(attempt.outcome, MIGBUF_ATTEMPT_BACK);
    ck_assert_int_eq(attempt.why, MIGBUF_ATTEMPT_NO_CONVERGENCE);
    ck_assert_int_eq(attempt.phase, MIGBUF_ATTEMPT_RAM);
    /* And moves another time, when something else was agreed. */
    migbuf_ram_free(lab.ram);
    lab.ram = NULL;
    stop_qemu(1);
    start_qemu(1, WIDE);
    snprintf(lab.uri, sizeof lab.uri, "unix:%s/stream", lab.qemu[1].directory);
    call(1, "migrate-set-parameters", "{\"downtime-limit\":222,\"announce-rounds\":6}");
    a.force = 1;
    start(&a);
    until(MIGBUF_RAM_STATE_MOVED);
    ck_assert_int_gt(lab.decided[MIGBUF_RAM_FORCE], 0);
    has_moved();
    end();
}
END_TEST

START_TEST(a_guest_that_never_converges_moves_by_post_copy)
{
    struct migbuf_agreement a = agreed();

    a.most_ms = a.want_ms;
    a.throttle_most_percent = 0;
    a.postcopy = 1;
    begin(WIDE);
    start(&a);
    ck_assert_int_eq(info().armed_postcopy, 1);
    until(MIGBUF_RAM_STATE_MOVED);
    ck_assert_int_eq(lab.decided[MIGBUF_RAM_POSTCOPY], 1);
    ck_assert_int_gt(lab.postcopy_events[0], 0);
    ck_assert_int_gt(lab.postcopy_events[1], 0);
    has_moved();
    end();
}
END_TEST

/* The link of a slow post-copy breaks. Another hand makes it slow, and its value stays. */
START_TEST(a_post_copy_that_breaks_is_mended)
{
    struct migbuf_agreement a = agreed();
    char *slow;

    a.most_ms = a.want_ms;
    a.throttle_most_percent = 0;
    a.postcopy = 1;
    begin(WIDE);
    start(&a);
    call(0, "migrate-set-parameters", "{\"max-postcopy-bandwidth\":1048576}");
    until(MIGBUF_RAM_STATE_POSTCOPY);
    while (!lab.resumed || !lab.postcopy_events[0]) /* before that there is nothing to mend: QEMU loses it, or runs on here */
        look();
    call(0, "migrate-pause", NULL);
    ck_assert_int_eq(migbuf_ram_cancel(lab.ram), MIGBUF_E_STATE); /* the guest would be lost */
    while (!lab.mended && info().state < MIGBUF_RAM_STATE_MOVED)
        look();
    ck_assert_int_gt(lab.mended, 0);
    call(0, "migrate-set-parameters", "{\"max-postcopy-bandwidth\":8388608}");
    until(MIGBUF_RAM_STATE_MOVED);
    slow = strstr(lab.parameters[0], "7654321");
    ck_assert_ptr_nonnull(slow);
    memcpy(slow, "8388608", 7);
    has_moved();
    ck_assert_int_eq(info().taken_over, 1);
    end();
}
END_TEST

/* Post-copy needs a kernel that lets QEMU serve page faults by itself, as it asks for it: 0, or errno. */
static int no_userfaultfd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), trouble = 0;

    if (fd < 0)
        return errno;
    if (ioctl(fd, UFFDIO_API, &api))
        trouble = errno;
    close(fd);
    return trouble;
}

int main(void)
{
    const TTest *const all[] = { a_guest_moves_with_the_defaults, a_guest_that_never_converges_moves_by_a_longer_stop,
                                 a_guest_that_never_converges_is_given_back_unharmed,
                                 a_guest_that_never_converges_moves_by_post_copy, a_post_copy_that_breaks_is_mended, NULL };
    const TTest *tests[sizeof all / sizeof *all];
    int trouble = no_userfaultfd();

    if (!getenv("RAM_GUEST")) {
        fprintf(stderr, "RAM_GUEST: the guest\n");
        return EXIT_FAILURE;
    }
    if (!getenv("MIGBUF_QEMU") && system("qemu-system-x86_64 --version >/dev/null 2>&1")) {
        printf("1..0 # SKIP there is no QEMU\n");
        return 0;
    }
    memcpy(tests, all, sizeof all);
    if (trouble) {
        printf("# left out: %s, %s: userfaultfd: %s\n", all[3]->name, all[4]->name, strerror(trouble));
        tests[3] = NULL;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    return unit_run("ram_qemu", tests, 600);
}
