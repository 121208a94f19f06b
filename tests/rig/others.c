/* SPDX-License-Identifier: MIT */
/* --ram-policy: other people's rules for memory (migbuf/downtime.h) decide, in the place of the library's own. Each knows no
 * bound but its own, so everything is agreed to; what QEMU is told still goes through the machine. */
#include "rig.h"
#include "migbuf/downtime.h"
#include <string.h>

#define MS UINT64_C(1000000)
#define POLL_MS 100 /* CloudStack's; the others' is a multiple of it */

enum { OURS, NOVA, CLOUDSTACK, KUBEVIRT, PROXMOX, QEMU };
static const char *const name[] = { "ours", "nova", "cloudstack", "kubevirt", "proxmox", "qemu" };
#define COUNT (sizeof name / sizeof *name)

/* Of one VM: what its rule remembers. */
struct rule {
    struct migbuf_downtime_doubling doubling;
    struct migbuf_downtime_stall stall;
    struct migbuf_downtime_trigger trigger;
    uint64_t polled_ns, rounds, round_ms, round_sent_bytes, sent_bytes;
    bool limit_set;
};
static struct rule rules[OPTIONS_VMS_MAX];

static size_t policy_of(const struct run *r)
{
    size_t k = 0;

    while (r->options->added[RIG_RAM_POLICY] && k < COUNT && strcmp(name[k], r->options->added[RIG_RAM_POLICY]))
        k++;
    return k == COUNT ? OURS : k;
}

bool others_known(const char *text)
{
    for (size_t k = 0; k < COUNT; k++)
        if (!strcmp(name[k], text))
            return true;
    return false;
}

void others_begin(void)
{
    memset(rules, 0, sizeof rules);
}

/* What nobody but the rule decides must not be refused. */
static void agree(struct run *r)
{
    struct migbuf_agreement *a = &r->site.agreement;

    r->site.host_decides = true;
    a->most_ms = MIGBUF_RAM_LIMIT_MOST_MS;
    a->force = 1;
    a->throttle_most_percent = policy_of(r) == QEMU ? 99 : 0;
}

static double gb_of(const struct migration *m)
{
    uint64_t disk_bytes[VM_DISKS_MAX];
    double gb = 0;

    for (uint32_t k = 0; k < m->load->disks; k++)
        disk_bytes[k] = m->site->disk_bytes;
    migbuf_downtime_nova_gb(writer_ram_mib(&m->load->writer), disk_bytes, m->load->disks, &gb);
    return gb;
}

/* QEMU's own, with 300 ms from the beginning. The machine has armed it so that it waits to be told: by its own rule. */
static struct migbuf_ram_decision auto_converge(const struct migration *m, struct rule *x)
{
    const struct migbuf_ram_report *last = &m->memory.last;
    struct migbuf_ram_decision d = { .action = MIGBUF_RAM_KEEP, .limit_ms = 300 };
    uint64_t dirty_bytes = last->dirty_pages_per_s * last->page_bytes * (last->total_ms - x->round_ms) / 1000;
    int percent;

    if (m->memory.info.rounds == x->rounds)
        return d;
    x->trigger.threshold = 50, x->trigger.initial = 20, x->trigger.increment = 10, x->trigger.most = 99;
    percent = migbuf_downtime_trigger(&x->trigger, dirty_bytes, last->ram_transferred_bytes - x->round_sent_bytes);
    x->round_ms = last->total_ms;
    x->round_sent_bytes = last->ram_transferred_bytes;
    if (percent > 0) {
        d.action = MIGBUF_RAM_THROTTLE;
        d.throttle_percent = (uint32_t)percent;
    }
    return d;
}

/* What the rule says now, as the machine takes it; action 0: nothing. */
static struct migbuf_ram_decision decide(const struct run *r, const struct migration *m, struct rule *x)
{
    const struct migbuf_downtime_cloudstack cloudstack = { .downtime_ms = 300, .pauseafter_ms = 30000, .wait_s = 3600 };
    const struct migbuf_ram_report *last = &m->memory.last;
    struct migbuf_ram_decision d = { .action = 0 };
    uint64_t seconds = 0;
    bool running = m->place[SOURCE].monitor.facts.running, postcopy = m->memory.info.armed_postcopy;
    double elapsed_s = (double)last->total_ms / 1000;

    switch (policy_of(r)) {
    case NOVA:
        migbuf_downtime_nova(500, 10, 75, gb_of(m), elapsed_s, &d.limit_ms);
        migbuf_downtime_nova_timeout(800, gb_of(m), &seconds);
        d.action = migbuf_downtime_nova_action(seconds, elapsed_s, 0, postcopy, last->phase);
        d.action = !d.action && d.limit_ms ? MIGBUF_RAM_DOWNTIME : d.action;
        break;
    case CLOUDSTACK:
        d.action = migbuf_downtime_cloudstack(&cloudstack, last->total_ms, running, x->limit_set);
        d.limit_ms = d.action == MIGBUF_RAM_DOWNTIME ? cloudstack.downtime_ms : 0;
        x->limit_set |= d.action == MIGBUF_RAM_DOWNTIME;
        break;
    case KUBEVIRT:
        if (m->memory.info.rounds == x->rounds || migbuf_downtime_kubevirt(&x->stall, last->total_ms, last->ram_remaining_bytes) != 1)
            break;
        d.action = migbuf_downtime_kubevirt_action(last->ram_remaining_bytes, last->mbps > 0 ? last->mbps * 125000 : 1, 1, postcopy);
        d.limit_ms = d.action == MIGBUF_RAM_DOWNTIME ? 900 : 0;
        break;
    case PROXMOX:
        if (last->ram_transferred_bytes != x->sent_bytes && !migbuf_downtime_proxmox(&x->doubling, last->ram_remaining_bytes, &d.limit_ms))
            d.action = MIGBUF_RAM_DOWNTIME;
        x->sent_bytes = last->ram_transferred_bytes;
        break;
    default:
        d = auto_converge(m, x);
        break;
    }
    x->rounds = m->memory.info.rounds;
    return d;
}

void others_turn(struct run *r, struct migration *m, uint64_t now)
{
    struct rule *x = &rules[m->index];
    uint64_t every_ms = policy_of(r) == PROXMOX ? 10 * POLL_MS : POLL_MS;
    struct migbuf_ram_decision d;

    if (policy_of(r) == OURS)
        return;
    agree(r);
    if (!m->memory.ram || m->memory.info.state != MIGBUF_RAM_STATE_RUNNING ||
        now < x->polled_ns + every_ms * MS)
        return;
    x->polled_ns = now;
    d = decide(r, m, x);
    if (d.action == MIGBUF_RAM_STOP) { /* the machine knows something better, and refuses it */
        if (m->place[SOURCE].monitor.call[CALL_GUEST].state == CALL_IDLE)
            monitor_send(&m->place[SOURCE].monitor, CALL_GUEST, "stop", NULL, now);
    } else if (d.action) {
        migbuf_ram_apply(m->memory.ram, &d); /* refused between two phases: it is decided again */
    }
}
