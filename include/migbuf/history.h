/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_HISTORY_H
#define MIGBUF_HISTORY_H
/**
 * @file history.h
 * What became of a VM's earlier migrations: a text that travels with the VM. Without it the 24th attempt fails and
 * nobody knows of the other 23.
 *
 * Each attempt is one line, whether it moved or not, on whatever host. A line is printable ASCII: key=value, and a
 * checksum at its end:
 *
 *   migbuf-history 1 id=… n=24 at=1795897656 out=failed phase=ram
 *       why=no-convergence moved=23 from=h1 to=h2 … crc=8hex
 *
 * (It is one line; here it is folded.) n counts this VM's attempts.
 *
 * | what | how |
 * |---|---|
 * | bound | The newest 32 lines, each at most 512 bytes with its newline: 16 KiB. |
 * | place | An LXD or Incus host keeps the text in `user.migbuf.history`. |
 * | dropped lines | Each line also tells how the earlier ones ended. So nothing is lost when the oldest lines are dropped. |
 * | not known, or no longer fits | It is not written. |
 * | keys of other programs | They are kept and not looked at. |
 * | a broken line: cut, edited, too long | It is left out and counted. It never spoils the others. |
 * | secrets | There are none. Names of hosts are the host's choice. |
 *
 * Two hosts that did not know of each other merge their texts. The result is the same whichever way they do so, in any
 * order, as often as they like.
 *
 * Texts need not end in NUL. They may be empty, or NULL with length 0. *out_length is the length of the result, NUL not
 * counted. It is set also when `capacity` was too small for the result and its NUL. The call returns MIGBUF_E_TOO_BIG then,
 * so a capacity of 0 asks for the length. `out` must not overlap a text given.
 *
 * Allocates nothing, keeps nothing. Any thread.
 *
 * Link with -lmigbuf-ram. Experimental (MIGBUF_RAM_EXPERIMENTAL_0): it may change with any release.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Lines in a text. */
#define MIGBUF_HISTORY_LINES 32
/** Bytes in a text. */
#define MIGBUF_HISTORY_BYTES 16384

/** A number of an attempt that nobody measured. */
#define MIGBUF_ATTEMPT_UNKNOWN UINT64_MAX

/* How it ended. */
#define MIGBUF_ATTEMPT_MOVED 1   /**< the guest runs at the target */
#define MIGBUF_ATTEMPT_BACK 2    /**< given up on purpose: the guest is where it was */
#define MIGBUF_ATTEMPT_FAILED 3  /**< it failed: the guest is where it was */
#define MIGBUF_ATTEMPT_LOST 4    /**< the guest is gone */
#define MIGBUF_ATTEMPT_REFUSED 5 /**< it never began */

/* In which phase. */
#define MIGBUF_ATTEMPT_ADMISSION 1 /**< before it began */
#define MIGBUF_ATTEMPT_BASE 2      /**< while the disk's base was copied */
#define MIGBUF_ATTEMPT_MIRROR 3    /**< while the overlay was mirrored */
#define MIGBUF_ATTEMPT_RAM 4       /**< while memory was sent */
#define MIGBUF_ATTEMPT_SWITCH 5    /**< while nobody ran */
#define MIGBUF_ATTEMPT_TARGET 6    /**< at the target */

/* Why. */
#define MIGBUF_ATTEMPT_DONE 1            /**< there was nothing left to do */
#define MIGBUF_ATTEMPT_DEADLINE 2        /**< its deadline passed */
#define MIGBUF_ATTEMPT_NO_CONVERGENCE 3  /**< the guest dirtied memory faster than it could be sent */
#define MIGBUF_ATTEMPT_NO_SPACE 4        /**< no room */
#define MIGBUF_ATTEMPT_LINK_DOWN 5       /**< the link broke */
#define MIGBUF_ATTEMPT_PEER_GONE 6       /**< the other host or its QEMU died */
#define MIGBUF_ATTEMPT_CANCELLED 7       /**< a person said so */
#define MIGBUF_ATTEMPT_BY_QEMU 8         /**< QEMU refused a command */
#define MIGBUF_ATTEMPT_BLOCKED 9         /**< a device of the VM cannot be migrated */
#define MIGBUF_ATTEMPT_NOBODY_KNOWS 10   /**< another reason, or none that is known */

/**
 * "moved", "back", "failed", "lost", "refused"; else "unknown". Static, never NULL.
 * Test: test_history, names_of_all_constants
 */
