/* SPDX-License-Identifier: MIT */
/* Second monitor, throttle and buffer of one VM, from its first look to its last. See guarded.h. */
#include "guarded.h"
#include "past.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALL_MS 2000
#define CLUSTER UINT64_C(65536)   /* qemu-img's default, which LXD and Incus leave as it is */
/* The largest write of a Linux guest; virtio-blk merges up to 32 queued ones that lie side by side (VIRTIO_BLK_MAX_MERGE_REQS).
 * How many may wait: cmd_per_lun of virtio-scsi, queue-size of virtio-blk, as QEMU has them by default. */
#define GUEST_REQUEST UINT64_C(1310720)
#define MERGED_REQUESTS 32
#define QUEUE_SCSI 128
#define QUEUE_BLK 256
#define LEAST_REQUEST UINT64_C(65536)
#define DRAINS 4
#define NEAR_PART 0.8      /* of a limit: who grows as fast may have been held by it */
#define MEASURED_MS 2000   /* under an overlay, before that says how much a guest writes */

bool guarded_monitor(const char *raw, char path[128])
{
    static const char option[] = "-qmp unix:";
    const char *at = strstr(raw, option);
    size_t length;

    if (!at)
        return false;
    at += sizeof option - 1;
    length = strcspn(at, ", \t\n");
    if (!length || length > 107)
        return false;
    snprintf(path, 128, "%.*s", (int)length, at);
    return true;
}

/* One command, and whether its answer did not come in time or the connection has ended. */
static int ask(struct guarded *g, const char *name, const char *arguments, struct migbuf_qmp_message *m, struct migbuf_error *e)
{
    int rc = migbuf_qmp_socket_call(g->socket, name, arguments, CALL_MS, m, e);

    g->gone |= rc == MIGBUF_E_CLOSED;
    g->silent |= rc == MIGBUF_E_TIMEOUT;
    return rc;
}

/* Who did not answer in time is not asked again before that answer has come: other VMs would wait for each such question. */
static bool is_silent(struct guarded *g)
{
    struct migbuf_error e;

    if (!g->silent)
        return false;
    g->gone |= migbuf_qmp_socket_step(g->socket, &e) == MIGBUF_E_CLOSED;
    g->silent = !g->gone && migbuf_qmp_pending(migbuf_qmp_socket_engine(g->socket));
    return g->silent;
}

/* A command; what it returned stays in *m. */
static int call(struct guarded *g, const char *name, const char *arguments, struct migbuf_qmp_message *m)
{
    struct migbuf_error e;
    int rc = ask(g, name, arguments, m, &e);

    return !rc ? 0
               : fail(g->error, "%s: %s%s%s", name, e.text, rc == MIGBUF_E_PEER ? ": " : "",
                      rc == MIGBUF_E_PEER ? m->text : "");
}

/* ---- the host's limits, kept where the next guard finds them ---- */

/* Before the next command: whatever is sent then, the next guard can undo it. */
static int save_when_changed(struct guarded *g)
{
    struct migbuf_disk_info info = { .size = sizeof info };
    char text[16384], part[sizeof g->saved + 8];
    size_t length;
    int fd, rc;

    if (g->dry || migbuf_disk_info(g->disk, &info) || !info.learnt || info.text_revision == g->text_revision)
        return 0;
    if (migbuf_disk_save(g->disk, text, sizeof text, &length))
        return fail(g->error, "the disk's own limits cannot be written down");
    snprintf(part, sizeof part, "%s.new", g->saved);
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    rc = fd < 0 || write(fd, text, length) != (ssize_t)length || fsync(fd);
    if (fd >= 0)
        close(fd);
    if (rc || rename(part, g->saved))
        return fail(g->error, "%s: %s", g->saved, strerror(errno));
    g->text_revision = info.text_revision;
    return 0;
}

static int pump_command(struct guarded *g, const struct migbuf_disk_command *command)
{
    struct migbuf_qmp_message m = { .text = "" };
    struct migbuf_error e;
    int result, rc;

    if (save_when_changed(g))
        return -1;
    result = ask(g, command->name, command->arguments, &m, &e);
    if (result < 0)
        fail(g->error, "%s: %s", command->name, e.text);
    rc = migbuf_report_to_disk(g->disk, command->kind, result, m.text, m.text_bytes, &e);
    return rc >= 0 ? 0 : result < 0 ? -1 : fail(g->error, "%s: %s", command->name, e.text);
}

