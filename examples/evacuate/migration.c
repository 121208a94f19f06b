/* SPDX-License-Identifier: MIT */
/* The machine that walks the steps of a migration: in which order, when it turns back, what a deadline, a dead QEMU or a
 * restart means. What a step does stands in steps_there.c, steps_ram.c and steps_back.c. */
#include "steps.h"
#include "hybrid.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RAM_AGAIN_MAX 3 /* times the rest of a guest's memory is begun again; nobody waits for ever */

/* Failing */

int failed(struct migration *m, const char *format, ...)
{
    size_t n = strlen(m->error);
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (n)
        snprintf(m->error + n, sizeof m->error - n, "; then, %s: %s", step_at(m->at)->name, why);
    else
        fail(m->error, "%s, %s: %s", m->load->name, step_at(m->at)->name, why);
    return FAILED;
}

static void say(struct migration *m, uint64_t now, const char *text)
{
    record_event(m->site->record, (now - m->site->start_ns) / MS, m->index, "%s", text);
}

void put(struct migration *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(m->arguments, sizeof m->arguments, format, args);
    va_end(args);
}

/* Disks. Their node names are LXD's. */

const char *node(const struct migration *m)
{
    return vm_disk_node(m->d);
}

/* Puts the names into a step's arguments. */
static void put_arguments(struct migration *m, const char *arguments)
{
    char *to = m->arguments, *end = m->arguments + sizeof m->arguments - 64;

    for (const char *from = arguments; *from && to < end; from++) {
        if (*from == '$') {
            const char *suffix = *++from == 'O' ? "_snapshot" : *from == 'N' ? "_nbd" : "";

            to += snprintf(to, 64, "%s%s", node(m), suffix);
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

/* Is there one of these to be undone, whichever disk's? */
bool made_any(const struct migration *m, uint32_t what)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (m->disk[k].made & what)
            return true;
    return false;
}

void mark(struct migration *m, const struct step *s, uint32_t made, uint32_t unmade)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (!(s->flags & EACH) || k == m->d)
            m->disk[k].made = (m->disk[k].made | made) & ~unmade;
}

/* Letting go of what a migration holds */

/* VMs take turns: VM 0 leaves over the first link, VM 1 over the second. */
uint32_t route_of(const struct migration *m)
{
    return m->index % m->site->links;
}

struct link *link_of(const struct migration *m)
{
    return m->site->link[route_of(m)];
}

void drop_flow(struct migration *m, int *flow)
{
    if (*flow >= 0)
        link_remove(link_of(m), *flow);
    *flow = -1;
}

void drop_flows(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        drop_flow(m, &m->disk[k].copy);
        drop_flow(m, &m->disk[k].nbd);
    }
    drop_flow(m, &m->ram);
    drop_flow(m, &m->ram_requests);
}

void unlink_overlays(const struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        unlink(m->disk[k].overlay);
}

void release_overlay(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        if (m->throttle.overlay_fd[k] >= 0)
            close(m->throttle.overlay_fd[k]);
        m->throttle.overlay_fd[k] = -1;
    }
    control_remove(m->site->control, &m->throttle);
}

/* Walking the tables */

const struct step *step_at(int at)
{
    return at <= ASK_END || (at >= BACK_RAM && at < GOING_ON) ? &steps_back[at] : &steps_there[at];
}

static int32_t side_of(const struct migration *m, int32_t side)
{
    return side == HOME ? (int32_t)m->home : side;
}

struct monitor *monitor_of(struct migration *m, int32_t side)
{
    return &m->place[side_of(m, side)].monitor;
}

/* Where the picture has it. A guest that is mirrored has no base: its target is started for its mirror. */
static int32_t phase_of(const struct migration *m)
{
    int32_t phase = step_at(m->at)->phase;

    return phase == PHASE_BASE && m->throttle.mirrored ? PHASE_MIRROR : phase;
}

static void go_to(struct migration *m, int step)
{
    m->at = step;
    m->d = 0;
    m->entered = m->asked = false;
    m->unrecorded = m->site->recorded;
    m->again_ns = 0;
}

