/* SPDX-License-Identifier: MIT */
/* Faults, made when the first VM comes to a step: signals, QEMUs that die, another hand at the limits, a volume that
 * something else fills, a disk that is damaged. */
#include "rig.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define FILLED_MS 2000          /* fill */
#define INTERFERE_MS 500        /* wipe-limits and change-limits: for each call, in which nothing else of the rig goes on */
#define INTERFERE_AGAIN_MS 2000 /* more than two ticks */
#define INTERFERE_MAX 5         /* times it is tried */

enum injection {
    INJECT_NOTHING,
    INJECT_INTERRUPT,
    INJECT_KILL_SOURCE,
    INJECT_KILL_TARGET,
    INJECT_DIE,
    INJECT_WIPE,   /* by another monitor: no limits */
    INJECT_CHANGE, /* by another monitor: other limits */
    INJECT_FILL,   /* the volume, by something that is no overlay, for two seconds */
    INJECT_FILL_FOR_GOOD,
    INJECT_OVERLAY, /* for a mirror: the choice is changed */
    INJECT_OVERLAY_DIE, /* and SIGKILL to itself on the way back from it */
    INJECT_CUT,     /* the connection to the target's disk */
    INJECT_LOSE
};

#define REPORTING "reporting" /* of die@: no step of a migration, but when the history is written and the run not over */

/* What has come of it in this run. */
static struct {
    bool done, dies_reporting, dies_changing;
    uint64_t at_step_ns; /* since when a VM is at the step; 0: none is */
    const struct migration *interfered; /* whose limits another hand has set, when last, and how often */
    uint64_t interfered_ns;
    uint32_t interferences;
    int filling; /* a file that fills the volume, -1: none */
    uint64_t filling_ns;
} fault = { .filling = -1 };

/* *step: where it says when; NULL for what happens in the end. */
static enum injection find_injection(const char *what, const char **step)
{
    static const struct {
        const char *name;
        enum injection injection;
    } known[] = { { "interrupt@", INJECT_INTERRUPT },         { "kill-source@", INJECT_KILL_SOURCE },
                  { "kill-target@", INJECT_KILL_TARGET },     { "wipe-limits@", INJECT_WIPE },
                  { "change-limits@", INJECT_CHANGE },        { "fill@", INJECT_FILL },
                  { "fill-for-good@", INJECT_FILL_FOR_GOOD }, { "die@", INJECT_DIE },
                  { "overlay@", INJECT_OVERLAY },
                  { "overlay-die@", INJECT_OVERLAY_DIE },
                  { "cut@", INJECT_CUT } };

    *step = NULL;
    for (size_t k = 0; what && k < sizeof known / sizeof *known; k++)
        if (!strncmp(what, known[k].name, strlen(known[k].name))) {
            *step = what + strlen(known[k].name);
            return known[k].injection;
        }
    return what && !strcmp(what, "lose") ? INJECT_LOSE : INJECT_NOTHING;
}

bool inject_known(const char *what)
{
    const char *step;
    enum injection injection = find_injection(what, &step);

    return injection == INJECT_LOSE || (injection && migration_find_step(step, strlen(step))) ||
           (injection == INJECT_DIE && !strcmp(step, REPORTING));
}

static uint32_t after_ms(const struct run *r)
{
    const char *text = r->options->added[RIG_INJECT_AFTER];

    return text ? (uint32_t)strtoul(text, NULL, 0) : 0;
}

void inject_begin(const struct run *r)
{
    const char *step;

    memset(&fault, 0, sizeof fault);
    fault.filling = -1;
    fault.dies_reporting = find_injection(r->options->added[RIG_INJECT], &step) == INJECT_DIE && !strcmp(step, REPORTING);
}

/* Another program that sets limits: by a monitor of its own, and without a word to us. The link stands still meanwhile, and
 * QEMU may wait for the link: hence briefly, and the time until the next attempt begins when this one is over. */
static void interfere(struct run *r, const struct migration *m, enum injection what)
{
    const char *rates = what == INJECT_WIPE ? "\"bps_wr\":0,\"iops_wr\":0" : "\"bps_wr\":7000000,\"iops_wr\":900";
    struct migbuf_qmp_socket *qmp;
    struct migbuf_qmp_message answer;
    struct migbuf_error e = { .text = "" };
    char path[128], arguments[200], line[256];
    int rc;

    snprintf(path, sizeof path, "%s2", m->place[SOURCE].vm.qmp);
    snprintf(arguments, sizeof arguments, "{\"id\":\"%s\",\"bps\":0,\"bps_rd\":0,\"iops\":0,\"iops_rd\":0,%s}",
             vm_disk_qdev(m->load->device, 0), rates);
    rc = migbuf_qmp_socket_open(path, NULL, NULL, INTERFERE_MS, &qmp, &e);
    if (!rc) {
        rc = migbuf_qmp_socket_call(qmp, "block_set_io_throttle", arguments, INTERFERE_MS, &answer, &e);
        migbuf_qmp_socket_free(qmp);
    }
    if (rc)
        snprintf(line, sizeof line, "--inject: the limits could not be set: %s", e.text);
    picture_say(r->picture, rc ? line : "another hand sets limits");
    fault.interfered = m;
    fault.interferences++;
    fault.interfered_ns = now_ns();
}

