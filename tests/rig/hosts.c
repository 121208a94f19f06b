/* SPDX-License-Identifier: MIT */
/*
 * --policy lxd and bradford: what hosts do today without this library, on the same guests.
 *
 * lxd: each VM has a volume of its own for its overlay (LXD's size.state), and nothing limits the guest. One that finds its
 * volume full stands, and the migration does not know: the base goes on being copied, and the write is made again at the
 * target. The volumes together are as large as the buffer unless a size is given. (On a pool with quotas the guest is
 * told of an I/O error instead; that is not shown.)
 *
 * bradford: Bradford and others (VEE 2007) delay each write by a constant once a guest has made a threshold of writes, and by
 * more at the next threshold. Our reading: twice as much each time. QEMU cannot delay a write, but a limit of 1 / delay
 * writes a second is the same where one waits for the other: each takes its delay. QEMU knows none below one a second. What
 * is counted are the writes that QEMU is asked for since the overlay is in use, looked at each tick. A full buffer
 * stops the guest until there is room.
 */
#include "rig.h"
#include "numbers.h"
#include "volume.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct vm_host {
    bool made;            /* lxd: its volume */
    bool counts;          /* bradford: from how many writes on */
    uint64_t first_writes;
    uint64_t writes_per_s; /* as set last; 0: not yet */
};
static struct vm_host hosts[OPTIONS_VMS_MAX];

/* Read from what follows "bradford". */
#define BRADFORD_WRITES UINT64_C(16384)
#define BRADFORD_DELAY_US UINT64_C(2048)

/* bradford, or bradford:WRITES:MICROSECONDS */
static bool read_bradford(const char *text, uint64_t *writes, uint64_t *delay_us)
{
    int used = 0;

    *writes = BRADFORD_WRITES;
    *delay_us = BRADFORD_DELAY_US;
    if (!strcmp(text, "bradford"))
        return true;
    return sscanf(text, "bradford:%9" SCNu64 ":%9" SCNu64 "%n", writes, delay_us, &used) == 2 && !text[used] && *writes && *delay_us;
}

bool hosts_read(struct options *o, const char *text)
{
    uint64_t writes, delay_us;

    if (!strcmp(text, "lxd") || (!strncmp(text, "lxd:", 4) && read_size(text + 4, 1024, UINT64_C(1) << 20, UINT64_C(1) << 40, &o->fixed_bytes_per_s)))
        o->policy = POLICY_LXD;
    else if (read_bradford(text, &writes, &delay_us))
        o->policy = POLICY_BRADFORD;
    else
        return false;
    o->added[RIG_HOST] = text;
    return true;
}

void hosts_begin(void)
{
    memset(hosts, 0, sizeof hosts);
}

/* A file system that gives ENOSPC when it is full, as one of LVM's or Ceph's does. */
static int make_volume(const struct run *r, struct migration *m, char error[FAIL_SIZE])
{
    const char *given = strchr(r->options->added[RIG_HOST], ':');
    uint64_t bytes = given ? r->options->fixed_bytes_per_s : r->omega_bytes / r->vms;
    char path[sizeof r->volume.path + 16], size[48];

    snprintf(path, sizeof path, "%s/%u", r->volume.path, m->index);
    snprintf(size, sizeof size, "size=%" PRIu64 ",mode=700", bytes);
    if (mkdir(path, 0700) || mount("none", path, "tmpfs", MS_NODEV | MS_NOSUID, size))
        return fail(error, "a volume of its own at %s: %s", path, strerror(errno));
    for (uint32_t k = 0; k < m->load->disks; k++)
        snprintf(m->disk[k].overlay, sizeof m->disk[k].overlay, "%s/%u.qcow2", path, k);
    return 0;
}

static void delay_writes(const struct run *r, struct migration *m, struct vm_host *h)
{
    struct throttle *t = &m->throttle;
    uint64_t writes = 0, threshold, delay_us, stage, writes_per_s;
    struct migbuf_limits limits = { 0 };

    for (uint32_t k = 0; k < t->disks; k++)
        writes += t->watch.disk[k].writes;
    if (!h->counts) {
        h->counts = true;
        h->first_writes = writes;
    }
    read_bradford(r->options->added[RIG_HOST], &threshold, &delay_us);
    stage = (writes - h->first_writes) / threshold;
    if (!stage)
        return;
    delay_us <<= stage < 32 ? stage - 1 : 31;
    writes_per_s = delay_us < 1000000 ? 1000000 / delay_us : 1;
    if (writes_per_s == h->writes_per_s)
        return;
    limits.iops_wr = writes_per_s;
    if (!migbuf_disk_set(t->disk, &limits))
        h->writes_per_s = writes_per_s;
}

void hosts_turn(const struct run *r, struct migration *m)
{
    struct vm_host *h = &hosts[m->index];
    char error[FAIL_SIZE];

    if (r->policy == POLICY_LXD && !h->made) {
        h->made = true;
        if (make_volume(r, m, error))
            migration_give_up(m, error);
    }
    if (r->policy == POLICY_BRADFORD && m->throttle.added && m->overlay_ns && m->home == SOURCE)
        delay_writes(r, m, h);
}