/* The same step for the next disk; false: there is none. */
static bool go_to_next_disk(struct migration *m)
{
    uint32_t next = m->d + 1;

    if (!(step_at(m->at)->flags & EACH) || next == m->load->disks)
        return false;
    go_to(m, m->at);
    m->d = next;
    return true;
}

/* Neither here nor there, or nobody can say: the worst end. */
static void give_in(struct migration *m, uint64_t now)
{
    say(m, now, m->known ? "lost" : "it did not start");
    if (m->at > ASK_END && m->at < BACK_RAM)
        m->turned_at = phase_of(m);
    m->outcome = OUTCOME_LOST;
    m->ended_ns = now;
    migration_release(m);
    go_to(m, ENDED);
}

static void go_back(struct migration *m)
{
    control_hold(&m->throttle, 0); /* nothing is left for which its guest would be held */
    drop_mirrors(m);
    control_ram_over(&m->throttle);
    for (uint32_t k = 0; k < m->load->disks; k++)
        drop_flow(m, &m->disk[k].copy);
    for (int who = 0; who < CALL_COUNT; who++) /* a refused step leaves its answer */
        if (who != CALL_DISK && who != CALL_RAM && m->place[SOURCE].monitor.call[who].state != CALL_WAITING)
            monitor_taken(&m->place[SOURCE].monitor, who);
    go_to(m, BACK_RAM);
}

static void turn_back(struct migration *m, uint64_t now)
{
    if (made_any(m, UINT32_MAX) || m->at > GATE)
        say(m, now, m->giving_up ? "going back to the source" : "failed: going back to the source");
    m->turned_at = phase_of(m);
    m->giving_up = true;
    m->changes = false;
    go_back(m);
}

/* Is there a mirror to give up, or about to be one, and nothing of the memory sent? */
static bool may_change(const struct migration *m)
{
    return m->throttle.mirrored && m->home == SOURCE && m->at >= TARGET_START && m->at <= RAM_TURN;
}

bool migration_take_overlay(struct migration *m)
{
    if (!may_change(m) || m->changes || m->giving_up || m->site->control->policy != POLICY_HYBRID)
        return false;
    m->changes = true;
    return true;
}

#define CHANGES "its mirror is given up: it is to get an overlay"

/* The same way, but the guest does not stay: as after a restart. */
static void change_way(struct migration *m, uint64_t now)
{
    say(m, now, CHANGES);
    go_back(m);
}

/* It runs at the target, and some of its memory is at the source: there is no way but on. Another connection, another time. */
static bool goes_on_in_postcopy(struct migration *m, uint64_t now)
{
    if (m->at >= ARRIVAL || !ram_is_past_return(m) || m->ram_again++ == RAM_AGAIN_MAX)
        return false;
    say(m, now, m->error);
    m->error[0] = '\0';
    go_to(m, RAM_REST);
    return true;
}

static void step_failed(struct migration *m, uint64_t now)
{
    if (m->at <= ASK_END || m->nowhere || (m->home == SOURCE && (m->place[SOURCE].monitor.lost || !m->place[SOURCE].started)))
        give_in(m, now);
    else if (m->blocked)
        go_to(m, QUITTING); /* nothing was begun, nothing is to be checked */
    else if (goes_on_in_postcopy(m, now))
        return;
    else if (m->at < ARRIVAL && !ram_is_past_return(m))
        turn_back(m, now);
    else if (m->at >= GOING_ON && !m->place[m->home].monitor.lost && m->at < QUITTING)
        go_to(m, m->at + 1); /* the error is kept, the disk is checked all the same */
    else
        give_in(m, now);
}

static void end(struct migration *m, uint64_t now)
{
    m->outcome = m->home == TARGET ? OUTCOME_MOVED : OUTCOME_BACK;
    m->ended_ns = now;
    go_to(m, ENDED);
}

