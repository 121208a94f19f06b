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

/* What one small write allocates. A file system whose block nobody told allocates a cluster. */
static uint64_t unit_of(const struct migbuf_geometry *g)
{
    uint64_t block = g->block_bytes > 0 ? g->block_bytes : g->cluster_bytes;

    return block < g->subcluster_bytes ? g->subcluster_bytes : block;
}

/* Clusters that one L2 table and one refcount block tell of. */
static uint64_t entries_of(const struct migbuf_geometry *g)
{
    return g->cluster_bytes / (g->subcluster_bytes < g->cluster_bytes ? 16 : 8);
}

static uint64_t counts_of(const struct migbuf_geometry *g)
{
    return g->cluster_bytes / 2;
}

uint64_t reference_request_growth(const struct migbuf_geometry *g, uint64_t length)
{
    uint64_t unit = unit_of(g);

    if (length == 0)
        return 0;
    if (g->flags & MIGBUF_GEOMETRY_ALIGNED)
        return ceil_div(length, unit) * unit;
    return length < 2 ? unit : ((length - 2) / unit + 2) * unit;
}

/* All clusters that are no data: header, L1, L2, and what counts them all. */
struct tables {
    uint64_t rest, blocks, table;
};

static struct tables tables_of(const struct migbuf_geometry *g)
{
    uint64_t data = ceil_div(g->virtual_bytes, g->cluster_bytes), l2 = ceil_div(data, entries_of(g));
    struct tables t = { .rest = 1 + l2 + ceil_div(l2 * 8, g->cluster_bytes) };

    /* refcounts count their own clusters too: go on until they do not need more of themselves */
    for (;;) {
        uint64_t blocks = ceil_div(data + t.rest + t.blocks + t.table, counts_of(g));
        uint64_t table = ceil_div(blocks * 8, g->cluster_bytes);

        if (table > 1) /* moved whenever it was full, to a place half as large again: all that it ever took, rounded up */
            table = ceil_div(table * 9, 2) + 1;
        if (blocks == t.blocks && table == t.table)
            return t;
        t.blocks = blocks;
        t.table = table;
    }
}

static uint64_t tables_alone(const struct migbuf_geometry *g)
{
    struct tables t = tables_of(g);

    return (t.rest + t.blocks + t.table) * g->cluster_bytes;
}

/* Of a file system's blocks the last may hold a cluster alone. */
static uint64_t end_of_file(const struct migbuf_geometry *g)
{
    return g->block_bytes > g->cluster_bytes ? g->block_bytes : 0;
}

uint64_t reference_metadata(const struct migbuf_geometry *g)
{
    return tables_alone(g) + end_of_file(g);
}

uint64_t reference_metadata_of(const struct migbuf_geometry *g, uint64_t data)
{
    uint64_t c = g->cluster_bytes;

    return (ceil_div(data, entries_of(g) * c) + ceil_div(data, counts_of(g) * c) + 2 + tables_of(g).table) * c + end_of_file(g);
}

double reference_scattered(const struct migbuf_geometry *g, double units)
{
    double c = (double)g->cluster_bytes, clusters = (double)ceil_div(unit_of(g), g->cluster_bytes);
    double tables = (double)ceil_div(unit_of(g), entries_of(g) * g->cluster_bytes);

    return units * (tables + (clusters + tables) / (c / 2 - 1)) * c;
}

uint64_t reference_drain(const struct migbuf_geometry *g, uint64_t in_flight, uint64_t request)
{
    uint64_t c = g->cluster_bytes, growth = reference_request_growth(g, request), all;

    if (in_flight == 0)
        return 0;
    all = ceil_div(growth, entries_of(g) * c) + (g->flags & MIGBUF_GEOMETRY_ALIGNED ? 0 : 1);
    all = in_flight * (growth + all * c);
    return all + (ceil_div(all, counts_of(g) * c) + 1 + tables_of(g).table) * c + end_of_file(g);
}

uint64_t reference_request(const struct migbuf_geometry *g)
{
    if (g->request_bytes == MIGBUF_NONE)
        return 0;
    return g->request_bytes > 0 ? g->request_bytes : 32 * UINT64_C(1310720);
}

uint64_t reference_queue(const struct migbuf_geometry *g)
{
    if (g->queue_bytes == MIGBUF_NONE)
        return 0;
    return g->queue_bytes > 0 ? g->queue_bytes : reference_drain(g, 256, 1310720);
}

uint64_t reference_extra(const struct migbuf_geometry *g)
{
    if (g->extra_bytes == MIGBUF_NONE)
        return 0;
    return g->extra_bytes > 0 ? g->extra_bytes : UINT64_C(16) << 20;
}

