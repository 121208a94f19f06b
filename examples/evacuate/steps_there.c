/* SPDX-License-Identifier: MIT */
/* The way there: the steps from starting the source to the check of the disks where the guest ends. They stand in the
 * table at the end; the functions above it are its columns. */
#include "steps.h"
#include "hybrid.h"
#include "migbuf/report.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GO_ON_MS 500 /* how long a guest is watched after it has arrived */

static struct disk *disk(struct migration *m)
{
    return &m->disk[m->d];
}

/* The job on a disk's overlay has the overlay's name. */
const struct job *job(const struct migration *m)
{
    return &m->place[SOURCE].monitor.facts.job[m->d];
}

/* Starting a QEMU */

static int start_qemu(struct migration *m, enum side side, uint64_t now)
{
    struct place *p = &m->place[side];
    char append[320], error[FAIL_SIZE];
    struct vm_config config = {
        .directory = p->directory,
        .image = m->disk[0].image[side],
        .second_image = m->load->disks > 1 ? m->disk[1].image[side] : NULL,
        .device = m->load->device,
        .kernel = m->site->kernel,
        .append = append,
        .ram_mib = writer_ram_mib(&m->load->writer),
        .kvm = m->site->kvm,
        .incoming = side == TARGET,
        .no_merging = m->load->no_merging,
        .second_monitor = m->site->second_monitor,
        .outlives = m->site->recorded,
        .program = m->site->qemu,
    };

    if (writer_append(&m->load->writer, append, sizeof append))
        return failed(m, "the guest's arguments are too long");
    if (vm_start(&p->vm, &config, error))
        return failed(m, "%s", error);
    p->started = true;
    monitor_open(&p->monitor, p->vm.qmp, now);
    return 0;
}

static int make_disk(struct migration *m, uint32_t k)
{
    struct writer_params writer = writer_of_disk(&m->load->writer, k);
    const char *image = m->disk[k].image[SOURCE];
    char error[FAIL_SIZE];
    int fd, rc;

    unlink(image); /* of a program that died while it made it */
    fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(m, "%s: %s", image, strerror(errno));
    rc = writer_disk_make(fd, &writer, m->site->disk_bytes, error);
    close(fd);
    return rc ? failed(m, "%s", error) : 0;
}

static int start_source(struct migration *m, uint64_t now)
{
    if (m->place[SOURCE].started) /* by a program that died before its guest wrote */
        return 0;
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (make_disk(m, k))
            return FAILED;
    return start_qemu(m, SOURCE, now);
}

/* The whole disk is mirrored while the guest writes: no overlay, no copy of a base, no room of the buffer. */
static bool is_mirrored(const struct migration *m)
{
    return m->throttle.mirrored;
}

bool has_overlay(const struct migration *m)
{
    return !m->throttle.mirrored;
}

/* What is copied into nothing else makes. */
static int make_empty_disk(struct migration *m, uint32_t k)
{
    const char *image = m->disk[k].image[TARGET];
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc;

    if (fd < 0)
        return failed(m, "%s: %s", image, strerror(errno));
    rc = ftruncate(fd, (off_t)m->site->disk_bytes) ? failed(m, "%s: %s", image, strerror(errno)) : 0;
    close(fd);
    return rc;
}

/* Nothing is set at it yet, whatever was at one before it. */
static int start_target(struct migration *m, uint64_t now)
{
    for (uint32_t k = 0; k < m->load->disks && is_mirrored(m); k++)
        if (make_empty_disk(m, k))
            return FAILED;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        memset(&m->disk[k].at_target, 0, sizeof m->disk[k].at_target);
        m->disk[k].connects = 0;
    }
    memset(m->memory.settings[TARGET], 0, sizeof m->memory.settings[TARGET]);
    return start_qemu(m, TARGET, now);
}

static int source_connected(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    return monitor_ready(&m->place[SOURCE].monitor) ? DONE : WAIT;
}

/* Better told before anything is begun than by `migrate`, when the disk has been copied. Up to QEMU 10 nothing with an NVMe disk
 * migrates. A later one would, but our guest has no driver for such a disk. */
static int may_migrate(struct migration *m, const struct call *answer, uint64_t now)
{
    struct migbuf_error e;
    char why[300];
    int rc = migbuf_report_blocked(answer->text, answer->text_bytes, why, sizeof why, &e);

    (void)now;
    if (!rc && m->load->device == VM_NVME) {
        m->blocked = m->limits_restored = true;
        return failed(m, "this QEMU migrates NVMe disks, but the guest of this program cannot write to one");
    }
    m->blocked = m->limits_restored = rc == 1; /* untouched */
    return rc < 0 ? failed(m, "%s", e.text) : rc ? failed(m, "QEMU cannot migrate this VM: %s", why) : DONE;
}

static bool may_be_mirrored(const struct migration *m)
{
    return m->site->control->policy == POLICY_HYBRID || m->site->control->policy == POLICY_MIRROR;
}

static int commands_told(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)now;
    m->can_change = hybrid_can_change(answer->text, answer->text_bytes);
    return DONE;
}

static int guest_writes(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (!m->disk[k].status.acknowledged)
            return WAIT;
    return DONE;
}

static int target_connected(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    return monitor_ready(&m->place[TARGET].monitor) ? DONE : WAIT;
}

/* The host's own limits */

