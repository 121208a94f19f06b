/* SPDX-License-Identifier: MIT */
/* The way back to the source: undoes in reverse what the way there has made. And what is asked after a restart, for that
 * tells what there is to undo. The steps stand in the table at the end; the functions above it are its columns. */
#include "steps.h"
#include "migbuf/report.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* After a restart: what has become of it */

static bool is_at_source(const struct migration *m)
{
    return m->home == SOURCE;
}

static int monitors_ready(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    for (int side = SOURCE; side <= TARGET; side++) {
        const struct place *p = &m->place[side];

        if (p->started && !p->monitor.lost && !monitor_ready(&p->monitor))
            return WAIT;
    }
    return DONE;
}

static int found_status(struct migration *m, const struct call *answer, uint64_t now)
{
    struct migbuf_status_report status;
    struct migbuf_error e;

    (void)now;
    if (migbuf_report_status(answer->text, answer->text_bytes, &status, &e))
        return failed(m, "%s", e.text);
    m->place[SOURCE].monitor.facts.running = status.running;
    return DONE;
}

/* Their names are known before the first event that is meant for them can come: see found_jobs(). */
void expect_jobs(struct migration *m)
{
    for (m->d = 0; m->d < m->load->disks; m->d++)
        new_job(m, 0);
    m->d = 0;
}

static int found_jobs(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        struct job *job = &m->place[SOURCE].monitor.facts.job[k];
        struct migbuf_job_report report;

        if (migbuf_report_job(answer->text, answer->text_bytes, job->name, &report, NULL))
            continue;
        job->ready = report.ready;
        job->stopped = report.stopped;
        if (job->stopped)
            snprintf(job->error, sizeof job->error, "a read or write failed");
        m->disk[k].made |= strcmp(report.type, "commit") ? MADE_JOB : MADE_COMMIT;
    }
    return DONE;
}

/* The top node tells whether the overlay is in use. A guest that found no room meanwhile says so once more. */
static int found_disks(struct migration *m, const struct call *answer, uint64_t now)
{
    struct facts *facts = &m->place[SOURCE].monitor.facts;

    (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        struct migbuf_block_report block;
        struct migbuf_error e;
        char top[64];

        snprintf(top, sizeof top, "%s_snapshot", vm_disk_node(k));
        if (!migbuf_report_block(answer->text, answer->text_bytes, top, &block, &e))
            m->disk[k].made |= MADE_SNAPSHOT;
        else if (migbuf_report_block(answer->text, answer->text_bytes, vm_disk_node(k), &block, &e))
            return failed(m, "%s: %s", vm_disk_node(k), e.text);
        if (block.nospace && !facts->running && !facts->no_space) {
            facts->no_space = true;
            facts->overflows++;
        }
    }
    return DONE;
}

static bool has_node(const struct call *answer, uint32_t k, const char *suffix)
{
    struct migbuf_node_report report;
    char name[64];

    snprintf(name, sizeof name, "%s%s", vm_disk_node(k), suffix);
    return !migbuf_report_node(answer->text, answer->text_bytes, name, &report, NULL);
}

/* A descriptor that no node uses was closed by QEMU when the program that passed it hung up. */
static int found_nodes(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        if (has_node(answer, k, "_snapshot"))
            m->disk[k].made |= MADE_NODE | (m->site->named ? 0u : MADE_FDSET);
        if (has_node(answer, k, "_nbd"))
            m->disk[k].made |= MADE_NBD;
    }
    return DONE;
}

static bool was_learnt(const struct migration *m)
{
    return m->home == SOURCE && m->throttle.disk;
}

static int found_limits(struct migration *m, const struct call *answer, uint64_t now)
{
    int rc = pumped(m, answer, now);
    char error[FAIL_SIZE];

    if (rc == DONE && control_found(m->site->control, &m->throttle, now, error))
        return failed(m, "%s", error);
    return rc;
}

