/* SPDX-License-Identifier: MIT */
/* The steps of a migration are one table, `steps`; the functions above it are its columns. Node names, ids and the
 * order are LXD's. A step is: begin, send its command, take the answer, wait until it is finished. */
#include "migration.h"
#include "migbuf/report.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define GO_ON_MS 500 /* how long a guest is watched after it has arrived */

/* What has been made of a disk at the source (the last one: of all) and must be undone on the way back. */
enum {
    MADE_FDSET = 1,
    MADE_NODE = 2,
    MADE_SNAPSHOT = 4,
    MADE_NBD = 8,
    MADE_JOB = 16,
    MADE_MIGRATE = 32,
    MADE_COMMIT = 64
};

/* Of a step. */
enum {
    FINISH_FIRST = 1, /* giving up waits until it is done */
    NO_RETURN = 2,    /* from here on the guest can only end at the target */
    TOLERANT = 4,     /* a refusal is no failure: what it asks for may have happened already */
    HANGS_UP = 8,     /* QEMU ends in this step */
    EACH = 16,        /* once for each disk, one after the other */
    DRAINS = 32       /* QEMU lets everything through that waits for the throttle */
};

/* What `finished` says. */
enum { FAILED = -1, WAIT = 0, DONE = 1, AGAIN = 2 /* send the command once more, soon */ };

struct step {
    const char *name;      /* "…: what QEMU said" */
    int32_t phase;         /* of the picture */
    int32_t side;          /* whose monitor; HOME: where the guest is */
    const char *command;   /* NULL: none */
    const char *arguments; /* $D the disk's node, $O its overlay, $N the target's disk; NULL: what begin() wrote */
    bool (*needed)(const struct migration *m);
    int (*begin)(struct migration *m, uint64_t now);
    int (*finished)(struct migration *m, const struct call *answer, uint64_t now);
    uint32_t makes, unmakes;
    uint32_t timeout_ms; /* 0: as long as the link may take */
    uint32_t flags;
    const char *event; /* for the timeline, when it is done */
};

enum { HOME = 2 };

static const struct step steps[];
static uint32_t route_of(const struct migration *m);
static struct monitor *monitor_of(struct migration *m, int32_t side);

/* Failing */

static int failed(struct migration *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int failed(struct migration *m, const char *format, ...)
{
    size_t n = strlen(m->error);
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (n)
        snprintf(m->error + n, sizeof m->error - n, "; then, %s: %s", steps[m->at].name, why);
    else
        fail(m->error, "%s, %s: %s", m->load->name, steps[m->at].name, why);
    return FAILED;
}

static void say(struct migration *m, uint64_t now, const char *text)
{
    record_event(m->site->record, (now - m->site->start_ns) / MS, m->index, "%s", text);
}

static void put(struct migration *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct migration *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(m->arguments, sizeof m->arguments, format, args);
    va_end(args);
}

/* Disks. Their node names are LXD's. */

static const char *node(const struct migration *m)
{
    return vm_disk_node(m->d);
}

static struct disk *disk(struct migration *m)
{
    return &m->disk[m->d];
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

/* The job on a disk's overlay has the overlay's name. */
static const struct job *job(const struct migration *m)
{
    return &m->place[SOURCE].monitor.facts.job[m->d];
}

/* Is there one of these to be undone, whichever disk's? */
static bool made_any(const struct migration *m, uint32_t what)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (m->disk[k].made & what)
            return true;
    return false;
}

static void mark(struct migration *m, const struct step *s, uint32_t made, uint32_t unmade)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (!(s->flags & EACH) || k == m->d)
            m->disk[k].made = (m->disk[k].made | made) & ~unmade;
}

/* Starting a QEMU */

