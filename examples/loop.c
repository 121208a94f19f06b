/* SPDX-License-Identifier: MIT */
/*
 * The loop of migbuf on one page, for one running QEMU with one disk: an overlay on top of it is held for some seconds, as in a
 * migration, then merged, and everything is given back. Status 0: all is as it was before.
 *   loop MONITOR NODE DIRECTORY SECONDS [REQUEST DEPTH]     e.g. loop /run/vm1.qmp root /var/lib/omega 10 4096 4
 * A QMP socket, the disk's node, the shared volume Ω; the guest's largest write in bytes, most in flight (else the worst counts).
 */
#include <migbuf/migbuf.h>
#include <migbuf/qmp_socket.h>
#include <migbuf/report.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CALL_MS = 60000 /* where 0 is said */, LAG_MS = 2000 /* for a decision to land, or be unknown */, ID = 1 /* anything */ };
static struct migbuf_qmp_socket *monitor;
static struct migbuf_qmp_message answer;
static struct migbuf_error error;
static struct migbuf_buffer *buffer;
static struct migbuf_disk *disk;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int call(const char *name, const char *arguments, uint64_t until_ms)
{
    uint64_t now = now_ms(), left = !until_ms ? CALL_MS : until_ms > now ? until_ms - now : 1;
    int rc = migbuf_qmp_socket_call(monitor, name, arguments, (uint32_t)left, &answer, &error);
    if (rc)
        fprintf(stderr, "%s: %s\n", name, rc == MIGBUF_E_PEER ? answer.text : migbuf_strerror(rc));
    return rc;
}

/* The disk machine says what QEMU has to be asked or told next. Done, refused or unknown: it is told what came back. */
static int pump(uint64_t until_ms)
{
    struct migbuf_disk_command c;
    while (migbuf_disk_next(disk, &c) == 1) {
        int rc = call(c.name, c.arguments, until_ms);
        migbuf_report_to_disk(disk, c.kind, rc, answer.text, answer.text_bytes, &error);
    }
    return migbuf_disk_outcome(disk);
}

/* One decision, carried out; the buffer learns what became of it. Returns the action, or below 0: what it wants is not in force. */
static int tick(void)
{
    struct migbuf_decision d;
    int outcome = 0, more = 1;
    for (int tries = 0; more == 1 && tries < 2; tries++) { /* 1: more may be in force than was decided. Again at once */
        if (migbuf_buffer_tick(buffer, now_ms(), &d, 1) < 0 || migbuf_disk_apply(disk, &d) < 0)
            return -1;
        outcome = pump(now_ms() + LAG_MS / 2);
        more = migbuf_buffer_outcome(buffer, ID, outcome);
        printf("%s: %" PRIu64 " bytes/s: %s\n", migbuf_action_text(d.action), d.growth_bytes_per_s, migbuf_reason_text(d.reason));
    }
    return outcome == MIGBUF_OUTCOME_DONE ? d.action : -1;
}

/* Every second: has another hand changed the limits? What does the overlay take of Ω, what has the guest written? Then a tick. */
static void second(int overlay)
{
    struct migbuf_sample s = { .id = ID };
    struct migbuf_write_report w;
    uint64_t until = now_ms() + 500;

    if (!migbuf_disk_learn(disk) && pump(until) >= 0 && !migbuf_cow_file_bytes(overlay, &s.file_bytes, &error) &&
        !call("query-blockstats", NULL, until) &&
        !migbuf_report_writes(answer.text, answer.text_bytes, NULL, "migbuf-overlay", &w, &error)) {
        s.writes = w.write_operations, s.written_bytes = w.write_bytes;
        migbuf_buffer_sample(buffer, now_ms(), &s, 1);
    } /* else the tick reckons with the worst since the last sample */
    tick(); /* where it fails, the limits in force stay, and the next second is another try */
}

/* Until our job has come so far: 0; or ended otherwise. Seconds go on while the guest writes to its overlay; -1: it stands. */
static int wait_for(const char *event, int overlay)
{
    struct migbuf_job_event_report job;

    for (int came = 0; came >= 0; came = migbuf_qmp_socket_event(monitor, 1000, &answer, &error))
        if (came == 0 && overlay >= 0)
            second(overlay);
        else if (came == 1 && !migbuf_report_job_event(answer.text, answer.text_bytes, &job, NULL) && !strcmp(job.device, "commit"))
            return strcmp(answer.name, event) || job.error[0];
    return -1;
}

