/* SPDX-License-Identifier: MIT */
/* Carries commands and answers between the machine for a mirror and the source's monitor. The mirrors of one VM share a call:
 * one command of them is under way at a time. */
#include "mirroring.h"
#include "migbuf/report.h"
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define LOOK_MS 500 /* as often as the pace may change */

static void read_info(struct mirroring *x)
{
    x->info.size = sizeof x->info;
    migbuf_mirror_info(x->machine, &x->info);
}

int mirroring_new(struct mirroring *x, const char *job, const char *node, const char *target,
                  const struct migbuf_mirror_options *options, const struct migbuf_mirror_load *load, char error[FAIL_SIZE])
{
    int rc;

    *x = (struct mirroring){ .kind = 0 };
    snprintf(x->name, sizeof x->name, "%s", job);
    rc = migbuf_mirror_new(job, node, target, options, NULL, &x->machine);
    if (!rc)
        rc = migbuf_mirror_tell(x->machine, load);
    if (!rc)
        rc = migbuf_mirror_start(x->machine);
    if (rc)
        return fail(error, "the machine for a mirror: %s", migbuf_strerror(rc));
    read_info(x);
    return 0;
}

static void take_answer(struct mirroring *x, struct monitor *monitor)
{
    const struct call *call = &monitor->call[CALL_MIRROR];
    int32_t outcome = call->state == CALL_ANSWERED  ? MIGBUF_OUTCOME_DONE
                      : call->state == CALL_REFUSED ? MIGBUF_OUTCOME_REFUSED
                                                    : MIGBUF_OUTCOME_UNKNOWN;
    struct migbuf_mirror_report report;

    if (call->state == CALL_REFUSED)
        snprintf(x->refusal, sizeof x->refusal, "%s", call->text);
    if (outcome == MIGBUF_OUTCOME_DONE && x->kind == MIGBUF_MIRROR_GET_JOB &&
        (migbuf_report_mirror(call->text, call->text_bytes, x->name, &report, NULL) || migbuf_mirror_found(x->machine, &report)))
        outcome = MIGBUF_OUTCOME_UNKNOWN;
    migbuf_mirror_answered(x->machine, outcome); /* what follows from it tells info */
    x->kind = 0;
    monitor_taken(monitor, CALL_MIRROR);
}

static void tell_events(struct mirroring *x, const struct job *job)
{
    if (job->ready && !x->ready_told)
        migbuf_mirror_event(x->machine, MIGBUF_MIRROR_EVENT_READY);
    if (job->stopped && !x->stopped_told)
        migbuf_mirror_event(x->machine, MIGBUF_MIRROR_EVENT_STOPPED);
    x->ready_told = job->ready;
    x->stopped_told = job->stopped;
    if (job->ended)
        migbuf_mirror_event(x->machine, job->cancelled  ? MIGBUF_MIRROR_EVENT_CANCELLED
                                        : job->error[0] ? MIGBUF_MIRROR_EVENT_FAILED
                                                        : MIGBUF_MIRROR_EVENT_COMPLETED);
}

bool mirroring_drive(struct mirroring *x, struct monitor *monitor, const struct job *job, const struct migbuf_mirror_load *load,
                     uint64_t now)
{
    const struct call *call = &monitor->call[CALL_MIRROR];
    struct migbuf_mirror_command command;

    if (!x->machine)
        return false;
    tell_events(x, job);
    read_info(x);
    if (monitor->lost || !monitor->socket || (call->state == CALL_WAITING && x->kind))
        return x->kind != 0;
    if (x->kind)
        take_answer(x, monitor);
    if (call->state != CALL_IDLE) /* of the other disk */
        return true;
    if (now >= x->looked_ns + LOOK_MS * MS) {
        x->looked_ns = now;
        migbuf_mirror_tell(x->machine, load);
        migbuf_mirror_look(x->machine, (now - x->slept_ns) / MS);
    }
    if (migbuf_mirror_next(x->machine, &command) != 1) {
        read_info(x);
        return false;
    }
    x->kind = command.kind;
    monitor_send(monitor, CALL_MIRROR, command.name, command.arguments, now);
    return true;
}

void mirroring_end(struct mirroring *x, struct monitor *monitor)
{
    if (!x->machine)
        return;
    if (x->kind)
        monitor_taken(monitor, CALL_MIRROR);
    read_info(x);
    migbuf_mirror_free(x->machine);
    x->machine = NULL;
    x->kind = 0;
}