/* Carries out what the throttle wants. */
static int pump(struct guarded *g)
{
    struct migbuf_disk_info info = { .size = sizeof info };
    struct migbuf_disk_command command;
    int rc = 0;

    while (!rc && !g->silent && migbuf_disk_next(g->disk, &command) == 1)
        rc = pump_command(g, &command);
    rc = g->silent ? -1 : rc;
    g->stopped = !migbuf_disk_info(g->disk, &info) && info.stopped;
    return rc;
}

/* 1: a throttle from a guard that was killed; 0: none, or one that is no use. */
static int load(struct guarded *g)
{
    char text[16384];
    int fd = open(g->saved, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;

    if (fd >= 0)
        close(fd);
    return n > 0 && !migbuf_disk_load(text, (size_t)n, NULL, &g->disk);
}

/* ---- starting ---- */

static bool has_node(const json_t *entry, const char *node)
{
    for (; entry; entry = json_object_get(entry, "backing")) {
        const char *name = json_string_value(json_object_get(entry, "node-name"));

        if (name && !strcmp(name, node))
            return true;
    }
    return false;
}

bool guarded_find(const char *blockstats, const struct migbuf_lxd_names *names, char qdev[512], char top[64], char base[64])
{
    json_t *list = json_loads(blockstats, 0, NULL), *entry;
    bool found = false;
    size_t k;

    json_array_foreach (list, k, entry) {
        const char *device = json_string_value(json_object_get(entry, "qdev"));
        const char *node = json_string_value(json_object_get(entry, "node-name"));
        bool named;

        if (found || !device || !*device || !node || !*node || strlen(device) >= 512 || strlen(node) >= 64)
            continue;
        named = has_node(entry, names->node);
        if (*names->device ? strcmp(device, names->device) && strcmp(device, names->backend) : !named)
            continue;
        snprintf(qdev, 512, "%s", device);
        snprintf(top, 64, "%s", node);
        snprintf(base, 64, "%s", named ? names->node : node); /* a node of another name is what the disk is now */
        found = true;
    }
    json_decref(list);
    return found;
}

bool guarded_is_overlay(const char *base, const char *top)
{
    static const char layer[] = "_overlay";
    size_t length = strlen(base), tail = sizeof layer - 1;

    if (strncmp(top, base, length) || strncmp(top + length, layer, tail))
        return strcmp(top, base) != 0;
    top += length + tail;
    return !*top || top[strspn(top, "0123456789")];
}

/* Where its disks are, and what is on top of them. Only the root disk must be there: another may have been added since the VM was
 * started. */
static int find_disks(struct guarded *g)
{
    struct migbuf_write_report none = { .node_name = "-" };
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    uint32_t found = 0;

    if (call(g, "query-blockstats", NULL, &m))
        return -1;
    if (migbuf_report_all_writes(m.text, m.text_bytes, &none, 1, &e) == MIGBUF_E_TOO_BIG) /* nor is a tree made of it here */
        return fail(g->error, "QEMU's disks: %s", e.text);
    for (uint32_t k = 0; k < g->disk_count; k++) {
        struct guarded_disk *d = &g->disks[k];

        if (guarded_find(m.text, &d->names, d->qdev, d->top, d->base))
            g->disks[found++] = *d;
        else if (!k)
            return fail(g->error, "its root disk (%s) is not among QEMU's", *d->names.device ? d->names.device : d->names.node);
    }
    g->disk_count = found;
    return 0;
}

static int virtual_sizes(struct guarded *g)
{
    struct migbuf_node_report node;
    struct migbuf_qmp_message m;
    struct migbuf_error e;

    if (call(g, "query-named-block-nodes", "{\"flat\":true}", &m))
        return -1;
    for (uint32_t k = 0; k < g->disk_count; k++) {
        if (migbuf_report_node(m.text, m.text_bytes, g->disks[k].top, &node, &e))
            return fail(g->error, "its %sdisk %s: %s", k ? "" : "root ", g->disks[k].base, e.text);
        g->disks[k].virtual_bytes = node.virtual_bytes;
    }
    return 0;
}

static int admit(struct guarded *g, const struct migbuf_geometry *disks, struct migbuf_error *e)
{
    struct migbuf_migration m;

    migbuf_migration_init(&m, sizeof m);
    m.id = 1;
    m.drains_ahead = DRAINS;
    return migbuf_buffer_add(g->buffer, &m, disks, g->disk_count, e);
}

bool guarded_figures(const char *qdev, uint64_t part_bytes, struct migbuf_geometry *disk)
{
    bool blk = strstr(qdev, "virtio-backend") != NULL;
    uint64_t share = part_bytes / 2 / (DRAINS + 1); /* the other half is for what the guest writes */

    disk->cluster_bytes = disk->subcluster_bytes = CLUSTER;
    migbuf_limits_drain(disk, blk ? QUEUE_BLK : QUEUE_SCSI, GUEST_REQUEST, &disk->queue_bytes);
    disk->request_bytes = GUEST_REQUEST * (blk ? MERGED_REQUESTS : 1);
    if (disk->queue_bytes <= share)
        return false;
    disk->queue_bytes = share > LEAST_REQUEST ? share : LEAST_REQUEST;
    if (disk->request_bytes > disk->queue_bytes)
        disk->request_bytes = disk->queue_bytes;
    return true;
}

/* Half of what a drain of each may pour; false where none has anything to spare. */
static bool halve(struct guarded *g, struct migbuf_geometry *disks)
{
    bool any = false;

    g->tight = true;
    for (uint32_t k = 0; k < g->disk_count; k++) {
        if (disks[k].queue_bytes <= LEAST_REQUEST)
            continue;
        any = true;
        disks[k].queue_bytes /= 2;
        if (disks[k].request_bytes > disks[k].queue_bytes)
            disks[k].request_bytes = disks[k].queue_bytes;
    }
    return any;
}

/* A volume too small for the worst is guarded all the same, with what reserve it has room for. */
static int make_buffer(struct guarded *g, uint32_t interval_ms)
{
    struct migbuf_geometry disks[GUARDED_DISKS] = { { .request_bytes = 0 } };
    struct migbuf_buffer_options options;
    struct migbuf_error e = { .text = "" };
    int rc;

    g->omega_bytes = g->state_bytes > g->other_bytes ? g->state_bytes - g->other_bytes : 0;
    if (virtual_sizes(g))
        return -1;
    for (uint32_t k = 0; k < g->disk_count; k++) {
        disks[k].virtual_bytes = g->disks[k].virtual_bytes;
        g->tight |= guarded_figures(g->disks[k].qdev, g->omega_bytes / g->disk_count, &disks[k]);
    }
    migbuf_buffer_options_init(&options, sizeof options);
    options.interval_ms = interval_ms;
    rc = migbuf_buffer_new(g->omega_bytes, &options, NULL, &g->buffer);
    if (rc)
        return fail(g->error, "a buffer of %llu bytes: %s", (unsigned long long)g->omega_bytes, migbuf_strerror(rc));
    do
        rc = admit(g, disks, &e);
    while (rc == MIGBUF_E_NOSPACE && halve(g, disks));
    if (rc == MIGBUF_E_NOSPACE)
        return fail(g->error, "its state volume is too small: %llu bytes are needed beside what else is in it, %llu are there; set "
                              "size.state of its root disk to more",
                    (unsigned long long)e.need, (unsigned long long)e.have);
    return rc ? fail(g->error, "%s", e.text) : 0;
}

void guarded_close(struct guarded *g)
{
    migbuf_qmp_socket_free(g->socket);
    migbuf_disk_free(g->disk);
    migbuf_buffer_free(g->buffer);
    g->socket = NULL;
    g->disk = NULL;
    g->buffer = NULL;
}

/* What a guard that was killed left may be from before another disk was there, or of an overlay that is gone. */
static bool knows_every_disk(const struct guarded *g)
{
    for (uint32_t k = 0; k < g->disk_count; k++) {
        const char *top = migbuf_disk_qdev(g->disk, g->disks[k].top), *base = migbuf_disk_qdev(g->disk, g->disks[k].base);

        if (!(top && !strcmp(top, g->disks[k].qdev)) && !(base && !strcmp(base, g->disks[k].qdev)))
            return false;
    }
    return true;
}

/* No disk can be added where a limit may be in force. */
static int give_loaded_back(struct guarded *g)
{
    int rc;

    if (pump(g)) /* what is in force */
        return -1;
    rc = migbuf_disk_restore(g->disk);
    if (rc)
        return fail(g->error, "the limits that were left: %s", migbuf_strerror(rc));
    if (pump(g))
        return -1;
    migbuf_disk_free(g->disk);
    g->disk = NULL;
    g->text_revision = 0;
    return 0;
}

static int watch_disks(struct guarded *g)
{
    int rc = migbuf_disk_new("migbuf-guard", NULL, &g->disk);

    for (uint32_t k = 0; !rc && k < g->disk_count; k++)
        rc = migbuf_disk_watch(g->disk, g->disks[k].top);
    if (!rc)
        rc = migbuf_disk_learn(g->disk);
    return rc ? fail(g->error, "its disk: %s", migbuf_strerror(rc)) : 0;
}

static int start(struct guarded *g, uint32_t interval_ms)
{
    struct migbuf_error e;
    int rc = migbuf_qmp_socket_open(g->monitor, NULL, NULL, CALL_MS, &g->socket, &e);

    g->gone = rc == MIGBUF_E_SYSTEM && (e.os_errno == ENOENT || e.os_errno == ECONNREFUSED);
    if (rc)
        return fail(g->error, "its second monitor %s: %s%s%s", g->monitor, e.text, e.os_errno ? ": " : "",
                    e.os_errno ? strerror(e.os_errno) : "");
    if (find_disks(g))
        return -1;
    if (load(g) && !g->dry && !knows_every_disk(g) && give_loaded_back(g))
        return -1;
    if (!g->disk && watch_disks(g))
        return -1;
    if (pump(g) || save_when_changed(g))
        return -1;
    return make_buffer(g, interval_ms);
}

int guarded_start(struct guarded *g, uint32_t interval_ms)
{
    g->limit_bytes_per_s = UINT64_MAX;
    migbuf_link_init(&g->link, 0);
    migbuf_link_flow_init(&g->flow);
    if (!start(g, interval_ms))
        return 0;
    guarded_close(g);
    return -1;
}

/* ---- every tick ---- */

struct migbuf_sample guarded_sample(bool overlay, uint64_t overlay_bytes, const struct migbuf_write_report *writes)
{
    struct migbuf_sample sample = { .id = 1 };

    if (overlay) {
        sample.file_bytes = overlay_bytes;
        sample.written_bytes = writes->write_bytes;
        sample.writes = writes->write_operations;
    }
    return sample;
}

/* For the account at the end. */
static void note(struct guarded *g, uint64_t now_ms, uint64_t overlay_bytes, const struct migbuf_write_report *writes)
{
    uint64_t span_ms = g->tick_ms ? now_ms - g->tick_ms : 0;

    g->watched_ms += span_ms;
    g->paused_ms += g->stopped ? span_ms : 0;
    if (g->overlay && !g->had_overlay)
        g->written_first = writes->write_bytes;
    else if (g->overlay && span_ms) {
        double grown = overlay_bytes > g->overlay_bytes ? (double)(overlay_bytes - g->overlay_bytes) : 0;

        g->overlay_ms += span_ms;
        g->was_held |= g->stopped || (g->limit_bytes_per_s != UINT64_MAX &&
                                      grown * 1000 / (double)span_ms > NEAR_PART * (double)g->limit_bytes_per_s);
    }
    if (g->overlay)
        g->written_last = writes->write_bytes;
    g->had_overlay |= g->overlay;
    g->overlay_bytes = overlay_bytes;
    g->peak_bytes = overlay_bytes > g->peak_bytes ? overlay_bytes : g->peak_bytes;
    g->tick_ms = now_ms;
}

void guarded_attempt(const struct guarded *g, struct migbuf_attempt *a)
{
    migbuf_attempt_init(a);
    past_id(g->project, g->name, a->id);
    a->phase = g->had_mirror ? MIGBUF_ATTEMPT_MIRROR : g->had_overlay ? MIGBUF_ATTEMPT_BASE : MIGBUF_ATTEMPT_ADMISSION;
    a->disk_bytes = 0;
    for (uint32_t k = 0; k < g->disk_count; k++)
        a->disk_bytes += g->disks[k].virtual_bytes;
    a->peak_bytes = g->peak_bytes;
    if (!g->was_held && g->overlay_ms >= MEASURED_MS && g->written_last >= g->written_first)
        a->write_bytes_per_s = (g->written_last - g->written_first) * 1000 / g->overlay_ms;
}

/* Its counters. A disk beside the root disk may have been detached: it has no overlay then. */
static int counters_of(struct guarded *g, uint32_t k, const struct migbuf_qmp_message *m, struct migbuf_write_report *writes)
{
    struct guarded_disk *d = &g->disks[k];
    struct migbuf_error e;
    int rc = migbuf_report_writes(m->text, m->text_bytes, d->qdev, NULL, writes, &e);

    if (k && rc == MIGBUF_E_NOTFOUND) {
        *writes = (struct migbuf_write_report){ .write_bytes = d->written_bytes };
        snprintf(writes->node_name, sizeof writes->node_name, "%s", d->base);
        return 0;
    }
    d->written_bytes = rc ? d->written_bytes : writes->write_bytes;
    return rc ? fail(g->error, "counters of its disk %s: %s", d->base, e.text) : 0;
}

/* What its overlays weigh and what the guest wrote. An overlay is the node on top of its device, whatever that is called. */
static int measure(struct guarded *g, uint64_t now_ms)
{
    struct migbuf_write_report writes[GUARDED_DISKS], sum = { .write_bytes = 0 };
    struct migbuf_sample samples[GUARDED_DISKS];
    struct migbuf_qmp_message m;
    struct migbuf_error e;
    uint64_t overlay_bytes = 0;
    bool mirror;

    if (call(g, "query-blockstats", NULL, &m))
        return -1;
    for (uint32_t k = 0; k < g->disk_count; k++)
        if (counters_of(g, k, &m, &writes[k]))
            return -1;
    if (call(g, "query-named-block-nodes", "{\"flat\":true}", &m))
        return -1;
    g->overlay = false;
    for (uint32_t k = 0; k < g->disk_count; k++) {
        struct migbuf_node_report node = { .actual_bytes = 0 };
        bool overlay = guarded_is_overlay(g->disks[k].base, writes[k].node_name);

        if (overlay && migbuf_report_node(m.text, m.text_bytes, writes[k].node_name, &node, &e))
            return fail(g->error, "the overlay of its disk %s: %s", g->disks[k].base, e.text);
        if (overlay && !node.actual_bytes) /* QEMU did not say: then as far as it was written, and not nothing */
            node.actual_bytes = writes[k].file_highest_offset;
        samples[k] = guarded_sample(overlay, node.actual_bytes, &writes[k]);
        samples[k].disk = k;
        g->overlay |= overlay;
        overlay_bytes += node.actual_bytes;
        sum.write_bytes += writes[k].write_bytes;
    }
    note(g, now_ms, overlay_bytes, &sum);
    if (call(g, "query-block-jobs", NULL, &m))
        return -1;
    mirror = strstr(m.text, "\"mirror\"") != NULL;
    g->had_mirror |= mirror && g->overlay;
    migbuf_buffer_phase(g->buffer, 1, mirror ? MIGBUF_PHASE_MIRROR : MIGBUF_PHASE_BASE, mirror ? 2 : g->overlay ? 3 : DRAINS);
    return migbuf_buffer_sample(g->buffer, now_ms, samples, g->disk_count) ? fail(g->error, "its sample is out of range") : 0;
}

/* The server lets a guest run when its migration has failed, ours too: it is to run into a limit then. Not before it stands: a
 * stop that is refused must leave in force what was. */
static int bar(struct guarded *g)
{
    static const struct migbuf_limits least = { .iops_wr = 1, .iops_size = CLUSTER };
    struct migbuf_disk_info info = { .size = sizeof info };
    int rc = migbuf_disk_info(g->disk, &info);

    if (rc || !info.stopped || info.unknown || (info.limits.iops_wr == least.iops_wr && info.limits.iops_size == least.iops_size))
        return 0;
    rc = migbuf_disk_set(g->disk, &least);
    return rc ? fail(g->error, "its least limit: %s", migbuf_strerror(rc)) : pump(g);
}

static int apply(struct guarded *g, const struct migbuf_decision *d)
{
    bool stop = d->action == MIGBUF_ACTION_PAUSE || d->action == MIGBUF_ACTION_CANNOT_FIT;
    bool again = d->action == MIGBUF_ACTION_CANNOT_FIT && g->action == d->action; /* said at each tick, for as long as it is so */
    int rc;

    g->reason = d->reason;
    g->action = d->action;
    if (d->action == MIGBUF_ACTION_KEEP || d->action == MIGBUF_ACTION_WAIT)
        return 0;
    g->decisions += !again;
    g->pauses += stop && g->limit_bytes_per_s != 0;
    g->limit_bytes_per_s = stop ? 0 : d->growth_bytes_per_s;
    if (g->dry)
        return 0;
    rc = migbuf_disk_apply(g->disk, d);
    if (rc) {
        migbuf_buffer_outcome(g->buffer, 1, MIGBUF_OUTCOME_REFUSED);
        return fail(g->error, "its limit: %s", migbuf_strerror(rc));
    }
    rc = pump(g);
    migbuf_buffer_outcome(g->buffer, 1, migbuf_disk_outcome(g->disk));
    g->limited = true;
    return rc ? rc : bar(g);
}

/* Did another hand change it? Ours is set again then; until it is, the guest has no limit of ours. */
static int verify(struct guarded *g)
{
    struct migbuf_disk_info info = { .size = sizeof info };
    int rc = migbuf_disk_learn(g->disk) ? -1 : pump(g);

    if (!migbuf_disk_info(g->disk, &info) && !info.unknown && !info.stopped)
        migbuf_buffer_resync(g->buffer, 1, &info.limits, 1);
    return rc ? rc : bar(g);
}

int guarded_tick(struct guarded *g, uint64_t now_ms)
{
    struct migbuf_buffer_stats stats = { .size = sizeof stats };
    struct migbuf_decision d;
    int n;

    if (g->ended)
        return 0;
    *g->error = 0;
    if (is_silent(g))
        return fail(g->error, "its QEMU still owes an answer");
    if (g->gone || measure(g, now_ms))
        return -1;
    if (!g->seen && !g->overlay) /* its migration is over: what is left to do is to give back */
        return 0;
    if (!g->dry && g->limited && verify(g))
        return -1;
    n = migbuf_buffer_tick(g->buffer, now_ms, &d, 1);
    if (n < 0)
        return fail(g->error, "deciding: %s", migbuf_strerror(n));
    if (!migbuf_buffer_stats(g->buffer, &stats))
        g->reserve_bytes = stats.reserve_bytes;
    return n ? apply(g, &d) : 0;
}

void guarded_sent(struct guarded *g, uint64_t now_ms, uint64_t bytes)
{
    double rate;

    if (migbuf_link_flow_update(&g->flow, now_ms, bytes, &rate) == 1 && migbuf_link_update(&g->link, now_ms, rate, 0) == 1)
        migbuf_buffer_link(g->buffer, 0, (uint64_t)migbuf_link_now(&g->link));
}

bool guarded_is_over(const struct guarded *g)
{
    return g->ended || (!g->seen && (g->gone || !g->overlay));
}

int guarded_end(struct guarded *g)
{
    int rc = 0;

    if (!g->ended)
        g->silent = false; /* asked once more */
    g->ended = true;
    if (g->given_back)
        return 0;
    if (g->socket && !g->gone && !g->dry) {
        if (is_silent(g))
            rc = fail(g->error, "its QEMU still owes an answer");
        else if (!g->gone)
            rc = migbuf_disk_restore(g->disk) ? fail(g->error, "its own limits cannot be given back now") : pump(g);
    }
    if (rc && !g->gone)
        return -1;
    if (!g->dry)
        unlink(g->saved);
    guarded_close(g);
    g->given_back = true;
    g->limit_bytes_per_s = UINT64_MAX;
    g->stopped = false;
    return 0;
}
