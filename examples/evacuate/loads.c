/* SPDX-License-Identifier: MIT */
/* What the guests do, and what their hosts allow them: by pattern, varied a little by the seed. */
#include "options.h"

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void set_pattern(struct load *load, enum pattern pattern)
{
    struct writer_params *w = &load->writer;

    switch (pattern) {
    case PATTERN_SEQUENTIAL:
        w->sectors = 128, w->depth = 4, w->pace = 110;
        break;
    case PATTERN_RANDOM: /* two neighbours that merge would cross a cluster's end for the price of one unit */
        w->sectors = 8, w->depth = 4, w->pace = 130, w->random = 1;
        load->no_merging = true;
        break;
    case PATTERN_LARGE:
        w->sectors = 2048, w->depth = 1, w->pace = 6;
        break;
    default:
        w->sectors = 2048, w->depth = 1, w->pace = 16, w->on_ms = 1000, w->off_ms = 2000;
        break;
    }
}

/* Some hosts limit their guests already; after the migration exactly these limits must be in force again. */
static void set_host_limits(struct load *load, uint32_t index)
{
    if (index % 4 == 1) {
        load->host[0].bps_rd = 50000000;
        load->host[0].iops_wr = 600;
        load->host[0].iops_wr_max = 900;
        load->host[0].iops_wr_max_length = 2;
    } else if (index % 4 == 2) {
        load->host[0].bps = 120000000;
        load->host[1].iops_wr = 700;
        load->host[1].iops_size = 8192;
    }
}

/* What such a host can set is all it has set before. */
static void keep_six_rates(struct load *load)
{
    for (uint32_t k = 0; k < VM_DISKS_MAX; k++) {
        struct migbuf_throttle_config *h = &load->host[k];

        *h = (struct migbuf_throttle_config){
            .bps_rd = h->bps_rd, .bps_wr = h->bps_wr ? h->bps_wr : h->bps, .iops_rd = h->iops_rd, .iops_wr = h->iops_wr
        };
    }
}

void options_load(const struct options *o, uint32_t index, struct load *load)
{
    enum pattern pattern = o->pattern[index % o->patterns];
    struct writer_params *w = &load->writer;
    uint64_t chance = mix(o->seed * 1000 + index);

    *load = (struct load){ .disks = o->disks, .device = o->device };
    snprintf(load->name, sizeof load->name, "VM %u %s", index, pattern_name[pattern]);
    writer_params_init(w);
    set_pattern(load, pattern);
    if (o->depth)
        w->depth = o->depth;
    w->pace = o->pace ? o->pace : w->pace + (uint32_t)(w->pace * (chance % 21) / 100);
    w->pace = (w->pace + o->disks - 1) / o->disks;
    w->more_disks = o->disks - 1;
    w->dirty_pages_per_s = (uint32_t)(o->dirty_bytes_per_s / 4096);
    w->dirty_pages = (uint32_t)(o->dirty_bytes / 4096);
    if (o->dirty_bytes && !o->kvm) /* a few seconds' writes, so that it need not stand while its memory is sent */
        w->count = 3 * w->pace;
    w->seed = (uint32_t)(chance >> 32) | 1;
    w->id = index + 1;
    w->base_sectors = (uint32_t)(o->disk_bytes / 512);
    w->window = (uint32_t)((o->disk_bytes / 512 - w->start) / w->sectors);
    set_host_limits(load, index);
    load->typed = o->typed;
    if (o->typed)
        keep_six_rates(load);
}
