/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_STATE_H
#define MIGBUF_STATE_H
/**
 * @file state.h
 * How large a VM's memory dump can become. Then the volume it goes to (size.state of an LXD or Incus VM) can be made
 * large enough before, and get its old size again after. Pure.
 *
 *   raw  = pages * (page + 8) + cpus * 64 KiB + 2 MiB + ram / 4096
 *   gzip = raw + raw / 4096 + raw / 16384 + raw / 2^25 + 64
 *     ram    memory + device RAM + resent
 *     pages  ram / page, rounded up
 *
 * | term | pays for | source |
 * |---|---|---|
 * | pages * (page + 8) | Every page is sent whole behind 8 bytes of address and flags, or as 9 bytes when it is all zeroes. The same page comes twice only when the guest wrote to it meanwhile. | migration/ram.c of QEMU |
 * | ram / 4096 | the section frames around each 50 ms of sending, 18 bytes each, down to 2 MB/s | QEMU's stream |
 * | 64 KiB a CPU | measured: 10 KiB a CPU (TCG; KVM may add 11 KiB of AMX state) | ours |
 * | 2 MiB | all devices, their ROMs included; measured: less than 0.9 MB for such a VM | ours |
 * | gzip | what cannot be compressed. LXD's, Go's compress/gzip, stores such data with less overhead: measured 80 bytes a MiB, where zlib's bound has 320. | zlib (deflateBound, deflate.c) |
 *
 * **LXD and Incus dump a VM while it runs** (`lxc stop --stateful`, stateful snapshots; driver_qemu.go, saveState).
 * What the guest writes during the dump is sent again, and no bound holds for that but the writer's speed. Stop the
 * guest first, or count `resent_bytes`.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Room for the device RAM of a VM as LXD and Incus make it: 8 MiB of virtio-vga, 4 MiB of firmware, 1 MiB of ROMs and
 * tables (measured with `info ramblock`), and the screen's contents, which virtio-gpu sends as well, up to 16 MiB. */
#define MIGBUF_STATE_DEVICE_RAM 33554432u

/** What a dump is made of. Fill with migbuf_state_init(). `size` first: it may grow. */
struct migbuf_state {
    uint64_t size; /**< sizeof, set by _init */
    uint64_t memory_bytes;     /**< limits.memory; 1 .. 2^50 */
    uint64_t device_ram_bytes; /**< all other RAM blocks (`info ramblock`); MIGBUF_STATE_DEVICE_RAM; 0 .. 2^40 */
    uint64_t resent_bytes;     /**< what the guest may write to its memory while the dump is made; 0: it is stopped */
    uint32_t cpus;             /**< 1; 1 .. 4096 */
    uint32_t page_bytes;       /**< of the guest's architecture as QEMU migrates it; 4096; a power of two up to 65536 */
};

/**
 * Defaults as said above, memory_bytes 0. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_state, nonsense_is_refused
 */
MIGBUF_API int migbuf_state_init(struct migbuf_state *s, uint64_t size);

/**
 * The bounds, in bytes, rounded up. Either result may be NULL.
 *
 * Example: 1 GiB, 4 CPUs, device RAM 16 MiB -> pages 266'240; raw 266'240 * 4104 + 262'144 + 2'097'152 + 266'240 =
 * 1'095'274'496; gzip 1'095'608'845.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT; results untouched then. Any thread.
 * Test: test_state, example; test_state_qemu, bounds_hold
 */
MIGBUF_API int migbuf_state_bound(const struct migbuf_state *s, uint64_t *raw_bytes, uint64_t *gzip_bytes);

#ifdef __cplusplus
}
#endif
#endif
