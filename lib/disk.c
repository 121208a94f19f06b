/* SPDX-License-Identifier: MIT */
/* disk: which QMP command comes next, so that one VM's disks get and keep the wanted limits. No I/O, no JSON parser: what
 * QEMU answers comes in as values. Why lowering and raising differ stands in the header. */
#include "migbuf/disk.h"
#include "memory.h"
#include "text.h"
#include <stdio.h>
#include <string.h>

#define MAX_NODES 16
#define QDEV_BYTES 512
#define NODE_BYTES 32
#define TEXT_BYTES 8192

struct node {
    char name[NODE_BYTES];
    char qdev[QDEV_BYTES]; /* "" before it is known */
    struct migbuf_throttle_config host; /* the host's own, to be restored */
    uint8_t found, joined; /* in this query; member of our group */
    uint8_t waits;         /* the group's limit was raised, and this disk has not been told */
    struct migbuf_throttle_config set; /* typed: ours on this disk, valid while joined */
};

struct migbuf_disk {
    struct migbuf_allocator allocator;
    char group[72];
    struct node *node;
    uint32_t nodes, at; /* at: the node the command under way is about */
    int32_t under_way;  /* MIGBUF_DISK_…, 0: none */
    uint8_t restores;   /* the command under way takes its node out of the group */
    uint8_t query, wanted, restoring, learnt, failed, set_once;
    uint8_t object;     /* the group object is there */
    uint8_t doubtful;   /* object-add failed: it may be there from an earlier process, or not at all */
    uint8_t loaded;     /* an earlier process may have died between restoring and deleting the group: once tried */
    uint8_t plain;      /* qom-set does not work on it */
    uint8_t typed;      /* no group of ours: block_set_io_throttle on each disk */
    int32_t taken_over;
    uint64_t commands_sent;
    struct migbuf_limits want;               /* ours, when `wanted` */
    struct migbuf_throttle_config in_force;  /* of the group, valid while a node has joined */
    struct migbuf_throttle_config sending;   /* what the command under way sets */
    char text[TEXT_BYTES];
};

static int is_group_name(const char *s)
{
    static const char allowed[] = "0123456789-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t n = strlen(s);

    return n >= 1 && n <= 64 && strspn(s, allowed) == n && !strspn(s, "0123456789-._");
}

int migbuf_disk_new(const char *group, const struct migbuf_allocator *allocator, struct migbuf_disk **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_disk *d;

    if (!group || !out || !is_group_name(group))
        return MIGBUF_E_INVALID;
    d = migbuf__resize(&a, NULL, 0, 1, sizeof *d);
    if (!d)
        return MIGBUF_E_NOMEM;
    *d = (struct migbuf_disk){ .allocator = a };
    memcpy(d->group, group, strlen(group) + 1);
    *out = d;
    return 0;
}

void migbuf_disk_free(struct migbuf_disk *d)
{
    struct migbuf_allocator a;

    if (!d)
        return;
    a = d->allocator;
    migbuf__free(&a, d->node, d->nodes * sizeof *d->node);
    migbuf__free(&a, d, sizeof *d);
}

static struct node *find_node(const struct migbuf_disk *d, const char *name)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!strcmp(d->node[k].name, name))
            return &d->node[k];
    return NULL;
}

int migbuf_disk_watch(struct migbuf_disk *d, const char *node_name)
{
    struct node *n;

    if (!d || !node_name || !*node_name || strlen(node_name) >= NODE_BYTES)
        return MIGBUF_E_INVALID;
    if (d->set_once || d->under_way)
        return MIGBUF_E_STATE;
    if (find_node(d, node_name))
        return MIGBUF_E_EXISTS;
    if (d->nodes == MAX_NODES)
        return MIGBUF_E_TOO_BIG;
    n = migbuf__resize(&d->allocator, d->node, d->nodes, d->nodes + 1, sizeof *n);
    if (!n)
        return MIGBUF_E_NOMEM;
    d->node = n;
    n = &d->node[d->nodes++];
    *n = (struct node){ 0 };
    memcpy(n->name, node_name, strlen(node_name) + 1);
    d->learnt = 0;
    return 0;
}

int migbuf_disk_learn(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->nodes)
        return MIGBUF_E_STATE;
    d->query = 1;
    d->failed = 0;
    return 0;
}