static void fill(struct run *r, uint64_t now)
{
    off_t at = 0;

    fault.filling = open(r->volume.path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    fault.filling_ns = now;
    for (off_t step = (off_t)r->volume.size_bytes; fault.filling >= 0 && step >= 4096; step /= 2)
        while (!posix_fallocate(fault.filling, at, step))
            at += step;
    picture_say(r->picture, "something else fills the volume");
}

void inject_end(void)
{
    if (fault.filling >= 0)
        close(fault.filling);
    fault.filling = -1;
}

/* As if somebody had killed us then, in whatever we are doing. */
static void die_in(uint32_t ms)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    struct itimerspec when = { .it_value = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 } };
    timer_t timer;

    if (!ms || timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &when, NULL))
        kill(getpid(), SIGKILL);
}

static bool all_write_to_overlays(const struct run *r)
{
    for (uint32_t i = 0; i < r->vms; i++)
        if (migration_phase(&r->vm[i]) == PHASE_WAITING)
            return false;
    return true;
}

void inject_turn(struct run *r, const struct migration *m, uint64_t now)
{
    const char *step;
    enum injection what = find_injection(r->options->added[RIG_INJECT], &step);
    pid_t victim = 0;

    if (what == INJECT_FILL && now - fault.filling_ns > FILLED_MS * MS)
        inject_end();
    /* A change just before ours is overwritten unseen: QEMU cannot set on condition. Such a one is made again. */
    if (m == fault.interfered && !m->other_hands && migration_phase(m) < PHASE_RAM &&
        fault.interferences < INTERFERE_MAX && now > fault.interfered_ns + INTERFERE_AGAIN_MS * MS)
        interfere(r, m, what);
    if (fault.dies_changing && !strcmp(migration_step_name(m), "cancelling the mirror"))
        kill(getpid(), SIGKILL);
    if (fault.done || !step || strcmp(migration_step_name(m), step))
        return;
    if (what == INJECT_DIE) {
        fault.done = true;
        die_in(after_ms(r));
        return;
    }
    if ((what == INJECT_FILL || what == INJECT_FILL_FOR_GOOD) && migration_phase(m) != PHASE_WAITING &&
        !all_write_to_overlays(r))
        return; /* who waits for room on the volume is another test */
    if (!fault.at_step_ns)
        fault.at_step_ns = now;
    if (now < fault.at_step_ns + after_ms(r) * MS)
        return;
    if (what == INJECT_INTERRUPT)
        victim = getpid();
    if (what == INJECT_KILL_SOURCE || what == INJECT_KILL_TARGET)
        victim = m->place[what == INJECT_KILL_SOURCE ? SOURCE : TARGET].vm.process.pid;
    fault.done = true;
    if (what == INJECT_WIPE || what == INJECT_CHANGE)
        interfere(r, m, what);
    if (what == INJECT_FILL || what == INJECT_FILL_FOR_GOOD)
        fill(r, now);
    if (what == INJECT_CUT && m->disk[m->d].nbd >= 0) {
        link_remove(r->site.link[m->index % r->site.links], m->disk[m->d].nbd);
        r->vm[m->index].disk[m->d].nbd = -1;
        picture_say(r->picture, "--inject: the connection to its disk is cut");
    }
    if (what == INJECT_OVERLAY || what == INJECT_OVERLAY_DIE) /* one that is not mirrored has no choice to change: another will come to the step */
        fault.done = migration_take_overlay(&r->vm[m->index]);
    fault.dies_changing = fault.done && what == INJECT_OVERLAY_DIE;
    if (victim)
        kill(victim, what == INJECT_INTERRUPT ? SIGINT : SIGKILL);
}

void inject_reporting(void)
{
    if (fault.dies_reporting)
        kill(getpid(), SIGKILL);
}

/* Is a damaged sector found? The first acknowledged write to the first VM's last disk is blotted out. */
void inject_check(const struct run *r, const struct migration *m, uint32_t disk, const struct writer_params *w, int fd)
{
    char zeros[512] = "";
    struct guest_generator g = { w->window, w->random, 0, w->seed };
    uint64_t sector = w->start + (uint64_t)guest_next_slot(&g) * w->sectors;
    const char *step;

    if (find_injection(r->options->added[RIG_INJECT], &step) == INJECT_LOSE && !m->index && disk + 1 == m->load->disks &&
        pwrite(fd, zeros, sizeof zeros, (off_t)(sector * 512)) < 0)
        picture_say(r->picture, "--inject lose: the disk could not be damaged");
}
