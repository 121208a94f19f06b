/* SPDX-License-Identifier: MIT */
/* See reference.h. Read it beside bins.h and buffer.h: the order of the functions is the order of their text. */
#include "reference.h"

#include <math.h>
#include <string.h>

static const uint64_t units_max = UINT64_C(1000000000000000); /* the largest value QEMU takes */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Pure pieces. */

void reference_shares(uint64_t capacity, const uint32_t *weight, int n, uint64_t *share)
{
    uint64_t sum = 0, rest = capacity;

    for (int i = 0; i < n; i++)
        sum += weight[i];
    for (int i = 0; i < n; i++) {
        /* floor(capacity * w / sum) without 128 bits: capacity = q * sum + r, and r * w stays small */
        share[i] = capacity / sum * weight[i] + capacity % sum * weight[i] / sum;
        rest -= share[i];
    }
    for (int i = 0; i < n && rest > 0; i++, rest--)
        share[i]++;
}

double reference_pour(const double *used, const double *share, int n, double amount, double *placed)
{
    for (int i = 0; i < n; i++)
        placed[i] = 0;
    for (;;) {
        int best = -1;

        for (int i = 0; i < n; i++)
            if (used[i] < share[i] && placed[i] == 0 && (best < 0 || used[i] < used[best]))
                best = i;
        if (best < 0 || amount <= 0)
            return amount;
        placed[best] = fmin(amount, share[best] - used[best]);
        amount -= placed[best];
    }
}

/* Raise the level until the first claim is satisfied, take that one out, go on with the others. */
double reference_shave(const double *amount, const double *weight, int n, double total)
{
    bool done[REFERENCE_MAX] = { false };
    double sum = 0;

    total = fmax(total, 0);
    for (int i = 0; i < n; i++)
        sum += amount[i];
    if (sum <= total)
        return INFINITY;
    for (;;) {
        double weights = 0, left = total;
        int first = -1;

        for (int i = 0; i < n; i++) {
            if (done[i]) {
                left -= amount[i];
                continue;
            }
            weights += weight[i];
            if (first < 0 || amount[i] / weight[i] < amount[first] / weight[first])
                first = i;
        }
        if (first < 0)
            return INFINITY;
        if (amount[first] / weight[first] > left / weights)
            return fmax(left, 0) / weights;
        done[first] = true;
    }
}

double reference_rate(double capacity, double used, double priority, double tau, double eps, double eps_rate)
{
    if (capacity <= used)
        return eps_rate;
    return capacity / tau * exp(-priority * used / ((capacity - used) + eps)) + eps_rate;
}

uint64_t reference_request_growth(const struct migbuf_geometry *g, uint64_t length)
{
    uint64_t unit = g->subcluster_bytes;

    if (length == 0)
        return 0;
    if (g->flags & MIGBUF_GEOMETRY_ALIGNED)
        return ceil_div(length, unit) * unit;
    return length < 2 ? unit : ((length - 2) / unit + 2) * unit;
}

uint64_t reference_metadata(const struct migbuf_geometry *g)
{
    uint64_t cluster = g->cluster_bytes;
    uint64_t entry = g->subcluster_bytes == cluster ? 8 : 16;
    uint64_t data = ceil_div(g->virtual_bytes, cluster);
    uint64_t l2 = ceil_div(data, cluster / entry);
    uint64_t l1 = ceil_div(l2 * 8, cluster);
    uint64_t blocks = 0, table = 0;

    /* refcounts count their own clusters too: go on until they do not need more of themselves */
    for (;;) {
        uint64_t all = data + l2 + l1 + 1 + blocks + table;
        uint64_t more = ceil_div(all, cluster / 2);

        if (more == blocks && ceil_div(blocks * 8, cluster) == table)
            return (l2 + l1 + 1 + blocks + table) * cluster;
        blocks = more;
        table = ceil_div(blocks * 8, cluster);
    }
}

uint64_t reference_whole_disk(const struct migbuf_geometry *g)
{
    return ceil_div(g->virtual_bytes, g->cluster_bytes) * g->cluster_bytes + reference_metadata(g);
}

/* The ledger. */

void reference_ledger_init(struct reference_ledger *l, uint64_t capacity)
{
    memset(l, 0, sizeof *l);
    l->capacity = capacity;
}

int reference_ledger_find(const struct reference_ledger *l, uint64_t id)
{
    for (int i = 0; i < l->count; i++)
        if (l->bin[i].id == id)
            return i;
    return -1;
}

uint64_t reference_ledger_used(const struct reference_ledger *l, int bin)
{
    uint64_t sum = 0;

    for (int p = 0; p < l->bin[bin].height; p++)
        sum += l->bin[bin].entry[p].bytes;
    return sum;
}

static uint64_t room_of(const struct reference_ledger *l, int bin)
{
    return minus(l->bin[bin].share, reference_ledger_used(l, bin));
}

static bool is_open(const struct reference_ledger *l, int bin)
{
    return room_of(l, bin) > 0;
}

/* Position of i's entry in a bin from 0, -1 where it has none. */
static int position_of(const struct reference_ledger *l, int bin, int i)
{
    for (int p = 0; p < l->bin[bin].height; p++)
        if (l->bin[bin].entry[p].who == i)
            return p;
    return -1;
}

uint64_t reference_ledger_bytes(const struct reference_ledger *l, int i)
{
    uint64_t sum = 0;

    for (int b = 0; b < l->count; b++) {
        int p = position_of(l, b, i);

        sum += p < 0 ? 0 : l->bin[b].entry[p].bytes;
    }
    return sum;
}

uint64_t reference_ledger_total(const struct reference_ledger *l)
{
    uint64_t sum = 0;

    for (int b = 0; b < l->count; b++)
        sum += reference_ledger_used(l, b);
    return sum;
}

static void put(struct reference_ledger *l, int bin, int i, uint64_t bytes)
{
    struct reference_bin *b = &l->bin[bin];
    int p = position_of(l, bin, i);

    if (bytes == 0)
        return;
    if (p < 0) {
        p = b->height++;
        b->entry[p] = (struct reference_entry){ .who = i, .bytes = 0 };
    }
    b->entry[p].bytes += bytes;
}