static uint32_t count_joined(const struct migbuf_disk *d)
{
    uint32_t joined = 0;

    for (uint32_t k = 0; k < d->nodes; k++)
        joined += d->node[k].joined;
    return joined;
}

static int is_restored(const struct migbuf_disk *d)
{
    return d->restoring && !count_joined(d) && !d->object && !d->loaded && !d->under_way;
}

int migbuf_disk_typed(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (d->set_once || d->under_way || d->learnt)
        return MIGBUF_E_STATE;
    d->typed = d->plain = 1;
    return 0;
}

/* What a call with the six rates and nothing else can say. */
static int is_typed(const struct migbuf_throttle_config *c)
{
    struct migbuf_throttle_config rates = { .bps_rd = c->bps_rd, .bps_wr = c->bps_wr, .iops_rd = c->iops_rd,
                                            .iops_wr = c->iops_wr };

    return !memcmp(&rates, c, offsetof(struct migbuf_throttle_config, group));
}

/* Each disk has a bucket of its own then, and its part of the budget. */
static int check_typed(const struct migbuf_disk *d, const struct migbuf_limits *limits)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!is_typed(&d->node[k].host))
            return MIGBUF_E_UNSUPPORTED;
    if (limits->iops_size)
        return MIGBUF_E_UNSUPPORTED;
    if ((limits->iops_wr && limits->iops_wr < d->nodes) || (limits->bps_wr && limits->bps_wr < d->nodes))
        return MIGBUF_E_RANGE;
    return 0;
}

int migbuf_disk_set(struct migbuf_disk *d, const struct migbuf_limits *limits)
{
    if (!d || !limits)
        return MIGBUF_E_INVALID;
    if (!d->learnt)
        return MIGBUF_E_STATE;
    if (!limits->iops_wr && !limits->bps_wr)
        return MIGBUF_E_RANGE;
    if (d->restoring && !is_restored(d))
        return MIGBUF_E_STATE;
    if (d->typed && check_typed(d, limits))
        return check_typed(d, limits);
    d->want = *limits;
    d->wanted = d->set_once = 1;
    d->restoring = d->failed = 0;
    return 0;
}

int migbuf_disk_again(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->wanted || (!d->object && !d->typed) || d->restoring)
        return MIGBUF_E_STATE;
    for (uint32_t k = 0; k < d->nodes; k++)
        d->node[k].waits = d->node[k].joined;
    d->failed = 0;
    return 0;
}

int migbuf_disk_restore(struct migbuf_disk *d)
{
    if (!d)
        return MIGBUF_E_INVALID;
    if (!d->learnt)
        return MIGBUF_E_STATE;
    d->wanted = d->failed = 0;
    d->restoring = 1;
    return 0;
}

/* Writing commands. Everything is bounded: 512 bytes of qdev are at most 3072 when escaped. */

/* Every field once, with its name in block_set_io_throttle and in the throttle-group object. */
struct field {
    size_t offset;
    const char *name, *property;
    uint8_t mandatory, length_of_burst;
};

#define FIELD(f) offsetof(struct migbuf_throttle_config, f), #f
static const struct field fields[] = {
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

static uint64_t value_of(const struct migbuf_throttle_config *c, const struct field *f)
{
    uint64_t value;

    memcpy(&value, (const char *)c + f->offset, sizeof value);
    return value;
}

/* For block_set_io_throttle what is left out is reset, and a length without its burst is an error. An object keeps what is
 * left out, so there everything is said, and a length, which must not be 0, is 1 as QEMU's own default. */
static void put_config(struct migbuf__writer *t, const struct migbuf_throttle_config *c, int object)
{
    const char *comma = "";

    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
        uint64_t value = value_of(c, &fields[k]);

        if (!object && !fields[k].mandatory && !value)
            continue;
        if (object && fields[k].length_of_burst && !value)
            value = 1;
        migbuf__write(t, "%s\"%s\":%llu", comma, object ? fields[k].property : fields[k].name, (unsigned long long)value);
        comma = ",";
    }
}

static void write_throttle(struct migbuf_disk *d, const struct node *n, const char *group)
{
    struct migbuf__writer t = { d->text, sizeof d->text, 0 };

    migbuf__write(&t, "{\"id\":");
    migbuf__write_json_string(&t, n->qdev);
    migbuf__write(&t, ",");
    put_config(&t, &d->sending, 0);
    if (*group) {
        migbuf__write(&t, ",\"group\":");
        migbuf__write_json_string(&t, group);
    }
    migbuf__write(&t, "}");
}