MIGBUF_API const char *migbuf_attempt_outcome_text(int32_t outcome);
/**
 * "admission", "base", "mirror", "ram", "switch", "target"; else "unknown". Static, never NULL.
 * Test: test_history, names_of_all_constants
 */
MIGBUF_API const char *migbuf_attempt_phase_text(int32_t phase);
/**
 * "done", "deadline", "no-convergence", … "refused-by-qemu", "blocked"; else "unknown". Static, never NULL.
 * Test: test_history, names_of_all_constants
 */
MIGBUF_API const char *migbuf_attempt_why_text(int32_t why);

/** One attempt. A record; fill with migbuf_attempt_init. Numbers that are not known are MIGBUF_ATTEMPT_UNKNOWN. */
struct migbuf_attempt {
    char id[65];                /**< the VM, "" never; its uuid is best */
    char from[65];              /**< the host it left, "" not known */
    char to[65];                /**< the host it went to, "" not known */
    char qemu[33];              /**< QEMU's version, for people; nothing is decided by it */
    int32_t outcome;            /**< MIGBUF_ATTEMPT_MOVED … _REFUSED */
    int32_t phase;              /**< MIGBUF_ATTEMPT_ADMISSION … _TARGET: where it ended */
    int32_t why;                /**< MIGBUF_ATTEMPT_DONE … _NOBODY_KNOWS */
    int32_t post_copy;          /**< 1: it went by post-copy */
    int32_t reserved;           /**< 0 */
    uint64_t number;            /**< the how-manieth of this VM, from 1; append sets it */
    uint64_t at_s;              /**< when it ended, s since 1970 */
    uint64_t earlier_moved;     /**< how many before this one moved; append sets it, as the four below */
    uint64_t earlier_back;      /**< came back */
    uint64_t earlier_failed;    /**< failed */
    uint64_t earlier_lost;      /**< were lost */
    uint64_t earlier_refused;   /**< never began */
    uint64_t ram_ms;            /**< how long memory was sent */
    uint64_t downtime_ms;       /**< how long nobody ran */
    uint64_t set_bytes;         /**< W of convergence.h */
    uint64_t dirty_bytes_per_s; /**< r of convergence.h */
    uint64_t growth_ppm;        /**< growth_ratio of forecast.h, 1'000'000: 1 */
    uint64_t write_bytes_per_s; /**< the guest's disk writes */
    uint64_t encoding_ppm;      /**< e of convergence.h, 1'000'000: 1 */
    uint64_t link_bytes_per_s;  /**< what memory got of the link */
    uint64_t throttle_percent;  /**< the highest CPU throttle that was in force */
    uint64_t limit_ms;          /**< the last downtime-limit */
    uint64_t rounds;            /**< of memory */
    uint64_t ram_bytes;         /**< memory in use */
    uint64_t sent_bytes;        /**< sent of memory */
    uint64_t disk_ms;           /**< how long the base was copied */
    uint64_t mirror_ms;         /**< how long the overlay was mirrored */
    uint64_t disk_bytes;        /**< of the disks that were copied */
    uint64_t peak_bytes;        /**< the overlay at its largest */
};

/**
 * An attempt of which nothing is known. Errors: MIGBUF_E_INVALID.
 * Test: test_history, every_field_comes_back; test_history, what_makes_no_sense_is_not_written
 */
MIGBUF_API int migbuf_attempt_init(struct migbuf_attempt *a);

/**
 * The text with one attempt more. `number` and the earlier_… fields of *a are not looked at: the 24th gets 24, whatever became of
 * the other 23. Returns how many broken lines were left out.
 *
 * Example: an empty text and an attempt of "vm1" that moved -> one line with n=1. The same again -> n=2 and moved=1.
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_INVALID | no id, no at_s; an outcome, phase or why that is none; a string without an end |
 * | MIGBUF_E_TOO_BIG | `capacity` is too small |
 *
 * Test: test_history, the_24th_knows_that_it_is_the_24th; test_history, what_makes_no_sense_is_not_written
 */
MIGBUF_API int migbuf_history_append(const char *text, size_t length, const struct migbuf_attempt *a, char *out,
                                     size_t capacity, size_t *out_length);

/**
 * Both texts as one: each attempt once, oldest first, the newest 32. Returns how many broken lines were left out.
 *
 * Two lines are of one attempt when id, at, from and number are the same. Of these the longer stays, then the bytewise larger.
 *
 * Example: merge(a, a) -> a. merge(a, b) -> the same as merge(b, a). Errors: MIGBUF_E_INVALID, MIGBUF_E_TOO_BIG.
 * Test: test_history, merging_has_no_order; test_history, of_two_lines_of_one_attempt_the_one_that_says_more
 */
