/* SPDX-License-Identifier: MIT */
#include "pages.h"
#include <math.h>

#define PAGE 4096.0

void memory_begin(struct model_memory *m)
{
    for (int k = 0; k < MODEL_CLASSES; k++) {
        m->a[k] = 1;
        m->b[k] = 0;
    }
    m->fresh = m->sent_bytes = m->sent_then = m->time_s = m->sync_s = 0;
    m->sync_count = 1;
    m->dirty_pages_per_s = 0;
}

double memory_left(const struct model_memory *m)
{
    double sum = 0;

    for (int k = 0; k < MODEL_CLASSES; k++)
        sum += m->a[k] * m->set[k];
    return sum;
}

double memory_exact(const struct model_memory *m)
{
    double sum = 0;

    for (int k = 0; k < MODEL_CLASSES; k++)
        sum += (1 - (1 - m->a[k]) * (1 - m->b[k])) * m->set[k];
    return sum;
}

void memory_step(struct model_memory *m, double dt, double throttle_percent, int runs, double budget)
{
    double left = memory_left(m), zeros = fmin(budget, m->zero_bytes / PAGE * 9);

    for (int k = 0; k < MODEL_CLASSES && runs; k++)
        m->b[k] = 1 - (1 - m->b[k]) * exp(-m->rate[k] * (1 - throttle_percent / 100) * dt / m->set[k]);
    m->time_s += dt;
    m->zero_bytes -= zeros / 9 * PAGE;
    m->sent_bytes += zeros;
    budget -= zeros;
    if (left > 0 && budget > 0) {
        double part = fmin(1, budget / left);

        m->sent_bytes += part * left;
        for (int k = 0; k < MODEL_CLASSES; k++)
            m->a[k] *= 1 - part;
    }
}

int memory_sync(struct model_memory *m, double *dirty, double *sent)
{
    for (int k = 0; k < MODEL_CLASSES; k++) {
        m->fresh += m->b[k] * m->set[k];
        m->a[k] = 1 - (1 - m->a[k]) * (1 - m->b[k]);
        m->b[k] = 0;
    }
    m->sync_count++;
    if (m->time_s - m->sync_s <= 1)
        return 0;
    m->dirty_pages_per_s = (uint64_t)(m->fresh / PAGE / (m->time_s - m->sync_s));
    *dirty = m->fresh;
    *sent = m->sent_bytes - m->sent_then;
    m->fresh = 0;
    m->sync_s = m->time_s;
    m->sent_then = m->sent_bytes;
    return 1;
}

void memory_report(const struct model_memory *m, struct migbuf_ram_report *r)
{
    double total = m->zero_bytes;

    for (int k = 0; k < MODEL_CLASSES; k++)
        total += m->set[k];
    r->has_ram = 1;
    r->page_bytes = (uint64_t)PAGE;
    r->ram_total_bytes = (uint64_t)total;
    r->ram_remaining_bytes = (uint64_t)memory_left(m);
    r->ram_transferred_bytes = (uint64_t)m->sent_bytes;
    r->sync_count = m->sync_count;
    r->dirty_pages_per_s = m->dirty_pages_per_s;
    r->total_ms = (uint64_t)(m->time_s * 1000);
}