static void drop(struct reference_bin *b, int p)
{
    for (; p + 1 < b->height; p++)
        b->entry[p] = b->entry[p + 1];
    b->height--;
}

static void take(struct reference_ledger *l, int bin, int i, uint64_t bytes)
{
    struct reference_bin *b = &l->bin[bin];
    int p = position_of(l, bin, i);

    b->entry[p].bytes -= bytes;
    if (b->entry[p].bytes == 0 && i != bin)
        drop(b, p);
}

/* Bin of i's smallest shard away from home (ties: lowest index), -1 where it has none. */
static int smallest_foreign(const struct reference_ledger *l, int i, uint64_t *bytes)
{
    int best = -1;

    for (int b = 0; b < l->count; b++) {
        int p = b == i ? -1 : position_of(l, b, i);

        if (p >= 0 && (best < 0 || l->bin[b].entry[p].bytes < *bytes)) {
            best = b;
            *bytes = l->bin[b].entry[p].bytes;
        }
    }
    return best;
}

/* One homecoming of i: the smallest of its shards, its limbo being one more, last on ties. False: nothing to move. */
static bool come_home(struct reference_ledger *l, int i)
{
    uint64_t room = room_of(l, i), bytes = 0, limbo = l->bin[i].limbo;
    int from = smallest_foreign(l, i, &bytes);

    if (room == 0 || (from < 0 && limbo == 0))
        return false;
    if (from < 0 || (limbo > 0 && limbo < bytes)) {
        bytes = least(limbo, room);
        l->bin[i].limbo -= bytes;
    } else {
        bytes = least(bytes, room);
        take(l, from, i, bytes);
    }
    put(l, i, i, bytes);
    return true;
}

static void pull(struct reference_ledger *l)
{
    bool moved = true;

    while (moved) {
        moved = false;
        for (int i = 0; i < l->count; i++)
            while (come_home(l, i))
                moved = true;
    }
}

/* The least used open bin that is not i's home and holds a shard of i, or holds none, as asked. */
static int least_used(const struct reference_ledger *l, int i, bool with_shard)
{
    int best = -1;

    for (int b = 0; b < l->count; b++) {
        if (b == i || !is_open(l, b) || (position_of(l, b, i) >= 0) != with_shard)
            continue;
        if (best < 0 || reference_ledger_used(l, b) < reference_ledger_used(l, best))
            best = b;
    }
    return best;
}

/* E1's place(); what finds no room anywhere lies at home beyond its share. */
static void place(struct reference_ledger *l, int i, uint64_t bytes)
{
    uint64_t part = least(bytes, room_of(l, i));

    put(l, i, i, part);
    bytes -= part;
    while (bytes > 0) {
        int b = least_used(l, i, true);

        b = b < 0 ? least_used(l, i, false) : b;
        if (b < 0)
            break;
        part = least(bytes, room_of(l, b));
        put(l, b, i, part);
        bytes -= part;
    }
    put(l, i, i, bytes);
}

static void new_shares(struct reference_ledger *l)
{
    uint32_t weight[REFERENCE_MAX] = { 0 };
    uint64_t share[REFERENCE_MAX];

    for (int b = 0; b < l->count; b++)
        weight[b] = l->bin[b].weight;
    reference_shares(l->capacity, weight, l->count, share);
    for (int b = 0; b < l->count; b++)
        l->bin[b].share = share[b];
}

static void cut(struct reference_ledger *l, int bin)
{
    struct reference_bin *b = &l->bin[bin];

    while (reference_ledger_used(l, bin) > b->share) {
        struct reference_entry top = b->entry[b->height - 1];
        uint64_t bytes = least(top.bytes, reference_ledger_used(l, bin) - b->share);

        take(l, bin, top.who, bytes);
        l->bin[top.who].limbo += bytes;
    }
}

static void relayout(struct reference_ledger *l)
{
    if (l->count == 0)
        return;
    new_shares(l);
    for (int b = 0; b < l->count; b++)
        cut(l, b);
    pull(l);
    for (int i = 0; i < l->count; i++) {
        uint64_t bytes = l->bin[i].limbo;

        l->bin[i].limbo = 0;
        place(l, i, bytes);
    }
}

void reference_ledger_start(struct reference_ledger *l, uint64_t id, uint32_t weight, uint64_t bytes)
{
    int i = l->count++;

    l->bin[i] = (struct reference_bin){ .id = id, .weight = weight, .height = 1 };
    l->bin[i].entry[0].who = i;
    relayout(l);
    place(l, i, bytes);
}

static void shrink(struct reference_ledger *l, int i, uint64_t bytes)
{
    uint64_t over = minus(reference_ledger_used(l, i), l->bin[i].share);

    over = least(over, least(bytes, l->bin[i].entry[0].bytes));
    take(l, i, i, over);
    bytes -= over;
    while (bytes > 0) {
        uint64_t shard = 0, part;
        int from = smallest_foreign(l, i, &shard);

        part = from < 0 ? bytes : least(bytes, shard);
        take(l, from < 0 ? i : from, i, part);
        bytes -= part;
    }
    pull(l);
}

void reference_ledger_set(struct reference_ledger *l, int i, uint64_t bytes)
{
    uint64_t old = reference_ledger_bytes(l, i);

    if (bytes < old)
        shrink(l, i, old - bytes);
    else
        place(l, i, bytes - old);
}

/* Migration i is no more: nobody may be called i, and everybody after it is called one less. */
static void forget(struct reference_ledger *l, int i)
{
    for (int b = 0; b < l->count; b++) {
        int p = position_of(l, b, i);

        if (p >= 0)
            drop(&l->bin[b], p);
    }
    for (int b = i; b + 1 < l->count; b++)
        l->bin[b] = l->bin[b + 1];
    l->count--;
    for (int b = 0; b < l->count; b++)
        for (int p = 0; p < l->bin[b].height; p++)
            l->bin[b].entry[p].who -= l->bin[b].entry[p].who > i;
}

void reference_ledger_end(struct reference_ledger *l, int i)
{
    struct reference_bin *b = &l->bin[i];

    for (int p = 1; p < b->height; p++)
        l->bin[b->entry[p].who].limbo += b->entry[p].bytes;
    forget(l, i);
    relayout(l);
}

void reference_ledger_resize(struct reference_ledger *l, uint64_t capacity)
{
    l->capacity = capacity;
    relayout(l);
}