/* What to do next */

/* The strictest of all disks' own limits, ours laid over them. */
static struct migbuf_throttle_config merged(const struct migbuf_disk *d)
{
    struct migbuf_throttle_config host = d->node[0].host;

    for (uint32_t k = 1; k < d->nodes; k++)
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
            uint64_t a = value_of(&host, &fields[f]), b = value_of(&d->node[k].host, &fields[f]);

            if (b && (!a || b < a))
                memcpy((char *)&host + fields[f].offset, &b, sizeof b);
        }
    migbuf_limits_merge(&host, &d->want, &host);
    return host;
}

/* Typed: one disk's own limits, and its part of ours over them. */
static struct migbuf_throttle_config part_of(const struct migbuf_disk *d, const struct node *n)
{
    struct migbuf_limits part = { .iops_wr = d->want.iops_wr / d->nodes, .bps_wr = d->want.bps_wr / d->nodes };
    struct migbuf_throttle_config config;

    migbuf_limits_merge(&n->host, &part, &config);
    return config;
}

static int same_limits(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b)
{
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
        if (value_of(a, &fields[f]) != value_of(b, &fields[f]))
            return 0;
    return 1;
}

/* No rate rises, so nobody who waits has a reason to be woken. */
static int is_lower(const struct migbuf_throttle_config *to, const struct migbuf_throttle_config *from)
{
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
        uint64_t a = value_of(to, &fields[f]), b = value_of(from, &fields[f]);

        if (fields[f].length_of_burst || fields[f].offset == offsetof(struct migbuf_throttle_config, iops_size)) {
            if (a != b)
                return 0;
        } else if (b && (!a || a > b)) {
            return 0;
        }
    }
    return 1;
}

static struct node *first_node(struct migbuf_disk *d, int joined)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (d->node[k].joined == joined) {
            d->at = k;
            return &d->node[k];
        }
    return NULL;
}

static struct node *first_waiting(struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (d->node[k].waits) {
            d->at = k;
            return &d->node[k];
        }
    return NULL;
}

/* The disk that has not what it is to have. */
static struct node *first_different(struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++) {
        struct node *n = &d->node[k];

        d->sending = part_of(d, n);
        d->at = k;
        if (!n->joined || n->waits || !same_limits(&d->sending, &n->set))
            return n;
    }
    return NULL;
}

static int32_t next_to_set_typed(struct migbuf_disk *d)
{
    struct node *n = first_different(d);

    d->restores = 0;
    if (!n)
        return 0;
    write_throttle(d, n, "");
    return MIGBUF_DISK_THROTTLE;
}

static int32_t next_to_restore(struct migbuf_disk *d)
{
    struct node *n = first_node(d, 1);

    if (n) {
        d->sending = n->host;
        d->restores = 1;
        write_throttle(d, n, d->typed ? "" : n->host.group);
        return MIGBUF_DISK_THROTTLE;
    }
    if (d->object || d->loaded) {
        snprintf(d->text, sizeof d->text, "{\"id\":\"%s\"}", d->group);
        return MIGBUF_DISK_DELETE;
    }
    return 0;
}

static int32_t next_to_set(struct migbuf_disk *d)
{
    struct migbuf_throttle_config want = merged(d);
    struct migbuf__writer t = { d->text, sizeof d->text, 0 };
    struct node *n = first_node(d, 0);

    d->sending = want;
    d->restores = 0;
    if (!d->object) {
        migbuf__write(&t, "{\"qom-type\":\"throttle-group\",\"id\":\"%s\",\"limits\":{", d->group);
        put_config(&t, &want, 1);
        migbuf__write(&t, "}}");
        return MIGBUF_DISK_ADD;
    }
    if (n) { /* a disk that joins brings the limits along */
        write_throttle(d, n, d->group);
        return MIGBUF_DISK_THROTTLE;
    }
    if (same_limits(&want, &d->in_force) || d->plain || !is_lower(&want, &d->in_force)) {
        n = same_limits(&want, &d->in_force) ? first_waiting(d) : first_node(d, 1);
        if (!n)
            return 0;
        write_throttle(d, n, d->group);
        return MIGBUF_DISK_THROTTLE;
    }
    migbuf__write(&t, "{\"path\":\"/objects/%s\",\"property\":\"limits\",\"value\":{", d->group);
    put_config(&t, &want, 1);
    migbuf__write(&t, "}}");
    return MIGBUF_DISK_LIMITS;
}

