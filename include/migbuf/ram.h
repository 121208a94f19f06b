/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_RAM_H
#define MIGBUF_RAM_H
/**
 * @file ram.h
 * The memory phase of one VM's migration, without I/O, as disk.h is for its disks. It says which QMP command comes next at
 * the source or at the target; the host sends it by whatever monitor it has, and says what came back.
 *
 *   migbuf_ram_new(&agreement, NULL, NULL, &ram);
 *   migbuf_ram_learn(ram);                        then pump, then save: what the host itself had set
 *   migbuf_ram_start(ram, uri, uri);              then pump: arms both, migrate-incoming, migrate
 *   every second, and at each event:
 *       migbuf_ram_look(ram, now_ms);             then pump: asks, decides, sets
 *       info.state == MIGBUF_RAM_STATE_SWITCH:    end the mirrors, migbuf_ram_switch(ram), then pump
 *   info.state >= MIGBUF_RAM_STATE_MOVED:         migbuf_ram_attempt(ram, &attempt); migbuf_ram_restore(ram), then pump
 *
 *   pump: while (migbuf_ram_next(ram, &command) == 1) {
 *             save if info.text_revision has changed;
 *             rc = send(command.side, command.name, command.arguments, &reply);
 *             migbuf_report_to_ram(ram, command.kind, rc, reply, length, &error);
 *         }
 *
 * migbuf_report_to_ram and migbuf_report_event_to_ram (report.h) are for hosts that hold JSON text.
 *
 * ## What is armed, and why before it starts
 *
 * QEMU takes no capability while a migration runs. So whatever was agreed is armed before `migrate`:
 *
 * | capability | where | when |
 * |---|---|---|
 * | events, pause-before-switchover | both, source | always; without the second nothing starts |
 * | auto-converge | source | a throttle is agreed; else it is switched off, as dirty-limit is, for they would throttle |
 * | postcopy-ram, postcopy-blocktime | both, target | post-copy is agreed, both know it, and the stream is not one_way |
 * | postcopy-preempt | both | with it, where requests go past what is queued: QEMU 9.2 and later, by a parameter it has |
 * | xbzrle | both | options.xbzrle_cache_bytes, and no multifd |
 * | multifd | both | options.multifd_channels, no post-copy, not one_way |
 *
 * What there is says query-migrate-capabilities, never a version. A means that QEMU refuses is left out (`armed_…` in
 * migbuf_ram_info), and nothing is decided then that would need it. auto-converge is armed at 1 % and told the whole
 * throttle later in one command, so that it bites when it is wanted and not before.
 *
 * ## Three outcomes
 *
 * As in disk.h: done, refused, unknown. After an unknown outcome nothing is sent before migbuf_ram_look (or another call);
 * then QEMU is asked first. `migrate` and migrate-start-postcopy are not repeated before that.
 *
 * ## Where the guest is
 *
 * It runs in one place, never in two. migrate_cancel is sent only while the target cannot have the guest: in setup, active
 * and pre-switchover, before migrate-continue was sent and never once post-copy may have begun. (QEMU 7.2 takes a cancel
 * in a broken post-copy, and the guest is gone.) When a migration ends without having moved, the source's status is asked.
 * A guest that QEMU left standing there (postmigrate, finish-migrate), and which ran before, is let run again: at once
 * where migrate-continue was never sent, else when the target is known not to run it. While that is not known the state
 * is UNCLEAR: the host ends the target's QEMU, and says so (migbuf_ram_gone).
 *
 * A broken link in post-copy is mended by migrate-recover at the target and migrate with resume at the source, for ever,
 * after 1, 2, 4, … 60 s. A target whose guest waits for pages may answer nothing but commands out of band: send those
 * marked so by exec-oob, where the monitor can (a monitor on which "oob" was enabled).
 *
 * ## Whose settings are whose
 *
 * What the host had set, capabilities and parameters of both sides, is saved by learn and comes back by restore. A
 * parameter that another hand has set meanwhile stays as he set it (`taken_over`).
 *
 * A host that holds one side only (source and target are two daemons) says so in options.sides: then one machine runs on
 * each. Make the target's first, and agree on post-copy at the source only if it is armed there. A host that sends
 * `migrate` by itself gives no uri to start: it sends its own when info says ARMED.
 *
 * One thread at a time per handle. Strings given are copied; those returned live until the next call on the handle.
 */
#include "migbuf/convergence.h"
#include "migbuf/history.h"

