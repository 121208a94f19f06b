/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_RAM_H
#define MIGBUF_RAM_H
/**
 * @file ram.h
 * The memory phase of one VM's migration, without I/O, as disk.h is for its disks. It says which QMP command comes next at
 * the source or at the target. The host sends that command by whatever monitor it has, and says what came back.
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
 * QEMU takes no capability while a migration runs. So whatever was agreed is armed before `migrate`. To arm is to switch a
 * capability on:
 *
 * | capability | where | when |
 * |---|---|---|
 * | events | both | always |
 * | pause-before-switchover | source | always; without it nothing starts |
 * | auto-converge | source | a throttle is agreed; else it is switched off, as dirty-limit is, for they would throttle |
 * | postcopy-ram, postcopy-blocktime | both, target | post-copy is agreed, both know it, and the stream is not one_way |
 * | postcopy-preempt | both | with it, where requests go past what is queued: QEMU 9.2 and later, by a parameter it has |
 * | xbzrle | both | options.xbzrle_cache_bytes, and no multifd |
 * | multifd | both | options.multifd_channels, no post-copy, not one_way |
 *
 * What there is says query-migrate-capabilities, never a version. A means that QEMU refuses is left out (`armed_…` in
 * migbuf_ram_info). Nothing is decided then that would need it.
 *
 * auto-converge is armed at 1 %, and told the whole throttle later in one command. So it bites when it is wanted and not
 * before.
 *
 * ## Three outcomes
 *
 * As in disk.h a command was carried out, or QEMU refused it, or nobody knows. After an unknown outcome nothing is sent
 * before migbuf_ram_look (or another call). Then QEMU is asked first. `migrate` and migrate-start-postcopy are not repeated
 * before that.
 *
 * ## Where the guest is
 *
 * It runs in one place, never in two.
 *
 * - migrate_cancel is sent only while the target cannot have the guest: in setup, active and pre-switchover, before
 *   migrate-continue was sent. It is never sent once post-copy may have begun. (QEMU 7.2 takes a cancel in a broken
 *   post-copy, and the guest is gone.)
 * - When a migration ends without having moved, the source's status is asked.
 * - QEMU may have left a guest standing there that ran before (postmigrate, finish-migrate). It is let run again at once
 *   where migrate-continue was never sent. Else it is let run when the target is known not to run it.
 * - While that is not known the state is UNCLEAR. The host ends the target's QEMU, and says so (migbuf_ram_gone).
 * - QEMU 11.1 itself may let two run: the link breaks after post-copy's target runs, and before the source knows. Then its
 *   source goes on, too. The state is UNCLEAR: end the target's QEMU at once. What its guest did in that moment is lost.
 *
 * A broken link in post-copy is mended by migrate-recover at the target and migrate with resume at the source. It is tried
 * for ever, after 1, 2, 4, … 60 s. A target whose guest waits for pages may answer nothing but commands out of band. Send
 * those marked so by exec-oob, where the monitor can (a monitor on which "oob" was enabled).
 *
 * ## What post-copy needs
 *
 * - The target's memory is anonymous or on a tmpfs, and its kernel lets QEMU have userfaultfd. Memory in a file elsewhere
 *   has pages that nobody is told are missing. QEMU 7.2 finds that out when the guest is neither here nor there.
 * - A link that holds until the target's RESUME. QEMU 7.2 mends none that breaks between the source's STOP and that
 *   RESUME: the guest is lost.
 * - A source that stays until all is over. Its migration ends after the target has got the last page, and until then QEMU
 *   refuses what restore would set: `failed` in migbuf_ram_info is 1 then, and the next look tries again.
 *
 * ## Whose settings are whose
 *
 * What the host had set, capabilities and parameters of both sides, is saved by learn and comes back by restore. A
 * parameter that another hand has set meanwhile stays as that hand set it (`taken_over`).
 *
 * ## Hosts that hold one side only
 *
 * Source and target may be two daemons. Such a host says so in options.sides. Then one machine runs on each. Make the
 * target's first, and agree on post-copy at the source only if it is armed there.
 *
 * A host that sends `migrate` by itself gives no uri to start. It sends its own when info says ARMED.
 *
 * Strings given are copied; those returned live until the next call on the handle. A NULL handle gives MIGBUF_E_INVALID.
 * One thread at a time per handle.
 *
 * Link with -lmigbuf-ram. Experimental (MIGBUF_RAM_EXPERIMENTAL_0): it may change with any release.
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

/**
 * The usual options: as the fields say, no xbzrle, no multifd. Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT.
 * Test: test_ram, options_are_chosen_by_what_is_known
 */