int migbuf_disk_next(struct migbuf_disk *d, struct migbuf_disk_command *command)
{
    static const char *const name[] = { "", "query-block", "object-add", "block_set_io_throttle", "qom-set", "object-del" };
    int fresh;

    if (!d || !command)
        return MIGBUF_E_INVALID;
    fresh = !d->under_way;
    if (fresh && !d->failed) {
        if (d->query) {
            for (uint32_t k = 0; k < d->nodes; k++)
                d->node[k].found = 0;
            d->under_way = MIGBUF_DISK_QUERY;
        } else if (d->restoring) {
            d->under_way = next_to_restore(d);
        } else if (d->wanted) {
            d->under_way = d->typed ? next_to_set_typed(d) : next_to_set(d);
        }
    }
    if (!d->under_way)
        return 0;
    if (fresh && d->under_way != MIGBUF_DISK_QUERY)
        d->commands_sent++;
    *command = (struct migbuf_disk_command){
        .kind = d->under_way,
        .name = name[d->under_way],
        .arguments = d->under_way == MIGBUF_DISK_QUERY ? NULL : d->text,
    };
    return 1;
}

/* What came back */

/* A member of our group holds what we set; anything else is another hand's doing, and what the host wants from now on. */
static void compare(struct migbuf_disk *d, struct node *n, const struct migbuf_throttle_config *config)
{
    if (d->typed && d->loaded) { /* nothing tells ours from others': what is not as it was saved is ours */
        n->set = *config;
        n->joined = !same_limits(config, &n->host);
        return;
    }
    if (d->typed && n->joined && same_limits(config, &n->set))
        return;
    if (!d->typed && !strcmp(config->group, d->group)) {
        if (!n->joined) { /* set by an earlier process of ours, whose record of the host's limits is not ours to guess */
            n->joined = d->object = d->doubtful = 1;
            d->in_force = *config;
        } else if (!same_limits(config, &d->in_force)) {
            /* Whoever names no group sets the one the disk is in, ours: these are the limits the host wants now. Of
             * several disks in it nobody can tell whose. */
            d->in_force = *config;
            d->taken_over++;
            if (d->nodes == 1) {
                char group[sizeof n->host.group];

                memcpy(group, n->host.group, sizeof group);
                n->host = *config;
                memcpy(n->host.group, group, sizeof group);
                if (!group[0] && strlen(n->qdev) < sizeof group) /* QEMU's own name for the group of one disk */
                    memcpy(n->host.group, n->qdev, strlen(n->qdev) + 1);
            }
        }
        return;
    }
    d->taken_over += n->joined;
    n->joined = 0;
    n->host = *config;
}

int migbuf_disk_found(struct migbuf_disk *d, const char *node_name, const char *qdev,
                      const struct migbuf_throttle_config *config)
{
    struct node *n = NULL;

    if (!d || !node_name || !qdev || !*qdev || !config)
        return MIGBUF_E_INVALID;
    if (d->under_way != MIGBUF_DISK_QUERY)
        return MIGBUF_E_STATE;
    if (strlen(qdev) >= QDEV_BYTES)
        return MIGBUF_E_TOO_BIG;
    if (!memchr(config->group, 0, sizeof config->group))
        return MIGBUF_E_INVALID;
    /* The device once known identifies the disk: a snapshot puts another node on top. */
    for (uint32_t k = 0; k < d->nodes && !n; k++)
        if (d->node[k].qdev[0] ? !strcmp(d->node[k].qdev, qdev) : !strcmp(d->node[k].name, node_name))
            n = &d->node[k];
    if (!n)
        return 0;
    memcpy(n->qdev, qdev, strlen(qdev) + 1);
    n->found = 1;
    compare(d, n, config);
    return 1;
}

static int query_done(struct migbuf_disk *d)
{
    d->query = 0;
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!d->node[k].found)
            return MIGBUF_E_NOTFOUND;
    d->learnt = 1;
    if (d->typed)
        d->loaded = 0; /* there is no group to look for */
    return 0;
}