void reference_ledger_weight(struct reference_ledger *l, int i, uint32_t weight)
{
    l->bin[i].weight = weight;
    relayout(l);
}

/* The least used open bin of all, -1 when none is open. */
static int look_at(const struct reference_ledger *l)
{
    int best = -1;

    for (int b = 0; b < l->count; b++)
        if (is_open(l, b) && (best < 0 || reference_ledger_used(l, b) < reference_ledger_used(l, best)))
            best = b;
    return best;
}

static void add_open_bin(const struct reference_ledger *l, int b, int sharers, struct reference_view *v)
{
    v->capacity += (double)l->bin[b].share;
    v->used += (double)reference_ledger_used(l, b);
    v->room += (double)room_of(l, b) / sharers;
}

void reference_ledger_view(const struct reference_ledger *l, int i, struct reference_view *v)
{
    double positions = 0;
    int open = 0, b;

    memset(v, 0, sizeof *v);
    v->bytes = reference_ledger_bytes(l, i);
    v->home_bytes = l->bin[i].entry[0].bytes;
    v->share_bytes = l->bin[i].share;
    for (b = 0; b < l->count; b++) {
        int p = position_of(l, b, i);

        if (p < 0)
            continue;
        v->shards++;
        positions += p + 1;
        if (b != i)
            v->host[v->host_count++] = b;
        if (is_open(l, b)) {
            open++;
            add_open_bin(l, b, l->bin[b].height, v);
        }
    }
    v->priority = positions / v->shards;
    if (open > 0)
        return;
    b = look_at(l);
    v->prospective = b < 0 ? 2 : 1;
    if (b < 0)
        return;
    add_open_bin(l, b, l->bin[b].height + 1, v);
    v->priority = (positions + l->bin[b].height + 1) / (v->shards + 1);
    v->host[v->host_count++] = b;
}

/* The buffer. */

void reference_init(struct reference *r, uint64_t capacity, const struct migbuf_buffer_options *options)
{
    memset(r, 0, sizeof *r);
    r->options = *options;
    r->level = INFINITY;
    reference_ledger_init(&r->ledger, capacity);
}

void reference_migration_set(struct reference_migration *m, const struct migbuf_migration *from,
                             const struct migbuf_geometry *disks, int disk_count)
{
    memset(m, 0, sizeof *m);
    m->id = from->id;
    m->link = from->link;
    m->flow = from->flow_bytes_per_s;
    m->device = from->device_write_bytes_per_s;
    m->phase = MIGBUF_PHASE_BASE;
    m->drains_ahead = from->drains_ahead;
    m->disk_count = disk_count;
    for (int d = 0; d < disk_count; d++)
        m->disk[d] = disks[d];
    m->disk_bytes[0] = from->file_bytes;
    for (int d = 0; d < disk_count; d++)
        m->disk_left[d] = disks[d].virtual_bytes;
    m->units_sum = m->grown_sum = 16;
    m->ratio = 1;
    m->v = (double)from->rate_bytes_per_s;
    m->num = m->den = 64e6;
    m->rho = 1;
    m->release = INFINITY;
}

void reference_start(struct reference *r, const struct reference_migration *m, uint32_t weight)
{
    int i = r->ledger.count;

    reference_ledger_start(&r->ledger, m->id, weight, reference_file_bytes(m));
    r->migration[i] = *m;
    for (int j = 0; j < i; j++)
        if (r->migration[j].link == m->link) {
            r->migration[i].link_rate = r->migration[j].link_rate;
            r->migration[i].link_mean = r->migration[j].link_mean;
            r->migration[i].link_ms = r->migration[j].link_ms;
        }
}

void reference_end(struct reference *r, int i)
{
    reference_ledger_end(&r->ledger, i);
    for (; i < r->ledger.count; i++)
        r->migration[i] = r->migration[i + 1];
}

void reference_link(struct reference *r, uint64_t link, uint64_t bytes_per_s)
{
    for (int i = 0; i < r->ledger.count; i++)
        if (r->migration[i].link == link)
            r->migration[i].link_rate = bytes_per_s;
}

uint64_t reference_file_bytes(const struct reference_migration *m)
{
    uint64_t sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        sum += m->disk_bytes[d];
    return sum;
}

double reference_unit(const struct reference_migration *m)
{
    uint64_t unit = 0;

    for (int d = 0; d < m->disk_count; d++)
        unit = m->disk[d].subcluster_bytes > unit ? m->disk[d].subcluster_bytes : unit;
    return (double)unit;
}

double reference_amplification(const struct reference_migration *m)
{
    double a = 1;

    for (int d = 0; d < m->disk_count; d++)
        a = m->disk[d].flags & MIGBUF_GEOMETRY_ALIGNED ? a : 3;
    return a;
}

static double largest_cluster(const struct reference_migration *m)
{
    uint64_t cluster = 0;

    for (int d = 0; d < m->disk_count; d++)
        cluster = m->disk[d].cluster_bytes > cluster ? m->disk[d].cluster_bytes : cluster;
    return (double)cluster;
}

static double one_request(const struct reference_migration *m)
{
    double sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        sum += (double)reference_request_growth(&m->disk[d], m->disk[d].request_bytes);
    return sum;
}

static double bursts_s(const struct reference_migration *m)
{
    double sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        sum += 0.1;
    return sum;
}

static double all_metadata(const struct reference_migration *m)
{
    double sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        sum += (double)reference_metadata(&m->disk[d]);
    return sum;
}

static uint64_t whole_disks(const struct reference_migration *m)
{
    uint64_t whole = 0;

    for (int d = 0; d < m->disk_count; d++)
        whole += reference_whole_disk(&m->disk[d]);
    return whole;
}

/* What its files can still grow by before every disk is whole. */
static uint64_t missing(const struct reference_migration *m)
{
    return minus(whole_disks(m), reference_file_bytes(m));
}

uint64_t reference_reserve(const struct reference_migration *m)
{
    uint64_t queue = 0, most = missing(m), drains = m->drains_ahead + UINT64_C(1);

    for (int d = 0; d < m->disk_count; d++)
        queue += m->disk[d].queue_bytes;
    drains -= m->now.paused; /* a pause is a drain, and it has had that one */
    if (queue > 0 && drains > most / queue)
        return most;
    return least(queue * drains, most);
}