/* The way back */

static bool made_job(const struct migration *m)
{
    return m->disk[m->d].made & MADE_JOB && !job(m)->ended;
}

/* A mirror that ends while a write of its guest is on its way to the target takes QEMU with it (signal 11, seen with
 * 7.2; see migbuf_report_job_error()): cancelled by force, or by itself when its target is gone. Hence on-target-error
 * "stop", and the guest stands still for a moment. By force, because QEMU refuses to cancel a stopped job without. */
static bool must_stand(const struct migration *m)
{
    return made_any(m, MADE_JOB);
}

static bool made_nbd(const struct migration *m)
{
    return m->disk[m->d].made & MADE_NBD;
}

static bool made_target(const struct migration *m)
{
    return m->place[TARGET].started;
}

static bool made_snapshot(const struct migration *m)
{
    return m->disk[m->d].made & MADE_SNAPSHOT;
}

/* Merged back only when the guest is to stay; else its overlay serves the next attempt, too. */
static bool must_merge(const struct migration *m)
{
    return made_snapshot(m) && m->giving_up;
}

/* All disks' merges are completed while the guest stands, one after the other. */
static bool must_stand_still(const struct migration *m)
{
    return made_any(m, MADE_SNAPSHOT) && m->giving_up;
}

static bool must_begin_merge(const struct migration *m)
{
    return must_merge(m) && !(m->disk[m->d].made & MADE_COMMIT);
}

static bool made_node(const struct migration *m)
{
    return m->disk[m->d].made & MADE_NODE && !made_snapshot(m);
}

static bool made_fdset(const struct migration *m)
{
    return m->disk[m->d].made & MADE_FDSET && !made_snapshot(m);
}

/*
 * The guest did not arrive and is still here, but QEMU has stopped it for good: what was sent may even have been
 * everything, and then its disks are given away. Only `cont` takes it back, before any job and before QEMU migrates again.
 * For one that is to stand still it costs a drain; those of the next attempt, for which there is room, find it standing.
 */
static int found_handed_over(struct migration *m, const struct call *answer, uint64_t now)
{
    struct migbuf_status_report status;
    struct migbuf_error e;

    (void)now;
    if (migbuf_report_status(answer->text, answer->text_bytes, &status, &e))
        return failed(m, "%s", e.text);
    m->handed_over = !strcmp(status.status, "postmigrate") || !strcmp(status.status, "finish-migrate");
    return DONE;
}

static bool is_handed_over(const struct migration *m)
{
    return m->handed_over;
}

/* Without its cont QEMU does not take its images back, and nothing can be merged: it comes also where the buffer would have it
 * stand. Then it is stopped again. */
static int let_go_on(struct migration *m, uint64_t now)
{
    char error[FAIL_SIZE];

    if (control_runs(m->site->control, &m->throttle) && control_tick(m->site->control, now, error))
        return failed(m, "%s", error);
    return 0;
}

static bool goes_on(const struct migration *m)
{
    return !m->giving_up;
}

static bool stays(const struct migration *m)
{
    return m->giving_up;
}

static bool learnt(const struct migration *m)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    return !migbuf_disk_info(m->throttle.disk, &info) && info.learnt;
}

static int mirror_over(struct migration *m, const struct call *answer, uint64_t now)
{
    const struct mirroring *x = &m->mirroring[m->d];

    if (answer->state == CALL_REFUSED && m->throttle.mirrored && x->info.state == MIGBUF_MIRROR_STATE_IDLE)
        return DONE; /* it was about to be started, and was not */
    if (!job(m)->ended)
        return WAIT;
    if (job(m)->stopped)
        record_event(m->site->record, (now - m->site->start_ns) / MS, m->index,
                     "its mirror had stopped and was cancelled");
    return DONE;
}

/* Under control again while it is merged: its writes still go to the overlay. */
static int under_control(struct migration *m, uint64_t now)
{
    (void)now;
    m->throttle.hands_off = false;
    return 0;
}