/* The group has one timer, which belongs to whichever disk's request is next: told of a raise are therefore all. */
static void throttle_done(struct migbuf_disk *d)
{
    struct node *n = &d->node[d->at];

    n->set = d->sending;
    if (!d->restores && !d->typed) {
        uint8_t raised = count_joined(d) && !same_limits(&d->sending, &d->in_force) && !is_lower(&d->sending, &d->in_force);

        for (uint32_t k = 0; k < d->nodes && raised; k++)
            d->node[k].waits = d->node[k].joined;
        d->in_force = d->sending;
    }
    n->joined = !d->restores;
    n->waits = 0;
}

int migbuf_disk_done(struct migbuf_disk *d)
{
    int32_t kind;

    if (!d)
        return MIGBUF_E_INVALID;
    kind = d->under_way;
    d->under_way = 0;
    switch (kind) {
    case 0:
        return MIGBUF_E_STATE;
    case MIGBUF_DISK_QUERY:
        return query_done(d);
    case MIGBUF_DISK_ADD:
        d->object = 1;
        d->loaded = 0;
        break;
    case MIGBUF_DISK_THROTTLE:
        throttle_done(d);
        break;
    case MIGBUF_DISK_LIMITS:
        d->in_force = d->sending;
        break;
    default:
        d->object = d->doubtful = d->loaded = 0;
        break;
    }
    return 0;
}

int migbuf_disk_failed(struct migbuf_disk *d)
{
    int32_t kind;

    if (!d)
        return MIGBUF_E_INVALID;
    kind = d->under_way;
    if (!kind)
        return MIGBUF_E_STATE;
    d->under_way = 0;
    if (kind == MIGBUF_DISK_ADD) {
        d->object = d->doubtful = 1;
        return 0;
    }
    if (kind == MIGBUF_DISK_LIMITS && !d->plain) {
        d->plain = 1;
        return 0;
    }
    if (kind == MIGBUF_DISK_DELETE && (d->doubtful || d->loaded)) {
        d->object = d->doubtful = d->loaded = 0;
        return 0;
    }
    d->query = 0;
    d->failed = 1;
    return MIGBUF_E_PEER;
}

/* Saving */

/* Found, or loaded: then it can be saved before QEMU is asked, or a second death in a row would lose it. */
static int knows_all(const struct migbuf_disk *d)
{
    for (uint32_t k = 0; k < d->nodes; k++)
        if (!d->node[k].qdev[0])
            return 0;
    return d->nodes > 0;
}

int migbuf_disk_save(const struct migbuf_disk *d, char *text, size_t capacity, size_t *length)
{
    struct migbuf__writer w = { text, capacity, 0 };

    if (!d || !length || (capacity && !text))
        return MIGBUF_E_INVALID;
    if (!knows_all(d))
        return MIGBUF_E_STATE;
    migbuf__write(&w, "migbuf-disk 1 ");
    migbuf__write_name(&w, d->group);
    migbuf__write(&w, "%s nodes %u\n", d->typed ? " typed" : "", d->nodes);
    for (uint32_t k = 0; k < d->nodes; k++) {
        const struct node *n = &d->node[k];

        migbuf__write(&w, "node ");
        migbuf__write_name(&w, n->name);
        migbuf__write(&w, " ");
        migbuf__write_name(&w, n->qdev);
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
            migbuf__write(&w, " %llu", (unsigned long long)value_of(&n->host, &fields[f]));
        migbuf__write(&w, " ");
        migbuf__write_name(&w, n->host.group);
        migbuf__write(&w, "\n");
    }
    migbuf__write_end(&w, "end");
    *length = w.length;
    return w.length < capacity ? 0 : MIGBUF_E_TOO_BIG;
}

static void read_node(struct migbuf__reader *r, struct node *n)
{
    *n = (struct node){ 0 };
    migbuf__read_word(r, "node");
    migbuf__read_name(r, n->name, sizeof n->name);
    migbuf__read_name(r, n->qdev, sizeof n->qdev);
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
        uint64_t value = migbuf__read_number(r, 0, UINT64_C(1000000000000000));

        memcpy((char *)&n->host + fields[f].offset, &value, sizeof value);
    }
    migbuf__read_name(r, n->host.group, sizeof n->host.group);
    if (!n->name[0] || !n->qdev[0])
        r->bad = 1;
}