MIGBUF_API int migbuf_ram_options_init(struct migbuf_ram_options *o, uint64_t size);

/**
 * Sets xbzrle_cache_bytes and multifd_channels where they help, else to 0. W and encoding are those of convergence.h.
 *
 * | means | when, all of it |
 * |---|---|
 * | xbzrle | an encoding of at most 0.7 was seen before; verdict is not MIGBUF_RAM_YES; the cache is at most a tenth of the host's memory |
 * | multifd | the link is faster than 1.2e9 bytes/s, where one TCP stream is the bound; no xbzrle, no post-copy, not one_way |
 *
 * The cache is 1.1 W, rounded up to a power of two.
 *
 * Example: prior encoding 0.05, W 100e6, verdict UNKNOWN, host 64 GiB -> cache 134'217'728. Link 5e9 -> 5 channels.
 * Source: measured on 7.2 and 10.0: a guest that changes a word in each page needs 5 bytes a page.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT, MIGBUF_E_RANGE; *o is unchanged then.
 * Test: test_ram, options_are_chosen_by_what_is_known
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
#define MIGBUF_RAM_STATE_UNCLEAR 8   /**< it failed at the end: end the target's QEMU, and say migbuf_ram_gone */
#define MIGBUF_RAM_STATE_MOVED 9     /**< over: the guest is at the target */
#define MIGBUF_RAM_STATE_CANCELLED 10 /**< over: cancelled, the guest is at the source */
#define MIGBUF_RAM_STATE_FAILED 11   /**< over: failed, the guest is at the source */
#define MIGBUF_RAM_STATE_LOST 12     /**< over: a QEMU died that had what nobody else has. End the other one */
#define MIGBUF_RAM_STATE_REFUSED 13  /**< over: QEMU refused to begin, the guest is at the source */

/**
 * "idle", "arming", … of MIGBUF_RAM_STATE_…, else "unknown". Static, never NULL.
 * Test: test_ram, phases_and_states_have_names
 */
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
 * Makes a machine for one migration. The agreement is checked and copied. options NULL: migbuf_ram_options_init.
 *
 * | error | when |
 * |---|---|
 * | those of migbuf_agreement_check | the agreement is none |
 * | MIGBUF_E_INVALID | `sides` is not 1, 2 or 3; a cache is no power of two; NULL |
 * | MIGBUF_E_STRUCT | an unknown `size` of the options |
 * | MIGBUF_E_RANGE | more than 255 channels |
 * | MIGBUF_E_NOMEM | no memory |
 *
 * Test: test_ram, bad_options_make_no_machine; test_ram, it_moves_and_everything_is_as_it_was
 */
MIGBUF_API int migbuf_ram_new(const struct migbuf_agreement *agreement, const struct migbuf_ram_options *options,
                              const struct migbuf_allocator *allocator, struct migbuf_ram **out);

/**
 * Frees the machine. NULL is fine. Sends nothing: restore first.
 */
MIGBUF_API void migbuf_ram_free(struct migbuf_ram *r);