/* Where a guest whose home is the source goes on after a restart. */
static int go_on_at(const struct migration *m)
{
    bool copied = true;

    for (uint32_t k = 0; k < m->load->disks; k++)
        copied = copied && m->disk[k].copied;
    if (!m->site->go)
        return OBSERVE;
    if (!m->throttle.disk)
        return LEARN;
    if (!m->throttle.added)
        return ADMISSION;
    if (!made_any(m, MADE_SNAPSHOT))
        return FIRST_LIMIT;
    return copied ? TARGET_START : COPY;
}

/* And where everything stands that was asked for. */
static int take_stock(struct migration *m, uint64_t now)
{
    if (m->stopped)
        return QUITTING;
    if (m->home == TARGET)
        return ARRIVAL;
    if (ram_is_past_return(m))
        return RAM_REST;
    if (!m->known)
        return SOURCE_START;
    say(m, now, m->giving_up ? "after a restart: still going back" : "after a restart: going on");
    if (m->changes)
        say(m, now, CHANGES);
    return BACK_RAM;
}

static void next_step(struct migration *m, uint64_t now)
{
    const struct step *s = step_at(m->at);

    mark(m, s, s->makes, s->unmakes);
    if (s->flags & DRAINS)
        throttle_drained(&m->throttle, m->before_drain_bytes);
    if (go_to_next_disk(m))
        return;
    if (s->event)
        say(m, now, s->event);
    if (m->at == QUITTING)
        end(m, now);
    else if (m->at == ASK_END)
        go_to(m, take_stock(m, now));
    else if (m->at == BACK_RAM && m->home == TARGET) /* it was too late for that */
        go_to(m, ARRIVAL);
    else if (m->at == BACK_GO_ON)
        go_to(m, go_on_at(m));
    else
        go_to(m, m->at + 1 == FORWARD_END ? GOING_ON : m->at + 1);
}

static uint64_t time_for(const struct migration *m, const struct step *s)
{
    return s->flags & LONG ? m->site->transfer_ms : MONITOR_ANSWER_MS;
}

static int enter(struct migration *m, uint64_t now)
{
    const struct step *s = step_at(m->at);

    m->entered = true;
    m->before_drain_bytes = throttle_file_bytes(&m->throttle);
    m->deadline_ns = now + time_for(m, s) * MS;
    put_arguments(m, s->arguments ? s->arguments : "");
    return s->begin ? s->begin(m, now) : 0;
}

static void ask(struct migration *m, const struct step *s, uint64_t now)
{
    m->asked = true;
    monitor_send(monitor_of(m, s->side), CALL_STEP, s->command, m->arguments[0] ? m->arguments : NULL, now);
}

/* What has become of the step's command and of what it began. */
static int look(struct migration *m, const struct step *s, uint64_t now)
{
    static const struct call nothing;
    struct call *call = &monitor_of(m, s->side)->call[CALL_STEP];
    int rc = DONE;

    if (s->command && !m->asked) {
        if (now >= m->again_ns)
            ask(m, s, now);
        return WAIT;
    }
    /* No answer is none, even when none can come any more: is_cut_off() sees to that. */
    if (s->command && call->state == CALL_WAITING && !(s->flags & HANGS_UP))
        return WAIT;
    if (s->command && call->state == CALL_REFUSED && !(s->flags & TOLERANT))
        return failed(m, "QEMU said: %s", call->text);
    if (call->state == CALL_ANSWERED)
        mark(m, s, s->makes, 0); /* even if what follows fails */
    if (s->finished)
        rc = s->finished(m, s->command ? call : &nothing, now);
    if (rc == AGAIN) {
        monitor_taken(monitor_of(m, s->side), CALL_STEP);
        m->asked = false;
        m->again_ns = now + 10 * MS;
        return WAIT;
    }
    return rc;
}

