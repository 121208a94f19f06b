/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_MIGBUF_H
#define MIGBUF_MIGBUF_H
/**
 * @file migbuf.h
 * migbuf keeps live migrations of VMs with local disks from filling the volume their writes pile up in, and from
 * starving a guest. This header brings all of libmigbuf, in two tiers:
 *
 *   what a host needs for its loop
 *     buffer, disk, admission, outlook, limits, cow, link, state. Begin with buffer.h and disk.h
 *   formulas that stand alone
 *     throttle, priority, placement, bins: the paper's; stable
 *     forecast, growth, planner: experimental, they may change with any release (MIGBUF_EXPERIMENTAL_0)
 *
 * Four libraries stand beside it, and their headers are included by name. A host's own monitor or REST client does as well.
 *
 *   libmigbuf-ram
 *     convergence, downtime, history, ram: the memory phase; experimental (MIGBUF_RAM_EXPERIMENTAL_0)
 *   libmigbuf-mirror
 *     mirror: disks that are mirrored while their guests write; experimental (MIGBUF_MIRROR_EXPERIMENTAL_0)
 *   libmigbuf-qmp
 *     qmp, qmp_socket, report: QMP and what QEMU's replies say
 *   libmigbuf-lxd
 *     lxd: REST of LXD and Incus
 *
 * Link with -lmigbuf.
 *
 * Conventions, the same everywhere:
 *
 * - **Results.** 0 or a count on success, a negative MIGBUF_E_… on failure. After a failure nothing has changed.
 *   Test: test_buffer, what_is_refused_changes_nothing; test_oom, nothing_is_left_out
 * - **Time** is an argument. Nothing here reads a clock, a random source, the environment or a file unless its name
 *   says so.
 * - **Numbers.** Pure functions take and give double. Sizes and decisions are integers, rounded down. A double is 0 to
 *   10^50, or INFINITY where a line says so; one that must be above 0 is at least 10^-50. Beyond that the error is
 *   MIGBUF_E_RANGE, for NaN it is MIGBUF_E_INVALID. So nothing in between overflows: no result is NaN, and none is
 *   INFINITY unless a line says so.
 * - **Structs that may grow** have `uint64_t size` as their first field. Fill such a struct with its _init function, or
 *   set size to sizeof where it is a result. A program compiled with an older one is served as before. Fields the
 *   library does not know must be zero (MIGBUF_E_STRUCT otherwise) and read as zero.
 * - **Records** are structs without that field: they never grow.
 * - **Pointers** given are not kept unless a line says so. Handles come from _new and go to _free, which takes NULL.
 *   NULL where a pointer is needed gives MIGBUF_E_INVALID.
 * - **Threads.** Any thread may call pure functions. A handle belongs to one thread at a time. No globals, no
 *   callbacks, no signals.
 * - **Bad input.** Nothing a caller or a peer sends can abort or print.
 * - **Tests.** "Test: test_NAME, case" names the test that shows an entry at work: tests/test_NAME.c.
 */
#include "migbuf/error.h"
#include "migbuf/version.h"
/* The loop. */
#include "migbuf/buffer.h"
#include "migbuf/disk.h"
#include "migbuf/admission.h"
#include "migbuf/outlook.h"
#include "migbuf/limits.h"
#include "migbuf/cow.h"
#include "migbuf/link.h"
#include "migbuf/state.h"
/* The paper's formulas. */
#include "migbuf/throttle.h"
#include "migbuf/priority.h"
#include "migbuf/placement.h"
#include "migbuf/bins.h"
/* Experimental. */
#include "migbuf/forecast.h"
#include "migbuf/growth.h"
#include "migbuf/planner.h"
#endif