uint64_t reference_whole_disk(const struct migbuf_geometry *g)
{
    uint64_t most = UINT64_C(1) << 60, block = g->block_bytes > 0 ? g->block_bytes : g->cluster_bytes, bytes;

    if (g->flags & MIGBUF_GEOMETRY_NO_WHOLE)
        return most;
    bytes = ceil_div(g->virtual_bytes, g->cluster_bytes) * g->cluster_bytes + tables_alone(g) + reference_extra(g);
    return least(most, ceil_div(bytes, block) * block);
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
    m->waits = m->force.now.absent = m->force.before.absent = from->file_bytes == 0;
    m->fed_bytes = (double)from->file_bytes;
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
    r->migration[i].fed_ms = r->now_ms;
    for (int d = 0; d < m->disk_count; d++)
        r->migration[i].disk_ms[d] = (double)r->now_ms;
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

void reference_sample(struct reference *r, int i, uint64_t now_ms, const struct migbuf_sample *s)
{
    struct reference_migration *m = &r->migration[i];

    m->disk_bytes[s->disk] = s->file_bytes;
    m->disk_told[s->disk] = (s->writes > 0 || m->disk_writes[s->disk] == 0) &&
                            (s->written_bytes > 0 || m->disk_written[s->disk] == 0);
    if (m->disk_told[s->disk]) { /* else a counter that was known is not known now: the last ones stay */
        m->disk_writes[s->disk] = s->writes;
        m->disk_written[s->disk] = s->written_bytes;
    }
    if (s->remaining_bytes > 0)
        m->disk_left[s->disk] = s->remaining_bytes == MIGBUF_NONE ? 0 : s->remaining_bytes;
    m->disk_ms[s->disk] = (double)now_ms;
    if (s->file_bytes > 0) /* then it is there */
        m->waits = m->force.now.absent = m->force.before.absent = false;
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

double reference_most_bytes(const struct reference_migration *m)
{
    return (double)reference_file_bytes(m) + m->unseen;
}

double reference_unit(const struct reference_migration *m)
{
    uint64_t unit = 0;

    for (int d = 0; d < m->disk_count; d++)
        unit = unit_of(&m->disk[d]) > unit ? unit_of(&m->disk[d]) : unit;
    return (double)unit;
}

double reference_amplification(const struct reference_migration *m)
{
    double a = 1;

    for (int d = 0; d < m->disk_count; d++)
        a = m->disk[d].flags & MIGBUF_GEOMETRY_ALIGNED ? a : 3;
    return a;
}

static double request_growth(const struct migbuf_geometry *g)
{
    return (double)reference_request_growth(g, reference_request(g));
}

static double request_metadata(const struct migbuf_geometry *g)
{
    return (double)reference_metadata_of(g, reference_request_growth(g, reference_request(g)));
}

/* One whole request of each disk. */
static double one_request(const struct reference_migration *m)
{
    double sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        sum += request_growth(&m->disk[d]);
    return sum;
}

/* A change is told to each disk, and at each of these the largest request of any disk may pass. */
static double set_requests(const struct reference_migration *m)
{
    double most = 0, sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        most = fmax(most, request_growth(&m->disk[d]));
    for (int d = 0; d < m->disk_count; d++)
        sum += most;
    return sum;
}

static double set_metadata(const struct reference_migration *m)
{
    double most = 0, sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        most = fmax(most, request_metadata(&m->disk[d]));
    for (int d = 0; d < m->disk_count; d++)
        sum += most;
    return sum;
}

static double set_s(const struct reference_migration *m)
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

static double queue(const struct reference_migration *m)
{
    double sum = 0;

    for (int d = 0; d < m->disk_count; d++)
        sum += (double)reference_queue(&m->disk[d]);
    return sum;
}

double reference_whole(const struct reference_migration *m)
{
    double whole = 0;

    for (int d = 0; d < m->disk_count; d++)
        whole += (double)reference_whole_disk(&m->disk[d]);
    return whole;
}

/* What its files can still grow by before every disk is whole. */
static double missing(const struct reference_migration *m)
{
    return fmax(0, reference_whole(m) - reference_most_bytes(m));
}

static bool surely_stands(const struct reference_migration *m)
{
    return m->force.now.paused && !m->force.unanswered && !m->force.unknown && m->force.now.still == 3;
}

double reference_reserve(const struct reference_migration *m)
{
    double drains = surely_stands(m) ? 0 : m->drains_ahead; /* who stands has nothing that could be poured */

    drains += m->force.now.paused ? 0 : 1; /* a pause is a drain, and who is paused has had it … */
    drains += m->force.pours ? 1 : 0;      /* … but what it poured may not have been measured … */
    drains += m->drained + m->poured;      /* … nor what others poured that are over */
    return fmin(queue(m) * drains, missing(m));
}

static bool without_iops_size(const struct reference_migration *m)
{
    bool without = false;

    for (int d = 0; d < m->disk_count; d++)
        without = without || (m->disk[d].flags & MIGBUF_GEOMETRY_NO_IOPS_SIZE);
    return without;
}

/* What one unit/s lets through: without iops_size, requests and bytes share the budget, half each. */
static double worth_of_unit(const struct reference_migration *m)
{
    return without_iops_size(m) ? 2 * reference_unit(m) : reference_unit(m);
}

static double device_of(const struct reference_migration *m)
{
    return m->device == 0 || m->device > UINT64_C(1) << 53 ? INFINITY : (double)m->device;
}

static double flow_of(const struct reference_migration *m)
{
    return m->flow == 0 || m->flow > UINT64_C(1) << 53 ? INFINITY : (double)m->flow;
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

/* Bytes/s of growth that a state lets through. */
static double rate_under(const struct reference_migration *m, const struct reference_state *s)
{
    if (s->absent || s->paused)
        return 0;
    if (!s->limited)
        return device_of(m) < INFINITY ? device_of(m) : 4e9;
    return fmin((double)s->units * worth_of_unit(m), device_of(m));
}

/* The highest of all that may hold, and how many sets may still land. */
static double highest_rate(const struct reference_migration *m)
{
    double rate = rate_under(m, &m->force.now);

    for (int k = 0; k < m->force.olders; k++)
        rate = fmax(rate, rate_under(m, &m->force.older[k].state));
    return rate;
}

static double sets_to_come(const struct reference_migration *m)
{
    double sets = m->force.found ? 1 : 0;

    for (int k = 0; k < m->force.olders; k++)
        sets += m->force.older[k].sets;
    return sets;
}

/* growth(w, t, sets) of buffer.h; `found`: the bucket may be found empty at the beginning. */
static double growth(const struct reference_migration *m, double w, double seconds, double sets, bool found)
{
    double units, requests = sets * set_requests(m), of_requests = sets * set_metadata(m), worst = 0;

    seconds += sets * set_s(m);
    if (found) {
        seconds += 0.1;
        requests += one_request(m);
        for (int d = 0; d < m->disk_count; d++)
            of_requests += request_metadata(&m->disk[d]);
    }
    units = reference_amplification(m) * w * seconds / reference_unit(m);
    for (int d = 0; d < m->disk_count; d++)
        worst = fmax(worst, reference_scattered(&m->disk[d], 1));
    return units * reference_unit(m) + requests + fmin(units * worst + of_requests, all_metadata(m));
}

/* Written after the measurement and before what is decided now has landed, at most `room`. */
static double pending(const struct reference *r, const struct reference_migration *m, double room)
{
    double rate = highest_rate(m), sets = sets_to_come(m);
    bool unlimited = !m->force.now.limited;

    if (rate <= 0 || (r->options.lag_ms == 0 && sets <= 0 && !unlimited && m->unseen <= 0))
        return 0;
    return fmin(growth(m, rate, lag_s(r), sets, true), room);
}

/* The claim when w is let through is c w + e. Which way to bound the tables is the better one at `at` decides both. */
static void claim(const struct reference *r, const struct reference_migration *m, double at, double room, double *c,
                  double *e)
{
    double seconds = window_s(r) + set_s(m), a = reference_amplification(m), worst = 0, slope;

    for (int d = 0; d < m->disk_count; d++)
        worst = fmax(worst, reference_scattered(&m->disk[d], 1));
    slope = a * worst / reference_unit(m) * seconds;
    *c = a * seconds;
    *e = set_requests(m);
    if (at * slope + set_metadata(m) >= all_metadata(m)) {
        *e += all_metadata(m);
    } else {
        *c += slope;
        *e += set_metadata(m);
    }
    if (m->force.now.paused) /* to run again it needs the reserve of its next pause, and of all drains that is not there */
        *e += queue(m) * (surely_stands(m) ? 1.0 + m->drains_ahead : 1);
    *e = fmin(*e, room);
}

/* Units/s at which the largest request has been paid for within max_stall. */
static uint64_t least_units(const struct reference *r, const struct reference_migration *m)
{
    uint64_t smallest = UINT64_MAX, longest = 0, stall_ms = r->options.max_stall_ms, units;

    if (stall_ms == 0)
        stall_ms = 30000;
    for (int d = 0; d < m->disk_count; d++) {
        smallest = least(smallest, unit_of(&m->disk[d]));
        longest = reference_request(&m->disk[d]) > longest ? reference_request(&m->disk[d]) : longest;
    }
    units = ceil_div(ceil_div(longest, smallest) * 1000, stall_ms);
    return units > 1 ? units : 1;
}

/* While the overlay is sent, what is written counts, not what grows. */
static double ratio(const struct reference_migration *m)
{
    return m->phase == MIGBUF_PHASE_MIRROR ? 1 : m->ratio;
}

/* The smallest limit that lets a guest run: two units/s, lest it be paused again at once, and its largest request. */
static double smallest_limit(const struct reference *r, const struct reference_migration *m)
{
    return worth_of_unit(m) * (double)(least_units(r, m) > 2 ? least_units(r, m) : 2);
}

double reference_needs(const struct reference *r, int i)
{
    return smallest_limit(r, &r->migration[i]) * ratio(&r->migration[i]);
}

/* Files, reserve and smallest limit, if the files weighed so much. */
static double fee(const struct reference *r, const struct reference_migration *m, double file_bytes)
{
    struct reference_migration there = *m;
    double c, e;

    there.unseen += file_bytes - reference_most_bytes(m);
    claim(r, m, smallest_limit(r, m), missing(&there), &c, &e);
    return file_bytes + fmin(reference_reserve(&there) + c * smallest_limit(r, m) + e, missing(&there));
}

double reference_entry_fee(const struct reference *r, const struct reference_migration *m)
{
    double most = reference_most_bytes(m);

    if (reference_ledger_find(&r->ledger, m->id) >= 0)
        most += pending(r, m, missing(m) - reference_reserve(m));
    return fee(r, m, most);
}

/* What may hold, from one decision to the next. */

static void add_older(struct reference_force *f, const struct reference_state *s, double until_ms)
{
    f->older[f->olders++] = (struct reference_older){ *s, until_ms, 1 };
}

/* No more than four are told apart: the two oldest are then one, at the higher rate, for the longer time. */
static void older_are_few(const struct reference_migration *m, struct reference_force *f)
{
    struct reference_older *first = f->older, *second = f->older + 1;

    if (f->olders <= REFERENCE_OLDER)
        return;
    if (rate_under(m, &first->state) > rate_under(m, &second->state))
        second->state = first->state;
    second->until_ms = fmax(first->until_ms, second->until_ms);
    second->sets += first->sets;
    f->olders--;
    memmove(first, second, (size_t)f->olders * sizeof *first);
}

/* One stands for all that may hold, until somebody knows: it has the highest rate. Two sets may land: the one that nobody
 * answered, and the next. */
static void any_may_hold(const struct reference_migration *m, struct reference_force *f, struct reference_state s)
{
    for (int k = 0; k < f->olders; k++)
        if (rate_under(m, &f->older[k].state) > rate_under(m, &s))
            s = f->older[k].state;
    f->older[0] = (struct reference_older){ s, INFINITY, 2 };
    f->olders = 1;
}

static void doubt(struct reference_migration *m)
{
    struct reference_force *f = &m->force;

    if (!f->unanswered && !f->unknown)
        f->before = f->now;
    any_may_hold(m, f, f->before);
    f->now.still = f->before.still = 0;
    f->unknown = true;
    f->unanswered = f->again = false;
}

/* What nobody knew is known: whatever else was in force has ended by the next tick. */
static void know(struct reference_migration *m)
{
    for (int k = 0; k < m->force.olders; k++)
        m->force.older[k].until_ms = fmin(m->force.older[k].until_ms, REFERENCE_LANDED);
    m->force.unknown = m->force.unanswered = false;
}

int reference_outcome(struct reference *r, int i, int32_t outcome)
{
    struct reference_migration *m = &r->migration[i];
    double decided = rate_under(m, &m->force.now);

    if (outcome == MIGBUF_OUTCOME_DONE) {
        know(m);
        if (m->force.now.paused && m->force.now.still == 0)
            m->force.now.still = 1;
    }
    if (outcome == MIGBUF_OUTCOME_REFUSED) {
        if (!m->force.unanswered)
            return MIGBUF_E_STATE;
        m->force.now = m->force.before;
        m->force.unanswered = m->force.again = false;
    }
    if (outcome == MIGBUF_OUTCOME_UNKNOWN)
        doubt(m);
    if (outcome < MIGBUF_OUTCOME_REFUSED)
        return 0;
    return highest_rate(m) > decided || (m->force.unknown && r->options.lag_ms == 0);
}

void reference_found(struct reference *r, int i, const struct migbuf_limits *limits, bool running)
{
    struct reference_migration *m = &r->migration[i];
    struct reference_force *f = &m->force;
    struct reference_state s = { .paused = !running, .paused_at_ms = r->now_ms, .still = !running };

    if (limits && running)
        s.units = r->options.policy == MIGBUF_POLICY_LITERAL ? limits->bps_wr : limits->iops_wr;
    s.limited = s.units > 0 || !running;
    if (f->now.paused)
        s.paused_at_ms = f->now.paused_at_ms;
    if (f->now.absent && running && s.units == 0)
        return; /* nobody can limit what is not there */
    f->found = s.units != f->now.units || s.limited != f->now.limited || s.paused != f->now.paused;
    f->pours = f->pours || (s.paused && !f->now.paused); /* whoever stopped it, it poured its queue */
    if (f->unanswered && !f->unknown && f->olders > 0) {
        add_older(f, &f->now, f->older[f->olders - 1].until_ms); /* it may land after the look */
        older_are_few(m, f);
    }
    if (f->found && f->said) {
        add_older(f, &f->now, REFERENCE_LANDED); /* it was in force until another hand came, or may have been */
        f->older[f->olders - 1].sets = 0;
        older_are_few(m, f);
    }
    know(m);
    f->said = true;
    f->now = f->before = s;
    m->waits = false;
}

/* Before the first tick nobody knows what time it is; and nothing is measured after the tick that it is told to. */
static double measured_ms(const struct reference *r, struct reference_migration *m, uint64_t now_ms)
{
    double oldest = (double)now_ms;

    for (int d = 0; d < m->disk_count; d++) {
        if (m->disk_ms[d] > (double)now_ms || (!r->ticked && m->disk_ms[d] >= 0 && m->disk_ms[d] <= 0))
            m->disk_ms[d] = (double)now_ms;
        oldest = fmin(oldest, m->disk_ms[d]);
    }
    return oldest;
}

/* What may have been in force since its files were measured lets them have grown. What was over by then is forgotten. */
static void look_back(const struct reference *r, struct reference_migration *m, uint64_t now_ms)
{
    double since = measured_ms(r, m, now_ms), rate;
    struct reference_force *f = &m->force;
    int kept = 0;

    if (r->options.policy == MIGBUF_POLICY_LITERAL) { /* promises nothing */
        f->pours = f->pours && f->unknown;
        f->unanswered = false;
        f->olders = 0;
        m->drained = 0;
        return;
    }
    for (int k = 0; k < f->olders; k++)
        if (f->older[k].until_ms >= since)
            f->older[kept++] = f->older[k];
    f->olders = kept;
    f->unanswered = f->unanswered && kept > 0; /* without a word it was done */
    f->pours = f->pours && (kept > 0 || f->unknown);
    if (f->now.still == 2 && since > f->now.still_ms)
        f->now.still = 3;
    if (f->now.still == 1) {
        f->now.still = 2;
        f->now.still_ms = (double)now_ms;
    }
    if (since >= m->poured_ms)
        m->poured = 0;
    if (m->drained > 0) {
        m->poured = fmin(UINT32_MAX, m->poured + m->drained);
        m->poured_ms = (double)now_ms;
        m->drained = 0;
    }
    rate = highest_rate(m);
    m->unseen = 0;
    if (rate > 0 && since < (double)now_ms) {
        double bytes = missing(m);

        if (isfinite(since))
            bytes = fmin(bytes, growth(m, rate, ((double)now_ms - since) / 1000, sets_to_come(m), false));
        m->unseen = bytes;
    }
    for (int k = 0; k < kept; k++)
        if (f->older[k].until_ms >= REFERENCE_LANDED && isfinite(f->older[k].until_ms))
            f->older[k].until_ms = (double)now_ms;
}

void reference_load(struct reference *r, uint64_t now_ms)
{
    bool anew = now_ms < r->now_ms;

    r->now_ms = anew ? now_ms : r->now_ms;
    r->level = INFINITY;
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->force.now.still = m->force.now.still == 3 && !anew ? 3 : 0; /* what had not come that far is not saved */
        m->force.before.still = m->force.before.still == 3 && !anew ? 3 : 0;
        if (m->force.unanswered)
            doubt(m);
        m->force.said = true;
        m->release = INFINITY;
        if (!anew)
            continue;
        m->link_ms = now_ms;
        m->force.now.paused_at_ms = m->force.before.paused_at_ms = now_ms;
        for (int k = 0; k < m->force.olders; k++)
            if (m->force.older[k].until_ms < REFERENCE_LANDED)
                m->force.older[k].until_ms = (double)now_ms + r->options.lag_ms;
        /* nobody knows how long it took: all that may be written was */
        if (highest_rate(m) > 0) {
            m->unseen = 0;
            m->unseen = missing(m);
        }
        for (int d = 0; d < m->disk_count; d++)
            m->disk_ms[d] = -INFINITY;
        m->poured_ms = (double)now_ms;
        m->measured = m->fed = m->owed_known = false;
        m->learnt_ms = m->fed_ms = m->owed_ms = now_ms;
        m->fed_bytes = (double)reference_file_bytes(m);
    }
}

/* Of every disk all that is known of it was told last time. */
static bool all_told(const struct reference_migration *m)
{
    for (int d = 0; d < m->disk_count; d++)
        if (!m->disk_told[d])
            return false;
    return true;
}

/* growth.h once more. */
static void learn(struct reference *r, struct reference_migration *m)
{
    double seconds = (double)(r->now_ms - m->learnt_ms) / 1000, units, grown, unit = reference_unit(m);
    double rate = m->force.now.limited ? (double)m->force.now.units : INFINITY, most_credit, passed;
    uint64_t bytes = reference_file_bytes(m), writes = 0, written = 0;
    struct reference_migration old = *m;

    if (!all_told(m) || without_iops_size(m) || seconds < 0.05)
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
    if (m->force.now.limited && passed - units < m->credit)
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
    double speed = (double)m->force.now.units * reference_unit(m), more = 0, owed = m->owed;

    if (!all_told(m))
        return;
    if (m->force.again || m->owed_rate < m->force.now.units)
        owed = 0;
    m->force.again = false;
    for (int d = 0; d < m->disk_count; d++)
        written += m->disk_written[d];
    if (!m->owed_known || m->owed_written == 0 || written < m->owed_written || m->force.now.units == 0) {
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
    m->owed_rate = m->force.now.units;
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
    return 0.5 * fmin(share, flow_of(m));
}

static double hard_cap(const struct reference *r, const struct reference_migration *m)
{
    double a = reference_amplification(m) / ratio(m);

    return fmax(0, (m->view.room / a - one_request(m) / a) / (window_s(r) + set_s(m)));
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
static void clamp_by_lenders(struct reference *r)
{
    bool changed = true;

    for (int i = 0; i < r->ledger.count; i++)
        r->migration[i].below_lenders = r->migration[i].clamped;
    while (changed) {
        changed = false;
        for (int i = 0; i < r->ledger.count; i++)
            for (int h = 0; h < r->migration[i].view.host_count; h++) {
                double host = r->migration[r->migration[i].view.host[h]].below_lenders;

                changed = changed || host < r->migration[i].below_lenders;
                r->migration[i].below_lenders = fmin(r->migration[i].below_lenders, host);
            }
    }
}

/* The agreed minimum, and never less than what a guest needs to run. */
static double lowest(const struct reference *r, const struct reference_migration *m, double of_ratio)
{
    return fmax((double)r->options.floor_bytes_per_s, smallest_limit(r, m) * of_ratio);
}

static void floor_clamp(struct reference *r, struct reference_migration *m)
{
    if (m->below_lenders < m->clamped)
        m->cause = MIGBUF_REASON_LENDER;
    if (lowest(r, m, ratio(m)) > m->below_lenders)
        m->cause = MIGBUF_REASON_FLOOR;
    m->wanted = fmax(lowest(r, m, ratio(m)), m->below_lenders);
    if (m->phase == MIGBUF_PHASE_BASE && m->view.shards == 1 && m->view.prospective == 0 && missing(m) <= m->view.room) {
        m->wanted = INFINITY;
        m->cause = MIGBUF_REASON_WHOLE;
    }
}

/* The planner's rates are of what is written: growth is what they bound, and a unit counts as one. */
static double target_ratio(const struct reference *r, const struct reference_migration *m)
{
    return r->options.policy == MIGBUF_POLICY_PLANNER ? 1 : ratio(m);
}

/* Nobody has to have less than its smallest limit. */
static bool all_have_least(const struct reference *r)
{
    return r->least_growth <= r->grantable;
}

static double own_level(const struct reference *r, int i, double level)
{
    const struct reference_migration *m = &r->migration[i];

    return all_have_least(r) ? fmax(level, smallest_limit(r, m) * target_ratio(r, m)) : level;
}

/* A level where each gets its part, but no less than its least and no more than its most: the highest bend of that sum that
 * there is enough for, and from there as far as the rest goes. -1 where there is not enough for the least of all. */
static double deal(const double *low, const double *most, const double *weight, int n, double total)
{
    double sum = 0, best = -1, dealt = 0, slope = 0;

    for (int i = 0; i < n; i++) {
        sum += most[i];
        dealt += low[i];
    }
    if (dealt > total + 1)
        return -1;
    if (sum <= total)
        return INFINITY;
    for (int k = 0; k < 2 * n; k++) {
        double bend = (k < n ? low[k] : most[k - n]) / weight[k % n], then = 0;

        for (int i = 0; i < n; i++)
            then += fmin(most[i], fmax(low[i], weight[i] * bend));
        if (then <= total && bend > best) {
            best = bend;
            dealt = then;
        }
    }
    if (best < 0)
        return 0;
    for (int i = 0; i < n; i++)
        if (low[i] / weight[i] <= best && most[i] / weight[i] > best)
            slope += weight[i];
    return slope > 0 ? best + (total - dealt) / slope : best;
}

/* What is free is dealt out: everybody's fixed part first, then a common level of the budgets. Tables are bounded by the
 * way that is the better one for each at its budget, or at `at` where that is less. Writes down what is claimed then. */
static double common_level(struct reference *r, double kept, double at)
{
    double amount[REFERENCE_MAX] = { 0 }, weight[REFERENCE_MAX] = { 0 }, fixed[REFERENCE_MAX];
    double lowest[REFERENCE_MAX] = { 0 };
    double total = fmin(r->grantable, fmax(r->grantable - kept, r->least_growth));
    double level = 0;

    for (int i = 0; i < r->ledger.count; i++) {
        const struct reference_migration *m = &r->migration[i];
        double of = target_ratio(r, m), most = fmin(m->wanted, device_of(m) * of);
        double room = m->waits ? 0 : missing(m) - m->reserve - m->pending;

        claim(r, m, fmax(fmin(most, at) / of, smallest_limit(r, m)), room, &weight[i], &fixed[i]);
        weight[i] /= of;
        amount[i] = fmin(weight[i] * most, room - fixed[i]);
        if (all_have_least(r))
            lowest[i] = fmin(amount[i], weight[i] * smallest_limit(r, m) * of);
        total -= fixed[i];
    }
    if (all_have_least(r)) /* where that does not fit, tables bounded that way are too much */
        level = deal(lowest, amount, weight, r->ledger.count, total);
    else if (total >= -1) /* all fixed parts fit, to a byte; then only who wants more is cut */
        level = reference_shave(amount, weight, r->ledger.count, total);
    for (int i = 0; i < r->ledger.count; i++)
        r->migration[i].claim = fixed[i] + fmin(amount[i], weight[i] * fmin(r->migration[i].wanted, own_level(r, i, level)));
    return level;
}

/* Four fifths of: less than that by what may go by until the next decision has landed, and by the turn in which the stall began. */
static double longest_stall(const struct reference *r)
{
    double most = (r->options.max_stall_ms > 0 ? r->options.max_stall_ms : 30000) / 1000.0;

    return 0.8 * fmax(most - window_s(r) - r->options.interval_ms / 1000.0, most / 2);
}

/* What must be free beside its file and its reserve for it to run at all. */
static double needs_beside(const struct reference *r, const struct reference_migration *m)
{
    return fee(r, m, reference_most_bytes(m)) - reference_most_bytes(m) - m->reserve;
}

/* Turns. Nobody looks further ahead than a hundred longest stalls. */

/* Of the link's part that it would have beside all, or beside those alone that send. */
static void look_ahead(struct reference *r, int i, bool beside_all)
{
    struct reference_migration *m = &r->migration[i];
    double tick_s = r->options.interval_ms / 1000.0, rate = smallest_limit(r, m) * target_ratio(r, m), need = missing(m);
    double share = flow_of(m), bytes = reference_most_bytes(m), weights = 0;

    for (int j = 0; j < r->ledger.count; j++)
        if (r->migration[j].link == m->link && (beside_all || !r->migration[j].waits))
            weights += r->ledger.bin[j].weight;
    if (m->link_rate > 0)
        share = fmin(share, (double)m->link_rate * r->ledger.bin[i].weight / weights);
    for (int d = 0; d < m->disk_count; d++)
        bytes += (double)m->disk_left[d];
    m->away = share < INFINITY ? fmax(bytes / share, tick_s) : INFINITY;
    if (r->options.policy == MIGBUF_POLICY_PLANNER) {
        m->away = fmin(m->away, m->release);
        need = m->need;
    }
    m->turn = queue(m) + rate * tick_s;
    m->runs = fmin(rate * fmin(m->away, 100 * longest_stall(r)), need);
    if (m->waits || m->away >= INFINITY) {
        m->away = INFINITY;
        m->runs = 0;
    }
}

/* Turns of one that is to stand no longer than `every` until then, and the one it has now. */
static double turns_until(const struct reference *r, const struct reference_migration *m, double then, double every)
{
    if (m->force.now.paused)
        then += (double)(r->now_ms - m->force.now.paused_at_ms) / 1000;
    return fmax(0, ceil(then / every) - 1) + (m->force.now.paused ? 0 : 1);
}

static double ahead_of(const struct reference *r, const struct reference_migration *m)
{
    return fmin(m->away, 100 * longest_stall(r));
}

/* What would be in the way of turns so often, at the worst of the times when somebody is gone. Of more than 32 some are looked at. */
static double kept_for(struct reference *r, double every)
{
    int order[REFERENCE_MAX], n = r->ledger.count;
    double worst = 0;

    for (int i = 0; i < n; i++) {
        struct reference_migration *m = &r->migration[i];
        int at = i;

        m->stands = every > 0 && m->runs + (m->force.now.paused ? queue(m) : 0) >
                    m->turn * fmax(1, turns_until(r, m, ahead_of(r, m), every)) * (1 + 1e-9);
        for (; at > 0 && r->migration[order[at - 1]].away > m->away; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (int k = 0; k < n; k += n > 32 ? 1 + n / 8 : 1) {
        double when = ahead_of(r, &r->migration[order[k]]), bytes = 0, more = 0;

        for (int j = 0; j < n; j++) {
            const struct reference_migration *m = &r->migration[order[j]];

            double drains = queue(m) * (1.0 + m->drains_ahead);

            if (j < k) {
                bytes -= reference_most_bytes(m) + m->reserve;
            } else if (m->stands) {
                bytes += m->turn * turns_until(r, m, when, every) - (m->force.now.paused ? 0 : drains);
                more = fmax(more, needs_beside(r, m) - m->turn + (m->force.now.paused ? 0 : drains));
            } else {
                bytes += m->runs / ahead_of(r, m) * when;
            }
        }
        worst = fmax(worst, bytes + more);
    }
    return worst;
}

/* What one more would grow by until it is gone, all the time under its smallest limit. No more than its whole disks. */
static double growth_of_new(const struct reference *r, const struct reference_migration *m)
{
    double rate = smallest_limit(r, m) * target_ratio(r, m);

    return m->away < INFINITY ? fmin(rate * ahead_of(r, m), missing(m)) : 0;
}

/* Who waits for its room begins as soon as that is free beside the least that the others must be left, and beside what all
 * with it will grow by so that nobody has to stand. Who would be alone needs no more than its own room. In order of start. */
static void let_in(struct reference *r, double left)
{
    double kept = 0, least_growth = 0, in_the_way;

    for (int i = 0; i < r->ledger.count; i++) {
        const struct reference_migration *m = &r->migration[i];

        look_ahead(r, i, true);
        if (!m->waits)
            least_growth += fee(r, m, reference_most_bytes(m)) - reference_most_bytes(m) - m->reserve;
    }
    in_the_way = kept_for(r, 0);
    left -= least_growth;
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];
        double more;

        if (!m->waits)
            continue;
        m->waits = false;
        look_ahead(r, i, true);
        more = growth_of_new(r, m);
        if (least_growth > 0 && fee(r, m, 0) <= left && fee(r, m, 0) + fmax(0, more + in_the_way - least_growth) > left) {
            m->waits = true; /* for others to leave: nothing is kept for that */
            continue;
        }
        m->waits = fee(r, m, 0) > left;
        if (m->waits) {
            kept += fee(r, m, 0);
        } else {
            in_the_way += more;
            m->reserve = reference_reserve(m);
            r->reserves += m->reserve;
            r->grantable -= m->reserve;
            least_growth += fee(r, m, 0) - m->reserve;
        }
        left -= fee(r, m, 0);
    }
    /* the others may not take what somebody waits for, but what they need to run */
    r->least_growth = least_growth * (1 + 1e-9);
    r->grantable = fmin(r->grantable, fmax(r->grantable - kept, r->least_growth));
}

static double plan_turns(struct reference *r)
{
    double every = longest_stall(r), kept;
    bool somebody_stands = false;

    for (int i = 0; i < r->ledger.count; i++) {
        look_ahead(r, i, false);
        somebody_stands = somebody_stands || r->migration[i].force.now.paused;
    }
    kept = kept_for(r, every);
    r->period = 0;
    if (kept_for(r, somebody_stands ? every / 2 : every) > fmax(0, r->grantable)) {
        r->period = every;
        while (kept_for(r, r->period) > fmax(0, r->grantable) && r->period < 100 * every)
            r->period *= 1.25;
    } else {
        for (int i = 0; i < r->ledger.count; i++)
            r->migration[i].stands = false;
    }
    return kept;
}

/* It has stood for as long as it was to. */
static bool is_due(const struct reference *r, const struct reference_migration *m)
{
    double stood_ms = (double)(r->now_ms - m->force.now.paused_at_ms);
    double wait_s = r->period > 0 ? r->period : longest_stall(r);

    return m->force.now.paused && stood_ms >= fmax(wait_s * 1000, r->options.min_pause_ms);
}

/* Who has nothing to write to yet comes first, then who has stood longest, then who runs. That one must leave what is kept. */
static void take_turns(struct reference *r, double kept)
{
    double left = r->grantable, rank[REFERENCE_MAX];

    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];
        bool runs = !m->force.now.paused && !m->force.now.absent;

        m->writes = false;
        m->stands = !m->waits && (m->stands || m->budget < smallest_limit(r, m) * target_ratio(r, m) * (1 - 1e-9));
        left -= m->waits || m->stands ? 0 : m->claim;
        rank[i] = INFINITY;
        if (m->stands && m->force.now.absent)
            rank[i] = -1;
        else if (m->stands && is_due(r, m))
            rank[i] = (double)m->force.now.paused_at_ms;
        else if (m->stands && runs && r->period <= 0 && m->away < INFINITY)
            rank[i] = 1e300;
    }
    for (;;) {
        struct reference_migration *m;
        int next = 0;

        for (int i = 1; i < r->ledger.count; i++)
            next = rank[i] < rank[next] ? i : next;
        if (r->ledger.count == 0 || rank[next] >= INFINITY)
            break;
        m = &r->migration[next];
        m->writes = needs_beside(r, m) + (rank[next] >= 1e300 ? kept - 1 : 0) <= left;
        left -= m->writes ? needs_beside(r, m) : 0;
        rank[next] = INFINITY;
    }
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        if (!m->stands)
            continue;
        m->budget = m->writes ? smallest_limit(r, m) * target_ratio(r, m) : 0;
        m->claim = m->writes ? needs_beside(r, m) : 0;
        m->cause = m->writes || r->period > 0 ? MIGBUF_REASON_TURN : MIGBUF_REASON_SPACE;
    }
}

/* The higher of two levels: with the tables as they are bounded best at the budgets, and at the level that gives. */
static void clamp_by_space(struct reference *r)
{
    double kept = plan_turns(r), high = common_level(r, kept, INFINITY), low = high;

    if (high < INFINITY)
        low = common_level(r, kept, fmax(0, high));
    if (low < high)
        low = common_level(r, kept, INFINITY);
    r->level = fmax(0, low);
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->budget = m->wanted;
        if (m->wanted > own_level(r, i, r->level) && missing(m) > 0) { /* nobody needs to be held back from what cannot grow */
            m->budget = own_level(r, i, r->level);
            m->cause = MIGBUF_REASON_SPACE;
        }
    }
    take_turns(r, kept);
}