/* Has QEMU ended, or does it not answer any more? One that hung up is about to end: then that is the better message. */
static bool is_dead(struct place *p, uint64_t now, char why[FAIL_SIZE])
{
    if (!p->monitor.lost && p->monitor.socket)
        return false;
    if (!vm_runs(&p->vm, why)) {
        p->monitor.lost = true;
        return true;
    }
    if (!p->monitor.lost || now < p->monitor.lost_ns + 300 * MS)
        return false;
    fail(why, "%s", p->monitor.error);
    return true;
}

/* While the guest is handed over, and when it may have been, the machine for memory says what a death means. */
static bool is_cut_off(struct migration *m, const struct step *s, uint64_t now)
{
    if (m->at == CONTINUE || m->at == RAM_REST)
        return false;
    for (int side = SOURCE; side <= TARGET; side++) {
        struct place *p = &m->place[side];
        bool expected = s->flags & HANGS_UP && side_of(m, s->side) == side;
        /* One whose memory is cancelled ends by itself, often before its source has said why. */
        bool cancelled = m->at == RAM_SEND && m->memory.info.state == MIGBUF_RAM_STATE_ENDING;
        bool needed = m->home == (enum side)side || (side == TARGET && m->at > ASK_END && m->at < BACK_RAM && !cancelled);
        char why[FAIL_SIZE];

        if (!p->started || expected || !needed || !is_dead(p, now, why))
            continue;
        failed(m, "%s: %s", side == SOURCE ? "source" : "target", why);
        m->peer_gone = true;
        return true;
    }
    return false;
}

static bool may_turn_back(const struct migration *m, const struct step *s)
{
    bool wanted = m->giving_up || (m->changes && may_change(m));

    return wanted && m->home == SOURCE && m->at < FORWARD_END && !(s->flags & (NO_RETURN | FINISH_FIRST)) &&
           m->place[SOURCE].monitor.call[CALL_STEP].state != CALL_WAITING;
}

/* One turn of the current step; true: there may be more to do at once. */
static bool turn(struct migration *m, uint64_t now)
{
    const struct step *s = step_at(m->at);
    int rc;

    if (m->unrecorded)
        return false;
    if (is_cut_off(m, s, now)) {
        step_failed(m, now);
        return m->at != ENDED;
    }
    if (may_turn_back(m, s)) {
        if (monitor_of(m, s->side)->call[CALL_STEP].state == CALL_ANSWERED)
            mark(m, s, s->makes, 0); /* it has just been done */
        if (m->giving_up)
            turn_back(m, now);
        else
            change_way(m, now);
        return true;
    }
    if (!m->entered && s->needed && !s->needed(m)) {
        if (!go_to_next_disk(m))
            go_to(m, m->at + 1);
        return true;
    }
    rc = !m->entered && enter(m, now) ? FAILED : look(m, s, now);
    if (rc == WAIT && now >= m->deadline_ns)
        rc = failed(m, "took more than %llu s", U(time_for(m, s) / 1000));
    if (rc == WAIT)
        return false;
    if (m->place[side_of(m, s->side)].started)
        monitor_taken(monitor_of(m, s->side), CALL_STEP);
    if (rc == DONE)
        next_step(m, now);
    else
        step_failed(m, now);
    return m->at != ENDED;
}

void migration_step(struct migration *m, uint64_t now)
{
    for (int side = SOURCE; side <= TARGET; side++)
        if (m->place[side].started)
            monitor_step(&m->place[side].monitor, now);
    while (m->at != ENDED && turn(m, now))
        ;
}

/* Ours were in force or not: what the disk machine has found to be the host's is what the target gets. */
static bool follow_host_limits(struct migration *m)
{
    bool changed = m->throttle.taken_over != m->taken_over;

    m->taken_over = m->throttle.taken_over;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        struct migbuf_throttle_config now;

        if (!migbuf_disk_host_limits(m->throttle.disk, vm_disk_node(k), &now) && !same_limits(&now, &m->disk[k].host)) {
            m->disk[k].host = now;
            changed = true;
        }
    }
    return changed;
}

