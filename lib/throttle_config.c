/* SPDX-License-Identifier: MIT */
/* throttle_config: what can be said of QEMU's throttle configurations without sending any: the same, lower, valid, and
 * the strictest of several with ours laid over it. Knows no command. */
#include "throttle_config.h"
#include "memory.h"
#include "text.h"
#include <string.h>

#define FIELD(f) offsetof(struct migbuf_throttle_config, f), #f
const struct migbuf__config_field migbuf__config_field[MIGBUF__CONFIG_FIELDS] = {
    { FIELD(bps), "bps-total", 1, 0 },
    { FIELD(bps_rd), "bps-read", 1, 0 },
    { FIELD(bps_wr), "bps-write", 1, 0 },
    { FIELD(iops), "iops-total", 1, 0 },
    { FIELD(iops_rd), "iops-read", 1, 0 },
    { FIELD(iops_wr), "iops-write", 1, 0 },
    { FIELD(bps_max), "bps-total-max", 0, 0 },
    { FIELD(bps_rd_max), "bps-read-max", 0, 0 },
    { FIELD(bps_wr_max), "bps-write-max", 0, 0 },
    { FIELD(iops_max), "iops-total-max", 0, 0 },
    { FIELD(iops_rd_max), "iops-read-max", 0, 0 },
    { FIELD(iops_wr_max), "iops-write-max", 0, 0 },
    { FIELD(bps_max_length), "bps-total-max-length", 0, 1 },
    { FIELD(bps_rd_max_length), "bps-read-max-length", 0, 1 },
    { FIELD(bps_wr_max_length), "bps-write-max-length", 0, 1 },
    { FIELD(iops_max_length), "iops-total-max-length", 0, 1 },
    { FIELD(iops_rd_max_length), "iops-read-max-length", 0, 1 },
    { FIELD(iops_wr_max_length), "iops-write-max-length", 0, 1 },
    { FIELD(iops_size), "iops-size", 0, 0 },
};

#define EACH_FIELD(f) \
    const struct migbuf__config_field *f = migbuf__config_field; f < migbuf__config_field + MIGBUF__CONFIG_FIELDS; f++

uint64_t migbuf__config_value(const struct migbuf_throttle_config *c, const struct migbuf__config_field *f)
{
    uint64_t value;

    memcpy(&value, (const char *)c + f->offset, sizeof value);
    return value;
}

void migbuf__config_put(struct migbuf_throttle_config *c, const struct migbuf__config_field *f, uint64_t value)
{
    memcpy((char *)c + f->offset, &value, sizeof value);
}

static int is_taken_by_qemu(const struct migbuf_throttle_config *c)
{
    for (EACH_FIELD(f))
        if (migbuf__config_value(c, f) > MIGBUF__THROTTLE_VALUE_MAX)
            return 0;
    return 1;
}

int migbuf__config_check(const struct migbuf_throttle_config *c)
{
    if (!memchr(c->group, 0, sizeof c->group) || !migbuf__is_utf8(c->group))
        return MIGBUF_E_INVALID;
    return is_taken_by_qemu(c) ? 0 : MIGBUF_E_RANGE;
}

static uint64_t comparable(const struct migbuf_throttle_config *c, const struct migbuf__config_field *f)
{
    uint64_t value = migbuf__config_value(c, f);

    return f->is_length && value == 1 ? 0 : value;
}