static void count_space(struct reference *r)
{
    r->reserves = r->pending = r->unseen = 0;
    r->grantable = (double)r->ledger.capacity;
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->reserve = m->waits ? 0 : reference_reserve(m);
        m->pending = pending(r, m, missing(m) - m->reserve);
        r->reserves += m->reserve;
        r->pending += m->pending;
        r->unseen += m->unseen;
        r->grantable -= reference_most_bytes(m) + m->reserve + m->pending;
    }
    let_in(r, r->grantable);
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
    m->waits = false; /* it lets everybody in */
    m->reserve = reference_reserve(m);
    m->cause = m->curve <= m->share ? MIGBUF_REASON_RATE : MIGBUF_REASON_SHARE;
}

static void paper_budgets(struct reference *r)
{
    for (int i = 0; i < r->ledger.count; i++) {
        learn(r, &r->migration[i]);
        own_clamps(r, i);
    }
    clamp_by_lenders(r);
    for (int i = 0; i < r->ledger.count; i++)
        floor_clamp(r, &r->migration[i]);
    count_space(r);
    clamp_by_space(r);
}

/* The planner: forecast.h and planner.h once more, each step as its text says it. */

static void forecast_guest(const struct reference *r, struct reference_migration *m)
{
    double seconds, written = 0, bytes = (double)reference_file_bytes(m);
    double limit = (double)m->force.now.units * reference_unit(m), du, ds, sample, keep;
    bool saturated, begun = false, unknown;

    for (int d = 0; d < m->disk_count; d++) {
        begun = begun || m->disk_bytes[d] > 0 || m->disk_writes[d] > 0 || m->disk_written[d] > 0;
        written += fmax((double)m->disk_writes[d] * reference_unit(m), (double)m->disk_written[d]);
    }
    if (!begun)
        m->fed_ms = r->now_ms;
    seconds = (double)(r->now_ms - m->fed_ms) / 1000;
    if (!all_told(m) || seconds < 0.05)
        return;
    keep = exp(-seconds / 60);
    ds = fmax(0, bytes - m->fed_bytes);
    du = m->fed ? fmax(written - m->fed_written, ds) : ds; /* what grew was written, also before anything was counted */
    sample = du / seconds;
    m->u += du;
    unknown = !m->fed && m->v <= 0;
    if (!m->force.now.paused) {
        saturated = m->force.now.limited && limit < device_of(m) && sample >= 0.9 * limit;
        m->vpk = saturated ? fmax(m->vpk, sample) : fmax(sample, keep * m->vpk);
        m->v += (1 - keep) * ((saturated ? m->vpk : sample) - m->v);
        m->num = keep * m->num + ds;
        m->den = keep * m->den + du;
        m->rho = m->den > 1e-9 ? fmin(1, m->num / m->den) : m->rho;
    }
    if (unknown) /* the first interval that is seen is all that is known */
        m->v = m->vpk;
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
    double s = (double)reference_file_bytes(m), most = missing(m), y;

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

/* U to plan with: as much as most links carry where nobody has told. */
static double link_speed(const struct reference_migration *m)
{
    return m->link_mean > 0 ? fmax(m->link_mean, 100000) : 125e6;
}

static double part_of_link(const struct reference *r, int i, double weights)
{
    const struct reference_migration *m = &r->migration[i];
    double flow = 0;

    for (int j = 0; j < r->ledger.count; j++)
        if (r->migration[j].link == m->link)
            flow = fmax(flow, flow_of(&r->migration[j]));
    return fmin(flow, link_speed(m) * r->ledger.bin[i].weight / weights);
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
    if (m->phase == MIGBUF_PHASE_MIRROR)
        return left / (1 - fmin(0.5, m->v / share));
    return left + (reference_most_bytes(m) + m->need) / (1 - fmin(0.5, m->rho * m->v / share));
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
                step = fmin(step, (m->demand - m->planned) / w);
            if (weights > 0)
                step = fmin(step, fmax(0, m->cap - used) / weights);
        }
        for (int k = 0; k < n; k++)
            r->migration[order[k]].planned += done[k] ? 0 : step * r->ledger.bin[order[k]].weight;
        used = 0;
        for (int k = n - 1; k >= 0; k--) {
            struct reference_migration *m = &r->migration[order[k]];

            used += m->planned;
            if (!done[k] && m->planned >= m->demand * (1 - 1e-12)) {
                m->planned = m->demand;
                done[k] = true;
            }
            for (int j = k; j < n && used >= m->cap * (1 - 1e-12); j++)
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
            sum += fmax(here, link_speed(&r->migration[i]) / part_of_link(r, i, 0));
    }
    return sum;
}