/**
 * Asks both sides what is set, and how the guest is. Do it before start, and save.
 * Errors: MIGBUF_E_STATE once it was started.
 * Test: test_ram, it_moves_and_everything_is_as_it_was; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_learn(struct migbuf_ram *r);

/**
 * Arms both sides and starts.
 *
 * | uri | is | NULL |
 * |---|---|---|
 * | source_uri | where the source connects to | the host sends migrate itself |
 * | target_uri | where the target listens | the host sends migrate-incoming itself |
 *
 * Uris are QEMU's ("tcp:…", "unix:…", "fd:…"), at most 511 bytes.
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_STATE | not everything is learnt yet; it was started before; a side is gone |
 * | MIGBUF_E_STATE | the source migrates already, or its guest is not there any more (postmigrate) |
 * | MIGBUF_E_UNSUPPORTED | the source knows no pause-before-switchover |
 * | MIGBUF_E_TOO_BIG | a uri is too long |
 * | MIGBUF_E_INVALID | a uri is no UTF-8 |
 *
 * Test: test_ram, everything_that_was_agreed_is_armed_before_migrate; test_ram, a_guest_that_migrates_or_has_left_is_not_started
 */
MIGBUF_API int migbuf_ram_start(struct migbuf_ram *r, const char *source_uri, const char *target_uri);

/**
 * Other uris, for the next try to mend a broken post-copy. NULL keeps one. Errors: MIGBUF_E_INVALID, MIGBUF_E_TOO_BIG.
 * Test: test_ram, a_broken_postcopy_is_mended
 */
MIGBUF_API int migbuf_ram_uri(struct migbuf_ram *r, const char *source_uri, const char *target_uri);

/**
 * Time has passed: asks how it stands, and decides. now_ms is any clock that does not go back. It times the tries to mend a
 * broken post-copy, nothing else. Errors: MIGBUF_E_CLOCK.
 * Test: test_ram, it_moves_and_everything_is_as_it_was; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_look(struct migbuf_ram *r, uint64_t now_ms);

/* Events. */
#define MIGBUF_RAM_EVENT_MIGRATION 1 /**< MIGRATION, with its status as a phase */
#define MIGBUF_RAM_EVENT_PASS 2      /**< MIGRATION_PASS: a round has ended; the pump asks at once */
#define MIGBUF_RAM_EVENT_STOP 3      /**< STOP */
#define MIGBUF_RAM_EVENT_RESUME 4    /**< RESUME */

/**
 * An event of QEMU's. It makes the next pump ask. What it says of post-copy is believed at once. Events may be missing:
 * looks do without. `phase` is migbuf_ram_phase() of a MIGRATION event's status, else 0.
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_CLOCK.
 * Test: test_ram, after_postcopy_was_asked_for_nothing_is_cancelled; test_ram, a_source_that_has_not_noticed_is_told
 */
MIGBUF_API int migbuf_ram_event(struct migbuf_ram *r, int32_t side, int32_t event, int32_t phase, uint64_t now_ms);

/**
 * The phase of a status: "active" -> MIGBUF_RAM_PHASE_ACTIVE. NULL or "" -> MIGBUF_RAM_PHASE_NONE. One that is not known ->
 * MIGBUF_RAM_PHASE_OTHER.
 * Test: test_ram, phases_and_states_have_names
 */
MIGBUF_API int32_t migbuf_ram_phase(const char *status);

/**
 * What this migration gets of its link, where the host knows it better: link.h, less what a ready mirror sends. Without
 * this call, and with 0, it is what the last round got. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE.
 * Test: test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_link(struct migbuf_ram *r, double bytes_per_s);

/**
 * Whether the guest stands because of the host (disk.h stops guests). 1: it does, and at the target it is let run. 0: it
 * does not.
 * Test: test_ram, a_guest_that_the_host_has_stopped_runs_at_the_target
 */
MIGBUF_API int migbuf_ram_stands(struct migbuf_ram *r, int32_t stands);

/**
 * Guest and link as convergence.h wants them, for forecasts, and for hosts that decide themselves.
 * Errors: MIGBUF_E_STATE before a round has ended, or while the link's rate is not known; MIGBUF_E_STRUCT.
 * Test: test_ram, a_host_may_decide_within_what_was_agreed
 */
