/* SPDX-License-Identifier: MIT */
/* bins: the ledger of Ω. Integers only; rules in the public header, names of the steps as there. Decides nothing, and knows
 * no limits. What must stay true between two calls: `used` of a bin is the sum of the shards in it, `bytes` of a migration
 * the sum of its own shards, and none of its bytes are `displaced`.
 *
 * Two double links run through every shard: up and down the stack of its bin, and along the list of its migration's
 * foreign shards. An owner's entry is at the bottom of its stack and in no list. A tournament tree over the bins knows the
 * least used open one.
 *
 * While all are at home and fit however the shares are rounded (`calm`), nothing moves when one more comes or one leaves. New
 * shares, the tree, and the numbers of those behind the one that left can wait then until somebody looks: see settle. */
#include "bins.h"
#include "memory.h"
#include "migbuf/placement.h"
#include <string.h>

#define NONE MIGBUF__NONE

struct shard {
    uint64_t bytes;
    uint32_t bin, owner;  /* whose bin, whose bytes */
    uint32_t below, above; /* in the bin; `above` also links free shards */
    uint32_t prev, next;  /* in the owner's list of foreign shards */
};

struct migration {
    uint64_t id, bytes;
    uint64_t told;        /* the size it is to have: placed when somebody looks */
    uint64_t share, used; /* of its bin */
    uint64_t displaced;   /* its bytes that lie in no bin, while bins are laid out again */
    uint32_t weight, height;
    uint32_t home, top;   /* lowest and highest shard of its bin */
    uint32_t foreign;     /* its shards in other bins */
    uint8_t by_size;      /* that list is sorted by size */
    uint8_t queued;       /* waits in the queue of homecomers */
};

struct migbuf_bins {
    struct migbuf_allocator allocator;
    uint64_t capacity, total;
    struct migration *migrations; /* in order of start */
    uint32_t *by_id;      /* numbers, sorted by id */
    uint32_t *tree;       /* leaves at width .. 2 width - 1 */
    uint64_t *queue;      /* heap of round << 32 | number */
    uint64_t *shares;     /* scratch of relayout */
    uint32_t *weights;
    uint32_t count, allocated; /* migrations, and how many the arrays hold: a power of two, the tree's width */
    uint32_t queue_length;
    uint64_t weights_sum; /* of those that are not gone */
    uint64_t fullest;     /* while calm: no bin holds more for each of its weight */
    uint32_t gone;        /* how many have ended and are still numbered; their weight is 0 */
    uint8_t calm;         /* no foreign shards, and fullest <= capacity / weights_sum */
    uint8_t due;          /* shares and tree are of other migrations than there are, or some are gone */
    uint8_t sizes_due;    /* some were told, and are not placed yet: `calm` is not known */
    uint8_t tree_due;     /* the tree is not of what the bins hold now: it is built when it is asked */
    struct shard *shards;
    uint32_t shards_allocated, free_shard, free_count; /* the first free one leads to the others */
};

/* Sizes and looking up */

static uint64_t free_in(const struct migration *bin)
{
    return bin->share > bin->used ? bin->share - bin->used : 0;
}