void migration_slept(struct migration *m, uint64_t ns)
{
    m->deadline_ns += ns;
    m->throttle.ram_until_ns += m->throttle.ram_until_ns ? ns : 0;
    for (uint32_t k = 0; k < m->load->disks; k++)
        m->mirroring[k].slept_ns += ns;
    for (int side = SOURCE; side <= TARGET; side++) {
        monitor_slept(&m->place[side].monitor, ns);
        process_slept(&m->place[side].vm.process, ns);
    }
}

/* What nobody asked for, and everybody should hear. */
static void notice(struct migration *m, uint64_t now)
{
    uint32_t errors = 0;

    for (int side = SOURCE; side <= TARGET; side++)
        errors += m->place[side].monitor.facts.io_errors;
    if (errors && !m->io_errors)
        say(m, now, "the guest was told of an I/O error");
    m->io_errors = errors > m->io_errors ? errors : m->io_errors; /* a monitor that is closed forgets nothing */
    if (!follow_host_limits(m))
        return;
    m->other_hands++;
    say(m, now, "another hand changed the limits: they are the host's from now on");
}

/* The file that QEMU has open under this name, or had before it was unlinked. */
static int open_of_process(pid_t pid, const char *path)
{
    char directory[64], link[400], target[400];
    struct dirent *entry;
    size_t length = strlen(path);
    int fd = -1;
    DIR *d;

    snprintf(directory, sizeof directory, "/proc/%d/fd", (int)pid);
    d = opendir(directory);
    while (d && fd < 0 && (entry = readdir(d))) {
        ssize_t n;

        snprintf(link, sizeof link, "%s/%s", directory, entry->d_name);
        n = readlink(link, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        if (!strncmp(target, path, length) && (!target[length] || !strcmp(target + length, " (deleted)")))
            fd = open(link, O_RDWR | O_CLOEXEC);
    }
    if (d)
        closedir(d);
    return fd;
}

int migration_adopt(struct migration *m, char error[FAIL_SIZE])
{
    for (int side = SOURCE; side <= TARGET; side++) {
        struct place *p = &m->place[side];
        int rc = vm_adopt(&p->vm, p->directory, error);

        if (rc < 0)
            return -1;
        p->started = rc;
    }
    return 0;
}

void migration_resume(struct migration *m, uint64_t now)
{
    const struct place *home = &m->place[m->home];

    for (int side = SOURCE; side <= TARGET; side++)
        if (m->place[side].started)
            monitor_open(&m->place[side].monitor, m->place[side].vm.qmp, now);
    expect_jobs(m);
    m->throttle.hands_off = true; /* it may be at the target */
    if (m->throttle.disk)
        know_disks(m);
    for (uint32_t k = 0; k < m->load->disks && m->place[SOURCE].started; k++)
        m->throttle.overlay_fd[k] = open_of_process(m->place[SOURCE].vm.process.pid, m->disk[k].overlay);
    if (m->outcome != OUTCOME_UNDER_WAY) {
        go_to(m, ENDED);
    } else if (home->started) {
        go_to(m, ASK_READY);
    } else if (m->stopped) { /* died between the end of its QEMU and the record of it */
        end(m, now);
    } else if (m->home == SOURCE && !m->known) {
        go_to(m, SOURCE_START);
    } else {
        go_to(m, ASK_READY);
        failed(m, "its QEMU has ended meanwhile");
        give_in(m, now);
    }
}

/* What memory still has to send over the same link, as far as can be told. The overlay is there until that is over. */
static uint64_t ram_left_bytes(const struct migration *m)
{
    const struct route *route = &m->site->control->route[m->throttle.route];

    return route->bytes_per_s && m->home == SOURCE && m->at <= RAM_REST ? (uint64_t)(ram_seconds(m) * (double)route->bytes_per_s) : 0;
}

/* Each disk by its share of the link, with what its guest wrote since last time. */
static void drive_mirrors(struct migration *m, uint64_t now)
{
    struct throttle *t = &m->throttle;
    struct monitor *monitor = &m->place[SOURCE].monitor;
    struct migbuf_mirror_load load;
    bool mirrors = false; /* not on the way back, nor before it is begun */
    double hold = 0;

    throttle_count(t);
    load = hybrid_load(m->site->control, t, hybrid_flows(m->site->control, t->route) * t->disks);
    load.write_bytes_per_s /= t->disks;
    for (uint32_t k = 0; k < t->disks; k++) {
        mirroring_drive(&m->mirroring[k], monitor, &monitor->facts.job[k], &load, now);
        if (m->mirroring[k].info.write_blocking && !m->mirroring[k].blocking_told) {
            m->mirroring[k].blocking_told = true;
            say(m, now, "its writes go to both hosts before it is told of them");
        }
        mirrors |= m->mirroring[k].machine != NULL;
        hold += m->mirroring[k].machine ? m->mirroring[k].info.hold_bytes_per_s : 0;
    }
    if (mirrors && (hold > 0) != (t->hold_bytes_per_s > 0))
        say(m, now, hold > 0 ? "its mirror cannot catch up: its guest is held" : "its mirror has caught up");
    control_hold(t, hold);
    if (hold > 0 && m->way == WAY_ADVISED && !m->doubted) { /* its choice was made with less knowledge */
        char error[FAIL_SIZE];

        m->doubted = true;
        if (hybrid_mirrors(m->site->control, t, error) == 0)
            migration_take_overlay(m);
    }
}

/* Of the base until it is copied, then of the overlay and of memory; or of the mirrored disk. */
static void tell_what_is_left(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        const struct disk *d = &m->disk[k];
        uint64_t bytes = 0, sent;

        if (m->throttle.mirrored) {
            bytes = m->mirroring[k].info.state ? m->mirroring[k].info.remaining_bytes : m->site->disk_bytes;
        } else if (d->copy >= 0) {
            bytes = link_flow(link_of(m), d->copy).remaining_bytes;
        } else if (!d->copied) {
            bytes = m->site->disk_bytes;
        } else if (m->at >= MIRROR && m->at <= READY && !migbuf_cow_file_bytes(m->throttle.overlay_fd[k], &bytes, NULL)) {
            sent = d->nbd >= 0 ? link_flow(link_of(m), d->nbd).sent_bytes : 0;
            bytes = bytes > sent ? bytes - sent : 0;
        }
        if (!k && !m->throttle.mirrored && (bytes || m->at > READY)) /* 0 would be nothing new */
            bytes += ram_left_bytes(m);
        m->throttle.left_bytes[k] = bytes;
    }
}