bool same_limits(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
{
    return !memcmp(a, b, offsetof(struct migbuf_throttle_config, group)) && !strcmp(a->group, b->group);
}

static bool limits_anything(const struct migbuf_throttle_config *c)
{
    return c->bps || c->bps_rd || c->bps_wr || c->iops || c->iops_rd || c->iops_wr;
}

static bool host_limits(const struct migration *m)
{
    return limits_anything(&m->load->host[m->d]);
}

/* The six that QEMU wants always, and of the others those that are not 0. */
static void put_limits(struct migration *m, const struct migbuf_throttle_config *c)
{
    const struct {
        const char *name;
        uint64_t value;
    } more[] = {
        { "bps_max", c->bps_max },
        { "bps_rd_max", c->bps_rd_max },
        { "bps_wr_max", c->bps_wr_max },
        { "iops_max", c->iops_max },
        { "iops_rd_max", c->iops_rd_max },
        { "iops_wr_max", c->iops_wr_max },
        { "bps_max_length", c->bps_max_length },
        { "bps_rd_max_length", c->bps_rd_max_length },
        { "bps_wr_max_length", c->bps_wr_max_length },
        { "iops_max_length", c->iops_max_length },
        { "iops_rd_max_length", c->iops_rd_max_length },
        { "iops_wr_max_length", c->iops_wr_max_length },
        { "iops_size", c->iops_size },
    };
    size_t room = sizeof m->arguments, n;

    put(m,
        "{\"id\":\"%s\",\"bps\":%llu,\"bps_rd\":%llu,\"bps_wr\":%llu,\"iops\":%llu,\"iops_rd\":%llu,"
        "\"iops_wr\":%llu",
        vm_disk_qdev(m->load->device, m->d), U(c->bps), U(c->bps_rd), U(c->bps_wr), U(c->iops), U(c->iops_rd),
        U(c->iops_wr));
    for (size_t k = 0; k < sizeof more / sizeof *more; k++) {
        n = strlen(m->arguments);
        if (more[k].value)
            snprintf(m->arguments + n, room - n, ",\"%s\":%llu", more[k].name, U(more[k].value));
    }
    n = strlen(m->arguments);
    snprintf(m->arguments + n, room - n, *c->group ? ",\"group\":\"%s\"}" : "}", c->group);
}

static int put_host_limits(struct migration *m, uint64_t now)
{
    (void)now;
    put_limits(m, &m->load->host[m->d]);
    return 0;
}

/* At the target: what the host wants by now, which need not be what it was when the migration began. */
static bool target_limits(const struct migration *m)
{
    return !same_limits(&m->disk[m->d].host, &m->disk[m->d].at_target);
}

static int put_target_limits(struct migration *m, uint64_t now)
{
    (void)now;
    disk(m)->at_target = disk(m)->host;
    put_limits(m, &disk(m)->host);
    return 0;
}

static int read_limits(struct migration *m, uint32_t k, const struct call *answer,
                       struct migbuf_throttle_config *limits)
{
    struct migbuf_block_report block;
    struct migbuf_error e;
    char top[64];

    snprintf(top, sizeof top, "%s%s", vm_disk_node(k),
             m->home == SOURCE && m->disk[k].made & MADE_SNAPSHOT ? "_snapshot" : "");
    if (migbuf_report_block(answer->text, answer->text_bytes, top, &block, &e))
        return failed(m, "%s: %s", top, e.text);
    *limits = block.throttle;
    return 0;
}

static int keep_host_limits(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (read_limits(m, k, answer, &m->disk[k].host))
            return FAILED;
    m->known = true;
    return DONE;
}

static int compare_limits(struct migration *m, uint32_t k, const struct call *answer)
{
    const struct migbuf_throttle_config *host = &m->disk[k].host;
    struct migbuf_throttle_config *f = &m->found[k], found;

    if (read_limits(m, k, answer, f))
        return FAILED;
    found = *f;
    if (same_limits(host, &found))
        return DONE;
    return failed(m,
                  "%s: the host's limits were bps %llu/%llu/%llu iops %llu/%llu/%llu group '%s', now they are "
                  "%llu/%llu/%llu, %llu/%llu/%llu, '%s'",
                  vm_disk_node(k), U(host->bps), U(host->bps_rd), U(host->bps_wr), U(host->iops), U(host->iops_rd),
                  U(host->iops_wr), host->group, U(found.bps), U(found.bps_rd), U(found.bps_wr), U(found.iops),
                  U(found.iops_rd), U(found.iops_wr), found.group);
}

static int compare_host_limits(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)now;
    m->limits_restored = true;
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (compare_limits(m, k, answer) != DONE)
            m->limits_restored = false;
    return m->limits_restored ? DONE : FAILED;
}

/* Who is to be advised must have been seen: three seconds, for a guest may write in bursts. */
#define OBSERVE_MS 3000

static bool is_advised(const struct migration *m)
{
    return m->site->control->policy == POLICY_HYBRID && m->way == WAY_ADVISED && !m->throttle.disk && !(m->seen_bytes_per_s > 0);
}