int migbuf__config_same(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
{
    for (EACH_FIELD(f))
        if (comparable(a, f) != comparable(b, f))
            return 0;
    return 1;
}

int migbuf__config_is_lower(const struct migbuf_throttle_config *to, const struct migbuf_throttle_config *from)
{
    for (EACH_FIELD(f)) {
        uint64_t a = comparable(to, f), b = comparable(from, f);

        if (f->is_length || f->offset == offsetof(struct migbuf_throttle_config, iops_size)) {
            if (a != b)
                return 0;
        } else if (b && (!a || a > b)) {
            return 0;
        }
    }
    return 1;
}

int migbuf__config_is_none(const struct migbuf_throttle_config *c)
{
    return !(c->bps || c->bps_rd || c->bps_wr || c->iops || c->iops_rd || c->iops_wr);
}

int migbuf__config_is_six_rates(const struct migbuf_throttle_config *c)
{
    struct migbuf_throttle_config rates = { .bps_rd = c->bps_rd, .bps_wr = c->bps_wr, .iops_rd = c->iops_rd,
                                            .iops_wr = c->iops_wr };

    return migbuf__config_same(&rates, c);
}

/* Merging. Bytes and requests follow the same rules, so both are looked at as this. */

struct bucket {
    uint64_t *rate, *most, *length_s; /* average, burst rate, how long a burst may last */
};

struct kind {
    struct bucket total, read, write;
};

static struct kind bytes_of(struct migbuf_throttle_config *c)
{
    return (struct kind){ { &c->bps, &c->bps_max, &c->bps_max_length },
                          { &c->bps_rd, &c->bps_rd_max, &c->bps_rd_max_length },
                          { &c->bps_wr, &c->bps_wr_max, &c->bps_wr_max_length } };
}

static struct kind requests_of(struct migbuf_throttle_config *c)
{
    return (struct kind){ { &c->iops, &c->iops_max, &c->iops_max_length },
                          { &c->iops_rd, &c->iops_rd_max, &c->iops_rd_max_length },
                          { &c->iops_wr, &c->iops_wr_max, &c->iops_wr_max_length } };
}

static uint64_t lower_limit(uint64_t a, uint64_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

static void drop_burst(struct bucket b)
{
    *b.most = *b.length_s = 0;
}

/* QEMU refuses a total beside a read or write limit of the same kind. A total becomes two parts that never add up to more;
 * the write's part is `write_limit`, where that is less than half. Bursts cannot be divided and are dropped. */
static void split_total(struct kind k, uint64_t write_limit)
{
    uint64_t total = *k.total.rate, half = total / 2 ? total / 2 : 1, write = lower_limit(write_limit, half);
    uint64_t read = total > write ? total - write : 1;

    if (!total)
        return;
    *k.total.rate = 0;
    drop_burst(k.total);
    *k.write.rate = lower_limit(*k.write.rate, write);
    *k.read.rate = lower_limit(*k.read.rate, read);
    drop_burst(k.write);
    drop_burst(k.read);
}

/* `to` becomes what both allow. Without a burst of its own a disk is allowed none. */
static void take_stricter(struct bucket to, struct bucket other)
{
    uint64_t a = *to.length_s ? *to.length_s : 1, b = *other.length_s ? *other.length_s : 1;

    if (!*other.rate)
        return;
    if (!*to.rate) {
        *to.rate = *other.rate;
        *to.most = *other.most;
        *to.length_s = *other.length_s;
        return;
    }
    *to.rate = lower_limit(*to.rate, *other.rate);
    if (!*to.most || !*other.most) {
        drop_burst(to);
        return;
    }
    *to.most = lower_limit(*to.most, *other.most);
    *to.length_s = a < b ? a : b;
}

static void take_stricter_kind(struct kind to, struct kind other, uint64_t write_limit)
{
    if ((*to.total.rate || *other.total.rate) &&
        (*to.read.rate || *to.write.rate || *other.read.rate || *other.write.rate)) {
        split_total(to, write_limit);
        split_total(other, write_limit);
    }
    take_stricter(to.total, other.total);
    take_stricter(to.read, other.read);
    take_stricter(to.write, other.write);
}

/* A rate in units that became `coarser` times larger; 0 stays "unlimited", anything else stays a limit. */
static uint64_t less_often(uint64_t rate, uint64_t coarser)
{
    return rate && rate < coarser ? 1 : rate / coarser;
}

static void use_unit(struct migbuf_throttle_config *m, uint64_t unit)
{
    uint64_t coarser = m->iops_size && m->iops_size < unit ? unit / m->iops_size + (unit % m->iops_size != 0) : 1;

    m->iops = less_often(m->iops, coarser);
    m->iops_rd = less_often(m->iops_rd, coarser);
    m->iops_wr = less_often(m->iops_wr, coarser);
    m->iops_max = less_often(m->iops_max, coarser);
    m->iops_rd_max = less_often(m->iops_rd_max, coarser);
    m->iops_wr_max = less_often(m->iops_wr_max, coarser);
    m->iops_size = unit;
}

static void lay_over(struct kind k, uint64_t ours)
{
    if (!ours)
        return;
    split_total(k, ours);
    *k.write.rate = lower_limit(*k.write.rate, ours);
    drop_burst(k.write); /* it would go around the budget */
}

MIGBUF__SELDOM int migbuf_limits_merge(const struct migbuf_throttle_config *hosts, size_t count, const struct migbuf_limits *ours,
                                       struct migbuf_throttle_config *merged)
{
    struct migbuf_throttle_config m, other;

    if (!hosts || !count || !ours || !merged)
        return MIGBUF_E_INVALID;
    for (size_t k = 0; k < count; k++)
        if (!is_taken_by_qemu(&hosts[k]))
            return MIGBUF_E_RANGE;
    if (ours->iops_wr > MIGBUF__THROTTLE_VALUE_MAX || ours->bps_wr > MIGBUF__THROTTLE_VALUE_MAX ||
        ours->iops_size > MIGBUF__THROTTLE_VALUE_MAX)
        return MIGBUF_E_RANGE;
    m = hosts[0];
    for (size_t k = 1; k < count; k++) {
        other = hosts[k];
        take_stricter_kind(bytes_of(&m), bytes_of(&other), ours->bps_wr);
        take_stricter_kind(requests_of(&m), requests_of(&other), ours->iops_wr);
        m.iops_size = lower_limit(m.iops_size, other.iops_size);
    }
    memset(m.group, 0, sizeof m.group);
    if (ours->iops_size)
        use_unit(&m, ours->iops_size);
    lay_over(bytes_of(&m), ours->bps_wr);
    lay_over(requests_of(&m), ours->iops_wr);
    if (!m.iops && !m.iops_rd && !m.iops_wr)
        m.iops_size = 0; /* QEMU refuses a unit without a rate */
    *merged = m;
    return 0;
}

uint32_t migbuf_limits_host_flags(const struct migbuf_throttle_config *host)
{
    return host && (host->iops || host->iops_rd) ? MIGBUF_GEOMETRY_NO_IOPS_SIZE : 0;
}