static size_t position_of(const struct migbuf_bins *b, uint64_t id)
{
    size_t low = 0, high = b->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (b->migrations[b->by_id[middle]].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t migbuf__bins_find(const struct migbuf_bins *b, uint64_t id)
{
    size_t at = position_of(b, id);

    return at < b->count && b->migrations[b->by_id[at]].id == id && b->migrations[b->by_id[at]].weight ? b->by_id[at] : NONE;
}

uint64_t migbuf__bins_id(const struct migbuf_bins *b, uint32_t i)
{
    return b->migrations[i].id;
}

uint32_t migbuf__bins_weight_of(const struct migbuf_bins *b, uint32_t i)
{
    return b->migrations[i].weight;
}

uint64_t migbuf__bins_share(const struct migbuf_bins *b, uint32_t i)
{
    return b->migrations[i].share;
}

uint64_t migbuf__bins_capacity(const struct migbuf_bins *b)
{
    return b->capacity;
}

/* The least used open bin */

static uint32_t less_used(const struct migbuf_bins *b, uint32_t left, uint32_t right)
{
    if (left == NONE || right == NONE)
        return left == NONE ? right : left;
    return b->migrations[right].used < b->migrations[left].used ? right : left; /* ties: the left one started earlier */
}

static void tree_update(struct migbuf_bins *b, uint32_t i)
{
    uint32_t node = b->allocated + i;

    if (b->tree_due)
        return;
    b->tree[node] = free_in(&b->migrations[i]) ? i : NONE;
    while (node /= 2) {
        uint32_t least = less_used(b, b->tree[2 * node], b->tree[2 * node + 1]);

        if (least == b->tree[node] && least != i) /* another one is, as before: above nothing changes */
            return;
        b->tree[node] = least;
    }
}

static void tree_build(struct migbuf_bins *b)
{
    b->tree_due = 0;
    for (uint32_t i = 0; i < b->allocated; i++)
        b->tree[b->allocated + i] = i < b->count && free_in(&b->migrations[i]) ? i : NONE;
    for (uint32_t node = b->allocated; --node > 0;)
        b->tree[node] = less_used(b, b->tree[2 * node], b->tree[2 * node + 1]);
}

static uint32_t least_used(const struct migbuf_bins *looked_at)
{
    struct migbuf_bins *b = (struct migbuf_bins *)looked_at;

    if (b->tree_due && b->count)
        tree_build(b);
    return b->count ? b->tree[1] : NONE;
}

/* Shards */

static uint32_t shard_take(struct migbuf_bins *b)
{
    uint32_t k = b->free_shard;

    b->free_shard = b->shards[k].above;
    b->free_count--;
    return k;
}

static void shard_free(struct migbuf_bins *b, uint32_t k)
{
    b->shards[k].above = b->free_shard;
    b->free_shard = k;
    b->free_count++;
}

static int allocate_shards(struct migbuf_bins *b, uint64_t wanted)
{
    uint64_t more;
    struct shard *s;

    if (b->free_count >= wanted)
        return 0;
    more = wanted - b->free_count;
    if (more < b->shards_allocated) /* doubles, so that growth is paid for once */
        more = b->shards_allocated;
    if (more > NONE - b->shards_allocated)
        return MIGBUF_E_NOMEM;
    s = migbuf__resize(&b->allocator, b->shards, b->shards_allocated, b->shards_allocated + (size_t)more, sizeof *s);
    if (!s)
        return MIGBUF_E_NOMEM;
    b->shards = s;
    b->shards_allocated += (uint32_t)more;
    for (uint32_t k = b->shards_allocated; more--;)
        shard_free(b, --k);
    return 0;
}

static void push_on_top(struct migbuf_bins *b, uint32_t bin, uint32_t owner, uint64_t bytes)
{
    uint32_t k = shard_take(b);
    struct migration *host = &b->migrations[bin], *m = &b->migrations[owner];

    b->shards[k] = (struct shard){
        .bytes = bytes, .bin = bin, .owner = owner, .below = host->top, .above = NONE, .prev = NONE, .next = NONE
    };
    if (host->top == NONE)
        host->home = k;
    else
        b->shards[host->top].above = k;
    host->top = k;
    host->height++;
    host->used += bytes;
    if (bin == owner)
        return;
    b->shards[k].next = m->foreign;
    if (m->foreign != NONE)
        b->shards[m->foreign].prev = k;
    m->foreign = k;
    m->by_size = 0;
}

static void remove_foreign(struct migbuf_bins *b, uint32_t k)
{
    struct shard *s = &b->shards[k];
    struct migration *host = &b->migrations[s->bin];

    b->shards[s->below].above = s->above; /* there is always the owner below */
    if (s->above == NONE)
        host->top = s->below;
    else
        b->shards[s->above].below = s->below;
    host->height--;
    if (s->prev == NONE)
        b->migrations[s->owner].foreign = s->next;
    else
        b->shards[s->prev].next = s->next;
    if (s->next != NONE)
        b->shards[s->next].prev = s->prev;
    shard_free(b, k);
}

/* Takes bytes out of a shard; an emptied one disappears unless it is the owner's. The tree is the caller's business. */
static void take_from(struct migbuf_bins *b, uint32_t k, uint64_t bytes)
{
    struct shard *s = &b->shards[k];

    s->bytes -= bytes;
    b->migrations[s->bin].used -= bytes;
    if (!s->bytes && s->bin != s->owner)
        remove_foreign(b, k);
}

/* Order of a migration's foreign shards: by size, or by how used their bins are; ties by bin */

static int goes_before(const struct migbuf_bins *b, uint32_t x, uint32_t y, int by_size)
{
    uint64_t a = by_size ? b->shards[x].bytes : b->migrations[b->shards[x].bin].used;
    uint64_t c = by_size ? b->shards[y].bytes : b->migrations[b->shards[y].bin].used;

    return a < c || (a == c && b->shards[x].bin < b->shards[y].bin);
}

static uint32_t merge(struct migbuf_bins *b, uint32_t x, uint32_t y, int by_size)
{
    uint32_t head = NONE, *link = &head;

    while (x != NONE && y != NONE) {
        uint32_t *least = goes_before(b, x, y, by_size) ? &x : &y;

        *link = *least;
        link = &b->shards[*least].next;
        *least = *link;
    }
    *link = x == NONE ? y : x;
    return head;
}

/* Bottom-up merge sort of the list: slot r holds a sorted run of 2^r shards. */
static void sort_foreign(struct migbuf_bins *b, struct migration *m, int by_size)
{
    uint32_t run[32], k = m->foreign, prev = NONE;

    if (by_size && m->by_size)
        return;
    for (int r = 0; r < 32; r++)
        run[r] = NONE;
    while (k != NONE) {
        uint32_t carry = k;
        int r = 0;

        k = b->shards[k].next;
        b->shards[carry].next = NONE;
        for (; run[r] != NONE; r++) {
            carry = merge(b, run[r], carry, by_size);
            run[r] = NONE;
        }
        run[r] = carry;
    }
    m->foreign = NONE;
    for (int r = 0; r < 32; r++)
        m->foreign = merge(b, run[r], m->foreign, by_size);
    for (k = m->foreign; k != NONE; prev = k, k = b->shards[k].next)
        b->shards[k].prev = prev;
    m->by_size = (uint8_t)by_size;
}

/* Coming home. The queue holds who may have free bytes at home, by round and order of start. */

static void queue_sift_up(struct migbuf_bins *b, uint32_t at)
{
    uint64_t key = b->queue[at];

    for (; at && b->queue[(at - 1) / 2] > key; at = (at - 1) / 2)
        b->queue[at] = b->queue[(at - 1) / 2];
    b->queue[at] = key;
}

static uint64_t queue_pop(struct migbuf_bins *b)
{
    uint64_t least = b->queue[0], key = b->queue[--b->queue_length];
    uint32_t at = 0;

    for (uint32_t child; (child = 2 * at + 1) < b->queue_length; at = child) {
        if (child + 1 < b->queue_length && b->queue[child + 1] < b->queue[child])
            child++;
        if (key <= b->queue[child])
            break;
        b->queue[at] = b->queue[child];
    }
    if (b->queue_length)
        b->queue[at] = key;
    return least;
}

static void queue_add(struct migbuf_bins *b, uint32_t i, uint32_t round)
{
    struct migration *m = &b->migrations[i];

    if (m->queued || (m->foreign == NONE && !m->displaced) || !free_in(m))
        return;
    m->queued = 1;
    b->queue[b->queue_length] = (uint64_t)round << 32 | i;
    queue_sift_up(b, b->queue_length++);
}

/* One shard, or what lies in no bin (last on ties), moves home as far as it fits. */
static void bring_home(struct migbuf_bins *b, uint32_t i, uint32_t round)
{
    struct migration *m = &b->migrations[i];
    uint64_t free_bytes = free_in(m), bytes;
    uint32_t k = m->foreign, host;

    if (k == NONE || (m->displaced && m->displaced < b->shards[k].bytes)) {
        bytes = m->displaced < free_bytes ? m->displaced : free_bytes;
        m->displaced -= bytes;
    } else {
        bytes = b->shards[k].bytes < free_bytes ? b->shards[k].bytes : free_bytes;
        host = b->shards[k].bin;
        take_from(b, k, bytes);
        tree_update(b, host);
        queue_add(b, host, host > i ? round : round + 1);
    }
    b->shards[m->home].bytes += bytes;
    m->used += bytes;
    tree_update(b, i);
}

static void pull(struct migbuf_bins *b)
{
    while (b->queue_length) {
        uint64_t key = queue_pop(b);
        uint32_t i = (uint32_t)key;
        struct migration *m = &b->migrations[i];

        m->queued = 0;
        sort_foreign(b, m, 1);
        while (free_in(m) && (m->foreign != NONE || m->displaced))
            bring_home(b, i, (uint32_t)(key >> 32));
    }
}

/* Placing */

static uint64_t fill(struct migbuf_bins *b, uint32_t k, uint64_t bytes)
{
    struct migration *bin = &b->migrations[b->shards[k].bin];
    uint64_t free_bytes = free_in(bin), part = bytes < free_bytes ? bytes : free_bytes;

    if (part) {
        b->shards[k].bytes += part;
        bin->used += part;
        tree_update(b, b->shards[k].bin);
    }
    return bytes - part;
}

/* Home, own open shards, other open bins; whatever is left then is booked at home, beyond its share. */
static void place(struct migbuf_bins *b, uint32_t i, uint64_t bytes)
{
    struct migration *m = &b->migrations[i];

    bytes = fill(b, m->home, bytes);
    if (bytes && m->foreign != NONE) {
        sort_foreign(b, m, 0);
        for (uint32_t k = m->foreign; k != NONE && bytes; k = b->shards[k].next)
            bytes = fill(b, k, bytes);
    }
    while (bytes && least_used(b) != NONE && b->free_count) {
        uint32_t bin = least_used(b);
        uint64_t free_bytes = free_in(&b->migrations[bin]), part = bytes < free_bytes ? bytes : free_bytes;

        push_on_top(b, bin, i, part);
        tree_update(b, bin);
        bytes -= part;
    }
    b->shards[m->home].bytes += bytes;
    m->used += bytes;
}

static void shrink(struct migbuf_bins *b, uint32_t i, uint64_t bytes)
{
    struct migration *m = &b->migrations[i];
    uint64_t over = m->used > m->share ? m->used - m->share : 0;

    over = over < bytes ? over : bytes;
    over = over < b->shards[m->home].bytes ? over : b->shards[m->home].bytes;
    take_from(b, m->home, over);
    bytes -= over;
    sort_foreign(b, m, 1);
    while (bytes) {
        uint32_t k = m->foreign != NONE ? m->foreign : m->home, bin = b->shards[k].bin;
        uint64_t part = b->shards[k].bytes < bytes ? b->shards[k].bytes : bytes;

        take_from(b, k, part);
        tree_update(b, bin);
        queue_add(b, bin, 0);
        bytes -= part;
    }
    pull(b);
}

/* Coming and leaving while nothing moves */

static void set_shares(struct migbuf_bins *b)
{
    b->weights_sum = 0;
    for (uint32_t i = 0; i < b->count; i++)
        b->weights_sum += b->weights[i] = b->migrations[i].weight;
    migbuf_placement_shares(b->capacity, b->weights, b->count, b->shares);
    for (uint32_t i = 0; i < b->count; i++)
        b->migrations[i].share = b->shares[i];
}

static uint64_t for_each_weight(uint64_t bytes, uint64_t weight)
{
    return (bytes + weight - 1) / weight;
}

/* Is all at home, and does it stay there? */
static void look_for_calm(struct migbuf_bins *b)
{
    b->fullest = 0;
    b->calm = b->shards_allocated - b->free_count == b->count;
    for (uint32_t i = 0; i < b->count && b->calm; i++) {
        uint64_t full = for_each_weight(b->migrations[i].used, b->migrations[i].weight);

        b->fullest = full > b->fullest ? full : b->fullest;
        b->calm = b->fullest <= b->capacity / b->weights_sum;
    }
}

/* Those that are gone lose their numbers, and everybody's behind them fall: b->weights tells by how much. */
static void forget_gone(struct migbuf_bins *b)
{
    uint32_t kept = 0, ids = 0;

    for (uint32_t i = 0; i < b->count; i++)
        if (b->migrations[i].weight) {
            for (uint32_t k = b->migrations[i].home; k != NONE; k = b->shards[k].above)
                b->shards[k].bin = kept;
            b->weights[i] = kept;
            b->migrations[kept++] = b->migrations[i];
        } else {
            b->weights[i] = NONE;
        }
    for (uint32_t i = 0; i < kept; i++)
        for (uint32_t k = b->migrations[i].home; k != NONE; k = b->shards[k].above)
            b->shards[k].owner = b->weights[b->shards[k].owner];
    for (uint32_t i = 0; i < b->count; i++)
        if (b->weights[b->by_id[i]] != NONE)
            b->by_id[ids++] = b->weights[b->by_id[i]];
    b->count = kept;
    b->gone = 0;
}

static void set(struct migbuf_bins *b, uint32_t i, uint64_t bytes)
{
    uint64_t old = b->migrations[i].bytes;

    b->migrations[i].bytes = b->migrations[i].told = bytes;
    if (bytes > old)
        place(b, i, bytes - old);
    else if (bytes < old)
        shrink(b, i, old - bytes);
}

/* Shrinks first: what they free is there for those that grew. Of the tree nobody asks while there is room at home. */
static void set_told(struct migbuf_bins *b)
{
    b->calm = b->sizes_due = 0;
    b->tree_due = 1;
    for (int growing = 0; growing < 2; growing++)
        for (uint32_t i = 0; i < b->count; i++)
            if (growing ? b->migrations[i].told > b->migrations[i].bytes : b->migrations[i].told < b->migrations[i].bytes)
                set(b, i, b->migrations[i].told);
}

/* What waited is done. Nothing that can be looked at becomes another by it, so a ledger is looked at through this. */
static void settle(const struct migbuf_bins *looked_at)
{
    struct migbuf_bins *b = (struct migbuf_bins *)looked_at;

    if (b->due) {
        b->due = 0;
        if (b->gone)
            forget_gone(b);
        if (b->count)
            set_shares(b);
        b->tree_due = 1;
    }
    if (b->sizes_due)
        set_told(b);
}

void migbuf__bins_settle(struct migbuf_bins *b)
{
    settle(b);
}

uint32_t migbuf__bins_gone(const struct migbuf_bins *b)
{
    return b->gone;
}

void migbuf__bins_tell(struct migbuf_bins *b, uint32_t i, uint64_t bytes)
{
    struct migration *m = &b->migrations[i];

    if (m->told == bytes)
        return;
    b->total = b->total - m->told + bytes;
    m->told = bytes;
    b->sizes_due = 1;
}

/* Laying out again, after N, Ω or a weight changed */

static void cut(struct migbuf_bins *b, uint32_t i)
{
    struct migration *bin = &b->migrations[i];

    while (bin->used > bin->share) {
        uint32_t k = bin->top;
        uint64_t over = bin->used - bin->share, part = b->shards[k].bytes < over ? b->shards[k].bytes : over;

        b->migrations[b->shards[k].owner].displaced += part;
        b->migrations[b->shards[k].owner].by_size = 0;
        take_from(b, k, part);
    }
}

static void relayout(struct migbuf_bins *b)
{
    b->due = 0;
    b->calm = !b->count;
    b->fullest = 0;
    if (b->gone)
        forget_gone(b);
    if (!b->count)
        return;
    set_shares(b);
    for (uint32_t i = 0; i < b->count; i++)
        cut(b, i);
    b->tree_due = 1;
    for (uint32_t i = 0; i < b->count; i++)
        queue_add(b, i, 0);
    pull(b);
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t rest = b->migrations[i].displaced;

        b->migrations[i].displaced = 0;
        if (rest)
            place(b, i, rest);
    }
    look_for_calm(b);
}

/* New shards that size changes of all migrations, or one relayout, can bring: each bin is filled at most once, and each
 * migration leaves at most one shard in a bin it did not fill. */
static uint64_t shards_for_all(uint64_t count)
{
    return 2 * count + 2;
}

int migbuf__bins_grow_all(struct migbuf_bins *b, uint32_t times)
{
    return allocate_shards(b, times * shards_for_all(b->count));
}

void migbuf__bins_resize(struct migbuf_bins *b, uint64_t capacity_bytes)
{
    settle(b);
    b->capacity = capacity_bytes;
    relayout(b);
}

/* Public */

int migbuf_bins_new(uint64_t capacity_bytes, const struct migbuf_allocator *allocator, struct migbuf_bins **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_bins *b;

    if (!out)
        return MIGBUF_E_INVALID;
    if (capacity_bytes > MIGBUF_BYTES_MAX)
        return MIGBUF_E_RANGE;
    b = migbuf__resize(&a, NULL, 0, 1, sizeof *b);
    if (!b)
        return MIGBUF_E_NOMEM;
    *b = (struct migbuf_bins){ .allocator = a, .capacity = capacity_bytes, .free_shard = NONE, .calm = 1 };
    *out = b;
    return 0;
}

void migbuf_bins_free(struct migbuf_bins *b)
{
    struct migbuf_allocator a;

    if (!b)
        return;
    a = b->allocator;
    migbuf__free(&a, b->migrations, b->allocated * sizeof *b->migrations);
    migbuf__free(&a, b->by_id, b->allocated * sizeof *b->by_id);
    migbuf__free(&a, b->tree, 2 * (size_t)b->allocated * sizeof *b->tree);
    migbuf__free(&a, b->queue, b->allocated * sizeof *b->queue);
    migbuf__free(&a, b->shares, b->allocated * sizeof *b->shares);
    migbuf__free(&a, b->weights, b->allocated * sizeof *b->weights);
    migbuf__free(&a, b->shards, b->shards_allocated * sizeof *b->shards);
    migbuf__free(&a, b, sizeof *b);
}

/* All arrays per migration hold `wanted`. They are replaced together: an allocation that fails after another succeeded
 * leaves the old set in place. */
static int allocate_migrations(struct migbuf_bins *b, uint64_t wanted)
{
    uint32_t old = b->allocated, allocated = old ? old : 8;
    const struct migbuf_allocator *a = &b->allocator;
    struct migbuf_bins n = *b;

    if (wanted <= old)
        return 0;
    if (wanted > UINT32_C(1) << 30)
        return MIGBUF_E_NOMEM;
    while (allocated < wanted)
        allocated *= 2;
    n.migrations = migbuf__resize(a, NULL, 0, allocated, sizeof *n.migrations);
    n.by_id = migbuf__resize(a, NULL, 0, allocated, sizeof *n.by_id);
    n.tree = migbuf__resize(a, NULL, 0, 2 * (size_t)allocated, sizeof *n.tree);
    n.queue = migbuf__resize(a, NULL, 0, allocated, sizeof *n.queue);
    n.shares = migbuf__resize(a, NULL, 0, allocated, sizeof *n.shares);
    n.weights = migbuf__resize(a, NULL, 0, allocated, sizeof *n.weights);
    if (n.migrations && n.by_id && n.tree && n.queue && n.shares && n.weights) {
        struct migbuf_bins t = *b;

        if (old) {
            memcpy(n.migrations, b->migrations, old * sizeof *n.migrations);
            memcpy(n.by_id, b->by_id, old * sizeof *n.by_id);
        }
        n.allocated = allocated;
        *b = n;
        n = t;
        allocated = old;
    }
    migbuf__free(a, n.migrations, allocated * sizeof *n.migrations);
    migbuf__free(a, n.by_id, allocated * sizeof *n.by_id);
    migbuf__free(a, n.tree, 2 * (size_t)allocated * sizeof *n.tree);
    migbuf__free(a, n.queue, allocated * sizeof *n.queue);
    migbuf__free(a, n.shares, allocated * sizeof *n.shares);
    migbuf__free(a, n.weights, allocated * sizeof *n.weights);
    return b->allocated == old ? MIGBUF_E_NOMEM : 0;
}

int migbuf_bins_start(struct migbuf_bins *b, uint64_t id, uint32_t weight, uint64_t bytes)
{
    uint64_t level;
    size_t at;
    uint32_t i;
    int rc;

    if (!b)
        return MIGBUF_E_INVALID;
    if (weight < 1 || weight > 1000000 || bytes > MIGBUF_BYTES_MAX || bytes > UINT64_MAX / 2 - b->total)
        return MIGBUF_E_RANGE;
    if (migbuf__bins_find(b, id) != NONE)
        return MIGBUF_E_EXISTS;
    if (b->gone || b->sizes_due)
        settle(b);
    rc = allocate_migrations(b, (uint64_t)b->count + 1);
    if (!rc)
        rc = allocate_shards(b, shards_for_all((uint64_t)b->count + 1));
    if (rc)
        return rc;

    at = position_of(b, id);
    i = b->count++;
    memmove(b->by_id + at + 1, b->by_id + at, (i - at) * sizeof *b->by_id);
    b->by_id[at] = i;
    b->migrations[i] = (struct migration){
        .id = id, .bytes = bytes, .told = bytes, .weight = weight, .home = NONE, .top = NONE, .foreign = NONE
    };
    push_on_top(b, i, i, 0);
    b->total += bytes;
    b->weights_sum += weight;
    level = b->capacity / b->weights_sum;
    if (b->calm && b->fullest <= level && for_each_weight(bytes, weight) <= level) {
        if (for_each_weight(bytes, weight) > b->fullest)
            b->fullest = for_each_weight(bytes, weight);
        b->migrations[i].used = b->shards[b->migrations[i].home].bytes = bytes;
        b->due = 1;
        return 0;
    }
    relayout(b);
    place(b, i, bytes);
    look_for_calm(b);
    return 0;
}

int migbuf_bins_set(struct migbuf_bins *b, uint64_t id, uint64_t bytes)
{
    uint32_t i;
    int rc;

    if (!b)
        return MIGBUF_E_INVALID;
    settle(b);
    i = migbuf__bins_find(b, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    if (bytes > MIGBUF_BYTES_MAX || bytes > UINT64_MAX / 2 - (b->total - b->migrations[i].bytes))
        return MIGBUF_E_RANGE;
    rc = migbuf__bins_grow_all(b, 1);
    if (rc)
        return rc;
    b->calm = 0;
    b->total = b->total - b->migrations[i].bytes + bytes;
    set(b, i, bytes);
    return 0;
}

int migbuf_bins_end(struct migbuf_bins *b, uint64_t id)
{
    struct migration *m;
    uint32_t i;

    if (!b)
        return MIGBUF_E_INVALID;
    i = migbuf__bins_find(b, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    if (b->sizes_due) {
        settle(b);
        i = migbuf__bins_find(b, id);
    }
    m = &b->migrations[i];
    b->total -= m->bytes;
    while (m->foreign != NONE)
        take_from(b, m->foreign, b->shards[m->foreign].bytes);
    while (m->top != m->home) {
        b->migrations[b->shards[m->top].owner].displaced += b->shards[m->top].bytes;
        take_from(b, m->top, b->shards[m->top].bytes);
    }
    shard_free(b, m->home);
    b->weights_sum -= m->weight;
    *m = (struct migration){ .id = id, .home = NONE, .top = NONE, .foreign = NONE };
    b->gone++;
    b->due = 1;
    if (b->calm)
        return 0;
    /* Without memory for more shards place() books at home what it cannot put on top of others: on paper only. */
    forget_gone(b);
    (void)migbuf__bins_grow_all(b, 1);
    relayout(b);
    return 0;
}

int migbuf_bins_resize(struct migbuf_bins *b, uint64_t capacity_bytes)
{
    int rc;

    if (!b)
        return MIGBUF_E_INVALID;
    if (capacity_bytes > MIGBUF_BYTES_MAX)
        return MIGBUF_E_RANGE;
    if (capacity_bytes < b->total)
        return MIGBUF_E_IN_USE;
    settle(b);
    rc = migbuf__bins_grow_all(b, 1);
    if (!rc)
        migbuf__bins_resize(b, capacity_bytes);
    return rc;
}

int migbuf__bins_weight(struct migbuf_bins *b, uint32_t i, uint32_t weight)
{
    int rc = weight < 1 || weight > 1000000 ? MIGBUF_E_RANGE : 0;

    if (!rc) {
        settle(b);
        rc = migbuf__bins_grow_all(b, 1);
    }
    if (rc)
        return rc;
    b->migrations[i].weight = weight;
    relayout(b);
    return 0;
}

size_t migbuf_bins_count(const struct migbuf_bins *b)
{
    return b ? b->count - b->gone : 0;
}

uint64_t migbuf_bins_used(const struct migbuf_bins *b)
{
    return b ? b->total : 0;
}

uint64_t migbuf_bins_excess(const struct migbuf_bins *b)
{
    return b && b->total > b->capacity ? b->total - b->capacity : 0;
}

/* Saving */

void migbuf__bins_write(const struct migbuf_bins *b, struct migbuf__writer *w)
{
    settle(b);
    migbuf__write(w, "ledger %llu %u\n", (unsigned long long)b->capacity, b->count);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct migration *m = &b->migrations[i];

        migbuf__write(w, "bin %llu %u %u\n", (unsigned long long)m->id, m->weight, m->height);
        for (uint32_t k = m->home; k != NONE; k = b->shards[k].above)
            migbuf__write(w, "%u %llu\n", b->shards[k].owner, (unsigned long long)b->shards[k].bytes);
    }
    migbuf__write(w, "ascending");
    for (uint32_t i = 0; i < b->count; i++)
        migbuf__write(w, " %u", b->by_id[i]);
    migbuf__write(w, "\n");
}

/* The stack of one bin, its owner's entry first. b->weights marks who lies in it already. */
static int read_stack(struct migbuf_bins *b, struct migbuf__reader *r, uint32_t bin, uint64_t height)
{
    for (uint64_t k = 0; k < height; k++) {
        uint32_t owner = (uint32_t)migbuf__read_number(r, 0, b->count - 1);
        uint64_t bytes = migbuf__read_number(r, k ? 1 : 0, MIGBUF_BYTES_MAX);

        if (r->bad || (k == 0) != (owner == bin) || b->weights[owner] == bin + 1)
            return MIGBUF_E_PROTOCOL;
        b->weights[owner] = bin + 1;
        if (b->total + bytes > UINT64_MAX / 2 || b->migrations[owner].bytes + bytes > MIGBUF_BYTES_MAX)
            return MIGBUF_E_PROTOCOL;
        if (allocate_shards(b, 1))
            return MIGBUF_E_NOMEM;
        push_on_top(b, bin, owner, bytes);
        b->migrations[owner].bytes += bytes;
        b->migrations[owner].told += bytes;
        b->total += bytes;
    }
    return 0;
}

int migbuf__bins_read(struct migbuf_bins *b, struct migbuf__reader *r)
{
    uint64_t count;
    int rc = 0;

    migbuf__read_word(r, "ledger");
    b->capacity = migbuf__read_number(r, 0, MIGBUF_BYTES_MAX);
    count = migbuf__read_number(r, 0, (uint64_t)(r->end - r->at)); /* a bin needs more than one byte of text */
    if (r->bad)
        return MIGBUF_E_PROTOCOL;
    rc = count ? allocate_migrations(b, count) : 0;
    if (rc)
        return rc;
    b->count = (uint32_t)count;
    for (uint32_t i = 0; i < b->count; i++) {
        b->migrations[i] = (struct migration){ .home = NONE, .top = NONE, .foreign = NONE };
        b->weights[i] = 0;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t height;

        migbuf__read_word(r, "bin");
        b->migrations[i].id = migbuf__read_number(r, 0, UINT64_MAX);
        b->migrations[i].weight = (uint32_t)migbuf__read_number(r, 1, 1000000);
        height = migbuf__read_number(r, 1, count);
        rc = r->bad ? MIGBUF_E_PROTOCOL : read_stack(b, r, i, height);
        if (rc)
            return rc;
    }
    migbuf__read_word(r, "ascending");
    for (uint32_t i = 0; i < b->count; i++) {
        b->by_id[i] = (uint32_t)migbuf__read_number(r, 0, count - 1);
        if (r->bad || (i && b->migrations[b->by_id[i - 1]].id >= b->migrations[b->by_id[i]].id))
            return MIGBUF_E_PROTOCOL;
    }
    b->calm = 0;
    b->due = 1;
    settle(b);
    return migbuf__bins_grow_all(b, 1);
}

/* Views */

/* Adds what one bin is to a migration that lies in it at `position`. */
static void see_bin(const struct migration *bin, uint32_t position, struct migbuf_bins_view *v)
{
    v->shards++;
    v->priority += position; /* a sum until see_rest */
    if (!free_in(bin))
        return;
    v->capacity_bytes += (double)bin->share;
    v->used_bytes += (double)bin->used;
    v->free_bytes += (double)free_in(bin) / bin->height;
}

/* Turns the sum of positions into the mean, and looks at another bin where all of its own are frozen. Returns the bin it
 * looks at, or NONE. */
static uint32_t see_rest(const struct migbuf_bins *b, uint32_t i, struct migbuf_bins_view *v)
{
    const struct migration *m = &b->migrations[i];
    uint32_t bin = NONE, positions = v->shards;

    v->bytes = m->bytes;
    v->home_bytes = b->shards[m->home].bytes;
    v->share_bytes = m->share;
    if (!(v->capacity_bytes > 0))
        bin = least_used(b);
    if (bin == NONE) {
        v->prospective = v->capacity_bytes > 0 ? 0 : 2;
    } else {
        const struct migration *other = &b->migrations[bin];

        v->prospective = 1;
        v->capacity_bytes = (double)other->share;
        v->used_bytes = (double)other->used;
        v->free_bytes = (double)free_in(other) / (other->height + 1);
        v->priority += other->height + 1;
        positions++;
    }
    v->priority /= positions;
    return bin;
}

int migbuf_bins_view(const struct migbuf_bins *b, uint64_t id, struct migbuf_bins_view *view)
{
    struct migbuf_bins_view v = { 0 };
    uint32_t i;

    if (!b || !view)
        return MIGBUF_E_INVALID;
    settle(b);
    i = migbuf__bins_find(b, id);
    if (i == NONE)
        return MIGBUF_E_NOTFOUND;
    see_bin(&b->migrations[i], 1, &v);
    for (uint32_t k = b->migrations[i].foreign; k != NONE; k = b->shards[k].next) {
        uint32_t position = 1;

        for (uint32_t below = b->shards[k].below; below != NONE; below = b->shards[below].below)
            position++;
        see_bin(&b->migrations[b->shards[k].bin], position, &v);
    }
    see_rest(b, i, &v);
    return migbuf__struct_give(view, &v, sizeof v, MIGBUF__FIRST(struct migbuf_bins_view, prospective));
}

size_t migbuf__bins_edges(const struct migbuf_bins *b)
{
    return b->shards_allocated;
}

void migbuf__bins_views(const struct migbuf_bins *b, struct migbuf_bins_view *views, uint32_t *looks_at, size_t *first,
                        size_t *guest)
{
    settle(b);
    for (uint32_t i = 0; i < b->count; i++) {
        views[i] = (struct migbuf_bins_view){ .size = sizeof *views };
        first[i + 1] = b->migrations[i].height - 1;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t position = 0;

        for (uint32_t k = b->migrations[i].home; k != NONE; k = b->shards[k].above)
            see_bin(&b->migrations[i], ++position, &views[b->shards[k].owner]);
    }
    for (uint32_t i = 0; i < b->count; i++) {
        looks_at[i] = see_rest(b, i, &views[i]);
        if (looks_at[i] != NONE)
            first[looks_at[i] + 1]++;
    }

    /* first[h + 1] counts the guests of h; from here on it is where the next one goes, and in the end where h's end. */
    first[0] = 0;
    for (uint32_t h = 0, next = 0; h < b->count; h++) {
        uint32_t guests = (uint32_t)first[h + 1];

        first[h + 1] = next;
        next += guests;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        for (uint32_t k = b->shards[b->migrations[i].home].above; k != NONE; k = b->shards[k].above)
            guest[first[i + 1]++] = b->shards[k].owner;
        if (looks_at[i] != NONE)
            guest[first[looks_at[i] + 1]++] = i;
    }
}

int migbuf_bins_list(const struct migbuf_bins *b, struct migbuf_bin *out, size_t capacity)
{
    if (!b)
        return MIGBUF_E_INVALID;
    settle(b);
    if (capacity < b->count)
        return (int)b->count;
    if (b->count && !out)
        return MIGBUF_E_INVALID;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct migration *m = &b->migrations[i];

        out[i] = (struct migbuf_bin){
            .id = m->id, .share_bytes = m->share, .used_bytes = m->used, .shards = m->height, .frozen = !free_in(m)
        };
    }
    return (int)b->count;
}

int migbuf_bins_shards(const struct migbuf_bins *b, struct migbuf_shard *out, size_t capacity)
{
    size_t n = 0;

    if (!b)
        return MIGBUF_E_INVALID;
    settle(b);
    if (capacity < b->shards_allocated - b->free_count)
        return (int)(b->shards_allocated - b->free_count);
    if (capacity && !out)
        return MIGBUF_E_INVALID;
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t position = 0;

        for (uint32_t k = b->migrations[i].home; k != NONE; k = b->shards[k].above)
            out[n++] = (struct migbuf_shard){ .bin = b->migrations[i].id, .id = b->migrations[b->shards[k].owner].id,
                                              .bytes = b->shards[k].bytes, .position = ++position };
    }
    return (int)n;
}