void migration_throttle(struct migration *m, uint64_t free_bytes, uint64_t now)
{
    char error[FAIL_SIZE];

    notice(m, now);
    tell_what_is_left(m);
    if (!m->throttle.added || m->home == TARGET || !m->place[SOURCE].started || m->place[SOURCE].monitor.lost)
        return;
    if (throttle_pump(m->site->control, &m->throttle, now, error) < 0)
        say(m, now, error); /* what was in force still is; the next tick decides again */
    if (m->throttle.mirrored)
        drive_mirrors(m, now);
    watch_pump(&m->throttle.watch, &m->place[SOURCE].monitor, now);
    throttle_run_or_stop(m->site->control, &m->throttle, free_bytes, now);
}

/* What others want to know */

static enum way way_of(const struct site *site, uint32_t index)
{
    uint64_t bit = UINT64_C(1) << index;

    return site->ways[0] & bit ? WAY_MIRROR : site->ways[1] & bit ? WAY_OVERLAY : WAY_ADVISED;
}

void migration_init(struct migration *m, uint32_t index, const struct load *load, struct site *site)
{
    static const char *const name[] = { "source", "target" };

    *m = (struct migration){ .index = index, .load = load, .site = site, .ram = -1, .ram_requests = -1, .at = SOURCE_START,
                             .way = way_of(site, index) };
    for (int side = SOURCE; side <= TARGET; side++)
        m->memory.monitor[side] = &m->place[side].monitor;
    m->tool.pidfd = m->tool_output = -1;
    for (int side = SOURCE; side <= TARGET; side++) {
        struct place *p = &m->place[side];

        p->vm = (struct vm){ .process = { .pidfd = -1 }, .log_fd = -1, .memory_fd = -1 };
        snprintf(p->directory, sizeof p->directory, "%s/%u-%s", site->directory, index, name[side]);
    }
    for (uint32_t k = 0; k < VM_DISKS_MAX; k++) {
        struct disk *d = &m->disk[k];

        d->copy = d->nbd = m->throttle.overlay_fd[k] = -1;
        for (int side = SOURCE; side <= TARGET; side++)
            snprintf(d->image[side], sizeof d->image[side], "%s/%u-%s-%u.raw", site->directory, index, name[side], k);
        snprintf(d->overlay, sizeof d->overlay, "%s/%u-%u.qcow2", site->volume->path, index, k);
    }
}

