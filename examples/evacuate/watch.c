/* SPDX-License-Identifier: MIT */
/* One command at a time, by the monitor's call for this: the counters first, then a threshold for each disk. */
#include "watch.h"
#include "migbuf/report.h"
#include <stdio.h>
#include <string.h>


void watch_ask(struct watch *w)
{
    w->ask = true;
}

bool watch_answered(const struct watch *w, const struct monitor *monitor)
{
    return monitor->lost || (!w->ask && monitor->call[CALL_LOOK].state == CALL_IDLE);
}

/* Two files that share what they may grow by: neither alone can use it up unseen, nor both together. */
void watch_arm(struct watch *w, uint64_t bytes)
{
    for (uint32_t k = 0; k < w->disks; k++)
        if (w->disk[k].file_node[0] && bytes / w->disks < INT64_MAX - w->disk[k].end_bytes)
            w->disk[k].threshold = w->disk[k].end_bytes + bytes / w->disks + 1;
}

/* By the node on top: the overlay while it is in use, else the disk itself. */
static void take_counters(struct watched_disk *d, uint32_t k, const struct call *call)
{
    struct migbuf_write_report report;
    char overlay[64];

    snprintf(overlay, sizeof overlay, "%s_snapshot", vm_disk_node(k));
    d->file_node[0] = 0;
    if (!migbuf_report_writes(call->text, call->text_bytes, NULL, overlay, &report, NULL)) {
        memcpy(d->file_node, report.parent_node_name, sizeof d->file_node);
        d->end_bytes = report.file_highest_offset;
    } else if (migbuf_report_writes(call->text, call->text_bytes, NULL, vm_disk_node(k), &report, NULL)) {
        return;
    }
    d->writes = report.write_operations;
    d->written_bytes = report.write_bytes;
}

static void take_answer(struct watch *w, const struct call *call, uint64_t now)
{
    if (call->state == CALL_REFUSED && !w->error[0])
        fail(w->error, "%s: %s", call->command, call->text);
    if (call->state != CALL_ANSWERED || strcmp(call->command, "query-blockstats"))
        return;
    w->taken_ns = now;
    for (uint32_t k = 0; k < w->disks; k++)
        take_counters(&w->disk[k], k, call);
}

static bool set_threshold(struct watch *w, struct monitor *monitor, uint64_t now)
{
    char arguments[160];

    for (uint32_t k = 0; k < w->disks; k++) {
        struct watched_disk *d = &w->disk[k];

        if (!d->threshold)
            continue;
        snprintf(arguments, sizeof arguments, "{\"node-name\":\"%s\",\"write-threshold\":%llu}", d->file_node,
                 (unsigned long long)d->threshold);
        d->threshold = 0;
        monitor_send(monitor, CALL_LOOK, "block-set-write-threshold", arguments, now);
        return true;
    }
    return false;
}

void watch_pump(struct watch *w, struct monitor *monitor, uint64_t now)
{
    struct call *call = &monitor->call[CALL_LOOK];

    if (call->state == CALL_WAITING)
        return;
    if (call->state != CALL_IDLE) {
        take_answer(w, call, now);
        monitor_taken(monitor, CALL_LOOK);
    }
    if (set_threshold(w, monitor, now) || !w->ask)
        return;
    w->ask = false;
    monitor_send(monitor, CALL_LOOK, "query-blockstats", NULL, now);
}

bool watch_warned(struct watch *w, const struct monitor *monitor)
{
    bool warned = monitor->facts.thresholds != w->warnings;

    w->warnings = monitor->facts.thresholds;
    return warned;
}