#ifdef __cplusplus
extern "C" {
#endif

struct migbuf_ram;

/* Sides. */
#define MIGBUF_RAM_SOURCE 0 /**< the QEMU the guest leaves */
#define MIGBUF_RAM_TARGET 1 /**< the QEMU it goes to */

/* Kinds of commands. */
#define MIGBUF_RAM_GET_CAPABILITIES 1 /**< query-migrate-capabilities: every entry to migbuf_ram_found_capability */
#define MIGBUF_RAM_GET_PARAMETERS 2   /**< query-migrate-parameters: numbers and booleans to migbuf_ram_found_parameter */
#define MIGBUF_RAM_GET_MIGRATION 3    /**< query-migrate: to migbuf_ram_found */
#define MIGBUF_RAM_GET_STATUS 4       /**< query-status: to migbuf_ram_status */
#define MIGBUF_RAM_SET_CAPABILITIES 5 /**< migrate-set-capabilities */
#define MIGBUF_RAM_SET_PARAMETERS 6   /**< migrate-set-parameters */
#define MIGBUF_RAM_INCOMING 7         /**< migrate-incoming */
#define MIGBUF_RAM_MIGRATE 8          /**< migrate */
#define MIGBUF_RAM_START_POSTCOPY 9   /**< migrate-start-postcopy */
#define MIGBUF_RAM_CONTINUE 10        /**< migrate-continue */
#define MIGBUF_RAM_CANCEL 11          /**< migrate_cancel */
#define MIGBUF_RAM_CONT 12            /**< cont */
#define MIGBUF_RAM_PAUSE 13           /**< migrate-pause: a side that has not noticed that the link is broken */
#define MIGBUF_RAM_RECOVER 14         /**< migrate-recover */
#define MIGBUF_RAM_RESUME 15          /**< migrate with resume */

/** One command to send. A record; the strings live until the next call on the handle. */
struct migbuf_ram_command {
    int32_t kind;          /**< MIGBUF_RAM_GET_CAPABILITIES … MIGBUF_RAM_RESUME */
    int32_t side;          /**< MIGBUF_RAM_SOURCE, MIGBUF_RAM_TARGET */
    int32_t out_of_band;   /**< 1: by {"exec-oob": name} where the monitor can */
    int32_t reserved;      /**< 0 */
    const char *name;      /**< as in {"execute": name} */
    const char *arguments; /**< a JSON object, or NULL for none */
};

/** How it is to go. Fill with migbuf_ram_options_init. */
struct migbuf_ram_options {
    uint64_t size;                      /**< sizeof, set by init */
    uint64_t max_bandwidth_bytes_per_s; /**< QEMU's own bound; 17'179'869'184, for its default is 134 MB/s. 0: unlimited */
    uint64_t xbzrle_cache_bytes;        /**< a power of two: xbzrle is armed; 0: not */
    uint32_t multifd_channels;          /**< 1 .. 255: multifd is armed; 0: not */
    uint32_t fix_ms;                    /**< 50; with a mirror that may have bytes under way, their time on the link more */
    int32_t sides;                      /**< 3: both; 1: the source alone, 2: the target alone */
    int32_t one_way;                    /**< 1: the stream is a pipe: no post-copy, no multifd */
    int32_t host_decides;               /**< 1: nothing is decided here: migbuf_ram_apply */
    int32_t reserved;                   /**< 0 */
};

/** As said above; no xbzrle, no multifd. Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT. */
MIGBUF_API int migbuf_ram_options_init(struct migbuf_ram_options *o, uint64_t size);

/**
 * Sets xbzrle_cache_bytes and multifd_channels where they help, else to 0:
 *
 *   xbzrle   encoding <= 0.7 was seen before, verdict is not MIGBUF_RAM_YES, and a cache of 1.1 W, rounded up to a power of
 *            two, is at most a tenth of the host's memory
 *   multifd  the link is faster than 1.2e9 bytes/s, where one TCP stream is the bound; not with xbzrle, post-copy, one_way
 *
 * Example: prior encoding 0.05, W 100e6, verdict UNKNOWN, host 64 GiB -> cache 134'217'728. Link 5e9 -> 5 channels.
 * Source: measured on 7.2 and 10.0: a guest that changes a word in each page needs 5 bytes a page.
 * Errors: MIGBUF_E_INVALID, _STRUCT, _RANGE; *o is unchanged then.
 */
MIGBUF_API int migbuf_ram_options_choose(struct migbuf_ram_options *o, const struct migbuf_agreement *a,
                                         const struct migbuf_prior *prior, int32_t verdict, double link_bytes_per_s,
                                         uint64_t host_ram_bytes);

/* Where it stands. */
#define MIGBUF_RAM_STATE_IDLE 0      /**< nothing was started */
#define MIGBUF_RAM_STATE_ARMING 1    /**< settings are made */
#define MIGBUF_RAM_STATE_ARMED 2     /**< they are made, and the host sends `migrate` itself */
#define MIGBUF_RAM_STATE_RUNNING 3   /**< memory is sent, the guest is at the source */
#define MIGBUF_RAM_STATE_SWITCH 4    /**< the guest stands: end the mirrors now, then migbuf_ram_switch */
#define MIGBUF_RAM_STATE_ENDING 5    /**< the last bytes, or a cancel, are under way */
#define MIGBUF_RAM_STATE_POSTCOPY 6  /**< the guest is at the target, some of its memory is not */
#define MIGBUF_RAM_STATE_BROKEN 7    /**< the same, and the link broke: it is mended */
#define MIGBUF_RAM_STATE_UNCLEAR 8   /**< it failed at the end: end the target's QEMU and say migbuf_ram_gone */
#define MIGBUF_RAM_STATE_MOVED 9     /**< over: the guest is at the target */
#define MIGBUF_RAM_STATE_CANCELLED 10 /**< over: cancelled, the guest is at the source */
#define MIGBUF_RAM_STATE_FAILED 11   /**< over: failed, the guest is at the source */
#define MIGBUF_RAM_STATE_LOST 12     /**< over: a QEMU died that had what nobody else has. End the other one */
#define MIGBUF_RAM_STATE_REFUSED 13  /**< over: QEMU refused to begin, the guest is at the source */

/** "idle", "arming", … of MIGBUF_RAM_STATE_…, else "unknown". Static, never NULL. */
MIGBUF_API const char *migbuf_ram_state_text(int32_t state);

/** What is known of it. The caller sets `size` (sizeof). */
struct migbuf_ram_info {
    uint64_t size;          /**< sizeof, set by the caller */
    uint64_t text_revision; /**< changes with the text of migbuf_ram_save: save it before the next command */
    uint64_t commands_sent; /**< that changed something */
    int32_t state;          /**< MIGBUF_RAM_STATE_… */
    int32_t source_phase;   /**< MIGBUF_RAM_PHASE_…, as last seen */
    int32_t target_phase;   /**< the same of the target */
    int32_t learnt;         /**< 1: what the host had set is known */
    int32_t restored;       /**< 1: it is in force again, or nobody is left to be given it (gone, LOST) */
    int32_t failed;         /**< 1: QEMU refused what there is no other way for; the next call tries again */
    int32_t unknown;        /**< 1: something was sent, and nobody knows whether it was carried out */
    int32_t taken_over;     /**< parameters that another hand has set meanwhile, and that stay so */
    int32_t armed_throttle; /**< 1: auto-converge is armed */
    int32_t armed_postcopy; /**< 1: post-copy is */
    int32_t armed_preempt;  /**< 1: with a channel of its own for requests */
    int32_t armed_xbzrle;   /**< 1: xbzrle is */
    int32_t armed_multifd;  /**< 1: multifd is */
    int32_t reserved;       /**< 0 */
    struct migbuf_ram_decision decision; /**< the last */
    uint64_t retry_ms;      /**< BROKEN: the next try is made by a look at that time or later */
    uint64_t limit_ms;      /**< downtime-limit in force */
    uint64_t throttle_percent; /**< CPU throttle in force */
    uint64_t total_ms;      /**< since `migrate` */
    uint64_t downtime_ms;   /**< from the source's STOP to the target's RESUME where both were seen, else QEMU's own figure */
    uint64_t lost_ms;       /**< guest time lost: throttle times its time, the stop, the CPUs' waiting in post-copy */
    uint64_t sent_bytes;    /**< all that was sent */
    uint64_t resent_bytes;  /**< of it, pages that were sent again */
    uint64_t rounds;        /**< that have ended */
};

/**
 * A machine. The agreement is checked and copied; options NULL: migbuf_ram_options_init.
 * Errors: MIGBUF_E_NOMEM, those of migbuf_agreement_check; MIGBUF_E_INVALID for sides other than 1, 2, 3, a cache that is no
 * power of two; MIGBUF_E_RANGE for more than 255 channels.
 */
MIGBUF_API int migbuf_ram_new(const struct migbuf_agreement *agreement, const struct migbuf_ram_options *options,
                              const struct migbuf_allocator *allocator, struct migbuf_ram **out);

/** NULL is fine. Sends nothing: restore first. */
MIGBUF_API void migbuf_ram_free(struct migbuf_ram *r);

/**
 * Asks both sides what is set, and how the guest is. To be done before start, and saved. Errors: MIGBUF_E_STATE once it
 * was started.
 */
MIGBUF_API int migbuf_ram_learn(struct migbuf_ram *r);

/**
 * Arms both sides and starts. The uris are QEMU's ("tcp:…", "unix:…", "fd:…"), that of the source to connect to, that of the
 * target to listen on; at most 511 bytes. NULL: the host sends migrate-incoming, or migrate, itself.
 *
 * Errors: MIGBUF_E_STATE before everything is learnt, when it was started before, when a side is gone, or when the source
 * migrates already or its guest is not there any more (postmigrate); MIGBUF_E_UNSUPPORTED where the source knows no pause-before-switchover;
 * MIGBUF_E_TOO_BIG.
 */
MIGBUF_API int migbuf_ram_start(struct migbuf_ram *r, const char *source_uri, const char *target_uri);

/** Other uris, for the next try to mend a broken post-copy. NULL keeps one. Errors: MIGBUF_E_INVALID, _TOO_BIG. */
MIGBUF_API int migbuf_ram_uri(struct migbuf_ram *r, const char *source_uri, const char *target_uri);

/**
 * Time has passed: asks how it stands, and decides. now_ms is any clock that does not go back; it times the tries to mend a
 * broken post-copy, nothing else. Errors: MIGBUF_E_CLOCK.
 */
MIGBUF_API int migbuf_ram_look(struct migbuf_ram *r, uint64_t now_ms);

/* Events. */
#define MIGBUF_RAM_EVENT_MIGRATION 1 /**< MIGRATION, with its status as a phase */
#define MIGBUF_RAM_EVENT_PASS 2      /**< MIGRATION_PASS: a round has ended; the pump asks at once */
#define MIGBUF_RAM_EVENT_STOP 3      /**< STOP */
#define MIGBUF_RAM_EVENT_RESUME 4    /**< RESUME */

/**
 * An event of QEMU's. It makes the next pump ask; what it says of post-copy is believed at once. `phase` is
 * migbuf_ram_phase() of a MIGRATION event's status, else 0. Events may be missing: then looks do. Errors: MIGBUF_E_INVALID,
 * MIGBUF_E_CLOCK.
 */
MIGBUF_API int migbuf_ram_event(struct migbuf_ram *r, int32_t side, int32_t event, int32_t phase, uint64_t now_ms);

/** The phase of a status: "active" -> MIGBUF_RAM_PHASE_ACTIVE, NULL or "" -> _NONE, one that is not known -> _OTHER. */
MIGBUF_API int32_t migbuf_ram_phase(const char *status);

/**
 * What this migration gets of its link, where the host knows it better: link.h, less what a ready mirror sends. Without
 * it, and with 0, what the last round got. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE.
 */
MIGBUF_API int migbuf_ram_link(struct migbuf_ram *r, double bytes_per_s);

/** The guest stands because of the host (disk.h stops guests): at the target it is let run. 0: it does not. */
MIGBUF_API int migbuf_ram_stands(struct migbuf_ram *r, int32_t stands);

/**
 * Guest and link as convergence.h wants them, for forecasts, and for hosts that decide themselves. Errors: MIGBUF_E_STATE
 * before a round has ended, or while the link's rate is not known; MIGBUF_E_STRUCT.
 */
MIGBUF_API int migbuf_ram_convergence(const struct migbuf_ram *r, struct migbuf_convergence *c);

/**
 * Does what a decision says (options.host_decides, or a person): DOWNTIME, THROTTLE, POSTCOPY, FORCE, ABORT; KEEP and WAIT
 * only set limit_ms, 0: as it is. Errors: MIGBUF_E_RANGE for what was not agreed, MIGBUF_E_UNSUPPORTED for a means that is not
 * armed and for STOP, MIGBUF_E_STATE while nothing runs at the source, MIGBUF_E_INVALID.
 */
MIGBUF_API int migbuf_ram_apply(struct migbuf_ram *r, const struct migbuf_ram_decision *decision);

/** The mirrors have ended, or there are none: migrate-continue may go. May be said at any time. Errors: MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_switch(struct migbuf_ram *r);

/**
 * Gives up: the guest stays at the source. Errors: MIGBUF_E_STATE once it can no longer be given up without risk to the
 * guest (migrate-continue was sent, post-copy may have begun), or when it is over.
 */
MIGBUF_API int migbuf_ram_cancel(struct migbuf_ram *r);

/**
 * That side's QEMU is certainly gone: it has exited, or the host has ended it. Also of a side that this machine does not
 * speak to. Errors: MIGBUF_E_INVALID.
 */
MIGBUF_API int migbuf_ram_gone(struct migbuf_ram *r, int32_t side);

/**
 * Wants the host's own capabilities and parameters back on every side that is there. It asks what is in force first. Fine
 * when nothing was set. Errors: MIGBUF_E_STATE while the migration runs, or may run (look first), and before anything is
 * learnt.
 */
MIGBUF_API int migbuf_ram_restore(struct migbuf_ram *r);

/** The next command: 1 and *command, or 0 when there is none. The same one until its outcome is said. Errors: MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_next(struct migbuf_ram *r, struct migbuf_ram_command *command);

/** Part of an answer to GET_CAPABILITIES: one entry. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_found_capability(struct migbuf_ram *r, const char *name, int32_t state);

/** Part of an answer to GET_PARAMETERS: one number, booleans as 0 and 1. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_found_parameter(struct migbuf_ram *r, const char *name, uint64_t value);

/** The answer to GET_MIGRATION. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_found(struct migbuf_ram *r, const struct migbuf_ram_report *report);

/** The answer to GET_STATUS. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_status(struct migbuf_ram *r, const char *status, int32_t running);

/**
 * What became of the command under way: MIGBUF_OUTCOME_DONE, _REFUSED when QEMU answered with an error, _UNKNOWN in every
 * other case.
 *
 * Returns 0 when the pump goes on, MIGBUF_E_PEER when QEMU refused it and there is no other way, MIGBUF_E_UNKNOWN after an
 * unknown outcome. MIGBUF_E_STATE when no command was under way, or one was DONE whose answer was not told first.
 */
MIGBUF_API int migbuf_ram_answered(struct migbuf_ram *r, int32_t outcome);

/**
 * What became of the last learn, start, apply, cancel or restore: MIGBUF_OUTCOME_DONE, _REFUSED, _UNKNOWN, 0 while commands
 * are left to send. Where the migration itself stands says migbuf_ram_info. NULL gives MIGBUF_E_INVALID.
 */
MIGBUF_API int migbuf_ram_outcome(const struct migbuf_ram *r);

/** Where it stands. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID. */
MIGBUF_API int migbuf_ram_info(const struct migbuf_ram *r, struct migbuf_ram_info *info);

/**
 * What the memory phase tells the history: outcome, phase, why, post_copy, ram_ms, downtime_ms, set_bytes, dirty_bytes_per_s,
 * encoding_ppm, link_bytes_per_s, throttle_percent, limit_ms, rounds, ram_bytes, sent_bytes. The other fields stay as they
 * are. Errors: MIGBUF_E_STATE before it is over, MIGBUF_E_INVALID.
 */
MIGBUF_API int migbuf_ram_attempt(const struct migbuf_ram *r, struct migbuf_attempt *a);

/**
 * All a restarted host needs, as text: the host's own settings, what was agreed, how far it has come. Save when text_revision
 * has changed, before the next command is sent. As migbuf_disk_save: *length also when capacity was too small, then
 * MIGBUF_E_TOO_BIG. Printable ASCII, at most 8 KiB, with version and checksum. Errors: MIGBUF_E_INVALID.
 */
MIGBUF_API int migbuf_ram_save(const struct migbuf_ram *r, char *text, size_t capacity, size_t *length);

/**
 * A machine from a saved text. Pump first: it asks both sides. Then info tells where the migration stands; it goes on with
 * looks, or may be cancelled; one that had not begun is IDLE: start again, or restore. Errors: MIGBUF_E_PROTOCOL (cut, edited,
 * another version), MIGBUF_E_TOO_BIG, _NOMEM, _INVALID.
 */
MIGBUF_API int migbuf_ram_load(const char *text, size_t length, const struct migbuf_allocator *allocator,
                               struct migbuf_ram **out);

#ifdef __cplusplus
}
#endif
#endif