static bool has_work(const struct guest_status *status)
{
    for (int k = 0; k < GUEST_MAX_DEPTH; k++)
        if (status->in_flight[k])
            return true;
    return false;
}

/* A stall is a time in which a writer waited for a write, or was not allowed to run, and got nothing done. */
static void watch_disk(struct migration *m, uint32_t k, uint64_t now)
{
    const struct place *p = &m->place[m->home];
    struct disk *d = &m->disk[k];
    struct guest_status status;
    char error[FAIL_SIZE];

    if (writer_disk_status(p->vm.memory_fd, k, &status, error) != 1)
        return;
    if (status.acknowledged != d->status.acknowledged || !d->acked_ns ||
        (p->monitor.facts.running && !has_work(&status)))
        d->acked_ns = now;
    if ((now - d->acked_ns) / MS > m->longest_stall_ms)
        m->longest_stall_ms = (now - d->acked_ns) / MS;
    d->status = status;
}

void migration_watch(struct migration *m, uint64_t now)
{
    uint64_t sum = throttle_file_bytes(&m->throttle);

    if (sum > m->overlay_peak_bytes)
        m->overlay_peak_bytes = sum;
    if (!m->overflow_ns && migration_overflows(m))
        m->overflow_ns = now;
    if (m->stopped || !m->place[m->home].started)
        return;
    for (uint32_t k = 0; k < m->load->disks; k++)
        watch_disk(m, k, now);
}

uint64_t migration_acknowledged(const struct migration *m)
{
    uint64_t sum = 0;

    for (uint32_t k = 0; k < m->load->disks; k++)
        sum += m->disk[k].status.acknowledged;
    return sum;
}

uint64_t migration_acknowledged_at_arrival(const struct migration *m)
{
    uint64_t sum = 0;

    for (uint32_t k = 0; k < m->load->disks; k++)
        sum += m->disk[k].acked_at_arrival;
    return sum;
}

uint64_t migration_delivered_bytes(const struct migration *m, uint64_t *wanted_bytes)
{
    uint64_t until_ns = m->outcome == OUTCOME_MOVED ? m->arrived_ns : m->ended_ns, bytes = m->load->writer.sectors * UINT64_C(512);
    uint64_t acknowledged = m->outcome == OUTCOME_MOVED ? migration_acknowledged_at_arrival(m) : migration_acknowledged(m);

    *wanted_bytes = 0;
    for (uint32_t k = 0; k < m->load->disks && m->begun_ns && until_ns > m->begun_ns; k++)
        *wanted_bytes += writer_demand(&m->load->writer, (uint32_t)m->begun_uptime_ms[k], (uint32_t)((until_ns - m->begun_ns) / MS)) * bytes;
    if (m->load->writer.count && *wanted_bytes > (m->load->writer.count * m->load->disks - m->begun_acknowledged) * bytes)
        *wanted_bytes = (m->load->writer.count * m->load->disks - m->begun_acknowledged) * bytes;
    return acknowledged > m->begun_acknowledged ? (acknowledged - m->begun_acknowledged) * bytes : 0;
}