int migbuf_disk_load(const char *text, size_t length, const struct migbuf_allocator *allocator, struct migbuf_disk **out)
{
    struct migbuf_disk *d = NULL; /* freed below even if it was never made */
    struct migbuf__reader r;
    char group[72];
    uint64_t nodes;
    int rc, typed;

    if (!text || !out)
        return MIGBUF_E_INVALID;
    if (length > MAX_NODES * 8192)
        return MIGBUF_E_TOO_BIG;
    r = migbuf__reader(text, length, "end");
    migbuf__read_word(&r, "migbuf-disk");
    migbuf__read_word(&r, "1");
    migbuf__read_name(&r, group, sizeof group);
    typed = migbuf__next_is(&r, "typed");
    if (typed)
        migbuf__read_word(&r, "typed");
    migbuf__read_word(&r, "nodes");
    nodes = migbuf__read_number(&r, 1, MAX_NODES);
    if (r.bad || !is_group_name(group))
        return MIGBUF_E_PROTOCOL;
    rc = migbuf_disk_new(group, allocator, &d);
    if (!rc && typed)
        rc = migbuf_disk_typed(d);
    for (uint64_t k = 0; k < nodes && !rc; k++) {
        struct node n;

        read_node(&r, &n);
        rc = r.bad ? MIGBUF_E_PROTOCOL : migbuf_disk_watch(d, n.name);
        if (!rc)
            d->node[k] = n;
    }
    if (!rc && r.at != r.end)
        rc = MIGBUF_E_PROTOCOL;
    if (rc) {
        migbuf_disk_free(d);
        return rc == MIGBUF_E_NOMEM ? rc : MIGBUF_E_PROTOCOL;
    }
    d->query = 1; /* what is in force has to be seen first */
    d->loaded = 1;
    *out = d;
    return 0;
}

/* Looking */

int migbuf_disk_info(const struct migbuf_disk *d, struct migbuf_disk_info *info)
{
    struct migbuf_throttle_config want, in_force = { 0 };
    struct migbuf_disk_info i;
    int differ = 0;

    if (!d || !info)
        return MIGBUF_E_INVALID;
    i = (struct migbuf_disk_info){
        .commands_sent = d->commands_sent,
        .learnt = d->learnt,
        .restored = is_restored(d),
        .plain = d->plain,
        .taken_over = d->taken_over,
        .failed = d->failed,
    };
    if (d->nodes && !d->restoring && count_joined(d) == d->nodes) {
        want = merged(d);
        for (uint32_t k = 0; k < d->nodes && d->typed; k++) { /* as if they were one */
            struct migbuf_throttle_config part = part_of(d, &d->node[k]);

            in_force.iops_wr += d->node[k].set.iops_wr;
            in_force.bps_wr += d->node[k].set.bps_wr;
            differ |= !same_limits(&part, &d->node[k].set);
        }
        if (!d->typed) {
            in_force = d->in_force;
            differ = !same_limits(&want, &in_force);
        }
        /* Loaded: nobody has asked for anything yet, and what an earlier process set is there. */
        i.throttled = !d->wanted || !differ;
        if (!d->wanted)
            i.limits = (struct migbuf_limits){ .iops_wr = in_force.iops_wr, .iops_size = in_force.iops_size, .bps_wr = in_force.bps_wr };
        else if (i.throttled)
            i.limits = d->want;
    }
    return migbuf__struct_give(info, &i, sizeof i, MIGBUF__FIRST(struct migbuf_disk_info, failed));
}

int migbuf_disk_host(const struct migbuf_disk *d, const char *node_name, struct migbuf_throttle_config *config)
{
    const struct node *n;

    if (!d || !node_name || !config)
        return MIGBUF_E_INVALID;
    n = find_node(d, node_name);
    if (!n)
        return MIGBUF_E_NOTFOUND;
    if (!d->learnt)
        return MIGBUF_E_STATE;
    *config = n->host;
    return 0;
}

const char *migbuf_disk_qdev(const struct migbuf_disk *d, const char *node_name)
{
    const struct node *n = d && node_name ? find_node(d, node_name) : NULL;

    return n && n->qdev[0] ? n->qdev : NULL;
}