/* New, and nobody takes anything from its flow: it may show what it writes. */
static bool explores(const struct reference *r, int i, double all_places, double capacity)
{
    const struct reference_migration *m = &r->migration[i];
    double best = fmin(part_of_link(r, i, 0), link_speed(m));

    return m->phase == MIGBUF_PHASE_BASE && reference_most_bytes(m) < 0.25 * capacity / all_places &&
           part_of_link(r, i, link_weights(r, i)) >= 0.7 * best;
}

static void plan(struct reference *r)
{
    double capacity = (double)r->ledger.capacity, files = 0;
    double floor = (double)r->options.floor_bytes_per_s, all_places;
    int order[REFERENCE_MAX], n = r->ledger.count, cut = 0;

    for (int i = 0; i < n; i++) {
        capacity = fmax(0, capacity - fmin(queue(&r->migration[i]) * (1.0 + r->migration[i].drains_ahead), missing(&r->migration[i])));
        r->migration[i].send = to_send(r, i);
        r->migration[i].release = -1;
    }
    release_all(r);
    order_of_release(r, order);
    all_places = places(r);
    for (int k = n - 1; k >= 0; k--) {
        struct reference_migration *m = &r->migration[order[k]];

        files += reference_most_bytes(m);
        m->need = growth_in(m, m->release);
        m->demand = fmax(0, m->need / m->release - floor);
        m->cap = fmax(0, ((capacity * (1 - 0.3 * (all_places - (n - k)) / all_places) - files -
                              fmin(2 * (n - k) * floor * m->release, capacity / 16)) / m->release - (n - k) * floor) * (1 + 1.0 / n));
    }
    fair_growth(r, order, n);
    for (int i = 0; i < n; i++) {
        struct reference_migration *m = &r->migration[i];

        m->cut = m->planned < 0.999 * m->demand - 1e-6;
        cut += m->cut;
    }
    for (int i = 0; i < n; i++) {
        struct reference_migration *m = &r->migration[i];

        m->rate = INFINITY;
        if (m->cut && !explores(r, i, all_places, capacity)) {
            m->rate = rate_for(m, (m->planned + floor) * m->release);
            m->rate *= m->v > 0 ? fmin(fmax(m->vpk / m->v, 1), 20) : 1;
        }
        if (m->phase == MIGBUF_PHASE_MIRROR)
            m->rate = fmin(m->rate, (cut > 0 ? 0.5 : 0.9) * part_of_link(r, i, link_weights(r, i)));
        m->rate = fmax(m->rate, floor);
    }
}

