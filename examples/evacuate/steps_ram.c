/* SPDX-License-Identifier: MIT */
/* Memory, there and back: the columns of the steps that the library's machine drives (memory.c). Where the guest is, and what
 * may still be called back, it says; here stands what that means for a migration. */
#include "steps.h"
#include "migbuf/report.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Only TCG loses pages (steps_there.c); it stands for whatever QEMU says nothing of. */
int kvm_told(struct migration *m, const struct call *answer, uint64_t now)
{
    json_t *o = json_loadb(answer->text, answer->text_bytes, 0, NULL);

    (void)now;
    m->kvm = json_is_true(json_object_get(o, "enabled"));
    json_decref(o);
    return DONE;
}

/* It has made its last write to a disk, and was told that it is safe. */
bool is_at_rest(const struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (!m->load->writer.count || m->disk[k].status.acknowledged < m->load->writer.count)
            return false;
    return true;
}

bool must_hold(const struct migration *m)
{
    return !m->kvm && !is_at_rest(m);
}

bool has_ram(const struct migration *m)
{
    return m->memory.ram;
}

/* A source that is deaf once its guest is over there has nothing to say any more. */
static bool is_gone(struct migration *m, int side)
{
    struct place *p = &m->place[side];

    if (!p->started || !vm_runs(&p->vm, NULL))
        return true;
    return side == SOURCE && p->monitor.lost && m->memory.info.state == MIGBUF_RAM_STATE_MOVED;
}

/* True: it waits for an answer. */
static bool drive(struct migration *m, uint64_t now)
{
    for (int side = SOURCE; side <= TARGET; side++)
        if (is_gone(m, side))
            memory_gone(&m->memory, side);
    return memory_drive(&m->memory, m->site->recorded, now);
}

/* It runs and does not answer: who waits for its word ends it. */
static bool target_is_deaf(const struct migration *m)
{
    return m->place[TARGET].monitor.lost && !m->memory.gone[TARGET];
}

/* It is over, or at its end, and the guest is not at the target. */
static int ended_badly(struct migration *m)
{
    const struct memory *x = &m->memory;

    switch (x->info.state) {
    case MIGBUF_RAM_STATE_LOST:
        m->nowhere = true;
        return failed(m, "a QEMU died that had what nobody else has");
    case MIGBUF_RAM_STATE_REFUSED:
        return failed(m, "QEMU said: %s", x->refusal);
    case MIGBUF_RAM_STATE_CANCELLED:
    case MIGBUF_RAM_STATE_FAILED:
        return failed(m, "the migration %s: %s%s%s", migbuf_ram_state_text(x->info.state), migbuf_attempt_why_text(x->attempt.why),
                      x->last.error[0] ? ", " : "", x->last.error);
    case MIGBUF_RAM_STATE_UNCLEAR:
        return failed(m, "the migration failed at its end");
    default:
        return WAIT;
    }
}

/* There */

/* As it is believed to be before it begins: with what earlier attempts have told, where there were any. */
static void believe(const struct migration *m, struct migbuf_convergence *c)
{
    const struct route *route = &m->site->control->route[m->throttle.route];
    const struct migbuf_prior *prior = &m->load->prior;

    c->ram_bytes = c->left_bytes = writer_ram_mib(&m->load->writer) * 1048576.0;
    c->link_bytes_per_s = route->bytes_per_s ? (double)route->bytes_per_s : 1e6; /* not measured yet: the order is the same with any */
    c->limit_ms = m->site->agreement.most_ms;
    if (prior->attempts && !must_hold(m)) {
        c->set_bytes = prior->set_bytes;
        c->rate_bytes_per_s = prior->dirty_bytes_per_s;
    }
}

/* How long its memory takes, or still takes; what does not converge by itself three times as long as a guest that stands. */
double ram_seconds(const struct migration *m)
{
    struct migbuf_convergence c;
    double seconds, downtime_ms;

    migbuf_convergence_init(&c, sizeof c);
    if (!has_ram(m) || migbuf_ram_convergence(m->memory.ram, &c))
        believe(m, &c);
    if (has_ram(m) && m->memory.last.has_ram)
        c.left_bytes = (double)m->memory.last.ram_remaining_bytes;
    if (migbuf_convergence_finish(&c, c.limit_ms, &seconds, &downtime_ms) || !isfinite(seconds))
        seconds = 3 * c.left_bytes / c.link_bytes_per_s;
    return fmax(seconds, 0.001);
}

int ram_turn(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    /* Soon it is at rest, and need not be held. One that stands for lack of room never would be: it goes as it stands. */
    if (m->load->writer.count && !is_at_rest(m) && m->place[SOURCE].monitor.facts.running)
        return WAIT;
    m->throttle.ram_s = ram_seconds(m);
    m->throttle.ram_until_ns = m->deadline_ns;
    return control_ram_turn(m->site->control, &m->throttle, now) ? DONE : WAIT;
}