static bool without_iops_size(const struct reference_migration *m)
{
    bool without = false;

    for (int d = 0; d < m->disk_count; d++)
        without = without || (m->disk[d].flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE);
    return without;
}

static double device_of(const struct reference_migration *m)
{
    return m->device == 0 ? INFINITY : (double)m->device;
}

static double lag_s(const struct reference *r)
{
    return (double)r->options.lag_ms / 1000;
}

/* T' of buffer.h: from measuring to the landing of the next decisions. */
static double window_s(const struct reference *r)
{
    return (double)r->options.interval_ms * (double)r->options.late_factor_percent / 100000 + lag_s(r);
}

double reference_request_metadata(const struct reference_migration *m)
{
    double sum = 0;

    for (int d = 0; d < m->disk_count; d++) {
        double c = (double)m->disk[d].cluster_bytes, data, entries = c / 8;

        if (m->disk[d].subcluster_bytes < m->disk[d].cluster_bytes)
            entries = c / 16;
        data = (double)reference_request_growth(&m->disk[d], m->disk[d].request_bytes);
        sum += (ceil(data / (entries * c)) + ceil(data / (c / 2 * c)) + 3) * c;
    }
    return sum;
}

static double pending(const struct reference *r, const struct reference_migration *m)
{
    double rate = fmin((double)m->now.units * reference_step(r, m), device_of(m)), a = reference_amplification(m);
    double bytes = a * rate * (lag_s(r) + bursts_s(m)) + one_request(m), tables;

    if (!m->now.limited || m->now.paused || r->options.lag_ms == 0)
        return 0;
    tables = a * rate * (lag_s(r) + bursts_s(m)) / reference_unit(m) * largest_cluster(m) + reference_request_metadata(m);
    return fmin((double)missing(m), bytes + fmin(all_metadata(m), tables));
}

/* The claim when w is let through is c w + e: which metadata term is the smaller one decides both. */
static void claim(const struct reference *r, const struct reference_migration *m, double w, double *c, double *e)
{
    double wait = window_s(r) + bursts_s(m), a = reference_amplification(m);
    double tables = a * largest_cluster(m) / reference_unit(m), meta = all_metadata(m);

    *c = a * wait;
    *e = one_request(m);
    if (meta <= w * wait * tables + reference_request_metadata(m)) {
        *e += meta;
    } else {
        *c += wait * tables;
        *e += reference_request_metadata(m);
    }
    for (int d = 0; d < m->disk_count && m->now.paused; d++)
        *e += (double)m->disk[d].queue_bytes;
    *e = fmin(*e, (double)missing(m));
}

static uint64_t least_units(const struct reference *r, const struct reference_migration *m)
{
    uint64_t smallest = UINT64_MAX, longest = 0, units;
    double seconds = (double)r->options.max_stall_ms / 1000;

    for (int d = 0; d < m->disk_count; d++) {
        smallest = least(smallest, m->disk[d].subcluster_bytes);
        longest = m->disk[d].request_bytes > longest ? m->disk[d].request_bytes : longest;
    }
    units = longest / smallest + (longest % smallest != 0);
    if (r->options.max_stall_ms == 0 || (double)units <= seconds)
        return 1;
    return units * 1000 / r->options.max_stall_ms + (units * 1000 % r->options.max_stall_ms != 0);
}

/* growth.h once more. */
static void learn(struct reference *r, struct reference_migration *m)
{
    double seconds = (double)(r->now_ms - m->learnt_ms) / 1000, units, grown, unit = reference_unit(m);
    double rate = m->now.limited ? (double)m->now.units : INFINITY, most_credit, passed;
    uint64_t bytes = reference_file_bytes(m), writes = 0, written = 0;
    struct reference_migration old = *m;

    if (without_iops_size(m) || seconds < 0.05)
        return;
    for (int d = 0; d < m->disk_count; d++) {
        writes += m->disk_writes[d];
        written += m->disk_written[d];
    }
    m->learnt_ms = r->now_ms;
    if (writes == 0 && written == 0)
        return;
    m->learnt_bytes = bytes;
    m->learnt_writes = writes;
    m->learnt_written = written;
    m->measured = true;
    /* the bucket as seen from outside: full again when its rate is another one, else filled at that rate */
    most_credit = rate / 10 + one_request(m) / unit;
    passed = rate * seconds + (old.measured && old.learnt_rate == rate ? old.credit : most_credit);
    m->learnt_rate = rate;
    m->credit = passed < most_credit ? passed : most_credit;
    if (!old.measured || writes < old.learnt_writes || written < old.learnt_written)
        return;
    if (rate == 0) { /* a paused guest is forgotten */
        m->units_sum = 16 + exp(-seconds / 10) * (m->units_sum - 16);
        m->grown_sum = 16 + exp(-seconds / 10) * (m->grown_sum - 16);
        m->ratio = fmin(3, fmax(0.001, m->grown_sum / m->units_sum));
        return;
    }
    units = fmax((double)(writes - old.learnt_writes), (double)(written - old.learnt_written) / unit);
    if (units > passed)
        units = passed;
    if (m->now.limited && passed - units < m->credit)
        m->credit = passed - units;
    if (units < 1)
        return;
    grown = bytes > old.learnt_bytes ? (double)(bytes - old.learnt_bytes) / unit : 0;
    m->units_sum = exp(-seconds / 10) * m->units_sum + units;
    m->grown_sum = exp(-seconds / 10) * m->grown_sum + grown;
    m->ratio = fmin(3, fmax(0.001, fmax((grown - 1) / units, m->grown_sum / m->units_sum)));
}

/* The wait for what the bucket was charged and no file grew by, less the time that passed. Raised or set again: none. */
static void owe(struct reference *r, struct reference_migration *m)
{
    uint64_t written = 0, file = reference_file_bytes(m);
    double speed = (double)m->now.units * reference_unit(m), more = 0, owed = m->owed;

    if (m->action == MIGBUF_ACTION_AGAIN || m->owed_rate < m->now.units)
        owed = 0;
    for (int d = 0; d < m->disk_count; d++)
        written += m->disk_written[d];
    if (!m->owed_known || m->owed_written == 0 || written < m->owed_written || m->now.units == 0) {
        owed = 0;
    } else {
        more = (double)(written - m->owed_written);
        if (file > m->owed_file)
            more -= (double)(file - m->owed_file);
        owed += more / speed - (double)(r->now_ms - m->owed_ms) / 1000;
    }
    m->owed = owed > 0 ? owed : 0;
    m->owed_known = true;
    m->owed_written = written;
    m->owed_file = file;
    m->owed_ms = r->now_ms;
    m->owed_rate = m->now.units;
}