static int end_target(struct migration *m, uint64_t now)
{
    drop_flows(m);
    vm_end_begin(&m->place[TARGET].vm, now, 1000);
    return 0;
}

static int target_gone(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    return qemu_gone(m, TARGET, now);
}

static int put_fdset(struct migration *m, uint64_t now)
{
    (void)now;
    put(m, "{\"fdset-id\":%u}", FDSET(m->d));
    return 0;
}

/* After a restart what could not be kept has been taken back. */
static int taken_back(struct migration *m, const struct call *answer, uint64_t now)
{
    drop_flows(m);
    m->throttle.hands_off = false;
    if (m->changes) { /* in the buffer until its guest runs under its host's limits again: then it asks for room */
        int rc = pumped(m, answer, now);

        if (rc == FAILED)
            return rc;
        if (rc == WAIT || !m->place[SOURCE].monitor.facts.running)
            return WAIT;
        control_remove(m->site->control, &m->throttle);
        m->throttle.mirrored = m->changes = false;
        m->throttle.way = m->way = WAY_OVERLAY;
    }
    if (made_any(m, MADE_SNAPSHOT))
        control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_BASE, 3);
    return DONE;
}

/* The overlay is merged and its file gone; no decision may follow the host's limits, hence this order. */
static int left_buffer(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    drop_flows(m);
    unlink_overlays(m);
    for (uint32_t k = 0; k < m->load->disks; k++)
        unlink(m->disk[k].image[TARGET]);
    release_overlay(m);
    return DONE;
}

static int begin_restore(struct migration *m, uint64_t now)
{
    (void)now;
    return migbuf_disk_restore(m->throttle.disk) ? failed(m, "the disk machine cannot") : 0;
}

/* The table */

/* clang-format off */
#define JOB "\"job-id\":\"$O\",\"device\":\"$O\""