/* The mean of U over the last minute; what was told first counts as if it had always been so. */
static void average_links(struct reference *r)
{
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];
        double u = (double)m->link_rate, forget = exp(-(double)(r->now_ms - m->link_ms) / 60000);

        if (m->link_rate > 0)
            m->link_mean = m->link_mean > 0 ? forget * m->link_mean + (1 - forget) * u : u;
        m->link_ms = r->now_ms;
    }
}

/* z before the common level. */
static void plan_clamps(struct reference *r, int i)
{
    struct reference_migration *m = &r->migration[i];
    double slack = r->options.hysteresis_percent / 100.0, in_force = (double)m->force.now.units * worth_of_unit(m);
    double free_bytes = fmax(0, (double)r->ledger.capacity - (double)r->files);
    double most = free_bytes / (reference_amplification(m) * (window_s(r) + set_s(m)));

    m->share = link_share(r, i);
    m->curve = m->hard_cap = INFINITY;
    m->wanted = m->clamped = m->below_lenders = m->rate * worth_of_unit(m) / reference_unit(m);
    m->cause = m->cut ? MIGBUF_REASON_PLAN : MIGBUF_REASON_SHARE;
    m->cause = m->rate < INFINITY ? m->cause : MIGBUF_REASON_FREE;
    m->wanted = fmax(m->wanted, lowest(r, m, 1));
    if (m->wanted >= in_force * (1 - slack) && m->wanted <= in_force * (1 + slack))
        m->wanted = in_force;
    /* A guest nobody knows begins with a sixteenth of what is free; so does who has less than its wish, and may explore. */
    if ((!m->fed || (m->cut && m->rate >= INFINITY)) && m->wanted > most / 16) {
        m->wanted = fmax(most / 16, lowest(r, m, 1));
        m->cause = MIGBUF_REASON_FIRST;
    }
    m->wanted = fmin(m->wanted, fmax(most, smallest_limit(r, m)));
}