/* While the overlay is sent, what is written counts, not what grows. */
static double ratio(const struct reference_migration *m)
{
    return m->phase == MIGBUF_PHASE_DRAIN ? 1 : m->ratio;
}

double reference_entry_fee(const struct reference *r, const struct reference_migration *m)
{
    double c, e, step = reference_step(r, m) * (double)least_units(r, m);

    claim(r, m, step, &c, &e);
    return (double)reference_file_bytes(m) + fmin((double)reference_reserve(m) + c * step + e, (double)missing(m));
}

static double link_share(const struct reference *r, int i)
{
    const struct reference_migration *m = &r->migration[i];
    double weights = 0;

    if (m->link_rate == 0)
        return INFINITY;
    for (int j = 0; j < r->ledger.count; j++)
        if (r->migration[j].link == m->link)
            weights += r->ledger.bin[j].weight;
    return (double)m->link_rate * r->ledger.bin[i].weight / weights;
}

static double share_clamp(const struct reference *r, int i)
{
    const struct reference_migration *m = &r->migration[i];
    double share = link_share(r, i);

    if (m->phase == MIGBUF_PHASE_BASE || m->link_rate == 0)
        return share;
    return 0.5 * fmin(share, m->flow == 0 ? INFINITY : (double)m->flow);
}

static double hard_cap(const struct reference *r, const struct reference_migration *m)
{
    double a = reference_amplification(m) / ratio(m);

    return fmax(0, (m->view.room / a - one_request(m) / a) / (window_s(r) + bursts_s(m)));
}

static void own_clamps(struct reference *r, int i)
{
    struct reference_migration *m = &r->migration[i];
    const struct migbuf_buffer_options *o = &r->options;

    m->curve = reference_rate(m->view.capacity, m->view.used, m->view.priority, (double)o->tau_ms / 1000,
                              (double)o->epsilon_bytes, (double)o->epsilon_bytes_per_s);
    m->share = share_clamp(r, i);
    m->hard_cap = hard_cap(r, m);
    m->clamped = fmin(m->curve, fmin(m->share, m->hard_cap));
    if (m->curve <= m->share && m->curve <= m->hard_cap)
        m->cause = MIGBUF_REASON_RATE;
    else
        m->cause = m->share <= m->hard_cap ? MIGBUF_REASON_SHARE : MIGBUF_REASON_ROOM;
}

/* The greatest fixed point: start from x and lower whoever is above one of its hosts, until nobody is. */
static void clamp_by_hosts(struct reference *r)
{
    bool changed = true;

    for (int i = 0; i < r->ledger.count; i++)
        r->migration[i].hosted = r->migration[i].clamped;
    while (changed) {
        changed = false;
        for (int i = 0; i < r->ledger.count; i++)
            for (int h = 0; h < r->migration[i].view.host_count; h++) {
                double host = r->migration[r->migration[i].view.host[h]].hosted;

                changed = changed || host < r->migration[i].hosted;
                r->migration[i].hosted = fmin(r->migration[i].hosted, host);
            }
    }
}

static void floor_clamp(struct reference *r, struct reference_migration *m)
{
    double lowest = (double)r->options.floor_bytes_per_s;

    if (m->hosted < m->clamped)
        m->cause = MIGBUF_REASON_HOST;
    if (lowest > m->hosted)
        m->cause = MIGBUF_REASON_FLOOR;
    m->wanted = fmax(lowest, m->hosted);
    if (m->phase == MIGBUF_PHASE_BASE && m->view.shards == 1 && m->view.prospective == 0 &&
        (double)missing(m) <= m->view.room) {
        m->wanted = INFINITY;
        m->cause = MIGBUF_REASON_WHOLE;
    }
}

/* What is free is dealt out: everybody's fixed part first, then a common level of the budgets. */
static double common_level(struct reference *r)
{
    double amount[REFERENCE_MAX] = { 0 }, weight[REFERENCE_MAX] = { 0 }, total = r->grantable;

    for (int i = 0; i < r->ledger.count; i++) {
        const struct reference_migration *m = &r->migration[i];
        double e, most = fmin(m->wanted, device_of(m) * ratio(m));

        claim(r, m, most / ratio(m), &weight[i], &e);
        weight[i] /= ratio(m);
        amount[i] = fmin(weight[i] * most, fmax(0, (double)missing(m) - e));
        total -= e;
    }
    if (r->ledger.count > 0 && total <= 0)
        return 0;
    return reference_shave(amount, weight, r->ledger.count, total);
}

static void count_space(struct reference *r)
{
    r->files = 0;
    r->reserves = 0;
    r->pending = 0;
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->reserve = reference_reserve(m);
        m->pending = pending(r, m);
        r->files += reference_file_bytes(m);
        r->reserves += m->reserve;
        r->pending += m->pending;
    }
    r->cannot_fit = (double)r->ledger.capacity < (double)r->files + (double)r->reserves;
    r->grantable = fmax(0, (double)r->ledger.capacity - (double)r->files - (double)r->reserves - r->pending);
}

static void literal_budget(struct reference *r, int i)
{
    struct reference_migration *m = &r->migration[i];
    double s = (double)reference_file_bytes(m), bin = (double)m->view.share_bytes;
    double gap = bin - s + (double)r->options.epsilon_bytes;

    m->share = link_share(r, i);
    m->curve = bin * exp(-m->view.priority * s / gap) + (double)r->options.epsilon_bytes_per_s;
    m->wanted = fmin(m->curve, m->share);
    m->budget = m->wanted;
    m->cause = m->curve <= m->share ? MIGBUF_REASON_RATE : MIGBUF_REASON_SHARE;
}