MIGBUF_API int migbuf_history_merge(const char *a, size_t a_length, const char *b, size_t b_length, char *out,
                                    size_t capacity, size_t *out_length);

/**
 * One attempt out of the text; index 0 is the newest. Returns 1, or 0 when there are not so many. Errors:
 * MIGBUF_E_INVALID.
 * Test: test_history, every_field_comes_back
 */
MIGBUF_API int migbuf_history_read(const char *text, size_t length, size_t index, struct migbuf_attempt *a);

/**
 * The whole of it in one sentence for people. `name` is what they call the VM. Returns the last attempt's number; 0: none is
 * known. A number beyond INT32_MAX is told as INT32_MAX.
 *
 * Example: 23 attempts that moved and one that did not -> "attempt 24 of vm1: 23 moved, the last failed in ram, no
 * convergence". An empty text -> "no attempt of vm1 is known".
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_TOO_BIG.
 * Test: test_history, the_24th_knows_that_it_is_the_24th
 */
MIGBUF_API int migbuf_history_describe(const char *text, size_t length, const char *name, char *out, size_t capacity,
                                       size_t *out_length);

/**
 * What is believed of a VM before it starts. Fill with migbuf_prior_init. Each figure has its bound: nine in ten are below
 * it.
 */
struct migbuf_prior {
    uint64_t size;            /**< sizeof, set by init */
    double write_bytes_per_s; /**< disk writes, for migbuf_migration.rate_bytes_per_s */
    double write_most;        /**< its bound */
    double growth_ratio;      /**< at most 1 */
    double growth_most;       /**< its bound, at most 1 */
    double dirty_bytes_per_s; /**< r of convergence.h */
    double dirty_most;        /**< its bound */
    double set_bytes;         /**< W of convergence.h */
    double set_most;          /**< its bound */
    double encoding;          /**< e of convergence.h: whether xbzrle pays */
    double encoding_most;     /**< its bound */
    double success;           /**< how likely it moves, 0 .. 1 */
    uint64_t attempts;        /**< number of the last */
    uint32_t same;            /**< so many of the last ones in a row ended in the same phase for the same reason without
                                   moving. From 2 on: do not start without another agreement */
    uint32_t reserved;        /**< 0 */
};

/**
 * A VM with ram_bytes of memory of which nothing is known. W, r and e are those of convergence.h.
 *
 * | figure | value |
 * |---|---|
 * | disk writes | 20e6 bytes/s |
 * | growth | 1 |
 * | r | 0.01 ram_bytes per s |
 * | W | 0.05 ram_bytes |
 * | e | 1 |
 * | success | 0.9 |
 * | bounds | those of no attempt at all |
 *
 * Example: write_most 65'338'333. Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT.
 * Test: test_history, beliefs_have_a_beginning
 */
MIGBUF_API int migbuf_prior_init(struct migbuf_prior *p, uint64_t size, uint64_t ram_bytes);

/**
 * What the history says of the next attempt. It starts from `beliefs` (NULL: migbuf_prior_init of 1 GiB), which count like
 * three attempts. Each figure m0 of them moves to:
 *
 *   value   = exp((k ln m0 + sum w ln x) / (k + n))
 *   bound   = value exp(1.2816 s sqrt(1 + 1/(k + n)))
 *   success = (9 + moved) / (10 + moved + back + failed + lost)
 *
 *   x    what an attempt measured
 *   w    its weight: 2^(-age / 30 days)
 *   n    sum of w
 *   k    3
 *   s^2  (k 0.8^2 + sum w (ln x - ln value)^2) / (k + n)
 *
 * An attempt in the future counts as one of today. Returns how many broken lines were left out.
 *
 * Example (m0 20e6): 23 of 24 moved -> success 0.9412.
 *
 * | 80e6 was measured | value | bound |
 * |---|---|---|
 * | once, today | 28'284'271 | 97'843'925 |
 * | three times, today | 40'000'000 | 112'725'394 |
 * | 30 and 60 days ago | 26'390'158 | 92'640'891 |
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT, MIGBUF_E_RANGE for a belief of 0 or below; *p is unchanged then.
 * Test: test_history, what_is_believed_of_the_next; test_history, how_likely_it_moves
 */
MIGBUF_API int migbuf_history_prior(const char *text, size_t length, uint64_t now_s, const struct migbuf_prior *beliefs,
                                    struct migbuf_prior *p);

#ifdef __cplusplus
}
#endif
#endif
