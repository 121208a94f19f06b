/* SPDX-License-Identifier: MIT */
/* qemu_model: what QEMU does with throttle groups, written from QEMU's sources and from what was measured of it, and from
 * nothing of the library but its records. Sources: blockdev.c and block/qapi-sysemu.c (block_set_io_throttle),
 * block/throttle-groups.c (groups, objects), util/throttle.c (throttle_is_valid), system/cpus.c (stop, cont).
 *
 * A group exists while a disk is in it or while an object of that name is there. A disk that is given limits without a
 * group's name stays in the group it is in, and sets that group's limits; without one it gets a group of its own name.
 * All rates 0 takes the disk out of its group. */
#ifndef MIGBUF_TESTS_QEMU_MODEL_H
#define MIGBUF_TESTS_QEMU_MODEL_H
#include "migbuf/disk.h"

#define MODEL_DEVICES 6
#define MODEL_GROUPS 12

struct model_device {
    char qdev[32], node[32];
    int there, group; /* index, -1: not throttled */
};

struct model_group {
    char name[300];
    struct migbuf_throttle_config config; /* lengths as QEMU keeps them: 1 without a burst */
    int used, object;
};

struct qemu_model {
    struct model_device device[MODEL_DEVICES];
    struct model_group group[MODEL_GROUPS];
    int devices, running;
    char status[32];       /* where it does not run */
    const char *complaint; /* of the last command that was refused */
};

/* Carries a command out: 0, or -1 and `complaint`. QUERY and STATUS are answered by the caller. */
int model_execute(struct qemu_model *q, const char *name, const char *arguments);

/* As query-block shows it: config and group of a device. */
struct migbuf_throttle_config model_shown(const struct qemu_model *q, int device);

/* block_set_io_throttle by somebody else; group NULL names none. */
int model_set(struct qemu_model *q, int device, const struct migbuf_throttle_config *config, const char *group);
/* object-add, and qom-set on it. */
int model_object(struct qemu_model *q, const char *name, const struct migbuf_throttle_config *config);
int model_object_set(struct qemu_model *q, const char *name, const struct migbuf_throttle_config *config);
void model_unplug(struct qemu_model *q, int device);
int model_group_exists(const struct qemu_model *q, const char *name);
/* NULL, or what QEMU would say against it. */
const char *model_invalid(const struct migbuf_throttle_config *config);
#endif