static void paper_budgets(struct reference *r)
{
    for (int i = 0; i < r->ledger.count; i++) {
        learn(r, &r->migration[i]);
        own_clamps(r, i);
    }
    clamp_by_hosts(r);
    for (int i = 0; i < r->ledger.count; i++)
        floor_clamp(r, &r->migration[i]);
    r->level = common_level(r);
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->budget = fmin(m->wanted, r->level);
        m->cause = r->level < m->wanted ? MIGBUF_REASON_SPACE : m->cause;
    }
}

/* The planner: forecast.h and planner.h once more, each step as its text says it. */

static void forecast_guest(const struct reference *r, struct reference_migration *m)
{
    double seconds = (double)(r->now_ms - m->fed_ms) / 1000, written = 0, bytes = (double)reference_file_bytes(m);
    double limit = (double)m->now.units * reference_unit(m), du, ds, sample, keep = exp(-seconds / 60);
    bool saturated, all_told = true;

    for (int d = 0; d < m->disk_count; d++) {
        all_told = all_told && m->disk_told[d];
        written += fmax((double)m->disk_writes[d] * reference_unit(m), (double)m->disk_written[d]);
    }
    if (!all_told || (m->fed && seconds < 0.05))
        return;
    ds = fmax(0, bytes - m->fed_bytes);
    du = fmax(written - m->fed_written, ds); /* what grew was written */
    sample = du / seconds;
    if (m->fed)
        m->u += du;
    if (m->fed && !m->now.paused) {
        saturated = m->now.limited && limit < device_of(m) && sample >= 0.9 * limit;
        m->vpk = saturated ? fmax(m->vpk, sample) : fmax(sample, keep * m->vpk);
        m->v += (1 - keep) * ((saturated ? m->vpk : sample) - m->v);
        m->num = keep * m->num + ds;
        m->den = keep * m->den + du;
        m->rho = m->den > 1e-9 ? fmin(1, m->num / m->den) : m->rho;
    }
    m->fed = true;
    m->fed_ms = r->now_ms;
    m->fed_written = written;
    m->fed_bytes = bytes;
}

/* z / (e^z - 1) = y by halving. */
static double bend(double y)
{
    double low = 0, high = 1000;

    for (int k = 0; k < 200; k++) {
        double z = (low + high) / 2;

        if (z > 0 && z / expm1(z) < y)
            high = z;
        else
            low = z;
    }
    return low;
}

static double working_set(const struct reference_migration *m)
{
    double s = (double)reference_file_bytes(m), most = (double)missing(m), y;

    if (s <= 0 || m->u <= 0)
        return most;
    y = m->rho * m->u / s;
    if (y >= 0.999)
        return most;
    return y > 0 ? fmin(most, s * y / bend(y)) : 0;
}

static double growth_in(const struct reference_migration *m, double seconds)
{
    double left = working_set(m), straight = m->rho * m->v * seconds;

    return left > 0 && straight > 0 ? fmin(straight, -left * expm1(-straight / left)) : 0;
}

static double rate_for(const struct reference_migration *m, double budget)
{
    double left = working_set(m);

    if (budget >= left || m->rho <= 0)
        return INFINITY;
    return -left / (m->rho * m->release) * log1p(-budget / left);
}

static double part_of_link(const struct reference *r, int i, double weights)
{
    const struct reference_migration *m = &r->migration[i];
    double flow = 0;

    for (int j = 0; j < r->ledger.count; j++)
        if (r->migration[j].link == m->link)
            flow = fmax(flow, r->migration[j].flow == 0 ? INFINITY : (double)r->migration[j].flow);
    return fmin(flow, fmax(m->link_mean, 100000) * r->ledger.bin[i].weight / weights);
}

static double link_weights(const struct reference *r, int i)
{
    double weights = 0;

    for (int j = 0; j < r->ledger.count; j++)
        weights += r->migration[j].link == r->migration[i].link ? r->ledger.bin[j].weight : 0;
    return weights;
}

static double to_send(const struct reference *r, int i)
{
    const struct reference_migration *m = &r->migration[i];
    double left = 0, share = part_of_link(r, i, link_weights(r, i));

    for (int d = 0; d < m->disk_count; d++)
        left += (double)m->disk_left[d];
    if (m->phase == MIGBUF_PHASE_DRAIN)
        return left / (1 - fmin(0.5, m->v / share));
    return left + ((double)reference_file_bytes(m) + m->need) / (1 - fmin(0.5, m->rho * m->v / share));
}

/* Is i done before j, when both send over the same link at speeds by weight? */
static bool sends_less(const struct reference *r, int i, int j)
{
    double a = r->migration[i].send / r->ledger.bin[i].weight, b = r->migration[j].send / r->ledger.bin[j].weight;

    return a < b || (a == b && r->migration[i].id < r->migration[j].id);
}

/* The link is left by one after the other; what those that are still there have sent by weight is x. */
static void release_all(struct reference *r)
{
    for (int i = 0; i < r->ledger.count; i++) {
        double time = 0, x = 0;
        bool last = false;

        while (!last) {
            int first = -1;
            double weights = 0;

            for (int j = 0; j < r->ledger.count; j++) {
                if (r->migration[j].link != r->migration[i].link || r->migration[j].release >= 0)
                    continue;
                weights += r->ledger.bin[j].weight;
                if (first < 0 || sends_less(r, j, first))
                    first = j;
            }
            if (first < 0)
                break;
            time += (r->migration[first].send / r->ledger.bin[first].weight - x) /
                    (part_of_link(r, first, weights) / r->ledger.bin[first].weight);
            x = r->migration[first].send / r->ledger.bin[first].weight;
            r->migration[first].release = fmax(time, r->options.interval_ms / 1000.0);
        }
    }
}

/* By release; ties by what they send over their link, else by its place among the links' orders: as the text has none,
 * any order gives the same lines but for files that leave at the same instant. */
static void order_of_release(const struct reference *r, int *order)
{
    for (int k = 0; k < r->ledger.count; k++) {
        int at = k;

        for (; at > 0; at--) {
            int j = order[at - 1];

            if (r->migration[j].release < r->migration[k].release ||
                (r->migration[j].release <= r->migration[k].release && sends_less(r, j, k)))
                break;
            order[at] = j;
        }
        order[at] = k;
    }
}

