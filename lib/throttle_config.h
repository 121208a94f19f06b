/* SPDX-License-Identifier: MIT */
/* throttle_config: QEMU's throttle configuration as a list of fields, so that each rule is written once. Private. */
#ifndef MIGBUF_LIB_THROTTLE_CONFIG_H
#define MIGBUF_LIB_THROTTLE_CONFIG_H
#include "migbuf/limits.h"

/* util/throttle.c: a bucket holds avg / 10 where no max is set, and a set empties it. */
#define MIGBUF__THROTTLE_BURST_S 0.1

#define MIGBUF__THROTTLE_VALUE_MAX UINT64_C(1000000000000000) /* THROTTLE_VALUE_MAX, include/qemu/throttle.h */

/* Every field once, with its name in block_set_io_throttle and in the throttle-group object. */
struct migbuf__config_field {
    size_t offset;
    const char *name, *property;
    uint8_t mandatory, is_length;
};

#define MIGBUF__CONFIG_FIELDS 19
extern const struct migbuf__config_field migbuf__config_field[MIGBUF__CONFIG_FIELDS];

uint64_t migbuf__config_value(const struct migbuf_throttle_config *c, const struct migbuf__config_field *f);
void migbuf__config_put(struct migbuf_throttle_config *c, const struct migbuf__config_field *f, uint64_t value);

/* 0, or MIGBUF_E_INVALID for a group without an end, MIGBUF_E_RANGE for more than QEMU takes. */
int migbuf__config_check(const struct migbuf_throttle_config *c);

/* All but the group. A burst's length of 0 and 1 are the same to QEMU. */
int migbuf__config_same(const struct migbuf_throttle_config *a, const struct migbuf_throttle_config *b);

/* No rate of `to` is above that of `from`, so nobody who waits has a reason to be woken. */
int migbuf__config_is_lower(const struct migbuf_throttle_config *to, const struct migbuf_throttle_config *from);

/* None of the six rates: QEMU does not throttle. */
int migbuf__config_is_none(const struct migbuf_throttle_config *c);

/* bps_rd, bps_wr, iops_rd, iops_wr and nothing else. */
int migbuf__config_is_six_rates(const struct migbuf_throttle_config *c);
#endif