int ram_learn(struct migration *m, uint64_t now)
{
    char error[FAIL_SIZE];

    (void)now;
    m->changes = false; /* it is too late for that */
    migbuf_disk_learn(m->throttle.disk); /* what another hand has set since the last tick the target is to get as well */
    return memory_new(&m->memory, &m->site->agreement, m->site->host_decides, error) ? failed(m, "%s", error) : 0;
}

int ram_learnt(struct migration *m, const struct call *answer, uint64_t now)
{
    bool waits = drive(m, now);
    const struct memory *x = &m->memory;

    (void)answer;
    if (x->info.failed)
        return failed(m, "QEMU said: %s", x->refusal);
    return waits || !x->info.learnt ? WAIT : DONE;
}

int ram_start(struct migration *m, uint64_t now)
{
    char source[320], target[320];
    int rc;

    (void)now;
    m->throttle.hands_off = true;
    snprintf(source, sizeof source, "unix:%s/ram", m->place[SOURCE].directory);
    snprintf(target, sizeof target, "unix:%s/ram", m->place[TARGET].directory);
    if (add_proxy(m, "ram", "ram", &m->ram))
        return FAILED;
    rc = migbuf_ram_start(m->memory.ram, source, target);
    if (rc == MIGBUF_E_UNSUPPORTED)
        return failed(m, "this QEMU has no capability pause-before-switchover");
    return rc ? failed(m, "it cannot begin: %s", migbuf_strerror(rc)) : 0;
}

/* Post-copy's requests have a connection of their own, to the same socket: a proxy takes one, so there is a second. */
static int take_requests(struct migration *m)
{
    if (!m->memory.info.armed_preempt || m->ram_requests >= 0 || m->ram < 0 || link_flow(link_of(m), m->ram).phase != LINK_ACTIVE)
        return 0;
    return add_proxy(m, "ram", "ram", &m->ram_requests);
}

int ram_sent(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    drive(m, now);
    if (take_requests(m))
        return FAILED;
    if (m->memory.info.state != MIGBUF_RAM_STATE_SWITCH)
        return ended_badly(m);
    control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_MIRROR, 1);
    return DONE;
}

int ram_switch(struct migration *m, uint64_t now)
{
    (void)now;
    migbuf_ram_switch(m->memory.ram);
    return 0;
}

/* It is over there; or, in post-copy, it runs there and some of its memory is here. */
static int arrived(struct migration *m)
{
    m->home = TARGET;
    control_ram_over(&m->throttle);
    return DONE;
}

void note_downtime(struct migration *m)
{
    uint64_t stop_ns = m->place[SOURCE].monitor.facts.stop_ns, resume_ns = m->place[TARGET].monitor.facts.resume_ns;

    if (stop_ns && resume_ns > stop_ns && !m->downtime_ms)
        m->downtime_ms = (resume_ns - stop_ns) / MS;
}

int ram_switched(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    drive(m, now);
    if (m->memory.info.state == MIGBUF_RAM_STATE_MOVED)
        return arrived(m);
    /* Post-copy: before it runs there, a link that breaks cannot be mended. */
    if (ram_is_past_return(m) && m->place[TARGET].monitor.facts.resume_ns) {
        note_downtime(m);
        return DONE;
    }
    return ended_badly(m);
}

/* A link that broke needs another connection; the machine tries again and again. */
static int mend(struct migration *m, uint64_t now)
{
    if (m->ram >= 0 && link_flow(link_of(m), m->ram).phase <= LINK_ACTIVE)
        return 0;
    record_event(m->site->record, (now - m->site->start_ns) / MS, m->index, "the link broke in post-copy: it is mended");
    drop_flow(m, &m->ram);
    drop_flow(m, &m->ram_requests);
    return add_proxy(m, "ram", "ram", &m->ram);
}

int ram_moved(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    if ((m->memory.info.state == MIGBUF_RAM_STATE_BROKEN && mend(m, now)) || take_requests(m))
        return FAILED;
    drive(m, now);
    return m->memory.info.state == MIGBUF_RAM_STATE_MOVED ? arrived(m) : ended_badly(m);
}

/* Back */

/* Cancelled, unless it is too late for that: then the guest is over there, or it comes back when the target has ended. */
static int call_back(struct migration *m, uint64_t now)
{
    struct memory *x = &m->memory;
    bool waits;

    if (!x->cancelled)
        x->cancelled = !migbuf_ram_cancel(x->ram);
    waits = drive(m, now);
    if (x->info.state == MIGBUF_RAM_STATE_LOST)
        return ended_badly(m);
    if (x->info.state == MIGBUF_RAM_STATE_MOVED)
        m->home = TARGET;
    if (x->info.state >= MIGBUF_RAM_STATE_MOVED || x->info.state == MIGBUF_RAM_STATE_IDLE)
        return waits ? WAIT : DONE;
    return x->info.state == MIGBUF_RAM_STATE_UNCLEAR || (!x->cancelled && !ram_is_past_return(m) && target_is_deaf(m)) ? DONE : WAIT;
}