/* Max-min fair by filling up: all grow at one level per weight; who has its wish or stands at a full line stops. */
static void fair_growth(struct reference *r, const int *order, int n)
{
    bool done[REFERENCE_MAX] = { false };
    int left = n;

    for (int k = 0; k < n; k++)
        r->migration[order[k]].planned = 0;
    while (left > 0) {
        double step = INFINITY;
        double used = 0, weights = 0;

        for (int k = n - 1; k >= 0; k--) {
            const struct reference_migration *m = &r->migration[order[k]];
            double w = r->ledger.bin[order[k]].weight;

            used += m->planned;
            weights += done[k] ? 0 : w;
            if (!done[k])
                step = fmin(step, (m->wish - m->planned) / w);
            if (weights > 0)
                step = fmin(step, fmax(0, m->line - used) / weights);
        }
        for (int k = 0; k < n; k++)
            r->migration[order[k]].planned += done[k] ? 0 : step * r->ledger.bin[order[k]].weight;
        used = 0;
        for (int k = n - 1; k >= 0; k--) {
            struct reference_migration *m = &r->migration[order[k]];

            used += m->planned;
            if (!done[k] && m->planned >= m->wish * (1 - 1e-12)) {
                m->planned = m->wish;
                done[k] = true;
            }
            for (int j = k; j < n && used >= m->line * (1 - 1e-12); j++)
                done[j] = true;
        }
        left = 0;
        for (int k = 0; k < n; k++)
            left += !done[k];
    }
}

/* As many as run when all links in use are full. */
static double places(const struct reference *r)
{
    double sum = 0;

    for (int i = 0; i < r->ledger.count; i++) {
        int here = 0, first = r->ledger.count;

        for (int j = r->ledger.count - 1; j >= 0; j--)
            if (r->migration[j].link == r->migration[i].link) {
                here++;
                first = j;
            }
        if (first == i)
            sum += fmax(here, fmax(r->migration[i].link_mean, 100000) / part_of_link(r, i, 0));
    }
    return sum;
}

/* New, and nobody takes anything from its flow: it may show what it writes. */
static bool explores(const struct reference *r, int i, double all_places, double capacity)
{
    const struct reference_migration *m = &r->migration[i];
    double best = fmin(part_of_link(r, i, 0), fmax(m->link_mean, 100000));

    return m->phase == MIGBUF_PHASE_BASE && (double)reference_file_bytes(m) < 0.25 * capacity / all_places &&
           part_of_link(r, i, link_weights(r, i)) >= 0.7 * best;
}

static void plan(struct reference *r)
{
    double capacity = fmax(0, (double)r->ledger.capacity - (double)r->reserves), files = 0;
    double floor = (double)r->options.floor_bytes_per_s, all_places;
    int order[REFERENCE_MAX], n = r->ledger.count, cut = 0;

    for (int i = 0; i < n; i++) {
        r->migration[i].send = to_send(r, i);
        r->migration[i].release = -1;
    }
    release_all(r);
    order_of_release(r, order);
    all_places = places(r);
    for (int k = n - 1; k >= 0; k--) {
        struct reference_migration *m = &r->migration[order[k]];

        files += (double)reference_file_bytes(m);
        m->need = growth_in(m, m->release);
        m->wish = fmax(0, m->need / m->release - floor);
        m->line = fmax(0, ((capacity * (1 - 0.3 * (all_places - (n - k)) / all_places) - files) / m->release - (n - k) * floor) * (1 + 1.0 / n));
    }
    fair_growth(r, order, n);
    for (int i = 0; i < n; i++) {
        struct reference_migration *m = &r->migration[i];

        m->cut = m->planned < 0.999 * m->wish - 1e-6;
        cut += m->cut;
    }
    for (int i = 0; i < n; i++) {
        struct reference_migration *m = &r->migration[i];

        m->rate = INFINITY;
        if (m->cut && !explores(r, i, all_places, capacity)) {
            m->rate = rate_for(m, (m->planned + floor) * m->release);
            m->rate *= m->v > 0 ? fmin(fmax(m->vpk / m->v, 1), 20) : 1;
        }
        if (m->phase == MIGBUF_PHASE_DRAIN)
            m->rate = fmin(m->rate, (cut > 0 ? 0.5 : 0.9) * part_of_link(r, i, link_weights(r, i)));
        m->rate = fmax(m->rate, floor);
    }
}

static void planner_budgets(struct reference *r)
{
    double slack = r->options.hysteresis_percent / 100.0;

    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];
        double u = (double)m->link_rate, forget = exp(-(double)(r->now_ms - m->link_ms) / 60000);

        if (m->link_rate > 0)
            m->link_mean = m->link_mean > 0 ? forget * m->link_mean + (1 - forget) * u : u;
        m->link_ms = r->now_ms;
        forecast_guest(r, m);
    }
    plan(r);
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];
        double in_force = (double)m->now.units * reference_step(r, m);

        m->share = link_share(r, i);
        m->curve = m->hard_cap = INFINITY;
        m->wanted = m->clamped = m->hosted = m->rate * reference_step(r, m) / reference_unit(m);
        m->cause = m->cut ? MIGBUF_REASON_PLAN : MIGBUF_REASON_SHARE;
        m->cause = m->rate < INFINITY ? m->cause : MIGBUF_REASON_FREE;
        if (m->wanted >= in_force * (1 - slack) && m->wanted <= in_force * (1 + slack))
            m->wanted = in_force;
        m->wanted = fmin(m->wanted, fmax(0, (double)r->ledger.capacity - (double)r->files) /
                                        (reference_amplification(m) * (window_s(r) + bursts_s(m))));
    }
    r->level = common_level(r);
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->budget = fmin(m->wanted, r->level);
        m->cause = r->level < m->wanted ? MIGBUF_REASON_SPACE : m->cause;
    }
}

/* What one unit of a decision is worth: without iops_size, requests and bytes share the budget, half each. */
double reference_step(const struct reference *r, const struct reference_migration *m)
{
    if (r->options.policy == MIGBUF_POLICY_LITERAL)
        return 1;
    return without_iops_size(m) ? 2 * reference_unit(m) : reference_unit(m);
}

static struct migbuf_limits limits_of(const struct reference *r, const struct reference_migration *m, uint64_t units)
{
    uint64_t unit = (uint64_t)reference_unit(m), smallest = unit;