const struct step steps_back[] = {
    /* After a restart. What was asked before a job or migration ended is followed by its event. */
    [ASK_READY] = { "finding its QEMU again", PHASE_WAITING, HOME, .finished = monitors_ready,
                    .flags = FINISH_FIRST },
    [ASK_STATUS] = { "asking for the guest's state", PHASE_WAITING, SOURCE, "query-status", .needed = is_at_source,
                     .finished = found_status, .flags = FINISH_FIRST },
    [ASK_JOBS] = { "asking for block jobs", PHASE_WAITING, SOURCE, "query-block-jobs", .needed = is_at_source,
                   .finished = found_jobs, .flags = FINISH_FIRST },
    [ASK_BLOCK] = { "asking for the disks", PHASE_WAITING, SOURCE, "query-block", .needed = is_at_source,
                    .finished = found_disks, .flags = FINISH_FIRST },
    [ASK_NODES] = { "asking for the block nodes", PHASE_WAITING, SOURCE, "query-named-block-nodes", "{\"flat\":true}",
                    .needed = is_at_source, .finished = found_nodes, .flags = FINISH_FIRST },
    [ASK_RAM] = { "asking for the migration", PHASE_WAITING, SOURCE, .needed = has_ram, .finished = ram_found,
                  .flags = FINISH_FIRST | LONG },
    [ASK_LIMITS] = { "recognising the limits in force", PHASE_WAITING, SOURCE, .needed = was_learnt,
                     .finished = found_limits, .flags = FINISH_FIRST },
    [ASK_END] = { "going on", PHASE_WAITING, HOME, .flags = FINISH_FIRST },

    [BACK_RAM] = { "cancelling the migration", PHASE_BACK, SOURCE, .needed = has_ram, .finished = ram_called_back,
                   .flags = LONG },
    [BACK_HOLD] = { "stopping the guest for its mirror", PHASE_BACK, SOURCE, "stop", .needed = must_stand,
                    .begin = take_over, .flags = DRAINS },
    [BACK_JOB] = { "cancelling the mirror", PHASE_BACK, SOURCE, "block-job-cancel",
                   "{\"device\":\"$O\",\"force\":true}", .needed = made_job, .finished = mirror_over, .unmakes = MADE_JOB,
                   .flags = DRAINS | TOLERANT | EACH | LONG },
    [BACK_NBD] = { "disconnecting from the target's disk", PHASE_BACK, SOURCE, "blockdev-del",
                   "{\"node-name\":\"$N\"}", .needed = made_nbd, .unmakes = MADE_NBD,
                   .flags = EACH },
    [BACK_TARGET] = { "ending the target", PHASE_BACK, TARGET, .needed = made_target, .begin = end_target,
                      .finished = target_gone, .flags = HANGS_UP },
    [BACK_STATUS] = { "asking whether it was stopped for good", PHASE_BACK, SOURCE, "query-status",
                      .needed = has_ram, .finished = found_handed_over },
    [BACK_HANDED_OVER] = { "taking the guest back", PHASE_BACK, SOURCE, "cont", .needed = is_handed_over,
                           .begin = let_go_on },
    [BACK_RAM_RESTORE] = { "giving back what was set for memory", PHASE_BACK, SOURCE, .needed = has_ram,
                           .finished = ram_restored },
    [BACK_COMMIT] = { "merging the overlay back", PHASE_BACK, SOURCE, "block-commit", "{" JOB "}",
                      .needed = must_begin_merge, .begin = new_job, .makes = MADE_COMMIT, .flags = EACH | LONG },
    [BACK_READY] = { "waiting until the overlay is merged", PHASE_BACK, SOURCE, .needed = must_merge,
                     .begin = under_control, .finished = job_ready, .flags = EACH | LONG },
    /* Completing a merge drains the disk, copies what that poured, and begins again while anything is dirty. Under a guest
     * that always has writes waiting it ends by chance, and every round goes past the limits. `stop` pours one queue, for
     * which there is room. Always sent: what was said of the guest before may be a `cont` that has not been answered. */
    [BACK_STILL] = { "stopping the guest to complete the merge", PHASE_BACK, SOURCE, "stop", .needed = must_stand_still,
                     .begin = take_over, .flags = DRAINS },
    [BACK_COMPLETE] = { "completing the merge", PHASE_BACK, SOURCE, "block-job-complete", DEVICE("$O"),
                        .needed = must_merge, .finished = job_completed, .unmakes = MADE_SNAPSHOT | MADE_COMMIT,
                        .flags = EACH, .event = "merged back" },
    /* It writes to its own disk again, whatever was decided while it did not. And before the descriptor is removed: a QEMU
     * whose guest stands keeps it open (monitor_fdset_cleanup()), and with it the overlay's blocks. */
    [BACK_RUN] = { "letting the guest go on", PHASE_BACK, SOURCE, "cont", .needed = stays, .begin = take_over },
    [BACK_NODE] = { "closing the overlay", PHASE_BACK, SOURCE, "blockdev-del", "{\"node-name\":\"$O\"}",
                    .needed = made_node, .unmakes = MADE_NODE, .flags = EACH },
    [BACK_FDSET] = { "removing the overlay's descriptor", PHASE_BACK, SOURCE, "remove-fd", .needed = made_fdset,
                     .begin = put_fdset, .unmakes = MADE_FDSET, .flags = TOLERANT | EACH },
    [BACK_GO_ON] = { "beginning again", PHASE_BACK, SOURCE, .needed = goes_on, .finished = taken_back },
    [BACK_BUFFER] = { "leaving the buffer", PHASE_BACK, SOURCE, .finished = left_buffer },
    [BACK_RESTORE] = { "restoring the host's limits", PHASE_BACK, SOURCE, .needed = learnt, .begin = begin_restore,
                       .finished = pumped, .event = "host's limits restored" },
};
/* clang-format on */