static int observed(struct migration *m, const struct call *answer, uint64_t now)
{
    uint64_t bytes = 0, writes = 0;

    if (m->seen.ns && now < m->seen.ns + OBSERVE_MS * MS)
        return WAIT;
    if (m->seen.ns && m->again_ns < m->seen.ns + OBSERVE_MS * MS) /* what was answered is what was seen first */
        return AGAIN;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        struct migbuf_write_report report;
        struct migbuf_error e;

        if (migbuf_report_writes(answer->text, answer->text_bytes, NULL, vm_disk_node(k), &report, &e))
            return failed(m, "%s", e.text);
        bytes += report.write_bytes;
        writes += report.write_operations;
    }
    if (!m->seen.ns) {
        m->seen = (struct seen){ now, bytes, writes };
        return WAIT;
    }
    m->seen_bytes_per_s = (double)(bytes - m->seen.bytes) * 1e9 / (double)(now - m->seen.ns);
    m->seen_writes_per_s = (double)(writes - m->seen.writes) * 1e9 / (double)(now - m->seen.ns);
    return DONE;
}

/* Throttle and admission */

static int gate(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    m->begun_ns = now;
    m->begun_acknowledged = migration_acknowledged(m);
    for (uint32_t k = 0; k < m->load->disks; k++)
        m->begun_uptime_ms[k] = m->disk[k].status.uptime_ms;
    if (m->site->control->policy == POLICY_FREE && now < m->site->start_ns + m->site->at_least_ms * MS)
        return WAIT;
    return m->site->go ? DONE : WAIT;
}

static int learn(struct migration *m, uint64_t now)
{
    char error[FAIL_SIZE];

    (void)now;
    if (throttle_new(&m->throttle, m->index, route_of(m), &m->place[SOURCE].monitor, m->load->disks, m->load->typed,
                     error))
        return failed(m, "%s", error);
    m->throttle.way = m->way;
    m->throttle.can_change = m->can_change;
    m->throttle.seen_bytes_per_s = m->seen_bytes_per_s;
    m->throttle.seen_writes_per_s = m->seen_writes_per_s;
    return migbuf_disk_learn(m->throttle.disk) ? failed(m, "the disk machine cannot") : 0;
}

int pumped(struct migration *m, const struct call *answer, uint64_t now)
{
    char error[FAIL_SIZE];
    int busy = throttle_pump(m->site->control, &m->throttle, now, error);

    (void)answer;
    return busy < 0 ? failed(m, "%s", error) : busy ? WAIT : DONE;
}

/* What the buffer has to know about the disk: the largest request that the throttle sees, and what a drain pours. */
static void set_geometry(const struct migration *m, uint32_t k, struct migbuf_geometry *g)
{
    const struct writer_params *w = &m->load->writer;
    uint64_t request = w->sectors * UINT64_C(512),
             merged = m->load->no_merging || m->load->device != VM_VIRTIO_BLK ? 1 : w->depth;
    bool whole = request % 65536 == 0 || 65536 % request == 0;

    *g = (struct migbuf_geometry){
        .virtual_bytes = m->site->disk_bytes,
        .cluster_bytes = 65536,
        .subcluster_bytes = 65536,
        .request_bytes = merged * request,
        .extra_bytes = MIGBUF_NONE,
        .flags = migbuf_limits_host_flags(&m->disk[k].host) | (m->load->typed ? MIGBUF_GEOMETRY_NO_IOPS_SIZE : 0),
    };
    /* Requests that merge end anywhere in a cluster unless each of them is made of whole clusters. */
    if (whole && w->start * UINT64_C(512) % 65536 == 0 && (merged == 1 || request % 65536 == 0))
        g->flags |= MIGBUF_GEOMETRY_ALIGNED;
    migbuf_limits_drain(g, w->depth, request, &g->queue_bytes);
}

void know_disks(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        set_geometry(m, k, &m->throttle.geometry[k]);
    m->throttle.rate_bytes_per_s = m->load->prior.attempts ? (uint64_t)m->load->prior.write_bytes_per_s : 0;
}

static int ask_for_room(struct migration *m, uint64_t now)
{
    (void)now;
    know_disks(m);
    return 0;
}

static int admitted(struct migration *m, const struct call *answer, uint64_t now)
{
    char error[FAIL_SIZE];
    int rc;

    (void)answer;
    if (now < m->again_ns)
        return WAIT;
    m->again_ns = now + 100 * MS;
    rc = control_add(m->site->control, &m->throttle, now, error);
    return rc < 0 ? failed(m, "%s", error) : rc ? DONE : WAIT;
}

/* It may have waited long: another hand's limits would be overwritten unseen. */
static int look_again(struct migration *m, uint64_t now)
{
    (void)now;
    return migbuf_disk_learn(m->throttle.disk) ? failed(m, "the disk machine cannot") : 0;
}

static int first_limit(struct migration *m, const struct call *answer, uint64_t now)
{
    int rc = pumped(m, answer, now);

    if (m->throttle.last.action == MIGBUF_ACTION_WAIT) /* for room, which others make: that is no answer that does not come */
        m->deadline_ns = now + MONITOR_ANSWER_MS * MS;
    return rc == DONE && !throttle_holds(m->site->control, &m->throttle) ? WAIT : rc;
}

/* Overlay */

#define EMPTY_OVERLAY_BYTES (256 << 10) /* header, refcounts, L1 table: what qemu-img writes, 192 KiB and rounded up */

/* Admission is on paper. Something else, or guests after a long absence of ours, may have filled the volume meanwhile. */
static int volume_has_room(struct migration *m, const struct call *answer, uint64_t now)
{
    char error[FAIL_SIZE];
    uint64_t used, available;

    (void)answer;
    if (now < m->again_ns)
        return WAIT;
    m->again_ns = now + 100 * MS;
    if (volume_usage(m->site->volume, &used, &available, error))
        return failed(m, "%s", error);
    return available < m->load->disks * (uint64_t)EMPTY_OVERLAY_BYTES ? WAIT : DONE;
}

