/* SPDX-License-Identifier: MIT */
/*
 * The whole loop of migbuf on one page: one running QEMU, one disk, one buffer. Puts an overlay on top of a guest's disk, holds
 * its growth for some seconds as a migration would, then commits it and gives everything back.
 *
 *   loop MONITOR NODE DIRECTORY SECONDS     e.g. loop /run/vm1.qmp root /var/lib/omega 10
 * MONITOR is a QMP socket, NODE the name of the disk's node, DIRECTORY the shared volume Ω. Status 0: all is as it was before.
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

enum { CALL_MS = 5000, ID = 1 /* of the one migration in this buffer */ };
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

static int call(const char *name, const char *arguments)
{
    int rc = migbuf_qmp_socket_call(monitor, name, arguments, CALL_MS, &answer, &error);

    if (rc)
        fprintf(stderr, "%s: %s%s%s\n", name, migbuf_strerror(rc), error.text ? ": " : "", error.text ? error.text : "");
    return rc;
}

/* The disk machine says what QEMU has to be asked or told next. Done, refused or unknown: it is told what came back. */
static int pump(void)
{
    struct migbuf_disk_command c;

    while (migbuf_disk_next(disk, &c) == 1) {
        int rc = call(c.name, c.arguments);

        migbuf_report_to_disk(disk, c.kind, rc, answer.text, answer.text_bytes, &error);
    }
    return migbuf_disk_outcome(disk);
}

/* One decision, carried out; the buffer learns what became of it. Returns the action, or below 0: what it wants is not in force. */
static int tick(void)
{
    struct migbuf_decision d;
    int outcome;

    if (migbuf_buffer_tick(buffer, now_ms(), &d, 1) < 0 || migbuf_disk_apply(disk, &d) < 0)
        return -1;
    outcome = pump();
    migbuf_buffer_outcome(buffer, ID, outcome);
    printf("%s: %" PRIu64 " bytes/s of growth: %s\n", migbuf_action_text(d.action), d.growth_bytes_per_s,
           migbuf_reason_text(d.reason));
    return outcome == MIGBUF_OUTCOME_DONE ? d.action : -1;
}

/* What the overlay takes of Ω, and what the guest has written since it started. */
static int measure(int overlay)
{
    struct migbuf_sample s = { .id = ID };
    struct migbuf_write_report w;

    if (migbuf_cow_file_bytes(overlay, &s.file_bytes, &error) || call("query-blockstats", NULL) ||
        migbuf_report_writes(answer.text, answer.text_bytes, NULL, "migbuf-overlay", &w, &error))
        return -1;
    s.writes = w.write_operations;
    s.written_bytes = w.write_bytes;
    return migbuf_buffer_sample(buffer, now_ms(), &s, 1);
}

static int wait_for(const char *event)
{
    for (uint64_t until = now_ms() + 60000; now_ms() < until;)
        if (migbuf_qmp_socket_event(monitor, 1000, &answer, &error) == 1 && !strcmp(answer.name, event))
            return 0;
    return fprintf(stderr, "no %s within a minute\n", event);
}

/* The way back. Limits stay until the overlay is gone; the guest stands while the job is completed, else its queue would pour. */
static int commit(void)
{
    return call("block-commit", "{\"job-id\": \"commit\", \"device\": \"migbuf-overlay\"}") || wait_for("BLOCK_JOB_READY") ||
           call("stop", NULL) || call("block-job-complete", "{\"device\": \"commit\"}") || wait_for("BLOCK_JOB_COMPLETED") ||
           call("cont", NULL);
}

int main(int argc, char **argv)
{
    struct migbuf_volume volume;
    struct migbuf_geometry geometry;
    struct migbuf_migration migration;
    struct migbuf_node_report node;
    char snapshot[8192], path[4096];
    int directory = argc == 5 ? open(argv[3], O_RDONLY | O_DIRECTORY) : -1, overlay, action = MIGBUF_ACTION_WAIT, rc;

    if (directory < 0)
        return fprintf(stderr, "usage: loop MONITOR NODE DIRECTORY SECONDS\n"), 2;
    snprintf(path, sizeof path, "%s/migbuf-overlay.qcow2", argv[3]);
    snprintf(snapshot, sizeof snapshot, "{\"node-name\": \"%s\", \"snapshot-file\": \"%s\", \"snapshot-node-name\": "
             "\"migbuf-overlay\", \"format\": \"qcow2\"}", argv[2], path);

    /* learn: the volume, the disk, the host's own limits */
    if (migbuf_cow_volume(directory, &volume, &error) || migbuf_buffer_new(volume.free_bytes, NULL, NULL, &buffer) ||
        migbuf_qmp_socket_open(argv[1], NULL, NULL, CALL_MS, &monitor, &error) || migbuf_disk_new("migbuf-loop", NULL, &disk) ||
        migbuf_disk_watch(disk, argv[2]) || migbuf_disk_learn(disk))
        return fprintf(stderr, "not begun: %s\n", error.text ? error.text : "no memory"), 1;
    pump();
    if (call("query-named-block-nodes", "{\"flat\": true}") ||
        migbuf_report_node(answer.text, answer.text_bytes, argv[2], &node, &error) ||
        migbuf_geometry_init(&geometry, node.virtual_bytes) || migbuf_migration_init(&migration, sizeof migration))
        return fprintf(stderr, "no node %s\n", argv[2]), 1;

    /* admit: room for the worst that this guest can do. The first limit comes before the overlay */
    migration.id = ID;
    if (migbuf_buffer_add(buffer, &migration, &geometry, 1, &error))
        return fprintf(stderr, "not now: %s (%" PRIu64 " needed, %" PRIu64 " there)\n", error.text, error.need, error.have), 1;
    while (action == MIGBUF_ACTION_WAIT && (action = tick()) == MIGBUF_ACTION_WAIT)
        sleep(1);
    rc = action < 0 || call("blockdev-snapshot-sync", snapshot);
    overlay = rc ? -1 : open(path, O_RDONLY);

    /* the loop: verify, measure, decide, carry out. Meanwhile a migration copies the base, then the overlay */
    for (long seconds = atol(argv[4]); overlay >= 0 && seconds > 0; seconds--) {
        sleep(1);
        migbuf_disk_learn(disk), pump();
        if (measure(overlay) || tick() < 0) /* the limits in force stay; the next second is another try */
            fprintf(stderr, "a second without a decision\n");
    }
    if (!rc && !(rc = commit()))
        unlink(path); /* all that was in it is in the base */
    migbuf_disk_restore(disk); /* the host's own limits are back, the guest runs if it ran */
    rc = pump() != MIGBUF_OUTCOME_DONE || rc;
    migbuf_disk_free(disk), migbuf_buffer_free(buffer), migbuf_qmp_socket_free(monitor);
    return rc;
}