static int start_qemu(struct migration *m, enum side side, uint64_t now)
{
    struct place *p = &m->place[side];
    char append[256], error[FAIL_SIZE];
    struct vm_config config = {
        .directory = p->directory,
        .image = m->disk[0].image[side],
        .second_image = m->load->disks > 1 ? m->disk[1].image[side] : NULL,
        .device = m->load->device,
        .kernel = m->site->kernel,
        .append = append,
        .ram_mib = writer_ram_mib(&m->load->writer),
        .incoming = side == TARGET,
        .no_merging = m->load->no_merging,
        .second_monitor = m->site->second_monitor,
        .outlives = m->site->recorded,
    };

    if (writer_append(&m->load->writer, append, sizeof append))
        return failed(m, "the guest's arguments are too long");
    if (vm_start(&p->vm, &config, error))
        return failed(m, "%s", error);
    p->started = true;
    monitor_open(&p->monitor, p->vm.qmp, now, 20000);
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

/* Everything is mirrored while the guest writes: no overlay, no copy of a base, no buffer. */
static bool is_write_through(const struct migration *m)
{
    return m->site->control->policy == POLICY_MIRROR;
}

static bool has_overlay(const struct migration *m)
{
    return !is_write_through(m);
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

static int start_target(struct migration *m, uint64_t now)
{
    for (uint32_t k = 0; k < m->load->disks && is_write_through(m); k++)
        if (make_empty_disk(m, k))
            return FAILED;
    return start_qemu(m, TARGET, now);
}

static int source_connected(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    return monitor_ready(&m->place[SOURCE].monitor) ? DONE : WAIT;
}

/* Better told before anything is begun than by `migrate`, when the disk has been copied. */
static int may_migrate(struct migration *m, const struct call *answer, uint64_t now)
{
    struct migbuf_error e;
    char why[300];
    int rc = migbuf_report_blocked(answer->text, answer->text_bytes, why, sizeof why, &e);

    (void)now;
    m->blocked = m->limits_restored = rc == 1; /* untouched */
    return rc < 0 ? failed(m, "%s", e.text) : rc ? failed(m, "QEMU cannot migrate this VM: %s", why) : DONE;
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

static bool same_limits(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
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

#define U(value) ((unsigned long long)(value))

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

/* Throttle and admission */

static int gate(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    m->begun_ns = now;
    return m->site->go ? DONE : WAIT;
}

static int learn(struct migration *m, uint64_t now)
{
    char error[FAIL_SIZE];

    (void)now;
    if (throttle_new(&m->throttle, m->index, route_of(m), &m->place[SOURCE].monitor, m->load->disks, m->load->typed,
                     error))
        return failed(m, "%s", error);
    return migbuf_disk_learn(m->throttle.disk) ? failed(m, "the disk machine cannot") : 0;
}

static int pumped(struct migration *m, const struct call *answer, uint64_t now)
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
        .flags = migbuf_limits_host_flags(&m->disk[k].host) | (m->load->typed ? MIGBUF_GEOMETRY_NO_IOPS_SIZE : 0),
    };
    /* Requests that merge end anywhere in a cluster unless each of them is made of whole clusters. */
    if (whole && w->start * UINT64_C(512) % 65536 == 0 && (merged == 1 || request % 65536 == 0))
        g->flags |= MIGBUF_GEOMETRY_ALIGNED;
    migbuf_limits_drain(g, w->depth, request, &g->queue_bytes);
}

static int ask_for_room(struct migration *m, uint64_t now)
{
    (void)now;
    for (uint32_t k = 0; k < m->load->disks; k++)
        set_geometry(m, k, &m->throttle.geometry[k]);
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

static int first_limit(struct migration *m, const struct call *answer, uint64_t now)
{
    int rc = pumped(m, answer, now);

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
    const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", disk(m)->overlay, size, NULL };

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

#define FDSET(disk) ((disk) + 1) /* ours to choose: so it need not be remembered */

static int pass_overlay(struct migration *m, const struct call *answer, uint64_t now)
{
    struct monitor *monitor = monitor_of(m, SOURCE);
    struct call *call = &monitor->call[CALL_STEP];

    (void)answer;
    if (!m->asked) {
        put(m, "{\"fdset-id\":%u,\"opaque\":\"rdwr:%s_snapshot\"}", FDSET(m->d), node(m));
        m->asked =
            monitor_send_fd(monitor, CALL_STEP, "add-fd", m->arguments, m->throttle.overlay_fd[m->d], now, 10000);
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

/* VMs take turns: VM 0 leaves over the first link, VM 1 over the second. */
static uint32_t route_of(const struct migration *m)
{
    return m->index % m->site->links;
}

static struct link *link_of(const struct migration *m)
{
    return m->site->link[route_of(m)];
}

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

static void drop_flow(struct migration *m, int *flow)
{
    if (*flow >= 0)
        link_remove(link_of(m), *flow);
    *flow = -1;
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

static int put_incoming(struct migration *m, uint64_t now)
{
    (void)now;
    put(m, "{\"uri\":\"unix:%s/ram\"}", m->place[TARGET].directory);
    return 0;
}

static int add_proxy(struct migration *m, const char *near_name, const char *far_name, int *flow)
{
    char near[340], far[340], error[FAIL_SIZE];

    snprintf(near, sizeof near, "%s/%s", m->place[SOURCE].directory, near_name);
    snprintf(far, sizeof far, "%s/%s", m->place[TARGET].directory, far_name);
    unlink(near); /* of a program that died before anybody connected */
    *flow = link_add_proxy(link_of(m), near, far, error);
    return *flow < 0 ? failed(m, "%s", error) : 0;
}

static int put_nbd_node(struct migration *m, uint64_t now)
{
    char near[16];

    (void)now;
    snprintf(near, sizeof near, "nbd%u", m->d);
    put(m,
        "{\"node-name\":\"%s_nbd\",\"driver\":\"raw\",\"file\":{\"driver\":\"nbd\",\"export\":\"%s\","
        "\"server\":{\"type\":\"unix\",\"path\":\"%s/%s\"}}}",
        node(m), node(m), m->place[SOURCE].directory, near);
    return add_proxy(m, near, "nbd", &disk(m)->nbd);
}

static int new_job(struct migration *m, uint64_t now)
{
    char name[64];

    (void)now;
    snprintf(name, sizeof name, "%s_snapshot", node(m));
    monitor_new_job(monitor_of(m, SOURCE), m->d, name);
    return 0;
}

/* The overlay, on top of a base that is there already; or the whole disk. */
static int put_mirror(struct migration *m, uint64_t now)
{
    bool whole = is_write_through(m);

    put(m,
        "{\"job-id\":\"%s_snapshot\",\"device\":\"%s%s\",\"target\":\"%s_nbd\",\"sync\":\"%s\","
        "\"copy-mode\":\"write-blocking\",\"on-target-error\":\"stop\"}",
        node(m), node(m), whole ? "" : "_snapshot", node(m), whole ? "full" : "top");
    return new_job(m, now);
}

/* Each mirror drained its own disk: the reserve is given back when all have. */
static int mirror_started(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (m->d + 1 == m->load->disks)
        control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_DRAIN, 2);
    return DONE;
}

static int job_failed(struct migration *m)
{
    const struct job *j = job(m);

    return failed(m, "the job %s %s%s%s", j->name, j->cancelled ? "was cancelled" : j->ended ? "ended" : "stopped",
                  j->error[0] ? ": " : " too early", j->error);
}

static int job_ready(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    if (job(m)->ended || job(m)->stopped)
        return job_failed(m);
    return job(m)->ready ? DONE : WAIT;
}

static int job_completed(struct migration *m, const struct call *answer, uint64_t now)
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
        control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_DRAIN, 0);
    return rc;
}

/* Switch-over */

/*
 * Unlike LXD's, the guest stands still while its memory is sent: TCG (QEMU 7.2) loses track of pages a running vCPU
 * writes to. Measured on two busy cores: 14 of 368 guests that ran meanwhile arrived with old memory
 * ("VQ 0 size 0x100 Guest index 0x2b inconsistent with Host index 0x2c") and hung or lost what they had been told was
 * written; of 384 that stood still, none. LXD, which runs KVM, has no such step.
 */
static bool is_running(const struct migration *m)
{
    return m->place[SOURCE].monitor.facts.running;
}

static int take_over(struct migration *m, uint64_t now)
{
    (void)now;
    m->throttle.hands_off = true;
    return 0;
}

static int held(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_DRAIN, 1);
    return DONE;
}

static int put_migrate(struct migration *m, uint64_t now)
{
    (void)now;
    m->throttle.hands_off = true;
    monitor_of(m, SOURCE)->facts.migration[0] = 0; /* of an earlier attempt */
    put(m, "{\"uri\":\"unix:%s/ram\"}", m->place[SOURCE].directory);
    return add_proxy(m, "ram", "ram", &m->ram);
}

static int migration_is(struct migration *m, const char *wanted)
{
    const char *status = monitor_of(m, SOURCE)->facts.migration;

    if (!strcmp(status, "failed") || !strcmp(status, "cancelled")) {
        mark(m, &steps[m->at], 0, MADE_MIGRATE);
        return failed(m, "the migration has the status %s", status);
    }
    return strcmp(status, wanted) ? WAIT : DONE;
}

static int paused_for_switch(struct migration *m, const struct call *answer, uint64_t now)
{
    int rc = migration_is(m, "pre-switchover");

    (void)answer, (void)now;
    if (rc == DONE)
        control_drained(m->site->control, &m->throttle, MIGBUF_PHASE_DRAIN, 1);
    return rc;
}

/* The source says "completed" when it has sent all, which may still be under way. */
static int migration_completed(struct migration *m, const struct call *answer, uint64_t now)
{
    bool arrived = !strcmp(m->place[TARGET].monitor.facts.migration, "completed");
    int rc = arrived ? DONE : migration_is(m, "completed");

    (void)answer, (void)now;
    if (rc == DONE && !arrived)
        return WAIT;
    if (rc == DONE)
        m->home = TARGET;
    return rc;
}

/* A guest that was stopped, for lack of room or by decision, arrives stopped; its failed write is repeated by cont. */
static int runs_at_target(struct migration *m, const struct call *answer, uint64_t now)
{
    struct monitor *target = monitor_of(m, TARGET);
    struct migbuf_status_report status;
    struct migbuf_error e;

    if (migbuf_report_status(answer->text, answer->text_bytes, &status, &e))
        return failed(m, "%s", e.text);
    if (status.running)
        return DONE;
    if (target->call[CALL_GUEST].state == CALL_ANSWERED || target->call[CALL_GUEST].state == CALL_REFUSED)
        monitor_taken(target, CALL_GUEST);
    if (target->call[CALL_GUEST].state == CALL_IDLE && strcmp(status.status, "inmigrate"))
        monitor_send(target, CALL_GUEST, "cont", NULL, now, 10000);
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

static void unlink_overlays(const struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        unlink(m->disk[k].overlay);
}

static void release_overlay(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        if (m->throttle.overlay_fd[k] >= 0)
            close(m->throttle.overlay_fd[k]);
        m->throttle.overlay_fd[k] = -1;
    }
    control_remove(m->site->control, &m->throttle);
}

static void drop_flows(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        drop_flow(m, &m->disk[k].copy);
        drop_flow(m, &m->disk[k].nbd);
    }
    drop_flow(m, &m->ram);
}

static int qemu_gone(struct migration *m, enum side side, uint64_t now)
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
    unlink_overlays(m);
    release_overlay(m); /* with QEMU's descriptor and ours the file is gone */
    return DONE;
}

/* The way back */

static bool made_migrate(const struct migration *m)
{
    return made_any(m, MADE_MIGRATE);
}

static bool made_job(const struct migration *m)
{
    return m->disk[m->d].made & MADE_JOB && !job(m)->ended;
}

/* A mirror that ends while a write of its guest is on its way to the target takes QEMU with it (signal 11, seen with
 * 7.2; see migbuf_report_job_error()): cancelled by force, or by itself when its target is gone. Hence on-target-error
 * "stop", and the guest stands still for a moment. By force, because QEMU refuses to cancel a stopped job without. */
static bool must_hold(const struct migration *m)
{
    return made_any(m, MADE_JOB) && is_running(m);
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

static bool was_migrating(const struct migration *m)
{
    return m->place[SOURCE].monitor.facts.migration[0];
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

static bool goes_on(const struct migration *m)
{
    return !m->giving_up;
}

static bool learnt(const struct migration *m)
{
    struct migbuf_disk_info info = { .size = sizeof info };

    return !migbuf_disk_info(m->throttle.disk, &info) && info.learnt;
}

static bool is_stopped(const struct migration *m)
{
    return !m->place[SOURCE].monitor.facts.running;
}

static int migration_over(struct migration *m, const struct call *answer, uint64_t now)
{
    const char *status = monitor_of(m, SOURCE)->facts.migration;

    (void)answer, (void)now;
    return !strcmp(status, "cancelled") || !strcmp(status, "failed") || !strcmp(status, "completed") ? DONE : WAIT;
}

static int job_over(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer, (void)now;
    return job(m)->ended ? DONE : WAIT;
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
    (void)answer, (void)now;
    drop_flows(m);
    m->throttle.hands_off = false;
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

/* Proof that it goes on */

static int begin_going_on(struct migration *m, uint64_t now)
{
    for (uint32_t k = 0; k < m->load->disks; k++)
        m->disk[k].acked_at_arrival = m->disk[k].status.acknowledged;
    m->arrived_ns = now;
    if (m->deadline_ns < m->site->start_ns + m->site->window_ms * MS + GO_ON_MS * MS)
        m->deadline_ns = m->site->start_ns + m->site->window_ms * MS + 30000 * MS;
    return 0;
}

static int went_on(struct migration *m, const struct call *answer, uint64_t now)
{
    (void)answer;
    if (now < m->arrived_ns + GO_ON_MS * MS || now < m->site->start_ns + m->site->window_ms * MS)
        return WAIT;
    for (uint32_t k = 0; k < m->load->disks; k++)
        if (m->disk[k].status.acknowledged == m->disk[k].acked_at_arrival)
            return WAIT;
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
static void expect_jobs(struct migration *m)
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

static int read_migration(struct migration *m, enum side side, const struct call *answer)
{
    struct facts *facts = &m->place[side].monitor.facts;
    struct migbuf_migrate_report report;
    struct migbuf_error e;

    if (migbuf_report_migrate(answer->text, answer->text_bytes, &report, &e))
        return failed(m, "%s", e.text);
    snprintf(facts->migration, sizeof facts->migration, "%s", report.status);
    return DONE;
}

static bool is_one_of(const char *text, const char *const list[])
{
    while (*list && strcmp(text, *list))
        list++;
    return *list != NULL;
}

/* Past migrate-continue it cannot be called back: it comes to its end by itself, as its connection is cut. */
static int found_migration(struct migration *m, const struct call *answer, uint64_t now)
{
    static const char *const over[] = { "", "none", "completed", "failed", "cancelled", NULL };
    static const char *const coming_to_an_end[] = { "device", "cancelling", "wait-unplug", NULL };
    const char *status = m->place[SOURCE].monitor.facts.migration;

    (void)now;
    if (read_migration(m, SOURCE, answer) == FAILED)
        return FAILED;
    if (!strcmp(status, "device"))
        return AGAIN;
    if (!is_one_of(status, over) && !is_one_of(status, coming_to_an_end))
        m->disk[0].made |= MADE_MIGRATE;
    return is_one_of(status, coming_to_an_end) ? AGAIN : DONE;
}

static bool may_be_there(const struct migration *m)
{
    return m->home == SOURCE && !strcmp(m->place[SOURCE].monitor.facts.migration, "completed") &&
           m->place[TARGET].started;
}

/* It has everything, or it ends for lack of the rest. */
static int found_arrival(struct migration *m, const struct call *answer, uint64_t now)
{
    struct place *target = &m->place[TARGET];

    (void)now;
    if (target->monitor.lost || !vm_runs(&target->vm, NULL) || answer->state == CALL_REFUSED)
        return DONE;
    if (answer->state != CALL_ANSWERED)
        return WAIT;
    if (read_migration(m, TARGET, answer) == FAILED)
        return FAILED;
    return strcmp(target->monitor.facts.migration, "completed") ? AGAIN : DONE;
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

/* The table */

/* clang-format off */
enum {
    ASK_READY, ASK_STATUS, ASK_JOBS, ASK_BLOCK, ASK_NODES, ASK_MIGRATE, ASK_TARGET, ASK_LIMITS, ASK_END,
    SOURCE_START, MAY_MIGRATE, GUEST_START, HOST_LIMITS, HOST_READ, GATE,
    LEARN, ADMISSION, FIRST_LIMIT, CAPABILITIES,
    OVERLAY_ROOM, OVERLAY_CREATE, OVERLAY_PASS, OVERLAY_ADD, SNAPSHOT, COPY,
    TARGET_START, TARGET_EVENTS, TARGET_LIMITS, NBD_SERVER, NBD_EXPORT, INCOMING,
    NBD_NODE, MIRROR, READY,
    HOLD, MIGRATE, JOB_CANCEL, LIMITS_AGAIN, CONTINUE, ARRIVAL, EXPORT_DELETE, NBD_STOP, SOURCE_QUIT, FORWARD_END,
    BACK_MIGRATE, BACK_WAKE, BACK_HOLD, BACK_JOB, BACK_NBD, BACK_TARGET, BACK_STATUS, BACK_HANDED_OVER, BACK_COMMIT, BACK_READY,
    BACK_COMPLETE, BACK_NODE, BACK_FDSET, BACK_GO_ON, BACK_BUFFER, BACK_RESTORE, BACK_RUN,
    GOING_ON, LIMITS_CHECK, STOPPING, QUITTING, ENDED
};

#define CAPABILITY(name) "{\"capability\":\"" name "\",\"state\":true}"
#define DEVICE(id) "{\"device\":\"" id "\"}"
#define JOB "\"job-id\":\"$O\",\"device\":\"$O\""
#define T(seconds) ((seconds)*1000)

static const struct step steps[] = {
    /* After a restart. What was asked before a job or migration ended is followed by its event. */
    [ASK_READY] = { "finding its QEMU again", PHASE_WAITING, HOME, .finished = monitors_ready, .timeout_ms = T(20),
                    .flags = FINISH_FIRST },
    [ASK_STATUS] = { "asking for the guest's state", PHASE_WAITING, SOURCE, "query-status", .needed = is_at_source,
                     .finished = found_status, .timeout_ms = T(10), .flags = FINISH_FIRST },
    [ASK_JOBS] = { "asking for block jobs", PHASE_WAITING, SOURCE, "query-block-jobs", .needed = is_at_source,
                   .finished = found_jobs, .timeout_ms = T(10), .flags = FINISH_FIRST },
    [ASK_BLOCK] = { "asking for the disks", PHASE_WAITING, SOURCE, "query-block", .needed = is_at_source,
                    .finished = found_disks, .timeout_ms = T(10), .flags = FINISH_FIRST },
    [ASK_NODES] = { "asking for the block nodes", PHASE_WAITING, SOURCE, "query-named-block-nodes", "{\"flat\":true}",
                    .needed = is_at_source, .finished = found_nodes, .timeout_ms = T(10), .flags = FINISH_FIRST },
    [ASK_MIGRATE] = { "asking for the migration", PHASE_WAITING, SOURCE, "query-migrate", .needed = is_at_source,
                      .finished = found_migration, .timeout_ms = T(60), .flags = FINISH_FIRST },
    [ASK_TARGET] = { "asking the target for the migration", PHASE_WAITING, TARGET, "query-migrate",
                     .needed = may_be_there, .finished = found_arrival, .timeout_ms = T(60),
                     .flags = FINISH_FIRST | TOLERANT | HANGS_UP },
    [ASK_LIMITS] = { "recognising the limits in force", PHASE_WAITING, SOURCE, .needed = was_learnt,
                     .finished = found_limits, .timeout_ms = T(10), .flags = FINISH_FIRST },
    [ASK_END] = { "going on", PHASE_WAITING, HOME, .timeout_ms = T(10), .flags = FINISH_FIRST },

    [SOURCE_START] = { "starting the source", PHASE_WAITING, SOURCE, .begin = start_source,
                       .finished = source_connected, .timeout_ms = T(30), .flags = FINISH_FIRST },
    [MAY_MIGRATE] = { "asking whether it may migrate", PHASE_WAITING, SOURCE, "query-migrate",
                      .finished = may_migrate, .timeout_ms = T(10), .flags = FINISH_FIRST },
    [GUEST_START] = { "waiting for its guest to write", PHASE_WAITING, SOURCE, .finished = guest_writes,
                      .timeout_ms = T(30), .flags = FINISH_FIRST },
    [HOST_LIMITS] = { "setting the host's own limits", PHASE_WAITING, SOURCE, "block_set_io_throttle",
                      .needed = host_limits, .begin = put_host_limits, .timeout_ms = T(10),
                      .flags = FINISH_FIRST | EACH },
    [HOST_READ] = { "reading the host's own limits", PHASE_WAITING, SOURCE, "query-block", .finished = keep_host_limits,
                    .timeout_ms = T(10), .flags = FINISH_FIRST },
    [GATE] = { "waiting for the other guests", PHASE_WAITING, SOURCE, .finished = gate, .timeout_ms = T(120) },

    /* The first limit stands before there is an overlay. */
    [LEARN] = { "learning the disk", PHASE_WAITING, SOURCE, .begin = learn, .finished = pumped, .timeout_ms = T(10),
                .flags = FINISH_FIRST },
    [ADMISSION] = { "waiting for room in the buffer", PHASE_WAITING, SOURCE, .begin = ask_for_room,
                    .finished = admitted, .event = "admitted" },
    [FIRST_LIMIT] = { "setting the first limit", PHASE_WAITING, SOURCE, .finished = first_limit, .timeout_ms = T(10),
                      .flags = FINISH_FIRST },
    [CAPABILITIES] = { "setting capabilities", PHASE_WAITING, SOURCE, "migrate-set-capabilities",
                       "{\"capabilities\":[" CAPABILITY("auto-converge") "," CAPABILITY(
                           "pause-before-switchover") "," CAPABILITY("zero-blocks") "," CAPABILITY("events") "]}",
                       .timeout_ms = T(10) },

    [OVERLAY_ROOM] = { "waiting for room on the volume", PHASE_WAITING, SOURCE, .needed = has_overlay,
                       .finished = volume_has_room },
    [OVERLAY_CREATE] = { "creating the overlay", PHASE_WAITING, SOURCE, .needed = has_overlay,
                         .begin = create_overlay,
                         .finished = overlay_created, .timeout_ms = T(20), .flags = FINISH_FIRST | EACH },
    [OVERLAY_PASS] = { "handing over the overlay", PHASE_WAITING, SOURCE, .needed = is_nameless,
                       .begin = open_overlay, .finished = pass_overlay, .makes = MADE_FDSET, .timeout_ms = T(10),
                       .flags = FINISH_FIRST | EACH },
    [OVERLAY_ADD] = { "opening the overlay", PHASE_WAITING, SOURCE, "blockdev-add", .needed = has_overlay,
                      .begin = put_overlay,
                      .makes = MADE_NODE, .timeout_ms = T(10), .flags = EACH },
    [SNAPSHOT] = { "putting the overlay on top", PHASE_WAITING, SOURCE, "transaction", .needed = has_overlay,
                   .begin = put_snapshots,
                   .finished = snapshot_taken,
                   .makes = MADE_SNAPSHOT, .timeout_ms = T(20), .flags = DRAINS | FINISH_FIRST, .event = "overlay in use" },
    [COPY] = { "copying the base", PHASE_BASE, SOURCE, .needed = not_copied, .begin = begin_copy, .finished = copied, .flags = EACH,
               .event = "base copied" },

    [TARGET_START] = { "starting the target", PHASE_BASE, TARGET, .begin = start_target, .finished = target_connected,
                       .timeout_ms = T(30) },
    [TARGET_EVENTS] = { "setting capabilities of the target", PHASE_BASE, TARGET, "migrate-set-capabilities",
                        "{\"capabilities\":[" CAPABILITY("events") "]}", .timeout_ms = T(10) },
    [TARGET_LIMITS] = { "setting the host's limits at the target", PHASE_BASE, TARGET, "block_set_io_throttle",
                        .needed = target_limits, .begin = put_target_limits, .timeout_ms = T(10), .flags = EACH },
    [NBD_SERVER] = { "starting the NBD server", PHASE_BASE, TARGET, "nbd-server-start", .begin = put_nbd_server,
                     .timeout_ms = T(10) },
    [NBD_EXPORT] = { "exporting the target's disk", PHASE_BASE, TARGET, "block-export-add",
                     "{\"id\":\"$D\",\"type\":\"nbd\",\"node-name\":\"$D\",\"writable\":true}", .timeout_ms = T(10),
                     .flags = EACH },
    [INCOMING] = { "letting the target listen", PHASE_BASE, TARGET, "migrate-incoming", .begin = put_incoming,
                   .timeout_ms = T(10) },

    [NBD_NODE] = { "connecting to the target's disk", PHASE_MIRROR, SOURCE, "blockdev-add", .begin = put_nbd_node,
                   .makes = MADE_NBD, .timeout_ms = T(60), .flags = EACH },
    [MIRROR] = { "starting the mirror", PHASE_MIRROR, SOURCE, "blockdev-mirror", .begin = put_mirror,
                 .finished = mirror_started, .makes = MADE_JOB, .timeout_ms = T(60), .flags = DRAINS | EACH },
    [READY] = { "sending the overlay", PHASE_MIRROR, SOURCE, .finished = job_ready, .flags = EACH,
                .event = "mirror ready" },

    [HOLD] = { "stopping the guest for its memory", PHASE_RAM, SOURCE, "stop", .needed = is_running, .begin = take_over,
               .finished = held, .timeout_ms = T(60), .flags = DRAINS },
    [MIGRATE] = { "sending the memory", PHASE_RAM, SOURCE, "migrate", .begin = put_migrate,
                  .finished = paused_for_switch, .makes = MADE_MIGRATE, .event = "stopped for the switch-over" },
    [JOB_CANCEL] = { "ending the mirror", PHASE_RAM, SOURCE, "block-job-cancel", DEVICE("$O"),
                     .finished = mirror_completed, .flags = DRAINS | EACH },
    [LIMITS_AGAIN] = { "setting the host's new limits at the target", PHASE_RAM, TARGET, "block_set_io_throttle",
                       .needed = target_limits, .begin = put_target_limits, .timeout_ms = T(10), .flags = EACH },
    [CONTINUE] = { "switching over", PHASE_RAM, SOURCE, "migrate-continue", "{\"state\":\"pre-switchover\"}",
                   .finished = migration_completed, .flags = NO_RETURN },
    [ARRIVAL] = { "arriving at the target", PHASE_TARGET, TARGET, "query-status", .finished = runs_at_target,
                  .timeout_ms = T(30), .flags = NO_RETURN, .event = "runs at the target" },
    [EXPORT_DELETE] = { "deleting the export", PHASE_TARGET, TARGET, "block-export-del",
                        "{\"id\":\"$D\",\"mode\":\"hard\"}", .finished = export_deleted, .timeout_ms = T(10),
                        .flags = NO_RETURN | EACH | TOLERANT },
    [NBD_STOP] = { "stopping the NBD server", PHASE_TARGET, TARGET, "nbd-server-stop", .timeout_ms = T(10),
                   .flags = NO_RETURN | TOLERANT },
    [SOURCE_QUIT] = { "ending the source", PHASE_TARGET, SOURCE, "quit", .finished = source_gone, .timeout_ms = T(10),
                      .flags = NO_RETURN | HANGS_UP | TOLERANT },
    [FORWARD_END] = { "moving", PHASE_TARGET, SOURCE, .timeout_ms = T(10), .flags = NO_RETURN },

    [BACK_MIGRATE] = { "cancelling the migration", PHASE_RAM, SOURCE, "migrate_cancel", .needed = made_migrate,
                       .timeout_ms = T(30) },
    /* Cancelled just before it pauses for the switch-over, QEMU 7.2 pauses all the same (migration_maybe_pause() looks
     * at the state too early) and waits for ever. This wakes it; anywhere else it is refused. */
    [BACK_WAKE] = { "waiting for the migration's end", PHASE_RAM, SOURCE, "migrate-continue",
                    "{\"state\":\"cancelling\"}", .needed = made_migrate, .finished = migration_over,
                    .unmakes = MADE_MIGRATE, .timeout_ms = T(30), .flags = TOLERANT },
    [BACK_HOLD] = { "stopping the guest for its mirror", PHASE_MIRROR, SOURCE, "stop", .needed = must_hold,
                    .begin = take_over, .timeout_ms = T(60), .flags = DRAINS },
    [BACK_JOB] = { "cancelling the mirror", PHASE_MIRROR, SOURCE, "block-job-cancel",
                   "{\"device\":\"$O\",\"force\":true}", .needed = made_job, .finished = job_over, .unmakes = MADE_JOB,
                   .flags = DRAINS | TOLERANT | EACH },
    [BACK_NBD] = { "disconnecting from the target's disk", PHASE_MIRROR, SOURCE, "blockdev-del",
                   "{\"node-name\":\"$N\"}", .needed = made_nbd, .unmakes = MADE_NBD, .timeout_ms = T(30),
                   .flags = EACH },
    [BACK_TARGET] = { "ending the target", PHASE_BASE, TARGET, .needed = made_target, .begin = end_target,
                      .finished = target_gone, .timeout_ms = T(10), .flags = HANGS_UP },
    [BACK_STATUS] = { "asking whether it was stopped for good", PHASE_RAM, SOURCE, "query-status",
                      .needed = was_migrating, .finished = found_handed_over, .timeout_ms = T(10) },
    [BACK_HANDED_OVER] = { "taking the guest back", PHASE_RAM, SOURCE, "cont", .needed = is_handed_over,
                           .timeout_ms = T(30) },
    [BACK_COMMIT] = { "merging the overlay back", PHASE_BASE, SOURCE, "block-commit", "{" JOB "}",
                      .needed = must_begin_merge, .begin = new_job, .makes = MADE_COMMIT, .flags = EACH },
    [BACK_READY] = { "waiting until the overlay is merged", PHASE_BASE, SOURCE, .needed = must_merge,
                     .begin = under_control, .finished = job_ready, .flags = EACH },
    [BACK_COMPLETE] = { "completing the merge", PHASE_BASE, SOURCE, "block-job-complete", DEVICE("$O"),
                        .needed = must_merge, .finished = job_completed, .unmakes = MADE_SNAPSHOT | MADE_COMMIT,
                        .timeout_ms = T(60), .flags = EACH, .event = "merged back" },
    [BACK_NODE] = { "closing the overlay", PHASE_BASE, SOURCE, "blockdev-del", "{\"node-name\":\"$O\"}",
                    .needed = made_node, .unmakes = MADE_NODE, .timeout_ms = T(10), .flags = EACH },
    [BACK_FDSET] = { "removing the overlay's descriptor", PHASE_BASE, SOURCE, "remove-fd", .needed = made_fdset,
                     .begin = put_fdset, .unmakes = MADE_FDSET, .timeout_ms = T(10), .flags = TOLERANT | EACH },
    [BACK_GO_ON] = { "beginning again", PHASE_BASE, SOURCE, .needed = goes_on, .finished = taken_back,
                     .timeout_ms = T(10) },
    [BACK_BUFFER] = { "leaving the buffer", PHASE_BASE, SOURCE, .finished = left_buffer, .timeout_ms = T(10) },
    [BACK_RESTORE] = { "restoring the host's limits", PHASE_BASE, SOURCE, .needed = learnt, .begin = begin_restore,
                       .finished = pumped, .timeout_ms = T(30), .event = "host's limits restored" },
    [BACK_RUN] = { "letting the guest go on", PHASE_REVERTED, SOURCE, "cont", .needed = is_stopped,
                   .timeout_ms = T(10) },

    [GOING_ON] = { "watching it go on", PHASE_TARGET, HOME, .begin = begin_going_on, .finished = went_on,
                   .timeout_ms = T(30), .flags = NO_RETURN },
    [LIMITS_CHECK] = { "checking the host's limits", PHASE_TARGET, HOME, "query-block", .finished = compare_host_limits,
                       .timeout_ms = T(10), .flags = NO_RETURN },
    [STOPPING] = { "stopping it to check its disk", PHASE_TARGET, HOME, "stop", .finished = stopped_for_good,
                   .timeout_ms = T(30), .flags = NO_RETURN },
    [QUITTING] = { "ending it", PHASE_TARGET, HOME, "quit", .finished = home_gone, .timeout_ms = T(10),
                   .flags = NO_RETURN | HANGS_UP | TOLERANT },
    [ENDED] = { "over", PHASE_TARGET, HOME, .flags = NO_RETURN },
};
/* clang-format on */

/* Walking the table */

static int32_t side_of(const struct migration *m, int32_t side)
{
    return side == HOME ? (int32_t)m->home : side;
}

static struct monitor *monitor_of(struct migration *m, int32_t side)
{
    return &m->place[side_of(m, side)].monitor;
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

    if (!(steps[m->at].flags & EACH) || next == m->load->disks)
        return false;
    go_to(m, m->at);
    m->d = next;
    return true;
}

/* Neither here nor there, or nobody can say: the worst end. */
static void give_in(struct migration *m, uint64_t now)
{
    say(m, now, "lost");
    m->outcome = OUTCOME_LOST;
    m->ended_ns = now;
    migration_release(m);
    go_to(m, ENDED);
}

static void turn_back(struct migration *m, uint64_t now)
{
    if (made_any(m, UINT32_MAX) || m->at > GATE)
        say(m, now, m->giving_up ? "going back to the source" : "failed: going back to the source");
    m->giving_up = true;
    for (uint32_t k = 0; k < m->load->disks; k++)
        drop_flow(m, &m->disk[k].copy);
    for (int who = 0; who < CALL_COUNT; who++) /* a refused step leaves its answer */
        if (who != CALL_DISK && m->place[SOURCE].monitor.call[who].state != CALL_WAITING)
            monitor_taken(&m->place[SOURCE].monitor, who);
    go_to(m, BACK_MIGRATE);
}

static void step_failed(struct migration *m, uint64_t now)
{
    if (m->at <= ASK_END || (m->home == SOURCE && (m->place[SOURCE].monitor.lost || !m->place[SOURCE].started)))
        give_in(m, now);
    else if (m->blocked)
        go_to(m, QUITTING); /* nothing was begun, nothing is to be checked */
    else if (m->at < ARRIVAL)
        turn_back(m, now);
    else if (m->at > BACK_RUN && !m->place[m->home].monitor.lost && m->at < QUITTING)
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
        return GATE;
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
    if (m->home == SOURCE && !strcmp(m->place[TARGET].monitor.facts.migration, "completed"))
        m->home = TARGET;
    if (m->stopped)
        return QUITTING;
    if (m->home == TARGET)
        return ARRIVAL;
    if (!m->known)
        return SOURCE_START;
    say(m, now, m->giving_up ? "after a restart: still going back" : "after a restart: going on");
    return BACK_MIGRATE;
}

static void next_step(struct migration *m, uint64_t now)
{
    const struct step *s = &steps[m->at];

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
    else if (m->at == BACK_GO_ON)
        go_to(m, go_on_at(m));
    else
        go_to(m, m->at + 1 == FORWARD_END ? GOING_ON : m->at + 1);
}

static int enter(struct migration *m, uint64_t now)
{
    const struct step *s = &steps[m->at];

    m->entered = true;
    m->before_drain_bytes = throttle_file_bytes(&m->throttle);
    m->deadline_ns = now + (s->timeout_ms ? s->timeout_ms : m->site->transfer_ms) * MS;
    put_arguments(m, s->arguments ? s->arguments : "");
    return s->begin ? s->begin(m, now) : 0;
}

static void ask(struct migration *m, const struct step *s, uint64_t now)
{
    m->asked = true;
    monitor_send(monitor_of(m, s->side), CALL_STEP, s->command, m->arguments[0] ? m->arguments : NULL, now, 60000);
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
    /* No answer is none, even when none can come any more: is_cut_off() sees to that. The target may tell instead. */
    if (s->command && call->state == CALL_WAITING && !(s->flags & HANGS_UP) &&
        !(m->at == CONTINUE && monitor_of(m, s->side)->lost))
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

/* The source died while it handed over: if it sent everything before, the target says so soon. */
static bool may_have_arrived(const struct migration *m, uint64_t now)
{
    return m->at == CONTINUE && m->asked && !m->place[TARGET].monitor.lost &&
           now < m->place[SOURCE].monitor.lost_ns + 2000 * MS;
}

static bool is_cut_off(struct migration *m, const struct step *s, uint64_t now)
{
    for (int side = SOURCE; side <= TARGET; side++) {
        struct place *p = &m->place[side];
        bool expected = s->flags & HANGS_UP && side_of(m, s->side) == side;
        bool needed = m->home == (enum side)side || (side == TARGET && m->at > ASK_END && m->at < BACK_MIGRATE);
        char why[FAIL_SIZE];

        if (!p->started || expected || !needed || !is_dead(p, now, why))
            continue;
        if (side == SOURCE && may_have_arrived(m, now))
            continue;
        failed(m, "%s: %s", side == SOURCE ? "source" : "target", why);
        return true;
    }
    return false;
}

static bool may_turn_back(const struct migration *m, const struct step *s)
{
    return m->giving_up && m->home == SOURCE && m->at < FORWARD_END && !(s->flags & (NO_RETURN | FINISH_FIRST)) &&
           m->place[SOURCE].monitor.call[CALL_STEP].state != CALL_WAITING;
}

/* One turn of the current step; true: there may be more to do at once. */
static bool turn(struct migration *m, uint64_t now)
{
    const struct step *s = &steps[m->at];
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
        turn_back(m, now);
        return true;
    }
    if (!m->entered && s->needed && !s->needed(m)) {
        if (!go_to_next_disk(m))
            go_to(m, m->at + 1);
        return true;
    }
    rc = !m->entered && enter(m, now) ? FAILED : look(m, s, now);
    if (rc == WAIT && now >= m->deadline_ns)
        rc = failed(m, "took more than %llu s", U((s->timeout_ms ? s->timeout_ms : m->site->transfer_ms) / 1000));
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

/* What nobody asked for, and everybody should hear. */
static void notice(struct migration *m, uint64_t now)
{
    uint32_t errors = 0;

    for (int side = SOURCE; side <= TARGET; side++)
        errors += m->place[side].monitor.facts.io_errors;
    if (errors && !m->io_errors)
        say(m, now, "the guest was told of an I/O error");
    m->io_errors = errors > m->io_errors ? errors : m->io_errors; /* a monitor that is closed forgets nothing */
    if (m->throttle.taken_over == m->taken_over)
        return;
    m->taken_over = m->throttle.taken_over;
    say(m, now, "another hand changed the limits: they are the host's from now on");
    for (uint32_t k = 0; k < m->load->disks; k++)
        migbuf_disk_host(m->throttle.disk, vm_disk_node(k), &m->disk[k].host);
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
            monitor_open(&m->place[side].monitor, m->place[side].vm.qmp, now, 20000);
    expect_jobs(m);
    m->throttle.hands_off = true; /* it may be at the target */
    for (uint32_t k = 0; k < m->load->disks && m->throttle.disk; k++)
        set_geometry(m, k, &m->throttle.geometry[k]);
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

/* Of the base until it is copied, then of the overlay. */
static void tell_what_is_left(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        const struct disk *d = &m->disk[k];
        uint64_t bytes = 0, sent;

        if (d->copy >= 0) {
            bytes = link_flow(link_of(m), d->copy).remaining_bytes;
        } else if (!d->copied) {
            bytes = m->site->disk_bytes;
        } else if (m->at >= MIRROR && m->at <= READY && !migbuf_cow_file_bytes(m->throttle.overlay_fd[k], &bytes, NULL)) {
            sent = d->nbd >= 0 ? link_flow(link_of(m), d->nbd).sent_bytes : 0;
            bytes = bytes > sent ? bytes - sent : 0;
        }
        m->throttle.left_bytes[k] = bytes;
    }
}

void migration_throttle(struct migration *m, uint64_t room_bytes, uint64_t now)
{
    char error[FAIL_SIZE];

    notice(m, now);
    tell_what_is_left(m);
    if (!m->throttle.added || m->home == TARGET || !m->place[SOURCE].started || m->place[SOURCE].monitor.lost)
        return;
    if (throttle_pump(m->site->control, &m->throttle, now, error) < 0)
        say(m, now, error); /* what was in force still is; the next tick decides again */
    watch_pump(&m->throttle.watch, &m->place[SOURCE].monitor, now);
    throttle_run_or_stop(m->site->control, &m->throttle, room_bytes, now);
}

/* What others want to know */

void migration_init(struct migration *m, uint32_t index, const struct load *load, struct site *site)
{
    static const char *const name[] = { "source", "target" };

    *m = (struct migration){ .index = index, .load = load, .site = site, .ram = -1, .at = SOURCE_START };
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

void migration_open_window(struct migration *m)
{
    for (uint32_t k = 0; k < m->load->disks; k++) {
        m->disk[k].window_from = m->disk[k].status.acknowledged;
        m->disk[k].window_from_ms = m->disk[k].status.uptime_ms;
    }
}

void migration_close_window(struct migration *m)
{
    uint64_t bytes = m->load->writer.sectors * UINT64_C(512);

    m->delivered_bytes = m->demanded_bytes = 0;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        const struct disk *d = &m->disk[k];

        m->delivered_bytes += (d->status.acknowledged - d->window_from) * bytes;
        m->demanded_bytes += writer_demand(&m->load->writer, d->window_from_ms, m->site->window_ms) * bytes;
    }
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
        fail(m->error, "%s, %s: %s", m->load->name, steps[m->at].name, why);
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
    return m->home == TARGET || (steps[m->at].flags & NO_RETURN);
}

void migration_release(struct migration *m)
{
    drop_flows(m);
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
    return steps[m->at].name;
}

const char *migration_find_step(const char *name, size_t length)
{
    for (int at = 0; at < ENDED; at++)
        if (strlen(steps[at].name) == length && !strncmp(steps[at].name, name, length))
            return steps[at].name;
    return NULL;
}

int32_t migration_phase(const struct migration *m)
{
    if (m->outcome == OUTCOME_LOST)
        return PHASE_FAILED;
    if (m->at >= GOING_ON && m->home == SOURCE)
        return PHASE_REVERTED;
    return steps[m->at].phase;
}

/* Of all disks together; one that is not being sent has been, or is yet to be. */
uint32_t migration_progress_permille(const struct migration *m)
{
    bool mirror = m->at >= NBD_NODE;
    uint64_t all = mirror && has_overlay(m) ? m->throttle.file_bytes : m->load->disks * m->site->disk_bytes, sent = 0;

    if (m->at >= ARRIVAL)
        return m->at < BACK_MIGRATE || m->at >= GOING_ON ? 1000 : 0;
    if (m->at > READY)
        return 1000;
    if (m->at < COPY || !all)
        return 0;
    for (uint32_t k = 0; k < m->load->disks; k++) {
        int flow = mirror ? m->disk[k].nbd : m->disk[k].copy;

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
