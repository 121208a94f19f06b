/* SPDX-License-Identifier: MIT */
/* merge: any limits of two disks, any of ours. What QEMU refuses (util/throttle.c, throttle_is_valid) is written down here. */
#include "../../lib/throttle_config.c"
#include "any.h"

static struct migbuf_throttle_config any_config(void)
{
    struct migbuf_throttle_config c = { .iops_size = nondet_u64() };

    c.bps = nondet_u64(), c.bps_rd = nondet_u64(), c.bps_wr = nondet_u64();
    c.iops = nondet_u64(), c.iops_rd = nondet_u64(), c.iops_wr = nondet_u64();
    c.bps_max = nondet_u64(), c.bps_rd_max = nondet_u64(), c.bps_wr_max = nondet_u64();
    c.iops_max = nondet_u64(), c.iops_rd_max = nondet_u64(), c.iops_wr_max = nondet_u64();
    return c;
}

/* Of one kind: bytes or requests. */
static int taken(uint64_t total, uint64_t rd, uint64_t wr, uint64_t total_max, uint64_t rd_max, uint64_t wr_max)
{
    const uint64_t most = MIGBUF__THROTTLE_VALUE_MAX;

    if (total > most || rd > most || wr > most || total_max > most || rd_max > most || wr_max > most)
        return 0;
    if ((total && (rd || wr)) || (total_max && (rd_max || wr_max)))
        return 0;
    return !(total_max && (!total || total_max < total)) && !(rd_max && (!rd || rd_max < rd)) && !(wr_max && (!wr || wr_max < wr));
}

static int qemu_takes(const struct migbuf_throttle_config *c)
{
    return taken(c->bps, c->bps_rd, c->bps_wr, c->bps_max, c->bps_rd_max, c->bps_wr_max) &&
           taken(c->iops, c->iops_rd, c->iops_wr, c->iops_max, c->iops_rd_max, c->iops_wr_max) &&
           !(c->iops_size && !c->iops && !c->iops_rd && !c->iops_wr);
}

static int not_above(uint64_t merged, uint64_t host)
{
    return !host || (merged && merged <= host);
}

/* Of one kind: no total is exceeded by its parts, each rate is a limit still. T = 1 cannot be split. */
static void no_more_than(uint64_t host_total, uint64_t total, uint64_t rd, uint64_t wr)
{
    if (host_total)
        prove(total ? total <= host_total : rd && wr && (rd + wr <= host_total || (host_total == 1 && rd == 1 && wr == 1)),
              "a total is kept, in one piece or in two");
}

void merge(void)
{
    struct migbuf_throttle_config host[DISKS], m;
    struct migbuf_limits ours = { .iops_wr = nondet_u64(), .bps_wr = nondet_u64() };

    for (int k = 0; k < DISKS; k++) {
        host[k] = any_config();
        suppose(qemu_takes(&host[k])); /* they were in force */
        host[k].iops_size = 0;         /* units have a proof of their own */
    }
    if (migbuf_limits_merge(host, DISKS, &ours, &m))
        return;
    prove(qemu_takes(&m), "QEMU takes it");
    prove(not_above(m.bps_wr, ours.bps_wr) && not_above(m.iops_wr, ours.iops_wr), "writes are not above ours");
    prove(!(ours.bps_wr && m.bps_wr_max) && !(ours.iops_wr && m.iops_wr_max), "and go around it by no burst");
    for (int k = 0; k < DISKS; k++) {
        prove(not_above(m.bps_wr, host[k].bps_wr) && not_above(m.iops_wr, host[k].iops_wr), "nor above the host's");
        prove(not_above(m.bps_rd, host[k].bps_rd) && not_above(m.iops_rd, host[k].iops_rd), "reads are not above the host's");
        no_more_than(host[k].bps, m.bps, m.bps_rd, m.bps_wr);
        no_more_than(host[k].iops, m.iops, m.iops_rd, m.iops_wr);
    }
}

/* One disk and any units that are powers of two up to 2 MiB: its requests are never counted less often than before. */
void units(void)
{
    struct migbuf_throttle_config host = { .iops_wr = nondet_u64(), .iops_size = SIZE }, m;
    struct migbuf_limits ours = { .iops_wr = nondet_u64(), .iops_size = UNIT };

    suppose(qemu_takes(&host));
    if (migbuf_limits_merge(&host, 1, &ours, &m))
        return;
    prove(qemu_takes(&m), "QEMU takes it");
    prove(not_above(m.iops_wr, host.iops_wr) && not_above(m.iops_wr, ours.iops_wr), "not above either");
}