/* The next one's turn begins at once, not when the overlay is merged. */
int ram_called_back(struct migration *m, const struct call *answer, uint64_t now)
{
    int rc = call_back(m, now);

    (void)answer;
    if (rc == DONE)
        control_ram_over(&m->throttle);
    return rc;
}

/* It stays for the summary. */
static void keep_result(struct migration *m)
{
    const struct memory *x = &m->memory;

    if (m->ram_result.state == MIGBUF_RAM_STATE_MOVED) /* by a program that died then */
        return;
    m->ram_result = (struct ram_result){
        .state = x->info.state,
        .downtime_ms = x->info.downtime_ms,
        .pages = x->last.normal_pages + x->last.duplicate_pages + x->last.xbzrle_pages,
        .sent_bytes = x->info.sent_bytes,
        .resent_bytes = x->info.resent_bytes,
        .total_ms = x->info.total_ms,
        .rounds = x->info.rounds,
        .throttle_percent = x->attempt.throttle_percent != MIGBUF_ATTEMPT_UNKNOWN ? x->attempt.throttle_percent : 0,
        .limit_ms = x->info.limit_ms,
        .lost_ms = x->info.lost_ms,
        .post_copy = x->attempt.post_copy != 0,
    };
}

/* What another hand has set meanwhile stays so. What cannot be given back is found by the check in the end. */
int ram_restored(struct migration *m, const struct call *answer, uint64_t now)
{
    struct memory *x = &m->memory;
    bool waits = drive(m, now);

    (void)answer;
    if (waits)
        return WAIT;
    if (!x->restoring) {
        if (x->info.state == MIGBUF_RAM_STATE_MOVED && !x->info.total_ms && !x->gone[SOURCE] && x->looks < 5)
            return WAIT; /* QEMU 7.2 has no figures in the first instant */
        keep_result(m);
        x->restoring = !migbuf_ram_restore(x->ram);
        if (x->restoring || x->info.commands_sent)
            return WAIT;
    }
    if (x->info.failed && now + 30000 * MS < m->deadline_ns)
        return WAIT; /* the source of a post-copy still is at its end: the next look tries again */
    if (x->info.failed)
        failed(m, "QEMU said: %s", x->refusal);
    else if (x->restoring && !x->info.restored)
        return WAIT;
    memory_end(x);
    return DONE;
}

/* After a restart */

int ram_found(struct migration *m, const struct call *answer, uint64_t now)
{
    const struct memory *x = &m->memory;

    bool waits = m->home == SOURCE && drive(m, now);

    (void)answer;
    if (m->home == TARGET)
        return DONE;
    if (waits && !ram_is_past_return(m)) /* that is mended by another connection: not here */
        return WAIT;
    switch (x->info.state) {
    case MIGBUF_RAM_STATE_ARMING:
    case MIGBUF_RAM_STATE_ENDING: /* it comes to its end by itself, as its connection is cut */
        return target_is_deaf(m) ? DONE : WAIT;
    case MIGBUF_RAM_STATE_LOST:
        return ended_badly(m);
    case MIGBUF_RAM_STATE_MOVED:
        m->home = TARGET;
        return DONE;
    case MIGBUF_RAM_STATE_POSTCOPY:
    case MIGBUF_RAM_STATE_BROKEN:
        m->throttle.ram_goes = true;
        return DONE;
    default:
        return DONE;
    }
}

bool ram_is_past_return(const struct migration *m)
{
    return has_ram(m) && (m->memory.info.state == MIGBUF_RAM_STATE_POSTCOPY || m->memory.info.state == MIGBUF_RAM_STATE_BROKEN);
}

/* The proof that nothing of ours is left set */

bool migration_settings_restored(const struct migration *m)
{
    return m->settings_restored == 3 || !m->memory.settings[m->home][0];
}

static const uint64_t *settings(const struct migration *m)
{
    return &m->memory.settings[m->home][m->at == PARAMETERS_CHECK];
}

bool settings_known(const struct migration *m)
{
    return *settings(m);
}

int compare_settings(struct migration *m, const struct call *answer, uint64_t now)
{
    uint32_t bit = m->at == PARAMETERS_CHECK ? 2 : 1;

    (void)now;
    m->settings_restored &= ~bit; /* a program before this one may have looked */
    if (memory_checksum(answer->text, answer->text_bytes) == *settings(m)) {
        m->settings_restored |= bit;
        return DONE;
    }
    return failed(m, "they are not what they were: %.*s", 300, answer->text);
}