static int create_overlay(struct migration *m, uint64_t now)
{
    char error[FAIL_SIZE], size[24];
    const char *argv[] = { m->site->image_tool, "create", "-q", "-f", "qcow2", disk(m)->overlay, size, NULL };

    (void)now;
    snprintf(size, sizeof size, "%llu", U(m->site->disk_bytes));
    if (m->tool_output >= 0)
        close(m->tool_output);
    m->tool_output = memfd_create("qemu-img", MFD_CLOEXEC);
    if (m->tool_output < 0)
        return failed(m, "memfd_create: %s", strerror(errno));
    return process_start(&m->tool, argv, m->tool_output, error) ? failed(m, "%s", error) : 0;
}

static int overlay_created(struct migration *m, const struct call *answer, uint64_t now)
{
    char tail[512], how[64];

    (void)answer, (void)now;
    if (process_runs(&m->tool))
        return WAIT;
    if (!m->tool.status)
        return DONE;
    process_tail(m->tool_output, tail, sizeof tail);
    return failed(m, "qemu-img %s: %s", process_describe(&m->tool, how), tail);
}

static bool is_nameless(const struct migration *m)
{
    return has_overlay(m) && !m->site->named;
}

/* Ours, to measure it. */
static int open_overlay(struct migration *m, uint64_t now)
{
    const char *overlay = disk(m)->overlay;
    int fd = open(overlay, O_RDWR | O_CLOEXEC);

    (void)now;
    if (fd < 0)
        return failed(m, "%s: %s", overlay, strerror(errno));
    if (is_nameless(m)) /* from here on only QEMU's descriptor and ours keep it */
        unlink(overlay);
    m->throttle.overlay_fd[m->d] = fd;
    return 0;
}

static int pass_overlay(struct migration *m, const struct call *answer, uint64_t now)
{
    struct monitor *monitor = monitor_of(m, SOURCE);
    struct call *call = &monitor->call[CALL_STEP];

    (void)answer;
    if (!m->asked) {
        put(m, "{\"fdset-id\":%u,\"opaque\":\"rdwr:%s_snapshot\"}", FDSET(m->d), node(m));
        m->asked =
            monitor_send_fd(monitor, CALL_STEP, "add-fd", m->arguments, m->throttle.overlay_fd[m->d], now);
        return WAIT;
    }
    if (monitor->lost)
        return failed(m, "%s", monitor->error);
    if (call->state == CALL_WAITING)
        return WAIT;
    return call->state == CALL_ANSWERED ? DONE : failed(m, "add-fd: %s", call->text ? call->text : "no answer");
}

static int put_overlay(struct migration *m, uint64_t now)
{
    char fdset[32];

    if (m->site->named && open_overlay(m, now))
        return FAILED;
    snprintf(fdset, sizeof fdset, "/dev/fdset/%u", FDSET(m->d));
    put(m,
        "{\"driver\":\"qcow2\",\"node-name\":\"%s_snapshot\",\"read-only\":false,"
        "\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}",
        node(m), m->site->named ? disk(m)->overlay : fdset);
    return 0;
}

/* All in one transaction: the bases are the disks of one moment. */
static int put_snapshots(struct migration *m, uint64_t now)
{
    size_t n;

    (void)now;
    put(m, "{\"actions\":[");
    for (uint32_t k = 0; k < m->load->disks; k++) {
        n = strlen(m->arguments);
        snprintf(m->arguments + n, sizeof m->arguments - n,
                 "%s{\"type\":\"blockdev-snapshot\",\"data\":{\"node\":\"%s\",\"overlay\":\"%s_snapshot\"}}",
                 k ? "," : "", vm_disk_node(k), vm_disk_node(k));
    }
    n = strlen(m->arguments);
    snprintf(m->arguments + n, sizeof m->arguments - n, "]}");
    return 0;
}

static int snapshot_taken(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    m->overlay_ns = now;
    m->throttle.unwatched = true;
    control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_BASE, 3);
    return DONE;
}

/* Base */