    if (r->options.policy == MIGBUF_POLICY_LITERAL)
        return (struct migbuf_limits){ .bps_wr = units };
    if (without_iops_size(m))
        return (struct migbuf_limits){ .bps_wr = least(units * unit, units_max), .iops_wr = units };
    for (int d = 0; d < m->disk_count; d++)
        smallest = least(smallest, m->disk[d].subcluster_bytes);
    return (struct migbuf_limits){ .iops_wr = units, .iops_size = units > 0 ? smallest : 0 };
}

static int32_t act_paused(struct reference *r, struct reference_migration *m)
{
    bool was_paused = m->now.paused;

    if (!was_paused)
        m->now = (struct reference_state){ .paused = true, .limited = true, .paused_at_ms = r->now_ms };
    if (r->options.policy != MIGBUF_POLICY_LITERAL && r->cannot_fit) {
        m->reason = MIGBUF_REASON_RESERVE;
        return MIGBUF_ACTION_CANNOT_FIT;
    }
    return was_paused ? MIGBUF_ACTION_KEEP : MIGBUF_ACTION_PAUSE;
}

static void set_units(struct reference_migration *m, uint64_t units)
{
    m->now = (struct reference_state){ .limited = true, .units = units };
}

static int32_t act_resume(struct reference *r, struct reference_migration *m, uint64_t n)
{
    double paused_ms = (double)(r->now_ms - m->now.paused_at_ms), leak = 0;

    for (int d = 0; d < m->disk_count; d++)
        leak += (double)m->disk[d].queue_bytes;
    if (n < 2 || paused_ms < r->options.min_pause_ms || paused_ms < leak / ((double)n * reference_unit(m)) * 1000) {
        m->reason = MIGBUF_REASON_WAIT;
        return MIGBUF_ACTION_KEEP;
    }
    set_units(m, n);
    return MIGBUF_ACTION_RESUME;
}

/* n > 0 units/s for a guest that runs. */
static int32_t act_running(struct reference *r, struct reference_migration *m, uint64_t n)
{
    uint64_t k = m->now.units, slack = r->options.hysteresis_percent;

    if (!m->now.limited) {
        set_units(m, n);
        return MIGBUF_ACTION_LOWER;
    }
    if (n < k) {
        n = n * (200 - slack) / 200;
        set_units(m, n < 1 ? 1 : n);
        return MIGBUF_ACTION_LOWER;
    }
    if (n >= k + 1 && n * 100 >= k * (100 + slack)) {
        set_units(m, n);
        return MIGBUF_ACTION_RAISE;
    }
    if (r->options.max_stall_ms && r->options.policy != MIGBUF_POLICY_LITERAL &&
        m->owed * 1000 > r->options.max_stall_ms)
        return MIGBUF_ACTION_AGAIN;
    return MIGBUF_ACTION_KEEP;
}

static int32_t act(struct reference *r, struct reference_migration *m, double shift)
{
    bool literal = r->options.policy == MIGBUF_POLICY_LITERAL;
    double z = floor(fmax(0, m->budget + shift) / (reference_step(r, m) * (literal ? 1 : ratio(m))));
    uint64_t most = least(units_max, UINT64_MAX / (uint64_t)reference_step(r, m)); /* growth must stay a number */
    uint64_t n = z < (double)most ? (uint64_t)z : most;

    if (n == 0 || (!literal && (r->cannot_fit || n < least_units(r, m))))
        return act_paused(r, m);
    if (m->now.paused)
        return act_resume(r, m, n);
    return act_running(r, m, n);
}

static void decide(struct reference *r, int i, double shift, struct migbuf_decision *out)
{
    struct reference_migration *m = &r->migration[i];
    uint64_t unit = (uint64_t)reference_step(r, m);

    m->reason = m->cause;
    m->action = act(r, m, shift);
    m->now.limits = limits_of(r, m, m->now.units);
    *out = (struct migbuf_decision){ .id = m->id, .action = m->action, .reason = m->reason };
    out->growth_bytes_per_s = m->now.units * unit;
    out->limits = m->now.limits;
}

static void settle_ledger(struct reference *r)
{
    for (int grows = 0; grows < 2; grows++)
        for (int i = 0; i < r->ledger.count; i++) {
            uint64_t bytes = reference_file_bytes(&r->migration[i]);

            if ((bytes > reference_ledger_bytes(&r->ledger, i)) == (grows == 1))
                reference_ledger_set(&r->ledger, i, bytes);
        }
}

/* The newest sizes count, not those of the last tick: they are laid out first. */
void reference_resize(struct reference *r, uint64_t capacity)
{
    settle_ledger(r);
    reference_ledger_resize(&r->ledger, capacity);
}

static void count_tick(struct reference *r, uint64_t now_ms)
{
    double most = (double)r->options.interval_ms * (double)r->options.late_factor_percent / 100;

    r->late_ticks += r->ticked && (double)(now_ms - r->now_ms) > most;
    r->ticked = true;
    r->ticks++;
    r->now_ms = now_ms;
}

void reference_tick(struct reference *r, uint64_t now_ms, struct migbuf_decision *out)
{
    count_tick(r, now_ms);
    settle_ledger(r);
    count_space(r);
    r->level = INFINITY;
    for (int i = 0; i < r->ledger.count; i++)
        reference_ledger_view(&r->ledger, i, &r->migration[i].view);
    if (r->options.policy == MIGBUF_POLICY_LITERAL)
        for (int i = 0; i < r->ledger.count; i++)
            literal_budget(r, i);
    else if (r->options.policy == MIGBUF_POLICY_PLANNER)
        planner_budgets(r);
    else
        paper_budgets(r);
    for (int i = 0; i < r->ledger.count; i++) {
        r->migration[i].before = r->migration[i].now;
        if (r->options.policy != MIGBUF_POLICY_LITERAL)
            owe(r, &r->migration[i]);
        decide(r, i, 0, &out[i]);
    }
}

void reference_again(struct reference *r, int i, double shift, struct migbuf_decision *out)
{
    r->migration[i].now = r->migration[i].before;
    decide(r, i, shift, out);
}

void reference_refused(struct reference *r, int i)
{
    r->migration[i].now = r->migration[i].before;
    r->migration[i].action = MIGBUF_ACTION_KEEP;
}