static void planner_budgets(struct reference *r)
{
    for (int i = 0; i < r->ledger.count; i++)
        forecast_guest(r, &r->migration[i]);
    plan(r);
    for (int i = 0; i < r->ledger.count; i++)
        plan_clamps(r, i);
    count_space(r);
    clamp_by_space(r);
}

/* What one unit of a decision is worth. */
double reference_step(const struct reference *r, const struct reference_migration *m)
{
    return r->options.policy == MIGBUF_POLICY_LITERAL ? 1 : worth_of_unit(m);
}

static struct migbuf_limits limits_of(const struct reference *r, const struct reference_migration *m, uint64_t units)
{
    uint64_t unit = (uint64_t)reference_unit(m), smallest = unit;

    if (r->options.policy == MIGBUF_POLICY_LITERAL)
        return (struct migbuf_limits){ .bps_wr = units };
    if (without_iops_size(m))
        return (struct migbuf_limits){ .bps_wr = least(units * unit, units_max), .iops_wr = units };
    for (int d = 0; d < m->disk_count; d++)
        smallest = least(smallest, unit_of(&m->disk[d]));
    return (struct migbuf_limits){ .iops_wr = units, .iops_size = units > 0 ? smallest : 0 };
}

static void stop(const struct reference *r, struct reference_force *f)
{
    uint64_t since_ms = f->now.paused ? f->now.paused_at_ms : r->now_ms;

    f->now = (struct reference_state){ .paused = true, .limited = true, .paused_at_ms = since_ms,
                                       .still = f->now.paused ? f->now.still : 0, .still_ms = f->now.still_ms };
}