MIGBUF_API int migbuf_ram_convergence(const struct migbuf_ram *r, struct migbuf_convergence *c);

/**
 * Does what a decision says: the host's (options.host_decides), or a person's.
 *
 * | action | does |
 * |---|---|
 * | DOWNTIME, THROTTLE, POSTCOPY, FORCE, ABORT | that |
 * | KEEP, WAIT | only sets limit_ms; 0: as it is |
 * | STOP | refused |
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_RANGE | it was not agreed |
 * | MIGBUF_E_UNSUPPORTED | a means that is not armed; STOP |
 * | MIGBUF_E_STATE | nothing runs at the source |
 * | MIGBUF_E_INVALID | no action, NULL |
 *
 * Test: test_ram, a_host_may_decide_within_what_was_agreed
 */
MIGBUF_API int migbuf_ram_apply(struct migbuf_ram *r, const struct migbuf_ram_decision *decision);

/**
 * The mirrors have ended, or there are none: migrate-continue may go. May be said at any time. Errors: MIGBUF_E_INVALID.
 * Test: test_ram, it_moves_and_everything_is_as_it_was; test_ram, a_mirror_that_has_ended_early_is_not_waited_for
 */
MIGBUF_API int migbuf_ram_switch(struct migbuf_ram *r);

/**
 * Gives up: the guest stays at the source.
 * Errors: MIGBUF_E_STATE when it is over, or can no longer be given up without risk to the guest (migrate-continue was
 * sent, post-copy may have begun).
 * Test: test_ram, after_postcopy_was_asked_for_nothing_is_cancelled; test_ram, a_cancel_that_hangs_is_helped
 */
MIGBUF_API int migbuf_ram_cancel(struct migbuf_ram *r);

/**
 * That side's QEMU is certainly gone: it has exited, or the host has ended it. Also of a side that this machine does not
 * speak to. Errors: MIGBUF_E_INVALID.
 * Test: test_ram, a_dead_target_ends_it; test_ram, a_death_in_postcopy_is_a_loss
 */
MIGBUF_API int migbuf_ram_gone(struct migbuf_ram *r, int32_t side);

/**
 * Wants the host's own capabilities and parameters back on every side that is there. It asks what is in force first. Fine
 * when nothing was set.
 *
 * QEMU may refuse for a moment: after post-copy its source still is at its end. info.failed tells; the next look tries again.
 * Errors: MIGBUF_E_STATE while the migration runs, or may run (look first), and before anything is learnt.
 * Test: test_ram, it_moves_and_everything_is_as_it_was; test_ram, what_another_hand_has_set_stays
 */
MIGBUF_API int migbuf_ram_restore(struct migbuf_ram *r);