static int begin_copy(struct migration *m, uint64_t now)
{
    char error[FAIL_SIZE];
    int from = open(disk(m)->image[SOURCE], O_RDONLY | O_CLOEXEC);
    int to = open(disk(m)->image[TARGET], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    (void)now;
    if (from >= 0 && to >= 0) {
        disk(m)->copy = link_add_copy(link_of(m), from, to, error);
        if (disk(m)->copy >= 0)
            return 0;
    } else {
        fail(error, "opening the disks: %s", strerror(errno));
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return failed(m, "%s", error);
}

static int copied(struct migration *m, const struct call *answer, uint64_t now)
{
    struct link_flow_state flow = link_flow(link_of(m), disk(m)->copy);

    (void)answer, (void)now;
    if (flow.phase == LINK_FAILED)
        return failed(m, "%s", flow.error);
    if (flow.phase != LINK_DONE)
        return WAIT;
    drop_flow(m, &disk(m)->copy);
    disk(m)->copied = true;
    return DONE;
}

static bool not_copied(const struct migration *m)
{
    return has_overlay(m) && !m->disk[m->d].copied;
}

/* Mirror. Each connection crosses the link by a proxy: the source knows the near socket, the target the far one. */

static int put_nbd_server(struct migration *m, uint64_t now)
{
    (void)now;
    put(m, "{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"%s/nbd\"}},\"max-connections\":%u}",
        m->place[TARGET].directory, m->load->disks);
    return 0;
}

int add_proxy(struct migration *m, const char *near_name, const char *far_name, int *flow)
{
    char near[340], far[340], error[FAIL_SIZE];

    snprintf(near, sizeof near, "%s/%s", m->place[SOURCE].directory, near_name);
    snprintf(far, sizeof far, "%s/%s", m->place[TARGET].directory, far_name);
    unlink(near); /* of a program that died before anybody connected */
    *flow = link_add_proxy(link_of(m), near, far, error);
    return *flow < 0 ? failed(m, "%s", error) : 0;
}

static int connect_nbd(struct migration *m)
{
    char near[16];

    snprintf(near, sizeof near, "nbd%u", m->d);
    return add_proxy(m, near, "nbd", &disk(m)->nbd);
}

static int put_nbd_node(struct migration *m, uint64_t now)
{
    (void)now;
    put(m,
        "{\"node-name\":\"%s_nbd\",\"driver\":\"raw\",\"file\":{\"driver\":\"nbd\",\"export\":\"%s\","
        "\"server\":{\"type\":\"unix\",\"path\":\"%s/nbd%u\"}}}",
        node(m), node(m), m->place[SOURCE].directory, m->d);
    return connect_nbd(m);
}

#define CONNECT_AGAIN_MAX 3

/* QEMU's server hangs up on who has not greeted it within 10 s (7.2, 10.0, 11.1), also when both were stopped meanwhile. QEMU names
 * no class for that, and has done nothing when it refuses: every refusal is tried again. */
static int nbd_connected(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)now;
    if (answer->state != CALL_REFUSED)
        return DONE;
    if (disk(m)->connects++ == CONNECT_AGAIN_MAX)
        return failed(m, "QEMU said: %s", answer->text);
    drop_flow(m, &disk(m)->nbd);
    return connect_nbd(m) ? FAILED : AGAIN;
}

int new_job(struct migration *m, uint64_t now)
{
    char name[64];

    (void)now;
    snprintf(name, sizeof name, "%s_snapshot", node(m));
    monitor_new_job(monitor_of(m, SOURCE), m->d, name);
    return 0;
}

/* The overlay, on top of a base that is there already. Each write of the guest waits behind what the copy has in flight: with
 * QEMU's own buffer of 16 MiB, which is all LXD uses, for most of a second over 20 MB/s. */
static int put_mirror(struct migration *m, uint64_t now)
{
    const struct migbuf_mirror_load load = hybrid_load(m->site->control, &m->throttle, hybrid_flows(m->site->control, route_of(m)));
    struct migbuf_mirror_setting setting = { 0 };
    char buffer[40] = "";

    if (m->site->control->policy != POLICY_LXD && !migbuf_mirror_choose(&load, 0, 1, &setting))
        snprintf(buffer, sizeof buffer, "\"buf-size\":%llu,", (unsigned long long)setting.buf_bytes);
    put(m,
        "{\"job-id\":\"%s_snapshot\",\"device\":\"%s_snapshot\",\"target\":\"%s_nbd\",\"sync\":\"top\",%s"
        "\"copy-mode\":\"write-blocking\",\"on-target-error\":\"stop\"}",
        node(m), node(m), node(m), buffer);
    return new_job(m, now);
}

/* Each mirror drained its own disk: the reserve is given back when all have. */
static int mirror_started(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (m->d + 1 == m->load->disks)
        control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_MIRROR, 2);
    return DONE;
}

/* The whole disk, by the library's machine (mirroring.c). It is driven wherever the migration is: migration_throttle(). */

static struct mirroring *mirroring(struct migration *m)
{
    return &m->mirroring[m->d];
}

static int begin_mirror(struct migration *m, uint64_t now)
{
    const struct migbuf_mirror_load load = hybrid_load(m->site->control, &m->throttle, hybrid_flows(m->site->control, route_of(m)));
    char job_name[64], target[64], error[FAIL_SIZE];
    struct migbuf_mirror_options options;

    migbuf_mirror_options_init(&options, sizeof options);
    options.setting = m->site->mirror;
    options.can_change = m->can_change;
    snprintf(job_name, sizeof job_name, "%s_snapshot", node(m));
    snprintf(target, sizeof target, "%s_nbd", node(m));
    new_job(m, now);
    return mirroring_new(mirroring(m), job_name, node(m), target, &options, &load, error) ? failed(m, "%s", error) : 0;
}

static int mirror_ended_badly(struct migration *m, const struct mirroring *x)
{
    if (x->info.state == MIGBUF_MIRROR_STATE_STOPPED || x->info.state > MIGBUF_MIRROR_STATE_COMPLETED)
        return failed(m, "its mirror %s: %s%s", migbuf_mirror_state_text(x->info.state), x->refusal, m->place[SOURCE].monitor.facts.job[m->d].error);
    return WAIT;
}

static int mirror_begun(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (mirroring(m)->info.state == MIGBUF_MIRROR_STATE_IDLE)
        return WAIT;
    return mirror_ended_badly(m, mirroring(m)) == FAILED ? FAILED : DONE;
}

static int mirror_settle(struct migration *m, uint64_t now)
{
    (void)now;
    migbuf_mirror_settle(mirroring(m)->machine);
    return 0;
}

