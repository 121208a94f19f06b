/* SPDX-License-Identifier: MIT */
#include "qemu_model.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RATES = 6, LENGTHS = 12, SIZE = 18, VALUES = 19 };

/* In the order of the record: six rates, six bursts, six lengths, the size of a request. */
static const char *const call_name[VALUES] = {
    "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "bps_max", "bps_rd_max", "bps_wr_max", "iops_max",
    "iops_rd_max", "iops_wr_max", "bps_max_length", "bps_rd_max_length", "bps_wr_max_length", "iops_max_length",
    "iops_rd_max_length", "iops_wr_max_length", "iops_size",
};
static const char *const object_name[VALUES] = {
    "bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write", "bps-total-max", "bps-read-max",
    "bps-write-max", "iops-total-max", "iops-read-max", "iops-write-max", "bps-total-max-length", "bps-read-max-length",
    "bps-write-max-length", "iops-total-max-length", "iops-read-max-length", "iops-write-max-length", "iops-size",
};

static uint64_t *values(struct migbuf_throttle_config *c)
{
    return &c->bps;
}

static void set_default_lengths(struct migbuf_throttle_config *c)
{
    for (int k = LENGTHS; k < SIZE; k++)
        if (!values(c)[k])
            values(c)[k] = 1;
}

const char *model_invalid(const struct migbuf_throttle_config *config)
{
    struct migbuf_throttle_config c = *config;
    uint64_t most = UINT64_C(1000000000000000);

    set_default_lengths(&c);
    if ((c.bps && (c.bps_rd || c.bps_wr)) || (c.iops && (c.iops_rd || c.iops_wr)) ||
        (c.bps_max && (c.bps_rd_max || c.bps_wr_max)) || (c.iops_max && (c.iops_rd_max || c.iops_wr_max)))
        return "total values and read/write values cannot be used at the same time";
    if (c.iops_size && !c.iops && !c.iops_rd && !c.iops_wr)
        return "iops size requires an iops value to be set";
    for (int k = 0; k < RATES; k++) {
        uint64_t rate = values(&c)[k], burst = values(&c)[RATES + k], length = values(&c)[LENGTHS + k];

        if (rate > most || burst > most)
            return "values must be within [0, 1000000000000000]";
        if (length > 1 && !burst)
            return "burst length set without burst rate";
        if (burst && length > most / burst)
            return "burst length too high for this burst rate";
        if (burst && !rate)
            return "a burst requires its rate";
        if (burst && burst < rate)
            return "a burst cannot be lower than its rate";
    }
    return NULL;
}

static int refuse(struct qemu_model *q, const char *complaint)
{
    q->complaint = complaint;
    return -1;
}

static int find_group(const struct qemu_model *q, const char *name)
{
    for (int k = 0; k < MODEL_GROUPS; k++)
        if (q->group[k].used && !strcmp(q->group[k].name, name))
            return k;
    return -1;
}

static int members(const struct qemu_model *q, int group)
{
    int n = 0;

    for (int k = 0; k < q->devices; k++)
        n += q->device[k].there && q->device[k].group == group;
    return n;
}

static int make_group(struct qemu_model *q, const char *name)
{
    for (int k = 0; k < MODEL_GROUPS; k++)
        if (!q->group[k].used) {
            q->group[k] = (struct model_group){ .used = 1 };
            snprintf(q->group[k].name, sizeof q->group[k].name, "%s", name);
            set_default_lengths(&q->group[k].config);
            return k;
        }
    abort(); /* the test makes more groups than there is room for */
}

static void leave(struct qemu_model *q, int device)
{
    int group = q->device[device].group;

    q->device[device].group = -1;
    if (group >= 0 && !q->group[group].object && !members(q, group))
        q->group[group].used = 0;
}

static void put_in_force(struct model_group *g, const struct migbuf_throttle_config *config)
{
    g->config = *config;
    set_default_lengths(&g->config);
}

static int is_none(const struct migbuf_throttle_config *c)
{
    return !c->bps && !c->bps_rd && !c->bps_wr && !c->iops && !c->iops_rd && !c->iops_wr;
}

int model_set(struct qemu_model *q, int device, const struct migbuf_throttle_config *config, const char *group)
{
    struct model_device *d = &q->device[device];
    const char *complaint = model_invalid(config), *name = group ? group : d->qdev;

    if (!d->there)
        return refuse(q, "Device not found");
    if (complaint)
        return refuse(q, complaint);
    if (is_none(config)) {
        leave(q, device);
        return 0;
    }
    if (d->group < 0 || (group && strcmp(q->group[d->group].name, group))) {
        int to;

        leave(q, device);
        to = find_group(q, name);
        d->group = to >= 0 ? to : make_group(q, name);
    }
    put_in_force(&q->group[d->group], config);
    return 0;
}