static int32_t act_paused(struct reference *r, struct reference_migration *m)
{
    bool stands = m->force.now.paused && !m->force.unknown;
    bool known_to_fit = (double)r->files + r->reserves <= (double)r->ledger.capacity;

    stop(r, &m->force);
    if (r->cannot_fit && !(r->unseen > 0 && known_to_fit)) {
        m->reason = MIGBUF_REASON_RESERVE;
        m->force.pours = m->force.pours || !stands;
        return MIGBUF_ACTION_CANNOT_FIT;
    }
    if (r->cannot_fit)
        m->reason = MIGBUF_REASON_UNSEEN;
    if (stands)
        return MIGBUF_ACTION_KEEP;
    m->force.pours = true;
    return MIGBUF_ACTION_PAUSE;
}

static void set_units(struct reference_migration *m, uint64_t units)
{
    uint64_t paused_at_ms = m->force.now.paused_at_ms;

    m->force.now = (struct reference_state){ .limited = true, .units = units, .paused_at_ms = paused_at_ms };
}

/* n units/s for a guest that stands, or may. */
static int32_t act_resume(struct reference *r, struct reference_migration *m, uint64_t n)
{
    double paused_ms = (double)(r->now_ms - m->force.now.paused_at_ms);
    double paid_ms = fmin(queue(m) / ((double)n * reference_unit(m)), longest_stall(r)) * 1000;

    if (n >= 2 && m->writes) {
        set_units(m, n);
        return MIGBUF_ACTION_RESUME;
    }
    if (n >= 2 && paused_ms >= r->options.min_pause_ms && paused_ms >= paid_ms) {
        set_units(m, n);
        return MIGBUF_ACTION_RESUME;
    }
    if (n >= 2) /* else the clamp that leaves one unit is why */
        m->reason = MIGBUF_REASON_WAIT;
    if (!m->force.unknown)
        return MIGBUF_ACTION_KEEP;
    stop(r, &m->force);
    m->force.pours = true;
    return MIGBUF_ACTION_PAUSE;
}

/* n > 0 units/s for a guest that runs. */
static int32_t act_running(struct reference *r, struct reference_migration *m, uint64_t n)
{
    uint64_t k = m->force.now.units, slack = r->options.hysteresis_percent;
    uint64_t stall_ms = r->options.max_stall_ms > 0 ? r->options.max_stall_ms : 30000;
    uint64_t least_n = r->options.policy == MIGBUF_POLICY_LITERAL ? 1 : least_units(r, m);

    if (!m->force.now.limited) {
        set_units(m, n);
        return MIGBUF_ACTION_LOWER;
    }
    if (n < k) {
        n = n * (200 - slack) / 200;
        set_units(m, n < least_n ? least_n : n);
        return MIGBUF_ACTION_LOWER;
    }
    if (n >= k + 1 && n * 100 >= k * (100 + slack)) {
        set_units(m, n);
        return MIGBUF_ACTION_RAISE;
    }
    if (m->force.unknown) /* the same is asked for until it is known to hold */
        return MIGBUF_ACTION_LOWER;
    if (r->options.policy == MIGBUF_POLICY_LITERAL || m->owed * 1000 <= (double)stall_ms)
        return MIGBUF_ACTION_KEEP;
    m->force.again = true;
    return MIGBUF_ACTION_REARM;
}