static int mirror_settled(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    return mirroring(m)->info.settled ? DONE : mirror_ended_badly(m, mirroring(m));
}

static int mirror_complete(struct migration *m, uint64_t now)
{
    (void)now;
    return migbuf_mirror_complete(mirroring(m)->machine) ? failed(m, "its mirror is %s", migbuf_mirror_state_text(mirroring(m)->info.state))
                                                         : 0;
}

static int mirror_over_there(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (mirroring(m)->info.state != MIGBUF_MIRROR_STATE_COMPLETED)
        return mirror_ended_badly(m, mirroring(m));
    return DONE;
}

void drop_mirrors(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        mirroring_end(&m->mirroring[k], &m->place[SOURCE].monitor);
}

static int job_failed(struct migration *m)
{
    const struct job *j = job(m);

    return failed(m, "the job %s %s%s%s", j->name, j->cancelled ? "was cancelled" : j->ended ? "ended" : "stopped",
                  j->error[0] ? ": " : " too early", j->error);
}

int job_ready(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (job(m)->ended || job(m)->stopped)
        return job_failed(m);
    return job(m)->ready ? DONE : WAIT;
}

static int mirror_ready(struct migration *m, const struct call *answer, uint64_t now)
{
    const struct mirroring *x = mirroring(m);

    if (has_overlay(m))
        return job_ready(m, answer, now);
    if (x->info.state == MIGBUF_MIRROR_STATE_READY || x->info.state == MIGBUF_MIRROR_STATE_SYNCED)
        return DONE;
    return mirror_ended_badly(m, x);
}

int job_completed(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (!job(m)->ended)
        return job(m)->stopped ? job_failed(m) : WAIT;
    return job(m)->cancelled || job(m)->error[0] ? job_failed(m) : DONE;
}

static int mirror_completed(struct migration *m, const struct call *answer, uint64_t now)
{
    int rc = job_completed(m, answer, now);

    if (rc == DONE && m->d + 1 == m->load->disks)
        control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_MIRROR, 0);
    return rc;
}

/* Switch-over */

/*
 * Without KVM the guest stands still while its memory is sent: TCG (QEMU 7.2) loses track of pages a running vCPU
 * writes to. Measured on two busy cores: 14 of 368 guests that ran meanwhile arrived with old memory
 * ("VQ 0 size 0x100 Guest index 0x2b inconsistent with Host index 0x2c") and hung or lost what they had been told was
 * written; of 384 that stood still, none. LXD, which runs KVM, has no such step. A guest that has made its last write to a
 * disk need not stand: what it still writes nobody will ask for.
 */
int take_over(struct migration *m, uint64_t now)
{
    (void)now;
    m->throttle.hands_off = true;
    return 0;
}

static int held(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    m->held = true;
    control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_MIRROR, 1);
    return DONE;
}

/* A guest that was stopped, for lack of room or by decision, arrives stopped; its failed write is repeated by cont. */
static int runs_at_target(struct migration *m, const struct call *answer, uint64_t now)
{
    struct monitor *target = monitor_of(m, TARGET);
    struct migbuf_status_report status;
    struct migbuf_error e;

    if (migbuf_report_status(answer->text, answer->text_bytes, &status, &e))
        return failed(m, "%s", e.text);
    if (status.running) {
        note_downtime(m);
        return DONE;
    }
    if (target->call[CALL_GUEST].state == CALL_ANSWERED || target->call[CALL_GUEST].state == CALL_REFUSED)
        monitor_taken(target, CALL_GUEST);
    if (target->call[CALL_GUEST].state == CALL_IDLE && strcmp(status.status, "inmigrate"))
        monitor_send(target, CALL_GUEST, "cont", NULL, now);
    return AGAIN;
}

static int export_deleted(struct migration *m, const struct call *answer, uint64_t now)
{
    struct facts *facts = &monitor_of(m, TARGET)->facts;

    (void)now;
    if (answer->state == CALL_REFUSED) /* gone already, by a program that died then */
        return facts->exports_deleted++, DONE;
    return facts->exports_deleted > m->d ? DONE : WAIT;
}

int qemu_gone(struct migration *m, enum side side, uint64_t now)
{
    struct place *p = &m->place[side];

    if (now + 2000 * MS > m->deadline_ns)
        vm_end_begin(&p->vm, now, 1000);
    if (vm_end_step(&p->vm, now))
        return WAIT;
    monitor_close(&p->monitor);
    vm_release(&p->vm);
    p->started = false;
    return DONE;
}

static int source_gone(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    if (qemu_gone(m, SOURCE, now) == WAIT)
        return WAIT;
    drop_flows(m);
    drop_mirrors(m);
    unlink_overlays(m);
    release_overlay(m); /* with QEMU's descriptor and ours the file is gone */
    return DONE;
}

/* Proof that it goes on */

static int begin_going_on(struct migration *m, uint64_t now)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        m->disk[k].acked_at_arrival = m->disk[k].status.acknowledged;
        m->disk[k].uptime_at_arrival = m->disk[k].status.uptime_ms;
    }
    m->arrived_ns = now;
    if (m->deadline_ns < m->site->start_ns + m->site->at_least_ms * MS + GO_ON_MS * MS)
        m->deadline_ns = m->site->start_ns + m->site->at_least_ms * MS + 30000 * MS;
    return 0;
}