/**
 * The next command: 1 and *command, or 0 when there is none. It is the same one until its outcome is said.
 * Errors: MIGBUF_E_INVALID.
 * Test: test_ram, everything_that_was_agreed_is_armed_before_migrate; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_next(struct migbuf_ram *r, struct migbuf_ram_command *command);

/**
 * Part of an answer to GET_CAPABILITIES: one entry. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID.
 * Test: test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_found_capability(struct migbuf_ram *r, const char *name, int32_t state);

/**
 * Part of an answer to GET_PARAMETERS: one number, booleans as 0 and 1. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID.
 * Test: test_ram, preempt_where_requests_go_past_the_queue; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_found_parameter(struct migbuf_ram *r, const char *name, uint64_t value);

/**
 * The answer to GET_MIGRATION. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID.
 * Test: test_ram, it_moves_and_everything_is_as_it_was; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_found(struct migbuf_ram *r, const struct migbuf_ram_report *report);

/**
 * The answer to GET_STATUS. Errors: MIGBUF_E_STATE, MIGBUF_E_INVALID.
 * Test: test_ram, a_guest_that_qemu_left_standing_is_let_run; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_status(struct migbuf_ram *r, const char *status, int32_t running);

/**
 * What became of the command under way: MIGBUF_OUTCOME_DONE, MIGBUF_OUTCOME_REFUSED when QEMU answered with an error,
 * MIGBUF_OUTCOME_UNKNOWN in every other case.
 *
 * | returns | when |
 * |---|---|
 * | 0 | the pump goes on |
 * | MIGBUF_E_PEER | QEMU refused it and there is no other way |
 * | MIGBUF_E_UNKNOWN | the outcome is unknown |
 * | MIGBUF_E_STATE | no command was under way, or one was DONE whose answer was not told first |
 * | MIGBUF_E_INVALID | that is no outcome, NULL |
 *
 * Test: test_ram, a_migrate_that_may_have_been_carried_out_is_asked_for; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_answered(struct migbuf_ram *r, int32_t outcome);

/**
 * What became of the last learn, start, apply, cancel or restore: MIGBUF_OUTCOME_DONE, MIGBUF_OUTCOME_REFUSED or
 * MIGBUF_OUTCOME_UNKNOWN; 0 while commands are left to send. Where the migration itself stands says migbuf_ram_info. NULL
 * gives MIGBUF_E_INVALID.
 * Test: test_ram, a_host_may_decide_within_what_was_agreed; test_ram, one_by_one_where_qemu_refuses_one
 */
MIGBUF_API int migbuf_ram_outcome(const struct migbuf_ram *r);

/**
 * Where it stands. Errors: MIGBUF_E_STRUCT, MIGBUF_E_INVALID.
 * Test: test_ram, what_the_guest_has_lost; test_ram, calls_out_of_place_change_nothing
 */
MIGBUF_API int migbuf_ram_info(const struct migbuf_ram *r, struct migbuf_ram_info *info);

/**
 * What the memory phase tells the history. It fills outcome, phase, why, post_copy, ram_ms, downtime_ms, set_bytes,
 * dirty_bytes_per_s, encoding_ppm, link_bytes_per_s, throttle_percent, limit_ms, rounds, ram_bytes, sent_bytes. The other
 * fields stay as they are. Errors: MIGBUF_E_STATE before it is over, MIGBUF_E_INVALID.
 * Test: test_ram, the_attempt_is_told_to_the_history
 */
MIGBUF_API int migbuf_ram_attempt(const struct migbuf_ram *r, struct migbuf_attempt *a);

/**
 * All a restarted host needs, as text: the host's own settings, what was agreed, how far it has come. Save when
 * text_revision has changed, before the next command is sent.
 *
 * The text is printable ASCII, at most 8 KiB, with version and checksum. As with migbuf_disk_save *length is set also when
 * capacity was too small; MIGBUF_E_TOO_BIG then. Errors: MIGBUF_E_INVALID.
 * Test: test_ram, texts_are_checked; test_ram, another_process_goes_on
 */
MIGBUF_API int migbuf_ram_save(const struct migbuf_ram *r, char *text, size_t capacity, size_t *length);

/**
 * A machine from a saved text. Pump first: it asks both sides. Then info tells where the migration stands. It goes on with
 * looks, or may be cancelled. One that had not begun is IDLE: start again, or restore.
 *
 * | error | when |
 * |---|---|
 * | MIGBUF_E_PROTOCOL | the text was cut or edited, or is of another version |
 * | MIGBUF_E_TOO_BIG | it is longer than 8 KiB |
 * | MIGBUF_E_NOMEM | no memory |
 * | MIGBUF_E_INVALID | NULL |
 *
 * Test: test_ram, texts_are_checked; test_ram, another_process_goes_on
 */
MIGBUF_API int migbuf_ram_load(const char *text, size_t length, const struct migbuf_allocator *allocator,
                               struct migbuf_ram **out);

#ifdef __cplusplus
}
#endif
#endif