static int32_t act(struct reference *r, struct reference_migration *m, double shift)
{
    bool literal = r->options.policy == MIGBUF_POLICY_LITERAL;
    double z = floor(fmax(0, m->budget + shift) / (reference_step(r, m) * (literal ? 1 : target_ratio(r, m))));
    uint64_t most = least(units_max, UINT64_MAX / (uint64_t)reference_step(r, m)); /* growth must stay a number */
    uint64_t n = z < (double)most ? (uint64_t)z : most, needs = least_units(r, m) > 2 ? least_units(r, m) : 2;
    bool stands;

    if (!literal && n < needs && m->budget + shift >= smallest_limit(r, m) * target_ratio(r, m) * (1 - 1e-9))
        n = needs; /* rounding takes nobody what it needs */
    stands = n == 0 || (!literal && (r->cannot_fit || n < least_units(r, m)));
    if (m->waits) {
        m->reason = MIGBUF_REASON_ADMISSION;
        return MIGBUF_ACTION_WAIT;
    }
    if (stands && m->force.now.absent && !m->force.unknown)
        return MIGBUF_ACTION_WAIT; /* it has nothing to write to, and need not be stopped */
    if (stands)
        return act_paused(r, m);
    if (m->force.now.paused || (m->force.unknown && (m->force.before.paused || m->force.pours)))
        return act_resume(r, m, n);
    return act_running(r, m, n);
}

static void decide(struct reference *r, int i, double shift, struct migbuf_decision *out)
{
    struct reference_migration *m = &r->migration[i];
    struct reference_force *f = &m->force;
    struct reference_state old = f->now;

    m->reason = m->cause;
    m->action = act(r, m, shift);
    f->now.limits = limits_of(r, m, f->now.units);
    *out = (struct migbuf_decision){ .id = m->id, .action = m->action, .reason = m->reason };
    if (m->action == MIGBUF_ACTION_WAIT)
        return;
    out->growth_bytes_per_s = f->now.units * (uint64_t)reference_step(r, m);
    out->limits = f->now.limits;
    if (m->action == MIGBUF_ACTION_KEEP)
        return;
    f->unanswered = true;
    if (f->unknown) {
        any_may_hold(m, f, old);
        return;
    }
    f->before = old;
    add_older(f, &old, (double)r->now_ms + r->options.lag_ms);
    older_are_few(m, f);
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

/* From landing to landing. What nobody has answered may still be refused, and then what was before holds as long. */
static double claimed(const struct reference *r, const struct reference_migration *m)
{
    if (m->force.unanswered || m->force.unknown)
        return fmax(m->claim, growth(m, highest_rate(m), window_s(r), 1, false));
    return m->force.now.paused ? 0 : m->claim;
}

/* A reserve that the last tick counted is counted until the next: its pending and claim are of what was left beside it. */
double reference_reach(const struct reference *r)
{
    double bytes = 0;

    for (int i = 0; i < r->ledger.count; i++) {
        const struct reference_migration *m = &r->migration[i];
        double files = reference_most_bytes(m), more = fmax(m->reserve, reference_reserve(m)) + m->pending + claimed(r, m);

        if (!m->waits)
            bytes += files + fmin(more, fmax(0, reference_whole(m) - files));
    }
    return bytes;
}

static bool fits(const struct reference *r)
{
    return r->options.policy == MIGBUF_POLICY_LITERAL || reference_reach(r) <= (double)r->ledger.capacity + 1;
}

int reference_phase(struct reference *r, int i, int32_t phase, uint32_t drains)
{
    struct reference_migration *m = &r->migration[i];
    uint32_t had = m->drains_ahead < m->drains_fit ? m->drains_ahead : m->drains_fit; /* the others could not begin */

    for (int d = 0; d < m->disk_count && phase != m->phase; d++)
        m->disk_left[d] = phase == MIGBUF_PHASE_MIRROR ? m->disk_bytes[d] : m->disk[d].virtual_bytes;
    if (drains < had && !m->force.now.absent && !surely_stands(m))
        m->drained = fmin(UINT32_MAX, m->drained + had - drains);
    m->phase = phase;
    m->drains_ahead = drains;
    if (drains > m->drains_fit && !fits(r))
        return 1;
    m->drains_fit = drains;
    return 0;
}

double reference_needed(const struct reference *r)
{
    double needed = 0;

    for (int i = 0; i < r->ledger.count; i++)
        needed += reference_most_bytes(&r->migration[i]) + reference_reserve(&r->migration[i]);
    return needed;
}

/* The newest sizes count, not those of the last tick: they are laid out first. */
int reference_resize(struct reference *r, uint64_t capacity)
{
    bool smaller = capacity < r->ledger.capacity;

    settle_ledger(r);
    reference_ledger_resize(&r->ledger, capacity);
    return smaller && !fits(r);
}

static void count_tick(struct reference *r, uint64_t now_ms)
{
    double most = (double)r->options.interval_ms * (double)r->options.late_factor_percent / 100;

    r->late_ticks += r->ticked && (double)(now_ms - r->now_ms) > most;
    r->ticked = true;
    r->ticks++;
    r->now_ms = now_ms;
}

static void end_tick(struct reference *r)
{
    for (int i = 0; i < r->ledger.count; i++) {
        struct reference_migration *m = &r->migration[i];

        m->force.found = false;
        m->force.said = true;
        if (!m->waits && !r->cannot_fit)
            m->drains_fit = m->drains_ahead;
    }
}

void reference_tick(struct reference *r, uint64_t now_ms, struct migbuf_decision *out)
{
    bool literal = r->options.policy == MIGBUF_POLICY_LITERAL;

    for (int i = 0; i < r->ledger.count; i++)
        look_back(r, &r->migration[i], now_ms);
    count_tick(r, now_ms);
    settle_ledger(r);
    r->files = 0;
    for (int i = 0; i < r->ledger.count; i++)
        r->files += reference_file_bytes(&r->migration[i]);
    r->level = INFINITY;
    average_links(r);
    for (int i = 0; i < r->ledger.count; i++)
        reference_ledger_view(&r->ledger, i, &r->migration[i].view);
    if (literal)
        for (int i = 0; i < r->ledger.count; i++)
            literal_budget(r, i);
    else if (r->options.policy == MIGBUF_POLICY_PLANNER)
        planner_budgets(r);
    else
        paper_budgets(r);
    r->cannot_fit = !literal && (double)r->files + r->unseen + r->reserves > (double)r->ledger.capacity;
    for (int i = 0; i < r->ledger.count; i++) {
        if (!literal && !r->migration[i].waits)
            owe(r, &r->migration[i]);
        r->migration[i].undecided = r->migration[i].force;
        decide(r, i, 0, &out[i]);
    }
    end_tick(r);
}

void reference_again(struct reference *r, int i, double shift, struct migbuf_decision *out)
{
    r->migration[i].force = r->migration[i].undecided;
    decide(r, i, shift, out);
    end_tick(r);
}