static int went_on(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    if (now < m->arrived_ns + GO_ON_MS * MS || now < m->site->start_ns + m->site->at_least_ms * MS)
        return WAIT;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        const struct disk *d = &m->disk[k];

        if (is_at_rest(m) ? d->status.uptime_ms == d->uptime_at_arrival : d->status.acknowledged == d->acked_at_arrival)
            return WAIT;
    }
    return DONE;
}

static int stopped_for_good(struct migration *m, const struct call *answer, uint64_t now)
{
    char error[FAIL_SIZE];

    (void)answer, (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        int rc = writer_disk_status(m->place[m->home].vm.memory_fd, k, &m->disk[k].status, error);

        if (rc < 1)
            return failed(m, "%s", rc ? error : "its status block is gone");
    }
    m->stopped = true;
    return DONE;
}

static int home_gone(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    return qemu_gone(m, m->home, now);
}

/* The table */

/* clang-format off */
const struct step steps_there[] = {
    [SOURCE_START] = { "starting the source", PHASE_WAITING, SOURCE, .begin = start_source,
                       .finished = source_connected, .flags = FINISH_FIRST },
    [MAY_MIGRATE] = { "asking whether it may migrate", PHASE_WAITING, SOURCE, "query-migrate",
                      .finished = may_migrate, .flags = FINISH_FIRST },
    [KVM_ASK] = { "asking for KVM", PHASE_WAITING, SOURCE, "query-kvm", .finished = kvm_told, .flags = FINISH_FIRST },
    [COMMANDS_ASK] = { "asking which commands it knows", PHASE_WAITING, SOURCE, "query-commands", .needed = may_be_mirrored,
                       .finished = commands_told, .flags = FINISH_FIRST | TOLERANT },
    [GUEST_START] = { "waiting for its guest to write", PHASE_WAITING, SOURCE, .finished = guest_writes,
                      .flags = FINISH_FIRST },
    [HOST_LIMITS] = { "setting the host's own limits", PHASE_WAITING, SOURCE, "block_set_io_throttle",
                      .needed = host_limits, .begin = put_host_limits,
                      .flags = FINISH_FIRST | EACH },
    [HOST_READ] = { "reading the host's own limits", PHASE_WAITING, SOURCE, "query-block", .finished = keep_host_limits,
                    .flags = FINISH_FIRST },
    [OBSERVE] = { "watching what its guest writes", PHASE_WAITING, SOURCE, "query-blockstats", .needed = is_advised,
                  .finished = observed },
    [GATE] = { "waiting for the other guests", PHASE_WAITING, SOURCE, .finished = gate, .flags = LONG },

    /* The first limit stands before there is an overlay. */
    [LEARN] = { "learning the disk", PHASE_WAITING, SOURCE, .begin = learn, .finished = pumped,
                .flags = FINISH_FIRST },
    [ADMISSION] = { "waiting for room in the buffer", PHASE_WAITING, SOURCE, .begin = ask_for_room,
                    .finished = admitted, .event = "admitted", .flags = LONG },
    [FIRST_LIMIT] = { "setting the first limit", PHASE_WAITING, SOURCE, .begin = look_again, .finished = first_limit,
                      .flags = FINISH_FIRST },

    [OVERLAY_ROOM] = { "waiting for room on the volume", PHASE_WAITING, SOURCE, .needed = has_overlay,
                       .finished = volume_has_room, .flags = LONG },
    [OVERLAY_CREATE] = { "creating the overlay", PHASE_WAITING, SOURCE, .needed = has_overlay,
                         .begin = create_overlay,
                         .finished = overlay_created, .flags = FINISH_FIRST | EACH },
    [OVERLAY_PASS] = { "handing over the overlay", PHASE_WAITING, SOURCE, .needed = is_nameless,
                       .begin = open_overlay, .finished = pass_overlay, .makes = MADE_FDSET,
                       .flags = FINISH_FIRST | EACH },
    [OVERLAY_ADD] = { "opening the overlay", PHASE_WAITING, SOURCE, "blockdev-add", .needed = has_overlay,
                      .begin = put_overlay,
                      .makes = MADE_NODE, .flags = EACH },
    [SNAPSHOT] = { "putting the overlay on top", PHASE_WAITING, SOURCE, "transaction", .needed = has_overlay,
                   .begin = put_snapshots,
                   .finished = snapshot_taken,
                   .makes = MADE_SNAPSHOT, .flags = DRAINS | FINISH_FIRST, .event = "overlay in use" },
    [COPY] = { "copying the base", PHASE_BASE, SOURCE, .needed = not_copied, .begin = begin_copy, .finished = copied,
               .flags = EACH | LONG,
               .event = "base copied" },

    [TARGET_START] = { "starting the target", PHASE_BASE, TARGET, .begin = start_target, .finished = target_connected },
    [TARGET_LIMITS] = { "setting the host's limits at the target", PHASE_BASE, TARGET, "block_set_io_throttle",
                        .needed = target_limits, .begin = put_target_limits, .flags = EACH },
    [NBD_SERVER] = { "starting the NBD server", PHASE_BASE, TARGET, "nbd-server-start", .begin = put_nbd_server },
    [NBD_EXPORT] = { "exporting the target's disk", PHASE_BASE, TARGET, "block-export-add",
                     "{\"id\":\"$D\",\"type\":\"nbd\",\"node-name\":\"$D\",\"writable\":true}",
                     .flags = EACH },

    [NBD_NODE] = { "connecting to the target's disk", PHASE_MIRROR, SOURCE, "blockdev-add", .begin = put_nbd_node,
                   .finished = nbd_connected, .makes = MADE_NBD, .flags = EACH | TOLERANT },
    [MIRROR] = { "starting the mirror", PHASE_MIRROR, SOURCE, "blockdev-mirror", .needed = has_overlay,
                 .begin = put_mirror, .finished = mirror_started, .makes = MADE_JOB, .flags = DRAINS | EACH },
    [MIRROR_DISK] = { "starting the disk's mirror", PHASE_MIRROR, SOURCE, .needed = is_mirrored, .begin = begin_mirror,
                      .finished = mirror_begun, .makes = MADE_JOB, .flags = FINISH_FIRST | DRAINS | EACH },
    [READY] = { "waiting until the mirror is ready", PHASE_MIRROR, SOURCE, .finished = mirror_ready, .flags = EACH | LONG,
                .event = "mirror ready" },

    [RAM_TURN] = { "waiting for its turn on the link", PHASE_MIRROR, SOURCE, .finished = ram_turn, .flags = LONG },
    /* What the host had set is known before anything of ours is. */
    [RAM_LEARN] = { "asking what is set for memory", PHASE_RAM, SOURCE, .begin = ram_learn, .finished = ram_learnt,
                    .flags = FINISH_FIRST },
    [SETTLE] = { "waiting until both disks are the same", PHASE_RAM, SOURCE, .needed = is_mirrored,
                 .begin = mirror_settle, .finished = mirror_settled, .flags = EACH | LONG },
    [HOLD] = { "stopping the guest for its memory", PHASE_RAM, SOURCE, "stop", .needed = must_hold, .begin = take_over,
               .finished = held, .flags = DRAINS },
    [RAM_SEND] = { "sending the memory", PHASE_RAM, SOURCE, .begin = ram_start, .finished = ram_sent,
                   .event = "stopped for the switch-over", .flags = LONG },
    [JOB_CANCEL] = { "ending the mirror", PHASE_RAM, SOURCE, "block-job-cancel", DEVICE("$O"), .needed = has_overlay,
                     .finished = mirror_completed, .flags = DRAINS | EACH | LONG },
    [MIRROR_END] = { "ending the disk's mirror", PHASE_RAM, SOURCE, .needed = is_mirrored, .begin = mirror_complete,
                     .finished = mirror_over_there, .flags = DRAINS | EACH | LONG },
    [LIMITS_AGAIN] = { "setting the host's new limits at the target", PHASE_RAM, TARGET, "block_set_io_throttle",
                       .needed = target_limits, .begin = put_target_limits, .flags = EACH },
    [CONTINUE] = { "switching over", PHASE_RAM, SOURCE, .begin = ram_switch, .finished = ram_switched,
                   .flags = NO_RETURN | LONG },
    [RAM_REST] = { "sending the rest of its memory", PHASE_RAM, SOURCE, .needed = ram_is_past_return,
                   .finished = ram_moved, .flags = NO_RETURN | LONG },
    [ARRIVAL] = { "arriving at the target", PHASE_TARGET, TARGET, "query-status", .finished = runs_at_target,
                  .flags = NO_RETURN, .event = "runs at the target" },
    [EXPORT_DELETE] = { "deleting the export", PHASE_TARGET, TARGET, "block-export-del",
                        "{\"id\":\"$D\",\"mode\":\"hard\"}", .finished = export_deleted,
                        .flags = NO_RETURN | EACH | TOLERANT },
    [NBD_STOP] = { "stopping the NBD server", PHASE_TARGET, TARGET, "nbd-server-stop",
                   .flags = NO_RETURN | TOLERANT },
    [RAM_RESTORE] = { "giving back what was set for memory", PHASE_TARGET, TARGET, .needed = has_ram,
                      .finished = ram_restored, .flags = NO_RETURN },
    [SOURCE_QUIT] = { "ending the source", PHASE_TARGET, SOURCE, "quit", .finished = source_gone,
                      .flags = NO_RETURN | HANGS_UP | TOLERANT },
    [FORWARD_END] = { "moving", PHASE_TARGET, SOURCE, .flags = NO_RETURN },

    [GOING_ON] = { "watching it go on", PHASE_TARGET, HOME, .begin = begin_going_on, .finished = went_on,
                   .flags = NO_RETURN },
    [LIMITS_CHECK] = { "checking the host's limits", PHASE_TARGET, HOME, "query-block", .finished = compare_host_limits,
                       .flags = NO_RETURN },
    [CAPABILITIES_CHECK] = { "checking capabilities", PHASE_TARGET, HOME, "query-migrate-capabilities",
                             .needed = settings_known, .finished = compare_settings, .flags = NO_RETURN },
    [PARAMETERS_CHECK] = { "checking parameters", PHASE_TARGET, HOME, "query-migrate-parameters", .needed = settings_known,
                           .finished = compare_settings, .flags = NO_RETURN },
    [STOPPING] = { "stopping it to check its disk", PHASE_TARGET, HOME, "stop", .finished = stopped_for_good,
                   .flags = NO_RETURN },
    [QUITTING] = { "ending it", PHASE_TARGET, HOME, "quit", .finished = home_gone,
                   .flags = NO_RETURN | HANGS_UP | TOLERANT },
    [ENDED] = { "over", PHASE_TARGET, HOME, .flags = NO_RETURN },
};
/* clang-format on */