uint64_t migration_refused(const struct migration *m)
{
    uint64_t sum = 0;

    for (uint32_t k = 0; k < m->load->disks; k++)
        sum += m->disk[k].status.failed;
    return sum;
}

void migration_give_up(struct migration *m, const char *why)
{
    if (m->giving_up || m->at >= CONTINUE || m->home == TARGET)
        return;
    m->giving_up = true;
    if (!m->error[0])
        fail(m->error, "%s, %s: %s", m->load->name, step_at(m->at)->name, why);
}

bool migration_asks(const struct migration *m)
{
    return m->at <= ASK_END;
}

bool migration_ended(const struct migration *m)
{
    return m->at == ENDED;
}

bool migration_waits(const struct migration *m)
{
    return m->at >= GATE;
}

bool migration_is_past_return(const struct migration *m)
{
    return m->home == TARGET || (step_at(m->at)->flags & NO_RETURN);
}

void migration_release(struct migration *m)
{
    drop_flows(m);
    drop_mirrors(m);
    memory_end(&m->memory);
    process_end(&m->tool, 1000);
    for (int side = SOURCE; side <= TARGET; side++) {
        monitor_close(&m->place[side].monitor);
        vm_release(&m->place[side].vm);
        m->place[side].started = false;
    }
    release_overlay(m);
    throttle_free(&m->throttle);
    unlink_overlays(m);
    if (m->tool_output >= 0)
        close(m->tool_output);
    m->tool_output = -1;
}

const char *migration_step_name(const struct migration *m)
{
    return step_at(m->at)->name;
}

const char *migration_find_step(const char *name, size_t length)
{
    for (int at = 0; at < ENDED; at++)
        if (strlen(step_at(at)->name) == length && !strncmp(step_at(at)->name, name, length))
            return step_at(at)->name;
    return NULL;
}

/* Finding out after a restart, and taking back what hung on the program that died: that is no phase of its own. It stands
 * where it will go on. */
static bool is_coming_back(const struct migration *m)
{
    return m->at <= ASK_END || (m->at >= BACK_RAM && m->at < GOING_ON && !m->giving_up);
}

int32_t migration_phase(const struct migration *m)
{
    if (m->outcome == OUTCOME_LOST)
        return PHASE_FAILED;
    if (m->at >= GOING_ON && m->home == SOURCE)
        return PHASE_REVERTED;
    if (is_coming_back(m))
        return m->home == TARGET ? PHASE_TARGET : m->throttle.overlay_fd[0] >= 0 ? PHASE_BASE : PHASE_WAITING;
    return phase_of(m);
}

/* Of all disks together; one that is not being sent has been, or is yet to be. */
uint32_t migration_progress_permille(const struct migration *m)
{
    bool mirror = m->at >= NBD_NODE || m->throttle.mirrored;
    uint64_t all = mirror && has_overlay(m) ? m->throttle.file_bytes : m->load->disks * m->site->disk_bytes, sent = 0;

    if (is_coming_back(m))
        return 0;
    if (m->at >= ARRIVAL)
        return m->at < BACK_RAM || m->at >= GOING_ON ? 1000 : 0;
    if (m->at > READY)
        return 1000;
    if (m->at < COPY || !all)
        return 0;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        int flow = mirror ? m->disk[k].nbd : m->disk[k].copy;

        if (m->throttle.mirrored) {
            sent += m->mirroring[k].info.state ? m->site->disk_bytes - m->mirroring[k].info.remaining_bytes : 0;
            continue;
        }
        if (flow >= 0)
            sent += link_flow(link_of(m), flow).sent_bytes;
        else if (!mirror && (k < m->d || m->at > COPY))
            sent += m->site->disk_bytes;
    }
    return sent >= all ? 1000 : (uint32_t)(sent * 1000 / all);
}

uint32_t migration_overflows(const struct migration *m)
{
    return m->overflows_before + m->place[SOURCE].monitor.facts.overflows + m->place[TARGET].monitor.facts.overflows;
}