int model_object(struct qemu_model *q, const char *name, const struct migbuf_throttle_config *config)
{
    const char *complaint = model_invalid(config);
    int group;

    if (find_group(q, name) >= 0)
        return refuse(q, "A group with this name already exists");
    if (complaint)
        return refuse(q, complaint);
    group = make_group(q, name);
    q->group[group].object = 1;
    put_in_force(&q->group[group], config);
    return 0;
}

int model_object_set(struct qemu_model *q, const char *name, const struct migbuf_throttle_config *config)
{
    const char *complaint = model_invalid(config);
    int group = find_group(q, name);

    if (group < 0 || !q->group[group].object)
        return refuse(q, "Path not found");
    if (complaint)
        return refuse(q, complaint);
    put_in_force(&q->group[group], config);
    return 0;
}

static int delete_object(struct qemu_model *q, const char *name)
{
    int group = find_group(q, name);

    if (group < 0 || !q->group[group].object)
        return refuse(q, "object not found");
    if (members(q, group))
        return refuse(q, "object is in use, can not be deleted");
    q->group[group].used = 0;
    return 0;
}

void model_unplug(struct qemu_model *q, int device)
{
    leave(q, device);
    q->device[device].there = 0;
}

int model_group_exists(const struct qemu_model *q, const char *name)
{
    return find_group(q, name) >= 0;
}

struct migbuf_throttle_config model_shown(const struct qemu_model *q, int device)
{
    struct migbuf_throttle_config shown = { 0 };
    int group = q->device[device].group;

    if (group < 0)
        return shown;
    shown = q->group[group].config;
    for (int k = 0; k < RATES; k++)
        if (!values(&shown)[RATES + k])
            values(&shown)[LENGTHS + k] = 0;
    snprintf(shown.group, sizeof shown.group, "%s", q->group[group].name);
    return shown;
}

static void read_config(json_t *object, const char *const *names, struct migbuf_throttle_config *c)
{
    for (int k = 0; k < VALUES; k++) {
        json_t *value = json_object_get(object, names[k]);

        if (value)
            values(c)[k] = (uint64_t)json_integer_value(value);
    }
}

static int set_by_json(struct qemu_model *q, json_t *arguments)
{
    const char *id = json_string_value(json_object_get(arguments, "id"));
    struct migbuf_throttle_config config = { 0 };

    for (int k = 0; k < RATES; k++)
        if (!json_object_get(arguments, call_name[k]))
            return refuse(q, "a rate is missing");
    for (int k = LENGTHS; k < SIZE; k++)
        if (json_object_get(arguments, call_name[k]) && !json_integer_value(json_object_get(arguments, call_name[k])))
            return refuse(q, "the burst length cannot be 0");
    read_config(arguments, call_name, &config);
    for (int k = 0; k < q->devices; k++)
        if (q->device[k].there && !strcmp(q->device[k].qdev, id))
            return model_set(q, k, &config, json_string_value(json_object_get(arguments, "group")));
    return refuse(q, "Device not found");
}

static int object_by_json(struct qemu_model *q, json_t *arguments)
{
    struct migbuf_throttle_config config = { 0 };

    read_config(json_object_get(arguments, "limits"), object_name, &config);
    return model_object(q, json_string_value(json_object_get(arguments, "id")), &config);
}

static int property_by_json(struct qemu_model *q, json_t *arguments)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    struct migbuf_throttle_config config;
    int group;

    if (strncmp(path, "/objects/", 9))
        return refuse(q, "Path not found");
    group = find_group(q, path + 9);
    if (group < 0)
        return refuse(q, "Path not found");
    config = q->group[group].config; /* what is left out stays */
    read_config(json_object_get(arguments, "value"), object_name, &config);
    return model_object_set(q, path + 9, &config);
}

int model_execute(struct qemu_model *q, const char *name, const char *arguments)
{
    json_t *a = arguments ? json_loads(arguments, 0, NULL) : NULL;
    int rc;

    if (arguments && !a)
        return refuse(q, "the arguments are no JSON");
    if (!strcmp(name, "block_set_io_throttle"))
        rc = set_by_json(q, a);
    else if (!strcmp(name, "object-add"))
        rc = object_by_json(q, a);
    else if (!strcmp(name, "qom-set"))
        rc = property_by_json(q, a);
    else if (!strcmp(name, "object-del"))
        rc = delete_object(q, json_string_value(json_object_get(a, "id")));
    else if (!strcmp(name, "stop")) {
        if (q->running)
            snprintf(q->status, sizeof q->status, "paused");
        q->running = rc = 0;
    } else if (!strcmp(name, "cont")) {
        q->running = 1;
        rc = 0;
    } else
        rc = refuse(q, "The command has not been found");
    json_decref(a);
    return rc;
}