int main(int argc, char **argv)
{
    struct migbuf_buffer_options options;
    struct migbuf_volume volume;
    struct migbuf_geometry geometry;
    struct migbuf_migration migration;
    struct migbuf_node_report node;
    struct migbuf_status_report was;
    char snapshot[8192], path[4096];
    int directory = argc == 5 || argc == 7 ? open(argv[3], O_RDONLY | O_DIRECTORY) : -1, overlay, rc;

    if (directory < 0)
        return fprintf(stderr, "usage: loop MONITOR NODE DIRECTORY SECONDS [REQUEST DEPTH]\n"), 2;
    snprintf(path, sizeof path, "%s/migbuf-overlay.qcow2", argv[3]);
    snprintf(snapshot, sizeof snapshot, "{\"node-name\": \"%s\", \"snapshot-file\": \"%s\", \"snapshot-node-name\": "
             "\"migbuf-overlay\", \"format\": \"qcow2\"}", argv[2], path);
    /* learn: the volume, the disk, the host's own limits */
    setlinebuf(stdout), migbuf_buffer_options_init(&options, sizeof options), options.lag_ms = LAG_MS;
    if (migbuf_cow_volume(directory, &volume, &error) || migbuf_buffer_new(volume.free_bytes, &options, NULL, &buffer) ||
        migbuf_qmp_socket_open(argv[1], NULL, NULL, CALL_MS, &monitor, &error) || migbuf_disk_new("migbuf-loop", NULL, &disk) ||
        migbuf_disk_watch(disk, argv[2]) || migbuf_disk_learn(disk) || pump(0) < 0 ||
        call("query-named-block-nodes", NULL, 0) || migbuf_report_node(answer.text, answer.text_bytes, argv[2], &node, &error) ||
        migbuf_geometry_init(&geometry, node.virtual_bytes) || migbuf_migration_init(&migration, sizeof migration))
        return fprintf(stderr, "not begun: %s\n", error.text ? error.text : "see above"), 1;
    /* admit: room for the worst that this guest can do. The first limit comes before the overlay */
    migration.id = ID;
    geometry.extra_bytes = MIGBUF_NONE; /* QEMU makes the file, as qemu-img would */
    geometry.request_bytes = argc == 7 ? strtoull(argv[5], NULL, 0) : 0;
    migbuf_limits_drain(&geometry, argc == 7 ? strtoull(argv[6], NULL, 0) : 0, geometry.request_bytes, &geometry.queue_bytes);
    if (migbuf_buffer_add(buffer, &migration, &geometry, 1, &error))
        return fprintf(stderr, "not now: %s (%" PRIu64 " needed, %" PRIu64 " there)\n", error.text, error.need, error.have), 1;
    while ((rc = tick()) == MIGBUF_ACTION_WAIT)
        sleep(1);
    rc = rc < 0 ? MIGBUF_E_PEER : call("blockdev-snapshot-sync", snapshot, 0);
    overlay = rc ? -1 : open(path, O_RDONLY);
    if (overlay < 0 && rc != MIGBUF_E_PEER) /* QEMU did not refuse it */
        return fprintf(stderr, "%s may be in use: its limits stay\n", path), 1;
    /* the loop. Meanwhile a migration copies the base, then the overlay */
    for (long seconds = atol(argv[4]); overlay >= 0 && seconds > 0; seconds--)
        sleep(1), second(overlay);
    /* the way back. The guest stands while the job is completed, else its queue would pour */
    if (overlay >= 0 && (call("block-commit", "{\"job-id\": \"commit\", \"device\": \"migbuf-overlay\"}", 0) ||
                         wait_for("BLOCK_JOB_READY", overlay) || call("query-status", NULL, 0) ||
                         migbuf_report_status(answer.text, answer.text_bytes, &was, &error) || call("stop", NULL, 0) ||
                         call("block-job-complete", "{\"device\": \"commit\"}", 0) || wait_for("BLOCK_JOB_COMPLETED", -1) ||
                         (was.running && call("cont", NULL, 0))))
        return fprintf(stderr, "%s is still in use: its limits stay; see whether the guest runs\n", path), 1;
    if (overlay >= 0)
        unlink(path); /* all that was in it is in the base */
    migbuf_disk_restore(disk); /* the host's own limits are back, the guest runs if it ran */
    rc = pump(0);
    migbuf_disk_free(disk), migbuf_buffer_free(buffer), migbuf_qmp_socket_free(monitor);
    return overlay < 0 || rc != MIGBUF_OUTCOME_DONE;
}
